//! One instance while something is done with it: its definition, programs, folder, user and values.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use ostler_model::ids::ServiceName;
use ostler_model::outcome::{Counted, Failure};
use tokio::time::{Instant, sleep};

use super::HostProvider;
use super::definition::{Definition, Step};
use super::environment;
use super::failure::{needs_person, temporary};
use super::find::{Found, series};
use super::folder::{Durable, Folder, Marker, write_private};
use super::ports::HOST;
use super::scope::{Scope, generate};
use super::steps::{self, Ended, Input, Output, Run};
use super::users::{self, Owner};
use crate::InstanceOrder;

/// A step that waits for something asks this often.
const WAIT_EVERY: Duration = Duration::from_millis(100);
/// The longest name that `service.id` and `binding.id` have: databases cut names at 63 bytes, and a definition adds to
/// these.
const ID_BYTES_MAX: usize = 48;

/// What the names of steps' secret files begin with.
pub(super) const STEP_FILE: &str = ".step-";

/// What is needed to do something with an instance.
pub(super) struct Instance {
    pub(super) definition: Arc<Definition>,
    pub(super) found: Option<Found>,
    pub(super) folder: Folder,
    pub(super) marker: Marker,
    pub(super) owner: Option<Owner>,
}

/// A backup's file as a step uses it.
pub(super) enum BackupFile<'a> {
    None,
    Write(&'a Path),
    Read(&'a Path),
}

impl HostProvider {
    /// The definition of what was bought.
    pub(super) fn definition(&self, order: &InstanceOrder) -> Result<Arc<Definition>, Failure> {
        let placement = &order.placement;
        let definition = self.definitions.get(&placement.offering).ok_or_else(|| {
            needs_person(
                format!("this machine has no offering `{}`", placement.offering),
                "Put its definition file back into the folder of offerings, or choose another offering.",
            )
        })?;
        if definition.plan(&placement.plan).is_none() {
            return Err(needs_person(
                format!("the offering `{}` has no plan `{}`", placement.offering, placement.plan),
                "Choose one of its plans in the estate file.",
            ));
        }
        Ok(definition.clone())
    }

    /// The instance of `order`, which was provisioned before.
    pub(super) async fn open(&self, order: &InstanceOrder) -> Result<Instance, Failure> {
        let folder = Folder::new(&self.home, &order.instance);
        let definition = self.definition(order)?;
        let marker = folder.marker()?.filter(|marker| marker.prepared).ok_or_else(|| {
            temporary(format!("instance `{}` is not provisioned", order.instance), "Nothing: it is provisioned first.")
        })?;
        if marker.estate != order.estate || marker.offering != order.placement.offering {
            return Err(folder.foreign());
        }
        let wanted = order.placement.version.as_ref();
        let found = self.finder.one(order.placement.offering.as_str(), &definition, wanted).await?;
        let owner = marker.user.as_deref().map(users::named).transpose()?;
        let instance = Instance { definition, found, folder, marker, owner };
        instance.check_series()?;
        instance.check_secret(order)?;
        Ok(instance)
    }
}

impl Instance {
    /// Data of one series is of no use to another, and must not be touched by it.
    pub(super) fn check_series(&self) -> Result<(), Failure> {
        let Some(find) = self.definition.find.as_ref().filter(|find| find.series > 0) else { return Ok(()) };
        let Some(chosen) = self.found.as_ref().and_then(|found| found.version.as_ref()) else { return Ok(()) };
        let chosen_series = series(chosen, find.series);
        let of_marker = self.marker.version.as_ref().map(|version| series(version, find.series));
        let of_file = find
            .series_file
            .as_ref()
            .and_then(|file| Some(std::fs::read_to_string(self.folder.data().join(file)).ok()?.trim().to_owned()));
        for data_series in [of_marker, of_file].into_iter().flatten() {
            if data_series != chosen_series {
                let offering = &self.marker.offering;
                return Err(needs_person(
                    format!(
                        "the data of instance `{}` was made by {offering} {data_series} and cannot be used by {offering} {chosen}",
                        self.folder.instance
                    ),
                    format!(
                        "Ask for version {data_series} in the estate file (and install it if it is gone). To move to {chosen}, back up \
                         the service, provide it anew with the new version, and restore the backup there."
                    ),
                ));
            }
        }
        Ok(())
    }

    fn check_secret(&self, order: &InstanceOrder) -> Result<(), Failure> {
        let generated = &self.definition.secret.generate;
        match generated.iter().find(|name| order.secret.get(name.get_ref()).is_none()) {
            None => Ok(()),
            Some(name) => Err(needs_person(
                format!("the secret `{}` of instance `{}` is missing", name.get_ref(), self.folder.instance),
                "Restore the home from a backup: the instance's secrets are kept in it.",
            )),
        }
    }

    /// The values for everything that is done with this instance. `data` is where its data lies (while preparing, not
    /// at its final place).
    pub(super) fn scope<'a>(
        definition: &'a Definition,
        order: &InstanceOrder,
        parts: (&Folder, &Path, u16, Option<&Found>, Option<&Owner>),
    ) -> Result<Scope<'a>, Failure> {
        let (folder, data, port, found, owner) = parts;
        let mut scope = Scope::new(definition);
        let service = order.instance.service();
        scope.set("estate.name", order.estate.as_str());
        scope.set("service.name", service.as_str());
        scope.set("service.id", short(service));
        scope.set("instance.id", order.instance.to_string());
        scope.set("instance.folder", folder.root.display().to_string());
        scope.set("instance.data", data.display().to_string());
        scope.set("instance.host", HOST.to_string());
        scope.set("instance.port", port.to_string());
        scope.set("user.name", owner.map_or("", |owner| owner.name.as_str()));
        match (found, &definition.find) {
            (Some(found), Some(find)) => found.set(&mut scope, find),
            // The buyer's own program, of which several versions lie side by side.
            (_, None) => order.placement.version.iter().for_each(|version| scope.set("version", version.to_string())),
            (None, Some(_)) => {}
        }
        for (key, value) in definition.plan(&order.placement.plan).into_iter().flat_map(|plan| &plan.values) {
            scope.set(format!("plan.{key}"), value);
        }
        for (name, need) in &order.needs {
            scope.set_credentials(&format!("needs.{name}."), &need.credentials);
        }
        // The estate's `env` may refer to all of the above, and definitions may refer to it. While an instance is being
        // made its needs are not bound yet: a variable that waits for them has no value, and only its use is an error.
        for (name, template) in &order.env {
            if let Ok(value) = scope.render(template) {
                scope.set(format!("env.{name}"), value);
            }
        }
        Ok(scope)
    }

    /// The same, with the secrets that were handed back.
    pub(super) fn values<'a>(&'a self, order: &InstanceOrder) -> Result<Scope<'a>, Failure> {
        let data = self.folder.data();
        let parts = (&self.folder, data.as_path(), self.marker.port, self.found.as_ref(), self.owner.as_ref());
        let mut scope = Self::scope(&self.definition, order, parts)?;
        scope.set_fields("secret.", &self.definition.secret, Some(&order.secret))?;
        Ok(scope)
    }
}

