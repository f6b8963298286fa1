//! Instances fail at every point, and callers notice only what cannot be mended.

#![allow(clippy::unwrap_used, clippy::panic)] // helpers of tests

mod common;
#[path = "common/http.rs"]
mod http;

use std::net::SocketAddr;
use std::time::Duration;

use common::{Keeper, ROOMY, refusing, start, within};
use http::{Line, Origin, ok};
use ostler_gateway::messages::Says;
use ostler_keeper::protocol::ToGateway;
use rustix::net::sockopt;

/// Where an instance fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fails {
    /// Connects are refused.
    AtOnce,
    /// It closes the connection when it has read the request.
    WithoutAnswer,
    /// It resets it.
    ByReset,
    /// In the middle of the answer's head.
    InHead,
    /// In the middle of an answer of 1,000 bytes.
    InShortBody,
    /// In the middle of an answer of 64 KiB.
    InLongestHeld,
    /// In the middle of a longer one.
    InLongBody,
}

/// What the caller sees.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Sees {
    /// The answer of the other instance.
    Other,
    /// 502.
    BadGateway,
    /// An answer that is shorter than it says.
    Cut,
}

async fn failing(how: Fails) -> Origin {
    Origin::start(move |mut line: Line| async move {
        if line.request().await.is_none() {
            return;
        }
        let half =
            |length: usize| format!("HTTP/1.1 200 OK\r\ncontent-length: {length}\r\n\r\n{}", "x".repeat(length / 2));
        match how {
            Fails::AtOnce | Fails::WithoutAnswer => {}
            Fails::ByReset => sockopt::set_socket_linger(&line.stream, Some(Duration::ZERO)).unwrap(),
            Fails::InHead => line.write("HTTP/1.1 200 OK\r\ncontent-le").await,
            Fails::InShortBody => line.write(half(1000)).await,
            Fails::InLongestHeld => line.write(half(64 * 1024)).await,
            Fails::InLongBody => line.write(half(64 * 1024 + 1)).await,
        }
    })
    .await
}

/// What a caller of two instances sees of which the first one fails.
async fn check(request: &str, fails: Fails, expected: Sees) {
    let case = format!("{} {fails:?}", request.split("\r\n\r\n").next().unwrap());
    let (_home, _socket, _gateway, keeper) = start(ROOMY).await;
    let (endpoint, _held) = keeper.listen("web").await;
    let first = failing(fails).await;
    let (dead, _bound) = refusing();
    let first_address = if fails == Fails::AtOnce { dead } else { first.address };
    let second = Origin::answering("from the other").await;
    keeper.http_table("web", &[first_address, second.address], 0).await;
    let mut caller = Line::to(endpoint).await;
    caller.write(request).await;
    let (answer, orderly) = caller.rest().await;
    let seen = match (answer.split("\r\n").next().unwrap(), orderly) {
        ("HTTP/1.1 502 Bad Gateway", true) => Sees::BadGateway,
        ("HTTP/1.1 200 OK", true) if answer.ends_with("from the other") => Sees::Other,
        // Of what broke off right at its beginning, nothing at all may have been passed on.
        ("HTTP/1.1 200 OK" | "", true) if answer.len() < 64 * 1024 => Sees::Cut,
        _ => panic!("{case}: {answer:.200}"),
    };
    assert_eq!(seen, expected, "{case}");
    assert_eq!(second.requests(), usize::from(seen == Sees::Other), "{case}");
    assert_eq!(first.requests(), usize::from(fails != Fails::AtOnce), "{case}");
    if seen == Sees::Other {
        let body = request.split_once("\r\n\r\n").unwrap().1;
        assert!(second.seen.lock().unwrap()[0].contains(body.trim_end_matches("0\r\n\r\n")), "{case}: all of it again");
    }
}

fn request(method: &str, body_bytes: usize) -> String {
    let body = "y".repeat(body_bytes);
    format!("{method} /x HTTP/1.1\r\nhost: a\r\nconnection: close\r\ncontent-length: {body_bytes}\r\n\r\n{body}")
}

