//! Commands: what is under way once one was given, and what is true once it has ended.

use std::net::SocketAddr;
use std::time::Duration;

use ostler_model::ids::{BindingId, CommandId, InstanceId, ServiceName};
use ostler_model::outcome::{Failure, FailureClass, Observation, Running};
use ostler_model::time::Timestamp;

use super::index::{with_instance, with_service};
use super::{asks, failover, set_health, upgrade, vault};
use crate::backoff;
use crate::command::{Command, Outcome};
use crate::knowledge::{
    BeforeTrouble, Binding, BindingState, Endpoint, Instance, Knowledge, Operation, OperationKind, Phase,
    ServiceKnowledge,
};

/// An instance is looked at again so long after what was done to it was interrupted: whoever interrupted may come back.
const INTERRUPTED_PAUSE: Duration = Duration::from_secs(1);

pub(super) fn issue(known: &mut Knowledge, id: CommandId, command: &Command, at: Timestamp) {
    known.last_command = known.last_command.max(id);
    issue_to(known, id, command, at);
    asks::issue(known, id, command, at);
    failover::put_to_use(known, command);
}

fn issue_to(known: &mut Knowledge, id: CommandId, command: &Command, at: Timestamp) {
    match command {
        Command::Watch { instance, .. } => with_instance(known, instance, |i| i.watch = Some(id)),
        Command::Unwatch { instance } => with_instance(known, instance, |i| i.watch = None),
        Command::Route { instance, address } => with_instance(known, instance, |i| i.routed = address.is_some()),
        Command::Notify { .. } => {}
        Command::Fault { .. } | Command::Undo { .. } => super::drill::issue(known, id, command),
        Command::OpenEndpoint { service, .. } | Command::CloseEndpoint { service } | Command::Fence { service, .. } => {
            known.commands.insert(id, command.clone());
            with_service(known, service, |service| {
                service.endpoint.operation = Some(id);
                service.endpoint.may_be_open |= matches!(command, Command::OpenEndpoint { .. });
            });
        }
        Command::Provision { instance } => operate(known, id, command, instance, OperationKind::Provision, at),
        Command::Observe { instance } => operate(known, id, command, instance, OperationKind::Observe, at),
        Command::Before { instance, .. } => operate(known, id, command, instance, OperationKind::Before, at),
        Command::Start { instance, .. } => operate(known, id, command, instance, OperationKind::Start, at),
        Command::Stop { instance, .. } => operate(known, id, command, instance, OperationKind::Stop, at),
        Command::Deprovision { instance } => operate(known, id, command, instance, OperationKind::Deprovision, at),
        Command::Bind { binding, instance, endpoint } => {
            operate(known, id, command, instance, OperationKind::Bind, at);
            begin_binding(known, binding, instance, *endpoint);
        }
        Command::Unbind { instance, .. } => {
            operate(known, id, command, instance, OperationKind::Bind, at);
            doubt(known, command); // whoever needs it again meanwhile needs it made again
        }
        Command::Release { instance } => operate(known, id, command, instance, OperationKind::Deprovision, at),
        Command::Update { instance, .. } => operate(known, id, command, instance, OperationKind::Update, at),
        Command::Tidy { instance, .. } => operate(known, id, command, instance, OperationKind::Bind, at),
        Command::Mitigate { .. } => {}
        Command::ProveBackup { service, .. } | Command::DropBackup { service, .. } => {
            known.commands.insert(id, command.clone());
            with_service(known, service, |service| vault::begin(service, id));
        }
        Command::Backup { instance, .. } => operate(known, id, command, instance, OperationKind::Backup, at),
        Command::Restore { instance, .. } => operate(known, id, command, instance, OperationKind::Restore, at),
        Command::Prove { instance } => operate(known, id, command, instance, OperationKind::Prove, at),
    }
}

