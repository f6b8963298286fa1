//! From an estate file to something that can be handed to the manager, or to everything that is wrong with it.
//!
//! Invariant: whatever can be found wrong before anything is touched is found here, all at once.

use std::collections::BTreeMap;
use std::sync::Arc;

use ostler_manager::{Event, Knowledge, PlacementProblem, place};
use ostler_model::catalog::{Catalog, Offering, Placement};
use ostler_model::diagnostics::{Problem, Problems};
use ostler_model::estate::provide::Provide;
use ostler_model::estate::{Estate, NotifyVia, Parsed, Provider, ProviderKind, parse};
use ostler_model::ids::{ProviderName, ServiceName};
use ostler_model::outcome::{Failure, FailureClass};
use ostler_model::template::Template;
use ostler_model::time::Timestamp;
use ostler_providers::host::check_program;
use ostler_providers::osb::OsbProvider;

use crate::certificates;
use crate::control::EstateFile;
use crate::providers::{Made, Providers, Unmade};
use crate::vault;

/// An estate file that was parsed, with what its providers offer.
#[derive(Clone)]
pub struct Prepared {
    /// What it declares.
    pub estate: Arc<Estate>,
    /// What can be had.
    pub catalogs: BTreeMap<ProviderName, Arc<Catalog>>,
    parsed: Parsed,
    file: EstateFile,
    missing: Vec<(String, String)>,
    /// Providers that could not be asked now.
    unasked: Vec<(ProviderName, Failure)>,
    brokers: BTreeMap<ProviderName, Arc<OsbProvider>>,
}

/// Reads the file and asks its providers.
///
/// # Errors
/// Everything that is wrong with the file, and with the definition files of its providers: one [`Problems`] a file.
pub async fn prepare(file: EstateFile, providers: &Arc<Providers>) -> Result<Prepared, Vec<Problems>> {
    let mut parsed = parse(&file.file, &file.folder, &file.text).map_err(|problems| vec![problems])?;
    let mut wrong = Vec::new();
    let mut list = certificates::read_into(&mut parsed, &file.file);
    let mut made = Vec::new();
    for (name, declared) in &parsed.estate.providers {
        list.extend(versions_problem(&parsed, declared));
        match providers.refresh(declared, &parsed.estate.folder) {
            Ok(provider) => made.push((name.clone(), provider)),
            Err(Unmade::Definitions(problems)) => wrong.extend(problems),
            Err(Unmade::Failed(failure)) => {
                let span = parsed.span(&format!("provider.{name}"));
                list.push(Problem { span, cause: failure.detail, remedy: failure.remedy });
            }
        }
    }
    // What is only away now comes back, and is told when it matters.
    if let Err(failure) = vault::try_out(providers.home(), &parsed.estate).await
        && failure.class == FailureClass::NeedsPerson
    {
        list.push(Problem { span: parsed.span("backups.to"), cause: failure.detail, remedy: failure.remedy });
    }
    wrong.extend(Problems::of(&file.file, &file.text, list));
    if !wrong.is_empty() {
        return Err(wrong);
    }
    let mut prepared = Prepared {
        estate: Arc::new(parsed.estate.clone()),
        catalogs: BTreeMap::new(),
        parsed,
        file,
        missing: Vec::new(),
        unasked: Vec::new(),
        brokers: BTreeMap::new(),
    };
    // All at once: one that is slow keeps nobody waiting but for itself.
    let asked: Vec<_> = made
        .into_iter()
        .map(|(name, made)| {
            let (providers, asked, estate) = (providers.clone(), made.clone(), prepared.estate.clone());
            (name, made, tokio::spawn(async move { providers.catalog(&asked, &estate).await }))
        })
        .collect();
    for (name, made, catalog) in asked {
        match catalog.await.expect("asking for a catalog does not panic") {
            Ok(catalog) => drop(prepared.catalogs.insert(name.clone(), Arc::new(catalog))),
            Err(failure) => prepared.unasked.push((name.clone(), failure)),
        }
        match made {
            Made::Host(host) => {
                let not_installed = host.not_installed().await;
                prepared.missing.extend(not_installed.into_iter().map(|gap| (gap.offering.to_string(), gap.remedy)));
            }
            Made::Osb(broker) => drop(prepared.brokers.insert(name, broker)),
        }
    }
    Ok(prepared)
}

/// A folder of versions that is not there is a misspelt one.
fn versions_problem(parsed: &Parsed, declared: &Provider) -> Option<Problem> {
    let ProviderKind::Host(host) = &declared.kind else { return None };
    let folder = host.versions.as_ref()?;
    let cause = match std::fs::metadata(folder) {
        Ok(data) if data.is_dir() => return None,
        Ok(_) => format!("{} is not a folder", folder.display()),
        Err(error) => format!("cannot read the folder of versions {}: {error}", folder.display()),
    };
    let span = parsed.span(&format!("provider.{}.versions", declared.name));
    let remedy = "correct the path, or make the folder: versions lie in it as `postgresql/16/bin/postgres`";
    Some(Problem { span, cause, remedy: remedy.to_owned() })
}

