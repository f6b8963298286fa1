//! Stories as data: what happens, line by line, and beside each file the reviewed transcript of what the manager made of
//! it. `INSTA_UPDATE=always cargo test -p ostler-manager stories` writes the transcripts anew; read them before you
//! commit them.
//!
//! The language, one step a line; `#` begins a comment:
//! - `estate [drill KEY=VALUE …;] [at-once=P;] [providers=A,B;] [selling=N;] [context=TEXT;] SERVICE [offering=O] [instances=N] [needs=A,B] [endpoint=PORT] [env=TEXT] [before] [backup=15m]
//!   [prove=7d] [version=RANGE] [adopt=NAME] [prefer=A,B]; …` gives an estate file;
//! - `auto on` lets an obliging world answer everything from here on, `auto off` lets the story answer;
//! - `ended COMMAND ok | temporary | person | interrupted | cut-off` ends an order: `ended start web-1 ok`; what is cut
//!   off is done, and whoever did it could not say so; `in-doubt`, `left-behind` and `unclear` are answers of a broker
//!   that nothing follows from, and `lost` is the same as in doubt, of something that was done;
//! - `verified web/db ok | broken | rejected`: a look at the need with the newest binding found that;
//! - `broken db`, `mended db` say what a look at a new instance of it finds;
//! - `spoil db NAME`: from now on this backup is of no use;
//! - `gone bought small`: the provider's catalog has this plan of the offering no more;
//! - `lasts 1h`: from now on what a broker gives to get at instances is good for so long; `0ms`: it is to be renewed at
//!   once;
//! - `accepted COMMAND`: a broker will do it; `appear db-1/1`: what was asked for is made late;
//! - `probe web-1 ready | unready | hung | slow | silent | shallow | unknown`; `hang web-1`, `unhang web-1`, `lose db-1` change the world;
//! - `served web 60s 1000 100`: in the last 60 s callers asked 1000 times, and 100 times got nothing;
//! - `die web-1 [spent|unreported]` kills a process, which is started again at once if that is granted, unless it is
//!   spent; an unreported death is one that nobody is told of;
//! - `crashing web`, `never-ready web`, `mended web` say how the world treats a program;
//! - `tick 2s`; `resume started | holder-returned`; `ask restart web`, `ask scale web 3`, `ask down`, `ask delete web`,
//!   `ask backup db NAME`, `ask restore db NAME`, `ask prove db [NAME]`, `ask drop db NAME`, `ask failover db [to there] [accept-loss]`,
//!   `ask back db`, `ask discard db-1`, `ask settle db-1/1 delete | release`,
//!   `ask drill db FAULT [REASON]` (outside a window for that reason), `ask adopt db here NAME`, `ask release db`; `status`;
//! - `sell db offering=O [plan=P]` sells `sold-db`, `admit app to db` lets `guest-app` use it, `end sold-db` takes it back.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::Path;
use std::sync::Arc;

use ostler_manager::level::Traffic;
use ostler_manager::{
    Ask, Brings, By, Checked, Command, Decision, Event, FactKind, Outcome, Reason, ResumeCause, Scope, Settlement,
    decide, status,
};
use ostler_model::catalog::Catalog;
use ostler_model::estate::backups::Prove;
use ostler_model::estate::drills::Drills;
use ostler_model::estate::slo::Slo;
use ostler_model::estate::{Estate, Parameters, Service};
use ostler_model::health::{Exit, Health, Symptom, SymptomKind};
use ostler_model::ids::{BindingId, CommandId, InstanceId, ProviderName, ServiceName};
use ostler_model::outcome::{FailureClass, Observation};
use ostler_model::time::{Span, in_words};

use crate::support::{
    START, admit, catalogs, estate, here, instance, local, name, provide, sell, service, with_provider,
};
use crate::world::{World, unready};

struct Story {
    world: World,
    auto: bool,
    text: String,
    /// What can be had now.
    catalogs: BTreeMap<ProviderName, Arc<Catalog>>,
    /// How many facts the transcript has told.
    told: usize,
    waits: BTreeMap<InstanceId, String>,
}

