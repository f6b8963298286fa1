//! Backing up and restoring ostler's own knowledge: the journal, its archive, what was signed about it and, if
//! wanted, the key.
//!
//! The services' data are not in it: they have backups of their own. A backup is a folder of ordinary files with a
//! manifest. Invariants: a backup or a restored home appears complete, checked and durable, or not at all; the home
//! that is backed up is only read, and may be in use meanwhile; a restore never writes into a home that holds
//! anything.

use std::ffi::OsString;
use std::fs::{self, DirBuilder, File};
use std::io::{self, ErrorKind, Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;

use ostler_model::ids::Position;
use ostler_model::time::Timestamp;
use rusqlite::{Connection, OpenFlags};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::chain::{Mark, to_hex};
use crate::error::{Cause, ReadError};
use crate::sealed::{Key, KeyError, sync_folder};
use crate::sqlite::{Files, verify_copy};
use crate::witness::Witness;
use crate::{ARCHIVE_FOLDER, CHECKPOINTS_FOLDER, JOURNAL_FILE, KEY_FILE, WITNESS_FILE, archive};

const MANIFEST: &str = "manifest.json";
const FORMAT: u32 = 1;
/// Bytes of a manifest: far more than ten thousand archive files need.
const MANIFEST_BYTES_MAX: u64 = 16 << 20;

/// Whether the backup can open the sealed secrets by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeyInBackup {
    /// The key stays out: keep it elsewhere. A stolen backup then shows facts but no secret.
    LeftOut,
    /// The key goes in: the backup is as precious as the home.
    Included,
}

/// What a backup holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BackedUp {
    /// The newest fact in it.
    pub end: Position,
    /// When it was made.
    pub at: Timestamp,
    /// Its files, the manifest not counted.
    pub files: usize,
    /// Their size together.
    pub bytes: u64,
    /// Whether the key is among them.
    pub key: KeyInBackup,
}

/// Why there is no backup, or no restored home. Nothing was left half done under the final name.
#[derive(Clone, Debug, thiserror::Error)]
pub enum HomeError {
    /// The target is there already.
    #[error("cannot write to `{}`: it is there already", path.display())]
    Occupied {
        /// The target.
        path: PathBuf,
    },
    /// Another run was interrupted, or is under way.
    #[error("cannot write to `{}`: an earlier run was interrupted, or is under way", path.display())]
    Unfinished {
        /// What the other run left.
        path: PathBuf,
    },
    /// There is no journal.
    #[error("cannot back up `{}`: it holds no journal", path.display())]
    NoJournal {
        /// The home.
        path: PathBuf,
    },
    /// The key was to be included but cannot be had.
    #[error("cannot include the key")]
    Key(#[source] KeyError),
    /// The facts are damaged.
    #[error("cannot use the journal in `{}`", path.display())]
    Journal {
        /// The home or the backup.
        path: PathBuf,
        /// What is wrong with it.
        #[source]
        cause: ReadError,
    },
    /// The backup is not what it was when it was made.
    #[error("cannot restore from `{}`: {what}", path.display())]
    Altered {
        /// The backup.
        path: PathBuf,
        /// What does not match.
        what: String,
    },
    /// A newer ostler made the backup.
    #[error("cannot restore from `{}`: it has format {found}, and this ostler knows {FORMAT}", path.display())]
    TooNew {
        /// The backup.
        path: PathBuf,
        /// Its format.
        found: u32,
    },
    /// A file cannot be read or written.
    #[error("cannot copy `{}`", path.display())]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// What the storage said.
        #[source]
        cause: Cause,
    },
}

impl HomeError {
    /// What a person can do.
    pub fn remedy(&self) -> String {
        match self {
            Self::Occupied { path } => {
                format!("Name a folder that is not there yet, or move `{}` away.", path.display())
            }
            Self::Unfinished { path } => {
                format!("If no other ostler is at it, delete `{}` and try again.", path.display())
            }
            Self::NoJournal { .. } => "Name the home with `--home`.".into(),
            Self::Key(KeyError::Missing { .. }) => {
                "The key of this home is in `OSTLER_KEY`: back it up yourself, and leave it out here.".into()
            }
            Self::Key(error) => error.remedy(),
            Self::Journal { cause, .. } => cause.remedy(),
            Self::Altered { .. } => "Use another backup, and check the disk this one lies on.".into(),
            Self::TooNew { .. } => "Restore with the ostler that made it, or a newer one.".into(),
            Self::Io { path, .. } => {
                format!("Check the disk, its free space and the permissions of `{}`.", path.display())
            }
        }
    }

