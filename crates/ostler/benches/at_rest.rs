//! What looking after 1,000 tiny servers costs at rest: memory, and the processor with a TCP probe of each every 10 s and
//! every second; beside the supervisors on this machine, which do not probe. `cargo bench -p ostler --bench at_rest`.
#![allow(
    clippy::print_stdout,
    clippy::print_stderr,
    clippy::unwrap_used,
    clippy::panic,
    dead_code,
    reason = "it is not shipped"
)]

mod common;
#[path = "common/peers.rs"]
mod peers;

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use common::{
    Estate, Supervisor, cpu_seconds, descendants, first_answer, is_found, loopback, pss_kb, service, verdict,
};
use peers::service_folder;

const INSTANCES: u16 = 1000;
const PORTS: u16 = 12_000;
/// Until the first probes after the start are over.
const SETTLE: Duration = Duration::from_secs(12);
const MEASURED: Duration = Duration::from_secs(20);

fn main() {
    if std::env::args().any(|argument| argument == "--bench") {
        bench();
    }
}

fn bench() {
    let tiny = common::tiny();
    println!("{INSTANCES} tiny servers at rest for {} s", MEASURED.as_secs());
    println!("{:<46} {:>10} {:>14} {:>12}", "", "PSS MB", "% of one core", "processes");
    for (every, more) in [("10 s", ""), ("1 s", "probe = { every = \"1s\", timeout = \"1s\" }\n")] {
        of_ostler(&tiny, every, more);
    }
    of_peers(&tiny);
}

fn of_ostler(tiny: &Path, every: &str, more: &str) {
    let services: String = (0..INSTANCES).map(|number| service(&format!("tiny-{number}"), tiny, more)).collect();
    let (estate, took) = Estate::up(&services);
    std::thread::sleep(SETTLE);
    let roles = ["keeper", "manager", "gateway"];
    let pids = roles.map(|role| estate.process(role));
    let before = pids.map(cpu_seconds);
    std::thread::sleep(MEASURED);
    let (mut memory, mut core) = ([0.0; 3], [0.0; 3]);
    for index in 0..3 {
        memory[index] = megabytes(pss_kb(pids[index]));
        core[index] = (cpu_seconds(pids[index]) - before[index]) * 100.0 / MEASURED.as_secs_f64();
        row(&format!("ostler, probes every {every}: {}", roles[index]), memory[index], core[index], 1);
    }
    let (together, busy) = (memory.iter().sum::<f64>(), core.iter().sum::<f64>());
    row(&format!("ostler, probes every {every}: together"), together, busy, 3);
    println!(
        "  up after {:.1} s; keeper below 6 MB: {}; together below 30 MB: {}; below 1 % of one core: {}",
        took.as_secs_f64(),
        verdict(memory[0] < 6.0),
        verdict(together < 30.0),
        if more.is_empty() { verdict(busy < 1.0) } else { "no bar at this rhythm" },
    );
}

/// The supervisors with all their helpers, without the tiny servers and the shells that become them.
fn of_peers(tiny: &Path) {
    let folders = |folder: &Path| {
        (0..INSTANCES).for_each(|number| {
            service_folder(&folder.join(format!("services/tiny-{number}")), tiny, PORTS + number, "");
        });
    };
    for (name, program, arguments) in [
        ("runit", "runsvdir", &["services"] as &[&str]),
        ("daemontools", "svscan", &["services"]),
        ("s6", "s6-svscan", &["-c", "1100", "services"]),
    ] {
        if is_found(program) {
            eprintln!("starting {INSTANCES} services under {name}");
            let folder = tempfile::tempdir().unwrap();
            folders(folder.path());
            of_peer(name, tiny, &Supervisor::start(folder, Command::new(program).args(arguments)));
        }
    }
    if is_found("supervisord") {
        let folder = tempfile::tempdir().unwrap();
        let programs: String = (0..INSTANCES)
            .map(|number| format!("[program:tiny-{number}]\ncommand={} {}\n", tiny.display(), PORTS + number))
            .collect();
        let text = format!("[supervisord]\nnodaemon=true\nminfds=10000\n\n{programs}");
        std::fs::write(folder.path().join("supervisord.conf"), text).unwrap();
        let supervisor = Supervisor::start(folder, Command::new("supervisord").args(["-n", "-c", "supervisord.conf"]));
        of_peer("supervisord", tiny, &supervisor);
    }
}

fn of_peer(name: &str, tiny: &Path, supervisor: &Supervisor) {
    for number in 0..INSTANCES {
        first_answer(loopback(PORTS + number)).expect("each service comes up");
    }
    std::thread::sleep(SETTLE);
    let is_tiny = |pid: u32| std::fs::read_link(format!("/proc/{pid}/exe")).is_ok_and(|exe| exe == tiny);
    let mut family = descendants(supervisor.root);
    family.retain(|pid| !is_tiny(*pid));
    family.push(supervisor.root);
    let used = |family: &[u32]| family.iter().map(|pid| cpu_seconds(*pid)).sum::<f64>();
    let before = used(&family);
    std::thread::sleep(MEASURED);
    let core = (used(&family) - before) * 100.0 / MEASURED.as_secs_f64();
    let memory = family.iter().map(|pid| pss_kb(*pid)).sum();
    row(name, megabytes(memory), core, family.len());
}

fn row(name: &str, megabytes: f64, core: f64, processes: usize) {
    eprintln!("measured: {name}");
    println!("{name:<46} {megabytes:>10.1} {core:>14.2} {processes:>12}");
}

fn megabytes(kilobytes: u64) -> f64 {
    kilobytes as f64 * 1024.0 / 1e6
}
