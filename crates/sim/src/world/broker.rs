//! A broker: what it does with a request and answers, with all the ways in which that goes wrong. What an answer means
//! is read from the table that the real provider reads it from.
//!
//! Invariant: a request has at most one effect, at once or later; what a broker agreed to goes on without anybody.

use std::sync::Arc;
use std::time::Duration;

use ostler_manager::Event;
use ostler_model::catalog::Catalog;
use ostler_model::ids::{AttemptId, InstanceId, ProviderName};
use ostler_providers::osb::verdict::{self, Asked, Body, Goal, Reply, Verdict};
use serde_json::{Value, json};

use super::bought::{Credential, Plan, State, Thing};
use super::orders::Order;
use super::{Happening, World};
use crate::act::Spoil;
use crate::dice::{Concern, key};
use crate::mutant::Mutant;
use crate::sketch::{Kind, Manners};
use crate::witness::RENEWED_WITHIN;

/// What becomes of a request on its way, and of its answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fate {
    /// It does not get there.
    NotSent,
    /// It is done or refused as it should be, and answered.
    Works,
    /// No answer comes, whether it was done or not.
    NoAnswer { done: bool },
    /// No answer comes, and it is done long after.
    Late,
    /// It is answered like this, whether it was done or not.
    Answers { done: bool, status: u16 },
    /// It is done, and the answer cannot be read.
    Garbled,
}

/// What a broker says of the request: the status and the body.
pub(super) type Said = (u16, Value);

const MINUTE: Duration = Duration::from_secs(60);
/// What was asked for appears within a day, or never does: that is what the manager relies on, and no broker is known to
/// take longer. With room for what it takes until the manager begins to count.
pub(super) const APPEARS: (Duration, Duration) = (MINUTE, Duration::from_secs(20 * 3600));
/// A person has a provider look at what is broken: it is repaired after this time, at least and at most.
const REPAIRED: (Duration, Duration) = (MINUTE, Duration::from_secs(600));

impl World {
    pub(super) fn manners(&self, provider: &ProviderName) -> Manners {
        self.town.manners.get(provider).copied().unwrap_or_default()
    }

    /// Draws what becomes of the order's next request.
    pub(super) fn fate(&mut self, order: &mut Order) -> Fate {
        let Some(at) = &mut order.bought else { return Fate::NotSent };
        at.requests += 1;
        let number = order.id.0 << 8 | u64::from(at.requests);
        let mut draw = self.dice.stream(Concern::Leftovers, key(&[at.provider.as_str()], number));
        let Some(provider) = self.truth.providers.get(&at.provider) else { return Fate::NotSent };
        if provider.out > 0 {
            return Fate::NotSent;
        }
        if provider.partition > 0 {
            return if draw.chance(500) { Fate::NotSent } else { Fate::NoAnswer { done: draw.chance(500) } };
        }
        if provider.control_out > 0 {
            return Fate::Answers { done: draw.chance(250), status: 503 };
        }
        if at.requests > 1 {
            return Fate::Works; // only the first one goes wrong
        }
        match order.spoil {
            None | Some(Spoil::Twice | Spoil::Slow) => Fate::Works,
            // Agreed to first, as far as the broker does anything later.
            Some(Spoil::AcceptsAndFails | Spoil::NeverFinishes) if at.later.is_some() => Fate::Works,
            Some(Spoil::Fails | Spoil::AcceptsAndFails) => Fate::Answers { done: false, status: 500 },
            Some(Spoil::FailsThoughDone) => Fate::Answers { done: true, status: 500 },
            Some(Spoil::Refuses) => Fate::Answers { done: false, status: 400 },
            Some(Spoil::Busy) => Fate::Answers { done: false, status: 429 },
            Some(Spoil::Conflicts) => Fate::Answers { done: draw.chance(500), status: 409 },
            Some(Spoil::NoAnswerThoughDone | Spoil::NeverFinishes) => Fate::NoAnswer { done: true },
            Some(Spoil::NoAnswer) => Fate::NoAnswer { done: false },
            Some(Spoil::AppearsLate) => Fate::Late,
            Some(Spoil::SaysAbsent | Spoil::SaysStopped) => Fate::Garbled,
        }
    }

