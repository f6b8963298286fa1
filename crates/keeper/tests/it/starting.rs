//! What a started program finds, and what a start that fails says.

use std::collections::BTreeSet;
use std::io::Read;
use std::net::{SocketAddr, TcpStream};

use ostler_keeper::client::Client;
use ostler_keeper::protocol::{Answer, Launch, Order, Refusal, Resource, Rlimit, UserGroup};
use ostler_model::health::Exit;
use rustix::process::Signal;

use crate::harness::{
    Home, NOTHING, PLENTY, ended, id, kill, refused, restarted, start, stop, survey, wait_for, wait_until,
};

#[test]
fn exits_are_reported_exactly() {
    let home = Home::new();
    let mut manager = home.manager();
    for (script, exit) in [("exit 0", Exit::Code(0)), ("exit 7", Exit::Code(7)), ("kill -9 $$", Exit::Signal(9))] {
        let process = start(&mut manager, home.shell("web-1", script), NOTHING);
        let (_, instance, of, as_seen, _) = ended(&mut manager);
        assert_eq!((instance, of, as_seen), (id("web-1"), process, exit));
    }
}

/// The kernel shows it a moment after the program has begun to be executed.
fn environ(pid: u32) -> String {
    wait_for("the environment is there", || {
        std::fs::read_to_string(format!("/proc/{pid}/environ")).ok().filter(|text| !text.is_empty())
    })
}

#[test]
fn the_environment_is_what_was_given_and_the_markers() {
    let home = Home::new();
    let mut manager = home.manager();
    let mut launch = home.sleeper("web-1");
    launch.environment.insert("SECRET".into(), "a = b\nc".into());
    launch.environment.insert("OSTLER_INSTANCE".into(), "forged".into());
    launch.environment.insert("LISTEN_PID".into(), "1".into());
    let process = start(&mut manager, launch, PLENTY);
    let environ = environ(process.pid);
    let entries: BTreeSet<&str> = environ.trim_end_matches('\0').split('\0').collect();
    let incarnation = format!("OSTLER_INCARNATION={}", process.incarnation);
    let mark = format!("KEEPER_TEST_HOME={}", home.path().display());
    let given = ["OSTLER_INSTANCE=web-1", incarnation.as_str(), "PATH=/usr/bin:/bin", "SECRET=a = b\nc", mark.as_str()];
    assert_eq!(entries, given.into());
}

#[test]
fn the_child_has_its_own_session_and_only_its_own_descriptors() {
    let home = Home::new();
    let mut manager = home.manager();
    let process = start(&mut manager, home.sleeper("web-1"), PLENTY);
    let wanted: BTreeSet<String> = ["0", "1", "2"].map(str::to_owned).into();
    // While it is being loaded it has its libraries open.
    wait_until("it has only its own descriptors", || {
        let open = std::fs::read_dir(format!("/proc/{}/fd", process.pid)).unwrap();
        wanted == open.flatten().map(|entry| entry.file_name().into_string().unwrap()).collect()
    });
    let target = |fd: u32| std::fs::read_link(format!("/proc/{}/fd/{fd}", process.pid)).unwrap();
    assert_eq!(target(0).to_str(), Some("/dev/null"));
    assert_eq!(target(1), home.path().join("web-1.log"));
    let stat = std::fs::read_to_string(format!("/proc/{}/stat", process.pid)).unwrap();
    let fields: Vec<&str> = stat.rsplit_once(") ").unwrap().1.split(' ').collect();
    assert_eq!((fields[2], fields[3]), (process.pid.to_string().as_str(), process.pid.to_string().as_str()));
    assert_eq!(fields[19], process.start_ticks.to_string());
}

/// A line of `/proc/PID/status`.
fn status(pid: u32, name: &str) -> String {
    let text = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':')).unwrap();
    line.split_whitespace().collect::<Vec<_>>().join(" ")
}

#[test]
fn signals_umask_and_oom_score_are_those_of_a_fresh_program() {
    let home = Home::new();
    let mut manager = home.manager();
    let process = start(&mut manager, home.sleeper("web-1"), PLENTY);
    assert_eq!(u64::from_str_radix(&status(process.pid, "SigIgn"), 16).unwrap(), 0);
    assert_eq!(u64::from_str_radix(&status(process.pid, "SigBlk"), 16).unwrap(), 0);
    assert_eq!(status(process.pid, "Umask"), "0077");
    let keeper = home.keeper.as_ref().unwrap().id();
    assert_ne!(u64::from_str_radix(&status(keeper, "SigIgn"), 16).unwrap() & 1, 0, "the keeper ignores SIGHUP");
    let score = |pid: u32| -> i32 {
        std::fs::read_to_string(format!("/proc/{pid}/oom_score_adj")).unwrap().trim().parse().unwrap()
    };
    assert!(score(process.pid) >= 0);
    assert!(score(keeper) <= score(process.pid));
}

