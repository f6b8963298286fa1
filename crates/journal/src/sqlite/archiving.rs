//! Moving old facts from the database to the archive.
//!
//! The rule: a fact moves when it is older than the given time and is covered by both kept snapshots, so that no
//! start ever needs the archive. Invariant: a fact leaves the database only after its file was made durable, read
//! back and checked; a crash at any step leaves every fact in at least one of the two.

use std::fs;
use std::io;
use std::path::Path;
use std::sync::Arc;

use ostler_model::ids::Position;
use ostler_model::time::Timestamp;
use rusqlite::{OptionalExtension, TransactionBehavior, params};

use super::rows::{self, RowError, altered, to_sql};
use super::{Sqlite, archive};
use crate::archive::{ArchiveError, ArchiveFile};
use crate::chain::Mark;
use crate::error::ReadError;
use crate::sealed::sync_folder;

/// Facts in one file: some 4 MB, quick to read for one fact of it.
const FACTS_IN_FILE: u64 = 10_000;
/// Bytes of bodies in one file, unless a single fact is larger.
const BODIES_IN_FILE: usize = 64 << 20;

/// What moved.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Archived {
    /// Facts that moved to the archive.
    pub facts: u64,
    /// Files that were written for them.
    pub files: u64,
}

/// Where archiving can be cut short; tests stop at each.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    Begun,
    Written,
    Renamed,
    Checked,
    Removed,
}

impl Sqlite {
    /// Moves facts older than `before` to the archive, as far as both kept snapshots cover them. Times need not grow
    /// with positions: the first fact that is not older ends it. With fewer than two snapshots nothing moves.
    ///
    /// # Errors
    /// What was not moved stays in the database; what was is complete.
    pub fn archive(&mut self, before: Timestamp) -> Result<Archived, ArchiveError> {
        self.archive_with(before, |_| Ok(()))
    }

    pub(super) fn archive_with(
        &mut self,
        before: Timestamp,
        mut reached: impl FnMut(Step) -> Result<(), ArchiveError>,
    ) -> Result<Archived, ArchiveError> {
        let to = self.archive_to(before).map_err(|error| ArchiveError::Read(self.read_failed(error)))?;
        let folder = self.files.archive.clone();
        let io = |cause: io::Error| ArchiveError::Io { path: folder.clone(), cause: Arc::new(cause) };
        let mut archived = Archived::default();
        if to <= self.begin.position {
            return Ok(archived);
        }
        archive::make_folder(&folder).map_err(io)?;
        remove_leftovers(&folder, self.begin.position).map_err(io)?;
        while self.begin.position < to {
            reached(Step::Begun)?;
            let moved = self.archive_one_file(to, &mut reached)?;
            archived.facts += moved;
            archived.files += 1;
        }
        Ok(archived)
    }

    /// The newest fact that may move.
    fn archive_to(&self, before: Timestamp) -> Result<Position, RowError> {
        let connection = &self.connection;
        let at = |error| RowError::at(Position(self.begin.position.0 + 1), error);
        let Some(covered) = rows::covered_twice(connection, self.begin, self.end.position)? else {
            return Ok(self.begin.position);
        };
        let sql = "SELECT position FROM facts WHERE at >= ?1 ORDER BY position LIMIT 1";
        let young = connection.query_row(sql, [before.0], |row| row.get::<_, i64>(0)).optional().map_err(at)?;
        let older = match young.and_then(|position| u64::try_from(position).ok()) {
            Some(young) => Position(young.saturating_sub(1)),
            None => self.end.position,
        };
        Ok(older.min(covered))
    }

