//! From symptoms and topology to cause and victims, as a table: `tests/diagnoses.txt`. Each story is a few lines:
//!
//! - `title: …` begins one;
//! - `estate: SERVICE[*N] [at PROVIDER[/REGION]] [< NEED,NEED]; …` says what there is, all of it working: at `here`, which
//!   is this machine, unless said otherwise;
//! - `signs: INSTANCE SIGN; …` is what is seen, in this order, half a second apart. Signs: `killed`, `crashes` (its restarts
//!   are spent), `oom`, `hung`, `silent` (it timed out), `slow`, `refuses`, `breaks`, `rejects` (it rejects ostler's own
//!   credentials), `wrong` (a wrong answer), `full` (disk), `never-ready`, `no-start`, `found-dead`, `blind` (its probe cannot
//!   be made);
//!   `PROVIDER away` (its answers fail), `SERVICE changed WHAT` (`program`, `env`, `limits`, `version`), `CONSUMER rejected-by
//!   NEED`, `wait LENGTH`;
//! - `cause: …` and `victims: …` are what has to be concluded: one `cause:` line for each.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use ostler_manager::diagnosis::{Case, Cause, Changed, Fault, Root, cases};
use ostler_manager::{Checked, Diagnosis, Fact, FactKind, Knowledge, Launch, Outcome, Started, evolve};
use ostler_model::catalog::{Limits, Placement};
use ostler_model::estate::{Listen, Parameters};
use ostler_model::health::{Exit, Health, Symptom, SymptomKind};
use ostler_model::ids::{BindingId, CommandId, InstanceId, ProviderName, ServiceName};
use ostler_model::outcome::{Failure, FailureClass, Running};
use ostler_model::time::{Span, Timestamp};

use crate::support::{START, catalogs, estate, instance, local, name, offering, service};

struct Scene {
    known: Knowledge,
    now: Timestamp,
    commands: u64,
}

impl Scene {
    fn tell(&mut self, kind: FactKind) {
        evolve(&mut self.known, &Fact { at: self.now, kind });
    }

    fn command(&mut self, command: ostler_manager::Command, outcome: Outcome) {
        self.commands += 1;
        let id = CommandId(self.commands);
        self.tell(FactKind::CommandIssued { id, command });
        self.tell(FactKind::CommandEnded { id, outcome });
    }

    /// Everything is declared, made, started, bound and ready.
    fn of(text: &str) -> Self {
        let mut scene = Self { known: Knowledge::default(), now: START, commands: 0 };
        let mut services = Vec::new();
        let mut places: BTreeMap<ServiceName, (ProviderName, String)> = BTreeMap::new();
        for part in text.split(';').map(str::trim) {
            let (left, needs) = part.split_once('<').unwrap_or((part, ""));
            let (called, place) = left.trim().split_once(" at ").unwrap_or((left.trim(), "here/eu-local"));
            let (called, count) = called.split_once('*').unwrap_or((called, "1"));
            let (provider, region) = place.trim().split_once('/').unwrap_or((place.trim(), ""));
            let elsewhere = provider != "here";
            let mut spec = service(called.trim(), if elsewhere { "bought" } else { "program" });
            if !elsewhere && needs.is_empty() {
                spec = service(called.trim(), "redis");
            }
            spec.instances = count.trim().parse().unwrap();
            spec.needs = needs.split(',').map(str::trim).filter(|need| !need.is_empty()).map(name).collect();
            places.insert(spec.name.clone(), (provider.parse().unwrap(), region.to_owned()));
            services.push(spec);
        }
        let mut declared = estate(20, services);
        let here = declared.providers.values().next().unwrap().clone();
        let mut offered = catalogs();
        for (provider, region) in places.values() {
            let region = Some(region.clone()).filter(|region| !region.is_empty());
            let mut called = here.clone();
            called.name = provider.clone();
            called.region = region;
            declared.providers.insert(provider.clone(), called);
            let bought = offering("bought", &[]);
            let catalog = offered.entry(provider.clone()).or_default();
            Arc::make_mut(catalog).offerings.insert(bought.name.clone(), bought);
        }
        let order: Vec<ServiceName> = declared.services.keys().cloned().collect();
        scene.tell(FactKind::EstateDeclared { estate: Arc::new(declared.clone()) });
        for (provider, catalog) in offered {
            scene.tell(FactKind::CatalogSeen { provider, catalog });
        }
        for called in &order {
            let spec = &declared.services[called];
            let placement = Placement {
                provider: places[called].0.clone(),
                offering: spec.offering.clone(),
                plan: "small".parse().unwrap(),
                version: None,
                handle: None,
                maintenance: None,
            };
            scene.tell(FactKind::ServicePlaced { service: called.clone(), placement: placement.clone() });
            scene.command(
                ostler_manager::Command::OpenEndpoint { service: called.clone(), address: None },
                Outcome::Open(local(10_000)),
            );
            scene.launch(called, 1, |_| {});
            for number in 1..=spec.instances {
                scene.start(&InstanceId::new(called.clone(), number));
            }
        }
        for consumer in &order {
            for need in &declared.services[consumer].needs {
                let binding = BindingId { consumer: consumer.clone(), need: need.clone() };
                let holder = InstanceId::new(need.clone(), 1);
                scene.command(
                    ostler_manager::Command::Bind { binding, instance: holder, endpoint: local(10_000) },
                    Outcome::Bound { digest: "1".to_owned(), renew_at: None },
                );
            }
        }
        scene.now = scene.now + Duration::from_secs(3600);
        scene
    }

