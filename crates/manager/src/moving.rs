//! A service's move to another provider: what is known of it, and of what it leaves behind.
//!
//! Invariants: what is left behind is fenced: nothing is routed to it or bound to it again, unless the move is taken
//! back. Everything that is not left behind is where its service is bought. Of durable data one place is open at a time.

use std::collections::BTreeSet;
use std::sync::Arc;

use ostler_model::catalog::{Offering, Placement};
use ostler_model::ids::{CommandId, ProviderName};
use ostler_model::outcome::{BackupMade, Failure};
use ostler_model::time::Timestamp;
use serde::{Deserialize, Serialize};

use crate::backoff;
use crate::command::Command;
use crate::instance::{Instance, OperationKind};
use crate::knowledge::{Knowledge, ServiceKnowledge};

/// A move that is under way.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Moving {
    /// From where.
    pub from: Placement,
    /// To where, as far as is decided now.
    pub to: Placement,
    /// Since when: what was written later is in no backup that was made before.
    pub began: Timestamp,
    /// Why.
    pub why: String,
    /// A person accepts that what no backup holds is lost, however much that is.
    pub accepts_loss: bool,
    /// Which data goes with it.
    pub brings: Brings,
    /// The instances that it leaves.
    pub leaves: BTreeSet<u32>,
    /// The gateway has confirmed that callers cannot get at what it leaves.
    pub fenced: bool,
    /// When it confirmed that first: until then callers could write to it, however long ostler was away.
    pub cut_off: Option<Timestamp>,
    /// It is being taken back: what it left is to serve again.
    pub returns: bool,
    /// The data is where it moves to.
    pub restored: bool,
    /// What is there was looked at and is as its consumers rely on.
    pub proven: bool,
    /// A consumer was to be bound to the new instance, or callers were sent to it: from then on it may hold what is
    /// nowhere else.
    pub used: bool,
    /// Why the present step failed last, until it succeeds or another way is taken.
    pub trouble: Option<StepTrouble>,
    /// Backups that could not be restored, or lack what consumers rely on.
    pub bad: BTreeSet<String>,
    /// Providers that were tried in vain.
    pub tried: BTreeSet<ProviderName>,
    /// What a person is asked, and how to answer.
    pub held: Option<(String, String)>,
}

/// Which data goes with a move.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Brings {
    /// None: it holds nothing that lasts, or a person accepts that all is lost.
    Nothing,
    /// A backup that is made of the old instance once it is fenced: nothing is lost.
    LastBackup,
    /// The data of an instance that an upgrade left, which serves again: what was written since it was left is lost.
    Kept {
        /// The instance's number.
        number: u32,
        /// When it was left.
        lost_since: Timestamp,
    },
    /// A backup that was made.
    Backup {
        /// Which.
        made: BackupMade,
        /// Since when what was written is lost; `None` if it was made of the fenced instance, so that nothing is.
        lost_since: Option<Timestamp>,
    },
}

/// Why a step of a move failed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StepTrouble {
    /// Why, the last time.
    pub failure: Failure,
    /// How many times in a row.
    pub failures: u32,
    /// Not tried again before this.
    pub not_before: Timestamp,
}

/// The steps of a move, in their order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum MoveStep {
    /// Callers are cut off from what it leaves.
    Fence,
    /// The old instance is backed up for the last time.
    BackUp,
    /// The new instance is made and started.
    Make,
    /// The data is restored into the new instance.
    Restore,
    /// The new instance is looked at.
    Prove,
    /// Consumers are bound to the new instance, and callers are sent to it.
    Switch,
    /// The old instance serves again.
    Return,
}

/// A move that is over.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Moved {
    /// From where.
    pub from: Placement,
    /// To where.
    pub to: Placement,
    /// When it began.
    pub began: Timestamp,
    /// When it was over.
    pub ended: Timestamp,
    /// Since when what was written until callers were cut off is lost; `None` if nothing is.
    pub lost_since: Option<Timestamp>,
    /// When callers were cut off.
    pub written_until: Timestamp,
    /// All of its data is lost, as a person accepted.
    pub lost_all: bool,
    /// It was taken back: the service is where it was.
    pub returned: bool,
}

/// What a move left: where it is, and since when nothing gets at it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LeftBehind {
    /// Where it is.
    pub placement: Placement,
    /// The epoch of the service's callers since which nothing is routed to it.
    pub epoch: u64,
    /// Since when: since callers were cut off, or since the move began as long as they may not be.
    pub since: Timestamp,
    /// The last command before that: later ones must not use it.
    pub after: CommandId,
}

impl MoveStep {
    /// What is being done, as in "it is being restored".
    pub fn in_words(self) -> &'static str {
        match self {
            Self::Fence => "callers are cut off from the old instance",
            Self::BackUp => "the old instance is backed up for the last time",
            Self::Make => "the new instance is made and started",
            Self::Restore => "the data is restored",
            Self::Prove => "the new instance is looked at as its consumers see it",
            Self::Switch => "consumers and callers are given the new instance",
            Self::Return => "the old instance is brought back",
        }
    }
}

impl Brings {
    /// Since when what was written is lost; `None` if nothing is, or all of it.
    pub fn lost_since(&self) -> Option<Timestamp> {
        match self {
            Self::Nothing | Self::LastBackup => None,
            Self::Backup { lost_since, .. } => *lost_since,
            Self::Kept { lost_since, .. } => Some(*lost_since),
        }
    }
}

