//! What goes wrong in the world, and when it is over.

use std::time::Duration;

use ostler_model::health::Exit;
use ostler_model::ids::{AttemptId, InstanceId, ProviderName, ServiceName};
use ostler_model::time::Timestamp;

use super::orders::FREE;
use super::{Happening, START, World};
use crate::act::{Act, CutAt};
use crate::dice::{Concern, key};
use crate::sketch::Kind;
use crate::witness::{EVERYTHING, all_of};

/// What a process dies of that used more and more.
const LEAK: &str = "leak";

impl World {
    pub(super) fn plan_acts(&mut self) {
        if let Some(next) = self.plan.front() {
            let at = START + next.at.get();
            self.after(at.since(self.now), Happening::Acts);
        }
    }

    pub(super) fn planned_acts(&mut self) {
        while let Some(next) = self.plan.front()
            && START + next.at.get() <= self.now
        {
            let planned = self.plan.pop_front().expect("it was just seen");
            self.begin(planned.act);
        }
        self.plan_acts();
    }

    /// The `nth` instance of a service, counting round among those that exist.
    fn nth(&self, service: &str, nth: usize) -> Option<InstanceId> {
        let service: ServiceName = service.parse().ok()?;
        let made: Vec<&InstanceId> = self.truth.instances.range(all_of(&service)).map(|(id, _)| id).collect();
        (!made.is_empty()).then(|| made[nth % made.len()].clone())
    }

    fn of_provider(&self, provider: &str) -> Vec<InstanceId> {
        let name = provider.parse::<ProviderName>().ok();
        let provider = name.and_then(|name| self.truth.providers.get(&name));
        provider.into_iter().flat_map(|provider| provider.instances.iter().cloned()).collect()
    }

    fn providers_in(&self, region: &str) -> Vec<String> {
        let inside = self.truth.providers.iter().filter(|(_, provider)| provider.region == region);
        inside.map(|(name, _)| name.to_string()).collect()
    }

    pub(super) fn kill(&mut self, id: &InstanceId, exit: Exit, cause: &'static str) {
        let pid = self.truth.instances.get(id).and_then(|truth| truth.process.as_ref()).map(|process| process.pid);
        if let Some(pid) = pid {
            self.dies(id, pid, exit, cause);
        }
    }

    fn begin(&mut self, act: Act) {
        if !matches!(act, Act::Person(_)) {
            self.counts.faults += 1;
        }
        let now = self.now;
        let word = act.word();
        match &act {
            Act::Crash { service, nth, lasts } => {
                if let Some(id) = self.disturbed(service, *nth) {
                    if let Some(truth) = self.truth.instances.get_mut(&id).filter(|truth| truth.kind == Kind::Broker) {
                        truth.heals_after = (!lasts.get().is_zero()).then(|| lasts.get());
                    }
                    self.kill(&id, Exit::Signal(11), word);
                }
            }
            Act::Hang { service, nth, lasts } => {
                if let Some(id) = self.disturbed(service, *nth) {
                    self.hang(&id, lasts.get());
                    self.refresh_because(&id, word);
                }
            }
            Act::Slow { service, nth, lasts } => {
                if let Some(id) = self.disturbed(service, *nth) {
                    let until = now + lasts.get();
                    if let Some(process) = self.process(&id) {
                        process.slow_until = until;
                    }
                    self.refresh_because(&id, word);
                }
            }
            Act::Leak { service, nth, lasts } => {
                if let Some(id) = self.disturbed(service, *nth)
                    && let Some(pid) = self.process(&id).map(|process| process.pid)
                {
                    self.after(lasts.get(), Happening::Dies(id, pid, Exit::Signal(9), LEAK));
                }
            }
            Act::CrashLoop { service, nth, .. } => {
                if let Some(id) = self.disturbed(service, *nth) {
                    if let Some(truth) = self.truth.instances.get_mut(&id) {
                        truth.loops += 1;
                    }
                    self.kill(&id, Exit::Code(1), word);
                }
            }
            Act::NeverReady { service, nth, .. } => {
                if let Some(id) = self.disturbed(service, *nth) {
                    if let Some(truth) = self.truth.instances.get_mut(&id) {
                        truth.never_ready += 1;
                    }
                    self.kill(&id, Exit::Code(1), word);
                }
            }
            Act::Lose { service, nth } => self.lose(service, *nth),
            Act::BeforeFails { service, .. } => {
                if let Ok(service) = service.parse::<ServiceName>() {
                    *self.truth.before_fails.entry(service).or_default() += 1;
                }
            }
            Act::RestoreFails { service, .. } => {
                if let Ok(service) = service.parse::<ServiceName>() {
                    *self.truth.restore_fails.entry(service).or_default() += 1;
                }
            }
            Act::Corrupt { service } => self.corrupt(service),
            Act::AddressTaken { service, .. } => {
                if let Ok(service) = service.parse::<ServiceName>() {
                    *self.truth.taken.entry(service).or_default() += 1;
                }
            }
            Act::Spoil { provider, how, times } => {
                if let Some(provider) = self.provider(provider) {
                    provider.spoils.extend((0..*times).map(|_| *how));
                }
                self.witness.disturb(provider, now);
            }
            Act::ControlOut { provider, .. } => {
                if let Some(provider) = self.provider(provider) {
                    provider.control_out += 1;
                }
            }
            Act::Partition { provider, .. } => {
                if let Some(found) = self.provider(provider) {
                    found.partition += 1;
                }
                self.refresh_all(provider, word);
            }
            Act::PlanGone { provider, .. } => {
                if let Some(found) = self.provider(provider) {
                    found.plan_gone += 1;
                }
                self.read_catalog(provider);
            }
            Act::UnbindRefused { provider, .. } => {
                if let Some(found) = self.provider(provider) {
                    found.unbind_refused += 1;
                }
            }
            Act::ProviderOut { provider, .. } => self.provider_out(provider, word),
            Act::RegionOut { region, .. } => {
                for provider in self.providers_in(region) {
                    self.provider_out(&provider, word);
                }
            }
            Act::Drops { provider, lasts } => self.drops(provider, lasts.get()),
            Act::ManagerDies { at: CutAt::Rest, away } => self.manager_dies(away.get()),
            Act::ManagerDies { at, away } => {
                if self.ostler.is_some() {
                    self.cut = Some((*at, away.get()));
                }
            }
            Act::KeeperDies { away } => self.keeper_dies(away.get()),
            Act::PowerLoss { away } => self.power_loss(away.get()),
            Act::DiskFull { .. } => self.disk().full = true,
            Act::ClockJumps { by } => {
                self.skew += by;
                self.witness.disturb_all(now);
            }
            Act::Person(errand) => self.run_errand(errand),
        }
        if !act.lasts().is_zero() {
            for name in self.obstructed(&act) {
                self.witness.obstacle(&name);
            }
            self.after(act.lasts(), Happening::Over(act));
        }
    }

