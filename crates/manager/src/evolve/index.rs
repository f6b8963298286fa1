//! Changing a service or an instance while the counters and sets that depend on it stay true.

use ostler_model::ids::{InstanceId, ServiceName};
use ostler_model::time::Timestamp;

use crate::evidence::{Seen, see};
use crate::knowledge::{Instance, Knowledge, Phase, ServiceKnowledge};
use crate::moving::LeftBehind;

pub(super) fn with_service(known: &mut Knowledge, service: &ServiceName, change: impl FnOnce(&mut ServiceKnowledge)) {
    if let Some(service) = known.services.get_mut(service) {
        change(service);
    }
}

/// Changes one instance and keeps the counters and sets that depend on it true.
pub(super) fn with_instance(known: &mut Knowledge, id: &InstanceId, change: impl FnOnce(&mut Instance)) {
    let Some(service) = known.services.get_mut(id.service()) else { return };
    let (generation, round) = (service.generation_of(id.number()), service.restart_round);
    let Some(instance) = service.instances.get_mut(&id.number()) else { return };
    let before = Indexed::of(instance, generation, round);
    let was_at = instance.left.clone();
    change(instance);
    let after = Indexed::of(instance, generation, round);
    let moved = was_at != instance.left;
    if before == after && !moved {
        return;
    }
    if before.seen != after.seen || moved {
        let left = instance.left.clone();
        count_seen(known, id, (was_at.as_deref(), before.seen), (left.as_deref(), after.seen));
    }
    let Some(service) = known.services.get_mut(id.service()) else { return };
    service.ready = service.ready - usize::from(before.ready) + usize::from(after.ready);
    if after.outdated {
        service.outdated.insert(id.number());
    } else {
        service.outdated.remove(&id.number());
    }
    if before.sick != after.sick {
        if let Some(since) = before.sick {
            known.sick.remove(&(since, id.clone()));
        }
        if let Some(since) = after.sick {
            known.sick.insert((since, id.clone()));
        }
    }
    if after.repairing {
        known.repairing.insert(id.clone());
    } else if before.repairing {
        known.repairing.remove(id);
    }
}

/// Counts what is seen of the instance for its provider: for who has it after the change, and no more for who had it
/// before.
fn count_seen(
    known: &mut Knowledge,
    id: &InstanceId,
    (was_at, before): (Option<&LeftBehind>, Option<Seen>),
    (is_at, after): (Option<&LeftBehind>, Option<Seen>),
) {
    let Some(service) = known.services.get(id.service()).filter(|service| service.spec.run.is_empty()) else { return };
    let provider = |left: Option<&LeftBehind>| {
        let placement = left.map(|left| &left.placement).or(service.placement.as_ref())?;
        Some(placement.provider.clone())
    };
    let (former, new) = (provider(was_at), provider(is_at));
    if former == new {
        if let Some(provider) = new {
            see(&mut known.evidence, &provider, before, after, known.latest);
        }
        return;
    }
    for (provider, before, after) in [(former, before, None), (new, None, after)] {
        if let Some(provider) = provider {
            see(&mut known.evidence, &provider, before, after, known.latest);
        }
    }
}

pub(super) fn for_each_instance_of(
    known: &mut Knowledge,
    service: &ServiceName,
    mut change: impl FnMut(&mut Instance),
) {
    let Some(service) = known.services.get(service) else { return };
    let ids: Vec<InstanceId> = service.instances.keys().map(|number| service.instance_id(*number)).collect();
    for id in ids {
        with_instance(known, &id, &mut change);
    }
}

pub(super) fn for_each_instance(known: &mut Knowledge, mut change: impl FnMut(&mut Instance)) {
    let services: Vec<ServiceName> = known.services.keys().cloned().collect();
    for service in services {
        for_each_instance_of(known, &service, &mut change);
    }
}

/// What the counters and sets say of one instance.
#[derive(PartialEq, Eq)]
struct Indexed {
    ready: bool,
    outdated: bool,
    sick: Option<Timestamp>,
    repairing: bool,
    seen: Option<Seen>,
}

impl Indexed {
    fn of(instance: &Instance, generation: u32, round: u32) -> Self {
        Self {
            ready: instance.is_ready() && !instance.retired,
            outdated: is_outdated(instance, generation, round),
            sick: instance.waits_for_repair().then_some(instance.not_before),
            repairing: instance.is_under_repair(),
            seen: Seen::of(instance),
        }
    }
}

pub(crate) fn is_outdated(instance: &Instance, generation: u32, round: u32) -> bool {
    !instance.retired
        && instance.phase == Phase::Running
        && (instance.generation != Some(generation) || instance.restart_round != round)
}

pub(super) fn recount_outdated(service: &mut ServiceKnowledge) {
    let round = service.restart_round;
    service.outdated = service
        .instances
        .iter()
        .filter(|(number, instance)| is_outdated(instance, service.generation_of(**number), round))
        .map(|(number, _)| *number)
        .collect();
}
