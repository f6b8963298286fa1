//! A keeper dies; the next one finds everything again.

use std::io::{Read, Seek, SeekFrom, Write};

use ostler_keeper::protocol::{Answer, Launch, Order, Reflex, Role};
use ostler_model::health::Exit;
use rustix::process::Signal;

use crate::harness::{
    Home, LONG, PLENTY, ended, example, id, is_alive, kill, restarted, start, stop, survey, wait_until,
};

#[test]
fn the_next_keeper_adopts_everything_and_starts_no_twin() {
    let mut home = Home::new();
    let mut manager = home.manager();
    let names: Vec<String> = (1..=50).map(|number| format!("web-{number}")).collect();
    let processes: Vec<_> = names.iter().map(|name| start(&mut manager, home.sleeper(name), PLENTY)).collect();
    for _ in 0..3 {
        home.kill_keeper();
        assert!(processes.iter().all(|process| is_alive(process.pid)));
        home.start();
        let mut manager = home.manager();
        let found = survey(&mut manager).instances;
        assert_eq!(found.len(), names.len());
        for (name, process) in names.iter().zip(&processes) {
            let surveyed = &found[&id(name)];
            assert_eq!(surveyed.process.as_ref(), Some(process));
            assert_eq!(surveyed.digest.as_deref(), Some("sleep 1000000"));
            assert!(!surveyed.has_launch);
            let launch = Box::new(home.sleeper(name));
            let answer = manager.ask(Order::Start { launch, grant: PLENTY }).unwrap();
            assert_eq!(answer, Answer::Running { process: process.clone(), adopted: true, as_ordered: true });
            home.expect_only(name, process.pid);
        }
    }
    // And they can be stopped like any other.
    let mut manager = home.manager();
    assert_eq!(stop(&mut manager, "web-1", 60_000), (Some(Exit::Signal(15)), false));
}

#[test]
fn an_adopted_process_dies_like_any_other() {
    let mut home = Home::new();
    let mut manager = home.manager();
    let script = "while ! [ -e go ]; do sleep 0.01; done; exit 7";
    let with_launch = start(&mut manager, home.shell("web-1", script), PLENTY);
    let without_launch = start(&mut manager, home.sleeper("web-2"), PLENTY);
    home.kill_keeper();
    home.start();
    let mut manager = home.manager();
    start(&mut manager, home.shell("web-1", script), PLENTY);
    std::fs::write(home.path().join("go"), "").unwrap();
    let (_, _, dead, exit, reflex) = ended(&mut manager);
    assert_eq!((dead, exit), (with_launch, Exit::Code(7)));
    let next = restarted(reflex);
    assert_ne!(next.incarnation, "");
    drop(manager);
    let mut manager = home.manager();
    kill(without_launch.pid, Signal::KILL);
    loop {
        let (_, instance, dead, exit, reflex) = ended(&mut manager);
        if instance == id("web-2") {
            assert_eq!((dead, exit, reflex), (without_launch, Exit::Signal(9), Reflex::NoLaunch));
            break;
        }
    }
}

#[test]
fn what_died_while_no_keeper_was_there_is_reported() {
    let mut home = Home::new();
    let mut manager = home.manager();
    let process = start(&mut manager, home.sleeper("web-1"), PLENTY);
    home.kill_keeper();
    kill(process.pid, Signal::KILL);
    wait_until("it is dead", || !is_alive(process.pid));
    home.start();
    let mut manager = home.manager();
    let (_, instance, dead, exit, reflex) = ended(&mut manager);
    assert_eq!((instance, dead, exit, reflex), (id("web-1"), process, Exit::Unknown, Reflex::NoLaunch));
    assert!(survey(&mut manager).instances.is_empty());
}

/// Where a slot has its process id, see the ledger's own module.
const PID_AT: u64 = 8;
const SLOT_BYTES: u64 = 1024;

