//! Callers, instances and what is between them: the gateway carries every byte, spreads, holds and drains.

#![allow(clippy::unwrap_used, clippy::panic)] // helpers of tests

mod common;

use std::net::SocketAddr;

use common::{Gateway, Instance, PATIENT, ROOMY, call, refusing, round_trip, start, within};
use ostler_gateway::Limits;
use ostler_gateway::messages::Says;
use ostler_keeper::protocol::ToGateway;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

#[tokio::test]
async fn connections_go_to_the_least_used_instance() {
    let (_home, _socket, _gateway, keeper) = start(ROOMY).await;
    let (endpoint, _held) = keeper.listen("web").await;
    let instances = [Instance::start(0).await, Instance::start(1).await, Instance::start(2).await];
    keeper.table("web", &instances.each_ref().map(|instance| instance.address), 1000).await;
    let mut open = Vec::new();
    let mut counts = [0; 3];
    for _ in 0..30 {
        let (mut stream, name) = call(endpoint).await;
        round_trip(&mut stream).await;
        counts[usize::from(name)] += 1;
        open.push((stream, name));
    }
    assert_eq!(counts, [10; 3]);

    // What is freed is used next; a drain tells when it is free.
    open.retain(|(_, name)| *name != 1);
    keeper.drain(1, "web", instances[1].address, 60_000).await;
    assert_eq!(keeper.says_of_importance().await, Says::Drained { id: 1, left: 0 });
    keeper.table("web", &instances.each_ref().map(|instance| instance.address), 1000).await;
    keeper.taken_in().await;
    for _ in 0..10 {
        let (stream, name) = call(endpoint).await;
        assert_eq!(name, 1);
        open.push((stream, name));
    }
}

#[tokio::test]
async fn the_next_instance_is_tried_when_one_refuses() {
    let (_home, _socket, _gateway, keeper) = start(ROOMY).await;
    let (endpoint, _held) = keeper.listen("web").await;
    let (dead, _bound) = refusing();
    let alive = Instance::start(7).await;
    keeper.table("web", &[dead, alive.address], 0).await;
    for _ in 0..20 {
        let (mut stream, name) = call(endpoint).await;
        assert_eq!(name, 7);
        round_trip(&mut stream).await;
    }
}

#[tokio::test]
async fn callers_are_held_until_the_instance_is_back() {
    let (_home, _socket, _gateway, keeper) = start(ROOMY).await;
    let (endpoint, _held) = keeper.listen("web").await;
    let (address, bound) = refusing();
    // One caller is held in vain, which shows that the instance was found dead, and opens the interval of trouble.
    keeper.table("web", &[address], 0).await;
    let mut vain = within(TcpStream::connect(endpoint)).await.unwrap();
    assert!(within(vain.read_u8()).await.is_err());
    keeper.table("web", &[address], 600_000).await;
    let callers: Vec<_> = (0..20).map(|_| tokio::spawn(call(endpoint))).collect();
    keeper.taken_in().await;
    let listener = bound.listen(64).unwrap();
    let _instance = Instance::on(listener, 9);
    for caller in callers {
        assert_eq!(within(caller).await.unwrap().1, 9);
    }
    let Says::Trouble { service, instance, from, until, connects_waited, connects_failed, .. } =
        keeper.says_of_importance().await
    else {
        panic!("the first report is the trouble");
    };
    assert_eq!((service.as_str(), instance.unwrap().to_string().as_str()), ("web", "web-1"));
    assert!(from <= until);
    assert_eq!(connects_failed, 1);
    assert!(connects_waited <= 20);
}

#[tokio::test]
async fn a_caller_that_was_held_in_vain_is_closed_and_counted() {
    let (_home, _socket, _gateway, keeper) = start(ROOMY).await;
    let (endpoint, _held) = keeper.listen("web").await;
    let (address, bound) = refusing();
    keeper.table("web", &[address], 30).await;
    let mut caller = within(TcpStream::connect(endpoint)).await.unwrap();
    let error = within(caller.read_u8()).await.unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset);
    let _listener = bound.listen(64).unwrap();
    let _reached = within(TcpStream::connect(endpoint)).await.unwrap();
    let Says::Trouble { connects_waited, connects_failed, longest_wait_us, .. } = keeper.says_of_importance().await
    else {
        panic!("the first report is the trouble");
    };
    assert_eq!((connects_waited, connects_failed), (0, 1));
    assert!(longest_wait_us >= 30_000, "it was held for its whole time: {longest_wait_us}");
    // Once reported, it is over: the next thing said is the answer to something else.
    keeper.taken_in().await;
}

#[tokio::test]
async fn a_table_wakes_those_who_wait() {
    let (_home, _socket, _gateway, keeper) = start(ROOMY).await;
    let (endpoint, _held) = keeper.listen("web").await;
    keeper.table("web", &[], 600_000).await;
    let callers: Vec<_> = (0..50).map(|_| tokio::spawn(call(endpoint))).collect();
    keeper.taken_in().await;
    let instance = Instance::start(3).await;
    keeper.table("web", &[instance.address], 600_000).await;
    for caller in callers {
        assert_eq!(within(caller).await.unwrap().1, 3);
    }
}