    /// What it stands in the way of while it lasts.
    fn obstructed(&self, act: &Act) -> Vec<String> {
        match act {
            Act::Slow { service: name, .. }
            | Act::Leak { service: name, .. }
            | Act::CrashLoop { service: name, .. }
            | Act::NeverReady { service: name, .. }
            | Act::BeforeFails { service: name, .. }
            | Act::RestoreFails { service: name, .. }
            | Act::AddressTaken { service: name, .. }
            | Act::ControlOut { provider: name, .. }
            | Act::ProviderOut { provider: name, .. }
            | Act::Partition { provider: name, .. }
            | Act::Drops { provider: name, .. }
            | Act::PlanGone { provider: name, .. }
            | Act::UnbindRefused { provider: name, .. } => vec![name.clone()],
            Act::RegionOut { region, .. } => self.providers_in(region),
            Act::ManagerDies { .. } | Act::KeeperDies { .. } | Act::PowerLoss { .. } | Act::DiskFull { .. } => {
                vec![EVERYTHING.to_owned()]
            }
            Act::Crash { .. }
            | Act::Hang { .. }
            | Act::Lose { .. }
            | Act::Corrupt { .. }
            | Act::Spoil { .. }
            | Act::ClockJumps { .. }
            | Act::Person(_) => Vec::new(),
        }
    }

