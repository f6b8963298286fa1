//! Opening a journal: nothing is believed and nothing is changed before it was checked.
//!
//! At every start: the file's mark and format, its tables, the chain from the newest sound snapshot to the end, the
//! witness, and the key. Not at every start, because their cost grows with the file: the chain before the snapshot
//! and SQLite's own `quick_check`; [`Sqlite::verify`] does both, and every read checks what it returns.

use std::fs::{self, DirBuilder, File};
use std::io::{self, ErrorKind};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use ostler_model::ids::Position;
use rusqlite::config::DbConfig;
use rusqlite::{Connection, OpenFlags, TransactionBehavior};
use zeroize::Zeroizing;

use super::rows::{self, AlteredMeta, RowError, altered};
use super::schema::{self, Found};
use super::{Files, Sqlite};
use crate::archive;
use crate::chain::Mark;
use crate::error::{Damage, OpenError};
use crate::sealed::{Key, KeyError, Sealer, sync_folder};
use crate::witness::{Testimony, Witness};

/// How long a statement waits for another process's lock: a backup's or a reader's, never another writer's.
const BUSY_TIMEOUT: Duration = Duration::from_secs(5);
/// The log is cut back to this size when it has been checkpointed; a large snapshot makes it larger for a while.
const LOG_BYTES_KEPT: u64 = 64 << 20;
/// Pages that SQLite keeps in memory, in KiB. Appends touch the newest few, and what is read is read once.
const CACHE_KIB: u32 = 512;
/// The name under which a sealed known value lies in the database.
const KNOWN: &str = "journal/known";

/// How to open a journal.
#[derive(Clone, Default)]
pub struct OpenOptions {
    /// The value of `OSTLER_KEY`, if it is set. Without it the file `key` in the home is used, and made if the
    /// journal is new.
    pub key: Option<Zeroizing<String>>,
    /// Go on although the newest facts are missing or may be missing. What was given up is in [`Opened::given_up`],
    /// and belongs into the journal as a fact.
    pub accept_lost_tail: bool,
}

impl std::fmt::Debug for OpenOptions {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let key = self.key.as_ref().map(|_| "hidden");
        f.debug_struct("OpenOptions").field("key", &key).field("accept_lost_tail", &self.accept_lost_tail).finish()
    }
}

/// An open journal.
pub struct Opened {
    /// The journal.
    pub journal: Sqlite,
    /// What a person gave up to open it; only with [`OpenOptions::accept_lost_tail`].
    pub given_up: Option<GivenUp>,
}

/// The loss that a person accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GivenUp {
    /// Where the journal ended when it was opened.
    pub end: Position,
    /// The newest fact that had been acknowledged; `None` if the witness could not tell.
    pub acknowledged: Option<Position>,
}

impl Sqlite {
    /// Opens the journal in the folder `home`, or makes a new one (and the folder, with mode 0700) if there is none.
    ///
    /// # Errors
    /// If anything is missing or not as it was written. The files are then as they were, as evidence.
    pub fn open(home: &Path, options: &OpenOptions) -> Result<Opened, OpenError> {
        let files = Files::of(home);
        make_home(home).map_err(|error| OpenError::io(home, error))?;
        let testimony = Witness::read(&files.witness).map_err(|error| OpenError::io(&files.witness, error))?;
        let mut opening = Opening { connection: connect(&files, testimony)?, files, testimony };
        let found = schema::find(&opening.connection).map_err(|error| opening.failed(Position(1), error))?;
        match found {
            Found::Empty => opening.create(options),
            Found::Current => opening.check(options),
            Found::Older(from) => {
                opening.upgrade(from)?;
                opening.check(options)
            }
            Found::Newer(found) => {
                Err(OpenError::TooNew { path: opening.files.journal, found, known: schema::VERSION })
            }
            Found::Altered => Err(opening.damaged(altered(Position(1), "its tables are not the journal's"))),
            Found::Foreign => match testimony {
                Testimony::Missing => Err(OpenError::NotAJournal { path: opening.files.journal }),
                Testimony::Unreadable | Testimony::Acknowledged { .. } => {
                    Err(opening.damaged(altered(Position(1), "the file is not marked as a journal")))
                }
            },
        }
    }
}

