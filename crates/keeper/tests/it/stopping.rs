//! Stops, and programs that are trees of processes.

use std::os::unix::fs::PermissionsExt;

use ostler_keeper::protocol::{Answer, Launch, Order, Refusal, UserGroup};
use ostler_model::health::Exit;
use rustix::process::Signal;

use crate::harness::{
    Home, NOTHING, PLENTY, ended, id, is_alive, kill, refused, restarted, start, stop, survey, wait_for, wait_until,
};

#[test]
fn a_stop_is_gentle_first_and_final() {
    let home = Home::new();
    let mut manager = home.manager();
    start(&mut manager, home.shell("web-1", "trap 'exit 5' TERM; echo ready; while :; do sleep 0.01; done"), PLENTY);
    wait_until("the trap is set", || home.log("web-1") == "ready\n");
    assert_eq!(stop(&mut manager, "web-1", 60_000), (Some(Exit::Code(5)), false));
    assert!(home.processes_of("web-1").is_empty());
    assert!(survey(&mut manager).instances.is_empty());
    assert_eq!(stop(&mut manager, "web-1", 60_000), (None, false), "nothing was running");
    assert!(manager.report(std::time::Duration::ZERO).unwrap().is_none(), "an ordered end is no news");
}

#[test]
fn who_ignores_the_signal_is_killed_with_all_it_started() {
    let home = Home::new();
    let mut manager = home.manager();
    // The innermost has a session of its own: only its markers tell whose it is.
    let script = "trap '' TERM; (trap '' TERM; while :; do sleep 1; done) & \
                  setsid sh -c 'trap \"\" TERM; while :; do sleep 1; done' & echo ready; while :; do sleep 1; done";
    start(&mut manager, home.shell("web-1", script), PLENTY);
    wait_until("all are there", || home.processes_of("web-1").len() >= 5);
    let (exit, killed) = stop(&mut manager, "web-1", 50);
    assert_eq!((exit, killed), (Some(Exit::Signal(9)), true));
    assert!(home.processes_of("web-1").is_empty());
}

#[test]
fn children_that_outlive_a_stopped_program_are_ended_too() {
    let home = Home::new();
    let mut manager = home.manager();
    start(&mut manager, home.shell("web-1", "sleep 1000000 & sleep 1000000 & exec sleep 1000000"), PLENTY);
    wait_until("all are there", || home.processes_of("web-1").len() == 3);
    assert_eq!(stop(&mut manager, "web-1", 60_000), (Some(Exit::Signal(15)), false));
    assert!(home.processes_of("web-1").is_empty());
}

#[test]
fn a_repeated_stop_is_answered_and_can_shorten_the_grace() {
    let home = Home::new();
    let mut manager = home.manager();
    start(&mut manager, home.shell("web-1", "trap '' TERM; echo ready; while :; do sleep 1; done"), PLENTY);
    wait_until("the trap is set", || home.log("web-1") == "ready\n");
    let order = |grace_ms| Order::Stop { instance: id("web-1"), signal: 15, grace_ms };
    let first = manager.send(order(3_600_000), None).unwrap();
    let launch = Box::new(home.sleeper("web-1"));
    assert_eq!(refused(&mut manager, Order::Start { launch, grant: PLENTY }), Refusal::Stopping(id("web-1")));
    let second = manager.send(order(0), None).unwrap();
    let stopped = Answer::Stopped { exit: Some(Exit::Signal(9)), killed: true };
    assert_eq!(manager.answer(second).unwrap().0, stopped);
    assert_eq!(manager.answer(first).unwrap().0, stopped);
    let refusal = refused(&mut manager, Order::Stop { instance: id("web-1"), signal: 99, grace_ms: 0 });
    assert!(matches!(refusal, Refusal::NotUnderstood(_)));
}

/// A main process with two children, the second in a session of its own. Both end when `go` appears.
fn tree(home: &Home) -> Launch {
    let child = "while ! [ -e go ]; do sleep 0.01; done";
    let script = format!("({child}) & setsid sh -c '{child}' & echo ready; exec sleep 1000000");
    Launch { tree: true, ..home.shell("db-1", &script) }
}

#[test]
fn a_tree_is_started_again_only_when_all_of_it_is_gone() {
    let home = Home::new();
    let mut manager = home.manager();
    let first = start(&mut manager, tree(&home), PLENTY);
    wait_until("it is ready", || home.log("db-1") == "ready\n" && home.processes_of("db-1").len() >= 3);
    kill(first.pid, Signal::KILL);
    wait_until("the main process is dead", || survey(&mut manager).instances[&id("db-1")].process.is_none());
    assert_eq!(home.log("db-1"), "ready\n", "not started again while its children live");
    // A start that is ordered meanwhile waits as well.
    let launch = Box::new(tree(&home));
    let ordered = manager.send(Order::Start { launch, grant: PLENTY }, None).unwrap();
    survey(&mut manager);
    assert_eq!(home.log("db-1"), "ready\n");
    std::fs::write(home.path().join("go"), "").unwrap();
    let (_, _, dead, exit, reflex) = ended(&mut manager);
    assert_eq!((dead, exit), (first, Exit::Signal(9)));
    let second = restarted(reflex);
    let expected = Answer::Running { process: second.clone(), adopted: false, as_ordered: true };
    assert_eq!(manager.answer(ordered).unwrap().0, expected);
    assert!(is_alive(second.pid));
}

