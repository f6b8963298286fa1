//! What is seen of instances: states, exits, symptoms.

use std::fmt;

use serde::{Deserialize, Serialize};

/// The state of a service or an instance, as people and scripts read it. Stable: scripts rely on the names.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum State {
    /// Declared; waits for what it needs.
    Pending,
    /// Being made or started.
    Starting,
    /// Works.
    Ready,
    /// Works in part.
    Degraded,
    /// Failed, and is being repaired.
    Healing,
    /// Being changed to another version or configuration.
    Upgrading,
    /// Does not work, and the last repair did not help; tried again with growing pauses.
    Failed,
    /// Waits for a person.
    Held,
    /// A provider's answer was ambiguous.
    InDoubt,
    /// Kept, paid for, used by nobody.
    Quarantined,
    /// No longer declared; its data is kept until it is deleted by name.
    Retained,
    /// Being stopped.
    Stopping,
    /// Stopped on purpose.
    Stopped,
}

impl State {
    /// The name that scripts rely on.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Starting => "starting",
            Self::Ready => "ready",
            Self::Degraded => "degraded",
            Self::Healing => "healing",
            Self::Upgrading => "upgrading",
            Self::Failed => "failed",
            Self::Held => "held",
            Self::InDoubt => "in-doubt",
            Self::Quarantined => "quarantined",
            Self::Retained => "retained",
            Self::Stopping => "stopping",
            Self::Stopped => "stopped",
        }
    }
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// How a process ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Exit {
    /// It ended by itself with this code.
    Code(i32),
    /// This signal ended it.
    Signal(i32),
    /// The kernel ended it, because it used more memory than its limit allows.
    OutOfMemory,
    /// Nobody could tell: it ended while no keeper was its parent, and the kernel does not say.
    Unknown,
}

impl fmt::Display for Exit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Code(code) => write!(f, "exit code {code}"),
            Self::Signal(signal) => match signal_name(*signal) {
                Some(name) => write!(f, "signal {signal} ({name})"),
                None => write!(f, "signal {signal}"),
            },
            Self::OutOfMemory => f.write_str("signal 9 (SIGKILL), because it used more memory than it may"),
            Self::Unknown => f.write_str("an unknown exit status"),
        }
    }
}

fn signal_name(signal: i32) -> Option<&'static str> {
    Some(match signal {
        1 => "SIGHUP",
        2 => "SIGINT",
        3 => "SIGQUIT",
        4 => "SIGILL",
        6 => "SIGABRT",
        7 => "SIGBUS",
        8 => "SIGFPE",
        9 => "SIGKILL",
        11 => "SIGSEGV",
        13 => "SIGPIPE",
        14 => "SIGALRM",
        15 => "SIGTERM",
        24 => "SIGXCPU",
        25 => "SIGXFSZ",
        31 => "SIGSYS",
        _ => return None,
    })
}

/// What a probe found wrong.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Symptom {
    /// What sort of thing.
    pub kind: SymptomKind,
    /// In words, for people; at most 300 characters, no secrets.
    pub detail: String,
}

impl fmt::Display for Symptom {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.detail)
    }
}

/// The sorts of things that a probe can find wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum SymptomKind {
    /// Nobody accepts connections.
    Refused,
    /// No answer in time. Whether it hangs or is only slow is not known yet.
    TimedOut,
    /// No answer, however long one waits.
    Hung,
    /// An answer, but too late.
    Slow,
    /// The connection broke before the answer was whole.
    Broken,
    /// It rejects the credentials.
    WrongCredentials,
    /// It answered, and the answer says or shows that it does not work.
    WrongAnswer,
    /// The disk of its folder is full.
    DiskFull,
    /// The probe itself could not be made: nothing is known of the instance.
    Unknown,
}

impl SymptomKind {
    /// Whether it says that an answer is not what it should be; what does not answer at all says nothing of that.
    pub fn is_wrong(self) -> bool {
        match self {
            Self::WrongAnswer | Self::WrongCredentials => true,
            Self::Refused
            | Self::TimedOut
            | Self::Hung
            | Self::Slow
            | Self::Broken
            | Self::DiskFull
            | Self::Unknown => false,
        }
    }
}

/// What one round of probes says of an instance.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Health {
    /// It may get traffic, and it works together with its needs as far as anybody asked.
    Ready,
    /// It may get traffic, but its deep check fails.
    Shallow(Symptom),
    /// It may not get traffic.
    Unready(Symptom),
}
