//! Log files of programs: opened for appending, and rotated by copying and truncating, since the programs hold the
//! descriptor.
//!
//! Invariant: one step of a rotation copies at most [`CHUNK_BYTES`], so that a large log never delays a reflex.

use std::fs::File;
use std::io::{self, Read, Seek};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, OFlags};

use crate::launch::Log;

/// How much is copied before the keeper looks for other work again: less than a millisecond.
const CHUNK_BYTES: u64 = 1024 * 1024;

/// Opens a log for appending; makes it with mode 0600. A symbolic link is refused, because programs of other users may
/// write to the same folder.
pub(crate) fn open(path: &Path) -> io::Result<OwnedFd> {
    let flags = OFlags::WRONLY | OFlags::APPEND | OFlags::CREATE | OFlags::CLOEXEC | OFlags::NOFOLLOW | OFlags::NOCTTY;
    // Without NONBLOCK, opening a pipe that nobody reads would stop the keeper.
    let file = rustix::fs::open(path, flags | OFlags::NONBLOCK, Mode::RUSR | Mode::WUSR)?;
    rustix::fs::fcntl_setfl(&file, OFlags::APPEND)?;
    Ok(file)
}

/// A rotation under way.
pub(crate) struct Rotation {
    from: File,
    to: File,
    unfinished: PathBuf,
    finished: PathBuf,
}

/// What a step came to.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Progress {
    More,
    Done,
}

impl Rotation {
    /// Begins one if the log has outgrown its limit.
    pub(crate) fn begin(log: &Log) -> io::Result<Option<Self>> {
        let size = rustix::fs::fstat(&log.file)?.st_size;
        if u64::try_from(size).unwrap_or(0) <= log.bytes_max.max(1) {
            return Ok(None);
        }
        // By the descriptor: the path may name another file by now.
        let from = File::options().read(true).write(true).open(format!("/proc/self/fd/{}", log.file.as_raw_fd()))?;
        let with_suffix = |suffix: &str| {
            let mut name = log.path.as_os_str().to_owned();
            name.push(suffix);
            PathBuf::from(name)
        };
        let (unfinished, finished) = (with_suffix(".1.new"), with_suffix(".1"));
        let flags = OFlags::NOFOLLOW.bits().cast_signed();
        let to = File::options()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .custom_flags(flags)
            .open(&unfinished)?;
        Ok(Some(Self { from, to, unfinished, finished }))
    }

    /// Copies a chunk; after the last one truncates the log and puts the copy in place.
    pub(crate) fn step(&mut self) -> io::Result<Progress> {
        let result = self.try_step();
        if result.is_err() {
            let _ = std::fs::remove_file(&self.unfinished); // a full disk needs the room; the log itself is untouched
        }
        result
    }

    fn try_step(&mut self) -> io::Result<Progress> {
        io::copy(&mut Read::by_ref(&mut self.from).take(CHUNK_BYTES), &mut self.to)?;
        // Whatever is written between this look and the truncation is lost: some microseconds, once in a rotation.
        if self.from.stream_position()? < self.from.metadata()?.len() {
            return Ok(Progress::More);
        }
        self.from.set_len(0)?;
        std::fs::rename(&self.unfinished, &self.finished)?;
        Ok(Progress::Done)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_log_is_copied_in_chunks_and_truncated() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("log");
        let content: Vec<u8> = (0..3 * CHUNK_BYTES + 5).map(|i| u8::try_from(i % 251).unwrap()).collect();
        std::fs::write(&path, &content).unwrap();
        let log = |bytes_max| Log { path: path.as_path().into(), file: open(&path).unwrap(), bytes_max };
        assert!(Rotation::begin(&log(4 * CHUNK_BYTES)).unwrap().is_none());
        let mut rotation = Rotation::begin(&log(CHUNK_BYTES)).unwrap().unwrap();
        let mut steps = 1;
        while rotation.step().unwrap() == Progress::More {
            steps += 1;
        }
        assert_eq!(steps, 4);
        assert_eq!(std::fs::read(folder.path().join("log.1")).unwrap(), content);
        assert_eq!(std::fs::metadata(&path).unwrap().len(), 0);
        assert!(!folder.path().join("log.1.new").exists());
    }

    #[test]
    fn links_are_refused_and_pipes_do_not_block() {
        let folder = tempfile::tempdir().unwrap();
        let link = folder.path().join("link");
        std::os::unix::fs::symlink("/etc/passwd", &link).unwrap();
        assert!(open(&link).is_err());
        let pipe = folder.path().join("pipe");
        rustix::fs::mkfifoat(rustix::fs::CWD, &pipe, Mode::RWXU).unwrap();
        assert!(open(&pipe).is_err());
    }
}
