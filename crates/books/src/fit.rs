//! How a change would fit the budget.

use std::collections::BTreeMap;
use std::sync::Arc;

use ostler_manager::{Judged, Knowledge, candidates};
use ostler_model::catalog::Catalog;
use ostler_model::charge;
use ostler_model::estate::{Estate, Service};
use ostler_model::ids::ProviderName;
use ostler_model::time::Timestamp;
use rust_decimal::Decimal;
use serde::{Deserialize, Serialize};

use crate::monthly::{Monthly, terms_of};

/// At most so many are told.
const TOLD_MAX: usize = 3;

/// A way to fit the budget.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Way {
    /// What to do, for people.
    pub words: String,
    /// What the estate then costs a month.
    pub monthly: Decimal,
}

/// By how much a way takes away of what was asked for; the least first.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Loses {
    Nothing,
    Instances,
    TheService,
}

/// The three cheapest ways in which `estate` costs no more than `budget` a month: those first that keep every service and
/// every instance, then those with fewer instances, then those that leave a new service out; the cheapest of each first.
/// `before` and `after` are what it costs now, and with the change; `planned` is what is known if the change is made.
#[allow(clippy::too_many_arguments, reason = "all of it is what the change is weighed by")]
pub fn ways_to_fit(
    known: &Knowledge,
    planned: &Knowledge,
    estate: &Estate,
    catalogs: &BTreeMap<ProviderName, Arc<Catalog>>,
    (before, after): (&Monthly, &Monthly),
    budget: Decimal,
    now: Timestamp,
) -> Vec<Way> {
    let whole = after.whole();
    let mut found: Vec<(Loses, Way)> = Vec::new();
    let mut cheapest = (Vec::new(), whole);
    for (name, service) in &estate.services {
        let cost = after.services.get(name).copied().unwrap_or_default();
        let former = before.services.get(name).copied().unwrap_or_default();
        if cost <= former {
            continue;
        }
        let rest = whole - cost;
        let others = other_plans(known, estate, catalogs, service, now);
        for (words, each) in &others {
            let monthly = rest + *each * Decimal::from(service.instances);
            if monthly <= budget {
                found.push((Loses::Nothing, Way { words: words.clone(), monthly }));
            }
        }
        if let Some((words, each)) = others.first() {
            let saves = cost - *each * Decimal::from(service.instances);
            if saves > Decimal::ZERO {
                cheapest.0.push(words.clone());
                cheapest.1 -= saves;
            }
        }
        let each = planned.services.get(name).and_then(|service| service.placement.as_ref()).and_then(|place| {
            charge::a_month(&terms_of(estate, catalogs.get(&place.provider).map(AsRef::as_ref), place))
        });
        if let Some(each) = each {
            let fits = |count: &u32| rest + each * Decimal::from(*count) <= budget;
            if let Some(count) = (1..service.instances).rev().find(fits) {
                let words = format!("`instances = {count}` in `[service.{name}]`");
                found.push((Loses::Instances, Way { words, monthly: rest + each * Decimal::from(count) }));
            }
        }
        // What is there already stays, and costs what it costs, until it is deleted by name.
        if former == Decimal::ZERO && rest <= budget {
            found.push((Loses::TheService, Way { words: format!("leave `{name}` out"), monthly: rest }));
        }
    }
    if cheapest.0.len() > 1 && cheapest.1 <= budget {
        found.push((Loses::Nothing, Way { words: cheapest.0.join(", and "), monthly: cheapest.1 }));
    }
    found.sort_by(|(a, way), (b, other)| {
        a.cmp(b).then(way.monthly.cmp(&other.monthly)).then_with(|| way.words.cmp(&other.words))
    });
    found.truncate(TOLD_MAX);
    found.into_iter().map(|(_, way)| way).collect()
}

/// Other plans that would do, and what one instance of each costs a month; the cheapest first.
fn other_plans(
    known: &Knowledge,
    estate: &Estate,
    catalogs: &BTreeMap<ProviderName, Arc<Catalog>>,
    service: &Service,
    now: Timestamp,
) -> Vec<(String, Decimal)> {
    // Also of providers that are not preferred: what to change in the file is the question.
    let free_choice = Service { plan: None, prefer: Vec::new(), ..service.clone() };
    let made = known.services.get(&service.name).filter(|service| !service.instances.is_empty());
    let held = made.and_then(|service| service.placement.as_ref());
    let mut others: Vec<(String, Decimal)> = candidates(known, estate, catalogs, &free_choice, now)
        .into_iter()
        .filter(|candidate| !matches!(candidate.verdict, Judged::Excluded(_)))
        .filter(|candidate| held.is_none_or(|held| held.provider == candidate.provider))
        .filter_map(|candidate| {
            let (provider, plan) = (candidate.provider, candidate.plan?);
            let catalog = catalogs.get(&provider).map(AsRef::as_ref);
            let each = charge::a_month(&charge::terms_of_plan(estate, catalog, &provider, &service.offering, &plan))?;
            let name = &service.name;
            Some((format!("`prefer = [\"{provider}\"]` and `plan = \"{plan}\"` in `[service.{name}]`"), each))
        })
        .collect();
    others.sort_by(|(a, one), (b, other)| one.cmp(other).then_with(|| a.cmp(b)));
    others
}
