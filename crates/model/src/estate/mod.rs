//! The estate: all that one buyer declares in one file, as types. [`parse`] is the only way in.
//!
//! Invariant: an [`Estate`] is whole: every need names a service in it, needs have no cycle, endpoints differ, every
//! provider named exists, every template refers to something that will have a value.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use self::accounts::{Accounts, Pricing};
use self::audit::Audit;
use self::backups::{Backups, PROVE_EVERY, Prove};
use self::certificate::Certificate;
use self::contract::Contract;
use self::drills::Drills;
use self::failover::Failover;
use self::failures::Failures;
use self::osb::OsbProvider;
use self::own::Own;
use self::provide::Provide;
pub use self::run_path::RunPath;
use self::slo::Slo;
use self::terms::Terms;
use self::upgrade::Upgrade;
use crate::catalog::Limits;
use crate::ids::{EstateName, OfferingName, PlanName, ProviderName, ServiceName};
use crate::money::Amount;
use crate::template::Template;
use crate::time::Span;
use crate::version::VersionRange;

pub mod accounts;
pub mod audit;
pub mod backups;
pub mod certificate;
pub mod claims;
pub mod contract;
pub mod drills;
pub mod failover;
pub mod failures;
pub mod osb;
pub mod own;
mod parse;
pub mod provide;
mod run_path;
pub mod slo;
pub mod terms;
pub mod upgrade;

pub use parse::{Parsed, TEXT_MAX, parse};

/// At most this many services in one estate file: a bound on what one file can make ostler hold and draw.
pub const SERVICES_MAX: usize = 100_000;
/// At most this many instances of one service.
pub const INSTANCES_MAX: u32 = 1_000_000;

/// All that one buyer declares.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Estate {
    /// Its name; the default home folder is named after it.
    pub name: EstateName,
    /// ISO 4217 code in which prices are shown.
    pub currency: Currency,
    /// The regions that may hold anything, each with those whose names begin with it and a hyphen; all if empty.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub residency: Vec<String>,
    /// Absolute path of the folder that holds the file: relative paths in it start here.
    pub folder: PathBuf,
    /// The brakes on healing.
    pub heal: Heal,
    /// Whom to tell when something is held, fails or was healed.
    pub notify: Vec<Notify>,
    /// From whom services may be bought.
    pub providers: BTreeMap<ProviderName, Provider>,
    /// What the business needs.
    pub services: BTreeMap<ServiceName, Arc<Service>>,
    /// How often what fails, for everything that does not say so itself: for `ostler simulate`.
    #[serde(default, skip_serializing_if = "Failures::is_empty")]
    pub failures: Failures,
    /// What it sells to others.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub provide: Option<Box<Provide>>,
    /// Where its backups are kept, and for how long.
    #[serde(default, skip_serializing_if = "Backups::is_usual")]
    pub backups: Backups,
    /// Which faults are caused on purpose, and when.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub drill: Option<Box<Drills>>,
    /// When newer versions are put to use, and how carefully.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub upgrade: Option<Box<Upgrade>>,
    /// How its books are kept.
    #[serde(default, skip_serializing_if = "Accounts::is_usual")]
    pub accounts: Accounts,
    /// What is assumed of all services where owning is weighed against buying: for `ostler own-or-buy`.
    #[serde(default, skip_serializing_if = "Own::is_empty")]
    pub own: Own,
    /// How often what is recorded is signed, and who keeps that.
    #[serde(default, skip_serializing_if = "Audit::is_usual")]
    pub audit: Audit,
}

impl Estate {
    /// Whether a provider in this region may hold anything.
    pub fn may_hold(&self, region: Option<&str>) -> bool {
        let allows = |allowed: &String| {
            region.is_some_and(|region| {
                region.strip_prefix(allowed.as_str()).is_some_and(|rest| rest.is_empty() || rest.starts_with('-'))
            })
        };
        self.residency.is_empty() || self.residency.iter().any(allows)
    }
}

/// Three upper-case letters, as in ISO 4217.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Currency(String);

