//! Upgrades: what is known of what is newer, of the upgrade of a service that is under way, and of former ones.
//!
//! A service is upgraded in waves: the first is one instance, the canary; each later one is as many as have been done
//! before. An instance that no wave has reached stays what it was, also when it is started again. Between waves there is
//! a gate: everything of the wave serves, has been watched for as long as declared, is as consumers rely on, and does no
//! worse than before. What fails a gate is taken back at once. Data that another series of versions cannot read goes
//! over in a move (`moving.rs`): dumped, restored into a new instance, looked at, and only then used.
//!
//! Invariants: an instance is started from the new launch only once a wave has reached it; while an upgrade is taken
//! back nothing is started from the new launch; a version that was taken back is not put to use again unasked.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use ostler_model::catalog::Placement;
use ostler_model::ids::ServiceName;
use ostler_model::time::Timestamp;
use ostler_model::version::VersionRange;
use serde::{Deserialize, Serialize};

use crate::knowledge::{Launch, ServiceKnowledge};

/// So many versions that were taken back are remembered of one service, the newest.
pub(crate) const REJECTED_MAX: usize = 16;
/// So many failures in a row, of what has to be done once, end an upgrade.
pub(crate) const TRIES_MAX: u32 = 3;

/// What became of the upgrade of a service, as a fact.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "step")]
pub enum UpgradeStep {
    /// A person wants it.
    Asked {
        /// How.
        #[serde(flatten)]
        wish: UpgradeWish,
    },
    /// It begins.
    Began {
        /// To what.
        to: Placement,
        /// Its data has to be dumped and restored.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        data: bool,
        /// It goes back to what it was, because a person wants it.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        back: bool,
        /// The backup that has to be there before anything is touched.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        backup: Option<String>,
        /// A person's reason not to wait for a window.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        despite: Option<String>,
        /// Why, in words.
        why: String,
    },
    /// Instances that no wave has reached are started from this from now on.
    FormerLaunch {
        /// Its number among the service's launches.
        generation: u32,
        /// What.
        launch: Arc<Launch>,
    },
    /// The next wave begins.
    WaveBegan {
        /// Its instances.
        instances: Vec<u32>,
    },
    /// All of the wave serves; from now on it is watched.
    Serves,
    /// The wave has passed its gate.
    Passed,
    /// It cannot go on, and cannot be taken back, by itself.
    Held {
        /// The question.
        question: String,
        /// How to answer.
        answer: String,
    },
    /// Before anything was touched it turned out that it cannot be made now.
    PutOff {
        /// It is not tried again before.
        until: Timestamp,
        /// Why.
        why: String,
    },
    /// It is taken back: every instance becomes what it was.
    TakenBack {
        /// Why.
        why: String,
    },
    /// It is over.
    Ended,
}

/// What could be upgraded, in which order, and what not and why.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Agenda {
    /// In this order; whatever came of the ones before, each leaves all ranges satisfied.
    #[serde(default)]
    pub steps: Vec<AgendaStep>,
    /// What stays below the newest that there is, and why.
    #[serde(default)]
    pub blocked: Vec<Blocked>,
}

/// One upgrade that can be made.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AgendaStep {
    /// Of which service.
    pub service: ServiceName,
    /// From what.
    pub from: Placement,
    /// To what.
    pub to: Placement,
    /// Its data has to be dumped and restored: the new version cannot read it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub data: bool,
    /// The estate file does not allow what there is.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub declared: bool,
}

/// Something newer that is not put to use.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Blocked {
    /// Of which service.
    pub service: ServiceName,
    /// What there is.
    pub newest: String,
    /// Why it is not put to use, and what to do, in words.
    pub because: String,
}

/// What a person wants of a service's version.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct UpgradeWish {
    /// To one of these; the newest that will do if `None`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub to: Option<VersionRange>,
    /// Why it cannot wait for a window.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub despite: Option<String>,
    /// This service was named: what was taken back of it is tried again.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub again: bool,
}

