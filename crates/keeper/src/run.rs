//! The keeper's process: what it takes over at its start, and what it gives back at its end.
//!
//! Invariant: whoever holds the lock is the only keeper of the home, and nothing is read, adopted or listened on before
//! the lock is held.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::fs::{FlockOperation, Mode, OFlags};
use rustix::process::{Resource, Rlimit};

use crate::grant::Bucket;
use crate::handover;
use crate::keeper::{Children, Keeper, Withdrawn};
use crate::ledger::{self, Ledger};
use crate::poll::{Poll, Watch};
use crate::process;
use crate::protocol::Grant;
use crate::replacing::Replacing;
use crate::reports::Reports;
use crate::roles::{RoleKind, Roles};
use crate::sockets::Sockets;
use crate::sys::{self, Signals, Spawner};
use crate::wire;

/// Until the manager says otherwise: a whole rack of programs may die once, and ten a second for good.
const ESTATE_GRANT: Grant = Grant { burst: 64, refill_ms: 100 };
/// A killed keeper takes a moment to go; its lock with it.
const LOCK_WITHIN: Duration = Duration::from_millis(200);
const LOCK_EVERY: Duration = Duration::from_millis(2);
/// The kernel prefers other processes when memory runs out.
const OOM_SCORE: i32 = -500;
/// The open files that a keeper asks for: three for each of 10,000 instances.
const FILES: u64 = 32_768;

/// What a keeper is told at its start.
#[derive(Clone, Debug)]
pub struct Config {
    /// The folder that belongs to it. Made with mode 0700 if it is missing.
    pub home: PathBuf,
    /// How the manager is started; `None` if the keeper shall only watch the one that connects.
    pub manager: Option<CommandLine>,
    /// How the gateway is started; the same.
    pub gateway: Option<CommandLine>,
    /// The build, for people.
    pub build: String,
    /// How this very process becomes the keeper of another build: `argv[0]` first; `--resume N` is added, and where it
    /// comes back `--refused WHY`. Empty if it cannot.
    pub handover: Vec<String>,
    /// What `--resume` and `--refused` say, if another image of this process handed everything over.
    pub resume: Option<Resume>,
}

/// What another image of this process says.
#[derive(Clone, Debug)]
pub struct Resume {
    /// The descriptor that tells everything.
    pub memory: i32,
    /// Why the next image gave it back.
    pub refused: Option<String>,
    /// Why this image is not to go on with it, if it is not: a build that is no good. The former one goes on then.
    pub unfit: Option<String>,
}

/// How one of ostler's own processes is started: with the keeper's environment and these additions.
#[derive(Clone)]
pub struct CommandLine {
    /// Absolute path.
    pub program: PathBuf,
    /// `argv[0]` first. The process learns from them where the keeper's socket is.
    pub arguments: Vec<String>,
    /// Added to the keeper's own environment.
    pub environment: BTreeMap<String, String>,
    /// Appended to with standard output and error; absolute. Its folder must be there.
    pub log: PathBuf,
    /// When the log is rotated.
    pub log_bytes_max: u64,
}

impl std::fmt::Debug for CommandLine {
    /// Without the environment and the arguments: they may hold credentials.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("CommandLine").field("program", &self.program).finish_non_exhaustive()
    }
}

/// The keeper's socket in a home.
pub fn socket_path(home: &Path) -> PathBuf {
    home.join("keeper.sock")
}

/// Why a keeper could not begin, or had to end.
#[derive(Debug, thiserror::Error)]
pub enum KeeperError {
    /// The home cannot be used.
    #[error("cannot prepare the home {home}")]
    Home {
        /// The folder.
        home: PathBuf,
        /// The system's words.
        #[source]
        cause: io::Error,
    },
    /// There is one already.
    #[error("another keeper is running for {home}")]
    Taken {
        /// The folder.
        home: PathBuf,
    },
    /// The ledger cannot be opened.
    #[error("cannot open the ledger {path}")]
    Ledger {
        /// The file.
        path: PathBuf,
        /// The system's words.
        #[source]
        cause: io::Error,
    },
    /// The socket cannot be listened on.
    #[error("cannot listen on {path}")]
    Socket {
        /// The socket.
        path: PathBuf,
        /// The system's words.
        #[source]
        cause: io::Error,
    },
    /// The kernel lacks something, or refused it.
    #[error("cannot {step}")]
    System {
        /// What was tried.
        step: &'static str,
        /// The system's words.
        #[source]
        cause: io::Error,
    },
}

