//! How well a service has served: its service levels, what is left of its error budget, and how fast that burns.
//!
//! Only what was bad is remembered, as spans with how much of each was bad: a service that serves takes no memory. Three
//! things are told apart: time in which it served, time in which it did not, and time of which nobody knows, which
//! counts for neither.
//!
//! Invariant: whatever comes in, what was bad in a time is never more than that time, and the memory stays bounded: when
//! there are too many spans the two oldest become one.

use std::collections::VecDeque;
use std::time::Duration;

use ostler_model::estate::slo::{Objective, Slo};
use ostler_model::time::Timestamp;
use serde::{Deserialize, Serialize};

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

/// How often a service was away.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Outages {
    /// For how long it was seen and counted.
    pub measured: Duration,
    /// How often.
    pub times: u32,
    /// For how long in all.
    pub away: Duration,
}

/// How a service stands with one of its objectives.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Standing {
    /// How much of the time was bad.
    pub failed: Duration,
    /// How much of it may be, in microseconds.
    pub budget: i64,
    /// For how long it was seen and counted.
    pub measured: Duration,
    /// Of how much nobody knows.
    pub unseen: Duration,
    /// How much is not counted.
    pub excluded: Duration,
    /// How fast the budget burns.
    pub burns: [Burn; 3],
}

impl Standing {
    /// What is left of the budget, in millionths of it; less than nothing if it is overdrawn.
    pub fn left(&self) -> i64 {
        let used =
            (i128::from(micros(self.failed)) * 1_000_000 + i128::from(self.budget) - 1) / i128::from(self.budget);
        i64::try_from(1_000_000 - used).unwrap_or(i64::MIN)
    }

    /// The same for people: `72%`, `nothing`.
    pub fn left_in_words(&self) -> String {
        match self.left() {
            left @ 1.. => format!("{}%", left / 10_000),
            _ => "nothing".to_owned(),
        }
    }

    /// What share of the measured time was good, in millionths, rounded down.
    pub fn reached(&self) -> u32 {
        let measured = i128::from(micros(self.measured)).max(1);
        let bad = (i128::from(micros(self.failed)) * 1_000_000).div_euclid(measured);
        let bad = bad + i128::from((i128::from(micros(self.failed)) * 1_000_000).rem_euclid(measured) > 0);
        u32::try_from((1_000_000 - bad).max(0)).unwrap_or(0)
    }

    /// The most urgent pair of windows in both of which it burns too fast.
    pub fn burns(&self) -> Option<&Burn> {
        self.burns.iter().find(|burn| burn.is_too_fast())
    }
}

/// Two windows and the rate at which the budget may burn in them: a long one that says that it matters, and a short one
/// that says that it still does (Google, "The Site Reliability Workbook", chapter 5, "Multiwindow, Multi-Burn-Rate
/// Alerts").
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pair {
    /// The long one.
    pub long: Duration,
    /// The short one.
    pub short: Duration,
    /// The highest rate, in tenths: 10 uses the budget up just as its time is over.
    pub tenths: u32,
}

const fn hours(hours: u64) -> Duration {
    Duration::from_secs(hours * 3600)
}

/// The most urgent first.
const BURNS: [Pair; 3] = [
    Pair { long: hours(1), short: Duration::from_secs(300), tenths: 144 },
    Pair { long: hours(6), short: Duration::from_secs(1800), tenths: 60 },
    Pair { long: hours(72), short: hours(6), tenths: 10 },
];

/// How fast a budget burns in a pair of windows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Burn {
    /// The windows.
    pub pair: Pair,
    /// In the long one.
    pub long: Rate,
    /// In the short one.
    pub short: Rate,
}

impl Burn {
    /// Faster than it may, in both.
    pub fn is_too_fast(&self) -> bool {
        self.long.tenths >= u64::from(self.pair.tenths) && self.short.tenths >= u64::from(self.pair.tenths)
    }
}

/// How many times as fast as it may a budget burns, in tenths, rounded down.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Rate {
    /// In tenths.
    pub tenths: u64,
}

impl Rate {
    fn of(bad: i64, window: i64, allowed: i64) -> Self {
        // bad / window, over allowed / 1,000,000, in tenths
        let tenths = i128::from(bad) * 10_000_000 / (i128::from(window.max(1)) * i128::from(allowed.max(1)));
        Self { tenths: u64::try_from(tenths).unwrap_or(0) }
    }

