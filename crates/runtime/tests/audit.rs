//! Whatever is changed in what was recorded is found and located, up to the last checkpoint that somebody keeps, also if
//! whoever changes it writes the checksums anew.
#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers of tests")]

use std::fs;
use std::path::{Path, PathBuf};

use ostler_journal::tree::{Edge, Head, TreeHash, entry, leaf_hash};
use ostler_journal::{CHECKPOINTS_FOLDER, JOURNAL_FILE, Journal, Kept, OpenOptions, Reader, Sqlite, WITNESS_FILE};
use ostler_manager::remedy::Remedy;
use ostler_manager::{Diagnosis, Fact, FactKind, Settlement};
use ostler_model::estate::slo::Objective;
use ostler_model::health::Exit;
use ostler_model::ids::{EstateUuid, Position};
use ostler_model::time::{Span, Timestamp};
use ostler_runtime::audit::check::{Asked, NotSound, Sound, check};
use ostler_runtime::audit::note::{self, Checkpoint, NoCheckpoint, Origin, PublicKey};
use ostler_runtime::audit::report;
use ostler_runtime::envelope::{Writing, wrap};
use rusqlite::{Connection, params};
use sha2::{Digest, Sha256};

const SEED: [u8; 32] = [9; 32];
const ESTATE: &str =
    "[estate]\nname = \"shop\"\n\n[provider.here]\nkind = \"host\"\n\n[audit]\nwitness = \"witness\"\n";

fn id() -> EstateUuid {
    EstateUuid::from_random([7; 16])
}

/// A home in memory where there is one, with so many facts.
struct Place {
    folder: tempfile::TempDir,
}

impl Place {
    fn new(count: u64) -> Self {
        let folder = tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).unwrap();
        let place = Self { folder };
        place.append(1, count);
        place
    }

    fn home(&self) -> PathBuf {
        self.folder.path().join("home")
    }

    fn witness(&self) -> PathBuf {
        self.folder.path().join("witness").join(format!("shop-{}", id()))
    }

    fn fact(&self, n: u64) -> Fact {
        let kind = match n {
            1 => FactKind::EstateFounded { uuid: id() },
            2 => {
                let parsed = ostler_model::estate::parse("shop.toml", self.folder.path(), ESTATE).unwrap();
                FactKind::EstateDeclared { estate: parsed.estate.into() }
            }
            n => FactKind::ScaleAsked { service: "web".parse().unwrap(), instances: u32::try_from(n).unwrap() },
        };
        Fact { at: Timestamp(1_795_446_000_000_000 + i64::try_from(n).unwrap()), kind }
    }

    fn append(&self, from: u64, to: u64) {
        let mut journal = Sqlite::open(&self.home(), &OpenOptions::default()).unwrap().journal;
        let facts: Vec<_> = (from..=to).map(|n| wrap(&self.fact(n), &Writing::default())).collect();
        journal.append(Position(from - 1), &facts, &[]).unwrap();
    }

    /// The head that somebody saw who looked at the first `size` facts.
    fn head(&self, size: u64) -> Head {
        let (mut edge, mut head) = (Edge::default(), None);
        Reader::open(&self.home())
            .unwrap()
            .walk(|record| {
                edge.push(leaf_hash(&entry(record)));
                head = head.or((edge.size() == size).then(|| edge.head()));
                std::ops::ControlFlow::Continue(())
            })
            .unwrap();
        head.unwrap()
    }

    /// Signs the first `size` facts and keeps that in a folder.
    fn sign(&self, folder: &Path, size: u64) -> PathBuf {
        self.put(folder, &Checkpoint { origin: origin(), head: self.head(size) }, &SEED)
    }

    fn put(&self, folder: &Path, checkpoint: &Checkpoint, seed: &[u8]) -> PathBuf {
        fs::create_dir_all(folder).unwrap();
        let key = PublicKey::of_seed(&SEED).unwrap().named("any");
        fs::write(folder.join("key.txt"), key).unwrap();
        let since = checkpoint.origin.since.map_or_else(String::new, |since| format!("-since-{since}"));
        let path = folder.join(format!("{:012}{since}.txt", checkpoint.head.size));
        fs::write(&path, note::sign(checkpoint, seed).unwrap()).unwrap();
        path
    }

    fn own(&self) -> PathBuf {
        self.home().join(CHECKPOINTS_FOLDER)
    }

    fn check(&self) -> Result<Sound, NotSound> {
        check(&self.home(), &Asked::default(), &mut |_, _| {})
    }

    fn first_bad(&self) -> u64 {
        let error = self.check().unwrap_err();
        error.first_bad().unwrap_or_else(|| panic!("{error}"))
    }

    fn database(&self) -> Connection {
        let database = Connection::open(self.home().join(JOURNAL_FILE)).unwrap();
        database.execute_batch("PRAGMA synchronous = OFF; PRAGMA busy_timeout = 5000;").unwrap();
        database
    }

    /// As somebody does who knows how: writes every checksum anew, and takes away what says which fact was the last.
    fn cover_up(&self) {
        let database = self.database();
        let _ = fs::remove_file(self.home().join(WITNESS_FILE));
        let mut rows = database.prepare("SELECT position, at, kind, body FROM facts ORDER BY position").unwrap();
        let rows: Vec<(i64, i64, String, Vec<u8>)> = rows
            .query_map([], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?)))
            .unwrap()
            .map(Result::unwrap)
            .collect();
        database.execute_batch("BEGIN").unwrap();
        let mut chain = [0; 32];
        for (position, at, kind, body) in rows {
            let mut hash = Sha256::new();
            hash.update(chain);
            hash.update(position.to_le_bytes());
            hash.update(at.to_le_bytes());
            hash.update((kind.len() as u64).to_le_bytes());
            hash.update(&kind);
            hash.update((body.len() as u64).to_le_bytes());
            hash.update(&body);
            chain = hash.finalize().into();
            database.execute("UPDATE facts SET chain = ?1 WHERE position = ?2", params![chain, position]).unwrap();
        }
        database.execute_batch("COMMIT").unwrap();
    }
}

