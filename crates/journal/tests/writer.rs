//! Many threads append at once: in order, each answered once, and together.
#![allow(clippy::unwrap_used, clippy::panic, clippy::print_stdout, clippy::print_stderr, reason = "helpers of tests")]

mod suite;

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, mpsc};
use std::thread;

use ostler_journal::sealed::Key;
use ostler_journal::{
    AppendError, Journal, Memory, NewFact, OpenOptions, ReadError, Record, SealedChange, SecretValue, Snapshots,
    Sqlite, Writer, WriterError,
};
use ostler_model::ids::{Position, SecretId};
use ostler_model::time::Timestamp;

/// A journal in memory that counts its commits, and fails while it is told to.
struct Counting {
    journal: Memory,
    commits: Arc<AtomicUsize>,
    fails: bool,
}

impl Counting {
    fn new() -> (Self, Arc<AtomicUsize>) {
        let commits = Arc::new(AtomicUsize::new(0));
        let journal = Memory::new(&Key::generate().unwrap());
        (Self { journal, commits: Arc::clone(&commits), fails: false }, commits)
    }
}

impl Journal for Counting {
    fn append(&mut self, expected: Position, f: &[NewFact], s: &[SealedChange]) -> Result<Position, AppendError> {
        if self.fails {
            let cause = Arc::new(std::io::Error::other("no space"));
            return Err(AppendError::DiskFull { path: "memory".into(), cause });
        }
        self.commits.fetch_add(1, Ordering::SeqCst);
        self.journal.append(expected, f, s)
    }

    fn end(&self) -> Position {
        self.journal.end()
    }

    fn read(&self, after: Position, most: usize) -> Result<Vec<Record>, ReadError> {
        self.journal.read(after, most)
    }

    fn read_back(&self, before: Position, most: usize) -> Result<Vec<Record>, ReadError> {
        self.journal.read_back(before, most)
    }

    fn secret(&self, id: &SecretId) -> Result<Option<SecretValue>, ReadError> {
        self.journal.secret(id)
    }

    fn save_snapshot(&mut self, at: Position, version: u32, body: &[u8]) -> Result<(), AppendError> {
        self.journal.save_snapshot(at, version, body)
    }

    fn latest_snapshot(&self) -> Result<Snapshots, ReadError> {
        self.journal.latest_snapshot()
    }

    fn meta_get(&self, name: &str) -> Result<Option<Vec<u8>>, ReadError> {
        self.journal.meta_get(name)
    }

    fn meta_set(&mut self, name: &str, value: &[u8]) -> Result<(), AppendError> {
        self.journal.meta_set(name, value)
    }
}

#[test]
fn threads_keep_their_order() {
    const THREADS: i64 = 16;
    const APPENDS: i64 = 40;
    let home = tempfile::tempdir().unwrap();
    let journal = Sqlite::open(home.path(), &OpenOptions::default()).unwrap().journal;
    let writer = Writer::spawn(journal).unwrap();
    thread::scope(|scope| {
        for thread in 0..THREADS {
            let handle = writer.handle();
            scope.spawn(move || {
                let mut last = Position(0);
                for n in 0..APPENDS {
                    // Two facts that must lie together, told apart by their times.
                    let fact = |half| NewFact {
                        at: Timestamp(thread * 1000 + n),
                        kind: format!("half-{half}"),
                        body: b"{}".to_vec(),
                    };
                    let end = handle.append(vec![fact(1), fact(2)], Vec::new()).unwrap();
                    assert!(end > last);
                    last = end;
                    // Acknowledged is readable at the position that was told.
                    let stored = handle.call(move |journal| journal.read(Position(end.0 - 2), 2).unwrap()).unwrap();
                    assert!(stored.iter().all(|record| record.at == Timestamp(thread * 1000 + n)));
                    assert_eq!((stored[0].kind.as_str(), stored[1].kind.as_str()), ("half-1", "half-2"));
                }
            });
        }
    });
    let journal = writer.stop().unwrap();
    assert_eq!(journal.end(), Position(u64::try_from(2 * THREADS * APPENDS).unwrap()));
    journal.verify().unwrap();
}

#[test]
fn those_who_wait_share_a_commit() {
    let (journal, commits) = Counting::new();
    let writer = Writer::spawn(journal).unwrap();
    let handle = writer.handle();
    // Hold the writer until everyone waits.
    let (release, held) = mpsc::channel::<()>();
    let holder = thread::spawn({
        let handle = handle.clone();
        let (started, start) = mpsc::channel();
        let holder = move || {
            handle
                .call(move |_| {
                    started.send(()).unwrap();
                    held.recv().unwrap()
                })
                .unwrap()
        };
        let thread = thread::spawn(holder);
        start.recv().unwrap();
        move || thread.join().unwrap()
    });
    let (answer, answers) = mpsc::channel();
    for n in 1..=300 {
        let answer = answer.clone();
        handle.submit(suite::facts(n, n), Vec::new(), move |result| answer.send((n, result.unwrap())).unwrap());
    }
    release.send(()).unwrap();
    holder.join().unwrap();
    for n in 1..=300 {
        assert_eq!(answers.recv().unwrap(), (n, Position(n)), "answered in order of arrival");
    }
    assert_eq!(commits.load(Ordering::SeqCst), 2, "256 and 44");
    writer.stop().unwrap();
}

#[test]
fn a_failure_is_everyones_and_passes() {
    let (journal, _) = Counting::new();
    let writer = Writer::spawn(journal).unwrap();
    let handle = writer.handle();
    handle.call(|journal| journal.fails = true).unwrap();
    for _ in 0..2 {
        let error = handle.append(suite::facts(1, 1), Vec::new()).unwrap_err();
        assert!(matches!(error, WriterError::Append(AppendError::DiskFull { .. })), "{error}");
        assert!(error.remedy().contains("Free some space"));
    }
    handle.call(|journal| journal.fails = false).unwrap();
    assert_eq!(handle.append(suite::facts(1, 1), Vec::new()).unwrap(), Position(1));
    let secret = SealedChange::set(suite::secret_id("a"), b"b".to_vec());
    let error = handle.append(Vec::new(), vec![secret]).unwrap_err();
    assert!(matches!(error, WriterError::Append(AppendError::Refused { .. })), "{error}");
    assert_eq!(writer.stop().unwrap().end(), Position(1));
}

#[test]
fn a_stopped_writer_answers_too() {
    let (journal, _) = Counting::new();
    let writer = Writer::spawn(journal).unwrap();
    let handle = writer.handle();
    handle.append(suite::facts(1, 1), Vec::new()).unwrap();
    assert_eq!(writer.stop().unwrap().end(), Position(1));
    assert!(matches!(handle.append(suite::facts(2, 2), Vec::new()), Err(WriterError::Stopped)));
    assert!(matches!(handle.call(|_| ()), Err(WriterError::Stopped)));

    // A writer that dies does not leave anyone waiting either.
    let (journal, _) = Counting::new();
    let writer = Writer::spawn(journal).unwrap();
    let handle = writer.handle();
    let died: Result<(), _> = handle.call(|_| panic!("on purpose"));
    assert!(matches!(died, Err(WriterError::Stopped)));
    assert!(matches!(handle.append(suite::facts(1, 1), Vec::new()), Err(WriterError::Stopped)));
    assert!(writer.stop().is_err());
}