#[tokio::test]
async fn what_a_caller_sees_follows_from_method_body_and_failure() {
    use Fails::*;
    use Sees::*;
    let bare = "GET /x HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n".to_owned();
    let chunked =
        "PUT /x HTTP/1.1\r\nhost: a\r\nconnection: close\r\ntransfer-encoding: chunked\r\n\r\n3\r\nyyy\r\n0\r\n\r\n";
    let before_the_body = [AtOnce, WithoutAnswer, ByReset, InHead];
    let mended =
        [bare.clone(), request("PUT", 0), request("DELETE", 1), request("OPTIONS", 3), request("PUT", 64 * 1024)];
    for request in &mended {
        for fails in before_the_body.into_iter().chain([InShortBody, InLongestHeld]) {
            check(request, fails, Other).await;
        }
        check(request, InLongBody, Cut).await;
    }
    // What was repeated has its length instead of chunks: it is compared without them.
    for fails in [WithoutAnswer, InShortBody] {
        let (_home, _socket, _gateway, keeper) = start(ROOMY).await;
        let (endpoint, _held) = keeper.listen("web").await;
        let (first, second) = (failing(fails).await, Origin::answering("from the other").await);
        keeper.http_table("web", &[first.address, second.address], 0).await;
        let answer = Line::to(endpoint).await.ask(chunked).await.unwrap();
        assert!(answer.ends_with("from the other"));
        assert!(second.seen.lock().unwrap()[0].ends_with("\r\n\r\nyyy"));
    }
    // Asking twice might do it twice, or the body is gone: only what was certainly not sent goes to the other one.
    let held_back = [request("PUT", 64 * 1024 + 1)];
    let passed_on = [request("POST", 0), request("POST", 10), request("PATCH", 10)];
    for (request, short) in held_back.iter().map(|r| (r, BadGateway)).chain(passed_on.iter().map(|r| (r, Cut))) {
        check(request, AtOnce, Other).await;
        for fails in [WithoutAnswer, ByReset, InHead] {
            check(request, fails, BadGateway).await;
        }
        check(request, InShortBody, short).await;
        check(request, InLongestHeld, short).await;
        check(request, InLongBody, Cut).await;
    }
}

#[tokio::test]
async fn a_request_is_asked_again_once_and_then_told_of() {
    let (_home, _socket, _gateway, keeper) = start(ROOMY).await;
    let (endpoint, _held) = keeper.listen("web").await;
    let both = [failing(Fails::WithoutAnswer).await, failing(Fails::InShortBody).await];
    keeper.http_table("web", &both.each_ref().map(|origin| origin.address), 1000).await;
    let mut caller = Line::to(endpoint).await;
    let answer = caller.ask("GET /x HTTP/1.1\r\nhost: a\r\n\r\n").await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 502 "), "{answer}");
    assert_eq!(both.iter().map(Origin::requests).sum::<usize>(), 2);
    let Says::Trouble { instance, connects_waited: 1, .. } = keeper.says_of_importance().await else {
        panic!("one was connected to the other instance");
    };
    assert_eq!(instance.unwrap().to_string(), "web-1");
    // It goes on with the same caller.
    let well = Origin::answering("well").await;
    keeper.http_table("web", &[well.address], 1000).await;
    keeper.taken_in().await;
    assert!(caller.ask("GET /x HTTP/1.1\r\nhost: a\r\n\r\n").await.unwrap().ends_with("well"));
}

#[tokio::test]
async fn when_nobody_is_ready_requests_are_held_and_then_refused() {
    let (_home, _socket, _gateway, keeper) = start(ROOMY).await;
    let (endpoint, _held) = keeper.listen("web").await;
    keeper.http_table("web", &[], 0).await;
    let mut caller = Line::to(endpoint).await;
    let answer = caller.ask("POST /x HTTP/1.1\r\nhost: a\r\ncontent-length: 2\r\n\r\nhi").await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 503 ") && answer.contains("retry-after: 1\r\n"), "{answer}");
    // The next one waits, on the same connection.
    keeper.http_table("web", &[], 600_000).await;
    keeper.taken_in().await;
    caller.write("POST /x HTTP/1.1\r\nhost: a\r\ncontent-length: 2\r\n\r\nhi").await;
    let well = Origin::answering("well").await;
    keeper.http_table("web", &[well.address], 600_000).await;
    assert!(within(caller.answer()).await.unwrap().ends_with("well"));
}

