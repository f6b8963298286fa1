//! A provider dies altogether: how soon that is noticed, and how soon a declared standby serves in its place: with nothing
//! of its own, and with its data. One estate sells Redis and PostgreSQL, another buys them and has this machine as standby;
//! everything of the seller is killed at once. The data comes from a backup, whose bare restore into the same server is
//! measured beside it.
//! `cargo bench -p ostler --bench failover`.
#![allow(clippy::print_stdout, clippy::unwrap_used, clippy::panic, reason = "it is not shipped")]

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use serde_json::Value;

mod common;

const ROUNDS: usize = 5;
/// What has not come by then never comes.
const WITHIN: Duration = Duration::from_secs(60);
const NOTICED: Duration = Duration::from_secs(5);
const SERVED: Duration = Duration::from_secs(10);
/// What a move with data may take beyond the bare restore of that data.
const BEYOND_RESTORE: Duration = Duration::from_secs(10);
/// In the database that is moved.
const ROWS: u64 = 100_000;
const DURABLE_ROUNDS: usize = 3;

fn main() {
    if !std::env::args().any(|argument| argument == "--bench") {
        return;
    }
    let (mut noticed, mut served) = (Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        let (first, last) = round();
        noticed.push(first);
        served.push(last);
    }
    println!("from the death of a provider, milliseconds; {ROUNDS} rounds");
    println!("{:<24} {:>8} {:>8} {:>8}", "", "median", "max", "bar");
    row("noticed", &mut noticed, NOTICED);
    row("the standby serves", &mut served, SERVED);
    durable();
}

/// What one move with its data took.
struct WithData {
    served: Duration,
    /// The bare restore of the same backup into the same server.
    restore: Duration,
    /// A backup, and its proof, while all was well.
    backup: Duration,
    proof: Duration,
}

fn durable() {
    let mut rounds: Vec<WithData> = (0..DURABLE_ROUNDS).map(|_| round_with_data()).collect();
    let worst = rounds.iter().map(|round| round.served.saturating_sub(round.restore)).max().unwrap();
    println!("\nPostgreSQL with {ROWS} rows from its backup, milliseconds; {DURABLE_ROUNDS} rounds");
    println!("{:<24} {:>8} {:>8} {:>8}", "", "median", "max", "bar");
    let mut told = |what: &str, of: fn(&WithData) -> Duration, bar: &str| {
        rounds.sort_by_key(of);
        let (median, max) = (of(&rounds[rounds.len() / 2]), of(&rounds[rounds.len() - 1]));
        println!("{what:<24} {:>8} {:>8} {bar:>8}", median.as_millis(), max.as_millis());
    };
    told("a backup of it", |round| round.backup, "-");
    told("the proof of that", |round| round.proof, "-");
    told("its bare pg_restore", |round| round.restore, "-");
    told("the standby serves", |round| round.served, "-");
    let met = if worst < BEYOND_RESTORE { "met" } else { "MISSED" };
    let (worst, bar) = (worst.as_millis(), BEYOND_RESTORE.as_millis());
    println!("{:<24} {:>8} {worst:>8} {bar:>8} {met}", "beyond the restore", "");
}

fn row(what: &str, times: &mut [Duration], bar: Duration) {
    times.sort();
    let (median, max) = (times[times.len() / 2], times[times.len() - 1]);
    let met = if max < bar { "met" } else { "MISSED" };
    println!("{what:<24} {:>8} {:>8} {:>8} {met}", median.as_millis(), max.as_millis(), bar.as_millis());
}

