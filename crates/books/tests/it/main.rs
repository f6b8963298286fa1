//! The books of small stories, reckoned by hand; and what must be so of every story.

#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers of tests fail like tests")]

mod carried;
mod credits;
mod exported;
mod fit;
mod overrides;
mod own;
mod town;
mod validator;

use ostler_books::{By, Ledger, NoBooks, Report, Statement};
use ostler_manager::{FactKind, ResumeCause};
use ostler_model::ids::Position;
use ostler_model::time::Timestamp;
use proptest::prelude::*;
use rust_decimal::Decimal;

use self::town::{Town, at, estate};

const MONTHLY: &[(&str, &str, &str)] = &[("30", "EUR", "MONTHLY")];

fn statement(town: &Town, month: &str, now: &str) -> Statement {
    town.ledger.statement(Some(month.parse().unwrap()), at(now)).unwrap()
}

/// `name so-far forecast`, and the sum.
fn shown(report: &Report) -> Vec<String> {
    let rows = report.rows.iter().map(|row| format!("{} {} {}", row.name, row.so_far, row.forecast));
    rows.chain([format!("all {} {}", report.so_far, report.forecast)]).collect()
}

fn by_service(town: &Town, month: &str, now: &str) -> Vec<String> {
    shown(&statement(town, month, now).report(By::Service))
}

#[test]
fn a_plan_is_changed_in_the_middle_of_an_hour() {
    let mut town = Town::default();
    town.declare("2026-11-01T00:00:00Z", &estate("", "[service.db]\noffering = \"postgresql\""));
    town.list("2026-11-01T00:00:00Z", &[("small", MONTHLY), ("large", &[("0.10", "EUR", "Hourly")])]);
    town.buy(at("2026-11-01T00:00:00Z"), "db", "acme", "small");
    town.change("2026-11-16T00:30:00Z", "db", 1, "large");
    // 15 days and half an hour of 30 are 15.0208…; 359.5 hours at 0.10 are 35.95.
    assert_eq!(by_service(&town, "2026-11", "2026-12-01T00:00:00Z"), ["db 50.97 50.97", "all 50.97 50.97"]);
    assert_eq!(by_service(&town, "2026-11", "2026-11-16T02:00:00Z"), ["db 15.17 50.97", "all 15.17 50.97"]);
}

#[test]
fn a_whole_month_costs_the_price_of_a_month_however_long_it_is() {
    let mut town = Town::default();
    town.declare(
        "2026-01-01T00:00:00Z",
        &estate("zone = \"Europe/Berlin\"", "[service.db]\noffering = \"postgresql\""),
    );
    town.list("2026-01-01T00:00:00Z", &[("small", MONTHLY)]);
    town.buy(at("2026-01-01T00:00:00Z"), "db", "acme", "small");
    // February, a leap day, clocks put forward and put back.
    for month in ["2026-02", "2028-02", "2026-03", "2026-10", "2026-12"] {
        assert_eq!(by_service(&town, month, "2030-01-01T00:00:00Z"), ["db 30.00 30.00", "all 30.00 30.00"], "{month}");
    }
    // In Berlin the year began an hour before it was bought.
    let january = statement(&town, "2026-01", "2026-02-01T00:00:00Z");
    assert_eq!(january.from, at("2025-12-31T23:00:00Z"));
    assert_eq!(january.so_far[0].quantity.to_string(), "0.998655913978");
}

#[test]
fn hours_are_hours_also_on_the_day_when_clocks_change() {
    let mut town = Town::default();
    town.declare(
        "2026-01-01T00:00:00Z",
        &estate("zone = \"Europe/Berlin\"", "[service.db]\noffering = \"postgresql\""),
    );
    town.list("2026-01-01T00:00:00Z", &[("small", &[("1", "EUR", "hour")])]);
    town.buy(at("2026-01-01T00:00:00Z"), "db", "acme", "small");
    assert_eq!(by_service(&town, "2026-03", "2027-01-01T00:00:00Z")[1], "all 743.00 743.00");
    assert_eq!(by_service(&town, "2026-10", "2027-01-01T00:00:00Z")[1], "all 745.00 745.00");
}

