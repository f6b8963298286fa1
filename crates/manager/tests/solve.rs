//! Which versions go together and in which order to get there. Stories are in `tests/solve.txt`, each a few lines:
//!
//! - `title: …` begins one;
//! - `NAME: IN-USE of VERSION VERSION …; PART; …` is a service with what is offered of it. Parts: `as OFFERING` (by default
//!   `NAME-app`), `durable`, `withdrawn`, `needs A B`, `declared RANGE`, `relies NEED RANGE`, `accepts OWN | OFFERING | RANGE`
//!   (`OWN` may be `*`). `IN-USE` may be `-`: its offering has no versions; or `new`: it is not there yet;
//! - `wish: PART; …`: `only A B`, `major`, `rejected NAME VERSION …`;
//! - `bought: NAME VERSION, …` is in which versions those are bought that are not there yet; without it nothing is, and what
//!   is told of it is in the snapshot;
//! - `steps: NAME FROM > TO, …` and `held: A B` (one line for each conflict) are what has to follow. What is told of it is in
//!   a snapshot.
//!
//! Every story, and every estate that is made up, is also judged by rules that know nothing of how it is done.

#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers of tests, which are not pure")]

#[path = "it/support.rs"]
#[allow(dead_code, unreachable_pub)]
mod support;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::fmt::Write as _;
use std::sync::Arc;

use ostler_manager::solve::{ConflictKind, Outcome, Wish, solve};
use ostler_manager::{Instance, Knowledge, PlacementProblem, ServiceKnowledge, place};
use ostler_model::catalog::{Accepts, Catalog, Offering, Placement};
use ostler_model::estate::Estate;
use ostler_model::estate::contract::Contract;
use ostler_model::ids::{ProviderName, ServiceName};
use ostler_model::time::Timestamp;
use ostler_model::version::{Version, VersionRange};
use proptest::prelude::*;
use support::{catalog, estate, here, name, offering, service};

/// One service of a made-up estate.
#[derive(Clone, Debug, Default)]
struct One {
    called: String,
    offering: String,
    in_use: Option<Version>,
    fresh: bool,
    offered: Vec<Version>,
    durable: bool,
    withdrawn: bool,
    needs: BTreeSet<String>,
    declared: Option<VersionRange>,
    relies: Vec<(String, VersionRange)>,
    accepts: Vec<Accepts>,
}

#[derive(Clone, Debug, Default)]
struct Scene {
    all: Vec<One>,
    wish: Wish,
}

impl Scene {
    fn solve(&self) -> Outcome {
        let (known, estate, catalogs) = self.given();
        solve(&known, &estate, &catalogs, &self.wish)
    }

    /// In which versions those are bought that are not there yet, or what is told of it.
    fn buy(&self) -> Result<BTreeMap<String, Version>, Vec<PlacementProblem>> {
        let (known, estate, catalogs) = self.given();
        let placements = place(&known, &estate, &catalogs, Timestamp(0))?;
        let fresh = self.all.iter().filter(|one| one.fresh);
        Ok(fresh
            .filter_map(|one| Some((one.called.clone(), placements[&name(&one.called)].version.clone()?)))
            .collect())
    }

    /// Against everything that could be bought.
    fn compare_bought(&self) {
        let mut scene = self.clone();
        let fresh = scene.all.iter().filter(|one| one.fresh);
        scene.wish = Wish { only: Some(fresh.map(|one| name(&one.called)).collect()), major: true, ..Wish::default() };
        let (bought, best) = (scene.buy(), scene.assignments(false));
        match (bought, best.into_iter().next()) {
            (Ok(bought), Some(best)) => {
                assert!(bought.iter().all(|(called, version)| best[called] == *version), "{bought:?}, not {best:?}");
            }
            (Err(problems), None) => assert!(!problems.is_empty()),
            // What the estate file has changed anyway may make room.
            (Ok(_), None) if scene.all.iter().any(|one| one.in_use.is_some()) => {}
            (bought, best) => panic!("{bought:?}, not {best:?}"),
        }
    }

