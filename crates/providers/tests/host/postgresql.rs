//! PostgreSQL as the definition file describes it.

use std::net::SocketAddr;
use std::sync::atomic::Ordering;

use ostler_model::binding::{Credentials, Secret};
use ostler_model::ids::BindingId;
use ostler_model::outcome::{Counted, FailureClass};
use ostler_providers::{InstanceOrder, Provider};

use crate::machine::{GRACE, GRANT, Machine, Said, Watcher, eventually, mode, nobody, secrets};

pub(crate) fn binding(consumer: &str) -> BindingId {
    BindingId { consumer: consumer.parse().unwrap(), need: "db".parse().unwrap() }
}

pub(crate) async fn bind(machine: &Machine, order: &InstanceOrder, consumer: &str, address: SocketAddr) -> Credentials {
    let binding = binding(consumer);
    // The port accepts connections a little before the server does.
    eventually(async || machine.provider.bind(order, &binding, address, None).await).await.credentials
}

pub(crate) async fn query(credentials: &Credentials, sql: &str) -> Result<Vec<String>, String> {
    let uri = credentials.uri().unwrap();
    let (client, connection) =
        tokio_postgres::connect(uri, tokio_postgres::NoTls).await.map_err(|error| format!("{error:?}"))?;
    let connection = tokio::spawn(connection);
    let answer = client.simple_query(sql).await.map_err(|error| format!("{error:?}"));
    drop(client);
    let _ = connection.await;
    Ok(answer?
        .into_iter()
        .filter_map(|message| match message {
            tokio_postgres::SimpleQueryMessage::Row(row) => row.get(0).map(str::to_owned),
            _ => None,
        })
        .collect())
}

#[tokio::test]
async fn it_keeps_the_contract() {
    let machine = Machine::new();
    let order = machine.order("db-1", "postgresql").await;
    crate::suite::every_call_is_safe_to_repeat(&machine.provider, order).await;
}

#[tokio::test]
async fn consumers_share_tables_and_data_survives() {
    let mut machine = Machine::new();
    let mut order = machine.order("db-1", "postgresql").await;
    let address = machine.up(&mut order).await;
    let web = bind(&machine, &order, "web", address).await;
    let jobs = bind(&machine, &order, "jobs", address).await;
    query(&web, "create table books (title text); insert into books values ('Emma')").await.unwrap();
    assert_eq!(query(&jobs, "insert into books values ('Ulysses') returning title").await.unwrap(), ["Ulysses"]);
    assert_eq!(web.uri().unwrap().split('/').next_back(), Some("db"));
    assert_eq!(query(&web, "show data_checksums").await.unwrap(), ["on"]);
    assert_eq!(query(&web, "select current_setting('listen_addresses')").await.unwrap(), ["127.0.0.1"]);

    machine.provider.stop(&order, GRACE).await.unwrap();
    machine.another_manager();
    assert_eq!(machine.start(&order).await, address, "the port is kept");
    let titles = eventually(async || query(&jobs, "select title from books order by 1").await).await;
    assert_eq!(titles, ["Emma", "Ulysses"]);

    machine.provider.unbind(&order, &binding("jobs")).await.unwrap();
    let refused = query(&jobs, "select 1").await.unwrap_err();
    assert!(refused.contains("not permitted to log in") || refused.contains("28"), "{refused}");
    assert_eq!(query(&web, "select count(*) from books").await.unwrap(), ["2"]);
    // The same credentials work again when they are asked for again.
    machine.provider.bind(&order, &binding("jobs"), address, Some(&jobs)).await.unwrap();
    assert_eq!(query(&jobs, "select 1").await.unwrap(), ["1"]);
}

#[tokio::test]
async fn a_backup_restores_and_a_damaged_one_does_not() {
    let machine = Machine::new();
    let mut order = machine.order("db-1", "postgresql").await;
    let watcher = Watcher::new();
    let said = Said::default();
    let address = machine.up(&mut order).await;
    let web = bind(&machine, &order, "web", address).await;
    query(
        &web,
        "create table books (id serial primary key, title text not null); insert into books (title) values ('Emma')",
    )
    .await
    .unwrap();
    let file = machine.home.path().join("monday");
    let made = machine.provider.backup(&order, &file).await.unwrap();
    assert_eq!((made.kind.as_str(), made.version), ("postgresql", order.placement.version.clone()));
    assert_eq!(made.counted, counted(&[("rows", 1), ("tables", 1)]));
    assert_eq!(machine.provider.count(&order).await.unwrap(), made.counted);
    assert_eq!(mode(&file), 0o600);
    assert!(!machine.folder("db-1").join("backup").exists(), "nothing is left of the work");

    query(&web, "drop table books").await.unwrap();
    // A consumer that is connected all the while is disconnected, not in the way.
    let (client, connection) = tokio_postgres::connect(web.uri().unwrap(), tokio_postgres::NoTls).await.unwrap();
    let connection = tokio::spawn(connection);
    machine.provider.restore(&order, &file).await.unwrap();
    assert!(client.simple_query("select 1").await.is_err());
    let _ = connection.await;
    let inserted = query(&web, "insert into books (title) values ('Ulysses') returning id").await.unwrap();
    assert_eq!(inserted, ["2"]);

    // Only its first half, then a file that is no backup: both change nothing.
    let whole = std::fs::read(&file).unwrap();
    for wrong in [&whole[..whole.len() / 2], b"nonsense"] {
        std::fs::write(&file, wrong).unwrap();
        let failure = machine.provider.restore(&order, &file).await.unwrap_err();
        assert!(failure.detail.contains("pg_restore"), "{failure}");
        said.note(&failure);
    }
    assert_eq!(query(&web, "select count(*) from books").await.unwrap(), ["2"], "nothing has changed");
    assert_eq!(query(&web, "select count(*) from pg_database where datname like '%.%'").await.unwrap(), ["1"]);

    // The backup goes into another instance of the service as well.
    std::fs::write(&file, &whole).unwrap();
    let mut other = machine.order("db-2", "postgresql").await;
    let other_address = machine.up(&mut other).await;
    let other_web = bind(&machine, &other, "web", other_address).await;
    machine.provider.restore(&other, &file).await.unwrap();
    assert_eq!(query(&other_web, "select title from books").await.unwrap(), ["Emma"]);

    let all: Vec<String> = [&order.secret, &other.secret, &web, &other_web].into_iter().flat_map(secrets).collect();
    assert_eq!(all.len(), 8);
    let arguments = watcher.seen();
    assert!(arguments.contains("pg_restore") && arguments.contains("initdb"), "the watcher saw the steps");
    let log = std::fs::read_to_string(machine.folder("db-1").join("log/db-1.log")).unwrap();
    for secret in &all {
        assert!(!arguments.contains(secret), "a secret was in a process's arguments");
        assert!(!said.0.lock().unwrap().contains(secret), "a secret was in a failure");
        assert!(!log.contains(secret), "a secret was in the server's log");
    }
}

