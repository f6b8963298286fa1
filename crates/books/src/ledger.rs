//! The fold: from facts to what was held from when until when, at which price.
//!
//! Invariant: cannot fail, and holds nothing that does not follow from facts. What is held grows with what was bought and
//! with how often prices changed, not with the number of facts.

use std::collections::{BTreeMap, BTreeSet};

use ostler_manager::{Claims, Command, Fact, FactKind, Outcome, Told};
use ostler_model::catalog::{Catalog, Placement};
use ostler_model::charge::{Listed, Per, Term, terms, unknown};
use ostler_model::estate::accounts::{Accounts, MachineCost, Pricing};
use ostler_model::estate::slo::Exclusion;
use ostler_model::estate::terms::Terms;
use ostler_model::estate::{Currency, Estate, ProviderKind, Service};
use ostler_model::ids::{CommandId, InstanceId, OfferingName, PlanName, Position, ProviderName, ServiceName};
use ostler_model::money::Amount;
use ostler_model::month::{Month, Zone};
use ostler_model::outcome::Observation;
use ostler_model::overrides::OverrideId;
use ostler_model::time::Timestamp;
use serde::{Deserialize, Serialize};

use crate::carried::{Bytes, Carried};
use crate::outages::{Around, Outages};
use crate::overrides::Account;

/// Who needs whom, by service.
pub(crate) type Needs = BTreeMap<ServiceName, Vec<ServiceName>>;

/// What was used, from when until when, and at which price.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ledger {
    pub(crate) declared: Option<Declared>,
    lists: BTreeMap<ProviderName, BTreeMap<OfferingName, BTreeMap<PlanName, Listed>>>,
    places: BTreeMap<ServiceName, Place>,
    /// What is held now.
    pub(crate) held: BTreeMap<InstanceId, Held>,
    /// What was held, in the order in which it ended.
    pub(crate) past: Vec<Span>,
    /// Machines of one's own that are declared now.
    pub(crate) machines: BTreeMap<ProviderName, Machine>,
    pub(crate) past_machines: Vec<PastMachine>,
    /// Backups, by service.
    pub(crate) kept: BTreeMap<ServiceName, Kept>,
    /// Who needed whom from when on.
    pub(crate) needs: Vec<(Timestamp, Needs)>,
    pending: BTreeMap<CommandId, Pending>,
    /// What endpoints have carried, by service.
    #[serde(default)]
    pub(crate) carried: BTreeMap<ServiceName, Carried>,
    /// When what was bought did not work.
    pub(crate) outages: Outages,
    /// What each provider promises, as it was declared last; also of those that are not declared any more.
    pub(crate) promised: BTreeMap<ProviderName, Terms>,
    /// Credits that were claimed.
    pub(crate) claims: Claims,
    /// What people have overridden.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub(crate) overrides: BTreeMap<OverrideId, Account>,
}

/// What the estate file says that matters here.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Declared {
    pub(crate) estate: String,
    pub(crate) currency: Currency,
    pub(crate) accounts: Accounts,
    pub(crate) gb_month: Option<Amount>,
    pub(crate) providers: BTreeMap<ProviderName, Known>,
    /// Services that run the buyer's own programs.
    pub(crate) programs: BTreeSet<ServiceName>,
    /// What of a service is not counted, and why.
    pub(crate) excluded: BTreeMap<ServiceName, Vec<Exclusion>>,
}

/// A provider.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Known {
    pub(crate) region: Option<String>,
    pub(crate) is_machine: bool,
    pub(crate) pricing: Pricing,
}

/// What was bought.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(crate) struct Bought {
    pub(crate) provider: ProviderName,
    pub(crate) offering: OfferingName,
    pub(crate) plan: PlanName,
}

impl From<&Placement> for Bought {
    fn from(placement: &Placement) -> Self {
        let Placement { provider, offering, plan, .. } = placement;
        Self { provider: provider.clone(), offering: offering.clone(), plan: plan.clone() }
    }
}

/// Something that is held at a price.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Held {
    pub(crate) bought: Bought,
    pub(crate) terms: Vec<Term>,
    pub(crate) from: Timestamp,
    /// It was bought then: what is paid once is due. Otherwise only its price has changed.
    pub(crate) anew: bool,
}

/// Something that was held.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Span {
    pub(crate) instance: InstanceId,
    #[serde(flatten)]
    pub(crate) held: Held,
    pub(crate) until: Timestamp,
}

