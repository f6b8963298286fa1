//! The providers of an estate, made from what it declares, and kept while the declaration stays the same.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use ostler_model::catalog::Catalog;
use ostler_model::diagnostics::Problems;
use ostler_model::estate::{Estate, HostProvider as HostDeclared, Provider as Declared, ProviderKind};
use ostler_model::ids::ProviderName;
use ostler_model::outcome::{Failure, FailureClass};
use ostler_providers::Provider;
use ostler_providers::host::{Definitions, HostConfig, HostProvider, KeeperPort, Outside, Ports};
use ostler_providers::osb::OsbProvider;

use crate::vault;

/// The providers of one home.
pub struct Providers {
    home: PathBuf,
    keeper: Arc<dyn KeeperPort>,
    made: Mutex<BTreeMap<ProviderName, (ProviderKind, Made)>>,
    /// However many providers of this machine there are, its ports are the same.
    ports: Ports,
}

/// A provider, as what it is.
#[derive(Clone)]
pub enum Made {
    /// This machine.
    Host(Arc<HostProvider>),
    /// A broker.
    Osb(Arc<OsbProvider>),
}

impl Made {
    /// The same, as any provider.
    pub fn any(&self) -> Arc<dyn Provider> {
        match self {
            Self::Host(provider) => provider.clone(),
            Self::Osb(provider) => provider.clone(),
        }
    }
}

/// Why a provider cannot be made from what is declared.
#[derive(Debug)]
pub enum Unmade {
    /// Its definition files are wrong: everything about them.
    Definitions(Vec<Problems>),
    /// A file that it names cannot be used.
    Failed(Failure),
}

impl Providers {
    /// None made yet.
    pub fn new(home: PathBuf, keeper: Arc<dyn KeeperPort>) -> Self {
        Self { home, keeper, made: Mutex::new(BTreeMap::new()), ports: Ports::default() }
    }

    /// The home.
    pub(crate) fn home(&self) -> &Path {
        &self.home
    }

    /// The provider that is declared like this, in an estate file that lies in `folder`.
    ///
    /// # Errors
    /// If it cannot be made.
    pub fn get(&self, declared: &Declared, folder: &Path) -> Result<Arc<dyn Provider>, Failure> {
        self.made(declared, folder).map(|made| made.any()).map_err(|unmade| match unmade {
            Unmade::Failed(failure) => failure,
            Unmade::Definitions(problems) => Failure {
                class: FailureClass::NeedsPerson,
                detail: format!("cannot read the offerings of `{}`: {}", declared.name, first_cause(&problems)),
                remedy: "correct the definition file".to_owned(),
            },
        })
    }

    /// The same, as what it is. Made only if nothing of this kind is declared like this yet: what a person gave stays in
    /// force, and terms or a certificate that changed close no connection.
    ///
    /// # Errors
    /// If it cannot be made.
    pub fn made(&self, declared: &Declared, folder: &Path) -> Result<Made, Unmade> {
        self.known(declared).map_or_else(|| self.make_and_keep(declared, folder), Ok)
    }

    /// The definitions of this machine's offerings, also where the estate buys nothing here.
    ///
    /// # Errors
    /// If they cannot be read.
    pub fn definitions(&self, estate: &Estate) -> Result<Definitions, Failure> {
        let hosts = || {
            estate.providers.values().filter_map(|provider| match &provider.kind {
                ProviderKind::Host(host) => Some(host),
                ProviderKind::Osb(_) => None,
            })
        };
        let own = HostDeclared {
            offerings: hosts().find_map(|host| host.offerings.clone()),
            versions: hosts().find_map(|host| host.versions.clone()),
        };
        read_definitions(&own).map_err(|problems| Failure {
            class: FailureClass::NeedsPerson,
            detail: format!("cannot read the offerings of this machine: {}", first_cause(&problems)),
            remedy: "correct the definition file".to_owned(),
        })
    }

