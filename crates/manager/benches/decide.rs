//! What one event costs in `decide` and `evolve`, in estates of three sizes with ten instances to each service, every
//! service but the first using the one before it. Flat: the work grows with what an event touches, not with the estate.
//!
//! `cargo bench -p ostler-manager`

// It is not shipped; and it measures, so it needs a clock, which the manager itself must not have.
#![allow(clippy::print_stdout, clippy::unwrap_used, clippy::disallowed_types, clippy::disallowed_methods)]

#[path = "../tests/it/support.rs"]
#[allow(dead_code, unreachable_pub)]
mod support;

use std::collections::VecDeque;
use std::time::Instant;

use ostler_manager::{Command, Decision, Event, Knowledge, Outcome, Phase, ResumeCause, take};
use ostler_model::health::{Exit, Health, Symptom, SymptomKind};
use ostler_model::ids::{CommandId, InstanceId};
use ostler_model::outcome::Running;
use ostler_model::time::Timestamp;
use support::{START, estate, given, local, name, service, uuid};

const PER_SERVICE: u32 = 10;
const SAMPLES: usize = 2000;

struct Bench {
    known: Knowledge,
    now: Timestamp,
    pids: u32,
}

impl Bench {
    /// An estate in which everything works.
    fn new(instances: u32) -> Self {
        let services = (0..instances / PER_SERVICE).map(|number| {
            let mut drawn = service(&format!("s{number}"), "program");
            drawn.instances = PER_SERVICE;
            if number % PER_SERVICE > 0 {
                drawn.needs.insert(name(&format!("s{}", number - 1)));
            }
            drawn
        });
        let estate = estate(20, services.collect());
        let mut bench = Self { known: Knowledge::default(), now: START, pids: 1 };
        let resumed = take(&mut bench.known, &Event::Resumed { cause: ResumeCause::Started, uuid: uuid() }, START);
        bench.answer(resumed);
        let decision = take(&mut bench.known, &given(&estate), START);
        bench.answer(decision);
        assert!(bench.known.is_settled());
        bench
    }

    /// Everything that is ordered succeeds, and everything that is watched is ready.
    fn answer(&mut self, decision: Decision) {
        let mut waiting = VecDeque::from(decision.commands);
        while let Some((id, command)) = waiting.pop_front() {
            if let Some(event) = self.success(id, command) {
                waiting.extend(take(&mut self.known, &event, self.now).commands);
            }
        }
    }

    fn success(&mut self, id: CommandId, command: Command) -> Option<Event> {
        let outcome = match command {
            Command::Watch { instance, .. } => {
                return Some(Event::Probed { instance, watch: id, health: Health::Ready });
            }
            Command::Unwatch { .. } | Command::Route { .. } | Command::Notify { .. } => return None,
            Command::OpenEndpoint { .. } => Outcome::Open(local(1)),
            Command::Bind { .. } => Outcome::Bound { digest: "same".to_owned(), renew_at: None },
            Command::Start { .. } => {
                self.pids += 1;
                Outcome::Started(Running { pid: Some(self.pids), address: local(2), since: self.now }.into())
            }
            Command::Stop { .. } => Outcome::Stopped { exit: None, killed: false, cut: 0 },
            _ => Outcome::Done,
        };
        Some(Event::Ended { id, outcome })
    }

    /// Times the `take` of each event; what follows from it is answered, untimed.
    fn measure(&mut self, mut event: impl FnMut(&mut Self, &InstanceId) -> Event) -> Vec<f64> {
        let services = u32::try_from(self.known.services.len()).unwrap();
        let mut micros = Vec::with_capacity(SAMPLES);
        for sample in 0..u32::try_from(SAMPLES).unwrap() {
            // All over the estate, so that what is measured is not one warm corner of it.
            let number = sample.wrapping_mul(2_654_435_761) % services;
            let id = InstanceId::new(name(&format!("s{number}")), 1 + sample % PER_SERVICE);
            self.now = Timestamp(self.now.0 + 600_000_000);
            let event = event(self, &id);
            let begin = Instant::now();
            let decision = take(&mut self.known, &event, self.now);
            micros.push(begin.elapsed().as_secs_f64() * 1e6);
            self.answer(decision);
        }
        assert!(self.known.is_settled(), "each event was answered");
        micros.sort_by(f64::total_cmp);
        micros
    }
}

fn unready(bench: &mut Bench, id: &InstanceId) -> Event {
    let watch = bench.known.instance(id).unwrap().watch.unwrap();
    let symptom = Symptom { kind: SymptomKind::TimedOut, detail: "no answer within 500 ms".to_owned() };
    Event::Probed { instance: id.clone(), watch, health: Health::Unready(symptom) }
}

fn death(bench: &mut Bench, id: &InstanceId) -> Event {
    bench.pids += 1;
    let process = ostler_manager::Process { pid: bench.pids, since: bench.now };
    let pid = bench.known.instance(id).unwrap().running.unwrap().pid;
    Event::Died { instance: id.clone(), pid, exit: Exit::Signal(9), at: bench.now, reflex: Ok(process) }
}

/// A process that dies with its restarts spent is started: the event that is timed is that this has succeeded.
fn start_ended(bench: &mut Bench, id: &InstanceId) -> Event {
    let pid = bench.known.instance(id).unwrap().running.unwrap().pid;
    let reflex = Err("spent".to_owned());
    let died = Event::Died { instance: id.clone(), pid, exit: Exit::Code(1), at: bench.now, reflex };
    let decision = take(&mut bench.known, &died, bench.now);
    let start = decision.commands.into_iter().find(|(_, command)| matches!(command, Command::Start { .. }));
    let (command_id, command) = start.expect("what died is started");
    assert_eq!(bench.known.instance(id).unwrap().phase, Phase::Stopped);
    bench.success(command_id, command).unwrap()
}

fn main() {
    println!("One event in `take` (decide + evolve), µs, {SAMPLES} samples each\n");
    println!("{:>10}  {:<38} {:>8} {:>8} {:>8}", "instances", "event", "median", "p99", "max");
    for instances in [100, 10_000, 100_000] {
        let mut bench = Bench::new(instances);
        type Make = fn(&mut Bench, &InstanceId) -> Event;
        let events: [(&str, Make); 3] = [
            ("a probe fails: concluded and stopped", unready),
            ("a death, started again by the reflex", death),
            ("a start has ended: watched", start_ended),
        ];
        for (words, event) in events {
            let micros = bench.measure(event);
            let at = |share: usize| micros[(micros.len() - 1) * share / 100];
            println!("{instances:>10}  {words:<38} {:>8.1} {:>8.1} {:>8.1}", at(50), at(99), at(100));
        }
    }
}
