//! A journal as somebody else sees it: read only, without its key, while it is in use or not.
//!
//! Invariant: one reader sees one moment. What leaves the database for the archive meanwhile is still in its view of the
//! database, and a fact leaves this module only after its chained checksum was found to agree.

use std::ops::ControlFlow;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use ostler_model::ids::Position;
use rusqlite::config::DbConfig;
use rusqlite::{Connection, OpenFlags, OptionalExtension};

use super::Files;
use super::rows::{self, RowError, altered, to_sql};
use super::schema::{self, Found};
use crate::archive;
use crate::chain::Mark;
use crate::error::{Damage, ReadError};
use crate::witness::{Testimony, Witness};
use crate::{Record, kept};

/// How long another process's lock is waited for.
const BUSY_TIMEOUT: Duration = Duration::from_secs(5);

/// A journal as it was when this was opened.
pub struct Reader {
    connection: Connection,
    pub(crate) files: Files,
    begin: Mark,
    end: Mark,
    /// What was acknowledged before the end was looked at.
    acknowledged: Option<Mark>,
}

impl Reader {
    /// Looks at the journal in the folder `home`.
    ///
    /// # Errors
    /// If there is none, or what it begins and ends with cannot be read.
    pub fn open(home: &Path) -> Result<Self, ReadError> {
        let files = Files::of(home);
        let io = |path: &Path, cause| ReadError::Io { path: path.into(), cause };
        std::fs::metadata(&files.journal).map_err(|error| io(&files.journal, Arc::new(error)))?;
        // Before the end: the mark may lag behind it, and never runs ahead.
        let acknowledged = match Witness::read(&files.witness) {
            Ok(Testimony::Acknowledged { mark, .. }) => Some(mark),
            Ok(Testimony::Missing | Testimony::Unreadable) => None,
            Err(error) => return Err(io(&files.witness, Arc::new(error))),
        };
        let failed = |error| failed(&files, RowError::at(Position(1), error));
        let connection = connect(&files).map_err(failed)?;
        let said = |what: String| ReadError::Damaged(altered(Position(1), what));
        match schema::find(&connection).map_err(failed)? {
            Found::Current => {}
            Found::Newer(found) => return Err(said(format!("it has format {found}, which this ostler does not know"))),
            Found::Older(_) => return Err(said("it has an older format: start ostler once".into())),
            Found::Empty | Found::Altered | Found::Foreign => {
                return Err(said("its tables are not the journal's".into()));
            }
        }
        let begin = rows::begin(&connection).map_err(|error| self::failed(&files, error))?;
        let end = rows::end(&connection, begin).map_err(|error| self::failed(&files, error))?;
        Ok(Self { connection, files, begin, end, acknowledged })
    }

    /// The newest fact.
    pub fn end(&self) -> Position {
        self.end.position
    }

    /// Shows every fact, oldest first, each after it was checked, until `visit` breaks off. At the end it is also checked
    /// that what was acknowledged is there.
    ///
    /// # Errors
    /// The first damage.
    pub fn walk(&self, mut visit: impl FnMut(&Record) -> ControlFlow<()>) -> Result<(), ReadError> {
        let mut flow = ControlFlow::Continue(());
        archive::walk(&self.files.archive, self.begin, |record| {
            flow = visit(record);
            flow
        })?;
        if flow.is_break() {
            return Ok(());
        }
        let walked = rows::walk_while(&self.connection, self.begin, self.end.position, |record| {
            flow = visit(&record);
            flow
        });
        walked.map_err(|error| failed(&self.files, error))?;
        if flow.is_break() { Ok(()) } else { self.is_all_there() }
    }

    /// Whether the journal holds the fact that was acknowledged last.
    fn is_all_there(&self) -> Result<(), ReadError> {
        let Some(mark) = self.acknowledged else { return Ok(()) };
        if mark.position > self.end.position {
            let lost = Damage::LostTail { end: self.end.position, acknowledged: mark.position };
            return Err(ReadError::Damaged(lost));
        }
        if mark.position < self.begin.position {
            return Ok(()); // it was archived long ago
        }
        let stored = rows::chain_at(&self.connection, self.begin, mark.position);
        match stored.map_err(|error| failed(&self.files, error))? {
            Some(chain) if chain == mark.chain => Ok(()),
            _ => Err(ReadError::Damaged(altered(mark.position, "it is not the fact that was acknowledged"))),
        }
    }

    /// The facts after `after` up to and including `to`, oldest first.
    ///
    /// # Errors
    /// If they are damaged, or are not there.
    pub fn read(&self, after: Position, to: Position) -> Result<Vec<Record>, ReadError> {
        if after >= to {
            return Ok(Vec::new());
        }
        let begin = self.begin.position;
        let mut records = match after < begin {
            true => archive::read(&self.files.archive, after, to.min(begin))?,
            false => Vec::new(),
        };
        if to > begin {
            let after = after.max(begin);
            let fail = |error| failed(&self.files, error);
            let chain = rows::chain_at(&self.connection, self.begin, after).map_err(fail)?;
            let chain = chain.ok_or_else(|| ReadError::Damaged(altered(after, "it is not stored")))?;
            let from = Mark { position: after, chain };
            rows::walk(&self.connection, from, to, |record| records.push(record)).map_err(fail)?;
        }
        Ok(records)
    }

    /// The newest fact of this kind.
    ///
    /// # Errors
    /// If the journal cannot be read.
    pub fn newest_of(&self, kind: &str) -> Result<Option<Record>, ReadError> {
        let sql = "SELECT position FROM facts WHERE kind = ?1 AND position <= ?2 ORDER BY position DESC LIMIT 1";
        let found = self
            .connection
            .query_row(sql, rusqlite::params![kind, to_sql(self.end.position)], |row| row.get::<_, i64>(0))
            .optional();
        let found = found.map_err(|error| failed(&self.files, RowError::at(self.begin.position, error)))?;
        if let Some(position) = found.and_then(|position| u64::try_from(position).ok()) {
            let at = Position(position);
            return Ok(self.read(Position(position.saturating_sub(1)), at)?.pop());
        }
        let mut newest = None;
        archive::walk(&self.files.archive, self.begin, |record| {
            if record.kind == kind {
                newest = Some(record.clone());
            }
            ControlFlow::Continue(())
        })?;
        Ok(newest)
    }

    /// The tree over its facts.
    pub fn tree(&self) -> kept::Grown<'_> {
        kept::Grown::new(self)
    }
}

/// Sees the database as it is now, for as long as the connection is open.
fn connect(files: &Files) -> rusqlite::Result<Connection> {
    // Where the folder may not be written to, the log is looked at as far as that is possible.
    let connection = Connection::open_with_flags(&files.journal, OpenFlags::SQLITE_OPEN_READ_WRITE)
        .or_else(|_| Connection::open_with_flags(&files.journal, OpenFlags::SQLITE_OPEN_READ_ONLY))?;
    connection.busy_timeout(BUSY_TIMEOUT)?;
    // What lies in the log is evidence: closing must not fold it into the database.
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true)?;
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_TRUSTED_SCHEMA, false)?;
    connection.execute_batch("PRAGMA query_only = ON; PRAGMA cell_size_check = ON; BEGIN;")?;
    Ok(connection)
}

fn failed(files: &Files, error: RowError) -> ReadError {
    match error {
        RowError::Damaged(damage) => ReadError::Damaged(damage),
        RowError::Failed(error) => ReadError::Io { path: files.journal.clone(), cause: Arc::new(error) },
    }
}
