//! Which plan of which provider a service is bought of, where several would do: all of them side by side, and why each
//! but one is not it.
//!
//! Invariants: the same function that decides also explains; what exists stays what and where it is. Whatever is measured
//! only says of a provider by itself that it falls short or does not, so that of any three the order is the same
//! whichever two are compared.

use std::cmp::Ordering;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use ostler_model::catalog::{Catalog, Offering, Placement, Plan, Price};
use ostler_model::estate::certificate::{Certificate, Standing};
use ostler_model::estate::terms::Percent;
use ostler_model::estate::{Estate, Provider, Service};
use ostler_model::ids::{PlanName, ProviderName, ServiceName};
use ostler_model::money::Amount;
use ostler_model::time::{Timestamp, in_words, rfc3339};
use ostler_model::version::{Version, VersionRange};
use serde::{Deserialize, Serialize};

use crate::evidence::{Delivered, Evidence};
use crate::knowledge::Knowledge;
use crate::overrides::InForce;

/// One plan that might be bought.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Candidate {
    /// From whom.
    pub provider: ProviderName,
    /// Which plan; `None` if the provider does not offer it at all.
    pub plan: Option<PlanName>,
    /// The newest version of it that will do, or else the newest; `None` where it has none of its own.
    pub version: Option<Version>,
    /// Where it would be.
    pub region: Option<String>,
    /// What one costs, if the provider says.
    pub price: Option<Price>,
    /// It costs nothing.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub free: bool,
    /// What share of the time the provider promises it to be available.
    pub availability: Option<Percent>,
    /// How many instances bought there do not work now, and how many there are.
    pub sick: (usize, usize),
    /// What its examination found, if the estate names the certificate.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub certificate: Option<Examined>,
    /// What was seen of the provider, if anything was.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub delivered: Option<Delivered>,
    /// Why it is clear that the provider falls short, if it is: it delivers less than it promises, or fails more often
    /// than others.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub falls_short: Option<String>,
    /// What became of it.
    pub verdict: Judged,
}

/// How a provider has delivered, and what else speaks for it or against it. By this it is chosen, and this is what its
/// scorecard shows.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Conduct {
    /// What share of the time it promises to be available.
    pub promised: Option<Percent>,
    /// How many instances bought there do not work now, and how many there are.
    pub sick: (usize, usize),
    /// What its examination found, if the estate names the certificate.
    pub certificate: Option<Examined>,
    /// What was seen of it, if anything was.
    pub delivered: Option<Delivered>,
    /// Why it is clear that it falls short, if it is.
    pub falls_short: Option<String>,
}

/// What the examination of a provider found, and what that says now.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Examined {
    /// What speaks for it, or against it.
    pub standing: Standing,
    /// When it was examined.
    #[serde(with = "rfc3339")]
    pub at: Timestamp,
    /// Until when it is to be believed that nothing is wrong.
    #[serde(with = "rfc3339")]
    pub valid_until: Timestamp,
    /// Something was bought, used and given back; otherwise the examination only read.
    pub full: bool,
    /// How many findings break a buyer.
    pub breaks_you: u32,
    /// How many surprise one.
    pub surprises_you: u32,
    /// How many hurt nobody.
    pub cosmetic: u32,
    /// How many things the examination may have left at the provider.
    pub left: u32,
}

impl Examined {
    fn new(certificate: &Certificate, now: Timestamp) -> Self {
        let standing = certificate.standing(now);
        let Certificate { at, valid_until, full, breaks_you, surprises_you, cosmetic, left } = *certificate;
        Self { standing, at, valid_until, full, breaks_you, surprises_you, cosmetic, left }
    }

    /// In a few words: "certified until 2027-02-01".
    pub fn in_words(&self) -> String {
        let day = |time: Timestamp| time.to_seconds().split('T').next().unwrap_or_default().to_owned();
        match self.standing {
            Standing::Fit if self.full => format!("certified until {}", day(self.valid_until)),
            Standing::Fit => format!("certified by reading alone until {}", day(self.valid_until)),
            Standing::Expired => format!("certificate expired {}", day(self.valid_until)),
            Standing::Unexamined => "no certificate".to_owned(),
            Standing::Unfit => format!("failed its examination: {}", self.faults_in_words()),
        }
    }

