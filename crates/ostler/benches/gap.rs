//! For how long callers of a PostgreSQL wait while it is upgraded in place to another minor version: somebody who connects
//! to its endpoint again and again, alone and beside a pool of open connections, and the same asked of the same server and
//! data without ostler, while it is only stopped and started.
//!
//! `cargo bench -p ostler --bench gap`

#![allow(clippy::print_stdout, clippy::unwrap_used, clippy::panic)] // it is not shipped

mod common;

use std::fs;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::unix::fs::MetadataExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use common::{Estate, verdict};
use rustix::process::{Pid, Signal, kill_process};

const VERSIONS: [&str; 2] = ["16.2", "16.11"];
/// Upgrades and ways back.
const CHANGES: usize = 10;
/// Open connections on which nothing is under way.
const POOL: usize = 5;
/// How many times its own restart a gap may take.
const BAR: f64 = 2.0;
/// Between two questions.
const BETWEEN: Duration = Duration::from_micros(500);
/// What has not come by then never comes.
const WITHIN: Duration = Duration::from_secs(30);
/// Before and after each change, so that what is measured is not the last of something else.
const CALM: Duration = Duration::from_millis(500);

fn main() {
    if !std::env::args().any(|argument| argument == "--bench") {
        return;
    }
    let Some(programs) = programs() else {
        println!("not on this machine: PostgreSQL {} (scripts/setup.sh bench)", VERSIONS.join(" and "));
        return;
    };
    let versions = tempfile::tempdir().unwrap();
    let install = |version: usize| {
        let folder = versions.path().join("postgresql");
        fs::create_dir_all(&folder).unwrap();
        std::os::unix::fs::symlink(&programs[version], folder.join(VERSIONS[version])).unwrap();
    };
    install(0);
    fs::set_permissions(versions.path(), std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    let (estate, _) = Estate::up(&format!(
        "versions = {:?}\n\n[service.db]\noffering = \"postgresql\"\n\n[upgrade]\nsoak = \"0s\"\n",
        versions.path()
    ));
    install(1);
    estate.ostler(&["apply", "ostler.toml"]);
    let endpoint = estate.instances("db")[0].endpoint;
    let (mut upgraded, mut pooled) = (Gaps::default(), Gaps::default());
    for change in 0..2 * CHANGES {
        let forth = change % 2 == 0;
        let command = if forth { ["upgrade", "db", "--yes"] } else { ["rollback", "db", "--yes"] };
        let beside = if change < CHANGES { 0 } else { POOL };
        let pool: Vec<_> = (0..beside).map(|_| connected(endpoint).unwrap()).collect();
        let gaps = if change < CHANGES { &mut upgraded } else { &mut pooled };
        gaps.add(endpoint, || {
            estate.ostler(&command);
        });
        drop(pool);
        let version = &estate.json(&["status"])["services"][0]["version"];
        assert_eq!(*version, VERSIONS[usize::from(forth)]);
    }
    let data = estate.folder().join("home/instances/db-1/data");
    estate.ostler(&["down"]);
    let restarted = bare_restarts(&programs[0].join("bin/postgres"), &data);
    println!("PostgreSQL {}, milliseconds without an answer; {CHANGES} times each", VERSIONS.join(" to "));
    println!("{:<44}{:>8}{:>8}{:>10}", "", "median", "max", "refused");
    upgraded.print("upgraded in place and back, at its endpoint");
    pooled.print(&format!("the same beside {POOL} idle connections"));
    restarted.print("only stopped and started, on its own port");
    let times = |gaps: &Gaps| gaps.median().as_secs_f64() / restarted.median().as_secs_f64();
    let (alone, beside) = (times(&upgraded), times(&pooled));
    let met = alone < BAR && beside < BAR && upgraded.refused + pooled.refused == 0;
    println!("\n{alone:.2} times its own restart, {beside:.2} beside idle connections; bar {BAR}: {}", verdict(met));
}

/// Where both versions are.
fn programs() -> Option<Vec<PathBuf>> {
    let tools = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target/test-tools/postgresql");
    let folders: Vec<PathBuf> = VERSIONS.iter().filter_map(|version| tools.join(version).canonicalize().ok()).collect();
    (folders.len() == VERSIONS.len()).then_some(folders)
}

/// The same server with the same data, as its offering has it run, without ostler.
fn bare_restarts(postgres: &Path, data: &Path) -> Gaps {
    let owner = fs::metadata(data).unwrap();
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let start = || -> Server {
        let mut command = Command::new(postgres);
        command.arg("-D").arg(data).current_dir(data).env_clear().env("LC_ALL", "C");
        for setting in [
            "listen_addresses=127.0.0.1",
            &format!("port={port}"),
            "unix_socket_directories=",
            "logging_collector=off",
            "log_destination=stderr",
            "shared_buffers=128MB",
            "max_connections=100",
        ] {
            command.args(["-c", setting]);
        }
        if rustix::process::geteuid().is_root() {
            command.uid(owner.uid()).gid(owner.gid());
        }
        Server(command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap())
    };
    let address = common::loopback(port);
    let mut server = start();
    let mut gaps = Gaps::default();
    for _ in 0..CHANGES {
        gaps.add(address, || {
            server.stop();
            server = start();
        });
    }
    gaps
}

struct Server(Child);

impl Server {
    /// As its offering does: open transactions are rolled back.
    fn stop(&mut self) {
        let _ = kill_process(Pid::from_raw(self.0.id().cast_signed()).unwrap(), Signal::INT);
        self.0.wait().unwrap();
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop();
    }
}

/// The longest times without an answer.
#[derive(Default)]
struct Gaps {
    all: Vec<Duration>,
    refused: usize,
}

impl Gaps {
    /// Asks while something is done.
    fn add(&mut self, address: SocketAddr, change: impl FnOnce()) {
        let caller = Caller::start(address);
        std::thread::sleep(CALM);
        change();
        let (gap, refused) = caller.stop();
        self.all.push(gap);
        self.refused += refused;
    }

    fn median(&self) -> Duration {
        let mut all = self.all.clone();
        all.sort();
        all[all.len() / 2]
    }

    fn print(&self, what: &str) {
        let (median, max) = (self.median(), self.all.iter().max().unwrap());
        let millis = |time: Duration| time.as_secs_f64() * 1e3;
        println!("{what:<44}{:>8.0}{:>8.0}{:>10}", millis(median), millis(*max), self.refused);
    }
}

/// Somebody who connects again and again.
struct Caller {
    over: Arc<AtomicBool>,
    thread: JoinHandle<(Duration, usize)>,
}

impl Caller {
    fn start(address: SocketAddr) -> Self {
        let over = Arc::new(AtomicBool::new(false));
        let told = Arc::clone(&over);
        let thread = std::thread::spawn(move || {
            let until = Instant::now() + WITHIN;
            while !is_answered(address) {
                assert!(Instant::now() < until, "nothing answers at {address}");
            }
            let (mut last, mut gap, mut refused) = (Instant::now(), Duration::ZERO, 0);
            loop {
                let ends = told.load(Ordering::Relaxed);
                if is_answered(address) {
                    gap = gap.max(last.elapsed());
                    last = Instant::now();
                    if ends {
                        return (gap, refused);
                    }
                } else {
                    refused += 1;
                    assert!(last.elapsed() < WITHIN, "nothing answers at {address} any more");
                }
                std::thread::sleep(BETWEEN);
            }
        });
        Self { over, thread }
    }

    /// The longest time without an answer, and how many connections were refused, broken off, or told to come later.
    fn stop(self) -> (Duration, usize) {
        std::thread::sleep(CALM);
        self.over.store(true, Ordering::Relaxed);
        self.thread.join().unwrap()
    }
}

/// Whether a server that takes connections is there: it asks for a password then. While it starts it says so instead.
fn is_answered(address: SocketAddr) -> bool {
    connected(address).is_ok()
}

/// A connection that was answered so.
fn connected(address: SocketAddr) -> std::io::Result<TcpStream> {
    let mut stream = TcpStream::connect(address)?;
    stream.set_read_timeout(Some(WITHIN))?;
    let body = b"\x00\x03\x00\x00user\0nobody\0database\0postgres\0\0";
    let length = u32::try_from(body.len() + 4).unwrap();
    stream.write_all(&[&length.to_be_bytes()[..], body].concat())?;
    let mut kind = [0];
    stream.read_exact(&mut kind)?;
    if kind == *b"R" { Ok(stream) } else { Err(std::io::ErrorKind::NotConnected.into()) }
}
