//! A world for the manager to look after. It keeps its own truth about processes, data and bindings, and judges every
//! order by that truth, not by what the manager knows.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::SocketAddr;
use std::time::Duration;

use ostler_manager::UpgradeStep;
use ostler_manager::{
    Brings, Callers, Checked, Command, Decision, Drill, Event, Fact, FactKind, Instance, Instruction, Knowledge,
    Measured, Origin, Outcome, Process, ResumeCause, Scope, ServiceKnowledge, Target, check, evolve, take,
};
use ostler_model::estate::drills::Fault;
use ostler_model::health::{Exit, Health, Symptom, SymptomKind};
use ostler_model::ids::{AttemptId, BindingId, CommandId, InstanceId, ServiceName};
use ostler_model::outcome::{Failure, FailureClass, Observation, Running};
use ostler_model::overrides::OverrideId;
use ostler_model::time::Timestamp;
use ostler_model::version::Version;

use crate::broker::Broker;
use crate::stored::Stored;
use crate::support::{START, local, uuid};

/// What there really is of one instance.
#[derive(Clone, Debug, Default)]
pub(crate) struct Truth {
    /// It exists at its provider.
    pub(crate) made: bool,
    /// How many times it was made: data of another time is other data.
    pub(crate) times_made: u32,
    /// What was made is gone, and nobody has said yet that an empty one will do.
    pub(crate) lost: bool,
    pub(crate) process: Option<Living>,
    /// How many times whoever holds its process may start it again.
    pub(crate) grant: u32,
    port: u16,
}

/// A process.
#[derive(Clone, Debug)]
pub(crate) struct Living {
    pub(crate) pid: u32,
    pub(crate) since: Timestamp,
    pub(crate) hung: bool,
    /// What it was started with.
    pub(crate) needs: BTreeSet<ServiceName>,
    /// Which version it is.
    pub(crate) version: Option<Version>,
}

/// What is wrong with a version.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Flaw {
    /// It never becomes ready.
    NeverReady,
    /// A look finds that it is not as consumers rely on.
    Broken,
}

#[derive(Default)]
pub(crate) struct World {
    pub(crate) known: Knowledge,
    pub(crate) facts: Vec<Fact>,
    pub(crate) now: Timestamp,
    /// Handed over, and not carried out yet.
    pub(crate) orders: BTreeMap<CommandId, Command>,
    /// Carried out; the manager has not heard of it yet.
    pub(crate) outcomes: BTreeMap<CommandId, Outcome>,
    /// Seen; the manager has not heard of it yet.
    pub(crate) reports: VecDeque<Event>,
    pub(crate) instances: BTreeMap<InstanceId, Truth>,
    pub(crate) endpoints: BTreeMap<ServiceName, SocketAddr>,
    pub(crate) bindings: BTreeMap<BindingId, InstanceId>,
    pub(crate) routes: BTreeMap<InstanceId, SocketAddr>,
    /// The watch on each instance, and what it reported last.
    pub(crate) watches: BTreeMap<InstanceId, (CommandId, Option<Health>)>,
    pub(crate) wakes: BTreeSet<(Timestamp, Scope)>,
    /// What people were told.
    pub(crate) told: Vec<String>,
    /// Their processes never become ready.
    pub(crate) never_ready: BTreeSet<ServiceName>,
    /// Their processes die as soon as they are started.
    pub(crate) crashing: BTreeSet<ServiceName>,
    /// Sick by the record: concluded, and not taken back.
    pub(crate) sick: BTreeSet<InstanceId>,
    /// Orders that were given because something was sick.
    pub(crate) treatments: BTreeSet<CommandId>,
    /// Whose treatment has begun, and has not been given up.
    pub(crate) begun: BTreeSet<InstanceId>,
    /// Whose treatment had begun when people made the share smaller that may be under repair at once: it is finished.
    pub(crate) finished_first: BTreeSet<InstanceId>,
    /// Services whose deletion a person asked for.
    pub(crate) deletions: BTreeSet<ServiceName>,
    /// Instances that are to be deleted by themselves.
    pub(crate) discards: BTreeSet<InstanceId>,
    /// Callers have been sent to these.
    pub(crate) used: BTreeSet<InstanceId>,
    /// What a move made and callers have not been sent to yet: with its data, or not.
    pub(crate) brought: BTreeMap<InstanceId, bool>,
    /// What people instruct against what would be decided, and until when.
    pub(crate) overrides: BTreeMap<OverrideId, (Instruction, Timestamp)>,
    /// Versions that are no good.
    pub(crate) flawed: BTreeMap<(ServiceName, Version), Flaw>,
    /// What `Prove` finds is not so.
    pub(crate) broken: BTreeSet<ServiceName>,
    /// When people asked for something last.
    pub(crate) asked: Option<Timestamp>,
    /// Too large for everything to be judged after every event.
    pub(crate) is_large: bool,
    /// When remedies that do something were chosen, within the last minute.
    pub(crate) remedies: VecDeque<Timestamp>,
    /// What failed at this very time.
    pub(crate) failed_now: (Timestamp, Vec<Command>),
    pub(crate) pids: u32,
    /// What was caused on purpose, and not undone yet.
    pub(crate) fault: Option<Drill>,
    /// What there is at the broker.
    pub(crate) broker: Broker,
    /// Backups.
    pub(crate) stored: Stored,
}