    fn faults_in_words(&self) -> String {
        let findings = match self.breaks_you {
            0 => None,
            1 => Some("1 finding that breaks you".to_owned()),
            many => Some(format!("{many} findings that break you")),
        };
        let left = match self.left {
            0 => None,
            1 => Some("1 thing that may have been left there".to_owned()),
            many => Some(format!("{many} things that may have been left there")),
        };
        findings.into_iter().chain(left).collect::<Vec<_>>().join(", ")
    }
}

impl Delivered {
    /// In a few words: "delivered 99.97% over 12 d, 41 of 42 orders, instances made in 2.4 s".
    pub fn in_words(&self) -> String {
        let watched = Duration::from_millis(self.watched_ms);
        let share = self.availability.map(|share| format!("{share} over {}", in_words(watched)));
        let orders = u64::from(self.orders_done) + u64::from(self.orders_failed);
        let plural = if orders == 1 { "order" } else { "orders" };
        let orders = (orders > 0).then(|| format!("{} of {orders} {plural}", self.orders_done));
        let made =
            self.provision_ms.map(|millis| format!("instances made in {}", in_words(Duration::from_millis(millis))));
        let parts: Vec<String> = share.into_iter().chain(orders).chain(made).collect();
        format!("delivered {}", parts.join(", "))
    }
}

/// What became of a candidate.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "verdict", content = "because")]
pub enum Judged {
    /// It is bought, and why.
    Chosen(String),
    /// It would do, and something else is better.
    Lost(String),
    /// It will not do.
    Excluded(String),
}

impl Candidate {
    /// Its price in a few words.
    pub fn price_in_words(&self) -> String {
        match &self.price {
            Some(price) => format!("{} {} a {}", price.amount, price.currency, price.per),
            None if self.free => "nothing".to_owned(),
            None => "none stated".to_owned(),
        }
    }
}

/// Every plan of every provider, in the order of the catalogs, judged. At most one is chosen.
pub fn candidates(
    known: &Knowledge,
    estate: &Estate,
    catalogs: &BTreeMap<ProviderName, Arc<Catalog>>,
    service: &Service,
    now: Timestamp,
) -> Vec<Candidate> {
    candidates_under(known, estate, catalogs, service, known.standing(now))
}

/// The same with these overrides.
fn candidates_under(
    known: &Knowledge,
    estate: &Estate,
    catalogs: &BTreeMap<ProviderName, Arc<Catalog>>,
    service: &Service,
    standing: InForce<'_>,
) -> Vec<Candidate> {
    let held = known.services.get(&service.name).filter(|known| !known.instances.is_empty());
    let held = held.and_then(|known| known.placement.as_ref());
    let tied = held.map_or(Tied::Free, Tied::To);
    judged(known, estate, catalogs, service, &tied, &relied_on(known, estate, &service.name), standing)
}

/// The best plan for a service that has to leave: of none of these providers.
///
/// # Errors
/// Why none will do, if anything can be said of it.
pub(crate) fn best_elsewhere(
    known: &Knowledge,
    estate: &Estate,
    service: &Service,
    not_at: &BTreeSet<ProviderName>,
    standing: InForce<'_>,
) -> Result<(ProviderName, PlanName), Option<String>> {
    let relied_on = relied_on(known, estate, &service.name);
    let all = judged(known, estate, &known.catalogs, service, &Tied::NotTo(not_at), &relied_on, standing);
    let chosen = all.iter().find(|candidate| matches!(candidate.verdict, Judged::Chosen(_)));
    if let Some((provider, plan)) = chosen.and_then(|chosen| Some((chosen.provider.clone(), chosen.plan.clone()?))) {
        return Ok((provider, plan));
    }
    let why = |candidate: &Candidate| match &candidate.verdict {
        Judged::Excluded(why) => Some(format!("{}: {why}", named(candidate))),
        Judged::Chosen(_) | Judged::Lost(_) => None,
    };
    let all: Vec<String> = all.iter().filter_map(why).collect();
    Err((!all.is_empty()).then(|| all.join("; ")))
}

