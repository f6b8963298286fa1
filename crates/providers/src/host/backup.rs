//! Backups of instances, and what becomes of data when one is restored.
//!
//! Invariant: a backup has its final name only when it is complete and on disk, beside a JSON file with its digest; a
//! restore begins only after the digest was found right.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use ostler_model::outcome::{BackupMade, Failure};
use rustix::process::{Pid, Signal, kill_process_group};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use tokio::io::AsyncWriteExt;
use tokio::process::{Child, Command};

use super::HostProvider;
use super::definition::{Helper, Restore};
use super::environment;
use super::failure::{cut, io_at, needs_person, temporary};
use super::folder::{Durable, blocking, delete, give, make_folder, sync_folder, write_private};
use super::instance::{BackupFile, Instance};
use super::ports;
use super::provision::work_folder;
use super::run::hex;
use super::scope::{Scope, generate};
use crate::InstanceOrder;

const NAME_BYTES_MAX: usize = 128;
/// As many lines of a restore's helper are quoted.
const HELPER_LINES_MAX: usize = 12;
const COPY_BYTES: usize = 256 * 1024;

/// What is written down beside a backup.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Sidecar {
    format: u32,
    service: String,
    instance: String,
    offering: String,
    version: Option<String>,
    #[serde(flatten)]
    made: BackupMade,
}

impl HostProvider {
    pub(super) async fn make_backup(&self, order: &InstanceOrder, name: &str) -> Result<BackupMade, Failure> {
        let instance = self.open(order).await?;
        let Some(how) = &instance.definition.backup else { return Err(cannot_back_up(order)) };
        let path = self.backup_path(order, name)?;
        if let Some(sidecar) = read_sidecar(&path)? {
            if sidecar.instance == order.instance.to_string() {
                return Ok(sidecar.made); // asked for again
            }
            return Err(needs_person(
                format!("a backup `{name}` of instance `{}` is there already", sidecar.instance),
                "Choose another name.",
            ));
        }
        let folder = path.parent().unwrap_or(&self.home).to_owned();
        make_folder(&folder, None)?;
        let part = path.with_file_name(format!(".{name}.part"));
        let mut options = OpenOptions::new();
        options.write(true).create(true).truncate(true).mode(0o600).open(&part).map_err(io_at("create", &part))?;
        let scope = instance.values(order)?;
        let operation = format!("back up instance `{}`", order.instance);
        let outcome = instance.workshop(operation).all(&how.steps, &scope, &BackupFile::Write(&part)).await;
        if let Err(failure) = outcome {
            let _ = fs::remove_file(&part); // the next attempt overwrites it anyway
            return Err(failure);
        }
        let (name, sidecar) = (name.to_owned(), instance.sidecar(order));
        blocking(move || {
            let (bytes, sha256) = measure(&part).map_err(io_at("read", &part))?;
            if bytes == 0 {
                return Err(temporary("the backup is empty", "It is tried again; look at the instance's log."));
            }
            let sidecar = Sidecar { made: BackupMade { name, bytes, sha256 }, ..sidecar };
            let text = serde_json::to_vec_pretty(&sidecar).unwrap_or_default();
            // The data first: a digest without its data would make the next attempt believe that all is done.
            fs::rename(&part, &path).map_err(io_at("create", &path))?;
            sync_folder(&folder)?;
            write_private(&sidecar_path(&path), &text, None, Durable::Yes)?;
            Ok(sidecar.made)
        })
        .await
    }

    pub(super) async fn restore_backup(&self, order: &InstanceOrder, backup: &BackupMade) -> Result<(), Failure> {
        let instance = self.open(order).await?;
        let Some(how) = &instance.definition.restore else { return Err(cannot_back_up(order)) };
        let path = self.backup_path(order, &backup.name)?;
        self.check_backup(order, backup, &path).await?;
        let operation = format!("restore backup `{}` into instance `{}`", backup.name, order.instance);
        let workshop = instance.workshop(operation);
        let mut scope = instance.values(order)?;
        let helper = match &how.helper {
            Some(helper) => Some(instance.start_helper(helper, &path, &mut scope).await?),
            None => None,
        };
        let file = BackupFile::Read(&path);
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
        outcome
    }

