//! In which order services change, one at a time, so that every range that holds at the start holds after each step.
//!
//! Most changes wait for nothing but others. Where some wait for each other, a service may go by versions between: that is
//! searched for, up to a bound. Everything is done in a fixed order: what is needed changes before those who need it, where
//! the ranges leave the choice.

use std::collections::{BTreeMap, BTreeSet};

use pubgrub::VersionSet;

use super::problem::Problem;
use super::versions::Set;

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
    /// Of each item that changes: the ranges that have to hold all the time.
    must_hold: BTreeMap<usize, Vec<usize>>,
}

/// The first move out of the present state of each item of a group, as far as there is one. What an item can do follows
/// from where it and its neighbours are, so only these are looked at again when one has moved.
struct Choices<'a> {
    group: &'a [usize],
    domains: Vec<Set>,
    /// By place in the group: the places of those that ranges connect with it.
    neighbours: Vec<Vec<usize>>,
    /// By place in the group: to which version, and how far that is from its target.
    moves: Vec<Option<(u32, u32)>>,
    /// Those that have a move: first those that get to their target by it.
    able: BTreeSet<(bool, usize)>,
}

/// The steps of one part to its target.
pub(super) fn steps(problem: &Problem, part: &[usize], target: &[u32]) -> Result<Vec<Move>, Stuck> {
    let current = problem.current();
    let mut changing: Vec<usize> = part.iter().copied().filter(|item| target[*item] != current[*item]).collect();
    let must_hold = |item: &usize| {
        let reasons = problem.of_item[*item].iter().copied().filter(|reason| problem.must_hold(*reason));
        (*item, reasons.collect())
    };
    let way = Way { problem, target, must_hold: changing.iter().map(must_hold).collect() };
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

impl<'a> Choices<'a> {
    fn new(way: &Way<'_>, group: &'a [usize], at: &mut [u32]) -> Self {
        let places: BTreeMap<usize, usize> = group.iter().enumerate().map(|(place, item)| (*item, place)).collect();
        let neighbours = group.iter().map(|item| {
            let others = way.must_hold(*item).filter_map(|reason| way.problem.reasons[reason].other(*item));
            others.filter_map(|other| places.get(&other).copied()).collect()
        });
        let mut choices = Self {
            group,
            domains: group.iter().map(|item| way.problem.domain(*item, true)).collect(),
            neighbours: neighbours.collect(),
            moves: vec![None; group.len()],
            able: BTreeSet::new(),
        };
        (0..group.len()).for_each(|place| choices.look(way, place, at));
        choices
    }

    /// The one at this place has moved.
    fn moved(&mut self, way: &Way<'_>, place: usize, at: &mut [u32]) {
        self.look(way, place, at);
        for neighbour in 0..self.neighbours[place].len() {
            self.look(way, self.neighbours[place][neighbour], at);
        }
    }

    fn look(&mut self, way: &Way<'_>, place: usize, at: &mut [u32]) {
        if let Some((_, away)) = self.moves[place].take() {
            self.able.remove(&(away > 0, place));
        }
        let item = self.group[place];
        let away = at[item].abs_diff(way.target[item]);
        let can = (0..away).find_map(|stone| Some((self.stone(way, place, stone, at)?, stone)));
        if let Some((_, away)) = can {
            self.able.insert((away > 0, place));
        }
        self.moves[place] = can;
    }

    /// The version that is so many away from the target of the one at this place, if it can go there now.
    fn stone(&self, way: &Way<'_>, place: usize, away: u32, at: &mut [u32]) -> Option<u32> {
        let item = self.group[place];
        let (from, target) = (at[item], way.target[item]);
        let stone = if from < target { target - away } else { target + away };
        let is_there = away == 0 || self.domains[place].contains(&stone);
        (is_there && way.broken_by(at, item, stone).is_none()).then_some(stone)
    }

    /// What can be done first: what gets somebody to its target, then the longest ways.
    fn first(&self, looked: &mut Looked) -> Option<(usize, u32)> {
        let Some(&(between, place)) = self.able.first() else {
            (looked.straight, looked.between) = (self.group.len(), self.group.len());
            return None;
        };
        let (to, away) = self.moves[place]?;
        match between {
            false => looked.straight = place + 1,
            true => *looked = Looked { straight: self.group.len(), between: place, stone: away },
        }
        Some((place, to))
    }

    /// What can be done next, after what was looked at.
    fn next(&self, way: &Way<'_>, at: &mut [u32], looked: &mut Looked) -> Option<(usize, u32)> {
        if looked.is_fresh() {
            return self.first(looked);
        }
        while looked.straight < self.group.len() {
            let place = looked.straight;
            looked.straight += 1;
            if let Some((to, 0)) = self.moves[place] {
                return Some((place, to));
            }
        }
        while let Some(&item) = self.group.get(looked.between) {
            let place = looked.between;
            looked.stone += 1;
            if looked.stone >= at[item].abs_diff(way.target[item]) {
                (looked.between, looked.stone) = (place + 1, 0);
                continue;
            }
            if let Some(to) = self.stone(way, place, looked.stone, at) {
                return Some((place, to));
            }
        }
        None
    }
}

impl Looked {
    fn is_fresh(&self) -> bool {
        matches!(self, Self { straight: 0, between: 0, stone: 0 })
    }
}

impl Way<'_> {
    fn must_hold(&self, item: usize) -> impl Iterator<Item = usize> {
        self.must_hold.get(&item).into_iter().flatten().copied()
    }

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
                for reason in self.must_hold(item) {
                    let other = self.problem.reasons[reason].other(item).filter(|other| left.remove(other));
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
        let broken = self.must_hold(item).find(|reason| !self.problem.reasons[*reason].holds(at));
        at[item] = now;
        broken
    }

    /// Depth first, each item only ever nearer to its target, and no state twice.
    fn by_stones(&self, group: &[usize], start: &[u32], given_up: &mut bool) -> Option<Vec<Move>> {
        let position = |at: &[u32]| -> Vec<u32> { group.iter().map(|item| at[*item]).collect() };
        let mut at = start.to_vec();
        let mut choices = Choices::new(self, group, &mut at);
        let mut left = group.iter().filter(|item| at[**item] != self.target[**item]).count();
        let mut seen = BTreeSet::from([position(&at)]);
        let mut taken: Vec<(usize, Move)> = Vec::new();
        let mut open = vec![Looked::default()];
        while let Some(looked) = open.last_mut() {
            if left == 0 {
                return Some(taken.into_iter().map(|(_, taken)| taken).collect());
            }
            let Some((place, to)) = choices.next(self, &mut at, looked) else {
                open.pop();
                if let Some((place, (item, from, to))) = taken.pop() {
                    left += usize::from(to == self.target[item]);
                    at[item] = from;
                    choices.moved(self, place, &mut at);
                }
                continue;
            };
            let item = group[place];
            let from = std::mem::replace(&mut at[item], to);
            if !seen.insert(position(&at)) {
                at[item] = from;
                continue;
            }
            if seen.len() > STATES_MAX {
                *given_up = true;
                return None;
            }
            left -= usize::from(to == self.target[item]);
            choices.moved(self, place, &mut at);
            taken.push((place, (item, from, to)));
            open.push(Looked::default());
        }
        None
    }

    /// The same without the stones that nobody needs.
    fn shortened(&self, mut steps: Vec<Move>, start: &[u32]) -> Vec<Move> {
        let mut at = start.to_vec();
        let mut place = 0;
        while let Some(&(item, from, to)) = steps.get(place) {
            let next = steps[place + 1..].iter().position(|(other, ..)| *other == item);
            match next.map(|next| place + 1 + next) {
                Some(next) if self.can_stay(item, &steps[place + 1..next], &mut at) => {
                    steps[next].1 = from;
                    steps.remove(place);
                }
                Some(_) | None => {
                    at[item] = to;
                    place += 1;
                }
            }
        }
        steps
    }

    /// Whether the item may be where it is while the others make these steps, each of which is right if it is not. Only
    /// what connects it to them can be broken by it.
    fn can_stay(&self, item: usize, steps: &[Move], at: &mut [u32]) -> bool {
        let reasons: Vec<_> = self.must_hold(item).map(|reason| &self.problem.reasons[reason]).collect();
        let others: BTreeSet<usize> = reasons.iter().filter_map(|reason| reason.other(item)).collect();
        let mut moved = Vec::new();
        let can = steps.iter().filter(|(other, ..)| others.contains(other)).all(|&(other, _, to)| {
            moved.push((other, std::mem::replace(&mut at[other], to)));
            reasons.iter().filter(|reason| reason.other(item) == Some(other)).all(|reason| reason.holds(at))
        });
        moved.into_iter().rev().for_each(|(other, from)| at[other] = from);
        can
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
