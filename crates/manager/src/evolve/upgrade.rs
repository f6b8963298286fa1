//! Upgrades: what is being put to use, how far it has come, and what came of it.
//!
//! Invariant: which launch an instance is to run from changes only here and where launches are defined; both recount
//! what is outdated by it.

use std::collections::BTreeSet;

use ostler_model::ids::{InstanceId, ServiceName};
use ostler_model::outcome::{Failure, FailureClass};
use ostler_model::time::Timestamp;

use super::index::{recount_outdated, with_instance, with_service};
use crate::backoff;
use crate::command::{Command, Outcome};
use crate::knowledge::{Knowledge, ServiceKnowledge};
use crate::upgrade::{
    Agenda, Looked, REJECTED_MAX, RejectedVersion, UpgradeStep, Upgraded, Upgrades, Upgrading, named,
};

pub(super) fn sought(known: &mut Knowledge, agenda: &Agenda) {
    known.agenda = agenda.clone();
    known.agenda_is_old = false;
}

/// Makes a fact about an upgrade true.
pub(super) fn evolve(known: &mut Knowledge, name: &ServiceName, step: &UpgradeStep, at: Timestamp) {
    match step {
        UpgradeStep::Asked { wish } => {
            with_upgrades(known, name, |upgrades| {
                upgrades.wish = Some(wish.clone());
                upgrades.put_off = None;
            });
            known.agenda_is_old = true;
        }
        UpgradeStep::Began { .. } => begin(known, name, step, at),
        UpgradeStep::FormerLaunch { generation, launch } => {
            with_service(known, name, |service| {
                service.launches.insert(*generation, launch.clone());
            });
            change(known, name, |it| it.former = *generation);
        }
        UpgradeStep::WaveBegan { instances } => {
            learn(known, name, at);
            change(known, name, |it| {
                it.wave = it.wave.saturating_add(1);
                it.in_wave = u32::try_from(instances.len()).unwrap_or(u32::MAX);
                it.wave_began = at;
                it.reached.extend(instances);
                it.serves_since = None;
                it.looked = None;
                it.look_failures = 0;
            });
        }
        UpgradeStep::Serves => {
            learn(known, name, at);
            change(known, name, |it| it.serves_since = Some(at));
        }
        UpgradeStep::Passed => change(known, name, |it| {
            it.passed = it.wave;
            it.held = None;
        }),
        UpgradeStep::Held { question, answer } => {
            change(known, name, |it| it.held = Some((question.clone(), answer.clone())));
        }
        UpgradeStep::PutOff { until, why } => {
            let from = known.services.get(name).and_then(|service| Some(service.upgrading()?.from.clone()));
            known.reassign(name, |service| service.placement = from.or(service.placement.take()));
            with_upgrades(known, name, |upgrades| {
                upgrades.under_way = None;
                upgrades.wish = None; // whoever asked is told, and can ask again
                upgrades.put_off = Some((*until, why.clone()));
            });
            over(known, name);
        }
        UpgradeStep::TakenBack { why } => take_back(known, name, why),
        UpgradeStep::Ended => end(known, name, at),
    }
}

/// There is nothing left of it that could be upgraded.
pub(super) fn drop_it(known: &mut Knowledge, name: &ServiceName) {
    if known.services.get(name).is_some_and(|service| service.upgrades.is_some()) {
        with_upgrades(known, name, |upgrades| upgrades.under_way = None);
        over(known, name);
    }
}

/// Something that was done at an instance is over: what it says of the upgrade, if it was for that.
pub(super) fn step_ended(known: &mut Knowledge, command: &Command, outcome: &Outcome, at: Timestamp) {
    let interrupted = matches!(outcome, Outcome::Failed(Failure { class: FailureClass::Interrupted, .. }));
    let (Command::Prove { instance } | Command::Backup { instance, .. }) = command else { return };
    let service = known.services.get(instance.service());
    if interrupted || service.is_none_or(|service| service.upgrading().is_none()) {
        return; // what was interrupted is done again
    }
    change(known, instance.service(), |it| match (command, outcome) {
        (Command::Prove { .. }, Outcome::Proved { checks }) if it.serves_since.is_some() => {
            let wrong = checks.iter().find_map(|checked| Some((&checked.name, checked.problem.as_ref()?)));
            let wrong = wrong.map(|(name, problem)| Looked::Wrong(format!("`{name}`: {problem}")));
            it.looked = Some(wrong.unwrap_or(Looked::Fine));
        }
        (Command::Prove { .. }, Outcome::Failed(_)) => {
            it.look_failures = it.look_failures.saturating_add(1);
            it.not_before = at + backoff::backup_pause(it.look_failures);
        }
        (Command::Backup { name, .. }, Outcome::Failed(_)) if it.backup.as_ref() == Some(name) => {
            it.backup_failures = it.backup_failures.saturating_add(1);
            it.not_before = at + backoff::backup_pause(it.backup_failures);
        }
        _ => {}
    });
}

/// Counts how long it took until its data was brought over, or until a wave served.
fn learn(known: &mut Knowledge, name: &ServiceName, at: Timestamp) {
    with_service(known, name, |service| {
        let at_once = u32::try_from(service.replaced_at_once()).unwrap_or(u32::MAX);
        let Some(upgrades) = service.upgrades.as_mut() else { return };
        let Some(it) = upgrades.under_way.as_ref() else { return };
        let micros = |since: Timestamp| u64::try_from(at.since(since).as_micros()).unwrap_or(u64::MAX);
        let took = &mut upgrades.took;
        if it.data && it.wave == 0 {
            took.moves = took.moves.saturating_add(1);
            took.moves_us = took.moves_us.saturating_add(micros(it.began));
        } else if !it.data && it.passed < it.wave && it.serves_since.is_none() {
            took.turns = took.turns.saturating_add(it.in_wave.div_ceil(at_once));
            took.turns_us = took.turns_us.saturating_add(micros(it.wave_began));
        }
    });
}

