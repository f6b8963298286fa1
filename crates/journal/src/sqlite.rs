//! A journal in one SQLite file: write-ahead log, `synchronous = FULL`, one commit for each append.
//!
//! Invariant: when `append` returns, the facts are on the disk, and the witness beside the database knows of them or
//! no further fact is accepted before it does; after an error nothing of the append is stored.

mod archiving;
mod check;
mod open;
mod reader;
mod rows;
mod schema;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use ostler_model::ids::{Position, SecretId};
use rusqlite::{Connection, ErrorCode, Transaction, TransactionBehavior, params};

use crate::chain::Mark;
use crate::error::{AppendError, Cause, ReadError};
use crate::kept::{Kept, TreeError};
use crate::limits::{self, READ_AT_ONCE_MAX};
use crate::sealed::Sealer;
use crate::tree::Head;
use crate::witness::{Testimony, Witness};
use crate::{Journal, NewFact, Record, SealedChange, SecretValue, Snapshot, Snapshots, archive};
use rows::{AlteredMeta, RowError, altered, to_sql};

pub(crate) const LAYOUT: u32 = schema::VERSION;

pub use archiving::Archived;
pub use check::Verified;
pub(crate) use check::verify_copy;
pub use open::{GivenUp, OpenOptions, Opened};
pub use reader::Reader;

/// A journal in one SQLite file in ostler's home. Opened by [`Sqlite::open`].
pub struct Sqlite {
    connection: Connection,
    files: Files,
    sealer: Sealer,
    witness: Witness,
    /// Facts up to here are in the archive.
    begin: Mark,
    end: Mark,
    /// The tree over all facts, if it is kept.
    tree: Option<Kept>,
}

/// Where everything lies.
pub(crate) struct Files {
    pub(crate) journal: PathBuf,
    pub(crate) witness: PathBuf,
    pub(crate) key: PathBuf,
    pub(crate) archive: PathBuf,
    pub(crate) tree: PathBuf,
}

impl Sqlite {
    /// The database file.
    pub fn path(&self) -> &Path {
        &self.files.journal
    }

    /// Keeps the tree from now on, after it was brought up to the end. What is read for that is at most what came since
    /// the tree was last brought up to it.
    ///
    /// # Errors
    /// If the facts that it lacks cannot be read.
    pub fn keep_tree(&mut self, mut tree: Kept) -> Result<(), TreeError> {
        while tree.size() < self.end.position.0 {
            let records = self.read(Position(tree.size()), READ_AT_ONCE_MAX)?;
            tree.push_all(&records, &self.files.tree)?;
        }
        self.tree = Some(tree);
        Ok(())
    }

    /// The tree over all facts, if it is kept.
    pub fn head(&self) -> Option<Head> {
        self.tree.as_ref().filter(|tree| tree.size() == self.end.position.0).map(Kept::head)
    }

    /// Takes what was just appended into the tree. It is derived: where it cannot be kept, whoever wants it derives it
    /// anew.
    fn grow_tree(&mut self, before: Position, facts: &[NewFact]) {
        let Some(tree) = &mut self.tree else { return };
        if tree.size() != before.0 || tree.append(facts).is_err() {
            self.tree = None;
        }
    }

    /// An append may be the first since the witness could not be written: its mark comes before any further fact.
    fn catch_up_witness(&mut self) -> Result<(), AppendError> {
        if self.witness.mark() == self.end {
            return Ok(());
        }
        let caught_up = self.witness.record(self.end);
        caught_up.map_err(|error| AppendError::Io { path: self.files.witness.clone(), cause: Arc::new(error) })
    }

    /// Someone else appended. Take note of the end and of the witness, so that the caller can read on, and say so.
    fn note_foreign(&mut self, found: Mark, expected: Position) -> AppendError {
        if found.position <= self.end.position {
            let what = "another process replaced the journal while it was open";
            return AppendError::Damaged(altered(found.position, what));
        }
        match Witness::read(&self.files.witness) {
            Ok(Testimony::Acknowledged { mark, slot }) => match Witness::open(&self.files.witness, mark, slot) {
                Ok(witness) => self.witness = witness,
                Err(error) => return self.witness_failed(error),
            },
            Ok(Testimony::Missing | Testimony::Unreadable) => {}
            Err(error) => return self.witness_failed(error),
        }
        self.end = found;
        AppendError::Conflict { expected, actual: found.position }
    }

