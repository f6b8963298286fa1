//! What endpoints have carried, as the gateway tells it every ten seconds, handed to the manager at a bounded rate.
//!
//! What is told are sums since a gateway began, so that it does no harm if some are not handed on, or if some are twice: see
//! `FactKind::TrafficCounted`. Invariant: of one service at most one fact an hour follows from this, and one every 20
//! seconds while somebody asks for the books again and again.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use ostler_manager::Event;
use ostler_model::ids::ServiceName;
use ostler_model::time::Timestamp;
use tokio::runtime::Handle;

use crate::daemon::Loop;

/// How often it is recorded.
const EVERY: Duration = Duration::from_secs(3600);
/// How often at the most, where somebody wants to know.
const AT_LEAST_APART: Duration = Duration::from_secs(20);

/// Hands on what was carried.
#[derive(Clone)]
pub struct Carried {
    tasks: Handle,
    handle: Loop,
    newest: Arc<Mutex<BTreeMap<ServiceName, Newest>>>,
}

/// What was told last of a service.
#[derive(Default)]
struct Newest {
    /// By since when a gateway carries it: the one that does now, and the one before.
    sums: BTreeMap<Timestamp, Sum>,
    /// When it was handed on.
    handed_on: Option<Instant>,
    /// It will be, at its time.
    is_waiting: bool,
}

#[derive(Clone, Copy)]
struct Sum {
    bytes_in: u64,
    bytes_out: u64,
    is_new: bool,
}

impl Newest {
    /// A gateway tells how much it has carried. How long it is until that is to be handed on, if that is not known yet.
    fn add(&mut self, since: Timestamp, bytes_in: u64, bytes_out: u64, now: Instant) -> Option<Duration> {
        self.sums.insert(since, Sum { bytes_in, bytes_out, is_new: true });
        while self.sums.len() > 2 {
            self.sums.pop_first();
        }
        if std::mem::replace(&mut self.is_waiting, true) {
            return None;
        }
        // The first at once: what was carried while no manager was there.
        Some(self.handed_on.map_or(Duration::ZERO, |at| EVERY.saturating_sub(now - at)))
    }

    /// Whether there is something new, and nothing was handed on just now.
    fn is_due(&self, now: Instant) -> bool {
        self.is_waiting && self.handed_on.is_none_or(|at| now - at >= AT_LEAST_APART)
    }

    /// What is to be handed on: nothing if that was done since it was found to be.
    fn take(&mut self, now: Instant) -> Vec<(Timestamp, Sum)> {
        self.is_waiting = false;
        let new = |(since, sum): (&Timestamp, &mut Sum)| std::mem::take(&mut sum.is_new).then_some((*since, *sum));
        let new: Vec<_> = self.sums.iter_mut().filter_map(new).collect();
        if !new.is_empty() {
            self.handed_on = Some(now);
        }
        new
    }
}

impl Carried {
    pub(crate) fn new(tasks: Handle, handle: Loop) -> Self {
        Self { tasks, handle, newest: Arc::default() }
    }

    fn newest(&self) -> MutexGuard<'_, BTreeMap<ServiceName, Newest>> {
        self.newest.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A gateway tells how much it has carried.
    pub(crate) fn add(&self, service: ServiceName, since: Timestamp, bytes_in: u64, bytes_out: u64) {
        let wait = self.newest().entry(service.clone()).or_default().add(since, bytes_in, bytes_out, Instant::now());
        let Some(wait) = wait else { return };
        let carried = self.clone();
        self.tasks.spawn(async move {
            tokio::time::sleep(wait).await;
            carried.hand_on(&service);
        });
    }

    /// Somebody asks for the books: what was handed on just now may wait, and all else is handed on.
    pub(crate) fn hand_on_all(&self) {
        let now = Instant::now();
        let due: Vec<ServiceName> =
            self.newest().iter().filter(|(_, newest)| newest.is_due(now)).map(|(service, _)| service.clone()).collect();
        for service in due {
            self.hand_on(&service);
        }
    }

    fn hand_on(&self, service: &ServiceName) {
        let new = self.newest().get_mut(service).map(|newest| newest.take(Instant::now())).unwrap_or_default();
        for (since, Sum { bytes_in, bytes_out, .. }) in new {
            self.handle.tell(Event::Carried { service: service.clone(), since, bytes_in, bytes_out });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A gateway that tells every ten seconds for so long: when what was handed on.
    fn told(lasts: Duration, asks_every: Option<Duration>) -> Vec<(Duration, u64)> {
        const TICK: Duration = Duration::from_secs(10);
        let (begin, mut newest) = (Instant::now(), Newest::default());
        let (mut at, mut due, mut handed_on, mut asked) = (Duration::ZERO, None, Vec::new(), Duration::ZERO);
        while at < lasts + EVERY {
            let now = begin + at;
            if at < lasts
                && let Some(wait) = newest.add(Timestamp(1), at.as_secs() + 1, 0, now)
            {
                due = Some(at + wait);
            }
            let is_asked = asks_every.is_some_and(|every| at >= asked + every) && newest.is_due(now);
            if due.is_some_and(|due| at >= due) || is_asked {
                if is_asked {
                    asked = at;
                } else {
                    due = None;
                }
                handed_on.extend(newest.take(now).into_iter().map(|(_, sum)| (at, sum.bytes_in)));
            }
            at += TICK;
        }
        handed_on
    }

    #[test]
    fn it_is_handed_on_once_an_hour_and_to_the_last() {
        let hour = Duration::from_secs(3600);
        let handed_on = told(3 * hour, None);
        let times: Vec<u64> = handed_on.iter().map(|(at, _)| at.as_secs()).collect();
        assert_eq!(times, [0, 3600, 7200, 10_800], "the last is what came after the third hour began");
        assert_eq!(handed_on.last().unwrap().1, 10_791, "the newest sum that was told");
    }

    #[test]
    fn who_asks_for_the_books_is_told_what_is_new_and_not_more_often_than_allowed() {
        let handed_on = told(Duration::from_secs(600), Some(Duration::from_secs(10)));
        assert_eq!(handed_on.last().unwrap().1, 591);
        for pair in handed_on.windows(2) {
            assert!(pair[1].0 - pair[0].0 >= AT_LEAST_APART, "{handed_on:?}");
        }
    }
}