fn operate(
    known: &mut Knowledge,
    id: CommandId,
    command: &Command,
    target: &InstanceId,
    kind: OperationKind,
    at: Timestamp,
) {
    known.commands.insert(id, command.clone());
    let round = known.services.get(target.service()).map_or(0, |service| service.restart_round);
    with_instance(known, target, |instance| {
        instance.operation = Some(Operation { id, kind, since: at, overtaken: false });
        if kind.repairs(instance.phase) {
            instance.since = at;
            if let Some(repair) = &mut instance.repair {
                repair.active = true;
            }
        }
        // Known before it is done: whoever finds the process running after a crash knows what it was started from.
        if let Command::Start { generation, .. } = command
            && instance.phase != Phase::Running
        {
            instance.generation = Some(*generation);
            instance.restart_round = round;
            instance.was_ready = false;
        }
        if kind == OperationKind::Stop {
            instance.watch = None;
            instance.was_ready = false;
            instance.proven = false;
            set_health(instance, None, at);
        }
    });
}

pub(super) fn end(known: &mut Knowledge, id: CommandId, outcome: &Outcome, at: Timestamp) {
    let Some(command) = known.commands.remove(&id) else { return };
    known.weigh(&command, outcome, at);
    match &command {
        Command::OpenEndpoint { service, .. } => end_of_opening(known, service, outcome, at),
        Command::CloseEndpoint { service } => {
            with_service(known, service, |service| {
                service.endpoint.operation = None;
                service.endpoint.open = false;
                match outcome {
                    Outcome::Done => {
                        service.endpoint.may_be_open = false;
                        service.endpoint.failures = 0;
                    }
                    _ => pause_endpoint(&mut service.endpoint, at),
                }
            });
            remove_if_gone(known, service);
        }
        Command::Fence { service, epoch } => {
            with_service(known, service, |service| {
                service.endpoint.operation = None;
                match outcome {
                    Outcome::Failed(_) => pause_endpoint(&mut service.endpoint, at),
                    _ => service.endpoint.failures = 0,
                }
            });
            failover::fence_ended(known, service, *epoch, outcome, at);
        }
        Command::Bind { instance, .. }
        | Command::Unbind { instance, .. }
        | Command::Tidy { instance, .. }
        | Command::Backup { instance, .. }
        | Command::Prove { instance }
        | Command::Restore { instance, .. } => {
            let operation = known.instance(instance).and_then(|i| i.operation).filter(|operation| operation.id == id);
            let began = operation.map_or(at, |operation| operation.since);
            end_operation(known, instance, id, false, outcome, at);
            end_of_service(known, &command, outcome, began, at);
            failover::step_ended(known, &command, outcome, at);
            upgrade::step_ended(known, &command, outcome, at);
        }
        Command::Provision { instance }
        | Command::Observe { instance }
        | Command::Before { instance, .. }
        | Command::Start { instance, .. }
        | Command::Stop { instance, .. }
        | Command::Update { instance, .. }
        | Command::Release { instance }
        | Command::Deprovision { instance } => {
            let changes_it = !matches!(command, Command::Observe { .. });
            let overtaken =
                known.instance(instance).and_then(|i| i.operation).is_some_and(|o| o.id == id && o.overtaken);
            end_operation(known, instance, id, changes_it, outcome, at);
            end_of_instance(known, instance, &command, outcome, at);
            if overtaken {
                with_instance(known, instance, |i| i.observed = false);
            }
        }
        Command::Mitigate { .. } => {}
        Command::ProveBackup { service, backup } => {
            with_service(known, service, |service| vault::end_of_proof(service, id, backup, outcome, at));
            super::drill::restored(known, service, backup, outcome, at);
        }
        Command::DropBackup { service, backup } => {
            with_service(known, service, |service| vault::end_of_drop(service, id, backup, outcome, at));
        }
        Command::Fault { .. } | Command::Undo { .. } => super::drill::ended(known, id, &command, outcome, at),
        Command::Watch { .. } | Command::Unwatch { .. } | Command::Route { .. } | Command::Notify { .. } => {}
    }
    asks::end(known, &command, outcome, at);
}

