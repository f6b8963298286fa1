//! What the benchmarks of the whole share: the tiny server, estates of it under ostler, and looking at processes.
#![allow(dead_code, unreachable_pub, reason = "each benchmark uses its part of it")]

use std::io::Read;
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

/// What has not come by then never comes.
pub const WITHIN: Duration = Duration::from_secs(30);
/// A connection that says nothing for so long is given up, as callers would, and another one made.
const ANSWER_WITHIN: Duration = Duration::from_secs(2);

/// The path of `examples/tiny.rs`, built if it is not there yet.
pub fn tiny() -> PathBuf {
    let own = std::env::current_exe().unwrap(); // target/release/deps/healing-0123
    let tiny = own.parent().unwrap().with_file_name("examples").join("tiny");
    if !tiny.exists() {
        let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
        let built = Command::new(cargo)
            .args(["build", "--quiet", "--release", "--example", "tiny", "--manifest-path"])
            .arg(concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.toml"))
            .status()
            .unwrap();
        assert!(built.success() && tiny.exists(), "{} cannot be built", tiny.display());
    }
    tiny
}

/// What a caller met.
pub enum Met {
    /// An answer of this process.
    Answer(u32),
    /// Its connect was refused.
    Refused,
    /// It was connected, and then given nothing.
    Cut,
}

/// One connection to a tiny server.
pub fn ask(address: SocketAddr) -> Met {
    let Ok(mut stream) = TcpStream::connect(address) else { return Met::Refused };
    stream.set_read_timeout(Some(ANSWER_WITHIN)).unwrap();
    let mut text = String::new();
    match stream.read_to_string(&mut text) {
        Ok(_) => text.trim().parse().map_or(Met::Cut, Met::Answer),
        Err(_) => Met::Cut,
    }
}

/// Between two questions: whoever asks without a pause takes the processor from the program that is to start.
const BETWEEN: Duration = Duration::from_micros(50);

/// Asks until another process than `old` answers; `None` if none does in time.
pub fn next_answer(
    address: SocketAddr,
    old: u32,
    within: Duration,
    refused: &mut usize,
    cut: &mut usize,
) -> Option<u32> {
    let until = Instant::now() + within;
    while Instant::now() < until {
        match ask(address) {
            Met::Answer(pid) if pid != old => return Some(pid),
            Met::Answer(_) => {}
            Met::Refused => *refused += 1,
            Met::Cut => *cut += 1,
        }
        std::thread::sleep(BETWEEN);
    }
    None
}

/// The process that answers at `address`, once one does; asked gently.
pub fn first_answer(address: SocketAddr) -> Option<u32> {
    let until = Instant::now() + WITHIN;
    while Instant::now() < until {
        if let Met::Answer(pid) = ask(address) {
            return Some(pid);
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    None
}

pub fn loopback(port: u16) -> SocketAddr {
    (Ipv4Addr::LOCALHOST, port).into()
}

pub fn kill(pid: u32) {
    // It may just have ended by itself.
    let _ = kill_process(Pid::from_raw(pid.cast_signed()).unwrap(), Signal::KILL);
}

/// Asks it to end.
pub fn terminate(pid: u32) {
    let _ = kill_process(Pid::from_raw(pid.cast_signed()).unwrap(), Signal::TERM);
}

/// Asks it to read its settings again.
pub fn hang_up(pid: u32) {
    let _ = kill_process(Pid::from_raw(pid.cast_signed()).unwrap(), Signal::HUP);
}

/// One service of tiny servers in an estate file.
pub fn service(name: &str, tiny: &Path, more: &str) -> String {
    format!("[service.{name}]\noffering = \"program\"\nrun = [\"{}\"]\n{more}\n", tiny.display())
}

/// An estate that is up; brought down when dropped.
pub struct Estate {
    folder: tempfile::TempDir,
}

/// An instance of it.
#[derive(Clone, Copy)]
pub struct Instance {
    pub pid: u32,
    pub own: SocketAddr,
    pub endpoint: SocketAddr,
}

impl Estate {
    /// Brings it up, and tells how long that took.
    pub fn up(services: &str) -> (Self, Duration) {
        let estate = Self::written(services);
        let begun = Instant::now();
        estate.ostler(&["up", "--detach", "--json"]);
        (estate, begun.elapsed())
    }

    /// Brings it up, with what was laid into its folder before.
    pub fn prepared(prepare: impl FnOnce(&Path), services: &str) -> Self {
        let estate = Self::written(services);
        prepare(estate.folder());
        estate.ostler(&["up", "--detach", "--json"]);
        estate
    }

    fn written(services: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        // Servers that refuse to be root have to get at what is theirs.
        std::fs::set_permissions(folder.path(), PermissionsExt::from_mode(0o755)).unwrap();
        let text = format!("[estate]\nname = \"bench\"\n\n[provider.here]\nkind = \"host\"\n\n{services}");
        std::fs::write(folder.path().join("ostler.toml"), text).unwrap();
        Self { folder }
    }

    /// Where its file is.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    pub fn json(&self, arguments: &[&str]) -> Value {
        serde_json::from_slice(&self.ostler(&[arguments, &["--json"]].concat())).unwrap()
    }

    pub fn ostler(&self, arguments: &[&str]) -> Vec<u8> {
        let output = Command::new(env!("CARGO_BIN_EXE_ostler"))
            .args(arguments)
            .arg("--home")
            .arg(self.home())
            .current_dir(self.folder.path())
            .stdin(Stdio::null())
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "ostler {arguments:?}: {said}");
        output.stdout
    }

    pub fn home(&self) -> PathBuf {
        self.folder.path().join("home")
    }

    /// The instances of services whose name begins with `prefix`.
    pub fn instances(&self, prefix: &str) -> Vec<Instance> {
        let status: Value = serde_json::from_slice(&self.ostler(&["status", "--json"])).unwrap();
        let mut found = Vec::new();
        for service in status["services"].as_array().unwrap() {
            if !service["name"].as_str().unwrap().starts_with(prefix) {
                continue;
            }
            for instance in service["instances"].as_array().unwrap() {
                found.push(Instance {
                    pid: instance["pid"].as_u64().unwrap().try_into().unwrap(),
                    own: instance["address"].as_str().unwrap().parse().unwrap(),
                    endpoint: service["endpoint"].as_str().unwrap().parse().unwrap(),
                });
            }
        }
        assert!(!found.is_empty(), "no service {prefix}");
        found
    }

    /// Ostler's own process of this home.
    pub fn process(&self, role: &str) -> u32 {
        let home = self.home();
        let wanted = ["process", role, "--home", home.to_str().unwrap()];
        let is_it = |pid: &u32| {
            let line = std::fs::read_to_string(format!("/proc/{pid}/cmdline")).unwrap_or_default();
            line.trim_end_matches('\0').split('\0').skip(1).eq(wanted)
        };
        pids().find(is_it).unwrap_or_else(|| panic!("no {role} runs"))
    }
}

impl Drop for Estate {
    fn drop(&mut self) {
        let down = Command::new(env!("CARGO_BIN_EXE_ostler"))
            .args(["down", "--delete-data", "--yes", "--json", "--home"])
            .arg(self.home())
            .stdout(Stdio::null())
            .status();
        drop(down); // there is nobody to tell; what goes on running says so by itself
    }
}

/// A supervisor that was started here; it and all that it started are killed when dropped.
pub struct Supervisor {
    pub root: u32,
    child: Option<Child>,
    folder: tempfile::TempDir,
}

/// Tells in the environment of everything that a supervisor starts to which it belongs.
pub const FOLDER_VARIABLE: &str = "OSTLER_BENCH_FOLDER";

impl Supervisor {
    /// Runs in the foreground.
    pub fn start(folder: tempfile::TempDir, command: &mut Command) -> Self {
        let log = std::fs::File::create(folder.path().join("log")).unwrap();
        command.stdin(Stdio::null()).stdout(log.try_clone().unwrap()).stderr(log).current_dir(folder.path());
        command.env(FOLDER_VARIABLE, folder.path());
        let child = command.spawn().unwrap();
        Self { root: child.id(), child: Some(child), folder }
    }

    /// Has put itself into the background.
    pub fn in_background(folder: tempfile::TempDir, root: u32) -> Self {
        Self { root, child: None, folder }
    }
}

impl Drop for Supervisor {
    fn drop(&mut self) {
        let mut family = descendants(self.root);
        family.insert(0, self.root); // first the one that would start the others again
        // Some have their services started by a shell that ends: these are found by whom they were started for.
        let mark = format!("{FOLDER_VARIABLE}={}", self.folder.path().display());
        family.extend(pids().filter(|pid| {
            let environment = std::fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
            environment.split(|byte| *byte == 0).any(|variable| variable == mark.as_bytes())
        }));
        family.into_iter().for_each(kill);
        if let Some(mut child) = self.child.take() {
            let _ = child.wait();
        }
    }
}

fn pids() -> impl Iterator<Item = u32> {
    std::fs::read_dir("/proc").unwrap().flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok())
}