pub(crate) fn failure(class: FailureClass, detail: &str) -> Failure {
    Failure { class, detail: detail.to_owned(), remedy: "look at it".to_owned() }
}

pub(crate) fn unready(detail: &str) -> Health {
    Health::Unready(Symptom { kind: SymptomKind::Refused, detail: detail.to_owned() })
}

impl World {
    pub(crate) fn new() -> Self {
        let mut world = Self { now: START, pids: 100, ..Self::default() };
        let _ = world.give(&Event::Resumed { cause: ResumeCause::Started, uuid: uuid() });
        world
    }

    /// Tells the manager, does what has no outcome, and judges the rest.
    pub(crate) fn give(&mut self, event: &Event) -> Decision {
        if matches!(event, Event::Asked(_) | Event::EstateGiven { .. }) {
            self.asked = Some(self.now);
            self.failed_now.1.clear();
        }
        if let Event::Asked(ask) = event {
            self.hear(ask);
        }
        let share = self.known.repairs_at_once();
        let decision = take(&mut self.known, event, self.now);
        if self.known.repairs_at_once() < share {
            self.finished_first.extend(self.begun.iter().cloned());
        }
        self.facts.extend(decision.facts.iter().cloned());
        for fact in &decision.facts {
            self.record(&fact.kind);
            self.stored.record(&fact.kind, fact.at, &self.known);
        }
        self.note_what_is_given();
        for (id, command) in &decision.commands {
            self.judge(command);
            if self.is_treatment(command) {
                self.treatments.insert(*id);
                if let Target::Instance(instance) = command.target() {
                    self.begun.insert(instance);
                }
            }
            self.stored.accept(*id, command);
            self.accept(*id, command);
        }
        self.wakes.extend(decision.wake.iter().cloned());
        if !self.is_large {
            assert_eq!(check(&self.known), [], "after {event:?}");
            self.assert_nothing_forgotten(event);
            self.assert_nothing_missed(event);
        }
        decision
    }

    fn hear(&mut self, ask: &ostler_manager::Ask) {
        match ask {
            ostler_manager::Ask::Delete { service } => {
                let asked = |s: &ServiceKnowledge| self.known.down || !s.declared || s.origin != Origin::Declared;
                if self.known.services.get(service).is_some_and(|service| asked(service)) {
                    self.deletions.insert(service.clone());
                }
            }
            ostler_manager::Ask::Restart { service } => {
                let asked = self.known.services.get(service).is_some_and(|s| !self.known.down && s.declared);
                for (_, truth) in self.instances.iter_mut().filter(|(id, _)| asked && id.service() == service) {
                    truth.lost = false;
                }
            }
            _ => {}
        }
    }

