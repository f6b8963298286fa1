//! `kill -9` at random moments of appending, saving snapshots and archiving: what was acknowledged is there.
#![allow(clippy::unwrap_used, clippy::panic, clippy::print_stdout, clippy::print_stderr, reason = "helpers of tests")]

mod suite;

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use ostler_journal::{Journal, OpenOptions, SealedChange, Sqlite, oldest_first};
use ostler_model::ids::Position;
use ostler_model::time::Timestamp;

const HOME: &str = "OSTLER_TEST_KILL_HOME";
const ROUNDS: u64 = 40;

/// The child: appends for ever and says so. Without the variable that the other test sets, there is nothing to do.
#[test]
#[ignore = "run by the other test, as the process that is killed"]
fn child_that_appends() {
    let Some(home) = std::env::var_os(HOME) else { return };
    let mut journal = Sqlite::open(Path::new(&home), &OpenOptions::default()).unwrap().journal;
    loop {
        let end = journal.end().0;
        let secret = SealedChange::set(suite::secret_id("the/end"), (end + 3).to_string().into_bytes());
        let end = journal.append(Position(end), &suite::facts(end + 1, end + 3), &[secret]).unwrap();
        println!("acknowledged {end}");
        if end.0.is_multiple_of(9) {
            journal.save_snapshot(end, 1, &[b's'; 20_000]).unwrap();
        }
        if end.0.is_multiple_of(30) {
            journal.archive(Timestamp(i64::MAX)).unwrap();
        }
    }
}

#[test]
fn what_was_acknowledged_survives_kill_9() {
    let folder = tempfile::tempdir().unwrap();
    let home = folder.path().join("home");
    let (mut random, mut acknowledged, mut ahead) = (0x9e37_79b9_7f4a_7c15_u64, 0, 0);
    for round in 0..ROUNDS {
        // xorshift64: the same moments in every run, as far as the machine allows.
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        acknowledged = acknowledged.max(run_and_kill(&home, random % 40, Duration::from_micros(random >> 20 & 2047)));
        let journal = Sqlite::open(&home, &OpenOptions::default()).unwrap_or_else(|error| panic!("{round}: {error}"));
        assert_eq!(journal.given_up, None);
        let journal = journal.journal;
        let end = journal.end().0;
        assert!(end >= acknowledged, "round {round}: {acknowledged} was acknowledged, {end} is there");
        assert!(oldest_first(&journal, Position(0)).map(Result::unwrap).eq((1..=end).map(suite::record)));
        let verified = journal.verify().unwrap();
        assert!(verified.secrets_damaged.is_empty() && verified.snapshots_damaged.is_empty());
        if end > 0 {
            let secret = journal.secret(&suite::secret_id("the/end")).unwrap().unwrap();
            assert_eq!(secret.bytes(), end.to_string().as_bytes(), "secrets change together with their facts");
        }
        ahead += end - acknowledged;
        acknowledged = end;
    }
    assert!(acknowledged > ROUNDS, "the child got somewhere");
    println!("{acknowledged} facts in {ROUNDS} rounds; {ahead} were stored but not yet acknowledged");
}

/// Starts the child, lets it acknowledge `most` appends and go on for `more`, kills it, and returns the newest
/// position it acknowledged.
fn run_and_kill(home: &Path, most: u64, more: Duration) -> u64 {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "child_that_appends", "--ignored", "--nocapture"])
        .env(HOME, home)
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let position = |line: String| line.rsplit_once("acknowledged ").and_then(|(_, position)| position.parse().ok());
    let mut newest: u64 = 0;
    for found in lines.by_ref().map(Result::unwrap).filter_map(position).take(usize::try_from(most).unwrap()) {
        newest = found;
    }
    // The moment of the kill is chosen, not waited for: a busy wait hits finer moments than a sleep.
    let began = Instant::now();
    while began.elapsed() < more {
        std::hint::spin_loop();
    }
    child.kill().unwrap();
    child.wait().unwrap();
    // A line that was cut short by the kill has no line break; what it says was not heard.
    let mut rest = lines.map_while(Result::ok).collect::<Vec<_>>();
    rest.pop();
    rest.into_iter().filter_map(position).fold(newest, u64::max)
}
