//! What endpoints have carried, as the gateway tells it every ten seconds, handed to the manager at a bounded rate.
//!
//! What is told are sums since a gateway began, so that it does no harm if some are not handed on, or if some are twice: see
//! `FactKind::TrafficCounted`. Invariant: of one service at most one fact an hour follows from this, and one every 20
//! seconds while somebody asks for the books again and again.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use ostler_manager::Event;
use ostler_model::ids::ServiceName;
use ostler_model::time::Timestamp;
use tokio::runtime::Handle;
use tokio::time::Instant;

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

impl Carried {
    pub(crate) fn new(tasks: Handle, handle: Loop) -> Self {
        Self { tasks, handle, newest: Arc::default() }
    }

    /// A gateway tells how much it has carried.
    pub(crate) fn add(&self, service: ServiceName, since: Timestamp, bytes_in: u64, bytes_out: u64) {
        let wait = {
            let mut newest = self.newest.lock().unwrap_or_else(PoisonError::into_inner);
            let newest = newest.entry(service.clone()).or_default();
            newest.sums.insert(since, Sum { bytes_in, bytes_out, is_new: true });
            while newest.sums.len() > 2 {
                newest.sums.pop_first();
            }
            if newest.is_waiting {
                return;
            }
            newest.is_waiting = true;
            // The first at once: what was carried while no manager was there.
            newest.handed_on.map_or(Duration::ZERO, |at| EVERY.saturating_sub(at.elapsed()))
        };
        let carried = self.clone();
        self.tasks.spawn(async move {
            tokio::time::sleep(wait).await;
            carried.hand_on(&service);
        });
    }

    /// Somebody asks for the books: what was handed on just now may wait, and all else is handed on.
    pub(crate) fn hand_on_all(&self) {
        let due: Vec<ServiceName> = {
            let newest = self.newest.lock().unwrap_or_else(PoisonError::into_inner);
            let is_due = |newest: &Newest| newest.handed_on.is_none_or(|at| at.elapsed() >= AT_LEAST_APART);
            newest.iter().filter(|(_, newest)| is_due(newest)).map(|(service, _)| service.clone()).collect()
        };
        for service in due {
            self.hand_on(&service);
        }
    }

    fn hand_on(&self, service: &ServiceName) {
        let mut all = self.newest.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(newest) = all.get_mut(service) else { return };
        newest.is_waiting = false;
        for (since, sum) in newest.sums.iter_mut().filter(|(_, sum)| sum.is_new) {
            sum.is_new = false;
            newest.handed_on = Some(Instant::now());
            let (service, since) = (service.clone(), *since);
            let Sum { bytes_in, bytes_out, .. } = *sum;
            self.handle.tell(Event::Carried { service, since, bytes_in, bytes_out });
        }
    }
}
