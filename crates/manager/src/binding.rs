//! What is known of a binding: what a consumer uses of a need.

use std::net::SocketAddr;
use std::time::Duration;

use ostler_model::health::SymptomKind;
use ostler_model::ids::InstanceId;
use ostler_model::time::Timestamp;
use serde::{Deserialize, Serialize};

use crate::rounds::{LeftBinding, Rounds};
use crate::verified::{Checked, Verification};

/// Credentials that are rejected are not made anew more often than this: something else is wrong then.
const DOUBTED_EVERY: Duration = Duration::from_secs(600);

/// What a consumer uses of a need.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Binding {
    /// The need's instance that holds the credentials.
    pub instance: InstanceId,
    /// The endpoint that they point at.
    pub endpoint: SocketAddr,
    /// Counts the times their content changed, from 1.
    pub revision: u32,
    /// A keyed digest of their content.
    pub digest: String,
    /// What there is of it.
    pub state: BindingState,
    /// How it was asked for.
    #[serde(default)]
    pub rounds: Rounds,
    /// The ask whose credentials are in use.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub used: Option<u32>,
    /// At which instance it was last asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub asked_at: Option<InstanceId>,
    /// What former asks for it made or may have made, and nobody is to use any more.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub left: Vec<LeftBinding>,
    /// From when on it is to be renewed, where it ends by itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub renew_at: Option<Timestamp>,
    /// It was to be renewed when it arrived, and that was put off: by a clock that may be wrong.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub put_off: bool,
    /// What the last look with it found.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub verified: Option<Verification>,
    /// When it was last made anew because the need rejected it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub doubted: Option<Timestamp>,
    /// With the credentials that the consumer uses, nothing was found wrong when that was last looked at: with others it
    /// has to be so, too, before the consumer is given them.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub relied_on: bool,
}

/// What there is of a binding.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum BindingState {
    /// It was ordered, and whether it was made is not known (yet).
    Doubtful,
    /// It was made, and consumers can be started with it.
    Made,
    /// The instance is gone and the credentials with it.
    Lost,
}

impl Binding {
    /// Whether asks for it may have left credentials at a provider, so that it must not be forgotten.
    pub fn has_asks(&self) -> bool {
        self.rounds.number().is_some() || !self.left.is_empty()
    }

    /// Whether its credentials may take the place of those that the consumer uses: nothing is wrong with them that was
    /// not wrong before.
    pub fn is_proven(&self) -> bool {
        let verified = self.verified.as_ref().filter(|verified| verified.revision == self.revision);
        !self.relied_on || verified.is_some_and(Verification::is_kept)
    }

    /// Whether the last look with it found that the need rejects it.
    pub fn is_rejected(&self) -> bool {
        let rejects = |checked: &Checked| {
            checked.problem.as_ref().is_some_and(|symptom| symptom.kind == SymptomKind::WrongCredentials)
        };
        let verified = self.verified.as_ref().filter(|verified| verified.revision == self.revision);
        verified.is_some_and(|verified| verified.checks.iter().any(rejects))
    }

    /// Whether it can be made anew because the need rejects it: it was not just made so.
    pub fn may_be_doubted(&self, now: Timestamp) -> bool {
        self.state == BindingState::Made && self.doubted.is_none_or(|at| now < at || now >= at + DOUBTED_EVERY)
    }

    /// Whether it is to be renewed now.
    pub fn is_due(&self, now: Timestamp) -> bool {
        self.renew_at.is_some_and(|renew_at| renew_at <= now)
    }

    /// Whether nothing is left of it anywhere.
    pub fn is_gone(&self) -> bool {
        self.state == BindingState::Lost && !self.has_asks()
    }

    /// Whether these are the credentials with which consumers are started.
    pub fn is_in_use(&self, left: &LeftBinding) -> bool {
        self.state == BindingState::Made && self.used == Some(left.round) && self.instance == left.instance
    }

    /// One of which it is not known yet whether it is made.
    pub fn new(instance: InstanceId, endpoint: SocketAddr) -> Self {
        Self {
            instance,
            endpoint,
            revision: 0,
            digest: String::new(),
            state: BindingState::Doubtful,
            rounds: Rounds::default(),
            used: None,
            asked_at: None,
            left: Vec::new(),
            renew_at: None,
            put_off: false,
            verified: None,
            doubted: None,
            relied_on: false,
        }
    }
}
