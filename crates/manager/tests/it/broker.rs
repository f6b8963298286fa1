//! The broker in the manager's world: asks there have numbers, an answer can be lost, and what was asked for can appear
//! late. What exists there must be known to the manager, whatever happened to the answer.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use ostler_manager::{BindingState, Command, Event, Outcome, Started, Target};
use ostler_model::ids::{AttemptId, BindingId, CommandId, InstanceId, ServiceName};
use ostler_model::outcome::{FailureClass, Observation, Running};
use ostler_model::time::Timestamp;

use crate::world::World;

/// What there is at the broker.
#[derive(Default)]
pub(crate) struct Broker {
    /// What it gives to get at instances is to be renewed after this.
    pub(crate) lasts: Option<Duration>,
    /// What exists at the broker, by the ask that made it.
    pub(crate) bought: BTreeSet<AttemptId>,
    /// What may still appear there, and since when.
    pub(crate) late: BTreeMap<AttemptId, Timestamp>,
    /// What was in use once.
    pub(crate) used: BTreeSet<AttemptId>,
    /// The bindings that exist at the broker, by the ask that made each.
    pub(crate) bound: BTreeSet<(BindingId, InstanceId, u32)>,
    /// By which ask the credentials of each revision were made.
    pub(crate) given: BTreeMap<(BindingId, u32), u32>,
    /// Under which number each order asks.
    pub(crate) numbers: BTreeMap<CommandId, u32>,
}

impl World {
    /// Whether the service is bought at the broker.
    pub(crate) fn is_bought(&self, service: &ServiceName) -> bool {
        self.known.services.get(service).is_some_and(|service| self.known.is_unrepeatable(service))
    }

    /// It is in use, or may be, or is on the list of what may be left.
    pub(crate) fn knows_of(&self, bought: &AttemptId) -> bool {
        let Some(service) = self.known.services.get(bought.instance.service()) else { return false };
        let current = self.known.instance(&bought.instance).and_then(|instance| instance.attempts.number());
        current == Some(bought.attempt) || service.leftovers.contains_key(bought)
    }

    pub(crate) fn knows_of_binding(&self, id: &BindingId, at: &InstanceId, round: u32) -> bool {
        if id.consumer == id.need {
            let Some(instance) = self.known.instance(at) else { return false };
            return instance.access.number() == Some(round) || instance.access_left.contains(&round);
        }
        let Some(binding) = self.known.services.get(&id.consumer).and_then(|s| s.bindings.get(&id.need)) else {
            return false;
        };
        let current = binding.rounds.number() == Some(round) && binding.asked_at.as_ref() == Some(at);
        current || binding.left.iter().any(|left| left.instance == *at && left.round == round)
    }

    /// The number under which the order asks for something, at a broker.
    pub(crate) fn number(&self, command: &Command) -> Option<u32> {
        match command {
            Command::Provision { instance }
            | Command::Observe { instance }
            | Command::Deprovision { instance }
            | Command::Release { instance } => self.known.instance(instance)?.attempts.number(),
            Command::Start { instance, .. } => self.known.instance(instance)?.access.number(),
            Command::Bind { binding, .. } => {
                self.known.services.get(&binding.consumer)?.bindings.get(&binding.need)?.rounds.number()
            }
            _ => None,
        }
    }

    /// Remembers by which ask the credentials of each revision were made.
    pub(crate) fn note_what_is_given(&mut self) {
        for service in self.known.services.values() {
            for (need, binding) in service.bindings.iter().filter(|(_, binding)| binding.state == BindingState::Made) {
                if let Some(round) = binding.used {
                    self.broker.given.insert((service.binding_id(need), binding.revision), round);
                }
            }
        }
    }

    /// No process runs with credentials that are about to be ended.
    pub(crate) fn assert_nobody_uses(&self, binding: &BindingId, at: &InstanceId, rounds: &[u32]) {
        let Some(consumer) = self.known.services.get(&binding.consumer) else { return };
        let made_at = consumer.bindings.get(&binding.need).map(|binding| &binding.instance);
        if self.is_bought(&binding.consumer) || made_at != Some(at) {
            return; // what is bought reads nothing of what it is bound to
        }
        for (number, instance) in &consumer.instances {
            let launch = instance.generation.and_then(|generation| consumer.launches.get(&generation));
            let revision = launch.and_then(|launch| launch.needs.get(&binding.need));
            let round = revision.and_then(|revision| self.broker.given.get(&(binding.clone(), *revision)));
            let runs = self.truth(&consumer.instance_id(*number)).process.is_some();
            let is_used = runs && round.is_some_and(|round| rounds.contains(round));
            assert!(
                !is_used,
                "{} still runs with credentials of {binding} that are ended",
                consumer.instance_id(*number)
            );
        }
    }

    /// Whether anybody would see to it if it appeared now.
    pub(crate) fn waits_for(&self, id: &AttemptId) -> bool {
        self.knows_of(id)
    }

    /// What was asked for long ago is made now.
    pub(crate) fn appear(&mut self, id: &AttemptId) {
        self.broker.late.remove(id);
        self.broker.bought.insert(id.clone());
        assert!(self.knows_of(id), "{id} appeared and nobody waits for it");
    }

