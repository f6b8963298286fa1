//! `slo` of a service: what it is to be like for those who use it.

use super::reader::{Key, Reader, Value};
use crate::estate::slo::{Exclusion, Slo};
use crate::estate::terms::Percent;
use crate::time::Span;
use crate::window::Window;

const SLO: &[Key] = &[
    ("availability", r#"availability = "99.9%""#),
    ("latency_p99", r#"latency_p99 = "100ms""#),
    ("over", r#"over = "30d""#),
    ("exclude", r#"exclude = [{ window = "Sat 22:00 - Sun 04:00 Europe/Berlin", reason = "maintenance" }]"#),
];
const EXCLUSION: &[Key] =
    &[("window", r#"window = "Sat 22:00 - Sun 04:00 Europe/Berlin""#), ("reason", r#"reason = "maintenance""#)];
const HOUR: u64 = 3600;
const DAY: u64 = 24 * HOUR;

/// `what` names it in messages: `service.web.slo`.
pub(super) fn read(reader: &mut Reader<'_>, what: &str, value: Value<'_>) -> Option<Slo> {
    let fields = value.fields(reader, what, SLO)?;
    let (availability, latency) = (fields.optional("availability"), fields.optional("latency_p99"));
    if availability.is_none() && latency.is_none() && !fields.has_unknown() {
        let cause = format!("`{what}` has neither `availability` nor `latency_p99`");
        let remedy = "add what is to be reached, for example `availability = \"99.9%\"`, or remove `slo`";
        reader.report_missing(fields.span.clone(), cause, remedy);
    }
    let availability = availability.and_then(|value| read_availability(reader, value));
    let latency_p99 = latency.and_then(|value| value.span_of_time(reader, Span::millis(1)..=Span::seconds(HOUR)));
    let over = fields
        .optional("over")
        .and_then(|value| value.span_of_time(reader, Span::seconds(HOUR)..=Span::seconds(90 * DAY)))
        .unwrap_or(Span::seconds(30 * DAY));
    let exclusions = fields.optional("exclude").and_then(|value| value.some_list(reader)).unwrap_or_default();
    let exclude = exclusions
        .into_iter()
        .enumerate()
        .filter_map(|(index, entry)| {
            let fields = entry.fields(reader, format!("{what}.exclude.{index}"), EXCLUSION)?;
            let window = fields.required(reader, "window").and_then(|value| value.parsed::<Window>(reader));
            let reason = fields.required(reader, "reason").and_then(|value| value.some_text(reader));
            Some(Exclusion { window: window?, reason: reason?.to_owned() })
        })
        .collect();
    Some(Slo { availability, latency_p99, over, exclude })
}

fn read_availability(reader: &mut Reader<'_>, value: Value<'_>) -> Option<Percent> {
    let share: Percent = value.parsed(reader)?;
    match share {
        Percent::ZERO => {
            reader.report(value.span(), "an availability of 0% asks for nothing", "write what is to be reached");
        }
        Percent::WHOLE => {
            let remedy = "leave room for what happens to everybody, as in `99.9%`: what is over is there to be used";
            reader.report(value.span(), "an availability of 100% allows no failure whatsoever", remedy);
        }
        _ => return Some(share),
    }
    None
}
