//! The loop that server and simulator share: take the waiting events (at most 256), decide and evolve each in order,
//! store all their facts in one commit, hand over every command, and only then take more.
//!
//! Invariant: no command is handed over before the facts it follows from are stored. Where they cannot be stored (a
//! full disk), nothing is handed over and nothing more is taken until they can: changes stop, services do not. What was
//! decided for a world of then is not carried out in the world of later: everything is looked at anew instead.

use std::collections::{BTreeMap, BTreeSet};

use ostler_books::Ledger;
use ostler_journal::{AppendError, Journal, ReadError, SealedChange, SecretValue};
use ostler_manager::{Command, Decision, Event, Fact, Knowledge, ResumeCause, Scope, evolve, take};
use ostler_model::binding::Credentials;
use ostler_model::ids::{CommandId, Position, SecretId};
use ostler_model::outcome::Failure;
use ostler_model::time::Timestamp;
use serde::{Deserialize, Serialize};

use crate::envelope::{self, EnvelopeError, Writing};
use crate::keeper_link::ReportNumber;
use crate::orders::credentials;

/// The most events of one turn: a bound on how long one commit makes everybody else wait.
pub const EVENTS_AT_ONCE: usize = 256;
/// The version of the serialized [`Known`] in snapshots. Another one is ignored, and the facts are folded anew.
pub const SNAPSHOT_VERSION: u32 = 16;
/// A snapshot is saved after so many facts: folding this many takes well under a second.
const FACTS_A_SNAPSHOT: u64 = 20_000;
/// Or so many for each instance, if that is more: a snapshot holds all of them, so its cost for each fact stays the same.
const FACTS_A_SNAPSHOT_EACH: u64 = 4;

/// Something on its way into the manager.
#[derive(Clone, Debug)]
pub struct Incoming {
    /// What happened; `None` for a report that means nothing to the manager.
    pub event: Option<Event>,
    /// Secrets that arrived with it, to be sealed in the transaction that stores its facts.
    pub secrets: Vec<SealedChange>,
    /// A report of the keeper's that may be forgotten once the facts are stored.
    pub report: Option<ReportNumber>,
}

impl From<Event> for Incoming {
    fn from(event: Event) -> Self {
        Self { event: Some(event), secrets: Vec::new(), report: None }
    }
}

/// What carries out commands: the port between the loop and the world.
pub trait Hands {
    /// Carries out a command, now or later; never waits. Outcomes come back as events.
    fn hand_over(&mut self, id: CommandId, command: Command, knowledge: &Knowledge, secrets: &dyn Secrets);

    /// The facts of the keeper's reports up to this one are stored.
    fn stored(&mut self, report: ReportNumber);
}

/// Where sealed secrets are read.
pub trait Secrets {
    /// The secret in plain.
    ///
    /// # Errors
    /// If it was altered.
    fn secret(&self, id: &SecretId) -> Result<Option<SecretValue>, ReadError>;
}

struct SecretsOf<'a, J>(&'a J);

impl<J: Journal> Secrets for SecretsOf<'_, J> {
    fn secret(&self, id: &SecretId) -> Result<Option<SecretValue>, ReadError> {
        self.0.secret(id)
    }
}

/// Everything that facts are folded into: a snapshot of it saves folding them again.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Known {
    /// What is known, which is what is decided from.
    pub knowledge: Knowledge,
    /// What was used and is to be paid. Nothing is decided from it.
    pub ledger: Ledger,
}

/// The loop's state.
pub struct Turner<J, H> {
    knowledge: Knowledge,
    ledger: Ledger,
    journal: J,
    hands: H,
    wakes: BTreeSet<(Timestamp, Scope)>,
    /// The earliest wake of each scope: a scope that asks again and again is woken once.
    woken_at: BTreeMap<Scope, Timestamp>,
    /// Decided and not stored yet.
    pending: Pending,
    /// What is or was pending could not be stored when it was decided.
    late: bool,
    /// Commands of then that still hold: where callers go and what is watched is as it is known to be.
    carried: Vec<(CommandId, Command)>,
    since_snapshot: u64,
    writing: Writing,
}

