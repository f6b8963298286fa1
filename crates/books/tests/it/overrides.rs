//! What overrides cost, reckoned by hand; and what must be so of every one.

use std::collections::BTreeMap;

use ostler_books::{Ledger, OverrideCost};
use ostler_manager::remedy::Remedy;
use ostler_manager::{Difference, Elsewhere, FactKind, Instruction, Newer, Place, Untreated, WhyEnded};
use ostler_model::overrides::OverrideId;
use ostler_model::time::Timestamp;
use proptest::prelude::*;

use crate::town::{Town, at, estate, instance};

const SMALL: &[(&str, &str, &str)] = &[("12", "EUR", "MONTHLY")];
const LARGE: &[(&str, &str, &str)] = &[("30", "EUR", "MONTHLY")];

fn place(plan: &str) -> Place {
    let [provider, offering] = ["acme", "postgresql"];
    Place { provider: provider.parse().unwrap(), offering: offering.parse().unwrap(), plan: plan.parse().unwrap() }
}

fn db() -> ostler_model::ids::ServiceName {
    "db".parse().unwrap()
}

/// `db` is of the large plan, and without the override would be of the small one.
fn pinned(begins: &str, until: &str) -> Town {
    let mut town = Town::default();
    town.declare("2026-11-01T00:00:00Z", &estate("", "[service.db]\noffering = \"postgresql\""));
    town.list("2026-11-01T00:00:00Z", &[("small", SMALL), ("large", LARGE)]);
    town.buy(at("2026-11-01T00:00:00Z"), "db", "acme", "large");
    let pin =
        Instruction::Pin { service: db(), provider: "acme".parse().unwrap(), plan: Some("large".parse().unwrap()) };
    begin(&mut town, 1, pin, begins, until);
    weigh(&mut town, 1, begins, differs("large", "small"));
    town
}

fn differs(with: &str, instead: &str) -> Difference {
    Difference::Place { service: db(), instead: Some(Elsewhere { with: place(with), instead: place(instead) }) }
}

fn begin(town: &mut Town, id: u32, instruction: Instruction, when: &str, until: &str) {
    let (owner, reason) = ("Ada".to_owned(), "so it is".to_owned());
    let id = OverrideId(id);
    town.tell(at(when), FactKind::OverrideBegan { id, instruction, owner, reason, until: at(until) });
}

fn weigh(town: &mut Town, id: u32, when: &str, difference: Difference) {
    town.tell(at(when), FactKind::OverrideWeighed { id: OverrideId(id), difference });
}

fn cost(ledger: &Ledger, id: u32, now: &str) -> OverrideCost {
    ledger.overrides(at(now)).into_iter().find(|cost| cost.id == OverrideId(id)).unwrap()
}

#[test]
fn a_dearer_plan_costs_the_difference_for_its_time() {
    let town = pinned("2026-11-16T00:00:00Z", "2027-01-01T00:00:00Z");
    // Half of November at 30 less 12.
    let half = cost(&town.ledger, 1, "2026-12-01T00:00:00Z");
    assert_eq!((half.money.to_string().as_str(), half.currency.as_deref()), ("9.00", Some("EUR")));
    assert_eq!(half.without[0].what, "db would be at acme's small");
    let monthly = |of: &Option<rust_decimal::Decimal>| of.unwrap().to_string();
    assert_eq!(
        (monthly(&half.without[0].monthly), monthly(&half.without[0].instead_of)),
        ("12.00".into(), "30.00".into())
    );
    assert_eq!(cost(&town.ledger, 1, "2027-01-01T00:00:00Z").money.to_string(), "27.00");
    // Its end has come, whether anybody has recorded that or not.
    let over = cost(&town.ledger, 1, "2027-06-01T00:00:00Z");
    assert_eq!((over.money.to_string(), over.because.as_deref()), ("27.00".to_owned(), Some("expired")));
}

#[test]
fn what_saves_is_told_as_that() {
    let mut town = pinned("2026-11-16T00:00:00Z", "2027-01-01T00:00:00Z");
    weigh(&mut town, 1, "2026-11-16T00:00:00Z", differs("small", "large"));
    assert_eq!(cost(&town.ledger, 1, "2026-12-01T00:00:00Z").money.to_string(), "-9.00");
}

#[test]
fn what_is_recorded_late_ends_in_time() {
    let mut town = pinned("2026-11-16T00:00:00Z", "2026-12-01T00:00:00Z");
    let id = OverrideId(1);
    town.tell(at("2026-12-20T00:00:00Z"), FactKind::OverrideEnded { id, end: WhyEnded::Expired });
    let over = cost(&town.ledger, 1, "2027-01-01T00:00:00Z");
    assert_eq!((over.money.to_string(), over.ended), ("9.00".to_owned(), Some(at("2026-12-01T00:00:00Z"))));
}

