//! Which instances are set aside because they do much worse than their peers. Pure: it is told the time.
//!
//! Invariant: at most half of a service's instances are set aside at the same time, so that never the last one is. And
//! setting aside is a preference: where no other can be reached, the one set aside is asked all the same.

use std::fmt;
use std::time::{Duration, Instant};

use crate::tally::Histogram;

/// Instances are compared this often, by what has happened since.
const EVERY: Duration = Duration::from_secs(1);
/// An instance that was asked less often since is not judged yet, and goes on collecting: a few unlucky requests prove
/// nothing.
const ASKED_MIN: u32 = 20;
/// It is failing if at least this percentage of what it was asked failed …
const FAILING_PERCENT: u64 = 20;
/// … and this many times the usual share at its peers: what fails everywhere is not the instance's fault.
const FAILING_FACTOR: u64 = 3;
/// It is slow if the median of its answers takes this many times the median of its peers' …
const SLOW_FACTOR: u32 = 5;
/// … and this much longer: what callers do not notice is no reason.
const SLOW_BY: Duration = Duration::from_millis(20);
/// For so long it is set aside at first; each time again for twice as long …
const ASIDE_MIN: Duration = Duration::from_secs(5);
/// … but for no longer than this.
const ASIDE_MAX: Duration = Duration::from_secs(300);

/// What is remembered of one instance.
#[derive(Debug, Default)]
pub(crate) struct Record {
    asked: u32,
    failed: u32,
    times: Histogram,
    aside: Option<Aside>,
}

/// The last time that it was set aside.
#[derive(Clone, Copy, Debug)]
struct Aside {
    until: Instant,
    length: Duration,
}

/// Why an instance was set aside.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Because {
    /// So many of so many requests failed.
    Failing { failed: u32, of: u32 },
    /// Half of its answers took at least about this long; half of its peers' at most so long.
    Slow { median: Duration, others: Duration },
}

impl fmt::Display for Because {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Failing { failed, of } => write!(f, "{failed} of {of} requests failed, and far fewer elsewhere"),
            Self::Slow { median, others } => {
                let (median, others) = (median.as_millis(), others.as_millis().max(1));
                write!(f, "half of its answers took {median} ms or more, and elsewhere {others} ms or less")
            }
        }
    }
}

/// An instance that has just been set aside.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Verdict {
    /// Its place in the list.
    pub(crate) index: usize,
    /// For how long.
    pub(crate) length: Duration,
    pub(crate) because: Because,
}

impl Record {
    /// It was asked something: how long the answer took, or `None` if it failed.
    pub(crate) fn asked(&mut self, took: Option<Duration>) {
        self.asked = self.asked.saturating_add(1);
        match took {
            Some(took) => self.times.add(took),
            None => self.failed = self.failed.saturating_add(1),
        }
    }

    /// Whether others go before it.
    pub(crate) fn is_aside(&self, now: Instant) -> bool {
        self.aside.is_some_and(|aside| aside.until > now)
    }

    fn set_aside(&mut self, now: Instant) -> Duration {
        // What has been well for as long as it was set aside begins anew.
        let before = self.aside.filter(|aside| now < aside.until + aside.length).map(|aside| aside.length);
        let length = before.map_or(ASIDE_MIN, |length| (length * 2).min(ASIDE_MAX));
        self.aside = Some(Aside { until: now + length, length });
        length
    }

    fn begin_anew(&mut self) {
        *self = Self { aside: self.aside, ..Self::default() };
    }
}

/// Whether the instances are to be compared, if they were last at `last`.
pub(crate) fn is_due(last: Option<Instant>, now: Instant) -> bool {
    last.is_none_or(|last| now.saturating_duration_since(last) >= EVERY)
}

