//! The tree against the definition in RFC 6962, written down again as it stands there, with every leaf in memory.
#![allow(clippy::unwrap_used, reason = "helpers of tests")]

use std::collections::HashMap;
use std::convert::Infallible;

use ostler_journal::tree::{
    Edge, Head, Nodes, TILE, TreeHash, consistency, empty_root, entry, from_entry, goes_on, inclusion, leaf_hash,
    node_hash, root, root_from_inclusion,
};
use ostler_journal::{KIND_BYTES_MAX, Record};
use ostler_model::ids::Position;
use ostler_model::time::Timestamp;
use proptest::prelude::*;
use sha2::{Digest, Sha256};

/// The definitions of RFC 6962, over leaves by their places. What was hashed once is remembered.
struct Naive {
    leaves: Vec<Vec<u8>>,
    known: HashMap<(usize, usize), [u8; 32]>,
}

impl Naive {
    fn new(count: usize) -> Self {
        Self { leaves: leaves(count), known: HashMap::new() }
    }

    /// MTH of 2.1.
    fn mth(&mut self, from: usize, to: usize) -> [u8; 32] {
        if let Some(known) = self.known.get(&(from, to)) {
            return *known;
        }
        let hash = match to - from {
            0 => Sha256::digest(b"").into(),
            1 => Sha256::digest([&[0], self.leaves[from].as_slice()].concat()).into(),
            n => {
                let middle = from + split(n);
                Sha256::digest([&[1][..], &self.mth(from, middle), &self.mth(middle, to)].concat()).into()
            }
        };
        self.known.insert((from, to), hash);
        hash
    }

    /// PATH of 2.1.1.
    fn path(&mut self, m: usize, from: usize, to: usize) -> Vec<[u8; 32]> {
        if to - from == 1 {
            return Vec::new();
        }
        let middle = from + split(to - from);
        let (mut path, sibling) = match m < middle - from {
            true => (self.path(m, from, middle), self.mth(middle, to)),
            false => (self.path(m - (middle - from), middle, to), self.mth(from, middle)),
        };
        path.push(sibling);
        path
    }

    /// SUBPROOF of 2.1.2.
    fn subproof(&mut self, m: usize, from: usize, to: usize, known: bool) -> Vec<[u8; 32]> {
        if m == to - from {
            return if known { Vec::new() } else { vec![self.mth(from, to)] };
        }
        let middle = from + split(to - from);
        let (mut proof, sibling) = match m <= middle - from {
            true => (self.subproof(m, from, middle, known), self.mth(middle, to)),
            false => (self.subproof(m - (middle - from), middle, to, false), self.mth(from, middle)),
        };
        proof.push(sibling);
        proof
    }

    fn head(&mut self, size: usize) -> Head {
        Head { size: size as u64, root: TreeHash(self.mth(0, size)) }
    }
}

/// The largest power of two below n.
fn split(n: usize) -> usize {
    let mut k = 1;
    while k * 2 < n {
        k *= 2;
    }
    k
}

fn leaves(count: usize) -> Vec<Vec<u8>> {
    (0..count).map(|n| format!("leaf {n}").into_bytes()).collect()
}

/// Full subtrees out of all leaves; what was hashed once is remembered.
struct All {
    leaves: Vec<TreeHash>,
    known: HashMap<(u64, u64), TreeHash>,
}

impl Nodes for All {
    type Error = Infallible;

    fn full(&mut self, first: u64, count: u64) -> Result<TreeHash, Infallible> {
        assert!(count.is_power_of_two() && first.is_multiple_of(count));
        if count == 1 {
            return Ok(self.leaves[usize::try_from(first).unwrap()]);
        }
        if let Some(known) = self.known.get(&(first, count)) {
            return Ok(*known);
        }
        let half = count / 2;
        let hash = node_hash(self.full(first, half)?, self.full(first + half, half)?);
        self.known.insert((first, count), hash);
        Ok(hash)
    }
}

fn nodes(leaves: &[Vec<u8>]) -> All {
    All { leaves: leaves.iter().map(|leaf| leaf_hash(leaf)).collect(), known: HashMap::new() }
}

fn plain(hashes: &[TreeHash]) -> Vec<[u8; 32]> {
    hashes.iter().map(|hash| hash.0).collect()
}

const SIZES: usize = 300;