    fn io(path: &Path) -> impl Fn(io::Error) -> Self + '_ {
        move |cause| Self::Io { path: path.into(), cause: Arc::new(cause) }
    }
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Manifest {
    /// The format of backups.
    format: u32,
    made_at: Timestamp,
    /// The newest fact, and the chain's value there.
    end: Position,
    chain: String,
    files: Vec<Entry>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry {
    /// Relative to the backup, with `/`.
    path: String,
    bytes: u64,
    sha256: String,
}

/// Copies the journal in `home` to the new folder `to`, while it may be in use. `at` is the time now.
///
/// # Errors
/// If anything cannot be copied, or the copy does not check: a damaged journal is not backed up in silence.
pub fn backup(home: &Path, to: &Path, at: Timestamp, key: KeyInBackup) -> Result<BackedUp, HomeError> {
    let files = Files::of(home);
    if !files.journal.is_file() {
        return Err(HomeError::NoJournal { path: home.into() });
    }
    let new = Unfinished::make(to)?;
    // What was signed comes first: a copy holds every fact that a checkpoint in it is about.
    let signed = home.join(CHECKPOINTS_FOLDER);
    let checkpoints = checkpoints(&signed).map_err(HomeError::io(&signed))?;
    if !checkpoints.is_empty() {
        make_folder(&new.path.join(CHECKPOINTS_FOLDER))?;
    }
    for name in checkpoints {
        copy(&signed.join(&name), &new.path.join(CHECKPOINTS_FOLDER).join(&name))?;
    }
    copy_database(&files.journal, &new.path.join(JOURNAL_FILE))?;
    // The archive comes second: what left the database since is then in both.
    let archived = archive::files(&files.archive).map_err(HomeError::io(&files.archive))?;
    if !archived.is_empty() {
        make_folder(&new.path.join(ARCHIVE_FOLDER))?;
    }
    for file in archived {
        let name = file.path.file_name().unwrap_or_default();
        copy(&file.path, &new.path.join(ARCHIVE_FOLDER).join(name))?;
    }
    let end = check(&new.path)?;
    if key == KeyInBackup::Included {
        let found = Key::load(&files.key).and_then(|key| key.ok_or(KeyError::Missing { path: files.key.clone() }));
        found.map_err(HomeError::Key)?;
        copy(&files.key, &new.path.join(KEY_FILE))?;
    }
    write_witness(&new.path, end)?;
    let manifest = Manifest {
        format: FORMAT,
        made_at: at,
        end: end.position,
        chain: to_hex(&end.chain.0),
        files: entries(&new.path)?,
    };
    let text = serde_json::to_vec_pretty(&manifest).expect("a manifest has only text keys");
    write(&new.path.join(MANIFEST), &text)?;
    new.finish(to)?;
    Ok(summary(&manifest))
}

/// Copies the backup in the folder `from` to `home`, which must be empty or not there, after every file was found as
/// it was when it was made. Without the key in the backup, put it into the home or into `OSTLER_KEY` before the start.
///
/// # Errors
/// If the backup was altered in any bit, or `home` holds anything.
pub fn restore(from: &Path, home: &Path) -> Result<BackedUp, HomeError> {
    let manifest = read_manifest(from)?;
    let altered = |what: String| HomeError::Altered { path: from.into(), what };
    let new = Unfinished::make(home)?;
    for entry in &manifest.files {
        let path = Path::new(&entry.path);
        if !path.components().all(|part| matches!(part, Component::Normal(_))) || path.components().count() > 2 {
            return Err(altered(format!("its manifest names `{}`", entry.path)));
        }
        let target = new.path.join(path);
        match path.parent() {
            Some(folder) if !folder.as_os_str().is_empty() => make_folder(&new.path.join(folder))?,
            _ => {}
        }
        match copy(&from.join(path), &target) {
            Ok(copied) if copied == (entry.bytes, entry.sha256.clone()) => {}
            Ok(_) => return Err(altered(format!("`{}` is not as it was when the backup was made", entry.path))),
            Err(HomeError::Io { cause, .. }) if is_missing(&cause) => {
                return Err(altered(format!("`{}` is missing", entry.path)));
            }
            Err(error) => return Err(error),
        }
    }
    let end = check(&new.path)?;
    if (end.position, to_hex(&end.chain.0)) != (manifest.end, manifest.chain.clone()) {
        return Err(altered(format!("its journal ends at {}, its manifest at {}", end.position, manifest.end)));
    }
    write_witness(&new.path, end)?;
    new.finish(home)?;
    Ok(summary(&manifest))
}

/// A folder beside its final place. Dropped unfinished, it is removed: it holds nothing but copies made here.
struct Unfinished {
    path: PathBuf,
    finished: bool,
}

impl Unfinished {
    fn make(target: &Path) -> Result<Self, HomeError> {
        match fs::read_dir(target) {
            Ok(mut entries) => {
                if entries.next().is_some() {
                    return Err(HomeError::Occupied { path: target.into() });
                }
            }
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            Err(error) if error.kind() == ErrorKind::NotADirectory => {
                return Err(HomeError::Occupied { path: target.into() });
            }
            Err(error) => return Err(HomeError::io(target)(error)),
        }
        let mut name = target.file_name().map_or_else(|| OsString::from("home"), OsString::from);
        name.push(".unfinished");
        let path = target.with_file_name(name);
        match DirBuilder::new().mode(0o700).create(&path) {
            Ok(()) => Ok(Self { path, finished: false }),
            Err(error) if error.kind() == ErrorKind::AlreadyExists => Err(HomeError::Unfinished { path }),
            Err(error) => Err(HomeError::io(&path)(error)),
        }
    }

    /// Makes it durable and gives it its final name, over at most an empty folder.
    fn finish(mut self, target: &Path) -> Result<(), HomeError> {
        for folder in [ARCHIVE_FOLDER, CHECKPOINTS_FOLDER].map(|name| self.path.join(name)) {
            if folder.is_dir() {
                sync_folder(&folder).map_err(HomeError::io(&folder))?;
            }
        }
        sync_folder(&self.path).map_err(HomeError::io(&self.path))?;
        fs::rename(&self.path, target).map_err(HomeError::io(target))?;
        self.finished = true;
        target.parent().map_or(Ok(()), sync_folder).map_err(HomeError::io(target))
    }
}

impl Drop for Unfinished {
    fn drop(&mut self) {
        if !self.finished {
            // What cannot be removed is named by the next run, as `HomeError::Unfinished`.
            let _left = fs::remove_dir_all(&self.path);
        }
    }
}

/// A consistent copy of a database that may be in use.
fn copy_database(from: &Path, to: &Path) -> Result<(), HomeError> {
    // SQLite fills an empty file and keeps its mode.
    let file = File::options().write(true).create_new(true).mode(0o600).open(to).map_err(HomeError::io(to))?;
    let name = to.to_str().ok_or_else(|| io::Error::other("SQLite can write only to paths that are UTF-8"));
    let name = name.map_err(HomeError::io(to))?;
    let copied = || {
        let connection = Connection::open_with_flags(from, OpenFlags::SQLITE_OPEN_READ_WRITE)?;
        connection.busy_timeout(std::time::Duration::from_secs(5))?;
        connection.set_db_config(rusqlite::config::DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true)?;
        connection.execute("VACUUM INTO ?1", [name]).map(drop)
    };
    copied().map_err(|error: rusqlite::Error| HomeError::Io { path: from.into(), cause: Arc::new(error) })?;
    file.sync_all().map_err(HomeError::io(to))
}

/// Checks every fact of a copy.
fn check(copy: &Path) -> Result<Mark, HomeError> {
    verify_copy(copy).map_err(|cause| HomeError::Journal { path: copy.into(), cause })
}

/// The copy's own witness: it says what the copy holds.
fn write_witness(folder: &Path, end: Mark) -> Result<(), HomeError> {
    let path = folder.join(WITNESS_FILE);
    Witness::create(&path, end).map(drop).map_err(HomeError::io(&path))
}

/// Copies a file, makes it durable, and returns the size and SHA-256 of what was copied.
fn copy(from: &Path, to: &Path) -> Result<(u64, String), HomeError> {
    let mut source = File::open(from).map_err(HomeError::io(from))?;
    let options = File::options().write(true).create_new(true).mode(0o600).open(to);
    let mut target = options.map_err(HomeError::io(to))?;
    let hashed = hash(&mut source, |bytes| target.write_all(bytes)).map_err(HomeError::io(from))?;
    target.sync_all().map_err(HomeError::io(to))?;
    Ok(hashed)
}

fn write(path: &Path, bytes: &[u8]) -> Result<(), HomeError> {
    let file = File::options().write(true).create_new(true).mode(0o600).open(path);
    file.and_then(|mut file| file.write_all(bytes).and_then(|()| file.sync_all())).map_err(HomeError::io(path))
}

fn hash(source: &mut File, mut each: impl FnMut(&[u8]) -> io::Result<()>) -> io::Result<(u64, String)> {
    let (mut hash, mut bytes, mut buffer) = (Sha256::new(), 0, vec![0; 64 << 10]);
    loop {
        let read = source.read(&mut buffer)?;
        if read == 0 {
            return Ok((bytes, to_hex(&hash.finalize())));
        }
        hash.update(&buffer[..read]);
        each(&buffer[..read])?;
        bytes += read as u64;
    }
}

/// The names of the checkpoints in a folder, and of the key beside them.
fn checkpoints(folder: &Path) -> io::Result<Vec<String>> {
    let entries = match fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error),
    };
    let mut names = Vec::new();
    for entry in entries {
        let entry = entry?;
        // What is not whole yet has another ending.
        let name = entry.file_name().into_string().ok().filter(|name| name.ends_with(".txt"));
        if let Some(name) = name
            && entry.file_type()?.is_file()
        {
            names.push(name);
        }
    }
    names.sort();
    Ok(names)
}

