//! How failures are worded: what was tried, with which thing, why it failed, and what to do.
//!
//! Invariant: a detail is at most 2,000 characters.

use ostler_model::outcome::{Failure, FailureClass};

const DETAIL_CHARS_MAX: usize = 2_000;

pub(crate) fn temporary(detail: impl Into<String>, remedy: impl Into<String>) -> Failure {
    Failure { class: FailureClass::Temporary, detail: cut(detail.into()), remedy: remedy.into() }
}

pub(crate) fn needs_person(detail: impl Into<String>, remedy: impl Into<String>) -> Failure {
    Failure { class: FailureClass::NeedsPerson, detail: cut(detail.into()), remedy: remedy.into() }
}

/// Keeps the beginning, which says what was tried, and the end, which says why it failed.
pub(crate) fn cut(text: String) -> String {
    let count = text.chars().count();
    if count <= DETAIL_CHARS_MAX {
        return text;
    }
    let head: String = text.chars().take(600).collect();
    let tail: String = text.chars().skip(count - (DETAIL_CHARS_MAX - 610)).collect();
    format!("{head} […] {tail}")
}

/// A failure of any other class.
pub(crate) fn failure(class: FailureClass, detail: impl Into<String>, remedy: impl Into<String>) -> Failure {
    Failure { class, detail: cut(detail.into()), remedy: remedy.into() }
}