    /// What the answer to a request means that is to change something; `act` is what the broker does with it.
    pub(super) fn answered(&mut self, fate: Fate, goal: Goal, act: impl FnOnce(&mut Self) -> Said) -> Verdict {
        let asked = Asked::For(goal);
        let reply = match fate {
            Fate::NotSent => Reply::NotSent("connection refused".to_owned()),
            Fate::Works => reply(act(self)),
            Fate::NoAnswer { done } => {
                if done {
                    act(self);
                }
                Reply::NoAnswer("no answer in time".to_owned())
            }
            Fate::Late => Reply::NoAnswer("no answer in time".to_owned()),
            Fate::Answers { done, status } => {
                if done {
                    act(self);
                }
                // Only what makes something can be in conflict with what is there.
                match (status, goal) {
                    (409, Goal::Update | Goal::Deprovision | Goal::Unbind) => reply(busy()),
                    _ => reply((status, json!({}))),
                }
            }
            Fate::Garbled => {
                act(self);
                garbled()
            }
        };
        verdict::read(asked, reply)
    }

    /// What the answer to a question means; `said` is what the broker answers when all is well.
    pub(super) fn question(&mut self, order: &mut Order, asked: Asked, said: impl FnOnce(&Self) -> Said) -> Verdict {
        let reply = match self.fate(order) {
            Fate::NotSent => Reply::NotSent("connection refused".to_owned()),
            Fate::Works | Fate::Late => reply(said(self)),
            Fate::NoAnswer { .. } => Reply::NoAnswer("no answer in time".to_owned()),
            Fate::Answers { status: 400, .. } => reply((403, json!({}))), // refused is who asks
            Fate::Answers { status: 409, .. } => reply(said(self)),
            Fate::Answers { status, .. } => reply((status, json!({}))),
            Fate::Garbled => garbled(),
        };
        verdict::read(asked, reply)
    }

    /// What there is under a name.
    pub(super) fn fetched(&self, name: &AttemptId) -> Said {
        match self.truth.bought.things.get(name).map(|thing| thing.state) {
            Some(State::There | State::Deleting { .. }) => (200, json!({})),
            Some(State::Making { .. } | State::Failed) | None => (404, json!({})),
        }
    }

    /// How far it has come with what it agreed to.
    pub(super) fn last_operation(&self, name: &AttemptId, goal: Goal) -> Said {
        let state = |state: &str| (200, json!({ "state": state }));
        let deletes = goal == Goal::Deprovision;
        match self.truth.bought.things.get(name).map(|thing| thing.state) {
            Some(State::Making { .. } | State::Deleting { .. }) => state("in progress"),
            Some(State::There) => state(if deletes { "failed" } else { "succeeded" }),
            Some(State::Failed) => state("failed"),
            None if deletes => (410, json!({})),
            None => (404, json!({})),
        }
    }

    /// Makes an instance under this name, at once or later.
    pub(super) fn create(&mut self, name: &AttemptId, order: &Order) -> Said {
        let Some(at) = &order.bought else { return (400, json!({})) };
        if self.truth.is_vanished(&at.provider, &at.plan) {
            return (400, json!({ "description": "there is no such plan" }));
        }
        match at.later {
            Some(later) => {
                let (until, fails) = (self.now + later, order.spoil == Some(Spoil::AcceptsAndFails));
                let thing = Thing::new(at.provider.clone(), at.plan.clone(), State::Making { until, fails });
                self.truth.bought.things.insert(name.clone(), thing);
                self.after(later, Happening::Completes(name.clone()));
                (202, json!({ "operation": "create" }))
            }
            None => {
                let thing = Thing::new(at.provider.clone(), at.plan.clone(), State::There);
                self.truth.bought.things.insert(name.clone(), thing);
                self.is_there(name);
                (201, json!({}))
            }
        }
    }

    /// An instance is complete: its provider runs it.
    fn is_there(&mut self, name: &AttemptId) {
        if let Some(thing) = self.truth.bought.things.get_mut(name) {
            thing.state = State::There;
        }
        if self.mutant == Some(Mutant::MakesOrphans) {
            let other = AttemptId { instance: name.instance.clone(), attempt: name.attempt + 1000 };
            if let Some(thing) = self.truth.bought.things.get(name).cloned() {
                self.truth.bought.things.insert(other, thing);
            }
        }
        self.judge_what_exists();
        let address = self.truth.free_address();
        let is_current = |truth: &super::truth::InstanceTruth| truth.asked == Some(name.attempt);
        let Some(truth) = self.truth.instances.get_mut(&name.instance).filter(|truth| is_current(truth)) else {
            return;
        };
        truth.made = true;
        truth.lost = false;
        truth.times_made += 1;
        truth.held = super::data::Held::default();
        truth.address = address;
        truth.process = None;
        self.start_process(&name.instance);
    }

