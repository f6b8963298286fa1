//! What was started, written down where the next keeper finds it: a file of fixed slots, one for each live process.
//!
//! Invariant: the intent is in its slot before the process exists, and the process's id is there before its program
//! runs (the child writes it itself, see `sys::spawn`). Nothing is synced to disk: what the ledger says is true only
//! within one boot, and the page cache outlives every process of it.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use ostler_model::ids::InstanceId;
use ostler_model::time::Timestamp;
use serde::{Deserialize, Serialize};

/// Bytes of a slot. The longest content (names and digest at their limits, a tree's folder of 500 bytes) fits.
const SLOT_BYTES: usize = 1024;
/// A ledger never has more slots than this; a file that claims more is damaged.
const SLOTS_MAX: usize = 1 << 20;
const MAGIC: &[u8; 8] = b"ostlkp1\n";
/// Where a slot has the process id (8 bytes), the length of its body (2) and the body. Before it: the checksum.
const PID_AT: usize = 8;
const LENGTH_AT: usize = 16;
const BODY_AT: usize = 18;

/// Whom a process stands for.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Who {
    Instance(InstanceId),
    Gateway,
    Manager,
}

impl Who {
    /// The value of the instance marker.
    pub(crate) fn marker(&self) -> String {
        match self {
            Self::Instance(id) => id.to_string(),
            Self::Gateway => "gateway".into(), // no instance id: those end in a number
            Self::Manager => "manager".into(),
        }
    }
}

/// What a slot says, apart from the process id.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Entry {
    pub(crate) who: Who,
    pub(crate) incarnation: String,
    /// When the intent was written.
    pub(crate) since: Timestamp,
    /// The same in clock ticks since boot: the process is not older.
    pub(crate) intended_ticks: u64,
    /// Of the process; 0 while it is an intent.
    pub(crate) start_ticks: u64,
    /// Of the launch.
    pub(crate) digest: Option<String>,
    /// The folder by which a tree's processes can be told; `None` if the program is no tree.
    pub(crate) tree: Option<PathBuf>,
}

/// One slot as a former keeper left it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Found {
    pub(crate) slot: Slot,
    /// `None` if the process may not have been made.
    pub(crate) pid: Option<u32>,
    pub(crate) entry: Entry,
}

/// The number of a slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Slot(u32);

impl Slot {
    /// As a number, for another image of this process.
    pub(crate) fn number(self) -> u32 {
        self.0
    }

    /// Of a number that [`Slot::number`] gave.
    pub(crate) fn of(number: u32) -> Self {
        Self(number)
    }
}

/// What a former keeper left.
pub(crate) struct Opened {
    pub(crate) ledger: Ledger,
    pub(crate) found: Vec<Found>,
    /// Something of this boot could not be read, or the file was not there: processes must be looked for by their
    /// markers.
    pub(crate) incomplete: bool,
}

/// The open file.
pub(crate) struct Ledger {
    file: File,
    /// Whether a slot is in use.
    used: Vec<bool>,
}

impl Ledger {
    /// Opens or makes the file. What another boot wrote is dropped: nothing of it lives.
    pub(crate) fn open(path: &Path, boot_id: &str) -> io::Result<Opened> {
        let file = File::options().read(true).write(true).create(true).truncate(false).mode(0o600).open(path)?;
        let length = file.metadata()?.len();
        let mut header = [0u8; SLOT_BYTES];
        header[..8].copy_from_slice(MAGIC);
        let boot = &boot_id.as_bytes()[..boot_id.len().min(64)];
        header[8..8 + boot.len()].copy_from_slice(boot);
        let mut ledger = Self { file, used: Vec::new() };
        let mut before = [0u8; SLOT_BYTES];
        let readable = ledger.file.read_exact_at(&mut before, 0).is_ok();
        if !readable || before != header {
            // Of another boot only if it has the right form; else it is new or damaged.
            let other_boot = readable && before[..8] == *MAGIC && before[8..44].is_ascii() && before[8] != 0;
            ledger.file.set_len(0)?;
            ledger.file.write_all_at(&header, 0)?;
            return Ok(Opened { ledger, found: Vec::new(), incomplete: !other_boot });
        }
        let slots = usize::try_from(length).unwrap_or(usize::MAX).div_ceil(SLOT_BYTES) - 1;
        let mut found = Vec::new();
        let mut incomplete = slots > SLOTS_MAX;
        for number in 0..slots.min(SLOTS_MAX) {
            let mut bytes = [0u8; SLOT_BYTES];
            let whole = ledger.file.read_exact_at(&mut bytes, offset(number)).is_ok();
            ledger.used.push(false);
            match decode(&bytes) {
                Decoded::Free if whole => {}
                Decoded::Used(pid, entry) if whole => {
                    ledger.used[number] = true;
                    let slot = Slot(u32::try_from(number).expect("at most SLOTS_MAX"));
                    found.push(Found { slot, pid, entry });
                }
                Decoded::Free | Decoded::Used(..) | Decoded::Damaged => incomplete = true,
            }
        }
        Ok(Opened { ledger, found, incomplete })
    }

