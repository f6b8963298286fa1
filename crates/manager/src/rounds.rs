//! Asks that cannot be repeated under the same name, and what they may leave behind.
//!
//! Where an answer can be lost, the same thing asked for again may be made twice, or answered with credentials that do
//! not work. So each ask has a number, from which its name at the provider is derived, and what an earlier ask may have
//! made is remembered until the provider has confirmed that it is gone. Invariant: no ask is forgotten before that.

use std::time::Duration;

use ostler_model::catalog::Placement;
use ostler_model::ids::{CommandId, InstanceId};
use ostler_model::time::Timestamp;
use serde::{Deserialize, Serialize};

use crate::backoff;
use crate::instance::OperationKind;

/// What was asked for and may have been made late appears within this time, or never does: the longest that brokers are
/// known to work on something is hours.
pub const APPEARS_WITHIN: Duration = Duration::from_secs(24 * 3600);
/// After it was confirmed to be gone, it is asked for again so long after the ask, each time longer: it may appear late.
const ASKED_AGAIN: [Duration; 4] =
    [Duration::from_secs(60), Duration::from_secs(10 * 60), Duration::from_secs(2 * 3600), APPEARS_WITHIN];

/// How often one thing was asked for, and what came of the last ask.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rounds {
    /// The number of the last ask; 0 before the first.
    pub current: u32,
    /// What came of it.
    pub state: RoundState,
}

/// What came of an ask.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum RoundState {
    /// It made nothing, or what it may have made is being tidied up: the next ask has another number.
    #[default]
    Over,
    /// It was asked, and what came of it is not known (yet).
    Asked,
    /// It was made.
    Made,
}

impl Rounds {
    /// Whether what came of the last ask is not known.
    pub fn is_open(self) -> bool {
        self.state == RoundState::Asked
    }

    /// Whether the last ask was answered with what was asked for.
    pub fn is_made(self) -> bool {
        self.state == RoundState::Made
    }

    /// The number by which the provider knows what was made, or may have been.
    pub fn number(self) -> Option<u32> {
        (self.state != RoundState::Over).then_some(self.current)
    }

    /// A new ask. Returns the number of the former one if what came of that is not known.
    pub(crate) fn ask(&mut self) -> Option<u32> {
        let former = self.is_open().then_some(self.current);
        self.current = self.current.saturating_add(1);
        self.state = RoundState::Asked;
        former
    }
}

/// What a provider has agreed to do.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Accepted {
    /// What it is.
    pub kind: OperationKind,
    /// What the provider calls it, if it gave it a name: to be said with every question about it.
    pub operation: Option<String>,
    /// Since when.
    pub since: Timestamp,
}

/// Credentials that nobody is to use any more, or ever could: to be ended once nothing runs with them.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct LeftBinding {
    /// At which instance.
    pub instance: InstanceId,
    /// By which ask.
    pub round: u32,
}

/// What an ask for an instance may have left behind at its provider. It never was ready, and has a name that ostler made
/// up for that ask alone; so it may be deleted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Leftover {
    /// Where it was asked for.
    pub placement: Placement,
    /// Since when it counts as left behind.
    pub since: Timestamp,
    /// Why.
    pub why: String,
    /// How many times in a row it could not be deleted.
    pub failures: u32,
    /// Not asked for again before this.
    pub not_before: Timestamp,
    /// When the provider last confirmed that it is not there.
    pub confirmed: Option<Timestamp>,
    /// It is being deleted.
    pub operation: Option<CommandId>,
    /// It cannot be deleted, and why: kept, and perhaps paid for, until a person says what is to become of it.
    pub quarantined: Option<String>,
}

impl Leftover {
    pub(crate) fn new(placement: Placement, why: &str, at: Timestamp) -> Self {
        Self {
            placement,
            since: at,
            why: why.to_owned(),
            failures: 0,
            not_before: at,
            confirmed: None,
            operation: None,
            quarantined: None,
        }
    }

    /// The provider says that it is not there. Returns whether it can be forgotten: nothing appears any more so late.
    pub(crate) fn confirm(&mut self, at: Timestamp) -> bool {
        self.operation = None;
        self.failures = 0;
        self.confirmed = Some(at);
        let age = at.since(self.since);
        match ASKED_AGAIN.iter().find(|after| **after > age) {
            Some(after) => {
                self.not_before = self.since + *after;
                false
            }
            None => true,
        }
    }

    /// It could not be deleted.
    pub(crate) fn fail(&mut self, at: Timestamp) {
        self.operation = None;
        self.failures = self.failures.saturating_add(1);
        self.not_before = at + backoff::pause(self.failures.saturating_add(1));
    }

    /// Whether it is time to ask a person: it was never confirmed to be gone for as long as anything may appear.
    pub(crate) fn is_hopeless(&self, at: Timestamp) -> bool {
        self.confirmed.is_none() && at.since(self.since) >= APPEARS_WITHIN
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_ask_has_a_number_of_its_own() {
        let mut rounds = Rounds::default();
        assert_eq!((rounds.number(), rounds.ask()), (None, None));
        assert_eq!(rounds.number(), Some(1));
        assert_eq!(rounds.ask(), Some(1), "the answer to the first is lost");
        rounds.state = RoundState::Made;
        assert_eq!((rounds.number(), rounds.ask(), rounds.current), (Some(2), None, 3));
    }

    #[test]
    fn what_is_gone_is_asked_for_again_until_it_cannot_appear_any_more() {
        let placement = Placement {
            provider: "acme".parse().unwrap(),
            offering: "postgresql".parse().unwrap(),
            plan: "small".parse().unwrap(),
            version: None,
            handle: None,
            maintenance: None,
        };
        let start = Timestamp(0);
        let mut leftover = Leftover::new(placement, "no answer", start);
        let mut asked = Vec::new();
        loop {
            let now = leftover.not_before;
            asked.push(now.since(start).as_secs());
            if leftover.confirm(now) {
                break;
            }
        }
        assert_eq!(asked, [0, 60, 600, 7200, 86_400]);
        assert!(!leftover.is_hopeless(start + APPEARS_WITHIN), "it was confirmed");
    }
}