    /// What was asked for long ago is made now.
    pub(super) fn appears(&mut self, name: &AttemptId, provider: &ProviderName, plan: &Plan) {
        self.truth.bought.things.insert(name.clone(), Thing::new(provider.clone(), plan.clone(), State::There));
        self.is_there(name);
    }

    /// What the broker agreed to is over.
    pub(super) fn completes(&mut self, name: &AttemptId) {
        let Some(thing) = self.truth.bought.things.get_mut(name) else { return };
        if self.truth.providers.get(&thing.provider).is_some_and(|provider| provider.out > 0) {
            return self.after(MINUTE, Happening::Completes(name.clone()));
        }
        match thing.state {
            State::Making { fails: true, .. } => thing.state = State::Failed,
            State::Making { fails: false, .. } => self.is_there(name),
            State::Deleting { fails: true, .. } => {
                thing.state = State::There;
                self.heals_after(&name.instance, MINUTE);
            }
            State::Deleting { fails: false, .. } => self.is_gone(name),
            State::There | State::Failed => {}
        }
    }

    /// Deletes an instance with all its credentials, at once or later.
    pub(super) fn delete(&mut self, name: &AttemptId, order: &Order) -> Said {
        let later = order.bought.as_ref().and_then(|at| at.later);
        let Some(thing) = self.truth.bought.things.get_mut(name) else { return (410, json!({})) };
        if matches!(thing.state, State::Making { .. } | State::Deleting { .. }) {
            return busy();
        }
        let used = thing.used;
        let until = later.map(|later| self.now + later);
        if let Some(until) = until {
            thing.state = State::Deleting { until, fails: order.spoil == Some(Spoil::AcceptsAndFails) };
        }
        self.witness.deleted_at_broker(name, used, self.now);
        match later {
            Some(later) => {
                self.stops(name);
                self.after(later, Happening::Completes(name.clone()));
                (202, json!({ "operation": "delete" }))
            }
            None => {
                self.is_gone(name);
                (200, json!({}))
            }
        }
    }

    /// It runs no more.
    fn stops(&mut self, name: &AttemptId) {
        let is_current = |truth: &super::truth::InstanceTruth| truth.asked == Some(name.attempt);
        if let Some(truth) = self.truth.instances.get_mut(&name.instance).filter(|truth| is_current(truth)) {
            truth.made = false;
            truth.process = None;
            self.refresh_because(&name.instance, "deleted");
        }
    }

    fn is_gone(&mut self, name: &AttemptId) {
        self.stops(name);
        for credential in self.truth.bought.remove(name) {
            self.ends(&credential);
        }
    }

    /// Makes credentials, if the instance answers.
    pub(super) fn bind(&mut self, credential: &Credential, provider: &ProviderName) -> Said {
        if !self.truth.bought.is_there(&credential.at) {
            return (404, json!({}));
        }
        if !self.truth.serves(&credential.at.instance, self.now) {
            return (500, json!({ "description": "the instance does not answer" }));
        }
        let ends_after = self.manners(provider).ends_after.filter(|_| !self.is_calm);
        let ends_after = ends_after.map(|minutes| Duration::from_secs(minutes * 60));
        if let Some(ends_after) = ends_after {
            self.after(ends_after, Happening::Expires(credential.clone()));
        }
        let ends = ends_after.map(|ends_after| self.now + ends_after);
        self.truth.bought.credentials.insert(credential.clone(), ends);
        self.judge_what_exists();
        (201, json!({ "credentials": {} }))
    }

    /// Ends credentials.
    pub(super) fn unbind(&mut self, credential: &Credential, provider: &ProviderName) -> Said {
        if self.truth.providers.get(provider).is_some_and(|provider| provider.unbind_refused > 0) {
            return (400, json!({ "description": "this cannot be unbound" }));
        }
        // Somebody asked for them, does not wait for the answer any more, and they are being made.
        if self.orders.asks_for(credential) {
            return busy();
        }
        if self.truth.bought.credentials.remove(credential).is_none() {
            return (410, json!({}));
        }
        self.ends(credential);
        (200, json!({}))
    }

    /// Credentials end because somebody asked for that.
    fn ends(&mut self, credential: &Credential) {
        // What a provider lied about may run although ostler was told that it does not.
        if let Some(user) = self.truth.user_of(credential).filter(|_| !self.lied) {
            self.witness.ended_in_use(credential, &user, self.now);
        }
    }

