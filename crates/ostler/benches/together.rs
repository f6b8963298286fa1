//! A thousand instances that fail together: killed at once, and then killed while their program is broken, so that no
//! restart helps until it is mended. What was done is counted from the journal afterwards, fact by fact, by the very fold
//! that the manager itself uses and by a count of its own. `cargo bench -p ostler --bench together`.
#![allow(clippy::print_stdout, clippy::print_stderr, clippy::unwrap_used, clippy::panic, reason = "it is not shipped")]

mod common;

use std::collections::{BTreeMap, VecDeque};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use common::{Estate, Instance, Met, ask, kill, loopback, service, verdict};
use ostler_journal::{OpenOptions, Sqlite, oldest_first};
use ostler_manager::{Fact, FactKind, Knowledge, evolve};
use ostler_model::ids::Position;
use ostler_model::time::Timestamp;
use ostler_runtime::envelope;

const INSTANCES: usize = 1000;
/// Where the bare programs listen.
const PORTS: u16 = 13_000;
/// For so long the program is broken.
const BROKEN: Duration = Duration::from_secs(60);
/// Until everything works again, after that; the longest pause of an instance is five minutes.
const WITHIN: Duration = Duration::from_secs(400);
const SETTLE: Duration = Duration::from_secs(12);
/// What the keeper may restart by itself over the whole estate: so many together, and one more each so often.
const REFLEXES_TOGETHER: usize = 1000;
const REFLEX_EVERY: Duration = Duration::from_millis(20);

fn main() {
    if std::env::args().any(|argument| argument == "--bench") {
        bench();
    }
}

fn bench() {
    let folder = tempfile::tempdir().unwrap();
    let program = folder.path().join("tiny");
    let tiny = common::tiny();
    std::fs::copy(&tiny, &program).unwrap();
    let bare = bare(&tiny);
    let services: String = (0..INSTANCES).map(|number| service(&format!("tiny-{number}"), &program, "")).collect();
    eprintln!("bringing up {INSTANCES} services");
    let (estate, _) = Estate::up(&services);
    std::thread::sleep(SETTLE);

    println!("{INSTANCES} instances killed together, until the last one answers at its endpoint again");
    let healed = until_all_answer(&estate.instances("tiny-"), true);
    println!("{:<58}{:>9.2} s", "ostler, by reflex", healed.as_secs_f64());
    println!("{:<58}{:>9.2} s", "the same programs started bare, one after the other", bare.as_secs_f64());
    std::thread::sleep(SETTLE); // the reflexes' budget is whole again after 20 s of calm

    let broken = folder.path().join("broken");
    std::fs::write(&broken, "#!/bin/sh\nexit 1\n").unwrap();
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    std::fs::set_permissions(&broken, mode).unwrap();
    std::fs::rename(&broken, &program).unwrap();
    let instances = estate.instances("tiny-");
    instances.iter().for_each(|instance| kill(instance.pid));
    eprintln!("killed, with a broken program; it is mended after {} s", BROKEN.as_secs());
    std::thread::sleep(BROKEN);
    let mended = folder.path().join("mended");
    std::fs::copy(&tiny, &mended).unwrap();
    std::fs::rename(&mended, &program).unwrap();
    let took = until_all_answer(&instances, false);
    println!("\nkilled together with a program that ends at once, for {} s", BROKEN.as_secs());
    println!("{:<58}{:>9.2} s", "from mending it to the last answer", took.as_secs_f64());
    let _ = estate.ostler(&["down", "--json"]);
    Counted::of(&estate.home()).print();
}

/// How long it takes until each of them has answered, killed before if `kills`.
fn until_all_answer(instances: &[Instance], kills: bool) -> Duration {
    let begun = Instant::now();
    if kills {
        instances.iter().for_each(|instance| kill(instance.pid));
    }
    let mut waiting: Vec<&Instance> = instances.iter().collect();
    while !waiting.is_empty() {
        waiting.retain(|instance| !matches!(ask(instance.endpoint), Met::Answer(pid) if pid != instance.pid));
        assert!(begun.elapsed() < WITHIN, "{} do not answer after {} s", waiting.len(), WITHIN.as_secs());
    }
    begun.elapsed()
}

