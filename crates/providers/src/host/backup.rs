//! Backups of instances, and what becomes of data when one is restored.
//!
//! Invariant: a backup's file has its name only when it is complete and on disk; what it is worth, and whether it is the
//! same later, is for whoever keeps it to know.

use std::fs::{self, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use ostler_model::outcome::{Counted, Failure};
use rustix::process::{Pid, Signal, kill_process_group};
use tokio::io::AsyncWriteExt;
use tokio::process::{Child, Command};

use super::HostProvider;
use super::definition::{Helper, Restore, Step};
use super::environment;
use super::failure::{cut, io_at, needs_person, temporary};
use super::folder::{blocking, delete, give, sync_folder};
use super::instance::{BackupFile, Instance, Workshop};
use super::ports;
use super::provision::work_folder;
use super::scope::{Scope, generate};
use super::users::Owner;
use crate::{Dumped, InstanceOrder};

/// As many lines of a restore's helper are quoted.
const HELPER_LINES_MAX: usize = 12;

impl HostProvider {
    pub(super) async fn make_backup(&self, order: &InstanceOrder, to: &Path) -> Result<Dumped, Failure> {
        let instance = self.open(order).await?;
        let Some(how) = &instance.definition.backup else { return Err(cannot_back_up(order)) };
        let operation = format!("back up instance `{}`", order.instance);
        let work = work_folder(&instance.folder, "backup", instance.owner.as_ref())?;
        let scope = instance.values(order)?;
        let counted = write_backup(&instance.workshop(operation), &how.steps, scope, &work, to).await;
        delete(work).await?;
        let version = instance.found.and_then(|found| found.version);
        Ok(Dumped { kind: order.placement.offering.clone(), version, counted: counted? })
    }

    pub(super) async fn restore_backup(&self, order: &InstanceOrder, from: &Path) -> Result<(), Failure> {
        let instance = self.open(order).await?;
        let Some(how) = &instance.definition.restore else { return Err(cannot_back_up(order)) };
        let operation = format!("restore a backup into instance `{}`", order.instance);
        let workshop = instance.workshop(operation);
        let mut scope = instance.values(order)?;
        let helper = match &how.helper {
            Some(helper) => Some(instance.start_helper(helper, from, &mut scope).await?),
            None => None,
        };
        let file = BackupFile::Read(from);
        let steps = workshop.all(&how.steps, &scope, &file);
        let (outcome, helper) = match helper {
            None => (steps.await, None),
            Some(mut helper) => {
                let outcome = tokio::select! {
                    outcome = steps => outcome,
                    // Without its helper a step could wait for nothing until its time is over.
                    _ = helper.0.wait() => Err(temporary(
                        format!("cannot {}: its helper ended before the steps did", workshop.operation),
                        "The backup cannot be loaded: restore another one, or one made by the same version.",
                    )),
                };
                (outcome, Some(helper))
            }
        };
        let afterwards = workshop.all(&how.always, &scope, &BackupFile::None).await;
        if let Some(helper) = helper {
            helper.end().await?;
        }
        let outcome = outcome.map_err(|failure| add_helper_words(failure, how, &instance, &scope)).and(afterwards);
        delete(instance.folder.root.join("restore")).await?;
        outcome.map(drop)
    }

    /// Counts what the running instance's data consists of, in the words in which its backups are counted. Reads all of
    /// it.
    ///
    /// # Errors
    /// If it cannot be read.
    pub async fn count(&self, order: &InstanceOrder) -> Result<Counted, Failure> {
        let instance = self.open(order).await?;
        let operation = format!("count what instance `{}` holds", order.instance);
        let scope = instance.values(order)?;
        instance.workshop(operation).all(&instance.definition.count.steps, &scope, &BackupFile::None).await
    }
}

/// Carries out the steps that write a backup, into a file of their user's first, because they may have to read it again.
pub(super) async fn write_backup(
    workshop: &Workshop<'_>,
    steps: &[Step],
    mut scope: Scope<'_>,
    work: &Path,
    to: &Path,
) -> Result<Counted, Failure> {
    let part = work.join("data");
    let mut options = OpenOptions::new();
    options.write(true).create_new(true).mode(0o600).open(&part).map_err(io_at("create", &part))?;
    workshop.owner.map(|owner| give(&part, owner)).transpose()?;
    scope.set("backup.file", part.display().to_string());
    scope.set("work.folder", work.display().to_string());
    let counted = workshop.all(steps, &scope, &BackupFile::Write(&part)).await?;
    let (to, owned) = (to.to_owned(), workshop.owner.is_some());
    blocking(move || {
        let bytes = fs::metadata(&part).map_err(io_at("read", &part))?.len();
        if bytes == 0 {
            return Err(temporary("the backup is empty", "It is tried again; look at the instance's log."));
        }
        if owned {
            give(&part, &Owner::ourselves())?;
        }
        move_file(&part, &to)
    })
    .await?;
    Ok(counted)
}

/// Moves a file, also from one disk to another; it has its new name only when it is complete and on disk.
fn move_file(from: &Path, to: &Path) -> Result<(), Failure> {
    let sync = |path: &Path| fs::File::open(path).and_then(|file| file.sync_all()).map_err(io_at("write", path));
    let folder = to.parent().unwrap_or(Path::new("/"));
    sync(from)?;
    match fs::rename(from, to) {
        Err(error) if error.kind() == io::ErrorKind::CrossesDevices => {
            let name = to.file_name().unwrap_or_default().to_string_lossy();
            let part = to.with_file_name(format!("{name}.part"));
            fs::copy(from, &part).map_err(io_at("write", &part))?; // with its mode
            sync(&part)?;
            fs::rename(&part, to).map_err(io_at("create", to))?;
        }
        moved => moved.map_err(io_at("create", to))?,
    }
    sync_folder(folder)
}

impl Instance {
    /// Starts the restore's helper with a copy of the backup, a port and a password of its own.
    async fn start_helper(
        &self,
        helper: &Helper,
        backup: &Path,
        scope: &mut Scope<'_>,
    ) -> Result<RunningHelper, Failure> {
        let folder = work_folder(&self.folder, "restore", self.owner.as_ref())?;
        let copy = folder.join("backup");
        {
            let (backup, copy, owner) = (backup.to_owned(), copy.clone(), self.owner.clone());
            blocking(move || {
                fs::copy(&backup, &copy).map_err(io_at("copy the backup to", &copy))?;
                owner.map(|owner| give(&copy, &owner)).transpose().map(drop)
            })
            .await?;
        }
        let port = ports::any().map_err(io_at("find a free port for", &folder))?;
        scope.set("helper.port", port.to_string());
        scope.set_secret("helper.password", &generate()?);
        scope.set("helper.folder", folder.display().to_string());
        scope.set("helper.backup", copy.display().to_string());
        let mut words = scope.texts(&helper.run)?.into_iter();
        let log = folder.join("log");
        let open = || OpenOptions::new().create(true).append(true).mode(0o600).open(&log).map_err(io_at("open", &log));
        let mut command = Command::new(words.next().unwrap_or_default());
        command.args(words).env_clear().envs(environment::base(&self.folder.root)).current_dir("/");
        command.process_group(0).kill_on_drop(true).stdin(std::process::Stdio::piped()).stdout(open()?).stderr(open()?);
        if let Some(owner) = &self.owner {
            command.uid(owner.uid).gid(owner.gid);
        }
        let mut child = command.spawn().map_err(io_at("start the helper in", &folder))?;
        let input = helper.stdin.as_ref().map(|text| scope.text(text)).transpose()?.unwrap_or_default();
        if let Some(mut stdin) = child.stdin.take() {
            // A helper that ends without reading is noticed by the steps that talk to it.
            let _ = stdin.write_all(input.as_bytes()).await;
        }
        Ok(RunningHelper(child))
    }
}

/// Killed when the restore ends, however it ends: it only has a copy of the backup.
struct RunningHelper(Child);

impl RunningHelper {
    async fn end(mut self) -> Result<(), Failure> {
        self.kill();
        self.0
            .wait()
            .await
            .map(drop)
            .map_err(|error| temporary(format!("cannot end the restore's helper: {error}"), "It is tried again."))
    }

    fn kill(&self) {
        // `id` is there only until the child was waited for, so it cannot be another process's.
        if let Some(pid) = self.0.id().and_then(|pid| Pid::from_raw(pid.cast_signed())) {
            let _ = kill_process_group(pid, Signal::KILL);
        }
    }
}

impl Drop for RunningHelper {
    fn drop(&mut self) {
        self.kill();
    }
}

/// What the helper said last often tells why the steps could not talk to it.
fn add_helper_words(mut failure: Failure, how: &Restore, instance: &Instance, scope: &Scope<'_>) -> Failure {
    if how.helper.is_some()
        && let Ok(log) = fs::read_to_string(instance.folder.root.join("restore").join("log"))
    {
        let lines: Vec<&str> = log.lines().collect();
        let last = lines[lines.len().saturating_sub(HELPER_LINES_MAX)..].join("\n");
        failure.detail = cut(format!("{}; its helper said last:\n{}", failure.detail, scope.redact(&last)));
    }
    failure
}

fn cannot_back_up(order: &InstanceOrder) -> Failure {
    needs_person(
        format!("the offering `{}` cannot be backed up", order.placement.offering),
        "Back up the services that hold its data.",
    )
}
