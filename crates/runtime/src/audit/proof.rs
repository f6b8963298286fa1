//! Proofs that facts were recorded, in a file that anybody can check with nothing but the public key: one after the
//! other in the form of C2SP tlog-proof, with the fact itself as the extra data; and proofs that one checkpoint goes on
//! from another, in the form in which C2SP tlog-witness asks for them.
//!
//! Invariant: a file reads back as exactly the bytes that were written, or it is refused.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ostler_journal::tree::{self, TreeHash};
use ostler_journal::{ReadError, Reader, Record};
use ostler_model::ids::Position;

use super::note::{self, Checkpoint, NoCheckpoint, PublicKey};

const HEADER: &str = "c2sp.org/tlog-proof@v1\n";
/// A file that is longer is none: one fact has some hundred bytes, the longest one 16 MiB.
pub const BYTES_MAX: u64 = 64 << 20;
/// No tree is higher.
const HASHES_MAX: usize = 64;

/// A fact that was proven to be recorded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Proven {
    /// The fact, as it is stored.
    pub record: Record,
    /// What vouches for it.
    pub checkpoint: Checkpoint,
}

/// Why something is no proof.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NoProof {
    /// It cannot be read at all, or is not written in the one way.
    #[error("it is not a proof, or was changed after it had been written")]
    Form,
    /// It is too long.
    #[error("it is longer than a proof can be")]
    Long,
    /// Its checkpoint is none.
    #[error("its checkpoint cannot be relied on")]
    Checkpoint(#[from] NoCheckpoint),
    /// It proves something else.
    #[error("fact {0} in it is not the one that was recorded: the checkpoint does not follow from it")]
    Fact(Position),
    /// The checkpoints are not of one log.
    #[error(
        "the checkpoint does not go on from the other one, which is of {0} facts: one of the two is of another past"
    )]
    NotOn(u64),
}

/// The proof of one fact.
///
/// # Errors
/// If the journal cannot be read.
pub fn prove(
    reader: &Reader,
    tree: &mut ostler_journal::Grown<'_>,
    fact: Position,
    checkpoint: &Checkpoint,
    text: &str,
) -> Result<String, ReadError> {
    let index = fact.0.saturating_sub(1);
    let record = reader.read(Position(index), fact)?.pop();
    let entry = record.map(|record| tree::entry(&record)).unwrap_or_default();
    let path = tree::inclusion(tree, index, checkpoint.head.size)?;
    Ok(in_text(&entry, index, &path, text))
}

/// The file of a proof.
pub fn in_text(entry: &[u8], index: u64, path: &[TreeHash], checkpoint: &str) -> String {
    format!("{HEADER}extra {}\nindex {index}\n{}\n{checkpoint}", STANDARD.encode(entry), hashes(path))
}

fn hashes(path: &[TreeHash]) -> String {
    path.iter().map(|hash| STANDARD.encode(hash.0) + "\n").collect()
}

fn hash(line: &str) -> Option<TreeHash> {
    STANDARD.decode(line).ok()?.try_into().ok().map(TreeHash)
}

/// Whether this may be the file of a proof, and not that of a checkpoint.
pub fn is_proof(text: &str) -> bool {
    text.starts_with(HEADER)
}

/// Reads a file of proofs and checks each of them: at least one.
///
/// # Errors
/// Why it proves nothing. One proof that does not hold spoils the file.
pub fn read(text: &str, key: &PublicKey) -> Result<Vec<Proven>, NoProof> {
    if text.len() as u64 > BYTES_MAX {
        return Err(NoProof::Long);
    }
    let rest = text.strip_prefix(HEADER).ok_or(NoProof::Form)?;
    rest.split(HEADER).map(|proof| read_one(proof, key)).collect()
}

