//! Drills: the one under way is followed to its end, and the next one begins when it is due.

use std::time::Duration;

use ostler_model::estate::Occasion;
use ostler_model::estate::drills::{Drills, Fault, RESTORE_MAX};
use ostler_model::time::Span;

use crate::command::Command;
use crate::decide::{Aimed, Draft, drill_hits};
use crate::drill::{By, Drilled, Drilling, Stage};
use crate::event::Scope;
use crate::fact::FactKind;
use crate::knowledge::{Knowledge, Origin, ServiceKnowledge};

/// The schedule waits until everything has been well for so long: what has just come up may still be settling.
const CALM_FOR: Duration = Duration::from_secs(600);
/// Where something else stands in the way of the schedule, it is looked at again after this time.
const LOOK_AGAIN: Duration = Duration::from_secs(60);

/// Of whatever is drilled: follows the drill. True if something was decided.
pub(super) fn follow(draft: &mut Draft<'_>, service: &ServiceKnowledge) -> bool {
    let known = draft.known;
    let Some(drilling) = known.drill.as_deref().filter(|d| d.drill.service == service.spec.name) else { return false };
    let scope = || Scope::Service(service.spec.name.clone());
    match drilling.stage {
        Stage::Causing | Stage::Caused if drilling.is_over(draft.now) => {
            // Whatever is still being caused: its undoing comes after it, or in its place.
            undo(draft, drilling);
            true
        }
        Stage::Causing | Stage::Caused => {
            let seen = drilling.full_until().filter(|until| draft.now < *until);
            draft.wake(seen.unwrap_or(drilling.drill.until).min(drilling.drill.until), scope());
            false
        }
        Stage::Undoing if drilling.operation.is_some() => false,
        Stage::Undoing if draft.now < drilling.not_before => {
            draft.wake(drilling.not_before, scope());
            false
        }
        Stage::Undoing => {
            undo(draft, drilling);
            true
        }
        Stage::Undone if drilling.recovers(draft.now) => {
            draft.wake(drilling.drill.until, scope());
            false
        }
        Stage::Undone => {
            end(draft, drilling);
            true
        }
    }
}

fn undo(draft: &mut Draft<'_>, drilling: &Drilling) {
    draft.command(Command::Undo { drill: Box::new(drilling.drill.clone()) });
}

fn end(draft: &mut Draft<'_>, drilling: &Drilling) {
    let result = drilling.result(draft.now);
    let drill = &drilling.drill;
    if result.verdict.is_failure() {
        let words = result.verdict.in_words(drilling.drill.fault);
        let message = format!(
            "the drill `{}` of {} {words}; {}no more are made by the schedule until a person's drill of it is proven",
            drill.fault,
            drill.service,
            if drill.fault == Fault::BackupRestore { "" } else { "the fault is undone, and " }
        );
        draft.tell(&drill.service, Occasion::Failed, message);
    }
    draft.fact(FactKind::DrillEnded { result: Box::new(result) });
    draft.look(Scope::Service(drill.service.clone()));
}

/// Begins the drill that is due, if all is well and a window has room for it.
pub(super) fn schedule(draft: &mut Draft<'_>, service: &ServiceKnowledge) {
    let (known, now) = (draft.known, draft.now);
    let name = &service.spec.name;
    let Some(declared) = known.estate.as_ref().and_then(|estate| estate.drill.as_deref()) else { return };
    let scope = || Scope::Service(name.clone());
    let is_meant = declared.schedules(name) && service.origin == Origin::Declared && known.is_wanted(service);
    let Some(every) = declared.every.filter(|_| is_meant) else { return };
    let nothing = Drilled::default();
    let drilled = service.drilled.as_deref().unwrap_or(&nothing);
    if drilled.failed {
        return; // until a person has looked
    }
    if draft.standing().freezes(name).is_some() {
        return; // and at its end it is looked at again
    }
    if let Some(due) = drilled.begun.back().map(|last| *last + every.get()).filter(|due| now < *due) {
        return draft.wake(due, scope());
    }
    if !declared.has_room(now, declared.lasts.get()) || is_used_up(declared, drilled, now) {
        if let Some(next) = declared.calendar.next(now) {
            draft.wake(next, scope());
        }
        return;
    }
    match next_fault(draft, service, declared, drilled) {
        Some((fault, aimed)) if is_calm(known, now) => {
            let lasts = match fault {
                Fault::BackupRestore => Span::seconds(declared.room(now).as_secs()).min(RESTORE_MAX),
                _ => declared.lasts,
            };
            draft.begin_drill(name, fault, aimed, lasts, By::Schedule);
        }
        _ => draft.wake(now + LOOK_AGAIN, scope()),
    }
}

/// Whether the window that is open now has had as many drills of the service as it may.
fn is_used_up(declared: &Drills, drilled: &Drilled, now: ostler_model::time::Timestamp) -> bool {
    let Some(opened) = declared.calendar.opened(now) else { return true };
    drilled.begun.iter().filter(|begun| **begun >= opened).count() >= declared.at_most as usize
}

/// The first fault after the last one that can be caused now.
fn next_fault(
    draft: &Draft<'_>,
    service: &ServiceKnowledge,
    declared: &Drills,
    drilled: &Drilled,
) -> Option<(Fault, Aimed)> {
    let last = drilled.last.and_then(|last| declared.faults.iter().position(|fault| *fault == last));
    let first = last.map_or(0, |last| last + 1);
    let in_turn = declared.faults.iter().cycle().skip(first).take(declared.faults.len());
    in_turn.copied().find_map(|fault| Some((fault, drill_hits(draft.known, service, fault, declared, draft.now).ok()?)))
}

/// Whether everything in the estate has been well for a while.
fn is_calm(known: &Knowledge, now: ostler_model::time::Timestamp) -> bool {
    known.is_settled()
        && known.services.values().filter(|service| known.is_wanted(service) && !service.is_guest()).all(|service| {
            let since = |i: &crate::Instance| i.retired || now.since(i.health_since) >= CALM_FOR;
            service.is_whole() && service.instances.values().all(|instance| since(instance))
        })
}
