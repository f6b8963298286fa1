//! Asks that cannot be repeated under the same name: their numbers, and what they leave behind.
//!
//! Invariant: an ask whose outcome is not known either stays open, or is on a list of what is left, until the provider
//! has confirmed what became of it.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use ostler_model::catalog::{Catalog, Offering};
use ostler_model::ids::{AttemptId, BindingId, CommandId, InstanceId, ProviderName};
use ostler_model::outcome::{Failure, FailureClass, Observation};
use ostler_model::time::Timestamp;

use super::index::{with_instance, with_service};
use crate::command::{Command, Outcome, Target};
use crate::event::Settlement;
use crate::instance::{Instance, MadeAs, OperationKind, Phase};
use crate::knowledge::{Binding, Knowledge, ServiceKnowledge};
use crate::rounds::{Accepted, LeftBinding, Leftover, RoundState, Rounds};

/// What was to be renewed when it arrived is renewed after this time: long enough for its consumers to be restarted one
/// after the other and to serve in between, and short beside what credentials usually last.
const RENEWED_AGAIN: Duration = Duration::from_secs(600);

/// A command was issued: what it asks for gets its number.
pub(super) fn issue(known: &mut Knowledge, id: CommandId, command: &Command, at: Timestamp) {
    let unrepeatable = known.is_unrepeatable_at(command);
    match command {
        Command::Provision { instance } if unrepeatable => {
            // What became of the former ask is known: it was observed before.
            let made_as = known.services.get(instance.service()).and_then(|service| as_declared(known, service));
            with_instance(known, instance, |i| {
                i.attempts.ask();
                i.adopted = None;
                i.made_as = made_as;
            });
        }
        Command::Start { instance, generation, .. } if unrepeatable => {
            let as_launched = known.services.get(instance.service()).and_then(|s| as_launched(s, *generation));
            with_instance(known, instance, |i| {
                if !i.access.is_made() || i.access_is_due(at) {
                    let former = i.access.number();
                    i.access.ask();
                    i.access_left.extend(former);
                }
                // It is what it was made, whatever it is started as: what differs is changed once it runs.
                if i.phase != Phase::Running && i.made_as.is_some() && i.made_as != as_launched {
                    i.generation = None;
                }
            });
        }
        // Known before it is done, so that what it is changed to is not forgotten meanwhile.
        Command::Update { instance, generation } => {
            with_instance(known, instance, |i| i.changes_to = Some(*generation));
        }
        Command::Bind { binding, instance, .. } if unrepeatable => ask_for_binding(known, binding, instance),
        Command::Bind { binding, instance, .. } => leave_elsewhere(known, binding, instance),
        Command::Unbind { binding, .. } if unrepeatable => with_service(known, &binding.consumer, |service| {
            if let Some(binding) = service.bindings.get_mut(&binding.need) {
                leave(binding);
            }
        }),
        Command::Mitigate { leftover } => {
            known.commands.insert(id, command.clone());
            with_leftover(known, leftover, |leftover| leftover.operation = Some(id));
        }
        _ => {}
    }
    if let Target::Instance(instance) = command.target()
        && !matches!(command, Command::Observe { .. })
    {
        with_instance(known, &instance, |i| i.accepted = None);
    }
}

/// What is to be renewed as soon as it arrives is not: the clock of one of both sides is wrong, or the broker's figures
/// are, and what comes next will not be better. Without a pause that would be an endless series of asks.
///
/// Returns when it is to be renewed, and whether that was put off.
pub(super) fn not_at_once(renew_at: Option<Timestamp>, arrived: Timestamp) -> (Option<Timestamp>, bool) {
    match renew_at.filter(|renew_at| *renew_at <= arrived) {
        Some(_) => (Some(arrived + RENEWED_AGAIN), true),
        None => (renew_at, false),
    }
}

/// The clock may have been set right while ostler was away: what was put off by a wrong one is not put off for longer.
pub(super) fn put_off_no_longer(renew_at: &mut Option<Timestamp>, put_off: bool, at: Timestamp) {
    if put_off && let Some(renew_at) = renew_at {
        *renew_at = (*renew_at).min(at + RENEWED_AGAIN);
    }
}

fn as_declared(known: &Knowledge, service: &ServiceKnowledge) -> Option<Arc<MadeAs>> {
    let (placement, parameters) = (service.placement.clone()?, service.spec.parameters.clone());
    Some(Arc::new(MadeAs { placement, parameters, context: known.heard_context(service) }))
}

