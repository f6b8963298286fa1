//! Carries bytes both ways between a caller and a target until both are done.
//!
//! Invariant: each end sees what it would see if it were connected to the other directly: the same bytes in the same
//! order, an end where the other ended, and a reset where the other was reset.
//!
//! A connection that is idle owns no buffer: bytes are read into a buffer of the thread, and only what the other side
//! does not take at once is kept. So a pool of ten thousand idle connections costs no buffers, and a busy stream still
//! moves in large pieces.

use std::cell::RefCell;
use std::future::poll_fn;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use ostler_model::time::Timestamp;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

use crate::reach::trust;

/// The most that is moved by one read, and the most that is kept for a direction whose receiver is slow.
pub(crate) const CHUNK_BYTES: usize = 64 * 1024;

/// After this many reads a busy direction lets other connections have their turn.
const TURNS: usize = 4;

thread_local! {
    static CHUNK: RefCell<Box<[u8]>> = RefCell::new(vec![0; CHUNK_BYTES].into_boxed_slice());
}

/// What has been carried; see [`crate::messages::Says::Traffic`].
#[derive(Debug)]
pub(crate) struct Traffic {
    /// Since when; nothing is counted before.
    pub(crate) since: Timestamp,
    pub(crate) connections: AtomicU64,
    pub(crate) bytes_in: AtomicU64,
    pub(crate) bytes_out: AtomicU64,
    began: Instant,
    /// When something was last carried, in microseconds from when it began.
    last_us: AtomicU64,
}

impl Traffic {
    pub(crate) fn new(since: Timestamp) -> Self {
        let (connections, bytes_in, bytes_out) = Default::default();
        Self { since, connections, bytes_in, bytes_out, began: Instant::now(), last_us: AtomicU64::new(0) }
    }

    /// Something is carried now.
    fn moves(&self) {
        let us = u64::try_from(self.began.elapsed().as_micros()).unwrap_or(u64::MAX);
        self.last_us.fetch_max(us, Ordering::Relaxed);
    }

    /// For how long nothing has been carried.
    pub(crate) fn quiet(&self) -> Duration {
        self.began.elapsed().saturating_sub(Duration::from_micros(self.last_us.load(Ordering::Relaxed)))
    }
}

/// How it ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ended {
    /// Both directions came to their end.
    Orderly,
    /// One side was reset or vanished: the other is to be reset too, so that it takes nothing cut off for complete.
    Broken,
}

/// Carries until both directions have ended or one side is broken. Whenever it changes, `is_busy` is told whether something
/// is under way: the caller has had the last word, which waits for an answer, or somebody has not taken yet what was said.
pub(crate) async fn pump(
    caller: &mut TcpStream,
    target: &mut TcpStream,
    traffic: &Traffic,
    is_busy: impl Fn(bool),
) -> Ended {
    let (mut inward, mut outward) = (Direction::default(), Direction::default());
    let (mut trusted, mut waits, mut busy) = (false, true, true);
    poll_fn(|cx| {
        CHUNK.with_borrow_mut(|chunk| {
            let heard = (inward.reads, outward.reads);
            let (asked, answered) = (&mut inward, &mut outward);
            let inward = asked.poll(cx, caller, target, &traffic.bytes_in, chunk);
            let ended = answered.poll(cx, target, caller, &traffic.bytes_out, chunk);
            if answered.reads > 0 && !trusted {
                trusted = true;
                trust(target);
            }
            let (has_asked, has_answered) = (asked.reads > heard.0, answered.reads > heard.1);
            if has_asked || has_answered {
                traffic.moves();
            }
            match (has_asked, has_answered) {
                (true, _) => waits = true, // in doubt it is no answer to this
                (false, true) => waits = false,
                (false, false) => {}
            }
            let now = waits || asked.is_kept() || answered.is_kept();
            if std::mem::replace(&mut busy, now) != now {
                traffic.moves(); // what was kept may just have gone out: rest begins now
                is_busy(now);
            }
            match (inward, ended) {
                (Poll::Ready(End::SourceLost), _) | (_, Poll::Ready(End::SourceLost)) => Poll::Ready(Ended::Broken),
                (Poll::Ready(End::Reached), Poll::Ready(End::Reached)) => Poll::Ready(Ended::Orderly),
                // One sink is lost: what its owner sent before is still carried, up to the end or error that follows.
                (Poll::Ready(End::SinkLost | End::Reached), Poll::Ready(End::SinkLost | End::Reached)) => {
                    Poll::Ready(Ended::Broken)
                }
                (Poll::Pending, Poll::Ready(End::SinkLost | End::Reached) | Poll::Pending)
                | (Poll::Ready(End::SinkLost | End::Reached), Poll::Pending) => Poll::Pending,
            }
        })
    })
    .await
}