#[derive(Default)]
struct Pending {
    facts: Vec<Fact>,
    secrets: Vec<SealedChange>,
    commands: Vec<(CommandId, Command)>,
    report: Option<ReportNumber>,
}

/// Why what is known could not be read back.
#[derive(Debug, thiserror::Error)]
pub enum RecallError {
    /// The journal cannot be read.
    #[error("cannot read the journal")]
    Journal(#[from] ReadError),
    /// A fact in it cannot be read.
    #[error("cannot read the journal")]
    Fact(#[from] EnvelopeError),
}

impl RecallError {
    /// What to do about it.
    pub fn remedy(&self) -> String {
        match self {
            Self::Journal(error) => error.remedy(),
            Self::Fact(error) => error.remedy(),
        }
    }
}

/// Folds what is stored: the newest snapshot, then every fact after it. Returns how many facts were folded.
///
/// # Errors
/// If something stored cannot be read.
pub fn recall(journal: &dyn Journal) -> Result<(Known, u64), RecallError> {
    let (mut known, mut position) = (Known::default(), Position(0));
    if let Some(snapshot) = journal.latest_snapshot()?.latest
        && snapshot.version == SNAPSHOT_VERSION
        && let Ok(saved) = serde_json::from_slice(&snapshot.body)
    {
        (known, position) = (saved, snapshot.at);
        known.knowledge.share_declared();
    }
    let mut folded = 0;
    for record in ostler_journal::oldest_first(journal, position) {
        if let Some(fact) = envelope::read(&record?)? {
            evolve(&mut known.knowledge, &fact);
            known.ledger.fold(&fact);
        }
        folded += 1;
    }
    Ok((known, folded))
}

impl<J: Journal, H: Hands> Turner<J, H> {
    /// The credentials that are sealed under `id`.
    ///
    /// # Errors
    /// If they cannot be unsealed.
    pub fn credentials(&self, id: &SecretId) -> Result<Option<Credentials>, Failure> {
        credentials(&SecretsOf(&self.journal), id)
    }

    /// Goes on from what the journal holds.
    ///
    /// # Errors
    /// If something stored cannot be read.
    pub fn new(journal: J, hands: H) -> Result<Self, RecallError> {
        let (Known { knowledge, ledger }, since_snapshot) = recall(&journal)?;
        Ok(Self {
            knowledge,
            ledger,
            journal,
            hands,
            wakes: BTreeSet::new(),
            woken_at: BTreeMap::new(),
            pending: Pending::default(),
            late: false,
            carried: Vec::new(),
            since_snapshot,
            writing: Writing::default(),
        })
    }

    /// From now on facts are written so.
    pub fn write_as(&mut self, writing: Writing) {
        self.writing = writing;
    }

    /// What is known now.
    pub fn knowledge(&self) -> &Knowledge {
        &self.knowledge
    }

    /// What was used and is to be paid, as far as it is stored.
    pub fn ledger(&self) -> &Ledger {
        &self.ledger
    }

    /// The journal, for reading.
    pub fn journal(&self) -> &J {
        &self.journal
    }

    /// The journal, for its upkeep.
    pub fn journal_mut(&mut self) -> &mut J {
        &mut self.journal
    }

    /// The hands.
    pub fn hands(&mut self) -> &mut H {
        &mut self.hands
    }

    /// When [`Turner::turn`] is to be called again even if nothing happens.
    pub fn next_wake(&self) -> Option<Timestamp> {
        self.wakes.first().map(|(at, _)| *at)
    }

    /// Whether decided facts wait to be stored: then [`Turner::turn`] takes no events until they are.
    pub fn is_stuck(&self) -> bool {
        !self.pending.facts.is_empty()
    }

    /// One turn. Takes at most [`EVENTS_AT_ONCE`] events from `events`, and what is due.
    ///
    /// # Errors
    /// If the facts cannot be stored. They are kept; the next turn tries again before it takes anything.
    pub fn turn(&mut self, now: Timestamp, events: &mut dyn Iterator<Item = Incoming>) -> Result<(), AppendError> {
        self.store()?;
        let mut decided = Pending::default();
        if std::mem::take(&mut self.late)
            && let Some(uuid) = self.knowledge.uuid
        {
            // Together with what the look decides: what was withdrawn then and is sent callers again now is never without.
            decided.commands = std::mem::take(&mut self.carried);
            let anew = Event::Resumed { cause: ResumeCause::StoredLate, uuid };
            let decision = take(&mut self.knowledge, &anew, now);
            self.absorb(&mut decided, decision);
        }
        for event in self.due(now) {
            let decision = take(&mut self.knowledge, &event, now);
            self.absorb(&mut decided, decision);
        }
        for incoming in events.take(EVENTS_AT_ONCE) {
            decided.report = decided.report.max(incoming.report);
            let Some(event) = incoming.event else { continue };
            let decision = take(&mut self.knowledge, &event, now);
            // A secret without a fact has no one who asks for it: its event came too late to count.
            if !decision.facts.is_empty() {
                decided.secrets.extend(incoming.secrets);
            }
            self.absorb(&mut decided, decision);
        }
        self.pending = decided;
        self.store()
    }

    fn absorb(&mut self, decided: &mut Pending, mut decision: Decision) {
        decided.facts.append(&mut decision.facts);
        decided.commands.append(&mut decision.commands);
        for (at, scope) in decision.wake {
            let earliest = self.woken_at.get(&scope).copied();
            if earliest.is_none_or(|earliest| at < earliest) {
                if let Some(earliest) = earliest {
                    self.wakes.remove(&(earliest, scope.clone()));
                }
                self.woken_at.insert(scope.clone(), at);
                self.wakes.insert((at, scope));
            }
        }
    }

    fn due(&mut self, now: Timestamp) -> Vec<Event> {
        let mut due = Vec::new();
        while let Some((at, _)) = self.wakes.first()
            && *at <= now
            && due.len() < EVENTS_AT_ONCE
        {
            let (_, scope) = self.wakes.pop_first().expect("the set was just seen to have a first element");
            self.woken_at.remove(&scope);
            due.push(Event::Look(scope));
        }
        due
    }

    /// Stores what was decided, then hands over its commands.
    fn store(&mut self) -> Result<(), AppendError> {
        if !self.pending.facts.is_empty() {
            let facts: Vec<_> = self.pending.facts.iter().map(|fact| envelope::wrap(fact, &self.writing)).collect();
            if let Err(error) = self.journal.append(self.journal.end(), &facts, &self.pending.secrets) {
                self.late = true;
                return Err(error);
            }
            self.since_snapshot += facts.len() as u64;
            self.pending.facts.iter().for_each(|fact| self.ledger.fold(fact));
        }
        let Pending { commands, report, .. } = std::mem::take(&mut self.pending);
        if self.late {
            self.carried.extend(commands.into_iter().filter(|(_, command)| !command.has_outcome()));
        } else {
            for (id, command) in commands {
                self.hands.hand_over(id, command, &self.knowledge, &SecretsOf(&self.journal));
            }
        }
        if let Some(report) = report {
            self.hands.stored(report);
        }
        if self.since_snapshot >= FACTS_A_SNAPSHOT.max(FACTS_A_SNAPSHOT_EACH * self.knowledge.instances as u64) {
            self.save_snapshot()?;
        }
        Ok(())
    }

    /// Saves what is known, so that the next start need not fold everything again.
    ///
    /// # Errors
    /// If it cannot be stored; nothing is lost then.
    pub fn save_snapshot(&mut self) -> Result<(), AppendError> {
        if self.since_snapshot == 0 || self.is_stuck() {
            return Ok(());
        }
        #[derive(Serialize)]
        struct Saved<'a> {
            knowledge: &'a Knowledge,
            ledger: &'a Ledger,
        }
        let saved = Saved { knowledge: &self.knowledge, ledger: &self.ledger };
        let body = serde_json::to_vec(&saved).expect("what is known has only string and integer keys");
        self.journal.save_snapshot(self.journal.end(), SNAPSHOT_VERSION, &body)?;
        self.since_snapshot = 0;
        Ok(())
    }
}
