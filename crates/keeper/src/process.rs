//! Reads what the kernel tells about processes under /proc.
//!
//! Invariant: nothing here trusts a process id alone; callers compare start ticks as well.

use std::io;
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, OFlags};

use crate::launch::{INCARNATION_MARKER, INSTANCE_MARKER};

/// The kernel's USER_HZ: fixed at 100 for every architecture that Rust's standard library supports on Linux.
pub(crate) const TICKS_PER_SECOND: u64 = 100;
/// Environments larger than this are read no further. The kernel allows 2 MiB, in practice 20 KiB is much.
const ENVIRON_BYTES_MAX: usize = 1024 * 1024;

/// From `/proc/PID/stat`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Stat {
    /// A zombie, or on its way out: dead in every sense that matters here.
    pub(crate) dead: bool,
    pub(crate) parent: u32,
    pub(crate) session: u32,
    /// Clock ticks after boot at which it was made.
    pub(crate) start_ticks: u64,
    /// In wait(2)'s encoding, once it is dead; 0 if the reader is not permitted to see it.
    pub(crate) wait_status: i32,
}

/// What the environment of a process tells about whom it belongs to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Environ {
    /// It has both markers.
    Marked {
        /// The value of `OSTLER_INSTANCE`.
        owner: String,
        /// The value of `OSTLER_INCARNATION`.
        incarnation: String,
    },
    /// It is intact and has no markers.
    Unmarked,
    /// The program has overwritten it, as servers do that change their title.
    Clobbered,
    /// It cannot be read.
    Unreadable,
}

/// Reads `/proc/PID/stat`. An error means that there is no such process.
pub(crate) fn stat(pid: u32) -> io::Result<Stat> {
    let mut buffer = [0u8; 1024]; // 52 numbers of at most 20 digits, in practice some 300 bytes
    let file = rustix::fs::open(format!("/proc/{pid}/stat"), OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())?;
    let length = rustix::io::read(&file, &mut buffer)?;
    parse_stat(&buffer[..length]).ok_or_else(|| io::Error::from(io::ErrorKind::InvalidData))
}

fn parse_stat(text: &[u8]) -> Option<Stat> {
    // The second field is the program's name in parentheses, which may itself have spaces and parentheses.
    let after_name = text.iter().rposition(|byte| *byte == b')')? + 1;
    let mut fields = std::str::from_utf8(&text[after_name..]).ok()?.split_ascii_whitespace();
    let state = fields.next()?; // field 3
    let parent = fields.next()?; // field 4
    let session = fields.nth(1)?; // field 6
    let start_ticks = fields.nth(15)?; // field 22
    let wait_status = fields.nth(29); // field 52
    Some(Stat {
        dead: matches!(state, "Z" | "X" | "x"),
        parent: parent.parse().ok()?,
        session: session.parse().ok()?,
        start_ticks: start_ticks.parse().ok()?,
        wait_status: wait_status.and_then(|text| text.parse().ok()).unwrap_or(0),
    })
}

/// Reads the markers. `buffer` is scratch space.
pub(crate) fn environ(pid: u32, buffer: &mut Vec<u8>) -> Environ {
    buffer.clear();
    let path = format!("/proc/{pid}/environ");
    let Ok(file) = rustix::fs::open(path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty()) else {
        return Environ::Unreadable;
    };
    while buffer.len() < ENVIRON_BYTES_MAX {
        buffer.reserve(8192);
        match rustix::io::read(&file, rustix::buffer::spare_capacity(buffer)) {
            Ok(0) => break,
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(_) => return Environ::Unreadable,
        }
    }
    parse_environ(buffer)
}

fn parse_environ(bytes: &[u8]) -> Environ {
    let value = |name: &str| {
        bytes.split(|byte| *byte == 0).find_map(|entry| {
            let value = entry.strip_prefix(name.as_bytes())?.strip_prefix(b"=")?;
            Some(String::from_utf8_lossy(value).into_owned())
        })
    };
    match (value(INSTANCE_MARKER), value(INCARNATION_MARKER)) {
        (Some(owner), Some(incarnation)) => Environ::Marked { owner, incarnation },
        // An intact environment has no empty entry; overwriting one leaves padding of NUL bytes behind.
        _ if bytes.first() == Some(&0) || bytes.windows(2).any(|pair| pair == [0, 0]) => Environ::Clobbered,
        _ => Environ::Unmarked,
    }
}

/// The working directory.
pub(crate) fn folder(pid: u32) -> Option<PathBuf> {
    std::fs::read_link(format!("/proc/{pid}/cwd")).ok()
}

/// Every process id there is.
pub(crate) fn all() -> io::Result<Vec<u32>> {
    let entries = std::fs::read_dir("/proc")?;
    Ok(entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok()).collect())
}

/// What differs from one boot of the machine to the next.
pub(crate) fn boot_id() -> io::Result<String> {
    Ok(std::fs::read_to_string(Path::new("/proc/sys/kernel/random/boot_id"))?.trim().to_owned())
}

/// Clock ticks since boot, comparable with [`Stat::start_ticks`].
pub(crate) fn ticks_now() -> u64 {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
    let seconds = u64::try_from(time.tv_sec).unwrap_or(0);
    seconds * TICKS_PER_SECOND + u64::try_from(time.tv_nsec).unwrap_or(0) * TICKS_PER_SECOND / 1_000_000_000
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stat_survives_hostile_names() {
        let numbers: Vec<String> = (4..=52).map(|field| field.to_string()).collect();
        let line = format!("7 (a) Z (b) ) S {}\n", numbers.join(" "));
        let expected = Stat { dead: false, parent: 4, session: 6, start_ticks: 22, wait_status: 52 };
        assert_eq!(parse_stat(line.as_bytes()), Some(expected));
        assert_eq!(parse_stat(b"7 (a"), None);
        assert_eq!(parse_stat(b""), None);
    }

    #[test]
    fn own_stat_is_plausible() {
        let own = stat(std::process::id()).unwrap();
        assert!(!own.dead && own.start_ticks > 0 && own.start_ticks <= ticks_now());
        assert!(stat(0).is_err());
    }

    #[test]
    fn environments_are_told_apart() {
        let marked = Environ::Marked { owner: "web-1".into(), incarnation: "x-1".into() };
        assert_eq!(parse_environ(b"A=1\0OSTLER_INCARNATION=x-1\0OSTLER_INSTANCE=web-1\0"), marked);
        assert_eq!(parse_environ(b"A=1\0XOSTLER_INSTANCE=web-1\0"), Environ::Unmarked);
        assert_eq!(parse_environ(b""), Environ::Unmarked);
        assert_eq!(parse_environ(b"\0\0\0\0"), Environ::Clobbered);
        assert_eq!(parse_environ(b"of the title\0\0\0"), Environ::Clobbered);
    }
}
