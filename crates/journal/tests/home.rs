//! A home is backed up while it is in use, and restored bit by bit or not at all.
#![allow(clippy::unwrap_used, clippy::panic, clippy::print_stdout, clippy::print_stderr, reason = "helpers of tests")]

mod suite;

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use ostler_journal::home::{HomeError, KeyInBackup, backup, restore};
use ostler_journal::{Journal, KEY_FILE, OpenError, OpenOptions, SealedChange, Sqlite, oldest_first};
use ostler_model::ids::Position;
use ostler_model::time::Timestamp;

const NOW: Timestamp = Timestamp(1_795_446_000_000_000);

fn open(home: &Path) -> Sqlite {
    Sqlite::open(home, &OpenOptions::default()).unwrap().journal
}

/// A journal with 30 facts, of which some are archived, and a secret.
fn filled(home: &Path) -> Sqlite {
    let mut journal = open(home);
    let secret = SealedChange::set(suite::secret_id("instance/db-1"), b"s3cret".to_vec());
    journal.append(Position(0), &suite::facts(1, 30), &[secret]).unwrap();
    journal.save_snapshot(Position(10), 1, b"older").unwrap();
    journal.save_snapshot(Position(20), 1, b"newer").unwrap();
    journal.meta_set("estate", b"uuid").unwrap();
    assert_eq!(journal.archive(Timestamp(i64::MAX)).unwrap().facts, 10);
    journal
}

fn check(journal: &Sqlite) {
    assert!(oldest_first(journal, Position(0)).map(Result::unwrap).eq((1..=30).map(suite::record)));
    assert_eq!(journal.secret(&suite::secret_id("instance/db-1")).unwrap().unwrap().bytes(), b"s3cret");
    assert_eq!(journal.meta_get("estate").unwrap().unwrap(), b"uuid");
    assert_eq!(journal.latest_snapshot().unwrap().latest.unwrap().at, Position(20));
    assert_eq!(journal.verify().unwrap().archived, 10);
}

fn files(folder: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() { files.extend(self::files(&path)) } else { files.push(path) }
    }
    files.sort();
    files
}

#[test]
fn a_home_comes_back() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    let mut journal = filled(&path("home"));
    let made = backup(&path("home"), &path("backup"), NOW, KeyInBackup::Included).unwrap();
    assert_eq!((made.end, made.at, made.files, made.key), (Position(30), NOW, 4, KeyInBackup::Included));
    // Life goes on, and is not in the backup.
    journal.append(Position(30), &suite::facts(31, 31), &[]).unwrap();
    check(&{
        drop(journal);
        restore(&path("backup"), &path("again")).unwrap();
        open(&path("again"))
    });
    let restored = restore(&path("backup"), &path("twice")).unwrap();
    assert_eq!(restored, made);
    let mut journal = open(&path("twice"));
    assert_eq!(journal.append(Position(30), &suite::facts(31, 31), &[]).unwrap(), Position(31));
    for file in files(&path("backup")).into_iter().chain(files(&path("twice"))) {
        assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600, "{}", file.display());
    }
    assert!(!path("backup.unfinished").exists() && !path("twice.unfinished").exists());
}

#[test]
fn the_key_may_stay_out() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    drop(filled(&path("home")));
    let made = backup(&path("home"), &path("backup"), NOW, KeyInBackup::LeftOut).unwrap();
    assert_eq!(made.key, KeyInBackup::LeftOut);
    assert!(!path("backup").join(KEY_FILE).exists());
    restore(&path("backup"), &path("again")).unwrap();
    let error = Sqlite::open(&path("again"), &OpenOptions::default()).err().unwrap();
    assert!(matches!(error, OpenError::Key { .. }), "{error}");
    fs::copy(path("home").join(KEY_FILE), path("again").join(KEY_FILE)).unwrap();
    check(&open(&path("again")));
    fs::remove_file(path("home").join(KEY_FILE)).unwrap();
    let error = backup(&path("home"), &path("second"), NOW, KeyInBackup::Included).unwrap_err();
    assert!(matches!(error, HomeError::Key(_)) && error.remedy().contains("OSTLER_KEY"), "{error}");
    assert!(!path("second").exists() && !path("second.unfinished").exists());
}

