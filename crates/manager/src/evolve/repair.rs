//! Troubles and what is done against them: what was concluded, tried, and what came of it.

use std::time::Duration;

use ostler_model::ids::{BindingId, InstanceId, ServiceName};
use ostler_model::time::Timestamp;

use super::index::{with_instance, with_service};
use crate::backoff::FAILURES_TOLD;
use crate::brake::Allowed;
use crate::diagnosis::{Cause, Finding};
use crate::fact::{Diagnosis, FactKind};
use crate::knowledge::{BindingState, Instance, Knowledge, Rejected, Repair};
use crate::remedy::{Ailment, Remedy};

/// After its own view was the likelier fault, ostler looks for so long before it does anything.
const SEES_AGAIN: Duration = Duration::from_secs(10);

/// Makes a fact about a trouble true. Other facts change nothing here.
pub(super) fn take(known: &mut Knowledge, kind: &FactKind, at: Timestamp) {
    match kind {
        FactKind::RepairBegan { instance, diagnosis } => {
            let service = known.services.get(instance.service());
            let victim = service.is_some_and(|service| !known.missing_needs(service).is_empty());
            with_instance(known, instance, |i| begin(i, diagnosis, victim, at));
        }
        FactKind::Concluded { instance, finding } => with_instance(known, instance, |i| conclude(i, finding, at)),
        FactKind::RemedyChosen { instance, remedy, forced, .. } => {
            choose(known, instance, *remedy, at);
            if let Some(id) = forced {
                super::overrides::used(known, *id, instance);
            }
        }
        FactKind::LaunchRejected { service, generation, why } => reject(known, service, *generation, why, at),
        FactKind::CredentialsDoubted { binding } => doubt(known, binding, at),
        FactKind::RepairEnded { instance } => end(known, instance, at),
        FactKind::BackedOff { instance, until, failures } => back_off(known, instance, *until, *failures),
        FactKind::Held { instance, question, answer, goes_on } => with_instance(known, instance, |i| {
            i.held = Some((question.clone(), answer.clone()));
            i.goes_on = *goes_on;
            i.told_question = Some(question.clone());
            if let Some(repair) = i.repair.as_mut().filter(|_| !goes_on) {
                repair.active = false;
                repair.trying = None;
            }
        }),
        _ => {}
    }
}

fn begin(instance: &mut Instance, diagnosis: &Diagnosis, victim: bool, at: Timestamp) {
    let judged = instance.running.map(|running| running.since).filter(|_| judges_a_live_process(diagnosis));
    // What is under way when a diagnosis is made (a reflex, say) is not the manager's repair.
    let mut repair = instance.repair.take().unwrap_or_else(|| Repair::new(diagnosis.clone(), at));
    repair.diagnosis = diagnosis.clone();
    repair.judged = judged;
    repair.victim = victim;
    repair.unseen = false;
    instance.repair = Some(repair);
}

fn conclude(instance: &mut Instance, finding: &Finding, at: Timestamp) {
    let Some(repair) = &mut instance.repair else { return };
    let former = repair.finding.replace(Box::new(finding.clone()));
    repair.victim = matches!(finding.cause, Cause::Need(_));
    let former = former.map(|former| former.cause);
    if former == Some(Cause::OwnView) && finding.cause != Cause::OwnView {
        // Ostler sees again: what it sees now may be what is only coming back.
        instance.not_before = instance.not_before.max(at + SEES_AGAIN);
    }
    let was_victim = matches!(former, Some(Cause::Need(_)));
    if was_victim && !repair.victim {
        // What it failed while its needs did says nothing about itself: it is tried at once, as if for the first time.
        instance.failures = 0;
        instance.not_before = instance.not_before.min(at);
        repair.trying = None;
        repair.tried.clear();
    }
}

fn choose(known: &mut Knowledge, id: &InstanceId, remedy: Remedy, at: Timestamp) {
    if remedy.acts() {
        let allowed = Allowed::of(known.instances, known.repairs_at_once());
        known.brake.begin(allowed, at);
    }
    if remedy == Remedy::FailOver {
        let repair = known.instance(id).and_then(|instance| instance.repair.as_ref());
        let ailment = repair.and_then(|repair| repair.finding.as_ref()?.cause.ailment());
        with_service(known, id.service(), |service| service.moved_for = ailment);
    }
    with_instance(known, id, |instance| {
        let Some(repair) = &mut instance.repair else { return };
        if remedy == Remedy::Ask {
            repair.asked = Some(at);
            *repair.tried.entry(remedy).or_default() += 1; // whether it helped is seen when the trouble is over
        } else {
            repair.trying = Some((remedy, at));
        }
    });
}

