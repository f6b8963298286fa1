//! Facts as people and scripts see them: `ostler journal`.

use ostler_manager::level::Rate;
use ostler_manager::{
    Brings, By, Command, Drill, FOR_BUYER, Fact, FactKind, Outcome, OwnStep, ProvenView, Settlement, Verdict,
};
use ostler_model::estate::slo::Objective;
use ostler_model::health::{Health, SymptomKind};
use ostler_model::ids::{CommandId, InstanceId, ServiceName};
use ostler_model::time::{Timestamp, in_words};
use serde::{Deserialize, Serialize};

use crate::{kept, upgrades};

/// One fact.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct FactView {
    /// Its place in the journal.
    pub position: u64,
    /// When; RFC 3339.
    pub at: String,
    /// Its kind.
    pub kind: String,
    /// The service that it concerns, if it is one.
    pub service: Option<ServiceName>,
    /// In words.
    pub words: String,
    /// The fact as it is stored.
    pub fact: serde_json::Value,
}

/// The fact for people and scripts.
pub fn view(position: u64, fact: &Fact) -> FactView {
    FactView {
        position,
        at: fact.at.to_string(),
        kind: fact.kind.word().to_owned(),
        service: service_of(&fact.kind).cloned(),
        words: in_plain_words(&fact.kind),
        fact: serde_json::to_value(fact).expect("facts have only string and integer keys"),
    }
}

/// The service that a fact concerns. Ends of commands name only the command: see [`command_of`].
pub fn service_of(kind: &FactKind) -> Option<&ServiceName> {
    match kind {
        FactKind::EstateFounded { .. }
        | FactKind::Resumed { .. }
        | FactKind::EstateDeclared { .. }
        | FactKind::CatalogSeen { .. }
        | FactKind::CommandEnded { .. }
        | FactKind::CommandAccepted { .. }
        | FactKind::LossAccepted { .. }
        | FactKind::UpgradesSought { .. }
        | FactKind::ServiceCredit { .. }
        | FactKind::SelfUpgrade { .. }
        | FactKind::OverrideEnded { .. }
        | FactKind::DownAsked => None,
        FactKind::OverrideBegan { instruction, .. } => instruction.service(),
        FactKind::OverrideWeighed { difference, .. } => Some(difference.service()),
        FactKind::Upgrade { service, .. }
        | FactKind::ServicePlaced { service, .. }
        | FactKind::LaunchDefined { service, .. }
        | FactKind::LaunchRejected { service, .. }
        | FactKind::CallersAffected { service, .. }
        | FactKind::TrafficMeasured { service, .. }
        | FactKind::TrafficCounted { service, .. }
        | FactKind::BudgetBurns { service, .. }
        | FactKind::BudgetCalm { service, .. }
        | FactKind::Told { service, .. }
        | FactKind::RestartAsked { service }
        | FactKind::ScaleAsked { service, .. }
        | FactKind::DeleteAsked { service }
        | FactKind::ReleaseAsked { service }
        | FactKind::BackupAsked { service, .. }
        | FactKind::SaleEnded { service }
        | FactKind::MoveBegan { service, .. }
        | FactKind::MoveTurned { service, .. }
        | FactKind::MoveHeld { service, .. }
        | FactKind::MoveReturned { service }
        | FactKind::MoveEnded { service }
        | FactKind::ProofAsked { service, .. }
        | FactKind::BackupBrought { service, .. }
        | FactKind::BackupDropped { service, .. }
        | FactKind::RestoreAsked { service, .. } => Some(service),
        FactKind::DrillBegan { drill } => Some(&drill.service),
        FactKind::DrillEnded { result } => Some(&result.drill.service),
        FactKind::ServiceSold { spec, .. } => Some(&spec.name),
        FactKind::GuestAdmitted { guest, .. } => Some(&guest.sold),
        FactKind::NeedVerified { binding, .. } | FactKind::CredentialsDoubted { binding } => Some(&binding.consumer),
        FactKind::InstanceDeclared { instance }
        | FactKind::InstanceRetired { instance }
        | FactKind::InstanceAdopted { instance, .. }
        | FactKind::InstanceDiscarded { instance, .. }
        | FactKind::InstanceDied { instance, .. }
        | FactKind::HealthChanged { instance, .. }
        | FactKind::RepairBegan { instance, .. }
        | FactKind::Concluded { instance, .. }
        | FactKind::RemedyChosen { instance, .. }
        | FactKind::RepairEnded { instance }
        | FactKind::BackedOff { instance, .. }
        | FactKind::Held { instance, .. } => Some(instance.service()),
        FactKind::Quarantined { leftover, .. } | FactKind::SettleAsked { leftover, .. } => {
            Some(leftover.instance.service())
        }
        FactKind::CommandIssued { command, .. } => Some(service_of_command(command)),
    }
}