impl Currency {
    /// The code.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for Currency {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        if text.len() == 3 && text.bytes().all(|b| b.is_ascii_uppercase()) {
            Ok(Self(text))
        } else {
            Err(format!("`{text}` is not a currency: three capital letters as in ISO 4217, for example EUR"))
        }
    }
}

impl From<Currency> for String {
    fn from(currency: Currency) -> Self {
        currency.0
    }
}

impl fmt::Debug for Currency {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The brakes on healing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Heal {
    /// How much of the estate may be under repair together, in percent of its instances, 1 to 100; rounded up, so that
    /// at least one may always be. Default 20.
    pub at_once_percent: u8,
}

impl Heal {
    /// How many of `instances` may be under repair together.
    pub fn at_once(self, instances: usize) -> usize {
        (instances * usize::from(self.at_once_percent)).div_ceil(100).max(1)
    }
}

impl Default for Heal {
    fn default() -> Self {
        Self { at_once_percent: 20 }
    }
}

/// Something worth telling a person.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Occasion {
    /// A person must answer before it goes on.
    Held,
    /// It failed, and what ostler does about it has not helped yet.
    Failed,
    /// It failed and was healed.
    Healed,
    /// It uses up what may go wrong faster than it may.
    Burning,
    /// Another version of it is in use.
    Upgraded,
}

impl Occasion {
    /// All of them: what a `[notify]` without `on` means.
    pub const ALL: [Self; 5] = [Self::Held, Self::Failed, Self::Healed, Self::Burning, Self::Upgraded];

    /// As the estate file writes it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Held => "held",
            Self::Failed => "failed",
            Self::Healed => "healed",
            Self::Burning => "burning",
            Self::Upgraded => "upgraded",
        }
    }
}

/// One way to tell somebody: `[notify] on = ["held", "failed"], command = ["./page-me"]`, or `webhook = "http://…"`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Notify {
    /// On which occasions.
    pub on: BTreeSet<Occasion>,
    /// How.
    pub via: NotifyVia,
}

/// How somebody is told. The occasion is a JSON object: on the command's standard input, or posted to the webhook.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum NotifyVia {
    /// A program and its arguments; relative paths start at the estate file's folder.
    Command(Vec<String>),
    /// An `http://` address.
    Webhook(String),
}

/// A party from whom services can be bought.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Provider {
    /// Its name in this estate.
    pub name: ProviderName,
    /// Where it holds things.
    pub region: Option<String>,
    /// How often what of it fails, before what the estate says: for `ostler simulate`.
    #[serde(default, skip_serializing_if = "Failures::is_empty")]
    pub failures: Failures,
    /// What it promises and what it pays back.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub terms: Option<Terms>,
    /// What it is told of where the things are used that are bought of it, beside the names of estate and instance: in
    /// its own words, and to its own ends (labels, cost centres).
    #[serde(default, skip_serializing_if = "Parameters::is_empty")]
    pub context: Parameters,
    /// What its examination found. [`parse`] only finds out where that is written: see [`Parsed::certificates`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub certificate: Option<Certificate>,
    /// What its plans cost, or what it costs itself.
    #[serde(default, skip_serializing_if = "Pricing::is_empty")]
    pub pricing: Pricing,
    /// What kind it is, with what only that kind needs. The manager never looks in here.
    pub kind: ProviderKind,
}

/// The kinds of provider.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "kind")]
pub enum ProviderKind {
    /// This machine.
    Host(HostProvider),
    /// An Open Service Broker.
    Osb(Box<OsbProvider>),
}

/// `kind = "host"`: this machine.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct HostProvider {
    /// A folder with definition files of more offerings, beside those that ostler brings; absolute. Where both define
    /// an offering, this one counts.
    pub offerings: Option<PathBuf>,
    /// A folder in which versions of offerings lie side by side, as `OFFERING/VERSION/bin/PROGRAM`; absolute. They come
    /// before those that are installed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub versions: Option<PathBuf>,
}

