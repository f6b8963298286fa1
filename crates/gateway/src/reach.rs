//! Finds an instance that accepts a caller's connection, however long the caller may be held.
//!
//! Invariant: a caller is given up only when it has been held as long as its table says and a last attempt has failed.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use ostler_model::ids::InstanceId;
use tokio::net::TcpStream;
use tokio::time::{sleep_until, timeout, timeout_at};

use crate::http::upstream::Upstream;
use crate::pause::pause;
use crate::service::{Lease, RETRYING_MAX, Service};

/// How long one instance may take to accept. Refusals come at once; only a stuck or vanished machine takes longer.
const CONNECT_TIME: Duration = Duration::from_millis(250);
/// On this machine accepting takes no time either. But a connect that meets a socket that is just being closed is
/// dropped without a word, and the kernel repeats it only after a second: a killed instance is back long before.
const CONNECT_TIME_LOCAL: Duration = Duration::from_millis(2);
/// Should this machine be so busy that this is too short, then each attempt may take this part of the time held.
const CONNECT_PART: u32 = 4;
/// Between two rounds a caller pauses for this part of the time it has been held, so that an instance that is back is
/// noticed at most that much later than it came, however long it was away …
const PAUSE_PART: u32 = 8;
/// … but for no less than this: small programs are back after a millisecond or two …
const PAUSE_MIN: Duration = Duration::from_micros(200);
/// … and for no longer than this.
const PAUSE_MAX: Duration = Duration::from_millis(20);

/// A connection from which no byte has come is asked after this time whether anybody is there.
const DOUBT: Duration = Duration::from_secs(1);
/// One from which bytes have come, after this time.
const TRUST: Duration = Duration::from_secs(60);

/// Connects a caller that was accepted at `accepted` to an instance of the service. `None` if it was held in vain.
/// `lost` is whom it was connected to when that turned out to lead nowhere.
pub(crate) async fn reach(
    service: &Arc<Service>,
    accepted: Instant,
    lost: Option<&InstanceId>,
) -> Option<(TcpStream, Lease)> {
    match (Caller { service, accepted, affected: false, takes: Takes::New }).reach(lost).await? {
        (Line::New(stream), lease) => Some((stream, lease)),
        (Line::Kept(_), _) => None, // it was not asked for
    }
}

/// As [`reach`], but a connection that is kept for it will do.
pub(crate) async fn reach_or_reuse(
    service: &Arc<Service>,
    asked: Instant,
    lost: Option<&InstanceId>,
    takes: Takes,
) -> Option<(Line, Lease)> {
    Caller { service, accepted: asked, affected: false, takes }.reach(lost).await
}

/// Which connections a caller can use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Takes {
    /// New ones.
    New,
    /// Those as well that are kept and have not been idle for longer than this.
    Kept {
        /// How long.
        idle_max: Duration,
    },
}

/// A connection to a target.
#[derive(Debug)]
pub(crate) enum Line {
    New(TcpStream),
    Kept(Upstream),
}

/// The pause of one of so many callers that try again together: all of them together try as often as one alone would,
/// because the instance that is starting needs the processor more than they do.
fn pause_after(held: Duration, retrying: usize) -> Duration {
    let together = u32::try_from(retrying).unwrap_or(u32::MAX);
    (held / PAUSE_PART).max(PAUSE_MIN).saturating_mul(together).min(PAUSE_MAX)
}

/// Someone who waits for a connection.
struct Caller<'a> {
    service: &'a Arc<Service>,
    accepted: Instant,
    /// Whether it waits by the account of troubles.
    affected: bool,
    takes: Takes,
}

