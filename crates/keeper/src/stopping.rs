//! Ending instances as a whole: ordered stops, and trees whose main process died and whose rest has to go before they
//! can be started again.
//!
//! Invariant: an instance counts as gone only after a look through all processes has found nothing of it. Nobody waits
//! by polling: each process found is watched by its own pidfd, and the next look comes when all of them are gone.

use std::collections::BTreeMap;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use ostler_model::health::Exit;
use ostler_model::ids::InstanceId;
use rustix::process::{Pid, PidfdFlags, Signal};

use crate::grant::Bucket;
use crate::handover::RestState;
use crate::keeper::{Instance, Keeper, Live, Phase, timestamp};
use crate::ledger::Slot;
use crate::peers::Waiter;
use crate::poll::{Poll, Timer, Token, Watch};
use crate::process;
use crate::protocol::{Answer, Grant, Process, Reflex, Refusal, Report};
use crate::starting::Ended;
use crate::tree::{self, Lineage};

/// How long the rest of a tree may take to go by itself after its main process died. PostgreSQL's takes milliseconds;
/// a checkpoint on a slow disk takes seconds.
const CLEARING_MAX: Duration = Duration::from_secs(30);
/// A grace longer than this is cut: a day.
const GRACE_MS_MAX: u64 = 86_400_000;
/// After a look through /proc failed (no descriptor left).
const RESCAN_AFTER: Duration = Duration::from_millis(100);

/// An ordered stop.
pub(crate) struct Stopping {
    pub(crate) main: Option<Live>,
    pub(crate) exit: Option<Exit>,
    rest: Rest,
    waiters: Vec<Waiter>,
}

/// The main process of a tree has died.
pub(crate) struct Clearing {
    ended: Ended,
    rest: Rest,
    /// Those who ordered a start meanwhile.
    pub(crate) waiters: Vec<Waiter>,
}

/// What is left of an instance besides its main process.
struct Rest {
    lineage: Lineage,
    members: BTreeMap<Token, Member>,
    /// What a member is told when it is found; nothing while a tree goes by itself.
    signal: Option<Signal>,
    deadline: Instant,
    /// The deadline has passed: SIGKILL.
    firm: bool,
    /// Looks in a row that must find nothing. A process that is just being forked, or is just executing another
    /// program, can be missed by one look, so where there were more processes than one it takes two.
    looks_left: u8,
}

struct Member {
    pid: u32,
    pidfd: OwnedFd,
}

impl Clearing {
    pub(crate) fn new(id: &InstanceId, ended: Ended, folder: PathBuf, poll: &mut Poll) -> Self {
        let leader = Some((ended.process.pid, ended.process.start_ticks));
        let lineage = Lineage { instance: id.clone(), leader, folder: Some(folder) };
        let deadline = Instant::now() + CLEARING_MAX;
        poll.at(deadline, Timer::Firm(id.clone()));
        let rest = Rest { lineage, members: BTreeMap::new(), signal: None, deadline, firm: false, looks_left: 2 };
        Self { ended, rest, waiters: Vec::new() }
    }
}

impl Clearing {
    /// What another image of this process begins it from.
    pub(crate) fn hand_over(&self) -> (Process, Exit, Slot, PathBuf) {
        let Ended { process, exit, slot } = &self.ended;
        (process.clone(), *exit, *slot, self.rest.lineage.folder.clone().unwrap_or_default())
    }
}

impl Stopping {
    /// What another image of this process goes on from. Whoever waits asks again.
    pub(crate) fn hand_over(&self, now: Instant) -> RestState {
        RestState {
            leader: self.rest.lineage.leader,
            folder: self.rest.lineage.folder.clone(),
            signal: self.rest.signal.map(Signal::as_raw),
            left_ms: u64::try_from(self.rest.deadline.saturating_duration_since(now).as_millis()).unwrap_or(0),
            firm: self.rest.firm,
        }
    }

    /// Goes on from [`Stopping::hand_over`]: what is left is looked for again.
    pub(crate) fn resumed(
        id: &InstanceId,
        main: Option<Live>,
        exit: Option<Exit>,
        rest: RestState,
        now: Instant,
    ) -> Self {
        let lineage = Lineage { instance: id.clone(), leader: rest.leader, folder: rest.folder };
        let rest = Rest {
            lineage,
            members: BTreeMap::new(),
            signal: rest.signal.and_then(Signal::from_named_raw),
            deadline: now + Duration::from_millis(rest.left_ms),
            firm: rest.firm,
            looks_left: 2,
        };
        Self { main, exit, rest, waiters: Vec::new() }
    }
}

