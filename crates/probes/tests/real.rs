//! The probes against the real servers, through their whole lives.

#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

mod servers;

use std::sync::{Arc, Mutex};
use std::time::Duration;

use ostler_model::binding::{Credentials, Secret};
use ostler_model::catalog::ProbePolicy;
use ostler_model::estate::Check;
use ostler_model::health::{Health, SymptomKind};
use ostler_model::time::Span;
use ostler_probes::{Target, probe, watch};
use servers::{Postgres, Redis};

const LONG: Duration = Duration::from_secs(60);

fn login(target: &mut Target, fields: &[(&str, &str)]) {
    let fields = fields.iter().map(|(name, value)| ((*name).to_owned(), Secret::new(*value))).collect();
    target.credentials = Some(Credentials { fields, ..Credentials::default() });
}

async fn kind(check: &Check, target: &Target) -> SymptomKind {
    let symptom = probe(check, target, LONG).await.expect_err("it should have failed");
    for secret in target.credentials.iter().filter_map(|credentials| credentials.get("password")) {
        assert!(!symptom.detail.contains(secret), "{symptom}");
    }
    symptom.kind
}

#[tokio::test]
async fn postgresql() {
    let mut server = Postgres::start();
    let mut target = Target::at(server.address);
    login(&mut target, &[("username", "shop"), ("password", server.password), ("database", server.database)]);
    probe(&Check::Postgresql, &target, LONG).await.unwrap();
    login(&mut target, &[("uri", &server.uri())]);
    probe(&Check::Postgresql, &target, LONG).await.unwrap();
    // It says farewell, and is gone from the server's list.
    assert!(servers::wait_until(|| {
        server.sql("select count(*) from pg_stat_activity where application_name = 'ostler-probe'") == "0"
    }));
    login(&mut target, &[("username", "shop"), ("password", "wrong-one"), ("database", server.database)]);
    assert_eq!(kind(&Check::Postgresql, &target).await, SymptomKind::WrongCredentials);
    login(&mut target, &[("username", "stranger"), ("password", "wrong-one"), ("database", server.database)]);
    assert_eq!(kind(&Check::Postgresql, &target).await, SymptomKind::WrongCredentials);
    login(&mut target, &[("username", "shop"), ("database", server.database)]);
    assert_eq!(kind(&Check::Postgresql, &target).await, SymptomKind::WrongCredentials);
    login(&mut target, &[("username", "shop"), ("password", server.password), ("database", "nowhere")]);
    assert_eq!(kind(&Check::Postgresql, &target).await, SymptomKind::WrongAnswer);
    assert_eq!(kind(&Check::Redis, &target).await, SymptomKind::Broken);
    server.stop();
    assert_eq!(kind(&Check::Postgresql, &target).await, SymptomKind::Refused);
}

#[tokio::test]
async fn redis() {
    let mut server = Redis::start();
    let mut target = Target::at(server.address);
    login(&mut target, &[("password", server.password)]);
    probe(&Check::Redis, &target, LONG).await.unwrap();
    login(&mut target, &[("username", server.username), ("password", server.password)]);
    probe(&Check::Redis, &target, LONG).await.unwrap();
    login(&mut target, &[("uri", &server.uri())]);
    probe(&Check::Redis, &target, LONG).await.unwrap();
    login(&mut target, &[("username", server.username), ("password", "wrong-one")]);
    assert_eq!(kind(&Check::Redis, &target).await, SymptomKind::WrongCredentials);
    target.credentials = None;
    assert_eq!(kind(&Check::Redis, &target).await, SymptomKind::WrongCredentials);
    login(&mut target, &[("username", "limited"), ("password", server.password)]);
    assert_eq!(kind(&Check::Redis, &target).await, SymptomKind::WrongAnswer); // it may not PING
    server.stop();
    assert_eq!(kind(&Check::Redis, &target).await, SymptomKind::Refused);
}

#[tokio::test]
async fn a_watch_sees_a_server_come_and_go() {
    let mut server = Redis::start();
    server.stop();
    let mut target = Target::at(server.address);
    login(&mut target, &[("username", server.username), ("password", server.password)]);
    let policy = ProbePolicy {
        ready: Check::Redis,
        deep: Some(Check::Tcp),
        every: Span::millis(20),
        timeout: Span::seconds(60),
        start_within: Span::seconds(60),
    };
    let seen = Arc::new(Mutex::new(Vec::new()));
    let report = {
        let seen = Arc::clone(&seen);
        move |health| seen.lock().unwrap().push(health)
    };
    let id = "cache-1".parse().unwrap();
    let watching = tokio::spawn(async move { watch(&id, &policy, &target, None, report).await });
    let expect = async |count: usize| {
        while seen.lock().unwrap().len() < count {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        seen.lock().unwrap()[count - 1].clone()
    };
    let unready = |health: Health| matches!(health, Health::Unready(s) if s.kind == SymptomKind::Refused);
    assert!(unready(expect(1).await)); // it never comes
    server.start_again();
    assert_eq!(expect(2).await, Health::Ready);
    server.stop();
    let third = expect(3).await;
    assert!(matches!(third, Health::Unready(_)), "{third:?}");
    watching.abort();
    let _ = watching.await;
    assert_eq!(Arc::strong_count(&seen), 1, "what is dropped is over");
}
