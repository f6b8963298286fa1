//! The folder of one instance: `HOME/instances/ID/`, and the marker in it that proves who made it.
//!
//! Invariant: a folder at its final place has a whole marker (it is made under another name first), and files appear
//! under their names only when they are complete. Files are 0600 and folders 0700; where an instance runs as another
//! user, the folders above its data are 0711: they can be passed through, not listed.

use std::fs::{self, DirBuilder, File, OpenOptions, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use ostler_model::ids::{EstateName, InstanceId, OfferingName};
use ostler_model::outcome::Failure;
use ostler_model::version::Version;
use rustix::fs::{AtFlags, CWD, Gid, Uid, chownat};
use serde::Deserialize;

use super::failure::{io_at, needs_person};
use super::users::Owner;

/// The marker's name.
pub const MARKER: &str = "ostler-instance.toml";
const MARKER_FORMAT: u32 = 1;
const MARKER_BYTES_MAX: u64 = 64 * 1024;

/// What ostler wrote into an instance's folder when it made it.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub(super) struct Marker {
    pub(super) format: u32,
    pub(super) instance: InstanceId,
    pub(super) estate: EstateName,
    pub(super) offering: OfferingName,
    /// The version that prepared its data or ran it last.
    pub(super) version: Option<Version>,
    pub(super) port: u16,
    /// RFC 3339.
    pub(super) made_at: String,
    /// As whom it runs; ostler's own user if absent.
    pub(super) user: Option<String>,
    /// Its data is complete.
    pub(super) prepared: bool,
    /// It was started at least once, so that its data may be somebody's.
    pub(super) started: bool,
}

impl Marker {
    pub(super) fn new(
        instance: &InstanceId,
        estate: &EstateName,
        offering: &OfferingName,
        port: u16,
        at: String,
    ) -> Self {
        Self {
            format: MARKER_FORMAT,
            instance: instance.clone(),
            estate: estate.clone(),
            offering: offering.clone(),
            version: None,
            port,
            made_at: at,
            user: None,
            prepared: false,
            started: false,
        }
    }

    fn to_toml(&self) -> String {
        // A JSON string is a TOML basic string for everything that these values can hold.
        let text = |value: &str| serde_json::Value::from(value).to_string();
        let mut out = format!(
            "# Written by ostler. It proves that ostler made this folder: without it nothing here is ever deleted.\n\
             format = {}\ninstance = {}\nestate = {}\noffering = {}\nport = {}\nmade_at = {}\nprepared = {}\nstarted = {}\n",
            self.format,
            text(&self.instance.to_string()),
            text(self.estate.as_str()),
            text(self.offering.as_str()),
            self.port,
            text(&self.made_at),
            self.prepared,
            self.started
        );
        for (key, value) in [("version", self.version.as_ref().map(Version::to_string)), ("user", self.user.clone())] {
            if let Some(value) = value {
                out.push_str(&format!("{key} = {}\n", text(&value)));
            }
        }
        out
    }
}

/// Where everything of one instance lies.
#[derive(Clone, Debug)]
pub(super) struct Folder {
    pub(super) instance: InstanceId,
    pub(super) instances: PathBuf,
    pub(super) root: PathBuf,
}

impl Folder {
    pub(super) fn new(home: &Path, instance: &InstanceId) -> Self {
        let instances = home.join("instances");
        Self { instance: instance.clone(), root: instances.join(instance.to_string()), instances }
    }

    pub(super) fn data(&self) -> PathBuf {
        self.root.join("data")
    }

    pub(super) fn log(&self) -> PathBuf {
        self.root.join("log").join(format!("{}.log", self.instance))
    }

    /// Where a folder is put that is being deleted.
    pub(super) fn deleting(&self) -> PathBuf {
        self.instances.join(format!(".deleting-{}", self.instance))
    }