impl Caller<'_> {
    async fn reach(mut self, lost: Option<&InstanceId>) -> Option<(Line, Lease)> {
        if let Some(lost) = lost {
            self.affected(Some(lost));
        }
        if let Some(reached) = self.try_each().await {
            return Some(reached);
        }
        let (service, accepted) = (self.service, self.accepted);
        let mut permit = None;
        let mut since = accepted;
        loop {
            let mut changed = std::pin::pin!(service.changed.notified());
            changed.as_mut().enable(); // before the attempt, so that a change during it is not missed
            if let Some(reached) = self.try_each().await {
                return Some(reached);
            }
            let deadline = accepted + service.hold(); // asked each time: a new table may have another
            if Instant::now() >= deadline {
                self.affected = false;
                service.gave_up(accepted.elapsed());
                return None;
            }
            if permit.is_none() {
                // Then try at once: whoever had the permit may just have got through.
                permit = timeout_at(deadline.into(), service.retrying.acquire()).await.ok();
                continue;
            }
            let length = pause_after(since.elapsed(), RETRYING_MAX - service.retrying.available_permits());
            tokio::select! {
                () = changed => since = Instant::now(),
                () = pause(length), if service.has_targets() => {}
                () = sleep_until(deadline.into()) => {}
            }
        }
    }

    /// One attempt at each target, best first.
    async fn try_each(&mut self) -> Option<(Line, Lease)> {
        let mut tried = Vec::new();
        while let Some(lease) = self.service.lease(&tried) {
            let refused = self.service.refuses(&lease.target);
            if !refused && let Some(kept) = self.kept(&lease).await {
                self.connected(&lease);
                return Some((Line::Kept(kept), lease));
            }
            let start = Instant::now();
            let connected = match refused {
                true => Err(io::ErrorKind::ConnectionRefused.into()),
                false => connect(lease.target.address, self.accepted.elapsed()).await,
            };
            match connected {
                Ok(stream) => {
                    self.service.traffic.connections.fetch_add(1, Ordering::Relaxed);
                    self.connected(&lease);
                    return Some((Line::New(stream), lease));
                }
                Err(error) => {
                    if !is_our_own_lack(&error) {
                        self.service.suspect(&lease.target, start.elapsed());
                        self.service.asked(&lease.target, None);
                    }
                    self.affected(Some(&lease.target.instance));
                    tried.push(lease.target.address);
                }
            }
        }
        if tried.is_empty() {
            self.affected(None);
        }
        None
    }

    /// A connection that is kept for the leased target and that its other end has not closed.
    async fn kept(&self, lease: &Lease) -> Option<Upstream> {
        let Takes::Kept { idle_max } = self.takes else { return None };
        while let Some(mut kept) = self.service.take_idle(&lease.target, idle_max) {
            if kept.is_usable().await {
                return Some(kept);
            }
        }
        None
    }

    fn connected(&mut self, lease: &Lease) {
        self.service.connected(&lease.target, self.affected.then(|| self.accepted.elapsed()));
        self.affected = false;
    }

    fn affected(&mut self, instance: Option<&InstanceId>) {
        if !self.affected {
            self.affected = true;
            self.service.affected(instance);
        }
    }
}

impl Drop for Caller<'_> {
    /// A caller who no longer waits must not count as one who does.
    fn drop(&mut self) {
        if self.affected {
            self.service.left();
        }
    }
}

async fn connect(address: SocketAddr, held: Duration) -> io::Result<TcpStream> {
    let stream = timeout(connect_time(address, held), TcpStream::connect(address)).await.map_err(io::Error::from)??;
    if is_connected_to_itself(&stream) {
        return Err(io::ErrorKind::ConnectionRefused.into());
    }
    stream.set_nodelay(true)?;
    doubt(&stream);
    Ok(stream)
}

/// A connect that meets a listener that is just dying can succeed here while the other end never comes to be, and no
/// word of that arrives. So the kernel asks soon whether anybody is there, until the first byte from there proves it.
fn doubt(stream: &TcpStream) {
    // Without it a connection works as well, except in that rare case.
    let _ = ask_after(stream, DOUBT);
}

/// Somebody is there: from now on it is enough to notice within minutes that a machine has vanished.
pub(crate) fn trust(stream: &TcpStream) {
    let _ = ask_after(stream, TRUST); // as above
}

fn ask_after(stream: &TcpStream, quiet: Duration) -> rustix::io::Result<()> {
    use rustix::net::sockopt;
    sockopt::set_tcp_keepidle(stream, quiet)?;
    sockopt::set_tcp_keepintvl(stream, quiet)?;
    sockopt::set_tcp_keepcnt(stream, 3)?;
    sockopt::set_socket_keepalive(stream, true)
}

fn connect_time(address: SocketAddr, held: Duration) -> Duration {
    if address.ip().is_loopback() {
        (held / CONNECT_PART).clamp(CONNECT_TIME_LOCAL, CONNECT_TIME)
    } else {
        CONNECT_TIME
    }
}

/// On one machine, a connect to a port that nobody listens on succeeds when the kernel happens to pick that very port
/// as the source: the socket then talks to itself, and keeps the instance from listening.
fn is_connected_to_itself(stream: &TcpStream) -> bool {
    matches!((stream.local_addr(), stream.peer_addr()), (Ok(local), Ok(peer)) if local == peer)
}

/// Whether this process lacks descriptors, ports or memory, which says nothing about the target.
fn is_our_own_lack(error: &io::Error) -> bool {
    use rustix::io::Errno;
    let lacks = [Errno::MFILE, Errno::NFILE, Errno::ADDRNOTAVAIL, Errno::NOBUFS, Errno::NOMEM];
    error.raw_os_error().is_some_and(|code| lacks.iter().any(|lack| lack.raw_os_error() == code))
}

#[cfg(test)]
mod tests {
    use tokio::net::{TcpListener, TcpSocket};
    use tokio::sync::mpsc;

    use super::*;
    use crate::messages::{Says, Table, Target};

    const HOLD_MS: u64 = 600_000;

    fn service() -> (Arc<Service>, mpsc::Receiver<Says>) {
        let (says, said) = mpsc::channel(8);
        (Arc::new(Service::new("web".into(), 100, says)), said)
    }

