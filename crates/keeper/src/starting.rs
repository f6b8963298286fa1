//! Starts processes, and starts them again when they die: the reflex.
//!
//! Invariant: a process is started only where the ledger's slot of its predecessor, if any, names a dead one, and its
//! intent is written before it exists. Reports come after.

use std::io;
use std::time::Instant;

use ostler_model::health::Exit;
use ostler_model::ids::InstanceId;
use rustix::process::Signal;

use crate::keeper::{Keeper, Kinship, Live, Phase, timestamp};
use crate::launch::{Prepared, Step};
use crate::ledger::{Entry, Slot, Who};
use crate::peers::Waiter;
use crate::poll::{Token, Watch};
use crate::process;
use crate::protocol::{Answer, Process, Reflex, Refusal, Report};
use crate::stopping::Clearing;
use crate::sys::Surroundings;

const KILLED: Exit = Exit::Signal(Signal::KILL.as_raw());

/// A main process that has ended.
pub(crate) struct Ended {
    pub(crate) process: Process,
    pub(crate) exit: Exit,
    pub(crate) slot: Slot,
}

impl Keeper {
    /// Starts a process. On failure nothing of it is left, and its slot is free.
    pub(crate) fn start(&mut self, who: &Who, launch: &Prepared, slot: Option<Slot>) -> Result<Live, Refusal> {
        let refuse = |step: Step, cause: &io::Error| step.refusal(&launch.program(), cause);
        let socket = match launch.socket() {
            Some(name) => match self.sockets.get(name) {
                Some(socket) => Some(socket),
                None => {
                    slot.into_iter().for_each(|slot| self.ledger.clear(slot));
                    return Err(Refusal::NoSuchSocket(name.to_owned()));
                }
            },
            None => None,
        };
        self.starts += 1;
        let mut entry = Entry {
            who: who.clone(),
            incarnation: format!("{}-{:x}", self.name, self.starts),
            since: timestamp(),
            intended_ticks: process::ticks_now(),
            start_ticks: 0,
            digest: Some(launch.digest().to_owned()),
            tree: launch.tree_folder().map(Into::into),
        };
        let slot = match self.ledger.intend(slot, &entry) {
            Ok(slot) => slot,
            Err(cause) => {
                slot.into_iter().for_each(|slot| self.ledger.clear(slot));
                return Err(refuse(Step::Intent, &cause));
            }
        };
        let surroundings = Surroundings {
            incarnation: &entry.incarnation,
            log: launch.log_file(),
            socket,
            ledger: self.ledger.pid_field(slot),
        };
        let started = match self.spawner.start(launch, &surroundings) {
            Ok(started) => started,
            Err(error) => {
                self.ledger.clear(slot);
                return Err(refuse(error.step, &error.cause));
            }
        };
        // It is not reaped yet, so its entry under /proc is there even if it has ended already.
        let watched = process::stat(started.pid).and_then(|stat| {
            entry.start_ticks = stat.start_ticks;
            self.ledger.confirm(slot, started.pid, &entry)?;
            self.poll.watch(&started.pidfd, Watch::Main(who.clone()))
        });
        let token = match watched {
            Ok(token) => token,
            Err(cause) => {
                // A process that nobody watches would never be started again, and the next keeper might miss it.
                let _ = rustix::process::pidfd_send_signal(&started.pidfd, Signal::KILL);
                self.ledger.clear(slot);
                return Err(refuse(Step::Watch, &cause)); // reaped with the orphans
            }
        };
        self.mains.insert(started.pid, who.clone());
        let Entry { incarnation, since, start_ticks, digest, tree, .. } = entry;
        Ok(Live {
            process: Process { pid: started.pid, start_ticks, incarnation, since },
            pidfd: started.pidfd,
            token,
            slot,
            kinship: Kinship::Child,
            digest: digest.map(Into::into),
            tree,
        })
    }

    /// The main process of an instance may have ended.
    pub(crate) fn instance_ended(&mut self, id: &InstanceId, token: Token) {
        let Some(instance) = self.instances.get_mut(id) else { return };
        match &mut instance.phase {
            Phase::Alive(live) if live.token == token => {
                let Some(exit) = live.exit() else { return };
                let Phase::Alive(live) = std::mem::replace(&mut instance.phase, Phase::Dead) else {
                    unreachable!("matched above")
                };
                self.forget(&live);
                self.after_end(id, live, exit);
            }
            Phase::Stopping(stopping) => {
                let Some(live) = stopping.main.take_if(|live| live.token == token) else { return };
                let Some(exit) = live.exit() else {
                    stopping.main = Some(live);
                    return;
                };
                stopping.exit = Some(exit);
                self.forget(&live);
                self.ledger.clear(live.slot);
                self.rescan.insert(id.clone());
            }
            Phase::Alive(_) | Phase::Dead | Phase::Clearing(_) => {} // an event of an earlier process
        }
    }

