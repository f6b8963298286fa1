//! Callers and instances that speak HTTP: what is said arrives as it should, in whatever form, and whoever means harm
//! does none.

#![allow(clippy::unwrap_used, clippy::panic)] // helpers of tests

mod common;
#[path = "common/http.rs"]
mod http;

use std::net::SocketAddr;
use std::time::Duration;

use common::{Gateway, Keeper, KeeperSocket, PATIENT, ROOMY, start, within};
use http::{Line, Origin, ok};
use ostler_gateway::messages::Says;
use ostler_gateway::{Limits, Patience};
use proptest::prelude::*;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::{mpsc, oneshot};

const GET: &str = "GET /x?y=1 HTTP/1.1\r\nhost: a\r\n\r\n";

/// An endpoint in front of this instance.
struct Front {
    endpoint: SocketAddr,
    keeper: Keeper,
    gateway: Gateway,
    _kept: (tempfile::TempDir, KeeperSocket, std::net::TcpListener),
}

async fn front_with(limits: Limits, origin: &Origin) -> Front {
    let (home, socket, gateway, keeper) = start(limits).await;
    let (endpoint, held) = keeper.listen("web").await;
    keeper.http_table("web", &[origin.address], 1000).await;
    Front { endpoint, keeper, gateway, _kept: (home, socket, held) }
}

async fn front(origin: &Origin) -> Front {
    front_with(ROOMY, origin).await
}

/// An instance that gives the same answer to everything.
async fn saying(answer: &'static str) -> Origin {
    Origin::start(move |mut line: Line| async move {
        while line.request().await.is_some() {
            line.write(answer).await;
        }
    })
    .await
}

#[tokio::test]
async fn a_request_arrives_with_its_caller_named_and_an_answer_comes_back() {
    let origin = saying("HTTP/1.1 201 Made\r\nContent-Length: 2\r\nKeep-Alive: timeout=5\r\nX-Own: 1\r\n\r\nhi").await;
    let front = front(&origin).await;
    let mut caller = Line::to(front.endpoint).await;
    let request = "PUT /x?y=1 HTTP/1.1\r\nHost: shop.example\r\nConnection: x-hop\r\nX-Hop: 1\r\nX-Forwarded-For: 10.0.0.1\r\nContent-Length: 3\r\n\r\nabc";
    let answer = caller.ask(request).await.unwrap();
    assert_eq!(answer, "HTTP/1.1 201 Made\r\ncontent-length: 2\r\nx-own: 1\r\n\r\nhi");
    let seen = origin.seen.lock().unwrap()[0].clone();
    let (head, body) = seen.split_once("\r\n\r\n").unwrap();
    let mut lines: Vec<&str> = head.split("\r\n").skip(1).collect();
    lines.sort_unstable();
    assert!(head.starts_with("PUT /x?y=1 HTTP/1.1\r\n"));
    assert_eq!(
        lines,
        [
            "content-length: 3",
            "forwarded: for=127.0.0.1;proto=http",
            "host: shop.example",
            "x-forwarded-for: 10.0.0.1, 127.0.0.1",
        ]
    );
    assert_eq!(body, "abc");
}

#[tokio::test]
async fn a_caller_stays_connected_while_instances_change_and_idle_connections_hold_no_drain_up() {
    let (ended, mut has_ended) = mpsc::channel(8);
    let old = Origin::start(move |mut line: Line| {
        let ended = ended.clone();
        async move {
            while line.request().await.is_some() {
                line.write(ok("old")).await;
            }
            ended.send(()).await.unwrap();
        }
    })
    .await;
    let front = front(&old).await;
    let mut caller = Line::to(front.endpoint).await;
    assert!(caller.ask(GET).await.unwrap().ends_with("old"));
    assert!(caller.ask(GET).await.unwrap().ends_with("old"));
    let new = Origin::answering("new").await;
    front.keeper.http_table("web", &[new.address], 1000).await;
    front.keeper.drain(1, "web", old.address, 600_000).await;
    assert_eq!(front.keeper.says_of_importance().await, Says::Drained { id: 1, left: 0 });
    within(has_ended.recv()).await.unwrap(); // one connection carried both requests, and is closed
    assert!(has_ended.try_recv().is_err());
    assert!(caller.ask(GET).await.unwrap().ends_with("new"));
}