fn origin() -> Origin {
    Origin { estate: "shop".parse().unwrap(), id: id(), since: None }
}

#[test]
fn what_is_as_it_was_recorded_is_told_as_such() {
    let place = Place::new(600);
    let sound = place.check().unwrap();
    assert_eq!((sound.facts, sound.checkpoints, sound.signed, sound.witnessed), (600, 0, 0, None));
    assert!(!sound.is_whole() && sound.lacks.len() == 2, "{sound:?}");
    place.sign(&place.own(), 100);
    place.sign(&place.own(), 500);
    place.sign(&place.witness(), 500);
    let sound = place.check().unwrap();
    assert_eq!((sound.checkpoints, sound.signed, sound.witnessed), (3, 500, Some(500)));
    assert!(sound.is_whole(), "{sound:?}");
    assert_eq!(sound.key, Some(PublicKey::of_seed(&SEED).unwrap().to_hex()));
    fs::remove_dir_all(place.folder.path().join("witness")).unwrap();
    let sound = place.check().unwrap();
    assert!(!sound.is_whole() && sound.lacks[0].ends_with("is not there"), "{sound:?}");
}

#[test]
fn every_bit_of_a_stored_fact_counts_and_is_located() {
    let place = Place::new(12);
    place.sign(&place.own(), 12);
    let database = place.database();
    for fact in [1_i64, 3, 7, 12] {
        let stored = |column: &str| -> Vec<u8> {
            let sql = format!("SELECT CAST({column} AS BLOB) FROM facts WHERE position = ?1");
            database.query_row(&sql, [fact], |row| row.get(0)).unwrap()
        };
        for column in ["kind", "body", "chain"] {
            let whole = stored(column);
            let kind = if column == "kind" { "TEXT" } else { "BLOB" };
            let sql = format!("UPDATE facts SET {column} = CAST(?1 AS {kind}) WHERE position = ?2");
            for bit in 0..whole.len() * 8 {
                let mut flipped = whole.clone();
                flipped[bit / 8] ^= 1 << (bit % 8);
                database.execute(&sql, params![flipped, fact]).unwrap();
                assert_eq!(place.first_bad(), fact.unsigned_abs(), "bit {bit} of {column}");
            }
            database.execute(&sql, params![whole, fact]).unwrap();
        }
        let at: i64 = database.query_row("SELECT at FROM facts WHERE position = ?1", [fact], |row| row.get(0)).unwrap();
        for bit in 0..64 {
            database.execute("UPDATE facts SET at = ?1 WHERE position = ?2", params![at ^ 1 << bit, fact]).unwrap();
            assert_eq!(place.first_bad(), fact.unsigned_abs(), "bit {bit} of its time");
        }
        database.execute("UPDATE facts SET at = ?1 WHERE position = ?2", params![at, fact]).unwrap();
        for bit in 0..63 {
            let other = fact ^ 1 << bit;
            let taken: bool = database
                .query_row("SELECT count(*) > 0 FROM facts WHERE position = ?1", [other], |row| row.get(0))
                .unwrap();
            if !taken {
                database.execute("UPDATE facts SET position = ?1 WHERE position = ?2", params![other, fact]).unwrap();
                assert!(place.first_bad() <= fact.unsigned_abs(), "bit {bit} of its place");
                database.execute("UPDATE facts SET position = ?1 WHERE position = ?2", params![fact, other]).unwrap();
            }
        }
        assert!(place.check().is_ok());
    }
}

