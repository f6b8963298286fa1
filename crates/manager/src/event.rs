//! What the manager is told.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use ostler_model::catalog::Catalog;
use ostler_model::estate::drills::Fault;
use ostler_model::estate::{Estate, Service};
use ostler_model::health::{Exit, Health};
use ostler_model::ids::{AttemptId, BindingId, CommandId, EstateUuid, InstanceId, Position, ProviderName, ServiceName};
use ostler_model::month::Month;
use ostler_model::outcome::BackupMade;
use ostler_model::overrides::{OverrideId, Until};
use ostler_model::sale::{Guest, Sale};
use ostler_model::time::{Span, Timestamp};
use ostler_model::version::VersionRange;
use serde::{Deserialize, Serialize};

use crate::command::Outcome;
use crate::credit::ClaimStep;
use crate::level::Traffic;
use crate::overrides::Instruction;
use crate::verified::Checked;

/// A build of ostler.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OwnBuild {
    /// As it calls itself.
    pub version: String,
    /// The digest of its file, in hexadecimal digits.
    pub sha256: String,
}

impl OwnBuild {
    /// `0.1.0 (4b1a…)`, for people.
    pub fn in_words(&self) -> String {
        format!("{} ({})", self.version, self.sha256.get(..12).unwrap_or(&self.sha256))
    }
}

/// What happened to a build of ostler.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum OwnStep {
    /// It was proven in a dry run, and is being brought in.
    Began,
    /// All of ostler's processes are of it; it is taken back if they do not hold.
    Replaced,
    /// Its probation is over.
    Accepted,
    /// The former build runs again.
    TakenBack {
        /// Why.
        why: String,
    },
}

/// Something that happened, was seen, or was asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// Ostler starts, or has lost and found what holds its instances: everything is to be looked at before anything
    /// is concluded.
    Resumed {
        /// Why.
        cause: ResumeCause,
        /// For an estate that has none yet: 128 random bits as a UUID.
        uuid: EstateUuid,
    },
    /// A person let ostler go on although the newest facts had been lost.
    LossAccepted {
        /// The newest fact that had been acknowledged, if anybody knows.
        acknowledged: Option<Position>,
    },
    /// Ostler itself is being replaced by another build, or that was taken back.
    SelfUpgrade {
        /// What ran before.
        from: OwnBuild,
        /// What was to run.
        to: OwnBuild,
        /// What happened.
        step: OwnStep,
    },
    /// A person gave an estate file, whole and checked, with what its providers offer now.
    EstateGiven {
        /// What it declares.
        estate: Arc<Estate>,
        /// What each of its providers offers.
        catalogs: BTreeMap<ProviderName, Arc<Catalog>>,
    },
    /// A provider was asked what it offers now.
    CatalogRead {
        /// Who.
        provider: ProviderName,
        /// What.
        catalog: Arc<Catalog>,
    },
    /// A person asked for something.
    Asked(Ask),
    /// A command has ended.
    Ended {
        /// Which.
        id: CommandId,
        /// What came of it.
        outcome: Outcome,
    },
    /// A provider has agreed to carry out a command, and will take its time.
    Accepted {
        /// Which.
        id: CommandId,
        /// What the provider calls it, if it gave it a name.
        operation: Option<String>,
    },
    /// An instance's health has changed.
    Probed {
        /// Which.
        instance: InstanceId,
        /// The watch that saw it, by its command; what an older watch says no longer counts.
        watch: CommandId,
        /// What it is now.
        health: Health,
    },
    /// An instance's process has ended by itself.
    Died {
        /// Which.
        instance: InstanceId,
        /// The process.
        pid: Option<u32>,
        /// How.
        exit: Exit,
        /// When.
        at: Timestamp,
        /// The process that the reflex started in its place, or why it did not.
        reflex: Result<Process, String>,
    },
    /// Callers of an endpoint had to wait, or were failed, and that is over now.
    CallersAffected {
        /// Of which service.
        service: ServiceName,
        /// From when.
        from: Timestamp,
        /// Until when.
        until: Timestamp,
        /// Connections that waited and were then served.
        waited: u64,
        /// Connections that were failed.
        failed: u64,
        /// The longest wait.
        longest: Duration,
    },
    /// What callers of a service got within a time.
    Served {
        /// Which.
        service: ServiceName,
        /// What.
        traffic: Traffic,
    },
    /// What a service's endpoint has carried since a gateway began to carry it.
    Carried {
        /// Which.
        service: ServiceName,
        /// Since when: this tells the counting of one gateway from that of another.
        since: Timestamp,
        /// Bytes from callers to instances.
        bytes_in: u64,
        /// Bytes from instances to callers.
        bytes_out: u64,
    },
    /// What was bought was looked at with a consumer's own binding.
    Verified {
        /// Which.
        binding: BindingId,
        /// Which revision of it.
        revision: u32,
        /// What was found.
        checks: Vec<Checked>,
    },
    /// Look again: because a decision asked to be woken, or because something it depends on has changed.
    Look(Scope),
}

/// Why everything is to be looked at again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ResumeCause {
    /// The manager process has started.
    Started,
    /// What holds the instances died and has come back.
    HolderReturned,
    /// Facts could not be stored for a while, and the commands that followed from them are out of date.
    StoredLate,
}

/// A process that took another's place.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Process {
    /// Process id.
    pub pid: u32,
    /// When it existed.
    pub since: Timestamp,
}

