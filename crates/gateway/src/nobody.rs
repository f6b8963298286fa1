//! Finds connections on this machine whose other end never came to be.
//!
//! A connect that meets a listener that is just being closed can succeed here while over there the handshake never gets
//! over, and no word of that arrives for a second. Who speaks first finds out by the reset that answers; who waits for a
//! greeting would wait until then. So while both sides are silent the kernel is asked for the other
//! end (`sock_diag(7)`, an exact lookup of one socket; the whole question takes a few microseconds).
//!
//! Invariant: a connection is called dead only if its segments would reach a listener, or half a connection that nobody
//! can accept now, instead of a connection. In all doubt (another kind of machine, a kernel without the facility, a redirected port) it is left alone.

use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use rustix::net::{self, AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, netlink};
use tokio::net::TcpStream;
use tokio::time::sleep;

/// So long both sides have to be silent before the kernel is asked for the first time.
const FIRST: Duration = Duration::from_millis(1);
/// While the answer is neither yes nor no it is asked again after this part of the time that has passed.
const PART: u32 = 8;
/// From then on the keepalive has the word.
const IN_ALL: Duration = Duration::from_secs(1);

/// The look, from 0, at which a handshake that is not over counts as one that does not get over.
const STUCK_AT: u32 = 1;

/// `SOCK_DIAG_BY_FAMILY` of linux/sock_diag.h: the type of the question and of its answer.
const BY_FAMILY: u16 = 20;
/// `NLM_F_REQUEST` of linux/netlink.h.
const REQUEST: u16 = 1;
/// The length of `struct nlmsghdr`, and of that followed by `struct inet_diag_req_v2`.
const HEADER_BYTES: usize = 16;
const QUESTION_BYTES: usize = HEADER_BYTES + 56;
/// Where `struct inet_diag_msg` has the state, behind the header.
const STATE_AT: usize = HEADER_BYTES + 1;
/// `TCP_SYN_RECV`, `TCP_LISTEN` and `TCP_NEW_SYN_RECV` of linux/tcp_states.h.
const SYN_RECV: u8 = 3;
const LISTEN: u8 = 10;
const NEW_SYN_RECV: u8 = 12;

/// What the kernel knows of the other end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum OtherEnd {
    /// It exists, in whatever state.
    There,
    /// In its place somebody listens: it never came to be, or is gone.
    Nobody,
    /// The handshake is not over, though on one machine it takes no time: its listener has just been closed, or has no
    /// room. The kernel tries again only after a second.
    Stuck,
    /// Not to be found, or not to be asked for.
    Unknown,
}

/// Waits until it is known whether somebody is at the other end of `target`, or one of both sides has said something.
/// False only if it is certain that nobody is there and nobody has said anything: the caller can be connected anew.
pub(crate) async fn somebody_is_there(caller: &TcpStream, target: &TcpStream) -> bool {
    let (Ok(own), Ok(other)) = (target.local_addr(), target.peer_addr()) else { return true };
    if !other.ip().is_loopback() {
        return true;
    }
    let silence = async {
        let since = Instant::now();
        let mut stuck = 0;
        while since.elapsed() < IN_ALL {
            sleep((since.elapsed() / PART).max(FIRST)).await;
            match other_end(other, own) {
                OtherEnd::There => return true,
                OtherEnd::Nobody => return false,
                OtherEnd::Stuck if stuck == STUCK_AT => return false,
                OtherEnd::Stuck => stuck += 1,
                OtherEnd::Unknown => {}
            }
        }
        true
    };
    // Not merely whether they can be read: a socket counts as that from before it was connected.
    let (mut word, mut other_word) = ([0], [0]);
    tokio::select! {
        biased;
        _ = target.peek(&mut word) => true,
        _ = caller.peek(&mut other_word) => true,
        there = silence => there,
    }
}

/// Asks for the socket that has `at` as its own address and `to` as its peer's.
fn other_end(at: SocketAddr, to: SocketAddr) -> OtherEnd {
    let Some(question) = question(at, to) else { return OtherEnd::Unknown };
    ask(&question).map_or(OtherEnd::Unknown, |answer| understand(&answer))
}

fn ask(question: &[u8]) -> rustix::io::Result<Vec<u8>> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = net::socket_with(AddressFamily::NETLINK, SocketType::RAW, flags, Some(netlink::SOCK_DIAG))?;
    net::send(&socket, question, SendFlags::empty())?;
    // The kernel has answered before `send` returns.
    let mut answer = vec![0; 1024];
    let (length, _) = net::recv(&socket, &mut answer[..], RecvFlags::empty())?;
    answer.truncate(length);
    Ok(answer)
}

