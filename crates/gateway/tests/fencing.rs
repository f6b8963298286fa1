//! What is fenced gets nothing any more: open connections are cut, and no word of an earlier epoch undoes it.

#![allow(clippy::unwrap_used, clippy::panic)] // helpers of tests

mod common;
#[path = "common/http.rs"]
mod http;

use std::net::SocketAddr;

use common::{Instance, Keeper, ROOMY, call, round_trip, start, table, within};
use http::{Line, Origin};
use ostler_gateway::messages::{Says, Table, Tell};
use ostler_keeper::protocol::ToGateway;
use ostler_model::estate::Protocol;
use tokio::io::AsyncReadExt;

/// A table of this epoch, in which the instances of these numbers are fenced.
async fn tell(keeper: &Keeper, targets: &[SocketAddr], epoch: u64, fenced: &[u32], protocol: Protocol) {
    let fenced = fenced.iter().map(|number| format!("web-{number}").parse().unwrap()).collect();
    let table = Table { epoch, fenced, protocol, ..table("web", targets, 60_000) };
    let body = serde_json::to_string(&table).unwrap();
    keeper.tell(ToGateway::Table { key: "web".into(), body }).await;
}

async fn fence(keeper: &Keeper, id: u64, epoch: u64) -> Says {
    let tell = Tell::Fence { id, service: "web".into(), epoch };
    keeper.tell(ToGateway::Tell { body: serde_json::to_string(&tell).unwrap() }).await;
    loop {
        let says = keeper.says_of_importance().await;
        if !matches!(says, Says::Trouble { .. }) {
            return says;
        }
    }
}

#[tokio::test]
async fn open_connections_are_cut_and_nothing_gets_there_again() {
    let (_home, _socket, _gateway, keeper) = start(ROOMY).await;
    let (endpoint, _held) = keeper.listen("web").await;
    let (old, new) = (Instance::start(1).await, Instance::start(2).await);
    tell(&keeper, &[old.address], 0, &[], Protocol::Tcp).await;
    let (mut open, name) = call(endpoint).await;
    round_trip(&mut open).await;
    assert_eq!(name, 1);

    // The table still names it: the fence is the stronger word.
    tell(&keeper, &[old.address], 1, &[1], Protocol::Tcp).await;
    assert_eq!(fence(&keeper, 7, 1).await, Says::Fenced { id: 7, epoch: 1, left: 0 });
    let mut rest = Vec::new();
    let cut = within(open.read_to_end(&mut rest)).await;
    assert!(cut.is_err() || rest.is_empty(), "{rest:?}");
    let waiting = tokio::spawn(call(endpoint));

    // Whoever comes back with what was true before is not heard.
    tell(&keeper, &[old.address], 0, &[], Protocol::Tcp).await;
    keeper.taken_in().await;
    assert!(!waiting.is_finished(), "it was let through to what is fenced");
    let targets = [old.address, new.address];
    tell(&keeper, &targets, 1, &[1], Protocol::Tcp).await;
    assert_eq!(within(waiting).await.unwrap().1, 2);
    for _ in 0..8 {
        assert_eq!(call(endpoint).await.1, 2);
    }

    // Going back is another epoch.
    tell(&keeper, &targets, 2, &[2], Protocol::Tcp).await;
    assert_eq!(fence(&keeper, 8, 2).await, Says::Fenced { id: 8, epoch: 2, left: 0 });
    assert_eq!(call(endpoint).await.1, 1);
}

#[tokio::test]
async fn what_is_not_there_is_fenced() {
    let (_home, _socket, _gateway, keeper) = start(ROOMY).await;
    assert_eq!(fence(&keeper, 7, 3).await, Says::Fenced { id: 7, epoch: 3, left: 0 });
}

#[tokio::test]
async fn requests_that_can_be_repeated_wait_for_another_instance() {
    let (_home, _socket, _gateway, keeper) = start(ROOMY).await;
    let (endpoint, _held) = keeper.listen("web").await;
    // It reads a request and never answers.
    let old = Origin::start(|mut line: Line| async move { while line.request().await.is_some() {} }).await;
    let new = Origin::answering("new").await;
    tell(&keeper, &[old.address], 0, &[], Protocol::Http).await;
    let mut caller = Line::to(endpoint).await;
    let asked = tokio::spawn(async move { caller.ask("GET / HTTP/1.1\r\nhost: a\r\n\r\n").await });
    let mut unrepeatable = Line::to(endpoint).await;
    let ordered =
        tokio::spawn(async move { unrepeatable.ask("POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 0\r\n\r\n").await });
    within(async {
        while old.requests() < 2 {
            tokio::task::yield_now().await;
        }
    })
    .await;
    tell(&keeper, &[], 1, &[1], Protocol::Http).await;
    assert_eq!(fence(&keeper, 7, 1).await, Says::Fenced { id: 7, epoch: 1, left: 0 });
    let answer = within(ordered).await.unwrap().unwrap();
    assert!(answer.starts_with("HTTP/1.1 502 "), "it may have been carried out: {answer}");
    assert!(!asked.is_finished());
    tell(&keeper, &[old.address, new.address], 1, &[1], Protocol::Http).await;
    let answer = within(asked).await.unwrap().unwrap();
    assert!(answer.ends_with("new"), "{answer}");
}

#[tokio::test]
async fn an_answer_that_is_under_way_is_broken_off() {
    let (_home, _socket, _gateway, keeper) = start(ROOMY).await;
    let (endpoint, _held) = keeper.listen("web").await;
    // It begins an answer and never ends it.
    let old = Origin::start(|mut line: Line| async move {
        while line.request().await.is_some() {
            line.write(
                "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n2\r\nhi\r\n",
            )
            .await;
        }
    })
    .await;
    tell(&keeper, &[old.address], 0, &[], Protocol::Http).await;
    let mut caller = Line::to(endpoint).await;
    caller.write("GET /events HTTP/1.1\r\nhost: a\r\n\r\n").await;
    let mut begun = [0; 15];
    within(caller.stream.read_exact(&mut begun)).await.unwrap();
    assert_eq!(&begun, b"HTTP/1.1 200 OK");
    tell(&keeper, &[], 1, &[1], Protocol::Http).await;
    assert_eq!(fence(&keeper, 7, 1).await, Says::Fenced { id: 7, epoch: 1, left: 0 });
    let mut rest = Vec::new();
    let _ = within(caller.stream.read_to_end(&mut rest)).await; // an end or a reset: it does not go on
    assert!(!rest.ends_with(b"0\r\n\r\n"), "it looks complete");
}
