//! Files over HTTP: sent with their length known, received within bounds of size and time, and compared with the digest
//! that their sender gives (RFC 9530).
//!
//! Invariant: however large a file is, no more of it is in memory than a few pieces; whoever stops sending or taking is
//! given up; and what was not received whole is told as such.

use std::io;
use std::path::Path;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use ostler_model::outcome::Counted;
use sha2::{Digest, Sha256};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::mpsc;
use tokio::time::timeout;

/// The header that says what a file's SHA-256 is.
pub const DIGEST: &str = "content-digest";
/// The header that says what was counted when a backup was made: `rows=5, tables=2`.
pub const COUNTED: &str = "ostler-counted";
/// The header that says by which version it was made.
pub const VERSION: &str = "ostler-version";
/// Whoever sends or takes nothing for so long is given up.
pub const IDLE: Duration = Duration::from_secs(60);
/// How long a file may take altogether.
pub const ALTOGETHER: Duration = Duration::from_secs(6 * 3600);
/// On the disk that takes a file, so much is left free.
const ROOM_LEFT: u64 = 64 * 1024 * 1024;
/// How often it is looked whether there still is.
const LOOK_EVERY: u64 = 16 * 1024 * 1024;
const PIECE: usize = 256 * 1024;
const PIECES: usize = 4;
/// What is said to be counted: so many things, in so many bytes.
const COUNTED_MAX: usize = 32;
const COUNTED_BYTES_MAX: usize = 2048;

/// A file on its way out.
pub struct FileBody {
    pieces: mpsc::Receiver<io::Result<Bytes>>,
    left: u64,
}

impl FileBody {
    /// Sends the first `bytes` of the file. Must be called within a tokio runtime. `kept` lives as long as the file is
    /// read.
    pub fn send(file: std::fs::File, bytes: u64, kept: impl Send + 'static) -> Self {
        let (sender, pieces) = mpsc::channel(PIECES);
        tokio::spawn(async move {
            let _kept = kept;
            let mut file = tokio::fs::File::from_std(file).take(bytes);
            loop {
                let mut piece = vec![0; PIECE];
                let read = file.read(&mut piece).await.map(|read| {
                    piece.truncate(read);
                    Bytes::from(piece)
                });
                let is_last = read.as_ref().map_or(true, Bytes::is_empty);
                let is_over = read.as_ref().is_ok_and(Bytes::is_empty);
                // Who takes nothing for so long does not take it at all.
                if is_over || !matches!(timeout(IDLE, sender.send(read)).await, Ok(Ok(()))) || is_last {
                    return;
                }
            }
        });
        Self { pieces, left: bytes }
    }
}

impl Body for FileBody {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, io::Error>>> {
        self.pieces.poll_recv(context).map(|piece| match piece {
            Some(Ok(piece)) => {
                self.left = self.left.saturating_sub(piece.len() as u64);
                Some(Ok(Frame::data(piece)))
            }
            Some(Err(error)) => Some(Err(error)),
            // It is shorter than it was: what was sent must not be taken for whole.
            None if self.left > 0 => Some(Err(io::ErrorKind::UnexpectedEof.into())),
            None => None,
        })
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.left)
    }
}

/// Why a file was not received.
#[derive(Debug)]
pub enum NotReceived {
    /// Its sender is to blame: it stopped, or sent too much, or something else than it said.
    Sender(String),
    /// It cannot be kept here: no room, or a disk that fails.
    Here(io::Error),
}

/// A file that is being received.
pub struct Receiving {
    file: tokio::fs::File,
    folder: std::path::PathBuf,
    said: Option<u64>,
    digest: Sha256,
    bytes: u64,
    looked: u64,
}

impl Receiving {
    /// A file of mode 0600 at `path`, which is not there yet. `said` is its length, if its sender says that.
    ///
    /// # Errors
    /// If it cannot be made, or there is no room for it.
    pub async fn begin(path: &Path, said: Option<u64>) -> Result<Self, NotReceived> {
        let folder = path.parent().unwrap_or(Path::new("/")).to_owned();
        let mut options = tokio::fs::OpenOptions::new();
        let file = options.write(true).create_new(true).mode(0o600).open(path).await.map_err(NotReceived::Here)?;
        let receiving = Self { file, folder, said, digest: Sha256::new(), bytes: 0, looked: 0 };
        receiving.has_room(said.unwrap_or(0))?;
        Ok(receiving)
    }

    /// The next piece.
    ///
    /// # Errors
    /// If it is more than was said, or cannot be kept.
    pub async fn take(&mut self, piece: &[u8]) -> Result<(), NotReceived> {
        self.bytes += piece.len() as u64;
        if let Some(said) = self.said.filter(|said| self.bytes > *said) {
            return Err(NotReceived::Sender(format!("it has more than the {said} bytes that were announced")));
        }
        if self.bytes - self.looked > LOOK_EVERY {
            self.has_room(0)?;
            self.looked = self.bytes;
        }
        self.digest.update(piece);
        self.file.write_all(piece).await.map_err(NotReceived::Here)
    }

