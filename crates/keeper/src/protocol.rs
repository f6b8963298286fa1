//! What the manager, the gateway and the command line say to the keeper, and what it answers.
//!
//! One message is one packet on a `SOCK_SEQPACKET` Unix socket (`keeper.sock` in the home, mode 0600), so there is no
//! framing, and file descriptors travel with the message they belong to (`SCM_RIGHTS`). The text is JSON. Only what the
//! keeper sends may be longer than a packet; it then travels in a memory file (module `wire`). Peers of
//! another user are turned away (`SO_PEERCRED`), except root.
//!
//! Invariant: every order is safe to repeat. The keeper knows no estate: names are opaque to it.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use ostler_model::health::Exit;
use ostler_model::ids::InstanceId;
use ostler_model::time::Timestamp;
use serde::{Deserialize, Serialize};

use crate::builds::{Build, Kept, Upgrade};

/// The longest packet. The kernel copies a packet in one piece; environments of programs are the largest content.
pub const PACKET_BYTES_MAX: usize = 192 * 1024;
/// The version of these messages. A keeper answers a `Hello` of another version with [`Refusal::OtherVersion`].
pub const VERSION: u32 = 1;
/// How long the gateway may take to end with the keeper ([`Order::Shutdown`]); then it is killed.
pub const GATEWAY_ENDS_WITHIN: Duration = Duration::from_secs(5);
/// How long a gateway that was replaced by another build goes on carrying the connections that it has; then they are cut.
pub const GATEWAY_LEAVES_WITHIN: Duration = Duration::from_secs(3600);

/// A message to the keeper.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Request {
    /// Repeated in the answer. Chosen by the sender, from 1.
    pub id: u64,
    /// What is asked.
    pub order: Order,
}

/// What can be asked of the keeper.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Order {
    /// Who speaks; the first message on every connection. A second `Manager` replaces the first, which is closed.
    Hello {
        /// [`VERSION`].
        version: u32,
        /// In which role.
        role: Role,
    },
    /// Everything that is running or remembered. Answer: [`Answer::Survey`].
    Survey,
    /// Run this. If an instance of the id is alive, its process is kept: the launch and grant are stored for the next
    /// restart, and the answer tells whether what runs is what was asked for. Answer: [`Answer::Running`].
    Start {
        /// What to run.
        launch: Box<Launch>,
        /// How often the keeper may start it again by itself.
        grant: Grant,
    },
    /// End the instance and its whole tree: gently, and after `grace_ms` firmly. Its launch and grant are forgotten, so
    /// that no reflex starts it again. Answered when nothing of it is left: [`Answer::Stopped`].
    Stop {
        /// Which.
        instance: InstanceId,
        /// The signal to ask with, usually 15 (SIGTERM).
        signal: i32,
        /// Milliseconds until SIGKILL.
        grace_ms: u64,
    },
    /// The estate-wide rate of reflexes. Answer: [`Answer::Done`].
    Reflexes(Grant),
    /// Hold a listening socket on this address under this name; if the name is held on the same address, the very
    /// same socket. The answer [`Answer::Listening`] carries a duplicate of it. `share_with_gateway` hands it to the
    /// gateway, now and after each of its restarts.
    Listen {
        /// For the gateway: a service's name. For instances: `instance/web-1`.
        name: String,
        /// Port 0 takes a free one.
        address: SocketAddr,
        /// Whether the gateway gets a duplicate.
        share_with_gateway: bool,
    },
    /// Close a held socket; the gateway is told. Answer: [`Answer::Done`], also if it was not held.
    Unlisten {
        /// Its name.
        name: String,
    },
    /// Gives back a socket that a former keeper held; it travels with this message. Kept unless the name is held.
    /// Answer: [`Answer::Done`].
    Return {
        /// Its name.
        name: String,
        /// Its address.
        address: SocketAddr,
        /// As in `Listen`.
        share_with_gateway: bool,
    },
    /// Something the gateway has to know: kept by `key`, passed on now and after each restart of the gateway. An empty
    /// `body` removes it. Answer: [`Answer::Done`].
    GatewayTable {
        /// A service's name.
        key: String,
        /// JSON that only the gateway reads.
        body: String,
    },
    /// Passed on to the gateway once, not kept. Answer: [`Answer::Done`], or [`Refusal::NoGateway`].
    GatewayTell {
        /// JSON that only the gateway reads.
        body: String,
    },
    /// From the gateway: passed on to the manager as [`Report::FromGateway`]. Answer: [`Answer::Done`].
    GatewaySays {
        /// JSON that only the manager reads.
        body: String,
    },
    /// All reports up to this one have been stored. Answer: [`Answer::Done`].
    Acknowledge {
        /// The number of the last one.
        report: u64,
    },
    /// From now on keep the manager (and the gateway) running, or no longer. Answer: [`Answer::Done`].
    KeepUp {
        /// Whether the manager is started again when it dies.
        manager: bool,
        /// Whether the gateway runs and is started again when it dies.
        gateway: bool,
    },
    /// Replace this build of ostler by another one, of which a copy lies in the home. Whoever orders it ends: the keeper
    /// starts the new manager, then the new gateway, then becomes the new keeper itself. What does not come up within
    /// `trial_ms` is taken back. Answer: [`Answer::Done`], or [`Refusal::Upgrading`].
    Upgrade {
        /// What runs.
        from: Box<Build>,
        /// What is to run.
        to: Box<Build>,
        /// Milliseconds until it is no longer taken back by itself.
        probation_ms: u64,
        /// Milliseconds within which each process has to come up.
        trial_ms: u64,
    },
    /// Take the build back that is being brought in, or is in its probation. Answer: [`Answer::Done`], or
    /// [`Refusal::Upgrading`] if there is none.
    TakeBack {
        /// Why.
        why: String,
    },
    /// Whoever says this has come up: it knows what it has to, and serves. Answer: [`Answer::Done`].
    Confirm,
    /// End. Refused with [`Refusal::Busy`] while instances run, unless `leave_running`. The gateway is ended, unless
    /// `leave_running`: then it goes on carrying the instances' traffic. The manager is not.
    /// Answer: [`Answer::Done`], then the connection closes.
    Shutdown {
        /// Leave instances running without a keeper; the next one adopts them.
        leave_running: bool,
    },
}