/// Everything that stems from a process, parents before children.
pub fn descendants(root: u32) -> Vec<u32> {
    let parent = |pid: u32| -> Option<u32> {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        stat.rsplit_once(") ")?.1.split(' ').nth(1)?.parse().ok()
    };
    let all: Vec<(u32, u32)> = pids().filter_map(|pid| Some((pid, parent(pid)?))).collect();
    let mut family = vec![root];
    let mut next = 0;
    while let Some(&of) = family.get(next) {
        family.extend(all.iter().filter(|(_, parent)| *parent == of).map(|(pid, _)| *pid));
        next += 1;
    }
    family.remove(0);
    family
}

/// Kilobytes that a process has to itself, with its share of what it shares.
pub fn pss_kb(pid: u32) -> u64 {
    let Ok(text) = std::fs::read_to_string(format!("/proc/{pid}/smaps_rollup")) else { return 0 };
    let line = text.lines().find_map(|line| line.strip_prefix("Pss:")).unwrap_or("0 kB");
    line.trim().trim_end_matches(" kB").parse().unwrap()
}

/// Seconds of one core that a process has used.
pub fn cpu_seconds(pid: u32) -> f64 {
    let Ok(text) = std::fs::read_to_string(format!("/proc/{pid}/stat")) else { return 0.0 };
    let fields: Vec<&str> = text.rsplit_once(") ").unwrap().1.split(' ').collect();
    let ticks: u64 = fields[11..13].iter().map(|field| field.parse::<u64>().unwrap()).sum();
    ticks as f64 / 100.0 // USER_HZ, the same on every Linux that we build for
}

pub fn is_found(program: &str) -> bool {
    std::env::var_os("PATH")
        .is_some_and(|path| std::env::split_paths(&path).any(|folder| folder.join(program).is_file()))
}

pub fn verdict(met: bool) -> &'static str {
    if met { "met" } else { "MISSED" }
}