#[tokio::test]
async fn what_was_served_is_told_with_how_it_went() {
    let origin = Origin::start(|mut line: Line| async move {
        while let Some(request) = line.request().await {
            let status = if request.starts_with("GET /well") { "200 OK" } else { "500 Internal Server Error" };
            line.write(format!("HTTP/1.1 {status}\r\ncontent-length: 0\r\n\r\n")).await;
        }
    })
    .await;
    let front = front(&origin).await;
    let instance = common::Instance::start(1).await;
    let (raw, _held) = front.keeper.listen("raw").await;
    front.keeper.table("raw", &[instance.address], 1000).await;
    let (dead, _bound) = common::refusing();
    let (nowhere, _held) = front.keeper.listen("nowhere").await;
    front.keeper.http_table("nowhere", &[dead], 0).await;
    let mut caller = Line::to(front.endpoint).await;
    for path in ["/well", "/ill", "/well"] {
        caller.ask(&format!("GET {path} HTTP/1.1\r\nhost: a\r\n\r\n")).await.unwrap();
    }
    caller.ask("GET / HTTP/1.1\r\n\r\n").await; // refused by the gateway itself: nobody was asked
    assert!(Line::to(nowhere).await.ask(GET).await.unwrap().starts_with("HTTP/1.1 503 "));
    let _connected = common::call(raw).await;

    let mut told = std::collections::BTreeMap::new();
    while told.len() < 3 {
        if let Says::Served { service, instance, protocol, asked, failed, times, .. } = front.keeper.says().await {
            let timed: u64 = times.iter().map(|(_, count)| count).sum();
            let by = instance.map(|instance| instance.to_string());
            told.insert(service, (by, protocol.as_str(), asked, failed, timed));
        }
    }
    assert_eq!(told["web"], (Some("web-1".to_owned()), "http", 3, 1, 2));
    assert_eq!(told["raw"], (Some("raw-1".to_owned()), "tcp", 1, 0, 1));
    assert_eq!(told["nowhere"], (None, "http", 1, 1, 0));
}

#[tokio::test]
async fn a_drain_waits_for_the_answer_that_is_under_way() {
    let (go, gone) = oneshot::channel::<()>();
    let gone = std::sync::Mutex::new(Some(gone));
    let (asked, mut is_asked) = mpsc::channel(1);
    let old = Origin::start(move |mut line: Line| {
        let (gone, asked) = (gone.lock().unwrap().take().unwrap(), asked.clone());
        async move {
            line.request().await.unwrap();
            asked.send(()).await.unwrap();
            gone.await.unwrap();
            line.write(ok("at last")).await;
        }
    })
    .await;
    let front = front(&old).await;
    let mut caller = Line::to(front.endpoint).await;
    caller.write(GET).await;
    within(is_asked.recv()).await.unwrap();
    front.keeper.http_table("web", &[], 1000).await;
    front.keeper.drain(1, "web", old.address, 1).await;
    assert_eq!(front.keeper.says_of_importance().await, Says::Drained { id: 1, left: 1 });
    front.keeper.drain(2, "web", old.address, 600_000).await;
    front.keeper.taken_in().await; // which is answered first: the drain waits
    go.send(()).unwrap();
    assert!(within(caller.answer()).await.unwrap().ends_with("at last"));
    assert_eq!(front.keeper.says_of_importance().await, Says::Drained { id: 2, left: 0 });
}

/// What becomes of an instance's answer to a request.
async fn check(request: &str, answer: &'static str, expected: &str) {
    let origin = saying(answer).await;
    let front = front(&origin).await;
    let mut caller = Line::to(front.endpoint).await;
    caller.write(request).await;
    assert_eq!(caller.rest().await, (expected.to_owned(), true), "{request} {answer}");
}

