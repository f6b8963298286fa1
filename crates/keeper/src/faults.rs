//! Faults that are caused on purpose, for drills, to processes of this machine: one is killed, or an instance's
//! processes stand still.
//!
//! What stands still has to go on whatever becomes of ostler. So a small process of its own sees to that
//! ([`hold_still`]): neither keeper nor manager is needed for its end, and it ends by itself when its time is over. A
//! note in the home, which it holds locked, tells who stands still; taking the note away ends it ([`release`]), and if
//! it was killed, whoever takes the note away does what was left to do.
//!
//! Invariant: a process is touched only if it is the one that was meant, by its start ticks, or descends from that one.

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::Path;
use std::thread::sleep;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use ostler_model::time::Timestamp;
use rustix::event::{PollFd, PollFlags, poll};
use rustix::fs::{FlockOperation, flock};
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
use serde::{Deserialize, Serialize};

use crate::process;

/// Nothing stands still for longer than this, whatever is asked and whatever clocks say.
pub const STILL_MAX: Duration = Duration::from_secs(600);
/// Whether the note is still there is looked at so often: it is what ends a drill early.
pub(crate) const LOOK_EVERY: Duration = Duration::from_millis(20);
/// Who is asked to end by taking its note away does so within this.
const RELEASED_WITHIN: Duration = Duration::from_secs(5);
/// A tree that still grows after so many looks cannot be stopped.
const LOOKS_MAX: usize = 50;

/// A process, by what tells it from every other of this boot.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Meant {
    /// Process id.
    pub pid: u32,
    /// Field 22 of `/proc/PID/stat`, in clock ticks since boot.
    pub start_ticks: u64,
}

/// How an instance's processes are to stand still.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Standstill {
    /// The main process; all that descend from it stand still with it.
    pub process: Meant,
    /// Until when, at most [`STILL_MAX`] from now.
    pub until: Timestamp,
    /// They go on now and then; never before the end if `None`.
    pub rhythm: Option<Rhythm>,
}

/// Standing still and going on, in turns.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rhythm {
    /// So long they stand still.
    pub still: Duration,
    /// So long they go on.
    pub going: Duration,
}

/// Kills the process; false if it is not there any more.
///
/// # Errors
/// If the system does not allow it.
pub fn kill(meant: Meant) -> io::Result<bool> {
    match open(meant)? {
        Some(process) => match pidfd_send_signal(&process, Signal::KILL) {
            Ok(()) => Ok(true),
            Err(rustix::io::Errno::SRCH) => Ok(false),
            Err(error) => Err(error.into()),
        },
        None => Ok(false),
    }
}

/// Makes the processes stand still and calls `they_do`; returns when the time is over, the main process is gone, or the
/// note is taken away. Nothing stands still any more then.
///
/// # Errors
/// If somebody else holds the note, the process is not there, or the system does not allow it.
pub fn hold_still(note: &Path, what: Standstill, they_do: impl FnOnce()) -> io::Result<()> {
    let left = what.until.since(now()).min(STILL_MAX);
    let end = Instant::now() + left;
    let mut file = take_note(note)?;
    // Before anything is done: whoever finds this knows who may stand still.
    file.write_all(&serde_json::to_vec(&what.process)?)?;
    file.sync_all()?;
    let held = hold(&file, what, end, they_do);
    if is_linked(&file) {
        fs::remove_file(note)?;
    }
    held
}

/// Takes the note, which must be nobody else's, and empties it.
pub(crate) fn take_note(note: &Path) -> io::Result<File> {
    let file = OpenOptions::new().create(true).truncate(false).read(true).write(true).mode(0o600).open(note)?;
    flock(&file, FlockOperation::NonBlockingLockExclusive)?;
    file.set_len(0)?;
    Ok(file)
}

/// Ends what holds the note, if there is anything, and sees to it that nothing of it is left.
///
/// # Errors
/// If it does not end in time, or the system does not allow it.
pub fn release(note: &Path) -> io::Result<()> {
    let mut file = match OpenOptions::new().read(true).write(true).open(note) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error),
    };
    let mut text = Vec::new();
    (&mut file).take(1024).read_to_end(&mut text)?;
    match fs::remove_file(note) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        Ok(()) | Err(_) => {}
    }
    let deadline = Instant::now() + RELEASED_WITHIN;
    while flock(&file, FlockOperation::NonBlockingLockExclusive).is_err() {
        if Instant::now() > deadline {
            return Err(io::Error::new(io::ErrorKind::TimedOut, "who makes it stand still does not end"));
        }
        sleep(LOOK_EVERY);
    }
    // Who held it may have been killed. To let something go on that does so already changes nothing.
    match serde_json::from_slice::<Meant>(&text) {
        Ok(meant) => Tree::default().let_go_of(meant),
        Err(_) => Ok(()), // it was killed before it knew what to do, or it was of no process
    }
}