/// An upgrade that is under way.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Upgrading {
    /// From what.
    pub from: Placement,
    /// To what.
    pub to: Placement,
    /// Since when.
    pub began: Timestamp,
    /// Why, in words.
    pub why: String,
    /// A person's reason to go on outside of windows.
    pub despite: Option<String>,
    /// Its data is dumped and restored: it moves to a new instance.
    pub data: bool,
    /// It goes back to what it was: all at once, without a canary.
    pub back: bool,
    /// The backup that has to be there before anything is touched.
    pub backup: Option<String>,
    /// How often that backup could not be made.
    pub backup_failures: u32,
    /// The launch of instances that no wave has reached.
    pub former: u32,
    /// How many waves have begun.
    pub wave: u32,
    /// How many of them have passed their gates.
    pub passed: u32,
    /// The instances that waves have reached.
    pub reached: BTreeSet<u32>,
    /// How many of them the present wave has reached.
    pub in_wave: u32,
    /// When the present wave began.
    pub wave_began: Timestamp,
    /// Since when all of the present wave serves.
    pub serves_since: Option<Timestamp>,
    /// What the look at the present wave found, if somebody looked.
    pub looked: Option<Looked>,
    /// How often that look could not be made.
    pub look_failures: u32,
    /// Neither the look nor the backup is tried again before.
    pub not_before: Timestamp,
    /// What consumers could not rely on before it began, as `consumer: check`: that is no fault of it.
    pub broken_before: BTreeSet<String>,
    /// Why it is being taken back.
    pub returns: Option<String>,
    /// What a person is asked, and how to answer.
    pub held: Option<(String, String)>,
}

/// What a look at a wave found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Looked {
    /// It is as its consumers rely on.
    Fine,
    /// It is not, and in what.
    Wrong(String),
}

/// An upgrade that is over.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Upgraded {
    /// From what.
    pub from: Placement,
    /// To what.
    pub to: Placement,
    /// When it began.
    pub began: Timestamp,
    /// When it was over.
    pub ended: Timestamp,
    /// How many waves there were.
    pub waves: u32,
    /// Why it was taken back, if it was.
    pub returned: Option<String>,
    /// Its data was dumped and restored.
    pub data: bool,
    /// A person went back to what it was before.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub back: bool,
}

/// A version that was put to use and taken back.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RejectedVersion {
    /// When.
    pub at: Timestamp,
    /// Why.
    pub why: String,
}

/// What is known of one service's upgrades.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Upgrades {
    /// What a person wants.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub wish: Option<UpgradeWish>,
    /// The one under way.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub under_way: Option<Upgrading>,
    /// The last one that is over.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last: Option<Upgraded>,
    /// What was taken back, by what it was ([`named`]).
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub rejected: BTreeMap<String, RejectedVersion>,
    /// Why the last one was put off before anything was touched, and until when.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub put_off: Option<(Timestamp, String)>,
    /// How long it took so far.
    #[serde(default, skip_serializing_if = "Took::is_nothing")]
    pub took: Took,
}

/// How long the parts of a service's upgrades took, as whole counts; what was taken back is counted as well.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Took {
    /// So often as many instances as may be away at once became another version, until they served.
    pub turns: u32,
    /// All of that together, in microseconds.
    pub turns_us: u64,
    /// So often its data went over to another instance.
    pub moves: u32,
    /// All of that together, in microseconds.
    pub moves_us: u64,
}

impl Took {
    fn is_nothing(&self) -> bool {
        *self == Self::default()
    }

    /// What a turn takes, as far as anything was learned.
    pub fn turn(&self) -> Option<Duration> {
        Some(Duration::from_micros(self.turns_us.checked_div(u64::from(self.turns))?))
    }

    /// What it takes to bring its data over, as far as anything was learned.
    pub fn data(&self) -> Option<Duration> {
        Some(Duration::from_micros(self.moves_us.checked_div(u64::from(self.moves))?))
    }
}

/// How much of an upgrade is left, as far as it goes well and windows allow it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Rest {
    /// How many waves it has altogether.
    pub(crate) waves: u32,
    /// What is to be expected of all that is left; `None` where it was never learned.
    pub(crate) lasts: Option<Duration>,
}

/// What tells this placement's version from others of the same service: the product's version, or what its provider keeps
/// up to date.
pub fn named(placement: &Placement) -> String {
    match (&placement.version, &placement.maintenance) {
        (Some(version), None) => version.to_string(),
        (None, Some(maintenance)) => maintenance.clone(),
        (Some(version), Some(maintenance)) => format!("{version} ({maintenance})"),
        (None, None) => "what there is".to_owned(),
    }
}

