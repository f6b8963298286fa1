//! What the manager asks the world to do, and what can come of it.
//!
//! Invariant: every command is safe to repeat, and carries everything that the facts alone cannot give its executor.

use std::net::SocketAddr;

use ostler_model::estate::Occasion;
use ostler_model::health::Exit;
use ostler_model::ids::{AttemptId, BindingId, InstanceId, ServiceName};
use ostler_model::outcome::{BackupMade, Failure, Observation, Proof, Running};
use ostler_model::time::{Span, Timestamp};
use serde::{Deserialize, Serialize};

use crate::drill::{Drill, Measured};
use crate::verified::Checked;

/// Something the world is asked to do.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Command {
    /// Open the service's endpoint and keep it; on a free port if `address` is `None`.
    OpenEndpoint {
        /// Whose.
        service: ServiceName,
        /// Where.
        address: Option<SocketAddr>,
    },
    /// Close the service's endpoint.
    CloseEndpoint {
        /// Whose.
        service: ServiceName,
    },
    /// Cut callers of the service off from everything that a move has left, for good: their connections end, and no word
    /// of an earlier epoch counts any more.
    Fence {
        /// Whose.
        service: ServiceName,
        /// The epoch that begins.
        epoch: u64,
    },
    /// Make the instance.
    Provision {
        /// Which.
        instance: InstanceId,
    },
    /// Say what the instance is like.
    Observe {
        /// Which.
        instance: InstanceId,
    },
    /// Run the service's one-off command on behalf of the instance.
    Before {
        /// Which.
        instance: InstanceId,
        /// The launch it belongs to.
        generation: u32,
    },
    /// Start the instance from this launch. Stored with it: how often it may be started again without asking.
    Start {
        /// Which.
        instance: InstanceId,
        /// From which launch of its service.
        generation: u32,
        /// Restarts at once.
        reflex_burst: u32,
        /// Until one more is allowed.
        reflex_refill: Span,
        /// It runs already: this only tells whoever holds its process how to start it again.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        entrust: bool,
    },
    /// Let connections end, then stop the instance.
    Stop {
        /// Which.
        instance: InstanceId,
        /// How long connections may go on.
        drain: Span,
        /// How long it may take to end.
        grace: Span,
    },
    /// Delete the instance with its data.
    Deprovision {
        /// Which.
        instance: InstanceId,
    },
    /// Make the binding's credentials on this instance of the need.
    Bind {
        /// Which binding.
        binding: BindingId,
        /// At which instance.
        instance: InstanceId,
        /// The need's endpoint, which the credentials point at.
        endpoint: SocketAddr,
    },
    /// End the binding's credentials.
    Unbind {
        /// Which binding.
        binding: BindingId,
        /// At which instance.
        instance: InstanceId,
    },
    /// End every binding to the instance, and leave it to its provider.
    Release {
        /// Which.
        instance: InstanceId,
    },
    /// Change the running instance to this launch, where it is.
    Update {
        /// Which.
        instance: InstanceId,
        /// To which launch of its service.
        generation: u32,
    },
    /// Delete what an ask for an instance may have left behind. It never was ready.
    Mitigate {
        /// Which ask.
        leftover: AttemptId,
    },
    /// End the credentials that earlier asks for the binding made, or may have made. Nothing uses them.
    Tidy {
        /// Which binding.
        binding: BindingId,
        /// At which instance.
        instance: InstanceId,
        /// Which asks.
        rounds: Vec<u32>,
    },
    /// Back up the instance's data.
    Backup {
        /// Which.
        instance: InstanceId,
        /// Under which name.
        name: String,
    },
    /// Replace the instance's data by a backup.
    Restore {
        /// Which.
        instance: InstanceId,
        /// Which backup.
        backup: BackupMade,
    },
    /// Look at the instance as its consumers will see it: what they rely on has to be so before they get at it.
    Prove {
        /// Which.
        instance: InstanceId,
    },
    /// Restore a backup of the service on the side, and look at what it holds. Nothing of the service is touched.
    ProveBackup {
        /// Whose.
        service: ServiceName,
        /// Which backup.
        backup: BackupMade,
    },
    /// Delete a backup of the service. That it is not there is as good.
    DropBackup {
        /// Whose.
        service: ServiceName,
        /// Which backup.
        backup: BackupMade,
    },
    /// Watch the instance's health from now on, as one of which nothing is known; a former watch of it ends, as all do
    /// when everything is looked at again. Has no outcome but [`crate::Event::Probed`].
    Watch {
        /// Which.
        instance: InstanceId,
        /// Where it answers.
        address: SocketAddr,
    },
    /// Watch it no more.
    Unwatch {
        /// Which.
        instance: InstanceId,
    },
    /// Let the endpoint send callers to the instance, or no longer. Has no outcome.
    Route {
        /// Which.
        instance: InstanceId,
        /// Where it answers; `None` takes it out.
        address: Option<SocketAddr>,
    },
    /// Cause a fault on purpose, and undo it by yourself when its time is over, whatever becomes of ostler.
    Fault {
        /// Which.
        drill: Box<Drill>,
    },
    /// Undo what is left of a fault that was caused on purpose, or may have been.
    Undo {
        /// Which.
        drill: Box<Drill>,
    },
    /// Tell the people that the estate names. Has no outcome.
    Notify {
        /// What about.
        service: ServiceName,
        /// The occasion.
        occasion: Occasion,
        /// One sentence.
        message: String,
    },
}