fn end_operation(
    known: &mut Knowledge,
    instance: &InstanceId,
    id: CommandId,
    changes_it: bool,
    outcome: &Outcome,
    at: Timestamp,
) {
    with_instance(known, instance, |i| {
        if i.operation.is_some_and(|operation| operation.id == id) {
            i.operation = None;
        }
        // What failed may have happened in part, or because the instance is not what it was taken for: that is to be seen
        // before anything else is done.
        let Outcome::Failed(failure) = outcome else { return };
        let interrupted = failure.class == FailureClass::Interrupted;
        i.observed &= !(interrupted || changes_it);
        if interrupted {
            i.not_before = i.not_before.max(at + INTERRUPTED_PAUSE);
            // Its place among the repairs was given to others meanwhile, also where it happened after all.
            if changes_it && let Some(repair) = &mut i.repair {
                repair.active = false;
            }
        }
    });
}

fn end_of_opening(known: &mut Knowledge, service: &ServiceName, outcome: &Outcome, at: Timestamp) {
    with_service(known, service, |service| {
        service.endpoint.operation = None;
        match outcome {
            Outcome::Open(address) => {
                service.endpoint.address = Some(*address);
                service.endpoint.open = true;
                service.endpoint.trouble = None;
                service.endpoint.failures = 0;
            }
            Outcome::Failed(failure) => {
                if failure.class == FailureClass::Interrupted {
                    service.endpoint.open = false; // where it is open, if anywhere, is not known any more
                } else {
                    // Where it was to go is not where it is wanted any more: it stayed, and that is no trouble.
                    let is_well = service.endpoint.open && !service.endpoint_moved();
                    service.endpoint.trouble = (!is_well).then(|| failure.clone());
                }
                pause_endpoint(&mut service.endpoint, at);
            }
            _ => {}
        }
    });
}

fn pause_endpoint(endpoint: &mut Endpoint, at: Timestamp) {
    endpoint.failures = endpoint.failures.saturating_add(1);
    endpoint.not_before = at + backoff::endpoint_pause(endpoint.failures);
}

/// Of what is done at an instance on behalf of a service since `began`: bindings and backups. A backup holds what there
/// was when it was begun: whatever was written while it was made is not in it.
fn end_of_service(known: &mut Knowledge, command: &Command, outcome: &Outcome, began: Timestamp, at: Timestamp) {
    let interrupted = matches!(outcome, Outcome::Failed(Failure { class: FailureClass::Interrupted, .. }));
    match (command, outcome) {
        _ if interrupted => doubt(known, command),
        (Command::Bind { binding, instance, endpoint }, Outcome::Bound { digest, renew_at }) => {
            bound(known, binding, instance, *endpoint, digest, asks::not_at_once(*renew_at, at));
        }
        (
            Command::Bind { binding, .. } | Command::Unbind { binding, .. } | Command::Tidy { binding, .. },
            Outcome::Failed(failure),
        ) => {
            with_service(known, &binding.consumer, |service| {
                service.binding_failures = service.binding_failures.saturating_add(1);
                let pause = backoff::binding_pause(service.binding_failures);
                service.binding_trouble = Some((at + pause, failure.clone()));
            });
        }
        (Command::Unbind { binding, instance }, Outcome::Done) => unbound(known, binding, instance),
        (Command::Tidy { binding, .. }, Outcome::Done) => {
            with_service(known, &binding.consumer, ServiceKnowledge::binding_works);
        }
        (Command::Backup { instance, name }, outcome) => with_service(known, instance.service(), |service| {
            service.backup_wanted.take_if(|wanted| wanted == name);
            match outcome {
                Outcome::BackedUp(made) => {
                    service.backups.push((began, made.clone()));
                    service.backup_trouble = None;
                    service.backup_failures = 0;
                }
                Outcome::Failed(failure) => {
                    service.backup_trouble = Some(failure.clone());
                    service.backup_failures = service.backup_failures.saturating_add(1);
                    if let Some(every) = service.spec.data.backup_every {
                        let pause = backoff::backup_pause(service.backup_failures).min(every.get());
                        service.backup_clock = Some(at - (every.get() - pause));
                    }
                }
                _ => {}
            }
        }),
        (Command::Restore { instance, backup }, outcome) => with_service(known, instance.service(), |service| {
            service.restore_wanted.take_if(|wanted| *wanted == backup.name);
            service.backup_trouble = match outcome {
                Outcome::Failed(failure) => Some(failure.clone()),
                Outcome::Unusable { why } => Some(vault::mark_bad(service, backup, why, at)),
                _ => None,
            };
        }),
        _ => {}
    }
}

