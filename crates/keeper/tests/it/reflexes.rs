//! Restarts without being asked, and their bounds.

use std::time::Duration;

use ostler_keeper::protocol::{Answer, Grant, Launch, Message, Order, Reflex, Refusal, Report, Role};
use ostler_model::health::Exit;
use rustix::net::RecvFlags;
use rustix::process::Signal;

use crate::harness::{
    Home, NOTHING, PLENTY, ended, id, kill, kill_and_wait, refused, restarted, start, survey, wait_until,
};

#[test]
fn a_killed_program_is_started_again_at_once_every_time() {
    let home = Home::new();
    let mut manager = home.manager();
    let mut process = start(&mut manager, home.sleeper("web-1"), Grant { burst: 10, refill_ms: 3_600_000 });
    for _ in 0..10 {
        kill(process.pid, Signal::KILL);
        let (_, instance, dead, exit, reflex) = ended(&mut manager);
        assert_eq!((instance, dead, exit), (id("web-1"), process, Exit::Signal(9)));
        process = restarted(reflex);
        home.expect_only("web-1", process.pid);
    }
    kill(process.pid, Signal::KILL);
    assert_eq!(ended(&mut manager).4, Reflex::GrantSpent);
    let remembered = &survey(&mut manager).instances[&id("web-1")];
    assert!(remembered.process.is_none() && remembered.has_launch);
    assert!(home.processes_of("web-1").is_empty());
    // The manager's own start is a new beginning.
    let process = start(&mut manager, home.sleeper("web-1"), Grant { burst: 1, refill_ms: 3_600_000 });
    kill(process.pid, Signal::KILL);
    restarted(ended(&mut manager).4);
}

/// The cgroup is a folder of files that are as the kernel's: whether it counts rightly is the kernel's concern.
#[test]
fn what_the_kernel_ended_for_its_memory_is_told_as_that() {
    let home = Home::new();
    let mut manager = home.manager();
    for (version, file) in [("v2", "memory.events"), ("v1", "memory.oom_control")] {
        let name = format!("web-{}", if version == "v2" { 1 } else { 2 });
        let group = home.path().join(version);
        std::fs::create_dir(&group).unwrap();
        std::fs::write(group.join("cgroup.procs"), "").unwrap();
        let count = |times: u32| {
            std::fs::write(group.join(file), format!("low 0\noom 4\noom_kill {times}\noom_group_kill 0\n")).unwrap();
        };
        count(3); // from an earlier life
        let launch = Launch { cgroups: vec![group.join("cgroup.procs")], ..home.sleeper(&name) };
        let process = start(&mut manager, launch, PLENTY);
        kill(process.pid, Signal::KILL);
        let (_, _, _, exit, reflex) = ended(&mut manager);
        assert_eq!(exit, Exit::Signal(9), "{version}: nobody ran out of memory");
        count(4);
        kill(restarted(reflex).pid, Signal::KILL);
        let (_, _, _, exit, reflex) = ended(&mut manager);
        assert_eq!(exit, Exit::OutOfMemory, "{version}");
        count(5);
        kill(restarted(reflex).pid, Signal::SEGV);
        assert_eq!(ended(&mut manager).3, Exit::Signal(11), "{version}: another signal has another reason");
    }
}

#[test]
fn a_crash_loop_ends_with_its_grant() {
    let home = Home::new();
    let mut manager = home.manager();
    start(&mut manager, home.shell("web-1", "echo x; exit 3"), Grant { burst: 5, refill_ms: 3_600_000 });
    let reflexes: Vec<Reflex> = (0..6).map(|_| ended(&mut manager).4).collect();
    assert_eq!(reflexes.iter().filter(|reflex| matches!(reflex, Reflex::Restarted { .. })).count(), 5);
    assert_eq!(reflexes.last(), Some(&Reflex::GrantSpent));
    assert_eq!(home.log("web-1").lines().count(), 6);
}

#[test]
fn the_estate_has_a_grant_of_its_own() {
    let home = Home::new();
    let mut manager = home.manager();
    manager.ask(Order::Reflexes(Grant { burst: 2, refill_ms: 3_600_000 })).unwrap();
    let processes: Vec<_> = (1..=3).map(|n| start(&mut manager, home.sleeper(&format!("web-{n}")), PLENTY)).collect();
    for process in &processes {
        kill(process.pid, Signal::KILL);
    }
    let mut reflexes: Vec<Reflex> = (0..3).map(|_| ended(&mut manager).4).collect();
    reflexes.retain(|reflex| !matches!(reflex, Reflex::Restarted { .. }));
    assert_eq!(reflexes, [Reflex::EstateGrantSpent]);
}

