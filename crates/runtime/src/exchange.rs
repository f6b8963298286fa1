//! Backups on their way between this estate and the buyers of what it sells: files in and out of the vault. What they are
//! worth, and when they go, is decided by facts as with every backup.

use std::path::Path;
use std::sync::Arc;

use ostler_model::ids::{InstanceId, OfferingName, ServiceName};
use ostler_model::outcome::{BackupMade, Counted, Failure, FailureClass};

use crate::clock;
use crate::daemon::Loop;
use crate::vault::{About, Fetched, Passing, Vault};

/// The way in and out.
#[derive(Clone)]
pub struct Exchange {
    vault: Arc<Vault>,
    handle: Loop,
}

/// A file that is being brought; gone with this value, unless it is kept.
pub struct Brought {
    about: About,
    of: (InstanceId, OfferingName),
    file: Passing,
}

impl Brought {
    /// Where it is to be written. Nothing is there yet.
    pub fn path(&self) -> &Path {
        &self.file.0
    }
}

/// A backup's file, as long as this value.
pub struct TakenOut {
    file: Fetched,
    /// What was counted when it was made.
    pub counted: Counted,
    /// By which version it was made.
    pub version: Option<String>,
}

impl TakenOut {
    /// Where it is.
    pub fn path(&self) -> &Path {
        self.file.path()
    }
}

impl Exchange {
    pub(crate) fn new(vault: Arc<Vault>, handle: Loop) -> Self {
        Self { vault, handle }
    }

    /// Makes ready for a backup of the service that somebody brings.
    ///
    /// # Errors
    /// If there is no such service, or no place.
    pub async fn expect(&self, service: &ServiceName) -> Result<Brought, Failure> {
        let (about, of) = self.about(service).await?;
        let file = self.vault.passing(&about).await?;
        Ok(Brought { about, of, file })
    }

    /// Keeps what was brought, and is whole, as `made` says.
    ///
    /// # Errors
    /// If it cannot be kept.
    pub async fn keep(&self, brought: Brought, made: BackupMade) -> Result<(), Failure> {
        let Brought { about, of, file } = brought;
        self.vault.keep(&about, of, file, made, clock::now()).await
    }

    /// The file of one of the service's backups, whose digest is right.
    ///
    /// # Errors
    /// If it cannot be had.
    pub async fn take_out(&self, service: &ServiceName, backup: &BackupMade) -> Result<TakenOut, Failure> {
        let (about, _) = self.about(service).await?;
        let (file, manifest) = self.vault.take_out(&about, backup).await?;
        let (counted, version) = manifest.map(|manifest| (manifest.counted, manifest.version)).unwrap_or_default();
        Ok(TakenOut { file, counted, version })
    }

    async fn about(&self, service: &ServiceName) -> Result<(About, (InstanceId, OfferingName)), Failure> {
        let (vault, name) = (self.vault.clone(), service.clone());
        let found = self.handle.known(move |known| {
            let service = known.services.get(&name)?;
            let (number, _) = service.unfenced().next()?;
            let of = (service.instance_id(number), service.placement.as_ref()?.offering.clone());
            Some(vault.about(known, &name).map(|about| (about, of)))
        });
        found.await.unwrap_or_else(|| {
            Err(Failure {
                class: FailureClass::Temporary,
                detail: format!("there is no instance of {service}"),
                remedy: "nothing: it was given back".to_owned(),
            })
        })
    }
}
