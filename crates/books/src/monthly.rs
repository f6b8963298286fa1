//! What an estate costs a month as it stands, for comparing it before and after a change.

use std::collections::{BTreeMap, BTreeSet};

use ostler_manager::{Instance, Knowledge, Phase, ServiceKnowledge};
use ostler_model::catalog::{Catalog, Placement};
use ostler_model::charge::{Charge, HOURS_A_MONTH, Per, Term, terms_of_plan};
use ostler_model::estate::Estate;
use ostler_model::ids::{ProviderName, ServiceName};
use rust_decimal::Decimal;

use crate::machine::a_month;

/// What an estate costs a month.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Monthly {
    /// By service, without what machines of one's own cost.
    pub services: BTreeMap<ServiceName, Decimal>,
    /// Machines of one's own, whatever is on them.
    pub machines: BTreeMap<ProviderName, Decimal>,
    /// What is paid once for each service that is there.
    pub once: BTreeMap<ServiceName, Decimal>,
    /// What cannot be counted, and why, as sentences.
    pub not_counted: BTreeSet<String>,
}

impl Monthly {
    /// Everything together.
    pub fn whole(&self) -> Decimal {
        self.services.values().chain(self.machines.values()).sum()
    }
}

/// What the instances that are there, or are known to become there, cost in a month of average length. Backups and
/// what passes through endpoints are left out: how much that becomes nobody knows before.
pub fn monthly(known: &Knowledge, estate: &Estate) -> Monthly {
    let mut sum = Monthly::default();
    for (name, service) in &known.services {
        for instance in service.instances.values().filter(|instance| is_there(instance)) {
            let Some(place) = place_of(service, instance) else { continue };
            let terms = terms_of(estate, known.catalogs.get(&place.provider).map(AsRef::as_ref), place);
            for term in terms {
                sum.add(name, place, &term);
            }
        }
    }
    for (name, provider) in &estate.providers {
        if let Some(cost) = &provider.pricing.machine {
            sum.machines.insert(name.clone(), a_month(cost, Decimal::from(HOURS_A_MONTH)));
        }
    }
    sum
}

impl Monthly {
    fn add(&mut self, service: &ServiceName, place: &Placement, term: &Term) {
        match term {
            // How much will pass through it nobody knows before.
            Term::Charged(Charge { per: Per::Gigabyte, .. }) => {}
            Term::Charged(charge) => {
                let to = if charge.per == Per::Once { &mut self.once } else { &mut self.services };
                *to.entry(service.clone()).or_default() += charge.a_month();
            }
            Term::NotCounted { said, why } => {
                let said = if said.is_empty() { String::new() } else { format!(" ({said})") };
                let Placement { provider, plan, .. } = place;
                self.not_counted.insert(format!("{service}, {plan} at {provider}{said}: {why}"));
            }
        }
    }
}

/// It exists, or may.
fn is_there(instance: &Instance) -> bool {
    instance.phase != Phase::Declared || instance.attempts.is_open()
}

fn place_of<'k>(service: &'k ServiceKnowledge, instance: &'k Instance) -> Option<&'k Placement> {
    let left = instance.left.as_ref().map(|left| &left.placement);
    let made = instance.made_as.as_ref().map(|made| &made.placement);
    left.or(made).or(service.placement.as_ref())
}

/// What a plan costs, by the estate's word before the catalog's.
pub(crate) fn terms_of(estate: &Estate, catalog: Option<&Catalog>, place: &Placement) -> Vec<Term> {
    let Placement { provider, offering, plan, .. } = place;
    terms_of_plan(estate, catalog, provider, offering, plan)
}
