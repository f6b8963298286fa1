//! A provider dies altogether: how soon that is noticed, and how soon a declared standby serves in its place. One estate
//! sells Redis, another buys it and has this machine as standby; everything of the seller is killed at once.
//! `cargo bench -p ostler --bench failover`.
#![allow(clippy::print_stdout, clippy::unwrap_used, clippy::panic, reason = "it is not shipped")]

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use serde_json::Value;

const ROUNDS: usize = 5;
/// What has not come by then never comes.
const WITHIN: Duration = Duration::from_secs(60);
const NOTICED: Duration = Duration::from_secs(5);
const SERVED: Duration = Duration::from_secs(10);

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
}

fn row(what: &str, times: &mut [Duration], bar: Duration) {
    times.sort();
    let (median, max) = (times[times.len() / 2], times[times.len() - 1]);
    let met = if max < bar { "met" } else { "MISSED" };
    println!("{what:<24} {:>8} {:>8} {:>8} {met}", median.as_millis(), max.as_millis(), bar.as_millis());
}

/// Brings both up, kills the seller, and tells how soon that was noticed and mended.
fn round() -> (Duration, Duration) {
    let door = free_address();
    let seller = Estate::new();
    std::fs::write(seller.folder.path().join("password"), "sesame\n").unwrap();
    let password = seller.folder.path().join("password").display().to_string();
    let sells = format!(
        "[estate]\nname = \"acme\"\n\n[provider.here]\nkind = \"host\"\n\n[provide]\nlisten = \"{door}\"\noffer = [\"redis\"]\n\n\
         [provide.buyer.shop]\npassword = {{ file = \"{password}\" }}\n"
    );
    seller.run(&sells, &["provide", "--detach", "ostler.toml"]);
    let buyer = Estate::new();
    let buys = format!(
        "[estate]\nname = \"shop\"\n\n[provider.here]\nkind = \"host\"\n\n[provider.acme]\nkind = \"osb\"\nurl = \"http://{door}\"\n\
         auth = {{ username = \"shop\", password = {{ file = \"{password}\" }} }}\n\n\
         [service.cache]\noffering = \"redis\"\nprefer = [\"acme\", \"here\"]\ndata = {{ durable = false }}\n"
    );
    buyer.run(&buys, &["up", "--detach", "ostler.toml"]);
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
        let status: Value = serde_json::from_slice(&self.ask(&["status", "--json"])).unwrap();
        status["services"].as_array().unwrap().iter().find(|service| service["name"] == "cache").unwrap().clone()
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