    /// Writes an intent: to `slot`, whose process is dead, or to a free one.
    pub(crate) fn intend(&mut self, slot: Option<Slot>, entry: &Entry) -> io::Result<Slot> {
        let number = match slot {
            Some(Slot(number)) => number as usize,
            None => self.used.iter().position(|used| !used).unwrap_or(self.used.len()),
        };
        if number >= SLOTS_MAX {
            return Err(io::Error::other("the ledger is full"));
        }
        self.file.write_all_at(&encode(entry, None)?, offset(number))?;
        if number == self.used.len() {
            self.used.push(true);
        } else {
            self.used[number] = true;
        }
        Ok(Slot(u32::try_from(number).expect("below SLOTS_MAX")))
    }

    /// The process exists.
    pub(crate) fn confirm(&self, Slot(number): Slot, pid: u32, entry: &Entry) -> io::Result<()> {
        self.file.write_all_at(&encode(entry, Some(pid))?, offset(number as usize))
    }

    /// The process is dead, and nothing took its place.
    pub(crate) fn clear(&mut self, Slot(number): Slot) {
        // If this fails, the next keeper looks for a process that is not there, which does no harm.
        let _ = self.file.write_all_at(&[0; BODY_AT], offset(number as usize));
        if let Some(used) = self.used.get_mut(number as usize) {
            *used = false;
        }
    }

    /// Where the child writes [`pid_bytes`].
    pub(crate) fn pid_field(&self, Slot(number): Slot) -> (BorrowedFd<'_>, u64) {
        (self.file.as_fd(), offset(number as usize) + PID_AT as u64)
    }
}

/// A process id and its complement, which vouch for each other: they are not under the slot's checksum, because the
/// child writes them alone.
pub(crate) fn pid_bytes(pid: u32) -> [u8; 8] {
    (u64::from(pid) | u64::from(!pid) << 32).to_le_bytes()
}

/// 64-bit FNV-1a: against accidents, not against enemies, who could not write to the file.
pub(crate) fn checksum(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3))
}

enum Decoded {
    Free,
    Used(Option<u32>, Entry),
    Damaged,
}

fn offset(number: usize) -> u64 {
    (number as u64 + 1) * SLOT_BYTES as u64 // the header takes the place of one slot
}

fn encode(entry: &Entry, pid: Option<u32>) -> io::Result<Vec<u8>> {
    let body = serde_json::to_vec(entry)?;
    if BODY_AT + body.len() > SLOT_BYTES {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "the folder of a tree is too long (500 bytes)"));
    }
    let length = u16::try_from(body.len()).expect("below SLOT_BYTES");
    let mut bytes = vec![0u8; BODY_AT];
    if let Some(pid) = pid {
        bytes[PID_AT..LENGTH_AT].copy_from_slice(&pid_bytes(pid));
    }
    bytes[LENGTH_AT..BODY_AT].copy_from_slice(&length.to_le_bytes());
    bytes.extend_from_slice(&body);
    let sum = checksum(&bytes[LENGTH_AT..]);
    bytes[..PID_AT].copy_from_slice(&sum.to_le_bytes());
    bytes.resize(SLOT_BYTES, 0); // whole slots, so that the file's length is a multiple
    Ok(bytes)
}

