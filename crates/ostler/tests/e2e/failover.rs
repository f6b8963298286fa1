//! Moves to another provider: with all data, or with as much of it as was said before, whatever is killed on the way.

use std::fs;
use std::path::Path;
use std::process::Command;

use serde_json::Value;

use crate::harness::kills::Killed;
use crate::harness::{Caller, Ostler, Said, bookshop, finish, http, kill, signal, wait_until};

const ROWS: u64 = 100_000;
const CONTRACT: &str = "contract = [{ need = \"db\", name = \"there are books\", sql = \"select count(*) > 0 from books\", expect = \"true\" }]";

/// The bookshop with a second place for what it buys. `data` are further lines of the database.
fn two_places(data: &str) -> String {
    let text = bookshop("", CONTRACT).replacen("instances = 2", "instances = 1", 1);
    let there = "\n[provider.there]\nkind = \"host\"\nregion = \"eu-local\"\n\n[service.db]";
    text.replacen("\n[service.db]", there, 1).replacen("\"postgresql\"\n", &format!("\"postgresql\"\n{data}\n"), 1)
}

/// A statement with the web program's own credentials, by the way that it goes.
pub(crate) fn sql(ostler: &Ostler, statement: &str) -> Result<String, String> {
    let uri = fs::read_to_string(ostler.home.join("instances/web-1/bindings/db/uri")).unwrap();
    let mut command = Command::new("psql");
    command.args([uri.trim(), "-X", "-q", "-A", "-t", "-v", "ON_ERROR_STOP=1", "-c", statement]);
    command.env("PGCONNECT_TIMEOUT", "60");
    let Said { code, out, err } = finish(command, crate::harness::WITHIN);
    if code == 0 { Ok(out.trim().to_owned()) } else { Err(err) }
}

pub(crate) fn fill(ostler: &Ostler) -> String {
    sql(
        ostler,
        &format!("create table rows as select g as id, md5(g::text) as text from generate_series(1, {ROWS}) g"),
    )
    .unwrap();
    counted(ostler)
}

/// How many rows there are, and what all of them together come to.
pub(crate) fn counted(ostler: &Ostler) -> String {
    sql(ostler, "select count(*), sum(hashtext(text)), sum(id) from rows").unwrap()
}

/// The instance that answers at the service's endpoint, by the port that the server itself says it listens on.
fn who_answers(ostler: &Ostler) -> String {
    let port: u64 = sql(ostler, "select current_setting('port')").unwrap().parse().unwrap();
    let service = ostler.service("db");
    let instances = service["instances"].as_array().unwrap();
    let at = |instance: &&Value| instance["address"].as_str().is_some_and(|a| a.ends_with(&format!(":{port}")));
    instances.iter().find(at).unwrap_or_else(|| panic!("nobody is at {port}: {service}"))["id"]
        .as_str()
        .unwrap()
        .to_owned()
}

/// Instances of the database whose servers run.
pub(crate) fn running(ostler: &Ostler) -> Vec<String> {
    // A process of a server may end just while it is looked at, and then has no parent any more. A twin stays.
    wait_until("each instance has one main process", || ostler.mains().values().all(|pids| pids.len() == 1));
    let mains = ostler.mains();
    mains.into_keys().filter(|id| id.starts_with("db-")).collect()
}

fn state(ostler: &Ostler, id: &str) -> String {
    let service = ostler.service("db");
    let found = service["instances"].as_array().unwrap().iter().find(|instance| instance["id"] == id);
    found.unwrap_or_else(|| panic!("no {id}: {service}"))["state"].as_str().unwrap().to_owned()
}

#[test]
fn a_hundred_thousand_rows_are_moved_and_nothing_is_lost() {
    let ostler = Ostler::up(&two_places(""));
    let shop = ostler.endpoint("web");
    let order = http::order(shop, 2);
    let before = fill(&ostler);
    let web = ostler.pids("web");
    let visitor = Caller::getting(shop, "/style.css"); // what needs no database is served all the time

    let shown = ostler.json(&["failover", "db", "--preview"]);
    assert_eq!((&shown["from"], &shown["to"], &shown["lost_since"]), (&"here".into(), &"there".into(), &Value::Null));
    assert!(shown["loses"].as_str().unwrap().starts_with("nothing"), "{shown}");
    let unconfirmed = ostler.run(&["failover", "db"]);
    assert!(unconfirmed.code == 1 && unconfirmed.err.contains("It loses nothing"), "{unconfirmed}");

    let moved = ostler.json(&["failover", "db", "--yes"]);
    assert_eq!(
        (&moved["from"], &moved["to"], &moved["lost"]),
        (&"here".into(), &"there".into(), &"nothing is lost".into())
    );
    assert_eq!(counted(&ostler), before);
    assert_eq!(who_answers(&ostler), "db-2");
    ostler.until_settled();
    visitor.stop_without_failure();
    assert_eq!(ostler.pids("web"), web, "it goes on with the credentials that it has");
    assert!(http::orders(shop).contains(&order));
    http::order(shop, 3);
    assert_eq!((state(&ostler, "db-1"), running(&ostler)), ("retained".to_owned(), vec!["db-2".to_owned()]));
    assert_eq!(ostler.service("db")["provider"], "there");

    // What is fenced stays so, whoever is killed and whatever comes back.
    ostler.kill_all_of_it();
    ostler.ok(&["up", "--detach", "ostler.toml"]);
    assert_eq!((who_answers(&ostler), counted(&ostler)), ("db-2".to_owned(), before.clone()));
    assert_eq!(running(&ostler), ["db-2"]);

    // The old one is deleted by name alone.
    let used = ostler.run(&["discard", "db-2", "--yes"]);
    assert!(used.code == 1 && used.err.contains("it serves"), "{used}");
    assert!(ostler.home.join("instances/db-1").exists());
    ostler.ok(&["discard", "db-1", "--yes"]);
    assert!(!ostler.home.join("instances/db-1").exists());
    assert_eq!(counted(&ostler), before);
}

