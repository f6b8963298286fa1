//! Backups elsewhere: put into the place that the estate declares, fetched from there, and proven.
//!
//! Providers only write and read a file. Everything that has to do with where it is kept, whether it is the same as when
//! it was made, and what it is worth, is done here.
//!
//! Invariant: nothing that is not whole is ever taken for whole: a backup has its name only once all of it is in its
//! place, and is restored only after its digest was found right. What is on the way holds no more memory than a few
//! pieces, and is gone after a crash.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use ostler_manager::{Knowledge, Outcome};
use ostler_model::catalog::Placement;
use ostler_model::estate::Estate;
use ostler_model::estate::contract::Contract;
use ostler_model::ids::{InstanceId, OfferingName, ServiceName};
use ostler_model::outcome::{BackupMade, Failure};
use ostler_model::time::Timestamp;
use ostler_providers::host::{Definitions, HostProvider, Outside};
use ostler_providers::osb::OsbProvider;
use ostler_providers::{Dumped, InstanceOrder, Provider};
use tokio::sync::Semaphore;

pub(crate) use self::files::Passing;
use self::files::measure;
pub(crate) use self::manifest::Manifest;
use self::manifest::Subject;
pub(crate) use self::place::Fetched;
use self::place::{Fault, Place, Tidied, Whose, temporary};

mod files;
mod manifest;
mod place;
mod proof;

/// In the home: where client programs work.
pub(crate) const WORK: &str = "work";
/// Proofs at once: each runs a server of its own.
const PROOFS_AT_ONCE: usize = 1;

/// The vault of one home.
pub(crate) struct Vault {
    home: PathBuf,
    tidied: Tidied,
    proofs: Arc<Semaphore>,
}

/// Who reads and writes the data itself.
pub(crate) enum Hand {
    /// This machine's provider.
    Here(Arc<HostProvider>),
    /// The broker's own action.
    Broker(Arc<OsbProvider>),
    /// This machine's client programs, over the binding with which ostler itself looks at the instance.
    Outside(Arc<Outside>),
}

impl Hand {
    async fn backup(&self, order: &InstanceOrder, to: &Path) -> Result<Dumped, Failure> {
        match self {
            Self::Here(provider) => provider.backup(order, to).await,
            Self::Broker(broker) => broker.backup(order, to).await,
            Self::Outside(outside) => outside.backup(&order.instance, &order.secret, to).await,
        }
    }

    async fn restore(&self, order: &InstanceOrder, from: &Path) -> Result<(), Failure> {
        match self {
            Self::Here(provider) => provider.restore(order, from).await,
            Self::Broker(broker) => broker.restore(order, from).await,
            Self::Outside(outside) => outside.restore(&order.instance, &order.secret, from).await,
        }
    }
}

impl Hand {
    /// In whose format backups have to be to be restored into what is placed like this, as far as that is known before.
    fn format(&self, placement: &Placement) -> Option<OfferingName> {
        match self {
            Self::Here(_) => Some(placement.offering.clone()),
            Self::Broker(broker) => broker.backup_format(placement),
            Self::Outside(_) => None, // it goes by the binding
        }
    }
}

/// What has to be known for a job, taken from what is known when the job is handed over.
pub(crate) struct About {
    whose: Whose,
    service: ServiceName,
    offering: Option<OfferingName>,
}

/// What is to be found in a backup that is proven.
pub(crate) struct Expected {
    /// Who relies on what.
    pub(crate) contracts: BTreeMap<ServiceName, Vec<Contract>>,
    /// The offerings of this machine.
    pub(crate) definitions: Definitions,
}

/// Whether backups could be kept where the estate declares that they are to be kept. Puts nothing there.
///
/// # Errors
/// Why not.
pub(crate) async fn try_out(home: &Path, estate: &Estate) -> Result<(), Failure> {
    let whose = Whose { home: home.to_owned(), estate: Arc::new(estate.clone()), uuid: None, places: BTreeSet::new() };
    Place::look(&whose).await
}

/// Deletes what was on its way, or on the side, when ostler was killed. Whatever is on its way into or out of a folder of
/// another place is deleted when that place is first used.
///
/// # Errors
/// If it cannot be.
pub(crate) async fn tidy(home: &Path) -> Result<(), Failure> {
    let work = home.join(WORK);
    let deleted = files::blocking(move || match std::fs::remove_dir_all(&work) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error),
        Ok(()) | Err(_) => Ok(()),
    });
    deleted.await.map_err(|error| files::io_failure("delete", &home.join(WORK), &error))?;
    proof::tidy(home).await
}

impl Vault {
    /// The vault of this home.
    pub(crate) fn new(home: PathBuf) -> Self {
        Self { home, tidied: Tidied::default(), proofs: Arc::new(Semaphore::new(PROOFS_AT_ONCE)) }
    }

    /// What a job about the backups of `service` has to know.
    pub(crate) fn about(&self, known: &Knowledge, service: &ServiceName) -> Result<About, Failure> {
        let estate =
            known.estate.clone().ok_or_else(|| temporary("no estate is declared", "nothing: it is declared"))?;
        let found = known.services.get(service);
        let backups = found.iter().flat_map(|found| &found.backups);
        let places = backups.filter_map(|(_, made)| made.place.clone()).collect();
        let whose = Whose { home: self.home.clone(), estate, uuid: known.uuid, places };
        let offering = found.and_then(|found| Some(found.placement.as_ref()?.offering.clone()));
        Ok(About { whose, service: service.clone(), offering })
    }

