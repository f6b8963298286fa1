//! Facts stored per second, each durable before it is acknowledged, against bare SQLite doing the same rows with the
//! same durability (write-ahead log, `synchronous = FULL`) and the same number of waiting producers in the same run.
//!
//! The bare side has no chained checksum, no witness and no comparison of the end; its producers wait in the same
//! queue. Rounds alternate and medians are compared. The bar is 80 %. Run: `cargo bench -p ostler-journal`.
#![allow(clippy::print_stdout, clippy::unwrap_used)]

use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use ostler_journal::{
    AppendError, Journal, NewFact, OpenOptions, ReadError, Record, SealedChange, SecretValue, Snapshots, Sqlite, Writer,
};
use ostler_model::ids::{Position, SecretId};
use ostler_model::time::Timestamp;
use rusqlite::{Connection, params};

const ROUNDS: usize = 9;
const ROUND: Duration = Duration::from_millis(700);
const BODY_BYTES: usize = 340;

/// What the producers do in one row of the table.
#[derive(Clone, Copy)]
struct Load {
    name: &'static str,
    producers: usize,
    batch: usize,
}

const LOADS: [Load; 4] = [
    Load { name: "1 producer", producers: 1, batch: 1 },
    Load { name: "8 producers", producers: 8, batch: 1 },
    Load { name: "64 producers", producers: 64, batch: 1 },
    Load { name: "1 producer, batches of 100", producers: 1, batch: 100 },
];

fn main() {
    // `cargo bench` passes `--bench`; `cargo test --benches` must only see that it starts.
    let measured = std::env::args().any(|argument| argument == "--bench");
    let rounds = if measured { ROUNDS } else { 1 };
    println!("{:<28} {:>12} {:>12} {:>7}   append, journal (bare)", "", "journal", "bare SQLite", "ratio");
    println!("{:<28} {:>12} {:>12} {:>7}   {:>18} {:>20}", "", "facts/s", "facts/s", "", "p50 µs", "p99 µs");
    for load in LOADS {
        let (mut ours, mut bare) = (Vec::new(), Vec::new());
        for _ in 0..rounds {
            // A new folder for each round: both sides start with an empty file and a new log.
            ours.push(run(load, |home| Sqlite::open(home, &OpenOptions::default()).unwrap().journal));
            bare.push(run(load, Bare::open));
        }
        let (ours, bare) = (Figures::median(ours), Figures::median(bare));
        println!(
            "{:<28} {:>12.0} {:>12.0} {:>6.0}%   {:>8} ({:>7}) {:>10} ({:>7})",
            load.name,
            ours.rate,
            bare.rate,
            100.0 * ours.rate / bare.rate,
            ours.p50,
            bare.p50,
            ours.p99,
            bare.p99
        );
    }
}

/// One round's outcome, or the medians of many.
struct Figures {
    rate: f64,
    p50: u128,
    p99: u128,
}

impl Figures {
    fn median(rounds: Vec<Self>) -> Self {
        let mut rates: Vec<f64> = rounds.iter().map(|round| round.rate).collect();
        rates.sort_by(f64::total_cmp);
        let middle = |mut values: Vec<u128>| {
            values.sort_unstable();
            values[values.len() / 2]
        };
        Self {
            rate: rates[rates.len() / 2],
            p50: middle(rounds.iter().map(|round| round.p50).collect()),
            p99: middle(rounds.iter().map(|round| round.p99).collect()),
        }
    }
}

fn run<J: Journal + 'static>(load: Load, open: impl FnOnce(&Path) -> J) -> Figures {
    let home = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let writer = Writer::spawn(open(home.path())).unwrap();
    let began = Instant::now();
    let mut waits: Vec<u128> = thread::scope(|scope| {
        let producers: Vec<_> = (0..load.producers)
            .map(|_| {
                let handle = writer.handle();
                scope.spawn(move || {
                    let mut waits = Vec::new();
                    while began.elapsed() < ROUND {
                        let facts = vec![fact(); load.batch];
                        let asked = Instant::now();
                        handle.append(facts, Vec::new()).unwrap();
                        waits.push(asked.elapsed().as_micros());
                    }
                    waits
                })
            })
            .collect();
        producers.into_iter().flat_map(|producer| producer.join().unwrap()).collect()
    });
    let took = began.elapsed().as_secs_f64();
    let facts = writer.stop().unwrap().end().0;
    waits.sort_unstable();
    let percentile = |percent: usize| waits[(waits.len() * percent / 100).min(waits.len() - 1)];
    Figures { rate: facts as f64 / took, p50: percentile(50), p99: percentile(99) }
}

fn fact() -> NewFact {
    NewFact { at: Timestamp(1_795_446_000_000_000), kind: "instance-observed".into(), body: vec![b'x'; BODY_BYTES] }
}

/// The same rows in SQLite, and nothing else.
struct Bare {
    connection: Connection,
    end: u64,
}

impl Bare {
    fn open(home: &Path) -> Self {
        let connection = Connection::open(home.join("bare.db")).unwrap();
        connection
            .execute_batch(
                "PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL;
                 CREATE TABLE facts (position INTEGER PRIMARY KEY, at INTEGER NOT NULL, kind TEXT NOT NULL,
                                     body BLOB NOT NULL, chain BLOB NOT NULL) STRICT;",
            )
            .unwrap();
        Self { connection, end: 0 }
    }
}

impl Journal for Bare {
    fn append(&mut self, _: Position, facts: &[NewFact], _: &[SealedChange]) -> Result<Position, AppendError> {
        let transaction = self.connection.transaction().unwrap();
        {
            let sql = "INSERT INTO facts (position, at, kind, body, chain) VALUES (?1, ?2, ?3, ?4, ?5)";
            let mut statement = transaction.prepare_cached(sql).unwrap();
            for fact in facts {
                self.end += 1;
                statement.execute(params![self.end as i64, fact.at.0, fact.kind, fact.body, [7_u8; 32]]).unwrap();
            }
        }
        transaction.commit().unwrap();
        Ok(Position(self.end))
    }

    fn end(&self) -> Position {
        Position(self.end)
    }

    fn read(&self, _: Position, _: usize) -> Result<Vec<Record>, ReadError> {
        Ok(Vec::new())
    }

    fn read_back(&self, _: Position, _: usize) -> Result<Vec<Record>, ReadError> {
        Ok(Vec::new())
    }

    fn secret(&self, _: &SecretId) -> Result<Option<SecretValue>, ReadError> {
        Ok(None)
    }

    fn save_snapshot(&mut self, _: Position, _: u32, _: &[u8]) -> Result<(), AppendError> {
        Ok(())
    }

    fn latest_snapshot(&self) -> Result<Snapshots, ReadError> {
        Ok(Snapshots::default())
    }

    fn meta_get(&self, _: &str) -> Result<Option<Vec<u8>>, ReadError> {
        Ok(None)
    }

    fn meta_set(&mut self, _: &str, _: &[u8]) -> Result<(), AppendError> {
        Ok(())
    }
}
