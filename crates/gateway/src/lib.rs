//! Endpoints that stay put while instances change: the process that carries callers' traffic.
//!
//! The keeper hands over a listening socket for each service, the manager (through the keeper) a table of the
//! instances that are ready. Each accepted caller is connected to one of them; if none can be reached it is held, not
//! refused.
//!
//! Invariant: connections depend on no other process of ostler. With keeper and manager gone, everything that has been
//! handed over is served on.

use std::fmt;
use std::io::{self, Write};
use std::path::PathBuf;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use ostler_keeper::protocol::GATEWAY_ENDS_WITHIN;
use rustix::process::{Resource, getrlimit, setrlimit};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{Semaphore, mpsc, watch};

pub mod choose;
mod http;
mod hub;
mod link;
mod listen;
pub mod messages;
mod nobody;
mod outlier;
mod pause;
mod pump;
mod reach;
mod service;
mod tally;
mod trouble;
pub mod wire;

/// How long open connections may go on after the gateway was asked to end. `ostler down` has then drained every
/// instance for its own `stop.drain` and stopped it, so only the last bytes to a caller can be on their way. It is
/// shorter than the keeper's patience: the gateway ends by itself.
const DRAIN_AT_END: Duration = Duration::from_secs(3);
/// A gateway that was replaced takes so long at most to say what its last callers got.
const SAYS_AT_END: Duration = Duration::from_secs(1);
const _: () = assert!(DRAIN_AT_END.as_millis() < GATEWAY_ENDS_WITHIN.as_millis());
/// Reports that wait while the keeper is away; more are dropped.
const REPORTS_WAITING_MAX: usize = 1024;
/// Connections of one service, if nothing else is said.
const CONNECTIONS_OF_A_SERVICE: usize = 10_000;
/// More descriptors than this are not counted on, whatever the limit says.
const DESCRIPTORS_MAX: u64 = 1 << 20;

/// What the gateway has to be told.
pub struct Config {
    /// The keeper's socket file: `keeper.sock` in the home.
    pub keeper_socket: PathBuf,
    /// Called when another gateway has taken over from this one, which from then on only carries what it has.
    pub replaced: Box<dyn FnOnce() + Send>,
}

impl Config {
    /// A gateway of this keeper.
    pub fn at(keeper_socket: impl Into<PathBuf>) -> Self {
        Self { keeper_socket: keeper_socket.into(), replaced: Box::new(|| {}) }
    }
}

impl fmt::Debug for Config {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Config").field("keeper_socket", &self.keeper_socket).finish_non_exhaustive()
    }
}

/// Whether and how this gateway ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ending {
    /// It does not.
    Not,
    /// Another one has taken over: whoever is connected is told so with the next answer. Nothing is closed that a caller
    /// may just be sending something on.
    Leaves,
    /// Now: what is idle is closed.
    Now,
}

/// How long callers and instances may take on endpoints that understand HTTP.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Patience {
    /// From when a caller could send a request until its head is there. So a connection may also be idle for so long.
    pub head: Duration,
    /// Between two parts of the body of a request.
    pub body: Duration,
    /// From when an instance was sent all of a request until the head of its answer is there.
    pub answer: Duration,
}

impl Default for Patience {
    fn default() -> Self {
        Self { head: Duration::from_secs(60), body: Duration::from_secs(60), answer: Duration::from_secs(300) }
    }
}

/// How many connections are carried at the same time. Callers beyond wait in the backlog of their socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Of one service.
    pub connections_of_a_service: usize,
    /// Of all services together.
    pub connections: usize,
    /// How long each may take.
    pub patience: Patience,
}

impl Limits {
    /// Raises this process's limit of open files as far as it may, and derives from it: two descriptors for each
    /// connection, and an eighth for everything else.
    pub fn of_this_process() -> Self {
        let mut limit = getrlimit(Resource::Nofile);
        limit.current = limit.maximum;
        // If it may not be raised, what is in force counts.
        let _ = setrlimit(Resource::Nofile, limit);
        let descriptors = getrlimit(Resource::Nofile).current.unwrap_or(DESCRIPTORS_MAX).min(DESCRIPTORS_MAX);
        let connections = usize::try_from((descriptors - descriptors / 8) / 2).unwrap_or(usize::MAX).max(1);
        let connections_of_a_service = CONNECTIONS_OF_A_SERVICE.min(connections);
        Self { connections_of_a_service, connections, patience: Patience::default() }
    }
}

