//! Upgrades in words: of facts, and of what the status says.

use ostler_manager::{Agenda, AvailableView, UpgradeStep, UpgradeView, UpgradedView, named};
use ostler_model::ids::{InstanceId, ServiceName};
use ostler_model::time::{Timestamp, in_words};

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
    let UpgradeView { from, to, now, over_by, .. } = view;
    let progress = instances(view).map_or_else(String::new, |progress| format!("; {progress}"));
    let back = view.returns.as_ref().map_or_else(String::new, |why| format!(" is taken back ({why})"));
    let over = over_by.as_ref().map_or_else(String::new, |at| format!("; over at about {at}"));
    let window = match &view.window_until {
        Some(until) if is_beyond(view) => format!("; the window closes at {until}, and the next one goes on"),
        Some(until) => format!("; the window closes at {until}"),
        None => String::new(),
    };
    format!("its upgrade from {from} to {to}{back}: {now}{progress}{over}{window}")
}

/// Which of how many waves, and how many instances are what they are to be; nothing where its data moves.
fn instances(view: &UpgradeView) -> Option<String> {
    let UpgradeView { wave, waves, reached, left, data, .. } = view;
    let done = reached.len();
    let wave = if *wave > 0 && *waves > 1 { format!("wave {wave} of {waves}, ") } else { String::new() };
    (!data).then(|| format!("{wave}{done} of {}", counted(done + left, "instance")))
}

/// Whether it is over only after the present window.
fn is_beyond(view: &UpgradeView) -> bool {
    let time = |text: &Option<String>| Timestamp::parse(text.as_ref()?);
    time(&view.over_by).zip(time(&view.window_until)).is_some_and(|(over, closes)| over > closes)
}

/// For whoever watches: how far an upgrade is, which gate it is at, and how much time is left of what, at `now`.
pub fn watched(view: &UpgradeView, now: Timestamp) -> String {
    let left = |text: &Option<String>| {
        let left = Timestamp::parse(text.as_ref()?)?.since(now);
        // To the second: what is not over does not say 0.
        Some(in_words(std::time::Duration::from_secs(left.as_secs().max(1))))
    };
    let UpgradeView { from, to, .. } = view;
    let mut parts = vec![match &view.returns {
        Some(why) => format!("{from} again, taken back from {to} ({why})"),
        None => format!("{from} to {to}"),
    }];
    parts.extend(instances(view).filter(|_| view.returns.is_none()));
    parts.push(match left(&view.watched_until) {
        Some(left) if view.watched_until.as_deref().and_then(Timestamp::parse).is_some_and(|until| until > now) => {
            format!("at its gate: serves, is watched for {left} more")
        }
        Some(_) => "at its gate: looked at as its consumers see it".to_owned(),
        None => view.now.clone(),
    });
    parts.extend(left(&view.over_by).map(|left| format!("about {left} left")));
    parts.extend(left(&view.window_until).map(|left| match is_beyond(view) {
        true => format!("the window closes in {left}, and the next one goes on"),
        false => format!("the window closes in {left}"),
    }));
    parts.join("; ")
}

/// What could be put to use.
pub fn available(view: &AvailableView) -> String {
    let data = match (view.data, view.backup) {
        (true, _) => ", its data dumped and restored",
        (false, true) => ", after a backup",
        (false, false) => "",
    };
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whoever_watches_is_told_waves_gates_and_times() {
        let mut view = UpgradeView {
            from: "1.0".to_owned(),
            to: "1.1".to_owned(),
            began: "2026-11-28T22:00:00Z".to_owned(),
            why: "a person asked for it".to_owned(),
            now: "wave 2 is started".to_owned(),
            wave: 2,
            passed: 1,
            waves: 3,
            reached: vec!["web-1".parse().unwrap(), "web-2".parse().unwrap()],
            left: 2,
            watched_until: None,
            over_by: None,
            window_until: None,
            data: false,
            returns: None,
            question: None,
            answer: None,
        };
        let now = Timestamp::parse("2026-11-28T22:10:00.4Z").unwrap();
        assert_eq!(watched(&view, now), "1.0 to 1.1; wave 2 of 3, 2 of 4 instances; wave 2 is started");
        view.watched_until = Some("2026-11-28T22:10:30Z".to_owned());
        view.over_by = Some("2026-11-28T22:16:00Z".to_owned());
        view.window_until = Some("2026-11-29T04:00:00Z".to_owned());
        assert_eq!(
            watched(&view, now),
            "1.0 to 1.1; wave 2 of 3, 2 of 4 instances; at its gate: serves, is watched for 29 s more; about 5 min 59 s left; \
             the window closes in 5 h 49 min"
        );
        view.window_until = Some("2026-11-28T22:12:00Z".to_owned());
        assert!(watched(&view, now).ends_with("the window closes in 1 min 59 s, and the next one goes on"));
        assert!(under_way(&view).ends_with("closes at 2026-11-28T22:12:00Z, and the next one goes on"));
        let later = Timestamp::parse("2026-11-28T22:10:31Z").unwrap();
        assert!(watched(&view, later).contains("at its gate: looked at as its consumers see it"));
        view.returns = Some("it does worse".to_owned());
        assert!(watched(&view, later).starts_with("1.0 again, taken back from 1.1 (it does worse); "));
    }
}