    fn after_end(&mut self, id: &InstanceId, live: Live, exit: Exit) {
        let tree = live.tree.clone();
        let ended = Ended { process: live.process, exit, slot: live.slot };
        match tree {
            // One process: nothing to wait for.
            None => self.reflex(id, ended, Vec::new()),
            Some(folder) => self.begin_clearing(id, ended, folder),
        }
    }

    /// Starts a dead instance again if it may be, and reports. Those who wait have ordered a start meanwhile: that
    /// needs no grant.
    pub(crate) fn reflex(&mut self, id: &InstanceId, ended: Ended, waiters: Vec<Waiter>) {
        let now = Instant::now();
        let at = timestamp();
        let Ended { process, exit, slot } = ended;
        let reflex = match self.may_restart(id, now, !waiters.is_empty()) {
            Ok(()) => match self.restart(id, Some(slot)) {
                Ok(process) => Reflex::Restarted { process, at: timestamp() },
                Err(refusal) => Reflex::Failed(refusal),
            },
            Err(withheld) => {
                self.ledger.clear(slot);
                withheld
            }
        };
        for waiter in waiters {
            let answer = match &reflex {
                Reflex::Restarted { process, .. } => {
                    Answer::Running { process: process.clone(), adopted: false, as_ordered: true }
                }
                Reflex::Failed(refusal) => Answer::Refused(refusal.clone()),
                Reflex::GrantSpent | Reflex::EstateGrantSpent | Reflex::NoLaunch => {
                    Answer::Refused(Refusal::Stopping(id.clone()))
                }
            };
            self.answer(waiter, answer, None);
        }
        let exit = self.explained(id, exit); // only now: whoever waits for it to be started again does not wait for this
        self.reports.push(at, Report::Ended { instance: id.clone(), process, exit, reflex });
        if self.instances.get(id).is_some_and(|instance| instance.launch.is_none()) {
            self.instances.remove(id); // without a launch there is nothing to remember
        }
    }

    /// The one signal by which the kernel ends what uses more memory than it may tells nothing of why: the cgroup does.
    fn explained(&mut self, id: &InstanceId, exit: Exit) -> Exit {
        let launch = self.instances.get_mut(id).and_then(|instance| instance.launch.as_mut());
        let explained = exit == KILLED && launch.is_some_and(|launch| launch.ran_out_of_memory());
        if explained { Exit::OutOfMemory } else { exit }
    }

    /// Starts the stored launch of an instance that is not running.
    pub(crate) fn restart(&mut self, id: &InstanceId, slot: Option<Slot>) -> Result<Process, Refusal> {
        let instance = self.instances.get_mut(id).expect("callers have looked it up");
        let mut launch = instance.launch.take().expect("callers have seen its launch");
        launch.reopen_deleted_log();
        let started = self.start(&Who::Instance(id.clone()), &launch, slot);
        let instance = self.instances.get_mut(id).expect("starting removes no instance");
        instance.launch = Some(launch);
        instance.phase = Phase::Dead;
        let live = started?;
        let process = live.process.clone();
        instance.phase = Phase::Alive(live);
        Ok(process)
    }

    fn may_restart(&mut self, id: &InstanceId, now: Instant, ordered: bool) -> Result<(), Reflex> {
        let Some(instance) = self.instances.get_mut(id) else { return Err(Reflex::NoLaunch) };
        instance.phase = Phase::Dead;
        if instance.launch.is_none() {
            return Err(Reflex::NoLaunch);
        }
        if ordered {
            return Ok(());
        }
        if !instance.bucket.has(now) {
            return Err(Reflex::GrantSpent);
        }
        if !self.estate.take(now) {
            return Err(Reflex::EstateGrantSpent);
        }
        instance.bucket.take(now);
        Ok(())
    }

    fn begin_clearing(&mut self, id: &InstanceId, ended: Ended, folder: std::path::PathBuf) {
        let clearing = Clearing::new(id, ended, folder, &mut self.poll);
        if let Some(instance) = self.instances.get_mut(id) {
            instance.phase = Phase::Clearing(clearing);
        }
        self.rescan.insert(id.clone());
    }
}
