//! SIGTERM ends the gateway in good order. Alone in its program: the signal goes to the whole process.

#![allow(clippy::unwrap_used, clippy::panic)] // helpers of tests

mod common;

use std::collections::BTreeSet;

use common::{KeeperSocket, within};
use ostler_gateway::{Config, run};
use ostler_keeper::protocol::ToGateway;
use rustix::process::{Signal, getpid, kill_process};

#[tokio::test]
async fn sigterm_ends_it() {
    let home = tempfile::tempdir().unwrap();
    let path = home.path().join("keeper.sock");
    let socket = KeeperSocket::at(&path);
    let gateway = tokio::spawn(run(Config::at(path)));
    let keeper = socket.welcome("first").await;
    keeper.tell(ToGateway::Synchronized).await;
    let held: BTreeSet<_> = [keeper.listen("web").await.0, keeper.listen("db").await.0].into();
    assert_eq!(held.len(), 2);
    keeper.taken_in().await;
    kill_process(getpid(), Signal::TERM).unwrap();
    within(gateway).await.unwrap().unwrap();
}
