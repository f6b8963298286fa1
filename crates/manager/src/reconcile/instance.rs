//! One instance: what to do next to bring it to what is wanted of it.

use std::time::Duration;

use ostler_model::health::{Health, Symptom, SymptomKind};
use ostler_model::ids::{BindingId, InstanceId};
use ostler_model::time::{Span, Timestamp};

use crate::command::Command;
use crate::decide::{Draft, Reason};
use crate::event::Scope;
use crate::fact::Diagnosis;
use crate::knowledge::{Ending, Instance, OperationKind, Phase, ServiceKnowledge, Wanted};
use crate::overrides::whose;
use crate::reconcile::treat;

/// How often the holder of a process may start it again without asking: this many at once. Ten kills in a row must all
/// be answered at once; a program that cannot start burns the grant within a second and becomes a diagnosis.
const REFLEX_BURST: u32 = 16;
/// So many for an instance that has failed before: what cannot start must not try sixteen times after every pause.
const REFLEX_BURST_AFTER_FAILURE: u32 = 2;
/// One more each.
const REFLEX_REFILL: Span = Span::seconds(5);

/// What lives and does not answer is given no more than this to end, unless it holds data: callers wait meanwhile.
const GRACE_OF_THE_HUNG: Span = Span::seconds(2);

/// A patient probe that has been begun is waited for this much longer than it takes.
const PATIENCE_MORE: Duration = Duration::from_secs(1);

/// Who waits for a place among the repairs asks again this often, in case nobody thought of it.
const REPAIR_EVERY: i64 = 5_000_000; // microseconds

/// Wires before anything else (they keep callers right whatever is under way), then one step.
pub(super) fn look(draft: &mut Draft<'_>, service: &ServiceKnowledge, id: &InstanceId, instance: &Instance) {
    // First of all callers are cut off from what a move leaves.
    if super::failover::comes_first(draft.known, service) {
        return draft.withhold(Scope::Instance(id.clone()), Reason::StillUsed);
    }
    let wanted = draft.known.wanted(service, instance);
    let used = wanted != Wanted::Running
        && instance.phase == Phase::Running
        && (still_used(draft, service) || (draft.known.is_wanted(service) && service.is_needed_by_move(instance)));
    let serves = wanted == Wanted::Running || used;
    route(draft, service, id, instance, serves);
    watch(draft, id, instance, serves);
    let scope = || Scope::Instance(id.clone());
    if let Some(operation) = instance.operation {
        return draft.withhold(scope(), Reason::UnderWay(operation.kind));
    }
    if wanted == Wanted::Running && treat::concludes(draft, service, id, instance) {
        return;
    }
    if wanted != Wanted::AtRest
        && let Some((question, _)) = instance.held.as_ref().filter(|_| instance.waits_for_person())
    {
        draft.withhold(scope(), Reason::Held(question.clone()));
        // It runs, and is watched, whatever the question is: so it is looked at, however ostler came back.
        if instance.phase != Phase::Running || instance.observed {
            return;
        }
    }
    if draft.now < instance.not_before {
        draft.wake(instance.not_before, scope());
        return draft.withhold(scope(), Reason::BackingOff(instance.not_before));
    }
    if !instance.observed {
        if wanted == Wanted::Running && treat::moves_unseen(draft, service, id, instance) {
            return;
        }
        return draft.command(Command::Observe { instance: id.clone() });
    }
    match (wanted, instance.phase) {
        // It is started as what it is to be where it is, and not as what it was elsewhere.
        (Wanted::Running, Phase::Stopped | Phase::Running) if !service.launch_is_here() => {}
        (Wanted::Running, Phase::Declared) => make(draft, service, id, instance),
        (Wanted::Running, Phase::Stopped) => start(draft, service, id, instance),
        (Wanted::Running, Phase::Running) => keep_running(draft, service, id, instance),
        (Wanted::AtRest | Wanted::Gone(_), Phase::Running) if used => draft.withhold(scope(), Reason::StillUsed),
        (Wanted::AtRest | Wanted::Gone(_), Phase::Running) => {
            let drain = if instance.is_ready() { service.spec.stop.drain } else { Span::millis(0) };
            let grace = draft.known.stop_grace_of(service, instance);
            stop(draft, id, instance, drain, grace);
        }
        (Wanted::Gone(ending), Phase::Declared | Phase::Stopped) => {
            let instance = id.clone();
            draft.command(match ending {
                Ending::Delete => Command::Deprovision { instance },
                Ending::Release => Command::Release { instance },
            });
        }
        (Wanted::AtRest, Phase::Declared | Phase::Stopped) => {}
    }
}