#[test]
fn an_altered_backup_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    drop(filled(&path("home")));
    backup(&path("home"), &path("backup"), NOW, KeyInBackup::Included).unwrap();
    let refused = |case: &str| {
        let error = restore(&path("backup"), &path("again")).unwrap_err();
        assert!(matches!(error, HomeError::Altered { .. } | HomeError::TooNew { .. }), "{case}: {error}");
        assert!(!path("again").exists() && !path("again.unfinished").exists(), "{case}");
    };
    let all = files(&path("backup"));
    assert_eq!(all.len(), 5);
    for file in all {
        let whole = fs::read(&file).unwrap();
        let manifest = file.ends_with("manifest.json");
        for at in (0..whole.len()).step_by(whole.len() / 40 + 1) {
            let mut flipped = whole.clone();
            flipped[at] ^= 1 << (at % 8);
            // The manifest's layout and the time in it say nothing about the content.
            let time = manifest && String::from_utf8_lossy(&whole[..at]).lines().last().unwrap_or("").contains("made");
            if time || whole[at].is_ascii_whitespace() && manifest {
                continue;
            }
            fs::write(&file, &flipped).unwrap();
            refused(&format!("{} byte {at}", file.display()));
        }
        fs::remove_file(&file).unwrap();
        refused(&format!("without {}", file.display()));
        fs::write(&file, &whole).unwrap();
    }
    let manifest = path("backup").join("manifest.json");
    let text = fs::read_to_string(&manifest).unwrap();
    for name in ["../key", "/etc/key", "a/b/key"] {
        fs::write(&manifest, text.replace("\"key\"", &format!("\"{name}\""))).unwrap();
        refused(name);
    }
    fs::write(&manifest, text.replace("\"format\": 1", "\"format\": 2")).unwrap();
    refused("a newer format");
    fs::write(&manifest, text).unwrap();
    restore(&path("backup"), &path("again")).unwrap();
    check(&open(&path("again")));
}

#[test]
fn nothing_is_overwritten_and_no_damage_backed_up() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    let error = backup(&path("nothing"), &path("backup"), NOW, KeyInBackup::LeftOut).unwrap_err();
    assert!(matches!(error, HomeError::NoJournal { .. }), "{error}");
    drop(filled(&path("home")));
    backup(&path("home"), &path("backup"), NOW, KeyInBackup::LeftOut).unwrap();
    let occupied = |result: Result<_, HomeError>| assert!(matches!(result, Err(HomeError::Occupied { .. })));
    occupied(backup(&path("home"), &path("backup"), NOW, KeyInBackup::LeftOut));
    occupied(restore(&path("backup"), &path("home")));
    fs::write(path("file"), "").unwrap();
    occupied(restore(&path("backup"), &path("file")));
    fs::create_dir(path("left.unfinished")).unwrap();
    let error = restore(&path("backup"), &path("left")).unwrap_err();
    assert!(matches!(error, HomeError::Unfinished { .. }), "{error}");
    assert!(path("left.unfinished").exists(), "another run may be at it");
    fs::create_dir(path("empty")).unwrap();
    restore(&path("backup"), &path("empty")).unwrap();

    let database = path("home").join(ostler_journal::JOURNAL_FILE);
    let mut bytes = fs::read(&database).unwrap();
    let body = suite::record(25).body;
    let at = bytes.windows(body.len()).position(|window| window == body).unwrap();
    bytes[at + 1] ^= 1;
    fs::write(&database, bytes).unwrap();
    let error = backup(&path("home"), &path("second"), NOW, KeyInBackup::LeftOut).unwrap_err();
    let HomeError::Journal { cause, .. } = &error else { panic!("{error}") };
    assert!(cause.to_string().contains("from 25 on"), "{cause}");
    assert!(!path("second").exists());
}
