//! What people and scripts see of what is known: `ostler status`. The JSON is stable.

use std::net::SocketAddr;

use ostler_model::catalog::Price;
use ostler_model::health::{Health, State};
use ostler_model::ids::{
    AttemptId, EstateName, EstateUuid, InstanceId, OfferingName, PlanName, ProviderName, ServiceName,
};
use ostler_model::outcome::{BackupMade, Counted, Failure, Proof};
use ostler_model::time::Timestamp;
use ostler_model::version::Version;
use serde::{Deserialize, Serialize};

use crate::decide::decide;
use crate::diagnosis::{Cause, Finding};
use crate::event::{Event, Scope};
use crate::knowledge::{Instance, Knowledge, OperationKind, Origin, Phase, ServiceKnowledge, Wanted};
use crate::rounds::Leftover;
use crate::vault::Found;
use crate::verified::Checked;

mod drills;
mod levels;
mod moves;
mod overrides;
mod upgrades;

pub use self::drills::{DrillView, DrillingView};
use self::drills::{drilling, drills};
use self::levels::levels;
pub use self::levels::{BurnView, ExcludedView, LevelView};
pub use self::moves::{LeftView, MovedView, MovingView};
use self::moves::{left_view, moved_view, moving_view};
pub use self::overrides::{OverrideView, overrides};
pub use self::upgrades::{AvailableView, BlockedView, UpgradeView, UpgradedView};
use self::upgrades::{available, blocked, upgrade_view, upgraded_view};

/// The whole estate.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StatusView {
    /// Its name; `None` before one was declared.
    pub estate: Option<EstateName>,
    /// Its id, from which the names of everything follow that it asks brokers for: `ostler up --estate-id` finds that again
    /// after the journal was lost.
    #[serde(default)]
    pub id: Option<EstateUuid>,
    /// Everything declared is as it should be and nothing is under way.
    pub settled: bool,
    /// A person asked that everything be stopped.
    pub down: bool,
    /// Its services, by name.
    pub services: Vec<ServiceView>,
    /// What people instruct against, or ahead of, what ostler would decide.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub overrides: Vec<OverrideView>,
}

/// One service.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServiceView {
    /// Its name.
    pub name: ServiceName,
    /// Its state.
    pub state: State,
    /// What was bought.
    pub offering: OfferingName,
    /// Which plan.
    pub plan: Option<PlanName>,
    /// From whom.
    pub provider: Option<ProviderName>,
    /// Where.
    pub region: Option<String>,
    /// Which version.
    pub version: Option<Version>,
    /// Its stable address.
    pub endpoint: Option<SocketAddr>,
    /// Whether its data outlives its instances.
    pub durable: bool,
    /// What one instance costs, if the provider says.
    pub price: Option<Price>,
    /// How many instances it is to have.
    pub instances_wanted: u32,
    /// The number in the estate file, where a person set another since.
    pub instances_declared: u32,
    /// What is wrong with the service itself: its endpoint, a binding, a backup.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub troubles: Vec<String>,
    /// Its backups, newest first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub backups: Vec<BackupView>,
    /// Backups of it are made on a schedule.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub backed_up: bool,
    /// Why the last backup, or the last restore, failed, if it did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub backup_trouble: Option<String>,
    /// The backup that is being restored on the side now, or next.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub proving: Option<String>,
    /// Its needs, with what the last look at each found.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub needs: Vec<NeedView>,
    /// To whom it was sold.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sold: Option<SoldView>,
    /// How it stands with its service level objectives.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub levels: Vec<LevelView>,
    /// Its move to another provider, while one is under way.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub moving: Option<MovingView>,
    /// Its last move that is over.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub moved: Option<MovedView>,
    /// Its upgrade, while one is under way.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub upgrade: Option<UpgradeView>,
    /// What is newer and can be put to use.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub available: Option<AvailableView>,
    /// What is newer and is not put to use.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub blocked: Option<BlockedView>,
    /// A person has asked for an upgrade of it that is not over.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub upgrade_asked: bool,
    /// Its last upgrade that is over.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub upgraded: Option<UpgradedView>,
    /// The drill of it that is under way.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub drilling: Option<DrillingView>,
    /// What its last drill with each fault has shown, newest first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub drills: Vec<DrillView>,
    /// The schedule makes no more drills of it until a person has looked.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub drills_held: bool,
    /// Its instances, by number.
    pub instances: Vec<InstanceView>,
    /// What asks for instances may have left behind at its provider.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub leftovers: Vec<LeftoverView>,
}

