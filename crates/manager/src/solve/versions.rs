//! Sets of a service's versions, and the search itself, which is the crate `pubgrub`'s.
//!
//! Versions are numbers here: places in the sorted list of those that there are. So a set is right whatever rules a range
//! follows (unfinished versions, products that do not number by semantic versioning), and the search never weighs a
//! version that does not exist.

use std::cell::Cell;
use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;

use pubgrub::{
    Dependencies, DependencyProvider, DerivationTree, External, PackageResolutionStatistics, PubGrubError, Ranges,
    VersionSet, resolve,
};

/// Some of a service's versions, by their places. Always made of ranges that hold their first place and not their end, so
/// that equal sets are equal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Set(Ranges<u32>);

impl Set {
    /// Those of `count` versions for which this is so.
    pub(super) fn of(count: u32, is_in: impl Fn(u32) -> bool) -> Self {
        let mut ranges = Ranges::empty();
        let mut begin = None;
        for place in 0..=count {
            match (begin, place < count && is_in(place)) {
                (None, true) => begin = Some(place),
                (Some(first), false) => {
                    ranges = ranges.union(&Ranges::between(first, place));
                    begin = None;
                }
                (None, false) | (Some(_), true) => {}
            }
        }
        Self(ranges)
    }

    /// The newest; `None` if there is none.
    pub(super) fn newest(&self) -> Option<u32> {
        let (_, end) = self.0.bounding_range()?;
        match end {
            std::ops::Bound::Excluded(end) => end.checked_sub(1),
            std::ops::Bound::Included(last) => Some(*last),
            std::ops::Bound::Unbounded => None,
        }
    }
}

impl VersionSet for Set {
    type V = u32;

    fn empty() -> Self {
        Self(Ranges::empty())
    }

    fn singleton(version: u32) -> Self {
        Self(Ranges::between(version, version.saturating_add(1)))
    }

    fn complement(&self) -> Self {
        Self(self.0.complement())
    }

    fn intersection(&self, other: &Self) -> Self {
        Self(self.0.intersection(&other.0))
    }

    fn contains(&self, version: &u32) -> bool {
        self.0.contains(version)
    }

    fn full() -> Self {
        Self(Ranges::full())
    }

    fn union(&self, other: &Self) -> Self {
        Self(self.0.union(&other.0))
    }

    fn is_disjoint(&self, other: &Self) -> bool {
        self.0.is_disjoint(&other.0)
    }

    fn subset_of(&self, other: &Self) -> bool {
        self.0.subset_of(&other.0)
    }
}

impl fmt::Display for Set {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// What is searched for: one version of each item.
pub(super) struct Search {
    /// The items with what they may be, the one that is decided first at the front.
    pub(super) domains: Vec<(usize, Set)>,
    /// By item: while it is one of these versions, the other is one of those.
    pub(super) needs: BTreeMap<usize, Vec<(Set, usize, Set)>>,
}

/// What a search ended with.
pub(super) enum Found {
    /// The version of each item. With a fixed order of decisions there is no better one: whoever decides before others has
    /// the newest version with which there is any solution.
    All(BTreeMap<usize, u32>),
    /// None; and this is what contradicts itself.
    Nothing(Vec<Leaf>),
    /// It was given up.
    GivenUp,
}

/// One of the things of which a contradiction consists: what an item needs of another while it is one of these versions,
/// or what is said of an item alone.
pub(super) struct Leaf {
    pub(super) while_it_is: Option<(usize, Set)>,
    pub(super) item: usize,
}

impl Search {
    /// Searches. `learning` puts those first that were in conflicts, which finds something sooner, and not always the best.
    pub(super) fn run(&self, decisions_max: u32, learning: bool) -> Found {
        let asked = Asked {
            search: self,
            ranks: (0..).zip(&self.domains).map(|(rank, (item, _))| (*item, rank)).collect(),
            left: Cell::new(decisions_max),
            learning,
        };
        match resolve(&asked, Package::All, 0_u32) {
            Ok(found) => Found::All(
                found
                    .into_iter()
                    .filter_map(|(package, version)| match package {
                        Package::All => None,
                        Package::Item(item) => Some((item, version)),
                    })
                    .collect(),
            ),
            Err(PubGrubError::NoSolution(tree)) => Found::Nothing(leaves(tree)),
            Err(
                PubGrubError::ErrorInShouldCancel(_)
                | PubGrubError::ErrorChoosingVersion { .. }
                | PubGrubError::ErrorRetrievingDependencies { .. },
            ) => Found::GivenUp,
        }
    }
}

/// What is at the ends of the tree of reasons. What is shared is looked at once, and no deep tree is a deep recursion.
fn leaves(tree: DerivationTree<Package, Set, String>) -> Vec<Leaf> {
    let mut leaves = Vec::new();
    let mut seen = BTreeSet::new();
    let mut waiting = vec![Arc::new(tree)];
    while let Some(tree) = waiting.pop() {
        match tree.as_ref() {
            DerivationTree::External(External::FromDependencyOf(one, set, Package::Item(item), _)) => {
                let while_it_is = match one {
                    Package::All => None,
                    Package::Item(other) => Some((*other, set.clone())),
                };
                leaves.push(Leaf { while_it_is, item: *item });
            }
            // Nothing needs everything, what is needed is always offered, and nothing else was said.
            DerivationTree::External(
                External::FromDependencyOf(_, _, Package::All, _)
                | External::NotRoot(..)
                | External::NoVersions(..)
                | External::Custom(..),
            ) => {}
            DerivationTree::Derived(derived) => {
                for cause in [&derived.cause1, &derived.cause2] {
                    if seen.insert(Arc::as_ptr(cause)) {
                        waiting.push(cause.clone());
                    }
                }
            }
        }
    }
    leaves
}

/// In `pubgrub`'s words: what everything needs, or one item.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
enum Package {
    All,
    Item(usize),
}

impl fmt::Display for Package {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::All => f.write_str("all"),
            Self::Item(item) => item.fmt(f),
        }
    }
}

