//! One HTTP connection to an instance. Whoever uses it drives it: there is no task behind it, and while it is kept for
//! the next request nobody looks at it.
//!
//! Invariant: a connection is used by one request at a time, and used again only when all of the last answer was read
//! and the instance agrees.

use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll};

use hyper::body::{Body, Bytes, Frame, Incoming, SizeHint};
use hyper::client::conn::TrySendError;
use hyper::client::conn::http1::{Builder, Connection, SendRequest};
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

use super::HEAD_BYTES_MAX;
use super::body::{Gathered, Patient};
use super::tap::{Tap, Tapped};
use crate::reach::trust;
use crate::service::{Lease, Service};

/// What is sent to an instance: what a caller sends.
pub(crate) type Question = Gathered<Patient<Incoming>>;

/// A connection.
#[derive(Debug)]
pub(crate) struct Upstream {
    sender: SendRequest<Question>,
    /// In a box: it is moved about between requests.
    connection: Box<Connection<TokioIo<Tapped<Doubt>>, Question>>,
    /// Nothing can be sent or read any more.
    ended: bool,
}

/// Why there is no answer.
#[derive(Debug)]
pub(crate) enum NoAnswer {
    /// Nothing of the request was written. It is given back.
    NotSent(Box<Request<Question>>),
    /// Some of it may have been.
    Lost(hyper::Error),
}

impl Upstream {
    /// Speaks HTTP on a new connection; nothing is sent yet.
    pub(crate) async fn open(stream: TcpStream) -> hyper::Result<Self> {
        let tapped = Tapped { stream, tap: Doubt(true) };
        let mut builder = Builder::new();
        builder.max_buf_size(HEAD_BYTES_MAX).max_header_size(HEAD_BYTES_MAX);
        let (sender, connection) = builder.handshake(TokioIo::new(tapped)).await?;
        Ok(Self { sender, connection: Box::new(connection), ended: false })
    }

    /// Whether another request can be sent: its other end has not closed it meanwhile, nor said anything unasked.
    pub(crate) async fn is_usable(&mut self) -> bool {
        poll_fn(|cx| {
            self.drive(cx);
            Poll::Ready(!self.ended && self.sender.is_ready())
        })
        .await
    }

    /// Sends a request and waits for the head of its answer. The rest of both is carried by [`Upstream::drive`].
    pub(crate) async fn ask(&mut self, request: Request<Question>) -> Result<Response<Incoming>, NoAnswer> {
        let answer = {
            let mut answer = pin!(self.sender.try_send_request(request));
            let (connection, ended) = (&mut self.connection, &mut self.ended);
            poll_fn(|cx| {
                if let Poll::Ready(answer) = answer.as_mut().poll(cx) {
                    return Poll::Ready(answer);
                }
                if !*ended {
                    *ended = Pin::new(&mut **connection).poll(cx).is_ready();
                }
                answer.as_mut().poll(cx)
            })
            .await
        };
        answer.map_err(|mut error: TrySendError<Request<Question>>| match error.take_message() {
            Some(request) => NoAnswer::NotSent(Box::new(request)),
            None => NoAnswer::Lost(error.into_error()),
        })
    }

    /// Does what can be done now: sends more of the request, reads more of the answer, sees that the other end closes.
    fn drive(&mut self, cx: &mut Context<'_>) {
        if !self.ended {
            // What went wrong is told to whoever waits for the answer or its body.
            self.ended = Pin::new(&mut *self.connection).poll(cx).is_ready();
        }
    }

    /// The socket, and what has come on it behind the head, once the instance has agreed to speak something else.
    pub(crate) fn into_socket(self) -> (TcpStream, Bytes) {
        let parts = self.connection.into_parts();
        (parts.io.into_inner().stream, parts.read_buf)
    }
}

/// A target is doubted until its first byte; see [`trust`].
#[derive(Debug)]
struct Doubt(bool);

impl Tap for Doubt {
    fn read(&mut self, stream: &TcpStream, bytes: usize) {
        if self.0 && bytes > 0 {
            self.0 = false;
            trust(stream);
        }
    }

    fn wrote(&mut self, _: &TcpStream, _: usize) {}

    fn may_end(&mut self, _: &TcpStream) -> bool {
        true
    }
}

/// The body of an answer, which carries its connection on as it is read. When all of it has been, the connection is kept
/// for the next request.
#[derive(Debug)]
pub(crate) struct Flow {
    body: Incoming,
    on: Option<(Upstream, Lease)>,
    service: Arc<Service>,
}

impl Flow {
    pub(crate) fn new(body: Incoming, on: (Upstream, Lease), service: Arc<Service>) -> Self {
        Self { body, on: Some(on), service }
    }

    /// There was no body: the connection is free at once.
    pub(crate) async fn settle(&mut self) {
        poll_fn(|cx| {
            self.free_if_read(cx);
            Poll::Ready(())
        })
        .await;
    }

    fn free_if_read(&mut self, cx: &mut Context<'_>) {
        if self.body.is_end_stream() {
            self.free(cx);
        }
    }

    /// Keeps or closes the connection, and only then counts the target as free of the request.
    fn free(&mut self, cx: &mut Context<'_>) {
        if let Some((mut upstream, lease)) = self.on.take() {
            upstream.drive(cx); // which finds that the answer is over
            if !upstream.ended && upstream.sender.is_ready() {
                self.service.keep_idle(&lease.target, upstream);
            } else {
                drop(upstream);
            }
            drop(lease);
        }
    }
}

impl Body for Flow {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<hyper::Result<Frame<Bytes>>>> {
        let mut frame = Pin::new(&mut self.body).poll_frame(cx);
        if frame.is_pending() {
            if let Some((upstream, _)) = &mut self.on {
                upstream.drive(cx);
            }
            frame = Pin::new(&mut self.body).poll_frame(cx);
        }
        match &frame {
            Poll::Ready(None) => self.free(cx),
            Poll::Ready(Some(Ok(_))) => self.free_if_read(cx),
            Poll::Ready(Some(Err(_))) => drop(self.on.take()),
            Poll::Pending => {}
        }
        frame
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
