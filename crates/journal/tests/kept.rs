//! The kept tree is the tree over the facts, wherever they lie, and whatever became of its file.
#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers of tests")]

mod suite;

use std::fs;
use std::ops::ControlFlow;
use std::path::Path;

use ostler_journal::tree::{Edge, Head, consistency, entry, goes_on, inclusion, leaf_hash, root_from_inclusion};
use ostler_journal::{JOURNAL_FILE, Journal, Kept, OpenOptions, Reader, Sqlite, TREE_FILE};
use ostler_model::ids::Position;
use ostler_model::time::Timestamp;

fn open(home: &Path) -> Sqlite {
    Sqlite::open(home, &OpenOptions::default()).unwrap().journal
}

fn kept(home: &Path, journal: &mut Sqlite, earlier: &[Head]) -> Head {
    let built = Kept::build(home, earlier, &mut |_, _| {}).unwrap();
    assert_eq!((built.agrees, built.differs), (earlier.iter().max().copied(), None));
    journal.keep_tree(built.tree).unwrap();
    journal.head().unwrap()
}

/// The tree over the first `size` facts, leaf by leaf.
fn naive(size: u64) -> Head {
    let mut edge = Edge::default();
    for n in 1..=size {
        edge.push(leaf_hash(&entry(&suite::record(n))));
    }
    edge.head()
}

fn append(journal: &mut Sqlite, from: u64, to: u64) {
    journal.append(Position(from - 1), &suite::facts(from, to), &[]).unwrap();
}

#[test]
fn it_grows_with_each_append_and_goes_on_after_a_restart() {
    let home = suite::folder();
    let mut journal = open(home.path());
    assert_eq!(kept(home.path(), &mut journal, &[]), naive(0));
    let mut last = 0;
    for to in [1, 2, 255, 256, 257, 300, 513, 1000] {
        append(&mut journal, last + 1, to);
        assert_eq!(journal.head(), Some(naive(to)), "{to}");
        last = to;
    }
    drop(journal);
    let mut journal = open(home.path());
    assert_eq!(journal.head(), None, "nothing is said about a tree that was not looked at");
    append(&mut journal, 1001, 1100); // as a build does that knows no tree
    assert_eq!(kept(home.path(), &mut journal, &[naive(300), naive(1000)]), naive(1100));
    assert!(journal.append(Position(7), &suite::facts(1, 1), &[]).is_err());
    assert_eq!(journal.head(), Some(naive(1100)), "what was not appended is not in it");
}

#[test]
fn facts_of_the_archive_belong_to_it() {
    let home = suite::folder();
    let mut journal = open(home.path());
    append(&mut journal, 1, 900);
    let before = kept(home.path(), &mut journal, &[]);
    journal.save_snapshot(Position(700), 1, b"a").unwrap();
    journal.save_snapshot(Position(800), 1, b"b").unwrap();
    assert_eq!(journal.archive(Timestamp(i64::MAX)).unwrap().facts, 700);
    append(&mut journal, 901, 1000);
    assert_eq!(journal.head(), Some(naive(1000)));
    drop(journal);
    fs::remove_file(home.path().join(TREE_FILE)).unwrap();
    let mut journal = open(home.path());
    assert_eq!(kept(home.path(), &mut journal, &[before]), naive(1000));
    assert_proven(home.path(), &[1, 256, 257, 700, 701, 999, 1000]);
    let mut seen = 0;
    Reader::open(home.path())
        .unwrap()
        .walk(|record| {
            seen += 1;
            assert_eq!(*record, suite::record(seen));
            if seen == 650 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        })
        .unwrap();
    assert_eq!(seen, 650, "whoever has seen enough breaks off");
}

