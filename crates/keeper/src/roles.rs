//! The gateway and the manager: the two processes that the keeper brings back whatever happens.
//!
//! Invariant: a second one is not started while one is known to be alive, however it was started: a process that says
//! hello in a role is watched like one's own child.

use std::collections::BTreeMap;
use std::ops::{Index, IndexMut};
use std::time::{Duration, Instant};

use ostler_model::ids::InstanceId;
use rustix::process::{Pid, PidfdFlags, Signal};

use crate::builds::FileId;
use crate::grant::Persistence;
use crate::keeper::{Ending, Keeper, Kinship, Live, timestamp};
use crate::launch::Prepared;
use crate::ledger::{Entry, Who};
use crate::poll::{Timer, Token, Watch};
use crate::process::{self, Environ};
use crate::protocol::{GATEWAY_ENDS_WITHIN, Grant, Launch, Process, Refusal, Report};
use crate::replacing::BESIDE;
use crate::run::CommandLine;

/// The gateway comes back at once: callers wait for it. 50 times, and ten times a second for good.
const GATEWAY_GRANT: Grant = Grant { burst: 50, refill_ms: 100 };
const GATEWAY_PAUSE_MAX: Duration = Duration::from_secs(30);
/// The manager reads its whole journal at each start: five times in ten seconds.
const MANAGER_GRANT: Grant = Grant { burst: 5, refill_ms: 2000 };
const MANAGER_PAUSE_MAX: Duration = Duration::from_secs(60);
const PAUSE_MIN: Duration = Duration::from_secs(1);

/// Which of the two.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum RoleKind {
    Gateway,
    Manager,
}

impl RoleKind {
    pub(crate) fn who(self) -> Who {
        match self {
            Self::Gateway => Who::Gateway,
            Self::Manager => Who::Manager,
        }
    }
}

/// Both.
pub(crate) struct Roles {
    gateway: RoleState,
    manager: RoleState,
}

/// One of them.
pub(crate) struct RoleState {
    /// It is to be kept running.
    pub(crate) wanted: bool,
    pub(crate) launch: Option<Prepared>,
    pub(crate) process: Option<Live>,
    pub(crate) connection: Option<u64>,
    /// The program of its process, as long as that lives.
    pub(crate) file: Option<FileId>,
    /// It has said on this connection that it has come up.
    pub(crate) confirmed: bool,
    /// When it last said so, or was started.
    pub(crate) heard: Instant,
    persistence: Persistence,
    /// A timer will start it.
    pausing: bool,
}

impl Roles {
    pub(crate) fn new(now: Instant) -> Self {
        let role = |grant, pause_max| RoleState {
            wanted: false,
            launch: None,
            process: None,
            connection: None,
            file: None,
            confirmed: false,
            heard: now,
            persistence: Persistence::new(grant, PAUSE_MIN, pause_max, now),
            pausing: false,
        };
        Self { gateway: role(GATEWAY_GRANT, GATEWAY_PAUSE_MAX), manager: role(MANAGER_GRANT, MANAGER_PAUSE_MAX) }
    }
}

impl Index<RoleKind> for Roles {
    type Output = RoleState;

    fn index(&self, kind: RoleKind) -> &RoleState {
        match kind {
            RoleKind::Gateway => &self.gateway,
            RoleKind::Manager => &self.manager,
        }
    }
}

impl IndexMut<RoleKind> for Roles {
    fn index_mut(&mut self, kind: RoleKind) -> &mut RoleState {
        match kind {
            RoleKind::Gateway => &mut self.gateway,
            RoleKind::Manager => &mut self.manager,
        }
    }
}

impl Keeper {
    /// From now on keep it running, or no longer. The gateway is then ended; the manager is not: it says this itself.
    pub(crate) fn keep_up(&mut self, kind: RoleKind, wanted: bool) {
        self.roles[kind].wanted = wanted;
        match (kind, wanted) {
            (_, true) => self.start_role_if_missing(kind),
            (RoleKind::Gateway, false) => self.tell_gateway_to_end(),
            (RoleKind::Manager, false) => {}
        }
    }

    /// Starts it unless it is alive, not wanted, or a pause is under way.
    pub(crate) fn start_role_if_missing(&mut self, kind: RoleKind) {
        let role = &mut self.roles[kind];
        let alive = role.process.is_some() || role.connection.is_some();
        if !role.wanted || alive || role.pausing || self.ending.is_some() {
            return;
        }
        let now = Instant::now();
        let pause = role.persistence.next(now);
        if pause > Duration::ZERO {
            self.pause_role(kind, now + pause);
        } else {
            self.start_role(kind);
        }
    }

