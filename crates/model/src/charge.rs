//! What a plan costs: from what was stated, by the catalog or in the estate file, to what can be counted.

use std::fmt;

use rust_decimal::Decimal;
use serde::{Deserialize, Serialize};

use crate::catalog::{Catalog, Cost, Plan};
use crate::estate::accounts::Accounts;
use crate::estate::{Currency, Estate};
use crate::ids::{OfferingName, PlanName, ProviderName};
use crate::money::Amount;

/// Of the hours of a year the twelfth part: what an hourly price is multiplied with for a month of average length.
pub const HOURS_A_MONTH: i64 = 730;

/// For what a price is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Per {
    /// A month of the calendar; a part of one costs that part of the price.
    Month,
    /// Twelve months of the calendar.
    Year,
    /// 24 hours.
    Day,
    /// An hour.
    Hour,
    /// Once, when it is bought.
    Once,
    /// A gigabyte (10^9 bytes) kept for a month.
    GigabyteMonth,
    /// A gigabyte (10^9 bytes) that passes through the service's endpoint, whichever way.
    Gigabyte,
}

impl Per {
    /// What a catalog's free text means, if it is one of the usual words.
    pub fn read(text: &str) -> Option<Self> {
        let text = text.trim().to_ascii_lowercase();
        let word = text.strip_prefix("per").map_or(text.as_str(), |rest| rest.trim_matches([' ', '-', '_']));
        Some(match word.trim_start_matches('/').trim() {
            "month" | "monthly" | "months" | "mo" => Self::Month,
            "year" | "yearly" | "years" | "annual" | "annually" => Self::Year,
            "day" | "daily" | "days" => Self::Day,
            "hour" | "hourly" | "hours" | "hr" | "h" => Self::Hour,
            "once" | "one-time" | "one time" | "onetime" | "setup" | "setup fee" => Self::Once,
            "gb" | "gigabyte" | "gigabytes" | "gb traffic" | "gb transferred" | "gb of traffic" => Self::Gigabyte,
            _ => return None,
        })
    }

    /// As people say it: "12 EUR a month".
    pub fn in_words(self) -> &'static str {
        match self {
            Self::Month => "a month",
            Self::Year => "a year",
            Self::Day => "a day",
            Self::Hour => "an hour",
            Self::Once => "once",
            Self::GigabyteMonth => "a gigabyte and month",
            Self::Gigabyte => "a gigabyte",
        }
    }
}

/// A price that can be counted.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Charge {
    /// How much, as it was stated.
    pub amount: Amount,
    /// Of what.
    pub currency: Currency,
    /// What one unit of that is worth in the estate's currency.
    pub rate: Amount,
    /// For what.
    pub per: Per,
}

/// One of the things that a plan costs.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Term {
    /// It can be counted.
    Charged(Charge),
    /// It cannot, and why.
    NotCounted {
        /// What was stated, for people; empty if nothing was.
        said: String,
        /// Why it is not counted.
        why: String,
    },
}

impl Charge {
    /// In the estate's currency: what one costs in a month of average length, or once.
    pub fn a_month(&self) -> Decimal {
        let amount = self.amount.get() * self.rate.get();
        match self.per {
            Per::Month | Per::Once | Per::GigabyteMonth | Per::Gigabyte => amount,
            Per::Year => amount / Decimal::from(12),
            Per::Day => amount * Decimal::from(HOURS_A_MONTH) / Decimal::from(24),
            Per::Hour => amount * Decimal::from(HOURS_A_MONTH),
        }
    }
}

impl fmt::Display for Charge {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} {}", self.amount, self.currency.as_str(), self.per.in_words())
    }
}

/// What a provider's catalog says of a plan's price.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Listed {
    costs: Vec<Cost>,
    free: bool,
}

impl Listed {
    /// What this plan's entry says.
    pub fn of(plan: &Plan) -> Self {
        // Catalogs that earlier versions recorded have one price at the most.
        let former = plan.price.as_ref().filter(|_| plan.costs.is_empty()).and_then(|price| {
            let amount = price.amount.parse().ok()?;
            Some(Cost { amounts: [(price.currency.clone(), amount)].into(), per: price.per.clone() })
        });
        Self { costs: plan.costs.iter().cloned().chain(former).collect(), free: plan.free }
    }

    /// What that means to an estate that counts in `own`.
    pub fn terms(&self, own: &Currency, accounts: &Accounts) -> Vec<Term> {
        if self.costs.is_empty() && !self.free {
            return vec![unknown("its provider states no price")];
        }
        terms(&self.costs, own, accounts)
    }
}

/// What a plan costs, by the estate's word before the catalog's.
pub fn terms_of_plan(
    estate: &Estate,
    catalog: Option<&Catalog>,
    provider: &ProviderName,
    offering: &OfferingName,
    plan: &PlanName,
) -> Vec<Term> {
    let pricing = estate.providers.get(provider).map(|provider| &provider.pricing);
    if let Some(costs) = pricing.and_then(|pricing| pricing.prices.get(offering)?.get(plan)) {
        return terms(costs, &estate.currency, &estate.accounts);
    }
    let listed = catalog.and_then(|catalog| catalog.offerings.get(offering)?.plans.iter().find(|p| p.name == *plan));
    match listed {
        Some(listed) => Listed::of(listed).terms(&estate.currency, &estate.accounts),
        None => vec![unknown("its provider's prices are not known")],
    }
}

