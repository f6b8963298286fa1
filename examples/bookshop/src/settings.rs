//! What the environment says. Invariant: addresses with passwords in them are parsed here and never shown.

use std::env;

/// Everything that can be set.
pub(crate) struct Settings {
    /// Where to listen, unless a socket is handed over.
    pub(crate) host: String,
    pub(crate) port: u16,
    pub(crate) database: tokio_postgres::Config,
    pub(crate) cache: redis::Client,
    /// Which instance of the shop this is: shown to visitors, so that one can see who answered.
    pub(crate) instance: Option<String>,
}

impl Settings {
    /// Reads the environment; the error says what to set.
    pub(crate) fn from_environment() -> Result<Self, String> {
        let port = match env::var("PORT") {
            Ok(port) => {
                port.parse().map_err(|_| format!("PORT is `{port}`, which is no port: a number up to 65535"))?
            }
            Err(_) => 8080,
        };
        // The parsers' own words are left out, because they may quote the address, and that has a password in it.
        let database = required("DATABASE_URL", "postgresql://shop:PASSWORD@127.0.0.1:5432/shop")?
            .parse()
            .map_err(|_| "DATABASE_URL is no PostgreSQL address: postgresql://USER:PASSWORD@HOST:PORT/DATABASE")?;
        let cache = redis::Client::open(required("REDIS_URL", "redis://:PASSWORD@127.0.0.1:6379/0")?)
            .map_err(|_| "REDIS_URL is no Redis address: redis://USER:PASSWORD@HOST:PORT/NUMBER")?;
        Ok(Self {
            host: env::var("HOST").unwrap_or_else(|_| "127.0.0.1".to_owned()),
            port,
            database,
            cache,
            // ostler names the instance to every program that it runs.
            instance: env::var("INSTANCE").or_else(|_| env::var("OSTLER_INSTANCE")).ok(),
        })
    }
}

fn required(name: &str, example: &str) -> Result<String, String> {
    env::var(name).map_err(|_| format!("{name} is not set. Set it to an address, for example {example}"))
}
