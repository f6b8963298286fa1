//! What the endpoints of services have carried, by month and by what the service was bought as.
//!
//! A gateway tells again and again how much it has carried since it began; only by how much that is more than what was told
//! before is counted. So nothing is counted twice, whoever is killed and whatever is told again, and what is not told in
//! time is told with the next: only what a gateway carried after it told last is lost with it.
//!
//! Invariant: what is held of a service grows with the months and with what it was bought as, not with what is told.

use ostler_model::charge::Charge;
use ostler_model::ids::ServiceName;
use ostler_model::month::Month;
use ostler_model::time::Timestamp;
use serde::{Deserialize, Serialize};

use crate::ledger::Bought;

/// So many gateways are told apart: the one that carries, and those that are about to leave. What an older one still tells
/// is not counted.
const GATEWAYS_MAX: usize = 4;

/// What the endpoint of one service has carried.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Carried {
    /// What each gateway told last, by since when it carries; the oldest first.
    told: Vec<Told>,
    pub(crate) spans: Vec<CarriedSpan>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Told {
    since: Timestamp,
    at: Timestamp,
    bytes: Bytes,
}

/// In both directions.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Bytes {
    /// From callers to instances.
    #[serde(rename = "in")]
    pub inward: u64,
    /// From instances to callers.
    #[serde(rename = "out")]
    pub outward: u64,
}

/// What was carried in a month while the service was bought as one thing.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct CarriedSpan {
    pub(crate) month: Month,
    pub(crate) bought: Option<Bought>,
    /// What a gigabyte costs there.
    pub(crate) charges: Vec<Charge>,
    pub(crate) from: Timestamp,
    pub(crate) until: Timestamp,
    pub(crate) bytes: Bytes,
}

/// What was carried of a service in a month.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CarriedBytes {
    /// Of which.
    pub service: ServiceName,
    /// How much.
    pub bytes: Bytes,
}

impl Bytes {
    /// Both directions together.
    pub fn both(self) -> u64 {
        self.inward.saturating_add(self.outward)
    }

    pub(crate) fn plus(self, other: Self) -> Self {
        Self { inward: self.inward.saturating_add(other.inward), outward: self.outward.saturating_add(other.outward) }
    }

    fn beyond(self, former: Self) -> Self {
        Self { inward: self.inward.saturating_sub(former.inward), outward: self.outward.saturating_sub(former.outward) }
    }

    fn most(self, other: Self) -> Self {
        Self { inward: self.inward.max(other.inward), outward: self.outward.max(other.outward) }
    }
}

impl Carried {
    /// A gateway has carried so much since then. All that is new of it counts for the month of `at`, and for what the
    /// service is bought as now.
    pub(crate) fn count(
        &mut self,
        (since, at): (Timestamp, Timestamp),
        bytes: Bytes,
        month: Month,
        bought: Option<Bought>,
        charges: Vec<Charge>,
    ) {
        let Some((new, from)) = self.beyond(since, at, bytes) else { return };
        if new == Bytes::default() {
            return;
        }
        let same = |span: &&mut CarriedSpan| span.month == month && span.bought == bought && span.charges == charges;
        match self.spans.iter_mut().rev().take(8).find(same) {
            Some(span) => {
                span.bytes = span.bytes.plus(new);
                span.until = span.until.max(at);
            }
            None => self.spans.push(CarriedSpan { month, bought, charges, from, until: at, bytes: new }),
        }
    }

    /// How much more that is than was told before, and since when; `None` where the gateway is too old to be known.
    fn beyond(&mut self, since: Timestamp, at: Timestamp, bytes: Bytes) -> Option<(Bytes, Timestamp)> {
        if let Some(told) = self.told.iter_mut().find(|told| told.since == since) {
            let found = (bytes.beyond(told.bytes), told.at.min(at));
            (told.bytes, told.at) = (told.bytes.most(bytes), at);
            return Some(found);
        }
        let place = self.told.partition_point(|told| told.since < since);
        if self.told.len() >= GATEWAYS_MAX {
            if place == 0 {
                return None;
            }
            self.told.remove(0);
            self.told.insert(place - 1, Told { since, at, bytes });
        } else {
            self.told.insert(place, Told { since, at, bytes });
        }
        Some((bytes, since.min(at)))
    }
}
