//! The tables of the month's page: which facts become rows of which, and what came of them.
//!
//! Invariant: a row is begun by one fact and ended by facts that name the same thing.
//!
//! A new section is one entry of [`SECTIONS`] and one function that makes rows of the facts that it is about.

use std::collections::BTreeMap;

use ostler_manager::level::Rate;
use ostler_manager::{By, ClaimStep, Command, Drill, Fact, FactKind, Settlement, UpgradeStep, named};
use ostler_model::estate::slo::Objective;
use ostler_model::ids::{CommandId, InstanceId, Position, ServiceName};

use super::Row;
use crate::history::{in_plain_words, outcome_in_words, service_of};

/// A section shows at most so many rows, and says how many there are.
const ROWS_MAX: usize = 500;

/// Makes rows of the facts of a section.
type Fold = fn(&mut Rows, &Seen<'_>);

/// A table of the report before anything is in it.
pub(super) struct Table {
    pub(super) key: &'static str,
    pub(super) title: &'static str,
    /// After the fact's number and time.
    pub(super) columns: &'static [&'static str],
    /// What is said if it stays empty.
    pub(super) none: &'static str,
    pub(super) fold: Fold,
}

/// The tables, in the order in which they are shown.
pub(super) const SECTIONS: &[Table] = &[
    Table {
        key: "overrides",
        title: "Overrides",
        columns: &["what", "owner", "reason", "until", "ended", "price"],
        none: "Nobody overrode a decision.",
        fold: elsewhere,
    },
    Table {
        key: "questions",
        title: "Questions asked, and who answered",
        columns: &["about", "question", "answered", "by"],
        none: "Nobody was asked anything.",
        fold: questions,
    },
    Table {
        key: "orders",
        title: "What people ordered",
        columns: &["service", "what"],
        none: "Nobody ordered anything.",
        fold: orders,
    },
    Table {
        key: "upgrades",
        title: "Upgrades",
        columns: &["service", "to", "why", "how it went"],
        none: "Nothing was upgraded.",
        fold: upgrades,
    },
    Table {
        key: "moves",
        title: "Moves to another provider",
        columns: &["service", "to", "why", "how it went"],
        none: "Nothing was moved.",
        fold: moves,
    },
    Table {
        key: "remedies",
        title: "Remedies",
        columns: &["instance", "what was wrong", "tried", "how it went"],
        none: "Nothing had to be healed.",
        fold: remedies,
    },
    Table {
        key: "drills",
        title: "Drills",
        columns: &["service", "fault", "by", "what it showed"],
        none: "Nothing was drilled.",
        fold: drills,
    },
    Table {
        key: "restores",
        title: "Restores and proofs of backups",
        columns: &["service", "what", "how it went"],
        none: "Nothing was restored.",
        fold: restores,
    },
    Table {
        key: "promises",
        title: "Service levels that were in danger",
        columns: &["service", "what", "until"],
        none: "None was.",
        fold: promises,
    },
    Table {
        key: "credits",
        title: "Service credits",
        columns: &["provider", "for", "what", "amount", "by", "note"],
        none: "No credit was claimed or answered.",
        fold: credits,
    },
    Table {
        key: "record",
        title: "The record itself",
        columns: &["what"],
        none: "Nothing was lost, and ostler itself was not replaced.",
        fold: record,
    },
];

/// A fact as a section sees it.
pub(super) struct Seen<'a> {
    pub(super) position: Position,
    pub(super) fact: &'a Fact,
}

/// The rows of one section while it is folded.
#[derive(Default)]
pub(super) struct Rows {
    pub(super) rows: Vec<Row>,
    /// Rows that wait for what comes of them, by a key of the section's own.
    open: BTreeMap<String, Vec<usize>>,
    pub(super) more: u64,
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

/// Overrides are in [`super::overrides`]: what they cost follows from more than the month's facts.
fn elsewhere(_rows: &mut Rows, _seen: &Seen<'_>) {}

fn credits(rows: &mut Rows, seen: &Seen<'_>) {
    let FactKind::ServiceCredit { provider, month, step, by, note } = &seen.fact.kind else { return };
    let (what, amount) = match step {
        ClaimStep::Claimed { amount, currency } => ("claimed", format!("{amount} {}", currency.as_str())),
        ClaimStep::Paid { amount } => ("paid", amount.map_or_else(|| "all of it".to_owned(), |it| it.to_string())),
        ClaimStep::Refused => ("refused", String::new()),
        ClaimStep::Reopened => ("opened again", String::new()),
    };
    let note = note.clone().unwrap_or_default();
    rows.add(seen, vec![provider.to_string(), month.to_string(), what.to_owned(), amount, by.clone(), note]);
}

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
            let service = service_of(kind).map_or_else(|| "all".to_owned(), ToString::to_string);
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
    let key = |drill: &Drill| format!("drill {}", drill.number);
    match &seen.fact.kind {
        FactKind::DrillBegan { drill } => {
            let by = match &drill.by {
                By::Schedule => "the schedule".to_owned(),
                By::Person { despite: None } => "a person".to_owned(),
                By::Person { despite: Some(why) } => format!("a person: {why}"),
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
        FactKind::CommandEnded { id, outcome } => rows.end(&key(id), &[outcome_in_words(outcome)]),
        _ => {}
    }
}

fn promises(rows: &mut Rows, seen: &Seen<'_>) {
    let key = |service: &ServiceName, objective: &dyn std::fmt::Debug| format!("{service} {objective:?}");
    match &seen.fact.kind {
        FactKind::BudgetBurns { service, objective, tenths, window } => {
            let rate = Rate { tenths: *tenths }.in_words();
            let what = match objective {
                Objective::Availability => "failed",
                Objective::Latency => "was late",
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
pub(super) fn is_decision(kind: &FactKind) -> bool {
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
