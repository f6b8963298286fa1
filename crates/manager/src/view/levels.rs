//! What people and scripts see of service levels.

use std::time::Duration;

use ostler_model::estate::slo::{Exclusion, Objective};
use ostler_model::estate::terms::Percent;
use ostler_model::time::{Span, Timestamp};
use ostler_model::window::Window;
use serde::{Deserialize, Serialize};

use crate::knowledge::ServiceKnowledge;
use crate::level::Burn;

/// How a service stands with one of its objectives.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LevelView {
    /// What is measured.
    pub objective: Objective,
    /// What share of the time, or of its answers, is to be good.
    pub target: Percent,
    /// Within which its answers are to come, where that is measured.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub within: Option<Span>,
    /// Over how long a time.
    pub over: Span,
    /// What share was good, of what was seen and counts; rounded down.
    pub reached: Percent,
    /// How much of the time was bad, in seconds, rounded up.
    pub failed_seconds: u64,
    /// How much of it may be, in seconds.
    pub allowed_seconds: u64,
    /// What is left of that, in percent, rounded down; negative if more was used.
    pub left_percent: i64,
    /// How many times as fast as it may be it is being used up, in the two windows that tell most.
    pub burns: Vec<BurnView>,
    /// People were told that it is being used up too fast.
    pub burning: bool,
    /// For how many seconds it was seen and counts.
    pub measured_seconds: u64,
    /// Of how many seconds nobody knows.
    pub unseen_seconds: u64,
    /// What is not counted.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub excluded: Vec<ExcludedView>,
    /// How many seconds more are not counted because it, or something it needs, was drilled.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub drilled_seconds: u64,
}

/// How fast a budget is being used up.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BurnView {
    /// In this long a time.
    pub window: Span,
    /// So many times as fast as it may be: `14.4`.
    pub rate: String,
    /// That is too fast, there and in a shorter time too.
    pub too_fast: bool,
}

/// Time that is not counted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExcludedView {
    /// When.
    pub window: Window,
    /// Why.
    pub reason: String,
    /// How many seconds of it there were.
    pub seconds: u64,
}

pub(super) fn levels(service: &ServiceKnowledge, now: Timestamp) -> Vec<LevelView> {
    let (Some(level), Some(slo)) = (&service.level, &service.spec.slo) else { return Vec::new() };
    let from = (now - slo.over.get()).max(level.since);
    let of = |objective: &Objective| {
        let standing = level.standing(slo, *objective, now)?;
        let burn = |burn: &Burn| BurnView {
            window: Span::seconds(burn.pair.long.as_secs()),
            rate: burn.long.in_words(),
            too_fast: burn.is_too_fast(),
        };
        let excluded = |exclusion: &Exclusion| ExcludedView {
            window: exclusion.window.clone(),
            reason: exclusion.reason.clone(),
            seconds: exclusion
                .window
                .openings(from, now)
                .map(|opening| opening.until.min(now).since(opening.from.max(from)))
                .sum::<Duration>()
                .as_secs(),
        };
        Some(LevelView {
            objective: *objective,
            target: slo.target(*objective)?,
            within: slo.latency_p99.filter(|_| *objective == Objective::Latency),
            over: slo.over,
            reached: Percent::from_millionths(standing.reached()).unwrap_or(Percent::WHOLE),
            failed_seconds: standing.failed.as_micros().div_ceil(1_000_000).try_into().unwrap_or(u64::MAX),
            allowed_seconds: u64::try_from(standing.budget / 1_000_000).unwrap_or(0),
            left_percent: standing.left().div_euclid(10_000),
            burns: standing.burns.iter().map(burn).collect(),
            burning: level.burning.contains(objective),
            measured_seconds: standing.measured.as_secs(),
            unseen_seconds: standing.unseen.as_secs(),
            excluded: slo.exclude.iter().map(excluded).collect(),
            drilled_seconds: level.drilled(slo, from, now).as_secs(),
        })
    };
    Objective::ALL.iter().filter_map(of).collect()
}

fn is_zero(seconds: &u64) -> bool {
    *seconds == 0
}
