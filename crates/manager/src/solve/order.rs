//! In which order services change, one at a time, so that every range that holds at the start holds after each step.
//!
//! Most changes wait for nothing but others. Where some wait for each other, a service may go by versions between: that is
//! searched for, up to a bound. Everything is done in a fixed order: what is needed changes before those who need it, where
//! the ranges leave the choice.

use std::collections::{BTreeMap, BTreeSet};

use pubgrub::VersionSet;

use super::problem::Problem;

/// So many states are looked at where services wait for each other.
const STATES_MAX: usize = 20_000;

/// From where to where an item goes.
pub(super) type Move = (usize, u32, u32);

/// Services of which none can change first.
pub(super) struct Stuck {
    /// Each waits for the next, and the last for the first.
    pub(super) circle: Vec<Link>,
    /// The search was given up before every way was tried.
    pub(super) given_up: bool,
}

/// One that waits.
pub(super) struct Link {
    /// Who.
    pub(super) item: usize,
    /// What would be broken.
    pub(super) reason: usize,
    /// For whom.
    pub(super) waits_for: usize,
}

/// How far the moves out of one state were looked at.
#[derive(Default)]
struct Looked {
    /// So many of the group were asked whether they can go straight to their targets.
    straight: usize,
    /// So many were asked for every version between.
    between: usize,
    /// Of the next one so many versions, counted from its target.
    stone: u32,
}

struct Way<'a> {
    problem: &'a Problem,
    target: &'a [u32],
}

/// The steps of one part to its target.
pub(super) fn steps(problem: &Problem, part: &[usize], target: &[u32]) -> Result<Vec<Move>, Stuck> {
    let current = problem.current();
    let way = Way { problem, target };
    let mut changing: Vec<usize> = part.iter().copied().filter(|item| target[*item] != current[*item]).collect();
    changing.sort_by_key(|item| problem.items[*item].turn);
    let mut all = Vec::new();
    for group in way.groups(&changing) {
        all.push(way.steps_of(&group, &current)?);
    }
    Ok(merged(problem, all))
}

/// Steps that have nothing to do with each other as one list: whose turn comes first goes on.
pub(super) fn merged(problem: &Problem, lists: Vec<Vec<Move>>) -> Vec<Move> {
    let mut lists: Vec<_> = lists.into_iter().map(|list| list.into_iter().peekable()).collect();
    let mut heads = BTreeSet::new();
    let turn = |head: Option<&Move>| head.map(|(item, ..)| problem.items[*item].turn);
    for (place, list) in lists.iter_mut().enumerate() {
        heads.extend(turn(list.peek()).map(|turn| (turn, place)));
    }
    let mut all = Vec::new();
    while let Some((_, place)) = heads.pop_first() {
        all.extend(lists[place].next());
        heads.extend(turn(lists[place].peek()).map(|turn| (turn, place)));
    }
    all
}

