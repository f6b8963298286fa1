//! What plans cost, exactly as a catalog's text has it.
//!
//! Invariant: an amount never passes through a binary fraction. The parser of everything else makes one of every
//! number, so what stands under `costs` is read a second time from the text itself.

use std::collections::BTreeMap;

use ostler_model::catalog::Cost;
use ostler_model::money::Amount;
use serde::Deserialize;
use serde_json::Value;
use serde_json::value::RawValue;

use super::verdict::{Object, short};

/// So many costs of one plan are read, each in so many currencies: who has more does not mean to be understood.
const COSTS_MAX: usize = 20;
const CURRENCIES_MAX: usize = 20;
/// So many characters of a unit are kept.
const UNIT_MAX: usize = 60;

type Raw<'a> = &'a RawValue;

#[derive(Deserialize)]
struct Catalog<'a> {
    #[serde(borrow, default)]
    services: Vec<Raw<'a>>,
}

#[derive(Deserialize)]
struct Service<'a> {
    #[serde(borrow, default)]
    plans: Vec<Raw<'a>>,
}

#[derive(Deserialize)]
struct Plan<'a> {
    #[serde(borrow)]
    metadata: Metadata<'a>,
}

#[derive(Deserialize)]
struct Metadata<'a> {
    #[serde(borrow)]
    costs: Vec<Raw<'a>>,
}

#[derive(Deserialize)]
struct Stated<'a> {
    #[serde(borrow)]
    amount: BTreeMap<String, Raw<'a>>,
}

/// Puts the digits of each amount under `costs` into `catalog`, as texts in place of its numbers. `text` is what the
/// catalog was read from. What is not as the profile has it stays as it is.
pub(super) fn keep_digits(catalog: &mut Object, text: &[u8]) {
    let Ok(Catalog { services }) = serde_json::from_slice(text) else { return };
    let entries = catalog.get_mut("services").and_then(Value::as_array_mut);
    for (service, raw) in entries.into_iter().flatten().zip(services) {
        let Ok(Service { plans }) = serde_json::from_str(raw.get()) else { continue };
        let entries = service.get_mut("plans").and_then(Value::as_array_mut);
        for (plan, raw) in entries.into_iter().flatten().zip(plans) {
            let Ok(Plan { metadata: Metadata { costs } }) = serde_json::from_str(raw.get()) else { continue };
            let entries = plan.pointer_mut("/metadata/costs").and_then(Value::as_array_mut);
            for (cost, raw) in entries.into_iter().flatten().zip(costs) {
                let Ok(Stated { amount }) = serde_json::from_str(raw.get()) else { continue };
                let amounts = cost.get_mut("amount").and_then(Value::as_object_mut);
                for (currency, number) in amounts.into_iter().flat_map(|amounts| amounts.iter_mut()) {
                    if let Some(raw) = amount.get(currency).filter(|_| number.is_number()) {
                        *number = raw.get().into();
                    }
                }
            }
        }
    }
}

/// What the profile's `costs` of a plan say: all of them apply at once. Amounts that are none are left out.
pub(super) fn read(plan: &Object) -> Vec<Cost> {
    let stated = plan.get("metadata").and_then(|metadata| metadata.get("costs")).and_then(Value::as_array);
    let cost = |cost: &Value| {
        let amounts = cost.get("amount")?.as_object()?;
        let amounts: BTreeMap<String, Amount> = amounts
            .iter()
            .take(CURRENCIES_MAX)
            .filter_map(|(currency, amount)| Some((short(&currency.to_ascii_uppercase(), 10), exact(amount)?)))
            .collect();
        let per = short(cost.get("unit")?.as_str()?, UNIT_MAX);
        (!amounts.is_empty()).then_some(Cost { amounts, per })
    };
    stated.into_iter().flatten().take(COSTS_MAX).filter_map(cost).collect()
}

fn exact(amount: &Value) -> Option<Amount> {
    match amount {
        Value::String(text) => text.parse().ok(),
        // Of a catalog that was not read from a text.
        Value::Number(number) => number.to_string().parse().ok(),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn costs(text: &str) -> Vec<Cost> {
        let Value::Object(mut catalog) = serde_json::from_str(text).unwrap() else { panic!("an object") };
        keep_digits(&mut catalog, text.as_bytes());
        let plan = catalog["services"][0]["plans"][0].as_object().unwrap();
        read(plan)
    }

    fn stated(costs: &str) -> String {
        format!(r#"{{"services": [{{"plans": [{{"metadata": {{"costs": {costs}}}}}]}}]}}"#)
    }

    #[test]
    fn amounts_are_what_the_text_says() {
        let text = stated(
            r#"[{"amount": {"eur": 0.123456789012, "usd": 99.90}, "unit": "MONTHLY"},
                {"amount": {"eur": 1e-7}, "unit": "1GB over 20GB"}]"#,
        );
        let shown = serde_json::to_string(&costs(&text)).unwrap();
        assert_eq!(
            shown,
            r#"[{"amounts":{"EUR":"0.123456789012","USD":"99.9"},"per":"MONTHLY"},{"amounts":{"EUR":"0.0000001"},"per":"1GB over 20GB"}]"#
        );
        // More digits than a binary fraction of 64 bits can hold.
        let text = stated(r#"[{"amount": {"eur": 123456789012.123456789012}, "unit": "month"}]"#);
        assert_eq!(costs(&text)[0].amounts["EUR"].to_string(), "123456789012.123456789012");
    }

    #[test]
    fn what_is_no_cost_is_left_out() {
        for none in [
            "7",
            "[7]",
            r#"[{"amount": 7, "unit": "MONTHLY"}]"#,
            r#"[{"amount": {"eur": -1}, "unit": "MONTHLY"}]"#,
            r#"[{"amount": {"eur": true}, "unit": "MONTHLY"}]"#,
            r#"[{"amount": {"eur": 1e99}, "unit": "MONTHLY"}]"#,
            r#"[{"amount": {"eur": 1}}]"#,
        ] {
            assert_eq!(costs(&stated(none)), [], "{none}");
        }
    }
}
