//! Moves to another provider: what is left behind, what is there, and what is open to callers.
//!
//! Invariant: what is fenced is not active and not routed, in the same fact.

use std::collections::BTreeSet;
use std::sync::Arc;

use ostler_model::catalog::Placement;
use ostler_model::ids::{InstanceId, ServiceName};
use ostler_model::outcome::{BackupMade, Failure, FailureClass};
use ostler_model::time::Timestamp;

use super::index::{recount_outdated, with_instance, with_service};
use super::leave_alone;
use crate::command::{Command, Outcome};
use crate::fact::FactKind;
use crate::knowledge::{Ending, Knowledge};
use crate::moving::{Brings, Moved, Moving, StepTrouble, left};
use crate::verified::Checked;

/// Makes a fact about a move true. Other facts change nothing here.
pub(super) fn evolve(known: &mut Knowledge, kind: &FactKind, at: Timestamp) {
    match kind {
        FactKind::MoveBegan { service, to, brings, accepts_loss, why } => {
            begin(known, service, to, brings, *accepts_loss, why, at);
        }
        FactKind::MoveTurned { service, to, brings, bad, accepts_loss, .. } => {
            turn(known, service, to.as_ref(), at);
            with_moving(known, service, |moving| {
                if !moving.can_be_given_up() {
                    return;
                }
                moving.bad.extend(bad.clone());
                moving.brings = brings.clone();
                moving.accepts_loss |= *accepts_loss;
                moving.restored = false;
                moving.proven = false;
                moving.trouble = None;
                moving.held = None;
            });
        }
        FactKind::MoveHeld { service, question, answer } => {
            with_moving(known, service, |moving| moving.held = Some((question.clone(), answer.clone())));
        }
        FactKind::MoveReturned { service } => go_back(known, service, at),
        FactKind::MoveEnded { service } => end(known, service, at),
        FactKind::InstanceDiscarded { instance, .. } => discard(known, instance),
        _ => {}
    }
}

/// The gateway was told, or could not be.
pub(super) fn fence_ended(known: &mut Knowledge, name: &ServiceName, epoch: u64, outcome: &Outcome, at: Timestamp) {
    let mut leaves = BTreeSet::new();
    with_service(known, name, |service| {
        let is_last_word = service.epoch == epoch && *outcome == Outcome::Done;
        if let Some(moving) = service.moving.as_mut().filter(|_| is_last_word) {
            moving.fenced = true;
            if moving.cut_off.is_none() {
                moving.cut_off = Some(at);
                leaves.clone_from(&moving.leaves);
            }
        }
    });
    // Until now it may have been used, however long ago the move began.
    for number in leaves {
        with_instance(known, &InstanceId::new(name.clone(), number), |instance| {
            if let Some(left) = &mut instance.left {
                Arc::make_mut(left).since = at;
            }
        });
    }
}

/// A command was issued that puts what a move makes to use, if it was one.
pub(super) fn put_to_use(known: &mut Knowledge, command: &Command) {
    let (Command::Bind { instance, .. } | Command::Route { instance, address: Some(_) }) = command else { return };
    if known.instance(instance).is_some_and(|instance| !instance.is_fenced()) {
        with_moving(known, instance.service(), |moving| moving.used |= moving.is_open());
    }
}

/// A step of a move at an instance is over, if it was one.
pub(super) fn step_ended(known: &mut Knowledge, command: &Command, outcome: &Outcome, at: Timestamp) {
    let (Command::Backup { instance, .. } | Command::Restore { instance, .. } | Command::Prove { instance }) = command
    else {
        return;
    };
    let Some(is_fenced) = known.instance(instance).map(|instance| instance.is_fenced()) else { return };
    with_moving(known, instance.service(), |moving| {
        let backs_up = moving.brings == Brings::LastBackup;
        match (command, outcome) {
            // What was interrupted is done again.
            (_, Outcome::Failed(Failure { class: FailureClass::Interrupted, .. })) => {}
            (Command::Backup { .. }, Outcome::BackedUp(made)) if is_fenced && backs_up => {
                moving.brings = Brings::Backup { made: made.clone(), lost_since: None };
                moving.trouble = None;
            }
            (Command::Backup { .. }, Outcome::Failed(failure)) if is_fenced && backs_up => fail(moving, failure, at),
            (Command::Restore { .. } | Command::Prove { .. }, _) if is_fenced => {}
            (Command::Restore { backup, .. }, Outcome::Done) => {
                if matches!(&moving.brings, Brings::Backup { made, .. } if made == backup) {
                    moving.restored = true;
                    moving.trouble = None;
                }
            }
            (Command::Prove { instance }, Outcome::Proved { checks }) => match wrong(instance, checks) {
                None => {
                    moving.proven = true;
                    moving.trouble = None;
                    moving.held = None;
                }
                Some(failure) => fail(moving, &failure, at),
            },
            (Command::Restore { .. } | Command::Prove { .. }, Outcome::Failed(failure)) => fail(moving, failure, at),
            (Command::Restore { backup, .. }, Outcome::Unusable { why }) => fail(moving, &of_no_use(backup, why), at),
            _ => {}
        }
    });
}

