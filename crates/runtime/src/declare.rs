//! From an estate file to something that can be handed to the manager, or to everything that is wrong with it.
//!
//! Invariant: whatever can be found wrong before anything is touched is found here, all at once.

use std::collections::BTreeMap;
use std::sync::Arc;

use ostler_manager::{Event, Knowledge, PlacementProblem, place};
use ostler_model::catalog::Catalog;
use ostler_model::diagnostics::{Problem, Problems};
use ostler_model::estate::{Estate, NotifyVia, Parsed, parse};
use ostler_model::ids::ProviderName;
use ostler_model::template::Template;
use ostler_providers::Provider;
use ostler_providers::host::{HostProvider, check_program};

use crate::control::EstateFile;
use crate::providers::Providers;

/// An estate file that was parsed, with what its providers offer.
#[derive(Clone, Debug)]
pub struct Prepared {
    /// What it declares.
    pub estate: Arc<Estate>,
    /// What can be had.
    pub catalogs: BTreeMap<ProviderName, Arc<Catalog>>,
    parsed: Parsed,
    file: EstateFile,
    missing: Vec<(String, String)>,
}

/// Reads the file and asks its providers.
///
/// # Errors
/// Everything that is wrong with the file, and with the definition files of its providers: one [`Problems`] a file.
pub async fn prepare(file: EstateFile, providers: &Providers) -> Result<Prepared, Vec<Problems>> {
    let parsed = parse(&file.file, &file.folder, &file.text).map_err(|problems| vec![problems])?;
    let mut catalogs = BTreeMap::new();
    let mut missing = Vec::new();
    let mut wrong = Vec::new();
    for (name, declared) in &parsed.estate.providers {
        match providers.refresh(declared) {
            Ok(provider) => {
                let provider: Arc<HostProvider> = provider;
                let catalog = provider.catalog().await.map_err(|failure| {
                    let span = parsed.span(&format!("provider.{name}"));
                    let problem = Problem { span, cause: failure.detail, remedy: failure.remedy };
                    Problems::of(&file.file, &file.text, vec![problem]).into_iter().collect::<Vec<_>>()
                })?;
                let not_installed = provider.not_installed().await;
                missing.extend(not_installed.into_iter().map(|gap| (gap.offering.to_string(), gap.remedy)));
                catalogs.insert(name.clone(), Arc::new(catalog));
            }
            Err(problems) => wrong.extend(problems),
        }
    }
    if !wrong.is_empty() {
        return Err(wrong);
    }
    Ok(Prepared { estate: Arc::new(parsed.estate.clone()), catalogs, parsed, file, missing })
}

impl Prepared {
    /// What of it cannot be bought, in the light of what is known and offered: whether it could be started is not asked.
    ///
    /// # Errors
    /// All of it.
    pub fn check_placement(&self, known: &Knowledge) -> Result<(), Problems> {
        match Problems::of(&self.file.file, &self.file.text, self.placement_problems(known)) {
            Some(problems) => Err(problems),
            None => Ok(()),
        }
    }

    /// What is wrong with the file in the light of what is known and offered.
    ///
    /// # Errors
    /// All of it.
    pub fn check(&self, known: &Knowledge) -> Result<(), Problems> {
        let mut list = self.placement_problems(known);
        for (name, service) in &self.estate.services {
            self.program(&mut list, &format!("service.{name}.run.0"), &service.run);
            self.program(&mut list, &format!("service.{name}.before.0"), &service.before);
        }
        for notify in &self.estate.notify {
            if let NotifyVia::Command(command) = &notify.via
                && let Some(program) = command.first()
                && let Err(cause) = check_program(program, &self.estate.folder)
            {
                let span = self.parsed.span("notify");
                list.push(Problem { span, cause, remedy: "correct the command, or make the program".to_owned() });
            }
        }
        match Problems::of(&self.file.file, &self.file.text, list) {
            Some(problems) => Err(problems),
            None => Ok(()),
        }
    }

    /// The event that gives it to the manager.
    pub fn event(&self) -> Event {
        Event::EstateGiven { estate: self.estate.clone(), catalogs: self.catalogs.clone() }
    }

    fn placement_problems(&self, known: &Knowledge) -> Vec<Problem> {
        match place(known, &self.estate, &self.catalogs) {
            Ok(_) => Vec::new(),
            Err(problems) => problems.into_iter().map(|problem| self.placement(problem)).collect(),
        }
    }

    fn placement(&self, problem: PlacementProblem) -> Problem {
        let PlacementProblem { service, key, cause, remedy } = problem;
        let span = self.parsed.span(&format!("service.{service}.{key}"));
        let offering = self.estate.services.get(&service).map(|service| service.offering.as_str());
        // An offering that exists and whose programs are not installed wants another remedy than a misspelt one.
        match self.missing.iter().find(|(name, _)| key == "offering" && Some(name.as_str()) == offering) {
            Some((name, install)) => Problem {
                span,
                cause: format!("`{name}` is known, but this machine does not have its programs"),
                remedy: install.clone(),
            },
            None => Problem { span, cause, remedy },
        }
    }

    fn program(&self, list: &mut Vec<Problem>, path: &str, command: &[Template]) {
        let Some(program) = command.first().filter(|program| program.references().next().is_none()) else { return };
        if let Err(cause) = check_program(program.source(), &self.estate.folder) {
            let remedy = "build or install it, or correct the path: relative paths start at the estate file's folder";
            list.push(Problem { span: self.parsed.span(path), cause, remedy: remedy.to_owned() });
        }
    }
}
