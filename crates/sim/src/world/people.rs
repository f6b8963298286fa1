//! People: they change the estate file, ask, answer, and kill things by hand, at whatever moment.

use std::collections::BTreeSet;
use std::sync::Arc;

use ostler_manager::{Ask, Ending, Event, ServiceKnowledge, Settlement};
use ostler_model::estate::{Estate, Service};
use ostler_model::health::Exit;
use ostler_model::ids::{AttemptId, InstanceId, ProviderName, ServiceName};

use super::World;
use crate::act::Errand;
use crate::dice::{Concern, key};
use crate::sketch::Kind;
use crate::witness::all_of;

impl World {
    /// The estate file is given to ostler as it is now.
    pub(super) fn apply(&mut self) {
        let offered = self.file.providers.keys().filter_map(|name| Some((name.clone(), self.catalog(name)?)));
        let event = Event::EstateGiven { estate: self.file.clone(), catalogs: offered.collect() };
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
                // Ostler refuses for what is declared, unless everything is down; or will be, when it gets to that.
                let down = self.knowledge().is_some_and(|known| known.down) || !self.inbox.is_empty();
                if down || !self.file.services.contains_key(&service) {
                    self.witness.deletion_asked(&service);
                }
                self.tell(Event::Asked(Ask::Delete { service }));
            }
            Errand::Release { service } => {
                let Ok(service) = service.parse::<ServiceName>() else { return };
                // Ostler refuses for what is declared, unless everything is down, and for what is not bought elsewhere.
                let bought = self.knowledge().is_some_and(|known| {
                    known
                        .services
                        .get(&service)
                        .is_some_and(|found| (known.down || !found.declared) && known.is_unrepeatable(found))
                });
                if bought {
                    self.witness.release_asked(&service);
                }
                self.tell(Event::Asked(Ask::Release { service }));
            }
            Errand::RemoveProvider { provider } => self.remove_provider(provider),
            Errand::Settle { release } => {
                let how = if *release { Settlement::Release } else { Settlement::Delete };
                self.settle(how);
            }
            Errand::Drill { service, fault } => {
                if let Ok(service) = service.parse() {
                    self.tell(Event::Asked(Ask::Drill { service, fault: *fault, lasts: None, despite: None }));
                }
            }
            Errand::FailOver { service, to, accept_loss } => {
                let (Ok(service), Ok(to)) = (service.parse(), to.as_ref().map(|to| to.parse()).transpose()) else {
                    return;
                };
                self.fail_over(service, to, *accept_loss);
            }
            Errand::FailBack { service } => {
                if let Ok(service) = service.parse() {
                    self.tell(Event::Asked(Ask::FailBack { service }));
                }
            }
            Errand::Discard { service } => self.discard(service),
            Errand::Kill { service, nth } => self.kill_by_hand(service, *nth),
            Errand::Answer => self.answer(),
        }
    }

    fn fail_over(&mut self, service: ServiceName, to: Option<ProviderName>, accept_loss: bool) {
        if accept_loss {
            self.witness.loss_accepted(&service);
        }
        self.tell(Event::Asked(Ask::FailOver { service, to, accept_loss }));
    }

    /// Has the first thing deleted that a move of the service left.
    fn discard(&mut self, service: &str) {
        let Ok(service) = service.parse::<ServiceName>() else { return };
        let known = self.knowledge().and_then(|known| known.services.get(&service));
        let mut left = known.into_iter().flat_map(|known| known.instances.iter().filter(|(_, i)| i.is_fenced()));
        let Some(instance) = left.next().map(|(number, _)| InstanceId::new(service.clone(), *number)) else { return };
        self.witness.discard_asked(&instance);
        self.tell(Event::Asked(Ask::Discard { instance }));
    }

    /// Answers moves that wait for a person: they are taken back, or go on whatever is lost by that.
    fn answer_moves(&mut self) {
        let held = |service: &ServiceKnowledge| service.moving.as_ref().is_some_and(|moving| moving.held.is_some());
        let waiting: Vec<ServiceName> = self.knowledge().map_or_else(Vec::new, |known| {
            let waiting = known.services.iter().filter(|(_, service)| held(service));
            waiting.map(|(name, _)| name.clone()).collect()
        });
        for service in waiting {
            self.witness.disturb(service.as_str(), self.now);
            let mut draw = self.dice.stream(Concern::People, key(&[service.as_str()], self.counts.steps));
            match draw.chance(500) {
                true => self.tell(Event::Asked(Ask::FailBack { service })),
                false => self.fail_over(service, None, true),
            }
        }
    }

    fn kill_by_hand(&mut self, service: &str, nth: usize) {
        let Ok(service) = service.parse::<ServiceName>() else { return };
        let ids: Vec<InstanceId> = self.truth.instances.range(all_of(&service)).map(|(id, _)| id.clone()).collect();
        if ids.is_empty() {
            return;
        }
        let id = &ids[nth % ids.len()];
        if self.truth.instances.get(id).is_some_and(|truth| truth.kind == Kind::Broker) {
            return; // nobody gets at what runs there
        }
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

    /// Takes a provider out of the file, with what was bought there and what needs that, if anything is left then.
    fn remove_provider(&mut self, provider: &str) {
        let Ok(provider) = provider.parse::<ProviderName>() else { return };
        let mut gone: BTreeSet<ServiceName> = BTreeSet::new();
        loop {
            let goes = |service: &Service| {
                service.prefer.contains(&provider) || service.needs.iter().any(|need| gone.contains(need))
            };
            let more = self.file.services.values().find(|service| !gone.contains(&service.name) && goes(service));
            let Some(name) = more.map(|service| service.name.clone()) else { break };
            gone.insert(name);
        }
        let Some(declared) = self.file.providers.get(&provider).cloned() else { return };
        if gone.len() >= self.file.services.len() || self.file.providers.len() < 2 {
            return;
        }
        let specs = gone.iter().filter_map(|name| self.file.services.get(name).cloned());
        self.removed.extend(specs.map(|spec| (spec.name.clone(), spec)).collect::<Vec<_>>());
        self.removed_providers.insert(provider.clone(), declared);
        self.edit(|file| {
            file.services.retain(|name, _| !gone.contains(name));
            file.providers.remove(&provider);
        });
    }

    /// Says what is to become of everything in quarantine.
    fn settle(&mut self, how: Settlement) {
        let Some(known) = self.knowledge() else { return };
        let leftovers = known.services.values().flat_map(|service| &service.leftovers);
        let held: Vec<AttemptId> =
            leftovers.filter(|(_, leftover)| leftover.quarantined.is_some()).map(|(id, _)| id.clone()).collect();
        for leftover in held {
            if how == Settlement::Release {
                self.truth.bought.released.insert(leftover.clone());
            }
            self.tell(Event::Asked(Ask::Settle { leftover, how }));
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
            let from = back.iter().flat_map(|spec| &spec.prefer);
            let providers: Vec<_> = from.filter_map(|name| self.removed_providers.remove_entry(name)).collect();
            self.edit(|file| {
                file.providers.extend(providers);
                file.services.extend(back.into_iter().map(|spec| (spec.name.clone(), spec)));
            });
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
        let held: Vec<(ServiceName, Option<Ending>)> = known
            .services
            .iter()
            .filter(|(_, service)| service.instances.values().any(|instance| instance.held.is_some()))
            .map(|(name, service)| (name.clone(), service.ending))
            .collect();
        let sick = |id: &InstanceId| known.instance(id).is_some_and(|instance| instance.repair.is_some());
        let told: BTreeSet<InstanceId> = self.truth.instances.keys().filter(|id| sick(id)).cloned().collect();
        if !held.is_empty() {
            self.witness.disturb_all(self.now);
        }
        self.have_repaired(|id| told.contains(id));
        for (service, ending) in held {
            match ending {
                Some(Ending::Delete) => self.tell(Event::Asked(Ask::Delete { service })),
                Some(Ending::Release) => self.tell(Event::Asked(Ask::Release { service })),
                None => self.restart(service.as_str()),
            }
        }
        self.answer_moves();
        self.settle(Settlement::Delete);
    }
}