#[tokio::test]
async fn a_drain_waits_for_open_connections_or_until_its_time_is_over() {
    let (_home, _socket, _gateway, keeper) = start(ROOMY).await;
    let (endpoint, _held) = keeper.listen("web").await;
    let (old, new) = (Instance::start(1).await, Instance::start(2).await);
    keeper.table("web", &[old.address], 1000).await;
    let (mut first, _) = call(endpoint).await;
    let (second, _) = call(endpoint).await;
    keeper.table("web", &[new.address], 1000).await;
    keeper.drain(1, "web", old.address, 1).await;
    assert_eq!(keeper.says_of_importance().await, Says::Drained { id: 1, left: 2 });
    round_trip(&mut first).await; // nothing was cut off

    keeper.drain(2, "web", old.address, 600_000).await;
    keeper.taken_in().await; // which is answered first: the drain waits
    assert_eq!(call(endpoint).await.1, 2);
    drop(first);
    drop(second);
    assert_eq!(keeper.says_of_importance().await, Says::Drained { id: 2, left: 0 });
}

/// A pool of connections never ends by itself, and new callers wait as long as it is waited for.
#[tokio::test]
async fn where_nobody_else_serves_a_drain_waits_only_for_what_is_under_way() {
    let (_home, _socket, _gateway, keeper) = start(ROOMY).await;
    let (endpoint, _held) = keeper.listen("web").await;
    let old = Instance::start(1).await;
    keeper.table("web", &[old.address], 60_000).await;
    let (mut first, _) = call(endpoint).await;
    let (mut second, _) = call(endpoint).await;
    round_trip(&mut first).await;
    round_trip(&mut second).await;
    keeper.table("web", &[], 60_000).await;
    keeper.drain(1, "web", old.address, 600_000).await;
    assert_eq!(keeper.says_of_importance().await, Says::Drained { id: 1, left: 2 });
    round_trip(&mut first).await; // nothing was cut off

    // Where another one serves, nobody waits, and so time is given.
    let new = Instance::start(2).await;
    keeper.table("web", &[new.address], 60_000).await;
    keeper.drain(2, "web", old.address, 400).await;
    let begun = std::time::Instant::now();
    assert_eq!(keeper.says_of_importance().await, Says::Drained { id: 2, left: 2 });
    assert!(begun.elapsed() >= std::time::Duration::from_millis(300), "it has waited: {:?}", begun.elapsed());
}

#[tokio::test]
async fn a_draining_target_gets_nothing_new_even_if_the_table_still_names_it() {
    let (_home, _socket, _gateway, keeper) = start(ROOMY).await;
    let (endpoint, _held) = keeper.listen("web").await;
    let (old, new) = (Instance::start(1).await, Instance::start(2).await);
    keeper.table("web", &[old.address, new.address], 1000).await;
    keeper.drain(1, "web", old.address, 0).await;
    assert_eq!(keeper.says_of_importance().await, Says::Drained { id: 1, left: 0 });
    let mut open = Vec::new();
    for _ in 0..8 {
        let (stream, name) = call(endpoint).await;
        assert_eq!(name, 2);
        open.push(stream);
    }
}

/// Bytes that differ at every place, and that both ends can make for themselves.
struct Stream(u64);

impl Stream {
    fn fill(&mut self, piece: &mut [u8]) {
        for word in piece.chunks_mut(8) {
            self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            word.copy_from_slice(&self.0.to_be_bytes()[..word.len()]);
        }
    }
}

#[tokio::test]
async fn a_large_transfer_arrives_as_it_was_sent() {
    const PIECE: usize = 1 << 16;
    const PIECES: usize = 1 << 10; // 64 MiB each way
    let (_home, _socket, _gateway, keeper) = start(ROOMY).await;
    let (endpoint, _held) = keeper.listen("web").await;
    let instance = Instance::start(0).await;
    keeper.table("web", &[instance.address], 1000).await;
    let (stream, _) = call(endpoint).await;
    let (mut from, mut to) = stream.into_split();
    let sender = tokio::spawn(async move {
        let (mut made, mut piece) = (Stream(1), vec![0; PIECE]);
        for _ in 0..PIECES {
            made.fill(&mut piece);
            to.write_all(&piece).await.unwrap();
        }
        to.shutdown().await.unwrap();
    });
    let receiver = async {
        let (mut made, mut expected, mut piece) = (Stream(1), vec![0; PIECE], vec![0; PIECE]);
        for number in 0..PIECES {
            made.fill(&mut expected);
            from.read_exact(&mut piece).await.unwrap();
            assert!(piece == expected, "piece {number} differs");
        }
        assert_eq!(from.read(&mut piece).await.unwrap(), 0);
    };
    within(receiver).await;
    within(sender).await.unwrap();
}

