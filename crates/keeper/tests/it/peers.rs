//! Hostile, confused and slow peers.

use std::os::fd::OwnedFd;

use ostler_keeper::client::{Client, ClientError};
use ostler_keeper::protocol::{Answer, Grant, Message, Order, PACKET_BYTES_MAX, Refusal, Request, Role, VERSION};
use ostler_keeper::socket_path;
use ostler_keeper::wire::{self, Incoming, Packet};
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};

use crate::harness::{Home, LONG, PLENTY, id, refused, start, survey, wait_until};

fn send_raw(socket: &OwnedFd, bytes: &[u8]) -> rustix::io::Result<usize> {
    rustix::net::send(socket, bytes, rustix::net::SendFlags::NOSIGNAL)
}

fn receive(socket: &OwnedFd) -> Option<Message> {
    let mut buffer = wire::buffer();
    match wire::receive(socket, &mut buffer).unwrap() {
        Incoming::Packet { length, descriptors } => {
            let (text, _) = wire::unpack(&buffer[..length], descriptors).unwrap();
            Some(serde_json::from_slice(&text).unwrap())
        }
        Incoming::TooLong => panic!("the keeper keeps to the limit"),
        Incoming::Closed => None,
    }
}

fn not_understood(message: Option<Message>) -> u64 {
    match message {
        Some(Message::Answer { to, answer: Answer::Refused(Refusal::NotUnderstood(_)) }) => to,
        other => panic!("{other:?}"),
    }
}

#[test]
fn no_bytes_whatsoever_do_harm() {
    let home = Home::new();
    let hello = serde_json::to_vec(&Request { id: 1, order: Order::Hello { version: VERSION, role: Role::Manager } });
    let hello = hello.unwrap();
    let mut runner = TestRunner::new(Config { cases: 200, failure_persistence: None, ..Config::default() });
    let packets = proptest::collection::vec(proptest::collection::vec(any::<u8>(), 1..300), 1..5);
    let result = runner.run(&(packets, any::<prop::sample::Index>(), any::<u8>()), |(mut packets, at, byte)| {
        // A hello with one byte changed reaches deeper than noise does.
        let mut almost = hello.clone();
        let place = at.index(almost.len());
        almost[place] = byte;
        packets.push(almost);
        let socket = wire::connect(&socket_path(home.path())).unwrap();
        for packet in &packets {
            if send_raw(&socket, packet).is_err() || receive(&socket).is_none() {
                break; // closed: also an answer
            }
        }
        Ok(())
    });
    result.unwrap();
    home.connect(Role::Visitor).ask(Order::Survey).unwrap();
}