    fn witness_failed(&self, error: std::io::Error) -> AppendError {
        AppendError::Io { path: self.files.witness.clone(), cause: Arc::new(error) }
    }

    /// What SQLite's failure to write means.
    fn write_failed(&self, error: rusqlite::Error) -> AppendError {
        let full = error.sqlite_error_code() == Some(ErrorCode::DiskFull);
        let (path, cause): (_, Cause) = (self.files.journal.clone(), Arc::new(error));
        match full {
            true => AppendError::DiskFull { path, cause },
            false => AppendError::Io { path, cause },
        }
    }

    fn append_failed(&self, error: RowError) -> AppendError {
        match error {
            RowError::Damaged(damage) => AppendError::Damaged(damage),
            RowError::Failed(error) => self.write_failed(error),
        }
    }

    fn read_failed(&self, error: RowError) -> ReadError {
        match error {
            RowError::Damaged(damage) => ReadError::Damaged(damage),
            RowError::Failed(error) => ReadError::Io { path: self.files.journal.clone(), cause: Arc::new(error) },
        }
    }

    /// Reads and checks the facts after `after` up to and including `to`, which are all in the database.
    fn read_rows(&self, after: Position, to: Position) -> Result<Vec<Record>, ReadError> {
        let mut records = Vec::with_capacity(usize::try_from(to.0 - after.0).unwrap_or(0));
        let chain = rows::chain_at(&self.connection, self.begin, after).map_err(|error| self.read_failed(error))?;
        let walked = match chain {
            Some(chain) => {
                let from = Mark { position: after, chain };
                rows::walk(&self.connection, from, to, |record| records.push(record)).map(drop)
            }
            None => Err(altered(after, "it is not stored").into()),
        };
        match walked {
            Ok(()) => Ok(records),
            // The first fact that does not fit may itself be sound, and the one before it damaged.
            Err(RowError::Damaged(damage)) => {
                Err(match rows::walk(&self.connection, self.begin, self.end.position, drop) {
                    Err(error) => self.read_failed(error),
                    Ok(_) => ReadError::Damaged(damage),
                })
            }
            Err(error) => Err(self.read_failed(error)),
        }
    }

    /// The facts after `after` up to and including `to`, from the archive, the database, or both.
    fn read_range(&self, after: Position, to: Position) -> Result<Vec<Record>, ReadError> {
        if after >= to {
            return Ok(Vec::new());
        }
        let begin = self.begin.position;
        if after >= begin {
            return self.read_rows(after, to);
        }
        let mut records = archive::read(&self.files.archive, after, to.min(begin))?;
        if to > begin {
            records.append(&mut self.read_rows(begin, to)?);
        }
        Ok(records)
    }
}

impl Journal for Sqlite {
    fn give_back(&mut self) {
        let _ = self.connection.execute_batch("PRAGMA shrink_memory"); // what it cannot give back it keeps
    }

    fn append(
        &mut self,
        expected: Position,
        facts: &[NewFact],
        secrets: &[SealedChange],
    ) -> Result<Position, AppendError> {
        limits::check(facts, secrets)?;
        self.catch_up_witness()?;
        let at = Position(expected.0.saturating_add(facts.len() as u64));
        let sealed = seal(&self.sealer, secrets, at)
            .map_err(|cause| AppendError::Io { path: self.files.key.clone(), cause: Arc::new(cause) })?;
        let stored = store(
            &mut self.connection,
            self.begin,
            |found| match found {
                found if found != self.end => Err(NotStored::Foreign(found)),
                found if found.position != expected => Err(NotStored::Conflict(found.position)),
                found => Ok(found),
            },
            facts,
            &sealed,
        );
        self.end = match stored {
            Ok(end) => end,
            Err(NotStored::Foreign(found)) => return Err(self.note_foreign(found, expected)),
            Err(NotStored::Conflict(actual)) => return Err(AppendError::Conflict { expected, actual }),
            Err(NotStored::Failed(error)) => return Err(self.append_failed(error)),
        };
        if facts.is_empty() {
            return Ok(expected);
        }
        self.grow_tree(expected, facts);
        // The facts are durable whatever comes now. Should the witness fail, the next append tries again before it
        // stores anything, so that at most this one is without a witness.
        let _tried_again_by_the_next_append = self.witness.record(self.end);
        Ok(self.end.position)
    }

    fn end(&self) -> Position {
        self.end.position
    }

