//! The orders under way, found by number or by what they are done to.
//!
//! Invariant: an order is in both indexes or in none; every question costs the same however many there are.

use std::collections::BTreeMap;

use ostler_manager::Target;
use ostler_model::ids::InstanceId;

use super::bought::Credential;
use super::orders::Order;

/// The orders under way.
#[derive(Default)]
pub(super) struct Line {
    all: BTreeMap<u64, Order>,
    by_target: BTreeMap<Target, Vec<u64>>,
    slow: usize,
}

impl Line {
    pub(super) fn is_empty(&self) -> bool {
        self.all.is_empty()
    }

    pub(super) fn values(&self) -> impl Iterator<Item = &Order> {
        self.all.values()
    }

    /// Whether an order takes far longer than such orders do.
    pub(super) fn has_slow(&self) -> bool {
        self.slow > 0
    }

    pub(super) fn is_for(&self, instance: &InstanceId) -> bool {
        self.by_target.contains_key(&Target::Instance(instance.clone()))
    }

    /// Whether these credentials are being asked for.
    pub(super) fn asks_for(&self, credential: &Credential) -> bool {
        let target = Target::Instance(credential.at.instance.clone());
        let numbers = self.by_target.get(&target).into_iter().flatten();
        numbers.filter_map(|number| self.all.get(number)).any(|order| order.asks_for(credential))
    }

    pub(super) fn insert(&mut self, number: u64, order: Order) {
        self.slow += usize::from(order.is_slow());
        self.by_target.entry(order.target()).or_default().push(number);
        self.all.insert(number, order);
    }

    pub(super) fn remove(&mut self, number: u64) -> Option<Order> {
        let order = self.all.remove(&number)?;
        self.slow -= usize::from(order.is_slow());
        let target = order.target();
        if let Some(numbers) = self.by_target.get_mut(&target) {
            numbers.retain(|other| *other != number);
            if numbers.is_empty() {
                self.by_target.remove(&target);
            }
        }
        Some(order)
    }

    /// Changes those that are done to `target`.
    pub(super) fn for_each_of(&mut self, target: &Target, mut change: impl FnMut(&mut Order)) {
        for number in self.by_target.get(target).into_iter().flatten() {
            if let Some(order) = self.all.get_mut(number) {
                change(order);
            }
        }
    }

    pub(super) fn retain(&mut self, mut keep: impl FnMut(u64, &Order) -> bool) {
        let dropped: Vec<u64> =
            self.all.iter().filter(|(number, order)| !keep(**number, order)).map(|(number, _)| *number).collect();
        for number in dropped {
            self.remove(number);
        }
    }

    pub(super) fn clear(&mut self) {
        *self = Self::default();
    }
}
