//! What a service is to be like for those who use it: its service level objectives.

use serde::{Deserialize, Serialize};

use super::terms::Percent;
use crate::time::Span;
use crate::window::Window;

/// The objectives of one service.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Slo {
    /// What share of the time it is to serve, by what callers get, and where nobody calls by its probes: more than 0% and
    /// less than 100%.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub availability: Option<Percent>,
    /// In how much time 99% of its answers are to come.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub latency_p99: Option<Span>,
    /// Over how long a time, up to now, it is measured: one hour to 90 days.
    pub over: Span,
    /// What is not counted, and why.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub exclude: Vec<Exclusion>,
}

/// Time that is not counted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Exclusion {
    /// When.
    pub window: Window,
    /// Why, in the words of whoever decided it.
    pub reason: String,
}

/// What is measured over a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Objective {
    /// It serves.
    Availability,
    /// It answers in time.
    Latency,
}

impl Objective {
    /// Both.
    pub const ALL: [Self; 2] = [Self::Availability, Self::Latency];

    /// In one word, as the JSON has it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Availability => "availability",
            Self::Latency => "latency",
        }
    }
}

impl Slo {
    /// What share of the time, or of the answers, has to be good; `None` if nothing is declared of it.
    pub fn target(&self, objective: Objective) -> Option<Percent> {
        match objective {
            Objective::Availability => self.availability,
            Objective::Latency => self.latency_p99.map(|_| IN_TIME),
        }
    }
}

/// What share of the answers `latency_p99` is about.
const IN_TIME: Percent = match Percent::from_millionths(990_000) {
    Some(share) => share,
    None => Percent::WHOLE,
};
