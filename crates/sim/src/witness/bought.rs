//! What the witness sees of brokers: which names were used, what exists, what is deleted and ended there.
//!
//! Invariant: what counts as in use is what the world saw in use, not what the manager holds for it.

use std::time::Duration;

use ostler_manager::{Command, Knowledge, Target};
use ostler_model::ids::{AttemptId, InstanceId, ServiceName};
use ostler_model::time::Timestamp;

use super::{HEALED_WITHIN, Scene, Witness};
use crate::promise::Promise;
use crate::sketch::Kind;
use crate::world::{Credential, Truth};

impl Witness {
    /// A person let what is left of a service be left to its provider: their last word counts.
    pub(crate) fn release_asked(&mut self, service: &ServiceName) {
        self.deletions.remove(service);
        self.releases.insert(service.clone());
    }

    /// A name was used that had been used before.
    pub(crate) fn asked_again(&mut self, what: String, now: Timestamp) {
        self.broken(Promise::AskedOnce, now, what);
    }

    /// An order about something that was bought at a broker.
    pub(super) fn ordered_at_broker(&mut self, command: &Command, scene: &Scene<'_>) {
        let now = scene.now;
        match command {
            Command::Mitigate { leftover }
                if scene.truth.bought.things.get(leftover).is_some_and(|thing| thing.used) =>
            {
                self.broken(Promise::UsedKept, now, format!("{leftover} was in use, and is to be deleted by itself"));
            }
            Command::Deprovision { instance } if is_bought(instance, scene.truth) && !self.moves.is_left(instance) => {
                if self.releases.contains(instance.service()) {
                    self.broken(Promise::ReleasedKept, now, format!("{instance} was to be left to its provider"));
                } else if !self.deletions.contains(instance.service()) {
                    self.broken(
                        Promise::BoughtKept,
                        now,
                        format!("{instance} is to be deleted at its provider, unasked"),
                    );
                }
            }
            _ => {}
        }
        let ends_use = matches!(
            command,
            Command::Stop { .. } | Command::Deprovision { .. } | Command::Release { .. } | Command::Mitigate { .. }
        );
        let Target::Instance(instance) = command.target() else { return };
        if ends_use && is_wanted(&instance, scene.known) && is_of_vanished_plan(&instance, scene.truth) {
            let what = format!("{instance} is of a plan that is gone, and ostler orders: {}", command.in_words());
            self.broken(Promise::PlansKept, now, what);
        }
    }

    /// A broker deletes something because it was asked to.
    pub(crate) fn deleted_at_broker(&mut self, name: &AttemptId, used: bool, now: Timestamp) {
        let service = name.instance.service();
        if self.moves.may_be_deleted(&name.instance) {
            return; // that was judged when it was ordered
        }
        if used && self.releases.contains(service) {
            self.broken(Promise::ReleasedKept, now, format!("{name} is deleted, and was to be left to its provider"));
        } else if used && !self.deletions.contains(service) {
            self.broken(
                Promise::BoughtKept,
                now,
                format!("{name} was in use and is deleted, and nobody asked for that"),
            );
        }
    }

    /// A broker ends credentials because it was asked to, while something runs with them.
    pub(crate) fn ended_in_use(&mut self, credential: &Credential, user: &InstanceId, now: Timestamp) {
        self.broken(Promise::CredentialsKept, now, format!("{credential} are ended while {user} uses them"));
    }

    /// Credentials have ended by themselves, and something that is to run still uses them.
    pub(crate) fn expired_in_use(
        &mut self,
        credential: &Credential,
        user: &InstanceId,
        known: &Knowledge,
        now: Timestamp,
    ) {
        let need = credential.at.instance.service();
        let disturbed = self.disturbed_until(user.service(), known, now).max(self.disturbed_until(need, known, now));
        let held = known.instance(user).is_some_and(|instance| instance.held.is_some());
        if is_wanted(user, known)
            && is_wanted(&credential.at.instance, known)
            && !held
            && now > disturbed + RENEWED_WITHIN
        {
            let what = format!("{credential} have ended, and {user} was given no others");
            self.broken(Promise::RenewedInTime, now, what);
        }
    }

