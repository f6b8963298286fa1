//! `[failures]`, `[service.NAME.failures]`, `[provider.NAME.failures]`: how often what fails.

use std::ops::Range;

use toml::de::{DeTable, DeValue};

use super::reader::{Key, Reader, Value, listed};
use crate::diagnostics::shown;
use crate::estate::failures::{FailureKind, FailureRate, FailureScope, Failures};
use crate::time::Span;

const RATE: &[Key] = &[("every", r#"every = "90d""#), ("lasts", r#"lasts = "1m - 2h""#)];
const NEVER: &str = "never";
/// What people write for long times and [`Span`] does not know.
const LONG: &str = "months and years differ in length, so write 30d or 365d";

/// Where a table of failures stands, which decides what may stand in it.
#[derive(Clone, Copy)]
pub(super) enum Whose {
    /// In `[failures]`: it holds for everything.
    Everything,
    /// Under a service.
    Service,
    /// Under a provider.
    Provider,
}

impl Whose {
    fn may_have(self, kind: FailureKind) -> bool {
        match (self, kind.scope()) {
            (Self::Everything, _)
            | (Self::Service, FailureScope::Instance | FailureScope::Service)
            | (Self::Provider, FailureScope::Provider) => true,
            (Self::Service, FailureScope::Provider | FailureScope::Region | FailureScope::Estate)
            | (
                Self::Provider,
                FailureScope::Instance | FailureScope::Service | FailureScope::Region | FailureScope::Estate,
            ) => false,
        }
    }

    fn names(self) -> impl Iterator<Item = &'static str> {
        FailureKind::ALL.into_iter().filter(move |kind| self.may_have(*kind)).map(FailureKind::as_str)
    }
}

/// The table that stands behind `what`, `service.web.failures` for example.
pub(super) fn read(reader: &mut Reader<'_>, what: &str, whose: Whose, value: Value<'_>) -> Failures {
    let table = value.table(reader).into_iter().flat_map(DeTable::iter);
    let mut rates = Vec::new();
    for (key, entry) in table {
        let name: &str = key.get_ref();
        match FailureKind::ALL.into_iter().find(|kind| kind.as_str() == name) {
            Some(kind) if whose.may_have(kind) => {
                let entry = Value::new(kind.as_str(), r#"crash = "60d""#, entry);
                rates.extend(read_rate(reader, what, kind, entry).map(|rate| (kind, rate)));
            }
            Some(kind) => report_misplaced(reader, what, kind, key.span()),
            None => {
                let rest = format!("remove it, or use one of: {}", listed(whose.names()));
                let remedy = reader.advise(name, whose.names(), &rest);
                reader.report(key.span(), format!("unknown key `{}` in `{what}`", shown(name)), remedy);
            }
        }
    }
    rates.into_iter().collect()
}

fn report_misplaced(reader: &mut Reader<'_>, what: &str, kind: FailureKind, span: Range<usize>) {
    let (whom, place) = match kind.scope() {
        FailureScope::Instance => {
            ("an instance of a service", "`[service.NAME.failures]` or, for all, to `[failures]`")
        }
        FailureScope::Service => ("a service", "`[service.NAME.failures]` or, for all, to `[failures]`"),
        FailureScope::Provider => ("a provider", "`[provider.NAME.failures]` or, for all, to `[failures]`"),
        FailureScope::Region => ("a region", "`[failures]`"),
        FailureScope::Estate => ("the estate as a whole", "`[failures]`"),
    };
    let cause = format!("`{kind}` happens to {whom}, and so cannot stand in `{what}`");
    reader.report(span, cause, format!("move it to {place}"));
}

/// `Some(None)` for never.
fn read_rate(reader: &mut Reader<'_>, what: &str, kind: FailureKind, value: Value<'_>) -> Option<Option<FailureRate>> {
    match value.raw() {
        DeValue::String(_) => {
            let text = value.text(reader)?;
            if text.trim() == NEVER {
                return Some(None);
            }
            let every = read_every(reader, kind, text, value.span())?;
            Some(Some(FailureRate { every, lasts: None }))
        }
        DeValue::Table(_) => {
            let fields = value.fields(reader, format!("{what}.{kind}"), RATE)?;
            let every = fields.required(reader, "every").and_then(|value| {
                let text = value.text(reader)?;
                read_every(reader, kind, text, value.span())
            });
            let lasts = fields.optional("lasts").and_then(|value| read_lasts(reader, kind, value));
            Some(Some(FailureRate { every: every?, lasts }))
        }
        _ => {
            let cause = format!("`{kind}` should be a text in quotes or a table");
            reader.report(value.span(), cause, forms(kind));
            None
        }
    }
}

/// The ways to write how often `kind` happens.
fn forms(kind: FailureKind) -> String {
    let table = if kind.lasts() { r#", `{ every = "60d", lasts = "1m - 2h" }`"# } else { "" };
    format!("write the mean time between two, for example `{kind} = \"60d\"`{table}, or `\"{NEVER}\"`")
}

fn read_every(reader: &mut Reader<'_>, kind: FailureKind, text: &str, span: Range<usize>) -> Option<Span> {
    if text.trim() == NEVER {
        reader.report(
            span,
            "`every` is a length of time, and `never` is none",
            format!("write `{kind} = \"{NEVER}\"`"),
        );
        return None;
    }
    let (least, most) = FailureRate::EVERY;
    match text.parse::<Span>() {
        Ok(every) if (least..=most).contains(&every) => return Some(every),
        Ok(_) => {
            let cause = format!("`{}` is not between 1m and 36500d (100 years)", shown(text));
            let remedy = format!("write a mean time between two within these bounds, or `{kind} = \"{NEVER}\"`");
            reader.report(span, cause, remedy);
        }
        Err(error) => reader.report(span, error.to_string(), format!("{}; {LONG}", forms(kind))),
    }
    None
}

/// The shortest and the longest time: `5m`, `1m - 2h`.
fn read_lasts(reader: &mut Reader<'_>, kind: FailureKind, value: Value<'_>) -> Option<(Span, Span)> {
    if !kind.lasts() {
        let cause =
            format!("`{kind}` happens at one moment: how long its effects last depends on what is done about them");
        reader.report(value.span(), cause, "remove `lasts`");
        return None;
    }
    let text = value.text(reader)?;
    let Some((shortest, longest)) = text.split_once('-') else {
        let length = read_length(reader, text.trim(), value.span())?;
        return Some((length, length));
    };
    let (shortest, longest) = (shortest.trim(), longest.trim());
    let ends = [shortest, longest].map(|end| read_length(reader, end, value.span()));
    let [Some(least), Some(most)] = ends else { return None };
    if least > most {
        let cause = format!("the shortest time of `{}` is longer than the longest", shown(text));
        let remedy = format!("write the shorter one first: `lasts = \"{} - {}\"`", shown(longest), shown(shortest));
        reader.report(value.span(), cause, remedy);
        return None;
    }
    Some((least, most))
}

fn read_length(reader: &mut Reader<'_>, text: &str, span: Range<usize>) -> Option<Span> {
    const FORMS: &str = r#"write one length or the shortest and the longest, for example `lasts = "1m - 2h"`"#;
    let (least, most) = FailureRate::LASTS;
    match text.parse::<Span>() {
        Ok(length) if (least..=most).contains(&length) => return Some(length),
        Ok(_) => reader.report(span, format!("`{}` is not between 1ms and 30d", shown(text)), FORMS),
        Err(_) if text.is_empty() => reader.report(span, "a length of time is missing in `lasts`", FORMS),
        Err(error) => reader.report(span, error.to_string(), format!("{FORMS}; {LONG}")),
    }
    None
}
