//! Marks: something that is written before a fault is caused on purpose, and looked for after it.
//!
//! Invariant: a mark lies in a place of its own, and whoever looks for it takes it and its place away.

use std::time::Duration;

use ostler_model::estate::Check;
use ostler_model::health::{Symptom, SymptomKind};

use crate::{Target, postgresql, scheme, symptom};

/// Writes the mark, to be found by [`find_mark`]; false where nobody here knows how. `word` names it: letters and digits.
///
/// # Errors
/// What was found wrong: then nothing is known of a mark.
pub async fn leave_mark(target: &Target, word: &str, timeout: Duration) -> Result<bool, Symptom> {
    if !holds_marks(target) {
        return Ok(false);
    }
    within(timeout, target, Box::pin(postgresql::leave_mark(target, word))).await.map(|()| true)
}

/// Whether the mark is still there; takes it and its place away. `None` where nobody here knows how.
///
/// # Errors
/// What was found wrong: then it is not known whether it is there.
pub async fn find_mark(target: &Target, word: &str, timeout: Duration) -> Result<Option<bool>, Symptom> {
    if !holds_marks(target) {
        return Ok(None);
    }
    within(timeout, target, Box::pin(postgresql::find_mark(target, word))).await.map(Some)
}

/// Whether anybody here knows how to write and find something there.
fn holds_marks(target: &Target) -> bool {
    match scheme::check(target) {
        Check::Postgresql => true,
        Check::Redis | Check::Mysql | Check::Amqp | Check::Tcp | Check::Http(_) | Check::Command(_) | Check::Scheme => {
            false
        }
    }
}

async fn within<T>(
    timeout: Duration,
    target: &Target,
    tried: impl Future<Output = Result<T, Symptom>>,
) -> Result<T, Symptom> {
    tokio::time::timeout(timeout, tried).await.unwrap_or_else(|_| {
        let within = ostler_model::time::in_words(timeout);
        Err(symptom::symptom(SymptomKind::TimedOut, format!("{} did not do it within {within}", target.address)))
    })
}
