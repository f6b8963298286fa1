//! Which plan of which provider is chosen, and what the others are told.

use std::collections::BTreeMap;
use std::sync::Arc;

use ostler_manager::{Candidate, Judged, Knowledge, PlacementProblem, candidates, place};
use ostler_model::catalog::{Catalog, Plan, Price};
use ostler_model::estate::failures::Failures;
use ostler_model::estate::terms::Terms;
use ostler_model::estate::{Estate, HostProvider, Parameters, Provider, ProviderKind, Service};
use ostler_model::ids::ProviderName;

use crate::support::{catalog, estate, instance, name, offering, service};
use crate::world::World;

/// Providers of redis: name, region, availability, and plans with their prices a month; `-` for none stated, `free`.
type Market<'a> = &'a [(&'a str, Option<&'a str>, Option<&'a str>, &'a [(&'a str, &'a str)])];

fn market(of: Market<'_>) -> (Estate, BTreeMap<ProviderName, Arc<Catalog>>) {
    let mut town = estate(50, vec![service("db", "redis")]);
    town.providers.clear();
    let mut catalogs = BTreeMap::new();
    for (called, region, availability, plans) in of {
        let called: ProviderName = called.parse().unwrap();
        let terms = availability.map(|text| Terms { availability: Some(text.parse().unwrap()), credits: Vec::new() });
        let provider = Provider {
            name: called.clone(),
            region: region.map(str::to_owned),
            failures: Failures::default(),
            terms,
            context: Parameters::default(),
            certificate: None,
            kind: ProviderKind::Host(HostProvider::default()), // nobody looks
        };
        town.providers.insert(called.clone(), provider);
        let mut sold = offering("redis", &["7.2", "8.0"]);
        let template = sold.plans[0].clone();
        let plan = |(name, price): &(&str, &str)| {
            let (amount, currency) = price.split_once(' ').unwrap_or((price, "EUR"));
            let stated = Price { amount: amount.to_owned(), currency: currency.to_owned(), per: "month".to_owned() };
            let price = Some(stated).filter(|_| !matches!(amount, "-" | "free"));
            Plan { name: name.parse().unwrap(), price, free: amount == "free", ..template.clone() }
        };
        sold.plans = plans.iter().map(plan).collect();
        let offerings = if plans.is_empty() { vec![offering("postgresql", &["16.0"])] } else { vec![sold] };
        catalogs.insert(called, catalog(offerings));
    }
    (town, catalogs)
}

fn told(known: &Knowledge, (town, catalogs): &(Estate, BTreeMap<ProviderName, Arc<Catalog>>)) -> Vec<String> {
    let line = |candidate: &Candidate| {
        let plan = candidate.plan.as_ref().map_or("-", |plan| plan.as_str());
        let verdict = match &candidate.verdict {
            Judged::Chosen(why) => format!("chosen: {why}"),
            Judged::Lost(why) => format!("lost: {why}"),
            Judged::Excluded(why) => format!("excluded: {why}"),
        };
        format!("{} {plan} {}", candidate.provider, verdict)
    };
    let all = candidates(known, town, catalogs, &town.services[&name("db")]);
    let chosen: Vec<&Candidate> = all.iter().filter(|c| matches!(c.verdict, Judged::Chosen(_))).collect();
    assert!(chosen.len() <= 1, "{chosen:?}");
    // What is told is what is done.
    match (place(known, town, catalogs), chosen.first()) {
        (Ok(placed), Some(chosen)) => {
            let placement = &placed[&name("db")];
            assert_eq!((&placement.provider, Some(&placement.plan)), (&chosen.provider, chosen.plan.as_ref()));
        }
        (Err(_), None) => {}
        (placed, chosen) => panic!("{placed:?} and {chosen:?}"),
    }
    all.iter().map(line).collect()
}

fn with(
    market: (Estate, BTreeMap<ProviderName, Arc<Catalog>>),
    change: impl FnOnce(&mut Service),
) -> (Estate, BTreeMap<ProviderName, Arc<Catalog>>) {
    let (mut town, catalogs) = market;
    change(Arc::make_mut(town.services.get_mut(&name("db")).unwrap()));
    (town, catalogs)
}

