//! `ostler audit report`: a month of what was decided, for an auditor. A fold of the month's facts into a table of
//! sections.
//!
//! Invariant: every line follows from facts and names the fact it follows from, so that each can be proven.
//!
//! A new section is one entry of [`SECTIONS`] and one function that makes rows of the facts that it is about.

use std::collections::BTreeMap;

use ostler_journal::{ReadError, Reader, Record};
use ostler_manager::level::Rate;
use ostler_manager::{Command, Fact, FactKind, Outcome, Settlement, UpgradeStep, named};
use ostler_model::ids::{CommandId, InstanceId, Position, ServiceName};
use ostler_model::month::{Month, Zone};
use ostler_model::time::Timestamp;
use serde::Serialize;

use crate::envelope::{self, EnvelopeError};
use crate::history::in_plain_words;

/// Facts that are read at once.
const AT_ONCE: u64 = 2_000;
/// A section shows at most so many rows, and says how many there are.
const ROWS_MAX: usize = 500;
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

/// Makes rows of the facts of a section.
type Fold = fn(&mut Rows, &Seen<'_>);

/// The tables, in the order in which they are shown.
const SECTIONS: &[(&str, &str, &[&str], &str, Fold)] = &[
    (
        "overrides",
        "Overrides",
        &["service", "what", "owner", "price", "until"],
        "Nobody overrode a decision.",
        overrides,
    ),
    (
        "questions",
        "Questions asked, and who answered",
        &["about", "question", "answered", "by"],
        "Nobody was asked anything.",
        questions,
    ),
    ("orders", "What people ordered", &["service", "what"], "Nobody ordered anything.", orders),
    ("upgrades", "Upgrades", &["service", "to", "why", "how it went"], "Nothing was upgraded.", upgrades),
    ("moves", "Moves to another provider", &["service", "to", "why", "how it went"], "Nothing was moved.", moves),
    (
        "remedies",
        "Remedies",
        &["instance", "what was wrong", "tried", "how it went"],
        "Nothing had to be healed.",
        remedies,
    ),
    ("drills", "Drills", &["service", "fault", "by", "what it showed"], "Nothing was drilled.", drills),
    (
        "restores",
        "Restores and proofs of backups",
        &["service", "what", "how it went"],
        "Nothing was restored.",
        restores,
    ),
    ("promises", "Service levels that were in danger", &["service", "what", "until"], "All were kept.", promises),
    ("credits", "Service credits", &["provider", "amount", "for", "how it went"], "No credits are due.", credits),
    ("record", "The record itself", &["what"], "Nothing was lost, and ostler itself was not replaced.", record),
];

/// A fact as a section sees it.
struct Seen<'a> {
    position: Position,
    fact: &'a Fact,
}

/// The rows of one section while it is folded.
#[derive(Default)]
struct Rows {
    rows: Vec<Row>,
    /// Rows that wait for what comes of them, by a key of the section's own.
    open: BTreeMap<String, Vec<usize>>,
    more: u64,
}

impl Rows {
    fn add(&mut self, seen: &Seen<'_>, cells: Vec<String>) {
        self.begin(seen, None, cells);
    }

    /// A row about which [`Rows::end`] with the same key says more.
    fn begin(&mut self, seen: &Seen<'_>, key: Option<String>, cells: Vec<String>) {
        if self.rows.len() >= ROWS_MAX {
            self.more += 1;
            return;
        }
        if let Some(key) = key {
            self.open.entry(key).or_default().push(self.rows.len());
        }
        self.rows.push(Row { fact: seen.position.0, at: seen.fact.at.to_seconds(), cells });
    }

    /// Says in the last cells of the rows with this key what came of them.
    fn end(&mut self, key: &str, cells: &[String]) {
        for row in self.open.remove(key).unwrap_or_default() {
            self.note(row, cells);
        }
    }

    /// The same, and more may come.
    fn go_on(&mut self, key: &str, cells: &[String]) {
        for row in self.open.get(key).cloned().unwrap_or_default() {
            self.note(row, cells);
        }
    }

    fn note(&mut self, row: usize, cells: &[String]) {
        let Some(row) = self.rows.get_mut(row) else { return };
        let first = row.cells.len().saturating_sub(cells.len());
        for (cell, said) in row.cells[first..].iter_mut().zip(cells) {
            cell.clone_from(said);
        }
    }
}

