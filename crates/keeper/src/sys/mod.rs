//! The kernel calls that no safe wrapper offers: starting a process without copying the keeper, signal masks, looking
//! at any dead child, and the exit status of processes that are not children.
//!
//! Invariant: all of this crate's unsafe code is here, and every function offered to the rest of the crate is safe.
#![allow(unsafe_code)]

mod image;
mod signals;
mod spawn;

use std::io;
use std::os::fd::{AsFd, AsRawFd};

use ostler_model::health::Exit;

pub(crate) use image::{alarm, borrow, execute, inherit, on_exec};
pub(crate) use signals::Signals;
pub(crate) use spawn::{Spawner, Surroundings};

/// The process id of some dead child that has not been reaped yet, without reaping it. `None` if there is none.
pub(crate) fn peek_dead_child() -> Option<u32> {
    // SAFETY: `siginfo_t` is plain data for which all zeroes is a valid value.
    let mut info: libc::siginfo_t = unsafe { std::mem::zeroed() };
    let options = libc::WEXITED | libc::WNOHANG | libc::WNOWAIT;
    // SAFETY: `info` is valid for writes for the duration of the call.
    let result = unsafe { libc::waitid(libc::P_ALL, 0, &raw mut info, options) };
    if result != 0 {
        return None; // ECHILD: there are no children at all
    }
    // SAFETY: after a successful waitid the SIGCHLD fields are the active ones, and the structure was zeroed before.
    u32::try_from(unsafe { info.si_pid() }).ok().filter(|pid| *pid != 0)
}

/// Reaps one child by its process id, which the caller has seen in [`peek_dead_child`].
pub(crate) fn reap(pid: u32) -> Option<Exit> {
    // SAFETY: `siginfo_t` is plain data for which all zeroes is a valid value.
    let mut info: libc::siginfo_t = unsafe { std::mem::zeroed() };
    // SAFETY: `info` is valid for writes for the duration of the call.
    let result = unsafe { libc::waitid(libc::P_PID, pid, &raw mut info, libc::WEXITED | libc::WNOHANG) };
    // SAFETY: as in `peek_dead_child`.
    if result != 0 || unsafe { info.si_pid() } == 0 {
        return None;
    }
    // SAFETY: as in `peek_dead_child`.
    let status = unsafe { info.si_status() };
    Some(if info.si_code == libc::CLD_EXITED { Exit::Code(status) } else { Exit::Signal(status) })
}

/// How a process ended that was not a child, after its parent reaped it: Linux 6.15 and later remember it for as long
/// as somebody holds a pidfd. `None` if the kernel does not say.
pub(crate) fn exit_of_stranger(pidfd: impl AsFd) -> Option<Exit> {
    // SAFETY: `pidfd_info` is plain data for which all zeroes is a valid value.
    let mut info: libc::pidfd_info = unsafe { std::mem::zeroed() };
    info.mask = u64::from(libc::PIDFD_INFO_EXIT);
    // SAFETY: the request carries the size of the structure, so the kernel writes at most that many bytes to `info`.
    let result = unsafe { libc::ioctl(pidfd.as_fd().as_raw_fd(), libc::PIDFD_GET_INFO, &raw mut info) };
    (result == 0 && info.mask & u64::from(libc::PIDFD_INFO_EXIT) != 0).then(|| exit_from_wait_status(info.exit_code))
}

/// From the classic encoding of wait(2).
pub(crate) fn exit_from_wait_status(status: i32) -> Exit {
    match status & 0x7f {
        0 => Exit::Code((status >> 8) & 0xff),
        signal => Exit::Signal(signal),
    }
}

fn checked(result: libc::c_int) -> io::Result<()> {
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}