/// A machine of one's own.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Machine {
    pub(crate) cost: MachineCost,
    pub(crate) from: Timestamp,
}

/// What a machine of one's own cost until then.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct PastMachine {
    pub(crate) provider: ProviderName,
    #[serde(flatten)]
    pub(crate) machine: Machine,
    pub(crate) until: Timestamp,
}

/// The backups of a service.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Kept {
    /// Bytes by name.
    names: BTreeMap<String, u64>,
    bytes: u64,
    since: Timestamp,
    /// What was kept in each month, at which price; newest last.
    spent: Vec<Spent>,
}

/// What was kept in a month.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Spent {
    pub(crate) month: Month,
    pub(crate) price: Option<Amount>,
    pub(crate) from: Timestamp,
    pub(crate) until: Timestamp,
    /// Bytes times microseconds.
    #[serde(with = "as_text")]
    pub(crate) volume: u128,
}

/// JSON has no numbers of that size.
mod as_text {
    use serde::{Deserialize, Deserializer, Serializer, de};

    pub(super) fn serialize<S: Serializer>(number: &u128, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(number)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u128, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(de::Error::custom)
    }
}

/// Where a service is bought.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Place {
    now: Option<Bought>,
    /// Where it was bought before the move that is under way.
    moves_from: Option<Bought>,
    /// What its launches were of, from which number on: only changes.
    launches: Vec<(u32, Bought)>,
}

/// What follows from a command if it succeeds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
enum Pending {
    Made(InstanceId, Option<Bought>),
    Gone(InstanceId),
    Seen(InstanceId),
    Changed(InstanceId, u32),
    BackedUp(ServiceName),
    Dropped(ServiceName, String),
}

impl Ledger {
    /// Whether a fact of this kind can change the books: others need not be read at all.
    pub fn concerns(word: &str) -> bool {
        let is_mine = matches!(
            word,
            "estate-declared"
                | "catalog-seen"
                | "service-placed"
                | "launch-defined"
                | "instance-adopted"
                | "move-began"
                | "move-turned"
                | "move-returned"
                | "move-ended"
                | "command-issued"
                | "command-ended"
                | "resumed"
                | "traffic-counted"
                | "service-credit"
                | "override-began"
                | "override-weighed"
                | "override-ended"
        );
        is_mine || Outages::concerns(word)
    }

    /// Makes the fact at `position` of the journal part of the books.
    pub fn fold(&mut self, position: Position, fact: &Fact) {
        self.account(fact);
        self.observe(position, fact);
    }

    /// What it says of outages, now that it is known what was bought where.
    fn observe(&mut self, position: Position, fact: &Fact) {
        let Self { held, declared, outages, promised, .. } = self;
        let declared = declared.as_ref();
        let around = Around {
            bought: &|id| held.get(id).map(|held| held.bought.clone()),
            is_own: &|service| declared.is_some_and(|declared| declared.programs.contains(service)),
            counts_callers: &|name| promised.get(name).is_some_and(|terms| terms.counting.failed.is_some()),
        };
        outages.fold(position, fact, &around);
    }

