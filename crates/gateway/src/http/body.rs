//! Bodies of which the beginning, or all, has been read before they are passed on.
//!
//! Invariant: what is passed on is what came, in order, with its trailers, and with an error where it broke off. What is
//! held of all bodies together has a bound.

use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Weak};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use http_body_util::BodyExt;
use hyper::HeaderMap;
use hyper::body::{Body, Bytes, Frame, SizeHint};
use tokio::time::{Instant, Sleep, sleep, timeout_at};

/// What all bodies together may hold. Beyond it they are passed on as they come, and requests cannot be asked again.
const HELD_BYTES_MAX: usize = 64 << 20;

/// Room for bodies that are held.
#[derive(Clone, Debug)]
pub(crate) struct Shelf(Arc<AtomicUsize>);

impl Default for Shelf {
    fn default() -> Self {
        Self(Arc::new(AtomicUsize::new(HELD_BYTES_MAX)))
    }
}

impl Shelf {
    /// Room for so many bytes; `None` if there is not as much.
    pub(crate) fn place(&self, bytes: usize) -> Option<Place> {
        let taken = self.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |free| free.checked_sub(bytes));
        taken.is_ok().then(|| Place { bytes, shelf: self.clone() })
    }
}

/// Room that is taken; given back when dropped.
#[derive(Debug)]
pub(crate) struct Place {
    bytes: usize,
    shelf: Shelf,
}

impl Drop for Place {
    fn drop(&mut self) {
        self.shelf.0.fetch_add(self.bytes, Ordering::Relaxed);
    }
}

/// A body that begins with what was read of it.
#[derive(Debug)]
pub(crate) struct Gathered<B> {
    ready: VecDeque<Bytes>,
    trailers: Option<HeaderMap>,
    /// What has not been read; `None` if that was all.
    rest: Option<B>,
    /// Shared by all that hold the same bytes.
    _place: Option<Arc<Place>>,
}

impl<B> Gathered<B> {
    /// All of a body.
    pub(crate) fn whole(bytes: Bytes) -> Self {
        let ready = if bytes.is_empty() { VecDeque::new() } else { VecDeque::from([bytes]) };
        Self { ready, trailers: None, rest: None, _place: None }
    }

    /// A body of which nothing was read.
    pub(crate) fn unread(rest: B) -> Self {
        Self { ready: VecDeque::new(), trailers: None, rest: Some(rest), _place: None }
    }

    /// The same again, if all of it is here.
    pub(crate) fn again(&self) -> Option<Self> {
        let whole = Self {
            ready: self.ready.clone(),
            trailers: self.trailers.clone(),
            rest: None,
            _place: self._place.clone(),
        };
        self.rest.is_none().then_some(whole)
    }

    fn ready_bytes(&self) -> usize {
        self.ready.iter().map(Bytes::len).sum()
    }
}

/// Reads a body until its end, or `bytes_max` or more have come, or `within` is over.
pub(crate) async fn gather<B>(
    mut rest: B,
    bytes_max: usize,
    within: Duration,
    place: Place,
) -> Result<Gathered<B>, B::Error>
where
    B: Body<Data = Bytes> + Unpin,
{
    let mut gathered = Gathered { _place: Some(Arc::new(place)), ..Gathered::whole(Bytes::new()) };
    let until = Instant::now() + within;
    let mut bytes = 0;
    while !rest.is_end_stream() {
        if bytes >= bytes_max {
            gathered.rest = Some(rest);
            return Ok(gathered);
        }
        let Ok(frame) = timeout_at(until, rest.frame()).await else {
            gathered.rest = Some(rest);
            return Ok(gathered);
        };
        let Some(frame) = frame.transpose()? else { break };
        match frame.into_data() {
            Ok(data) => {
                bytes += data.len();
                gathered.ready.push_back(data);
            }
            Err(frame) => gathered.trailers = frame.into_trailers().ok(),
        }
    }
    Ok(gathered)
}

