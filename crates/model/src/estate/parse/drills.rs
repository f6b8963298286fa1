//! `[drill]`: the faults that are caused on purpose.

use std::collections::BTreeSet;

use super::reader::{Key, Reader, Value, listed};
use crate::diagnostics::shown;
use crate::estate::drills::{Drills, Fault, LASTS_MAX, LASTS_MIN};
use crate::ids::ServiceName;
use crate::time::Span;
use crate::window::{Calendar, Window};

const DRILL: &[Key] = &[
    ("window", r#"window = ["Sun 02:00 - 04:00 Europe/Berlin"]"#),
    ("freeze", r#"freeze = ["2026-12-20 - 2027-01-02"]"#),
    ("every", r#"every = "7d""#),
    ("faults", r#"faults = ["kill", "hang"]"#),
    ("services", r#"services = ["db", "web"]"#),
    ("at_most", "at_most = 1"),
    ("keep", "keep = 1"),
    ("lasts", r#"lasts = "2m""#),
    ("valid", r#"valid = "30d""#),
];
const HOUR: u64 = 3600;
const DAY: u64 = 24 * HOUR;
/// More drills of one service while a window is open once prove nothing more.
const AT_MOST_MAX: u64 = 100;

/// `names` are the services that there are.
pub(super) fn read(reader: &mut Reader<'_>, names: &BTreeSet<ServiceName>, value: Value<'_>) -> Option<Drills> {
    let fields = value.fields(reader, "drill", DRILL)?;
    let usual = Drills::default();
    let mut windows = |key| {
        let entries = fields.optional(key).and_then(|value| value.some_list(reader)).unwrap_or_default();
        entries.into_iter().filter_map(|entry| entry.parsed::<Window>(reader)).collect::<Vec<_>>()
    };
    let calendar = Calendar { window: windows("window"), freeze: windows("freeze") };
    let every = fields
        .optional("every")
        .and_then(|value| value.span_of_time(reader, Span::seconds(HOUR)..=Span::seconds(366 * DAY)));
    if every.is_some() && fields.optional("window").is_none() && !fields.is_meant("window") {
        let remedy = "say when, for example `window = [\"Sun 02:00 - 04:00 Europe/Berlin\"]`, or remove `every`";
        reader.report_missing(fields.span.clone(), "`drill` has `every` and no `window`", remedy);
    }
    let faults = fields.optional("faults").map(|value| read_faults(reader, value)).unwrap_or(usual.faults);
    let services = fields.optional("services").map(|value| read_services(reader, names, value)).unwrap_or_default();
    let mut number = |key, range| fields.optional(key).and_then(|value| value.integer(reader, range));
    let at_most = number("at_most", 1..=AT_MOST_MAX).and_then(|number| u32::try_from(number).ok());
    let keep = number("keep", 0..=u64::from(crate::estate::INSTANCES_MAX)).and_then(|n| u32::try_from(n).ok());
    let mut length = |key, range| fields.optional(key).and_then(|value| value.span_of_time(reader, range));
    let lasts = length("lasts", LASTS_MIN..=LASTS_MAX).unwrap_or(usual.lasts);
    let valid = length("valid", Span::seconds(HOUR)..=Span::seconds(366 * DAY)).unwrap_or(usual.valid);
    let (at_most, keep) = (at_most.unwrap_or(usual.at_most), keep.unwrap_or(usual.keep));
    Some(Drills { calendar, every, faults, services, at_most, keep, lasts, valid })
}

fn read_faults(reader: &mut Reader<'_>, value: Value<'_>) -> Vec<Fault> {
    let mut faults = Vec::new();
    for entry in value.some_list(reader).unwrap_or_default() {
        let Some(text) = entry.text(reader) else { continue };
        match text.parse() {
            Ok(fault) if faults.contains(&fault) => {
                reader.report(entry.span(), format!("`{fault}` is named twice"), "remove one of the two");
            }
            Ok(fault) => faults.push(fault),
            Err(_) => {
                let names = || Fault::ALL.into_iter().map(Fault::as_str);
                let remedy = reader.advise(text, names(), &format!("use some of: {}", listed(names())));
                reader.report(entry.span(), format!("there is no fault `{}`", shown(text)), remedy);
            }
        }
    }
    faults
}

fn read_services(reader: &mut Reader<'_>, names: &BTreeSet<ServiceName>, value: Value<'_>) -> BTreeSet<ServiceName> {
    let mut services = BTreeSet::new();
    for entry in value.some_list(reader).unwrap_or_default() {
        let Some(name) = entry.name::<ServiceName>(reader) else { continue };
        if !names.contains(&name) && !reader.may_be_unread(name.as_str()) {
            let known = || names.iter().map(ServiceName::as_str);
            let remedy = reader.advise(name.as_str(), known(), &format!("use some of: {}", listed(known())));
            reader.report(entry.span(), format!("`drill` names `{name}`, which does not exist"), remedy);
        }
        services.insert(name);
    }
    services
}
