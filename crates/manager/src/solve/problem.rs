//! What is known, offered, declared and wished, as items with their versions and as reasons.
//!
//! Invariant: the version in use is always among an item's versions, and every wish allows it. Of what is not there yet the
//! version that would be bought, were it alone, stands for the one in use.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use ostler_model::catalog::{Catalog, Offering, Placement};
use ostler_model::estate::{Estate, Service};
use ostler_model::ids::{OfferingName, ProviderName, ServiceName};
use ostler_model::version::{Version, VersionRange};
use pubgrub::VersionSet;

use super::reason::{Kind, Reason, within};
use super::versions::Set;
use super::{Wish, same_series};
use crate::knowledge::{Knowledge, Origin, ServiceKnowledge};

/// A service whose version can be chosen.
pub(super) struct Item {
    pub(super) name: ServiceName,
    /// What it was bought as.
    pub(super) offering: OfferingName,
    /// Those that are offered and the one in use, oldest first.
    pub(super) versions: Vec<Version>,
    /// The one in use, or that would be bought, were it alone.
    pub(super) current: u32,
    /// It is not there yet: nothing is in use, and nothing has to stay.
    pub(super) fresh: bool,
    /// The newest that is offered, without what is not finished unless there is nothing else.
    pub(super) newest: u32,
    /// Whether it was asked to change.
    pub(super) asked: bool,
    /// Who decides first: consumers before what they need.
    pub(super) rank: usize,
    /// Who changes first, where that is free: what is needed before its consumers.
    pub(super) turn: usize,
}

/// All of it.
pub(super) struct Problem {
    /// By name.
    pub(super) items: Vec<Item>,
    pub(super) reasons: Vec<Reason>,
    /// By item: the reasons that it is in.
    pub(super) of_item: Vec<Vec<usize>>,
    /// Ranges that are broken now and stay so, because they are in a conflict.
    pub(super) dropped: BTreeSet<usize>,
    /// It is asked what to buy, and not what to upgrade.
    pub(super) buys: bool,
}

/// A service that is bought, by what is known and declared.
struct Bought<'a> {
    spec: &'a Service,
    fresh: bool,
    placement: Option<&'a Placement>,
    offering: Option<&'a Offering>,
    /// The versions of it that can be had.
    offered: &'a [Version],
}

impl Problem {
    pub(super) fn new(
        known: &Knowledge,
        estate: &Estate,
        catalogs: &BTreeMap<ProviderName, Arc<Catalog>>,
        wish: &Wish,
        fresh: &BTreeMap<ServiceName, Placement>,
    ) -> Self {
        let all = bought(known, estate, catalogs, fresh);
        let mut items: Vec<Item> = all.values().filter_map(|bought| item(bought, wish)).collect();
        let places: BTreeMap<ServiceName, usize> =
            items.iter().enumerate().map(|(place, item)| (item.name.clone(), place)).collect();
        let needs: Vec<Vec<usize>> = items
            .iter()
            .map(|item| all[&item.name].spec.needs.iter().filter_map(|need| places.get(need).copied()).collect())
            .collect();
        for (rank, place) in in_order(&needs).into_iter().enumerate() {
            items[place].rank = rank;
        }
        for (turn, place) in in_order(&reversed(&needs)).into_iter().enumerate() {
            items[place].turn = turn;
        }
        let mut reasons = Vec::new();
        for (place, item) in items.iter().enumerate() {
            let bought = &all[&item.name];
            if item.fresh {
                continue;
            }
            let durable = bought.spec.data.durable.unwrap_or_else(|| bought.offering.is_some_and(|o| o.durable));
            wishes(item, place, durable, wish, &mut reasons);
        }
        for bought in all.values() {
            ranges(bought, &items, &places, &mut reasons);
        }
        let mut of_item = vec![Vec::new(); items.len()];
        for (number, reason) in reasons.iter().enumerate() {
            reason.items().for_each(|item| of_item[item].push(number));
        }
        let mut problem = Self { items, reasons, of_item, dropped: BTreeSet::new(), buys: !fresh.is_empty() };
        problem.leave_out_others(wish, fresh);
        problem
    }

