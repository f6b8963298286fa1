//! What is assumed where owning a service is weighed against buying it: `[own]` for everything, `[service.NAME.own]` for one
//! service. For `ostler own-or-buy`.
//!
//! Invariants: nothing that runs depends on it. Every assumption has a default with where that comes from, so that an answer
//! without a single declared figure is still one that can be argued with.

use std::collections::BTreeMap;
use std::fmt;

use rust_decimal::Decimal;
use serde::{Deserialize, Serialize};

/// What is declared; the rest is as measured, or as [`Assumption::usual`] has it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Own(pub BTreeMap<Assumption, Range>);

impl Own {
    /// Whether nothing is declared.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// How many hours somebody works in a year: what a salary is divided by. 52 weeks of 38 hours, without holidays and days of
/// illness; the OECD counts between 1,300 and 1,800 in its members.
pub const WORK_YEAR_HOURS: u32 = 1_600;

/// In what a figure is counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unit {
    /// In the estate's currency.
    Money,
    /// In percent: written with `%`.
    Percent,
    /// As a number of something.
    Number,
}

macro_rules! assumptions {
    ($($(#[$doc:meta])* $name:ident $key:literal $unit:ident $least:literal $most:literal $usual:expr, $words:literal, $source:literal;)*) => {
        /// Something that is assumed.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(rename_all = "snake_case")]
        pub enum Assumption {
            $($(#[$doc])* $name,)*
        }

        impl Assumption {
            /// All of them, in the order in which they are shown.
            pub const ALL: &'static [Self] = &[$(Self::$name,)*];

            /// As the estate file writes it.
            pub fn as_str(self) -> &'static str {
                match self { $(Self::$name => $key,)* }
            }

            /// In what it is counted.
            pub fn unit(self) -> Unit {
                match self { $(Self::$name => Unit::$unit,)* }
            }

            /// The least and the most that it can be.
            pub fn bounds(self) -> (Decimal, Decimal) {
                match self { $(Self::$name => (Decimal::from($least as i64), Decimal::from($most as i64)),)* }
            }

            /// What is taken where nothing is declared; money in EUR. `None` where something else says it.
            pub fn usual(self) -> Option<Range> {
                let text: Option<&str> = match self { $(Self::$name => $usual,)* };
                text.map(|text| Range::read(text, Unit::Number).expect("the defaults are ranges"))
            }

            /// What it is, for people.
            pub fn in_words(self) -> &'static str {
                match self { $(Self::$name => $words,)* }
            }

            /// Where the default comes from.
            pub fn source(self) -> &'static str {
                match self { $(Self::$name => $source,)* }
            }
        }
    };
}

assumptions! {
    /// How many instances of a plan's size are needed in the first year.
    Instances "instances" Number 1 1_000_000 None,
        "instances of a plan's size that are needed", "`instances` of the service";
    /// By how much that grows a year.
    Growth "growth" Percent -90 200 Some("0..10..20"),
        "by how much that grows a year", "a guess: take your own forecast";
    /// How many gigabytes pass through its endpoint a month, in the first year.
    Traffic "traffic" Number 0 1_000_000_000 Some("0"),
        "gigabytes through its endpoint a month", "nothing was counted for long enough";
    /// What money costs a year.
    Discount "discount" Percent 0 100 Some("4..7..10"),
        "what money costs a year: later costs weigh less", "a guess, about what capital costs companies";
    /// By how much everything but plans and machines gets dearer a year.
    Inflation "inflation" Percent -20 100 Some("1..2..4"),
        "by how much work, power and space get dearer a year", "the European Central Bank aims at 2%";
    /// By how much plans get dearer a year.
    PriceRise "price_rise" Percent -50 100 Some("0..2..5"),
        "by how much plans get dearer a year", "a guess, about as everything else";
    /// What a server costs.
    Purchase "purchase" Money 0 1_000_000_000 Some("2000..4000..8000"),
        "what a server costs", "a guess, for one with two disks in a rack";
    /// After how many years a server is replaced.
    Years "years" Number 1 30 Some("3..5..7"),
        "after how many years a server is replaced", "large operators write servers off over five to six years";
    /// How many instances a server holds.
    Holds "holds" Number 1 10_000 Some("2..4..8"),
        "instances that a server holds", "a guess: it depends on the plan's size";
    /// How many servers are there for those that fail.
    Spare "spare" Number 0 1_000 Some("1"),
        "servers kept for those that fail", "with none, the first broken one is an outage";
    /// What a server draws.
    Watts "watts" Number 0 100_000 Some("100..200..400"),
        "what a server draws, in watts", "a guess, for one with one or two processors";
    /// What a kilowatt hour costs.
    Kwh "kwh" Money 0 1_000 Some("0.15..0.2..0.35"),
        "what a kilowatt hour costs", "a guess, about what companies pay in the European Union (Eurostat)";
    /// How many times its power a server needs with cooling.
    Pue "pue" Number 1 5 Some("1.2..1.5..1.8"),
        "times its power that a server needs with cooling", "Uptime Institute's surveys have 1.5 to 1.6 on average";
    /// What the space for a server costs a month.
    Space "space" Money 0 1_000_000 Some("30..60..120"),
        "what the space for a server costs a month", "a guess, for a unit in somebody's rack with its network";
    /// What licences cost a server and year.
    Licences "licences" Money 0 1_000_000_000 Some("0"),
        "what licences cost a server and year", "the built-in offerings are free software";
    /// What somebody who looks after it costs a year.
    Salary "salary" Money 0 1_000_000_000 Some("60000..80000..110000"),
        "what an administrator costs a year, with everything", "a guess; an hour is the 1,600th part of it";
    /// How many hours it takes to set it up.
    Setup "setup" Number 0 1_000_000 Some("20..40..80"),
        "hours of work to set it up", "a guess: machines, backups, monitoring, a trial restore";
    /// How many hours a month it takes to look after a service that is owned.
    Care "care" Number 0 100_000 Some("4..8..16"),
        "hours of work a month on an owned service", "a guess: backups, alarms, disks, security";
    /// How many hours a month it takes to look after a server.
    CareServer "care_server" Number 0 100_000 Some("0.5..1..2"),
        "hours of work a month on each server", "a guess";
    /// How many hours a month it takes to look after a service that is bought.
    CareBought "care_bought" Number 0 100_000 Some("0.5..1..2"),
        "hours of work a month on a bought service", "a guess: bills, tickets, limits";
    /// How often a service that is owned is upgraded a year.
    Upgrades "upgrades" Number 0 1_000 Some("4..5..6"),
        "upgrades a year of an owned service", "PostgreSQL has four minor versions and a major one a year";
    /// How many hours of work an upgrade is.
    UpgradeHours "upgrade_hours" Number 0 10_000 Some("1..3..8"),
        "hours of work for an upgrade", "a guess: a trial, a backup, an evening";
    /// How often a service that is owned is out a year.
    Outages "outages" Number 0 10_000 Some("1..3..6"),
        "outages a year of an owned service", "a guess, for one machine and people who sleep";
    /// How many hours such an outage lasts.
    Heal "heal" Number 0 8_760 Some("0.5..2..6"),
        "hours until an owned service is back", "a guess, for people who have to be called first";
    /// What share of the time a bought service is there, where its provider neither promises anything nor was measured.
    Available "available" Percent 0 100 Some("99.5..99.9..99.99"),
        "how much of the time a bought service is there", "what large providers promise for databases is 99.9% to 99.99%";
    /// What an hour costs in which the service is out.
    OutageHour "outage_hour" Money 0 1_000_000_000 Some("0"),
        "what an hour of an outage costs", "nobody but you can say, so outages cost nothing here";
}

impl fmt::Display for Assumption {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// What something is at least, most likely, and at most; all the same where it is certain.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Range {
    low: Decimal,
    likely: Decimal,
    high: Decimal,
}

/// Why a text is no range.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RangeError {
    /// It has another form.
    #[error("`{0}` is neither a figure nor a range such as `3..6` or `3..4..6`")]
    Form(String),
    /// A share has no percent sign.
    #[error("`{0}` is a share: write it with a percent sign, as in `4%..10%`")]
    NoPercent(String),
    /// Its parts are not in order.
    #[error("`{0}` does not go from the least by the most likely to the most")]
    Order(String),
}

