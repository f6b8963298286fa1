//! Starts a process the way glibc's `posix_spawn` does, but with the steps that it lacks (session, cgroups, limits,
//! user, handed-over socket): a child that shares the keeper's memory while the keeper is suspended, until it executes
//! the program. Nothing is copied, so the cost does not grow with the keeper: not its memory, and not its table of
//! descriptors either, which is shared until the child takes a private copy of its first few entries.
//!
//! Invariant: between `clone` and `execve` the child makes raw system calls on data prepared beforehand, and nothing
//! else: no allocation, no lock, no glibc wrapper that keeps state of its own. It writes its process id into the ledger
//! *before* it gives up the keeper's descriptors. One of them is the keeper's lock, so however the keeper dies, the
//! next one cannot get the lock before the ledger names the process.

use std::ffi::{CStr, c_char, c_int, c_void};
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

use rustix::fs::{Mode, OFlags};
use rustix::io::DupFlags;

use super::signals::{AllBlocked, ignored};
use crate::launch::{Prepared, Step, SwitchTo};
use crate::protocol::Resource;

#[cfg(not(target_pointer_width = "64"))]
compile_error!("the raw system calls below pass 64-bit file offsets in one register");

const STACK_BYTES: usize = 32 * 1024; // the child calls a handful of functions with small frames

/// Starts processes; made once.
pub(crate) struct Spawner {
    stack: Stack,
    null: OwnedFd,
    /// Descriptors with low numbers, which the log and the socket of a start are duplicated to.
    staged: Staged,
    ignored: Vec<c_int>,
    limits: Vec<Limit>,
    oom: Option<Vec<u8>>,
    pointers: Vec<*const c_char>,
}

/// Hold `/dev/null` between starts.
struct Staged {
    log: OwnedFd,
    socket: OwnedFd,
}

/// What differs from one start of the same launch to the next.
pub(crate) struct Surroundings<'a> {
    /// The value of `OSTLER_INCARNATION`, without a NUL.
    pub(crate) incarnation: &'a str,
    /// Where standard output and error go.
    pub(crate) log: BorrowedFd<'a>,
    /// Handed over as descriptor 3.
    pub(crate) socket: Option<BorrowedFd<'a>>,
    /// Where in the ledger the child notes its process id.
    pub(crate) ledger: (BorrowedFd<'a>, u64),
}

/// A new process: it executes the program already.
pub(crate) struct Started {
    pub(crate) pid: u32,
    pub(crate) pidfd: OwnedFd,
}

/// The step that failed, and why. Nothing of the process is left.
#[derive(Debug)]
pub(crate) struct StartError {
    pub(crate) step: Step,
    pub(crate) cause: io::Error,
}

/// One resource limit, as the kernel wants it.
#[derive(Clone, Copy)]
struct Limit {
    resource: c_int,
    value: libc::rlimit64,
}

impl Spawner {
    /// `files` is the limit of open files (soft, hard) that children get unless their launch says otherwise, as the
    /// keeper raises its own; `oom` is the OOM score adjustment of children, if the keeper changed its own.
    pub(crate) fn new(files: (u64, u64), oom: Option<i32>) -> io::Result<Self> {
        let null = || rustix::fs::open("/dev/null", OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty());
        Ok(Self {
            stack: Stack::new()?,
            null: null()?,
            staged: Staged { log: null()?, socket: null()? },
            ignored: ignored(),
            limits: vec![Limit {
                resource: resource_number(Resource::Files),
                value: libc::rlimit64 { rlim_cur: files.0, rlim_max: files.1 },
            }],
            oom: oom.map(|score| score.to_string().into_bytes()),
            pointers: Vec::new(),
        })
    }