    /// What is broken among those that nobody asked for is not what was asked about.
    fn leave_out_others(&mut self, wish: &Wish, fresh: &BTreeMap<ServiceName, Placement>) {
        let Some(only) = &wish.only else { return };
        // Of what is bought this is asked, and not of what else the estate file wants changed.
        let is_meant =
            |name: &ServiceName| if fresh.is_empty() { only.contains(name) } else { fresh.contains_key(name) };
        let is_asked = |reason: &Reason| {
            reason.items().any(|item| is_meant(&self.items[item].name))
                || reason.consumer.as_ref().is_some_and(is_meant)
        };
        let others = (0..self.reasons.len()).filter(|number| {
            let reason = &self.reasons[*number];
            reason.kind.is_range() && !reason.holds_now(&self.items) && !is_asked(reason)
        });
        self.dropped = others.collect();
    }

    /// Where everything is now.
    pub(super) fn current(&self) -> Vec<u32> {
        self.items.iter().map(|item| item.current).collect()
    }

    /// Whether it counts, and is a range that holds now.
    pub(super) fn must_hold(&self, reason: usize) -> bool {
        let it = &self.reasons[reason];
        it.kind.is_range() && !self.dropped.contains(&reason) && it.holds_now(&self.items)
    }

    /// Whether some range of the item is broken now: it may go back, if there is no other way.
    pub(super) fn is_broken(&self, item: usize) -> bool {
        self.of_item[item].iter().any(|reason| {
            let it = &self.reasons[*reason];
            it.kind.is_range() && !self.dropped.contains(reason) && !it.holds_now(&self.items)
        })
    }

    /// What the item may be by what is said of it alone. `back`: also older than it is.
    pub(super) fn domain(&self, item: usize, back: bool) -> Set {
        let count = u32::try_from(self.items[item].versions.len()).unwrap_or(u32::MAX);
        let mut domain = Set::of(count, |_| true);
        for reason in &self.of_item[item] {
            let it = &self.reasons[*reason];
            let counts = it.while_it_is.is_none() && !self.dropped.contains(reason);
            if counts && !(back && it.kind == Kind::Kept) {
                domain = domain.intersection(&it.allowed);
            }
        }
        domain
    }

    /// Parts that can have no solution, whatever becomes of the rest: what can be nothing at all, and pairs that cannot
    /// change and break a range.
    pub(super) fn hopeless(&self) -> Vec<Vec<usize>> {
        let (domains, current) = (self.domains(), self.current());
        let alone = (0..self.items.len()).filter(|item| domains[*item] == Set::empty()).map(|item| vec![item]);
        let fixed = |item: usize| domains[item] == Set::singleton(current[item]);
        let pairs = self.reasons.iter().filter(|reason| {
            reason.while_it_is.is_some() && !reason.holds_now(&self.items) && reason.items().all(fixed)
        });
        let mut parts: Vec<Vec<usize>> = alone.chain(pairs.map(|reason| reason.items().collect())).collect();
        parts.iter_mut().for_each(|part| part.sort_unstable());
        parts.sort();
        parts.dedup();
        parts
    }

    /// The parts that can be solved each by itself, in the order of their first names: services that ranges connect, with
    /// those at their rim that cannot change.
    pub(super) fn parts(&self) -> Vec<Vec<usize>> {
        let (domains, current) = (self.domains(), self.current());
        let fixed: Vec<bool> =
            (0..self.items.len()).map(|item| domains[item] == Set::singleton(current[item])).collect();
        let mut parts = Vec::new();
        let mut seen = fixed.clone();
        for first in 0..self.items.len() {
            if std::mem::replace(&mut seen[first], true) {
                continue;
            }
            let (mut part, mut waiting) = (BTreeSet::from([first]), vec![first]);
            while let Some(item) = waiting.pop() {
                for other in self.of_item[item].iter().filter_map(|reason| self.reasons[*reason].other(item)) {
                    part.insert(other);
                    if !std::mem::replace(&mut seen[other], true) {
                        waiting.push(other);
                    }
                }
            }
            parts.push(part.into_iter().collect());
        }
        parts
    }

    fn domains(&self) -> Vec<Set> {
        (0..self.items.len()).map(|item| self.domain(item, self.is_broken(item))).collect()
    }