    /// Credentials end by themselves: nothing that is to run uses them any more.
    pub(super) fn expires(&mut self, credential: &Credential) {
        if self.truth.bought.credentials.remove(credential).is_none() {
            return;
        }
        let Some(ostler) = &self.ostler else { return };
        let Some(user) = self.truth.user_of(credential) else { return };
        let known = ostler.knowledge();
        // A clock that is wrong cannot tell when anything ends.
        let told_the_time = self.skew.unsigned_abs() < 60_000_000 && self.slowed_until < self.now - MINUTE;
        let serves = self.truth.serves(&credential.at.instance, self.now);
        let was_up = self.started_at + RENEWED_WITHIN < self.now;
        if told_the_time && serves && was_up && !self.lied {
            self.witness.expired_in_use(credential, &user, known, self.now);
        }
    }

    /// Whatever exists at brokers is known.
    pub(super) fn judge_what_exists(&mut self) {
        if let Some(ostler) = &self.ostler {
            self.witness.look_at_bought(ostler.knowledge(), &self.truth, self.now);
        }
    }

    /// Its provider starts it again after this time.
    pub(super) fn heals_after(&mut self, id: &InstanceId, time: Duration) {
        self.after(time, Happening::SelfHeals(id.clone()));
    }

    /// A person has a provider look at what is broken there and stays broken.
    pub(super) fn complain(&mut self, id: &InstanceId) {
        let heals = self.draw(Concern::People, id).duration(REPAIRED.0, REPAIRED.1);
        self.heals_after(id, heals);
    }

    /// A person has the providers look at what is broken at brokers, as far as they are told of it. What its provider knows
    /// of is healed without anybody.
    pub(super) fn have_repaired(&mut self, told: impl Fn(&InstanceId) -> bool) {
        let truths = self.truth.instances.iter();
        let fails = truths.filter(|(id, truth)| {
            let never_ready = truth.process.as_ref().is_some_and(|process| process.ready_at.0 == i64::MAX);
            truth.kind == Kind::Broker && truth.made && (truth.broken || never_ready) && told(id)
        });
        let failing: Vec<InstanceId> = fails.map(|(id, _)| id.clone()).collect();
        for id in failing {
            self.complain(&id);
        }
    }

    /// The storm is over, also for the providers: whatever they still have to heal they heal.
    pub(super) fn brokers_recover(&mut self) {
        let truths = self.truth.instances.iter().filter(|(_, truth)| truth.kind == Kind::Broker && truth.made);
        let ids: Vec<InstanceId> = truths.map(|(id, _)| id.clone()).collect();
        for id in ids {
            self.complain(&id);
        }
    }

    /// Ostler reads what the provider offers now, as it does from time to time.
    pub(super) fn read_catalog(&mut self, provider: &str) {
        let Ok(provider) = provider.parse::<ProviderName>() else { return };
        if let Some(catalog) = self.catalog(&provider).filter(|_| self.ostler.is_some()) {
            self.inbox.push_back(Event::CatalogRead { provider, catalog }.into());
        }
    }

    pub(super) fn read_all_catalogs(&mut self) {
        let brokers = self.town.kinds.iter().filter(|(_, kind)| **kind == Kind::Broker);
        let names: Vec<String> = brokers.map(|(name, _)| name.to_string()).collect();
        for name in names {
            self.read_catalog(&name);
        }
    }

    /// What the provider offers now.
    pub(super) fn catalog(&self, provider: &ProviderName) -> Option<Arc<Catalog>> {
        let catalog = self.town.catalogs.get(provider)?;
        let vanishing = self.truth.providers.get(provider).filter(|provider| provider.plan_gone > 0);
        let Some(vanishing) = vanishing.map(|provider| &provider.vanishing) else { return Some(catalog.clone()) };
        let mut left = Catalog::clone(catalog);
        for (name, offering) in &mut left.offerings {
            offering.plans.retain(|plan| !vanishing.contains(&(name.clone(), plan.name.clone())));
        }
        left.offerings.retain(|_, offering| !offering.plans.is_empty());
        Some(Arc::new(left))
    }
}

fn reply((status, body): Said) -> Reply {
    let body = match body {
        Value::Object(object) => Body::Object(object),
        _ => Body::Malformed("it is no object".to_owned()),
    };
    Reply::Answer { status, body }
}

fn garbled() -> Reply {
    Reply::Answer { status: 200, body: Body::Malformed("it ends too early".to_owned()) }
}

/// Something is being done to it already (specification, "Blocking Operations").
fn busy() -> Said {
    (422, json!({ "error": "ConcurrencyError" }))
}