#[tokio::test]
async fn answers_keep_their_meaning_in_every_form() {
    let get = "GET / HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n";
    let head = "HEAD / HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n";
    let old = "GET / HTTP/1.0\r\n\r\n";
    // What has no body has none, whatever its head says about one.
    check(
        head,
        "HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\n",
        "HTTP/1.1 200 OK\r\ncontent-length: 5\r\nconnection: close\r\n\r\n",
    )
    .await;
    check(
        head,
        "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n",
        "HTTP/1.1 200 OK\r\nconnection: close\r\n\r\n",
    )
    .await;
    check(get, "HTTP/1.1 204 No Content\r\n\r\n", "HTTP/1.1 204 No Content\r\nconnection: close\r\n\r\n").await;
    check(
        get,
        "HTTP/1.1 304 Not Modified\r\netag: x\r\n\r\n",
        "HTTP/1.1 304 Not Modified\r\netag: x\r\nconnection: close\r\n\r\n",
    )
    .await;
    // Chunks that come at once get a length; who knows no chunks gets none.
    let chunked = "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n";
    check(get, chunked, "HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 5\r\n\r\nabcde").await;
    check(old, chunked, "HTTP/1.0 200 OK\r\ncontent-length: 5\r\n\r\nabcde").await;
    // An answer before the last one is left out.
    let early = "HTTP/1.1 103 Early Hints\r\nlink: x\r\n\r\nHTTP/1.1 200 OK\r\ncontent-length: 1\r\n\r\na";
    check(get, early, "HTTP/1.1 200 OK\r\ncontent-length: 1\r\nconnection: close\r\n\r\na").await;
    // Trailers reach who wants them.
    let trailing = "GET / HTTP/1.1\r\nhost: a\r\nte: trailers\r\nconnection: te, close\r\n\r\n";
    let with_trailers =
        "HTTP/1.1 200 OK\r\ntrailer: x-sum\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\nx-sum: 7\r\n\r\n";
    let expected = "HTTP/1.1 200 OK\r\ntrailer: x-sum\r\nconnection: close\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\nx-sum: 7\r\n\r\n";
    check(trailing, with_trailers, expected).await;
    // Somebody else's protocol that nobody asked for is no answer.
    let unasked = "HTTP/1.1 101 Switching Protocols\r\nupgrade: x\r\nconnection: upgrade\r\n\r\n";
    let refused = "HTTP/1.1 502 Bad Gateway\r\ncontent-type: text/plain; charset=utf-8\r\nconnection: close\r\ncontent-length: 59\r\n\r\nthe connection to the service broke before it had answered\n";
    check(get, unasked, refused).await;
}

#[tokio::test]
async fn what_only_the_end_of_the_connection_ends_is_reset_when_it_breaks_off() {
    let (go, wait) = mpsc::channel::<()>(1);
    let wait = std::sync::Mutex::new(Some(wait));
    let origin = Origin::start(move |mut line: Line| {
        let mut wait = wait.lock().unwrap().take().unwrap();
        async move {
            line.request().await.unwrap();
            line.write("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n").await;
            wait.recv().await;
        }
    })
    .await;
    let front = front(&origin).await;
    let mut caller = Line::to(front.endpoint).await;
    caller.write("GET / HTTP/1.0\r\n\r\n").await;
    let mut head = [0; 22];
    within(caller.stream.read_exact(&mut head)).await.unwrap();
    assert_eq!(&head, b"HTTP/1.0 200 OK\r\n\r\nabc");
    drop(go); // the instance dies
    assert!(!caller.rest().await.1, "it must not look complete");
}