    fn record(&mut self, fact: &FactKind) {
        self.judge_overridden(fact);
        match fact {
            FactKind::OverrideBegan { id, instruction, until, .. } => {
                self.overrides.insert(*id, (instruction.clone(), *until));
            }
            FactKind::OverrideEnded { id, .. } => drop(self.overrides.remove(id)),
            FactKind::MoveBegan { service, .. } => {
                self.sick.retain(|id| id.service() != service);
                self.brought.retain(|id, _| id.service() != service);
            }
            FactKind::InstanceDeclared { instance } if self.keeps_data_in_a_move(instance.service()) => {
                self.brought.insert(instance.clone(), false);
            }
            FactKind::MoveTurned { service, .. } | FactKind::MoveReturned { service } => {
                let id = |number: &u32| InstanceId::new(service.clone(), *number);
                let known = self.known.services.get(service);
                let unused: Vec<InstanceId> = known
                    .into_iter()
                    .flat_map(|s| s.instances.iter().filter(|(_, i)| i.ending.is_some()).map(|(number, _)| id(number)))
                    .collect();
                for id in unused {
                    if self.discards.contains(&id) {
                        continue;
                    }
                    assert!(!self.used.contains(&id), "{id} was in use, and a move drops it");
                    self.sick.remove(&id);
                    self.discards.insert(id);
                }
                // What is brought by the other way is not there yet.
                let brings = !matches!(fact, FactKind::MoveTurned { brings: Brings::Nothing, .. });
                self.brought.retain(|id, _| id.service() != service || brings);
                self.brought.iter_mut().filter(|(id, _)| id.service() == service).for_each(|(_, there)| *there = false);
            }
            FactKind::MoveEnded { service } => self.brought.retain(|id, _| id.service() != service),
            FactKind::InstanceDiscarded { instance, .. } => drop(self.discards.insert(instance.clone())),
            FactKind::HealthChanged { instance, health: Health::Ready } if self.is_bought(instance.service()) => {
                let number = self.known.instance(instance).and_then(|i| i.attempts.number());
                self.broker.used.extend(number.map(|attempt| AttemptId { instance: instance.clone(), attempt }));
            }
            FactKind::Upgrade { service, step } => {
                if let UpgradeStep::WaveBegan { instances } = &**step {
                    self.judge_wave(service, instances);
                }
            }
            FactKind::RepairBegan { instance, .. } => drop(self.sick.insert(instance.clone())),
            FactKind::RemedyChosen { remedy, .. } if remedy.acts() => self.count_remedy(),
            FactKind::InstanceAdopted { instance, .. } => {
                // It is there, whoever made it.
                let attempt = self.known.instance(instance).map_or(0, |instance| instance.attempts.current);
                self.broker.bought.insert(AttemptId { instance: instance.clone(), attempt });
                self.instances.entry(instance.clone()).or_default().made = true;
            }
            FactKind::RepairEnded { instance } | FactKind::InstanceRetired { instance } => {
                self.sick.remove(instance);
            }
            FactKind::DownAsked => self.sick.clear(),
            FactKind::EstateDeclared { estate } => {
                self.sick.retain(|id| estate.services.contains_key(id.service()));
                self.deletions.retain(|service| !estate.services.contains_key(service));
            }
            FactKind::ReleaseAsked { service } => {
                self.deletions.remove(service); // their last word counts
                self.sick.retain(|id| id.service() != service);
            }
            FactKind::SaleEnded { service } => {
                self.deletions.insert(service.clone());
                self.sick.retain(|id| id.service() != service);
            }
            FactKind::DeleteAsked { service } => self.sick.retain(|id| id.service() != service),
            // What was done did not help, or is not known to be going on: the next treatment is another one.
            FactKind::BackedOff { instance, .. } | FactKind::Held { instance, .. } => drop(self.begun.remove(instance)),
            FactKind::Resumed { .. } => self.begun.clear(),
            _ => {}
        }
        self.begun.retain(|id| self.sick.contains(id));
        self.finished_first.retain(|id| self.begun.contains(id));
    }

