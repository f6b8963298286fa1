//! What callers got, as the gateway counts it for each instance: gathered for a moment, so that a service is seen as one,
//! and told to the manager where something of it was bad.
//!
//! Invariant: what went well is no event, and what is gathered is bounded by the number of services.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use ostler_manager::Event;
use ostler_manager::level::Traffic;
use ostler_model::estate::slo::Slo;
use ostler_model::ids::ServiceName;
use ostler_model::time::Timestamp;
use tokio::runtime::Handle;

use crate::daemon::Loop;

/// The gateway tells of each instance every ten seconds: so long after the first, it has told of all.
const GATHERED_FOR: Duration = Duration::from_secs(11);

/// Gathers counts, and tells the manager of them.
#[derive(Clone)]
pub(crate) struct Gatherer {
    tasks: Handle,
    handle: Loop,
    gathered: Arc<Mutex<BTreeMap<ServiceName, Counts>>>,
}

/// What was counted within a time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Counts {
    pub(crate) from: Timestamp,
    pub(crate) until: Timestamp,
    /// How often it was asked.
    pub(crate) asked: u64,
    /// How often in vain.
    pub(crate) failed: u64,
    /// How long the others took: at most so many microseconds, and how many did.
    pub(crate) times: Vec<(u64, u64)>,
}

impl Gatherer {
    pub(crate) fn new(tasks: Handle, handle: Loop) -> Self {
        Self { tasks, handle, gathered: Arc::default() }
    }

    /// What was counted of one instance, or of callers that reached none.
    pub(crate) fn add(&self, service: ServiceName, counts: Counts) {
        let mut gathered = self.gathered.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(former) = gathered.get_mut(&service) {
            return former.add(counts);
        }
        gathered.insert(service.clone(), counts);
        let gatherer = self.clone();
        self.tasks.spawn(async move {
            tokio::time::sleep(GATHERED_FOR).await;
            gatherer.tell(service).await;
        });
    }

    async fn tell(&self, service: ServiceName) {
        let counts = self.gathered.lock().unwrap_or_else(PoisonError::into_inner).remove(&service);
        let Some(counts) = counts else { return };
        let name = service.clone();
        let slo = self.handle.known(move |known| known.services.get(&name)?.spec.slo.clone()).await;
        if let Some(traffic) = slo.and_then(|slo| counts.bad(&slo)) {
            self.handle.tell(Event::Served { service, traffic });
        }
    }
}

impl Counts {
    /// A probe that was answered just now; another one is made `every` so long.
    pub(crate) fn of_probe(took: Duration, every: Duration, now: Timestamp) -> Self {
        let us = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        Self { from: now - took.max(every), until: now, asked: 1, failed: 0, times: vec![(us, 1)] }
    }

    fn add(&mut self, other: Self) {
        self.from = self.from.min(other.from);
        self.until = self.until.max(other.until);
        self.asked = self.asked.saturating_add(other.asked);
        self.failed = self.failed.saturating_add(other.failed);
        self.times.extend(other.times);
    }

    /// What is to be told of it; nothing if all was as it should be.
    fn bad(&self, slo: &Slo) -> Option<Traffic> {
        let late = slo.latency_p99.map_or(0, |within| {
            let times = self.times.iter().filter(|(us, _)| u128::from(*us) > within.get().as_micros());
            times.map(|(_, count)| count).sum()
        });
        let Self { from, until, asked, failed, .. } = *self;
        (failed > 0 || late > 0).then_some(Traffic { from, until, asked, failed, late })
    }
}

#[cfg(test)]
mod tests {
    use ostler_model::time::Span;

    use super::*;

    fn counts(from: i64, until: i64, failed: u64, times: &[(u64, u64)]) -> Counts {
        let asked = failed + times.iter().map(|(_, count)| count).sum::<u64>();
        Counts { from: Timestamp(from), until: Timestamp(until), asked, failed, times: times.to_vec() }
    }

    #[test]
    fn only_what_was_bad_is_told() {
        let within = |latency: Option<u64>| Slo {
            availability: Some("99.9%".parse().unwrap()),
            latency_p99: latency.map(Span::millis),
            over: Span::seconds(86_400),
            exclude: Vec::new(),
        };
        let traffic =
            |failed, late| Some(Traffic { from: Timestamp(5), until: Timestamp(90), asked: 10, failed, late });
        for (failed, latency, expected) in [
            (0, None, None),
            (0, Some(100), None),
            (0, Some(20), traffic(0, 3)),
            (2, None, traffic(2, 0)),
            (2, Some(20), traffic(2, 3)),
            (2, Some(1), traffic(2, 8)),
        ] {
            let times = [(1_500, 5 - failed), (20_000, 2), (20_001, 3)];
            assert_eq!(counts(5, 90, failed, &times).bad(&within(latency)), expected, "{failed} {latency:?}");
        }
    }

    #[test]
    fn a_services_instances_are_one() {
        let mut all = counts(10, 50, 10, &[]);
        all.add(counts(5, 40, 0, &[(1_000, 990)]));
        let slo = Slo { availability: None, latency_p99: None, over: Span::seconds(86_400), exclude: Vec::new() };
        let expected = Traffic { from: Timestamp(5), until: Timestamp(50), asked: 1000, failed: 10, late: 0 };
        assert_eq!(all.bad(&slo), Some(expected), "a hundredth, and not all of one");
    }
}
