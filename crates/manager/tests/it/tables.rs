//! Placement, differences and states, case by case.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use ostler_manager::{Ask, Change, Command, Event, Knowledge, ResumeCause, changes, place, status};
use ostler_model::catalog::{Catalog, Maintenance, Offering, Placement};
use ostler_model::estate::certificate::Certificate;
use ostler_model::estate::{Check, DataPolicy, Estate, Parameters, Protocol, Provider, Service};
use ostler_model::health::{Health, State, Symptom, SymptomKind};
use ostler_model::ids::{CommandId, ProviderName};
use ostler_model::outcome::FailureClass;
use ostler_model::time::Span;

use crate::support::{START, catalog, catalogs, estate, given, here, instance, local, name, offering, service};
use crate::world::World;

type Catalogs = BTreeMap<ProviderName, Arc<Catalog>>;

fn with(mut service: Service, change: impl FnOnce(&mut Service)) -> Service {
    change(&mut service);
    service
}

fn version(range: &str) -> impl FnOnce(&mut Service) {
    let range = range.parse().unwrap();
    move |service| service.version = range
}

fn offers(offerings: Vec<Offering>) -> Catalogs {
    BTreeMap::from([(here(), catalog(offerings))])
}

/// Where `db` is bought; else the key that is wrong, and why.
fn placed(known: &Knowledge, estate: &Estate, catalogs: &Catalogs) -> Result<Placement, (&'static str, String)> {
    match place(known, estate, catalogs, START) {
        Ok(mut places) => Ok(places.remove(&name("db")).unwrap()),
        Err(mut problems) => {
            let problem = problems.remove(0);
            assert!(!problem.remedy.is_empty());
            Err((problem.key, problem.cause))
        }
    }
}

/// What is known of an estate that came up whole.
fn up(services: Vec<Service>) -> World {
    let mut world = World::new();
    let _ = world.give(&given(&estate(20, services)));
    world.settle();
    assert!(world.known.is_settled());
    world
}

