//! Watches: who is asked, how, and with which credentials.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use ostler_keeper::full::FULL_BELOW;
use ostler_manager::Knowledge;
use ostler_model::catalog::ProbePolicy;
use ostler_model::estate::Check;
use ostler_model::health::{Health, Symptom, SymptomKind};
use ostler_model::ids::{InstanceId, SecretId};
use ostler_probes::{Target, User, Word, watch};

use crate::clock;
use crate::orders::credentials;
use crate::turn::Secrets;

/// It is not full any more when so much is left: a few bytes that come and go are no change.
const ROOM_AGAIN: u64 = 2 * FULL_BELOW;

/// A watch that is ready to run.
pub(crate) struct Prepared {
    instance: InstanceId,
    policy: ProbePolicy,
    target: Target,
    before: Option<Health>,
    /// Nobody sees how long its answers take but the probe, and that is to be measured: each answer stands for so long.
    pub(crate) measures: Option<Duration>,
    /// Where it writes, if that is on this machine.
    disk: Option<Box<Path>>,
}

/// How `instance` is watched; `None` if it does not run or nobody knows how. In a box, because it is moved about, and
/// each place that something big passes through on its way into a task makes the task as much bigger.
pub(crate) fn prepare(known: &Knowledge, secrets: &dyn Secrets, instance: &InstanceId) -> Option<Box<Prepared>> {
    let service = known.services.get(instance.service())?;
    let found = known.instance(instance)?;
    let policy = known.probe_policy_of(service, found)?;
    let mut target = Target::at(found.address()?);
    // Without them the probe says that it lacks them, which is the right thing to see.
    target.credentials = credentials(secrets, &SecretId::of_instance(instance)).ok().flatten();
    target.refused_until = known.refuses(instance).map(|until| Instant::now() + until.since(clock::now()));
    let runs_command = |check: &Check| matches!(check, Check::Command(_));
    if runs_command(&policy.ready) || policy.deep.as_ref().is_some_and(runs_command) {
        let pid = found.running.and_then(|running| running.pid)?;
        as_the_process(&mut target, pid);
        target.folder = known.estate.as_ref()?.folder.clone();
    }
    let has_to_be_quick = service.spec.slo.as_ref().is_some_and(|slo| slo.latency_p99.is_some());
    let measures = (has_to_be_quick && known.protocol(service).is_tcp()).then(|| policy.every.get());
    let disk = found.running.and_then(|running| running.pid).and_then(working_folder);
    Some(Box::new(Prepared {
        instance: instance.clone(),
        policy,
        target,
        before: found.health.clone(),
        measures,
        disk,
    }))
}

/// Watches until it is dropped.
pub(crate) async fn run(mut prepared: Box<Prepared>, mut report: impl FnMut(&InstanceId, Word)) {
    let before = prepared.before.take();
    let Prepared { instance, policy, target, disk, .. } = &*prepared;
    let mut disk = disk.as_deref().map(|folder| Disk::new(folder, before.as_ref()));
    let report = |word| {
        let (first, then) = match &mut disk {
            Some(disk) => disk.explain(word),
            None => (word, None),
        };
        report(instance, first);
        if let Some(then) = then {
            report(instance, then);
        }
    };
    match watch(instance, policy, target, before.map(without_disk), report).await {}
}

/// What the probes themselves would say.
fn without_disk(health: Health) -> Health {
    match health {
        Health::Shallow(symptom) if symptom.kind == SymptomKind::DiskFull => Health::Ready,
        health => health,
    }
}

/// Where an instance writes, and what is said of it. A full disk is told while the instance still answers: it will not
/// for long, or only lie about what it keeps.
struct Disk<'a> {
    folder: &'a Path,
    /// What the probes say.
    health: Option<Health>,
    /// It was said to be full although the probes are content.
    full: bool,
}

impl<'a> Disk<'a> {
    fn new(folder: &'a Path, before: Option<&Health>) -> Self {
        let full = matches!(before, Some(Health::Shallow(symptom)) if symptom.kind == SymptomKind::DiskFull);
        Self { folder, health: before.cloned().map(without_disk), full }
    }

    /// What there is to say where the probes say this.
    fn explain(&mut self, word: Word) -> (Word, Option<Word>) {
        match word {
            Word::Health(health) => {
                self.health = Some(health.clone());
                (Word::Health(self.explained(health)), None)
            }
            Word::Answered(took) => (Word::Answered(took), self.has_changed().map(Word::Health)),
        }
    }

    /// Whatever the probe found follows from it that nothing can be written any more.
    fn explained(&mut self, health: Health) -> Health {
        let left = left(self.folder).filter(|left| *left < FULL_BELOW);
        self.full = left.is_some() && health == Health::Ready;
        match (health, left) {
            (Health::Unready(found), Some(left)) if found.kind != SymptomKind::Unknown => {
                Health::Unready(full(left, Some(&found)))
            }
            (Health::Ready, Some(left)) => Health::Shallow(full(left, None)),
            (health, _) => health,
        }
    }

    /// The probes are as content as before. What there is to say all the same.
    fn has_changed(&mut self) -> Option<Health> {
        if self.health != Some(Health::Ready) {
            return None;
        }
        let left = left(self.folder)?;
        match self.full {
            false if left < FULL_BELOW => {
                self.full = true;
                Some(Health::Shallow(full(left, None)))
            }
            true if left >= ROOM_AGAIN => {
                self.full = false;
                Some(Health::Ready)
            }
            true | false => None,
        }
    }
}

fn left(folder: &Path) -> Option<u64> {
    let space = rustix::fs::statvfs(folder).ok()?;
    Some(space.f_bavail.saturating_mul(space.f_frsize))
}

fn full(left: u64, found: Option<&Symptom>) -> Symptom {
    let more = found.map(|found| format!("; {}", found.detail)).unwrap_or_default();
    Symptom { kind: SymptomKind::DiskFull, detail: format!("its disk is full: {} KiB are left{more}", left / 1024) }
}

/// Commands are run as this process is: with its environment, and as its user.
pub(crate) fn as_the_process(target: &mut Target, pid: u32) {
    target.environment = environment_of(pid).unwrap_or_default();
    target.user = user_of(pid);
}

/// Where the process works, which is where it writes unless it was told otherwise.
fn working_folder(pid: u32) -> Option<Box<Path>> {
    fs::read_link(format!("/proc/{pid}/cwd")).ok().map(PathBuf::into_boxed_path)
}

/// The environment that a process of this machine was started with: command probes run in the instance's own.
fn environment_of(pid: u32) -> Option<BTreeMap<String, String>> {
    let block = fs::read(format!("/proc/{pid}/environ")).ok()?;
    let variables = block.split(|byte| *byte == 0).filter_map(|variable| {
        let (name, value) = std::str::from_utf8(variable).ok()?.split_once('=')?;
        Some((name.to_owned(), value.to_owned()))
    });
    Some(variables.collect())
}

/// As whom it runs, where that is not this process's own user.
fn user_of(pid: u32) -> Option<User> {
    let metadata = fs::metadata(format!("/proc/{pid}")).ok()?;
    let own = rustix::process::geteuid().as_raw();
    (metadata.uid() != own).then(|| User { uid: metadata.uid(), gid: metadata.gid() })
}
