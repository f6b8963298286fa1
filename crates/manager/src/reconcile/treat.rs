//! What is tried against a trouble, one remedy after the other.
//!
//! Each time something would be done to a sick instance, its cause is concluded and a remedy is chosen; only what was
//! chosen is done, and it is given time to help. Invariants: a victim is left alone; while ostler's own view is the
//! likelier fault nothing is done to anything; no remedy begins that the brakes do not allow.

use std::time::Duration;

use ostler_model::estate::Occasion;
use ostler_model::ids::{BindingId, InstanceId, ServiceName};
use ostler_model::money::Amount;
use ostler_model::overrides::OverrideId;
use ostler_model::time::in_words;

use super::overrides;
use crate::backoff::{self, FAILURES_TOLD};
use crate::brake::Allowed;
use crate::command::Command;
use crate::decide::{Draft, Reason};
use crate::diagnosis::{Cause, Changed, Evidence, Fault, Finding, conclude};
use crate::event::Scope;
use crate::fact::{Diagnosis, FactKind};
use crate::failover::{Terms, can_be_moved, weigh as weigh_move};
use crate::knowledge::{Instance, Phase, Repair, ServiceKnowledge};
use crate::moving::Brings;
use crate::overrides::InForce;
use crate::price::{self, OutageCost};
use crate::remedy::{self, Ailment, Choice, Remedy, Weighed, asked_in_vain, weigh};

/// What was tried without anything being started has this long to help.
const SETTLES: Duration = Duration::from_secs(30);
/// How often it is looked again whether ostler sees.
const OWN_VIEW_EVERY: Duration = Duration::from_secs(5);
/// What was written and is lost is as bad as an outage that is so many times as long as the time it was written in.
const LOSS_WEIGHS: u64 = 10;
/// What was moved a short while ago and fails again is not moved about: a person is asked.
const MOVED_LATELY: Duration = Duration::from_secs(3600);

/// Concludes what is behind the trouble of `id` as soon as there is one, and again when the need works of which it was
/// a victim. Returns whether it did: then everything is looked at again with it.
pub(super) fn concludes(
    draft: &mut Draft<'_>,
    service: &ServiceKnowledge,
    id: &InstanceId,
    instance: &Instance,
) -> bool {
    let Some(repair) = &instance.repair else { return false };
    let is_due = match repair.finding.as_ref().map(|finding| &finding.cause) {
        None => true,
        Some(Cause::Need(_)) => draft.missing_needs(service).is_empty(),
        Some(Cause::Instance(_) | Cause::Change(_) | Cause::Provider(_) | Cause::Region(_) | Cause::OwnView) => false,
    };
    is_due && concludes_anew(draft, id, repair)
}

/// Concludes it from what is known now. Returns whether that is something else than before.
fn concludes_anew(draft: &mut Draft<'_>, id: &InstanceId, repair: &Repair) -> bool {
    let finding = conclude(draft.known, id, &repair.diagnosis, draft.now);
    let is_same = |known: &Cause| match (known, &finding.cause) {
        (Cause::Need(_), Cause::Need(_)) => true, // which of them it waits for is seen from them
        (known, cause) => known == cause,
    };
    if repair.finding.as_ref().is_some_and(|known| is_same(&known.cause)) {
        return false;
    }
    draft.fact(FactKind::Concluded { instance: id.clone(), finding });
    // An upgrade that brought the trouble is taken back before anything else is tried.
    if draft.known.upgrading.contains(id.service()) {
        draft.look(Scope::Service(id.service().clone()));
    }
    draft.look(Scope::Instance(id.clone()));
    true
}