/// Something the business needs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Service {
    /// Its name.
    pub name: ServiceName,
    /// What to buy.
    pub offering: OfferingName,
    /// Which versions will do.
    pub version: VersionRange,
    /// Which plan; without one the first in the provider's catalog.
    pub plan: Option<PlanName>,
    /// From whom, in this order; all providers in the order of their names if empty.
    pub prefer: Vec<ProviderName>,
    /// The program and its arguments, for offerings that run the buyer's own program; each may refer to the same
    /// things as `env`. A relative program path starts at the estate file's folder. With [`Service::VERSION`] in it the
    /// program lies there in several versions side by side.
    pub run: Vec<Template>,
    /// A one-off command (a migration) that must succeed before each start of a changed service; empty for none.
    pub before: Vec<Template>,
    /// Environment variables.
    pub env: BTreeMap<String, Template>,
    /// What the provider is told of how its instances are to be; by the offering's own words.
    #[serde(default, skip_serializing_if = "Parameters::is_empty")]
    pub parameters: Parameters,
    /// By which names its provider knows instances that are to be taken over instead of buying others; the first ones.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub adopt: Vec<String>,
    /// Which services it uses.
    pub needs: BTreeSet<ServiceName>,
    /// What it relies on in them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub contracts: Vec<Contract>,
    /// How many instances.
    pub instances: u32,
    /// Its stable address; assigned if not declared.
    pub endpoint: Option<SocketAddr>,
    /// What its endpoint understands; if not declared, what its `ready` probe speaks ([`Protocol`]).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub protocol: Option<Protocol>,
    /// How its health is asked; what the offering says if not declared.
    pub probe: ProbeOverride,
    /// What must become of its data; what the offering says if not declared.
    pub data: DataPolicy,
    /// How a program takes connections.
    pub listen: Listen,
    /// Limits that replace the plan's.
    pub limits: Limits,
    /// How long running connections may go on before an instance is stopped, and how long it may take to stop.
    pub stop: StopPolicy,
    /// What it is to be like for those who use it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub slo: Option<Slo>,
    /// Whether and how it may be moved to another provider.
    #[serde(default, skip_serializing_if = "Failover::is_default")]
    pub failover: Failover,
    /// What an hour without it costs, in the estate's currency; more than nothing. If not declared, remedies are weighed
    /// by time alone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub outage_cost: Option<Amount>,
    /// How often what of it fails, before what the estate says: for `ostler simulate`.
    #[serde(default, skip_serializing_if = "Failures::is_empty")]
    pub failures: Failures,
    /// What is assumed of it where owning is weighed against buying, before what the estate says: for `ostler own-or-buy`.
    #[serde(default, skip_serializing_if = "Own::is_empty")]
    pub own: Own,
}

impl Service {
    /// What stands for the version in the path of a program that lies there in several: `releases/{{ version }}/web`.
    pub const VERSION: &'static str = "version";

    /// Where the versions of its program lie side by side, if they do.
    pub fn run_path(&self) -> Option<RunPath> {
        RunPath::of(self.run.first()?).ok()
    }

    /// Whether its program lies there in several versions.
    pub fn has_versions(&self) -> bool {
        self.run.first().is_some_and(|program| program.references().any(|reference| reference == Self::VERSION))
    }

    /// A service of which nothing more is said than what it is.
    pub fn new(name: ServiceName, offering: OfferingName) -> Self {
        Self {
            name,
            offering,
            version: VersionRange::any(),
            plan: None,
            prefer: Vec::new(),
            run: Vec::new(),
            before: Vec::new(),
            env: BTreeMap::new(),
            parameters: Parameters::default(),
            adopt: Vec::new(),
            needs: BTreeSet::new(),
            contracts: Vec::new(),
            instances: 1,
            endpoint: None,
            protocol: None,
            probe: ProbeOverride::default(),
            data: DataPolicy::default(),
            listen: Listen::default(),
            limits: Limits::default(),
            stop: StopPolicy::default(),
            slo: None,
            failover: Failover::default(),
            outage_cost: None,
            failures: Failures::default(),
            own: Own::default(),
        }
    }
}

