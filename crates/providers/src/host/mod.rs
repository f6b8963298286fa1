//! The host provider: services that run on this machine, as processes of the keeper.
//!
//! Every offering is described by a definition file (`offerings/*.toml`, and the user's own folder), so that a new
//! offering is a new file and no new code.
//!
//! Invariant: an instance is the folder `HOME/instances/ID` with ostler's marker in it; what has no matching marker is
//! never changed. The data of an instance that was started once is deleted by `deprovision` only.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;

use ostler_model::binding::Credentials;
use ostler_model::catalog::Catalog;
use ostler_model::ids::{BindingId, OfferingName};
use ostler_model::outcome::Observation;

use crate::{Answer, Bound, Dumped, InstanceOrder, Progress, Provider, ReflexGrant, Stopped};

mod backup;
mod bind;
mod builtin;
mod definition;
mod definition_check;
mod environment;
mod failure;
mod find;
mod folder;
mod instance;
mod keeper_port;
mod limits;
mod outside;
mod ports;
mod program;
mod provision;
mod releases;
mod run;
mod scope;
mod scratch;
mod steps;
mod survey;
mod users;

pub use builtin::Definitions;
pub use definition::{Definition, FILE_BYTES_MAX};
pub use environment::PATH;
pub use folder::MARKER;
pub use keeper_port::{KeeperAnswer, KeeperError, KeeperPort, Started};
pub use limits::LimitsKind;
pub use outside::Outside;
pub use ports::choose_for_endpoint;
pub use program::check_program;
pub use scratch::Scratch;

/// What the host provider needs.
pub struct HostConfig {
    /// The estate's home. Created with mode 0700 by whoever owns it; instances and backups lie below it.
    pub home: PathBuf,
    /// The offerings.
    pub definitions: Definitions,
    /// The keeper.
    pub keeper: Arc<dyn KeeperPort>,
    /// The ports of all instances of the home: the same for every provider of it.
    pub ports: Ports,
}

/// The ports of all instances of a home; `None` until they were read. Cheap to clone: all clones are the same.
#[derive(Clone, Default)]
pub struct Ports(Arc<Mutex<Option<BTreeSet<u16>>>>);

/// This machine as a provider.
pub struct HostProvider {
    home: PathBuf,
    definitions: Definitions,
    keeper: Arc<dyn KeeperPort>,
    surveys: survey::Surveys,
    finder: find::Finder,
    ports: Ports,
    limits: OnceLock<LimitsKind>,
}

/// An offering whose programs this machine does not have, so that it is not in the catalog.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NotInstalled {
    /// The offering.
    pub offering: OfferingName,
    /// Where its programs were looked for.
    pub looked_in: Vec<String>,
    /// What a person does about it.
    pub remedy: String,
}

impl HostProvider {
    /// A provider for the home of `config`. Needs a tokio runtime with time and I/O when it is used.
    pub fn new(config: HostConfig) -> Self {
        let HostConfig { home, definitions, keeper, ports } = config;
        Self {
            home: std::path::absolute(&home).unwrap_or(home),
            definitions,
            surveys: survey::Surveys::new(keeper.clone()),
            keeper,
            finder: find::Finder::default(),
            ports,
            limits: OnceLock::new(),
        }
    }

    /// By what means limits are held here; its `Display` is a sentence for people. Tried out at the first call.
    pub fn limits_in_force(&self) -> &LimitsKind {
        self.limits.get_or_init(LimitsKind::detect)
    }

    /// The offerings that are not in the catalog because nothing was found for them.
    pub async fn not_installed(&self) -> Vec<NotInstalled> {
        let mut missing = Vec::new();
        for (name, definition) in self.definitions.iter() {
            let Some(find) = &definition.find else { continue };
            if self.finder.all(definition).await.is_empty() {
                missing.push(NotInstalled {
                    offering: name.clone(),
                    looked_in: find.folders.iter().map(|folder| folder.get_ref().clone()).collect(),
                    remedy: find.install.clone(),
                });
            }
        }
        missing
    }

