//! What the world holds against the manager: each order, and what it leaves undone, judged by what there really is.

use std::time::Duration;

use ostler_manager::{
    Allowed, BindingState, Brings, Command, Event, FactKind, Phase, Scope, Target, UpgradeStep, decide,
};
use ostler_model::ids::{CommandId, InstanceId, ServiceName};

use crate::world::World;

impl World {
    /// Whether a move of the service has to bring its data.
    pub(crate) fn keeps_data_in_a_move(&self, name: &ServiceName) -> bool {
        let service = self.known.services.get(name);
        let brings = service.and_then(|service| service.moving.as_ref()).filter(|moving| !moving.returns);
        brings.is_some_and(|moving| moving.brings != Brings::Nothing)
    }

    /// Whatever happens, no more remedies begin within a minute than the brakes allow.
    pub(crate) fn count_remedy(&mut self) {
        let now = self.now;
        self.remedies.push_back(now);
        self.remedies.retain(|at| now.since(*at) < Duration::from_secs(60));
        let allowed = Allowed::of(self.known.instances, self.known.repairs_at_once());
        let by_people = self.asked.is_some_and(|asked| now.since(asked) < Duration::from_secs(60));
        let most = allowed.burst + allowed.per_minute;
        // A smaller estate allows less, and what was begun before was begun.
        assert!(by_people || self.remedies.len() as u64 <= most, "{} remedies within a minute", self.remedies.len());
    }

    /// A victim is left alone: it is not stopped because of what its need does.
    pub(crate) fn assert_no_victim(&self, id: &InstanceId) {
        let service = &self.known.services[id.service()];
        let Some(instance) = self.known.instance(id) else { return };
        let treated = instance.repair.is_some() && !instance.retired && self.known.is_wanted(service);
        let replaced = instance.generation != Some(service.generation_of(id.number()))
            || instance.restart_round != service.restart_round;
        let away = service.spec.needs.iter().find(|need| self.known.services.get(*need).is_none_or(|n| n.ready == 0));
        assert!(!treated || replaced || away.is_none(), "{id} is stopped, and is a victim of {away:?}");
    }

    /// Whether the order does something to an instance because it is sick. One to say again how to start what runs does
    /// not, also where it has just died without the manager's knowing.
    pub(crate) fn is_treatment(&self, command: &Command) -> bool {
        let Target::Instance(id) = command.target() else { return false };
        let treats = match command {
            Command::Provision { .. } | Command::Before { .. } | Command::Stop { .. } => true,
            Command::Start { .. } => self.instance(&id).phase != Phase::Running,
            _ => false,
        };
        treats && self.sick.contains(&id)
    }