/// A backup that cannot be made whole is not made.
#[tokio::test]
async fn a_table_that_cannot_be_read_is_in_no_backup() {
    let machine = Machine::new();
    let mut order = machine.order("db-1", "postgresql").await;
    let address = machine.up(&mut order).await;
    let web = bind(&machine, &order, "web", address).await;
    query(&web, "create table books (id int); insert into books values (1)").await.unwrap();
    // What the table is kept in is gone.
    let path = query(&web, "select pg_relation_filepath('books')").await.unwrap().remove(0);
    query(&web, "create view broken as select 1 / (id - 1) as x from books").await.unwrap();
    machine.provider.stop(&order, GRACE).await.unwrap();
    std::fs::remove_file(machine.folder("db-1").join("data").join(path)).unwrap();
    machine.start(&order).await;
    let file = machine.home.path().join("monday");
    let failure = eventually(async || match machine.provider.backup(&order, &file).await {
        Err(failure) if failure.detail.contains("could not open file") => Ok(failure),
        other => Err(other),
    });
    assert!(failure.await.detail.contains("psql ended with"));
    assert!(!file.exists() && !machine.folder("db-1").join("backup").exists());
}

pub(crate) fn counted(list: &[(&str, u64)]) -> Counted {
    list.iter().map(|(name, number)| ((*name).to_owned(), *number)).collect()
}

#[tokio::test]
async fn a_failed_statement_shows_no_secret() {
    let machine = Machine::new();
    let mut order = machine.order("db-1", "postgresql").await;
    let address = machine.up(&mut order).await;
    let web = bind(&machine, &order, "web", address).await;
    // A statement that fails with the password in it.
    let mut wrong = web.clone();
    let quoted = Secret::new("it's-a-secret-with-a-quote");
    wrong.fields.insert("password".to_owned(), quoted.clone());
    let failure = machine.provider.bind(&order, &binding("web"), address, Some(&wrong)).await.unwrap_err();
    assert!(failure.detail.contains("psql ended with exit code 3"), "{failure}");
    assert!(!failure.detail.contains("a-secret"), "{failure}");
    let log = std::fs::read_to_string(machine.folder("db-1").join("log/db-1.log")).unwrap();
    assert!(!log.contains("a-secret"), "{log}");
}

#[tokio::test]
async fn data_of_another_major_version_is_left_to_a_person() {
    let machine = Machine::new();
    let mut order = machine.order("db-1", "postgresql").await;
    order.secret = machine.provider.provision(&order, nobody()).await.unwrap();
    let file = machine.folder("db-1").join("data/PG_VERSION");
    std::fs::write(&file, "9\n").unwrap();
    for failure in [
        machine.provider.start(&order, GRANT).await.unwrap_err(),
        machine.provider.provision(&order, nobody()).await.unwrap_err(),
    ] {
        assert_eq!(failure.class, FailureClass::NeedsPerson);
        assert!(failure.detail.contains("was made by postgresql 9 and cannot be used by postgresql"), "{failure}");
        assert!(failure.remedy.contains("back up"), "{}", failure.remedy);
    }
    assert_eq!(std::fs::read_to_string(file).unwrap(), "9\n");
    order.placement.version = Some("99.1".parse().unwrap());
    let failure = machine.provider.start(&order, GRANT).await.unwrap_err();
    assert_eq!(failure.class, FailureClass::NeedsPerson);
    assert!(failure.detail.contains("postgresql 99.1 is not installed"), "{failure}");
}

#[tokio::test]
async fn one_survey_answers_many() {
    let machine = Machine::new();
    let order = machine.order("db-1", "postgresql").await;
    let all = (0..100).map(|_| machine.provider.observe(&order));
    // The futures borrow the provider, so they are driven together here and not spawned.
    let mut futures: Vec<_> = all.collect();
    std::future::poll_fn(|context| {
        futures.retain_mut(|future| future.as_mut().poll(context).is_pending());
        if futures.is_empty() { std::task::Poll::Ready(()) } else { std::task::Poll::Pending }
    })
    .await;
    let surveys = machine.keeper.surveys.load(Ordering::SeqCst);
    assert!(surveys <= 2, "{surveys} surveys for 100 questions");
}