/// The new instance is not there any more: what was in it has to be brought again.
pub(super) fn lost(known: &mut Knowledge, id: &InstanceId) {
    if known.instance(id).is_none_or(|instance| instance.is_fenced()) {
        return;
    }
    let mut anew = false;
    with_moving(known, id.service(), |moving| {
        anew = moving.can_be_given_up();
        if anew {
            moving.restored = false;
            moving.proven = false;
            moving.trouble = None;
        }
    });
    if anew {
        with_instance(known, id, |instance| instance.generation = None); // nothing of anybody's was in it
    }
}

fn fail(moving: &mut Moving, failure: &Failure, at: Timestamp) {
    moving.trouble = Some(StepTrouble::after(moving.trouble.as_ref(), failure.clone(), at));
}

/// There is nothing to be tried again: another backup has to be taken.
fn of_no_use(backup: &BackupMade, why: &str) -> Failure {
    Failure {
        class: FailureClass::NeedsPerson,
        detail: format!("the backup {} cannot be used: {why}", backup.name),
        remedy: "restore another backup".to_owned(),
    }
}

/// What is not as consumers rely on it, as a failure.
fn wrong(instance: &InstanceId, checks: &[Checked]) -> Option<Failure> {
    let first = checks.iter().find_map(|checked| Some((&checked.name, checked.problem.as_ref()?)));
    first.map(|(name, problem)| Failure {
        class: FailureClass::Temporary,
        detail: format!("{instance} is not as its consumers rely on: `{name}`: {problem}"),
        remedy: "restore another backup".to_owned(),
    })
}

fn begin(
    known: &mut Knowledge,
    name: &ServiceName,
    to: &Placement,
    brings: &Brings,
    accepts_loss: bool,
    why: &str,
    at: Timestamp,
) {
    let Some(service) = known.services.get_mut(name).filter(|service| service.moving.is_none()) else { return };
    let Some(from) = service.placement.clone() else { return };
    service.epoch = service.epoch.saturating_add(1);
    let epoch = service.epoch;
    let leaves: Vec<u32> = service.unfenced().map(|(number, _)| number).collect();
    for number in &leaves {
        leave(known, &InstanceId::new(name.clone(), *number), &from, epoch, at);
    }
    // Everything that it has is left where it was: nobody's doing changes with its place.
    with_service(known, name, |service| {
        service.placement = Some(to.clone());
        service.restore_wanted = None;
        service.backup_wanted = None;
        service.moving = Some(Box::new(Moving {
            from,
            to: to.clone(),
            began: at,
            why: why.to_owned(),
            accepts_loss,
            brings: brings.clone(),
            leaves: leaves.into_iter().collect(),
            fenced: false,
            cut_off: None,
            returns: false,
            restored: false,
            proven: false,
            used: false,
            trouble: None,
            bad: Default::default(),
            tried: Default::default(),
            held: None,
        }));
    });
    // What an upgrade left has its own data, and is what it was.
    if let Brings::Kept { number, .. } = brings {
        serve_again(known, &InstanceId::new(name.clone(), *number));
        with_service(known, name, recount_outdated);
    }
}

/// What a move left is to run again.
fn serve_again(known: &mut Knowledge, id: &InstanceId) {
    let mut returns = false;
    with_instance(known, id, |instance| {
        returns = instance.retired && instance.ending.is_none();
        if returns {
            instance.left = None;
            instance.retired = false;
        }
    });
    if returns {
        known.instances += 1;
        with_service(known, id.service(), |service| service.active += 1);
    }
}

