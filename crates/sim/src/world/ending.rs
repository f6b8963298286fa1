//! The end of a storm: faults stop, everything is to be as declared within a bound, and what is known must be what is so.

use std::time::Duration;

use ostler_manager::{Knowledge, ResumeCause, evolve};
use ostler_model::ids::InstanceId;
use ostler_runtime::envelope;

use super::World;
use super::orders::Order;
use crate::promise::Promise;
use crate::sketch::Kind;

/// What was asked for may appear a day later, and is then still to be found and deleted.
const LEFT_FOR: Duration = Duration::from_secs(27 * 3600);

impl World {
    pub(super) fn look_at_all(&mut self) {
        if let Some(ostler) = &self.ostler {
            self.witness.look_at_all(ostler.knowledge(), &self.truth, self.now);
        }
    }

    /// Everything that can be checked when nothing is under way: what is known is what is so, and follows from the
    /// facts alone.
    fn look_at_the_end(&mut self) {
        self.look_at_all();
        self.witness.all_undone(self.now);
        let Some(ostler) = &self.ostler else { return };
        let known = ostler.knowledge();
        for (id, truth) in &self.truth.instances {
            let Some(instance) = known.instance(id) else { continue };
            // Where a provider lied about what is not to run, or brought it back by itself, nobody looks again.
            let wanted = known.services.get(id.service()).is_some_and(|s| known.is_wanted(s)) && !instance.retired;
            if !wanted && (self.lied || truth.kind == Kind::Broker) {
                continue;
            }
            let runs = truth.running().map(|running| (running.pid, running.address));
            let held = instance.running.map(|running| (running.pid, running.address));
            if runs != held {
                let what = format!("{id} runs as {runs:?}, and ostler thinks {held:?}");
                self.witness.broken(Promise::Converges, self.now, what);
            }
        }
        if !self.disk().is_whole() {
            return;
        }
        let mut folded = Knowledge::default();
        let mut readable = true;
        for record in self.disk().records() {
            match envelope::unwrap(record) {
                Ok(fact) => evolve(&mut folded, &fact),
                Err(_) => readable = false,
            }
        }
        if !readable || folded != *known {
            self.witness.broken(
                Promise::ReplayEqual,
                self.now,
                "the facts alone give something else than what is known",
            );
        }
    }

    /// Ends every fault, lets people answer, and runs until everything is as declared; a promise is broken if that
    /// takes longer than `within`.
    pub fn calm(&mut self, within: Duration) {
        self.end_all_faults();
        let end = self.elapsed() + within;
        let round = Duration::from_secs(300);
        while self.witness.violations.is_empty() {
            let next = self.elapsed() + round;
            self.run_until(next);
            if let Some(ostler) = &self.ostler {
                self.witness.look_at_moves(ostler.knowledge(), &self.truth, self.now);
            }
            if self.is_quiet() {
                self.leave_alone();
                self.look_at_the_end();
                return self.wait_for_what_is_left();
            }
            if self.elapsed() >= end {
                self.witness.all_undone(self.now);
                let what = format!("not as declared {} s after the last fault: {}", within.as_secs(), self.unsettled());
                return self.witness.broken(Promise::Converges, self.now, what);
            }
            self.answer();
        }
    }

    /// What may be left at brokers is asked about for a day: then there is nothing that nobody uses. And what ends by
    /// itself is renewed meanwhile.
    fn wait_for_what_is_left(&mut self) {
        if !self.town.kinds.values().any(|kind| *kind == Kind::Broker) {
            return;
        }
        let lasting = self.town.manners.values().filter_map(|manners| manners.ends_after).max();
        self.wait(Duration::from_secs(lasting.unwrap_or_default() * 60 * 2));
        self.is_calm = true;
        if self.knowledge().is_some_and(|known| known.services.values().any(|service| !service.leftovers.is_empty())) {
            self.wait(LEFT_FOR);
        }
        if !self.witness.violations.is_empty() {
            return;
        }
        // What was renewed just now is followed by ends of what it replaced.
        for _ in 0..12 {
            if self.is_quiet() && !self.has_left() {
                break;
            }
            let next = self.elapsed() + Duration::from_secs(300);
            self.run_until(next);
        }
        if let Some(ostler) = self.ostler.as_ref().filter(|ostler| !ostler.knowledge().down) {
            self.witness.nothing_doubled(ostler.knowledge(), &self.truth, self.now);
        }
    }

