//! From `kill -9` of an instance to the next answer: through its endpoint and on its own port, with 1 and with 1,000
//! instances, against the program's own bare start and against every other supervisor on this machine.
//! `cargo bench -p ostler --bench healing`; `OSTLER_BENCH_KILLS` sets how often each is killed.
#![allow(clippy::print_stdout, clippy::print_stderr, clippy::unwrap_used, clippy::panic, reason = "it is not shipped")]

mod common;
#[path = "common/peers.rs"]
mod peers;

use std::net::SocketAddr;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use common::{Estate, Instance, Supervisor, first_answer, kill, loopback, next_answer, service, verdict};

/// Where the tiny server listens when others look after it.
const PORT: u16 = 11_000;
/// Kills of one instance until its restarts by reflex are used up: then it is restarted by order, and has them again.
const KILLS_OF_ONE: usize = 14;
/// After an answer, until the next kill: long enough that no supervisor takes the deaths for a crash loop's.
const CALM: Duration = Duration::from_millis(1300);
/// Where that plays no role.
const SHORT_CALM: Duration = Duration::from_millis(60);
/// How often those are killed that take most of a second each time: it shows soon enough.
const KILLS_OF_SLOW: usize = 20;
const SLOW: Duration = Duration::from_millis(500);
const IN_A_ROW: usize = 10;

fn main() {
    if std::env::args().any(|argument| argument == "--bench") {
        bench();
    }
}

fn bench() {
    let kills = std::env::var("OSTLER_BENCH_KILLS").map_or(200, |text| text.parse().unwrap());
    let tiny = common::tiny();
    println!("peers not on this machine: {}\n", peers::missing().join(", "));
    let bare = Row::new("bare start", (0..kills).map(|_| bare_start(&tiny)).collect());
    print_head("kill -9 to the next answer");
    bare.print(None);
    let mut rows = Vec::new();
    let mut in_a_row = Vec::new();
    for (label, more) in [
        ("listen=port", ""),
        ("listen=socket", "listen = \"socket\"\n"),
        ("limits", "limits = { memory = \"64MiB\", processes = 50 }\n"),
    ] {
        alone(&tiny, kills, label, more, &bare, &mut rows, &mut in_a_row);
    }
    thousand(&tiny, kills, &bare, &mut rows);
    for peer in peers::found() {
        let name = format!("{}, {}", peer.name, peer.setting);
        rows.push(of_peer(&(peer.start)(&tiny, PORT), name.clone(), kills));
        rows.last().unwrap().print(Some(&bare));
        in_a_row.push(peer_in_a_row(&(peer.start)(&tiny, PORT), name));
    }
    println!();
    print_head("ten kills in a row, each right after the answer");
    in_a_row.iter().for_each(|row| row.print(Some(&bare)));
    print_bars(&bare, &rows, &in_a_row);
}

fn print_bars(bare: &Row, rows: &[Row], in_a_row: &[Row]) {
    println!("\n{:<46} {:>10} {:>10}   (bar: 1 ms; 3 ms)", "milliseconds above the bare start", "median", "p99");
    for row in rows.iter().filter(|row| row.name.starts_with("ostler")) {
        let above = |share| row.at(share) - bare.at(share);
        let verdicts = (verdict(above(50) <= 1.0), verdict(above(99) <= 3.0));
        println!("{:<46} {:>10.3} {:>10.3}   {}; {}", row.name, above(50), above(99), verdicts.0, verdicts.1);
    }
    // A connection that the dying process had already accepted is cut with it, whoever looks after it.
    let refused: usize = rows.iter().filter(|row| row.name.contains("endpoint")).map(|row| row.refused).sum();
    println!("connects refused at endpoints: {refused} (bar: 0): {}", verdict(refused == 0));
    let ours = in_a_row.iter().filter(|row| row.name.starts_with("ostler"));
    let longest = ours.map(|row| row.at(100)).fold(0.0, f64::max);
    println!("longest of ten in a row: {longest:.1} ms (bar: below a second): {}", verdict(longest < 1000.0));
}

/// The times of one subject.
struct Row {
    name: String,
    times: Vec<Duration>,
    refused: usize,
    cut: usize,
}

impl Row {
    fn new(name: impl Into<String>, mut times: Vec<Duration>) -> Self {
        times.sort_unstable();
        Self { name: name.into(), times, refused: 0, cut: 0 }
    }

    fn at(&self, share: usize) -> f64 {
        self.times[(self.times.len() * share / 100).min(self.times.len() - 1)].as_secs_f64() * 1000.0
    }

    fn print(&self, bare: Option<&Self>) {
        let ratio = bare.map_or_else(String::new, |bare| format!("{:.2}", self.at(50) / bare.at(50)));
        println!(
            "{:<46} {:>5} {:>9.3} {:>9.3} {:>9.3} {:>9} {:>8} {:>5}",
            self.name,
            self.times.len(),
            self.at(50),
            self.at(99),
            self.at(100),
            ratio,
            self.refused,
            self.cut
        );
    }
}

