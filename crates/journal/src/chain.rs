//! The chained checksum over all facts. Invariant: the value at a position covers every bit of every fact up to it,
//! so that altered, missing, added or reordered facts are noticed and the first of them is named.

use std::fmt;

use ostler_model::ids::Position;
use ostler_model::time::Timestamp;
use sha2::{Digest, Sha256};

/// The chain's value after one fact.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct Chain(pub(crate) [u8; 32]);

impl Chain {
    /// The value before all facts.
    pub(crate) const START: Self = Self([0; 32]);

    /// SHA-256 over the previous value, position, time, and kind and body with their lengths; numbers are 64 bits,
    /// little endian. The lengths keep bytes from moving between kind and body unnoticed.
    pub(crate) fn next(self, position: Position, at: Timestamp, kind: &str, body: &[u8]) -> Self {
        let mut hash = Sha256::new();
        hash.update(self.0);
        hash.update(position.0.to_le_bytes());
        hash.update(at.0.to_le_bytes());
        hash.update((kind.len() as u64).to_le_bytes());
        hash.update(kind);
        hash.update((body.len() as u64).to_le_bytes());
        hash.update(body);
        Self(hash.finalize().into())
    }

    /// The value from stored bytes; `None` unless they are 32.
    pub(crate) fn from_bytes(bytes: &[u8]) -> Option<Self> {
        bytes.try_into().ok().map(Self)
    }
}

impl fmt::Debug for Chain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&to_hex(&self.0[..8]))
    }
}

/// A place in the journal together with the chain's value there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Mark {
    pub(crate) position: Position,
    pub(crate) chain: Chain,
}

impl Mark {
    /// Before all facts.
    pub(crate) const START: Self = Self { position: Position(0), chain: Chain::START };

    /// The mark after one more fact.
    pub(crate) fn next(self, at: Timestamp, kind: &str, body: &[u8]) -> Self {
        let position = Position(self.position.0 + 1);
        Self { position, chain: self.chain.next(position, at, kind, body) }
    }
}

/// SHA-256 over `parts`, each preceded by its length.
pub(crate) fn digest(parts: &[&[u8]]) -> [u8; 32] {
    let mut hash = Sha256::new();
    for part in parts {
        hash.update((part.len() as u64).to_le_bytes());
        hash.update(part);
    }
    hash.finalize().into()
}

/// Lower-case hexadecimal digits.
pub(crate) fn to_hex(bytes: &[u8]) -> String {
    let digit = |nibble: u8| char::from_digit(u32::from(nibble), 16).expect("a nibble is one hexadecimal digit");
    bytes.iter().flat_map(|byte| [digit(byte >> 4), digit(byte & 15)]).collect()
}

/// The bytes of hexadecimal digits; `None` if any is something else, or their number is odd.
pub(crate) fn from_hex(text: &str) -> Option<Vec<u8>> {
    let digit = |byte: u8| char::from(byte).to_digit(16).and_then(|value| u8::try_from(value).ok());
    let (pairs, rest) = text.as_bytes().as_chunks::<2>();
    if !rest.is_empty() {
        return None;
    }
    pairs.iter().map(|[high, low]| Some(digit(*high)? << 4 | digit(*low)?)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_part_counts() {
        let of = |at, kind: &str, body: &[u8]| Mark::START.next(Timestamp(at), kind, body).chain;
        let all = [of(1, "ab", b"c"), of(2, "ab", b"c"), of(1, "a", b"bc"), of(1, "ab", b"d"), of(1, "abc", b"")];
        for (n, one) in all.iter().enumerate() {
            assert!(all[n + 1..].iter().all(|other| other != one), "case {n}");
        }
        let twice = Mark::START.next(Timestamp(1), "ab", b"c").next(Timestamp(1), "ab", b"c");
        assert_eq!(twice.position, Position(2));
        assert_ne!(twice.chain, all[0]);
    }

    #[test]
    fn hex_reads_back() {
        assert_eq!(to_hex(&[0, 0x9f, 0xff]), "009fff");
        assert_eq!(from_hex("009fFF"), Some(vec![0, 0x9f, 0xff]));
        for bad in ["0", "0g", "é", "+1"] {
            assert_eq!(from_hex(bad), None, "{bad}");
        }
    }
}
