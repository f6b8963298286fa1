//! What the gateway costs its callers: through it against directly, in one run, with the gateway in a process of its
//! own as in use. `plain` is a proxy without any of the gateway's duties, on tokio's `copy_bidirectional` with buffers
//! of 64 KiB: what the duties cost.
//!
//! `cargo bench -p ostler-gateway`

#![allow(clippy::print_stdout, clippy::print_stderr, clippy::unwrap_used, clippy::panic)] // it is not shipped

#[path = "../tests/common/mod.rs"]
mod common;
#[path = "common/process.rs"]
mod process;

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::time::{Duration, Instant};

use common::{Keeper, KeeperSocket};
use ostler_gateway::{Config, Limits, run};
use ostler_keeper::protocol::ToGateway;
use process::Process;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::runtime::{Builder, Runtime};

const STREAM_BYTES: u64 = 4 << 30;
const PIECE_BYTES: usize = 256 << 10;
const MESSAGE_BYTES: usize = 64;
const MEASURED: Duration = Duration::from_secs(3);
const PARALLEL: usize = 32;
const IDLE: usize = 4000;
const LISTENERS: usize = 1000;

fn main() {
    let arguments: Vec<String> = std::env::args().collect();
    match arguments.get(1).map(String::as_str) {
        Some("gateway") => gateway(Path::new(&arguments[2]), &arguments[3]),
        Some("plain") => plain(arguments[2].parse().unwrap()),
        _ => compare(),
    }
}

fn compare() {
    Limits::of_this_process(); // raises the limit of open files: this program is callers and instances at once
    let sink = sink();
    let echo = echo();
    let direct = Row::measure("direct", (sink, echo), None);
    let mut rows = vec![direct];

    let plain = Process::start(&["plain", &sink.to_string()]);
    let plain_echo = Process::start(&["plain", &echo.to_string()]);
    let endpoints = (plain.announced(), plain_echo.announced());
    rows.push(Row::measure("plain, 1 thread", endpoints, Some((&plain, &plain_echo))));
    drop((plain, plain_echo));

    for flavour in ["1 thread", "2 workers"] {
        let home = tempfile::tempdir().unwrap();
        let runtime = current_thread();
        let _context = runtime.enter();
        let socket = KeeperSocket::at(&home.path().join("keeper.sock"));
        let process = Process::start(&["gateway", home.path().join("keeper.sock").to_str().unwrap(), flavour]);
        let (keeper, endpoints, held) = runtime.block_on(async {
            let keeper = socket.welcome("bench").await;
            keeper.tell(ToGateway::Synchronized).await;
            let (to_sink, a) = keeper.listen("sink").await;
            let (to_echo, b) = keeper.listen("echo").await;
            keeper.table("sink", &[sink], 1000).await;
            keeper.table("echo", &[echo], 1000).await;
            keeper.taken_in().await;
            (keeper, (to_sink, to_echo), (a, b))
        });
        runtime.block_on(listeners(&keeper, &process, flavour));
        rows.push(Row::measure(&format!("gateway, {flavour}"), endpoints, Some((&process, &process))));
        drop(held);
    }
    print(&rows);
}

/// What a listening service without callers costs.
async fn listeners(keeper: &Keeper, process: &Process, flavour: &str) {
    let before = process.memory_kb();
    let mut held = Vec::new();
    for number in 0..LISTENERS {
        held.push(keeper.listen(&format!("service-{number}")).await);
        keeper.table(&format!("service-{number}"), &[SocketAddr::from(([127, 0, 0, 1], 9))], 1000).await;
    }
    keeper.taken_in().await;
    let after = process.memory_kb();
    println!("gateway, {flavour}: with 2 services {before} KB, with {LISTENERS} more {after} KB (PSS)");
}

struct Row {
    name: String,
    gigabytes_per_second: f64,
    cpu_seconds_per_gigabyte: Option<f64>,
    alone: f64,
    parallel: f64,
    connects: f64,
    idle_kb: Option<f64>,
}

impl Row {
    /// `processes` carry the stream and the requests.
    fn measure(name: &str, (sink, echo): (SocketAddr, SocketAddr), processes: Option<(&Process, &Process)>) -> Self {
        let cpu_before = processes.map(|(process, _)| process.cpu_seconds());
        let gigabytes_per_second = stream(sink);
        let cpu = processes.zip(cpu_before).map(|((process, _), before)| process.cpu_seconds() - before);
        let row = Self {
            name: name.into(),
            gigabytes_per_second,
            cpu_seconds_per_gigabyte: cpu.map(|seconds| seconds / (STREAM_BYTES as f64 / 1e9)),
            alone: round_trips(echo, 1),
            parallel: round_trips(echo, PARALLEL),
            connects: connects(echo),
            idle_kb: processes.map(|(_, process)| idle(echo, process)),
        };
        eprintln!("measured: {name}");
        row
    }
}

fn print(rows: &[Row]) {
    let direct = &rows[0];
    println!("\n(in brackets: share of direct)");
    println!(
        "{:<20}{:>16}{:>12}{:>20}{:>20}{:>20}{:>14}",
        "", "stream GB/s", "CPU s/GB", "round trips/s, 1", "round trips/s, 32", "connects/s", "KB/idle conn"
    );
    let with_share = |value: f64, of: f64, digits: usize| format!("{value:.digits$} ({:.2})", value / of);
    let or_none = |value: Option<f64>| value.map_or("-".to_owned(), |value| format!("{value:.2}"));
    for row in rows {
        println!(
            "{:<20}{:>16}{:>12}{:>20}{:>20}{:>20}{:>14}",
            row.name,
            with_share(row.gigabytes_per_second, direct.gigabytes_per_second, 2),
            or_none(row.cpu_seconds_per_gigabyte),
            with_share(row.alone, direct.alone, 0),
            with_share(row.parallel, direct.parallel, 0),
            with_share(row.connects, direct.connects, 0),
            or_none(row.idle_kb),
        );
    }
}

