//! The gateway and its keepers: they come and go, and may say anything.

#![allow(clippy::unwrap_used, clippy::panic)] // helpers of tests

mod common;

use std::collections::BTreeMap;
use std::os::fd::OwnedFd;

use common::{Gateway, Instance, KeeperSocket, ROOMY, call, round_trip, start, table, within};
use ostler_gateway::GatewayError;
use ostler_gateway::messages::{Says, Table};
use ostler_keeper::protocol::{Answer, Order, Refusal, ToGateway};
use tokio::net::TcpStream;

#[tokio::test]
async fn traffic_outlives_the_keeper_and_the_next_one_gets_everything_back() {
    let (home, socket, _gateway, keeper) = start(ROOMY).await;
    let (web, web_held) = keeper.listen("web").await;
    let (db, db_held) = keeper.listen("db").await;
    let instance = Instance::start(1).await;
    keeper.table("web", &[instance.address], 1000).await;
    keeper.table("db", &[instance.address], 2000).await;
    let (mut open, _) = call(web).await;
    keeper.taken_in().await;

    drop((socket, web_held, db_held));
    keeper.die();
    round_trip(&mut open).await;
    assert_eq!(call(db).await.1, 1);

    let socket = KeeperSocket::at(&home.path().join("keeper.sock"));
    let keeper = socket.welcome("second").await;
    keeper.table("db", &[], 3000).await; // this keeper knows better
    keeper.tell(ToGateway::Synchronized).await;
    let mut sockets = BTreeMap::new();
    let mut tables = BTreeMap::new();
    while sockets.len() + tables.len() < 3 {
        let (request, descriptors) = keeper.request().await;
        keeper.answer(&request, Answer::Done).await;
        match request.order {
            Order::Return { name, address, share_with_gateway: true } => {
                let [descriptor]: [OwnedFd; 1] = descriptors.try_into().unwrap();
                let listener = std::net::TcpListener::from(descriptor);
                assert_eq!(listener.local_addr().unwrap(), address);
                sockets.insert(name, (address, listener));
            }
            Order::GatewayTable { key, body } => drop(tables.insert(key, Table::read(&body).unwrap())),
            order => panic!("{order:?} was not to be asked"),
        }
    }
    assert_eq!((sockets["web"].0, sockets["db"].0), (web, db));
    assert_eq!(tables, BTreeMap::from([("web".to_owned(), table("web", &[instance.address], 1000))]));
    round_trip(&mut open).await;

    // What comes back to the gateway as its own again changes nothing.
    keeper.socket("web", web, &sockets["web"].1).await;
    keeper.taken_in().await;
    round_trip(&mut call(web).await.0).await;
}

#[tokio::test]
async fn what_the_same_keeper_no_longer_has_is_let_go() {
    let (_home, socket, _gateway, keeper) = start(ROOMY).await;
    let (kept, kept_socket) = keeper.listen("kept").await;
    let (gone, gone_socket) = keeper.listen("gone").await;
    let instance = Instance::start(1).await;
    keeper.table("kept", &[instance.address], 1000).await;
    keeper.table("gone", &[instance.address], 1000).await;
    keeper.taken_in().await;
    drop((keeper, gone_socket));

    let keeper = socket.welcome("first").await;
    keeper.socket("kept", kept, &kept_socket).await;
    keeper.table("kept", &[instance.address], 1000).await;
    keeper.tell(ToGateway::Synchronized).await;
    keeper.taken_in().await; // and so nothing was offered
    within(async { while TcpStream::connect(gone).await.is_ok() {} }).await;
    assert_eq!(call(kept).await.1, 1);
}

#[tokio::test]
async fn an_answer_that_the_keeper_took_to_its_grave_is_given_again() {
    let (_home, socket, _gateway, keeper) = start(ROOMY).await;
    let (endpoint, _held) = keeper.listen("web").await;
    keeper.drain(5, "web", endpoint, 0).await;
    let (request, _) = keeper.request().await;
    assert!(matches!(request.order, Order::GatewaySays { .. }));
    drop(keeper);
    let keeper = socket.welcome("second").await;
    assert_eq!(keeper.says_of_importance().await, Says::Drained { id: 5, left: 0 });
}

