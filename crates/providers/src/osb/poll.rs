//! Asking a broker how far it has come.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use ostler_model::outcome::Failure;
use ostler_model::time::{Timestamp, in_words};
use reqwest::Method;
use tokio::time::sleep;

use super::OsbProvider;
use super::catalog::Terms;
use super::verdict::{self, Asked, Failed, Goal, Object, Verdict};

/// The longest pause between two questions, whatever a broker wishes.
const PAUSE_MAX: Duration = Duration::from_secs(300);
/// The longest name of an operation (specification, "Asynchronous Operations").
const OPERATION_CHARS_MAX: usize = 10_000;

/// An operation to ask about.
#[derive(Clone, Debug)]
pub(super) struct Operation<'a> {
    pub(super) goal: Goal,
    /// The instance's path, or the binding's.
    pub(super) path: String,
    /// While a plan is changed, the one from before (specification, "Polling Last Operation").
    pub(super) terms: &'a Terms,
    /// What the broker calls it.
    pub(super) name: Option<String>,
    /// Since when it is under way.
    pub(super) since: Timestamp,
}

/// What became of it.
#[derive(Debug)]
pub(super) enum Polled {
    Succeeded,
    /// What was deleted, or is to be, is not there.
    Gone,
    Failed(Failed),
    /// The broker does not know of any operation. Only told to whoever is not sure that there is one.
    Unknown(String),
    /// It was asked about for as long as anybody may.
    OutOfTime(String),
    /// It cannot be asked about now. Only told to whoever is not sure that there is one.
    Later(String),
}

/// How sure it is that there is an operation to ask about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Sure {
    /// The broker said so. It is asked until it says what became of it, or the time is over.
    Yes,
    /// It may be: the first answer that is no state of an operation counts.
    No,
}

/// The name that a broker gives an operation in its answer.
pub(super) fn operation_name(answer: &Object) -> Option<String> {
    let name = answer.get("operation")?.as_str()?;
    (!name.is_empty() && name.chars().count() <= OPERATION_CHARS_MAX).then(|| name.to_owned())
}

/// The time of day.
pub(super) fn now() -> Timestamp {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Timestamp(i64::try_from(since.as_micros()).unwrap_or(i64::MAX))
}

impl OsbProvider {
    /// Asks until it is over.
    pub(super) async fn poll(&self, operation: &Operation<'_>, sure: Sure) -> Result<Polled, Failure> {
        let within = operation.terms.polling().map_or(self.poll_within, |most| most.min(self.poll_within));
        let mut ask = self.request(Method::GET, format!("{}/last_operation", operation.path));
        ask.query.push(("service_id", operation.terms.service.clone()));
        ask.query.push(("plan_id", operation.terms.plan.clone()));
        if let Some(name) = &operation.name {
            ask.query.push(("operation", name.clone()));
        }
        let mut last = "it did not say anything".to_owned();
        loop {
            let answered = self.client.ask(&ask).await?;
            match verdict::read(Asked::Poll(operation.goal), answered.reply) {
                Verdict::Done(_) => return Ok(Polled::Succeeded),
                Verdict::Gone => return Ok(Polled::Gone),
                Verdict::Failed(failed) => return Ok(Polled::Failed(failed)),
                Verdict::InProgress(description) => {
                    last = description.unwrap_or_else(|| "it is still being done".to_owned());
                }
                Verdict::Unknown(why) | Verdict::Rejected(why) if sure == Sure::No => return Ok(Polled::Unknown(why)),
                Verdict::Later(later) if sure == Sure::No => return Ok(Polled::Later(later.why)),
                Verdict::Later(later) => last = later.why,
                // Such answers are not valid ones, and asking goes on until there is one.
                Verdict::Unknown(why) | Verdict::Rejected(why) | Verdict::Conflict(why) | Verdict::Doubt(why) => {
                    last = why;
                }
                Verdict::Accepted(_) => {}
            }
            let pause = answered.retry_after.unwrap_or(self.poll_every).clamp(Duration::from_millis(10), PAUSE_MAX);
            // A clock that was set back must not make it ask for ever: it does not go back while this runs.
            let asked_for = now().since(operation.since);
            if asked_for + pause > within {
                let why = format!("it was not over after {}: {last}", in_words(within));
                return Ok(Polled::OutOfTime(why));
            }
            sleep(pause).await;
        }
    }
}
