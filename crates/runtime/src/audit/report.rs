//! `ostler audit report`: a month of what was decided, for an auditor. A fold of the month's facts into a table of
//! sections.
//!
//! Invariant: every line follows from facts and names the fact it follows from, so that each can be proven.

mod overrides;
mod tables;

use std::collections::BTreeMap;

use ostler_journal::{ReadError, Reader, Record};
use ostler_manager::FactKind;
use ostler_model::ids::Position;
use ostler_model::month::{Month, Zone};
use ostler_model::time::Timestamp;
use serde::Serialize;

use self::tables::{Rows, SECTIONS, Seen, Table, is_decision};
use crate::envelope::{self, EnvelopeError};

/// Facts that are read at once.
const AT_ONCE: u64 = 2_000;
/// Times of facts need not grow with their places by more than this: clocks are set.
const CLOCKS: std::time::Duration = std::time::Duration::from_secs(2 * 86_400);

/// A month of an estate.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Report {
    /// The estate, if one was declared.
    pub estate: Option<String>,
    /// Which month.
    pub month: Month,
    /// In which time zone its days begin.
    pub zone: Zone,
    /// Its facts: the first, the last, and how many.
    pub facts: Facts,
    /// How often what was decided, by the kind of fact.
    pub decisions: BTreeMap<String, u64>,
    /// The tables.
    pub sections: Vec<Section>,
}

/// Which facts a report is about.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Facts {
    /// The first; 0 if there is none.
    pub first: u64,
    /// The last.
    pub last: u64,
    /// So many of them are of this month.
    pub count: u64,
}

/// A table of the report.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Section {
    /// A word for scripts.
    pub key: &'static str,
    /// For people.
    pub title: &'static str,
    /// What is said of an empty one.
    #[serde(skip)]
    pub none: &'static str,
    /// The names of the columns, after the fact's number and time.
    pub columns: &'static [&'static str],
    /// The rows.
    pub rows: Vec<Row>,
    /// So many more there are than are shown.
    pub more: u64,
}

/// A row: what happened, and by which fact it is known.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Row {
    /// The fact, as `ostler audit prove` takes it.
    pub fact: u64,
    /// When.
    pub at: String,
    /// By the section's columns.
    pub cells: Vec<String>,
}