impl Story {
    fn play(text: &str) -> String {
        let mut story = Self {
            world: World::new(),
            auto: false,
            text: String::new(),
            catalogs: catalogs(),
            told: 0,
            waits: BTreeMap::new(),
        };
        story.told = story.world.facts.len();
        for line in text.lines().map(|line| line.split('#').next().unwrap_or("").trim()) {
            if line.is_empty() {
                continue;
            }
            let _ = writeln!(story.text, "{}> {line}", if story.text.is_empty() { "" } else { "\n" });
            story.step(line);
            if story.auto {
                story.world.settle();
            }
            story.tell();
        }
        story.text
    }

    fn step(&mut self, line: &str) {
        let (verb, rest) = line.split_once(' ').unwrap_or((line, ""));
        let words: Vec<&str> = rest.split_whitespace().collect();
        match (verb, words.as_slice()) {
            ("estate", _) => {
                let estate = Arc::new(read_estate(rest));
                let offered = self.catalogs[&here()].clone();
                for provider in estate.providers.keys() {
                    self.catalogs.entry(provider.clone()).or_insert_with(|| offered.clone());
                }
                let catalogs = self.catalogs.clone();
                let decision = self.world.give(&Event::EstateGiven { estate, catalogs });
                self.refusals(&decision);
            }
            ("auto", [on]) => self.auto = *on == "on",
            ("ended", [order @ .., outcome]) => self.end(&order.join(" "), outcome),
            ("accepted", order) => {
                let order = order.join(" ");
                let found = self.world.orders.iter().find(|(_, command)| key(command) == order);
                let id = *found.unwrap_or_else(|| panic!("`{order}` was not ordered")).0;
                let _ = self.world.give(&Event::Accepted { id, operation: Some("task-7".to_owned()) });
            }
            ("spoil", [service, backup]) => self.world.stored.spoil(&name(service), backup),
            ("gone", [offering, plan]) => self.lose_plan(offering, plan),
            ("lasts", [length]) => self.world.broker.lasts = Some(length.parse::<Span>().unwrap().get()),
            ("verified", [binding, outcome]) => self.verified(&binding.parse().unwrap(), outcome),
            ("appear", [attempt]) => self.world.appear(&attempt.parse().unwrap()),
            ("served", [service, length, asked, failed]) => self.served(&name(service), length, asked, failed),
            ("probe", [id, health]) => self.probe(&instance(id), health),
            ("hang", [id]) => self.process(id).hung = true,
            ("unhang", [id]) => self.process(id).hung = false,
            ("lose", [id]) => self.world.lose(&instance(id)),
            ("die", [id]) => self.die(&instance(id), false),
            ("die", [id, "spent"]) => self.die(&instance(id), true),
            ("die", [id, "unreported"]) => {
                self.world.kill(&instance(id));
                let _lost_with_its_keeper = self.world.reports.pop_front().expect("it ran");
            }
            ("broken", [service]) => drop(self.world.broken.insert(name(service))),
            ("crashing", [service]) => drop(self.world.crashing.insert(name(service))),
            ("never-ready", [service]) => drop(self.world.never_ready.insert(name(service))),
            ("mended", [service]) => {
                self.world.crashing.remove(&name(service));
                self.world.never_ready.remove(&name(service));
                self.world.broken.remove(&name(service));
            }
            ("tick", [length]) => self.tick(length.parse().unwrap()),
            ("resume", [cause]) => {
                let cause = if *cause == "started" { ResumeCause::Started } else { ResumeCause::HolderReturned };
                let _ = self.world.resume(cause, |_| false);
            }
            ("ask", words) => self.ask(read_ask(words)),
            ("sell", [called, options @ ..]) => {
                let option = |key: &str| options.iter().find_map(|word| word.strip_prefix(key)?.strip_prefix('='));
                self.ask(sell(called, option("offering").unwrap(), option("plan")));
            }
            ("admit", [called, "to", sold]) => self.ask(admit(called, sold)),
            ("end", [service]) => self.ask(Ask::EndSale { service: name(service) }),
            ("status", []) => self.status(),
            _ => panic!("not a step: {line}"),
        }
    }

    /// Somebody looked at a need with the newest binding, or with the one before it.
    fn verified(&mut self, binding: &BindingId, outcome: &str) {
        let revision = self.world.known.services[&binding.consumer].bindings[&binding.need].revision;
        let problem = match outcome {
            "ok" => None,
            "broken" => Some(Symptom { kind: SymptomKind::WrongAnswer, detail: "it is not so".to_owned() }),
            "rejected" => Some(Symptom { kind: SymptomKind::WrongCredentials, detail: "wrong password".to_owned() }),
            other => panic!("not what a look finds: {other}"),
        };
        let checks = vec![Checked { name: "it is so".to_owned(), problem }];
        let _ = self.world.give(&Event::Verified { binding: binding.clone(), revision, checks });
    }

