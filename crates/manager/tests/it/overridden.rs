//! What the world holds against the manager about overrides: who is pinned goes nowhere else, a forbidden provider gets
//! nothing new, nothing is begun in a freeze, what is held gets no remedy, and what has expired has no effect.

use ostler_manager::remedy::Remedy;
use ostler_manager::{Ask, Decision, Event, FactKind, Instruction, Override, Reason, Scope, UpgradeStep, decide};
use ostler_model::catalog::Placement;
use ostler_model::ids::{InstanceId, ProviderName, ServiceName};
use ostler_model::overrides::{OverrideId, Until};
use ostler_model::time::{Span, Timestamp};

use crate::world::World;

/// One of all kinds.
pub(crate) fn instruction(service: ServiceName, kind: u8, at: usize) -> Instruction {
    let provider: ProviderName = ["here", "there", "yonder"][at / 8 % 3].parse().unwrap();
    let remedies =
        [Remedy::Wait, Remedy::Restart, Remedy::RenewBinding, Remedy::RollBack, Remedy::FailOver, Remedy::Ask];
    match kind % 7 {
        0 => Instruction::Pin { service, provider, plan: None },
        1 => Instruction::Hold { service },
        2 => Instruction::ForbidProvider { provider },
        3 => Instruction::SkipUpgrade { service, version: None },
        4 => Instruction::Freeze { service: None },
        5 => Instruction::Freeze { service: Some(service) },
        _ => Instruction::ForceRemedy { service, remedy: remedies[usize::from(kind) / 7 % remedies.len()] },
    }
}

pub(crate) fn begin(instruction: Instruction, seconds: u64) -> Ask {
    let until = Some(Until::Within(Span::seconds(seconds)));
    Ask::Override { instruction, owner: "Ada".to_owned(), reason: "so it is".to_owned(), until }
}

pub(crate) fn end(id: OverrideId) -> Ask {
    Ask::EndOverride { id, owner: "Eve".to_owned(), reason: "it is over".to_owned() }
}

impl World {
    fn stands(&self, is_it: impl Fn(&Instruction) -> bool) -> bool {
        self.overrides.values().any(|(instruction, until)| *until > self.now && is_it(instruction))
    }

    fn pinned_elsewhere(&self, service: &ServiceName, at: &ProviderName) -> bool {
        self.stands(|it| matches!(it, Instruction::Pin { service: s, provider, .. } if s == service && provider != at))
    }

    fn is_forbidden(&self, at: &ProviderName) -> bool {
        self.stands(|it| matches!(it, Instruction::ForbidProvider { provider } if provider == at))
    }

    fn is_held(&self, service: &ServiceName) -> bool {
        self.stands(|it| matches!(it, Instruction::Hold { service: held } if held == service))
    }

    fn is_frozen(&self, service: &ServiceName) -> bool {
        self.is_held(service)
            || self.stands(|it| match it {
                Instruction::Freeze { service: frozen } => frozen.as_ref().is_none_or(|frozen| frozen == service),
                _ => false,
            })
    }

    pub(crate) fn judge_overridden(&self, fact: &FactKind) {
        match fact {
            FactKind::MoveBegan { service, to, .. } | FactKind::MoveTurned { service, to: Some(to), .. } => {
                self.judge_place(service, to);
            }
            FactKind::RemedyChosen { instance, remedy, .. } if remedy.acts() => {
                let service = &self.known.services[instance.service()];
                let finishes = service.upgrading().is_some() || service.moving.is_some();
                assert!(finishes || !self.is_held(instance.service()), "{instance} is held, and gets {remedy:?}");
            }
            FactKind::Upgrade { service, step } => {
                let urgent = |despite: bool| despite || !self.is_frozen(service);
                match &**step {
                    UpgradeStep::Began { despite, .. } => {
                        assert!(urgent(despite.is_some()), "{service} is frozen, and its upgrade begins");
                    }
                    UpgradeStep::WaveBegan { .. } => {
                        let it = self.known.services[service].upgrading();
                        let free = it.is_none_or(|it| it.data || it.despite.is_some());
                        assert!(urgent(free), "{service} is frozen, and a wave begins");
                    }
                    _ => {}
                }
            }
            _ => {}
        }
    }

    fn judge_place(&self, service: &ServiceName, to: &Placement) {
        let moving = self.known.services[service].moving.as_ref();
        let stays = moving.is_some_and(|moving| moving.from.provider == to.provider);
        if !stays {
            assert!(!self.pinned_elsewhere(service, &to.provider), "{service} is pinned, and moves to {}", to.provider);
            assert!(!self.is_forbidden(&to.provider), "{} is forbidden, and {service} moves there", to.provider);
        }
    }

    /// What never existed is not made where nothing may be bought, unless a move had begun to.
    pub(crate) fn assert_may_be_bought(&self, id: &InstanceId) {
        let service = &self.known.services[id.service()];
        let Some(placement) = service.placement.as_ref().filter(|_| service.moving.is_none()) else { return };
        let was_asked_for = self.truth(id).times_made > 0 || self.is_bought(id.service());
        assert!(was_asked_for || !self.is_forbidden(&placement.provider), "{id} is bought, and that is forbidden");
    }

    /// Where something is held back because of an override, one stands.
    pub(crate) fn assert_by_somebody(&self, decision: &Decision) {
        let by = decision.withheld.iter().find(|withheld| matches!(withheld.reason, Reason::Overridden(_)));
        assert!(by.is_none() || self.stands(|_| true), "{by:?}, and nobody says so any more");
    }
}

/// With overrides of all kinds that have just ended, and are not recorded as ended yet, everything is decided as without
/// any.
pub(crate) fn assert_expired_changes_nothing(world: &World) {
    let (mut none, now) = (world.known.clone(), world.now);
    none.overrides.all.clear();
    let mut expired = none.clone();
    let services: Vec<ServiceName> = none.services.keys().cloned().collect();
    for (number, service) in (0_u32..).zip(services.iter().flat_map(|service| std::iter::repeat_n(service, 7 * 3))) {
        let kind = u8::try_from(number % 7).unwrap();
        let it = Override {
            instruction: instruction(service.clone(), kind, number as usize / 7 * 8),
            owner: "Ada".to_owned(),
            reason: "so it is".to_owned(),
            began: Timestamp(0),
            until: now,
            without: Default::default(),
            used: None,
        };
        expired.overrides.all.insert(OverrideId(number + 1), it);
    }
    let mut events: Vec<Event> = services.iter().cloned().map(|service| Event::Look(Scope::Service(service))).collect();
    for service in none.services.values() {
        let instances = service.instances.keys().map(|number| Scope::Instance(service.instance_id(*number)));
        events.extend(instances.map(Event::Look));
        let name = || service.spec.name.clone();
        events.push(Event::Asked(Ask::FailOver { service: name(), to: None, accept_loss: true }));
        events.push(Event::Asked(Ask::Upgrade { service: Some(name()), to: None, despite: None }));
        events.push(Event::Asked(Ask::Scale { service: name(), instances: 6 }));
    }
    if let Some(estate) = none.estate.clone() {
        events.push(Event::EstateGiven { estate, catalogs: none.catalogs.clone() });
    }
    for event in events {
        let [without, with] = [&none, &expired].map(|known| decide(known, &event, now));
        assert_eq!(without, with, "{event:?}");
    }
}
