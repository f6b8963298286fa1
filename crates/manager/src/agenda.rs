//! What is newer than what is used, what of it can be put to use, and what each upgrade waits for.
//!
//! Invariant: what is looked for changes nothing, and what an upgrade waits for is told by the same function that holds
//! it up.

use std::collections::{BTreeMap, BTreeSet};

use ostler_model::catalog::{Offering, Placement, Plan};
use ostler_model::estate::Estate;
use ostler_model::estate::upgrade::Upgrade;
use ostler_model::ids::{ProviderName, ServiceName};
use ostler_model::time::{Timestamp, in_words};
use ostler_model::version::Version;

use crate::failover::can_restore;
use crate::instance::OperationKind;
use crate::knowledge::{Knowledge, Origin, ServiceKnowledge};
use crate::overrides::{InForce, whose};
use crate::solve::{Wish, solve};
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
    /// A person's word; whose.
    Override(String),
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
            Self::Override(whose) => format!("the end of {whose}"),
        }
    }
}

impl Knowledge {
    /// Whether a backup is made before an upgrade touches anything; `data`: its data goes over in a move, which backs up by
    /// itself, once nobody can write any more.
    pub fn is_backed_up_before_upgrade(&self, service: &ServiceKnowledge, data: bool) -> bool {
        let offers_backups = self.offering(service).is_some_and(|offering| offering.actions.backup);
        !data && self.is_durable(service) && offers_backups
    }
}

/// How upgrades are made, as declared or by default.
pub(crate) fn declared(known: &Knowledge) -> Upgrade {
    known.estate.as_ref().and_then(|estate| estate.upgrade.as_deref()).cloned().unwrap_or_default()
}

/// Until when upgrades, or those of this service, may not go on because of windows and freezes: `None` if they may.
pub(crate) fn closed(
    known: &Knowledge,
    service: Option<&ServiceName>,
    urgent: bool,
    standing: InForce<'_>,
) -> Option<Waits> {
    if urgent {
        return None;
    }
    let declared = declared(known);
    if !declared.calendar.is_open(standing.now) {
        return Some(Waits::Window(declared.calendar.next_open(standing.now)));
    }
    let frozen = service.map_or_else(|| standing.freezes_all(), |service| standing.freezes(service));
    frozen.map(|found| Waits::Override(whose(found)))
}

/// What the step waits for; `None` if it can be made now.
pub fn waits(known: &Knowledge, service: &ServiceKnowledge, step: &AgendaStep, now: Timestamp) -> Option<Waits> {
    waits_under(known, service, step, known.standing(now))
}

