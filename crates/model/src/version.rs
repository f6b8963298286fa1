//! Product versions and ranges of them.
//!
//! Products do not all number by semantic versioning: PostgreSQL says `15.18`. A version here is one to three numbers,
//! then what semantic versioning allows; missing numbers count as zero when versions are compared.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// A product's version; shown as the product writes it, ordered by semantic versioning's rules.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Version {
    ordered: semver::Version,
    text: String,
}

/// Why a text is not a version or a range of versions.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` is not {kind}")]
pub struct VersionError {
    text: String,
    kind: &'static str,
}

impl Version {
    /// The first number.
    pub fn major(&self) -> u64 {
        self.ordered.major
    }

    /// Whether the first `count` numbers of both are the same; more than three are never looked at.
    pub fn begins_as(&self, other: &Self, count: u32) -> bool {
        let numbers = |version: &Self| [version.ordered.major, version.ordered.minor, version.ordered.patch];
        let count = usize::try_from(count).unwrap_or(usize::MAX);
        numbers(self).iter().zip(numbers(other)).take(count).all(|(own, others)| *own == others)
    }
}

impl FromStr for Version {
    type Err = VersionError;

    fn from_str(text: &str) -> Result<Self, VersionError> {
        let wrong = || VersionError { text: text.chars().take(80).collect(), kind: "a version such as `15.18`" };
        let end = text.find(['-', '+']).unwrap_or(text.len());
        let (numbers, rest) = text.split_at(end);
        let mut padded = numbers.to_owned();
        for _ in numbers.split('.').count()..3 {
            padded.push_str(".0");
        }
        let ordered = semver::Version::parse(&(padded + rest)).map_err(|_| wrong())?;
        Ok(Self { ordered, text: text.to_owned() })
    }
}

impl TryFrom<String> for Version {
    type Error = VersionError;

    fn try_from(text: String) -> Result<Self, VersionError> {
        text.parse()
    }
}

impl From<Version> for String {
    fn from(version: Version) -> Self {
        version.text
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.text)
    }
}

impl fmt::Debug for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// Which versions will do: comparisons joined by commas, as in `>=15, <18`. A bare `15` means any 15.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct VersionRange {
    range: semver::VersionReq,
    text: String,
}

impl VersionRange {
    /// Every version.
    pub fn any() -> Self {
        Self { range: semver::VersionReq::STAR, text: "*".to_owned() }
    }

    /// Whether it is [`VersionRange::any`].
    pub fn is_any(&self) -> bool {
        self.range.comparators.is_empty()
    }

    /// Whether `version` will do. A version that is not finished (`17.0-rc.1`) is only in a range that names one of the
    /// same number.
    pub fn contains(&self, version: &Version) -> bool {
        self.range.matches(&version.ordered)
    }
}

impl FromStr for VersionRange {
    type Err = VersionError;

    fn from_str(text: &str) -> Result<Self, VersionError> {
        let range = semver::VersionReq::parse(text).map_err(|_| VersionError {
            text: text.chars().take(80).collect(),
            kind: "a version range such as `>=15, <18`",
        })?;
        Ok(Self { range, text: text.to_owned() })
    }
}

impl TryFrom<String> for VersionRange {
    type Error = VersionError;

    fn try_from(text: String) -> Result<Self, VersionError> {
        text.parse()
    }
}

impl From<VersionRange> for String {
    fn from(range: VersionRange) -> Self {
        range.text
    }
}

impl fmt::Display for VersionRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.text)
    }
}

impl fmt::Debug for VersionRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_ordered_as_numbers() {
        let mut versions: Vec<Version> = ["15.18", "7.0.15", "15.9", "16"].map(|v| v.parse().unwrap()).into();
        versions.sort();
        assert_eq!(format!("{versions:?}"), "[7.0.15, 15.9, 15.18, 16]");
        assert!("fifteen".parse::<Version>().is_err());
    }

    #[test]
    fn ranges() {
        for (range, version, inside) in [
            (">=15, <18", "15.18", true),
            (">=15, <18", "18.0", false),
            ("15", "15.18", true),
            ("*", "0.0.1", true),
            (">=16", "15.18", false),
        ] {
            let contains = range.parse::<VersionRange>().unwrap().contains(&version.parse().unwrap());
            assert_eq!(contains, inside, "{range} {version}");
        }
        assert!(">=x".parse::<VersionRange>().is_err());
    }
}
