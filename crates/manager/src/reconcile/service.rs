//! A service: its endpoint, its number of instances, its bindings, its launch, its backups.

use std::sync::Arc;

use ostler_model::catalog::Placement;
use ostler_model::estate::Occasion;
use ostler_model::ids::{InstanceId, ServiceName};
use ostler_model::outcome::BackupMade;
use ostler_model::time::{Timestamp, in_words};

use super::{failover, overrides, upgrade, vault};
use crate::command::Command;
use crate::decide::{Draft, HEALED_TOLD_EVERY, Reason};
use crate::event::Scope;
use crate::fact::FactKind;
use crate::knowledge::{BindingState, Instance, Knowledge, Launch, Operation, OperationKind, Phase, ServiceKnowledge};
use crate::upgrade::UpgradeStep;
use crate::vault::SCHEDULED;

/// The steps, in their order. A step that changes something ends the look: what follows it is decided from the state
/// that it leads to, by the next look.
pub(super) fn look(draft: &mut Draft<'_>, service: &ServiceKnowledge) {
    let steps = [
        failover::look,
        overrides::follow_pin,
        endpoint,
        count_instances,
        doubt_bindings,
        bind,
        unbind,
        define_launch,
        tidy_bindings,
        mitigate,
        back_up,
        vault::thin_out,
        vault::prove,
        vault::delete,
        tell_healed,
        // Last, so that it is decided where all else is as it should be.
        upgrade::look,
    ];
    for step in steps {
        let facts = draft.decision.facts.len();
        step(draft, service);
        if draft.decision.facts.len() > facts {
            draft.look(Scope::Service(service.spec.name.clone()));
            return;
        }
        if failover::comes_first(draft.known, service) {
            return;
        }
    }
    // Only once the service itself is as it should be: an instance starts from what the steps above define.
    for number in service.instances.keys() {
        draft.look(Scope::Instance(service.instance_id(*number)));
    }
}

/// Opened before anything is bound, because bindings point at it; closed after the last instance has stopped.
fn endpoint(draft: &mut Draft<'_>, service: &ServiceKnowledge) {
    let endpoint = &service.endpoint;
    if endpoint.operation.is_some() || service.is_guest() {
        return;
    }
    let name = service.spec.name.clone();
    if draft.known.is_wanted(service) {
        if endpoint.open && !service.endpoint_moved() {
            return;
        }
        if let Some(fact) = draft.somewhere_else(service) {
            return draft.fact(fact);
        }
        if draft.now < endpoint.not_before {
            return draft.wake(endpoint.not_before, Scope::Service(name));
        }
        draft.command(Command::OpenEndpoint { service: name, address: service.spec.endpoint.or(endpoint.address) });
    } else if endpoint.may_be_open
        // What its provider takes its time for goes on without anybody.
        && service.instances.values().all(|i| i.phase != Phase::Running && (i.operation.is_none() || i.accepted.is_some()))
    {
        if draft.now < endpoint.not_before {
            return draft.wake(endpoint.not_before, Scope::Service(name));
        }
        draft.command(Command::CloseEndpoint { service: name });
    }
}

/// Retired instances come back first, lowest number first; the highest numbers go first.
fn count_instances(draft: &mut Draft<'_>, service: &ServiceKnowledge) {
    if !draft.known.is_wanted(service) {
        return;
    }
    let wanted = service.wanted_instances() as usize;
    if service.active < wanted {
        let missing = wanted - service.active;
        let retired = service.unfenced().filter(|(_, i)| i.retired).map(|(number, _)| number);
        let highest = draft.known.numbers.get(&service.spec.name).copied().unwrap_or(0);
        let mut adopted = to_adopt(draft.known, service).into_iter();
        for number in retired.take(missing) {
            draft.fact(FactKind::InstanceDeclared { instance: service.instance_id(number) });
        }
        let new = missing.saturating_sub(service.unfenced().count() - service.active);
        for number in (highest.saturating_add(1)..=u32::MAX).take(new) {
            let instance = service.instance_id(number);
            draft.fact(match adopted.next() {
                Some(name) => FactKind::InstanceAdopted { instance, name },
                None => FactKind::InstanceDeclared { instance },
            });
        }
    } else {
        let active = || service.instances.iter().rev().filter(|(_, i)| !i.retired);
        // What a person took over is kept before what ostler made.
        let (ours, adopted): (Vec<_>, Vec<_>) = active().partition(|(_, instance)| instance.adopted.is_none());
        let in_order = ours.into_iter().chain(adopted).map(|(number, _)| *number);
        let retired: Vec<u32> = in_order.take(service.active - wanted).collect();
        if retired.is_empty() {
            return;
        }
        for number in &retired {
            draft.fact(FactKind::InstanceRetired { instance: service.instance_id(*number) });
        }
        // Who is bound to one of these, or waited for that, is bound to another.
        draft.look_at_consumers(&service.spec.name);
    }
}

