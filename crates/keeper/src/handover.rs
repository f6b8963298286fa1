//! Becoming another image of this process: everything it holds goes through `execve`, and its children stay its own.
//!
//! What is known is text in a sealed memory file; descriptors keep their numbers. The first line of that text has the
//! same form in all builds: a word, the version of what follows, and the program to go back to. An image that does not
//! understand what follows executes that program with the very same descriptors, before it has touched anything.
//!
//! Invariant: nothing of what was handed over is closed or changed before all of it was understood. An image that hangs
//! or dies later leaves what a killed keeper leaves: its children run on, and the next keeper adopts them.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::io::{self, Read, Seek, Write};
use std::net::SocketAddr;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use ostler_model::health::Exit;
use ostler_model::ids::InstanceId;
use ostler_model::time::Timestamp;
use rustix::fs::{MemfdFlags, SealFlags};
use rustix::io::FdFlags;
use serde::{Deserialize, Serialize};

use crate::grant::Bucket;
use crate::keeper::{Instance, Keeper, Kinship, Live, Phase};
use crate::launch::Prepared;
use crate::ledger::{Slot, Who};
use crate::poll::{Timer, Watch};
use crate::protocol::{Grant, Launch, Process, Report};
use crate::roles::RoleKind;
use crate::run::KeeperError;
use crate::sockets::Held;
use crate::starting::Ended;
use crate::stopping::{Clearing, Stopping};
use crate::sys;

/// The version of what follows the first line.
pub const VERSION: u32 = 1;
const WORD: &str = "ostler-keeper";
/// What is handed over is not longer: launches with their environments, and reports that wait.
const BYTES_MAX: u64 = 1 << 30;
/// How long the next image may take until its first turn; then the kernel ends it.
const UP_WITHIN_SECONDS: u32 = 20;

/// What the other image is told.
#[derive(Serialize, Deserialize)]
pub(crate) struct State {
    pub(crate) name: String,
    pub(crate) starts: u64,
    pub(crate) files: (u64, u64),
    pub(crate) oom: Option<i32>,
    lock: RawFd,
    listener: RawFd,
    instances: BTreeMap<InstanceId, InstanceState>,
    sockets: BTreeMap<String, (SocketAddr, bool, RawFd)>,
    tables: BTreeMap<String, String>,
    withdrawn: (Vec<String>, Vec<String>),
    manager: RoleState,
    gateway: RoleState,
    former: Vec<LiveState>,
    estate: (Grant, u32),
    last_report: u64,
    reports: Vec<(u64, Timestamp, Report)>,
}

#[derive(Serialize, Deserialize)]
struct RoleState {
    wanted: bool,
    process: Option<LiveState>,
}

#[derive(Serialize, Deserialize)]
struct InstanceState {
    launch: Option<Launch>,
    bucket: (Grant, u32),
    phase: PhaseState,
}

#[derive(Serialize, Deserialize)]
enum PhaseState {
    Dead,
    Alive(LiveState),
    Clearing { process: Process, exit: Exit, slot: u32, folder: PathBuf },
    Stopping { main: Option<LiveState>, exit: Option<Exit>, rest: RestState },
}

/// What a stop still waits for.
#[derive(Serialize, Deserialize)]
pub(crate) struct RestState {
    pub(crate) leader: Option<(u32, u64)>,
    pub(crate) folder: Option<PathBuf>,
    pub(crate) signal: Option<i32>,
    pub(crate) left_ms: u64,
    pub(crate) firm: bool,
}

#[derive(Serialize, Deserialize)]
struct LiveState {
    process: Process,
    pidfd: RawFd,
    slot: u32,
    /// `None`: a child. Else whether the kernel shows its status.
    stranger: Option<bool>,
    digest: Option<String>,
    tree: Option<PathBuf>,
}

