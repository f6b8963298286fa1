//! What is now true: one fact made part of what is known.
//!
//! Invariant: cannot fail. Every stored fact is accepted, also one that makes no sense (it then changes nothing), or a
//! bad log would stop every start.

use std::sync::Arc;

use ostler_model::estate::{Estate, Occasion, Service};
use ostler_model::health::{Health, SymptomKind};
use ostler_model::ids::{InstanceId, ProviderName, ServiceName};
use ostler_model::time::Timestamp;

use self::index::{for_each_instance, for_each_instance_of, recount_outdated, with_instance, with_service};
use crate::backoff::PAUSE_MAX;
use crate::credit::Told;
use crate::event::Process;
use crate::fact::{Fact, FactKind};
use crate::knowledge::{
    ChangedLaunch, Ending, Endpoint, Healed, Instance, Knowledge, Launch, OperationKind, Origin, Phase,
    ServiceKnowledge,
};
use crate::verified::Verification;

mod asks;
mod drill;
mod failover;
mod index;
mod level;
mod outcome;
mod overrides;
mod repair;
mod sold;
mod upgrade;
mod vault;

pub(crate) use self::asks::{all_with_bought, with_withdrawn};
pub(crate) use self::index::is_outdated;

/// Makes `fact` part of what is known.
pub fn evolve(known: &mut Knowledge, fact: &Fact) {
    let at = fact.at;
    let touched = level::touched(known, &fact.kind);
    if !matches!(fact.kind, FactKind::Resumed { .. }) {
        known.latest = at;
    }
    match &fact.kind {
        FactKind::EstateFounded { uuid } => known.uuid = Some(*uuid),
        FactKind::Resumed { cause } => {
            level::was_not_there(known, *cause, at);
            resume(known, at);
            drill::resume(known);
        }
        FactKind::EstateDeclared { estate } => {
            declare(known, estate);
            known.agenda_is_old = true;
        }
        FactKind::CatalogSeen { provider, catalog } => {
            asks::see_catalog(known, provider, catalog);
            known.agenda_is_old = true;
        }
        FactKind::ServicePlaced { service, placement } => {
            known.reassign(service, |service| service.placement = Some(placement.clone()));
            known.agenda_is_old = true;
        }
        FactKind::LaunchDefined { service, generation, launch } => {
            with_service(known, service, |service| define_launch(service, *generation, launch, at));
        }
        FactKind::InstanceDeclared { instance } => declare_instance(known, instance, at),
        FactKind::InstanceRetired { instance } => retire_instance(known, instance),
        FactKind::CommandIssued { id, command } => outcome::issue(known, *id, command, at),
        FactKind::CommandEnded { id, outcome } => outcome::end(known, *id, outcome, at),
        FactKind::CommandAccepted { id, operation } => asks::accepted(known, *id, operation.as_ref(), at),
        FactKind::Quarantined { leftover, why } => asks::quarantine(known, leftover, why),
        FactKind::InstanceDied { instance, restarted, seen, .. } => {
            with_instance(known, instance, |i| die(i, *restarted, *seen, at));
        }
        FactKind::HealthChanged { instance, health } => {
            with_instance(known, instance, |i| feel(i, health, at));
            sold::deliver(known, instance);
        }
        FactKind::NeedVerified { binding, revision, checks } => {
            with_service(known, &binding.consumer, |service| {
                let used = service.launch().and_then(|launch| launch.needs.get(&binding.need)).copied();
                if let Some(found) = service.bindings.get_mut(&binding.need) {
                    if used == Some(*revision) {
                        found.relied_on = checks.iter().all(|checked| checked.problem.is_none());
                    }
                    found.verified = Some(Verification { at, revision: *revision, checks: checks.clone() });
                }
            });
        }
        FactKind::ServiceSold { spec, sale } => {
            sold::sell(known, spec, sale);
            known.agenda_is_old = true; // it may be asked for in another version than it is
        }
        FactKind::GuestAdmitted { service, guest } => sold::admit(known, service, guest),
        FactKind::SaleEnded { service } => sold::end(known, service),
        FactKind::RepairBegan { .. }
        | FactKind::Concluded { .. }
        | FactKind::RemedyChosen { .. }
        | FactKind::LaunchRejected { .. }
        | FactKind::CredentialsDoubted { .. }
        | FactKind::RepairEnded { .. }
        | FactKind::BackedOff { .. }
        | FactKind::Held { .. } => repair::take(known, &fact.kind, at),
        // For the record: they say what people and callers saw, and nothing follows from them.
        FactKind::CallersAffected { .. }
        | FactKind::LossAccepted { .. }
        | FactKind::SelfUpgrade { .. }
        // That is for the books.
        | FactKind::TrafficCounted { .. } => {}
        FactKind::Told { service, occasion: Occasion::Healed } => {
            with_service(known, service, |service| service.healed = Healed { told: Some(at), untold: 0 });
        }
        FactKind::Told { .. } => {}
        FactKind::RestartAsked { .. }
        | FactKind::ScaleAsked { .. }
        | FactKind::DownAsked
        | FactKind::DeleteAsked { .. }
        | FactKind::SettleAsked { .. }
        | FactKind::InstanceAdopted { .. }
        | FactKind::ReleaseAsked { .. }
        | FactKind::BackupAsked { .. }
        | FactKind::BackupBrought { .. }
        | FactKind::RestoreAsked { .. } => asked(known, &fact.kind, at),
        FactKind::ProofAsked { service, name } => {
            with_service(known, service, |service| vault::ask_proof(service, name, at));
        }
        FactKind::BackupDropped { service, name, .. } => {
            with_service(known, service, |service| vault::drop_backup(service, name));
        }
        FactKind::TrafficMeasured { service, traffic } => with_service(known, service, |service| {
            if let Some(level) = &mut service.level {
                level.add_traffic(*traffic);
            }
        }),
        FactKind::BudgetBurns { service, objective, .. } => with_service(known, service, |service| {
            if let Some(level) = service.level.as_mut().filter(|level| !level.burning.contains(objective)) {
                level.burning.push(*objective);
            }
        }),
        FactKind::BudgetCalm { service, objective } => with_service(known, service, |service| {
            if let Some(level) = &mut service.level {
                level.burning.retain(|burning| burning != objective);
            }
        }),
        FactKind::MoveBegan { .. }
        | FactKind::MoveTurned { .. }
        | FactKind::MoveHeld { .. }
        | FactKind::MoveReturned { .. }
        | FactKind::MoveEnded { .. }
        | FactKind::InstanceDiscarded { .. } => failover::evolve(known, &fact.kind, at),
        FactKind::DrillBegan { drill } => drill::begin(known, drill, at),
        FactKind::DrillEnded { result } => drill::end(known, result, at),
        FactKind::ServiceCredit { provider, month, step, by, note } => {
            known.claims.take(provider, *month, step, Told { at, by, note: note.as_deref() });
        }
        FactKind::UpgradesSought { agenda } => upgrade::sought(known, agenda),
        FactKind::Upgrade { service, step } => upgrade::evolve(known, service, step, at),
        FactKind::OverrideBegan { .. } | FactKind::OverrideWeighed { .. } | FactKind::OverrideEnded { .. } => {
            overrides::evolve(known, &fact.kind, at);
        }
    }
    drill::observe(known, &fact.kind, at);
    level::observe(known, &touched, at);
}

