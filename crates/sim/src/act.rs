//! What goes wrong, and what people do: one act is one line of a story.
//!
//! In all of them `service`, `provider` and `region` are names, `nth` counts round among the instances of the service,
//! `lasts` and `away` are how long it lasts, and `times` how often.

#![allow(missing_docs, reason = "the fields are the same in all acts, and said once above")]

use std::time::Duration;

use ostler_model::estate::drills::Fault as DrillFault;
use ostler_model::time::Span;
use serde::{Deserialize, Serialize};

/// Something that happens to the world at a time.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Act {
    /// A process ends by itself. At a broker its provider heals it after `lasts`, or after a usual time if that is nothing.
    Crash {
        service: String,
        nth: usize,
        #[serde(default = "nothing", skip_serializing_if = "is_nothing")]
        lasts: Span,
    },
    /// A process lives and answers nothing any more. At a broker its provider finds out after `lasts`; if that is nothing,
    /// it stays broken until a person has its provider look at it.
    Hang {
        service: String,
        nth: usize,
        #[serde(default = "nothing", skip_serializing_if = "is_nothing")]
        lasts: Span,
    },
    /// A process answers only now and then.
    Slow { service: String, nth: usize, lasts: Span },
    /// A process uses more and more, answers badly in the end, and is killed for it.
    Leak { service: String, nth: usize, lasts: Span },
    /// Every process of the instance ends soon after its start.
    CrashLoop { service: String, nth: usize, lasts: Span },
    /// No process of the instance becomes ready.
    NeverReady { service: String, nth: usize, lasts: Span },
    /// What was made is gone from its provider, with its data, while it does not run.
    Lose { service: String, nth: usize },
    /// The service's one-off command fails.
    BeforeFails { service: String, lasts: Span },
    /// No backup of the service can be restored.
    RestoreFails { service: String, lasts: Span },
    /// Every backup of the service that there is turns out to be of no use.
    Corrupt { service: String },
    /// The next answers of a provider go wrong in this way.
    Spoil { provider: String, how: Spoil, times: u32 },
    /// The provider answers no orders; what it runs runs on.
    ControlOut { provider: String, lasts: Span },
    /// The provider and all it runs is gone for a while.
    ProviderOut { provider: String, lasts: Span },
    /// All providers of the region, and all they run, are gone for a while.
    RegionOut { region: String, lasts: Span },
    /// Nothing passes between ostler and the provider.
    Partition { provider: String, lasts: Span },
    /// A few packets are lost: single probes fail.
    Drops { provider: String, lasts: Span },
    /// A broker's catalog has some of its plans no more; what was bought of them is still there.
    PlanGone { provider: String, lasts: Span },
    /// A broker ends no credentials.
    UnbindRefused { provider: String, lasts: Span },
    /// Somebody else listens where the service's endpoint is to be.
    AddressTaken { service: String, lasts: Span },
    /// The manager process is killed.
    ManagerDies { at: CutAt, away: Span },
    /// The keeper is killed: no reflexes and no reports until the next one is there.
    KeeperDies { away: Span },
    /// The machine that ostler runs on loses power: everything on it ends.
    PowerLoss { away: Span },
    /// Ostler's disk is full.
    DiskFull { lasts: Span },
    /// Ostler's clock jumps, by so many microseconds.
    ClockJumps { by: i64 },
    /// A person does something.
    Person(Errand),
}

/// Where ostler is cut off.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum CutAt {
    /// Between two turns.
    Rest,
    /// When facts are about to be stored.
    BeforeStoring,
    /// When half of them are.
    MidStoring,
    /// When they are, before anything is handed over.
    AfterStoring,
    /// When so many commands of a turn have been handed over.
    HandingOver(usize),
}

/// How an answer goes wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Spoil {
    /// It was not done, and the provider says so.
    Fails,
    /// It was not done, and trying again cannot help, says the provider.
    Refuses,
    /// It was done, and the provider says that it failed.
    FailsThoughDone,
    /// It was done, and no answer comes in time.
    NoAnswerThoughDone,
    /// It was not done, and no answer comes in time.
    NoAnswer,
    /// It was done, and the answer comes twice.
    Twice,
    /// It was done, and takes a hundred times as long.
    Slow,
    /// What exists is said not to.
    SaysAbsent,
    /// What runs is said to be stopped.
    SaysStopped,
    /// A broker has too much to do, and is to be asked later.
    Busy,
    /// A broker says that something is there already under the name, whether it did what it was asked or not.
    Conflicts,
    /// A broker agrees to do it, and it fails.
    AcceptsAndFails,
    /// A broker agrees to do it, and takes longer than anybody waits.
    NeverFinishes,
    /// No answer comes, and what was asked for is made long after.
    AppearsLate,
}

