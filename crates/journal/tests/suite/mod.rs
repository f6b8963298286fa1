//! What every journal must do, wherever it keeps its facts. Each implementation's test calls [`all`].
#![allow(dead_code, reason = "each test binary uses its own part")]

use ostler_journal::{AppendError, Journal, NewFact, Record, SealedChange, newest_first, oldest_first};
use ostler_model::ids::{Position, SecretId};
use ostler_model::time::Timestamp;

/// Runs the whole suite; `fresh` gives an empty journal each time.
pub(crate) fn all(fresh: &mut dyn FnMut() -> Box<dyn Journal>) {
    starts_empty(&mut *fresh());
    appends_in_order(&mut *fresh());
    appends_only_at_its_end(&mut *fresh());
    refuses_what_is_too_large(&mut *fresh());
    keeps_every_byte(&mut *fresh());
    reads_in_pages_both_ways(&mut *fresh());
    seals_secrets(&mut *fresh());
    keeps_two_snapshots(&mut *fresh());
    keeps_small_values(&mut *fresh());
}

/// The fact number `n`: its content follows from the number, so that a test can tell what must be stored.
pub(crate) fn fact(n: u64) -> NewFact {
    let length = usize::try_from(n * 7 % 200).unwrap();
    NewFact {
        at: Timestamp(1_795_446_000_000_000 + i64::try_from(n).unwrap()),
        kind: format!("kind-{}", n % 3),
        body: format!("{{\"n\":{n},\"text\":\"{}\"}}", "x".repeat(length)).into_bytes(),
    }
}

/// The facts `from` to `to`.
pub(crate) fn facts(from: u64, to: u64) -> Vec<NewFact> {
    (from..=to).map(fact).collect()
}

/// The record that [`fact`] number `n` becomes at position `n`.
pub(crate) fn record(n: u64) -> Record {
    let NewFact { at, kind, body } = fact(n);
    Record { position: Position(n), at, kind, body }
}

/// A folder in memory where there is one: these tests are about what the files hold, and write them very often.
pub(crate) fn folder() -> tempfile::TempDir {
    tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).unwrap()
}

pub(crate) fn secret_id(text: &str) -> SecretId {
    serde_json::from_value(text.into()).unwrap()
}

fn starts_empty(journal: &mut dyn Journal) {
    assert_eq!(journal.end(), Position(0));
    assert!(journal.read(Position(0), 10).unwrap().is_empty());
    assert!(journal.read_back(Position(1), 10).unwrap().is_empty());
    assert!(journal.read_back(Position(0), 10).unwrap().is_empty());
    assert!(journal.secret(&secret_id("instance/db-1")).unwrap().is_none());
    assert!(journal.latest_snapshot().unwrap().latest.is_none());
    assert!(journal.meta_get("estate").unwrap().is_none());
}

fn appends_in_order(journal: &mut dyn Journal) {
    assert_eq!(journal.append(Position(0), &facts(1, 3), &[]).unwrap(), Position(3));
    assert_eq!(journal.append(Position(3), &facts(4, 4), &[]).unwrap(), Position(4));
    assert_eq!(journal.append(Position(4), &[], &[]).unwrap(), Position(4));
    assert_eq!(journal.end(), Position(4));
    assert_eq!(journal.read(Position(0), 10).unwrap(), (1..=4).map(record).collect::<Vec<_>>());
    assert_eq!(journal.read(Position(3), 10).unwrap(), [record(4)]);
    assert!(journal.read(Position(4), 10).unwrap().is_empty());
    assert!(journal.read(Position(u64::MAX), 10).unwrap().is_empty());
}

