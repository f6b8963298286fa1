//! What to do about an event, and why.
//!
//! `decide` looks at one event and what is known; where something else has to be looked at once its facts are true, it
//! says so, and [`take`] follows up within the same turn. Deciding is always done from the full state, never from the
//! hint that woke it.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use ostler_model::estate::Occasion;
use ostler_model::ids::{CommandId, ServiceName};
use ostler_model::time::{Timestamp, in_words};

use crate::agenda::Waits;
use crate::command::Command;
use crate::event::{Event, Scope};
use crate::evolve::evolve;
use crate::fact::{Fact, FactKind};
use crate::knowledge::{Knowledge, OperationKind};
use crate::reconcile;

mod asked;
mod drill;
mod failover;
mod heard;
mod overrides;
mod sold;
mod upgrade;
mod vault;

pub(crate) use self::drill::{Aimed, declared as declared_drills, drill_hits};
pub(crate) use self::heard::HEALED_TOLD_EVERY;

/// What is to be stored, done, looked at again, and what was held back.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[must_use = "a decision that nobody reads heals nothing"]
pub struct Decision {
    /// To be stored, in this order, before any command is carried out.
    pub facts: Vec<Fact>,
    /// To be carried out.
    pub commands: Vec<(CommandId, Command)>,
    /// What was not done, and why.
    pub withheld: Vec<Withheld>,
    /// To be looked at again as soon as the facts are true.
    pub look: Vec<Scope>,
    /// To be looked at again at a time. The earliest for a scope is enough: a look asks for the next by itself.
    pub wake: Vec<(Timestamp, Scope)>,
}

/// Something that was not done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Withheld {
    /// To what.
    pub scope: Scope,
    /// Why.
    pub reason: Reason,
}

/// Why something was not done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reason {
    /// Something else is being done to it.
    UnderWay(OperationKind),
    /// These needs are not there yet.
    WaitsFor(Vec<ServiceName>),
    /// It is left alone until then.
    BackingOff(Timestamp),
    /// So many instances are under repair already, and no more may be.
    RepairsAtOnce(usize),
    /// It waits for a person.
    Held(String),
    /// Others still use it.
    StillUsed,
    /// Others of its service are being replaced, and no more may be.
    OthersFirst,
    /// It can be neither restarted nor made anew here: its provider has to heal it.
    ProvidersTurn,
    /// So many remedies began lately that the next one has to wait until then.
    TooManyRemedies(Timestamp),
    /// What was tried is given until then to help.
    Settling(&'static str, Timestamp),
    /// Ostler's own view is the likelier fault: nothing is done because of it.
    OwnView,
    /// The new credentials of a need are not proven yet to be as good as those in use.
    NotProven(ServiceName),
    /// Its upgrade waits for something.
    UpgradeWaits(Waits),
    /// What was upgraded is watched until then before anything more is.
    Soaks(Timestamp),
    /// A person says otherwise: in words, whose word it is.
    Overridden(String),
    /// What was asked makes no sense here.
    Refused(String),
}

impl Reason {
    /// In words, as the end of "waits: …".
    pub fn in_words(&self, now: Timestamp) -> String {
        match self {
            Self::UnderWay(kind) => match kind {
                OperationKind::Provision => "it is being made".to_owned(),
                OperationKind::Observe => "it is being looked at".to_owned(),
                OperationKind::Before => "its one-off command runs".to_owned(),
                OperationKind::Start => "it is being started".to_owned(),
                OperationKind::Stop => "it is being stopped".to_owned(),
                OperationKind::Deprovision => "it is being deleted".to_owned(),
                OperationKind::Bind => "a consumer is being bound to it".to_owned(),
                OperationKind::Backup => "its data is being backed up".to_owned(),
                OperationKind::Restore => "its data is being restored".to_owned(),
                OperationKind::Update => "it is being updated".to_owned(),
                OperationKind::Prove => "it is being looked at as its consumers see it".to_owned(),
            },
            Self::WaitsFor(needs) => {
                let names: Vec<&str> = needs.iter().map(ServiceName::as_str).collect();
                format!("it needs {}", names.join(" and "))
            }
            Self::BackingOff(until) => format!("it is tried again in {}", in_words(until.since(now))),
            Self::RepairsAtOnce(most) => format!("{most} under repair already, and no more may be at once"),
            Self::Held(question) => format!("a person must answer: {question}"),
            Self::StillUsed => "others still use it".to_owned(),
            Self::OthersFirst => "others of its service are being replaced first".to_owned(),
            Self::ProvidersTurn => "its provider has to heal it".to_owned(),
            Self::TooManyRemedies(until) => {
                format!("so much was repaired lately that it has to wait for {}", in_words(until.since(now)))
            }
            Self::Settling(remedy, until) => {
                format!("tried now: {remedy}; in {} it is seen whether that helped", in_words(until.since(now)))
            }
            Self::OwnView => "ostler's own view is the likelier fault, and nothing is done because of it".to_owned(),
            Self::NotProven(need) => {
                format!("new credentials of {need} are not proven yet to be as good as those in use")
            }
            Self::UpgradeWaits(waits) => waits.in_words(now),
            Self::Soaks(until) => format!("what was upgraded is watched for {} more", in_words(until.since(now))),
            Self::Refused(why) | Self::Overridden(why) => why.clone(),
        }
    }
}

