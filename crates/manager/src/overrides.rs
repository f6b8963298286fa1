//! Overrides: what people instruct against, or ahead of, what ostler would decide, each with who answers for it, why, and
//! until when; and what would be without it.
//!
//! Whoever decides asks [`InForce`], which is told the time: so an override ends everywhere at once when its end comes,
//! whether its end is recorded yet or not. What one has changed is found by the very function that decides, asked twice:
//! with this override and those that began before it, and with only those. So what several overrides bring about together
//! is counted once, for the first that was enough for it.
//!
//! Invariants: an override lifts no rule by which nothing is lost, nor `residency`; without a standing one every decision
//! is what it was before there were any; so many stand at once at the most, and what is known of each is bounded by what
//! the estate has.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use ostler_model::catalog::Placement;
use ostler_model::ids::{InstanceId, OfferingName, PlanName, ProviderName, ServiceName};
use ostler_model::month::Zone;
use ostler_model::overrides::{OverrideId, Until};
use ostler_model::time::Timestamp;
use ostler_model::version::Version;
use serde::{Deserialize, Serialize};

use crate::knowledge::{Instance, Knowledge, ServiceKnowledge};
use crate::remedy::Remedy;
use crate::upgrade::named;

/// So many overrides stand at once at the most: whoever needs more wants another estate file.
pub const STANDING_MAX: usize = 64;
/// An owner's name has so many characters at the most.
const OWNER_CHARS_MAX: usize = 100;
/// A reason has so many characters at the most.
const REASON_CHARS_MAX: usize = 300;
/// No override stands for longer.
const LASTS_MAX: Duration = Duration::from_secs(366 * 86_400);

/// What a person instructs.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "instruction")]
pub enum Instruction {
    /// The service is nowhere else than there.
    Pin {
        /// Which.
        service: ServiceName,
        /// At whom.
        provider: ProviderName,
        /// Of which plan; of any if `None`.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        plan: Option<PlanName>,
    },
    /// Ostler does nothing to the service by itself: it looks, and tells.
    Hold {
        /// Which.
        service: ServiceName,
    },
    /// Nothing new is bought there, and nothing moves there.
    ForbidProvider {
        /// Whom.
        provider: ProviderName,
    },
    /// The service is not upgraded to this version, or to none at all.
    SkipUpgrade {
        /// Which.
        service: ServiceName,
        /// Which version; every one if `None`.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        version: Option<Version>,
    },
    /// Nothing is changed that need not be: healing goes on.
    Freeze {
        /// Which; the whole estate if `None`.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        service: Option<ServiceName>,
    },
    /// The next trouble of the service, or the one that it has, is treated so, once.
    ForceRemedy {
        /// Which.
        service: ServiceName,
        /// How.
        remedy: Remedy,
    },
}

impl Instruction {
    /// Its word, as on the command line: `pin`.
    pub fn word(&self) -> &'static str {
        match self {
            Self::Pin { .. } => "pin",
            Self::Hold { .. } => "hold",
            Self::ForbidProvider { .. } => "forbid-provider",
            Self::SkipUpgrade { .. } => "skip-upgrade",
            Self::Freeze { .. } => "freeze",
            Self::ForceRemedy { .. } => "force-remedy",
        }
    }

    /// The service that it is about, if it is about one.
    pub fn service(&self) -> Option<&ServiceName> {
        match self {
            Self::Pin { service, .. }
            | Self::Hold { service }
            | Self::SkipUpgrade { service, .. }
            | Self::ForceRemedy { service, .. } => Some(service),
            Self::Freeze { service } => service.as_ref(),
            Self::ForbidProvider { .. } => None,
        }
    }

    /// Whether `other` says the same of the same thing, perhaps in another way: it takes the place of this one.
    pub fn is_about_the_same(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::ForbidProvider { provider: a }, Self::ForbidProvider { provider: b }) => a == b,
            (Self::SkipUpgrade { service: a, version: av }, Self::SkipUpgrade { service: b, version: bv }) => {
                (a, av) == (b, bv)
            }
            (a, b) => a.word() == b.word() && a.service() == b.service(),
        }
    }

    /// Whether it says something about this service, at whom it is.
    fn concerns(&self, service: &ServiceName, provider: Option<&ProviderName>) -> bool {
        match self {
            Self::ForbidProvider { provider: forbidden } => provider == Some(forbidden),
            Self::Freeze { service: None } => true,
            other => other.service() == Some(service),
        }
    }
}

