//! Whether to own or to buy: against a spreadsheet computed by hand, and what must be so of every answer.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use ostler_books::own::{
    Answer, Measured, Offer, Origin, OutagesSeen, Part, Question, Stated, YEARS_MAX, offers, stated, weigh,
};
use ostler_model::estate::own::{Assumption, Range, Unit};
use ostler_model::estate::{Estate, parse};
use rust_decimal::Decimal;

use crate::town::{at, catalog, estate};

fn decimal(text: &str) -> Decimal {
    text.parse().unwrap_or_else(|_| panic!("`{text}` is no number"))
}

/// What is assumed, and each cell by its name and year.
struct Sheet {
    assumed: BTreeMap<String, String>,
    cells: BTreeMap<String, Vec<Decimal>>,
}

fn sheet() -> Sheet {
    let mut reader =
        csv::ReaderBuilder::new().comment(Some(b'#')).from_reader(include_bytes!("own-or-buy.csv").as_slice());
    let (mut assumed, mut cells) = (BTreeMap::new(), BTreeMap::new());
    for row in reader.records() {
        let row = row.unwrap();
        match &row[0] {
            "assumption" => drop(assumed.insert(row[1].to_owned(), row[3].to_owned())),
            "cell" => {
                assert!(!row[2].is_empty(), "{} says how it is computed", &row[1]);
                cells.insert(row[1].to_owned(), (3..6).map(|column| decimal(&row[column])).collect());
            }
            other => panic!("`{other}` is no kind of line"),
        }
    }
    Sheet { assumed, cells }
}

impl Sheet {
    fn stated(&self) -> Vec<Stated> {
        let of = |assumption: &Assumption| {
            let text = &self.assumed[assumption.as_str()];
            let range = Range::read(text, assumption.unit()).unwrap();
            Stated { assumption: *assumption, range, origin: Origin::Service }
        };
        Assumption::ALL.iter().map(of).collect()
    }

    fn offer(&self) -> Offer {
        let available = decimal(self.assumed["available"].trim_end_matches('%'));
        Offer {
            provider: "acme".parse().unwrap(),
            plan: "small".parse().unwrap(),
            monthly: decimal(&self.assumed["plan_month"]),
            once: decimal(&self.assumed["plan_once"]),
            gigabyte: decimal(&self.assumed["plan_gb"]),
            away: Range::certain((Decimal::ONE_HUNDRED - available) * Decimal::from(8760) / Decimal::ONE_HUNDRED),
            origin: Origin::Promised,
        }
    }

    /// A part over so many years: what is paid adds up, what machines are worth is what they are in the end.
    fn over(&self, name: &str, years: usize) -> Decimal {
        match name {
            "own worth" => -self.cells[name][years - 1],
            name => self.cells[name][..years].iter().sum(),
        }
    }
}

fn part(parts: &[(Part, Decimal)], wanted: Part) -> Decimal {
    parts.iter().find(|(part, _)| *part == wanted).map(|(_, amount)| *amount).unwrap_or_default()
}

/// Sums of up to three cells that were each rounded to the cent.
fn assert_near(found: Decimal, expected: Decimal, what: &str) {
    assert!((found - expected).abs() <= Decimal::new(15, 3), "{what}: {found} and not {expected}");
}

