//! What is said of a level: how often a service was away, what is left of its budget, how fast that burns.

use std::time::Duration;

use super::micros;

/// How often a service was away.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Outages {
    /// For how long it was seen and counted.
    pub measured: Duration,
    /// How often.
    pub times: u32,
    /// For how long in all.
    pub away: Duration,
}

/// How a service stands with one of its objectives.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Standing {
    /// How much of the time was bad.
    pub failed: Duration,
    /// How much of it may be, in microseconds.
    pub budget: i64,
    /// For how long it was seen and counted.
    pub measured: Duration,
    /// Of how much nobody knows.
    pub unseen: Duration,
    /// How much is not counted.
    pub excluded: Duration,
    /// How fast the budget burns.
    pub burns: [Burn; 3],
}

impl Standing {
    /// What is left of the budget, in millionths of it; less than nothing if it is overdrawn.
    pub fn left(&self) -> i64 {
        let used =
            (i128::from(micros(self.failed)) * 1_000_000 + i128::from(self.budget) - 1) / i128::from(self.budget);
        i64::try_from(1_000_000 - used).unwrap_or(i64::MIN)
    }

    /// The same for people: `72%`, `nothing`.
    pub fn left_in_words(&self) -> String {
        match self.left() {
            left @ 1.. => format!("{}%", left / 10_000),
            _ => "nothing".to_owned(),
        }
    }

    /// What share of the measured time was good, in millionths, rounded down.
    pub fn reached(&self) -> u32 {
        let measured = i128::from(micros(self.measured)).max(1);
        let bad = (i128::from(micros(self.failed)) * 1_000_000).div_euclid(measured);
        let bad = bad + i128::from((i128::from(micros(self.failed)) * 1_000_000).rem_euclid(measured) > 0);
        u32::try_from((1_000_000 - bad).max(0)).unwrap_or(0)
    }

    /// The most urgent pair of windows in both of which it burns too fast.
    pub fn burns(&self) -> Option<&Burn> {
        self.burns.iter().find(|burn| burn.is_too_fast())
    }
}

/// Two windows and the rate at which the budget may burn in them: a long one that says that it matters, and a short one
/// that says that it still does (Google, "The Site Reliability Workbook", chapter 5, "Multiwindow, Multi-Burn-Rate
/// Alerts").
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pair {
    /// The long one.
    pub long: Duration,
    /// The short one.
    pub short: Duration,
    /// The highest rate, in tenths: 10 uses the budget up just as its time is over.
    pub tenths: u32,
}

const fn hours(hours: u64) -> Duration {
    Duration::from_secs(hours * 3600)
}

/// The most urgent first.
pub(super) const BURNS: [Pair; 3] = [
    Pair { long: hours(1), short: Duration::from_secs(300), tenths: 144 },
    Pair { long: hours(6), short: Duration::from_secs(1800), tenths: 60 },
    Pair { long: hours(72), short: hours(6), tenths: 10 },
];

/// How fast a budget burns in a pair of windows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Burn {
    /// The windows.
    pub pair: Pair,
    /// In the long one.
    pub long: Rate,
    /// In the short one.
    pub short: Rate,
}

impl Burn {
    /// Faster than it may, in both.
    pub fn is_too_fast(&self) -> bool {
        self.long.tenths >= u64::from(self.pair.tenths) && self.short.tenths >= u64::from(self.pair.tenths)
    }
}

/// How many times as fast as it may a budget burns, in tenths, rounded down.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Rate {
    /// In tenths.
    pub tenths: u64,
}

impl Rate {
    pub(super) fn of(bad: i64, window: i64, allowed: i64) -> Self {
        // bad / window, over allowed / 1,000,000, in tenths
        let tenths = i128::from(bad) * 10_000_000 / (i128::from(window.max(1)) * i128::from(allowed.max(1)));
        Self { tenths: u64::try_from(tenths).unwrap_or(0) }
    }

    /// For people: `14.4`.
    pub fn in_words(self) -> String {
        match self.tenths {
            tenths @ 0..1000 if tenths % 10 != 0 => format!("{}.{}", tenths / 10, tenths % 10),
            tenths => (tenths / 10).to_string(),
        }
    }
}