/// What an ask for an instance may have left behind.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LeftoverView {
    /// Which ask.
    pub id: AttemptId,
    /// `in-doubt` while it is being deleted, or may still appear; `quarantined` while it waits for a person.
    pub state: State,
    /// At whom.
    pub provider: ProviderName,
    /// What it costs, if it is there and the provider says.
    pub price: Option<Price>,
    /// Since when; RFC 3339.
    pub since: String,
    /// Why it counts as left behind, or cannot be deleted.
    pub because: String,
    /// How to answer, if it waits for a person.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub answer: Option<String>,
}

/// A need, and what the last look with the service's own binding found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NeedView {
    /// Which service is needed.
    pub need: ServiceName,
    /// When; RFC 3339. `None` if nobody has looked.
    pub verified: Option<String>,
    /// What was looked at, and what was found wrong.
    pub checks: Vec<Checked>,
}

/// To whom a service was sold.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SoldView {
    /// Who bought it.
    pub to: String,
    /// By which name the buyer knows it.
    pub id: String,
    /// How many bindings the buyer has to it.
    pub bindings: usize,
}

/// One backup.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BackupView {
    /// Its name.
    pub name: String,
    /// When it was finished; RFC 3339.
    pub at: String,
    /// Its size.
    pub bytes: u64,
    /// Where it is kept; `None` for the home.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub place: Option<String>,
    /// How its restore was proven, if it was.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub proven: Option<ProvenView>,
    /// Why it is of no use, if it is known to be of none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bad: Option<String>,
}

/// How a restore was proven.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProvenView {
    /// When; RFC 3339.
    pub at: String,
    /// How long it took to fetch and restore the backup, in milliseconds.
    pub took_ms: u64,
    /// What was counted in it.
    pub counted: Counted,
    /// How many of its consumers' contracts it kept.
    pub contracts: u32,
}

impl ProvenView {
    /// What was found at this time.
    pub fn new(at: Timestamp, proof: &Proof) -> Self {
        let took_ms = u64::try_from(proof.took.get().as_millis()).unwrap_or(u64::MAX);
        Self { at: at.to_seconds(), took_ms, counted: proof.counted.clone(), contracts: proof.contracts }
    }
}

/// One instance.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct InstanceView {
    /// Its id.
    pub id: InstanceId,
    /// Its state.
    pub state: State,
    /// Where it answers.
    pub address: Option<SocketAddr>,
    /// Its process.
    pub pid: Option<u32>,
    /// Since when it is what it is; RFC 3339.
    pub since: String,
    /// What is wrong, or what it waits for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub because: Option<String>,
    /// What is behind it, if something is wrong.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cause: Option<Cause>,
    /// How to answer what it waits for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub answer: Option<String>,
    /// Where it is, if a move left it there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub left_at: Option<LeftView>,
}

/// The status as of `now`.
pub fn status(known: &Knowledge, now: Timestamp) -> StatusView {
    StatusView {
        estate: known.estate.as_ref().map(|estate| estate.name.clone()),
        id: known.uuid,
        settled: known.is_settled(),
        down: known.down,
        overrides: overrides(known, None, now),
        services: known
            .services
            .values()
            .filter(|s| !s.is_guest())
            .map(|service| service_view(known, service, now))
            .collect(),
    }
}

