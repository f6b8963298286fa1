//! Asking the running ostler.

use std::io;
use std::time::Duration;

use ostler_runtime::control::{Line, Request, Response};
use ostler_runtime::home::Home;

use crate::failure::{Failure, Outcome};

/// How long a manager that is just being brought back is waited for.
const BACK_WITHIN: Duration = Duration::from_secs(3);

/// Asks once and gives the one answer. A refusal is a failure.
pub(crate) async fn ask(home: &Home, request: &Request) -> Outcome<Response> {
    let mut line = open(home, request).await?;
    next(&mut line).await?.ok_or_else(cut_off)
}

/// Asks, and gives the line for the answers.
pub(crate) async fn open(home: &Home, request: &Request) -> Outcome<Line> {
    let mut line = connect(home).await?;
    line.send(request).await.map_err(|error| broken(&error))?;
    Ok(line)
}

/// The next answer; `None` at the end.
pub(crate) async fn next(line: &mut Line) -> Outcome<Option<Response>> {
    match line.receive().await.map_err(|error| broken(&error))? {
        Some(Response::Refused(refused)) => Err(refused.into()),
        other => Ok(other),
    }
}

/// A manager that was killed is brought back by the keeper; commands do not fail because they came in between.
async fn connect(home: &Home) -> Outcome<Line> {
    let deadline = tokio::time::Instant::now() + BACK_WITHIN;
    loop {
        match Line::connect(&home.socket()).await {
            Ok(line) => return Ok(line),
            Err(_) if keeper_is_there(home) && tokio::time::Instant::now() < deadline => {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
            Err(error) => return Err(not_running(home, &error)),
        }
    }
}

/// Whether a manager that does not answer is being brought back.
pub(crate) fn keeper_is_there(home: &Home) -> bool {
    ostler_keeper::wire::connect(&home.keeper_socket()).is_ok()
}

/// Whether a manager answers.
pub(crate) async fn is_running(home: &Home) -> bool {
    Line::connect(&home.socket()).await.is_ok()
}

fn not_running(home: &Home, error: &io::Error) -> Failure {
    if let Some(failure) = crate::processes::recorded_trouble(home) {
        return failure;
    }
    let what = format!("cannot reach the ostler of {}", home.folder().display());
    match error.kind() {
        io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused => {
            Failure::new(what, "it is not running", "start it with `ostler up FILE`")
        }
        io::ErrorKind::PermissionDenied => {
            Failure::new(what, "it belongs to another user", "run the command as the user who started it")
        }
        _ => Failure::of(what, error, "look at `log/manager.log` in the home"),
    }
}

fn broken(error: &io::Error) -> Failure {
    Failure::of("cannot talk to the running ostler", error, "try again; it may just be starting anew")
}

pub(crate) fn cut_off() -> Failure {
    Failure::new(
        "cannot talk to the running ostler",
        "it closed the line before it answered",
        "try again; it may just be starting anew",
    )
}