impl KeeperError {
    /// What to do about it.
    pub fn remedy(&self) -> String {
        match self {
            Self::Home { home, .. } | Self::Ledger { path: home, .. } | Self::Socket { path: home, .. } => {
                format!("Make sure that {} is on a local disk with room, and belongs to you.", home.display())
            }
            Self::Taken { .. } => "Nothing needs to be done: the running one answers. `ostler status` shows it.".into(),
            Self::System { .. } => {
                "The keeper needs Linux 5.9 or later with /proc mounted, and free file descriptors.".into()
            }
        }
    }
}

/// Runs the keeper until it is told to end: the main function of its process, which must have one thread. Changes the
/// process's signals, limits, file mode mask and OOM score.
///
/// # Errors
/// See [`KeeperError`]. Instances run on whatever happens.
pub fn run(config: Config) -> Result<(), KeeperError> {
    let socket = socket_path(&config.home);
    let mut keeper = match config.resume.clone() {
        None => {
            let lock = prepare_home(&config.home)?;
            let mut keeper = take_over(config, &socket, lock)?;
            keeper.look_at_builds(true);
            keeper
        }
        Some(resume) => resumed(config, &resume)?,
    };
    let result = keeper.turn_until_end().map_err(|cause| KeeperError::System { step: "wait for events", cause });
    // Nobody shall knock at a closed door. Programs that outlive the keeper do not need it.
    let _ = std::fs::remove_file(&socket);
    drop(keeper); // last, and with it the lock: the next keeper makes a new socket
    result
}

fn prepare_home(home: &Path) -> Result<OwnedFd, KeeperError> {
    let failed = |cause| KeeperError::Home { home: home.to_owned(), cause };
    rustix::process::umask(Mode::RWXG | Mode::RWXO);
    for folder in [home.to_owned(), home.join("run")] {
        std::fs::DirBuilder::new().recursive(true).mode(0o700).create(&folder).map_err(failed)?;
    }
    let flags = OFlags::RDWR | OFlags::CREATE | OFlags::CLOEXEC | OFlags::NOFOLLOW;
    let lock = rustix::fs::open(home.join("keeper.lock"), flags, Mode::RUSR | Mode::WUSR)
        .map_err(|error| failed(error.into()))?;
    let until = Instant::now() + LOCK_WITHIN;
    loop {
        match rustix::fs::flock(&lock, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => return Ok(lock),
            Err(rustix::io::Errno::WOULDBLOCK) if Instant::now() < until => std::thread::sleep(LOCK_EVERY),
            Err(rustix::io::Errno::WOULDBLOCK) => return Err(KeeperError::Taken { home: home.to_owned() }),
            Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(failed(error.into())),
        }
    }
}

/// Goes on where another image of this process was.
fn resumed(config: Config, resume: &Resume) -> Result<Keeper, KeeperError> {
    let step = |step: &'static str| move |cause: io::Error| KeeperError::System { step, cause };
    let state = handover::take(resume.memory, &config.handover, resume.unfit.clone())?;
    rustix::process::umask(Mode::RWXG | Mode::RWXO);
    let (lock, listener) = state.lock_and_listener().map_err(step("take over from the former keeper"))?;
    let children = Children { files: state.files, oom: state.oom };
    let (mut keeper, opened) = new_keeper(config, lock, children, || Ok(listener))?;
    keeper.name.clone_from(&state.name);
    state.put_into(&mut keeper, opened.found).map_err(step("take over from the former keeper"))?;
    sys::alarm(0); // it is up
    keeper.look_at_builds(false);
    if let Some(why) = &resume.refused {
        keeper.did_not_become(why);
    }
    for kind in [RoleKind::Manager, RoleKind::Gateway] {
        keeper.start_role_if_missing(kind);
    }
    Ok(keeper)
}

fn take_over(config: Config, socket: &Path, lock: OwnedFd) -> Result<Keeper, KeeperError> {
    let files = raise_open_files();
    let children = Children { files, oom: lower_oom_score() };
    let listen = || wire::listen(socket, 64).map_err(|cause| KeeperError::Socket { path: socket.to_owned(), cause });
    let (mut keeper, opened) = new_keeper(config, lock, children, listen)?;
    keeper.adopt(opened.found, opened.incomplete);
    Ok(keeper)
}

