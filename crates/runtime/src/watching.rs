//! Watches: who is asked, how, and with which credentials.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::time::Duration;

use ostler_manager::Knowledge;
use ostler_model::catalog::ProbePolicy;
use ostler_model::estate::Check;
use ostler_model::health::Health;
use ostler_model::ids::{InstanceId, SecretId};
use ostler_probes::{Target, User, Word, watch};

use crate::orders::credentials;
use crate::turn::Secrets;

/// A watch that is ready to run.
pub(crate) struct Prepared {
    instance: InstanceId,
    policy: ProbePolicy,
    target: Target,
    before: Option<Health>,
    /// Nobody sees how long its answers take but the probe, and that is to be measured: each answer stands for so long.
    pub(crate) measures: Option<Duration>,
}

/// How `instance` is watched; `None` if it does not run or nobody knows how. In a box, because it is moved about, and
/// each place that something big passes through on its way into a task makes the task as much bigger.
pub(crate) fn prepare(known: &Knowledge, secrets: &dyn Secrets, instance: &InstanceId) -> Option<Box<Prepared>> {
    let service = known.services.get(instance.service())?;
    let found = known.instance(instance)?;
    let policy = known.probe_policy(service)?;
    let mut target = Target::at(found.address()?);
    // Without them the probe says that it lacks them, which is the right thing to see.
    target.credentials = credentials(secrets, &SecretId::of_instance(instance)).ok().flatten();
    let runs_command = |check: &Check| matches!(check, Check::Command(_));
    if runs_command(&policy.ready) || policy.deep.as_ref().is_some_and(runs_command) {
        let pid = found.running.and_then(|running| running.pid)?;
        as_the_process(&mut target, pid);
        target.folder = known.estate.as_ref()?.folder.clone();
    }
    let has_to_be_quick = service.spec.slo.as_ref().is_some_and(|slo| slo.latency_p99.is_some());
    let measures = (has_to_be_quick && known.protocol(service).is_tcp()).then(|| policy.every.get());
    Some(Box::new(Prepared { instance: instance.clone(), policy, target, before: found.health.clone(), measures }))
}

/// Watches until it is dropped.
pub(crate) async fn run(mut prepared: Box<Prepared>, mut report: impl FnMut(&InstanceId, Word)) {
    let before = prepared.before.take();
    let Prepared { instance, policy, target, .. } = &*prepared;
    match watch(instance, policy, target, before, |word| report(instance, word)).await {}
}

/// Commands are run as this process is: with its environment, and as its user.
pub(crate) fn as_the_process(target: &mut Target, pid: u32) {
    target.environment = environment_of(pid).unwrap_or_default();
    target.user = user_of(pid);
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
