//! `ostler audit verify`: whether a journal holds what was witnessed, fact by fact, without a manager and without its key.
//!
//! Invariant: nothing that the home says about itself is believed: every fact is hashed again, and what follows is compared
//! with every checkpoint that is kept, in the home, by the witness, and by whoever asks.

use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use ostler_journal::tree::{Edge, TILE, entry, leaf_hash};
use ostler_journal::{CHECKPOINTS_FOLDER, ReadError, Reader};
use ostler_manager::FactKind;
use ostler_model::estate::Estate;
use ostler_model::ids::{EstateUuid, Position};
use serde::Serialize;

use super::keep;
use super::note::{self, Checkpoint, NoCheckpoint, PublicKey};
use crate::envelope;

/// What is asked.
#[derive(Clone, Debug, Default)]
pub struct Asked {
    /// The key that must have signed; that in the home if `None`.
    pub key: Option<PublicKey>,
    /// Checkpoints that somebody else kept: files, or folders of them.
    pub checkpoints: Vec<PathBuf>,
}

/// What was found where every fact is as it was recorded.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Sound {
    /// So many facts.
    pub facts: u64,
    /// The root over them, in hexadecimal digits.
    pub root: String,
    /// The key by which all checkpoints are signed.
    pub key: Option<String>,
    /// How many checkpoints agree.
    pub checkpoints: usize,
    /// The newest of them: of how many facts it is.
    pub signed: u64,
    /// Where the declared witness keeps its own.
    pub witness: Option<PathBuf>,
    /// The newest that somebody other than the home keeps.
    pub witnessed: Option<u64>,
    /// Checkpoints of facts that were lost: a person accepted that. Of how many facts each was.
    pub lost: Vec<u64>,
    /// Why the facts are not as well vouched for as was declared.
    pub lacks: Vec<String>,
}

impl Sound {
    /// Whether all is as it is meant to be: what was signed is there, and somebody else vouches for it where that is
    /// declared.
    pub fn is_whole(&self) -> bool {
        self.lost.is_empty() && self.lacks.is_empty()
    }
}

/// Why a journal is not what was recorded, or cannot be looked at.
#[derive(Debug, thiserror::Error)]
pub enum NotSound {
    /// A fact is damaged, or the journal cannot be read.
    #[error(transparent)]
    Journal(#[from] ReadError),
    /// The facts are other ones than were signed.
    #[error("{} not what was recorded: its checkpoint `{}` does not follow from {}", facts(*first, *last), path.display(), if first == last { "it" } else { "them" })]
    Altered {
        /// The first that may be another one.
        first: u64,
        /// The last of those of which at least one is another one.
        last: u64,
        /// The checkpoint.
        path: PathBuf,
    },
    /// Facts that were signed are missing.
    #[error("the facts from {} on are missing: `{}` is the checkpoint of {size} facts, and the journal ends at {end}", end + 1, path.display())]
    Missing {
        /// Where the journal ends.
        end: u64,
        /// Of how many facts the checkpoint is.
        size: u64,
        /// The checkpoint.
        path: PathBuf,
    },
    /// A checkpoint is none.
    #[error("the checkpoint `{}` cannot be relied on", path.display())]
    Checkpoint {
        /// Its file.
        path: PathBuf,
        /// Why not.
        #[source]
        cause: NoCheckpoint,
    },
    /// A file cannot be read.
    #[error("cannot read `{}`", path.display())]
    Io {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        cause: std::io::Error,
    },
    /// The key is not there.
    #[error("there are checkpoints, and no public key in `{}`", path.display())]
    NoKey {
        /// Where it would be.
        path: PathBuf,
    },
}

fn facts(first: u64, last: u64) -> String {
    match first == last {
        true => format!("fact {first} is"),
        false => format!("at least one of the facts {first} to {last} is"),
    }
}

impl NotSound {
    /// What a person can do.
    pub fn remedy(&self) -> String {
        let keep = "keep the home as it is, for examination, and restore the newest backup of it that verifies with `ostler home restore`";
        match self {
            Self::Journal(error) => error.remedy(),
            Self::Altered { .. } | Self::Missing { .. } => keep.to_owned(),
            Self::Checkpoint { cause: NoCheckpoint::Origin(_), .. } => "compare with a checkpoint of this estate".to_owned(),
            Self::Checkpoint { .. } => {
                "somebody has changed it, or signed it with another key: compare with one that was kept elsewhere, with `--checkpoint FILE`"
                    .to_owned()
            }
            Self::Io { .. } => "check the path, and that you may read it".to_owned(),
            Self::NoKey { .. } => "name the public key with `--key`".to_owned(),
        }
    }

