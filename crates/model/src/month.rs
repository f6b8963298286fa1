//! Months by somebody's calendar: when they begin and end there, and how long they last.
//!
//! Invariant: months follow each other without a gap. One in which clocks are put forward is an hour shorter.

use std::fmt;
use std::str::FromStr;

use jiff::ToSpan;
use jiff::civil::{Date, Time};
use jiff::tz::TimeZone;
use serde::{Deserialize, Serialize};

use crate::time::Timestamp;

/// A time zone by its name in the IANA database: `Europe/Berlin`. UTC if nothing is said.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Zone(TimeZone);

impl Default for Zone {
    fn default() -> Self {
        Self(TimeZone::UTC)
    }
}

impl Zone {
    /// The first moment of the day there.
    pub(crate) fn begins(&self, day: Date) -> Timestamp {
        // Where clocks are put forward over midnight, the day begins an hour later.
        let first = self.0.to_timestamp(day.to_datetime(Time::midnight())).map(|time| time.as_microsecond());
        Timestamp(first.unwrap_or(if day.year() < 0 { i64::MIN } else { i64::MAX }))
    }
}

/// Why a text is no time zone.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is no time zone: write its name, as in `Europe/Berlin` or `UTC`")]
pub struct ZoneError(String);

impl FromStr for Zone {
    type Err = ZoneError;

    fn from_str(text: &str) -> Result<Self, ZoneError> {
        TimeZone::get(text).map(Self).map_err(|_| ZoneError(text.chars().take(80).collect()))
    }
}

impl TryFrom<String> for Zone {
    type Error = ZoneError;

    fn try_from(text: String) -> Result<Self, ZoneError> {
        text.parse()
    }
}

impl From<Zone> for String {
    fn from(zone: Zone) -> Self {
        zone.to_string()
    }
}

impl fmt::Display for Zone {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0.iana_name().unwrap_or("UTC"))
    }
}

impl fmt::Debug for Zone {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// A month of a year: `2026-11`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Month(Date);

/// Why a text is no month.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is no month: write year and month, as in `2026-11`")]
pub struct MonthError(String);

impl Month {
    /// The month that it is at `at` in `zone`.
    pub fn at(at: Timestamp, zone: &Zone) -> Self {
        let at = jiff::Timestamp::from_microsecond(at.0).unwrap_or_default();
        Self(zone.0.to_datetime(at).date().first_of_month())
    }

    /// Its first moment in `zone`, and the first one after it.
    pub fn bounds(self, zone: &Zone) -> (Timestamp, Timestamp) {
        (self.begins(zone), self.next().begins(zone))
    }

    /// The one after it; itself at the end of all calendars.
    pub fn next(self) -> Self {
        self.0.checked_add(1.month()).map_or(self, Self)
    }

    /// The one before it; `None` at the beginning of all calendars.
    pub fn before(self) -> Option<Self> {
        self.0.checked_sub(1.month()).ok().map(Self)
    }

    fn begins(self, zone: &Zone) -> Timestamp {
        zone.begins(self.0)
    }
}

impl FromStr for Month {
    type Err = MonthError;

    fn from_str(text: &str) -> Result<Self, MonthError> {
        let wrong = || MonthError(text.chars().take(40).collect());
        let (year, month) = text.split_once('-').filter(|_| text.len() == 7).ok_or_else(wrong)?;
        let digits = |part: &str| part.bytes().all(|byte| byte.is_ascii_digit());
        if !digits(year) || !digits(month) {
            return Err(wrong());
        }
        let (year, month) = (year.parse().map_err(|_| wrong())?, month.parse().map_err(|_| wrong())?);
        Date::new(year, month, 1).map(Self).map_err(|_| wrong())
    }
}

impl TryFrom<String> for Month {
    type Error = MonthError;

    fn try_from(text: String) -> Result<Self, MonthError> {
        text.parse()
    }
}

impl From<Month> for String {
    fn from(month: Month) -> Self {
        month.to_string()
    }
}

impl fmt::Display for Month {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:04}-{:02}", self.0.year(), self.0.month())
    }
}

impl fmt::Debug for Month {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn months_are_as_long_as_the_calendar_has_it() {
        let hours = |month: &str, zone: &str| {
            let (from, until) = month.parse::<Month>().unwrap().bounds(&zone.parse().unwrap());
            until.since(from).as_secs() / 3600
        };
        assert_eq!(hours("2026-11", "UTC"), 720);
        assert_eq!(hours("2026-02", "UTC"), 672);
        assert_eq!(hours("2028-02", "UTC"), 696, "a leap day");
        assert_eq!(hours("2026-03", "Europe/Berlin"), 743, "clocks are put forward");
        assert_eq!(hours("2026-10", "Europe/Berlin"), 745, "clocks are put back");
    }

    #[test]
    fn a_moment_is_in_the_month_of_the_place() {
        let at = Timestamp::parse("2026-10-31T23:30:00Z").unwrap();
        assert_eq!(Month::at(at, &Zone::default()).to_string(), "2026-10");
        let berlin: Zone = "Europe/Berlin".parse().unwrap();
        let november = Month::at(at, &berlin);
        assert_eq!(november.to_string(), "2026-11");
        assert_eq!(november.bounds(&berlin).0.to_string(), "2026-10-31T23:00:00Z");
        assert_eq!("2026-12".parse::<Month>().unwrap().next().to_string(), "2027-01");
    }

    #[test]
    fn what_is_no_month_or_zone_is_told() {
        for wrong in ["", "2026", "2026-13", "2026-00", "2026-1", "26-11", "2026-11-01", "2026+11", "-026-11"] {
            assert!(wrong.parse::<Month>().is_err(), "{wrong}");
        }
        assert!("Mars/Olympus".parse::<Zone>().is_err());
        assert_eq!(serde_json::to_string(&Zone::default()).unwrap(), "\"UTC\"");
    }
}
