//! Group commit: many threads append, one thread writes, and whoever waits shares one commit.
//!
//! Invariant: requests are stored in the order in which they arrived, a request is answered only when it is durable
//! (or failed), and each is answered exactly once.

use std::io;
use std::sync::mpsc::{self, Receiver, SyncSender};
use std::thread::{self, JoinHandle};

use ostler_model::ids::Position;

use crate::error::AppendError;
use crate::{Journal, NewFact, SealedChange, limits};

/// Requests in one commit. Larger groups gain little and make everyone in them wait.
const GROUP_MAX: usize = 256;
/// Requests that wait for the writer; beyond these, appending threads wait to be let in.
const WAITING_MAX: usize = 1024;
const _: () = assert!(GROUP_MAX <= WAITING_MAX); // a group must be able to fill

/// The thread that writes, and owns the journal until it is stopped.
pub struct Writer<J> {
    handle: Handle<J>,
    thread: JoinHandle<J>,
}

/// A way to the writer, for as many threads as like.
pub struct Handle<J> {
    queue: SyncSender<Request<J>>,
}

impl<J> Clone for Handle<J> {
    fn clone(&self) -> Self {
        Self { queue: self.queue.clone() }
    }
}

/// Why the writer did not do what it was asked.
#[derive(Clone, Debug, thiserror::Error)]
pub enum WriterError {
    /// The writer was stopped; nothing was stored.
    #[error("cannot append to the journal: its writer has stopped")]
    Stopped,
    /// The journal refused or failed; nothing of the request was stored.
    #[error(transparent)]
    Append(#[from] AppendError),
}

impl WriterError {
    /// What a person can do.
    pub fn remedy(&self) -> String {
        match self {
            Self::Stopped => "ostler is shutting down: start it again.".into(),
            Self::Append(error) => error.remedy(),
        }
    }
}

/// Called once on the writer's thread with the position of the request's newest fact; must be quick.
type Done = Box<dyn FnOnce(Result<Position, WriterError>) + Send>;

enum Request<J> {
    Append(Append),
    Call(Box<dyn FnOnce(&mut J) + Send>),
    Stop,
}

struct Append {
    facts: Vec<NewFact>,
    secrets: Vec<SealedChange>,
    /// Taken when it is answered.
    done: Option<Done>,
}

impl Append {
    fn answer(mut self, result: Result<Position, WriterError>) {
        if let Some(done) = self.done.take() {
            done(result);
        }
    }
}

impl Drop for Append {
    /// A request that is dropped with the queue was not stored, and its author must not wait for ever.
    fn drop(&mut self) {
        if let Some(done) = self.done.take() {
            done(Err(WriterError::Stopped));
        }
    }
}

impl<J: Journal + 'static> Writer<J> {
    /// Starts the thread, which owns `journal` from now on.
    ///
    /// # Errors
    /// If the operating system gives no thread.
    pub fn spawn(journal: J) -> io::Result<Self> {
        let (queue, requests) = mpsc::sync_channel(WAITING_MAX);
        let thread = thread::Builder::new().name("journal".into()).spawn(move || write(journal, &requests))?;
        Ok(Self { handle: Handle { queue }, thread })
    }

    /// A way to the writer.
    pub fn handle(&self) -> Handle<J> {
        self.handle.clone()
    }

    /// Finishes what was asked before and gives the journal back. What is asked later fails with
    /// [`WriterError::Stopped`].
    ///
    /// # Errors
    /// If the thread panicked; what was acknowledged is durable all the same.
    pub fn stop(self) -> thread::Result<J> {
        // If the thread is gone already, joining tells how it ended.
        let _gone = self.handle.queue.send(Request::Stop);
        self.thread.join()
    }
}

impl<J: Journal + 'static> Handle<J> {
    /// Appends after whatever is there, together with others who wait, and returns when it is durable: the position
    /// of the newest of `facts`, which lie together.
    ///
    /// # Errors
    /// Nothing of this request is stored then. The others of its group fail with it.
    pub fn append(&self, facts: Vec<NewFact>, secrets: Vec<SealedChange>) -> Result<Position, WriterError> {
        let (answer, answered) = mpsc::sync_channel(1);
        self.submit(facts, secrets, move |result| {
            // The author waits on the other side, or is gone and needs no answer.
            let _gone = answer.send(result);
        });
        answered.recv().unwrap_or(Err(WriterError::Stopped))
    }

    /// As [`Handle::append`], but does not wait: `done` is called once on the writer's thread and must be quick. It
    /// blocks only while 1,024 requests wait already.
    pub fn submit(
        &self,
        facts: Vec<NewFact>,
        secrets: Vec<SealedChange>,
        done: impl FnOnce(Result<Position, WriterError>) + Send + 'static,
    ) {
        // Refused here and not by the journal, so that nobody else's request fails with it.
        if let Err(error) = limits::check(&facts, &secrets) {
            return done(Err(error.into()));
        }
        let append = Append { facts, secrets, done: Some(Box::new(done)) };
        // If the writer is gone, the request comes back and is dropped, which answers it.
        let _answered_by_drop = self.queue.send(Request::Append(append));
    }

    /// Runs `ask` on the writer's thread, after what was asked before: for reading, snapshots and the archive.
    ///
    /// # Errors
    /// If the writer was stopped before.
    pub fn call<R: Send + 'static>(&self, ask: impl FnOnce(&mut J) -> R + Send + 'static) -> Result<R, WriterError> {
        let (answer, answered) = mpsc::sync_channel(1);
        let call = Request::Call(Box::new(move |journal: &mut J| {
            let _gone = answer.send(ask(journal));
        }));
        // A call that comes back still holds the other end of `answered`: waiting for it would never end.
        self.queue.send(call).map_err(|_| WriterError::Stopped)?;
        answered.recv().map_err(|_| WriterError::Stopped)
    }
}

/// The writer's thread: takes all that waits, up to a group, and commits it at once.
fn write<J: Journal>(mut journal: J, requests: &Receiver<Request<J>>) -> J {
    let mut group = Vec::with_capacity(GROUP_MAX);
    while let Ok(first) = requests.recv() {
        let mut next = Some(first);
        while let Some(Request::Append(append)) = next {
            group.push(append);
            next = if group.len() < GROUP_MAX { requests.try_recv().ok() } else { None };
        }
        commit(&mut journal, &mut group);
        match next {
            Some(Request::Call(call)) => call(&mut journal),
            Some(Request::Stop) => break,
            Some(Request::Append(_)) | None => {}
        }
    }
    journal
}

fn commit<J: Journal>(journal: &mut J, group: &mut Vec<Append>) {
    if group.is_empty() {
        return;
    }
    let (mut facts, mut secrets, mut ends) = (Vec::new(), Vec::new(), Vec::with_capacity(group.len()));
    let before = journal.end();
    for append in &mut *group {
        facts.append(&mut append.facts);
        secrets.append(&mut append.secrets);
        ends.push(Position(before.0 + facts.len() as u64));
    }
    let result = journal.append(before, &facts, &secrets);
    for (append, end) in group.drain(..).zip(ends) {
        append.answer(result.clone().map(|_| end).map_err(WriterError::from));
    }
}