#[test]
fn limits_are_set_and_the_keepers_own_do_not_leak() {
    let home = Home::new();
    let mut manager = home.manager();
    let limit = |pid: u32, name: &str| {
        let text = std::fs::read_to_string(format!("/proc/{pid}/limits")).unwrap();
        let line = text.lines().find_map(|line| line.strip_prefix(name)).unwrap().to_owned();
        line.split_whitespace().take(2).map(str::to_owned).collect::<Vec<_>>()
    };
    let plain = start(&mut manager, home.sleeper("web-1"), PLENTY);
    assert_eq!(limit(plain.pid, "Max open files"), limit(std::process::id(), "Max open files"));
    let rlimits = vec![
        Rlimit { resource: Resource::Files, limit: 77 },
        Rlimit { resource: Resource::AddressSpace, limit: 1 << 30 },
        Rlimit { resource: Resource::Processes, limit: 55 },
    ];
    let limited = start(&mut manager, Launch { rlimits, ..home.sleeper("web-2") }, PLENTY);
    assert_eq!(limit(limited.pid, "Max open files"), ["77", "77"]);
    assert_eq!(limit(limited.pid, "Max address space"), ["1073741824", "1073741824"]);
    assert_eq!(limit(limited.pid, "Max processes"), ["55", "55"]);
}

#[test]
fn another_user_has_no_groups_and_gains_no_privileges() {
    if !rustix::process::geteuid().is_root() {
        return; // only root can become somebody else
    }
    let home = Home::new();
    let mut manager = home.manager();
    let user = Some(UserGroup { uid: 65_534, gid: 65_533 });
    let process = start(&mut manager, Launch { user, folder: "/".into(), ..home.sleeper("web-1") }, PLENTY);
    assert_eq!(status(process.pid, "Uid"), "65534 65534 65534 65534");
    assert_eq!(status(process.pid, "Gid"), "65533 65533 65533 65533");
    assert_eq!(status(process.pid, "Groups"), "");
    assert_eq!(status(process.pid, "NoNewPrivs"), "1");
    assert_eq!(stop(&mut manager, "web-1", 10_000), (Some(Exit::Signal(15)), false));
}

#[test]
fn a_failing_step_is_named_and_nothing_is_left() {
    let home = Home::new();
    let mut manager = home.manager();
    let good = || home.sleeper("web-1");
    let missing = home.path().join("missing");
    let cases = [
        (Launch { program: missing.clone(), ..good() }, "execute", 2),
        (Launch { folder: missing.clone(), ..good() }, "change folder", 2),
        (Launch { log: missing.join("log"), ..good() }, "open the log", 2),
        (Launch { cgroups: vec![missing.join("cgroup.procs")], ..good() }, "join a cgroup", 2),
        (Launch { program: home.path().to_owned(), ..good() }, "execute", 13),
    ];
    for (launch, expected, expected_errno) in cases {
        let program_as_sent = launch.program.display().to_string();
        let refusal = refused(&mut manager, Order::Start { launch: Box::new(launch), grant: PLENTY });
        let Refusal::CannotStart { step, program, errno, .. } = refusal else { panic!("{refusal:?}") };
        assert_eq!((step.as_str(), program, errno), (expected, program_as_sent, expected_errno));
    }
    assert!(survey(&mut manager).instances.is_empty());
    let keeper = home.keeper.as_ref().unwrap().id();
    let children = std::fs::read_to_string(format!("/proc/{keeper}/task/{keeper}/children")).unwrap();
    assert_eq!(children, "", "no zombie either");
    start(&mut manager, good(), PLENTY);
}

#[test]
fn nonsense_is_refused() {
    let home = Home::new();
    let mut manager = home.manager();
    let good = || home.sleeper("web-1");
    let cases = [
        Launch { program: "sleep".into(), ..good() },
        Launch { program: "/bin/sl\0eep".into(), ..good() },
        Launch { arguments: Vec::new(), ..good() },
        Launch { arguments: vec!["a\0b".into()], ..good() },
        Launch { environment: [("A=B".to_owned(), String::new())].into(), ..good() },
        Launch { environment: [(String::new(), String::new())].into(), ..good() },
        Launch { digest: "d".repeat(129), ..good() },
        Launch { cgroups: vec!["/x".into(); 33], ..good() },
    ];
    for launch in cases {
        let shown = format!("{launch:?}");
        let refusal = refused(&mut manager, Order::Start { launch: Box::new(launch), grant: PLENTY });
        assert!(matches!(refusal, Refusal::NotUnderstood(_)), "{shown}: {refusal:?}");
    }
    let launch = Launch { socket: Some("web".into()), ..good() };
    let refusal = refused(&mut manager, Order::Start { launch: Box::new(launch), grant: PLENTY });
    assert_eq!(refusal, Refusal::NoSuchSocket("web".into()));
    assert!(survey(&mut manager).instances.is_empty());
}