/// The declared names of instances at the provider that are not taken over yet.
fn to_adopt(known: &Knowledge, service: &ServiceKnowledge) -> Vec<String> {
    let is_taken = |name: &&String| service.instances.values().any(|instance| instance.adopted.as_ref() == Some(name));
    if !known.is_unrepeatable(service) {
        return Vec::new();
    }
    service.spec.adopt.iter().filter(|name| !is_taken(name)).cloned().collect()
}

/// Credentials that a need rejects although it works are made anew, also where the consumer has not failed yet.
fn doubt_bindings(draft: &mut Draft<'_>, service: &ServiceKnowledge) {
    if !draft.known.is_wanted(service) || service.instances.values().any(|instance| instance.repair.is_some()) {
        return; // what fails is treated with all that is known of it
    }
    // What it rejects is renewed where that is not held: then it would be a remedy.
    if draft.standing().holds(&service.spec.name).is_some() {
        return;
    }
    for need in &service.spec.needs {
        let works = draft.known.services.get(need).is_some_and(|needed| needed.ready > 0);
        let Some(binding) = service.bindings.get(need).filter(|_| works) else { continue };
        if binding.is_rejected() && binding.may_be_doubted(draft.now) {
            return draft.fact(FactKind::CredentialsDoubted { binding: service.binding_id(need) });
        }
    }
}

/// Makes the next binding that is missing, or that points at an endpoint that has moved.
fn bind(draft: &mut Draft<'_>, service: &ServiceKnowledge) {
    if !draft.known.is_wanted(service) {
        return;
    }
    let known = draft.known;
    for need in &service.spec.needs {
        let Some(needed) = known.services.get(need) else { continue };
        // Not while it is being moved: what points at where it was would have to be made again at once. And not at a new
        // place before the data is there.
        let there = needed.endpoint.open && needed.endpoint.operation.is_none() && needed.may_be_routed();
        let Some(endpoint) = needed.endpoint.address.filter(|_| there) else { continue };
        if is_being_bound(known, needed, &service.spec.name) {
            continue;
        }
        if known.is_bound(service, need) {
            match service.bindings.get(need).and_then(|binding| binding.renew_at) {
                None => continue,
                Some(renew_at) if draft.now < renew_at => {
                    draft.wake(renew_at, Scope::Service(service.spec.name.clone()));
                    continue;
                }
                Some(_) => {}
            }
        }
        if let Some(until) = service.binding_pause(draft.now) {
            return draft.wake(until, Scope::Service(service.spec.name.clone()));
        }
        if let Some(instance) = free_instance(needed, service.bindings.get(need).map(|binding| &binding.instance)) {
            let binding = service.binding_id(need);
            return draft.command(Command::Bind { binding, instance, endpoint });
        }
    }
}

/// Whether the consumer is being bound to the need, or unbound from it, already.
fn is_being_bound(known: &Knowledge, needed: &ServiceKnowledge, consumer: &ServiceName) -> bool {
    needed.instances.values().filter_map(|instance| instance.operation).any(|operation| {
        match known.commands.get(&operation.id) {
            Some(Command::Bind { binding, .. } | Command::Unbind { binding, .. } | Command::Tidy { binding, .. }) => {
                &binding.consumer == consumer
            }
            _ => false,
        }
    })
}

/// A ready instance to which nothing is being done: the one that has the binding already, or the first.
fn free_instance(service: &ServiceKnowledge, preferred: Option<&InstanceId>) -> Option<InstanceId> {
    let stays = |id: &&InstanceId| service.instances.get(&id.number()).is_some_and(|i| !i.retired);
    match preferred.filter(stays) {
        Some(id) => service.instances.get(&id.number()).filter(|i| is_free(i)).map(|_| id.clone()),
        None => {
            let first = service.instances.iter().find(|(_, i)| is_free(i) && !i.retired);
            first.map(|(number, _)| service.instance_id(*number))
        }
    }
}

fn is_free(instance: &Instance) -> bool {
    instance.is_ready() && instance.observed && instance.operation.is_none()
}

/// Ends the next binding that is no longer declared, once nothing runs that was started with it.
fn unbind(draft: &mut Draft<'_>, service: &ServiceKnowledge) {
    let known = draft.known;
    let deleted = !service.declared && service.instances.is_empty();
    if !draft.known.is_wanted(service) && !deleted {
        return;
    }
    for (need, binding) in &service.bindings {
        let unneeded = deleted || !service.spec.needs.contains(need);
        if !unneeded || binding.state == BindingState::Lost || service.uses(need) {
            continue;
        }
        // First what is left elsewhere, or nobody would know of it any more.
        if binding.left.iter().any(|left| left.instance != binding.instance) {
            continue;
        }
        if let Some(until) = service.binding_pause(draft.now) {
            return draft.wake(until, Scope::Service(service.spec.name.clone()));
        }
        if known.instance(&binding.instance).is_some_and(is_free) {
            let (binding, instance) = (service.binding_id(need), binding.instance.clone());
            return draft.command(Command::Unbind { binding, instance });
        }
    }
}

