//! What there is at brokers, by the name of each ask: instances and credentials, and how far each has come.
//!
//! Invariant: nothing here follows from what ostler knows. What was asked for under a name stays asked for, whatever
//! became of it.

use std::collections::{BTreeMap, BTreeSet};

use ostler_model::ids::{AttemptId, BindingId, OfferingName, PlanName, ProviderName};
use ostler_model::time::Timestamp;
use serde::{Deserialize, Serialize};

/// What there is at all brokers.
#[derive(Default)]
pub(crate) struct Bought {
    /// What exists, or is on its way.
    pub(crate) things: BTreeMap<AttemptId, Thing>,
    /// The credentials that work, and by when they end by themselves.
    pub(crate) credentials: BTreeMap<Credential, Option<Timestamp>>,
    /// Every name under which an instance was ever asked for.
    asked: BTreeSet<AttemptId>,
    /// Every name under which a binding was ever asked for.
    asked_bindings: BTreeSet<Credential>,
    /// What a person let ostler leave to its provider.
    pub(crate) released: BTreeSet<AttemptId>,
}

/// An instance at a broker.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Thing {
    pub(crate) provider: ProviderName,
    /// As what it was asked for.
    pub(crate) plan: Plan,
    pub(crate) state: State,
    /// It has been ready under ostler's eyes.
    pub(crate) used: bool,
}

/// An offering and one of its plans.
pub(crate) type Plan = (OfferingName, PlanName);

/// How far an instance has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum State {
    /// It is being made until then, and that fails or not.
    Making { until: Timestamp, fails: bool },
    /// It is complete.
    There,
    /// It could not be made, and something is left of that.
    Failed,
    /// It is being deleted until then, and that fails or not.
    Deleting { until: Timestamp, fails: bool },
}

/// Credentials, by the name of the ask that made them.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(crate) struct Credential {
    pub(crate) binding: BindingId,
    /// At which instance.
    pub(crate) at: AttemptId,
    /// By which ask.
    pub(crate) round: u32,
}

impl std::fmt::Display for Credential {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} at {} by ask {}", self.binding, self.at, self.round)
    }
}

impl Credential {
    /// Whether ostler itself looks at the instance with them.
    pub(crate) fn is_ostlers(&self) -> bool {
        self.binding.consumer == self.binding.need
    }

    /// As they are sealed.
    pub(crate) fn to_secret(&self) -> Vec<u8> {
        serde_json::to_vec(self).expect("ids are strings")
    }

    /// What is sealed, if it is from a broker.
    pub(crate) fn from_secret(secret: &[u8]) -> Option<Self> {
        serde_json::from_slice(secret).ok()
    }
}

impl Thing {
    pub(crate) fn new(provider: ProviderName, plan: Plan, state: State) -> Self {
        Self { provider, plan, state, used: false }
    }
}

impl Bought {
    /// Somebody asks for an instance under this name. Returns whether nobody has before.
    pub(crate) fn ask(&mut self, name: &AttemptId) -> bool {
        self.asked.insert(name.clone())
    }

    /// Somebody asks for a binding under this name. Returns whether nobody has before.
    pub(crate) fn ask_for_binding(&mut self, name: &Credential) -> bool {
        self.asked_bindings.insert(name.clone())
    }

    /// It is complete.
    pub(crate) fn is_there(&self, name: &AttemptId) -> bool {
        self.things.get(name).is_some_and(|thing| thing.state == State::There)
    }

    /// It is gone, and the credentials for it; returns these.
    pub(crate) fn remove(&mut self, name: &AttemptId) -> Vec<Credential> {
        self.things.remove(name);
        let gone: Vec<Credential> =
            self.credentials.keys().filter(|credential| credential.at == *name).cloned().collect();
        self.credentials.retain(|credential, _| credential.at != *name);
        gone
    }
}
