//! What is known of one instance.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use ostler_model::catalog::Placement;
use ostler_model::estate::Parameters;
use ostler_model::health::{Health, Symptom};
use ostler_model::ids::CommandId;
use ostler_model::outcome::Running;
use ostler_model::time::Timestamp;
use serde::{Deserialize, Serialize};

use crate::diagnosis::Finding;
use crate::fact::Diagnosis;
use crate::knowledge::Ending;
use crate::moving::LeftBehind;
use crate::remedy::Remedy;
use crate::rounds::{Accepted, RoundState, Rounds};

/// What is known of one instance.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Instance {
    /// How far it has come.
    pub phase: Phase,
    /// It is to be stopped and kept.
    pub retired: bool,
    /// What is being done to it.
    pub operation: Option<Operation>,
    /// It has been looked at since everything was last looked at.
    pub observed: bool,
    /// Whoever holds its process knows how to start it again.
    pub entrusted: bool,
    /// The launch that it was started from.
    pub generation: Option<u32>,
    /// The restart round that it was started in.
    pub restart_round: u32,
    /// Its process or address while it runs.
    pub running: Option<Running>,
    /// The watch on its health.
    pub watch: Option<CommandId>,
    /// Its health, as far as is known.
    pub health: Option<Health>,
    /// Why its probe cannot be made at present: says nothing about the instance itself.
    #[serde(default)]
    pub unprobed: Option<Symptom>,
    /// Since when it is ready, is not ready, or is not known to be either.
    pub health_since: Timestamp,
    /// It has been ready since it was last started on purpose.
    pub was_ready: bool,
    /// Its present process has been ready.
    pub proven: bool,
    /// How long it had been ready when it last ceased to be, unless a failure was counted since.
    pub ready_for: Duration,
    /// Callers are sent to it.
    pub routed: bool,
    /// How many times in a row it failed.
    pub failures: u32,
    /// It is left alone until then.
    pub not_before: Timestamp,
    /// What is wrong with it.
    pub repair: Option<Repair>,
    /// The question that it waits on, and how to answer.
    pub held: Option<(String, String)>,
    /// What can be tried goes on although a person was asked.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub goes_on: bool,
    /// The last question that people were told, unless it was answered since.
    #[serde(default)]
    pub told_question: Option<String>,
    /// People were told that it failed.
    pub told_failed: bool,
    /// When anything of this changed for people: process, phase, health.
    pub since: Timestamp,
    /// How it was asked for.
    #[serde(default)]
    pub attempts: Rounds,
    /// By which name its provider knows it, if ostler did not ask for it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub adopted: Option<String>,
    /// What its provider was last asked to make it, where it is changed in place.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub made_as: Option<Arc<MadeAs>>,
    /// The launch that it is being changed to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub changes_to: Option<u32>,
    /// How the credentials were asked for with which ostler itself looks at it, where a provider gives such.
    #[serde(default)]
    pub access: Rounds,
    /// The ask by which those were made that are in use.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub access_used: Option<u32>,
    /// From when on these are to be renewed, where they end by themselves.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub access_renew_at: Option<Timestamp>,
    /// They were to be renewed when they arrived, and that was put off: by a clock that may be wrong.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub access_put_off: bool,
    /// Earlier asks for these that may have made some, which nobody is to use any more once there are others.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub access_left: Vec<u32>,
    /// It fails because a drill has it so, or has not recovered from one yet.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub drilled: bool,
    /// What its provider has agreed to do and not said to be over.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub accepted: Option<Accepted>,
    /// A move left it behind: nothing is routed or bound to it any more.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub left: Option<Arc<LeftBehind>>,
    /// What is to become of it, where that is not what becomes of its service.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ending: Option<Ending>,
}

/// What a provider was asked to make an instance.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MadeAs {
    /// What was bought.
    pub placement: Placement,
    /// What the provider was told of it.
    pub parameters: Parameters,
    /// What it was told of where the instance is used, if it wants to hear of changes.
    #[serde(default, skip_serializing_if = "Parameters::is_empty")]
    pub context: Parameters,
}

/// How far an instance has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Phase {
    /// It is to be made.
    Declared,
    /// It exists and does not run.
    Stopped,
    /// It runs.
    Running,
}

/// What is being done to an instance.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Operation {
    /// The command.
    pub id: CommandId,
    /// What sort of command.
    pub kind: OperationKind,
    /// Since when.
    pub since: Timestamp,
    /// A death was reported meanwhile, so what it says of the process may be old news.
    pub overtaken: bool,
}

/// The sorts of operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum OperationKind {
    /// It is being made.
    Provision,
    /// It is being looked at.
    Observe,
    /// Its service's one-off command runs.
    Before,
    /// It is being started.
    Start,
    /// It is being stopped.
    Stop,
    /// It is being deleted.
    Deprovision,
    /// A consumer is being bound to it, or unbound.
    Bind,
    /// Its data is being backed up.
    Backup,
    /// Its data is being replaced.
    Restore,
    /// It is being changed where it is.
    Update,
    /// It is being looked at as its consumers see it.
    Prove,
}