/// What binds a service to a place.
enum Tied<'a> {
    /// It is nowhere yet.
    Free,
    /// It is there already.
    To(&'a Placement),
    /// It has to leave these.
    NotTo(&'a BTreeSet<ProviderName>),
}

/// Every plan of the estate's providers that may be weighed, judged.
fn judged(
    known: &Knowledge,
    estate: &Estate,
    catalogs: &BTreeMap<ProviderName, Arc<Catalog>>,
    service: &Service,
    tied: &Tied<'_>,
    relied_on: ReliedOn<'_>,
    standing: InForce<'_>,
) -> Vec<Candidate> {
    let now = standing.now;
    let seen = seen_of(known, estate, now);
    let held = if let Tied::To(held) = tied { Some(*held) } else { None };
    let is_meant = |name: &ProviderName| !matches!(tied, Tied::NotTo(these) if these.contains(name));
    let mut all: Vec<Candidate> = Vec::new();
    for (name, provider) in estate.providers.iter().filter(|(name, _)| is_meant(name)) {
        // A provider that cannot be asked now offers what it offered last.
        let catalog = catalogs.get(name).or_else(|| known.catalogs.get(name));
        let offers = catalog.map_or_else(Vec::new, |catalog| Offered::all(catalog, service));
        let conduct = conduct(known, provider, &seen, now);
        let candidate = |offered: Option<&Offered<'_>>| Candidate {
            provider: name.clone(),
            plan: offered.map(|offered| offered.plan.name.clone()),
            version: offered.and_then(|offered| offered.version(service, relied_on)),
            region: provider.region.clone(),
            price: offered.and_then(|offered| offered.plan.price.clone()),
            free: offered.is_some_and(|offered| offered.plan.free),
            availability: conduct.promised,
            sick: conduct.sick,
            certificate: conduct.certificate.clone(),
            delivered: conduct.delivered.clone(),
            falls_short: conduct.falls_short.clone(),
            verdict: match judge(estate, service, provider.region.as_deref(), name, offered, held, relied_on) {
                Judged::Lost(_) => overridden(service, name, offered, held, standing),
                other => other,
            },
        };
        match offers.as_slice() {
            [] => all.push(candidate(None)),
            offers => all.extend(offers.iter().map(|offered| candidate(Some(offered)))),
        }
    }
    let rank = |candidate: &Candidate| service.prefer.iter().position(|preferred| *preferred == candidate.provider);
    let currency = estate.currency.as_str();
    let compare = |a: &Candidate, b: &Candidate| {
        let by = criteria(currency, rank, a, b);
        by.into_iter().find(|(ordering, _)| *ordering != Ordering::Equal)
    };
    let is_open = |candidate: &&Candidate| matches!(candidate.verdict, Judged::Lost(_));
    // The first of the best, so that where nothing tells them apart the order of the catalogs does.
    let best = all.iter().filter(is_open).cloned().reduce(|best, next| match compare(&next, &best) {
        Some((Ordering::Less, _)) => next,
        _ => best,
    });
    let Some(best) = best else { return all };
    let others = all.iter().filter(is_open).count() - 1;
    for candidate in all.iter_mut().filter(|candidate| matches!(candidate.verdict, Judged::Lost(_))) {
        let is_best = (&candidate.provider, &candidate.plan) == (&best.provider, &best.plan);
        candidate.verdict = match (is_best, compare(&best, candidate)) {
            (true, _) if is_held(held, candidate) => Judged::Chosen("it is there already".to_owned()),
            (true, _) if others == 0 => Judged::Chosen("nothing else will do".to_owned()),
            (true, _) => Judged::Chosen("it is the best of those that will do".to_owned()),
            (false, Some((_, why))) => Judged::Lost(why),
            (false, None) => Judged::Lost(format!("{} comes first in the catalogs", named(&best))),
        };
    }
    all
}

