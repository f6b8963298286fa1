//! Accepts callers on one listening socket and carries each to an instance.
//!
//! Invariant: nobody is refused for lack of room; callers beyond it wait in the socket's backlog.

use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustix::io::Errno;
use rustix::net::{SocketType, sockopt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};

use crate::nobody::somebody_is_there;
use crate::pump::{Ended, pump};
use crate::reach::reach;
use crate::service::{Lease, Service};

/// The pause after an accept that failed for lack of descriptors or memory: the socket stays readable, so that
/// trying again at once would only burn a core.
const PAUSE_AFTER_LACK: Duration = Duration::from_millis(10);

/// What all listeners have in common.
#[derive(Clone, Debug)]
pub(crate) struct Common {
    /// Room for connections of all services together.
    pub(crate) room: Arc<Semaphore>,
    /// Held by every connection; the other end is told when all are gone. Nothing is ever sent.
    pub(crate) alive: mpsc::Sender<()>,
}

/// Takes over a descriptor that is said to be a listening TCP socket.
pub(crate) fn listener(descriptor: OwnedFd) -> io::Result<TcpListener> {
    if sockopt::socket_type(&descriptor)? != SocketType::STREAM || !sockopt::socket_acceptconn(&descriptor)? {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "not a listening stream socket"));
    }
    let listener = std::net::TcpListener::from(descriptor);
    listener.local_addr()?; // fails if it is not of the internet families
    listener.set_nonblocking(true)?;
    TcpListener::from_std(listener)
}

/// Accepts for ever.
pub(crate) async fn accept_all(listener: Arc<TcpListener>, service: Arc<Service>, common: Common) {
    loop {
        let Ok(slot) = Arc::clone(&service.slots).acquire_owned().await else { return };
        let (caller, accepted) = match listener.accept().await {
            Ok((caller, _)) => (caller, Instant::now()),
            Err(error) => {
                if !is_the_callers_fault(&error) {
                    tokio::time::sleep(PAUSE_AFTER_LACK).await;
                }
                continue;
            }
        };
        // After the accept: a place taken before it would be lost to the busy services.
        let Ok(place) = Arc::clone(&common.room).acquire_owned().await else { return };
        let held = Held { _slot: slot, _place: place, _alive: common.alive.clone() };
        tokio::spawn(carry(caller, Arc::clone(&service), accepted, held));
    }
}

/// What a connection holds as long as it lasts.
struct Held {
    _slot: OwnedSemaphorePermit,
    _place: OwnedSemaphorePermit,
    _alive: mpsc::Sender<()>,
}

async fn carry(mut caller: TcpStream, service: Arc<Service>, accepted: Instant, held: Held) {
    // Without it small answers wait for acknowledgements; a caller that is gone already is found out by the pump.
    let _ = caller.set_nodelay(true);
    match reach_somebody(&caller, &service, accepted).await {
        None => reset_on_close(&caller),
        Some((mut target, lease)) => {
            if pump(&mut caller, &mut target, &service.traffic).await == Ended::Broken {
                reset_on_close(&caller);
                reset_on_close(&target);
            }
            drop((caller, target)); // closed before the target counts as free of them
            drop(lease);
        }
    }
    drop(held);
}

/// As [`reach`], until somebody is at the other end.
async fn reach_somebody(caller: &TcpStream, service: &Arc<Service>, accepted: Instant) -> Option<(TcpStream, Lease)> {
    let mut lost = None;
    loop {
        let (target, lease) = reach(service, accepted, lost).await?;
        if somebody_is_there(caller, &target).await {
            return Some((target, lease));
        }
        lost = Some(lease);
    }
}

/// Makes the peer see a reset instead of an orderly end. If that cannot be set, it sees the end.
fn reset_on_close(stream: &TcpStream) {
    let _ = sockopt::set_socket_linger(stream, Some(Duration::ZERO));
}

/// Whether one caller's connection died while it was queued: the next one may be fine.
fn is_the_callers_fault(error: &io::Error) -> bool {
    let faults = [Errno::CONNABORTED, Errno::CONNRESET, Errno::INTR, Errno::PROTO];
    error.raw_os_error().is_some_and(|code| faults.iter().any(|fault| fault.raw_os_error() == code))
}