/// Dependents first: what others still use goes on serving them until they have stopped.
fn still_used(draft: &Draft<'_>, service: &ServiceKnowledge) -> bool {
    !draft.known.is_wanted(service) && draft.known.is_used(&service.spec.name)
}

/// Callers are sent to what is ready. Where nothing of the service is ready, they stay with what was: the gateway lets
/// them wait for it, and the last instance is never withdrawn.
fn route(draft: &mut Draft<'_>, service: &ServiceKnowledge, id: &InstanceId, instance: &Instance, serves: bool) {
    let stopping = instance.operation.is_some_and(|operation| operation.kind == OperationKind::Stop);
    // Nothing is known yet of an instance that nothing is known against: ostler has only just come back.
    let trusted = instance.health.is_none() && instance.repair.is_none();
    let works = instance.is_ready() || (instance.was_ready && (trusted || service.ready == 0));
    // What a move left gets nothing any more, and what it makes nothing before all is there: those who used the old
    // one with credentials of the old one wait for theirs.
    let may_be = !instance.is_fenced()
        && service.may_be_routed()
        && (service.moving.is_none() || instance.routed || draft.known.consumers_are_bound(service));
    let open = serves && may_be && instance.phase == Phase::Running && works && !stopping;
    let address = instance.address().filter(|_| open);
    if address.is_some() != instance.routed {
        draft.command(Command::Route { instance: id.clone(), address });
        if service.moving.is_some() {
            draft.look(Scope::Service(service.spec.name.clone())); // with that a move ends
        }
    }
}

fn watch(draft: &mut Draft<'_>, id: &InstanceId, instance: &Instance, serves: bool) {
    let stopping = instance.operation.is_some_and(|operation| operation.kind == OperationKind::Stop);
    let alive = instance.phase == Phase::Running && instance.observed && serves && !stopping;
    match (instance.address().filter(|_| alive), instance.watch) {
        (Some(address), None) => draft.command(Command::Watch { instance: id.clone(), address }),
        (None, Some(_)) => draft.command(Command::Unwatch { instance: id.clone() }),
        (Some(_), Some(_)) | (None, None) => {}
    }
}

fn make(draft: &mut Draft<'_>, service: &ServiceKnowledge, id: &InstanceId, instance: &Instance) {
    if service.placement.is_none() {
        return;
    }
    // It was started once and has held data since: whoever cleared the way in passing did not mean to lose that.
    if instance.generation.is_some() && draft.known.is_durable(service) {
        return draft.hold_as_lost(id);
    }
    if too_many_repairs(draft, id, instance) || !treat::goes_on(draft, service, id, instance) {
        return;
    }
    // What never existed would be bought. What a move to there has begun is finished.
    let was_asked_for =
        instance.made_as.is_some() || instance.generation.is_some() || instance.attempts.number().is_some();
    let provider = service.placement.as_ref().map(|placement| &placement.provider);
    let forbidden = provider.and_then(|provider| draft.standing().forbids(provider));
    if let Some(found) = forbidden.filter(|_| !was_asked_for && service.moving.is_none()) {
        return draft.withhold(
            Scope::Instance(id.clone()),
            Reason::Overridden(format!("nothing new is bought there, by {}", whose(found))),
        );
    }
    draft.command(Command::Provision { instance: id.clone() });
}

