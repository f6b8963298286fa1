//! What a proof is: its size and how long it takes to check, of one fact among many; beside it what one SHA-256 and one
//! check of an Ed25519 signature take in the same run. The bars are 2 KiB and 1 ms at ten million facts.
//! Run: `cargo bench -p ostler-runtime --bench proof`.
#![allow(clippy::print_stdout, clippy::unwrap_used, reason = "a benchmark")]

use std::convert::Infallible;
use std::hint::black_box;
use std::time::{Duration, Instant};

use ostler_journal::Record;
use ostler_journal::tree::{self, Edge, Nodes, TILE, TreeHash};
use ostler_model::ids::{EstateUuid, Position};
use ostler_model::time::Timestamp;
use ostler_runtime::audit::note::{self, Checkpoint, Origin, PublicKey};
use ostler_runtime::audit::proof;

const SEED: [u8; 32] = [9; 32];
const SIZES: [u64; 4] = [1_000, 100_000, 1_000_000, 10_000_000];
const TIMES: usize = 501;

/// A fact of the usual size: 300 bytes.
fn record(n: u64) -> Record {
    let body = format!("{{\"v\":1,\"at\":1795446000000000,\"fact\":\"instance-died\",\"n\":{n:<247}}}").into_bytes();
    Record { position: Position(n), at: Timestamp(1_795_446_000_000_000), kind: "instance-died".into(), body }
}

/// One hash for each 256 facts, as they are kept; the facts are made anew where they are needed.
struct Tiles(Vec<TreeHash>);

impl Nodes for Tiles {
    type Error = Infallible;

    fn full(&mut self, first: u64, count: u64) -> Result<TreeHash, Infallible> {
        Ok(match count {
            TILE => self.0[usize::try_from(first / TILE).unwrap()],
            1 => tree::leaf_hash(&tree::entry(&record(first + 1))),
            _ => tree::node_hash(self.full(first, count / 2)?, self.full(first + count / 2, count / 2)?),
        })
    }
}

fn main() {
    let measured = std::env::args().any(|argument| argument == "--bench");
    let sizes = if measured { &SIZES[..] } else { &SIZES[..1] };
    let key = PublicKey::of_seed(&SEED).unwrap();
    println!(
        "{:>12} {:>12} {:>14} {:>14} {:>14} {:>14}",
        "facts", "proof", "of that fact", "made, p50", "checked, p50", "checked, p99"
    );
    println!("{:>12} {:>12} {:>14} {:>14} {:>14} {:>14}", "", "bytes", "bytes", "µs", "µs", "µs");
    for size in sizes {
        let (mut edge, mut tiles) = (Edge::default(), Vec::new());
        for n in 1..=*size {
            tiles.extend(edge.push(tree::leaf_hash(&tree::entry(&record(n)))));
        }
        let mut tiles = Tiles(tiles);
        let origin = Origin { estate: "bookshop".parse().unwrap(), id: EstateUuid::from_random([7; 16]), since: None };
        let text = note::sign(&Checkpoint { origin, head: edge.head() }, &SEED).unwrap();
        let (mut made, mut checked, mut bytes) = (Vec::new(), Vec::new(), 0);
        for n in 0..TIMES as u64 {
            let index = n * 7_919_999 % size;
            let began = Instant::now();
            let path = tree::inclusion(&mut tiles, index, *size).unwrap();
            let proof = proof::in_text(&tree::entry(&record(index + 1)), index, &path, &text);
            made.push(began.elapsed());
            bytes = bytes.max(proof.len());
            let began = Instant::now();
            let proven = black_box(proof::read(black_box(&proof), &key)).unwrap();
            checked.push(began.elapsed());
            assert_eq!(proven[0].record, record(index + 1));
        }
        let fact = tree::entry(&record(1)).len();
        println!(
            "{size:>12} {bytes:>12} {fact:>14} {:>14.1} {:>14.1} {:>14.1}",
            micros(&mut made, 50),
            micros(&mut checked, 50),
            micros(&mut checked, 99)
        );
    }
    beside(&key);
}

fn micros(times: &mut [Duration], percent: usize) -> f64 {
    times.sort_unstable();
    times[(times.len() * percent / 100).min(times.len() - 1)].as_secs_f64() * 1e6
}

/// What everything is made of.
fn beside(key: &PublicKey) {
    let origin = Origin { estate: "bookshop".parse().unwrap(), id: EstateUuid::from_random([7; 16]), since: None };
    let head = Edge::default().head();
    let text = note::sign(&Checkpoint { origin, head }, &SEED).unwrap();
    let timed = |what: &dyn Fn()| {
        let times = (0..TIMES).map(|_| {
            let began = Instant::now();
            what();
            began.elapsed()
        });
        micros(&mut times.collect::<Vec<_>>(), 50)
    };
    let entry = tree::entry(&record(1));
    let hash = timed(&|| drop(black_box(tree::leaf_hash(black_box(&entry)).0.to_vec())));
    let signature = timed(&|| drop(black_box(note::read(black_box(&text), key))));
    println!("\nbeside it: the hash of one fact {hash:.1} µs, one signed checkpoint {signature:.1} µs");
}