    fn account(&mut self, fact: &Fact) {
        let at = fact.at;
        match &fact.kind {
            FactKind::EstateDeclared { estate } => self.declare(estate, at),
            FactKind::CatalogSeen { provider, catalog } => self.list(provider, catalog, at),
            FactKind::ServicePlaced { service, placement } => {
                self.places.entry(service.clone()).or_default().now = Some(placement.into());
            }
            FactKind::LaunchDefined { service, generation, launch } => {
                let launches = &mut self.places.entry(service.clone()).or_default().launches;
                let bought = Bought::from(&launch.placement);
                if launches.last().is_none_or(|(_, last)| *last != bought) {
                    launches.push((*generation, bought));
                }
            }
            FactKind::MoveBegan { service, to, .. } => {
                let place = self.places.entry(service.clone()).or_default();
                if place.moves_from.is_none() && place.now.is_some() {
                    place.moves_from = place.now.replace(to.into());
                }
            }
            FactKind::MoveTurned { service, to: Some(to), .. } => {
                if let Some(place) = self.places.get_mut(service).filter(|place| place.moves_from.is_some()) {
                    place.now = Some(to.into());
                }
            }
            FactKind::MoveReturned { service } => {
                if let Some(place) = self.places.get_mut(service).filter(|place| place.moves_from.is_some()) {
                    place.now = place.moves_from.clone();
                }
            }
            FactKind::MoveEnded { service } => {
                if let Some(place) = self.places.get_mut(service) {
                    place.moves_from = None;
                }
            }
            FactKind::InstanceAdopted { instance, .. } => self.hold(instance, None, at),
            FactKind::CommandIssued { id, command } => {
                if let Some(pending) = self.pending(command) {
                    self.pending.insert(*id, pending);
                }
            }
            FactKind::CommandEnded { id, outcome } => {
                if let Some(pending) = self.pending.remove(id) {
                    self.end(pending, outcome, at);
                }
            }
            FactKind::TrafficCounted { service, since, bytes_in, bytes_out } => {
                let bytes = Bytes { inward: *bytes_in, outward: *bytes_out };
                self.carry(service, (*since, at), bytes);
            }
            FactKind::ServiceCredit { provider, month, step, by, note } => {
                self.claims.take(provider, *month, step, Told { at, by, note: note.as_deref() });
            }
            // What became of them is observed, and that is told anew.
            FactKind::Resumed { .. } => self.pending.clear(),
            FactKind::OverrideBegan { .. } | FactKind::OverrideWeighed { .. } | FactKind::OverrideEnded { .. } => {}
            // Nothing that is paid for follows from the others. `concerns` has the same list.
            _ => return,
        }
        self.fold_overrides(fact);
    }

    /// How many instances of the service there are where it is bought now.
    pub(crate) fn count_held(&self, service: &ServiceName) -> u32 {
        let now = self.places.get(service).and_then(|place| place.now.as_ref());
        let first = InstanceId::new(service.clone(), 0);
        let of_service = self.held.range(first..).take_while(|(instance, _)| instance.service() == service);
        u32::try_from(of_service.filter(|(_, held)| Some(&held.bought) == now).count()).unwrap_or(u32::MAX)
    }

    /// The time zone in which months are counted.
    pub fn zone(&self) -> Zone {
        self.declared.as_ref().map(|declared| declared.accounts.zone.clone()).unwrap_or_default()
    }

    fn pending(&self, command: &Command) -> Option<Pending> {
        Some(match command {
            Command::Provision { instance } => {
                let place = self.places.get(instance.service());
                Pending::Made(instance.clone(), place.and_then(|place| place.now.clone()))
            }
            Command::Deprovision { instance } | Command::Release { instance } => Pending::Gone(instance.clone()),
            Command::Observe { instance } => Pending::Seen(instance.clone()),
            Command::Update { instance, generation } => Pending::Changed(instance.clone(), *generation),
            Command::Backup { instance, .. } => Pending::BackedUp(instance.service().clone()),
            Command::DropBackup { service, backup } => Pending::Dropped(service.clone(), backup.name.clone()),
            _ => return None,
        })
    }

    fn end(&mut self, pending: Pending, outcome: &Outcome, at: Timestamp) {
        match (pending, outcome) {
            (Pending::Made(instance, bought), Outcome::Done) => self.hold(&instance, bought, at),
            (Pending::Gone(instance), Outcome::Done) => self.let_go(&instance, at),
            (Pending::Seen(instance), Outcome::Observed(seen)) => match seen {
                Observation::Running(_) | Observation::Stopped { .. } => self.hold(&instance, None, at),
                Observation::Absent => self.let_go(&instance, at),
                // It may still be there, and be paid for, if it was.
                Observation::NotSeen { .. } | Observation::Useless { .. } => {}
            },
            (Pending::Changed(instance, generation), Outcome::Done) => {
                let launches = self.places.get(instance.service()).map(|place| place.launches.as_slice());
                let is_it = |(first, _): &&(u32, Bought)| *first <= generation;
                let bought = launches.unwrap_or_default().iter().rev().find(is_it).map(|(_, bought)| bought.clone());
                if let Some(bought) = bought {
                    self.change(&instance, bought, at);
                }
            }
            (Pending::BackedUp(service), Outcome::BackedUp(made)) => {
                self.keep(service, at, |names| {
                    names.insert(made.name.clone(), made.bytes);
                });
            }
            (Pending::Dropped(service, name), Outcome::Done) => self.keep(service, at, |names| {
                names.remove(&name);
            }),
            _ => {}
        }
    }

