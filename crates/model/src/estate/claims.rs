//! By which rules a provider counts what was not available, and how a credit for it is claimed.
//!
//! Every rule has a default for terms that do not mention it; [`Counting`] and [`Claims`] say which.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::terms::Percent;
use crate::money::Amount;
use crate::month::{Month, Zone};
use crate::time::{Span, Timestamp};
use crate::window::Window;

/// By which rules it is counted how much of a month something was available.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counting {
    /// By whose calendar a month begins and ends; the estate's own where nothing is said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub zone: Option<Zone>,
    /// Of what the share is taken.
    #[serde(default, skip_serializing_if = "Whole::is_month")]
    pub whole: Whole,
    /// A shorter outage does not count; from this length on all of it does. Nothing is too short where nothing is said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub outage_from: Option<Span>,
    /// Only whole pieces of this length count, as the clock of UTC cuts them; every moment counts where nothing is said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub outage_step: Option<Span>,
    /// Where callers' requests are counted: a time of an outage in which less than this share of them failed does not
    /// count. Where nothing is said, what the probes saw counts alone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failed: Option<Percent>,
    /// When the provider has announced maintenance: an outage in it does not count.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub maintenance: Vec<Window>,
    /// So much of a month at most is not counted because of that; all of it where nothing is said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub maintenance_max: Option<Span>,
}

/// Of what the share is taken that was available.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Whole {
    /// The whole month, also where something was there for a part of it.
    #[default]
    Month,
    /// The part of the month in which it was held.
    Held,
}

/// How a credit is claimed.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Claims {
    /// Until when; 30 days after the month where nothing is said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub within: Option<Within>,
    /// Less than this is not paid, in the estate's currency; the least is where nothing is said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub at_least: Option<Amount>,
    /// All credits of a month together are no more than this share of what the provider bills for it; as much as the
    /// steps say where nothing is said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub at_most: Option<Percent>,
}

/// Within which time after the end of a month a credit for it is to be claimed.
#[derive(Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Within {
    /// Until so long after the month's end.
    Time(Span),
    /// Until the end of the calendar month that comes so many months after it: 1 to 24.
    Months(u8),
}

/// Why a text says no time for a claim.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{0}` is no time for a claim: write days, as in `30d`, or calendar months, as in `1 month` or `2 months` (up to 24)"
)]
pub struct WithinError(String);

/// The longest time for a claim.
const TIME_MAX: Span = Span::seconds(730 * 86_400);
const MONTHS_MAX: u8 = 24;
/// Where the terms do not say: what many give, and few give less.
const WITHIN: Within = Within::Time(Span::seconds(30 * 86_400));

impl Counting {
    /// Whether nothing is said.
    pub fn is_usual(&self) -> bool {
        *self == Self::default()
    }
}

impl Whole {
    fn is_month(&self) -> bool {
        *self == Self::Month
    }
}

impl Claims {
    /// Whether nothing is said.
    pub fn is_usual(&self) -> bool {
        *self == Self::default()
    }

    /// Within which time a credit is to be claimed.
    pub fn within(&self) -> Within {
        self.within.unwrap_or(WITHIN)
    }

    /// The first moment at which it is too late to claim a credit for `month`, by the calendar of `zone`.
    pub fn deadline(&self, month: Month, zone: &Zone) -> Timestamp {
        match self.within() {
            Within::Time(span) => month.bounds(zone).1 + span.get(),
            Within::Months(months) => (0..months).fold(month, |month, _| month.next()).bounds(zone).1,
        }
    }
}

impl FromStr for Within {
    type Err = WithinError;

    fn from_str(text: &str) -> Result<Self, WithinError> {
        let wrong = || WithinError(text.chars().take(80).collect());
        if let Some((count, "month" | "months")) = text.trim().split_once(' ') {
            let months: u8 = count.parse().map_err(|_| wrong())?;
            return if (1..=MONTHS_MAX).contains(&months) { Ok(Self::Months(months)) } else { Err(wrong()) };
        }
        let span: Span = text.parse().map_err(|_| wrong())?;
        if span.get().is_zero() || span > TIME_MAX { Err(wrong()) } else { Ok(Self::Time(span)) }
    }
}

impl TryFrom<String> for Within {
    type Error = WithinError;

    fn try_from(text: String) -> Result<Self, WithinError> {
        text.parse()
    }
}

impl From<Within> for String {
    fn from(within: Within) -> Self {
        within.to_string()
    }
}

impl fmt::Display for Within {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Time(span) => write!(f, "{span}"),
            Self::Months(1) => f.write_str("1 month"),
            Self::Months(months) => write!(f, "{months} months"),
        }
    }
}

impl fmt::Debug for Within {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_deadline_is_a_time_after_the_month_or_the_end_of_another() {
        let claims = |within: &str| Claims { within: Some(within.parse().unwrap()), ..Claims::default() };
        let deadline = |claims: Claims, month: &str, zone: &str| {
            claims.deadline(month.parse().unwrap(), &zone.parse().unwrap()).to_string()
        };
        assert_eq!(deadline(Claims::default(), "2026-11", "UTC"), "2026-12-31T00:00:00Z");
        assert_eq!(deadline(claims("60d"), "2026-11", "UTC"), "2027-01-30T00:00:00Z");
        assert_eq!(deadline(claims("1 month"), "2026-11", "UTC"), "2027-01-01T00:00:00Z");
        assert_eq!(deadline(claims("2 months"), "2026-11", "Europe/Berlin"), "2027-01-31T23:00:00Z");
    }

    #[test]
    fn a_time_for_a_claim_is_read_and_shown() {
        for text in ["30d", "1 month", "2 months", "24 months", "730d"] {
            assert_eq!(text.parse::<Within>().unwrap().to_string(), text);
        }
        for text in ["", "0d", "731d", "0 months", "25 months", "month", "1 year", "-1 months", "soon"] {
            assert!(text.parse::<Within>().is_err(), "{text}");
        }
    }

    #[test]
    fn the_form_in_facts_is_fixed() {
        let counting = Counting {
            zone: Some("Europe/Berlin".parse().unwrap()),
            whole: Whole::Held,
            outage_from: Some(Span::seconds(60)),
            outage_step: Some(Span::seconds(60)),
            failed: Some("10%".parse().unwrap()),
            maintenance: vec!["Sun 02:00 - Sun 04:00".parse().unwrap()],
            maintenance_max: Some(Span::seconds(4 * 3600)),
        };
        let json = r#"{"zone":"Europe/Berlin","whole":"held","outage_from":"1m","outage_step":"1m","failed":"10%","maintenance":["Sun 02:00 - Sun 04:00"],"maintenance_max":"4h"}"#;
        assert_eq!(serde_json::to_string(&counting).unwrap(), json);
        assert_eq!(serde_json::from_str::<Counting>(json).unwrap(), counting);
        let claims = Claims {
            within: Some(Within::Months(2)),
            at_least: Some("1".parse().unwrap()),
            at_most: Some("50%".parse().unwrap()),
        };
        let json = r#"{"within":"2 months","at_least":"1","at_most":"50%"}"#;
        assert_eq!(serde_json::to_string(&claims).unwrap(), json);
        assert_eq!(serde_json::from_str::<Claims>(json).unwrap(), claims);
        assert_eq!(serde_json::to_string(&(Counting::default(), Claims::default())).unwrap(), "[{},{}]");
    }
}