    /// Whatever exists at brokers is known.
    pub(crate) fn look_at_bought(&mut self, known: &Knowledge, truth: &Truth, now: Timestamp) {
        for name in truth.bought.things.keys() {
            if !knows_of(name, known) && !truth.bought.released.contains(name) {
                self.broken(
                    Promise::NoOrphan,
                    now,
                    format!("{name} exists at its broker, and ostler does not know it"),
                );
            }
        }
        for credential in truth.bought.credentials.keys() {
            if !knows_of_credential(credential, known) && !truth.bought.released.contains(&credential.at) {
                let what = format!("{credential} exist at a broker, and ostler does not know them");
                self.broken(Promise::NoOrphan, now, what);
            }
        }
        for (name, _) in truth.bought.things.iter().filter(|(_, thing)| truth.is_vanished(&thing.provider, &thing.plan))
        {
            let service = known.services.get(name.instance.service()).filter(|_| knows_of(name, known));
            if service.is_some_and(|service| known.offering(service).is_none()) {
                let what = format!("of what {name} is, ostler knows nothing more, because its plan is gone");
                self.broken(Promise::PlansKept, now, what);
            }
        }
    }

    /// Long after the storm: what exists is in use, or a person was asked about it.
    pub(crate) fn nothing_doubled(&mut self, known: &Knowledge, truth: &Truth, now: Timestamp) {
        for name in truth.bought.things.keys().filter(|name| !truth.bought.released.contains(name)) {
            let service = known.services.get(name.instance.service());
            let instance = known.instance(&name.instance);
            let current = instance.and_then(|instance| instance.attempts.number()) == Some(name.attempt);
            let leftover = service.and_then(|service| service.leftovers.get(name));
            if !current && leftover.is_none_or(|leftover| leftover.quarantined.is_none()) {
                self.broken(Promise::NothingDoubled, now, format!("{name} is still at its broker, and nobody uses it"));
            }
        }
        for credential in truth.bought.credentials.keys().filter(|one| !truth.bought.released.contains(&one.at)) {
            let is_used = if credential.is_ostlers() {
                known.instance(&credential.at.instance).and_then(|i| i.access_used) == Some(credential.round)
            } else {
                let consumer = known.services.get(&credential.binding.consumer);
                let binding = consumer.and_then(|consumer| consumer.bindings.get(&credential.binding.need));
                binding.and_then(|binding| binding.used) == Some(credential.round)
            };
            if !is_used {
                self.broken(Promise::NothingDoubled, now, format!("{credential} still work, and nobody uses them"));
            }
        }
    }
}

/// Credentials are renewed a third of their time before they end: half an hour at least. What stood in the way until so
/// long before may have kept them from being renewed.
pub(crate) const RENEWED_WITHIN: Duration = Duration::from_secs(2 * HEALED_WITHIN.as_secs());

/// It is in use, or may be, or is on the list of what may be left.
fn knows_of(name: &AttemptId, known: &Knowledge) -> bool {
    let Some(service) = known.services.get(name.instance.service()) else { return false };
    let current = known.instance(&name.instance).and_then(|instance| instance.attempts.number());
    current == Some(name.attempt) || service.leftovers.contains_key(name)
}

fn knows_of_credential(credential: &Credential, known: &Knowledge) -> bool {
    let (at, round) = (&credential.at.instance, credential.round);
    if credential.is_ostlers() {
        let Some(instance) = known.instance(at) else { return false };
        return instance.access.number() == Some(round) || instance.access_left.contains(&round);
    }
    let consumer = known.services.get(&credential.binding.consumer);
    let Some(binding) = consumer.and_then(|consumer| consumer.bindings.get(&credential.binding.need)) else {
        return false;
    };
    let current = binding.rounds.number() == Some(round) && binding.asked_at.as_ref() == Some(at);
    current || binding.left.iter().any(|left| left.instance == *at && left.round == round)
}

pub(super) fn is_bought(instance: &InstanceId, truth: &Truth) -> bool {
    truth.instances.get(instance).is_some_and(|truth| truth.kind == Kind::Broker)
}

fn is_wanted(instance: &InstanceId, known: &Knowledge) -> bool {
    let service = known.services.get(instance.service()).filter(|service| known.is_wanted(service));
    service.and_then(|service| service.instances.get(&instance.number())).is_some_and(|instance| !instance.retired)
}

fn is_of_vanished_plan(instance: &InstanceId, truth: &Truth) -> bool {
    let attempt = truth.instances.get(instance).and_then(|truth| truth.asked);
    let name = attempt.map(|attempt| AttemptId { instance: instance.clone(), attempt });
    let thing = name.and_then(|name| truth.bought.things.get(&name));
    thing.is_some_and(|thing| truth.is_vanished(&thing.provider, &thing.plan))
}
