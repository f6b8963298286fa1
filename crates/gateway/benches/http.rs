//! What callers of HTTP endpoints get through the gateway, beside HAProxy and nginx with the same instances, callers and
//! kills in the same run: how fast small answers are, how fast streams of 1 MiB, and how many requests fail while an
//! instance is killed every second. Every proxy has one thread.
//!
//! `cargo bench -p ostler-gateway --bench http`

#![allow(clippy::print_stdout, clippy::print_stderr, clippy::unwrap_used, clippy::panic)] // it is not shipped

#[path = "../tests/common/mod.rs"]
mod common;
#[path = "common/load.rs"]
mod load;
#[path = "common/process.rs"]
mod process;

use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use common::{Keeper, KeeperSocket};
use load::{Caller, MIXED_BYTES, await_answers, filler, micros, p99_ms};
use ostler_gateway::{Config, Limits, run};
use ostler_keeper::protocol::ToGateway;
use process::Process;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::runtime::{Builder, Runtime};
use tokio::task::JoinSet;

const INSTANCES: usize = 2;
const CONNECTIONS: usize = 32;
const MEASURED: Duration = Duration::from_secs(4);
/// Each is measured so often, in turns; the best counts, because whatever else the machine does only takes away.
const ROUNDS: usize = 3;
const SMALL_BYTES: usize = 100;
const STREAM_BYTES: usize = 1 << 20;
const KILLED_UNDER: u64 = 250_000;
const KILL_EVERY: Duration = Duration::from_secs(1);

fn main() {
    let arguments: Vec<String> = std::env::args().collect();
    match arguments.get(1).map(String::as_str) {
        Some("gateway") => gateway(Path::new(&arguments[2])),
        Some("instance") => instance(arguments[2].parse().unwrap()),
        Some("--bench") => compare(),
        _ => {}
    }
}

fn compare() {
    Limits::of_this_process(); // raises the limit of open files
    let ports = free_ports(INSTANCES + 6);
    let (instances, rest) = ports.split_at(INSTANCES);
    let fleet = Fleet::start(instances);
    let runtime = current_thread();
    let _context = runtime.enter();
    let (ostler, _alive) = runtime.block_on(Proxy::ostler(instances));
    let mut proxies = vec![ostler];
    let folder = tempfile::tempdir().unwrap();
    match found("haproxy") {
        Some(program) => proxies.push(Proxy::haproxy(&program, folder.path(), instances, &rest[..2])),
        None => println!("not on this machine: haproxy"),
    }
    match found("nginx").filter(|_| Path::new(NGINX_STREAM).exists()) {
        Some(program) => proxies.push(Proxy::nginx(&program, folder.path(), instances, &rest[2..4])),
        None => println!("not on this machine: nginx with its stream module"),
    }
    let direct = Proxy { name: "direct", http: instances[0], tcp: instances[0], _process: None };
    runtime.block_on(async {
        for proxy in &proxies {
            await_answers(proxy.http).await;
            await_answers(proxy.tcp).await;
        }
        let all = || std::iter::once(&direct).chain(&proxies);
        table("small answers, 100 bytes, kept connections", "requests/s", all(), |proxy| small_answers(proxy.http))
            .await;
        table("streams of 1 MiB, a connection each", "MB/s", all(), |proxy| streams(proxy.tcp)).await;
        println!("\n{KILLED_UNDER} GETs of {} to 64 KiB, an instance killed every second", MIXED_BYTES[0]);
        println!("{:<12}{:>12}{:>12}{:>12}{:>12}", "", "failed", "kills", "requests/s", "p99 ms");
        for proxy in &proxies {
            let killed = under_kills(proxy.http, &fleet).await;
            let rate = KILLED_UNDER as f64 / killed.took.as_secs_f64();
            println!("{:<12}{:>12}{:>12}{rate:>12.0}{:>12.1}", proxy.name, killed.failed, killed.kills, killed.p99_ms);
            if proxy.name == "ostler" {
                println!("{:<12}bar: none failed: {}", "", if killed.failed == 0 { "met" } else { "MISSED" });
            }
        }
    });
}

