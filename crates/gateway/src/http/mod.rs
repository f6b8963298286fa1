//! Endpoints whose callers speak HTTP: each request goes to an instance of its own, whatever became of the instance that
//! answered the last one. So a caller's connection stays open while instances come and go.
//!
//! What opens with the greeting of TLS or of HTTP/2 is carried byte by byte, as on an endpoint that understands nothing.
//!
//! Invariant: each caller gets the instances' answers to its requests, each whole or visibly broken off, in order, and
//! nothing of anybody else's.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use hyper::StatusCode;
use hyper::header::{CONNECTION, HeaderValue};
use hyper::server::conn::http1::Builder;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::listen::{Common, Held, end_on_close, reset_on_close};
use crate::service::Service;
use crate::{Ending, Patience};

mod ask;
mod body;
mod head;
mod tap;
mod tunnel;
pub(crate) mod upstream;

pub(crate) use body::Shelf;
use tap::Tapped;

/// The longest head of a request or an answer, and the most that is read ahead on one connection.
pub(crate) const HEAD_BYTES_MAX: usize = 64 * 1024;

/// What a caller opens with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Greeting {
    /// A request, it seems.
    Http,
    /// TLS or HTTP/2, which are carried and not understood.
    Other,
    /// It ended, or said nothing for too long.
    Nothing,
}

/// Waits for what a caller opens with, and leaves it in the socket.
pub(crate) async fn greeting(caller: &TcpStream, patience: Patience) -> Greeting {
    /// `ContentType.handshake` of TLS (RFC 8446, section 5.1).
    const HANDSHAKE: u8 = 22;
    /// The beginning of HTTP/2's preface (RFC 9113, section 3.4), which no request begins with.
    const PREFACE: &[u8] = b"PRI * HTTP/2";
    let mut first = [0; PREFACE.len()];
    match timeout(patience.head, caller.peek(&mut first)).await {
        Ok(Ok(count @ 1..)) if first[0] == HANDSHAKE || first[..count] == *PREFACE => Greeting::Other,
        Ok(Ok(1..)) => Greeting::Http,
        Ok(Ok(0) | Err(_)) | Err(_) => Greeting::Nothing,
    }
}

/// Answers a caller's requests until it ends, or has said nothing for long, or the gateway ends.
pub(crate) async fn serve(stream: TcpStream, peer: SocketAddr, service: Arc<Service>, held: Held, common: Common) {
    let incomplete = Arc::new(AtomicBool::new(false));
    let counted = Counted { service: Arc::clone(&service), incomplete: Arc::clone(&incomplete), resets: false };
    let Common { shelf, patience, mut ending, .. } = common;
    let told = ending.clone();
    let name = head::CallerName::of(peer.ip());
    let at = Arc::new(ask::At::default());
    let asked = Arc::clone(&service);
    let caller = Arc::new(ask::Caller { service, name, shelf, patience, incomplete, at: Arc::clone(&at), _held: held });
    let requests = service_fn(|request| {
        let (caller, ending) = (Arc::clone(&caller), told.clone());
        async move {
            let mut answer = ask::answer(caller, request).await;
            // Said with an answer, no request of the caller's can cross it on its way.
            if *ending.borrow() == Ending::Leaves && answer.status() != StatusCode::SWITCHING_PROTOCOLS {
                answer.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
            }
            Ok::<_, Infallible>(answer)
        }
    });
    let connection = Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(patience.head)
        .max_header_size(HEAD_BYTES_MAX)
        .max_buf_size(HEAD_BYTES_MAX)
        .auto_date_header(false)
        .serve_connection(TokioIo::new(Tapped { stream, tap: counted }), requests)
        .with_upgrades();
    let mut connection = pin!(connection);
    let ends_now = async move { drop(ending.wait_for(|ending| *ending == Ending::Now).await) };
    // However it ends, there is nobody left to be told.
    tokio::select! {
        _ = connection.as_mut() => {}
        // The rest of an answer does not come any more: what has come of it is broken off.
        () = asked.until_fenced(|service| at.get().is_some_and(|instance| service.is_fenced(&instance))) => {}
        () = ends_now => {
            connection.as_mut().graceful_shutdown();
            let _ = connection.await;
        }
    }
}

/// Makes both see a reset instead of an orderly end.
fn reset_both(caller: &TcpStream, target: &TcpStream) {
    reset_on_close(caller);
    reset_on_close(target);
}

/// Counts what a caller's socket carries, and sees to it that what was broken off does not look complete.
#[derive(Debug)]
struct Counted {
    service: Arc<Service>,
    /// See [`ask::Caller`].
    incomplete: Arc<AtomicBool>,
    /// Closing the socket now resets the connection.
    resets: bool,
}

impl tap::Tap for Counted {
    fn read(&mut self, _: &TcpStream, bytes: usize) {
        self.service.traffic.bytes_in.fetch_add(bytes as u64, Ordering::Relaxed);
    }

    fn wrote(&mut self, stream: &TcpStream, bytes: usize) {
        self.service.traffic.bytes_out.fetch_add(bytes as u64, Ordering::Relaxed);
        if !self.resets && self.incomplete.load(Ordering::Relaxed) {
            self.resets = true;
            reset_on_close(stream);
        }
    }

    fn may_end(&mut self, stream: &TcpStream) -> bool {
        let complete = !self.incomplete.load(Ordering::Relaxed);
        if complete && self.resets {
            self.resets = false;
            end_on_close(stream);
        }
        complete
    }
}
