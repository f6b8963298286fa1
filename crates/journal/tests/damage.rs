//! Whatever happens to the files, a journal gives back every acknowledged fact or says which one is missing or damaged.
#![allow(clippy::unwrap_used, clippy::panic, clippy::print_stdout, clippy::print_stderr, reason = "helpers of tests")]

mod suite;

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use ostler_journal::{
    Damage, GivenUp, JOURNAL_FILE, Journal, KEY_FILE, OpenError, OpenOptions, ReadError, SealedChange, Sqlite,
    WITNESS_FILE, oldest_first,
};
use ostler_model::ids::Position;

const LOG_FILE: &str = "journal.db-wal";
const KEY: &str = "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f";

/// All files of a home as they are at one moment: what a crash at that moment leaves behind.
#[derive(Clone)]
struct Image(BTreeMap<&'static str, Vec<u8>>);

impl Image {
    fn of(home: &Path) -> Self {
        let files = [JOURNAL_FILE, LOG_FILE, WITNESS_FILE];
        Self(files.into_iter().filter_map(|name| Some((name, fs::read(home.join(name)).ok()?))).collect())
    }

    fn put(&self, home: &Path) {
        for entry in fs::read_dir(home).unwrap() {
            fs::remove_file(entry.unwrap().path()).unwrap();
        }
        for (name, bytes) in &self.0 {
            fs::write(home.join(name), bytes).unwrap();
        }
    }

    /// The same with one file changed.
    fn with(&self, name: &'static str, change: impl FnOnce(&mut Vec<u8>)) -> Self {
        let mut image = self.clone();
        change(image.0.get_mut(name).unwrap());
        image
    }

    fn without(&self, name: &'static str) -> Self {
        let mut image = self.clone();
        image.0.remove(name).unwrap();
        image
    }
}

fn options() -> OpenOptions {
    OpenOptions { key: Some(KEY.to_owned().into()), ..OpenOptions::default() }
}

fn open(home: &Path) -> Result<Sqlite, OpenError> {
    Sqlite::open(home, &options()).map(|opened| opened.journal)
}

/// A home with `stored` facts in the database and as many more, one by one, only in its log.
fn image(stored: u64, logged: u64) -> Image {
    let home = suite::folder();
    if stored > 0 {
        let mut journal = open(home.path()).unwrap();
        let secret = SealedChange::set(suite::secret_id("instance/db-1"), b"s3cret".to_vec());
        journal.append(Position(0), &suite::facts(1, stored), &[secret]).unwrap();
    }
    let mut journal = open(home.path()).unwrap();
    for n in stored + 1..=stored + logged {
        journal.append(Position(n - 1), &suite::facts(n, n), &[]).unwrap();
    }
    Image::of(home.path())
}

#[derive(Debug, PartialEq, Eq)]
enum Outcome {
    Whole,
    /// The first fact that was named.
    Damaged(u64),
}

/// Opens the image and reads everything. Fewer facts, or other ones, without an error fail the test.
fn outcome(home: &Path, image: &Image, acknowledged: u64, case: &str) -> Outcome {
    image.put(home);
    let named = |damage: Damage| {
        let first_bad = damage.first_bad().0;
        assert!((1..=acknowledged).contains(&first_bad), "{case}: {damage}");
        Outcome::Damaged(first_bad)
    };
    let journal = match open(home) {
        Ok(journal) => journal,
        Err(OpenError::Damaged { damage, .. }) => {
            for (name, bytes) in &image.0 {
                let left = fs::read(home.join(name)).unwrap_or_default();
                assert!(left == *bytes, "{case}: `{name}` was changed although the journal was not opened");
            }
            return named(damage);
        }
        Err(error) => panic!("{case}: {error}: {error:?}"),
    };
    let verified = journal.verify();
    let read: Result<Vec<_>, _> = oldest_first(&journal, Position(0)).collect();
    match (read, verified) {
        (Ok(records), verified) => {
            assert!(records.into_iter().eq((1..=acknowledged).map(suite::record)), "{case}: silently other facts");
            match verified {
                Ok(_) => Outcome::Whole,
                Err(ReadError::Damaged(damage)) => named(damage),
                Err(error) => panic!("{case}: {error}"),
            }
        }
        (Err(ReadError::Damaged(damage)), Err(ReadError::Damaged(_))) => named(damage),
        (read, verified) => panic!("{case}: {read:?}, {verified:?}"),
    }
}

fn flip(at: usize) -> impl FnOnce(&mut Vec<u8>) {
    // Spread over all eight bits without a random source: neighbouring bytes lose different bits.
    move |bytes| bytes[at] ^= 1 << (at.wrapping_mul(2_654_435_761) >> 7 & 7)
}

#[test]
fn the_log_cut_at_every_byte() {
    let whole = image(3, 5);
    let home = suite::folder();
    let bytes = whole.0[LOG_FILE].len();
    assert_eq!(outcome(home.path(), &whole, 8, "whole"), Outcome::Whole);
    let mut last = 0;
    for length in 0..bytes {
        let cut = whole.with(LOG_FILE, |log| log.truncate(length));
        let Outcome::Damaged(first_bad) = outcome(home.path(), &cut, 8, &format!("cut at {length}")) else {
            panic!("cut at {length}: not noticed");
        };
        assert!(first_bad >= last, "the longer the log, the more facts are left");
        last = first_bad;
    }
    assert_eq!(last, 8);
}

#[test]
fn a_flipped_bit_in_every_byte_of_the_log() {
    let whole = image(3, 3);
    let home = suite::folder();
    let mut damaged = 0;
    for at in 0..whole.0[LOG_FILE].len() {
        let flipped = whole.with(LOG_FILE, flip(at));
        match outcome(home.path(), &flipped, 6, &format!("log byte {at}")) {
            Outcome::Damaged(first_bad) => {
                assert!(first_bad >= 4, "log byte {at}: facts 1 to 3 are not in the log");
                damaged += 1;
            }
            Outcome::Whole => {}
        }
    }
    assert!(damaged > 3 * 4096, "every frame is covered by a checksum");
}

#[test]
fn the_database_cut() {
    let whole = image(60, 0);
    let home = suite::folder();
    let bytes = whole.0[JOURNAL_FILE].len();
    // Some 600 lengths spread evenly, and those around each page's end.
    let pages = (0..=bytes / 4096).flat_map(|page| [page * 4096, (page * 4096).saturating_sub(1), page * 4096 + 1]);
    let lengths: Vec<usize> = (0..bytes).step_by(bytes / 600).chain(pages).filter(|length| *length < bytes).collect();
    assert!(lengths.len() > 600);
    for length in lengths {
        let cut = whole.with(JOURNAL_FILE, |database| database.truncate(length));
        let found = outcome(home.path(), &cut, 60, &format!("cut at {length}"));
        assert!(matches!(found, Outcome::Damaged(_)), "cut at {length}: not noticed");
    }
}

#[test]
fn a_flipped_bit_in_every_byte_of_the_facts_pages() {
    let whole = image(40, 0);
    let home = suite::folder();
    whole.put(home.path());
    let connection = rusqlite::Connection::open(home.path().join(JOURNAL_FILE)).unwrap();
    let mut pages = connection.prepare("SELECT pageno FROM dbstat WHERE name = 'facts' ORDER BY 1").unwrap();
    let pages: Vec<u32> = pages.query_map([], |row| row.get(0)).unwrap().map(Result::unwrap).collect();
    assert!(pages.len() >= 3, "an inner page and at least two leaves: {pages:?}");
    let (mut damaged, mut inside) = (0, 0);
    for page in pages {
        let page = usize::try_from(page).unwrap();
        for at in (page - 1) * 4096..page * 4096 {
            let flipped = whole.with(JOURNAL_FILE, flip(at));
            match outcome(home.path(), &flipped, 40, &format!("database byte {at}")) {
                Outcome::Damaged(first_bad) => {
                    damaged += 1;
                    inside += usize::from(first_bad > 1);
                }
                Outcome::Whole => {} // unused space in the page
            }
        }
    }
    let stored: usize = (1..=40).map(|n| suite::record(n).body.len() + 32).sum();
    assert!(damaged > stored, "every byte of bodies and chain values counts: {damaged} of {stored}");
    assert!(inside > stored / 2, "damage is located, not only noticed");
}

#[test]
fn flipped_bits_elsewhere_in_the_database() {
    let whole = image(4, 0);
    let home = suite::folder();
    for at in (0..whole.0[JOURNAL_FILE].len()).filter(|at| *at < 600 || at % 11 == 0) {
        whole.with(JOURNAL_FILE, flip(at)).put(home.path());
        // A newer format, another program's file or a damaged key check may be what it now looks like; each is an
        // error. What must not be is a journal that opens and holds other facts.
        let Ok(journal) = open(home.path()) else { continue };
        if let Ok(records) = oldest_first(&journal, Position(0)).collect::<Result<Vec<_>, _>>() {
            assert!(records.into_iter().eq((1..=4).map(suite::record)), "database byte {at}");
        }
        if let Ok(Some(value)) = journal.secret(&suite::secret_id("instance/db-1")) {
            assert_eq!(value.bytes(), b"s3cret", "database byte {at}");
        }
    }
}

#[test]
fn a_torn_witness_is_no_loss_and_a_lost_one_is_told() {
    let whole = image(3, 2);
    let home = suite::folder();
    for at in (0..whole.0[WITNESS_FILE].len()).filter(|at| at % 4096 < 96 || at % 64 == 0) {
        let flipped = whole.with(WITNESS_FILE, flip(at));
        assert_eq!(outcome(home.path(), &flipped, 5, &format!("witness byte {at}")), Outcome::Whole);
    }
    for length in 0..whole.0[WITNESS_FILE].len() {
        if length % 4096 < 96 || length % 64 == 0 {
            whole.with(WITNESS_FILE, |witness| witness.truncate(length)).put(home.path());
            match open(home.path()) {
                Ok(journal) => assert_eq!(journal.end(), Position(5), "cut at {length}"),
                Err(OpenError::NoWitness { unreadable: true, end, .. }) => {
                    assert!(length < 80 && end == Position(5), "cut at {length}");
                }
                Err(error) => panic!("cut at {length}: {error}"),
            }
        }
    }
    whole.without(WITNESS_FILE).put(home.path());
    let error = open(home.path()).err().unwrap();
    assert!(matches!(&error, OpenError::NoWitness { unreadable: false, end: Position(5), .. }), "{error}");
    assert!(error.remedy().contains("--accept-lost-tail"));
}

#[test]
fn a_lost_tail_is_told_and_can_be_accepted() {
    let whole = image(3, 5);
    let home = suite::folder();
    // Only the header of the log is left.
    let cut = whole.with(LOG_FILE, |log| log.truncate(32));
    cut.put(home.path());
    for _ in 0..2 {
        let error = open(home.path()).err().unwrap();
        let OpenError::Damaged { damage, .. } = &error else { panic!("{error}") };
        assert_eq!(*damage, Damage::LostTail { end: Position(3), acknowledged: Position(8) });
        assert!(error.to_string().contains("the newest 5 facts are missing"), "{error}");
    }
    let accepting = OpenOptions { accept_lost_tail: true, ..options() };
    let mut opened = Sqlite::open(home.path(), &accepting).unwrap();
    assert_eq!(opened.given_up, Some(GivenUp { end: Position(3), acknowledged: Some(Position(8)) }));
    opened.journal.append(Position(3), &suite::facts(4, 4), &[]).unwrap();
    drop(opened);
    assert_eq!(open(home.path()).unwrap().end(), Position(4), "the loss is behind us");

    whole.without(WITNESS_FILE).put(home.path());
    let opened = Sqlite::open(home.path(), &accepting).unwrap();
    assert_eq!(opened.given_up, Some(GivenUp { end: Position(8), acknowledged: None }));
    drop(opened);
    let opened = Sqlite::open(home.path(), &accepting).unwrap();
    assert_eq!(opened.given_up, None, "there is nothing to give up any more");
}

#[test]
fn another_past_is_not_accepted() {
    let home = suite::folder();
    let whole = image(5, 0);
    let other = suite::folder();
    let mut journal = open(other.path()).unwrap();
    journal.append(Position(0), &suite::facts(11, 16), &[]).unwrap();
    drop(journal);
    let mut mixed = whole.clone();
    mixed.0.insert(JOURNAL_FILE, Image::of(other.path()).0.remove(JOURNAL_FILE).unwrap());
    mixed.put(home.path());
    let accepting = OpenOptions { accept_lost_tail: true, ..options() };
    for options in [options(), accepting] {
        let error = Sqlite::open(home.path(), &options).err().unwrap();
        let OpenError::Damaged { damage, .. } = &error else { panic!("{error}") };
        assert_eq!(damage.first_bad(), Position(5));
    }
    let mut gone = whole.without(JOURNAL_FILE);
    gone.0.remove(LOG_FILE);
    let empty = {
        let mut empty = gone.clone();
        empty.0.insert(JOURNAL_FILE, Vec::new());
        empty
    };
    let unreadable = gone.with(WITNESS_FILE, |witness| witness.fill(0));
    for image in [gone, empty, unreadable] {
        image.put(home.path());
        for _ in 0..2 {
            let error = open(home.path()).err().unwrap();
            assert!(matches!(&error, OpenError::Damaged { .. }), "{error}");
        }
    }
}

#[test]
fn a_start_that_was_interrupted_starts_over() {
    let home = suite::folder();
    drop(open(home.path()).unwrap());
    let new = Image::of(home.path());
    let half = |journal: &[u8]| {
        let mut half = new.without(JOURNAL_FILE);
        half.0.insert(JOURNAL_FILE, journal.to_vec());
        half
    };
    // After the witness; after the database's file; after nothing but the database's file.
    let mut only_empty = half(b"").without(WITNESS_FILE);
    only_empty.0.remove(LOG_FILE);
    for image in [new.without(JOURNAL_FILE), half(b""), only_empty, new.without(WITNESS_FILE)] {
        image.put(home.path());
        let mut journal = open(home.path()).unwrap();
        assert_eq!(journal.append(Position(0), &suite::facts(1, 1), &[]).unwrap(), Position(1));
    }
}

#[test]
fn damaged_snapshots_are_skipped_and_told() {
    let home = suite::folder();
    let mut journal = open(home.path()).unwrap();
    journal.append(Position(0), &suite::facts(1, 9), &[]).unwrap();
    journal.save_snapshot(Position(4), 1, b"the older one").unwrap();
    journal.save_snapshot(Position(8), 2, b"the newer one").unwrap();
    drop(journal);
    let whole = Image::of(home.path());
    let spoil = |image: &Image, body: &[u8]| {
        let database = &image.0[JOURNAL_FILE];
        let at = database.windows(body.len()).position(|window| window == body).unwrap();
        image.with(JOURNAL_FILE, |database| database[at] ^= 1)
    };
    let one = spoil(&whole, b"the newer one");
    let both = spoil(&one, b"the older one");
    for (image, latest, damaged) in [(&whole, Some(8), vec![]), (&one, Some(4), vec![8]), (&both, None, vec![8, 4])] {
        image.put(home.path());
        let journal = open(home.path()).unwrap();
        let found = journal.latest_snapshot().unwrap();
        assert_eq!(found.latest.map(|snapshot| snapshot.at.0), latest);
        assert_eq!(found.damaged, damaged.into_iter().map(Position).collect::<Vec<_>>());
        assert_eq!(journal.end(), Position(9));
    }
}

#[test]
fn a_newer_format_and_other_programs_files_are_refused() {
    let home = suite::folder();
    let path = home.path().join(JOURNAL_FILE);
    drop(open(home.path()).unwrap());
    let connection = rusqlite::Connection::open(&path).unwrap();
    connection.execute_batch("PRAGMA user_version = 7").unwrap();
    drop(connection);
    let error = open(home.path()).err().unwrap();
    assert!(matches!(&error, OpenError::TooNew { found: 7, known: 1, .. }), "{error}");
    assert!(error.remedy().contains("newer"));

    fs::remove_file(home.path().join(WITNESS_FILE)).unwrap();
    fs::remove_file(&path).unwrap();
    rusqlite::Connection::open(&path).unwrap().execute_batch("CREATE TABLE theirs (x)").unwrap();
    let error = open(home.path()).err().unwrap();
    assert!(matches!(&error, OpenError::NotAJournal { .. }), "{error}");
}

#[test]
fn the_key_must_be_the_right_one() {
    let home = suite::folder();
    let with_file = OpenOptions::default();
    let mut journal = Sqlite::open(home.path(), &with_file).unwrap().journal;
    let id = suite::secret_id("binding/web/db");
    journal.append(Position(0), &suite::facts(1, 1), &[SealedChange::set(id.clone(), b"pw".to_vec())]).unwrap();
    drop(journal);
    let text = fs::read_to_string(home.path().join(KEY_FILE)).unwrap();

    let error = open(home.path()).err().unwrap();
    assert!(matches!(&error, OpenError::WrongKey { .. }), "{error}");
    fs::remove_file(home.path().join(KEY_FILE)).unwrap();
    let error = Sqlite::open(home.path(), &with_file).err().unwrap();
    assert!(matches!(&error, OpenError::Key { .. }) && error.remedy().contains("OSTLER_KEY"), "{error}");
    assert!(!home.path().join(KEY_FILE).exists(), "no new key hides that the old one is gone");

    let from_environment = OpenOptions { key: Some(text.trim().to_owned().into()), ..OpenOptions::default() };
    assert!(!format!("{from_environment:?}").contains(text.trim()));
    let journal = Sqlite::open(home.path(), &from_environment).unwrap().journal;
    assert_eq!(journal.secret(&id).unwrap().unwrap().bytes(), b"pw");
}

#[test]
fn every_file_is_private() {
    use std::os::unix::fs::PermissionsExt;
    let folder = suite::folder();
    let home = folder.path().join("home");
    let mut journal = Sqlite::open(&home, &OpenOptions::default()).unwrap().journal;
    journal.append(Position(0), &suite::facts(1, 9), &[]).unwrap();
    journal.save_snapshot(Position(4), 1, b"").unwrap();
    journal.save_snapshot(Position(8), 1, b"").unwrap();
    journal.archive(ostler_model::time::Timestamp(i64::MAX)).unwrap();
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!((mode(&home), mode(&home.join("archive"))), (0o700, 0o700));
    let files = fs::read_dir(&home).unwrap().chain(fs::read_dir(home.join("archive")).unwrap());
    let files: Vec<_> = files.map(|entry| entry.unwrap().path()).filter(|path| path.is_file()).collect();
    assert!(files.len() >= 6, "{files:?}");
    for file in files {
        assert_eq!(mode(&file), 0o600, "{}", file.display());
    }
}

#[test]
fn another_process_is_noticed() {
    let home = suite::folder();
    let mut ours = open(home.path()).unwrap();
    ours.append(Position(0), &suite::facts(1, 2), &[]).unwrap();
    let mut theirs = open(home.path()).unwrap();
    theirs.append(Position(2), &suite::facts(3, 3), &[]).unwrap();
    let error = ours.append(Position(2), &suite::facts(3, 3), &[]).unwrap_err();
    assert_eq!(error.to_string(), "cannot append after fact 2: the journal ends at 3");
    assert_eq!(ours.end(), Position(3));
    ours.append(Position(3), &suite::facts(4, 4), &[]).unwrap();
    drop((ours, theirs));
    let journal = open(home.path()).unwrap();
    assert!(oldest_first(&journal, Position(0)).map(Result::unwrap).eq((1..=4).map(suite::record)));
}