/// Whether a binding that was to be made, or ended, has been is not known: it is made, or ended, again.
pub(super) fn doubt(known: &mut Knowledge, command: &Command) {
    match command {
        Command::Mitigate { leftover } => asks::interrupt(known, leftover),
        Command::Update { instance, .. } => with_instance(known, instance, |i| i.changes_to = None),
        _ => {}
    }
    let (Command::Bind { binding: id, .. } | Command::Unbind { binding: id, .. }) = command else { return };
    with_service(known, &id.consumer, |service| {
        if let Some(binding) = service.bindings.get_mut(&id.need).filter(|b| b.state == BindingState::Made) {
            binding.state = BindingState::Doubtful;
        }
    });
}

/// Known before it is done: what may have been made is ended when nobody needs it any more, whatever happens meanwhile.
fn begin_binding(known: &mut Knowledge, id: &BindingId, instance: &InstanceId, endpoint: SocketAddr) {
    if !known.services.contains_key(&id.consumer) {
        return;
    }
    with_service(known, &id.consumer, |service| {
        let binding =
            service.bindings.entry(id.need.clone()).or_insert_with(|| Binding::new(instance.clone(), endpoint));
        if binding.state == BindingState::Lost {
            binding.state = BindingState::Doubtful;
            binding.instance = instance.clone();
        }
    });
    known.consumers.entry(id.need.clone()).or_default().insert(id.consumer.clone());
}

fn bound(
    known: &mut Knowledge,
    id: &BindingId,
    instance: &InstanceId,
    endpoint: SocketAddr,
    digest: &str,
    (renew_at, put_off): (Option<Timestamp>, bool),
) {
    if !known.services.contains_key(&id.consumer) {
        return;
    }
    with_service(known, &id.consumer, |service| {
        let revision = match service.bindings.get(&id.need) {
            Some(former) if former.digest == digest => former.revision,
            Some(former) => former.revision.saturating_add(1),
            None => 1,
        };
        let binding =
            service.bindings.entry(id.need.clone()).or_insert_with(|| Binding::new(instance.clone(), endpoint));
        binding.instance = instance.clone();
        binding.endpoint = endpoint;
        binding.revision = revision;
        binding.digest = digest.to_owned();
        binding.state = BindingState::Made;
        binding.renew_at = renew_at;
        binding.put_off = put_off;
        service.binding_works();
    });
    known.consumers.entry(id.need.clone()).or_default().insert(id.consumer.clone());
}

