//! What says that a service may not be of any version: the ranges that people and providers have written, and what is
//! wished of an upgrade.

use std::collections::BTreeSet;

use ostler_model::ids::{OfferingName, ServiceName};
use ostler_model::version::{Version, VersionRange};
use pubgrub::VersionSet;

use super::problem::Item;
use super::versions::Set;

/// One reason. It is about the versions of one item; where it says so, only while another one is of some version.
#[derive(Clone, Debug)]
pub(super) struct Reason {
    /// What says it.
    pub(super) kind: Kind,
    /// Who says it, where that is another service: a consumer.
    pub(super) consumer: Option<ServiceName>,
    /// The consumer as an item, and while it is of which versions this counts; `None`: always.
    pub(super) while_it_is: Option<(usize, Set)>,
    /// Whose versions it is about.
    pub(super) item: usize,
    /// Which of them will do.
    pub(super) allowed: Set,
}

/// What says it. In this order it is left out of an explanation that holds without it: what a wish adds first.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Kind {
    /// It does not go back to an older version.
    Kept,
    /// Its data is of this series of versions.
    Series,
    /// These were tried and taken back.
    Rejected(BTreeSet<Version>),
    /// Nobody asked for it to change.
    NotAsked,
    /// It is in a conflict.
    Held,
    /// The consumer's offering says what it works with.
    Accepts {
        /// Which of its versions.
        versions: String,
        /// The consumer's offering.
        by: OfferingName,
        /// The range.
        range: String,
    },
    /// A contract of the consumer's.
    Contract {
        /// What it is called, where a person gave it a name.
        name: Option<String>,
        /// The range.
        range: String,
    },
    /// The estate file says so of the service.
    Declared(String),
}

impl Kind {
    /// Whether it is a range, which has to hold all the time, and not only a wish.
    pub(super) fn is_range(&self) -> bool {
        match self {
            Self::Kept | Self::Series | Self::Rejected(_) | Self::NotAsked | Self::Held => false,
            Self::Accepts { .. } | Self::Contract { .. } | Self::Declared(_) => true,
        }
    }
}

impl Reason {
    /// Whether it holds with these versions.
    pub(super) fn holds(&self, at: &[u32]) -> bool {
        self.holds_with(|item| at[item])
    }

    /// Whether it holds with the versions in use.
    pub(super) fn holds_now(&self, items: &[Item]) -> bool {
        self.holds_with(|item| items[item].current)
    }

    fn holds_with(&self, at: impl Fn(usize) -> u32) -> bool {
        let counts = self.while_it_is.as_ref().is_none_or(|(other, set)| set.contains(&at(*other)));
        !counts || self.allowed.contains(&at(self.item))
    }

    /// The items that it is about.
    pub(super) fn items(&self) -> impl Iterator<Item = usize> {
        [Some(self.item), self.while_it_is.as_ref().map(|(other, _)| *other)].into_iter().flatten()
    }

    /// The item at its other end.
    pub(super) fn other(&self, item: usize) -> Option<usize> {
        self.items().find(|other| *other != item)
    }
}

/// The places of the versions that are in the range. Where it is any, this includes what is not finished.
pub(super) fn within(range: &VersionRange, versions: &[Version]) -> Set {
    let count = u32::try_from(versions.len()).unwrap_or(u32::MAX);
    Set::of(count, |place| range.is_any() || versions.get(place as usize).is_some_and(|v| range.contains(v)))
}
