//! Overrides that stand: what they ask for is done as far as it can be, and what would be without them is kept up to date.

use std::time::Duration;

use ostler_model::estate::Occasion;
use ostler_model::ids::InstanceId;

use crate::agenda::{Waits, seek, waits_under};
use crate::decide::{Draft, Reason};
use crate::event::Scope;
use crate::fact::FactKind;
use crate::failover::{Terms, weigh as weigh_move};
use crate::instance::Instance;
use crate::knowledge::ServiceKnowledge;
use crate::overrides::{Difference, Found, InForce, Instruction, Place, Untreated, WhyEnded, newer, whose};
use crate::remedy::{Remedy, Weighed};
use crate::upgrade::{Agenda, AgendaStep};

/// A pin that cannot be followed now is tried again this often.
const LOOK_AGAIN: Duration = Duration::from_secs(60);

/// Keeps true what would be without the overrides that are about this service. True if something was decided.
pub(super) fn follow(draft: &mut Draft<'_>, service: &ServiceKnowledge) -> bool {
    let before = draft.decision.facts.len();
    for (id, it) in draft.standing().iter() {
        places(draft, service, (id, it));
        upgrades(draft, service, (id, it));
        remedies(draft, service, (id, it));
        ends_if_used(draft, service, (id, it));
    }
    draft.decision.facts.len() > before
}

/// Asks to be woken when one that is about this service ends. For those that are about none, the first service does.
pub(super) fn wake_at_ends(draft: &mut Draft<'_>, service: &ServiceKnowledge) {
    let (known, name) = (draft.known, &service.spec.name);
    let is_first = known.services.keys().next() == Some(name);
    for (_, it) in draft.standing().iter() {
        let is_about = it.instruction.service().map_or(is_first, |about| about == name);
        if is_about || it.instruction == (Instruction::Freeze { service: None }) {
            draft.wake(it.until, Scope::Service(name.clone()));
        }
    }
}

/// It is there by now, or there is nothing of it.
fn places(draft: &mut Draft<'_>, service: &ServiceKnowledge, (id, it): Found<'_>) {
    let name = &service.spec.name;
    let Some(elsewhere) = it.without.places.get(name).filter(|_| service.moving.is_none()) else { return };
    let is_there = service.placement.as_ref().map(Place::from).as_ref() == Some(&elsewhere.instead);
    if is_there || (service.instances.is_empty() && !service.declared) {
        draft.note(id, Difference::Place { service: name.clone(), instead: None });
    }
}

/// What is frozen would be upgraded for as long as there is something newer. What is skipped is weighed when it is looked
/// for what is newer.
fn upgrades(draft: &mut Draft<'_>, service: &ServiceKnowledge, (id, it): Found<'_>) {
    let (known, name) = (draft.known, &service.spec.name);
    let Some(noted) = it.without.upgrades.get(name) else { return };
    let by_agenda = !matches!(it.instruction, Instruction::SkipUpgrade { .. });
    let step = known.agenda.step_of(name).map(|step| newer(known, service, &step.to));
    let instead = match service.upgrading() {
        Some(_) => None,
        None if by_agenda && !known.agenda_is_old => step,
        None => Some(noted.clone()),
    };
    draft.note(id, Difference::Upgrade { service: name.clone(), instead });
}

/// An instance that works again needs no remedy; and whether anything serves is what makes the difference.
fn remedies(draft: &mut Draft<'_>, service: &ServiceKnowledge, (id, it): Found<'_>) {
    let name = &service.spec.name;
    let first = InstanceId::new(name.clone(), 0);
    let of_service = it.without.remedies.range(first..).take_while(|(instance, _)| instance.service() == name);
    for (instance, noted) in of_service {
        let is_sick = service.instances.get(&instance.number()).is_some_and(|found| found.repair.is_some());
        // What a forced move has left is sick no more; what it makes is not there yet.
        let goes_on = is_sick || (it.used.is_some() && service.moving.is_some());
        let instead = goes_on.then_some(Untreated { away: service.ready == 0, ..*noted });
        draft.note(id, Difference::Remedy { instance: instance.clone(), instead });
    }
}

/// A remedy is forced once: it stands until it is seen whether that helped.
fn ends_if_used(draft: &mut Draft<'_>, service: &ServiceKnowledge, (id, it): Found<'_>) {
    let Instruction::ForceRemedy { service: name, remedy } = &it.instruction else { return };
    let Some(used) = it.used.as_ref().filter(|_| *name == service.spec.name) else { return };
    let repair = service.instances.get(&used.number()).and_then(|instance| instance.repair.as_ref());
    let is_tried = repair.is_some_and(|repair| repair.remedy() == Some(*remedy));
    let moves = *remedy == Remedy::FailOver && service.moving.is_some();
    if !is_tried && !moves {
        draft.fact(FactKind::OverrideEnded { id, end: WhyEnded::Used });
    }
}

