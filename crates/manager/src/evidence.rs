//! What was seen of a provider: for how long what was bought there worked, and how many orders it carried out.
//!
//! It is kept as whole counts, one small record for each provider, and each fact changes it in constant time. Only what
//! is known counts: nothing is said of the time in which ostler was away or has not looked yet, in which a person holds an
//! instance, in which it is drilled, or in which it fails with its needs; and nothing of instances of the buyer's own program, whose
//! faults are the buyer's.
//!
//! Invariants: nothing is missing that was not watched; what is long past counts less and less; a bad minute decides
//! nothing.

use std::collections::BTreeMap;
use std::time::Duration;

use ostler_model::estate::terms::Percent;
use ostler_model::ids::{ProviderName, ServiceName};
use ostler_model::outcome::{FailureClass, Observation};
use ostler_model::time::Timestamp;
use serde::{Deserialize, Serialize};

use crate::command::{Command, Outcome};
use crate::instance::Instance;
use crate::knowledge::{BindingState, Knowledge, ServiceKnowledge};

/// Less than so long watched says nothing yet.
pub const WATCHED_MIN: Duration = Duration::from_secs(24 * 3600);
/// Fewer orders say nothing yet.
pub const ORDERS_MIN: u32 = 5;
/// What is promised is counted over so long, as providers do: who was watched for less has all of it to miss.
const PROMISED_OVER: Duration = Duration::from_secs(30 * 86_400);
/// More than twice what a promise allows is clearly less than promised; at least so much more, in millionths, or a bad
/// minute would decide about who promises nearly everything.
const MISSED_MORE: u64 = 1_000;
/// Who promises nothing is measured by this, in millionths of the time that may be missing: what hardly anybody would
/// buy.
const MISSED_UNPROMISED: u64 = 10_000;
/// A share of orders that fail is much larger than the others' if it is larger by more than one in so many.
const FAILED_MORE: u64 = 5;
/// Orders that fail within so long of each other count as one: they have the same cause.
const FAILURES_APART: Duration = Duration::from_secs(600);
/// Everything is halved so often, so that a provider can win trust back, and lose it.
const HALVED_EVERY: Duration = Duration::from_secs(30 * 86_400);
/// So many halvings leave nothing of anything.
const HALVINGS_MAX: u32 = 64;

/// What was seen of one provider.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Evidence {
    /// How many of its instances work now.
    pub working: u32,
    /// How many of them should work now, and do not.
    pub away: u32,
    /// Up to when the two lengths below are counted.
    pub counted: Timestamp,
    /// Since when nothing was halved.
    pub halved: Timestamp,
    /// For how long something of it was watched, in microseconds.
    pub watched_us: u64,
    /// The part of that which was missing, in microseconds: where some instances were away, their share of all.
    pub missed_us: u64,
    /// Orders that were carried out.
    pub done: u32,
    /// Orders that failed.
    pub failed: u32,
    /// When the last one failed that was counted.
    pub failed_at: Option<Timestamp>,
    /// Since when it does not answer what it is asked, where it did before; only of providers elsewhere.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unheard_since: Option<Timestamp>,
    /// Instances that were made while somebody waited for them.
    pub made: u32,
    /// How long making these took, in microseconds.
    pub making_us: u64,
}

/// What is seen of an instance, as evidence for or against its provider.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Seen {
    /// It works.
    Working,
    /// It should work, and does not.
    Away,
}

/// What was seen of a provider, for who chooses.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Delivered {
    /// What share of the time something bought there worked, rounded down; `None` if nothing was watched yet.
    pub availability: Option<Percent>,
    /// For how long something of it was watched, in milliseconds.
    pub watched_ms: u64,
    /// How much of that was missing, in milliseconds.
    pub missed_ms: u64,
    /// Orders that were carried out.
    pub orders_done: u32,
    /// Orders that failed.
    pub orders_failed: u32,
    /// How long making an instance took on average, in milliseconds.
    pub provision_ms: Option<u64>,
}

impl Seen {
    pub(crate) fn of(instance: &Instance) -> Option<Self> {
        let is_blind = instance.unprobed.is_some();
        let repair = instance.repair.as_ref();
        match repair {
            // What a drill does to it says nothing against its provider.
            _ if is_blind || instance.drilled => None,
            Some(repair) if instance.waits_for_person() || repair.victim || repair.unseen => None,
            Some(_) => Some(Self::Away),
            None => instance.is_ready().then_some(Self::Working),
        }
    }
}

impl Evidence {
    fn new(at: Timestamp) -> Self {
        Self { counted: at, halved: at, ..Self::default() }
    }

    /// The same, counted up to `at`.
    pub fn at(mut self, at: Timestamp) -> Self {
        self.count(at);
        self
    }

