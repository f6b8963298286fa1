//! How a change that costs more than the budget would fit: with several brokers, several plans and several services.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use ostler_books::{monthly, ways_to_fit};
use ostler_manager::{Event, Knowledge, rehearse};
use ostler_model::catalog::Catalog;
use ostler_model::estate::{Estate, parse};
use ostler_model::ids::ProviderName;
use ostler_model::time::Timestamp;
use rust_decimal::Decimal;

use crate::town::{Sold, at, catalog};

type Catalogs = BTreeMap<ProviderName, Arc<Catalog>>;

fn declared(services: &str) -> Arc<Estate> {
    let broker = |name: &str| {
        format!(
            "[provider.{name}]\nkind = \"osb\"\nurl = \"https://{name}.example\"\n\
             auth = {{ username = \"u\", password = {{ env = \"P\" }} }}\n\n"
        )
    };
    let brokers: String = ["acme", "bolt", "crab"].map(broker).concat();
    let text = format!("[estate]\nname = \"shop\"\nrates = {{ USD = \"0.5\" }}\n\n{brokers}{services}");
    Arc::new(parse("shop.toml", Path::new("/srv"), &text).unwrap_or_else(|problems| panic!("{problems}")).estate)
}

fn month(amount: &'static str) -> [(&'static str, &'static str, &'static str); 1] {
    [(amount, "EUR", "MONTHLY")]
}

/// Three brokers: what acme sells for 100 and 60, bolt sells for 40, in dollars for 35, and at a price that cannot be
/// counted; crab has one for 50.
fn catalogs() -> Catalogs {
    let (large, medium, bolt, dollars, unclear, crab) =
        (month("100"), month("60"), month("40"), [("70", "USD", "MONTHLY")], [("1", "EUR", "CPU")], month("50"));
    let all: [(&str, Vec<Sold<'_>>); 3] = [
        ("acme", vec![("large", &large), ("medium", &medium)]),
        ("bolt", vec![("dollars", &dollars), ("plain", &bolt), ("unclear", &unclear)]),
        ("crab", vec![("only", &crab)]),
    ];
    all.into_iter().map(|(name, plans)| (name.parse().unwrap(), Arc::new(catalog(&plans)))).collect()
}

fn now() -> Timestamp {
    at("2026-11-01T00:00:00Z")
}

fn given(known: &Knowledge, estate: &Arc<Estate>) -> Knowledge {
    rehearse(known, &Event::EstateGiven { estate: estate.clone(), catalogs: catalogs() }, now()).known
}

/// What it would cost, and how it would fit: words and amounts.
fn ways(known: &Knowledge, estate: &Arc<Estate>, budget: u32) -> (String, Vec<String>) {
    let planned = given(known, estate);
    let before = known.estate.as_ref().map(|former| monthly(known, former)).unwrap_or_default();
    let after = monthly(&planned, estate);
    let ways = ways_to_fit(known, &planned, estate, &catalogs(), (&before, &after), Decimal::from(budget), now());
    let shown = ways.into_iter().map(|way| format!("{} = {}", way.words, way.monthly.normalize())).collect();
    (after.whole().normalize().to_string(), shown)
}

const DB: &str = "[service.db]\noffering = \"postgresql\"\nplan = \"large\"\nprefer = [\"acme\"]\ninstances = 2\n";

#[test]
fn the_three_cheapest_plans_of_all_brokers_come_first() {
    let (cost, ways) = ways(&Knowledge::default(), &declared(DB), 150);
    assert_eq!(cost, "200");
    assert_eq!(
        ways,
        [
            "`prefer = [\"bolt\"]` and `plan = \"dollars\"` in `[service.db]` = 70",
            "`prefer = [\"bolt\"]` and `plan = \"plain\"` in `[service.db]` = 80",
            "`prefer = [\"crab\"]` and `plan = \"only\"` in `[service.db]` = 100",
        ]
    );
}

#[test]
fn what_takes_away_less_comes_before_what_is_cheaper() {
    // Of other plans only one fits, then fewer instances, then to do without it.
    let (_, ways) = ways(&Knowledge::default(), &declared(DB), 70);
    assert_eq!(ways, ["`prefer = [\"bolt\"]` and `plan = \"dollars\"` in `[service.db]` = 70", "leave `db` out = 0"]);
    let (_, ways) = ways_of_one(60);
    assert_eq!(ways, ["leave `db` out = 0"], "one instance of `large` costs 100");
}

fn ways_of_one(budget: u32) -> (String, Vec<String>) {
    ways(&Knowledge::default(), &declared(DB), budget)
}

#[test]
fn fewer_instances_are_as_many_as_fit() {
    let db = DB.replace("instances = 2", "instances = 5");
    let (cost, ways) = ways(&Knowledge::default(), &declared(&db), 320);
    assert_eq!(cost, "500");
    assert_eq!(ways.len(), 3, "{ways:?}");
    let (_, ways) = self::ways(&Knowledge::default(), &declared(&db), 170);
    assert_eq!(ways, ["`instances = 1` in `[service.db]` = 100", "leave `db` out = 0"]);
}

#[test]
fn several_services_fit_together_where_none_does_alone() {
    let both = format!("{DB}\n{}", DB.replace("service.db", "service.log"));
    let (cost, ways) = ways(&Knowledge::default(), &declared(&both), 150);
    assert_eq!(cost, "400");
    let together = "`prefer = [\"bolt\"]` and `plan = \"dollars\"` in `[service.db]`, \
                    and `prefer = [\"bolt\"]` and `plan = \"dollars\"` in `[service.log]` = 140";
    assert_eq!(ways.first().map(String::as_str), Some(together), "{ways:?}");
}

#[test]
fn what_is_there_is_not_moved_for_the_budget() {
    let small = DB.replace("large", "medium").replace("instances = 2", "instances = 1");
    let held = given(&Knowledge::default(), &declared(&small));
    let queue = "[service.queue]\noffering = \"postgresql\"\nplan = \"large\"\nprefer = [\"acme\"]\n";
    let (cost, ways) = ways(&held, &declared(&format!("{small}\n{queue}")), 110);
    assert_eq!(cost, "160");
    assert!(ways.iter().all(|way| !way.contains("service.db")), "{ways:?}");
    assert_eq!(ways.len(), 3, "{ways:?}");
    assert!(ways[0].contains("dollars") && ways[0].ends_with("= 95"), "{ways:?}");
}