    /// Starts the launch. When this returns, the program is being executed, or nothing of the process is left.
    pub(crate) fn start(&mut self, launch: &Prepared, with: &Surroundings<'_>) -> Result<Started, StartError> {
        let mut incarnation = [0u8; 128];
        let mut listen_pid = [0u8; 32];
        let value = with.incarnation.as_bytes();
        let name: &[u8] = b"OSTLER_INCARNATION=";
        if name.len() + value.len() >= incarnation.len() || value.contains(&0) {
            let cause = io::Error::from(io::ErrorKind::InvalidInput);
            return Err(StartError { step: Step::Marker, cause });
        }
        incarnation[..name.len()].copy_from_slice(name);
        incarnation[name.len()..name.len() + value.len()].copy_from_slice(value);
        listen_pid[..LISTEN_PID.len()].copy_from_slice(LISTEN_PID);

        // The arrays for execve: arguments, NULL, environment, NULL, cgroup files.
        let mut strings = Strings { rest: launch.strings() };
        let program = strings.next();
        let folder = strings.next();
        self.pointers.clear();
        self.pointers.extend((0..launch.arguments()).map(|_| strings.next()));
        self.pointers.push(std::ptr::null());
        let environment = self.pointers.len();
        self.pointers.push(incarnation.as_ptr().cast());
        if with.socket.is_some() {
            self.pointers.push(listen_pid.as_ptr().cast());
        }
        self.pointers.extend((0..launch.environment()).map(|_| strings.next()));
        self.pointers.push(std::ptr::null());
        let cgroups = self.pointers.len();
        self.pointers.extend((0..launch.cgroups()).map(|_| strings.next()));
        self.limits.truncate(1);
        self.limits.extend(launch.limits().iter().map(|limit| Limit {
            resource: resource_number(limit.resource),
            value: libc::rlimit64 { rlim_cur: limit.limit, rlim_max: limit.limit },
        }));
        let mut child = Child {
            program,
            folder,
            arguments: self.pointers.as_ptr(),
            environment: self.pointers[environment..].as_ptr(),
            cgroups: &self.pointers[cgroups..],
            limits: &self.limits,
            ignored: &self.ignored,
            oom: self.oom.as_deref(),
            null: self.null.as_raw_fd(),
            log: self.staged.log.as_raw_fd(),
            socket: with.socket.map(|_| self.staged.socket.as_raw_fd()),
            listen_pid: &mut listen_pid[LISTEN_PID.len()..],
            ledger: (with.ledger.0.as_raw_fd(), with.ledger.1),
            user: launch.user(),
            failed: None,
        };
        let staged = stage(with.log, &mut self.staged.log).and_then(|()| match with.socket {
            Some(socket) => stage(socket, &mut self.staged.socket),
            None => Ok(()),
        });
        let started = staged.and_then(|()| self.stack.clone_into(&mut child));
        let failed = child.failed;
        // A socket that stayed here would go on listening after everybody else has closed it.
        let unstaged = stage(self.null.as_fd(), &mut self.staged.socket);
        debug_assert!(unstaged.is_ok(), "both descriptors are open");
        let started = started.map_err(|cause| StartError { step: Step::Process, cause })?;
        let Some((step, errno)) = failed else { return Ok(started) };
        // It has ended already; reaping cannot block for long.
        // An error would mean that somebody else reaped it: nothing is left either way.
        let _ = rustix::process::waitid(
            rustix::process::WaitId::PidFd(started.pidfd.as_fd()),
            rustix::process::WaitIdOptions::EXITED,
        );
        Err(StartError { step, cause: io::Error::from_raw_os_error(errno) })
    }
}

fn stage(descriptor: BorrowedFd<'_>, place: &mut OwnedFd) -> io::Result<()> {
    Ok(rustix::io::dup3(descriptor, place, DupFlags::CLOEXEC)?)
}

const LISTEN_PID: &[u8] = b"LISTEN_PID=";

#[allow(
    clippy::cast_possible_wrap,
    clippy::unnecessary_cast,
    reason = "the type differs between C libraries; all are small"
)]
fn resource_number(resource: Resource) -> c_int {
    match resource {
        Resource::AddressSpace => libc::RLIMIT_AS as c_int,
        Resource::Processes => libc::RLIMIT_NPROC as c_int,
        Resource::Files => libc::RLIMIT_NOFILE as c_int,
    }
}

/// NUL-terminated strings, one after the other.
struct Strings<'a> {
    rest: &'a [u8],
}

impl Strings<'_> {
    fn next(&mut self) -> *const c_char {
        let string = CStr::from_bytes_until_nul(self.rest).expect("`Prepared` counts its NUL-terminated strings");
        self.rest = &self.rest[string.count_bytes() + 1..];
        string.as_ptr()
    }
}

/// The child's stack: its own, as the keeper's is in use. One at a time is enough, since the keeper is suspended.
struct Stack {
    bottom: *mut c_void,
}

