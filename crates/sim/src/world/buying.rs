//! Orders to brokers: what is asked for under which name, and what the manager is told of the answer. What is asked is
//! put together by the server's own code (`runtime::orders`), and answers are read as the real provider reads them.
//!
//! Invariant: after something was asked for, no failure means that nothing was made, unless the table of answers says so.

use std::time::Duration;

use ostler_journal::{ReadError, SealedChange, SecretValue};
use ostler_manager::{Command, Event, Outcome, Started, Target};
use ostler_model::ids::{AttemptId, BindingId, CommandId, InstanceId, ProviderName, SecretId};
use ostler_model::outcome::{Failure, FailureClass, Observation, Running};
use ostler_model::time::Timestamp;
use ostler_providers::osb::verdict::{Asked, Goal, Verdict};
use ostler_providers::{AcceptedKind, Asks};
use ostler_runtime::orders::order_for;
use ostler_runtime::turn::{Incoming, Secrets};

use super::bought::{Credential, Plan};
use super::broker::Fate;
use super::orders::{Order, failure};
use super::{Happening, World};
use crate::act::Spoil;
use crate::dice::Concern;
use crate::mutant::Mutant;
use crate::promise::Promise;

/// What makes an order one to a broker.
#[derive(Clone, Debug)]
pub(super) struct AtBroker {
    pub(super) provider: ProviderName,
    /// What was bought of it.
    pub(super) plan: Plan,
    /// How it was asked for.
    asks: Asks,
    /// The broker does it later: after this time.
    pub(super) later: Option<Duration>,
    /// It agreed to do it, and when.
    accepted: Option<Timestamp>,
    /// It was said to be there already.
    conflicts: bool,
    /// Requests sent for it so far.
    pub(super) requests: u32,
    /// It cannot even be asked for, and why.
    cannot: Option<Failure>,
}

impl AtBroker {
    /// Whether the broker has agreed to do it.
    pub(super) fn is_accepted(&self) -> bool {
        self.accepted.is_some()
    }
}

impl Order {
    /// Whether it asks for these credentials.
    pub(super) fn asks_for(&self, credential: &Credential) -> bool {
        let Some(at) = &self.bought else { return false };
        let round = match &self.command {
            Command::Bind { binding, .. } if *binding == credential.binding => at.asks.round,
            Command::Start { .. } if credential.is_ostlers() => at.asks.access,
            _ => None,
        };
        round == Some(credential.round) && at.asks.attempt == Some(credential.at.attempt)
    }
}

/// How far an order has come.
pub(super) enum Step {
    /// It is looked at again after this time.
    GoesOn(Duration),
    /// It is over. The answer is on its way for so long.
    Ends(Outcome, Vec<SealedChange>, Duration),
}

/// How sure it is that there is an operation to ask about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Sure {
    Yes,
    No,
}

/// What became of an operation that a broker agreed to, as the real provider reads it (`providers::osb::poll`).
enum Polled {
    Succeeded,
    Gone,
    Failed,
    Unknown,
    OutOfTime,
    Later,
    Wait(Duration),
}

/// Whether something is there under a name.
enum Found {
    There,
    Gone,
    NotSeen,
    Useless,
    Wait(Duration),
}

const MILLI: Duration = Duration::from_millis(1);
const SECOND: Duration = Duration::from_secs(1);
const HOUR: Duration = Duration::from_secs(3600);
/// An operation is asked about so often, and for so long.
const POLL_EVERY: Duration = Duration::from_secs(15);
const POLL_WITHIN: Duration = Duration::from_secs(2 * 3600);
/// What does not finish in time takes so long.
const ENDLESS: (Duration, Duration) = (Duration::from_secs(3 * 3600), Duration::from_secs(20 * 3600));
/// An answer that does not come is given up after this time.
const GIVEN_UP: Duration = Duration::from_secs(60);
/// Credentials are renewed a third of their time before they end, and no more than an hour, as the real provider does.
const MARGIN_MAX: Duration = HOUR;