/// What people asked for. Other facts change nothing here.
fn asked(known: &mut Knowledge, kind: &FactKind, at: Timestamp) {
    match kind {
        FactKind::RestartAsked { service } => ask_restart(known, service),
        FactKind::ScaleAsked { service, instances } => {
            with_service(known, service, |service| service.scale = Some(*instances));
        }
        FactKind::DownAsked => {
            known.down = true;
            for_each_instance(known, leave_alone);
            known.services.values_mut().for_each(|service| try_service_again(service));
        }
        FactKind::DeleteAsked { service } if is_sold(known, service) => sold::end(known, service),
        FactKind::DeleteAsked { service } => {
            for_each_instance_of(known, service, leave_alone);
            with_service(known, service, |service| end_with(service, Ending::Delete));
            outcome::remove_if_gone(known, service);
        }
        FactKind::InstanceAdopted { instance, name } => {
            declare_instance(known, instance, at);
            asks::adopt(known, instance, name, at);
        }
        FactKind::ReleaseAsked { service } => {
            for_each_instance_of(known, service, leave_alone);
            with_service(known, service, |service| end_with(service, Ending::Release));
            outcome::remove_if_gone(known, service);
        }
        FactKind::SettleAsked { leftover, how } => asks::settle(known, leftover, *how, at),
        FactKind::BackupAsked { service, name } => with_service(known, service, |service| {
            service.backup_wanted = Some(name.clone());
            service.backup_clock = Some(at);
        }),
        FactKind::BackupBrought { service, backup } => {
            with_service(known, service, |service| service.backups.push((at, backup.clone())));
        }
        FactKind::RestoreAsked { service, name } => {
            with_service(known, service, |service| service.restore_wanted = Some(name.clone()));
        }
        _ => {}
    }
}