/// What came of one measurement.
struct Measured {
    per_second: f64,
    p99_ms: f64,
}

async fn table<'p, W>(what: &str, unit: &str, all: impl Iterator<Item = &'p Proxy>, measure: impl Fn(&'p Proxy) -> W)
where
    W: Future<Output = Measured>,
{
    let all: Vec<&Proxy> = all.collect();
    let mut best: Vec<Option<Measured>> = all.iter().map(|_| None).collect();
    for _ in 0..ROUNDS {
        for (proxy, best) in all.iter().zip(&mut best) {
            let measured = measure(proxy).await;
            if best.as_ref().is_none_or(|best| measured.per_second > best.per_second) {
                *best = Some(measured);
            }
        }
    }
    let best: Vec<Measured> = best.into_iter().flatten().collect();
    println!("\n{what}; {CONNECTIONS} at the same time; the best of {ROUNDS} rounds; in brackets ostler's share of it");
    println!("{:<12}{unit:>22}{:>22}", "", "p99 ms");
    for (proxy, measured) in all.iter().zip(&best) {
        let share = |own: f64, other: f64| {
            if proxy.name == "ostler" { String::new() } else { format!(" ({:.2})", own / other) }
        };
        let rate = format!("{:.0}{}", measured.per_second, share(best[1].per_second, measured.per_second));
        let p99 = format!("{:.2}{}", measured.p99_ms, share(best[1].p99_ms, measured.p99_ms));
        println!("{:<12}{rate:>22}{p99:>22}", proxy.name);
    }
}

async fn small_answers(endpoint: SocketAddr) -> Measured {
    let until = Instant::now() + MEASURED;
    let mut callers = JoinSet::new();
    for _ in 0..CONNECTIONS {
        callers.spawn(async move {
            let mut caller = Caller::default();
            let mut times = Vec::new();
            while Instant::now() < until {
                let start = Instant::now();
                assert!(caller.get(endpoint, SMALL_BYTES).await, "a request failed with nothing in its way");
                times.push(micros(start));
            }
            times
        });
    }
    let times: Vec<u32> = callers.join_all().await.concat();
    Measured { per_second: times.len() as f64 / MEASURED.as_secs_f64(), p99_ms: p99_ms(times) }
}

async fn streams(endpoint: SocketAddr) -> Measured {
    let until = Instant::now() + MEASURED;
    let mut callers = JoinSet::new();
    for _ in 0..CONNECTIONS {
        callers.spawn(async move {
            let mut times = Vec::new();
            while Instant::now() < until {
                let start = Instant::now();
                assert!(Caller::default().get(endpoint, STREAM_BYTES).await, "a stream broke with nothing in its way");
                times.push(micros(start));
            }
            times
        });
    }
    let times: Vec<u32> = callers.join_all().await.concat();
    let megabytes = (times.len() * STREAM_BYTES) as f64 / 1e6;
    Measured { per_second: megabytes / MEASURED.as_secs_f64(), p99_ms: p99_ms(times) }
}

struct Killed {
    failed: u64,
    kills: usize,
    took: Duration,
    p99_ms: f64,
}

async fn under_kills(endpoint: SocketAddr, fleet: &Arc<Fleet>) -> Killed {
    let left = Arc::new(AtomicU64::new(KILLED_UNDER));
    let failed = Arc::new(AtomicU64::new(0));
    let start = Instant::now();
    let kills = fleet.kill_from_now_on();
    let mut callers = JoinSet::new();
    for number in 0..CONNECTIONS {
        let (left, failed) = (Arc::clone(&left), Arc::clone(&failed));
        callers.spawn(async move {
            let mut caller = Caller::default();
            let mut times = Vec::new();
            for turn in number.. {
                if left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1)).is_err() {
                    break;
                }
                let start = Instant::now();
                if caller.get(endpoint, MIXED_BYTES[turn % MIXED_BYTES.len()]).await {
                    times.push(micros(start));
                } else {
                    failed.fetch_add(1, Ordering::Relaxed);
                }
            }
            times
        });
    }
    let times: Vec<u32> = callers.join_all().await.concat();
    let took = start.elapsed();
    Killed { failed: failed.load(Ordering::Relaxed), kills: kills.stop(), took, p99_ms: p99_ms(times) }
}