impl fmt::Display for Instruction {
    /// In words: "pin db to here, plan small".
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Pin { service, provider, plan: None } => write!(f, "pin {service} to {provider}"),
            Self::Pin { service, provider, plan: Some(plan) } => write!(f, "pin {service} to {provider}, plan {plan}"),
            Self::Hold { service } => write!(f, "hold {service}"),
            Self::ForbidProvider { provider } => write!(f, "buy nothing new from {provider}"),
            Self::SkipUpgrade { service, version: None } => write!(f, "skip all upgrades of {service}"),
            Self::SkipUpgrade { service, version: Some(version) } => write!(f, "skip {version} of {service}"),
            Self::Freeze { service: None } => f.write_str("freeze everything"),
            Self::Freeze { service: Some(service) } => write!(f, "freeze {service}"),
            Self::ForceRemedy { service, remedy } => write!(f, "{} next for {service}", remedy.in_words()),
        }
    }
}

/// An override that stands, or has not been ended yet.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Override {
    /// What is instructed.
    pub instruction: Instruction,
    /// Who answers for it.
    pub owner: String,
    /// Why.
    pub reason: String,
    /// Since when.
    pub began: Timestamp,
    /// Until when.
    pub until: Timestamp,
    /// What would be otherwise without it.
    #[serde(default)]
    pub without: Differences,
    /// The instance for which a remedy was forced, once it was.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub used: Option<InstanceId>,
}

impl Override {
    /// Whose it is and until when, for whoever is kept from something: "override-3 of Ada, until 2026-12-31T23:00:00Z".
    fn whose(&self, id: OverrideId) -> String {
        format!("{id} of {} ({}), until {}", self.owner, self.reason, self.until.to_seconds())
    }
}

/// What would be otherwise without an override.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Differences {
    /// Services that would be bought elsewhere.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub places: BTreeMap<ServiceName, Elsewhere>,
    /// Services that would be upgraded.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub upgrades: BTreeMap<ServiceName, Newer>,
    /// Instances to which something would be done.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub remedies: BTreeMap<InstanceId, Untreated>,
}

/// A plan at a provider.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Place {
    /// At whom.
    pub provider: ProviderName,
    /// What.
    pub offering: OfferingName,
    /// Of which plan.
    pub plan: PlanName,
}

impl From<&Placement> for Place {
    fn from(placement: &Placement) -> Self {
        let Placement { provider, offering, plan, .. } = placement;
        Self { provider: provider.clone(), offering: offering.clone(), plan: plan.clone() }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}'s {}", self.provider, self.plan)
    }
}

/// Where a service is because of an override, and where it would be without.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Elsewhere {
    /// With it, and without those that began later.
    pub with: Place,
    /// Without it.
    pub instead: Place,
}

/// An upgrade that is not made because of an override.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Newer {
    /// What the service would become.
    pub to: String,
    /// How many versions are newer than what is used and would be put to use, or made up for by one that is.
    pub updates: u32,
}

/// A trouble that is treated in another way, or not at all, because of an override.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Untreated {
    /// What would be done.
    pub remedy: Remedy,
    /// How long that takes as a rule, in milliseconds.
    pub takes_ms: u64,
    /// Nothing of the service serves now.
    pub away: bool,
}

/// One difference that an override makes, as a fact; none any more where there is no `instead`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "of")]
pub enum Difference {
    /// Where a service is.
    Place {
        /// Which.
        service: ServiceName,
        /// Where it is and would be.
        instead: Option<Elsewhere>,
    },
    /// What version a service is of.
    Upgrade {
        /// Which.
        service: ServiceName,
        /// What it would become.
        instead: Option<Newer>,
    },
    /// What is done about the trouble of an instance.
    Remedy {
        /// Which.
        instance: InstanceId,
        /// What would be done.
        instead: Option<Untreated>,
    },
}

impl Difference {
    /// The service that it is about.
    pub fn service(&self) -> &ServiceName {
        match self {
            Self::Place { service, .. } | Self::Upgrade { service, .. } => service,
            Self::Remedy { instance, .. } => instance.service(),
        }
    }