    fn launch(&mut self, called: &ServiceName, generation: u32, change: impl FnOnce(&mut Launch)) {
        let known = &self.known.services[called];
        let mut launch = Launch {
            placement: known.placement.clone().unwrap(),
            run: known.spec.run.clone(),
            before: Vec::new(),
            env: BTreeMap::new(),
            parameters: Parameters::default(),
            context: Parameters::default(),
            listen: Listen::default(),
            limits: Limits::default(),
            folder: "/srv".into(),
            needs: BTreeMap::new(),
        };
        change(&mut launch);
        self.tell(FactKind::LaunchDefined { service: called.clone(), generation, launch: Arc::new(launch) });
    }

    /// Declared, made, started and ready.
    fn start(&mut self, id: &InstanceId) {
        self.tell(FactKind::InstanceDeclared { instance: id.clone() });
        self.command(ostler_manager::Command::Provision { instance: id.clone() }, Outcome::Done);
        self.run(id);
        self.tell(FactKind::HealthChanged { instance: id.clone(), health: Health::Ready });
    }

    fn run(&mut self, id: &InstanceId) {
        let generation = self.known.services[id.service()].generation;
        let start = ostler_manager::Command::Start {
            instance: id.clone(),
            generation,
            reflex_burst: 16,
            reflex_refill: Span::seconds(5),
            entrust: false,
        };
        let running = Running { pid: Some(7), address: local(20_000), since: self.now };
        self.command(start, Outcome::Started(Started::from(running)));
    }

    fn unready(&mut self, id: &InstanceId, kind: SymptomKind) {
        let symptom = Symptom { kind, detail: format!("{kind:?}") };
        self.tell(FactKind::HealthChanged { instance: id.clone(), health: Health::Unready(symptom.clone()) });
        if kind != SymptomKind::Unknown {
            self.tell(FactKind::RepairBegan { instance: id.clone(), diagnosis: Diagnosis::Unresponsive { symptom } });
        }
    }

    fn die(&mut self, id: &InstanceId, exit: Exit, diagnosis: Diagnosis) {
        let (seen, why_not) = (self.now, Some("its restarts are spent".to_owned()));
        self.tell(FactKind::InstanceDied { instance: id.clone(), pid: Some(7), exit, seen, restarted: None, why_not });
        self.tell(FactKind::RepairBegan { instance: id.clone(), diagnosis });
    }