#[tokio::test]
async fn events_are_passed_on_one_by_one() {
    let (say, said) = mpsc::channel::<&str>(1);
    let said = std::sync::Mutex::new(Some(said));
    let origin = Origin::start(move |mut line: Line| {
        let mut said = said.lock().unwrap().take().unwrap();
        async move {
            line.request().await.unwrap();
            line.write("HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n")
                .await;
            while let Some(word) = said.recv().await {
                line.write(format!("{:x}\r\n{word}\r\n", word.len())).await;
            }
            line.write("0\r\n\r\n").await;
        }
    })
    .await;
    let front = front(&origin).await;
    let mut caller = Line::to(front.endpoint).await;
    caller.write(GET).await;
    let mut read = String::new();
    for word in ["data: one\n\n", "data: two\n\n", "data: three\n\n"] {
        say.send(word).await.unwrap();
        while !read.contains(word) {
            let mut piece = [0; 1024];
            let count = within(caller.stream.read(&mut piece)).await.unwrap();
            read.push_str(std::str::from_utf8(&piece[..count]).unwrap());
        }
    }
    drop(say);
    while !read.ends_with("0\r\n\r\n") {
        let mut piece = [0; 1024];
        let count = within(caller.stream.read(&mut piece)).await.unwrap();
        read.push_str(std::str::from_utf8(&piece[..count]).unwrap());
    }
}

#[tokio::test]
async fn a_body_of_any_size_is_passed_on_both_ways_without_being_held() {
    const PIECES: usize = 256;
    const PIECE: usize = 64 * 1024; // 16 MiB each way
    let origin = Origin::start(|mut line: Line| async move {
        let head = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n";
        let mut before = Vec::new();
        while !before.ends_with(b"\r\n\r\n") {
            before.push(line.stream.read_u8().await.unwrap());
        }
        assert!(String::from_utf8(before).unwrap().contains("transfer-encoding: chunked"));
        line.write(head).await;
        // Chunks are sent back as they come, with everything that is around them.
        let (mut from, mut to) = line.stream.split();
        let _ = tokio::io::copy(&mut from, &mut to).await;
    })
    .await;
    let front = front(&origin).await;
    let caller = Line::to(front.endpoint).await;
    let (mut from, mut to) = caller.stream.into_split();
    let sender = tokio::spawn(async move {
        let head = "GET /echo HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n";
        to.write_all(head.as_bytes()).await.unwrap();
        for number in 0..PIECES {
            to.write_all(format!("{PIECE:x}\r\n").as_bytes()).await.unwrap();
            to.write_all(&vec![number as u8; PIECE]).await.unwrap();
            to.write_all(b"\r\n").await.unwrap();
        }
        to.write_all(b"0\r\n\r\n").await.unwrap();
        to
    });
    let mut all = Vec::new();
    let receive = async {
        let mut piece = vec![0; PIECE];
        while !all.ends_with(b"\r\n0\r\n\r\n") {
            let count = from.read(&mut piece).await.unwrap();
            assert!(count > 0, "it ended after {} bytes", all.len());
            all.extend_from_slice(&piece[..count]);
        }
    };
    within(receive).await;
    drop(within(sender).await.unwrap());
    // Chunks may be cut anew on the way, so the bytes themselves are counted.
    let mut counts = [0; PIECES];
    all.iter().for_each(|byte| counts[usize::from(*byte)] += 1);
    assert!(counts.iter().all(|count| *count >= PIECE), "{counts:?}");
}

#[tokio::test]
async fn a_caller_that_waits_for_leave_to_go_on_gets_it() {
    let origin = Origin::answering("got it").await;
    let front = front(&origin).await;
    for method in ["PUT", "POST"] {
        let mut caller = Line::to(front.endpoint).await;
        caller
            .write(format!("{method} / HTTP/1.1\r\nhost: a\r\nexpect: 100-continue\r\ncontent-length: 3\r\n\r\n"))
            .await;
        let mut leave = [0; 25];
        within(caller.stream.read_exact(&mut leave)).await.unwrap();
        assert_eq!(&leave, b"HTTP/1.1 100 Continue\r\n\r\n");
        assert!(caller.ask("abc").await.unwrap().ends_with("got it"));
    }
    let seen = origin.seen.lock().unwrap();
    assert!(seen.iter().all(|request| request.ends_with("\r\n\r\nabc") && !request.contains("expect")));
}