#[test]
fn every_size_has_the_root_of_the_definition() {
    let mut naive = Naive::new(3 * SIZES);
    let (mut edge, mut nodes) = (Edge::default(), nodes(&naive.leaves));
    for size in 0..=3 * SIZES {
        assert_eq!(edge.head(), naive.head(size));
        assert_eq!(root(&mut nodes, 0, size as u64).unwrap().0, naive.mth(0, size), "{size}");
        let Some(next) = naive.leaves.get(size) else { break };
        let tile = edge.push(leaf_hash(next));
        let is_whole = (size as u64 + 1).is_multiple_of(TILE);
        let of_tile = is_whole.then(|| TreeHash(naive.mth(size + 1 - TILE as usize, size + 1)));
        assert_eq!(tile, of_tile, "{size}");
    }
    assert_eq!(empty_root().0, naive.mth(0, 0));
}

/// What a proof must not be: shorter, altered or longer at any place.
fn spoilt(proof: &[TreeHash]) -> Vec<Vec<TreeHash>> {
    let mut all = Vec::new();
    for n in 0..proof.len() {
        let change = |change: &dyn Fn(&mut Vec<TreeHash>)| {
            let mut spoilt = proof.to_vec();
            change(&mut spoilt);
            spoilt
        };
        all.push(change(&|proof| {
            proof.remove(n);
        }));
        all.push(change(&|proof| proof[n].0[n % 32] ^= 1));
        all.push(change(&|proof| proof.insert(n, TreeHash([7; 32]))));
    }
    all
}

#[test]
fn every_leaf_of_every_size_is_proven_as_defined_and_nothing_else_is() {
    let mut naive = Naive::new(SIZES);
    let mut nodes = nodes(&naive.leaves);
    for size in 1..=SIZES {
        let top = naive.head(size).root;
        for index in 0..size {
            let proof = inclusion(&mut nodes, index as u64, size as u64).unwrap();
            assert_eq!(plain(&proof), naive.path(index, 0, size), "{index} of {size}");
            let leaf = leaf_hash(&naive.leaves[index]);
            let of = |index: usize, proof: &[TreeHash]| {
                root_from_inclusion(leaf, index as u64, size as u64, proof) == Some(top)
            };
            assert!(of(index, &proof), "{index} of {size}");
            assert!(size == 1 || !of((index + 1) % size, &proof), "{index} of {size}");
            assert!(!of(size, &proof), "there is no such leaf");
            if size <= 40 || (index + size) % 17 == 0 {
                assert!(spoilt(&proof).iter().all(|spoilt| !of(index, spoilt)), "{index} of {size}");
            }
        }
    }
}

#[test]
fn every_two_sizes_are_consistent_as_defined() {
    let mut naive = Naive::new(SIZES);
    let mut nodes = nodes(&naive.leaves);
    let forged = |head: Head| Head { root: TreeHash([7; 32]), ..head };
    for new in 1..=SIZES {
        let now = naive.head(new);
        for old in 1..=new {
            let proof = consistency(&mut nodes, old as u64, new as u64).unwrap();
            assert_eq!(plain(&proof), naive.subproof(old, 0, new, true), "{old} to {new}");
            let then = naive.head(old);
            assert!(goes_on(then, now, &proof), "{old} to {new}");
            assert!(!goes_on(forged(then), now, &proof) && !goes_on(then, forged(now), &proof), "{old} to {new}");
            if new <= 40 || (old + new) % 17 == 0 {
                assert!(spoilt(&proof).iter().all(|spoilt| !goes_on(then, now, spoilt)), "{old} to {new}");
            }
        }
        assert!(goes_on(naive.head(0), now, &[]), "everything goes on from nothing");
        assert!(!goes_on(now, naive.head(0), &[]), "nothing is taken back");
        assert!(new == 1 || !goes_on(now, naive.head(new - 1), &[]), "nothing is taken back");
    }
}

proptest! {
    #[test]
    fn a_fact_and_its_leaf_are_one(position in 1..u64::MAX, at: i64, kind in "[!-~]{1,64}", body: Vec<u8>, at_byte: usize, bit in 0..8_u8) {
        prop_assume!(kind.len() <= KIND_BYTES_MAX);
        let record = Record { position: Position(position), at: Timestamp(at), kind, body };
        let bytes = entry(&record);
        prop_assert_eq!(from_entry(&bytes), Some(record.clone()));
        let mut altered = bytes;
        let place = at_byte % altered.len();
        altered[place] ^= 1 << bit;
        prop_assert_ne!(from_entry(&altered), Some(record));
    }

    #[test]
    fn no_bytes_are_a_fact_in_two_ways(bytes: Vec<u8>) {
        if let Some(record) = from_entry(&bytes) {
            prop_assert_eq!(entry(&record), bytes);
        }
    }
}