    fn start_role(&mut self, kind: RoleKind) {
        let Some(command) = self.command(kind) else { return }; // it was told none: only adopted ones are watched
        let launch = match self.roles[kind].launch.take() {
            Some(launch) if launch.program() == command.program.to_string_lossy() => Ok(launch),
            Some(_) | None => prepare(kind, &command, &self.config.home),
        };
        let started = launch.and_then(|mut launch| {
            launch.reopen_deleted_log();
            let started = self.start(&kind.who(), &launch, None);
            self.roles[kind].launch = Some(launch);
            started
        });
        self.watch_logs();
        match started {
            Ok(live) => {
                self.roles[kind].process = Some(live);
                self.role_started(kind);
            }
            // The binary is missing or the machine is out of something: try again, ever more slowly.
            Err(_) => {
                let now = Instant::now();
                let pause = self.roles[kind].persistence.next(now).max(PAUSE_MIN);
                self.pause_role(kind, now + pause);
            }
        }
    }

    /// How a process of this role is started now.
    fn command(&self, kind: RoleKind) -> Option<CommandLine> {
        let command = match kind {
            RoleKind::Gateway => self.config.gateway.clone(),
            RoleKind::Manager => self.config.manager.clone(),
        }?;
        let program = self.program_of(kind).unwrap_or_else(|| command.program.clone());
        Some(CommandLine { program, ..command })
    }

    /// Starts a process of this role beside the one that there is.
    pub(crate) fn start_beside(&mut self, kind: RoleKind) -> Result<Live, Refusal> {
        let Some(mut command) = self.command(kind) else {
            return Err(Refusal::NotUnderstood("this keeper does not know how to start it".into()));
        };
        command.environment.insert(BESIDE.into(), "1".into());
        let launch = prepare(kind, &command, &self.config.home)?;
        self.start(&kind.who(), &launch, None)
    }

    fn pause_role(&mut self, kind: RoleKind, until: Instant) {
        self.roles[kind].pausing = true;
        self.poll.at(until, Timer::Role(kind));
    }

    /// The pause before a start is over.
    pub(crate) fn pause_ended(&mut self, kind: RoleKind) {
        let role = &mut self.roles[kind];
        role.pausing = false;
        if role.wanted && role.process.is_none() && role.connection.is_none() {
            self.start_role(kind);
        }
    }

    /// Its process may have ended.
    pub(crate) fn role_ended(&mut self, kind: RoleKind, token: Token) {
        if kind == RoleKind::Gateway && self.beside_ended(token) {
            return;
        }
        let role = &mut self.roles[kind];
        let Some(live) = role.process.take_if(|live| live.token == token && live.exit().is_some()) else { return };
        self.forget(&live);
        self.ledger.clear(live.slot);
        let file = self.roles[kind].file.take();
        // The connection of the dead is dead. Closing it now keeps its end from being taken for the next one's.
        if let Some(connection) = self.roles[kind].connection {
            self.close(connection);
        }
        if kind == RoleKind::Gateway
            && let Some(ending) = &mut self.ending
        {
            ending.now = true;
        }
        if self.ending.is_none() && self.roles[kind].wanted {
            self.role_gone(kind, file);
        }
        self.start_role_if_missing(kind);
        self.advance();
    }

    /// A peer said hello in the role: it is the one from now on. False if it has died since: then nothing changes, or
    /// the last words of one that was killed would displace its successor.
    pub(crate) fn role_connected(&mut self, kind: RoleKind, connection: u64, pid: u32) -> bool {
        let known = self.roles[kind].process.as_ref().map(|live| live.process.pid);
        if known != Some(pid) {
            let Some(stranger) = self.watch_stranger(kind, pid) else { return false };
            if let Some(before) = self.roles[kind].process.replace(stranger) {
                // Each role has a lock of its own, so that one is on its way out. It is reaped with the orphans.
                self.forget(&before);
                self.ledger.clear(before.slot);
            }
        }
        self.note_file(kind);
        if let Some(before) = self.roles[kind].connection.replace(connection)
            && before != connection
        {
            self.close_quietly(before);
        }
        self.roles[kind].confirmed = false;
        if kind == RoleKind::Gateway {
            self.reports.push(timestamp(), Report::Gateway { up: true });
        }
        true
    }

