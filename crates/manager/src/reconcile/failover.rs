//! A service's move to another provider: the next step, from what is known.
//!
//! The order is what keeps data whole: nothing gets at the old instance any more; only then its data is brought to the
//! new one, which is looked at; only then consumers and callers get at that. Making the new instance, binding and routing
//! are done by the same looks as always, which ask here whether they may.

use std::collections::BTreeSet;
use std::time::Duration;

use ostler_model::estate::Occasion;
use ostler_model::ids::ProviderName;
use ostler_model::outcome::FailureClass;
use ostler_model::time::{Timestamp, in_words};

use crate::backoff::FAILURES_TOLD;
use crate::command::Command;
use crate::decide::Draft;
use crate::event::Scope;
use crate::fact::FactKind;
use crate::failover::{WhyNot, can_restore, destination, from_backups, newest_left};
use crate::instance::{Instance, OperationKind, Phase};
use crate::knowledge::{Knowledge, ServiceKnowledge};
use crate::moving::{Brings, Moved, Moving, StepTrouble};

/// Callers that are cut off within this time after a move began wrote nothing that counts: it began because nobody got at
/// what it leaves, or it brings a backup that is made later.
const CUT_OFF_SOON: Duration = Duration::from_secs(10);

/// The next step of a move, or what becomes of what a former one left.
pub(super) fn look(draft: &mut Draft<'_>, service: &ServiceKnowledge) {
    if !draft.known.is_wanted(service) {
        return; // it goes on when the service does
    }
    match &service.moving {
        None => retire(draft, service),
        Some(moving) if !moving.fenced => fence(draft, service),
        Some(moving) if moving.is_open() => finish(draft, service, moving),
        Some(moving) => bring(draft, service, moving),
    }
}

/// Whether the service's look ends here: before the old instance is fenced nothing else is done for what is to run.
pub(super) fn comes_first(known: &Knowledge, service: &ServiceKnowledge) -> bool {
    known.is_wanted(service) && service.moving.as_ref().is_some_and(|moving| !moving.fenced)
}

fn fence(draft: &mut Draft<'_>, service: &ServiceKnowledge) {
    let name = service.spec.name.clone();
    if service.endpoint.operation.is_some() {
        return;
    }
    if draft.now < service.endpoint.not_before {
        return draft.wake(service.endpoint.not_before, Scope::Service(name));
    }
    draft.command(Command::Fence { service: name, epoch: service.epoch });
}

/// Until the new instance is proven: the last backup, the restore, the look; and another way where one is no good.
fn bring(draft: &mut Draft<'_>, service: &ServiceKnowledge, moving: &Moving) {
    let known = draft.known;
    if let Some(trouble) = &moving.trouble {
        if is_for_good(trouble) {
            return other_data(draft, service, moving, &trouble.failure.detail);
        }
        if draft.now < trouble.not_before {
            return draft.wake(trouble.not_before, Scope::Service(service.spec.name.clone()));
        }
    }
    if moving.brings == Brings::LastBackup {
        return back_up(draft, service, moving);
    }
    if !moving.restored && loses_more(service, moving) {
        return ask_for_loss(draft, service, moving);
    }
    let fresh = || service.unfenced().filter(|(_, instance)| !instance.retired);
    if let Some((number, why)) = fresh().find_map(|(number, instance)| Some((number, hopeless(instance)?))) {
        let id = service.instance_id(number);
        return other_place(draft, service, moving, &format!("{id} cannot be made to work there: {why}"));
    }
    // One step at a time for all of them.
    if [OperationKind::Restore, OperationKind::Prove].iter().any(|kind| Knowledge::is_under_way(service, *kind)) {
        return;
    }
    let Some((number, _)) = fresh().find(|(_, i)| i.is_ready() && i.observed && i.operation.is_none()) else { return };
    let instance = service.instance_id(number);
    match &moving.brings {
        Brings::Backup { made, .. } if !moving.restored => {
            if !can_restore(known, &moving.to) {
                let why = WhyNot::CannotRestore(moving.to.provider.clone()).in_words(draft.now);
                return other_place(draft, service, moving, &why);
            }
            draft.command(Command::Restore { instance, backup: made.clone() });
        }
        Brings::Nothing | Brings::LastBackup | Brings::Kept { .. } | Brings::Backup { .. } => {
            draft.command(Command::Prove { instance });
        }
    }
}

/// The old instance is fenced, so that what it holds now is all there ever will be.
fn back_up(draft: &mut Draft<'_>, service: &ServiceKnowledge, moving: &Moving) {
    if Knowledge::is_under_way(service, OperationKind::Backup) {
        return;
    }
    let old = service.instances.iter().find(|(number, instance)| {
        moving.leaves.contains(number) && instance.phase == Phase::Running && instance.ending.is_none()
    });
    match old {
        Some((_, instance)) if instance.operation.is_some() || !instance.observed => {} // and then this is next
        Some((number, _)) => {
            let name = format!("move-{}", draft.now.to_seconds().replace(['-', ':'], ""));
            draft.command(Command::Backup { instance: service.instance_id(*number), name });
        }
        None => other_data(draft, service, moving, "the old instance runs no more, so that it cannot be backed up"),
    }
}

