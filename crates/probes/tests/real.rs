//! The probes against the real servers, through their whole lives.

#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

mod servers;

use std::sync::{Arc, Mutex};
use std::time::Duration;

use ostler_model::binding::{Credentials, Secret};
use ostler_model::catalog::ProbePolicy;
use ostler_model::estate::Check;
use ostler_model::estate::contract::{AmqpCheck, ContractCheck};
use ostler_model::health::{Health, SymptomKind};
use ostler_model::time::Span;
use ostler_probes::{Exercised, Target, Word, exercise, keeps, probe, watch};
use servers::mariadb::MariaDb;
use servers::rabbitmq::RabbitMq;
use servers::{Postgres, Redis};

const LONG: Duration = Duration::from_secs(60);

fn login(target: &mut Target, fields: &[(&str, &str)]) {
    let fields = fields.iter().map(|(name, value)| ((*name).to_owned(), Secret::new(*value))).collect();
    target.credentials = Some(Credentials { fields, ..Credentials::default() });
}

async fn kind(check: &Check, target: &Target) -> SymptomKind {
    let symptom = probe(check, target, LONG).await.expect_err("it should have failed");
    for secret in target.credentials.iter().filter_map(|credentials| credentials.get("password")) {
        assert!(secret.is_empty() || !symptom.detail.contains(secret), "{symptom}");
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
async fn mysql() {
    let mut server = MariaDb::start();
    let mut target = Target::at(server.address);
    let ours = [("username", server.username), ("password", server.password), ("database", server.database)];
    login(&mut target, &ours);
    probe(&Check::Mysql, &target, LONG).await.unwrap();
    login(&mut target, &[("uri", &server.uri())]);
    probe(&Check::Mysql, &target, LONG).await.unwrap();
    probe(&Check::Scheme, &target, LONG).await.unwrap();
    let sql = |query: &str, expect: &str| ContractCheck::Sql { query: query.to_owned(), expect: expect.to_owned() };
    for (query, expect) in [
        ("select 1", "true"),
        ("select count(*) >= 1 from information_schema.tables", "true"),
        ("select 'a' union all select 'b'", "a"),
        ("select '' as nothing", ""),
        ("select repeat('x', 300)", &"x".repeat(300)),
    ] {
        keeps(&sql(query, expect), &target, LONG).await.unwrap_or_else(|symptom| panic!("{query}: {symptom}"));
    }
    for (query, words) in [
        ("select 2", "did not answer the statement with 1, but with 2"),
        ("select null", "but with null"),
        ("select 1 where false", "but with nothing"),
        ("do 1", "but with nothing"),
        ("select * from missing", "Table 'books.missing' doesn't exist"),
        ("select 1; drop database books", "error in your SQL syntax"),
        ("select repeat('x', 70000)", "longer than 64 KiB"),
        ("load data local infile '/etc/passwd' into table t", "answered"),
    ] {
        let symptom = keeps(&sql(query, "1"), &target, LONG).await.expect_err(query);
        assert!(symptom.kind == SymptomKind::WrongAnswer && symptom.detail.contains(words), "{query}: {symptom}");
    }
    assert_eq!(exercise(&target, "w0rd", LONG).await, Ok(Exercised { protocol: "mysql", wrote: true }));
    keeps(&sql("select count(*) from information_schema.tables where table_schema = 'books'", "0"), &target, LONG)
        .await
        .expect("nothing is left behind");
    login(&mut target, &[("uri", &server.uri()), ("username", "limited")]);
    probe(&Check::Mysql, &target, LONG).await.unwrap();
    let symptom = exercise(&target, "w0rd", LONG).await.expect_err("it may not write");
    assert!(symptom.detail.contains("CREATE TEMPORARY TABLES"), "{symptom}");
    login(&mut target, &[("uri", &server.uri()), ("username", "admin")]);
    let _ = keeps(&sql("set global read_only = on", ""), &target, LONG).await;
    let symptom = exercise(&target, "w0rd", LONG).await.expect_err("it cannot be written to");
    assert!(symptom.detail.contains("can only be read"), "{symptom}");
    for (fields, expected) in [
        ([("username", "shop"), ("password", "wrong-one"), ("database", "books")], SymptomKind::WrongCredentials),
        ([("username", "stranger"), ("password", "wrong-one"), ("database", "books")], SymptomKind::WrongCredentials),
        ([("username", "shop"), ("password", ""), ("database", "books")], SymptomKind::WrongCredentials),
        ([("username", "shop"), ("password", server.password), ("database", "nowhere")], SymptomKind::WrongAnswer),
        ([("username", "local"), ("password", "wrong-one"), ("database", "books")], SymptomKind::WrongCredentials),
    ] {
        login(&mut target, &fields);
        assert_eq!(kind(&Check::Mysql, &target).await, expected, "{fields:?}");
    }
    assert_eq!(kind(&Check::Amqp, &target).await, SymptomKind::WrongAnswer);
    server.stop();
    assert_eq!(kind(&Check::Mysql, &target).await, SymptomKind::Refused);
    // Each that was let in has said farewell, but the one that was given too much: it may have been faster to close.
    let log = server.log();
    let aborted = log.lines().filter(|line| line.contains("Aborted connection") && !line.contains("unauthenticated"));
    assert!(log.contains("Aborted connection") && aborted.count() <= 1, "{log}");
}

#[tokio::test]
async fn amqp() {
    let mut server = RabbitMq::start();
    let mut target = Target::at(server.address);
    let host = server.virtual_host;
    login(&mut target, &[("username", server.username), ("password", server.password), ("vhost", host)]);
    probe(&Check::Amqp, &target, LONG).await.unwrap();
    login(&mut target, &[("uri", &server.uri())]);
    probe(&Check::Amqp, &target, LONG).await.unwrap();
    probe(&Check::Scheme, &target, LONG).await.unwrap();
    assert_eq!(exercise(&target, "w0rd", LONG).await, Ok(Exercised { protocol: "amqp", wrote: true }));
    for check in [AmqpCheck::RoundTrip, AmqpCheck::Queue("orders".to_owned()), AmqpCheck::Exchange("events".to_owned())]
    {
        keeps(&ContractCheck::Amqp(check), &target, LONG).await.unwrap();
    }
    for (check, words) in [
        (AmqpCheck::Queue("missing".to_owned()), "no queue 'missing' in vhost 'books/eu'"),
        (AmqpCheck::Exchange("missing".to_owned()), "no exchange 'missing' in vhost 'books/eu'"),
    ] {
        let symptom = keeps(&ContractCheck::Amqp(check), &target, LONG).await.expect_err(words);
        assert!(symptom.kind == SymptomKind::WrongAnswer && symptom.detail.contains(words), "{symptom}");
    }
    login(&mut target, &[("uri", &server.uri()), ("username", "limited")]);
    probe(&Check::Amqp, &target, LONG).await.unwrap();
    keeps(&ContractCheck::Amqp(AmqpCheck::Queue("orders".to_owned())), &target, LONG).await.unwrap();
    let symptom = exercise(&target, "w0rd", LONG).await.expect_err("it may not make a queue");
    assert!(symptom.kind == SymptomKind::WrongAnswer && symptom.detail.contains("takes the right"), "{symptom}");
    for (username, password, host, expected) in [
        (server.username, "wrong-one", host, SymptomKind::WrongCredentials),
        ("nobody-here", server.password, host, SymptomKind::WrongCredentials),
        (server.username, "", host, SymptomKind::WrongCredentials),
        ("stranger", server.password, host, SymptomKind::WrongAnswer),
        (server.username, server.password, "nowhere", SymptomKind::WrongAnswer),
    ] {
        login(&mut target, &[("username", username), ("password", password), ("vhost", host)]);
        assert_eq!(kind(&Check::Amqp, &target).await, expected, "{username} in {host}");
    }
    assert_eq!(server.control(&["list_queues", "--vhost", host, "--no-table-headers", "name"]).trim(), "orders");
    assert!(servers::wait_until(|| server.control(&["list_connections", "pid"]).trim().is_empty()));
    // Each has said farewell but the one that only saw that the server was there.
    assert_eq!(server.log().matches("unexpectedly closed").count(), 1, "{}", server.log());
    // A server that is short of memory lets people in, and takes no messages.
    server.control(&["set_vm_memory_high_watermark", "absolute", "1MB"]);
    login(&mut target, &[("uri", &server.uri())]);
    let symptom = exercise(&target, "w0rd", LONG).await.expect_err("it takes no messages");
    assert!(symptom.detail.contains("takes no messages at the moment"), "{symptom}");
    server.stop();
    assert_eq!(kind(&Check::Amqp, &target).await, SymptomKind::Refused);
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
        move |word| match word {
            Word::Health(health) => seen.lock().unwrap().push(health),
            Word::Answered(took) => assert!(took > Duration::ZERO),
        }
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