fn begin(known: &mut Knowledge, name: &ServiceName, step: &UpgradeStep, at: Timestamp) {
    let UpgradeStep::Began { to, data, back, backup, despite, why } = step else { return };
    let broken_before = broken(known, name);
    let Some(service) = known.services.get(name).filter(|service| service.upgrading().is_none()) else { return };
    let (Some(from), former) = (service.placement.clone(), service.generation) else { return };
    if !data {
        known.reassign(name, |service| service.placement = Some(to.clone()));
    }
    with_upgrades(known, name, |upgrades| {
        upgrades.put_off = None;
        upgrades.under_way = Some(Upgrading {
            from,
            to: to.clone(),
            began: at,
            why: why.clone(),
            despite: despite.clone(),
            data: *data,
            back: *back,
            backup: backup.clone(),
            backup_failures: 0,
            former,
            wave: 0,
            passed: 0,
            reached: BTreeSet::new(),
            in_wave: 0,
            wave_began: at,
            serves_since: None,
            looked: None,
            look_failures: 0,
            not_before: at,
            broken_before,
            returns: None,
            held: None,
        });
    });
    known.upgrading.insert(name.clone());
    with_service(known, name, recount_outdated);
}

/// What the service's consumers cannot rely on as it is, as `consumer: check`.
pub(crate) fn broken(known: &Knowledge, name: &ServiceName) -> BTreeSet<String> {
    let consumers = known.consumers.get(name).into_iter().flatten().filter_map(|consumer| known.services.get(consumer));
    let looks =
        consumers.filter_map(|consumer| Some((&consumer.spec.name, consumer.bindings.get(name)?.verified.as_ref()?)));
    let wrong = looks.flat_map(|(consumer, verified)| {
        let wrong = verified.checks.iter().filter(|checked| checked.problem.is_some());
        wrong.map(move |checked| format!("{consumer}: {}", checked.name))
    });
    wrong.collect()
}

fn take_back(known: &mut Knowledge, name: &ServiceName, why: &str) {
    let Some(it) = known.services.get(name).and_then(|service| service.upgrading()) else { return };
    let from = it.from.clone();
    if !it.data {
        known.reassign(name, |service| service.placement = Some(from));
    }
    with_service(known, name, |service| {
        service.changed = None;
        if let Some(it) = service.upgrading().filter(|it| !it.data && service.launches.contains_key(&it.former)) {
            service.generation = it.former;
        }
    });
    // What the upgrade has brought holds nothing up any more.
    let reached = known.services.get(name).and_then(|service| Some(service.upgrading()?.reached.clone()));
    for number in reached.into_iter().flatten() {
        with_instance(known, &InstanceId::new(name.clone(), number), super::try_again);
    }
    change(known, name, |it| {
        it.returns = Some(why.to_owned());
        it.held = None;
    });
}

fn end(known: &mut Knowledge, name: &ServiceName, at: Timestamp) {
    with_service(known, name, |service| {
        let moved_back = service.moved.as_ref().is_some_and(|moved| moved.returned);
        let upgrades = service.upgrades.get_or_insert_default();
        let Some(it) = upgrades.under_way.take() else { return };
        let returned = it.returns.or_else(|| (it.data && moved_back).then(|| "a person took it back".to_owned()));
        let rejected = match (&returned, it.back) {
            (Some(why), false) => Some((named(&it.to), why.clone())),
            (None, true) => Some((named(&it.from), it.why.clone())),
            (None, false) | (Some(_), true) => None,
        };
        if returned.is_none() {
            upgrades.rejected.remove(&named(&it.to)); // it has shown what it is worth
        }
        if let Some((version, why)) = rejected {
            upgrades.rejected.insert(version, RejectedVersion { at, why });
        }
        if upgrades.rejected.len() > REJECTED_MAX {
            let oldest = upgrades.rejected.iter().min_by_key(|(_, rejected)| rejected.at).map(|(name, _)| name.clone());
            oldest.map(|oldest| upgrades.rejected.remove(&oldest));
        }
        upgrades.wish = None;
        upgrades.last = Some(Upgraded {
            from: it.from,
            to: it.to,
            began: it.began,
            ended: at,
            waves: it.wave,
            returned,
            data: it.data,
            back: it.back,
        });
    });
    over(known, name);
}

fn over(known: &mut Knowledge, name: &ServiceName) {
    known.upgrading.remove(name);
    known.agenda_is_old = true;
    with_service(known, name, recount_outdated);
}

fn with_upgrades(known: &mut Knowledge, name: &ServiceName, change: impl FnOnce(&mut Upgrades)) {
    with_service(known, name, |service| change(service.upgrades.get_or_insert_default()));
}

/// Changes the upgrade under way, and recounts what is outdated by it.
fn change(known: &mut Knowledge, name: &ServiceName, change: impl FnOnce(&mut Upgrading)) {
    with_service(known, name, |service: &mut ServiceKnowledge| {
        if let Some(it) = service.upgrades.as_mut().and_then(|upgrades| upgrades.under_way.as_mut()) {
            change(it);
            recount_outdated(service);
        }
    });
}