/// What a keeper found of another one's.
struct Left {
    found: Vec<ledger::Found>,
    incomplete: bool,
}

fn new_keeper(
    config: Config,
    lock: OwnedFd,
    children: Children,
    listen: impl FnOnce() -> Result<OwnedFd, KeeperError>,
) -> Result<(Keeper, Left), KeeperError> {
    let step = |step: &'static str| move |cause: io::Error| KeeperError::System { step, cause };
    let signals = Signals::take_over().map_err(step("take over signals"))?;
    let own = rustix::process::getpid();
    rustix::process::set_child_subreaper(Some(own)).map_err(|e| step("adopt orphans")(e.into()))?;
    let spawner = Spawner::new(children.files, children.oom).map_err(step("prepare for starting processes"))?;
    let boot_id = process::boot_id().map_err(step("read the boot id"))?;
    let home_mark = home_mark(&config.home, &boot_id).map_err(step("look at the home"))?;
    let own_pid = std::process::id();
    let start_ticks = process::stat(own_pid).map_err(step("read /proc"))?.start_ticks;
    let path = config.home.join("run").join("ledger");
    let opened = Ledger::open(&path, &boot_id).map_err(|cause| KeeperError::Ledger { path, cause })?;
    let now = Instant::now();
    let mut poll = Poll::new().map_err(step("wait for events"))?;
    poll.watch(&signals, Watch::Signals).map_err(step("wait for signals"))?;
    let listener = listen()?;
    poll.watch(&listener, Watch::Listener).map_err(step("wait for connections"))?;
    let keeper = Keeper {
        config,
        name: format!("{home_mark}-{start_ticks:x}-{own_pid:x}"),
        home_mark,
        starts: 0,
        poll,
        listener,
        lock,
        children,
        signals,
        spawner,
        ledger: opened.ledger,
        instances: BTreeMap::new(),
        mains: HashMap::new(),
        estate: Bucket::new(ESTATE_GRANT, now),
        sockets: Sockets::default(),
        tables: BTreeMap::new(),
        withdrawn: Withdrawn::default(),
        roles: Roles::new(now),
        connections: HashMap::new(),
        last_connection: 0,
        spare: crate::peers::spare_descriptor(),
        buffer: wire::buffer(),
        reports: Reports::new(),
        rescan: BTreeSet::new(),
        rotations: VecDeque::new(),
        logs_timer: false,
        orphans_timer: false,
        ending: None,
        replacing: Replacing::default(),
    };
    Ok((keeper, Left { found: opened.found, incomplete: opened.incomplete }))
}

/// How the incarnations of this home begin on this boot. Two homes on one machine never take each other's processes.
fn home_mark(home: &Path, boot_id: &str) -> io::Result<String> {
    let place = std::fs::metadata(home)?;
    let identity = format!("{}:{}", place.dev(), place.ino());
    let boot: String = boot_id.chars().filter(char::is_ascii_hexdigit).take(8).collect();
    Ok(format!("{boot}{:08x}", ledger::checksum(identity.as_bytes()) & 0xffff_ffff))
}

/// Raises the keeper's own limit of open files, and returns the one that its children get.
fn raise_open_files() -> (u64, u64) {
    let before = rustix::process::getrlimit(Resource::Nofile);
    let wanted = FILES.min(before.maximum.unwrap_or(u64::MAX));
    if before.current.is_some_and(|current| current < wanted) {
        // If it fails, fewer instances fit; each one that does not is refused by name.
        let _ = rustix::process::setrlimit(Resource::Nofile, Rlimit { current: Some(wanted), maximum: before.maximum });
    }
    (before.current.unwrap_or(u64::MAX), before.maximum.unwrap_or(u64::MAX))
}

/// Asks the kernel to spare the keeper, if that is permitted, and returns the score for its children if it was.
fn lower_oom_score() -> Option<i32> {
    let path = "/proc/self/oom_score_adj";
    let before: i32 = std::fs::read_to_string(path).ok()?.trim().parse().ok()?;
    if before <= OOM_SCORE {
        return Some(0); // somebody spared the keeper: that does not extend to its children
    }
    std::fs::write(path, OOM_SCORE.to_string()).ok()?;
    Some(before.max(0))
}