#[tokio::test]
async fn a_connection_that_is_upgraded_carries_anything() {
    let origin = Origin::start(|mut line: Line| async move {
        assert!(line.request().await.unwrap().contains("upgrade: websocket"));
        let head = "HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\nfirst";
        line.write(head).await; // what follows at once must not be lost
        let (mut from, mut to) = line.stream.split();
        let _ = tokio::io::copy(&mut from, &mut to).await;
    })
    .await;
    let front = front(&origin).await;
    let mut caller = Line::to(front.endpoint).await;
    caller.write("GET /chat HTTP/1.1\r\nhost: a\r\nconnection: Upgrade\r\nupgrade: websocket\r\n\r\n").await;
    let mut answer = Vec::new();
    while !answer.ends_with(b"first") {
        answer.push(within(caller.stream.read_u8()).await.unwrap());
    }
    let answer = String::from_utf8(answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 101 ") && answer.contains("upgrade: websocket\r\n"), "{answer}");
    let words = [0, 255, 13, 10].repeat(10_000);
    caller.write(&words).await;
    let mut back = vec![0; words.len()];
    within(caller.stream.read_exact(&mut back)).await.unwrap();
    assert_eq!(back, words);
    // It counts as a connection until it ends.
    front.keeper.drain(1, "web", origin.address, 1).await;
    assert_eq!(front.keeper.says_of_importance().await, Says::Drained { id: 1, left: 1 });
    front.keeper.drain(2, "web", origin.address, 600_000).await;
    caller.stream.shutdown().await.unwrap();
    assert_eq!(within(caller.stream.read(&mut back)).await.unwrap(), 0);
    assert_eq!(front.keeper.says_of_importance().await, Says::Drained { id: 2, left: 0 });
}

#[tokio::test]
async fn what_is_not_http_1_is_carried_as_it_is() {
    let instance = common::Instance::start(7).await;
    let (_home, _socket, _gateway, keeper) = start(ROOMY).await;
    let (endpoint, _held) = keeper.listen("web").await;
    keeper.http_table("web", &[instance.address], 1000).await;
    for greeting in [&b"\x16\x03\x01 a client hello"[..], b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"] {
        let mut caller = Line::to(endpoint).await;
        caller.write(greeting).await;
        let mut back = vec![0; 1 + greeting.len()];
        within(caller.stream.read_exact(&mut back)).await.unwrap();
        assert_eq!((back[0], &back[1..]), (7, greeting));
    }
}

/// What a caller that sends these bytes and no more gets, and how often the instance was asked.
async fn sent(front: &Front, bytes: &[u8]) -> (String, bool) {
    let mut caller = Line::to(front.endpoint).await;
    caller.write(bytes).await;
    let _ = caller.stream.shutdown().await;
    caller.rest().await
}

#[tokio::test]
async fn what_can_be_read_in_two_ways_is_refused_or_read_in_one() {
    let origin = Origin::answering("well").await;
    let front = front(&origin).await;
    let hidden = "GET /hidden HTTP/1.1\r\nhost: a\r\n\r\n";
    let refused = [
        format!("POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 5\r\ncontent-length: 0\r\n\r\n{hidden}"),
        format!("POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 0, 5\r\n\r\n{hidden}"),
        format!("POST / HTTP/1.1\r\nhost: a\r\ncontent-length: +5\r\n\r\n{hidden}"),
        format!("POST / HTTP/1.1\r\nhost: a\r\ncontent-length: -1\r\n\r\n{hidden}"),
        format!("POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 99999999999999999999\r\n\r\n{hidden}"),
        format!("POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked, identity\r\n\r\n0\r\n\r\n{hidden}"),
        format!("POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: xchunked\r\n\r\n0\r\n\r\n{hidden}"),
        format!("POST / HTTP/1.0\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n{hidden}"),
        format!("POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding : chunked\r\n\r\n0\r\n\r\n{hidden}"),
        format!("POST / HTTP/1.1\r\nhost: a\r\n transfer-encoding: chunked\r\n\r\n0\r\n\r\n{hidden}"),
        format!("POST / HTTP/1.1\r\nhost: a\r\nx: y\r\n folded\r\n\r\n{hidden}"),
        "GET / HTTP/1.1\r\nhost: a\r\nx: \0\r\n\r\n".to_owned(),
        "GET / HTTP/1.1\r\n\r\n".to_owned(),
        "GET / HTTP/1.1\r\nhost: a\r\nhost: b\r\n\r\n".to_owned(),
        "CONNECT b:80 HTTP/1.1\r\nhost: b:80\r\n\r\n".to_owned(),
        "nonsense\r\n\r\n".to_owned(),
    ];
    for bytes in &refused {
        let (answer, _) = sent(&front, bytes.as_bytes()).await;
        let status = answer.split(' ').nth(1).unwrap_or("");
        assert!(status.starts_with('4'), "{bytes:?} was answered: {answer:?}");
        assert_eq!(answer.matches("HTTP/1.1 ").count(), 1, "nothing behind it is read: {bytes:?}");
        assert_eq!(origin.requests(), 0, "{bytes:?}");
    }
    // Both lengths at once: the chunks count (RFC 9112, section 6.3), the other is not passed on, and what follows is
    // not read.
    for both in ["content-length: 4\r\ntransfer-encoding: chunked", "transfer-encoding: chunked\r\ncontent-length: 4"] {
        let before = origin.requests();
        sent(&front, format!("POST / HTTP/1.1\r\nhost: a\r\n{both}\r\n\r\n0\r\n\r\n{hidden}").as_bytes()).await;
        let seen = origin.seen.lock().unwrap();
        assert_eq!(seen.len(), before + 1);
        assert!(!seen[before].contains("content-length: 4"), "{}", seen[before]);
        assert!(!seen[before].contains("hidden"));
    }
}

#[tokio::test]
async fn heads_have_a_bound() {
    let origin = Origin::answering("well").await;
    let front = front(&origin).await;
    let long = format!("GET / HTTP/1.1\r\nhost: a\r\nx: {}\r\n\r\n", "y".repeat(70_000));
    let many = format!("GET / HTTP/1.1\r\nhost: a\r\n{}\r\n", "x: y\r\n".repeat(200));
    for bytes in [&long, &many] {
        let (answer, _) = sent(&front, bytes.as_bytes()).await;
        assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 431 "), "{answer:.100}");
    }
    // One that never ends is read no further than that.
    let mut endless = Line::to(front.endpoint).await;
    endless.write("GET / HTTP/1.1\r\nhost: a\r\nx: ").await;
    let write = async { while endless.stream.write_all(&[b'y'; 4096]).await.is_ok() {} };
    within(write).await;
    assert_eq!(origin.requests(), 0);
}

#[tokio::test]
async fn callers_that_drip_are_given_up() {
    let origin = Origin::answering("well").await;
    let short = Duration::from_millis(30);
    let patience = Patience { head: short, body: short, ..PATIENT };
    let front = front_with(Limits { patience, ..ROOMY }, &origin).await;
    for head in ["", "GET / HTTP/1.1\r\nhost: a\r\nx: "] {
        let mut caller = Line::to(front.endpoint).await;
        caller.write(head).await;
        let (answer, _) = caller.rest().await;
        assert!(!answer.starts_with("HTTP/1.1 2"), "{answer}");
    }
    // In the middle of a body: before an instance is asked, and while one is.
    for method in ["PUT", "POST"] {
        let mut caller = Line::to(front.endpoint).await;
        caller.write(format!("{method} / HTTP/1.1\r\nhost: a\r\ncontent-length: 10\r\n\r\nabc")).await;
        let (answer, _) = caller.rest().await;
        assert!(answer.starts_with("HTTP/1.1 408 "), "{method}: {answer}");
    }
    assert_eq!(origin.requests(), 0, "none was whole");
}

#[tokio::test]
async fn an_instance_that_does_not_answer_is_given_up() {
    let origin = Origin::start(|mut line: Line| async move {
        line.request().await;
        std::future::pending::<()>().await;
    })
    .await;
    let patience = Patience { answer: Duration::from_millis(30), ..PATIENT };
    let front = front_with(Limits { patience, ..ROOMY }, &origin).await;
    let answer = Line::to(front.endpoint).await.ask(GET).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 504 "), "{answer}");
}

#[tokio::test]
async fn a_long_upload_is_not_taken_for_an_instance_that_does_not_answer() {
    let origin = Origin::answering("got it").await;
    let answer = Duration::from_millis(200);
    let front = front_with(Limits { patience: Patience { answer, ..PATIENT }, ..ROOMY }, &origin).await;
    let mut caller = Line::to(front.endpoint).await;
    caller.write("POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n").await;
    let start = std::time::Instant::now();
    while start.elapsed() < 3 * answer {
        caller.write("3\r\nabc\r\n").await;
        tokio::task::yield_now().await;
    }
    assert!(caller.ask("0\r\n\r\n").await.unwrap().ends_with("got it"));
}

#[tokio::test]
async fn at_the_end_idle_callers_hold_nothing_up_and_answers_are_finished() {
    let (go, gone) = oneshot::channel::<()>();
    let gone = std::sync::Mutex::new(Some(gone));
    let (asked, mut is_asked) = mpsc::channel(2);
    let origin = Origin::start(move |mut line: Line| {
        let (gone, asked) = (gone.lock().unwrap().take(), asked.clone());
        async move {
            line.request().await.unwrap();
            asked.send(()).await.unwrap();
            if let Some(gone) = gone {
                gone.await.unwrap();
            }
            line.write(ok("the last one")).await;
        }
    })
    .await;
    let mut front = front(&origin).await;
    let mut busy = Line::to(front.endpoint).await;
    busy.write(GET).await;
    within(is_asked.recv()).await.unwrap();
    let mut idle = Line::to(front.endpoint).await;
    assert!(idle.ask(GET).await.unwrap().ends_with("the last one"));
    front.gateway.tell_to_stop();
    assert_eq!(idle.rest().await, (String::new(), true));
    assert!(!front.gateway.task.is_finished());
    go.send(()).unwrap();
    let answer = within(busy.answer()).await.unwrap();
    assert!(answer.contains("connection: close\r\n") && answer.ends_with("the last one"), "{answer}");
    within(&mut front.gateway.task).await.unwrap().unwrap();
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    /// Pieces of requests in any order: each connection ends, and the next caller is served.
    #[test]
    fn no_bytes_do_harm(
        lists in prop::collection::vec(
            prop::collection::vec(
                prop_oneof![
                    4 => prop::sample::select(vec![
                        "GET ", "POST ", "/", " HTTP/1.1\r\n", " HTTP/1.0\r\n", "host: a\r\n", "content-length: 3\r\n",
                        "transfer-encoding: chunked\r\n", "connection: upgrade\r\n", "upgrade: x\r\n", "expect: 100-continue\r\n",
                        "\r\n", "\r\n\r\n", "abc", "3\r\nabc\r\n", "0\r\n\r\n", "ffffffffffffffff\r\n", "\n", "PRI ",
                    ]).prop_map(|text| text.as_bytes().to_vec()),
                    1 => prop::collection::vec(any::<u8>(), 0..20),
                ],
                0..14,
            ),
            1..6,
        ),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let origin = Origin::answering("well").await;
            let front = front(&origin).await;
            for list in lists {
                sent(&front, &list.concat()).await;
                let answer = Line::to(front.endpoint).await.ask(GET).await.unwrap();
                prop_assert!(answer.ends_with("well"));
            }
            Ok(())
        })?;
    }
}