impl World {
    /// Takes an order to a broker.
    pub(super) fn hand_to_broker(&mut self, id: CommandId, command: &Command, provider: ProviderName) {
        let Some(known) = self.knowledge() else { return };
        let made = order_for(known, &NoSecrets, command);
        let declared = known.provider(&provider).is_some();
        let gone = || Failure {
            class: FailureClass::Temporary,
            detail: format!("the provider `{provider}` is not in the estate file any more"),
            remedy: "declare it again".to_owned(),
        };
        let (plan, mut asks, cannot) = match made {
            Ok(order) => {
                let plan = (order.placement.offering, order.placement.plan);
                (Some(plan), *order.asks, (!declared).then(gone))
            }
            Err(failure) => (None, Asks::default(), Some(failure)),
        };
        if self.mutant == Some(Mutant::RepeatsAsks) {
            asks.attempt = asks.attempt.map(|_| 1);
        }
        let nothing = || ("none".parse().expect("letters are a label"), "none".parse().expect("letters are a label"));
        let spoil = match self.truth.providers.get_mut(&provider) {
            Some(provider) if provider.answers() => provider.spoils.pop_front(),
            _ => None,
        };
        let length = match command {
            Command::Mitigate { leftover } => self.length_of(command, &leftover.instance),
            _ => match command.target() {
                Target::Instance(instance) => self.length_of(command, &instance),
                _ => MILLI,
            },
        };
        let takes_long = matches!(
            command,
            Command::Provision { .. } | Command::Update { .. } | Command::Deprovision { .. } | Command::Mitigate { .. }
        );
        let later = self.manners(&provider).later && takes_long;
        let work = self.work(command, spoil, length);
        let (until, later) = if later { (length.min(SECOND), Some(work)) } else { (work.min(POLL_WITHIN / 4), None) };
        let plan = plan.unwrap_or_else(nothing);
        let bought = AtBroker { provider, plan, asks, later, accepted: None, conflicts: false, requests: 0, cannot };
        self.send_to_broker(id, command.clone(), spoil, until, bought);
    }

    /// How long a broker works on it.
    fn work(&mut self, command: &Command, spoil: Option<Spoil>, length: Duration) -> Duration {
        match spoil {
            Some(Spoil::Slow) => (length * 100).min(HOUR / 2),
            Some(Spoil::NeverFinishes) => {
                let Target::Instance(instance) = command.target() else { return length };
                self.draw(Concern::Latency, &instance).duration(ENDLESS.0, ENDLESS.1)
            }
            _ => length,
        }
    }

    /// One step of an order to a broker.
    pub(super) fn ask_broker(&mut self, order: &mut Order) -> Step {
        let Some(at) = order.bought.clone() else { return ends(Outcome::Done) };
        if let Some(cannot) = at.cannot {
            return ends(Outcome::Failed(cannot));
        }
        let command = order.command.clone();
        match &command {
            Command::Provision { instance } => self.make(order, &at, instance),
            Command::Observe { instance } => self.look(order, &at, instance),
            Command::Start { instance, .. } => self.open(order, &at, instance),
            // It runs on, and is used by nobody: brokers have no word for a stop.
            Command::Stop { .. } => ends(Outcome::Stopped { exit: None, killed: false, cut: 0 }),
            Command::Update { instance, .. } => self.change(order, &at, instance),
            Command::Deprovision { instance } => self.deprovision(order, &at, instance),
            Command::Release { instance } => self.release(order, &at, instance),
            Command::Mitigate { leftover } => self.mitigate(order, &at, leftover),
            Command::Bind { binding, instance, endpoint } => self.bind_for(order, &at, binding, instance, *endpoint),
            Command::Unbind { binding, instance } => match self.end_bindings(order, &at, instance) {
                Ok(()) => Step::Ends(Outcome::Done, vec![SealedChange::delete(SecretId::of_binding(binding))], TRANSIT),
                Err(failed) => ends(failed),
            },
            Command::Tidy { instance, .. } => match self.end_bindings(order, &at, instance) {
                Ok(()) => ends(Outcome::Done),
                Err(failed) => ends(failed),
            },
            Command::Before { .. }
            | Command::Backup { .. }
            | Command::Restore { .. }
            | Command::Fault { .. }
            | Command::Undo { .. } => ends(failure(FailureClass::NeedsPerson, "brokers have no word for this")),
            Command::Prove { instance } if self.truth.serves(instance, self.now) => {
                self.witness.looked_at(instance);
                ends(Outcome::Proved { checks: Vec::new() })
            }
            Command::Prove { .. } => ends(failure(FailureClass::Temporary, "the server does not answer")),
            Command::OpenEndpoint { .. }
            | Command::CloseEndpoint { .. }
            | Command::Fence { .. }
            | Command::ProveBackup { .. }
            | Command::DropBackup { .. }
            | Command::Watch { .. }
            | Command::Unwatch { .. }
            | Command::Route { .. }
            | Command::Notify { .. } => ends(Outcome::Done), // no matter of a provider's
        }
    }

