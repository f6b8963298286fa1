//! One request: whom it is sent to, and what happens when no answer comes.
//!
//! Invariant: a request is sent again only if asking twice is as good as asking once and nothing of an answer has gone
//! to the caller, and then only once; or if it is certain that nothing of it was sent.

use std::pin::{Pin, pin};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use hyper::body::{Body, Bytes, Frame, Incoming, SizeHint};
use hyper::header::{CONTENT_TYPE, HeaderValue, RETRY_AFTER, TRANSFER_ENCODING};
use hyper::http::response;
use hyper::upgrade::OnUpgrade;
use hyper::{Request, Response, StatusCode, Version};
use ostler_model::estate::Protocol;
use ostler_model::ids::InstanceId;
use tokio::time::timeout;

use super::body::{Cut, Gathered, Patient, Shelf, gather};
use super::head::{self, CallerName, is_idempotent};
use super::tunnel;
use super::upstream::{Flow, NoAnswer, Question, Upstream};
use crate::Patience;
use crate::listen::Held;
use crate::messages::Target;
use crate::reach::{Line, Takes, reach_or_reuse};
use crate::service::{Lease, Service};
use crate::tally::Went;

/// What can be asked again, and an answer in place of which another one can be got, is at most so long.
pub(crate) const HELD_BYTES: usize = 64 * 1024;
/// An answer whose length is known is held until all of it is here, but for no longer than this: then it goes on as it
/// comes.
const WHOLE_WITHIN: Duration = Duration::from_secs(1);
/// Of what has no length, only what is there at once is held: it may be something that comes bit by bit.
const AT_ONCE: Duration = Duration::from_millis(5);
/// A request that can be repeated uses a connection however long it was idle …
const IDLE_MAX: Duration = Duration::from_secs(3600);
/// … and another one only if it was just used. Servers close what has been idle for a few seconds, and what is sent at
/// that very moment is lost.
const IDLE_MAX_UNREPEATABLE: Duration = Duration::from_secs(1);
/// So often a request that was certainly not sent is tried at once again. More happens only to instances that accept
/// connections to close them.
const NOT_SENT_MAX: u32 = 8;

/// What all requests of one connection have in common.
#[derive(Debug)]
pub(crate) struct Caller {
    pub(crate) service: Arc<Service>,
    pub(crate) name: CallerName,
    pub(crate) shelf: Shelf,
    pub(crate) patience: Patience,
    /// An answer is under way whose end only the end of the connection tells: should the connection end before, then not
    /// as if the answer were complete.
    pub(crate) incomplete: Arc<AtomicBool>,
    /// Whose answer is on its way.
    pub(crate) at: Arc<At>,
    /// As long as any of it is under way.
    pub(crate) _held: Held,
}

/// Whose answer is on its way to the caller.
#[derive(Debug, Default)]
pub(crate) struct At(Mutex<Option<InstanceId>>);

impl At {
    pub(crate) fn get(&self) -> Option<InstanceId> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Its answer begins.
    fn answers(&self, service: &Service, instance: Option<&InstanceId>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = instance.cloned();
        if instance.is_some_and(|instance| service.is_fenced(instance)) {
            service.tell_fenced(); // since it was asked: whoever was told before did not know of it
        }
    }

    /// Its answer is over.
    fn is_over(&self) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }
}