    /// The provider has a plan no more, and says so.
    fn lose_plan(&mut self, offering: &str, plan: &str) {
        let catalog = Arc::make_mut(self.catalogs.get_mut(&here()).expect("everything is bought here"));
        let offered = catalog.offerings.get_mut(&offering.parse().unwrap()).expect("it offers that");
        offered.plans.retain(|offered| offered.name.as_str() != plan);
        let read = Event::CatalogRead { provider: here(), catalog: self.catalogs[&here()].clone() };
        let _ = self.world.give(&read);
    }

    fn ask(&mut self, ask: Ask) {
        let decision = self.world.give(&Event::Asked(ask));
        self.refusals(&decision);
    }

    fn refusals(&mut self, decision: &Decision) {
        for withheld in &decision.withheld {
            if let Reason::Refused(why) = &withheld.reason {
                let _ = writeln!(self.text, "  refused: {why}");
            }
        }
    }

    fn end(&mut self, order: &str, outcome: &str) {
        let found = self.world.orders.iter().find(|(_, command)| key(command) == order);
        let id = *found.unwrap_or_else(|| panic!("`{order}` was not ordered: {:?}", self.world.orders)).0;
        match outcome {
            "ok" => {
                self.world.carry_out(id);
                let _ = self.world.tell_outcome(id);
            }
            "temporary" => self.world.fail(id, FailureClass::Temporary),
            "person" => self.world.fail(id, FailureClass::NeedsPerson),
            "interrupted" => self.world.fail(id, FailureClass::Interrupted),
            "in-doubt" => self.world.fail(id, FailureClass::InDoubt),
            "left-behind" => self.world.fail(id, FailureClass::LeftBehind),
            "unclear" => self.world.fail(id, FailureClass::Unclear),
            "lost" => self.world.answer_lost(id),
            "cut-off" => self.world.cut_off(id),
            other => panic!("not an outcome: {other}"),
        }
    }

    fn probe(&mut self, id: &InstanceId, health: &str) {
        let symptom = |kind| Symptom { kind, detail: "no answer within 500 ms".to_owned() };
        let health = match health {
            "ready" => Health::Ready,
            "unready" => unready("connection refused"),
            "hung" => Health::Unready(symptom(SymptomKind::Hung)),
            "slow" => Health::Unready(symptom(SymptomKind::Slow)),
            "silent" => Health::Unready(symptom(SymptomKind::TimedOut)),
            "shallow" => Health::Shallow(symptom(SymptomKind::TimedOut)),
            "unknown" => Health::Unready(symptom(SymptomKind::Unknown)),
            other => panic!("not a health: {other}"),
        };
        let (watch, reported) = self.world.watches.get_mut(id).expect("it is watched");
        *reported = Some(health.clone());
        let watch = *watch;
        let _ = self.world.give(&Event::Probed { instance: id.clone(), watch, health });
    }

    fn process(&mut self, id: &str) -> &mut crate::world::Living {
        self.world.instances.get_mut(&instance(id)).and_then(|truth| truth.process.as_mut()).expect("it runs")
    }

    fn die(&mut self, id: &InstanceId, spent: bool) {
        if spent {
            self.world.instances.get_mut(id).expect("it exists").grant = 0;
        }
        self.world.kill(id);
        if !self.auto {
            let report = self.world.reports.pop_front().expect("it ran");
            let _ = self.world.give(&report);
        }
    }

    /// What callers got since so long ago.
    fn served(&mut self, service: &ServiceName, length: &str, asked: &str, failed: &str) {
        let (until, length) = (self.world.now, length.parse::<Span>().unwrap().get());
        let (asked, failed) = (asked.parse().unwrap(), failed.parse().unwrap());
        let traffic = Traffic { from: until - length, until, asked, failed, late: 0 };
        let _ = self.world.give(&Event::Served { service: service.clone(), traffic });
    }