/// What instances are started from, once every need is bound. A change of it is what makes them outdated. While the service
/// is being upgraded, those that no wave has reached have a launch of their own: the same at what was bought before.
fn define_launch(draft: &mut Draft<'_>, service: &ServiceKnowledge) {
    if !draft.known.is_wanted(service) {
        return;
    }
    let Some(placement) = &service.placement else { return };
    let Some(launch) = launch_at(draft, service, placement) else { return };
    if service.launch().is_none_or(|current| **current != launch) {
        let generation = number_of(service, &launch);
        let launch = Arc::new(launch);
        return draft.fact(FactKind::LaunchDefined { service: service.spec.name.clone(), generation, launch });
    }
    let held_back = service.upgrading().filter(|it| !it.data && !it.back && it.returns.is_none());
    let Some(it) = held_back else { return };
    let Some(launch) = launch_at(draft, service, &it.from) else { return };
    if service.launches.get(&it.former).is_none_or(|current| **current != launch) {
        let step = UpgradeStep::FormerLaunch { generation: number_of(service, &launch), launch: Arc::new(launch) };
        draft.fact(FactKind::Upgrade { service: service.spec.name.clone(), step: Box::new(step) });
    }
}

/// What instances at this place are to be started from; `None` while a need is not bound, or its credentials are not proven.
fn launch_at(draft: &mut Draft<'_>, service: &ServiceKnowledge, placement: &Placement) -> Option<Launch> {
    let estate = draft.known.estate.as_ref()?;
    let mut needs = std::collections::BTreeMap::new();
    for need in &service.spec.needs {
        let binding = service.bindings.get(need).filter(|b| b.state == BindingState::Made)?;
        // As long as it works with what it has, it is given others only once they are proven to be as good.
        let used = service.launch().and_then(|launch| launch.needs.get(need));
        if service.ready > 0 && used.is_some_and(|used| *used != binding.revision) && !binding.is_proven() {
            draft.withhold(Scope::Service(service.spec.name.clone()), Reason::NotProven(need.clone()));
            return None;
        }
        needs.insert(need.clone(), binding.revision);
    }
    let spec = &service.spec;
    let launch = Launch {
        placement: placement.clone(),
        run: spec.run.clone(),
        before: spec.before.clone(),
        env: spec.env.clone(),
        parameters: spec.parameters.clone(),
        context: draft.known.heard_context(service),
        listen: spec.listen,
        limits: spec.limits,
        folder: estate.folder.clone(),
        needs,
    };
    // What was taken back stays so until it is something else, or a person says so.
    let rejected = service.rejected.as_ref().filter(|rejected| rejected.launch.is_same_but_for_credentials(&launch));
    Some(match rejected {
        Some(rejected) => Launch { needs: launch.needs, ..Launch::clone(&rejected.instead) },
        None => launch,
    })
}

/// The number of this launch, or one that no other has.
fn number_of(service: &ServiceKnowledge, launch: &Launch) -> u32 {
    let same = service.launches.iter().find(|(_, known)| ***known == *launch).map(|(generation, _)| *generation);
    // A number is not given to another launch while anything may remember it.
    let highest = service.launches.keys().next_back().copied().max(service.before_done).unwrap_or(0);
    same.unwrap_or(highest.max(service.generation).saturating_add(1))
}

/// Credentials that an earlier ask made are ended once nothing runs with them.
fn tidy_bindings(draft: &mut Draft<'_>, service: &ServiceKnowledge) {
    let deleted = !service.declared && service.instances.is_empty();
    if draft.known.down && !deleted {
        return;
    }
    for (need, binding) in &service.bindings {
        // Which of them are in use is clear once everything that runs does so with the same ones.
        let given = service.launch().and_then(|launch| launch.needs.get(need)).copied();
        let are_same = service.outdated.is_empty() && given.is_none_or(|given| given == binding.revision);
        if binding.rounds.is_open() || (service.uses(need) && !are_same) {
            continue;
        }
        let Some(first) = binding.left.iter().find(|left| !binding.is_in_use(left)) else { continue };
        if service.instances.values().any(|instance| instance.retired && runs_with_other(service, instance, need)) {
            continue;
        }
        let Some(holder) = draft.known.instance(&first.instance).filter(|holder| holder.operation.is_none()) else {
            continue;
        };
        if !holder.observed || holder.attempts.number().is_none() {
            continue;
        }
        if let Some(until) = service.binding_pause(draft.now) {
            return draft.wake(until, Scope::Service(service.spec.name.clone()));
        }
        let at_same = binding.left.iter().filter(|left| left.instance == first.instance && !binding.is_in_use(left));
        let rounds = at_same.map(|left| left.round).collect();
        let (binding, instance) = (service.binding_id(need), first.instance.clone());
        return draft.command(Command::Tidy { binding, instance, rounds });
    }
}

