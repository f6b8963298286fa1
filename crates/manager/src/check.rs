//! A second, independent pass over what is known: it knows the rules, not the reasoning.
//!
//! The simulator runs it after every step; the manager's own tests do, too.

use std::collections::{BTreeMap, BTreeSet};

use ostler_model::ids::{CommandId, InstanceId, ProviderName, ServiceName};

use crate::command::{Command, Target};
use crate::drill::Stage;
use crate::evidence::Seen;
use crate::knowledge::{Instance, Knowledge, Phase, ServiceKnowledge, Wanted};

/// A rule that is broken.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Violation(pub String);

/// Every rule that what is known breaks. It looks at everything, so its work grows with the estate.
pub fn check(known: &Knowledge) -> Vec<Violation> {
    let mut found = Vec::new();
    check_commands(known, &mut found);
    for (name, service) in &known.services {
        for (number, instance) in &service.instances {
            let id = InstanceId::new(name.clone(), *number);
            check_process(service, &id, instance, &mut found);
            check_repair(known, service, &id, instance, &mut found);
            check_fence(known, service, &id, instance, &mut found);
            if known.numbers.get(name).is_none_or(|highest| number > highest) {
                found.push(Violation(format!("{id}'s number may be given again")));
            }
        }
        check_service(known, name, service, &mut found);
    }
    check_drill(known, &mut found);
    check_sums(known, &mut found);
    check_evidence(known, &mut found);
    found
}

/// One operation at a time, and both sides of it know of each other.
fn check_commands(known: &Knowledge, found: &mut Vec<Violation>) {
    let mut fail = |text: String| found.push(Violation(text));
    let mut targets: BTreeMap<Target, Vec<CommandId>> = BTreeMap::new();
    let mut once: BTreeMap<&ServiceName, u32> = BTreeMap::new();
    for (id, command) in &known.commands {
        targets.entry(command.target()).or_default().push(*id);
        let target = command.target();
        let operation = match &target {
            Target::Instance(instance) => known.instance(instance).and_then(|i| i.operation).map(|o| o.id),
            Target::Endpoint(service) => known.services.get(service).and_then(|service| service.endpoint.operation),
            Target::Leftover(leftover) => known
                .services
                .get(leftover.instance.service())
                .and_then(|service| service.leftovers.get(leftover))
                .and_then(|leftover| leftover.operation),
            Target::Vault(service) => known.services.get(service).and_then(|service| service.vault.as_ref()?.operation),
            Target::Drill(service) => {
                known.drill.as_ref().filter(|drilling| drilling.drill.service == *service).and_then(|d| d.operation)
            }
            Target::Nothing => None,
        };
        if operation != Some(*id) {
            fail(format!("{target:?} does not know that {id} is under way"));
        }
        if let Command::Before { instance, .. } = command {
            *once.entry(instance.service()).or_default() += 1;
        }
    }
    for (target, ids) in targets {
        if ids.len() > 1 {
            fail(format!("{target:?} has {} operations under way", ids.len()));
        }
    }
    for (service, _) in once.into_iter().filter(|(_, commands)| *commands > 1) {
        fail(format!("{service}'s one-off command runs more than once at the same time"));
    }
}

fn check_process(service: &ServiceKnowledge, id: &InstanceId, instance: &Instance, found: &mut Vec<Violation>) {
    let mut fail = |text: String| found.push(Violation(text));
    let runs = instance.phase == Phase::Running;
    if instance.running.is_some() != runs {
        fail(format!("{id} is {:?} and its process is {:?}", instance.phase, instance.running));
    }
    if instance.is_ready() && !runs {
        fail(format!("{id} is ready and does not run"));
    }
    if instance.routed && !runs {
        fail(format!("callers are sent to {id}, which does not run"));
    }
    if runs && instance.generation.is_some_and(|generation| !service.launches.contains_key(&generation)) {
        fail(format!("{id} runs from a launch that is forgotten"));
    }
}

fn check_repair(
    known: &Knowledge,
    service: &ServiceKnowledge,
    id: &InstanceId,
    instance: &Instance,
    found: &mut Vec<Violation>,
) {
    let mut fail = |text: String| found.push(Violation(text));
    if instance.operation.is_some_and(|operation| !known.commands.contains_key(&operation.id)) {
        fail(format!("{id} has an operation that nobody carries out"));
    }
    if instance.repair.is_some() && instance.is_ready() {
        fail(format!("{id} is ready and still to be repaired"));
    }
    if instance.repair.is_some() && known.wanted(service, instance) != Wanted::Running {
        fail(format!("{id} is to be repaired and is not to run"));
    }
}