/// Answers a request.
pub(crate) async fn answer(caller: Arc<Caller>, mut request: Request<Incoming>) -> Response<Answer> {
    let on_upgrade = hyper::upgrade::on(&mut request);
    let (mut head, body) = request.into_parts();
    head.extensions.clear();
    let version = head.version;
    let upgrades = match head::to_instance(&mut head, &caller.name) {
        Ok(upgrades) => upgrades,
        Err(status) => return local(status, "this request cannot be passed on"),
    };
    let repeatable = is_idempotent(&head.method);
    let body = Patient::new(body, caller.patience.body);
    let body = match read_ahead(&caller, repeatable, body).await {
        Ok(body) => body,
        Err(Cut::Paused) => return local(StatusCode::REQUEST_TIMEOUT, "the body of the request did not come"),
        Err(Cut::Lost(_)) => return local(StatusCode::BAD_REQUEST, "the body of the request cannot be understood"),
    };
    if !body.is_end_stream() && body.size_hint().exact().is_none() {
        head.headers.insert(TRANSFER_ENCODING, HeaderValue::from_static("chunked"));
    }
    let mut attempt = Attempt {
        caller: &caller,
        begun: Instant::now(),
        repeatable,
        upgrades,
        tale: Tale {
            service: Arc::clone(&caller.service),
            instance: None,
            went: Went::BrokenOff,
            at: Arc::clone(&caller.at),
        },
    };
    let outcome = attempt.ask(Request::from_parts(head, body)).await;
    let Attempt { begun, mut tale, .. } = attempt;
    match outcome {
        Ok(Asked::Answered(mut head, body)) => {
            let failed = head.status.is_server_error();
            tale.went = if failed { Went::Wrong } else { Went::Well(begun.elapsed()) };
            head::to_caller(&mut head.headers, head.status);
            // To such a caller the end of the connection is the end of the answer.
            let ends_with_connection = version == Version::HTTP_10 && body.size_hint().exact().is_none();
            caller.incomplete.store(ends_with_connection, Ordering::Relaxed);
            caller.at.answers(&caller.service, tale.instance.as_ref());
            let incomplete = ends_with_connection.then(|| Arc::clone(&caller.incomplete));
            Response::from_parts(head, Answer { body, told: Some(Told { tale, incomplete }) })
        }
        Ok(Asked::Upgraded(head, upstream, lease)) => {
            tale.went = Went::Well(begun.elapsed());
            switch(&caller, on_upgrade, head, upstream, lease)
        }
        Err(failure) => {
            tale.went = match failure {
                Failure::CallersFault => Went::BrokenOff,
                Failure::NobodyReady | Failure::Lost | Failure::NoAnswer => Went::Wrong,
            };
            failure.answer()
        }
    }
}

/// How a request failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Failure {
    /// It was held in vain.
    NobodyReady,
    /// Connections broke before the answer, or in the middle of one that was held back.
    Lost,
    /// The answer did not begin in time.
    NoAnswer,
    /// The caller did not send the rest of the request.
    CallersFault,
}

impl Failure {
    fn answer(self) -> Response<Answer> {
        match self {
            Self::NobodyReady => {
                let mut answer = local(StatusCode::SERVICE_UNAVAILABLE, "no instance of this service is ready");
                answer.headers_mut().insert(RETRY_AFTER, HeaderValue::from_static("1"));
                answer
            }
            Self::Lost => local(StatusCode::BAD_GATEWAY, "the connection to the service broke before it had answered"),
            Self::NoAnswer => local(StatusCode::GATEWAY_TIMEOUT, "the service did not answer in time"),
            Self::CallersFault => local(StatusCode::REQUEST_TIMEOUT, "the body of the request did not come"),
        }
    }
}

/// What an instance said.
enum Asked {
    Answered(response::Parts, Gathered<Flow>),
    /// It agrees to speak something else from now on.
    Upgraded(response::Parts, Upstream, Lease),
}

/// What came of one connection.
enum Try {
    Asked(Asked),
    /// Certainly nothing was sent: the request, and whether the connection was a new one.
    NotSent(Box<Request<Question>>, Target, bool),
    Lost(Target),
    Failed(Failure),
}

/// A request on its way.
struct Attempt<'c> {
    caller: &'c Caller,
    begun: Instant,
    repeatable: bool,
    upgrades: bool,
    tale: Tale,
}