/// The command that a fact issues or ends.
pub fn command_of(kind: &FactKind) -> Option<CommandId> {
    match kind {
        FactKind::CommandIssued { id, .. }
        | FactKind::CommandEnded { id, .. }
        | FactKind::CommandAccepted { id, .. } => Some(*id),
        _ => None,
    }
}

fn service_of_command(command: &Command) -> &ServiceName {
    match command {
        Command::Bind { binding, .. } | Command::Unbind { binding, .. } | Command::Tidy { binding, .. } => {
            &binding.consumer
        }
        _ => command.at_service(),
    }
}

/// A fact as one clause.
pub fn in_plain_words(kind: &FactKind) -> String {
    match kind {
        FactKind::EstateFounded { uuid } => format!("the estate was founded with id {uuid}"),
        FactKind::Resumed { cause } => match cause {
            ostler_manager::ResumeCause::Started => "ostler started and looks at everything".to_owned(),
            ostler_manager::ResumeCause::HolderReturned => {
                "the keeper is another one: everything is looked at".to_owned()
            }
            ostler_manager::ResumeCause::StoredLate => {
                "facts could not be stored for a while: everything is looked at".to_owned()
            }
        },
        FactKind::EstateDeclared { estate } => {
            format!("`{}` was declared, {}", estate.name, counted(estate.services.len(), "service"))
        }
        FactKind::CatalogSeen { provider, catalog } => {
            format!("{provider} offers {}", counted(catalog.offerings.len(), "offering"))
        }
        FactKind::ServicePlaced { service, placement } => {
            let version = placement.version.as_ref().map_or(String::new(), |version| format!(" {version}"));
            format!(
                "{service} is bought from {}: {}{version}, plan {}",
                placement.provider, placement.offering, placement.plan
            )
        }
        FactKind::NeedVerified { binding, checks, .. } => {
            let wrong: Vec<String> = checks
                .iter()
                .filter_map(|checked| Some(format!("`{}`: {}", checked.name, checked.problem.as_ref()?)))
                .collect();
            let (consumer, need) = (&binding.consumer, &binding.need);
            match wrong.as_slice() {
                [] => format!("{consumer} can rely on {need}: {} passed", counted(checks.len(), "check")),
                wrong => format!("{consumer} cannot rely on {need}: {}", wrong.join("; ")),
            }
        }
        FactKind::ServiceSold { spec, sale } => {
            format!("{} is sold to {}, who calls it {}: {}", spec.name, sale.buyer, sale.id, spec.offering)
        }
        FactKind::GuestAdmitted { service, guest } => {
            format!("{} may use {}, as {service}", guest.buyer, guest.sold)
        }
        FactKind::SaleEnded { service } => format!("{service} has ended: it was given back, or has expired"),
        FactKind::LaunchDefined { service, generation, .. } => {
            format!("{service} is started from launch {generation} from now on")
        }
        FactKind::InstanceDeclared { instance } => format!("{instance} is to exist"),
        FactKind::InstanceRetired { instance } => format!("{instance} is to be stopped and kept"),
        FactKind::CommandIssued { id, command } => format!("ordered ({id}): {}", command.in_words()),
        FactKind::CommandEnded { id, outcome } => format!("ended ({id}): {}", outcome_in_words(outcome)),
        FactKind::CommandAccepted { id, .. } => {
            format!("under way ({id}): the provider has agreed, and takes its time")
        }
        FactKind::Quarantined { leftover, why } => {
            format!("what ask {leftover} may have left behind is in quarantine: {why}")
        }
        FactKind::InstanceAdopted { instance, name } => {
            format!("a person let {instance} be what its provider knows as {name}")
        }
        FactKind::ReleaseAsked { service } => format!("a person asked to leave {service} to its provider"),
        FactKind::SettleAsked { leftover, how } => match how {
            Settlement::Delete => format!("a person asked to delete {leftover}, which was in quarantine"),
            Settlement::Release => format!("a person released {leftover}, which was in quarantine"),
        },
        FactKind::InstanceDied { instance, pid, exit, restarted, why_not, .. } => {
            died_in_words(instance, *pid, &exit.to_string(), restarted.map(|process| process.pid), why_not.as_deref())
        }
        FactKind::HealthChanged { instance, health } => match health {
            Health::Ready => format!("{instance} is ready"),
            Health::Shallow(symptom) => format!("{instance} is ready itself, but its deep check fails: {symptom}"),
            Health::Unready(symptom) if symptom.kind == SymptomKind::Unknown => {
                format!("{instance}'s probe cannot be made: {symptom}")
            }
            Health::Unready(symptom) => format!("{instance} is not ready: {symptom}"),
        },
        FactKind::RepairBegan { instance, diagnosis } => format!("concluded: {instance} {}", diagnosis.in_words()),
        FactKind::Concluded { instance, finding } => {
            format!("behind the trouble of {instance}: {}", finding.cause.in_words())
        }
        FactKind::RemedyChosen { instance, remedy, forced: None, .. } => {
            format!("tried for {instance}: {}", remedy.in_words())
        }
        FactKind::RemedyChosen { instance, remedy, forced: Some(id), .. } => {
            format!("tried for {instance}, as {id} says: {}", remedy.in_words())
        }
        FactKind::OverrideBegan { id, instruction, owner, reason, until } => {
            format!("{id} of {owner}: {instruction}, until {}: {reason}", until.to_seconds())
        }
        FactKind::OverrideWeighed { id, difference } => format!("without {id} {}", difference.in_words()),
        FactKind::OverrideEnded { id, end } => format!("{id} stands no more: {}", end.in_words()),
        FactKind::LaunchRejected { service, generation, why } => {
            format!("launch {generation} of {service} is taken back: {why}")
        }
        FactKind::CredentialsDoubted { binding } => {
            format!("{} rejects the credentials of {}: they are made anew", binding.need, binding.consumer)
        }
        FactKind::RepairEnded { instance } => format!("{instance} works again"),
        FactKind::BackedOff { instance, failures, .. } => format!("{instance} has failed {failures} times in a row"),
        FactKind::Held { instance, question, goes_on: false, .. } => {
            format!("{instance} waits for a person: {question}")
        }
        FactKind::Held { instance, question, goes_on: true, .. } => format!("{instance} needs a person: {question}"),
        FactKind::CallersAffected { service, from, until, waited, failed, longest } => format!(
            "callers of {service} were affected for {}: {waited} waited (at most {}), {failed} failed",
            in_words(until.since(*from)),
            in_words(*longest)
        ),
        FactKind::TrafficMeasured { service, traffic } => format!(
            "{service} was asked {} times within {}: {} failed, {} were late",
            traffic.asked,
            in_words(traffic.until.since(traffic.from)),
            traffic.failed,
            traffic.late
        ),
        FactKind::TrafficCounted { service, since, bytes_in, bytes_out } => {
            format!("{service} has carried {bytes_in} bytes in and {bytes_out} bytes out since {since}")
        }
        FactKind::BudgetBurns { service, objective, tenths, window } => format!(
            "{service} {} {} times as often as it may, within {window}",
            match objective {
                Objective::Availability => "fails",
                Objective::Latency => "is late",
            },
            Rate { tenths: *tenths }.in_words()
        ),
        FactKind::BudgetCalm { service, objective } => match objective {
            Objective::Availability => format!("{service} fails no more often than it may"),
            Objective::Latency => format!("{service} is late no more often than it may"),
        },
        FactKind::Told { service, occasion } => format!("people were told: {service} {}", occasion.as_str()),
        FactKind::RestartAsked { service } => format!("a person asked to restart {service}"),
        FactKind::ScaleAsked { service, instances } => format!("a person asked for {instances} of {service}"),
        FactKind::SelfUpgrade { from, to, step } => {
            let (from, to) = (from.in_words(), to.in_words());
            match step {
                OwnStep::Began => format!("ostler {from} is being replaced by ostler {to}"),
                OwnStep::Replaced => format!("ostler {to} runs in place of {from}, on probation"),
                OwnStep::Accepted => format!("ostler {to} has passed its probation"),
                OwnStep::TakenBack { why } => format!("ostler {from} runs again in place of {to}: {why}"),
            }
        }
        FactKind::LossAccepted { acknowledged } => match acknowledged {
            Some(position) => format!("a person accepted that facts up to {position} were lost"),
            None => "a person accepted that the newest facts may be lost".to_owned(),
        },
        FactKind::DownAsked => "a person asked to stop everything".to_owned(),
        FactKind::DeleteAsked { service } => format!("a person asked to delete {service} with its data"),
        FactKind::BackupAsked { service, name } => format!("{service} is to be backed up as {name}"),
        FactKind::MoveBegan { service, to, brings, why, .. } => {
            format!("{service} moves to {}, {}: {why}", to.provider, brought(brings))
        }
        FactKind::MoveTurned { service, to, brings, bad, why, .. } => {
            let to = to.as_ref().map_or_else(String::new, |to| format!(" to {}", to.provider));
            let bad = bad.as_ref().map_or_else(String::new, |bad| format!("; backup {bad} is no good"));
            format!("the move of {service} goes on{to}, {}{bad}: {why}", brought(brings))
        }
        FactKind::MoveHeld { service, question, .. } => format!("the move of {service} waits for a person: {question}"),
        FactKind::MoveReturned { service } => format!("a person takes the move of {service} back"),
        FactKind::MoveEnded { service } => format!("the move of {service} is over"),
        FactKind::InstanceDiscarded { instance, why } => format!("{instance} is to be deleted with its data: {why}"),
        FactKind::BackupBrought { service, backup } => {
            format!("its buyer brought a backup of {service}, {} bytes, known as {}", backup.bytes, backup.name)
        }
        FactKind::RestoreAsked { service, name } if name.starts_with(FOR_BUYER) => {
            format!("its buyer asked to restore {service} from {name}")
        }
        FactKind::RestoreAsked { service, name } => format!("a person asked to restore {service} from {name}"),
        FactKind::ProofAsked { service, name } => format!("a restore of {service} from {name} is to be proven"),
        FactKind::BackupDropped { service, name, why } => format!("the backup {name} of {service} is deleted: {why}"),
        FactKind::UpgradesSought { agenda } => upgrades::sought_in_words(agenda),
        FactKind::Upgrade { service, step } => upgrades::step_in_words(service, step),
        FactKind::ServiceCredit { provider, month, step, by, note } => {
            crate::credits::step_in_words(provider, *month, step, (by, note.as_deref()))
        }
        FactKind::DrillBegan { drill } => drill_in_words(drill),
        FactKind::DrillEnded { result } => {
            let (fault, service) = (result.drill.fault, &result.drill.service);
            let words = result.verdict.in_words(fault);
            match result.verdict {
                Verdict::NotCaused(_) | Verdict::CutShort(_) | Verdict::NotRestored(_) => {
                    format!("the drill `{fault}` of {service} {words}")
                }
                Verdict::Proven | Verdict::NotNoticed | Verdict::NotHealed | Verdict::LostData => {
                    format!("the drill `{fault}` of {service} {words}: {}", result.figures())
                }
            }
        }
    }
}