    /// For people: `14.4`.
    pub fn in_words(self) -> String {
        match self.tenths {
            tenths @ 0..1000 if tenths % 10 != 0 => format!("{}.{}", tenths / 10, tenths % 10),
            tenths => (tenths / 10).to_string(),
        }
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
mod tests {
    use ostler_model::estate::slo::Exclusion;
    use ostler_model::time::Span;
    use proptest::prelude::*;

    use super::*;

    const SECOND: i64 = 1_000_000;
    const MINUTE: i64 = 60 * SECOND;
    const HOUR: i64 = 60 * MINUTE;
    const DAY: i64 = 24 * HOUR;
    /// 2026-11-23, a Monday.
    const START: i64 = 1_795_392_000 * SECOND;

    fn at(after: i64) -> Timestamp {
        Timestamp(START + after)
    }

    fn slo(availability: &str) -> Slo {
        let availability = Some(availability.parse().unwrap());
        Slo {
            availability,
            latency_p99: Some(Span::millis(100)),
            over: Span::seconds(30 * 86_400),
            exclude: Vec::new(),
        }
    }

    fn standing(level: &Level, slo: &Slo, now: i64) -> Standing {
        level.standing(slo, Objective::Availability, at(now)).unwrap()
    }

    /// Serving from the start, and away for each of these times.
    fn away(spans: &[(i64, i64)]) -> Level {
        let mut level = Level::new(at(0));
        level.turn(Doing::Serving, at(0));
        for (from, until) in spans {
            level.turn(Doing::Away, at(*from));
            level.turn(Doing::Serving, at(*until));
        }
        level
    }

    fn traffic(from: i64, until: i64, asked: u64, failed: u64, late: u64) -> Traffic {
        Traffic { from: at(from), until: at(until), asked, failed, late }
    }

    #[test]
    fn time_away_is_what_the_budget_is_for() {
        let level = away(&[(DAY, DAY + 30 * MINUTE)]);
        let month = standing(&level, &slo("99.9%"), 30 * DAY);
        assert_eq!(month.failed, Duration::from_secs(1800));
        assert_eq!(month.budget, 43 * MINUTE + 12 * SECOND, "a thousandth of 30 days");
        assert_eq!((month.left(), month.reached()), (305_555, 999_305));
        assert_eq!(month.left_in_words(), "30%");
        let later = standing(&level, &slo("99.9%"), 40 * DAY);
        assert_eq!((later.failed, later.left(), later.reached()), (Duration::ZERO, 1_000_000, 1_000_000));
        let half = standing(&level, &slo("99.9%"), 31 * DAY + 15 * MINUTE);
        assert_eq!(half.failed, Duration::from_secs(900), "half of it lies within the last 30 days");
        let strict = standing(&level, &slo("99.99%"), 30 * DAY);
        assert_eq!(strict.left(), -5_944_445);
        assert_eq!(strict.left_in_words(), "nothing");
    }

    #[test]
    fn what_goes_on_counts_up_to_now() {
        let mut level = away(&[]);
        level.turn(Doing::Away, at(HOUR));
        for minutes in [0, 1, 10] {
            let failed = standing(&level, &slo("99.9%"), HOUR + minutes * MINUTE).failed;
            assert_eq!(failed, Duration::from_secs(minutes.unsigned_abs() * 60));
        }
        let late = level.standing(&slo("99.9%"), Objective::Latency, at(2 * HOUR)).unwrap();
        assert_eq!(late.failed, Duration::ZERO, "who is away is not late");
    }

    /// The pairs of the workbook: how long it has to be away, at which share, until people are told.
    #[test]
    fn it_burns_too_fast_in_both_windows_or_not() {
        for (what, bad, now, expected) in [
            ("nothing", vec![], DAY, None),
            ("50 seconds of the hour", vec![(DAY - 50 * SECOND, DAY)], DAY, None),
            ("52 seconds of the hour", vec![(DAY - 52 * SECOND, DAY)], DAY, Some((60, "14.4"))),
            ("the same, over for 5 minutes", vec![(DAY - 352 * SECOND, DAY - 300 * SECOND)], DAY, None),
            (
                "130 seconds, half an hour ago",
                vec![(DAY - 29 * MINUTE, DAY - 29 * MINUTE + 130 * SECOND)],
                DAY,
                Some((360, "6")),
            ),
            (
                "260 seconds, three hours ago",
                vec![(DAY - 3 * HOUR, DAY - 3 * HOUR + 260 * SECOND)],
                DAY,
                Some((4320, "1")),
            ),
            ("the same, seven hours ago", vec![(DAY - 7 * HOUR, DAY - 7 * HOUR + 260 * SECOND)], DAY, None),
        ] {
            let standing = standing(&away(&bad), &slo("99.9%"), now);
            let found = standing.burns().map(|burn| (burn.pair.long.as_secs() / 60, burn.long.in_words()));
            assert_eq!(found, expected.map(|(minutes, rate)| (minutes, rate.to_owned())), "{what}");
        }
    }

    #[test]
    fn what_callers_got_counts_by_its_share() {
        let mut level = away(&[]);
        level.add_traffic(traffic(0, 10 * MINUTE, 1000, 100, 20));
        let slo = slo("99.9%");
        assert_eq!(standing(&level, &slo, HOUR).failed, Duration::from_secs(60));
        let late = level.standing(&slo, Objective::Latency, at(HOUR)).unwrap();
        assert_eq!((late.failed, late.budget), (Duration::from_secs(12), 25_920 * SECOND), "1% of 30 days");
        // Nobody asked, or everything was answered: nothing is to be remembered.
        let before = level.clone();
        level.add_traffic(traffic(HOUR, 2 * HOUR, 0, 0, 0));
        level.add_traffic(traffic(HOUR, 2 * HOUR, 1000, 0, 0));
        level.add_traffic(traffic(2 * HOUR, HOUR, 1000, 1000, 0));
        assert_eq!(level, before);
        // Callers who failed while it was away are not counted on top of that.
        let mut level = away(&[(0, 5 * MINUTE)]);
        level.add_traffic(traffic(0, 10 * MINUTE, 10, 10, 0));
        assert_eq!(standing(&level, &slo, HOUR).failed, Duration::from_secs(600));
    }

    #[test]
    fn what_is_excluded_is_not_counted_and_what_nobody_saw_neither() {
        let mut level = away(&[(HOUR, 2 * HOUR)]);
        let mut slo = slo("99.9%");
        let window = |text: &str| text.parse().unwrap();
        let exclusion = |text| Exclusion { window: window(text), reason: "maintenance".to_owned() };
        slo.exclude =
            vec![exclusion("Mon 01:15 - 01:45"), exclusion("Mon 01:30 - 01:50"), exclusion("Tue 01:00 - 02:00")];
        let found = standing(&level, &slo, 10 * HOUR);
        assert_eq!(found.failed, Duration::from_secs(25 * 60), "an hour, without 35 minutes of it");
        assert_eq!((found.excluded, found.measured), (Duration::from_secs(35 * 60), Duration::from_secs(565 * 60)));
        level.turn(Doing::Unseen, at(10 * HOUR));
        let found = standing(&level, &slo, 12 * HOUR);
        assert_eq!((found.unseen, found.failed), (Duration::from_secs(7200), Duration::from_secs(25 * 60)));
        level.turn(Doing::Serving, at(13 * HOUR));
        assert_eq!(standing(&level, &slo, 14 * HOUR).unseen, Duration::from_secs(3 * 3600));
        // It turns out to have run on.
        level.turn(Doing::Unseen, at(15 * HOUR));
        level.served_meanwhile();
        level.turn(Doing::Serving, at(16 * HOUR));
        assert_eq!(standing(&level, &slo, 16 * HOUR).unseen, Duration::from_secs(3 * 3600));
    }

    /// Three drills, of which each takes it away, and a failure between two of them that is none.
    #[test]
    fn what_a_drill_did_is_not_counted_and_what_came_beside_it_is() {
        let mut level = Level::new(at(0));
        level.turn(Doing::Serving, at(0));
        for begin in [HOUR, HOUR + 12 * SECOND, HOUR + 24 * SECOND] {
            level.drill_begins(at(begin));
            level.turn(Doing::Away, at(begin + SECOND));
            level.add_traffic(traffic(begin, begin + 8 * SECOND, 100, 90, 0));
            level.turn(Doing::Serving, at(begin + 8 * SECOND));
            level.drill_ends(at(begin + 8 * SECOND));
            if begin == HOUR {
                level.turn(Doing::Away, at(begin + 9 * SECOND));
                level.turn(Doing::Serving, at(begin + 11 * SECOND));
            }
        }
        let found = standing(&level, &slo("99.9%"), 2 * HOUR);
        assert_eq!((found.failed, found.excluded), (Duration::from_secs(2), Duration::from_secs(24)));
        assert_eq!(level.drilled(&slo("99.9%"), at(0), at(2 * HOUR)), Duration::from_secs(24));
        // One that goes on takes all there is; what has not recovered when it is over is not counted up to a bound.
        level.drill_begins(at(2 * HOUR));
        level.turn(Doing::Away, at(2 * HOUR));
        assert_eq!(standing(&level, &slo("99.9%"), 3 * HOUR).failed, Duration::from_secs(2));
        level.drill_ends(at(2 * HOUR + 60 * SECOND));
        level.turn(Doing::Serving, at(2 * HOUR + 100 * SECOND));
        assert_eq!(standing(&level, &slo("99.9%"), 3 * HOUR).failed, Duration::from_secs(42));
    }

    #[derive(Clone, Debug)]
    enum Step {
        Turn(Doing, i64),
        Traffic(i64, u64, u64, u64),
    }

    fn steps() -> impl Strategy<Value = Vec<Step>> {
        let doing = prop::sample::select(vec![Doing::Serving, Doing::Away, Doing::Unseen]);
        let step = prop_oneof![
            (doing, 0..4 * HOUR).prop_map(|(doing, after)| Step::Turn(doing, after)),
            (0..HOUR, 0..1000_u64, 0..1000_u64, 0..1000_u64).prop_map(|(l, a, f, s)| Step::Traffic(l, a, f, s)),
        ];
        prop::collection::vec(step, 0..60)
    }

    fn play(steps: &[Step]) -> (Level, i64) {
        let (mut level, mut now) = (Level::new(at(0)), 0);
        for step in steps {
            match step {
                Step::Turn(doing, after) => {
                    now += after;
                    level.turn(*doing, at(now));
                }
                Step::Traffic(length, asked, failed, late) => {
                    level.add_traffic(traffic(now - length, now, *asked, *failed, *late));
                }
            }
        }
        (level, now)
    }

    proptest! {
        #[test]
        fn what_was_bad_is_never_more_than_the_time(steps in steps(), back in 1..40 * DAY) {
            let (level, now) = play(&steps);
            let (from, until) = (at(now - back), at(now));
            for of in [|bad: &Bad| bad.away, |bad: &Bad| bad.late] {
                let bad = level.sum(of, from, until);
                prop_assert!((0..=back).contains(&bad));
            }
            let standing = standing(&level, &slo("99.9%"), now);
            prop_assert!(standing.measured + standing.unseen <= Duration::from_secs(30 * 86_400));
            prop_assert!(standing.left() <= 1_000_000 && standing.reached() <= 1_000_000);
        }

        /// More time that was bad never leaves more of the budget.
        #[test]
        fn nothing_bad_makes_it_look_better(steps in steps(), from in 0..HOUR, length in 1..HOUR) {
            let (mut level, now) = play(&steps);
            let before = standing(&level, &slo("99.9%"), now + 2 * HOUR).failed;
            level.add_traffic(traffic(now + from, now + from + length, 10, 10, 0));
            let after = standing(&level, &slo("99.9%"), now + 2 * HOUR).failed;
            prop_assert!(after >= before, "{before:?} {after:?}");
        }
    }

    #[test]
    fn it_takes_no_more_than_its_share_of_memory() {
        let spans: Vec<(i64, i64)> = (0..5000).map(|n| (n * 10 * MINUTE, n * 10 * MINUTE + 2 * MINUTE)).collect();
        let mut level = away(&spans);
        assert_eq!(level.bad.len(), SPANS_MAX);
        // The oldest have become one, of which some lies before the 30 days.
        let failed = standing(&level, &slo("99.9%"), 5000 * 10 * MINUTE).failed.as_secs();
        assert!((30 * 24 * 6 * 120 - 60..=30 * 24 * 6 * 120).contains(&failed), "{failed}");
        for n in 0..5000 {
            level.turn(if n % 2 == 0 { Doing::Unseen } else { Doing::Serving }, at(60_000 * MINUTE + n * MINUTE));
        }
        assert!(level.unseen.len() <= SPANS_MAX);
        level.forget_before(at(60_000 * MINUTE + 6000 * MINUTE));
        assert!(level.bad.is_empty() && level.unseen.is_empty());
        // A storm of failures of a second each is a few spans, and nothing of them is lost.
        let spans: Vec<(i64, i64)> = (0..1000).map(|n| (n * 5 * SECOND, n * 5 * SECOND + SECOND)).collect();
        let level = away(&spans);
        assert!(level.bad.len() < 100, "{}", level.bad.len());
        assert_eq!(standing(&level, &slo("99.9%"), DAY).failed.as_secs(), 1000);
    }
}
