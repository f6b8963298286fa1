//! A full disk stops appends, leaves nothing half done, and is over when there is space again.
#![allow(clippy::unwrap_used, clippy::panic, clippy::print_stdout, clippy::print_stderr, reason = "helpers of tests")]

mod suite;

use std::fs;
use std::path::Path;
use std::process::{Command, Output};

use ostler_journal::{AppendError, Journal, NewFact, OpenOptions, SealedChange, Sqlite, oldest_first};
use ostler_model::ids::Position;

const HOME: &str = "OSTLER_TEST_FULL_DISK_HOME";

fn open(home: &Path) -> Sqlite {
    Sqlite::open(home, &OpenOptions::default()).unwrap().journal
}

/// Appends until an append fails; returns the end and the error.
fn fill(journal: &mut Sqlite) -> (Position, AppendError) {
    loop {
        let end = journal.end();
        let secret = SealedChange::set(suite::secret_id("the/end"), end.0.to_string().into_bytes());
        if let Err(error) = journal.append(end, &suite::facts(end.0 + 1, end.0 + 20), &[secret]) {
            assert_eq!(journal.end(), end, "a failed append leaves the end where it was");
            return (end, error);
        }
    }
}

/// The journal holds exactly the facts up to `end`, and the secret of the last append that worked.
fn check(journal: &Sqlite, end: Position) {
    assert_eq!(journal.end(), end);
    assert!(oldest_first(journal, Position(0)).map(Result::unwrap).eq((1..=end.0).map(suite::record)));
    let secret = journal.secret(&suite::secret_id("the/end")).unwrap().unwrap();
    assert_eq!(secret.bytes(), (end.0 - 20).to_string().as_bytes());
    journal.verify().unwrap();
}

/// Runs one of the ignored tests below in a process of its own, started by the shell as `script` says.
fn run(script: &str, test: &str, home: &Path) -> Output {
    Command::new("sh")
        .args(["-c", script])
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", test, "--ignored", "--nocapture"])
        .env(HOME, home)
        .output()
        .unwrap()
}

#[test]
#[ignore = "run by another test under a limit on the size of files"]
fn child_whose_files_may_not_grow() {
    let Some(home) = std::env::var_os(HOME) else { return };
    let mut journal = open(Path::new(&home));
    let (end, error) = fill(&mut journal);
    assert!(matches!(error, AppendError::Io { .. } | AppendError::DiskFull { .. }), "{error:?}");
    assert!(error.remedy().contains("Services run on"), "{}", error.remedy());
    check(&journal, end);
    let (again, _) = fill(&mut journal);
    check(&journal, again);
    println!("stored {again}");
}

#[test]
fn files_that_may_not_grow() {
    let folder = tempfile::tempdir().unwrap();
    let home = folder.path().join("home");
    // Without the signal, a write beyond the limit fails as one on a full disk does.
    let output = run("trap '' XFSZ; ulimit -f 1024; exec \"$0\" \"$@\"", "child_whose_files_may_not_grow", &home);
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{text}{}", String::from_utf8_lossy(&output.stderr));
    let stored = text.lines().find_map(|line| line.rsplit_once("stored ")).unwrap().1.trim().parse().unwrap();
    assert!(stored > 100);
    let mut journal = open(&home);
    check(&journal, Position(stored));
    let more = suite::facts(stored + 1, stored + 1);
    assert_eq!(journal.append(Position(stored), &more, &[]).unwrap(), Position(stored + 1));
}

#[test]
#[ignore = "run by another test on a small file system of its own"]
fn child_on_a_small_disk() {
    let Some(home) = std::env::var_os(HOME) else { return };
    let home = Path::new(&home);
    let ballast = home.with_file_name("ballast");
    fs::write(&ballast, vec![0; 1 << 20]).unwrap();
    let mut journal = open(home);
    let (end, error) = fill(&mut journal);
    assert!(matches!(error, AppendError::DiskFull { .. }), "{error:?}");
    assert!(error.to_string().contains("its disk is full") && error.remedy().contains("Free some space"));
    check(&journal, end);
    // One large fact fails as well, halfway through its pages.
    let large = NewFact { body: vec![b'x'; 2 << 20], ..suite::fact(end.0 + 1) };
    assert!(journal.append(end, &[large], &[]).is_err());
    check(&journal, end);
    assert!(journal.save_snapshot(end, 1, &vec![0; 2 << 20]).is_err());
    fs::remove_file(ballast).unwrap();
    let secret = SealedChange::set(suite::secret_id("the/end"), end.0.to_string().into_bytes());
    let end = journal.append(end, &suite::facts(end.0 + 1, end.0 + 20), &[secret]).unwrap();
    check(&journal, end);
    drop(journal);
    check(&open(home), end);
    println!("stored {end}");
}

#[test]
fn a_small_disk() {
    let folder = tempfile::tempdir().unwrap();
    let script = format!(
        "mount -t tmpfs -o size=4m none {0} || {{ echo not permitted; exit 0; }}; exec \"$0\" \"$@\"",
        folder.path().display()
    );
    let namespace = format!("unshare --user --map-root-user --mount sh -c '{script}' \"$0\" \"$@\" || echo refused");
    let output = run(&namespace, "child_on_a_small_disk", &folder.path().join("home"));
    let text = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    if text.contains("unshare failed") || text.contains("unshare: not found") || text.contains("not permitted") {
        // Where a user may not mount, the limit on the size of files above stands for the full disk.
        eprintln!("skipped: this system allows no file system of one's own\n{text}");
        return;
    }
    assert!(text.contains("stored "), "{text}");
}
