//! `ostler upgrade` and `ostler rollback`: newer versions, put to use and taken back.

use std::collections::BTreeSet;

use comfy_table::Table;
use ostler_manager::{Ask, ServiceView, StatusView, UpgradedView};
use ostler_model::ids::ServiceName;
use ostler_runtime::control::{Request, Response};
use ostler_runtime::home::Home;
use ostler_runtime::{clock, upgrades};
use serde::Serialize;

use crate::args::{Common, Rollback, Upgrade};
use crate::client::{ask, cut_off};
use crate::commands::{confirm, print_json};
use crate::failure::{Failure, Outcome};
use crate::{place, show, up};

/// What is newer of a service, as scripts see it.
#[derive(Serialize)]
struct Row<'a> {
    service: &'a ServiceName,
    #[serde(skip_serializing_if = "Option::is_none")]
    available: Option<&'a ostler_manager::AvailableView>,
    #[serde(skip_serializing_if = "Option::is_none")]
    blocked: Option<&'a ostler_manager::BlockedView>,
    #[serde(skip_serializing_if = "Option::is_none")]
    upgrade: Option<&'a ostler_manager::UpgradeView>,
}

/// Puts newer versions to use, or shows what there is.
pub(crate) async fn upgrade(arguments: Upgrade, common: &Common) -> Outcome {
    let home = place::of_command(common)?;
    let Upgrade { service, to, now, preview, yes, within } = arguments;
    let before = status(&home).await?;
    if let Some(service) = &service {
        known(&before, service)?;
    }
    let meant = |view: &&ServiceView| service.as_ref().is_none_or(|service| view.name == *service);
    if preview {
        let rows = before.services.iter().filter(meant);
        let rows = rows.filter(|view| view.available.is_some() || view.blocked.is_some() || view.upgrade.is_some());
        return show_newer(&rows.collect::<Vec<_>>(), common);
    }
    let question = match &service {
        Some(service) => format!("Upgrade {service}?"),
        None => "Upgrade everything that has something newer?".to_owned(),
    };
    if !yes && !common.json {
        let rows: Vec<&ServiceView> = before.services.iter().filter(meant).filter(|v| v.available.is_some()).collect();
        anstream::eprint!("{}", available(&rows));
    }
    confirm(yes, common, &question)?;
    ask(&home, &Request::Ask(Ask::Upgrade { service: service.clone(), to, despite: now })).await?;
    let names: BTreeSet<ServiceName> = {
        let asked = status(&home).await?;
        let asked = asked.services.iter().filter(meant).filter(|v| v.upgrade_asked || v.upgrade.is_some());
        asked.map(|view| view.name.clone()).chain(service.clone()).collect()
    };
    until_over(&home, common, &names, &before, within.get()).await
}

/// Takes an upgrade back.
pub(crate) async fn roll_back(arguments: Rollback, common: &Common) -> Outcome {
    let home = place::of_command(common)?;
    let Rollback { service, accept_loss, yes, within } = arguments;
    let before = status(&home).await?;
    let view = known(&before, &service)?;
    let from =
        view.upgrade.as_ref().map(|it| it.from.clone()).or_else(|| view.upgraded.as_ref().map(|it| it.from.clone()));
    let to = from.map_or_else(String::new, |from| format!(" to {from}"));
    let loss = if accept_loss { ", and lose what was written since" } else { "" };
    confirm(yes, common, &format!("Take {service} back{to}{loss}?"))?;
    ask(&home, &Request::Ask(Ask::Rollback { service: service.clone(), accept_loss })).await?;
    let names = BTreeSet::from([service]);
    until_over(&home, common, &names, &before, within.get()).await
}

async fn status(home: &Home) -> Outcome<StatusView> {
    match ask(home, &Request::Status).await? {
        Response::Status { status, .. } => Ok(*status),
        _ => Err(cut_off()),
    }
}

fn known<'a>(status: &'a StatusView, service: &ServiceName) -> Outcome<&'a ServiceView> {
    status.services.iter().find(|view| view.name == *service).ok_or_else(|| {
        Failure::new(
            format!("cannot upgrade `{service}`"),
            "there is no such service",
            "see `ostler status` for all of them",
        )
    })
}

fn show_newer(rows: &[&ServiceView], common: &Common) -> Outcome {
    if common.json {
        let row = |view: &&'_ ServiceView| -> serde_json::Value {
            serde_json::to_value(Row {
                service: &view.name,
                available: view.available.as_ref(),
                blocked: view.blocked.as_ref(),
                upgrade: view.upgrade.as_ref(),
            })
            .expect("views have only string keys")
        };
        print_json(&serde_json::json!({ "services": rows.iter().map(row).collect::<Vec<_>>() }));
        return Ok(());
    }
    if rows.is_empty() {
        anstream::println!("Nothing is newer than what is used.");
        return Ok(());
    }
    anstream::print!("{}", available(rows));
    for view in rows {
        if let Some(upgrade) = &view.upgrade {
            anstream::println!("{}: {}", view.name, upgrades::under_way(upgrade));
        }
        if let Some(blocked) = &view.blocked {
            anstream::println!(
                "{}: there is {}, which is not put to use: {}",
                view.name,
                blocked.newest,
                blocked.because
            );
        }
    }
    Ok(())
}