    fn read(&self, after: Position, most: usize) -> Result<Vec<Record>, ReadError> {
        let most = most.min(READ_AT_ONCE_MAX) as u64;
        self.read_range(after, Position(after.0.saturating_add(most)).min(self.end.position))
    }

    fn read_back(&self, before: Position, most: usize) -> Result<Vec<Record>, ReadError> {
        let most = most.min(READ_AT_ONCE_MAX) as u64;
        let to = Position(before.0.saturating_sub(1)).min(self.end.position);
        let mut records = self.read_range(Position(to.0.saturating_sub(most)), to)?;
        records.reverse();
        Ok(records)
    }

    fn secret(&self, id: &SecretId) -> Result<Option<SecretValue>, ReadError> {
        let altered = || ReadError::Secret { id: id.clone() };
        match rows::secret(&self.connection, id) {
            Ok(None) => Ok(None),
            Ok(Some((at, sealed))) => self.sealer.unseal_secret(id, at, &sealed).map(Some).ok_or_else(altered),
            Err(error) => Err(match RowError::at(self.end.position, error) {
                RowError::Damaged(_) => altered(),
                error @ RowError::Failed(_) => self.read_failed(error),
            }),
        }
    }

    fn save_snapshot(&mut self, at: Position, version: u32, body: &[u8]) -> Result<(), AppendError> {
        limits::check_snapshot(body)?;
        if at > self.end.position {
            return Err(limits::refused(format!("a snapshot at {at} is beyond the journal's end")));
        }
        let chain = rows::chain_at(&self.connection, self.begin, at).map_err(|error| self.append_failed(error))?;
        let Some(chain) = chain else {
            return Err(limits::refused(format!("a snapshot at {at} is before the archive's end")));
        };
        let snapshot = Snapshot { at, version, body: body.to_vec() };
        let checksum = rows::snapshot_checksum(&snapshot, chain);
        let mut save = || {
            let transaction = self.connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
            transaction.execute(
                "INSERT OR REPLACE INTO snapshots (position, version, chain, body, checksum) VALUES (?1, ?2, ?3, ?4, ?5)",
                params![to_sql(at), version, chain.0, snapshot.body, checksum],
            )?;
            transaction.execute(
                "DELETE FROM snapshots WHERE position NOT IN (SELECT position FROM snapshots ORDER BY position DESC LIMIT 2)",
                [],
            )?;
            transaction.commit()
        };
        save().map_err(|error| self.write_failed(error))
    }

    fn latest_snapshot(&self) -> Result<Snapshots, ReadError> {
        let found = rows::latest_snapshot(&self.connection, self.begin, self.end.position);
        let (latest, damaged) = found.map_err(|error| self.read_failed(error))?;
        Ok(Snapshots { latest: latest.map(|(snapshot, _)| snapshot), damaged })
    }

    fn meta_get(&self, name: &str) -> Result<Option<Vec<u8>>, ReadError> {
        let found = rows::meta(&self.connection, &callers(name));
        match found.map_err(|error| self.read_failed(RowError::at(Position(1), error)))? {
            None => Ok(None),
            Some(Ok(value)) => Ok(Some(value)),
            Some(Err(AlteredMeta)) => Err(ReadError::Meta { name: name.into() }),
        }
    }

    fn meta_set(&mut self, name: &str, value: &[u8]) -> Result<(), AppendError> {
        limits::check_meta(name, value)?;
        rows::set_meta(&self.connection, &callers(name), value).map_err(|error| self.write_failed(error))
    }
}

/// The caller's names are kept apart from the journal's own.
fn callers(name: &str) -> String {
    format!("caller/{name}")
}

/// A change of a secret, sealed; `None` deletes.
type Sealed<'a> = (&'a SecretId, Option<Vec<u8>>);

fn seal<'a>(
    sealer: &Sealer,
    secrets: &'a [SealedChange],
    at: Position,
) -> Result<Vec<Sealed<'a>>, crate::sealed::KeyError> {
    let seal_one = |change: &'a SealedChange| {
        let value = change.value.as_ref().map(|value| sealer.seal_secret(&change.id, at, value));
        Ok((&change.id, value.transpose()?))
    };
    secrets.iter().map(seal_one).collect()
}

/// Why a transaction was rolled back.
enum NotStored {
    /// The database does not end where this process left it, but here.
    Foreign(Mark),
    /// It ends here, and the caller expected another place.
    Conflict(Position),
    Failed(RowError),
}

