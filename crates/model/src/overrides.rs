//! What a person says with an override, as types: its id, and until when it stands.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use jiff::ToSpan;
use jiff::civil::Date;
use serde::{Deserialize, Serialize};

use crate::month::Zone;
use crate::time::{Span, Timestamp};

/// Which override: `override-3`. The number is never used twice within a journal.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct OverrideId(pub u32);

/// Why a text is no id of an override.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is no override: write its id, as in `override-3`; `ostler overrides` lists them")]
pub struct OverrideIdError(String);

impl FromStr for OverrideId {
    type Err = OverrideIdError;

    fn from_str(text: &str) -> Result<Self, OverrideIdError> {
        let wrong = || OverrideIdError(text.chars().take(80).collect());
        let digits = text.strip_prefix("override-").ok_or_else(wrong)?;
        let is_plain = digits.bytes().all(|byte| byte.is_ascii_digit()) && !digits.starts_with('0');
        digits.parse().ok().filter(|_| is_plain).map(Self).ok_or_else(wrong)
    }
}

impl TryFrom<String> for OverrideId {
    type Error = OverrideIdError;

    fn try_from(text: String) -> Result<Self, OverrideIdError> {
        text.parse()
    }
}

impl From<OverrideId> for String {
    fn from(id: OverrideId) -> Self {
        id.to_string()
    }
}

impl fmt::Display for OverrideId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&format!("override-{}", self.0))
    }
}

impl fmt::Debug for OverrideId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Until when, as people say it: `2026-12-31` (to the end of that day), `2026-12-31T18:00:00Z`, or `2h` from now on.
#[derive(Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Until {
    /// The end of a day, by the estate's clock.
    Day(Date),
    /// A moment.
    Moment(Timestamp),
    /// So long from when it is said.
    Within(Span),
}

/// Why a text is no end.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is no end: write a day as in `2026-12-31`, a moment as in `2026-12-31T18:00:00Z`, or a time as in `2h`")]
pub struct UntilError(String);

impl Until {
    /// When that is, said at `now` where clocks show the time of `zone`.
    pub fn at(self, now: Timestamp, zone: &Zone) -> Timestamp {
        match self {
            Self::Day(day) => day.checked_add(1.day()).map_or(Timestamp(i64::MAX), |next| zone.begins(next)),
            Self::Moment(at) => at,
            Self::Within(length) => now + length.get().min(Duration::from_secs(1 << 40)),
        }
    }
}

impl FromStr for Until {
    type Err = UntilError;

    fn from_str(text: &str) -> Result<Self, UntilError> {
        let wrong = || UntilError(text.chars().take(80).collect());
        if let Ok(length) = text.parse() {
            return Ok(Self::Within(length));
        }
        if text.len() == "2026-12-31".len() {
            return text.parse().map(Self::Day).map_err(|_| wrong());
        }
        Timestamp::parse(text).map(Self::Moment).ok_or_else(wrong)
    }
}

impl TryFrom<String> for Until {
    type Error = UntilError;

    fn try_from(text: String) -> Result<Self, UntilError> {
        text.parse()
    }
}

impl From<Until> for String {
    fn from(until: Until) -> Self {
        until.to_string()
    }
}

impl fmt::Display for Until {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Day(day) => write!(f, "{day}"),
            Self::Moment(at) => write!(f, "{at}"),
            Self::Within(length) => write!(f, "{length}"),
        }
    }
}

impl fmt::Debug for Until {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_read_back_and_nothing_else_is_one() {
        let id = OverrideId(3);
        assert_eq!(id.to_string(), "override-3");
        assert_eq!("override-3".parse(), Ok(id));
        assert_eq!(serde_json::from_str::<OverrideId>(&serde_json::to_string(&id).unwrap()).unwrap(), id);
        for wrong in ["", "3", "override-", "override-03", "override-0", "override--1", "override-99999999999", "web-1"]
        {
            assert!(wrong.parse::<OverrideId>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_day_ends_where_the_estate_is() {
        let now = Timestamp::parse("2026-11-30T16:00:00Z").unwrap();
        let berlin: Zone = "Europe/Berlin".parse().unwrap();
        let shown = |text: &str, zone: &Zone| text.parse::<Until>().unwrap().at(now, zone).to_string();
        for (text, zone, at) in [
            ("2026-12-31", &Zone::default(), "2027-01-01T00:00:00Z"),
            ("2026-12-31", &berlin, "2026-12-31T23:00:00Z"),
            ("2027-03-28", &berlin, "2027-03-28T22:00:00Z"), // clocks are put forward on that day
            ("2026-12-31T18:00:00+01:00", &berlin, "2026-12-31T17:00:00Z"),
            ("2h 30m", &berlin, "2026-11-30T18:30:00Z"),
        ] {
            assert_eq!(shown(text, zone), at, "{text} in {zone}");
            let until: Until = text.parse().unwrap();
            assert_eq!(until.to_string().parse(), Ok(until), "{text}");
        }
        for wrong in ["", "tomorrow", "2026-02-30", "2026-13-01", "31.12.2026", "2026-12", "-2h"] {
            assert!(wrong.parse::<Until>().is_err(), "{wrong}");
        }
        let never = Until::Day(Date::MAX);
        assert_eq!(never.at(now, &berlin), Timestamp(i64::MAX), "the last day of all calendars has no end");
    }
}
