//! Rows of the database, read with suspicion. Invariant: a fact leaves this module only after its bytes, its place
//! and its chain value were found to agree.

use std::ops::ControlFlow;

use ostler_model::ids::{Position, SecretId};
use ostler_model::time::Timestamp;
use rusqlite::types::{FromSql, FromSqlResult, ValueRef};
use rusqlite::{Connection, ErrorCode, OptionalExtension, Row, ffi, params};

use crate::chain::{Chain, Mark, digest};
use crate::error::Damage;
use crate::{Record, Snapshot};

/// Why rows cannot be given.
#[derive(Debug)]
pub(super) enum RowError {
    /// They are not what was stored.
    Damaged(Damage),
    /// SQLite or the system under it failed.
    Failed(rusqlite::Error),
}

impl From<Damage> for RowError {
    fn from(damage: Damage) -> Self {
        Self::Damaged(damage)
    }
}

impl RowError {
    /// What SQLite's `error` means when it comes up at `position`.
    pub(super) fn at(position: Position, error: rusqlite::Error) -> Self {
        if speaks_of_damage(&error) {
            Self::Damaged(Damage::Altered { first_bad: position, what: format!("SQLite says: {error}") })
        } else {
            Self::Failed(error)
        }
    }
}

/// Whether the error says that the file is not what SQLite wrote, rather than that reading failed.
fn speaks_of_damage(error: &rusqlite::Error) -> bool {
    match error {
        rusqlite::Error::SqliteFailure(failure, _) => {
            let damaged = [ErrorCode::DatabaseCorrupt, ErrorCode::NotADatabase, ErrorCode::TooBig, ErrorCode::Unknown];
            let short = [ffi::SQLITE_IOERR_SHORT_READ, ffi::SQLITE_IOERR_DATA, ffi::SQLITE_IOERR_CORRUPTFS];
            damaged.contains(&failure.code) || short.contains(&failure.extended_code)
        }
        // A statement of ours that does not compile meets tables that are not ours.
        rusqlite::Error::SqlInputError { .. }
        | rusqlite::Error::FromSqlConversionFailure(..)
        | rusqlite::Error::IntegralValueOutOfRange(..)
        | rusqlite::Error::InvalidColumnType(..)
        | rusqlite::Error::Utf8Error(..) => true,
        _ => false,
    }
}

/// SQLite's integers are signed.
pub(super) fn to_sql(position: Position) -> i64 {
    i64::try_from(position.0).unwrap_or(i64::MAX)
}

struct StoredChain(Chain);

impl FromSql for StoredChain {
    fn column_result(value: ValueRef<'_>) -> FromSqlResult<Self> {
        <[u8; 32]>::column_result(value).map(|bytes| Self(Chain(bytes)))
    }
}

/// The newest fact's place and chain value, as stored; `begin` if there is none.
pub(super) fn end(connection: &Connection, begin: Mark) -> Result<Mark, RowError> {
    let newest = |row: &Row<'_>| Ok((row.get::<_, i64>(0)?, row.get::<_, StoredChain>(1)?.0));
    let sql = "SELECT position, chain FROM facts ORDER BY position DESC LIMIT 1";
    let found = connection.prepare_cached(sql).and_then(|mut statement| statement.query_row([], newest).optional());
    let first = Position(begin.position.0 + 1);
    match found.map_err(|error| RowError::at(first, error))? {
        None => Ok(begin),
        Some((position, chain)) => match u64::try_from(position) {
            Ok(position) if position > begin.position.0 => Ok(Mark { position: Position(position), chain }),
            _ => Err(altered(first, format!("a fact has the position {position}")).into()),
        },
    }
}

/// The stored chain value at `position`; `None` if no such fact is stored.
pub(super) fn chain_at(connection: &Connection, begin: Mark, position: Position) -> Result<Option<Chain>, RowError> {
    if position == begin.position {
        return Ok(Some(begin.chain));
    }
    let sql = "SELECT chain FROM facts WHERE position = ?1";
    let found = connection.prepare_cached(sql).and_then(|mut statement| {
        statement.query_row([to_sql(position)], |row| row.get::<_, StoredChain>(0)).optional()
    });
    found.map(|chain| chain.map(|chain| chain.0)).map_err(|error| RowError::at(position, error))
}

/// Walks over the facts after `from` up to and including `to`, checks each, and hands it to `visit`. Returns the
/// mark at `to`.
pub(super) fn walk(
    connection: &Connection,
    from: Mark,
    to: Position,
    mut visit: impl FnMut(Record),
) -> Result<Mark, RowError> {
    walk_while(connection, from, to, |record| {
        visit(record);
        ControlFlow::Continue(())
    })
}

