//! What an estate file would change: the reasons, and a rehearsal of what would be done.

use ostler_manager::{
    Candidate, Change, Knowledge, ServiceKnowledge, Waits, candidates, changes, named, rehearse, waits,
};
use ostler_model::catalog::{Placement, Price};
use ostler_model::ids::{PlanName, ProviderName, ServiceName};
use ostler_model::time::Timestamp;
use ostler_model::version::Version;
use serde::{Deserialize, Serialize};

use crate::books::{CostChange, cost_change};
use crate::declare::Prepared;
use crate::overrides::{OverrideEffect, effects};

/// What would change.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Preview {
    /// By service, and why.
    pub changes: Vec<Change>,
    /// What would be done, in this order, if all goes well.
    pub steps: Vec<String>,
    /// Where new services would be bought, and for how much.
    pub bought: Vec<Bought>,
    /// Services that would become another version, in this order.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub upgrades: Vec<Upgrades>,
    /// Instances that would be stopped and started, and so interrupt callers where there is only one.
    pub interrupted: Vec<ServiceName>,
    /// Overrides by which it would be otherwise than without them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub overrides: Vec<OverrideEffect>,
    /// What the estate costs a month before and after.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub costs: Option<CostChange>,
}

/// One service that would be bought.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Bought {
    /// Which.
    pub service: ServiceName,
    /// From whom.
    pub provider: ProviderName,
    /// Which plan.
    pub plan: PlanName,
    /// Which version.
    pub version: Option<Version>,
    /// How many instances.
    pub instances: u32,
    /// What one costs, if the provider says.
    pub price: Option<Price>,
    /// It costs nothing.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub free: bool,
    /// Every plan that was looked at.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub candidates: Vec<Candidate>,
}

/// One service that would become another version.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Upgrades {
    /// Which.
    pub service: ServiceName,
    /// From which version.
    pub from: String,
    /// To which.
    pub to: String,
    /// Its data would be dumped and restored, and the old instance kept.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub data: bool,
    /// Its data would be backed up before anything is touched.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub backup: bool,
    /// How many instances would become it: one after the other in waves, or the only one where it is.
    #[serde(default)]
    pub instances: usize,
    /// What it would wait for; `None` if it would begin at once.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub waits: Option<String>,
    /// What the instance costs that would be kept, if its provider says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub keeps: Option<Price>,
}

impl Preview {
    /// Nothing would be done.
    pub fn is_empty(&self) -> bool {
        self.changes.is_empty() && self.steps.is_empty() && self.upgrades.is_empty()
    }
}

/// What `prepared` would change.
pub fn preview(known: &Knowledge, prepared: &Prepared, now: Timestamp) -> Preview {
    let changes = changes(known, &prepared.estate);
    let rehearsal = rehearse(known, &prepared.event(), now);
    let added = changes.iter().filter_map(|change| match change {
        Change::Added { service } => Some(service),
        Change::Returned { .. }
        | Change::Removed { .. }
        | Change::Changed { .. }
        | Change::ProviderAdded { .. }
        | Change::ProviderRemoved { .. }
        | Change::ProviderChanged { .. }
        | Change::Selling { .. } => None,
    });
    let bought = added
        .filter_map(|name| {
            let service = rehearsal.known.services.get(name)?;
            let placement = service.placement.as_ref()?;
            let offering = rehearsal.known.offering(service)?;
            let plan = offering.plans.iter().find(|plan| plan.name == placement.plan)?;
            Some(Bought {
                service: name.clone(),
                provider: placement.provider.clone(),
                plan: placement.plan.clone(),
                version: placement.version.clone(),
                instances: service.wanted_instances(),
                price: plan.price.clone(),
                free: plan.free,
                candidates: candidates(known, &prepared.estate, &prepared.catalogs, &service.spec, now),
            })
        })
        .collect();
    let stopped = rehearsal.commands.iter().filter_map(|command| match command {
        ostler_manager::Command::Stop { instance, .. } => Some(instance.service()),
        _ => None,
    });
    let mut interrupted: Vec<ServiceName> = stopped
        .filter(|service| {
            known.services.get(*service).is_some_and(|s| s.active == 1)
                && prepared.estate.services.contains_key(*service)
        })
        .cloned()
        .collect();
    interrupted.dedup();
    let steps = rehearsal.commands.iter().map(ostler_manager::Command::in_words).collect();
    let costs = Some(cost_change(known, &rehearsal.known, prepared, now));
    let overrides = effects(known, &rehearsal.known, now);
    Preview { changes, steps, bought, upgrades: upgrades(&rehearsal.known, now), interrupted, overrides, costs }
}

/// What the file asks for: what is under way at the end of the rehearsal, and what waits then.
fn upgrades(known: &Knowledge, now: Timestamp) -> Vec<Upgrades> {
    let keeps = |service: &ServiceKnowledge| {
        let plan = service.placement.as_ref().map(|placement| &placement.plan);
        known.offering(service)?.plans.iter().find(|offered| Some(&offered.name) == plan)?.price.clone()
    };
    let of =
        |service: &ServiceKnowledge, from: &Placement, to: &Placement, data: bool, waits: Option<Waits>| Upgrades {
            service: service.spec.name.clone(),
            from: named(from),
            to: named(to),
            data,
            backup: known.is_backed_up_before_upgrade(service, data),
            instances: service.active,
            waits: waits.map(|waits| waits.in_words(now)),
            keeps: data.then(|| keeps(service)).flatten(),
        };
    let begun = known.upgrading.iter().filter_map(|name| {
        let service = known.services.get(name)?;
        let it = service.upgrading()?;
        Some(of(service, &it.from, &it.to, it.data, None))
    });
    let waiting = known.agenda.steps.iter().filter(|step| step.declared).filter_map(|step| {
        let service = known.services.get(&step.service)?;
        Some(of(service, &step.from, &step.to, step.data, waits(known, service, step, now)))
    });
    begun.chain(waiting).collect()
}
