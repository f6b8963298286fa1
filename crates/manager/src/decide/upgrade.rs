//! What people ask for about upgrades.

use ostler_model::catalog::Placement;
use ostler_model::ids::ServiceName;
use ostler_model::version::VersionRange;

use super::Draft;
use super::drill::REASON_CHARS_MAX;
use crate::agenda::{Waits, closed, is_offered, seek};
use crate::event::Scope;
use crate::evolve::evolve;
use crate::fact::{Fact, FactKind};
use crate::knowledge::{Origin, ServiceKnowledge};
use crate::reconcile::backup_name;
use crate::upgrade::{UpgradeStep, UpgradeWish, from_to, named};

impl Draft<'_> {
    /// A person wants newer versions to be put to use. All that can be is; where nothing can, it is said why.
    pub(super) fn upgrade_asked(
        &mut self,
        service: Option<&ServiceName>,
        to: Option<&VersionRange>,
        despite: Option<&String>,
    ) {
        let known = self.known;
        let names: Vec<ServiceName> = match service {
            Some(name) => vec![name.clone()],
            None => known.services.values().filter(|s| !s.is_guest()).map(|s| s.spec.name.clone()).collect(),
        };
        // Of all, only those that may be changed now.
        let standing = self.standing();
        let is_open = |name: &ServiceName| despite.is_some() || service.is_some() || standing.freezes(name).is_none();
        let Some(first) = names.first().cloned() else { return };
        let names: Vec<ServiceName> = names.into_iter().filter(is_open).collect();
        let is_reason = |text: &String| !text.trim().is_empty() && text.chars().count() <= REASON_CHARS_MAX;
        if despite.is_some_and(|text| !is_reason(text)) {
            return self.refuse(&first, format!("a reason has 1 to {REASON_CHARS_MAX} characters"));
        }
        if let Some(waits) = closed(known, service, despite.is_some(), standing) {
            let what = if matches!(waits, Waits::Override(_)) {
                "nothing is upgraded before"
            } else {
                "no window for upgrades is open now:"
            };
            let why = format!("{what} {}", waits.in_words(self.now));
            return self.refuse(&first, format!("{why}; `--now REASON` upgrades all the same"));
        }
        let wish = UpgradeWish { to: to.cloned(), despite: despite.cloned(), again: service.is_some() };
        let fact = |name: &ServiceName| {
            let step = Box::new(UpgradeStep::Asked { wish: wish.clone() });
            Fact { at: self.now, kind: FactKind::Upgrade { service: name.clone(), step } }
        };
        // What would come of it: only what can be done is recorded as asked for.
        let mut wished = known.clone();
        for name in &names {
            evolve(&mut wished, &fact(name));
        }
        let agenda = seek(&wished, wished.standing(self.now));
        let can: Vec<&ServiceName> = names.iter().filter(|name| agenda.step_of(name).is_some()).collect();
        if let (Some(name), true) = (service, can.is_empty()) {
            let why = self.why_none(
                name,
                agenda
                    .blocked
                    .iter()
                    .find(|blocked| blocked.service == *name)
                    .map(|blocked| format!("{} is on offer, but {}", blocked.newest, blocked.because)),
            );
            return self.refuse(name, why);
        }
        for name in can {
            let step = Box::new(UpgradeStep::Asked { wish: wish.clone() });
            self.fact(FactKind::Upgrade { service: name.clone(), step });
            self.look(Scope::Service(name.clone()));
        }
    }

    fn why_none(&self, name: &ServiceName, blocked: Option<String>) -> String {
        let Some(service) = self.known.services.get(name).filter(|service| !service.is_guest()) else {
            return format!("there is no service `{name}`");
        };
        if !self.known.is_wanted(service) {
            return format!("`{name}` is stopped: `ostler up` starts it");
        }
        if let Some(it) = service.upgrading() {
            return format!("`{name}` is being upgraded already, from {}", from_to(&it.from, &it.to));
        }
        if service.moving.is_some() {
            return format!("`{name}` is being moved to another provider");
        }
        let has = service.placement.as_ref().map(named).unwrap_or_default();
        blocked.unwrap_or_else(|| format!("`{name}` has {has}, and nothing newer is on offer"))
    }

    /// A person wants an upgrade taken back.
    ///
    /// # Errors
    /// Why it is not.
    pub(super) fn roll_back(&mut self, service: &ServiceKnowledge, accept_loss: bool) -> Result<(), String> {
        let name = &service.spec.name;
        if !self.known.is_wanted(service) {
            return Err(format!("`{name}` is stopped: `ostler up` starts it"));
        }
        let why = "a person asked for it".to_owned();
        if let Some(it) = service.upgrading() {
            if it.returns.is_some() || it.back {
                return Err(format!("`{name}` is being taken back already"));
            }
            let in_use = it.data && service.moving.as_ref().is_none_or(|moving| !moving.can_be_given_up());
            let began = service.moving.is_some() || service.moved.as_ref().is_some_and(|moved| moved.began >= it.began);
            match (in_use && began, accept_loss) {
                (true, false) => {
                    return Err(format!(
                        "callers use {} already, and what they wrote since cannot be read by {}: `--accept-loss` goes back \
                         without it",
                        named(&it.to),
                        named(&it.from)
                    ));
                }
                (true, true) if service.moving.is_some() => {
                    return Err("it is nearly over: wait until it is".to_owned());
                }
                (true, true) => {
                    self.upgrade_fact(name, UpgradeStep::Ended);
                    return self.go_back(service, &it.from.clone(), &it.to.clone(), true);
                }
                (false, _) => {}
            }
            let can = it.data || self.known.can_be_restarted(service) && is_offered(self.known, service, &it.from);
            if !can {
                return Err(format!("{} is not to be had any more", named(&it.from)));
            }
            self.upgrade_fact(name, UpgradeStep::TakenBack { why });
            if service.moving.is_some() {
                self.fact(FactKind::MoveReturned { service: name.clone() });
            }
            return Ok(());
        }
        let last = service.upgrades().last.as_ref().filter(|last| last.returned.is_none() && !last.back);
        let last = last.filter(|last| service.placement.as_ref() == Some(&last.to));
        let Some(last) = last else {
            return Err(format!("`{name}` was not upgraded, or it was taken back already"));
        };
        if last.data && !accept_loss {
            return Err(format!(
                "what was written since cannot be read by {}: `--accept-loss` goes back without it",
                named(&last.from)
            ));
        }
        self.go_back(service, &last.from, &last.to, last.data)
    }

    /// Begins the way back from what the last upgrade has put to use.
    fn go_back(
        &mut self,
        service: &ServiceKnowledge,
        from: &Placement,
        to: &Placement,
        data: bool,
    ) -> Result<(), String> {
        let (known, name) = (self.known, &service.spec.name);
        if data && service.kept_by_upgrade(from).is_none() {
            return Err(format!("what `{name}` was before is not kept any more"));
        }
        let can_be_had = known.can_be_restarted(service) && is_offered(known, service, from);
        if !data && !can_be_had {
            return Err(format!("{} is not to be had any more", named(from)));
        }
        if service.origin != Origin::Declared && data {
            return Err(format!("`{name}` was sold: what its buyer wrote since must not be lost"));
        }
        let backs_up = known.is_backed_up_before_upgrade(service, data);
        self.upgrade_fact(
            name,
            UpgradeStep::Began {
                to: from.clone(),
                data,
                back: true,
                backup: backs_up.then(|| backup_name(service, "rollback-", self.now)),
                despite: Some("a person asked for it".to_owned()),
                why: format!("back from {}: a person asked for it", from_to(to, from)),
            },
        );
        Ok(())
    }

    fn upgrade_fact(&mut self, name: &ServiceName, step: UpgradeStep) {
        self.fact(FactKind::Upgrade { service: name.clone(), step: Box::new(step) });
        self.look(Scope::Service(name.clone()));
    }
}