#[test]
fn what_is_covered_up_is_found_between_two_checkpoints() {
    let changes: [(&str, &str, u64, u64); 6] = [
        ("altered", "UPDATE facts SET body = x'7b7d' WHERE position = 450", 301, 500),
        (
            "dropped",
            "DELETE FROM facts WHERE position = 450; UPDATE facts SET position = position - 1 WHERE position > 450",
            301,
            500,
        ),
        (
            "swapped",
            "UPDATE facts SET position = -1 WHERE position = 10; UPDATE facts SET position = 10 WHERE position = 11; \
             UPDATE facts SET position = 11 WHERE position = -1",
            1,
            100,
        ),
        ("told as later", "UPDATE facts SET at = at + 1 WHERE position = 301", 301, 500),
        ("told as another", "UPDATE facts SET kind = 'restart-asked' WHERE position = 300", 101, 300),
        ("the last one that was signed", "UPDATE facts SET body = x'00' WHERE position = 500", 301, 500),
    ];
    for kept_elsewhere in [false, true] {
        for (what, sql, first, last) in changes {
            let place = Place::new(600);
            let folder = if kept_elsewhere { place.witness() } else { place.own() };
            for size in [100, 300, 500] {
                place.sign(&folder, size);
            }
            place.sign(&place.own(), 100); // where the key is
            place.database().execute_batch(sql).unwrap();
            place.cover_up();
            match place.check().unwrap_err() {
                NotSound::Altered { first: found, last: until, .. } => {
                    assert_eq!((found, until), (first, last), "{what}")
                }
                error => panic!("{what}: {error}"),
            }
        }
    }
    // What nobody has signed yet, nobody vouches for: that is what checkpoints are signed often for.
    let place = Place::new(600);
    place.sign(&place.own(), 500);
    place.database().execute_batch("UPDATE facts SET body = x'7b7d' WHERE position = 550").unwrap();
    place.cover_up();
    assert_eq!(place.check().unwrap().signed, 500);
}

#[test]
fn the_hashes_that_are_kept_tell_the_place_more_exactly() {
    let place = Place::new(2_000);
    place.sign(&place.own(), 1_900);
    drop(Kept::build(&place.home(), &[], &mut |_, _| {}).unwrap());
    place.database().execute_batch("UPDATE facts SET body = x'7b7d' WHERE position = 1000").unwrap();
    place.cover_up();
    let NotSound::Altered { first, last, .. } = place.check().unwrap_err() else { panic!("not noticed") };
    assert_eq!((first, last), (769, 1024));
}

