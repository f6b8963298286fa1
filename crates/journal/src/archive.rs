//! Old facts in files: JSON Lines, one fact a line, that people and other tools can read without ostler.
//!
//! Invariants: a file is named by the facts in it, appears complete or not at all, and ends with a line that says how
//! many facts it holds and the chain's value before and after them, so that one chain spans all files and the
//! database. Files beyond the database's begin are leftovers of an interrupted archiving and are never read.

use std::fs::{self, DirBuilder, File};
use std::io::{self, BufWriter, ErrorKind, Write};
use std::ops::ControlFlow;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use ostler_model::ids::Position;
use ostler_model::time::Timestamp;
use serde::{Deserialize, Serialize};

use crate::Record;
use crate::chain::{Chain, Mark, from_hex, to_hex};
use crate::error::{AppendError, Cause, Damage, ReadError};

/// The format of the last line.
const FORMAT: u32 = 1;
/// Bytes that are read of one file: some ten times what [`crate::Sqlite::archive`] puts into one.
const FILE_BYTES_MAX: u64 = 1 << 30;

/// Why facts were not archived. They are still in the database.
#[derive(Clone, Debug, thiserror::Error)]
pub enum ArchiveError {
    /// A file of the archive cannot be written.
    #[error("cannot archive old facts into `{}`", path.display())]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// What the operating system said.
        #[source]
        cause: Cause,
    },
    /// The facts to archive, or the file just written, do not read back as they should.
    #[error("cannot archive old facts")]
    Read(#[source] ReadError),
    /// The database did not let them go.
    #[error("cannot archive old facts")]
    Remove(#[source] AppendError),
}

impl ArchiveError {
    /// What a person can do.
    pub fn remedy(&self) -> String {
        match self {
            Self::Io { path, .. } => format!(
                "Check the disk and the permissions of `{}`. Nothing is lost: the facts stay in the database, and \
                 archiving is tried again.",
                path.display()
            ),
            Self::Read(error) => error.remedy(),
            Self::Remove(error) => error.remedy(),
        }
    }
}

/// One fact's line. `body` is the envelope as text; one that is not UTF-8 is in `hex` instead.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Line {
    position: u64,
    at: Timestamp,
    kind: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    body: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    hex: Option<String>,
}

/// The last line of a file.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Trailer {
    archive: u32,
    from: u64,
    to: u64,
    count: u64,
    chain_before: String,
    chain: String,
}

/// One file of the archive, by its name.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct ArchiveFile {
    pub(crate) from: u64,
    pub(crate) to: u64,
    pub(crate) path: PathBuf,
}

impl ArchiveFile {
    /// The file in `folder` that holds the facts `from` to `to`.
    pub(crate) fn named(folder: &Path, from: u64, to: u64) -> Self {
        Self { from, to, path: folder.join(format!("facts-{from:012}-{to:012}.jsonl")) }
    }

    fn parse(path: PathBuf) -> Option<Self> {
        let name = path.file_name()?.to_str()?;
        let (from, to) = name.strip_prefix("facts-")?.strip_suffix(".jsonl")?.split_once('-')?;
        let (from, to) = (from.parse().ok()?, to.parse().ok()?);
        Some(Self { from, to, path })
    }

    /// The name under which it is written before it is complete.
    pub(crate) fn unfinished(&self) -> PathBuf {
        self.path.with_extension("jsonl-new")
    }

    /// Writes `records`, which follow `before`, makes them durable under the unfinished name, and returns the mark
    /// after them.
    pub(crate) fn write(&self, before: Mark, records: &[Record]) -> io::Result<Mark> {
        let file = File::options().write(true).create(true).truncate(true).mode(0o600).open(self.unfinished())?;
        let mut out = BufWriter::new(file);
        let mut mark = before;
        for record in records {
            mark = mark.next(record.at, &record.kind, &record.body);
            let text = std::str::from_utf8(&record.body).ok();
            let line = Line {
                position: record.position.0,
                at: record.at,
                kind: record.kind.clone(),
                body: text.map(String::from),
                hex: text.is_none().then(|| to_hex(&record.body)),
            };
            serde_json::to_writer(&mut out, &line)?;
            out.write_all(b"\n")?;
        }
        let trailer = Trailer {
            archive: FORMAT,
            from: self.from,
            to: self.to,
            count: records.len() as u64,
            chain_before: to_hex(&before.chain.0),
            chain: to_hex(&mark.chain.0),
        };
        serde_json::to_writer(&mut out, &trailer)?;
        out.write_all(b"\n")?;
        out.into_inner().map_err(io::IntoInnerError::into_error)?.sync_all()?;
        Ok(mark)
    }