fn appends_only_at_its_end(journal: &mut dyn Journal) {
    journal.append(Position(0), &facts(1, 2), &[]).unwrap();
    for wrong in [0, 1, 3, u64::MAX] {
        for facts in [facts(3, 3), Vec::new()] {
            let error = journal.append(Position(wrong), &facts, &[]).unwrap_err();
            let AppendError::Conflict { expected, actual } = error else { panic!("{error}") };
            assert_eq!((expected, actual), (Position(wrong), Position(2)));
        }
    }
    assert_eq!(journal.append(Position(2), &facts(3, 3), &[]).unwrap(), Position(3));
    assert_eq!(journal.read(Position(0), 10).unwrap().len(), 3);
}

fn refuses_what_is_too_large(journal: &mut dyn Journal) {
    let secret = || SealedChange::set(secret_id("a"), vec![1]);
    let large = SealedChange::set(secret_id("a"), vec![0; ostler_journal::SECRET_BYTES_MAX + 1]);
    let body = NewFact { body: vec![0; ostler_journal::BODY_BYTES_MAX + 1], ..fact(1) };
    let kind = |kind: &str| NewFact { kind: kind.into(), ..fact(1) };
    let long = "k".repeat(65);
    let refused: [(Vec<NewFact>, Vec<SealedChange>); 7] = [
        (vec![body], vec![]),
        (vec![kind("")], vec![]),
        (vec![kind("two words")], vec![]),
        (vec![kind("größe")], vec![]),
        (vec![kind(&long)], vec![]),
        (vec![fact(1)], vec![large]),
        (vec![], vec![secret()]),
    ];
    for (facts, secrets) in refused {
        let error = journal.append(Position(0), &facts, &secrets).unwrap_err();
        assert!(matches!(error, AppendError::Refused { .. }), "{error}");
    }
    assert_eq!(journal.end(), Position(0));
    assert!(journal.secret(&secret_id("a")).unwrap().is_none());
    assert!(journal.save_snapshot(Position(1), 1, b"").is_err(), "beyond the end");
    assert!(journal.meta_set("", b"").is_err());
    assert!(journal.meta_set("name", &vec![0; 1 << 20]).is_err());
}

fn keeps_every_byte(journal: &mut dyn Journal) {
    let bodies = [vec![], vec![0], vec![0xff; 3], (0..=255).collect(), vec![b'\n'; 100_000]];
    let times = [0, -1, i64::MIN, i64::MAX, 1];
    let facts: Vec<NewFact> = bodies
        .iter()
        .zip(times)
        .map(|(body, at)| NewFact { at: Timestamp(at), kind: "!~".into(), body: body.clone() })
        .collect();
    journal.append(Position(0), &facts, &[]).unwrap();
    let read = journal.read(Position(0), 10).unwrap();
    for (fact, record) in facts.iter().zip(&read) {
        assert_eq!((fact.at, &fact.kind, &fact.body), (record.at, &record.kind, &record.body));
    }
    assert_eq!(read.len(), facts.len());
}

fn reads_in_pages_both_ways(journal: &mut dyn Journal) {
    let mut end = 0;
    for size in [1, 255, 256, 1, 300, 87] {
        end = journal.append(Position(end), &facts(end + 1, end + size), &[]).unwrap().0;
    }
    assert_eq!(journal.read(Position(10), 5).unwrap(), (11..=15).map(record).collect::<Vec<_>>());
    assert_eq!(journal.read_back(Position(10), 3).unwrap(), [record(9), record(8), record(7)]);
    assert_eq!(journal.read_back(Position(3), 10).unwrap(), [record(2), record(1)]);
    assert_eq!(journal.read_back(Position(u64::MAX), 1).unwrap(), [record(end)]);
    assert!(journal.read(Position(10), 0).unwrap().is_empty());
    assert!(journal.read_back(Position(10), 0).unwrap().is_empty());
    assert_eq!(journal.read(Position(0), usize::MAX).unwrap().len() as u64, end);
    let forward: Vec<Record> = oldest_first(journal, Position(7)).map(Result::unwrap).collect();
    assert_eq!(forward, (8..=end).map(record).collect::<Vec<_>>());
    let backward: Vec<Record> = newest_first(journal).map(Result::unwrap).collect();
    assert_eq!(backward, (1..=end).rev().map(record).collect::<Vec<_>>());
    let filtered = newest_first(journal).map(Result::unwrap).filter(|record| record.kind == "kind-2").take(2);
    assert!(filtered.map(|record| record.position.0).eq((1..=end).rev().filter(|n| n % 3 == 2).take(2)));
}

