//! A disk that can be full, can be cut off in the middle of a write, and can lie; and the journal on it.
//!
//! Invariant: unless told to lie, it keeps the journal's promise: an append is stored whole or not at all, and what was
//! acknowledged is there after any crash. What is kept in memory is what a start needs: everything since the newest
//! snapshot but one, or, for short runs, everything.

use std::collections::{BTreeMap, VecDeque};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use ostler_journal::{
    AppendError, Journal, NewFact, READ_AT_ONCE_MAX, ReadError, Record, SealedChange, SecretValue, Snapshot, Snapshots,
};
use ostler_model::ids::{Position, SecretId};
use sha2::{Digest, Sha256};

/// How much of the past is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Keep {
    /// All facts.
    All,
    /// What a start needs.
    SinceSnapshot,
    /// Nothing: no crash can be survived. For runs that only measure deciding.
    Nothing,
}

/// What happens to the next append.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NextAppend {
    /// It is stored.
    Works,
    /// Ostler is cut off before anything reaches the disk.
    CutBefore,
    /// Half of it reaches the disk; the torn half is found and dropped at the next start, as SQLite's log does.
    Torn,
    /// It is stored, and ostler is cut off before it hears so.
    CutAfter,
}

/// How the disk breaks its promise: only to show that the checks would see it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lie {
    /// At the next start the last acknowledged append is not there.
    ForgetsLastAppend,
    /// At the next start one old fact reads as another.
    SwapsFacts,
    /// A secret is not stored with its fact.
    DropsSecrets,
    /// Changes of health never become facts, as if the manager remembered them without recording them.
    SkipsHealth,
}

/// What outlives ostler.
#[derive(Debug)]
pub struct Disk {
    keep: Keep,
    /// The position of the last record before `records`.
    base: u64,
    records: VecDeque<Record>,
    secrets: BTreeMap<SecretId, Vec<u8>>,
    snapshots: Vec<Snapshot>,
    meta: BTreeMap<String, Vec<u8>>,
    /// No space is left.
    pub full: bool,
    /// What happens to the next append.
    pub next: NextAppend,
    /// The last append cut ostler off.
    pub cut: bool,
    /// How it lies.
    pub lie: Option<Lie>,
    last_append: usize,
    digest: Sha256,
    /// Bytes of all facts ever stored.
    pub bytes: u64,
    /// The end, and a digest of everything up to it, at the last acknowledgement.
    acknowledged: (u64, u64),
    stored: u64,
}

impl Disk {
    /// An empty disk.
    pub fn new(keep: Keep) -> Self {
        Self {
            keep,
            base: 0,
            records: VecDeque::new(),
            secrets: BTreeMap::new(),
            snapshots: Vec::new(),
            meta: BTreeMap::new(),
            full: false,
            next: NextAppend::Works,
            cut: false,
            lie: None,
            last_append: 0,
            digest: Sha256::new(),
            bytes: 0,
            acknowledged: (0, 0),
            stored: 0,
        }
    }

    /// What is sealed under this id.
    pub(crate) fn secret(&self, id: &SecretId) -> Option<&[u8]> {
        self.secrets.get(id).map(Vec::as_slice)
    }

    /// The newest position.
    pub fn end(&self) -> u64 {
        self.stored
    }

    /// SHA-256 of the bytes of all facts in their order, in hexadecimal digits.
    pub fn digest(&self) -> String {
        self.digest.clone().finalize().iter().map(|byte| format!("{byte:02x}")).collect()
    }

    /// Does its lie, if it tells one: between an end of ostler and its next start.
    pub fn before_start(&mut self) {
        self.cut = false;
        self.next = NextAppend::Works;
        match self.lie {
            Some(Lie::ForgetsLastAppend) => {
                for _ in 0..self.last_append.min(self.records.len()) {
                    self.records.pop_back();
                    self.stored -= 1;
                }
            }
            Some(Lie::SwapsFacts) if self.records.len() > 1 => {
                let middle = self.records.len() / 2;
                let body = self.records[middle - 1].body.clone();
                self.records[middle].body = body;
            }
            Some(Lie::SwapsFacts | Lie::DropsSecrets | Lie::SkipsHealth) | None => {}
        }
    }

    /// What was acknowledged and is not there, in words.
    pub fn lost(&self) -> Option<String> {
        let (end, digest) = self.acknowledged;
        if self.stored < end {
            return Some(format!("facts {} to {end} were acknowledged and are gone", self.stored + 1));
        }
        if self.keep == Keep::All {
            let now = self
                .records
                .iter()
                .take(usize::try_from(end).ok()?)
                .fold(0, |chain, record| chained(chain, &record.body));
            if now != digest {
                return Some(format!("one of the facts up to {end} is not what was acknowledged"));
            }
        }
        None
    }

    /// All records that are kept, oldest first.
    pub fn records(&self) -> impl Iterator<Item = &Record> {
        self.records.iter()
    }

    /// Whether [`Disk::records`] begins with the first fact.
    pub fn is_whole(&self) -> bool {
        self.base == 0 && self.keep == Keep::All
    }

