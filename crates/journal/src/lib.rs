//! Append-only facts and sealed secrets.
//!
//! Invariants: what `append` acknowledged is on the disk and is never silently missing afterwards; facts only ever
//! grow at the end; a secret is stored sealed and changes only together with a fact.
//!
//! A fact is opaque here: whoever appends it serializes it and lifts old versions. Two implementations pass one
//! shared suite of tests: [`Memory`], for simulations and tests, and [`Sqlite`], one file in ostler's home.

pub mod archive;
mod chain;
mod error;
pub mod home;
mod kept;
mod limits;
mod memory;
pub mod sealed;
mod sqlite;
pub mod tree;
mod witness;
mod writer;

use std::fmt;

use ostler_model::ids::{Position, SecretId};
use ostler_model::time::Timestamp;
use zeroize::Zeroizing;

pub use error::{AppendError, Cause, Damage, OpenError, ReadError};
pub use kept::{Built, Grown, Kept, TreeError};
pub use limits::{BODY_BYTES_MAX, KIND_BYTES_MAX, READ_AT_ONCE_MAX, SECRET_BYTES_MAX, SNAPSHOT_BYTES_MAX};
pub use memory::Memory;
pub use sqlite::{Archived, GivenUp, OpenOptions, Opened, Reader, Sqlite, Verified};
/// The version of the journal's layout in its file; what an older build wrote is brought up to it when it is opened.
pub const LAYOUT: u32 = sqlite::LAYOUT;

pub use writer::{Handle, Writer, WriterError};

/// The database in ostler's home.
pub const JOURNAL_FILE: &str = "journal.db";
/// The witness of the last acknowledged fact, beside the database.
pub const WITNESS_FILE: &str = "journal.witness";
/// The key of the sealed store, unless it comes from `OSTLER_KEY`.
pub const KEY_FILE: &str = "key";
/// The hashes of the tree over all facts that are kept, beside the database.
pub const TREE_FILE: &str = "journal.tree";
/// The folder of signed checkpoints. The journal only copies it, for whoever signs them.
pub const CHECKPOINTS_FOLDER: &str = "checkpoints";
/// The folder of old facts that have left the database.
pub const ARCHIVE_FOLDER: &str = "archive";

/// One fact as stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// Its place; the first fact has 1, and there are no gaps.
    pub position: Position,
    /// When it happened, as its author said. Clocks jump, so this need not grow with the position.
    pub at: Timestamp,
    /// A short word for people and filters: 1 to 64 visible ASCII characters.
    pub kind: String,
    /// The serialized envelope: JSON, at most 16 MiB. The journal never looks inside.
    pub body: Vec<u8>,
}

/// One fact on its way into the journal, which gives it its position. The fields are those of [`Record`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewFact {
    /// When it happened.
    pub at: Timestamp,
    /// A short word for people and filters: 1 to 64 visible ASCII characters.
    pub kind: String,
    /// The serialized envelope: JSON, at most 16 MiB.
    pub body: Vec<u8>,
}

/// The plain bytes of a secret. They are wiped from memory when dropped, and `Debug` does not show them.
#[derive(Clone, PartialEq, Eq)]
pub struct SecretValue(Zeroizing<Vec<u8>>);

impl SecretValue {
    /// The plain bytes.
    pub fn bytes(&self) -> &[u8] {
        &self.0
    }
}

impl From<Vec<u8>> for SecretValue {
    fn from(bytes: Vec<u8>) -> Self {
        Self(Zeroizing::new(bytes))
    }
}

impl fmt::Debug for SecretValue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SecretValue(hidden)")
    }
}

/// A secret that is set or deleted in the same transaction as the facts that say so.
#[derive(Clone, Debug)]
pub struct SealedChange {
    /// The name by which facts refer to it.
    pub id: SecretId,
    /// The plain bytes to seal, at most 1 MiB; `None` deletes the secret.
    pub value: Option<SecretValue>,
}

impl SealedChange {
    /// Seals `value` under `id`, in place of what was there.
    pub fn set(id: SecretId, value: impl Into<SecretValue>) -> Self {
        Self { id, value: Some(value.into()) }
    }

    /// Forgets the secret `id`, if it is there.
    pub fn delete(id: SecretId) -> Self {
        Self { id, value: None }
    }
}

/// Knowledge as it was after the fact at `at`, so that a start need not fold all facts again.
#[derive(Clone, PartialEq, Eq)]
pub struct Snapshot {
    /// The last fact that is folded into it.
    pub at: Position,
    /// The version of the body's format, which belongs to whoever saved it.
    pub version: u32,
    /// The serialized knowledge.
    pub body: Vec<u8>,
}