/// A service that is pinned to where it is not moves there, as if a person had asked for that, and as safely.
pub(super) fn follow_pin(draft: &mut Draft<'_>, service: &ServiceKnowledge) {
    let (known, name) = (draft.known, &service.spec.name);
    let Some((found @ (id, it), provider, _)) = draft.standing().pin(name) else { return };
    let is_there = service.placement.as_ref().is_none_or(|placement| placement.provider == *provider);
    if is_there || service.moving.is_some() || !known.is_wanted(service) {
        return;
    }
    let scope = || Scope::Service(name.clone());
    if let Some(frozen) = draft.standing().freezes(name) {
        return draft
            .withhold(scope(), Reason::Overridden(format!("its move to {provider} waits for {}", whose(frozen))));
    }
    if service.moved.as_ref().is_some_and(|moved| moved.returned && moved.began >= it.began) {
        let why =
            format!("its move to {provider} was taken back: `ostler failover {name} --to {provider}` tries it again");
        return draft.withhold(scope(), Reason::Overridden(why));
    }
    if known.drill.is_some() {
        return draft.wake(draft.now + LOOK_AGAIN, scope());
    }
    let terms = Terms { asked: true, to: Some(provider.clone()), accept_loss: false };
    match weigh_move(known, service, &terms, draft.standing()) {
        Ok(it) => {
            draft.forget_places(name);
            draft.note_place(id, name, Some(&it.to), service.placement.as_ref());
            draft.begin_move(service, it, format!("it is pinned to {provider} by {}", whose(found)));
        }
        Err(why) => {
            draft.wake(draft.now + LOOK_AGAIN, scope());
            let why = why.in_words(draft.now);
            draft.withhold(
                scope(),
                Reason::Overridden(format!("it is pinned to {provider}, and cannot be moved there: {why}")),
            );
        }
    }
}

/// What would be upgraded now if nobody had frozen it.
pub(super) fn weigh_frozen(draft: &mut Draft<'_>, service: &ServiceKnowledge, step: &AgendaStep) {
    let (known, standing, name) = (draft.known, draft.standing(), &service.spec.name);
    for (id, _) in standing.iter() {
        let waits = |standing| waits_under(known, service, step, standing);
        if waits(standing.before(id)).is_none() && matches!(waits(standing.up_to(id)), Some(Waits::Override(_))) {
            let instead = Some(newer(known, service, &step.to));
            draft.note(id, Difference::Upgrade { service: name.clone(), instead });
        }
    }
}

/// What would be on the agenda if nobody had it passed over.
pub(super) fn weigh_skipped(draft: &mut Draft<'_>, agenda: &Agenda) {
    let (known, standing) = (draft.known, draft.standing());
    for (id, it) in standing.iter() {
        let Instruction::SkipUpgrade { service: name, .. } = &it.instruction else { continue };
        let Some(service) = known.services.get(name) else { continue };
        let without = seek(known, standing.before(id));
        let with = seek(known, standing.up_to(id));
        let is_last = standing.iter().last().is_some_and(|(last, _)| last == id);
        debug_assert!(!is_last || with == *agenda, "the agenda follows from all that stand");
        let instead = without.step_of(name).filter(|step| with.step_of(name) != Some(*step));
        let instead = instead.map(|step| newer(known, service, &step.to));
        draft.note(id, Difference::Upgrade { service: name.clone(), instead });
    }
}

/// Whether the sick instance is left as it is because a person holds its service: what would be done is recorded, and
/// people are told once. What ostler had begun before is finished.
pub(super) fn holds_back(
    draft: &mut Draft<'_>,
    service: &ServiceKnowledge,
    id: &InstanceId,
    instance: &Instance,
    weighed: impl Fn(&Draft<'_>, InForce<'_>) -> Vec<Weighed>,
) -> bool {
    let name = &service.spec.name;
    let Some(found @ (held, it)) = service.held_back(id, instance, draft.standing()) else { return false };
    let best = weighed(draft, draft.standing().before(held)).into_iter().find(|weighed| weighed.remedy.acts());
    if let (Some(best), Some(repair)) = (best, &instance.repair) {
        if !it.without.remedies.keys().any(|other| other.service() == name) {
            let (signs, remedy) = (repair.diagnosis.in_words(), best.remedy.in_words());
            let message = format!(
                "{id} {signs}; nothing is done about it, by {}; otherwise it would be tried to {remedy}: `ostler override \
                 end {held}` lets ostler heal it",
                whose(found)
            );
            draft.tell(name, Occasion::Failed, message);
        }
        note_remedy(draft, held, service, id, Some(&best));
    }
    draft.withhold(Scope::Instance(id.clone()), Reason::Overridden(format!("it is held by {}", whose(found))));
    true
}

/// This would be tried without the override; or nothing else than what is.
pub(super) fn note_remedy(
    draft: &mut Draft<'_>,
    id: ostler_model::overrides::OverrideId,
    service: &ServiceKnowledge,
    instance: &InstanceId,
    instead: Option<&Weighed>,
) {
    let away = service.ready == 0;
    let instead = instead.map(|it| Untreated { remedy: it.remedy, takes_ms: it.takes_ms, away });
    draft.note(id, Difference::Remedy { instance: instance.clone(), instead });
}