    /// The marker; `None` if there is no folder.
    pub(super) fn marker(&self) -> Result<Option<Marker>, Failure> {
        if !self.root.try_exists().map_err(io_at("look for", &self.root))? {
            return Ok(None);
        }
        match read_marker(&self.root) {
            Some(marker) if marker.instance == self.instance && marker.format == MARKER_FORMAT => Ok(Some(marker)),
            Some(_) | None => Err(self.foreign()),
        }
    }

    /// Makes the folder with its marker in one step.
    pub(super) fn make(&self, marker: &Marker) -> Result<(), Failure> {
        let new = self.instances.join(format!(".new-{}", self.instance));
        if new.exists() {
            fs::remove_dir_all(&new).map_err(io_at("delete", &new))?; // an interrupted making: only a marker is in it
        }
        make_folder(&new, None)?;
        write_private(&new.join(MARKER), marker.to_toml().as_bytes(), None, Durable::Yes)?;
        make_folder(&new.join("log"), None)?;
        fs::rename(&new, &self.root).map_err(io_at("create", &self.root))?;
        sync_folder(&self.instances)
    }

    pub(super) fn write_marker(&self, marker: &Marker) -> Result<(), Failure> {
        write_private(&self.root.join(MARKER), marker.to_toml().as_bytes(), None, Durable::Yes)
    }

    /// What is told about a folder that ostler cannot prove it made.
    pub(super) fn foreign(&self) -> Failure {
        needs_person(
            format!(
                "{} was not made by ostler for instance `{}`: it has no matching {MARKER}",
                self.root.display(),
                self.instance
            ),
            format!("Look at {} and move it elsewhere; ostler changes nothing in it.", self.root.display()),
        )
    }
}

/// The marker in `folder`, if there is a readable one.
pub(super) fn read_marker(folder: &Path) -> Option<Marker> {
    use io::Read;
    let mut text = String::new();
    File::open(folder.join(MARKER)).ok()?.take(MARKER_BYTES_MAX).read_to_string(&mut text).ok()?;
    toml::from_str(&text).ok()
}

/// Whether a file must survive a power loss before the caller goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Durable {
    Yes,
    No,
}

/// Writes a file of mode 0600 that belongs to `owner`. Whatever was there under this name is replaced in one step; a
/// symbolic link is replaced, not followed.
pub(super) fn write_private(path: &Path, bytes: &[u8], owner: Option<&Owner>, durable: Durable) -> Result<(), Failure> {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let new = path.with_file_name(format!(".{name}.ostler-new"));
    let write = || {
        match fs::remove_file(&new) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            Ok(()) | Err(_) => {}
        }
        let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&new)?;
        file.write_all(bytes)?;
        if let Some(owner) = owner {
            rustix::fs::fchown(&file, Some(Uid::from_raw(owner.uid)), Some(Gid::from_raw(owner.gid)))?;
        }
        if durable == Durable::Yes {
            file.sync_all()?;
        }
        fs::rename(&new, path)
    };
    write().map_err(io_at("write", path))?;
    match (durable, path.parent()) {
        (Durable::Yes, Some(folder)) => sync_folder(folder),
        _ => Ok(()),
    }
}

/// Makes a folder of mode 0700 that belongs to `owner`, with those above it; what exists is kept.
pub(super) fn make_folder(path: &Path, owner: Option<&Owner>) -> Result<(), Failure> {
    DirBuilder::new().recursive(true).mode(0o700).create(path).map_err(io_at("create the folder", path))?;
    if let Some(owner) = owner {
        give(path, owner)?;
    }
    Ok(())
}

/// Makes `path` belong to `owner`, without following a link.
pub(super) fn give(path: &Path, owner: &Owner) -> Result<(), Failure> {
    let (uid, gid) = (Uid::from_raw(owner.uid), Gid::from_raw(owner.gid));
    chownat(CWD, path, Some(uid), Some(gid), AtFlags::SYMLINK_NOFOLLOW)
        .map_err(|error| super::failure::io("change the owner of", path, &error.into()))
}