impl StepTrouble {
    /// One more failure.
    pub(crate) fn after(former: Option<&Self>, failure: Failure, at: Timestamp) -> Self {
        let failures = former.map_or(0, |former| former.failures).saturating_add(1);
        Self { failure, failures, not_before: at + backoff::pause(failures.saturating_add(1)) }
    }
}

impl Moving {
    /// Until when callers may have written to what it leaves.
    pub fn written_until(&self) -> Timestamp {
        self.cut_off.unwrap_or(self.began)
    }

    /// Whether what was made for it can be given up: it holds nothing that is not elsewhere.
    pub fn can_be_given_up(&self) -> bool {
        !self.used && !self.returns
    }

    /// Whether consumers may be bound to the new instance, and callers sent to it.
    pub fn is_open(&self) -> bool {
        self.fenced && (self.proven || self.returns)
    }
}

impl Instance {
    /// Whether a move left it: nothing is routed or bound to it.
    pub fn is_fenced(&self) -> bool {
        self.left.is_some()
    }
}

impl ServiceKnowledge {
    /// Where the instance is.
    pub fn placement_of<'a>(&'a self, instance: &'a Instance) -> Option<&'a Placement> {
        instance.left.as_ref().map(|left| &left.placement).or(self.placement.as_ref())
    }

    /// Its instances that a move has not left.
    pub fn unfenced(&self) -> impl Iterator<Item = (u32, &Instance)> {
        self.instances.iter().filter(|(_, instance)| !instance.is_fenced()).map(|(number, i)| (*number, &**i))
    }

    /// At which step its move is.
    pub fn move_step(&self) -> Option<MoveStep> {
        let moving = self.moving.as_ref()?;
        let is_there = || self.ready > 0;
        Some(match &**moving {
            Moving { fenced: false, .. } => MoveStep::Fence,
            Moving { returns: true, .. } => MoveStep::Return,
            Moving { brings: Brings::LastBackup, .. } => MoveStep::BackUp,
            Moving { proven: true, .. } => MoveStep::Switch,
            Moving { .. } if !is_there() => MoveStep::Make,
            Moving { restored: false, brings: Brings::Backup { .. }, .. } => MoveStep::Restore,
            Moving { .. } => MoveStep::Prove,
        })
    }

    /// Whether the launch that instances are to be started from is one for where the service is bought.
    pub(crate) fn launch_is_here(&self) -> bool {
        let (Some(launch), Some(placement)) = (self.launch(), &self.placement) else { return true };
        // A move to another series of versions stays where it is, and what is started there is another version all the same.
        let same = self.moving.is_none() || launch.placement == *placement;
        launch.placement.provider == placement.provider && same
    }

    /// Whether a move still needs what it leaves: for the last backup.
    pub(crate) fn is_needed_by_move(&self, instance: &Instance) -> bool {
        let backs_up = self.moving.as_ref().is_some_and(|moving| moving.brings == Brings::LastBackup);
        backs_up && instance.is_fenced() && instance.ending.is_none()
    }

    /// Whether callers may be sent to what is not fenced: not before all that goes with a move is there.
    pub(crate) fn may_be_routed(&self) -> bool {
        self.moving.as_ref().is_none_or(|moving| moving.is_open())
    }
}

impl Knowledge {
    /// What the instance's provider says of its offering.
    pub fn offering_of(&self, service: &ServiceKnowledge, instance: &Instance) -> Option<&Offering> {
        let placement = service.placement_of(instance)?;
        self.catalogs.get(&placement.provider)?.offerings.get(&placement.offering)
    }

    /// Whether an ask that was not answered cannot just be repeated where the command is carried out.
    pub(crate) fn is_unrepeatable_at(&self, command: &Command) -> bool {
        let Some(service) = self.services.get(command.at_service()) else { return false };
        match command.at_instance().and_then(|id| self.instance(id)) {
            Some(instance) => self.offering_of(service, instance).is_some_and(|offering| offering.actions.unrepeatable),
            None => self.is_unrepeatable(service),
        }
    }

    /// Whether everybody who is to use the service is bound to what it has now, or cannot be for the time being: one
    /// consumer's trouble keeps nobody else's callers waiting.
    pub(crate) fn consumers_are_bound(&self, service: &ServiceKnowledge) -> bool {
        let name = &service.spec.name;
        let consumers = self.consumers.get(name).into_iter().flatten();
        consumers.filter_map(|consumer| self.services.get(consumer)).all(|consumer| {
            let uses = self.is_wanted(consumer) && consumer.spec.needs.contains(name);
            !uses || self.is_bound(consumer, name) || consumer.binding_trouble.is_some()
        })
    }

    /// Whether an operation of this kind is under way for one of the service's instances.
    pub(crate) fn is_under_way(service: &ServiceKnowledge, kind: OperationKind) -> bool {
        service.instances.values().any(|instance| instance.operation.is_some_and(|operation| operation.kind == kind))
    }

    /// Every place where something of the service is.
    pub(crate) fn places(service: &ServiceKnowledge) -> impl Iterator<Item = &Placement> {
        let left = service.instances.values().filter_map(|instance| Some(&instance.left.as_ref()?.placement));
        service.placement.iter().chain(left)
    }
}

/// What is left behind, to be held by an instance.
pub(crate) fn left(placement: &Placement, epoch: u64, since: Timestamp, after: CommandId) -> Option<Arc<LeftBehind>> {
    Some(Arc::new(LeftBehind { placement: placement.clone(), epoch, since, after }))
}
