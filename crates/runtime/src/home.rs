//! The home: the folder in which one estate's ostler keeps everything. Mode 0700; one manager process at a time.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use ostler_model::ids::{EstateUuid, InstanceId};
use rustix::fs::{FlockOperation, flock};

/// The paths in a home.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Home {
    folder: PathBuf,
}

/// Why the home cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum HomeError {
    /// It cannot be made or read.
    #[error("cannot use the home {folder}")]
    Folder {
        /// Which.
        folder: PathBuf,
        /// Why.
        #[source]
        cause: io::Error,
    },
    /// Other users can look into it.
    #[error("the home {0} can be read by other users")]
    Open(PathBuf),
    /// An ostler uses it.
    #[error("an ostler is already running on the home {0}")]
    InUse(PathBuf),
}

impl HomeError {
    /// What to do about it.
    pub fn remedy(&self) -> String {
        match self {
            Self::Folder { .. } => "choose a folder that you may write to with `--home`".to_owned(),
            Self::Open(folder) => format!("run `chmod 700 {}`", folder.display()),
            Self::InUse(_) => {
                "`ostler status` shows it, `ostler apply FILE` gives it a changed file, `ostler down` stops it"
                    .to_owned()
            }
        }
    }
}

impl Home {
    /// Where it lies.
    pub fn at(folder: impl Into<PathBuf>) -> Self {
        Self { folder: folder.into() }
    }

    /// The default home of an estate: a folder named after it in [`Home::state_folder`].
    pub fn default_for(estate: &str) -> Option<Self> {
        Some(Self::at(Self::state_folder()?.join(estate)))
    }

    /// Where homes lie: `/var/lib/ostler` for root, whose own folder no other user may pass through, but servers that
    /// refuse to run as root have to; for others `$XDG_STATE_HOME/ostler`, or `~/.local/state/ostler`.
    pub fn state_folder() -> Option<PathBuf> {
        let set = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
        let state = match set("XDG_STATE_HOME") {
            Some(state) => state,
            None if rustix::process::geteuid().is_root() => PathBuf::from("/var/lib"),
            None => set("HOME")?.join(".local/state"),
        };
        Some(state.join("ostler"))
    }

    /// The folder.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// The manager's socket, for the command line.
    pub fn socket(&self) -> PathBuf {
        self.folder.join("ostler.sock")
    }

    /// The keeper's socket.
    pub fn keeper_socket(&self) -> PathBuf {
        self.folder.join("keeper.sock")
    }

    /// What a process of ostler's writes to its standard error.
    pub fn process_log(&self, process: &str) -> PathBuf {
        self.folder.join("log").join(format!("{process}.log"))
    }

    /// Where the certificates of drills lie.
    pub fn drills(&self) -> PathBuf {
        self.folder.join("drills")
    }

    /// Where it is noted whose processes a drill makes stand still.
    pub fn standstill(&self) -> PathBuf {
        self.folder.join("run").join("standstill")
    }

    /// Where it is noted that a drill fills a disk.
    pub fn filling(&self) -> PathBuf {
        self.folder.join("run").join("filling")
    }

    /// What the host provider keeps of an instance.
    pub fn instance(&self, instance: &InstanceId) -> PathBuf {
        self.folder.join("instances").join(instance.to_string())
    }

    /// Why the manager process last ended by itself.
    pub fn trouble(&self) -> PathBuf {
        self.folder.join("trouble.json")
    }

    /// Where a person left the id that a new estate is to have.
    fn estate_id_file(&self) -> PathBuf {
        self.folder.join("estate-id")
    }

    /// Has the estate that is founded here get this id, in place of a new one.
    ///
    /// # Errors
    /// If the home cannot be written to.
    pub fn leave_estate_id(&self, id: EstateUuid) -> Result<(), HomeError> {
        let fail = |cause| HomeError::Folder { folder: self.folder.clone(), cause };
        self.prepare()?;
        let mut options = OpenOptions::new();
        let mut file =
            options.create(true).truncate(true).write(true).mode(0o600).open(self.estate_id_file()).map_err(fail)?;
        file.write_all(format!("{id}\n").as_bytes()).and_then(|()| file.sync_all()).map_err(fail)
    }

    /// The id that a person left; `None` if nobody did.
    pub fn estate_id(&self) -> Option<EstateUuid> {
        fs::read_to_string(self.estate_id_file()).ok()?.trim().parse().ok()
    }

    /// Makes the home where it does not exist.
    ///
    /// # Errors
    /// If it cannot be made, or others can look into it.
    pub fn prepare(&self) -> Result<(), HomeError> {
        let fail = |cause| HomeError::Folder { folder: self.folder.clone(), cause };
        // Root's servers may run as other users, who have to pass through, but not look around.
        let passable = if rustix::process::geteuid().is_root() { 0o711 } else { 0o700 };
        let make = |folder: PathBuf, mode| fs::DirBuilder::new().recursive(true).mode(mode).create(folder);
        make(self.folder.clone(), passable).map_err(fail)?;
        make(self.folder.join("log"), 0o700).map_err(fail)?;
        make(self.folder.join("run"), 0o700).map_err(fail)?;
        let mode = fs::metadata(&self.folder).map_err(fail)?.permissions().mode();
        if mode & 0o066 != 0 {
            return Err(HomeError::Open(self.folder.clone()));
        }
        Ok(())
    }

    /// Takes the home for this process, until the lock is dropped or the process ends in whatever way.
    ///
    /// # Errors
    /// If another process has it.
    pub fn lock(&self) -> Result<Lock, HomeError> {
        self.lock_role("manager")
    }

    /// Takes the gateway's role: two at once would take each other's place for ever.
    ///
    /// # Errors
    /// If another process has it.
    pub fn lock_gateway(&self) -> Result<Lock, HomeError> {
        self.lock_role("gateway")
    }

    fn lock_role(&self, role: &str) -> Result<Lock, HomeError> {
        let fail = |cause| HomeError::Folder { folder: self.folder.clone(), cause };
        let path = self.folder.join(format!("{role}.lock"));
        let file = OpenOptions::new().create(true).truncate(false).write(true).mode(0o600).open(path).map_err(fail)?;
        match flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => Ok(Lock { _file: file }),
            Err(rustix::io::Errno::WOULDBLOCK) => Err(HomeError::InUse(self.folder.clone())),
            Err(error) => Err(fail(error.into())),
        }
    }

    /// Whether a process has the home.
    pub fn is_locked(&self) -> bool {
        matches!(self.lock(), Err(HomeError::InUse(_)))
    }
}

/// The home is this process's while this exists.
#[derive(Debug)]
pub struct Lock {
    _file: File,
}