impl Attempt<'_> {
    async fn ask(&mut self, mut question: Request<Question>) -> Result<Asked, Failure> {
        let service = &self.caller.service;
        let idle_max = if self.repeatable { IDLE_MAX } else { IDLE_MAX_UNREPEATABLE };
        let mut takes = Takes::Kept { idle_max };
        let mut lost: Option<InstanceId> = None;
        let (mut not_sent, mut asked_before) = (0, false);
        loop {
            let again = if asked_before { None } else { self.again(&question) };
            let reached = reach_or_reuse(service, self.begun, lost.as_ref(), takes).await;
            let (line, lease) = reached.ok_or(Failure::NobodyReady)?;
            self.tale.instance = Some(lease.target.instance.clone());
            let target = lease.target.clone();
            let tried = tokio::select! {
                tried = self.try_once(question, line, lease) => tried,
                () = service.until_fenced(|service| service.is_fenced(&target.instance)) => Try::Lost(target.clone()),
            };
            match tried {
                Try::Asked(asked) => return Ok(asked),
                Try::Failed(failure) => return Err(failure),
                Try::NotSent(same, target, was_new) if not_sent < NOT_SENT_MAX => {
                    // What is wrong with one kept connection is wrong with all of them.
                    service.drop_idle(&target);
                    not_sent += 1;
                    takes = Takes::New;
                    question = *same;
                    lost = was_new.then_some(target.instance);
                }
                Try::NotSent(_, target, _) | Try::Lost(target) => {
                    service.asked(&target, None);
                    service.drop_idle(&target);
                    service.suspect(&target, Duration::ZERO);
                    let Some(same) = again else {
                        service.affected(Some(&target.instance));
                        service.gave_up(self.begun.elapsed());
                        return Err(Failure::Lost);
                    };
                    asked_before = true;
                    question = same;
                    lost = Some(target.instance);
                }
            }
        }
    }

    /// The same request again, if it may be sent again.
    fn again(&self, question: &Request<Question>) -> Option<Request<Question>> {
        let body = question.body().again().filter(|_| self.repeatable)?;
        let (mut head, ()) = Request::new(()).into_parts();
        head.method = question.method().clone();
        head.uri = question.uri().clone();
        head.headers = question.headers().clone();
        Some(Request::from_parts(head, body))
    }

    async fn try_once(&self, question: Request<Question>, line: Line, lease: Lease) -> Try {
        let service = &self.caller.service;
        let target = lease.target.clone();
        let (mut upstream, is_new) = match line {
            Line::Kept(upstream) => (upstream, false),
            Line::New(stream) => match Upstream::open(stream).await {
                Ok(upstream) => (upstream, true),
                Err(_) => return Try::NotSent(Box::new(question), target, true),
            },
        };
        let sent = Instant::now();
        let answered = self.answered(&mut upstream, question).await;
        let on = (upstream, lease); // dropped in this order: closed before the target counts as free of it
        let (head, body) = match answered {
            Some(Ok(response)) => response.into_parts(),
            Some(Err(NoAnswer::NotSent(question))) => return Try::NotSent(question, target, is_new),
            Some(Err(NoAnswer::Lost(error))) if is_the_callers(&error) => return Try::Failed(Failure::CallersFault),
            Some(Err(NoAnswer::Lost(_))) => return Try::Lost(target),
            None => {
                service.asked(&target, None);
                return Try::Failed(Failure::NoAnswer);
            }
        };
        match (head.status == StatusCode::SWITCHING_PROTOCOLS, self.upgrades) {
            (true, true) => return Try::Asked(Asked::Upgraded(head, on.0, on.1)),
            (true, false) => return Try::Lost(target), // nobody asked for that
            (false, _) => {}
        }
        let took = sent.elapsed();
        let flow = Flow::new(body, on, Arc::clone(service));
        match self.read_back(&head, flow).await {
            Ok(body) => {
                service.asked(&target, (!head.status.is_server_error()).then_some(took));
                Try::Asked(Asked::Answered(head, body))
            }
            Err(_) => Try::Lost(target),
        }
    }

    /// Asks, and waits for the answer's head as long as the caller still sends, and then for as long as an instance may
    /// take. `None` if it takes longer.
    async fn answered(
        &self,
        upstream: &mut Upstream,
        mut question: Request<Question>,
    ) -> Option<Result<Response<Incoming>, NoAnswer>> {
        let sending = question.body_mut().until_read();
        let mut asked = pin!(upstream.ask(question));
        loop {
            match timeout(self.caller.patience.answer, asked.as_mut()).await {
                Ok(answered) => return Some(answered),
                Err(_) if sending.strong_count() > 0 => {} // how long it may pause is looked at elsewhere
                Err(_) => return None,
            }
        }
    }

    /// Reads as much of an answer as may be held back. What has been read can still be replaced by another answer.
    async fn read_back(&self, head: &response::Parts, mut flow: Flow) -> Result<Gathered<Flow>, hyper::Error> {
        if flow.is_end_stream() {
            flow.settle().await;
            return Ok(Gathered::unread(flow));
        }
        let bounds = match flow.size_hint().exact() {
            Some(bytes) => usize::try_from(bytes).ok().filter(|bytes| *bytes <= HELD_BYTES).map(|b| (b, WHOLE_WITHIN)),
            None => (!head::is_event_stream(&head.headers)).then_some((HELD_BYTES, AT_ONCE)),
        };
        let place = bounds
            .filter(|_| self.repeatable)
            .and_then(|(bytes, within)| Some((bytes, within, self.caller.shelf.place(bytes)?)));
        match place {
            Some((bytes, within, place)) => gather(flow, bytes, within, place).await,
            None => Ok(Gathered::unread(flow)),
        }
    }
}