    /// Makes a backup, and puts it into its place.
    pub(crate) async fn back_up(
        &self,
        about: About,
        hand: Hand,
        order: InstanceOrder,
        name: String,
        now: impl Fn() -> Timestamp,
    ) -> Result<Outcome, Failure> {
        let subject = Subject::of(about.whose.uuid, &order);
        let place = Place::declared(&about.whose, &self.tidied).await?;
        match place.manifest(&subject.service, &name).await? {
            // Asked for again, because nobody could say that it was done.
            Some(Ok(manifest)) if manifest.is_of(&subject) => return Ok(Outcome::BackedUp(manifest.made)),
            Some(Ok(manifest)) => return Err(manifest::taken(&manifest)),
            Some(Err(_)) | None => {}
        }
        let file = place.passing()?;
        let dumped = hand.backup(&order, &file.0).await?;
        let measured = measure(file.0.clone()).await;
        let (bytes, sha256) = measured.map_err(|error| files::io_failure("read", &file.0, &error))?;
        let made = BackupMade { name, bytes, sha256, place: place.shown() };
        let manifest = Manifest::new(&subject, dumped, made.clone(), now().to_seconds());
        place.put(file, &manifest).await?;
        Ok(Outcome::BackedUp(made))
    }

    /// Replaces an instance's data by a backup.
    pub(crate) async fn restore(
        &self,
        about: About,
        hand: Hand,
        order: InstanceOrder,
        backup: BackupMade,
    ) -> Result<Outcome, Failure> {
        let (place, service) = (Place::of(&about.whose, &backup, &self.tidied).await?, about.service.as_str());
        let format = hand.format(&order.placement);
        if let Some(why) = self.wrong_kind(&place, &about, &backup, format.as_ref()).await? {
            return Ok(Outcome::Unusable { why });
        }
        match place.fetch(service, &backup).await {
            Ok(file) => hand.restore(&order, file.path()).await.map(|()| Outcome::Done),
            Err(Fault::Bad(why)) => Ok(Outcome::Unusable { why }),
            Err(Fault::Failed(failure)) => Err(failure),
        }
    }

    /// Restores a backup on the side, and looks at what it holds.
    pub(crate) async fn prove(&self, about: About, backup: BackupMade, expected: Expected) -> Result<Outcome, Failure> {
        let _room = self.proofs.acquire().await.expect("the semaphore is never closed");
        match proof::prove(&self.home, &self.tidied, about, backup, expected).await {
            Ok(proof) => Ok(Outcome::Proven(proof)),
            Err(Fault::Bad(why)) => Ok(Outcome::Unusable { why }),
            Err(Fault::Failed(failure)) => Err(failure),
        }
    }

    /// Deletes a backup.
    pub(crate) async fn delete(&self, about: About, backup: BackupMade) -> Result<Outcome, Failure> {
        let place = Place::of(&about.whose, &backup, &self.tidied).await?;
        place.delete(about.service.as_str(), &backup.name).await.map(|()| Outcome::Done)
    }

    /// A name for a file that somebody brings, in the home.
    pub(crate) async fn passing(&self, about: &About) -> Result<Passing, Failure> {
        Place::home(&about.whose, &self.tidied).await?.passing()
    }

    /// Keeps what somebody brought in the home.
    pub(crate) async fn keep(
        &self,
        about: &About,
        order: (InstanceId, OfferingName),
        file: Passing,
        made: BackupMade,
        now: Timestamp,
    ) -> Result<(), Failure> {
        let (instance, offering) = order;
        let subject = Subject {
            service: about.service.to_string(),
            instance: instance.to_string(),
            offering: offering.to_string(),
            estate: about.whose.uuid,
        };
        let dumped = Dumped { kind: offering, version: None, counted: Default::default() };
        let manifest = Manifest::new(&subject, dumped, made, now.to_seconds());
        Place::home(&about.whose, &self.tidied).await?.put(file, &manifest).await
    }

    /// The backup's file, with what is written beside it.
    pub(crate) async fn take_out(
        &self,
        about: &About,
        backup: &BackupMade,
    ) -> Result<(Fetched, Option<Manifest>), Failure> {
        let place = Place::of(&about.whose, backup, &self.tidied).await?;
        let manifest = place.manifest(about.service.as_str(), &backup.name).await?.and_then(Result::ok);
        match place.fetch(about.service.as_str(), backup).await {
            Ok(file) => Ok((file, manifest)),
            Err(Fault::Bad(why)) => {
                Err(temporary(format!("the backup {} cannot be used: {why}", backup.name), "make another"))
            }
            Err(Fault::Failed(failure)) => Err(failure),
        }
    }

    /// Why the backup cannot be for what was bought: what it was made from is not of its kind.
    async fn wrong_kind(
        &self,
        place: &Place,
        about: &About,
        backup: &BackupMade,
        format: Option<&OfferingName>,
    ) -> Result<Option<String>, Failure> {
        let manifest = place.manifest(about.service.as_str(), &backup.name).await?;
        Ok(match (manifest, &about.offering) {
            (Some(Err(why)), _) => Some(why),
            (Some(Ok(manifest)), _) if format.is_some_and(|format| manifest.kind() != format.as_str()) => {
                Some(format!("it is in the format of `{}`", manifest.kind()))
            }
            (Some(Ok(manifest)), Some(offering))
                if manifest.offering != offering.as_str() && manifest.kind() != offering.as_str() =>
            {
                Some(format!("it was made by the offering `{}`", manifest.offering))
            }
            (Some(Ok(_)) | None, _) => None,
        })
    }
}
