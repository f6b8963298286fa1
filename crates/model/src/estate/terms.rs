//! What a provider promises, and what it pays back when it does not keep its promise.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::claims::{Claims, Counting};

/// A provider's terms.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Terms {
    /// What share of the time a service is promised to be available; never 0%.
    pub availability: Option<Percent>,
    /// What is paid back, from the highest `below` down. Each `below` stands once and is more than 0%, and the less
    /// was available, the more is paid back, or as much.
    pub credits: Vec<Credit>,
    /// By which rules it is counted what was available.
    #[serde(default, skip_serializing_if = "Counting::is_usual")]
    pub counting: Counting,
    /// How a credit is claimed.
    #[serde(default, skip_serializing_if = "Claims::is_usual")]
    pub claims: Claims,
}

impl Terms {
    /// What share of the price is paid back for a time of which the share `availability` was available: the largest
    /// refund whose `below` is above it, and 0% if there is none.
    pub fn refund(&self, availability: Percent) -> Percent {
        let due = self.credits.iter().filter(|credit| availability < credit.below);
        due.map(|credit| credit.refund).max().unwrap_or(Percent::ZERO)
    }
}

/// What is paid back if less was available than a bound.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Credit {
    /// It is due if less than this share was available.
    pub below: Percent,
    /// What share of the price is paid back.
    pub refund: Percent,
}

/// A share from 0% to 100%, in whole millionths, which are percents with four decimals. Never a binary fraction: what is
/// owed depends on which side of `99.95%` a figure lies.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Percent(u32);

/// Millionths in one percent.
const ONE: u32 = 10_000;
/// Decimals of a percent that millionths can hold.
const DECIMALS: usize = 4;

impl Percent {
    /// 0%.
    pub const ZERO: Self = Self(0);
    /// 100%.
    pub const WHOLE: Self = Self(100 * ONE);

    /// From millionths of the whole; `None` above 1,000,000.
    pub const fn from_millionths(millionths: u32) -> Option<Self> {
        if millionths <= Self::WHOLE.0 { Some(Self(millionths)) } else { None }
    }

    /// In millionths of the whole, 0 to 1,000,000.
    pub const fn millionths(self) -> u32 {
        self.0
    }
}

/// Why a text is not a share.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PercentError {
    /// It has another form.
    #[error("`{0}` is not a share: write a number with a percent sign and at most 4 decimals, as in `99.95%`")]
    Form(String),
    /// It is above 100%.
    #[error("`{0}` is more than the whole, which is 100%")]
    AboveWhole(String),
}

impl FromStr for Percent {
    type Err = PercentError;

    fn from_str(text: &str) -> Result<Self, PercentError> {
        let quoted = || text.chars().take(80).collect();
        let form = || PercentError::Form(quoted());
        let number = text.trim().strip_suffix('%').ok_or_else(form)?.trim_end();
        let (whole, decimals) = number.split_once('.').unwrap_or((number, "0"));
        let are_digits = |digits: &str| !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit());
        if !are_digits(whole) || !are_digits(decimals) || decimals.len() > DECIMALS {
            return Err(form());
        }
        let above = || PercentError::AboveWhole(quoted());
        let whole: u32 = whole.parse().map_err(|_| above())?; // digits: only their number can be wrong
        let decimals: u32 = format!("{decimals:0<DECIMALS$}").parse().expect("four digits are a number");
        let millionths = whole.checked_mul(ONE).and_then(|millionths| millionths.checked_add(decimals));
        millionths.and_then(Self::from_millionths).ok_or_else(above)
    }
}

impl TryFrom<String> for Percent {
    type Error = PercentError;

    fn try_from(text: String) -> Result<Self, PercentError> {
        text.parse()
    }
}

impl From<Percent> for String {
    fn from(percent: Percent) -> Self {
        percent.to_string()
    }
}

impl fmt::Display for Percent {
    /// As the estate file writes it, without needless decimals: `99.95%`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let decimals = format!("{:0DECIMALS$}", self.0 % ONE);
        match decimals.trim_end_matches('0') {
            "" => write!(f, "{}%", self.0 / ONE),
            decimals => write!(f, "{}.{decimals}%", self.0 / ONE),
        }
    }
}

impl fmt::Debug for Percent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn percent(text: &str) -> Percent {
        text.parse().unwrap()
    }

    #[test]
    fn shares_are_read_exactly() {
        for (text, millionths) in [
            ("0%", 0),
            ("0.0001%", 1),
            ("0.1%", 1_000),
            ("10%", 100_000),
            ("99.95%", 999_500),
            ("99.9999%", 999_999),
            (" 099.50 % ", 995_000),
            ("100.0000%", 1_000_000),
        ] {
            assert_eq!(percent(text).millionths(), millionths, "{text}");
        }
        for text in ["", "%", "99.95", "99,95%", ".5%", "5.%", "1e1%", "+5%", "-5%", "9 9%", "99.99999%", "NaN%", "٩%"]
        {
            assert_eq!(text.parse::<Percent>(), Err(PercentError::Form(text.to_owned())));
        }
        for text in ["100.0001%", "101%", "4294967296%", "99999999999999999999%"] {
            assert_eq!(text.parse::<Percent>(), Err(PercentError::AboveWhole(text.to_owned())));
        }
    }

    #[test]
    fn shares_are_shown_shortly() {
        for text in ["0%", "0.0001%", "0.05%", "10%", "99.95%", "100%"] {
            assert_eq!(percent(text).to_string(), text);
        }
    }

    #[test]
    fn the_less_was_available_the_more_is_paid_back() {
        let credit = |below, refund| Credit { below: percent(below), refund: percent(refund) };
        let terms = Terms {
            availability: Some(percent("99.95%")),
            credits: vec![credit("99.95%", "10%"), credit("99%", "25%")],
            ..Terms::default()
        };
        for (available, refund) in
            [("100%", "0%"), ("99.95%", "0%"), ("99.9499%", "10%"), ("99%", "10%"), ("98.9999%", "25%"), ("0%", "25%")]
        {
            assert_eq!(terms.refund(percent(available)), percent(refund), "{available}");
        }
        assert_eq!(Terms::default().refund(Percent::ZERO), Percent::ZERO);
    }

    #[test]
    fn the_form_in_facts_is_fixed() {
        let credits = vec![Credit { below: percent("99%"), refund: percent("10%") }];
        let terms = Terms { availability: Some(percent("99.95%")), credits, ..Terms::default() };
        let json = r#"{"availability":"99.95%","credits":[{"below":"99%","refund":"10%"}]}"#;
        assert_eq!(serde_json::to_string(&terms).unwrap(), json);
        assert_eq!(serde_json::from_str::<Terms>(json).unwrap(), terms);
        assert!(serde_json::from_str::<Terms>(&json.replace("10%", "110%")).is_err());
    }

    proptest! {
        #[test]
        fn what_is_shown_is_read_as_the_same(millionths in 0..=1_000_000_u32) {
            let share = Percent::from_millionths(millionths).unwrap();
            prop_assert_eq!(share.to_string().parse::<Percent>(), Ok(share));
        }

        #[test]
        fn no_text_makes_it_panic(text in "[0-9.%+ -]{0,30}") {
            if let Ok(share) = text.parse::<Percent>() {
                prop_assert_eq!(share.to_string().parse::<Percent>(), Ok(share));
            }
        }
    }
}