    /// These stay as they are from here on, and what of the reasons is broken now stays broken.
    pub(super) fn set_aside(&mut self, items: &BTreeSet<usize>, reasons: &[usize]) {
        let are_broken = reasons.iter().filter(|reason| !self.reasons[**reason].holds_now(&self.items));
        let are_broken: Vec<usize> = are_broken.copied().collect();
        self.dropped.extend(are_broken);
        for &item in items {
            self.of_item[item].push(self.reasons.len());
            self.reasons.push(Reason {
                kind: Kind::Held,
                consumer: None,
                while_it_is: None,
                item,
                allowed: Set::singleton(self.items[item].current),
            });
        }
    }

    /// The items that these reasons are about.
    pub(super) fn items_of(&self, reasons: &[usize]) -> BTreeSet<usize> {
        reasons.iter().flat_map(|reason| self.reasons[*reason].items()).collect()
    }

    /// All services that these reasons name.
    pub(super) fn named(&self, reasons: &[usize]) -> Vec<ServiceName> {
        let items = self.items_of(reasons).into_iter().map(|item| self.items[item].name.clone());
        let consumers = reasons.iter().filter_map(|reason| self.reasons[*reason].consumer.clone());
        items.chain(consumers).collect::<BTreeSet<_>>().into_iter().collect()
    }

    pub(super) fn names(&self, items: &BTreeSet<usize>) -> Vec<ServiceName> {
        items.iter().map(|item| self.items[*item].name.clone()).collect()
    }
}

/// Every service that is to be there, also what was sold; with what its provider says of what it was bought as.
fn bought<'a>(
    known: &'a Knowledge,
    estate: &'a Estate,
    catalogs: &'a BTreeMap<ProviderName, Arc<Catalog>>,
    fresh: &'a BTreeMap<ServiceName, Placement>,
) -> BTreeMap<&'a ServiceName, Bought<'a>> {
    let declared = estate.services.values().map(|spec| (known.services.get(&spec.name), spec));
    let sold = known.services.values().filter(|service| {
        let is_sold = matches!(service.origin, Origin::Sold { .. });
        is_sold && service.declared && !estate.services.contains_key(&service.spec.name)
    });
    let sold = sold.map(|service| (Some(service), &service.spec));
    let placement_of = |service: Option<&'a Box<ServiceKnowledge>>| service.and_then(|s| s.placement.as_ref());
    let all = declared.chain(sold).map(|(service, spec)| {
        let to_be = fresh.get(&spec.name);
        let placement = to_be.or_else(|| placement_of(service));
        let sold = placement.and_then(|placement| {
            let catalog = catalogs.get(&placement.provider).or_else(|| known.catalogs.get(&placement.provider))?;
            let offering = catalog.offerings.get(&placement.offering)?;
            let plan = offering.plans.iter().find(|plan| plan.name == placement.plan);
            let plan = plan.filter(|plan| !plan.withdrawn && !offering.withdrawn);
            Some((offering, plan.map_or(&[][..], |plan| catalog.versions_for(&spec.name, offering, plan))))
        });
        let (offering, offered) = (sold.map(|(offering, _)| offering), sold.map_or(&[][..], |(_, offered)| offered));
        (&spec.name, Bought { spec: spec.as_ref(), fresh: to_be.is_some(), placement, offering, offered })
    });
    all.collect()
}

/// `None` where no version is known of it.
fn item(bought: &Bought<'_>, wish: &Wish) -> Option<Item> {
    let placement = bought.placement?;
    let in_use = placement.version.clone()?;
    let offered = bought.offered;
    let all: BTreeSet<&Version> = offered.iter().chain([&in_use]).collect();
    let versions: Vec<Version> = all.into_iter().cloned().collect();
    let place_of = |wanted: &Version| versions.iter().position(|version| version == wanted).unwrap_or_default();
    let finished = offered.iter().filter(|version| VersionRange::any().contains(version)).max();
    let newest = place_of(finished.or_else(|| offered.iter().max()).unwrap_or(&in_use));
    let current = place_of(&in_use);
    Some(Item {
        name: bought.spec.name.clone(),
        offering: placement.offering.clone(),
        current: u32::try_from(current).ok()?,
        newest: u32::try_from(newest).ok()?,
        fresh: bought.fresh,
        asked: wish.only.as_ref().is_none_or(|only| only.contains(&bought.spec.name)),
        rank: 0,
        turn: 0,
        versions,
    })
}

