//! One month seen by service, by provider, or by need.
//!
//! Invariant: whatever it is seen by, the rows add up to the same whole, to the cent, and the parts of a row to the row.

use std::collections::{BTreeMap, VecDeque};

use ostler_model::ids::ServiceName;
use rust_decimal::Decimal;
use serde::{Deserialize, Serialize};

use crate::apportion::apportion;
use crate::ledger::Needs;
use crate::statement::{Item, Statement};

/// By what a month is seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum By {
    /// Each service, for itself.
    Service,
    /// Each provider.
    Provider,
    /// Each service that no other needs, with what it needs. What several need is borne by them in equal parts, and so
    /// on along the way.
    Need,
}

impl By {
    /// As the command line writes it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Service => "service",
            Self::Provider => "provider",
            Self::Need => "need",
        }
    }
}

/// What somebody or something costs, to the cent.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Row {
    /// Who or what.
    pub name: String,
    /// Until now.
    pub so_far: Decimal,
    /// Until the month ends.
    pub forecast: Decimal,
    /// Of what that is made up; empty where it is one thing.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub parts: Vec<Row>,
}

/// A month, seen by something.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Report {
    /// Everything, until now.
    pub so_far: Decimal,
    /// Everything, until the month ends.
    pub forecast: Decimal,
    /// Of what that is made up: what costs most first.
    pub rows: Vec<Row>,
}

/// Costs that are not rounded yet.
#[derive(Clone, Copy, Default)]
struct Cost {
    so_far: Decimal,
    forecast: Decimal,
}

/// By row, and within it by part.
type Costs = BTreeMap<String, BTreeMap<String, Cost>>;

/// What costs money while nothing is on it.
const UNUSED: &str = "(unused)";
/// Where backups are kept: no provider.
const BACKUPS: &str = "(backups)";

impl Statement {
    /// The month, seen by something.
    pub fn report(&self, by: By) -> Report {
        let shares = if by == By::Need { shares(&self.needs) } else { BTreeMap::new() };
        let mut costs = Costs::new();
        for (items, is_forecast) in [(&self.so_far, false), (&self.forecast, true)] {
            for item in items {
                let cost = item.cost();
                for (row, part, share) in rows_of(by, &shares, item) {
                    let found = costs.entry(row).or_default().entry(part).or_default();
                    let sum = if is_forecast { &mut found.forecast } else { &mut found.so_far };
                    *sum += cost * share;
                }
            }
        }
        self.rounded(&costs)
    }

    fn rounded(&self, costs: &Costs) -> Report {
        let sum = |items: &[Item]| self.currency.to_the_cent(items.iter().map(Item::cost).sum());
        let (so_far, forecast) = (sum(&self.so_far), sum(&self.forecast));
        let rows: Vec<Cost> = costs.values().map(|parts| all_of(parts.values())).collect();
        let (so_fars, forecasts) =
            (self.parts_of(so_far, &rows, |c| c.so_far), self.parts_of(forecast, &rows, |c| c.forecast));
        let whole_rows = costs.iter().zip(so_fars.into_iter().zip(forecasts));
        let mut rows: Vec<Row> = whole_rows.map(|((name, parts), whole)| self.row(name, parts, whole)).collect();
        rows.sort_by(|a, b| b.forecast.cmp(&a.forecast).then_with(|| a.name.cmp(&b.name)));
        Report { so_far, forecast, rows }
    }

    fn row(&self, name: &str, parts: &BTreeMap<String, Cost>, (so_far, forecast): (Decimal, Decimal)) -> Row {
        let costs: Vec<Cost> = parts.values().copied().collect();
        let so_fars = self.parts_of(so_far, &costs, |cost| cost.so_far);
        let forecasts = self.parts_of(forecast, &costs, |cost| cost.forecast);
        let each = parts.keys().zip(so_fars.into_iter().zip(forecasts));
        let mut parts: Vec<Row> = each
            .map(|(name, (so_far, forecast))| Row { name: name.clone(), so_far, forecast, parts: Vec::new() })
            .collect();
        parts.sort_by(|a, b| b.forecast.cmp(&a.forecast).then_with(|| a.name.cmp(&b.name)));
        if parts.len() == 1 && parts[0].name == name {
            parts.clear();
        }
        Row { name: name.to_owned(), so_far, forecast, parts }
    }

    fn parts_of(&self, whole: Decimal, costs: &[Cost], of: impl Fn(&Cost) -> Decimal) -> Vec<Decimal> {
        apportion(whole, &costs.iter().map(of).collect::<Vec<_>>(), self.currency.decimals())
    }
}

fn all_of<'c>(costs: impl Iterator<Item = &'c Cost>) -> Cost {
    costs.fold(Cost::default(), |sum, cost| Cost {
        so_far: sum.so_far + cost.so_far,
        forecast: sum.forecast + cost.forecast,
    })
}

/// In which rows, as which parts of them, and with which share an item is.
fn rows_of(by: By, shares: &Shares, item: &Item) -> Vec<(String, String, Decimal)> {
    let service = item.service.as_ref().map_or(UNUSED.to_owned(), ToString::to_string);
    match by {
        By::Service => vec![(service.clone(), service, Decimal::ONE)],
        By::Provider => {
            let provider = item.provider.as_ref().map_or(BACKUPS.to_owned(), ToString::to_string);
            vec![(provider.clone(), provider, Decimal::ONE)]
        }
        By::Need => match item.service.as_ref().and_then(|service| shares.get(service)) {
            Some(shares) => shares.iter().map(|(of, share)| (of.to_string(), service.clone(), *share)).collect(),
            // No longer declared, or sold: nobody here needs it.
            None => vec![(service.clone(), service, Decimal::ONE)],
        },
    }
}

/// For each service, who bears its cost in the end, and which share.
type Shares = BTreeMap<ServiceName, BTreeMap<ServiceName, Decimal>>;

fn shares(needs: &Needs) -> Shares {
    let mut consumers: BTreeMap<&ServiceName, usize> = needs.keys().map(|name| (name, 0)).collect();
    for need in needs.values().flatten() {
        *consumers.entry(need).or_default() += 1;
    }
    let mut waits = consumers.clone();
    let mut shares: Shares = BTreeMap::new();
    let mut next: VecDeque<&ServiceName> = VecDeque::new();
    for (name, _) in consumers.iter().filter(|(_, count)| **count == 0) {
        shares.insert((*name).clone(), BTreeMap::from([((*name).clone(), Decimal::ONE)]));
        next.push_back(name);
    }
    // Consumers before what they need: needs have no cycle.
    while let Some(consumer) = next.pop_front() {
        let of_consumer = shares.get(consumer).cloned().unwrap_or_default();
        for need in needs.get(consumer).into_iter().flatten() {
            let among = Decimal::from(consumers.get(need).copied().unwrap_or(1).max(1));
            let of_need = shares.entry(need.clone()).or_default();
            for (bearer, share) in &of_consumer {
                *of_need.entry(bearer.clone()).or_default() += *share / among;
            }
            if let Some(left) = waits.get_mut(need) {
                *left = left.saturating_sub(1);
                if *left == 0 {
                    next.push_back(need);
                }
            }
        }
    }
    shares
}