fn assert_proven(home: &Path, positions: &[u64]) {
    let reader = Reader::open(home).unwrap();
    let size = reader.end().0;
    let mut tree = reader.tree();
    for position in positions {
        let proof = inclusion(&mut tree, position - 1, size).unwrap();
        let leaf = leaf_hash(&entry(&suite::record(*position)));
        assert_eq!(root_from_inclusion(leaf, position - 1, size, &proof), Some(naive(size).root), "{position}");
        let proof = consistency(&mut tree, *position, size).unwrap();
        assert!(goes_on(naive(*position), naive(size), &proof), "{position}");
    }
}

#[test]
fn a_damaged_file_is_never_believed() {
    let home = suite::folder();
    let mut journal = open(home.path());
    append(&mut journal, 1, 1300);
    let head = kept(home.path(), &mut journal, &[]);
    drop(journal);
    let whole = fs::read(home.path().join(TREE_FILE)).unwrap();
    assert_eq!(whole.len(), 5 * 32);
    let put = |bytes: &[u8]| fs::write(home.path().join(TREE_FILE), bytes).unwrap();
    for at in 0..whole.len() {
        let mut flipped = whole.clone();
        flipped[at] ^= 1 << (at % 8);
        put(&flipped);
        let reader = Reader::open(home.path()).unwrap();
        let mut tree = reader.tree();
        assert_ne!(tree.head(1300).unwrap(), head, "byte {at}");
        if at % 16 == 0 {
            assert!(tree.leads_to(head, &mut |_, _| {}).unwrap(), "it is derived anew");
            assert_eq!(tree.head(1300).unwrap(), head);
            let built = Kept::build(home.path(), &[head], &mut |_, _| {}).unwrap();
            assert_eq!((built.tree.head(), built.agrees, built.differs), (head, Some(head), None));
            assert_eq!(fs::read(home.path().join(TREE_FILE)).unwrap(), whole);
        }
    }
    for length in [0, 1, 31, 32, 33, 100, 159] {
        put(&whole[..length]);
        assert_eq!(Kept::build(home.path(), &[head], &mut |_, _| {}).unwrap().tree.head(), head, "{length}");
    }
    // What lies behind the last head that was signed is derived anew, so that nothing of it need be believed.
    let mut flipped = whole.clone();
    flipped[4 * 32] ^= 1;
    put(&flipped);
    assert_eq!(Kept::build(home.path(), &[naive(1024)], &mut |_, _| {}).unwrap().tree.head(), head);
    assert_eq!(fs::read(home.path().join(TREE_FILE)).unwrap(), whole);
}

#[test]
fn what_does_not_fit_what_was_signed_is_told() {
    let home = suite::folder();
    let mut journal = open(home.path());
    append(&mut journal, 1, 600);
    drop(journal);
    let other = |size: u64| Head { root: naive(7).root, ..naive(size) };
    let cases = [
        (vec![naive(100), naive(600)], Some(naive(600)), None),
        (vec![naive(100), other(200), naive(600)], Some(naive(600)), None), // the newest vouches for all
        (vec![naive(100), other(200), other(600)], Some(naive(100)), Some(other(200))),
        (vec![other(600)], None, Some(other(600))),
        (vec![naive(300), naive(601)], Some(naive(300)), Some(naive(601))),
        (vec![naive(601)], None, Some(naive(601))),
        (vec![naive(0), naive(600)], Some(naive(600)), None),
    ];
    for (n, (earlier, agrees, differs)) in cases.into_iter().enumerate() {
        let built = Kept::build(home.path(), &earlier, &mut |_, _| {}).unwrap();
        assert_eq!((built.agrees, built.differs, built.tree.head()), (agrees, differs, naive(600)), "case {n}");
    }
}

#[test]
fn what_was_appended_is_in_it_as_it_was_appended() {
    let home = suite::folder();
    let mut journal = open(home.path());
    kept(home.path(), &mut journal, &[]);
    append(&mut journal, 1, 40);
    let elsewhere = rusqlite::Connection::open(home.path().join(JOURNAL_FILE)).unwrap();
    elsewhere.execute("UPDATE facts SET body = x'00' WHERE position = 7", []).unwrap();
    assert_eq!(journal.head(), Some(naive(40)));
}