impl OperationKind {
    /// Whether it is a treatment when it is done to a sick instance in this phase. A start of what runs already only says
    /// again how to start it: that repairs nothing.
    pub fn repairs(self, phase: Phase) -> bool {
        match self {
            Self::Provision | Self::Before | Self::Stop => true,
            Self::Start => phase != Phase::Running,
            Self::Observe
            | Self::Deprovision
            | Self::Bind
            | Self::Backup
            | Self::Restore
            | Self::Update
            | Self::Prove => false,
        }
    }
}

/// What is wrong with an instance, since when, and whether something is being done.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Repair {
    /// The conclusion.
    pub diagnosis: Diagnosis,
    /// Since when.
    pub began: Timestamp,
    /// Something was done, and whether it helped is not known yet.
    pub active: bool,
    /// The start time of the process that the diagnosis judged while it lived.
    pub judged: Option<Timestamp>,
    /// Something that it needs was not there when this was concluded: its provider need not be to blame.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub victim: bool,
    /// Ostler has come back since, and has not looked yet.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub unseen: bool,
    /// What is behind it, as far as that was concluded.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub finding: Option<Box<Finding>>,
    /// What is being tried, since when.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trying: Option<(Remedy, Timestamp)>,
    /// How often each remedy was tried in vain.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub tried: BTreeMap<Remedy, u32>,
    /// Since when a person is asked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub asked: Option<Timestamp>,
}

impl Repair {
    /// A trouble of which nothing but the sign is known.
    pub fn new(diagnosis: Diagnosis, began: Timestamp) -> Self {
        Self {
            diagnosis,
            began,
            active: false,
            judged: None,
            victim: false,
            unseen: false,
            finding: None,
            trying: None,
            tried: BTreeMap::new(),
            asked: None,
        }
    }

    /// The remedy that is being tried.
    pub fn remedy(&self) -> Option<Remedy> {
        self.trying.map(|(remedy, _)| remedy)
    }
}

impl Instance {
    /// An instance that has just been declared.
    pub fn new(now: Timestamp) -> Self {
        Self {
            phase: Phase::Declared,
            retired: false,
            operation: None,
            observed: true,
            entrusted: false,
            generation: None,
            restart_round: 0,
            running: None,
            watch: None,
            health: None,
            unprobed: None,
            health_since: now,
            was_ready: false,
            proven: false,
            ready_for: Duration::ZERO,
            routed: false,
            failures: 0,
            not_before: Timestamp::default(),
            repair: None,
            held: None,
            goes_on: false,
            told_question: None,
            told_failed: false,
            since: now,
            attempts: Rounds::default(),
            adopted: None,
            made_as: None,
            changes_to: None,
            access: Rounds::default(),
            access_used: None,
            access_renew_at: None,
            access_put_off: false,
            access_left: Vec::new(),
            drilled: false,
            accepted: None,
            left: None,
            ending: None,
        }
    }

    /// Whether it may get traffic.
    pub fn is_ready(&self) -> bool {
        match &self.health {
            Some(Health::Ready | Health::Shallow(_)) => true,
            Some(Health::Unready(_)) | None => false,
        }
    }

    /// Whether it is being repaired: something is being done to it because it was sick, or was done to it just now. What
    /// is stopped and waits for something else (for what it needs, say) keeps nobody else from being repaired.
    pub fn is_under_repair(&self) -> bool {
        let Some(repair) = &self.repair else { return false };
        let treated = self.operation.is_some_and(|operation| operation.kind.repairs(self.phase));
        treated || (repair.active && self.phase == Phase::Running)
    }

    /// Whether its repair could begin: it is sick, nobody holds it, nothing is being done to it, and it either does not
    /// run, or was judged while this very process ran.
    pub fn waits_for_repair(&self) -> bool {
        let Some(repair) = &self.repair else { return false };
        let judged = || repair.judged.is_some() && repair.judged == self.running.map(|running| running.since);
        let can_begin =
            self.operation.is_none() && !self.waits_for_person() && (self.phase != Phase::Running || judged());
        can_begin && !self.is_under_repair()
    }

    /// Whether nothing is done until a person has answered.
    pub fn waits_for_person(&self) -> bool {
        self.held.is_some() && !self.goes_on
    }

    /// Where it answers while it runs.
    pub fn address(&self) -> Option<SocketAddr> {
        self.running.map(|running| running.address)
    }

    /// Whether the credentials with which ostler looks at it are to be renewed now.
    pub fn access_is_due(&self, now: Timestamp) -> bool {
        self.access_renew_at.is_some_and(|renew_at| renew_at <= now)
    }

    /// There are no credentials any more with which ostler could look at it.
    pub(crate) fn lose_access(&mut self) {
        self.access = Rounds { state: RoundState::Over, ..self.access };
        self.access_used = None;
        self.access_renew_at = None;
        self.access_put_off = false;
        self.access_left.clear(); // credentials end with what they were for
    }

    /// Whether it was asked for, and what became of that is not known.
    pub fn is_in_doubt(&self) -> bool {
        let asks = self.operation.is_some_and(|operation| operation.kind == OperationKind::Provision);
        self.attempts.is_open() && !asks
    }
}
