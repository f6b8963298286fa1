//! A year of 1,000 services folded into books: about ten million facts.
//!
//! Measured: the fold alone, over facts that are made as they are needed (their making is measured by itself and taken
//! off); how much memory the process has at its peak; a statement of a month by need; a ledger written and read back. The
//! bars: 20 s and 1 GiB for the fold, 100 ms for the statement. Run: `cargo bench -p ostler-books`.
#![allow(clippy::print_stdout, clippy::unwrap_used, clippy::disallowed_types, clippy::disallowed_methods, missing_docs)]

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use ostler_books::{By, Ledger, focus};
use ostler_manager::{Command, Fact, FactKind, Outcome};
use ostler_model::catalog::Placement;
use ostler_model::estate::parse;
use ostler_model::health::Health;
use ostler_model::ids::{CommandId, InstanceId, Position};
use ostler_model::outcome::BackupMade;
use ostler_model::time::Timestamp;

const SERVICES: u32 = 1_000;
const FACTS: u64 = 10_000_000;

fn main() {
    // `cargo bench` passes `--bench`; `cargo test --benches` must only see that it starts.
    let measured = std::env::args().any(|argument| argument == "--bench");
    let (services, most) = if measured { (SERVICES, FACTS) } else { (10, 2_000) };
    let mut made = 0_u64;
    let begin = Instant::now();
    year(services, most, |fact| made += u64::from(std::hint::black_box(&fact).at.0 > 0));
    let making = begin.elapsed();
    let mut ledger = Ledger::default();
    let begin = Instant::now();
    let now = year(services, most, |fact| ledger.fold(Position::default(), &fact));
    let folding = begin.elapsed().saturating_sub(making);
    println!("{made} facts of {services} services");
    println!("{:<44} {:>10}   bar 20 s", "folded in", shown(folding));
    println!("{:<44} {:>10}", "their making, which is taken off", shown(making));
    println!("{:<44} {:>7} MiB   bar 1024 MiB", "peak of memory", peak_mib());
    let begin = Instant::now();
    let statement = ledger.statement(None, now).unwrap();
    let report = statement.report(By::Need);
    println!("{:<44} {:>10}   bar 100 ms", "a month by need", shown(begin.elapsed()));
    let begin = Instant::now();
    let text = focus(&statement);
    println!("{:<44} {:>10}   {} bytes", "a month as a FOCUS dataset", shown(begin.elapsed()), text.len());
    let begin = Instant::now();
    let stored = serde_json::to_vec(&ledger).unwrap();
    println!("{:<44} {:>10}   {} bytes", "a ledger written", shown(begin.elapsed()), stored.len());
    let begin = Instant::now();
    assert!(serde_json::from_slice::<Ledger>(&stored).unwrap() == ledger);
    println!("{:<44} {:>10}", "and read back, and compared", shown(begin.elapsed()));
    assert!(report.forecast >= report.so_far);
}

fn shown(time: Duration) -> String {
    format!("{:.1} ms", time.as_secs_f64() * 1000.0)
}

fn peak_mib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap_or_default();
    line.trim().trim_end_matches("kB").trim().parse::<u64>().unwrap_or_default() / 1024
}

/// A backup every few hours of each service, as many dropped, health that comes and goes, and now and then one that is
/// given back and bought anew. Returns the time of the last fact.
fn year(services: u32, most: u64, mut take: impl FnMut(Fact)) -> Timestamp {
    let mut text = String::from(
        "[estate]\nname = \"large\"\nzone = \"Europe/Berlin\"\n[backups]\ngb_month = \"0.02\"\n[provider.acme]\nkind = \"osb\"\nurl = \"https://acme.example\"\nauth = { username = \"u\", password = { env = \"P\" } }\n[provider.acme.terms.prices.postgresql]\nsmall = \"19.99\"\n",
    );
    for index in 0..services {
        let needs = if index > 0 { format!("needs = [\"s{}\"]\n", index / 7) } else { String::new() };
        text.push_str(&format!("[service.s{index}]\noffering = \"postgresql\"\n{needs}"));
    }
    let estate = parse("large.toml", Path::new("/srv"), &text).unwrap().estate;
    let mut at = Timestamp::parse("2026-01-01T00:00:00Z").unwrap();
    let step = Duration::from_secs(365 * 86_400) / u32::try_from(most).unwrap();
    take(Fact { at, kind: FactKind::EstateDeclared { estate: Arc::new(estate) } });
    let names: Vec<ostler_model::ids::ServiceName> =
        (0..services).map(|index| format!("s{index}").parse().unwrap()).collect();
    let place = Placement {
        provider: "acme".parse().unwrap(),
        offering: "postgresql".parse().unwrap(),
        plan: "small".parse().unwrap(),
        version: None,
        handle: None,
        maintenance: None,
    };
    for service in &names {
        take(Fact { at, kind: FactKind::ServicePlaced { service: service.clone(), placement: place.clone() } });
    }
    let (mut told, mut command, mut round) = (u64::from(services) + 1, 0_u64, 0_u64);
    while told < most {
        let service: &ostler_model::ids::ServiceName = &names[(round % u64::from(services)) as usize];
        let instance = InstanceId::new(service.clone(), 1);
        let turn = round / u64::from(services);
        let backup = |turn: u64| BackupMade {
            name: format!("backup-{turn}"),
            bytes: 1_000_000_000 + turn * 1_000,
            sha256: String::new(),
            place: None,
        };
        let mut tell = |kind: FactKind| {
            at = at + step;
            told += 1;
            take(Fact { at, kind });
        };
        let mut done = |tell: &mut dyn FnMut(FactKind), order: Command, outcome: Outcome| {
            command += 1;
            tell(FactKind::CommandIssued { id: CommandId(command), command: order });
            tell(FactKind::CommandEnded { id: CommandId(command), outcome });
        };
        if turn % 100 == 0 {
            done(&mut tell, Command::Deprovision { instance: instance.clone() }, Outcome::Done);
            done(&mut tell, Command::Provision { instance: instance.clone() }, Outcome::Done);
        }
        let name = format!("backup-{turn}");
        tell(FactKind::BackupAsked { service: service.clone(), name: name.clone() });
        done(&mut tell, Command::Backup { instance: instance.clone(), name }, Outcome::BackedUp(backup(turn)));
        if turn >= 60 {
            let old = backup(turn - 60);
            tell(FactKind::BackupDropped { service: service.clone(), name: old.name.clone(), why: String::new() });
            done(&mut tell, Command::DropBackup { service: service.clone(), backup: old }, Outcome::Done);
        }
        tell(FactKind::HealthChanged { instance: instance.clone(), health: Health::Ready });
        round += 1;
    }
    at
}