/// The chosen one of a service that is not there yet.
pub(crate) fn chosen(
    known: &Knowledge,
    estate: &Estate,
    catalogs: &BTreeMap<ProviderName, Arc<Catalog>>,
    service: &Service,
    relied_on: ReliedOn<'_>,
    standing: InForce<'_>,
) -> Option<(ProviderName, PlanName)> {
    let all = judged(known, estate, catalogs, service, &Tied::Free, relied_on, standing);
    let chosen = all.into_iter().find(|candidate| matches!(candidate.verdict, Judged::Chosen(_)))?;
    Some((chosen.provider, chosen.plan?))
}

/// What speaks for `a` (`Less`) or for `b`, in the order of its weight, with what is said to who loses.
fn criteria(
    currency: &str,
    rank: impl Fn(&Candidate) -> Option<usize>,
    a: &Candidate,
    b: &Candidate,
) -> [(Ordering, String); 7] {
    let price = |candidate: &Candidate| match &candidate.price {
        _ if candidate.free => Some(Amount::ZERO),
        Some(price) if price.per == "month" && price.currency == currency => price.amount.parse::<Amount>().ok(),
        Some(_) | None => None,
    };
    // What is not said, or cannot be compared, is worse than the worst that is said.
    let prices = match (price(a), price(b)) {
        (Some(a), Some(b)) => a.cmp(&b),
        (Some(_), None) => Ordering::Less,
        (None, Some(_)) => Ordering::Greater,
        (None, None) => Ordering::Equal,
    };
    let mostly_sick = |candidate: &Candidate| candidate.sick.0 * 2 > candidate.sick.1;
    let better = named(if prices == Ordering::Greater { b } else { a });
    let standing = |candidate: &Candidate| {
        candidate.certificate.as_ref().map_or(Standing::Unexamined, |certificate| certificate.standing)
    };
    let fails = |candidate: &Candidate| standing(candidate) == Standing::Unfit;
    let certificates = standing(a).cmp(&standing(b));
    let (certified, other) = if certificates == Ordering::Greater { (b, a) } else { (a, b) };
    let uncertified = match standing(other) {
        Standing::Expired => "its certificate has expired".to_owned(),
        Standing::Fit | Standing::Unexamined | Standing::Unfit => format!("{} is certified", certified.provider),
    };
    // Where they differ in that, it is the one that loses that has a reason.
    let short = a.falls_short.as_ref().or(b.falls_short.as_ref()).cloned().unwrap_or_default();
    [
        (fails(a).cmp(&fails(b)), "it failed its examination".to_owned()),
        (rank(a).cmp(&rank(b)), "it comes later in `prefer`".to_owned()),
        (mostly_sick(a).cmp(&mostly_sick(b)), "most of what was bought there does not work now".to_owned()),
        (a.falls_short.is_some().cmp(&b.falls_short.is_some()), short),
        (certificates, uncertified),
        (prices, format!("{better} costs less, as far as it is said")),
        (b.availability.cmp(&a.availability), "less availability is promised".to_owned()),
    ]
}

/// One plan of a catalog, with the versions that a service can have by it.
struct Offered<'a> {
    offering: &'a Offering,
    plan: &'a Plan,
    versions: &'a [Version],
}

impl<'a> Offered<'a> {
    /// All plans of what `service` asks for, in the catalog's order.
    fn all(catalog: &'a Catalog, service: &Service) -> Vec<Self> {
        let offering = catalog.offerings.get(&service.offering);
        let offered = |offering: &'a Offering, plan: &'a Plan| Self {
            offering,
            plan,
            versions: catalog.versions_for(&service.name, offering, plan),
        };
        offering.map_or_else(Vec::new, |offering| offering.plans.iter().map(|plan| offered(offering, plan)).collect())
    }

    /// The newest version that will do, or else the newest.
    fn version(&self, service: &Service, relied_on: ReliedOn<'_>) -> Option<Version> {
        let fits = |version: &&Version| {
            service.version.contains(version) && relied_on.iter().all(|(_, range)| range.contains(version))
        };
        let fitting = self.versions.iter().filter(fits).max();
        fitting.or_else(|| self.versions.iter().max()).cloned()
    }
}

