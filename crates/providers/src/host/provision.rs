//! Making and deleting instances.
//!
//! Invariant: data is prepared under another name and gets its own when it is complete; what was never started may be
//! prepared anew, what was started once is never touched. So no secret has to be written down before it is sealed.

use std::collections::BTreeSet;

use ostler_model::binding::Credentials;
use ostler_model::ids::InstanceId;
use ostler_model::outcome::{Failure, Observation, Running};
use ostler_model::time::Timestamp;

use super::HostProvider;
use super::definition::{Definition, When};
use super::failure::{io_at, needs_person};
use super::find::Found;
use super::folder::{
    Durable, Folder, Marker, delete, give, let_pass, make_folder, read_marker, sync_folder, write_private,
};
use super::instance::{BackupFile, Instance, STEP_FILE, Workshop};
use super::keeper_port::KeeperError;
use super::ports;
use super::run::sha256_hex;
use super::scope::Scope;
use super::users::{self, Owner};
use crate::InstanceOrder;

impl HostProvider {
    pub(super) async fn provision_instance(&self, order: &InstanceOrder) -> Result<Credentials, Failure> {
        let definition = self.definition(order)?;
        let wanted = order.placement.version.as_ref();
        let found = self.finder.one(order.placement.offering.as_str(), &definition, wanted).await?;
        let folder = Folder::new(&self.home, &order.instance);
        let owner = users::choose(definition.user.as_ref())?;
        let marker = match folder.marker()? {
            Some(marker) => marker,
            None => self.make_folder_of(order, &folder, owner.as_ref())?,
        };
        if marker.estate != order.estate || marker.offering != order.placement.offering {
            return Err(folder.foreign());
        }
        if marker.prepared && (marker.started || knows_secret(&definition, order)) {
            let instance = self.open(order).await?; // also checks that nothing is missing
            let mut scope = Instance::values(&instance, order)?;
            return scope.set_fields("secret.", &instance.definition.secret, Some(&order.secret));
        }
        if let Some(owner) = &owner {
            self.open_the_way(&folder, owner).await?;
        }
        self.prepare(order, &definition, found, &folder, marker, owner).await
    }

    /// What was never made to its end, or whose password was never sealed, is not there yet: nobody can have used it.
    pub(super) async fn observe_instance(&self, order: &InstanceOrder) -> Result<Observation, Failure> {
        let instance = &order.instance;
        let survey = self.surveys.now().await.map_err(|e| e.failure(&format!("observe instance `{instance}`")))?;
        let marker = Folder::new(&self.home, instance).marker()?;
        let process = survey.instances.get(instance).and_then(|surveyed| surveyed.process.as_ref());
        Ok(match (marker, process) {
            (Some(marker), Some(process)) => Observation::Running(Running {
                pid: Some(process.pid),
                address: (ports::HOST, marker.port).into(),
                since: process.since,
            }),
            // A process without its folder is still a process, and must be stopped before it is called absent.
            (None, Some(process)) => Observation::Running(Running {
                pid: Some(process.pid),
                address: (ports::HOST, 0).into(),
                since: process.since,
            }),
            (Some(marker), None) if self.is_whole(&marker, order) => Observation::Stopped { exit: None },
            (Some(_) | None, None) => Observation::Absent,
        })
    }

    /// Whether it can be started: what was started once is somebody's, whatever else is missing.
    fn is_whole(&self, marker: &Marker, order: &InstanceOrder) -> bool {
        let knows = || self.definition(order).map_or(true, |definition| knows_secret(&definition, order));
        marker.started || (marker.prepared && knows())
    }

    pub(super) async fn delete_instance(&self, instance: &InstanceId) -> Result<(), Failure> {
        let operation = format!("delete instance `{instance}`");
        let folder = Folder::new(&self.home, instance);
        let marker = folder.marker()?; // refuses what ostler did not make, before anything is stopped
        self.stop_instance(instance, None).await?;
        self.keeper
            .unlisten(&super::run::socket_name(instance))
            .await
            .map_err(|e: KeeperError| e.failure(&operation))?;
        let deleting = folder.deleting();
        // Left by an interrupted deletion: it got this name only after it was proved to be ostler's.
        delete(deleting.clone()).await?;
        let Some(marker) = marker else { return Ok(()) };
        std::fs::rename(&folder.root, &deleting).map_err(io_at("delete", &folder.root))?;
        sync_folder(&folder.instances)?;
        delete(deleting).await?;
        self.limits_in_force().release(&self.limits_path(&marker.estate, instance));
        if let Some(ports) = &mut *self.locked_ports() {
            ports.remove(&marker.port);
        }
        Ok(())
    }

    /// Chooses a port and makes the folder with its marker, so that the port is this instance's from here on.
    fn make_folder_of(&self, order: &InstanceOrder, folder: &Folder, owner: Option<&Owner>) -> Result<Marker, Failure> {
        make_folder(&folder.instances, None)?;
        let mut ports = self.locked_ports();
        let taken = ports.get_or_insert_with(|| ports_in_use(folder));
        let digest = sha256_hex(format!("{}\n{}", self.home.display(), order.instance).as_bytes());
        let port = ports::choose(u64::from_str_radix(&digest[..15], 16).unwrap_or(0), taken)?;
        let at = now().to_seconds();
        let mut marker = Marker::new(&order.instance, &order.estate, &order.placement.offering, port, at);
        marker.user = owner.map(|owner| owner.name.clone());
        folder.make(&marker)?;
        taken.insert(port);
        Ok(marker)
    }

