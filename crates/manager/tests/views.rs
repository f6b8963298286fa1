//! What people are shown, and where things are bought, case by case: each row is a situation and the words for it.
#![allow(clippy::unwrap_used, clippy::panic)] // clippy takes helpers of tests for something else

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use ostler_manager::{
    Ask, Change, Command, Decision, Event, Knowledge, Outcome, Scope, changes, check, place, status, take,
};
use ostler_model::catalog::{Actions, Catalog, Limits, Offering, Plan, ProbePolicy};
use ostler_model::estate::{Check, Estate, parse};
use ostler_model::health::{Exit, Health, Symptom, SymptomKind};
use ostler_model::ids::{CommandId, InstanceId, ProviderName};
use ostler_model::outcome::{Failure, FailureClass, Observation, Running};
use ostler_model::time::{Span, Timestamp};

const TWO: &str = "[service.web]\noffering = \"program\"\nrun = [\"./web\"]\ninstances = 2\n";
const ONE_WITH_NEED: &str = "[service.db]\noffering = \"store\"\n\
                             [service.web]\noffering = \"program\"\nrun = [\"./web\"]\nneeds = [\"db\"]\n";
const DB_ALONE: &str = "[service.db]\noffering = \"store\"\n";

fn estate(services: &str) -> Estate {
    let text = format!("[estate]\nname = \"test\"\n[provider.here]\nkind = \"host\"\n{services}");
    match parse("ostler.toml", Path::new("/srv/test"), &text) {
        Ok(parsed) => parsed.estate,
        Err(problems) => panic!("{problems}\n{text}"),
    }
}

fn offering(name: &str, versions: &[&str], instances_max: Option<u32>) -> Offering {
    Offering {
        name: name.parse().unwrap(),
        description: name.to_owned(),
        versions: versions.iter().map(|version| version.parse().unwrap()).collect(),
        series: 1,
        plans: ["small", "large"]
            .map(|plan| Plan {
                name: plan.parse().unwrap(),
                description: plan.to_owned(),
                limits: Limits::default(),
                price: None,
                free: false,
                version: None,
                maintenance: None,
                handle: None,
                withdrawn: false,
            })
            .to_vec(),
        runs_program: name == "program" || name == "tool",
        bindable: true,
        durable: name == "store",
        instances_max,
        actions: Actions { start_stop: true, backup: name == "store", ..Actions::default() },
        probe: ProbePolicy {
            ready: Check::Tcp,
            deep: None,
            every: Span::seconds(1),
            timeout: Span::millis(500),
            start_within: Span::seconds(60),
        },
        stop_grace: Span::seconds(10),
        withdrawn: false,
    }
}

/// `store` keeps data and is had once a service; `cache` keeps none; `program` and `tool` run the buyer's own.
fn catalogs(store_versions: &[&str]) -> BTreeMap<ProviderName, Arc<Catalog>> {
    let offerings = [
        offering("store", store_versions, Some(1)),
        offering("cache", &["7.2", "8.0"], None),
        offering("program", &[], None),
        offering("tool", &[], None),
    ];
    let offerings = offerings.map(|offering| (offering.name.clone(), offering)).into();
    let catalog = Catalog { offerings, ..Catalog::default() };
    BTreeMap::from([("here".parse().unwrap(), Arc::new(catalog))])
}

const STORES: &[&str] = &["15.18", "16.4"];

/// The manager, and what it has ordered and nobody has answered yet.
struct World {
    known: Knowledge,
    now: Timestamp,
    orders: BTreeMap<CommandId, Command>,
    pid: u32,
}

impl World {
    fn up(services: &str) -> Self {
        let mut world = Self { known: Knowledge::default(), now: Timestamp(0), orders: BTreeMap::new(), pid: 100 };
        world.apply(services);
        world
    }

    fn settled(services: &str) -> Self {
        let mut world = Self::up(services);
        world.oblige();
        assert!(world.known.is_settled());
        world
    }

    fn apply(&mut self, services: &str) {
        let event = Event::EstateGiven { estate: Arc::new(estate(services)), catalogs: catalogs(STORES) };
        self.give(&event);
    }

    fn give(&mut self, event: &Event) {
        let Decision { commands, .. } = take(&mut self.known, event, self.now);
        assert_eq!(check(&self.known), [], "after {event:?}");
        self.orders.extend(commands);
    }