impl Keeper {
    /// Begins to stop an instance, or joins a stop that is under way.
    pub(crate) fn stop(&mut self, waiter: Waiter, id: &InstanceId, signal: Signal, grace_ms: u64) {
        let now = Instant::now();
        let deadline = now + Duration::from_millis(grace_ms.min(GRACE_MS_MAX));
        self.poll.at(deadline, Timer::Firm(id.clone()));
        let nothing = Grant { burst: 0, refill_ms: 1 };
        let instance = self.instances.entry(id.clone()).or_insert_with(|| Instance {
            launch: None,
            bucket: Bucket::new(nothing, now),
            phase: Phase::Dead,
        });
        instance.launch = None; // first of all: no reflex from here on
        let rest = |lineage: Lineage, members| {
            let looks_left = if lineage.folder.is_some() { 2 } else { 1 };
            Rest { lineage, members, signal: Some(signal), deadline, firm: false, looks_left }
        };
        let bare = Lineage { instance: id.clone(), leader: None, folder: None };
        instance.phase = match std::mem::replace(&mut instance.phase, Phase::Dead) {
            Phase::Stopping(mut stopping) => {
                stopping.waiters.push(waiter);
                stopping.rest.deadline = stopping.rest.deadline.min(deadline);
                Phase::Stopping(stopping)
            }
            Phase::Alive(live) => {
                let leader = Some((live.process.pid, live.process.start_ticks));
                let lineage = Lineage { leader, folder: live.tree.clone(), ..bare };
                // An error means that it has just ended, which its pidfd tells.
                let _ = rustix::process::pidfd_send_signal(&live.pidfd, signal);
                let rest = rest(lineage, BTreeMap::new());
                Phase::Stopping(Stopping { main: Some(live), exit: None, rest, waiters: vec![waiter] })
            }
            Phase::Clearing(clearing) => {
                let Clearing { ended, rest: Rest { lineage, members, .. }, waiters } = clearing;
                for member in members.values() {
                    let _ = rustix::process::pidfd_send_signal(&member.pidfd, signal);
                }
                self.ledger.clear(ended.slot);
                let Ended { process, exit, .. } = ended;
                let report = Report::Ended { instance: id.clone(), process, exit, reflex: Reflex::NoLaunch };
                self.reports.push(timestamp(), report);
                for waiter in waiters {
                    self.answer(waiter, Answer::Refused(Refusal::Stopping(id.clone())), None);
                }
                self.rescan.insert(id.clone());
                let stopping =
                    Stopping { main: None, exit: Some(exit), rest: rest(lineage, members), waiters: vec![waiter] };
                self.set_phase(id, Phase::Stopping(stopping));
                return;
            }
            Phase::Dead => {
                // Processes that a dead main process left behind are ended, too.
                self.rescan.insert(id.clone());
                let rest = rest(bare, BTreeMap::new());
                Phase::Stopping(Stopping { main: None, exit: None, rest, waiters: vec![waiter] })
            }
        };
    }

    /// A process of a tree ended.
    pub(crate) fn member_ended(&mut self, id: &InstanceId, token: Token) {
        self.poll.forget(token);
        let Some(rest) = self.rest(id) else { return };
        if rest.members.remove(&token).is_some() && rest.members.is_empty() {
            self.rescan.insert(id.clone());
        }
    }

    /// A grace may be over.
    pub(crate) fn patience_ended(&mut self, id: &InstanceId) {
        let now = Instant::now();
        let Some(rest) = self.rest(id) else { return };
        if rest.firm || rest.deadline > now {
            return; // of an earlier stop, or already seen to
        }
        rest.firm = true;
        for member in rest.members.values() {
            let _ = rustix::process::pidfd_send_signal(&member.pidfd, Signal::KILL);
        }
        if let Some(Phase::Stopping(Stopping { main: Some(live), .. })) =
            self.instances.get(id).map(|instance| &instance.phase)
        {
            let _ = rustix::process::pidfd_send_signal(&live.pidfd, Signal::KILL);
        }
        self.rescan.insert(id.clone()); // for those not found yet
    }

