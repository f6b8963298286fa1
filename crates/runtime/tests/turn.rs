//! The loop's contract: facts before commands, nothing lost by a crash at any point, nothing done while facts cannot be
//! stored.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use std::cell::RefCell;
use std::collections::VecDeque;
use std::net::SocketAddr;
use std::path::Path;
use std::rc::Rc;
use std::sync::{Arc, Mutex};

use ostler_journal::sealed::Key;
use ostler_journal::{AppendError, Journal, Memory, NewFact, ReadError, Record, SealedChange, SecretValue, Snapshots};
use ostler_manager::{Command, Event, Fact, FactKind, Knowledge, Outcome, ResumeCause, check};
use ostler_model::catalog::{Actions, Catalog, Limits, Offering, Plan, ProbePolicy};
use ostler_model::estate::{Check, parse};
use ostler_model::health::Health;
use ostler_model::ids::{CommandId, EstateUuid, InstanceId, Position, SecretId};
use ostler_model::outcome::{Observation, Running};
use ostler_model::time::{Span, Timestamp};
use ostler_runtime::envelope;
use ostler_runtime::keeper_link::ReportNumber;
use ostler_runtime::turn::{Hands, Incoming, Known, Secrets, Turner, recall};

const SHOP: &str = r#"
[estate]
name = "shop"
[provider.here]
kind = "host"
[service.db]
offering = "store"
[service.web]
offering = "program"
run = ["./web"]
needs = ["db"]
instances = 2
"#;

fn offering(name: &str, runs_program: bool) -> Offering {
    Offering {
        name: name.parse().unwrap(),
        description: String::new(),
        versions: Vec::new(),
        series: 1,
        plans: vec![Plan {
            name: "standard".parse().unwrap(),
            description: String::new(),
            limits: Limits::default(),
            price: None,
            costs: Vec::new(),
            free: false,
            version: None,
            maintenance: None,
            handle: None,
            withdrawn: false,
        }],
        runs_program,
        bindable: true,
        durable: !runs_program,
        instances_max: None,
        actions: Actions { start_stop: true, ..Actions::default() },
        probe: ProbePolicy {
            ready: Check::Tcp,
            deep: None,
            every: Span::seconds(10),
            timeout: Span::seconds(1),
            start_within: Span::seconds(60),
        },
        stop_grace: Span::seconds(10),
        withdrawn: false,
        accepts: Vec::new(),
    }
}

fn shop() -> Event {
    let estate = parse("shop.toml", Path::new("/srv"), SHOP).unwrap().estate;
    let offerings = [offering("store", false), offering("program", true)].map(|o| (o.name.clone(), o)).into();
    let catalogs = [("here".parse().unwrap(), Arc::new(Catalog { offerings, ..Catalog::default() }))].into();
    Event::EstateGiven { estate: Arc::new(estate), catalogs }
}

/// A journal that outlives the loop that uses it, fails when told to, and counts appends.
#[derive(Clone)]
struct Disk {
    memory: Arc<Mutex<Memory>>,
    full: Arc<Mutex<bool>>,
}

impl Disk {
    fn new() -> Self {
        let key = Key::from_text(&"ab".repeat(32)).unwrap();
        Self { memory: Arc::new(Mutex::new(Memory::new(&key))), full: Arc::default() }
    }
}

impl Journal for Disk {
    fn append(
        &mut self,
        expected: Position,
        facts: &[NewFact],
        secrets: &[SealedChange],
    ) -> Result<Position, AppendError> {
        if *self.full.lock().unwrap() {
            let expected = Position(expected.0 + 1_000_000); // the store's own way to refuse, without a real full disk
            return self.memory.lock().unwrap().append(expected, facts, secrets);
        }
        self.memory.lock().unwrap().append(expected, facts, secrets)
    }
    fn end(&self) -> Position {
        self.memory.lock().unwrap().end()
    }
    fn read(&self, after: Position, most: usize) -> Result<Vec<Record>, ReadError> {
        self.memory.lock().unwrap().read(after, most)
    }
    fn read_back(&self, before: Position, most: usize) -> Result<Vec<Record>, ReadError> {
        self.memory.lock().unwrap().read_back(before, most)
    }
    fn secret(&self, id: &SecretId) -> Result<Option<SecretValue>, ReadError> {
        self.memory.lock().unwrap().secret(id)
    }
    fn save_snapshot(&mut self, at: Position, version: u32, body: &[u8]) -> Result<(), AppendError> {
        self.memory.lock().unwrap().save_snapshot(at, version, body)
    }
    fn latest_snapshot(&self) -> Result<Snapshots, ReadError> {
        self.memory.lock().unwrap().latest_snapshot()
    }
    fn meta_get(&self, name: &str) -> Result<Option<Vec<u8>>, ReadError> {
        self.memory.lock().unwrap().meta_get(name)
    }
    fn meta_set(&mut self, name: &str, value: &[u8]) -> Result<(), AppendError> {
        self.memory.lock().unwrap().meta_set(name, value)
    }
}

