//! Replaces ostler's three processes by those of another build, one after the other, and takes that back: the manager,
//! then the gateway, then this very process.
//!
//! Invariant: the state file says what is to be before anything follows from it, and [`Keeper::advance`] does only what
//! is missing from that. So a keeper that was killed anywhere goes on where the state is, and whatever does not come up
//! in its time is taken back. A new gateway serves before the former one stops accepting.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use ostler_model::time::Timestamp;
use rustix::process::Signal;

use crate::builds::{self, Build, FileId, Stage, State, Upgrade};
use crate::keeper::{Keeper, Live, timestamp};
use crate::poll::{Timer, Token};
use crate::protocol::{Answer, BuildStep, GATEWAY_LEAVES_WITHIN, Refusal, Report, ToGateway};
use crate::roles::RoleKind;

/// A process of a new build that ends by itself so often within its probation does not hold.
const ENDS_MAX: u32 = 3;
/// The manager of a build on probation confirms so often that it answers.
pub const ANSWERS_EVERY: Duration = Duration::from_secs(1);
/// Before what failed on the way back is tried again.
const AGAIN_AFTER: Duration = Duration::from_secs(1);
/// No probation, and no trial, is longer: a month, an hour.
const PROBATION_MS_MAX: u64 = 30 * 86_400_000;
const TRIAL_MS_MAX: u64 = 3_600_000;

/// What the keeper holds of a replacement.
#[derive(Default)]
pub(crate) struct Replacing {
    pub(crate) state: State,
    /// A gateway that is to take over, and has not said yet that it serves.
    pub(crate) successor: Option<Successor>,
    /// Gateways that were replaced and still carry connections.
    pub(crate) former: Vec<Live>,
    /// When what is being waited for has had its time.
    deadline: Option<Instant>,
    /// This process is to become this program when the turn ends.
    pub(crate) becoming: Option<PathBuf>,
}

/// See [`Replacing::successor`].
pub(crate) struct Successor {
    live: Live,
    pub(crate) connection: Option<u64>,
}

impl Keeper {
    /// Reads what is under way. `fresh` if this keeper did not take over from another image of itself.
    pub(crate) fn look_at_builds(&mut self, fresh: bool) {
        let read = State::read(&self.config.home);
        self.replacing.state = read.unwrap_or_default();
        if fresh {
            for report in self.replacing.state.untold.clone() {
                self.reports.push(report.at, Report::Upgrade(report));
            }
            self.started_anew();
        }
        for kind in [RoleKind::Manager, RoleKind::Gateway] {
            self.note_file(kind);
        }
        self.advance();
    }

    /// A keeper was started from nothing while another build is being brought in.
    fn started_anew(&mut self) {
        let Some(upgrade) = &mut self.replacing.state.upgrade else { return };
        // Whoever else would say so may be the one that is to be replaced.
        self.roles[RoleKind::Manager].wanted = true;
        self.roles[RoleKind::Gateway].wanted = true;
        let (home, own) = (&self.config.home, FileId::of_process(std::process::id()));
        let is = |build: &Build| own.as_ref().is_ok_and(|own| build.is(home, *own));
        if is(&upgrade.to) {
            if let Stage::Probation { .. } = upgrade.stage {
                upgrade.keeper_started += 1;
                if upgrade.keeper_started >= ENDS_MAX {
                    upgrade.take_back(format!("its keeper ended {ENDS_MAX} times within its probation"));
                }
            }
        } else if is(&upgrade.from) {
            if upgrade.stage >= Stage::Keeper {
                upgrade.take_back("its keeper did not stay up");
            }
        } else {
            upgrade.take_back("ostler was started again as another build");
            self.end_upgrade();
            return;
        }
        self.write_builds();
    }