impl Prepared {
    /// What of it cannot be bought, in the light of what is known and offered: whether it could be started is not asked.
    ///
    /// # Errors
    /// All of it.
    pub fn check_placement(&self, known: &Knowledge, now: Timestamp) -> Result<(), Problems> {
        match Problems::of(&self.file.file, &self.file.text, self.placement_problems(known, now)) {
            Some(problems) => Err(problems),
            None => Ok(()),
        }
    }

    /// What is wrong with the file in the light of what is known and offered.
    ///
    /// # Errors
    /// All of it.
    pub fn check(&self, known: &Knowledge, now: Timestamp) -> Result<(), Problems> {
        let mut list = self.placement_problems(known, now);
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
        list.extend(self.estate.provide.iter().flat_map(|provide| self.sale_problems(provide)));
        match Problems::of(&self.file.file, &self.file.text, list) {
            Some(problems) => Err(problems),
            None => Ok(()),
        }
    }

    /// What is to be sold and is not there, or is no plan's price.
    fn sale_problems(&self, provide: &Provide) -> Vec<Problem> {
        let is_host = |provider: &&Provider| matches!(provider.kind, ProviderKind::Host(_));
        let seller = self.estate.providers.values().find(is_host);
        let Some(catalog) = seller.and_then(|seller| self.catalogs.get(&seller.name)) else { return Vec::new() };
        let sold = |offering: &&Offering| offering.bindable && !offering.runs_program;
        let known = catalog.offerings.values().filter(sold).map(|offering| offering.name.as_str());
        let known = known.collect::<Vec<_>>().join(", ");
        let mut list = Vec::new();
        for (index, name) in provide.offer.iter().enumerate() {
            if !catalog.offerings.get(name).as_ref().is_some_and(sold) {
                list.push(Problem {
                    span: self.parsed.span(&format!("provide.offer.{index}")),
                    cause: format!(
                        "`{name}` cannot be sold: this machine does not offer it, or nothing can be bound to it"
                    ),
                    remedy: format!("what can be sold here: {known}"),
                });
            }
        }
        for (name, plan) in provide.prices.iter().flat_map(|(name, plans)| plans.keys().map(move |plan| (name, plan))) {
            let plans = catalog.offerings.get(name).map(|offering| &offering.plans);
            if !plans.is_some_and(|plans| plans.iter().any(|offered| offered.name == *plan)) {
                list.push(Problem {
                    span: self.parsed.span(&format!("provide.price.{name}.{plan}")),
                    cause: format!("there is no plan `{plan}` of `{name}`, so it can have no price"),
                    remedy: "correct the name, or remove the price".to_owned(),
                });
            }
        }
        list
    }

    /// The event that gives it to the manager.
    pub fn event(&self) -> Event {
        Event::EstateGiven { estate: self.estate.clone(), catalogs: self.catalogs.clone() }
    }

    /// The providers that could not be asked now, and why not.
    pub fn unasked(&self) -> &[(ProviderName, Failure)] {
        &self.unasked
    }

    fn placement_problems(&self, known: &Knowledge, now: Timestamp) -> Vec<Problem> {
        // What a provider offered last is good enough while it cannot be asked.
        let unknown = self.unasked.iter().filter(|(name, _)| !known.catalogs.contains_key(name));
        let mut list: Vec<Problem> = unknown
            .map(|(name, failure)| Problem {
                span: self.parsed.span(&format!("provider.{name}")),
                cause: failure.detail.clone(),
                remedy: failure.remedy.clone(),
            })
            .collect();
        if !list.is_empty() {
            return list; // that nobody offers what it may offer is no news
        }
        match place(known, &self.estate, &self.catalogs, now) {
            Ok(placements) => {
                for (name, placement) in placements {
                    list.extend(self.parameter_problems(&name, &placement));
                }
            }
            Err(problems) => list.extend(problems.into_iter().map(|problem| self.placement(problem))),
        }
        list
    }

    /// What of the service's parameters its provider will not take, as far as it says so before.
    fn parameter_problems(&self, name: &ServiceName, placement: &Placement) -> Vec<Problem> {
        let (Some(service), Some(broker)) = (self.estate.services.get(name), self.brokers.get(&placement.provider))
        else {
            return self.no_parameters(name, placement);
        };
        let span = self.parsed.span(&format!("service.{name}.parameters"));
        let misfits = broker.check_parameters(placement, &service.parameters);
        let problem = |cause: String| Problem {
            span: span.clone(),
            cause: format!("the plan `{}` does not take these parameters: {cause}", placement.plan),
            remedy: format!("see what {} says of this plan's parameters", placement.provider),
        };
        misfits.into_iter().map(problem).collect()
    }

    /// This machine's offerings are told nothing but what the estate file has keys for.
    fn no_parameters(&self, name: &ServiceName, placement: &Placement) -> Vec<Problem> {
        let given = self.estate.services.get(name).is_some_and(|service| !service.parameters.is_empty());
        let cause = format!("`{}` at {} takes no parameters", placement.offering, placement.provider);
        let span = self.parsed.span(&format!("service.{name}.parameters"));
        let problem = Problem { span, cause, remedy: "remove them".to_owned() };
        given.then_some(problem).into_iter().collect()
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
