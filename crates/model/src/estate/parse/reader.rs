//! Typed access to a TOML tree that reports what does not fit, and goes on.
//!
//! Invariant: a function that returns `None` for something that stands in the file has reported why.

use std::fmt::Display;
use std::ops::{Range, RangeInclusive};
use std::str::FromStr;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::recover::Unread;
use crate::diagnostics::{Problem, shown};
use crate::ids::IdError;
use crate::nearest::nearest;
use crate::time::Span;

/// For at most this many unknown names the nearest known one is looked for: it takes time, and fifty are shown.
const SUGGESTIONS_MAX: usize = 200;
/// So many characters of a text are shown.
const SHOWN_MAX: usize = 64;

/// A key that may stand in a table, and how it is written: `("instances", "instances = 2")`.
pub(super) type Key = (&'static str, &'static str);

/// Collects problems.
pub(super) struct Reader<'t> {
    unread: &'t Unread,
    problems: Vec<Problem>,
    /// What of the text must not be shown.
    hidden: Vec<Range<usize>>,
    suggestions_left: usize,
}

impl<'t> Reader<'t> {
    pub(super) fn new(unread: &'t Unread, problems: Vec<Problem>) -> Self {
        Self { unread, problems, hidden: Vec::new(), suggestions_left: SUGGESTIONS_MAX }
    }

    /// The problems, and what of the text must not be shown beside them.
    pub(super) fn into_problems(self) -> (Vec<Problem>, Vec<Range<usize>>) {
        (self.problems, self.hidden)
    }

    /// What stands at `span` is probably a secret: no problem shows it.
    pub(super) fn hide(&mut self, span: Range<usize>) {
        self.hidden.push(span);
    }

    /// Something is wrong at `span`.
    pub(super) fn report(&mut self, span: Range<usize>, cause: impl Into<String>, remedy: impl Into<String>) {
        self.problems.push(Problem { span, cause: cause.into(), remedy: remedy.into() });
    }

    /// Something is missing in the section at `span`; not reported if it may stand in what could not be read.
    pub(super) fn report_missing(&mut self, span: Range<usize>, cause: impl Into<String>, remedy: impl Into<String>) {
        if !self.unread.touches_section(span.start) {
            self.report(span, cause, remedy);
        }
    }

    /// Whether `word` may be declared in what could not be read.
    pub(super) fn may_be_unread(&self, word: &str) -> bool {
        self.unread.mentions(word)
    }

    /// Of `known` the name most like `name`, if one is so like it that a slip is likely.
    fn nearest<'k>(&mut self, name: &str, known: impl IntoIterator<Item = &'k str>) -> Option<&'k str> {
        self.suggestions_left = self.suggestions_left.checked_sub(1)?;
        nearest(name, known)
    }

    /// What to do about an unknown name: the nearest known one if there is one, and otherwise `rest`.
    pub(super) fn advise<'k>(&mut self, name: &str, known: impl IntoIterator<Item = &'k str>, rest: &str) -> String {
        match self.nearest(name, known) {
            Some(nearest) => format!("did you mean `{nearest}`? If not, {rest}"),
            None => rest.to_owned(),
        }
    }
}

/// A table of the file whose keys are known.
#[derive(Clone)]
pub(super) struct Fields<'t> {
    /// What it is, for messages: `service.web`.
    pub(super) what: String,
    /// Its header, or the whole if it is written in one line.
    pub(super) span: Range<usize>,
    table: &'t DeTable<'t>,
    keys: &'static [Key],
    has_unknown: bool,
    /// Known keys that unknown ones were probably meant to be.
    meant: Vec<&'static str>,
}

impl<'t> Fields<'t> {
    /// Reports keys that are not in `keys`.
    pub(super) fn new(
        reader: &mut Reader<'_>,
        what: impl Into<String>,
        span: Range<usize>,
        table: &'t DeTable<'t>,
        keys: &'static [Key],
    ) -> Self {
        let what = what.into();
        let names = || keys.iter().map(|(name, _)| *name);
        let remedy = format!("remove it, or use one of: {}", listed(names()));
        let mut meant = Vec::new();
        let mut has_unknown = false;
        for (key, _) in table.iter() {
            let name: &str = key.get_ref();
            if names().any(|known| known == name) {
                continue;
            }
            let place = if what.is_empty() { String::new() } else { format!(" in `{}`", shown(&what)) };
            let nearest = reader.nearest(name, names());
            let remedy = match nearest {
                Some(nearest) => format!("did you mean `{nearest}`? If not, {remedy}"),
                None => remedy.clone(),
            };
            reader.report(key.span(), format!("unknown key `{}`{place}", shown(name)), remedy);
            meant.extend(nearest);
            has_unknown = true;
        }
        Self { what, span, table, keys, has_unknown, meant }
    }

