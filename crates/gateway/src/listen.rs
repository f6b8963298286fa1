//! Accepts callers on one listening socket and carries each to an instance.
//!
//! Invariant: nobody is refused for lack of room; callers beyond it wait in the socket's backlog.

use std::io;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::{Duration, Instant};

use ostler_model::estate::Protocol;
use ostler_model::ids::InstanceId;
use rustix::io::Errno;
use rustix::net::{SocketType, sockopt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, watch};

use crate::http::{self, Greeting, Shelf};
use crate::nobody::somebody_is_there;
use crate::pump::{Ended, pump};
use crate::reach::reach;
use crate::service::{Lease, Service};
use crate::tally::Went;
use crate::{Ending, Patience};

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
    /// Changes when the gateway is asked to end.
    pub(crate) ending: watch::Receiver<Ending>,
    /// Room for bodies that are held.
    pub(crate) shelf: Shelf,
    /// How long callers and instances may take.
    pub(crate) patience: Patience,
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

/// Accepts until the gateway ends or leaves. It is not cut off in between: whoever was accepted is carried.
pub(crate) async fn accept_all(listener: Arc<TcpListener>, service: Arc<Service>, common: Common) {
    let mut ending = common.ending.clone();
    loop {
        let slot = tokio::select! {
            slot = Arc::clone(&service.slots).acquire_owned() => slot,
            _ = ending.wait_for(|ending| *ending != Ending::Not) => return,
        };
        let Ok(slot) = slot else { return };
        let accepted = tokio::select! {
            biased;
            _ = ending.wait_for(|ending| *ending != Ending::Not) => return,
            accepted = listener.accept() => accepted,
        };
        let (caller, peer, accepted) = match accepted {
            Ok((caller, peer)) => (caller, peer, Instant::now()),
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
        match service.protocol() {
            Protocol::Tcp => drop(tokio::spawn(carry(caller, Arc::clone(&service), accepted, held))),
            // A task of its own, because one that may carry either would always be as big as the bigger one.
            Protocol::Http => drop(tokio::spawn(serve(caller, peer, Arc::clone(&service), held, common.clone()))),
        }
    }
}

/// What a connection holds as long as it lasts.
#[derive(Debug)]
pub(crate) struct Held {
    _slot: OwnedSemaphorePermit,
    _place: OwnedSemaphorePermit,
    _alive: mpsc::Sender<()>,
}

/// Answers a caller's requests, unless it speaks something that can only be carried.
async fn serve(caller: TcpStream, peer: SocketAddr, service: Arc<Service>, held: Held, common: Common) {
    let _ = caller.set_nodelay(true); // as below
    match http::greeting(&caller, common.patience).await {
        Greeting::Http => http::serve(caller, peer, service, held, common).await,
        Greeting::Other => carry(caller, service, Instant::now(), held).await,
        Greeting::Nothing => {}
    }
}

async fn carry(mut caller: TcpStream, service: Arc<Service>, accepted: Instant, held: Held) {
    // Without it small answers wait for acknowledgements; a caller that is gone already is found out by the pump.
    let _ = caller.set_nodelay(true);
    match reach_somebody(&caller, &service, accepted).await {
        None => {
            service.served(Protocol::Tcp, None, Went::Wrong);
            reset_on_close(&caller);
        }
        Some((mut target, lease)) => {
            service.served(Protocol::Tcp, Some(&lease.target.instance), Went::Well(accepted.elapsed()));
            if pump_unless_fenced(&mut caller, &mut target, &lease).await == Ended::Broken {
                reset_on_close(&caller);
                reset_on_close(&target);
            }
            drop((caller, target)); // closed before the target counts as free of them
            drop(lease);
        }
    }
    drop(held);
}

/// Carries until both are done, or the target may not be got at any more.
pub(crate) async fn pump_unless_fenced(caller: &mut TcpStream, target: &mut TcpStream, lease: &Lease) -> Ended {
    let service = lease.service();
    tokio::select! {
        ended = pump(caller, target, &service.traffic, |busy| lease.is_busy(busy)) => ended,
        () = service.until_fenced(|service| service.is_fenced(&lease.target.instance)) => Ended::Broken,
    }
}

/// As [`reach`], until somebody is at the other end.
async fn reach_somebody(caller: &TcpStream, service: &Arc<Service>, accepted: Instant) -> Option<(TcpStream, Lease)> {
    let mut lost: Option<InstanceId> = None;
    loop {
        let (target, lease) = reach(service, accepted, lost.as_ref()).await?;
        if somebody_is_there(caller, &target).await {
            return Some((target, lease));
        }
        drop(target);
        lost = Some(lease.target.instance.clone());
    }
}

/// Makes the peer see a reset instead of an orderly end. If that cannot be set, it sees the end.
pub(crate) fn reset_on_close(stream: &TcpStream) {
    let _ = sockopt::set_socket_linger(stream, Some(Duration::ZERO));
}

/// Takes [`reset_on_close`] back.
pub(crate) fn end_on_close(stream: &TcpStream) {
    let _ = sockopt::set_socket_linger(stream, None);
}

/// Whether one caller's connection died while it was queued: the next one may be fine.
fn is_the_callers_fault(error: &io::Error) -> bool {
    let faults = [Errno::CONNABORTED, Errno::CONNRESET, Errno::INTR, Errno::PROTO];
    error.raw_os_error().is_some_and(|code| faults.iter().any(|fault| fault.raw_os_error() == code))
}
