//! What is known of a service's backups beyond that they were made: which were proven, which are bad, which are being
//! deleted.
//!
//! Invariant: it only speaks of backups that the service has, or that are being deleted; so it is bounded as they are.

use std::collections::BTreeMap;

use ostler_model::ids::CommandId;
use ostler_model::outcome::{BackupMade, Failure, Proof};
use ostler_model::time::Timestamp;
use serde::{Deserialize, Serialize};

use crate::command::Command;
use crate::knowledge::{Knowledge, ServiceKnowledge};
use crate::moving::Brings;

/// What the names of scheduled backups begin with, and those of no others.
pub(crate) const SCHEDULED: &str = "scheduled-";
/// What the names of those begin with that are only on their way to or from a buyer, and of no others: they are no backups
/// of the seller's.
pub const FOR_BUYER: &str = "buyer-";
/// At most so many backups of one service are made by hand: those only go when a person says so.
pub const BY_HAND_MAX: usize = 200;

/// What is known of a service's backups.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Vault {
    /// What was found of backups when they were restored, by name.
    pub found: BTreeMap<String, Found>,
    /// A backup whose restore is to be proven.
    pub proof_wanted: Option<String>,
    /// When a proof was last asked for: the schedule counts from here. One that came to nothing sets it back, so that
    /// the next one comes sooner.
    pub proof_clock: Option<Timestamp>,
    /// Why the last proof came to nothing.
    pub proof_trouble: Option<Failure>,
    /// How many proofs in a row did not succeed.
    pub proof_failures: u32,
    /// What is kept no longer and may still be there, by name.
    pub dropping: BTreeMap<String, Dropping>,
    /// A proof or a deletion that is under way.
    pub operation: Option<CommandId>,
}

/// What was found of a backup.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Found {
    /// It was restored on the side, and held what it is to hold.
    Proven {
        /// When.
        at: Timestamp,
        /// What was found.
        proof: Proof,
    },
    /// It is of no use.
    Bad {
        /// When that was found.
        at: Timestamp,
        /// Why.
        why: String,
    },
}

/// A backup that is being deleted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Dropping {
    /// Which.
    pub backup: BackupMade,
    /// How many times in a row it could not be.
    pub failures: u32,
    /// Not tried again before this.
    pub not_before: Timestamp,
}

/// Nothing is known.
static NOTHING: Vault = Vault {
    found: BTreeMap::new(),
    proof_wanted: None,
    proof_clock: None,
    proof_trouble: None,
    proof_failures: 0,
    dropping: BTreeMap::new(),
    operation: None,
};

impl ServiceKnowledge {
    /// What is known of its backups.
    pub fn vault(&self) -> &Vault {
        self.vault.as_deref().unwrap_or(&NOTHING)
    }

    /// Whether the backup is known to be of no use.
    pub fn is_bad(&self, backup: &str) -> bool {
        matches!(self.vault().found.get(backup), Some(Found::Bad { .. }))
    }

    /// The newest backup of which nothing bad is known: what a restore without a person takes.
    pub fn newest_good(&self) -> Option<&(Timestamp, BackupMade)> {
        let is_ours = |made: &BackupMade| !made.name.starts_with(FOR_BUYER);
        self.backups.iter().rev().find(|(_, made)| is_ours(made) && !self.is_bad(&made.name))
    }

    /// The newest backup whose restore was proven, with when that was and what was found.
    pub fn newest_proven(&self) -> Option<(&BackupMade, Timestamp, &Proof)> {
        self.backups.iter().rev().find_map(|(_, made)| match self.vault().found.get(&made.name) {
            Some(Found::Proven { at, proof }) => Some((made, *at, proof)),
            Some(Found::Bad { .. }) | None => None,
        })
    }

    /// How many of its backups only go when a person says so.
    pub(crate) fn made_by_hand(&self) -> usize {
        self.backups.iter().filter(|(_, made)| !made.name.starts_with(SCHEDULED)).count()
    }
}

impl Knowledge {
    /// Why a backup of the service must not be deleted, whoever asks for it.
    pub fn why_kept(&self, service: &ServiceKnowledge, backup: &str) -> Option<String> {
        let is_it = |name: &String| name == backup;
        let name = &service.spec.name;
        if service.restore_wanted.as_ref().is_some_and(is_it)
            || service.vault().proof_wanted.as_ref().is_some_and(is_it)
        {
            return Some(format!("the backup `{backup}` of `{name}` is about to be restored"));
        }
        let brings = service.moving.as_ref().map(|moving| &moving.brings);
        if matches!(brings, Some(Brings::Backup { made, .. }) if made.name == backup) {
            return Some(format!("`{name}` is being moved with its backup `{backup}`"));
        }
        let at_instances = service.instances.values().filter_map(|instance| Some(instance.operation?.id));
        let under_way = at_instances.chain(service.vault().operation).filter_map(|id| self.commands.get(&id));
        let uses = |command: &Command| match command {
            Command::Restore { backup: used, .. } | Command::ProveBackup { backup: used, .. } => used.name == backup,
            _ => false,
        };
        if under_way.into_iter().any(uses) {
            return Some(format!("the backup `{backup}` of `{name}` is being restored"));
        }
        if service.newest_good().is_some_and(|(_, newest)| newest.name == backup) {
            return Some(format!("`{backup}` is the newest backup of `{name}` that is good: make another one first"));
        }
        if service.newest_proven().is_some_and(|(proven, _, _)| proven.name == backup) {
            return Some(format!(
                "`{backup}` is the newest backup of `{name}` whose restore was proven: `ostler prove {name}` proves a \
                 newer one"
            ));
        }
        None
    }
}
