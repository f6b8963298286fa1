//! `[own]` and `[service.NAME.own]`: what is assumed where owning is weighed against buying.

use toml::de::DeValue;

use super::reader::{Reader, Value, listed};
use crate::diagnostics::shown;
use crate::estate::own::{Assumption, Own, Range, Unit};

/// The table that stands behind `what`, `service.db.own` for example.
pub(super) fn read(reader: &mut Reader<'_>, what: &str, value: Value<'_>) -> Own {
    let names = || Assumption::ALL.iter().map(|assumption| assumption.as_str());
    let mut own = Own::default();
    for (key, entry) in value.table(reader).into_iter().flat_map(|table| table.iter()) {
        let name: &str = key.get_ref();
        let Some(assumption) = Assumption::ALL.iter().find(|assumption| assumption.as_str() == name) else {
            let rest = format!("remove it, or use one of: {}", listed(names()));
            let remedy = reader.advise(name, names(), &rest);
            reader.report(key.span(), format!("unknown key `{}` in `{what}`", shown(name)), remedy);
            continue;
        };
        let value = Value::new(assumption.as_str(), example(assumption.unit()), entry);
        if let Some(range) = read_range(reader, *assumption, value) {
            own.0.insert(*assumption, range);
        }
    }
    own
}

fn example(unit: Unit) -> &'static str {
    match unit {
        Unit::Money => r#"salary = "60000..80000""#,
        Unit::Percent => r#"growth = "0%..20%""#,
        Unit::Number => r#"care = "4..8..16""#,
    }
}

fn read_range(reader: &mut Reader<'_>, assumption: Assumption, value: Value<'_>) -> Option<Range> {
    let text = match value.raw() {
        DeValue::Integer(number) if number.radix() == 10 => number.as_str(),
        DeValue::Float(number) => number.as_str(),
        _ => value.text(reader)?,
    };
    let range = match Range::read(text, assumption.unit()) {
        Ok(range) => range,
        Err(error) => {
            reader.report(value.span(), error.to_string(), format!("write it like `{}`", written(assumption)));
            return None;
        }
    };
    let (least, most) = assumption.bounds();
    if range.low() < least || range.high() > most {
        let sign = sign(assumption);
        let cause = format!("`{assumption}` is not between {least}{sign} and {most}{sign}");
        let remedy = format!("it stands for {}; write it like `{}`", assumption.in_words(), written(assumption));
        reader.report(value.span(), cause, remedy);
        return None;
    }
    Some(range)
}

fn sign(assumption: Assumption) -> &'static str {
    if assumption.unit() == Unit::Percent { "%" } else { "" }
}

/// With its default, as it could stand in the file.
fn written(assumption: Assumption) -> String {
    let usual = assumption.usual().map_or("3".to_owned(), |usual| usual.to_string());
    let figures: Vec<String> = usual.split("..").map(|figure| format!("{figure}{}", sign(assumption))).collect();
    format!("{assumption} = \"{}\"", figures.join(".."))
}
