//! Where each service is bought: the best of what its providers offer ([`mod@crate::choose`]), or why nothing will do.
//!
//! Invariant: a service that has a place keeps it for as long as the place still fits.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use ostler_model::catalog::{Catalog, Offering, Placement, Plan};
use ostler_model::estate::{Estate, Service};
use ostler_model::ids::{PlanName, ProviderName, ServiceName};
use ostler_model::time::Timestamp;
use ostler_model::version::{Version, VersionRange};

use crate::choose::{ReliedOn, all_relied_on, chosen, relied_on};
use crate::evolve::all_with_bought;
use crate::knowledge::Knowledge;
use crate::overrides::InForce;
use crate::solve::{self, Conflict};

/// Why a service cannot be bought as it is declared.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PlacementProblem {
    /// Which service.
    pub service: ServiceName,
    /// The key of its declaration that is wrong: `offering`, `version`, `plan`, `instances`, `run`.
    pub key: &'static str,
    /// What is wrong and why.
    pub cause: String,
    /// What to do.
    pub remedy: String,
}

/// A place for every service of the estate, chosen at `now`.
///
/// # Errors
/// Every service that has none, and why.
pub fn place(
    known: &Knowledge,
    estate: &Estate,
    catalogs: &BTreeMap<ProviderName, Arc<Catalog>>,
    now: Timestamp,
) -> Result<BTreeMap<ServiceName, Placement>, Vec<PlacementProblem>> {
    // What is gone from a catalog is held as before by whoever was bought of it.
    let catalogs = &all_with_bought(known, catalogs);
    let relied_on = all_relied_on(estate);
    let mut placements = BTreeMap::new();
    let mut problems = Vec::new();
    for (name, service) in &estate.services {
        // Where nothing was made, nothing has to stay where it is.
        let made = known.services.get(name).filter(|service| !service.instances.is_empty());
        let current = made.and_then(|service| service.placement.as_ref());
        let relied_on = relied_on.get(name).map_or(&[][..], Vec::as_slice);
        match place_one(known, estate, catalogs, service, current, relied_on, now) {
            Ok(placement) => {
                placements.insert(name.clone(), placement);
            }
            Err((key, cause, remedy)) => {
                problems.push(PlacementProblem { service: name.clone(), key, cause, remedy });
            }
        }
    }
    if problems.is_empty() {
        go_together(known, estate, catalogs, &mut placements).map_err(|conflicts| {
            conflicts.into_iter().map(|conflict| PlacementProblem::new(estate, known, conflict)).collect::<Vec<_>>()
        })?;
        return Ok(placements);
    }
    Err(problems)
}

/// Of what is not there yet, takes the versions that go together: with each other, and with what is there.
fn go_together(
    known: &Knowledge,
    estate: &Estate,
    catalogs: &BTreeMap<ProviderName, Arc<Catalog>>,
    placements: &mut BTreeMap<ServiceName, Placement>,
) -> Result<(), Vec<Conflict>> {
    let is_there = |name: &ServiceName| known.services.get(name).is_some_and(|service| !service.instances.is_empty());
    let fresh: BTreeMap<ServiceName, Placement> = placements
        .iter()
        .filter(|(name, _)| !is_there(name))
        .map(|(name, placement)| (name.clone(), placement.clone()))
        .collect();
    if fresh.is_empty() {
        return Ok(());
    }
    for (name, version) in solve::first(known, estate, catalogs, &fresh)? {
        placements.entry(name).and_modify(|placement| placement.version = Some(version));
    }
    Ok(())
}

impl PlacementProblem {
    /// A conflict of versions, told of a service that would be bought.
    fn new(estate: &Estate, known: &Knowledge, conflict: Conflict) -> Self {
        let Conflict { held, services, explanation, .. } = conflict;
        let is_new = |name: &&ServiceName| {
            estate.services.contains_key(*name)
                && known.services.get(*name).is_none_or(|service| service.instances.is_empty())
        };
        let all = || held.iter().chain(&services);
        let service = all().find(is_new).or_else(|| all().next()).or_else(|| estate.services.keys().next());
        let (cause, remedy) = explanation.split_once("\n\n").unwrap_or((&explanation, ""));
        // It stands after "help:".
        let mut remedy = remedy.trim_end_matches('.').to_owned();
        if let Some(first) = remedy.get_mut(..1) {
            first.make_ascii_lowercase();
        }
        Self {
            service: service.cloned().expect("a conflict is about services of the estate"),
            key: "version",
            cause: cause.trim_end_matches('.').to_owned(),
            remedy,
        }
    }
}