/// What a person can ask of a running estate.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Ask {
    /// A service credit is claimed from a provider, or what came of that.
    Credit {
        /// From whom.
        provider: ProviderName,
        /// For which month.
        month: Month,
        /// What happened.
        step: ClaimStep,
        /// Who says so.
        by: String,
        /// What they write about it.
        note: Option<String>,
    },
    /// Stop and start every instance of the service, one after the other; also the answer to what is held.
    Restart {
        /// Which.
        service: ServiceName,
    },
    /// So many instances, until the estate file is given again.
    Scale {
        /// Which.
        service: ServiceName,
        /// How many.
        instances: u32,
    },
    /// Stop everything, dependents first. Data stays.
    Down,
    /// Delete the instances of a service, with their data. Only for a service that is at rest or no longer declared.
    Delete {
        /// Which.
        service: ServiceName,
    },
    /// Take over an instance that the service's provider has already, and that ostler did not ask for.
    Adopt {
        /// For which service.
        service: ServiceName,
        /// From whom: where the service is bought.
        provider: ProviderName,
        /// By which name its provider knows it.
        name: String,
    },
    /// Leave the instances of a service to their provider, and forget them. Only for a service that is at rest or no
    /// longer declared.
    Release {
        /// Which.
        service: ServiceName,
    },
    /// What is to become of something that is in quarantine.
    Settle {
        /// Which.
        leftover: AttemptId,
        /// What.
        how: Settlement,
    },
    /// Somebody buys an instance from this estate, or has it changed.
    Sell {
        /// As which service.
        spec: Arc<Service>,
        /// What the buyer said.
        sale: Arc<Sale>,
    },
    /// Somebody elsewhere is to be able to use what was sold.
    Admit {
        /// As which service, of which nothing runs here.
        service: ServiceName,
        /// Who, and what.
        guest: Arc<Guest>,
    },
    /// What was sold is given back, with its data and everybody who uses it; or a guest does not use it any more.
    EndSale {
        /// Which.
        service: ServiceName,
    },
    /// Back up the service's data now, under this name.
    Backup {
        /// Which.
        service: ServiceName,
        /// The backup's name.
        name: String,
    },
    /// Restore a backup of the service on the side, to prove that it can be.
    Prove {
        /// Which.
        service: ServiceName,
        /// The backup's name; the newest good one if `None`.
        name: Option<String>,
    },
    /// Delete a backup.
    DropBackup {
        /// Whose.
        service: ServiceName,
        /// The backup's name.
        name: String,
    },
    /// Cause a fault on purpose, and see whether the service recovers.
    Drill {
        /// Which.
        service: ServiceName,
        /// Which fault.
        fault: Fault,
        /// How long it may last; as declared if `None`.
        lasts: Option<Span>,
        /// Why it cannot wait for a window.
        despite: Option<String>,
    },
    /// The buyer of what was sold brings a backup of it, which is to be restored, and may be dropped after that.
    Bring {
        /// Which.
        service: ServiceName,
        /// What is brought.
        backup: BackupMade,
    },
    /// Replace the service's data by a backup.
    Restore {
        /// Which.
        service: ServiceName,
        /// The backup's name.
        name: String,
    },
    /// Move the service to another provider, with its data; also the answer to a move that waits for a person.
    FailOver {
        /// Which.
        service: ServiceName,
        /// To whom; the best that is allowed if `None`.
        to: Option<ProviderName>,
        /// What no backup holds may be lost, however much that is.
        accept_loss: bool,
    },
    /// Take back a move whose new instance is not in use yet.
    FailBack {
        /// Of which service.
        service: ServiceName,
    },
    /// Delete an instance that a move left, with its data.
    Discard {
        /// Which.
        instance: InstanceId,
    },
    /// Put newer versions to use that are on offer and allowed.
    Upgrade {
        /// Of which service; of all that have some if `None`.
        service: Option<ServiceName>,
        /// To one of these; the newest that will do if `None`.
        to: Option<VersionRange>,
        /// Why it cannot wait for a window.
        despite: Option<String>,
    },
    /// Decide otherwise than you would: it stands until its end.
    Override {
        /// How.
        #[serde(flatten)]
        instruction: Instruction,
        /// Who answers for it.
        owner: String,
        /// Why.
        reason: String,
        /// Until when.
        until: Option<Until>,
    },
    /// End an override before its end.
    EndOverride {
        /// Which.
        id: OverrideId,
        /// Who answers for that.
        owner: String,
        /// Why.
        reason: String,
    },
    /// Take an upgrade back: the one under way, or the last one.
    Rollback {
        /// Of which service.
        service: ServiceName,
        /// What was written since may be lost.
        accept_loss: bool,
    },
}

/// What a person lets become of something in quarantine.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Settlement {
    /// Delete it at its provider: as often as it takes.
    Delete,
    /// Keep it, or whatever it is, and forget it here: somebody else looks after it.
    Release,
}

/// What is to be looked at again.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Scope {
    /// A service: its endpoint, its number of instances, its bindings, and all its instances.
    Service(ServiceName),
    /// One instance.
    Instance(InstanceId),
}

impl Scope {
    /// The service it lies in.
    pub fn service(&self) -> &ServiceName {
        match self {
            Self::Service(service) => service,
            Self::Instance(instance) => instance.service(),
        }
    }
}
