//! The whole examination of a journal, archive included: what `ostler journal --verify` and every backup does.

use std::path::Path;

use ostler_model::ids::{Position, SecretId};
use rusqlite::Connection;
use serde::Deserialize;
use serde::de::IntoDeserializer;

use super::rows::{self, RowError, altered};
use super::{Files, Sqlite};
use crate::Journal;
use crate::archive;
use crate::chain::Mark;
use crate::error::ReadError;

/// What an examination found; its facts are sound, or there would have been an error.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verified {
    /// Facts checked in the archive.
    pub archived: u64,
    /// Facts checked in the database.
    pub stored: u64,
    /// Secrets that open.
    pub secrets: u64,
    /// Secrets that do not open: their stored bytes were altered.
    pub secrets_damaged: Vec<SecretId>,
    /// Snapshots that are damaged. They cost time at the next start, nothing else.
    pub snapshots_damaged: Vec<Position>,
}

impl Sqlite {
    /// Checks the chain over every fact in archive and database, SQLite's own structures, all secrets and snapshots.
    ///
    /// # Errors
    /// If any fact is damaged; the error names the first.
    pub fn verify(&self) -> Result<Verified, ReadError> {
        let end = check_facts(&self.connection, &self.files)?;
        if end != self.end {
            let what = "the database ends elsewhere than it did when it was opened";
            return Err(ReadError::Damaged(altered(end.position.min(self.end.position), what)));
        }
        let (secrets, secrets_damaged) = self.check_secrets()?;
        let snapshots = rows::examine_snapshots(&self.connection, self.begin, self.end.position);
        let (_, snapshots_damaged) = snapshots.map_err(|error| self.read_failed(error))?;
        Ok(Verified {
            archived: self.begin.position.0,
            stored: self.end.position.0 - self.begin.position.0,
            secrets,
            secrets_damaged,
            snapshots_damaged,
        })
    }

    fn check_secrets(&self) -> Result<(u64, Vec<SecretId>), ReadError> {
        let ids = || {
            let mut statement = self.connection.prepare("SELECT id FROM secrets ORDER BY id")?;
            statement.query_map([], |row| row.get::<_, String>(0))?.collect::<rusqlite::Result<Vec<_>>>()
        };
        let ids = ids().map_err(|error| self.read_failed(RowError::at(self.end.position, error)))?;
        let (mut sound, mut damaged) = (0, Vec::new());
        for id in ids {
            let id: SecretId =
                SecretId::deserialize(id.into_deserializer()).map_err(|error: serde::de::value::Error| {
                    ReadError::Io { path: self.files.journal.clone(), cause: std::sync::Arc::new(error) }
                })?;
            match self.secret(&id) {
                Ok(Some(_)) => sound += 1,
                Ok(None) | Err(ReadError::Secret { .. }) => damaged.push(id),
                Err(error) => return Err(error),
            }
        }
        Ok((sound, damaged))
    }
}

/// Checks every fact of a journal that nobody writes to, without its key. Returns its end.
pub(crate) fn verify_copy(home: &Path) -> Result<Mark, ReadError> {
    let files = Files::of(home);
    let flags = rusqlite::OpenFlags::SQLITE_OPEN_READ_ONLY | rusqlite::OpenFlags::SQLITE_OPEN_NO_MUTEX;
    match Connection::open_with_flags(&files.journal, flags) {
        Ok(connection) => check_facts(&connection, &files),
        Err(error) => Err(failed(&files, RowError::at(Position(1), error))),
    }
}

fn check_facts(connection: &Connection, files: &Files) -> Result<Mark, ReadError> {
    let failed = |error| failed(files, error);
    let begin = rows::begin(connection).map_err(failed)?;
    archive::verify(&files.archive, begin)?;
    let stored = rows::end(connection, begin).map_err(failed)?;
    let end = rows::walk(connection, begin, stored.position, drop).map_err(failed)?;
    // The chain vouches for the facts; SQLite's own check for what later writes rely on.
    let checked = connection.query_row("PRAGMA quick_check(1)", [], |row| row.get::<_, String>(0));
    match checked.map_err(|error| failed(RowError::at(Position(begin.position.0 + 1), error)))?.as_str() {
        "ok" => Ok(end),
        what => Err(ReadError::Damaged(altered(Position(begin.position.0 + 1), format!("SQLite says: {what}")))),
    }
}

fn failed(files: &Files, error: RowError) -> ReadError {
    match error {
        RowError::Damaged(damage) => ReadError::Damaged(damage),
        RowError::Failed(error) => ReadError::Io { path: files.journal.clone(), cause: std::sync::Arc::new(error) },
    }
}
