//! A disk that is full on purpose, for drills: the room that is left where an instance keeps its data is taken, and given
//! back.
//!
//! The room is held by a file without a name that a small process of its own has open. So the kernel gives it back when
//! that process ends, however it ends, and when the machine does. As with what stands still, a note in the home, which
//! the process holds locked, tells that it is there; [`crate::faults::release`] ends it by taking the note away.
//!
//! Invariant: only a filesystem is filled that is mounted in the instance's own folder, and nowhere else: nobody but the
//! instance lives there. One that is in memory is only filled if little of that is left in it.

use std::fs::{self, File};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::thread::sleep;
use std::time::Instant;

use ostler_model::time::Timestamp;
use rustix::fs::{FallocateFlags, Mode, OFlags, fallocate, fstatfs, fstatvfs};

use crate::faults::{LOOK_EVERY, STILL_MAX, is_linked, now, take_note};

/// With less than so many bytes left a disk counts as full: servers that cannot write a block fail.
pub const FULL_BELOW: u64 = 64 * 1024;
/// A filesystem in memory takes what it holds from everybody: one with more room than this is not filled.
const MEMORY_MAX: u64 = 256 * 1024 * 1024;
/// A disk on which room comes and goes faster than this cannot be filled.
const TRIES_MAX: usize = 200;
/// `TMPFS_MAGIC` and `RAMFS_MAGIC`, from `linux/magic.h`.
const IN_MEMORY: [i64; 2] = [0x0102_1994, 0x8584_58f6];

/// What is to be filled.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Filling {
    /// Where the instance writes.
    pub folder: PathBuf,
    /// The instance's own folder, in which the disk has to be mounted.
    pub own: PathBuf,
    /// Until when, at most [`STILL_MAX`] from now.
    pub until: Timestamp,
}

/// Takes all room that is left, calls `it_is`, and keeps it full; returns when the time is over or the note is taken
/// away. The room is there again then.
///
/// # Errors
/// If the disk is not the instance's alone, somebody else holds the note, or the system does not allow it. Nothing is
/// taken then.
pub fn fill(note: &Path, what: &Filling, it_is: impl FnOnce()) -> io::Result<()> {
    let end = Instant::now() + what.until.since(now()).min(STILL_MAX);
    let noted = take_note(note)?;
    let filled = hold(&noted, what, end, it_is);
    if is_linked(&noted) {
        fs::remove_file(note)?;
    }
    filled
}

fn hold(noted: &File, what: &Filling, end: Instant, it_is: impl FnOnce()) -> io::Result<()> {
    let table = fs::read("/proc/self/mountinfo")?;
    let own = fs::canonicalize(&what.own)?;
    if !is_mounted_in(&table, fs::metadata(&what.folder)?.dev(), &own) {
        return Err(io::Error::other(format!(
            "its disk is not its alone, and others would suffer: mount one of its own in {}",
            own.display()
        )));
    }
    let flags = OFlags::TMPFILE | OFlags::RDWR | OFlags::CLOEXEC;
    let ballast = File::from(rustix::fs::open(&what.folder, flags, Mode::RUSR | Mode::WUSR)?);
    if IN_MEMORY.contains(&fstatfs(&ballast)?.f_type) && room(&ballast)? > MEMORY_MAX {
        return Err(io::Error::other(format!(
            "its disk is in memory, and has more than {} MiB left: others would have to go without",
            MEMORY_MAX >> 20
        )));
    }
    let mut length = 0;
    if !take(&ballast, &mut length)? {
        return Err(io::Error::other("it cannot be filled: its room does not become less"));
    }
    it_is();
    while Instant::now() < end && is_linked(noted) {
        sleep(LOOK_EVERY);
        take(&ballast, &mut length)?; // what was given back meanwhile
    }
    Ok(())
}