/// Why there is no report.
#[derive(Debug, thiserror::Error)]
pub enum NoReport {
    /// The journal cannot be read.
    #[error(transparent)]
    Journal(#[from] ReadError),
    /// A fact cannot be read.
    #[error(transparent)]
    Fact(#[from] EnvelopeError),
    /// The month has not begun.
    #[error("{0} has not begun")]
    Future(Month),
}

impl NoReport {
    /// What a person can do.
    pub fn remedy(&self) -> String {
        match self {
            Self::Journal(error) => error.remedy(),
            Self::Fact(error) => error.remedy(),
            Self::Future(_) => "name a month that has begun".to_owned(),
        }
    }
}

/// The month's report from the journal; the month that it is at `now` if none is named. `said` is called with how far it
/// is, and of how much.
///
/// # Errors
/// If the journal cannot be read, or the month has not begun.
pub fn report(
    reader: &Reader,
    month: Option<Month>,
    now: Timestamp,
    said: &mut dyn FnMut(u64, u64),
) -> Result<Report, NoReport> {
    let declared = reader.newest_of("estate-declared")?;
    let estate = declared.and_then(|record| match envelope::unwrap(&record).ok()?.kind {
        FactKind::EstateDeclared { estate } => Some(estate),
        _ => None,
    });
    let zone = estate.as_ref().map(|estate| estate.accounts.zone.clone()).unwrap_or_default();
    let this = Month::at(now, &zone);
    let month = month.unwrap_or(this);
    if month > this {
        return Err(NoReport::Future(month));
    }
    let (from, until) = month.bounds(&zone);
    let name = estate.map(|estate| estate.name.to_string());
    let mut folding = Folding::new();
    let (mut last, end) = (first_at(reader, from - CLOCKS)?, reader.end().0);
    'all: while last < end {
        let records = reader.read(Position(last), Position(end.min(last + AT_ONCE)))?;
        for record in records {
            last = record.position.0;
            if record.at >= until + CLOCKS {
                break 'all;
            }
            if (from..until).contains(&record.at) {
                folding.fold(&record)?;
            }
        }
        said(last, end);
    }
    let mut report = folding.finish(name, month, zone);
    let rows = overrides::rows(reader, report.facts.last, (from, until.min(now)))?;
    if let Some(section) = report.sections.iter_mut().find(|section| section.key == "overrides") {
        section.rows = rows;
    }
    Ok(report)
}

/// How many facts come before the first one at `at`, as far as times grow with places.
fn first_at(reader: &Reader, at: Timestamp) -> Result<u64, ReadError> {
    let (mut low, mut high) = (0, reader.end().0);
    while low < high {
        let middle = low + (high - low) / 2;
        let is_before =
            reader.read(Position(middle), Position(middle + 1))?.first().is_some_and(|record| record.at < at);
        if is_before {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    Ok(low)
}

struct Folding {
    rows: Vec<Rows>,
    facts: Facts,
    decisions: BTreeMap<String, u64>,
}

impl Folding {
    fn new() -> Self {
        Self {
            rows: SECTIONS.iter().map(|_| Rows::default()).collect(),
            facts: Facts::default(),
            decisions: BTreeMap::new(),
        }
    }

    fn fold(&mut self, record: &Record) -> Result<(), EnvelopeError> {
        let position = record.position.0;
        let first = if self.facts.count == 0 { position } else { self.facts.first };
        self.facts = Facts { first, last: position, count: self.facts.count + 1 };
        let Some(fact) = envelope::read(record)? else { return Ok(()) };
        if is_decision(&fact.kind) {
            *self.decisions.entry(record.kind.clone()).or_default() += 1;
        }
        let seen = Seen { position: record.position, fact: &fact };
        SECTIONS.iter().zip(&mut self.rows).for_each(|(table, rows)| (table.fold)(rows, &seen));
        Ok(())
    }

    fn finish(self, estate: Option<String>, month: Month, zone: Zone) -> Report {
        let section = |(table, rows): (&Table, Rows)| {
            let Table { key, title, columns, none, .. } = *table;
            Section { key, title, none, columns, rows: rows.rows, more: rows.more }
        };
        let sections = SECTIONS.iter().zip(self.rows).map(section).collect();
        Report { estate, month, zone, facts: self.facts, decisions: self.decisions, sections }
    }
}

/// The report as Markdown, which reads well on a terminal, too.
pub fn in_words(report: &Report) -> String {
    let estate = report.estate.as_deref().unwrap_or("an estate without a name");
    let mut text = format!("# {estate}, {}: what was decided\n\n", report.month);
    let Facts { first, last, count } = report.facts;
    match count {
        0 => text.push_str("Nothing was recorded in this month.\n"),
        _ => text.push_str(&format!(
            "{count} facts, {first} to {last}. Days begin as in {}. Each line names the fact that it follows from: `ostler audit prove NUMBER` \
             proves that it was recorded.\n",
            report.zone
        )),
    }
    text.push_str("\n## Decisions\n\n");
    match report.decisions.is_empty() {
        true => text.push_str("Nothing was decided.\n"),
        false => {
            let rows = report.decisions.iter().map(|(kind, count)| vec![kind.clone(), count.to_string()]).collect();
            text.push_str(&table(&["kind", "number"], rows));
        }
    }
    for section in &report.sections {
        text.push_str(&format!("\n## {}\n\n", section.title));
        if section.rows.is_empty() {
            text.push_str(&format!("{}\n", section.none));
            continue;
        }
        let columns: Vec<&str> = ["fact", "at"].into_iter().chain(section.columns.iter().copied()).collect();
        let row =
            |row: &Row| [row.fact.to_string(), row.at.clone()].into_iter().chain(row.cells.iter().cloned()).collect();
        text.push_str(&table(&columns, section.rows.iter().map(row).collect()));
        if section.more > 0 {
            text.push_str(&format!("\n{} more are in `ostler journal`.\n", section.more));
        }
    }
    text
}

/// A Markdown table whose columns stand below each other.
fn table(columns: &[&str], rows: Vec<Vec<String>>) -> String {
    let plain = |cell: &String| cell.replace('|', "\\|").split_whitespace().collect::<Vec<_>>().join(" ");
    let rows: Vec<Vec<String>> = rows.iter().map(|row| row.iter().map(plain).collect()).collect();
    let width = |n: usize| {
        rows.iter().filter_map(|row| row.get(n)).map(|cell| cell.chars().count()).chain([columns[n].len(), 3]).max()
    };
    let widths: Vec<usize> = (0..columns.len()).map(|n| width(n).unwrap_or(3)).collect();
    let line = |cells: Vec<&str>| {
        let cells = cells.iter().zip(&widths).map(|(cell, width)| format!(" {cell:<width$} |"));
        format!("|{}\n", cells.collect::<String>())
    };
    let dashes: Vec<String> = widths.iter().map(|width| "-".repeat(*width)).collect();
    let mut text = line(columns.to_vec());
    text.push_str(&line(dashes.iter().map(String::as_str).collect()));
    rows.iter().for_each(|row| text.push_str(&line(row.iter().map(String::as_str).collect())));
    text
}
