//! Health probes: an instance is asked from outside, in its own protocol, whether it works.
//!
//! Invariant: one probe takes no longer than its time limit, keeps no more than 64 KiB of what it is sent, and leaves
//! nothing behind (no socket, no process), also when it is dropped half-way. What it says holds no secret of its target.

use std::collections::BTreeMap;
use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use ostler_model::binding::Credentials;
use ostler_model::estate::Check;
use ostler_model::health::{Symptom, SymptomKind};
use ostler_model::time::in_words;

mod amqp;
mod bounded;
mod command;
mod contract;
mod exercise;
mod http;
mod login;
mod mark;
mod mysql;
mod postgresql;
mod redis;
mod scheme;
mod symptom;
mod tcp;
mod watch;

pub use contract::keeps;
pub use exercise::{Exercised, exercise};
pub use mark::{find_mark, leave_mark};
pub use watch::{UNREADY_AFTER, UNREADY_AFTER_SILENCE, UNREADY_AT_FIRST_AFTER, Watch, Word, watch};

/// What is asked, and with what.
#[derive(Clone, PartialEq, Eq)]
pub struct Target {
    /// Where the instance listens.
    pub address: SocketAddr,
    /// With which to log in. Redis is asked without logging in if there are none; PostgreSQL, MySQL and AMQP need them.
    pub credentials: Option<Credentials>,
    /// The whole environment of command probes: the instance's own.
    pub environment: BTreeMap<String, String>,
    /// The working directory of command probes, where their relative program paths start.
    pub folder: PathBuf,
    /// As whom command probes run; as this process's own user if `None`.
    pub user: Option<User>,
    /// Until then it is as if it refused connections, because a drill has it so.
    pub refused_until: Option<Instant>,
}

impl Target {
    /// A target that needs nothing but its address: no credentials, an empty environment, the root folder.
    pub fn at(address: SocketAddr) -> Self {
        Self {
            address,
            credentials: None,
            environment: BTreeMap::new(),
            folder: PathBuf::from("/"),
            user: None,
            refused_until: None,
        }
    }
}

impl fmt::Debug for Target {
    /// Without the environment: it holds credentials.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Target").field("address", &self.address).field("folder", &self.folder).finish_non_exhaustive()
    }
}

/// A numeric user and group; command probes run without supplementary groups then.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct User {
    /// User id.
    pub uid: u32,
    /// Group id.
    pub gid: u32,
}

/// Asks `target` once, and says how long the answer took.
///
/// # Errors
/// What was found wrong. [`SymptomKind::Unknown`] says nothing about the instance: the probe itself could not be made.
pub async fn probe(check: &Check, target: &Target, timeout: Duration) -> Result<Duration, Symptom> {
    let begin = Instant::now();
    if target.refused_until.is_some_and(|until| begin < until) {
        return Err(symptom::of_connect(&std::io::ErrorKind::ConnectionRefused.into(), target));
    }
    let asked = async {
        match check {
            Check::Scheme => match scheme::check(target) {
                Check::Postgresql => Box::pin(postgresql::probe(target)).await,
                Check::Redis => Box::pin(redis::probe(target)).await,
                Check::Mysql => Box::pin(mysql::probe(target)).await,
                Check::Amqp => Box::pin(amqp::probe(target)).await,
                Check::Tcp | Check::Http(_) | Check::Command(_) | Check::Scheme => tcp::probe(target.address).await,
            },
            Check::Tcp => tcp::probe(target.address).await,
            // In boxes, so that the many watchers that only sleep between two TCP probes stay small.
            Check::Http(path) => Box::pin(http::probe(path, target)).await,
            Check::Command(command) => Box::pin(command::probe(command, target)).await,
            Check::Postgresql => Box::pin(postgresql::probe(target)).await,
            Check::Redis => Box::pin(redis::probe(target)).await,
            Check::Mysql => Box::pin(mysql::probe(target)).await,
            Check::Amqp => Box::pin(amqp::probe(target)).await,
        }
    };
    match tokio::time::timeout(timeout, asked).await {
        Ok(Ok(())) => Ok(begin.elapsed()),
        Ok(Err(symptom)) => Err(symptom),
        Err(_) => Err(symptom::symptom(SymptomKind::TimedOut, out_of_time(check, target, timeout))),
    }
}

fn out_of_time(check: &Check, target: &Target, timeout: Duration) -> String {
    let (address, timeout) = (target.address, in_words(timeout));
    match check {
        Check::Tcp => format!("{address} did not accept a connection within {timeout}"),
        Check::Http(path) => format!("GET {path} at {address} was not answered within {timeout}"),
        Check::Command(_) => format!("the check command did not end within {timeout}, and was killed"),
        Check::Postgresql => format!("PostgreSQL at {address} did not answer `select 1` within {timeout}"),
        Check::Redis => format!("Redis at {address} did not answer PING within {timeout}"),
        Check::Mysql => format!("MySQL at {address} did not answer `select 1` within {timeout}"),
        Check::Amqp => format!("AMQP at {address} did not open a channel within {timeout}"),
        Check::Scheme => format!("{address} did not answer within {timeout}"),
    }
}
