//! Durable data moved where a broker is involved: from a broker to another, to this machine and back, out of the hands of
//! one that has died, and whatever of ostler is killed on the way. The brokers are ostlers that sell.

use std::process::Stdio;
use std::sync::{Arc, Mutex};

use serde_json::Value;

use crate::failover::{counted, fill, sql};
use crate::harness::kills::Killed;
use crate::harness::{Caller, Ostler, bookshop, http, wait_until};
use crate::selling::Seller;

const POSTGRESQL: &str = "offer = [\"postgresql\"]";

/// A buyer's bookshop whose database comes from the first of these sellers. `data` are further lines of the database.
fn estate(sellers: &[&Seller], data: &str) -> String {
    let text = bookshop("", "").replacen("instances = 2", "instances = 1", 1);
    let text = text.replacen("name = \"bookshop\"", "name = \"buyer\"", 1);
    let providers: String = sellers.iter().map(|seller| seller.provider(seller.door)).collect();
    let mut prefer: Vec<String> = sellers.iter().map(|seller| format!("{:?}", seller.name)).collect();
    prefer.push("\"here\"".to_owned());
    let bought = format!("\"postgresql\"\nprefer = [{}]\n{data}\n", prefer.join(", "));
    text.replacen("\n[service.db]", &format!("{providers}\n[service.db]"), 1).replacen("\"postgresql\"\n", &bought, 1)
}

/// The estate in which the server runs that answers at the service's endpoint, by the port that it says it listens on.
fn who_answers(buyer: &Ostler, sellers: &[&Seller]) -> String {
    let port = sql(buyer, "select current_setting('port')").unwrap();
    let has = |ostler: &Ostler| {
        let services = ostler.status()["services"].as_array().unwrap().clone();
        let instances = services.iter().flat_map(|service| service["instances"].as_array().unwrap());
        let at = |instance: &Value| instance["address"].as_str().is_some_and(|a| a.ends_with(&format!(":{port}")));
        instances.filter(|instance| instance["pid"].is_u64()).any(at)
    };
    if has(buyer) {
        return "here".to_owned();
    }
    let seller = sellers.iter().find(|seller| has(&seller.ostler));
    seller.unwrap_or_else(|| panic!("nobody is at {port}")).name.to_owned()
}

/// By instance: its state, and at which provider it is kept, if a move has left it.
fn instances(buyer: &Ostler) -> Vec<(String, String, Option<String>)> {
    let db = buyer.service("db");
    let of = |instance: &Value| {
        let text = |value: &Value| value.as_str().map(str::to_owned);
        let (id, state) = (text(&instance["id"]).unwrap(), text(&instance["state"]).unwrap());
        (id, state, text(&instance["left_at"]["provider"]))
    };
    db["instances"].as_array().unwrap().iter().map(of).collect()
}

/// Somebody who goes on writing through the service's endpoint, and remembers what was acknowledged.
struct Writer {
    caller: Caller,
    acknowledged: Arc<Mutex<Vec<u64>>>,
}

impl Writer {
    fn start(buyer: &Ostler) -> Self {
        sql(buyer, "create table orders_taken (number bigint primary key)").unwrap();
        let acknowledged: Arc<Mutex<Vec<u64>>> = Arc::default();
        let (seen, path) = (acknowledged.clone(), buyer.home.join("instances/web-1/bindings/db/uri"));
        let mut number = 0;
        let caller = Caller::start(move || {
            number += 1;
            let uri = std::fs::read_to_string(&path).map_err(|error| error.to_string())?;
            let mut command = std::process::Command::new("psql");
            command.args([uri.trim(), "-X", "-q", "-v", "ON_ERROR_STOP=1", "-c"]);
            command.arg(format!("insert into orders_taken values ({number})"));
            command.env("PGCONNECT_TIMEOUT", "30").stdout(Stdio::null()).stderr(Stdio::null());
            if command.status().map_err(|error| error.to_string())?.success() {
                seen.lock().unwrap().push(number);
            }
            Ok(())
        });
        Self { caller, acknowledged }
    }

    fn taken(&self) -> usize {
        self.acknowledged.lock().unwrap().len()
    }

    /// Everything that was acknowledged is there.
    fn stop_and_find_all(self, buyer: &Ostler) {
        self.caller.stop();
        let taken = self.acknowledged.lock().unwrap().clone();
        let there: Vec<u64> = sql(buyer, "select number from orders_taken order by number")
            .unwrap()
            .lines()
            .map(|line| line.parse().unwrap())
            .collect();
        let lost: Vec<&u64> = taken.iter().filter(|number| there.binary_search(number).is_err()).collect();
        assert!(lost.is_empty(), "{} of {} orders are lost: {lost:?}", lost.len(), taken.len());
    }
}