/// Hands that do what they are told in a small world that outlives them.
#[derive(Clone, Default)]
struct World(Rc<RefCell<Inner>>);

#[derive(Default)]
struct Inner {
    made: Vec<InstanceId>,
    alive: Vec<InstanceId>,
    starts: Vec<InstanceId>,
    twins: usize,
    answers: VecDeque<Incoming>,
    handed: Vec<(CommandId, Command)>,
    disk: Option<Disk>,
    reports: Vec<ReportNumber>,
}

fn address(id: &InstanceId) -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], 20_000 + u16::try_from(id.to_string().len() as u32 * 10 + id.number()).unwrap()))
}

fn running(id: &InstanceId) -> Running {
    Running { pid: Some(1000 + id.number()), address: address(id), since: Timestamp(1) }
}

impl Hands for World {
    fn hand_over(&mut self, id: CommandId, command: Command, known: &Knowledge, _: &dyn Secrets) {
        let mut inner = self.0.borrow_mut();
        // Facts before commands: what is handed over can be read back from the disk.
        let stored = inner.disk.as_ref().map(|disk| recall(disk).unwrap().0.knowledge);
        if let Some(stored) = stored {
            assert_eq!(stored, *known, "a command was handed over before its facts were stored");
        }
        inner.handed.push((id, command.clone()));
        let outcome = match &command {
            Command::OpenEndpoint { address, .. } => {
                Some(Outcome::Open(address.unwrap_or(SocketAddr::from(([127, 0, 0, 1], 9000)))))
            }
            Command::Provision { instance } => {
                inner.made.push(instance.clone());
                Some(Outcome::Done)
            }
            Command::Observe { instance } => Some(Outcome::Observed(if inner.alive.contains(instance) {
                Observation::Running(running(instance))
            } else if inner.made.contains(instance) {
                Observation::Stopped { exit: None }
            } else {
                Observation::Absent
            })),
            Command::Start { instance, .. } => {
                if !inner.alive.contains(instance) {
                    inner.starts.push(instance.clone());
                    inner.alive.push(instance.clone());
                }
                let count = inner.alive.iter().filter(|alive| *alive == instance).count();
                inner.twins += count - 1;
                Some(Outcome::Started(running(instance).into()))
            }
            Command::Bind { .. } => Some(Outcome::Bound { digest: "same".to_owned(), renew_at: None }),
            Command::Watch { instance, .. } => {
                let probed = Event::Probed { instance: instance.clone(), watch: id, health: Health::Ready };
                inner.answers.push_back(probed.into());
                None
            }
            Command::Route { .. } | Command::Unwatch { .. } | Command::Notify { .. } => None,
            other => panic!("not expected here: {other:?}"),
        };
        if let Some(outcome) = outcome {
            let secrets = match &command {
                Command::Bind { binding, .. } => {
                    vec![SealedChange::set(SecretId::of_binding(binding), b"hidden".to_vec())]
                }
                _ => Vec::new(),
            };
            inner.answers.push_back(Incoming { event: Some(Event::Ended { id, outcome }), secrets, report: None });
        }
    }

    fn stored(&mut self, report: ReportNumber) {
        self.0.borrow_mut().reports.push(report);
    }
}

fn resumed() -> Incoming {
    Event::Resumed { cause: ResumeCause::Started, uuid: EstateUuid::from_random([7; 16]) }.into()
}

/// Turns until nothing more comes, at most `turns` times; `false` if it was cut short.
fn run(engine: &mut Turner<Disk, World>, world: &World, turns: usize) -> bool {
    for turn in 0..turns {
        let next = world.0.borrow_mut().answers.pop_front();
        let Some(next) = next else { return true };
        engine.turn(Timestamp(10 + i64::try_from(turn).unwrap()), &mut std::iter::once(next)).unwrap();
    }
    false
}

#[test]
fn facts_are_stored_before_commands_are_handed_over() {
    let (disk, world) = (Disk::new(), World::default());
    world.0.borrow_mut().disk = Some(disk.clone());
    world.0.borrow_mut().answers.extend([resumed(), shop().into()]);
    let mut engine = Turner::new(disk.clone(), world.clone()).unwrap();
    assert!(run(&mut engine, &world, 1000));
    assert!(engine.knowledge().is_settled());
    assert_eq!(check(engine.knowledge()), []);
    assert_eq!(world.0.borrow().alive.len(), 3);
}