fn named(candidate: &Candidate) -> String {
    let plan = candidate.plan.as_ref().map_or_else(String::new, |plan| format!("'s {plan}"));
    format!("{}{plan}", candidate.provider)
}

fn is_held(held: Option<&Placement>, candidate: &Candidate) -> bool {
    held.is_some_and(|held| held.provider == candidate.provider && Some(&held.plan) == candidate.plan.as_ref())
}

/// Which versions of a service its consumers rely on by their contracts, and who each of them is.
pub(crate) type ReliedOn<'a> = &'a [(&'a ServiceName, &'a VersionRange)];

/// What is relied on, by service.
pub(crate) fn all_relied_on(estate: &Estate) -> BTreeMap<&ServiceName, Vec<(&ServiceName, &VersionRange)>> {
    let mut all: BTreeMap<_, Vec<_>> = BTreeMap::new();
    for spec in estate.services.values() {
        for (need, range) in spec.contracts.iter().filter_map(|it| Some((&it.need, it.version.as_ref()?))) {
            all.entry(need).or_default().push((&spec.name, range));
        }
    }
    all
}

/// What is relied on of one service.
pub(crate) fn relied_on<'a>(
    known: &Knowledge,
    estate: &'a Estate,
    service: &ServiceName,
) -> Vec<(&'a ServiceName, &'a VersionRange)> {
    let about = |spec: &'a Service| {
        let contracts = spec.contracts.iter().filter(|contract| contract.need == *service);
        contracts.filter_map(|contract| Some((&spec.name, contract.version.as_ref()?)))
    };
    // In an estate that is declared it is known who the consumers are.
    if known.estate.as_deref().is_some_and(|declared| std::ptr::eq(declared, estate)) {
        let consumers = known.consumers.get(service).into_iter().flatten();
        return consumers.filter_map(|name| estate.services.get(name)).flat_map(|spec| about(spec)).collect();
    }
    estate.services.values().flat_map(|spec| about(spec)).collect()
}

/// `Lost` for what would do: whether it is the best is not seen by looking at it alone.
fn judge(
    estate: &Estate,
    service: &Service,
    region: Option<&str>,
    provider: &ProviderName,
    offered: Option<&Offered<'_>>,
    held: Option<&Placement>,
    relied_on: ReliedOn<'_>,
) -> Judged {
    let excluded = |why: String| Judged::Excluded(why);
    let Some(Offered { offering, plan, versions }) = offered else {
        return excluded(format!("it does not offer `{}`", service.offering));
    };
    let is_there = held.is_some_and(|held| held.provider == *provider && held.plan == plan.name);
    if let Some(held) = held.filter(|held| held.provider != *provider) {
        return excluded(format!("`{}` exists at {}", service.name, held.provider));
    }
    if !service.prefer.is_empty() && !service.prefer.contains(provider) {
        return excluded("it is not named in `prefer`".to_owned());
    }
    if !is_there && !estate.may_hold(region) {
        let where_it_is = region.map_or_else(|| "it does not say where it is".to_owned(), |r| format!("it is in {r}"));
        return excluded(format!("{where_it_is}, which `residency` does not allow"));
    }
    if !is_there && (offering.withdrawn || plan.withdrawn) {
        return excluded("it is not sold any more".to_owned());
    }
    match &service.plan {
        Some(wanted) if *wanted != plan.name => return excluded(format!("`plan = \"{wanted}\"` is declared")),
        None if held.is_some() && !is_there => return excluded("another plan was bought".to_owned()),
        Some(_) | None => {}
    }
    if offering.instances_max.is_some_and(|most| service.instances > most) {
        return excluded(format!("it gives fewer than {} instances", service.instances));
    }
    if !versions.is_empty() && !versions.iter().any(|version| service.version.contains(version)) {
        return excluded(format!("no version of it is in `{}`", service.version));
    }
    let fits = |version: &&Version| relied_on.iter().all(|(_, range)| range.contains(version));
    if !is_there && !versions.is_empty() && !versions.iter().filter(|v| service.version.contains(v)).any(|v| fits(&v)) {
        let all: Vec<String> =
            relied_on.iter().map(|(consumer, range)| format!("`{consumer}` relies on `{range}`")).collect();
        return excluded(format!("no version of it will do for its consumers: {}", all.join(", ")));
    }
    Judged::Lost(String::new())
}