    fn ask(&mut self, ask: Ask) {
        self.give(&Event::Asked(ask));
    }

    /// Answers everything, until nothing is ordered any more.
    fn oblige(&mut self) {
        while let Some((id, command)) = self.orders.pop_first() {
            self.answer(id, &command);
        }
    }

    /// Answers everything but what `in_words` is ordered in these words.
    fn oblige_except(&mut self, in_words: &str) {
        let next =
            |world: &Self| world.orders.iter().find(|(_, command)| command.in_words() != in_words).map(|(id, _)| *id);
        while let Some(id) = next(self) {
            let command = self.orders.remove(&id).unwrap();
            self.answer(id, &command);
        }
        assert!(!self.orders.is_empty(), "`{in_words}` was not ordered");
    }

    fn answer(&mut self, id: CommandId, command: &Command) {
        let outcome = match command {
            Command::OpenEndpoint { address, .. } => Outcome::Open(address.unwrap_or(local(20_000))),
            Command::Start { .. } => {
                self.pid += 1;
                Outcome::Started(Running { pid: Some(self.pid), address: local(30_000), since: self.now }.into())
            }
            Command::Stop { .. } => Outcome::Stopped { exit: Some(Exit::Signal(15)), killed: false, cut: 0 },
            Command::Bind { .. } => Outcome::Bound { digest: "one".to_owned(), renew_at: None },
            Command::Observe { .. } => Outcome::Observed(Observation::Stopped { exit: None }),
            Command::Watch { instance, .. } => {
                let event = Event::Probed { instance: instance.clone(), watch: id, health: Health::Ready };
                return self.give(&event);
            }
            Command::Unwatch { .. } | Command::Route { .. } | Command::Notify { .. } => return,
            _ => Outcome::Done,
        };
        self.give(&Event::Ended { id, outcome });
    }

    fn fail(&mut self, in_words: &str, class: FailureClass) {
        let found = self.orders.iter().find(|(_, command)| command.in_words() == in_words).map(|(id, _)| *id);
        let id = found.unwrap_or_else(|| panic!("`{in_words}` was not ordered: {:?}", self.orders));
        self.orders.remove(&id);
        let failure = Failure { class, detail: "it went wrong".to_owned(), remedy: "look at it".to_owned() };
        self.give(&Event::Ended { id, outcome: Outcome::Failed(failure) });
    }

    fn probe(&mut self, instance: &str, health: Health) {
        let instance: InstanceId = instance.parse().unwrap();
        let watch = self.known.instance(&instance).unwrap().watch.expect("it is watched");
        self.give(&Event::Probed { instance, watch, health });
    }

    fn kill(&mut self, instance: &str) {
        let instance: InstanceId = instance.parse().unwrap();
        let pid = self.known.instance(&instance).unwrap().running.expect("it runs").pid;
        let reflex = Err("its restarts are spent".to_owned());
        self.give(&Event::Died { instance, pid, exit: Exit::Code(1), at: self.now, reflex });
    }

    /// "web ready: web-1 ready, web-2 ready".
    fn states(&self, service: &str) -> String {
        let view = status(&self.known, self.now);
        let service = view.services.iter().find(|view| view.name.as_str() == service);
        service.map_or_else(String::new, |service| {
            let instances: Vec<String> = service.instances.iter().map(|i| format!("{} {}", i.id, i.state)).collect();
            format!("{}: {}", service.state, instances.join(", "))
        })
    }
}

fn local(port: u16) -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], port))
}

fn symptom() -> Symptom {
    Symptom { kind: SymptomKind::Refused, detail: "nobody accepts connections".to_owned() }
}

fn restart() -> Ask {
    Ask::Restart { service: "web".parse().unwrap() }
}

/// A situation in words, how it comes about, and what is shown of `web` then.
type Row = (&'static str, fn() -> World, &'static str);

