//! What the keeper knows, and one turn of its loop.
//!
//! Invariant: in each turn deaths come first, before orders, reports and logs, so that nothing delays a reflex but the
//! kernel and other reflexes.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::PathBuf;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use ostler_model::health::Exit;
use ostler_model::ids::InstanceId;
use ostler_model::time::Timestamp;
use rustix::event::epoll::EventFlags;
use rustix::process::{WaitId, WaitIdOptions};

use crate::grant::Bucket;
use crate::launch::Prepared;
use crate::ledger::{Ledger, Slot, Who};
use crate::logs::{Progress, Rotation};
use crate::peers::{Connection, Waiter};
use crate::poll::{Poll, Timer, Token, Watch};
use crate::process;
use crate::protocol::Process;
use crate::replacing::Replacing;
use crate::reports::Reports;
use crate::roles::{RoleKind, Roles};
use crate::run::Config;
use crate::sockets::Sockets;
use crate::stopping::{Clearing, Stopping};
use crate::sys::{self, Signals, Spawner};

/// How often the sizes of logs are looked at: with few instances, and with more than [`MANY_INSTANCES`].
const LOGS_EVERY: Duration = Duration::from_secs(5);
const LOGS_EVERY_WITH_MANY: Duration = Duration::from_secs(30);
const MANY_INSTANCES: usize = 500;
/// Looking for orphans walks all children, and nobody waits for it: not in the middle of a reflex.
const ORPHANS_AFTER: Duration = Duration::from_millis(100);

/// Everything.
pub(crate) struct Keeper {
    pub(crate) config: Config,
    /// Differs for each keeper; incarnations begin with it.
    pub(crate) name: String,
    /// How the incarnations of all keepers of this home begin, on this boot.
    pub(crate) home_mark: String,
    /// Of starts, for incarnations.
    pub(crate) starts: u64,
    pub(crate) poll: Poll,
    pub(crate) listener: OwnedFd,
    /// By which it is the only one of its home.
    pub(crate) lock: OwnedFd,
    pub(crate) children: Children,
    pub(crate) signals: Signals,
    pub(crate) spawner: Spawner,
    pub(crate) ledger: Ledger,
    pub(crate) instances: BTreeMap<InstanceId, Instance>,
    /// Every living main process, by process id.
    pub(crate) mains: HashMap<u32, Who>,
    /// Of reflexes, estate-wide.
    pub(crate) estate: Bucket,
    pub(crate) sockets: Sockets,
    pub(crate) tables: BTreeMap<String, String>,
    pub(crate) withdrawn: Withdrawn,
    pub(crate) roles: Roles,
    pub(crate) connections: HashMap<u64, Connection>,
    pub(crate) last_connection: u64,
    /// See [`crate::peers::spare_descriptor`].
    pub(crate) spare: Option<OwnedFd>,
    /// For received packets; one for all connections.
    pub(crate) buffer: Box<[u8]>,
    pub(crate) reports: Reports,
    /// Instances whose trees have to be looked through before this turn ends.
    pub(crate) rescan: BTreeSet<InstanceId>,
    pub(crate) rotations: VecDeque<Rotation>,
    pub(crate) logs_timer: bool,
    pub(crate) orphans_timer: bool,
    pub(crate) ending: Option<Ending>,
    /// Of one build by another.
    pub(crate) replacing: Replacing,
}

/// What children get in place of what the keeper has changed for itself.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Children {
    /// Open files, soft and hard.
    pub(crate) files: (u64, u64),
    /// The OOM score adjustment.
    pub(crate) oom: Option<i32>,
}

/// What the manager has withdrawn from the gateway in this keeper's life. A gateway that offers it back has not heard
/// of that yet, and must not bring it to life again.
#[derive(Default)]
pub(crate) struct Withdrawn {
    pub(crate) sockets: BTreeSet<String>,
    pub(crate) tables: BTreeSet<String>,
}

/// One instance that is alive or remembered.
pub(crate) struct Instance {
    /// What to start again; `None` if nobody has told this keeper, or it is being stopped.
    pub(crate) launch: Option<Prepared>,
    pub(crate) bucket: Bucket,
    pub(crate) phase: Phase,
}

/// Where an instance is in its life.
pub(crate) enum Phase {
    /// Remembered only.
    Dead,
    /// Its main process runs.
    Alive(Live),
    /// Its main process ended, and the rest of its tree must go before it is started again.
    Clearing(Clearing),
    /// It was ordered to stop.
    Stopping(Stopping),
}

