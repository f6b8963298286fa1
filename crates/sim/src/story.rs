//! A run that can be repeated, shrunk and kept: an estate, what happens to it, and a seed for everything else.

use std::time::Duration;

use ostler_model::time::Span;
use serde::{Deserialize, Serialize};

use crate::act::Planned;
use crate::dice::Dice;
use crate::disk::Keep;
use crate::mutant::Mutant;
use crate::promise::{Promise, Violation};
use crate::rates::Rates;
use crate::sketch::Sketch;
use crate::world::{Counts, Setting, World};

/// After the last fault everything is as declared within this time: the longest chain of needs, each behind the longest
/// operation of a slow provider and the longest pause.
pub const CONVERGES_WITHIN: Duration = Duration::from_secs(6 * 3600);
/// How long a story is shrunk at most, in runs.
const SHRINK_RUNS: usize = 600;

/// A run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Story {
    /// The seed of what is not told: how long things take, when probes look.
    pub seed: u64,
    /// When the faults stop.
    pub storm: Span,
    /// The estate.
    pub estate: Sketch,
    /// What happens.
    pub acts: Vec<Planned>,
}

/// What came of a run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ended {
    /// The promises that were broken; empty if all is well.
    pub violations: Vec<Violation>,
    /// What happened.
    pub counts: Counts,
    /// How many facts were stored.
    pub facts: u64,
    /// SHA-256 of their bytes.
    pub digest: String,
    /// How long it lasted, in simulated time.
    pub lasted: Duration,
}

impl Story {
    /// A storm drawn from `seed`: a small estate, and faults of some kinds at rates of their own.
    pub fn draw(seed: u64) -> Self {
        let dice = Dice::new(seed);
        let estate = Sketch::draw(dice, 8, 3);
        let town = estate.town();
        let storm = Duration::from_secs(2 * 3600);
        let acts = Rates::draw(dice, &town, storm).plan(dice, &town, Duration::ZERO, storm);
        Self { seed, storm: Span::seconds(storm.as_secs()), estate, acts }
    }

    /// What comes of it.
    pub fn run(&self, mutant: Option<Mutant>) -> Ended {
        let world = self.play(mutant);
        let (facts, digest) = world.facts();
        let (violations, counts, lasted) = (world.violations().to_vec(), world.counts(), world.elapsed());
        Ended { violations, counts, facts, digest, lasted }
    }

    /// The world after it: the storm, then calm until everything is as declared.
    pub fn play(&self, mutant: Option<Mutant>) -> World {
        let town = self.estate.town();
        let mut world = World::new(Setting { town, seed: self.seed, plan: self.acts.clone(), keep: Keep::All, mutant });
        world.run_until(self.storm.get());
        world.calm(CONVERGES_WITHIN);
        world
    }

    fn breaks(&self, promise: Promise, mutant: Option<Mutant>) -> bool {
        self.run(mutant).violations.first().is_some_and(|violation| violation.promise == promise)
    }

    /// The shortest story found that breaks the same promise first: acts left out, in halves, quarters and so on down to
    /// single ones (Zeller and Hildebrandt's ddmin), then instances, needs and other declarations.
    pub fn shrunk(&self, promise: Promise, mutant: Option<Mutant>) -> Self {
        let mut best = self.clone();
        let mut runs = 0;
        let mut try_it = |candidate: Self, best: &mut Self| {
            runs += 1;
            let better = runs <= SHRINK_RUNS && candidate.breaks(promise, mutant);
            if better {
                *best = candidate;
            }
            better
        };
        let mut size = best.acts.len().div_ceil(2);
        while size > 0 {
            let mut from = 0;
            while from < best.acts.len() {
                let mut candidate = best.clone();
                candidate.acts.drain(from..(from + size).min(best.acts.len()));
                if !try_it(candidate, &mut best) {
                    from += size;
                }
            }
            size /= 2;
        }
        for index in (0..best.estate.services.len()).rev() {
            if let Some(candidate) = best.without_last(index) {
                try_it(candidate, &mut best);
            }
        }
        for index in 0..best.estate.services.len() {
            for simpler in simpler(&best.estate.services[index]) {
                let mut candidate = best.clone();
                candidate.estate.services[index] = simpler;
                try_it(candidate, &mut best);
            }
        }
        if let Some(last) = best.acts.last() {
            let mut candidate = best.clone();
            candidate.storm = Span::seconds(last.at.get().as_secs() + 1);
            try_it(candidate, &mut best);
        }
        best
    }

    /// Without the last service, if that is the `index`-th: names count from the first.
    fn without_last(&self, index: usize) -> Option<Self> {
        let mut candidate = self.clone();
        if index + 1 != candidate.estate.services.len() || index == 0 {
            return None;
        }
        candidate.estate.services.pop();
        Some(candidate)
    }
}

fn simpler(service: &crate::sketch::ServiceSketch) -> Vec<crate::sketch::ServiceSketch> {
    let mut all = Vec::new();
    let mut add = |change: fn(&mut crate::sketch::ServiceSketch)| {
        let mut other = service.clone();
        change(&mut other);
        if other != *service {
            all.push(other);
        }
    };
    add(|service| service.instances = 1);
    add(|service| service.needs.clear());
    add(|service| service.before = false);
    add(|service| service.backup_every = None);
    add(|service| service.failover = None);
    add(|service| service.standbys.truncate(1));
    add(|service| service.standbys.clear());
    all
}