#[test]
fn it_is_as_the_spreadsheet_has_it() {
    let sheet = sheet();
    for years in 1..=3 {
        let (stated, offers) = (sheet.stated(), vec![sheet.offer()]);
        let answer = weigh(&Question { stated, offers, years, seed: 1 });
        let years = years as usize;
        let buy = &answer.plans[0].way;
        for (name, of, wanted) in [
            ("own machines", &answer.own, Part::Machines),
            ("own worth", &answer.own, Part::Worth),
            ("own setup", &answer.own, Part::Setup),
            ("own power", &answer.own, Part::Power),
            ("own space", &answer.own, Part::Space),
            ("own licences", &answer.own, Part::Licences),
            ("own care", &answer.own, Part::Care),
            ("own upgrades", &answer.own, Part::Upgrades),
            ("own outages", &answer.own, Part::Outages),
            ("buy plans", buy, Part::Plans),
            ("buy fees", buy, Part::Fees),
            ("buy traffic", buy, Part::Traffic),
            ("buy care", buy, Part::Care),
            ("buy outages", buy, Part::Outages),
        ] {
            assert_near(part(&of.parts, wanted), sheet.over(name, years), &format!("{name} over {years}"));
        }
        for year in 1..=years {
            let cell = |name: &str| sheet.cells[name][year - 1];
            let cents = |amount: Decimal| amount.round_dp(2);
            assert_eq!(cents(answer.own.over[year - 1]), cell("own over"), "owning over {year}");
            assert_eq!(cents(buy.over[year - 1]), cell("buy over"), "buying over {year}");
        }
        // Nothing is uncertain there.
        assert!(answer.hangs.is_empty());
        for (way, over) in [(&answer.own, &answer.own.over), (buy, &buy.over)] {
            for (spread, exact) in way.spread.iter().zip(over) {
                let exact: f64 = exact.to_string().parse().unwrap();
                assert!((spread.low - exact).abs() < 1e-6 && (spread.high - exact).abs() < 1e-6, "{spread:?} {exact}");
            }
        }
    }
}

fn question(years: u32, change: &[(&str, &str)]) -> Question {
    let sheet = sheet();
    let mut stated = sheet.stated();
    for (name, text) in change {
        let found = stated.iter_mut().find(|stated| stated.assumption.as_str() == *name).unwrap();
        found.range = Range::read(text, found.assumption.unit()).unwrap();
    }
    Question { stated, offers: vec![sheet.offer()], years, seed: 7 }
}

/// By how much owning is dearer.
fn dearer(answer: &Answer) -> Decimal {
    answer.own.over.last().unwrap() - answer.plans[0].way.over.last().unwrap()
}

#[test]
fn from_the_break_even_volume_on_owning_costs_no_more() {
    for years in 1..=YEARS_MAX {
        let volume = weigh(&question(years, &[])).plans[0].volume.expect("it breaks even somewhere");
        let at = |count: u32| dearer(&weigh(&question(years, &[("instances", &count.to_string())])));
        assert!(at(volume) <= Decimal::ZERO, "{years} years, {volume} instances");
        assert!(volume == 1 || at(volume - 1) > Decimal::ZERO, "{years} years, {volume} instances");
    }
    // Where a server costs as much as the plan of all that it holds, no volume helps.
    assert_eq!(weigh(&question(3, &[("space", "600"), ("growth", "0%")])).plans[0].volume, None);
}

#[test]
fn from_the_break_even_month_on_owning_has_cost_no_more() {
    // Machines that last, and a plan's price that grows with the volume.
    let of = |change: &[(&str, &str)]| weigh(&question(7, change)).plans[0].months;
    let months = of(&[("years", "7"), ("holds", "16")]).expect("it breaks even");
    assert!((2..84).contains(&months), "{months}");
    let later = of(&[("years", "7"), ("holds", "16"), ("setup", "80")]).expect("it breaks even");
    assert!(later >= months, "what is paid at first is made good later: {months} {later}");
    assert_eq!(of(&[("purchase", "0"), ("setup", "0"), ("care", "0"), ("space", "0")]), Some(1));
    assert_eq!(of(&[("space", "900")]), None);
}

#[test]
fn what_it_hangs_on_most_comes_first_and_is_what_it_would_be() {
    let ranges = [
        ("care", "4..8..16"),
        ("salary", "60000..80000..90000"),
        ("kwh", "0.24..0.25..0.26"),
        ("growth", "0%..50%..60%"),
    ];
    let answer = weigh(&question(3, &ranges));
    let swings: Vec<Decimal> = answer.hangs.iter().map(|hangs| hangs.swing()).collect();
    assert_eq!(answer.hangs.len(), 4);
    assert!(swings.is_sorted_by(|a, b| a >= b), "{swings:?}");
    assert_eq!(answer.hangs.last().unwrap().assumption, Some(Assumption::Kwh));
    for hangs in &answer.hangs {
        let name = hangs.assumption.unwrap();
        for (figure, expected) in [(hangs.range.low(), hangs.at_low), (hangs.range.high(), hangs.at_high)] {
            let sign = if name.unit() == Unit::Percent { "%" } else { "" };
            let alone = weigh(&question(3, &[(name.as_str(), &format!("{figure}{sign}"))]));
            assert_eq!(dearer(&alone), expected, "{name} of {figure}");
        }
    }
}

