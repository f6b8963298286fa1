//! From `kill -9` of an instance to the next answer: through its endpoint and on its own port, with 1 and with 1,000
//! instances, beside every other supervisor on this machine. After each kill the program is also started bare, so that
//! both see the same machine. `cargo bench -p ostler --bench healing`; `OSTLER_BENCH_KILLS` sets how often each is killed.
#![allow(clippy::print_stdout, clippy::print_stderr, clippy::unwrap_used, clippy::panic, reason = "it is not shipped")]

mod common;
#[path = "common/peers.rs"]
mod peers;
#[path = "common/table.rs"]
mod table;

use std::net::SocketAddr;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use common::{Estate, Instance, Supervisor, first_answer, kill, loopback, next_answer, service};
use peers::Peer;
use table::{Row, Table};

/// Where the bare program listens; each peer has one of the ports that follow.
const PORT: u16 = 11_000;
/// Kills of one instance until its restarts by reflex are used up: then it is restarted by order, and has them again.
const KILLS_OF_ONE: usize = 14;
/// After an answer, until the next kill of the same: long enough that no supervisor takes the deaths for a crash loop's.
const CALM: Duration = Duration::from_millis(1300);
/// Where that plays no role.
const SHORT_CALM: Duration = Duration::from_millis(40);
/// How often peers are killed; those that take most of a second each time show it sooner.
const KILLS_OF_PEER: usize = 30;
const KILLS_OF_SLOW: usize = 8;
const SLOW: Duration = Duration::from_millis(500);
const IN_A_ROW: usize = 10;
/// How long one row may take, so that all of them stay within eight minutes however slow the machine is.
const ROW_WITHIN: Duration = Duration::from_secs(16);
/// How long all peers together may take, and one of them with ten kills in a row.
const PEERS_WITHIN: Duration = Duration::from_secs(90);
const IN_A_ROW_WITHIN: Duration = Duration::from_secs(12);
/// What has not answered by then has given up.
const GIVES_UP_AFTER: Duration = Duration::from_secs(5);
/// Until the first probes of a thousand instances are over.
const SETTLE: Duration = Duration::from_secs(5);

fn main() {
    if std::env::args().any(|argument| argument == "--bench") {
        bench();
    }
}

fn bench() {
    let kills = std::env::var("OSTLER_BENCH_KILLS").map_or(200, |text| text.parse().unwrap());
    let tiny = common::tiny();
    println!("not on this machine: {}\n", peers::missing().join(", "));
    let mut apart = Table::new("kill -9 to the next answer");
    let mut in_a_row = Table::new("ten kills in a row, each right after the answer");
    for (label, more) in [
        ("listen=port", ""),
        ("listen=socket", "listen = \"socket\"\n"),
        ("limits", "limits = { memory = \"64MiB\", processes = 50 }\n"),
    ] {
        alone(&tiny, kills, (label, more), &mut apart, &mut in_a_row);
    }
    thousand(&tiny, kills, &mut apart);
    of_peers(&tiny, &mut apart, &mut in_a_row);
    apart.print();
    in_a_row.print();
    table::print_bars(&apart, &in_a_row);
}

/// The program's own start, from the order to its first answer.
fn bare_start(tiny: &Path) -> Duration {
    let begun = Instant::now();
    let mut child = Command::new(tiny).env("PORT", PORT.to_string()).stdin(Stdio::null()).spawn().unwrap();
    let answered = next_answer(loopback(PORT), 0, GIVES_UP_AFTER, &mut 0, &mut 0);
    let took = begun.elapsed();
    child.kill().unwrap();
    child.wait().unwrap();
    assert!(answered.is_some(), "{} does not answer on port {PORT}: is the port taken?", tiny.display());
    took
}

/// Kills, and asks at `address` until the next process answers; `None` if none does.
fn heal(row: &mut Row, pid: &mut u32, address: SocketAddr) -> Option<Duration> {
    let begun = Instant::now();
    kill(*pid);
    let Some(next) = next_answer(address, *pid, GIVES_UP_AFTER, &mut row.refused, &mut row.cut) else {
        row.gave_up = true;
        return None;
    };
    let took = begun.elapsed();
    *pid = next;
    row.times.push(took);
    Some(took)
}

