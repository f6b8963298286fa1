//! Packets on the keeper's socket, with the file descriptors that belong to them. For all three processes: these
//! functions neither block nor wait by themselves, that is up to the socket.
//!
//! Invariant: no packet is longer than [`PACKET_BYTES_MAX`]. A message of the keeper that is (a survey of thousands of
//! instances) travels in a sealed memory file: the packet then is `#` and its length, and its first descriptor the file.

use std::borrow::Cow;
use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use rustix::fs::{MemfdFlags, Mode, OFlags, SealFlags};
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, SocketAddrUnix, SocketFlags, SocketType, sockopt,
};
use serde::Serialize;

use crate::protocol::PACKET_BYTES_MAX;

/// The longest message in a memory file: a survey of about 40,000 instances.
const BEYOND_BYTES_MAX: u64 = 16 * 1024 * 1024;
/// At most this many descriptors travel with a packet: a memory file and a socket.
const DESCRIPTORS_MAX: usize = 2;
/// The longest path of a Unix socket address, without the final NUL byte.
const ADDRESS_BYTES_MAX: usize = 107;

/// A message ready to be sent.
#[derive(Debug)]
pub struct Packet {
    text: Vec<u8>,
    descriptors: Vec<OwnedFd>,
}

impl Packet {
    /// Serializes the message. `descriptor` is sent with it.
    ///
    /// # Errors
    /// If the kernel grants no memory file for a long message, or it is longer than 16 MiB.
    pub fn new(message: &impl Serialize, descriptor: Option<OwnedFd>) -> io::Result<Self> {
        let text = serde_json::to_vec(message)?;
        if text.len() <= PACKET_BYTES_MAX {
            return Ok(Self { text, descriptors: descriptor.into_iter().collect() });
        }
        if text.len() as u64 > BEYOND_BYTES_MAX {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "the message is longer than 16 MiB"));
        }
        let file = rustix::fs::memfd_create("ostler-message", MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING)?;
        let mut rest = text.as_slice();
        while !rest.is_empty() {
            let written = rustix::io::write(&file, rest)?;
            rest = &rest[written..];
        }
        rustix::fs::fcntl_add_seals(&file, SealFlags::SEAL | SealFlags::SHRINK | SealFlags::GROW | SealFlags::WRITE)?;
        let descriptors = std::iter::once(file).chain(descriptor).collect();
        Ok(Self { text: format!("#{}", text.len()).into_bytes(), descriptors })
    }

    /// Whether it is too long for a packet and travels in a memory file, which the keeper itself does not accept.
    pub fn is_beyond(&self) -> bool {
        self.text.starts_with(b"#")
    }

    /// How much memory it takes while it waits.
    pub fn size(&self) -> usize {
        self.text.len() + size_of::<Self>()
    }

    /// Sends it in one piece.
    ///
    /// # Errors
    /// [`io::ErrorKind::WouldBlock`] if the socket does not block and the peer is slow: try again when it is writable.
    pub fn send(&self, socket: impl AsFd) -> io::Result<()> {
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(DESCRIPTORS_MAX))];
        let mut control = SendAncillaryBuffer::new(&mut space);
        let descriptors: Vec<BorrowedFd<'_>> = self.descriptors.iter().map(AsFd::as_fd).collect();
        if !descriptors.is_empty() {
            control.push(SendAncillaryMessage::ScmRights(&descriptors));
        }
        match rustix::net::sendmsg(socket, &[IoSlice::new(&self.text)], &mut control, SendFlags::NOSIGNAL) {
            Ok(_) => Ok(()),
            // Too many descriptors are on their way to slow readers: the same as a full queue.
            Err(rustix::io::Errno::TOOMANYREFS) => Err(io::ErrorKind::WouldBlock.into()),
            Err(error) => Err(error.into()),
        }
    }
}

