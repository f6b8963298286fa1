//! What a fact says of drills.

use std::time::Duration;

use ostler_model::estate::drills::Fault;
use ostler_model::health::Health;
use ostler_model::ids::{CommandId, InstanceId, ServiceName};
use ostler_model::outcome::{BackupMade, Failure, FailureClass};
use ostler_model::time::Timestamp;

use super::index::{with_instance, with_service};
use super::outcome;
use crate::backoff;
use crate::binding::{Binding, BindingState};
use crate::command::{Command, Outcome};
use crate::drill::{BEGUN_MAX, Drill, DrillResult, Drilling, Hit, Measured, Restored, Stage, Verdict};
use crate::fact::FactKind;
use crate::knowledge::Knowledge;

/// What has not recovered from a drill when that is over is not counted for so long: after that it is a failure like any
/// other.
const AFTERMATH: Duration = Duration::from_secs(300);

pub(super) fn begin(known: &mut Knowledge, drill: &Drill, at: Timestamp) {
    known.last_drill = known.last_drill.max(drill.number);
    for hit in &drill.hits {
        with_instance(known, &hit.instance, |instance| instance.drilled = true);
    }
    for name in known.touched_by(drill) {
        if let Some(level) = known.services.get_mut(&name).and_then(|service| service.level.as_mut()) {
            level.drill_begins(at);
        }
    }
    if let Some(service) = known.services.get_mut(&drill.service) {
        let drilled = service.drilled.get_or_insert_default();
        drilled.begun.push_back(at);
        if drilled.begun.len() > BEGUN_MAX {
            drilled.begun.pop_front();
        }
        drilled.last = Some(drill.fault);
    }
    known.drill = Some(Box::new(Drilling::new(drill.clone(), at)));
}

pub(super) fn end(known: &mut Knowledge, result: &DrillResult, at: Timestamp) {
    if known.drill.as_ref().is_some_and(|drilling| drilling.drill.number == result.drill.number) {
        known.drill = None;
    }
    let drill = &result.drill;
    for hit in &drill.hits {
        with_instance(known, &hit.instance, |instance| instance.drilled &= !instance.is_ready());
    }
    for name in known.touched_by(drill) {
        let Some(service) = known.services.get_mut(&name) else { continue };
        let over = if service.ready > 0 { at } else { at + AFTERMATH };
        if let Some(level) = &mut service.level {
            level.drill_ends(over);
        }
    }
    if let Some(service) = known.services.get_mut(&drill.service) {
        let drilled = service.drilled.get_or_insert_default();
        drilled.failed |= result.verdict.is_failure();
        drilled.failed &= result.verdict != Verdict::Proven;
        drilled.results.insert(drill.fault, result.clone());
    }
    outcome::remove_if_gone(known, &drill.service);
}

/// An order of a drill is given.
pub(super) fn issue(known: &mut Knowledge, id: CommandId, command: &Command) {
    let Some(drilling) = &mut known.drill else { return };
    match command {
        Command::Fault { .. } => {}
        Command::Undo { .. } => drilling.stage = Stage::Undoing,
        _ => return,
    }
    // What was still being caused is undone in its place: whoever does it ends the other first.
    let former = drilling.operation.replace(id);
    if let Some(former) = former {
        known.commands.remove(&former);
    }
    known.commands.insert(id, command.clone());
}

/// What came of an order of a drill.
pub(super) fn ended(known: &mut Knowledge, id: CommandId, command: &Command, outcome: &Outcome, at: Timestamp) {
    let Some(drilling) = known.drill.as_mut().filter(|drilling| drilling.operation == Some(id)) else { return };
    drilling.operation = None;
    match (command, outcome) {
        (Command::Fault { .. }, Outcome::Caused { at: caused }) => {
            drilling.caused = Some((*caused).min(at));
            drilling.stage = Stage::Caused;
        }
        (Command::Fault { .. }, Outcome::Failed(failure)) => {
            drilling.not_caused = Some(failure.detail.clone());
            drilling.stage = Stage::Caused;
        }
        (Command::Undo { .. }, Outcome::Undone(measured)) => {
            let restored = drilling.measured.restored.take();
            drilling.measured = Measured { restored, ..(**measured).clone() };
            drilling.stage = Stage::Undone;
            drilling.undone = Some(at);
            make_credentials_again(known);
        }
        (Command::Undo { .. }, Outcome::Failed(_)) => {
            drilling.failures = drilling.failures.saturating_add(1);
            drilling.not_before = at + backoff::pause(drilling.failures);
        }
        _ => {}
    }
    look_whether_healed(known, at);
}

/// Credentials that were ended, and not made anew since, are: by whoever makes credentials, before anything else is done
/// with them, and also after a restart.
fn make_credentials_again(known: &mut Knowledge) {
    let Some(drilling) = known.drill.as_ref().filter(|drilling| drilling.healed.is_none()) else { return };
    let Some(id) = drilling.drill.binding().cloned() else { return };
    with_service(known, &id.consumer, |consumer| {
        if let Some(binding) = consumer.bindings.get_mut(&id.need)
            && binding.state == BindingState::Made
        {
            binding.state = BindingState::Doubtful;
        }
    });
}