fn service_view(known: &Knowledge, service: &ServiceKnowledge, now: Timestamp) -> ServiceView {
    let placement = service.placement.as_ref();
    let instances: Vec<InstanceView> = service
        .instances
        .iter()
        .map(|(number, instance)| instance_view(known, service, service.instance_id(*number), instance, now))
        .collect();
    let provider = placement.map(|placement| placement.provider.clone());
    let region = provider.as_ref().and_then(|name| known.estate.as_ref()?.providers.get(name)?.region.clone());
    let plan = placement.map(|placement| placement.plan.clone());
    let price = known
        .offering(service)
        .and_then(|offering| offering.plans.iter().find(|offered| Some(&offered.name) == plan.as_ref())?.price.clone());
    ServiceView {
        name: service.spec.name.clone(),
        state: service_state(known, service, &instances),
        offering: service.spec.offering.clone(),
        plan,
        provider,
        region,
        version: placement.and_then(|placement| placement.version.clone()),
        endpoint: service.endpoint.address,
        durable: known.is_durable(service),
        price,
        instances_wanted: service.wanted_instances(),
        instances_declared: service.spec.instances,
        troubles: troubles(service),
        backups: service.backups.iter().rev().map(|(at, made)| backup_view(service, *at, made)).collect(),
        backed_up: service.spec.data.backup_every.is_some(),
        backup_trouble: service.backup_trouble.as_ref().map(in_full),
        proving: service.vault().proof_wanted.clone(),
        leftovers: leftovers(known, service),
        needs: needs(service),
        sold: sold(known, service),
        levels: levels(service, now),
        moving: service.moving.as_ref().and_then(|moving| moving_view(service, moving)),
        // One that stayed where it was is an upgrade, and told as that.
        moved: service.moved.as_ref().filter(|it| it.from.provider != it.to.provider).map(|moved| moved_view(moved)),
        upgrade: upgrade_view(known, service, now),
        available: available(known, service, now),
        blocked: blocked(known, service),
        upgrade_asked: service.upgrades().wish.is_some(),
        upgraded: service.upgrades().last.as_ref().map(|last| upgraded_view(service, last)),
        drilling: drilling(known, service),
        drills: drills(known, service, now),
        drills_held: service.drilled.as_ref().is_some_and(|drilled| drilled.failed),
        instances,
    }
}

fn backup_view(service: &ServiceKnowledge, at: Timestamp, made: &BackupMade) -> BackupView {
    let found = service.vault().found.get(&made.name);
    let (proven, bad) = match found {
        Some(Found::Proven { at, proof }) => (Some(ProvenView::new(*at, proof)), None),
        Some(Found::Bad { why, .. }) => (None, Some(why.clone())),
        None => (None, None),
    };
    let (name, place) = (made.name.clone(), made.place.clone());
    BackupView { name, at: at.to_seconds(), bytes: made.bytes, place, proven, bad }
}

fn needs(service: &ServiceKnowledge) -> Vec<NeedView> {
    let view = |need: &ServiceName| {
        let verified = service.bindings.get(need).and_then(|binding| binding.verified.as_ref());
        NeedView {
            need: need.clone(),
            verified: verified.map(|verified| verified.at.to_seconds()),
            checks: verified.map_or_else(Vec::new, |verified| verified.checks.clone()),
        }
    };
    service.spec.needs.iter().map(view).collect()
}

fn sold(known: &Knowledge, service: &ServiceKnowledge) -> Option<SoldView> {
    let Origin::Sold { sale, .. } = &service.origin else { return None };
    let guests = known.consumers.get(&service.spec.name).map_or(0, |guests| guests.len());
    Some(SoldView { to: sale.buyer.clone(), id: sale.id.clone(), bindings: guests })
}

