//! The shared suite on every implementation, and the property that they cannot be told apart.
#![allow(clippy::unwrap_used, clippy::panic, clippy::print_stdout, clippy::print_stderr, reason = "helpers of tests")]

mod suite;

use std::path::Path;

use ostler_journal::sealed::Key;
use ostler_journal::{Journal, Memory, OpenOptions, SealedChange, Sqlite};
use ostler_model::ids::Position;
use proptest::prelude::*;

fn memory() -> Memory {
    Memory::new(&Key::generate().unwrap())
}

fn sqlite(home: &Path) -> Sqlite {
    let opened = Sqlite::open(home, &OpenOptions::default()).unwrap();
    assert_eq!(opened.given_up, None);
    opened.journal
}

#[test]
fn memory_passes_the_suite() {
    suite::all(&mut || Box::new(memory()));
}

#[test]
fn sqlite_passes_the_suite() {
    let folder = tempfile::tempdir().unwrap();
    let mut count = 0;
    suite::all(&mut || {
        count += 1;
        Box::new(sqlite(&folder.path().join(count.to_string())))
    });
}

#[derive(Clone, Debug)]
enum Step {
    /// Facts, an error in the expected position, and secrets to set (`Some`) or delete.
    Append(u64, u64, Vec<(u8, Option<Vec<u8>>)>),
    Read(u64, usize),
    ReadBack(u64, usize),
    Secret(u8),
    Snapshot(u64, u32),
    Meta(u8, Vec<u8>),
    Reopen,
}

fn step() -> impl Strategy<Value = Step> {
    let value = proptest::option::weighted(0.7, proptest::collection::vec(any::<u8>(), 0..40));
    let secrets = proptest::collection::vec((0..4_u8, value), 0..3);
    prop_oneof![
        6 => (0..20_u64, prop_oneof![5 => Just(0), 1 => 1..3_u64], secrets).prop_map(|(n, off, s)| Step::Append(n, off, s)),
        2 => (0..80_u64, 0..30_usize).prop_map(|(after, most)| Step::Read(after, most)),
        2 => (0..80_u64, 0..30_usize).prop_map(|(before, most)| Step::ReadBack(before, most)),
        2 => (0..4_u8).prop_map(Step::Secret),
        2 => (0..80_u64, any::<u32>()).prop_map(|(at, version)| Step::Snapshot(at, version)),
        1 => (0..3_u8, proptest::collection::vec(any::<u8>(), 0..40)).prop_map(|(name, value)| Step::Meta(name, value)),
        1 => Just(Step::Reopen),
    ]
}

/// Does one step and tells all that can be seen of it.
fn act(journal: &mut dyn Journal, step: &Step) -> String {
    let id = |n: &u8| suite::secret_id(&format!("secret/{n}"));
    match step {
        Step::Append(count, off, secrets) => {
            let end = journal.end().0;
            let facts = suite::facts(end + 1, end + count);
            let changes = secrets.iter().map(|(n, value)| match value {
                Some(value) => SealedChange::set(id(n), value.clone()),
                None => SealedChange::delete(id(n)),
            });
            let result = journal.append(Position(end + off), &facts, &changes.collect::<Vec<_>>());
            format!("{:?}", result.map_err(|error| error.to_string()))
        }
        Step::Read(after, most) => format!("{:?}", journal.read(Position(*after), *most).unwrap()),
        Step::ReadBack(before, most) => format!("{:?}", journal.read_back(Position(*before), *most).unwrap()),
        Step::Secret(n) => format!("{:?}", journal.secret(&id(n)).unwrap().map(|value| value.bytes().to_vec())),
        Step::Snapshot(at, version) => {
            let saved = journal.save_snapshot(Position(*at), *version, &version.to_le_bytes());
            format!("{:?} {:?}", saved.is_ok(), journal.latest_snapshot().unwrap())
        }
        Step::Meta(name, value) => {
            let before = journal.meta_get(&name.to_string()).unwrap();
            journal.meta_set(&name.to_string(), value).unwrap();
            format!("{before:?}")
        }
        Step::Reopen => format!("{} {:?}", journal.end(), journal.latest_snapshot().unwrap()),
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn no_caller_can_tell_them_apart(steps in proptest::collection::vec(step(), 1..40)) {
        let home = tempfile::tempdir().unwrap();
        let mut expected = memory();
        let mut journal = sqlite(home.path());
        for step in &steps {
            if matches!(step, Step::Reopen) {
                drop(journal);
                journal = sqlite(home.path());
            }
            prop_assert_eq!(act(&mut expected, step), act(&mut journal, step), "{:?}", step);
            prop_assert_eq!(expected.end(), journal.end());
        }
        let verified = journal.verify().unwrap();
        prop_assert_eq!(verified.stored, expected.end().0);
        prop_assert!(verified.secrets_damaged.is_empty() && verified.snapshots_damaged.is_empty());
    }
}