/// From one to the other, in words: "15.18 to 16.4".
pub(crate) fn from_to(from: &Placement, to: &Placement) -> String {
    // Only what differs: a broker's word for its own upkeep says nothing where the product's version changes.
    match (&from.version, &to.version) {
        (Some(from), Some(to)) if from != to => format!("{from} to {to}"),
        _ => format!("{} to {}", named(from), named(to)),
    }
}

impl Upgrading {
    /// Whether windows and freezes do not hold it up.
    pub fn is_urgent(&self) -> bool {
        self.despite.is_some()
    }
}

impl ServiceKnowledge {
    /// What is known of its upgrades.
    pub fn upgrades(&self) -> &Upgrades {
        static NOTHING: Upgrades =
            Upgrades { wish: None, under_way: None, last: None, rejected: BTreeMap::new(), put_off: None, took: NEVER };
        const NEVER: Took = Took { turns: 0, turns_us: 0, moves: 0, moves_us: 0 };
        self.upgrades.as_deref().unwrap_or(&NOTHING)
    }

    /// Its upgrade, while one is under way.
    pub fn upgrading(&self) -> Option<&Upgrading> {
        self.upgrades.as_ref()?.under_way.as_ref()
    }

    /// What is left of the upgrade under way at `now`, with waves watched for `soak` each.
    pub(crate) fn rest_of_upgrade(&self, it: &Upgrading, soak: Duration, now: Timestamp) -> Rest {
        let took = self.upgrades().took;
        let turns = |size: usize| u32::try_from(size.div_ceil(self.replaced_at_once())).unwrap_or(u32::MAX);
        let a_wave = |size: usize| took.turn().map(|turn| turn.saturating_mul(turns(size)));
        let of_present = match it.serves_since {
            _ if it.passed == it.wave => Some(Duration::ZERO),
            Some(since) => Some(soak.saturating_sub(now.since(since))),
            None if it.data => Some(soak), // it was brought over when its one wave began
            None => a_wave(it.in_wave as usize).map(|wave| wave.saturating_sub(now.since(it.wave_began)) + soak),
        };
        if it.data {
            let brings = took.data().map(|data| data.saturating_sub(now.since(it.began)) + soak);
            return Rest { waves: 1, lasts: if it.wave == 0 { brings } else { of_present } };
        }
        let active = || self.instances.iter().filter(|(_, instance)| !instance.retired).map(|(number, _)| number);
        let mut done = active().filter(|number| it.reached.contains(number)).count();
        let mut left = active().count() - done;
        let mut rest = Rest { waves: it.wave, lasts: of_present };
        while left > 0 {
            let size = wave_size(done).min(left);
            (done, left, rest.waves) = (done + size, left - size, rest.waves + 1);
            rest.lasts = rest.lasts.zip(a_wave(size)).map(|(rest, wave)| rest + wave + soak);
        }
        rest
    }

    /// The launch that the instance with this number is to run from: the newest, or the one before for those that no wave
    /// of an upgrade has reached.
    pub fn generation_of(&self, number: u32) -> u32 {
        match self.upgrading() {
            Some(it) if it.holds_back(number) => it.former,
            Some(_) | None => self.generation,
        }
    }
}

impl ServiceKnowledge {
    /// The instance that an upgrade left at this placement, and since when, if it is still there.
    pub(crate) fn kept_by_upgrade(&self, placement: &Placement) -> Option<(u32, Timestamp)> {
        self.instances.iter().rev().find_map(|(number, instance)| {
            let left =
                instance.left.as_ref().filter(|left| left.placement == *placement && instance.ending.is_none())?;
            Some((*number, left.since))
        })
    }
}

impl Upgrading {
    /// Whether the instance with this number stays what it was for now.
    pub fn holds_back(&self, number: u32) -> bool {
        !self.data && !self.back && self.returns.is_none() && !self.reached.contains(&number)
    }
}

impl Agenda {
    /// Nothing is newer, as far as anybody looked.
    pub fn is_empty(&self) -> bool {
        self.steps.is_empty() && self.blocked.is_empty()
    }

    /// The first step of this service.
    pub fn step_of(&self, service: &ServiceName) -> Option<&AgendaStep> {
        self.steps.iter().find(|step| step.service == *service)
    }
}

/// So many instances make the next wave after `reached`: one first, then as many as have been done before.
pub(crate) fn wave_size(reached: usize) -> usize {
    reached.max(1)
}