    fn given(&self) -> (Knowledge, Estate, BTreeMap<ProviderName, Arc<Catalog>>) {
        let mut known = Knowledge::default();
        let mut offerings: BTreeMap<String, Offering> = BTreeMap::new();
        let mut specs = Vec::new();
        for one in &self.all {
            let mut spec = service(&one.called, &one.offering);
            spec.needs = one.needs.iter().map(|need| name(need)).collect();
            spec.version = one.declared.clone().unwrap_or_else(VersionRange::any);
            spec.data.durable = Some(one.durable);
            spec.contracts = one
                .relies
                .iter()
                .map(|(need, range)| Contract {
                    need: name(need),
                    name: format!("version {range}"),
                    version: Some(range.clone()),
                    check: None,
                })
                .collect();
            let mut sold = offering(&one.offering, &[]);
            sold.versions = one.offered.clone();
            sold.accepts = one.accepts.clone();
            sold.withdrawn = one.withdrawn;
            offerings.entry(one.offering.clone()).or_insert(sold);
            if one.fresh {
                specs.push(spec);
                continue;
            }
            let mut knowledge = ServiceKnowledge::new(Arc::new(spec.clone()));
            knowledge.instances.insert(1, Box::new(Instance::new(Timestamp(0))));
            knowledge.placement = Some(Placement {
                provider: here(),
                offering: one.offering.parse().unwrap(),
                plan: "small".parse().unwrap(),
                version: one.in_use.clone(),
                maintenance: None,
                handle: None,
            });
            known.services.insert(spec.name.clone(), Box::new(knowledge));
            specs.push(spec);
        }
        let catalogs = BTreeMap::from([(here(), catalog(offerings.into_values().collect()))]);
        (known, estate(20, specs), catalogs)
    }

    /// Which versions it may be of, by what is wished.
    fn may_be(&self, one: &One, back: bool) -> Vec<Version> {
        if one.fresh {
            let says_nothing = one.declared.as_ref().is_none_or(VersionRange::is_any);
            let is_finished = |version: &&Version| !says_nothing || VersionRange::any().contains(version);
            let all: BTreeSet<Version> = one.offered.iter().filter(is_finished).cloned().collect();
            return all.into_iter().collect();
        }
        let Some(in_use) = &one.in_use else { return Vec::new() };
        let called = name(&one.called);
        let asked = self.wish.only.as_ref().is_none_or(|only| only.contains(&called));
        let mut all: BTreeSet<Version> = one.offered.iter().filter(|_| asked && !one.withdrawn).cloned().collect();
        all.retain(|version| {
            let rejected = self.wish.rejected.get(&called).is_some_and(|rejected| rejected.contains(version));
            let series = one.durable && !self.wish.major && version.major() != in_use.major();
            let says_nothing = one.declared.as_ref().is_none_or(VersionRange::is_any);
            let unfinished = says_nothing && !VersionRange::any().contains(version);
            !rejected && !series && !unfinished && (back || version >= in_use)
        });
        all.insert(in_use.clone());
        all.into_iter().collect()
    }

    /// Every range, and whether it holds. What is only about services that nobody asked for is always right.
    fn ranges(&self, at: &BTreeMap<String, Version>) -> Vec<bool> {
        let mut all = Vec::new();
        let asked = |one: &str| self.wish.only.as_ref().is_none_or(|only| only.contains(&name(one)));
        for one in &self.all {
            let own = at.get(&one.called);
            if let (Some(range), Some(own)) = (&one.declared, own) {
                all.push(!asked(&one.called) || fits(range, own));
            }
            let relied = one
                .relies
                .iter()
                .filter_map(|(need, range)| Some(!(asked(need) || asked(&one.called)) || fits(range, at.get(need)?)));
            all.extend(relied);
            for accepts in &one.accepts {
                let needs = self.all.iter().filter(|need| one.needs.contains(&need.called));
                for need in needs.filter(|need| need.offering == accepts.offering.as_str()) {
                    let Some(version) = at.get(&need.called) else { continue };
                    let counts = accepts.versions.is_any() || own.is_some_and(|own| accepts.versions.contains(own));
                    let counts = counts && (asked(&need.called) || asked(&one.called));
                    all.push(!counts || fits(&accepts.range, version));
                }
            }
        }
        all
    }

