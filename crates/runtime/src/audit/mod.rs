//! The record: what an auditor can check. Facts are the leaves of a Merkle tree (RFC 6962), and the estate's key signs
//! checkpoints of it (C2SP tlog-checkpoint), which are kept in the home and where somebody else keeps them.
//!
//! Invariant: no checkpoint is signed that does not go on from every one that was signed before under the same origin.
//! Where the journal does not, ostler goes on with its work, says so, and signs nothing until a person has accepted the
//! loss; from then on it signs under another origin, so that nobody takes the one for the other.

pub mod check;
pub mod follow;
pub mod keep;
pub mod note;
pub mod proof;
pub mod report;

use std::path::{Path, PathBuf};

use ostler_journal::tree::Head;
use ostler_journal::{CHECKPOINTS_FOLDER, Journal, ReadError, Sqlite, TreeError};
use ostler_manager::Knowledge;
use ostler_model::ids::SecretId;

use zeroize::Zeroizing;

use self::keep::Kept as KeptCheckpoint;
use self::note::{Checkpoint, NoCheckpoint, Origin, PublicKey};

/// Where the journal's caller notes from which fact on it is another one than was witnessed.
const SINCE: &str = "audit/since";

/// Why nothing was signed.
#[derive(Debug, thiserror::Error)]
pub enum NotSigned {
    /// Nothing is declared yet.
    #[error("nothing was declared yet")]
    NoEstate,
    /// There is no key.
    #[error("the estate has no key yet: ostler makes it when it starts")]
    NoKey,
    /// The tree is not there yet.
    #[error("the tree over all facts is not made yet, or the facts do not fit what was signed before")]
    NoTree,
    /// The facts are not those that were signed before.
    #[error("the facts are not those of checkpoint {}, which was signed before{}", differs.size, up_to(*agrees))]
    Differs {
        /// The checkpoint.
        differs: Head,
        /// Up to which fact an older checkpoint agrees, if that was looked for.
        agrees: Option<u64>,
    },
    /// What is kept is no checkpoint of this estate.
    #[error("`{path}` is no checkpoint of this estate")]
    Foreign {
        /// The file.
        path: String,
        /// Why not.
        #[source]
        cause: NoCheckpoint,
    },
    /// The journal cannot be read.
    #[error(transparent)]
    Journal(#[from] ReadError),
    /// The tree cannot be made.
    #[error(transparent)]
    Tree(#[from] TreeError),
    /// It cannot be kept.
    #[error("cannot keep the checkpoint in `{path}`")]
    Keep {
        /// The folder.
        path: String,
        /// Why not.
        #[source]
        cause: std::io::Error,
    },
}

fn up_to(agrees: Option<u64>) -> String {
    match agrees {
        None => String::new(),
        Some(0) => ": no older one agrees with them".to_owned(),
        Some(agrees) => format!(": up to fact {agrees} they are"),
    }
}

impl NotSigned {
    /// What a person can do.
    pub fn remedy(&self) -> String {
        match self {
            Self::NoEstate => "run `ostler up FILE` first".to_owned(),
            Self::NoKey => "start ostler once: `ostler up FILE`".to_owned(),
            Self::NoTree => "try again in a moment; `ostler status` tells what is wrong with it".to_owned(),
            Self::Differs { .. } => {
                "see what is wrong with `ostler audit verify`, and restore the newest backup of the home; \
                 if the loss is to be accepted, start ostler with `--accept-lost-tail`: it is recorded"
                    .to_owned()
            }
            Self::Foreign { path, .. } => format!("move `{path}` away; who put it there?"),
            Self::Journal(error) => error.remedy(),
            Self::Tree(error) => error.remedy(),
            Self::Keep { path, .. } => format!("check the disk and the permissions of `{path}`"),
        }
    }
}

/// Which of the checkpoints that are kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Which {
    All,
    /// The newest of each place: it vouches for those before it.
    Newest,
}

/// What signing takes besides the journal.
pub(crate) struct Signer {
    origin: Origin,
    seed: Zeroizing<Vec<u8>>,
    pub(crate) key: PublicKey,
    pub(crate) witness: Option<PathBuf>,
}

impl Signer {
    /// The estate's key, and under which origin it signs.
    pub(crate) fn of(journal: &Sqlite, known: &Knowledge) -> Result<Self, NotSigned> {
        let (Some(estate), Some(id)) = (&known.estate, known.uuid) else { return Err(NotSigned::NoEstate) };
        let seed = journal.secret(&SecretId::of_drills())?.ok_or(NotSigned::NoKey)?;
        let seed = Zeroizing::new(seed.bytes().to_vec());
        let key = PublicKey::of_seed(&seed).ok_or(NotSigned::NoKey)?;
        let since = journal.meta_get(SINCE)?.and_then(|text| String::from_utf8(text).ok()?.parse().ok());
        let origin = Origin { estate: estate.name.clone(), id, since };
        Ok(Self { origin, seed, key, witness: estate.audit.witness.clone() })
    }

