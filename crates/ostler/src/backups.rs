//! Backups of services: made, proven, restored, deleted.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use ostler_manager::{Ask, BackupView, ServiceView};
use ostler_model::ids::ServiceName;
use ostler_model::time::Timestamp;
use ostler_runtime::control::Request;
use ostler_runtime::home::Home;
use ostler_runtime::kept;

use crate::args::{Backup, Common};
use crate::client::ask;
use crate::commands::{confirm, print_json, say, service_view};
use crate::failure::{Failure, Outcome};
use crate::{place, up};

/// How long something that moves all of a service's data is waited for.
const DONE_WITHIN: Duration = Duration::from_secs(6 * 3600);

/// Makes a backup, or deletes one.
pub(crate) async fn back_up(common: &Common, arguments: Backup) -> Outcome {
    let Backup { service, name, drop, yes } = arguments;
    let home = place::of_command(common)?;
    if let Some(name) = drop {
        return delete(common, &home, service, name, yes).await;
    }
    let name = name.unwrap_or_else(backup_name);
    ask(&home, &Request::Ask(Ask::Backup { service: service.clone(), name: name.clone() })).await?;
    up::until_settled_quietly(&home, common, DONE_WITHIN).await?;
    let view = service_view(&home, &service).await?;
    match view.backups.iter().find(|backup| backup.name == name) {
        Some(backup) if common.json => print_json(backup),
        Some(backup) => {
            let place = backup.place.as_ref().map(|place| format!(" in {place}")).unwrap_or_default();
            anstream::println!(
                "{service} is backed up as {name} ({} bytes){place}. `ostler restore {service} {name}` brings it back.",
                backup.bytes
            );
        }
        None => {
            let cause = view.backup_trouble.unwrap_or_else(|| "it has not ended yet".to_owned());
            return Err(Failure::new(format!("cannot back up {service}"), cause, "see `ostler why` and try again"));
        }
    }
    Ok(())
}

/// Restores a backup on the side, and says what was found.
pub(crate) async fn prove(common: &Common, service: ServiceName, backup: Option<String>) -> Outcome {
    let home = place::of_command(common)?;
    let before = service_view(&home, &service).await?;
    let Some(name) = backup.or_else(|| newest_good(&before)) else {
        return Err(no_backups(&service, "prove a restore of"));
    };
    let ask_for = Ask::Prove { service: service.clone(), name: Some(name.clone()) };
    ask(&home, &Request::Ask(ask_for)).await?;
    let asked = service.clone();
    up::until(&home, common, DONE_WITHIN, false, move |status| {
        status.services.iter().all(|view| view.name != asked || view.proving.is_none())
    })
    .await?;
    let after = service_view(&home, &service).await?;
    let found = after.backups.iter().find(|backup| backup.name == name);
    let was = before.backups.iter().find(|backup| backup.name == name).and_then(|backup| backup.proven.clone());
    match found {
        Some(BackupView { bad: Some(why), .. }) => Err(Failure::new(
            format!("the backup {name} of {service} cannot be used"),
            why,
            format!("people were told; `ostler prove {service}` looks at the next one"),
        )),
        Some(BackupView { proven: Some(proven), .. }) if Some(proven) != was.as_ref() => {
            if common.json {
                print_json(&found);
            } else {
                anstream::println!("{service} was restored from {name} on the side: {}.", kept::proof_in_words(proven));
            }
            Ok(())
        }
        Some(_) | None => {
            let cause = after.troubles.join("; ");
            let cause = if cause.is_empty() { "it has not ended yet".to_owned() } else { cause };
            let what = format!("cannot prove a restore of {service}");
            Err(Failure::new(what, cause, "see `ostler why` and try again; this says nothing of the backup"))
        }
    }
}

/// Replaces the service's data by a backup.
pub(crate) async fn restore(common: &Common, service: ServiceName, backup: Option<String>, yes: bool) -> Outcome {
    let home = place::of_command(common)?;
    let view = service_view(&home, &service).await?;
    let Some(name) = backup.or_else(|| newest_good(&view)) else { return Err(no_backups(&service, "restore")) };
    confirm(yes, common, &format!("Replace the data of {service} by the backup {name}? What came since is lost."))?;
    ask(&home, &Request::Ask(Ask::Restore { service: service.clone(), name: name.clone() })).await?;
    up::until_settled_quietly(&home, common, DONE_WITHIN).await?;
    let after = service_view(&home, &service).await?;
    if let Some(trouble) = &after.backup_trouble {
        return Err(Failure::new(format!("cannot restore {service} from {name}"), trouble, "its data is as it was"));
    }
    say(common, &format!("{service} has the data of {name}."));
    Ok(())
}

async fn delete(common: &Common, home: &Home, service: ServiceName, name: String, yes: bool) -> Outcome {
    confirm(yes, common, &format!("Delete the backup {name} of {service}?"))?;
    ask(home, &Request::Ask(Ask::DropBackup { service: service.clone(), name: name.clone() })).await?;
    say(common, &format!("{service} has the backup {name} no more."));
    Ok(())
}

fn newest_good(view: &ServiceView) -> Option<String> {
    view.backups.iter().find(|backup| backup.bad.is_none()).map(|backup| backup.name.clone())
}

fn no_backups(service: &ServiceName, what: &str) -> Failure {
    Failure::new(
        format!("cannot {what} {service}"),
        "it has no backup that is good",
        format!("make one with `ostler backup {service}`"),
    )
}

fn backup_name() -> String {
    let seconds = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
    let at = Timestamp(i64::try_from(seconds).unwrap_or(0).saturating_mul(1_000_000));
    format!("by-hand-{}", at.to_seconds().replace(['-', ':'], ""))
}