/// What would do, unless a person says that it does not. What exists stays, whatever is said of what is new.
fn overridden(
    service: &Service,
    provider: &ProviderName,
    offered: Option<&Offered<'_>>,
    held: Option<&Placement>,
    standing: InForce<'_>,
) -> Judged {
    let Some(plan) = offered.map(|offered| &offered.plan.name) else { return Judged::Lost(String::new()) };
    let is_there = held.is_some_and(|held| held.provider == *provider && held.plan == *plan);
    match standing.excludes(&service.name, provider, plan).filter(|_| !is_there) {
        Some(why) => Judged::Excluded(why),
        None => Judged::Lost(String::new()),
    }
}

/// What was seen of the estate's providers, counted up to now.
fn seen_of(known: &Knowledge, estate: &Estate, now: Timestamp) -> BTreeMap<ProviderName, Evidence> {
    let seen = |name: &ProviderName| Some((name.clone(), known.evidence.get(name)?.at(now)));
    estate.providers.keys().filter_map(seen).collect()
}

fn conduct(known: &Knowledge, provider: &Provider, seen: &BTreeMap<ProviderName, Evidence>, now: Timestamp) -> Conduct {
    Conduct {
        promised: provider.terms.as_ref().and_then(|terms| terms.availability),
        sick: sick_at(known, &provider.name),
        certificate: provider.certificate.as_ref().map(|certificate| Examined::new(certificate, now)),
        delivered: seen.get(&provider.name).and_then(Evidence::delivered),
        falls_short: falls_short(provider, seen),
    }
}

impl Knowledge {
    /// How each provider that is declared has delivered, as of `now`.
    pub fn conduct(&self, now: Timestamp) -> BTreeMap<ProviderName, Conduct> {
        let Some(estate) = &self.estate else { return BTreeMap::new() };
        let seen = seen_of(self, estate, now);
        estate.providers.iter().map(|(name, provider)| (name.clone(), conduct(self, provider, &seen, now))).collect()
    }
}

/// Why it is clear that the provider falls short, if it is.
fn falls_short(provider: &Provider, seen: &BTreeMap<ProviderName, Evidence>) -> Option<String> {
    let evidence = seen.get(&provider.name)?;
    let promised = provider.terms.as_ref().and_then(|terms| terms.availability);
    if evidence.breaks_promise(promised) {
        let [missed, watched] = [evidence.missed_us, evidence.watched_us].map(|us| in_words(Duration::from_micros(us)));
        let measure = match promised {
            Some(promised) => format!("much more than the promised {promised} allows"),
            None => "much more than anybody could do without".to_owned(),
        };
        return Some(format!("{missed} of {watched} were missing there, {measure}"));
    }
    let others = seen.iter().filter(|(name, _)| **name != provider.name).map(|(_, other)| other);
    evidence.fails_more(others).then(|| {
        let all = u64::from(evidence.done) + u64::from(evidence.failed);
        format!("{} of {all} orders failed there, many more than elsewhere", evidence.failed)
    })
}

/// How many instances of what was bought there do not work now, and how many there are.
fn sick_at(known: &Knowledge, provider: &ProviderName) -> (usize, usize) {
    let bought = |name: &ServiceName| {
        let placement = known.services.get(name).and_then(|service| service.placement.as_ref());
        placement.is_some_and(|placement| placement.provider == *provider)
    };
    let services = known.services.iter().filter(|(name, _)| bought(name)).map(|(_, service)| service);
    let mut counts = (0, 0);
    for instance in services.flat_map(|service| service.instances.values()).filter(|instance| !instance.retired) {
        counts.0 += usize::from(instance.repair.is_some());
        counts.1 += 1;
    }
    counts
}