    fn start(&self) -> BTreeMap<String, Version> {
        self.all.iter().filter_map(|one| Some((one.called.clone(), one.in_use.clone()?))).collect()
    }

    /// What must be so of every outcome.
    fn judge(&self, outcome: &Outcome) {
        let mut at = self.start();
        let first = self.ranges(&at);
        for step in &outcome.steps {
            let now = at.insert(step.service.to_string(), step.to.clone());
            assert_eq!(now.as_ref(), Some(&step.from), "{step:?}");
            assert_ne!(step.from, step.to);
            let one = self.all.iter().find(|one| one.called == step.service.as_str()).unwrap();
            assert!(self.may_be(one, true).contains(&step.to), "{step:?} is not wished");
            let broken = first.iter().zip(self.ranges(&at)).any(|(before, now)| *before && !now);
            assert!(!broken, "{step:?} breaks what held");
        }
        for conflict in &outcome.conflicts {
            assert!(!conflict.held.is_empty() && conflict.explanation.contains("\n\n"));
            for held in &conflict.held {
                assert!(outcome.steps.iter().all(|step| step.service != *held), "{held} is held and changed");
                assert!(conflict.services.contains(held));
            }
        }
        if outcome.conflicts.is_empty() {
            assert!(self.ranges(&at).iter().all(|holds| *holds), "a range is broken, and nobody says so");
        }
        for one in self.all.iter().filter(|one| !one.withdrawn) {
            let asked = self.wish.only.as_ref().is_none_or(|only| only.contains(&name(&one.called)));
            let finished = one.offered.iter().filter(|version| VersionRange::any().contains(version));
            let newest = finished.max().or(one.offered.iter().max());
            let is_below = asked && newest > at.get(&one.called) && at.contains_key(&one.called);
            let told = outcome.blocked.iter().find(|blocked| blocked.service.as_str() == one.called);
            assert_eq!(told.is_some(), is_below, "{}", one.called);
            if let Some(told) = told {
                assert_eq!((Some(&told.newest), Some(&told.at)), (newest, at.get(&one.called)));
                assert!(!told.because.contains("not weighed"), "{told:?}");
            }
        }
    }

    /// All assignments of versions, best first: consumers before what they need, each newest first.
    fn assignments(&self, back: bool) -> Vec<BTreeMap<String, Version>> {
        let mut all = vec![BTreeMap::new()];
        for one in self.in_rank() {
            let mut next = Vec::new();
            for at in &all {
                for version in self.may_be(one, back).into_iter().rev() {
                    let mut at: BTreeMap<String, Version> = at.clone();
                    at.insert(one.called.clone(), version);
                    next.push(at);
                }
            }
            all = next;
        }
        all.retain(|at| self.ranges(at).iter().all(|holds| *holds));
        all
    }

    fn in_rank(&self) -> Vec<&One> {
        let mut left: BTreeMap<&str, &One> = self
            .all
            .iter()
            .filter(|one| one.in_use.is_some() || one.fresh && !one.offered.is_empty())
            .map(|one| (one.called.as_str(), one))
            .collect();
        let mut order = Vec::new();
        while let Some(next) = left.keys().find(|key| left.values().all(|one| !one.needs.contains(**key))).copied() {
            order.push(left.remove(next).unwrap());
        }
        order
    }

    /// Whether one change after the other leads there, each nearer to it.
    fn is_reachable(&self, target: &BTreeMap<String, Version>) -> bool {
        let start = self.start();
        let first = self.ranges(&start);
        let mut seen = BTreeSet::from([start.clone()]);
        let mut waiting = VecDeque::from([start]);
        while let Some(at) = waiting.pop_front() {
            if at == *target {
                return true;
            }
            for one in self.all.iter().filter(|one| one.in_use.is_some()) {
                let (now, goal) = (&at[&one.called], &target[&one.called]);
                for version in self.may_be(one, true) {
                    let nearer = (*now < version && version <= *goal) || (*goal <= version && version < *now);
                    let mut next = at.clone();
                    next.insert(one.called.clone(), version);
                    let holds = first.iter().zip(self.ranges(&next)).all(|(before, now)| !before || now);
                    if nearer && holds && seen.insert(next.clone()) {
                        waiting.push_back(next);
                    }
                }
            }
        }
        false
    }