/// The server dies, and can be started no more.
fn ruin(ostler: &Ostler, id: &str) {
    let data = ostler.home.join("instances").join(id).join("data");
    let server = ostler.pids("db")[0];
    fs::rename(data.join("PG_VERSION"), data.join("PG_VERSION.lost")).unwrap();
    kill(server);
    ostler.until("it is found to be ruined", |status| {
        let service = status["services"].as_array().unwrap().iter().find(|service| service["name"] == "db").unwrap();
        let instance = service["instances"].as_array().unwrap().iter().find(|i| i["id"] == id).unwrap();
        instance["state"] == "failed" || instance["state"] == "held"
    });
}

fn corrupt(ostler: &Ostler, backup: &str) {
    let path = ostler.home.join("backups/db").join(backup);
    let mut bytes = fs::read(&path).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 0xff;
    fs::write(Path::new(&path), bytes).unwrap();
}

#[test]
fn what_is_lost_is_said_before_and_after_and_a_corrupt_backup_is_passed_over() {
    let ostler = Ostler::up(&two_places("failover = { loses_at_most = \"1h\" }"));
    fill(&ostler);
    ostler.ok(&["backup", "db", "--name", "good"]);
    let good = counted(&ostler);
    sql(&ostler, "insert into rows values (0, 'after the good backup')").unwrap();
    ostler.ok(&["backup", "db", "--name", "corrupt"]);
    corrupt(&ostler, "corrupt");
    ruin(&ostler, "db-1");

    let shown = ostler.json(&["failover", "db", "--preview"]);
    assert_eq!(shown["backup"], "corrupt", "nobody knows yet that it is: {shown}");
    assert!(shown["loses"].as_str().unwrap().starts_with("what was written in the last "), "{shown}");
    let moved = ostler.json(&["failover", "db", "--yes"]);
    let backups = ostler.service("db")["backups"].clone();
    let made = backups.as_array().unwrap().iter().find(|backup| backup["name"] == "good").unwrap();
    assert_eq!(moved["lost_since"], made["at"], "{moved}");
    assert_eq!(counted(&ostler), good, "exactly what was said is lost");
    let why = ostler.ok(&["why", "db"]).out;
    assert!(why.contains("backup corrupt is no good") && why.contains("it was moved from here to there"), "{why}");
    assert_eq!(running(&ostler), ["db-2"]);
}

#[test]
fn a_restore_that_fails_is_asked_about_and_can_be_taken_back() {
    let ostler = Ostler::up(&two_places(""));
    let before = fill(&ostler);
    ostler.ok(&["backup", "db", "--name", "corrupt"]);
    corrupt(&ostler, "corrupt");
    let server = ostler.pids("db")[0];
    // It hangs: it cannot be backed up once more, and a person must accept what is lost.
    signal(server, "STOP");
    ostler.until("it is not ready", |status| {
        let service = status["services"].as_array().unwrap().iter().find(|service| service["name"] == "db").unwrap();
        service["instances"][0]["state"] != "ready"
    });
    let refused = ostler.run(&["failover", "db", "--yes"]);
    assert!(refused.code == 1 && refused.err.contains("--accept-loss"), "{refused}");
    let held = ostler.run(&["failover", "db", "--accept-loss", "--yes"]);
    assert!(held.code == 1 && held.err.contains("is damaged") && held.err.contains("--back"), "{held}");
    ostler.until_state("db", "held");
    assert!(ostler.ok(&["status"]).out.contains("What to do: `ostler failover db --back`"), "{held}");
    let back = ostler.json(&["failover", "db", "--back", "--yes"]);
    assert_eq!(back["returned"], true);
    ostler.until_settled();
    assert_eq!((counted(&ostler), who_answers(&ostler)), (before, "db-1".to_owned()));
    wait_until("what was made for it is deleted", || !ostler.home.join("instances/db-2").exists());
    assert_eq!(running(&ostler), ["db-1"]);
}

#[test]
fn killed_at_any_step_a_move_goes_on_and_nothing_is_doubled_or_lost() {
    let ostler = Ostler::up(&two_places(""));
    let before = fill(&ostler);
    // A move is about thirty facts.
    for (round, facts) in [0, 1, 3, 7, 10, 13, 16, 19, 22].into_iter().enumerate() {
        ostler.until_settled();
        let killed = if round % 2 == 0 { Killed::Manager } else { Killed::All };
        ostler.kill_in_a_move(&["failover", "db", "--yes"], facts, killed);
        let place = if round % 2 == 0 { "there" } else { "here" };
        let db = ostler.service("db");
        let newest = format!("db-{}", round + 2);
        assert_eq!(
            (&db["provider"], who_answers(&ostler)),
            (&place.into(), newest.clone()),
            "killed after {facts}: {db}"
        );
        assert_eq!(counted(&ostler), before, "killed after {facts} facts");
        assert_eq!(running(&ostler), [newest], "killed after {facts} facts");
        assert_eq!(db["instances"].as_array().unwrap().len(), round + 2, "what a move left is kept: {db}");
    }
}
