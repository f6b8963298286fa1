//! Starting and stopping instances, and the buyer's one-off command.
//!
//! Invariant: everything that an instance reads is in place before the keeper is told to run it, and equal orders give
//! launches of equal digest.

use std::collections::BTreeMap;
use std::fs::OpenOptions;
use std::os::unix::fs::OpenOptionsExt;
use std::path::PathBuf;
use std::time::Duration;

use ostler_keeper::protocol::{Grant, Launch, Refusal, UserGroup};
use ostler_model::estate::{Listen, Service};
use ostler_model::ids::InstanceId;
use ostler_model::outcome::{Failure, Running};
use ostler_model::template::Template;
use rustix::fs::{FlockOperation, flock};
use sha2::{Digest, Sha256};

use super::definition::{Stop, When};
use super::environment;
use super::failure::{io_at, temporary};
use super::folder::{Folder, make_folder};
use super::instance::Instance;
use super::keeper_port::KeeperError;
use super::ports::{self, HOST};
use super::program::check_program;
use super::provision::write_files;
use super::scope::Scope;
use super::steps::{self, Input, Output, Run};
use super::{HostProvider, limits};
use crate::{InstanceOrder, ReflexGrant, Stopped};

/// The buyer's one-off command may take this long: migrations of large tables do.
const BEFORE_TIMEOUT: Duration = Duration::from_secs(600);
/// An instance's log is rotated at this size; one old file is kept.
const LOG_BYTES_MAX: u64 = 10 * 1024 * 1024;

impl HostProvider {
    pub(super) async fn run_before(&self, order: &InstanceOrder) -> Result<(), Failure> {
        if order.before.is_empty() {
            return Ok(());
        }
        let operation = format!("run the one-off command of `{}`", order.instance.service());
        let instance = self.open(order).await?;
        let scope = instance.values(order)?;
        environment::write_bindings(order, &instance.folder, instance.owner.as_ref())?;
        let (program, arguments) = program_of(&order.before, order, &scope)?;
        let mut environment = instance.environment(order, &scope)?;
        environment.insert("OSTLER_INSTANCE".to_owned(), order.instance.to_string());
        let path = instance.folder.log();
        let log = OpenOptions::new().create(true).append(true).mode(0o600).open(&path).map_err(io_at("open", &path))?;
        let run = Run {
            program,
            arguments,
            environment,
            folder: order.folder.clone(),
            owner: instance.owner.clone(),
            input: Input::File(lock(&instance.folder, &operation)?),
            output: Output::Log(log),
            limit: BEFORE_TIMEOUT,
        };
        steps::run(run).await.map(drop).map_err(|error| {
            let service = order.instance.service();
            temporary(
                format!("cannot {operation}: {}", scope.redact(&error.to_string())),
                format!("Read what it said with `ostler logs {service}` and correct it; it is tried again."),
            )
        })
    }

    pub(super) async fn start_instance(&self, order: &InstanceOrder, grant: ReflexGrant) -> Result<Running, Failure> {
        let operation = format!("start instance `{}`", order.instance);
        let mut instance = self.open(order).await?;
        let survey = self.surveys.now().await.map_err(|error| error.failure(&operation))?;
        let runs = survey.instances.get(&order.instance).is_some_and(|surveyed| surveyed.process.is_some());
        let socket = socket_name(&order.instance);
        let address = (HOST, instance.marker.port).into();
        let failure = |error: KeeperError| match error {
            KeeperError::Refused(Refusal::CannotListen { .. }) => ports::taken(&operation, instance.marker.port),
            KeeperError::Refused(_) | KeeperError::Lost(_) => error.failure(&operation),
        };
        match order.listen {
            Listen::Socket => drop(self.keeper.listen(&socket, address).await.map_err(failure)?),
            Listen::Port => {
                if survey.sockets.contains_key(&socket) {
                    self.keeper.unlisten(&socket).await.map_err(failure)?;
                }
                if !runs && !ports::is_free(instance.marker.port) {
                    return Err(ports::taken(&operation, instance.marker.port));
                }
            }
        }
        let launch = {
            let scope = instance.values(order)?;
            write_files(&instance.definition, When::Start, &scope, &instance.folder, instance.owner.as_ref())?;
            environment::write_bindings(order, &instance.folder, instance.owner.as_ref())?;
            let held = self.hold_limits(order)?;
            instance.launch(order, &scope, held)?
        };
        let version = if runs { None } else { instance.found.as_ref().and_then(|found| found.version.clone()) };
        instance.remember_start(version)?;
        let grant =
            Grant { burst: grant.burst, refill_ms: u64::try_from(grant.refill.as_millis()).unwrap_or(u64::MAX) };
        let started = self.keeper.start(launch, grant).await.map_err(|error| error.failure(&operation))?;
        Ok(Running { pid: Some(started.process.pid), address, since: started.process.since })
    }

    /// Stops it with its definition's signal, and its definition's grace unless another is given. An instance whose
    /// definition is gone is stopped with the usual ones.
    pub(super) async fn stop_instance(
        &self,
        instance: &InstanceId,
        grace: Option<Duration>,
    ) -> Result<Stopped, Failure> {
        let marker = Folder::new(&self.home, instance).marker().ok().flatten();
        let definition = marker.as_ref().and_then(|marker| self.definitions.get(&marker.offering));
        let stop = definition.map_or_else(Stop::default, |definition| definition.stop);
        let grace = grace.unwrap_or(stop.grace.get());
        let stopped = self.keeper.stop(instance, stop.signal.number(), grace).await;
        let stopped = stopped.map_err(|error| error.failure(&format!("stop instance `{instance}`")))?;
        if let (Some(kind), Some(marker)) = (self.limits.get(), marker) {
            kind.release(&self.limits_path(&marker.estate, instance));
        }
        Ok(stopped)
    }

