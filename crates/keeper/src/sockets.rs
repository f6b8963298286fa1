//! Listening sockets that stay open while programs and the gateway come and go, so that connects queue instead of
//! being refused.
//!
//! Invariant: a name that is held stays held on the same socket until it is given another address or up.

use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::net::{AddressFamily, SocketFlags, SocketType, ipproto, sockopt};

use crate::protocol::Refusal;

/// How many connects may queue; the kernel lowers it to `net.core.somaxconn`.
const BACKLOG: i32 = 4096;
/// Names longer than this are refused.
pub(crate) const NAME_BYTES_MAX: usize = 256;

/// One held socket.
pub(crate) struct Held {
    pub(crate) socket: OwnedFd,
    /// With the port that was taken.
    pub(crate) address: SocketAddr,
    pub(crate) shared: bool,
}

/// All held sockets, by name.
#[derive(Default)]
pub(crate) struct Sockets {
    held: BTreeMap<String, Held>,
}

/// What a `Listen` changed for the gateway.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Change {
    /// It has to be sent the socket (again).
    Share,
    /// It has to be told to close it.
    Withdraw,
    /// Nothing.
    Nothing,
}

impl Sockets {
    /// Holds a socket on the address; the one that is held if it is on this address already (port 0 fits any port).
    pub(crate) fn listen(&mut self, name: &str, wanted: SocketAddr, share: bool) -> Result<(&Held, Change), Refusal> {
        if name.is_empty() || name.len() > NAME_BYTES_MAX || name.contains('\0') {
            return Err(Refusal::NotUnderstood("a socket's name has 1 to 256 bytes, without NUL".into()));
        }
        let before = self.held.get(name).map(|held| (held.address, held.shared));
        let kept = before.is_some_and(|(address, _)| fits(wanted, address));
        if !kept {
            let socket = open(wanted, share);
            let (socket, address) = socket.map_err(|cause| Refusal::CannotListen {
                address: wanted,
                errno: cause.raw_os_error().unwrap_or(0),
                cause: cause.to_string(),
            })?;
            // The old one is closed only now that the new one listens.
            self.held.insert(name.to_owned(), Held { socket, address, shared: share });
        }
        let held = self.held.get_mut(name).expect("held before, or inserted above");
        held.shared = share;
        let change = match (before.is_some_and(|(_, shared)| shared), share) {
            (true, true) if kept => Change::Nothing,
            (_, true) => Change::Share,
            (true, false) => Change::Withdraw,
            (false, false) => Change::Nothing,
        };
        Ok((held, change))
    }

    /// Takes back a socket unless the name is held. Tells whether the gateway has to be sent it.
    pub(crate) fn take_back(
        &mut self,
        name: String,
        socket: OwnedFd,
        address: SocketAddr,
        shared: bool,
    ) -> Result<bool, Refusal> {
        if name.is_empty() || name.len() > NAME_BYTES_MAX || name.contains('\0') {
            return Err(Refusal::NotUnderstood("a socket's name has 1 to 256 bytes, without NUL".into()));
        }
        let listens = sockopt::socket_acceptconn(&socket).unwrap_or(false);
        let actual = rustix::net::getsockname(&socket).ok().and_then(|actual| SocketAddr::try_from(actual).ok());
        if !listens || actual != Some(address) {
            return Err(Refusal::NotUnderstood(format!("the descriptor is not a socket that listens on {address}")));
        }
        if self.held.contains_key(&name) {
            return Ok(false);
        }
        self.held.insert(name, Held { socket, address, shared });
        Ok(shared)
    }

    /// Holds what another image of this process held.
    pub(crate) fn put(&mut self, name: String, held: Held) {
        self.held.insert(name, held);
    }

    /// Gives a name up. Tells whether the gateway has to close it.
    pub(crate) fn unlisten(&mut self, name: &str) -> bool {
        self.held.remove(name).is_some_and(|held| held.shared)
    }

    /// The socket of this name.
    pub(crate) fn get(&self, name: &str) -> Option<BorrowedFd<'_>> {
        self.held.get(name).map(|held| held.socket.as_fd())
    }

    /// All of them, by name.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (&String, &Held)> {
        self.held.iter()
    }
}

fn fits(wanted: SocketAddr, held: SocketAddr) -> bool {
    wanted.ip() == held.ip() && (wanted.port() == 0 || wanted.port() == held.port())
}

/// Whether reads and accepts block belongs to the socket, not to the descriptor, so all holders share it: the gateway
/// waits for many sockets at once and needs it not to block; programs that are handed a socket expect that it does.
fn open(address: SocketAddr, for_gateway: bool) -> io::Result<(OwnedFd, SocketAddr)> {
    let family = if address.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
    let blocking = if for_gateway { SocketFlags::NONBLOCK } else { SocketFlags::empty() };
    let flags = SocketFlags::CLOEXEC | blocking;
    let socket = rustix::net::socket_with(family, SocketType::STREAM, flags, Some(ipproto::TCP))?;
    sockopt::set_socket_reuseaddr(&socket, true)?;
    if address.is_ipv6() {
        sockopt::set_ipv6_v6only(&socket, true)?; // so that `[::]` and `0.0.0.0` can be held side by side
    }
    rustix::net::bind(&socket, &address)?;
    rustix::net::listen(&socket, BACKLOG)?;
    let actual = SocketAddr::try_from(rustix::net::getsockname(&socket)?)?;
    Ok((socket, actual))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_address_is_the_same_socket() {
        let mut sockets = Sockets::default();
        let any: SocketAddr = "127.0.0.1:0".parse().unwrap();
        let (held, change) = sockets.listen("web", any, true).unwrap();
        let (address, inode) = (held.address, rustix::fs::fstat(&held.socket).unwrap().st_ino);
        assert_eq!(change, Change::Share);
        for wanted in [any, address] {
            let (held, change) = sockets.listen("web", wanted, true).unwrap();
            assert_eq!(rustix::fs::fstat(&held.socket).unwrap().st_ino, inode);
            assert_eq!(change, Change::Nothing);
        }
        assert_eq!(sockets.listen("web", any, false).unwrap().1, Change::Withdraw);
        assert!(matches!(sockets.listen("other", address, false), Err(Refusal::CannotListen { .. })));
        let moved = sockets.listen("web", "[::1]:0".parse().unwrap(), true).unwrap().0.address;
        assert!(moved.is_ipv6());
        assert!(std::net::TcpStream::connect(address).is_err(), "the old one is closed");
        assert!(std::net::TcpStream::connect(moved).is_ok());
        assert!(sockets.unlisten("web") && !sockets.unlisten("web"));
    }

    #[test]
    fn only_listening_sockets_are_taken_back() {
        let mut sockets = Sockets::default();
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let file = std::fs::File::open("/dev/null").unwrap();
        assert!(sockets.take_back("web".into(), file.into(), address, true).is_err());
        let other: SocketAddr = "127.0.0.1:1".parse().unwrap();
        assert!(sockets.take_back("web".into(), listener.try_clone().unwrap().into(), other, true).is_err());
        assert_eq!(sockets.take_back("web".into(), listener.try_clone().unwrap().into(), address, true), Ok(true));
        assert_eq!(sockets.take_back("web".into(), listener.into(), address, true), Ok(false), "held already");
    }
}