    /// Lets the instance's user pass through ostler's folders to the instance's data.
    async fn open_the_way(&self, folder: &Folder, owner: &Owner) -> Result<(), Failure> {
        for above in [&self.home, &folder.instances, &folder.root] {
            let_pass(above)?;
        }
        users::can_enter(owner, &folder.root).await
    }

    async fn prepare(
        &self,
        order: &InstanceOrder,
        definition: &Definition,
        found: Option<Found>,
        folder: &Folder,
        mut marker: Marker,
        owner: Option<Owner>,
    ) -> Result<Credentials, Failure> {
        // A name of its own for each attempt: a step that outlived a killed ostler cannot write into the next one's.
        let new = folder.root.join(format!("data.new-{}", &super::scope::generate()?[..8]));
        if marker.prepared {
            marker.prepared = false; // written first: the data that it spoke of is about to go
            folder.write_marker(&marker)?;
        }
        for leftover in leftovers(folder)? {
            delete(leftover).await?;
        }
        make_folder(&new, owner.as_ref())?;
        let parts = (folder, new.as_path(), marker.port, found.as_ref(), owner.as_ref());
        let mut scope = Instance::scope(definition, order, parts)?;
        let secret = scope.set_fields("secret.", &definition.secret, Some(&order.secret))?;
        write_files(definition, When::Prepare, &scope, folder, owner.as_ref())?;
        let operation = format!("prepare instance `{}`", order.instance);
        let workshop = Workshop { folder, owner: owner.as_ref(), operation, elsewhere: false };
        workshop.all(&definition.prepare, &scope, &BackupFile::None).await?;
        let data = folder.data();
        std::fs::rename(&new, &data).map_err(io_at("create", &data))?;
        marker.prepared = true;
        marker.version = found.and_then(|found| found.version);
        marker.user = owner.map(|owner| owner.name);
        folder.write_marker(&marker)?;
        Ok(secret)
    }

    fn locked_ports(&self) -> std::sync::MutexGuard<'_, Option<BTreeSet<u16>>> {
        self.ports.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

/// Writes the definition's files of this time.
pub(super) fn write_files(
    definition: &Definition,
    when: When,
    scope: &Scope<'_>,
    folder: &Folder,
    owner: Option<&Owner>,
) -> Result<(), Failure> {
    for file in definition.files.iter().filter(|file| file.when == when) {
        let path = std::path::PathBuf::from(scope.text(&file.path)?);
        // The definition's check saw the template; what its references brought in is checked here.
        let inside = path
            .strip_prefix(&folder.root)
            .is_ok_and(|rest| rest.components().all(|part| matches!(part, std::path::Component::Normal(_))));
        if !inside {
            return Err(needs_person(
                format!("{} is outside the instance's folder", path.display()),
                "Correct the file's `path` in the offering's definition.",
            ));
        }
        if let Some(parent) = path.parent().filter(|parent| !parent.exists()) {
            make_folder(parent, owner)?;
        }
        // What lies in the data is written once, so it must be there after a power loss; the rest is written again.
        let durable = if when == When::Prepare { Durable::Yes } else { Durable::No };
        write_private(&path, scope.text(&file.text)?.as_bytes(), owner, durable)?;
    }
    Ok(())
}

/// The present time; the only place where this provider reads the clock for people.
fn now() -> Timestamp {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    Timestamp(i64::try_from(since.as_micros()).unwrap_or(i64::MAX))
}

fn knows_secret(definition: &Definition, order: &InstanceOrder) -> bool {
    definition.secret.generate.iter().all(|name| order.secret.get(name.get_ref()).is_some())
}

/// The ports in the markers of all instances of this home.
fn ports_in_use(folder: &Folder) -> BTreeSet<u16> {
    let entries = std::fs::read_dir(&folder.instances).into_iter().flatten().flatten();
    entries.filter_map(|entry| read_marker(&entry.path())).map(|marker| marker.port).collect()
}

/// What attempts to prepare an instance that never started have left: data, and secret files of killed steps.
fn leftovers(folder: &Folder) -> Result<Vec<std::path::PathBuf>, Failure> {
    let entries = std::fs::read_dir(&folder.root).map_err(io_at("list", &folder.root))?;
    let is_left = |name: &str| name == "data" || name.starts_with("data.new-") || name.starts_with(STEP_FILE);
    let names = entries.flatten().filter(|entry| entry.file_name().to_str().is_some_and(is_left));
    Ok(names.map(|entry| entry.path()).collect())
}

/// Makes a folder of this name for work on an instance, in the place of one that was left by work that was cut off.
pub(super) fn work_folder(folder: &Folder, name: &str, owner: Option<&Owner>) -> Result<std::path::PathBuf, Failure> {
    let path = folder.root.join(name);
    if path.exists() {
        std::fs::remove_dir_all(&path).map_err(io_at("delete", &path))?;
    }
    make_folder(&path, None)?;
    owner.map(|owner| give(&path, owner)).transpose()?;
    Ok(path)
}
