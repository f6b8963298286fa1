//! The proof that a backup can be restored: it is, on this machine, beside everything else.
//!
//! Invariant: a backup is called bad only for what it is itself: what this machine lacks (room, a program), and what the
//! place lacks where it is kept, says nothing against it.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use ostler_model::binding::Credentials;
use ostler_model::catalog::{Limits, Offering, Placement};
use ostler_model::estate::contract::Contract;
use ostler_model::estate::{Listen, Parameters};
use ostler_model::health::{Symptom, SymptomKind};
use ostler_model::ids::{BindingId, InstanceId, OfferingName, ServiceName};
use ostler_model::outcome::{BackupMade, Counted, Failure, Proof};
use ostler_model::time::Span;
use ostler_probes::{Target, keeps, probe};
use ostler_providers::host::Scratch;
use ostler_providers::{InstanceOrder, Provider, ReflexGrant};
use tokio::time::{Instant, sleep};

use super::manifest::Manifest;
use super::place::{Fault, Fetched, Place, Tidied, needs_person, temporary};
use super::{About, Expected};

/// In the home: where backups are restored on the side.
const FOLDER: &str = "scratch";
/// With less room than this left, whatever failed is taken to have failed for lack of it.
const ROOM_MIN: u64 = 32 * 1024 * 1024;
/// How long one contract may take: longer than on the real one, whose data is in memory.
const CONTRACT_TIME: Duration = Duration::from_secs(60);
/// How long one question may take whether it is up.
const PROBE_TIME: Duration = Duration::from_secs(2);
const PROBE_EVERY: Duration = Duration::from_millis(100);
/// Nothing on the side is restarted by itself.
const NEVER: ReflexGrant = ReflexGrant { burst: 0, refill: Duration::from_secs(60) };

/// Fetches the backup, restores it, and looks at it.
pub(super) async fn prove(
    home: &Path,
    tidied: &Tidied,
    about: About,
    backup: BackupMade,
    expected: Expected,
) -> Result<Proof, Fault> {
    let begin = Instant::now();
    let place = Place::of(&about.whose, &backup, tidied).await.map_err(Fault::Failed)?;
    let manifest = place.manifest(about.service.as_str(), &backup.name).await.map_err(Fault::Failed)?;
    let manifest = manifest.transpose().map_err(Fault::Bad)?;
    let file = place.fetch(about.service.as_str(), &backup).await?;
    let kind = kind_of(&about, manifest.as_ref()).map_err(Fault::Failed)?;
    let folder = home.join(FOLDER).join(about.service.as_str());
    let scratch = Scratch::new(folder.clone(), expected.definitions).await.map_err(Fault::Failed)?;
    let aside = Aside { scratch, folder, service: about.service.clone() };
    let outcome = aside.look_at(&about, &kind, manifest.as_ref(), &file, &expected.contracts, begin).await;
    let ended = aside.scratch.end().await;
    let proof = outcome?;
    ended.map_err(Fault::Failed)?;
    Ok(proof)
}

/// Deletes what proofs that were cut off have left.
pub(super) async fn tidy(home: &Path) -> Result<(), Failure> {
    let folder = home.join(FOLDER);
    if !folder.exists() {
        return Ok(());
    }
    Scratch::new(folder, ostler_providers::host::Definitions::none()).await?.end().await
}

struct Aside {
    scratch: Scratch,
    folder: PathBuf,
    service: ServiceName,
}

impl Aside {
    async fn look_at(
        &self,
        about: &About,
        kind: &OfferingName,
        manifest: Option<&Manifest>,
        file: &Fetched,
        contracts: &BTreeMap<ServiceName, Vec<Contract>>,
        begin: Instant,
    ) -> Result<Proof, Fault> {
        let (order, offering) =
            self.start(about, kind, manifest).await.map_err(|failure| self.not_its_fault(failure))?;
        if let Err(failure) = self.scratch.provider().restore(&order, file.path()).await {
            return Err(self.whose_fault(&order.instance, failure).await);
        }
        let took = Span::millis(u64::try_from(begin.elapsed().as_millis()).unwrap_or(u64::MAX));
        let counted = match self.scratch.provider().count(&order).await {
            Ok(counted) => counted,
            Err(failure) => return Err(self.whose_fault(&order.instance, failure).await),
        };
        if let Some(manifest) = manifest
            && let Some(why) = differences(&manifest.counted, &counted)
        {
            return Err(Fault::Bad(why));
        }
        let mut kept = 0;
        for (consumer, contracts) in contracts {
            kept += self.keeps(&order, &offering, consumer, contracts).await?;
        }
        Ok(Proof { took, counted, contracts: kept })
    }

