//! Processes and how they are seen: starts and ends, the keeper's reflex and its reports, probes.

use std::time::Duration;

use ostler_manager::{Command, Event, Process as NewProcess, ResumeCause};
use ostler_model::health::{Exit, Health, Symptom, SymptomKind};
use ostler_model::ids::{AttemptId, CommandId, InstanceId};
use ostler_model::time::Timestamp;
use ostler_probes::{UNREADY_AFTER, UNREADY_AFTER_SILENCE};
use ostler_runtime::keeper_link::ReportNumber;
use ostler_runtime::turn::Incoming;

use super::truth::{Process, SLOW_ANSWERS, SLOW_ROUND};
use super::{Happening, World};
use crate::dice::{Concern, key};
use crate::rates::HEALED_BY_PROVIDER;
use crate::sketch::Kind;
use crate::witness::HEALED_WITHIN;

const SECOND: Duration = Duration::from_secs(1);
/// How soon a watch asks again after something failed that worked.
const CONFIRM: Duration = Duration::from_millis(200);
/// What became a process is ready within this time, or something is wrong with it.
const STARTS_WITHIN: Duration = Duration::from_secs(60);
/// How soon ostler hears what the keeper saw.
const REPORT_TAKES: Duration = Duration::from_micros(200);
/// A watch that has never seen its instance ready says so after about this time (thirty tries with growing pauses).
const FIRST_WORD: Duration = Duration::from_secs(6);

/// What to call a change of what callers see that follows from an order.
pub(super) fn cause(command: &Command) -> &'static str {
    match command {
        Command::Stop { .. } | Command::Route { .. } => "stopped by ostler",
        _ => "ostler",
    }
}

impl World {
    /// Starts a process of an instance that has none.
    pub(super) fn start_process(&mut self, id: &InstanceId) {
        let mut draw = self.draw(Concern::Processes, id);
        self.truth.pids += 1;
        let (pid, now, wall) = (self.truth.pids, self.now, self.wall());
        let Some(truth) = self.truth.instances.get_mut(id) else { return };
        let (least, most) = match truth.kind {
            Kind::Machine => (SECOND / 50, 3 * SECOND),
            Kind::Broker => (SECOND / 2, 20 * SECOND),
        };
        // A program takes about as long each time it starts.
        let usual = self.dice.stream(Concern::Latency, key(&[id.service().as_str()], 0)).duration(least, most);
        let takes = draw.duration(usual * 9 / 10, usual * 11 / 10);
        let ready_at = if truth.never_ready > 0 { Timestamp(i64::MAX) } else { now + takes };
        truth.process = Some(Process {
            pid,
            since: wall,
            ready_at,
            hung: false,
            slow_until: Timestamp(0),
            given: truth.given.clone(),
        });
        if truth.loops > 0 {
            let ends = draw.duration(SECOND / 200, SECOND / 5);
            self.after(ends, Happening::Dies(id.clone(), pid, Exit::Code(1), "crash loop"));
        } else if ready_at.0 < i64::MAX {
            self.after(takes, Happening::Refresh(id.clone()));
        }
        self.refresh(id);
    }

    /// A process ends by itself: the reflex answers, and ostler is told.
    pub(super) fn dies(&mut self, id: &InstanceId, pid: u32, exit: Exit, cause: &'static str) {
        let (at, instant) = (self.wall(), self.instant());
        let Some(truth) = self.truth.instances.get_mut(id) else { return };
        if truth.process.as_ref().is_none_or(|process| process.pid != pid) {
            return;
        }
        truth.process = None;
        truth.cause = cause;
        let there = self.truth.providers.get(&truth.provider).is_some_and(|provider| provider.out == 0);
        if truth.kind == Kind::Broker {
            let heals = truth.heals_after.take();
            let (least, most) = HEALED_BY_PROVIDER;
            let usual = self.draw(Concern::Latency, id).duration(least, most);
            self.heals_after(id, heals.unwrap_or(usual));
            return self.refresh_because(id, cause);
        }
        if !self.keeper_up || !there {
            return self.refresh_because(id, cause);
        }
        let refusal = match &mut truth.bucket {
            None => Some("the keeper had not been told yet how to start it"),
            Some(_) if !truth.made => Some("what it was started from is gone"),
            Some(bucket) => {
                if !bucket.has(instant) {
                    Some("it had been restarted too often within a short time")
                } else if !self.reflexes.take(instant) {
                    Some("too many instances of the estate died within a short time")
                } else {
                    bucket.take(instant);
                    None
                }
            }
        };
        let reflex = match refusal {
            Some(why) => Err(why.to_owned()),
            None => {
                self.start_process(id);
                let process = self.truth.instances.get(id).and_then(|truth| truth.process.as_ref());
                process.map_or_else(
                    || Err("it cannot be started".to_owned()),
                    |p| Ok(NewProcess { pid: p.pid, since: p.since }),
                )
            }
        };
        self.last_report += 1;
        let event = Event::Died { instance: id.clone(), pid: Some(pid), exit, at, reflex };
        self.reports.insert(self.last_report, event);
        self.after(REPORT_TAKES, Happening::Report(self.last_report));
        self.refresh_because(id, cause);
    }

