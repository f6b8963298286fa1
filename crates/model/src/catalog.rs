//! What a provider offers. Every kind of provider describes itself in these terms, so that the manager needs no others.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::estate::Check;
use crate::ids::{OfferingName, PlanName, ProviderName, ServiceName};
use crate::money::Amount;
use crate::time::Span;
use crate::version::{Version, VersionRange};

/// What one provider offers now.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Catalog {
    /// By name.
    pub offerings: BTreeMap<OfferingName, Offering>,
    /// The versions of the estate's own programs that were found side by side, by service, oldest first. A service whose
    /// program says nothing of versions is not in it.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub programs: BTreeMap<ServiceName, Vec<Version>>,
}

impl Catalog {
    /// The versions that `service` can have of `offering` by `plan`: the plan's own; else those of the service's own
    /// program; else the offering's. Empty where nothing has versions.
    pub fn versions_for<'a>(&'a self, service: &ServiceName, offering: &'a Offering, plan: &'a Plan) -> &'a [Version] {
        match (&plan.version, self.programs.get(service)) {
            (Some(version), _) => std::slice::from_ref(version),
            (None, Some(versions)) if !versions.is_empty() => versions,
            (None, _) => &offering.versions,
        }
    }
}

/// One thing a provider sells.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Offering {
    /// Its name.
    pub name: OfferingName,
    /// One sentence for people.
    pub description: String,
    /// The versions that can be had, newest last; empty where the offering has none of its own (the buyer's program).
    pub versions: Vec<Version>,
    /// How many leading numbers of a version name the format of its data: 1 for PostgreSQL (15, 16 …), whose versions read
    /// only data of their own series. 0: there are no series, every version takes over the data of the ones before it.
    #[serde(default = "one", skip_serializing_if = "is_one")]
    pub series: u32,
    /// Its plans, in the provider's order. Never empty.
    pub plans: Vec<Plan>,
    /// Whether it runs the buyer's own program and so takes `run` and hands it bindings.
    pub runs_program: bool,
    /// Whether other services can be bound to it.
    pub bindable: bool,
    /// Whether its data outlives a stop unless the estate says otherwise.
    pub durable: bool,
    /// At most this many instances of one service; `None` for no limit.
    pub instances_max: Option<u32>,
    /// What else the provider can do with an instance.
    pub actions: Actions,
    /// How its instances are asked for their health.
    pub probe: ProbePolicy,
    /// How long an instance may take to stop when it was asked to.
    pub stop_grace: Span,
    /// The provider has it in its catalog no more: what was bought of it stays, and nothing more is bought.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub withdrawn: bool,
    /// Which versions of other offerings it works with, where it is used together with them. All that are about the
    /// same one hold together; of an offering that none is about it works with every version.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub accepts: Vec<Accepts>,
}

/// At most so much does one offering say of which others it works with: a bound on what has to be weighed.
pub const ACCEPTS_MAX: usize = 1000;

/// Some versions of an offering work with some versions of another one only.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Accepts {
    /// Which of its own versions this is about; every one by default, also where it has none of its own.
    #[serde(default = "VersionRange::any", skip_serializing_if = "VersionRange::is_any")]
    pub versions: VersionRange,
    /// Which offering it needs.
    pub offering: OfferingName,
    /// Which versions of that will do.
    pub range: VersionRange,
}

impl Offering {
    /// Whether data of version `a` can be used by `b` and the other way round, because both have it in the same format.
    pub fn same_series(&self, a: &Version, b: &Version) -> bool {
        a.begins_as(b, self.series)
    }
}

fn one() -> u32 {
    1
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde asks for a reference")]
fn is_one(series: &u32) -> bool {
    *series == 1
}

/// What a provider can do with an instance beyond making and deleting it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Actions {
    /// It can be started and stopped, keeping its data.
    pub start_stop: bool,
    /// Its data can be backed up and restored.
    pub backup: bool,
    /// A backup of it can be restored on the side, on this machine, to prove that it can be.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub prove: bool,
    /// What was asked for, and not answered, cannot just be asked for again: it may have been made all the same. So each
    /// ask has a name of its own, and what former ones may have left behind is tidied up.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub unrepeatable: bool,
    /// The credentials of a binding can be ended and made again as they were.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub rebind: bool,
    /// Its provider wants to hear when the context changes in which its instances are used.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub hears_context: bool,
}

