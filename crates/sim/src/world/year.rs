//! A long run for its figures: brought up first, then left to whoever looks after it, for as long as wanted.

use std::collections::BTreeMap;
use std::time::Duration;

use ostler_model::ids::{InstanceId, ServiceName};
use ostler_model::time::Timestamp;

use super::{Happening, World};
use crate::act::Planned;
use crate::callers::Service;
use crate::dice::Concern;
use crate::sketch::Kind;

/// Who looks after an estate that is up.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Policy {
    /// Nobody: what a provider heals itself is healed, and nothing else.
    Nobody,
    /// A person, who comes so long after something has failed, at least and at most, and does what helps.
    OnCall {
        /// At least.
        least: Duration,
        /// At most.
        most: Duration,
    },
    /// Ostler, and a person who answers what it asks after so long.
    Ostler {
        /// After so long.
        answers: Duration,
    },
}

/// Bringing it up takes no longer than this, or it does not come up.
const UP_WITHIN: Duration = Duration::from_secs(6 * 3600);
/// What a person cannot help at once, because the provider is gone, they try again after this time.
const TRIED_AGAIN: Duration = Duration::from_secs(600);

impl World {
    /// Runs until everything is as declared, and says whether that is so within six hours.
    pub fn bring_up(&mut self) -> bool {
        let end = self.elapsed() + UP_WITHIN;
        while self.elapsed() < end {
            let next = self.elapsed() + Duration::from_secs(60);
            self.run_on(next);
            if self.is_quiet() {
                return true;
            }
        }
        false
    }

    /// Gives what is up into the hands of `policy`, lets `plan` happen (its times count from the start of the run), and
    /// returns what callers saw until `until`.
    pub fn pass(&mut self, policy: Policy, plan: Vec<Planned>, until: Duration) -> BTreeMap<ServiceName, Service> {
        self.plan = plan.into();
        self.plan_acts();
        self.policy = policy;
        match policy {
            Policy::Ostler { answers } => self.after(answers, Happening::PersonLooks),
            Policy::Nobody | Policy::OnCall { .. } => self.ostler_leaves(),
        }
        self.open_accounts();
        self.run_on(until);
        self.close_accounts()
    }

    /// Runs until `until` after the start, whatever promise is broken on the way.
    pub fn run_on(&mut self, until: Duration) {
        let until = super::START + until;
        while self.step(until) {}
        self.now = self.now.max(until);
    }

    /// Ostler is taken away from what it has brought up, with its keeper's reflexes: the processes run on.
    fn ostler_leaves(&mut self) {
        self.ostler = None;
        self.incarnation += 1;
        self.orders.clear();
        self.reports.clear();
        for truth in self.truth.instances.values_mut() {
            truth.watch = None;
            if truth.kind == Kind::Machine {
                truth.bucket = None;
            }
        }
    }

    /// A person looks whether anything is asked, and answers it.
    pub(super) fn person_looks(&mut self) {
        if let Policy::Ostler { answers } = self.policy {
            self.answer();
            self.after(answers, Happening::PersonLooks);
        }
    }

    /// Something fails: the person on call hears of it.
    pub(super) fn page(&mut self, id: &InstanceId) {
        if let Policy::OnCall { least, most } = self.policy {
            let comes = self.draw(Concern::People, id).duration(least, most);
            self.after(comes, Happening::PersonHelps(id.clone()));
        }
    }

    /// The person on call has come, and starts again what does not serve: anew, with what was backed up, if it is gone.
    pub(super) fn person_helps(&mut self, id: &InstanceId) {
        let now = self.now;
        let out = |world: &Self, truth: &super::truth::InstanceTruth| {
            world.truth.providers.get(&truth.provider).is_none_or(|provider| !provider.answers())
        };
        let Some(truth) = self.truth.instances.get(id) else { return };
        if truth.failing_since.is_none() {
            return;
        }
        if out(self, truth) {
            return self.after(TRIED_AGAIN, Happening::PersonHelps(id.clone()));
        }
        let starts = truth.process.as_ref().is_some_and(|process| !process.hung && now < process.ready_at);
        let soon = Timestamp(i64::MAX);
        let never = truth.process.as_ref().is_some_and(|process| process.ready_at == soon);
        if !starts || never {
            if let Some(truth) = self.truth.instances.get_mut(id) {
                (truth.made, truth.lost, truth.process) = (true, false, None);
                truth.routed = Some(truth.address);
            }
            self.start_process(id);
        }
        self.after(TRIED_AGAIN, Happening::PersonHelps(id.clone()));
    }
}