fn decode(bytes: &[u8; SLOT_BYTES]) -> Decoded {
    let field =
        |from: usize, to: usize| bytes[from..to].iter().rev().fold(0u64, |number, byte| number << 8 | u64::from(*byte));
    let length = usize::try_from(field(LENGTH_AT, BODY_AT)).expect("two bytes");
    if bytes[..BODY_AT].iter().all(|byte| *byte == 0) {
        return Decoded::Free;
    }
    let Some(body) = bytes.get(BODY_AT..BODY_AT + length) else { return Decoded::Damaged };
    if checksum(&bytes[LENGTH_AT..BODY_AT + length]) != field(0, PID_AT) {
        return Decoded::Damaged;
    }
    let Ok(entry) = serde_json::from_slice(body) else { return Decoded::Damaged };
    let pid = field(PID_AT, LENGTH_AT) & u64::from(u32::MAX);
    let pid = u32::try_from(pid).expect("masked");
    let vouched = bytes[PID_AT..LENGTH_AT] == pid_bytes(pid);
    Decoded::Used((vouched && pid != 0).then_some(pid), entry)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn entry(name: &str) -> Entry {
        Entry {
            who: Who::Instance(name.parse().unwrap()),
            incarnation: "abc-1".into(),
            since: Timestamp(5),
            intended_ticks: 6,
            start_ticks: 7,
            digest: Some("d".repeat(128)),
            tree: Some(PathBuf::from("/data")),
        }
    }

    #[test]
    fn what_is_written_is_found_until_the_next_boot() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("ledger");
        let mut opened = Ledger::open(&path, "boot-1").unwrap();
        assert!(opened.found.is_empty() && opened.incomplete, "a new file says nothing");
        let first = opened.ledger.intend(None, &entry("web-1")).unwrap();
        let second = opened.ledger.intend(None, &entry("web-2")).unwrap();
        let third = opened.ledger.intend(None, &entry("web-3")).unwrap();
        opened.ledger.confirm(second, 4711, &entry("web-2")).unwrap();
        opened.ledger.clear(first);
        // As the child does it.
        let (_, at) = opened.ledger.pid_field(third);
        opened.ledger.file.write_all_at(&pid_bytes(99), at).unwrap();

        let again = Ledger::open(&path, "boot-1").unwrap();
        assert!(!again.incomplete);
        let found: Vec<_> = again.found.iter().map(|found| (found.slot, found.pid)).collect();
        assert_eq!(found, [(second, Some(4711)), (third, Some(99))]);
        assert_eq!(again.found[0].entry, entry("web-2"));
        let mut ledger = again.ledger;
        assert_eq!(ledger.intend(None, &entry("web-4")).unwrap(), first, "free slots are used again");

        let rebooted = Ledger::open(&path, "boot-2").unwrap();
        assert!(rebooted.found.is_empty());
    }

    #[test]
    fn a_folder_that_does_not_fit_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let mut ledger = Ledger::open(&folder.path().join("ledger"), "boot").unwrap().ledger;
        let long = Entry { tree: Some(PathBuf::from("/x".repeat(600))), ..entry("web-1") };
        assert!(ledger.intend(None, &long).is_err());
    }

    proptest! {
        #[test]
        fn damage_is_noticed_and_never_misread(byte in 0usize..3 * SLOT_BYTES, bit in 0u8..8, cut in any::<bool>()) {
            let folder = tempfile::tempdir().unwrap();
            let path = folder.path().join("ledger");
            let mut ledger = Ledger::open(&path, "boot").unwrap().ledger;
            for name in ["web-1", "web-2"] {
                let slot = ledger.intend(None, &entry(name)).unwrap();
                ledger.confirm(slot, 4711, &entry(name)).unwrap();
            }
            let mut bytes = std::fs::read(&path).unwrap();
            if cut { bytes.truncate(byte) } else { bytes[byte] ^= 1 << bit }
            std::fs::write(&path, bytes).unwrap();
            let opened = Ledger::open(&path, "boot").unwrap();
            for found in &opened.found {
                prop_assert!([entry("web-1"), entry("web-2")].contains(&found.entry));
                prop_assert!(found.pid.is_none_or(|pid| pid == 4711));
            }
        }
    }
}