    /// In auto mode the world answers on the way, at the time of each look.
    fn tick(&mut self, length: Span) {
        let until = self.world.now + length.get();
        while self.auto
            && let Some((at, _)) = self.world.wakes.first().cloned().filter(|(at, _)| *at <= until)
        {
            self.world.pass(at.since(self.world.now));
            self.world.settle();
        }
        self.world.pass(until.since(self.world.now));
    }

    fn status(&mut self) {
        for service in status(&self.world.known, self.world.now).services {
            let instances: Vec<String> = service.instances.iter().map(|i| format!("{} {}", i.id, i.state)).collect();
            let _ = writeln!(self.text, "  {} is {}: {}", service.name, service.state, instances.join(", "));
            for level in &service.levels {
                let (reached, left) = (&level.reached, level.left_percent);
                let (failed, unseen) = (level.failed_seconds, level.unseen_seconds);
                let _ = writeln!(self.text, "    {reached} served, {left}% left: {failed} s failed, {unseen} s unseen");
            }
            for instance in &service.instances {
                if let Some(because) = &instance.because {
                    let _ = writeln!(self.text, "    {}: {because}", instance.id);
                }
            }
            for leftover in &service.leftovers {
                let _ = writeln!(self.text, "    {} is {}: {}", leftover.id, leftover.state, leftover.because);
                if let Some(answer) = &leftover.answer {
                    let _ = writeln!(self.text, "      {answer}");
                }
            }
            if let Some(moving) = &service.moving {
                let _ = writeln!(
                    self.text,
                    "    moves from {} to {}: {:?}; {}",
                    moving.from, moving.to, moving.step, moving.loses
                );
                if let (Some(question), Some(answer)) = (&moving.question, &moving.answer) {
                    let _ = writeln!(self.text, "      {question}\n      {answer}");
                }
            }
            if let Some(moved) = &service.moved {
                let back = if moved.returned { "back " } else { "" };
                let _ = writeln!(self.text, "    moved {back}from {} to {}: {}", moved.from, moved.to, moved.lost);
            }
            for drill in &service.drills {
                let _ =
                    writeln!(self.text, "    drill {}: {:?}, {} days ago", drill.fault, drill.verdict, drill.days_ago);
            }
            for trouble in service.troubles {
                let _ = writeln!(self.text, "    trouble: {trouble}");
            }
        }
    }

    /// Tells the facts since the last step, and what has come to wait for what.
    fn tell(&mut self) {
        let mut at = None;
        let mut orders: BTreeMap<CommandId, Command> = BTreeMap::new();
        for fact in &self.world.facts {
            if let FactKind::CommandIssued { id, command } = &fact.kind {
                orders.insert(*id, command.clone());
            }
        }
        for fact in &self.world.facts[self.told..] {
            if let Some(line) = in_line(&fact.kind, &orders) {
                if at.replace(fact.at) != Some(fact.at) {
                    let _ = writeln!(self.text, " at {}", in_words(fact.at.since(START)));
                }
                let _ = writeln!(self.text, "  {line}");
            }
        }
        self.told = self.world.facts.len();
        let mut waits = BTreeMap::new();
        for service in self.world.known.services.values() {
            for number in service.instances.keys() {
                let id = service.instance_id(*number);
                let look = decide(&self.world.known, &Event::Look(Scope::Instance(id.clone())), self.world.now);
                if let Some(withheld) = look.withheld.first().filter(|w| !matches!(w.reason, Reason::UnderWay(_))) {
                    waits.insert(id, withheld.reason.in_words(self.world.now));
                }
            }
        }
        for (id, reason) in &waits {
            if self.waits.get(id) != Some(reason) {
                let _ = writeln!(self.text, "  … {id} waits: {reason}");
            }
        }
        self.waits = waits;
    }
}