/// How one direction ended.
#[derive(Clone, Copy, Debug)]
enum End {
    /// The source ended, and so the sink was told.
    Reached,
    /// Reading failed: nothing can be delivered to that side either.
    SourceLost,
    /// Writing failed.
    SinkLost,
}

/// One direction.
#[derive(Debug, Default)]
struct Direction {
    /// What was read and not yet written, from `written` on.
    kept: Vec<u8>,
    written: usize,
    /// How often something has come from the source.
    reads: u64,
    end: Option<End>,
}

impl Direction {
    fn is_kept(&self) -> bool {
        self.written < self.kept.len()
    }

    fn poll(
        &mut self,
        cx: &mut Context<'_>,
        source: &mut TcpStream,
        sink: &mut TcpStream,
        carried: &AtomicU64,
        chunk: &mut [u8],
    ) -> Poll<End> {
        if let Some(end) = self.end {
            return Poll::Ready(end);
        }
        let end = ready!(self.carry(cx, source, sink, carried, chunk));
        self.end = Some(end);
        self.kept = Vec::new();
        Poll::Ready(end)
    }

    fn carry(
        &mut self,
        cx: &mut Context<'_>,
        source: &mut TcpStream,
        sink: &mut TcpStream,
        carried: &AtomicU64,
        chunk: &mut [u8],
    ) -> Poll<End> {
        for _ in 0..TURNS {
            while self.written < self.kept.len() {
                match ready!(Pin::new(&mut *sink).poll_write(cx, &self.kept[self.written..])) {
                    Ok(0) | Err(_) => return Poll::Ready(End::SinkLost),
                    Ok(count) => self.wrote(count, carried),
                }
            }
            self.kept.clear();
            self.written = 0;
            let mut buffer = ReadBuf::new(chunk);
            match Pin::new(&mut *source).poll_read(cx, &mut buffer) {
                Poll::Pending => {
                    self.kept = Vec::new();
                    return Poll::Pending;
                }
                Poll::Ready(Err(_)) => return Poll::Ready(End::SourceLost),
                Poll::Ready(Ok(())) => {}
            }
            let bytes = buffer.filled();
            self.reads += u64::from(!bytes.is_empty());
            if bytes.is_empty() {
                return Poll::Ready(match ready!(Pin::new(sink).poll_shutdown(cx)) {
                    Ok(()) => End::Reached,
                    Err(_) => End::SinkLost,
                });
            }
            match Pin::new(&mut *sink).poll_write(cx, bytes) {
                Poll::Pending => self.kept.extend_from_slice(bytes),
                Poll::Ready(Ok(0) | Err(_)) => return Poll::Ready(End::SinkLost),
                Poll::Ready(Ok(count)) => {
                    carried.fetch_add(count as u64, Ordering::Relaxed);
                    self.kept.extend_from_slice(&bytes[count..]);
                }
            }
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }

    fn wrote(&mut self, count: usize, carried: &AtomicU64) {
        self.written += count;
        carried.fetch_add(count as u64, Ordering::Relaxed);
    }
}