#[test]
fn a_price_counts_from_when_it_is_stated_and_once_is_once() {
    let mut town = Town::default();
    town.declare("2026-11-01T00:00:00Z", &estate("", "[service.db]\noffering = \"postgresql\""));
    town.list("2026-11-01T00:00:00Z", &[("small", &[("30", "EUR", "MONTHLY"), ("99", "EUR", "one-time")])]);
    town.buy(at("2026-11-01T00:00:00Z"), "db", "acme", "small");
    town.list("2026-11-16T00:00:00Z", &[("small", &[("60", "EUR", "MONTHLY"), ("99", "EUR", "one-time")])]);
    assert_eq!(by_service(&town, "2026-11", "2026-12-01T00:00:00Z")[1], "all 144.00 144.00", "15 and 30 and 99");
    assert_eq!(by_service(&town, "2026-12", "2027-01-01T00:00:00Z")[1], "all 60.00 60.00");
    // The estate's word counts before the catalog's.
    let terms = "[provider.acme.terms.prices.postgresql]\nsmall = \"12\"\n[service.db]\noffering = \"postgresql\"";
    town.declare("2026-12-01T00:00:00Z", &estate("", terms));
    assert_eq!(by_service(&town, "2026-12", "2027-01-01T00:00:00Z")[1], "all 12.00 12.00");
}

#[test]
fn currencies_are_not_mixed_without_a_rate() {
    let mut town = Town::default();
    let services = "[service.db]\noffering = \"postgresql\"";
    town.declare("2026-11-01T00:00:00Z", &estate("", services));
    town.list("2026-11-01T00:00:00Z", &[("small", &[("10", "USD", "MONTHLY"), ("1", "EUR", "GB of memory")])]);
    town.buy(at("2026-11-01T00:00:00Z"), "db", "acme", "small");
    let without = statement(&town, "2026-11", "2026-11-16T00:00:00Z");
    assert_eq!(shown(&without.report(By::Service)), ["all 0.00 0.00"]);
    let why: Vec<String> = without.not_counted.iter().map(|found| format!("{}: {}", found.said, found.why)).collect();
    let expected = [
        "1 EUR for `GB of memory`: what `GB of memory` counts is not measured",
        "10 USD for `MONTHLY`: `[estate] rates` does not say what USD is worth",
    ];
    assert_eq!(why, expected);
    town.declare("2026-11-16T00:00:00Z", &estate("rates = { USD = \"0.92\" }", services));
    assert_eq!(by_service(&town, "2026-11", "2026-12-01T00:00:00Z")[1], "all 4.60 4.60", "the half of 9.20");
}

#[test]
fn a_machine_is_borne_by_what_is_on_it() {
    let cost = "[provider.here.cost]\npurchase = 2880\nyears = 4\n[service.a]\noffering = \"postgresql\"";
    let mut town = Town::default();
    town.declare("2026-11-01T00:00:00Z", &estate("", cost));
    let alone = statement(&town, "2026-11", "2026-11-16T00:00:00Z");
    assert_eq!(shown(&alone.report(By::Service)), ["(unused) 30.00 60.00", "all 30.00 60.00"]);
    town.buy(at("2026-11-11T00:00:00Z"), "a", "here", "standard");
    town.buy(at("2026-11-21T00:00:00Z"), "b", "here", "standard");
    // 20 days of a, 10 of b: what was there bears the whole.
    assert_eq!(
        by_service(&town, "2026-11", "2026-12-01T00:00:00Z"),
        ["a 40.00 40.00", "b 20.00 20.00", "all 60.00 60.00"]
    );
    let by_provider = statement(&town, "2026-11", "2026-12-01T00:00:00Z").report(By::Provider);
    assert_eq!(shown(&by_provider), ["here 60.00 60.00", "all 60.00 60.00"]);
}