/// With which data a service moves.
fn brought(brings: &Brings) -> String {
    match brings {
        Brings::Nothing => "without data".to_owned(),
        Brings::LastBackup => "with a last backup, so that nothing is lost".to_owned(),
        Brings::Kept { lost_since, .. } => {
            format!("with the data that was kept there; what was written since {} is lost", lost_since.to_seconds())
        }
        Brings::Backup { made, lost_since: None } => format!("with backup {}, so that nothing is lost", made.name),
        Brings::Backup { made, lost_since: Some(since) } => {
            format!("with backup {}; what was written since {} is lost", made.name, since.to_seconds())
        }
    }
}

fn drill_in_words(drill: &Drill) -> String {
    let who = match &drill.by {
        By::Schedule => "by the schedule".to_owned(),
        By::Person { despite: None } => "by a person".to_owned(),
        By::Person { despite: Some(why) } => format!("by a person, outside of any window: {why}"),
    };
    format!("a drill begins: `{}` {}, {who}", drill.fault, drill.place_in_words())
}

/// A number of things: `1 service`, `2 services`.
pub fn counted(count: usize, thing: &str) -> String {
    if count == 1 { format!("1 {thing}") } else { format!("{count} {thing}s") }
}

fn died_in_words(
    instance: &InstanceId,
    pid: Option<u32>,
    exit: &str,
    restarted: Option<u32>,
    why_not: Option<&str>,
) -> String {
    let process = pid.map_or(String::new(), |pid| format!(" (process {pid})"));
    let then = match (restarted, why_not) {
        (Some(pid), _) => format!("the keeper started it again at once as process {pid}"),
        (None, Some(why_not)) => format!("it was not restarted at once: {why_not}"),
        (None, None) => "it was not restarted at once".to_owned(),
    };
    format!("{instance}{process} ended with {exit}; {then}")
}

