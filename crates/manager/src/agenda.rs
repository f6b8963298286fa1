//! What is newer than what is used, what of it can be put to use, and what each upgrade waits for.
//!
//! Invariant: what is looked for changes nothing, and what an upgrade waits for is told by the same function that holds
//! it up.

use std::collections::BTreeMap;

use ostler_model::catalog::{Offering, Placement, Plan};
use ostler_model::estate::Estate;
use ostler_model::estate::upgrade::Upgrade;
use ostler_model::ids::{ProviderName, ServiceName};
use ostler_model::time::{Timestamp, in_words};
use ostler_model::version::Version;

use crate::failover::can_restore;
use crate::instance::OperationKind;
use crate::knowledge::{Knowledge, Origin, ServiceKnowledge};
use crate::upgrade::{Agenda, AgendaStep, Blocked, named};

/// What an upgrade that could be made waits for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Waits {
    /// Nobody asked for it, and it is not made by itself.
    Asked,
    /// A window, or the end of a freeze; then, if it is known when.
    Window(Option<Timestamp>),
    /// It could not be made a short while ago.
    PutOff(Timestamp, String),
    /// Another upgrade comes before it.
    Other(ServiceName),
    /// So many services are being upgraded already.
    TooMany(usize),
    /// Not all is well with this service.
    NotWell(ServiceName),
    /// Something is drilled.
    Drill,
}

impl Waits {
    /// In words, after "waits: ".
    pub fn in_words(&self, now: Timestamp) -> String {
        match self {
            Self::Asked => "nobody has asked for it: `ostler upgrade` does".to_owned(),
            Self::Window(Some(at)) => format!("the next window for upgrades opens at {}", at.to_seconds()),
            Self::Window(None) => "no window for upgrades opens within a year".to_owned(),
            Self::PutOff(until, why) => format!("{why}; it is tried again in {}", in_words(until.since(now))),
            Self::Other(service) => format!("{service} is upgraded first"),
            Self::TooMany(most) => format!("{most} being upgraded already, and no more may be at once"),
            Self::NotWell(service) => format!("not all is well with {service}"),
            Self::Drill => "a drill is under way".to_owned(),
        }
    }
}

/// How upgrades are made, as declared or by default.
pub(crate) fn declared(known: &Knowledge) -> Upgrade {
    known.estate.as_ref().and_then(|estate| estate.upgrade.as_deref()).cloned().unwrap_or_default()
}

/// Until when an upgrade may not go on because of windows and freezes: `None` if it may.
pub(crate) fn closed(known: &Knowledge, urgent: bool, now: Timestamp) -> Option<Waits> {
    let declared = declared(known);
    if urgent || declared.calendar.is_open(now) {
        return None;
    }
    Some(Waits::Window(declared.calendar.next_open(now)))
}

/// What the step waits for; `None` if it can be made now.
pub fn waits(known: &Knowledge, service: &ServiceKnowledge, step: &AgendaStep, now: Timestamp) -> Option<Waits> {
    let declared = declared(known);
    let upgrades = service.upgrades();
    let by_itself = declared.by_itself && (!step.data || declared.major);
    if upgrades.wish.is_none() && !step.declared && !by_itself {
        return Some(Waits::Asked);
    }
    if let Some((until, why)) = upgrades.put_off.as_ref().filter(|(until, _)| now < *until) {
        return Some(Waits::PutOff(*until, why.clone()));
    }
    let urgent = upgrades.wish.as_ref().is_some_and(|wish| wish.despite.is_some());
    if let Some(waits) = closed(known, urgent, now) {
        return Some(waits);
    }
    if known.drill.is_some() {
        return Some(Waits::Drill);
    }
    if let Some(other) = comes_before(known, service, step, now) {
        return Some(Waits::Other(other));
    }
    let most = known.repairs_at_once();
    if known.upgrading.iter().filter(|name| known.services.get(*name).is_some_and(|s| known.is_wanted(s))).count()
        >= most
    {
        return Some(Waits::TooMany(most));
    }
    not_well(known, service).map(Waits::NotWell)
}

