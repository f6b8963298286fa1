//! Service credits as people see them: the words of facts, and what `ostler status` reminds of.

use std::time::Duration;

use ostler_books::Ledger;
use ostler_manager::ClaimStep;
use ostler_model::ids::ProviderName;
use ostler_model::money::Money;
use ostler_model::month::Month;
use ostler_model::time::{Timestamp, in_words};

/// An open claim whose deadline is as near as this is brought to mind.
const NEAR: Duration = Duration::from_secs(10 * 86_400);

/// A step of a claim as a sentence.
pub fn step_in_words(
    provider: &ProviderName,
    month: Month,
    step: &ClaimStep,
    (by, note): (&str, Option<&str>),
) -> String {
    let what = match step {
        ClaimStep::Claimed { amount, currency } => {
            let amount = Money { amount: amount.get(), currency: currency.clone() };
            format!("{by} has claimed a credit of {amount} from {provider} for {month}")
        }
        ClaimStep::Paid { amount: Some(amount) } => {
            format!("{provider} has granted {amount} of the credit for {month}, says {by}")
        }
        ClaimStep::Paid { amount: None } => format!("{provider} has granted the credit for {month}, says {by}"),
        ClaimStep::Refused => format!("{provider} has refused the credit for {month}, says {by}"),
        ClaimStep::Reopened => format!("{by} has reopened the claim for a credit of {provider} for {month}"),
    };
    note.map_or(what.clone(), |note| format!("{what}: {note}"))
}

/// What can still be claimed, but not for long: as sentences for `ostler status`.
pub fn reminders(ledger: &Ledger, now: Timestamp) -> Vec<String> {
    let Some(currency) = ledger.currency() else { return Vec::new() };
    let near = ledger.claimable(now).into_iter().filter(|credit| credit.deadline.since(now) <= NEAR);
    near.map(|credit| {
        let amount = Money { amount: credit.due, currency: currency.clone() };
        let (provider, month, left) = (&credit.provider, credit.month, in_words(credit.deadline.since(now)));
        format!(
            "{provider} owes {amount} for {month}, which can be claimed for {left} more: \
             `ostler credits claim {provider} --month {month}`"
        )
    })
    .collect()
}
