//! What the world reports: outcomes, health, deaths. Each becomes a fact and, where something is wrong, a conclusion.

use std::ops::Bound;
use std::time::Duration;

use ostler_model::estate::Occasion;
use ostler_model::health::{Exit, Health, SymptomKind};
use ostler_model::ids::{AttemptId, CommandId, InstanceId, ServiceName};
use ostler_model::outcome::{Failure, FailureClass, Observation, Running};
use ostler_model::time::{Timestamp, in_words};

use super::Draft;
use crate::backoff;
use crate::command::{Command, Outcome, Target};
use crate::event::{Process, Scope};
use crate::fact::{Diagnosis, FactKind};
use crate::knowledge::{Instance, OperationKind, Phase, ServiceKnowledge, Wanted};

/// Repairs of one service that succeed within so long of each other are not told one by one.
pub(crate) const HEALED_TOLD_EVERY: Duration = Duration::from_secs(60);
/// The start time of a process can be told so much earlier than the death of the one before it, though it came after:
/// kernels count start times in hundredths of a second.
const START_TIME_GRAIN: Duration = Duration::from_millis(100);
/// So many that wait for the same thing are looked at when it may have become free. One can take it; the others are for
/// the case that this one cannot after all.
const NEXT_IN_LINE: usize = 8;
/// At most so many are passed over in search of those.
const SEARCHED_MAX: usize = 64;

