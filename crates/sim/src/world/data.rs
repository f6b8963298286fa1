//! How far the data of each service reaches, and where: what callers wrote last, and up to when each instance holds what
//! was written.
//!
//! Invariant: nothing here follows from what ostler knows. An instance to which callers get holds all that they wrote.

use ostler_model::ids::{InstanceId, ServiceName};
use ostler_model::time::Timestamp;

use super::World;
use super::orders::Order;
use super::truth::{InstanceTruth, Kept, Truth};
use crate::dice::{Concern, key};

/// What an instance holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Held {
    /// What was written until then: as far as a backup that was restored into it reaches, or callers wrote to it.
    pub(crate) until: Option<Timestamp>,
    /// Callers got at it at some time, or were to be bound to it.
    pub(crate) used: bool,
}

impl InstanceTruth {
    /// Until when it holds what was written; `None` if it is empty.
    pub(crate) fn holds_until(&self, now: Timestamp) -> Option<Timestamp> {
        if self.counted.0 { Some(now) } else { self.held.until }
    }
}

impl Truth {
    /// When callers wrote to anything of the service last, as far as they got at it.
    pub(crate) fn written_until(&self, service: &ServiceName, now: Timestamp) -> Option<Timestamp> {
        let written = |(_, truth): (&InstanceId, &InstanceTruth)| truth.counted.0;
        let is_written = self.instances.range(crate::witness::all_of(service)).any(written);
        if is_written { Some(now) } else { self.written.get(service).copied() }
    }

    /// Callers got at the instance until now.
    pub(crate) fn note_written(&mut self, id: &InstanceId, now: Timestamp) {
        if let Some(truth) = self.instances.get_mut(id) {
            truth.held = Held { until: Some(now), used: true };
        }
        self.written.insert(id.service().clone(), now);
    }
}

impl World {
    /// A backup was made, of what was there when it was begun. One in fifty is of no use, and nobody knows.
    pub(super) fn keep(&mut self, instance: &InstanceId, name: &str, order: &Order) {
        let (service, now) = (instance.service().clone(), self.now);
        let mut draw = self.dice.stream(Concern::Leftovers, key(&[service.as_str(), name], order.id.0));
        let held = self.truth.instances.get(instance).and_then(|truth| truth.holds_until(now));
        let holds = held.map(|held| held.min(order.since));
        self.truth.backups.insert(service.clone(), now);
        self.truth.kept.insert((service, name.to_owned()), Kept { made: now, holds, spoilt: draw.chance(20) });
    }

    /// A backup was restored into the instance: whatever else it held is gone.
    pub(super) fn restore(&mut self, instance: &InstanceId, name: &str) {
        let kept = self.truth.kept.get(&(instance.service().clone(), name.to_owned()));
        let until = kept.and_then(|kept| kept.holds);
        if let Some(truth) = self.truth.instances.get_mut(instance) {
            truth.held.until = until;
        }
        self.witness.brought(instance);
    }

    /// Callers are cut off from everything that the service had until now.
    pub(super) fn fence(&mut self, service: &ServiceName) {
        let ids: Vec<InstanceId> =
            self.truth.instances.range(crate::witness::all_of(service)).map(|(id, _)| id.clone()).collect();
        for id in ids {
            if let Some(truth) = self.truth.instances.get_mut(&id) {
                truth.routed = None;
            }
            self.recount(&id, "ostler");
        }
    }
}
