//! The hands that the loop is given: they only write down what was handed over, and the world does it.

use ostler_manager::{Command, Knowledge};
use ostler_model::ids::{BindingId, CommandId, SecretId};
use ostler_runtime::keeper_link::ReportNumber;
use ostler_runtime::turn::{Hands, Secrets};

/// Ostler is cut off when so many commands of a turn have been handed over.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Cut {
    pub(crate) after: usize,
}

/// What was handed over since it was asked last.
#[derive(Default)]
pub(crate) struct Handed {
    pub(crate) commands: Vec<(CommandId, Command)>,
    /// All of the keeper's reports up to this one are stored.
    pub(crate) stored: Option<u64>,
    /// Secrets that should be there and are not.
    pub(crate) troubles: Vec<String>,
    /// Ostler was cut off in the middle.
    pub(crate) cut: bool,
}

/// The hands.
#[derive(Default)]
pub(crate) struct SimHands {
    handed: Handed,
    pub(crate) cut: Option<Cut>,
}

impl SimHands {
    pub(crate) fn take(&mut self) -> Handed {
        std::mem::take(&mut self.handed)
    }
}

impl Hands for SimHands {
    fn hand_over(&mut self, id: CommandId, command: Command, knowledge: &Knowledge, secrets: &dyn Secrets) {
        if self.cut.is_some_and(|cut| self.handed.commands.len() >= cut.after) {
            self.handed.cut = true;
            return;
        }
        if let Command::Start { instance, generation, .. } = &command {
            let launch = knowledge.services.get(instance.service()).and_then(|s| s.launches.get(generation));
            let consumer = instance.service();
            for need in launch.into_iter().flat_map(|launch| launch.needs.keys()) {
                let id = SecretId::of_binding(&BindingId { consumer: consumer.clone(), need: need.clone() });
                let made = knowledge.services.get(consumer).and_then(|service| service.bindings.get(need));
                let is_made = made.is_some_and(|b| b.state == ostler_manager::BindingState::Made);
                if is_made && !matches!(secrets.secret(&id), Ok(Some(_))) {
                    self.handed
                        .troubles
                        .push(format!("{instance} is to be started, and the secret `{id}` is not there"));
                }
            }
        }
        self.handed.commands.push((id, command));
    }

    fn stored(&mut self, report: ReportNumber) {
        self.handed.stored = Some(report.number());
    }
}