/// How often one scope is looked at within one turn before ostler takes a breath: a guard against an endless turn, far
/// above what any honest sequence needs (a new service takes about eight).
const LOOKS_MAX: u32 = 64;

/// Decides about `event`, makes the facts true, and follows up until nothing more has to be looked at.
pub fn take(known: &mut Knowledge, event: &Event, now: Timestamp) -> Decision {
    let mut all = Decision::default();
    let mut waiting = VecDeque::new();
    let mut in_line = BTreeSet::new();
    let mut looks: BTreeMap<Scope, u32> = BTreeMap::new();
    let mut decision = decide(known, event, now);
    let mut has_begun = false;
    loop {
        for fact in &decision.facts {
            evolve(known, fact);
        }
        // Whatever happened: whose end has come is ended, before anything more is decided. That has counted for the first
        // decision as well, which was told the time.
        if !std::mem::replace(&mut has_begun, true) {
            let mut ended = overrides::end_expired(known, now);
            ended.facts.iter().for_each(|fact| evolve(known, fact));
            decision.facts.append(&mut ended.facts);
            decision.look.append(&mut ended.look);
        }
        for scope in decision.look.drain(..) {
            if in_line.insert(scope.clone()) {
                waiting.push_back(scope);
            }
        }
        all.facts.append(&mut decision.facts);
        all.commands.append(&mut decision.commands);
        all.withheld.append(&mut decision.withheld);
        all.wake.append(&mut decision.wake);
        let Some(scope) = waiting.pop_front() else {
            if !known.agenda_is_old {
                return all;
            }
            // Once everything else is as it will be: what is newer, and what of it can be put to use.
            let mut draft = Draft::new(known, now);
            reconcile::look_for_newer(&mut draft);
            decision = draft.decision;
            continue;
        };
        in_line.remove(&scope);
        let count = looks.entry(scope.clone()).or_default();
        *count += 1;
        if *count > LOOKS_MAX {
            all.wake.push((now + Duration::from_secs(1), scope));
            continue;
        }
        decision = decide(known, &Event::Look(scope), now);
    }
}

/// What to do about one event, and why. Pure: the same arguments give the same decision.
pub fn decide(known: &Knowledge, event: &Event, now: Timestamp) -> Decision {
    let mut draft = Draft::new(known, now);
    match event {
        Event::Resumed { cause, uuid } => {
            if known.uuid.is_none() {
                draft.fact(FactKind::EstateFounded { uuid: *uuid });
            }
            draft.fact(FactKind::Resumed { cause: *cause });
            draft.look_at_all();
        }
        Event::LossAccepted { acknowledged } => draft.fact(FactKind::LossAccepted { acknowledged: *acknowledged }),
        Event::SelfUpgrade { from, to, step } => {
            draft.fact(FactKind::SelfUpgrade { from: from.clone(), to: to.clone(), step: step.clone() });
        }
        Event::EstateGiven { estate, catalogs } => draft.estate_given(estate, catalogs),
        Event::CatalogRead { provider, catalog } => draft.catalog_read(provider, catalog),
        Event::Asked(ask) => draft.asked(ask),
        Event::Ended { id, outcome } => draft.ended(*id, outcome),
        Event::Accepted { id, operation } => {
            if let Some(command) = known.commands.get(id) {
                draft.fact(FactKind::CommandAccepted { id: *id, operation: operation.clone() });
                // What goes on without ostler keeps nothing else of its service waiting.
                draft.look(Scope::Service(command.at_service().clone()));
            }
        }
        Event::Probed { instance, watch, health } => draft.probed(instance, *watch, health),
        Event::Died { instance, pid, exit, at, reflex } => draft.died(instance, *pid, *exit, *at, reflex),
        Event::CallersAffected { service, from, until, waited, failed, longest } => {
            if known.services.contains_key(service) {
                draft.fact(FactKind::CallersAffected {
                    service: service.clone(),
                    from: *from,
                    until: *until,
                    waited: *waited,
                    failed: *failed,
                    longest: *longest,
                });
            }
        }
        Event::Served { service, traffic } => {
            if known.services.get(service).is_some_and(|service| service.level.is_some()) {
                draft.fact(FactKind::TrafficMeasured { service: service.clone(), traffic: *traffic });
                draft.look(Scope::Service(service.clone()));
            }
        }
        Event::Carried { service, since, bytes_in, bytes_out } => {
            if known.services.contains_key(service) {
                let (service, since, bytes_in, bytes_out) = (service.clone(), *since, *bytes_in, *bytes_out);
                draft.fact(FactKind::TrafficCounted { service, since, bytes_in, bytes_out });
            }
        }
        Event::Verified { binding, revision, checks } => {
            let known = known.services.get(&binding.consumer).and_then(|consumer| consumer.bindings.get(&binding.need));
            if known.is_some() {
                let (binding, revision, checks) = (binding.clone(), *revision, checks.clone());
                let consumer = Scope::Service(binding.consumer.clone());
                draft.fact(FactKind::NeedVerified { binding, revision, checks });
                draft.look(consumer);
            }
        }
        Event::Look(scope) => reconcile::look(&mut draft, scope),
    }
    draft.look_at_upgrade(event);
    draft.decision
}