/// A main process that is alive as far as is known.
pub(crate) struct Live {
    pub(crate) process: Process,
    pub(crate) pidfd: OwnedFd,
    pub(crate) token: Token,
    pub(crate) slot: Slot,
    pub(crate) kinship: Kinship,
    /// Of the launch that it was started from.
    pub(crate) digest: Option<Box<str>>,
    /// The folder of a tree; `None` if it is no tree.
    pub(crate) tree: Option<PathBuf>,
}

/// Who can tell how a process ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kinship {
    /// Ours: we reap it.
    Child,
    /// Adopted: somebody else reaps it. `readable` if the kernel shows us its status as long as it is a zombie.
    Stranger {
        /// See above.
        readable: bool,
    },
}

/// The keeper was told to end, and waits for the gateway.
pub(crate) struct Ending {
    pub(crate) waiter: Option<Waiter>,
    /// Nothing more to wait for.
    pub(crate) now: bool,
}

impl Keeper {
    /// Turns until the end.
    pub(crate) fn turn_until_end(&mut self) -> io::Result<()> {
        let mut events = Vec::new();
        while !self.ending.as_ref().is_some_and(|ending| ending.now) {
            let work = !self.rescan.is_empty() || !self.rotations.is_empty() || self.replacing.becoming.is_some();
            self.poll.wait(work, &mut events)?;
            self.turn(&events);
            if let Some(program) = self.replacing.becoming.clone() {
                let error = self.become_image(&program);
                self.did_not_become(&error.to_string());
            }
        }
        if let Some(Ending { waiter: Some(waiter), .. }) = self.ending.take() {
            self.answer(waiter, crate::protocol::Answer::Done, None);
        }
        Ok(())
    }

    fn turn(&mut self, events: &[(Token, EventFlags)]) {
        for (token, _) in events {
            match self.poll.whose(*token).cloned() {
                Some(Watch::Main(who)) => self.main_ended(&who, *token),
                Some(Watch::Member(id)) => self.member_ended(&id, *token),
                Some(Watch::Listener | Watch::Signals | Watch::Connection(_)) | None => {}
            }
        }
        for (token, flags) in events {
            match self.poll.whose(*token).cloned() {
                Some(Watch::Signals) => self.signalled(),
                Some(Watch::Listener) => self.accept(),
                Some(Watch::Connection(id)) => self.peer_ready(id, *flags),
                Some(Watch::Main(_) | Watch::Member(_)) | None => {}
            }
        }
        let now = Instant::now();
        while let Some(timer) = self.poll.due(now) {
            self.timer(timer);
        }
        self.rescan_trees();
        self.pump_reports();
        self.rotate_a_little();
    }

    fn timer(&mut self, timer: Timer) {
        match timer {
            Timer::Firm(id) => self.patience_ended(&id),
            Timer::Rescan(id) => {
                self.rescan.insert(id);
            }
            Timer::Role(kind) => self.pause_ended(kind),
            Timer::Orphans => self.reap_orphans(),
            Timer::Logs => self.look_at_logs(),
            Timer::End => self.kill_ending_gateway(),
            Timer::Upgrade => self.advance(),
        }
    }

    fn signalled(&mut self) {
        let arrived = self.signals.drain();
        if arrived.child && !self.orphans_timer {
            self.orphans_timer = true;
            self.poll.at(Instant::now() + ORPHANS_AFTER, Timer::Orphans);
        }
        if arrived.end {
            self.ending = Some(Ending { waiter: None, now: true }); // everything runs on; the next keeper adopts it
        }
    }

    /// Orphans of trees become the keeper's children, and nobody else reaps them. A known child is never reaped here:
    /// its status belongs to its report.
    fn reap_orphans(&mut self) {
        self.orphans_timer = false;
        while let Some(pid) = sys::peek_dead_child() {
            let child = self.mains.get(&pid).cloned().and_then(|who| {
                let live = self.live(&who)?;
                (live.kinship == Kinship::Child).then_some((who, live.token))
            });
            match child {
                Some((who, token)) => self.main_ended(&who, token),
                None => {
                    sys::reap(pid);
                }
            }
            if self.mains.contains_key(&pid) && sys::peek_dead_child() == Some(pid) {
                return; // cannot happen; but if it did, this must not turn for ever
            }
        }
    }

