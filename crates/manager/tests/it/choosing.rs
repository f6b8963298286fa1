//! Which plan of which provider is chosen, and what the others are told.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use ostler_manager::{Candidate, Evidence, Judged, Knowledge, PlacementProblem, candidates, place};
use ostler_model::catalog::{Catalog, Plan, Price};
use ostler_model::estate::certificate::Certificate;
use ostler_model::estate::failures::Failures;
use ostler_model::estate::terms::Terms;
use ostler_model::estate::{Estate, HostProvider, Parameters, Provider, ProviderKind, Service};
use ostler_model::ids::ProviderName;
use ostler_model::time::Timestamp;

use crate::support::{START, catalog, estate, instance, name, offering, service};
use crate::world::World;

/// Providers of redis: name, region, availability, and plans with their prices a month; `-` for none stated, `free`.
type Market<'a> = &'a [(&'a str, Option<&'a str>, Option<&'a str>, &'a [(&'a str, &'a str)])];

fn market(of: Market<'_>) -> (Estate, BTreeMap<ProviderName, Arc<Catalog>>) {
    let mut town = estate(50, vec![service("db", "redis")]);
    town.providers.clear();
    let mut catalogs = BTreeMap::new();
    for (called, region, availability, plans) in of {
        let called: ProviderName = called.parse().unwrap();
        let terms = availability.map(|text| Terms { availability: Some(text.parse().unwrap()), ..Terms::default() });
        let provider = Provider {
            name: called.clone(),
            region: region.map(str::to_owned),
            failures: Failures::default(),
            terms,
            context: Parameters::default(),
            certificate: None,
            pricing: Default::default(),
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
        let certificate = candidate.certificate.as_ref().map(|certificate| format!(" ({})", certificate.in_words()));
        let delivered = candidate.delivered.as_ref().map(|delivered| format!(" ({})", delivered.in_words()));
        let (certificate, delivered) = (certificate.unwrap_or_default(), delivered.unwrap_or_default());
        format!("{} {plan}{certificate}{delivered} {verdict}", candidate.provider)
    };
    let all = candidates(known, town, catalogs, &town.services[&name("db")], START);
    let chosen: Vec<&Candidate> = all.iter().filter(|c| matches!(c.verdict, Judged::Chosen(_))).collect();
    assert!(chosen.len() <= 1, "{chosen:?}");
    // What is told is what is done.
    match (place(known, town, catalogs, START), chosen.first()) {
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
        [
            "acme small (delivered 1 of 1 order, instances made in 0.0 ms) chosen: it is there already",
            "here small excluded: `db` exists at acme"
        ]
    );
    // Something else that is bought there does not work.
    world.never_ready.insert(name("db"));
    world.instances.get_mut(&instance("db-1")).unwrap().process.as_mut().unwrap().hung = true;
    world.pass(Duration::from_secs(600));
    for _ in 0..20 {
        world.oblige();
    }
    let (mut town, catalogs) = everybody;
    let another = Service { name: name("other"), ..(*town.services[&name("db")]).clone() };
    town.services.insert(name("other"), Arc::new(another.clone()));
    let all = candidates(&world.known, &town, &catalogs, &another, world.now);
    assert_eq!(all[0].sick, (1, 1));
    let equal = market(&[("acme", None, None, &[("small", "free")]), ("here", None, None, &[("small", "free")])]);
    let all = candidates(&world.known, &equal.0, &equal.1, &another, world.now);
    assert_eq!(all[0].verdict, Judged::Lost("most of what was bought there does not work now".to_owned()));
}

const DAY: Duration = Duration::from_secs(86_400);

/// Examined 60 days before the start, to be believed for 90 days.
fn certificate() -> Certificate {
    let at = Timestamp(START.0) - DAY * 60;
    Certificate { at, valid_until: at + DAY * 90, full: true, breaks_you: 0, surprises_you: 2, cosmetic: 1, left: 0 }
}

fn expired() -> Certificate {
    Certificate { valid_until: START - DAY, ..certificate() }
}

fn unfit() -> Certificate {
    Certificate { breaks_you: 2, ..certificate() }
}

/// With these certificates of `a`, `b` and so on.
fn certified(of: Market<'_>, certificates: &[Option<Certificate>]) -> (Estate, BTreeMap<ProviderName, Arc<Catalog>>) {
    let (mut town, catalogs) = market(of);
    for (provider, certificate) in town.providers.values_mut().zip(certificates) {
        provider.certificate = *certificate;
    }
    (town, catalogs)
}

#[test]
fn certificates_count_before_prices_and_failed_ones_before_everything() {
    let nobody = Knowledge::default();
    let four: Market<'_> = &[
        ("a", None, None, &[("small", "1")]),
        ("b", None, None, &[("small", "2")]),
        ("c", None, None, &[("small", "3")]),
        ("d", None, None, &[("small", "4")]),
    ];
    let two: Market<'_> = &four[..2];
    let in_order =
        |estate| with(estate, |service| service.prefer = ["a", "b"].map(|name| name.parse().unwrap()).to_vec());
    let read = Certificate { full: false, ..certificate() };
    let left = Certificate { left: 1, breaks_you: 1, ..certificate() };
    let sick_at_a = {
        let mut known = Knowledge::default();
        let seen = Evidence { counted: START, halved: START, done: 1, failed: 9, ..Evidence::default() };
        known.evidence.insert("a".parse().unwrap(), seen);
        known
    };
    let cases = [
        (
            "fit before none, none before expired, expired before unfit; only then the price",
            told(&nobody, &certified(four, &[Some(unfit()), Some(expired()), None, Some(certificate())])),
        ),
        ("none before expired", told(&nobody, &certified(two, &[Some(expired()), None]))),
        ("expired before unfit", told(&nobody, &certified(two, &[Some(unfit()), Some(expired())]))),
        ("equal ones leave it to the price", told(&nobody, &certified(two, &[Some(certificate()), Some(read)]))),
        (
            "a preference counts before a certificate",
            told(&nobody, &in_order(certified(two, &[None, Some(certificate())]))),
        ),
        ("but not before a failed examination", told(&nobody, &in_order(certified(two, &[Some(unfit()), None])))),
        ("who alone is preferred is bought from all the same", {
            let alone = |service: &mut Service| service.prefer = vec!["a".parse().unwrap()];
            told(&nobody, &with(certified(two, &[Some(left), Some(certificate())]), alone))
        }),
        ("blame does not expire", {
            let old = Certificate { valid_until: START - DAY, ..unfit() };
            told(&nobody, &certified(two, &[Some(old), Some(expired())]))
        }),
        (
            "what was measured counts before a certificate",
            told(&sick_at_a, &certified(two, &[Some(certificate()), None])),
        ),
        ("and after a preference", told(&sick_at_a, &in_order(certified(two, &[None, None])))),
    ];
    let text: String = cases.iter().map(|(what, lines)| format!("{what}\n  {}\n\n", lines.join("\n  "))).collect();
    insta::assert_snapshot!(text);
}