#[test]
fn what_several_need_is_borne_by_them_in_equal_parts() {
    let services = "[service.db]\noffering = \"postgresql\"\n[service.queue]\noffering = \"postgresql\"\nneeds = [\"db\"]\n\
                    [service.web]\noffering = \"postgresql\"\nneeds = [\"db\", \"queue\"]\n\
                    [service.mail]\noffering = \"postgresql\"\nneeds = [\"queue\"]";
    let mut town = Town::default();
    town.declare("2026-11-01T00:00:00Z", &estate("", services));
    town.list("2026-11-01T00:00:00Z", &[("small", MONTHLY)]);
    for service in ["db", "queue", "web", "mail"] {
        town.buy(at("2026-11-01T00:00:00Z"), service, "acme", "small");
    }
    let report = statement(&town, "2026-11", "2026-12-01T00:00:00Z").report(By::Need);
    // Half of db is the queue's, of which web and mail bear half each; the other half is web's alone.
    assert_eq!(shown(&report), ["web 67.50 67.50", "mail 52.50 52.50", "all 120.00 120.00"]);
    let parts =
        |row: usize| report.rows[row].parts.iter().map(|p| format!("{} {}", p.name, p.forecast)).collect::<Vec<_>>();
    assert_eq!(parts(0), ["web 30.00", "db 22.50", "queue 15.00"]);
    assert_eq!(parts(1), ["mail 30.00", "queue 15.00", "db 7.50"]);
}

#[test]
fn backups_cost_what_they_take_for_as_long_as_they_are_kept() {
    let rest = "[backups]\ngb_month = \"0.50\"\n[service.db]\noffering = \"postgresql\"";
    let mut town = Town::default();
    town.declare("2026-11-01T00:00:00Z", &estate("", rest));
    let first = town.back_up("2026-11-01T00:00:00Z", "db", "one", 60_000_000_000);
    town.back_up("2026-11-16T00:00:00Z", "db", "two", 20_000_000_000);
    town.drop_backup("2026-11-16T00:00:00Z", "db", first);
    // 60 GB for half a month, 20 GB for the other half: 40 GB-months.
    assert_eq!(by_service(&town, "2026-11", "2026-12-01T00:00:00Z"), ["db 20.00 20.00", "all 20.00 20.00"]);
    assert_eq!(by_service(&town, "2026-12", "2026-12-16T12:00:00Z"), ["db 5.00 10.00", "all 5.00 10.00"]);
}

#[test]
fn what_was_moved_is_paid_for_at_both_until_it_is_deleted() {
    let mut town = Town::default();
    town.declare("2026-11-01T00:00:00Z", &estate("", "[service.db]\noffering = \"postgresql\""));
    town.list("2026-11-01T00:00:00Z", &[("small", MONTHLY), ("large", &[("60", "EUR", "MONTHLY")])]);
    town.buy(at("2026-11-01T00:00:00Z"), "db", "acme", "small");
    town.tell(at("2026-11-10T00:00:00Z"), FactKind::Resumed { cause: ResumeCause::Started });
    town.give_back(at("2026-11-16T00:00:00Z"), "db");
    assert_eq!(by_service(&town, "2026-11", "2026-12-01T00:00:00Z")[1], "all 15.00 15.00");
    assert_eq!(by_service(&town, "2026-12", "2026-12-02T00:00:00Z"), ["all 0.00 0.00"]);
}

#[test]
fn what_has_not_begun_has_no_books() {
    assert_eq!(Ledger::default().statement(None, at("2026-11-01T00:00:00Z")), Err(NoBooks::NothingDeclared));
    let mut town = Town::default();
    town.declare("2026-11-01T00:00:00Z", &estate("", ""));
    let error = town.ledger.statement(Some("2026-12".parse().unwrap()), at("2026-11-30T23:59:59Z")).unwrap_err();
    assert_eq!(error.to_string(), "2026-12 has not begun");
}