fn is_sold(known: &Knowledge, service: &ServiceName) -> bool {
    known.services.get(service).is_some_and(|service| matches!(service.origin, Origin::Sold { .. }))
}

/// The last word of a person on what is to become of it counts.
fn end_with(service: &mut ServiceKnowledge, ending: Ending) {
    service.ending = (!service.instances.is_empty()).then_some(ending);
}

/// Sets its health, and remembers for how long it had been ready when it ceases to be.
fn set_health(instance: &mut Instance, health: Option<Health>, at: Timestamp) {
    let standing = |health: &Option<Health>| match health {
        None => None,
        Some(Health::Ready | Health::Shallow(_)) => Some(true),
        Some(Health::Unready(_)) => Some(false),
    };
    let (before, after) = (standing(&instance.health), standing(&health));
    if before != after {
        if before == Some(true) {
            instance.ready_for = at.since(instance.health_since);
        }
        instance.health_since = at;
    }
    instance.health = health;
    instance.unprobed = None;
}

fn feel(instance: &mut Instance, health: &Health, at: Timestamp) {
    // A probe that could not be made says nothing about the instance: it stays what it was.
    if let Health::Unready(symptom) = health
        && symptom.kind == SymptomKind::Unknown
    {
        instance.unprobed = Some(symptom.clone());
        return;
    }
    let was_ready = instance.is_ready();
    set_health(instance, Some(health.clone()), at);
    if instance.is_ready() {
        instance.told_question = None; // what was asked is answered: if it comes up again, it is another question
    }
    instance.was_ready |= instance.is_ready();
    instance.proven |= instance.is_ready();
    if instance.is_ready() != was_ready {
        instance.since = at;
    }
}

fn die(instance: &mut Instance, restarted: Option<Process>, seen: Timestamp, at: Timestamp) {
    if let Some(operation) = &mut instance.operation {
        operation.overtaken = matches!(operation.kind, OperationKind::Start | OperationKind::Observe);
    }
    instance.watch = None;
    instance.since = seen.min(at); // the clock may have been set back since
    instance.proven = false;
    set_health(instance, None, at);
    match (restarted, &mut instance.running) {
        (Some(process), Some(running)) => {
            running.pid = Some(process.pid);
            running.since = process.since;
        }
        (_, running) => {
            *running = None;
            if instance.phase == Phase::Running {
                instance.phase = Phase::Stopped;
            }
        }
    }
}

/// Nothing that was seen before counts as evidence any more; nothing is under way. What was seen of providers counts up
/// to the newest fact before.
fn resume(known: &mut Knowledge, at: Timestamp) {
    // The clock may have been set back while ostler was away: no pause is longer than the longest there is, and nothing
    // happened in the future.
    let latest = at + PAUSE_MAX;
    known.brake.resume(at);
    for command in std::mem::take(&mut known.commands).into_values() {
        outcome::doubt(known, &command);
    }
    for_each_instance(known, |instance| {
        let may_be_made = instance.operation.is_some_and(|operation| operation.kind == OperationKind::Provision);
        instance.operation = None;
        instance.observed &= instance.phase == Phase::Declared && !may_be_made;
        instance.entrusted = false;
        instance.watch = None;
        set_health(instance, None, at);
        instance.health_since = at;
        instance.not_before = instance.not_before.min(latest);
        instance.since = instance.since.min(at);
        asks::put_off_no_longer(&mut instance.access_renew_at, instance.access_put_off, at);
        if let Some(repair) = &mut instance.repair {
            repair.active = false;
            repair.trying = None; // whether it helped, nobody saw
            repair.unseen = !instance.observed;
        }
    });
    known.pass_over(at);
    for service in known.services.values_mut() {
        service.backup_clock = service.backup_clock.map(|clock| clock.min(at));
        vault::resume(service, at, latest);
        for binding in service.bindings.values_mut() {
            asks::put_off_no_longer(&mut binding.renew_at, binding.put_off, at);
        }
        if let Some((until, _)) = &mut service.binding_trouble {
            *until = (*until).min(latest);
        }
        if let Some(trouble) = &mut service.before_trouble {
            trouble.not_before = trouble.not_before.min(latest);
        }
        service.endpoint.open = false;
        service.endpoint.operation = None;
        service.endpoint.try_again();
    }
}

