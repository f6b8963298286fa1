//! What callers notice while everything is replaced under full load: four web instances by `ostler upgrade`, ostler itself
//! by `ostler self-upgrade`; beside them, in the same run and under the same load, nginx before four of the same program,
//! each taken out, restarted and put in again with a reload, and a cluster of the same answers under `pm2 reload`. Each is
//! replaced again and again for as long as the callers ask.
//!
//! `cargo bench -p ostler --bench rolling`

#![allow(clippy::print_stdout, clippy::print_stderr, clippy::unwrap_used, clippy::panic)] // it is not shipped

mod common;
#[path = "../../gateway/benches/common/load.rs"]
mod load;
#[path = "common/peers.rs"]
#[allow(dead_code, reason = "it uses its part of it")]
mod peers;

use std::fs;
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use common::{Estate, FOLDER_VARIABLE, Supervisor, descendants, loopback, verdict};
use load::{Caller, MIXED_BYTES, await_answers, micros, p99_ms};
use tokio::task::JoinSet;

const REQUESTS: u64 = 250_000;
const CONNECTIONS: usize = 32;
const INSTANCES: usize = 4;
/// nginx listens here, and its instances at the ports that follow; then pm2's cluster.
const PORT: u16 = 11_100;
/// Between two replacements.
const PAUSE: Duration = Duration::from_millis(500);
/// What has not come by then never comes.
const WITHIN: Duration = Duration::from_secs(30);

fn main() {
    if !std::env::args().any(|argument| argument == "--bench") {
        return;
    }
    println!("{REQUESTS} GETs of {} to 64 KiB, {CONNECTIONS} at the same time on kept connections,", MIXED_BYTES[0]);
    println!("while everything is replaced again and again\n");
    println!(
        "{:<42}{:>8}{:>12}{:>14}{:>12}{:>10}{:>10}",
        "", "failed", "requests", "replacements", "requests/s", "p99 ms", "max ms"
    );
    let mut failed = upgrade();
    failed += self_upgrade();
    match found("nginx") {
        Some(program) => _ = nginx(&program),
        None => println!("not on this machine: nginx"),
    }
    match peers::pm2_program().filter(|_| common::is_found("node")) {
        Some(program) => _ = pm2(&program),
        None => println!("not on this machine: pm2"),
    }
    println!("\nbar: none failed at ostler: {}", verdict(failed == 0));
    println!(
        "nginx: before {INSTANCES} of the same program; each is taken out of its upstream, restarted and put in again, \
         two reloads each"
    );
    println!(
        "pm2: {INSTANCES} workers of a node cluster with the same answers, as its reload needs one; callers reach them \
         directly, nothing is between"
    );
}