impl Draft<'_> {
    pub(super) fn ended(&mut self, id: CommandId, outcome: &Outcome) {
        // An outcome that nobody waits for is from before everything was looked at again.
        let Some(command) = self.known.commands.get(&id) else { return };
        self.fact(FactKind::CommandEnded { id, outcome: outcome.clone() });
        match command.target() {
            Target::Endpoint(service) => {
                self.look(Scope::Service(service.clone()));
                self.look_at_consumers(&service);
            }
            Target::Instance(instance) => {
                match outcome {
                    Outcome::Failed(failure) => {
                        self.failed(&instance, command, failure);
                        self.tell_backup_failed(&instance, command, failure);
                    }
                    Outcome::Observed(observation) => self.observed(&instance, observation),
                    Outcome::Unusable { why } => self.tell_unusable(command, why),
                    _ => {}
                }
                self.look(Scope::Instance(instance.clone()));
                self.look_at_move(instance.service()); // it may have been a step of that
                self.follow_up(&instance, command);
            }
            Target::Leftover(leftover) => {
                if let Outcome::Failed(failure) = outcome {
                    self.not_deleted(&leftover, failure);
                }
                self.look(Scope::Service(leftover.instance.service().clone()));
            }
            Target::Vault(service) => {
                self.proof_ended(command, outcome);
                self.look(Scope::Service(service));
            }
            Target::Drill(service) => {
                // Who was thrown out is let in again.
                let drill = self.known.drill.as_deref().map(|drilling| drilling.drill.suffers().clone());
                self.look(Scope::Service(drill.unwrap_or_else(|| service.clone())));
                self.look(Scope::Service(service));
            }
            Target::Nothing => {}
        }
    }

    /// What cannot be deleted for so long that it cannot be on its way any more is a person's.
    fn not_deleted(&mut self, id: &AttemptId, failure: &Failure) {
        let service = id.instance.service();
        let leftover = self.known.services.get(service).and_then(|service| service.leftovers.get(id));
        let Some(leftover) = leftover.filter(|leftover| leftover.quarantined.is_none()) else { return };
        let nobody_else_can = failure.class == FailureClass::NeedsPerson;
        if nobody_else_can || leftover.is_hopeless(self.now) {
            let why = failure.detail.clone();
            let provider = &leftover.placement.provider;
            let message = format!(
                "{id} may exist at {provider} and cost money, and cannot be deleted there: {why}; see `ostler status`"
            );
            self.tell(service, Occasion::Held, message);
            self.fact(FactKind::Quarantined { leftover: id.clone(), why });
        }
    }

    /// A backup that is missing is noticed when it is needed, unless somebody says so.
    fn tell_backup_failed(&mut self, id: &InstanceId, command: &Command, failure: &Failure) {
        let Some(service) = self.known.services.get(id.service()) else { return };
        let failures = service.backup_failures.saturating_add(1);
        if matches!(command, Command::Backup { .. }) && failures == backoff::FAILURES_TOLD {
            let name = &service.spec.name;
            let last = match service.backups.last() {
                Some((at, _)) => format!("the last one is {} old", in_words(self.now.since(*at))),
                None => "there is none".to_owned(),
            };
            let message =
                format!("the backup of {name} has failed {failures} times in a row: {}; {last}", failure.detail);
            self.tell(name, Occasion::Failed, message);
        }
    }

    /// What else may go on now that a command on `id` has ended.
    fn follow_up(&mut self, id: &InstanceId, command: &Command) {
        let Some(service) = self.known.services.get(id.service()) else { return };
        let mut just_bound = None;
        match command {
            Command::Bind { binding, .. } | Command::Unbind { binding, .. } | Command::Tidy { binding, .. } => {
                just_bound = Some(&binding.consumer);
                self.look(Scope::Service(binding.consumer.clone()));
            }
            Command::Before { .. }
            | Command::Backup { .. }
            | Command::Restore { .. }
            | Command::Prove { .. }
            | Command::Stop { .. }
            | Command::Provision { .. }
            | Command::Observe { .. }
            | Command::Update { .. }
            | Command::Release { .. }
            | Command::Deprovision { .. } => self.look(Scope::Service(id.service().clone())),
            // The first start winds up the clock of the backups.
            Command::Start { .. } if service.backup_clock.is_none() => self.look(Scope::Service(id.service().clone())),
            _ => {}
        }
        self.look_after_use(id, service);
        // Another instance may be the one now that runs the one-off command, or that is backed up; or that callers stay
        // with, where the last one that was ready turns out to run no more.
        let last = service.ready <= 1 && service.instances.get(&id.number()).is_some_and(|i| i.is_ready());
        if last || service.before_is_due() || service.backup_wanted.is_some() || service.restore_wanted.is_some() {
            self.look(Scope::Service(id.service().clone()));
        }
        self.look_at_waiting(id.service(), just_bound);
        if self.known.instance(id).is_some_and(|instance| instance.repair.is_some()) {
            self.look_at_sick();
        }
    }

    /// Something about an instance is over: its service may be able to rest now, or to end a binding that only it used
    /// still, and what only it used may stop.
    fn look_after_use(&mut self, id: &InstanceId, service: &ServiceKnowledge) {
        let known = self.known;
        let unneeded = service.bindings.keys().any(|need| !service.spec.needs.contains(need));
        if unneeded || !known.is_wanted(service) {
            self.look(Scope::Service(id.service().clone()));
        }
        let others_use = |need: &ServiceName| {
            service.instances.iter().any(|(number, i)| *number != id.number() && service.is_user(i, need))
        };
        for need in service.spec.needs.iter().chain(service.bindings.keys()) {
            if known.services.get(need).is_some_and(|needed| !known.is_wanted(needed)) && !others_use(need) {
                self.look(Scope::Service(need.clone()));
            }
        }
    }

    /// One operation at a time: whoever waits to be bound to an instance of `need`, or unbound from one, may be next. The
    /// search begins after the one that was served last, so that everybody has a turn.
    pub(crate) fn look_at_waiting(&mut self, need: &ServiceName, last: Option<&ServiceName>) {
        let Some(consumers) = self.known.consumers.get(need) else { return };
        let after = last.map_or(Bound::Unbounded, Bound::Excluded);
        let up_to = last.map(|last| (Bound::Unbounded, Bound::Excluded(last)));
        let round = consumers
            .range::<ServiceName, _>((after, Bound::Unbounded))
            .chain(up_to.into_iter().flat_map(|up_to| consumers.range::<ServiceName, _>(up_to)));
        let next: Vec<Scope> = round
            .filter(|consumer| self.waits_for_binding(consumer, need))
            .take(NEXT_IN_LINE)
            .cloned()
            .map(Scope::Service)
            .collect();
        self.decision.look.extend(next);
    }

    fn waits_for_binding(&self, consumer: &ServiceName, need: &ServiceName) -> bool {
        let Some(service) = self.known.services.get(consumer) else { return false };
        let needed = service.spec.needs.contains(need);
        let due = service.bindings.get(need).is_some_and(|binding| binding.is_due(self.now));
        let to_bind = needed && self.known.is_wanted(service) && (due || !self.known.is_bound(service, need));
        let to_unbind = !needed && service.bindings.contains_key(need);
        let gone = !service.declared && service.instances.is_empty() && service.bindings.contains_key(need);
        let to_tidy = service.bindings.get(need).is_some_and(|binding| !binding.left.is_empty());
        let pauses = service.binding_pause(self.now).is_some();
        (to_bind || to_unbind || gone || to_tidy) && !pauses
    }

    fn failed(&mut self, id: &InstanceId, command: &Command, failure: &Failure) {
        let known = self.known;
        let (Some(service), Some(instance)) = (known.services.get(id.service()), known.instance(id)) else { return };
        let starts = match command {
            Command::Provision { .. } | Command::Before { .. } | Command::Start { .. } => true,
            Command::Observe { .. }
            | Command::Stop { .. }
            | Command::Deprovision { .. }
            | Command::Release { .. }
            | Command::Update { .. } => false,
            // A binding or a backup that fails says nothing against the instance: its consumer, its service try again.
            _ => return,
        };
        let wanted = known.wanted(service, instance);
        // What runs already was only to be entrusted to whoever holds it now: nothing is wrong with it.
        let concluded = starts && wanted == Wanted::Running && instance.phase != Phase::Running;
        let remedy = Some(failure.remedy.clone()).filter(|remedy| !remedy.is_empty());
        let diagnosis = Diagnosis::CannotStart { cause: failure.detail.clone(), remedy };
        let because = if starts { format!("it {}", diagnosis.in_words()) } else { failure.detail.clone() };
        // The question that it waits on is asked already.
        let looks_at_held = matches!(command, Command::Observe { .. }) && instance.waits_for_person();
        match failure.class {
            // It is observed after a pause: `evolve` saw to that.
            FailureClass::Interrupted => {}
            // It is observed at once, and then something is concluded.
            FailureClass::InDoubt if !matches!(command, Command::Start { .. }) => {}
            // What it may have made is in quarantine, and nothing more is asked for.
            FailureClass::Unclear if wanted != Wanted::Running => {}
            // Another ask would only leave behind another one.
            FailureClass::Unclear => {
                self.begin_repair(id, diagnosis);
                self.hold(id, failure.detail.clone(), restart_after(&failure.remedy, id));
                self.look_at_sick();
            }
            // Nobody can answer for what is only to be stopped, so that goes on with growing pauses.
            FailureClass::NeedsPerson if wanted != Wanted::AtRest && !looks_at_held => {
                if concluded {
                    self.begin_repair(id, diagnosis);
                }
                let answer = match wanted {
                    Wanted::Gone(ending) => {
                        format!("{}; then ask again to {} {}", failure.remedy, ending.in_words(), id.service())
                    }
                    Wanted::Running | Wanted::AtRest => restart_after(&failure.remedy, id),
                };
                self.hold(id, failure.detail.clone(), answer);
                self.look_at_sick();
            }
            FailureClass::Temporary | FailureClass::NeedsPerson | FailureClass::LeftBehind | FailureClass::InDoubt => {
                if concluded {
                    self.begin_repair(id, diagnosis);
                }
                match command {
                    // It counts for the launch, so that the next instance does not begin anew.
                    Command::Before { generation, .. } => {
                        let trouble = service.before_trouble.as_ref().filter(|before| before.generation == *generation);
                        let failures = trouble.map_or(0, |before| before.failures).saturating_add(1);
                        self.back_off_after(id, service, failures, &because);
                    }
                    _ => self.back_off(id, service, instance, &because),
                }
            }
        }
    }

    /// People are told once: what comes up again with the same words, because the file was given again, is known.
    fn hold(&mut self, id: &InstanceId, question: String, answer: String) {
        let told = self.known.instance(id).and_then(|instance| instance.told_question.as_ref());
        // A move takes another way, or asks for itself.
        let moves = self.known.services.get(id.service()).and_then(|service| service.moving.as_ref());
        let has_another_way = moves.is_some_and(|moving| moving.can_be_given_up());
        if told != Some(&question) && !has_another_way {
            self.tell(id.service(), Occasion::Held, format!("{id} waits for a person: {question}"));
        }
        self.fact(FactKind::Held { instance: id.clone(), question, answer, goes_on: false });
        self.look_at_move(id.service());
    }

    /// A service that moves may have to take another way.
    fn look_at_move(&mut self, service: &ServiceName) {
        if self.known.services.get(service).is_some_and(|service| service.moving.is_some()) {
            self.look(Scope::Service(service.clone()));
        }
    }

    /// People are told, and what can be tried goes on meanwhile.
    pub(crate) fn ask_for_help(&mut self, id: &InstanceId, question: String, answer: String) {
        let told = self.known.instance(id).and_then(|instance| instance.told_question.as_ref());
        let others = self.known.services.get(id.service()).into_iter().flat_map(|service| service.instances.values());
        let asked = others.filter(|other| other.goes_on).any(|other| other.held.is_some());
        // Once for each service, or the same cause would be told as often as there are instances.
        if told != Some(&question) && !asked {
            self.tell(id.service(), Occasion::Held, format!("{id} needs a person: {question}"));
        }
        self.fact(FactKind::Held { instance: id.clone(), question, answer, goes_on: true });
        self.look_at_move(id.service());
    }

    fn observed(&mut self, id: &InstanceId, observation: &Observation) {
        let known = self.known;
        let (Some(service), Some(instance)) = (known.services.get(id.service()), known.instance(id)) else { return };
        let wanted = known.wanted(service, instance);
        let exit = match observation {
            Observation::Running(running) => return self.replaced(id, instance, wanted, *running),
            Observation::Stopped { exit } => *exit,
            Observation::Absent => None,
            Observation::NotSeen { why } | Observation::Useless { why } => {
                if wanted == Wanted::Running && instance.attempts.is_open() {
                    let diagnosis = Diagnosis::CannotStart { cause: why.clone(), remedy: None };
                    let because = format!("it {}", diagnosis.in_words());
                    self.begin_repair(id, diagnosis);
                    self.back_off(id, service, instance, &because);
                }
                return;
            }
        };
        if wanted == Wanted::Running && instance.phase == Phase::Running {
            self.begin_repair(id, Diagnosis::FoundDead { exit });
        }
        // What was to be brought to a new place is still where it was brought from.
        let holds_nothing =
            service.moving.as_ref().is_some_and(|moving| moving.can_be_given_up()) && !instance.is_fenced();
        let lost = *observation == Observation::Absent && instance.phase != Phase::Declared && !holds_nothing;
        if lost && !matches!(wanted, Wanted::Gone(_)) && known.is_durable(service) {
            self.hold_as_lost(id);
        }
    }

    /// Another process is found than the one that is known to run: that one ended, it was started again, and the
    /// report of it was lost with a keeper. Nobody knows any more how it ended, but that it did belongs to its history.
    fn replaced(&mut self, id: &InstanceId, instance: &Instance, wanted: Wanted, found: Running) {
        let known = instance.running.filter(|_| instance.phase == Phase::Running).and_then(|running| running.pid);
        let (Some(former), Some(pid)) = (known, found.pid) else { return };
        if former == pid || wanted != Wanted::Running {
            return;
        }
        self.fact(FactKind::InstanceDied {
            instance: id.clone(),
            pid: Some(former),
            exit: Exit::Unknown,
            seen: found.since,
            restarted: Some(Process { pid, since: found.since }),
            why_not: None,
        });
        self.begin_repair(id, Diagnosis::DiedAndRestarted { exit: Exit::Unknown });
    }

    /// What was made is no longer there. Making it again would put an empty thing in the place of data: a person
    /// decides.
    pub(crate) fn hold_as_lost(&mut self, id: &InstanceId) {
        let question = format!("{id} is gone from its provider, with its data");
        self.hold(id, question, restart_after("put its data back, or accept an empty one", id));
    }

    pub(super) fn probed(&mut self, id: &InstanceId, watch: CommandId, health: &Health) {
        let known = self.known;
        let (Some(service), Some(instance)) = (known.services.get(id.service()), known.instance(id)) else { return };
        if instance.watch != Some(watch) {
            return;
        }
        if let Health::Unready(symptom) = health
            && symptom.kind == SymptomKind::Unknown
        {
            // It says nothing about the instance, so nothing follows from it.
            if instance.unprobed.as_ref() != Some(symptom) {
                self.fact(FactKind::HealthChanged { instance: id.clone(), health: health.clone() });
            }
            return;
        }
        if instance.health.as_ref() == Some(health) && instance.unprobed.is_none() {
            return;
        }
        self.fact(FactKind::HealthChanged { instance: id.clone(), health: health.clone() });
        self.look(Scope::Instance(id.clone()));
        let ready = matches!(health, Health::Ready | Health::Shallow(_));
        if ready && let Some(repair) = &instance.repair {
            self.fact(FactKind::RepairEnded { instance: id.clone() });
            let took = in_words(self.now.since(repair.began));
            let drill = if instance.drilled { ", as a drill had it" } else { "" };
            let words = format!("{}{drill}", repair.diagnosis.in_words());
            // The first is told at once, and so is what was told to have failed; a series is summed up when it is over.
            let healed = service.healed;
            let first = healed.untold == 0 && healed.told.is_none_or(|told| self.now >= told + HEALED_TOLD_EVERY);
            if first || instance.told_failed {
                self.tell(id.service(), Occasion::Healed, format!("{id} {words}; it works again after {took}"));
            } else {
                self.look(Scope::Service(id.service().clone()));
            }
            self.look_at_sick();
        }
        if ready == instance.is_ready() {
            return;
        }
        // Only the first one to become ready, and the last one to go, change anything for all others.
        if service.ready <= 1 || service.moving.is_some() {
            self.look(Scope::Service(id.service().clone()));
        }
        if !ready {
            return;
        }
        if service.backup_wanted.is_some() || service.restore_wanted.is_some() {
            self.look(Scope::Service(id.service().clone()));
        }
        if service.ready == 0 {
            self.look_at_consumers(id.service());
        } else {
            self.look_at_waiting(id.service(), None);
        }
        // Others of an old launch had to wait for this one.
        let idle = |number: &&u32| {
            **number != id.number() && service.instances.get(number).is_some_and(|i| i.operation.is_none())
        };
        let next = service.outdated.iter().filter(idle).take(service.replaced_at_once() + NEXT_IN_LINE);
        self.decision.look.extend(next.map(|number| Scope::Instance(service.instance_id(*number))));
    }

    pub(super) fn died(
        &mut self,
        id: &InstanceId,
        pid: Option<u32>,
        exit: Exit,
        seen: Timestamp,
        reflex: &Result<Process, String>,
    ) {
        let known = self.known;
        let (Some(service), Some(instance)) = (known.services.get(id.service()), known.instance(id)) else { return };
        let starts = instance.operation.is_some_and(|operation| operation.kind == OperationKind::Start);
        let news = match instance.running {
            Some(running) => is_news(running, pid, seen, reflex),
            // It was started and died before anybody here heard that it was started.
            None => starts && seen > instance.since,
        };
        if !news {
            return self.look(Scope::Instance(id.clone()));
        }
        self.fact(FactKind::InstanceDied {
            instance: id.clone(),
            pid,
            exit,
            seen,
            restarted: reflex.as_ref().ok().copied(),
            why_not: reflex.as_ref().err().cloned(),
        });
        let stopping = instance.operation.is_some_and(|operation| operation.kind == OperationKind::Stop);
        if known.wanted(service, instance) == Wanted::Running && !stopping {
            match reflex {
                Ok(_) => self.begin_repair(id, Diagnosis::DiedAndRestarted { exit }),
                Err(why_not) => {
                    let diagnosis = Diagnosis::Died { exit, why_not: why_not.clone() };
                    let because = format!("it {}", diagnosis.in_words());
                    self.begin_repair(id, diagnosis);
                    self.back_off(id, service, instance, &because);
                }
            }
        }
        if reflex.is_err() && instance.watch.is_some() {
            self.command(Command::Unwatch { instance: id.clone() });
        }
        self.look(Scope::Instance(id.clone()));
        if instance.is_ready() && service.ready <= 1 {
            self.look(Scope::Service(id.service().clone()));
        }
        self.look_after_use(id, service);
    }

    pub(crate) fn begin_repair(&mut self, id: &InstanceId, diagnosis: Diagnosis) {
        self.fact(FactKind::RepairBegan { instance: id.clone(), diagnosis });
    }

    /// Records one more failure, with the pause that follows from it, and tells people once it fails again and again:
    /// once for each service, or the same cause would be told as often as there are instances.
    pub(crate) fn back_off(&mut self, id: &InstanceId, service: &ServiceKnowledge, instance: &Instance, because: &str) {
        let failures = backoff::failures_with(instance, self.now);
        self.back_off_after(id, service, failures, because);
    }

    fn back_off_after(&mut self, id: &InstanceId, service: &ServiceKnowledge, failures: u32, because: &str) {
        let until = self.now + backoff::pause(failures);
        self.fact(FactKind::BackedOff { instance: id.clone(), until, failures });
        self.look_at_move(id.service());
        if failures >= backoff::FAILURES_TOLD && !service.instances.values().any(|i| i.told_failed) {
            let drill = if self.known.is_drilled(id) { ", as a drill has it" } else { "" };
            let message = format!("{id} has failed {failures} times in a row: {because}{drill}");
            self.tell(id.service(), Occasion::Failed, message);
        }
        self.look_at_sick();
    }

    /// Something that was under repair may not be any more: others may take its place. Those that wait for what they
    /// need are passed over; whoever is not found in this way asks again by itself after a while.
    fn look_at_sick(&mut self) {
        let known = self.known;
        let can_begin = |id: &&InstanceId| {
            known.services.get(id.service()).is_some_and(|service| {
                match service.instances.get(&id.number()).map(|instance| instance.phase) {
                    Some(Phase::Running) if !known.can_be_restarted(service) => false, // nobody here can repair it
                    Some(Phase::Running | Phase::Stopped) => self.missing_needs(service).is_empty(),
                    Some(Phase::Declared) | None => true,
                }
            })
        };
        let is_held = |id: &&InstanceId| {
            let service = known.services.get(id.service());
            let found = service.and_then(|service| Some((service, service.instances.get(&id.number())?)));
            found.is_some_and(|(service, instance)| service.held_back(id, instance, self.standing()).is_some())
        };
        let due = known.sick.iter().take_while(|(from, _)| *from <= self.now).take(SEARCHED_MAX);
        let due: Vec<&InstanceId> = due.map(|(_, instance)| instance).filter(can_begin).collect();
        // Who is held by a person takes nobody's turn, and is looked at all the same: what would be done may be clear now.
        let (held, others): (Vec<&InstanceId>, Vec<&InstanceId>) = due.into_iter().partition(is_held);
        let due = others.into_iter().take(NEXT_IN_LINE).chain(held).cloned().map(Scope::Instance);
        self.decision.look.extend(due);
    }

    /// The needs that have no ready instance, or to which the service is not bound.
    pub(crate) fn missing_needs(&self, service: &ServiceKnowledge) -> Vec<ServiceName> {
        self.known.missing_needs(service)
    }
}

fn restart_after(remedy: &str, id: &InstanceId) -> String {
    format!("{}; then `ostler restart {}`", remedy.trim_end_matches('.'), id.service())
}

/// Whether a report of a death is about the process that is known to run, or about one that took its place before
/// anybody here heard of it. Reports are sent again after a reconnect and can come late: old news is none.
fn is_news(running: Running, pid: Option<u32>, seen: Timestamp, reflex: &Result<Process, String>) -> bool {
    let known_already = reflex.as_ref().is_ok_and(|process| running.pid == Some(process.pid));
    running.pid == pid || (seen > running.since + START_TIME_GRAIN && !known_already)
}
