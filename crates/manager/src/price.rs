//! What remedies cost in money: the outage while they are tried, and the price of a place elsewhere.
//!
//! Invariant: amounts are exact decimals in the estate's currency; what is not stated, or cannot be compared, is not
//! guessed: then time alone is weighed.

use std::collections::BTreeSet;

use ostler_model::catalog::Placement;
use ostler_model::charge::{self, Charge, HOURS_A_MONTH, Per, Term};
use ostler_model::estate::{Currency, Estate};
use ostler_model::money::Amount;
use ostler_model::time::Span;
use rust_decimal::Decimal;
use rust_decimal::prelude::ToPrimitive;
use serde::{Deserialize, Serialize};

use crate::failover::Move;
use crate::knowledge::{Knowledge, ServiceKnowledge};

const HOUR_MS: u64 = 3_600_000;
/// What is kept longer is reckoned for as long as this: a month of average length.
const MONTH: Span = Span::seconds(HOURS_A_MONTH.unsigned_abs() * 3600);

/// What an outage of a service costs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct OutageCost {
    /// An hour of it; more than nothing.
    pub(crate) per_hour: Amount,
    /// In which currency.
    pub(crate) currency: Currency,
}

/// What a remedy is expected to cost.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Costs {
    /// The outage while it is tried, and what is lost by it, if it helps.
    pub outage: Amount,
    /// What is paid for it.
    pub price: Amount,
    /// In which currency.
    pub currency: Currency,
}

impl OutageCost {
    /// Of the service and of all that need it, directly or not, as far as that is declared: its outage is theirs, too.
    pub(crate) fn of(known: &Knowledge, service: &ServiceKnowledge) -> Option<Self> {
        let mut out = BTreeSet::from([&service.spec.name]);
        let mut waiting = vec![service];
        let mut sum = Decimal::ZERO;
        while let Some(next) = waiting.pop() {
            sum = sum.checked_add(next.spec.outage_cost.map_or(Decimal::ZERO, Amount::get))?;
            let consumers = known.consumers.get(&next.spec.name).into_iter().flatten();
            waiting.extend(
                consumers
                    .filter(|name| out.insert(name))
                    .filter_map(|name| known.services.get(name))
                    .map(AsRef::as_ref),
            );
        }
        let per_hour = (sum > Decimal::ZERO).then(|| sum.to_string().parse().ok())??;
        Some(Self { per_hour, currency: known.estate.as_ref()?.currency.clone() })
    }

    /// How long an outage costs as much, in milliseconds.
    pub(crate) fn as_long_as(&self, price: Amount) -> u64 {
        let scaled = price.get().checked_mul(Decimal::from(HOUR_MS));
        let length = scaled.and_then(|scaled| scaled.checked_div(self.per_hour.get()));
        length.and_then(|length| length.trunc().to_u64()).unwrap_or(u64::MAX)
    }

    /// What an outage of this length costs beside this price; `None` if that is more than anybody can have.
    pub(crate) fn costs(&self, outage_ms: u64, price: Amount) -> Option<Costs> {
        let hours = Decimal::from(outage_ms).checked_div(Decimal::from(HOUR_MS))?;
        let outage = amount(hours.checked_mul(self.per_hour.get())?, &self.currency)?;
        Some(Costs { outage, price, currency: self.currency.clone() })
    }
}

impl Costs {
    /// In words: "12.50 EUR of outage and 30.00 EUR of price".
    pub fn in_words(&self) -> String {
        let shown = |amount: Amount| format!("{} {}", self.currency.to_the_cent(amount.get()), self.currency.as_str());
        let outage = shown(self.outage);
        if self.price == Amount::ZERO {
            return format!("{outage} of outage");
        }
        format!("{outage} of outage and {} of price", shown(self.price))
    }
}

/// What a move costs within its first month: what its place costs more than the one it leaves, what is paid once for it, and
/// what is left for as long as it is kept. `None` if the price of its place is not stated.
pub(crate) fn of_move(known: &Knowledge, service: &ServiceKnowledge, it: &Move) -> Option<Amount> {
    let estate = known.estate.as_ref()?;
    let terms = terms_of(known, estate, &it.to);
    let to = charge::a_month(&terms)?;
    let once: Decimal = terms.iter().map(paid_once).sum();
    // Where nothing is said of what it leaves, that may cost nothing.
    let from = service.placement.as_ref().and_then(|from| charge::a_month(&terms_of(known, estate, from)));
    let from = from.unwrap_or_default();
    let more = (to - from).max(Decimal::ZERO);
    let keep = service.spec.failover.keep_old.unwrap_or(MONTH).min(MONTH);
    let share = Decimal::from(keep.get().as_secs()).checked_div(Decimal::from(MONTH.get().as_secs()))?;
    let each = more.checked_add(once)?.checked_add(from.checked_mul(share)?)?;
    let instances = Decimal::from(u64::try_from(service.active).unwrap_or(u64::MAX));
    amount(each.checked_mul(instances)?, &estate.currency)
}

fn terms_of(known: &Knowledge, estate: &Estate, place: &Placement) -> Vec<Term> {
    let catalog = known.catalogs.get(&place.provider).map(AsRef::as_ref);
    charge::terms_of_plan(estate, catalog, &place.provider, &place.offering, &place.plan)
}

fn paid_once(term: &Term) -> Decimal {
    match term {
        Term::Charged(charge @ Charge { per: Per::Once, .. }) => charge.a_month(),
        Term::Charged(_) | Term::NotCounted { .. } => Decimal::ZERO,
    }
}

/// To the smallest unit of the currency.
fn amount(exact: Decimal, currency: &Currency) -> Option<Amount> {
    currency.to_the_cent(exact).to_string().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn outage(per_hour: &str) -> OutageCost {
        let currency = Currency::try_from("EUR".to_owned()).unwrap();
        OutageCost { per_hour: per_hour.parse().unwrap(), currency }
    }

    #[test]
    fn money_and_time_are_one_scale() {
        for (per_hour, price, ms) in
            [("120", "0", 0), ("120", "2", 60_000), ("0.5", "1", 7_200_000), ("3", "1", 1_200_000)]
        {
            assert_eq!(outage(per_hour).as_long_as(price.parse().unwrap()), ms, "{per_hour} {price}");
        }
        assert_eq!(outage("0").as_long_as("1".parse().unwrap()), u64::MAX);
        assert_eq!(outage("0.000000000001").as_long_as("999999999999".parse().unwrap()), u64::MAX);
    }

    #[test]
    fn costs_are_told_to_the_cent() {
        let costs = |ms, price: &str| outage("120").costs(ms, price.parse().unwrap()).map(|costs| costs.in_words());
        assert_eq!(costs(30_000, "0").unwrap(), "1.00 EUR of outage");
        assert_eq!(costs(500, "30").unwrap(), "0.02 EUR of outage and 30.00 EUR of price");
        assert_eq!(costs(u64::MAX, "0"), None, "nobody has so much");
    }
}