#[test]
fn an_outage_counts_from_when_the_remedy_would_have_helped() {
    let mut town = pinned("2026-11-16T00:00:00Z", "2027-01-01T00:00:00Z");
    begin(&mut town, 2, Instruction::Hold { service: db() }, "2026-11-16T00:00:00Z", "2026-11-16T02:00:00Z");
    let untreated = |away| Untreated { remedy: Remedy::Restart, takes_ms: 60_000, away };
    let remedy = |number, instead| Difference::Remedy { instance: instance("db", number), instead };
    weigh(&mut town, 2, "2026-11-16T00:10:00Z", remedy(1, Some(untreated(false))));
    weigh(&mut town, 2, "2026-11-16T00:20:00Z", remedy(1, Some(untreated(true)))); // nothing serves any more
    weigh(&mut town, 2, "2026-11-16T00:20:00Z", remedy(2, Some(untreated(true)))); // and it is one outage, not two
    weigh(&mut town, 2, "2026-11-16T00:30:00Z", remedy(2, None));
    weigh(&mut town, 2, "2026-11-16T00:30:00Z", remedy(1, Some(untreated(false))));
    assert_eq!(cost(&town.ledger, 2, "2026-11-16T01:00:00Z").outage_seconds, 600);
    weigh(&mut town, 2, "2026-11-16T01:00:00Z", remedy(1, None));
    weigh(&mut town, 2, "2026-11-16T01:50:00Z", remedy(1, Some(untreated(true))));
    // A minute for the remedy, nine until its end, and nothing after it.
    assert_eq!(cost(&town.ledger, 2, "2026-11-16T05:00:00Z").outage_seconds, 600 + 540);
}

#[test]
fn open_updates_are_counted_by_the_day() {
    let mut town = pinned("2026-11-16T00:00:00Z", "2027-01-01T00:00:00Z");
    let skip = Instruction::SkipUpgrade { service: db(), version: None };
    begin(&mut town, 2, skip, "2026-11-16T00:00:00Z", "2026-11-30T00:00:00Z");
    let newer = |updates| Difference::Upgrade { service: db(), instead: Some(Newer { to: "17".to_owned(), updates }) };
    weigh(&mut town, 2, "2026-11-17T00:00:00Z", newer(1));
    weigh(&mut town, 2, "2026-11-18T12:00:00Z", newer(3));
    let now = cost(&town.ledger, 2, "2026-11-20T00:00:00Z");
    assert_eq!((now.updates, now.update_days.to_string().as_str()), (3, "6.0"), "1 for 1.5 days, 3 for 1.5 days");
    assert_eq!(cost(&town.ledger, 2, "2027-01-01T00:00:00Z").updates, 0, "what has ended holds nothing open");
}

#[test]
fn what_has_no_price_is_told_and_the_dearest_comes_first() {
    let mut town = pinned("2026-11-16T00:00:00Z", "2027-01-01T00:00:00Z");
    let forbid = Instruction::ForbidProvider { provider: "acme".parse().unwrap() };
    begin(&mut town, 2, forbid, "2026-11-16T00:00:00Z", "2027-01-01T00:00:00Z");
    weigh(&mut town, 2, "2026-11-16T00:00:00Z", differs("large", "huge"));
    let costs = town.ledger.overrides(at("2026-12-01T00:00:00Z"));
    assert_eq!(costs[0].id, OverrideId(2), "15 for the half of a month");
    assert_eq!(costs[0].not_counted, ["acme's huge: its provider's prices are not known"]);
    assert!(costs.is_sorted_by_key(|cost| std::cmp::Reverse(cost.money)), "{costs:?}");
}

proptest! {
    /// However often prices are stated anew and time is cut, it costs the same; and a ledger that was stored on the way
    /// goes on as if it had not been.
    #[test]
    fn it_costs_the_same_however_time_is_cut(
        cuts in prop::collection::btree_set(0_i64..40 * 86_400, 0..6),
        now in 0_i64..40 * 86_400,
    ) {
        let begins = at("2026-11-16T00:00:00Z");
        let whole = pinned("2026-11-16T00:00:00Z", "2027-01-01T00:00:00Z");
        let mut cut = pinned("2026-11-16T00:00:00Z", "2027-01-01T00:00:00Z");
        for seconds in cuts {
            let when = Timestamp(begins.0 + seconds * 1_000_000);
            for (with, instead) in [("large", "large"), ("large", "small")] {
                let id = OverrideId(1);
                cut.tell(when, FactKind::OverrideWeighed { id, difference: differs(with, instead) });
            }
            let text = serde_json::to_string(&cut.ledger).unwrap();
            cut.ledger = serde_json::from_str(&text).unwrap();
        }
        let last = cut.facts.last().map_or(begins, |fact| fact.at);
        let now = Timestamp(last.0.max(begins.0 + now * 1_000_000));
        let costs = |town: &Town| -> BTreeMap<OverrideId, OverrideCost> {
            town.ledger.overrides(now).into_iter().map(|cost| (cost.id, cost)).collect()
        };
        prop_assert_eq!(costs(&whole), costs(&cut));
    }
}