/// Whichever two of three are compared, the best of all is the same: the order of the providers decides nothing.
#[test]
fn the_best_is_the_best_in_any_order() {
    let measured = |hours: u64, missed: u64, done, failed| Evidence {
        counted: START,
        halved: START,
        watched_us: hours * 3_600_000_000,
        missed_us: missed * 60_000_000,
        done,
        failed,
        ..Evidence::default()
    };
    // Each is a little worse than the one before, and a little cheaper; only the last falls short.
    let seen =
        [measured(1000, 0, 90, 10), measured(1000, 40, 80, 20), measured(1000, 80, 70, 30), measured(1000, 120, 9, 91)];
    let mut best = Vec::new();
    for turned in 0..seen.len() {
        let names = ["a", "b", "c", "d"];
        let prices = ["4", "3", "2", "1"];
        let mut known = Knowledge::default();
        let mut providers = Vec::new();
        let plans: Vec<[(&str, &str); 1]> = (0..4).map(|at| [("small", prices[(at + turned) % 4])]).collect();
        for (at, name) in names.iter().enumerate() {
            known.evidence.insert(name.parse().unwrap(), seen[(at + turned) % 4]);
            providers.push((*name, None, Some("99.95%"), plans[at].as_slice()));
        }
        let (town, catalogs) = market(&providers);
        let all = candidates(&known, &town, &catalogs, &town.services[&name("db")], START);
        let chosen = all.into_iter().find(|candidate| matches!(candidate.verdict, Judged::Chosen(_))).unwrap();
        best.push(chosen.price.unwrap().amount);
    }
    assert_eq!(best, ["2"; 4]);
}

#[test]
fn where_nothing_may_be_is_told() {
    let (mut town, catalogs) =
        market(&[("acme", Some("eu-west"), None, &[("small", "9")]), ("bolt", None, None, &[("small", "8")])]);
    town.residency = vec!["ch".to_owned(), "eu-central".to_owned()];
    let problems = place(&Knowledge::default(), &town, &catalogs, START).unwrap_err();
    let PlacementProblem { key, cause, .. } = &problems[0];
    assert_eq!((*key, cause.as_str()), ("offering", "acme is in eu-west, and `residency` allows only ch, eu-central"));
}