/// It works again. That people have not been told is counted until they are.
fn end(known: &mut Knowledge, id: &InstanceId, at: Timestamp) {
    if let Some(repair) = known.instance(id).and_then(|instance| instance.repair.as_ref()) {
        let ailment = repair.finding.as_ref().and_then(|finding| finding.cause.ailment());
        let (remedy, since) = repair.trying.unwrap_or(match repair.diagnosis {
            Diagnosis::DiedAndRestarted { .. } => (Remedy::Restart, repair.began), // by reflex
            _ => (Remedy::Wait, repair.began),
        });
        let asked = repair.tried.contains_key(&Remedy::Ask);
        learn(known, ailment, remedy, Some(at.since(since)));
        if asked {
            learn(known, ailment, Remedy::Ask, Some(at.since(since)));
        }
    }
    with_instance(known, id, |instance| {
        instance.repair = None;
        instance.told_failed = false;
        instance.not_before = Timestamp::default();
        if instance.goes_on {
            instance.held = None;
            instance.goes_on = false;
        }
    });
    with_service(known, id.service(), |service| service.healed.untold = service.healed.untold.saturating_add(1));
}

/// One more failure: what was tried was tried in vain.
fn back_off(known: &mut Knowledge, id: &InstanceId, until: Timestamp, failures: u32) {
    let tried = known.instance(id).and_then(|instance| {
        let repair = instance.repair.as_ref()?;
        Some((repair.finding.as_ref().and_then(|finding| finding.cause.ailment()), repair.remedy()?))
    });
    if let Some((ailment, remedy)) = tried {
        learn(known, ailment, remedy, None);
    }
    with_instance(known, id, |instance| {
        instance.failures = failures;
        instance.not_before = until;
        instance.ready_for = Duration::ZERO;
        instance.told_failed |= failures >= FAILURES_TOLD;
        if let Some(repair) = &mut instance.repair {
            repair.active = false;
            if let Some((remedy, _)) = repair.trying.take() {
                let times = repair.tried.entry(remedy).or_default();
                *times = times.saturating_add(1);
            }
        }
    });
}

/// A move is over: it took so long, or was taken back.
pub(super) fn moved(known: &mut Knowledge, service: &ServiceName, took: Option<Duration>) {
    let ailment = known.services.get_mut(service).and_then(|service| service.moved_for.take());
    learn(known, ailment, Remedy::FailOver, took);
}

fn learn(known: &mut Knowledge, ailment: Option<Ailment>, remedy: Remedy, helped: Option<Duration>) {
    let Some(ailment) = ailment else { return };
    let odds = known.learned.entry(ailment).or_default().entry(remedy).or_default();
    match helped {
        Some(took) => odds.help(took),
        None => odds.fail(),
    }
}

/// The change is not used any more: what was used before it takes its place.
fn reject(known: &mut Knowledge, name: &ServiceName, generation: u32, why: &str, at: Timestamp) {
    with_service(known, name, |service| {
        let Some(changed) = service.changed.take().filter(|changed| changed.generation == generation) else { return };
        let launches = (service.launches.get(&generation), service.launches.get(&changed.former));
        if let (Some(launch), Some(instead)) = launches {
            let (launch, instead) = (launch.clone(), instead.clone());
            service.rejected =
                Some(Box::new(Rejected { at, launch, instead, what: changed.what, why: why.to_owned() }));
        }
    });
}

/// Credentials that are rejected are made again, or others in their place where each ask makes new ones.
fn doubt(known: &mut Knowledge, id: &BindingId, at: Timestamp) {
    let anew = known.services.get(&id.need).is_some_and(|need| known.is_unrepeatable(need));
    if id.consumer == id.need {
        let numbers: Vec<u32> =
            known.services.get(&id.need).into_iter().flat_map(|service| service.instances.keys().copied()).collect();
        for number in numbers {
            with_instance(known, &InstanceId::new(id.need.clone(), number), |instance| {
                if instance.access_used.is_some() {
                    instance.access_renew_at = Some(at);
                    instance.access_put_off = false;
                }
            });
        }
        return;
    }
    with_service(known, &id.consumer, |service| {
        let Some(binding) = service.bindings.get_mut(&id.need) else { return };
        binding.doubted = Some(at);
        binding.verified = None; // what was found with them is no evidence against those that come
        if anew {
            binding.renew_at = Some(at);
            binding.put_off = false;
        } else if binding.state == BindingState::Made {
            binding.state = BindingState::Doubtful;
        }
    });
}

/// Whether a diagnosis says of a live process that it does not do: only such a verdict ends the process.
fn judges_a_live_process(diagnosis: &Diagnosis) -> bool {
    match diagnosis {
        Diagnosis::Unresponsive { .. } | Diagnosis::NeverReady { .. } => true,
        Diagnosis::Died { .. }
        | Diagnosis::DiedAndRestarted { .. }
        | Diagnosis::CannotStart { .. }
        | Diagnosis::FoundDead { .. } => false,
    }
}