    /// The promises, in the world's own terms.
    pub(crate) fn judge(&self, command: &Command) {
        let target = command.target();
        if let Command::Fault { drill } = command {
            let orders =
                || self.orders.values().any(|other| matches!(other, Command::Fault { .. } | Command::Undo { .. }));
            assert!(self.fault.is_none() && !orders(), "a second drill: {drill:?} beside {:?}", self.fault);
        }
        // Undoing takes the place of what is still being caused.
        if target != Target::Nothing && !matches!(command, Command::Undo { .. }) {
            assert!(self.orders.values().all(|other| other.target() != target), "two operations: {command:?}");
        }
        if self.is_treatment(command) {
            // Who is not to run any more needs no repair, so what is still being done to it counts no more.
            let counts = |(id, order): &(&CommandId, &Command)| {
                let Target::Instance(target) = order.target() else { return false };
                self.treatments.contains(id) && self.sick.contains(&target)
            };
            let others = self.orders.iter().filter(counts).count();
            let most = self.known.repairs_at_once();
            let goes_on = matches!(&target, Target::Instance(id) if self.finished_first.contains(id));
            assert!(goes_on || others < most, "{command:?} is one repair too many: {most} at once");
        }
        match command {
            Command::Before { instance, .. } => {
                let same = |order: &Command| matches!(order, Command::Before { instance: other, .. } if other.service() == instance.service());
                assert!(!self.orders.values().any(same), "the one-off command of {instance} runs twice at once");
            }
            Command::Start { instance, generation, .. } => {
                self.assert_reached(instance, *generation);
                let knows_it_runs = self.known.instance(instance).is_some_and(|i| i.phase == Phase::Running);
                let twin = self.truth(instance).process.is_some() && !knows_it_runs;
                assert!(!twin || self.is_bought(instance.service()), "a twin of {instance}");
            }
            Command::Provision { instance } => {
                self.assert_may_be_bought(instance);
                let truth = self.truth(instance);
                assert!(!truth.made || self.is_bought(instance.service()), "{instance} exists");
                let durable = self.known.services.get(instance.service()).is_some_and(|s| self.known.is_durable(s));
                assert!(!(truth.lost && durable), "an empty {instance} in the place of its data");
            }
            Command::Mitigate { leftover } => {
                assert!(!self.broker.used.contains(leftover), "{leftover} was in use, and is deleted by itself");
                let current = self.known.instance(&leftover.instance).and_then(|i| i.attempts.number());
                assert!(current != Some(leftover.attempt), "{leftover} is what is in use");
            }
            Command::Tidy { binding, instance, rounds } => {
                if binding.consumer == binding.need {
                    let used = self.known.instance(instance).and_then(|i| i.access_used);
                    let is_used = used.is_some_and(|used| rounds.contains(&used));
                    assert!(!is_used, "what ostler looks at {instance} with is ended");
                }
                self.assert_nobody_uses(binding, instance, rounds);
                for round in rounds {
                    let known = self.known.services.get(&binding.consumer).and_then(|s| s.bindings.get(&binding.need));
                    let used = known.is_some_and(|binding| {
                        let is_made = binding.state == BindingState::Made;
                        is_made && binding.instance == *instance && binding.used == Some(*round)
                    });
                    assert!(!used, "the credentials of {binding} that are in use are ended");
                }
            }
            Command::Route { instance, address: Some(_) } | Command::Bind { instance, .. } => {
                assert!(!self.instance(instance).is_fenced(), "{instance} was left, and {command:?}");
                let is_there = self.brought.get(instance).is_none_or(|there| *there);
                assert!(is_there, "the data of {instance} is not there, and {command:?}");
            }
            Command::Restore { instance, .. } => {
                assert!(!self.instance(instance).is_fenced(), "{instance} was left, and {command:?}");
            }
            Command::Deprovision { instance } => {
                let asked = self.deletions.contains(instance.service()) || self.discards.contains(instance);
                assert!(asked, "nobody asked to delete {instance}");
                // A broker ends what it deletes, and what ostler has no access to looks at rest to it.
                let runs = self.truth(instance).process.is_some() && !self.is_bought(instance.service());
                assert!(!runs, "{instance} is deleted while it runs");
            }
            Command::Stop { instance, .. } => {
                assert!(!self.routes.contains_key(instance), "callers are still sent to {instance}");
                self.assert_no_victim(instance);
                let service = &self.known.services[instance.service()];
                if !self.known.is_wanted(service) {
                    // What is bought reads nothing of what it is bound to.
                    let user = self.instances.iter().find(|(id, other)| {
                        !self.is_bought(id.service())
                            && other.process.as_ref().is_some_and(|process| process.needs.contains(instance.service()))
                    });
                    assert!(user.is_none(), "{instance} is stopped while {user:?} uses it");
                }
            }
            _ => {}
        }
    }

    /// What an upgrade has brought is started only where a wave has reached, and not once it is taken back.
    fn assert_reached(&self, id: &InstanceId, generation: u32) {
        let service = &self.known.services[id.service()];
        let Some(it) = service.upgrading().filter(|it| !it.data && !it.back && it.from != it.to) else { return };
        let Some(launch) = service.launches.get(&generation) else { return };
        let may_be = it.returns.is_none() && it.reached.contains(&id.number());
        // What runs already is only told again what it is.
        let runs = self.instance(id).phase == Phase::Running;
        assert!(
            runs || may_be || launch.placement != it.to,
            "{id} is started as {:?}, and no wave has reached it",
            it.to
        );
    }