/// What a move left is out of reach, and what it makes is, too, until all that goes with it is there.
fn check_fence(
    known: &Knowledge,
    service: &ServiceKnowledge,
    id: &InstanceId,
    instance: &Instance,
    found: &mut Vec<Violation>,
) {
    let mut fail = |text: String| found.push(Violation(text));
    let Some(left) = &instance.left else {
        if instance.ending.is_some() {
            fail(format!("{id} is to be deleted, and no move left it"));
        }
        if let Some(moving) = &service.moving {
            if instance.routed && !(moving.fenced && (moving.proven || moving.returns)) {
                fail(format!("callers are sent to {id} before its data is there"));
            }
            if moving.leaves.contains(&id.number()) && !moving.returns {
                fail(format!("{id} is open while its service moves away from it"));
            }
        }
        return;
    };
    if !instance.retired {
        fail(format!("{id} was left by a move and is active"));
    }
    if instance.routed {
        fail(format!("callers are sent to {id}, which a move left"));
    }
    if left.epoch > service.epoch {
        fail(format!("{id} was left in an epoch that has not begun"));
    }
    let uses = |command: &Command| match command {
        Command::Bind { instance, .. }
        | Command::Start { instance, .. }
        | Command::Before { instance, .. }
        | Command::Restore { instance, .. }
        | Command::Prove { instance } => instance == id,
        _ => false,
    };
    if let Some((command, _)) =
        known.commands.range(left.after..).skip_while(|(c, _)| **c == left.after).find(|(_, c)| uses(c))
    {
        fail(format!("{id} is put to use by {command} after a move left it"));
    }
}

fn check_service(known: &Knowledge, name: &ServiceName, service: &ServiceKnowledge, found: &mut Vec<Violation>) {
    let mut fail = |text: String| found.push(Violation(text));
    let active = || service.instances.values().filter(|instance| !instance.retired);
    let ready = active().filter(|instance| instance.is_ready()).count();
    if ready != service.ready {
        fail(format!("{name} counts {} ready instances and has {ready}", service.ready));
    }
    if active().count() != service.active {
        fail(format!("{name} counts {} active instances and has {}", service.active, active().count()));
    }
    let is_outdated = |number: u32, instance: &Instance| {
        crate::evolve::is_outdated(instance, service.generation_of(number), service.restart_round)
    };
    let outdated: BTreeSet<u32> =
        service.instances.iter().filter(|(number, i)| is_outdated(**number, i)).map(|(number, _)| *number).collect();
    if outdated != service.outdated {
        fail(format!("{name} takes {:?} for outdated, and {outdated:?} are", service.outdated));
    }
    for need in service.bindings.keys() {
        if !known.consumers.get(need).is_some_and(|consumers| consumers.contains(name)) {
            fail(format!("{need} does not know its consumer {name}"));
        }
    }
}

/// A fault that may be there is being undone, or somebody will see to it.
fn check_drill(known: &Knowledge, found: &mut Vec<Violation>) {
    let Some(drilling) = &known.drill else { return };
    let mut fail = |text: String| found.push(Violation(text));
    let drill = &drilling.drill;
    if drilling.operation.is_some_and(|operation| !known.commands.contains_key(&operation)) {
        fail(format!("the drill of {} has an operation that nobody carries out", drill.service));
    }
    if drilling.stage == Stage::Causing && drilling.operation.is_none() && drilling.cut_short.is_none() {
        fail(format!("the drill of {} causes nothing", drill.service));
    }
    if !known.services.contains_key(&drill.service) {
        fail(format!("{} is drilled, and there is no such service: nobody ends it", drill.service));
    }
    if drill.number > known.last_drill {
        fail(format!("the drill {} may be counted twice", drill.number));
    }
}

/// What is counted over the whole estate.
fn check_sums(known: &Knowledge, found: &mut Vec<Violation>) {
    let mut fail = |text: String| found.push(Violation(text));
    let instances = || {
        known.services.values().flat_map(|service| {
            service.instances.iter().map(|(number, instance)| (service.instance_id(*number), instance))
        })
    };
    let active = instances().filter(|(_, instance)| !instance.retired).count();
    if active != known.instances {
        fail(format!("{} instances are counted and {active} are there", known.instances));
    }
    let repairing: BTreeSet<InstanceId> =
        instances().filter(|(_, instance)| instance.is_under_repair()).map(|(id, _)| id).collect();
    if repairing != known.repairing {
        fail(format!("{:?} count as under repair, and {repairing:?} are", known.repairing));
    }
    let sick: BTreeSet<_> = instances()
        .filter(|(_, instance)| instance.waits_for_repair())
        .map(|(id, instance)| (instance.not_before, id))
        .collect();
    if sick != known.sick {
        fail(format!("{:?} count as sick, and {sick:?} are", known.sick));
    }
}

/// What was seen of each provider.
fn check_evidence(known: &Knowledge, found: &mut Vec<Violation>) {
    let mut fail = |text: String| found.push(Violation(text));
    let mut now: BTreeMap<&ProviderName, (u32, u32)> = BTreeMap::new();
    for service in known.services.values() {
        for instance in service.instances.values() {
            let Some(provider) = service.answers_for(instance) else { continue };
            let (working, away) = now.entry(provider).or_default();
            match Seen::of(instance) {
                Some(Seen::Working) => *working += 1,
                Some(Seen::Away) => *away += 1,
                None => {}
            }
        }
    }
    for (provider, (working, away)) in &now {
        let counted = known.evidence.get(*provider).map_or((0, 0), |seen| (seen.working, seen.away));
        if counted != (*working, *away) {
            let (works, is_away) = counted;
            let counts = format!("{works} instances that work and {is_away} that are away");
            fail(format!("{provider} counts {counts}, and has {working} and {away}"));
        }
    }
    for (provider, seen) in &known.evidence {
        if !now.contains_key(provider) && (seen.working, seen.away) != (0, 0) {
            fail(format!("{provider} counts {} instances, and nothing is bought there", seen.working + seen.away));
        }
        if seen.missed_us > seen.watched_us || seen.made > seen.done {
            fail(format!("{provider} counts more that is missing, or that was made, than there was"));
        }
    }
}