#[test]
fn what_is_missing_at_the_end_is_told() {
    // Cut off, and covered up.
    let place = Place::new(600);
    place.sign(&place.own(), 500);
    place.database().execute_batch("DELETE FROM facts WHERE position > 480").unwrap();
    assert_eq!(place.first_bad(), 481, "the last acknowledged fact tells");
    place.cover_up();
    assert!(matches!(place.check().unwrap_err(), NotSound::Missing { end: 480, size: 500, .. }));
    // And written on, with other facts.
    place.append_over(481, 700);
    place.cover_up();
    let NotSound::Altered { first, last, .. } = place.check().unwrap_err() else { panic!("not noticed") };
    assert!(first <= 481 && last == 500);

    // An older journal in place of the newer one, with everything that was beside it.
    let place = Place::new(300);
    place.sign(&place.own(), 300);
    let older = place.folder.path().join("older");
    ostler_journal::home::backup(&place.home(), &older, Timestamp(0), ostler_journal::home::KeyInBackup::Included)
        .unwrap();
    place.append(301, 600);
    place.sign(&place.own(), 600);
    let witness = place.sign(&place.witness(), 550);
    fs::remove_dir_all(place.home()).unwrap();
    ostler_journal::home::restore(&older, &place.home()).unwrap();
    assert!(place.own().join("000000000300.txt").exists(), "what was signed is in the backup, too");
    assert!(matches!(place.check().unwrap_err(), NotSound::Missing { end: 300, size: 550, .. }));
    // Without the witness in reach, a checkpoint that an auditor kept tells it.
    let kept = place.folder.path().join("kept.txt");
    fs::copy(&witness, &kept).unwrap();
    fs::remove_dir_all(place.folder.path().join("witness")).unwrap();
    assert!(place.check().is_ok());
    let asked = Asked { key: None, checkpoints: vec![kept] };
    let error = check(&place.home(), &asked, &mut |_, _| {}).unwrap_err();
    assert!(matches!(error, NotSound::Missing { end: 300, size: 550, .. }));
}

impl Place {
    /// Facts that are appended after what is there, other ones than were there before.
    fn append_over(&self, from: u64, to: u64) {
        let options = OpenOptions { accept_lost_tail: true, ..OpenOptions::default() };
        let mut journal = Sqlite::open(&self.home(), &options).unwrap().journal;
        let facts: Vec<_> = (from..=to).map(|n| wrap(&self.fact(n + 1), &Writing::default())).collect();
        journal.append(Position(from - 1), &facts, &[]).unwrap();
    }
}

#[test]
fn a_forged_checkpoint_and_one_of_another_estate_are_refused() {
    let place = Place::new(50);
    place.sign(&place.own(), 40);
    let mut checkpoint = Checkpoint { origin: origin(), head: place.head(45) };
    let forged = place.put(&place.own(), &checkpoint, &[1; 32]);
    let error = place.check().unwrap_err();
    assert!(
        matches!(&error, NotSound::Checkpoint { cause: NoCheckpoint::OtherKey(_), path } if *path == forged),
        "{error}"
    );
    fs::remove_file(&forged).unwrap();

    // Signed well, of other facts: two past times of one journal.
    let forked = Checkpoint { head: Head { root: TreeHash([1; 32]), size: 45 }, ..checkpoint.clone() };
    let path = place.put(&place.own(), &forked, &SEED);
    assert!(matches!(place.check().unwrap_err(), NotSound::Altered { first: 41, last: 45, .. }));
    let mut text = fs::read_to_string(&path).unwrap();
    text = text.replace("\n45\n", "\n44\n");
    fs::write(&path, text).unwrap();
    assert!(matches!(place.check().unwrap_err(), NotSound::Checkpoint { cause: NoCheckpoint::Signature, .. }));
    fs::remove_file(&path).unwrap();

    for (estate, id) in [("other", id()), ("shop", EstateUuid::from_random([8; 16]))] {
        checkpoint.origin = Origin { estate: estate.parse().unwrap(), id, since: None };
        let path = place.put(&place.own(), &checkpoint, &SEED);
        assert!(matches!(place.check().unwrap_err(), NotSound::Checkpoint { cause: NoCheckpoint::Origin(_), .. }));
        fs::remove_file(path).unwrap();
    }
    fs::write(place.own().join("000000000041.txt"), "rubbish").unwrap();
    assert!(matches!(place.check().unwrap_err(), NotSound::Checkpoint { cause: NoCheckpoint::Form, .. }));
    fs::remove_file(place.own().join("000000000041.txt")).unwrap();
    fs::remove_file(place.own().join("key.txt")).unwrap();
    assert!(matches!(place.check().unwrap_err(), NotSound::NoKey { .. }));
    let asked = Asked { key: PublicKey::of_seed(&SEED), checkpoints: Vec::new() };
    assert!(check(&place.home(), &asked, &mut |_, _| {}).is_ok());
}