    /// Looks through all processes once, for every instance that asked for it.
    pub(crate) fn rescan_trees(&mut self) {
        let ids = std::mem::take(&mut self.rescan);
        let ids: Vec<InstanceId> = ids.into_iter().filter(|id| self.rest(id).is_some()).collect();
        if ids.is_empty() {
            return;
        }
        let lineages: Vec<Lineage> =
            ids.iter().filter_map(|id| self.rest(id).map(|rest| rest.lineage.clone())).collect();
        let found = tree::members(&lineages, &self.home_mark, |pid| self.mains.contains_key(&pid));
        let Ok(found) = found else {
            for id in ids {
                self.poll.at(Instant::now() + RESCAN_AFTER, Timer::Rescan(id));
            }
            return;
        };
        for (id, members) in ids.into_iter().zip(found) {
            if members.is_empty() {
                self.nothing_found(&id);
            } else {
                self.members_found(&id, &members);
            }
        }
    }

    fn members_found(&mut self, id: &InstanceId, found: &[(u32, u64)]) {
        let Some(rest) = rest_of(&mut self.instances, id) else { return };
        rest.looks_left = 2;
        for (pid, start_ticks) in found {
            let known = rest.members.values().any(|member| member.pid == *pid);
            let open = i32::try_from(*pid).ok().and_then(Pid::from_raw);
            let Some(pidfd) = open.and_then(|pid| rustix::process::pidfd_open(pid, PidfdFlags::empty()).ok()) else {
                continue; // it has ended meanwhile
            };
            // Since the look, the id may have gone to another process.
            let same = process::stat(*pid).is_ok_and(|stat| stat.start_ticks == *start_ticks);
            if known || !same {
                continue;
            }
            let signal = if rest.firm { Some(Signal::KILL) } else { rest.signal };
            if let Some(signal) = signal {
                let _ = rustix::process::pidfd_send_signal(&pidfd, signal);
            }
            if let Ok(token) = self.poll.watch(&pidfd, Watch::Member(id.clone())) {
                rest.members.insert(token, Member { pid: *pid, pidfd });
            }
        }
        if rest.members.is_empty() {
            // All have ended in between, or could not be watched. A moment later is soon enough for another look.
            self.poll.at(Instant::now() + Duration::from_millis(1), Timer::Rescan(id.clone()));
        }
    }

    fn nothing_found(&mut self, id: &InstanceId) {
        if let Some(rest) = self.rest(id) {
            rest.looks_left = rest.looks_left.saturating_sub(1);
            if rest.looks_left > 0 {
                self.rescan.insert(id.clone());
                return;
            }
        }
        let Some(instance) = self.instances.get_mut(id) else { return };
        match std::mem::replace(&mut instance.phase, Phase::Dead) {
            Phase::Stopping(Stopping { main: None, exit, rest, waiters }) => {
                let killed = rest.firm;
                self.forget_members(rest);
                self.instances.remove(id);
                for waiter in waiters {
                    self.answer(waiter, Answer::Stopped { exit, killed }, None);
                }
            }
            Phase::Clearing(Clearing { ended, rest, waiters }) => {
                self.forget_members(rest);
                self.reflex(id, ended, waiters);
            }
            other @ (Phase::Stopping(_) | Phase::Dead | Phase::Alive(_)) => self.set_phase(id, other),
        }
    }

    fn forget_members(&mut self, rest: Rest) {
        for token in rest.members.into_keys() {
            self.poll.forget(token);
        }
    }

    pub(crate) fn set_phase(&mut self, id: &InstanceId, phase: Phase) {
        if let Some(instance) = self.instances.get_mut(id) {
            instance.phase = phase;
        }
    }

    fn rest(&mut self, id: &InstanceId) -> Option<&mut Rest> {
        rest_of(&mut self.instances, id)
    }
}

fn rest_of<'a>(instances: &'a mut BTreeMap<InstanceId, Instance>, id: &InstanceId) -> Option<&'a mut Rest> {
    match &mut instances.get_mut(id)?.phase {
        Phase::Stopping(stopping) => Some(&mut stopping.rest),
        Phase::Clearing(clearing) => Some(&mut clearing.rest),
        Phase::Dead | Phase::Alive(_) => None,
    }
}