/// From here on it is stopped and kept, and nothing gets at it.
fn leave(known: &mut Knowledge, id: &InstanceId, place: &Placement, epoch: u64, at: Timestamp) {
    let (mut was_active, after) = (false, known.last_command);
    with_instance(known, id, |instance| {
        was_active = !instance.retired;
        instance.retired = true;
        instance.routed = false;
        instance.left = left(place, epoch, at, after);
        leave_alone(instance);
    });
    if was_active {
        known.instances -= 1;
        with_service(known, id.service(), |service| service.active -= 1);
    }
    rely_no_more(known, id);
}

/// Credentials of what is fenced are good for nothing: those that take their place need not be proven to be as good.
fn rely_no_more(known: &mut Knowledge, id: &InstanceId) {
    let consumers = known.consumers.get(id.service()).cloned().unwrap_or_default();
    for consumer in &consumers {
        with_service(known, consumer, |service| {
            if let Some(binding) = service.bindings.get_mut(id.service()).filter(|binding| binding.instance == *id) {
                binding.relied_on = false;
            }
        });
    }
}

/// What was made for the move, and was never used, is left to be deleted.
fn leave_unused(known: &mut Knowledge, name: &ServiceName, at: Timestamp) {
    let Some(service) = known.services.get(name) else { return };
    let (Some(place), epoch) = (service.placement.clone(), service.epoch) else { return };
    let unused: Vec<u32> = service.unfenced().map(|(number, _)| number).collect();
    for number in unused {
        let id = InstanceId::new(name.clone(), number);
        leave(known, &id, &place, epoch, at);
        discard(known, &id);
    }
}

fn turn(known: &mut Knowledge, name: &ServiceName, to: Option<&Placement>, at: Timestamp) {
    let open =
        known.services.get(name).and_then(|service| service.moving.as_ref()).filter(|moving| moving.can_be_given_up());
    let (Some(_), Some(to)) = (open, to) else { return };
    leave_unused(known, name, at);
    with_service(known, name, |service| service.placement = Some(to.clone()));
    with_moving(known, name, |moving| {
        let former = std::mem::replace(&mut moving.to, to.clone());
        moving.tried.insert(former.provider);
    });
}

fn go_back(known: &mut Knowledge, name: &ServiceName, at: Timestamp) {
    let moving = known.services.get(name).and_then(|service| service.moving.as_ref());
    let Some(moving) = moving.filter(|moving| moving.can_be_given_up()) else { return };
    let (from, leaves) = (moving.from.clone(), moving.leaves.clone());
    with_service(known, name, |service| service.epoch = service.epoch.saturating_add(1));
    leave_unused(known, name, at);
    with_service(known, name, |service| {
        service.placement = Some(from);
        if let Some(moving) = &mut service.moving {
            moving.returns = true;
            moving.fenced = false;
            moving.trouble = None;
            moving.held = None;
        }
    });
    for number in leaves {
        serve_again(known, &InstanceId::new(name.clone(), number));
    }
    with_service(known, name, recount_outdated);
}

fn end(known: &mut Knowledge, name: &ServiceName, at: Timestamp) {
    let moving = known.services.get(name).and_then(|service| service.moving.as_ref());
    if let Some((began, returns)) = moving.map(|moving| (moving.began, moving.returns)) {
        super::repair::moved(known, name, (!returns).then(|| at.since(began)));
    }
    with_service(known, name, |service| {
        let Some(moving) = service.moving.take() else { return };
        let durable_lost = moving.accepts_loss && moving.brings == Brings::Nothing;
        service.moved = Some(Box::new(Moved {
            lost_since: moving.brings.lost_since().filter(|_| !moving.returns),
            written_until: moving.written_until(),
            lost_all: durable_lost && !moving.returns,
            from: moving.from,
            to: moving.to,
            began: moving.began,
            ended: at,
            returned: moving.returns,
        }));
        service.backup_trouble = None; // it was one of the move's
        // What is here now is in no backup that was made here: the next one is made at once.
        if let (Some(every), false) = (service.spec.data.backup_every, moving.returns) {
            service.backup_clock = Some(at - every.get());
        }
    });
}

fn discard(known: &mut Knowledge, id: &InstanceId) {
    with_instance(known, id, |instance| {
        if instance.is_fenced() {
            instance.ending = Some(Ending::Delete);
            leave_alone(instance);
        }
    });
}

fn with_moving(known: &mut Knowledge, service: &ServiceName, change: impl FnOnce(&mut Moving)) {
    with_service(known, service, |service| {
        if let Some(moving) = &mut service.moving {
            change(moving);
        }
    });
}