    /// Whether a key was reported that is probably `key` written wrong: then `key` is not missing too.
    pub(super) fn is_meant(&self, key: &'static str) -> bool {
        self.meant.contains(&key)
    }

    /// Whether unknown keys were reported.
    pub(super) fn has_unknown(&self) -> bool {
        self.has_unknown
    }

    /// The value of `key`, which must be there.
    pub(super) fn required(&self, reader: &mut Reader<'_>, key: &'static str) -> Option<Value<'t>> {
        let value = self.optional(key);
        if value.is_none() && !self.is_meant(key) {
            let remedy = format!("add it, for example `{}`", self.example(key));
            reader.report_missing(self.span.clone(), format!("`{}` has no `{key}`", shown(&self.what)), remedy);
        }
        value
    }

    /// The value of `key`, if it is there.
    pub(super) fn optional(&self, key: &'static str) -> Option<Value<'t>> {
        let spanned = self.table.get(key)?;
        Some(Value::new(key, self.example(key), spanned))
    }

    fn example(&self, key: &'static str) -> &'static str {
        let known = self.keys.iter().find(|(name, _)| *name == key);
        known.map(|(_, example)| *example).expect("only known keys are asked for")
    }
}

/// A value of the file, with the key that it stands behind.
#[derive(Clone, Copy)]
pub(super) struct Value<'t> {
    key: &'t str,
    example: &'static str,
    is_entry: bool,
    spanned: &'t Spanned<DeValue<'t>>,
}

impl<'t> Value<'t> {
    /// `key` and `example` are for messages.
    pub(super) fn new(key: &'t str, example: &'static str, spanned: &'t Spanned<DeValue<'t>>) -> Self {
        Self { key, example, is_entry: false, spanned }
    }

    pub(super) fn span(&self) -> Range<usize> {
        self.spanned.span()
    }

    pub(super) fn raw(&self) -> &'t DeValue<'t> {
        self.spanned.get_ref()
    }

    /// Something is wrong with it; what to do is shown by the key's example.
    pub(super) fn reject(&self, reader: &mut Reader<'_>, cause: impl Into<String>) {
        reader.report(self.span(), cause, format!("write it like `{}`", self.example));
    }

    /// For messages: the key, or that it is an entry of the list that stands behind the key.
    fn what(&self) -> String {
        let key = shown(self.key);
        if self.is_entry { format!("an entry of `{key}`") } else { format!("`{key}`") }
    }

    fn reject_type(&self, reader: &mut Reader<'_>, wanted: &str) {
        let found = match self.raw() {
            DeValue::String(_) => "a text",
            DeValue::Integer(_) | DeValue::Float(_) => "a number",
            DeValue::Boolean(_) => "true or false",
            DeValue::Datetime(_) => "a date or time",
            DeValue::Array(_) => "a list",
            DeValue::Table(_) => "a table",
        };
        self.reject(reader, format!("{} should be {wanted}, and this is {found}", self.what()));
    }

