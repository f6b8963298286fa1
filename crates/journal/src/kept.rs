//! The tree as it is kept: its right edge in memory, and in a file of the home one hash for each full 256 facts.
//!
//! Invariant: the file is derived, and believed as far as a root that somebody signed follows from it; what comes after
//! that is derived anew from the facts at each start. So it may be damaged, behind or gone, an older build may have gone
//! on without it, and it needs no place in the database and no flush to the disk. What this process has appended is in
//! the tree as it was appended, whatever becomes of the database.

use std::fs::File;
use std::io::{self, Read};
use std::ops::ControlFlow;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use ostler_model::ids::Position;

use crate::error::{Cause, ReadError};
use crate::sqlite::Reader;
use crate::tree::{self, Edge, Head, Nodes, TILE, TreeHash};
use crate::{NewFact, Record, TREE_FILE};

const HASH_BYTES: u64 = 32;
/// Facts that are read at once to catch up.
const AT_ONCE: u64 = 2_000;
/// Something is said about progress after so many facts.
const SAID_EVERY: u64 = 4_096;

/// Why there is no tree. Nothing depends on it but what is signed.
#[derive(Clone, Debug, thiserror::Error)]
pub enum TreeError {
    /// The facts cannot be read.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// The file cannot be written.
    #[error("cannot write `{}`", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What the operating system said.
        #[source]
        cause: Cause,
    },
}

impl TreeError {
    /// What a person can do.
    pub fn remedy(&self) -> String {
        match self {
            Self::Read(error) => error.remedy(),
            Self::Io { path, .. } => format!("Check the disk and the permissions of `{}`.", path.display()),
        }
    }
}

/// The tree of the process that appends.
#[derive(Debug)]
pub struct Kept {
    edge: Edge,
    file: File,
}

/// A tree that was derived, and what of earlier ones does not fit it.
#[derive(Debug)]
pub struct Built {
    /// The tree, up to the journal's end when it was begun, or a little less.
    pub tree: Kept,
    /// The newest of the earlier heads that the facts agree with; none if `None`.
    pub agrees: Option<Head>,
    /// The oldest of the earlier heads that the facts do not agree with, or that they do not reach.
    pub differs: Option<Head>,
}

impl Kept {
    /// Derives the tree over the facts in `home`, which may be in use, and looks whether the trees go on in it that
    /// `earlier` ones were: heads that somebody signed. `said` is called with how far it is, and of how much.
    ///
    /// # Errors
    /// If a fact is damaged or cannot be read, or the file cannot be written.
    pub fn build(home: &Path, earlier: &[Head], said: &mut dyn FnMut(u64, u64)) -> Result<Built, TreeError> {
        let reader = Reader::open(home)?;
        let end = reader.end().0;
        let mut earlier = earlier.to_vec();
        earlier.sort();
        let path = home.join(TREE_FILE);
        let io = |cause: io::Error| TreeError::Io { path: path.clone(), cause: Arc::new(cause) };
        let newest = earlier.last().copied().filter(|head| head.size <= end);
        if let Some(head) = newest
            && let Some(edge) = edge_of(&reader, head)?
        {
            let file = open(&path).map_err(io)?;
            let mut tree = Self { edge, file };
            tree.catch_up(&reader, said)?;
            return Ok(Built { tree, agrees: newest, differs: None });
        }
        let file = open(&path).map_err(io)?;
        file.set_len(0).map_err(io)?;
        let mut tree = Self { edge: Edge::default(), file };
        let (mut failed, mut agrees, mut differs) = (None, None, None);
        let mut heads = earlier.into_iter().peekable();
        while heads.next_if(|head| *head == tree.head()).is_some() {} // nothing was signed about nothing
        reader.walk(|record| {
            if let Err(error) = tree.push(record) {
                failed = Some(error);
                return ControlFlow::Break(());
            }
            while let Some(head) = heads.next_if(|head| head.size <= tree.edge.size()) {
                match head == tree.head() {
                    true if differs.is_none() => agrees = Some(head),
                    true => {}
                    false => differs = differs.or(Some(head)),
                }
            }
            if tree.edge.size().is_multiple_of(SAID_EVERY) {
                said(tree.edge.size(), end);
            }
            ControlFlow::Continue(())
        })?;
        if let Some(error) = failed {
            return Err(io(error));
        }
        Ok(Built { tree, agrees, differs: differs.or_else(|| heads.next()) })
    }

    /// Goes on up to the journal's end as it is now.
    ///
    /// # Errors
    /// As [`Kept::build`].
    pub fn go_on(&mut self, home: &Path) -> Result<(), TreeError> {
        self.catch_up(&Reader::open(home)?, &mut |_, _| {})
    }

    fn catch_up(&mut self, reader: &Reader, said: &mut dyn FnMut(u64, u64)) -> Result<(), TreeError> {
        let end = reader.end().0;
        while self.edge.size() < end {
            let from = self.edge.size();
            let records = reader.read(Position(from), Position(end.min(from + AT_ONCE)))?;
            self.push_all(&records, &reader.files.tree)?;
            said(self.edge.size(), end);
        }
        Ok(())
    }

    pub(crate) fn push_all(&mut self, records: &[Record], path: &Path) -> Result<(), TreeError> {
        let pushed = records.iter().try_for_each(|record| self.push(record));
        pushed.map_err(|cause| TreeError::Io { path: path.into(), cause: Arc::new(cause) })
    }

    fn push(&mut self, record: &Record) -> io::Result<()> {
        self.put(tree::hash_of(record.position, record.at, &record.kind, &record.body))
    }