fn declare(known: &mut Knowledge, estate: &Arc<Estate>) {
    known.down = false;
    let names: Vec<ServiceName> = known.services.keys().cloned().collect();
    for name in names {
        declare_again(known, &name, estate);
    }
    for (name, spec) in &estate.services {
        if !known.services.contains_key(name) {
            known.services.insert(name.clone(), Box::new(ServiceKnowledge::new(spec.clone())));
        }
    }
    keep_providers(known, estate);
    known.estate = Some(estate.clone());
    known.consumers.clear();
    for service in known.services.values() {
        for need in service.spec.needs.iter().chain(service.bindings.keys()) {
            known.consumers.entry(need.clone()).or_default().insert(service.spec.name.clone());
        }
    }
}

/// What was bought from a provider that is no longer declared is still there, and has to be looked after.
fn keep_providers(known: &mut Knowledge, new: &Estate) {
    let before = known.estate.iter().flat_map(|estate| &estate.providers);
    known.former_providers.extend(before.map(|(name, provider)| (name.clone(), provider.clone())).collect::<Vec<_>>());
    let has_something = |name: &ProviderName| {
        known.services.values().any(|service| {
            let bought = Knowledge::places(service).any(|placement| placement.provider == *name);
            let left = service.leftovers.values().any(|leftover| leftover.placement.provider == *name);
            (bought && !service.instances.is_empty()) || left
        })
    };
    let kept: Vec<ProviderName> = known
        .former_providers
        .keys()
        .filter(|name| !new.providers.contains_key(*name) && has_something(name))
        .cloned()
        .collect();
    known.former_providers.retain(|name, _| kept.contains(name));
    let Knowledge { evidence, former_providers, .. } = known;
    evidence.retain(|name, seen| {
        let is_known = new.providers.contains_key(name) || former_providers.contains_key(name);
        is_known || seen.working > 0 || seen.away > 0
    });
}

/// Declares a service that is known already, or that it is not declared any more.
fn declare_again(known: &mut Knowledge, name: &ServiceName, estate: &Estate) {
    let Some(service) = known.services.get_mut(name) else { return };
    if service.origin != Origin::Declared {
        return service.endpoint.try_again(); // the file says nothing of what others bought
    }
    let Some(new) = estate.services.get(name) else {
        service.declared = false;
        try_service_again(service);
        return for_each_instance_of(known, name, leave_alone);
    };
    service.declared = true;
    service.endpoint.try_again(); // whoever gives the file again may have freed the address
    service.ending = None; // what is declared again is kept, as much of it as is left
    service.scale = None;
    // How often it is expected to fail, and what owning it would cost, is for looks ahead: nothing is tried again because
    // of that.
    let (failures, own) = (service.spec.failures.clone(), service.spec.own.clone());
    let same = Service { failures, own, ..Service::clone(new) } == *service.spec;
    if same {
        service.spec = new.clone();
        return;
    }
    try_service_again(service);
    if service.spec.endpoint != new.endpoint {
        service.endpoint.trouble = None;
    }
    // What the endpoint understands may follow from the probe, and is looked at again with it.
    let asked = |spec: &Service| (spec.probe.clone(), spec.protocol, spec.slo.as_ref().and_then(|slo| slo.latency_p99));
    let asks_otherwise = asked(&service.spec) != asked(new);
    known.reassign(name, |service| service.spec = new.clone());
    let Some(service) = known.services.get_mut(name) else { return };
    let lost = service.bindings.iter().filter(|(_, binding)| binding.is_gone());
    let kept = |need: &ServiceName| new.needs.contains(need) || service.uses(need);
    let dropped: Vec<ServiceName> = lost.map(|(need, _)| need.clone()).filter(|need| !kept(need)).collect();
    service.bindings.retain(|need, _| !dropped.contains(need));
    for_each_instance_of(known, name, |instance| {
        try_again(instance);
        if asks_otherwise {
            instance.watch = None; // a new watch asks in the new way
        }
    });
}