    fn accept(&mut self, id: CommandId, command: &Command) {
        match command {
            Command::Watch { instance, .. } => drop(self.watches.insert(instance.clone(), (id, None))),
            Command::Unwatch { instance } => drop(self.watches.remove(instance)),
            Command::Route { instance, address: Some(address) } => {
                self.routes.insert(instance.clone(), *address);
                self.used.insert(instance.clone());
            }
            Command::Route { instance, address: None } => drop(self.routes.remove(instance)),
            Command::Notify { occasion, message, .. } => {
                self.told.push(format!("{}: {message}", occasion.as_str()));
            }
            _ => {
                if matches!(command, Command::Undo { .. }) {
                    self.orders.retain(|_, other| other.target() != command.target());
                }
                if self.is_bought(command.at_service())
                    && let Some(number) = self.number(command)
                {
                    self.broker.numbers.insert(id, number);
                }
                // Nobody looks any more at what is not to be there.
                if let Command::Stop { instance, .. }
                | Command::Deprovision { instance }
                | Command::Release { instance } = command
                {
                    self.watches.remove(instance);
                }
                self.orders.insert(id, command.clone());
            }
        }
    }

    pub(crate) fn truth(&self, id: &InstanceId) -> Truth {
        self.instances.get(id).cloned().unwrap_or_default()
    }

    /// Does what was ordered, as it should be done. The manager does not hear of it yet.
    pub(crate) fn carry_out(&mut self, id: CommandId) {
        let Some(command) = self.orders.remove(&id) else { return };
        let number = self.broker.numbers.remove(&id);
        let at_broker = matches!(command.target(), Target::Instance(_) | Target::Leftover(_));
        let outcome = match at_broker && self.is_bought(command.at_service()) {
            true => self.done_at_broker(&command, number),
            false => self.done(&command),
        };
        self.outcomes.insert(id, outcome);
    }

    pub(crate) fn done(&mut self, command: &Command) -> Outcome {
        match command {
            Command::OpenEndpoint { service, address } => {
                let free = 20_000 + u16::try_from(self.endpoints.len()).unwrap();
                let address = address.unwrap_or(local(free));
                self.endpoints.insert(service.clone(), address);
                Outcome::Open(address)
            }
            Command::CloseEndpoint { service } => {
                self.endpoints.remove(service);
                Outcome::Done
            }
            Command::Fence { service, .. } => {
                let known = &self.known;
                self.routes
                    .retain(|id, _| id.service() != service || known.instance(id).is_none_or(|i| !i.is_fenced()));
                Outcome::Done
            }
            Command::Prove { instance } => {
                let symptom = Symptom { kind: SymptomKind::WrongAnswer, detail: "it is not so".to_owned() };
                let is_broken = self.flaw(instance) == Some(Flaw::Broken) || self.broken.contains(instance.service());
                let problem = is_broken.then_some(symptom);
                Outcome::Proved { checks: vec![Checked { name: "it is so".to_owned(), problem }] }
            }
            Command::Restore { instance, .. } => {
                let outcome = self.stored.done(command);
                if let Some(there) = self.brought.get_mut(instance).filter(|_| outcome == Outcome::Done) {
                    *there = true;
                }
                outcome
            }
            Command::Provision { instance } => {
                let port = 40_000 + u16::try_from(self.instances.len()).unwrap();
                let truth =
                    self.instances.entry(instance.clone()).or_insert_with(|| Truth { port, ..Truth::default() });
                if !truth.made {
                    truth.made = true;
                    truth.lost = false;
                    truth.times_made += 1;
                }
                Outcome::Done
            }
            Command::Observe { instance } => Outcome::Observed(self.observe(instance)),
            Command::Start { instance, generation, reflex_burst, .. } => {
                self.start(instance, *generation, *reflex_burst)
            }
            Command::Stop { instance, .. } => {
                let was = self.instances.get_mut(instance).and_then(|truth| {
                    truth.grant = 0;
                    truth.process.take()
                });
                Outcome::Stopped { exit: was.map(|_| Exit::Signal(15)), killed: false, cut: 0 }
            }
            Command::Deprovision { instance } => {
                self.instances.remove(instance);
                self.bindings.retain(|_, at| at != instance);
                Outcome::Done
            }
            Command::Bind { binding, instance, endpoint } => {
                self.bindings.insert(binding.clone(), instance.clone());
                let time = self.truth(instance).times_made;
                Outcome::Bound { digest: format!("{instance} of time {time} at {endpoint}"), renew_at: None }
            }
            Command::Unbind { binding, .. } => {
                self.bindings.remove(binding);
                Outcome::Done
            }
            Command::Backup { .. } | Command::ProveBackup { .. } | Command::DropBackup { .. } => {
                self.stored.done(command)
            }
            Command::Fault { drill } => {
                self.fault = Some((**drill).clone());
                if let Some(binding) = drill.binding() {
                    self.bindings.remove(binding);
                }
                for hit in &drill.hits {
                    match drill.fault {
                        Fault::Kill if self.is_hit(&hit.instance) => self.kill(&hit.instance),
                        Fault::Hang | Fault::Slow if self.is_hit(&hit.instance) => self.hang(&hit.instance, true),
                        _ => {}
                    }
                }
                Outcome::Caused { at: self.now }
            }
            Command::Undo { drill } => {
                for hit in &drill.hits {
                    if matches!(drill.fault, Fault::Hang | Fault::Slow) && self.is_hit(&hit.instance) {
                        self.hang(&hit.instance, false);
                    }
                }
                self.fault = None;
                Outcome::Undone(Box::new(Measured { callers: Some(Callers::default()), ..Measured::default() }))
            }
            Command::Before { .. }
            | Command::Update { .. }
            | Command::Tidy { .. }
            | Command::Release { .. }
            | Command::Mitigate { .. } => Outcome::Done,
            Command::Watch { .. } | Command::Unwatch { .. } | Command::Route { .. } | Command::Notify { .. } => {
                unreachable!("has no outcome")
            }
        }
    }

