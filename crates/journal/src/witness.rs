//! The witness of the last acknowledged fact, in a small file beside the database.
//!
//! SQLite drops a damaged tail of its log without a word. Invariants: the mark never runs ahead of what is durable in
//! the database, so it raises no false alarm; it is written after every commit and before its acknowledgement, so a
//! journal that ends before the mark has lost facts; one of its two slots is always at rest on the disk, so a torn
//! write leaves that one.
//!
//! Forcing every mark to the disk would cost a second flush for each commit (measured: 57 to 76 % of bare SQLite's
//! facts per second, where the bar is 80 %, against 91 to 101 % without). So a mark is forced when the last time is
//! [`SETTLE_EVERY`] ago: always while there is little to do, and a few times a second under load. A crash of ostler
//! loses no mark. Only a loss of power within a burst leaves an older one, and that hides something only if the disk
//! also loses commits that it had reported as flushed.

use std::fs::{self, File};
use std::io::{self, ErrorKind, Read, Write};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;
use std::time::{Duration, Instant};

use ostler_model::ids::Position;

use crate::chain::{Chain, Mark, digest};
use crate::sealed::sync_folder;

/// The distance of the slots: a torn write damages at most one block of this size.
const BLOCK: usize = 4096;
/// A slot: these bytes, the position (64 bits, little endian), the chain's value, and a SHA-256 over the three.
const MAGIC: &[u8; 8] = b"ostlerW1";
const SLOT_BYTES: usize = 8 + 8 + 32 + 32;

/// How often marks are forced to the disk under load: with flushes of 1 ms this costs 2 % of the time.
const SETTLE_EVERY: Duration = Duration::from_millis(50);

/// What the file says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Testimony {
    /// There is no file.
    Missing,
    /// Neither slot is sound.
    Unreadable,
    /// The newest sound slot.
    Acknowledged { mark: Mark, slot: Slot },
}

/// Which of the two slots.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Slot {
    First,
    Second,
}

impl Slot {
    fn offset(self) -> usize {
        match self {
            Self::First => 0,
            Self::Second => BLOCK,
        }
    }

    fn other(self) -> Self {
        match self {
            Self::First => Self::Second,
            Self::Second => Self::First,
        }
    }
}

/// The open file, ready for the next mark.
pub(crate) struct Witness {
    file: File,
    /// The newest mark in the file.
    mark: Mark,
    /// The slot that is written; the other is at rest on the disk.
    slot: Slot,
    /// When the file was last forced to the disk.
    settled: Instant,
}

impl Witness {
    /// Reads what the file at `path` says, and changes nothing.
    pub(crate) fn read(path: &Path) -> io::Result<Testimony> {
        let mut bytes = Vec::new();
        match File::open(path) {
            Ok(file) => file.take(2 * BLOCK as u64).read_to_end(&mut bytes)?,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Testimony::Missing),
            Err(error) => return Err(error),
        };
        let sound = [Slot::First, Slot::Second]
            .into_iter()
            .filter_map(|slot| decode(bytes.get(slot.offset()..)?).map(|mark| (mark, slot)));
        Ok(match sound.max_by_key(|(mark, _)| mark.position) {
            Some((mark, slot)) => Testimony::Acknowledged { mark, slot },
            None => Testimony::Unreadable,
        })
    }

    /// Writes a new file with `mark` in both slots, in place of any that is there. It appears complete or not at all.
    pub(crate) fn create(path: &Path, mark: Mark) -> io::Result<Self> {
        let new = path.with_extension("witness-new");
        let mut bytes = vec![0; 2 * BLOCK];
        for slot in [Slot::First, Slot::Second] {
            bytes[slot.offset()..][..SLOT_BYTES].copy_from_slice(&encode(mark));
        }
        let mut file = File::options().read(true).write(true).create(true).truncate(true).mode(0o600).open(&new)?;
        file.write_all(&bytes)?;
        file.sync_all()?;
        fs::rename(&new, path)?;
        path.parent().map_or(Ok(()), sync_folder)?;
        Ok(Self { file, mark, slot: Slot::First, settled: Instant::now() })
    }

    /// Opens the file that said `mark` in `slot`, and puts that slot to rest.
    pub(crate) fn open(path: &Path, mark: Mark, slot: Slot) -> io::Result<Self> {
        let file = File::options().write(true).open(path)?;
        file.sync_data()?;
        Ok(Self { file, mark, slot: slot.other(), settled: Instant::now() })
    }

    /// A file that holds `mark` and cannot be written.
    #[cfg(test)]
    pub(crate) fn unwritable(path: &Path, mark: Mark) -> Self {
        Self { file: File::open(path).unwrap(), mark, slot: Slot::First, settled: Instant::now() }
    }

    /// The newest mark in the file.
    pub(crate) fn mark(&self) -> Mark {
        self.mark
    }

    /// Puts `mark` into the file, where it survives the end of this process; every so often it is forced to the disk.
    /// After an error, the same slot is written again next time.
    pub(crate) fn record(&mut self, mark: Mark) -> io::Result<()> {
        self.file.write_all_at(&encode(mark), self.slot.offset() as u64)?;
        if self.settled.elapsed() >= SETTLE_EVERY {
            self.settle()?;
        }
        self.mark = mark;
        Ok(())
    }

    /// Forces the newest mark to the disk. Only then may the other slot be written.
    fn settle(&mut self) -> io::Result<()> {
        self.file.sync_data()?;
        self.slot = self.slot.other();
        self.settled = Instant::now();
        Ok(())
    }
}

