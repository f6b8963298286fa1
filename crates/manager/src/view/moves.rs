//! What people and scripts see of moves, and of what they left.

use ostler_model::catalog::Price;
use ostler_model::ids::ProviderName;
use ostler_model::time::Timestamp;
use serde::{Deserialize, Serialize};

use crate::knowledge::{Instance, Knowledge, ServiceKnowledge};
use crate::moving::{Brings, MoveStep, Moved, Moving};
use crate::reconcile::lost_in_words;

/// A move that is under way.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MovingView {
    /// From whom.
    pub from: ProviderName,
    /// To whom.
    pub to: ProviderName,
    /// Since when; RFC 3339.
    pub began: String,
    /// Why.
    pub why: String,
    /// At which step it is.
    pub step: MoveStep,
    /// The backup whose data goes with it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub backup: Option<String>,
    /// Since when what was written until it began is lost; RFC 3339. `None` if nothing is, or all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lost_since: Option<String>,
    /// What is lost, in words.
    pub loses: String,
    /// What a person is asked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub question: Option<String>,
    /// How to answer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub answer: Option<String>,
}

/// A move that is over.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MovedView {
    /// From whom.
    pub from: ProviderName,
    /// To whom.
    pub to: ProviderName,
    /// Since when; RFC 3339.
    pub began: String,
    /// Until when; RFC 3339.
    pub ended: String,
    /// It was taken back: the service is where it was.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub returned: bool,
    /// Since when what was written until it began is lost; RFC 3339. `None` if nothing is, or all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lost_since: Option<String>,
    /// What is lost, in words.
    pub lost: String,
}

/// Where a move left an instance.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LeftView {
    /// At whom.
    pub provider: ProviderName,
    /// Since when nothing gets at it; RFC 3339.
    pub since: String,
    /// What it costs, if the provider says.
    pub price: Option<Price>,
}

pub(super) fn moving_view(service: &ServiceKnowledge, moving: &Moving) -> Option<MovingView> {
    let backup = match &moving.brings {
        Brings::Backup { made, .. } => Some(made.name.clone()),
        Brings::Nothing | Brings::LastBackup | Brings::Kept { .. } => None,
    };
    Some(MovingView {
        from: moving.from.provider.clone(),
        to: moving.to.provider.clone(),
        began: moving.began.to_seconds(),
        why: moving.why.clone(),
        step: service.move_step()?,
        backup,
        lost_since: moving.brings.lost_since().map(Timestamp::to_seconds),
        loses: lost_in_words(&moving.brings, moving.accepts_loss, moving.written_until()),
        question: moving.held.as_ref().map(|(question, _)| question.clone()),
        answer: moving.held.as_ref().map(|(_, answer)| answer.clone()),
    })
}

pub(super) fn moved_view(moved: &Moved) -> MovedView {
    MovedView {
        from: moved.from.provider.clone(),
        to: moved.to.provider.clone(),
        began: moved.began.to_seconds(),
        ended: moved.ended.to_seconds(),
        returned: moved.returned,
        lost_since: moved.lost_since.map(Timestamp::to_seconds),
        lost: moved.lost_in_words(),
    }
}

pub(super) fn left_view(known: &Knowledge, instance: &Instance) -> Option<LeftView> {
    let left = instance.left.as_ref()?;
    let place = &left.placement;
    let offering = known.catalogs.get(&place.provider).and_then(|catalog| catalog.offerings.get(&place.offering));
    let plan = offering.and_then(|offering| offering.plans.iter().find(|plan| plan.name == place.plan));
    let price = plan.and_then(|plan| plan.price.clone());
    Some(LeftView { provider: place.provider.clone(), since: left.since.to_seconds(), price })
}
