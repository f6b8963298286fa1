//! What came of asking a provider for something.

use std::collections::BTreeMap;
use std::fmt;
use std::net::SocketAddr;

use serde::{Deserialize, Serialize};

use crate::health::Exit;
use crate::time::{Span, Timestamp};

/// Why something that was asked for did not happen.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failure {
    /// What follows from it.
    pub class: FailureClass,
    /// What was tried, with which thing, and why it failed: for people, without secrets, at most 2,000 characters.
    pub detail: String,
    /// What a person can do about it.
    pub remedy: String,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.detail)
    }
}

/// What follows from a failure.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum FailureClass {
    /// It may work when tried again later: with growing pauses.
    Temporary,
    /// Trying again cannot help and may harm: a person must look.
    NeedsPerson,
    /// Ostler itself was interrupted; whether it happened is to be observed.
    Interrupted,
    /// The provider's answer leaves open whether it happened: it is to be observed, and nothing is to be concluded.
    InDoubt,
    /// It failed at the provider, and may have left something behind that is of no use to anybody: it may be deleted.
    LeftBehind,
    /// Something is there under the name that was asked for, and may be anybody's: nobody but a person may touch it.
    Unclear,
}

/// A live process as people see it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Running {
    /// Process id, where the instance is a process on this machine.
    pub pid: Option<u32>,
    /// Where it answers.
    pub address: SocketAddr,
    /// Since when it runs.
    pub since: Timestamp,
}

/// What a provider says an instance is like right now.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Observation {
    /// It does not exist at the provider.
    Absent,
    /// The provider does not know it, or does not say. It may still appear there, as what was asked for may take its time.
    NotSeen {
        /// What the provider said, for people.
        why: String,
    },
    /// It was to be made, and that failed at the provider: what there is of it is of no use.
    Useless {
        /// What the provider said, for people.
        why: String,
    },
    /// It exists and does not run; how it last ended, if the provider knows.
    Stopped {
        /// How.
        exit: Option<Exit>,
    },
    /// It runs.
    Running(Running),
}

/// A backup that was made.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct BackupMade {
    /// Its name: what `ostler restore` takes.
    pub name: String,
    /// Its size.
    pub bytes: u64,
    /// SHA-256 in hexadecimal digits of its content.
    pub sha256: String,
    /// Where it is kept, as [`Store`](crate::estate::backups::Store) writes it; in the home's own folder if `None`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub place: Option<String>,
}

/// What data consists of, counted: `rows`, `tables`, `keys`, by the offering's own words.
pub type Counted = BTreeMap<String, u64>;

/// A backup that was restored on the side, and looked at.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Proof {
    /// How long it took to fetch and to restore it: what a restore would take now.
    pub took: Span,
    /// What was counted in it. Where that was also counted when the backup was made, it was the same.
    pub counted: Counted,
    /// How many of the consumers' contracts were kept by it.
    pub contracts: u32,
}
