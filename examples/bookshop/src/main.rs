//! A small bookshop: books and orders in PostgreSQL, sessions and the cached list of books in Redis.
//!
//! It is the example estate's program, and knows nothing of ostler. What makes it easy to look after:
//! - its port and its needs come from the environment: `PORT`, `HOST`, `DATABASE_URL`, `REDIS_URL`; or it is handed its
//!   listening socket (`LISTEN_FDS`);
//! - it starts at once and waits for its needs afterwards, so that the order of starts does not matter;
//! - a need that restarts costs its callers some milliseconds and no errors;
//! - `/readyz` speaks for the program alone, `/healthz` for its needs too;
//! - when it is asked to stop (SIGTERM), it takes no new connections and finishes the requests that are under way.

mod books;
mod cache;
mod database;
mod orders;
mod pages;
mod session;
mod settings;
mod trouble;
mod web;

use std::io::{self, Write};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use axum::serve::ListenerExt;
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};

use crate::cache::Cache;
use crate::database::Database;
use crate::settings::Settings;
use crate::web::Shop;

/// How long requests that are under way may take after the program was asked to stop.
const FAREWELL: Duration = Duration::from_secs(8);

fn main() -> ExitCode {
    let settings = match Settings::from_environment() {
        Ok(settings) => settings,
        Err(problem) => {
            log(&problem);
            return ExitCode::from(64);
        }
    };
    // One thread is plenty for waiting on a database, and more instances are how this program grows.
    let served = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .and_then(|runtime| runtime.block_on(serve(settings)));
    match served {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            log(&format!("bookshop-web ended: {error}"));
            ExitCode::FAILURE
        }
    }
}

async fn serve(settings: Settings) -> io::Result<()> {
    let listener = listener(&settings).await?;
    let address = listener.local_addr()?;
    let shop = Arc::new(Shop {
        database: Database::new(settings.database),
        cache: Cache::new(settings.cache),
        instance: settings.instance,
    });
    // Makes the schema as soon as the database is there, so that the first visitor need not wait for it.
    let warm_up = Arc::clone(&shop);
    tokio::spawn(async move { warm_up.database.warm_up().await });
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    log(&format!("bookshop-web listens on http://{address}"));
    let (asked_to_stop, stopping) = tokio::sync::oneshot::channel();
    let serving = axum::serve(
        listener.tap_io(|connection| {
            // Answers are written whole, so there is nothing to wait for. Without it they only come later.
            let _ = connection.set_nodelay(true);
        }),
        web::routes(shop),
    )
    .with_graceful_shutdown(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        let _ = asked_to_stop.send(());
    });
    tokio::select! {
        served = serving.into_future() => served,
        () = async {
            // An error says that serving ended by itself, and then the other branch tells.
            if stopping.await.is_ok() { tokio::time::sleep(FAREWELL).await } else { std::future::pending().await }
        } => {
            log("bookshop-web stops, though some requests are still under way");
            Ok(())
        }
    }
}

/// The socket that was handed over, or one of its own.
async fn listener(settings: &Settings) -> io::Result<TcpListener> {
    if let Some(handed) = listenfd::ListenFd::from_env().take_tcp_listener(0)? {
        handed.set_nonblocking(true)?;
        return TcpListener::from_std(handed);
    }
    TcpListener::bind((settings.host.as_str(), settings.port)).await.map_err(|error| {
        let place = format!("cannot listen on {}:{}", settings.host, settings.port);
        io::Error::new(error.kind(), format!("{place}: {error}. Set HOST and PORT to an address that is free."))
    })
}

/// One line for whoever reads the log; nothing in it is secret. If nobody can read it, nothing is lost.
fn log(line: &str) {
    let _ = writeln!(io::stderr().lock(), "{line}");
}