#[tokio::test]
async fn nonsense_is_left_out_and_harms_nobody() {
    let (_home, socket, _gateway, keeper) = start(ROOMY).await;
    let (endpoint, held) = keeper.listen("web").await;
    let instance = Instance::start(1).await;
    keeper.table("web", &[instance.address], 1000).await;
    let (mut open, _) = call(endpoint).await;

    let deep = "[".repeat(100_000);
    for text in ["nonsense", "{}", "null", r#"{"to-gateway":{"socket":{}}}"#, r#""to-gateway""#, "\u{0}", deep.as_str()]
    {
        keeper.wire.send(text.as_bytes(), &[]).await.unwrap();
    }
    keeper.wire.send(&[0xff, 0xfe, 0x00], &[]).await.unwrap();
    let other = "127.0.0.1:1".parse().unwrap();
    keeper.tell(ToGateway::Socket { name: "bare".into(), address: other }).await;
    let (pipe, _other_end) = rustix::pipe::pipe().unwrap();
    keeper.socket("pipe", other, &pipe).await;
    let datagrams = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    keeper.socket("datagrams", datagrams.local_addr().unwrap(), &datagrams).await;
    keeper.socket("connected", open.local_addr().unwrap(), &open).await;
    keeper.socket("web", other, &held).await;
    keeper.socket(&"x".repeat(1000), endpoint, &held).await;
    keeper.socket("", endpoint, &held).await;
    for body in
        ["nonsense", "[]", "{}", deep.as_str(), r#"{"targets":[{"instance":"../x","address":"a"}],"hold_ms":1}"#]
    {
        keeper.tell(ToGateway::Table { key: "web".into(), body: body.into() }).await;
        keeper.tell(ToGateway::Tell { body: body.into() }).await;
    }
    keeper.tell(ToGateway::Close { name: "nobody".into() }).await;
    keeper.tell(ToGateway::Table { key: "nobody".into(), body: String::new() }).await;
    keeper.tell(ToGateway::Synchronized).await;
    keeper.taken_in().await;
    round_trip(&mut open).await;
    assert_eq!(call(endpoint).await.1, 1);

    // A memory file that is announced and does not come makes the line useless: it is dropped, and a new one made.
    keeper.wire.send(b"#100", &[]).await.unwrap();
    let _keeper = socket.welcome("first").await;
    round_trip(&mut open).await;
}

#[tokio::test]
async fn an_address_can_change_and_open_connections_stay() {
    let (_home, _socket, _gateway, keeper) = start(ROOMY).await;
    let (before, held) = keeper.listen("web").await;
    let instance = Instance::start(1).await;
    keeper.table("web", &[instance.address], 1000).await;
    let (mut open, _) = call(before).await;
    drop(held);
    let (after, _held) = keeper.listen("web").await;
    keeper.taken_in().await;
    assert_eq!(call(after).await.1, 1);
    within(async { while TcpStream::connect(before).await.is_ok() {} }).await;
    round_trip(&mut open).await;
}

#[tokio::test]
async fn a_gateway_without_anything_to_serve_ends_at_a_keeper_of_another_version() {
    let home = tempfile::tempdir().unwrap();
    let path = home.path().join("keeper.sock");
    let socket = KeeperSocket::at(&path);
    let gateway = Gateway::start(&path, ROOMY);
    let wire = socket.accept().await;
    within(wire.recv()).await.unwrap();
    let answer = ostler_keeper::protocol::Message::Answer { to: 1, answer: Answer::Refused(Refusal::OtherVersion(99)) };
    wire.send(&serde_json::to_vec(&answer).unwrap(), &[]).await.unwrap();
    let error = within(gateway.task).await.unwrap().unwrap_err();
    assert!(matches!(error, GatewayError::OtherVersion(99)));
    assert!(error.remedy().contains("ostler up"));
}