/// What a story calls an order.
fn key(command: &Command) -> String {
    match command {
        Command::OpenEndpoint { service, .. } => format!("open {service}"),
        Command::CloseEndpoint { service } => format!("close {service}"),
        Command::Provision { instance } => format!("provision {instance}"),
        Command::Observe { instance } => format!("observe {instance}"),
        Command::Before { instance, .. } => format!("before {instance}"),
        Command::Start { instance, .. } => format!("start {instance}"),
        Command::Stop { instance, .. } => format!("stop {instance}"),
        Command::Deprovision { instance } => format!("delete {instance}"),
        Command::Bind { binding, .. } => format!("bind {binding}"),
        Command::Unbind { binding, .. } => format!("unbind {binding}"),
        Command::Release { instance } => format!("release {instance}"),
        Command::Update { instance, .. } => format!("update {instance}"),
        Command::Mitigate { leftover } => format!("mitigate {leftover}"),
        Command::Tidy { binding, .. } => format!("tidy {binding}"),
        Command::Backup { instance, .. } => format!("backup {instance}"),
        Command::Restore { instance, .. } => format!("restore {instance}"),
        Command::Fence { service, .. } => format!("fence {service}"),
        Command::Prove { instance } => format!("prove {instance}"),
        Command::ProveBackup { service, .. } => format!("prove-backup {service}"),
        Command::DropBackup { service, .. } => format!("drop {service}"),
        Command::Fault { drill } => format!("cause {}", drill.service),
        Command::Undo { drill } => format!("undo {}", drill.service),
        Command::Watch { .. } | Command::Unwatch { .. } | Command::Route { .. } | Command::Notify { .. } => {
            String::new()
        }
    }
}