    fn count(&mut self, at: Timestamp) {
        // A clock that jumped must not keep anybody busy for long.
        self.halved = self.halved.max(at - HALVED_EVERY * HALVINGS_MAX);
        loop {
            let next = self.halved + HALVED_EVERY;
            if at < next || next <= self.halved {
                break;
            }
            self.add_time(next);
            self.halve();
            self.halved = next;
        }
        self.add_time(at);
    }

    fn add_time(&mut self, until: Timestamp) {
        let all = u64::from(self.working) + u64::from(self.away);
        if until > self.counted {
            let length = micros(until.since(self.counted));
            if all > 0 {
                let missed = u128::from(length) * u128::from(self.away) / u128::from(all);
                self.watched_us = self.watched_us.saturating_add(length);
                self.missed_us = self.missed_us.saturating_add(u64::try_from(missed).unwrap_or(length));
            }
            self.counted = until;
        }
    }

    fn halve(&mut self) {
        self.watched_us /= 2;
        self.missed_us /= 2;
        self.done /= 2;
        self.failed /= 2;
        self.made /= 2;
        self.making_us /= 2;
    }

    /// An instance is seen otherwise than before.
    fn see(&mut self, before: Option<Seen>, after: Option<Seen>, at: Timestamp) {
        self.count(at);
        self.add(before, |count| count.saturating_sub(1));
        self.add(after, |count| count.saturating_add(1));
    }

    fn add(&mut self, seen: Option<Seen>, change: impl Fn(u32) -> u32) {
        match seen {
            Some(Seen::Working) => self.working = change(self.working),
            Some(Seen::Away) => self.away = change(self.away),
            None => {}
        }
    }

    /// An order has ended.
    fn end(&mut self, outcome: &Outcome, at: Timestamp) {
        self.count(at);
        let Outcome::Failed(failure) = outcome else {
            self.done = self.done.saturating_add(1);
            return;
        };
        match failure.class {
            // Nobody knows whether the provider is to blame.
            FailureClass::Interrupted | FailureClass::NeedsPerson => {}
            FailureClass::Temporary | FailureClass::InDoubt | FailureClass::LeftBehind | FailureClass::Unclear => {
                if self.failed_at.is_none_or(|last| at < last || at >= last + FAILURES_APART) {
                    self.failed = self.failed.saturating_add(1);
                    self.failed_at = Some(at);
                }
            }
        }
    }

    fn orders(&self) -> u64 {
        u64::from(self.done) + u64::from(self.failed)
    }

    /// Whether it is clear that it delivers less than it promises.
    pub(crate) fn breaks_promise(&self, promised: Option<Percent>) -> bool {
        let whole = u64::from(Percent::WHOLE.millionths());
        let allowed = promised.map_or(MISSED_UNPROMISED, |promised| whole - u64::from(promised.millionths()));
        let over = self.watched_us.max(micros(PROMISED_OVER));
        let most = u128::from(over) * u128::from(allowed + allowed.max(MISSED_MORE)) / u128::from(whole);
        self.watched_us >= micros(WATCHED_MIN) && u128::from(self.missed_us) > most
    }

    /// Whether its orders fail much more often than those of `others` do.
    pub(crate) fn fails_more<'a>(&self, others: impl Iterator<Item = &'a Self>) -> bool {
        let (failed, all) = others.fold((0_u128, 0_u128), |(failed, all), other| {
            (failed + u128::from(other.failed), all + u128::from(other.orders()))
        });
        let (failed_of_others, others) = if all == 0 { (0, 1) } else { (failed, all) };
        let (failed, all) = (u128::from(self.failed), u128::from(self.orders()));
        let more = u128::from(FAILED_MORE);
        // failed / all > failed_of_others / others + 1 / more, in whole numbers.
        all >= u128::from(ORDERS_MIN) && more * failed * others > (more * failed_of_others + others) * all
    }

    /// For who chooses; `None` if nothing was seen.
    pub fn delivered(&self) -> Option<Delivered> {
        if self.watched_us == 0 && self.orders() == 0 {
            return None;
        }
        let share = |whole: u64| {
            let worked = u128::from(whole - self.missed_us.min(whole));
            let millionths = worked * u128::from(Percent::WHOLE.millionths()) / u128::from(whole);
            u32::try_from(millionths).ok().and_then(Percent::from_millionths)
        };
        Some(Delivered {
            availability: if self.watched_us == 0 { None } else { share(self.watched_us) },
            watched_ms: self.watched_us / 1000,
            missed_ms: self.missed_us / 1000,
            orders_done: self.done,
            orders_failed: self.failed,
            provision_ms: self.making_us.checked_div(u64::from(self.made)).map(|us| us / 1000),
        })
    }
}

/// An instance of the provider's is seen otherwise than before.
pub(crate) fn see(
    evidence: &mut BTreeMap<ProviderName, Evidence>,
    provider: &ProviderName,
    before: Option<Seen>,
    after: Option<Seen>,
    at: Timestamp,
) {
    evidence.entry(provider.clone()).or_insert_with(|| Evidence::new(at)).see(before, after, at);
}