/// At most so many digits before the point of a figure, and so many behind it.
const DIGITS_MAX: usize = 12;

impl Range {
    /// One that is certain.
    pub fn certain(figure: Decimal) -> Self {
        Self { low: figure, likely: figure, high: figure }
    }

    /// From its three figures; `None` if they are not in order.
    pub fn new(low: Decimal, likely: Decimal, high: Decimal) -> Option<Self> {
        (low <= likely && likely <= high).then_some(Self { low, likely, high })
    }

    /// From `3`, `3..6` (most likely in the middle) or `3..4..6`; shares with percent signs.
    ///
    /// # Errors
    /// If it is none.
    pub fn read(text: &str, unit: Unit) -> Result<Self, RangeError> {
        let quoted = || text.chars().take(80).collect::<String>();
        let parts = text.split("..").map(str::trim).collect::<Vec<_>>();
        let figure = |part: &str| -> Result<Decimal, RangeError> {
            let digits = match (unit, part.strip_suffix('%')) {
                (Unit::Percent, Some(digits)) => digits.trim_end(),
                (Unit::Percent, None) if read_figure(part).is_some() => return Err(RangeError::NoPercent(quoted())),
                (Unit::Money | Unit::Number | Unit::Percent, _) => part,
            };
            read_figure(digits).ok_or_else(|| RangeError::Form(quoted()))
        };
        let (low, likely, high) = match parts.as_slice() {
            [one] => {
                let one = figure(one)?;
                (one, one, one)
            }
            [low, high] => {
                let (low, high) = (figure(low)?, figure(high)?);
                (low, (low + high) / Decimal::TWO, high)
            }
            [low, likely, high] => (figure(low)?, figure(likely)?, figure(high)?),
            _ => return Err(RangeError::Form(quoted())),
        };
        Self::new(low, likely, high).ok_or_else(|| RangeError::Order(quoted()))
    }

