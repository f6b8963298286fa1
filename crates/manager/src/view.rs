//! What people and scripts see of what is known: `ostler status`. The JSON is stable.

use std::net::SocketAddr;
use std::time::Duration;

use ostler_model::catalog::Price;
use ostler_model::estate::drills::Fault;
use ostler_model::estate::slo::{Exclusion, Objective};
use ostler_model::estate::terms::Percent;
use ostler_model::health::{Health, State};
use ostler_model::ids::{
    AttemptId, EstateName, EstateUuid, InstanceId, OfferingName, PlanName, ProviderName, ServiceName,
};
use ostler_model::outcome::{BackupMade, Counted, Failure, Proof};
use ostler_model::time::{Span, Timestamp};
use ostler_model::version::Version;
use ostler_model::window::Window;
use serde::{Deserialize, Serialize};

use crate::decide::{decide, declared_drills};
use crate::diagnosis::{Cause, Finding};
use crate::drill::{By, Callers, Data, Diagnosed, DrillResult, Verdict};
use crate::event::{Event, Scope};
use crate::knowledge::{Instance, Knowledge, OperationKind, Origin, Phase, ServiceKnowledge, Wanted};
use crate::level::Burn;
use crate::moving::{Brings, MoveStep, Moved, Moving};
use crate::reconcile::lost_in_words;
use crate::rounds::Leftover;
use crate::vault::Found;
use crate::verified::Checked;

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

/// A move that is under way.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MovingView {
    /// From whom.
    pub from: ProviderName,
    /// To whom.
    pub to: ProviderName,
    /// Since when; RFC 3339.
    pub began: String,
    /// Why.
    pub why: String,
    /// At which step it is.
    pub step: MoveStep,
    /// The backup whose data goes with it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub backup: Option<String>,
    /// Since when what was written until it began is lost; RFC 3339. `None` if nothing is, or all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lost_since: Option<String>,
    /// What is lost, in words.
    pub loses: String,
    /// What a person is asked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub question: Option<String>,
    /// How to answer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub answer: Option<String>,
}

/// A move that is over.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MovedView {
    /// From whom.
    pub from: ProviderName,
    /// To whom.
    pub to: ProviderName,
    /// Since when; RFC 3339.
    pub began: String,
    /// Until when; RFC 3339.
    pub ended: String,
    /// It was taken back: the service is where it was.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub returned: bool,
    /// Since when what was written until it began is lost; RFC 3339. `None` if nothing is, or all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lost_since: Option<String>,
    /// What is lost, in words.
    pub lost: String,
}

/// How a service stands with one of its objectives.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LevelView {
    /// What is measured.
    pub objective: Objective,
    /// What share of the time, or of its answers, is to be good.
    pub target: Percent,
    /// Within which its answers are to come, where that is measured.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub within: Option<Span>,
    /// Over how long a time.
    pub over: Span,
    /// What share was good, of what was seen and counts; rounded down.
    pub reached: Percent,
    /// How much of the time was bad, in seconds, rounded up.
    pub failed_seconds: u64,
    /// How much of it may be, in seconds.
    pub allowed_seconds: u64,
    /// What is left of that, in percent, rounded down; negative if more was used.
    pub left_percent: i64,
    /// How many times as fast as it may be it is being used up, in the two windows that tell most.
    pub burns: Vec<BurnView>,
    /// People were told that it is being used up too fast.
    pub burning: bool,
    /// For how many seconds it was seen and counts.
    pub measured_seconds: u64,
    /// Of how many seconds nobody knows.
    pub unseen_seconds: u64,
    /// What is not counted.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub excluded: Vec<ExcludedView>,
    /// How many seconds more are not counted because it, or something it needs, was drilled.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub drilled_seconds: u64,
}

/// A drill under way.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DrillingView {
    /// Its number.
    pub number: u32,
    /// What was caused, or is just being caused.
    pub fault: Fault,
    /// Where.
    pub instances: Vec<InstanceId>,
    /// When it is undone at the latest; RFC 3339.
    pub until: String,
}