/// What one instance of a plan costs a month, without what is paid once or by what passes through it; `None` if not all of
/// the rest can be counted.
pub fn a_month(terms: &[Term]) -> Option<Decimal> {
    terms.iter().try_fold(Decimal::ZERO, |sum, term| match term {
        Term::Charged(Charge { per: Per::Once | Per::Gigabyte, .. }) => Some(sum),
        Term::Charged(charge) => Some(sum + charge.a_month()),
        Term::NotCounted { .. } => None,
    })
}

/// Nothing was stated, and why that is so.
pub fn unknown(why: &str) -> Term {
    Term::NotCounted { said: String::new(), why: why.to_owned() }
}

/// What `costs` mean to an estate that counts in `own`.
pub fn terms(costs: &[Cost], own: &Currency, accounts: &Accounts) -> Vec<Term> {
    costs.iter().map(|cost| term(cost, own, accounts)).collect()
}

fn term(cost: &Cost, own: &Currency, accounts: &Accounts) -> Term {
    let stated = |amount: &Amount, currency: &str| format!("{amount} {currency} for `{}`", cost.per);
    let in_own = cost.amounts.get(own.as_str()).map(|amount| (*amount, own.clone(), Amount::ONE));
    // Where it can be paid in several other currencies, the first that has a rate is taken.
    let found = in_own.or_else(|| {
        cost.amounts.iter().find_map(|(code, amount)| {
            let currency = Currency::try_from(code.clone()).ok()?;
            let rate = *accounts.rates.get(&currency)?;
            Some((*amount, currency, rate))
        })
    });
    match (found, Per::read(&cost.per)) {
        (Some((amount, currency, rate)), Some(per)) => Term::Charged(Charge { amount, currency, rate, per }),
        (Some((amount, currency, _)), None) => {
            let why = format!("what `{}` counts is not measured", cost.per);
            Term::NotCounted { said: stated(&amount, currency.as_str()), why }
        }
        (None, _) => {
            let (code, amount) = cost.amounts.iter().next().map_or(("", Amount::ZERO), |(c, a)| (c.as_str(), *a));
            let why = format!("`[estate] rates` does not say what {code} is worth");
            Term::NotCounted { said: stated(&amount, code), why }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_usual_words_for_times_are_understood() {
        for (text, per) in [
            ("MONTHLY", Some(Per::Month)),
            ("month", Some(Per::Month)),
            ("per month", Some(Per::Month)),
            ("/month", Some(Per::Month)),
            ("Hourly", Some(Per::Hour)),
            ("per-hour", Some(Per::Hour)),
            ("DAILY", Some(Per::Day)),
            ("annually", Some(Per::Year)),
            ("one-time", Some(Per::Once)),
            ("1GB of messages over 20GB", None),
            ("GB", Some(Per::Gigabyte)),
            ("per GB", Some(Per::Gigabyte)),
            ("GB out", None),
            ("", None),
        ] {
            assert_eq!(Per::read(text), per, "{text}");
        }
    }

    #[test]
    fn what_has_no_rate_is_not_counted_and_the_own_currency_comes_first() {
        let own = Currency::try_from("EUR".to_owned()).unwrap();
        let mut accounts = Accounts::default();
        let cost = |amounts: &[(&str, &str)], per: &str| Cost {
            amounts: amounts.iter().map(|(code, amount)| ((*code).to_owned(), amount.parse().unwrap())).collect(),
            per: per.to_owned(),
        };
        let both = cost(&[("EUR", "9"), ("USD", "10")], "MONTHLY");
        let dollars = cost(&[("GBP", "8"), ("USD", "10")], "MONTHLY");
        let shown = |cost: &Cost, accounts: &Accounts| match term(cost, &own, accounts) {
            Term::Charged(charge) => format!("{charge} at {}", charge.rate),
            Term::NotCounted { said, why } => format!("{said}: {why}"),
        };
        assert_eq!(shown(&both, &accounts), "9 EUR a month at 1");
        assert_eq!(shown(&dollars, &accounts), "8 GBP for `MONTHLY`: `[estate] rates` does not say what GBP is worth");
        accounts.rates.insert(Currency::try_from("USD".to_owned()).unwrap(), "0.92".parse().unwrap());
        assert_eq!(shown(&dollars, &accounts), "10 USD a month at 0.92");
        assert_eq!(shown(&cost(&[("EUR", "1")], "GB"), &accounts), "1 EUR a gigabyte at 1");
        assert_eq!(
            shown(&cost(&[("EUR", "1")], "CPU"), &accounts),
            "1 EUR for `CPU`: what `CPU` counts is not measured"
        );
    }
}
