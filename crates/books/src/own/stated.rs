//! Which figures an answer rests on, and where each comes from: what is declared, what is known of the machine, what was
//! measured, and defaults for the rest.

use std::collections::BTreeMap;
use std::sync::Arc;

use ostler_manager::{Judged, Knowledge, candidates};
use ostler_model::catalog::Catalog;
use ostler_model::charge::{self, Per, Term};
use ostler_model::estate::accounts::MachineCost;
use ostler_model::estate::own::{Assumption, Range, Unit, WORK_YEAR_HOURS};
use ostler_model::estate::{Currency, Estate, ProviderKind, Service};
use ostler_model::ids::{PlanName, ProviderName};
use ostler_model::time::Timestamp;
use rust_decimal::Decimal;
use serde::{Deserialize, Serialize};

use super::NotWeighed;
use super::costs::HOURS;
use super::measured::{Measured, OutagesSeen};

/// Where a figure comes from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Origin {
    /// Declared for the service.
    Service,
    /// Declared for everything.
    Estate,
    /// From elsewhere in the estate file, and from where.
    File(String),
    /// Measured: by what, and over how long.
    Measured(String),
    /// The provider's terms promise it.
    Promised,
    /// Nobody has said or seen anything: a default.
    Default,
}

/// A figure that the answer rests on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stated {
    /// What.
    pub assumption: Assumption,
    /// How much.
    pub range: Range,
    /// Where that comes from.
    pub origin: Origin,
}

/// A plan that could be bought in place of owning.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Offer {
    /// From whom.
    pub provider: ProviderName,
    /// Which.
    pub plan: PlanName,
    /// What an instance costs a month of average length.
    pub monthly: Decimal,
    /// What a gigabyte through the endpoint costs.
    pub gigabyte: Decimal,
    /// What is paid once for an instance.
    pub once: Decimal,
    /// For how many hours a year a service bought there is out.
    pub away: Range,
    /// Where that comes from.
    pub origin: Origin,
}

impl Offer {
    /// For people.
    pub fn name(&self) -> String {
        format!("{} at {}", self.plan, self.provider)
    }
}

/// A plan that is not compared with.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LeftOut {
    /// From whom.
    pub provider: ProviderName,
    /// Which; `None` if the provider has none.
    pub plan: Option<PlanName>,
    /// Why not.
    pub why: String,
}

/// Every figure that an answer about `service` rests on.
///
/// # Errors
/// If defaults would be taken that are in EUR, and the estate does not say what that is worth.
pub fn stated(estate: &Estate, service: &Service, measured: &Measured) -> Result<Vec<Stated>, NotWeighed> {
    let machine = estate.providers.values().find_map(|provider| {
        let cost = provider.pricing.machine.as_ref()?;
        Some((&provider.name, cost))
    });
    let (count, length) = owned_outages(estate, measured);
    let one = |assumption: Assumption| {
        if let Some(range) = service.own.0.get(&assumption) {
            return Ok(Stated { assumption, range: *range, origin: Origin::Service });
        }
        if let (Assumption::OutageHour, Some(cost)) = (assumption, service.outage_cost) {
            let origin = Origin::File(format!("`outage_cost` of {}", service.name));
            return Ok(Stated { assumption, range: Range::certain(cost.get()), origin });
        }
        if let Some(range) = estate.own.0.get(&assumption) {
            return Ok(Stated { assumption, range: *range, origin: Origin::Estate });
        }
        let found = match assumption {
            Assumption::Instances => {
                let from = Origin::File(format!("`instances` of {}", service.name));
                Some((Range::certain(Decimal::from(service.instances)), from))
            }
            Assumption::Outages => count.clone(),
            Assumption::Heal => length.clone(),
            Assumption::Traffic => measured.traffic.as_ref().map(|seen| {
                let from = Origin::Measured(format!("what its endpoint carried, over {} days", seen.days));
                (around(seen.gigabytes_a_month, Decimal::ZERO), from)
            }),
            other => machine.and_then(|(name, cost)| of_machine(other, name, cost)),
        };
        let (range, origin) = match found {
            Some(found) => found,
            None => (usual(estate, assumption)?, Origin::Default),
        };
        Ok(Stated { assumption, range, origin })
    };
    Assumption::ALL.iter().copied().map(one).collect()
}