#[test]
fn states_in_every_situation() {
    let rows: &[Row] = &[
        ("being made", || World::up(TWO), "starting: web-1 starting, web-2 starting"),
        (
            "its need is not there",
            || {
                let mut world = World::up(ONE_WITH_NEED);
                world.oblige_except("start db-1");
                world
            },
            "pending: web-1 pending",
        ),
        ("all is well", || World::settled(TWO), "ready: web-1 ready, web-2 ready"),
        (
            "something behind it does not work",
            || {
                let mut world = World::settled(TWO);
                world.probe("web-1", Health::Shallow(symptom()));
                world
            },
            "degraded: web-1 degraded, web-2 ready",
        ),
        (
            "one does not answer and is stopped",
            || {
                let mut world = World::settled(TWO);
                world.probe("web-1", Health::Unready(symptom()));
                world
            },
            "healing: web-1 healing, web-2 ready",
        ),
        (
            "one died and is started",
            || {
                let mut world = World::settled(TWO);
                world.kill("web-2");
                world
            },
            "healing: web-1 ready, web-2 healing",
        ),
        ("one fails again and again", || failing(1), "degraded: web-1 failed, web-2 ready"),
        ("all fail again and again", || failing(2), "failed: web-1 failed, web-2 failed"),
        ("one waits for a person", held, "held: web-1 held, web-2 starting"),
        (
            "the answer was given",
            || {
                let mut world = held();
                world.ask(restart());
                world.oblige();
                world
            },
            "ready: web-1 ready, web-2 ready",
        ),
        (
            "one after the other is restarted",
            || {
                let mut world = World::settled(TWO);
                world.ask(restart());
                world
            },
            "upgrading: web-1 upgrading, web-2 ready",
        ),
        (
            "one too many is kept",
            || {
                let mut world = World::settled(TWO);
                world.ask(Ask::Scale { service: "web".parse().unwrap(), instances: 1 });
                world.oblige();
                world
            },
            "ready: web-1 ready, web-2 retained",
        ),
        (
            "everything is being stopped",
            || {
                let mut world = World::settled(TWO);
                world.ask(Ask::Down);
                world
            },
            "stopping: web-1 stopping, web-2 stopping",
        ),
        ("everything is stopped", down, "stopped: web-1 stopped, web-2 stopped"),
        (
            "it is taken out of the file",
            || {
                let mut world = World::settled(TWO);
                world.apply(DB_ALONE);
                world
            },
            "stopping: web-1 stopping, web-2 stopping",
        ),
        (
            "it is no longer in the file",
            || {
                let mut world = World::settled(TWO);
                world.apply(DB_ALONE);
                world.oblige();
                world
            },
            "retained: web-1 retained, web-2 retained",
        ),
        (
            "it is being deleted",
            || {
                let mut world = down();
                world.ask(Ask::Delete { service: "web".parse().unwrap() });
                world
            },
            "stopping: web-1 stopping, web-2 stopping",
        ),
    ];
    for (situation, comes_about, shown) in rows {
        assert_eq!(comes_about().states("web"), *shown, "{situation}");
    }
}

/// So many of two die until people are told, without a good while in between.
fn failing(instances: u32) -> World {
    let mut world = World::settled(TWO);
    for _ in 0..3 {
        for number in 1..=instances {
            world.kill(&format!("web-{number}"));
        }
        if world.known.instance(&"web-1".parse().unwrap()).unwrap().failures < 3 {
            world.now = world.now + Duration::from_secs(60);
            world.give(&Event::Look(Scope::Service("web".parse().unwrap())));
            world.oblige();
        }
    }
    world
}

fn held() -> World {
    let mut world = World::up(TWO);
    world.fail("provision web-1", FailureClass::NeedsPerson);
    world
}

fn down() -> World {
    let mut world = World::settled(TWO);
    world.ask(Ask::Down);
    world.oblige();
    world
}

#[test]
fn what_is_held_says_how_to_answer() {
    let world = held();
    let view = status(&world.known, world.now);
    let web = &view.services[0].instances[0];
    assert_eq!(web.because.as_deref(), Some("it went wrong"));
    assert_eq!(web.answer.as_deref(), Some("look at it; then `ostler restart web`"));
    assert!(!view.settled);
}

/// A place found: version and plan. Or the key that is wrong, and its cause.
fn placed(known: &Knowledge, services: &str, versions: &[&str], service: &str) -> String {
    match place(known, &estate(services), &catalogs(versions), Timestamp(0)) {
        Ok(placements) => {
            let placement = &placements[&service.parse().unwrap()];
            let version = placement.version.as_ref().map_or_else(|| "none".to_owned(), ToString::to_string);
            format!("{} {version}", placement.plan)
        }
        Err(problems) => {
            let words: Vec<String> = problems.iter().map(|p| format!("{} {}: {}", p.service, p.key, p.cause)).collect();
            words.join("; ")
        }
    }
}