    /// Reads and checks the whole file: its facts, and the marks before and after them.
    pub(crate) fn read(&self) -> Result<(Mark, Vec<Record>, Mark), ReadError> {
        let io = |cause: io::Error| ReadError::Io { path: self.path.clone(), cause: Arc::new(cause) };
        let bytes = fs::metadata(&self.path).map_err(io)?.len();
        if bytes > FILE_BYTES_MAX {
            return Err(self.damaged(self.from, format!("it has {bytes} bytes")));
        }
        let text = match fs::read_to_string(&self.path) {
            Ok(text) => text,
            Err(error) if error.kind() == ErrorKind::InvalidData => {
                return Err(self.damaged(self.from, "it is not text"));
            }
            Err(error) => return Err(io(error)),
        };
        let mut lines = text.lines();
        let trailer = lines.next_back().and_then(|line| serde_json::from_str::<Trailer>(line).ok());
        let trailer = trailer.ok_or_else(|| self.damaged(self.from, "its last line is not the summary"))?;
        let before = chain(&trailer.chain_before).ok_or_else(|| self.damaged(self.from, "its summary is damaged"))?;
        let before = Mark { position: Position(self.from.saturating_sub(1)), chain: before };
        let (mut mark, mut records) = (before, Vec::new());
        for line in lines {
            let record = record(line).filter(|record| record.position.0 == mark.position.0 + 1);
            let record = record.ok_or_else(|| self.damaged(mark.position.0 + 1, "its line is damaged"))?;
            mark = mark.next(record.at, &record.kind, &record.body);
            records.push(record);
        }
        let expected = (FORMAT, self.from, self.to, self.to.checked_sub(self.from).map(|less| less + 1));
        let found = (trailer.archive, trailer.from, trailer.to, Some(trailer.count));
        if found != expected || records.len() as u64 != trailer.count || chain(&trailer.chain) != Some(mark.chain) {
            return Err(self.damaged(self.from, "its facts do not match its summary"));
        }
        Ok((before, records, mark))
    }

    fn damaged(&self, first_bad: u64, what: impl std::fmt::Display) -> ReadError {
        let what = format!("`{}`: {what}", self.path.display());
        ReadError::Damaged(Damage::Altered { first_bad: Position(first_bad), what })
    }
}

/// The archive's files, in order; none if there is no such folder.
pub(crate) fn files(folder: &Path) -> io::Result<Vec<ArchiveFile>> {
    let entries = match fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error),
    };
    let paths = entries.map(|entry| entry.map(|entry| entry.path())).collect::<io::Result<Vec<_>>>()?;
    let mut files: Vec<ArchiveFile> = paths.into_iter().filter_map(ArchiveFile::parse).collect();
    files.sort();
    Ok(files)
}

/// The archived facts after `after` up to and including `to`, checked.
pub(crate) fn read(folder: &Path, after: Position, to: Position) -> Result<Vec<Record>, ReadError> {
    let listed = list(folder)?;
    let (mut records, mut last) = (Vec::new(), after.0);
    while last < to.0 {
        let file = listed.iter().find(|file| file.from <= last + 1 && last < file.to);
        let (_, found, _) = file.ok_or_else(|| missing(folder, last + 1))?.read()?;
        records.extend(found.into_iter().filter(|record| record.position.0 > last && record.position <= to));
        last = records.last().map_or(last, |record: &Record| record.position.0);
    }
    Ok(records)
}

/// Checks that the archive's chain leads from the first fact to `begin`, where the database goes on.
pub(crate) fn verify(folder: &Path, begin: Mark) -> Result<(), ReadError> {
    walk(folder, begin, |_| ControlFlow::Continue(()))
}

/// The same, and shows every fact, oldest first, until `visit` breaks off. A file is checked as a whole before a fact of
/// it is shown.
pub(crate) fn walk(
    folder: &Path,
    begin: Mark,
    mut visit: impl FnMut(&Record) -> ControlFlow<()>,
) -> Result<(), ReadError> {
    let listed = list(folder)?;
    let mut mark = Mark::START;
    while mark.position < begin.position {
        let first = mark.position.0 + 1;
        let file = listed.iter().find(|file| file.from == first && file.to <= begin.position.0);
        let file = file.ok_or_else(|| missing(folder, first))?;
        let (before, records, after) = file.read()?;
        if before != mark {
            return Err(file.damaged(first, "its chain does not follow from the facts before it"));
        }
        if records.iter().try_for_each(&mut visit).is_break() {
            return Ok(());
        }
        mark = after;
    }
    if mark != begin {
        return Err(ReadError::Damaged(Damage::Altered {
            first_bad: Position(1),
            what: format!("the archive in `{}` does not lead to where the database begins", folder.display()),
        }));
    }
    Ok(())
}

/// Makes the archive's folder, which only its owner may enter.
pub(crate) fn make_folder(folder: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(folder)
}

fn list(folder: &Path) -> Result<Vec<ArchiveFile>, ReadError> {
    files(folder).map_err(|cause| ReadError::Io { path: folder.into(), cause: Arc::new(cause) })
}

fn missing(folder: &Path, first: u64) -> ReadError {
    let what = format!("their file is missing in the archive `{}`", folder.display());
    ReadError::Damaged(Damage::Altered { first_bad: Position(first), what })
}

fn record(line: &str) -> Option<Record> {
    let line: Line = serde_json::from_str(line).ok()?;
    let body = match (line.body, line.hex) {
        (Some(text), None) => text.into_bytes(),
        (None, Some(hex)) => from_hex(&hex)?,
        (Some(_), Some(_)) | (None, None) => return None,
    };
    Some(Record { position: Position(line.position), at: line.at, kind: line.kind, body })
}

fn chain(hex: &str) -> Option<Chain> {
    Chain::from_bytes(&from_hex(hex)?)
}