impl Spoil {
    /// All of them.
    pub const ALL: [Self; 14] = [
        Self::Fails,
        Self::Refuses,
        Self::FailsThoughDone,
        Self::NoAnswerThoughDone,
        Self::NoAnswer,
        Self::Twice,
        Self::Slow,
        Self::SaysAbsent,
        Self::SaysStopped,
        Self::Busy,
        Self::Conflicts,
        Self::AcceptsAndFails,
        Self::NeverFinishes,
        Self::AppearsLate,
    ];
}

/// What a person does.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Errand {
    /// Restarts a service.
    Restart { service: String },
    /// Sets a number of instances.
    Scale { service: String, instances: u32 },
    /// Backs a service up.
    Backup { service: String },
    /// Restores a service's newest backup.
    Restore { service: String },
    /// Stops everything.
    Down,
    /// Gives the estate file as it is now; also what brings everything up again.
    Apply,
    /// Changes a value that a service's processes read, and applies.
    Edit { service: String },
    /// Takes a service out of the file, and applies.
    Remove { service: String },
    /// Puts it back, and applies.
    PutBack { service: String },
    /// Deletes what is left of a service that is not in the file.
    Delete { service: String },
    /// Leaves what is left of a service that is not in the file to its provider.
    Release { service: String },
    /// Takes a provider out of the file, with what was bought there and whatever needs that, and applies.
    RemoveProvider { provider: String },
    /// Says of everything in quarantine what is to become of it: it is deleted, or released.
    Settle { release: bool },
    /// Has a fault caused on purpose.
    Drill { service: String, fault: DrillFault },
    /// Kills a process by hand.
    Kill { service: String, nth: usize },
    /// Has a service moved, to `to` or to whoever is best; with `accept_loss` whatever is lost by it.
    FailOver {
        service: String,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        to: Option<String>,
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        accept_loss: bool,
    },
    /// Takes a move back.
    FailBack { service: String },
    /// Has what a move of the service left deleted: the first of it.
    Discard { service: String },
    /// Answers what is held.
    Answer,
}

/// A time of the run, with what happens then.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Planned {
    /// After the start of the run.
    pub at: Span,
    /// What.
    pub act: Act,
}

impl Act {
    /// Which kind of fault, in one word for tables; `None` for what people do and what is no fault.
    pub fn word(&self) -> &'static str {
        match self {
            Self::Crash { .. } => "crash",
            Self::Hang { .. } => "hang",
            Self::Slow { .. } => "slow",
            Self::Leak { .. } => "leak",
            Self::CrashLoop { .. } => "crash loop",
            Self::NeverReady { .. } => "never ready",
            Self::Lose { .. } => "lost",
            Self::BeforeFails { .. } => "one-off command",
            Self::RestoreFails { .. } | Self::Corrupt { .. } => "backups",
            Self::Spoil { .. } => "wrong answers",
            Self::ControlOut { .. } => "orders refused",
            Self::ProviderOut { .. } => "provider out",
            Self::RegionOut { .. } => "region out",
            Self::Partition { .. } | Self::Drops { .. } => "network",
            Self::PlanGone { .. } => "plan gone",
            Self::UnbindRefused { .. } => "unbind refused",
            Self::AddressTaken { .. } => "address taken",
            Self::ManagerDies { .. } => "manager died",
            Self::KeeperDies { .. } => "keeper died",
            Self::PowerLoss { .. } => "power loss",
            Self::DiskFull { .. } => "disk full",
            Self::ClockJumps { .. } => "clock",
            Self::Person(_) => "people",
        }
    }

    /// How long it stands in the way of others, if it does: what becomes of a crash or a hang is up to whoever heals it.
    pub fn lasts(&self) -> Duration {
        match self {
            Self::Slow { lasts, .. }
            | Self::Leak { lasts, .. }
            | Self::CrashLoop { lasts, .. }
            | Self::NeverReady { lasts, .. }
            | Self::BeforeFails { lasts, .. }
            | Self::RestoreFails { lasts, .. }
            | Self::ControlOut { lasts, .. }
            | Self::ProviderOut { lasts, .. }
            | Self::RegionOut { lasts, .. }
            | Self::Partition { lasts, .. }
            | Self::Drops { lasts, .. }
            | Self::PlanGone { lasts, .. }
            | Self::UnbindRefused { lasts, .. }
            | Self::AddressTaken { lasts, .. }
            | Self::DiskFull { lasts } => lasts.get(),
            Self::ManagerDies { away, .. } | Self::KeeperDies { away } | Self::PowerLoss { away } => away.get(),
            Self::Crash { .. }
            | Self::Hang { .. }
            | Self::Lose { .. }
            | Self::Corrupt { .. }
            | Self::Spoil { .. }
            | Self::ClockJumps { .. }
            | Self::Person(_) => Duration::ZERO,
        }
    }
}

fn nothing() -> Span {
    Span::millis(0)
}

fn is_nothing(length: &Span) -> bool {
    length.get().is_zero()
}