fn leftovers(known: &Knowledge, service: &ServiceKnowledge) -> Vec<LeftoverView> {
    let view = |(id, leftover): (&AttemptId, &Leftover)| {
        let placement = &leftover.placement;
        let catalog = known.catalogs.get(&placement.provider);
        let plans = catalog.and_then(|catalog| Some(&catalog.offerings.get(&placement.offering)?.plans));
        let plan = plans.and_then(|plans| plans.iter().find(|plan| plan.name == placement.plan));
        let quarantined = leftover.quarantined.as_ref();
        LeftoverView {
            id: id.clone(),
            state: if quarantined.is_some() { State::Quarantined } else { State::InDoubt },
            provider: placement.provider.clone(),
            price: plan.and_then(|plan| plan.price.clone()),
            since: leftover.since.to_seconds(),
            because: quarantined.unwrap_or(&leftover.why).clone(),
            answer: quarantined.map(|_| format!("`ostler settle {id} delete`, or `ostler settle {id} release`")),
        }
    };
    // What is confirmed to be gone is only asked about once more: nobody need know.
    let shown = |(_, leftover): &(&AttemptId, &Leftover)| leftover.confirmed.is_none();
    service.leftovers.iter().filter(shown).map(view).collect()
}

fn troubles(service: &ServiceKnowledge) -> Vec<String> {
    let endpoint = service.endpoint.trouble.iter().map(|failure| format!("{}; {}", failure.detail, failure.remedy));
    let binding = service.binding_trouble.iter().map(|(_, failure)| format!("{}; {}", failure.detail, failure.remedy));
    let backup = service.backup_trouble.iter().map(in_full);
    let relied_on = service.bindings.iter().filter(|(need, _)| service.spec.needs.contains(*need));
    let looks = relied_on.filter_map(|(need, binding)| Some((need, binding.verified.as_ref()?)));
    let broken = looks.flat_map(|(need, verified)| {
        let wrong = verified.checks.iter().filter_map(|checked| Some((&checked.name, checked.problem.as_ref()?)));
        wrong.map(move |(name, symptom)| {
            format!("it cannot rely on {need}: `{name}`: {symptom}; `ostler verify` looks again")
        })
    });
    let rejected = service.rejected.iter().filter(|rejected| {
        service.launch().is_some_and(|launch| launch.is_same_but_for_credentials(&rejected.instead))
    });
    let taken_back = rejected.map(|rejected| {
        format!(
            "its last change, of {}, was taken back at {}: {}; declare something else, or `ostler restart {}` tries it again",
            rejected.what,
            rejected.at.to_seconds(),
            rejected.why,
            service.spec.name
        )
    });
    let vault = service.vault();
    // What a restore was told is told already.
    let proof = vault.proof_trouble.iter().filter(|failure| service.backup_trouble.as_ref() != Some(failure));
    let proof = proof.map(in_full);
    endpoint.chain(binding).chain(backup).chain(proof).chain(broken).chain(taken_back).collect()
}

fn in_full(failure: &Failure) -> String {
    format!("{}; {}", failure.detail, failure.remedy)
}

fn instance_view(
    known: &Knowledge,
    service: &ServiceKnowledge,
    id: InstanceId,
    instance: &Instance,
    now: Timestamp,
) -> InstanceView {
    let state = instance_state(known, service, instance);
    InstanceView {
        left_at: left_view(known, instance),
        because: because(known, &id, instance, state, now),
        cause: finding(instance).map(|finding| finding.cause.clone()),
        answer: instance.held.as_ref().map(|(_, answer)| answer.clone()),
        state,
        address: instance.address(),
        pid: instance.running.and_then(|running| running.pid),
        since: instance.since.to_seconds(),
        id,
    }
}

/// What is behind its trouble.
fn finding(instance: &Instance) -> Option<&Finding> {
    instance.repair.as_ref().filter(|_| !instance.is_ready())?.finding.as_deref()
}

