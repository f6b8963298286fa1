//! The gateway's sockets, tables and life, with the stand-in of the crate's example.

use std::net::TcpStream;
use std::path::PathBuf;
use std::time::Duration;

use ostler_keeper::client::Client;
use ostler_keeper::protocol::{Answer, Order, Refusal, Report, Role, ToGateway};
use rustix::process::Signal;

use crate::harness::{Home, LONG, is_alive, kill, refused, survey, wait_for, wait_until};

fn told(home: &Home) -> Vec<ToGateway> {
    let path: PathBuf = home.path().join("told.log");
    let text = std::fs::read_to_string(path).unwrap_or_default();
    let whole = &text[..text.rfind('\n').map_or(0, |end| end + 1)];
    whole.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn synchronized(home: &Home) -> usize {
    told(home).iter().filter(|message| **message == ToGateway::Synchronized).count()
}

fn listen(manager: &mut Client, name: &str) -> std::net::SocketAddr {
    let address = "127.0.0.1:0".parse().unwrap();
    match manager.ask(Order::Listen { name: name.into(), address, share_with_gateway: true }).unwrap() {
        Answer::Listening { address } => address,
        other => panic!("{other:?}"),
    }
}

fn table(manager: &mut Client, key: &str, body: &str) {
    manager.ask(Order::GatewayTable { key: key.into(), body: body.into() }).unwrap();
}

fn gateway_pid(client: &mut Client) -> Option<u32> {
    survey(client).gateway_pid
}

#[test]
fn a_shared_socket_brings_the_gateway_up_and_a_killed_one_gets_everything_again() {
    let home = Home::with_gateway();
    let mut manager = home.manager();
    table(&mut manager, "web", "{\"to\":1}");
    table(&mut manager, "gone", "{}");
    table(&mut manager, "gone", "");
    let address = listen(&mut manager, "web");
    wait_until("the gateway has everything", || synchronized(&home) == 1);
    let mut expected = vec![
        ToGateway::Socket { name: "web".into(), address },
        ToGateway::Table { key: "web".into(), body: "{\"to\":1}".into() },
        ToGateway::Synchronized,
    ];
    assert_eq!(told(&home), expected);
    let first = gateway_pid(&mut manager).unwrap();

    kill(first, Signal::KILL);
    TcpStream::connect(address).expect("connects queue on the held socket");
    wait_until("the next has everything", || synchronized(&home) == 2);
    expected.extend(expected.clone());
    assert_eq!(told(&home), expected);
    let second = gateway_pid(&mut manager).unwrap();
    assert_ne!(first, second);
    assert!(!is_alive(first));

    table(&mut manager, "web", "{\"to\":2}");
    manager.ask(Order::Unlisten { name: "web".into() }).unwrap();
    let changed = ToGateway::Table { key: "web".into(), body: "{\"to\":2}".into() };
    let close = ToGateway::Close { name: "web".into() };
    wait_until("it is told of changes", || {
        let told = told(&home);
        told.contains(&changed) && told.contains(&close)
    });
    let mut presence = Vec::new();
    while let Some((_, _, report)) = manager.report(Duration::ZERO).unwrap() {
        presence.push(report);
    }
    let up = |up| Report::Gateway { up };
    assert_eq!(presence, [up(true), up(false), up(true)]);
}

#[test]
fn ten_kills_in_a_row_bring_ten_gateways() {
    let home = Home::with_gateway();
    let mut manager = home.manager();
    manager.ask(Order::KeepUp { manager: false, gateway: true }).unwrap();
    let mut pid = wait_for("it runs", || gateway_pid(&mut manager));
    for _ in 0..10 {
        kill(pid, Signal::KILL);
        pid = wait_for("the next runs", || gateway_pid(&mut manager).filter(|next| *next != pid));
    }
    manager.ask(Order::KeepUp { manager: false, gateway: false }).unwrap();
    wait_until("it is ended", || gateway_pid(&mut manager).is_none() && !is_alive(pid));
}

#[test]
fn the_manager_is_brought_back_as_long_as_that_is_wanted() {
    let home = Home::new();
    let mut visitor = home.connect(Role::Visitor);
    let manager = |visitor: &mut Client| survey(visitor).manager_pid;
    assert_eq!(manager(&mut visitor), None);
    visitor.ask(Order::KeepUp { manager: true, gateway: false }).unwrap();
    let mut pid = wait_for("it runs", || manager(&mut visitor));
    for _ in 0..3 {
        kill(pid, Signal::KILL);
        pid = wait_for("the next runs", || manager(&mut visitor).filter(|next| *next != pid));
    }
    visitor.ask(Order::KeepUp { manager: false, gateway: false }).unwrap();
    assert!(is_alive(pid), "it is not ended by that");
    kill(pid, Signal::KILL);
    wait_until("it is gone", || manager(&mut visitor).is_none());
}

#[test]
fn messages_pass_both_ways() {
    let home = Home::with_gateway();
    let mut manager = home.manager();
    let tell = || Order::GatewayTell { body: "{\"drain\":\"web-1\"}".into() };
    assert_eq!(refused(&mut manager, tell()), Refusal::NoGateway);
    manager.ask(Order::KeepUp { manager: false, gateway: true }).unwrap();
    wait_until("it is there", || synchronized(&home) == 1);
    manager.ask(tell()).unwrap();
    loop {
        match manager.report(LONG).unwrap().expect("it answers").2 {
            Report::FromGateway { body } => break assert_eq!(body, "{\"drain\":\"web-1\"}"),
            Report::Gateway { .. } | Report::Ended { .. } | Report::Upgrade(_) => {}
        }
    }
}

#[test]
fn a_gateway_outlives_its_keeper_and_gives_the_next_one_everything_back() {
    let mut home = Home::with_gateway();
    let mut manager = home.manager();
    table(&mut manager, "web", "{\"to\":1}");
    let address = listen(&mut manager, "web");
    wait_until("the gateway has everything", || synchronized(&home) == 1);
    let pid = gateway_pid(&mut manager).unwrap();
    home.kill_keeper();
    TcpStream::connect(address).expect("the gateway holds the socket, too");
    home.start();
    let mut manager = home.manager();
    manager.ask(Order::KeepUp { manager: false, gateway: true }).unwrap();
    wait_until("the socket is back", || survey(&mut manager).sockets.get("web") == Some(&address));
    assert_eq!(gateway_pid(&mut manager), Some(pid), "no second one was started");
    assert_eq!(listen(&mut manager, "web"), address, "the same socket");
    // What it gave back is what its successor gets. It had offered its tables before its sockets.
    assert_eq!(synchronized(&home), 2);
    kill(pid, Signal::KILL);
    wait_until("the next has everything", || synchronized(&home) == 3);
    let table = ToGateway::Table { key: "web".into(), body: "{\"to\":1}".into() };
    let socket = ToGateway::Socket { name: "web".into(), address };
    let told = told(&home);
    assert_eq!(told[told.len() - 3..], [socket, table, ToGateway::Synchronized]);
    assert!(!is_alive(pid));
}

#[test]
fn what_was_withdrawn_does_not_come_back_by_a_gateway_that_has_not_heard_of_it() {
    let home = Home::new();
    let mut manager = home.manager();
    let mut gateway = home.connect(Role::Gateway);
    let next = |gateway: &mut Client| gateway.for_gateway(LONG).unwrap().expect("it is told").0;
    assert_eq!(next(&mut gateway), ToGateway::Synchronized);
    manager.ask(Order::Unlisten { name: "web".into() }).unwrap();
    table(&mut manager, "web", "");
    assert_eq!(next(&mut gateway), ToGateway::Table { key: "web".into(), body: String::new() });

    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let order = Order::Return { name: "web".into(), address, share_with_gateway: true };
    gateway.ask_with(order, Some(listener.into())).unwrap();
    assert_eq!(next(&mut gateway), ToGateway::Close { name: "web".into() });
    table(&mut gateway, "web", "{}");
    assert_eq!(next(&mut gateway), ToGateway::Table { key: "web".into(), body: String::new() });
    table(&mut gateway, "other", "{}");
    assert!(survey(&mut manager).sockets.is_empty());

    table(&mut manager, "web", "{\"to\":3}");
    assert_eq!(next(&mut gateway), ToGateway::Table { key: "web".into(), body: "{\"to\":3}".into() });
}

#[test]
fn a_survivor_can_return_a_socket() {
    let home = Home::new();
    let mut manager = home.manager();
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let order = || Order::Return { name: "instance/web-1".into(), address, share_with_gateway: false };
    assert!(matches!(refused(&mut manager, order()), Refusal::NotUnderstood(_)), "it has to come along");
    manager.ask_with(order(), Some(listener.into())).unwrap();
    assert_eq!(survey(&mut manager).sockets["instance/web-1"], address);
    TcpStream::connect(address).unwrap();
}

#[test]
fn a_gateway_that_somebody_else_started_is_watched_as_well() {
    let mut home = Home::with_gateway();
    let mut visitor = home.connect(Role::Visitor);
    let mut foreign = std::process::Command::new(crate::harness::example())
        .arg("gateway")
        .args([home.path(), &home.path().join("told.log")])
        .spawn()
        .unwrap();
    wait_until("it is known", || gateway_pid(&mut visitor) == Some(foreign.id()));
    visitor.ask(Order::KeepUp { manager: false, gateway: true }).unwrap();
    assert_eq!(gateway_pid(&mut visitor), Some(foreign.id()), "no second one");
    foreign.kill().unwrap();
    foreign.wait().unwrap();
    wait_until("the keeper starts its own", || {
        gateway_pid(&mut visitor).is_some_and(|pid| pid != foreign.id() && is_alive(pid))
    });
    let own = gateway_pid(&mut visitor).unwrap();
    visitor.ask(Order::Shutdown { leave_running: false }).unwrap();
    assert!(home.keeper.take().unwrap().wait().unwrap().success());
    assert!(!is_alive(own), "the gateway has ended with the keeper");
}
