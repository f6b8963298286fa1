//! What people ask for about overrides; and the end of those whose time has come.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use ostler_model::catalog::{Catalog, Placement};
use ostler_model::estate::Estate;
use ostler_model::ids::{ProviderName, ServiceName};
use ostler_model::month::Zone;
use ostler_model::nearest::nearest;
use ostler_model::overrides::{OverrideId, Until};
use ostler_model::time::Timestamp;

use super::{Decision, Draft};
use crate::choose::relied_on;
use crate::event::Scope;
use crate::fact::FactKind;
use crate::failover::destination;
use crate::knowledge::{Knowledge, Origin, ServiceKnowledge};
use crate::overrides::{
    Difference, Elsewhere, InForce, Instruction, Override, Place, STANDING_MAX, WhyEnded, wrong_end, wrong_words,
};
use crate::place::place_under;

/// What is refused of an override that is about no service is refused of this one.
const NO_SERVICE: &str = "estate";

impl<'a> Draft<'a> {
    /// The overrides that stand now.
    pub(crate) fn standing(&self) -> InForce<'a> {
        self.known.standing(self.now)
    }

    /// Records what would be otherwise without an override, if that is not known already.
    pub(crate) fn note(&mut self, id: OverrideId, difference: Difference) {
        if self.known.overrides.all.get(&id).is_some_and(|it| !it.without.has(&difference)) {
            self.fact(FactKind::OverrideWeighed { id, difference });
        }
    }

    /// A person instructs something.
    pub(super) fn override_asked(
        &mut self,
        instruction: &Instruction,
        owner: &str,
        reason: &str,
        until: Option<Until>,
    ) {
        let (zone, now) = (zone(self.known), self.now);
        let mut wrong = wrong_words(owner, reason);
        wrong.extend(wrong_end(until, now, &zone));
        let former: Vec<OverrideId> = {
            let all = self.known.overrides.all.iter();
            all.filter(|(_, it)| it.instruction.is_about_the_same(instruction)).map(|(id, _)| *id).collect()
        };
        let (owner, reason) = (owner.trim().to_owned(), reason.trim().to_owned());
        let it = Override {
            instruction: instruction.clone(),
            owner,
            reason,
            began: now,
            until: until.map_or(now, |until| until.at(now, &zone)),
            without: Default::default(),
            used: None,
        };
        wrong.extend(self.why_not(&it, &former));
        if !wrong.is_empty() {
            return self.refuse_instruction(instruction.service(), wrong);
        }
        let is_same = |id: &OverrideId| {
            self.known.overrides.all.get(id).is_some_and(|former| {
                let said = |of: &Override| (of.instruction.clone(), of.owner.clone(), of.reason.clone(), of.until);
                said(former) == said(&it) && former.used.is_none()
            })
        };
        if former.iter().any(is_same) {
            return; // said twice
        }
        let id = OverrideId(self.known.overrides.last.saturating_add(1));
        for former in former {
            self.fact(FactKind::OverrideEnded { id: former, end: WhyEnded::Superseded { by: id } });
        }
        let Override { instruction, owner, reason, until, .. } = it;
        self.look_at_concerned(&instruction);
        self.fact(FactKind::OverrideBegan { id, instruction, owner, reason, until });
    }

    /// A person ends an override.
    pub(super) fn end_override_asked(&mut self, id: OverrideId, owner: &str, reason: &str) {
        let known = self.known;
        let mut wrong = wrong_words(owner, reason);
        let it = known.standing(self.now).iter().find(|(found, _)| *found == id).map(|(_, it)| it);
        if it.is_none() {
            let is_over = (1..=known.overrides.last).contains(&id.0);
            wrong.push(if is_over { format!("{id} stands no more") } else { format!("there is no {id}") });
        }
        let service = it.and_then(|it| it.instruction.service());
        let Some(it) = it.filter(|_| wrong.is_empty()) else { return self.refuse_instruction(service, wrong) };
        let (owner, reason) = (owner.trim().to_owned(), reason.trim().to_owned());
        self.fact(FactKind::OverrideEnded { id, end: WhyEnded::Ended { owner, reason } });
        self.look_at_concerned(&it.instruction);
    }

    fn refuse_instruction(&mut self, service: Option<&ServiceName>, wrong: Vec<String>) {
        let nobody: ServiceName = NO_SERVICE.parse().expect("it is a name");
        for why in wrong {
            self.refuse(service.unwrap_or(&nobody), why);
        }
    }

    /// Everything for which something may be otherwise now.
    fn look_at_concerned(&mut self, instruction: &Instruction) {
        match instruction.service() {
            Some(service) => self.look(Scope::Service(service.clone())),
            None => self.look_at_all(),
        }
    }

    /// Why it cannot be instructed, whoever says so.
    fn why_not(&self, it: &Override, former: &[OverrideId]) -> Vec<String> {
        let known = self.known;
        let mut why = Vec::new();
        let service = it.instruction.service().map(|name| (name, known.services.get(name).filter(|s| !s.is_guest())));
        if let Some((name, None)) = service {
            why.push(unknown(
                "service",
                name.as_str(),
                known.services.iter().filter(|(_, s)| !s.is_guest()).map(|(n, _)| n.as_str()),
            ));
        }
        let service = service.and_then(|(_, service)| service);
        match &it.instruction {
            Instruction::Pin { provider, .. } | Instruction::ForbidProvider { provider } => {
                let declared = known.estate.as_ref().map(|estate| &estate.providers);
                if declared.is_none_or(|all| !all.contains_key(provider)) {
                    let names = declared.into_iter().flat_map(|all| all.keys()).map(ProviderName::as_str);
                    why.push(unknown("provider", provider.as_str(), names));
                } else if let Some(service) = service {
                    why.extend(self.why_not_there(service, it, former));
                }
            }
            Instruction::Hold { service } => {
                if known.drill.as_ref().is_some_and(|drilling| drilling.drill.service == *service) {
                    why.push(format!("{service} is being drilled: what a drill breaks must be healed"));
                }
            }
            Instruction::SkipUpgrade { .. } | Instruction::Freeze { .. } | Instruction::ForceRemedy { .. } => {}
        }
        if known.overrides.all.len() - former.len() >= STANDING_MAX {
            why.push(format!("{STANDING_MAX} overrides stand already: end one, or change the estate file"));
        }
        why
    }

    /// Why a service cannot be where it is to be pinned to, if it is not there.
    fn why_not_there(&self, service: &ServiceKnowledge, it: &Override, former: &[OverrideId]) -> Option<String> {
        let Instruction::Pin { service: name, provider, plan } = &it.instruction else { return None };
        let (known, estate) = (self.known, self.known.estate.as_ref()?);
        if service.origin != Origin::Declared {
            return Some(format!("{name} was sold: its buyer knows where it is"));
        }
        let current = service.placement.as_ref()?;
        if current.provider == *provider {
            let is_other = plan.as_ref().is_some_and(|plan| *plan != current.plan) && !service.instances.is_empty();
            return is_other.then(|| {
                format!(
                    "{name} exists at {provider} as plan {}, and a pin makes nothing else of what exists",
                    current.plan
                )
            });
        }
        // By the overrides as they would stand with it.
        let mut all: BTreeMap<OverrideId, Override> = known.overrides.all.clone();
        all.retain(|id, _| !former.contains(id));
        all.insert(OverrideId(u32::MAX - 1), it.clone());
        let not_at = BTreeSet::from([current.provider.clone()]);
        let there = destination(known, estate, service, Some(provider), not_at, InForce::of(&all, self.now));
        there.err().map(|why| format!("{name} cannot be at {provider}: {}", why.in_words(self.now)))
    }

    /// What overrides change about where a service is bought that is made now.
    pub(super) fn weigh_place(
        &mut self,
        estate: &Estate,
        catalogs: &BTreeMap<ProviderName, Arc<Catalog>>,
        name: &ServiceName,
    ) {
        let (known, standing) = (self.known, self.standing());
        let Some(spec) = estate.services.get(name) else { return };
        if known.services.get(name).is_some_and(|service| !service.instances.is_empty()) {
            return;
        }
        let relied_on = relied_on(known, estate, name);
        for id in standing.of_places(name) {
            let [instead, with] = [standing.before(id), standing.up_to(id)]
                .map(|standing| place_under(known, estate, catalogs, spec, None, &relied_on, standing).ok());
            self.note_place(id, name, with.as_ref(), instead.as_ref());
        }
    }

    /// What overrides change about where a service goes that has to leave: none of these.
    pub(crate) fn weigh_destination(&mut self, service: &ServiceKnowledge, not_at: &BTreeSet<ProviderName>) {
        let (known, standing, name) = (self.known, self.standing(), &service.spec.name);
        let Some(estate) = &known.estate else { return };
        for id in standing.of_places(name) {
            let [instead, with] = [standing.before(id), standing.up_to(id)]
                .map(|standing| destination(known, estate, service, None, not_at.clone(), standing).ok());
            self.note_place(id, name, with.as_ref(), instead.as_ref());
        }
    }

    /// Where the service goes is a person's choice, or its pin's: what others change about that is over.
    pub(crate) fn forget_places(&mut self, name: &ServiceName) {
        for (id, _) in self.standing().iter() {
            self.note(id, Difference::Place { service: name.clone(), instead: None });
        }
    }

    /// The one is where it is by this override, the other where it would be.
    pub(crate) fn note_place(
        &mut self,
        id: OverrideId,
        name: &ServiceName,
        with: Option<&Placement>,
        instead: Option<&Placement>,
    ) {
        let both = with.map(Place::from).zip(instead.map(Place::from));
        let instead = both.filter(|(with, instead)| with != instead).map(|(with, instead)| Elsewhere { with, instead });
        self.note(id, Difference::Place { service: name.clone(), instead });
    }
}

/// Those whose end has come are ended, also if it came while ostler was away.
pub(super) fn end_expired(known: &Knowledge, now: Timestamp) -> Decision {
    let mut draft = Draft::new(known, now);
    for (id, it) in known.overrides.all.iter().filter(|(_, it)| it.until <= now) {
        draft.fact(FactKind::OverrideEnded { id: *id, end: WhyEnded::Expired });
        draft.look_at_concerned(&it.instruction);
    }
    draft.decision
}

/// Where clocks show the time that people mean.
fn zone(known: &Knowledge) -> Zone {
    known.estate.as_ref().map(|estate| estate.accounts.zone.clone()).unwrap_or_default()
}

fn unknown<'n>(kind: &str, name: &str, names: impl Iterator<Item = &'n str>) -> String {
    let names: Vec<&str> = names.collect();
    match nearest(name, names.iter().copied()) {
        Some(near) => format!("there is no {kind} `{name}`: did you mean `{near}`?"),
        None => format!("there is no {kind} `{name}`; there are: {}", names.join(", ")),
    }
}