    fn make(&mut self, order: &mut Order, at: &AtBroker, instance: &InstanceId) -> Step {
        let Some(name) = name_of(instance, at) else { return not_asked_yet() };
        if at.conflicts {
            return self.find_in_conflict(order, at, &name);
        }
        if at.accepted.is_some() {
            return match self.poll(order, at, &name, Goal::Provision, Sure::Yes) {
                Polled::Succeeded => made(instance),
                Polled::Wait(pause) => Step::GoesOn(pause),
                Polled::Failed | Polled::OutOfTime | Polled::Unknown | Polled::Later | Polled::Gone => {
                    ends(failure(FailureClass::LeftBehind, "it could not be made"))
                }
            };
        }
        if let Some(truth) = self.truth.instances.get_mut(instance) {
            truth.asked = truth.asked.max(Some(name.attempt)); // an earlier ask may get there later
        }
        let fate = self.fate(order);
        if fate != Fate::NotSent && !self.truth.bought.ask(&name) {
            self.witness.asked_again(format!("{name} is asked for twice under one name"), self.now);
        }
        if fate == Fate::Late {
            let appears =
                self.draw(Concern::Latency, instance).duration(super::broker::APPEARS.0, super::broker::APPEARS.1);
            self.after(appears, Happening::Appears(name.clone(), at.provider.clone(), at.plan.clone()));
        }
        let verdict = {
            let order = &*order;
            self.answered(fate, Goal::Provision, |world| world.create(&name, order))
        };
        match verdict {
            Verdict::Done(_) => made(instance),
            Verdict::Accepted(_) => self.accepted(order),
            Verdict::Conflict(_) => {
                if let Some(at) = &mut order.bought {
                    at.conflicts = true;
                }
                self.find_in_conflict(order, at, &name)
            }
            other => answered_late(fate, &other),
        }
    }

    /// Something is there already under the name: what was asked for, or nobody knows what.
    fn find_in_conflict(&mut self, order: &mut Order, at: &AtBroker, name: &AttemptId) -> Step {
        match self.find(order, at, name) {
            Ok(Found::There) => made(&name.instance),
            Ok(Found::Wait(pause)) => Step::GoesOn(pause),
            Ok(Found::Gone | Found::NotSeen | Found::Useless) => {
                ends(failure(FailureClass::Unclear, "something is there under its name"))
            }
            Err(_) => ends(failure(FailureClass::InDoubt, "something is there under its name")),
        }
    }