    /// The first fact that may not be what was recorded.
    pub fn first_bad(&self) -> Option<u64> {
        match self {
            Self::Journal(ReadError::Damaged(damage)) => Some(damage.first_bad().0),
            Self::Altered { first, .. } => Some(*first),
            Self::Missing { end, .. } => Some(end + 1),
            Self::Journal(_) | Self::Checkpoint { .. } | Self::Io { .. } | Self::NoKey { .. } => None,
        }
    }
}

/// A checkpoint that vouches for the journal.
struct Voucher {
    checkpoint: Checkpoint,
    path: PathBuf,
    /// It is not the home that keeps it.
    elsewhere: bool,
}

/// Whose journal it is, as far as that is recorded.
struct Whose {
    id: Option<EstateUuid>,
    estate: Option<Box<Estate>>,
}

/// Checks the journal in the folder `home`; it may be in use. `said` is called with how far it is, and of how much.
///
/// # Errors
/// The first thing that is not as it was recorded.
pub fn check(home: &Path, asked: &Asked, said: &mut dyn FnMut(u64, u64)) -> Result<Sound, NotSound> {
    // Before the journal: so no checkpoint is of facts that come after what is looked at.
    let whose = whose(&Reader::open(home)?)?;
    let (mut files, mut lacks) = (Vec::new(), Vec::new());
    add(&mut files, &home.join(CHECKPOINTS_FOLDER), false)?;
    let witness = whose.witness();
    match &witness {
        Some(folder) if !folder.is_dir() => lacks.push(format!("the witness `{}` is not there", folder.display())),
        Some(folder) => add(&mut files, folder, true)?,
        None => {}
    }
    for path in &asked.checkpoints {
        match path.is_dir() {
            true => add(&mut files, path, true)?,
            false => files.push((path.clone(), true)),
        }
    }
    let key = match (asked.key, files.is_empty()) {
        (None, false) => Some(key_of(home)?),
        (key, _) => key,
    };
    let vouchers = vouchers(files, key.as_ref(), &whose)?;
    let reader = Reader::open(home)?;
    let (edge, lost) = compare(&reader, &vouchers, said)?;
    let agreeing = || vouchers.iter().filter(|voucher| !lost.contains(&voucher.checkpoint.head.size));
    let newest =
        |elsewhere: bool| agreeing().filter(|v| v.elsewhere || !elsewhere).map(|v| v.checkpoint.head.size).max();
    if agreeing().next().is_none() {
        lacks.push("no checkpoint vouches for them yet".to_owned());
    } else if witness.is_some() && newest(true).is_none() && lacks.is_empty() {
        lacks.push("the witness keeps no checkpoint yet".to_owned());
    }
    Ok(Sound {
        facts: reader.end().0,
        root: crate::proof::to_hex(&edge.head().root.0),
        key: key.map(PublicKey::to_hex),
        checkpoints: agreeing().count(),
        signed: newest(false).unwrap_or(0),
        witness,
        witnessed: newest(true),
        lost,
        lacks,
    })
}

/// The checkpoints in a folder, and whether it is not the home's.
fn add(files: &mut Vec<(PathBuf, bool)>, folder: &Path, elsewhere: bool) -> Result<(), NotSound> {
    let kept = keep::list(folder).map_err(|cause| NotSound::Io { path: folder.into(), cause })?;
    files.extend(kept.into_iter().map(|kept| (kept.path, elsewhere)));
    Ok(())
}

/// The public key that the home publishes.
///
/// # Errors
/// If there is none.
pub fn key_of(home: &Path) -> Result<PublicKey, NotSound> {
    let path = home.join(CHECKPOINTS_FOLDER).join(keep::KEY_FILE);
    keep::read(&path).ok().and_then(|text| text.parse().ok()).ok_or(NotSound::NoKey { path })
}

/// Reads what the facts say about whose they are.
fn whose(reader: &Reader) -> Result<Whose, NotSound> {
    let first = reader.read(Position(0), Position(1.min(reader.end().0)))?.pop();
    let id = first.and_then(|record| match envelope::unwrap(&record).ok()?.kind {
        FactKind::EstateFounded { uuid } => Some(uuid),
        _ => None,
    });
    let declared = reader.newest_of("estate-declared")?;
    let estate = declared.and_then(|record| match envelope::unwrap(&record).ok()?.kind {
        FactKind::EstateDeclared { estate } => Some(Box::new((*estate).clone())),
        _ => None,
    });
    Ok(Whose { id, estate })
}

impl Whose {
    fn witness(&self) -> Option<PathBuf> {
        let (estate, id) = (self.estate.as_ref()?, self.id?);
        let origin = note::Origin { estate: estate.name.clone(), id, since: None };
        Some(keep::place_at(estate.audit.witness.as_ref()?, &origin))
    }