    /// Moves the next facts, at most a file of them and none after `to`. Returns how many.
    fn archive_one_file(
        &mut self,
        to: Position,
        reached: &mut impl FnMut(Step) -> Result<(), ArchiveError>,
    ) -> Result<u64, ArchiveError> {
        let begin = self.begin;
        let to = Position(to.0.min(begin.position.0 + FACTS_IN_FILE));
        let mut records = self.read_rows(begin.position, to).map_err(ArchiveError::Read)?;
        let mut bytes = 0;
        let fitting = records.iter().take_while(|record| {
            bytes += record.body.len();
            bytes <= BODIES_IN_FILE
        });
        let fitting = fitting.count().max(1);
        records.truncate(fitting);
        let to = begin.position.0 + records.len() as u64;

        let file = ArchiveFile::named(&self.files.archive, begin.position.0 + 1, to);
        let io = |cause: io::Error| ArchiveError::Io { path: file.path.clone(), cause: Arc::new(cause) };
        let after = file.write(begin, &records).map_err(io)?;
        reached(Step::Written)?;
        fs::rename(file.unfinished(), &file.path).and_then(|()| sync_folder(&self.files.archive)).map_err(io)?;
        reached(Step::Renamed)?;
        let (from, read, until) = file.read().map_err(ArchiveError::Read)?;
        if (from, &read, until) != (begin, &records, after) {
            let damage = altered(Position(from.position.0 + 1), "the archive's file does not read back as written");
            return Err(ArchiveError::Read(ReadError::Damaged(damage)));
        }
        reached(Step::Checked)?;
        self.remove(after)?;
        reached(Step::Removed)?;
        Ok(read.len() as u64)
    }

    /// Lets go of the facts up to `begin`, and remembers the chain's value there.
    fn remove(&mut self, begin: Mark) -> Result<(), ArchiveError> {
        let mut remove = || {
            let transaction = self.connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
            transaction.execute("DELETE FROM facts WHERE position <= ?1", params![to_sql(begin.position)])?;
            rows::set_begin(&transaction, begin)?;
            transaction.commit()
        };
        remove().map_err(|error| ArchiveError::Remove(self.write_failed(error)))?;
        self.begin = begin;
        Ok(())
    }
}