/// Whether callers could write for so long after the move began that more is lost than was weighed then: ostler was away,
/// and the old instance came back.
fn loses_more(service: &ServiceKnowledge, moving: &Moving) -> bool {
    let until = moving.written_until();
    let limit = service.spec.loses_at_most();
    let is_late = until.since(moving.began) > CUT_OFF_SOON;
    let since = moving.brings.lost_since().filter(|_| is_late && !moving.accepts_loss);
    since.is_some_and(|since| limit.is_none_or(|limit| until.since(since) > limit.get()))
}

fn ask_for_loss(draft: &mut Draft<'_>, service: &ServiceKnowledge, moving: &Moving) {
    let (name, from) = (&service.spec.name, &moving.from.provider);
    let loss = lost_in_words(&moving.brings, moving.accepts_loss, moving.written_until());
    let question = format!("{name} could be written to at {from} after its move began, and {loss}");
    let answer = format!(
        "`ostler failover {name} --back` goes back to {from}, and loses nothing; `ostler failover {name} --accept-loss` \
         goes on"
    );
    hold(draft, service, moving, question, answer);
}

fn is_for_good(trouble: &StepTrouble) -> bool {
    trouble.failure.class == FailureClass::NeedsPerson || trouble.failures >= FAILURES_TOLD
}

/// Why nothing will come of an instance where it is, if that is so.
fn hopeless(instance: &Instance) -> Option<String> {
    if instance.is_ready() || (instance.held.is_none() && instance.failures < FAILURES_TOLD) {
        return None;
    }
    let question = instance.held.as_ref().map(|(question, _)| question.clone());
    let diagnosis = || instance.repair.as_ref().map(|repair| format!("it {}", repair.diagnosis.in_words()));
    Some(question.or_else(diagnosis).unwrap_or_else(|| format!("it has failed {} times in a row", instance.failures)))
}

/// What the move brings is no good, or cannot be had: the next older backup, or a person's word.
fn other_data(draft: &mut Draft<'_>, service: &ServiceKnowledge, moving: &Moving, why: &str) {
    if service.upgrading().is_some() {
        return give_up_upgrade(draft, service, why);
    }
    let name = service.spec.name.clone();
    let bad = match &moving.brings {
        Brings::Backup { made, .. } => Some(made.name.clone()),
        Brings::Nothing => {
            let why = format!("what was made there is not as it should be: {why}");
            return other_place(draft, service, moving, &why);
        }
        Brings::LastBackup | Brings::Kept { .. } => None,
    };
    let all_bad: BTreeSet<String> = moving.bad.iter().cloned().chain(bad.clone()).collect();
    // A person who accepts the loss of what came since a backup did not mean all of it, as long as there was one.
    let accepts = moving.accepts_loss && newest_left(service, &all_bad).is_some();
    // All that there was is there, and is not as it should be: what is older lacks even more of it.
    let has_all = moving.restored && moving.brings.lost_since().is_none();
    match from_backups(service, accepts, &all_bad, moving.written_until()) {
        Ok(brings) if !has_all => {
            let why = why.to_owned();
            draft.fact(FactKind::MoveTurned { service: name, to: None, brings, bad, accepts_loss: false, why });
        }
        Ok(_) | Err(_) => {
            let from = &moving.from.provider;
            let question = format!("{name} cannot be moved to {} with its data: {why}", moving.to.provider);
            let answer = match newest_left(service, &all_bad) {
                Some((at, made)) => format!(
                    "`ostler failover {name} --accept-loss` takes {}, and what was written in the {} before the move is \
                     lost; `ostler failover {name} --back` goes back to {from}",
                    made.name,
                    in_words(moving.written_until().since(*at))
                ),
                None => format!(
                    "`ostler failover {name} --back` goes back to {from}; `ostler failover {name} --accept-loss` goes on \
                     without its data"
                ),
            };
            hold(draft, service, moving, question, answer);
        }
    }
}

/// Nothing comes of it there: the next allowed provider, or a person's word.
fn other_place(draft: &mut Draft<'_>, service: &ServiceKnowledge, moving: &Moving, why: &str) {
    if service.upgrading().is_some() {
        return give_up_upgrade(draft, service, why);
    }
    let name = service.spec.name.clone();
    let Some(estate) = &draft.known.estate else { return };
    match destination(draft.known, estate, service, None, tried(moving), draft.standing()) {
        Ok(to) => {
            draft.weigh_destination(service, &tried(moving));
            draft.fact(FactKind::MoveTurned {
                service: name,
                to: Some(to),
                brings: moving.brings.clone(),
                bad: None,
                accepts_loss: false,
                why: why.to_owned(),
            });
        }
        Err(nowhere) => {
            let (from, to) = (&moving.from.provider, &moving.to.provider);
            let nowhere = nowhere.in_words(draft.now);
            let question = format!("{name} cannot be moved to {to}: {why}; nor anywhere else: {nowhere}");
            let answer = format!(
                "`ostler restart {name}` tries again there; `ostler failover {name} --back` goes back to {from}"
            );
            hold(draft, service, moving, question, answer);
        }
    }
}

