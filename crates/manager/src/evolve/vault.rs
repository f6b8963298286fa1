//! Backups after they were made: proven, found bad, deleted.

use ostler_model::ids::CommandId;
use ostler_model::outcome::{BackupMade, Failure, FailureClass};
use ostler_model::time::Timestamp;

use crate::backoff;
use crate::command::Outcome;
use crate::knowledge::ServiceKnowledge;
use crate::vault::{Dropping, Found, Vault};

pub(super) fn ask_proof(service: &mut ServiceKnowledge, name: &str, at: Timestamp) {
    let vault = vault(service);
    vault.proof_wanted = Some(name.to_owned());
    vault.proof_clock = Some(at);
}

/// From now on it is no backup. It stays on the list of what is to be deleted until it was.
pub(super) fn drop_backup(service: &mut ServiceKnowledge, name: &str) {
    let Some(index) = service.backups.iter().position(|(_, made)| made.name == name) else { return };
    let (_, backup) = service.backups.remove(index);
    let vault = vault(service);
    vault.found.remove(name);
    vault.dropping.insert(name.to_owned(), Dropping { backup, failures: 0, not_before: Timestamp::default() });
}

pub(super) fn begin(service: &mut ServiceKnowledge, id: CommandId) {
    vault(service).operation = Some(id);
}

pub(super) fn end_of_proof(
    service: &mut ServiceKnowledge,
    id: CommandId,
    backup: &BackupMade,
    outcome: &Outcome,
    at: Timestamp,
) {
    over(service, id);
    if matches!(outcome, Outcome::Failed(Failure { class: FailureClass::Interrupted, .. })) {
        return; // it is wanted still, and begun anew
    }
    vault(service).proof_wanted.take_if(|wanted| *wanted == backup.name);
    match outcome {
        Outcome::Proven(proof) => {
            let is_there = service.backups.iter().any(|(_, made)| made.name == backup.name);
            let vault = vault(service);
            vault.proof_trouble = None;
            vault.proof_failures = 0;
            if is_there {
                vault.found.insert(backup.name.clone(), Found::Proven { at, proof: proof.clone() });
            }
        }
        Outcome::Unusable { why } => {
            let failure = mark_bad(service, backup, why, at);
            not_proven(service, failure, at);
        }
        Outcome::Failed(failure) => not_proven(service, failure.clone(), at),
        _ => {}
    }
}

pub(super) fn end_of_drop(
    service: &mut ServiceKnowledge,
    id: CommandId,
    backup: &BackupMade,
    outcome: &Outcome,
    at: Timestamp,
) {
    over(service, id);
    let vault = vault(service);
    match outcome {
        Outcome::Done => drop(vault.dropping.remove(&backup.name)),
        _ => {
            if let Some(dropping) = vault.dropping.get_mut(&backup.name) {
                dropping.failures = dropping.failures.saturating_add(1);
                dropping.not_before = at + backoff::backup_pause(dropping.failures);
            }
        }
    }
}

/// The backup is of no use. Where it was the newest one, the next is made soon: until then there is none that says what
/// the data is like now.
pub(super) fn mark_bad(service: &mut ServiceKnowledge, backup: &BackupMade, why: &str, at: Timestamp) -> Failure {
    let failure = Failure {
        class: FailureClass::NeedsPerson,
        detail: format!("the backup {} cannot be used: {why}", backup.name),
        remedy: format!("restore another one: `ostler prove {}` tells whether it can be", service.spec.name),
    };
    if !service.backups.iter().any(|(_, made)| made.name == backup.name) {
        return failure;
    }
    let was_newest = service.newest_good().is_some_and(|(_, newest)| newest.name == backup.name);
    vault(service).found.insert(backup.name.clone(), Found::Bad { at, why: why.to_owned() });
    if let Some(every) = service.spec.data.backup_every.filter(|_| was_newest) {
        service.backup_clock = Some(at - (every.get() - backoff::backup_pause(1).min(every.get())));
    }
    failure
}

/// Nothing is under way any more, and no pause is longer than the longest there is.
pub(super) fn resume(service: &mut ServiceKnowledge, at: Timestamp, latest: Timestamp) {
    let Some(vault) = &mut service.vault else { return };
    vault.operation = None;
    vault.proof_clock = vault.proof_clock.map(|clock| clock.min(at));
    for dropping in vault.dropping.values_mut() {
        dropping.not_before = dropping.not_before.min(latest);
    }
}

fn vault(service: &mut ServiceKnowledge) -> &mut Vault {
    service.vault.get_or_insert_default()
}

fn over(service: &mut ServiceKnowledge, id: CommandId) {
    vault(service).operation.take_if(|operation| *operation == id);
}

/// The next proof comes after a pause, instead of after all the time until a proof is due again.
fn not_proven(service: &mut ServiceKnowledge, failure: Failure, at: Timestamp) {
    let every = service.spec.data.proof_every();
    let vault = vault(service);
    vault.proof_trouble = Some(failure);
    vault.proof_failures = vault.proof_failures.saturating_add(1);
    if let Some(every) = every {
        let pause = backoff::backup_pause(vault.proof_failures).min(every.get());
        vault.proof_clock = Some(at - (every.get() - pause));
    }
}