/// What a drill has shown.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DrillView {
    /// Its number.
    pub number: u32,
    /// What was caused.
    pub fault: Fault,
    /// Where.
    pub instances: Vec<InstanceId>,
    /// The estate file wanted it, not a person.
    pub scheduled: bool,
    /// When it was over; RFC 3339.
    pub at: String,
    /// What it has shown: `proven` if it was noticed and healed within its time, and nothing was lost.
    pub verdict: Verdict,
    /// How long after the fault something of it was first seen, in milliseconds.
    pub noticed_ms: Option<u64>,
    /// What was concluded.
    pub diagnosed: Option<Diagnosed>,
    /// How long after the fault everything worked again, in milliseconds.
    pub healed_ms: Option<u64>,
    /// What callers saw, if it could be counted.
    pub callers: Option<Callers>,
    /// What became of what was written before, where that could be tried.
    pub data: Option<Data>,
    /// The same figures in words.
    pub figures: String,
    /// Up to when it proves anything; RFC 3339.
    pub valid_until: String,
    /// That is over.
    pub expired: bool,
    /// How many whole days ago it was.
    pub days_ago: u64,
}

/// How fast a budget is being used up.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BurnView {
    /// In this long a time.
    pub window: Span,
    /// So many times as fast as it may be: `14.4`.
    pub rate: String,
    /// That is too fast, there and in a shorter time too.
    pub too_fast: bool,
}

/// Time that is not counted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExcludedView {
    /// When.
    pub window: Window,
    /// Why.
    pub reason: String,
    /// How many seconds of it there were.
    pub seconds: u64,
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

/// Where a move left an instance.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LeftView {
    /// At whom.
    pub provider: ProviderName,
    /// Since when nothing gets at it; RFC 3339.
    pub since: String,
    /// What it costs, if the provider says.
    pub price: Option<Price>,
}

/// The status as of `now`.
pub fn status(known: &Knowledge, now: Timestamp) -> StatusView {
    StatusView {
        estate: known.estate.as_ref().map(|estate| estate.name.clone()),
        id: known.uuid,
        settled: known.is_settled(),
        down: known.down,
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
        moved: service.moved.as_ref().map(|moved| moved_view(moved)),
        drilling: drilling(known, service),
        drills: drills(known, service, now),
        drills_held: service.drilled.as_ref().is_some_and(|drilled| drilled.failed),
        instances,
    }
}

fn moving_view(service: &ServiceKnowledge, moving: &Moving) -> Option<MovingView> {
    let backup = match &moving.brings {
        Brings::Backup { made, .. } => Some(made.name.clone()),
        Brings::Nothing | Brings::LastBackup => None,
    };
    Some(MovingView {
        from: moving.from.provider.clone(),
        to: moving.to.provider.clone(),
        began: moving.began.to_seconds(),
        why: moving.why.clone(),
        step: service.move_step()?,
        backup,
        lost_since: moving.brings.lost_since().map(Timestamp::to_seconds),
        loses: lost_in_words(&moving.brings, moving.accepts_loss, moving.began),
        question: moving.held.as_ref().map(|(question, _)| question.clone()),
        answer: moving.held.as_ref().map(|(_, answer)| answer.clone()),
    })
}

fn moved_view(moved: &Moved) -> MovedView {
    MovedView {
        from: moved.from.provider.clone(),
        to: moved.to.provider.clone(),
        began: moved.began.to_seconds(),
        ended: moved.ended.to_seconds(),
        returned: moved.returned,
        lost_since: moved.lost_since.map(Timestamp::to_seconds),
        lost: moved.lost_in_words(),
    }
}

