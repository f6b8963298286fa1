//! What people are told of backups that are of no use, and of restores that could not be proven.

use ostler_model::estate::Occasion;
use ostler_model::time::in_words;

use super::Draft;
use crate::backoff;
use crate::command::{Command, Outcome};
use crate::knowledge::ServiceKnowledge;
use ostler_model::outcome::{Failure, FailureClass};

impl Draft<'_> {
    /// A proof, or a deletion, has ended.
    pub(super) fn proof_ended(&mut self, command: &Command, outcome: &Outcome) {
        match outcome {
            Outcome::Unusable { why } => self.tell_unusable(command, why),
            Outcome::Failed(failure) => self.tell_not_proven(command, failure),
            _ => {}
        }
    }

    /// At once, and each time: there is one backup less than everybody believed.
    pub(super) fn tell_unusable(&mut self, command: &Command, why: &str) {
        let (Command::ProveBackup { backup, .. } | Command::Restore { backup, .. }) = command else { return };
        let Some(service) = self.known.services.get(command.at_service()) else { return };
        let others =
            service.backups.iter().rev().find(|(_, made)| made.name != backup.name && !service.is_bad(&made.name));
        let left = match others {
            Some((at, made)) => format!("the next one is {}, {} old", made.name, in_words(self.now.since(*at))),
            None => "there is no other one".to_owned(),
        };
        let name = &service.spec.name;
        let message = format!("the backup {} of {name} cannot be used: {why}; {left}", backup.name);
        self.tell(name, Occasion::Failed, message);
    }

    fn tell_not_proven(&mut self, command: &Command, failure: &Failure) {
        let Command::ProveBackup { service, .. } = command else { return };
        let Some(service) = self.known.services.get(service) else { return };
        let failures = service.vault().proof_failures.saturating_add(1);
        if failure.class == FailureClass::Interrupted || failures != backoff::FAILURES_TOLD {
            return;
        }
        let name = &service.spec.name;
        let message = format!(
            "a restore of {name} could not be proven {failures} times in a row: {}; {}",
            failure.detail,
            self.last_proven(service)
        );
        self.tell(name, Occasion::Failed, message);
    }

    fn last_proven(&self, service: &ServiceKnowledge) -> String {
        match service.newest_proven() {
            Some((_, at, _)) => format!("it was proven {} ago", in_words(self.now.since(at))),
            None => "it never was".to_owned(),
        }
    }
}
