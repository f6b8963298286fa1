//! PostgreSQL: what must not be lost. A few connections that are made when needed, and made again when they broke.
//!
//! Invariant: a [`Job`] may be run twice without harm, so that it can be repeated when its connection broke half-way.

use std::error::Error as _;
use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::{Mutex as AsyncMutex, Semaphore};
use tokio::time::Instant;
use tokio_postgres::error::SqlState;
use tokio_postgres::{Client, Config, Error, NoTls};

use crate::books;

/// Connections are dear to PostgreSQL (a process each), and queries here take less than a millisecond.
const CONNECTIONS_MAX: usize = 8;
/// How long a visitor waits for a server that restarts.
const PATIENT: Duration = Duration::from_secs(5);
/// A job is repeated once for a connection that broke, and once for a schema that is gone; never in a circle.
const TRIES_MAX: u32 = 3;
const PAUSE_MIN: Duration = Duration::from_millis(10);
const PAUSE_MAX: Duration = Duration::from_millis(500);
/// Any number will do that all instances agree on, and that nobody else takes for a lock of his own.
const SCHEMA_LOCK: i64 = 0x626f_6f6b_7368_6f70;

/// Something to do on one connection. Running it twice must be as good as once.
pub(crate) trait Job: Sync {
    /// What comes out of it.
    type Output: Send;

    /// Does it.
    fn run(&self, client: &mut Client) -> impl Future<Output = Result<Self::Output, Error>> + Send;
}

/// Why a job was not done.
#[derive(Debug)]
pub(crate) enum DatabaseError {
    /// Nothing could be asked.
    Unreachable(Error),
    /// It answered with an error.
    Failed(Error),
    /// All connections were in use for too long.
    Busy,
}

impl fmt::Display for DatabaseError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (what, error) = match self {
            Self::Unreachable(error) => ("the database cannot be reached", error),
            Self::Failed(error) => ("the database did not do it", error),
            Self::Busy => return f.write_str("all connections to the database are in use"),
        };
        match error.source() {
            Some(cause) => write!(f, "{what}: {cause}"),
            None => write!(f, "{what}: {error}"),
        }
    }
}

/// The shop's database.
pub(crate) struct Database {
    config: Config,
    places: Semaphore,
    idle: Mutex<Vec<Client>>,
    schema_is_there: AtomicBool,
    making_schema: AsyncMutex<()>,
}

impl Database {
    pub(crate) fn new(mut config: Config) -> Self {
        config.connect_timeout(Duration::from_secs(1)).tcp_user_timeout(Duration::from_secs(3));
        config.application_name("bookshop-web");
        Self {
            config,
            places: Semaphore::new(CONNECTIONS_MAX),
            idle: Mutex::new(Vec::new()),
            schema_is_there: AtomicBool::new(false),
            making_schema: AsyncMutex::new(()),
        }
    }

    /// Returns when the database is there and has its schema, however long that takes.
    pub(crate) async fn warm_up(&self) {
        while let Err(error) = self.run(&books::List).await {
            crate::log(&format!("waiting for the database: {error}"));
            tokio::time::sleep(PAUSE_MAX).await;
        }
    }

    /// Does `job`, waiting some seconds for a server that restarts.
    pub(crate) async fn run<J: Job>(&self, job: &J) -> Result<J::Output, DatabaseError> {
        let place = tokio::time::timeout(PATIENT, self.places.acquire()).await.map_err(|_| DatabaseError::Busy)?;
        let _place = place.expect("the semaphore is never closed");
        let give_up_at = Instant::now() + PATIENT;
        let mut tries = 0;
        loop {
            tries += 1;
            let mut client = self.connect(give_up_at).await?;
            let result = match self.ensure_schema(&mut client).await {
                Ok(()) => job.run(&mut client).await,
                Err(error) => Err(error),
            };
            match result {
                Ok(output) => {
                    self.put_back(client);
                    return Ok(output);
                }
                Err(error) if tries < TRIES_MAX && is_lost(&error) => self.idle().clear(), // the others broke with it
                Err(error) if tries < TRIES_MAX && error.code() == Some(&SqlState::UNDEFINED_TABLE) => {
                    // Somebody restored or replaced the database while we ran.
                    self.schema_is_there.store(false, Ordering::Relaxed);
                    self.put_back(client);
                }
                Err(error) => {
                    self.put_back(client);
                    return Err(DatabaseError::Failed(error));
                }
            }
        }
    }

    /// Whether it answers, in one try. Waits for its turn if all connections are in use; who asks says how long.
    pub(crate) async fn check(&self) -> Result<(), DatabaseError> {
        let _place = self.places.acquire().await.expect("the semaphore is never closed");
        let client = self.connect(Instant::now()).await?;
        client.simple_query("select 1").await.map_err(DatabaseError::Failed)?;
        self.put_back(client);
        Ok(())
    }

    /// An idle connection, or a new one, tried again with growing pauses until `give_up_at`.
    async fn connect(&self, give_up_at: Instant) -> Result<Client, DatabaseError> {
        while let Some(client) = { self.idle().pop() } {
            if !client.is_closed() {
                return Ok(client);
            }
        }
        let mut pause = PAUSE_MIN;
        loop {
            match self.config.connect(NoTls).await {
                Ok((client, connection)) => {
                    // It ends when the client is dropped or the server goes; the client tells us of the latter.
                    tokio::spawn(connection);
                    return Ok(client);
                }
                Err(error) if !may_pass(&error) || Instant::now() + pause >= give_up_at => {
                    return Err(DatabaseError::Unreachable(error));
                }
                Err(_) => tokio::time::sleep(pause).await,
            }
            pause = (pause * 2).min(PAUSE_MAX);
        }
    }

    async fn ensure_schema(&self, client: &mut Client) -> Result<(), Error> {
        if self.schema_is_there.load(Ordering::Relaxed) {
            return Ok(());
        }
        let _one_at_a_time = self.making_schema.lock().await;
        if !self.schema_is_there.load(Ordering::Relaxed) {
            make_schema(client).await?;
            self.schema_is_there.store(true, Ordering::Relaxed);
        }
        Ok(())
    }

    fn put_back(&self, client: Client) {
        if !client.is_closed() {
            self.idle().push(client);
        }
    }

    fn idle(&self) -> std::sync::MutexGuard<'_, Vec<Client>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Makes what is not there yet. All instances may do this at once: the lock lets one go first, and the others find
/// everything done; it goes when the transaction ends, however it ends.
async fn make_schema(client: &mut Client) -> Result<(), Error> {
    let transaction = client.transaction().await?;
    transaction.execute("select pg_advisory_xact_lock($1)", &[&SCHEMA_LOCK]).await?;
    transaction.batch_execute(include_str!("schema.sql")).await?;
    transaction.commit().await
}

/// Whether the connection broke, so that nobody knows what became of the job.
fn is_lost(error: &Error) -> bool {
    let ended_by_server = [&SqlState::ADMIN_SHUTDOWN, &SqlState::CRASH_SHUTDOWN, &SqlState::CANNOT_CONNECT_NOW];
    match error.code() {
        Some(code) => ended_by_server.contains(&code),
        None => error.is_closed() || is_io(error),
    }
}

/// Whether connecting may succeed in a moment: nobody listens yet, or the server is still starting.
fn may_pass(error: &Error) -> bool {
    is_lost(error) || is_io(error) || error.code() == Some(&SqlState::TOO_MANY_CONNECTIONS)
}

fn is_io(error: &Error) -> bool {
    error.source().is_some_and(|cause| cause.is::<std::io::Error>())
}
