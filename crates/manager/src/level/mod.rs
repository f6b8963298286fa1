//! How well a service has served: its service levels, what is left of its error budget, and how fast that burns.
//!
//! Only what was bad is remembered, as spans with how much of each was bad: a service that serves takes no memory. Three
//! things are told apart: time in which it served, time in which it did not, and time of which nobody knows, which
//! counts for neither.
//!
//! Invariant: whatever comes in, what was bad in a time is never more than that time, and the memory stays bounded: when
//! there are too many spans the two oldest become one.

mod standing;

use std::collections::VecDeque;
use std::time::Duration;

use ostler_model::estate::slo::{Objective, Slo};
use ostler_model::time::Timestamp;
use serde::{Deserialize, Serialize};

use standing::BURNS;
pub use standing::{Burn, Outages, Pair, Rate, Standing};

/// So many spans are remembered of one service.
const SPANS_MAX: usize = 512;
/// Two bad spans so close to each other become one, if one of them is short.
const NEAR: Duration = Duration::from_secs(10);
/// What is longer is not a short one.
const SHORT: Duration = Duration::from_secs(60);

/// What is known of one service's levels.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Level {
    /// Since when it is measured.
    pub since: Timestamp,
    /// What it does now, as far as is known.
    pub now: Doing,
    /// Since when it does that.
    pub doing_since: Timestamp,
    /// What was bad, in the order of their ends.
    bad: VecDeque<Bad>,
    /// Of what nobody knows anything, in order.
    unseen: VecDeque<(Timestamp, Timestamp)>,
    /// When it, or something it needs, was drilled, in order: that is not counted.
    #[serde(default, skip_serializing_if = "VecDeque::is_empty")]
    drills: VecDeque<(Timestamp, Timestamp)>,
    /// The objectives whose budgets were last said to burn.
    #[serde(default)]
    pub burning: Vec<Objective>,
}

/// What a service does, for this purpose.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Doing {
    /// It serves.
    Serving,
    /// It is to serve and does not.
    Away,
    /// Nobody knows, or it is not meant to: it was not ready yet, was stopped by a person, or ostler was not there.
    Unseen,
}

/// A span of time, with how much of it was bad.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Bad {
    from: Timestamp,
    until: Timestamp,
    /// Microseconds of it in which it did not serve, or of which that is the share of what failed.
    away: i64,
    /// Microseconds of it that are the share of the answers which took too long.
    late: i64,
}

/// What callers got within a span of time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Traffic {
    /// From when.
    pub from: Timestamp,
    /// Until when.
    pub until: Timestamp,
    /// How often it was asked.
    pub asked: u64,
    /// How often it did not answer, or only that it could not.
    pub failed: u64,
    /// How often its answer took longer than was declared.
    pub late: u64,
}

impl Level {
    /// Measured from `at` on.
    pub(crate) fn new(at: Timestamp) -> Self {
        Self {
            since: at,
            now: Doing::Unseen,
            doing_since: at,
            bad: VecDeque::new(),
            unseen: VecDeque::new(),
            drills: VecDeque::new(),
            burning: Vec::new(),
        }
    }

    /// From `at` on it does this.
    pub(crate) fn turn(&mut self, doing: Doing, at: Timestamp) {
        if doing == self.now {
            return;
        }
        let (from, until) = (self.doing_since, at);
        if from < until {
            match self.now {
                Doing::Serving => {}
                Doing::Away => self.add_away(from, until),
                Doing::Unseen => self.unseen.push_back((from, until)),
            }
        }
        if self.unseen.len() > SPANS_MAX {
            self.unseen.pop_front(); // it counts as good then, as everything does of which nothing bad is known
        }
        self.now = doing;
        self.doing_since = at;
    }

    /// It turned out to have served while nobody knew.
    pub(crate) fn served_meanwhile(&mut self) {
        if self.now == Doing::Unseen {
            self.now = Doing::Serving;
        }
    }

    /// What callers got. Time in which it is known to have been away counts as such, not twice.
    pub(crate) fn add_traffic(&mut self, traffic: Traffic) {
        let Traffic { from, until, asked, failed, late } = traffic;
        let length = until.0.saturating_sub(from.0);
        // What was counted while it was drilled is the drill's: nobody can tell what else went wrong in that time.
        let is_drilled = self.drills.iter().any(|(begins, ends)| *begins < until && from < *ends);
        if length <= 0 || asked == 0 || is_drilled {
            return;
        }
        let known = self.sum(|bad| bad.away, from, until);
        let open = length.saturating_sub(known).max(0);
        let share = |count: u64, of: i64| part(of, count.min(asked), asked);
        let (away, late) = (share(failed, open), share(late, length));
        if away > 0 || late > 0 {
            self.add(Bad { from, until, away, late });
        }
    }