/// A neighbour that is being upgraded or moved, or whose step comes earlier and can be made.
fn comes_before(
    known: &Knowledge,
    service: &ServiceKnowledge,
    step: &AgendaStep,
    now: Timestamp,
) -> Option<ServiceName> {
    let name = &service.spec.name;
    let is_neighbour = |other: &ServiceName| {
        service.spec.needs.contains(other) || known.consumers.get(name).is_some_and(|all| all.contains(other))
    };
    let neighbours = service.spec.needs.iter().chain(known.consumers.get(name).into_iter().flatten());
    for other in neighbours.filter_map(|other| known.services.get(other)) {
        if other.upgrading().is_some() || other.moving.is_some() {
            return Some(other.spec.name.clone());
        }
    }
    let earlier = known.agenda.steps.iter().take_while(|other| *other != step);
    let earlier = earlier.filter(|other| other.service == *name || is_neighbour(&other.service));
    let is_live = |other: &&AgendaStep| {
        let other_service = known.services.get(&other.service);
        other_service.is_some_and(|service| !matches!(waits_for_people(known, service, other, now), Some(Waits::Asked)))
    };
    earlier.filter(is_live).map(|other| other.service.clone()).next()
}

/// Whether the step of a neighbour is one that will be made by itself, sooner or later.
fn waits_for_people(known: &Knowledge, service: &ServiceKnowledge, step: &AgendaStep, now: Timestamp) -> Option<Waits> {
    let declared = declared(known);
    let upgrades = service.upgrades();
    let by_itself = declared.by_itself && (!step.data || declared.major);
    let put_off = upgrades.put_off.as_ref().is_some_and(|(until, _)| now < *until);
    ((upgrades.wish.is_none() && !step.declared && !by_itself) || put_off).then_some(Waits::Asked)
}

/// The service itself, or a need of it, where not all is well: an upgrade begins where all is.
pub(crate) fn not_well(known: &Knowledge, service: &ServiceKnowledge) -> Option<ServiceName> {
    // What ostler does to it by the way (a backup, a look) is over soon, and is no trouble.
    let busy = service.instances.values().filter(|i| !i.retired).any(|instance| {
        !instance.observed
            || instance.operation.is_some_and(|o| !matches!(o.kind, OperationKind::Prove | OperationKind::Bind))
    });
    if busy || !service.is_whole() || service.moving.is_some() || service.launch().is_none() {
        return Some(service.spec.name.clone());
    }
    known.missing_needs(service).into_iter().next()
}

/// What is newer than what is used, in the order in which it can be put to use.
pub(crate) fn seek(known: &Knowledge) -> Agenda {
    let mut agenda = Agenda::default();
    let Some(estate) = &known.estate else { return agenda };
    for (name, service) in &known.services {
        let Some(offered) = Offered::of(known, service) else { continue };
        match offered.target(estate) {
            Ok(Some(to)) => agenda.steps.push(offered.step(name, to)),
            Ok(None) => {}
            Err(blocked) => agenda.blocked.push(Blocked { service: name.clone(), ..blocked }),
        }
    }
    agenda
}

/// What a service has, and what there is for it.
struct Offered<'a> {
    known: &'a Knowledge,
    service: &'a ServiceKnowledge,
    held: &'a Placement,
    offering: &'a Offering,
    plan: &'a Plan,
    versions: &'a [Version],
}

impl<'a> Offered<'a> {
    /// Of services of which something is there and stays where it is.
    fn of(known: &'a Knowledge, service: &'a ServiceKnowledge) -> Option<Self> {
        let held = service.placement.as_ref()?;
        let is_there = service.active > 0 && known.is_wanted(service) && !service.is_guest();
        if !is_there || service.moving.is_some() || service.upgrading().is_some() {
            return None;
        }
        let catalog = known.catalogs.get(&held.provider)?;
        let offering = catalog.offerings.get(&held.offering)?;
        let plan = offering.plans.iter().find(|plan| plan.name == held.plan)?;
        let versions = catalog.versions_for(&service.spec.name, offering, plan);
        Some(Self { known, service, held, offering, plan, versions })
    }

    fn step(&self, name: &ServiceName, to: Placement) -> AgendaStep {
        let data = self.needs_data_step(to.version.as_ref());
        let declared = self.held.version.as_ref().is_some_and(|held| !self.service.spec.version.contains(held));
        AgendaStep { service: name.clone(), from: self.held.clone(), to, data, declared }
    }

    /// Whether the data has to be dumped and restored for this version.
    fn needs_data_step(&self, to: Option<&Version>) -> bool {
        let (Some(held), Some(to)) = (&self.held.version, to) else { return false };
        let here = self.offering.actions.start_stop;
        here && self.known.is_durable(self.service) && !self.offering.same_series(held, to)
    }