fn read_one(text: &str, key: &PublicKey) -> Result<Proven, NoProof> {
    let (proof, checkpoint_text) = text.split_once("\n\n").ok_or(NoProof::Form)?;
    let mut lines = proof.split('\n');
    let extra = lines.next().and_then(|line| line.strip_prefix("extra ")).ok_or(NoProof::Form)?;
    let entry = STANDARD.decode(extra).map_err(|_| NoProof::Form)?;
    let index = lines.next().and_then(|line| line.strip_prefix("index ")?.parse::<u64>().ok()).ok_or(NoProof::Form)?;
    let path: Vec<TreeHash> = lines.take(HASHES_MAX + 1).map(hash).collect::<Option<_>>().ok_or(NoProof::Form)?;
    let written = in_text(&entry, index, &path, checkpoint_text);
    if written.strip_prefix(HEADER) != Some(text) {
        return Err(NoProof::Form);
    }
    let checkpoint = note::read(checkpoint_text, key)?;
    let record = tree::from_entry(&entry).ok_or(NoProof::Form)?;
    let head = checkpoint.head;
    let follows = tree::root_from_inclusion(tree::leaf_hash(&entry), index, head.size, &path) == Some(head.root);
    if !follows || record.position.0 != index + 1 {
        return Err(NoProof::Fact(record.position));
    }
    Ok(Proven { record, checkpoint })
}

/// That a checkpoint goes on from one of `old` facts, with the checkpoint itself.
///
/// # Errors
/// If the journal cannot be read.
pub fn prove_goes_on(
    tree: &mut ostler_journal::Grown<'_>,
    old: u64,
    checkpoint: &Checkpoint,
    text: &str,
) -> Result<String, ReadError> {
    let path = tree::consistency(tree, old, checkpoint.head.size)?;
    Ok(format!("old {old}\n{}\n{text}", hashes(&path)))
}

/// Checks that a file goes on from `old`: a checkpoint with the proof of it. Gives the newer checkpoint.
///
/// # Errors
/// Why it does not.
pub fn read_goes_on(text: &str, old: &Checkpoint, key: &PublicKey) -> Result<Checkpoint, NoProof> {
    let (proof, checkpoint_text) = text.split_once("\n\n").ok_or(NoProof::Form)?;
    let mut lines = proof.split('\n');
    let size = lines.next().and_then(|line| line.strip_prefix("old ")?.parse::<u64>().ok()).ok_or(NoProof::Form)?;
    let path: Vec<TreeHash> = lines.take(HASHES_MAX + 1).map(hash).collect::<Option<_>>().ok_or(NoProof::Form)?;
    if format!("old {size}\n{}\n{checkpoint_text}", hashes(&path)) != text {
        return Err(NoProof::Form);
    }
    let new = note::read(checkpoint_text, key)?;
    let goes_on = new.origin == old.origin && size == old.head.size && tree::goes_on(old.head, new.head, &path);
    if goes_on { Ok(new) } else { Err(NoProof::NotOn(old.head.size)) }
}

/// Whether this may be the file of a checkpoint with the proof that it goes on from an older one.
pub fn is_goes_on(text: &str) -> bool {
    text.starts_with("old ")
}

#[cfg(test)]
mod tests {
    use ostler_journal::tree::Head;
    use ostler_model::time::Timestamp;

    use super::*;
    use crate::audit::note::tests::{SEED, checkpoint};

    fn record(n: u64) -> Record {
        let body = format!("{{\"v\":1,\"at\":{n},\"fact\":\"down-asked\"}}").into_bytes();
        Record { position: Position(n), at: Timestamp(n as i64), kind: "down-asked".into(), body }
    }

    struct All(Vec<TreeHash>);

    impl tree::Nodes for All {
        type Error = std::convert::Infallible;

        fn full(&mut self, first: u64, count: u64) -> Result<TreeHash, Self::Error> {
            match count {
                1 => Ok(self.0[first as usize]),
                _ => Ok(tree::node_hash(self.full(first, count / 2)?, self.full(first + count / 2, count / 2)?)),
            }
        }
    }

    /// A log of so many facts, and the checkpoint over it.
    fn log(size: u64) -> (All, Checkpoint, String) {
        let mut all = All((1..=size).map(|n| tree::leaf_hash(&tree::entry(&record(n)))).collect());
        let mut checkpoint = checkpoint(size);
        checkpoint.head.root = tree::root(&mut all, 0, size).unwrap();
        let text = note::sign(&checkpoint, &SEED).unwrap();
        (all, checkpoint, text)
    }