    /// All of it has come: it is on disk afterwards. Its size and its SHA-256, which is `digest` if that is given.
    ///
    /// # Errors
    /// If something is missing or differs, or it cannot be kept.
    pub async fn end(mut self, digest: Option<[u8; 32]>) -> Result<(u64, String), NotReceived> {
        if let Some(said) = self.said.filter(|said| self.bytes != *said) {
            return Err(NotReceived::Sender(format!("of {said} bytes {} arrived", self.bytes)));
        }
        if self.bytes == 0 {
            return Err(NotReceived::Sender("it is empty".to_owned()));
        }
        let found: [u8; 32] = self.digest.finalize().into();
        if digest.is_some_and(|said| said != found) {
            return Err(NotReceived::Sender("it is not what its digest says: it was damaged on the way".to_owned()));
        }
        self.file.flush().await.map_err(NotReceived::Here)?;
        self.file.sync_all().await.map_err(NotReceived::Here)?;
        Ok((self.bytes, found.iter().map(|byte| format!("{byte:02x}")).collect()))
    }

    fn has_room(&self, more: u64) -> Result<(), NotReceived> {
        let free =
            rustix::fs::statvfs(&self.folder).map_or(u64::MAX, |disk| disk.f_bavail.saturating_mul(disk.f_frsize));
        if free < more.saturating_add(ROOM_LEFT) {
            return Err(NotReceived::Here(io::ErrorKind::StorageFull.into()));
        }
        Ok(())
    }
}

/// The value of [`DIGEST`] for a SHA-256 in hexadecimal digits.
pub fn digest_header(sha256: &str) -> String {
    let digits = sha256.as_bytes().chunks(2).filter_map(|two| std::str::from_utf8(two).ok());
    let bytes: Vec<u8> = digits.filter_map(|two| u8::from_str_radix(two, 16).ok()).collect();
    format!("sha-256=:{}:", BASE64_STANDARD.encode(bytes))
}

/// The SHA-256 in a value of [`DIGEST`], if there is one.
pub fn digest_in(header: &str) -> Option<[u8; 32]> {
    let of_sha256 = header.split(',').find_map(|part| part.trim().strip_prefix("sha-256=:")?.strip_suffix(':'))?;
    BASE64_STANDARD.decode(of_sha256).ok()?.try_into().ok()
}

/// The value of [`COUNTED`].
pub fn counted_header(counted: &Counted) -> String {
    let pairs: Vec<String> =
        counted.iter().take(COUNTED_MAX).map(|(name, number)| format!("{name}={number}")).collect();
    pairs.join(", ")
}

/// What a value of [`COUNTED`] says. What cannot be understood of it is left out.
pub fn counted_in(header: &str) -> Counted {
    let is_name = |name: &str| {
        !name.is_empty() && name.len() <= 40 && name.bytes().all(|b| b.is_ascii_lowercase() || b == b'-' || b == b'_')
    };
    if header.len() > COUNTED_BYTES_MAX {
        return Counted::default();
    }
    let pairs = header.split(',').take(COUNTED_MAX).filter_map(|pair| pair.trim().split_once('='));
    let known = pairs.filter(|(name, _)| is_name(name));
    known.filter_map(|(name, number)| Some((name.to_owned(), number.parse().ok()?))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digests_and_counts_come_back_as_they_went() {
        let sha256 = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
        assert_eq!(digest_header(sha256), "sha-256=:47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=:");
        let back: String =
            digest_in(&digest_header(sha256)).unwrap().iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(back, sha256);
        for wrong in ["", "sha-256=:", "sha-256=:AAAA:", "md5=:47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=:"] {
            assert_eq!(digest_in(wrong), None, "{wrong}");
        }
        let counted = Counted::from([("rows".to_owned(), 5), ("tables".to_owned(), 2)]);
        assert_eq!(counted_in(&counted_header(&counted)), counted);
        assert_eq!(counted_in("rows=5, x, =3, A=1, tables=-1, tables=2"), counted);
        assert!(counted_in(&"rows=1,".repeat(1000)).is_empty());
    }

    #[tokio::test]
    async fn what_is_not_whole_is_told() {
        let folder = tempfile::tempdir().unwrap();
        let told = async |name: &str, said, pieces: &[&[u8]], digest| {
            let mut receiving = Receiving::begin(&folder.path().join(name), said).await?;
            for piece in pieces {
                receiving.take(piece).await?;
            }
            receiving.end(digest).await
        };
        let right = Sha256::digest(b"abc").into();
        assert_eq!(told("right", Some(3), &[b"a", b"bc"], Some(right)).await.unwrap().0, 3);
        for (name, said, pieces, digest) in [
            ("short", Some(4), &[b"abc" as &[u8]][..], None),
            ("long", Some(2), &[b"abc"], None),
            ("empty", None, &[], None),
            ("another", None, &[b"abd"], Some(right)),
        ] {
            assert!(matches!(told(name, said, pieces, digest).await, Err(NotReceived::Sender(_))), "{name}");
        }
        assert!(matches!(told("right", None, &[b"a"], None).await, Err(NotReceived::Here(_))), "it is there already");
        assert!(matches!(told("huge", Some(u64::MAX), &[], None).await, Err(NotReceived::Here(_))));
    }
}