    /// Makes an empty instance, and waits until it answers.
    async fn start(
        &self,
        about: &About,
        kind: &OfferingName,
        manifest: Option<&Manifest>,
    ) -> Result<(InstanceOrder, Offering), Failure> {
        let provider = self.scratch.provider();
        let catalog = provider.catalog().await?;
        let offering = catalog.offerings.get(kind).cloned().ok_or_else(|| {
            needs_person(
                format!(
                    "a restore of `{}` cannot be proven: this machine does not have the programs of {kind}",
                    self.service
                ),
                "install them here, or set `prove_every = \"never\"` in the service's `data`",
            )
        })?;
        let mut order = self.order(about, &offering, manifest);
        order.secret = provider.provision(&order, Arc::new(|_| {})).await?;
        let running = provider.start(&order, NEVER).await?.running;
        let mut target = Target::at(running.address);
        target.credentials = Some(order.secret.clone());
        let deadline = Instant::now() + offering.probe.start_within.get();
        loop {
            let Err(symptom) = probe(&offering.probe.ready, &target, PROBE_TIME).await else { break };
            if !self.scratch.runs(&order.instance).await || Instant::now() > deadline {
                return Err(temporary(
                    format!(
                        "the {kind} on the side, into which a backup was to be restored, does not come up: {symptom}"
                    ),
                    format!("see what it says in {}; it is tried again", self.log(&order.instance).display()),
                ));
            }
            sleep(PROBE_EVERY).await;
        }
        Ok((order, offering))
    }

    fn order(&self, about: &About, offering: &Offering, manifest: Option<&Manifest>) -> InstanceOrder {
        let made_by = manifest.and_then(|manifest| manifest.version.clone());
        let series = |version: &str| version.split('.').next().map(str::to_owned);
        // As the one that made it where that is there, and otherwise the newest: what is older may not understand it.
        let is_same = |version: &&ostler_model::version::Version| {
            made_by.as_ref().is_some_and(|made_by| series(&version.to_string()) == series(made_by))
        };
        let version = offering.versions.iter().rev().find(is_same).or(offering.versions.last()).cloned();
        InstanceOrder {
            instance: InstanceId::new(self.service.clone(), 1),
            estate: about.whose.estate.name.clone(),
            placement: Placement {
                provider: "scratch".parse().expect("it is a valid name"),
                offering: offering.name.clone(),
                plan: offering.plans[0].name.clone(), // an offering has at least one
                version,
                handle: None,
                maintenance: None,
            },
            limits: Limits::default(),
            listen: Listen::Port,
            run: Vec::new(),
            before: Vec::new(),
            env: BTreeMap::new(),
            folder: self.folder.clone(),
            needs: BTreeMap::new(),
            secret: Credentials::default(),
            parameters: Parameters::default(),
            context: Parameters::default(),
            former: None,
            asks: Box::default(),
        }
    }

