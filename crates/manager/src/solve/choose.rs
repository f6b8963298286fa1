//! The newest versions that go together in one part, or the few reasons that contradict each other.

use std::collections::{BTreeMap, BTreeSet};

use super::problem::Problem;
use super::reason::Kind;
use super::versions::{Found, Leaf, Search, Set};
use pubgrub::VersionSet;

/// After so many decisions the best is given up, and something good is searched for; after as many again all is.
const DECISIONS_MAX: u32 = 50_000;
/// So many decisions has every question whether a conflict is one without one of its reasons.
const SHORTER_MAX: u32 = 2_000;

/// Why there is nothing to go to.
pub(super) enum Unsolved {
    /// These reasons contradict each other, and each of them is needed for that.
    Conflict(Vec<usize>),
    /// It was not found out.
    TooMany,
}

/// The newest version of each item of the part; all others stay where they are.
pub(super) fn newest(problem: &Problem, part: &[usize]) -> Result<Vec<u32>, Unsolved> {
    match search(problem, part, &|_| false) {
        Err(Unsolved::Conflict(_)) if part.iter().any(|item| problem.is_broken(*item)) => {
            search(problem, part, &|item| problem.is_broken(item))
        }
        other => other,
    }
}

fn search(problem: &Problem, part: &[usize], back: &dyn Fn(usize) -> bool) -> Result<Vec<u32>, Unsolved> {
    let counts: BTreeSet<usize> = part
        .iter()
        .flat_map(|item| &problem.of_item[*item])
        .copied()
        .filter(|reason| {
            let it = &problem.reasons[*reason];
            let inside = it.items().all(|item| part.binary_search(&item).is_ok());
            inside && !problem.dropped.contains(reason) && !(it.kind == Kind::Kept && back(it.item))
        })
        .collect();
    let asked = ask(problem, part.iter().copied(), &counts);
    let mut at = problem.current();
    match asked.run(DECISIONS_MAX, false) {
        Found::All(found) => found.into_iter().for_each(|(item, version)| at[item] = version),
        Found::Nothing(leaves) => return Err(Unsolved::Conflict(shortest(problem, &counts, &leaves))),
        Found::GivenUp => match asked.run(DECISIONS_MAX, true) {
            Found::All(found) => {
                found.into_iter().for_each(|(item, version)| at[item] = version);
                climb(problem, &asked, &counts, &mut at);
            }
            Found::Nothing(leaves) => return Err(Unsolved::Conflict(shortest(problem, &counts, &leaves))),
            Found::GivenUp => return Err(Unsolved::TooMany),
        },
    }
    Ok(at)
}

/// What is asked of the search: one version for each of these, by these reasons.
fn ask(problem: &Problem, items: impl Iterator<Item = usize>, counts: &BTreeSet<usize>) -> Search {
    let mut domains: BTreeMap<usize, Set> = items
        .map(|item| {
            let count = u32::try_from(problem.items[item].versions.len()).unwrap_or(u32::MAX);
            (item, Set::of(count, |_| true))
        })
        .collect();
    let mut needs: BTreeMap<usize, Vec<(Set, usize, Set)>> = BTreeMap::new();
    for reason in counts.iter().map(|reason| &problem.reasons[*reason]) {
        match &reason.while_it_is {
            Some((other, set)) => {
                needs.entry(*other).or_default().push((set.clone(), reason.item, reason.allowed.clone()));
            }
            None => {
                if let Some(domain) = domains.get_mut(&reason.item) {
                    *domain = domain.intersection(&reason.allowed);
                }
            }
        }
    }
    let mut domains: Vec<(usize, Set)> = domains.into_iter().collect();
    domains.sort_by_key(|(item, _)| problem.items[*item].rank);
    Search { domains, needs }
}

/// The few reasons of a conflict without any of which it is none. What a wish adds is left out first, so that a conflict of
/// ranges is told as one.
fn shortest(problem: &Problem, counts: &BTreeSet<usize>, leaves: &[Leaf]) -> Vec<usize> {
    let mut core = behind(problem, counts, leaves);
    let mut candidates: Vec<usize> = core.iter().copied().collect();
    let key = |reason: &usize| {
        let it = &problem.reasons[*reason];
        (&it.kind, &it.consumer, it.item, *reason)
    };
    candidates.sort_by(|a, b| key(a).cmp(&key(b)));
    // Half of them at once, then quarters, and in the end each by itself: so that a long list is soon a short one.
    let mut at_once = candidates.len().div_ceil(2);
    loop {
        for some in candidates.chunks(at_once.max(1)) {
            let without: BTreeSet<usize> = core.iter().filter(|reason| !some.contains(reason)).copied().collect();
            if without.len() == core.len() {
                continue;
            }
            let items: BTreeSet<usize> = problem.items_of(&core.iter().copied().collect::<Vec<_>>());
            match ask(problem, items.into_iter(), &without).run(SHORTER_MAX, true) {
                Found::Nothing(leaves) => core = behind(problem, &without, &leaves),
                Found::All(_) | Found::GivenUp => {}
            }
        }
        if at_once <= 1 {
            return core.into_iter().collect();
        }
        at_once = at_once.div_ceil(2);
        candidates.retain(|reason| core.contains(reason));
    }
}

/// The reasons from which these leaves follow.
fn behind(problem: &Problem, counts: &BTreeSet<usize>, leaves: &[Leaf]) -> BTreeSet<usize> {
    let mut behind = BTreeSet::new();
    for leaf in leaves {
        let reasons = problem.of_item[leaf.item].iter().filter(|reason| counts.contains(reason));
        behind.extend(reasons.filter(|reason| {
            let it = &problem.reasons[**reason];
            let same = match (&it.while_it_is, &leaf.while_it_is) {
                (None, None) => true,
                (Some((one, set)), Some((other, some))) => one == other && !set.is_disjoint(some),
                (None, Some(_)) | (Some(_), None) => false,
            };
            same && it.item == leaf.item
        }));
    }
    behind
}

/// Takes newer versions as long as one can be taken without changing another.
fn climb(problem: &Problem, asked: &Search, counts: &BTreeSet<usize>, at: &mut [u32]) {
    let mut better = true;
    while better {
        better = false;
        for (item, domain) in &asked.domains {
            let now = at[*item];
            let last = u32::try_from(problem.items[*item].versions.len()).unwrap_or(u32::MAX);
            for newer in (now + 1..last).rev().filter(|version| domain.contains(version)) {
                at[*item] = newer;
                let reasons = problem.of_item[*item].iter().filter(|reason| counts.contains(reason));
                if reasons.map(|reason| &problem.reasons[*reason]).all(|reason| reason.holds(at)) {
                    better = true;
                    break;
                }
                at[*item] = now;
            }
        }
    }
}