#[test]
fn places_for_what_is_new() {
    let nothing = Knowledge::default();
    for (services, place) in [
        (DB_ALONE.to_owned(), "small 16.4"),
        (format!("{DB_ALONE}version = \"<16\"\n"), "small 15.18"),
        (format!("{DB_ALONE}plan = \"large\"\n"), "large 16.4"),
        (format!("{DB_ALONE}plan = \"huge\"\n"), "db plan: `store` has no plan `huge` at here"),
        (format!("{DB_ALONE}version = \">=18\"\n"), "db version: no version of `store` satisfies `>=18`"),
        (format!("{DB_ALONE}instances = 2\n"), "db instances: `store` can have at most 1 here, 2 are declared"),
        ("[service.db]\noffering = \"queue\"\n".to_owned(), "db offering: no provider offers `queue`"),
        (
            "[service.db]\noffering = \"tool\"\n".to_owned(),
            "db run: `tool` runs your own program, and no program is named",
        ),
        (format!("{DB_ALONE}run = [\"./x\"]\n"), "db run: `store` brings its own program and cannot `run` yours"),
    ] {
        assert_eq!(placed(&nothing, &services, STORES, "db"), place, "{services}");
    }
}

#[test]
fn places_of_what_exists_stay() {
    let world = World::settled(&format!("{DB_ALONE}version = \"<16\"\n"));
    let cache = World::settled("[service.db]\noffering = \"cache\"\nversion = \"<8\"\n");
    for (known, services, versions, place) in [
        (&world, DB_ALONE.to_owned(), STORES, "small 15.18"),
        // The one it has is no longer offered: its successor is an upgrade, never had in passing.
        (&world, DB_ALONE.to_owned(), &["15.17", "15.19", "16.4"], "small 15.18"),
        (&world, DB_ALONE.to_owned(), &["15.16", "15.17", "16.4"], "small 15.17"),
        (
            &world,
            format!("{DB_ALONE}version = \">=16\"\n"),
            STORES,
            "db version: `db` holds data of store 15.18, which 16.4 cannot read",
        ),
        // What keeps no data may be of any version.
        (&cache, "[service.db]\noffering = \"cache\"\nversion = \">=8\"\n".to_owned(), STORES, "small 8.0"),
        (
            &world,
            "[service.db]\noffering = \"cache\"\n".to_owned(),
            STORES,
            "db offering: `db` exists as `store`, and cannot become `cache`",
        ),
    ] {
        assert_eq!(placed(&known.known, &services, versions, "db"), place, "{services} {versions:?}");
    }
}

fn in_words(change: &Change) -> String {
    match change {
        Change::Added { service } => format!("{service} added"),
        Change::Returned { service } => format!("{service} returned"),
        Change::Removed { service } => format!("{service} removed"),
        Change::ProviderAdded { provider } => format!("provider {provider} is new"),
        Change::ProviderRemoved { provider } => format!("provider {provider} is gone"),
        Change::ProviderChanged { provider, keys } => format!("provider {provider}: {}", keys.join(", ")),
        Change::Selling { sells } => format!("selling: {sells}"),
        Change::Changed { service, keys } => format!("{service} changed: {}", keys.join(" ")),
    }
}

#[test]
fn changes_of_every_kind() {
    let mut retained = World::settled(TWO);
    retained.apply(DB_ALONE);
    retained.oblige();
    let mut scaled = World::settled(TWO);
    scaled.ask(Ask::Scale { service: "web".parse().unwrap(), instances: 3 });
    let two = World::settled(TWO);
    let changed = TWO.replace("./web", "./other").replace("= 2", "= 3") + "env = { A = \"b\" }\n";
    for (known, services, found) in [
        (&two, TWO, vec![]),
        (&World::up(DB_ALONE), ONE_WITH_NEED, vec!["web added"]),
        (&retained, TWO, vec!["web returned", "db removed"]),
        (&two, DB_ALONE, vec!["db added", "web removed"]),
        (&two, &changed, vec!["web changed: run env instances"]),
        // The file's word counts again when it is given again.
        (&scaled, TWO, vec!["web changed: instances"]),
    ] {
        let words: Vec<String> = changes(&known.known, &estate(services)).iter().map(in_words).collect();
        assert_eq!(words, found, "{services}");
    }
}
