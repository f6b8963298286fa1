//! Upgrades with real servers: in waves, in place, with the data, taken back, and whatever is killed on the way.

use std::fs;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::fs::PermissionsExt;

use serde_json::Value;

use crate::failover::{counted, fill, running, sql};
use crate::harness::kills::Killed;
use crate::harness::{Caller, NOWHERE, Ostler, WITHIN, bookshop, head, http};

const SOAK: &str = "\n[upgrade]\nsoak = \"1s\"\n";

/// The bookshop, with versions of PostgreSQL side by side; `range` is the database's `version`.
fn shop(ostler: &Ostler, range: &str, contract: &str) -> String {
    let folder = ostler.folder().join("versions");
    let text = bookshop("", contract).replacen("instances = 2", "instances = 1", 1);
    let text = text.replacen("region =", &format!("versions = \"{}\"\nregion =", folder.display()), 1);
    text.replacen("\"postgresql\"\n", &format!("\"postgresql\"\nversion = \"{range}\"\n"), 1) + SOAK
}

fn version(ostler: &Ostler, service: &str) -> String {
    ostler.service(service)["version"].as_str().unwrap().to_owned()
}

/// What the server itself says.
fn served_by(ostler: &Ostler) -> u64 {
    let number: u64 = sql(ostler, "select current_setting('server_version_num')").unwrap().parse().unwrap();
    number / 10_000
}

#[test]
fn postgresql_goes_from_15_to_16_to_17_with_its_data() {
    let ostler = Ostler::new();
    ostler.postgresql_versions(&["15", "16.2"]);
    ostler.write("ostler.toml", &shop(&ostler, "15", ""));
    ostler.ok(&["up", "--detach", "ostler.toml"]);
    let web = ostler.endpoint("web");
    let order = http::order(web, 2);
    let before = fill(&ostler);
    let visitor = Caller::getting(web, "/style.css"); // what needs no database is served all the time

    // The file asks for it, and preview says what that means.
    ostler.write("ostler.toml", &shop(&ostler, "16", ""));
    let shown = ostler.run(&["preview", "ostler.toml"]);
    assert!(shown.out.contains("its data dumped and restored; the old instance is kept"), "{shown}");
    ostler.ok(&["apply", "ostler.toml"]);
    ostler.until_settled();
    assert_eq!((version(&ostler, "db").as_str(), served_by(&ostler)), ("16.2", 16));
    assert_eq!(counted(&ostler), before);
    assert_eq!(running(&ostler), ["db-2"]);
    assert!(http::orders(web).contains(&order));

    // A package's update: where it is, after a backup, with the data that it has.
    ostler.put_postgresql("16.11");
    ostler.ok(&["apply", "ostler.toml"]);
    let newer = ostler.json(&["upgrade", "--preview"]);
    assert_eq!(newer["services"][0]["available"]["to"], "16.11", "{newer}");
    let done = ostler.json(&["upgrade", "db", "--yes"]);
    assert_eq!((&done["services"][0]["upgraded"]["to"], running(&ostler)), (&"16.11".into(), vec!["db-2".to_owned()]));
    assert!(ostler.service("db")["backups"][0]["name"].as_str().unwrap().starts_with("upgrade-"));
    assert_eq!(
        (counted(&ostler), sql(&ostler, "select current_setting('server_version')").unwrap().contains("16.11")),
        (before.clone(), true)
    );

    ostler.put_postgresql("17.10");
    ostler.write("ostler.toml", &shop(&ostler, "17", ""));
    ostler.ok(&["apply", "ostler.toml"]);
    ostler.until_settled();
    assert_eq!((version(&ostler, "db").as_str(), served_by(&ostler)), ("17.10", 17));
    assert_eq!(counted(&ostler), before);
    http::order(web, 3);
    visitor.stop_without_failure();

    // Back needs a word on what was written since: the old one is as it was left.
    sql(&ostler, "delete from rows").unwrap();
    ostler.write("ostler.toml", &shop(&ostler, ">=16", ""));
    ostler.ok(&["apply", "ostler.toml"]);
    let refused = ostler.run(&["rollback", "db", "--yes"]);
    assert!(refused.code == 1 && refused.err.contains("--accept-loss"), "{refused}");
    ostler.ok(&["rollback", "db", "--accept-loss", "--yes"]);
    ostler.until_settled();
    assert_eq!((version(&ostler, "db").as_str(), counted(&ostler)), ("16.11", before));
    let kept: Vec<Value> = ostler.service("db")["instances"].as_array().unwrap().clone();
    assert!(kept.iter().any(|one| one["id"] == "db-3" && one["state"] == "retained"), "{kept:?}");
}