fn hold(file: &File, what: Standstill, end: Instant, they_do: impl FnOnce()) -> io::Result<()> {
    let gone = || io::Error::new(io::ErrorKind::NotFound, "the process is not there any more");
    let main = open(what.process)?.ok_or_else(gone)?;
    let mut tree = Tree::default();
    tree.stop(what.process)?;
    they_do();
    let mut phase_ends = what.rhythm.map(|rhythm| Instant::now() + rhythm.still);
    let mut still = true;
    while Instant::now() < end && is_linked(file) && !has_ended(&main)? {
        let (Some(over), Some(rhythm)) = (phase_ends, what.rhythm) else { continue };
        if Instant::now() < over {
            continue;
        }
        if still {
            tree.go_on();
        } else {
            tree.stop(what.process)?;
        }
        still = !still;
        phase_ends = Some(Instant::now() + if still { rhythm.still } else { rhythm.going });
    }
    drop(tree); // which lets all go on
    Ok(())
}

/// Waits a little, or until the process has ended.
fn has_ended(main: &OwnedFd) -> io::Result<bool> {
    let mut waits = [PollFd::new(main, PollFlags::IN)];
    let timeout = rustix::time::Timespec { tv_sec: 0, tv_nsec: i64::from(LOOK_EVERY.subsec_nanos()) };
    match poll(&mut waits, Some(&timeout)) {
        Ok(ready) => Ok(ready > 0),
        Err(rustix::io::Errno::INTR) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

/// Processes that were stopped. Dropping it lets them go on, whatever happened.
#[derive(Default)]
struct Tree {
    stopped: BTreeMap<u32, OwnedFd>,
}

impl Tree {
    /// Stops the process and all that descend from it: first it, so that it makes no more, then those, until there are
    /// no others.
    fn stop(&mut self, main: Meant) -> io::Result<()> {
        self.stopped.clear(); // dropped without being signalled: they are stopped again now, or are gone
        for _ in 0..LOOKS_MAX {
            let found: Vec<Meant> = family(main)?;
            let new: Vec<Meant> = found.into_iter().filter(|one| !self.stopped.contains_key(&one.pid)).collect();
            if new.is_empty() {
                return Ok(());
            }
            for one in new {
                let Some(process) = open(one)? else { continue };
                match pidfd_send_signal(&process, Signal::STOP) {
                    Ok(()) | Err(rustix::io::Errno::SRCH) => drop(self.stopped.insert(one.pid, process)),
                    Err(error) => return Err(error.into()),
                }
            }
        }
        Err(io::Error::other("it makes processes faster than they can be stopped"))
    }

    fn go_on(&self) {
        for process in self.stopped.values() {
            let _ = pidfd_send_signal(process.as_fd(), Signal::CONT); // what has ended needs it no more
        }
    }

    /// Lets the process and all that descend from it go on, whoever stopped them.
    fn let_go_of(mut self, main: Meant) -> io::Result<()> {
        for one in family(main)? {
            if let Some(process) = open(one)? {
                self.stopped.insert(one.pid, process);
            }
        }
        Ok(()) // dropping does it
    }
}

impl Drop for Tree {
    fn drop(&mut self) {
        self.go_on();
    }
}

/// The process and all that descend from it; none if it is not there any more.
fn family(main: Meant) -> io::Result<Vec<Meant>> {
    let mut children: BTreeMap<u32, Vec<Meant>> = BTreeMap::new();
    for pid in process::all()? {
        let Ok(stat) = process::stat(pid) else { continue }; // it has ended meanwhile
        if !stat.dead {
            children.entry(stat.parent).or_default().push(Meant { pid, start_ticks: stat.start_ticks });
        }
    }
    if !process::stat(main.pid).is_ok_and(|stat| !stat.dead && stat.start_ticks == main.start_ticks) {
        return Ok(Vec::new());
    }
    let mut found = vec![main];
    let mut next = 0;
    while let Some(one) = found.get(next).copied() {
        found.extend(children.remove(&one.pid).into_iter().flatten());
        next += 1;
    }
    Ok(found)
}

/// A handle on the process, if it is there and is the one that is meant.
fn open(meant: Meant) -> io::Result<Option<OwnedFd>> {
    let Some(pid) = i32::try_from(meant.pid).ok().and_then(Pid::from_raw) else { return Ok(None) };
    let handle = match pidfd_open(pid, PidfdFlags::empty()) {
        Ok(handle) => handle,
        Err(rustix::io::Errno::SRCH) => return Ok(None),
        Err(error) => return Err(error.into()),
    };
    // Only now: from here on the number cannot come to mean another one.
    let is_it = process::stat(meant.pid).is_ok_and(|stat| !stat.dead && stat.start_ticks == meant.start_ticks);
    Ok(is_it.then_some(handle))
}

pub(crate) fn is_linked(file: &File) -> bool {
    file.metadata().is_ok_and(|metadata| metadata.nlink() > 0)
}

pub(crate) fn now() -> Timestamp {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Timestamp(i64::try_from(since.as_micros()).unwrap_or(i64::MAX))
}
