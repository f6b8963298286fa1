//! Runs storms until it is stopped, or as many as the second argument says, from the seed that the first one gives.
//! What breaks a promise is shrunk to a short story and printed, to be kept in `tests/stories`; the example `tell` tells
//! such a story fact by fact. The commit is what `OSTLER_STORM_SEED` says, as `make soak` does.

#![allow(clippy::print_stdout, reason = "it is a program")]

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Instant;

use ostler_sim::Story;

fn main() {
    let numbers: Vec<u64> = std::env::args().skip(1).filter_map(|text| text.parse().ok()).collect();
    let first = numbers.first().copied().unwrap_or(0);
    let count = numbers.get(1).copied().unwrap_or(u64::MAX);
    let (next, failed) = (AtomicU64::new(first), AtomicBool::new(false));
    let began = Instant::now();
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed - first >= count {
                        return;
                    }
                    if !try_seed(seed) {
                        failed.store(true, Ordering::Relaxed);
                    }
                    if (seed - first + 1) % 1000 == 0 {
                        println!("{} storms in {} s", seed - first + 1, began.elapsed().as_secs());
                    }
                }
            });
        }
    });
    std::process::exit(i32::from(failed.load(Ordering::Relaxed)));
}

fn try_seed(seed: u64) -> bool {
    let story = Story::draw(seed);
    let Some(violation) = story.run(None).violations.into_iter().next() else { return true };
    let commit = std::env::var("OSTLER_STORM_SEED").unwrap_or_else(|_| "unknown".to_owned());
    println!("seed {seed}, commit {commit}: {violation}");
    let short = story.shrunk(violation.promise, None);
    let again = short.run(None).violations.into_iter().next();
    let what = again.map_or_else(String::new, |violation| violation.to_string());
    let text = serde_json::to_string(&short).unwrap_or_default();
    println!("seed {seed}, shrunk to {} acts: {what}\n{text}\n", short.acts.len());
    false
}