    /// What it is at least.
    pub fn low(&self) -> Decimal {
        self.low
    }

    /// What it most likely is.
    pub fn likely(&self) -> Decimal {
        self.likely
    }

    /// What it is at most.
    pub fn high(&self) -> Decimal {
        self.high
    }

    /// Whether it is known exactly.
    pub fn is_certain(&self) -> bool {
        self.low == self.high
    }

    /// The same, each figure changed alike by something that keeps their order.
    #[must_use]
    pub fn map(self, change: impl Fn(Decimal) -> Decimal) -> Self {
        Self { low: change(self.low), likely: change(self.likely), high: change(self.high) }
    }
}

/// A whole or decimal figure, perhaps below nothing.
fn read_figure(text: &str) -> Option<Decimal> {
    let digits = text.strip_prefix('-').unwrap_or(text);
    let (whole, decimals) = digits.split_once('.').unwrap_or((digits, "0"));
    let fits = |part: &str| (1..=DIGITS_MAX).contains(&part.len()) && part.bytes().all(|byte| byte.is_ascii_digit());
    if !fits(whole) || !fits(decimals) {
        return None;
    }
    Decimal::from_str_exact(text).ok().map(|figure| figure.normalize())
}

impl fmt::Display for Range {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_certain() {
            return write!(f, "{}", self.low.normalize());
        }
        write!(f, "{}..{}..{}", self.low.normalize(), self.likely.normalize(), self.high.normalize())
    }
}

impl TryFrom<String> for Range {
    type Error = RangeError;

    fn try_from(text: String) -> Result<Self, RangeError> {
        Self::read(&text, Unit::Number)
    }
}

impl From<Range> for String {
    fn from(range: Range) -> Self {
        range.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_read_and_shown() {
        for (text, unit, shown) in [
            ("3", Unit::Number, "3"),
            ("3..6", Unit::Number, "3..4.5..6"),
            ("3..4..6", Unit::Money, "3..4..6"),
            (" 0.50 .. 2 ", Unit::Number, "0.5..1.25..2"),
            ("4%..10%", Unit::Percent, "4..7..10"),
            ("-10 %..0%..20%", Unit::Percent, "-10..0..20"),
            ("5..5", Unit::Number, "5"),
        ] {
            let range = Range::read(text, unit).unwrap();
            assert_eq!(range.to_string(), shown, "{text}");
            assert_eq!(Range::try_from(shown.to_owned()).unwrap(), range);
        }
        for wrong in ["", "..", "3..", "..6", "3...6", "1..2..3..4", "3-6", "1e3", "+1", "4%", "NaN", "1.", "0x10"] {
            assert!(matches!(Range::read(wrong, Unit::Number), Err(RangeError::Form(_))), "{wrong}");
        }
        assert!(matches!(Range::read("6..3", Unit::Number), Err(RangeError::Order(_))));
        assert!(matches!(Range::read("3..7..6", Unit::Number), Err(RangeError::Order(_))));
        assert!(matches!(Range::read("4..10", Unit::Percent), Err(RangeError::NoPercent(_))));
        assert!(Range::read("9999999999999", Unit::Money).is_err());
    }

    #[test]
    fn defaults_are_within_their_bounds_and_say_where_they_come_from() {
        for assumption in Assumption::ALL {
            assert!(!assumption.source().is_empty() && !assumption.in_words().is_empty(), "{assumption}");
            let Some(usual) = assumption.usual() else { continue };
            let (least, most) = assumption.bounds();
            assert!(least <= usual.low() && usual.high() <= most, "{assumption}");
        }
    }
}
