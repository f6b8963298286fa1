//! Where checkpoints are kept: in a folder of the home, and in one where somebody else sees to it that nothing is changed.
//!
//! Invariant: a file is there as a whole or not at all, and one that is there is never written over.

use std::fs::{self, File};
use std::io::{self, ErrorKind, Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use super::note::{BYTES_MAX, Checkpoint, Origin};

/// The public key beside the checkpoints, as C2SP writes it.
pub const KEY_FILE: &str = "key.txt";
/// The newest so many are kept in the home …
const KEPT_ALL: usize = 1_000;
/// … and of older ones the last within so many facts: so they take a bounded room, and what was changed is located to so
/// many facts. A witness keeps them all.
const KEPT_EVERY: u64 = 4_096;
/// More than this in one folder is nobody's: an hour has one, a year nine thousand.
const FILES_MAX: usize = 200_000;

/// A checkpoint's file, by its name.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Kept {
    /// The last fact before a loss that was accepted, if it is from after it.
    pub since: Option<u64>,
    /// Of how many facts it is.
    pub size: u64,
    /// Where it lies.
    pub path: PathBuf,
}

impl Kept {
    fn parse(path: PathBuf) -> Option<Self> {
        let name = path.file_name()?.to_str()?.strip_suffix(".txt")?;
        let (size, since) = match name.split_once("-since-") {
            None => (name, None),
            Some((size, since)) => (size, Some(since.parse().ok()?)),
        };
        Some(Self { since, size: size.parse().ok()?, path })
    }
}

fn file_name(size: u64, since: Option<u64>) -> String {
    match since {
        None => format!("{size:012}.txt"),
        Some(since) => format!("{size:012}-since-{since}.txt"),
    }
}

/// Where a witness keeps what an estate signs: several may share one.
pub fn place_at(witness: &Path, origin: &Origin) -> PathBuf {
    witness.join(format!("{}-{}", origin.estate, origin.id))
}

/// The checkpoints in a folder, oldest first; none if there is no such folder.
///
/// # Errors
/// If it cannot be read.
pub fn list(folder: &Path) -> io::Result<Vec<Kept>> {
    let entries = match fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error),
    };
    let mut kept = Vec::new();
    for entry in entries {
        kept.extend(Kept::parse(entry?.path()));
        if kept.len() > FILES_MAX {
            return Err(io::Error::other(format!("there are more than {FILES_MAX} files in it")));
        }
    }
    kept.sort();
    Ok(kept)
}

/// A small text file.
///
/// # Errors
/// If it cannot be read, or is not small, or not a text.
pub fn read(path: &Path) -> io::Result<String> {
    let mut text = String::new();
    // A pipe would keep everybody waiting.
    if !fs::metadata(path)?.is_file() {
        return Err(io::Error::other("it is not a file"));
    }
    File::open(path)?.take(BYTES_MAX as u64 + 1).read_to_string(&mut text)?;
    Ok(text)
}

/// Keeps a checkpoint, and lets go of old ones that are not needed any more.
pub(crate) fn put(folder: &Path, checkpoint: &Checkpoint, text: &str) -> io::Result<()> {
    write(folder, &file_name(checkpoint.head.size, checkpoint.origin.since), text)?;
    let kept = list(folder)?;
    let old = kept.len().saturating_sub(KEPT_ALL);
    for pair in kept[..old].windows(2) {
        let [one, next] = pair else { continue };
        if one.since == next.since && one.size / KEPT_EVERY == next.size / KEPT_EVERY {
            fs::remove_file(&one.path)?;
        }
    }
    Ok(())
}

/// Puts the public key beside them.
pub(crate) fn put_key(folder: &Path, key: &str) -> io::Result<()> {
    write(folder, KEY_FILE, &format!("{key}\n"))
}

/// Copies what the other folder lacks. Returns how many that were.
pub(crate) fn copy_missing(from: &Path, to: &Path) -> io::Result<usize> {
    let there = list(to)?;
    let mut copied = 0;
    for kept in list(from)? {
        let is_there = there.iter().any(|other| (other.size, other.since) == (kept.size, kept.since));
        if !is_there {
            write(to, &file_name(kept.size, kept.since), &read(&kept.path)?)?;
            copied += 1;
        }
    }
    Ok(copied)
}

/// What is there is left as it is: a witness's folder may let nobody write over anything.
fn write(folder: &Path, name: &str, text: &str) -> io::Result<()> {
    let path = folder.join(name);
    if path.exists() {
        return Ok(());
    }
    fs::DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
    let new = folder.join(format!("{name}.new"));
    let mut file = File::options().create(true).truncate(true).write(true).mode(0o600).open(&new)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()?;
    fs::rename(&new, &path)?;
    File::open(folder)?.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::audit::note::tests::checkpoint;

    #[test]
    fn what_is_there_is_not_written_over_and_old_ones_take_a_bounded_room() {
        let folder = tempfile::tempdir().unwrap();
        let home = folder.path().join("checkpoints");
        assert!(list(&home).unwrap().is_empty());
        put(&home, &checkpoint(7), "first\n").unwrap();
        put(&home, &checkpoint(7), "second\n").unwrap();
        put_key(&home, "key").unwrap();
        fs::write(home.join("000000000008.txt.new"), "half").unwrap();
        let kept = list(&home).unwrap();
        assert_eq!(kept.len(), 1);
        assert_eq!(read(&kept[0].path).unwrap(), "first\n");

        let witness = folder.path().join("witness");
        for size in (0..1_100).map(|n| 100 + n * 50) {
            fs::write(home.join(file_name(size, None)), "x\n").unwrap();
        }
        assert_eq!(copy_missing(&home, &witness).unwrap(), 1_101);
        assert_eq!(copy_missing(&home, &witness).unwrap(), 0);
        put(&home, &checkpoint(100_000), "x\n").unwrap();
        let sizes: Vec<u64> = list(&home).unwrap().into_iter().map(|kept| kept.size).collect();
        // Of the oldest 102, those are left that are the last below 4,096, and below that number again.
        assert_eq!(sizes[..3], [4_050, 5_100, 5_150], "the newest thousand are all there");
        assert_eq!(sizes.len(), 1_002);
        put(&home, &checkpoint(100_000), "x\n").unwrap();
        assert_eq!(list(&home).unwrap().len(), 1_002, "once thinned they stay");
        assert_eq!(list(&witness).unwrap().len(), 1_101);
    }

    #[test]
    fn a_name_says_what_it_is_of() {
        for (size, since) in [(0, None), (12, Some(3)), (u64::MAX, None)] {
            let kept = Kept::parse(Path::new("/x").join(file_name(size, since))).unwrap();
            assert_eq!((kept.size, kept.since), (size, since));
        }
        for other in ["key.txt", "12.txt.new", "1-since-.txt", "a"] {
            assert_eq!(Kept::parse(other.into()), None, "{other}");
        }
    }
}