    /// It exists, as what it was made, or else as what its service is bought as.
    fn hold(&mut self, instance: &InstanceId, bought: Option<Bought>, at: Timestamp) {
        if self.held.contains_key(instance) {
            return;
        }
        let place = || self.places.get(instance.service()).and_then(|place| place.now.clone());
        let Some(bought) = bought.or_else(place) else { return };
        let terms = self.terms(&bought).unwrap_or_else(|| vec![unknown("its provider's prices are not known")]);
        self.held.insert(instance.clone(), Held { bought, terms, from: at, anew: true });
    }

    fn change(&mut self, instance: &InstanceId, bought: Bought, at: Timestamp) {
        if self.held.get(instance).is_some_and(|held| held.bought != bought) {
            self.let_go(instance, at);
            self.hold(instance, Some(bought), at);
        }
    }

    fn let_go(&mut self, instance: &InstanceId, until: Timestamp) {
        let Some(held) = self.held.remove(instance) else { return };
        self.past.push(Span { instance: instance.clone(), held, until });
    }

    /// What it costs now; `None` where nothing is said of it any more.
    pub(crate) fn terms(&self, bought: &Bought) -> Option<Vec<Term>> {
        let declared = self.declared.as_ref()?;
        let known = declared.providers.get(&bought.provider)?;
        let stated = known.pricing.prices.get(&bought.offering).and_then(|plans| plans.get(&bought.plan));
        if let Some(costs) = stated {
            return Some(terms(costs, &declared.currency, &declared.accounts));
        }
        let listed = self.lists.get(&bought.provider)?.get(&bought.offering)?.get(&bought.plan)?;
        Some(listed.terms(&declared.currency, &declared.accounts))
    }

    /// From now on everything costs what is stated now.
    fn reprice(&mut self, at: Timestamp) {
        let changed = |(instance, held): (&InstanceId, &Held)| {
            let terms = self.terms(&held.bought).filter(|terms| *terms != held.terms)?;
            Some((instance.clone(), terms))
        };
        let changed: Vec<(InstanceId, Vec<Term>)> = self.held.iter().filter_map(changed).collect();
        for (instance, terms) in changed {
            let Some(held) = self.held.get_mut(&instance) else { continue };
            let former = std::mem::replace(&mut held.terms, terms);
            if held.from < at {
                let held = Held { terms: former, ..held.clone() };
                self.past.push(Span { instance: instance.clone(), held, until: at });
                if let Some(held) = self.held.get_mut(&instance) {
                    (held.from, held.anew) = (at, false);
                }
            }
        }
    }

    fn list(&mut self, provider: &ProviderName, catalog: &Catalog, at: Timestamp) {
        let plans = |offering: &ostler_model::catalog::Offering| {
            let plans = offering.plans.iter().map(|plan| (plan.name.clone(), Listed::of(plan)));
            (offering.name.clone(), plans.collect())
        };
        let list = catalog.offerings.values().map(plans).collect();
        if self.lists.get(provider) != Some(&list) {
            self.lists.insert(provider.clone(), list);
            self.reprice(at);
        }
    }

    fn declare(&mut self, estate: &Estate, at: Timestamp) {
        let former_price = self.declared.as_ref().and_then(|declared| declared.gb_month);
        if former_price != estate.backups.gb_month {
            let services: Vec<ServiceName> = self.kept.keys().cloned().collect();
            for service in services {
                self.keep(service, at, |_| ());
            }
        }
        let known = |provider: &ostler_model::estate::Provider| Known {
            region: provider.region.clone(),
            is_machine: matches!(provider.kind, ProviderKind::Host(_)),
            pricing: provider.pricing.clone(),
        };
        for (name, provider) in &estate.providers {
            match &provider.terms {
                Some(terms) => drop(self.promised.insert(name.clone(), terms.clone())),
                None => drop(self.promised.remove(name)),
            }
        }
        let services =
            |is_meant: fn(&Service) -> bool| estate.services.iter().filter(move |(_, service)| is_meant(service));
        self.declared = Some(Declared {
            estate: estate.name.to_string(),
            currency: estate.currency.clone(),
            accounts: estate.accounts.clone(),
            gb_month: estate.backups.gb_month,
            providers: estate.providers.iter().map(|(name, provider)| (name.clone(), known(provider))).collect(),
            programs: services(|service| !service.run.is_empty()).map(|(name, _)| name.clone()).collect(),
            excluded: services(|service| service.slo.as_ref().is_some_and(|slo| !slo.exclude.is_empty()))
                .filter_map(|(name, service)| Some((name.clone(), service.slo.as_ref()?.exclude.clone())))
                .collect(),
        });
        self.declare_machines(estate, at);
        let needs: Needs = estate
            .services
            .iter()
            .map(|(name, service)| (name.clone(), service.needs.iter().cloned().collect()))
            .collect();
        if self.needs.last().is_none_or(|(_, last)| *last != needs) {
            self.needs.push((at, needs));
        }
        self.reprice(at);
    }

