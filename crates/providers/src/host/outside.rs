//! Backups over a binding: of what is bought elsewhere, with this machine's client programs and nothing but credentials.
//!
//! Invariant: what is written is in the format of this machine's offering of the same kind, so that it can be restored at
//! any provider and proven here. A server is read by programs of its own series or newer ones, and written by those of its
//! own where they are here.

use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use ostler_model::binding::Credentials;
use ostler_model::ids::{InstanceId, OfferingName};
use ostler_model::outcome::Failure;
use reqwest::Url;

use super::Definitions;
use super::backup::write_backup;
use super::definition::{self, Definition};
use super::failure::{io_at, needs_person};
use super::find::{Finder, Found, read_version};
use super::folder::Folder;
use super::instance::{BackupFile, Workshop, short};
use super::scope::{Scope, generate};
use crate::Dumped;

/// This machine's client programs.
pub struct Outside {
    definitions: Definitions,
    finder: Finder,
    /// Where work is done.
    work: PathBuf,
}

impl Outside {
    /// Works in folders of its own below `work`, with the programs that `definitions` name.
    pub fn new(definitions: Definitions, work: PathBuf) -> Self {
        Self { definitions, finder: Finder::default(), work }
    }

    /// The kind of what is known by one of these words, if this machine can back up and restore that over a binding.
    pub async fn kind_of(&self, words: &[String]) -> Option<OfferingName> {
        for word in words {
            let is_it = |(name, definition): &(&OfferingName, &Arc<Definition>)| {
                let schemes = definition.outside.iter().flat_map(|outside| &outside.schemes);
                let mut names = schemes.map(|scheme| scheme.get_ref().as_str()).chain([name.as_str()]);
                definition.outside.is_some() && names.any(|name| name == word)
            };
            if let Some((name, definition)) = self.definitions.iter().find(is_it)
                && !self.finder.all(definition).await.is_empty()
            {
                return Some(name.clone());
            }
        }
        None
    }

    /// Whether this machine can restore backups in the format of this offering on the side.
    pub async fn can_prove(&self, format: &OfferingName) -> bool {
        match self.definitions.iter().find(|(name, _)| *name == format) {
            Some((_, definition)) => definition.restore.is_some() && !self.finder.all(definition).await.is_empty(),
            None => false,
        }
    }

    /// Writes the data that `credentials` give access to into the file `to`, as [`crate::Provider::backup`] does.
    ///
    /// # Errors
    /// If nothing is known of such credentials, or it cannot be done.
    pub async fn backup(&self, instance: &InstanceId, credentials: &Credentials, to: &Path) -> Result<Dumped, Failure> {
        let operation = format!("back up instance `{instance}`");
        let mut tools = self.tools(&operation, credentials).await?;
        let work = self.work_folder(instance)?;
        let workshop = Workshop { folder: &work.0, owner: None, operation, elsewhere: true };
        tools.fit(&workshop, credentials, For::Backup).await?;
        let scope = tools.scope(instance, credentials)?;
        let counted = write_backup(&workshop, &tools.how.backup, scope, &work.0.root, to).await?;
        Ok(Dumped { kind: tools.kind, version: tools.found.version, counted })
    }

    /// Replaces the data that `credentials` give access to, as [`crate::Provider::restore`] does.
    ///
    /// # Errors
    /// If nothing is known of such credentials, or it cannot be done.
    pub async fn restore(&self, instance: &InstanceId, credentials: &Credentials, from: &Path) -> Result<(), Failure> {
        let operation = format!("restore a backup into instance `{instance}`");
        let mut tools = self.tools(&operation, credentials).await?;
        let work = self.work_folder(instance)?;
        let workshop = Workshop { folder: &work.0, owner: None, operation, elsewhere: true };
        tools.fit(&workshop, credentials, For::Restore).await?;
        let mut scope = tools.scope(instance, credentials)?;
        scope.set("backup.file", from.display().to_string());
        scope.set("work.folder", work.0.root.display().to_string());
        workshop.all(&tools.how.restore, &scope, &BackupFile::Read(from)).await.map(drop)
    }

    async fn tools(&self, operation: &str, credentials: &Credentials) -> Result<Tools, Failure> {
        let unknown = |why: String| {
            needs_person(format!("cannot {operation}: {why}"), "back it up with its own tools, or with its provider's")
        };
        let uri = credentials.uri().ok_or_else(|| unknown("there is no URI in its binding".to_owned()))?;
        let scheme = uri.split_once(':').map(|(scheme, _)| scheme.to_ascii_lowercase()).unwrap_or_default();
        let is_it = |definition: &Arc<Definition>| {
            definition.outside.iter().flat_map(|outside| &outside.schemes).any(|known| *known.get_ref() == scheme)
        };
        let known = self.definitions.iter().find(|(_, definition)| is_it(definition));
        let (kind, definition) =
            known.ok_or_else(|| unknown(format!("no offering of this machine knows how to, for `{scheme}://`")))?;
        let how = definition.outside.clone().expect("it has schemes, and so it is there");
        let all = self.finder.all(definition).await;
        let install = definition.find.as_ref().map(|find| find.install.clone()).unwrap_or_default();
        let newest = all.last().cloned().ok_or_else(|| {
            needs_person(format!("cannot {operation}: this machine does not have the programs of {kind}"), install)
        })?;
        Ok(Tools { kind: kind.clone(), definition: definition.clone(), how, found: newest.clone(), newest, all })
    }

