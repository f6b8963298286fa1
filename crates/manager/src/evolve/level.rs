//! What a fact says of how services serve.

use std::time::Duration;

use ostler_model::health::Health;
use ostler_model::ids::ServiceName;
use ostler_model::time::Timestamp;

use crate::command::{Command, Target};
use crate::event::ResumeCause;
use crate::fact::FactKind;
use crate::instance::{Instance, Phase};
use crate::knowledge::{Knowledge, ServiceKnowledge};
use crate::level::{Doing, Level};

/// The longest window in which a budget's burning is looked at, whatever the objective is measured over.
const KEPT_MIN: Duration = Duration::from_secs(72 * 3600);

/// Whose levels a fact may change.
pub(super) enum Touched {
    Nobodys,
    One(ServiceName),
    All,
}

/// Found before the fact is made part of what is known: a command that has ended is forgotten with it.
pub(super) fn touched(known: &Knowledge, kind: &FactKind) -> Touched {
    let of_command = |command: &Command| match command.target() {
        Target::Instance(instance) => Touched::One(instance.service().clone()),
        Target::Endpoint(_) | Target::Leftover(_) | Target::Vault(_) | Target::Drill(_) | Target::Nothing => {
            Touched::Nobodys
        }
    };
    match kind {
        FactKind::Resumed { .. } | FactKind::EstateDeclared { .. } | FactKind::DownAsked => Touched::All,
        FactKind::CommandIssued { command, .. } => of_command(command),
        FactKind::CommandEnded { id, .. } => known.commands.get(id).map_or(Touched::Nobodys, of_command),
        FactKind::InstanceDied { instance, .. }
        | FactKind::HealthChanged { instance, .. }
        | FactKind::RepairBegan { instance, .. }
        | FactKind::InstanceRetired { instance }
        | FactKind::InstanceAdopted { instance, .. }
        | FactKind::InstanceDiscarded { instance, .. }
        | FactKind::InstanceDeclared { instance } => Touched::One(instance.service().clone()),
        FactKind::ScaleAsked { service, .. }
        | FactKind::DeleteAsked { service }
        | FactKind::ReleaseAsked { service }
        | FactKind::MoveBegan { service, .. }
        | FactKind::MoveTurned { service, .. }
        | FactKind::MoveReturned { service }
        | FactKind::TrafficMeasured { service, .. } => Touched::One(service.clone()),
        FactKind::EstateFounded { .. }
        | FactKind::CatalogSeen { .. }
        | FactKind::ServicePlaced { .. }
        | FactKind::LaunchDefined { .. }
        | FactKind::CommandAccepted { .. }
        | FactKind::Quarantined { .. }
        | FactKind::SettleAsked { .. }
        | FactKind::Concluded { .. }
        | FactKind::RemedyChosen { .. }
        | FactKind::LaunchRejected { .. }
        | FactKind::CredentialsDoubted { .. }
        | FactKind::RepairEnded { .. }
        | FactKind::BackedOff { .. }
        | FactKind::Held { .. }
        | FactKind::CallersAffected { .. }
        | FactKind::Told { .. }
        | FactKind::RestartAsked { .. }
        | FactKind::BackupAsked { .. }
        | FactKind::ProofAsked { .. }
        | FactKind::BackupBrought { .. }
        | FactKind::BackupDropped { .. }
        | FactKind::RestoreAsked { .. }
        | FactKind::LossAccepted { .. }
        | FactKind::SelfUpgrade { .. }
        | FactKind::NeedVerified { .. }
        | FactKind::ServiceCredit { .. }
        | FactKind::UpgradesSought { .. }
        | FactKind::Upgrade { .. }
        | FactKind::ServiceSold { .. }
        | FactKind::GuestAdmitted { .. }
        | FactKind::SaleEnded { .. }
        | FactKind::BudgetBurns { .. }
        | FactKind::BudgetCalm { .. }
        | FactKind::TrafficCounted { .. }
        | FactKind::MoveHeld { .. }
        | FactKind::MoveEnded { .. }
        | FactKind::DrillBegan { .. }
        | FactKind::DrillEnded { .. }
        | FactKind::OverrideBegan { .. }
        | FactKind::OverrideWeighed { .. }
        | FactKind::OverrideEnded { .. } => Touched::Nobodys,
    }
}

/// Everything is looked at again: until then nobody knows, and if ostler was not there, nobody knows since the last fact.
pub(super) fn was_not_there(known: &mut Knowledge, cause: ResumeCause, at: Timestamp) {
    let since = match cause {
        ResumeCause::Started => known.latest,
        ResumeCause::HolderReturned | ResumeCause::StoredLate => at,
    };
    for level in known.services.values_mut().filter_map(|service| service.level.as_mut()) {
        level.turn(Doing::Unseen, since.max(level.doing_since));
    }
}

/// The fact is known, since `at`: what its services do now.
pub(super) fn observe(known: &mut Knowledge, touched: &Touched, at: Timestamp) {
    match touched {
        Touched::Nobodys => {}
        Touched::One(service) => observe_one(known, service, at),
        Touched::All => {
            let names: Vec<ServiceName> = known.services.keys().cloned().collect();
            names.iter().for_each(|name| observe_one(known, name, at));
        }
    }
}

fn observe_one(known: &mut Knowledge, name: &ServiceName, at: Timestamp) {
    let Some(service) = known.services.get(name) else { return };
    let Some(slo) = service.spec.slo.as_ref() else {
        if service.level.is_some() {
            with_level(known, name, |level| *level = None);
        }
        return;
    };
    let kept = slo.over.get().max(KEPT_MIN);
    let level = service.level.as_deref().cloned().unwrap_or_else(|| Level::new(at));
    let doing = doing(known, service, &level);
    let ran_on = doing == Doing::Serving
        && level.now == Doing::Unseen
        && service.instances.values().any(|instance| ran_since(instance, level.doing_since));
    with_level(known, name, |known| {
        let level = known.get_or_insert_with(|| Box::new(Level::new(at)));
        if ran_on {
            level.served_meanwhile();
        }
        if level.now != doing {
            level.turn(doing, at.max(level.doing_since));
            level.forget_before(at - kept);
        }
    });
}

fn with_level(known: &mut Knowledge, name: &ServiceName, change: impl FnOnce(&mut Option<Box<Level>>)) {
    if let Some(service) = known.services.get_mut(name) {
        change(&mut service.level);
    }
}

/// Whether its process, which is ready, has run all the time since then.
fn ran_since(instance: &Instance, then: Timestamp) -> bool {
    let process = instance.running.filter(|running| running.pid.is_some());
    instance.is_ready() && process.is_some_and(|running| running.since <= then)
}

fn doing(known: &Knowledge, service: &ServiceKnowledge, level: &Level) -> Doing {
    if !known.is_wanted(service) || service.wanted_instances() == 0 {
        return Doing::Unseen;
    }
    if service.ready > 0 {
        return Doing::Serving;
    }
    let is_known_bad = |instance: &Instance| {
        let is_down = matches!(instance.health, Some(Health::Unready(_))) || instance.phase != Phase::Running;
        instance.was_ready && !instance.retired && (is_down || instance.repair.is_some())
    };
    match level.now {
        Doing::Serving | Doing::Away => Doing::Away,
        // Until one was ready it is not away, but not there yet; and old evidence is none.
        Doing::Unseen if service.instances.values().any(|instance| is_known_bad(instance)) => Doing::Away,
        Doing::Unseen => Doing::Unseen,
    }
}