fn as_launched(service: &ServiceKnowledge, generation: u32) -> Option<Arc<MadeAs>> {
    let launch = service.launches.get(&generation)?;
    Some(Arc::new(MadeAs {
        placement: launch.placement.clone(),
        parameters: launch.parameters.clone(),
        context: launch.context.clone(),
    }))
}

/// A made binding is asked for again only to point somewhere else, at the same instance: that is no new ask.
fn ask_for_binding(known: &mut Knowledge, id: &BindingId, at: &InstanceId) {
    with_service(known, &id.consumer, |service| {
        let Some(binding) = service.bindings.get_mut(&id.need) else { return };
        if binding.rounds.is_made() && binding.instance == *at && binding.renew_at.is_none() {
            return;
        }
        leave(binding);
        binding.rounds.ask();
        binding.asked_at = Some(at.clone());
    });
}

/// What was asked for at another provider, where asks have names, is left there: it is ended once nobody uses it.
fn leave_elsewhere(known: &mut Knowledge, id: &BindingId, at: &InstanceId) {
    with_service(known, &id.consumer, |service| {
        if let Some(binding) = service.bindings.get_mut(&id.need).filter(|binding| binding.asked_at.is_some())
            && binding.asked_at.as_ref() != Some(at)
        {
            leave(binding);
            binding.asked_at = None;
        }
    });
}

/// What the last ask made, or may have made, is left.
fn leave(binding: &mut Binding) {
    if let Some(round) = binding.rounds.number() {
        let instance = binding.asked_at.clone().unwrap_or_else(|| binding.instance.clone());
        binding.left.push(LeftBinding { instance, round });
    }
    binding.rounds.state = RoundState::Over;
}

/// Whatever was asked for at this instance is gone from there.
pub(super) fn lose(binding: &mut Binding, at: &InstanceId) {
    binding.left.retain(|left| left.instance != *at);
    if binding.asked_at.as_ref() == Some(at) {
        binding.rounds.state = RoundState::Over;
        binding.used = None;
    }
}

/// A command has ended.
pub(super) fn end(known: &mut Knowledge, command: &Command, outcome: &Outcome, at: Timestamp) {
    match command {
        Command::Provision { instance } => end_of_provision(known, instance, outcome, at),
        Command::Observe { instance } => {
            if let Outcome::Observed(observation) = outcome {
                observed(known, instance, observation, at);
            }
        }
        Command::Start { instance, .. } => with_instance(known, instance, |i| {
            close(&mut i.access, outcome);
            if let Outcome::Started(started) = outcome
                && i.access.is_made()
                && i.access_used != i.access.number()
            {
                i.access_used = i.access.number();
                (i.access_renew_at, i.access_put_off) = not_at_once(started.renew_at, at);
                i.watch = None; // a new watch asks with these
            }
        }),
        Command::Update { instance, generation } if *outcome == Outcome::Done => {
            let made_as = known.services.get(instance.service()).and_then(|s| as_launched(s, *generation));
            with_instance(known, instance, |i| i.made_as = made_as);
        }
        Command::Bind { binding, .. } => with_service(known, &binding.consumer, |service| {
            if let Some(binding) = service.bindings.get_mut(&binding.need) {
                close(&mut binding.rounds, outcome);
                if matches!(outcome, Outcome::Bound { .. }) {
                    binding.used = binding.rounds.number();
                }
            }
        }),
        Command::Tidy { binding, instance, rounds } if *outcome == Outcome::Done => {
            let is_tidied = |left: &LeftBinding| left.instance == *instance && rounds.contains(&left.round);
            if binding.consumer == binding.need {
                with_instance(known, instance, |i| i.access_left.retain(|round| !rounds.contains(round)));
            }
            with_service(known, &binding.consumer, |service| {
                if let Some(binding) = service.bindings.get_mut(&binding.need) {
                    binding.left.retain(|left| !is_tidied(left));
                }
            });
            super::outcome::forget_binding(known, binding);
        }
        Command::Mitigate { leftover } => mitigated(known, leftover, outcome, at),
        _ => {}
    }
    let interrupted = matches!(outcome, Outcome::Failed(Failure { class: FailureClass::Interrupted, .. }));
    if let Target::Instance(instance) = command.target()
        && !interrupted
    {
        with_instance(known, &instance, |i| i.accepted = None);
    }
    if let Command::Update { instance, .. } = command {
        with_instance(known, instance, |i| i.changes_to = None);
    }
}