    pub(super) fn report(&mut self, number: u64) {
        let Some(event) = self.reports.get(&number).filter(|_| self.ostler.is_some() && self.keeper_up) else { return };
        let report = Some(ReportNumber::new(u64::from(self.keeper_epoch), number));
        self.inbox.push_back(Incoming { event: Some(event.clone()), secrets: Vec::new(), report });
    }

    pub(super) fn self_heals(&mut self, id: &InstanceId) {
        let Some(truth) = self.truth.instances.get(id) else { return };
        let there = self.truth.providers.get(&truth.provider).is_some_and(|provider| provider.out == 0);
        let exists =
            truth.asked.is_some_and(|attempt| self.truth.bought.is_there(&AttemptId { instance: id.clone(), attempt }));
        let works = truth.process.as_ref().is_some_and(|process| !process.hung && process.ready_at.0 < i64::MAX);
        if !there || !exists || works {
            return;
        }
        if let Some(truth) = self.truth.instances.get_mut(id) {
            truth.process = None;
            truth.made = true;
            if std::mem::take(&mut truth.broken) {
                self.witness.obstacle_gone(id.service().as_str(), self.now);
            }
        }
        self.start_process(id);
    }

    pub(super) fn keeper_back(&mut self) {
        self.keeper_up = true;
        self.witness.disturb_all(self.now);
        if self.ostler.is_some() {
            let resumed = self.resumed(ResumeCause::HolderReturned);
            self.inbox.push_back(resumed);
            self.witness.holder_returned();
        }
    }

    pub(super) fn refresh_because(&mut self, id: &InstanceId, cause: &'static str) {
        if let Some(truth) = self.truth.instances.get_mut(id) {
            truth.cause = cause;
        }
        self.refresh(id);
    }

    /// Something about an instance may have changed: for callers, for its watch, for the bound within which it is to be
    /// healed.
    pub(super) fn refresh(&mut self, id: &InstanceId) {
        let now = self.now;
        let serves = self.truth.serves(id, now);
        let Some(truth) = self.truth.instances.get_mut(id) else { return };
        let cause = truth.cause;
        let slow = truth.process.as_ref().filter(|process| now < process.slow_until && !process.hung);
        let next = slow.map(|process| {
            let into = now.since(process.since).as_micros() % SLOW_ROUND.as_micros();
            let into = Duration::from_micros(u64::try_from(into).unwrap_or(0));
            if into < SLOW_ANSWERS { SLOW_ANSWERS - into } else { SLOW_ROUND - into }
        });
        let begins_to_fail = !serves && !truth.is_timed;
        truth.is_timed |= begins_to_fail;
        let newly_failing = !serves && truth.failing_since.is_none();
        truth.failing_since = if serves { None } else { truth.failing_since.or(Some(now)) };
        let next = next.filter(|_| truth.slow_seen_at <= now);
        truth.slow_seen_at = next.map_or(truth.slow_seen_at, |next| now + next);
        if newly_failing {
            self.page(id);
        }
        if begins_to_fail {
            self.after(HEALED_WITHIN, Happening::Overdue(id.clone()));
        }
        if let Some(next) = next {
            self.after(next.max(Duration::from_millis(1)), Happening::Refresh(id.clone()));
        }
        self.recount(id, cause);
        self.plan_look(id);
    }

