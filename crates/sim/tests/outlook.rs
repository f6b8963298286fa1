//! Years of faults under a policy: what is promised to whoever asks what a year would be like.

#![allow(clippy::panic, clippy::unwrap_used, reason = "helpers of tests")]

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use ostler_model::catalog::Price;
use ostler_model::estate::failures::{FailureKind, FailureRate, Failures};
use ostler_model::estate::terms::{Credit, Terms};
use ostler_model::time::Span;
use ostler_runtime::seen::Seen;
use ostler_sim::{
    Dice, Extra, Kind, Outlook, Policy, Question, Rates, Sketch, Source, Town, expected, look_ahead, provider_name,
    rates, service_name,
};

const DAY: Duration = Duration::from_secs(86_400);
const OSTLER: Policy = Policy::Ostler { answers: Duration::from_secs(3600) };

fn ask(town: &Town, policy: Policy, years: u32, days: u32) -> Outlook {
    let expected = expected(town, &BTreeMap::new());
    look_ahead(&question(town, rates(&expected), policy, years, days), &|| {})
}

fn question(town: &Town, rates: Rates, policy: Policy, years: u32, days: u32) -> Question {
    Question { town: town.clone(), rates, extra: Vec::new(), policy, seed: 1, years, length: DAY * days }
}

/// A policy that is worse than none is a fault. The faults are the same in both.
#[test]
fn nobody_is_better_off_with_nothing_done() {
    for seed in 0..12 {
        let mut sketch = Sketch::draw(Dice::new(seed), 6, 3);
        // Backups every quarter of an hour are most of what happens in a year, and say nothing of this.
        sketch.services.iter_mut().for_each(|service| {
            service.backup_every = service.backup_every.map(|minutes| minutes.max(240));
            service.prove_every = None;
        });
        let town = sketch.town();
        let (ostler, nobody) = (ask(&town, OSTLER, 4, 180), ask(&town, Policy::Nobody, 4, 180));
        assert_eq!(ostler.broken, Vec::new(), "estate {seed}");
        for (name, service) in &ostler.services {
            let alone = &nobody.services[name];
            for tenths in [0, 5, 10] {
                let (with, without) = (service.quantile(tenths), alone.quantile(tenths));
                assert!(with >= without, "estate {seed}, {name}: {with} % with ostler, {without} % without");
            }
        }
    }
}

#[test]
fn the_same_question_has_the_same_answer() {
    let town = Sketch::draw(Dice::new(7), 6, 3).town();
    assert_eq!(ask(&town, OSTLER, 3, 60), ask(&town, OSTLER, 3, 60));
}

#[test]
fn with_no_faults_nothing_is_lost() {
    let town = Sketch::draw(Dice::new(3), 6, 3).town();
    let outlook = look_ahead(&question(&town, Rates::default(), OSTLER, 2, 30), &|| {});
    for (name, service) in &outlook.services {
        assert_eq!((service.quantile(0).to_string().as_str(), service.recoveries.len()), ("100", 0), "{name}");
    }
}

/// An outage of a provider that lasts six hours of thirty days is 0.83 % of them: the provider owes a quarter of a month.
#[test]
fn what_a_provider_owes_follows_from_its_terms() {
    let mut town = Sketch::even(10, 1, 1, 1, None).town();
    let percent = |text: &str| text.parse().unwrap();
    let mut estate = (*town.estate).clone();
    let credits = [("99.95%", "10%"), ("99.5%", "25%"), ("90%", "100%")];
    let credits = credits.map(|(below, refund)| Credit { below: percent(below), refund: percent(refund) });
    let terms = Terms { availability: Some(percent("99.95%")), credits: credits.to_vec(), ..Terms::default() };
    estate.providers.get_mut(&provider_name(0)).unwrap().terms = Some(terms);
    town.estate = Arc::new(estate);
    for catalog in town.catalogs.values_mut() {
        for offering in Arc::make_mut(catalog).offerings.values_mut() {
            let price = Price { amount: "10".to_owned(), currency: "EUR".to_owned(), per: "month".to_owned() };
            offering.plans[0].price = Some(price);
        }
    }
    let extra = vec![Extra { provider: provider_name(0), lasts: Span::seconds(6 * 3600) }];
    let question = Question { extra, ..question(&town, Rates::default(), OSTLER, 1, 360) };
    let outlook = look_ahead(&question, &|| {});
    let db = &outlook.services[&service_name(0)];
    assert_eq!(db.cost.unwrap().to_string(), "120.00");
    assert_eq!(db.credits.unwrap().to_string(), "2.50");
    let longest = db.recovery(100).unwrap();
    assert!(longest >= Duration::from_secs(6 * 3600) && longest < Duration::from_secs(7 * 3600), "{longest:?}");
}

