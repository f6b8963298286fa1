//! `parameters = { … }`: whatever TOML can say that JSON can say too.

use std::collections::BTreeMap;

use serde_json::{Number, Value as Json};
use toml::de::DeValue;

use super::reader::{Reader, Value};
use crate::estate::Parameters;

/// Tables and lists within each other, at most.
const DEPTH_MAX: usize = 32;

/// Reads the table. Dates and times become texts, as JSON has none.
pub(super) fn read(reader: &mut Reader<'_>, value: Value<'_>) -> Option<Parameters> {
    let table = value.table(reader)?;
    let mut all = BTreeMap::new();
    for (key, entry) in table.iter() {
        match to_json(entry.get_ref(), DEPTH_MAX) {
            Ok(json) => drop(all.insert(key.get_ref().to_string(), json)),
            Err(cause) => reader.report(
                entry.span(),
                cause,
                "the provider is told its parameters in JSON: write what that can say",
            ),
        }
    }
    Some(Parameters(all))
}

fn to_json(value: &DeValue<'_>, depth: usize) -> Result<Json, String> {
    if depth == 0 {
        return Err(format!("more than {DEPTH_MAX} tables and lists stand within each other"));
    }
    Ok(match value {
        DeValue::String(text) => Json::String(text.to_string()),
        DeValue::Integer(number) => i64::from_str_radix(number.as_str(), number.radix())
            .map(|number| Json::Number(number.into()))
            .map_err(|_| format!("`{}` is too large a number", number.as_str()))?,
        DeValue::Float(number) => {
            let parsed = number.as_str().parse::<f64>().ok().and_then(Number::from_f64);
            Json::Number(parsed.ok_or_else(|| format!("`{}` is a number that JSON does not have", number.as_str()))?)
        }
        DeValue::Boolean(truth) => Json::Bool(*truth),
        DeValue::Datetime(time) => Json::String(time.to_string()),
        DeValue::Array(entries) => {
            Json::Array(entries.iter().map(|entry| to_json(entry.get_ref(), depth - 1)).collect::<Result<_, _>>()?)
        }
        DeValue::Table(table) => {
            let entry = |(key, entry): (&toml::Spanned<_>, &toml::Spanned<DeValue<'_>>)| {
                let key: &std::borrow::Cow<'_, str> = key.get_ref();
                Ok((key.to_string(), to_json(entry.get_ref(), depth - 1)?))
            };
            Json::Object(table.iter().map(entry).collect::<Result<_, String>>()?)
        }
    })
}