/// The same, until `visit` breaks off; then the mark is where that was.
pub(super) fn walk_while(
    connection: &Connection,
    from: Mark,
    to: Position,
    mut visit: impl FnMut(Record) -> ControlFlow<()>,
) -> Result<Mark, RowError> {
    let sql = "SELECT position, at, kind, body, chain FROM facts WHERE position > ?1 AND position <= ?2 \
               ORDER BY position";
    let mut mark = from;
    let next = |mark: Mark| Position(mark.position.0 + 1);
    let failed = |mark: Mark| move |error| RowError::at(next(mark), error);
    let mut statement = connection.prepare_cached(sql).map_err(failed(mark))?;
    let mut rows = statement.query(params![to_sql(from.position), to_sql(to)]).map_err(failed(mark))?;
    while let Some(row) = rows.next().map_err(failed(mark))? {
        let (record, chain) = record(row).map_err(failed(mark))?;
        if record.position != next(mark) {
            return Err(altered(next(mark), format!("the next one stored is {}", record.position)).into());
        }
        mark = mark.next(record.at, &record.kind, &record.body);
        if mark.chain != chain {
            return Err(altered(mark.position, "its checksum does not match").into());
        }
        if visit(record).is_break() {
            return Ok(mark);
        }
    }
    if mark.position < to {
        return Err(altered(next(mark), "it is not stored").into());
    }
    Ok(mark)
}

fn record(row: &Row<'_>) -> rusqlite::Result<(Record, Chain)> {
    let record = Record {
        position: Position(u64::try_from(row.get::<_, i64>(0)?).unwrap_or(0)),
        at: Timestamp(row.get(1)?),
        kind: row.get(2)?,
        body: row.get(3)?,
    };
    Ok((record, row.get::<_, StoredChain>(4)?.0))
}

pub(super) fn altered(first_bad: Position, what: impl Into<String>) -> Damage {
    Damage::Altered { first_bad, what: what.into() }
}

/// The checksum of a snapshot's row.
pub(super) fn snapshot_checksum(snapshot: &Snapshot, chain: Chain) -> [u8; 32] {
    let (position, version) = (snapshot.at.0.to_le_bytes(), snapshot.version.to_le_bytes());
    digest(&[b"snapshot", &position, &version, &chain.0, &snapshot.body])
}

/// A snapshot whose checksum matches, and the chain's value at it.
pub(super) type SoundSnapshot = (Snapshot, Chain);

/// The newest sound snapshot with the chain's value at it, and the newer ones that are not sound. A snapshot is sound
/// if its checksum matches and the facts up to `end` pass through it.
pub(super) fn latest_snapshot(
    connection: &Connection,
    begin: Mark,
    end: Position,
) -> Result<(Option<SoundSnapshot>, Vec<Position>), RowError> {
    let mut damaged = Vec::new();
    for position in snapshot_positions(connection)? {
        let at = Position(u64::try_from(position).unwrap_or(0));
        match sound_snapshot(connection, begin, end, position) {
            Ok(Some(found)) => return Ok((Some(found), damaged)),
            Ok(None) | Err(RowError::Damaged(_)) => damaged.push(at),
            Err(error @ RowError::Failed(_)) => return Err(error),
        }
    }
    Ok((None, damaged))
}

/// All snapshots: the sound ones and the damaged ones, newest first.
pub(super) fn examine_snapshots(
    connection: &Connection,
    begin: Mark,
    end: Position,
) -> Result<(Vec<Position>, Vec<Position>), RowError> {
    let (mut sound, mut damaged) = (Vec::new(), Vec::new());
    for position in snapshot_positions(connection)? {
        match sound_snapshot(connection, begin, end, position) {
            Ok(Some((snapshot, _))) => sound.push(snapshot.at),
            Ok(None) | Err(RowError::Damaged(_)) => damaged.push(Position(u64::try_from(position).unwrap_or(0))),
            Err(error @ RowError::Failed(_)) => return Err(error),
        }
    }
    Ok((sound, damaged))
}

/// The position up to which two sound snapshots cover the facts: any start can do without the facts before it, even
/// if one of the two is lost later.
pub(super) fn covered_twice(connection: &Connection, begin: Mark, end: Position) -> Result<Option<Position>, RowError> {
    let (sound, _) = examine_snapshots(connection, begin, end)?;
    Ok(sound.get(1).copied())
}

