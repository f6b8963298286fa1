//! Why what a person asks for is refused, before it is told to the manager: in the manager's own words.

use ostler_manager::{Ask, Event, FOR_BUYER, Knowledge, Reason, decide};

use super::no_such_service;
use crate::clock;
use crate::control::Refused;

pub(super) fn refusal_of(known: &Knowledge, ask: &Ask) -> Option<Refused> {
    let (verb, service) = match ask {
        Ask::Restart { service } => ("restart", service),
        Ask::Scale { service, .. } => ("scale", service),
        Ask::Delete { service } => ("delete", service),
        Ask::Backup { service, .. } => ("back up", service),
        Ask::Restore { service, .. } => ("restore", service),
        Ask::Prove { service, .. } => ("prove a restore of", service),
        Ask::DropBackup { service, .. } => ("delete a backup of", service),
        Ask::Bring { service, .. } => ("bring a backup of", service),
        Ask::Drill { service, .. } => ("drill", service),
        Ask::Adopt { service, .. } => ("adopt an instance for", service),
        Ask::Release { service } => ("release", service),
        Ask::Settle { leftover, .. } => ("settle what was asked for of", leftover.instance.service()),
        Ask::FailOver { service, .. } => ("move", service),
        Ask::FailBack { service } => ("take back the move of", service),
        Ask::Discard { instance } => ("discard an instance of", instance.service()),
        Ask::Rollback { service, .. } => ("take back the upgrade of", service),
        Ask::Upgrade { service: Some(service), .. } => ("upgrade", service),
        Ask::Upgrade { service: None, .. } => return refusal_of_all(known, ask),
        Ask::Credit { provider, month, step, by, note } => {
            return known.credit_refusal(provider, *month, step, (by, note.as_deref())).map(|why| refused_credit(&why));
        }
        Ask::Override { instruction, .. } => {
            return refused_override(known, ask, format!("cannot override what ostler decides: {instruction}"));
        }
        Ask::EndOverride { id, .. } => return refused_override(known, ask, format!("cannot end {id}")),
        Ask::Down => return None, // everything may always be stopped
        Ask::Sell { spec, .. } => ("sell", &spec.name),
        Ask::Admit { service, .. } => ("admit", service),
        Ask::EndSale { service } => ("take back", service),
    };
    let what = format!("cannot {verb} `{service}`");
    if !known.services.contains_key(service) {
        return Some(no_such_service(what, known, service));
    }
    refused(known, ask, what)
}

fn refused_credit(why: &str) -> Refused {
    Refused {
        what: "cannot record it".to_owned(),
        causes: vec![why.to_owned()],
        remedy: "see `ostler credits` for how far each claim is; `ostler credits reopen` begins one anew".to_owned(),
        problems: Vec::new(),
        rendered: None,
    }
}

fn refusal_of_all(known: &Knowledge, ask: &Ask) -> Option<Refused> {
    let nothing_newer = || Refused {
        what: "cannot upgrade".to_owned(),
        causes: vec!["nothing newer can be put to use".to_owned()],
        remedy: "see `ostler upgrade --preview` for what is newer, and why it is not put to use".to_owned(),
        problems: Vec::new(),
        rendered: None,
    };
    let is_empty = known.agenda.steps.is_empty();
    refused(known, ask, "cannot upgrade".to_owned()).or_else(|| is_empty.then(nothing_newer))
}

/// Everything that is wrong with an override, at once.
fn refused_override(known: &Knowledge, ask: &Ask, what: String) -> Option<Refused> {
    let withheld = decide(known, &Event::Asked(ask.clone()), clock::now()).withheld;
    let causes: Vec<String> = withheld
        .into_iter()
        .filter_map(|withheld| match withheld.reason {
            Reason::Refused(why) => Some(why),
            _ => None,
        })
        .collect();
    let remedy = "`ostler override --help` tells what an override takes, `ostler overrides` which stand".to_owned();
    (!causes.is_empty()).then_some(Refused { what, causes, remedy, problems: Vec::new(), rendered: None })
}

fn refused(known: &Knowledge, ask: &Ask, what: String) -> Option<Refused> {
    let withheld = decide(known, &Event::Asked(ask.clone()), clock::now()).withheld;
    // What is on its way to or from a buyer is nobody else's, and does not stay.
    let is_buyers = match ask {
        Ask::Backup { name, .. } => name.starts_with(FOR_BUYER),
        Ask::Bring { .. } => true,
        _ => false,
    };
    if is_buyers {
        let cause = format!("names that begin with `{FOR_BUYER}` are for what buyers ask for at the broker");
        let remedy = "choose another name".to_owned();
        return Some(Refused { what, causes: vec![cause], remedy, problems: Vec::new(), rendered: None });
    }
    let cause = withheld.into_iter().find_map(|withheld| match withheld.reason {
        Reason::Refused(why) => Some(why),
        _ => None,
    })?;
    let remedy = match ask {
        Ask::Upgrade { .. } => "see `ostler upgrade --preview` for what is newer, and what it waits for",
        Ask::Rollback { .. } => "see `ostler why SERVICE` for its upgrades",
        _ => "see `ostler status`",
    };
    let remedy = remedy.to_owned();
    Some(Refused { what, causes: vec![cause], remedy, problems: Vec::new(), rendered: None })
}