fn move_to(buyer: &Ostler, from: &str, to: &str) {
    let shown = buyer.json(&["failover", "db", "--to", to, "--preview"]);
    assert_eq!((&shown["from"], &shown["to"], &shown["lost_since"]), (&from.into(), &to.into(), &Value::Null));
    assert!(shown["loses"].as_str().unwrap().starts_with("nothing"), "{shown}");
    let moved = buyer.json(&["failover", "db", "--to", to, "--yes"]);
    assert_eq!(
        (&moved["from"], &moved["to"], &moved["lost"]),
        (&from.into(), &to.into(), &"nothing is lost".into()),
        "{moved}"
    );
    buyer.until_settled();
}

#[test]
fn from_broker_to_broker_to_here_and_back_nothing_is_lost() {
    let (acme, globex) = (Seller::named("acme", POSTGRESQL), Seller::named("globex", POSTGRESQL));
    let sellers = [&acme, &globex];
    let buyer = Ostler::up(&estate(&sellers, ""));
    let shop = buyer.endpoint("web");
    let order = http::order(shop, 2);
    let before = fill(&buyer);
    assert_eq!((who_answers(&buyer, &sellers), acme.sold(), globex.sold()), ("acme".into(), vec![2], vec![]));

    let writer = Writer::start(&buyer);
    for (from, to) in [("acme", "globex"), ("globex", "here"), ("here", "acme")] {
        let taken = writer.taken();
        wait_until("orders are taken before it moves", || writer.taken() > taken + 3);
        move_to(&buyer, from, to);
        assert_eq!((counted(&buyer), who_answers(&buyer, &sellers)), (before.clone(), to.to_owned()), "{from} to {to}");
        let taken = writer.taken();
        wait_until("orders are taken where it is now", || writer.taken() > taken + 3);
    }
    writer.stop_and_find_all(&buyer);
    wait_until("the program serves", || http::orders(shop).contains(&order));

    // What was left is kept, and nobody has credentials there but ostler itself.
    let kept = |id: &str, at: &str| (id.to_owned(), "retained".to_owned(), Some(at.to_owned()));
    let there = ("db-4".to_owned(), "ready".to_owned(), None);
    assert_eq!(instances(&buyer), [kept("db-1", "acme"), kept("db-2", "globex"), kept("db-3", "here"), there]);
    let mut at_acme = acme.sold();
    at_acme.sort_unstable();
    assert_eq!((at_acme, globex.sold()), (vec![1, 2], vec![1]), "the program's credentials are ended");
    for id in ["db-1", "db-2", "db-3"] {
        buyer.ok(&["discard", id, "--yes"]);
    }
    assert_eq!((acme.sold(), globex.sold(), counted(&buyer)), (vec![2], vec![], before));
    buyer.ok(&["down", "--delete-data", "--yes"]);
    assert_eq!(acme.sold(), [0; 0]);
}