/// Who speaks to the keeper.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Role {
    /// The manager process: gets reports.
    Manager,
    /// The gateway process: gets [`ToGateway`] messages.
    Gateway,
    /// A gateway that was replaced and still carries connections: gets tables and what is told, and no sockets.
    FormerGateway,
    /// Anybody else: may ask for the survey, say what is kept up, and order a shutdown.
    Visitor,
}

/// What to run, in full: the keeper adds nothing but the markers `OSTLER_INSTANCE` and `OSTLER_INCARNATION`, and for
/// sockets `LISTEN_FDS`, `LISTEN_PID`, `LISTEN_FDNAMES`. Held in memory only, because the environment has credentials.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Launch {
    /// For which instance.
    pub instance: InstanceId,
    /// A digest of everything below, made by the sender; equal digests mean equal launches.
    pub digest: String,
    /// Absolute path of the program.
    pub program: PathBuf,
    /// Its arguments, `argv[0]` first.
    pub arguments: Vec<String>,
    /// Its whole environment.
    pub environment: BTreeMap<String, String>,
    /// Its working directory.
    pub folder: PathBuf,
    /// Appended to with standard output and standard error. The keeper rotates it at `log_bytes_max`, keeping one old
    /// file with the suffix `.1`: `copytruncate`, as the program holds the descriptor.
    pub log: PathBuf,
    /// When the log is rotated.
    pub log_bytes_max: u64,
    /// Run as this user and group, with no supplementary groups; as the keeper's own if `None`.
    pub user: Option<UserGroup>,
    /// The name of a held socket ([`Order::Listen`]) to hand over as file descriptor 3.
    pub socket: Option<String>,
    /// `cgroup.procs` files that the process joins before it runs.
    pub cgroups: Vec<PathBuf>,
    /// Resource limits, soft and hard alike, set before it runs.
    pub rlimits: Vec<Rlimit>,
    /// The program is a tree of processes that must be gone as a whole before it is started again (PostgreSQL).
    pub tree: bool,
}