impl LiveState {
    fn of(live: &Live) -> Self {
        Self {
            process: live.process.clone(),
            pidfd: live.pidfd.as_raw_fd(),
            slot: live.slot.number(),
            stranger: match live.kinship {
                Kinship::Child => None,
                Kinship::Stranger { readable } => Some(readable),
            },
            digest: live.digest.as_deref().map(str::to_owned),
            tree: live.tree.clone(),
        }
    }
}

impl Keeper {
    /// Becomes `program`. Returns only if that cannot be, and then nothing has changed.
    pub(crate) fn become_image(&mut self, program: &Path) -> io::Error {
        match self.try_become(program) {
            Ok(never) => match never {},
            Err(error) => error,
        }
    }

    fn try_become(&mut self, program: &Path) -> io::Result<std::convert::Infallible> {
        let state = self.hand_over();
        let back = std::fs::read_link("/proc/self/exe").unwrap_or_default();
        let back = self.going_back().unwrap_or(back);
        let memory = write(&state, &back)?;
        let mut kept = state.descriptors();
        kept.push(memory.as_raw_fd());
        for descriptor in &kept {
            sys::on_exec(*descriptor, FdFlags::empty())?;
        }
        sys::alarm(UP_WITHIN_SECONDS);
        let error = sys::execute(program, &arguments(&self.config.handover, memory.as_raw_fd(), None));
        sys::alarm(0);
        for descriptor in kept {
            sys::on_exec(descriptor, FdFlags::CLOEXEC)?;
        }
        Err(error)
    }

    /// The kept copy of the build that this process is of: the file it was started from may be another one by now.
    fn going_back(&self) -> Option<PathBuf> {
        let upgrade = self.replacing.state.upgrade.as_ref()?;
        let own = if upgrade.back.is_some() { &upgrade.to } else { &upgrade.from };
        Some(crate::builds::path(&self.config.home, &own.sha256))
    }

    fn hand_over(&mut self) -> State {
        let now = Instant::now();
        let role = |keeper: &Self, kind: RoleKind| RoleState {
            wanted: keeper.roles[kind].wanted,
            process: keeper.roles[kind].process.as_ref().map(LiveState::of),
        };
        let (manager, gateway) = (role(self, RoleKind::Manager), role(self, RoleKind::Gateway));
        let instances = self.instances.iter_mut().map(|(id, instance)| {
            let launch = instance.launch.as_ref().map(|launch| launch.to_launch(id));
            let phase = match &instance.phase {
                Phase::Dead => PhaseState::Dead,
                Phase::Alive(live) => PhaseState::Alive(LiveState::of(live)),
                Phase::Clearing(clearing) => {
                    let (process, exit, slot, folder) = clearing.hand_over();
                    PhaseState::Clearing { process, exit, slot: slot.number(), folder }
                }
                Phase::Stopping(stopping) => PhaseState::Stopping {
                    main: stopping.main.as_ref().map(LiveState::of),
                    exit: stopping.exit,
                    rest: stopping.hand_over(now),
                },
            };
            (id.clone(), InstanceState { launch, bucket: instance.bucket.left(now), phase })
        });
        let (last_report, reports) = self.reports.hand_over();
        State {
            instances: instances.collect(),
            name: self.name.clone(),
            starts: self.starts,
            files: self.children.files,
            oom: self.children.oom,
            lock: self.lock.as_raw_fd(),
            listener: self.listener.as_raw_fd(),
            sockets: self
                .sockets
                .iter()
                .map(|(name, held)| (name.clone(), (held.address, held.shared, held.socket.as_raw_fd())))
                .collect(),
            tables: self.tables.clone(),
            withdrawn: (
                self.withdrawn.sockets.iter().cloned().collect(),
                self.withdrawn.tables.iter().cloned().collect(),
            ),
            manager,
            gateway,
            former: self.replacing.former.iter().map(LiveState::of).collect(),
            estate: self.estate.left(now),
            last_report,
            reports,
        }
    }
}