    fn hold_limits(&self, order: &InstanceOrder) -> Result<limits::Held, Failure> {
        if order.limits == ostler_model::catalog::Limits::default() {
            return Ok(limits::Held::default()); // nothing is made for instances without limits, the fastest way
        }
        self.limits_in_force().hold(&self.limits_path(&order.estate, &order.instance), &order.limits)
    }

    /// Two estates of one name have two homes, and so two folders of cgroups.
    pub(super) fn limits_path(&self, estate: &ostler_model::ids::EstateName, instance: &InstanceId) -> String {
        format!("{estate}-{}/{instance}", &sha256_hex(self.home.as_os_str().as_encoded_bytes())[..8])
    }
}

impl Instance {
    /// Written down before the process exists: from now on the data may be somebody's.
    fn remember_start(&mut self, version: Option<ostler_model::version::Version>) -> Result<(), Failure> {
        let version = version.or_else(|| self.marker.version.clone());
        if self.marker.started && self.marker.version == version {
            return Ok(());
        }
        self.marker.started = true;
        self.marker.version = version;
        self.folder.write_marker(&self.marker)
    }

    fn environment(&self, order: &InstanceOrder, scope: &Scope<'_>) -> Result<BTreeMap<String, String>, Failure> {
        let own = scope.map(&self.definition.environment)?;
        environment::of_instance(order, &self.folder, self.marker.port, self.definition.runs_program, own, scope)
    }

    fn launch(&self, order: &InstanceOrder, scope: &Scope<'_>, held: limits::Held) -> Result<Launch, Failure> {
        let run = &self.definition.run;
        let (program, arguments, default_folder) = if self.definition.runs_program {
            let (program, arguments) = program_of(&order.run, order, scope)?;
            (program, arguments, order.folder.clone())
        } else {
            let words = scope.texts(&run.command)?;
            let mut words = words.into_iter();
            let program = words.next().unwrap_or_default();
            (PathBuf::from(program), words.collect(), self.folder.root.clone())
        };
        let log = self.folder.log();
        if let Some(folder) = log.parent() {
            make_folder(folder, None)?;
        }
        let folder = run.folder.as_ref().map(|text| scope.text(text)).transpose()?;
        let name = program.display().to_string();
        let mut launch = Launch {
            instance: order.instance.clone(),
            digest: String::new(),
            program,
            arguments: [name].into_iter().chain(arguments).collect(),
            environment: self.environment(order, scope)?,
            folder: folder.map_or(default_folder, PathBuf::from),
            log,
            log_bytes_max: LOG_BYTES_MAX,
            user: self.owner.as_ref().map(|owner| UserGroup { uid: owner.uid, gid: owner.gid }),
            socket: (order.listen == Listen::Socket).then(|| socket_name(&order.instance)),
            cgroups: held.cgroups,
            rlimits: held.rlimits,
            tree: run.tree,
        };
        launch.digest = digest(&launch)?;
        Ok(launch)
    }
}

/// Under which name the keeper holds an instance's listening socket.
pub(super) fn socket_name(instance: &InstanceId) -> String {
    format!("instance/{instance}")
}

/// SHA-256 in hexadecimal digits.
pub(super) fn sha256_hex(bytes: &[u8]) -> String {
    hex(&Sha256::digest(bytes))
}

pub(super) fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write;
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut out, byte| {
        let _ = write!(out, "{byte:02x}"); // writing to a string cannot fail
        out
    })
}

/// The buyer's program and its arguments without the program's name.
fn program_of(words: &[Template], order: &InstanceOrder, scope: &Scope<'_>) -> Result<(PathBuf, Vec<String>), Failure> {
    let versioned = words.first().is_some_and(|word| word.references().any(|name| name == Service::VERSION));
    let mut words = words.iter().map(|word| scope.render(word)).collect::<Result<Vec<_>, _>>()?.into_iter();
    let first = words.next().unwrap_or_default();
    let versioned = order.placement.version.as_ref().filter(|_| versioned);
    let program = check_program(&first, &order.folder).map_err(|cause| {
        let remedy = match versioned {
            Some(version) => format!("put version {version} of the program back, or upgrade to one that is there"),
            None => "Build or install the program, or correct its path in the estate file; it is tried again.".into(),
        };
        temporary(format!("cannot start instance `{}`: {}", order.instance, scope.redact(&cause)), remedy)
    })?;
    Ok((program, words.collect()))
}

/// A digest of everything that the process is started with. A launch is made of maps and lists in a fixed order, so
/// equal launches have equal texts.
fn digest(launch: &Launch) -> Result<String, Failure> {
    let text = serde_json::to_vec(launch).map_err(|error| {
        super::failure::needs_person(
            format!("cannot describe the launch of instance `{}`: {error}", launch.instance),
            "Use paths in UTF-8 for the home, the estate file and its programs.",
        )
    })?;
    Ok(sha256_hex(&text))
}

/// An empty file that is locked for as long as somebody has it open: the one-off command gets it as its standard
/// input, so that a command that outlived a killed ostler is noticed and no second one starts beside it.
fn lock(folder: &Folder, operation: &str) -> Result<std::fs::File, Failure> {
    let path = folder.root.join("before.lock");
    let mut options = OpenOptions::new();
    let file = options.read(true).write(true).create(true).truncate(false).mode(0o600).open(&path);
    let file = file.map_err(io_at("open", &path))?;
    match flock(&file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(file),
        Err(_) => Err(temporary(
            format!("cannot {operation}: an earlier one still runs"),
            "Wait until it ends; it is tried again.",
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digests_are_the_well_known_ones() {
        assert_eq!(sha256_hex(b"abc"), "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
    }
}