/// A move that is an upgrade loses nothing and goes nowhere else: what it left serves again.
fn give_up_upgrade(draft: &mut Draft<'_>, service: &ServiceKnowledge, why: &str) {
    if let Some(it) = service.upgrading() {
        super::upgrade::take_back(draft, service, it, why.to_owned());
    }
}

/// Where it was, and where it was tried.
pub(crate) fn tried(moving: &Moving) -> BTreeSet<ProviderName> {
    let places = [moving.from.provider.clone(), moving.to.provider.clone()];
    moving.tried.iter().cloned().chain(places).collect()
}

/// A person is asked, once.
fn hold(draft: &mut Draft<'_>, service: &ServiceKnowledge, moving: &Moving, question: String, answer: String) {
    if moving.held.as_ref().is_some_and(|(asked, _)| *asked == question) {
        return;
    }
    let name = &service.spec.name;
    draft.tell(name, Occasion::Held, format!("the move of {name} waits for a person: {question}; {answer}"));
    draft.fact(FactKind::MoveHeld { service: name.clone(), question, answer });
}

/// It is over once somebody is sent there.
fn finish(draft: &mut Draft<'_>, service: &ServiceKnowledge, moving: &Moving) {
    let serves = service.unfenced().any(|(_, instance)| instance.routed);
    if !serves || !draft.known.consumers_are_bound(service) {
        return;
    }
    let name = service.spec.name.clone();
    let took = in_words(draft.now.since(moving.began));
    if service.upgrading().is_some() {
        return draft.fact(FactKind::MoveEnded { service: name }); // what came of it is told as the upgrade's
    }
    let (from, to) = (&moving.from.provider, &moving.to.provider);
    let message = match moving.returns {
        true => format!("{name} serves from {from} again; it was away for {took}"),
        false => {
            let lost = lost_in_words(&moving.brings, moving.accepts_loss, moving.written_until());
            format!("{name} was moved from {from} to {to} within {took}: {lost}")
        }
    };
    draft.tell(&name, Occasion::Healed, message);
    draft.fact(FactKind::MoveEnded { service: name });
}

/// What a move loses, in words.
pub(crate) fn lost_in_words(brings: &Brings, accepts_loss: bool, until: Timestamp) -> String {
    let all = *brings == Brings::Nothing && accepts_loss;
    loss_in_words(all, brings.lost_since(), until)
}

fn loss_in_words(all: bool, lost_since: Option<Timestamp>, until: Timestamp) -> String {
    match lost_since {
        _ if all => "all of its data is lost, as a person accepted".to_owned(),
        None => "nothing is lost".to_owned(),
        Some(since) => {
            let length = in_words(until.since(since));
            format!("what was written in the {length} from {} to {} is lost", since.to_seconds(), until.to_seconds())
        }
    }
}

impl Moved {
    /// What it lost, in words.
    pub fn lost_in_words(&self) -> String {
        loss_in_words(self.lost_all, self.lost_since, self.written_until)
    }
}

/// What a move left is deleted when it has been kept for as long as declared, and is not needed any more: the service
/// works where it is, and its data is in a backup that was made there. That is not decided before it can be done: by the
/// time that its provider answers again it may be all that there is.
fn retire(draft: &mut Draft<'_>, service: &ServiceKnowledge) {
    let Some(keep) = service.spec.failover.keep_old else { return };
    for (number, instance) in &service.instances {
        let Some(left) = instance.left.as_ref().filter(|_| instance.ending.is_none()) else { continue };
        let due = left.since + keep.get();
        if draft.now < due {
            draft.wake(due, Scope::Service(service.spec.name.clone()));
            continue;
        }
        let ended = service.moved.as_ref().map_or(left.since, |moved| moved.ended);
        let backed_up = !draft.known.is_durable(service) || service.backups.iter().any(|(at, _)| *at > ended);
        let rests = matches!(instance.phase, Phase::Declared | Phase::Stopped);
        let at_once = rests && instance.observed && instance.operation.is_none() && draft.now >= instance.not_before;
        if service.ready == service.active && service.ready > 0 && backed_up && at_once {
            let why = format!("it was kept for {keep}, and is not needed any more");
            draft.fact(FactKind::InstanceDiscarded { instance: service.instance_id(*number), why });
        }
    }
}
