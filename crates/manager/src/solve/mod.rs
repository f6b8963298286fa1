//! Which versions of everything go together, and in which order to get there without breaking anything on the way.
//!
//! Version ranges come from three places: the estate file (`version` of a service), contracts (`version` of a need), and
//! what offerings say that they work with (`accepts`). All of them are solved together. A service whose versions nobody
//! knows is left out: what is said of its versions is for `ostler verify` to tell.
//!
//! Invariants:
//! - The same estate, catalogs and wish give the same outcome, in whatever order they list things.
//! - Every range that held before the first step holds after each single step.
//! - What is in conflict stays as it is, and holds up only what cannot change without it.
//! - Of the versions that go together the newest are taken: those of consumers count before those of what they need, and
//!   among equals the name decides. No service goes back, but where it is in a range that is broken now and there is no
//!   other way.
//! - What is not there yet is bought in the very versions that would be chosen if it were.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use ostler_model::catalog::{Catalog, Placement};
use ostler_model::estate::Estate;
use ostler_model::ids::{ProviderName, ServiceName};
use ostler_model::version::Version;
use serde::{Deserialize, Serialize};

use self::choose::Unsolved;
use self::order::{Move, Stuck};
use self::problem::{Item, Problem};
use crate::knowledge::Knowledge;

mod choose;
mod order;
mod problem;
mod reason;
mod versions;
mod words;

/// What is to be upgraded.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Wish {
    /// Only these; everything else stays as it is. `None` for everything.
    pub only: Option<BTreeSet<ServiceName>>,
    /// Versions that were tried and taken back. The version in use is never meant: to stay is not to try.
    pub rejected: BTreeMap<ServiceName, BTreeSet<Version>>,
    /// Services with durable data may go to another series of versions; otherwise they stay in theirs.
    pub major: bool,
}

/// One change of one service.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Step {
    /// Which service.
    pub service: ServiceName,
    /// From which version; the one in use, or where an earlier step has brought it.
    pub from: Version,
    /// To which.
    pub to: Version,
}

/// What can be done, what cannot, and why.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Outcome {
    /// What to do, in this order, one after the other; empty if nothing is to be changed.
    pub steps: Vec<Step>,
    /// Where there is no solution. Nothing that is named as one of their `held` is in a step.
    pub conflicts: Vec<Conflict>,
    /// The services that stay below the newest version that is offered, by name. Those that were not asked for are not
    /// among them.
    pub blocked: Vec<Blocked>,
}

/// Ranges that nothing satisfies together, or an order that there is none of.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Conflict {
    /// Which of the two it is.
    pub kind: ConflictKind,
    /// The services that stay as they are because of it, by name.
    pub held: Vec<ServiceName>,
    /// All services that are named in the explanation, by name.
    pub services: Vec<ServiceName>,
    /// What contradicts what; then, after a blank line, what a person can do.
    pub explanation: String,
}

/// The kinds of conflict.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ConflictKind {
    /// No versions satisfy all ranges.
    NoVersions,
    /// Some do, but services would have to change at the same moment to get there.
    SameMoment,
    /// It was not found out: there are too many combinations.
    TooMany,
}

/// A service that stays below the newest version that is offered.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Blocked {
    /// Which service.
    pub service: ServiceName,
    /// Where it is after the last step.
    pub at: Version,
    /// The newest version that its provider offers.
    pub newest: Version,
    /// Why it does not get there.
    pub because: String,
}

/// Whether data of one version can be used by the other without being moved: they are of one series.
fn same_series(one: &Version, other: &Version) -> bool {
    one.major() == other.major()
}

/// Finds the newest versions that go together, and the order of the steps.
///
/// What a provider's catalog is not given of is what it offered last, as far as that is known.
pub fn solve(
    known: &Knowledge,
    estate: &Estate,
    catalogs: &BTreeMap<ProviderName, Arc<Catalog>>,
    wish: &Wish,
) -> Outcome {
    let mut problem = Problem::new(known, estate, catalogs, wish, &BTreeMap::new());
    let mut conflicts = Vec::new();
    // First what cannot be, whatever the rest does: it stays as it is, and the rest is solved around it.
    for part in problem.hopeless() {
        let nothing = settle(&mut problem, &part, &mut conflicts);
        debug_assert!(nothing.is_empty(), "what can have no solution does not change");
    }
    let parts = problem.parts();
    let steps = parts.iter().map(|part| settle(&mut problem, part, &mut conflicts)).collect();
    let mut at = problem.current();
    let mut outcome = Outcome { conflicts, ..Outcome::default() };
    for (item, from, to) in order::merged(&problem, steps) {
        let Item { name, versions, .. } = &problem.items[item];
        let (from, target) = (versions[from as usize].clone(), versions[to as usize].clone());
        outcome.steps.push(Step { service: name.clone(), from, to: target });
        at[item] = to;
    }
    outcome.blocked = words::blocked(&problem, &at);
    outcome
}