/// Starts it: after its needs, not more repairs at once than allowed, and after the one-off command of its launch.
fn start(draft: &mut Draft<'_>, service: &ServiceKnowledge, id: &InstanceId, instance: &Instance) {
    let missing = draft.missing_needs(service);
    if !missing.is_empty() || service.launch().is_none() {
        return draft.withhold(Scope::Instance(id.clone()), Reason::WaitsFor(missing));
    }
    if too_many_repairs(draft, id, instance) || !treat::goes_on(draft, service, id, instance) {
        return;
    }
    let generation = service.generation_of(id.number());
    // The one-off command of an earlier launch was run before there was this one.
    if generation != service.generation || !service.before_is_due() {
        return draft.command(start_command(id, instance, generation));
    }
    run_before(draft, service, id);
}

/// One instance runs it for all of them, never two together. What fails is the launch's, so its pause and its question
/// are the same for each of them.
fn run_before(draft: &mut Draft<'_>, service: &ServiceKnowledge, id: &InstanceId) {
    let scope = || Scope::Instance(id.clone());
    if let Some(trouble) = service.before_failed() {
        let asked = |other: &Instance| {
            other
                .held
                .as_ref()
                .is_some_and(|(question, _)| other.waits_for_person() && *question == trouble.failure.detail)
        };
        if service.instances.values().any(|other| asked(other)) {
            return draft.withhold(scope(), Reason::Held(trouble.failure.detail.clone()));
        }
        if draft.now < trouble.not_before {
            draft.wake(trouble.not_before, scope());
            return draft.withhold(scope(), Reason::BackingOff(trouble.not_before));
        }
    }
    let runs = |other: &Instance| other.operation.is_some_and(|operation| operation.kind == OperationKind::Before);
    if service.instances.values().any(|other| runs(other)) {
        return draft.withhold(scope(), Reason::UnderWay(OperationKind::Before));
    }
    let is_next = |number: u32, other: &Instance| {
        !other.retired && other.phase == Phase::Stopped && service.generation_of(number) == service.generation
    };
    match service.instances.iter().find(|(number, other)| is_next(**number, other)) {
        Some((number, first)) if *number != id.number() => {
            let reason = match (&first.held, first.operation) {
                (Some((question, _)), _) => Reason::Held(question.clone()),
                (None, Some(operation)) => Reason::UnderWay(operation.kind),
                (None, None) if draft.now < first.not_before => Reason::BackingOff(first.not_before),
                (None, None) => Reason::OthersFirst,
            };
            draft.withhold(scope(), reason);
        }
        _ => draft.command(Command::Before { instance: id.clone(), generation: service.generation }),
    }
}

fn start_command(id: &InstanceId, instance: &Instance, generation: u32) -> Command {
    let reflex_burst = if instance.failures > 1 { REFLEX_BURST_AFTER_FAILURE } else { REFLEX_BURST };
    let entrust = instance.phase == Phase::Running;
    Command::Start { instance: id.clone(), generation, reflex_burst, reflex_refill: REFLEX_REFILL, entrust }
}

/// Whether so many others are under repair that this one's may not begin yet; says so, and asks again later.
fn too_many_repairs(draft: &mut Draft<'_>, id: &InstanceId, instance: &Instance) -> bool {
    let most = draft.known.repairs_at_once();
    let service = draft.known.services.get(id.service());
    let held = service.and_then(|service| service.held_back(id, instance, draft.standing())).is_some();
    let begins = instance.repair.is_some() && !instance.is_under_repair() && !held;
    let too_many = begins && draft.known.repairing.len() >= most;
    if too_many {
        let scope = Scope::Instance(id.clone());
        // On the beat, so that however often it is looked at, it asks only once for each.
        let next = draft.now.0.div_euclid(REPAIR_EVERY).saturating_add(1).saturating_mul(REPAIR_EVERY);
        draft.wake(Timestamp(next), scope.clone());
        draft.withhold(scope, Reason::RepairsAtOnce(most));
    }
    too_many
}

