//! Money: `budget`, `rates` and `zone` of `[estate]`, `prices` in a provider's `terms`, and `[provider.NAME.cost]`.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;

use toml::de::DeValue;

use super::reader::{Fields, Key, Reader, Value, parse_name};
use crate::catalog::Cost;
use crate::diagnostics::shown;
use crate::estate::Currency;
use crate::estate::accounts::{Accounts, MachineCost};
use crate::ids::{OfferingName, PlanName};
use crate::money::Amount;

const BUDGET: &[Key] = &[("monthly", "monthly = 400")];
const PRICE: &[Key] =
    &[("amount", r#"amount = "0.04""#), ("currency", r#"currency = "USD""#), ("per", r#"per = "hour""#)];
const COST: &[Key] = &[
    ("purchase", r#"purchase = "2400""#),
    ("years", "years = 4"),
    ("watts", "watts = 60"),
    ("kwh", r#"kwh = "0.30""#),
    ("care", "care = 2"),
    ("care_rate", r#"care_rate = "60""#),
];
const PRICES_EXAMPLE: &str = r#"prices = { postgresql = { small = "19.00" } }"#;
const RATES_EXAMPLE: &str = r#"rates = { USD = "0.92" }"#;
/// For what a price can be stated: those that the books count.
const PER: &[&str] = &["month", "hour", "day", "year", "once", "GB"];

/// The prices of a provider's plans.
pub(super) type Prices = BTreeMap<OfferingName, BTreeMap<PlanName, Vec<Cost>>>;

/// Of `[estate]`, whose `currency` this is.
pub(super) fn read(reader: &mut Reader<'_>, fields: &Fields<'_>, currency: Option<&Currency>) -> Accounts {
    let budget = fields.optional("budget").and_then(|value| {
        let fields = value.fields(reader, "estate.budget", BUDGET)?;
        let value = fields.required(reader, "monthly")?;
        let amount = read_amount(reader, value)?;
        if amount == Amount::ZERO {
            value.reject(reader, "a budget of nothing allows nothing; leave it out if there is none");
        }
        Some(amount)
    });
    let rates = fields.optional("rates").map(|value| read_rates(reader, value, currency)).unwrap_or_default();
    let zone = fields.optional("zone").and_then(|value| value.parsed(reader)).unwrap_or_default();
    Accounts { budget, rates, zone }
}

fn read_rates(reader: &mut Reader<'_>, value: Value<'_>, own: Option<&Currency>) -> BTreeMap<Currency, Amount> {
    let mut rates = BTreeMap::new();
    for (code, rate) in value.table(reader).into_iter().flat_map(|table| table.iter()) {
        let value = Value::new(code.get_ref(), RATES_EXAMPLE, rate);
        let Ok(currency) = Currency::try_from(code.get_ref().to_string()) else {
            let cause = format!("`{}` is not a currency", shown(code.get_ref()));
            reader.report(code.span(), cause, "write its three capital letters of ISO 4217, for example `USD`");
            continue;
        };
        let Some(amount) = read_amount(reader, value) else { continue };
        if own == Some(&currency) {
            let cause = format!("{} is the estate's own currency, and is worth itself", currency.as_str());
            reader.report(code.span(), cause, "remove it, or set another `currency`");
        } else if amount == Amount::ZERO {
            value.reject(reader, format!("{} is worth something", currency.as_str()));
        }
        rates.insert(currency, amount);
    }
    rates
}

/// An amount: digits in quotes, or a number, which is taken digit by digit as it stands in the file.
pub(super) fn read_amount(reader: &mut Reader<'_>, value: Value<'_>) -> Option<Amount> {
    let text = match value.raw() {
        DeValue::Integer(number) if number.radix() == 10 => number.as_str(),
        DeValue::Float(number) => number.as_str(),
        _ => value.text(reader)?,
    };
    match text.parse() {
        Ok(amount) => Some(amount),
        Err(error) => {
            value.reject(reader, crate::money::AmountError::to_string(&error));
            None
        }
    }
}

/// `prices` in the `terms` of a provider; `what` names it in messages. Amounts are in `own`, or in a currency that has a
/// rate.
pub(super) fn read_prices(
    reader: &mut Reader<'_>,
    what: &str,
    value: Value<'_>,
    (own, accounts): (&Currency, &Accounts),
) -> Prices {
    let mut prices = Prices::new();
    for (offering, plans) in value.table(reader).into_iter().flat_map(|table| table.iter()) {
        let plans = Value::new(offering.get_ref(), PRICES_EXAMPLE, plans);
        let Some(offering) = parse_name::<OfferingName>(reader, offering.span(), offering.get_ref()) else { continue };
        for (plan, costs) in plans.table(reader).into_iter().flat_map(|table| table.iter()) {
            let value = Value::new(plan.get_ref(), PRICES_EXAMPLE, costs);
            let Some(plan) = parse_name::<PlanName>(reader, plan.span(), plan.get_ref()) else { continue };
            let what = format!("{what}.prices.{offering}.{plan}");
            let entries = match value.raw() {
                DeValue::Array(_) => value.some_list(reader).unwrap_or_default(),
                _ => vec![value],
            };
            let costs: Option<Vec<Cost>> =
                entries.into_iter().map(|entry| read_cost(reader, &what, entry, (own, accounts))).collect();
            if let Some(costs) = costs {
                prices.entry(offering.clone()).or_default().insert(plan, costs);
            }
        }
    }
    prices
}

/// `"19.00"` is for a month and in the estate's currency.
fn read_cost(
    reader: &mut Reader<'_>,
    what: &str,
    value: Value<'_>,
    (own, accounts): (&Currency, &Accounts),
) -> Option<Cost> {
    if !matches!(value.raw(), DeValue::Table(_)) {
        let amount = read_amount(reader, value)?;
        return Some(Cost { amounts: BTreeMap::from([(own.as_str().to_owned(), amount)]), per: "month".to_owned() });
    }
    let fields = value.fields(reader, what, PRICE)?;
    let amount = fields.required(reader, "amount").and_then(|value| read_amount(reader, value));
    let per = match fields.optional("per") {
        Some(value) => {
            let text = value.text(reader)?;
            if !PER.contains(&text) {
                let remedy = reader.advise(text, PER.iter().copied(), &format!("use one of: {}", PER.join(", ")));
                reader.report(value.span(), format!("a price cannot be for `{}`", shown(text)), remedy);
                return None;
            }
            text
        }
        None => "month",
    };
    let currency = match fields.optional("currency") {
        Some(value) => {
            let currency = super::settings::read_currency(reader, value)?;
            if currency != *own && !accounts.rates.contains_key(&currency) {
                let code = currency.as_str();
                let cause =
                    format!("a price in {code} cannot be added to others in {}: no rate is stated", own.as_str());
                let remedy = format!("add `rates = {{ {code} = \"…\" }}` to `[estate]`: what one {code} is worth");
                reader.report(value.span(), cause, remedy);
                return None;
            }
            currency
        }
        None => own.clone(),
    };
    Some(Cost { amounts: BTreeMap::from([(currency.as_str().to_owned(), amount?)]), per: per.to_owned() })
}

/// `[provider.NAME.cost]`; `what` names it in messages.
pub(super) fn read_machine(reader: &mut Reader<'_>, what: &str, value: Value<'_>) -> Option<MachineCost> {
    const YEARS: RangeInclusive<u64> = 1..=30;
    let fields = value.fields(reader, what, COST)?;
    let mut amount = |key| fields.optional(key).map(|value| read_amount(reader, value));
    let (purchase, watts, kwh) = (amount("purchase"), amount("watts"), amount("kwh"));
    let (care, care_rate) = (amount("care"), amount("care_rate"));
    let years = fields.optional("years").map(|value| value.integer(reader, YEARS));
    let pairs = [
        ("purchase", purchase.is_some(), "years", years.is_some()),
        ("watts", watts.is_some(), "kwh", kwh.is_some()),
        ("care", care.is_some(), "care_rate", care_rate.is_some()),
    ];
    if pairs.iter().all(|(_, one, _, other)| !one && !other) && !fields.has_unknown() {
        let remedy = "add `purchase` with `years`, `watts` with `kwh`, or `care` with `care_rate`";
        reader.report_missing(fields.span.clone(), format!("`{what}` says of nothing what it costs"), remedy);
    }
    for (one, has_one, other, has_other) in pairs {
        let (has, lacks) = if has_one { (one, other) } else { (other, one) };
        if has_one != has_other && !fields.is_meant(lacks) {
            let cause = format!("`{what}` has `{has}` and no `{lacks}`");
            let example = COST.iter().find(|(key, _)| *key == lacks).map_or("", |(_, example)| example);
            reader.report_missing(fields.span.clone(), cause, format!("add it, for example `{example}`"));
        }
    }
    // `Some(None)` is what was wrong and told.
    let or_nothing = |read: Option<Option<Amount>>| read.unwrap_or(Some(Amount::ZERO));
    Some(MachineCost {
        purchase: or_nothing(purchase)?,
        years: u32::try_from(years.unwrap_or(Some(0))?).unwrap_or_default(),
        watts: or_nothing(watts)?,
        kwh: or_nothing(kwh)?,
        care: or_nothing(care)?,
        care_rate: or_nothing(care_rate)?,
    })
}