/// Why the gateway ended by itself. It does so only while it serves nothing.
#[derive(Debug, thiserror::Error)]
pub enum GatewayError {
    /// The end could not be listened for.
    #[error("cannot prepare for the signal to end")]
    Signal(#[source] io::Error),
    /// No keeper was there for a minute.
    #[error("cannot reach the keeper at {path}")]
    NoKeeper {
        /// The socket file.
        path: PathBuf,
        /// The last attempt's.
        #[source]
        source: io::Error,
    },
    /// Keeper and gateway are of different builds.
    #[error("the keeper speaks protocol version {0}, this gateway version {version}", version = ostler_keeper::protocol::VERSION)]
    OtherVersion(u32),
}

impl GatewayError {
    /// What a person can do about it.
    pub fn remedy(&self) -> String {
        match self {
            Self::Signal(_) => "check the process's limits (`ulimit -n`), then start it again".to_owned(),
            Self::NoKeeper { .. } => {
                "the keeper starts the gateway by itself: run `ostler up` rather than the gateway alone".to_owned()
            }
            Self::OtherVersion(_) => {
                "the running keeper is of another version of ostler: end it with `ostler down`, then `ostler up`"
                    .to_owned()
            }
        }
    }
}

/// Carries traffic until SIGTERM, or until another gateway has taken over and all that this one carried has ended; then accepts no more, lets open connections go on for up to three seconds, and
/// returns. Needs a tokio runtime with I/O and time.
///
/// # Errors
/// See [`GatewayError`]; never while something is served.
pub async fn run(config: Config) -> Result<(), GatewayError> {
    let mut terminate = signal(SignalKind::terminate()).map_err(GatewayError::Signal)?;
    let stop = async move {
        terminate.recv().await;
    };
    run_until(config, Limits::of_this_process(), stop).await
}

/// [`run`] with limits of one's own, and until `stop` instead of SIGTERM.
///
/// # Errors
/// As [`run`].
pub async fn run_until(config: Config, limits: Limits, stop: impl Future<Output = ()>) -> Result<(), GatewayError> {
    let mut stop = pin!(stop);
    let (says_in, says_out) = mpsc::channel(REPORTS_WAITING_MAX);
    let (alive, mut all_gone) = mpsc::channel(1);
    let room = Arc::new(Semaphore::new(limits.connections.min(Semaphore::MAX_PERMITS)));
    let (end, ending) = watch::channel(Ending::Not);
    let common = listen::Common { room, alive, ending, shelf: http::Shelf::default(), patience: limits.patience };
    let hub = hub::Hub::new(limits, common, says_in);
    let mut link = link::Link::new(&config.keeper_socket, hub, says_out);
    if let link::Left::Replaced { within } = link.run(stop.as_mut()).await? {
        (config.replaced)();
        let _ = end.send(Ending::Leaves); // an error: there is nobody who could be told
        link.leave().await;
        let over = async {
            tokio::select! {
                _ = all_gone.recv() => {}
                () = tokio::time::sleep(within) => {}
                () = stop.as_mut() => {}
            }
        };
        link.run(pin!(over)).await?;
        link.report_all(SAYS_AT_END).await;
    }
    let mut hub = link.into_hub();
    hub.stop_accepting();
    let _ = end.send(Ending::Now); // whoever is in the middle of a request gets its answer, and no other one
    drop(hub); // with it the last holder of `alive` that is not a connection
    // Whether all are gone or the time is over: this is the end.
    let _ = tokio::time::timeout(DRAIN_AT_END, all_gone.recv()).await;
    Ok(())
}

/// One line for the gateway's log, which is its standard error. Never what a message held: it may be anything.
fn note(line: impl fmt::Display) {
    let _ = writeln!(io::stderr().lock(), "gateway: {line}");
}