    fn look(&mut self, order: &mut Order, at: &AtBroker, instance: &InstanceId) -> Step {
        let Some(name) = name_of(instance, at) else { return ends(Outcome::Observed(Observation::Absent)) };
        let why = || "the broker does not know it".to_owned();
        let observation = match self.find(order, at, &name) {
            // A broker that is in trouble says nothing against what it has made.
            Err(class) if at.asks.made && class != FailureClass::NeedsPerson => self.at_work(at, instance),
            Err(class) => return ends(failure(class, "it cannot be looked at")),
            Ok(Found::There) => self.at_work(at, instance),
            Ok(Found::Gone) => Observation::Absent,
            Ok(Found::NotSeen) => Observation::NotSeen { why: why() },
            Ok(Found::Useless) => Observation::Useless { why: why() },
            Ok(Found::Wait(pause)) => return Step::GoesOn(pause),
        };
        ends(Outcome::Observed(observation))
    }

    /// What a complete instance is doing: it works, as far as anybody has looked.
    fn at_work(&self, at: &AtBroker, instance: &InstanceId) -> Observation {
        let truth = self.truth.instances.get(instance);
        match truth.filter(|_| at.asks.access_used.is_some()) {
            Some(truth) => {
                Observation::Running(Running { pid: None, address: truth.address, since: truth.access_since })
            }
            None => Observation::Stopped { exit: None },
        }
    }

    /// Looks for what is there: first what became of what the broker agreed to, then the instance itself, then any
    /// operation of it.
    fn find(&mut self, order: &mut Order, at: &AtBroker, name: &AttemptId) -> Result<Found, FailureClass> {
        let made = at.asks.made;
        if let Some(accepted) = &at.asks.accepted {
            let goal = match accepted.kind {
                AcceptedKind::Provision => Goal::Provision,
                AcceptedKind::Update => Goal::Update,
                AcceptedKind::Deprovision => Goal::Deprovision,
            };
            match (goal, self.poll(order, at, name, goal, Sure::Yes)) {
                (_, Polled::Wait(pause)) => return Ok(Found::Wait(pause)),
                (Goal::Deprovision, Polled::Gone | Polled::Succeeded) => return Ok(Found::Gone),
                (Goal::Provision, Polled::Succeeded) => return Ok(Found::There),
                (Goal::Provision, Polled::Failed | Polled::OutOfTime) => return Ok(Found::Useless),
                _ if made => {}
                (_, _) => return Ok(Found::NotSeen),
            }
        }
        if self.manners(&at.provider).retrievable {
            match self.question(order, Asked::FetchInstance, |world| world.fetched(name)) {
                Verdict::Done(_) => return Ok(Found::There),
                Verdict::Unknown(_) if made => return Ok(Found::Gone),
                Verdict::Unknown(_) => {}
                Verdict::Later(_) => return Err(FailureClass::Temporary),
                _ if made => return Ok(Found::There),
                _ => {}
            }
        } else if made {
            return Ok(Found::There); // there is no way of asking
        }
        Ok(match self.poll(order, at, name, Goal::Provision, Sure::No) {
            Polled::Succeeded => Found::There,
            Polled::Failed | Polled::OutOfTime => Found::Useless,
            Polled::Gone | Polled::Unknown => Found::NotSeen,
            Polled::Later => return Err(FailureClass::Temporary),
            Polled::Wait(pause) => Found::Wait(pause),
        })
    }

    /// Asks once how far it has come.
    fn poll(&mut self, order: &mut Order, at: &AtBroker, name: &AttemptId, goal: Goal, sure: Sure) -> Polled {
        let verdict = self.question(order, Asked::Poll(goal), |world| world.last_operation(name, goal));
        let since = at.accepted.or(at.asks.accepted.as_ref().map(|accepted| accepted.since)).unwrap_or(order.since);
        match verdict {
            Verdict::Done(_) => return Polled::Succeeded,
            Verdict::Gone => return Polled::Gone,
            Verdict::Failed(_) => return Polled::Failed,
            Verdict::Unknown(_) | Verdict::Rejected(_) if sure == Sure::No => return Polled::Unknown,
            Verdict::Later(_) if sure == Sure::No => return Polled::Later,
            Verdict::InProgress(_)
            | Verdict::Unknown(_)
            | Verdict::Rejected(_)
            | Verdict::Later(_)
            | Verdict::Conflict(_)
            | Verdict::Doubt(_)
            | Verdict::Accepted(_) => {}
        }
        if self.now.since(since) + POLL_EVERY > POLL_WITHIN { Polled::OutOfTime } else { Polled::Wait(POLL_EVERY) }
    }

