//! A socket under an HTTP connection, with somebody who is told what passes.
//!
//! Invariant: what passes is not changed, held back or copied.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

/// Who is told.
pub(crate) trait Tap: Unpin {
    /// So many bytes have come from the other end; 0 is its end.
    fn read(&mut self, stream: &TcpStream, bytes: usize);
    /// So many bytes have gone there.
    fn wrote(&mut self, stream: &TcpStream, bytes: usize);
    /// Nothing more will be sent. Whether the other end is to be told; otherwise the socket is just closed.
    fn may_end(&mut self, stream: &TcpStream) -> bool;
}

/// The socket.
#[derive(Debug)]
pub(crate) struct Tapped<T> {
    pub(crate) stream: TcpStream,
    pub(crate) tap: T,
}

impl<T: Tap> AsyncRead for Tapped<T> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        ready!(Pin::new(&mut self.stream).poll_read(cx, buffer))?;
        let Self { stream, tap } = &mut *self;
        tap.read(stream, buffer.filled().len() - before);
        Poll::Ready(Ok(()))
    }
}

impl<T: Tap> AsyncWrite for Tapped<T> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let count = ready!(Pin::new(&mut self.stream).poll_write(cx, bytes))?;
        let Self { stream, tap } = &mut *self;
        tap.wrote(stream, count);
        Poll::Ready(Ok(count))
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        pieces: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let count = ready!(Pin::new(&mut self.stream).poll_write_vectored(cx, pieces))?;
        let Self { stream, tap } = &mut *self;
        tap.wrote(stream, count);
        Poll::Ready(Ok(count))
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let Self { stream, tap } = &mut *self;
        if !tap.may_end(stream) {
            return Poll::Ready(Ok(()));
        }
        Pin::new(stream).poll_shutdown(cx)
    }
}