    /// It was away, except for what a drill had of that time.
    fn add_away(&mut self, mut from: Timestamp, until: Timestamp) {
        let away = |from: Timestamp, until: Timestamp| {
            let length = until.0.saturating_sub(from.0);
            (length > 0).then_some(Bad { from, until, away: length, late: 0 })
        };
        let mut parts = Vec::new();
        for (begins, ends) in &self.drills {
            if *ends > from {
                parts.extend(away(from, (*begins).min(until)));
                from = *ends;
            }
        }
        parts.extend(away(from, until));
        parts.into_iter().for_each(|bad| self.add(bad));
    }

    fn add(&mut self, bad: Bad) {
        // What became one with something from before a drill would count in part within it.
        let apart = |last: &Bad| self.drills.iter().any(|(begins, ends)| *ends > last.from && *begins < bad.until);
        let is_apart = self.bad.back().is_some_and(apart);
        match self.bad.back_mut() {
            Some(last) if !is_apart && joins(last, &bad) => *last = joined(last, &bad),
            _ => self.bad.push_back(bad),
        }
        if self.bad.len() > SPANS_MAX
            && let (Some(first), Some(second)) = (self.bad.pop_front(), self.bad.pop_front())
        {
            self.bad.push_front(joined(&first, &second));
        }
    }

    /// How much of this time was bad, in microseconds: in which it did not serve, or that is the share of what failed or was
    /// late.
    pub(crate) fn bad_within(&self, from: Timestamp, until: Timestamp) -> i64 {
        self.sum(|bad| bad.away.saturating_add(bad.late), from, until)
    }

    /// Forgets what is over before `at`.
    pub(crate) fn forget_before(&mut self, at: Timestamp) {
        self.bad.retain(|bad| bad.until > at);
        self.unseen.retain(|(_, until)| *until > at);
        self.drills.retain(|(_, until)| *until > at);
    }

    /// From `at` on it, or something it needs, is drilled.
    pub(crate) fn drill_begins(&mut self, at: Timestamp) {
        self.drills.push_back((at, Timestamp(i64::MAX)));
        if self.drills.len() > SPANS_MAX {
            self.drills.pop_front();
        }
    }

    /// What was drilled is not any more, from `at` on.
    pub(crate) fn drill_ends(&mut self, at: Timestamp) {
        if let Some((begins, ends)) = self.drills.back_mut().filter(|(_, ends)| ends.0 == i64::MAX) {
            *ends = at.max(*begins);
        }
    }

    /// How much of the time from `from` until `until` is not counted because of drills, where nothing else excludes it.
    pub(crate) fn drilled(&self, slo: &Slo, from: Timestamp, until: Timestamp) -> Duration {
        let sum =
            |all: Vec<(Timestamp, Timestamp)>| all.iter().map(|(from, until)| until.since(*from)).sum::<Duration>();
        let declared = sum(excluded(slo, &VecDeque::new(), from, until));
        sum(excluded(slo, &self.drills, from, until)).saturating_sub(declared)
    }

    /// How many microseconds from `from` until `until` were bad in one way; a span that lies there in part counts in
    /// proportion.
    fn sum(&self, of: impl Fn(&Bad) -> i64, from: Timestamp, until: Timestamp) -> i64 {
        let open = (self.now == Doing::Away && self.doing_since < until).then(|| {
            let (from, away) = (self.doing_since, until.0.saturating_sub(self.doing_since.0));
            Bad { from, until, away, late: 0 }
        });
        let of_one = |bad: &Bad| {
            let length = bad.until.0.saturating_sub(bad.from.0).max(1);
            let shared = bad.until.min(until).0.saturating_sub(bad.from.max(from).0).clamp(0, length);
            part(of(bad), shared.unsigned_abs(), length.unsigned_abs())
        };
        self.bad.iter().chain(open.as_ref()).map(of_one).sum::<i64>().min(until.0.saturating_sub(from.0).max(0))
    }

