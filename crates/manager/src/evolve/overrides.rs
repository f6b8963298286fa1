//! Overrides: which there are, and what would be without them.

use ostler_model::ids::InstanceId;
use ostler_model::overrides::OverrideId;
use ostler_model::time::Timestamp;

use super::index::for_each_instance_of;
use crate::fact::FactKind;
use crate::knowledge::Knowledge;
use crate::overrides::{Instruction, Override};

/// Makes a fact about an override true. Other facts change nothing here.
pub(super) fn evolve(known: &mut Knowledge, kind: &FactKind, at: Timestamp) {
    match kind {
        FactKind::OverrideBegan { id, instruction, owner, reason, until } => {
            known.overrides.last = known.overrides.last.max(id.0);
            begin(known, instruction, at);
            let (owner, reason) = (owner.clone(), reason.clone());
            let it = Override {
                instruction: instruction.clone(),
                owner,
                reason,
                began: at,
                until: *until,
                without: Default::default(),
                used: None,
            };
            known.overrides.all.insert(*id, it);
        }
        FactKind::OverrideEnded { id, .. } => {
            if let Some(it) = known.overrides.all.remove(id) {
                known.agenda_is_old |= changes_agenda(&it.instruction);
            }
        }
        FactKind::OverrideWeighed { id, difference } => {
            if let Some(it) = known.overrides.all.get_mut(id) {
                it.without.note(difference);
            }
        }
        _ => {}
    }
}

fn changes_agenda(instruction: &Instruction) -> bool {
    match instruction {
        Instruction::SkipUpgrade { .. } | Instruction::ForbidProvider { .. } => true,
        Instruction::Pin { .. }
        | Instruction::Hold { .. }
        | Instruction::Freeze { .. }
        | Instruction::ForceRemedy { .. } => false,
    }
}

fn begin(known: &mut Knowledge, instruction: &Instruction, at: Timestamp) {
    known.agenda_is_old |= changes_agenda(instruction);
    if let Instruction::ForceRemedy { service, .. } = instruction {
        // Whoever says what is to be tried does not want it to wait for a pause that is over by itself.
        for_each_instance_of(known, service, |instance| {
            if instance.repair.as_ref().is_some_and(|repair| repair.trying.is_none()) {
                instance.not_before = instance.not_before.min(at);
            }
        });
    }
}

/// A remedy was tried because a person said so: that was it.
pub(super) fn used(known: &mut Knowledge, id: OverrideId, instance: &InstanceId) {
    if let Some(it) = known.overrides.all.get_mut(&id) {
        it.used = Some(instance.clone());
    }
}