    /// Its connection has closed.
    pub(crate) fn role_disconnected(&mut self, kind: RoleKind, connection: u64) {
        if self.roles[kind].connection != Some(connection) {
            return;
        }
        self.roles[kind].connection = None;
        self.roles[kind].confirmed = false;
        if kind == RoleKind::Gateway {
            self.reports.push(timestamp(), Report::Gateway { up: false });
        }
        // While its process lives it carries traffic and will connect again by itself.
        self.start_role_if_missing(kind);
    }

    /// Watches a process that another keeper or a person started. `None` if it has died, or cannot be watched.
    pub(crate) fn watch_stranger(&mut self, kind: RoleKind, pid: u32) -> Option<Live> {
        let raw = Pid::from_raw(i32::try_from(pid).ok()?)?;
        let pidfd = rustix::process::pidfd_open(raw, PidfdFlags::empty()).ok()?;
        let stat = process::stat(pid).ok().filter(|stat| !stat.dead)?;
        let incarnation = match process::environ(pid, &mut Vec::new()) {
            Environ::Marked { owner, incarnation } if owner == kind.who().marker() => incarnation,
            Environ::Marked { .. } | Environ::Unmarked | Environ::Clobbered | Environ::Unreadable => {
                format!("{}-foreign", self.home_mark)
            }
        };
        let entry = Entry {
            who: kind.who(),
            incarnation: incarnation.clone(),
            since: timestamp(),
            intended_ticks: stat.start_ticks,
            start_ticks: stat.start_ticks,
            digest: None,
            tree: None,
        };
        let slot = self.ledger.intend(None, &entry).ok()?;
        let watched =
            self.ledger.confirm(slot, pid, &entry).and_then(|()| self.poll.watch(&pidfd, Watch::Main(kind.who())));
        let Ok(token) = watched else {
            self.ledger.clear(slot);
            return None;
        };
        self.mains.insert(pid, kind.who());
        let process = Process { pid, start_ticks: stat.start_ticks, incarnation, since: entry.since };
        let kinship = Kinship::Stranger { readable: false };
        Some(Live { process, pidfd, token, slot, kinship, digest: None, tree: None })
    }

    /// Ends the gateway, then the keeper.
    pub(crate) fn end_with_gateway(&mut self, waiter: Option<crate::peers::Waiter>) {
        self.roles[RoleKind::Gateway].wanted = false;
        self.roles[RoleKind::Manager].wanted = false;
        let alone = self.roles[RoleKind::Gateway].process.is_none();
        self.ending = Some(Ending { waiter, now: alone });
        if !alone {
            self.tell_gateway_to_end();
            self.poll.at(Instant::now() + GATEWAY_ENDS_WITHIN, Timer::End);
        }
    }

    fn tell_gateway_to_end(&mut self) {
        if let Some(live) = &self.roles[RoleKind::Gateway].process {
            let _ = rustix::process::pidfd_send_signal(&live.pidfd, Signal::TERM); // an error: it has just ended
        }
    }

    /// It was patient enough with the gateway.
    pub(crate) fn kill_ending_gateway(&mut self) {
        if let Some(live) = &self.roles[RoleKind::Gateway].process {
            let _ = rustix::process::pidfd_send_signal(&live.pidfd, Signal::KILL);
        }
    }
}

/// The keeper's own environment and the additions.
fn prepare(kind: RoleKind, command: &CommandLine, home: &std::path::Path) -> Result<Prepared, Refusal> {
    let mut environment: BTreeMap<String, String> = std::env::vars_os()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
        .collect();
    environment.extend(command.environment.iter().map(|(name, value)| (name.clone(), value.clone())));
    let marker = kind.who().marker();
    let service = marker.parse().expect("both markers are service names");
    let launch = Launch {
        instance: InstanceId::new(service, 1), // only for messages: it is not kept as an instance
        digest: String::new(),
        program: command.program.clone(),
        arguments: command.arguments.clone(),
        environment,
        folder: home.to_owned(),
        log: command.log.clone(),
        log_bytes_max: command.log_bytes_max,
        user: None,
        socket: None,
        cgroups: Vec::new(),
        rlimits: Vec::new(),
        tree: false,
    };
    Prepared::new(&marker, &launch)
}