    /// The broker agreed to do it: ostler is told, and asks again and again how far it has come.
    fn accepted(&mut self, order: &mut Order) -> Step {
        let now = self.now;
        if let Some(at) = &mut order.bought {
            at.accepted = Some(now);
        }
        // What is tidied up is nobody's, and no progress of it is told.
        if order.incarnation == self.incarnation && !matches!(order.command, Command::Mitigate { .. }) {
            let event = Event::Accepted { id: order.id, operation: Some("operation".to_owned()) };
            let incoming = Incoming { event: Some(event), secrets: Vec::new(), report: None };
            self.after(TRANSIT, Happening::Arrives(self.incarnation, Box::new(incoming), None));
        }
        let later = order.bought.as_ref().and_then(|at| at.later).unwrap_or_default();
        Step::GoesOn(later.min(POLL_WITHIN) + MILLI)
    }

    /// Gets the credentials with which ostler looks at the instance, unless it has them.
    fn open(&mut self, order: &mut Order, at: &AtBroker, instance: &InstanceId) -> Step {
        let Some(name) = name_of(instance, at) else { return not_asked_yet() };
        let binding = BindingId { consumer: instance.service().clone(), need: instance.service().clone() };
        let known = at.asks.access.filter(|_| at.asks.access_made);
        let (credential, secrets) = match known {
            Some(round) => (Credential { binding, at: name, round }, Vec::new()),
            None => match self.bind_once(order, at, binding, name, at.asks.access) {
                Ok(credential) => {
                    let secret = SealedChange::set(SecretId::of_instance(instance), credential.to_secret());
                    (credential, vec![secret])
                }
                Err(failed) => return failed,
            },
        };
        let (renew_at, wall) = (self.renewal(&credential), self.wall());
        let Some(truth) = self.truth.instances.get_mut(instance) else { return not_asked_yet() };
        if !secrets.is_empty() && order.incarnation == self.incarnation {
            truth.access_since = wall;
        }
        let running = Running { pid: None, address: truth.address, since: truth.access_since };
        Step::Ends(Outcome::Started(Started { running, renew_at }), secrets, TRANSIT)
    }

    fn bind_for(
        &mut self,
        order: &mut Order,
        at: &AtBroker,
        binding: &BindingId,
        instance: &InstanceId,
        endpoint: std::net::SocketAddr,
    ) -> Step {
        let Some(name) = name_of(instance, at) else { return not_asked_yet() };
        let known = at.asks.round.filter(|_| at.asks.round_made);
        let credential = match known {
            Some(round) => Credential { binding: binding.clone(), at: name, round },
            None => match self.bind_once(order, at, binding.clone(), name, at.asks.round) {
                Ok(credential) => credential,
                Err(failed) => return failed,
            },
        };
        let secret = SealedChange::set(SecretId::of_binding(binding), credential.to_secret());
        let (digest, renew_at) = (format!("{credential} through {endpoint}"), self.renewal(&credential));
        Step::Ends(Outcome::Bound { digest, renew_at }, vec![secret], TRANSIT)
    }