/// Somebody who sells the offering, and a buyer with further lines in its estate, which may name `acme` and `here`.
fn seller_and_buyer(offering: &str, services: &str) -> (Estate, Estate) {
    let door = free_address();
    let seller = Estate::new();
    std::fs::write(seller.folder.path().join("password"), "sesame\n").unwrap();
    let password = seller.folder.path().join("password").display().to_string();
    let sells = format!(
        "[estate]\nname = \"acme\"\n\n[provider.here]\nkind = \"host\"\n\n[provide]\nlisten = \"{door}\"\noffer = [\"{offering}\"]\n\n\
         [provide.buyer.shop]\npassword = {{ file = \"{password}\" }}\n"
    );
    seller.run(&sells, &["provide", "--detach", "ostler.toml"]);
    let buyer = Estate::new();
    let buys = format!(
        "[estate]\nname = \"shop\"\n\n[provider.here]\nkind = \"host\"\n\n[provider.acme]\nkind = \"osb\"\nurl = \"http://{door}\"\n\
         auth = {{ username = \"shop\", password = {{ file = \"{password}\" }} }}\n\n{services}"
    );
    buyer.run(&buys, &["up", "--detach", "ostler.toml"]);
    (seller, buyer)
}

/// A database is filled, backed up and proven; its provider dies; it is moved here by itself, with its data.
fn round_with_data() -> WithData {
    let tiny = common::tiny();
    let (seller, buyer) = seller_and_buyer(
        "postgresql",
        &format!(
            "[service.db]\noffering = \"postgresql\"\nprefer = [\"acme\", \"here\"]\n\
             data = {{ durable = true, prove_every = \"never\" }}\nfailover = {{ loses_at_most = \"1h\" }}\n\n\
             [service.user]\noffering = \"program\"\nrun = [{tiny:?}]\nneeds = [\"db\"]\n"
        ),
    );
    let binding = buyer.folder.path().join("home/instances/user-1/bindings/db/uri");
    let sql = |statement: &str| {
        let uri = std::fs::read_to_string(&binding).unwrap_or_default();
        let mut command = Command::new("psql");
        command.args([uri.trim(), "-X", "-q", "-A", "-t", "-v", "ON_ERROR_STOP=1", "-c", statement]);
        let output = command.env("PGCONNECT_TIMEOUT", "1").output().unwrap();
        output.status.success().then(|| String::from_utf8_lossy(&output.stdout).trim().to_owned())
    };
    let filled = format!("create table rows as select g as id, md5(g::text) as text from generate_series(1, {ROWS}) g");
    sql(&filled).unwrap();
    let counted = "select count(*), sum(hashtext(text)) from rows";
    let before = sql(counted).unwrap();
    let timed = |arguments: &[&str]| {
        let begin = Instant::now();
        buyer.ask(arguments);
        begin.elapsed()
    };
    let backup = timed(&["backup", "db", "--name", "kept"]);
    let proof = timed(&["prove", "db", "kept"]);
    let of_seller: Vec<u32> = processes_of(seller.folder.path());
    of_seller.iter().for_each(|pid| signal(*pid, "STOP"));
    let dead = Instant::now();
    of_seller.iter().for_each(|pid| signal(*pid, "KILL"));
    let served = loop {
        assert!(dead.elapsed() < WITHIN, "nobody serves: {}", buyer.service("db"));
        if sql(counted).is_some_and(|counted| counted == before) {
            break dead.elapsed();
        }
        std::thread::sleep(Duration::from_millis(20));
    };
    assert_eq!(buyer.service("db")["provider"], "here");
    let dump = buyer.folder.path().join("home/backups/db/kept");
    let uri = std::fs::read_to_string(&binding).unwrap();
    let begin = Instant::now();
    let mut restore = Command::new("pg_restore");
    restore.args([
        "--clean",
        "--if-exists",
        "--no-owner",
        "--no-privileges",
        "--single-transaction",
        "--exit-on-error",
    ]);
    let restored = restore.args(["--table", "rows", "--dbname", uri.trim()]).arg(&dump).output().unwrap();
    let restore = begin.elapsed();
    assert!(restored.status.success(), "{}", String::from_utf8_lossy(&restored.stderr));
    assert_eq!(sql(counted).unwrap(), before);
    WithData { served, restore, backup, proof }
}