impl std::fmt::Debug for Launch {
    /// Without the environment and the arguments: they hold credentials.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Launch")
            .field("instance", &self.instance)
            .field("program", &self.program)
            .field("digest", &self.digest)
            .finish_non_exhaustive()
    }
}

/// A numeric user and group.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct UserGroup {
    /// User id.
    pub uid: u32,
    /// Group id.
    pub gid: u32,
}

/// One resource limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rlimit {
    /// Which.
    pub resource: Resource,
    /// Soft and hard limit.
    pub limit: u64,
}

/// The resources that can be limited without cgroups.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Resource {
    /// Bytes of address space.
    AddressSpace,
    /// Processes of the user.
    Processes,
    /// Open files.
    Files,
}

/// A token bucket: `burst` restarts at once, refilled at one each `refill_ms`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Grant {
    /// How many at once. 0 grants no reflex.
    pub burst: u32,
    /// Milliseconds until one more is allowed.
    pub refill_ms: u64,
}

/// A message from the keeper.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Message {
    /// The answer to the request with this id.
    Answer {
        /// [`Request::id`].
        to: u64,
        /// The answer.
        answer: Answer,
    },
    /// Something happened (manager only). Sent again after a reconnect until acknowledged.
    Report {
        /// Counted from 1 within one keeper's life.
        number: u64,
        /// When the keeper saw it.
        at: Timestamp,
        /// What.
        report: Report,
    },
    /// For the gateway only.
    ToGateway(ToGateway),
}

/// Answers to [`Order`]s.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Answer {
    /// It is done.
    Done,
    /// To `GatewayTell` while a gateway is being replaced: so many were told, and each of them will answer.
    Told {
        /// How many.
        gateways: u32,
    },
    /// To `Hello`.
    Welcome {
        /// The keeper's process id.
        pid: u32,
        /// Differs for each keeper: the kernel's boot id and the keeper's own start.
        keeper: String,
        /// The keeper's build, for people.
        build: String,
    },
    /// To `Survey`.
    Survey(Box<Survey>),
    /// To `Start`.
    Running {
        /// The process.
        process: Process,
        /// It ran before this order.
        adopted: bool,
        /// What runs was started from a launch of the same digest.
        as_ordered: bool,
    },
    /// To `Stop`: nothing of it is left. `None` if nothing ran.
    Stopped {
        /// How its main process ended.
        exit: Option<Exit>,
        /// It did not end within its grace.
        killed: bool,
    },
    /// To `Listen`: a duplicate of the socket travels with this message.
    Listening {
        /// Where, with the port that was taken.
        address: SocketAddr,
    },
    /// It was not done, and nothing has changed.
    Refused(Refusal),
}

/// Why the keeper refused.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[serde(rename_all = "kebab-case")]
pub enum Refusal {
    /// The keeper speaks another version of the protocol.
    #[error("the running keeper speaks protocol version {0}, this program version {VERSION}")]
    OtherVersion(u32),
    /// The program could not be started.
    #[error("cannot {step} for {program}: {cause}")]
    CannotStart {
        /// What failed: "execute", "change folder", "open the log", "join a cgroup" …
        step: String,
        /// The program.
        program: String,
        /// The system's words.
        cause: String,
        /// The system's error number.
        errno: i32,
    },
    /// The address could not be listened on.
    #[error("cannot listen on {address}: {cause}")]
    CannotListen {
        /// The address.
        address: SocketAddr,
        /// The system's words.
        cause: String,
        /// The system's error number.
        errno: i32,
    },
    /// `Start` while the instance is being stopped.
    #[error("instance {0} is being stopped")]
    Stopping(InstanceId),
    /// `Start` names a socket that is not held.
    #[error("no socket is held under the name `{0}`")]
    NoSuchSocket(String),
    /// No gateway is connected.
    #[error("no gateway is connected")]
    NoGateway,
    /// Instances still run.
    #[error("{0} instances still run")]
    Busy(usize),
    /// Another build is being brought in, or none is.
    #[error("{0}")]
    Upgrading(String),
    /// The sender's role may not ask for this, or the message was not understood.
    #[error("not understood: {0}")]
    NotUnderstood(String),
}