/// The program that is replaced, built beside ostler.
fn answers() -> PathBuf {
    let beside = common::tiny().with_file_name("answers");
    if !beside.exists() {
        let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
        let built = Command::new(cargo)
            .args(["build", "--quiet", "--release", "--example", "answers", "--manifest-path"])
            .arg(concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.toml"))
            .status()
            .unwrap();
        assert!(built.success() && beside.exists(), "{} cannot be built", beside.display());
    }
    beside
}

fn estate() -> Estate {
    Estate::prepared(
        |folder| release(folder, 0),
        &format!(
            "[service.web]\noffering = \"program\"\nrun = [\"releases/{{{{ version }}}}/answers\"]\n\
             instances = {INSTANCES}\nprobe = {{ ready = {{ http = \"/100\" }}, every = \"1s\", timeout = \"1s\" }}\n\n\
             [upgrade]\nsoak = \"0s\"\n"
        ),
    )
}

/// Another release of the program beside the estate file.
fn release(folder: &Path, number: usize) {
    let folder = folder.join(format!("releases/1.{number}"));
    fs::create_dir_all(&folder).unwrap();
    fs::copy(answers(), folder.join("answers")).unwrap();
}

fn upgrade() -> u64 {
    let estate = estate();
    let endpoint = estate.instances("web")[0].endpoint;
    let replaced = |number: usize| {
        release(estate.folder(), number);
        estate.ostler(&["apply", "ostler.toml"]);
        estate.ostler(&["upgrade", "web", "--yes"]);
    };
    measure("ostler upgrade, 4 instances in waves", endpoint, replaced)
}

fn self_upgrade() -> u64 {
    let estate = estate();
    let endpoint = estate.instances("web")[0].endpoint;
    let replaced = |number: usize| {
        // What is behind a program makes it another one, and changes nothing of what it does.
        let path = estate.folder().join("another");
        let mut program = fs::read(env!("CARGO_BIN_EXE_ostler")).unwrap();
        program.extend_from_slice(format!("\nbuild {number}\n").as_bytes());
        fs::write(&path, program).unwrap();
        fs::set_permissions(&path, PermissionsExt::from_mode(0o755)).unwrap();
        estate.ostler(&["self-upgrade", path.to_str().unwrap(), "--probation", "1s"]);
        let until = Instant::now() + WITHIN;
        while estate.json(&["status"])["ostler"]["upgrade"].is_object() {
            assert!(Instant::now() < until, "the probation does not end");
            std::thread::sleep(Duration::from_millis(100));
        }
    };
    measure("ostler self-upgrade, manager, gateway, keeper", endpoint, replaced)
}

/// One of the program's instances behind nginx.
struct Behind {
    port: u16,
    process: Child,
}

impl Behind {
    fn start(port: u16) -> Self {
        let mut command = Command::new(answers());
        command.arg(port.to_string()).stdin(Stdio::null()).stdout(Stdio::null());
        Self { port, process: command.spawn().unwrap() }
    }

    /// Asks it to end, and starts the next one.
    fn restart(&mut self) {
        common::terminate(self.process.id());
        self.process.wait().unwrap();
        *self = Self::start(self.port);
        await_port(self.port);
    }
}

impl Drop for Behind {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn nginx(program: &Path) -> u64 {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().to_owned();
    let ports: Vec<u16> = (1..=INSTANCES).map(|place| PORT + u16::try_from(place).unwrap()).collect();
    let mut instances: Vec<Behind> = ports.iter().map(|port| Behind::start(*port)).collect();
    ports.iter().for_each(|port| await_port(*port));
    write_nginx(&path, &ports, None);
    let mut command = Command::new(program);
    command.arg("-c").arg(path.join("nginx.conf")).arg("-e").arg("/dev/null");
    let nginx = Supervisor::start(folder, &mut command);
    await_port(PORT);
    let reload = |down: Option<u16>| {
        write_nginx(&path, &ports, down);
        let old = descendants(nginx.root);
        common::hang_up(nginx.root);
        // The old worker goes on with what it has: whoever restarts an instance under it has not waited.
        let until = Instant::now() + WITHIN;
        while descendants(nginx.root).iter().any(|pid| old.contains(pid)) {
            assert!(Instant::now() < until, "the old worker does not end");
            std::thread::sleep(Duration::from_millis(10));
        }
    };
    measure("nginx reload, 4 instances one by one", loopback(PORT), |_| {
        for instance in &mut instances {
            reload(Some(instance.port));
            instance.restart();
            reload(None);
        }
    })
}

/// One worker, as the gateway has one thread.
fn write_nginx(folder: &Path, ports: &[u16], down: Option<u16>) {
    let server = |port: &u16| {
        let down = if down == Some(*port) { " down" } else { "" };
        format!("server 127.0.0.1:{port} max_fails=0{down}; ")
    };
    let servers: String = ports.iter().map(server).collect();
    let user = if rustix::process::geteuid().is_root() { "user root;\n" } else { "" };
    let folder = folder.display();
    let text = format!(
        "daemon off;\n{user}worker_processes 1;\npid {folder}/nginx.pid;\nerror_log /dev/null;\n\
         worker_rlimit_nofile 8000;\nevents {{ worker_connections 4000; }}\n\
         http {{\n  access_log off;\n  keepalive_requests 100000000;\n  \
         client_body_temp_path {folder}/b;\n  proxy_temp_path {folder}/p;\n  fastcgi_temp_path {folder}/f;\n  \
         uwsgi_temp_path {folder}/u;\n  scgi_temp_path {folder}/s;\n  \
         upstream web {{ least_conn; {servers} keepalive 256; keepalive_requests 100000000; }}\n  \
         server {{ listen 127.0.0.1:{PORT}; location / {{ proxy_pass http://web; proxy_http_version 1.1; \
         proxy_set_header Connection \"\"; proxy_buffers 32 8k; \
         proxy_next_upstream error timeout invalid_header; }} }}\n}}\n"
    );
    fs::write(format!("{folder}/nginx.conf"), text).unwrap();
}

/// The same answers, and the same way to take leave.
const CLUSTER: &str = "
const http = require('http');
let leaving = false;
const server = http.createServer((request, answer) => {
  const bytes = parseInt(request.url.slice(1)) || 0;
  const headers = { 'content-length': bytes };
  if (leaving) headers.connection = 'close';
  answer.writeHead(200, headers);
  answer.end(Buffer.alloc(bytes, 97 + bytes % 26));
});
server.keepAliveTimeout = 60000;
server.listen(Number(process.env.PORT), '127.0.0.1');
process.on('SIGINT', () => {
  leaving = true;
  server.close(() => process.exit(0));
  server.closeIdleConnections();
});
";

fn pm2(program: &Path) -> u64 {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().to_owned();
    fs::write(path.join("answers.js"), CLUSTER).unwrap();
    let port = PORT + 50;
    let run = |arguments: &[&str]| {
        let mut command = Command::new(program);
        command.env("PM2_HOME", &path).env(FOLDER_VARIABLE, &path).env("PORT", port.to_string());
        let said = command.args(arguments).current_dir(&path).stdin(Stdio::null()).output().unwrap();
        assert!(said.status.success(), "pm2 {arguments:?}: {}", String::from_utf8_lossy(&said.stderr));
    };
    run(&["start", "answers.js", "--name", "web", "--instances", &INSTANCES.to_string()]);
    let pid = fs::read_to_string(path.join("pm2.pid")).unwrap();
    let _pm2 = Supervisor::in_background(folder, pid.trim().parse().unwrap());
    await_port(port);
    measure("pm2 reload, 4 workers of a cluster", loopback(port), |_| run(&["reload", "web"]))
}

/// Asks while `replace` is done again and again, with the number of the time, from 1; gives how many failed. It is the
/// replacing that decides when it is over: none is cut off, so more may be asked than [`REQUESTS`].
fn measure(name: &str, endpoint: SocketAddr, mut replace: impl FnMut(usize)) -> u64 {
    let (done, over) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicBool::new(false)));
    let callers = std::thread::spawn({
        let (done, over) = (Arc::clone(&done), Arc::clone(&over));
        move || ask(endpoint, &done, &over)
    });
    let mut replacements = 0;
    while done.load(Ordering::Relaxed) < REQUESTS {
        assert!(!callers.is_finished(), "nobody asks any more");
        std::thread::sleep(PAUSE);
        replacements += 1;
        replace(replacements);
    }
    over.store(true, Ordering::Relaxed);
    let (times, failed, took) = callers.join().unwrap();
    let requests = times.len() as u64 + failed;
    let max = f64::from(times.iter().copied().max().unwrap_or(0)) / 1000.0;
    let rate = requests as f64 / took.as_secs_f64();
    let p99 = p99_ms(times);
    println!("{name:<42}{failed:>8}{requests:>12}{replacements:>14}{rate:>12.0}{p99:>10.1}{max:>10.0}");
    failed
}