    /// One ask for a binding.
    fn bind_once(
        &mut self,
        order: &mut Order,
        at: &AtBroker,
        binding: BindingId,
        name: AttemptId,
        round: Option<u32>,
    ) -> Result<Credential, Step> {
        let Some(round) = round else { return Err(not_asked_yet()) };
        let credential = Credential { binding, at: name, round };
        let fate = self.fate(order);
        if fate != Fate::NotSent && !self.truth.bought.ask_for_binding(&credential) {
            self.witness.asked_again(format!("binding {credential} is asked for twice under one name"), self.now);
        }
        match self.answered(fate, Goal::Bind, |world| world.bind(&credential, &at.provider)) {
            Verdict::Done(object) if object.contains_key("credentials") => Ok(credential),
            Verdict::Done(_) | Verdict::Conflict(_) => {
                Err(ends(failure(FailureClass::LeftBehind, "the answer has no credentials")))
            }
            other => Err(answered_late(fate, &other)),
        }
    }

    /// From when on credentials are to be renewed, by the clock of ostler's machine.
    fn renewal(&self, credential: &Credential) -> Option<Timestamp> {
        let ends = (*self.truth.bought.credentials.get(credential)?)?;
        Some(ends - (ends.since(self.wall()) / 3).min(MARGIN_MAX))
    }

    fn change(&mut self, order: &mut Order, at: &AtBroker, instance: &InstanceId) -> Step {
        let Some(name) = name_of(instance, at) else { return not_asked_yet() };
        if at.accepted.is_some() {
            return match self.poll(order, at, &name, Goal::Update, Sure::Yes) {
                Polled::Succeeded => ends(Outcome::Done),
                Polled::Wait(pause) => Step::GoesOn(pause),
                _ => ends(failure(FailureClass::Temporary, "it could not be changed")),
            };
        }
        // What differs only in what is used with it is no change at its provider.
        let made_of = self.truth.bought.things.get(&name).map(|thing| thing.plan.clone());
        if made_of.as_ref().is_none_or(|made_of| *made_of == at.plan) {
            return ends(Outcome::Done);
        }
        self.witness.broken(
            Promise::PlansKept,
            self.now,
            format!("{name} is to become of plan {}, and nobody asked for that", at.plan.1),
        );
        let fate = self.fate(order);
        let later = at.later.is_some();
        match self.answered(fate, Goal::Update, |_| {
            if later { (202, serde_json::json!({})) } else { (200, serde_json::json!({})) }
        }) {
            Verdict::Done(_) => ends(Outcome::Done),
            Verdict::Accepted(_) => self.accepted(order),
            Verdict::Doubt(_) => ends(failure(FailureClass::Temporary, "no answer")),
            other => answered_late(fate, &other),
        }
    }

    fn deprovision(&mut self, order: &mut Order, at: &AtBroker, instance: &InstanceId) -> Step {
        let gone = |world: &mut Self| {
            world.recount_gone(instance);
            world.truth.remove(instance);
            Step::Ends(Outcome::Done, vec![SealedChange::delete(SecretId::of_instance(instance))], TRANSIT)
        };
        let Some(name) = name_of(instance, at) else { return gone(self) };
        if at.accepted.is_none()
            && let Err(failed) = self.end_bindings(order, at, instance)
        {
            return ends(failed);
        }
        match self.delete_once(order, at, &name) {
            Ok(Verdict::Gone) => gone(self),
            Ok(Verdict::Unknown(_)) => match self.find(order, at, &name) {
                Ok(Found::Gone | Found::NotSeen) => gone(self),
                Ok(Found::Wait(pause)) => Step::GoesOn(pause),
                Ok(Found::There | Found::Useless) => ends(failure(FailureClass::NeedsPerson, "it cannot be deleted")),
                Err(class) => ends(failure(class, "it cannot be looked at")),
            },
            Ok(Verdict::Doubt(_)) => ends(failure(FailureClass::Temporary, "no answer")),
            Ok(other) => ends(failure(other.class(), "it cannot be deleted")),
            Err(step) => step,
        }
    }

    /// Deletes what an ask may have left behind. That nothing is there is as good.
    fn mitigate(&mut self, order: &mut Order, at: &AtBroker, name: &AttemptId) -> Step {
        match self.delete_once(order, at, name) {
            Ok(Verdict::Gone | Verdict::Unknown(_)) => ends(Outcome::Done),
            Ok(_) => ends(failure(FailureClass::Temporary, "it cannot be deleted")),
            Err(step) => step,
        }
    }