#[test]
fn starting_again_keeps_the_process_and_tells_whether_it_is_as_ordered() {
    let home = Home::new();
    let mut manager = home.manager();
    let process = start(&mut manager, home.sleeper("web-1"), PLENTY);
    for (digest, expected) in [("sleep 1000000", true), ("another", false), ("sleep 1000000", true)] {
        let launch = Box::new(Launch { digest: digest.into(), ..home.sleeper("web-1") });
        let answer = manager.ask(Order::Start { launch, grant: PLENTY }).unwrap();
        assert_eq!(answer, Answer::Running { process: process.clone(), adopted: true, as_ordered: expected });
    }
    home.expect_only("web-1", process.pid);
}

#[test]
fn the_newest_launch_is_used_by_the_next_reflex() {
    let home = Home::new();
    let mut manager = home.manager();
    let first = start(&mut manager, home.sleeper("web-1"), PLENTY);
    start(&mut manager, home.shell("web-1", "echo newest; exec sleep 1000000"), PLENTY);
    kill(first.pid, Signal::KILL);
    restarted(ended(&mut manager).4);
    wait_until("the new one has written", || home.log("web-1") == "newest\n");
}

#[test]
fn output_is_appended_to_the_log_across_restarts() {
    let home = Home::new();
    let mut manager = home.manager();
    start(&mut manager, home.shell("web-1", "echo out; echo err >&2; exec sleep 1000000"), PLENTY);
    wait_until("it has written", || home.log("web-1") == "out\nerr\n");
    kill(home.processes_of("web-1")[0], Signal::KILL);
    wait_until("the next has written", || home.log("web-1") == "out\nerr\nout\nerr\n");
}

fn ask_server(address: SocketAddr) -> (u32, u32) {
    let mut text = String::new();
    TcpStream::connect(address).expect("no connect is refused").read_to_string(&mut text).unwrap();
    let (pid, listen_pid) = text.split_once(' ').unwrap_or_else(|| panic!("{text:?}"));
    (pid.parse().unwrap(), listen_pid.parse().unwrap())
}

fn listen(manager: &mut Client, name: &str) -> SocketAddr {
    let address = "127.0.0.1:0".parse().unwrap();
    match manager.ask(Order::Listen { name: name.into(), address, share_with_gateway: false }).unwrap() {
        Answer::Listening { address } => address,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_handed_over_socket_outlives_its_program_and_no_connect_is_refused() {
    let home = Home::new();
    let mut manager = home.manager();
    let address = listen(&mut manager, "instance/web-1");
    let mut process = start(&mut manager, home.server("web-1", "instance/web-1"), PLENTY);
    let environ = environ(process.pid);
    for entry in ["LISTEN_FDS=1", "LISTEN_FDNAMES=instance/web-1"] {
        assert!(environ.split('\0').any(|given| given == entry), "{entry}");
    }
    for _ in 0..10 {
        assert_eq!(ask_server(address), (process.pid, process.pid));
        kill(process.pid, Signal::KILL);
        let queued = TcpStream::connect(address).expect("no connect is refused");
        process = restarted(ended(&mut manager).4);
        drop(queued);
    }
    let descriptors = std::fs::read_dir(format!("/proc/{}/fd", process.pid)).unwrap().count();
    assert!(descriptors >= 4, "0, 1, 2 and the socket");
}

#[test]
fn a_listen_is_answered_with_the_same_socket_each_time() {
    let home = Home::new();
    let mut manager = home.manager();
    let inode = |manager: &mut Client, address: &str| {
        let address = address.parse().unwrap();
        let order = Order::Listen { name: "web".into(), address, share_with_gateway: false };
        let (answer, descriptor) = manager.ask_with(order, None).unwrap();
        (answer, rustix::fs::fstat(descriptor.unwrap()).unwrap().st_ino)
    };
    let (first, first_inode) = inode(&mut manager, "127.0.0.1:0");
    assert_eq!(inode(&mut manager, "127.0.0.1:0"), (first.clone(), first_inode));
    let (second, second_inode) = inode(&mut manager, "[::1]:0");
    assert!(second != first && second_inode != first_inode);
    let Answer::Listening { address } = second else { panic!() };
    assert_eq!(survey(&mut manager).sockets, [("web".to_owned(), address)].into());
    manager.ask(Order::Unlisten { name: "web".into() }).unwrap();
    manager.ask(Order::Unlisten { name: "web".into() }).unwrap();
    wait_for("nobody listens any more", || TcpStream::connect(address).err());
}
