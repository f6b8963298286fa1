//! How failures of the host provider are worded: what was tried, with which thing, why it failed, and what to do.
//!
//! Invariant: a detail is at most 2,000 characters and has passed [`super::scope::Scope::redact`] wherever another
//! program's words are in it.

use std::io;
use std::path::Path;

use ostler_model::outcome::{Failure, FailureClass};

const DETAIL_CHARS_MAX: usize = 2_000;

pub(super) fn temporary(detail: impl Into<String>, remedy: impl Into<String>) -> Failure {
    Failure { class: FailureClass::Temporary, detail: cut(detail.into()), remedy: remedy.into() }
}

pub(super) fn needs_person(detail: impl Into<String>, remedy: impl Into<String>) -> Failure {
    Failure { class: FailureClass::NeedsPerson, detail: cut(detail.into()), remedy: remedy.into() }
}

/// Keeps the beginning, which says what was tried, and the end, which says why it failed.
pub(super) fn cut(text: String) -> String {
    let count = text.chars().count();
    if count <= DETAIL_CHARS_MAX {
        return text;
    }
    let head: String = text.chars().take(600).collect();
    let tail: String = text.chars().skip(count - (DETAIL_CHARS_MAX - 610)).collect();
    format!("{head} […] {tail}")
}

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
