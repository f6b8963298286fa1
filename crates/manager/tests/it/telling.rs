//! Facts and orders in a line each, as the transcripts of stories show them.

use std::collections::BTreeMap;

use ostler_manager::{AgendaStep, Brings, By, Command, Difference, FactKind, Outcome, Untreated, UpgradeStep, named};
use ostler_model::health::{Exit, Health, SymptomKind};
use ostler_model::ids::CommandId;
use ostler_model::outcome::Observation;
use ostler_model::time::{Span, in_words};

use crate::support::START;

/// What a story calls an order.
pub(crate) fn key(command: &Command) -> String {
    match command {
        Command::OpenEndpoint { service, .. } => format!("open {service}"),
        Command::CloseEndpoint { service } => format!("close {service}"),
        Command::Provision { instance } => format!("provision {instance}"),
        Command::Observe { instance } => format!("observe {instance}"),
        Command::Before { instance, .. } => format!("before {instance}"),
        Command::Start { instance, .. } => format!("start {instance}"),
        Command::Stop { instance, .. } => format!("stop {instance}"),
        Command::Deprovision { instance } => format!("delete {instance}"),
        Command::Bind { binding, .. } => format!("bind {binding}"),
        Command::Unbind { binding, .. } => format!("unbind {binding}"),
        Command::Release { instance } => format!("release {instance}"),
        Command::Update { instance, .. } => format!("update {instance}"),
        Command::Mitigate { leftover } => format!("mitigate {leftover}"),
        Command::Tidy { binding, .. } => format!("tidy {binding}"),
        Command::Backup { instance, .. } => format!("backup {instance}"),
        Command::Restore { instance, .. } => format!("restore {instance}"),
        Command::Fence { service, .. } => format!("fence {service}"),
        Command::Prove { instance } => format!("prove {instance}"),
        Command::ProveBackup { service, .. } => format!("prove-backup {service}"),
        Command::DropBackup { service, .. } => format!("drop {service}"),
        Command::Fault { drill } => format!("cause {}", drill.service),
        Command::Undo { drill } => format!("undo {}", drill.service),
        Command::Watch { .. } | Command::Unwatch { .. } | Command::Route { .. } | Command::Notify { .. } => {
            String::new()
        }
    }
}

