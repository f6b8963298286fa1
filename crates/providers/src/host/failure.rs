//! How failures of the host provider are worded: what was tried, with which thing, why it failed, and what to do.
//!
//! Invariant: a detail is at most 2,000 characters and has passed [`super::scope::Scope::redact`] wherever another
//! program's words are in it.

use std::io;
use std::path::Path;

use ostler_model::outcome::Failure;

pub(super) use crate::failure::{cut, needs_person, temporary};

/// An I/O error while doing `what` ("write", "create the folder") with `path`.
pub(super) fn io(what: &str, path: &Path, error: &io::Error) -> Failure {
    let remedy = match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
            format!("Make room on the disk that holds {}.", path.display())
        }
        io::ErrorKind::PermissionDenied => {
            format!("Let ostler's user read and write {} and the folders above it.", path.display())
        }
        io::ErrorKind::ReadOnlyFilesystem => {
            format!("Mount the disk that holds {} so that it can be written to.", path.display())
        }
        _ => format!("Look at {} and its disk.", path.display()),
    };
    temporary(format!("cannot {what} {}: {error}", path.display()), remedy)
}

/// To be used with `map_err`.
pub(super) fn io_at<'a>(what: &'a str, path: &'a Path) -> impl FnOnce(io::Error) -> Failure + 'a {
    move |error| io(what, path, &error)
}