    /// In words, as the end of "without it".
    pub fn in_words(&self) -> String {
        match self {
            Self::Place { service, instead: Some(it) } => format!("{service} would be at {}", it.instead),
            Self::Place { service, instead: None } => format!("{service} would be where it is"),
            Self::Upgrade { service, instead: Some(it) } => format!("{service} would become {}", it.to),
            Self::Upgrade { service, instead: None } => format!("{service} would be of the version that it is"),
            Self::Remedy { instance, instead: Some(it) } => {
                format!("would be tried for {instance}: {}", it.remedy.in_words())
            }
            Self::Remedy { instance, instead: None } => format!("{instance} would be as it is"),
        }
    }
}

impl Differences {
    /// Nothing would be otherwise.
    pub fn is_empty(&self) -> bool {
        self.places.is_empty() && self.upgrades.is_empty() && self.remedies.is_empty()
    }

    /// One by one.
    pub fn all(&self) -> impl Iterator<Item = Difference> {
        let places = self.places.iter().map(|(service, it)| (service.clone(), Some(it.clone())));
        let upgrades = self.upgrades.iter().map(|(service, it)| (service.clone(), Some(it.clone())));
        let remedies = self.remedies.iter().map(|(instance, it)| (instance.clone(), Some(*it)));
        places
            .map(|(service, instead)| Difference::Place { service, instead })
            .chain(upgrades.map(|(service, instead)| Difference::Upgrade { service, instead }))
            .chain(remedies.map(|(instance, instead)| Difference::Remedy { instance, instead }))
    }

    /// Whether this one is known already.
    pub(crate) fn has(&self, difference: &Difference) -> bool {
        match difference {
            Difference::Place { service, instead } => self.places.get(service) == instead.as_ref(),
            Difference::Upgrade { service, instead } => self.upgrades.get(service) == instead.as_ref(),
            Difference::Remedy { instance, instead } => self.remedies.get(instance) == instead.as_ref(),
        }
    }

    /// Makes it known.
    pub fn note(&mut self, difference: &Difference) {
        fn set<K: Ord + Clone, V: Clone>(of: &mut BTreeMap<K, V>, key: &K, value: Option<&V>) {
            match value {
                Some(value) => drop(of.insert(key.clone(), value.clone())),
                None => drop(of.remove(key)),
            }
        }
        match difference {
            Difference::Place { service, instead } => set(&mut self.places, service, instead.as_ref()),
            Difference::Upgrade { service, instead } => set(&mut self.upgrades, service, instead.as_ref()),
            Difference::Remedy { instance, instead } => set(&mut self.remedies, instance, instead.as_ref()),
        }
    }
}

/// Why an override stands no more.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "why")]
pub enum WhyEnded {
    /// Its end has come.
    Expired,
    /// A person ended it.
    Ended {
        /// Who.
        owner: String,
        /// Why.
        reason: String,
    },
    /// Another one says something else of the same.
    Superseded {
        /// Which.
        by: OverrideId,
    },
    /// What it was for is done.
    Used,
}

impl WhyEnded {
    /// In words: "expired".
    pub fn in_words(&self) -> String {
        match self {
            Self::Expired => "expired".to_owned(),
            Self::Ended { owner, reason } => format!("ended by {owner}: {reason}"),
            Self::Superseded { by } => format!("superseded by {by}"),
            Self::Used => "used".to_owned(),
        }
    }
}

/// All overrides.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Overrides {
    /// Those that have not been ended, by their ids, which is the order in which they began. Whether one stands, the time
    /// says: [`Knowledge::standing`].
    pub all: BTreeMap<OverrideId, Override>,
    /// The number of the last one.
    pub last: u32,
}

impl Overrides {
    /// Nothing was ever overridden.
    pub fn is_empty(&self) -> bool {
        self.last == 0
    }
}

/// The overrides that count in a decision.
#[derive(Clone, Copy, Debug)]
pub(crate) struct InForce<'k> {
    all: &'k BTreeMap<OverrideId, Override>,
    /// The time of the decision.
    pub(crate) now: Timestamp,
    /// Only those with smaller numbers.
    before: u32,
}

/// An override with its id.
pub(crate) type Found<'k> = (OverrideId, &'k Override);

