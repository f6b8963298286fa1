//! A provider goes away altogether: what was bought there goes to the declared standby by itself, and a provider that comes
//! back splits nothing.

use std::time::{Duration, Instant};

use serde_json::Value;

use crate::harness::{Ostler, kill, signal, wait_until};
use crate::selling::Seller;

/// How long it may take until the standby serves, on a machine that does much else at the same time. How long it takes
/// otherwise is shown by `cargo bench -p ostler --bench failover`.
const WITHIN: Duration = Duration::from_secs(60);

/// The seller's machine is gone: nothing of it answers any more.
fn power_off(seller: &Ostler) -> Vec<u32> {
    let services = seller.status()["services"].as_array().unwrap().clone();
    let instances = services.iter().flat_map(|service| service["instances"].as_array().unwrap().clone());
    let instances: Vec<u32> = instances.filter_map(|instance| u32::try_from(instance["pid"].as_u64()?).ok()).collect();
    let own = ["keeper", "manager", "gateway"].map(|role| seller.own_process(role));
    own.iter().for_each(|pid| signal(*pid, "STOP")); // or they would bring each other back
    own.iter().chain(&instances).for_each(|pid| kill(*pid));
    instances
}

#[test]
fn a_dead_provider_is_left_for_the_declared_standby_and_its_return_splits_nothing() {
    let seller = Seller::open("offer = [\"redis\"]");
    let estate = seller.buyers_estate(seller.door).replace("prefer = [\"acme\"]", "prefer = [\"acme\", \"here\"]");
    let buyer = Ostler::up(&estate);
    assert_eq!(buyer.service("cache")["provider"], "acme");
    let endpoint = buyer.endpoint("cache");

    power_off(&seller.ostler);
    let dead = Instant::now();
    let moved = buyer.until("the standby serves", |status| {
        let cache = status["services"].as_array().unwrap().iter().find(|service| service["name"] == "cache").unwrap();
        cache["provider"] == "here" && cache["moving"].is_null() && status["settled"] == true
    });
    assert!(dead.elapsed() < WITHIN, "it took {:?}", dead.elapsed());
    let cache = moved["services"].as_array().unwrap().iter().find(|service| service["name"] == "cache").unwrap();
    assert_eq!(cache["endpoint"], Value::from(endpoint.to_string()), "consumers find it where it was");
    let state = |id: &str| {
        let cache = buyer.service("cache");
        let found = cache["instances"].as_array().unwrap().iter().find(|instance| instance["id"] == id).cloned();
        found.map(|instance| instance["state"].as_str().unwrap().to_owned())
    };
    assert_eq!((state("cache-1").as_deref(), state("cache-2").as_deref()), (Some("retained"), Some("ready")));
    let why = buyer.ok(&["why", "cache"]).out;
    for part in ["diagnosis: ", "move it to another provider: ", "moved from acme to here"] {
        assert!(why.contains(part), "no `{part}` in {why}");
    }

    // The provider comes back, with what was bought there: nobody uses it, and its credentials are ended.
    seller.ostler.ok(&["provide", "--detach", "ostler.toml"]);
    wait_until("nothing is bound to what was left", || seller.sold() == [0] || seller.sold() == [1]);
    buyer.until_settled();
    assert_eq!(buyer.service("cache")["provider"], "here");
    assert_eq!((state("cache-1").as_deref(), state("cache-2").as_deref()), (Some("retained"), Some("ready")));
    // It is paid for until somebody says that it is not needed any more.
    buyer.ok(&["discard", "cache-1", "--yes"]);
    wait_until("it is given back", || seller.sold().is_empty());
}