/// What one look at a socket gave.
#[derive(Debug)]
pub enum Incoming {
    /// A packet; its text is the first `length` bytes of the buffer.
    Packet {
        /// Bytes.
        length: usize,
        /// What came with it.
        descriptors: Vec<OwnedFd>,
    },
    /// A packet longer than the buffer, or with too many descriptors; it is lost.
    TooLong,
    /// The peer has closed.
    Closed,
}

/// A buffer that fits every packet.
pub fn buffer() -> Box<[u8]> {
    vec![0; PACKET_BYTES_MAX].into() // zeroed by the kernel page by page, as far as it is ever used
}

/// Receives one packet.
///
/// # Errors
/// [`io::ErrorKind::WouldBlock`] if the socket does not block and nothing is there.
pub fn receive(socket: impl AsFd, buffer: &mut [u8]) -> io::Result<Incoming> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(DESCRIPTORS_MAX))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let flags = RecvFlags::CMSG_CLOEXEC;
    let received = rustix::net::recvmsg(socket, &mut [IoSliceMut::new(buffer)], &mut control, flags)?;
    let mut descriptors = Vec::new();
    for message in control.drain() {
        if let RecvAncillaryMessage::ScmRights(rights) = message {
            descriptors.extend(rights);
        }
    }
    if received.flags.intersects(ReturnFlags::TRUNC | ReturnFlags::CTRUNC) {
        return Ok(Incoming::TooLong);
    }
    if received.bytes == 0 {
        return Ok(Incoming::Closed);
    }
    Ok(Incoming::Packet { length: received.bytes, descriptors })
}

/// The text of a received message, wherever it is, and the descriptor that belongs to it. For receivers of the keeper's
/// messages; the keeper itself accepts no memory files.
///
/// # Errors
/// If a memory file is announced and missing, too long or shorter than announced.
pub fn unpack(text: &[u8], descriptors: Vec<OwnedFd>) -> io::Result<(Cow<'_, [u8]>, Option<OwnedFd>)> {
    let mut descriptors = descriptors.into_iter();
    let Some(length) = text.strip_prefix(b"#") else {
        return Ok((Cow::Borrowed(text), descriptors.next()));
    };
    let wrong = || io::Error::new(io::ErrorKind::InvalidData, "a message in a memory file is damaged");
    let length: u64 = std::str::from_utf8(length).ok().and_then(|text| text.parse().ok()).ok_or_else(wrong)?;
    let file = descriptors.next().ok_or_else(wrong)?;
    if length > BEYOND_BYTES_MAX {
        return Err(wrong());
    }
    let mut content = vec![0; usize::try_from(length).map_err(|_| wrong())?];
    std::os::unix::fs::FileExt::read_exact_at(&std::fs::File::from(file), &mut content, 0)?;
    Ok((Cow::Owned(content), descriptors.next()))
}

/// Connects to the keeper's socket. The connection blocks; set `O_NONBLOCK` where that is not wanted.
///
/// # Errors
/// [`io::ErrorKind::NotFound`] or [`io::ErrorKind::ConnectionRefused`] if no keeper runs.
pub fn connect(path: &Path) -> io::Result<OwnedFd> {
    let socket = seqpacket(SocketFlags::CLOEXEC)?;
    with_short_path(path, |path| Ok(rustix::net::connect(&socket, &SocketAddrUnix::new(path)?)?))?;
    Ok(socket)
}

/// Listens on the path: under a temporary name until it listens, so that connecting never meets a dead socket there.
pub(crate) fn listen(path: &Path, backlog: i32) -> io::Result<OwnedFd> {
    let socket = seqpacket(SocketFlags::CLOEXEC | SocketFlags::NONBLOCK)?;
    let temporary = path.with_extension("new");
    match std::fs::remove_file(&temporary) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        Ok(()) | Err(_) => {}
    }
    with_short_path(&temporary, |path| Ok(rustix::net::bind(&socket, &SocketAddrUnix::new(path)?)?))?;
    rustix::fs::chmod(&temporary, Mode::RUSR | Mode::WUSR)?;
    rustix::net::listen(&socket, backlog)?;
    std::fs::rename(&temporary, path)?;
    Ok(socket)
}