#[test]
fn a_version_that_breaks_what_consumers_rely_on_is_taken_back_with_all_data() {
    let ostler = Ostler::new();
    ostler.postgresql_versions(&["15", "17.10"]);
    let contract = "contract = [{ need = \"db\", name = \"it is old\", sql = \
                    \"select current_setting('server_version_num')::int < 160000\", expect = \"true\" }]";
    ostler.write("ostler.toml", &shop(&ostler, ">=15, <16", contract));
    ostler.ok(&["up", "--detach", "ostler.toml"]);
    let before = fill(&ostler);
    ostler.write("ostler.toml", &shop(&ostler, ">=15, <18", contract));
    ostler.ok(&["apply", "ostler.toml"]);
    let failed = ostler.run(&["upgrade", "db", "--yes"]);
    assert!(failed.code == 1 && failed.err.contains("was taken back") && failed.err.contains("it is old"), "{failed}");
    ostler.until_settled();
    assert_eq!((served_by(&ostler), counted(&ostler), running(&ostler)), (15, before, vec!["db-1".to_owned()]));
    let instances = ostler.service("db")["instances"].as_array().unwrap().len();
    assert_eq!(instances, 1, "what was made and never used is given up");
    let newer = ostler.run(&["upgrade", "--preview"]);
    assert!(newer.out.contains("there is 17.10, which is not put to use: it was taken back"), "{newer}");
}

/// A view of what the next version has elsewhere: the dump cannot be restored there.
#[test]
fn a_data_step_that_fails_is_taken_back_with_all_data() {
    let ostler = Ostler::new();
    ostler.postgresql_versions(&["15", "17.10"]);
    ostler.write("ostler.toml", &shop(&ostler, ">=15, <16", ""));
    ostler.ok(&["up", "--detach", "ostler.toml"]);
    let web = ostler.endpoint("web");
    let order = http::order(web, 2);
    let before = fill(&ostler);
    sql(&ostler, "create view written as select buffers_checkpoint from pg_stat_bgwriter").unwrap();
    ostler.write("ostler.toml", &shop(&ostler, ">=15, <18", ""));
    ostler.ok(&["apply", "ostler.toml"]);
    let failed = ostler.run(&["upgrade", "db", "--yes"]);
    assert!(failed.code == 1 && failed.err.contains("was taken back"), "{failed}");
    assert!(failed.err.contains("buffers_checkpoint"), "it is said what does not go over: {failed}");
    ostler.until_settled();
    assert_eq!((served_by(&ostler), counted(&ostler), running(&ostler)), (15, before, vec!["db-1".to_owned()]));
    assert!(http::orders(web).contains(&order));
    http::order(web, 3);
    let instances = ostler.service("db")["instances"].as_array().unwrap().len();
    assert_eq!(instances, 1, "what was made and never used is given up");
    let newer = ostler.json(&["upgrade", "--preview"]);
    let because = newer["services"][0]["blocked"]["because"].as_str().unwrap_or_default();
    assert!(because.contains("it was taken back") && because.contains("buffers_checkpoint"), "{newer}");
    assert!(ostler.ok(&["why", "db"]).out.contains("there is 17.10, which is not put to use: it was taken back"));
}

