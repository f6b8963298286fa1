//! The account of one service's troubles: when its callers were affected, how many and how long. Pure.
//!
//! Invariant: every affected caller is counted in exactly one report, and a service makes at most one report a second.

use std::time::Duration;

use ostler_model::ids::InstanceId;
use ostler_model::time::Timestamp;

/// The shortest time between two reports of one service.
const BETWEEN_REPORTS: Duration = Duration::from_secs(1);

/// An interval in which callers were affected; the fields are those of [`crate::messages::Says::Trouble`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Interval {
    pub(crate) instance: Option<InstanceId>,
    pub(crate) from: Timestamp,
    pub(crate) until: Timestamp,
    pub(crate) waited: u64,
    pub(crate) failed: u64,
    pub(crate) longest_us: u64,
}

impl Interval {
    fn starting(now: Timestamp, instance: Option<InstanceId>) -> Self {
        Self { instance, from: now, until: now, waited: 0, failed: 0, longest_us: 0 }
    }

    fn followed_by(self, later: Self) -> Self {
        Self {
            instance: self.instance.or(later.instance),
            from: self.from,
            until: later.until,
            waited: self.waited + later.waited,
            failed: self.failed + later.failed,
            longest_us: self.longest_us.max(later.longest_us),
        }
    }
}

/// The account.
#[derive(Debug, Default)]
pub(crate) struct Account {
    open: Option<Open>,
    unsent: Option<Interval>,
    sent_at: Option<Timestamp>,
}

#[derive(Debug)]
struct Open {
    interval: Interval,
    /// Affected callers that have neither been connected nor given up.
    waiting: u64,
    /// A connect has succeeded since a caller was last newly affected.
    recovered: bool,
}

impl Account {
    /// A caller's first attempt failed at `instance`, or (`None`) there was nothing to try. It must be followed by
    /// [`Account::connected`], [`Account::gave_up`] or [`Account::left`] for the same caller.
    pub(crate) fn affected(&mut self, now: Timestamp, instance: Option<&InstanceId>) {
        let open = self.open.get_or_insert_with(|| Open {
            interval: Interval::starting(now, instance.cloned()),
            waiting: 0,
            recovered: false,
        });
        open.waiting += 1;
        open.recovered = false;
    }

    /// A caller was connected; `waited` is its wait since its accept if it had been affected. Returns a report if one
    /// is due.
    pub(crate) fn connected(&mut self, now: Timestamp, waited: Option<Duration>) -> Option<Interval> {
        let open = self.open.as_mut()?;
        open.recovered = true;
        if let Some(waited) = waited {
            open.interval.waited += 1;
            open.end(waited);
        }
        self.close_if_over(now)
    }

    /// An affected caller was closed after it had waited this long. Returns a report if one is due.
    pub(crate) fn gave_up(&mut self, now: Timestamp, waited: Duration) -> Option<Interval> {
        let open = self.open.as_mut()?;
        open.interval.failed += 1;
        open.end(waited);
        self.close_if_over(now)
    }

    /// An affected caller has gone away by itself. Returns a report if one is due.
    pub(crate) fn left(&mut self, now: Timestamp) -> Option<Interval> {
        let open = self.open.as_mut()?;
        open.waiting = open.waiting.saturating_sub(1);
        self.close_if_over(now)
    }

    /// What was held back because a report had just been made.
    pub(crate) fn flush(&mut self, now: Timestamp) -> Option<Interval> {
        let interval = self.unsent.take()?;
        self.sent_at = Some(now);
        Some(interval)
    }

    fn close_if_over(&mut self, now: Timestamp) -> Option<Interval> {
        let open = self.open.take_if(|open| open.recovered && open.waiting == 0)?;
        let closed = Interval { until: now.max(open.interval.from), ..open.interval };
        let closed = match self.unsent.take() {
            Some(earlier) => earlier.followed_by(closed),
            None => closed,
        };
        self.unsent = Some(closed);
        // A clock that was set back must not hold reports back for long: `flush` comes every ten seconds.
        let due = self.sent_at.is_none_or(|sent| now.since(sent) >= BETWEEN_REPORTS);
        if due { self.flush(now) } else { None }
    }
}

impl Open {
    fn end(&mut self, waited: Duration) {
        self.waiting = self.waiting.saturating_sub(1);
        let waited_us = u64::try_from(waited.as_micros()).unwrap_or(u64::MAX);
        self.interval.longest_us = self.interval.longest_us.max(waited_us);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: fn(u64) -> Duration = Duration::from_millis;

    fn at(ms: i64) -> Timestamp {
        Timestamp(ms * 1000)
    }

    fn web(number: u32) -> InstanceId {
        InstanceId::new("web".parse().unwrap(), number)
    }

    #[test]
    fn one_interval_from_the_first_failure_until_nobody_waits() {
        let mut account = Account::default();
        assert_eq!(account.connected(at(0), None), None, "no trouble, no report");
        account.affected(at(10), Some(&web(1)));
        account.affected(at(11), Some(&web(2)));
        account.affected(at(12), None);
        assert_eq!(account.gave_up(at(13), MS(1)), None, "nothing has succeeded yet");
        assert_eq!(account.connected(at(20), Some(MS(9))), None, "one still waits");
        assert_eq!(account.connected(at(21), None), None, "one still waits");
        let report = account.connected(at(25), Some(MS(14))).unwrap();
        let expected =
            Interval { instance: Some(web(1)), from: at(10), until: at(25), waited: 2, failed: 1, longest_us: 14_000 };
        assert_eq!(report, expected);
        assert_eq!(account.connected(at(26), None), None);
    }

    #[test]
    fn it_stays_open_when_all_gave_up() {
        let mut account = Account::default();
        account.affected(at(0), None);
        assert_eq!(account.gave_up(at(50), MS(50)), None);
        let report = account.connected(at(900), None).unwrap();
        assert_eq!((report.from, report.until, report.waited, report.failed), (at(0), at(900), 0, 1));
    }

    #[test]
    fn who_leaves_holds_nothing_up() {
        let mut account = Account::default();
        account.affected(at(0), Some(&web(1)));
        account.affected(at(1), Some(&web(1)));
        assert_eq!(account.connected(at(5), Some(MS(5))), None, "one still waits");
        let report = account.left(at(9)).unwrap();
        assert_eq!((report.until, report.waited, report.failed), (at(9), 1, 0));
    }

    #[test]
    fn reports_within_a_second_are_put_together() {
        let mut account = Account::default();
        account.affected(at(0), Some(&web(1)));
        assert!(account.connected(at(1), Some(MS(1))).is_some());
        for start in [100, 200] {
            account.affected(at(start), Some(&web(2)));
            assert_eq!(account.connected(at(start + 5), Some(MS(5))), None);
        }
        let held_back = account.flush(at(600)).unwrap();
        assert_eq!((held_back.from, held_back.until, held_back.waited), (at(100), at(205), 2));
        assert_eq!(account.flush(at(700)), None);
        account.affected(at(1500), None);
        assert_eq!(account.connected(at(1501), Some(MS(1))), None);
        account.affected(at(1700), None);
        let together = account.connected(at(1701), Some(MS(1))).unwrap();
        assert_eq!((together.from, together.until, together.waited), (at(1500), at(1701), 2));
    }
}