#[test]
fn a_crash_after_any_turn_loses_nothing_and_starts_no_twin() {
    let mut crashed_at = 0;
    for crash_after in 1.. {
        let (disk, world) = (Disk::new(), World::default());
        world.0.borrow_mut().answers.extend([resumed(), shop().into()]);
        let mut engine = Turner::new(disk.clone(), world.clone()).unwrap();
        let was_over = run(&mut engine, &world, crash_after);
        let before = engine.knowledge().clone();
        drop(engine);
        // What was on its way to the manager is gone with it; what was done in the world is not.
        world.0.borrow_mut().answers.clear();
        let mut engine = Turner::new(disk.clone(), world.clone()).unwrap();
        assert_eq!(*engine.knowledge(), before, "after turn {crash_after}");
        world.0.borrow_mut().answers.extend([resumed(), shop().into()]);
        assert!(run(&mut engine, &world, 1000));
        assert!(engine.knowledge().is_settled(), "after turn {crash_after}");
        assert_eq!(check(engine.knowledge()), []);
        let inner = world.0.borrow();
        assert_eq!((inner.twins, inner.starts.len()), (0, 3), "after turn {crash_after}: {:?}", inner.starts);
        if was_over {
            break;
        }
        crashed_at = crash_after;
    }
    assert!(crashed_at > 10, "the story is long enough to be worth crashing in");
}

#[test]
fn while_facts_cannot_be_stored_nothing_is_done_and_nothing_is_lost() {
    let (disk, world) = (Disk::new(), World::default());
    world.0.borrow_mut().answers.push_back(resumed());
    let mut engine = Turner::new(disk.clone(), world.clone()).unwrap();
    assert!(run(&mut engine, &world, 10));
    *disk.full.lock().unwrap() = true;
    let mut given = VecDeque::from([Incoming::from(shop())]);
    let mut take = std::iter::from_fn(|| given.pop_front());
    assert!(engine.turn(Timestamp(50), &mut take).is_err());
    assert!(engine.is_stuck());
    let late = Incoming::from(Event::Look(ostler_manager::Scope::Service("db".parse().unwrap())));
    let mut waiting = VecDeque::from([late]);
    assert!(engine.turn(Timestamp(51), &mut std::iter::from_fn(|| waiting.pop_front())).is_err());
    assert_eq!(waiting.len(), 1, "nothing more is taken");
    assert!(world.0.borrow().handed.is_empty(), "nothing is done");
    *disk.full.lock().unwrap() = false;
    engine.turn(Timestamp(52), &mut std::iter::empty()).unwrap();
    assert!(!engine.is_stuck());
    let records: Vec<_> = ostler_journal::oldest_first(&disk, Position(0)).map(Result::unwrap).collect();
    let facts: Vec<_> = records.iter().map(|record| envelope::unwrap(record).unwrap()).collect();
    let late = |fact: &Fact| matches!(fact.kind, FactKind::Resumed { cause: ResumeCause::StoredLate });
    let late = facts.iter().position(late).expect("everything is looked at anew");
    let handed: Vec<_> = world.0.borrow().handed.iter().map(|(id, _)| *id).collect();
    let decided_late = |id: &CommandId| {
        let issued = |fact: &Fact| matches!(&fact.kind, FactKind::CommandIssued { id: issued, .. } if issued == id);
        facts[..late].iter().any(issued)
    };
    assert!(!handed.is_empty() && !handed.iter().any(decided_late), "what was decided for another time is not done");
    assert!(run(&mut engine, &world, 1000));
    assert!(engine.knowledge().is_settled());
    assert_eq!(world.0.borrow().starts.len(), 3);
}

#[test]
fn a_snapshot_and_what_came_after_it_give_what_all_facts_give() {
    let (disk, world) = (Disk::new(), World::default());
    world.0.borrow_mut().answers.extend([resumed(), shop().into()]);
    let mut engine = Turner::new(disk.clone(), world.clone()).unwrap();
    assert!(!run(&mut engine, &world, 6));
    engine.save_snapshot().unwrap();
    assert!(run(&mut engine, &world, 1000));
    let (known, folded) = recall(&disk).unwrap();
    assert_eq!((&known.knowledge, &known.ledger), (engine.knowledge(), engine.ledger()));
    assert!(folded < disk.end().0, "the snapshot was used");
    let mut anew = Known::default();
    for record in ostler_journal::oldest_first(&disk, Position(0)) {
        let record = record.unwrap();
        let fact = envelope::unwrap(&record).unwrap();
        ostler_manager::evolve(&mut anew.knowledge, &fact);
        anew.ledger.fold(record.position, &fact);
    }
    assert_eq!(anew, known);
}

