//! The Merkle tree over all facts: RFC 6962 (and 9162) with SHA-256, and the proofs that follow from it.
//!
//! Invariant: what is proven is proven by these functions alone, from hashes: nothing here reads a journal, and whoever
//! checks a proof needs nothing but it. No library: those that there are keep every leaf in memory, and a journal keeps one
//! hash for 256 of them.

use std::fmt;

use ostler_model::ids::Position;
use ostler_model::time::Timestamp;
use sha2::{Digest, Sha256};

use crate::Record;
use crate::chain::to_hex;
use crate::limits::{BODY_BYTES_MAX, KIND_BYTES_MAX};

/// Leaves of a subtree whose hash is kept.
pub const TILE: u64 = 256;
/// The subtree's height.
const TILE_LEVEL: u32 = TILE.trailing_zeros();

/// A hash in the tree.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct TreeHash(pub [u8; 32]);

impl fmt::Debug for TreeHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&to_hex(&self.0))
    }
}

/// The tree at one moment: what a checkpoint is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Head {
    /// So many facts, from the first.
    pub size: u64,
    /// The root over them.
    pub root: TreeHash,
}

/// What a leaf is of: place, time (microseconds since 1970) and kind of the fact in a line, then its body as stored. Two
/// facts that differ in anything differ in this.
pub fn entry(record: &Record) -> Vec<u8> {
    let mut entry = format!("{} {} {}\n", record.position, record.at.0, record.kind).into_bytes();
    entry.extend_from_slice(&record.body);
    entry
}

/// The fact of a leaf; `None` if it is none, or is not written in the one way.
pub fn from_entry(bytes: &[u8]) -> Option<Record> {
    let end = bytes.iter().take(KIND_BYTES_MAX + 64).position(|byte| *byte == b'\n')?;
    let head = std::str::from_utf8(&bytes[..end]).ok()?;
    let body = bytes[end + 1..].to_vec();
    let mut words = head.splitn(3, ' ');
    let (position, at) = (words.next()?.parse().ok()?, words.next()?.parse().ok()?);
    let record = Record { position: Position(position), at: Timestamp(at), kind: words.next()?.to_owned(), body };
    (record.body.len() <= BODY_BYTES_MAX && entry(&record) == bytes).then_some(record)
}

/// The hash of a leaf.
pub fn leaf_hash(entry: &[u8]) -> TreeHash {
    hash(&[&[0], entry])
}

/// The hash of a fact's leaf, without putting its bytes together first.
pub(crate) fn hash_of(position: Position, at: Timestamp, kind: &str, body: &[u8]) -> TreeHash {
    let head = format!("{position} {} {kind}\n", at.0);
    hash(&[&[0], head.as_bytes(), body])
}

/// The hash over two subtrees.
pub fn node_hash(left: TreeHash, right: TreeHash) -> TreeHash {
    hash(&[&[1], &left.0, &right.0])
}

/// The root of no leaves.
pub fn empty_root() -> TreeHash {
    hash(&[])
}

fn hash(parts: &[&[u8]]) -> TreeHash {
    let mut hash = Sha256::new();
    parts.iter().for_each(|part| hash.update(part));
    TreeHash(hash.finalize().into())
}

/// The right edge of a tree: all that it takes to append. One hash for each bit that is set in its size.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Edge {
    size: u64,
    /// Roots of full subtrees, the largest first.
    full: Vec<TreeHash>,
}

impl Edge {
    /// So many leaves.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// Appends a leaf. Returns the hash of the tile that it completes, if it does.
    pub fn push(&mut self, leaf: TreeHash) -> Option<TreeHash> {
        let tile = self.put(leaf, self.size, 0);
        self.size += 1;
        tile
    }

    /// Appends a whole tile; to a tree of whole tiles only.
    pub(crate) fn push_tile(&mut self, tile: TreeHash) {
        debug_assert!(self.size.is_multiple_of(TILE), "tiles come after tiles");
        self.put(tile, self.size / TILE, TILE_LEVEL);
        self.size += TILE;
    }

    /// Appends a subtree of the height `level`, after `count` others like it.
    fn put(&mut self, hash: TreeHash, count: u64, level: u32) -> Option<TreeHash> {
        let (mut hash, mut tile) = (hash, None);
        for merged in 1..=count.trailing_ones() {
            let left = self.full.pop().expect("there is a hash for each bit of the size");
            hash = node_hash(left, hash);
            if level + merged == TILE_LEVEL {
                tile = Some(hash);
            }
        }
        self.full.push(hash);
        tile
    }

    /// The tree as it is.
    pub fn head(&self) -> Head {
        let mut hashes = self.full.iter().rev().copied();
        let root = match hashes.next() {
            None => empty_root(),
            Some(smallest) => hashes.fold(smallest, |right, left| node_hash(left, right)),
        };
        Head { size: self.size, root }
    }
}