    /// What lasted is over.
    pub(super) fn over(&mut self, act: &Act) {
        let now = self.now;
        for name in self.obstructed(act) {
            self.witness.obstacle_gone(&name, now);
        }
        match act {
            Act::CrashLoop { service, nth, .. } => {
                if let Some(id) = self.disturbed(service, *nth)
                    && let Some(truth) = self.truth.instances.get_mut(&id)
                {
                    truth.loops = truth.loops.saturating_sub(1);
                }
            }
            Act::NeverReady { service, nth, .. } => {
                if let Some(id) = self.disturbed(service, *nth)
                    && let Some(truth) = self.truth.instances.get_mut(&id)
                {
                    truth.never_ready = truth.never_ready.saturating_sub(1);
                    if truth.kind == Kind::Broker && truth.never_ready == 0 {
                        self.complain(&id); // nobody else starts it again
                    }
                }
            }
            Act::Slow { service, nth, .. } | Act::Leak { service, nth, .. } => drop(self.disturbed(service, *nth)),
            Act::BeforeFails { service, .. } => {
                self.witness.disturb(service, now);
                if let Ok(service) = service.parse::<ServiceName>() {
                    less(&mut self.truth.before_fails, &service);
                }
            }
            Act::RestoreFails { service, .. } => {
                self.witness.disturb(service, now);
                if let Ok(service) = service.parse::<ServiceName>() {
                    less(&mut self.truth.restore_fails, &service);
                }
            }
            Act::AddressTaken { service, .. } => {
                self.witness.disturb(service, now);
                if let Ok(service) = service.parse::<ServiceName>() {
                    less(&mut self.truth.taken, &service);
                }
            }
            Act::ControlOut { provider, .. } => {
                if let Some(provider) = self.provider(provider) {
                    provider.control_out = provider.control_out.saturating_sub(1);
                }
                self.witness.disturb(provider, now);
            }
            Act::Partition { provider, .. } => {
                if let Some(provider) = self.provider(provider) {
                    provider.partition = provider.partition.saturating_sub(1);
                }
                self.refresh_all(provider, "network");
            }
            Act::PlanGone { provider, .. } => {
                if let Some(found) = self.provider(provider) {
                    found.plan_gone = found.plan_gone.saturating_sub(1);
                }
                self.witness.disturb(provider, now);
                self.read_catalog(provider);
            }
            Act::UnbindRefused { provider, .. } => {
                if let Some(found) = self.provider(provider) {
                    found.unbind_refused = found.unbind_refused.saturating_sub(1);
                }
                self.witness.disturb(provider, now);
            }
            Act::ProviderOut { provider, .. } => self.provider_back(provider),
            Act::RegionOut { region, .. } => {
                for provider in self.providers_in(region) {
                    self.provider_back(&provider);
                }
            }
            Act::Drops { provider, .. } => self.witness.disturb(provider, now),
            Act::DiskFull { .. } => {
                self.disk().full = false;
                self.witness.disturb_all(now);
            }
            _ => {}
        }
    }

    fn corrupt(&mut self, service: &str) {
        self.witness.disturb(service, self.now);
        let kept = self.truth.kept.iter_mut().filter(|((name, _), _)| name.as_str() == service);
        kept.for_each(|(_, kept)| kept.spoilt = true);
    }

    fn process(&mut self, id: &InstanceId) -> Option<&mut super::truth::Process> {
        self.truth.instances.get_mut(id)?.process.as_mut()
    }

    fn provider(&mut self, name: &str) -> Option<&mut super::truth::ProviderTruth> {
        self.truth.providers.get_mut(&name.parse::<ProviderName>().ok()?)
    }

    /// The instance, noting that something stands in its service's way.
    fn disturbed(&mut self, service: &str, nth: usize) -> Option<InstanceId> {
        self.witness.disturb(service, self.now);
        self.nth(service, nth)
    }

    fn refresh_all(&mut self, provider: &str, word: &'static str) {
        self.witness.disturb(provider, self.now);
        for id in self.of_provider(provider) {
            self.refresh_because(&id, word);
        }
    }

    /// It answers nothing any more. At a broker its provider finds out after `lasts`, or never by itself.
    fn hang(&mut self, id: &InstanceId, lasts: Duration) {
        let Some(truth) = self.truth.instances.get_mut(id) else { return };
        let Some(process) = &mut truth.process else { return };
        process.hung = true;
        match (truth.kind, lasts.is_zero()) {
            (Kind::Machine, _) => {}
            (Kind::Broker, false) => self.heals_after(id, lasts),
            (Kind::Broker, true) => {
                if !std::mem::replace(&mut truth.broken, true) {
                    self.witness.obstacle(id.service().as_str());
                }
            }
        }
    }

    fn lose(&mut self, service: &str, nth: usize) {
        let Some(id) = self.disturbed(service, nth) else { return };
        let at_broker = self.truth.instances.get(&id).filter(|truth| truth.kind == Kind::Broker);
        let name = at_broker.map(|truth| (truth.provider.clone(), truth.asked));
        if let Some((provider, asked)) = name {
            // Where nobody can ask whether it is still there, what is lost looks like what is broken.
            if !self.manners(&provider).retrievable {
                self.hang(&id, Duration::ZERO);
                return self.refresh_because(&id, "data lost");
            }
            let Some(attempt) = asked else { return };
            let name = AttemptId { instance: id.clone(), attempt };
            if !self.truth.bought.is_there(&name) {
                return;
            }
            self.truth.bought.remove(&name);
        }
        let was_started =
            self.knowledge().and_then(|known| known.instance(&id)).is_some_and(|i| i.generation.is_some());
        let Some(truth) = self.truth.instances.get_mut(&id).filter(|truth| truth.made) else { return };
        truth.made = false;
        truth.lost = was_started;
        self.truth.bindings.retain(|_, binding| binding.instance != id);
        self.kill(&id, Exit::Signal(7), "data lost");
    }