/// What `[provider.NAME.cost]` says of it.
fn of_machine(assumption: Assumption, name: &ProviderName, cost: &MachineCost) -> Option<(Range, Origin)> {
    let (key, figure) = match assumption {
        Assumption::Purchase => ("purchase", cost.purchase.get()),
        Assumption::Years => ("years", Decimal::from(cost.years)),
        Assumption::Watts => ("watts", cost.watts.get()),
        Assumption::Kwh => ("kwh", cost.kwh.get()),
        Assumption::CareServer => ("care", cost.care.get()),
        Assumption::Salary => ("care_rate", cost.care_rate.get() * Decimal::from(WORK_YEAR_HOURS)),
        _ => return None,
    };
    let times = if assumption == Assumption::Salary { ", times 1,600 hours" } else { "" };
    let from = Origin::File(format!("`{key}` of `[provider.{name}.cost]`{times}"));
    // What is not said there stands at nothing, and nothing of it is known.
    (!figure.is_zero()).then(|| (Range::certain(figure), from))
}

fn usual(estate: &Estate, assumption: Assumption) -> Result<Range, NotWeighed> {
    let usual = assumption.usual().unwrap_or_else(|| Range::certain(Decimal::ONE));
    let is_worth_the_same = usual.is_certain() && usual.low().is_zero() || estate.currency.as_str() == "EUR";
    if assumption.unit() != Unit::Money || is_worth_the_same {
        return Ok(usual);
    }
    let euro = Currency::try_from("EUR".to_owned()).expect("it is one");
    match estate.accounts.rates.get(&euro) {
        Some(rate) => Ok(usual.map(|figure| (figure * rate.get()).round_dp(12).normalize())),
        None => Err(NotWeighed::NoRate(estate.currency.clone())),
    }
}

/// A figure with where it comes from.
type Found = Option<(Range, Origin)>;

/// What was measured counts as half as much up to twice as much, or up to `more` than that: what comes is not what was, and
/// that there was none does not say that there will be none.
fn around(figure: Decimal, more: Decimal) -> Range {
    let rounded = |figure: Decimal| figure.round_dp(4).normalize();
    let (low, high) = (rounded(figure / Decimal::TWO), rounded((figure * Decimal::TWO).max(figure + more)));
    Range::new(low, rounded(figure), high).unwrap_or_else(|| Range::certain(figure))
}

/// How often it was out a year and for how many hours each time, where it was on a machine of one's own long enough.
fn owned_outages(estate: &Estate, measured: &Measured) -> (Found, Found) {
    let is_machine = |name: &ProviderName| {
        estate.providers.get(name).is_some_and(|provider| matches!(provider.kind, ProviderKind::Host(_)))
    };
    let seen = measured.service.as_ref().filter(|seen| is_machine(&seen.provider) && seen.is_enough());
    if let Some(seen) = seen {
        let from = Origin::Measured(format!("the service itself, over {} days", seen.days()));
        let length = seen.each_hours().map(|hours| (around(hours, Decimal::ZERO), from.clone()));
        return (Some((around(seen.times_a_year(), seen.one_a_year()), from)), length);
    }
    // Of a provider only the share of the time is known: it counts as one long outage a year.
    let seen = measured.providers.iter().find(|(name, seen)| is_machine(name) && seen.is_enough());
    let found = seen.map(|(name, seen)| {
        let from = Origin::Measured(format!("everything at {name}, over {} days, as one outage a year", seen.days()));
        let once = (Range::certain(Decimal::ONE), from.clone());
        (once, (around(seen.hours_a_year(), seen.one_a_year()), from))
    });
    found.map_or((None, None), |(count, length)| (Some(count), Some(length)))
}

/// For how many hours a year a service at `provider` is out.
fn bought_away(estate: &Estate, stated: &[Stated], measured: &Measured, provider: &ProviderName) -> (Range, Origin) {
    let of_it = measured.service.as_ref().filter(|seen| seen.provider == *provider && seen.is_enough());
    if let Some(seen) = of_it {
        let from = Origin::Measured(format!("the service itself, over {} days", seen.days()));
        return (around(seen.hours_a_year(), seen.one_a_year()), from);
    }
    if let Some(seen) = measured.providers.get(provider).filter(|seen| OutagesSeen::is_enough(seen)) {
        let from = Origin::Measured(format!("everything at {provider}, over {} days", seen.days()));
        return (around(seen.hours_a_year(), seen.one_a_year()), from);
    }
    let hours = |percent: Decimal| {
        ((Decimal::ONE_HUNDRED - percent) * Decimal::from(HOURS) / Decimal::ONE_HUNDRED).round_dp(4).normalize()
    };
    let terms = estate.providers.get(provider).and_then(|provider| provider.terms.as_ref());
    if let Some(promised) = terms.and_then(|terms| terms.availability) {
        let share = Decimal::from(promised.millionths()) / Decimal::from(10_000);
        // A promise is what they would be ashamed of, not what comes: up to all that it allows.
        let most = hours(share);
        return (
            Range::new(Decimal::ZERO, most / Decimal::TWO, most).unwrap_or(Range::certain(most)),
            Origin::Promised,
        );
    }
    let available = stated.iter().find(|stated| stated.assumption == Assumption::Available);
    let (range, origin) = available.map_or((Range::certain(Decimal::ONE_HUNDRED), Origin::Default), |stated| {
        (stated.range, stated.origin.clone())
    });
    let away = Range::new(hours(range.high()), hours(range.likely()), hours(range.low()));
    (away.unwrap_or(Range::certain(hours(range.likely()))), origin)
}

