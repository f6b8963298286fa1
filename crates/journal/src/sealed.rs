//! The sealed store's key, and authenticated encryption under it.
//!
//! Invariant: a sealed value opens only with its key, under its own name, and unaltered; the key is never
//! overwritten, never printed, and its file is readable by its owner only.

use std::fmt;
use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use chacha20poly1305::aead::{Aead, KeyInit, Payload};
use chacha20poly1305::{XChaCha20Poly1305, XNonce};
use ostler_model::ids::{Position, SecretId};
use zeroize::Zeroizing;

use crate::SecretValue;
use crate::chain::{from_hex, to_hex};
use crate::error::Cause;

/// The key of the sealed store: 256 random bits.
#[derive(Clone)]
pub struct Key(Zeroizing<[u8; 32]>);

impl Key {
    /// A new key from the operating system's randomness.
    ///
    /// # Errors
    /// If the operating system gives none.
    pub fn generate() -> Result<Self, KeyError> {
        let mut bytes = Zeroizing::new([0; 32]);
        getrandom::fill(bytes.as_mut_slice()).map_err(|cause| KeyError::NoRandomness { cause: Arc::new(cause) })?;
        Ok(Self(bytes))
    }

    /// The key from the text of `OSTLER_KEY`: 64 hexadecimal digits.
    ///
    /// # Errors
    /// If the text is anything else. The error does not show the text.
    pub fn from_text(text: &str) -> Result<Self, KeyError> {
        Self::parse(text).ok_or(KeyError::NotAKeyInEnvironment)
    }

    /// The key in the file at `path`; `None` if there is no such file.
    ///
    /// # Errors
    /// If the file cannot be read, holds no key, or others than its owner may read it.
    pub fn load(path: &Path) -> Result<Option<Self>, KeyError> {
        let io = |cause| KeyError::Io { path: path.into(), cause: Arc::new(cause) };
        let file = match File::open(path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(io(error)),
        };
        let mode = file.metadata().map_err(io)?.permissions().mode() & 0o777;
        if mode & 0o077 != 0 {
            return Err(KeyError::Readable { path: path.into(), mode });
        }
        let mut text = Zeroizing::new(String::with_capacity(128));
        match file.take(128).read_to_string(&mut text) {
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::InvalidData => {
                return Err(KeyError::NotAKey { path: path.into() });
            }
            Err(error) => return Err(io(error)),
        }
        Self::parse(text.trim_end_matches('\n')).map(Some).ok_or_else(|| KeyError::NotAKey { path: path.into() })
    }

    /// Makes a new key and stores it at `path` with mode 0600. The file appears complete or not at all, and one that
    /// is already there is left alone.
    ///
    /// # Errors
    /// If the file exists or cannot be written.
    pub fn create(path: &Path) -> Result<Self, KeyError> {
        let key = Self::generate()?;
        key.store(path).map_err(|cause| KeyError::Io { path: path.into(), cause: Arc::new(cause) })?;
        Ok(key)
    }

    fn store(&self, path: &Path) -> io::Result<()> {
        let new = path.with_extension("new");
        // A leftover of an interrupted start: it never became the key, so nothing was sealed with it.
        match fs::remove_file(&new) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let mut file = File::options().write(true).create_new(true).mode(0o600).open(&new)?;
        let mut text = Zeroizing::new(to_hex(self.0.as_slice()));
        text.push('\n');
        file.write_all(text.as_bytes())?;
        file.sync_all()?;
        // A hard link, unlike a rename, never replaces a key that is already there.
        let linked = fs::hard_link(&new, path);
        fs::remove_file(&new)?;
        linked?;
        path.parent().map_or(Ok(()), sync_folder)
    }

    fn parse(text: &str) -> Option<Self> {
        let bytes = Zeroizing::new(from_hex(text)?);
        Some(Self(Zeroizing::new(bytes.as_slice().try_into().ok()?)))
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Key(hidden)")
    }
}

