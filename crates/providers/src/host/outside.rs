//! Backups over a binding: of what is bought elsewhere, with this machine's client programs and nothing but credentials.
//!
//! Invariant: what is written is in the format of this machine's offering of the same kind, so that it can be restored at
//! any provider and proven here.

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
use super::find::{Finder, Found};
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
        let tools = self.tools(&operation, credentials).await?;
        let work = self.work_folder(instance)?;
        let workshop = Workshop { folder: &work.0, owner: None, operation, elsewhere: true };
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
        let tools = self.tools(&operation, credentials).await?;
        let work = self.work_folder(instance)?;
        let workshop = Workshop { folder: &work.0, owner: None, operation, elsewhere: true };
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
        let newest = self.finder.all(definition).await.pop();
        let install = definition.find.as_ref().map(|find| find.install.clone()).unwrap_or_default();
        let found = newest.ok_or_else(|| {
            needs_person(format!("cannot {operation}: this machine does not have the programs of {kind}"), install)
        })?;
        Ok(Tools { kind: kind.clone(), definition: definition.clone(), how, found })
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
    found: Found,
}

impl Tools {
    fn scope(&self, instance: &InstanceId, credentials: &Credentials) -> Result<Scope<'_>, Failure> {
        let mut scope = Scope::new(&self.definition);
        let service = instance.service();
        scope.set("service.name", service.as_str());
        scope.set("service.id", short(service));
        if let Some(find) = &self.definition.find {
            self.found.set(&mut scope, find);
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