#[test]
fn wrong_messages_are_answered_with_their_id_and_without_their_content() {
    let home = Home::new();
    let socket = wire::connect(&socket_path(home.path())).unwrap();
    send_raw(&socket, b"{\"id\":7,\"order\":{\"start\":\"s3cret\"}}").unwrap();
    let answer = receive(&socket);
    assert!(!format!("{answer:?}").contains("s3cret"));
    assert_eq!(not_understood(answer), 7);
    send_raw(&socket, b"[[[[").unwrap();
    assert_eq!(not_understood(receive(&socket)), 0);
    send_raw(&socket, b"#5").unwrap();
    assert_eq!(not_understood(receive(&socket)), 0);
    let deep = "[".repeat(100_000);
    send_raw(&socket, format!("{{\"id\":1,\"order\":{deep}").as_bytes()).unwrap();
    assert_eq!(not_understood(receive(&socket)), 0);
    send_raw(&socket, &vec![b' '; PACKET_BYTES_MAX + 1]).unwrap();
    assert_eq!(not_understood(receive(&socket)), 0);
    send_raw(&socket, br#"{"id":8,"order":"survey"}"#).unwrap();
    assert_eq!(not_understood(receive(&socket)), 8, "before the hello nothing is answered");
    Packet::new(&Request { id: 9, order: Order::Hello { version: 99, role: Role::Manager } }, None)
        .unwrap()
        .send(&socket)
        .unwrap();
    let refused = Answer::Refused(Refusal::OtherVersion(VERSION));
    assert_eq!(receive(&socket), Some(Message::Answer { to: 9, answer: refused }));
}

#[test]
fn each_role_may_only_do_its_own() {
    let home = Home::new();
    let launch = || Box::new(home.sleeper("web-1"));
    let listen =
        || Order::Listen { name: "a".into(), address: "127.0.0.1:0".parse().unwrap(), share_with_gateway: false };
    let mut visitor = home.connect(Role::Visitor);
    let mut gateway = home.connect(Role::Gateway);
    let of_the_manager = || {
        [
            Order::Start { launch: launch(), grant: PLENTY },
            Order::Stop { instance: id("web-1"), signal: 15, grace_ms: 0 },
            Order::Reflexes(PLENTY),
            listen(),
            Order::Unlisten { name: "a".into() },
            Order::GatewayTell { body: "{}".into() },
            Order::Acknowledge { report: 1 },
        ]
    };
    for client in [&mut visitor, &mut gateway] {
        for order in of_the_manager() {
            assert!(matches!(refused(client, order), Refusal::NotUnderstood(_)));
        }
    }
    let table = Order::GatewayTable { key: "web".into(), body: "{}".into() };
    assert!(matches!(refused(&mut visitor, table), Refusal::NotUnderstood(_)));
    let shutdown = Order::Shutdown { leave_running: true };
    assert!(matches!(refused(&mut gateway, shutdown), Refusal::NotUnderstood(_)));
    let hello = Order::Hello { version: VERSION, role: Role::Manager };
    assert!(matches!(refused(&mut visitor, hello), Refusal::NotUnderstood(_)));
    let mut manager = home.manager();
    let says = Order::GatewaySays { body: "{}".into() };
    assert!(matches!(refused(&mut manager, says), Refusal::NotUnderstood(_)));
    assert!(survey(&mut manager).instances.is_empty());
}

#[test]
fn connections_are_limited_and_those_beyond_are_closed() {
    let home = Home::new();
    let mut clients: Vec<Client> = Vec::new();
    let refused = loop {
        match Client::connect(&socket_path(home.path()), Role::Visitor, LONG) {
            Ok(client) => clients.push(client),
            Err(error) => break error,
        }
        assert!(clients.len() <= 64);
    };
    assert!(matches!(refused, ClientError::Closed | ClientError::Broken(_)), "{refused:?}");
    clients.truncate(32);
    clients.iter_mut().for_each(|client| drop(client.ask(Order::Survey).unwrap()));
    wait_until("there is room again", || Client::connect(&socket_path(home.path()), Role::Visitor, LONG).is_ok());
}

#[test]
fn who_asks_without_listening_is_cut_off() {
    let home = Home::new();
    let mut manager = home.manager();
    for number in 1..=200 {
        start(&mut manager, home.sleeper(&format!("web-{number}")), Grant { burst: 0, refill_ms: 1 });
    }
    let mut deaf = home.connect(Role::Visitor);
    let mut asked = 0;
    while deaf.send(Order::Survey, None).is_ok() {
        asked += 1;
        assert!(asked < 100_000, "the queue has a limit");
    }
    survey(&mut manager);
}

#[test]
fn surveys_longer_than_a_packet_arrive() {
    let home = Home::new();
    let mut manager = home.manager();
    for number in 1..=900 {
        let order = Order::Start {
            launch: Box::new(ostler_keeper::protocol::Launch {
                digest: "d".repeat(128),
                ..home.sleeper(&format!("web-{number}"))
            }),
            grant: PLENTY,
        };
        manager.ask(order).unwrap();
    }
    let found = survey(&mut manager);
    assert_eq!(found.instances.len(), 900);
    assert!(serde_json::to_vec(&found).unwrap().len() > PACKET_BYTES_MAX);
}