#[test]
fn chance_is_repeated_by_its_seed_and_lies_within_the_ends() {
    let ranges = [("care", "4..8..16"), ("salary", "60000..80000..110000"), ("years", "2..6"), ("growth", "0%..50%")];
    let asked = question(5, &ranges);
    let answer = weigh(&asked);
    assert_eq!(answer, weigh(&asked));
    let other = weigh(&Question { seed: 8, ..asked });
    assert_ne!(answer.own.spread, other.own.spread);
    assert_eq!(answer.own.over, other.own.over, "what is most likely is no matter of chance");
    for (spread, over) in answer.own.spread.iter().zip(&answer.own.over) {
        assert!(spread.low < spread.middle && spread.middle < spread.high, "{spread:?} {over}");
        // Two seeds of 2,000 draws agree about the middle.
    }
    for (one, two) in answer.own.spread.iter().zip(&other.own.spread) {
        assert!((one.middle - two.middle).abs() < 0.05 * one.middle, "{one:?} {two:?}");
    }
    assert!(answer.plans[0].owning_wins <= 2_000);
}

const BROKER: &str = "[service.db]\noffering = \"postgresql\"\ninstances = 3\n";

fn declared(head: &str, rest: &str) -> Estate {
    parse("shop.toml", Path::new("/srv"), &estate(head, rest)).unwrap_or_else(|problems| panic!("{problems}")).estate
}

fn seen(provider: &str, days: u64, hours: u64, times: Option<u32>) -> OutagesSeen {
    let watched = Duration::from_secs(days * 86_400);
    OutagesSeen { provider: provider.parse().unwrap(), watched, away: Duration::from_secs(hours * 3_600), times }
}

fn found(estate: &Estate, measured: &Measured, wanted: Assumption) -> String {
    let service = &estate.services[&"db".parse().unwrap()];
    let stated = stated(estate, service, measured).unwrap();
    let found = stated.into_iter().find(|stated| stated.assumption == wanted).unwrap();
    format!("{} {:?}", found.range, found.origin)
}

#[test]
fn what_is_nearest_to_the_service_counts() {
    let own = "[own]\ncare = \"1..3\"\npurchase = 999\n[service.db.own]\ncare = 5\n";
    let machine = "[provider.here.cost]\npurchase = 2400\nyears = 4\ncare = 2\ncare_rate = 60\n";
    let none = Measured::default();
    let all = declared("", &format!("{BROKER}{own}{machine}"));
    assert_eq!(found(&all, &none, Assumption::Care), "5 Service");
    assert_eq!(found(&all, &none, Assumption::Purchase), "999 Estate");
    assert_eq!(found(&all, &none, Assumption::Years), "4 File(\"`years` of `[provider.here.cost]`\")");
    let salary = "96000 File(\"`care_rate` of `[provider.here.cost]`, times 1,600 hours\")";
    assert_eq!(found(&all, &none, Assumption::Salary), salary);
    assert_eq!(found(&all, &none, Assumption::Instances), "3 File(\"`instances` of db\")");
    assert_eq!(found(&all, &none, Assumption::Watts), "100..200..400 Default");
}