impl State {
    /// All that come along.
    fn descriptors(&self) -> Vec<RawFd> {
        let of_instances = self.instances.values().filter_map(|instance| match &instance.phase {
            PhaseState::Alive(live) | PhaseState::Stopping { main: Some(live), .. } => Some(live),
            PhaseState::Dead | PhaseState::Clearing { .. } | PhaseState::Stopping { main: None, .. } => None,
        });
        let of_roles = [&self.manager, &self.gateway].into_iter().filter_map(|role| role.process.as_ref());
        let lives = of_instances.chain(of_roles).chain(&self.former).map(|live| live.pidfd);
        let sockets = self.sockets.values().map(|(_, _, socket)| *socket);
        [self.lock, self.listener].into_iter().chain(lives).chain(sockets).collect()
    }

    /// Takes the lock and the listener over.
    pub(crate) fn lock_and_listener(&self) -> io::Result<(OwnedFd, OwnedFd)> {
        Ok((sys::inherit(self.lock)?, sys::inherit(self.listener)?))
    }

    /// Puts what was handed over into a keeper that knows nothing yet.
    pub(crate) fn put_into(self, keeper: &mut Keeper, found: Vec<crate::ledger::Found>) -> io::Result<()> {
        let now = Instant::now();
        keeper.starts = self.starts;
        keeper.estate = Bucket::with(self.estate.0, self.estate.1, now);
        keeper.tables = self.tables;
        keeper.withdrawn.sockets = self.withdrawn.0.into_iter().collect();
        keeper.withdrawn.tables = self.withdrawn.1.into_iter().collect();
        keeper.reports = crate::reports::Reports::taken_over(self.last_report, self.reports);
        for (name, (address, shared, socket)) in self.sockets {
            keeper.sockets.put(name, Held { socket: sys::inherit(socket)?, address, shared });
        }
        let mut used = Vec::new();
        for (kind, role) in [(RoleKind::Manager, self.manager), (RoleKind::Gateway, self.gateway)] {
            keeper.roles[kind].wanted = role.wanted;
            keeper.roles[kind].process = match role.process {
                Some(live) => Some(keeper.resumed(live, kind.who(), &mut used)?),
                None => None,
            };
        }
        for live in self.former {
            let live = keeper.resumed(live, Who::Gateway, &mut used)?;
            keeper.replacing.former.push(live);
        }
        for (id, state) in self.instances {
            let launch = state.launch.and_then(|launch| Prepared::new(&id.to_string(), &launch).ok());
            let bucket = Bucket::with(state.bucket.0, state.bucket.1, now);
            let phase = match state.phase {
                PhaseState::Dead => Phase::Dead,
                PhaseState::Alive(live) => Phase::Alive(keeper.resumed(live, Who::Instance(id.clone()), &mut used)?),
                PhaseState::Clearing { process, exit, slot, folder } => {
                    used.push(slot);
                    let ended = Ended { process, exit, slot: Slot::of(slot) };
                    keeper.rescan.insert(id.clone());
                    Phase::Clearing(Clearing::new(&id, ended, folder, &mut keeper.poll))
                }
                PhaseState::Stopping { main, exit, rest } => {
                    let main = match main {
                        Some(live) => Some(keeper.resumed(live, Who::Instance(id.clone()), &mut used)?),
                        None => None,
                    };
                    keeper.rescan.insert(id.clone());
                    keeper.poll.at(now + Duration::from_millis(rest.left_ms), Timer::Firm(id.clone()));
                    Phase::Stopping(Stopping::resumed(&id, main, exit, rest, now))
                }
            };
            keeper.instances.insert(id, Instance { launch, bucket, phase });
        }
        for found in found.into_iter().filter(|found| !used.contains(&found.slot.number())) {
            keeper.ledger.clear(found.slot);
        }
        keeper.watch_logs();
        keeper.poll.at(now, Timer::Orphans);
        Ok(())
    }
}