/// Makes sure that the longest packet fits into the queue of a connection.
pub(crate) fn fit_longest_packet(socket: impl AsFd) -> io::Result<()> {
    Ok(sockopt::set_socket_send_buffer_size(socket, 2 * PACKET_BYTES_MAX)?) // the kernel lowers it to its maximum
}

fn seqpacket(flags: SocketFlags) -> io::Result<OwnedFd> {
    let socket = rustix::net::socket_with(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None)?;
    fit_longest_packet(&socket)?;
    Ok(socket)
}

/// Socket addresses are short; a longer path goes through a descriptor of its folder, which is open while `then` runs.
///
/// # Errors
/// What `then` gives, or why the folder cannot be opened.
pub fn with_short_path<T>(path: &Path, then: impl FnOnce(&Path) -> io::Result<T>) -> io::Result<T> {
    if path.as_os_str().as_bytes().len() <= ADDRESS_BYTES_MAX {
        return then(path);
    }
    let (Some(folder), Some(name)) = (path.parent(), path.file_name()) else {
        return Err(io::ErrorKind::InvalidInput.into());
    };
    let folder = rustix::fs::open(folder, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
    let number = std::os::fd::AsRawFd::as_raw_fd(&folder);
    then(&Path::new("/proc/self/fd").join(number.to_string()).join(name))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pair() -> (OwnedFd, OwnedFd) {
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let (a, b) = rustix::net::socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None).unwrap();
        fit_longest_packet(&a).unwrap();
        (a, b)
    }

    #[test]
    fn messages_of_every_length_arrive_whole_with_their_descriptor() {
        for length in [0, 1, PACKET_BYTES_MAX - 2, PACKET_BYTES_MAX - 1, PACKET_BYTES_MAX, 3_000_000] {
            let (a, b) = pair();
            let message = "x".repeat(length);
            let file = std::fs::File::open("/dev/null").unwrap();
            Packet::new(&message, Some(file.into())).unwrap().send(&a).unwrap();
            let mut buffer = buffer();
            let Incoming::Packet { length, descriptors } = receive(&b, &mut buffer).unwrap() else { panic!() };
            let (text, descriptor) = unpack(&buffer[..length], descriptors).unwrap();
            assert_eq!(serde_json::from_slice::<String>(&text).unwrap(), message);
            assert!(descriptor.is_some());
        }
    }

    #[test]
    fn long_packets_and_many_descriptors_are_told() {
        let (a, b) = pair();
        let mut small = [0u8; 10];
        Packet::new(&"longer than ten bytes", None).unwrap().send(&a).unwrap();
        assert!(matches!(receive(&b, &mut small).unwrap(), Incoming::TooLong));
        assert_eq!(receive(&b, &mut small).unwrap_err().kind(), io::ErrorKind::WouldBlock);
        drop(a);
        assert!(matches!(receive(&b, &mut small).unwrap(), Incoming::Closed));
    }

    #[test]
    fn a_damaged_memory_file_is_an_error() {
        for text in ["#", "#x", "#-1", "#99999999999999999999", "#17000000", "#5"] {
            assert!(unpack(text.as_bytes(), Vec::new()).is_err(), "{text}");
        }
        let short = std::fs::File::open("/dev/null").unwrap();
        assert!(unpack(b"#5", vec![short.into()]).is_err());
    }

    #[test]
    fn long_paths_work() {
        let folder = tempfile::tempdir().unwrap();
        let deep = folder.path().join("d".repeat(120));
        std::fs::create_dir(&deep).unwrap();
        let path = deep.join("keeper.sock");
        let _listener = listen(&path, 4).unwrap();
        connect(&path).unwrap();
    }
}
