//! People: they change the estate file, ask, answer, and kill things by hand, at whatever moment.

use std::sync::Arc;

use ostler_manager::{Ask, Ending, Event};
use ostler_model::estate::Estate;
use ostler_model::health::Exit;
use ostler_model::ids::{InstanceId, ServiceName};

use super::World;
use crate::act::Errand;
use crate::witness::all_of;

impl World {
    /// The estate file is given to ostler as it is now.
    pub(super) fn apply(&mut self) {
        let event = Event::EstateGiven { estate: self.file.clone(), catalogs: self.town.catalogs.clone() };
        self.callers.declare(self.file.services.iter().map(|(name, service)| (name, &service.needs)), self.now);
        self.tell(event);
    }

    /// Tells ostler, if it is there to be told.
    fn tell(&mut self, event: Event) {
        if self.ostler.is_some() {
            self.inbox.push_back(event.into());
        }
    }

    fn edit(&mut self, change: impl FnOnce(&mut Estate)) {
        let mut file = (*self.file).clone();
        change(&mut file);
        self.file = Arc::new(file);
        self.apply();
    }

    pub(super) fn run_errand(&mut self, errand: &Errand) {
        self.witness.disturb_all(self.now);
        match errand {
            Errand::Restart { service } => self.restart(service),
            Errand::Scale { service, instances } => {
                if let Ok(service) = service.parse() {
                    self.tell(Event::Asked(Ask::Scale { service, instances: *instances }));
                }
            }
            Errand::Backup { service } => {
                if let Ok(service) = service.parse() {
                    let name = format!("by-hand-{}", self.counts.steps);
                    self.tell(Event::Asked(Ask::Backup { service, name }));
                }
            }
            Errand::Restore { service } => {
                let Ok(service) = service.parse::<ServiceName>() else { return };
                let newest = self.knowledge().and_then(|known| known.services.get(&service)?.backups.last().cloned());
                if let Some((_, backup)) = newest {
                    self.witness.restore_asked(&service);
                    self.tell(Event::Asked(Ask::Restore { service, name: backup.name }));
                }
            }
            Errand::Down => self.tell(Event::Asked(Ask::Down)),
            Errand::Apply => self.apply(),
            Errand::Edit { service } => {
                let Ok(service) = service.parse::<ServiceName>() else { return };
                let value = format!("{}", self.counts.steps);
                self.edit(|file| {
                    if let (Some(service), Ok(value)) = (file.services.get_mut(&service), value.parse()) {
                        Arc::make_mut(service).env.insert("EDITED".to_owned(), value);
                    }
                });
            }
            Errand::Remove { service } => self.remove(service),
            Errand::PutBack { service } => self.put_back(service),
            Errand::Delete { service } => {
                let Ok(service) = service.parse::<ServiceName>() else { return };
                // Ostler refuses for what is declared, unless everything is down.
                let down = self.knowledge().is_some_and(|known| known.down);
                if down || !self.file.services.contains_key(&service) {
                    self.witness.deletion_asked(&service);
                }
                self.tell(Event::Asked(Ask::Delete { service }));
            }
            Errand::Kill { service, nth } => self.kill_by_hand(service, *nth),
            Errand::Answer => self.answer(),
        }
    }

    fn kill_by_hand(&mut self, service: &str, nth: usize) {
        let Ok(service) = service.parse::<ServiceName>() else { return };
        let ids: Vec<InstanceId> = self.truth.instances.range(all_of(&service)).map(|(id, _)| id.clone()).collect();
        if ids.is_empty() {
            return;
        }
        let id = &ids[nth % ids.len()];
        if let Some(pid) = self.truth.instances.get(id).and_then(|truth| Some(truth.process.as_ref()?.pid)) {
            self.dies(id, pid, Exit::Signal(9), "killed by hand");
        }
    }

    /// Takes a service out of the file, if nothing in it needs it, and it is not the last one.
    fn remove(&mut self, service: &str) {
        let Ok(service) = service.parse::<ServiceName>() else { return };
        let needed = self.file.services.values().any(|other| other.needs.contains(&service));
        if needed || self.file.services.len() < 2 {
            return;
        }
        if let Some(spec) = self.file.services.get(&service).cloned() {
            self.removed.insert(service.clone(), spec);
            self.edit(|file| drop(file.services.remove(&service)));
        }
    }

    /// Puts a service back into the file, with all that it needs.
    fn put_back(&mut self, service: &str) {
        let Ok(service) = service.parse::<ServiceName>() else { return };
        let (mut line, mut back) = (vec![service], Vec::new());
        while let Some(name) = line.pop() {
            let Some(spec) = self.removed.remove(&name) else { continue };
            line.extend(spec.needs.iter().filter(|need| self.removed.contains_key(*need)).cloned());
            back.push(spec);
        }
        if !back.is_empty() {
            self.edit(|file| file.services.extend(back.into_iter().map(|spec| (spec.name.clone(), spec))));
        }
    }

    fn restart(&mut self, service: &str) {
        let Ok(service) = service.parse::<ServiceName>() else { return };
        self.witness.person_came(&service);
        let asked: Vec<InstanceId> = self
            .knowledge()
            .and_then(|known| known.services.get(&service).map(|found| (known, found)))
            .into_iter()
            .filter(|(known, found)| found.declared && !known.down)
            .flat_map(|(_, found)| found.instances.iter().filter(|(_, instance)| instance.held.is_some()))
            .map(|(number, _)| InstanceId::new(service.clone(), *number))
            .collect();
        for id in asked {
            if let Some(truth) = self.truth.instances.get_mut(&id) {
                truth.lost = false; // the person was asked, and accepts an empty one
            }
        }
        self.tell(Event::Asked(Ask::Restart { service }));
    }

    /// Answers everything that is asked.
    pub(super) fn answer(&mut self) {
        let Some(known) = self.knowledge() else { return };
        let held: Vec<(ServiceName, bool)> = known
            .services
            .iter()
            .filter(|(_, service)| service.instances.values().any(|instance| instance.held.is_some()))
            .map(|(name, service)| (name.clone(), service.ending == Some(Ending::Delete)))
            .collect();
        if !held.is_empty() {
            self.witness.disturb_all(self.now);
        }
        for (service, deleted) in held {
            if deleted {
                self.tell(Event::Asked(Ask::Delete { service }));
            } else {
                self.restart(service.as_str());
            }
        }
    }
}
