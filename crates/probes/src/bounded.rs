//! A connection that gives no more than so many bytes: whatever reads from it, and however it buffers, stays small.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

/// More than any answer to a health check has reason to be.
pub(crate) const ANSWER_BYTES_MAX: usize = 64 * 1024;
/// How long, after all was said, the answer to a farewell is waited for.
pub(crate) const FAREWELL: Duration = Duration::from_millis(200);

/// What is said of an answer that is longer.
pub(crate) fn too_long() -> io::Error {
    let problem = format!("it is longer than {} KiB", ANSWER_BYTES_MAX / 1024);
    io::Error::new(io::ErrorKind::InvalidData, problem)
}

/// A TCP connection that cannot be read from any more once [`ANSWER_BYTES_MAX`] bytes have come (the read that passes
/// the bound is still given whole: its buffer is there already).
pub(crate) struct Bounded {
    stream: TcpStream,
    left: usize,
}

impl Bounded {
    pub(crate) fn new(stream: TcpStream) -> Self {
        Self { stream, left: ANSWER_BYTES_MAX }
    }

    /// Ends a conversation that is over, without the port lingering here; see [`crate::tcp`].
    pub(crate) fn end(self) {
        crate::tcp::end(self.stream);
    }
}

impl AsyncRead for Bounded {
    fn poll_read(mut self: Pin<&mut Self>, context: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if self.left == 0 {
            return Poll::Ready(Err(too_long()));
        }
        let before = into.filled().len();
        ready!(Pin::new(&mut self.stream).poll_read(context, into))?;
        self.left = self.left.saturating_sub(into.filled().len() - before);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Bounded {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, from: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, from)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}