    fn work_folder(&self, instance: &InstanceId) -> Result<Work, Failure> {
        let root = self.work.join(format!("outside-{}", &generate()?[..8]));
        let mut options = std::fs::DirBuilder::new();
        options.recursive(true).mode(0o700).create(&root).map_err(io_at("create the folder", &root))?;
        Ok(Work(Folder { instance: instance.clone(), instances: self.work.clone(), root }))
    }
}

/// How one kind of thing is dealt with.
struct Tools {
    kind: OfferingName,
    definition: Arc<Definition>,
    how: definition::Outside,
    /// Those that are used.
    found: Found,
    /// Those of the newest version: they understand what all others wrote.
    newest: Found,
    /// All that there are, oldest first.
    all: Vec<Found>,
}

/// What programs are needed for.
#[derive(Clone, Copy, PartialEq, Eq)]
enum For {
    Backup,
    Restore,
}

impl Tools {
    /// Takes the programs that go with the server: of its own series, or else the next newer ones. What is older than a
    /// server does not know how to read it, but can write into it.
    async fn fit(&mut self, workshop: &Workshop<'_>, credentials: &Credentials, what: For) -> Result<(), Failure> {
        let Some(step) = self.how.version.clone() else { return Ok(()) };
        let said = workshop.ask(&step, &self.scope(&workshop.folder.instance, credentials)?).await?;
        let server = read_version(&said, "").ok_or_else(|| {
            let said: String = said.trim().chars().take(80).collect();
            let operation = &workshop.operation;
            needs_person(
                format!("cannot {operation}: its server says no version, but `{said}`"),
                "see whether the binding leads to the right server",
            )
        })?;
        let series = self.definition.find.as_ref().map_or(1, |find| find.series.max(1));
        let version = |found: &&Found| found.version.clone();
        let of_series =
            self.all.iter().rev().find(|found| version(found).is_some_and(|v| v.begins_as(&server, series)));
        let newer = || self.all.iter().find(|found| version(found).is_some_and(|v| v > server));
        let older = || Some(&self.newest).filter(|_| what == For::Restore);
        match of_series.or_else(newer).or_else(older) {
            Some(found) => {
                self.found = found.clone();
                Ok(())
            }
            None => {
                let all: Vec<String> =
                    self.all.iter().filter_map(|found| Some(found.version.as_ref()?.to_string())).collect();
                let (operation, kind, all) = (&workshop.operation, &self.kind, all.join(", "));
                let install = self.definition.find.as_ref().map(|find| find.install.clone()).unwrap_or_default();
                Err(needs_person(
                    format!(
                        "cannot {operation}: its server is {kind} {server}, and this machine has only the programs of {all}, \
                         which do not read it"
                    ),
                    format!("install those of {server}, or newer ones. {install}"),
                ))
            }
        }
    }

    fn scope(&self, instance: &InstanceId, credentials: &Credentials) -> Result<Scope<'_>, Failure> {
        let mut scope = Scope::new(&self.definition);
        let service = instance.service();
        scope.set("service.name", service.as_str());
        scope.set("service.id", short(service));
        if let Some(find) = &self.definition.find {
            self.found.set(&mut scope, find);
            for program in &find.programs {
                scope.set(format!("newest.{program}"), self.newest.folder.join(program).display().to_string());
            }
        }
        scope.set_credentials("at.", credentials);
        for field in ["host", "port", "username", "password", "database"] {
            if credentials.get(field).is_none() {
                scope.set(format!("at.{field}"), "");
            }
        }
        // Whatever stands in a program's arguments can be read by everybody on this machine.
        let mut place = credentials.uri().and_then(|uri| Url::parse(uri).ok()).ok_or_else(|| {
            needs_person(format!("the URI in the binding of `{instance}` cannot be read"), "ask its provider for help")
        })?;
        let _ = place.set_password(None); // a URI that cannot have one has none
        let hides = |(name, _): &(std::borrow::Cow<'_, str>, _)| name.to_ascii_lowercase().contains("password");
        if place.query_pairs().any(|pair| hides(&pair)) {
            let rest: Vec<(String, String)> = place
                .query_pairs()
                .filter(|pair| !hides(pair))
                .map(|(k, v)| (k.into_owned(), v.into_owned()))
                .collect();
            place.set_query(None);
            place.query_pairs_mut().extend_pairs(rest);
        }
        scope.set("at.place", place.as_str());
        Ok(scope)
    }
}

/// A folder that is there as long as this value.
struct Work(Folder);

impl Drop for Work {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0.root); // what is left is in the way of nobody
    }
}