/// Where callers ask, and how it is called.
type Place = (&'static str, fn(&Instance) -> SocketAddr);
const PLACES: [Place; 2] = [("endpoint", |instance| instance.endpoint), ("own port", |instance| instance.own)];

/// An estate of one service with one instance.
fn alone(tiny: &Path, kills: usize, (label, more): (&str, &str), apart: &mut Table, in_a_row: &mut Table) {
    let (estate, _) = Estate::up(&service("tiny", tiny, more));
    for (place, at) in PLACES {
        let name = format!("ostler, 1, {label}, {place}");
        let mut row = Row::new(&name);
        let until = Instant::now() + ROW_WITHIN;
        while row.times.len() < kills && !row.gave_up && Instant::now() < until {
            let instance = fresh(&estate);
            let mut pid = instance.pid;
            for _ in 0..KILLS_OF_ONE.min(kills - row.times.len()) {
                if heal(&mut row, &mut pid, at(&instance)).is_none() {
                    break;
                }
                std::thread::sleep(SHORT_CALM);
                row.bare.push(bare_start(tiny));
            }
        }
        apart.add(row);

        let instance = fresh(&estate);
        in_a_row.add(ten_in_a_row(tiny, &name, instance.pid, at(&instance)));
    }
}

/// Restarted by order, so that it may be restarted by reflex as often as ever.
fn fresh(estate: &Estate) -> Instance {
    estate.ostler(&["restart", "tiny", "--json"]);
    let instance = estate.instances("tiny")[0];
    let pid = first_answer(instance.endpoint).expect("a service that was restarted answers");
    Instance { pid, ..instance }
}

fn thousand(tiny: &Path, kills: usize, apart: &mut Table) {
    let services: String = (0..1000)
        .map(|number| match number % 2 {
            0 => service(&format!("port-{number}"), tiny, ""),
            _ => service(&format!("socket-{number}"), tiny, "listen = \"socket\"\n"),
        })
        .collect();
    eprintln!("bringing up 1,000 services");
    let (estate, took) = Estate::up(&services);
    eprintln!("they are up after {:.1} s", took.as_secs_f64());
    std::thread::sleep(SETTLE);
    for (label, prefix) in [("listen=port", "port-"), ("listen=socket", "socket-")] {
        let mut instances = estate.instances(prefix);
        for (place, at) in PLACES {
            let mut row = Row::new(&format!("ostler, 1,000, {label}, {place}"));
            let until = Instant::now() + ROW_WITHIN;
            for number in 0..kills {
                let count = instances.len();
                let victim = &mut instances[number * 7919 % count];
                let address = at(victim);
                if heal(&mut row, &mut victim.pid, address).is_none() || Instant::now() > until {
                    break;
                }
                std::thread::sleep(SHORT_CALM);
                row.bare.push(bare_start(tiny));
            }
            apart.add(row);
        }
    }
}

/// A peer that looks after a tiny server of its own.
struct Rival {
    name: String,
    peer: &'static Peer,
    port: u16,
    pid: u32,
    row: Row,
    wanted: usize,
    /// When it may be killed again.
    calm_at: Instant,
    _supervisor: Supervisor,
}

/// All peers at once, each killed while the others have their calm; then each alone, ten times in a row.
fn of_peers(tiny: &Path, apart: &mut Table, in_a_row: &mut Table) {
    let mut rivals: Vec<Rival> =
        peers::found().zip(PORT + 1..).filter_map(|(peer, port)| start(peer, tiny, port)).collect();
    std::thread::sleep(CALM);
    let until = Instant::now() + PEERS_WITHIN;
    while let Some(rival) = rivals.iter_mut().filter(|rival| rival.wants_more()).min_by_key(|rival| rival.calm_at)
        && Instant::now() < until
    {
        std::thread::sleep(rival.calm_at.saturating_duration_since(Instant::now()));
        if heal(&mut rival.row, &mut rival.pid, loopback(rival.port)).is_some_and(|took| took > SLOW) {
            rival.wanted = KILLS_OF_SLOW;
        }
        rival.calm_at = Instant::now() + CALM;
        rival.row.bare.push(bare_start(tiny));
    }
    let settings: Vec<_> = rivals.iter().map(|rival| (rival.name.clone(), rival.peer)).collect();
    rivals.into_iter().for_each(|rival| apart.add(rival.row)); // and each is stopped
    for (name, peer) in settings {
        let supervisor = (peer.start)(tiny, PORT + 1);
        if let Some(pid) = first_answer(loopback(PORT + 1)) {
            std::thread::sleep(2 * CALM);
            in_a_row.add(ten_in_a_row(tiny, &name, pid, loopback(PORT + 1)));
        }
        drop(supervisor);
    }
}

fn start(peer: &'static Peer, tiny: &Path, port: u16) -> Option<Rival> {
    let name = format!("{}, {}", peer.name, peer.setting);
    let supervisor = (peer.start)(tiny, port);
    let Some(pid) = first_answer(loopback(port)) else {
        eprintln!("{name}: its service does not come up; left out");
        return None;
    };
    let row = Row::new(&name);
    Some(Rival { name, peer, port, pid, row, wanted: KILLS_OF_PEER, calm_at: Instant::now(), _supervisor: supervisor })
}

impl Rival {
    fn wants_more(&self) -> bool {
        self.row.times.len() < self.wanted && !self.row.gave_up
    }
}

fn ten_in_a_row(tiny: &Path, name: &str, mut pid: u32, address: SocketAddr) -> Row {
    let mut row = Row::new(name);
    let until = Instant::now() + IN_A_ROW_WITHIN;
    for _ in 0..IN_A_ROW {
        if heal(&mut row, &mut pid, address).is_none() || Instant::now() > until {
            break;
        }
    }
    row.bare.extend((0..IN_A_ROW).map(|_| bare_start(tiny)));
    row
}