#[test]
fn a_loss_that_a_person_accepted_is_never_passed_over() {
    let place = Place::new(300);
    for size in [100, 200, 300] {
        place.sign(&place.own(), size);
    }
    place.database().execute_batch("DELETE FROM facts WHERE position > 250").unwrap();
    place.append_over(251, 400);
    let since = Checkpoint { origin: Origin { since: Some(200), ..origin() }, head: place.head(350) };
    assert!(place.check().is_err(), "nobody has accepted it yet");
    place.put(&place.own(), &since, &SEED);
    let sound = place.check().unwrap();
    assert_eq!((sound.lost.clone(), sound.signed, sound.is_whole()), (vec![300], 350, false));
    // Before the loss everything counts as before.
    place.database().execute("UPDATE facts SET body = x'7b7d' WHERE position = 150", []).unwrap();
    assert_eq!(place.first_bad(), 150);
    place.cover_up();
    assert!(matches!(place.check().unwrap_err(), NotSound::Altered { first: 101, last: 200, .. }));
}

/// What happens in the month that is reported on, after the two facts of every home.
fn story() -> Vec<FactKind> {
    let (db, instance) = ("db".parse().unwrap(), "db-1".parse().unwrap());
    let held = |question: &str| FactKind::Held {
        instance: "web-1".parse().unwrap(),
        question: question.to_owned(),
        answer: "`ostler restart web`".to_owned(),
        goes_on: false,
    };
    vec![
        FactKind::RepairBegan { instance, diagnosis: Diagnosis::DiedAndRestarted { exit: Exit::Signal(9) } },
        FactKind::RemedyChosen {
            instance: "db-1".parse().unwrap(),
            remedy: Remedy::Restart,
            weighed: Vec::new(),
            forced: None,
        },
        FactKind::RepairEnded { instance: "db-1".parse().unwrap() },
        held("it fails | again and again: what now?"),
        held("and still?"),
        FactKind::RestartAsked { service: "web".parse().unwrap() },
        FactKind::Quarantined { leftover: "cache-1/2".parse().unwrap(), why: "its broker said nothing".to_owned() },
        FactKind::MoveHeld {
            service: db,
            question: "may it lose data?".to_owned(),
            answer: "`ostler failover`".to_owned(),
        },
        FactKind::SettleAsked { leftover: "cache-1/2".parse().unwrap(), how: Settlement::Release },
        FactKind::BudgetBurns {
            service: "web".parse().unwrap(),
            objective: Objective::Availability,
            tenths: 144,
            window: Span::seconds(3600),
        },
        FactKind::BudgetCalm { service: "web".parse().unwrap(), objective: Objective::Availability },
        FactKind::LossAccepted { acknowledged: Some(Position(99)) },
    ]
}

#[test]
fn the_report_of_a_month_names_the_facts_it_follows_from() {
    let place = Place::new(3);
    let facts: Vec<_> = (4..).zip(story()).map(|(n, kind)| Fact { kind, ..place.fact(n) }).collect();
    let facts: Vec<_> = facts.iter().map(|fact| wrap(fact, &Writing::default())).collect();
    let count = 3 + facts.len() as u64;
    Sqlite::open(&place.home(), &OpenOptions::default()).unwrap().journal.append(Position(3), &facts, &[]).unwrap();
    let reader = Reader::open(&place.home()).unwrap();
    let now = Timestamp(1_795_446_000_000_000);
    let shown = report::report(&reader, None, now, &mut |_, _| {}).unwrap();
    insta::assert_snapshot!(report::in_words(&shown));
    let json = serde_json::to_value(&shown).unwrap();
    assert_eq!((json["month"].as_str(), json["facts"]["count"].as_u64()), (Some("2026-11"), Some(count)));
    let before = report::report(&reader, Some("2026-10".parse().unwrap()), now, &mut |_, _| {}).unwrap();
    assert_eq!((before.facts.count, before.sections.iter().all(|section| section.rows.is_empty())), (0, true));
    assert!(report::report(&reader, Some("2026-12".parse().unwrap()), now, &mut |_, _| {}).is_err());
}
