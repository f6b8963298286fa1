//! Files that are on their way into the vault, or out of it.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use ostler_model::outcome::{Failure, FailureClass};
use sha2::{Digest, Sha256};
use tokio::task::spawn_blocking;

/// So much is read at once.
pub(super) const READ_BYTES: usize = 256 * 1024;

/// A file that is there as long as this value, unless it was moved.
#[derive(Debug)]
pub(crate) struct Passing(pub(crate) PathBuf);

impl Passing {
    /// A name in `folder` that nothing has; the file is not there yet.
    pub(super) fn new(folder: &Path) -> io::Result<Self> {
        let mut bits = [0_u8; 8];
        getrandom::fill(&mut bits).map_err(io::Error::other)?;
        let name: String = bits.iter().map(|byte| format!("{byte:02x}")).collect();
        Ok(Self(folder.join(name)))
    }

    /// The file's name.
    pub(super) fn name(&self) -> String {
        self.0.file_name().unwrap_or_default().to_string_lossy().into_owned()
    }
}

impl Drop for Passing {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.0); // it was moved, or never made; or it goes with the next start
    }
}

/// Size and SHA-256 of what passes by.
#[derive(Default)]
pub(super) struct Measure {
    digest: Sha256,
    pub(super) bytes: u64,
}

impl Measure {
    pub(super) fn take(&mut self, bytes: &[u8]) {
        self.digest.update(bytes);
        self.bytes += bytes.len() as u64;
    }

    pub(super) fn sha256(self) -> String {
        self.digest.finalize().iter().map(|byte| format!("{byte:02x}")).collect()
    }
}

/// Size and SHA-256 of a file.
pub(super) async fn measure(path: PathBuf) -> io::Result<(u64, String)> {
    blocking(move || {
        let mut file = File::open(path)?;
        let (mut measure, mut buffer) = (Measure::default(), vec![0_u8; READ_BYTES]);
        loop {
            match file.read(&mut buffer)? {
                0 => return Ok((measure.bytes, measure.sha256())),
                count => measure.take(&buffer[..count]),
            }
        }
    })
    .await
}

/// Writes a file of mode 0600 that is on disk afterwards.
pub(super) fn write(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    file.write_all(bytes)?;
    file.sync_all()
}

/// Makes a folder of mode 0700, and those above it.
pub(super) fn make_folder(path: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(path)
}

/// Makes an empty folder, in the place of what was left there.
pub(super) fn make_anew(path: &Path) -> io::Result<()> {
    match fs::remove_dir_all(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        Ok(()) | Err(_) => {}
    }
    make_folder(path)
}

/// How many bytes there is room for where `path` is.
pub(super) fn room(path: &Path) -> u64 {
    rustix::fs::statvfs(path).map_or(u64::MAX, |disk| disk.f_bavail.saturating_mul(disk.f_frsize))
}

/// Off the runtime's threads.
pub(super) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> io::Result<T> {
    spawn_blocking(work).await.unwrap_or_else(|error| Err(io::Error::other(error)))
}

/// An I/O error while doing `what` with `path`.
pub(super) fn io_failure(what: &str, path: &Path, error: &io::Error) -> Failure {
    let remedy = match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
            format!("make room on the disk that holds {}", path.display())
        }
        io::ErrorKind::PermissionDenied => format!("let ostler's user read and write {}", path.display()),
        _ => format!("look at {} and its disk", path.display()),
    };
    let detail = format!("cannot {what} {}: {error}", path.display());
    Failure { class: FailureClass::Temporary, detail, remedy }
}