    /// A wave is one instance first, then as many as have been done; it waits for its window, and for its backup.
    pub(crate) fn judge_wave(&self, name: &ServiceName, instances: &[u32]) {
        let service = &self.known.services[name];
        let Some(it) = service.upgrading() else { return };
        let is_before = |number: &&u32| {
            service.instances.get(number).is_some_and(|instance| !instance.retired) && !instances.contains(number)
        };
        let done = it.reached.iter().filter(is_before).count();
        assert!(it.data || instances.len() <= done.max(1), "{name}: a wave of {instances:?} after {done}");
        let declared = self.known.estate.as_ref().and_then(|estate| estate.upgrade.as_ref());
        let is_open = declared.is_none_or(|upgrade| upgrade.calendar.is_open(self.now));
        assert!(it.data || it.despite.is_some() || is_open, "{name}: a wave begins outside of all windows");
        let made = |name: &String| service.backups.iter().any(|(_, made)| made.name == *name);
        assert!(it.backup.as_ref().is_none_or(made), "{name}: a wave begins before its data is backed up");
    }

    /// A turn leaves nothing to be done that could be done now.
    pub(crate) fn assert_nothing_missed(&self, event: &Event) {
        for (name, service) in &self.known.services {
            let instances = service.instances.keys().map(|number| Scope::Instance(service.instance_id(*number)));
            for scope in instances.chain([Scope::Service(name.clone())]) {
                let due = self.wakes.contains(&(self.now, scope.clone()));
                if due || self.asks_again(&scope) {
                    continue;
                }
                let decision = decide(&self.known, &Event::Look(scope.clone()), self.now);
                self.assert_by_somebody(&decision);
                assert_eq!(decision.facts, [], "after {event:?} nobody looked at {scope:?}");
            }
        }
    }

    /// What waits for its turn to be repaired asks again within seconds. So nobody need look at it where people make room
    /// for more repairs, nor at what waits for its turn only to be replaced.
    pub(crate) fn asks_again(&self, scope: &Scope) -> bool {
        let Scope::Instance(id) = scope else { return self.is_drilled_later(scope) };
        let pause = Duration::from_secs(5);
        let by_people = self.asked.is_some_and(|asked| self.now <= asked + pause);
        let soon = self.now + pause;
        let asks = self.wakes.iter().take_while(|(at, _)| *at <= soon).any(|(_, other)| other == scope);
        let instance = self.instance(id);
        asks && instance.repair.is_some() && (by_people || !instance.waits_for_repair())
    }

    /// A drill, or the next wave of an upgrade, waits until something else is over: within a minute the schedule looks again, and nobody need tell it.
    pub(crate) fn is_drilled_later(&self, scope: &Scope) -> bool {
        let decision = decide(&self.known, &Event::Look(scope.clone()), self.now);
        let begins = decision.facts.first().is_some_and(|fact| match &fact.kind {
            FactKind::DrillBegan { .. } => true,
            FactKind::Upgrade { step, .. } => {
                matches!(**step, UpgradeStep::Began { .. } | UpgradeStep::WaveBegan { .. })
            }
            _ => false,
        });
        let soon = self.now + Duration::from_secs(60);
        begins && self.wakes.iter().take_while(|(at, _)| *at <= soon).any(|(_, other)| other == scope)
    }

    /// What fails is tried again at once at most once, unless a person asked for it: then a pause begins.
    pub(crate) fn assert_pauses(&mut self, failed: &Command) {
        if self.failed_now.0 != self.now {
            self.failed_now = (self.now, Vec::new());
        }
        let same = |other: &&Command| {
            other.target() == failed.target() && std::mem::discriminant(*other) == std::mem::discriminant(failed)
        };
        let before = self.failed_now.1.iter().filter(same).count();
        assert!(before < 2, "{failed:?} fails again and again without a pause");
        self.failed_now.1.push(failed.clone());
    }
}