    /// What became of a deletion; or that it goes on.
    fn delete_once(&mut self, order: &mut Order, at: &AtBroker, name: &AttemptId) -> Result<Verdict, Step> {
        if at.accepted.is_some() {
            return match self.poll(order, at, name, Goal::Deprovision, Sure::Yes) {
                Polled::Gone | Polled::Succeeded => Ok(Verdict::Gone),
                Polled::Wait(pause) => Err(Step::GoesOn(pause)),
                Polled::Failed | Polled::OutOfTime | Polled::Unknown | Polled::Later => {
                    Ok(Verdict::Doubt("it could not be deleted".to_owned()))
                }
            };
        }
        let fate = self.fate(order);
        let verdict = {
            let order = &*order;
            self.answered(fate, Goal::Deprovision, |world| world.delete(name, order))
        };
        match verdict {
            Verdict::Done(_) => Ok(Verdict::Gone),
            Verdict::Accepted(_) => Err(self.accepted(order)),
            other => Ok(other),
        }
    }

    fn release(&mut self, order: &mut Order, at: &AtBroker, instance: &InstanceId) -> Step {
        if let Err(failed) = self.end_bindings(order, at, instance) {
            return ends(failed);
        }
        if let Some(name) = name_of(instance, at) {
            self.truth.bought.released.insert(name); // it is no concern of ostler's any more
        }
        self.recount_gone(instance);
        self.truth.remove(instance);
        ends(Outcome::Done)
    }

    /// Ends every binding of the order's list.
    fn end_bindings(&mut self, order: &mut Order, at: &AtBroker, instance: &InstanceId) -> Result<(), Outcome> {
        let Some(name) = name_of(instance, at) else { return Ok(()) };
        for (binding, round) in &at.asks.ends {
            let credential = Credential { binding: binding.clone(), at: name.clone(), round: *round };
            let fate = self.fate(order);
            match self.answered(fate, Goal::Unbind, |world| world.unbind(&credential, &at.provider)) {
                Verdict::Done(_) | Verdict::Gone | Verdict::Unknown(_) => {}
                Verdict::Doubt(_) => return Err(failure(FailureClass::Temporary, "no answer")),
                other => return Err(failure(other.class(), "the broker does not unbind it")),
            }
        }
        Ok(())
    }
}

/// An answer is on its way for so long.
const TRANSIT: Duration = Duration::from_millis(50);

fn ends(outcome: Outcome) -> Step {
    Step::Ends(outcome, Vec::new(), TRANSIT)
}

/// A failure that follows from the general rule; one without an answer is waited for.
fn answered_late(fate: Fate, verdict: &Verdict) -> Step {
    let delay = if matches!(fate, Fate::NoAnswer { .. } | Fate::Late) { GIVEN_UP } else { TRANSIT };
    Step::Ends(failure(verdict.class(), "the broker did not do it"), Vec::new(), delay)
}

/// An instance is made: the provider has nothing to keep of it yet.
fn made(instance: &InstanceId) -> Step {
    Step::Ends(Outcome::Done, vec![SealedChange::set(SecretId::of_instance(instance), b"{}".to_vec())], TRANSIT)
}

fn not_asked_yet() -> Step {
    ends(failure(FailureClass::Interrupted, "it was not asked for yet"))
}

/// By which name the broker knows the instance.
fn name_of(instance: &InstanceId, at: &AtBroker) -> Option<AttemptId> {
    let attempt = at.asks.attempt?;
    Some(AttemptId { instance: instance.clone(), attempt })
}

/// Simulated brokers need none.
struct NoSecrets;

impl Secrets for NoSecrets {
    fn secret(&self, _id: &SecretId) -> Result<Option<SecretValue>, ReadError> {
        Ok(None)
    }
}