    pub(crate) fn observe(&self, id: &InstanceId) -> Observation {
        let truth = self.truth(id);
        match (truth.made, &truth.process) {
            (_, Some(process)) if self.is_bought(id.service()) => {
                Observation::Running(Running { pid: None, ..running(process, truth.port) })
            }
            (_, Some(process)) => Observation::Running(running(process, truth.port)),
            (true, None) => Observation::Stopped { exit: None },
            (false, None) => Observation::Absent,
        }
    }

    /// Whether what is done on purpose is done to the process that runs now.
    fn is_hit(&self, id: &InstanceId) -> bool {
        let hit = self.fault.iter().flat_map(|drill| &drill.hits).find(|hit| hit.instance == *id);
        let Some(hit) = hit else { return false };
        let process = self.truth(id).process;
        self.is_bought(id.service()) || process.is_some_and(|process| hit.running.pid == Some(process.pid))
    }

    /// Whether the binding that a drill ended is there again.
    fn has_binding(&self) -> bool {
        self.fault.as_ref().and_then(Drill::binding).is_none_or(|binding| self.bindings.contains_key(binding))
    }

    fn hang(&mut self, id: &InstanceId, hung: bool) {
        if let Some(process) = self.instances.get_mut(id).and_then(|truth| truth.process.as_mut()) {
            process.hung = hung;
        }
    }

    fn start(&mut self, id: &InstanceId, generation: u32, grant: u32) -> Outcome {
        let now = self.now;
        let launch = self.known.services.get(id.service()).and_then(|service| service.launches.get(&generation));
        let launch = launch.expect("what is started is known");
        let (needs, version) = (launch.needs.keys().cloned().collect(), launch.placement.version.clone());
        let Some(truth) = self.instances.get_mut(id).filter(|truth| truth.made) else {
            return Outcome::Failed(failure(FailureClass::Temporary, "there is no such instance"));
        };
        if truth.process.is_none() {
            self.pids += 1;
            truth.process = Some(Living { pid: self.pids, since: now, hung: false, needs, version });
        }
        truth.grant = grant;
        let process = truth.process.as_ref().expect("it was started");
        Outcome::Started(running(process, truth.port).into())
    }

    /// Tells the manager what came of a command.
    pub(crate) fn tell_outcome(&mut self, id: CommandId) -> Option<Decision> {
        let outcome = self.outcomes.remove(&id)?;
        Some(self.give(&Event::Ended { id, outcome }))
    }