/// The instances, each started again as soon as it dies.
struct Fleet(Vec<(SocketAddr, std::sync::Mutex<Process>)>);

impl Fleet {
    fn start(addresses: &[SocketAddr]) -> Arc<Self> {
        let start = |address: &SocketAddr| (*address, std::sync::Mutex::new(instance_at(*address)));
        Arc::new(Self(addresses.iter().map(start).collect()))
    }

    /// Kills one after the other.
    fn kill_from_now_on(self: &Arc<Self>) -> Kills {
        let (fleet, over) = (Arc::clone(self), Arc::new(AtomicBool::new(false)));
        let thread = std::thread::spawn({
            let over = Arc::clone(&over);
            move || {
                let mut kills = 0;
                loop {
                    std::thread::park_timeout(KILL_EVERY);
                    if over.load(Ordering::Relaxed) {
                        return kills;
                    }
                    let (address, process) = &fleet.0[kills % fleet.0.len()];
                    let mut process = process.lock().unwrap();
                    process.kill();
                    *process = instance_at(*address);
                    kills += 1;
                }
            }
        });
        Kills { over, thread }
    }
}

struct Kills {
    over: Arc<AtomicBool>,
    thread: std::thread::JoinHandle<usize>,
}

impl Kills {
    fn stop(self) -> usize {
        self.over.store(true, Ordering::Relaxed);
        self.thread.thread().unpark();
        self.thread.join().unwrap()
    }
}

fn instance_at(address: SocketAddr) -> Process {
    Process::start(&["instance", &address.to_string()])
}

/// An instance's process: answers `GET /N` with N bytes.
fn instance(address: SocketAddr) {
    current_thread().block_on(async {
        let listener = TcpListener::bind(address).await.unwrap();
        loop {
            let Ok((mut stream, _)) = listener.accept().await else { continue };
            let _ = stream.set_nodelay(true);
            tokio::spawn(async move {
                let (mut read, mut answer) = (Vec::new(), Vec::new());
                loop {
                    while !read.ends_with(b"\r\n\r\n") {
                        match stream.read_buf(&mut read).await {
                            Ok(0) | Err(_) => return,
                            Ok(_) => {}
                        }
                    }
                    let path = String::from_utf8_lossy(&read[5..read.len().min(20)]).into_owned();
                    let bytes = path.split(' ').next().and_then(|bytes| bytes.parse().ok()).unwrap_or(0);
                    read.clear();
                    answer.clear();
                    answer.extend_from_slice(format!("HTTP/1.1 200 OK\r\ncontent-length: {bytes}\r\n\r\n").as_bytes());
                    answer.resize(answer.len() + bytes, filler(bytes));
                    if stream.write_all(&answer).await.is_err() {
                        return;
                    }
                }
            });
        }
    });
}

/// A proxy in front of all instances, once as HTTP and once as TCP.
struct Proxy {
    name: &'static str,
    http: SocketAddr,
    tcp: SocketAddr,
    _process: Option<Process>,
}

const NGINX_STREAM: &str = "/usr/lib/nginx/modules/ngx_stream_module.so";

impl Proxy {
    async fn ostler(instances: &[SocketAddr]) -> (Self, impl Sized + use<>) {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join("keeper.sock");
        let socket = KeeperSocket::at(&path);
        let process = Process::start(&["gateway", path.to_str().unwrap()]);
        let keeper: Keeper = socket.welcome("bench").await;
        keeper.tell(ToGateway::Synchronized).await;
        let (http, held_http) = keeper.listen("web").await;
        let (tcp, held_tcp) = keeper.listen("raw").await;
        keeper.http_table("web", instances, 15_000).await;
        keeper.table("raw", instances, 15_000).await;
        keeper.taken_in().await;
        let alive = (home, socket, keeper, held_http, held_tcp);
        (Self { name: "ostler", http, tcp, _process: Some(process) }, alive)
    }