/// All files of a copy, in order of their paths.
fn entries(folder: &Path) -> Result<Vec<Entry>, HomeError> {
    let mut paths: Vec<String> = [JOURNAL_FILE, WITNESS_FILE, KEY_FILE]
        .map(String::from)
        .into_iter()
        .filter(|name| folder.join(name).exists())
        .collect();
    let archive = folder.join(ARCHIVE_FOLDER);
    for file in archive::files(&archive).map_err(HomeError::io(&archive))? {
        let name = file.path.file_name().unwrap_or_default().to_string_lossy();
        paths.push(format!("{ARCHIVE_FOLDER}/{name}"));
    }
    let signed = folder.join(CHECKPOINTS_FOLDER);
    let names = checkpoints(&signed).map_err(HomeError::io(&signed))?;
    paths.extend(names.into_iter().map(|name| format!("{CHECKPOINTS_FOLDER}/{name}")));
    paths.sort();
    let entry = |path: String| {
        let full = folder.join(&path);
        let hashed = File::open(&full).and_then(|mut file| hash(&mut file, |_| Ok(())));
        let (bytes, sha256) = hashed.map_err(HomeError::io(&full))?;
        Ok(Entry { path, bytes, sha256 })
    };
    paths.into_iter().map(entry).collect()
}