    async fn catalog_now(&self) -> Catalog {
        let mut catalog = Catalog::default();
        for (name, definition) in self.definitions.iter() {
            let found = self.finder.all(definition).await;
            if definition.find.is_some() && found.is_empty() {
                continue;
            }
            let versions = found.into_iter().filter_map(|found| found.version).collect();
            catalog.offerings.insert(name.clone(), definition.offering(name, versions));
        }
        catalog
    }
}

impl Provider for HostProvider {
    fn catalog(&self) -> Answer<'_, Catalog> {
        Box::pin(async { Ok(self.catalog_now().await) })
    }

    fn provision<'a>(&'a self, order: &'a InstanceOrder, _progress: Progress) -> Answer<'a, Credentials> {
        Box::pin(self.provision_instance(order))
    }

    fn observe<'a>(&'a self, order: &'a InstanceOrder) -> Answer<'a, Observation> {
        Box::pin(self.observe_instance(order))
    }

    fn before<'a>(&'a self, order: &'a InstanceOrder) -> Answer<'a, ()> {
        Box::pin(self.run_before(order))
    }

    fn start<'a>(&'a self, order: &'a InstanceOrder, grant: ReflexGrant) -> Answer<'a, crate::Started> {
        Box::pin(async move {
            let running = self.start_instance(order, grant).await?;
            Ok(crate::Started { running, secret: None, renew_at: None })
        })
    }

    fn stop<'a>(&'a self, order: &'a InstanceOrder, grace: Duration) -> Answer<'a, Stopped> {
        Box::pin(self.stop_instance(&order.instance, Some(grace)))
    }

    fn deprovision<'a>(&'a self, order: &'a InstanceOrder, _progress: Progress) -> Answer<'a, ()> {
        Box::pin(self.delete_instance(&order.instance))
    }

    fn update<'a>(&'a self, order: &'a InstanceOrder, _progress: Progress) -> Answer<'a, ()> {
        Box::pin(async move {
            let what = format!("instance `{}` is a process: it is changed by being started anew", order.instance);
            Err(failure::needs_person(what, "run `ostler restart` for its service"))
        })
    }

    fn release<'a>(&'a self, order: &'a InstanceOrder) -> Answer<'a, ()> {
        Box::pin(async move {
            let what = format!("nobody but ostler looks after instance `{}`", order.instance);
            Err(failure::needs_person(what, "delete it with its data, or keep it"))
        })
    }

    fn mitigate<'a>(&'a self, order: &'a InstanceOrder) -> Answer<'a, ()> {
        Box::pin(async move {
            let what = format!("asks for instance `{}` leave nothing behind on this machine", order.instance);
            Err(failure::needs_person(what, "report this as a fault of ostler"))
        })
    }

    fn tidy<'a>(&'a self, _order: &'a InstanceOrder, _binding: &'a BindingId) -> Answer<'a, ()> {
        Box::pin(async { Ok(()) }) // a binding that is made again is the same one
    }

    fn bind<'a>(
        &'a self,
        order: &'a InstanceOrder,
        binding: &'a BindingId,
        endpoint: SocketAddr,
        known: Option<&'a Credentials>,
    ) -> Answer<'a, Bound> {
        Box::pin(async move {
            let credentials = self.make_binding(order, binding, endpoint, known).await?;
            Ok(Bound { credentials, renew_at: None })
        })
    }

    fn unbind<'a>(&'a self, order: &'a InstanceOrder, binding: &'a BindingId) -> Answer<'a, ()> {
        Box::pin(self.end_binding(order, binding))
    }

    fn sight<'a>(&'a self, order: &'a InstanceOrder) -> Answer<'a, Credentials> {
        Box::pin(self.sight_of(order))
    }

    fn end_sight<'a>(&'a self, order: &'a InstanceOrder) -> Answer<'a, ()> {
        Box::pin(self.end_sight_of(order))
    }

    fn backup<'a>(&'a self, order: &'a InstanceOrder, to: &'a Path) -> Answer<'a, Dumped> {
        Box::pin(self.make_backup(order, to))
    }

    fn restore<'a>(&'a self, order: &'a InstanceOrder, from: &'a Path) -> Answer<'a, ()> {
        Box::pin(self.restore_backup(order, from))
    }
}