    /// Begins to replace what runs.
    pub(crate) fn begin_upgrade(&mut self, from: Build, to: Build, probation_ms: u64, trial_ms: u64) -> Answer {
        let refuse = |text: &str| Answer::Refused(Refusal::Upgrading(text.to_owned()));
        let under_way = self.replacing.state.upgrade.as_ref();
        if under_way.is_some_and(|known| known.back.is_none() && (&known.from, &known.to) == (&from, &to)) {
            return Answer::Done; // ordered again, as its answer was lost
        }
        if under_way.is_some() {
            return refuse("another build is being brought in, or is in its probation");
        }
        if self.config.handover.is_empty() {
            return refuse("this keeper cannot be replaced while it runs");
        }
        for build in [&from, &to] {
            if !builds::path(&self.config.home, &build.sha256).is_file() {
                return refuse("a build is not in the home");
            }
        }
        let upgrade = Upgrade {
            from,
            to,
            probation_ms: probation_ms.min(PROBATION_MS_MAX),
            trial_ms: trial_ms.clamp(1, TRIAL_MS_MAX),
            stage: Stage::Manager,
            back: None,
            manager_ended: 0,
            gateway_ended: 0,
            keeper_started: 0,
        };
        let mut state = self.replacing.state.clone();
        state.upgrade = Some(upgrade.clone());
        state.tell(&upgrade, timestamp(), BuildStep::Began { probation_ms: upgrade.probation_ms });
        if let Err(error) = state.write(&self.config.home) {
            return Answer::Refused(Refusal::Upgrading(format!("it cannot be noted: {error}")));
        }
        self.replacing.state = state;
        self.report_last_step();
        self.wait_until(Duration::from_millis(upgrade.trial_ms));
        self.advance();
        Answer::Done
    }

    /// Takes back what is being brought in.
    pub(crate) fn take_build_back(&mut self, why: &str) -> Answer {
        match &mut self.replacing.state.upgrade {
            Some(upgrade) => {
                upgrade.take_back(why);
                self.write_builds();
                self.drop_successor();
                self.advance();
                Answer::Done
            }
            None => Answer::Refused(Refusal::Upgrading("no build is being brought in, nor in its probation".into())),
        }
    }

    /// A process says that it has come up.
    pub(crate) fn confirmed(&mut self, connection: u64) {
        if self.replacing.successor.as_ref().is_some_and(|successor| successor.connection == Some(connection)) {
            self.promote();
        }
        for kind in [RoleKind::Manager, RoleKind::Gateway] {
            if self.roles[kind].connection == Some(connection) {
                self.roles[kind].confirmed = true;
                self.roles[kind].heard = Instant::now();
            }
        }
        self.advance();
    }

    fn go_to(&mut self, stage: Stage) {
        if let Some(upgrade) = &mut self.replacing.state.upgrade {
            upgrade.stage = stage;
            let patience = Duration::from_millis(upgrade.trial_ms);
            self.write_builds();
            self.wait_until(patience);
            self.advance();
        }
    }

    /// Does what is missing.
    pub(crate) fn advance(&mut self) {
        let Some(upgrade) = self.replacing.state.upgrade.clone() else { return };
        if self.ending.is_some() || self.replacing.becoming.is_some() {
            return;
        }
        if self.replacing.deadline.is_none() {
            self.wait_until(Duration::from_millis(upgrade.trial_ms));
        }
        match upgrade.stage {
            Stage::Manager => self.advance_manager(&upgrade),
            Stage::Gateway => self.advance_gateway(&upgrade),
            Stage::Keeper => self.advance_keeper(&upgrade),
            Stage::Probation { until } => self.advance_probation(&upgrade, until),
        }
    }

    fn advance_manager(&mut self, upgrade: &Upgrade) {
        if self.is_goal(RoleKind::Manager) && self.roles[RoleKind::Manager].confirmed {
            self.go_to(Stage::Gateway);
            return;
        }
        let Some(live) = &self.roles[RoleKind::Manager].process else {
            self.start_role_if_missing(RoleKind::Manager);
            return;
        };
        let goal = self.is_goal(RoleKind::Manager);
        let late = self.is_late();
        if goal && upgrade.back.is_none() && late {
            let pidfd = &live.pidfd;
            let _ = rustix::process::pidfd_send_signal(pidfd, Signal::KILL); // an error: it has just ended
            self.take_build_back(&format!("its manager did not come up within {}", seconds(upgrade.trial_ms)));
        } else if !goal && (upgrade.back.is_some() || late) {
            // Whoever asked for a replacement ends by itself; a build that is taken back does not know of it.
            let _ = rustix::process::pidfd_send_signal(&live.pidfd, Signal::KILL);
        }
    }