    /// What callers see of an instance.
    pub(super) fn recount(&mut self, id: &InstanceId, cause: &'static str) {
        let now = self.now;
        let serves = self.truth.serves(id, now);
        let Some(truth) = self.truth.instances.get_mut(id) else { return };
        let routed = truth.routed == Some(truth.address);
        // What is dead or not ready refuses connections, and the gateway tries the next one.
        let takes_and_fails = truth.process.as_ref().is_some_and(|process| process.hung || now < process.slow_until);
        let after = (routed && serves, routed && !serves && takes_and_fails);
        if after != truth.counted {
            let before = std::mem::replace(&mut truth.counted, after);
            truth.held.used |= after.0;
            if before.0 && !after.0 {
                self.truth.note_written(id, now);
            }
            self.callers.changed(id.service(), before, after, cause, now);
        }
    }

    pub(super) fn recount_gone(&mut self, id: &InstanceId) {
        let now = self.now;
        if let Some(truth) = self.truth.instances.get_mut(id) {
            let before = std::mem::take(&mut truth.counted);
            if before.0 {
                self.truth.note_written(id, now);
            }
            self.callers.changed(id.service(), before, (false, false), "deleted", now);
        }
    }

    pub(super) fn recount_all(&mut self) {
        let ids: Vec<InstanceId> = self.truth.instances.keys().cloned().collect();
        for id in ids {
            self.recount(&id, "ostler");
        }
    }

    /// What a probe would find.
    fn health(&self, id: &InstanceId) -> Health {
        let unready = |kind, detail: &str| Health::Unready(Symptom { kind, detail: detail.to_owned() });
        let Some(truth) = self.truth.instances.get(id) else {
            return unready(SymptomKind::Refused, "connection refused");
        };
        let reached = self.truth.providers.get(&truth.provider).is_some_and(|p| p.out == 0 && p.partition == 0);
        // What was there before may be somewhere else now.
        let elsewhere = truth.watch.as_ref().is_some_and(|watch| watch.address != truth.address);
        match &truth.process {
            _ if reached && elsewhere => unready(SymptomKind::Refused, "connection refused"),
            Some(_) if self.truth.refuses(id) => unready(SymptomKind::Refused, "connection refused"),
            _ if !reached => unready(SymptomKind::TimedOut, "no answer in time"),
            Some(process) if process.answers(self.now) => self.truth.suffers(id).map_or(Health::Ready, Health::Shallow),
            Some(process) if process.hung || self.now < process.slow_until => {
                unready(SymptomKind::TimedOut, "no answer in time")
            }
            Some(_) | None => unready(SymptomKind::Refused, "connection refused"),
        }
    }

    /// What a watch would find that waits for longer once it has found silence.
    fn health_with_patience(&self, id: &InstanceId) -> Health {
        let reported = self.truth.instances.get(id).and_then(|truth| truth.watch.as_ref()?.reported.as_ref());
        let has_waited = matches!(
            reported,
            Some(Health::Unready(symptom)) if matches!(symptom.kind, SymptomKind::TimedOut | SymptomKind::Hung)
        );
        match self.health(id) {
            Health::Unready(symptom) if has_waited && symptom.kind == SymptomKind::TimedOut => {
                Health::Unready(Symptom { kind: SymptomKind::Hung, ..symptom })
            }
            health => health,
        }
    }

    /// Plans the watch's next look, if it would find something new: at the time at which a real one would say so.
    pub(super) fn plan_look(&mut self, id: &InstanceId) {
        let health = self.health_with_patience(id);
        let now = self.now;
        let Some(truth) = self.truth.instances.get(id) else { return };
        let Some(watch) = &truth.watch else { return };
        if watch.reported.as_ref() == Some(&health) || watch.looks_at.is_some() {
            return;
        }
        let (watch_id, reported, since) = (watch.id, watch.reported.clone(), watch.since);
        let policy = self.knowledge().and_then(|known| known.probe_policy(known.services.get(id.service())?));
        let Some(policy) = policy else { return };
        let suspect = policy.every.get().min(SECOND);
        let mut draw = self.draw(Concern::Probes, id);
        let delay = match (&reported, &health) {
            (None, Health::Ready | Health::Shallow(_)) => now.since(since) / 5 + Duration::from_millis(2),
            (None, Health::Unready(_)) => (since + FIRST_WORD).since(now),
            (Some(Health::Unready(_)), Health::Unready(s)) if s.kind == SymptomKind::Hung => policy.patience(),
            (Some(Health::Unready(_)), _) => draw.duration(Duration::ZERO, suspect),
            (Some(_), _) => {
                let times_out = matches!(&health, Health::Unready(s) if s.kind == SymptomKind::TimedOut);
                let confirms = match times_out {
                    true => policy.timeout.get() * UNREADY_AFTER_SILENCE,
                    false => policy.every.get().min(CONFIRM) * (UNREADY_AFTER - 1),
                };
                draw.duration(Duration::ZERO, policy.every.get()) + confirms
            }
        };
        let delay = delay.max(Duration::from_millis(1));
        if let Some(watch) = self.truth.instances.get_mut(id).and_then(|truth| truth.watch.as_mut()) {
            watch.looks_at = Some(now + delay);
        }
        self.after(delay, Happening::Sees(id.clone(), watch_id));
    }