/// Opens the database without touching its content. SQLite throws a log away when it finds the database empty, so
/// that case is decided before.
fn connect(files: &Files, testimony: Testimony) -> Result<Connection, OpenError> {
    let bytes = match fs::metadata(&files.journal) {
        Ok(metadata) => metadata.len(),
        Err(error) if error.kind() == ErrorKind::NotFound => 0,
        Err(error) => return Err(OpenError::io(&files.journal, error)),
    };
    if bytes == 0 {
        let archived = archive::files(&files.archive).map_err(|error| OpenError::io(&files.archive, error))?;
        let acknowledged = match testimony {
            Testimony::Acknowledged { mark, .. } => mark.position,
            Testimony::Missing => Position(0),
            Testimony::Unreadable => {
                let what = "the file is missing or empty, and the witness cannot be read";
                return Err(OpenError::Damaged { path: files.journal.clone(), damage: altered(Position(1), what) });
            }
        };
        if acknowledged > Position(0) || !archived.is_empty() {
            let what = format!("the file is missing or empty, but {acknowledged} was acknowledged");
            return Err(OpenError::Damaged { path: files.journal.clone(), damage: altered(Position(1), what) });
        }
    }
    let io = |error| OpenError::io(&files.journal, error);
    // SQLite gives its log the mode of the database.
    File::options().append(true).create(true).mode(0o600).open(&files.journal).map_err(io)?;
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let open = || {
        let connection = Connection::open_with_flags(&files.journal, flags)?;
        // A log with a damaged tail is evidence: closing must not fold it into the database.
        connection.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true)?;
        connection.set_db_config(DbConfig::SQLITE_DBCONFIG_TRUSTED_SCHEMA, false)?;
        connection.busy_timeout(BUSY_TIMEOUT)?;
        connection.execute_batch("PRAGMA cell_size_check = ON; PRAGMA foreign_keys = ON;")?;
        connection.set_prepared_statement_cache_capacity(32);
        Ok(connection)
    };
    open().map_err(|error: rusqlite::Error| OpenError::io(&files.journal, error))
}

/// A connection that is not trusted yet.
struct Opening {
    connection: Connection,
    files: Files,
    testimony: Testimony,
}

impl Opening {
    /// Makes a new journal. The witness comes first, so that facts without a witness are never ordinary.
    fn create(mut self, options: &OpenOptions) -> Result<Opened, OpenError> {
        match self.testimony {
            Testimony::Acknowledged { mark, .. } if mark.position > Position(0) => {
                let what = format!("the file is empty, but {} was acknowledged", mark.position);
                return Err(self.damaged(altered(Position(1), what)));
            }
            Testimony::Unreadable => {
                let what = "the file is empty, and the witness cannot be read";
                return Err(self.damaged(altered(Position(1), what)));
            }
            Testimony::Missing | Testimony::Acknowledged { .. } => {}
        }
        let key = match key_from(options) {
            Some(key) => key,
            None => Key::load(&self.files.key).and_then(|key| key.map_or_else(|| Key::create(&self.files.key), Ok)),
        };
        let sealer = Sealer::new(&key.map_err(|cause| self.key(cause))?);
        let known = sealer.known().map_err(|cause| self.key(cause))?;
        let witness = Witness::create(&self.files.witness, Mark::START)
            .map_err(|error| OpenError::io(&self.files.witness, error))?;
        self.configure()?;
        let mut fill = || {
            let transaction = self.connection.transaction_with_behavior(TransactionBehavior::Exclusive)?;
            schema::create(&transaction)?;
            rows::set_begin(&transaction, Mark::START)?;
            rows::set_meta(&transaction, KNOWN, &known)?;
            transaction.commit()
        };
        fill().map_err(|error| OpenError::io(&self.files.journal, error))?;
        let folder = self.files.journal.parent().unwrap_or(Path::new("."));
        sync_folder(folder).map_err(|error| OpenError::io(folder, error))?;
        self.open(sealer, witness, Mark::START, Mark::START, None)
    }

