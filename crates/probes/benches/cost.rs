//! What one probe costs this process: processor time of the probing thread, and memory of a watcher that waits.
//! The other side runs in a thread of its own, so that its work is not counted.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener};
use std::time::Duration;

use ostler_model::catalog::ProbePolicy;
use ostler_model::estate::Check;
use ostler_model::time::Span;
use ostler_probes::{Target, probe, watch};
use rustix::time::{ClockId, clock_gettime};

const PROBES: u32 = 5_000;

#[allow(clippy::print_stdout)] // a benchmark's output is its purpose
fn main() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime can be made");
    for (name, check, answer) in [
        ("tcp", Check::Tcp, ""),
        ("http", Check::Http("/readyz".to_owned()), "HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n"),
        ("redis", Check::Redis, "+PONG\r\n"),
    ] {
        let target = Target::at(serve(answer));
        let cpu = runtime.block_on(async {
            let begin = cpu_time();
            for _ in 0..PROBES {
                probe(&check, &target, Duration::from_secs(10)).await.expect("the fake is healthy");
            }
            (cpu_time() - begin) / PROBES
        });
        let share = cpu.as_secs_f64() * 1000.0 / 10.0 * 100.0;
        println!(
            "{name:6} {:6.1} µs of processor time a probe; 1,000 instances every 10 s: {share:.2} % of a core",
            cpu.as_secs_f64() * 1e6
        );
    }
    let policy = ProbePolicy {
        ready: Check::Tcp,
        deep: None,
        every: Span::seconds(10),
        timeout: Span::seconds(1),
        start_within: Span::seconds(30),
    };
    let (id, target) = ("web-1".parse().expect("it is an id"), Target::at(([127, 0, 0, 1], 1).into()));
    println!("a watcher is {} bytes", size_of_val(&watch(&id, &policy, &target, None, drop)));
}

fn serve(answer: &'static str) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("loopback has free ports");
    let address = listener.local_addr().expect("a bound socket has an address");
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let Ok(mut stream) = stream else { continue };
            if !answer.is_empty() {
                let _ = stream.read(&mut [0; 1024]);
                let _ = stream.write_all(answer.as_bytes());
            }
        }
    });
    address
}

fn cpu_time() -> Duration {
    let now = clock_gettime(ClockId::ThreadCPUTime);
    Duration::new(
        now.tv_sec.try_into().expect("processor time is not negative"),
        now.tv_nsec.try_into().expect("nanoseconds fit"),
    )
}
