//! By which rules a provider counts what was not available, and how a credit is claimed: `zone`, `over`, `outage`,
//! `maintenance` and `claim` in its `terms`.

use super::accounts;
use super::reader::{Fields, Key, Reader, Value};
use crate::diagnostics::shown;
use crate::estate::claims::{Claims, Counting, Whole};
use crate::estate::terms::Percent;
use crate::time::Span;
use crate::window::Window;

const OUTAGE: &[Key] = &[("from", r#"from = "1m""#), ("step", r#"step = "1m""#), ("failed", r#"failed = "10%""#)];
const MAINTENANCE: &[Key] =
    &[("window", r#"window = ["Sun 02:00 - Sun 04:00 UTC"]"#), ("at_most", r#"at_most = "4h""#)];
const CLAIM: &[Key] =
    &[("within", r#"within = "30d""#), ("at_least", r#"at_least = "1.00""#), ("at_most", r#"at_most = "50%""#)];
const WHOLES: &[(&str, Whole)] = &[("month", Whole::Month), ("held", Whole::Held)];
const SECOND: Span = Span::seconds(1);
const HOUR: Span = Span::seconds(3600);
const DAY: Span = Span::seconds(86_400);
const MONTH: Span = Span::seconds(31 * 86_400);

/// Of `fields`, which are those of `terms`; `what` names these in messages.
pub(super) fn read(reader: &mut Reader<'_>, what: &str, fields: &Fields<'_>) -> (Counting, Claims) {
    let mut counting = Counting {
        zone: fields.optional("zone").and_then(|value| value.parsed(reader)),
        whole: fields.optional("over").and_then(|value| read_whole(reader, value)).unwrap_or_default(),
        ..Counting::default()
    };
    if let Some(value) = fields.optional("outage") {
        read_outage(reader, &format!("{what}.outage"), value, &mut counting);
    }
    if let Some(value) = fields.optional("maintenance") {
        read_maintenance(reader, &format!("{what}.maintenance"), value, &mut counting);
    }
    let claim = fields.optional("claim").and_then(|value| read_claim(reader, &format!("{what}.claim"), value));
    (counting, claim.unwrap_or_default())
}

fn read_whole(reader: &mut Reader<'_>, value: Value<'_>) -> Option<Whole> {
    let text = value.text(reader)?;
    let found = WHOLES.iter().find(|(name, _)| *name == text).map(|(_, whole)| *whole);
    if found.is_none() {
        let rest = "write `month` for the whole month, or `held` for the part of it in which something was held";
        let remedy = reader.advise(text, WHOLES.iter().map(|(name, _)| *name), rest);
        reader.report(value.span(), format!("availability is not measured over `{}`", shown(text)), remedy);
    }
    found
}

fn read_outage(reader: &mut Reader<'_>, what: &str, value: Value<'_>, counting: &mut Counting) {
    let Some(fields) = value.fields(reader, what, OUTAGE) else { return };
    counting.outage_from = fields.optional("from").and_then(|value| value.span_of_time(reader, SECOND..=DAY));
    counting.outage_step = fields.optional("step").and_then(|value| value.span_of_time(reader, SECOND..=HOUR));
    counting.failed = fields.optional("failed").and_then(|value| {
        let share: Percent = value.parsed(reader)?;
        if share == Percent::ZERO {
            value.reject(reader, "no share of requests is less than 0%");
        }
        Some(share)
    });
}

fn read_maintenance(reader: &mut Reader<'_>, what: &str, value: Value<'_>, counting: &mut Counting) {
    let Some(fields) = value.fields(reader, what, MAINTENANCE) else { return };
    let windows = fields.required(reader, "window").and_then(|value| value.some_list(reader)).unwrap_or_default();
    counting.maintenance = windows.into_iter().filter_map(|entry| entry.parsed::<Window>(reader)).collect();
    counting.maintenance_max = fields.optional("at_most").and_then(|value| value.span_of_time(reader, SECOND..=MONTH));
}

fn read_claim(reader: &mut Reader<'_>, what: &str, value: Value<'_>) -> Option<Claims> {
    let fields = value.fields(reader, what, CLAIM)?;
    let at_most = fields.optional("at_most").and_then(|value| {
        let share: Percent = value.parsed(reader)?;
        if share == Percent::ZERO {
            value.reject(reader, "credits of at most 0% are none");
        }
        Some(share)
    });
    Some(Claims {
        within: fields.optional("within").and_then(|value| value.parsed(reader)),
        at_least: fields.optional("at_least").and_then(|value| accounts::read_amount(reader, value)),
        at_most,
    })
}