/// There were too many decisions.
#[derive(Debug, thiserror::Error)]
#[error("too many decisions")]
struct TooMany;

struct Asked<'a> {
    search: &'a Search,
    ranks: BTreeMap<usize, u32>,
    left: Cell<u32>,
    learning: bool,
}

impl DependencyProvider for Asked<'_> {
    type P = Package;
    type V = u32;
    type VS = Set;
    type Priority = (u32, Reverse<u32>);
    type M = String;
    type Err = TooMany;

    fn prioritize(&self, package: &Package, _: &Set, conflicts: &PackageResolutionStatistics) -> Self::Priority {
        let rank = match package {
            Package::All => 0,
            Package::Item(item) => self.ranks.get(item).map_or(u32::MAX, |rank| rank + 1),
        };
        (if self.learning { conflicts.conflict_count() } else { 0 }, Reverse(rank))
    }

    fn choose_version(&self, package: &Package, range: &Set) -> Result<Option<u32>, TooMany> {
        Ok(match package {
            Package::All => Some(0),
            Package::Item(_) => range.newest(),
        })
    }

    fn get_dependencies(
        &self,
        package: &Package,
        version: &u32,
    ) -> Result<Dependencies<Package, Set, String>, TooMany> {
        let mut needs: BTreeMap<usize, Set> = BTreeMap::new();
        match package {
            Package::All => needs.extend(self.search.domains.iter().cloned()),
            Package::Item(item) => {
                for (while_it_is, other, allowed) in self.search.needs.get(item).into_iter().flatten() {
                    if while_it_is.contains(version) {
                        let all = needs.entry(*other).or_insert_with(Set::full);
                        *all = all.intersection(allowed);
                    }
                }
            }
        }
        Ok(Dependencies::Available(needs.into_iter().map(|(item, set)| (Package::Item(item), set)).collect()))
    }

    fn should_cancel(&self) -> Result<(), TooMany> {
        self.left.set(self.left.get().checked_sub(1).ok_or(TooMany)?);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sets_are_what_they_are_made_of() {
        let odd = Set::of(6, |place| place % 2 == 1);
        assert_eq!(odd.newest(), Some(5));
        assert!(odd.contains(&3) && !odd.contains(&4));
        let even = Set::of(6, |place| place % 2 == 0);
        assert_eq!(odd.union(&even), Set::of(6, |_| true));
        assert_eq!(odd.intersection(&even), Set::empty());
        assert_eq!(odd.complement().complement(), odd);
        assert_eq!(Set::singleton(3), Set::of(6, |place| place == 3));
        // What lies between two neighbours is nothing.
        let between = Set::singleton(2).complement().intersection(&Set::of(6, |place| (2..4).contains(&place)));
        assert_eq!(between.intersection(&Set::singleton(3).complement()), Set::empty());
        assert_eq!(Set::of(0, |_| true).newest(), None);
    }

    #[test]
    fn what_takes_too_long_is_given_up() {
        let search = Search { domains: vec![(0, Set::of(2, |_| true))], needs: BTreeMap::new() };
        assert!(matches!(search.run(1, false), Found::GivenUp));
        assert!(matches!(search.run(10, false), Found::All(found) if found == BTreeMap::from([(0, 1)])));
    }
}