/// One long stream, from the first byte to the receiver's word that it has all of it.
fn stream(to: SocketAddr) -> f64 {
    let mut stream = TcpStream::connect(to).unwrap();
    let piece = vec![7; PIECE_BYTES];
    let start = Instant::now();
    for _ in 0..STREAM_BYTES / PIECE_BYTES as u64 {
        stream.write_all(&piece).unwrap();
    }
    stream.shutdown(std::net::Shutdown::Write).unwrap();
    let mut received = [0; 8];
    stream.read_exact(&mut received).unwrap();
    let seconds = start.elapsed().as_secs_f64();
    assert_eq!(u64::from_be_bytes(received), STREAM_BYTES);
    STREAM_BYTES as f64 / 1e9 / seconds
}

/// Small questions and answers on connections that stay open.
fn round_trips(endpoint: SocketAddr, connections: usize) -> f64 {
    current_thread().block_on(async {
        let until = tokio::time::Instant::now() + MEASURED;
        let mut callers = tokio::task::JoinSet::new();
        for _ in 0..connections {
            callers.spawn(async move {
                let mut stream = tokio::net::TcpStream::connect(endpoint).await.unwrap();
                stream.set_nodelay(true).unwrap();
                let mut message = [1; MESSAGE_BYTES];
                let mut count = 0_u64;
                while tokio::time::Instant::now() < until {
                    stream.write_all(&message).await.unwrap();
                    stream.read_exact(&mut message).await.unwrap();
                    count += 1;
                }
                count
            });
        }
        callers.join_all().await.iter().sum::<u64>() as f64 / MEASURED.as_secs_f64()
    })
}

/// A new connection for each question.
fn connects(endpoint: SocketAddr) -> f64 {
    let until = Instant::now() + MEASURED;
    let mut count = 0_u64;
    while Instant::now() < until {
        let mut stream = TcpStream::connect(endpoint).unwrap();
        // A reset leaves no port in TIME_WAIT: this counts connects, not the machine's free ports.
        rustix::net::sockopt::set_socket_linger(&stream, Some(Duration::ZERO)).unwrap();
        let mut message = [1; MESSAGE_BYTES];
        stream.write_all(&message).unwrap();
        stream.read_exact(&mut message).unwrap();
        count += 1;
    }
    count as f64 / MEASURED.as_secs_f64()
}

/// The memory of a connection that has carried something and now waits, as in a pool.
fn idle(endpoint: SocketAddr, process: &Process) -> f64 {
    let before = process.memory_kb();
    let open: Vec<TcpStream> = (0..IDLE)
        .map(|_| {
            let mut stream = TcpStream::connect(endpoint).unwrap();
            let mut message = [1; MESSAGE_BYTES];
            stream.write_all(&message).unwrap();
            stream.read_exact(&mut message).unwrap();
            stream
        })
        .collect();
    let after = process.memory_kb();
    (after as f64 - before as f64) / open.len() as f64
}

/// An instance that reads to the end and answers with the count.
fn sink() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let mut piece = vec![0; PIECE_BYTES];
            let mut total = 0_u64;
            loop {
                match stream.read(&mut piece).unwrap() {
                    0 => break,
                    count => total += count as u64,
                }
            }
            stream.write_all(&total.to_be_bytes()).unwrap();
        }
    });
    address
}

/// An instance that sends back what it gets.
fn echo() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    listener.set_nonblocking(true).unwrap();
    std::thread::spawn(move || {
        current_thread().block_on(async {
            let listener = tokio::net::TcpListener::from_std(listener).unwrap();
            loop {
                let (mut stream, _) = listener.accept().await.unwrap();
                stream.set_nodelay(true).unwrap();
                tokio::spawn(async move {
                    let mut message = [0; MESSAGE_BYTES];
                    while stream.read_exact(&mut message).await.is_ok() && stream.write_all(&message).await.is_ok() {}
                });
            }
        });
    });
    address
}

fn current_thread() -> Runtime {
    Builder::new_current_thread().enable_all().build().unwrap()
}

/// The gateway's process.
fn gateway(keeper_socket: &Path, flavour: &str) {
    let runtime = match flavour {
        "1 thread" => current_thread(),
        _ => Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap(),
    };
    runtime.block_on(run(Config::at(keeper_socket))).unwrap();
}

/// The plain proxy's process.
fn plain(target: SocketAddr) {
    Limits::of_this_process();
    current_thread().block_on(async {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        println!("{}", listener.local_addr().unwrap());
        loop {
            let (mut caller, _) = listener.accept().await.unwrap();
            tokio::spawn(async move {
                let mut target = tokio::net::TcpStream::connect(target).await.unwrap();
                caller.set_nodelay(true).unwrap();
                target.set_nodelay(true).unwrap();
                let _ = tokio::io::copy_bidirectional_with_sizes(&mut caller, &mut target, 1 << 16, 1 << 16).await;
            });
        }
    });
}