    /// Told to repeat whatever it can.
    fn haproxy(program: &Path, folder: &Path, instances: &[SocketAddr], listen: &[SocketAddr]) -> Self {
        let servers = |more: &str| -> String {
            instances.iter().enumerate().map(|(n, address)| format!("  server s{n} {address}{more}\n")).collect()
        };
        let config = format!(
            "global\n  nbthread 1\n  maxconn 2000\n\
             defaults\n  timeout connect 1s\n  timeout client 60s\n  timeout server 60s\n  option redispatch 1\n  retries 5\n\
             listen web\n  mode http\n  bind {http}\n  balance leastconn\n  http-reuse always\n  \
             retry-on all-retryable-errors\n{web}\
             listen raw\n  mode tcp\n  bind {tcp}\n  balance leastconn\n{raw}",
            http = listen[0],
            tcp = listen[1],
            web = servers(" pool-max-conn 256"),
            raw = servers(""),
        );
        let path = folder.join("haproxy.cfg");
        std::fs::write(&path, config).unwrap();
        let process = Process::of(Command::new(program).arg("-db").arg("-q").arg("-f").arg(&path));
        Self { name: "haproxy", http: listen[0], tcp: listen[1], _process: Some(process) }
    }

    fn nginx(program: &Path, folder: &Path, instances: &[SocketAddr], listen: &[SocketAddr]) -> Self {
        let servers: String = instances.iter().map(|address| format!("server {address} max_fails=0; ")).collect();
        let config = format!(
            "load_module {NGINX_STREAM};\ndaemon off;\nmaster_process off;\npid {folder}/nginx.pid;\n\
             error_log /dev/null;\nworker_rlimit_nofile 8000;\nevents {{ worker_connections 4000; }}\n\
             http {{\n  access_log off;\n  keepalive_requests 100000000;\n  \
             client_body_temp_path {folder}/b;\n  proxy_temp_path {folder}/p;\n  fastcgi_temp_path {folder}/f;\n  \
             uwsgi_temp_path {folder}/u;\n  scgi_temp_path {folder}/s;\n  \
             upstream web {{ least_conn; {servers} keepalive 256; keepalive_requests 100000000; }}\n  \
             server {{ listen {http}; location / {{ proxy_pass http://web; proxy_http_version 1.1; \
             proxy_set_header Connection \"\"; proxy_buffers 32 8k; proxy_next_upstream error timeout invalid_header; }} }}\n}}\n\
             stream {{\n  upstream raw {{ least_conn; {servers} }}\n  server {{ listen {tcp}; proxy_pass raw; }}\n}}\n",
            folder = folder.display(),
            http = listen[0],
            tcp = listen[1],
        );
        let path = folder.join("nginx.conf");
        std::fs::write(&path, config).unwrap();
        let process = Process::of(Command::new(program).arg("-c").arg(&path).arg("-e").arg("/dev/null"));
        Self { name: "nginx", http: listen[0], tcp: listen[1], _process: Some(process) }
    }
}

/// The gateway's process, with one thread as in use.
fn gateway(keeper_socket: &Path) {
    current_thread().block_on(run(Config::at(keeper_socket))).unwrap();
}

/// Ports that were free a moment ago.
fn free_ports(count: usize) -> Vec<SocketAddr> {
    let held: Vec<_> = (0..count).map(|_| std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap()).collect();
    held.iter().map(|listener| listener.local_addr().unwrap()).collect()
}

fn found(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    // Servers are where root looks, which others do not.
    let folders = std::env::split_paths(&path).chain(["/usr/sbin".into()]);
    folders.map(|folder| folder.join(program)).find(|program| program.is_file())
}

fn current_thread() -> Runtime {
    Builder::new_current_thread().enable_all().build().unwrap()
}
