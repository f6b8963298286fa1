//! How many remedies may begin within a time, over the whole estate: the brake beside the share at once.
//!
//! Invariant: within any minute no more begin than the burst and what a minute refills.

use std::time::Duration;

use ostler_model::time::Timestamp;
use serde::{Deserialize, Serialize};

/// At least so many may begin together, whatever the size of the estate.
const BURST_MIN: u64 = 16;
/// At least so many a minute.
const PER_MINUTE_MIN: u64 = 60;
const MINUTE_US: u64 = 60_000_000;

/// How full it is: a bucket that each remedy fills by one and that time empties.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Brake {
    /// In millionths of a remedy, at `at`.
    level: u64,
    /// When that was so.
    at: Timestamp,
}

/// What is allowed in an estate of some size.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Allowed {
    /// So many together.
    pub burst: u64,
    /// So many more each minute.
    pub per_minute: u64,
}

impl Allowed {
    /// In an estate with so many instances, of which so many may be under repair at once: each one once a minute.
    pub fn of(instances: usize, at_once: usize) -> Self {
        let number = |count: usize| u64::try_from(count).unwrap_or(u64::MAX);
        Self { burst: number(at_once).max(BURST_MIN), per_minute: number(instances).max(PER_MINUTE_MIN) }
    }
}

impl Brake {
    /// From when on one more may begin; `now` if it may.
    pub(crate) fn free_at(self, allowed: Allowed, now: Timestamp) -> Timestamp {
        let level = self.level_at(allowed, now);
        let most = allowed.burst.saturating_sub(1).saturating_mul(1_000_000);
        let over = level.saturating_sub(most);
        now + Duration::from_micros(over.saturating_mul(60).div_ceil(allowed.per_minute))
    }

    /// One more begins.
    pub(crate) fn begin(&mut self, allowed: Allowed, now: Timestamp) {
        self.level = self.level_at(allowed, now).saturating_add(1_000_000);
        self.at = now;
    }

    /// Ostler comes back at `now`: nothing has begun in the future, whatever the clock said then, and would not wear off
    /// until the clock shows that again.
    pub(crate) fn resume(&mut self, now: Timestamp) {
        self.at = self.at.min(now);
    }

    fn level_at(self, allowed: Allowed, now: Timestamp) -> u64 {
        let passed = u64::try_from(now.since(self.at).as_micros()).unwrap_or(u64::MAX);
        // Millionths that are gone: microseconds times remedies a minute, over the microseconds of a minute.
        let gone = u128::from(passed) * u128::from(allowed.per_minute) * 1_000_000 / u128::from(MINUTE_US);
        self.level.saturating_sub(u64::try_from(gone).unwrap_or(u64::MAX))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// However often it is asked: never more within a minute than the burst and a minute's refill.
        #[test]
        fn never_more_than_burst_and_refill(pauses in proptest::collection::vec(0_i64..400_000, 1..600)) {
            let allowed = Allowed::of(100, 20);
            let (mut brake, mut now, mut begun) = (Brake::default(), Timestamp(1_000_000_000), Vec::new());
            for pause in pauses {
                now = Timestamp(now.0 + pause);
                if brake.free_at(allowed, now) <= now {
                    brake.begin(allowed, now);
                    begun.push(now.0);
                }
            }
            for (index, first) in begun.iter().enumerate() {
                let within = begun[index..].iter().filter(|at| **at - first < 60_000_000).count() as u64;
                prop_assert!(within <= allowed.burst + allowed.per_minute, "{within}");
            }
        }

        /// When ostler comes back and the clock was set back meanwhile, nobody waits for it to show the old time again.
        #[test]
        fn after_the_clock_was_set_back_it_is_free_as_soon(taken in 1_u32..200, back in 0_i64..9_000_000_000) {
            let allowed = Allowed::of(10, 2);
            let (mut brake, now) = (Brake::default(), Timestamp(10_000_000_000));
            (0..taken).for_each(|_| brake.begin(allowed, now));
            let (waits, now) = (brake.free_at(allowed, now).since(now), Timestamp(now.0 - back));
            brake.resume(now);
            let free = brake.free_at(allowed, now);
            prop_assert_eq!(free.since(now), waits);
            prop_assert!(brake.free_at(allowed, free) <= free);
        }

        /// Who waits until it is free may begin then.
        #[test]
        fn it_is_free_when_it_says(taken in 1_u32..200, pause in 0_i64..90_000_000) {
            let allowed = Allowed::of(10, 2);
            let (mut brake, now) = (Brake::default(), Timestamp(5_000_000_000));
            (0..taken).for_each(|_| brake.begin(allowed, now));
            let free = brake.free_at(allowed, now);
            prop_assert!(brake.free_at(allowed, free) <= free);
            let later = Timestamp(now.0 + pause);
            prop_assert!(brake.free_at(allowed, later) <= free.max(later));
        }
    }
}