    /// How it stands at `now` with one objective; `None` if none is declared.
    pub fn standing(&self, slo: &Slo, objective: Objective, now: Timestamp) -> Option<Standing> {
        let target = slo.target(objective)?;
        let allowed = 1_000_000 - i64::from(target.millionths());
        let from = now - slo.over.get();
        let excluded = excluded(slo, &self.drills, from.max(self.since), now);
        let bad = |from: Timestamp| self.bad_outside(&excluded, objective, from, now);
        let failed = bad(from);
        let total = micros(slo.over.get());
        let budget = part(total, allowed.unsigned_abs(), 1_000_000).max(1);
        let burns = BURNS.map(|pair| {
            let rate = |window: Duration| Rate::of(bad(now - window), micros(window), allowed);
            Burn { pair, long: rate(pair.long), short: rate(pair.short) }
        });
        let unseen = self.unseen_within(from, now);
        let out = excluded.iter().map(|(from, until)| until.since(*from)).sum();
        let measured = now.since(from.max(self.since)).saturating_sub(unseen).saturating_sub(out);
        Some(Standing {
            failed: Duration::from_micros(failed.unsigned_abs()),
            budget,
            measured,
            unseen,
            excluded: out,
            burns,
        })
    }

    fn bad_outside(
        &self,
        excluded: &[(Timestamp, Timestamp)],
        what: Objective,
        from: Timestamp,
        until: Timestamp,
    ) -> i64 {
        let of = |bad: &Bad| match what {
            Objective::Availability => bad.away,
            Objective::Latency => bad.late,
        };
        let out: i64 = excluded
            .iter()
            .map(|(begins, ends)| ((*begins).max(from), (*ends).min(until)))
            .filter(|(from, until)| from < until)
            .map(|(from, until)| self.sum(of, from, until))
            .sum();
        self.sum(of, from, until).saturating_sub(out).max(0)
    }

    /// How often it was away within the time over which it is measured, and for how long in all. What was only seen as a
    /// share of requests that failed counts as one time for each span.
    pub fn outages(&self, slo: &Slo, now: Timestamp) -> Outages {
        let from = (now - slo.over.get()).max(self.since);
        let excluded = excluded(slo, &self.drills, from, now);
        let out = excluded.iter().map(|(from, until)| until.since(*from)).sum();
        let past = self.bad.iter().filter(|bad| bad.away > 0 && bad.until > from).count();
        let open = usize::from(self.now == Doing::Away && self.doing_since < now);
        let away = self.bad_outside(&excluded, Objective::Availability, from, now);
        Outages {
            measured: now.since(from).saturating_sub(self.unseen_within(from, now)).saturating_sub(out),
            times: u32::try_from(past + open).unwrap_or(u32::MAX),
            away: Duration::from_micros(away.unsigned_abs()),
        }
    }

    fn unseen_within(&self, from: Timestamp, until: Timestamp) -> Duration {
        let open = (self.now == Doing::Unseen).then_some((self.doing_since, until));
        let shared = |(begins, ends): (Timestamp, Timestamp)| ends.min(until).since(begins.max(from));
        self.unseen.iter().copied().chain(open).map(shared).sum()
    }
}

/// The times that are not counted from `from` until `until`, in order and apart.
fn excluded(
    slo: &Slo,
    drills: &VecDeque<(Timestamp, Timestamp)>,
    from: Timestamp,
    until: Timestamp,
) -> Vec<(Timestamp, Timestamp)> {
    let openings = slo.exclude.iter().flat_map(|exclusion| exclusion.window.openings(from, until));
    let mut all: Vec<(Timestamp, Timestamp)> = openings
        .map(|opening| (opening.from, opening.until))
        .chain(drills.iter().copied())
        .map(|(begins, ends)| (begins.max(from), ends.min(until)))
        .filter(|(begins, ends)| begins < ends)
        .collect();
    all.sort_unstable();
    let mut apart: Vec<(Timestamp, Timestamp)> = Vec::with_capacity(all.len());
    for (from, until) in all {
        match apart.last_mut() {
            Some((_, end)) if from <= *end => *end = until.max(*end),
            _ => apart.push((from, until)),
        }
    }
    apart
}

fn joins(last: &Bad, next: &Bad) -> bool {
    let apart = next.from.0.saturating_sub(last.until.0);
    let is_short = |bad: &Bad| bad.until.since(bad.from) <= SHORT;
    next.from >= last.from && apart <= micros(NEAR) && (is_short(last) || is_short(next))
}

fn joined(first: &Bad, second: &Bad) -> Bad {
    let (from, until) = (first.from.min(second.from), first.until.max(second.until));
    let length = until.0.saturating_sub(from.0);
    Bad {
        from,
        until,
        away: first.away.saturating_add(second.away).min(length),
        late: first.late.saturating_add(second.late).min(length),
    }
}

/// `of` × `count` / `all`, without overflow, rounded up: what is bad is never made less.
fn part(of: i64, count: u64, all: u64) -> i64 {
    let all = i128::from(all.max(1));
    let part = (i128::from(of) * i128::from(count) + all - 1).div_euclid(all);
    i64::try_from(part).unwrap_or(i64::MAX)
}

fn micros(length: Duration) -> i64 {
    i64::try_from(length.as_micros()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests;