/// The key that is wrong, what is wrong with it, and what to do.
pub(crate) type Wrong = (&'static str, String, String);

/// A place for one service.
///
/// # Errors
/// If it has none: why.
pub(crate) fn place_one(
    known: &Knowledge,
    estate: &Estate,
    catalogs: &BTreeMap<ProviderName, Arc<Catalog>>,
    service: &Service,
    current: Option<&Placement>,
    relied_on: ReliedOn<'_>,
    now: Timestamp,
) -> Result<Placement, Wrong> {
    place_under(known, estate, catalogs, service, current, relied_on, known.standing(now))
}

/// The same with these overrides.
///
/// # Errors
/// As [`place_one`].
pub(crate) fn place_under(
    known: &Knowledge,
    estate: &Estate,
    catalogs: &BTreeMap<ProviderName, Arc<Catalog>>,
    service: &Service,
    current: Option<&Placement>,
    relied_on: ReliedOn<'_>,
    standing: InForce<'_>,
) -> Result<Placement, Wrong> {
    // Where nothing will do, what is wrong with the first is told.
    let best = if current.is_none() { chosen(known, estate, catalogs, service, relied_on, standing) } else { None };
    let (provider, offering) = match &best {
        Some((provider, _)) => offered_by(known, estate, catalogs, service, provider).ok_or((
            "offering",
            format!("no provider offers `{}`", service.offering),
            String::new(),
        ))?,
        None => choose_provider(known, estate, catalogs, service, current)?,
    };
    let best = best.and_then(|(_, plan)| offering.plans.iter().find(|offered| offered.name == plan));
    let plan = match best {
        Some(plan) => plan,
        None => choose_plan(service, provider, offering, current)?,
    };
    if current.is_none() && !estate.may_hold(estate.providers.get(provider).and_then(|p| p.region.as_deref())) {
        let region = estate.providers.get(provider).and_then(|p| p.region.clone());
        let is_in = region.map_or_else(|| "does not say where it is".to_owned(), |region| format!("is in {region}"));
        let cause = format!("{provider} {is_in}, and `residency` allows only {}", estate.residency.join(", "));
        return Err((
            "offering",
            cause,
            format!(
                "choose another provider; or add the region to `[estate] residency`, or to `[provider.{provider}]`"
            ),
        ));
    }
    if let Some(cause) = standing.excludes(&service.name, provider, &plan.name).filter(|_| current.is_none()) {
        let remedy = "`ostler override end` ends an override; `ostler overrides` lists them".to_owned();
        return Err(("offering", cause, remedy));
    }
    if let Some(most) = offering.instances_max.filter(|most| service.instances > *most) {
        let cause = format!("`{}` can have at most {most} here, {} are declared", service.offering, service.instances);
        return Err(("instances", cause, format!("set `instances = {most}`")));
    }
    check_run(service, offering).map_err(|(cause, remedy)| ("run", cause, remedy))?;
    let offered = versions_at(known, catalogs, service, provider, offering, plan);
    let version = choose_version(service, offering, plan, offered, current, relied_on)
        .map_err(|(cause, remedy)| ("version", cause, remedy))?;
    // What exists was bought of the plan that was called so then, whatever is called so now. And it is kept up to date as
    // it was: a newer `maintenance_info` is an upgrade, never a side effect.
    let (handle, maintenance) = match current.filter(|current| current.plan == plan.name) {
        Some(current) => (current.handle.clone(), current.maintenance.clone()),
        None => (plan.handle.clone(), maintenance_of(plan)),
    };
    Ok(Placement {
        provider: provider.clone(),
        offering: service.offering.clone(),
        plan: plan.name.clone(),
        version,
        handle,
        maintenance,
    })
}

/// The plan of this provider, for a service that moves there. `held` is the version whose data has to be read there.
///
/// # Errors
/// Why it will not do.
pub(crate) fn at_provider(
    known: &Knowledge,
    estate: &Estate,
    service: &Service,
    provider: &ProviderName,
    plan: &PlanName,
    held: Option<&Version>,
) -> Result<Placement, String> {
    let offered = offered_by(known, estate, &known.catalogs, service, provider);
    let (_, offering) = offered.ok_or_else(|| format!("{provider} does not offer `{}`", service.offering))?;
    let plan = offering.plans.iter().find(|offered| offered.name == *plan);
    let plan = plan.ok_or_else(|| format!("{provider} has no such plan of `{}`", service.offering))?;
    check_run(service, offering).map_err(|(cause, _)| cause)?;
    let offered = versions_at(known, &known.catalogs, service, provider, offering, plan);
    let relied_on = relied_on(known, estate, &service.name);
    let fits = |version: &&Version| {
        let reads = held.is_none_or(|held| offering.same_series(held, version));
        reads && service.version.contains(version) && relied_on.iter().all(|(_, range)| range.contains(version))
    };
    // The same one where it can be had, so that a move is not an upgrade in passing.
    let same = held.and_then(|held| offered.iter().filter(fits).find(|version| *version == held));
    let version = same.or_else(|| offered.iter().filter(fits).max()).cloned();
    if version.is_none() && !offered.is_empty() {
        let wanted = held.map_or_else(|| service.version.to_string(), |held| format!("the series of {held}"));
        return Err(format!("{provider} has no `{}` of {wanted}", service.offering));
    }
    Ok(Placement {
        provider: provider.clone(),
        offering: service.offering.clone(),
        plan: plan.name.clone(),
        version,
        handle: plan.handle.clone(),
        maintenance: maintenance_of(plan),
    })
}

fn maintenance_of(plan: &Plan) -> Option<String> {
    plan.maintenance.as_ref().map(|maintenance| maintenance.version.clone())
}

/// What versions a service can have at a provider; one that cannot be asked now offers what it offered last.
fn versions_at<'a>(
    known: &'a Knowledge,
    catalogs: &'a BTreeMap<ProviderName, Arc<Catalog>>,
    service: &Service,
    provider: &ProviderName,
    offering: &'a Offering,
    plan: &'a Plan,
) -> &'a [Version] {
    let catalog = catalogs.get(provider).or_else(|| known.catalogs.get(provider));
    catalog.map_or(&offering.versions, |catalog| catalog.versions_for(&service.name, offering, plan))
}