/// What came of a command, as one clause.
pub fn outcome_in_words(outcome: &Outcome) -> String {
    match outcome {
        Outcome::Open(address) => format!("open at {address}"),
        Outcome::Observed(observation) => match observation {
            ostler_model::outcome::Observation::Absent => "it does not exist".to_owned(),
            ostler_model::outcome::Observation::NotSeen { why } => format!("it is not to be seen: {why}"),
            ostler_model::outcome::Observation::Useless { why } => format!("it could not be made: {why}"),
            ostler_model::outcome::Observation::Stopped { .. } => "it does not run".to_owned(),
            ostler_model::outcome::Observation::Running(running) => format!("it runs at {}", running.address),
        },
        Outcome::Started(started) => match started.running.pid {
            Some(pid) => format!("runs as process {pid} at {}", started.running.address),
            None => format!("runs at {}", started.running.address),
        },
        Outcome::Stopped { exit, killed, cut } => {
            let exit = exit.map_or("nothing ran".to_owned(), |exit| format!("stopped with {exit}"));
            let killed = if *killed { "; killed, because it did not end in time" } else { "" };
            let cut = if *cut > 0 { format!("; {cut} connections were cut") } else { String::new() };
            format!("{exit}{killed}{cut}")
        }
        Outcome::Bound { .. } => "bound".to_owned(),
        Outcome::BackedUp(made) => format!("backed up as {}, {} bytes", made.name, made.bytes),
        Outcome::Proved { checks } => match checks.iter().find_map(|c| Some((&c.name, c.problem.as_ref()?))) {
            None => format!("all of {} checks are as relied on", checks.len()),
            Some((name, problem)) => format!("`{name}` is not as relied on: {problem}"),
        },
        Outcome::Proven(proof) => format!("proven: {}", kept::proof_in_words(&ProvenView::new(Timestamp(0), proof))),
        Outcome::Unusable { why } => format!("the backup is of no use: {why}"),
        Outcome::Caused { .. } => "it is there".to_owned(),
        Outcome::Undone(_) => "nothing is left of it".to_owned(),
        Outcome::Done => "done".to_owned(),
        Outcome::Failed(failure) => format!("failed: {}", failure.detail),
    }
}