/// The positions of all snapshots, newest first; none if their table cannot be read, since facts can replace them.
fn snapshot_positions(connection: &Connection) -> Result<Vec<i64>, RowError> {
    let sql = "SELECT position FROM snapshots ORDER BY position DESC";
    let found = connection
        .prepare_cached(sql)
        .and_then(|mut statement| statement.query_map([], |row| row.get(0))?.collect::<rusqlite::Result<Vec<i64>>>());
    match found {
        Ok(positions) => Ok(positions),
        Err(error) if speaks_of_damage(&error) => Ok(Vec::new()),
        Err(error) => Err(RowError::Failed(error)),
    }
}

fn sound_snapshot(
    connection: &Connection,
    begin: Mark,
    end: Position,
    position: i64,
) -> Result<Option<SoundSnapshot>, RowError> {
    let at = Position(u64::try_from(position).unwrap_or(0));
    if at < begin.position || at > end {
        return Ok(None);
    }
    let sql = "SELECT version, chain, body, checksum FROM snapshots WHERE position = ?1";
    let read = |row: &Row<'_>| {
        let snapshot = Snapshot { at, version: row.get(0)?, body: row.get(2)? };
        Ok((snapshot, row.get::<_, StoredChain>(1)?.0, row.get::<_, [u8; 32]>(3)?))
    };
    let found = connection.prepare_cached(sql).and_then(|mut statement| statement.query_row([position], read));
    let (snapshot, chain, checksum) = found.map_err(|error| RowError::at(at, error))?;
    let sound = snapshot_checksum(&snapshot, chain) == checksum && chain_at(connection, begin, at)? == Some(chain);
    Ok(sound.then_some((snapshot, chain)))
}

/// A small value: the bytes, or that its checksum does not match.
pub(super) fn meta(connection: &Connection, name: &str) -> rusqlite::Result<Option<Result<Vec<u8>, AlteredMeta>>> {
    let read = |row: &Row<'_>| Ok((row.get::<_, Vec<u8>>(0)?, row.get::<_, Vec<u8>>(1)?));
    let mut statement = connection.prepare_cached("SELECT value, checksum FROM meta WHERE name = ?1")?;
    let found = statement.query_row([name], read).optional()?;
    Ok(found.map(|(value, checksum)| match checksum == meta_checksum(name, &value) {
        true => Ok(value),
        false => Err(AlteredMeta),
    }))
}

/// A small value whose checksum does not match.
pub(super) struct AlteredMeta;

/// Sets a small value, within the caller's transaction if there is one.
pub(super) fn set_meta(connection: &Connection, name: &str, value: &[u8]) -> rusqlite::Result<()> {
    let sql = "INSERT INTO meta (name, value, checksum) VALUES (?1, ?2, ?3) \
               ON CONFLICT (name) DO UPDATE SET value = excluded.value, checksum = excluded.checksum";
    connection.prepare_cached(sql)?.execute(params![name, value, meta_checksum(name, value)]).map(drop)
}

fn meta_checksum(name: &str, value: &[u8]) -> [u8; 32] {
    digest(&[b"meta", name.as_bytes(), value])
}

/// The name under which the database remembers where it begins.
const BEGIN: &str = "journal/begin";

/// Where the database begins: facts up to here have moved to the archive.
pub(super) fn begin(connection: &Connection) -> Result<Mark, RowError> {
    let first = Position(1);
    match meta(connection, BEGIN).map_err(|error| RowError::at(first, error))? {
        Some(Ok(value)) => decode_begin(&value),
        Some(Err(AlteredMeta)) | None => None,
    }
    .ok_or_else(|| altered(first, "the note of where the database begins is damaged").into())
}

/// Notes where the database begins.
pub(super) fn set_begin(connection: &Connection, begin: Mark) -> rusqlite::Result<()> {
    set_meta(connection, BEGIN, &[&begin.position.0.to_le_bytes()[..], &begin.chain.0].concat())
}

fn decode_begin(value: &[u8]) -> Option<Mark> {
    let (position, chain) = value.split_first_chunk::<8>()?;
    Some(Mark { position: Position(u64::from_le_bytes(*position)), chain: Chain::from_bytes(chain)? })
}

/// A secret's sealed bytes and the position at which they were set.
pub(super) fn secret(connection: &Connection, id: &SecretId) -> rusqlite::Result<Option<(Position, Vec<u8>)>> {
    let read = |row: &Row<'_>| Ok((Position(u64::try_from(row.get::<_, i64>(0)?).unwrap_or(0)), row.get(1)?));
    let mut statement = connection.prepare_cached("SELECT position, sealed FROM secrets WHERE id = ?1")?;
    statement.query_row([id.as_str()], read).optional()
}