/// What became of an ask that can fail for many reasons: most say that nothing was made.
fn close(rounds: &mut Rounds, outcome: &Outcome) {
    if !rounds.is_open() {
        return;
    }
    rounds.state = match outcome {
        Outcome::Failed(failure) => match failure.class {
            FailureClass::Temporary | FailureClass::NeedsPerson => RoundState::Over,
            FailureClass::Interrupted | FailureClass::InDoubt | FailureClass::LeftBehind | FailureClass::Unclear => {
                RoundState::Asked
            }
        },
        _ => RoundState::Made,
    };
}

fn end_of_provision(known: &mut Knowledge, id: &InstanceId, outcome: &Outcome, at: Timestamp) {
    let Some(instance) = known.instance(id).filter(|instance| instance.attempts.is_open()) else { return };
    let attempt = instance.attempts.current;
    match outcome {
        Outcome::Failed(failure) => match failure.class {
            FailureClass::Interrupted | FailureClass::InDoubt => {}
            FailureClass::LeftBehind => leave_behind(known, id, attempt, &failure.detail, false, at),
            FailureClass::Unclear => leave_behind(known, id, attempt, &failure.detail, true, at),
            FailureClass::Temporary | FailureClass::NeedsPerson => {
                with_instance(known, id, |i| i.attempts.state = RoundState::Over);
            }
        },
        _ => with_instance(known, id, |i| i.attempts.state = RoundState::Made),
    }
}

fn observed(known: &mut Knowledge, id: &InstanceId, observation: &Observation, at: Timestamp) {
    let Some(instance) = known.instance(id) else { return };
    let (attempt, is_open) = (instance.attempts.current, instance.attempts.is_open());
    match observation {
        Observation::NotSeen { why } | Observation::Useless { why } => {
            if is_open {
                leave_behind(known, id, attempt, why, false, at);
            }
        }
        Observation::Absent => with_instance(known, id, |i| {
            i.attempts.state = RoundState::Over;
            i.lose_access();
        }),
        Observation::Stopped { .. } | Observation::Running(_) => {
            let offering = known.services.get(id.service()).and_then(|service| known.offering_of(service, instance));
            let is_restarted_elsewhere = offering.is_some_and(|offering| !offering.actions.start_stop);
            with_instance(known, id, |i| {
                if is_open {
                    i.attempts.state = RoundState::Made;
                }
                i.entrusted |= is_restarted_elsewhere && i.phase == Phase::Running;
            });
        }
    }
}

/// The instance is free for another ask; what the last one may have made is on the list.
fn leave_behind(known: &mut Knowledge, id: &InstanceId, attempt: u32, why: &str, unclear: bool, since: Timestamp) {
    with_instance(known, id, |instance: &mut Instance| {
        instance.attempts.state = RoundState::Over;
        instance.lose_access();
        instance.observed = true; // there is nothing to look at
    });
    with_service(known, id.service(), |service| {
        let at = service.instances.get(&id.number()).and_then(|instance| service.placement_of(instance));
        let Some(placement) = at.cloned() else { return };
        let mut leftover = Leftover::new(placement, why, since);
        leftover.quarantined = unclear.then(|| why.to_owned());
        service.leftovers.insert(AttemptId { instance: id.clone(), attempt }, leftover);
    });
}

fn mitigated(known: &mut Knowledge, id: &AttemptId, outcome: &Outcome, at: Timestamp) {
    let mut gone = false;
    with_leftover(known, id, |leftover| match outcome {
        Outcome::Failed(Failure { class: FailureClass::Interrupted, .. }) => leftover.operation = None,
        Outcome::Failed(_) => leftover.fail(at),
        _ => gone = leftover.confirm(at),
    });
    if gone {
        forget(known, id);
    }
}

/// Whether it was deleted is not known: it is deleted again.
pub(super) fn interrupt(known: &mut Knowledge, id: &AttemptId) {
    with_leftover(known, id, |leftover| leftover.operation = None);
}

/// It exists already, and is taken for what is declared until its provider says otherwise.
pub(super) fn adopt(known: &mut Knowledge, id: &InstanceId, name: &str, at: Timestamp) {
    let made_as = known.services.get(id.service()).and_then(|service| as_declared(known, service));
    with_instance(known, id, |instance| {
        *instance = Instance {
            phase: Phase::Stopped,
            observed: false,
            adopted: Some(name.to_owned()),
            made_as,
            attempts: Rounds { state: RoundState::Made, ..instance.attempts },
            access: Rounds { state: RoundState::Over, ..instance.access },
            ..Instance::new(at)
        };
    });
    with_service(known, id.service(), |service| {
        if service.active > service.wanted_instances() as usize {
            service.scale = u32::try_from(service.active).ok();
        }
    });
}

