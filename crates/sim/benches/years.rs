//! What the simulator costs: a year of faults, an estate of a million instances, and one instance in estates of four
//! sizes. All of it is deciding and recording, on the real manager and the real loop; nothing is started.
//!
//! `cargo bench -p ostler-sim --bench years [-- year|sizes]`

#![allow(clippy::print_stdout, reason = "it is a program")]

use std::time::{Duration, Instant};

use ostler_model::time::Span;
use ostler_sim::{Act, Dice, Keep, Planned, Policy, Rates, Setting, Sketch, World};

const DAY: Duration = Duration::from_secs(86_400);
const ANSWERS: Policy = Policy::Ostler { answers: Duration::from_secs(3600) };
/// Where nothing is asked.
const NO_ANSWERS: Policy = Policy::Ostler { answers: Duration::from_secs(10 * 365 * 86_400) };

fn main() {
    let wanted = std::env::args().skip(1).find(|word| !word.starts_with('-'));
    let is_wanted = |name: &str| wanted.as_deref().is_none_or(|wanted| wanted == name);
    if is_wanted("year") {
        year();
    }
    if is_wanted("sizes") {
        sizes();
    }
}

fn setting(sketch: &Sketch, keep: Keep) -> Setting {
    Setting { town: sketch.town(), seed: 1, plan: Vec::new(), keep, mutant: None }
}

/// One year, all kinds of fault, twice with the same seed.
fn year() {
    println!("One year, 1,000 services with 2 instances each, 8 providers in 4 regions, all kinds of fault\n");
    println!("{:>5} {:>9} {:>10} {:>10} {:>12} {:>10}  facts", "run", "time", "faults", "commands", "facts", "broken");
    let mut digests = Vec::new();
    for run in 1..=2 {
        let begin = Instant::now();
        let sketch = Sketch::even(1000, 2, 8, 4, Some(24 * 60));
        let mut world = World::new(setting(&sketch, Keep::SinceSnapshot));
        assert!(world.bring_up(), "the estate comes up");
        let (from, until) = (world.elapsed(), world.elapsed() + 365 * DAY);
        let plan = Rates::harsh().plan(Dice::new(1), &sketch.town(), from, until);
        world.pass(ANSWERS, plan, until);
        let (counts, (facts, digest)) = (world.counts(), world.facts());
        let took = begin.elapsed().as_secs_f64();
        let short = digest.get(..16).unwrap_or(&digest);
        println!(
            "{run:>5} {took:>7.1} s {:>10} {:>10} {facts:>12} {:>10}  {short}…",
            counts.faults,
            counts.commands,
            world.violations().len()
        );
        for violation in world.violations() {
            println!("      {violation}");
        }
        digests.push(digest);
    }
    let same = digests.windows(2).all(|pair| pair[0] == pair[1]);
    println!("\nThe same seed gives {} bytes of facts.\n", if same { "the same" } else { "OTHER" });
}

/// What one death costs in estates of four sizes; the largest then loses a region, and heals.
fn sizes() {
    println!("One death after the other, one a second: half of all instances, and 20,000 at least\n");
    println!("{:>10} {:>10} {:>14} {:>14}", "instances", "deaths", "per death", "per command");
    let mut costs = Vec::new();
    let mut largest = None;
    for instances in [1_000_u32, 10_000, 100_000, 1_000_000] {
        let (services, deaths) = (instances as usize / 10, (instances / 2).max(20_000));
        let sketch = Sketch::even(services, 10, 10, 10, None);
        let begin = Instant::now();
        let mut world = World::new(setting(&sketch, Keep::Nothing));
        assert!(world.bring_up(), "the estate comes up");
        let up = Line::since(&world, "everything is up", (begin, Duration::ZERO, 0));
        let from = world.elapsed() + Duration::from_secs(1);
        let plan = (0..deaths).map(|number| {
            // All over the estate, so that what is measured is not one warm corner of it.
            let service = (u64::from(number).wrapping_mul(2_654_435_761) % services as u64) as usize;
            let nth = number as usize / services % 10;
            let act =
                Act::Crash { service: ostler_sim::service_name(service).to_string(), nth, lasts: Span::millis(0) };
            let at = from + Duration::from_secs(u64::from(number));
            Planned { at: Span::seconds(at.as_secs()), act }
        });
        let (plan, commands) = (plan.collect(), world.counts().commands);
        let begin = Instant::now();
        world.pass(NO_ANSWERS, plan, from + Duration::from_secs(u64::from(deaths) + 600));
        let micros = begin.elapsed().as_secs_f64() * 1e6;
        let (each, ordered) = (micros / f64::from(deaths), world.counts().commands - commands);
        println!("{instances:>10} {deaths:>10} {each:>11.1} µs {:>11.1} µs", micros / ordered as f64);
        assert!(world.violations().is_empty(), "{:?}", world.violations());
        costs.push(each);
        largest = Some((up, world));
    }
    let (least, most) =
        costs.iter().fold((f64::MAX, 0.0_f64), |(least, most), cost| (least.min(*cost), most.max(*cost)));
    println!("\nThe dearest is {:.1} times the cheapest (bar: 4).\n", most / least);
    if let Some((up, world)) = largest {
        lose_a_region(up, world);
    }
}

/// A large estate comes up, loses a region, and heals.
fn lose_a_region(up: Line, mut world: World) {
    println!("An estate of 1,000,000 instances (100,000 services) at 10 providers in 10 regions\n");
    println!("{:<34} {:>9} {:>13} {:>12} {:>14} {:>9}", "", "time", "simulated", "commands", "a second", "memory");
    up.print();
    let lost = world.elapsed() + Duration::from_secs(1);
    let act = Act::RegionOut { region: "r0".to_owned(), lasts: Span::seconds(30 * 60) };
    let plan = vec![Planned { at: Span::seconds(lost.as_secs()), act }];
    let mark = (Instant::now(), world.elapsed(), world.counts().commands);
    world.pass(NO_ANSWERS, plan, lost + Duration::from_secs(29 * 60));
    Line::since(&world, "a region is lost, for 29 minutes", mark).print();
    let mark = (Instant::now(), world.elapsed(), world.counts().commands);
    let healed = world.bring_up();
    Line::since(&world, "it is back, and all is healed", mark).print();
    println!("\nHealed: {healed}. Promises broken: {}. Bar: 8 GiB.", world.violations().len());
    for violation in world.violations() {
        println!("      {violation}");
    }
}

/// One line of the table of the largest estate.
struct Line {
    what: &'static str,
    took: f64,
    simulated: u64,
    commands: u64,
    memory: u64,
}

impl Line {
    fn since(world: &World, what: &'static str, (begin, at, commands): (Instant, Duration, u64)) -> Self {
        Self {
            what,
            took: begin.elapsed().as_secs_f64(),
            simulated: (world.elapsed() - at).as_secs(),
            commands: world.counts().commands - commands,
            memory: memory_most(),
        }
    }

    fn print(&self) {
        let Self { what, took, simulated, commands, memory } = self;
        let a_second = *commands as f64 / took;
        let memory = *memory as f64 / 1e9;
        println!("{what:<34} {took:>7.1} s {simulated:>11} s {commands:>12} {a_second:>14.0} {memory:>6.2} GB");
    }
}

/// The most memory that this process has used, in bytes.
fn memory_most() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let kilobytes = line.and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok());
    kilobytes.unwrap_or_default() * 1024
}
