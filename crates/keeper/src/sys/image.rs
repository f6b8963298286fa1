//! Descriptors that come along through `execve`, and the call itself.

use std::ffi::{CString, OsString};
use std::io;
use std::os::fd::{BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::Path;

use rustix::io::{FdFlags, fcntl_getfd, fcntl_setfd};

/// A descriptor by its number, if it is open and none of the standard ones.
pub(crate) fn borrow(descriptor: RawFd) -> io::Result<BorrowedFd<'static>> {
    if descriptor <= 2 {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    // SAFETY: it is looked at before it is used: a number without an open descriptor is an error of that look. Callers
    // pass numbers that another image of this process kept open for this one, and close none of them meanwhile.
    let borrowed = unsafe { BorrowedFd::borrow_raw(descriptor) };
    fcntl_getfd(borrowed)?;
    Ok(borrowed)
}

/// Takes over a descriptor that came along. From now on it closes on exec.
pub(crate) fn inherit(descriptor: RawFd) -> io::Result<OwnedFd> {
    fcntl_setfd(borrow(descriptor)?, FdFlags::CLOEXEC)?;
    // SAFETY: it is open, as was just seen, and each number that was handed over is taken over once.
    Ok(unsafe { OwnedFd::from_raw_fd(descriptor) })
}

/// Whether a descriptor comes along on exec.
pub(crate) fn on_exec(descriptor: RawFd, flags: FdFlags) -> io::Result<()> {
    Ok(fcntl_setfd(borrow(descriptor)?, flags)?)
}

/// Has the kernel end this process, whatever image it is by then, unless this is called again in time; 0 takes it back.
pub(crate) fn alarm(seconds: u32) {
    // SAFETY: sets a timer of this process and touches no memory.
    unsafe { libc::alarm(seconds) };
}

/// Becomes the program, with this process's environment, signal mask and descriptors. Returns only on failure, and then
/// nothing has changed.
pub(crate) fn execute(program: &Path, arguments: &[OsString]) -> io::Error {
    let text = |bytes: Vec<u8>| CString::new(bytes).unwrap_or_default(); // none of these can hold a NUL
    let program = text(program.as_os_str().as_bytes().to_vec());
    let arguments: Vec<CString> = arguments.iter().map(|argument| text(argument.as_bytes().to_vec())).collect();
    let environment: Vec<CString> = std::env::vars_os()
        .map(|(name, value)| text([name.into_vec(), b"=".to_vec(), value.into_vec()].concat()))
        .collect();
    let pointers = |strings: &[CString]| {
        let all = strings.iter().map(|string| string.as_ptr());
        all.chain([std::ptr::null()]).collect::<Vec<_>>()
    };
    let (argument_list, environment_list) = (pointers(&arguments), pointers(&environment));
    // SAFETY: all strings end with NUL and both lists with a null pointer, and all of them outlive the call.
    unsafe { libc::execve(program.as_ptr(), argument_list.as_ptr(), environment_list.as_ptr()) };
    io::Error::last_os_error()
}