/// An endpoint in front of a listener that the test itself accepts on: both ends of one connection.
async fn both_ends(endpoint: SocketAddr, listener: &TcpListener) -> (TcpStream, TcpStream) {
    let caller = within(TcpStream::connect(endpoint)).await.unwrap();
    let (instance, _) = within(listener.accept()).await.unwrap();
    (caller, instance)
}

#[tokio::test]
async fn each_side_may_end_first_and_a_reset_is_passed_on() {
    let (_home, _socket, _gateway, keeper) = start(ROOMY).await;
    let (endpoint, _held) = keeper.listen("web").await;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    keeper.table("web", &[listener.local_addr().unwrap()], 1000).await;

    for caller_ends_first in [true, false] {
        let (caller, instance) = both_ends(endpoint, &listener).await;
        let (mut first, mut second) = if caller_ends_first { (caller, instance) } else { (instance, caller) };
        first.write_all(b"all I have").await.unwrap();
        first.shutdown().await.unwrap();
        let mut got = Vec::new();
        within(second.read_to_end(&mut got)).await.unwrap();
        assert_eq!(got, b"all I have");
        second.write_all(b"an answer after that").await.unwrap();
        second.shutdown().await.unwrap();
        got.clear();
        within(first.read_to_end(&mut got)).await.unwrap();
        assert_eq!(got, b"an answer after that");
    }

    for caller_resets in [true, false] {
        let (caller, instance) = both_ends(endpoint, &listener).await;
        let (mut first, mut second) = if caller_resets { (caller, instance) } else { (instance, caller) };
        // A reset before the gateway knows that it is connected is a failed connect, and it would try again.
        first.write_all(b"x").await.unwrap();
        within(second.read_u8()).await.unwrap();
        rustix::net::sockopt::set_socket_linger(&first, Some(std::time::Duration::ZERO)).unwrap();
        drop(first);
        let error = within(second.read_u8()).await.unwrap_err();
        assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset);
    }
}

#[tokio::test]
async fn what_an_instance_sent_before_it_closed_is_delivered() {
    let (_home, _socket, _gateway, keeper) = start(ROOMY).await;
    let (endpoint, _held) = keeper.listen("web").await;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    keeper.table("web", &[listener.local_addr().unwrap()], 1000).await;
    let (mut caller, mut instance) = both_ends(endpoint, &listener).await;
    instance.write_all(&[5; 100_000]).await.unwrap();
    drop(instance);
    let mut got = vec![0; 100_000];
    within(caller.read_exact(&mut got)).await.unwrap();
    assert_eq!(got, vec![5; 100_000]);
    assert_eq!(within(caller.read(&mut got)).await.unwrap(), 0);
}

#[tokio::test]
async fn callers_beyond_the_limit_queue_and_are_not_refused() {
    for limits in [
        Limits { connections_of_a_service: 2, connections: 100, patience: PATIENT },
        Limits { connections_of_a_service: 100, connections: 2, patience: PATIENT },
    ] {
        let (_home, _socket, _gateway, keeper) = start(limits).await;
        let (endpoint, _held) = keeper.listen("web").await;
        let instance = Instance::start(4).await;
        keeper.table("web", &[instance.address], 1000).await;
        let (first, _) = call(endpoint).await;
        let (mut second, _) = call(endpoint).await;
        let mut third = within(TcpStream::connect(endpoint)).await.unwrap();
        round_trip(&mut second).await;
        assert_eq!(third.try_read(&mut [0]).unwrap_err().kind(), std::io::ErrorKind::WouldBlock);
        drop(first);
        assert_eq!(within(third.read_u8()).await.unwrap(), 4);
        round_trip(&mut third).await;
    }
}

#[tokio::test]
async fn at_the_end_nothing_is_accepted_and_open_connections_go_on() {
    let (_home, _socket, mut gateway, keeper): (_, _, Gateway, _) = start(ROOMY).await;
    let (endpoint, held) = keeper.listen("web").await;
    let instance = Instance::start(0).await;
    keeper.table("web", &[instance.address], 1000).await;
    let (mut open, _) = call(endpoint).await;
    drop(held);
    gateway.tell_to_stop();
    // The test gave its duplicate away, so that a refusal shows that the gateway has let go.
    let refused = async { while TcpStream::connect(endpoint).await.is_ok() {} };
    within(refused).await;
    round_trip(&mut open).await;
    assert!(!gateway.task.is_finished());
    drop(open);
    within(&mut gateway.task).await.unwrap().unwrap();
}

#[tokio::test]
async fn a_service_is_never_put_in_front_of_itself() {
    let (_home, _socket, _gateway, keeper) = start(ROOMY).await;
    let (endpoint, _held) = keeper.listen("web").await;
    keeper.table("web", &[endpoint], 0).await;
    let mut caller = within(TcpStream::connect(endpoint)).await.unwrap();
    assert!(within(caller.read_u8()).await.is_err());
    keeper.tell(ToGateway::Close { name: "web".into() }).await;
    keeper.taken_in().await;
}