fn left_view(known: &Knowledge, instance: &Instance) -> Option<LeftView> {
    let left = instance.left.as_ref()?;
    let place = &left.placement;
    let offering = known.catalogs.get(&place.provider).and_then(|catalog| catalog.offerings.get(&place.offering));
    let plan = offering.and_then(|offering| offering.plans.iter().find(|plan| plan.name == place.plan));
    let price = plan.and_then(|plan| plan.price.clone());
    Some(LeftView { provider: place.provider.clone(), since: left.since.to_seconds(), price })
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

fn is_zero(seconds: &u64) -> bool {
    *seconds == 0
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

fn levels(service: &ServiceKnowledge, now: Timestamp) -> Vec<LevelView> {
    let (Some(level), Some(slo)) = (&service.level, &service.spec.slo) else { return Vec::new() };
    let from = (now - slo.over.get()).max(level.since);
    let of = |objective: &Objective| {
        let standing = level.standing(slo, *objective, now)?;
        let burn = |burn: &Burn| BurnView {
            window: Span::seconds(burn.pair.long.as_secs()),
            rate: burn.long.in_words(),
            too_fast: burn.is_too_fast(),
        };
        let excluded = |exclusion: &Exclusion| ExcludedView {
            window: exclusion.window.clone(),
            reason: exclusion.reason.clone(),
            seconds: exclusion
                .window
                .openings(from, now)
                .map(|opening| opening.until.min(now).since(opening.from.max(from)))
                .sum::<Duration>()
                .as_secs(),
        };
        Some(LevelView {
            objective: *objective,
            target: slo.target(*objective)?,
            within: slo.latency_p99.filter(|_| *objective == Objective::Latency),
            over: slo.over,
            reached: Percent::from_millionths(standing.reached()).unwrap_or(Percent::WHOLE),
            failed_seconds: standing.failed.as_micros().div_ceil(1_000_000).try_into().unwrap_or(u64::MAX),
            allowed_seconds: u64::try_from(standing.budget / 1_000_000).unwrap_or(0),
            left_percent: standing.left().div_euclid(10_000),
            burns: standing.burns.iter().map(burn).collect(),
            burning: level.burning.contains(objective),
            measured_seconds: standing.measured.as_secs(),
            unseen_seconds: standing.unseen.as_secs(),
            excluded: slo.exclude.iter().map(excluded).collect(),
            drilled_seconds: level.drilled(slo, from, now).as_secs(),
        })
    };
    Objective::ALL.iter().filter_map(of).collect()
}

fn drilling(known: &Knowledge, service: &ServiceKnowledge) -> Option<DrillingView> {
    let drill = &known.drill.as_ref().filter(|drilling| drilling.drill.service == service.spec.name)?.drill;
    Some(DrillingView {
        number: drill.number,
        fault: drill.fault,
        instances: drill.hits.iter().map(|hit| hit.instance.clone()).collect(),
        until: drill.until.to_seconds(),
    })
}

fn drills(known: &Knowledge, service: &ServiceKnowledge, now: Timestamp) -> Vec<DrillView> {
    let valid = declared_drills(known).valid.get();
    let results = service.drilled.iter().flat_map(|drilled| drilled.results.values());
    let mut views: Vec<DrillView> = results.map(|result| drill_view(result, valid, now)).collect();
    views.sort_by_key(|view| std::cmp::Reverse(view.number));
    views
}

fn drill_view(result: &DrillResult, valid: Duration, now: Timestamp) -> DrillView {
    let valid_until = result.ended + valid;
    DrillView {
        number: result.drill.number,
        fault: result.drill.fault,
        instances: result.drill.hits.iter().map(|hit| hit.instance.clone()).collect(),
        scheduled: result.drill.by == By::Schedule,
        at: result.ended.to_seconds(),
        verdict: result.verdict.clone(),
        noticed_ms: result.noticed_ms,
        diagnosed: result.diagnosed.clone(),
        healed_ms: result.healed_ms,
        callers: result.measured.callers,
        data: result.measured.data,
        figures: result.figures(),
        valid_until: valid_until.to_seconds(),
        expired: now >= valid_until,
        days_ago: now.since(result.ended).as_secs() / 86_400,
    }
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
            "its change of {} was taken back at {}: {}; declare something else, or `ostler restart {}` tries it again",
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
    if has(State::Held) || service.moving.as_ref().is_some_and(|moving| moving.held.is_some()) {
        return State::Held;
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