/// What a look at a live instance says of it.
enum Verdict {
    Fine,
    /// Too early to say anything before then.
    Wait(Timestamp),
    Sick(Diagnosis),
}

fn keep_running(draft: &mut Draft<'_>, service: &ServiceKnowledge, id: &InstanceId, instance: &Instance) {
    let scope = || Scope::Instance(id.clone());
    let can_be_restarted = draft.known.can_be_restarted(service);
    if service.outdated.contains(&id.number()) {
        return match (can_be_restarted, service.launch()) {
            (true, _) => replace(draft, service, id, instance),
            (false, Some(_)) => {
                let generation = service.generation_of(id.number());
                draft.command(Command::Update { instance: id.clone(), generation });
            }
            (false, None) => {}
        };
    }
    if !instance.access_left.is_empty() && instance.access.is_made() {
        match service.binding_pause(draft.now) {
            None => return tidy_access(draft, id, instance),
            Some(until) => draft.wake(until, scope()), // what else there is to do does not wait for that
        }
    }
    if let Some(renew_at) = instance.access_renew_at.filter(|renew_at| draft.now < *renew_at) {
        draft.wake(renew_at, scope());
    }
    // Whoever holds the process may be a new one: it has to be told what to start when the process dies. And what ostler
    // looks at it with may have to be renewed.
    if (!instance.entrusted || instance.access_is_due(draft.now))
        && let Some(generation) = instance.generation
    {
        return draft.command(start_command(id, instance, generation));
    }
    match verdict(draft, service, instance) {
        Verdict::Fine => {}
        Verdict::Wait(until) => draft.wake(until, scope()),
        Verdict::Sick(diagnosis) => {
            let judged = instance.repair.as_ref().and_then(|repair| repair.judged);
            if judged.is_none() || judged != instance.running.map(|running| running.since) {
                // One more failure is counted before anything is done, so that the pause comes before the remedy.
                let because = format!("it {}", diagnosis.in_words());
                draft.begin_repair(id, diagnosis);
                draft.back_off(id, service, instance, &because);
                return draft.look(scope());
            }
            // Its provider has to heal it, and may have moved it: it is looked at again, with growing pauses.
            if !can_be_restarted {
                return treat::elsewhere(draft, service, id, instance, &diagnosis);
            }
            // Where what it needs is not there, it is a victim: stopped, it could not even be started again.
            let missing = draft.missing_needs(service);
            if !missing.is_empty() {
                return draft.withhold(scope(), Reason::WaitsFor(missing));
            }
            if !too_many_repairs(draft, id, instance) && treat::goes_on(draft, service, id, instance) {
                let full = draft.known.stop_grace(service);
                let grace = if draft.known.is_durable(service) { full } else { full.min(GRACE_OF_THE_HUNG) };
                stop(draft, id, instance, Span::millis(0), grace);
            }
        }
    }
}

/// Ends the credentials that ostler itself asked for earlier and does not use.
fn tidy_access(draft: &mut Draft<'_>, id: &InstanceId, instance: &Instance) {
    let me = id.service().clone();
    let binding = BindingId { consumer: me.clone(), need: me };
    let left = instance.access_left.iter().copied();
    let rounds = left.filter(|round| Some(*round) != instance.access_used).collect();
    draft.command(Command::Tidy { binding, instance: id.clone(), rounds });
}

fn verdict(draft: &Draft<'_>, service: &ServiceKnowledge, instance: &Instance) -> Verdict {
    match &instance.health {
        Some(Health::Ready | Health::Shallow(_)) => Verdict::Fine,
        // Whether it hangs or is only slow is known once somebody has waited for longer.
        Some(Health::Unready(symptom)) if instance.proven && symptom.kind == SymptomKind::TimedOut => {
            let patience = draft.known.probe_policy(service).map_or(Duration::ZERO, |policy| policy.patience());
            let deadline = instance.health_since + patience + PATIENCE_MORE;
            match draft.now < deadline {
                true => Verdict::Wait(deadline),
                false => Verdict::Sick(Diagnosis::Unresponsive { symptom: symptom.clone() }),
            }
        }
        Some(Health::Unready(symptom)) if instance.proven => {
            Verdict::Sick(Diagnosis::Unresponsive { symptom: symptom.clone() })
        }
        // It is still starting, as far as anybody can tell, until its time is over.
        Some(Health::Unready(symptom)) => starting(draft, service, instance, None, Some(symptom)),
        None => starting(draft, service, instance, Some(instance.health_since), None),
    }
}