/// Compares the instances of one service, all of which must be in the list, and sets aside who does much worse than the
/// others, the worst first. Who was judged begins a new count.
pub(crate) fn review(records: &mut [&mut Record], now: Instant) -> Vec<Verdict> {
    let judged: Vec<usize> = (0..records.len()).filter(|index| records[*index].asked >= ASKED_MIN).collect();
    let mut found: Vec<(usize, Because)> =
        judged.iter().filter_map(|index| Some((*index, compare(records, &judged, *index, now)?))).collect();
    found.sort_by_key(|(_, because)| std::cmp::Reverse(badness(*because)));
    let room = aside_max(records.len()).saturating_sub(records.iter().filter(|record| record.is_aside(now)).count());
    found.truncate(room);
    let verdict = |(index, because): (usize, Because)| {
        let record: &mut Record = records[index];
        Verdict { index, length: record.set_aside(now), because }
    };
    let verdicts = found.into_iter().map(verdict).collect();
    for index in judged {
        records[index].begin_anew();
    }
    verdicts
}

/// Takes back as many as have to be because there are fewer instances now; those first that would be back first.
pub(crate) fn relieve(records: &mut [&mut Record], now: Instant) {
    let most = aside_max(records.len());
    let mut aside: Vec<&mut Aside> =
        records.iter_mut().filter_map(|record| record.aside.as_mut()).filter(|aside| aside.until > now).collect();
    aside.sort_by_key(|aside| aside.until);
    let too_many = aside.len().saturating_sub(most);
    for aside in aside.into_iter().take(too_many) {
        aside.until = now;
    }
}

/// How many of so many may be set aside.
fn aside_max(of: usize) -> usize {
    of / 2
}

/// What is wrong with the instance at `index`, judged by its peers that are not set aside.
fn compare(records: &[&mut Record], judged: &[usize], index: usize, now: Instant) -> Option<Because> {
    let record = &records[index];
    if record.is_aside(now) {
        return None;
    }
    let peers = || judged.iter().filter(|peer| **peer != index && !records[**peer].is_aside(now));
    let share = |record: &Record| u64::from(record.failed) * 1000 / u64::from(record.asked.max(1));
    let (own, usual) = (share(record), median(peers().map(|peer| share(records[*peer])))?);
    if own >= 10 * FAILING_PERCENT && own >= FAILING_FACTOR * usual {
        return Some(Because::Failing { failed: record.failed, of: record.asked });
    }
    let others = median(peers().filter_map(|peer| records[*peer].times.median()))?;
    let median = record.times.median()?;
    (median >= others * SLOW_FACTOR && median >= others + SLOW_BY).then_some(Because::Slow { median, others })
}

/// The lower one where two are in the middle: half of the peers that do well are enough to show that it can be done.
fn median<T: Ord>(values: impl Iterator<Item = T>) -> Option<T> {
    let mut values: Vec<T> = values.collect();
    values.sort_unstable();
    let middle = values.len().checked_sub(1)? / 2;
    Some(values.swap_remove(middle))
}