    /// A text. Never one with a NUL character, which neither programs nor paths can hold.
    pub(super) fn text(&self, reader: &mut Reader<'_>) -> Option<&'t str> {
        let DeValue::String(text) = self.raw() else {
            self.reject_type(reader, "a text in quotes");
            return None;
        };
        if text.contains('\0') {
            reader.report(self.span(), format!("{} holds a NUL character", self.what()), "remove `\\u0000` from it");
            return None;
        }
        Some(text)
    }

    /// A text that is not empty.
    pub(super) fn some_text(&self, reader: &mut Reader<'_>) -> Option<&'t str> {
        let text = self.text(reader)?;
        if text.trim().is_empty() {
            self.reject(reader, format!("{} is empty", self.what()));
            return None;
        }
        Some(text)
    }

    pub(super) fn boolean(&self, reader: &mut Reader<'_>) -> Option<bool> {
        let DeValue::Boolean(truth) = self.raw() else {
            self.reject_type(reader, "true or false, without quotes");
            return None;
        };
        Some(*truth)
    }

    /// A whole number in `range`.
    pub(super) fn integer(&self, reader: &mut Reader<'_>, range: RangeInclusive<u64>) -> Option<u64> {
        let DeValue::Integer(number) = self.raw() else {
            self.reject_type(reader, "a whole number");
            return None;
        };
        match i128::from_str_radix(number.as_str(), number.radix()).ok().and_then(|n| u64::try_from(n).ok()) {
            Some(number) if range.contains(&number) => Some(number),
            _ => {
                let cause = format!("`{}` is not between {} and {}", self.key, range.start(), range.end());
                self.reject(reader, cause);
                None
            }
        }
    }

    /// The entries of a list.
    pub(super) fn list(&self, reader: &mut Reader<'_>) -> Option<Vec<Self>> {
        let DeValue::Array(entries) = self.raw() else {
            self.reject_type(reader, "a list");
            return None;
        };
        Some(entries.iter().map(|spanned| Self { spanned, is_entry: true, ..*self }).collect())
    }

    /// The entries of a list that is not empty.
    pub(super) fn some_list(&self, reader: &mut Reader<'_>) -> Option<Vec<Self>> {
        let list = self.list(reader)?;
        if list.is_empty() {
            self.reject(reader, format!("`{}` is an empty list", self.key));
            return None;
        }
        Some(list)
    }

    pub(super) fn table(&self, reader: &mut Reader<'_>) -> Option<&'t DeTable<'t>> {
        let DeValue::Table(table) = self.raw() else {
            self.reject_type(reader, "a table");
            return None;
        };
        Some(table)
    }

    /// A table with only these keys; `what` names it in messages.
    pub(super) fn fields(
        &self,
        reader: &mut Reader<'_>,
        what: impl Into<String>,
        keys: &'static [Key],
    ) -> Option<Fields<'t>> {
        let table = self.table(reader)?;
        Some(Fields::new(reader, what, self.span(), table, keys))
    }

    /// A name.
    pub(super) fn name<T: FromStr<Err = IdError>>(&self, reader: &mut Reader<'_>) -> Option<T> {
        let text = self.text(reader)?;
        parse_name(reader, self.span(), text)
    }

    /// Whatever has a rule of its own.
    pub(super) fn parsed<T: FromStr<Err: Display>>(&self, reader: &mut Reader<'_>) -> Option<T> {
        let text = self.text(reader)?;
        match text.parse() {
            Ok(parsed) => Some(parsed),
            Err(error) => {
                self.reject(reader, error.to_string());
                None
            }
        }
    }

    /// A length of time in `range`.
    pub(super) fn span_of_time(&self, reader: &mut Reader<'_>, range: RangeInclusive<Span>) -> Option<Span> {
        let length: Span = match self.text(reader)?.parse() {
            Ok(length) => length,
            Err(error) => {
                let remedy = format!("write it like `{}`, in units of ms, s, m and h", self.example);
                reader.report(self.span(), format!("{error}"), remedy);
                return None;
            }
        };
        if !range.contains(&length) {
            let cause = format!("{} is not between {} and {}", self.what(), range.start(), range.end());
            self.reject(reader, cause);
            return None;
        }
        Some(length)
    }
}

/// A name that stands at `span`.
pub(super) fn parse_name<T: FromStr<Err = IdError>>(
    reader: &mut Reader<'_>,
    span: Range<usize>,
    text: &str,
) -> Option<T> {
    match text.parse() {
        Ok(name) => Some(name),
        Err(IdError { kind, rule, .. }) => {
            let likely = likely_name(text);
            let example = match likely.parse::<T>() {
                Ok(_) => format!(", for example `{likely}`"),
                Err(_) => String::new(),
            };
            let quoted = if text.is_empty() { "an empty text".to_owned() } else { format!("`{}`", shown(text)) };
            reader.report(span, format!("{quoted} is not {kind}"), format!("use {rule}{example}"));
            None
        }
    }
}

/// Names in a row, for messages: the first 24 of them.
pub(super) fn listed<'n>(names: impl IntoIterator<Item = &'n str>) -> String {
    const LISTED_MAX: usize = 24;
    let mut names = names.into_iter();
    let mut out = names.by_ref().take(LISTED_MAX).map(shown).collect::<Vec<_>>().join(", ");
    if names.next().is_some() {
        out.push_str(" and others");
    }
    out
}

/// The name that somebody who wrote `text` may have meant.
fn likely_name(text: &str) -> String {
    let text: String = text.chars().take(SHOWN_MAX).collect();
    let mapped: String = text.to_lowercase().chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '-' }).collect();
    mapped.trim_matches('-').to_owned()
}
