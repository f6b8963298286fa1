//! Upgrades in words: of facts, and of what the status says.

use ostler_manager::{Agenda, AvailableView, UpgradeStep, UpgradeView, UpgradedView, named};
use ostler_model::ids::{InstanceId, ServiceName};

use crate::history::counted;

/// What was found to be newer.
pub fn sought_in_words(agenda: &Agenda) -> String {
    let steps = agenda.steps.iter().map(|step| format!("{} {}", step.service, named(&step.to)));
    let steps: Vec<String> = steps.collect();
    match steps.as_slice() {
        [] => "nothing newer can be put to use".to_owned(),
        steps => format!("newer versions can be put to use: {}", steps.join(", ")),
    }
}

/// A step of an upgrade, as one clause.
pub fn step_in_words(service: &ServiceName, step: &UpgradeStep) -> String {
    match step {
        UpgradeStep::Asked { wish } => {
            let to = wish.to.as_ref().map_or_else(String::new, |to| format!(" to {to}"));
            let despite =
                wish.despite.as_ref().map_or_else(String::new, |why| format!(", outside of any window: {why}"));
            format!("a person asked to upgrade {service}{to}{despite}")
        }
        UpgradeStep::Began { data, backup, why, .. } => {
            let data = if *data { ", its data dumped and restored" } else { "" };
            let backup = backup.as_ref().map_or_else(String::new, |name| format!(", after backup {name}"));
            format!("the upgrade of {service} begins{data}{backup}: {why}")
        }
        UpgradeStep::FormerLaunch { generation, .. } => {
            format!("those of {service} that no wave has reached are started from launch {generation} from now on")
        }
        UpgradeStep::WaveBegan { instances } => {
            let names = instances.iter().map(|number| InstanceId::new(service.clone(), *number).to_string());
            format!("the next wave of the upgrade of {service}: {}", names.collect::<Vec<_>>().join(", "))
        }
        UpgradeStep::Serves => format!("the wave of {service} serves, and is watched"),
        UpgradeStep::Passed => format!("the wave of {service} has passed its gate"),
        UpgradeStep::Held { question, .. } => format!("the upgrade of {service} waits for a person: {question}"),
        UpgradeStep::PutOff { why, until } => {
            format!("the upgrade of {service} is put off until {}: {why}", until.to_seconds())
        }
        UpgradeStep::TakenBack { why } => format!("the upgrade of {service} is taken back: {why}"),
        UpgradeStep::Ended => format!("the upgrade of {service} is over"),
    }
}

/// An upgrade that is under way, after the service's name: "is upgraded from …".
pub fn under_way(view: &UpgradeView) -> String {
    let UpgradeView { from, to, now, reached, left, data, .. } = view;
    let progress = match (*data, reached.len(), *left) {
        (true, ..) => String::new(),
        (false, done, left) => format!("; {} of {}", done, counted(done + left, "instance")),
    };
    let back = view.returns.as_ref().map_or_else(String::new, |why| format!(" is taken back ({why})"));
    format!("its upgrade from {from} to {to}{back}: {now}{progress}")
}

/// What could be put to use.
pub fn available(view: &AvailableView) -> String {
    let data = if view.data { ", its data dumped and restored" } else { "" };
    let waits = view.waits.as_ref().map_or_else(|| "begins at once".to_owned(), |waits| format!("waits: {waits}"));
    format!("{} can be upgraded to {}{data}; {waits}", view.from, view.to)
}

/// What became of an upgrade, after the service's name.
pub fn over(view: &UpgradedView) -> String {
    let UpgradedView { from, to, waves, returned, lost, .. } = view;
    let lost = lost.as_ref().map_or_else(String::new, |lost| format!("; {lost}"));
    match returned {
        Some(why) => format!("is {from} again: its upgrade to {to} was taken back: {why}"),
        None => match waves {
            0 => format!("went from {from} to {to}{lost}"),
            waves => format!("was upgraded from {from} to {to} in {}{lost}", counted(*waves as usize, "wave")),
        },
    }
}