    /// Lets time pass, while people answer what is asked.
    fn wait(&mut self, length: Duration) {
        let end = self.elapsed() + length;
        while self.elapsed() < end && self.witness.violations.is_empty() {
            let next = (self.elapsed() + Duration::from_secs(3600)).min(end);
            self.run_until(next);
            self.answer();
        }
    }

    /// Whether credentials wait for being ended.
    fn has_left(&self) -> bool {
        self.knowledge().is_some_and(|known| {
            known.services.values().any(|service| {
                let left = service.bindings.values().any(|binding| !binding.left.is_empty());
                left || service.instances.values().any(|instance| !instance.access_left.is_empty())
            })
        })
    }

    /// Whether what is bought there is used by credentials that end, so that others take their place from time to time.
    pub(super) fn is_to_be_renewed(&self, instance: &InstanceId) -> bool {
        let provider = self.truth.instances.get(instance).map(|truth| &truth.provider);
        provider.is_some_and(|provider| self.manners(provider).ends_after.is_some())
    }

    pub(super) fn is_quiet(&self) -> bool {
        let settled = self.knowledge().is_some_and(|known| known.is_settled() && (!known.down || known.is_at_rest()));
        settled && self.orders.is_empty() && self.inbox.is_empty()
    }

    fn unsettled(&self) -> String {
        let Some(known) = self.knowledge() else { return "ostler is away".to_owned() };
        let status = ostler_manager::status(known, self.now);
        let services = status.services.iter().filter(|service| service.state != ostler_model::health::State::Ready);
        let lines: Vec<String> = services
            .map(|service| {
                let instances: Vec<String> = service
                    .instances
                    .iter()
                    .map(|instance| format!("{} {} {:?}", instance.id, instance.state, instance.because))
                    .collect();
                format!("{} {} [{}] {:?}", service.name, service.state, instances.join(", "), service.troubles)
            })
            .collect();
        format!("{}; orders {:?}", lines.join("; "), self.orders.values().map(Order::in_words).collect::<Vec<_>>())
    }

    /// A settled estate is looked at from anew: nothing may be stopped or started.
    fn leave_alone(&mut self) {
        for cause in [ResumeCause::Started, ResumeCause::HolderReturned] {
            let before = self.processes();
            self.inbox.push_back(self.resumed(cause));
            self.witness.holder_returned();
            let until = self.elapsed() + Duration::from_secs(600);
            self.run_until(until);
            let after = self.processes();
            if after != before && self.witness.violations.is_empty() {
                let changed: Vec<&(InstanceId, u32)> = before.iter().filter(|one| !after.contains(one)).collect();
                let what = format!("after {cause:?} a look at everything stopped or started {changed:?}");
                self.witness.broken(Promise::SettledLeftAlone, self.now, what);
            }
        }
    }

    /// The processes of what is to run. What a provider brought back by itself of what is not, is stopped when it is seen.
    fn processes(&self) -> Vec<(InstanceId, u32)> {
        let wanted = |id: &InstanceId| {
            self.knowledge().is_some_and(|known| {
                let service = known.services.get(id.service()).filter(|service| known.is_wanted(service));
                // What is given new credentials in time is restarted for that.
                let service = service.filter(|service| service.bindings.values().all(|b| b.renew_at.is_none()));
                service
                    .and_then(|service| service.instances.get(&id.number()))
                    .is_some_and(|instance| !instance.retired)
            })
        };
        let living = self.truth.instances.iter().filter_map(|(id, truth)| Some((id, truth.process.as_ref()?.pid)));
        living.filter(|(id, _)| wanted(id)).map(|(id, pid)| (id.clone(), pid)).collect()
    }
}
