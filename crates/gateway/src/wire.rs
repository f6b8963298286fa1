//! Packets with file descriptors on a `SOCK_SEQPACKET` Unix socket, for asynchronous programs.
//!
//! Invariant: a packet arrives whole with all its descriptors, or the connection is in error. Descriptors are closed
//! on exec from the moment they exist.

use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};
use std::path::Path;

use ostler_keeper::protocol::PACKET_BYTES_MAX;
use rustix::fs::{Mode, OFlags};
use rustix::net::{self, RecvAncillaryMessage, RecvFlags, ReturnFlags, SendAncillaryMessage, SendFlags, sockopt};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// The most descriptors in one packet. The keeper's protocol needs one; the rest is room.
pub const DESCRIPTORS_MAX: usize = 4;

/// The longest path of a socket's address, without the NUL byte that ends it.
const PATH_BYTES_MAX: usize = 107;

/// The kernel counts its own bookkeeping against the send buffer, so the longest packet needs more room than its bytes.
const SEND_BUFFER_BYTES: usize = 2 * PACKET_BYTES_MAX;

/// One end of a connection. `send` and `recv` may wait at the same time; both may be cancelled without losing a packet.
#[derive(Debug)]
pub struct SeqPacket {
    socket: AsyncFd<OwnedFd>,
}

impl SeqPacket {
    /// Connects to the socket file at `path`. Must be called within a tokio runtime with I/O.
    ///
    /// # Errors
    /// The system's: no such file, refused (the file is there and its owner is gone), or `WouldBlock` if its owner has
    /// too many connections waiting. Trying again later is right for all of them.
    pub fn connect(path: &Path) -> io::Result<Self> {
        let flags = net::SocketFlags::CLOEXEC | net::SocketFlags::NONBLOCK;
        let socket = net::socket_with(net::AddressFamily::UNIX, net::SocketType::SEQPACKET, flags, None)?;
        with_short_path(path, |path| Ok(net::connect(&socket, &net::SocketAddrUnix::new(path)?)?))?;
        Self::from_fd(socket)
    }

    /// Takes over a connected socket. Must be called within a tokio runtime with I/O.
    ///
    /// # Errors
    /// The system's, if the descriptor is not a socket.
    pub fn from_fd(socket: OwnedFd) -> io::Result<Self> {
        rustix::io::ioctl_fionbio(&socket, true)?;
        sockopt::set_socket_send_buffer_size(&socket, SEND_BUFFER_BYTES)?;
        Ok(Self { socket: watched(socket, Interest::READABLE | Interest::WRITABLE)? })
    }

    /// Sends one packet, waiting while the receiver's queue is full. The descriptors are duplicated by the kernel.
    ///
    /// # Errors
    /// `InvalidInput` if the packet is empty (that would read as the end), longer than [`PACKET_BYTES_MAX`] or has
    /// more than [`DESCRIPTORS_MAX`] descriptors; else the connection is over.
    pub async fn send(&self, bytes: &[u8], descriptors: &[BorrowedFd<'_>]) -> io::Result<()> {
        if bytes.is_empty() || bytes.len() > PACKET_BYTES_MAX || descriptors.len() > DESCRIPTORS_MAX {
            let size = format!("a packet of {} bytes and {} descriptors", bytes.len(), descriptors.len());
            return Err(io::Error::new(io::ErrorKind::InvalidInput, size));
        }
        let operation = |socket: &OwnedFd| {
            let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(DESCRIPTORS_MAX))];
            let mut ancillary = net::SendAncillaryBuffer::new(&mut space);
            if !descriptors.is_empty() && !ancillary.push(SendAncillaryMessage::ScmRights(descriptors)) {
                return Err(io::ErrorKind::InvalidInput.into());
            }
            net::sendmsg(socket, &[IoSlice::new(bytes)], &mut ancillary, SendFlags::NOSIGNAL)?;
            Ok(())
        };
        self.socket.async_io(Interest::WRITABLE, operation).await
    }

    /// Waits for the next packet: its bytes and its descriptors.
    ///
    /// # Errors
    /// `UnexpectedEof` when the other end has closed; `InvalidData` when the packet was longer than
    /// [`PACKET_BYTES_MAX`] or descriptors were lost (too many, or this process has no more room): drop the
    /// connection then, as what was lost is only sent again on a new one.
    pub async fn recv(&self) -> io::Result<(Vec<u8>, Vec<OwnedFd>)> {
        self.socket.async_io(Interest::READABLE, receive).await
    }
}

/// Has the runtime watch a descriptor.
// Deprecated because a type whose descriptor changes or closes early could be passed; an `OwnedFd` does neither. What
// replaces it is `unsafe`, which this crate does without.
#[allow(deprecated)]
pub(crate) fn watched(descriptor: OwnedFd, interest: Interest) -> io::Result<AsyncFd<OwnedFd>> {
    AsyncFd::with_interest(descriptor, interest)
}

