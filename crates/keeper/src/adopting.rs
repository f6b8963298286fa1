//! Finds the processes of a former keeper again.
//!
//! Invariant: a process is adopted only if it is the one that the ledger, or failing that its own markers, name: same
//! boot, same process id, same start time, and no marker that says otherwise. What is alive is never started twice.

use std::collections::BTreeSet;
use std::os::fd::OwnedFd;
use std::time::Instant;

use ostler_model::health::Exit;
use ostler_model::ids::InstanceId;
use ostler_model::time::Timestamp;
use rustix::process::{Pid, PidfdFlags};

use crate::grant::Bucket;
use crate::keeper::{Instance, Keeper, Kinship, Live, Phase, timestamp};
use crate::ledger::{Entry, Found, Who};
use crate::poll::Watch;
use crate::process::{self, Environ, Stat, TICKS_PER_SECOND};
use crate::protocol::{Grant, Process, Reflex, Report};
use crate::roles::RoleKind;
use crate::starting::Ended;
use crate::stopping::Clearing;
use crate::tree::{self, Marked};

/// Between its intent and its start a process may lose this much time on a crowded machine.
const START_TICKS_MAX: u64 = TICKS_PER_SECOND;

/// A living process that passed all checks.
struct Verified {
    pidfd: OwnedFd,
    stat: Stat,
    readable: bool,
}

impl Keeper {
    /// Adopts what lives of what the ledger names, and reports what does not. `incomplete` if the ledger does not tell
    /// all.
    pub(crate) fn adopt(&mut self, found: Vec<Found>, incomplete: bool) {
        let unclear = incomplete || found.iter().any(|found| found.pid.is_none());
        // One look through all processes, and only if it is needed.
        let marked = if unclear { tree::marked_leaders(&self.home_mark).unwrap_or_default() } else { Vec::new() };
        let mut named = BTreeSet::new();
        for found in found {
            named.insert(found.entry.incarnation.clone());
            self.adopt_found(found, &marked);
        }
        if incomplete {
            let mut unnamed: Vec<Marked> =
                marked.into_iter().filter(|marked| !named.contains(&marked.incarnation)).collect();
            unnamed.sort_by_key(|marked| std::cmp::Reverse(marked.start_ticks)); // of two, the younger one counts
            for marked in unnamed {
                self.adopt_marked(&marked);
            }
        }
    }

    fn adopt_found(&mut self, found: Found, marked: &[Marked]) {
        let Found { slot, pid, mut entry } = found;
        let pid = pid
            .or_else(|| marked.iter().find(|marked| marked.incarnation == entry.incarnation).map(|marked| marked.pid));
        let verified = pid.and_then(|pid| Some((pid, verify(pid, &entry)?)));
        if self.live(&entry.who).is_some() {
            self.ledger.clear(slot); // cannot happen: each has one slot
            return;
        }
        let Some((pid, verified)) = verified else {
            self.found_dead(slot, pid, entry);
            return;
        };
        entry.start_ticks = verified.stat.start_ticks;
        let confirmed = self.ledger.confirm(slot, pid, &entry); // for the case that it was an intent
        debug_assert!(confirmed.is_ok(), "rewriting a slot takes no room");
        self.adopt_living(slot, pid, entry, verified);
    }

    fn adopt_marked(&mut self, marked: &Marked) {
        let who = match marked.owner.as_str() {
            "gateway" => Who::Gateway,
            "manager" => Who::Manager,
            owner => match owner.parse::<InstanceId>() {
                Ok(id) => Who::Instance(id),
                Err(_) => return,
            },
        };
        if self.live(&who).is_some() {
            return; // left behind by an earlier incarnation
        }
        let entry = Entry {
            who,
            incarnation: marked.incarnation.clone(),
            since: started_at(marked.start_ticks),
            intended_ticks: marked.start_ticks,
            start_ticks: marked.start_ticks,
            digest: None,
            tree: None,
        };
        let Some(verified) = verify(marked.pid, &entry) else { return };
        let Ok(slot) = self.ledger.intend(None, &entry) else { return };
        if self.ledger.confirm(slot, marked.pid, &entry).is_ok() {
            self.adopt_living(slot, marked.pid, entry, verified);
        }
    }

