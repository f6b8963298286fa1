//! A provider dies for a while: what it owes for that is measured, claimed with its documents, and answered.

use serde_json::Value;

use crate::harness::Ostler;
use crate::selling::Seller;

const TERMS: &str = "[provider.acme.terms]\navailability = \"100%\"\noutage = { from = \"1s\" }\n\
                     credits = [{ below = \"100%\", refund = \"10%\" }, { below = \"90%\", refund = \"50%\" }]\n\
                     [provider.acme.terms.prices.redis.cache]\namount = \"50000000\"\nper = \"month\"\n";

fn credit(buyer: &Ostler) -> Value {
    let all = buyer.json(&["credits"]);
    let all = all["credits"].as_array().unwrap();
    assert_eq!(all.len(), 1, "{all:?}");
    all[0].clone()
}

#[test]
fn what_a_dead_provider_owes_is_measured_claimed_and_answered() {
    let seller = Seller::open("offer = [\"redis\"]");
    let cache = "[service.cache]\noffering = \"redis\"\nprefer = [\"acme\"]\ndata = { durable = false }\n\
                 failover = { by_itself = false }\n";
    let head = crate::harness::head("buyer");
    let buyer = Ostler::up(&format!("{head}{}{TERMS}{cache}", seller.provider(seller.door)));
    let before = credit(&buyer);
    assert_eq!((&before["state"], &before["lines"][0]["down_us"]), (&"open".into(), &0.into()), "{before}");
    let month = before["month"].as_str().unwrap().to_owned();
    let refused = buyer.run(&["credits", "claim", "acme", "--month", &month]);
    assert_eq!(refused.code, 1);
    assert!(refused.err.contains("nothing is owed"), "{refused}");

    // Everything of the provider is dead, until the buyer has counted more than a second of it.
    seller.die();
    crate::harness::wait_until("an outage is counted", || {
        let line = &credit(&buyer)["lines"][0];
        line["down_us"].as_u64().unwrap() > 2_000_000
    });
    seller.return_again();
    buyer.until_state("cache", "ready");
    let owed = credit(&buyer);
    let line = &owed["lines"][0];
    assert_eq!((&line["instance"], &line["refund"]), (&"cache-1".into(), &"10%".into()), "{owed}");
    let due: f64 = owed["due"].as_str().unwrap().parse().unwrap();
    assert!(due > 0.0, "{owed}");
    let outages = line["outages"].as_array().unwrap();
    let outage = outages.iter().find(|outage| outage["counted_us"].as_u64().unwrap() > 0).unwrap();
    let journal = buyer.facts();
    let kind = |told: &Value| {
        let fact = journal.iter().find(|fact| fact["position"] == told["fact"]).unwrap();
        fact["kind"].as_str().unwrap().to_owned()
    };
    assert_eq!(kind(&outage["seen"][0]), "health-changed", "{outage}");
    assert_eq!(kind(&outage["concluded"][0]), "concluded", "{outage}");
    let shown = buyer.ok(&["credits"]).out;
    assert!(shown.contains("acme") && shown.contains("cache-1") && shown.contains("open"), "{shown}");
    let books = buyer.ok(&["books"]).out;
    assert!(books.contains("Service credits\n  acme: ") && books.contains("owed to you"), "{books}");

    // The month is not over; who claims before that says so. Claimed again, it is one claim of what is owed by then.
    let early = buyer.run(&["credits", "claim", "acme", "--month", &month]);
    assert!(early.code == 1 && early.err.contains("--before-end"), "{early}");
    for _ in 0..2 {
        let claim = ["credits", "claim", "acme", "--month", &month, "--before-end", "--by", "ana", "--note", "T-1"];
        let said = buyer.ok(&claim);
        assert!(said.out.contains("claimed from acme"), "{said}");
    }
    let read = |ending: &str| std::fs::read_to_string(buyer.folder().join(format!("credit-acme-{month}.{ending}")));
    let (markdown, page) = (read("md").unwrap(), read("html").unwrap());
    assert!(markdown.starts_with("# Claim for a service credit: acme") && markdown.contains("cache-1"), "{markdown}");
    assert!(page.starts_with("<!doctype html>") && page.contains("cache-1") && !page.contains("<script"), "{page}");
    assert!(!markdown.contains("sesame") && !page.contains("sesame"));
    let state = |expected: &str| assert_eq!(credit(&buyer)["state"], expected);
    state("claimed");
    assert_eq!(credit(&buyer)["claim"]["by"], "ana");

    // A claim outlives ostler, and is answered in one order.
    buyer.ok(&["down", "--yes"]);
    state("claimed");
    buyer.ok(&["up", "--detach", "ostler.toml"]);
    buyer.ok(&["credits", "refused", "acme", "--month", &month, "--note", "they saw nothing"]);
    state("refused");
    let paid = buyer.run(&["credits", "paid", "acme", "--month", &month]);
    assert!(paid.code == 1 && paid.err.contains("refused already"), "{paid}");
    buyer.ok(&["credits", "reopen", "acme", "--month", &month]);
    buyer.ok(&["credits", "claim", "acme", "--month", &month, "--before-end"]);
    buyer.ok(&["credits", "paid", "acme", "--month", &month, "--amount", "7.50"]);
    state("paid");
    let focus = buyer.ok(&["books", "--month", &month, "--focus", "-"]).out;
    assert!(focus.lines().any(|row| row.starts_with("-7.5,") && row.contains(",Credit,")), "{focus}");
    let mut steps: Vec<Value> = buyer
        .facts()
        .iter()
        .filter(|fact| fact["kind"] == "service-credit")
        .map(|fact| fact["fact"]["step"].clone())
        .collect();
    steps.dedup(); // before the month is over it grows, and is claimed again with what is owed by then
    assert_eq!(steps, ["claimed", "refused", "reopened", "claimed", "paid"]);
}
