//! What is bought of a broker with prices: before it is bought, in the books of a month, in its export, against a budget,
//! weighed against owning, and with what passes through its endpoint.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use serde_json::{Value, json};

use crate::broker::Broker;
use crate::harness::{Ostler, kill, wait_until};

fn plan(id: &str, name: &str, costs: Value) -> Value {
    json!({"id": id, "name": name, "description": "A cache.", "free": false, "metadata": {"costs": costs}})
}

fn catalog() -> Value {
    let month = |amount: f64| json!({"amount": {"eur": amount}, "unit": "MONTHLY"});
    json!({"services": [{
        "id": "s", "name": "redis", "description": "A cache.", "bindable": true, "instances_retrievable": true,
        "plan_updateable": true,
        "metadata": {"ostler": {"version": "7.0"}},
        "plans": [
            plan("p", "small", json!([month(9.5), {"amount": {"eur": 100}, "unit": "GB"}])),
            plan("q", "medium", json!([month(20.0)])),
            plan("r", "large", json!([{"amount": {"eur": 0.1}, "unit": "HOURLY"}])),
        ],
    }]})
}

/// The estate, with this budget, and this plan for its cache.
fn estate(broker: &Broker, budget: u32, plan: &str) -> String {
    let text = broker.estate().replace("[estate]\n", &format!("[estate]\nbudget = {{ monthly = {budget} }}\n"));
    text.replace("[service.cache]\n", &format!("[service.cache]\nplan = \"{plan}\"\n"))
}

/// Has a Redis behind `to` say a megabyte back, so often.
fn echo(to: SocketAddr, times: usize) {
    const MEGABYTE: usize = 1_000_000;
    let mut stream = TcpStream::connect(to).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
    let read = |stream: &mut TcpStream, bytes: usize| stream.read_exact(&mut vec![0; bytes]).unwrap();
    stream.write_all(b"AUTH hunter2\r\n").unwrap();
    read(&mut stream, "+OK\r\n".len());
    for _ in 0..times {
        let said = "x".repeat(MEGABYTE);
        stream.write_all(format!("*2\r\n$4\r\nECHO\r\n${MEGABYTE}\r\n{said}\r\n").as_bytes()).unwrap();
        read(&mut stream, format!("${MEGABYTE}\r\n\r\n").len() + MEGABYTE);
    }
}

/// Bytes out of the cache, by the books.
fn carried(ostler: &Ostler) -> u64 {
    let books = ostler.json(&["books"]);
    let of_cache = books["carried"].as_array().unwrap().iter().find(|carried| carried["service"] == "cache");
    of_cache.map_or(0, |carried| carried["bytes"]["out"].as_u64().unwrap())
}

#[test]
fn what_a_broker_sells_is_in_preview_books_and_export_and_held_to_the_budget() {
    let broker = Broker::start();
    broker.shop().catalog = Some(catalog());
    let ostler = Ostler::new();
    ostler.write("ostler.toml", &estate(&broker, 15, "small"));
    let preview = ostler.run(&["preview", "--json"]).json();
    let costs = &preview["costs"];
    assert_eq!((&costs["before"], &costs["after"]), (&"0.00".into(), &"9.50".into()), "{costs}");
    ostler.ok(&["up", "--detach", "ostler.toml"]);

    let books = ostler.json(&["books", "--by", "provider"]);
    let row = books["rows"].as_array().unwrap().iter().find(|row| row["name"] == "acme").unwrap();
    let forecast: f64 = row["forecast"].as_str().unwrap().parse().unwrap();
    assert!((0.0..=9.5).contains(&forecast), "what is left of the month: {books}");

    // What is dearer is refused, with what would fit.
    ostler.write("more.toml", &estate(&broker, 15, "large"));
    let said = ostler.run(&["apply", "more.toml"]);
    assert_eq!(said.code, 1, "{said}");
    assert!(said.err.contains("it would cost 73.00 EUR a month instead of 9.50 EUR"), "{said}");
    assert!(said.err.contains("`plan = \"small\"` in `[service.cache]` (9.50 EUR a month)"), "{said}");
    assert!(said.err.contains("raise `[estate] budget` to 73.00"), "{said}");

    // And owning it is weighed against all three.
    let weighed = ostler.json(&["own-or-buy", "cache", "--years", "3"]);
    let plans: Vec<&str> =
        weighed["plans"].as_array().unwrap().iter().map(|plan| plan["plan"].as_str().unwrap()).collect();
    assert_eq!(plans, ["small", "medium", "large"], "the cheapest first: {weighed}");
    assert_eq!(weighed["own"]["over"].as_array().unwrap().len(), 3);

    // What passes through its endpoint is counted, and costs what the plan says.
    let address = ostler.endpoint("cache");
    echo(address, 3);
    wait_until("the gateway has told of three megabytes", || carried(&ostler) >= 3_000_000);
    let first = carried(&ostler);
    assert!(first < 4_000_000, "{first}");
    let dataset = ostler.ok(&["books", "--focus", "-"]).out;
    let priced = dataset.lines().find(|line| line.contains("bytes through its endpoint")).expect("it has a price");
    assert!(priced.contains(",GB,") && priced.contains("acme/redis/small traffic/100.0 EUR a gigabyte"), "{priced}");
    let said = ostler.ok(&["books"]);
    assert!(said.out.contains("THROUGH THE ENDPOINT OF"), "{said}");

    // Nothing is counted twice, whoever is killed.
    let manager = ostler.own_process("manager");
    kill(manager);
    wait_until("there is another manager", || ostler.own_processes("manager").iter().any(|pid| *pid != manager));
    let is_once = |bytes: u64| (first..first + 100_000).contains(&bytes);
    assert!(is_once(carried(&ostler)), "{} after {first}", carried(&ostler));
    let gateway = ostler.own_process("gateway");
    kill(gateway);
    wait_until("there is another gateway", || ostler.own_processes("gateway").iter().any(|pid| *pid != gateway));
    assert!(is_once(carried(&ostler)), "what it had told is kept: {} after {first}", carried(&ostler));
    echo(address, 2);
    wait_until("the next gateway has told of two more", || carried(&ostler) >= first + 2_000_000);
    assert!(carried(&ostler) < first + 3_000_000, "{}", carried(&ostler));
    ostler.ok(&["down"]);
    assert!(carried(&ostler) >= first + 2_000_000, "read from the journal");
}