/// Why there is no usable key.
#[derive(Clone, Debug, thiserror::Error)]
pub enum KeyError {
    /// The key file is gone but there are things sealed with it.
    #[error("the key file `{}` is missing", path.display())]
    Missing {
        /// Where it should be.
        path: PathBuf,
    },
    /// The key file is open to others.
    #[error("the key file `{}` may be read by others: its mode is {mode:03o}", path.display())]
    Readable {
        /// The key file.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// The file holds something else.
    #[error("the key file `{}` does not hold 64 hexadecimal digits", path.display())]
    NotAKey {
        /// The key file.
        path: PathBuf,
    },
    /// `OSTLER_KEY` holds something else.
    #[error("`OSTLER_KEY` is not 64 hexadecimal digits")]
    NotAKeyInEnvironment,
    /// The operating system gave no random bytes.
    #[error("the operating system gives no random bytes")]
    NoRandomness {
        /// What it said.
        #[source]
        cause: Cause,
    },
    /// The key file cannot be read or written.
    #[error("cannot use the key file `{}`", path.display())]
    Io {
        /// The key file.
        path: PathBuf,
        /// What the operating system said.
        #[source]
        cause: Cause,
    },
}

impl KeyError {
    /// What a person can do.
    pub fn remedy(&self) -> String {
        match self {
            Self::Missing { path } => format!(
                "Put the key back at `{}` (mode 600), or pass it as `OSTLER_KEY`. Without it the sealed credentials \
                 cannot be read.",
                path.display()
            ),
            Self::Readable { path, .. } => format!(
                "Run `chmod 600 {}`. If others could have read it, change the credentials it protects.",
                path.display()
            ),
            Self::NotAKey { path } => format!("Put the right key back at `{}` from your backup.", path.display()),
            Self::NotAKeyInEnvironment => "Set `OSTLER_KEY` to the key's 64 hexadecimal digits, or unset it to use \
                                           the file `key` in the home."
                .into(),
            Self::NoRandomness { .. } => "Check that this system's random source (getrandom) works.".into(),
            Self::Io { path, .. } => format!("Check the owner, the permissions and the disk of `{}`.", path.display()),
        }
    }
}

/// Seals and unseals under one key: XChaCha20-Poly1305, whose 192-bit nonces may be drawn at random.
#[derive(Clone)]
pub(crate) struct Sealer(XChaCha20Poly1305);

/// The format of sealed bytes: this byte, then the nonce, then ciphertext and tag.
const FORMAT: u8 = 1;
const NONCE_BYTES: usize = 24;
/// What is sealed once for each journal, so that a wrong key is recognised before anything depends on it.
const KNOWN: &[u8] = b"the key of this journal";
const KNOWN_NAME: &[u8] = b"known";

impl Sealer {
    pub(crate) fn new(key: &Key) -> Self {
        Self(XChaCha20Poly1305::new((&*key.0).into()))
    }

    /// Seals a secret under its name and the position at which it was set, so that neither can be changed unnoticed.
    pub(crate) fn seal_secret(&self, id: &SecretId, at: Position, value: &SecretValue) -> Result<Vec<u8>, KeyError> {
        self.seal(&secret_name(id, at), value.bytes())
    }

    /// The plain bytes; `None` if they were altered or belong to another name or key.
    pub(crate) fn unseal_secret(&self, id: &SecretId, at: Position, sealed: &[u8]) -> Option<SecretValue> {
        self.unseal(&secret_name(id, at), sealed).map(SecretValue::from)
    }

    /// A sealed known value, to be stored with the journal.
    pub(crate) fn known(&self) -> Result<Vec<u8>, KeyError> {
        self.seal(KNOWN_NAME, KNOWN)
    }

    /// Whether `sealed` was made by [`Sealer::known`] under the same key.
    pub(crate) fn recognises(&self, sealed: &[u8]) -> bool {
        self.unseal(KNOWN_NAME, sealed).is_some_and(|plain| plain == KNOWN)
    }

    fn seal(&self, name: &[u8], plain: &[u8]) -> Result<Vec<u8>, KeyError> {
        let mut nonce = [0; NONCE_BYTES];
        getrandom::fill(&mut nonce).map_err(|cause| KeyError::NoRandomness { cause: Arc::new(cause) })?;
        let payload = Payload { msg: plain, aad: name };
        let encrypted = self.0.encrypt(&XNonce::from(nonce), payload).expect("limits keep secrets far below 256 GiB");
        Ok([&[FORMAT], &nonce[..], &encrypted].concat())
    }