/// Whether an instance that can be started and stopped is to be started now, or stopped to be started, or made. What else
/// was chosen is done here.
pub(super) fn goes_on(draft: &mut Draft<'_>, service: &ServiceKnowledge, id: &InstanceId, instance: &Instance) -> bool {
    let scope = || Scope::Instance(id.clone());
    let Some(repair) = &instance.repair else { return true };
    if repair.trying.is_none() && concludes_anew(draft, id, repair) {
        return false;
    }
    let Some(finding) = &repair.finding else { return true };
    if leaves_alone(draft, service, id, finding) {
        return false;
    }
    if repair.trying.is_none() {
        // What was stopped to be another, because a person asked for that or gave another file, is started whatever is held.
        if service.is_replaced(id, instance) && draft.standing().holds(&service.spec.name).is_some() {
            return true;
        }
        if overrides::holds_back(draft, service, id, instance, weighed_by(service, instance, finding)) {
            return false;
        }
    }
    match repair.trying {
        None => choose(draft, service, id, instance, finding),
        Some((remedy @ (Remedy::Wait | Remedy::RenewBinding), since)) => {
            let until = since + SETTLES;
            if draft.now < until {
                draft.wake(until, scope());
                draft.withhold(scope(), Reason::Settling(remedy.in_words(), until));
            } else {
                let because = format!("it {}", repair.diagnosis.in_words());
                draft.back_off(id, service, instance, &because);
                draft.look(scope());
            }
            false
        }
        Some((Remedy::Restart | Remedy::RollBack | Remedy::FailOver | Remedy::Ask, _)) => true,
    }
}

/// One that only its provider can heal: it is looked at again and again, and what else there is to try is tried.
pub(super) fn elsewhere(
    draft: &mut Draft<'_>,
    service: &ServiceKnowledge,
    id: &InstanceId,
    instance: &Instance,
    diagnosis: &Diagnosis,
) {
    let Some(repair) = &instance.repair else { return };
    if repair.trying.is_none() && concludes_anew(draft, id, repair) {
        return;
    }
    let Some(finding) = &repair.finding else { return };
    if leaves_alone(draft, service, id, finding) {
        return;
    }
    if repair.trying.is_some() {
        // It has had its time: until now, or until its provider answered.
        let because = format!("it {}", diagnosis.in_words());
        draft.back_off(id, service, instance, &because);
        return draft.look(Scope::Instance(id.clone()));
    }
    // To wait is no remedy; and nobody else tells how it is.
    if overrides::holds_back(draft, service, id, instance, weighed_by(service, instance, finding)) {
        let mut weighed = weighed_by(service, instance, finding)(draft, draft.standing());
        weighed.retain(|weighed| !weighed.remedy.acts());
        let (instance, remedy) = (id.clone(), Remedy::Wait);
        draft.fact(FactKind::RemedyChosen { instance, remedy, weighed, forced: None });
        return draft.command(Command::Observe { instance: id.clone() });
    }
    if choose(draft, service, id, instance, finding) {
        draft.command(Command::Observe { instance: id.clone() });
        draft.withhold(Scope::Instance(id.clone()), Reason::ProvidersTurn);
    }
}

/// One whose provider does not even say how it is, again and again: nothing can be done to it there, and whoever looks on
/// has only waited, each time in vain. Returns whether its service is moved, or what is behind it is something else now.
pub(super) fn moves_unseen(
    draft: &mut Draft<'_>,
    service: &ServiceKnowledge,
    id: &InstanceId,
    instance: &Instance,
) -> bool {
    let Some(repair) = instance.repair.as_ref().filter(|repair| repair.trying.is_none()) else { return false };
    if instance.failures < FAILURES_TOLD {
        return false;
    }
    if concludes_anew(draft, id, repair) {
        return true;
    }
    let ailment = repair.finding.as_ref().and_then(|finding| finding.cause.ailment());
    let standing = draft.standing();
    let (Some(ailment), Some(elsewhere)) = (ailment, move_by_itself(draft, service, standing)) else { return false };
    if standing.holds(&service.spec.name).is_some() {
        return false; // it is looked at, and no more
    }
    // Where nothing is paid for it, people are told of it and not asked before.
    let is_paid = elsewhere.price > Some(Amount::ZERO);
    let here = [Choice::free(Remedy::Wait), Choice::free(Remedy::Ask)];
    let choices = [&here[..if is_paid { 2 } else { 1 }], &[elsewhere]].concat();
    let mut waited = repair.clone();
    waited.tried.insert(Remedy::Wait, instance.failures);
    let weighed = weighed(draft, service, instance, &waited, ailment, &choices);
    let remedy = remedy::best(&weighed, repair.asked.is_some()).map(|best| best.remedy);
    match (remedy, &repair.finding) {
        (Some(Remedy::Ask), Some(finding)) if instance.held.is_none() => {
            draft.fact(FactKind::RemedyChosen { instance: id.clone(), remedy: Remedy::Ask, weighed, forced: None });
            ask(draft, id, instance, finding);
            false
        }
        (Some(Remedy::FailOver), _) if is_free(draft) => {
            draft.fact(FactKind::RemedyChosen {
                instance: id.clone(),
                remedy: Remedy::FailOver,
                weighed,
                forced: None,
            });
            fail_over(draft, service, id, repair, false);
            true
        }
        _ => false,
    }
}