/// A town in which `services` are bought at prices that do not come out even, and given back and bought again at `cuts`.
fn busy(services: &[(u8, u32, bool)], cuts: &[(u8, u64)]) -> Town {
    let mut text = String::from(
        "[provider.here.cost]\npurchase = 1999\nyears = 3\nwatts = 45\nkwh = \"0.2871\"\n[backups]\ngb_month = \"0.0213\"\n",
    );
    for index in 0..services.len() {
        let needs = if index > 0 { format!("needs = [\"s{}\"]\n", index / 2) } else { String::new() };
        text.push_str(&format!("[service.s{index}]\noffering = \"postgresql\"\n{needs}"));
    }
    let mut town = Town::default();
    town.declare("2026-03-01T00:00:00Z", &estate("zone = \"Europe/Berlin\"\nrates = { USD = \"0.9217\" }", &text));
    town.list("2026-03-01T00:00:00Z", &[("a", &[("19.99", "USD", "MONTHLY")]), ("b", &[("0.0317", "EUR", "hour")])]);
    let begins = at("2026-03-01T00:00:00Z");
    let mut held: Vec<(String, &str, &str)> = Vec::new();
    for (index, (plan, offset, is_here)) in services.iter().enumerate() {
        let (name, plan) = (format!("s{index}"), if plan % 2 == 0 { "a" } else { "b" });
        let provider = if *is_here { "here" } else { "acme" };
        town.buy(begins + std::time::Duration::from_micros(u64::from(*offset) * 997), &name, provider, plan);
        held.push((name, provider, plan));
    }
    // When everything was bought.
    let mut cuts: Vec<(Timestamp, usize)> = cuts
        .iter()
        .map(|(which, micros)| {
            (at("2026-03-13T00:00:00Z") + std::time::Duration::from_micros(*micros), usize::from(*which))
        })
        .collect();
    cuts.sort();
    for (when, which) in cuts {
        let (name, provider, plan) = held[which % held.len()].clone();
        town.give_back(when, &name);
        town.buy(when, &name, provider, plan);
    }
    town
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    /// However often and wherever time was cut, everything costs the same; and whatever a month is seen by, its rows add
    /// up to the same whole to the cent.
    #[test]
    fn money_adds_up_however_time_is_split(
        services in prop::collection::vec((0_u8..4, 0_u32..1_000_000_000, any::<bool>()), 1..7),
        cuts in prop::collection::vec((0_u8..8, 0_u64..1_600_000_000_000), 0..12),
        until in 1_u64..2_600_000_000_000,
    ) {
        let (whole, cut) = (busy(&services, &[]), busy(&services, &cuts));
        let now = at("2026-03-02T00:00:00Z") + std::time::Duration::from_micros(until);
        let month = Some("2026-03".parse().unwrap());
        let (whole, cut) = (whole.ledger.statement(month, now).unwrap(), cut.ledger.statement(month, now).unwrap());
        prop_assert_eq!(&whole.so_far, &cut.so_far);
        let all: Vec<Report> = [By::Service, By::Provider, By::Need].map(|by| cut.report(by)).into();
        for report in &all {
            prop_assert_eq!(report.so_far, all[0].so_far);
            prop_assert_eq!(report.forecast, all[0].forecast);
            let sum = |of: fn(&ostler_books::Row) -> Decimal| report.rows.iter().map(of).sum::<Decimal>();
            prop_assert_eq!(sum(|row| row.so_far), report.so_far);
            prop_assert_eq!(sum(|row| row.forecast), report.forecast);
            for row in report.rows.iter().filter(|row| !row.parts.is_empty()) {
                prop_assert_eq!(row.parts.iter().map(|part| part.so_far).sum::<Decimal>(), row.so_far);
                prop_assert_eq!(row.parts.iter().map(|part| part.forecast).sum::<Decimal>(), row.forecast);
            }
        }
    }

    /// A ledger that was stored in between is the one that all facts give, and facts of kinds that do not concern it may
    /// be left out.
    #[test]
    fn a_ledger_that_was_stored_goes_on_as_if_it_had_not_been(
        services in prop::collection::vec((0_u8..4, 0_u32..1_000_000_000, any::<bool>()), 1..5),
        cuts in prop::collection::vec((0_u8..8, 0_u64..1_600_000_000_000), 0..8),
        stored_at in 0_usize..60,
    ) {
        let town = busy(&services, &cuts);
        let mut ledger = Ledger::default();
        for (index, fact) in town.facts.iter().enumerate() {
            if index == stored_at {
                let text = serde_json::to_string(&ledger).unwrap();
                ledger = serde_json::from_str(&text).unwrap();
            }
            prop_assert!(Ledger::concerns(fact.kind.word()));
            ledger.fold(Position(index as u64 + 1), fact);
        }
        prop_assert_eq!(ledger, town.ledger);
    }
}