impl ServiceKnowledge {
    /// Whose doing it is whether the instance works: nobody's where it runs the buyer's own program.
    pub(crate) fn answers_for<'a>(&'a self, instance: &'a Instance) -> Option<&'a ProviderName> {
        self.placement_of(instance).filter(|_| self.spec.run.is_empty()).map(|placement| &placement.provider)
    }
}

impl Knowledge {
    /// The needs of the service that have no ready instance, or to which it is not bound.
    pub(crate) fn missing_needs(&self, service: &ServiceKnowledge) -> Vec<ServiceName> {
        let is_there = |need: &ServiceName| {
            service.bindings.get(need).is_some_and(|binding| binding.state == BindingState::Made)
                && self.services.get(need).is_some_and(|needed| needed.ready > 0)
        };
        service.spec.needs.iter().filter(|need| !is_there(need)).cloned().collect()
    }

    /// An order has ended: what came of it is evidence, if it was one to a provider.
    pub(crate) fn weigh(&mut self, command: &Command, outcome: &Outcome, at: Timestamp) {
        self.hear(command, outcome, at);
        let is_order = matches!(
            command,
            Command::Provision { .. }
                | Command::Update { .. }
                | Command::Bind { .. }
                | Command::Unbind { .. }
                | Command::Deprovision { .. }
        );
        let Some(service) = self.services.get(command.at_service()).filter(|_| is_order) else { return };
        let Some(instance) = command.at_instance().and_then(|id| service.instances.get(&id.number())) else { return };
        let Some(provider) = service.answers_for(instance) else { return };
        if self.drill.is_some() && self.drilled_provider() == Some(provider) {
            return; // a drill has it so that orders fail, or makes them take longer
        }
        let evidence = self.evidence.entry(provider.clone()).or_insert_with(|| Evidence::new(at));
        evidence.end(outcome, at);
        if let (Command::Provision { .. }, Outcome::Done) = (command, outcome) {
            evidence.made = evidence.made.saturating_add(1);
            // It was asked for when it last changed for people.
            evidence.making_us = evidence.making_us.saturating_add(micros(at.since(instance.since)));
        }
    }

    /// What a provider elsewhere answers, or that it does not.
    fn hear(&mut self, command: &Command, outcome: &Outcome, at: Timestamp) {
        let Some(service) = self.services.get(command.at_service()).filter(|service| self.is_unrepeatable(service))
        else {
            return;
        };
        let Some(placement) = service.placement.as_ref().filter(|_| command.is_asked_of_provider()) else { return };
        let unheard = match outcome {
            Outcome::Failed(failure) => match failure.class {
                FailureClass::Temporary | FailureClass::InDoubt => true,
                // It has answered, or nobody knows.
                FailureClass::NeedsPerson | FailureClass::LeftBehind | FailureClass::Unclear => false,
                FailureClass::Interrupted => return,
            },
            Outcome::Observed(Observation::NotSeen { .. }) => return,
            _ => false,
        };
        let evidence = self.evidence.entry(placement.provider.clone()).or_insert_with(|| Evidence::new(at));
        evidence.unheard_since = unheard.then(|| evidence.unheard_since.unwrap_or(at));
    }

    /// Ostler comes back: of the time since the newest fact nothing is known, and nothing has happened in the future.
    pub(crate) fn pass_over(&mut self, at: Timestamp) {
        self.latest = at;
        for evidence in self.evidence.values_mut() {
            evidence.counted = at;
            evidence.halved = evidence.halved.min(at);
            evidence.failed_at = evidence.failed_at.map(|failed_at| failed_at.min(at));
            evidence.unheard_since = None; // that was before: it is asked again
        }
    }

    /// Changes what it depends on whose doing it is whether the service's instances work.
    pub(crate) fn reassign(&mut self, name: &ServiceName, change: impl FnOnce(&mut ServiceKnowledge)) {
        let Some(service) = self.services.get_mut(name) else { return };
        let seen = |service: &ServiceKnowledge| -> Vec<(Option<ProviderName>, Seen)> {
            let of = |instance: &Instance| Some((service.answers_for(instance).cloned(), Seen::of(instance)?));
            service.instances.values().filter_map(|instance| of(instance)).collect()
        };
        let before = seen(service);
        change(service);
        let after = seen(service);
        if before == after {
            return;
        }
        let former = before.into_iter().map(|(provider, seen)| (provider, Some(seen), None));
        let new = after.into_iter().map(|(provider, seen)| (provider, None, Some(seen)));
        for (provider, before, after) in former.chain(new) {
            if let Some(provider) = provider {
                see(&mut self.evidence, &provider, before, after, self.latest);
            }
        }
    }
}

fn micros(length: Duration) -> u64 {
    u64::try_from(length.as_micros()).unwrap_or(u64::MAX)
}