    /// Everything that exists at the broker is known to the manager.
    pub(crate) fn assert_nothing_forgotten(&self, event: &Event) {
        for bought in &self.broker.bought {
            assert!(self.knows_of(bought), "{bought} was made and is forgotten, after {event:?}");
        }
        for (binding, instance, round) in &self.broker.bound {
            let known = self.knows_of_binding(binding, instance, *round);
            assert!(known, "binding {binding} at {instance} by ask {round} is forgotten, after {event:?}");
        }
    }

    /// What a broker does with an order.
    pub(crate) fn done_at_broker(&mut self, command: &Command, number: Option<u32>) -> Outcome {
        let attempt = |instance: &InstanceId| number.map(|attempt| AttemptId { instance: instance.clone(), attempt });
        match command {
            Command::Provision { instance } => {
                self.broker.bought.insert(attempt(instance).expect("each ask has a number"));
                let _ = self.done(command);
                Outcome::Done
            }
            Command::Observe { instance } => {
                let there = attempt(instance).is_some_and(|attempt| self.broker.bought.contains(&attempt));
                let made = self.known.instance(instance).is_some_and(|i| i.attempts.is_made());
                Outcome::Observed(match (number, there, made) {
                    (None, _, _) | (Some(_), false, true) => Observation::Absent,
                    (Some(_), false, false) => Observation::NotSeen { why: "404".to_owned() },
                    (Some(_), true, _) => {
                        self.instances.entry(instance.clone()).or_default().made = true;
                        let has_access = self.known.instance(instance).is_some_and(|i| i.access_used.is_some());
                        match self.observe(instance) {
                            Observation::Running(_) if !has_access => Observation::Stopped { exit: None },
                            observed => observed,
                        }
                    }
                })
            }
            Command::Start { instance, .. } => {
                let own = BindingId { consumer: instance.service().clone(), need: instance.service().clone() };
                if let Some(truth) = self.instances.get_mut(instance) {
                    truth.process = None; // nothing but how it is used
                }
                let outcome = self.done(command);
                if let (Outcome::Started(_), Some(round)) = (&outcome, number) {
                    self.broker.bound.insert((own, instance.clone(), round));
                }
                match outcome {
                    Outcome::Started(Started { running, .. }) => Outcome::Started(Started {
                        running: Running { pid: None, ..running },
                        renew_at: self.broker.lasts.map(|lasts| self.now + lasts),
                    }),
                    other => other,
                }
            }
            Command::Deprovision { instance } => {
                if let Some(attempt) = attempt(instance) {
                    self.broker.bought.remove(&attempt);
                }
                self.broker.bound.retain(|(_, at, _)| at != instance);
                self.done(command)
            }
            Command::Release { instance } => {
                if let Some(attempt) = attempt(instance) {
                    self.broker.bought.remove(&attempt); // it is no concern of ours any more
                }
                self.broker.bound.retain(|(_, at, _)| at != instance);
                self.bindings.retain(|_, at| at != instance);
                self.instances.remove(instance);
                Outcome::Done
            }
            Command::Bind { binding, instance, .. } => {
                let round = number.expect("each ask has a number");
                self.broker.bound.insert((binding.clone(), instance.clone(), round));
                match self.done(command) {
                    // What ends by itself is followed by something else.
                    Outcome::Bound { digest, .. } => match self.broker.lasts {
                        Some(lasts) => Outcome::Bound {
                            digest: format!("{digest}, ask {round}"),
                            renew_at: Some(self.now + lasts),
                        },
                        None => Outcome::Bound { digest, renew_at: None },
                    },
                    other => other,
                }
            }
            Command::Unbind { binding, instance } => {
                self.broker.bound.retain(|(id, at, _)| (id, at) != (binding, instance));
                self.done(command)
            }
            Command::Tidy { binding, instance, rounds } => {
                self.broker.bound.retain(|(id, at, round)| (id, at) != (binding, instance) || !rounds.contains(round));
                Outcome::Done
            }
            Command::Mitigate { leftover } => {
                self.broker.bought.remove(leftover);
                Outcome::Done
            }
            Command::Update { instance, generation } => {
                let launch = self.known.services.get(instance.service()).and_then(|s| s.launches.get(generation));
                let needs = launch.expect("what it is changed to is known").needs.keys().cloned().collect();
                if let Some(process) = self.instances.get_mut(instance).and_then(|truth| truth.process.as_mut()) {
                    process.needs = needs;
                }
                Outcome::Done
            }
            _ => self.done(command),
        }
    }

    /// It was done, and nobody can tell.
    pub(crate) fn answer_lost(&mut self, id: CommandId) {
        let Some(order) = self.orders.get(&id).cloned() else { return };
        let number = self.broker.numbers.get(&id).copied();
        // Whoever does things here knows that an answer was lost to it.
        let is_here = matches!(order.target(), Target::Endpoint(_)) || !self.is_bought(order.at_service());
        self.carry_out(id);
        self.outcomes.remove(&id);
        self.orders.insert(id, order);
        self.broker.numbers.extend(number.map(|number| (id, number)));
        self.fail(id, if is_here { FailureClass::Interrupted } else { FailureClass::InDoubt });
    }
}