impl From<rusqlite::Error> for NotStored {
    fn from(error: rusqlite::Error) -> Self {
        // Reading found no damage, so this is about writing.
        Self::Failed(RowError::Failed(error))
    }
}

/// One transaction: facts and secrets after the stored end, if `admit` agrees with that end. It is asked of the
/// database and not only of memory, because another process may have appended.
fn store(
    connection: &mut Connection,
    begin: Mark,
    admit: impl FnOnce(Mark) -> Result<Mark, NotStored>,
    facts: &[NewFact],
    secrets: &[Sealed<'_>],
) -> Result<Mark, NotStored> {
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    let end = admit(rows::end(&transaction, begin).map_err(NotStored::Failed)?)?;
    let end = insert(&transaction, end, facts)?;
    store_secrets(&transaction, secrets, end.position)?;
    transaction.commit()?;
    Ok(end)
}

fn insert(transaction: &Transaction<'_>, from: Mark, facts: &[NewFact]) -> rusqlite::Result<Mark> {
    let sql = "INSERT INTO facts (position, at, kind, body, chain) VALUES (?1, ?2, ?3, ?4, ?5)";
    let mut statement = transaction.prepare_cached(sql)?;
    let mut mark = from;
    for fact in facts {
        mark = mark.next(fact.at, &fact.kind, &fact.body);
        statement.execute(params![to_sql(mark.position), fact.at.0, fact.kind, fact.body, mark.chain.0])?;
    }
    Ok(mark)
}

fn store_secrets(transaction: &Transaction<'_>, secrets: &[Sealed<'_>], at: Position) -> rusqlite::Result<()> {
    for (id, sealed) in secrets {
        match sealed {
            Some(sealed) => transaction
                .prepare_cached("INSERT OR REPLACE INTO secrets (id, sealed, position) VALUES (?1, ?2, ?3)")?
                .execute(params![id.as_str(), sealed, to_sql(at)])?,
            None => transaction.prepare_cached("DELETE FROM secrets WHERE id = ?1")?.execute([id.as_str()])?,
        };
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use ostler_model::time::Timestamp;

    fn facts(count: usize) -> Vec<NewFact> {
        vec![NewFact { at: Timestamp(1), kind: "tick".into(), body: vec![b'x'; 400] }; count]
    }

    fn open(home: &Path) -> Sqlite {
        Sqlite::open(home, &OpenOptions::default()).unwrap().journal
    }

    #[test]
    fn a_full_database_takes_no_part_of_an_append() {
        let home = tempfile::tempdir().unwrap();
        let mut journal = open(home.path());
        journal.append(Position(0), &facts(5), &[]).unwrap();
        journal.connection.query_row("PRAGMA max_page_count = 14", [], |_| Ok(())).unwrap();
        let error = journal.append(Position(5), &facts(100), &[]).unwrap_err();
        assert!(matches!(error, AppendError::DiskFull { .. }), "{error:?}");
        assert_eq!((journal.end(), journal.verify().unwrap().stored), (Position(5), 5));
        assert_eq!(journal.append(Position(5), &facts(1), &[]).unwrap(), Position(6), "a small one still fits");
        journal.connection.query_row("PRAGMA max_page_count = 1000000", [], |_| Ok(())).unwrap();
        assert_eq!(journal.append(Position(6), &facts(100), &[]).unwrap(), Position(106));
        drop(journal);
        assert_eq!(open(home.path()).verify().unwrap().stored, 106);
    }

    #[test]
    fn no_fact_goes_far_ahead_of_the_witness() {
        let home = tempfile::tempdir().unwrap();
        let mut journal = open(home.path());
        journal.append(Position(0), &facts(1), &[]).unwrap();
        let sound = std::mem::replace(&mut journal.witness, Witness::unwritable(&journal.files.witness, journal.end));
        assert_eq!(journal.append(Position(1), &facts(1), &[]).unwrap(), Position(2), "durable, so acknowledged");
        for _ in 0..2 {
            let error = journal.append(Position(2), &facts(1), &[]).unwrap_err();
            assert!(matches!(&error, AppendError::Io { path, .. } if *path == journal.files.witness), "{error}");
            assert_eq!(journal.end(), Position(2));
        }
        journal.witness = sound;
        assert_eq!(journal.append(Position(2), &facts(1), &[]).unwrap(), Position(3));
        drop(journal);
        assert_eq!(open(home.path()).end(), Position(3));
    }
}