/// Whether the brakes let another remedy begin now.
fn is_free(draft: &Draft<'_>) -> bool {
    let allowed = Allowed::of(draft.known.instances, draft.known.repairs_at_once());
    draft.known.brake.free_at(allowed, draft.now) <= draft.now
}

/// Moves it to the best place; where a person says so, also where ostler may not do so by itself.
fn fail_over(draft: &mut Draft<'_>, service: &ServiceKnowledge, id: &InstanceId, repair: &Repair, asked: bool) {
    let Some(finding) = &repair.finding else { return };
    let terms = Terms { asked, ..Terms::default() };
    if let Ok(it) = weigh_move(draft.known, service, &terms, draft.standing()) {
        let from = service.placement.iter().map(|placement| placement.provider.clone()).collect();
        draft.weigh_destination(service, &from);
        let why = format!("{id} {}; {}", repair.diagnosis.in_words(), finding.cause.in_words());
        draft.begin_move(service, it, why);
    }
}

/// Where the cause lies elsewhere, or with ostler itself, nothing is done.
fn leaves_alone(draft: &mut Draft<'_>, service: &ServiceKnowledge, id: &InstanceId, finding: &Finding) -> bool {
    let scope = Scope::Instance(id.clone());
    match &finding.cause {
        Cause::Need(_) => {
            let missing = draft.missing_needs(service);
            draft.withhold(scope, Reason::WaitsFor(missing));
            true
        }
        Cause::OwnView => {
            draft.wake(draft.now + OWN_VIEW_EVERY, scope.clone());
            draft.withhold(scope, Reason::OwnView);
            true
        }
        Cause::Instance(_) | Cause::Change(_) | Cause::Provider(_) | Cause::Region(_) => false,
    }
}

/// Chooses a remedy and does it, unless it is what the caller does by itself: then it returns `true`.
fn choose(
    draft: &mut Draft<'_>,
    service: &ServiceKnowledge,
    id: &InstanceId,
    instance: &Instance,
    finding: &Finding,
) -> bool {
    let Some(repair) = &instance.repair else { return true };
    let standing = draft.standing();
    let weighed_by = weighed_by(service, instance, finding);
    let weighed = weighed_by(draft, standing);
    let Some(best) = remedy::best(&weighed, repair.asked.is_some()).cloned() else { return true };
    let forced = forced(draft, service, instance, finding);
    let remedy = forced.map_or(best.remedy, |(_, remedy)| remedy);
    let scope = || Scope::Instance(id.clone());
    if remedy.acts() {
        let allowed = Allowed::of(draft.known.instances, draft.known.repairs_at_once());
        let free = draft.known.brake.free_at(allowed, draft.now);
        if free > draft.now {
            draft.wake(free, scope());
            draft.withhold(scope(), Reason::TooManyRemedies(free));
            return false;
        }
    }
    for id_of_place in standing.of_places(&service.spec.name) {
        let [without, with] = [standing.before(id_of_place), standing.up_to(id_of_place)]
            .map(|standing| weighed_by(draft, standing).into_iter().next());
        let is_other = without.as_ref().map(|it| it.remedy) != with.map(|it| it.remedy);
        let instead = without.filter(|without| is_other && without.remedy.acts());
        overrides::note_remedy(draft, id_of_place, service, id, instead.as_ref());
    }
    let by = forced.map(|(by, _)| by);
    draft.fact(FactKind::RemedyChosen { instance: id.clone(), remedy, weighed, forced: by });
    if let Some(by) = by {
        let displaced = Some(&best).filter(|best| best.remedy != remedy && best.remedy.acts());
        overrides::note_remedy(draft, by, service, id, displaced);
    }
    match remedy {
        Remedy::Restart => return true,
        // Whoever is elsewhere is asked meanwhile how it is.
        Remedy::Wait if !draft.known.can_be_restarted(service) => return true,
        Remedy::Wait => draft.look(scope()),
        Remedy::RenewBinding => {
            let need = rejecting(finding).unwrap_or(&service.spec.name).clone();
            draft.fact(FactKind::CredentialsDoubted {
                binding: BindingId { consumer: service.spec.name.clone(), need },
            });
            draft.look(Scope::Service(service.spec.name.clone()));
        }
        Remedy::RollBack => roll_back(draft, service, id, instance),
        Remedy::FailOver => fail_over(draft, service, id, repair, forced.is_some()),
        Remedy::Ask => ask(draft, id, instance, finding),
    }
    false
}