/// A decision in the making.
pub(crate) struct Draft<'a> {
    pub(crate) known: &'a Knowledge,
    pub(crate) now: Timestamp,
    pub(crate) decision: Decision,
    last_command: CommandId,
}

impl<'a> Draft<'a> {
    fn new(known: &'a Knowledge, now: Timestamp) -> Self {
        Self { known, now, decision: Decision::default(), last_command: known.last_command }
    }

    pub(crate) fn fact(&mut self, kind: FactKind) {
        self.decision.facts.push(Fact { at: self.now, kind });
    }

    pub(crate) fn command(&mut self, command: Command) {
        self.last_command = CommandId(self.last_command.0 + 1);
        self.fact(FactKind::CommandIssued { id: self.last_command, command: command.clone() });
        self.decision.commands.push((self.last_command, command));
    }

    pub(crate) fn withhold(&mut self, scope: Scope, reason: Reason) {
        self.decision.withheld.push(Withheld { scope, reason });
    }

    pub(crate) fn look(&mut self, scope: Scope) {
        // What a drill has shown is decided with the service that is drilled, wherever something of it was seen.
        let drill = self.known.drill.as_deref().map(|drilling| &drilling.drill);
        if let Some(drill) = drill.filter(|drill| drill.binding().is_some_and(|it| it.consumer == *scope.service())) {
            self.decision.look.push(Scope::Service(drill.service.clone()));
        }
        self.decision.look.push(scope); // `take` sees to it that nothing waits in line twice
    }

    pub(crate) fn wake(&mut self, at: Timestamp, scope: Scope) {
        self.decision.wake.push((at, scope));
    }

    /// Notifies, and records that it did.
    pub(crate) fn tell(&mut self, service: &ServiceName, occasion: Occasion, message: String) {
        self.fact(FactKind::Told { service: service.clone(), occasion });
        self.command(Command::Notify { service: service.clone(), occasion, message });
    }

    /// Whatever is heard of a service that is being upgraded, or could be, may be what that waits for.
    fn look_at_upgrade(&mut self, event: &Event) {
        let service = match event {
            _ if self.known.upgrading.is_empty() && self.known.agenda.steps.is_empty() => None,
            Event::Ended { id, .. } => self.known.commands.get(id).map(Command::at_service),
            Event::Probed { instance, .. } | Event::Died { instance, .. } => Some(instance.service()),
            Event::Verified { binding, .. } => Some(&binding.need),
            Event::Served { service, .. } => Some(service),
            Event::Resumed { .. }
            | Event::LossAccepted { .. }
            | Event::EstateGiven { .. }
            | Event::CatalogRead { .. }
            | Event::Asked(_)
            | Event::Accepted { .. }
            | Event::CallersAffected { .. }
            | Event::Carried { .. }
            | Event::SelfUpgrade { .. }
            | Event::Look(_) => None,
        };
        let (known, agenda) = (self.known, &self.known.agenda);
        let is_meant = |service: &&ServiceName| known.upgrading.contains(*service) || agenda.step_of(service).is_some();
        if let Some(service) = service.filter(is_meant) {
            self.look(Scope::Service(service.clone()));
        }
    }

    /// Everybody who uses the service: what they wait for may be there now.
    pub(crate) fn look_at_consumers(&mut self, service: &ServiceName) {
        let consumers = self.known.consumers.get(service).into_iter().flatten().cloned();
        self.decision.look.extend(consumers.map(Scope::Service));
    }

    fn look_at_all(&mut self) {
        self.decision.look.extend(self.known.services.keys().cloned().map(Scope::Service));
    }

    fn refuse(&mut self, service: &ServiceName, why: impl Into<String>) {
        self.withhold(Scope::Service(service.clone()), Reason::Refused(why.into()));
    }
}
