//! The providers of an estate, made from what it declares, and kept while the declaration stays the same.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use ostler_model::diagnostics::Problems;
use ostler_model::estate::{Provider as Declared, ProviderKind};
use ostler_model::ids::ProviderName;
use ostler_model::outcome::{Failure, FailureClass};
use ostler_providers::Provider;
use ostler_providers::host::{Definitions, HostConfig, HostProvider, KeeperPort};

/// The providers of one home.
pub struct Providers {
    home: PathBuf,
    keeper: Arc<dyn KeeperPort>,
    made: Mutex<BTreeMap<ProviderName, (Declared, Arc<HostProvider>)>>,
}

impl Providers {
    /// None made yet.
    pub fn new(home: PathBuf, keeper: Arc<dyn KeeperPort>) -> Self {
        Self { home, keeper, made: Mutex::new(BTreeMap::new()) }
    }

    /// The provider that is declared like this.
    ///
    /// # Errors
    /// If its definition files are wrong.
    pub fn get(&self, declared: &Declared) -> Result<Arc<dyn Provider>, Failure> {
        let provider = self.host(declared).map_err(|problems| Failure {
            class: FailureClass::NeedsPerson,
            detail: format!("cannot read the offerings of `{}`: {}", declared.name, first_cause(&problems)),
            remedy: "correct the definition file".to_owned(),
        })?;
        Ok(provider)
    }

    /// The same, as the host provider that it is.
    ///
    /// # Errors
    /// Everything that is wrong with its definition files.
    pub fn host(&self, declared: &Declared) -> Result<Arc<HostProvider>, Vec<Problems>> {
        let mut made = self.made.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((former, provider)) = made.get(&declared.name)
            && former == declared
        {
            return Ok(provider.clone());
        }
        let provider = Arc::new(self.make(declared)?);
        made.insert(declared.name.clone(), (declared.clone(), provider.clone()));
        Ok(provider)
    }

    /// Reads the definition files anew: a person gave the estate file again, perhaps because a definition changed.
    ///
    /// # Errors
    /// Everything that is wrong with them; the provider then stays what it was.
    pub fn refresh(&self, declared: &Declared) -> Result<Arc<HostProvider>, Vec<Problems>> {
        let provider = Arc::new(self.make(declared)?);
        let mut made = self.made.lock().unwrap_or_else(PoisonError::into_inner);
        made.insert(declared.name.clone(), (declared.clone(), provider.clone()));
        Ok(provider)
    }

    fn make(&self, declared: &Declared) -> Result<HostProvider, Vec<Problems>> {
        let ProviderKind::Host(host) = &declared.kind;
        let definitions = match &host.offerings {
            Some(folder) => Definitions::with_folder(folder)?,
            None => Definitions::builtin()?,
        };
        Ok(HostProvider::new(HostConfig { home: self.home.clone(), definitions, keeper: self.keeper.clone() }))
    }
}

fn first_cause(problems: &[Problems]) -> String {
    let first = problems.iter().flat_map(|problems| problems.list.first().map(|problem| (&problems.file, problem)));
    first.map(|(file, problem)| format!("{file}: {}", problem.cause)).next().unwrap_or_default()
}