    fn advance_gateway(&mut self, upgrade: &Upgrade) {
        let role = &self.roles[RoleKind::Gateway];
        let has_none = role.process.is_none() && !role.wanted;
        if has_none || (self.is_goal(RoleKind::Gateway) && role.confirmed) {
            self.go_to(Stage::Keeper);
            return;
        }
        if role.process.is_none() {
            self.start_role_if_missing(RoleKind::Gateway); // it is of the goal, and confirms
        } else if !self.is_goal(RoleKind::Gateway) && self.replacing.successor.is_none() {
            self.start_successor();
        }
        if self.is_late() {
            self.gateway_failed(&format!("its gateway did not come up within {}", seconds(upgrade.trial_ms)));
        }
    }

    fn gateway_failed(&mut self, why: &str) {
        let Some(goes_back) = self.replacing.state.upgrade.as_ref().map(|upgrade| upgrade.back.is_some()) else {
            return;
        };
        self.drop_successor();
        if goes_back {
            self.replacing.deadline = None;
            self.poll.at(Instant::now() + AGAIN_AFTER, Timer::Upgrade);
        } else {
            self.take_build_back(why);
        }
    }

    fn advance_probation(&mut self, upgrade: &Upgrade, until: Timestamp) {
        let left = until.since(timestamp());
        if left.is_zero() {
            return self.end_upgrade();
        }
        if upgrade.to.answers {
            let patience = Duration::from_millis(upgrade.trial_ms).max(3 * ANSWERS_EVERY);
            let manager = &self.roles[RoleKind::Manager];
            if let Some(live) = manager.process.as_ref().filter(|_| manager.heard.elapsed() > patience)
                && self.is_goal(RoleKind::Manager)
            {
                let _ = rustix::process::pidfd_send_signal(&live.pidfd, Signal::KILL); // an error: it has just ended
                let patience = seconds(u64::try_from(patience.as_millis()).unwrap_or(u64::MAX));
                self.take_build_back(&format!("its manager did not answer for {patience} within its probation"));
                return;
            }
        }
        // The machine's clock may be set meanwhile: it is looked at again.
        let again = if upgrade.to.answers { ANSWERS_EVERY } else { Duration::from_secs(60) };
        self.poll.at(Instant::now() + left.min(again) + Duration::from_millis(1), Timer::Upgrade);
    }

    fn advance_keeper(&mut self, upgrade: &Upgrade) {
        let goal = upgrade.goal();
        if !goal.is_process(&self.config.home, std::process::id()) {
            self.replacing.becoming = Some(builds::path(&self.config.home, &goal.sha256));
            return;
        }
        if upgrade.back.is_some() {
            self.end_upgrade();
            return;
        }
        let until = timestamp() + Duration::from_millis(upgrade.probation_ms);
        let mut now = upgrade.clone();
        now.stage = Stage::Probation { until };
        self.replacing.state.tell(upgrade, timestamp(), BuildStep::Replaced);
        self.replacing.state.upgrade = Some(now);
        self.write_builds();
        self.report_last_step();
        self.advance();
    }

    /// This process could not become another image of itself, or that one sent it back.
    pub(crate) fn did_not_become(&mut self, why: &str) {
        self.replacing.becoming = None;
        match &self.replacing.state.upgrade {
            Some(upgrade) if upgrade.back.is_none() => {
                drop(self.take_build_back(&format!("its keeper did not come up: {why}")))
            }
            // Everything else is of the former build; this process goes on as it is.
            Some(_) => self.end_upgrade(),
            None => {}
        }
    }

    fn end_upgrade(&mut self) {
        self.replacing.state.end(timestamp());
        self.replacing.deadline = None;
        self.write_builds();
        self.report_last_step();
    }

    /// The manager has stored so many steps, the oldest first.
    pub(crate) fn steps_stored(&mut self, steps: usize) {
        let untold = &mut self.replacing.state.untold;
        if steps > 0 {
            untold.drain(..steps.min(untold.len()));
            self.write_builds();
        }
    }