#[tokio::test]
async fn who_went_away_while_waiting_holds_no_report_up() {
    let (_home, _socket, _gateway, keeper) = start(ROOMY).await;
    let (endpoint, _held) = keeper.listen("web").await;
    keeper.http_table("web", &[], 600_000).await;
    let mut gone = Line::to(endpoint).await;
    gone.write("GET /x HTTP/1.1\r\nhost: a\r\n\r\n").await;
    let mut waiting = Line::to(endpoint).await;
    waiting.write("GET /x HTTP/1.1\r\nhost: a\r\n\r\n").await;
    keeper.taken_in().await;
    drop(gone);
    let well = Origin::answering("well").await;
    keeper.http_table("web", &[well.address], 600_000).await;
    within(waiting.answer()).await.unwrap();
    // Whether the one that went away was seen to go before or after the other was served, the interval ends.
    let Says::Trouble { connects_waited: 1, connects_failed: 0, .. } = keeper.says_of_importance().await else {
        panic!("one waited");
    };
}

/// An endpoint in front of one instance that fails, and one that is well.
async fn a_failing_and_a_well_one(keeper: &Keeper) -> (SocketAddr, std::net::TcpListener, Origin, Origin) {
    let (endpoint, held) = keeper.listen("web").await;
    let failing = Origin::start(|mut line: Line| async move {
        while line.request().await.is_some() {
            line.write("HTTP/1.1 500 Internal Server Error\r\ncontent-length: 0\r\n\r\n").await;
        }
    })
    .await;
    let well = Origin::answering("well").await;
    keeper.http_table("web", &[failing.address, well.address], 1000).await;
    (endpoint, held, failing, well)
}

#[tokio::test]
async fn who_does_much_worse_than_its_peers_is_set_aside() {
    let (_home, _socket, _gateway, keeper) = start(ROOMY).await;
    let (endpoint, _held, failing, well) = a_failing_and_a_well_one(&keeper).await;
    let mut caller = Line::to(endpoint).await;
    let report = async {
        loop {
            tokio::select! {
                says = keeper.says_of_importance() => return says,
                answer = caller.ask("GET /x HTTP/1.1\r\nhost: a\r\n\r\n") => assert!(answer.is_some()),
            }
        }
    };
    let Says::SetAside { service, instance, for_ms, reason, .. } = within(report).await else {
        panic!("one is set aside");
    };
    assert_eq!((service.as_str(), instance.to_string().as_str(), for_ms), ("web", "web-1", 5000));
    assert!(reason.contains("requests failed"), "{reason}");
    let before = failing.requests();
    let mut caller = Line::to(endpoint).await;
    for _ in 0..50 {
        assert!(caller.ask("GET /x HTTP/1.1\r\nhost: a\r\n\r\n").await.unwrap().ends_with("well"));
    }
    assert_eq!(failing.requests(), before, "it gets nothing");
    // But it is not withdrawn: when the other one is gone it is asked again.
    drop(well);
    assert!(caller.ask("GET /x HTTP/1.1\r\nhost: a\r\n\r\n").await.unwrap().starts_with("HTTP/1.1 500 "));
}

#[tokio::test]
async fn connections_that_instances_have_closed_are_not_used() {
    let (_home, _socket, _gateway, keeper) = start(ROOMY).await;
    let (endpoint, _held) = keeper.listen("web").await;
    let (closed, mut has_closed) = tokio::sync::mpsc::channel(1);
    let origin = Origin::start(move |mut line: Line| {
        let closed = closed.clone();
        async move {
            line.request().await;
            line.write(ok("once")).await;
            drop(line);
            closed.send(()).await.unwrap();
        }
    })
    .await;
    keeper.http_table("web", &[origin.address], 1000).await;
    let mut caller = Line::to(endpoint).await;
    for number in 1..=20 {
        let answer = caller.ask("POST /x HTTP/1.1\r\nhost: a\r\ncontent-length: 2\r\n\r\nhi").await.unwrap();
        assert!(answer.ends_with("once"), "{answer}");
        within(has_closed.recv()).await.unwrap();
        assert_eq!(origin.requests(), number);
    }
    keeper.tell(ToGateway::Close { name: "web".into() }).await;
}