#[test]
fn what_was_measured_long_enough_counts_before_what_is_guessed() {
    let estate = declared("", BROKER);
    let on = |service: Option<OutagesSeen>, provider: Option<OutagesSeen>| Measured {
        service,
        traffic: None,
        providers: provider.into_iter().map(|seen| (seen.provider.clone(), seen)).collect(),
    };
    // 4 times and 8 hours in 73 days are 20 times a year, of two hours each.
    let long = on(Some(seen("here", 73, 8, Some(4))), None);
    let from = "Measured(\"the service itself, over 73 days\")";
    assert_eq!(found(&estate, &long, Assumption::Outages), format!("10..20..40 {from}"));
    assert_eq!(found(&estate, &long, Assumption::Heal), format!("1..2..4 {from}"));
    let short = on(Some(seen("here", 29, 8, Some(4))), None);
    assert_eq!(found(&estate, &short, Assumption::Outages), "1..3..6 Default");
    // That there was none in a fifth of a year does not say that there will be none.
    let none = on(Some(seen("here", 73, 0, Some(0))), None);
    assert_eq!(found(&estate, &none, Assumption::Outages), format!("0..0..5 {from}"));
    assert_eq!(found(&estate, &none, Assumption::Heal), "0.5..2..6 Default");
    let elsewhere = on(Some(seen("acme", 73, 8, Some(4))), None);
    assert_eq!(found(&estate, &elsewhere, Assumption::Outages), "1..3..6 Default", "it was bought then");
    let machine = on(None, Some(seen("here", 365, 6, None)));
    assert!(found(&estate, &machine, Assumption::Heal).starts_with("3..6..12 Measured(\"everything at here"));
}

#[test]
fn plans_have_their_price_and_what_is_known_of_their_provider() {
    let catalogs = BTreeMap::from([(
        "acme".parse().unwrap(),
        Arc::new(catalog(&[
            ("large", &[("0.1", "USD", "Hourly"), ("25", "EUR", "setup")]),
            ("odd", &[("1", "EUR", "1GB of messages over 20GB")]),
            ("small", &[("19.90", "EUR", "MONTHLY")]),
        ])),
    )]);
    let ask = |rest: &str, measured: &Measured| {
        let estate = declared("rates = { USD = \"0.9\" }", &format!("{BROKER}{rest}"));
        let service = &estate.services[&"db".parse().unwrap()];
        let stated = stated(&estate, service, measured).unwrap();
        let now = at("2026-11-01T00:00:00Z");
        let (offers, left_out) = offers(&estate, &catalogs, service, &stated, measured, now);
        let offers: Vec<String> = offers
            .iter()
            .map(|offer| format!("{}: {} {} {}", offer.name(), offer.monthly.normalize(), offer.once, offer.away))
            .collect();
        let left_out: Vec<String> = left_out.iter().map(|left| left.why.clone()).collect();
        (offers, left_out)
    };
    let (offers, left_out) = ask("", &Measured::default());
    assert_eq!(offers, ["large at acme: 65.7 25 0.876..8.76..43.8", "small at acme: 19.9 0 0.876..8.76..43.8"]);
    assert_eq!(left_out.len(), 1, "{left_out:?}");
    assert!(left_out[0].contains("1GB of messages"), "{left_out:?}");
    let promises = ask("[provider.acme.terms]\navailability = \"99.95%\"", &Measured::default()).0;
    assert_eq!(promises[1], "small at acme: 19.9 0 0..2.19..4.38");
    let of_acme = seen("acme", 365, 5, None);
    let measured =
        Measured { service: None, traffic: None, providers: BTreeMap::from([(of_acme.provider.clone(), of_acme)]) };
    let measured = ask("[provider.acme.terms]\navailability = \"99.95%\"", &measured).0;
    assert_eq!(measured[1], "small at acme: 19.9 0 2.5..5..10");
}

#[test]
fn defaults_are_worth_what_a_euro_is_worth() {
    let none = Measured::default();
    let crowns = declared("currency = \"SEK\"\nrates = { EUR = \"11.5\" }", BROKER);
    assert_eq!(found(&crowns, &none, Assumption::Purchase), "23000..46000..92000 Default");
    let unknown = declared("currency = \"SEK\"", BROKER);
    let service = &unknown.services[&"db".parse().unwrap()];
    let error = stated(&unknown, service, &none).unwrap_err().to_string();
    assert!(error.contains("SEK"), "{error}");
}