#[test]
fn a_dead_brokers_data_comes_from_the_backup_and_its_return_splits_nothing() {
    let (acme, globex) = (Seller::named("acme", POSTGRESQL), Seller::named("globex", POSTGRESQL));
    let sellers = [&acme, &globex];
    // By a person's word: what is moved by itself is another test's.
    let buyer = Ostler::up(&estate(&sellers, "failover = { by_itself = false, loses_at_most = \"1h\" }"));
    fill(&buyer);
    buyer.ok(&["backup", "db", "--name", "kept"]);
    let backed_up = counted(&buyer);
    sql(&buyer, "insert into rows values (0, 'after the backup')").unwrap();
    let all = counted(&buyer);
    let former = std::fs::read_to_string(buyer.home.join("instances/web-1/bindings/db/uri")).unwrap();

    acme.die();
    buyer.until("it is found to be dead", |status| {
        let db = status["services"].as_array().unwrap().iter().find(|service| service["name"] == "db").unwrap();
        db["instances"][0]["state"] != "ready"
    });
    let shown = buyer.json(&["failover", "db", "--preview"]);
    assert_eq!((&shown["to"], &shown["backup"]), (&"globex".into(), &"kept".into()), "{shown}");
    let said = shown["loses"].as_str().unwrap();
    assert!(said.starts_with("what was written in the last "), "{shown}");
    let moved = buyer.json(&["failover", "db", "--yes"]);
    let made = buyer.service("db")["backups"][0].clone();
    assert_eq!((&made["name"], &moved["lost_since"]), (&"kept".into(), &made["at"]), "{moved}");
    assert!(moved["lost"].as_str().unwrap().starts_with("what was written in the "), "{moved}");
    wait_until("the program has its new credentials", || sql(&buyer, "select 1").is_ok());
    assert_eq!(counted(&buyer), backed_up, "exactly what was said is lost");
    buyer.until("the service works", |status| {
        let services = status["services"].as_array().unwrap();
        services.iter().all(|service| service["state"] == "ready")
    });

    // It is back, with all that it had: nobody is sent there, and it has no credentials of the program's any more.
    acme.return_again();
    wait_until("the program's credentials are ended there", || acme.sold() == [1]);
    buyer.until_settled();
    assert_eq!((who_answers(&buyer, &sellers), counted(&buyer)), ("globex".to_owned(), backed_up.clone()));
    assert_eq!(instances(&buyer)[0].1, "retained");
    // Ostler's own death does not open it again either.
    buyer.kill_all_of_it();
    buyer.ok(&["up", "--detach", "ostler.toml"]);
    buyer.until_settled();
    assert_eq!((who_answers(&buyer, &sellers), counted(&buyer)), ("globex".to_owned(), backed_up.clone()));
    // Credentials of before are good for nothing at the endpoint, which has stayed the same.
    let now = std::fs::read_to_string(buyer.home.join("instances/web-1/bindings/db/uri")).unwrap();
    assert_ne!(now, former);
    let mut command = std::process::Command::new("psql");
    command.args([former.trim(), "-X", "-c", "select 1"]).stdout(Stdio::null()).stderr(Stdio::null());
    assert!(!command.status().unwrap().success());
    // What was lost is still where it was, until somebody says that it may go: its seller has it in its hands.
    let name = acme.ostler.status()["services"][0]["name"].as_str().unwrap().to_owned();
    assert_eq!(rows_at(&acme.ostler, &name), all.split('|').next().unwrap());
    buyer.ok(&["discard", "db-1", "--yes"]);
    assert_eq!((acme.sold(), globex.sold(), counted(&buyer)), (vec![], vec![2], backed_up));
}

/// How many rows there are in the database of what a seller sold, as the seller's own user sees it.
fn rows_at(seller: &Ostler, service: &str) -> String {
    seller.ok(&["backup", service, "--name", "looked-at"]);
    let dump = seller.home.join("backups").join(service).join("looked-at");
    let mut command = std::process::Command::new("pg_restore");
    let output = command.args(["--data-only", "--table", "rows", "--file", "-"]).arg(&dump).output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let (_, rows) = text.split_once("FROM stdin;\n").unwrap();
    rows.split("\\.\n").next().unwrap().lines().count().to_string()
}

#[test]
fn killed_at_any_step_a_move_from_broker_to_broker_goes_on() {
    let (acme, globex) = (Seller::named("acme", POSTGRESQL), Seller::named("globex", POSTGRESQL));
    let sellers = [&acme, &globex];
    let buyer = Ostler::up(&estate(&sellers, ""));
    let before = fill(&buyer);
    for (round, facts) in [0, 2, 4, 7, 10, 13, 16, 19, 22, 25].into_iter().enumerate() {
        let (from, to) = if round % 2 == 0 { (&acme, &globex) } else { (&globex, &acme) };
        assert_eq!(buyer.service("db")["provider"], from.name);
        let both = [&acme.ostler, &globex.ostler];
        let killed = [Killed::All, Killed::Manager, Killed::Sellers(&both)][round % 3];
        buyer.kill_in_a_move(&["failover", "db", "--to", to.name, "--yes"], facts, killed);
        let what = format!("killed after {facts} facts on the way to {}", to.name);
        assert_eq!(buyer.service("db")["provider"], to.name, "{what}");
        assert_eq!((who_answers(&buyer, &sellers), counted(&buyer)), (to.name.to_owned(), before.clone()), "{what}");
        // One that serves, one that is kept: nothing is sold twice, and no credentials are left with nobody.
        let old = format!("db-{}", round + 1);
        let there = instances(&buyer);
        let states: Vec<(&str, &str)> = there.iter().map(|(id, state, _)| (id.as_str(), state.as_str())).collect();
        let new = format!("db-{}", round + 2);
        assert_eq!(states, [(old.as_str(), "retained"), (new.as_str(), "ready")], "{what}");
        wait_until(&format!("only the one has the program's credentials: {what}"), || {
            (from.sold(), to.sold()) == (vec![1], vec![2])
        });
        buyer.ok(&["discard", &old, "--yes"]);
        assert_eq!((from.sold(), to.sold()), (vec![], vec![2]), "{what}");
    }
}