fn end_of_instance(known: &mut Knowledge, id: &InstanceId, command: &Command, outcome: &Outcome, at: Timestamp) {
    match (command, outcome) {
        (Command::Deprovision { .. } | Command::Release { .. }, Outcome::Done) => remove_instance(known, id),
        (Command::Provision { .. }, Outcome::Done) => with_instance(known, id, |i| {
            if i.phase == Phase::Declared {
                i.phase = Phase::Stopped;
            }
        }),
        (Command::Before { generation, .. }, Outcome::Done) => with_service(known, id.service(), |service| {
            service.before_done = Some(*generation);
            service.before_trouble = None;
        }),
        (Command::Before { generation, .. }, Outcome::Failed(failure)) => {
            with_service(known, id.service(), |service| before_failed(service, *generation, failure, at));
            return;
        }
        (Command::Observe { .. }, Outcome::Observed(observation)) => observe(known, id, observation, at),
        (Command::Start { .. }, Outcome::Started(started)) => {
            with_instance(known, id, |i| {
                i.entrusted = true;
                runs(i, started.running, at);
            });
            with_service(known, id.service(), |service| {
                service.backup_clock.get_or_insert(at);
            });
        }
        (Command::Update { generation, .. }, Outcome::Done) => {
            let round = known.services.get(id.service()).map_or(0, |service| service.restart_round);
            with_instance(known, id, |i| {
                i.generation = Some(*generation);
                i.restart_round = round;
            });
        }
        (Command::Stop { .. }, Outcome::Stopped { .. }) => with_instance(known, id, |i| {
            i.since = at;
            rests(i, Phase::Stopped, at);
        }),
        _ => return,
    }
    with_instance(known, id, |i| {
        if i.repair.is_none() {
            i.told_failed = false; // what was told was about something that has worked now
        }
    });
}

/// What failed was the launch's, not the instance's: the pause is the same whichever instance would be next.
fn before_failed(service: &mut ServiceKnowledge, generation: u32, failure: &Failure, at: Timestamp) {
    if failure.class == FailureClass::Interrupted {
        return;
    }
    let before = service.before_trouble.as_ref().filter(|trouble| trouble.generation == generation);
    let failures = before.map_or(0, |trouble| trouble.failures).saturating_add(1);
    let not_before = at + backoff::pause(failures);
    service.before_trouble = Some(BeforeTrouble { generation, failures, not_before, failure: failure.clone() });
}

fn observe(known: &mut Knowledge, id: &InstanceId, observation: &Observation, at: Timestamp) {
    with_instance(known, id, |i| {
        i.observed = true;
        if let Some(repair) = &mut i.repair {
            repair.unseen = false;
        }
        match observation {
            Observation::Running(running) => runs(i, *running, at),
            Observation::Stopped { .. } => rests(i, Phase::Stopped, at),
            Observation::Absent => rests(i, Phase::Declared, at),
            // Of what was made, it is no news that its provider does not say whether it is there.
            Observation::NotSeen { .. } | Observation::Useless { .. } => {
                if i.attempts.is_open() {
                    rests(i, Phase::Declared, at);
                }
            }
        }
    });
    if *observation == Observation::Absent {
        lose_bindings(known, id);
        failover::lost(known, id);
    }
}

/// It runs as this process; the same one as before, perhaps. That another took its place since may be known already.
fn runs(instance: &mut Instance, running: Running, at: Timestamp) {
    if instance.running.is_some_and(|known| known.pid != running.pid && known.since > running.since) {
        return;
    }
    let same = instance.running.is_some_and(|former| {
        former.pid == running.pid
            && former.address == running.address
            && (former.pid.is_some() || former.since == running.since)
    });
    instance.routed &= instance.address() == Some(running.address);
    instance.phase = Phase::Running;
    instance.running = Some(running);
    if !same {
        instance.since = at;
        instance.watch = None;
        instance.proven = false;
        set_health(instance, None, at);
        instance.health_since = at; // of this process nothing has been known so far
    }
}

fn rests(instance: &mut Instance, phase: Phase, at: Timestamp) {
    if instance.phase == Phase::Running {
        instance.since = at;
    }
    instance.phase = phase;
    instance.running = None;
    instance.watch = None;
    instance.proven = false;
    set_health(instance, None, at);
}