    /// Against everything that there could be.
    fn compare(&self, outcome: &Outcome) {
        let no_versions = outcome.conflicts.iter().any(|conflict| conflict.kind == ConflictKind::NoVersions);
        let best = self.assignments(false);
        let Some(best) = best.first() else {
            assert_eq!(no_versions, self.assignments_where_broken().is_empty(), "{outcome:#?}");
            return;
        };
        assert!(!no_versions, "there is a solution: {best:?}, {outcome:#?}");
        if self.is_reachable(best) {
            let mut at = self.start();
            at.extend(outcome.steps.iter().map(|step| (step.service.to_string(), step.to.clone())));
            assert_eq!(&at, best, "{outcome:#?}");
            assert!(outcome.conflicts.is_empty());
        } else {
            assert!(outcome.conflicts.iter().any(|conflict| conflict.kind == ConflictKind::SameMoment));
        }
    }

    /// As [`Scene::assignments`], where those of which a range is broken now may go back.
    fn assignments_where_broken(&self) -> Vec<BTreeMap<String, Version>> {
        let start = self.start();
        let may_go_back = |called: &String| {
            let mut alone = self.clone();
            // Every range that is about it, by leaving out what is not.
            for one in &mut alone.all {
                let is_it = one.called == *called;
                one.declared = one.declared.take().filter(|_| is_it);
                one.relies.retain(|(need, _)| need == called);
                if !is_it {
                    let its = self.all.iter().find(|other| other.called == *called).unwrap();
                    let needed = one.needs.contains(called);
                    one.needs.retain(|need| need == called);
                    one.accepts.retain(|accepts| needed && accepts.offering.as_str() == its.offering);
                }
            }
            alone.ranges(&start).iter().any(|holds| !holds)
        };
        let back: BTreeSet<String> = start.keys().filter(|called| may_go_back(called)).cloned().collect();
        let mut all = self.assignments(true);
        all.retain(|at| at.iter().all(|(called, version)| back.contains(called) || *version >= start[called]));
        all
    }
}

/// "Any" is also what is not finished.
fn fits(range: &VersionRange, version: &Version) -> bool {
    range.is_any() || range.contains(version)
}

fn version(text: &str) -> Version {
    text.parse().unwrap()
}

fn range(text: &str) -> VersionRange {
    text.parse().unwrap_or_else(|error| panic!("{error}"))
}

fn read_one(called: &str, text: &str) -> One {
    let mut parts = text.split(';').map(str::trim);
    let (in_use, offered) = parts.next().unwrap().split_once(" of").unwrap_or_else(|| panic!("{text}"));
    let mut one = One {
        called: called.to_owned(),
        offering: format!("{called}-app"),
        in_use: (!["-", "new"].contains(&in_use)).then(|| version(in_use)),
        fresh: in_use == "new",
        offered: offered.split_whitespace().map(version).collect(),
        ..One::default()
    };
    for part in parts {
        let (word, rest) = part.split_once(' ').unwrap_or((part, ""));
        match word {
            "as" => one.offering = rest.to_owned(),
            "durable" => one.durable = true,
            "withdrawn" => one.withdrawn = true,
            "needs" => one.needs = rest.split_whitespace().map(str::to_owned).collect(),
            "declared" => one.declared = Some(range(rest)),
            "relies" => {
                let (need, relied) = rest.split_once(' ').unwrap();
                one.relies.push((need.to_owned(), range(relied)));
            }
            "accepts" => {
                let [versions, offering, accepted] = rest.split('|').map(str::trim).collect::<Vec<_>>()[..] else {
                    panic!("{part}")
                };
                let offering = offering.parse().unwrap();
                one.accepts.push(Accepts { versions: range(versions), offering, range: range(accepted) });
            }
            _ => panic!("what is {part}?"),
        }
    }
    one
}