    fn report_last_step(&mut self) {
        if let Some(report) = self.replacing.state.untold.last().cloned() {
            self.reports.push(report.at, Report::Upgrade(report));
        }
    }

    /// A full disk must not hold up what is under way. What is not written is looked at anew by the next keeper.
    fn write_builds(&self) {
        let _ = self.replacing.state.write(&self.config.home);
    }

    fn wait_until(&mut self, patience: Duration) {
        let at = Instant::now() + patience;
        self.replacing.deadline = Some(at);
        self.poll.at(at + Duration::from_millis(1), Timer::Upgrade);
    }

    fn is_late(&self) -> bool {
        self.replacing.deadline.is_some_and(|deadline| deadline <= Instant::now())
    }

    /// The program that a process of this role is started from, if it is not this keeper's own.
    pub(crate) fn program_of(&self, kind: RoleKind) -> Option<PathBuf> {
        let upgrade = self.replacing.state.upgrade.as_ref()?;
        let build = match kind {
            RoleKind::Manager => upgrade.manager(),
            RoleKind::Gateway => upgrade.gateway(),
        };
        Some(builds::path(&self.config.home, &build.sha256))
    }

    /// Notes which file the process of this role executes, as long as it can be seen.
    pub(crate) fn note_file(&mut self, kind: RoleKind) {
        let role = &mut self.roles[kind];
        role.file = role.process.as_ref().and_then(|live| FileId::of_process(live.process.pid).ok());
    }

    fn is_goal(&self, kind: RoleKind) -> bool {
        let goal = self.replacing.state.upgrade.as_ref().map(Upgrade::goal);
        let file = self.roles[kind].file;
        goal.zip(file).is_some_and(|(goal, file)| goal.is(&self.config.home, file))
    }

    /// A process of this role was started.
    pub(crate) fn role_started(&mut self, kind: RoleKind) {
        self.note_file(kind);
        self.roles[kind].heard = Instant::now();
        let Some(upgrade) = &self.replacing.state.upgrade else { return };
        if matches!((kind, upgrade.stage), (RoleKind::Manager, Stage::Manager) | (RoleKind::Gateway, Stage::Gateway)) {
            self.wait_until(Duration::from_millis(upgrade.trial_ms));
        }
    }

    /// A process of this role has ended by itself, which says something of its build while that is new.
    pub(crate) fn role_gone(&mut self, kind: RoleKind, file: Option<FileId>) {
        let Some(upgrade) = &mut self.replacing.state.upgrade else { return };
        let is_new = file.is_some_and(|file| upgrade.to.is(&self.config.home, file));
        if !is_new || upgrade.back.is_some() {
            return;
        }
        let (count, name) = match kind {
            RoleKind::Manager => (&mut upgrade.manager_ended, "manager"),
            RoleKind::Gateway => (&mut upgrade.gateway_ended, "gateway"),
        };
        *count += 1;
        if kind == RoleKind::Manager && upgrade.stage == Stage::Manager {
            upgrade.take_back("its manager ended before it had come up");
        } else if *count >= ENDS_MAX {
            upgrade.take_back(format!("its {name} ended {ENDS_MAX} times within its probation"));
        }
        self.write_builds();
        if self.replacing.state.upgrade.as_ref().is_some_and(|upgrade| upgrade.back.is_some()) {
            self.drop_successor();
        }
    }

    fn start_successor(&mut self) {
        let started = self.start_beside(RoleKind::Gateway);
        match started {
            Ok(live) => self.replacing.successor = Some(Successor { live, connection: None }),
            Err(refusal) => self.gateway_failed(&format!("its gateway cannot be started: {refusal}")),
        }
        if let Some(patience) = self.replacing.state.upgrade.as_ref().map(|upgrade| upgrade.trial_ms) {
            self.wait_until(Duration::from_millis(patience));
        }
    }