impl<B> Body for Gathered<B>
where
    B: Body<Data = Bytes> + Unpin,
{
    type Data = Bytes;
    type Error = B::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, B::Error>>> {
        if let Some(bytes) = self.ready.pop_front() {
            return Poll::Ready(Some(Ok(Frame::data(bytes))));
        }
        match &mut self.rest {
            Some(rest) => Pin::new(rest).poll_frame(cx),
            None => Poll::Ready(self.trailers.take().map(|trailers| Ok(Frame::trailers(trailers)))),
        }
    }

    fn is_end_stream(&self) -> bool {
        self.ready.is_empty() && self.trailers.is_none() && self.rest.as_ref().is_none_or(Body::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        let ready = self.ready_bytes() as u64;
        match (&self.rest, &self.trailers) {
            (Some(rest), _) => {
                let mut hint = rest.size_hint();
                if let Some(upper) = hint.upper() {
                    hint.set_upper(upper.saturating_add(ready));
                }
                hint.set_lower(hint.lower().saturating_add(ready));
                hint
            }
            (None, None) => SizeHint::with_exact(ready),
            (None, Some(_)) => SizeHint::default(), // trailers come only after a body whose length was not told
        }
    }
}

/// A body whose sender may pause for so long and no longer.
#[derive(Debug)]
pub(crate) struct Patient<B> {
    body: B,
    pause_max: Duration,
    /// Only while it pauses.
    pause: Option<Pin<Box<Sleep>>>,
    /// Lives as long as the body, if there is one.
    alive: Option<Arc<()>>,
}

/// Why a body could not be read to its end.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Cut {
    #[error("it was cut off")]
    Lost(#[from] hyper::Error),
    #[error("nothing came for too long")]
    Paused,
}

impl<B> Patient<B> {
    pub(crate) fn new(body: B, pause_max: Duration) -> Self {
        Self { body, pause_max, pause: None, alive: None }
    }
}

impl<B: Body> Gathered<Patient<B>> {
    /// Something that lives until the rest of it has been read; nothing if it has.
    pub(crate) fn until_read(&mut self) -> Weak<()> {
        let rest = self.rest.as_mut().filter(|rest| !rest.body.is_end_stream());
        rest.map(|rest| Arc::downgrade(rest.alive.get_or_insert_default())).unwrap_or_default()
    }
}

impl<B> Body for Patient<B>
where
    B: Body<Data = Bytes, Error = hyper::Error> + Unpin,
{
    type Data = Bytes;
    type Error = Cut;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Cut>>> {
        if let Poll::Ready(frame) = Pin::new(&mut self.body).poll_frame(cx) {
            self.pause = None;
            return Poll::Ready(frame.map(|frame| frame.map_err(Cut::from)));
        }
        let pause_max = self.pause_max;
        ready!(self.pause.get_or_insert_with(|| Box::pin(sleep(pause_max))).as_mut().poll(cx));
        Poll::Ready(Some(Err(Cut::Paused)))
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use proptest::prelude::*;

    use super::*;

    /// A body of these pieces; `None` is a moment in which nothing comes.
    struct Pieces(VecDeque<Option<Vec<u8>>>, Option<HeaderMap>);

    impl Body for Pieces {
        type Data = Bytes;
        type Error = Infallible;

        fn poll_frame(
            mut self: Pin<&mut Self>,
            cx: &mut Context<'_>,
        ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
            match self.0.pop_front() {
                Some(Some(piece)) => Poll::Ready(Some(Ok(Frame::data(piece.into())))),
                Some(None) => {
                    cx.waker().wake_by_ref();
                    Poll::Pending
                }
                None => Poll::Ready(self.1.take().map(|trailers| Ok(Frame::trailers(trailers)))),
            }
        }
    }

    proptest! {
        #[test]
        fn what_is_gathered_is_what_came(
            pieces in prop::collection::vec(proptest::option::of(prop::collection::vec(any::<u8>(), 0..50)), 0..12),
            bytes_max in 0..300_usize,
            with_trailers in any::<bool>(),
        ) {
            let sent: Vec<u8> = pieces.iter().flatten().flatten().copied().collect();
            let trailers: HeaderMap = [(hyper::header::ETAG, "x".parse().unwrap())].into_iter().collect();
            let body = Pieces(pieces.into(), with_trailers.then(|| trailers.clone()));
            let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
            let shelf = Shelf::default();
            runtime.block_on(async {
                let place = shelf.place(bytes_max).unwrap();
                let gathered = gather(body, bytes_max, Duration::from_secs(60), place).await.unwrap();
                let whole = gathered.again();
                prop_assert_eq!(whole.is_some(), gathered.rest.is_none());
                for body in [Some(gathered), whole].into_iter().flatten() {
                    prop_assert!(body.size_hint().lower() <= sent.len() as u64);
                    let collected = body.collect().await.unwrap();
                    prop_assert_eq!(collected.trailers(), with_trailers.then_some(&trailers));
                    prop_assert_eq!(&collected.to_bytes()[..], &sent[..]);
                }
                Ok(())
            })?;
            prop_assert_eq!(shelf.0.load(Ordering::Relaxed), HELD_BYTES_MAX, "all room is given back");
        }
    }

    #[test]
    fn there_is_no_more_room_than_there_is() {
        let shelf = Shelf::default();
        let all = shelf.place(HELD_BYTES_MAX).unwrap();
        assert!(shelf.place(1).is_none());
        drop(all);
        assert!(shelf.place(1).is_some());
    }
}