    fn sign(&mut self, words: &[&str]) {
        let why_not = || "its restarts are spent".to_owned();
        match words {
            ["wait", length] => self.now = self.now + length.parse::<Span>().unwrap().get(),
            [provider, "away"] => self.fail_at(&provider.parse().unwrap()),
            [consumer, "rejected-by", need] => self.rejected(&name(consumer), &name(need)),
            [called, "changed", what] => self.change(&name(called), what),
            [id, "killed"] => {
                let exit = Exit::Signal(9);
                self.die(&instance(id), exit, Diagnosis::DiedAndRestarted { exit });
            }
            [id, "crashes"] => {
                let exit = Exit::Code(1);
                self.die(&instance(id), exit, Diagnosis::Died { exit, why_not: why_not() });
            }
            [id, "oom"] => {
                let exit = Exit::OutOfMemory;
                self.die(&instance(id), exit, Diagnosis::Died { exit, why_not: why_not() });
            }
            [id, "found-dead"] => self.die(&instance(id), Exit::Unknown, Diagnosis::FoundDead { exit: None }),
            [id, "never-ready"] => {
                let diagnosis = Diagnosis::NeverReady { symptom: None };
                self.tell(FactKind::RepairBegan { instance: instance(id), diagnosis });
            }
            [id, "no-start"] => {
                let diagnosis = Diagnosis::CannotStart { cause: "no such file".to_owned(), remedy: None };
                self.die(&instance(id), Exit::Unknown, diagnosis);
            }
            [id, sign] => {
                let kind = match *sign {
                    "hung" => SymptomKind::Hung,
                    "silent" => SymptomKind::TimedOut,
                    "slow" => SymptomKind::Slow,
                    "refuses" => SymptomKind::Refused,
                    "breaks" => SymptomKind::Broken,
                    "rejects" => SymptomKind::WrongCredentials,
                    "wrong" => SymptomKind::WrongAnswer,
                    "full" => SymptomKind::DiskFull,
                    "blind" => SymptomKind::Unknown,
                    other => panic!("no such sign: {other}"),
                };
                self.unready(&instance(id), kind);
            }
            other => panic!("no such sign: {other:?}"),
        }
        self.now = self.now + Duration::from_millis(500);
    }

    /// The provider does not answer when it is asked how something is that was bought there.
    fn fail_at(&mut self, provider: &ProviderName) {
        let mut bought = self
            .known
            .services
            .values()
            .filter(|service| service.placement.as_ref().is_some_and(|placement| placement.provider == *provider));
        let id = InstanceId::new(bought.next().expect("something is bought there").spec.name.clone(), 1);
        let failure = Failure { class: FailureClass::Temporary, detail: "no answer".to_owned(), remedy: String::new() };
        self.command(ostler_manager::Command::Observe { instance: id }, Outcome::Failed(failure));
    }

    fn rejected(&mut self, consumer: &ServiceName, need: &ServiceName) {
        let binding = BindingId { consumer: consumer.clone(), need: need.clone() };
        let problem = Symptom { kind: SymptomKind::WrongCredentials, detail: "28P01".to_owned() };
        let checks = vec![Checked { name: "it can be used".to_owned(), problem: Some(problem) }];
        self.tell(FactKind::NeedVerified { binding, revision: 1, checks });
    }

    /// The service is changed, and each of its instances is started anew with that.
    fn change(&mut self, called: &ServiceName, what: &str) {
        self.launch(called, 2, |launch| match what {
            "program" => launch.run = vec!["./other".parse().unwrap()],
            "env" => drop(launch.env.insert("A".to_owned(), "b".parse().unwrap())),
            "limits" => launch.limits.memory_bytes = Some(1 << 20),
            "version" => launch.placement.version = Some("16".parse().unwrap()),
            other => panic!("no such change: {other}"),
        });
        let ids: Vec<InstanceId> = {
            let service = &self.known.services[called];
            service.instances.keys().map(|number| service.instance_id(*number)).collect()
        };
        for id in ids {
            let stop =
                ostler_manager::Command::Stop { instance: id.clone(), drain: Span::millis(0), grace: Span::seconds(1) };
            self.command(stop, Outcome::Stopped { exit: None, killed: false, cut: 0 });
            self.run(&id);
        }
    }
}