/// The versions in which services are bought that are not there yet: the newest that go together, with each other and with
/// what is there. `fresh` says where each is bought, and in which version, were it alone: the newest that will do.
///
/// What is there stays what it is, unless the estate file itself does not allow that.
///
/// # Errors
/// What contradicts what: then nothing should be bought.
pub(crate) fn first(
    known: &Knowledge,
    estate: &Estate,
    catalogs: &BTreeMap<ProviderName, Arc<Catalog>>,
    fresh: &BTreeMap<ServiceName, Placement>,
) -> Result<BTreeMap<ServiceName, Version>, Vec<Conflict>> {
    let alone: BTreeSet<ServiceName> = fresh.keys().cloned().collect();
    let with = |only: BTreeSet<ServiceName>| {
        let wish = Wish { only: Some(only), rejected: BTreeMap::new(), major: true };
        go_with(&mut Problem::new(known, estate, catalogs, &wish, fresh))
    };
    match with(alone.clone()) {
        Err(conflicts) => {
            let has_to = out_of_range(known, estate);
            if has_to.is_empty() { Err(conflicts) } else { with(alone.into_iter().chain(has_to).collect()) }
        }
        found => found,
    }
}

/// The versions of what is not there yet, as far as they are others than they would be alone.
fn go_with(problem: &mut Problem) -> Result<BTreeMap<ServiceName, Version>, Vec<Conflict>> {
    // Where everything goes together in the newest there is, nothing has to be searched.
    let broken: BTreeSet<usize> = (0..problem.reasons.len())
        .filter(|reason| !problem.dropped.contains(reason) && !problem.reasons[*reason].holds_now(&problem.items))
        .flat_map(|reason| problem.reasons[reason].items())
        .collect();
    let is_meant = |part: &Vec<usize>| part.iter().any(|item| broken.contains(item));
    let mut conflicts = Vec::new();
    for part in problem.hopeless().into_iter().filter(is_meant) {
        go_together(problem, &part, &mut conflicts);
    }
    let mut versions = BTreeMap::new();
    for part in problem.parts().into_iter().filter(is_meant) {
        let at = go_together(problem, &part, &mut conflicts);
        for item in part.into_iter().filter(|item| problem.items[*item].fresh) {
            let Item { name, versions: all, .. } = &problem.items[item];
            versions.insert(name.clone(), all[at[item] as usize].clone());
        }
    }
    if conflicts.is_empty() { Ok(versions) } else { Err(conflicts) }
}

/// Services that are there in a version that the estate file does not allow: by their own range, or by what a consumer
/// relies on. They will be changed anyway.
fn out_of_range(known: &Knowledge, estate: &Estate) -> BTreeSet<ServiceName> {
    let in_use = |name: &ServiceName| known.services.get(name)?.placement.as_ref()?.version.as_ref();
    let own = estate.services.values().map(|spec| (&spec.name, &spec.version));
    let contracts = estate.services.values().flat_map(|spec| &spec.contracts);
    let relied_on = contracts.filter_map(|contract| Some((&contract.need, contract.version.as_ref()?)));
    let broken = own.chain(relied_on).filter(|(name, range)| in_use(name).is_some_and(|held| !range.contains(held)));
    broken.map(|(name, _)| name.clone()).collect()
}

/// The steps of one part: of services that no range connects to others that could change. What is in conflict in it is set
/// aside, until the rest has a solution.
fn settle(problem: &mut Problem, part: &[usize], conflicts: &mut Vec<Conflict>) -> Vec<Move> {
    loop {
        let target = go_together(problem, part, conflicts);
        let conflict = match order::steps(problem, part, &target) {
            Ok(steps) => return steps,
            // There always is one; were there none, nothing would be set aside, for ever.
            Err(stuck) if stuck.circle.is_empty() => too_many(problem, part),
            Err(stuck) => same_moment(problem, &target, &stuck),
        };
        conflicts.push(conflict);
    }
}

/// The newest versions of one part that go together. What is in conflict in it is set aside, until the rest has a solution.
fn go_together(problem: &mut Problem, part: &[usize], conflicts: &mut Vec<Conflict>) -> Vec<u32> {
    loop {
        let conflict = match choose::newest(problem, part) {
            Ok(target) => return target,
            Err(Unsolved::Conflict(core)) if core.is_empty() => too_many(problem, part),
            Err(Unsolved::Conflict(core)) => no_versions(problem, &core),
            Err(Unsolved::TooMany) => too_many(problem, part),
        };
        conflicts.push(conflict);
    }
}

fn no_versions(problem: &mut Problem, core: &[usize]) -> Conflict {
    let items = problem.items_of(core);
    let services = problem.named(core);
    let explanation = words::no_versions(problem, core);
    problem.set_aside(&items, core);
    Conflict { kind: ConflictKind::NoVersions, held: problem.names(&items), services, explanation }
}

fn same_moment(problem: &mut Problem, target: &[u32], stuck: &Stuck) -> Conflict {
    let items: BTreeSet<usize> = stuck.circle.iter().map(|link| link.item).collect();
    let reasons: Vec<usize> = stuck.circle.iter().map(|link| link.reason).collect();
    let services = problem.named(&reasons);
    let explanation = words::same_moment(problem, target, stuck);
    problem.set_aside(&items, &[]);
    let kind = if stuck.given_up { ConflictKind::TooMany } else { ConflictKind::SameMoment };
    Conflict { kind, held: problem.names(&items), services, explanation }
}

fn too_many(problem: &mut Problem, part: &[usize]) -> Conflict {
    let items: BTreeSet<usize> = part.iter().copied().collect();
    let names = problem.names(&items);
    let explanation = words::too_many(&names, problem.buys);
    let reasons: BTreeSet<usize> = part.iter().flat_map(|item| &problem.of_item[*item]).copied().collect();
    problem.set_aside(&items, &reasons.into_iter().collect::<Vec<_>>());
    Conflict { kind: ConflictKind::TooMany, held: names.clone(), services: names, explanation }
}