/// A fact in a line; `None` for what only says again what another line says.
fn in_line(fact: &FactKind, orders: &BTreeMap<CommandId, Command>) -> Option<String> {
    Some(match fact {
        FactKind::NeedVerified { binding, checks, .. } => {
            let wrong: Vec<&str> = checks.iter().filter(|c| c.problem.is_some()).map(|c| c.name.as_str()).collect();
            format!("{binding} was looked at: {} wrong {wrong:?}", wrong.len())
        }
        FactKind::ServiceSold { spec, sale } => format!("{} is sold to {}", spec.name, sale.buyer),
        FactKind::GuestAdmitted { service, guest } => format!("{service} may use {}", guest.sold),
        FactKind::SaleEnded { service } => format!("{service} is given back"),
        FactKind::CommandIssued { command, .. } => match command {
            Command::Watch { .. } | Command::Unwatch { .. } => return None,
            // Said where it is not what its offering gives.
            Command::Stop { grace, .. } if *grace != Span::seconds(10) => {
                format!("→ {}, which it has {grace} for", command.in_words())
            }
            Command::Notify { message, occasion, .. } => format!("told ({}): {message}", occasion.as_str()),
            other => format!("→ {}", other.in_words()),
        },
        FactKind::CommandEnded { id, outcome } => {
            let order = orders.get(id).map_or_else(String::new, key);
            match outcome {
                Outcome::Failed(failure) => format!("← {order}: {} ({:?})", failure.detail, failure.class),
                Outcome::Observed(Observation::Running(_)) => format!("← {order}: it runs"),
                Outcome::Observed(Observation::Stopped { .. }) => format!("← {order}: it does not run"),
                Outcome::Observed(Observation::Absent) => format!("← {order}: there is none"),
                Outcome::Observed(Observation::NotSeen { why } | Observation::Useless { why }) => {
                    format!("← {order}: {why}")
                }
                _ => format!("← {order}"),
            }
        }
        FactKind::EstateFounded { .. } | FactKind::CatalogSeen { .. } | FactKind::Told { .. } => return None,
        FactKind::CommandAccepted { id, .. } => {
            format!("… {}: it will be done", orders.get(id).map_or_else(String::new, key))
        }
        FactKind::Quarantined { leftover, why } => format!("{leftover} is in quarantine: {why}"),
        FactKind::InstanceAdopted { instance, name } => format!("{instance} is what its provider knows as {name}"),
        FactKind::ReleaseAsked { service } => format!("{service} is to be left to its provider"),
        FactKind::SettleAsked { leftover, how } => format!("{leftover} is settled: {how:?}"),
        FactKind::Resumed { .. } => "everything is looked at again".to_owned(),
        FactKind::EstateDeclared { .. } => "the estate is declared".to_owned(),
        FactKind::ServicePlaced { service, placement } => {
            let version = placement.version.as_ref().map_or_else(String::new, |version| format!(" {version}"));
            format!("{service} is bought: {} {}{version}", placement.offering, placement.plan)
        }
        FactKind::LaunchDefined { service, generation, .. } => format!("{service} starts from launch {generation} now"),
        FactKind::InstanceDeclared { instance } => format!("{instance} is declared"),
        FactKind::InstanceRetired { instance } => format!("{instance} is retired"),
        FactKind::InstanceDied { instance, exit, restarted, .. } => match (exit, restarted) {
            (Exit::Unknown, _) => format!("{instance} died"),
            (exit, Some(_)) => format!("{instance} ended with {exit} and was started again at once"),
            (exit, None) => format!("{instance} ended with {exit}"),
        },
        FactKind::HealthChanged { instance, health } => match health {
            Health::Ready => format!("{instance} is ready"),
            Health::Shallow(symptom) => format!("{instance} is ready, and something behind it is not: {symptom}"),
            Health::Unready(symptom) if symptom.kind == SymptomKind::Unknown => {
                format!("{instance} cannot be probed: {symptom}")
            }
            Health::Unready(symptom) => format!("{instance} is not ready: {symptom}"),
        },
        FactKind::RepairBegan { instance, diagnosis } => format!("concluded: {instance} {}", diagnosis.in_words()),
        FactKind::Concluded { instance, finding } => format!("behind it: {instance}: {}", finding.cause.in_words()),
        FactKind::RemedyChosen { instance, remedy, weighed } => {
            let others: Vec<&str> = weighed.iter().skip(1).map(|other| other.remedy.in_words()).collect();
            let others = if others.is_empty() { String::new() } else { format!(", rather than {}", others.join(", ")) };
            format!("tried: {instance}: {}{others}", remedy.in_words())
        }
        FactKind::LaunchRejected { service, generation, why } => {
            format!("launch {generation} of {service} is taken back: {why}")
        }
        FactKind::CredentialsDoubted { binding } => format!("the credentials of {binding} are made anew"),
        FactKind::RepairEnded { instance } => format!("{instance} works again"),
        FactKind::BackedOff { instance, failures, .. } => format!("{instance}: failure {failures} in a row"),
        FactKind::Held { instance, answer, goes_on, .. } => {
            let is_held = if *goes_on { "needs a person" } else { "is held" };
            format!("{instance} {is_held}; the answer: {answer}")
        }
        FactKind::CallersAffected { service, .. } => format!("callers of {service} had to wait"),
        FactKind::RestartAsked { service } => format!("a restart of {service} is recorded"),
        FactKind::ScaleAsked { service, instances } => format!("{service} is to have {instances}"),
        FactKind::DownAsked => "everything is to stop".to_owned(),
        FactKind::DeleteAsked { service } => format!("{service} is to be deleted"),
        FactKind::BackupAsked { service, name } => format!("a backup {name} of {service} is wanted"),
        FactKind::RestoreAsked { service, name } => format!("{service} is to be restored from {name}"),
        FactKind::ProofAsked { service, name } => format!("a restore of {service} from {name} is to be proven"),
        FactKind::BackupDropped { service, name, why } => format!("{name} of {service} is given up: {why}"),
        FactKind::TrafficMeasured { service, traffic } => {
            format!("{service}: {} of {} failed", traffic.failed, traffic.asked)
        }
        FactKind::BudgetBurns { service, objective, tenths, window } => {
            format!("{service} burns its budget of {}: {tenths} tenths in {window}", objective.as_str())
        }
        FactKind::BudgetCalm { service, objective } => {
            format!("{service} burns its budget of {} no more", objective.as_str())
        }
        FactKind::MoveBegan { service, to, brings, .. } => {
            format!("{service} moves to {} {}, with {}", to.provider, to.plan, brought(brings))
        }
        FactKind::MoveTurned { service, to, brings, bad, why, .. } => {
            let to = to.as_ref().map_or_else(String::new, |to| format!(" to {}", to.provider));
            let bad = bad.as_ref().map_or_else(String::new, |bad| format!(", as {bad} is no good"));
            format!("{service} moves in another way{to}, with {}{bad}: {why}", brought(brings))
        }
        FactKind::MoveHeld { service, answer, .. } => format!("the move of {service} is held; the answer: {answer}"),
        FactKind::MoveReturned { service } => format!("{service} goes back"),
        FactKind::MoveEnded { service } => format!("{service}'s move is over"),
        FactKind::InstanceDiscarded { instance, why } => format!("{instance} is to be deleted: {why}"),
        FactKind::DrillBegan { drill } => {
            let who = if drill.by == By::Schedule { "the schedule" } else { "a person" };
            format!("{who} drills {}: {}", drill.service, drill.fault)
        }
        FactKind::DrillEnded { result } => {
            let right = result.diagnosed.as_ref().map(|diagnosed| diagnosed.right);
            let noticed = result.noticed_ms;
            let (words, figures) = (result.verdict.in_words(), result.figures());
            format!("the drill {words}: {figures}; noticed after {noticed:?} ms, diagnosis right: {right:?}")
        }
        FactKind::LossAccepted { .. } => "a loss of facts is accepted".to_owned(),
    })
}