#[test]
fn a_program_that_is_gone_is_reported_as_such() {
    let home = Home::new();
    let mut manager = home.manager();
    let program = home.path().join("sleep");
    std::fs::copy("/bin/sleep", &program).unwrap();
    let mut launch = home.sleeper("web-1");
    launch.program = program.clone();
    let process = start(&mut manager, launch, PLENTY);
    std::fs::remove_file(program).unwrap();
    kill(process.pid, Signal::KILL);
    let reflex = ended(&mut manager).4;
    assert!(matches!(&reflex, Reflex::Failed(Refusal::CannotStart { step, errno: 2, .. }) if step == "execute"));
}

#[test]
fn reflexes_need_no_manager_and_reports_wait_for_one() {
    let home = Home::new();
    let mut manager = home.manager();
    let first = start(&mut manager, home.sleeper("web-1"), PLENTY);
    drop(manager);
    kill(first.pid, Signal::KILL);
    let mut visitor = home.connect(Role::Visitor);
    let now = |visitor: &mut _| survey(visitor).instances[&id("web-1")].process.clone();
    wait_until("a new one lives", || now(&mut visitor).is_some_and(|process| process != first));
    let second = now(&mut visitor).unwrap();

    let mut manager = home.manager();
    let (number, _, dead, _, reflex) = ended(&mut manager);
    assert_eq!((dead, restarted(reflex)), (first, second.clone()));
    drop(manager);
    let mut manager = home.manager();
    assert_eq!(ended(&mut manager).0, number, "told again, as nobody has acknowledged it");
    manager.ask(Order::Acknowledge { report: number }).unwrap();
    drop(manager);
    let mut manager = home.manager();
    kill(second.pid, Signal::KILL);
    assert_eq!(ended(&mut manager).0, number + 1, "the acknowledged one is not told again");
}

#[test]
fn a_death_is_told_before_any_answer_that_shows_it() {
    let home = Home::new();
    let mut manager = home.manager();
    let first = start(&mut manager, home.sleeper("web-1"), PLENTY);
    // Stopped meanwhile, the keeper hears of the death and of the question in one turn.
    let keeper = home.keeper.as_ref().unwrap().id();
    kill(keeper, Signal::STOP);
    kill_and_wait(first.pid);
    let mut buffer = vec![0; 65_536];
    let mut told = false;
    loop {
        manager.send(Order::Survey, None).unwrap();
        kill(keeper, Signal::CONT);
        let (length, _) = rustix::net::recv(&manager, &mut buffer[..], RecvFlags::empty()).unwrap();
        match serde_json::from_slice(&buffer[..length]).unwrap() {
            Message::Report { report: Report::Ended { process, .. }, .. } => told |= process == first,
            Message::Answer { answer: Answer::Survey(survey), .. } => {
                if survey.instances[&id("web-1")].process.as_ref() != Some(&first) {
                    assert!(told);
                    return;
                }
            }
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn a_second_manager_replaces_the_first() {
    let home = Home::new();
    let mut first = home.manager();
    let mut second = home.manager();
    assert!(first.ask(Order::Survey).is_err());
    second.ask(Order::Survey).unwrap();
}

#[test]
fn the_keeper_ends_only_when_nothing_runs_or_when_told_to_leave_it() {
    let mut home = Home::new();
    let mut manager = home.manager();
    let process = start(&mut manager, home.sleeper("web-1"), NOTHING);
    assert_eq!(refused(&mut manager, Order::Shutdown { leave_running: false }), Refusal::Busy(1));
    manager.ask(Order::Shutdown { leave_running: true }).unwrap();
    assert!(home.keeper.take().unwrap().wait().unwrap().success());
    assert!(crate::harness::is_alive(process.pid));
    home.start();
    let mut visitor = home.connect(Role::Visitor);
    assert_eq!(survey(&mut visitor).instances[&id("web-1")].process, Some(process.clone()));
    kill(home.keeper.as_ref().unwrap().id(), Signal::TERM);
    assert!(home.keeper.take().unwrap().wait().unwrap().success(), "SIGTERM is the same as leaving them running");
    assert!(crate::harness::is_alive(process.pid));
    home.start();
    let mut manager = home.manager();
    crate::harness::stop(&mut manager, "web-1", 10_000);
    manager.ask(Order::Shutdown { leave_running: false }).unwrap();
    assert!(home.keeper.take().unwrap().wait().unwrap().success());
}

#[test]
fn logs_are_rotated() {
    let home = Home::new();
    let mut manager = home.manager();
    let mut launch =
        home.shell("web-1", "i=0; while :; do echo line $i; i=$((i+1)); [ $i = 5000 ] && exec sleep 1000000; done");
    launch.log_bytes_max = 1000;
    start(&mut manager, launch, NOTHING);
    wait_until("the last line is in the old file", || {
        std::fs::read_to_string(home.path().join("web-1.log.1")).is_ok_and(|old| old.ends_with("line 4999\n"))
    });
    assert_eq!(home.log("web-1"), "");
    assert!(manager.report(Duration::ZERO).unwrap().is_none());
}