fn print_head(title: &str) {
    println!("{title}, milliseconds");
    println!(
        "{:<46} {:>5} {:>9} {:>9} {:>9} {:>9} {:>8} {:>5}",
        "", "kills", "median", "p99", "max", "x bare", "refused", "cut"
    );
}

fn bare_start(tiny: &Path) -> Duration {
    let begun = Instant::now();
    let mut child = Command::new(tiny).env("PORT", PORT.to_string()).stdin(Stdio::null()).spawn().unwrap();
    next_answer(loopback(PORT), 0, &mut 0, &mut 0);
    let took = begun.elapsed();
    child.kill().unwrap();
    child.wait().unwrap();
    took
}

/// Kills, and asks at `address` until the next process answers.
fn heal(row: &mut Row, pid: &mut u32, address: SocketAddr) -> Duration {
    let begun = Instant::now();
    kill(*pid);
    *pid = next_answer(address, *pid, &mut row.refused, &mut row.cut);
    let took = begun.elapsed();
    row.times.push(took);
    took
}

/// An estate of one service with one instance.
fn alone(tiny: &Path, kills: usize, label: &str, more: &str, bare: &Row, rows: &mut Vec<Row>, in_a_row: &mut Vec<Row>) {
    let (estate, _) = Estate::up(&service("tiny", tiny, more));
    for (place, at) in PLACES {
        let mut row = Row::new(format!("ostler, 1, {label}, {place}"), Vec::new());
        while row.times.len() < kills {
            let instance = fresh(&estate);
            let mut pid = instance.pid;
            for _ in 0..KILLS_OF_ONE.min(kills - row.times.len()) {
                heal(&mut row, &mut pid, at(&instance));
                std::thread::sleep(SHORT_CALM);
            }
        }
        row.times.sort_unstable();
        row.print(Some(bare));
        rows.push(row);

        let instance = fresh(&estate);
        let mut pid = instance.pid;
        let mut row = Row::new(format!("ostler, 1, {label}, {place}"), Vec::new());
        for _ in 0..IN_A_ROW {
            heal(&mut row, &mut pid, at(&instance));
        }
        row.times.sort_unstable();
        in_a_row.push(row);
    }
}

/// Where callers ask, and how it is called.
type Place = (&'static str, fn(&Instance) -> SocketAddr);
const PLACES: [Place; 2] = [("endpoint", |instance| instance.endpoint), ("own port", |instance| instance.own)];

/// Restarted by order, so that it may be restarted by reflex as often as ever.
fn fresh(estate: &Estate) -> Instance {
    estate.ostler(&["restart", "tiny", "--json"]);
    let instance = estate.instances("tiny")[0];
    let pid = first_answer(instance.endpoint);
    Instance { pid, ..instance }
}

fn thousand(tiny: &Path, kills: usize, bare: &Row, rows: &mut Vec<Row>) {
    let services: String = (0..1000)
        .map(|number| match number % 2 {
            0 => service(&format!("port-{number}"), tiny, ""),
            _ => service(&format!("socket-{number}"), tiny, "listen = \"socket\"\n"),
        })
        .collect();
    let (estate, took) = Estate::up(&services);
    eprintln!("1,000 services are up after {:.1} s", took.as_secs_f64());
    std::thread::sleep(Duration::from_secs(5));
    for (label, prefix) in [("listen=port", "port-"), ("listen=socket", "socket-")] {
        let mut instances = estate.instances(prefix);
        for (place, at) in PLACES {
            let mut row = Row::new(format!("ostler, 1,000, {label}, {place}"), Vec::new());
            for number in 0..kills {
                let count = instances.len();
                let victim = &mut instances[number * 7919 % count];
                let address = at(victim);
                heal(&mut row, &mut victim.pid, address);
                std::thread::sleep(SHORT_CALM);
            }
            row.times.sort_unstable();
            row.print(Some(bare));
            rows.push(row);
        }
    }
}

fn of_peer(_supervisor: &Supervisor, name: String, kills: usize) -> Row {
    let mut pid = first_answer(loopback(PORT));
    let mut row = Row::new(name, Vec::new());
    let mut wanted = kills.min(60); // each takes a second and more, if only of calm
    while row.times.len() < wanted {
        std::thread::sleep(CALM);
        if heal(&mut row, &mut pid, loopback(PORT)) > SLOW {
            wanted = wanted.min(KILLS_OF_SLOW);
        }
    }
    row.times.sort_unstable();
    row
}

fn peer_in_a_row(_supervisor: &Supervisor, name: String) -> Row {
    let mut pid = first_answer(loopback(PORT));
    std::thread::sleep(2 * CALM);
    let mut row = Row::new(name, Vec::new());
    for _ in 0..IN_A_ROW {
        heal(&mut row, &mut pid, loopback(PORT));
    }
    row.times.sort_unstable();
    row
}