/// The same number of the same programs, each started when the one before it has answered.
fn bare(tiny: &Path) -> Duration {
    let begun = Instant::now();
    let mut children = Vec::new();
    for port in (PORTS..).take(INSTANCES) {
        let child = Command::new(tiny).arg(port.to_string()).stdin(Stdio::null()).spawn().unwrap();
        children.push(child);
        while !matches!(ask(loopback(port)), Met::Answer(_)) {}
    }
    let took = begun.elapsed();
    for mut child in children {
        child.kill().unwrap();
        child.wait().unwrap();
    }
    took
}

/// What was done, as the journal has it.
#[derive(Default)]
struct Counted {
    reflexes: Rate,
    remedies: Rate,
    /// How many were under repair together at most, and how many may be.
    together: usize,
    may_together: usize,
    /// How often each remedy was chosen.
    chosen: BTreeMap<&'static str, usize>,
    facts: usize,
}

impl Counted {
    fn of(home: &Path) -> Self {
        let journal = Sqlite::open(home, &OpenOptions { key: None, accept_lost_tail: false }).unwrap().journal;
        let (mut counted, mut known) = (Self::default(), Knowledge::default());
        for record in oldest_first(&journal, Position(0)) {
            let Some(fact) = envelope::read(&record.unwrap()).unwrap() else { continue };
            counted.take(&fact);
            evolve(&mut known, &fact);
            counted.together = counted.together.max(known.repairing.len());
            counted.may_together = counted.may_together.max(known.repairs_at_once());
            assert!(known.repairing.len() <= known.repairs_at_once(), "too many are under repair: {fact:?}");
        }
        counted
    }

    fn take(&mut self, fact: &Fact) {
        self.facts += 1;
        match &fact.kind {
            FactKind::InstanceDied { seen, restarted: Some(_), .. } => self.reflexes.take(*seen),
            FactKind::RemedyChosen { remedy, .. } => {
                *self.chosen.entry(remedy.in_words()).or_default() += 1;
                if remedy.acts() {
                    self.remedies.take(fact.at);
                }
            }
            _ => {}
        }
    }

    fn print(mut self) {
        let (reflexes, reflexes_over) = self.reflexes.most(REFLEXES_TOGETHER, REFLEX_EVERY);
        let a_minute = Duration::from_secs(60) / u32::try_from(INSTANCES).unwrap();
        let (remedies, remedies_over) = self.remedies.most(self.may_together.max(16), a_minute);
        println!("{:<58}{:>11}", "facts in the journal", self.facts);
        for (remedy, times) in &self.chosen {
            println!("{:<58}{times:>11}", format!("chosen: {remedy}"));
        }
        println!("\n{:<58}{:>11}{:>11}", "", "most", "allowed");
        let (together, may) = (self.together, self.may_together);
        println!("{:<58}{together:>11}{may:>11}  {}", "under repair together", verdict(together <= may));
        let line = |what: &str, most: usize, over: usize, allowed: &str| {
            println!("{what:<58}{most:>11}{allowed:>11}  over it: {over}  {}", verdict(over == 0));
        };
        line("restarts by reflex within a second", reflexes, reflexes_over, "1000+50/s");
        line("remedies begun within a second", remedies, remedies_over, &format!("{}+17/s", self.may_together.max(16)));
    }
}

/// Times at which something was begun.
#[derive(Default)]
struct Rate(Vec<Timestamp>);

impl Rate {
    fn take(&mut self, at: Timestamp) {
        self.0.push(at);
    }

    /// How many there were within any second at most, and how many more than `together` and one more each `every` in any
    /// time: a count that owes nothing to the buckets that hold them back.
    fn most(&mut self, together: usize, every: Duration) -> (usize, usize) {
        self.0.sort_unstable();
        let mut second: VecDeque<Timestamp> = VecDeque::new();
        let (mut most, mut over) = (0, 0);
        // Whatever began since `first`: at most `together` and what came in since. The worst beginning is kept.
        let mut worst = 0.0_f64;
        let mut last: Option<Timestamp> = None;
        for at in &self.0 {
            while second.front().is_some_and(|first| at.since(*first) > Duration::from_secs(1)) {
                second.pop_front();
            }
            second.push_back(*at);
            most = most.max(second.len());
            let came = last.map_or(0.0, |last| at.since(last).as_secs_f64() / every.as_secs_f64());
            worst = (worst - came).max(0.0) + 1.0;
            last = Some(*at);
            // One more for what is rounded: times are whole milliseconds here and there.
            if worst > together as f64 + 1.0 {
                over += 1;
            }
        }
        (most, over)
    }
}