/// The verdict on an instance whose process has not been ready yet. `unseen_since` is when ostler itself began to look.
fn starting(
    draft: &Draft<'_>,
    service: &ServiceKnowledge,
    instance: &Instance,
    unseen_since: Option<Timestamp>,
    symptom: Option<&Symptom>,
) -> Verdict {
    let (Some(running), Some(policy)) = (instance.running, draft.known.probe_policy(service)) else {
        return Verdict::Fine;
    };
    // A process cannot be younger than what is known of it, but says so when the clock was set back since.
    let since = running.since.min(instance.since);
    let deadline = since.max(unseen_since.unwrap_or(since)) + policy.start_within.get();
    if draft.now < deadline {
        Verdict::Wait(deadline)
    } else if instance.unprobed.is_some() {
        Verdict::Fine // nothing is known against it: that its probe cannot be made is not its fault
    } else {
        Verdict::Sick(Diagnosis::NeverReady { symptom: symptom.cloned() })
    }
}

/// Stops an instance that runs from an old launch, while enough others of its service are ready.
fn replace(draft: &mut Draft<'_>, service: &ServiceKnowledge, id: &InstanceId, instance: &Instance) {
    let scope = Scope::Instance(id.clone());
    let missing = draft.missing_needs(service);
    if !missing.is_empty() {
        return draft.withhold(scope, Reason::WaitsFor(missing));
    }
    // One that was ready and of which nothing is known since ostler came back counts as serving, until it is known not
    // to: otherwise all of them would be stopped together.
    let unseen = instance.was_ready && instance.health.is_none() && instance.repair.is_none();
    let serving = instance.is_ready()
        || match verdict(draft, service, instance) {
            Verdict::Wait(until) if unseen => {
                draft.wake(until, scope.clone());
                true
            }
            Verdict::Fine | Verdict::Wait(_) | Verdict::Sick(_) => false,
        };
    let away = service.active.saturating_sub(service.ready);
    if serving && away >= service.replaced_at_once() {
        return draft.withhold(scope, Reason::OthersFirst);
    }
    if !too_many_repairs(draft, id, instance) {
        stop(draft, id, instance, service.spec.stop.drain, draft.known.stop_grace(service));
    }
}

/// Callers and probes leave it before it is stopped.
fn stop(draft: &mut Draft<'_>, id: &InstanceId, instance: &Instance, drain: Span, grace: Span) {
    // A look has sent callers, or its watch, to it a moment ago at most; these are taken back all the same.
    let routed = draft.decision.commands.iter().rev().find_map(|(_, command)| match command {
        Command::Route { address, .. } => Some(address.is_some()),
        _ => None,
    });
    // Of what a move left, callers are cut off by the fence; if it is stopped before, that comes first.
    let moving = draft.known.services.get(id.service()).and_then(|service| service.moving.as_ref());
    let unfenced = instance.is_fenced() && moving.is_some_and(|moving| !moving.fenced);
    if routed.unwrap_or(instance.routed || unfenced) {
        draft.command(Command::Route { instance: id.clone(), address: None });
    }
    let watched = draft.decision.commands.iter().rev().find_map(|(_, command)| match command {
        Command::Watch { .. } => Some(true),
        Command::Unwatch { .. } => Some(false),
        _ => None,
    });
    if watched.unwrap_or(instance.watch.is_some()) {
        draft.command(Command::Unwatch { instance: id.clone() });
    }
    draft.command(Command::Stop { instance: id.clone(), drain, grace });
}