/// Removes what an interrupted archiving left: unfinished files, and files of facts that are still in the database.
fn remove_leftovers(folder: &Path, begin: Position) -> io::Result<()> {
    for file in archive::files(folder)? {
        if file.from > begin.0 {
            fs::remove_file(&file.path)?;
        }
    }
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == "jsonl-new") {
            fs::remove_file(&path)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Journal, NewFact, OpenOptions, oldest_first};

    fn fact(n: u64) -> NewFact {
        // Every seventh body is not UTF-8, and some hold line breaks: both must come back as they were.
        let body = if n.is_multiple_of(7) { vec![0xff, 0xfe, b'\n'] } else { format!("{{\"n\":\n{n}}}").into_bytes() };
        NewFact { at: Timestamp(i64::try_from(n).unwrap() * 10), kind: "tick".into(), body }
    }

    fn open(home: &Path) -> Sqlite {
        Sqlite::open(home, &OpenOptions::default()).unwrap().journal
    }

    fn filled(home: &Path) -> Sqlite {
        let mut journal = open(home);
        let facts: Vec<NewFact> = (1..=100).map(fact).collect();
        journal.append(Position(0), &facts, &[]).unwrap();
        journal
    }

    fn check_all(journal: &Sqlite, archived: u64) {
        let records = oldest_first(journal, Position(0)).collect::<Result<Vec<_>, _>>().unwrap();
        assert_eq!(records.len(), 100);
        for (n, record) in (1..).zip(&records) {
            assert_eq!((record.position, record.at, &record.body), (Position(n), fact(n).at, &fact(n).body));
        }
        let back = journal.read_back(Position(archived + 5), 9).unwrap();
        let positions: Vec<u64> = back.iter().map(|record| record.position.0).collect();
        let expected: Vec<u64> = (1..archived + 5).rev().take(9).collect();
        assert_eq!(positions, expected);
        assert_eq!(journal.verify().unwrap().archived, archived);
    }

    #[test]
    fn only_old_facts_under_both_snapshots_move() {
        let home = tempfile::tempdir().unwrap();
        let mut journal = filled(home.path());
        let all = Timestamp(i64::MAX);
        assert_eq!(journal.archive(all).unwrap().facts, 0, "no snapshot");
        journal.save_snapshot(Position(60), 1, b"a").unwrap();
        assert_eq!(journal.archive(all).unwrap().facts, 0, "one snapshot");
        journal.save_snapshot(Position(90), 1, b"b").unwrap();
        assert_eq!(journal.archive(Timestamp(10)).unwrap().facts, 0, "none is old enough");
        assert_eq!(journal.archive(fact(41).at).unwrap(), Archived { facts: 40, files: 1 });
        check_all(&journal, 40);
        assert_eq!(journal.archive(all).unwrap(), Archived { facts: 20, files: 1 });
        assert_eq!(journal.archive(all).unwrap().facts, 0);
        check_all(&journal, 60);
        drop(journal);
        let mut journal = open(home.path());
        check_all(&journal, 60);
        assert!(journal.save_snapshot(Position(59), 1, b"too old").is_err());
        assert_eq!(journal.append(Position(100), &[fact(101)], &[]).unwrap(), Position(101));
        assert_eq!(journal.verify().unwrap().stored, 41);
    }

    #[test]
    fn a_damaged_snapshot_covers_nothing() {
        let home = tempfile::tempdir().unwrap();
        let mut journal = filled(home.path());
        journal.save_snapshot(Position(60), 1, b"a").unwrap();
        journal.save_snapshot(Position(90), 1, b"b").unwrap();
        journal.connection.execute("UPDATE snapshots SET body = x'00' WHERE position = 60", []).unwrap();
        assert_eq!(journal.archive(Timestamp(i64::MAX)).unwrap().facts, 0);
        assert_eq!(journal.verify().unwrap().snapshots_damaged, [Position(60)]);
    }

    #[test]
    fn a_crash_at_every_step_loses_nothing() {
        for stop in [Step::Begun, Step::Written, Step::Renamed, Step::Checked, Step::Removed] {
            let home = tempfile::tempdir().unwrap();
            let mut journal = filled(home.path());
            journal.save_snapshot(Position(60), 1, b"a").unwrap();
            journal.save_snapshot(Position(90), 1, b"b").unwrap();
            let crash = |step| {
                let cause = Arc::new(io::Error::other("crash"));
                if step == stop { Err(ArchiveError::Io { path: "test".into(), cause }) } else { Ok(()) }
            };
            assert!(journal.archive_with(fact(41).at, crash).is_err(), "{stop:?}");
            drop(journal);
            let mut journal = open(home.path());
            check_all(&journal, if stop == Step::Removed { 40 } else { 0 });
            // The next archiving takes more, and leaves no file of the interrupted one behind.
            journal.archive(Timestamp(i64::MAX)).unwrap();
            check_all(&journal, 60);
            let names: Vec<_> = fs::read_dir(&journal.files.archive).unwrap().collect();
            assert_eq!(names.len(), if stop == Step::Removed { 2 } else { 1 }, "{stop:?}");
        }
    }

    #[test]
    fn every_byte_of_the_archive_counts() {
        let home = tempfile::tempdir().unwrap();
        let mut journal = filled(home.path());
        journal.save_snapshot(Position(20), 1, b"a").unwrap();
        journal.save_snapshot(Position(90), 1, b"b").unwrap();
        journal.archive(Timestamp(i64::MAX)).unwrap();
        let file = archive::files(&journal.files.archive).unwrap().remove(0);
        let whole = fs::read(&file.path).unwrap();
        for at in 0..whole.len() {
            let mut flipped = whole.clone();
            flipped[at] ^= 1 << (at % 8);
            fs::write(&file.path, &flipped).unwrap();
            match archive::read(&journal.files.archive, Position(0), Position(20)) {
                Err(ReadError::Damaged(_)) => assert!(journal.verify().is_err(), "byte {at}"),
                Err(error) => panic!("byte {at}: {error}"),
                // Some flips change only how the same fact is written: \u000a and \u000A.
                Ok(records) => assert!((1..).zip(records).all(|(n, r)| r.body == fact(n).body), "byte {at}"),
            }
        }
        fs::write(&file.path, &whole).unwrap();
        journal.verify().unwrap();
        fs::remove_file(&file.path).unwrap();
        let ReadError::Damaged(damage) = journal.verify().unwrap_err() else { panic!("not noticed") };
        assert_eq!(damage.first_bad(), Position(1));
    }
}