/// A database at a broker, and nothing else: its provider heals it, or has to be told by a person.
#[test]
fn what_was_bought_is_down_until_its_provider_has_healed_it() {
    let mut sketch = Sketch::even(1, 1, 2, 1, None);
    sketch.providers[1].kind = Kind::Broker;
    sketch.services[0].provider = 1;
    let mut town = sketch.town();
    let failures = |kind, lasts: Option<u64>| -> Failures {
        let lasts = lasts.map(|seconds| (Span::seconds(seconds), Span::seconds(seconds)));
        [(kind, Some(FailureRate { every: Span::seconds(20 * 86_400), lasts }))].into_iter().collect()
    };
    let mut recovery = |kind, lasts, policy| {
        Arc::make_mut(Arc::make_mut(&mut town.estate).services.get_mut(&service_name(0)).unwrap()).failures =
            failures(kind, lasts);
        let expected = expected(&town, &BTreeMap::new());
        let only: Vec<_> = expected.into_iter().filter(|one| one.kind == kind).collect();
        let outlook = look_ahead(&question(&town, rates(&only), policy, 2, 360), &|| {});
        assert_eq!(outlook.broken, Vec::new());
        let db = &outlook.services[&service_name(0)];
        (db.recovery(0).unwrap().as_secs(), db.recovery(100).unwrap().as_secs())
    };
    for policy in [OSTLER, Policy::Nobody] {
        // A minute to ten where nobody says otherwise, and what it takes to be ready.
        let (least, most) = recovery(FailureKind::Crash, None, policy);
        assert!(least >= 60 && most <= 660 && most > least, "{least} to {most}");
        let (least, most) = recovery(FailureKind::Crash, Some(1800), policy);
        assert!(least >= 1800 && most <= 1860, "{least} to {most}");
        let (least, most) = recovery(FailureKind::Hang, Some(1800), policy);
        assert!(least >= 1800 && most <= 1860, "{least} to {most}");
    }
    // Its provider does not find out: ostler tells a person, who answers within an hour; without it nobody ever does.
    let (_, most) = recovery(FailureKind::Hang, None, OSTLER);
    assert!((600..3600 + 660).contains(&most), "{most}");
    let (_, most) = recovery(FailureKind::Hang, None, Policy::Nobody);
    assert!(most > 30 * 86_400, "{most}");
}

#[test]
fn what_somebody_says_is_believed_in_this_order() {
    let mut town = Sketch::even(10, 1, 1, 1, None).town();
    let source = |town: &Town, seen: &BTreeMap<_, _>, kind: FailureKind, target: &str| {
        let all = expected(town, seen);
        let found = all.into_iter().find(|one| one.kind == kind && one.target == target).unwrap();
        (found.source, found.every.map(|every| every.get().as_secs() / 86_400))
    };
    let none = BTreeMap::new();
    assert_eq!(source(&town, &none, FailureKind::Crash, "s0"), (Source::Assumed, Some(90)));
    // Two in 90 days, with one that is assumed in 90 more: one in 60.
    let seen = Seen { observed: DAY * 90, crashes: 2, hangs: 0 };
    let seen = BTreeMap::from([(service_name(0), seen)]);
    assert_eq!(source(&town, &seen, FailureKind::Crash, "s0"), (Source::Journal, Some(60)));
    assert_eq!(source(&town, &seen, FailureKind::Crash, "s1"), (Source::Assumed, Some(90)));

    let says = |days: u64| -> Failures {
        let rate = FailureRate { every: Span::seconds(days * 86_400), lasts: None };
        [(FailureKind::Crash, Some(rate)), (FailureKind::Hang, None)].into_iter().collect()
    };
    let mut estate = (*town.estate).clone();
    estate.failures = says(30);
    Arc::make_mut(estate.services.get_mut(&service_name(1)).unwrap()).failures = says(7);
    let provider = estate.providers.get_mut(&provider_name(0)).unwrap();
    // A mean outage of 30.5 minutes, and one thousandth of the time missing: one in 30,500 minutes.
    provider.terms = Some(Terms { availability: Some("99.9%".parse().unwrap()), ..Terms::default() });
    town.estate = Arc::new(estate);
    assert_eq!(source(&town, &seen, FailureKind::Crash, "s0"), (Source::File, Some(30)));
    assert_eq!(source(&town, &seen, FailureKind::Crash, "s1"), (Source::File, Some(7)));
    assert_eq!(source(&town, &seen, FailureKind::Hang, "s1"), (Source::File, None));
    assert_eq!(source(&town, &seen, FailureKind::Outage, "p0"), (Source::Terms, Some(21)));
}
