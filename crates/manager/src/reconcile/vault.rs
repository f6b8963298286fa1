//! A service's backups: which are kept, and that they can be restored.

use ostler_model::time::{Span, Timestamp};

use crate::command::Command;
use crate::decide::Draft;
use crate::event::Scope;
use crate::fact::FactKind;
use crate::knowledge::{Instance, OperationKind, ServiceKnowledge};
use crate::vault::SCHEDULED;

/// A backup that is of no use is kept for so long beside its successors: a person may want to know what became of it.
const BAD_KEPT: Span = Span::seconds(7 * 86_400);
/// At most so many are given up in one look: a home may hold years of them when it first hears that it need not.
const DROPPED_AT_ONCE: usize = 32;

/// Gives up the scheduled backups that are to be kept no longer. How old they are is measured from the newest one: so
/// where no more are made, none is given up.
pub(super) fn thin_out(draft: &mut Draft<'_>, service: &ServiceKnowledge) {
    let Some(estate) = draft.known.estate.as_ref().filter(|_| draft.known.is_wanted(service)) else { return };
    let Some((newest, _)) = service.newest_good() else { return };
    let is_scheduled = |name: &str| name.starts_with(SCHEDULED);
    let (bad, good): (Vec<_>, Vec<_>) = service
        .backups
        .iter()
        .filter(|(_, made)| is_scheduled(&made.name))
        .partition(|(_, made)| service.is_bad(&made.name));
    let times: Vec<Timestamp> = good.iter().map(|(at, _)| *at).collect();
    let kept = estate.backups.keep.kept(&times, *newest);
    let too_old = good.iter().zip(kept).filter(|(_, kept)| !kept).map(|(backup, _)| (*backup, "it is kept no longer"));
    let of_no_use =
        bad.iter().filter(|(at, _)| newest.since(*at) > BAD_KEPT.get()).map(|bad| (*bad, "it is of no use"));
    let dropped: Vec<_> = too_old
        .chain(of_no_use)
        .filter(|((_, made), _)| draft.known.why_kept(service, &made.name).is_none())
        .take(DROPPED_AT_ONCE)
        .map(|((_, made), why)| (made.name.clone(), why.to_owned()))
        .collect();
    for (name, why) in dropped {
        draft.fact(FactKind::BackupDropped { service: service.spec.name.clone(), name, why });
    }
}

/// A proof that was asked for; then the schedule. The first one is due with the first backup: whether this machine can
/// restore at all is known before it matters.
pub(super) fn prove(draft: &mut Draft<'_>, service: &ServiceKnowledge) {
    let vault = service.vault();
    if !draft.known.is_wanted(service) || vault.operation.is_some() {
        return;
    }
    let name = &service.spec.name;
    if let Some(wanted) = &vault.proof_wanted {
        if let Some((_, backup)) = service.backups.iter().find(|(_, made)| made.name == *wanted) {
            draft.command(Command::ProveBackup { service: name.clone(), backup: backup.clone() });
        }
        return;
    }
    let (Some(every), Some((_, newest))) = (service.spec.data.proof_every(), service.newest_good()) else { return };
    // While it moves all there is of this machine is for the move: its own restore comes first.
    if service.moving.is_some() || !draft.known.offering(service).is_some_and(|offering| offering.actions.prove) {
        return;
    }
    // What is being made is newer still, and it is looked again when it was made.
    let is_made = |instance: &Instance| instance.operation.is_some_and(|o| o.kind == OperationKind::Backup);
    if service.instances.values().any(|instance| is_made(instance)) {
        return;
    }
    match vault.proof_clock.map(|last| last + every.get()) {
        Some(due) if draft.now < due => draft.wake(due, Scope::Service(name.clone())),
        Some(_) | None => draft.fact(FactKind::ProofAsked { service: name.clone(), name: newest.name.clone() }),
    }
}

/// Deletes what was given up, one after the other.
pub(super) fn delete(draft: &mut Draft<'_>, service: &ServiceKnowledge) {
    let vault = service.vault();
    if !draft.known.is_wanted(service) || vault.operation.is_some() {
        return;
    }
    let Some(next) = vault.dropping.values().min_by_key(|dropping| dropping.not_before) else { return };
    let name = &service.spec.name;
    if draft.now < next.not_before {
        draft.wake(next.not_before, Scope::Service(name.clone()));
    } else {
        draft.command(Command::DropBackup { service: name.clone(), backup: next.backup.clone() });
    }
}
