//! The keeper's own signals: three of them arrive as readable events, one is ignored, all others keep their meaning.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

use super::checked;

/// The signals that the keeper reads from a file descriptor instead of being interrupted by them.
pub(crate) struct Signals {
    descriptor: OwnedFd,
}

/// What has arrived since the last look.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Arrived {
    /// SIGCHLD: some child ended.
    pub(crate) child: bool,
    /// SIGTERM or SIGINT: the keeper itself shall end.
    pub(crate) end: bool,
}

impl Signals {
    /// Blocks SIGCHLD, SIGTERM and SIGINT, and ignores SIGHUP: a closed terminal must not end the keeper.
    pub(crate) fn take_over() -> io::Result<Self> {
        let mut mask = empty_set();
        for signal in [libc::SIGCHLD, libc::SIGTERM, libc::SIGINT] {
            // SAFETY: `mask` is an initialised signal set, and the signal is a valid number.
            checked(unsafe { libc::sigaddset(&raw mut mask, signal) })?;
        }
        // SAFETY: `mask` is initialised; no old mask is asked for.
        let result = unsafe { libc::pthread_sigmask(libc::SIG_BLOCK, &raw const mask, std::ptr::null_mut()) };
        if result != 0 {
            return Err(io::Error::from_raw_os_error(result));
        }
        // SAFETY: SIG_IGN is a valid disposition and installs no handler code.
        if unsafe { libc::signal(libc::SIGHUP, libc::SIG_IGN) } == libc::SIG_ERR {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: `mask` is initialised; -1 asks for a new descriptor.
        let descriptor = unsafe { libc::signalfd(-1, &raw const mask, libc::SFD_CLOEXEC | libc::SFD_NONBLOCK) };
        if descriptor < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: the descriptor is new, open, and owned by nobody else.
        Ok(Self { descriptor: unsafe { OwnedFd::from_raw_fd(descriptor) } })
    }

    /// Takes everything that has arrived.
    pub(crate) fn drain(&self) -> Arrived {
        let mut arrived = Arrived::default();
        loop {
            // SAFETY: `signalfd_siginfo` is plain data for which all zeroes is a valid value.
            let mut info: libc::signalfd_siginfo = unsafe { std::mem::zeroed() };
            let size = size_of::<libc::signalfd_siginfo>();
            // SAFETY: `info` is valid for writes of `size` bytes.
            let read = unsafe { libc::read(self.descriptor.as_raw_fd(), (&raw mut info).cast(), size) };
            if usize::try_from(read) != Ok(size) {
                return arrived; // EAGAIN: nothing more
            }
            match i32::try_from(info.ssi_signo) {
                Ok(libc::SIGCHLD) => arrived.child = true,
                Ok(libc::SIGTERM | libc::SIGINT) => arrived.end = true,
                Ok(_) | Err(_) => {} // not in the mask, so it cannot come
            }
        }
    }
}

impl AsFd for Signals {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.descriptor.as_fd()
    }
}

/// The signals that this process ignores: a child would inherit that across `execve`, unlike handlers.
pub(super) fn ignored() -> Vec<libc::c_int> {
    let is_ignored = |signal: libc::c_int| {
        // The kernel's `struct sigaction` begins with the handler. Not by the C library: it hides the signals that it
        // uses itself, and these can be ignored, too.
        let mut action = [0usize; 8];
        let nothing = std::ptr::null::<usize>();
        // SAFETY: no new action is given; the old one, at most 32 bytes, is written to `action`.
        let result = unsafe { libc::syscall(libc::SYS_rt_sigaction, signal, nothing, action.as_mut_ptr(), 8usize) };
        result == 0 && action[0] == libc::SIG_IGN
    };
    (1..=64).filter(|signal| is_ignored(*signal)).collect()
}

/// Blocks every signal until it is dropped: while parent and child share their memory, no handler may run in either.
pub(super) struct AllBlocked {
    before: libc::sigset_t,
}

impl AllBlocked {
    pub(super) fn new() -> Self {
        let mut all = empty_set();
        let mut before = empty_set();
        // SAFETY: both sets are initialised and valid for writes; `pthread_sigmask` fails only for a wrong `how`.
        unsafe {
            libc::sigfillset(&raw mut all);
            libc::pthread_sigmask(libc::SIG_SETMASK, &raw const all, &raw mut before);
        }
        Self { before }
    }
}

impl Drop for AllBlocked {
    fn drop(&mut self) {
        // SAFETY: `before` was filled by the kernel in `new`.
        unsafe { libc::pthread_sigmask(libc::SIG_SETMASK, &raw const self.before, std::ptr::null_mut()) };
    }
}

fn empty_set() -> libc::sigset_t {
    // SAFETY: `sigset_t` is plain data for which all zeroes is a valid value, and `sigemptyset` cannot fail on it.
    unsafe {
        let mut set: libc::sigset_t = std::mem::zeroed();
        libc::sigemptyset(&raw mut set);
        set
    }
}