fn define_launch(service: &mut ServiceKnowledge, generation: u32, launch: &Arc<Launch>, at: Timestamp) {
    let former = service.generation;
    let returns = service.upgrading().is_some_and(|upgrading| upgrading.returns.is_some() || upgrading.back);
    let taken_back = returns
        || service.rejected.as_ref().is_some_and(|rejected| {
            service.launch().is_some_and(|former| former.is_same_but_for_credentials(&rejected.launch))
        });
    // Only where it worked before is it known to have been as good.
    let worked = service.ready > 0 && generation != former && !taken_back;
    let what = service.launch().and_then(|former| launch.differs(former)).filter(|_| worked);
    service.changed = what.map(|what| ChangedLaunch { at, what, generation, former });
    service.launches.insert(generation, launch.clone());
    service.generation = generation;
    recount_outdated(service);
    let used: Vec<u32> =
        service.instances.values().flat_map(|instance| [instance.generation, instance.changes_to]).flatten().collect();
    let before = service.changed.map(|changed| changed.former);
    let held_back = service.upgrading().map(|upgrading| upgrading.former);
    let kept = |number: u32| number == generation || before == Some(number) || held_back == Some(number);
    service.launches.retain(|number, _| kept(*number) || used.contains(number));
}

fn declare_instance(known: &mut Knowledge, id: &InstanceId, at: Timestamp) {
    let Some(service) = known.services.get_mut(id.service()) else { return };
    let instance = service
        .instances
        .entry(id.number())
        .or_insert_with(|| Box::new(Instance { retired: true, ..Instance::new(at) }));
    if instance.retired {
        instance.retired = false;
        service.active += 1;
        known.instances += 1;
        if instance.is_ready() {
            service.ready += 1;
        }
        recount_outdated(service);
    }
    let highest = known.numbers.entry(id.service().clone()).or_default();
    *highest = (*highest).max(id.number());
}

fn retire_instance(known: &mut Knowledge, id: &InstanceId) {
    let was_active = known.instance(id).is_some_and(|instance| !instance.retired);
    if !was_active {
        return;
    }
    with_instance(known, id, |instance| {
        instance.retired = true;
        leave_alone(instance);
    });
    known.instances -= 1;
    with_service(known, id.service(), |service| service.active -= 1);
}

fn ask_restart(known: &mut Knowledge, name: &ServiceName) {
    with_service(known, name, |service| {
        service.restart_round = service.restart_round.saturating_add(1);
        service.backup_trouble = None;
        service.rejected = None;
        if let Some(moving) = &mut service.moving {
            moving.trouble = None;
            moving.held = None;
        }
        // A person wants it anew, whatever was found.
        service.bindings.values_mut().for_each(|binding| binding.relied_on = false);
        try_service_again(service);
        recount_outdated(service);
    });
    for_each_instance_of(known, name, |instance| {
        let was_asked = instance.held.is_some();
        try_again(instance);
        instance.told_question = None; // a person answered; if it comes back, they did not expect it to
        if was_asked && instance.phase == Phase::Declared {
            instance.generation = None; // whatever it held before: an empty one is accepted
        }
    });
}

/// The same for what belongs to the service itself.
fn try_service_again(service: &mut ServiceKnowledge) {
    service.endpoint.try_again();
    service.binding_works();
    service.before_trouble = None;
}

impl ServiceKnowledge {
    /// The next ask about a binding comes at once, and the pauses begin anew.
    fn binding_works(&mut self) {
        self.binding_trouble = None;
        self.binding_failures = 0;
    }
}

impl Endpoint {
    /// The next attempt comes at once, and the pauses begin anew.
    fn try_again(&mut self) {
        self.failures = 0;
        self.not_before = Timestamp::default();
    }
}

/// A person looked at it: what held it back holds it no more.
fn try_again(instance: &mut Instance) {
    instance.held = None;
    instance.goes_on = false;
    instance.told_failed = false;
    instance.failures = 0;
    if let Some(repair) = &mut instance.repair {
        repair.trying = None;
        repair.tried.clear();
        repair.asked = None;
    }
    instance.not_before = Timestamp::default();
}

/// It is not to run any more, so nothing about it has to be repaired.
fn leave_alone(instance: &mut Instance) {
    try_again(instance);
    instance.told_question = None;
    instance.repair = None;
}