    /// The main process of this name.
    pub(crate) fn live(&self, who: &Who) -> Option<&Live> {
        match who {
            Who::Instance(id) => match &self.instances.get(id)?.phase {
                Phase::Alive(live) => Some(live),
                Phase::Stopping(stopping) => stopping.main.as_ref(),
                Phase::Dead | Phase::Clearing(_) => None,
            },
            Who::Gateway => self.roles[RoleKind::Gateway].process.as_ref(),
            Who::Manager => self.roles[RoleKind::Manager].process.as_ref(),
        }
    }

    fn main_ended(&mut self, who: &Who, token: Token) {
        match who {
            Who::Instance(id) => self.instance_ended(id, token),
            Who::Gateway => self.role_ended(RoleKind::Gateway, token),
            Who::Manager => self.role_ended(RoleKind::Manager, token),
        }
    }

    /// Ends the watch over a dead main process; its slot in the ledger is the caller's.
    pub(crate) fn forget(&mut self, live: &Live) {
        self.poll.forget(live.token);
        self.mains.remove(&live.process.pid);
    }

    /// How many instances are not just remembered.
    pub(crate) fn running(&self) -> usize {
        self.instances.values().filter(|instance| !matches!(instance.phase, Phase::Dead)).count()
    }

    /// Makes sure that logs are looked at while there are any.
    pub(crate) fn watch_logs(&mut self) {
        if !self.logs_timer {
            self.logs_timer = true;
            let every = if self.instances.len() > MANY_INSTANCES { LOGS_EVERY_WITH_MANY } else { LOGS_EVERY };
            self.poll.at(Instant::now() + every, Timer::Logs);
        }
    }

    fn look_at_logs(&mut self) {
        self.logs_timer = false;
        let of_roles = [RoleKind::Gateway, RoleKind::Manager].map(|kind| self.roles[kind].launch.as_ref());
        let launches = self.instances.values().filter_map(|instance| instance.launch.as_ref());
        let mut any = false;
        for launch in launches.chain(of_roles.into_iter().flatten()) {
            any = true;
            // A log that cannot be rotated now is tried again at the next look; it goes on growing until then.
            if let Ok(Some(rotation)) = Rotation::begin(launch.log()) {
                self.rotations.push_back(rotation);
            }
        }
        if any {
            // While a rotation is under way its log is still too long: the next look comes after all of them.
            if self.rotations.is_empty() {
                self.watch_logs();
            }
        }
    }

    fn rotate_a_little(&mut self) {
        let Some(rotation) = self.rotations.front_mut() else { return };
        match rotation.step() {
            Ok(Progress::More) => return,
            Ok(Progress::Done) | Err(_) => self.rotations.pop_front(),
        };
        if self.rotations.is_empty() {
            self.watch_logs();
        }
    }
}

impl Live {
    /// How it ended; `None` if it has not.
    pub(crate) fn exit(&self) -> Option<Exit> {
        match self.kinship {
            Kinship::Child => {
                match rustix::process::waitid(
                    WaitId::PidFd(self.pidfd.as_fd()),
                    WaitIdOptions::EXITED | WaitIdOptions::NOHANG,
                ) {
                    Ok(Some(status)) => Some(match (status.exit_status(), status.terminating_signal()) {
                        (Some(code), _) => Exit::Code(code),
                        (None, Some(signal)) => Exit::Signal(signal),
                        (None, None) => Exit::Unknown,
                    }),
                    Ok(None) => None,
                    Err(_) => Some(Exit::Unknown), // it is no longer ours to wait for, so it is gone
                }
            }
            Kinship::Stranger { readable } => {
                if let Ok(stat) = process::stat(self.process.pid)
                    && stat.start_ticks == self.process.start_ticks
                {
                    if !stat.dead {
                        return None;
                    }
                    if readable || stat.wait_status != 0 {
                        return Some(sys::exit_from_wait_status(stat.wait_status));
                    }
                }
                Some(sys::exit_of_stranger(&self.pidfd).unwrap_or(Exit::Unknown))
            }
        }
    }
}

/// The time of day.
pub(crate) fn timestamp() -> Timestamp {
    let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Timestamp(i64::try_from(since_epoch.as_micros()).unwrap_or(i64::MAX))
}