    fn unseal(&self, name: &[u8], sealed: &[u8]) -> Option<Vec<u8>> {
        let (nonce, encrypted) = sealed.strip_prefix(&[FORMAT])?.split_first_chunk::<NONCE_BYTES>()?;
        self.0.decrypt(&XNonce::from(*nonce), Payload { msg: encrypted, aad: name }).ok()
    }
}

/// The authenticated name of a secret; it cannot be confused with [`KNOWN_NAME`].
fn secret_name(id: &SecretId, at: Position) -> Vec<u8> {
    [b"secret ", &at.0.to_le_bytes()[..], id.as_str().as_bytes()].concat()
}

/// Makes a folder's entries durable.
pub(crate) fn sync_folder(folder: &Path) -> io::Result<()> {
    // The parent of a relative file name is the empty path.
    let folder = if folder.as_os_str().is_empty() { Path::new(".") } else { folder };
    File::open(folder)?.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(text: &str) -> SecretId {
        serde_json::from_value(text.into()).unwrap()
    }

    #[test]
    fn only_the_same_key_name_and_bytes_open_it() {
        let sealer = Sealer::new(&Key::generate().unwrap());
        let value = SecretValue::from(b"s3cret".to_vec());
        let sealed = sealer.seal_secret(&id("binding/web/db"), Position(7), &value).unwrap();
        assert!(!sealed.windows(6).any(|window| window == b"s3cret"));
        assert_eq!(sealer.unseal_secret(&id("binding/web/db"), Position(7), &sealed), Some(value));
        assert_eq!(sealer.unseal_secret(&id("binding/web/cache"), Position(7), &sealed), None);
        assert_eq!(sealer.unseal_secret(&id("binding/web/db"), Position(8), &sealed), None);
        let other = Sealer::new(&Key::generate().unwrap());
        assert_eq!(other.unseal_secret(&id("binding/web/db"), Position(7), &sealed), None);
        assert!(sealer.recognises(&sealer.known().unwrap()));
        assert!(!other.recognises(&sealer.known().unwrap()));
        for at in 0..sealed.len() {
            let mut altered = sealed.clone();
            altered[at] ^= 1;
            assert_eq!(sealer.unseal_secret(&id("binding/web/db"), Position(7), &altered), None, "byte {at}");
            assert_eq!(sealer.unseal_secret(&id("binding/web/db"), Position(7), &sealed[..at]), None, "length {at}");
        }
    }

    #[test]
    fn a_key_file_is_private_and_stays() {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join("key");
        assert!(Key::load(&path).unwrap().is_none());
        fs::write(path.with_extension("new"), "left over").unwrap();
        let key = Key::create(&path).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert!(!path.with_extension("new").exists());
        assert_eq!(Key::load(&path).unwrap().unwrap().0, key.0);
        let before = fs::read(&path).unwrap();
        assert!(matches!(Key::create(&path), Err(KeyError::Io { .. })));
        assert_eq!(fs::read(&path).unwrap(), before, "a key is never overwritten");

        fs::set_permissions(&path, PermissionsExt::from_mode(0o640)).unwrap();
        let error = Key::load(&path).unwrap_err();
        assert!(error.to_string().contains("640") && error.remedy().contains("chmod 600"), "{error}");
        fs::set_permissions(&path, PermissionsExt::from_mode(0o600)).unwrap();
        for wrong in [&b"too short"[..], b"", &[0xff; 64], &[b'a'; 66]] {
            fs::write(&path, wrong).unwrap();
            assert!(matches!(Key::load(&path), Err(KeyError::NotAKey { .. })));
        }
    }

    #[test]
    fn nothing_shows_a_key() {
        let text = "ab".repeat(32);
        assert_eq!(format!("{:?}", Key::from_text(&text).unwrap()), "Key(hidden)");
        let error = Key::from_text("abab-secret").unwrap_err();
        assert!(!format!("{error} {error:?} {}", error.remedy()).contains("abab"));
        assert_eq!(format!("{:?}", SecretValue::from(b"hunter2".to_vec())), "SecretValue(hidden)");
    }
}