    fn upgrade(&mut self, from: u32) -> Result<(), OpenError> {
        let mut steps = || {
            let transaction = self.connection.transaction_with_behavior(TransactionBehavior::Exclusive)?;
            schema::upgrade(&transaction, from)?;
            transaction.commit()
        };
        steps().map_err(|error| OpenError::io(&self.files.journal, error))
    }

    /// Checks an existing journal.
    fn check(self, options: &OpenOptions) -> Result<Opened, OpenError> {
        let begin = rows::begin(&self.connection).map_err(|error| self.row(error))?;
        let end = self.check_chain(begin).map_err(|error| self.row(error))?;
        let given_up = self.check_witness(begin, end, options)?;
        let sealer = self.check_key(options)?;
        let rewritten = || Witness::create(&self.files.witness, end);
        let witness = match (given_up, self.testimony) {
            (Some(_), _) | (None, Testimony::Missing | Testimony::Unreadable) => rewritten(),
            (None, Testimony::Acknowledged { mark, slot }) => Witness::open(&self.files.witness, mark, slot),
        };
        let witness = witness.map_err(|error| OpenError::io(&self.files.witness, error))?;
        self.configure()?;
        self.open(sealer, witness, begin, end, given_up)
    }

    /// Walks over the chain from the newest sound snapshot to the end.
    fn check_chain(&self, begin: Mark) -> Result<Mark, RowError> {
        let stored = rows::end(&self.connection, begin)?;
        let (snapshot, _) = rows::latest_snapshot(&self.connection, begin, stored.position)?;
        let from = snapshot.map_or(begin, |(snapshot, chain)| Mark { position: snapshot.at, chain });
        rows::walk(&self.connection, from, stored.position, drop)
    }

    /// Compares the journal's end with what was acknowledged.
    fn check_witness(&self, begin: Mark, end: Mark, options: &OpenOptions) -> Result<Option<GivenUp>, OpenError> {
        let accepted = options.accept_lost_tail;
        let Testimony::Acknowledged { mark, .. } = self.testimony else {
            let unreadable = self.testimony == Testimony::Unreadable;
            return match end.position > Position(0) || unreadable {
                true if accepted => Ok(Some(GivenUp { end: end.position, acknowledged: None })),
                // Between making the witness and the first fact, a missing witness hides nothing.
                false => Ok(None),
                true => Err(OpenError::NoWitness {
                    path: self.files.journal.clone(),
                    witness: self.files.witness.clone(),
                    unreadable,
                    end: end.position,
                }),
            };
        };
        if mark.position > end.position {
            let lost = Damage::LostTail { end: end.position, acknowledged: mark.position };
            return match accepted {
                true => Ok(Some(GivenUp { end: end.position, acknowledged: Some(mark.position) })),
                false => Err(self.damaged(lost)),
            };
        }
        // Archived facts were acknowledged long ago; a witness from before says nothing about what is here.
        if mark.position >= begin.position {
            let stored = rows::chain_at(&self.connection, begin, mark.position).map_err(|error| self.row(error))?;
            if stored != Some(mark.chain) {
                return Err(self.damaged(altered(mark.position, "it is not the fact that was acknowledged")));
            }
        }
        Ok(None)
    }