/// The address of a socket has room for 107 bytes; a longer path goes through a descriptor of its folder.
fn with_short_path<T>(path: &Path, then: impl FnOnce(&Path) -> io::Result<T>) -> io::Result<T> {
    if path.as_os_str().len() <= PATH_BYTES_MAX {
        return then(path);
    }
    let (Some(folder), Some(name)) = (path.parent(), path.file_name()) else {
        return Err(io::ErrorKind::InvalidInput.into());
    };
    let folder = rustix::fs::open(folder, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
    then(&Path::new("/proc/self/fd").join(folder.as_raw_fd().to_string()).join(name))
}

/// One attempt at reading a packet. The buffer exists only while there is something to read, so that an idle
/// connection costs nothing.
fn receive(socket: &OwnedFd) -> io::Result<(Vec<u8>, Vec<OwnedFd>)> {
    let mut bytes = vec![0; PACKET_BYTES_MAX];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(DESCRIPTORS_MAX))];
    let mut ancillary = net::RecvAncillaryBuffer::new(&mut space);
    let received = net::recvmsg(socket, &mut [IoSliceMut::new(&mut bytes)], &mut ancillary, RecvFlags::CMSG_CLOEXEC)?;
    let mut descriptors = Vec::new();
    for message in ancillary.drain() {
        if let RecvAncillaryMessage::ScmRights(rights) = message {
            descriptors.extend(rights);
        }
    }
    if received.flags.intersects(ReturnFlags::TRUNC | ReturnFlags::CTRUNC) {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "a packet was cut short"));
    }
    if received.bytes == 0 {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    bytes.truncate(received.bytes);
    bytes.shrink_to_fit();
    Ok((bytes, descriptors))
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsFd;

    use super::*;

    fn pair() -> (SeqPacket, SeqPacket) {
        let flags = net::SocketFlags::CLOEXEC;
        let (a, b) = net::socketpair(net::AddressFamily::UNIX, net::SocketType::SEQPACKET, flags, None).unwrap();
        (SeqPacket::from_fd(a).unwrap(), SeqPacket::from_fd(b).unwrap())
    }

    #[tokio::test]
    async fn packets_keep_their_bounds_and_their_descriptors() {
        let (a, b) = pair();
        let (reader, writer) = rustix::pipe::pipe().unwrap();
        a.send(b"one", &[writer.as_fd()]).await.unwrap();
        a.send(b"two", &[]).await.unwrap();
        drop(writer);
        let (bytes, mut descriptors) = b.recv().await.unwrap();
        assert_eq!((bytes.as_slice(), descriptors.len()), (&b"one"[..], 1));
        let writer = descriptors.remove(0);
        assert!(rustix::io::fcntl_getfd(&writer).unwrap().contains(rustix::io::FdFlags::CLOEXEC));
        rustix::io::write(&writer, b"x").unwrap();
        assert_eq!(rustix::io::read(&reader, &mut [0; 8]).unwrap(), 1);
        assert_eq!(b.recv().await.unwrap().0, b"two");
    }

    #[tokio::test]
    async fn the_longest_packet_passes_and_a_longer_one_is_refused_at_both_ends() {
        let (a, b) = pair();
        a.send(&vec![7; PACKET_BYTES_MAX], &[]).await.unwrap();
        assert_eq!(b.recv().await.unwrap().0, vec![7; PACKET_BYTES_MAX]);
        let long = vec![7; PACKET_BYTES_MAX + 1];
        assert_eq!(a.send(&long, &[]).await.unwrap_err().kind(), io::ErrorKind::InvalidInput);
        net::send(a.socket.get_ref(), &long, SendFlags::empty()).unwrap();
        assert_eq!(b.recv().await.unwrap_err().kind(), io::ErrorKind::InvalidData);
    }

    #[tokio::test]
    async fn a_long_path_is_connected_to() {
        let folder = tempfile::tempdir().unwrap();
        let deep = folder.path().join("d".repeat(120));
        std::fs::create_dir(&deep).unwrap();
        let path = deep.join("keeper.sock");
        let flags = net::SocketFlags::CLOEXEC;
        let listener = net::socket_with(net::AddressFamily::UNIX, net::SocketType::SEQPACKET, flags, None).unwrap();
        with_short_path(&path, |path| Ok(net::bind(&listener, &net::SocketAddrUnix::new(path)?)?)).unwrap();
        assert_eq!(SeqPacket::connect(&path).unwrap_err().kind(), io::ErrorKind::ConnectionRefused);
        net::listen(&listener, 1).unwrap();
        SeqPacket::connect(&path).unwrap();
    }

    #[tokio::test]
    async fn a_full_queue_waits_and_the_end_is_told() {
        let (a, b) = pair();
        let sender = tokio::spawn(async move {
            for number in 0..2000_u32 {
                a.send(&number.to_be_bytes(), &[]).await.unwrap();
            }
        });
        for number in 0..2000_u32 {
            assert_eq!(b.recv().await.unwrap().0, number.to_be_bytes());
        }
        sender.await.unwrap();
        assert_eq!(b.recv().await.unwrap_err().kind(), io::ErrorKind::UnexpectedEof);
        assert!(b.send(b"x", &[]).await.is_err());
    }
}