    /// Takes in facts that were just appended after the tree's end.
    pub(crate) fn append(&mut self, facts: &[NewFact]) -> io::Result<()> {
        facts.iter().try_for_each(|fact| {
            let position = Position(self.edge.size() + 1);
            self.put(tree::hash_of(position, fact.at, &fact.kind, &fact.body))
        })
    }

    fn put(&mut self, leaf: TreeHash) -> io::Result<()> {
        match self.edge.push(leaf) {
            Some(tile) => self.file.write_all_at(&tile.0, (self.edge.size() / TILE - 1) * HASH_BYTES),
            None => Ok(()),
        }
    }

    /// The tree as it is.
    pub fn head(&self) -> Head {
        self.edge.head()
    }

    /// Of how many facts it is.
    pub(crate) fn size(&self) -> u64 {
        self.edge.size()
    }
}

fn open(path: &Path) -> io::Result<File> {
    File::options().create(true).truncate(false).read(true).write(true).mode(0o600).open(path)
}

/// The edge of the tree that `head` is of, from the file and the facts; `None` if the file does not lead to that head.
fn edge_of(reader: &Reader, head: Head) -> Result<Option<Edge>, ReadError> {
    let tiles = head.size / TILE;
    let kept = tiles_of(&reader.files.tree, tiles);
    if kept.len() as u64 != tiles {
        return Ok(None);
    }
    let mut edge = Edge::default();
    kept.into_iter().for_each(|tile| edge.push_tile(tile));
    for record in reader.read(Position(tiles * TILE), Position(head.size))? {
        edge.push(tree::hash_of(record.position, record.at, &record.kind, &record.body));
    }
    Ok((edge.head() == head).then_some(edge))
}

/// At most `most` hashes of the file; none if it cannot be read, as they can be derived.
fn tiles_of(path: &Path, most: u64) -> Vec<TreeHash> {
    let mut bytes = Vec::new();
    let read = File::open(path).and_then(|file| file.take(most.saturating_mul(HASH_BYTES)).read_to_end(&mut bytes));
    if read.is_err() {
        return Vec::new();
    }
    let (tiles, _) = bytes.as_chunks::<32>();
    tiles.iter().map(|tile| TreeHash(*tile)).collect()
}

/// The tree over a reader's facts, for proofs: from the hashes that are kept, and at most a few hundred facts for each
/// proof.
pub struct Grown<'a> {
    reader: &'a Reader,
    tiles: Vec<TreeHash>,
    /// The leaves of the tile that was last looked into.
    leaves: Option<(u64, Vec<TreeHash>)>,
}

impl<'a> Grown<'a> {
    pub(crate) fn new(reader: &'a Reader) -> Self {
        let tiles = tiles_of(&reader.files.tree, reader.end().0 / TILE);
        Self { reader, tiles, leaves: None }
    }

    /// The hashes that are kept, one for each full 256 facts, as far as they go.
    pub fn tiles(&self) -> &[TreeHash] {
        &self.tiles
    }

    /// Derives all hashes anew, if the root that `head` says does not follow from those that are kept. Whether it does
    /// now.
    ///
    /// # Errors
    /// If the facts are damaged.
    pub fn leads_to(&mut self, head: Head, said: &mut dyn FnMut(u64, u64)) -> Result<bool, ReadError> {
        if head.size > self.reader.end().0 {
            return Ok(false);
        }
        if self.head(head.size)? == head {
            return Ok(true);
        }
        let (mut edge, mut tiles) = (Edge::default(), Vec::new());
        self.reader.walk(|record| {
            tiles.extend(edge.push(tree::hash_of(record.position, record.at, &record.kind, &record.body)));
            if edge.size().is_multiple_of(SAID_EVERY) {
                said(edge.size(), head.size);
            }
            match edge.size() < head.size {
                true => ControlFlow::Continue(()),
                false => ControlFlow::Break(()),
            }
        })?;
        (self.tiles, self.leaves) = (tiles, None);
        Ok(edge.head() == head)
    }

    /// The tree as it was with the first `size` facts.
    ///
    /// # Errors
    /// If the facts are damaged.
    pub fn head(&mut self, size: u64) -> Result<Head, ReadError> {
        Ok(Head { size, root: tree::root(self, 0, size)? })
    }

    fn leaf(&mut self, index: u64) -> Result<TreeHash, ReadError> {
        let tile = index / TILE;
        if self.leaves.as_ref().is_none_or(|(of, _)| *of != tile) {
            let end = self.reader.end().0.min((tile + 1) * TILE);
            let records = self.reader.read(Position(tile * TILE), Position(end))?;
            let hash = |record: &Record| tree::hash_of(record.position, record.at, &record.kind, &record.body);
            self.leaves = Some((tile, records.iter().map(hash).collect()));
        }
        let leaf = self.leaves.as_ref().and_then(|(_, leaves)| leaves.get(usize::try_from(index % TILE).ok()?));
        leaf.copied().ok_or_else(|| {
            let first_bad = Position(index + 1);
            ReadError::Damaged(crate::Damage::Altered { first_bad, what: "it is not stored".into() })
        })
    }
}

impl Nodes for Grown<'_> {
    type Error = ReadError;

    fn full(&mut self, first: u64, count: u64) -> Result<TreeHash, ReadError> {
        if count == TILE
            && let Some(tile) = usize::try_from(first / TILE).ok().and_then(|tile| self.tiles.get(tile))
        {
            return Ok(*tile);
        }
        if count == 1 {
            return self.leaf(first);
        }
        let half = count / 2;
        Ok(tree::node_hash(self.full(first, half)?, self.full(first + half, half)?))
    }
}
