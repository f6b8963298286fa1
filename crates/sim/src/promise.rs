//! The promises that a run checks, and how one that is broken is told.

use std::fmt;

use ostler_model::time::Timestamp;
use serde::{Deserialize, Serialize};

/// What must always hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Promise {
    /// No acknowledged fact is lost or altered.
    FactsKept,
    /// A secret is stored with the fact that says that it arrived.
    SecretsKept,
    /// At most one operation is under way for one instance or endpoint.
    OneOperation,
    /// At most one live process stands for one instance.
    OneProcess,
    /// Every instance and binding that exists at a provider is known.
    NoOrphan,
    /// Nothing is deleted that nobody asked to be deleted.
    NoUnaskedDeletion,
    /// Durable data is not replaced by an empty thing, nor by an older state, unless a person said so.
    DataKept,
    /// Backups are made as often as declared.
    BackupsInTime,
    /// Not more is repaired at once than allowed, and not more often than the pauses allow.
    Brakes,
    /// Callers are not taken from the last instance that serves them.
    LastOneServes,
    /// Callers are only sent to where the instance is.
    RoutesRight,
    /// What fails is healed or asked about within its bound.
    HealedOrAsked,
    /// No process is stopped without a stored reason.
    Explained,
    /// A settled estate gets no commands.
    SettledLeftAlone,
    /// Folding the stored facts gives what is known, and its counters are right.
    ReplayEqual,
    /// After the storm everything is as declared within a bound.
    Converges,
}

impl Promise {
    /// All of them.
    pub const ALL: [Self; 16] = [
        Self::FactsKept,
        Self::SecretsKept,
        Self::OneOperation,
        Self::OneProcess,
        Self::NoOrphan,
        Self::NoUnaskedDeletion,
        Self::DataKept,
        Self::BackupsInTime,
        Self::Brakes,
        Self::LastOneServes,
        Self::RoutesRight,
        Self::HealedOrAsked,
        Self::Explained,
        Self::SettledLeftAlone,
        Self::ReplayEqual,
        Self::Converges,
    ];
}

/// A promise that was broken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// Which.
    pub promise: Promise,
    /// When.
    pub at: Timestamp,
    /// In which step of the run.
    pub step: u64,
    /// What was seen.
    pub what: String,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} broken at {} (step {}): {}", self.promise, self.at.to_millis(), self.step, self.what)
    }
}