/// Reads the body of a request that could be asked again, if it is short and comes at once.
async fn read_ahead(caller: &Caller, repeatable: bool, body: Patient<Incoming>) -> Result<Question, Cut> {
    if body.is_end_stream() {
        return Ok(Gathered::whole(Bytes::new()));
    }
    let bytes = match body.size_hint().upper() {
        Some(bytes) => usize::try_from(bytes).ok().filter(|bytes| *bytes <= HELD_BYTES),
        None => Some(HELD_BYTES),
    };
    match bytes.filter(|_| repeatable).and_then(|bytes| Some((bytes, caller.shelf.place(bytes)?))) {
        Some((bytes, place)) => gather(body, bytes, WHOLE_WITHIN, place).await,
        None => Ok(Gathered::unread(body)),
    }
}

/// Whether it was the body of the request that failed.
fn is_the_callers(error: &hyper::Error) -> bool {
    error.is_user()
}

/// The caller and the instance speak something else from now on.
fn switch(
    caller: &Arc<Caller>,
    on_upgrade: OnUpgrade,
    mut head: response::Parts,
    upstream: Upstream,
    lease: Lease,
) -> Response<Answer> {
    head.extensions.clear();
    head::to_caller(&mut head.headers, head.status);
    tokio::spawn(tunnel::carry(Arc::clone(caller), on_upgrade, upstream, lease));
    Response::from_parts(head, Answer::of(Bytes::new()))
}

/// An answer of the gateway's own.
fn local(status: StatusCode, why: &'static str) -> Response<Answer> {
    let mut answer = Response::new(Answer::of(Bytes::from(format!("{why}\n"))));
    *answer.status_mut() = status;
    answer.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    answer
}

/// What is counted of a request when it is over, however that comes about.
#[derive(Debug)]
struct Tale {
    service: Arc<Service>,
    instance: Option<InstanceId>,
    went: Went,
    at: Arc<At>,
}

impl Drop for Tale {
    fn drop(&mut self) {
        self.at.is_over();
        self.service.served(Protocol::Http, self.instance.as_ref(), self.went);
    }
}

/// The body of an answer on its way to a caller.
#[derive(Debug)]
pub(crate) struct Answer {
    body: Gathered<Flow>,
    told: Option<Told>,
}

#[derive(Debug)]
struct Told {
    tale: Tale,
    /// The caller's, if it is about this answer.
    incomplete: Option<Arc<AtomicBool>>,
}

impl Answer {
    fn of(bytes: Bytes) -> Self {
        Self { body: Gathered::whole(bytes), told: None }
    }
}

impl Body for Answer {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<hyper::Result<Frame<Bytes>>>> {
        let frame = Pin::new(&mut self.body).poll_frame(cx);
        let Some(told) = &mut self.told else { return frame };
        match &frame {
            Poll::Ready(Some(Err(_))) => told.tale.went = Went::Wrong,
            Poll::Ready(None) => {
                if let Some(incomplete) = &told.incomplete {
                    incomplete.store(false, Ordering::Relaxed);
                }
            }
            Poll::Ready(Some(Ok(_))) | Poll::Pending => {}
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