    pub(super) fn sees(&mut self, id: &InstanceId, watch_id: CommandId) {
        let health = self.health_with_patience(id);
        let Some(watch) = self.truth.instances.get_mut(id).and_then(|truth| truth.watch.as_mut()) else { return };
        if watch.id != watch_id {
            return;
        }
        watch.looks_at = None;
        if watch.reported.as_ref() == Some(&health) {
            return;
        }
        watch.reported = Some(health.clone());
        if health == Health::Ready {
            self.truth.note_use(id);
        }
        let event = Event::Probed { instance: id.clone(), watch: watch_id, health };
        if self.ostler.is_some() {
            self.inbox.push_back(event.into());
        }
        self.plan_look(id); // what is silent is asked again, with more patience
    }

    /// Three packets in a row were lost: the watch thinks ill of an instance for a moment.
    pub(super) fn false_alarm(&mut self, id: &InstanceId) {
        let Some(watch) = self.truth.instances.get_mut(id).and_then(|truth| truth.watch.as_mut()) else { return };
        if !matches!(watch.reported, Some(Health::Ready)) {
            return;
        }
        let symptom = Symptom { kind: SymptomKind::TimedOut, detail: "no answer in time".to_owned() };
        watch.reported = Some(Health::Unready(symptom.clone()));
        let event = Event::Probed { instance: id.clone(), watch: watch.id, health: Health::Unready(symptom) };
        if self.ostler.is_some() {
            self.inbox.push_back(event.into());
        }
        self.plan_look(id);
    }

    /// It should work again by now, unless something stood in the way.
    pub(super) fn overdue(&mut self, id: &InstanceId) {
        let Some(truth) = self.truth.instances.get_mut(id) else { return };
        let Some(since) = truth.failing_since else {
            truth.is_timed = false;
            return;
        };
        let Some(ostler) = &self.ostler else {
            return self.after(HEALED_WITHIN, Happening::Overdue(id.clone()));
        };
        let known = ostler.knowledge();
        let Some(service) = known.services.get(id.service()) else {
            return self.after(HEALED_WITHIN, Happening::Overdue(id.clone()));
        };
        let wanted = known.is_wanted(service) && known.instance(id).is_some_and(|instance| !instance.retired);
        if !wanted {
            // It may be wanted again: then it is to work within the bound from then on.
            return self.after(HEALED_WITHIN, Happening::Overdue(id.clone()));
        }
        // Ostler's clock goes at half its pace while the machine's was set back.
        let slow = self.now < self.slowed_until + HEALED_WITHIN;
        let bound = HEALED_WITHIN * if slow { 2 } else { 1 };
        let excused = self.witness.disturbed_until(id.service(), known, self.now).max(since) + bound;
        // It is being worked on, or waits for its turn among the repairs: that takes as long as it takes, and ends,
        // because everything is to be as declared within a bound in the end.
        let worked_on = self.orders.has_slow() || self.orders.is_for(id);
        // A start that is under way, and ends by itself.
        let starts = self.truth.instances.get(id).and_then(|truth| truth.process.as_ref());
        let starts = starts
            .is_some_and(|process| self.now < process.ready_at && process.ready_at.since(self.now) < STARTS_WITHIN);
        let waits = known.repairing.len() >= known.repairs_at_once() && !known.repairing.contains(id);
        if worked_on || starts || waits {
            return self.after(HEALED_WITHIN, Happening::Overdue(id.clone()));
        }
        if self.now < excused {
            let later = excused.since(self.now);
            return self.after(later, Happening::Overdue(id.clone()));
        }
        self.witness.overdue(id, since, known, self.now);
        self.after(HEALED_WITHIN, Happening::Overdue(id.clone()));
    }
}