/// What a command is done to: its executor does one at a time for each.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Target {
    /// An instance.
    Instance(InstanceId),
    /// A service's endpoint.
    Endpoint(ServiceName),
    /// What an ask for an instance may have left behind.
    Leftover(AttemptId),
    /// A service's backups.
    Vault(ServiceName),
    /// What is drilled in the estate: there is one at a time.
    Drill(ServiceName),
    /// Nothing that has a state.
    Nothing,
}

/// What a command is about, whether or not an outcome comes back.
enum Concern<'a> {
    Service(&'a ServiceName),
    Instance(&'a InstanceId),
    Leftover(&'a AttemptId),
    Vault(&'a ServiceName),
    Drill(&'a ServiceName),
}

impl Command {
    /// What it is done to.
    pub fn target(&self) -> Target {
        if matches!(self, Self::Watch { .. } | Self::Unwatch { .. } | Self::Route { .. } | Self::Notify { .. }) {
            return Target::Nothing;
        }
        match self.concerns() {
            Concern::Service(service) => Target::Endpoint(service.clone()),
            Concern::Instance(instance) => Target::Instance(instance.clone()),
            Concern::Leftover(leftover) => Target::Leftover(leftover.clone()),
            Concern::Vault(service) => Target::Vault(service.clone()),
            Concern::Drill(service) => Target::Drill(service.clone()),
        }
    }

    /// The service at whose provider it is carried out.
    pub fn at_service(&self) -> &ServiceName {
        match self.concerns() {
            Concern::Service(service) | Concern::Vault(service) => service,
            Concern::Instance(instance) => instance.service(),
            Concern::Leftover(leftover) => leftover.instance.service(),
            Concern::Drill(service) => service,
        }
    }

    /// The instance that it is done to, if it is done to one.
    pub fn at_instance(&self) -> Option<&InstanceId> {
        match self.concerns() {
            Concern::Instance(instance) => Some(instance),
            Concern::Service(_) | Concern::Leftover(_) | Concern::Vault(_) | Concern::Drill(_) => None,
        }
    }

    fn concerns(&self) -> Concern<'_> {
        match self {
            Self::OpenEndpoint { service, .. }
            | Self::CloseEndpoint { service }
            | Self::Fence { service, .. }
            | Self::Notify { service, .. } => Concern::Service(service),
            Self::Provision { instance }
            | Self::Observe { instance }
            | Self::Before { instance, .. }
            | Self::Start { instance, .. }
            | Self::Stop { instance, .. }
            | Self::Deprovision { instance }
            | Self::Bind { instance, .. }
            | Self::Unbind { instance, .. }
            | Self::Update { instance, .. }
            | Self::Tidy { instance, .. }
            | Self::Release { instance }
            | Self::Backup { instance, .. }
            | Self::Restore { instance, .. }
            | Self::Prove { instance }
            | Self::Watch { instance, .. }
            | Self::Unwatch { instance }
            | Self::Route { instance, .. } => Concern::Instance(instance),
            Self::Mitigate { leftover } => Concern::Leftover(leftover),
            Self::ProveBackup { service, .. } | Self::DropBackup { service, .. } => Concern::Vault(service),
            Self::Fault { drill } | Self::Undo { drill } => Concern::Drill(&drill.service),
        }
    }

    /// Whether an outcome comes back, so that the command is an operation under way until then.
    pub fn has_outcome(&self) -> bool {
        self.target() != Target::Nothing
    }

    /// Whether it is put to the provider of the instance.
    pub fn is_asked_of_provider(&self) -> bool {
        match self {
            Self::Provision { .. }
            | Self::Observe { .. }
            | Self::Update { .. }
            | Self::Bind { .. }
            | Self::Unbind { .. }
            | Self::Tidy { .. }
            | Self::Release { .. }
            | Self::Start { .. }
            | Self::Mitigate { .. }
            | Self::Deprovision { .. } => true,
            Self::OpenEndpoint { .. }
            | Self::CloseEndpoint { .. }
            | Self::Before { .. }
            | Self::Stop { .. }
            | Self::Backup { .. }
            | Self::Restore { .. }
            | Self::Fence { .. }
            | Self::Prove { .. }
            | Self::ProveBackup { .. }
            | Self::DropBackup { .. }
            | Self::Watch { .. }
            | Self::Unwatch { .. }
            | Self::Route { .. }
            | Self::Fault { .. }
            | Self::Undo { .. }
            | Self::Notify { .. } => false,
        }
    }

    /// What it does, in a few words for people: "start web-1".
    pub fn in_words(&self) -> String {
        match self {
            Self::OpenEndpoint { service, address: Some(address) } => format!("open {service}'s endpoint {address}"),
            Self::OpenEndpoint { service, address: None } => format!("open an endpoint for {service}"),
            Self::CloseEndpoint { service } => format!("close {service}'s endpoint"),
            Self::Fence { service, .. } => format!("cut callers of {service} off from what it leaves"),
            Self::Provision { instance } => format!("provision {instance}"),
            Self::Observe { instance } => format!("observe {instance}"),
            Self::Before { instance, .. } => format!("run {}'s one-off command", instance.service()),
            Self::Start { instance, entrust: true, .. } => format!("look after {instance}"),
            Self::Start { instance, entrust: false, .. } => format!("start {instance}"),
            Self::Stop { instance, .. } => format!("stop {instance}"),
            Self::Deprovision { instance } => format!("delete {instance} with its data"),
            Self::Bind { binding, instance, .. } => format!("bind {} to {instance}", binding.consumer),
            Self::Unbind { binding, instance } => format!("unbind {} from {instance}", binding.consumer),
            Self::Release { instance } => format!("leave {instance} to its provider"),
            Self::Update { instance, .. } => format!("update {instance}"),
            Self::Mitigate { leftover } => {
                format!("delete what ask {} for {} may have left behind", leftover.attempt, leftover.instance)
            }
            Self::Tidy { binding, instance, .. } => {
                format!("end former credentials of {} at {instance}", binding.consumer)
            }
            Self::Backup { instance, name } => format!("back up {instance} as {name}"),
            Self::Restore { instance, backup } => format!("restore {instance} from {}", backup.name),
            Self::Prove { instance } => format!("look at {instance} as its consumers will see it"),
            Self::ProveBackup { service, backup } => format!("restore {service}'s backup {} on the side", backup.name),
            Self::DropBackup { service, backup } => format!("delete {service}'s backup {}", backup.name),
            Self::Watch { instance, .. } => format!("watch {instance}"),
            Self::Unwatch { instance } => format!("watch {instance} no more"),
            Self::Route { instance, address: Some(_) } => format!("send callers to {instance}"),
            Self::Route { instance, address: None } => format!("send no more callers to {instance}"),
            Self::Fault { drill } => format!("cause `{}` {}", drill.fault, drill.place_in_words()),
            Self::Undo { drill } => format!("undo `{}` {}", drill.fault, drill.place_in_words()),
            Self::Notify { service, occasion, .. } => format!("tell people that {service} is {}", occasion.as_str()),
        }
    }
}

/// What was started.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Started {
    /// As what it runs.
    #[serde(flatten)]
    pub running: Running,
    /// From when on the credentials with which ostler looks at it are to be renewed, where they end by themselves.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub renew_at: Option<Timestamp>,
}

impl From<Running> for Started {
    fn from(running: Running) -> Self {
        Self { running, renew_at: None }
    }
}

/// What came of a command.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Outcome {
    /// Of `OpenEndpoint`: where it is open.
    Open(SocketAddr),
    /// Of `Observe`.
    Observed(Observation),
    /// Of `Start`.
    Started(Started),
    /// Of `Stop`.
    Stopped {
        /// How its main process ended; `None` if nothing ran.
        exit: Option<Exit>,
        /// It was killed, because it did not end within its grace.
        killed: bool,
        /// Connections that were cut because they did not end within the drain.
        cut: u64,
    },
    /// Of `Bind`: the digest tells whether the credentials differ from former ones.
    Bound {
        /// A keyed digest of what the binding holds.
        digest: String,
        /// From when on it is to be renewed, where it ends by itself.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        renew_at: Option<Timestamp>,
    },
    /// Of `Backup`.
    BackedUp(BackupMade),
    /// Of `Prove`: what was looked at, and what was found wrong.
    Proved {
        /// Each check, in the order in which they were made.
        checks: Vec<Checked>,
    },
    /// Of `ProveBackup`.
    Proven(Proof),
    /// Of `ProveBackup` and `Restore`: the backup itself is of no use, whatever is done with it. Nothing has changed.
    Unusable {
        /// Why, for people.
        why: String,
    },
    /// Of `Fault`: it is there since then.
    Caused {
        /// When.
        at: Timestamp,
    },
    /// Of `Undo`: nothing is left of it, and this is what was measured.
    Undone(Box<Measured>),
    /// Of all others: it is done.
    Done,
    /// It did not happen.
    Failed(Failure),
}