/// The same with these overrides.
pub(crate) fn waits_under(
    known: &Knowledge,
    service: &ServiceKnowledge,
    step: &AgendaStep,
    standing: InForce<'_>,
) -> Option<Waits> {
    let upgrades = service.upgrades();
    if !is_made_unasked(known, service, step) {
        return Some(Waits::Asked);
    }
    if let Some((until, why)) = upgrades.put_off.as_ref().filter(|(until, _)| standing.now < *until) {
        return Some(Waits::PutOff(*until, why.clone()));
    }
    let urgent = upgrades.wish.as_ref().is_some_and(|wish| wish.despite.is_some());
    if let Some(waits) = closed(known, Some(&service.spec.name), urgent, standing) {
        return Some(waits);
    }
    if known.drill.is_some() {
        return Some(Waits::Drill);
    }
    if let Some(other) = comes_before(known, service, step) {
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
fn comes_before(known: &Knowledge, service: &ServiceKnowledge, step: &AgendaStep) -> Option<ServiceName> {
    let name = &service.spec.name;
    let is_neighbour = |other: &ServiceName| {
        service.spec.needs.contains(other) || known.consumers.get(name).is_some_and(|all| all.contains(other))
    };
    let neighbours = service.spec.needs.iter().chain(known.consumers.get(name).into_iter().flatten());
    // What is not to run any more is not upgraded any further, and holds nobody up.
    let neighbours = neighbours.filter_map(|other| known.services.get(other)).filter(|other| known.is_wanted(other));
    for other in neighbours {
        if other.upgrading().is_some() || other.moving.is_some() {
            return Some(other.spec.name.clone());
        }
    }
    let earlier = known.agenda.steps.iter().take_while(|other| *other != step);
    let earlier = earlier.filter(|other| other.service == *name || is_neighbour(&other.service));
    let is_live = |other: &&AgendaStep| {
        let service = known.services.get(&other.service);
        service.is_some_and(|service| is_made_unasked(known, service, other))
    };
    earlier.filter(is_live).map(|other| other.service.clone()).next()
}

/// Whether the step will be made, sooner or later, without anybody's asking any more.
fn is_made_unasked(known: &Knowledge, service: &ServiceKnowledge, step: &AgendaStep) -> bool {
    let declared = declared(known);
    let by_itself = declared.by_itself && (!step.data || declared.major);
    service.upgrades().wish.is_some() || step.declared || by_itself
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

/// What is newer than what is used, in the order in which it can be put to use: first what will be without anybody's
/// asking, so that nothing that nobody asked for has to change for it; then what would be if somebody did.
pub(crate) fn seek(known: &Knowledge, standing: InForce<'_>) -> Agenda {
    let mut agenda = Agenda::default();
    let Some(estate) = &known.estate else { return agenda };
    let all: BTreeMap<&ServiceName, Offered<'_>> = known
        .services
        .iter()
        .filter_map(|(name, service)| Some((name, Offered::of(known, service, standing)?)))
        .collect();
    let names = |of: &dyn Fn(&Offered<'_>) -> bool| -> BTreeSet<ServiceName> {
        all.iter().filter(|(_, offered)| of(offered)).map(|(name, _)| (*name).clone()).collect()
    };
    // Most of the time there is nothing to be solved.
    let has_choice = |offered: &Offered<'_>| offered.candidates().any(|to| offered.why_not(estate, &to).is_none());
    if !names(&has_choice).is_empty() {
        let live = names(&|offered| offered.is_live(estate));
        let firsts = [live.clone(), names(&|_| true)];
        for only in firsts.into_iter().filter(|only| !only.is_empty()) {
            put_on(&mut agenda, &all, estate, only);
        }
    }
    for (name, offered) in &all {
        let on_agenda = agenda.steps.iter().any(|step| step.service == **name);
        match offered.newer_upkeep() {
            Some(to) if !on_agenda => match offered.why_not(estate, &to) {
                None => agenda.steps.push(offered.step(name, to)),
                Some(because) => block(&mut agenda, name, named(&to), because),
            },
            Some(_) | None if on_agenda => {}
            Some(_) | None => {
                let newest = offered.candidates().filter(|to| to.version > offered.held.version).last();
                if let Some((to, because)) = newest.and_then(|to| Some((named(&to), offered.why_not(estate, &to)?))) {
                    block(&mut agenda, name, to, because);
                }
            }
        }
    }
    agenda
}

fn block(agenda: &mut Agenda, service: &ServiceName, newest: String, because: String) {
    if !agenda.blocked.iter().any(|blocked| blocked.service == *service) {
        agenda.blocked.push(Blocked { service: service.clone(), newest, because });
    }
}

/// Adds the steps of these services that are not on the agenda, and why others stay as they are.
fn put_on(
    agenda: &mut Agenda,
    all: &BTreeMap<&ServiceName, Offered<'_>>,
    estate: &Estate,
    only: BTreeSet<ServiceName>,
) {
    let Some(known) = all.values().next().map(|offered| offered.known) else { return };
    let rejected = all.iter().map(|(name, offered)| {
        let not = offered.candidates().filter(|to| offered.why_not(estate, to).is_some());
        ((*name).clone(), not.filter_map(|to| to.version).collect())
    });
    let wish = Wish { only: Some(only), rejected: rejected.collect(), major: true };
    let outcome = solve(known, estate, &known.catalogs, &wish);
    let before: BTreeSet<ServiceName> = agenda.steps.iter().map(|step| step.service.clone()).collect();
    for step in outcome.steps {
        if let Some(offered) = all.get(&step.service).filter(|_| !before.contains(&step.service)) {
            let from = Placement { version: Some(step.from), ..offered.held.clone() };
            let to = offered.at(Some(&step.to));
            agenda.steps.push(AgendaStep { from, ..offered.step(&step.service, to) });
        }
    }
    for conflict in outcome.conflicts {
        for name in &conflict.held {
            let newest = all.get(name).and_then(|offered| offered.candidates().last());
            let newest = newest.map_or_else(|| "another version".to_owned(), |to| named(&to));
            block(agenda, name, newest, conflict.explanation.clone());
        }
    }
    for blocked in outcome.blocked {
        // What ostler itself does not want is said in its own words.
        let own =
            all.get(&blocked.service).and_then(|offered| offered.why_not(estate, &offered.at(Some(&blocked.newest))));
        let on_agenda = agenda.steps.iter().any(|step| step.service == blocked.service);
        if !on_agenda {
            block(agenda, &blocked.service, blocked.newest.to_string(), own.unwrap_or(blocked.because));
        }
    }
}

/// What a service has, and what there is for it.
struct Offered<'a> {
    known: &'a Knowledge,
    standing: InForce<'a>,
    service: &'a ServiceKnowledge,
    held: &'a Placement,
    offering: &'a Offering,
    plan: &'a Plan,
    versions: &'a [Version],
}

impl<'a> Offered<'a> {
    /// Of services of which something is there and stays where it is.
    fn of(known: &'a Knowledge, service: &'a ServiceKnowledge, standing: InForce<'a>) -> Option<Self> {
        let held = service.placement.as_ref()?;
        let is_there = service.active > 0 && known.is_wanted(service) && !service.is_guest();
        if !is_there || service.moving.is_some() || service.upgrading().is_some() {
            return None;
        }
        let catalog = known.catalogs.get(&held.provider)?;
        let offering = catalog.offerings.get(&held.offering)?;
        let plan = offering.plans.iter().find(|plan| plan.name == held.plan)?;
        let versions = catalog.versions_for(&service.spec.name, offering, plan);
        Some(Self { known, standing, service, held, offering, plan, versions })
    }

    fn step(&self, name: &ServiceName, to: Placement) -> AgendaStep {
        let data = self.needs_data_step(to.version.as_ref());
        AgendaStep { service: name.clone(), from: self.held.clone(), to, data, declared: self.is_out_of_range() }
    }

    /// The estate file does not allow what there is: by the service's own range, or by what a consumer relies on.
    fn is_out_of_range(&self) -> bool {
        let Some(held) = &self.held.version else { return false };
        let name = &self.service.spec.name;
        let consumers = self.known.consumers.get(name).into_iter().flatten();
        let consumers = consumers.filter_map(|consumer| self.known.services.get(consumer));
        let mut relied_on = consumers
            .filter(|consumer| self.known.is_wanted(consumer))
            .flat_map(|consumer| consumer.spec.contracts.iter().filter(|contract| contract.need == *name))
            .filter_map(|contract| contract.version.as_ref());
        !self.service.spec.version.contains(held) || relied_on.any(|range| !range.contains(held))
    }

    /// Whether it will be upgraded without anybody's asking any more.
    fn is_live(&self, estate: &Estate) -> bool {
        let by_itself = estate.upgrade.as_ref().is_some_and(|upgrade| upgrade.by_itself);
        by_itself || self.service.upgrades().wish.is_some() || self.is_out_of_range()
    }

    /// Whether the data has to be dumped and restored for this version.
    fn needs_data_step(&self, to: Option<&Version>) -> bool {
        let (Some(held), Some(to)) = (&self.held.version, to) else { return false };
        let here = self.offering.actions.start_stop;
        here && self.known.is_durable(self.service) && !self.offering.same_series(held, to)
    }

    /// Every other version that it could be, oldest first.
    fn candidates(&self) -> impl Iterator<Item = Placement> {
        let others = self.versions.iter().filter(|version| Some(*version) != self.held.version.as_ref());
        others.filter(|_| self.held.version.is_some()).map(|version| self.at(Some(version)))
    }

    /// The same version as it is kept up to date now, if that is another than it was made with.
    fn newer_upkeep(&self) -> Option<Placement> {
        let to = self.at(self.held.version.as_ref());
        (to.maintenance.is_some() && to.maintenance != self.held.maintenance).then_some(to)
    }

    fn at(&self, version: Option<&Version>) -> Placement {
        let maintenance = self.plan.maintenance.as_ref().map(|maintenance| maintenance.version.clone());
        Placement { version: version.or(self.held.version.as_ref()).cloned(), maintenance, ..self.held.clone() }
    }

    /// Why it is not to be put to use.
    fn why_not(&self, estate: &Estate, to: &Placement) -> Option<String> {
        let (name, spec, upgrades) = (&self.service.spec.name, &self.service.spec, self.service.upgrades());
        if let Some(version) = to.version.as_ref().filter(|version| !spec.version.contains(version)) {
            return Some(format!("`version = \"{}\"` does not allow {version}", spec.version));
        }
        if let Some(found) = self.standing.skips(name, to) {
            return Some(format!("it is skipped by {}", whose(found)));
        }
        if let (Some(held), Some(to)) = (&self.held.version, &to.version)
            && to < held
            && !self.is_out_of_range()
        {
            return Some("it is older".to_owned());
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
        if let Some(found) = self.standing.forbids(&to.provider) {
            return Some(format!("it takes a new instance there, and nothing new is bought there by {}", whose(found)));
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
        let wanted = upgrades.wish.is_some()
            || self.is_out_of_range()
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
