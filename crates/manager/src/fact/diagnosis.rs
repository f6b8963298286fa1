//! What was concluded of one instance, in the form in which facts carry it.

use ostler_model::health::{Exit, Symptom};
use serde::{Deserialize, Serialize};

/// What is concluded to be the cause, with the evidence.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Diagnosis {
    /// Its process ended, and the reflex did not start it again.
    Died {
        /// How.
        exit: Exit,
        /// Why the reflex did not.
        why_not: String,
    },
    /// Its process ended and the reflex started it again.
    DiedAndRestarted {
        /// How.
        exit: Exit,
    },
    /// Its process lives but does not answer as it should.
    Unresponsive {
        /// What the probes found.
        symptom: Symptom,
    },
    /// It was started and did not become ready in time.
    NeverReady {
        /// What the probes found, if they found anything.
        symptom: Option<Symptom>,
    },
    /// It could not be started.
    CannotStart {
        /// Why.
        cause: String,
        /// What a person can do about it.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        remedy: Option<String>,
    },
    /// It was found dead when everything was looked at again.
    FoundDead {
        /// How it ended, if anybody knows.
        exit: Option<Exit>,
    },
}

impl Diagnosis {
    /// In words, as a whole sentence without its subject: "ended with signal 9 (SIGKILL)".
    pub fn in_words(&self) -> String {
        match self {
            Self::Died { exit, why_not } => format!("ended with {exit}, and was not restarted at once: {why_not}"),
            Self::DiedAndRestarted { exit } => format!("ended with {exit}"),
            Self::Unresponsive { symptom } => format!("runs but does not answer as it should: {symptom}"),
            Self::NeverReady { symptom: Some(symptom) } => format!("did not become ready in time: {symptom}"),
            Self::NeverReady { symptom: None } => "did not become ready in time".to_owned(),
            Self::CannotStart { cause, .. } => format!("cannot be started: {cause}"),
            Self::FoundDead { exit: Some(exit) } => format!("was found dead; it ended with {exit}"),
            Self::FoundDead { exit: None } => "was found dead".to_owned(),
        }
    }

    /// What a person can do about it, where anybody knows.
    pub fn remedy(&self) -> Option<&str> {
        match self {
            Self::CannotStart { remedy, .. } => remedy.as_deref(),
            Self::Died { .. }
            | Self::DiedAndRestarted { .. }
            | Self::Unresponsive { .. }
            | Self::NeverReady { .. }
            | Self::FoundDead { .. } => None,
        }
    }
}
