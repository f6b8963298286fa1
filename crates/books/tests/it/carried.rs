//! Bytes through endpoints: counted once, whoever is killed, and priced where a plan has a price for them.

use ostler_books::{By, Kind};
use ostler_manager::FactKind;
use ostler_model::time::Timestamp;
use proptest::prelude::*;

use crate::statement;
use crate::town::{Town, at, estate};

const GIGABYTE: u64 = 1_000_000_000;
const PRICED: &[(&str, &str, &str)] = &[("30", "EUR", "MONTHLY"), ("0.09", "EUR", "GB")];
const FLAT: &[(&str, &str, &str)] = &[("50", "EUR", "MONTHLY")];

fn town() -> Town {
    let mut town = Town::default();
    town.declare("2026-11-01T00:00:00Z", &estate("", "[service.db]\noffering = \"postgresql\""));
    town.list("2026-11-01T00:00:00Z", &[("flat", FLAT), ("priced", PRICED)]);
    town.buy(at("2026-11-01T00:00:00Z"), "db", "acme", "priced");
    town
}

fn told(town: &mut Town, when: &str, since: &str, (bytes_in, bytes_out): (u64, u64)) {
    let service = "db".parse().unwrap();
    town.tell(at(when), FactKind::TrafficCounted { service, since: at(since), bytes_in, bytes_out });
}

/// What was carried in the month, in and out, and what that costs so far.
fn carried(town: &Town, month: &str, now: &str) -> (u64, u64, String) {
    let statement = statement(town, month, now);
    let bytes = statement.carried.first().map(|carried| carried.bytes).unwrap_or_default();
    let traffic = statement.so_far.iter().filter(|item| item.kind == Kind::Traffic);
    let cost: rust_decimal::Decimal = traffic.map(|item| item.cost()).sum();
    (bytes.inward, bytes.outward, cost.normalize().to_string())
}

#[test]
fn a_gigabyte_costs_what_the_plan_says_and_is_in_the_forecast() {
    let mut town = town();
    told(&mut town, "2026-11-11T00:00:00Z", "2026-11-01T00:00:00Z", (2 * GIGABYTE, 8 * GIGABYTE));
    assert_eq!(carried(&town, "2026-11", "2026-11-11T00:00:00Z"), (2 * GIGABYTE, 8 * GIGABYTE, "0.9".to_owned()));
    let november = statement(&town, "2026-11", "2026-11-11T00:00:00Z").report(By::Service);
    // 10 of 30 days: 10.00 and 0.90, and three times as much by the end.
    assert_eq!((november.so_far.to_string(), november.forecast.to_string()), ("10.90".into(), "32.70".into()));
    // It is bought as something that has no price for it.
    town.change("2026-11-16T00:00:00Z", "db", 1, "flat");
    let place = ostler_model::catalog::Placement {
        provider: "acme".parse().unwrap(),
        offering: "postgresql".parse().unwrap(),
        plan: "flat".parse().unwrap(),
        version: None,
        handle: None,
        maintenance: None,
    };
    let service = "db".parse().unwrap();
    town.tell(at("2026-11-16T00:00:00Z"), FactKind::ServicePlaced { service, placement: place });
    told(&mut town, "2026-11-17T00:00:00Z", "2026-11-01T00:00:00Z", (3 * GIGABYTE, 9 * GIGABYTE));
    let (inward, outward, cost) = carried(&town, "2026-11", "2026-12-01T00:00:00Z");
    assert_eq!((inward, outward, cost.as_str()), (3 * GIGABYTE, 9 * GIGABYTE, "0.9"), "told, and free");
    assert_eq!(carried(&town, "2026-12", "2026-12-02T00:00:00Z").1, 0);
}

#[test]
fn what_is_told_twice_or_late_counts_once() {
    let mut town = town();
    let (first, second) = ("2026-11-02T00:00:00Z", "2026-11-05T00:00:00Z");
    told(&mut town, "2026-11-03T00:00:00Z", first, (5, 50));
    told(&mut town, "2026-11-03T00:00:00Z", first, (5, 50));
    // Another gateway begins, while the former still carries what is open.
    told(&mut town, "2026-11-05T01:00:00Z", second, (1, 10));
    told(&mut town, "2026-11-05T01:00:01Z", first, (6, 60));
    told(&mut town, "2026-11-05T02:00:00Z", second, (2, 20));
    // Told by a manager that came back with what it had heard last.
    told(&mut town, "2026-11-05T03:00:00Z", second, (1, 10));
    told(&mut town, "2026-11-05T04:00:00Z", second, (3, 30));
    assert_eq!(carried(&town, "2026-11", "2026-11-06T00:00:00Z").0, 6 + 3);
    assert_eq!(carried(&town, "2026-11", "2026-11-06T00:00:00Z").1, 60 + 30);
    // More gateways than are told apart: the oldest can tell what it likes.
    for hour in 6..12 {
        let since = format!("2026-11-05T{hour:02}:00:00Z");
        told(&mut town, &since.replace(":00:00Z", ":30:00Z"), &since, (1, 0));
    }
    told(&mut town, "2026-11-05T13:00:00Z", first, (1_000, 1_000));
    assert_eq!(carried(&town, "2026-11", "2026-11-06T00:00:00Z").0, 6 + 3 + 6);
}

proptest! {
    /// Whatever is lost, late or told twice, as much is counted as the newest of each gateway's sums, and never more.
    #[test]
    fn as_much_is_counted_as_was_carried(
        tells in prop::collection::vec((0..3_usize, 0..5_u64, prop::bool::weighted(0.7), 1..3_u32), 1..60),
    ) {
        let mut town = town();
        let (mut sums, mut newest) = ([0_u64; 3], [0_u64; 3]);
        let begin = at("2026-11-02T00:00:00Z");
        for (step, (gateway, more, arrives, times)) in tells.into_iter().enumerate() {
            sums[gateway] += more;
            if arrives {
                newest[gateway] = sums[gateway];
                for _ in 0..times {
                    let service = "db".parse().unwrap();
                    let since = Timestamp(begin.0 + gateway as i64);
                    let now = Timestamp(begin.0 + 1_000_000 * (step as i64 + 1));
                    let kind = FactKind::TrafficCounted { service, since, bytes_in: sums[gateway], bytes_out: 0 };
                    town.tell(now, kind);
                }
            }
        }
        let (inward, _, _) = carried(&town, "2026-11", "2026-11-20T00:00:00Z");
        prop_assert_eq!(inward, newest.iter().sum::<u64>());
        let stored: ostler_books::Ledger =
            serde_json::from_slice(&serde_json::to_vec(&town.ledger).unwrap()).unwrap();
        prop_assert_eq!(stored, town.ledger);
    }
}