fn seals_secrets(journal: &mut dyn Journal) {
    let (db, web) = (secret_id("instance/db-1"), secret_id("binding/web/db"));
    let plain =
        |journal: &mut dyn Journal, id: &SecretId| journal.secret(id).unwrap().map(|value| value.bytes().to_vec());
    let set = [SealedChange::set(db.clone(), b"one".to_vec()), SealedChange::set(web.clone(), b"two".to_vec())];
    journal.append(Position(0), &facts(1, 1), &set).unwrap();
    assert_eq!(plain(journal, &db).unwrap(), b"one");
    assert_eq!(plain(journal, &web).unwrap(), b"two");
    let wrong = journal.append(Position(7), &facts(8, 8), &[SealedChange::delete(db.clone())]);
    assert!(wrong.is_err());
    assert_eq!(plain(journal, &db).unwrap(), b"one", "a refused append changes no secret");
    let change = [SealedChange::set(web.clone(), Vec::new()), SealedChange::delete(db.clone())];
    journal.append(Position(1), &facts(2, 2), &change).unwrap();
    assert_eq!(plain(journal, &db), None);
    assert_eq!(plain(journal, &web).unwrap(), b"");
    let twice = [
        SealedChange::set(db.clone(), b"first".to_vec()),
        SealedChange::delete(db.clone()),
        SealedChange::set(db.clone(), b"last".to_vec()),
        SealedChange::delete(web.clone()),
        SealedChange::delete(secret_id("never/there")),
    ];
    journal.append(Position(2), &facts(3, 3), &twice).unwrap();
    assert_eq!(plain(journal, &db).unwrap(), b"last", "changes apply in their order");
    assert_eq!(plain(journal, &web), None);
}

fn keeps_two_snapshots(journal: &mut dyn Journal) {
    journal.append(Position(0), &facts(1, 9), &[]).unwrap();
    let latest = |journal: &mut dyn Journal| {
        let found = journal.latest_snapshot().unwrap();
        assert!(found.damaged.is_empty());
        found.latest.map(|snapshot| (snapshot.at.0, snapshot.version, snapshot.body))
    };
    journal.save_snapshot(Position(0), 1, b"nothing yet").unwrap();
    assert_eq!(latest(journal), Some((0, 1, b"nothing yet".to_vec())));
    for (at, version) in [(4, 1), (6, 2), (9, 2)] {
        journal.save_snapshot(Position(at), version, &[b'x'; 5000]).unwrap();
        assert_eq!(latest(journal), Some((at, version, vec![b'x'; 5000])));
    }
    journal.save_snapshot(Position(9), 3, b"again").unwrap();
    assert_eq!(latest(journal), Some((9, 3, b"again".to_vec())));
    journal.save_snapshot(Position(2), 4, b"older than both").unwrap();
    assert_eq!(latest(journal), Some((9, 3, b"again".to_vec())));
}

fn keeps_small_values(journal: &mut dyn Journal) {
    journal.meta_set("estate", b"one").unwrap();
    journal.meta_set("journal/begin", b"the caller's own").unwrap();
    journal.meta_set("estate", b"two").unwrap();
    assert_eq!(journal.meta_get("estate").unwrap().unwrap(), b"two");
    assert_eq!(journal.meta_get("journal/begin").unwrap().unwrap(), b"the caller's own");
    assert_eq!(journal.meta_get("other").unwrap(), None);
    assert_eq!(journal.append(Position(0), &facts(1, 1), &[]).unwrap(), Position(1));
}