#[test]
fn a_tree_that_is_being_cleared_can_be_stopped() {
    let home = Home::new();
    let mut manager = home.manager();
    let first = start(&mut manager, tree(&home), PLENTY);
    wait_until("it is ready", || home.log("db-1") == "ready\n" && home.processes_of("db-1").len() >= 3);
    kill(first.pid, Signal::KILL);
    wait_until("the main process is dead", || survey(&mut manager).instances[&id("db-1")].process.is_none());
    assert_eq!(stop(&mut manager, "db-1", 60_000), (Some(Exit::Signal(9)), false));
    assert!(home.processes_of("db-1").is_empty());
    assert_eq!(ended(&mut manager).4, ostler_keeper::protocol::Reflex::NoLaunch);
}

#[test]
fn orphans_are_reaped_without_taking_the_status_of_a_known_child() {
    let home = Home::new();
    let mut manager = home.manager();
    // Each run leaves an orphan that ends by itself, and ends with a code of its own.
    for code in 1..20 {
        let script = format!("(sleep 0.01) & exit {code}");
        start(&mut manager, home.shell("web-1", &script), NOTHING);
        assert_eq!(ended(&mut manager).3, Exit::Code(code));
    }
    let keeper = home.keeper.as_ref().unwrap().id();
    wait_for("nothing is left to reap", || {
        let children = std::fs::read_to_string(format!("/proc/{keeper}/task/{keeper}/children")).unwrap();
        children.is_empty().then_some(())
    });
}

/// The newest PostgreSQL of this machine.
fn postgresql() -> Option<std::path::PathBuf> {
    let versions = std::fs::read_dir("/usr/lib/postgresql").ok()?;
    versions.map(|version| version.unwrap().path().join("bin")).filter(|bin| bin.join("initdb").exists()).max()
}

/// Its server processes overwrite their environment and have sessions of their own: only their folder tells whose they
/// are. One that finds others still alive refuses to start ("pre-existing shared memory block is still in use").
#[test]
fn a_killed_postgresql_is_started_again_when_its_server_processes_are_gone() {
    let Some(bin) = postgresql() else {
        eprintln!("not run: there is no PostgreSQL in /usr/lib/postgresql");
        return;
    };
    let home = Home::new();
    let data = home.path().join("data");
    std::fs::create_dir(&data).unwrap();
    let user = if rustix::process::geteuid().is_root() {
        // It refuses to run as root. Others have to be able to reach the folder then.
        let nobody = UserGroup { uid: 65_534, gid: 65_534 };
        std::fs::set_permissions(home.path(), std::fs::Permissions::from_mode(0o711)).unwrap();
        std::os::unix::fs::chown(&data, Some(nobody.uid), Some(nobody.gid)).unwrap();
        Some(nobody)
    } else {
        None
    };
    let shell = |id: &str, script: String| Launch { user, folder: data.clone(), ..home.shell(id, &script) };
    let mut manager = home.manager();
    let bin = bin.display();
    start(&mut manager, shell("init-1", format!("exec {bin}/initdb --no-sync -A trust -D .")), NOTHING);
    assert_eq!(ended(&mut manager).3, Exit::Code(0), "{}", home.log("init-1"));

    let script = format!("exec {bin}/postgres -D {0} -k {0} -c listen_addresses= -c fsync=off", data.display());
    let mut process = start(&mut manager, Launch { tree: true, ..shell("db-1", script) }, PLENTY);
    let pid_file = data.join("postmaster.pid");
    let is_ready = |pid: u32| {
        let text = std::fs::read_to_string(&pid_file).unwrap_or_default();
        text.starts_with(&format!("{pid}\n")) && text.trim_end().ends_with("ready")
    };
    for _ in 0..3 {
        wait_until("it is ready", || is_ready(process.pid));
        // Frozen in the middle of something, they would take their time to go: not before they are woken up.
        let children = std::fs::read_to_string(format!("/proc/{0}/task/{0}/children", process.pid)).unwrap();
        let children: Vec<u32> = children.split_whitespace().map(|pid| pid.parse().unwrap()).collect();
        assert!(!children.is_empty());
        children.iter().for_each(|pid| kill(*pid, Signal::STOP));
        kill(process.pid, Signal::KILL);
        wait_until("the main process is dead", || survey(&mut manager).instances[&id("db-1")].process.is_none());
        children.iter().for_each(|pid| kill(*pid, Signal::CONT));
        let (_, _, dead, exit, reflex) = ended(&mut manager);
        assert_eq!((dead, exit), (process, Exit::Signal(9)));
        assert!(children.iter().all(|pid| !is_alive(*pid)));
        process = restarted(reflex);
    }
    wait_until("it is ready", || is_ready(process.pid));
    let (exit, killed) = stop(&mut manager, "db-1", 60_000);
    assert_eq!((exit, killed), (Some(Exit::Code(0)), false), "{}", home.log("db-1"));
    assert!(!home.log("db-1").contains("still in use"), "{}", home.log("db-1"));
}