    fn adopt_living(&mut self, slot: crate::ledger::Slot, pid: u32, entry: Entry, verified: Verified) {
        let Verified { pidfd, stat, readable } = verified;
        let Ok(token) = self.poll.watch(&pidfd, Watch::Main(entry.who.clone())) else { return };
        self.mains.insert(pid, entry.who.clone());
        let process =
            Process { pid, start_ticks: stat.start_ticks, incarnation: entry.incarnation, since: entry.since };
        let kinship = Kinship::Stranger { readable };
        let digest = entry.digest.map(Into::into);
        let live = Live { process, pidfd, token, slot, kinship, digest, tree: entry.tree };
        match entry.who {
            Who::Instance(id) => {
                self.instances.insert(id, without_launch(Phase::Alive(live)));
            }
            Who::Gateway => self.roles[RoleKind::Gateway].process = Some(live),
            Who::Manager => self.roles[RoleKind::Manager].process = Some(live),
        }
    }

    /// It died while no keeper was there; nobody can tell how.
    fn found_dead(&mut self, slot: crate::ledger::Slot, pid: Option<u32>, entry: Entry) {
        let Who::Instance(id) = entry.who else {
            self.ledger.clear(slot);
            return;
        };
        let Some(pid) = pid else {
            self.ledger.clear(slot); // the process was never made
            return;
        };
        let process =
            Process { pid, start_ticks: entry.start_ticks, incarnation: entry.incarnation, since: entry.since };
        let ended = Ended { process, exit: Exit::Unknown, slot };
        match entry.tree {
            Some(folder) => {
                let clearing = Clearing::new(&id, ended, folder, &mut self.poll);
                self.instances.insert(id.clone(), without_launch(Phase::Clearing(clearing)));
                self.rescan.insert(id);
            }
            None => {
                self.ledger.clear(slot);
                let Ended { process, exit, .. } = ended;
                let report = Report::Ended { instance: id, process, exit, reflex: Reflex::NoLaunch };
                self.reports.push(timestamp(), report);
            }
        }
    }
}

/// The living process that the entry names, or `None`.
fn verify(pid: u32, entry: &Entry) -> Option<Verified> {
    let raw = Pid::from_raw(i32::try_from(pid).ok()?)?;
    // Opened first: what is read afterwards is of this process, or of none if it ends meanwhile.
    let pidfd = rustix::process::pidfd_open(raw, PidfdFlags::empty()).ok()?;
    let stat = process::stat(pid).ok()?;
    if stat.dead {
        return None;
    }
    let environ = process::environ(pid, &mut Vec::new());
    let readable = environ != Environ::Unreadable;
    let marker = match &environ {
        Environ::Marked { incarnation, .. } => Some(*incarnation == entry.incarnation),
        // Programs may overwrite or clear their environment; then the start time has to do.
        Environ::Unmarked | Environ::Clobbered | Environ::Unreadable => None,
    };
    let fits = if entry.start_ticks != 0 {
        // Exact. A foreign gateway or manager is recorded under a made-up incarnation, so its marker says nothing.
        stat.start_ticks == entry.start_ticks && (marker != Some(false) || !matches!(entry.who, Who::Instance(_)))
    } else {
        let plausible = stat.start_ticks >= entry.intended_ticks
            && stat.start_ticks - entry.intended_ticks <= START_TICKS_MAX
            && stat.session == pid;
        marker.unwrap_or(plausible)
    };
    fits.then_some(Verified { pidfd, stat, readable })
}

fn without_launch(phase: Phase) -> Instance {
    let nothing = Grant { burst: 0, refill_ms: 1 };
    Instance { launch: None, bucket: Bucket::new(nothing, Instant::now()), phase }
}

/// The time of day at which a process was made.
fn started_at(start_ticks: u64) -> Timestamp {
    let age_ticks = process::ticks_now().saturating_sub(start_ticks);
    timestamp() - std::time::Duration::from_millis(age_ticks * 1000 / TICKS_PER_SECOND)
}