    fn is(&self, checkpoint: &Checkpoint) -> bool {
        let is_name = self.estate.as_ref().is_none_or(|estate| estate.name == checkpoint.origin.estate);
        is_name && self.id.is_none_or(|id| id == checkpoint.origin.id)
    }
}

/// Reads the checkpoints, each of which this key has to have signed for this estate. The smallest comes first.
fn vouchers(files: Vec<(PathBuf, bool)>, key: Option<&PublicKey>, whose: &Whose) -> Result<Vec<Voucher>, NotSound> {
    let mut vouchers = Vec::new();
    for (path, elsewhere) in files {
        let Some(key) = key else { return Err(NotSound::NoKey { path }) };
        let text = keep::read(&path).map_err(|cause| NotSound::Io { path: path.clone(), cause })?;
        // One that was handed out with the proof that it goes on from an older one is a checkpoint, too.
        let note = match text.starts_with("old ") {
            true => text.split_once("\n\n").map_or("", |(_, note)| note),
            false => &text,
        };
        let checkpoint = note::read(note, key).map_err(|cause| NotSound::Checkpoint { path: path.clone(), cause })?;
        if !whose.is(&checkpoint) {
            let cause = NoCheckpoint::Origin(checkpoint.origin.to_string());
            return Err(NotSound::Checkpoint { path, cause });
        }
        vouchers.push(Voucher { checkpoint, path, elsewhere });
    }
    vouchers.sort_by_key(|voucher| voucher.checkpoint.head.size);
    Ok(vouchers)
}

/// Walks over all facts and compares. Returns the tree, and the sizes of checkpoints that a person gave up.
fn compare(
    reader: &Reader,
    vouchers: &[Voucher],
    said: &mut dyn FnMut(u64, u64),
) -> Result<(Edge, Vec<u64>), NotSound> {
    let end = reader.end().0;
    let tiles = reader.tree().tiles().to_vec();
    let since: Vec<Option<u64>> = vouchers.iter().map(|voucher| voucher.checkpoint.origin.since).collect();
    let given_up = |voucher: &Voucher| {
        let own = voucher.checkpoint.origin.since;
        since.iter().any(|since| *since != own && since.is_some_and(|since| since < voucher.checkpoint.head.size))
    };
    let mut edge = Edge::default();
    let mut waiting = vouchers.iter().peekable();
    let (mut agreed, mut lost, mut altered) = (0, Vec::new(), None);
    // The first 256 facts that are not as they were when they were hashed, behind what is vouched for.
    let mut odd_tile: Option<u64> = None;
    reader.walk(|record| {
        if let Some(tile) = edge.push(leaf_hash(&entry(record))) {
            let index = edge.size() / TILE - 1;
            let differs =
                usize::try_from(index).ok().and_then(|index| tiles.get(index)).is_some_and(|kept| *kept != tile);
            odd_tile = odd_tile.or(differs.then_some(index));
        }
        while let Some(voucher) = waiting.next_if(|voucher| voucher.checkpoint.head.size <= edge.size()) {
            if voucher.checkpoint.head == edge.head() {
                (agreed, odd_tile) = (edge.size(), None);
            } else if given_up(voucher) {
                lost.push(voucher.checkpoint.head.size);
            } else {
                altered = Some(voucher);
                return ControlFlow::Break(());
            }
        }
        if edge.size().is_multiple_of(TILE) {
            said(edge.size(), end);
        }
        ControlFlow::Continue(())
    })?;
    if let Some(voucher) = altered {
        let (first, last) = (agreed + 1, voucher.checkpoint.head.size);
        let (first, last) = match odd_tile {
            Some(tile) => (first.max(tile * TILE + 1), last.min((tile + 1) * TILE)),
            None => (first, last),
        };
        return Err(NotSound::Altered { first, last, path: voucher.path.clone() });
    }
    for voucher in waiting {
        if !given_up(voucher) {
            let size = voucher.checkpoint.head.size;
            return Err(NotSound::Missing { end, size, path: voucher.path.clone() });
        }
        lost.push(voucher.checkpoint.head.size);
    }
    lost.dedup();
    Ok((edge, lost))
}