/// Takes what room there is. Whether there is none left.
fn take(ballast: &File, length: &mut u64) -> io::Result<bool> {
    let block = fstatvfs(ballast)?.f_frsize.max(512);
    let mut ask = room(ballast)?;
    for _ in 0..TRIES_MAX {
        let left = room(ballast)?;
        if left < FULL_BELOW {
            return Ok(true);
        }
        ask = (ask.min(left) / block * block).max(block);
        match fallocate(ballast, FallocateFlags::empty(), *length, ask) {
            Ok(()) => *length += ask,
            // It also takes room to note down what was taken.
            Err(rustix::io::Errno::NOSPC) if ask > block => ask /= 2,
            Err(rustix::io::Errno::NOSPC) => return Ok(true),
            Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(false)
}

/// How many bytes others can still take.
fn room(file: &File) -> io::Result<u64> {
    let space = fstatvfs(file)?;
    Ok(space.f_bavail.saturating_mul(space.f_frsize))
}

/// Whether the table of mounts says that the filesystem with this device number is mounted once, as a whole, and in this
/// folder or below it.
fn is_mounted_in(table: &[u8], device: u64, folder: &Path) -> bool {
    let (major, minor) = (rustix::fs::major(device), rustix::fs::minor(device));
    let device = format!("{major}:{minor}");
    let mut found = table.split(|byte| *byte == b'\n').filter_map(|line| {
        let mut fields = line.split(|byte| *byte == b' ').skip(2);
        let (number, root, point) = (fields.next()?, fields.next()?, fields.next()?);
        (number == device.as_bytes()).then_some((root, point))
    });
    match (found.next(), found.next()) {
        (Some((b"/", point)), None) => Path::new(std::ffi::OsStr::from_bytes(&unescaped(point))).starts_with(folder),
        _ => false,
    }
}

/// Blanks, line ends and backslashes are written as three octal digits.
fn unescaped(text: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some((&byte, after)) = rest.split_first() {
        let code = after.get(..3).and_then(|digits| std::str::from_utf8(digits).ok());
        match code.and_then(|digits| u8::from_str_radix(digits, 8).ok()).filter(|_| byte == b'\\') {
            Some(meant) => {
                out.push(meant);
                rest = &after[3..];
            }
            None => {
                out.push(byte);
                rest = after;
            }
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    const TABLE: &[u8] = b"22 1 8:1 / / rw - ext4 /dev/a rw\n\
        30 22 8:2 / /home/o/instances/db-1/data rw - ext4 /dev/b rw\n\
        31 22 8:3 / /home/o/instances/a\\040b-1 rw - ext4 /dev/c rw\n\
        32 22 8:4 / /home/o/instances/web-1 rw - ext4 /dev/d rw\n\
        33 22 8:4 / /srv rw - ext4 /dev/d rw\n\
        34 22 8:5 /part /home/o/instances/part-1 rw - ext4 /dev/e rw\n\
        35 22 8:6 / /home/o/instances rw - ext4 /dev/f rw\n\
        rubbish\n";

    #[test]
    fn only_a_disk_that_is_the_instances_alone_is_filled() {
        for (minor, folder, alone) in [
            (2, "/home/o/instances/db-1", true),
            (2, "/home/o/instances/db-10", false),
            (3, "/home/o/instances/a b-1", true),
            (1, "/home/o/instances/db-1", false),
            (4, "/home/o/instances/web-1", false),
            (5, "/home/o/instances/part-1", false),
            (6, "/home/o/instances/db-1", false),
            (7, "/home/o/instances/db-1", false),
        ] {
            let device = rustix::fs::makedev(8, minor);
            assert_eq!(is_mounted_in(TABLE, device, Path::new(folder)), alone, "{minor} {folder}");
        }
    }

    #[test]
    fn what_is_shared_with_others_is_refused_and_nothing_is_left() {
        let folder = tempfile::tempdir().unwrap();
        let note = folder.path().join("note");
        let until = Timestamp(i64::MAX / 2);
        let what = Filling { folder: folder.path().to_owned(), own: folder.path().to_owned(), until };
        let refused = fill(&note, &what, || panic!("it is filled")).unwrap_err();
        assert!(refused.to_string().contains("its disk is not its alone"), "{refused}");
        assert!(!note.exists());
    }

    #[test]
    fn blanks_in_paths_are_read() {
        for (text, meant) in [("/a\\040b\\134", "/a b\\"), ("/a\\0", "/a\\0"), ("/a\\999", "/a\\999"), ("", "")] {
            assert_eq!(unescaped(text.as_bytes()), meant.as_bytes());
        }
    }
}