/// Where hashes of full subtrees come from.
pub trait Nodes {
    /// Why one cannot be had.
    type Error;

    /// The hash over `count` leaves from the one with index `first` on. `count` is a power of two and divides `first`.
    ///
    /// # Errors
    /// If it cannot be had.
    fn full(&mut self, first: u64, count: u64) -> Result<TreeHash, Self::Error>;
}

/// The root over the leaves with these indexes.
///
/// # Errors
/// Those of `nodes`.
pub fn root<N: Nodes>(nodes: &mut N, first: u64, end: u64) -> Result<TreeHash, N::Error> {
    let count = end.saturating_sub(first);
    if count == 0 {
        return Ok(empty_root());
    }
    if count.is_power_of_two() {
        return nodes.full(first, count);
    }
    let middle = first + split(count);
    Ok(node_hash(root(nodes, first, middle)?, root(nodes, middle, end)?))
}

/// The proof that the leaf with this index is in the tree of this size (RFC 6962, 2.1.1), from the leaf up.
///
/// # Errors
/// Those of `nodes`.
pub fn inclusion<N: Nodes>(nodes: &mut N, index: u64, size: u64) -> Result<Vec<TreeHash>, N::Error> {
    let (mut first, mut end, mut down) = (0, size, Vec::new());
    while end - first > 1 && index < size {
        let middle = first + split(end - first);
        if index < middle {
            down.push(root(nodes, middle, end)?);
            end = middle;
        } else {
            down.push(root(nodes, first, middle)?);
            first = middle;
        }
    }
    down.reverse();
    Ok(down)
}

/// The proof that the tree of size `new` goes on from the one of size `old` (RFC 6962, 2.1.2); empty if either is empty
/// or they are the same.
///
/// # Errors
/// Those of `nodes`.
pub fn consistency<N: Nodes>(nodes: &mut N, old: u64, new: u64) -> Result<Vec<TreeHash>, N::Error> {
    if old == 0 || old >= new {
        return Ok(Vec::new());
    }
    let (mut first, mut end, mut down) = (0, new, Vec::new());
    while end != old {
        let middle = first + split(end - first);
        if old <= middle {
            down.push(root(nodes, middle, end)?);
            end = middle;
        } else {
            down.push(root(nodes, first, middle)?);
            first = middle;
        }
    }
    // The old tree's own root is known to whoever asks.
    if first > 0 {
        down.push(root(nodes, first, end)?);
    }
    down.reverse();
    Ok(down)
}

/// The largest power of two below `count`, which is above 1.
fn split(count: u64) -> u64 {
    1 << (u64::BITS - 1 - (count - 1).leading_zeros())
}

/// The root that follows from a leaf and its proof (RFC 9162, 2.1.3.2); `None` if such a proof cannot be.
pub fn root_from_inclusion(leaf: TreeHash, index: u64, size: u64, proof: &[TreeHash]) -> Option<TreeHash> {
    if index >= size {
        return None;
    }
    let (mut node, mut last, mut hash) = (index, size - 1, leaf);
    for sibling in proof {
        if last == 0 {
            return None;
        }
        if node & 1 == 1 || node == last {
            hash = node_hash(*sibling, hash);
            while node & 1 == 0 && node != 0 {
                node >>= 1;
                last >>= 1;
            }
        } else {
            hash = node_hash(hash, *sibling);
        }
        node >>= 1;
        last >>= 1;
    }
    (last == 0).then_some(hash)
}

/// Whether the proof shows that `new` goes on from `old` (RFC 9162, 2.1.4.2).
pub fn goes_on(old: Head, new: Head, proof: &[TreeHash]) -> bool {
    if old.size == 0 || old.size >= new.size {
        let same = old.size == 0 && old.root == empty_root() || old == new;
        return same && proof.is_empty();
    }
    // What is a full subtree from the first leaf on needs no hash of its own.
    let seed = old.size.is_power_of_two().then_some(old.root);
    let mut hashes = seed.into_iter().chain(proof.iter().copied());
    let (mut node, mut last) = (old.size - 1, new.size - 1);
    while node & 1 == 1 {
        node >>= 1;
        last >>= 1;
    }
    let Some(begin) = hashes.next() else { return false };
    let (mut of_old, mut of_new) = (begin, begin);
    for hash in hashes {
        if last == 0 {
            return false;
        }
        if node & 1 == 1 || node == last {
            of_old = node_hash(hash, of_old);
            of_new = node_hash(hash, of_new);
            while node & 1 == 0 && node != 0 {
                node >>= 1;
                last >>= 1;
            }
        } else {
            of_new = node_hash(of_new, hash);
        }
        node >>= 1;
        last >>= 1;
    }
    last == 0 && of_old == old.root && of_new == new.root
}