/// A fact in a line; `None` for what only says again what another line says.
pub(crate) fn in_line(fact: &FactKind, orders: &BTreeMap<CommandId, Command>) -> Option<String> {
    Some(match fact {
        FactKind::NeedVerified { binding, checks, .. } => {
            let wrong: Vec<&str> = checks.iter().filter(|c| c.problem.is_some()).map(|c| c.name.as_str()).collect();
            format!("{binding} was looked at: {} wrong {wrong:?}", wrong.len())
        }
        FactKind::ServiceSold { spec, sale } => format!("{} is sold to {}", spec.name, sale.buyer),
        FactKind::GuestAdmitted { service, guest } => format!("{service} may use {}", guest.sold),
        FactKind::SaleEnded { service } => format!("{service} is given back"),
        FactKind::CommandIssued { command, .. } => match command {
            Command::Watch { .. } | Command::Unwatch { .. } => return None,
            // Said where it is not what its offering gives.
            Command::Stop { grace, .. } if *grace != Span::seconds(10) => {
                format!("→ {}, which it has {grace} for", command.in_words())
            }
            Command::Notify { message, occasion, .. } => format!("told ({}): {message}", occasion.as_str()),
            other => format!("→ {}", other.in_words()),
        },
        FactKind::CommandEnded { id, outcome } => {
            let order = orders.get(id).map_or_else(String::new, key);
            match outcome {
                Outcome::Failed(failure) => format!("← {order}: {} ({:?})", failure.detail, failure.class),
                Outcome::Observed(Observation::Running(_)) => format!("← {order}: it runs"),
                Outcome::Observed(Observation::Stopped { .. }) => format!("← {order}: it does not run"),
                Outcome::Observed(Observation::Absent) => format!("← {order}: there is none"),
                Outcome::Observed(Observation::NotSeen { why } | Observation::Useless { why }) => {
                    format!("← {order}: {why}")
                }
                _ => format!("← {order}"),
            }
        }
        FactKind::EstateFounded { .. } | FactKind::CatalogSeen { .. } | FactKind::Told { .. } => return None,
        FactKind::CommandAccepted { id, .. } => {
            format!("… {}: it will be done", orders.get(id).map_or_else(String::new, key))
        }
        FactKind::Quarantined { leftover, why } => format!("{leftover} is in quarantine: {why}"),
        FactKind::InstanceAdopted { instance, name } => format!("{instance} is what its provider knows as {name}"),
        FactKind::ReleaseAsked { service } => format!("{service} is to be left to its provider"),
        FactKind::SettleAsked { leftover, how } => format!("{leftover} is settled: {how:?}"),
        FactKind::Resumed { .. } => "everything is looked at again".to_owned(),
        FactKind::EstateDeclared { .. } => "the estate is declared".to_owned(),
        FactKind::ServicePlaced { service, placement } => {
            let version = placement.version.as_ref().map_or_else(String::new, |version| format!(" {version}"));
            format!("{service} is bought: {} {}{version}", placement.offering, placement.plan)
        }
        FactKind::LaunchDefined { service, generation, .. } => format!("{service} starts from launch {generation} now"),
        FactKind::InstanceDeclared { instance } => format!("{instance} is declared"),
        FactKind::InstanceRetired { instance } => format!("{instance} is retired"),
        FactKind::InstanceDied { instance, exit, restarted, .. } => match (exit, restarted) {
            (Exit::Unknown, _) => format!("{instance} died"),
            (exit, Some(_)) => format!("{instance} ended with {exit} and was started again at once"),
            (exit, None) => format!("{instance} ended with {exit}"),
        },
        FactKind::HealthChanged { instance, health } => match health {
            Health::Ready => format!("{instance} is ready"),
            Health::Shallow(symptom) => format!("{instance} is ready, and something behind it is not: {symptom}"),
            Health::Unready(symptom) if symptom.kind == SymptomKind::Unknown => {
                format!("{instance} cannot be probed: {symptom}")
            }
            Health::Unready(symptom) => format!("{instance} is not ready: {symptom}"),
        },
        FactKind::RepairBegan { instance, diagnosis } => format!("concluded: {instance} {}", diagnosis.in_words()),
        FactKind::Concluded { instance, finding } => format!("behind it: {instance}: {}", finding.cause.in_words()),
        FactKind::RemedyChosen { instance, remedy, weighed, forced } => {
            let others: Vec<&str> =
                weighed.iter().filter(|other| other.remedy != *remedy).map(|other| other.remedy.in_words()).collect();
            let others = if others.is_empty() { String::new() } else { format!(", rather than {}", others.join(", ")) };
            let forced = forced.map_or_else(String::new, |id| format!(", as {id} says"));
            format!("tried: {instance}: {}{others}{forced}", remedy.in_words())
        }
        FactKind::LaunchRejected { service, generation, why } => {
            format!("launch {generation} of {service} is taken back: {why}")
        }
        FactKind::CredentialsDoubted { binding } => format!("the credentials of {binding} are made anew"),
        FactKind::RepairEnded { instance } => format!("{instance} works again"),
        FactKind::BackedOff { instance, failures, .. } => format!("{instance}: failure {failures} in a row"),
        FactKind::Held { instance, answer, goes_on, .. } => {
            let is_held = if *goes_on { "needs a person" } else { "is held" };
            format!("{instance} {is_held}; the answer: {answer}")
        }
        FactKind::CallersAffected { service, .. } => format!("callers of {service} had to wait"),
        FactKind::RestartAsked { service } => format!("a restart of {service} is recorded"),
        FactKind::ScaleAsked { service, instances } => format!("{service} is to have {instances}"),
        FactKind::DownAsked => "everything is to stop".to_owned(),
        FactKind::DeleteAsked { service } => format!("{service} is to be deleted"),
        FactKind::BackupAsked { service, name } => format!("a backup {name} of {service} is wanted"),
        FactKind::RestoreAsked { service, name } => format!("{service} is to be restored from {name}"),
        FactKind::ProofAsked { service, name } => format!("a restore of {service} from {name} is to be proven"),
        FactKind::BackupBrought { service, backup } => format!("{} of {service} is brought", backup.name),
        FactKind::BackupDropped { service, name, why } => format!("{name} of {service} is given up: {why}"),
        FactKind::TrafficMeasured { service, traffic } => {
            format!("{service}: {} of {} failed", traffic.failed, traffic.asked)
        }
        FactKind::TrafficCounted { service, bytes_in, bytes_out, .. } => {
            format!("{service} has carried {bytes_in} and {bytes_out} bytes")
        }
        FactKind::BudgetBurns { service, objective, tenths, window } => {
            format!("{service} burns its budget of {}: {tenths} tenths in {window}", objective.as_str())
        }
        FactKind::ServiceCredit { provider, month, step, by, .. } => {
            format!("of the credit of {provider} for {month}: {step:?}, says {by}")
        }
        FactKind::BudgetCalm { service, objective } => {
            format!("{service} burns its budget of {} no more", objective.as_str())
        }
        FactKind::MoveBegan { service, to, brings, .. } => {
            format!("{service} moves to {} {}, with {}", to.provider, to.plan, brought(brings))
        }
        FactKind::MoveTurned { service, to, brings, bad, why, .. } => {
            let to = to.as_ref().map_or_else(String::new, |to| format!(" to {}", to.provider));
            let bad = bad.as_ref().map_or_else(String::new, |bad| format!(", as {bad} is no good"));
            format!("{service} moves in another way{to}, with {}{bad}: {why}", brought(brings))
        }
        FactKind::MoveHeld { service, answer, .. } => format!("the move of {service} is held; the answer: {answer}"),
        FactKind::MoveReturned { service } => format!("{service} goes back"),
        FactKind::MoveEnded { service } => format!("{service}'s move is over"),
        FactKind::InstanceDiscarded { instance, why } => format!("{instance} is to be deleted: {why}"),
        FactKind::DrillBegan { drill } => {
            let who = if drill.by == By::Schedule { "the schedule" } else { "a person" };
            format!("{who} drills {}: {}", drill.service, drill.fault)
        }
        FactKind::DrillEnded { result } => {
            let right = result.diagnosed.as_ref().map(|diagnosed| diagnosed.right);
            let noticed = result.noticed_ms;
            let (words, figures) = (result.verdict.in_words(result.drill.fault), result.figures());
            format!("the drill {words}: {figures}; noticed after {noticed:?} ms, diagnosis right: {right:?}")
        }
        FactKind::UpgradesSought { agenda } if agenda.is_empty() => return None,
        FactKind::UpgradesSought { agenda } => {
            let step =
                |step: &AgendaStep| format!("{} from {} to {}", step.service, named(&step.from), named(&step.to));
            let steps: Vec<String> = agenda.steps.iter().map(step).collect();
            let blocked = agenda.blocked.iter().map(|b| format!("not {} {}: {}", b.service, b.newest, b.because));
            format!("newer: {}", steps.into_iter().chain(blocked).collect::<Vec<_>>().join("; "))
        }
        FactKind::Upgrade { service, step } => format!("{service}: {}", upgrade_in_line(step)),
        FactKind::OverrideBegan { id, instruction, owner, until, .. } => {
            format!("{id} of {owner}: {instruction}, until {}", in_words(until.since(START)))
        }
        FactKind::OverrideWeighed { id, difference } => {
            let away = match difference {
                Difference::Remedy { instead: Some(Untreated { away: true, .. }), .. } => ", and nothing serves",
                _ => "",
            };
            format!("without {id} {}{away}", difference.in_words())
        }
        FactKind::OverrideEnded { id, end } => format!("{id} stands no more: {}", end.in_words()),
        FactKind::SelfUpgrade { .. } => "ostler itself is replaced".to_owned(),
        FactKind::LossAccepted { .. } => "a loss of facts is accepted".to_owned(),
    })
}