fn read_wish(text: &str) -> Wish {
    let mut wish = Wish::default();
    for part in text.split(';').map(str::trim) {
        let mut words = part.split_whitespace();
        match words.next().unwrap() {
            "only" => wish.only = Some(words.map(name).collect()),
            "major" => wish.major = true,
            "rejected" => {
                let called: ServiceName = name(words.next().unwrap());
                wish.rejected.entry(called).or_default().extend(words.map(version));
            }
            other => panic!("what is {other}?"),
        }
    }
    wish
}

#[test]
fn stories() {
    let mut told = String::new();
    let mut wrong = Vec::new();
    for story in include_str!("solve.txt").split("\n\n").filter(|story| story.starts_with("title: ")) {
        let (mut scene, mut title) = (Scene::default(), "");
        let (mut steps, mut held, mut bought) = (String::new(), Vec::new(), None);
        for line in story.lines() {
            match line.split_once(": ").unwrap_or_else(|| panic!("{line}")) {
                ("title", text) => title = text,
                ("wish", text) => scene.wish = read_wish(text),
                ("steps", text) => steps = text.to_owned(),
                ("held", text) => held.push(text.to_owned()),
                ("bought", text) => bought = Some(text.to_owned()),
                (called, text) => scene.all.push(read_one(called, text)),
            }
        }
        if scene.all.iter().any(|one| one.fresh) {
            writeln!(told, "## {title}").unwrap();
            let is_bought = scene.buy();
            for problem in is_bought.as_ref().err().into_iter().flatten() {
                let PlacementProblem { service, key, cause, remedy } = problem;
                writeln!(told, "{key} of {service}: {cause}\n\n{remedy}").unwrap();
            }
            told.push('\n');
            let all = |all: BTreeMap<String, Version>| {
                all.into_iter().map(|(name, version)| format!("{name} {version}")).collect::<Vec<_>>().join(", ")
            };
            let is_bought = is_bought.ok().map(all);
            if is_bought != bought {
                wrong.push(format!("{title}:\n  bought: {is_bought:?}"));
            }
            scene.compare_bought();
            continue;
        }
        let outcome = scene.solve();
        let done: Vec<String> =
            outcome.steps.iter().map(|step| format!("{} {} > {}", step.service, step.from, step.to)).collect();
        let names = |names: &[ServiceName]| names.iter().map(ToString::to_string).collect::<Vec<_>>().join(" ");
        let is_held: Vec<String> = outcome.conflicts.iter().map(|conflict| names(&conflict.held)).collect();
        if done.join(", ") != steps || is_held != held {
            wrong.push(format!("{title}:\n  steps: {}\n  held: {}", done.join(", "), is_held.join(" / ")));
        }
        writeln!(told, "## {title}").unwrap();
        for conflict in &outcome.conflicts {
            writeln!(told, "{:?} of {}: {}", conflict.kind, names(&conflict.services), conflict.explanation).unwrap();
        }
        for blocked in &outcome.blocked {
            writeln!(told, "{} {}, not {}: {}", blocked.service, blocked.at, blocked.newest, blocked.because).unwrap();
        }
        told.push('\n');
        scene.judge(&outcome);
        scene.compare(&outcome);
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    insta::assert_snapshot!(told);
}

const VERSIONS: [&str; 6] = ["1.0", "1.1", "2.0", "2.1", "3.0", "4.0-rc.1"];
const RANGES: [&str; 9] = ["*", ">=1", ">=2", ">=1.1", "<2", "<3", "2", ">=2, <3", "1.0 "];

fn a_range() -> impl Strategy<Value = VersionRange> {
    prop::sample::select(&RANGES[..]).prop_map(|text| range(text.trim()))
}

fn one(place: usize) -> impl Strategy<Value = One> {
    let versions = prop::sample::subsequence(&VERSIONS[..], 1..=4).prop_shuffle();
    let need = prop::bits::u8::masked((1 << place) - 1);
    let per_need = |place: usize| prop::collection::vec((0..place.max(1), a_range(), a_range()), 0..3);
    let flags = (prop::bool::weighted(0.3), prop::bool::weighted(0.1));
    let declared = prop::option::weighted(0.3, a_range());
    (versions, any::<prop::sample::Index>(), need, per_need(place), per_need(place), declared, flags).prop_map(
        move |(versions, in_use, need, relies, accepts, declared, (durable, withdrawn))| {
            let called = |place: usize| format!("s{place}");
            let needs: BTreeSet<String> = (0..place).filter(|bit| need & (1 << bit) != 0).map(called).collect();
            let offered: Vec<Version> = versions.iter().map(|text| version(text)).collect();
            One {
                in_use: Some(in_use.get(&offered).clone()),
                offering: format!("s{place}-app"),
                called: called(place),
                fresh: false,
                offered,
                durable,
                withdrawn,
                declared,
                relies: relies
                    .into_iter()
                    .map(|(need, range, _)| (called(need), range))
                    .filter(|(need, _)| needs.contains(need))
                    .collect(),
                accepts: accepts
                    .into_iter()
                    .map(|(need, versions, range)| Accepts {
                        versions,
                        offering: format!("s{need}-app").parse().unwrap(),
                        range,
                    })
                    .collect(),
                needs,
            }
        },
    )
}

fn scene() -> impl Strategy<Value = Scene> {
    let all = (2..=4_usize).prop_flat_map(|count| (0..count).map(one).collect::<Vec<_>>());
    let only = prop::option::weighted(0.2, prop::collection::btree_set(0..4_usize, 1..3));
    let rejected = prop::collection::vec((0..4_usize, prop::sample::select(&VERSIONS[..])), 0..2);
    (all, only, rejected, any::<bool>()).prop_map(|(all, only, rejected, major)| {
        let called = |place: usize| name(&format!("s{place}"));
        let only = only.map(|only| only.into_iter().map(called).collect());
        let mut wish = Wish { only, major, ..Wish::default() };
        for (place, text) in rejected {
            wish.rejected.entry(called(place)).or_default().insert(version(text));
        }
        Scene { all, wish }
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(600))]

    /// No solution and no order is missed, no range is broken on the way, and what is told is what is.
    #[test]
    fn it_is_as_good_as_trying_everything(scene in scene()) {
        let outcome = scene.solve();
        scene.judge(&outcome);
        scene.compare(&outcome);
    }

    /// What is bought first is the newest that goes together, and nothing is where nothing does.
    #[test]
    fn what_is_bought_first_is_what_trying_everything_finds(scene in scene(), fresh in 1..16_u8) {
        let mut scene = scene;
        for (place, one) in scene.all.iter_mut().enumerate() {
            one.fresh = fresh & (1 << place) != 0;
            one.withdrawn = false;
            match one.fresh {
                true => one.in_use = None,
                false => (one.declared, one.durable) = (None, false), // what is wrong with it alone is not what this is about
            }
        }
        prop_assume!(scene.all.iter().any(|one| one.fresh));
        let is_finished = |one: &One| one.in_use.as_ref().is_none_or(|in_use| VersionRange::any().contains(in_use));
        prop_assume!(scene.all.iter().all(is_finished));
        scene.compare_bought();
    }

    #[test]
    fn the_order_in_which_things_are_listed_decides_nothing(scene in scene(), seed in any::<u64>()) {
        let mut other = scene.clone();
        for one in &mut other.all {
            let turn = |length: usize| usize::try_from(seed % 1000).unwrap() % length.max(1);
            let (by, relies, accepts) = (turn(one.offered.len()), turn(one.relies.len()), turn(one.accepts.len()));
            one.offered.rotate_left(by);
            one.relies.rotate_left(relies);
            one.accepts.rotate_left(accepts);
        }
        other.all.reverse();
        prop_assert_eq!(scene.solve(), other.solve());
    }
}