    /// It did not happen.
    pub(crate) fn fail(&mut self, id: CommandId, class: FailureClass) {
        if let Some(command) = self.orders.remove(&id) {
            let number = self.broker.numbers.remove(&id);
            let asks = matches!(command, Command::Provision { .. } | Command::Bind { .. } | Command::Start { .. });
            let of_broker = matches!(class, FailureClass::InDoubt | FailureClass::LeftBehind | FailureClass::Unclear);
            let class = match (asks && self.is_bought(command.at_service()), of_broker) {
                (false, true) => FailureClass::Temporary,
                (true, true) | (_, false) => class,
            };
            if let (Command::Provision { instance }, Some(attempt), FailureClass::InDoubt | FailureClass::LeftBehind) =
                (&command, number, class)
            {
                self.broker.late.insert(AttemptId { instance: instance.clone(), attempt }, self.now);
            }
            let outcome = Outcome::Failed(failure(class, "it went wrong"));
            let _ = self.give(&Event::Ended { id, outcome });
            self.assert_pauses(&command);
        }
    }

    /// It was done, and whoever did it was cut off before saying so.
    pub(crate) fn cut_off(&mut self, id: CommandId) {
        let Some(order) = self.orders.get(&id).cloned() else { return };
        self.carry_out(id);
        self.outcomes.remove(&id);
        self.orders.insert(id, order);
        self.fail(id, FailureClass::Interrupted);
    }

    /// Ends the instance's process; the report of it waits to be told. Whoever holds it starts it again if it may.
    pub(crate) fn kill(&mut self, id: &InstanceId) {
        self.pass(Duration::from_millis(1));
        let (now, next) = (self.now, self.pids + 1);
        if self.is_bought(id.service()) {
            return; // whoever runs it sees to that
        }
        let Some(truth) = self.instances.get_mut(id) else { return };
        let Some(process) = truth.process.take() else { return };
        let reflex = if truth.grant > 0 {
            self.pids = next;
            truth.grant -= 1;
            truth.process =
                Some(Living { pid: next, since: now, hung: false, needs: process.needs, version: process.version });
            Ok(Process { pid: next, since: now })
        } else {
            Err("its restarts are spent".to_owned())
        };
        let (pid, exit) = (Some(process.pid), Exit::Signal(9));
        self.reports.push_back(Event::Died { instance: id.clone(), pid, exit, at: now, reflex });
    }

    /// What was made is no longer there.
    pub(crate) fn lose(&mut self, id: &InstanceId) {
        if let Some(truth) = self.instances.get_mut(id).filter(|truth| truth.made && truth.process.is_none()) {
            truth.made = false;
            self.broker.bought.retain(|bought| bought.instance != *id);
            self.broker.bound.retain(|(_, at, _)| at != id);
            self.bindings.retain(|_, at| at != id);
            // A person answered for what was known to be lost; this is another loss. What a move brings is elsewhere, too.
            let elsewhere = self.brought.contains_key(id) && !self.used.contains(id);
            truth.lost = !elsewhere && self.known.instance(id).is_some_and(|i| i.generation.is_some());
        }
    }

    /// Everything starts over for the manager. What was handed over is lost, or done without its hearing of it.
    pub(crate) fn resume(&mut self, cause: ResumeCause, carried_out: impl Fn(CommandId) -> bool) -> Decision {
        let orders: Vec<CommandId> = self.orders.keys().copied().collect();
        for id in orders.into_iter().filter(|id| carried_out(*id)) {
            self.carry_out(id);
        }
        self.orders.clear();
        self.watches.clear();
        match cause {
            ResumeCause::Started => {
                self.outcomes.clear();
                self.wakes.clear();
            }
            // Outcomes from before can still arrive: nobody waits for them.
            ResumeCause::StoredLate => {}
            ResumeCause::HolderReturned => self.instances.values_mut().for_each(|truth| truth.grant = 0),
        }
        self.give(&Event::Resumed { cause, uuid: uuid() })
    }

    /// What is wrong with the version that the instance runs.
    fn flaw(&self, id: &InstanceId) -> Option<Flaw> {
        let version = self.instances.get(id)?.process.as_ref()?.version.clone()?;
        self.flawed.get(&(id.service().clone(), version)).copied()
    }