/// Brings both up, kills the seller, and tells how soon that was noticed and mended.
fn round() -> (Duration, Duration) {
    let (seller, buyer) = seller_and_buyer(
        "redis",
        "[service.cache]\noffering = \"redis\"\nprefer = [\"acme\", \"here\"]\ndata = { durable = false }\n",
    );
    let endpoint: SocketAddr = buyer.cache()["endpoint"].as_str().unwrap().parse().unwrap();
    assert!(answers(endpoint), "the cache does not answer");
    let of_seller: Vec<u32> = processes_of(seller.folder.path());
    of_seller.iter().for_each(|pid| signal(*pid, "STOP")); // or they would bring each other back
    let dead = Instant::now();
    of_seller.iter().for_each(|pid| signal(*pid, "KILL"));
    let mut noticed = None;
    loop {
        assert!(dead.elapsed() < WITHIN, "nobody serves: {}", buyer.cache());
        if noticed.is_none() && buyer.cache()["state"] != "ready" {
            noticed = Some(dead.elapsed());
        }
        if buyer.cache()["provider"] == "here" && answers(endpoint) {
            return (noticed.unwrap_or_else(|| dead.elapsed()), dead.elapsed());
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Whether a Redis answers there: that it wants a password is an answer.
fn answers(at: SocketAddr) -> bool {
    let ask = || -> std::io::Result<bool> {
        let mut stream = TcpStream::connect_timeout(&at, Duration::from_millis(200))?;
        stream.set_read_timeout(Some(Duration::from_millis(500)))?;
        stream.write_all(b"PING\r\n")?;
        let mut answer = [0; 64];
        let read = stream.read(&mut answer)?;
        Ok(answer[..read].starts_with(b"+PONG") || answer[..read].starts_with(b"-NOAUTH"))
    };
    ask().unwrap_or(false)
}

fn free_address() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
}

fn signal(pid: u32, name: &str) {
    let _ = Command::new("kill").args([&format!("-{name}"), &pid.to_string()]).status(); // it may have ended
}

/// Everything that was started for the home in this folder: by its environment, its command line, or where it works.
fn processes_of(folder: &Path) -> Vec<u32> {
    let mark = folder.display().to_string();
    let works_there =
        |pid: &u32| std::fs::read_link(format!("/proc/{pid}/cwd")).is_ok_and(|cwd| cwd.starts_with(folder));
    let holds = |pid: &u32| {
        works_there(pid)
            || ["environ", "cmdline"].iter().any(|name| {
                let text = std::fs::read(format!("/proc/{pid}/{name}")).unwrap_or_default();
                String::from_utf8_lossy(&text).contains(&mark)
            })
    };
    let pids = std::fs::read_dir("/proc").unwrap().filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok());
    pids.filter(|pid| *pid != std::process::id()).filter(holds).collect()
}

/// An estate of its own, with its home; everything of it is killed in the end.
struct Estate {
    folder: tempfile::TempDir,
    program: PathBuf,
}

impl Estate {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        // Servers that refuse to be root have to get at what is theirs.
        std::fs::set_permissions(folder.path(), PermissionsExt::from_mode(0o755)).unwrap();
        Self { folder, program: PathBuf::from(env!("CARGO_BIN_EXE_ostler")) }
    }

    fn run(&self, estate: &str, arguments: &[&str]) {
        std::fs::write(self.folder.path().join("ostler.toml"), estate).unwrap();
        self.ask(arguments);
    }

    fn ask(&self, arguments: &[&str]) -> Vec<u8> {
        let mut command = Command::new(&self.program);
        command.arg("--home").arg(self.folder.path().join("home")).args(arguments).current_dir(self.folder.path());
        let output = command.output().unwrap();
        assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
        output.stdout
    }

    fn cache(&self) -> Value {
        self.service("cache")
    }

    fn service(&self, name: &str) -> Value {
        let status: Value = serde_json::from_slice(&self.ask(&["status", "--json"])).unwrap();
        status["services"].as_array().unwrap().iter().find(|service| service["name"] == name).unwrap().clone()
    }
}

impl Drop for Estate {
    fn drop(&mut self) {
        let until = Instant::now() + WITHIN;
        while Instant::now() < until {
            let left = processes_of(self.folder.path());
            if left.is_empty() {
                return;
            }
            left.iter().for_each(|pid| signal(*pid, "STOP"));
            left.iter().for_each(|pid| signal(*pid, "KILL"));
        }
    }
}
