//! What a change costs: the difference a month, and whether the budget allows it.
//!
//! Invariant: it is reckoned from the same rehearsal that `preview` shows.

use ostler_books::{Way, monthly, ways_to_fit};
use ostler_manager::{Knowledge, rehearse};
use ostler_model::money::{Amount, Money};
use ostler_model::time::Timestamp;
use rust_decimal::Decimal;
use serde::{Deserialize, Serialize};

use crate::control::Refused;
use crate::declare::Prepared;

/// What an estate costs a month before and after a change; amounts are in its currency, to the cent.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CostChange {
    /// The estate's currency.
    pub currency: String,
    /// Now.
    pub before: Decimal,
    /// With the change.
    pub after: Decimal,
    /// By how much it becomes more, or less if it is negative.
    pub difference: Decimal,
    /// What is to be paid once for what is bought.
    pub once: Decimal,
    /// What may be spent.
    pub budget: Option<Amount>,
    /// The change is refused: with it more is spent than may be, and more than now.
    pub refused: bool,
    /// How it would fit, where it is refused.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub ways: Vec<Way>,
    /// What could not be counted, and why, as sentences.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub not_counted: Vec<String>,
}

/// What `prepared` changes; `planned` is what is known once everything is done.
pub fn cost_change(known: &Knowledge, planned: &Knowledge, prepared: &Prepared, now: Timestamp) -> CostChange {
    let estate = &prepared.estate;
    let before = known.estate.as_ref().map(|former| monthly(known, former)).unwrap_or_default();
    let after = monthly(planned, estate);
    let cents = |amount: Decimal| estate.currency.to_the_cent(amount);
    let (was, is) = (cents(before.whole()), cents(after.whole()));
    let budget = estate.accounts.budget;
    let refused = budget.is_some_and(|budget| is > budget.get() && is > was);
    let ways = match budget.filter(|_| refused) {
        Some(budget) => {
            let ways = ways_to_fit(known, planned, estate, &prepared.catalogs, (&before, &after), budget.get(), now);
            ways.into_iter().map(|way| Way { monthly: cents(way.monthly), ..way }).collect()
        }
        None => Vec::new(),
    };
    let is_new = |name| !before.once.contains_key(name);
    let once = after.once.iter().filter(|(name, _)| is_new(*name)).map(|(_, amount)| amount).sum();
    CostChange {
        currency: estate.currency.as_str().to_owned(),
        before: was,
        after: is,
        difference: is - was,
        once: cents(once),
        budget,
        refused,
        ways,
        not_counted: after.not_counted.into_iter().collect(),
    }
}

/// Why `prepared` may not be applied, if the budget does not allow it.
pub fn over_budget(known: &Knowledge, prepared: &Prepared, what: &str, now: Timestamp) -> Option<Refused> {
    let budget = prepared.estate.accounts.budget?;
    let planned = rehearse(known, &prepared.event(), now).known;
    let change = cost_change(known, &planned, prepared, now);
    if !change.refused {
        return None;
    }
    let money = |amount: Decimal| Money { amount, currency: prepared.estate.currency.clone() }.to_string();
    let now_it_is =
        if change.before.is_zero() { String::new() } else { format!(" instead of {}", money(change.before)) };
    let cause =
        format!("it would cost {} a month{now_it_is}, and the budget is {}", money(change.after), money(budget.get()));
    let ways = change.ways.iter().map(|way| format!("{} ({} a month)", way.words, money(way.monthly)));
    let raise = format!("raise `[estate] budget` to {}", change.after);
    let remedies: Vec<String> = ways.chain([raise]).collect();
    let remedy = match remedies.as_slice() {
        [raise] => raise.clone(),
        several => format!("one of: {}", several.join("; ")),
    };
    Some(Refused { what: what.to_owned(), causes: vec![cause], remedy, problems: Vec::new(), rendered: None })
}