    /// This machine's client programs, for what is bought elsewhere.
    ///
    /// # Errors
    /// If the definitions cannot be read that name them.
    pub fn outside(&self, estate: &Estate) -> Result<Arc<Outside>, Failure> {
        Ok(Arc::new(Outside::new(self.definitions(estate)?, self.home.join(vault::WORK))))
    }

    /// What the provider offers, with what this machine can do with it over a binding, and with the versions of the
    /// estate's own programs.
    ///
    /// # Errors
    /// If the provider cannot be asked.
    pub async fn catalog(&self, made: &Made, estate: &Estate) -> Result<Catalog, Failure> {
        let mut catalog = made.any().catalog().await?;
        if let Made::Host(host) = made {
            catalog.programs = host.programs(estate);
        }
        if let (Made::Osb(broker), Ok(outside)) = (made, self.outside(estate)) {
            for (name, offering) in &mut catalog.offerings {
                match broker.backup_format_of(name) {
                    // The broker has an action of its own. Whether that can be proven here depends on its format.
                    Some(format) => {
                        offering.actions.backup = true;
                        offering.actions.prove = outside.can_prove(&format).await;
                    }
                    None => {
                        let can = offering.bindable && outside.kind_of(&broker.words_for(name)).await.is_some();
                        offering.actions.backup = can;
                        offering.actions.prove = can;
                    }
                }
            }
        }
        Ok(catalog)
    }

    /// Reads the definition files anew: a person gave the estate file again, perhaps because a definition changed. What
    /// has no such files stays as it is.
    ///
    /// # Errors
    /// If it cannot be made; the provider then stays what it was.
    pub fn refresh(&self, declared: &Declared, folder: &Path) -> Result<Made, Unmade> {
        match self.known(declared) {
            Some(made @ Made::Osb(_)) => Ok(made),
            Some(Made::Host(_)) | None => self.make_and_keep(declared, folder),
        }
    }

    fn known(&self, declared: &Declared) -> Option<Made> {
        let made = self.made.lock().unwrap_or_else(PoisonError::into_inner);
        made.get(&declared.name).filter(|(former, _)| *former == declared.kind).map(|(_, made)| made.clone())
    }

    fn make_and_keep(&self, declared: &Declared, folder: &Path) -> Result<Made, Unmade> {
        let provider = self.make(declared, folder)?;
        let mut made = self.made.lock().unwrap_or_else(PoisonError::into_inner);
        made.insert(declared.name.clone(), (declared.kind.clone(), provider.clone()));
        Ok(provider)
    }

    fn make(&self, declared: &Declared, folder: &Path) -> Result<Made, Unmade> {
        match &declared.kind {
            ProviderKind::Host(host) => {
                let definitions = read_definitions(host).map_err(Unmade::Definitions)?;
                let (home, keeper, ports) = (self.home.clone(), self.keeper.clone(), self.ports.clone());
                let config = HostConfig { home, definitions, keeper, ports };
                Ok(Made::Host(Arc::new(HostProvider::new(config))))
            }
            ProviderKind::Osb(osb) => {
                let provider = OsbProvider::new(declared.name.clone(), osb, folder).map_err(Unmade::Failed)?;
                Ok(Made::Osb(Arc::new(provider)))
            }
        }
    }
}

fn read_definitions(host: &HostDeclared) -> Result<Definitions, Vec<Problems>> {
    let definitions = host.offerings.as_deref().map_or_else(Definitions::builtin, Definitions::with_folder)?;
    Ok(match &host.versions {
        Some(folder) => definitions.with_versions(folder),
        None => definitions,
    })
}

fn first_cause(problems: &[Problems]) -> String {
    let first = problems.iter().flat_map(|problems| problems.list.first().map(|problem| (&problems.file, problem)));
    first.map(|(file, problem)| format!("{file}: {}", problem.cause)).next().unwrap_or_default()
}