    /// Finds the key and checks that it is the one this journal was sealed with.
    fn check_key(&self, options: &OpenOptions) -> Result<Sealer, OpenError> {
        let missing = || KeyError::Missing { path: self.files.key.clone() };
        let key = match key_from(options) {
            Some(key) => key,
            None => Key::load(&self.files.key).and_then(|key| key.ok_or_else(missing)),
        };
        let sealer = Sealer::new(&key.map_err(|cause| self.key(cause))?);
        let known = rows::meta(&self.connection, KNOWN).map_err(|error| self.failed(Position(1), error))?;
        match known {
            Some(Ok(known)) if sealer.recognises(&known) => Ok(sealer),
            Some(Ok(_)) => Err(OpenError::WrongKey { path: self.files.journal.clone() }),
            Some(Err(AlteredMeta)) | None => {
                Err(self.damaged(altered(Position(1), "the value that proves the key is damaged")))
            }
        }
    }

    /// From here on the database may be written.
    fn configure(&self) -> Result<(), OpenError> {
        let set = || {
            self.connection.execute_batch(&format!(
                "PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; PRAGMA journal_size_limit = {LOG_BYTES_KEPT};"
            ))?;
            // It reads the schema. Where that is damaged, the checks that follow say so better.
            let _ = self.connection.execute_batch(&format!("PRAGMA cache_size = -{CACHE_KIB};"));
            self.connection.query_row("PRAGMA journal_mode", [], |row| row.get::<_, String>(0))
        };
        match set() {
            Ok(mode) if mode == "wal" => Ok(()),
            Ok(mode) => Err(OpenError::io(
                &self.files.journal,
                io::Error::other(format!("this file system allows no write-ahead log: SQLite chose `{mode}`")),
            )),
            Err(error) => Err(self.failed(Position(1), error)),
        }
    }

    fn open(
        self,
        sealer: Sealer,
        witness: Witness,
        begin: Mark,
        end: Mark,
        given_up: Option<GivenUp>,
    ) -> Result<Opened, OpenError> {
        let fold_at_close = self.connection.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, false);
        fold_at_close.map_err(|error| OpenError::io(&self.files.journal, error))?;
        let mut journal =
            Sqlite { connection: self.connection, files: self.files, sealer, witness, begin, end, tree: None };
        // Facts that were stored but not acknowledged before a crash count from now on.
        if journal.witness.mark() != end {
            journal.witness.record(end).map_err(|error| OpenError::io(&journal.files.witness, error))?;
        }
        Ok(Opened { journal, given_up })
    }

    fn damaged(&self, damage: Damage) -> OpenError {
        OpenError::Damaged { path: self.files.journal.clone(), damage }
    }

    fn row(&self, error: RowError) -> OpenError {
        match error {
            RowError::Damaged(damage) => self.damaged(damage),
            RowError::Failed(error) => OpenError::io(&self.files.journal, error),
        }
    }

    fn failed(&self, first_bad: Position, error: rusqlite::Error) -> OpenError {
        self.row(RowError::at(first_bad, error))
    }

    fn key(&self, cause: KeyError) -> OpenError {
        OpenError::Key { path: self.files.journal.clone(), cause }
    }
}

fn key_from(options: &OpenOptions) -> Option<Result<Key, KeyError>> {
    options.key.as_ref().map(|text| Key::from_text(text))
}

/// Makes the home, which only its owner may enter, unless it is there.
fn make_home(home: &Path) -> io::Result<()> {
    if home.is_dir() {
        return Ok(());
    }
    DirBuilder::new().recursive(true).mode(0o700).create(home)?;
    home.parent().map_or(Ok(()), sync_folder)
}

impl Files {
    /// The files of the journal in `home`.
    pub(crate) fn of(home: &Path) -> Self {
        let file = |name: &str| -> PathBuf { home.join(name) };
        Self {
            journal: file(crate::JOURNAL_FILE),
            witness: file(crate::WITNESS_FILE),
            key: file(crate::KEY_FILE),
            archive: file(crate::ARCHIVE_FOLDER),
            tree: file(crate::TREE_FILE),
        }
    }
}
