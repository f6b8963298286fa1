//! What a fact says of drills.

use std::time::Duration;

use ostler_model::health::Health;
use ostler_model::ids::{CommandId, InstanceId};
use ostler_model::time::Timestamp;

use super::index::with_instance;
use super::outcome;
use crate::backoff;
use crate::command::{Command, Outcome};
use crate::drill::{BEGUN_MAX, Drill, DrillResult, Drilling, Hit, Stage, Verdict};
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
            drilling.measured = (**measured).clone();
            drilling.stage = Stage::Undone;
        }
        (Command::Undo { .. }, Outcome::Failed(_)) => {
            drilling.failures = drilling.failures.saturating_add(1);
            drilling.not_before = at + backoff::pause(drilling.failures);
        }
        _ => {}
    }
    look_whether_healed(known, at);
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
    let Some(drilling) = known.drill.as_ref().filter(|drilling| drilling.is_in_force()) else { return };
    let whole = known.services.get(&drilling.drill.service).is_some_and(|service| service.is_whole());
    // What is slow answers now and then: it is healed when nothing runs any more to which the fault is done.
    let goes_on = |hit: &Hit| {
        let running = known.instance(&hit.instance).and_then(|instance| instance.running);
        running.is_some_and(|running| (running.pid, running.since) == (hit.running.pid, hit.running.since))
    };
    let healed =
        whole && !drilling.drill.hits.iter().any(goes_on) && drilling.noticed.is_some() && drilling.caused.is_some();
    if let Some(drilling) = &mut known.drill {
        drilling.healed = if healed { drilling.healed.or(Some(at)) } else { None };
    }
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
            if *service == drill.service =>
        {
            Some("a person did something else to the service")
        }
        _ => None,
    }
}