impl Knowledge {
    /// The overrides that stand at `now`.
    pub(crate) fn standing(&self, now: Timestamp) -> InForce<'_> {
        InForce::of(&self.overrides.all, now)
    }

    /// The ids of the overrides that stand at `now` and say something about the service, in the order in which they began.
    pub fn overridden(&self, service: &ServiceName, now: Timestamp) -> Vec<OverrideId> {
        let provider = self.services.get(service).and_then(|service| service.placement.as_ref());
        let provider = provider.map(|placement| &placement.provider);
        let all = self.standing(now).iter();
        all.filter(|(_, it)| it.instruction.concerns(service, provider)).map(|(id, _)| id).collect()
    }
}

impl<'k> InForce<'k> {
    /// Those of another set, at the same time.
    pub(crate) fn of(all: &'k BTreeMap<OverrideId, Override>, now: Timestamp) -> Self {
        Self { all, now, before: u32::MAX }
    }

    /// Those that began before this one.
    pub(crate) fn before(self, id: OverrideId) -> Self {
        Self { before: id.0, ..self }
    }

    /// Those that began before this one, and it.
    pub(crate) fn up_to(self, id: OverrideId) -> Self {
        Self { before: id.0.saturating_add(1), ..self }
    }

    /// In the order in which they began.
    pub(crate) fn iter(self) -> impl Iterator<Item = Found<'k>> {
        let counts = move |(id, it): &(&OverrideId, &Override)| id.0 < self.before && it.until > self.now;
        self.all.iter().filter(counts).map(|(id, it)| (*id, it))
    }

    /// Where the service is to be.
    pub(crate) fn pin(self, service: &ServiceName) -> Option<(Found<'k>, &'k ProviderName, Option<&'k PlanName>)> {
        self.iter().find_map(|(id, it)| match &it.instruction {
            Instruction::Pin { service: pinned, provider, plan } if pinned == service => {
                Some(((id, it), provider, plan.as_ref()))
            }
            _ => None,
        })
    }

    /// By which nothing new is bought of this provider.
    pub(crate) fn forbids(self, provider: &ProviderName) -> Option<Found<'k>> {
        self.iter().find(
            |(_, it)| matches!(&it.instruction, Instruction::ForbidProvider { provider: other } if other == provider),
        )
    }

    /// By which ostler does nothing to the service by itself.
    pub(crate) fn holds(self, service: &ServiceName) -> Option<Found<'k>> {
        self.iter().find(|(_, it)| matches!(&it.instruction, Instruction::Hold { service: held } if held == service))
    }

    /// By which nothing is changed in the whole estate that need not be.
    pub(crate) fn freezes_all(self) -> Option<Found<'k>> {
        self.iter().find(|(_, it)| it.instruction == Instruction::Freeze { service: None })
    }

    /// By which nothing is changed that need not be. What holds does that, too.
    pub(crate) fn freezes(self, service: &ServiceName) -> Option<Found<'k>> {
        self.iter().find(|(_, it)| match &it.instruction {
            Instruction::Hold { service: held } => held == service,
            Instruction::Freeze { service: frozen } => frozen.as_ref().is_none_or(|frozen| frozen == service),
            _ => false,
        })
    }

    /// By which the service does not become what this placement says.
    pub(crate) fn skips(self, service: &ServiceName, to: &Placement) -> Option<Found<'k>> {
        self.iter().find(|(_, it)| match &it.instruction {
            Instruction::SkipUpgrade { service: skipped, version } => {
                skipped == service && version.as_ref().is_none_or(|version| to.version.as_ref() == Some(version))
            }
            _ => false,
        })
    }

    /// What is to be tried next for the service, whatever else was weighed.
    pub(crate) fn forced(self, service: &ServiceName) -> Option<(OverrideId, Remedy)> {
        self.iter().find_map(|(id, it)| match &it.instruction {
            Instruction::ForceRemedy { service: forced, remedy } if forced == service && it.used.is_none() => {
                Some((id, *remedy))
            }
            _ => None,
        })
    }

    /// Why the service must not newly be bought of this plan, if an override says so.
    pub(crate) fn excludes(self, service: &ServiceName, provider: &ProviderName, plan: &PlanName) -> Option<String> {
        if let Some(((id, it), pinned, only)) = self.pin(service)
            && (pinned != provider || only.is_some_and(|only| only != plan))
        {
            let plan = only.map_or_else(String::new, |plan| format!(", plan {plan}"));
            return Some(format!("{service} is pinned to {pinned}{plan} by {}", it.whose(id)));
        }
        let (id, it) = self.forbids(provider)?;
        Some(format!("nothing new is bought from {provider}, by {}", it.whose(id)))
    }

    /// Those that may change where the service is bought.
    pub(crate) fn of_places(self, service: &ServiceName) -> impl Iterator<Item = OverrideId> {
        let counts = move |it: &Override| match &it.instruction {
            Instruction::Pin { service: pinned, .. } => pinned == service,
            Instruction::ForbidProvider { .. } => true,
            _ => false,
        };
        self.iter().filter(move |(_, it)| counts(it)).map(|(id, _)| id)
    }
}