impl Way<'_> {
    /// Those that ranges connect, in their order.
    fn groups(&self, changing: &[usize]) -> Vec<Vec<usize>> {
        let mut left: BTreeSet<usize> = changing.iter().copied().collect();
        let mut groups = Vec::new();
        for first in changing {
            if !left.remove(first) {
                continue;
            }
            let (mut group, mut waiting) = (BTreeSet::from([*first]), vec![*first]);
            while let Some(item) = waiting.pop() {
                for reason in self.problem.of_item[item].iter().filter(|reason| self.problem.must_hold(**reason)) {
                    let other = self.problem.reasons[*reason].other(item).filter(|other| left.remove(other));
                    group.extend(other);
                    waiting.extend(other);
                }
            }
            groups.push(changing.iter().copied().filter(|item| group.contains(item)).collect());
        }
        groups
    }

    fn steps_of(&self, group: &[usize], current: &[u32]) -> Result<Vec<Move>, Stuck> {
        let mut at = current.to_vec();
        let mut steps = self.straight(group, &mut at);
        let stuck: Vec<usize> = group.iter().copied().filter(|item| at[*item] != self.target[*item]).collect();
        if stuck.is_empty() {
            return Ok(steps);
        }
        let mut given_up = false;
        // Those that wait for each other alone; then all that have to do with them, from the start.
        match self.by_stones(&stuck, &at, &mut given_up) {
            Some(more) => steps.extend(more),
            None => match self.by_stones(group, current, &mut given_up) {
                Some(other) => steps = other,
                None => return Err(Stuck { circle: self.circle(&stuck, &at), given_up }),
            },
        }
        Ok(self.shortened(steps, current))
    }

    /// Goes straight to the target with each that can, until none can.
    fn straight(&self, group: &[usize], at: &mut [u32]) -> Vec<Move> {
        let mut steps = Vec::new();
        loop {
            let before = steps.len();
            for item in group {
                let (from, to) = (at[*item], self.target[*item]);
                if from != to && self.broken_by(at, *item, to).is_none() {
                    at[*item] = to;
                    steps.push((*item, from, to));
                }
            }
            if steps.len() == before {
                return steps;
            }
        }
    }

    /// The first range that is broken if the item is of this version, and all others are where they are.
    fn broken_by(&self, at: &mut [u32], item: usize, version: u32) -> Option<usize> {
        let now = std::mem::replace(&mut at[item], version);
        let mut reasons = self.problem.of_item[item].iter().filter(|reason| self.problem.must_hold(**reason));
        let broken = reasons.find(|reason| !self.problem.reasons[**reason].holds(at)).copied();
        at[item] = now;
        broken
    }

    /// Depth first, each item only ever nearer to its target, and no state twice.
    fn by_stones(&self, group: &[usize], start: &[u32], given_up: &mut bool) -> Option<Vec<Move>> {
        let domains: BTreeMap<usize, _> = group.iter().map(|item| (*item, self.problem.domain(*item, true))).collect();
        let position = |at: &[u32]| -> Vec<u32> { group.iter().map(|item| at[*item]).collect() };
        let mut at = start.to_vec();
        let mut seen = BTreeSet::from([position(&at)]);
        let mut taken: Vec<Move> = Vec::new();
        let mut open = vec![Looked::default()];
        while let Some(looked) = open.last_mut() {
            if group.iter().all(|item| at[*item] == self.target[*item]) {
                return Some(taken);
            }
            let Some((item, from, to)) = self.next_move(group, &domains, &mut at, looked) else {
                open.pop();
                if let Some((item, from, _)) = taken.pop() {
                    at[item] = from;
                }
                continue;
            };
            at[item] = to;
            if !seen.insert(position(&at)) {
                at[item] = from;
                continue;
            }
            if seen.len() > STATES_MAX {
                *given_up = true;
                return None;
            }
            taken.push((item, from, to));
            open.push(Looked::default());
        }
        None
    }

    /// What can be done next, after what was looked at: what gets somebody to its target first, then the longest ways.
    fn next_move(
        &self,
        group: &[usize],
        domains: &BTreeMap<usize, super::versions::Set>,
        at: &mut [u32],
        looked: &mut Looked,
    ) -> Option<Move> {
        while let Some(&item) = group.get(looked.straight) {
            looked.straight += 1;
            let (from, target) = (at[item], self.target[item]);
            if from != target && self.broken_by(at, item, target).is_none() {
                return Some((item, from, target));
            }
        }
        while let Some(&item) = group.get(looked.between) {
            let (from, target) = (at[item], self.target[item]);
            looked.stone += 1;
            if looked.stone >= from.abs_diff(target) {
                (looked.between, looked.stone) = (looked.between + 1, 0);
                continue;
            }
            let stone = if from < target { target - looked.stone } else { target + looked.stone };
            if domains[&item].contains(&stone) && self.broken_by(at, item, stone).is_none() {
                return Some((item, from, stone));
            }
        }
        None
    }

    /// The same without the stones that nobody needs.
    fn shortened(&self, mut steps: Vec<Move>, start: &[u32]) -> Vec<Move> {
        let mut place = 0;
        while place < steps.len() {
            let (item, from, _) = steps[place];
            let next = steps[place + 1..].iter().position(|(other, ..)| *other == item);
            if let Some(next) = next {
                let mut without = steps.clone();
                without[place + 1 + next].1 = from;
                without.remove(place);
                if self.is_right(&without, start) {
                    steps = without;
                    continue;
                }
            }
            place += 1;
        }
        steps
    }

    fn is_right(&self, steps: &[Move], start: &[u32]) -> bool {
        let mut at = start.to_vec();
        steps.iter().all(|&(item, _, to)| {
            let right = self.broken_by(&mut at, item, to).is_none();
            at[item] = to;
            right
        })
    }

    /// Who waits for whom: from the first that is stuck on, until somebody comes again.
    fn circle(&self, stuck: &[usize], at: &[u32]) -> Vec<Link> {
        let mut at = at.to_vec();
        let mut chain: Vec<Link> = Vec::new();
        let mut next = stuck.iter().copied().min();
        while let Some(item) = next {
            if let Some(begin) = chain.iter().position(|link| link.item == item) {
                return chain.split_off(begin);
            }
            // It holds at the target, so the one at its other end is not there yet.
            let Some(reason) = self.broken_by(&mut at, item, self.target[item]) else { break };
            let Some(waits_for) = self.problem.reasons[reason].other(item) else { break };
            chain.push(Link { item, reason, waits_for });
            next = Some(waits_for);
        }
        chain
    }
}
