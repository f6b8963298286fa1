//! What an estate's own journal says about how often what failed: for simulations of it.
//!
//! Invariant: reading it costs a bounded time, however long the journal is.

use std::collections::BTreeMap;
use std::time::Duration;

use ostler_journal::{Journal, newest_first};
use ostler_manager::{Diagnosis, FactKind, Knowledge};
use ostler_model::ids::{InstanceId, ServiceName};
use ostler_model::time::Timestamp;
use serde::{Deserialize, Serialize};

use crate::envelope;
use crate::turn::RecallError;

/// So many of the newest facts are read: a fraction of a second.
const FACTS_MAX: usize = 100_000;

/// What was seen of a service.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Seen {
    /// How long its instances were there, added up: those that it has now, since the oldest fact that was read.
    pub observed: Duration,
    /// How often one of them ended by itself.
    pub crashes: u32,
    /// How often one of them ran and did not answer.
    pub hangs: u32,
}

/// What the newest facts say of each service that is declared.
///
/// # Errors
/// If a fact cannot be read.
pub fn seen(
    journal: &dyn Journal,
    known: &Knowledge,
    now: Timestamp,
) -> Result<BTreeMap<ServiceName, Seen>, RecallError> {
    let mut all: BTreeMap<ServiceName, Seen> = BTreeMap::new();
    let declared = known.services.iter().filter(|(_, service)| service.declared);
    all.extend(declared.map(|(name, _)| (name.clone(), Seen::default())));
    let mut since: BTreeMap<ServiceName, Timestamp> = BTreeMap::new();
    let mut oldest = now;
    for record in newest_first(journal).take(FACTS_MAX) {
        let Some(fact) = envelope::read(&record?)? else { continue };
        oldest = oldest.min(fact.at);
        let of = |instance: &InstanceId| instance.service().clone();
        match &fact.kind {
            FactKind::InstanceDied { instance, .. } => {
                all.entry(of(instance)).and_modify(|seen| seen.crashes = seen.crashes.saturating_add(1));
            }
            FactKind::RepairBegan { instance, diagnosis: Diagnosis::Unresponsive { .. } } => {
                all.entry(of(instance)).and_modify(|seen| seen.hangs = seen.hangs.saturating_add(1));
            }
            FactKind::ServicePlaced { service, .. } => drop(since.insert(service.clone(), fact.at)),
            _ => {}
        }
    }
    for (name, seen) in &mut all {
        let instances = known.services.get(name).map_or(0, |service| service.active);
        let since = since.get(name).copied().unwrap_or(oldest);
        seen.observed = now.since(since).saturating_mul(u32::try_from(instances).unwrap_or(u32::MAX));
    }
    Ok(all)
}