/// Lets other users pass through a folder of ostler's, without listing it.
pub(super) fn let_pass(path: &Path) -> Result<(), Failure> {
    fs::set_permissions(path, Permissions::from_mode(0o711)).map_err(io_at("change the mode of", path))
}

/// Deletes a file, or a folder and everything in it, off the runtime's threads; absent is fine.
pub(super) async fn delete(path: PathBuf) -> Result<(), Failure> {
    blocking(move || {
        let is_file = fs::symlink_metadata(&path).is_ok_and(|data| !data.is_dir());
        match if is_file { fs::remove_file(&path) } else { fs::remove_dir_all(&path) } {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(super::failure::io("delete", &path, &error)),
            Ok(()) | Err(_) => Ok(()),
        }
    })
    .await
}

/// Runs work that waits for disks off the runtime's threads.
pub(super) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, Failure> + Send + 'static,
) -> Result<T, Failure> {
    match tokio::task::spawn_blocking(work).await {
        Ok(answer) => answer,
        Err(error) if error.is_panic() => std::panic::resume_unwind(error.into_panic()),
        Err(_) => Err(Failure {
            class: ostler_model::outcome::FailureClass::Interrupted,
            detail: "ostler is ending".to_owned(),
            remedy: "Nothing: what happened is looked at after the next start.".to_owned(),
        }),
    }
}

/// Makes the names in a folder survive a power loss.
pub(super) fn sync_folder(path: &Path) -> Result<(), Failure> {
    File::open(path).and_then(|folder| folder.sync_all()).map_err(io_at("write", path))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn folder(home: &Path) -> Folder {
        Folder::new(home, &"db-1".parse().unwrap())
    }

    #[test]
    fn a_marker_reads_back() {
        let home = tempfile::tempdir().unwrap();
        let folder = folder(home.path());
        assert_eq!(folder.marker().unwrap(), None);
        make_folder(&folder.instances, None).unwrap();
        let at = "2026-11-23T15:00:00Z".to_owned();
        let mut marker =
            Marker::new(&folder.instance, &"shop".parse().unwrap(), &"postgresql".parse().unwrap(), 21000, at);
        fs::create_dir(folder.instances.join(".new-db-1")).unwrap(); // an earlier attempt was interrupted
        folder.make(&marker).unwrap();
        assert_eq!(folder.marker().unwrap(), Some(marker.clone()));
        marker.version = Some("15.18".parse().unwrap());
        marker.user = Some("postgres".to_owned());
        marker.started = true;
        folder.write_marker(&marker).unwrap();
        assert_eq!(folder.marker().unwrap(), Some(marker));
    }

    #[test]
    fn a_folder_of_somebody_else_is_not_ours() {
        let home = tempfile::tempdir().unwrap();
        let folder = folder(home.path());
        fs::create_dir_all(&folder.root).unwrap();
        assert!(folder.marker().unwrap_err().detail.contains("was not made by ostler"));
        fs::write(folder.root.join(MARKER), "instance = 'web-1'").unwrap();
        assert!(folder.marker().is_err());
    }

    #[test]
    fn a_link_in_the_way_is_replaced_not_followed() {
        let home = tempfile::tempdir().unwrap();
        let (victim, path) = (home.path().join("victim"), home.path().join("file"));
        fs::write(&victim, "kept").unwrap();
        for link in [path.clone(), home.path().join(".file.ostler-new")] {
            std::os::unix::fs::symlink(&victim, link).unwrap();
        }
        write_private(&path, b"new", None, Durable::No).unwrap();
        assert_eq!(fs::read_to_string(&victim).unwrap(), "kept");
        assert_eq!(fs::read_to_string(&path).unwrap(), "new");
        assert_eq!(fs::symlink_metadata(&path).unwrap().permissions().mode() & 0o7777, 0o600);
    }
}