fn offered_by<'a>(
    known: &'a Knowledge,
    estate: &'a Estate,
    catalogs: &'a BTreeMap<ProviderName, Arc<Catalog>>,
    service: &Service,
    provider: &ProviderName,
) -> Option<(&'a ProviderName, &'a Offering)> {
    let (name, _) = estate.providers.get_key_value(provider)?;
    let catalog = catalogs.get(provider).or_else(|| known.catalogs.get(provider))?;
    Some((name, catalog.offerings.get(&service.offering)?))
}

/// The first provider in the order of preference that offers it. What exists stays what and where it is: making it
/// something else, or moving it, would leave its data behind, and is never a side effect of a changed file.
fn choose_provider<'a>(
    known: &'a Knowledge,
    estate: &'a Estate,
    catalogs: &'a BTreeMap<ProviderName, Arc<Catalog>>,
    service: &'a Service,
    current: Option<&Placement>,
) -> Result<(&'a ProviderName, &'a Offering), Wrong> {
    let name = &service.name;
    // A provider that cannot be asked now offers what it offered last.
    let catalog_of = |provider: &ProviderName| catalogs.get(provider).or_else(|| known.catalogs.get(provider));
    let in_order: Vec<&ProviderName> =
        if service.prefer.is_empty() { estate.providers.keys().collect() } else { service.prefer.iter().collect() };
    let mut offers = in_order
        .iter()
        .filter_map(|provider| Some((*provider, catalog_of(provider)?.offerings.get(&service.offering)?)));
    let Some(current) = current else {
        return offers.next().ok_or_else(|| {
            let known: BTreeSet<&str> =
                catalogs.values().flat_map(|catalog| catalog.offerings.keys()).map(|name| name.as_str()).collect();
            let known = known.into_iter().collect::<Vec<_>>().join(", ");
            let remedy = format!(
                "choose one of: {known}; or add a definition file for it (`[provider.…] offerings = \"folder\"`)"
            );
            ("offering", format!("no provider offers `{}`", service.offering), remedy)
        });
    };
    if current.offering != service.offering {
        let cause = format!("`{name}` exists as `{}`, and cannot become `{}`", current.offering, service.offering);
        let remedy = format!("give the new service another name; or take `{name}` out of the file and delete it first");
        return Err(("offering", cause, remedy));
    }
    offers.find(|(provider, _)| **provider == current.provider).ok_or_else(|| {
        let cause = format!("`{name}` exists at {}, which does not offer it here any more", current.provider);
        let remedy = format!(
            "keep {} among its providers, with `{}` in its catalog: `ostler failover {name}` moves what exists",
            current.provider, service.offering
        );
        ("offering", cause, remedy)
    })
}

/// The plan that is named; else the one that is held; else the first whose version will do.
fn choose_plan<'a>(
    service: &Service,
    provider: &ProviderName,
    offering: &'a Offering,
    current: Option<&Placement>,
) -> Result<&'a Plan, Wrong> {
    let is_held = |plan: &Plan| current.is_some_and(|current| current.plan == plan.name);
    let to_be_had = || offering.plans.iter().filter(|plan| is_held(plan) || !(plan.withdrawn || offering.withdrawn));
    let fits = |plan: &Plan| plan.version.as_ref().is_none_or(|version| service.version.contains(version));
    let found = match &service.plan {
        Some(wanted) => to_be_had().find(|plan| &plan.name == wanted),
        None => to_be_had()
            .find(|plan| is_held(plan))
            .or_else(|| to_be_had().find(|plan| fits(plan)))
            .or_else(|| to_be_had().next()), // and its version is what is wrong
    };
    found.ok_or_else(|| {
        let wanted = service.plan.as_ref().map_or_else(String::new, |wanted| format!(" `{wanted}`"));
        let names: Vec<&str> = to_be_had().map(|plan| plan.name.as_str()).collect();
        let cause = format!("`{}` has no plan{wanted} at {provider}", service.offering);
        let remedy = match names.as_slice() {
            [] => "choose another offering or provider: nothing more of it is sold".to_owned(),
            names => format!("its plans are: {}", names.join(", ")),
        };
        ("plan", cause, remedy)
    })
}