/// What can be put to use, in its order, as a table; nothing if nothing can.
fn available(rows: &[&ServiceView]) -> String {
    let mut rows: Vec<_> = rows.iter().filter_map(|view| Some((view, view.available.as_ref()?))).collect();
    rows.sort_by_key(|(_, available)| available.place);
    let mut shown: Table = show::table(&["service", "from", "to", "how", "price", "waits for"]);
    for (view, available) in rows {
        let backup = if available.backup { "after a backup, " } else { "" };
        let how = match (available.data, view.instances_wanted) {
            (true, _) => "its data is dumped and restored; the old instance is kept".to_owned(),
            (false, 1) => format!("{backup}where it is; callers wait meanwhile"),
            (false, many) => format!("{backup}in waves, {many} instances"),
        };
        let price = match (&view.price, available.data) {
            (Some(price), true) => format!("{} {} a {} for what is kept", price.amount, price.currency, price.per),
            (None, true) => "none stated for what is kept".to_owned(),
            (_, false) => "the same".to_owned(),
        };
        let waits = available.waits.clone().unwrap_or_else(|| "nothing".to_owned());
        shown.add_row([view.name.to_string(), available.from.clone(), available.to.clone(), how, price, waits]);
    }
    if shown.is_empty() { String::new() } else { show::lines(&shown) }
}

/// How far the upgrades of these are, a line for each.
fn progress(status: &StatusView, names: &BTreeSet<ServiceName>) -> String {
    let now = clock::now();
    let line = |view: &ServiceView| match (&view.upgrade, &view.available) {
        (Some(upgrade), _) => Some(format!("{}: {}", view.name, upgrades::watched(upgrade, now))),
        (None, Some(available)) if view.upgrade_asked => {
            Some(format!("{}: {}", view.name, upgrades::available(available)))
        }
        (None, _) => None,
    };
    let lines: Vec<String> =
        status.services.iter().filter(|view| names.contains(&view.name)).filter_map(line).collect();
    lines.join("\n  ")
}

/// Waits until the upgrades of these are over, or one waits for a person, and says what came of each.
async fn until_over(
    home: &Home,
    common: &Common,
    names: &BTreeSet<ServiceName>,
    before: &StatusView,
    within: std::time::Duration,
) -> Outcome {
    let is_over = {
        let names = names.clone();
        move |status: &StatusView| {
            let mut meant = status.services.iter().filter(|view| names.contains(&view.name));
            meant.all(|view| match &view.upgrade {
                Some(upgrade) => upgrade.question.is_some(),
                None => !view.upgrade_asked,
            })
        }
    };
    let say = {
        let names = names.clone();
        move |status: &StatusView| progress(status, &names)
    };
    let status = up::until_saying(home, common, within, say, is_over).await?;
    let former = |name: &ServiceName| before.services.iter().find(|view| view.name == *name)?.upgraded.clone();
    let mut done: Vec<(&ServiceName, UpgradedView)> = Vec::new();
    for view in status.services.iter().filter(|view| names.contains(&view.name)) {
        if let Some(upgrade) = view.upgrade.as_ref().filter(|upgrade| upgrade.question.is_some()) {
            return Err(Failure::new(
                format!("the upgrade of {} waits for a person", view.name),
                upgrade.question.clone().unwrap_or_default(),
                upgrade.answer.clone().unwrap_or_default(),
            ));
        }
        match view.upgraded.clone().filter(|last| former(&view.name).as_ref() != Some(last)) {
            Some(last) => done.push((&view.name, last)),
            None => {
                let why = view.available.as_ref().and_then(|available| available.waits.clone());
                return Err(Failure::new(
                    format!("{} was not upgraded", view.name),
                    why.unwrap_or_else(|| "it is not possible any more".to_owned()),
                    format!("see `ostler why {}`", view.name),
                ));
            }
        }
    }
    if common.json {
        let rows = done.iter().map(|(name, last)| serde_json::json!({ "service": name, "upgraded": last }));
        print_json(&serde_json::json!({ "services": rows.collect::<Vec<_>>() }));
    }
    let mut failed = None;
    for (name, last) in &done {
        let is_wanted =
            last.returned.is_none() || before.services.iter().any(|v| v.name == **name && v.upgrade.is_some());
        if !is_wanted {
            failed = Some(Failure::new(
                format!("the upgrade of {name} was taken back"),
                format!("{name} {}", upgrades::over(last)),
                format!("see `ostler why {name}`; `ostler upgrade {name}` tries it again"),
            ));
        } else if !common.json {
            anstream::println!("{name} {}.", upgrades::over(last));
        }
    }
    failed.map_or(Ok(()), Err)
}
