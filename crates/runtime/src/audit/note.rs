//! Checkpoints as signed notes: C2SP signed-note and tlog-checkpoint, with Ed25519.
//!
//! Invariant: a checkpoint reads back as exactly the bytes that were written, or it is refused. Other people's signature
//! lines below ours (a witness's) are left alone, as the format demands.

use std::fmt;
use std::str::FromStr;

use aws_lc_rs::signature::{ED25519, Ed25519KeyPair, KeyPair as _, UnparsedPublicKey};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ostler_journal::tree::{Head, TreeHash};
use ostler_model::ids::{EstateName, EstateUuid};
use sha2::{Digest, Sha256};

/// A checkpoint has a few hundred bytes; with the signatures of many witnesses some thousands.
pub const BYTES_MAX: usize = 16 * 1024;
/// What the specification calls Ed25519.
const ED25519_KIND: u8 = 1;

/// Whose log it is: `ostler/ESTATE/UUID`, and `/since-N` where all that came after fact N was lost once, and a person
/// accepted that.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Origin {
    /// The estate.
    pub estate: EstateName,
    /// Its id.
    pub id: EstateUuid,
    /// The last fact before the loss.
    pub since: Option<u64>,
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ostler/{}/{}", self.estate, self.id)?;
        self.since.map_or(Ok(()), |since| write!(f, "/since-{since}"))
    }
}

impl FromStr for Origin {
    type Err = NoCheckpoint;

    fn from_str(text: &str) -> Result<Self, NoCheckpoint> {
        let other = || NoCheckpoint::Origin(text.chars().take(120).collect());
        let mut parts = text.split('/');
        let (Some("ostler"), Some(estate), Some(id)) = (parts.next(), parts.next(), parts.next()) else {
            return Err(other());
        };
        let since = match (parts.next(), parts.next()) {
            (None, _) => None,
            (Some(since), None) => {
                Some(since.strip_prefix("since-").and_then(|since| since.parse().ok()).ok_or_else(other)?)
            }
            (Some(_), Some(_)) => return Err(other()),
        };
        let (Ok(estate), Ok(id)) = (estate.parse(), id.parse()) else { return Err(other()) };
        let origin = Self { estate, id, since };
        if origin.to_string() == text { Ok(origin) } else { Err(other()) }
    }
}

/// What was signed: so many facts with this root.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Checkpoint {
    /// Whose.
    pub origin: Origin,
    /// Of how many facts, and their root.
    pub head: Head,
}

impl Checkpoint {
    /// What is signed.
    fn body(&self) -> String {
        format!("{}\n{}\n{}\n", self.origin, self.head.size, STANDARD.encode(self.head.root.0))
    }
}

/// Why something is no checkpoint.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NoCheckpoint {
    /// It cannot be read at all.
    #[error("it is not a signed checkpoint")]
    Form,
    /// Of something else.
    #[error("it is a checkpoint of another log: `{0}`")]
    Origin(String),
    /// Nobody with this key signed it.
    #[error("it was not signed with the key {0}")]
    OtherKey(String),
    /// It says something else than what was signed.
    #[error("what it says is not what was signed")]
    Signature,
}

/// A public key, Ed25519.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct PublicKey([u8; 32]);

impl fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.to_hex())
    }
}

impl PublicKey {
    /// That of a key of the sealed store's.
    pub fn of_seed(seed: &[u8]) -> Option<Self> {
        let pair = Ed25519KeyPair::from_seed_unchecked(seed).ok()?;
        pair.public_key().as_ref().try_into().ok().map(Self)
    }

    /// In hexadecimal digits, as the certificates of drills write it: it is the same key.
    pub fn to_hex(self) -> String {
        crate::proof::to_hex(&self.0)
    }

    /// As C2SP writes a key: with a name, and how it is recognised.
    pub fn named(self, name: &str) -> String {
        format!("{name}+{}+{}", crate::proof::to_hex(&self.id(name)), STANDARD.encode(self.typed()))
    }

    fn typed(self) -> Vec<u8> {
        [&[ED25519_KIND], &self.0[..]].concat()
    }

    /// The first bytes of a signature, by which its key is recognised.
    fn id(self, name: &str) -> [u8; 4] {
        let hash: [u8; 32] = Sha256::digest([name.as_bytes(), b"\n", &self.typed()].concat()).into();
        [hash[0], hash[1], hash[2], hash[3]]
    }
}

impl FromStr for PublicKey {
    type Err = String;

    /// Either form.
    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || {
            "this is no public key: 64 hexadecimal digits, or NAME+ID+KEY as in the file `checkpoints/key.txt` of the home".to_owned()
        };
        let text = text.trim();
        let Some((name, rest)) = text.split_once('+') else {
            let bytes = crate::proof::from_hex(&text.to_ascii_lowercase()).ok_or_else(wrong)?;
            return bytes.try_into().map(Self).map_err(|_| wrong());
        };
        let (id, key) = rest.split_once('+').ok_or_else(wrong)?;
        let bytes = STANDARD.decode(key).map_err(|_| wrong())?;
        let key = match bytes.split_first() {
            Some((&ED25519_KIND, key)) => Self(key.try_into().map_err(|_| wrong())?),
            _ => return Err(wrong()),
        };
        if crate::proof::to_hex(&key.id(name)) == id { Ok(key) } else { Err(wrong()) }
    }
}

