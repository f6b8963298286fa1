//! How often something may be started again: token buckets and growing pauses. Pure: the time is an argument.
//!
//! Invariant: within any time `t` a bucket gives at most `burst + t / refill` tokens, and an empty one gives again
//! after at most one `refill`.

use std::time::{Duration, Instant};

use crate::protocol::Grant;

/// A token bucket.
#[derive(Clone, Debug)]
pub struct Bucket {
    grant: Grant,
    tokens: u32,
    /// Up to when refills have been counted.
    counted: Instant,
}

impl Bucket {
    /// A full bucket. A refill time of 0 counts as 1 ms: nothing may be restarted without any bound.
    pub fn new(grant: Grant, now: Instant) -> Self {
        Self { grant, tokens: grant.burst, counted: now }
    }

    /// What is left in it, for another image of this process.
    pub(crate) fn left(&mut self, now: Instant) -> (Grant, u32) {
        self.refill(now);
        (self.grant, self.tokens)
    }

    /// A bucket of which so much is left.
    pub(crate) fn with(grant: Grant, tokens: u32, now: Instant) -> Self {
        Self { grant, tokens: tokens.min(grant.burst), counted: now }
    }

    /// Whether a token is there.
    pub fn has(&mut self, now: Instant) -> bool {
        self.refill(now);
        self.tokens > 0
    }

    /// Takes a token if one is there.
    pub fn take(&mut self, now: Instant) -> bool {
        let has = self.has(now);
        if has {
            self.tokens -= 1;
        }
        has
    }

    /// Whether nothing was taken for so long that it is full again.
    pub fn is_full(&mut self, now: Instant) -> bool {
        self.refill(now);
        self.tokens == self.grant.burst
    }

    /// Another grant: a full bucket of it. The same grant again changes nothing, so that repeating an order does not
    /// give a crash loop new fuel.
    pub fn replace(&mut self, grant: Grant, now: Instant) {
        if grant != self.grant {
            *self = Self::new(grant, now);
        }
    }

    fn refill(&mut self, now: Instant) {
        let refill_ms = self.grant.refill_ms.max(1);
        let elapsed = now.saturating_duration_since(self.counted);
        let refills = u64::try_from(elapsed.as_millis()).unwrap_or(u64::MAX) / refill_ms;
        let missing = self.grant.burst - self.tokens;
        if refills >= u64::from(missing) {
            self.tokens = self.grant.burst;
            self.counted = now; // time does not accumulate in a full bucket
        } else {
            self.tokens += u32::try_from(refills).expect("fewer than `missing`, which is a u32");
            self.counted += Duration::from_millis(refills.saturating_mul(refill_ms));
        }
    }
}

/// For what must always come back: at once while the bucket has tokens, then after pauses that double.
#[derive(Clone, Debug)]
pub struct Persistence {
    bucket: Bucket,
    pause: Duration,
    pause_min: Duration,
    pause_max: Duration,
}

impl Persistence {
    /// The first pause is `pause_min`, no pause is longer than `pause_max`.
    pub fn new(grant: Grant, pause_min: Duration, pause_max: Duration, now: Instant) -> Self {
        Self { bucket: Bucket::new(grant, now), pause: pause_min, pause_min, pause_max }
    }

    /// How long to wait before the next start: zero for "at once".
    pub fn next(&mut self, now: Instant) -> Duration {
        if self.bucket.is_full(now) {
            self.pause = self.pause_min; // it has been quiet: a new trouble begins from the start
        }
        if self.bucket.take(now) {
            return Duration::ZERO;
        }
        let pause = self.pause;
        self.pause = pause.saturating_mul(2).min(self.pause_max);
        pause
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_burst_of_nothing_gives_nothing() {
        let start = Instant::now();
        let mut bucket = Bucket::new(Grant { burst: 0, refill_ms: 1 }, start);
        assert!(!bucket.take(start + Duration::from_secs(3600)));
    }

    #[test]
    fn the_same_grant_again_gives_no_new_tokens() {
        let start = Instant::now();
        let grant = Grant { burst: 1, refill_ms: 1000 };
        let mut bucket = Bucket::new(grant, start);
        assert!(bucket.take(start));
        bucket.replace(grant, start);
        assert!(!bucket.take(start));
        bucket.replace(Grant { burst: 2, ..grant }, start);
        assert!(bucket.take(start));
    }

    #[test]
    fn pauses_double_up_to_their_bound_and_begin_again_after_quiet() {
        let start = Instant::now();
        let second = Duration::from_secs(1);
        let mut persistence = Persistence::new(Grant { burst: 1, refill_ms: 3_600_000 }, second, 4 * second, start);
        let pauses: Vec<u64> = (0..5).map(|_| persistence.next(start).as_secs()).collect();
        assert_eq!(pauses, [0, 1, 2, 4, 4]);
        let later = start + Duration::from_secs(3600);
        assert_eq!([persistence.next(later).as_secs(), persistence.next(later).as_secs()], [0, 1]);
    }

    proptest! {
        #[test]
        fn never_more_than_burst_and_refills(
            burst in 0u32..20, refill_ms in 0u64..50, steps in proptest::collection::vec(0u64..40, 1..200),
        ) {
            let start = Instant::now();
            let mut bucket = Bucket::new(Grant { burst, refill_ms }, start);
            let mut now = start;
            let mut taken: Vec<Instant> = Vec::new();
            for step in steps {
                now += Duration::from_millis(step);
                if bucket.take(now) {
                    taken.push(now);
                }
            }
            for (i, first) in taken.iter().enumerate() {
                for (j, last) in taken.iter().enumerate().skip(i) {
                    let window = u64::try_from(last.duration_since(*first).as_millis()).unwrap();
                    // One more refill can fall into the window when it began just before it.
                    let most = u64::from(burst) + window / refill_ms.max(1) + 1;
                    prop_assert!(u64::try_from(j - i + 1).unwrap() <= most);
                }
            }
        }

        #[test]
        fn eventually_gives_again(burst in 1u32..20, refill_ms in 0u64..5_000, takes in 0usize..60) {
            let start = Instant::now();
            let mut bucket = Bucket::new(Grant { burst, refill_ms }, start);
            for _ in 0..takes {
                bucket.take(start);
            }
            prop_assert!(bucket.take(start + Duration::from_millis(refill_ms.max(1))));
        }
    }
}