/// Whether what is to be stopped runs still, with other credentials than those that are in use.
fn runs_with_other(service: &ServiceKnowledge, instance: &Instance, need: &ServiceName) -> bool {
    let launch = instance.generation.and_then(|generation| service.launches.get(&generation));
    let given = launch.and_then(|launch| launch.needs.get(need));
    service.is_user(instance, need) && given != service.bindings.get(need).map(|binding| &binding.revision)
}

/// What asks for instances may have left behind is deleted, and asked for again for as long as it may appear late.
fn mitigate(draft: &mut Draft<'_>, service: &ServiceKnowledge) {
    if draft.known.down {
        return;
    }
    for (id, leftover) in &service.leftovers {
        if leftover.operation.is_some() || leftover.quarantined.is_some() {
            continue;
        }
        if draft.now < leftover.not_before {
            draft.wake(leftover.not_before, Scope::Service(service.spec.name.clone()));
        } else {
            draft.command(Command::Mitigate { leftover: id.clone() });
        }
    }
}

/// A backup or restore that was asked for; then the schedule.
fn back_up(draft: &mut Draft<'_>, service: &ServiceKnowledge) {
    if !draft.known.is_wanted(service) {
        return;
    }
    if service.moving.is_some() {
        return; // what there is of it is in a backup already, or is not here yet
    }
    let name: &ServiceName = &service.spec.name;
    let backs_up = |operation: Operation| matches!(operation.kind, OperationKind::Backup | OperationKind::Restore);
    if service.instances.values().any(|instance| instance.operation.is_some_and(backs_up)) {
        return;
    }
    if let Some(backup) = &service.restore_wanted {
        let made = service.backups.iter().map(|(_, made)| made).find(|made| &made.name == backup).cloned();
        if let (Some(instance), Some(backup)) = (free_instance(service, None), made) {
            draft.command(Command::Restore { instance, backup });
        }
        return;
    }
    if let Some(backup) = &service.backup_wanted {
        match free_instance(service, None) {
            Some(instance) => draft.command(Command::Backup { instance, name: backup.clone() }),
            None => draft.withhold(Scope::Service(name.clone()), Reason::WaitsFor(vec![name.clone()])),
        }
        return;
    }
    let (Some(every), Some(last)) = (service.spec.data.backup_every, service.backup_clock) else { return };
    if !draft.known.offering(service).is_some_and(|offering| offering.actions.backup) {
        return;
    }
    let due = last + every.get();
    if draft.now < due {
        draft.wake(due, Scope::Service(name.clone()));
    } else {
        draft.fact(FactKind::BackupAsked { service: name.clone(), name: backup_name(service, SCHEDULED, draft.now) });
    }
}

/// Repairs that succeeded soon after one that was told: they are told together.
fn tell_healed(draft: &mut Draft<'_>, service: &ServiceKnowledge) {
    let (Some(told), untold) = (service.healed.told, service.healed.untold) else { return };
    if untold == 0 {
        return;
    }
    let name = &service.spec.name;
    let due = told + HEALED_TOLD_EVERY;
    if draft.now < due {
        return draft.wake(due, Scope::Service(name.clone()));
    }
    let within = in_words(draft.now.since(told));
    let message = match untold {
        1 => format!("{name} was healed once more within {within}"),
        times => format!("{name} was healed {times} more times within {within}"),
    };
    draft.tell(name, Occasion::Healed, message);
}

/// The name of a backup that ostler makes by itself: its time, so that names sort as times do. Never one that another one
/// has, or had.
pub(crate) fn backup_name(service: &ServiceKnowledge, prefix: &str, now: Timestamp) -> String {
    let first = format!("{prefix}{}", now.to_seconds().replace(['-', ':'], ""));
    let is_taken = |name: &String| {
        let is_it = |(_, made): &(Timestamp, BackupMade)| made.name == *name;
        service.backups.iter().any(is_it) || service.vault().dropping.contains_key(name)
    };
    let next = (2..u32::MAX).map(|number| format!("{first}-{number}"));
    std::iter::once(first.clone()).chain(next).find(|name| !is_taken(name)).expect("a service has few backups")
}