fn brought(brings: &Brings) -> String {
    match brings {
        Brings::Nothing => "no data".to_owned(),
        Brings::LastBackup => "a last backup".to_owned(),
        Brings::Backup { made, lost_since: None } => format!("{}, which has all", made.name),
        Brings::Backup { made, lost_since: Some(since) } => {
            format!("{} of {}", made.name, in_words(since.since(START)))
        }
    }
}

fn read_estate(text: &str) -> Estate {
    let (mut at_once, mut selling, mut drill) = (20, None, None);
    let mut context = Parameters::default();
    let mut providers = Vec::new();
    let mut services: Vec<Service> = Vec::new();
    for part in text.split(';').map(str::trim).filter(|part| !part.is_empty()) {
        if let Some(percent) = part.strip_prefix("at-once=") {
            at_once = percent.parse().unwrap();
            continue;
        }
        if let Some(at_most) = part.strip_prefix("selling=") {
            selling = Some(Box::new(provide(at_most.parse().unwrap())));
            continue;
        }
        if let Some(names) = part.strip_prefix("providers=") {
            providers = names.split(',').collect();
            continue;
        }
        if let Some(text) = part.strip_prefix("drill ") {
            drill = Some(Box::new(read_drills(text)));
            continue;
        }
        if let Some(text) = part.strip_prefix("context=") {
            context.0.insert("cost_center".to_owned(), text.into());
            continue;
        }
        let mut words = part.split_whitespace();
        let called = words.next().expect("it has a name");
        let options: BTreeMap<&str, &str> = words.map(|word| word.split_once('=').unwrap_or((word, ""))).collect();
        let mut read = service(called, options.get("offering").copied().unwrap_or("program"));
        for (key, value) in options {
            match key {
                "offering" => {}
                "instances" => read.instances = value.parse().unwrap(),
                "needs" => read.needs = value.split(',').map(name).collect(),
                "endpoint" => read.endpoint = Some(local(value.parse().unwrap())),
                "env" => drop(read.env.insert("TEXT".to_owned(), value.parse().unwrap())),
                "prefer" => read.prefer = value.split(',').map(|provider| provider.parse().unwrap()).collect(),
                "adopt" => read.adopt = value.split(',').map(str::to_owned).collect(),
                "before" => read.before = vec!["./migrate".parse().unwrap()],
                "prove" => read.data.prove_every = Prove::Every(value.parse().unwrap()),
                "backup" => read.data.backup_every = Some(value.parse().unwrap()),
                "loses" => read.failover.loses_at_most = Some(value.parse().unwrap()),
                "keep-old" => read.failover.keep_old = Some(value.parse().unwrap()),
                "slo" => {
                    let (availability, over) = (value.parse().unwrap(), Span::seconds(30 * 86_400));
                    read.slo =
                        Some(Slo { availability: Some(availability), latency_p99: None, over, exclude: Vec::new() });
                }
                "version" => read.version = value.parse().unwrap(),
                other => panic!("no such key: {other}"),
            }
        }
        services.push(read);
    }
    let mut estate = Estate { provide: selling, drill, ..estate(at_once, services) };
    for provider in providers {
        estate = with_provider(estate, provider);
    }
    estate.providers.values_mut().for_each(|provider| provider.context = context.clone());
    estate
}

/// `every=7d window=Mon_13:00_-_15:00 freeze=… faults=kill,hang services=db at-most=2 keep=1 lasts=1m`
fn read_drills(text: &str) -> Drills {
    let mut drills = Drills::default();
    for (key, value) in text.split_whitespace().map(|word| word.split_once('=').expect("a key and a value")) {
        let window = || vec![value.replace('_', " ").parse().unwrap()];
        match key {
            "every" => drills.every = Some(value.parse().unwrap()),
            "window" => drills.window = window(),
            "freeze" => drills.freeze = window(),
            "faults" => drills.faults = value.split(',').map(|fault| fault.parse().unwrap()).collect(),
            "services" => drills.services = value.split(',').map(name).collect(),
            "at-most" => drills.at_most = value.parse().unwrap(),
            "keep" => drills.keep = value.parse().unwrap(),
            "lasts" => drills.lasts = value.parse().unwrap(),
            other => panic!("no such key: {other}"),
        }
    }
    drills
}