#[test]
fn the_best_of_what_will_do_is_chosen_and_the_others_are_told_why() {
    let nobody = Knowledge::default();
    let three: Market<'_> = &[
        ("acme", Some("eu-west"), Some("99.9%"), &[("small", "9"), ("large", "29.50")]),
        ("bolt", Some("us-east"), Some("99.99%"), &[("small", "8 USD")]),
        ("here", Some("eu-local"), None, &[("cache", "free"), ("durable", "free")]),
    ];
    let cases = [
        ("free is the cheapest, and the catalog's first plan is its first", told(&nobody, &market(three))),
        ("a preference is an order, and leaves the others out", {
            let prefer = ["bolt", "acme"].map(|name| name.parse().unwrap()).to_vec();
            told(&nobody, &with(market(three), |service| service.prefer = prefer))
        }),
        (
            "a plan that is named",
            told(&nobody, &with(market(three), |service| service.plan = Some("large".parse().unwrap()))),
        ),
        ("only where data may be", {
            let (mut town, catalogs) = market(three);
            town.residency = vec!["us".to_owned()];
            told(&nobody, &(town, catalogs))
        }),
        ("nobody may hold it", {
            let (mut town, catalogs) = market(three);
            town.residency = vec!["ch".to_owned()];
            told(&nobody, &(town, catalogs))
        }),
        (
            "prices in another currency cannot be compared; what is promised can",
            told(
                &nobody,
                &market(&[
                    ("acme", None, Some("99.9%"), &[("small", "-")]),
                    ("bolt", None, Some("99.99%"), &[("small", "8 USD")]),
                ]),
            ),
        ),
        (
            "nothing tells them apart",
            told(
                &nobody,
                &market(&[
                    ("bolt", None, None, &[("small", "7.00"), ("medium", "7")]),
                    ("acme", None, None, &[("small", "7")]),
                    ("none", None, None, &[]),
                ]),
            ),
        ),
        ("too new", told(&nobody, &with(market(three), |service| service.version = ">=9".parse().unwrap()))),
    ];
    let text: String = cases.iter().map(|(what, lines)| format!("{what}\n  {}\n\n", lines.join("\n  "))).collect();
    insta::assert_snapshot!(text);
}

#[test]
fn what_is_there_stays_and_what_is_sick_counts_against_its_provider() {
    let two: Market<'_> = &[("acme", None, None, &[("small", "9")]), ("here", None, None, &[("small", "free")])];
    let mut world = World::new();
    let (town, catalogs) = with(market(two), |service| service.prefer = vec!["acme".parse().unwrap()]);
    let _ = world.give(&ostler_manager::Event::EstateGiven { estate: Arc::new(town), catalogs });
    world.settle();
    let everybody = market(two);
    assert_eq!(
        told(&world.known, &everybody),
        ["acme small chosen: it is there already", "here small excluded: `db` exists at acme"]
    );
    // Something else that is bought there does not work.
    world.never_ready.insert(name("db"));
    world.instances.get_mut(&instance("db-1")).unwrap().process.as_mut().unwrap().hung = true;
    world.pass(std::time::Duration::from_secs(600));
    for _ in 0..20 {
        world.oblige();
    }
    let (mut town, catalogs) = everybody;
    let another = Service { name: name("other"), ..(*town.services[&name("db")]).clone() };
    town.services.insert(name("other"), Arc::new(another.clone()));
    let all = candidates(&world.known, &town, &catalogs, &another);
    assert_eq!(all[0].sick, (1, 1));
    let equal = market(&[("acme", None, None, &[("small", "free")]), ("here", None, None, &[("small", "free")])]);
    let all = candidates(&world.known, &equal.0, &equal.1, &another);
    assert_eq!(all[0].verdict, Judged::Lost("most of what was bought there does not work now".to_owned()));
}

#[test]
fn where_nothing_may_be_is_told() {
    let (mut town, catalogs) =
        market(&[("acme", Some("eu-west"), None, &[("small", "9")]), ("bolt", None, None, &[("small", "8")])]);
    town.residency = vec!["ch".to_owned(), "eu-central".to_owned()];
    let problems = place(&Knowledge::default(), &town, &catalogs).unwrap_err();
    let PlacementProblem { key, cause, .. } = &problems[0];
    assert_eq!((*key, cause.as_str()), ("offering", "acme is in eu-west, and `residency` allows only ch, eu-central"));
}
