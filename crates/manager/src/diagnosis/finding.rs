//! What can be concluded, and what speaks for it, as data and in words.

use std::fmt;

use ostler_model::ids::{InstanceId, ProviderName, ServiceName};
use ostler_model::time::{Timestamp, in_words};
use serde::{Deserialize, Serialize};

/// A cause, with what speaks for it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Finding {
    /// What is behind it.
    pub cause: Cause,
    /// What speaks for it, the strongest first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub evidence: Vec<Evidence>,
}

/// What is behind something that deviates.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Cause {
    /// The instance itself.
    Instance(Fault),
    /// A change that was made to it shortly before.
    Change(Changed),
    /// A service that it needs, directly or through others, and that fails by itself: it is a victim of that.
    Need(ServiceName),
    /// Its provider: nothing works that was bought there.
    Provider(ProviderName),
    /// A region: none of its providers works, and others do.
    Region(String),
    /// Ostler's own view is the likelier fault.
    OwnView,
}

/// What is wrong with an instance itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Fault {
    /// Its process ended.
    Crashed,
    /// Its process ends again and again.
    CrashLoop,
    /// It was ended because it used more memory than it may.
    OutOfMemory,
    /// It lives and gives no answer, however long one waits.
    Hung,
    /// It answers too late.
    Slow,
    /// It lives and nobody accepts connections.
    Refuses,
    /// Connections to it break.
    Broken,
    /// It, or something that it needs, rejects the credentials.
    WrongCredentials,
    /// It answers, and the answer says that it does not work.
    WrongAnswer,
    /// The disk of its folder is full.
    DiskFull,
    /// It was started and did not become ready.
    NeverReady,
    /// It could not be started.
    CannotStart,
}

/// What was changed of a service.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Changed {
    /// Its program, or the arguments of that.
    Program,
    /// Its environment.
    Environment,
    /// What it is told, how it listens, or what it may use.
    Settings,
    /// The version of what was bought.
    Version,
    /// What was bought, or where.
    Placement,
    /// The credentials by which it uses something that it needs.
    Credentials,
}

/// Something that speaks for a cause.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Evidence {
    /// This need has no instance that works.
    NeedAway(ServiceName),
    /// Everything that it needs works.
    NeedsWork,
    /// This need rejects the credentials that it uses.
    Rejected(ServiceName),
    /// Other instances of the service work.
    OthersWork {
        /// How many.
        working: u32,
    },
    /// Others that were bought at the same provider work.
    ProviderWorks {
        /// How many instances.
        working: u32,
    },
    /// Nothing that was bought at the provider works.
    ProviderAway {
        /// How many instances.
        away: u32,
    },
    /// The provider itself does not answer either.
    ProviderDoesNotAnswer {
        /// Since when.
        since: Timestamp,
    },
    /// No provider of the region works.
    ProvidersAway {
        /// How many.
        providers: u32,
    },
    /// What was bought elsewhere works.
    ElsewhereWorks {
        /// How many instances.
        working: u32,
    },
    /// It has not worked since this was changed.
    ChangedBefore {
        /// What.
        what: Changed,
        /// When.
        at: Timestamp,
    },
    /// It worked as it was before.
    WorkedBefore {
        /// Its launch then.
        generation: u32,
    },
    /// Nothing in the estate answers, and these should by themselves.
    NothingAnswers {
        /// How many services.
        silent: u32,
    },
    /// No provider elsewhere answers, though they have nothing to do with each other.
    NothingElsewhereAnswers {
        /// How many providers.
        providers: u32,
    },
}

/// What one trouble comes from.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Root {
    /// This service.
    Service(ServiceName),
    /// This provider.
    Provider(ProviderName),
    /// This region.
    Region(String),
    /// Ostler's own view.
    OwnView,
}

/// One trouble of the estate: a cause with everything that it explains.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Case {
    /// What it comes from.
    pub root: Root,
    /// The instances at fault, or out of reach, with the finding about each.
    pub instances: Vec<(InstanceId, Finding)>,
    /// Those that fail only because of these.
    pub victims: Vec<InstanceId>,
}

impl Case {
    pub(super) fn new(root: Root) -> Self {
        Self { root, instances: Vec::new(), victims: Vec::new() }
    }

    pub(super) fn add(&mut self, instance: InstanceId, finding: Finding) {
        self.instances.push((instance, finding));
    }
}

impl Cause {
    /// In words: "it hangs", "acme is away".
    pub fn in_words(&self) -> String {
        match self {
            Self::Instance(fault) => fault.in_words().to_owned(),
            Self::Change(what) => format!("its last change, of {what}, does it no good"),
            Self::Need(need) => format!("it is a victim: {need} fails, which it needs"),
            Self::Provider(provider) => format!("its provider {provider} is away"),
            Self::Region(region) => format!("the region {region} is away"),
            Self::OwnView => "ostler's own view is the likelier fault".to_owned(),
        }
    }
}

impl Fault {
    /// In words, with "it" as the subject.
    pub fn in_words(self) -> &'static str {
        match self {
            Self::Crashed => "it crashed",
            Self::CrashLoop => "it crashes again and again",
            Self::OutOfMemory => "it used more memory than it may",
            Self::Hung => "it hangs",
            Self::Slow => "it is too slow",
            Self::Refuses => "it lives and accepts no connections",
            Self::Broken => "its connections break",
            Self::WrongCredentials => "credentials are rejected",
            Self::WrongAnswer => "it answers that it does not work",
            Self::DiskFull => "its disk is full",
            Self::NeverReady => "it does not become ready",
            Self::CannotStart => "it cannot be started",
        }
    }
}

impl fmt::Display for Changed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Program => "its program",
            Self::Environment => "its environment",
            Self::Settings => "its settings",
            Self::Version => "its version",
            Self::Placement => "what is bought",
            Self::Credentials => "its credentials",
        })
    }
}

impl Evidence {
    /// In words, as of `now`.
    pub fn in_words(&self, now: Timestamp) -> String {
        let ago = |at: &Timestamp| in_words(now.since(*at));
        match self {
            Self::NeedAway(need) => format!("{need} does not work"),
            Self::NeedsWork => "everything that it needs works".to_owned(),
            Self::Rejected(need) => format!("{need} rejects its credentials"),
            Self::OthersWork { working: 1 } => "another instance of it works".to_owned(),
            Self::OthersWork { working } => format!("{working} other instances of it work"),
            Self::ProviderWorks { working: 1 } => "something else that its provider runs works".to_owned(),
            Self::ProviderWorks { working } => format!("{working} others that its provider runs work"),
            Self::ProviderAway { away } => match away {
                1 => "what was bought there does not work".to_owned(),
                away => format!("none of {away} bought there works"),
            },
            Self::ProviderDoesNotAnswer { since } => format!("the provider has not answered for {}", ago(since)),
            Self::ProvidersAway { providers } => format!("none of {providers} providers there works"),
            Self::ElsewhereWorks { working: 0 } => "nothing was bought elsewhere that works".to_owned(),
            Self::ElsewhereWorks { working: 1 } => "one that was bought elsewhere works".to_owned(),
            Self::ElsewhereWorks { working } => format!("{working} that were bought elsewhere work"),
            Self::ChangedBefore { what, at } => format!("{what} was changed {} before", ago(at)),
            Self::WorkedBefore { .. } => "it worked until then".to_owned(),
            Self::NothingAnswers { silent } => {
                format!("nothing answers at all, and {silent} services should by themselves")
            }
            Self::NothingElsewhereAnswers { providers } => {
                format!("none of {providers} providers elsewhere answers, which have nothing to do with each other")
            }
        }
    }
}