/// Asks for a connection to a database, up to the question for a password: it serves then.
fn asks_for_a_password(database: SocketAddr) -> Result<(), String> {
    let ask = || -> std::io::Result<u8> {
        let mut stream = TcpStream::connect_timeout(&database, WITHIN)?;
        stream.set_read_timeout(Some(WITHIN))?;
        let body = b"\x00\x03\x00\x00user\0nobody\0database\0postgres\0\0";
        let length = u32::try_from(body.len() + 4).unwrap();
        stream.write_all(&[&length.to_be_bytes()[..], body].concat())?;
        let mut kind = [0];
        stream.read_exact(&mut kind)?;
        Ok(kind[0])
    };
    match ask() {
        Ok(b'R') => Ok(()),
        Ok(kind) => Err(format!("answered {:?}", char::from(kind))),
        Err(error) => Err(error.to_string()),
    }
}

#[test]
fn connections_made_while_the_only_instance_is_replaced_wait_and_none_is_refused() {
    let ostler = Ostler::new();
    let folder = ostler.postgresql_versions(&["16.2"]);
    let text =
        head("shop") + &format!("versions = \"{}\"\n\n[service.db]\noffering = \"postgresql\"\n", folder.display());
    ostler.write("ostler.toml", &(text + SOAK));
    ostler.ok(&["up", "--detach", "ostler.toml"]);
    let (endpoint, server) = (ostler.endpoint("db"), ostler.pids("db")[0]);
    let callers: Vec<Caller> = (0..4).map(|_| Caller::start(move || asks_for_a_password(endpoint))).collect();
    ostler.put_postgresql("16.11");
    ostler.ok(&["apply", "ostler.toml"]);
    ostler.ok(&["upgrade", "db", "--yes"]);
    assert_eq!(version(&ostler, "db"), "16.11");
    assert_ne!(ostler.pids("db")[0], server);
    ostler.ok(&["rollback", "db", "--yes"]);
    assert_eq!(version(&ostler, "db"), "16.2");
    callers.iter().for_each(Caller::until_next);
    callers.into_iter().for_each(Caller::stop_without_failure);
}

/// Releases of a program side by side. One that is no good ends at once, in these instances.
fn bad_release(ostler: &Ostler, version: &str, bad_in: &str) {
    let folder = ostler.folder().join("releases").join(version);
    fs::create_dir_all(&folder).unwrap();
    let good = crate::harness::web_program();
    let script = format!("#!/bin/sh\ncase \"$OSTLER_INSTANCE\" in {bad_in}) exit 3 ;; esac\nexec {good}\n");
    fs::write(folder.join("bookshop-web"), script).unwrap();
    fs::set_permissions(folder.join("bookshop-web"), fs::Permissions::from_mode(0o755)).unwrap();
}

fn releases(instances: u32) -> String {
    format!(
        "{}\n[service.web]\noffering = \"program\"\nrun = [\"releases/{{{{ version }}}}/bookshop-web\"]\n\
         instances = {instances}\nenv = {{ {NOWHERE} }}\nstop = {{ drain = \"2s\", grace = \"10s\" }}\n\
         probe = {{ ready = {{ http = \"/style.css\" }}, every = \"1s\", timeout = \"1s\", start_within = \"10s\" }}\n{SOAK}",
        head("shop")
    )
}