/// What a provider is told of how an instance is to be: a JSON object in the offering's own words.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Parameters(pub BTreeMap<String, serde_json::Value>);

impl Parameters {
    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// How a program takes connections.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Listen {
    /// It binds the port that the environment variable `PORT` names, on the address in `HOST`.
    #[default]
    Port,
    /// It is handed the listening socket as file descriptor 3 (`LISTEN_FDS`, `LISTEN_PID`, `LISTEN_FDNAMES`), so that
    /// connects queue while it restarts.
    Socket,
}

impl Listen {
    /// As the estate file writes it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Port => "port",
            Self::Socket => "socket",
        }
    }
}

/// What an endpoint understands of what it carries.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Protocol {
    /// Nothing: bytes are carried as they come.
    #[default]
    Tcp,
    /// HTTP/1.1, request by request.
    Http,
}

impl Protocol {
    /// As the estate file writes it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Tcp => "tcp",
            Self::Http => "http",
        }
    }

    /// Whether nothing is understood.
    pub fn is_tcp(&self) -> bool {
        *self == Self::Tcp
    }
}

/// What the estate says about probes; each `None` leaves it to the offering.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProbeOverride {
    /// Asked of the instance alone: may it get traffic?
    pub ready: Option<Check>,
    /// Asked of the instance and its needs: does it all work? Never withdraws an instance.
    pub deep: Option<Check>,
    /// How often.
    pub every: Option<Span>,
    /// How long one may take.
    pub timeout: Option<Span>,
    /// How long an instance may take from its start to its first `ready`.
    pub start_within: Option<Span>,
}

/// One way to ask an instance for its health.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Check {
    /// It accepts a connection.
    Tcp,
    /// `GET` of this path is answered with a status from 200 to 399.
    Http(String),
    /// This program, run in the instance's environment, exits with 0.
    Command(Vec<String>),
    /// PostgreSQL: connect, authenticate, `select 1`.
    Postgresql,
    /// Redis: authenticate, `PING`.
    Redis,
    /// MySQL and MariaDB: connect, authenticate, `select 1`.
    Mysql,
    /// AMQP 0-9-1 (RabbitMQ): connect, authenticate, open the virtual host and a channel.
    Amqp,
    /// What the scheme of the binding's URI asks for: PostgreSQL, Redis, MySQL, AMQP; a TCP connection where it is none
    /// of these. The estate file has no word for it: it is what providers say whose instances are known by their bindings.
    Scheme,
}

impl Check {
    /// The protocol in one word, as reports show it.
    pub fn protocol(&self) -> &'static str {
        match self {
            Self::Tcp => "tcp",
            Self::Http(_) => "http",
            Self::Command(_) => "command",
            Self::Postgresql => "postgresql",
            Self::Redis => "redis",
            Self::Mysql => "mysql",
            Self::Amqp => "amqp",
            Self::Scheme => "the binding's own",
        }
    }
}

/// What must become of a service's data.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct DataPolicy {
    /// Whether data must outlive the instance; `None` leaves it to the offering.
    pub durable: Option<bool>,
    /// A backup is made this often; `None` for only when asked.
    pub backup_every: Option<Span>,
    /// How often a restore is proven.
    #[serde(default, skip_serializing_if = "Prove::is_usual")]
    pub prove_every: Prove,
}

impl DataPolicy {
    /// How often a restore is to be proven; `None` for only when asked.
    pub fn proof_every(&self) -> Option<Span> {
        match self.prove_every {
            Prove::Usual => self.backup_every.map(|_| PROVE_EVERY),
            Prove::Every(every) => Some(every),
            Prove::Never => None,
        }
    }
}

/// How an instance is taken out of service.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StopPolicy {
    /// How long connections that are under way may go on after no new ones arrive. Default 10 s.
    pub drain: Span,
    /// How long the program may take to end after it was asked to, before it is killed. Default 10 s, or what the
    /// offering says.
    pub grace: Option<Span>,
}

impl Default for StopPolicy {
    fn default() -> Self {
        Self { drain: Span::seconds(10), grace: None }
    }
}