fn read_ask(words: &[&str]) -> Ask {
    match words {
        ["drill", service, fault, reason @ ..] => Ask::Drill {
            service: name(service),
            fault: fault.parse().unwrap(),
            lasts: None,
            despite: (!reason.is_empty()).then(|| reason.join(" ")),
        },
        ["down"] => Ask::Down,
        ["restart", service] => Ask::Restart { service: name(service) },
        ["delete", service] => Ask::Delete { service: name(service) },
        ["scale", service, instances] => Ask::Scale { service: name(service), instances: instances.parse().unwrap() },
        ["adopt", service, provider, adopted] => {
            Ask::Adopt { service: name(service), provider: provider.parse().unwrap(), name: (*adopted).to_owned() }
        }
        ["failover", service, terms @ ..] => Ask::FailOver {
            service: name(service),
            to: terms.iter().position(|word| *word == "to").map(|at| terms[at + 1].parse().unwrap()),
            accept_loss: terms.contains(&"accept-loss"),
        },
        ["back", service] => Ask::FailBack { service: name(service) },
        ["discard", id] => Ask::Discard { instance: instance(id) },
        ["release", service] => Ask::Release { service: name(service) },
        ["settle", leftover, how] => Ask::Settle {
            leftover: leftover.parse().unwrap(),
            how: if *how == "delete" { Settlement::Delete } else { Settlement::Release },
        },
        ["backup", service, backup] => Ask::Backup { service: name(service), name: (*backup).to_owned() },
        ["prove", service] => Ask::Prove { service: name(service), name: None },
        ["prove", service, backup] => Ask::Prove { service: name(service), name: Some((*backup).to_owned()) },
        ["drop", service, backup] => Ask::DropBackup { service: name(service), name: (*backup).to_owned() },
        ["restore", service, backup] => Ask::Restore { service: name(service), name: (*backup).to_owned() },
        other => panic!("not an ask: {other:?}"),
    }
}

macro_rules! stories {
    ($($story:ident)+) => {
        $(#[test]
        fn $story() {
            let file = concat!("tests/stories/", stringify!($story), ".story");
            let text = std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(file)).unwrap();
            let transcript = Story::play(&text);
            insta::with_settings!({
                snapshot_path => concat!(env!("CARGO_MANIFEST_DIR"), "/tests/stories"),
                prepend_module_to_snapshot => false,
                omit_expression => true,
            }, {
                insta::assert_snapshot!(stringify!($story), transcript);
            });
        })+

        #[test]
        fn every_story_is_played() {
            let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/stories");
            let files = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
            let mut found: Vec<String> =
                files.filter_map(|file| file.strip_suffix(".story").map(str::to_owned)).collect();
            found.sort();
            assert_eq!(found, [$(stringify!($story)),+]);
        }
    };
}

stories! {
    adopting
    backups
    backups_bad
    backups_kept
    backups_proven
    bookshop
    bought
    bought_always_due
    bought_changed
    bought_elsewhere
    bought_in_doubt
    bought_late
    bought_plan_gone
    bought_quarantined
    bought_renewed
    bought_tidy_refused
    context
    crash_loop
    credentials
    cut_off
    deadlock_of_repairs
    delete_while_used
    down
    drill_fails
    drill_hung
    drill_killed
    drill_outage
    drill_refused
    drill_scheduled
    endpoint_in_use
    endpoint_moves
    grant_spent
    held_again
    holder_retired
    hung
    killed
    levels
    lost_data
    many_kills
    migration
    migration_fails
    moved
    moved_bad_backup
    moved_bought
    moved_by_itself
    moved_dead
    moved_kept
    moved_killed
    moved_killed_later
    moved_no_place
    moved_not_as_relied_on
    moved_second_fault
    moved_stateless
    moved_too_old
    need_removed
    needs_a_person
    never_ready
    nothing_changed
    own_view
    probe_cannot_be_made
    proven
    release_after_delete
    repair_cut_off
    report_lost
    rolled_back
    rolling
    scaling
    selling
    selling_elsewhere
    share_at_once
    slow
    taken_out
    victims
}