/// The callers: how long each answer took, in microseconds, how many did not come, and in which time.
fn ask(endpoint: SocketAddr, done: &Arc<AtomicU64>, over: &Arc<AtomicBool>) -> (Vec<u32>, u64, Duration) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        await_answers(endpoint).await;
        let start = Instant::now();
        let mut callers = JoinSet::new();
        for number in 0..CONNECTIONS {
            let (done, over) = (Arc::clone(done), Arc::clone(over));
            callers.spawn(async move {
                let (mut caller, mut times, mut failed) = (Caller::default(), Vec::new(), 0_u64);
                for turn in number.. {
                    if over.load(Ordering::Relaxed) {
                        break;
                    }
                    let start = Instant::now();
                    if caller.get(endpoint, MIXED_BYTES[turn % MIXED_BYTES.len()]).await {
                        times.push(micros(start));
                    } else {
                        failed += 1;
                    }
                    done.fetch_add(1, Ordering::Relaxed);
                }
                (times, failed)
            });
        }
        let all = callers.join_all().await;
        let failed = all.iter().map(|(_, failed)| failed).sum();
        (all.into_iter().flat_map(|(times, _)| times).collect(), failed, start.elapsed())
    })
}

fn await_port(port: u16) {
    let until = Instant::now() + WITHIN;
    while std::net::TcpStream::connect(loopback(port)).is_err() {
        assert!(Instant::now() < until, "nothing answers at port {port}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

fn found(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    // Servers are where root looks, which others do not.
    let folders = std::env::split_paths(&path).chain(["/usr/sbin".into()]);
    folders.map(|folder| folder.join(program)).find(|program| program.is_file())
}