/// In the order in which to try them.
fn weighed(
    draft: &Draft<'_>,
    service: &ServiceKnowledge,
    instance: &Instance,
    repair: &Repair,
    ailment: Ailment,
    choices: &[Choice],
) -> Vec<Weighed> {
    let learned = &draft.known.learned;
    let mut tried = repair.tried.clone();
    if let Some(asked) = repair.asked {
        tried.insert(Remedy::Ask, asked_in_vain(learned, ailment, draft.now.since(asked)));
    }
    let outage = OutageCost::of(draft.known, service);
    weigh(learned, ailment, choices, outage.as_ref(), &tried, instance.failures)
}

/// What would be weighed with these overrides.
fn weighed_by<'s>(
    service: &'s ServiceKnowledge,
    instance: &'s Instance,
    finding: &'s Finding,
) -> impl Fn(&Draft<'_>, InForce<'_>) -> Vec<Weighed> + 's {
    move |draft, standing| {
        let (Some(repair), Some(ailment)) = (&instance.repair, finding.cause.ailment()) else { return Vec::new() };
        let choices = choices(draft, service, instance, finding, standing);
        weighed(draft, service, instance, repair, ailment, &choices)
    }
}

/// What a person says is to be tried now, if it can be.
fn forced(
    draft: &Draft<'_>,
    service: &ServiceKnowledge,
    instance: &Instance,
    finding: &Finding,
) -> Option<(OverrideId, Remedy)> {
    let standing = draft.standing();
    let (id, remedy) = standing.forced(&service.spec.name)?;
    let can = choices(draft, service, instance, finding, standing).iter().any(|choice| choice.remedy == remedy)
        || (remedy == Remedy::FailOver && can_be_moved(draft.known, service, None, false, draft.now).is_ok());
    can.then_some((id, remedy))
}

/// What can be tried here.
fn choices(
    draft: &Draft<'_>,
    service: &ServiceKnowledge,
    instance: &Instance,
    finding: &Finding,
    standing: InForce<'_>,
) -> Vec<Choice> {
    let known = draft.known;
    let here = known.can_be_restarted(service);
    let slow = finding.cause == Cause::Instance(Fault::Slow);
    let rejects = finding.cause == Cause::Instance(Fault::WrongCredentials);
    let may_be_doubted = |need| service.bindings.get(need).is_some_and(|binding| binding.may_be_doubted(draft.now));
    let renewable = rejecting(finding).is_some_and(may_be_doubted) || (!here && instance.access_used.is_some());
    let runs = instance.phase == Phase::Running;
    let back = match finding.cause {
        // What an upgrade has changed is taken back by its own rules.
        _ if service.upgrading().is_some() => false,
        Cause::Change(Changed::Program | Changed::Environment | Changed::Settings) => service.changed.is_some(),
        Cause::Change(Changed::Version) => {
            service.changed.is_some() && !known.is_durable(service) && !is_maintained_anew(service)
        }
        Cause::Change(Changed::Placement | Changed::Credentials) => false,
        Cause::Instance(_) | Cause::Need(_) | Cause::Provider(_) | Cause::Region(_) | Cause::OwnView => false,
    };
    let elsewhere = move_by_itself(draft, service, standing);
    let is_asked = instance.repair.as_ref().is_some_and(|repair| repair.asked.is_some());
    let is_paid = elsewhere.as_ref().is_some_and(|elsewhere| elsewhere.price > Some(Amount::ZERO));
    let can = [
        (Remedy::Wait, runs && (!here || slow)),
        (Remedy::Restart, here || !runs),
        (Remedy::RenewBinding, rejects && renewable),
        (Remedy::RollBack, back),
        // Whoever is asked already is weighed against what would have to be paid.
        (Remedy::Ask, instance.held.is_none() || (is_asked && is_paid)),
    ];
    let can = can.iter().filter(|(_, can)| *can).map(|(remedy, _)| Choice::free(*remedy));
    can.chain(elsewhere).collect()
}