/// What is wrong with it; else what is seen; else what holds back the next step.
fn because(known: &Knowledge, id: &InstanceId, instance: &Instance, state: State, now: Timestamp) -> Option<String> {
    let waits = || {
        let scope = Scope::Instance(id.clone());
        let decision = decide(known, &Event::Look(scope), now);
        decision.withheld.first().map(|withheld| withheld.reason.in_words(now))
    };
    let seen = match (&instance.unprobed, &instance.health) {
        (Some(symptom), _) => Some(format!("its probe cannot be made: {symptom}")),
        (None, Some(Health::Shallow(symptom) | Health::Unready(symptom))) => Some(symptom.to_string()),
        (None, Some(Health::Ready) | None) => None,
    };
    if let Some((question, _)) = &instance.held {
        return Some(question.clone());
    }
    match (&instance.repair, seen) {
        (Some(repair), seen) if !instance.is_ready() => {
            let remedy = repair.diagnosis.remedy().map(str::to_owned);
            let unprobed = seen.filter(|_| instance.unprobed.is_some());
            // What the sign says already is not said again.
            let around = finding(instance).filter(|finding| !matches!(finding.cause, Cause::Instance(_)));
            let cause = around.map(|finding| finding.cause.in_words());
            let parts = [Some(format!("it {}", repair.diagnosis.in_words())), cause, remedy, unprobed, waits()];
            Some(parts.into_iter().flatten().collect::<Vec<String>>().join("; "))
        }
        (_, Some(seen)) => Some(seen),
        (_, None) if state == State::Ready => None,
        (_, None) => waits(),
    }
}

fn instance_state(known: &Knowledge, service: &ServiceKnowledge, instance: &Instance) -> State {
    let stops = instance.operation.is_some_and(|operation| operation.kind == OperationKind::Stop);
    match known.wanted(service, instance) {
        Wanted::Gone(_) => return State::Stopping,
        Wanted::AtRest if instance.phase == Phase::Running => return State::Stopping,
        Wanted::AtRest if known.down && service.declared && !instance.retired => return State::Stopped,
        Wanted::AtRest => return State::Retained,
        Wanted::Running => {}
    }
    if instance.held.is_some() {
        return State::Held;
    }
    if instance.is_in_doubt() {
        return State::InDoubt;
    }
    match (&instance.repair, instance.phase, &instance.health) {
        (_, Phase::Running, Some(Health::Ready)) if !stops => State::Ready,
        (_, Phase::Running, Some(Health::Shallow(_))) if !stops => State::Degraded,
        (Some(_), _, _) if instance.told_failed => State::Failed,
        (Some(_), _, _) => State::Healing,
        (None, Phase::Running, Some(Health::Unready(_))) if instance.proven => State::Degraded,
        (None, _, _) if stops => State::Upgrading,
        (None, Phase::Running, _) => State::Starting,
        (None, Phase::Stopped, _) if instance.generation.is_some() && instance.operation.is_some() => State::Starting,
        (None, Phase::Declared | Phase::Stopped, _) => {
            if instance.operation.is_some() {
                State::Starting
            } else {
                State::Pending
            }
        }
    }
}

fn service_state(known: &Knowledge, service: &ServiceKnowledge, instances: &[InstanceView]) -> State {
    let has = |state| instances.iter().any(|instance| instance.state == state);
    let active = || {
        instances.iter().zip(service.instances.values()).filter(|(_, known)| !known.retired).map(|(view, _)| view.state)
    };
    if service.ending.is_some() || ((known.down || !service.declared) && has(State::Stopping)) {
        return State::Stopping;
    }
    if !service.declared {
        return State::Retained;
    }
    if known.down {
        return State::Stopped;
    }
    let asks = service.moving.as_ref().is_some_and(|moving| moving.held.is_some())
        || service.upgrading().is_some_and(|upgrading| upgrading.held.is_some());
    if has(State::Held) || asks {
        return State::Held;
    }
    if service.upgrading().is_some() {
        return State::Upgrading;
    }
    // However its new instance is: nobody gets at it before the move is over.
    if service.moving.is_some() {
        return State::Healing;
    }
    // Nobody can reach it, whatever its instances are.
    if service.endpoint.trouble.is_some() && !service.endpoint.open {
        return State::Failed;
    }
    if active().next().is_none() {
        return State::Pending;
    }
    if active().all(|state| state == State::Ready) {
        return State::Ready;
    }
    let some_ready = service.ready > 0;
    for state in [State::InDoubt, State::Failed, State::Healing, State::Upgrading, State::Degraded] {
        if has(state) {
            return if state == State::Failed && some_ready { State::Degraded } else { state };
        }
    }
    if has(State::Starting) { State::Starting } else { State::Pending }
}
