//! Instances on the side, and backups over a binding.

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use ostler_model::binding::{Credentials, Secret};
use ostler_model::outcome::FailureClass;
use ostler_providers::Provider;
use ostler_providers::host::{Definitions, Outside, Scratch};

use crate::machine::{GRANT, Machine, Watcher, eventually, nobody, secrets};
use crate::postgresql::{bind, counted, query};

/// How many processes work in `folder`.
fn at_work_in(folder: &Path) -> usize {
    let entries = std::fs::read_dir("/proc").unwrap().flatten();
    entries.filter(|entry| std::fs::read_link(entry.path().join("cwd")).is_ok_and(|at| at.starts_with(folder))).count()
}

fn until(what: &str, condition: impl Fn() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(60);
    while !condition() {
        assert!(Instant::now() < deadline, "waited in vain until {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[tokio::test]
async fn a_backup_is_restored_on_the_side_and_nothing_is_left_of_it() {
    let machine = Machine::new();
    let mut order = machine.order("db-1", "postgresql").await;
    let address = machine.up(&mut order).await;
    let web = bind(&machine, &order, "web", address).await;
    query(&web, "create table books as select generate_series(1, 100) as id").await.unwrap();
    let file = machine.home.path().join("monday");
    let made = machine.provider.backup(&order, &file).await.unwrap();

    let folder = machine.home.path().join("scratch/db");
    for killed in [false, true] {
        let scratch = Scratch::new(folder.clone(), Definitions::builtin().unwrap()).await.unwrap();
        let mut aside = order.clone();
        aside.secret = scratch.provider().provision(&aside, nobody()).await.unwrap();
        scratch.provider().start(&aside, GRANT).await.unwrap();
        assert!(scratch.runs(&aside.instance).await && at_work_in(&folder) > 0);
        eventually(async || scratch.provider().restore(&aside, &file).await).await;
        assert_eq!(scratch.provider().count(&aside).await.unwrap(), made.counted);
        assert!(scratch.room() > 0);
        if killed {
            drop(scratch); // as when whoever waited for it is gone
            until("it has ended with its owner", || at_work_in(&folder) == 0);
        } else {
            scratch.end().await.unwrap();
            assert_eq!((at_work_in(&folder), folder.exists()), (0, false));
        }
    }
    assert_eq!(query(&web, "select count(*) from books").await.unwrap(), ["100"], "nobody touched the real one");
}

/// Both who ran it and who watched over that were killed: it is found before the next one is made.
#[tokio::test]
async fn what_was_left_running_is_ended_first() {
    let home = tempfile::tempdir().unwrap();
    let folder = home.path().join("scratch/db");
    std::fs::create_dir_all(folder.join("data")).unwrap();
    let sleep = || Command::new("sleep").arg("1000").stdin(Stdio::null()).spawn().unwrap();
    let mut left = Command::new("sleep").arg("1000").current_dir(folder.join("data")).spawn().unwrap();
    let mut other = sleep();
    Scratch::new(folder.clone(), Definitions::builtin().unwrap()).await.unwrap();
    assert!(!left.wait().unwrap().success());
    assert!(other.try_wait().unwrap().is_none(), "nobody else is touched");
    other.kill().unwrap();
    other.wait().unwrap();
    assert!(!folder.join("data").exists());
}

#[tokio::test]
async fn what_is_bought_is_backed_up_and_restored_over_a_binding() {
    let machine = Machine::new();
    let watcher = Watcher::new();
    let outside = Outside::new(Definitions::builtin().unwrap(), machine.home.path().join("work"));
    let mut order = machine.order("db-1", "postgresql").await;
    let address = machine.up(&mut order).await;
    let web = bind(&machine, &order, "web", address).await;
    query(
        &web,
        "create extension if not exists pg_trgm; create schema side; create type mood as enum ('good'); \
         create function one() returns int language sql as 'select 1'; \
         create table books (id serial primary key, title text, mood mood default 'good'); \
         create table side.pages (id int references books on delete cascade); create view titles as select title from books; \
         insert into books (title) values ('Emma'), ('Ulysses'); insert into side.pages values (1), (2), (2)",
    )
    .await
    .unwrap();
    let file = machine.home.path().join("monday");
    let made = outside.backup(&order.instance, &web, &file).await.unwrap();
    assert_eq!((made.kind.as_str(), made.counted.clone()), ("postgresql", counted(&[("rows", 5), ("tables", 2)])));

    // Everything since is gone, everything from then is back, and its sequences go on.
    query(&web, "drop table side.pages; create table later (id int); update books set title = 'x'").await.unwrap();
    outside.restore(&order.instance, &web, &file).await.unwrap();
    assert_eq!(machine.provider.count(&order).await.unwrap(), made.counted);
    assert_eq!(query(&web, "select title from titles order by 1").await.unwrap(), ["Emma", "Ulysses"]);
    assert_eq!(query(&web, "insert into books (title) values ('Ivanhoe') returning id").await.unwrap(), ["3"]);
    let jobs = bind(&machine, &order, "jobs", address).await;
    assert_eq!(query(&jobs, "select count(*) from books").await.unwrap(), ["3"], "others can use it");

    // A backup that ends in the middle, and none at all, change nothing.
    let whole = std::fs::read(&file).unwrap();
    for wrong in [&whole[..whole.len() - 200], b"nonsense"] {
        let path = machine.home.path().join("wrong");
        std::fs::write(&path, wrong).unwrap();
        let failure = outside.restore(&order.instance, &web, &path).await.unwrap_err();
        assert!(failure.detail.contains("pg_restore: error"), "{failure}");
        assert_eq!(query(&web, "select count(*) from books").await.unwrap(), ["3"]);
    }

    // The same format in both directions.
    let mut other = machine.order("db-2", "postgresql").await;
    let other_address = machine.up(&mut other).await;
    let other_web = bind(&machine, &other, "web", other_address).await;
    machine.provider.restore(&other, &file).await.unwrap();
    assert_eq!(query(&other_web, "select count(*) from side.pages").await.unwrap(), ["3"]);
    let host_made = machine.home.path().join("tuesday");
    machine.provider.backup(&other, &host_made).await.unwrap();
    outside.restore(&order.instance, &web, &host_made).await.unwrap();
    assert_eq!(query(&web, "select count(*) from books").await.unwrap(), ["2"]);

    let arguments = watcher.seen();
    assert!(arguments.contains("pg_dump") && arguments.contains("pg_restore"), "the watcher saw the steps");
    for secret in secrets(&web) {
        assert!(!arguments.contains(&secret), "a secret was in a process's arguments");
    }
}

/// What `scripts/setup.sh test` brings beside the system's own PostgreSQL.
fn two_majors(folder: &Path) -> Definitions {
    let newer = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target/test-tools/postgresql/17.10");
    let newer = newer.canonicalize().expect("PostgreSQL 17 is missing: run `scripts/setup.sh test`");
    std::fs::create_dir_all(folder.join("postgresql")).unwrap();
    std::os::unix::fs::symlink(newer, folder.join("postgresql/17.10")).unwrap();
    Definitions::builtin().unwrap().with_versions(folder)
}

/// The newest programs say to an older server what it does not know (`SET transaction_timeout`).
#[tokio::test]
async fn a_server_is_read_and_written_by_programs_that_it_understands() {
    let folder = tempfile::Builder::new().prefix("ostler-versions").tempdir_in("/tmp").unwrap();
    std::fs::set_permissions(folder.path(), std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    let machine = Machine::with(two_majors(folder.path()));
    let outside = Outside::new(two_majors(&folder.path().join("outside")), machine.home.path().join("work"));
    let catalog = machine.provider.catalog().await.unwrap();
    let versions = &catalog.offerings[&"postgresql".parse().unwrap()].versions;
    let (oldest, newest) = (versions.first().unwrap(), versions.last().unwrap());
    assert!(oldest.major() < 17 && newest.major() == 17, "{versions:?}");
    let mut bindings = Vec::new();
    for (instance, version) in [("old-1", oldest), ("new-1", newest)] {
        let mut order = machine.order(instance, "postgresql").await;
        order.placement.version = Some(version.clone());
        let address = machine.up(&mut order).await;
        let web = bind(&machine, &order, "web", address).await;
        bindings.push((order, web));
    }
    let [(old, old_web), (new, new_web)] = &bindings[..] else { panic!("there are two") };
    let rows = "create table books as select g as id, 'SET transaction_timeout = 0;'::text as title \
                from generate_series(1, 50) g";
    query(old_web, rows).await.unwrap();
    let all = "select count(*) || min(title) from books";

    // There and back at the old one; and from it to the new one.
    let file = machine.home.path().join("monday");
    let made = outside.backup(&old.instance, old_web, &file).await.unwrap();
    assert_eq!(made.version.as_ref(), Some(oldest));
    query(old_web, "delete from books").await.unwrap();
    outside.restore(&old.instance, old_web, &file).await.unwrap();
    let expected = query(old_web, all).await.unwrap();
    assert_eq!(query(old_web, "select count(*) from books").await.unwrap(), ["50"]);
    outside.restore(&new.instance, new_web, &file).await.unwrap();
    assert_eq!(query(new_web, all).await.unwrap(), expected);

    // What the newer one made is only read by newer programs, and the older server takes it all the same.
    let file = machine.home.path().join("tuesday");
    let made = outside.backup(&new.instance, new_web, &file).await.unwrap();
    assert_eq!(made.version.as_ref(), Some(newest));
    query(old_web, "drop table books").await.unwrap();
    outside.restore(&old.instance, old_web, &file).await.unwrap();
    assert_eq!(query(old_web, all).await.unwrap(), expected);

    // What is older than a server does not read it: that is said, with what would.
    let only_old = Outside::new(Definitions::builtin().unwrap(), machine.home.path().join("work"));
    let failure = only_old.backup(&new.instance, new_web, &file).await.unwrap_err();
    assert_eq!(failure.class, FailureClass::NeedsPerson);
    let (detail, remedy) = (&failure.detail, &failure.remedy);
    assert!(detail.contains(&format!("its server is postgresql {newest}")) && remedy.contains("or newer"), "{failure}");
}

#[tokio::test]
async fn only_what_is_known_from_outside_is_dealt_with_from_there() {
    let home = tempfile::tempdir().unwrap();
    let outside = Outside::new(Definitions::builtin().unwrap(), home.path().join("work"));
    let kind = async |words: &[&str]| {
        let words: Vec<String> = words.iter().map(|word| (*word).to_owned()).collect();
        outside.kind_of(&words).await.map(|kind| kind.to_string())
    };
    assert_eq!(kind(&["big-db", "sql", "postgres"]).await.as_deref(), Some("postgresql"));
    assert_eq!(kind(&["postgresql"]).await.as_deref(), Some("postgresql"));
    assert_eq!(kind(&["redis", "cache"]).await, None, "others may not replicate from what is bought");
    let mut credentials = Credentials::default();
    for (uri, why) in [
        (None, "there is no URI in its binding"),
        (Some("redis://u:hunter2@127.0.0.1:1/0"), "no offering of this machine knows how to, for `redis://`"),
    ] {
        credentials.fields.extend(uri.map(|uri| ("uri".to_owned(), Secret::new(uri))));
        let failure = outside.backup(&"db-1".parse().unwrap(), &credentials, Path::new("/nowhere")).await.unwrap_err();
        assert_eq!(failure.class, FailureClass::NeedsPerson);
        assert!(failure.detail.contains(why) && !failure.detail.contains("hunter2"), "{failure}");
    }
}