    /// The health that a probe would find now.
    pub(crate) fn health(&self, id: &InstanceId) -> Health {
        let caused = self.fault.as_ref().map(|drill| drill.fault).filter(|_| self.is_hit(id));
        match self.truth(id).process {
            Some(_) if matches!(caused, Some(Fault::Hang | Fault::Slow)) => {
                Health::Unready(Symptom { kind: SymptomKind::TimedOut, detail: "no answer in time".to_owned() })
            }
            Some(_) if caused == Some(Fault::FillDisk) => {
                Health::Shallow(Symptom { kind: SymptomKind::DiskFull, detail: "its disk is full".to_owned() })
            }
            Some(_) if caused == Some(Fault::WrongCredentials) && !self.has_binding() => {
                Health::Shallow(Symptom { kind: SymptomKind::WrongAnswer, detail: "it cannot log in".to_owned() })
            }
            Some(_) if matches!(caused, Some(Fault::Refuse | Fault::ProviderOutage)) => unready("connection refused"),
            Some(_) if self.flaw(id) == Some(Flaw::NeverReady) => unready("it does not work"),
            Some(process) if !process.hung && !self.never_ready.contains(id.service()) => Health::Ready,
            Some(_) => unready("no answer"),
            None => unready("connection refused"),
        }
    }

    /// The instance's watch tells what it finds, if that has changed.
    pub(crate) fn probe(&mut self, id: &InstanceId) -> Option<Decision> {
        let health = self.health(id);
        let (watch, reported) = self.watches.get_mut(id)?;
        if reported.as_ref() == Some(&health) {
            return None;
        }
        *reported = Some(health.clone());
        let watch = *watch;
        Some(self.give(&Event::Probed { instance: id.clone(), watch, health }))
    }

    /// The instance's probe cannot be made: nothing is seen of it until the next one.
    pub(crate) fn blind(&mut self, id: &InstanceId) {
        let symptom = Symptom { kind: SymptomKind::Unknown, detail: "no more descriptors".to_owned() };
        let health = Health::Unready(symptom);
        if let Some((watch, reported)) = self.watches.get_mut(id) {
            *reported = Some(health.clone());
            let watch = *watch;
            let _ = self.give(&Event::Probed { instance: id.clone(), watch, health });
        }
    }

    /// Lets time pass; looks that were asked for happen on the way.
    pub(crate) fn pass(&mut self, length: Duration) {
        let until = self.now + length;
        while let Some((at, scope)) = self.wakes.first().cloned().filter(|(at, _)| *at <= until) {
            self.wakes.pop_first();
            self.now = self.now.max(at);
            let _ = self.give(&Event::Look(scope));
        }
        self.now = until;
    }

    /// One thing that a world does that obliges: the next report, outcome, order or probe.
    pub(crate) fn oblige(&mut self) -> bool {
        if let Some(report) = self.reports.pop_front() {
            let _ = self.give(&report);
            return true;
        }
        if let Some(id) = self.outcomes.keys().next().copied() {
            let _ = self.tell_outcome(id);
            return true;
        }
        if let Some(id) = self.orders.keys().next().copied() {
            self.carry_out(id);
            return true;
        }
        let crashing: Vec<InstanceId> =
            self.instances.keys().filter(|id| self.crashing.contains(id.service())).cloned().collect();
        for id in crashing {
            if let Some(truth) = self.instances.get_mut(&id) {
                truth.grant = 0; // spent within the moment
            }
            self.kill(&id);
        }
        let watched: Vec<InstanceId> = self.watches.keys().cloned().collect();
        !self.reports.is_empty() || watched.iter().any(|id| self.probe(id).is_some())
    }

    /// Obliges until nothing more happens by itself.
    pub(crate) fn settle(&mut self) {
        for _ in 0..100_000 {
            if !self.oblige() {
                return;
            }
        }
        panic!("no end of it: {:?}", self.orders);
    }

    pub(crate) fn instance(&self, id: &InstanceId) -> &Instance {
        self.known.instance(id).expect("it is known")
    }

    /// What the facts alone make known.
    pub(crate) fn folded(&self) -> Knowledge {
        let mut known = Knowledge::default();
        self.facts.iter().for_each(|fact| evolve(&mut known, fact));
        known
    }
}

fn running(process: &Living, port: u16) -> Running {
    Running { pid: Some(process.pid), address: local(port), since: process.since }
}