    /// The last fact before the loss that was accepted last.
    fn since(&self) -> Option<u64> {
        self.origin.since
    }

    /// What was signed under the same origin and is kept, in the home and by the witness: all of it, or the newest of each.
    fn signed(&self, home: &Path, which: Which) -> Result<Vec<Checkpoint>, NotSigned> {
        let own = keep::list(&home.join(CHECKPOINTS_FOLDER)).map_err(|cause| keep_failed(home, cause))?;
        // A witness that is not there now has nothing to say; what is signed is handed to it when it is.
        let theirs = self.witness.as_ref().map(|witness| keep::list(&self.place_at(witness)).unwrap_or_default());
        let mut read = Vec::new();
        for mut kept in [own, theirs.unwrap_or_default()] {
            kept.retain(|kept| kept.since == self.origin.since);
            let first = match which {
                Which::All => 0,
                Which::Newest => kept.len().saturating_sub(1),
            };
            for kept in &kept[first..] {
                read.push(self.read(kept)?);
            }
        }
        Ok(read)
    }

    fn read(&self, kept: &KeptCheckpoint) -> Result<Checkpoint, NotSigned> {
        let foreign = |cause| NotSigned::Foreign { path: kept.path.display().to_string(), cause };
        let text = keep::read(&kept.path).map_err(|cause| keep_failed(&kept.path, cause))?;
        let checkpoint = note::read(&text, &self.key).map_err(foreign)?;
        match checkpoint.origin == self.origin && checkpoint.head.size == kept.size {
            true => Ok(checkpoint),
            false => Err(foreign(NoCheckpoint::Origin(checkpoint.origin.to_string()))),
        }
    }

    /// The heads that were signed under the same origin.
    pub(crate) fn heads(&self, home: &Path, which: Which) -> Result<Vec<Head>, NotSigned> {
        Ok(self.signed(home, which)?.into_iter().map(|checkpoint| checkpoint.head).collect())
    }

    /// Where a witness keeps what this estate signs.
    pub(crate) fn place_at(&self, witness: &Path) -> PathBuf {
        keep::place_at(witness, &self.origin)
    }

    /// Signs the tree, which goes on from every one that was signed before under the same origin, and keeps that in the
    /// home: as text. What was signed last is given again if there is nothing new.
    pub(crate) fn sign(&self, head: Head, home: &Path) -> Result<String, NotSigned> {
        let signed = self.heads(home, Which::Newest)?;
        let other = signed.into_iter().find(|old| old.size > head.size || old.size == head.size && *old != head);
        if let Some(differs) = other {
            return Err(NotSigned::Differs { differs, agrees: None });
        }
        let checkpoint = Checkpoint { origin: self.origin.clone(), head };
        let text = note::sign(&checkpoint, &self.seed).ok_or(NotSigned::NoKey)?;
        let folder = home.join(CHECKPOINTS_FOLDER);
        keep::put_key(&folder, &self.key.named(&self.origin.to_string()))
            .and_then(|()| keep::put(&folder, &checkpoint, &text))
            .map_err(|cause| keep_failed(&folder, cause))?;
        Ok(text)
    }

    /// Hands the witness everything that it does not have yet. Returns how much that was.
    pub(crate) fn hand_over(&self, home: &Path) -> Result<usize, NotSigned> {
        let Some(witness) = &self.witness else { return Ok(0) };
        let folder = self.place_at(witness);
        let fail = |cause| keep_failed(&folder, cause);
        keep::put_key(&folder, &self.key.named(&self.origin.to_string())).map_err(fail)?;
        keep::copy_missing(&home.join(CHECKPOINTS_FOLDER), &folder).map_err(fail)
    }
}

fn keep_failed(path: &Path, cause: std::io::Error) -> NotSigned {
    NotSigned::Keep { path: path.display().to_string(), cause }
}
