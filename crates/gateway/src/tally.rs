//! How often a service was asked, how often in vain, and how long answers took. Pure.
//!
//! Invariant: everything that is counted is in one tally exactly, and a tally's size does not grow with its counts.

use std::time::Duration;

/// The longest time that is told apart, in microseconds: about 134 seconds. Longer ones count as this.
const LONGEST_US: u64 = (1 << 27) - 1;

/// Times, counted in buckets of which four double the time: a time is known within a quarter of itself.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Histogram {
    /// Up to the longest time that was counted; at most 104.
    counts: Vec<u32>,
}

impl Histogram {
    pub(crate) fn add(&mut self, time: Duration) {
        let index = bucket(u64::try_from(time.as_micros()).unwrap_or(u64::MAX));
        if self.counts.len() <= index {
            self.counts.resize(index + 1, 0);
        }
        self.counts[index] = self.counts[index].saturating_add(1);
    }

    /// Each bucket that is not empty: the longest time in it in whole microseconds, and its count.
    pub(crate) fn buckets(&self) -> impl Iterator<Item = (u64, u64)> {
        self.counts.iter().enumerate().filter(|(_, count)| **count > 0).map(|(i, count)| (top_us(i), (*count).into()))
    }

    /// The longest time in the bucket of the median; `None` if nothing was counted.
    pub(crate) fn median(&self) -> Option<Duration> {
        let all: u64 = self.buckets().map(|(_, count)| count).sum();
        let mut seen = 0;
        self.buckets().find_map(|(us, count)| {
            seen += count;
            (2 * seen >= all).then(|| Duration::from_micros(us))
        })
    }
}

/// What is reported of one instance of a service.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Tally {
    /// Requests, or connections where nothing is understood of them.
    pub(crate) asked: u64,
    /// Those of them that failed.
    pub(crate) failed: u64,
    /// How long those took that did not fail.
    pub(crate) times: Histogram,
}

/// How something went that was asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Went {
    /// It took so long.
    Well(Duration),
    /// It was answered by a failure, or not at all.
    Wrong,
    /// The caller did not wait for the answer: no failure of the service.
    BrokenOff,
}

impl Tally {
    pub(crate) fn count(&mut self, went: Went) {
        self.asked += 1;
        match went {
            Went::Well(time) => self.times.add(time),
            Went::Wrong => self.failed += 1,
            Went::BrokenOff => {}
        }
    }
}

fn bucket(us: u64) -> usize {
    let us = us.min(LONGEST_US);
    let doublings = us.max(4).ilog2();
    let quarter = if us < 4 { us } else { (us >> (doublings - 2)) & 3 };
    let whole = if us < 4 { 0 } else { u64::from(doublings - 1) };
    usize::try_from(4 * whole + quarter).expect("there are 104")
}

/// The longest time that [`bucket`] puts there.
fn top_us(bucket: usize) -> u64 {
    let bucket = bucket as u64;
    if bucket < 4 { bucket } else { ((bucket % 4 + 5) << (bucket / 4 - 1)) - 1 }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_bucket_holds_what_is_at_most_its_top_and_more_than_a_quarter_below_it_is_elsewhere(us in 0..=LONGEST_US) {
            let index = bucket(us);
            prop_assert!(us <= top_us(index));
            prop_assert!(index == 0 || us > top_us(index - 1));
            prop_assert!(top_us(index) <= us + us / 4);
        }

        #[test]
        fn what_is_counted_is_there(times in prop::collection::vec(any::<u32>(), 1..200)) {
            let mut histogram = Histogram::default();
            for us in &times {
                histogram.add(Duration::from_micros((*us).into()));
            }
            prop_assert_eq!(histogram.buckets().map(|(_, count)| count).sum::<u64>(), times.len() as u64);
            let mut sorted: Vec<u64> = times.iter().map(|us| u64::from(*us).min(LONGEST_US)).collect();
            sorted.sort_unstable();
            let median = sorted[(sorted.len() - 1) / 2];
            prop_assert_eq!(histogram.median(), Some(Duration::from_micros(top_us(bucket(median)))));
        }
    }

    #[test]
    fn there_are_104_buckets() {
        assert_eq!((bucket(0), bucket(4), bucket(u64::MAX)), (0, 4, 103));
        assert_eq!(top_us(103), LONGEST_US);
        assert_eq!(Histogram::default().median(), None);
    }

    #[test]
    fn what_the_caller_broke_off_is_no_failure() {
        let mut tally = Tally::default();
        for went in [Went::BrokenOff, Went::Wrong, Went::Well(Duration::from_micros(3))] {
            tally.count(went);
        }
        assert_eq!((tally.asked, tally.failed), (3, 1));
        assert_eq!(tally.times.buckets().collect::<Vec<_>>(), [(3, 1)]);
    }
}
