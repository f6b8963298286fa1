//! The promises that a run checks, and how one that is broken is told. Those about brokers come last: what is known there is
//! never all that exists, so they are judged by what the simulated brokers have, and by what the world saw in use.

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
    /// Every instance and binding that exists at a provider is known: at a broker it is in use, on the list of what may
    /// be left, or in quarantine, whatever became of the answer to the ask that made it.
    NoOrphan,
    /// Nothing is deleted that nobody asked to be deleted.
    NoUnaskedDeletion,
    /// Durable data is not replaced by an empty thing, nor by an older state, unless a person said so.
    DataKept,
    /// Backups are made as often as declared.
    BackupsInTime,
    /// Restores are proven as often as declared.
    ProofsInTime,
    /// The newest good backup is kept.
    GoodBackupKept,
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
    /// Who fails while nothing works of something that it needs is left alone.
    VictimsSpared,
    /// A settled estate gets no commands.
    SettledLeftAlone,
    /// Folding the stored facts gives what is known, and its counters are right.
    ReplayEqual,
    /// After the storm everything is as declared within a bound.
    Converges,
    /// Nothing is asked of a broker twice under one name.
    AskedOnce,
    /// What was in use is never deleted as something that was left behind.
    UsedKept,
    /// Credentials that something runs with, or with which ostler looks, are not ended.
    CredentialsKept,
    /// Who uses credentials that end by themselves is given others before they do.
    RenewedInTime,
    /// What was bought of a plan that its catalog has no more stays what it is, and is looked after as before.
    PlansKept,
    /// Removing a provider, or a service, from the file removes nothing that was bought there.
    BoughtKept,
    /// What is released stays at its provider.
    ReleasedKept,
    /// What a drill has caused is ordered to be undone.
    DrillUndone,
    /// There are never two drills.
    OneDrill,
    /// No drill outside its window, unless a person said why.
    DrillInWindow,
    /// What a move left is not routed, bound to, started or restored into again, unless the move is taken back.
    LeftAlone,
    /// Nobody gets at what a move makes before callers are cut off from what it leaves, and its data is there and was
    /// looked at.
    ProvenFirst,
    /// A move loses no more than was declared or a person accepted.
    LossBounded,
    /// What a move left and callers had used is kept until a person asks for its end, or its time is over and it is not
    /// needed any more.
    LeftKept,
    /// Callers get at one place of a service: at what a move left never, however its provider returns.
    NoSplit,
    /// A move ends within a bound after the last thing that stood in its way, or a person is asked.
    MovesEnd,
    /// After the storm there is at brokers what is in use, what a person was asked about, and nothing else.
    NothingDoubled,
}

impl Promise {
    /// All of them.
    pub const ALL: [Self; 36] = [
        Self::FactsKept,
        Self::SecretsKept,
        Self::OneOperation,
        Self::OneProcess,
        Self::NoOrphan,
        Self::NoUnaskedDeletion,
        Self::DataKept,
        Self::BackupsInTime,
        Self::ProofsInTime,
        Self::GoodBackupKept,
        Self::Brakes,
        Self::LastOneServes,
        Self::RoutesRight,
        Self::HealedOrAsked,
        Self::Explained,
        Self::VictimsSpared,
        Self::SettledLeftAlone,
        Self::ReplayEqual,
        Self::Converges,
        Self::AskedOnce,
        Self::UsedKept,
        Self::CredentialsKept,
        Self::RenewedInTime,
        Self::PlansKept,
        Self::BoughtKept,
        Self::ReleasedKept,
        Self::DrillUndone,
        Self::OneDrill,
        Self::DrillInWindow,
        Self::LeftAlone,
        Self::ProvenFirst,
        Self::LossBounded,
        Self::LeftKept,
        Self::NoSplit,
        Self::MovesEnd,
        Self::NothingDoubled,
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
