//! How long it takes to find the versions of a whole estate that go together, and the order of the steps: 1,000 services
//! with 50 versions each, all connected by ranges, up to date, behind, and with conflicts in it. Beside it the same
//! with a tenth of the services, to see how it grows.
//!
//! `cargo bench -p ostler-manager --bench solve`

// It is not shipped; and it measures, so it needs a clock, which the manager itself must not have.
#![allow(clippy::print_stdout, clippy::unwrap_used, clippy::disallowed_types, clippy::disallowed_methods)]

#[path = "../tests/it/support.rs"]
#[allow(dead_code, unreachable_pub)]
mod support;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Instant;

use ostler_manager::solve::{Outcome, Wish, solve};
use ostler_manager::{Knowledge, ServiceKnowledge};
use ostler_model::catalog::{Accepts, Catalog, Placement};
use ostler_model::estate::contract::Contract;
use ostler_model::estate::{Estate, Service};
use ostler_model::ids::ProviderName;
use ostler_model::version::{Version, VersionRange};
use support::{catalog, estate, here, name, offering, service};

const SERVICES: u32 = 1000;
const VERSIONS: u32 = 50;
const SAMPLES: usize = 7;
/// The bar.
const WITHIN_MS: f64 = 1000.0;

/// What is in the estate.
#[derive(Clone, Copy)]
enum Kind {
    /// Everything can go to its newest.
    Free,
    /// Offerings work with few versions of what they need, and every tenth contract holds its need below the newest.
    Tight,
    /// The same, where each newer version needs newer ones of all that it needs, so that none can jump.
    Stones,
    /// The same as tight, and every fiftieth service is newly declared as what does not go with a need that is newly
    /// declared, too.
    Conflicts,
}

type Given = (Knowledge, Estate, BTreeMap<ProviderName, Arc<Catalog>>);

/// Each version has a number, `major.minor`, ten minors to a major.
fn version(number: u32) -> Version {
    format!("{}.{}", 1 + number / 10, number % 10).parse().unwrap()
}

fn range(text: &str) -> VersionRange {
    text.parse().unwrap()
}

/// Layers of services, each needing three of the layers below: what an estate of programs, queues and databases is like.
fn given(kind: Kind, services: u32) -> Given {
    let mut known = Knowledge::default();
    let (mut specs, mut offerings) = (Vec::new(), Vec::new());
    for number in 0..services {
        let (called, sold_as) = (format!("s{number}"), format!("o{number}"));
        let mut spec = service(&called, &sold_as);
        let mut sold = offering(&sold_as, &[]);
        sold.versions = (0..VERSIONS).map(version).collect();
        for draw in 1..=3_u32 {
            let below = number.saturating_sub(1 + number.wrapping_mul(draw).wrapping_mul(2_654_435_761) % 97);
            if below == number {
                continue;
            }
            let need = name(&format!("s{below}"));
            if !spec.needs.insert(need.clone()) {
                continue;
            }
            for major in 1..=5_u32 {
                let (least, below_major) = match kind {
                    Kind::Free => (1, 9),
                    Kind::Stones => (major.saturating_sub(1).max(1), major + 2),
                    Kind::Tight | Kind::Conflicts => (major.saturating_sub(2).max(1), major + 2),
                };
                sold.accepts.push(Accepts {
                    versions: range(&major.to_string()),
                    offering: format!("o{below}").parse().unwrap(),
                    range: range(&format!(">={least}, <{below_major}")),
                });
            }
            if number % 10 == 3 && draw == 1 && matches!(kind, Kind::Tight | Kind::Conflicts) {
                let relied = range(&format!("<5.{}", 1 + number % 9));
                spec.contracts.push(Contract { need, name: "version".to_owned(), version: Some(relied), check: None });
            }
        }
        let first = spec.needs.first().map(|need| need.as_str()[1..].parse::<usize>().unwrap());
        if let Some(need) = first.filter(|_| matches!(kind, Kind::Conflicts) && number % 50 == 7) {
            spec.version = range(">=5");
            let needed: &mut Service = &mut specs[need];
            needed.version = range("<3");
        }
        let mut knowledge = ServiceKnowledge::new(Arc::new(spec.clone()));
        let in_use = if matches!(kind, Kind::Stones) { 0 } else { 20 + number % 10 };
        knowledge.placement = Some(Placement {
            provider: here(),
            offering: sold_as.parse().unwrap(),
            plan: "small".parse().unwrap(),
            version: Some(version(in_use)),
            handle: None,
            maintenance: None,
        });
        known.services.insert(spec.name.clone(), Box::new(knowledge));
        specs.push(spec);
        offerings.push(sold);
    }
    (known, estate(20, specs), BTreeMap::from([(here(), catalog(offerings))]))
}

fn measure((known, estate, catalogs): &Given) -> (Outcome, Vec<f64>) {
    let wish = Wish { major: true, ..Wish::default() };
    let mut millis = Vec::new();
    let mut outcome = Outcome::default();
    for _ in 0..SAMPLES {
        let begin = Instant::now();
        outcome = solve(known, estate, catalogs, &wish);
        millis.push(begin.elapsed().as_secs_f64() * 1e3);
    }
    millis.sort_by(f64::total_cmp);
    (outcome, millis)
}

fn main() {
    println!("Solving an estate, {VERSIONS} versions of each service, milliseconds, {SAMPLES} samples each\n");
    println!(
        "{:>8}  {:<34} {:>6} {:>9} {:>8} {:>9} {:>9}  bar",
        "services", "estate", "steps", "conflicts", "blocked", "median", "max"
    );
    for services in [SERVICES / 10, SERVICES] {
        for (kind, words) in [
            (Kind::Free, "everything can go to its newest"),
            (Kind::Tight, "narrow ranges, contracts hold some"),
            (Kind::Stones, "only by versions between"),
            (Kind::Conflicts, "narrow, and conflicts in it"),
        ] {
            let (outcome, millis) = measure(&given(kind, services));
            let (median, max) = (millis[millis.len() / 2], millis[millis.len() - 1]);
            println!(
                "{services:>8}  {words:<34} {:>6} {:>9} {:>8} {median:>9.1} {max:>9.1}  {}",
                outcome.steps.len(),
                outcome.conflicts.len(),
                outcome.blocked.len(),
                if median <= WITHIN_MS { "met" } else { "MISSED" }
            );
        }
    }
}