fn upgrade_in_line(step: &UpgradeStep) -> String {
    match step {
        UpgradeStep::Asked { .. } => "an upgrade is asked for".to_owned(),
        UpgradeStep::Began { why, data, backup, .. } => {
            let data = if *data { ", with its data" } else { "" };
            let backup = backup.as_ref().map_or_else(String::new, |name| format!(", after {name}"));
            format!("its upgrade begins{data}{backup}: {why}")
        }
        UpgradeStep::FormerLaunch { generation, .. } => {
            format!("who no wave has reached starts from launch {generation}")
        }
        UpgradeStep::WaveBegan { instances } => format!("a wave begins: {instances:?}"),
        UpgradeStep::Serves => "the wave serves".to_owned(),
        UpgradeStep::Passed => "the wave has passed its gate".to_owned(),
        UpgradeStep::Held { answer, .. } => format!("its upgrade needs a person; the answer: {answer}"),
        UpgradeStep::PutOff { why, .. } => format!("its upgrade is put off: {why}"),
        UpgradeStep::TakenBack { why } => format!("its upgrade is taken back: {why}"),
        UpgradeStep::Ended => "its upgrade is over".to_owned(),
    }
}

pub(crate) fn brought(brings: &Brings) -> String {
    match brings {
        Brings::Nothing => "no data".to_owned(),
        Brings::LastBackup => "a last backup".to_owned(),
        Brings::Kept { number, .. } => format!("what instance {number} kept"),
        Brings::Backup { made, lost_since: None } => format!("{}, which has all", made.name),
        Brings::Backup { made, lost_since: Some(since) } => {
            format!("{} of {}", made.name, in_words(since.since(START)))
        }
    }
}