/// How instances are asked for their health.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProbePolicy {
    /// May it get traffic?
    pub ready: Check,
    /// Does it work together with its needs? Reported, never a reason to withdraw an instance.
    pub deep: Option<Check>,
    /// How often.
    pub every: Span,
    /// How long one may take.
    pub timeout: Span,
    /// How long an instance may take from its start to its first `ready`.
    pub start_within: Span,
}

impl ProbePolicy {
    /// How long somebody waits who wants to know whether an instance hangs or is only slow: three times as long as a probe
    /// does, at least a second and at most ten, or as long as a probe does where that is longer.
    pub fn patience(&self) -> Duration {
        let timeout = self.timeout.get();
        timeout.saturating_mul(3).clamp(Duration::from_secs(1), Duration::from_secs(10)).max(timeout)
    }
}

/// A priced variant of an offering.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Plan {
    /// Its name.
    pub name: PlanName,
    /// One sentence for people.
    pub description: String,
    /// What its instances may use.
    pub limits: Limits,
    /// What an instance costs a month; `None` where the provider states no price.
    pub price: Option<Price>,
    /// Everything that an instance costs, as it is stated; all of it applies at once. Empty where nothing is stated, and
    /// in catalogs that earlier versions recorded: there `price` says all that is known.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub costs: Vec<Cost>,
    /// It costs nothing.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub free: bool,
    /// The version of the product that it gives, where each plan has its own; otherwise any of the offering's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<Version>,
    /// What the provider keeps up to date in its instances, where it says so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub maintenance: Option<Maintenance>,
    /// What only the provider understands, and is told again with everything that is bought of this plan: so it can be
    /// named to the provider when the catalog has it no more.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub handle: Option<String>,
    /// The provider has it in its catalog no more: what was bought of it stays, and nothing more is bought.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub withdrawn: bool,
}

/// What a provider keeps up to date in the instances of a plan (Open Service Broker API, "Maintenance Info").
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Maintenance {
    /// Which; only whether it is the same matters.
    pub version: String,
    /// What an update to it means for those who use an instance.
    pub description: Option<String>,
}

/// One of the things that a plan costs (profile of the Open Service Broker API, `costs`).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cost {
    /// How much, by currency in capital letters; where there are several, one of them is asked for.
    pub amounts: BTreeMap<String, Amount>,
    /// For what, in the provider's own words: `MONTHLY`, `hour`, `1GB over 20GB`.
    pub per: String,
}

/// A price as the catalog states it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Price {
    /// The amount as a decimal number in text, exactly as stated.
    pub amount: String,
    /// ISO 4217.
    pub currency: String,
    /// For what: `month`, `hour`, or the provider's own words.
    pub per: String,
}

/// What an instance may use; `None` is no limit of ostler's.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Limits {
    /// Bytes of memory.
    pub memory_bytes: Option<u64>,
    /// Thousandths of one core.
    pub cpu_millicores: Option<u32>,
    /// Processes and threads.
    pub processes: Option<u32>,
    /// Open files.
    pub files: Option<u64>,
}

impl Limits {
    /// These limits where given, `other`'s elsewhere.
    pub fn or(self, other: Self) -> Self {
        Self {
            memory_bytes: self.memory_bytes.or(other.memory_bytes),
            cpu_millicores: self.cpu_millicores.or(other.cpu_millicores),
            processes: self.processes.or(other.processes),
            files: self.files.or(other.files),
        }
    }
}

/// Where a service is bought: the outcome of placement.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Placement {
    /// From whom.
    pub provider: ProviderName,
    /// What.
    pub offering: OfferingName,
    /// Which plan of it.
    pub plan: PlanName,
    /// Which version; `None` where the offering has none of its own.
    pub version: Option<Version>,
    /// The plan's [`Plan::handle`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub handle: Option<String>,
    /// The [`Maintenance::version`] of the plan that the instances were made with, or last updated to. A newer one in the
    /// catalog is an upgrade, and never comes as a side effect.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub maintenance: Option<String>,
}