impl Drop for Witness {
    /// An orderly end leaves nothing to chance; after a disorderly one the system still writes the mark by itself.
    fn drop(&mut self) {
        let _written_by_the_system_later = self.file.sync_data();
    }
}

fn encode(mark: Mark) -> [u8; SLOT_BYTES] {
    let position = mark.position.0.to_le_bytes();
    let check = digest(&[MAGIC, &position, &mark.chain.0]);
    let mut slot = [0; SLOT_BYTES];
    slot[..8].copy_from_slice(MAGIC);
    slot[8..16].copy_from_slice(&position);
    slot[16..48].copy_from_slice(&mark.chain.0);
    slot[48..].copy_from_slice(&check);
    slot
}

fn decode(bytes: &[u8]) -> Option<Mark> {
    let slot: &[u8; SLOT_BYTES] = bytes.first_chunk()?;
    let position = u64::from_le_bytes(*slot[8..].first_chunk()?);
    let mark = Mark { position: Position(position), chain: Chain(*slot[16..].first_chunk()?) };
    (encode(mark) == *slot).then_some(mark)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mark(position: u64) -> Mark {
        Mark { position: Position(position), chain: Chain([u8::try_from(position).unwrap(); 32]) }
    }

    fn says(path: &Path) -> Option<Mark> {
        match Witness::read(path).unwrap() {
            Testimony::Acknowledged { mark, .. } => Some(mark),
            Testimony::Missing | Testimony::Unreadable => None,
        }
    }

    #[test]
    fn a_torn_write_leaves_the_mark_before() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("journal.witness");
        let mut witness = Witness::create(&path, mark(0)).unwrap();
        for position in 1..=9 {
            witness.settled = Instant::now().checked_sub(SETTLE_EVERY).unwrap();
            witness.record(mark(position)).unwrap();
            assert_eq!(says(&path), Some(mark(position)));
        }
        let whole = fs::read(&path).unwrap();
        drop(witness);
        // Whatever one write could have left behind: every byte flipped, the slot cut short at every length.
        let file = File::options().write(true).open(&path).unwrap();
        for (at, byte) in whole.iter().enumerate() {
            file.write_all_at(&[byte ^ 1 << (at % 8)], at as u64).unwrap();
            assert!([Some(mark(9)), Some(mark(8))].contains(&says(&path)), "flipped byte {at}");
            file.write_all_at(&[*byte], at as u64).unwrap();
        }
        for slot in [Slot::First, Slot::Second] {
            for cut in 0..SLOT_BYTES {
                let torn = slot.offset() + cut..slot.offset() + SLOT_BYTES;
                file.write_all_at(&vec![0; torn.len()], torn.start as u64).unwrap();
                assert!([Some(mark(9)), Some(mark(8))].contains(&says(&path)), "{slot:?} torn at {cut}");
                file.write_all_at(&whole[torn.clone()], torn.start as u64).unwrap();
            }
        }
        for length in (0..whole.len()).rev() {
            file.set_len(length as u64).unwrap();
            assert!([Some(mark(9)), Some(mark(8)), None].contains(&says(&path)), "cut at {length}");
            assert_eq!(says(&path).is_none(), length < SLOT_BYTES, "cut at {length}");
        }
        fs::remove_file(&path).unwrap();
        assert_eq!(Witness::read(&path).unwrap(), Testimony::Missing);
    }

    #[test]
    fn one_slot_is_always_at_rest() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("journal.witness");
        let mut witness = Witness::create(&path, mark(1)).unwrap();
        let slots = || {
            let bytes = fs::read(&path).unwrap();
            [decode(&bytes).unwrap(), decode(&bytes[BLOCK..]).unwrap()]
        };
        for position in 2..=5 {
            witness.settled = Instant::now() + Duration::from_secs(3600);
            witness.record(mark(position)).unwrap();
            assert_eq!(slots(), [mark(position), mark(1)], "a burst stays in one slot");
        }
        witness.settle().unwrap();
        witness.settled = Instant::now() + Duration::from_secs(3600);
        witness.record(mark(6)).unwrap();
        assert_eq!(slots(), [mark(5), mark(6)], "the slot at rest changes when both are on the disk");
        let Testimony::Acknowledged { mark: found, slot } = Witness::read(&path).unwrap() else { panic!("unreadable") };
        assert_eq!(found, mark(6));
        Witness::open(&path, found, slot).unwrap().record(mark(7)).unwrap();
        assert_eq!(slots(), [mark(7), mark(6)], "the newest one was put to rest by opening");
    }
}