fn in_line(case: &Case) -> (String, BTreeSet<InstanceId>) {
    let kinds: BTreeSet<String> = case.instances.iter().map(|(_, finding)| cause(&finding.cause)).collect();
    let ids: Vec<String> = case.instances.iter().map(|(id, _)| id.to_string()).collect();
    let kind = kinds.into_iter().collect::<Vec<_>>().join("+");
    let root = match &case.root {
        Root::Service(service) => service.to_string(),
        Root::Provider(provider) => format!("provider {provider}"),
        Root::Region(region) => format!("region {region}"),
        Root::OwnView => "own view".to_owned(),
    };
    let kind = if kind.is_empty() { String::new() } else { format!(" {kind}") };
    let ids = if ids.is_empty() { String::new() } else { format!(": {}", ids.join(" ")) };
    (format!("{root}{kind}{ids}"), case.victims.iter().cloned().collect())
}

fn cause(cause: &Cause) -> String {
    match cause {
        Cause::Instance(fault) => fault_word(*fault).to_owned(),
        Cause::Change(what) => format!("changed-{}", changed_word(*what)),
        Cause::Need(_) | Cause::Provider(_) | Cause::Region(_) | Cause::OwnView => "away".to_owned(),
    }
}

fn changed_word(what: Changed) -> &'static str {
    match what {
        Changed::Program => "program",
        Changed::Environment => "env",
        Changed::Settings => "limits",
        Changed::Version => "version",
        Changed::Placement => "placement",
        Changed::Credentials => "credentials",
    }
}

fn fault_word(fault: Fault) -> &'static str {
    match fault {
        Fault::Crashed => "crashed",
        Fault::CrashLoop => "crash-loop",
        Fault::OutOfMemory => "out-of-memory",
        Fault::Hung => "hung",
        Fault::Slow => "slow",
        Fault::Refuses => "refuses",
        Fault::Broken => "breaks",
        Fault::WrongCredentials => "wrong-credentials",
        Fault::WrongAnswer => "wrong-answer",
        Fault::DiskFull => "disk-full",
        Fault::NeverReady => "never-ready",
        Fault::CannotStart => "cannot-start",
    }
}

/// One story: its title, what there is and happens, and what has to be concluded.
#[derive(Default)]
struct Story {
    title: String,
    estate: String,
    signs: String,
    causes: Vec<String>,
    victims: BTreeSet<InstanceId>,
}

fn stories() -> Vec<Story> {
    let mut stories: Vec<Story> = Vec::new();
    for line in include_str!("../diagnoses.txt").lines().map(str::trim) {
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let (key, value) = line.split_once(':').unwrap_or_else(|| panic!("no key: {line}"));
        let value = value.trim().to_owned();
        if key == "title" {
            stories.push(Story { title: value, ..Story::default() });
            continue;
        }
        let story = stories.last_mut().expect("a title comes first");
        match key {
            "estate" => story.estate = value,
            "signs" => story.signs = value,
            "cause" => story.causes.push(value),
            "victims" => story.victims = value.split_whitespace().map(instance).collect(),
            other => panic!("no such key: {other}"),
        }
    }
    stories
}

#[test]
fn each_story_has_its_cause_and_victims() {
    let (all, mut wrong) = (stories(), Vec::new());
    for story in &all {
        let mut scene = Scene::of(&story.estate);
        for sign in story.signs.split(';').map(str::trim).filter(|sign| !sign.is_empty()) {
            scene.sign(&sign.split_whitespace().collect::<Vec<_>>());
        }
        let found: Vec<_> = cases(&scene.known, scene.now).iter().map(in_line).collect();
        let causes: Vec<String> = found.iter().map(|(cause, _)| cause.clone()).collect();
        let victims: BTreeSet<InstanceId> = found.into_iter().flat_map(|(_, victims)| victims).collect();
        if causes != story.causes || victims != story.victims {
            let victims: Vec<String> = victims.iter().map(ToString::to_string).collect();
            wrong.push(format!("{}\n  causes: {causes:?}\n  victims: {}", story.title, victims.join(" ")));
        }
    }
    assert!(wrong.is_empty(), "{} of {} stories:\n{}", wrong.len(), all.len(), wrong.join("\n"));
    assert!(all.len() >= 40, "only {} stories", all.len());
}
