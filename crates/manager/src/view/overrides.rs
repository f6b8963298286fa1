//! Overrides that stand, as people and scripts see them.

use ostler_model::ids::{ProviderName, ServiceName};
use ostler_model::overrides::OverrideId;
use ostler_model::time::Timestamp;
use serde::{Deserialize, Serialize};

use crate::knowledge::Knowledge;
use crate::overrides::Instruction;

/// An override that stands.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OverrideView {
    /// Its id.
    pub id: OverrideId,
    /// `pin`, `hold`, `forbid-provider`, `skip-upgrade`, `freeze` or `force-remedy`.
    pub kind: String,
    /// What it says, in words.
    pub what: String,
    /// The service that it is about, if it is about one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub service: Option<ServiceName>,
    /// The provider that it names, if it names one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub provider: Option<ProviderName>,
    /// Who answers for it.
    pub owner: String,
    /// Why.
    pub reason: String,
    /// Since when; RFC 3339.
    pub began: String,
    /// Until when; RFC 3339.
    pub until: String,
    /// What would be otherwise without it, in words.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub without: Vec<String>,
}

/// Those that stand, in the order in which they began; only those that say something of a service, if one is named.
pub fn overrides(known: &Knowledge, service: Option<&ServiceName>, now: Timestamp) -> Vec<OverrideView> {
    let about = service.map(|service| known.overridden(service, now));
    let all = known.standing(now).iter().filter(|(id, _)| about.as_ref().is_none_or(|about| about.contains(id)));
    all.map(|(id, it)| OverrideView {
        id,
        kind: it.instruction.word().to_owned(),
        what: it.instruction.to_string(),
        service: it.instruction.service().cloned(),
        provider: match &it.instruction {
            Instruction::Pin { provider, .. } | Instruction::ForbidProvider { provider } => Some(provider.clone()),
            Instruction::Hold { .. }
            | Instruction::SkipUpgrade { .. }
            | Instruction::Freeze { .. }
            | Instruction::ForceRemedy { .. } => None,
        },
        owner: it.owner.clone(),
        reason: it.reason.clone(),
        began: it.began.to_seconds(),
        until: it.until.to_seconds(),
        without: it
            .without
            .all()
            .filter(|difference| service.is_none_or(|service| difference.service() == service))
            .map(|difference| difference.in_words())
            .collect(),
    })
    .collect()
}
