//! How soon it is noticed that something is dead or hangs, with the pauses that are declared. Many instances are watched at
//! once, and each is broken at another moment between two probes. `cargo bench -p ostler-probes --bench noticed`.
#![allow(clippy::print_stdout, clippy::unwrap_used, clippy::panic, reason = "it is not shipped")]

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use ostler_model::catalog::ProbePolicy;
use ostler_model::estate::Check;
use ostler_model::health::{Health, SymptomKind};
use ostler_model::ids::InstanceId;
use ostler_model::time::Span;
use ostler_probes::{Target, Word, watch};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::sync::mpsc;

/// So many instances of each kind.
const INSTANCES: u32 = 40;

/// How an instance is broken.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Breaks {
    /// Nobody listens any more.
    Dies,
    /// Connections are taken, and nothing is ever answered.
    Hangs,
}

struct Row {
    what: &'static str,
    every: Span,
    timeout: Span,
    breaks: Breaks,
    /// In what time it has to be noticed.
    bar: Duration,
}

fn main() {
    if !std::env::args().any(|argument| argument == "--bench") {
        return;
    }
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().worker_threads(2).build().unwrap();
    let second = Duration::from_secs(1);
    // What is bought at a broker is asked every 2 s with 1.2 s of time, unless the estate says otherwise.
    let elsewhere = (Span::seconds(2), Span::millis(1200));
    let rows = [
        Row {
            what: "elsewhere, dies",
            every: elsewhere.0,
            timeout: elsewhere.1,
            breaks: Breaks::Dies,
            bar: 5 * second,
        },
        Row {
            what: "elsewhere, says nothing",
            every: elsewhere.0,
            timeout: elsewhere.1,
            breaks: Breaks::Hangs,
            bar: 5 * second,
        },
        Row {
            what: "every 1 s, 500 ms, hangs",
            every: Span::seconds(1),
            timeout: Span::millis(500),
            breaks: Breaks::Hangs,
            bar: 2 * second,
        },
        Row {
            what: "every 10 s, 2 s, hangs",
            every: Span::seconds(10),
            timeout: Span::seconds(2),
            breaks: Breaks::Hangs,
            bar: 20 * second,
        },
    ];
    println!("from the break to the first word of it, milliseconds; {INSTANCES} instances each");
    println!("{:<28} {:>8} {:>8} {:>8} {:>8} {:>14}", "", "median", "max", "bar", "", "known to hang");
    for row in &rows {
        runtime.block_on(measure(row));
    }
}

async fn measure(row: &Row) {
    let mut runs = Vec::new();
    for number in 0..INSTANCES {
        let policy = ProbePolicy {
            ready: Check::Http("/".to_owned()),
            deep: None,
            every: row.every,
            timeout: row.timeout,
            start_within: Span::seconds(60),
        };
        runs.push(tokio::spawn(one(number, policy, row.breaks)));
    }
    let (mut noticed, mut judged) = (Vec::new(), Vec::new());
    for run in runs {
        let (first, last) = run.await.unwrap();
        noticed.push(first);
        judged.extend(last);
    }
    noticed.sort();
    judged.sort();
    let (median, max) = (noticed[noticed.len() / 2], noticed[noticed.len() - 1]);
    let met = if max < row.bar { "met" } else { "MISSED" };
    let known = judged.get(judged.len() / 2).map_or_else(|| "–".to_owned(), |median| median.as_millis().to_string());
    let (median, max, bar) = (median.as_millis(), max.as_millis(), row.bar.as_millis());
    println!("{:<28} {median:>8} {max:>8} {bar:>8} {met:>8} {known:>14}", row.what);
}

/// When it was noticed that one instance broke, and when it was known to hang, after it did.
async fn one(number: u32, policy: ProbePolicy, breaks: Breaks) -> (Duration, Option<Duration>) {
    let (broken, serving) = (Arc::new(AtomicBool::new(false)), TcpListener::bind("127.0.0.1:0").await.unwrap());
    let address = serving.local_addr().unwrap();
    let server = tokio::spawn(serve(serving, broken.clone()));
    let (said, mut hears) = mpsc::unbounded_channel();
    let id: InstanceId = format!("web-{}", number + 1).parse().unwrap();
    let (target, every) = (Target::at(address), policy.every.get());
    let report = move |word| {
        if let Word::Health(health) = word {
            let _ = said.send((Instant::now(), health)); // nobody listens any more once all is known
        }
    };
    let watching = tokio::spawn(async move { watch(&id, &policy, &target, None, report).await });
    let ready = hears.recv().await.unwrap();
    assert_eq!(ready.1, Health::Ready);
    // Each at another moment between two probes.
    tokio::time::sleep(every + every * number / INSTANCES).await;
    let begin = Instant::now();
    broken.store(true, Ordering::SeqCst);
    if breaks == Breaks::Dies {
        server.abort();
        let _ = server.await; // the listener is closed with it
    }
    let (at, health) = hears.recv().await.unwrap();
    assert!(matches!(health, Health::Unready(_)), "{health:?}");
    let judged = match breaks {
        Breaks::Dies => None,
        Breaks::Hangs => {
            let (at, health) = hears.recv().await.unwrap();
            assert!(matches!(&health, Health::Unready(symptom) if symptom.kind == SymptomKind::Hung), "{health:?}");
            Some(at - begin)
        }
    };
    watching.abort();
    (at - begin, judged)
}

async fn serve(listener: TcpListener, broken: Arc<AtomicBool>) {
    let answer = b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\nconnection: close\r\n\r\n";
    while let Ok((mut stream, _)) = listener.accept().await {
        let broken = broken.clone();
        tokio::spawn(async move {
            let _ = stream.read(&mut [0; 1024]).await;
            if broken.load(Ordering::SeqCst) {
                std::future::pending::<()>().await;
            }
            let _ = stream.write_all(answer).await;
        });
    }
}