const OPEN: &str = "open";

/// Where facts of overrides become rows: owner, price and expiry of each.
fn overrides(_rows: &mut Rows, _seen: &Seen<'_>) {}

/// Where facts of service credits become rows.
fn credits(_rows: &mut Rows, _seen: &Seen<'_>) {}

fn questions(rows: &mut Rows, seen: &Seen<'_>) {
    let at = seen.fact.at.to_seconds();
    let asked = |about: &dyn std::fmt::Display, question: &str| {
        vec![about.to_string(), question.to_owned(), OPEN.to_owned(), String::new()]
    };
    let by_person = |what: String| [at.clone(), format!("a person: {what}")];
    let by_itself = |what: &str| [at.clone(), what.to_owned()];
    match &seen.fact.kind {
        FactKind::Held { instance, question, .. } => {
            rows.begin(seen, Some(of_instance(instance)), asked(instance, question));
        }
        FactKind::RepairEnded { instance } => rows.end(&of_instance(instance), &by_itself("nobody: it works again")),
        FactKind::MoveHeld { service, question, .. } => {
            rows.begin(seen, Some(of_move(service)), asked(service, question));
        }
        FactKind::MoveReturned { service } => rows.end(&of_move(service), &by_person("it was taken back".to_owned())),
        FactKind::MoveTurned { service, accepts_loss: true, .. } => {
            rows.end(&of_move(service), &by_person("the loss was accepted".to_owned()));
        }
        FactKind::MoveTurned { service, why, .. } => rows.end(&of_move(service), &by_itself(why)),
        FactKind::MoveEnded { service } => rows.end(&of_move(service), &by_itself("nobody: it went on")),
        FactKind::Quarantined { leftover, why } => {
            let question = format!("what is to become of it? {why}");
            rows.begin(seen, Some(format!("leftover {leftover}")), asked(leftover, &question));
        }
        FactKind::SettleAsked { leftover, how } => {
            let how = match how {
                Settlement::Delete => "delete it",
                Settlement::Release => "release it",
            };
            rows.end(&format!("leftover {leftover}"), &by_person(how.to_owned()));
        }
        FactKind::Upgrade { service, step } => match &**step {
            UpgradeStep::Held { question, .. } => {
                rows.begin(seen, Some(of_upgrade(service)), asked(service, question));
            }
            UpgradeStep::Asked { .. } => rows.end(&of_upgrade(service), &by_person("upgrade it".to_owned())),
            UpgradeStep::TakenBack { why } => rows.end(&of_upgrade(service), &by_itself(why)),
            UpgradeStep::Ended => rows.end(&of_upgrade(service), &by_itself("nobody: it went on")),
            _ => {}
        },
        FactKind::RestartAsked { service } => answer(rows, service, &by_person("restart it".to_owned())),
        FactKind::RestoreAsked { service, name } => answer(rows, service, &by_person(format!("restore {name}"))),
        FactKind::DeleteAsked { service } => answer(rows, service, &by_person("delete it".to_owned())),
        FactKind::ReleaseAsked { service } => answer(rows, service, &by_person("release it".to_owned())),
        _ => {}
    }
}

/// An order about a service answers what was asked about its instances.
fn answer(rows: &mut Rows, service: &ServiceName, cells: &[String]) {
    let of = format!("instance {service}/");
    let keys: Vec<String> = rows.open.keys().filter(|key| key.starts_with(&of)).cloned().collect();
    keys.iter().for_each(|key| rows.end(key, cells));
}

fn of_instance(instance: &InstanceId) -> String {
    format!("instance {}/{instance}", instance.service())
}

fn of_move(service: &ServiceName) -> String {
    format!("move {service}")
}

fn of_upgrade(service: &ServiceName) -> String {
    format!("upgrade {service}")
}

fn orders(rows: &mut Rows, seen: &Seen<'_>) {
    let kind = &seen.fact.kind;
    match kind {
        FactKind::EstateDeclared { .. }
        | FactKind::RestartAsked { .. }
        | FactKind::ScaleAsked { .. }
        | FactKind::DownAsked
        | FactKind::DeleteAsked { .. }
        | FactKind::ReleaseAsked { .. }
        | FactKind::SettleAsked { .. }
        | FactKind::InstanceAdopted { .. }
        | FactKind::RestoreAsked { .. } => {
            let service = crate::history::service_of(kind).map_or_else(|| "all".to_owned(), ToString::to_string);
            rows.add(seen, vec![service, in_plain_words(kind)]);
        }
        FactKind::Upgrade { service, step } if matches!(**step, UpgradeStep::Asked { .. }) => {
            rows.add(seen, vec![service.to_string(), in_plain_words(kind)]);
        }
        _ => {}
    }
}

fn upgrades(rows: &mut Rows, seen: &Seen<'_>) {
    let FactKind::Upgrade { service, step } = &seen.fact.kind else { return };
    let at = seen.fact.at.to_seconds();
    let key = of_upgrade(service);
    match &**step {
        UpgradeStep::Began { to, why, .. } => {
            let cells = vec![service.to_string(), named(to), why.clone(), "under way".to_owned()];
            rows.begin(seen, Some(key), cells);
        }
        UpgradeStep::Held { question, .. } => rows.go_on(&key, &[format!("waits for a person: {question}")]),
        UpgradeStep::PutOff { why, .. } => rows.end(&key, &[format!("put off {at}: {why}")]),
        UpgradeStep::TakenBack { why } => {
            rows.end(&key, &[format!("taken back {at}: {why}")]);
        }
        UpgradeStep::Ended => rows.end(&key, &[format!("done {at}")]),
        UpgradeStep::Asked { .. }
        | UpgradeStep::FormerLaunch { .. }
        | UpgradeStep::WaveBegan { .. }
        | UpgradeStep::Serves
        | UpgradeStep::Passed => {}
    }
}

fn moves(rows: &mut Rows, seen: &Seen<'_>) {
    let at = seen.fact.at.to_seconds();
    match &seen.fact.kind {
        FactKind::MoveBegan { service, to, why, .. } => {
            let cells = vec![service.to_string(), to.provider.to_string(), why.clone(), "under way".to_owned()];
            rows.begin(seen, Some(of_move(service)), cells);
        }
        FactKind::MoveTurned { service, why, .. } => rows.go_on(&of_move(service), &[format!("turned: {why}")]),
        FactKind::MoveHeld { service, question, .. } => {
            rows.go_on(&of_move(service), &[format!("waits for a person: {question}")]);
        }
        FactKind::MoveReturned { service } => rows.end(&of_move(service), &[format!("a person took it back {at}")]),
        FactKind::MoveEnded { service } => rows.end(&of_move(service), &[format!("done {at}")]),
        _ => {}
    }
}

fn remedies(rows: &mut Rows, seen: &Seen<'_>) {
    let at = seen.fact.at.to_seconds();
    match &seen.fact.kind {
        FactKind::RepairBegan { instance, diagnosis } => {
            let cells =
                vec![instance.to_string(), diagnosis.in_words(), "nothing yet".to_owned(), "under way".to_owned()];
            rows.begin(seen, Some(of_instance(instance)), cells);
        }
        FactKind::RemedyChosen { instance, remedy, .. } => {
            rows.go_on(&of_instance(instance), &[remedy.in_words().to_owned(), "under way".to_owned()]);
        }
        FactKind::Held { instance, .. } => rows.go_on(&of_instance(instance), &["a person was asked".to_owned()]),
        FactKind::RepairEnded { instance } => rows.end(&of_instance(instance), &[format!("it works again {at}")]),
        FactKind::InstanceRetired { instance } => rows.end(&of_instance(instance), &[format!("it was given up {at}")]),
        _ => {}
    }
}

fn drills(rows: &mut Rows, seen: &Seen<'_>) {
    let key = |drill: &ostler_manager::Drill| format!("drill {}", drill.number);
    match &seen.fact.kind {
        FactKind::DrillBegan { drill } => {
            let by = match &drill.by {
                ostler_manager::By::Schedule => "the schedule".to_owned(),
                ostler_manager::By::Person { despite: None } => "a person".to_owned(),
                ostler_manager::By::Person { despite: Some(why) } => format!("a person: {why}"),
            };
            let cells = vec![drill.service.to_string(), drill.fault.to_string(), by, "under way".to_owned()];
            rows.begin(seen, Some(key(drill)), cells);
        }
        FactKind::DrillEnded { result } => {
            let words = result.verdict.in_words(result.drill.fault);
            rows.end(&key(&result.drill), &[format!("it {words}: {}", result.figures())]);
        }
        _ => {}
    }
}

fn restores(rows: &mut Rows, seen: &Seen<'_>) {
    let key = |id: &CommandId| format!("command {}", id.0);
    match &seen.fact.kind {
        FactKind::CommandIssued { id, command: command @ (Command::Restore { .. } | Command::ProveBackup { .. }) } => {
            let cells = vec![command.at_service().to_string(), command.in_words(), "under way".to_owned()];
            rows.begin(seen, Some(key(id)), cells);
        }
        FactKind::CommandEnded { id, outcome } => rows.end(&key(id), &[ended(outcome)]),
        _ => {}
    }
}

fn ended(outcome: &Outcome) -> String {
    crate::history::outcome_in_words(outcome)
}

fn promises(rows: &mut Rows, seen: &Seen<'_>) {
    let key = |service: &ServiceName, objective: &dyn std::fmt::Debug| format!("{service} {objective:?}");
    match &seen.fact.kind {
        FactKind::BudgetBurns { service, objective, tenths, window } => {
            let rate = Rate { tenths: *tenths }.in_words();
            let what = match objective {
                ostler_model::estate::slo::Objective::Availability => "failed",
                ostler_model::estate::slo::Objective::Latency => "was late",
            };
            let what = format!("{what} {rate} times as often as it may, within {window}");
            let is_open = rows.open.contains_key(&key(service, objective));
            if !is_open {
                rows.begin(seen, Some(key(service, objective)), vec![service.to_string(), what, OPEN.to_owned()]);
            }
        }
        FactKind::BudgetCalm { service, objective } => {
            rows.end(&key(service, objective), &[seen.fact.at.to_seconds()]);
        }
        _ => {}
    }
}

fn record(rows: &mut Rows, seen: &Seen<'_>) {
    let kind = &seen.fact.kind;
    if matches!(kind, FactKind::LossAccepted { .. } | FactKind::SelfUpgrade { .. } | FactKind::EstateFounded { .. }) {
        rows.add(seen, vec![in_plain_words(kind)]);
    }
}

/// Whether a fact is a decision, and no news of something: only those are counted.
fn is_decision(kind: &FactKind) -> bool {
    match kind {
        FactKind::ServicePlaced { .. }
        | FactKind::LaunchDefined { .. }
        | FactKind::InstanceDeclared { .. }
        | FactKind::InstanceRetired { .. }
        | FactKind::CommandIssued { .. }
        | FactKind::Quarantined { .. }
        | FactKind::RepairBegan { .. }
        | FactKind::Concluded { .. }
        | FactKind::RemedyChosen { .. }
        | FactKind::LaunchRejected { .. }
        | FactKind::CredentialsDoubted { .. }
        | FactKind::BackedOff { .. }
        | FactKind::Held { .. }
        | FactKind::Told { .. }
        | FactKind::BackupAsked { .. }
        | FactKind::ProofAsked { .. }
        | FactKind::BackupDropped { .. }
        | FactKind::MoveBegan { .. }
        | FactKind::MoveTurned { .. }
        | FactKind::MoveHeld { .. }
        | FactKind::InstanceDiscarded { .. }
        | FactKind::DrillBegan { .. }
        | FactKind::UpgradesSought { .. } => true,
        FactKind::Upgrade { step, .. } => !matches!(**step, UpgradeStep::Asked { .. }),
        _ => false,
    }
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
    Ok(folding.finish(name, month, zone))
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
        SECTIONS.iter().zip(&mut self.rows).for_each(|((.., fold), rows)| fold(rows, &seen));
        Ok(())
    }

    fn finish(self, estate: Option<String>, month: Month, zone: Zone) -> Report {
        let section = |((key, title, columns, none, _), rows): (
            &(&'static str, &'static str, &'static [&'static str], &'static str, Fold),
            Rows,
        )| { Section { key, title, none, columns, rows: rows.rows, more: rows.more } };
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