    /// What to upgrade to, if to anything.
    ///
    /// # Errors
    /// What is newer and not put to use, and why.
    fn target(&self, estate: &Estate) -> Result<Option<Placement>, Blocked> {
        let newer = |placement: &Placement| {
            let by_version = match (&self.held.version, &placement.version) {
                (Some(held), Some(to)) => to > held || (to < held && !self.service.spec.version.contains(held)),
                (None, Some(_)) | (_, None) => false,
            };
            by_version || placement.maintenance != self.held.maintenance
        };
        let placements: Vec<Placement> =
            self.placements().into_iter().filter(|placement| newer(placement) && placement != self.held).collect();
        let mut why_not = None;
        for placement in placements.iter().rev() {
            match self.why_not(estate, placement) {
                None => {
                    // Something newer that is not put to use is told where nothing else is done.
                    return Ok(Some(placement.clone()));
                }
                Some(because) => {
                    why_not.get_or_insert(Blocked {
                        service: self.service.spec.name.clone(),
                        newest: named(placement),
                        because,
                    });
                }
            }
        }
        why_not.map_or(Ok(None), Err)
    }

    /// What it could be, oldest first.
    fn placements(&self) -> Vec<Placement> {
        let maintenance = self.plan.maintenance.as_ref().map(|maintenance| maintenance.version.clone());
        let at = |version: Option<&Version>| Placement {
            version: version.or(self.held.version.as_ref()).cloned(),
            maintenance: maintenance.clone(),
            ..self.held.clone()
        };
        match self.versions {
            [] => vec![at(None)],
            versions => versions.iter().map(|version| at(Some(version))).collect(),
        }
    }

    /// Why it is not to be put to use.
    fn why_not(&self, estate: &Estate, to: &Placement) -> Option<String> {
        let (name, spec, upgrades) = (&self.service.spec.name, &self.service.spec, self.service.upgrades());
        if let Some(version) = to.version.as_ref().filter(|version| !spec.version.contains(version)) {
            return Some(format!("`version = \"{}\"` does not allow {version}", spec.version));
        }
        let wish = upgrades.wish.as_ref().and_then(|wish| wish.to.as_ref());
        if let (Some(wish), Some(version)) = (wish, &to.version)
            && !wish.contains(version)
        {
            return Some(format!("{wish} was asked for"));
        }
        let again = upgrades.wish.as_ref().is_some_and(|wish| wish.again);
        if let Some(rejected) = upgrades.rejected.get(&named(to)).filter(|_| !again) {
            return Some(format!(
                "it was taken back at {}: {}; `ostler upgrade {name}` tries it again",
                rejected.at.to_seconds(),
                rejected.why
            ));
        }
        if !self.needs_data_step(to.version.as_ref()) {
            return None;
        }
        if self.service.origin != Origin::Declared {
            return Some("what was sold keeps its series of versions".to_owned());
        }
        if !can_restore(self.known, to) {
            return Some(format!("it cannot read the data, and `{}` has no backup of it", spec.offering));
        }
        if self.service.active > 1 {
            return Some("its instances hold data of their own, and a backup is of one of them".to_owned());
        }
        let held = self.held.version.as_ref();
        let wanted = upgrades.wish.is_some()
            || held.is_some_and(|held| !spec.version.contains(held))
            || estate.upgrade.as_ref().is_some_and(|upgrade| upgrade.major);
        (!wanted).then(|| {
            format!(
                "its data has to be dumped and restored for it: `ostler upgrade {name}` does that, or `major = true`"
            )
        })
    }
}

/// Whether the version that a placement names is still to be had there.
pub(crate) fn is_offered(known: &Knowledge, service: &ServiceKnowledge, placement: &Placement) -> bool {
    let Some(version) = &placement.version else { return true };
    let catalogs: &BTreeMap<ProviderName, _> = &known.catalogs;
    let Some(catalog) = catalogs.get(&placement.provider) else { return false };
    let Some(offering) = catalog.offerings.get(&placement.offering) else { return false };
    let plan = offering.plans.iter().find(|plan| plan.name == placement.plan);
    plan.is_some_and(|plan| catalog.versions_for(&service.spec.name, offering, plan).contains(version))
}