    fn proof(size: u64, index: u64) -> String {
        let (mut all, _, text) = log(size);
        let path = tree::inclusion(&mut all, index, size).unwrap();
        in_text(&tree::entry(&record(index + 1)), index, &path, &text)
    }

    #[test]
    fn a_proof_holds_and_none_does_that_is_altered_by_any_bit() {
        let key = PublicKey::of_seed(&SEED).unwrap();
        for (size, index) in [(1, 0), (2, 1), (21, 13)] {
            let text = proof(size, index);
            assert_eq!(read(&text, &key).unwrap()[0].record, record(index + 1));
            let bytes = text.into_bytes();
            for at in 0..bytes.len() {
                for bit in 0..8 {
                    let mut flipped = bytes.clone();
                    flipped[at] ^= 1 << bit;
                    let read =
                        std::str::from_utf8(&flipped).map_err(|_| NoProof::Form).and_then(|text| read(text, &key));
                    assert!(read.is_err(), "bit {bit} of byte {at} of the proof of {index} in {size}");
                }
            }
        }
        let text = proof(21, 13);
        insta::assert_snapshot!(text);
        for (length, _) in text.char_indices() {
            assert!(read(&text[..length], &key).is_err(), "{length}");
        }
        let other = PublicKey::of_seed(&[1; 32]).unwrap();
        assert!(matches!(read(&text, &other), Err(NoProof::Checkpoint(NoCheckpoint::OtherKey(_)))));
    }

    #[test]
    fn a_proof_of_one_is_none_of_another() {
        let key = PublicKey::of_seed(&SEED).unwrap();
        let (mut all, _, text) = log(21);
        let path = tree::inclusion(&mut all, 13, 21).unwrap();
        let of = |entry: &[u8], index: u64, path: &[TreeHash]| read(&in_text(entry, index, path, &text), &key);
        let entry = tree::entry(&record(14));
        assert!(of(&entry, 13, &path).is_ok());
        let other = Record { body: b"{}".to_vec(), ..record(14) };
        assert_eq!(of(&tree::entry(&other), 13, &path), Err(NoProof::Fact(Position(14))));
        assert_eq!(of(&tree::entry(&record(15)), 13, &path), Err(NoProof::Fact(Position(15))));
        assert_eq!(of(&entry, 12, &path), Err(NoProof::Fact(Position(14))));
        assert_eq!(of(&entry, 13, &path[1..]), Err(NoProof::Fact(Position(14))));
        assert_eq!(of(b"rubbish", 13, &path), Err(NoProof::Form));
        // Several in one file: each has to hold.
        let both = proof(21, 13) + &proof(21, 14);
        assert_eq!(read(&both, &key).unwrap().len(), 2);
        let spoilt = both.replacen("index 14", "index 15", 1);
        assert!(read(&spoilt, &key).is_err());
    }

    #[test]
    fn a_checkpoint_is_shown_to_go_on_from_another() {
        let key = PublicKey::of_seed(&SEED).unwrap();
        let (mut all, _, text) = log(21);
        let (_, old, _) = log(13);
        let path = tree::consistency(&mut all, 13, 21).unwrap();
        let file = format!("old 13\n{}\n{text}", hashes(&path));
        assert_eq!(read_goes_on(&file, &old, &key).unwrap().head.size, 21);
        let forked = Checkpoint { head: Head { root: TreeHash([1; 32]), ..old.head }, ..old.clone() };
        assert_eq!(read_goes_on(&file, &forked, &key), Err(NoProof::NotOn(13)));
        let mut bytes = file.into_bytes();
        for at in 0..bytes.len() {
            bytes[at] ^= 1;
            let read =
                std::str::from_utf8(&bytes).map_err(|_| NoProof::Form).and_then(|text| read_goes_on(text, &old, &key));
            assert!(read.is_err(), "byte {at}");
            bytes[at] ^= 1;
        }
    }
}
