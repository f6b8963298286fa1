//! What the tree costs whoever appends: facts stored per second with the tree kept and without it, in the same run, each
//! durable before it is acknowledged. Rounds alternate and medians are compared. The bar is 95 %.
//! Run: `cargo bench -p ostler-journal --bench tree`.
#![allow(clippy::print_stdout, clippy::unwrap_used, reason = "a benchmark")]

use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use ostler_journal::{Journal, Kept, NewFact, OpenOptions, Sqlite, Writer};
use ostler_model::time::Timestamp;

const ROUNDS: usize = 15;
const ROUND: Duration = Duration::from_millis(700);
const BODY_BYTES: usize = 340;

const LOADS: [(&str, usize, usize); 3] =
    [("1 producer", 1, 1), ("64 producers", 64, 1), ("1 producer, batches of 100", 1, 100)];

fn main() {
    // `cargo bench` passes `--bench`; `cargo test --benches` must only see that it starts.
    let measured = std::env::args().any(|argument| argument == "--bench");
    let rounds = if measured { ROUNDS } else { 1 };
    println!("{:<28} {:>14} {:>14} {:>7}", "", "with the tree", "without", "ratio");
    println!("{:<28} {:>14} {:>14} {:>7}", "", "facts/s", "facts/s", "");
    for (name, producers, batch) in LOADS {
        let (mut with, mut without) = (Vec::new(), Vec::new());
        for _ in 0..rounds {
            with.push(run(producers, batch, true));
            without.push(run(producers, batch, false));
        }
        let (with, without) = (median(with), median(without));
        println!("{name:<28} {with:>14.0} {without:>14.0} {:>6.1}%", 100.0 * with / without);
    }
}

fn median(mut rates: Vec<f64>) -> f64 {
    rates.sort_by(f64::total_cmp);
    rates[rates.len() / 2]
}

fn open(home: &Path, with_tree: bool) -> Sqlite {
    let mut journal = Sqlite::open(home, &OpenOptions::default()).unwrap().journal;
    if with_tree {
        journal.keep_tree(Kept::build(home, &[], &mut |_, _| {}).unwrap().tree).unwrap();
    }
    journal
}

fn run(producers: usize, batch: usize, with_tree: bool) -> f64 {
    let home = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let writer = Writer::spawn(open(home.path(), with_tree)).unwrap();
    let began = Instant::now();
    thread::scope(|scope| {
        for _ in 0..producers {
            let handle = writer.handle();
            scope.spawn(move || {
                while began.elapsed() < ROUND {
                    handle.append(vec![fact(); batch], Vec::new()).unwrap();
                }
            });
        }
    });
    let took = began.elapsed().as_secs_f64();
    let journal = writer.stop().unwrap();
    assert_eq!(journal.head().map(|head| head.size), with_tree.then_some(journal.end().0));
    journal.end().0 as f64 / took
}

fn fact() -> NewFact {
    NewFact { at: Timestamp(1_795_446_000_000_000), kind: "instance-observed".into(), body: vec![b'x'; BODY_BYTES] }
}