impl Stack {
    fn new() -> io::Result<Self> {
        let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_STACK;
        let protection = libc::PROT_READ | libc::PROT_WRITE;
        // SAFETY: a new anonymous mapping at an address of the kernel's choice touches no existing memory.
        let bottom = unsafe { libc::mmap(std::ptr::null_mut(), STACK_BYTES, protection, flags, -1, 0) };
        if bottom == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: the first page of the mapping just made; an overflow then faults instead of writing elsewhere.
        super::checked(unsafe { libc::mprotect(bottom, 4096, libc::PROT_NONE) })?;
        Ok(Self { bottom })
    }

    /// Runs `child` in a new process, and returns when it has executed its program or ended.
    fn clone_into(&self, child: &mut Child<'_>) -> io::Result<Started> {
        let mut pidfd: c_int = -1;
        let flags = libc::CLONE_VM | libc::CLONE_FILES | libc::CLONE_VFORK | libc::CLONE_PIDFD | libc::SIGCHLD;
        let blocked = AllBlocked::new();
        // SAFETY: the stack is ours and 16-byte aligned at its top; CLONE_VFORK suspends this process until the child
        // no longer uses the memory it shares with us, so `child` and the stack outlive its use of them, and nobody
        // else touches them meanwhile (the keeper has one thread). The callback keeps to raw system calls.
        let pid = unsafe {
            libc::clone(
                run_child,
                self.bottom.byte_add(STACK_BYTES),
                flags,
                std::ptr::from_mut(child).cast(),
                &raw mut pidfd,
            )
        };
        let error = io::Error::last_os_error();
        drop(blocked);
        match u32::try_from(pid) {
            // SAFETY: CLONE_PIDFD stored a new descriptor, which nobody else owns.
            Ok(pid) => Ok(Started { pid, pidfd: unsafe { OwnedFd::from_raw_fd(pidfd) } }),
            Err(_) => Err(error),
        }
    }
}

impl Drop for Stack {
    fn drop(&mut self) {
        // SAFETY: the mapping was made in `new` with this length, and no child runs on it.
        unsafe { libc::munmap(self.bottom, STACK_BYTES) };
    }
}

/// Everything the child needs, and where it says what failed.
struct Child<'a> {
    program: *const c_char,
    folder: *const c_char,
    arguments: *const *const c_char,
    environment: *const *const c_char,
    cgroups: &'a [*const c_char],
    limits: &'a [Limit],
    ignored: &'a [c_int],
    oom: Option<&'a [u8]>,
    null: c_int,
    log: c_int,
    socket: Option<c_int>,
    listen_pid: &'a mut [u8],
    ledger: (c_int, u64),
    user: Option<SwitchTo>,
    failed: Option<(Step, c_int)>,
}