    fn declare_machines(&mut self, estate: &Estate, at: Timestamp) {
        let cost = |name: &ProviderName| estate.providers.get(name).and_then(|known| known.pricing.machine.as_ref());
        let ends = |(name, machine): &(&ProviderName, &Machine)| cost(name) != Some(&machine.cost);
        let ended: Vec<ProviderName> = self.machines.iter().filter(ends).map(|(name, _)| name.clone()).collect();
        for provider in ended {
            let Some(machine) = self.machines.remove(&provider) else { continue };
            self.past_machines.push(PastMachine { provider, machine, until: at });
        }
        for (name, provider) in &estate.providers {
            if let Some(cost) = &provider.pricing.machine {
                let machine = || Machine { cost: cost.clone(), from: at };
                self.machines.entry(name.clone()).or_insert_with(machine);
            }
        }
    }

    /// An endpoint has carried so much since then.
    fn carry(&mut self, service: &ServiceName, (since, at): (Timestamp, Timestamp), bytes: Bytes) {
        let bought = self.places.get(service).and_then(|place| place.now.clone());
        let terms = bought.as_ref().and_then(|bought| self.terms(bought)).unwrap_or_default();
        let charges = terms.into_iter().filter_map(|term| match term {
            Term::Charged(charge) if charge.per == Per::Gigabyte => Some(charge),
            Term::Charged(_) | Term::NotCounted { .. } => None,
        });
        let (month, charges) = (Month::at(at, &self.zone()), charges.collect());
        self.carried.entry(service.clone()).or_default().count((since, at), bytes, month, bought, charges);
    }

    /// What is kept of a service changes; what was kept until now is counted.
    fn keep(&mut self, service: ServiceName, at: Timestamp, change: impl FnOnce(&mut BTreeMap<String, u64>)) {
        let price = self.declared.as_ref().and_then(|declared| declared.gb_month);
        let zone = self.zone();
        let kept = self.kept.entry(service).or_default();
        if kept.bytes > 0 {
            spend(&mut kept.spent, &zone, price, kept.bytes, (kept.since, at));
        }
        kept.since = at;
        change(&mut kept.names);
        kept.bytes = kept.names.values().fold(0, |sum, bytes| sum.saturating_add(*bytes));
    }

    /// What was kept of each service until then, by month and price.
    pub(crate) fn spent_until(&self, until: Timestamp) -> impl Iterator<Item = (&ServiceName, Vec<Spent>)> {
        let price = self.declared.as_ref().and_then(|declared| declared.gb_month);
        let zone = self.zone();
        self.kept.iter().map(move |(service, kept)| {
            let mut spent = kept.spent.clone();
            if kept.bytes > 0 {
                spend(&mut spent, &zone, price, kept.bytes, (kept.since, until));
            }
            (service, spent)
        })
    }
}

/// Counts so many bytes from then until then, month by month.
fn spend(
    spent: &mut Vec<Spent>,
    zone: &Zone,
    price: Option<Amount>,
    bytes: u64,
    (mut from, until): (Timestamp, Timestamp),
) {
    while from < until {
        // Most often it is the month that was counted last.
        let month = Month::at(from, zone);
        let ends = month.bounds(zone).1.min(until);
        let ends = if ends > from { ends } else { until };
        let volume = u128::from(bytes) * ends.since(from).as_micros();
        match spent.iter_mut().rev().take(4).find(|spent| spent.month == month && spent.price == price) {
            Some(spent) => {
                spent.volume = spent.volume.saturating_add(volume);
                spent.until = ends;
            }
            None => spent.push(Spent { month, price, from, until: ends, volume }),
        }
        from = ends;
    }
}