    fn table(address: SocketAddr) -> Table {
        Table {
            targets: vec![Target { instance: "web-1".parse().unwrap(), address }],
            hold_ms: HOLD_MS,
            ..Table::default()
        }
    }

    /// Callers that have all failed at least once.
    async fn held_callers(service: &Arc<Service>, count: usize) -> Vec<tokio::task::JoinHandle<bool>> {
        let caller = |_| {
            let service = Arc::clone(service);
            tokio::spawn(async move { reach(&service, Instant::now(), None).await.is_some() })
        };
        let callers = (0..count).map(caller).collect();
        while service.retrying.available_permits() > RETRYING_MAX - count {
            tokio::task::yield_now().await;
        }
        callers
    }

    #[tokio::test]
    async fn all_who_waited_are_in_one_report() {
        let (service, mut said) = service();
        let socket = TcpSocket::new_v4().unwrap();
        socket.bind(([127, 0, 0, 1], 0).into()).unwrap();
        service.set_table(Some(table(socket.local_addr().unwrap())));
        let callers = held_callers(&service, 5).await;
        let _listener = socket.listen(16).unwrap();
        for caller in callers {
            assert!(caller.await.unwrap());
        }
        let Some(Says::Trouble { instance, connects_waited, connects_failed, longest_wait_us, .. }) = said.recv().await
        else {
            panic!("a trouble is reported");
        };
        assert_eq!(instance, Some("web-1".parse().unwrap()));
        assert_eq!((connects_waited, connects_failed), (5, 0));
        assert!(longest_wait_us > 0);
        assert!(said.try_recv().is_err(), "one report");
    }

    #[test]
    fn pauses_follow_the_time_held_and_the_number_of_callers() {
        let millis = Duration::from_millis;
        assert_eq!(pause_after(Duration::ZERO, 1), PAUSE_MIN);
        assert_eq!(pause_after(millis(8), 1), millis(1));
        assert_eq!(pause_after(millis(8), 4), millis(4));
        assert_eq!(pause_after(millis(8_000), RETRYING_MAX), PAUSE_MAX);
    }

    #[test]
    fn connects_on_this_machine_are_soon_tried_again() {
        let here = ([127, 0, 0, 1], 80).into();
        assert_eq!(connect_time(here, Duration::ZERO), CONNECT_TIME_LOCAL);
        assert_eq!(connect_time(here, Duration::from_millis(40)), Duration::from_millis(10));
        assert_eq!(connect_time(here, Duration::from_secs(9)), CONNECT_TIME);
        assert_eq!(connect_time(([192, 0, 2, 1], 80).into(), Duration::ZERO), CONNECT_TIME);
    }

    #[tokio::test]
    async fn a_connection_is_doubted_until_its_first_byte() {
        use rustix::net::sockopt;
        use tokio::io::{AsyncReadExt, AsyncWriteExt};

        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let mut target = connect(address, Duration::ZERO).await.unwrap();
        let (mut instance, _) = listener.accept().await.unwrap();
        assert!(sockopt::socket_keepalive(&target).unwrap());
        assert_eq!(sockopt::tcp_keepidle(&target).unwrap(), DOUBT);
        let mut client = TcpStream::connect(address).await.unwrap();
        let (mut caller, _) = listener.accept().await.unwrap();
        instance.write_all(b"hello").await.unwrap();
        let mut word = [0; 5];
        let traffic = crate::pump::Traffic::new(ostler_model::time::Timestamp(0));
        tokio::select! {
            _ = crate::pump::pump(&mut caller, &mut target, &traffic, |_| {}) => panic!("nobody ended it"),
            read = client.read_exact(&mut word) => drop(read.unwrap()),
        }
        assert_eq!(sockopt::tcp_keepidle(&target).unwrap(), TRUST);
    }

    #[tokio::test]
    async fn a_table_ends_the_wait_for_one() {
        let (service, mut said) = service();
        service.set_table(Some(Table { hold_ms: HOLD_MS, ..Table::default() }));
        let callers = held_callers(&service, 3).await;
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        service.set_table(Some(table(listener.local_addr().unwrap())));
        for caller in callers {
            assert!(caller.await.unwrap());
        }
        let Some(Says::Trouble { instance: None, connects_waited: 3, .. }) = said.recv().await else {
            panic!("three waited for an instance");
        };
    }

    #[tokio::test]
    async fn a_connection_to_itself_is_noticed() {
        let socket = TcpSocket::new_v4().unwrap();
        socket.bind(([127, 0, 0, 1], 0).into()).unwrap();
        let own = socket.local_addr().unwrap();
        assert!(is_connected_to_itself(&socket.connect(own).await.unwrap()));

        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        assert!(!is_connected_to_itself(&connect(listener.local_addr().unwrap(), Duration::ZERO).await.unwrap()));
    }
}