/// Credentials end with the instance that knew them. The bindings stay known, so that those made in their place count
/// as changed ones.
fn lose_bindings(known: &mut Knowledge, id: &InstanceId) {
    let consumers: Vec<ServiceName> = known.consumers.get(id.service()).into_iter().flatten().cloned().collect();
    for consumer in consumers {
        let mut unneeded = false;
        with_service(known, &consumer, |service| {
            let binding = service.bindings.get_mut(id.service());
            let Some(binding) = binding else { return };
            asks::lose(binding, id);
            if binding.instance == *id {
                binding.state = BindingState::Lost;
                let asked = binding.has_asks();
                // What still runs with it is a user of the need until it is replaced.
                unneeded = !asked && !service.spec.needs.contains(id.service()) && !service.uses(id.service());
            }
        });
        if unneeded {
            drop_binding(known, &consumer, id.service());
        } else {
            remove_if_gone(known, &consumer);
        }
    }
}

/// Forgets a binding that nobody needs or uses, and of which nothing is left anywhere.
pub(super) fn forget_binding(known: &mut Knowledge, id: &BindingId) {
    let unneeded = known.services.get(&id.consumer).is_some_and(|service| {
        let unneeded = !service.spec.needs.contains(&id.need) && !service.uses(&id.need);
        unneeded && service.bindings.get(&id.need).is_some_and(Binding::is_gone)
    });
    if unneeded {
        drop_binding(known, &id.consumer, &id.need);
    } else {
        remove_if_gone(known, &id.consumer);
    }
}

/// It is ended at the instance where it was used; what was asked for elsewhere is not forgotten.
fn unbound(known: &mut Knowledge, id: &BindingId, instance: &InstanceId) {
    let mut asked = false;
    with_service(known, &id.consumer, |service| {
        if let Some(binding) = service.bindings.get_mut(&id.need) {
            asks::lose(binding, instance);
            binding.state = BindingState::Lost;
            asked = binding.has_asks();
        }
    });
    if !asked {
        drop_binding(known, &id.consumer, &id.need);
    }
}

fn drop_binding(known: &mut Knowledge, consumer: &ServiceName, need: &ServiceName) {
    let mut still_needed = false;
    with_service(known, consumer, |service| {
        service.bindings.remove(need);
        service.binding_works();
        still_needed = service.spec.needs.contains(need);
    });
    if !still_needed && let Some(consumers) = known.consumers.get_mut(need) {
        consumers.remove(consumer);
    }
    remove_if_gone(known, consumer);
}

fn remove_instance(known: &mut Knowledge, id: &InstanceId) {
    with_instance(known, id, |instance| {
        instance.repair = None;
        instance.health = None;
        instance.phase = Phase::Stopped;
    });
    let Some(service) = known.services.get_mut(id.service()) else { return };
    let Some(instance) = service.instances.remove(&id.number()) else { return };
    service.outdated.remove(&id.number());
    if !instance.retired {
        service.active -= 1;
        known.instances -= 1;
    }
    if service.instances.is_empty() {
        service.ending = None;
        service.moving = None; // there is nothing left to be moved
        upgrade::drop_it(known, id.service());
    }
    lose_bindings(known, id);
    remove_if_gone(known, id.service());
}

/// A service that is no longer declared and has nothing left is forgotten; its highest number is not.
pub(super) fn remove_if_gone(known: &mut Knowledge, name: &ServiceName) {
    let gone = known.services.get(name).is_some_and(|service| {
        let unbound = service.bindings.values().all(Binding::is_gone);
        let closed = !service.endpoint.may_be_open && service.endpoint.operation.is_none();
        let drilled = known.drill.as_ref().is_some_and(|drilling| drilling.drill.service == *name);
        let empty = service.instances.is_empty() && service.leftovers.is_empty();
        !service.declared && empty && unbound && closed && !drilled
    });
    if gone {
        known.upgrading.remove(name);
        known.agenda_is_old |= known.agenda.step_of(name).is_some();
        let Some(service) = known.services.remove(name) else { return };
        for need in service.spec.needs.iter().chain(service.bindings.keys()) {
            if let Some(consumers) = known.consumers.get_mut(need) {
                consumers.remove(name);
            }
        }
        if known.consumers.get(name).is_some_and(|consumers| consumers.is_empty()) {
            known.consumers.remove(name);
        }
    }
}