    /// How many of a consumer's contracts it keeps: all of them.
    async fn keeps(
        &self,
        order: &InstanceOrder,
        offering: &Offering,
        consumer: &ServiceName,
        contracts: &[Contract],
    ) -> Result<u32, Fault> {
        let provider = self.scratch.provider();
        let running = provider.observe(order).await.map_err(|failure| self.not_its_fault(failure))?;
        let ostler_model::outcome::Observation::Running(running) = running else {
            return Err(Fault::Failed(self.died(&order.instance)));
        };
        let binding = BindingId { consumer: consumer.clone(), need: self.service.clone() };
        let bound = provider.bind(order, &binding, running.address, None).await;
        let mut target = Target::at(running.address);
        target.credentials = Some(bound.map_err(|failure| self.not_its_fault(failure))?.credentials);
        target.folder = self.folder.clone();
        let mut kept = 0;
        for contract in contracts {
            let Some(check) = &contract.check else { continue };
            match keeps(check, &target, CONTRACT_TIME).await {
                Ok(()) => kept += 1,
                Err(Symptom { kind: SymptomKind::WrongAnswer, detail }) => {
                    return Err(Fault::Bad(format!(
                        "it does not keep what {consumer} relies on (`{}`): {detail}",
                        contract.name
                    )));
                }
                Err(symptom) => {
                    let what =
                        format!("`{}` of {consumer} cannot be asked of a {} on the side", contract.name, offering.name);
                    return Err(self.not_its_fault(temporary(format!("{what}: {symptom}"), "it is tried again")));
                }
            }
        }
        Ok(kept)
    }

    /// What failed while the backup was being restored, or read: because of it, or because of this machine.
    async fn whose_fault(&self, instance: &InstanceId, failure: Failure) -> Fault {
        if !self.scratch.runs(instance).await {
            return self.not_its_fault(self.died(instance));
        }
        match self.lack_of_room(&failure) {
            Some(failure) => Fault::Failed(failure),
            None => Fault::Bad(format!("it cannot be restored: {}", failure.detail)),
        }
    }

    fn not_its_fault(&self, failure: Failure) -> Fault {
        Fault::Failed(self.lack_of_room(&failure).unwrap_or(failure))
    }

    fn lack_of_room(&self, failure: &Failure) -> Option<Failure> {
        let is_full = self.scratch.room() < ROOM_MIN || failure.detail.contains("No space left on device");
        is_full.then(|| {
            temporary(
                format!("there is no room to restore a backup of `{}` on the side: {}", self.service, failure.detail),
                format!("make room on the disk that holds {}", self.folder.display()),
            )
        })
    }

    fn died(&self, instance: &InstanceId) -> Failure {
        let log = std::fs::read_to_string(self.log(instance)).unwrap_or_default();
        let last: Vec<&str> = log.lines().rev().take(3).collect();
        let last = last.into_iter().rev().collect::<Vec<_>>().join(" / ");
        temporary(
            format!("the server on the side ended while a backup of `{}` was being restored: {last}", self.service),
            "nothing, unless it lasts: it is tried again",
        )
    }

    fn log(&self, instance: &InstanceId) -> PathBuf {
        self.folder.join("instances").join(instance.to_string()).join("log").join(format!("{instance}.log"))
    }
}

/// Which of this machine's offerings can restore it.
fn kind_of(about: &About, manifest: Option<&Manifest>) -> Result<OfferingName, Failure> {
    let said = manifest.and_then(|manifest| manifest.kind().parse().ok());
    said.or_else(|| about.offering.clone()).ok_or_else(|| {
        needs_person(
            format!("nobody knows by what the backup of `{}` was made", about.service),
            "make another one: `ostler backup`",
        )
    })
}

/// What is not there in the numbers in which it was there when the backup was made.
fn differences(made: &Counted, found: &Counted) -> Option<String> {
    let differs = |(name, made): (&String, &u64)| match found.get(name) {
        Some(found) if found != made => Some(format!("{found} {name} were restored, and {made} were backed up")),
        Some(_) | None => None,
    };
    let all: Vec<String> = made.iter().filter_map(differs).collect();
    (!all.is_empty()).then(|| all.join("; "))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counted(list: &[(&str, u64)]) -> Counted {
        list.iter().map(|(name, number)| ((*name).to_owned(), *number)).collect()
    }

    #[test]
    fn what_is_missing_is_told_in_numbers() {
        let made = counted(&[("rows", 5), ("tables", 2)]);
        assert_eq!(differences(&made, &made), None);
        assert_eq!(differences(&counted(&[]), &made), None, "what nobody counted is not compared");
        assert_eq!(
            differences(&made, &counted(&[("rows", 4), ("tables", 3)])).unwrap(),
            "4 rows were restored, and 5 were backed up; 3 tables were restored, and 2 were backed up"
        );
    }
}
