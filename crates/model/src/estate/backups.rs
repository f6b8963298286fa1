//! `[backups]`: where backups are kept, and for how long.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::osb::SecretSource;
use crate::money::Amount;
use crate::time::{Span, Timestamp};

const HOUR: u64 = 3600;
const DAY: u64 = 24 * HOUR;
/// The region of whoever knows no regions.
const REGION: &str = "us-east-1";
/// A restore of every durable service is proven this often where nothing is said: what makes backups useless (a new
/// version of a client program, a disk that lies) is then found within a week, at the price of one restore in it.
pub const PROVE_EVERY: Span = Span::seconds(7 * DAY);

/// Where backups are kept, and for how long.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Backups {
    /// Where.
    #[serde(default)]
    pub to: Store,
    /// For how long.
    #[serde(default)]
    pub keep: Keep,
    /// What a gigabyte (10^9 bytes) costs there a month, in the estate's currency.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gb_month: Option<Amount>,
}

impl Backups {
    /// Whether nothing is said of them.
    pub fn is_usual(&self) -> bool {
        *self == Self::default()
    }
}

/// A place for backups.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Store {
    /// The folder `backups` of the home.
    #[default]
    Home,
    /// A folder; absolute.
    Folder(PathBuf),
    /// A bucket of something that speaks S3.
    S3(Box<S3>),
}

/// A bucket, and how to get at it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct S3 {
    /// Its name.
    pub bucket: String,
    /// What the names of everything in it begin with, without slashes at its ends; may be empty.
    pub prefix: String,
    /// Where it answers, without a final slash; Amazon's own place for the region if `None`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub endpoint: Option<String>,
    /// The region.
    pub region: String,
    /// Who asks, and how that is proven.
    pub credentials: S3Credentials,
}

impl S3 {
    /// The region that is named to whoever knows none.
    pub fn usual_region() -> String {
        REGION.to_owned()
    }
}

/// An access key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct S3Credentials {
    /// Where its id is found.
    pub key_id: SecretSource,
    /// Where its secret half is found.
    pub secret_key: SecretSource,
}

impl fmt::Display for Store {
    /// As the estate file writes it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Home => f.write_str("the home"),
            Self::Folder(folder) => write!(f, "{}", folder.display()),
            Self::S3(s3) if s3.prefix.is_empty() => write!(f, "s3://{}", s3.bucket),
            Self::S3(s3) => write!(f, "s3://{}/{}", s3.bucket, s3.prefix),
        }
    }
}

/// For how long scheduled backups are kept. The newest one that is good, the newest one whose restore was proven, and
/// one that is being used are kept whatever this says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Keep {
    /// All of them.
    pub all: Span,
    /// The first of each hour.
    pub hourly: Span,
    /// The first of each day (in UTC).
    pub daily: Span,
    /// The first of each week (from Monday, in UTC).
    pub weekly: Span,
}

impl Default for Keep {
    /// About sixty of a service that is backed up every 15 minutes: whatever was noticed within a shift can be taken
    /// back by the minute, within a day by the hour, and what a quarter's closing shows is still there.
    fn default() -> Self {
        Self {
            all: Span::seconds(3 * HOUR),
            hourly: Span::seconds(DAY),
            daily: Span::seconds(14 * DAY),
            weekly: Span::seconds(91 * DAY),
        }
    }
}

impl Keep {
    /// Of backups made at these times, oldest first: whether each is kept at `now`.
    pub fn kept(&self, made: &[Timestamp], now: Timestamp) -> Vec<bool> {
        /// 1970-01-01 was a Thursday.
        const MONDAY_AFTER: u64 = 4 * DAY;
        let tiers = [(self.hourly, HOUR, 0), (self.daily, DAY, 0), (self.weekly, 7 * DAY, MONDAY_AFTER)];
        let period = |at: Timestamp, length: u64, begin: u64| {
            let length = i64::try_from(length).expect("a week is short").saturating_mul(1_000_000);
            let begin = i64::try_from(begin).expect("a week is short").saturating_mul(1_000_000);
            at.0.saturating_sub(begin).div_euclid(length)
        };
        let is_first = |index: usize, length, begin| {
            let earlier = index.checked_sub(1).and_then(|before| made.get(before));
            earlier.is_none_or(|earlier| period(*earlier, length, begin) != period(made[index], length, begin))
        };
        let is_kept = |index: usize, at: Timestamp| {
            let age: Duration = now.since(at);
            let in_tier =
                |(keep, length, begin): &(Span, u64, u64)| age <= keep.get() && is_first(index, *length, *begin);
            age <= self.all.get() || tiers.iter().any(in_tier)
        };
        made.iter().enumerate().map(|(index, at)| is_kept(index, *at)).collect()
    }
}

/// How often the newest backup is restored on the side and looked at.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Prove {
    /// Every week, where backups are made on a schedule.
    #[default]
    Usual,
    /// This often.
    Every(Span),
    /// Only when asked.
    Never,
}

impl Prove {
    /// Whether nothing is said of it.
    pub fn is_usual(&self) -> bool {
        *self == Self::Usual
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINUTE: i64 = 60 * 1_000_000;
    /// Monday, 2026-11-23.
    const START: i64 = 1_795_392_000 * 1_000_000;

    fn every(minutes: i64, times: i64) -> Vec<Timestamp> {
        (0..times).map(|n| Timestamp(START + n * minutes * MINUTE)).collect()
    }

    /// What is thinned out at every backup, as the manager does.
    fn thinned(minutes: i64, times: i64, keep: Keep) -> Vec<Timestamp> {
        let mut there: Vec<Timestamp> = Vec::new();
        for at in every(minutes, times) {
            there.push(at);
            let kept = keep.kept(&there, at);
            there = there.iter().zip(kept).filter(|(_, kept)| *kept).map(|(at, _)| *at).collect();
        }
        there
    }

    #[test]
    fn a_year_of_backups_is_a_few() {
        let there = thinned(15, 4 * 24 * 365, Keep::default());
        assert!((55..=65).contains(&there.len()), "{}", there.len());
        let newest = *there.last().unwrap();
        let ages: Vec<u64> = there.iter().map(|at| newest.since(*at).as_secs() / DAY).collect();
        assert!((84..=91).contains(&ages[0]), "{ages:?}");
        // There is one for each of the last 14 days, and for each of the last 13 weeks.
        for day in 1..14 {
            assert!(ages.contains(&day) || ages.contains(&(day - 1)), "{day}: {ages:?}");
        }
    }

    #[test]
    fn the_first_of_each_period_is_the_one_that_stays() {
        let keep = Keep { all: Span::seconds(0), hourly: Span::seconds(DAY), ..Keep::default() };
        let there = thinned(20, 10, keep);
        let minutes: Vec<i64> = there.iter().map(|at| (at.0 - START) / MINUTE).collect();
        assert_eq!(minutes, [0, 60, 120, 180]);
        assert_eq!(Timestamp(START).to_seconds(), "2026-11-23T00:00:00Z", "a Monday");
    }
}