impl Keeper {
    fn resumed(&mut self, state: LiveState, who: Who, used: &mut Vec<u32>) -> io::Result<Live> {
        let pidfd = sys::inherit(state.pidfd)?;
        let token = self.poll.watch(&pidfd, Watch::Main(who.clone()))?;
        self.mains.insert(state.process.pid, who);
        used.push(state.slot);
        let kinship = match state.stranger {
            None => Kinship::Child,
            Some(readable) => Kinship::Stranger { readable },
        };
        let digest = state.digest.map(Into::into);
        let slot = Slot::of(state.slot);
        Ok(Live { process: state.process, pidfd, token, slot, kinship, digest, tree: state.tree })
    }
}

fn write(state: &State, back: &Path) -> io::Result<OwnedFd> {
    let memory = rustix::fs::memfd_create("ostler-keeper", MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING)?;
    let mut file = std::fs::File::from(memory);
    writeln!(file, "{WORD} {VERSION} {}", back.display())?;
    file.write_all(&serde_json::to_vec(state)?)?;
    file.rewind()?;
    rustix::fs::fcntl_add_seals(&file, SealFlags::WRITE | SealFlags::SHRINK | SealFlags::GROW | SealFlags::SEAL)?;
    Ok(file.into())
}

fn arguments(command: &[String], memory: RawFd, refused: Option<&str>) -> Vec<OsString> {
    let mut all: Vec<OsString> = command.iter().map(Into::into).collect();
    all.extend(["--resume".into(), memory.to_string().into()]);
    if let Some(why) = refused {
        all.extend(["--refused".into(), why.into()]);
    }
    all
}

/// What was handed over to this process, in the descriptor `memory`. Where it is not understood, this process becomes
/// the program again that handed it over, and this does not return; the same where it is `unfit` to go on with it.
///
/// # Errors
/// If it cannot even become that one again.
pub(crate) fn take(memory: RawFd, command: &[String], unfit: Option<String>) -> Result<State, KeeperError> {
    let failed = |cause| KeeperError::System { step: "take over from the former keeper", cause };
    let borrowed = sys::borrow(memory).map_err(failed)?;
    let (head, text) = read(borrowed).map_err(failed)?;
    let why = match unfit.map_or_else(|| understand(&head, &text), Err) {
        Ok(state) => match state.descriptors().into_iter().find(|descriptor| sys::borrow(*descriptor).is_err()) {
            None => {
                drop(sys::inherit(memory).map_err(failed)?);
                return Ok(state);
            }
            Some(missing) => format!("descriptor {missing} did not come along"),
        },
        Err(why) => why,
    };
    let back = head.splitn(3, ' ').nth(2).unwrap_or_default().to_owned();
    Err(failed(sys::execute(Path::new(&back), &arguments(command, memory, Some(&why)))))
}

fn read(memory: BorrowedFd<'_>) -> io::Result<(String, Vec<u8>)> {
    // A descriptor of one's own for the reading, so that the one that was handed over stays open whatever happens.
    let mut file = std::fs::File::from(memory.as_fd().try_clone_to_owned()?);
    file.rewind()?;
    let mut text = Vec::new();
    (&mut file).take(BYTES_MAX).read_to_end(&mut text)?;
    file.rewind()?;
    let end = text.iter().position(|byte| *byte == b'\n').ok_or(io::ErrorKind::InvalidData)?;
    let rest = text.split_off(end + 1);
    text.pop();
    Ok((String::from_utf8(text).map_err(|_| io::ErrorKind::InvalidData)?, rest))
}

fn understand(head: &str, text: &[u8]) -> Result<State, String> {
    let mut words = head.splitn(3, ' ');
    let (word, version) = (words.next(), words.next().and_then(|version| version.parse().ok()));
    match (word, version) {
        (Some(WORD), Some(VERSION)) => serde_json::from_slice(text).map_err(|error| {
            format!("what was handed over is not understood ({:?} at {})", error.classify(), error.column())
        }),
        (Some(WORD), Some(other)) => {
            let other: u32 = other;
            Err(format!("it takes over version {VERSION} of what a keeper holds, and was given version {other}"))
        }
        _ => Err("what was handed over is no keeper's".to_owned()),
    }
}
