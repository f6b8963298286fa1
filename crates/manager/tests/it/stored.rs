//! The backups of the tests' world, and what must never become of them.

use std::collections::{BTreeMap, BTreeSet};

use ostler_manager::{Command, FactKind, Knowledge, Outcome};
use ostler_model::ids::{CommandId, ServiceName};
use ostler_model::outcome::{BackupMade, Proof};
use ostler_model::time::{Span, Timestamp};

type Id = (ServiceName, String);

/// What is stored, and what the manager was told of it.
#[derive(Default)]
pub(crate) struct Stored {
    there: BTreeSet<Id>,
    /// Of no use, whether or not anybody knows.
    spoilt: BTreeSet<Id>,
    known_bad: BTreeSet<Id>,
    known_proven: BTreeSet<Id>,
    /// Which command is about which backup.
    about: BTreeMap<CommandId, Id>,
    /// When each was made, as the manager was told.
    made: BTreeMap<Id, Timestamp>,
}

impl Stored {
    /// What was handed over.
    pub(crate) fn accept(&mut self, id: CommandId, command: &Command) {
        match command {
            Command::ProveBackup { service, backup } => {
                drop(self.about.insert(id, (service.clone(), backup.name.clone())))
            }
            Command::Restore { instance, backup } => {
                self.about.insert(id, (instance.service().clone(), backup.name.clone()));
            }
            Command::Backup { instance, name } => {
                self.about.insert(id, (instance.service().clone(), name.clone()));
            }
            _ => {}
        }
    }

    pub(crate) fn done(&mut self, command: &Command) -> Outcome {
        match command {
            Command::Backup { instance, name } => {
                self.there.insert((instance.service().clone(), name.clone()));
                let (name, sha256) = (name.clone(), "00".repeat(32));
                Outcome::BackedUp(BackupMade { name, bytes: 1000, sha256, place: None })
            }
            Command::ProveBackup { service, backup } if self.is_sound(service, backup) => {
                let counted = [("rows".to_owned(), 4)].into();
                Outcome::Proven(Proof { took: Span::seconds(2), counted, contracts: 1 })
            }
            Command::Restore { instance, backup } if self.is_sound(instance.service(), backup) => Outcome::Done,
            Command::ProveBackup { .. } | Command::Restore { .. } => {
                Outcome::Unusable { why: "it is damaged".to_owned() }
            }
            Command::DropBackup { service, backup } => {
                self.there.remove(&(service.clone(), backup.name.clone()));
                Outcome::Done
            }
            _ => Outcome::Done,
        }
    }

    /// From now on the backup is of no use.
    pub(crate) fn spoil(&mut self, service: &ServiceName, name: &str) {
        self.spoilt.insert((service.clone(), name.to_owned()));
    }

    /// All that are there.
    pub(crate) fn all(&self) -> Vec<Id> {
        self.there.iter().cloned().collect()
    }

    /// What the manager was told, and what it decided; `known` is what it knows since.
    pub(crate) fn record(&mut self, fact: &FactKind, at: Timestamp, known: &Knowledge) {
        match fact {
            FactKind::CommandEnded { id, outcome } => {
                let Some(about) = self.about.remove(id) else { return };
                match outcome {
                    Outcome::BackedUp(_) => drop(self.made.insert(about, at)),
                    Outcome::Proven(_) => drop(self.known_proven.insert(about)),
                    Outcome::Unusable { .. } => {
                        self.known_proven.remove(&about);
                        self.known_bad.insert(about);
                    }
                    _ => {}
                }
            }
            FactKind::BackupDropped { service, name, .. } => self.judge_drop(&(service.clone(), name.clone()), known),
            FactKind::Resumed { .. } => self.about.clear(),
            _ => {}
        }
    }

    /// The newest good one and the newest proven one stay, and whatever is being used.
    fn judge_drop(&self, dropped: &Id, known: &Knowledge) {
        let (service, name) = dropped;
        let kept: Vec<Id> = known.services[service]
            .backups
            .iter()
            .map(|(_, made)| (service.clone(), made.name.clone()))
            .filter(|id| self.made[id] >= self.made[dropped])
            .collect();
        let is_good = |id: &Id| !self.known_bad.contains(id);
        let newer = |what: &dyn Fn(&Id) -> bool| kept.iter().any(what);
        assert!(!is_good(dropped) || newer(&is_good), "{name} was the newest good backup of {service}");
        let is_proven = |id: &Id| self.known_proven.contains(id);
        assert!(!is_proven(dropped) || newer(&is_proven), "{name} was the newest proven backup of {service}");
        assert!(!self.about.values().any(|used| used == dropped), "{name} of {service} is being used");
    }

    fn is_sound(&self, service: &ServiceName, backup: &BackupMade) -> bool {
        let id = (service.clone(), backup.name.clone());
        self.there.contains(&id) && !self.spoilt.contains(&id)
    }
}