/// Signs it, with a key of the sealed store's; `None` if that is no key.
pub fn sign(checkpoint: &Checkpoint, seed: &[u8]) -> Option<String> {
    let pair = Ed25519KeyPair::from_seed_unchecked(seed).ok()?;
    let (body, name) = (checkpoint.body(), checkpoint.origin.to_string());
    let id = PublicKey::of_seed(seed)?.id(&name);
    let signature = STANDARD.encode([&id[..], pair.sign(body.as_bytes()).as_ref()].concat());
    Some(format!("{body}\n— {name} {signature}\n"))
}

/// Reads a checkpoint and finds out whether this key has signed it.
///
/// # Errors
/// Why it is none.
pub fn read(text: &str, key: &PublicKey) -> Result<Checkpoint, NoCheckpoint> {
    if text.len() > BYTES_MAX {
        return Err(NoCheckpoint::Form);
    }
    let (body, signatures) = text.split_once("\n\n").ok_or(NoCheckpoint::Form)?;
    let mut lines = body.split('\n');
    let (Some(origin), Some(size), Some(root), None) = (lines.next(), lines.next(), lines.next(), lines.next()) else {
        return Err(NoCheckpoint::Form);
    };
    let origin: Origin = origin.parse()?;
    let size = size.parse().map_err(|_| NoCheckpoint::Form)?;
    let root = STANDARD.decode(root).ok().and_then(|root| root.try_into().ok()).ok_or(NoCheckpoint::Form)?;
    let checkpoint = Checkpoint { origin, head: Head { size, root: TreeHash(root) } };
    let signed = checkpoint.body();
    if signed.trim_end_matches('\n') != body {
        return Err(NoCheckpoint::Form);
    }
    let name = checkpoint.origin.to_string();
    let mut is_signed = false;
    let lines = signatures.strip_suffix('\n').ok_or(NoCheckpoint::Form)?.split('\n');
    for line in lines {
        let (who, signature) =
            line.strip_prefix("— ").and_then(|line| line.split_once(' ')).ok_or(NoCheckpoint::Form)?;
        let bytes = STANDARD.decode(signature).map_err(|_| NoCheckpoint::Form)?;
        let (id, signature) = bytes.split_first_chunk::<4>().ok_or(NoCheckpoint::Form)?;
        if who != name || *id != key.id(&name) {
            continue; // somebody else's
        }
        let verified = UnparsedPublicKey::new(&ED25519, &key.0).verify(signed.as_bytes(), signature);
        verified.map_err(|_| NoCheckpoint::Signature)?;
        is_signed = true;
    }
    if is_signed { Ok(checkpoint) } else { Err(NoCheckpoint::OtherKey(key.to_hex())) }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    pub(crate) const SEED: [u8; 32] = [9; 32];

    pub(crate) fn checkpoint(size: u64) -> Checkpoint {
        let origin = Origin { estate: "bookshop".parse().unwrap(), id: EstateUuid::from_random([7; 16]), since: None };
        Checkpoint { origin, head: Head { size, root: TreeHash([3; 32]) } }
    }

    #[test]
    fn what_is_signed_reads_back() {
        let key = PublicKey::of_seed(&SEED).unwrap();
        for since in [None, Some(0), Some(1234)] {
            let mut checkpoint = checkpoint(41);
            checkpoint.origin.since = since;
            let text = sign(&checkpoint, &SEED).unwrap();
            assert_eq!(read(&text, &key), Ok(checkpoint.clone()));
            let other = PublicKey::of_seed(&[1; 32]).unwrap();
            assert_eq!(read(&text, &other), Err(NoCheckpoint::OtherKey(other.to_hex())));
            // A witness has signed it as well: that is nothing to us.
            let theirs = format!("{text}— witness.example/one {}\n", STANDARD.encode([5; 76]));
            assert_eq!(read(&theirs, &key), Ok(checkpoint.clone()));
            for name in [checkpoint.origin.to_string(), "any".to_owned()] {
                assert_eq!(key.named(&name).parse(), Ok(key));
            }
        }
        assert_eq!(key.to_hex().parse(), Ok(key));
        for wrong in ["", "abc", "a+b+c", "ostler+00000000+AQkJCQkJCQkJCQkJCQkJCQkJCQkJCQkJCQkJCQkJCQk="] {
            assert!(wrong.parse::<PublicKey>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn the_form_is_fixed() {
        insta::assert_snapshot!(sign(&checkpoint(20_852_163), &SEED).unwrap());
    }

    #[test]
    fn a_flipped_bit_anywhere_is_found() {
        let key = PublicKey::of_seed(&SEED).unwrap();
        let text = sign(&checkpoint(1_000_000), &SEED).unwrap().into_bytes();
        for at in 0..text.len() {
            for bit in 0..8 {
                let mut flipped = text.clone();
                flipped[at] ^= 1 << bit;
                let read =
                    std::str::from_utf8(&flipped).map_err(|_| NoCheckpoint::Form).and_then(|text| read(text, &key));
                assert!(read.is_err(), "bit {bit} of byte {at}");
            }
        }
        let text = String::from_utf8(text).unwrap();
        for (length, _) in text.char_indices() {
            assert!(read(&text[..length], &key).is_err(), "{length}");
        }
        for wrong in [format!("{text} "), format!("{text}\n"), format!("\n{text}"), text.replace("1000000", "01000000")]
        {
            assert!(read(&wrong, &key).is_err(), "{wrong}");
        }
    }
}