#[test]
fn secrets_arrive_in_the_transaction_of_their_fact_and_never_in_a_fact() {
    let (disk, world) = (Disk::new(), World::default());
    world.0.borrow_mut().answers.extend([resumed(), shop().into()]);
    let mut engine = Turner::new(disk.clone(), world.clone()).unwrap();
    assert!(run(&mut engine, &world, 1000));
    let id = SecretId::of_binding(&"web/db".parse().unwrap());
    assert_eq!(disk.secret(&id).unwrap().unwrap().bytes(), b"hidden");
    for record in ostler_journal::oldest_first(&disk, Position(0)) {
        let record = record.unwrap();
        assert!(!String::from_utf8_lossy(&record.body).contains("hidden"));
        assert!(!matches!(envelope::unwrap(&record).unwrap().kind, FactKind::Held { .. }));
    }
}

#[test]
fn a_secret_whose_event_came_too_late_is_not_stored() {
    let (disk, world) = (Disk::new(), World::default());
    world.0.borrow_mut().answers.push_back(resumed());
    let mut engine = Turner::new(disk.clone(), world.clone()).unwrap();
    assert!(run(&mut engine, &world, 10));
    let id = SecretId::of_binding(&"web/db".parse().unwrap());
    let late = Incoming {
        event: Some(Event::Ended {
            id: CommandId(77),
            outcome: Outcome::Bound { digest: "x".to_owned(), renew_at: None },
        }),
        secrets: vec![SealedChange::set(id.clone(), b"hidden".to_vec())],
        report: None,
    };
    engine.turn(Timestamp(60), &mut std::iter::once(late)).unwrap();
    assert!(disk.secret(&id).unwrap().is_none());
}

/// Every log in `tests/logs` was recorded by the version that it is named after. `OSTLER_RECORD=0.2.0 cargo test` writes
/// the one of a version that is about to be released.
#[test]
fn the_log_of_every_released_version_still_replays() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/logs");
    if let Ok(version) = std::env::var("OSTLER_RECORD") {
        std::fs::create_dir_all(&folder).unwrap();
        std::fs::write(folder.join(format!("{version}.jsonl")), recorded_log()).unwrap();
    }
    let mut replayed = 0;
    for entry in std::fs::read_dir(&folder).unwrap() {
        let path = entry.unwrap().path();
        let mut known = Knowledge::default();
        for (line, body) in std::fs::read_to_string(&path).unwrap().lines().enumerate() {
            let record = Record {
                position: Position(line as u64 + 1),
                at: Timestamp(0),
                kind: "any".to_owned(),
                body: body.as_bytes().to_vec(),
            };
            ostler_manager::evolve(&mut known, &envelope::unwrap(&record).unwrap());
        }
        assert!(known.is_settled(), "{}", path.display());
        assert_eq!(check(&known), [], "{}", path.display());
        replayed += 1;
    }
    assert!(replayed > 0, "no log of a released version was found");
}

/// A story with a bit of everything: up, a death with its reflex, callers who waited, one more instance by hand.
fn recorded_log() -> String {
    let (disk, world) = (Disk::new(), World::default());
    world.0.borrow_mut().answers.extend([resumed(), shop().into()]);
    let mut engine = Turner::new(disk.clone(), world.clone()).unwrap();
    assert!(run(&mut engine, &world, 1000));
    let web: InstanceId = "web-1".parse().unwrap();
    let died = Event::Died {
        instance: web.clone(),
        pid: running(&web).pid,
        exit: ostler_model::health::Exit::Signal(9),
        at: Timestamp(2000),
        reflex: Ok(ostler_manager::Process { pid: 4711, since: Timestamp(2001) }),
    };
    world.0.borrow_mut().answers.push_back(died.into());
    assert!(run(&mut engine, &world, 1000));
    let affected = Event::CallersAffected {
        service: "web".parse().unwrap(),
        from: Timestamp(1999),
        until: Timestamp(2010),
        waited: 3,
        failed: 0,
        longest: std::time::Duration::from_micros(11),
    };
    let scale = Event::Asked(ostler_manager::Ask::Scale { service: "web".parse().unwrap(), instances: 3 });
    world.0.borrow_mut().answers.extend([affected.into(), scale.into()]);
    assert!(run(&mut engine, &world, 1000));
    assert!(engine.knowledge().is_settled());
    let bodies = ostler_journal::oldest_first(&disk, Position(0)).map(|record| record.unwrap().body);
    bodies.map(|body| String::from_utf8(body).unwrap() + "\n").collect()
}