#[test]
fn releases_go_in_waves_and_what_fails_is_taken_back_without_callers_noticing() {
    let ostler = Ostler::new();
    ostler.put_release("1.0");
    ostler.write("ostler.toml", &releases(4));
    ostler.ok(&["up", "--detach", "ostler.toml"]);
    let visitor = Caller::staying(ostler.endpoint("web"), "/style.css");
    let pids = ostler.pids("web");

    // The canary: nobody else is touched.
    bad_release(&ostler, "1.1", "*");
    ostler.ok(&["apply", "ostler.toml"]);
    let failed = ostler.run(&["upgrade", "web", "--yes"]);
    assert!(failed.code == 1 && failed.err.contains("the upgrade of web was taken back"), "{failed}");
    ostler.until_settled();
    assert_eq!((version(&ostler, "web").as_str(), &ostler.pids("web")[1..]), ("1.0", &pids[1..]));

    // The third wave: the first two go back, too.
    bad_release(&ostler, "1.2", "web-4");
    ostler.ok(&["apply", "ostler.toml"]);
    let failed = ostler.run(&["upgrade", "web", "--yes"]);
    assert!(failed.code == 1 && failed.err.contains("web-4"), "{failed}");
    ostler.until_settled();
    assert_eq!(version(&ostler, "web"), "1.0");
    let waves = ostler.json(&["journal", "--kind", "upgrade"]);
    let began = |one: &&Value| one["fact"]["step"] == "wave-began";
    assert_eq!(waves.as_array().unwrap().iter().filter(began).count(), 1 + 3);
    for pid in ostler.pids("web") {
        assert!(crate::harness::cmdline(pid).contains("releases/1.0/"), "{pid} is of another release");
    }
    let newer = ostler.run(&["upgrade", "--preview"]);
    assert!(newer.out.contains("there is 1.2, which is not put to use: it was taken back"), "{newer}");

    // One that is good.
    ostler.put_release("1.3");
    ostler.ok(&["apply", "ostler.toml"]);
    let done = ostler.ok(&["upgrade", "web", "--yes"]);
    assert!(done.out.contains("web was upgraded from 1.0 to 1.3 in 3 waves."), "{done}");
    assert!(ostler.ok(&["why", "web"]).out.contains("the wave of web has passed its gate"));
    ostler.ok(&["rollback", "web", "--yes"]);
    assert_eq!(version(&ostler, "web"), "1.0");
    visitor.stop_without_failure();
}

#[test]
fn ostler_killed_at_any_step_of_an_upgrade_goes_on_or_takes_it_back() {
    let ostler = Ostler::new();
    ostler.postgresql_versions(&["15", "16.2"]);
    ostler.write("ostler.toml", &shop(&ostler, "15", ""));
    ostler.ok(&["up", "--detach", "ostler.toml"]);
    let before = fill(&ostler);
    ostler.write("ostler.toml", &shop(&ostler, ">=15", ""));
    ostler.ok(&["apply", "ostler.toml"]);
    // About forty facts, and twenty-five back.
    for (round, facts) in [0, 2, 5, 6, 14, 12, 24, 18, 30].into_iter().enumerate() {
        ostler.until_settled();
        if round % 2 == 0 {
            ostler.kill_in_a_move(&["upgrade", "db", "--yes", "--within", "1s"], facts, Killed::Manager);
        } else {
            let back = ["rollback", "db", "--accept-loss", "--yes", "--within", "1s"];
            ostler.kill_in_a_move(&back, facts, Killed::All);
        }
        let series = if round % 2 == 0 { 16 } else { 15 };
        assert_eq!((served_by(&ostler), counted(&ostler)), (series, before.clone()), "killed after {facts} facts");
        assert_eq!(running(&ostler).len(), 1, "killed after {facts} facts");
    }
}

#[test]
fn windows_hold_upgrades_up_and_a_reason_does_not_wait() {
    let ostler = Ostler::new();
    ostler.put_release("1.0");
    // The whole of a day that is long over: closed for ever.
    let closed = releases(2).replace("[upgrade]\n", "[upgrade]\nwindow = [\"2020-01-01 - 2020-01-01\"]\n");
    ostler.write("ostler.toml", &closed);
    ostler.ok(&["up", "--detach", "ostler.toml"]);
    ostler.put_release("1.1");
    ostler.ok(&["apply", "ostler.toml"]);
    let status = ostler.ok(&["status"]);
    assert!(status.out.contains("1.0 can be upgraded to 1.1; waits: no window for upgrades opens"), "{status}");
    let refused = ostler.run(&["upgrade", "web", "--yes"]);
    assert!(refused.code == 1 && refused.err.contains("--now REASON"), "{refused}");
    ostler.ok(&["upgrade", "web", "--yes", "--now", "the old one has a hole"]);
    assert_eq!(version(&ostler, "web"), "1.1");
    let journal = ostler.ok(&["journal", "--kind", "upgrade"]).out;
    assert!(journal.contains("outside of any window: the old one has a hole"), "{journal}");
}