/// A person said what is to become of it.
pub(super) fn settle(known: &mut Knowledge, id: &AttemptId, how: Settlement, at: Timestamp) {
    match how {
        Settlement::Release => forget(known, id),
        Settlement::Delete => with_leftover(known, id, |leftover| {
            leftover.quarantined = None;
            leftover.since = at; // and for as long again nobody is asked
            leftover.failures = 0;
            leftover.not_before = at;
        }),
    }
}

pub(super) fn quarantine(known: &mut Knowledge, id: &AttemptId, why: &str) {
    with_leftover(known, id, |leftover| leftover.quarantined = Some(why.to_owned()));
}

fn forget(known: &mut Knowledge, id: &AttemptId) {
    with_service(known, id.instance.service(), |service| drop(service.leftovers.remove(id)));
    super::outcome::remove_if_gone(known, id.instance.service());
}

fn with_leftover(known: &mut Knowledge, id: &AttemptId, change: impl FnOnce(&mut Leftover)) {
    with_service(known, id.instance.service(), |service| {
        if let Some(leftover) = service.leftovers.get_mut(id) {
            change(leftover);
        }
    });
}

/// A provider has agreed to something.
pub(super) fn accepted(known: &mut Knowledge, id: CommandId, operation: Option<&String>, at: Timestamp) {
    let Some(Target::Instance(instance)) = known.commands.get(&id).map(Command::target) else { return };
    with_instance(known, &instance, |i| {
        let Some(under_way) = i.operation.filter(|operation| operation.id == id) else { return };
        // Who looks at what was agreed to before goes on with that.
        if under_way.kind != OperationKind::Observe {
            i.accepted = Some(Accepted { kind: under_way.kind, operation: operation.cloned(), since: at });
        }
    });
}

/// A provider's new catalog.
pub(super) fn see_catalog(known: &mut Knowledge, provider: &ProviderName, catalog: &Arc<Catalog>) {
    let catalog = with_withdrawn(known, provider, catalog);
    known.catalogs.insert(provider.clone(), catalog);
}

/// All catalogs with what was bought of them elsewhere and they have no more: its provider goes on with it. What runs here
/// and is not offered here any more could not be started again.
pub(crate) fn all_with_bought(
    known: &Knowledge,
    catalogs: &BTreeMap<ProviderName, Arc<Catalog>>,
) -> BTreeMap<ProviderName, Arc<Catalog>> {
    let merged = |(provider, catalog): (&ProviderName, &Arc<Catalog>)| {
        (provider.clone(), merged(known, provider, catalog, |offering| offering.actions.unrepeatable))
    };
    catalogs.iter().map(merged).collect()
}

/// A provider's catalog with what it has no more and was bought of before, so that nothing that is known of that is
/// lost.
pub(crate) fn with_withdrawn(known: &Knowledge, provider: &ProviderName, catalog: &Arc<Catalog>) -> Arc<Catalog> {
    merged(known, provider, catalog, |_| true)
}

fn merged(
    known: &Knowledge,
    provider: &ProviderName,
    catalog: &Arc<Catalog>,
    is_kept: impl Fn(&Offering) -> bool,
) -> Arc<Catalog> {
    let mut catalog = catalog.clone();
    if let Some(former) = known.catalogs.get(provider) {
        let of_services = known
            .services
            .values()
            .flat_map(|service| Knowledge::places(service).map(move |placement| (service, placement)));
        for (service, placement) in of_services.filter(|(_, placement)| placement.provider == *provider) {
            let offering = former.offerings.get(&placement.offering).filter(|offering| is_kept(offering));
            let Some(offering) = offering else { continue };
            let Some(plan) = offering.plans.iter().find(|plan| plan.name == placement.plan) else { continue };
            if service.instances.is_empty() && service.leftovers.is_empty() {
                continue;
            }
            let merged = Arc::make_mut(&mut catalog);
            match merged.offerings.get_mut(&placement.offering) {
                None => {
                    let kept = Offering { withdrawn: true, ..offering.clone() };
                    merged.offerings.insert(placement.offering.clone(), kept);
                }
                Some(offered) if !offered.plans.iter().any(|offered| offered.name == plan.name) => {
                    offered.plans.push(ostler_model::catalog::Plan { withdrawn: true, ..plan.clone() });
                }
                Some(_) => {}
            }
        }
    }
    catalog
}