/// Whether its provider was asked to bring it up to date: to what was before it cannot be asked to go back.
fn is_maintained_anew(service: &ServiceKnowledge) -> bool {
    let maintenance = |generation| service.launches.get(&generation).map(|launch| &launch.placement.maintenance);
    service.changed.as_ref().is_some_and(|change| maintenance(change.generation) != maintenance(change.former))
}

/// Moving it to a declared standby, where nothing of it serves. What no backup holds weighs against it, and its price.
fn move_by_itself(draft: &Draft<'_>, service: &ServiceKnowledge, standing: InForce<'_>) -> Option<Choice> {
    let moved_lately = service.moved.as_ref().is_some_and(|moved| draft.now < moved.ended + MOVED_LATELY);
    if service.ready > 0 || moved_lately {
        return None;
    }
    let it = weigh_move(draft.known, service, &Terms::default(), standing).ok()?;
    // Nobody declared that it may be anywhere else: a person can still say so.
    if !service.spec.prefer.contains(&it.to.provider) {
        return None;
    }
    let lost = match &it.brings {
        Brings::Nothing | Brings::LastBackup | Brings::Backup { lost_since: None, .. } => Duration::ZERO,
        Brings::Backup { lost_since: Some(since), .. } | Brings::Kept { lost_since: since, .. } => {
            draft.now.since(*since)
        }
    };
    let besides_ms = u64::try_from(lost.as_millis()).unwrap_or(u64::MAX).saturating_mul(LOSS_WEIGHS);
    Some(Choice { remedy: Remedy::FailOver, besides_ms, price: price::of_move(draft.known, service, &it) })
}

/// The need that rejects the credentials.
fn rejecting(finding: &Finding) -> Option<&ServiceName> {
    finding.evidence.iter().find_map(|evidence| match evidence {
        Evidence::Rejected(need) => Some(need),
        _ => None,
    })
}

/// What was used before is used again, by all instances.
fn roll_back(draft: &mut Draft<'_>, service: &ServiceKnowledge, id: &InstanceId, instance: &Instance) {
    let (Some(changed), Some(repair)) = (&service.changed, &instance.repair) else { return };
    let name = &service.spec.name;
    let why = format!("{id} {}", repair.diagnosis.in_words());
    let message = format!(
        "the last change of {name}, of {}, was taken back: {why}; declare something else, or `ostler restart {name}` tries \
         it again",
        changed.what
    );
    draft.fact(FactKind::LaunchRejected { service: name.clone(), generation: changed.generation, why });
    draft.tell(name, Occasion::Failed, message);
    draft.look(Scope::Service(name.clone()));
}

fn ask(draft: &mut Draft<'_>, id: &InstanceId, instance: &Instance, finding: &Finding) {
    let Some(repair) = &instance.repair else { return };
    let tried: Vec<String> = repair
        .tried
        .iter()
        .filter(|(remedy, _)| **remedy != Remedy::Ask)
        .map(|(remedy, times)| match times {
            1 => remedy.in_words().to_owned(),
            times => format!("{} {times} times", remedy.in_words()),
        })
        .collect();
    let tried = if tried.is_empty() {
        "nothing that could be tried here is likely to help".to_owned()
    } else {
        format!("tried in vain: {}", tried.join(", "))
    };
    let signs = repair.diagnosis.in_words();
    let question = format!("{id} {signs}; {}; {tried}", finding.cause.in_words());
    let remedy = repair.diagnosis.remedy().unwrap_or("put right what is wrong");
    let every = in_words(backoff::PAUSE_MAX);
    let answer = format!(
        "{}; it is tried again meanwhile, at last every {every}, and at once after `ostler restart {}`",
        remedy.trim_end_matches('.'),
        id.service()
    );
    draft.ask_for_help(id, question, answer);
    draft.look(Scope::Instance(id.clone()));
}