/// A backup was restored on the side, or could not be.
pub(super) fn restored(
    known: &mut Knowledge,
    service: &ServiceName,
    backup: &BackupMade,
    outcome: &Outcome,
    at: Timestamp,
) {
    let Some(drilling) = known.drill.as_mut().filter(|drilling| drilling.is_in_force()) else { return };
    if drilling.drill.service != *service || drilling.drill.backup() != Some(&backup.name) {
        return;
    }
    match outcome {
        Outcome::Proven(proof) => {
            drilling.caused.get_or_insert(drilling.began);
            drilling.measured.restored = Some(Restored::new(&backup.name, proof));
            drilling.healed = Some(at);
        }
        Outcome::Unusable { why } => drilling.not_restored = Some(why.clone()),
        Outcome::Failed(Failure { class: FailureClass::Interrupted, .. }) => {} // it is begun anew
        Outcome::Failed(failure) => drilling.not_caused = Some(failure.detail.clone()),
        _ => {}
    }
}

/// After each fact: what it shows of the drill that is under way.
pub(super) fn observe(known: &mut Knowledge, kind: &FactKind, at: Timestamp) {
    if let FactKind::HealthChanged { instance, health: Health::Ready | Health::Shallow(_) } = kind {
        recover(known, instance);
    }
    let provider = known.drilled_provider().cloned();
    let Some(drilling) = &mut known.drill else { return };
    drilling.see(kind, provider.as_ref(), at);
    if let Some(why) = interferes(&drilling.drill, kind)
        && drilling.stage != Stage::Undone
    {
        drilling.cut_short.get_or_insert_with(|| why.to_owned());
    }
    look_whether_healed(known, at);
}

/// Ostler comes back: what it had caused, or may have, is to be undone.
pub(super) fn resume(known: &mut Knowledge) {
    let Some(drilling) = &mut known.drill else { return };
    drilling.operation = None;
    drilling.not_before = Timestamp::default();
    if drilling.stage != Stage::Undone {
        drilling.stage = Stage::Undoing;
        drilling.cut_short.get_or_insert_with(|| "ostler itself was interrupted".to_owned());
    }
}

/// What was drilled works again after its drill was over.
fn recover(known: &mut Knowledge, id: &InstanceId) {
    let goes_on = known.drill.as_ref().is_some_and(|drilling| drilling.drill.hits(id));
    if !goes_on && known.is_drilled(id) {
        with_instance(known, id, |instance| instance.drilled = false);
    }
}

fn look_whether_healed(known: &mut Knowledge, at: Timestamp) {
    let Some(drilling) = known.drill.as_ref() else { return };
    let drill = &drilling.drill;
    let is_whole = |name: &ServiceName| known.services.get(name).is_some_and(|service| service.is_whole());
    let whole = is_whole(&drill.service) && is_whole(drill.suffers());
    let is_sound = |hit: &Hit| known.instance(&hit.instance).is_some_and(|i| i.health == Some(Health::Ready));
    let sound = whole && drill.hits.iter().all(is_sound);
    // What is slow answers now and then: it is healed when nothing runs any more to which the fault is done.
    let goes_on = |hit: &Hit| {
        // What a move has left behind is nobody's service any more.
        let instance = known.instance(&hit.instance).filter(|instance| !instance.is_fenced());
        let running = instance.and_then(|instance| instance.running);
        running.is_some_and(|running| (running.pid, running.since) == (hit.running.pid, hit.running.since))
    };
    let healed = match drill.fault {
        // Its backup's end is what tells.
        Fault::BackupRestore => return,
        Fault::FillDisk => drilling.stage == Stage::Undone && sound,
        _ if !drilling.is_in_force() => return,
        Fault::WrongCredentials => sound && is_renewed(known, drilling),
        Fault::Kill | Fault::Hang | Fault::Slow | Fault::Refuse | Fault::ProviderOutage => {
            whole && !drill.hits.iter().any(goes_on)
        }
    };
    let healed = healed && drilling.noticed.is_some() && drilling.caused.is_some();
    if let Some(drilling) = &mut known.drill {
        drilling.healed = if healed { drilling.healed.or(Some(at)) } else { None };
    }
}

/// Whether the credentials that were ended have been made anew.
fn is_renewed(known: &Knowledge, drilling: &Drilling) -> bool {
    let Some(id) = drilling.drill.binding() else { return false };
    let binding = known.services.get(&id.consumer).and_then(|consumer| consumer.bindings.get(&id.need));
    let since =
        |binding: &Binding| binding.doubted.zip(drilling.caused).is_some_and(|(doubted, caused)| doubted >= caused);
    binding.is_some_and(|binding| binding.state == BindingState::Made && since(binding))
}

/// Why nothing can be concluded any more: a person did something else to what is drilled.
fn interferes(drill: &Drill, kind: &FactKind) -> Option<&'static str> {
    match kind {
        FactKind::DownAsked => Some("everything was stopped"),
        FactKind::EstateDeclared { .. } => Some("another file was given"),
        FactKind::RestartAsked { service }
        | FactKind::ScaleAsked { service, .. }
        | FactKind::DeleteAsked { service }
        | FactKind::ReleaseAsked { service }
        | FactKind::SaleEnded { service }
        | FactKind::RestoreAsked { service, .. }
            if service == &drill.service || service == drill.suffers() =>
        {
            Some("a person did something else to the service")
        }
        _ => None,
    }
}
