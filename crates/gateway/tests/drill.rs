//! What a drill has refused: callers find it so, and it is over by itself.

#![allow(clippy::unwrap_used, clippy::panic)] // helpers of tests

mod common;

use std::net::SocketAddr;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use common::{Instance, Keeper, ROOMY, call, round_trip, start, table, within};
use ostler_gateway::messages::{Refused, Says, Table, Tell};
use ostler_keeper::protocol::ToGateway;
use ostler_model::time::Timestamp;
use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;

fn now() -> Timestamp {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    Timestamp(i64::try_from(since.as_micros()).unwrap())
}

async fn refuse(keeper: &Keeper, targets: &[SocketAddr], hold_ms: u64, refused: SocketAddr, until: Timestamp) {
    let refused = vec![Refused { address: refused, until }];
    let body = serde_json::to_string(&Table { refused, ..table("web", targets, hold_ms) }).unwrap();
    keeper.tell(ToGateway::Table { key: "web".to_owned(), body }).await;
    taken_in(keeper).await;
}

/// Everything that was sent is known. That somebody had to wait before may be told meanwhile.
async fn taken_in(keeper: &Keeper) {
    let nowhere = SocketAddr::from(([127, 0, 0, 1], 9));
    keeper.drain(7, "no-such-service", nowhere, 0).await;
    while keeper.says().await != (Says::Drained { id: 7, left: 0 }) {}
}

#[tokio::test]
async fn what_is_refused_is_gone_round_while_another_is_left() {
    let (_home, _socket, _gateway, keeper) = start(ROOMY).await;
    let (endpoint, _held) = keeper.listen("web").await;
    let instances = [Instance::start(0).await, Instance::start(1).await];
    let addresses = instances.each_ref().map(|instance| instance.address);
    keeper.table("web", &addresses, 0).await;
    let (mut before, name) = call(endpoint).await;
    assert_eq!(name, 0);
    refuse(&keeper, &addresses, 0, addresses[0], now() + Duration::from_secs(600)).await;
    for _ in 0..10 {
        assert_eq!(call(endpoint).await.1, 1);
    }
    round_trip(&mut before).await; // what is open stays open
    // A table without it ends it at once.
    keeper.table("web", &addresses[..1], 60_000).await;
    taken_in(&keeper).await;
    assert_eq!(call(endpoint).await.1, 0);
}

/// Nobody takes it back: the manager and the keeper may both be gone.
#[tokio::test]
async fn it_is_over_by_itself_and_whoever_waited_gets_through() {
    let (_home, _socket, _gateway, keeper) = start(ROOMY).await;
    let (endpoint, _held) = keeper.listen("web").await;
    let instance = Instance::start(3).await;
    let until = now() + Duration::from_millis(400);
    refuse(&keeper, &[instance.address], 60_000, instance.address, until).await;
    keeper.die();
    let (mut stream, name) = call(endpoint).await;
    assert!(name == 3 && now() >= until);
    round_trip(&mut stream).await;
}

/// Neither a table nor a clock that was set makes it longer than it may be: it is cut when it is heard.
#[tokio::test]
async fn what_should_have_been_over_is_not_begun() {
    let (_home, _socket, _gateway, keeper) = start(ROOMY).await;
    let (endpoint, _held) = keeper.listen("web").await;
    let instance = Instance::start(4).await;
    for until in [Timestamp(i64::MIN), Timestamp(0), now()] {
        refuse(&keeper, &[instance.address], 0, instance.address, until).await;
        assert_eq!(call(endpoint).await.1, 4);
    }
}

/// What was asked and how it went is told when it is asked for, before the answer that says so.
#[tokio::test]
async fn callers_are_counted_when_that_is_asked_for() {
    let (_home, _socket, _gateway, keeper) = start(ROOMY).await;
    let (endpoint, _held) = keeper.listen("web").await;
    let instance = Instance::start(5).await;
    keeper.table("web", &[instance.address], 0).await;
    assert_eq!(call(endpoint).await.1, 5);
    refuse(&keeper, &[instance.address], 0, instance.address, now() + Duration::from_secs(600)).await;
    let mut vain = within(TcpStream::connect(endpoint)).await.unwrap();
    assert!(within(vain.read_u8()).await.is_err());
    keeper.table("web", &[instance.address], 0).await;
    taken_in(&keeper).await;
    assert_eq!(call(endpoint).await.1, 5);
    let body = serde_json::to_string(&Tell::Count { id: 9, service: "web".to_owned() }).unwrap();
    keeper.tell(ToGateway::Tell { body }).await;
    let (mut asked, mut failed, mut troubled) = (0, 0, 0);
    loop {
        match keeper.says().await {
            Says::Served { asked: more, failed: in_vain, .. } => {
                asked += more;
                failed += in_vain;
            }
            Says::Trouble { connects_failed, .. } => troubled += connects_failed,
            Says::Counted { id } => {
                assert_eq!(id, 9);
                break;
            }
            Says::Drained { .. } | Says::Fenced { .. } | Says::Traffic { .. } | Says::SetAside { .. } => {}
        }
    }
    assert_eq!((asked, failed), (3, 1));
    assert!(troubled <= 1);
    // Of a service that there is not, there is nothing to count.
    let body = serde_json::to_string(&Tell::Count { id: 10, service: "none".to_owned() }).unwrap();
    keeper.tell(ToGateway::Tell { body }).await;
    assert_eq!(keeper.says().await, Says::Counted { id: 10 });
}