/// The place where steps run.
pub(super) struct Workshop<'a> {
    pub(super) folder: &'a Folder,
    pub(super) owner: Option<&'a Owner>,
    /// "prepare instance `db-1`", for messages.
    pub(super) operation: String,
    /// What is worked on is somebody else's: there is no log of it here.
    pub(super) elsewhere: bool,
}

impl Workshop<'_> {
    /// Carries out steps in their order, until one fails. Returns what they counted.
    pub(super) async fn all(
        &self,
        steps: &[Step],
        scope: &Scope<'_>,
        backup: &BackupFile<'_>,
    ) -> Result<Counted, Failure> {
        let mut counted = Counted::new();
        for step in steps {
            counted.append(&mut self.one(step, scope, backup).await?);
        }
        Ok(counted)
    }

    /// Carries out one step, once; what it said on its standard output.
    pub(super) async fn ask(&self, step: &Step, scope: &Scope<'_>) -> Result<String, Failure> {
        let ended = steps::run(self.command(step, scope, &BackupFile::None, step.timeout.get())?).await;
        ended.map(|ended| ended.stdout).map_err(|error| self.failure(scope, &error.to_string()))
    }

    async fn one(&self, step: &Step, scope: &Scope<'_>, backup: &BackupFile<'_>) -> Result<Counted, Failure> {
        let Some(text) = &step.secret_file else { return self.repeat(step, scope, backup).await };
        let mut scope = scope.clone();
        let file = SecretFile(self.folder.root.join(format!("{STEP_FILE}{}", &generate()?[..8])));
        write_private(&file.0, scope.text(text)?.as_bytes(), self.owner, Durable::No)?;
        scope.set("step.file", file.0.display().to_string());
        self.repeat(step, &scope, backup).await
    }

    /// Once, or until what the step waits for is there.
    async fn repeat(&self, step: &Step, scope: &Scope<'_>, backup: &BackupFile<'_>) -> Result<Counted, Failure> {
        let deadline = Instant::now() + step.timeout.get();
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            let outcome = steps::run(self.command(step, scope, backup, left)?).await;
            let late = Instant::now() + WAIT_EVERY >= deadline;
            match (&step.wait_for, outcome) {
                (None, Ok(ended)) => return self.check(step, scope, &ended),
                (Some(text), Ok(ended)) if ended.stdout.contains(text) => return Ok(counted_in(&ended)),
                (Some(text), Ok(ended)) if late => {
                    let said = format!("it waited in vain for `{text}`; the last answer was: {}", ended.stdout.trim());
                    return Err(self.failure(scope, &said));
                }
                (Some(_), Err(error)) if late => return Err(self.failure(scope, &error.to_string())),
                (None, Err(error)) => return Err(self.failure(scope, &error.to_string())),
                (Some(_), Ok(_) | Err(_)) => sleep(WAIT_EVERY).await,
            }
        }
    }

    fn command(
        &self,
        step: &Step,
        scope: &Scope<'_>,
        backup: &BackupFile<'_>,
        limit: Duration,
    ) -> Result<Run, Failure> {
        let mut words = scope.texts(&step.run)?.into_iter();
        let mut environment = environment::base(&self.folder.root);
        environment.extend(scope.map(&step.environment)?);
        let open = super::failure::io_at;
        let input = match (backup, &step.stdin) {
            (BackupFile::Read(path), _) if step.takes_backup => {
                Input::File(std::fs::File::open(path).map_err(open("open", path))?)
            }
            (_, Some(text)) => Input::Text(scope.text(text)?),
            (_, None) => Input::Nothing,
        };
        let output = match backup {
            BackupFile::Write(path) if step.makes_backup => {
                Output::To(std::fs::OpenOptions::new().write(true).open(path).map_err(open("open", path))?)
            }
            BackupFile::Write(_) | BackupFile::Read(_) | BackupFile::None => Output::Kept,
        };
        Ok(Run {
            program: words.next().unwrap_or_default().into(),
            arguments: words.collect(),
            environment,
            folder: "/".into(), // the one folder that every user can enter
            owner: self.owner.cloned(),
            input,
            output,
            limit,
        })
    }

    fn check(&self, step: &Step, scope: &Scope<'_>, ended: &Ended) -> Result<Counted, Failure> {
        match &step.expect {
            Some(expected) if ended.stdout.trim() != expected.trim() => {
                let said = format!("unexpected answer: {} {}", ended.stdout.trim(), ended.stderr.trim());
                Err(self.failure(scope, &said))
            }
            Some(_) | None => Ok(counted_in(ended)),
        }
    }

    fn failure(&self, scope: &Scope<'_>, said: &str) -> Failure {
        let service = self.folder.instance.service();
        let remedy = match self.elsewhere {
            true => "It is tried again. Look at what its provider allows the user of the binding.".to_owned(),
            false => format!("It is tried again. The instance's own words are in `ostler logs {service}`."),
        };
        temporary(format!("cannot {}: {}", self.operation, scope.redact(said)), remedy)
    }
}

/// What a step has counted: its lines of the form `counted rows=4`.
fn counted_in(ended: &Ended) -> Counted {
    let line = |line: &str| {
        let (name, number) = line.trim().strip_prefix("counted ")?.split_once('=')?;
        let is_name = !name.is_empty() && name.bytes().all(|b| b.is_ascii_lowercase() || b == b'_');
        Some((name.to_owned(), number.parse().ok()?)).filter(|_| is_name)
    };
    ended.stdout.lines().chain(ended.stderr.lines()).filter_map(line).collect()
}

/// A file that exists as long as this value, so that it goes however its step ends.
struct SecretFile(PathBuf);

impl Drop for SecretFile {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0); // it may not have been written
    }
}

/// The name, or where it is long its beginning and a digest of the whole.
pub(super) fn short(name: &ServiceName) -> String {
    let name = name.as_str();
    if name.len() <= ID_BYTES_MAX {
        return name.to_owned();
    }
    format!("{}-{}", &name[..ID_BYTES_MAX - 9], &super::run::sha256_hex(name.as_bytes())[..8])
}
