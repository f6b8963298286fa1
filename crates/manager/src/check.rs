//! A second, independent pass over what is known: it knows the rules, not the reasoning.
//!
//! The simulator runs it after every step; the manager's own tests do, too.

use std::collections::{BTreeMap, BTreeSet};

use ostler_model::ids::{CommandId, InstanceId};

use crate::command::Target;
use crate::knowledge::{Knowledge, Phase};

/// A rule that is broken.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Violation(pub String);

/// Every rule that what is known breaks.
pub fn check(known: &Knowledge) -> Vec<Violation> {
    let mut found = Vec::new();
    let mut fail = |text: String| found.push(Violation(text));
    let mut targets: BTreeMap<Target, Vec<CommandId>> = BTreeMap::new();
    for (id, command) in &known.commands {
        targets.entry(command.target()).or_default().push(*id);
    }
    for (target, ids) in &targets {
        if ids.len() > 1 && *target != Target::Nothing {
            fail(format!("{target:?} has {} operations under way", ids.len()));
        }
    }
    let mut active = 0;
    let mut repairing = BTreeSet::new();
    let mut sick = BTreeSet::new();
    for (name, service) in &known.services {
        let mut ready = 0;
        let mut outdated = BTreeSet::new();
        for (number, instance) in &service.instances {
            let id = InstanceId::new(name.clone(), *number);
            active += usize::from(!instance.retired);
            ready += usize::from(instance.is_ready() && !instance.retired);
            if crate::evolve::is_outdated(instance, service.generation, service.restart_round) {
                outdated.insert(*number);
            }
            if instance.is_under_repair() {
                repairing.insert(id.clone());
            }
            if instance.waits_for_repair() {
                sick.insert((instance.not_before, id.clone()));
            }
            if instance.running.is_some() != (instance.phase == Phase::Running) {
                fail(format!("{id} is {:?} and its process is {:?}", instance.phase, instance.running));
            }
            if instance.is_ready() && instance.phase != Phase::Running {
                fail(format!("{id} is ready and does not run"));
            }
            if let Some(operation) = instance.operation
                && !known.commands.contains_key(&operation.id)
            {
                fail(format!("{id} has an operation that nobody carries out"));
            }
            if instance.generation.is_some_and(|generation| !service.launches.contains_key(&generation))
                && instance.phase == Phase::Running
            {
                fail(format!("{id} runs from a launch that is forgotten"));
            }
            if known.numbers.get(name).is_none_or(|highest| number > highest) {
                fail(format!("{id}'s number may be given again"));
            }
        }
        if ready != service.ready {
            fail(format!("{name} counts {} ready instances and has {ready}", service.ready));
        }
        if outdated != service.outdated {
            fail(format!("{name} takes {:?} for outdated, and {outdated:?} are", service.outdated));
        }
        for need in service.bindings.keys() {
            if !known.consumers.get(need).is_some_and(|consumers| consumers.contains(name)) {
                fail(format!("{need} does not know its consumer {name}"));
            }
        }
    }
    if active != known.instances {
        fail(format!("{} instances are counted and {active} are there", known.instances));
    }
    if repairing != known.repairing {
        fail(format!("{:?} count as under repair, and {repairing:?} are", known.repairing));
    }
    if sick != known.sick {
        fail(format!("{:?} count as sick, and {sick:?} are", known.sick));
    }
    found
}