    /// What the provider runs ends, and nobody reports it.
    fn provider_out(&mut self, provider: &str, word: &'static str) {
        if let Some(provider) = self.provider(provider) {
            provider.out += 1;
        }
        for id in self.of_provider(provider) {
            if let Some(truth) = self.truth.instances.get_mut(&id) {
                truth.process = None;
                truth.busy_until = FREE;
            }
        }
        self.refresh_all(provider, word);
    }

    fn provider_back(&mut self, provider: &str) {
        if let Some(provider) = self.provider(provider) {
            provider.out = provider.out.saturating_sub(1);
        }
        for id in self.of_provider(provider) {
            let heals = self.truth.instances.get(&id).is_some_and(|truth| truth.kind == Kind::Broker);
            if heals {
                let takes =
                    self.draw(Concern::Latency, &id).duration(Duration::from_secs(10), Duration::from_secs(300));
                self.heals_after(&id, takes);
            }
        }
        self.refresh_all(provider, "provider out");
    }

    fn drops(&mut self, provider: &str, lasts: Duration) {
        self.witness.disturb(provider, self.now);
        let mut draw = self.dice.stream(Concern::Networks, key(&[provider], self.counts.steps));
        for id in self.of_provider(provider) {
            if draw.chance(200) {
                let at = draw.duration(Duration::ZERO, lasts);
                self.after(at, Happening::FalseAlarm(id));
            }
        }
    }

    fn keeper_dies(&mut self, away: Duration) {
        self.keeper_up = false;
        self.keeper_epoch += 1;
        self.reports.clear();
        for truth in self.truth.instances.values_mut().filter(|truth| truth.kind == Kind::Machine) {
            truth.bucket = None;
        }
        self.witness.disturb_all(self.now);
        self.after(away, Happening::KeeperBack(self.keeper_epoch));
    }

    fn power_loss(&mut self, away: Duration) {
        self.manager_dies(away);
        self.keeper_dies(away);
        self.orders.clear();
        self.truth.endpoints.clear();
        let ids: Vec<InstanceId> = self.truth.instances.keys().cloned().collect();
        for id in ids {
            let Some(truth) = self.truth.instances.get_mut(&id) else { continue };
            truth.routed = None;
            if truth.kind == Kind::Machine {
                truth.process = None;
                truth.busy_until = FREE;
            }
            self.refresh_because(&id, "power loss");
        }
    }

    /// Whatever goes wrong ends now.
    pub(super) fn end_all_faults(&mut self) {
        self.plan.clear();
        self.queue.retain(|_, happening| {
            let leak = matches!(happening, Happening::Dies(_, _, _, cause) if *cause == LEAK);
            !leak && !matches!(happening, Happening::Acts | Happening::Over(_) | Happening::FalseAlarm(_))
        });
        self.cut = None;
        self.truth.before_fails.clear();
        self.truth.restore_fails.clear();
        self.truth.taken.clear();
        for provider in self.truth.providers.values_mut() {
            (provider.out, provider.control_out, provider.partition) = (0, 0, 0);
            (provider.plan_gone, provider.unbind_refused) = (0, 0);
            provider.spoils.clear();
        }
        {
            let mut disk = self.disk();
            disk.full = false;
            disk.next = crate::disk::NextAppend::Works;
        }
        let ids: Vec<InstanceId> = self.truth.instances.keys().cloned().collect();
        for id in ids {
            if let Some(truth) = self.truth.instances.get_mut(&id) {
                (truth.loops, truth.never_ready) = (0, 0);
                if let Some(process) = &mut truth.process {
                    process.slow_until = Timestamp(0);
                }
            }
            self.refresh(&id);
        }
        self.brokers_recover();
        self.read_all_catalogs();
        if !self.keeper_up {
            self.after(Duration::from_millis(100), Happening::KeeperBack(self.keeper_epoch));
        }
        if self.ostler.is_none() {
            self.after(Duration::from_millis(100), Happening::ManagerBack(self.incarnation));
        }
        self.witness.no_obstacles(self.now);
    }
}

fn less(counts: &mut std::collections::BTreeMap<ServiceName, u32>, service: &ServiceName) {
    if let Some(count) = counts.get_mut(service) {
        *count -= 1;
        if *count == 0 {
            counts.remove(service);
        }
    }
}
