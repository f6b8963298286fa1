//! What a move to another provider would be like: shown before it is asked for.

use ostler_manager::{Ask, Brings, Event, Knowledge, can_be_moved, rehearse};
use ostler_model::catalog::Price;
use ostler_model::ids::{InstanceId, PlanName, ProviderName, ServiceName};
use ostler_model::time::{Timestamp, in_words};
use ostler_model::version::Version;
use serde::{Deserialize, Serialize};

/// A move that could be made.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct MovePreview {
    /// Which service.
    pub service: ServiceName,
    /// From whom.
    pub from: ProviderName,
    /// To whom.
    pub to: ProviderName,
    /// Which plan is bought there.
    pub plan: PlanName,
    /// Which version.
    pub version: Option<Version>,
    /// Where that is.
    pub region: Option<String>,
    /// What one instance costs now, if its provider says.
    pub price_from: Option<Price>,
    /// What one costs there, if the provider says.
    pub price_to: Option<Price>,
    /// The backup whose data goes with it; `None` if none does, or if one is made for it.
    pub backup: Option<String>,
    /// Since when what was written is lost; RFC 3339. `None` if nothing is, or all.
    pub lost_since: Option<String>,
    /// What is lost, in words.
    pub loses: String,
    /// The instances that are kept where they are, with their data.
    pub keeps: Vec<InstanceId>,
    /// What would be done, in this order, if all goes well.
    pub steps: Vec<String>,
}

/// What a move would be like.
///
/// # Errors
/// Why it cannot be made.
pub fn weigh(
    known: &Knowledge,
    name: &ServiceName,
    to: Option<&ProviderName>,
    accept_loss: bool,
    now: Timestamp,
) -> Result<MovePreview, String> {
    let service = known.services.get(name).ok_or_else(|| format!("there is no service `{name}`"))?;
    let it = can_be_moved(known, service, to, accept_loss, now).map_err(|why| why.in_words(now))?;
    let from = service.placement.as_ref().ok_or("it is bought nowhere")?.provider.clone();
    let loses = match &it.brings {
        Brings::Nothing if it.accepts_loss => "all of its data".to_owned(),
        Brings::Nothing => "nothing: it holds nothing that lasts".to_owned(),
        Brings::LastBackup => "nothing: its data is backed up once more, when nobody gets at it any more".to_owned(),
        Brings::Backup { made, lost_since: Some(since) } => {
            format!("what was written in the last {}, since backup {}", in_words(now.since(*since)), made.name)
        }
        Brings::Backup { made, lost_since: None } => format!("nothing: all is in backup {}", made.name),
        Brings::Kept { lost_since, .. } => format!("what was written since {}", lost_since.to_seconds()),
    };
    let backup = match &it.brings {
        Brings::Backup { made, .. } => Some(made.name.clone()),
        Brings::Nothing | Brings::LastBackup | Brings::Kept { .. } => None,
    };
    let ask = Ask::FailOver { service: name.clone(), to: Some(it.to.provider.clone()), accept_loss };
    let rehearsal = rehearse(known, &Event::Asked(ask), now);
    let region = known.provider(&it.to.provider).and_then(|provider| provider.region.clone());
    Ok(MovePreview {
        service: name.clone(),
        from,
        to: it.to.provider.clone(),
        plan: it.to.plan.clone(),
        version: it.to.version.clone(),
        region,
        price_from: it.price_from,
        price_to: it.price_to,
        backup,
        lost_since: it.brings.lost_since().map(Timestamp::to_seconds),
        loses,
        keeps: service.unfenced().map(|(number, _)| service.instance_id(number)).collect(),
        steps: rehearsal.commands.iter().map(ostler_manager::Command::in_words).collect(),
    })
}