impl ServiceKnowledge {
    /// Whether the instance is not, or not any more, what it is to be started as: because another file was given, say, or a
    /// person asked for a restart.
    pub(crate) fn is_replaced(&self, id: &InstanceId, instance: &Instance) -> bool {
        instance.generation != Some(self.generation_of(id.number())) || instance.restart_round != self.restart_round
    }

    /// By which nothing is done to the instance, however sick it is. What ostler had begun before is finished.
    pub(crate) fn held_back<'k>(
        &self,
        id: &InstanceId,
        instance: &Instance,
        standing: InForce<'k>,
    ) -> Option<Found<'k>> {
        let is_begun = self.upgrading().is_some() || self.moving.is_some();
        let tries = instance.repair.as_ref().is_some_and(|repair| repair.trying.is_some());
        let found = standing.holds(&self.spec.name)?;
        (!is_begun && !tries && !self.is_replaced(id, instance)).then_some(found)
    }
}

/// Whose it is, for whoever is kept from something by it.
pub(crate) fn whose((id, it): Found<'_>) -> String {
    it.whose(id)
}

/// Everything that is wrong with who answers for an override, or for its end, and why; as sentences without a capital.
pub fn wrong_words(owner: &str, reason: &str) -> Vec<String> {
    let wrong = |said: &str, what: &str, hint: &str, most: usize| match said.trim() {
        "" => Some(format!("no {what} is said: {hint}")),
        said if said.chars().count() > most => Some(format!("the {what} has more than {most} characters")),
        said if said.chars().any(char::is_control) => {
            Some(format!("the {what} holds line breaks or other control characters"))
        }
        _ => None,
    };
    let owner = wrong(owner, "owner", "`--owner NAME` is who answers for it", OWNER_CHARS_MAX);
    let reason = wrong(reason, "reason", "`--reason TEXT` is for whoever finds it later", REASON_CHARS_MAX);
    owner.into_iter().chain(reason).collect()
}

/// What is wrong with the end of an override, said at `now` where clocks show the time of `zone`.
pub fn wrong_end(until: Option<Until>, now: Timestamp, zone: &Zone) -> Option<String> {
    let Some(until) = until else { return Some("no end is said: `--until 2026-12-31`, or `--until 2h`".to_owned()) };
    let at = until.at(now, zone);
    if at <= now {
        return Some(format!("its end, {until}, has come already"));
    }
    let is_long = at.since(now) > LASTS_MAX;
    is_long.then(|| format!("its end, {until}, is more than a year away: say it again when the time comes"))
}

/// How many versions newer than what is used a step makes up for.
pub(crate) fn updates(known: &Knowledge, service: &ServiceKnowledge, to: &Placement) -> u32 {
    let newer = || {
        let held = service.placement.as_ref()?;
        let catalog = known.catalogs.get(&held.provider)?;
        let offering = catalog.offerings.get(&held.offering)?;
        let plan = offering.plans.iter().find(|plan| plan.name == held.plan)?;
        let versions = catalog.versions_for(&service.spec.name, offering, plan);
        let (held, to) = (held.version.as_ref()?, to.version.as_ref()?);
        u32::try_from(versions.iter().filter(|version| *version > held && *version <= to).count()).ok()
    };
    newer().unwrap_or(1).max(1)
}

/// The upgrade that a step makes.
pub(crate) fn newer(known: &Knowledge, service: &ServiceKnowledge, to: &Placement) -> Newer {
    Newer { to: named(to), updates: updates(known, service, to) }
}