/// Every plan of every provider elsewhere, and those that cannot be compared with.
pub fn offers(
    estate: &Estate,
    catalogs: &BTreeMap<ProviderName, Arc<Catalog>>,
    service: &Service,
    stated: &[Stated],
    measured: &Measured,
    now: Timestamp,
) -> (Vec<Offer>, Vec<LeftOut>) {
    // Whatever is bought now and preferred: the question is what could be.
    let any = Service { plan: None, prefer: Vec::new(), ..service.clone() };
    let (mut offers, mut left_out) = (Vec::new(), Vec::new());
    for candidate in candidates(&Knowledge::default(), estate, catalogs, &any, now) {
        let provider = candidate.provider;
        let kind = estate.providers.get(&provider).map(|provider| &provider.kind);
        if matches!(kind, Some(ProviderKind::Host(_))) || !catalogs.contains_key(&provider) {
            continue;
        }
        let (plan, excluded) = match (candidate.plan, candidate.verdict) {
            (Some(plan), Judged::Excluded(why)) => (Some(plan), Some(why)),
            (None, Judged::Excluded(why)) => (None, Some(why)),
            (None, Judged::Chosen(_) | Judged::Lost(_)) => continue,
            (Some(plan), Judged::Chosen(_) | Judged::Lost(_)) => (Some(plan), None),
        };
        let why = match (&plan, excluded) {
            (_, Some(why)) => why,
            (None, None) => continue,
            (Some(plan), None) => {
                let catalog = catalogs.get(&provider).map(AsRef::as_ref);
                let terms = charge::terms_of_plan(estate, catalog, &provider, &service.offering, plan);
                match charge::a_month(&terms) {
                    Some(monthly) => {
                        let (away, origin) = bought_away(estate, stated, measured, &provider);
                        let (once, gigabyte) = (sum_of(&terms, Per::Once), sum_of(&terms, Per::Gigabyte));
                        let plan = plan.clone();
                        offers.push(Offer { provider, plan, monthly, gigabyte, once, away, origin });
                        continue;
                    }
                    None => not_counted(&terms),
                }
            }
        };
        left_out.push(LeftOut { provider, plan, why });
    }
    for provider in estate.providers.values().filter(|provider| !catalogs.contains_key(&provider.name)) {
        for plan in provider.pricing.prices.get(&service.offering).into_iter().flat_map(|plans| plans.keys()) {
            if let Some(offer) = agreed(estate, service, stated, measured, (&provider.name, plan)) {
                offers.push(offer);
            }
        }
    }
    (offers, left_out)
}

/// A plan whose price is agreed upon, of a provider that says nothing of what it offers: not yet, or not now.
fn agreed(
    estate: &Estate,
    service: &Service,
    stated: &[Stated],
    measured: &Measured,
    (provider, plan): (&ProviderName, &PlanName),
) -> Option<Offer> {
    let terms = charge::terms_of_plan(estate, None, provider, &service.offering, plan);
    let monthly = charge::a_month(&terms)?;
    let (away, origin) = bought_away(estate, stated, measured, provider);
    let (once, gigabyte) = (sum_of(&terms, Per::Once), sum_of(&terms, Per::Gigabyte));
    Some(Offer { provider: provider.clone(), plan: plan.clone(), monthly, gigabyte, once, away, origin })
}

/// What all prices for that are together.
fn sum_of(terms: &[Term], per: Per) -> Decimal {
    let all = terms.iter().filter_map(|term| match term {
        Term::Charged(charge) => (charge.per == per).then(|| charge.a_month()),
        Term::NotCounted { .. } => None,
    });
    all.sum()
}

fn not_counted(terms: &[Term]) -> String {
    let why = terms.iter().find_map(|term| match term {
        Term::Charged(_) => None,
        Term::NotCounted { said, why } if said.is_empty() => Some(why.clone()),
        Term::NotCounted { said, why } => Some(format!("{said}: {why}")),
    });
    why.unwrap_or_else(|| "its price cannot be counted".to_owned())
}