/// An order of what is worse: failing before slow, then how much.
fn badness(because: Because) -> (bool, u128) {
    match because {
        Because::Failing { failed, of } => (true, u128::from(failed) * 1000 / u128::from(of.max(1))),
        Because::Slow { median, others } => (false, median.as_micros() * 1000 / others.as_micros().max(1)),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const MS: fn(u64) -> Duration = Duration::from_millis;

    /// Records of instances that were asked 100 times each: how many failed, and how long the others took.
    fn records(of: &[(u32, u64)]) -> Vec<Record> {
        let one = |&(failed, ms): &(u32, u64)| {
            let mut record = Record::default();
            for number in 0..100 {
                record.asked((number >= failed).then(|| MS(ms)));
            }
            record
        };
        of.iter().map(one).collect()
    }

    fn review_all(records: &mut [Record], now: Instant) -> Vec<Verdict> {
        review(&mut records.iter_mut().collect::<Vec<_>>(), now)
    }

    /// Who is set aside, judged by (failed of 100, milliseconds) of each.
    fn check(of: &[(u32, u64)], expected: &[usize]) {
        let verdicts = review_all(&mut records(of), Instant::now());
        assert_eq!(verdicts.iter().map(|verdict| verdict.index).collect::<Vec<_>>(), expected, "{of:?}");
    }

    #[test]
    fn who_does_much_worse_than_the_others_is_set_aside() {
        check(&[], &[]);
        check(&[(100, 1)], &[]); // the last one
        check(&[(0, 1), (0, 1)], &[]);
        check(&[(50, 1), (0, 1)], &[0]);
        check(&[(19, 1), (0, 1)], &[]); // not often enough
        check(&[(50, 1), (40, 1)], &[]); // everywhere
        check(&[(0, 1), (0, 900)], &[1]);
        check(&[(0, 1), (0, 10)], &[]); // nobody notices
        check(&[(0, 100), (0, 300)], &[]); // not much slower
        check(&[(0, 1), (90, 1), (95, 1), (0, 1)], &[2, 1]); // the worse first
        check(&[(0, 1), (0, 1), (50, 1), (90, 1), (0, 300)], &[3, 2]); // at most half
        check(&[(0, 300), (90, 1), (0, 1)], &[1]); // failing is worse than slow
    }

    #[test]
    fn few_requests_prove_nothing() {
        let mut records = records(&[(0, 1), (0, 1)]);
        records.push(Record::default());
        for _ in 1..ASKED_MIN {
            records[2].asked(None);
        }
        let now = Instant::now();
        assert_eq!(review_all(&mut records, now), []);
        records[2].asked(None);
        for _ in 0..ASKED_MIN {
            records[0].asked(Some(MS(1)));
        }
        let because = Because::Failing { failed: ASKED_MIN, of: ASKED_MIN };
        assert_eq!(review_all(&mut records, now), [Verdict { index: 2, length: ASIDE_MIN, because }]);
    }

    #[test]
    fn it_is_set_aside_for_twice_as_long_each_time_until_it_has_been_well() {
        let mut now = Instant::now();
        let mut pair = [Record::default(), Record::default()];
        let mut lengths = Vec::new();
        for _ in 0..8 {
            for _ in 0..ASKED_MIN {
                pair[0].asked(Some(MS(1)));
                pair[1].asked(None);
            }
            let verdicts = review_all(&mut pair, now);
            assert!(pair[1].is_aside(now) && !pair[0].is_aside(now));
            lengths.push(verdicts[0].length.as_secs());
            now += verdicts[0].length;
            assert!(!pair[1].is_aside(now), "it is tried again");
        }
        assert_eq!(lengths, [5, 10, 20, 40, 80, 160, 300, 300]);
        now += ASIDE_MAX;
        for _ in 0..ASKED_MIN {
            pair[0].asked(Some(MS(1)));
            pair[1].asked(None);
        }
        assert_eq!(review_all(&mut pair, now)[0].length, ASIDE_MIN);
    }

    /// What can happen to a service's instances.
    #[derive(Clone, Debug)]
    enum Step {
        Asked { which: usize, times: u8, took_ms: Option<u16> },
        Added,
        Removed { which: usize },
        Passed { ms: u32 },
        Review,
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            6 => (any::<usize>(), any::<u8>(), proptest::option::of(any::<u16>()))
                .prop_map(|(which, times, took_ms)| Step::Asked { which, times, took_ms }),
            1 => Just(Step::Added),
            1 => any::<usize>().prop_map(|which| Step::Removed { which }),
            2 => (0..400_000_u32).prop_map(|ms| Step::Passed { ms }),
            4 => Just(Step::Review),
        ]
    }

    proptest! {
        #[test]
        fn never_more_than_half_and_never_the_last(steps in prop::collection::vec(step(), 0..200)) {
            let mut now = Instant::now();
            let mut list: Vec<Record> = records(&[(0, 1), (0, 1)]);
            for step in steps {
                match step {
                    Step::Asked { which, times, took_ms } if !list.is_empty() => {
                        let which = which % list.len();
                        for _ in 0..times {
                            list[which].asked(took_ms.map(|ms| MS(ms.into())));
                        }
                    }
                    Step::Removed { which } if !list.is_empty() => {
                        let which = which % list.len();
                        list.remove(which);
                        relieve(&mut list.iter_mut().collect::<Vec<_>>(), now);
                    }
                    Step::Asked { .. } | Step::Removed { .. } => {}
                    Step::Added => list.push(Record::default()),
                    Step::Passed { ms } => now += MS(ms.into()),
                    Step::Review => drop(review_all(&mut list, now)),
                }
                let aside = list.iter().filter(|record| record.is_aside(now)).count();
                prop_assert!(2 * aside <= list.len(), "{aside} of {}", list.len());
                prop_assert!(list.is_empty() || aside < list.len());
            }
        }
    }
}