extern "C" fn run_child(argument: *mut c_void) -> c_int {
    // SAFETY: `clone_into` passes a `Child` that outlives this process's use of the shared memory, exclusively.
    let child = unsafe { &mut *argument.cast::<Child<'_>>() };
    let Err(failed) = become_program(child);
    child.failed = Some(failed);
    // SAFETY: ends this process alone: it shares memory with the keeper, but is not one of its threads.
    unsafe { libc::syscall(libc::SYS_exit_group, 127) };
    127
}

/// One raw system call; on failure the error number with the step's name.
macro_rules! call {
    ($step:expr, $number:expr $(, $argument:expr)*) => {{
        // SAFETY: the arguments are plain numbers, or pointers to data that outlives the call (see `run_child`).
        let result = unsafe { libc::syscall($number $(, $argument)*) };
        if result < 0 {
            // SAFETY: the address of errno of the thread whose storage this child shares; the keeper is suspended.
            return Err(($step, unsafe { *libc::__errno_location() }));
        }
        result
    }};
}

type Failed = (Step, c_int);

/// From the kernel's `linux/close_range.h`; not every C library's headers have it.
const CLOSE_RANGE_UNSHARE: c_int = 2;

fn become_program(child: &mut Child<'_>) -> Result<std::convert::Infallible, Failed> {
    let pid = call!(Step::Session, libc::SYS_getpid);
    // First of all: from here on no keeper can overlook this process (see the module's invariant).
    note_pid(child.ledger, pid)?;
    // Until here the table of descriptors is the keeper's own. The private copy ends with the last one that is needed.
    let last = child.null.max(child.log).max(child.socket.unwrap_or(0));
    call!(Step::Descriptors, libc::SYS_close_range, last + 1, c_int::MAX, CLOSE_RANGE_UNSHARE);
    call!(Step::Session, libc::SYS_setsid);
    for cgroup in child.cgroups {
        write_file(Step::Cgroup, *cgroup, b"0")?;
    }
    if let Some(score) = child.oom {
        write_file(Step::Oom, c"/proc/self/oom_score_adj".as_ptr(), score)?;
    }
    for limit in child.limits {
        let value = &raw const limit.value;
        call!(Step::Limit, libc::SYS_prlimit64, 0, limit.resource, value, std::ptr::null::<libc::rlimit64>());
    }
    arrange_descriptors(child)?;
    call!(Step::Folder, libc::SYS_chdir, child.folder);
    call!(Step::Umask, libc::SYS_umask, 0o077);
    if let Some(user) = child.user {
        if user.switch {
            // Raw calls: glibc's wrappers would signal the threads it believes this process to have.
            call!(Step::Groups, libc::SYS_setgroups, 0, std::ptr::null::<libc::gid_t>());
            call!(Step::Group, libc::SYS_setgid, user.gid);
            call!(Step::User, libc::SYS_setuid, user.uid);
        }
        call!(Step::Privileges, libc::SYS_prctl, libc::PR_SET_NO_NEW_PRIVS, 1usize, 0usize, 0usize, 0usize);
    }
    let default = [0u64; 8]; // the kernel's `struct sigaction` with SIG_DFL, no flags and an empty mask
    for signal in child.ignored {
        let nothing = std::ptr::null::<u64>();
        call!(Step::Signals, libc::SYS_rt_sigaction, *signal, default.as_ptr(), nothing, 8usize);
    }
    if child.socket.is_some() {
        write_digits(child.listen_pid, pid);
    }
    let none = 0u64;
    let nothing = std::ptr::null::<u64>();
    call!(Step::Signals, libc::SYS_rt_sigprocmask, libc::SIG_SETMASK, &raw const none, nothing, 8usize);
    call!(Step::Execute, libc::SYS_execve, child.program, child.arguments, child.environment);
    Err((Step::Execute, libc::EINVAL)) // execve does not return on success
}

/// The process id and its complement: eight bytes that vouch for each other.
fn note_pid((ledger, offset): (c_int, u64), pid: libc::c_long) -> Result<(), Failed> {
    let bytes = crate::ledger::pid_bytes(u32::try_from(pid).unwrap_or(0));
    call!(Step::Ledger, libc::SYS_pwrite64, ledger, bytes.as_ptr(), bytes.len(), offset);
    Ok(())
}

fn arrange_descriptors(child: &Child<'_>) -> Result<(), Failed> {
    // The sources are above 2: the standard library opens /dev/null for any of 0, 1 and 2 that is closed at start.
    call!(Step::Descriptors, libc::SYS_dup3, child.null, 0, 0);
    call!(Step::Descriptors, libc::SYS_dup3, child.log, 1, 0);
    call!(Step::Descriptors, libc::SYS_dup3, child.log, 2, 0);
    let mut first_to_close = 3;
    if let Some(socket) = child.socket {
        if socket == 3 {
            call!(Step::Socket, libc::SYS_fcntl, 3, libc::F_SETFD, 0usize); // dup3 refuses to copy onto itself
        } else {
            call!(Step::Socket, libc::SYS_dup3, socket, 3, 0);
        }
        first_to_close = 4;
    }
    call!(Step::Descriptors, libc::SYS_close_range, first_to_close, c_int::MAX, 0);
    Ok(())
}

fn write_file(step: Step, path: *const c_char, content: &[u8]) -> Result<(), Failed> {
    let file = call!(step, libc::SYS_openat, libc::AT_FDCWD, path, libc::O_WRONLY | libc::O_CLOEXEC);
    call!(step, libc::SYS_write, file, content.as_ptr(), content.len());
    call!(step, libc::SYS_close, file);
    Ok(())
}

/// Decimal digits; the buffer's zeroes behind them end the string.
fn write_digits(buffer: &mut [u8], number: libc::c_long) {
    let mut divisor = 1_000_000_000_000;
    let mut digits = buffer.iter_mut();
    while divisor > 0 {
        if (number >= divisor || divisor == 1)
            && let Some(digit) = digits.next()
        {
            *digit = b'0' + u8::try_from(number / divisor % 10).unwrap_or(0);
        }
        divisor /= 10;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digits_are_decimal_without_leading_zeroes() {
        for number in [0, 7, 10, 4_711, 4_194_304] {
            let mut buffer = [0u8; 20];
            write_digits(&mut buffer, number);
            let text = CStr::from_bytes_until_nul(&buffer).unwrap().to_str().unwrap();
            assert_eq!(text, number.to_string());
        }
    }
}