impl fmt::Debug for Snapshot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Snapshot {{ at: {}, version: {}, {} bytes }}", self.at, self.version, self.body.len())
    }
}

/// What [`Journal::latest_snapshot`] found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Snapshots {
    /// The newest one that is undamaged; without one, fold all facts.
    pub latest: Option<Snapshot>,
    /// Newer ones that were skipped because they are damaged: worth a warning, no loss.
    pub damaged: Vec<Position>,
}

/// Facts in their order, and the secrets they refer to by id.
pub trait Journal: Send {
    /// Appends `facts` and applies `secrets` in one transaction, if the journal ends at `expected`, and returns the
    /// new end. Both are durable when it returns. Secrets change only together with at least one fact, because it is
    /// facts by which a loss is noticed.
    ///
    /// # Errors
    /// On an error nothing is stored, and the journal stays usable: a later append works once the cause is gone.
    fn append(
        &mut self,
        expected: Position,
        facts: &[NewFact],
        secrets: &[SealedChange],
    ) -> Result<Position, AppendError>;

    /// The position of the newest fact; 0 if there is none.
    fn end(&self) -> Position;

    /// The facts after `after`, oldest first: at most `most`, and at most [`READ_AT_ONCE_MAX`].
    ///
    /// # Errors
    /// Damage is found here at the latest: every fact returned is checked against its chained checksum.
    fn read(&self, after: Position, most: usize) -> Result<Vec<Record>, ReadError>;

    /// The facts before `before`, newest first: at most `most`, and at most [`READ_AT_ONCE_MAX`].
    ///
    /// # Errors
    /// As [`Journal::read`].
    fn read_back(&self, before: Position, most: usize) -> Result<Vec<Record>, ReadError>;

    /// The secret `id` in plain, if there is one.
    ///
    /// # Errors
    /// If its sealed value was altered or moved here from another name.
    fn secret(&self, id: &SecretId) -> Result<Option<SecretValue>, ReadError>;

    /// Saves knowledge as of the fact at `at`; the two newest snapshots are kept. Saving one again at the same
    /// position replaces it.
    ///
    /// # Errors
    /// Also if `at` is beyond the journal's end.
    fn save_snapshot(&mut self, at: Position, version: u32, body: &[u8]) -> Result<(), AppendError>;

    /// The newest undamaged snapshot, and which newer ones were skipped.
    ///
    /// # Errors
    /// Only if the storage cannot be read at all.
    fn latest_snapshot(&self) -> Result<Snapshots, ReadError>;

    /// Gives back what is only kept in memory to be faster; for quiet times.
    fn give_back(&mut self) {}

    /// A small value that the caller keeps beside the facts, such as the estate's UUID.
    ///
    /// # Errors
    /// If it was altered.
    fn meta_get(&self, name: &str) -> Result<Option<Vec<u8>>, ReadError>;

    /// Sets the small value `name`; durable when it returns. Not for secrets.
    ///
    /// # Errors
    /// As [`Journal::append`].
    fn meta_set(&mut self, name: &str, value: &[u8]) -> Result<(), AppendError>;
}

/// All facts after `after`, oldest first, read page by page. After an error it ends.
pub fn oldest_first(journal: &dyn Journal, after: Position) -> impl Iterator<Item = Result<Record, ReadError>> {
    let mut last = after;
    pages(move || {
        let page = journal.read(last, PAGE)?;
        last = page.last().map_or(last, |record| record.position);
        Ok(page)
    })
}

/// All facts, newest first, read page by page: filter with the iterator's own `filter` and `take`. After an error it
/// ends.
pub fn newest_first(journal: &dyn Journal) -> impl Iterator<Item = Result<Record, ReadError>> {
    let mut before = Position(journal.end().0.saturating_add(1));
    pages(move || {
        let page = journal.read_back(before, PAGE)?;
        before = page.last().map_or(before, |record| record.position);
        Ok(page)
    })
}

/// Facts in one page of an iterator: enough to make the cost of a query vanish, few enough to stop early.
const PAGE: usize = 256;

/// Flattens pages until one is empty or an error.
fn pages<N>(mut next: N) -> impl Iterator<Item = Result<Record, ReadError>>
where
    N: FnMut() -> Result<Vec<Record>, ReadError>,
{
    let mut over = false;
    std::iter::from_fn(move || {
        if over {
            return None;
        }
        let page: Vec<Result<Record, ReadError>> = match next() {
            Ok(records) => records.into_iter().map(Ok).collect(),
            Err(error) => {
                over = true;
                vec![Err(error)]
            }
        };
        (!page.is_empty()).then_some(page)
    })
    .flatten()
}