/// A process, by what tells it from every other that ever ran on this boot.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Process {
    /// Process id.
    pub pid: u32,
    /// Field 22 of `/proc/PID/stat`, in clock ticks since boot.
    pub start_ticks: u64,
    /// The marker in its environment (`OSTLER_INCARNATION`).
    pub incarnation: String,
    /// When it was started.
    pub since: Timestamp,
}

/// Everything a keeper knows.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Survey {
    /// The instances that are alive or remembered, by id.
    pub instances: BTreeMap<InstanceId, Surveyed>,
    /// The sockets that are held.
    pub sockets: BTreeMap<String, SocketAddr>,
    /// The gateway's process.
    pub gateway_pid: Option<u32>,
    /// The manager's process.
    pub manager_pid: Option<u32>,
    /// The replacement of ostler's build that is under way, or in its probation.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub upgrade: Option<Box<Upgrade>>,
}

/// One instance in a [`Survey`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Surveyed {
    /// Its live process.
    pub process: Option<Process>,
    /// The digest of the launch that its process was started from, if known.
    pub digest: Option<String>,
    /// Whether the keeper can start it again (it has its launch).
    pub has_launch: bool,
}

/// What happens without being asked for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Report {
    /// A main process ended, and what the reflex did.
    Ended {
        /// Which instance.
        instance: InstanceId,
        /// Which process.
        process: Process,
        /// How.
        exit: Exit,
        /// What the keeper did.
        reflex: Reflex,
    },
    /// The gateway (re)connected, or went away.
    Gateway {
        /// Whether it is there.
        up: bool,
    },
    /// What the gateway says.
    FromGateway {
        /// JSON that only the manager reads.
        body: String,
    },
    /// A step of the replacement of ostler's build. Told again by each keeper until it is acknowledged.
    Upgrade(UpgradeReport),
}

/// A step of the replacement of one build of ostler by another.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct UpgradeReport {
    /// When.
    pub at: Timestamp,
    /// What ran before.
    pub from: Kept,
    /// What was to run.
    pub to: Kept,
    /// What happened.
    pub step: BuildStep,
}

/// What happened to a build that is being brought in.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum BuildStep {
    /// It was proven in a dry run, and is being brought in.
    Began {
        /// Milliseconds of its probation.
        probation_ms: u64,
    },
    /// All three processes are of it, and its probation begins.
    Replaced,
    /// Its probation is over.
    Accepted,
    /// The former build runs again.
    TakenBack {
        /// Why.
        why: String,
    },
}

/// What the keeper did about a death.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Reflex {
    /// Started again.
    Restarted {
        /// The new process.
        process: Process,
        /// When it existed.
        at: Timestamp,
    },
    /// The instance's grant is spent: the manager decides.
    GrantSpent,
    /// The estate-wide grant is spent: the manager decides.
    EstateGrantSpent,
    /// The keeper has no launch for it (it adopted the process and nobody has told it since).
    NoLaunch,
    /// It could not be started.
    Failed(Refusal),
}

/// Messages to the gateway.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ToGateway {
    /// A listening socket travels with this message. Sent again after a reconnect: the same name and address mean the
    /// same socket, and the gateway keeps the one it has. The same name with another address replaces it.
    Socket {
        /// A service's name.
        name: String,
        /// Its address.
        address: SocketAddr,
    },
    /// Stop listening.
    Close {
        /// A service's name.
        name: String,
    },
    /// See [`Order::GatewayTable`]; an empty body removes it.
    Table {
        /// A service's name.
        key: String,
        /// JSON.
        body: String,
    },
    /// See [`Order::GatewayTell`].
    Tell {
        /// JSON.
        body: String,
    },
    /// Another gateway carries the callers from now on: accept nobody more, carry what there is to its end, at most for so
    /// long, and speak to the keeper as [`Role::FormerGateway`].
    Retire {
        /// Milliseconds.
        within_ms: u64,
    },
    /// All sockets and tables that the keeper holds have been sent: what the gateway holds beyond them it now offers
    /// back ([`Order::Return`], [`Order::GatewayTable`]), because a new keeper starts with nothing.
    Synchronized,
}