/// The items so that each comes before those that it points at, and by name where that leaves a choice.
fn in_order(points_at: &[Vec<usize>]) -> Vec<usize> {
    let mut pointed_at = vec![0_usize; points_at.len()];
    points_at.iter().flatten().for_each(|other| pointed_at[*other] += 1);
    let mut ready: BTreeSet<usize> = (0..points_at.len()).filter(|item| pointed_at[*item] == 0).collect();
    let mut order = Vec::with_capacity(points_at.len());
    while let Some(item) = ready.pop_first() {
        order.push(item);
        for other in &points_at[item] {
            pointed_at[*other] -= 1;
            if pointed_at[*other] == 0 {
                ready.insert(*other);
            }
        }
    }
    // An estate has no circle of needs; if one was made by hand, its members come last.
    order.extend((0..points_at.len()).filter(|item| pointed_at[*item] > 0));
    order
}

fn reversed(points_at: &[Vec<usize>]) -> Vec<Vec<usize>> {
    let mut reversed = vec![Vec::new(); points_at.len()];
    for (item, others) in points_at.iter().enumerate() {
        others.iter().for_each(|other| reversed[*other].push(item));
    }
    reversed
}

/// What is wished of one service. All of it allows the version in use.
fn wishes(item: &Item, place: usize, durable: bool, wish: &Wish, reasons: &mut Vec<Reason>) {
    let count = u32::try_from(item.versions.len()).unwrap_or(u32::MAX);
    let in_use = &item.versions[item.current as usize];
    let mut say = |kind, is_allowed: &dyn Fn(&Version) -> bool| {
        let allowed = Set::of(count, |place| place == item.current || is_allowed(&item.versions[place as usize]));
        reasons.push(Reason { kind, consumer: None, while_it_is: None, item: place, allowed });
    };
    say(Kind::Kept, &|version| version >= in_use);
    if !item.asked {
        say(Kind::NotAsked, &|_| false);
    }
    if durable && !wish.major {
        say(Kind::Series, &|version| same_series(version, in_use));
    }
    if let Some(rejected) = wish.rejected.get(&item.name).filter(|rejected| !rejected.is_empty()) {
        say(Kind::Rejected(rejected.clone()), &|version| !rejected.contains(version));
    }
}

/// What is said of versions in and about one service.
fn ranges(bought: &Bought<'_>, items: &[Item], places: &BTreeMap<ServiceName, usize>, reasons: &mut Vec<Reason>) {
    let spec = bought.spec;
    let own = places.get(&spec.name).copied();
    if let Some(place) = own {
        let item = &items[place];
        let allowed = if spec.version.is_any() {
            // Without a range nothing unfinished is chosen, and what is in use is right.
            let count = u32::try_from(item.versions.len()).unwrap_or(u32::MAX);
            Set::of(count, |p| p == item.current || spec.version.contains(&item.versions[p as usize]))
        } else {
            within(&spec.version, &item.versions)
        };
        let kind = Kind::Declared(spec.version.to_string());
        reasons.push(Reason { kind, consumer: None, while_it_is: None, item: place, allowed });
    }
    let mut said = BTreeMap::new();
    let needs = || spec.needs.iter().filter_map(|need| Some((*places.get(need)?, need)));
    for contract in &spec.contracts {
        let (Some(range), Some(&need)) = (&contract.version, places.get(&contract.need)) else { continue };
        let name = (contract.name != format!("version {range}")).then(|| contract.name.clone());
        let kind = Kind::Contract { name, range: range.to_string() };
        said.insert((need, kind), (None, within(range, &items[need].versions)));
    }
    let accepts = bought.offering.into_iter().flat_map(|offering| &offering.accepts);
    for accepts in accepts {
        let while_it_is = match own {
            Some(place) => Some((place, within(&accepts.versions, &items[place].versions))),
            None if accepts.versions.is_any() => None,
            None => continue, // nobody knows whether it is one of these
        };
        for (need, _) in needs().filter(|(need, _)| items[*need].offering == accepts.offering) {
            let kind = Kind::Accepts {
                versions: accepts.versions.to_string(),
                by: bought.offering.map(|offering| offering.name.clone()).unwrap_or(accepts.offering.clone()),
                range: accepts.range.to_string(),
            };
            said.insert((need, kind), (while_it_is.clone(), within(&accepts.range, &items[need].versions)));
        }
    }
    for ((item, kind), (while_it_is, allowed)) in said {
        reasons.push(Reason { kind, consumer: Some(spec.name.clone()), while_it_is, item, allowed });
    }
}