    fn append(&mut self, facts: &[NewFact], secrets: &[SealedChange]) -> Result<(), AppendError> {
        let path = || PathBuf::from("simulated");
        let cause = || -> ostler_journal::Cause { Arc::new(std::io::Error::other("simulated")) };
        let next = std::mem::replace(&mut self.next, NextAppend::Works);
        match next {
            NextAppend::CutBefore | NextAppend::Torn => {
                self.cut = true;
                return Err(AppendError::Io { path: path(), cause: cause() });
            }
            NextAppend::CutAfter => self.cut = true,
            NextAppend::Works if self.full => return Err(AppendError::DiskFull { path: path(), cause: cause() }),
            NextAppend::Works => {}
        }
        let skipped = |fact: &&NewFact| self.lie == Some(Lie::SkipsHealth) && fact.kind == "health-changed";
        let facts: Vec<&NewFact> = facts.iter().filter(|fact| !skipped(fact)).collect();
        for fact in &facts {
            self.stored += 1;
            self.bytes += fact.body.len() as u64;
            self.digest.update(&fact.body);
            self.acknowledged.1 = chained(self.acknowledged.1, &fact.body);
            if self.keep != Keep::Nothing {
                let position = Position(self.stored);
                let (at, kind, body) = (fact.at, fact.kind.clone(), fact.body.clone());
                self.records.push_back(Record { position, at, kind, body });
            }
        }
        self.last_append = facts.len();
        self.acknowledged.0 = self.stored;
        for change in secrets.iter().filter(|_| self.lie != Some(Lie::DropsSecrets)) {
            match &change.value {
                Some(value) => drop(self.secrets.insert(change.id.clone(), value.bytes().to_vec())),
                None => drop(self.secrets.remove(&change.id)),
            }
        }
        if next == NextAppend::CutAfter {
            return Err(AppendError::Io { path: path(), cause: cause() });
        }
        Ok(())
    }

    fn save(&mut self, snapshot: Snapshot) {
        if self.keep == Keep::Nothing {
            return;
        }
        self.snapshots.retain(|other| other.at != snapshot.at);
        self.snapshots.push(snapshot);
        if self.snapshots.len() > 2 {
            self.snapshots.remove(0);
        }
        if self.keep == Keep::SinceSnapshot {
            let oldest = self.snapshots.first().map_or(0, |snapshot| snapshot.at.0);
            while self.base < oldest && self.records.pop_front().is_some() {
                self.base += 1;
            }
        }
    }
}

fn chained(chain: u64, body: &[u8]) -> u64 {
    body.iter()
        .fold(chain ^ 0x9e37_79b9_7f4a_7c15, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3))
}

/// The journal on a [`Disk`].
#[derive(Clone)]
pub struct DiskJournal(Arc<Mutex<Disk>>);

impl DiskJournal {
    /// The journal on `disk`.
    pub fn on(disk: &Arc<Mutex<Disk>>) -> Self {
        Self(disk.clone())
    }

    fn disk(&self) -> MutexGuard<'_, Disk> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Journal for DiskJournal {
    fn append(
        &mut self,
        expected: Position,
        facts: &[NewFact],
        secrets: &[SealedChange],
    ) -> Result<Position, AppendError> {
        let mut disk = self.disk();
        let actual = Position(disk.stored);
        if expected != actual {
            return Err(AppendError::Conflict { expected, actual });
        }
        disk.append(facts, secrets)?;
        Ok(Position(disk.stored))
    }

    fn end(&self) -> Position {
        Position(self.disk().stored)
    }

    fn read(&self, after: Position, most: usize) -> Result<Vec<Record>, ReadError> {
        let disk = self.disk();
        let skipped = usize::try_from(after.0.saturating_sub(disk.base)).unwrap_or(usize::MAX);
        Ok(disk.records.iter().skip(skipped).take(most.min(READ_AT_ONCE_MAX)).cloned().collect())
    }

    fn read_back(&self, before: Position, most: usize) -> Result<Vec<Record>, ReadError> {
        let disk = self.disk();
        let kept = usize::try_from(before.0.saturating_sub(disk.base + 1)).unwrap_or(usize::MAX);
        Ok(disk.records.iter().take(kept).rev().take(most.min(READ_AT_ONCE_MAX)).cloned().collect())
    }

    fn secret(&self, id: &SecretId) -> Result<Option<SecretValue>, ReadError> {
        Ok(self.disk().secrets.get(id).cloned().map(SecretValue::from))
    }

    fn save_snapshot(&mut self, at: Position, version: u32, body: &[u8]) -> Result<(), AppendError> {
        self.disk().save(Snapshot { at, version, body: body.to_vec() });
        Ok(())
    }

    fn latest_snapshot(&self) -> Result<Snapshots, ReadError> {
        Ok(Snapshots { latest: self.disk().snapshots.last().cloned(), damaged: Vec::new() })
    }

    fn meta_get(&self, name: &str) -> Result<Option<Vec<u8>>, ReadError> {
        Ok(self.disk().meta.get(name).cloned())
    }

    fn meta_set(&mut self, name: &str, value: &[u8]) -> Result<(), AppendError> {
        self.disk().meta.insert(name.to_owned(), value.to_vec());
        Ok(())
    }
}
