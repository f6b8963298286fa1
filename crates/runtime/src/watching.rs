//! Watches: who is asked, how, and with which credentials.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use ostler_manager::Knowledge;
use ostler_model::catalog::ProbePolicy;
use ostler_model::estate::Check;
use ostler_model::health::{Health, Symptom, SymptomKind};
use ostler_model::ids::{InstanceId, SecretId};
use ostler_probes::{Target, User, Word, watch};

use crate::clock;
use crate::orders::credentials;
use crate::turn::Secrets;

/// With less than so many bytes left a disk counts as full: servers that cannot write a block fail.
const DISK_FULL: u64 = 64 * 1024;

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
    let explained = |word| match (word, disk) {
        (Word::Health(Health::Unready(symptom)), Some(disk)) if symptom.kind != SymptomKind::Unknown => {
            Word::Health(Health::Unready(full(disk, &symptom).unwrap_or(symptom)))
        }
        (word, _) => word,
    };
    match watch(instance, policy, target, before, |word| report(instance, explained(word))).await {}
}

/// What is really wrong where nothing can be written any more: whatever the probe found then follows from that.
fn full(disk: &Path, found: &Symptom) -> Option<Symptom> {
    let space = rustix::fs::statvfs(disk).ok()?;
    let left = space.f_bavail.saturating_mul(space.f_frsize);
    if left >= DISK_FULL {
        return None;
    }
    let detail = format!("its disk is full: {} KiB are left; {}", left / 1024, found.detail);
    Some(Symptom { kind: SymptomKind::DiskFull, detail })
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