fn version_of(placement: Result<Placement, (&'static str, String)>) -> Result<String, (&'static str, String)> {
    placement.map(|placement| placement.version.map_or_else(String::new, |version| version.to_string()))
}

#[test]
fn the_newest_version_that_fits() {
    let nothing = Knowledge::default();
    let chosen = |range: &str| {
        let db = with(service("db", "postgresql"), version(range));
        version_of(placed(&nothing, &estate(20, vec![db]), &catalogs()))
    };
    assert_eq!(chosen("*").as_deref(), Ok("17.2"));
    assert_eq!(chosen("<17").as_deref(), Ok("16.4"));
    assert_eq!(chosen("15").as_deref(), Ok("15.18"));
    assert_eq!(chosen(">=18"), Err(("version", "no version of `postgresql` satisfies `>=18`".to_owned())));
}

#[test]
fn what_an_endpoint_understands_is_what_is_said_or_what_its_probe_speaks() {
    let understood = |ready: Option<Check>, protocol: Option<Protocol>| {
        let web = with(service("web", "program"), |web| {
            web.probe.ready = ready;
            web.protocol = protocol;
        });
        let known = up(vec![web]).known;
        known.protocol(&known.services[&name("web")])
    };
    let http = || Some(Check::Http("/readyz".to_owned()));
    assert_eq!(understood(None, None), Protocol::Tcp);
    assert_eq!(understood(Some(Check::Command(vec!["true".to_owned()])), None), Protocol::Tcp);
    assert_eq!(understood(http(), None), Protocol::Http);
    assert_eq!(understood(http(), Some(Protocol::Tcp)), Protocol::Tcp);
    assert_eq!(understood(None, Some(Protocol::Http)), Protocol::Http);
}

#[test]
fn what_an_endpoint_understands_can_change_while_its_instances_run() {
    let web = |protocol| with(service("web", "program"), |web| web.protocol = protocol);
    let mut world = up(vec![web(None)]);
    let decision = world.give(&given(&estate(20, vec![web(Some(Protocol::Http))])));
    // A new watch is what tells the hands to look; nothing is stopped for it.
    let commands: Vec<&Command> = decision.commands.iter().map(|(_, command)| command).collect();
    assert!(matches!(commands[..], [Command::Watch { .. }]), "{commands:?}");
    world.settle();
    assert_eq!(world.known.protocol(&world.known.services[&name("web")]), Protocol::Http);
}

#[test]
fn what_exists_keeps_its_version_until_an_upgrade_leads_to_another() {
    let known = up(vec![with(service("db", "postgresql"), version("16"))]).known;
    let then = |range: &str, data: DataPolicy, offering| {
        let db = with(with(service("db", "postgresql"), version(range)), |db| db.data = data);
        version_of(placed(&known, &estate(20, vec![db]), &offers(vec![offering])))
    };
    let kept = DataPolicy::default();
    let lost = DataPolicy { durable: Some(false), ..DataPolicy::default() };
    let offered = |versions: &[&str]| offering("postgresql", versions);
    assert_eq!(then("*", kept, offered(&["16.4", "17.2"])).as_deref(), Ok("16.4"), "the present one will do");
    assert_eq!(then("*", kept, offered(&["16.5", "17.2"])).as_deref(), Ok("16.4"), "gone: it runs on");
    assert_eq!(then("17", lost, offered(&["16.4", "17.2"])).as_deref(), Ok("16.4"), "nothing to lose");
    assert_eq!(then("17", kept, offered(&["16.4", "17.2"])).as_deref(), Ok("16.4"), "dumped and restored");
    let mut without_backups = offered(&["16.4", "17.2"]);
    without_backups.actions.backup = false;
    let cause = "`db` holds data of postgresql 16.4, which 17.2 cannot read".to_owned();
    assert_eq!(then("17", kept, without_backups), Err(("version", cause)));
    let cause = "`db` holds data of postgresql 16.4, which 15.18 cannot read".to_owned();
    assert_eq!(then("15", kept, offered(&["15.18", "16.4"])), Err(("version", cause)));
}

#[test]
fn of_series_that_are_told_apart_by_two_numbers_data_stays_in_its_own() {
    let known = up(vec![with(service("db", "postgresql"), version("16"))]).known;
    let then = |series: u32, range: &str| {
        let mut offered = offering("postgresql", &["16.4", "16.5", "17.2"]);
        offered.series = series;
        offered.actions.backup = false; // so that no upgrade leads to another series
        let db = with(service("db", "postgresql"), version(range));
        version_of(placed(&known, &estate(20, vec![db]), &offers(vec![offered]))).map_err(|(_, cause)| cause)
    };
    assert_eq!(then(1, "16.5").as_deref(), Ok("16.4"), "an upgrade leads there");
    assert!(then(2, "16.5").unwrap_err().contains("cannot read"));
    assert_eq!(then(0, "17").as_deref(), Ok("16.4"), "every version takes over the data of the ones before it");
}

#[test]
fn a_program_has_the_versions_that_lie_side_by_side() {
    let web = |range: &str, path: &str| {
        let db = with(service("db", "program"), version(range));
        with(db, |db| db.run = vec![path.parse().unwrap()])
    };
    let offered = |versions: &[&str]| {
        let mut catalog = (*catalog(vec![offering("program", &[])])).clone();
        let versions = versions.iter().map(|version| version.parse().unwrap()).collect();
        catalog.programs.insert(name("db"), versions);
        Catalogs::from([(here(), Arc::new(catalog))])
    };
    let path = "releases/{{ version }}/web";
    let chosen = |known: &Knowledge, range: &str, path: &str, versions: &[&str]| {
        version_of(placed(known, &estate(20, vec![web(range, path)]), &offered(versions)))
    };
    let nothing = Knowledge::default();
    assert_eq!(chosen(&nothing, ">=1, <2", path, &["1.2", "1.10", "2.0"]).as_deref(), Ok("1.10"));
    assert_eq!(chosen(&nothing, "*", "./web", &[]).as_deref(), Ok(""));
    let cause = |result: Result<String, (&'static str, String)>| result.unwrap_err().1;
    assert!(cause(chosen(&nothing, "*", path, &[])).contains("`releases/{{ version }}/web`"));
    assert!(cause(chosen(&nothing, ">=3", path, &["1.2", "2.0"])).contains("satisfies `>=3`"));
    assert!(cause(chosen(&nothing, "1", "./web", &[])).contains("says nothing of versions"));

    let mut world = World::new();
    let given = |range: &str, versions: &[&str]| Event::EstateGiven {
        estate: Arc::new(estate(20, vec![web(range, path)])),
        catalogs: offered(versions),
    };
    let _ = world.give(&given(">=1", &["1.2", "1.10"]));
    world.settle();
    let known = &world.known;
    assert_eq!(chosen(known, ">=1", path, &["1.2", "1.10", "1.11"]).as_deref(), Ok("1.10"), "never in passing");
    assert_eq!(chosen(known, ">=1", path, &["1.2", "1.11"]).as_deref(), Ok("1.10"), "it runs on");
    assert_eq!(chosen(known, ">=1", path, &[]).as_deref(), Ok("1.10"), "it runs on");
    assert_eq!(chosen(known, ">=1.11", path, &["1.2", "1.11"]).as_deref(), Ok("1.10"), "an upgrade leads there");
}

#[test]
fn newer_maintenance_is_never_had_in_passing() {
    let kept_at = |version: &str| {
        let mut offered = offering("bought", &[]);
        for plan in &mut offered.plans {
            plan.maintenance = Some(Maintenance { version: format!("{version}-{}", plan.name), description: None });
        }
        offers(vec![offered])
    };
    let mut world = World::new();
    let town = estate(20, vec![service("db", "bought")]);
    let _ = world.give(&Event::EstateGiven { estate: Arc::new(town.clone()), catalogs: kept_at("1.0.0") });
    world.settle();
    let made_with = |world: &World| {
        world.known.services[&name("db")].instances[&1].made_as.as_ref().unwrap().placement.maintenance.clone()
    };
    assert_eq!(made_with(&world).as_deref(), Some("1.0.0-small"));
    let _ = world.give(&Event::CatalogRead { provider: here(), catalog: kept_at("1.1.0")[&here()].clone() });
    let decision = world.give(&Event::EstateGiven { estate: Arc::new(town), catalogs: kept_at("1.1.0") });
    assert_eq!(decision.commands, [], "nobody has asked for it");
    let plan = &world.known.catalogs[&here()].offerings[&"bought".parse().unwrap()].plans[0];
    assert_eq!(plan.maintenance.as_ref().unwrap().version, "1.1.0-small", "it is on offer");
    // Another plan comes as it is kept.
    let large = with(service("db", "bought"), |db| db.plan = Some("large".parse().unwrap()));
    let _ = world.give(&Event::EstateGiven { estate: Arc::new(estate(20, vec![large])), catalogs: kept_at("1.1.0") });
    world.settle();
    assert_eq!(made_with(&world).as_deref(), Some("1.1.0-large"));
}

#[test]
fn what_was_deleted_keeps_nothing() {
    let mut world = up(vec![with(service("db", "postgresql"), version("16"))]);
    for ask in [Ask::Down, Ask::Delete { service: name("db") }] {
        let _ = world.give(&Event::Asked(ask));
        world.settle();
    }
    let db = with(service("db", "postgresql"), version("17"));
    assert_eq!(version_of(placed(&world.known, &estate(20, vec![db]), &catalogs())).as_deref(), Ok("17.2"));
    let other = estate(20, vec![service("db", "redis")]);
    assert_eq!(version_of(placed(&world.known, &other, &catalogs())).as_deref(), Ok("8.0"));
}

#[test]
fn what_exists_stays_what_and_where_it_is() {
    let known = up(vec![service("db", "postgresql")]).known;
    let cause = "`db` exists as `postgresql`, and cannot become `redis`".to_owned();
    assert_eq!(placed(&known, &estate(20, vec![service("db", "redis")]), &catalogs()), Err(("offering", cause)));
    // Another provider that is preferred now, or the only one left, does not get it.
    let mut two = estate(20, vec![service("db", "postgresql")]);
    let there: ProviderName = "acme".parse().unwrap();
    two.providers.insert(there.clone(), Provider { name: there.clone(), ..two.providers[&here()].clone() });
    let mut both = catalogs();
    both.insert(there.clone(), both[&here()].clone());
    assert_eq!(placed(&Knowledge::default(), &two, &both).unwrap().provider, there);
    assert_eq!(placed(&known, &two, &both).unwrap().provider, here());
    // One that cannot be asked now offers what it offered last; one that has it no more does not.
    both.remove(&here());
    assert_eq!(placed(&known, &two, &both).unwrap().provider, here());
    both.insert(here(), catalog(Vec::new()));
    let cause = "`db` exists at here, which does not offer it here any more".to_owned();
    assert_eq!(placed(&known, &two, &both), Err(("offering", cause)));
    Arc::make_mut(two.services.get_mut(&name("db")).unwrap()).prefer = vec![there.clone()];
    both.insert(here(), both[&there].clone());
    assert_eq!(placed(&known, &two, &both).unwrap_err().0, "offering");
    assert_eq!(placed(&Knowledge::default(), &two, &both).unwrap().provider, there);
}

#[test]
fn what_cannot_be_bought() {
    let wrong =
        |db: Service, catalogs: &Catalogs| placed(&Knowledge::default(), &estate(20, vec![db]), catalogs).unwrap_err();
    let db = || service("db", "postgresql");
    assert_eq!(
        wrong(with(db(), |db| db.plan = Some("huge".parse().unwrap())), &catalogs()),
        ("plan", "`postgresql` has no plan `huge` at here".to_owned())
    );
    assert_eq!(wrong(service("db", "mysql"), &catalogs()), ("offering", "no provider offers `mysql`".to_owned()));
    let mut single = offering("postgresql", &["17.2"]);
    single.instances_max = Some(1);
    assert_eq!(
        wrong(with(db(), |db| db.instances = 3), &offers(vec![single])),
        ("instances", "`postgresql` can have at most 1 here, 3 are declared".to_owned())
    );
    let mut planless = offering("postgresql", &["17.2"]);
    planless.plans.clear();
    assert_eq!(wrong(db(), &offers(vec![planless])), ("plan", "`postgresql` has no plan at here".to_owned()));
    let run = vec!["./mine".parse().unwrap()];
    assert_eq!(wrong(with(db(), |db| db.run = run), &catalogs()).0, "run");
    assert_eq!(wrong(with(service("db", "program"), |db| db.run.clear()), &catalogs()).0, "run");
}

#[test]
fn a_plan_by_name_and_by_default() {
    let plan = |plan: Option<&str>| {
        let db = with(service("db", "postgresql"), |db| db.plan = plan.map(|plan| plan.parse().unwrap()));
        placed(&Knowledge::default(), &estate(20, vec![db]), &catalogs()).unwrap().plan.to_string()
    };
    assert_eq!((plan(None), plan(Some("large"))), ("small".to_owned(), "large".to_owned()));
}

#[test]
fn an_estate_with_a_problem_changes_nothing() {
    let mut world = up(vec![service("db", "postgresql")]);
    let before = world.known.clone();
    let wrong = estate(20, vec![service("web", "program"), service("x", "mysql")]);
    let decision = world.give(&given(&wrong));
    assert_eq!((world.known, decision.withheld.len()), (before, 1));
}

#[test]
fn differences() {
    let db = || service("db", "postgresql");
    let web = || service("web", "program");
    let mut world = up(vec![db(), web()]);
    let of = |known: &Knowledge, services: Vec<Service>| changes(known, &estate(20, services));
    let changed = |keys: &[&str]| {
        let keys = keys.iter().map(|key| (*key).to_owned()).collect();
        vec![Change::Changed { service: name("web"), keys }]
    };
    assert_eq!(of(&world.known, vec![db(), web()]), []);
    assert_eq!(of(&world.known, vec![web()]), [Change::Removed { service: name("db") }]);
    assert_eq!(of(&world.known, vec![db(), web(), service("new", "redis")]), [Change::Added { service: name("new") }]);
    let other = with(web(), |web| {
        web.instances = 2;
        web.endpoint = Some(local(8080));
        web.needs.insert(name("db"));
        web.stop.drain = Span::seconds(1);
    });
    assert_eq!(of(&world.known, vec![db(), other]), changed(&["needs", "instances", "endpoint", "stop"]));
    // Of its providers: the one that there was under another name, and what is said of one.
    let mut elsewhere = estate(20, vec![db(), web()]);
    let here = elsewhere.providers.pop_first().unwrap();
    let there: ProviderName = "there".parse().unwrap();
    elsewhere.providers.insert(there.clone(), Provider { name: there.clone(), ..here.1.clone() });
    assert_eq!(
        changes(&world.known, &elsewhere),
        [Change::ProviderAdded { provider: there }, Change::ProviderRemoved { provider: here.0.clone() }]
    );
    let mut cost_center = Parameters::default();
    cost_center.0.insert("cost_center".to_owned(), "4711".into());
    let certificate = Certificate {
        at: START,
        valid_until: START,
        full: true,
        breaks_you: 0,
        surprises_you: 0,
        cosmetic: 0,
        left: 0,
    };
    let moved = Provider { region: None, context: cost_center, certificate: Some(certificate), ..here.1 };
    elsewhere.providers = BTreeMap::from([(here.0.clone(), moved)]);
    let keys = ["region", "certificate", "context"].map(str::to_owned).to_vec();
    assert_eq!(changes(&world.known, &elsewhere), [Change::ProviderChanged { provider: here.0, keys }]);
    // A number that a person set gives way to the file's.
    let _ = world.give(&Event::Asked(Ask::Scale { service: name("web"), instances: 3 }));
    assert_eq!(of(&world.known, vec![db(), web()]), changed(&["instances"]));
    assert_eq!(of(&world.known, vec![db(), with(web(), |web| web.instances = 3)]), changed(&["instances"]));
    let _ = world.give(&given(&estate(20, vec![web()])));
    assert_eq!(of(&world.known, vec![db(), web()]), [Change::Returned { service: name("db") }]);
}

/// A situation, and the states of `web` and its first two instances in it.
struct Case {
    what: &'static str,
    happens: fn(&mut World),
    web: State,
    web_1: State,
    web_2: State,
}

fn unready(world: &mut World, id: &str) {
    let (watch, _) = world.watches[&instance(id)].clone();
    let health = crate::world::unready("refused");
    let _ = world.give(&Event::Probed { instance: instance(id), watch, health });
}

fn shallow(world: &mut World, id: &str) {
    let (watch, _) = world.watches[&instance(id)].clone();
    let symptom = Symptom { kind: SymptomKind::WrongAnswer, detail: "503".to_owned() };
    let _ = world.give(&Event::Probed { instance: instance(id), watch, health: Health::Shallow(symptom) });
}

fn ask(world: &mut World, ask: Ask) {
    let _ = world.give(&Event::Asked(ask));
}

/// Carries out and tells everything that is ordered, and nothing that follows from it.
fn answer(world: &mut World) {
    let orders: Vec<CommandId> = world.orders.keys().copied().collect();
    for id in orders {
        world.carry_out(id);
        let _ = world.tell_outcome(id);
    }
}

fn crash(world: &mut World, times: u32) {
    for _ in 0..times {
        world.instances.get_mut(&instance("web-1")).unwrap().grant = 0;
        world.kill(&instance("web-1"));
        let report = world.reports.pop_front().unwrap();
        let _ = world.give(&report);
        world.pass(Duration::from_secs(10));
        answer(world);
    }
}

fn cases() -> Vec<Case> {
    use State::{Degraded, Failed, Healing, Held, Ready, Retained, Starting, Stopped, Stopping, Upgrading};
    let case = |what, happens, web, web_1, web_2| Case { what, happens, web, web_1, web_2 };
    vec![
        case("all is well", |_| {}, Ready, Ready, Ready),
        case("a check behind it fails", |w| shallow(w, "web-1"), Degraded, Degraded, Ready),
        case("it hangs", |w| unready(w, "web-1"), Healing, Healing, Ready),
        case(
            "it died and was started again",
            |w| {
                w.kill(&instance("web-1"));
                w.oblige();
            },
            Healing,
            Healing,
            Ready,
        ),
        case("it crashes again and again", |w| crash(w, 3), Degraded, Failed, Ready),
        case(
            "it cannot be started, and a person is asked",
            |w| {
                ask(w, Ask::Restart { service: name("web") });
                answer(w);
                w.fail(*w.orders.keys().next().unwrap(), FailureClass::NeedsPerson);
            },
            Held,
            Held,
            Ready,
        ),
        case("it is being replaced", |w| ask(w, Ask::Restart { service: name("web") }), Upgrading, Upgrading, Ready),
        case(
            "its replacement starts",
            |w| {
                ask(w, Ask::Restart { service: name("web") });
                answer(w);
            },
            Starting,
            Starting,
            Ready,
        ),
        case("everything is to stop", |w| ask(w, Ask::Down), Stopping, Stopping, Stopping),
        case(
            "everything has stopped",
            |w| {
                ask(w, Ask::Down);
                w.settle();
            },
            Stopped,
            Stopped,
            Stopped,
        ),
        case(
            "it is not declared any more",
            |w| drop(w.give(&given(&estate(20, vec![service("db", "redis")])))),
            Stopping,
            Stopping,
            Stopping,
        ),
        case(
            "it is kept",
            |w| {
                let _ = w.give(&given(&estate(20, vec![service("db", "redis")])));
                w.settle();
            },
            Retained,
            Retained,
            Retained,
        ),
        case(
            "it is deleted",
            |w| {
                let _ = w.give(&given(&estate(20, vec![service("db", "redis")])));
                w.settle();
                ask(w, Ask::Delete { service: name("web") });
            },
            Stopping,
            Stopping,
            Stopping,
        ),
        case("fewer are wanted", |w| ask(w, Ask::Scale { service: name("web"), instances: 1 }), Ready, Ready, Stopping),
        case(
            "fewer are there",
            |w| {
                ask(w, Ask::Scale { service: name("web"), instances: 1 });
                w.settle();
            },
            Ready,
            Ready,
            Retained,
        ),
        case(
            "ostler has come back and not looked yet",
            |w| {
                let _ = w.resume(ResumeCause::Started, |_| true);
            },
            Starting,
            Starting,
            Starting,
        ),
    ]
}

#[test]
fn states() {
    for Case { what, happens, web, web_1, web_2 } in cases() {
        let services = vec![service("db", "redis"), with(service("web", "program"), |web| web.instances = 2)];
        let mut world = up(services);
        happens(&mut world);
        let status = status(&world.known, world.now);
        let view = status.services.iter().find(|service| service.name == name("web")).unwrap();
        let states = (view.state, view.instances[0].state, view.instances[1].state);
        assert_eq!(states, (web, web_1, web_2), "{what}: {view:#?}");
    }
}

#[test]
fn states_on_the_way_up() {
    let web = with(service("web", "program"), |web| _ = web.needs.insert(name("db")));
    let mut world = World::new();
    let _ = world.give(&given(&estate(20, vec![service("db", "postgresql"), web])));
    let states = |world: &World| -> Vec<State> {
        status(&world.known, world.now).services.iter().map(|service| service.state).collect()
    };
    assert_eq!(states(&world), [State::Starting, State::Starting]);
    answer(&mut world);
    assert_eq!(states(&world), [State::Starting, State::Pending], "web waits for db");
    let waits = status(&world.known, world.now).services[1].instances[0].because.clone();
    assert_eq!(waits.as_deref(), Some("it needs db"));
    answer(&mut world);
    unready(&mut world, "db-1");
    assert_eq!(states(&world)[0], State::Starting, "refusing connections is no trouble yet");
    world.settle();
    assert_eq!(states(&world), [State::Ready, State::Ready]);
    let view = status(&world.known, world.now);
    assert_eq!((view.settled, view.down), (true, false));
    let text = serde_json::to_string(&view).unwrap();
    assert_eq!(serde_json::from_str::<ostler_manager::StatusView>(&text).unwrap(), view);
}

#[test]
fn a_provider_is_remembered_as_long_as_something_of_it_exists() {
    let mut world = up(vec![service("db", "bought")]);
    let mut without = estate(20, Vec::new());
    without.providers.clear();
    let _ = world.give(&Event::EstateGiven { estate: Arc::new(without.clone()), catalogs: BTreeMap::new() });
    world.settle();
    assert!(world.known.provider(&here()).is_some(), "db is still there");
    let _ = world.give(&Event::Asked(Ask::Release { service: name("db") }));
    world.settle();
    let _ = world.give(&Event::EstateGiven { estate: Arc::new(estate(20, Vec::new())), catalogs: catalogs() });
    let _ = world.give(&Event::EstateGiven { estate: Arc::new(without), catalogs: BTreeMap::new() });
    assert!(world.known.provider(&here()).is_none(), "nothing is");
}

#[test]
fn what_a_catalog_has_no_more_is_kept_as_long_as_it_exists() {
    let mut world = up(vec![service("db", "bought")]);
    let read = |catalog| Event::CatalogRead { provider: here(), catalog };
    let smaller = catalog(vec![offering("program", &[])]);
    let _ = world.give(&read(smaller.clone()));
    let bought = &world.known.catalogs[&here()].offerings[&"bought".parse().unwrap()];
    assert!(bought.withdrawn);
    assert_eq!(world.give(&read(smaller.clone())).facts, [], "it is no news");
    // What exists goes on; nothing more is bought of it.
    let db = service("db", "bought");
    assert!(placed(&world.known, &estate(20, vec![db.clone()]), &BTreeMap::new()).is_ok());
    let other = Service { name: name("other"), ..db };
    let (key, cause) = placed(&world.known, &estate(20, vec![other]), &BTreeMap::new()).unwrap_err();
    assert_eq!((key, cause.as_str()), ("plan", "`bought` has no plan at here"));
    // Deleted, it is forgotten with the next catalog.
    for ask in [Ask::Down, Ask::Delete { service: name("db") }] {
        let _ = world.give(&Event::Asked(ask));
        world.settle();
    }
    let _ = world.give(&read(smaller));
    assert_eq!(world.known.catalogs[&here()].offerings.len(), 1);
}
