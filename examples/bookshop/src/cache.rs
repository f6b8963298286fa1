//! Redis: what may be lost. Invariant: every command sent from here may be sent twice without harm, because a connection
//! that breaks half-way is made anew and the commands are sent again.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use redis::aio::MultiplexedConnection;
use redis::{AsyncConnectionConfig, FromRedisValue, Pipeline, RedisError};
use tokio::time::Instant;

use crate::books::Book;
use crate::session::Session;

/// For what pages can do without: rather no answer than a slow page.
const IMPATIENT: Duration = Duration::ZERO;
/// For what a visitor asked for: long enough for a server that restarts.
const PATIENT: Duration = Duration::from_secs(3);
const ANSWER_WITHIN: Duration = Duration::from_millis(400);
const BOOKS: &str = "bookshop:books";
/// Stock changes through other instances show at most this late.
const BOOKS_SECONDS: u64 = 10;
const SESSION_SECONDS: u64 = 7 * 24 * 3600;

/// Book ids and how many copies of each.
pub(crate) type Cart = BTreeMap<i32, u32>;

/// A connection that is made when it is needed, and made again when it broke.
pub(crate) struct Cache {
    client: redis::Client,
    connection: Mutex<Option<MultiplexedConnection>>,
}

impl Cache {
    pub(crate) fn new(client: redis::Client) -> Self {
        Self { client, connection: Mutex::new(None) }
    }

    /// The list of books as it was kept; `None` if it was not, or the cache does not work.
    pub(crate) async fn books(&self) -> Option<Vec<Book>> {
        let (kept,): (Option<String>,) = self.run(redis::pipe().get(BOOKS), IMPATIENT).await.ok()?;
        serde_json::from_str(&kept?).ok()
    }

    /// Keeps the list of books. If that fails, the next visitor's page comes from the database as well.
    pub(crate) async fn keep_books(&self, books: &[Book]) {
        if let Ok(text) = serde_json::to_string(books) {
            let _ = self.run::<()>(redis::pipe().set_ex(BOOKS, text, BOOKS_SECONDS).ignore(), IMPATIENT).await;
        }
    }

    /// Forgets the list of books, because stocks changed. If that fails, it is outdated for ten seconds.
    pub(crate) async fn forget_books(&self) {
        let _ = self.run::<()>(redis::pipe().del(BOOKS).ignore(), IMPATIENT).await;
    }

    /// What lies in the visitor's cart.
    pub(crate) async fn cart(&self, session: &Session) -> Result<Cart, RedisError> {
        let (cart,): (Cart,) = self.run(redis::pipe().hgetall(key(session)), PATIENT).await?;
        Ok(cart)
    }

    /// How many copies lie in the cart; `None` if the cache does not work, because pages can do without.
    pub(crate) async fn cart_count(&self, session: &Session) -> Option<u32> {
        let (copies,): (Vec<u32>,) = self.run(redis::pipe().hvals(key(session)), IMPATIENT).await.ok()?;
        Some(copies.iter().sum())
    }

    /// Puts so many copies of a book into the cart, in place of those that were there; 0 takes it out.
    pub(crate) async fn put_in_cart(&self, session: &Session, book: i32, quantity: u32) -> Result<(), RedisError> {
        let mut commands = redis::pipe();
        commands.atomic();
        match quantity {
            0 => commands.hdel(key(session), book).ignore(),
            _ => commands.hset(key(session), book, quantity).ignore(),
        };
        commands.expire(key(session), SESSION_SECONDS.cast_signed()).ignore();
        self.run(&commands, PATIENT).await
    }

    /// Takes everything out of the cart.
    pub(crate) async fn empty_cart(&self, session: &Session) -> Result<(), RedisError> {
        self.run(redis::pipe().del(key(session)).ignore(), PATIENT).await
    }

    /// Whether it answers, in one try.
    pub(crate) async fn check(&self) -> Result<(), RedisError> {
        self.run(redis::pipe().ping().ignore(), IMPATIENT).await
    }

    /// Runs the commands; if the connection broke, a second time on a new one, for which it waits with growing pauses
    /// until `patience` is over.
    async fn run<T: FromRedisValue>(&self, commands: &Pipeline, patience: Duration) -> Result<T, RedisError> {
        let give_up_at = Instant::now() + patience;
        let mut pause = Duration::from_millis(5);
        let mut tries = 0;
        loop {
            tries += 1;
            let error = match self.try_once(commands).await {
                Ok(value) => return Ok(value),
                Err(error) => error,
            };
            // What the server answered it would answer again, unless it is only loading its data yet.
            let passes = error.is_io_error() || error.is_connection_dropped() || error.code() == Some("LOADING");
            let again = tries < 2 || Instant::now() + pause < give_up_at;
            if !passes || !again {
                return Err(error);
            }
            self.keep(None);
            if tries > 1 {
                tokio::time::sleep(pause).await;
                pause *= 2;
            }
        }
    }

    async fn try_once<T: FromRedisValue>(&self, commands: &Pipeline) -> Result<T, RedisError> {
        let known = self.connection.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let mut connection = match known {
            Some(connection) => connection,
            None => {
                let config = AsyncConnectionConfig::new()
                    .set_connection_timeout(ANSWER_WITHIN)
                    .set_response_timeout(ANSWER_WITHIN);
                let connection = self.client.get_multiplexed_async_connection_with_config(&config).await?;
                self.keep(Some(connection.clone()));
                connection
            }
        };
        commands.query_async(&mut connection).await
    }

    fn keep(&self, connection: Option<MultiplexedConnection>) {
        *self.connection.lock().unwrap_or_else(PoisonError::into_inner) = connection;
    }
}

fn key(session: &Session) -> String {
    format!("bookshop:session:{}:cart", session.as_str())
}