fn read_manifest(from: &Path) -> Result<Manifest, HomeError> {
    let altered = |what: &str| HomeError::Altered { path: from.into(), what: what.into() };
    let path = from.join(MANIFEST);
    let mut text = Vec::new();
    match File::open(&path).and_then(|file| file.take(MANIFEST_BYTES_MAX).read_to_end(&mut text)) {
        Ok(_) => {}
        Err(error) if error.kind() == ErrorKind::NotFound => return Err(altered("it has no `manifest.json`")),
        Err(error) => return Err(HomeError::io(&path)(error)),
    }
    let json: serde_json::Value =
        serde_json::from_slice(&text).map_err(|_| altered("its `manifest.json` cannot be read"))?;
    match json["format"].as_u64().and_then(|format| u32::try_from(format).ok()) {
        Some(found) if found > FORMAT => return Err(HomeError::TooNew { path: from.into(), found }),
        _ => {}
    }
    let manifest: Manifest = serde_json::from_value(json).map_err(|_| altered("its `manifest.json` cannot be read"))?;
    match manifest.files.iter().any(|entry| entry.path == JOURNAL_FILE) {
        true => Ok(manifest),
        false => Err(altered("its manifest names no journal")),
    }
}

fn make_folder(path: &Path) -> Result<(), HomeError> {
    DirBuilder::new().recursive(true).mode(0o700).create(path).map_err(HomeError::io(path))
}

fn is_missing(cause: &Cause) -> bool {
    cause.downcast_ref::<io::Error>().is_some_and(|error| error.kind() == ErrorKind::NotFound)
}

fn summary(manifest: &Manifest) -> BackedUp {
    let key = manifest.files.iter().any(|entry| entry.path == KEY_FILE);
    BackedUp {
        end: manifest.end,
        at: manifest.made_at,
        files: manifest.files.len(),
        bytes: manifest.files.iter().map(|entry| entry.bytes).sum(),
        key: if key { KeyInBackup::Included } else { KeyInBackup::LeftOut },
    }
}