    fn drop_successor(&mut self) {
        if let Some(Successor { live, connection }) = self.replacing.successor.take() {
            let _ = rustix::process::pidfd_send_signal(&live.pidfd, Signal::KILL); // an error: it has just ended
            connection.into_iter().for_each(|connection| self.close_quietly(connection));
            self.replacing.former.push(live); // until it is reaped
        }
    }

    /// The new gateway serves: the former one accepts nobody more.
    fn promote(&mut self) {
        let Some(Successor { live, connection }) = self.replacing.successor.take() else { return };
        let role = &mut self.roles[RoleKind::Gateway];
        let before = role.process.replace(live);
        let former = std::mem::replace(&mut role.connection, connection);
        (role.launch, role.confirmed) = (None, true);
        self.note_file(RoleKind::Gateway);
        self.replacing.former.extend(before);
        if let Some(former) = former {
            self.retire(former);
        }
    }

    /// Tells a gateway that it is one no longer.
    pub(crate) fn retire(&mut self, connection: u64) {
        let within_ms = u64::try_from(GATEWAY_LEAVES_WITHIN.as_millis()).expect("an hour");
        self.tell_peer(connection, ToGateway::Retire { within_ms });
    }

    /// A process says that it is a gateway, beside the one that there is. True if that was seen to here.
    pub(crate) fn gateway_beside(&mut self, connection: u64, pid: u32) -> Beside {
        if let Some(successor) = self.replacing.successor.as_mut().filter(|s| s.live.process.pid == pid) {
            successor.connection = Some(connection);
            return Beside::Successor;
        }
        if self.replacing.former.iter().any(|live| live.process.pid == pid) {
            return Beside::Former;
        }
        let current = self.roles[RoleKind::Gateway].process.as_ref().map(|live| live.process.pid);
        if current == Some(pid) || current.is_none() || self.replacing.successor.is_some() {
            return Beside::Neither;
        }
        // Two of them, and this keeper has started neither: it was started while one was to follow the other.
        let Some(upgrade) = &self.replacing.state.upgrade else { return Beside::Neither };
        let newcomer_is_goal = upgrade.goal().is_process(&self.config.home, pid);
        match (self.is_goal(RoleKind::Gateway), newcomer_is_goal) {
            (true, false) => Beside::Former,
            (false, true) => match self.watch_stranger(RoleKind::Gateway, pid) {
                Some(live) => {
                    self.replacing.successor = Some(Successor { live, connection: Some(connection) });
                    Beside::Successor
                }
                None => Beside::Neither,
            },
            (true, true) | (false, false) => Beside::Neither,
        }
    }

    /// A process that is no gateway yet, or no longer, may have ended. True if it was one of these.
    pub(crate) fn beside_ended(&mut self, token: Token) -> bool {
        if let Some(place) = self.replacing.former.iter().position(|live| live.token == token) {
            if self.replacing.former[place].exit().is_some() {
                let live = self.replacing.former.swap_remove(place);
                self.forget(&live);
                self.ledger.clear(live.slot);
            }
            return true;
        }
        let ended = self.replacing.successor.take_if(|s| s.live.token == token && s.live.exit().is_some());
        let Some(Successor { live, .. }) = ended else { return false };
        self.forget(&live);
        self.ledger.clear(live.slot);
        self.gateway_failed("its gateway ended before it had come up");
        true
    }

    /// The connections of those that get what the gateway gets: tables and orders, and, but for former ones, sockets.
    pub(crate) fn gateways(&self, with_former: bool) -> Vec<u64> {
        let serving = self.roles[RoleKind::Gateway].connection;
        let successor = self.replacing.successor.as_ref().and_then(|successor| successor.connection);
        let mut all: Vec<u64> = serving.into_iter().chain(successor).collect();
        if with_former {
            all.extend(self.former_connections());
        }
        all
    }
}

/// What a process is that says that it is a gateway while there is one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Beside {
    /// It is to take over.
    Successor,
    /// It was replaced.
    Former,
    /// Nothing is being replaced: it is the gateway from now on.
    Neither,
}

fn seconds(ms: u64) -> String {
    format!("{} s", ms.div_ceil(1000))
}

/// Where a gateway that is started beside another one is told so.
pub const BESIDE: &str = "OSTLER_BESIDE";