fn check_run(service: &Service, offering: &Offering) -> Result<(), (String, String)> {
    match (offering.runs_program, service.run.is_empty()) {
        (true, false) | (false, true) => Ok(()),
        (true, true) => Err((
            format!("`{}` runs your own program, and no program is named", service.offering),
            "add `run = [\"./your-program\"]`".to_owned(),
        )),
        (false, false) => Err((
            format!("`{}` brings its own program and cannot `run` yours", service.offering),
            "remove `run`, or set `offering = \"program\"`".to_owned(),
        )),
    }
}

/// Where nothing is offered in versions: none, unless it is the buyer's own program and has some somewhere.
fn without_versions(
    service: &Service,
    offering: &Offering,
    held: Option<&Version>,
) -> Result<Option<Version>, (String, String)> {
    let path = match service.run_path() {
        Some(path) if offering.runs_program => path,
        None if offering.runs_program && service.version != VersionRange::any() => {
            return Err((
                format!("`version` is `{}`, and the program says nothing of versions", service.version),
                "put `{{ version }}` into the path of the program, as in `run = [\"releases/{{ version }}/web\"]`; or \
                 remove `version`"
                    .to_owned(),
            ));
        }
        Some(_) | None => return Ok(None),
    };
    if let Some(held) = held.filter(|held| service.version.contains(held)) {
        return Ok(Some(held.clone()));
    }
    let example = "1.0.0".parse().expect("it is a version");
    Err((
        format!("no version of the program is there: nothing that can be executed fits `{}`", path.in_words()),
        format!("put one there, for example as `{}`, or correct the path in `run`", path.program(&example)),
    ))
}

/// The version to use: what exists stays what it is, whatever the range says and also where its version is gone: it becomes
/// another version by an upgrade, in its window and with its data. Only of a plan that gives one version it is as the plan
/// says. What is made now is the newest that will do.
///
/// # Errors
/// If nothing will do, or if no upgrade can lead there.
fn choose_version(
    service: &Service,
    offering: &Offering,
    plan: &Plan,
    offered: &[Version],
    current: Option<&Placement>,
    relied_on: ReliedOn<'_>,
) -> Result<Option<Version>, (String, String)> {
    let held = current.and_then(|current| current.version.as_ref());
    if offered.is_empty() {
        return without_versions(service, offering, held);
    }
    let held = current.filter(|current| current.plan == plan.name).and_then(|current| current.version.as_ref());
    let held = held.filter(|held| plan.version.is_none() || offered.contains(held));
    if let Some(held) = held.filter(|held| service.version.contains(held)) {
        return Ok(Some(held.clone()));
    }
    let listed = |versions: &[Version]| versions.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
    let fitting: Vec<Version> = offered.iter().filter(|version| service.version.contains(version)).cloned().collect();
    let Some(newest) = fitting.iter().max() else {
        return Err((
            format!("no version of `{}` satisfies `{}`", service.offering, service.version),
            format!("found here: {}; widen the range, or install a version that it allows", listed(offered)),
        ));
    };
    let Some(held) = held else {
        // Where nothing is as consumers rely on, what contradicts what is told of all of them together.
        let all_can = fitting.iter().filter(|version| relied_on.iter().all(|(_, range)| range.contains(version)));
        return Ok(Some(all_can.max().unwrap_or(newest).clone()));
    };
    let durable = service.data.durable.unwrap_or(offering.durable);
    let is_read = || fitting.iter().any(|version| offering.same_series(held, version));
    if !durable || is_read() {
        return Ok(Some(held.clone()));
    }
    let (name, product) = (&service.name, &service.offering);
    let cause = format!("`{name}` holds data of {product} {held}, which {newest} cannot read");
    let keep = format!("keep {held} in the range");
    if newest < held {
        return Err((cause, format!("{keep}: data is not brought from a newer version to an older one")));
    }
    if !offering.actions.backup {
        return Err((cause, format!("{keep}: there is no backup of `{product}` that could be restored there")));
    }
    if service.instances > 1 {
        return Err((cause, format!("{keep}, or set `instances = 1`: each of its instances holds data of its own")));
    }
    Ok(Some(held.clone()))
}