#[test]
fn an_intent_whose_process_was_made_is_adopted() {
    let mut home = Home::new();
    let mut manager = home.manager();
    let process = start(&mut manager, home.sleeper("web-1"), PLENTY);
    home.kill_keeper();
    let path = home.path().join("run/ledger");
    let mut ledger = std::fs::File::options().read(true).write(true).open(path).unwrap();
    // The first slot is either the test's own, as manager, or the instance's: forget the ids of both.
    for slot in 1..=2 {
        let mut pid = [0u8; 8];
        ledger.seek(SeekFrom::Start(slot * SLOT_BYTES + PID_AT)).unwrap();
        ledger.read_exact(&mut pid).unwrap();
        assert_ne!(pid, [0; 8]);
        ledger.seek(SeekFrom::Start(slot * SLOT_BYTES + PID_AT)).unwrap();
        ledger.write_all(&[0; 8]).unwrap();
    }
    home.start();
    let mut manager = home.manager();
    assert_eq!(survey(&mut manager).instances[&id("web-1")].process, Some(process.clone()));
    let launch = Box::new(home.sleeper("web-1"));
    let answer = manager.ask(Order::Start { launch, grant: PLENTY }).unwrap();
    assert_eq!(answer, Answer::Running { process, adopted: true, as_ordered: true });
}

#[test]
fn without_its_ledger_it_finds_processes_by_their_markers() {
    let mut home = Home::new();
    let mut manager = home.manager();
    let script = "sleep 1000000 & setsid sleep 1000000 & sleep 1000000";
    let process = start(&mut manager, home.shell("web-1", script), PLENTY);
    wait_until("its children are there", || home.processes_of("web-1").len() == 4);
    home.kill_keeper();
    std::fs::remove_file(home.path().join("run/ledger")).unwrap();
    home.start();
    let mut manager = home.manager();
    let found = survey(&mut manager).instances[&id("web-1")].process.clone().unwrap();
    assert_eq!((found.pid, &found.incarnation), (process.pid, &process.incarnation));
    let other = Home::new();
    assert!(survey(&mut other.manager()).instances.is_empty(), "another home's processes are not its own");
}

#[test]
fn the_rest_of_a_tree_whose_main_process_died_unseen_goes_first() {
    let mut home = Home::new();
    let mut manager = home.manager();
    let script = "(while ! [ -e go ]; do sleep 0.01; done) & echo ready; exec sleep 1000000";
    let launch = || Launch { tree: true, ..home.shell("db-1", script) };
    let process = start(&mut manager, launch(), PLENTY);
    let launch = launch();
    wait_until("it is ready", || home.log("db-1") == "ready\n" && home.processes_of("db-1").len() >= 2);
    home.kill_keeper();
    kill(process.pid, Signal::KILL);
    wait_until("it is dead", || !is_alive(process.pid));
    home.start();
    let mut manager = home.manager();
    let ordered = manager.send(Order::Start { launch: Box::new(launch), grant: PLENTY }, None).unwrap();
    survey(&mut manager);
    assert_eq!(home.log("db-1"), "ready\n", "not started beside what is left");
    std::fs::write(home.path().join("go"), "").unwrap();
    let answer = manager.answer(ordered).unwrap().0;
    assert!(matches!(answer, Answer::Running { adopted: false, .. }), "{answer:?}");
    let (_, _, dead, exit, _) = ended(&mut manager);
    assert_eq!((dead, exit), (process, Exit::Unknown));
}

#[test]
fn killed_in_the_middle_of_starts_it_never_leaves_a_twin() {
    let mut home = Home::new();
    for round in 0..20 {
        let mut manager = home.manager();
        let mut keeper = home.keeper.take().unwrap();
        for number in 1..=20 {
            // Sent without waiting, so that the kill falls somewhere among the starts.
            let launch = Box::new(home.sleeper(&format!("web-{number}")));
            manager.send(Order::Start { launch, grant: PLENTY }, None).unwrap();
        }
        for _ in 0..round {
            std::thread::yield_now();
        }
        keeper.kill().unwrap();
        keeper.wait().unwrap();
        home.start();
    }
    let mut manager = home.manager();
    for number in 1..=20 {
        let name = format!("web-{number}");
        let process = start(&mut manager, home.sleeper(&name), PLENTY);
        home.expect_only(&name, process.pid);
    }
}

#[test]
fn a_second_keeper_is_refused() {
    let home = Home::new();
    let output = std::process::Command::new(example()).arg("run").arg(home.path()).output().unwrap();
    assert!(!output.status.success());
    assert!(String::from_utf8_lossy(&output.stderr).contains("Taken"), "{output:?}");
    home.connect(Role::Visitor).ask(Order::Survey).unwrap();
    let _ = LONG;
}