    async fn check_backup(&self, order: &InstanceOrder, backup: &BackupMade, path: &Path) -> Result<(), Failure> {
        let remedy = "Restore an older backup of the service, or bring this one back from where backups are copied to.";
        let damaged = |why: String| needs_person(format!("backup `{}` cannot be restored: {why}", backup.name), remedy);
        let measured = {
            let path = path.to_owned();
            blocking(move || Ok(measure(&path))).await?
        };
        let (bytes, sha256) = measured.map_err(|error| damaged(format!("cannot read {}: {error}", path.display())))?;
        if (bytes, &sha256) != (backup.bytes, &backup.sha256) {
            return Err(damaged(format!(
                "it is damaged: it has {bytes} bytes with the digest {sha256}, and was made with {} bytes and {}",
                backup.bytes, backup.sha256
            )));
        }
        match read_sidecar(path)? {
            Some(sidecar) if sidecar.offering != order.placement.offering.as_str() => {
                Err(damaged(format!("it was made by the offering `{}`", sidecar.offering)))
            }
            Some(_) | None => Ok(()),
        }
    }

    fn backup_path(&self, order: &InstanceOrder, name: &str) -> Result<PathBuf, Failure> {
        let allowed = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
        let good = !name.is_empty()
            && name.len() <= NAME_BYTES_MAX
            && !name.starts_with('.')
            && !name.ends_with(".json")
            && name.chars().all(allowed);
        if !good {
            let shown: String = name.chars().take(80).collect();
            return Err(needs_person(
                format!("`{shown}` is no name for a backup"),
                "Use up to 128 letters, digits, dots, hyphens and underscores, not beginning with a dot nor ending in `.json`.",
            ));
        }
        Ok(self.home.join("backups").join(order.instance.service().as_str()).join(name))
    }
}

impl Instance {
    fn sidecar(&self, order: &InstanceOrder) -> Sidecar {
        Sidecar {
            format: 1,
            service: order.instance.service().to_string(),
            instance: order.instance.to_string(),
            offering: order.placement.offering.to_string(),
            version: self.found.as_ref().and_then(|found| Some(found.version.as_ref()?.to_string())),
            made: BackupMade { name: String::new(), bytes: 0, sha256: String::new() },
        }
    }

    /// Starts the restore's helper with a copy of the backup, a port and a password of its own.
    async fn start_helper(
        &self,
        helper: &Helper,
        backup: &Path,
        scope: &mut Scope<'_>,
    ) -> Result<RunningHelper, Failure> {
        let folder = work_folder(&self.folder, self.owner.as_ref())?;
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

fn sidecar_path(backup: &Path) -> PathBuf {
    let name = backup.file_name().unwrap_or_default().to_string_lossy();
    backup.with_file_name(format!("{name}.json"))
}

/// What is written beside a backup; `None` if the backup is not complete.
fn read_sidecar(backup: &Path) -> Result<Option<Sidecar>, Failure> {
    let path = sidecar_path(backup);
    let text = match fs::read(&path) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(super::failure::io("read", &path, &error)),
    };
    serde_json::from_slice(&text).map(Some).map_err(|error| {
        needs_person(
            format!("{} is damaged: {error}", path.display()),
            "Choose another name for a new backup, or bring the file back from where backups are copied to.",
        )
    })
}

/// Size and SHA-256 of a file, once it is on disk.
fn measure(path: &Path) -> io::Result<(u64, String)> {
    let mut file = File::open(path)?;
    file.sync_all()?;
    let (mut digest, mut bytes, mut buffer) = (Sha256::new(), 0_u64, vec![0_u8; COPY_BYTES]);
    loop {
        let count = file.read(&mut buffer)?;
        if count == 0 {
            return Ok((bytes, hex(&digest.finalize())));
        }
        digest.update(&buffer[..count]);
        bytes += count as u64;
    }
}