/// A `struct nlmsghdr` and a `struct inet_diag_req_v2`. Its fields are in the machine's byte order, but for ports and
/// addresses.
fn question(at: SocketAddr, to: SocketAddr) -> Option<Vec<u8>> {
    const AF_INET: u8 = 2;
    const AF_INET6: u8 = 10;
    const IPPROTO_TCP: u8 = 6;
    let family = match (at, to) {
        (SocketAddr::V4(_), SocketAddr::V4(_)) => AF_INET,
        (SocketAddr::V6(_), SocketAddr::V6(_)) => AF_INET6,
        (SocketAddr::V4(_), SocketAddr::V6(_)) | (SocketAddr::V6(_), SocketAddr::V4(_)) => return None,
    };
    let mut question = Vec::with_capacity(QUESTION_BYTES);
    question.extend(u32::try_from(QUESTION_BYTES).ok()?.to_ne_bytes());
    question.extend(BY_FAMILY.to_ne_bytes());
    question.extend(REQUEST.to_ne_bytes());
    question.extend([0; 8]); // sequence number and sender: there is one question a socket
    question.extend([family, IPPROTO_TCP, 0, 0]);
    question.extend(u32::MAX.to_ne_bytes()); // all states
    question.extend(at.port().to_be_bytes());
    question.extend(to.port().to_be_bytes());
    for address in [at.ip(), to.ip()] {
        match address {
            IpAddr::V4(address) => {
                question.extend(address.octets());
                question.extend([0; 12]);
            }
            IpAddr::V6(address) => question.extend(address.octets()),
        }
    }
    question.extend(0_u32.to_ne_bytes()); // any interface
    question.extend([u8::MAX; 8]); // no cookie
    (question.len() == QUESTION_BYTES).then_some(question)
}

fn understand(answer: &[u8]) -> OtherEnd {
    let kind = answer.get(4..6).and_then(|bytes| bytes.try_into().ok()).map(u16::from_ne_bytes);
    match (kind, answer.get(STATE_AT)) {
        (Some(BY_FAMILY), Some(&LISTEN)) => OtherEnd::Nobody,
        (Some(BY_FAMILY), Some(&(SYN_RECV | NEW_SYN_RECV))) => OtherEnd::Stuck,
        (Some(BY_FAMILY), Some(_)) => OtherEnd::There,
        (Some(_) | None, _) => OtherEnd::Unknown, // an error: most of all "no such socket"
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncWriteExt;
    use tokio::net::TcpListener;

    use super::*;

    async fn pair(address: &str) -> (TcpListener, TcpStream, TcpStream) {
        let listener = TcpListener::bind(address).await.unwrap();
        let here = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let (there, _) = listener.accept().await.unwrap();
        (listener, here, there)
    }

    #[tokio::test]
    async fn the_kernel_knows_the_other_end() {
        for address in ["127.0.0.1:0", "[::1]:0"] {
            let (listener, here, there) = pair(address).await;
            let (own, at) = (here.local_addr().unwrap(), here.peer_addr().unwrap());
            assert_eq!(other_end(at, own), OtherEnd::There);
            // What the other end looks like when it never came to be: a listener where the connection should be.
            let never = SocketAddr::new(own.ip(), own.port() ^ 1);
            assert_eq!(other_end(at, never), OtherEnd::Nobody);
            drop((listener, there));
            assert_eq!(other_end(at, never), OtherEnd::Unknown, "nobody listens: it cannot be told from a redirect");
        }
    }

    #[tokio::test]
    async fn whoever_speaks_is_there() {
        let (_listener, here, mut there) = pair("127.0.0.1:0").await;
        let (_other, caller, _client) = pair("127.0.0.1:0").await;
        assert!(somebody_is_there(&caller, &here).await, "silent, and there");
        there.write_all(b"hello").await.unwrap();
        assert!(somebody_is_there(&caller, &here).await);
    }

    #[test]
    fn half_a_connection_is_none() {
        let answer = |state| {
            let mut answer = vec![0; 96];
            answer[4..6].copy_from_slice(&BY_FAMILY.to_ne_bytes());
            answer[STATE_AT] = state;
            understand(&answer)
        };
        assert_eq!((answer(SYN_RECV), answer(NEW_SYN_RECV)), (OtherEnd::Stuck, OtherEnd::Stuck));
        assert_eq!((answer(LISTEN), answer(1)), (OtherEnd::Nobody, OtherEnd::There));
    }

    #[test]
    fn answers_that_are_none_leave_it_alone() {
        for wrong in [&[][..], &[0; 16], &[255; 40]] {
            assert_eq!(understand(wrong), OtherEnd::Unknown);
        }
    }
}
