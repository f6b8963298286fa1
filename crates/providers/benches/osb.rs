//! Ten thousand instances made at one broker, and what hostile brokers cost the others. The brokers run in a process of
//! their own, so that their work and memory are not counted. `cargo bench -p ostler-providers --bench osb`.
#![allow(clippy::print_stdout, clippy::unwrap_used, clippy::panic, reason = "it is not shipped")]

use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::http::{Method, Response, Uri};
use ostler_model::binding::Credentials;
use ostler_model::catalog::{Limits, Placement};
use ostler_model::estate::osb::{ApiVersion, OsbAuth, OsbManners, OsbProvider as Declared, OsbTls};
use ostler_model::estate::{Listen, Parameters};
use ostler_model::ids::{EstateUuid, InstanceId};
use ostler_model::time::Span;
use ostler_providers::osb::OsbProvider;
use ostler_providers::{Asks, InstanceOrder, Provider};
use serde_json::{Value, json};

const INSTANCES: u32 = 10_000;
/// How many requests the broker takes at once.
const AT_ONCE: u32 = 64;
/// How long it takes for each.
const ANSWERS_IN: Duration = Duration::from_millis(50);
/// How long it takes to make an instance.
const MADE_IN: Duration = Duration::from_secs(1);
/// For the second table.
const FEW: u32 = 2_000;

fn main() {
    let arguments: Vec<String> = std::env::args().collect();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().worker_threads(1).build().unwrap();
    match arguments.get(1).map(String::as_str) {
        Some("serve") => runtime.block_on(serve(&arguments[2])),
        _ if arguments.iter().any(|argument| argument == "--bench") => runtime.block_on(bench()),
        _ => {}
    }
}

async fn bench() {
    let before = memory("VmRSS");
    let good = Broker::start("good");
    let provider = good.provider().await;
    let took = provision(&provider, 1..=INSTANCES).await;
    let requests = good.requests().await;
    let ideal = ANSWERS_IN * u32::try_from(requests).unwrap() / AT_ONCE;
    let ratio = took.as_secs_f64() / ideal.as_secs_f64();
    let grown = memory("VmHWM").saturating_sub(before);
    println!("{INSTANCES} instances made asynchronously; the broker takes {AT_ONCE} requests at once, 50 ms each");
    println!(
        "  {requests} requests in {:.1} s; ideal {:.1} s; {ratio:.2} x (bar 1.1): {}",
        took.as_secs_f64(),
        ideal.as_secs_f64(),
        met(ratio <= 1.1)
    );
    println!("  memory grew by {:.1} MB at most (bar 100): {}\n", grown as f64 / 1e3, met(grown < 100_000));

    let alone = provision(&provider, INSTANCES + 1..=INSTANCES + FEW).await;
    println!("{FEW} instances made at the good broker        seconds   peak MB");
    println!("{:<44} {:>9.2} {:>9.1}", "alone", alone.as_secs_f64(), memory("VmHWM") as f64 / 1e3);
    let mut from = INSTANCES + FEW + 1;
    for kind in ["hangs", "drips", "gigabyte"] {
        let bad = Broker::start(kind);
        let hostile = bad.provider().await;
        let attack = tokio::spawn(async move {
            loop {
                provision(&hostile, 1..=1_000).await;
            }
        });
        let took = provision(&provider, from..=from + FEW - 1).await;
        attack.abort();
        from += FEW;
        let name = format!("beside 1,000 at one that {}", if kind == "gigabyte" { "answers 1 GB" } else { kind });
        println!("{name:<44} {:>9.2} {:>9.1}", took.as_secs_f64(), memory("VmHWM") as f64 / 1e3);
    }
}

fn met(is_met: bool) -> &'static str {
    if is_met { "met" } else { "MISSED" }
}

/// How long it takes to make these, all asked for at once.
async fn provision(provider: &Arc<OsbProvider>, numbers: std::ops::RangeInclusive<u32>) -> Duration {
    let begun = Instant::now();
    let placement = {
        let catalog = provider.catalog().await.unwrap();
        let offering = catalog.offerings.values().next().unwrap().clone();
        Placement {
            provider: "acme".parse().unwrap(),
            offering: offering.name.clone(),
            plan: offering.plans[0].name.clone(),
            version: None,
            handle: offering.plans[0].handle.clone(),
            maintenance: offering.plans[0].maintenance.as_ref().map(|kept| kept.version.clone()),
        }
    };
    let tasks: Vec<_> = numbers
        .map(|number| {
            let (provider, placement) = (provider.clone(), placement.clone());
            tokio::spawn(async move {
                let order = order(number, placement);
                let _ = provider.provision(&order, Arc::new(|_| {})).await; // hostile ones make nothing
            })
        })
        .collect();
    for task in tasks {
        task.await.unwrap();
    }
    begun.elapsed()
}

fn order(number: u32, placement: Placement) -> InstanceOrder {
    InstanceOrder {
        instance: InstanceId::new("db".parse().unwrap(), number),
        estate: "shop".parse().unwrap(),
        placement,
        limits: Limits::default(),
        listen: Listen::Port,
        run: Vec::new(),
        before: Vec::new(),
        env: BTreeMap::new(),
        folder: "/".into(),
        needs: BTreeMap::new(),
        secret: Credentials::default(),
        parameters: Parameters::default(),
        former: None,
        context: Parameters::default(),
        asks: Box::new(Asks { estate: Some(EstateUuid::from_random([7; 16])), attempt: Some(1), ..Asks::default() }),
    }
}

/// Of this process, in kB.
fn memory(what: &str) -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix(what)?.strip_prefix(':')).unwrap();
    line.split_whitespace().next().unwrap().parse().unwrap()
}

/// A broker in a process of its own.
struct Broker {
    child: Child,
    address: SocketAddr,
}

impl Broker {
    fn start(kind: &str) -> Self {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["serve", kind])
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        Self { child, address: line.trim().parse().unwrap() }
    }

    async fn provider(&self) -> Arc<OsbProvider> {
        let declared = Declared {
            url: format!("http://{}", self.address),
            api: ApiVersion::default(),
            plaintext: false,
            auth: OsbAuth::None,
            tls: OsbTls::default(),
            manners: OsbManners {
                at_once: AT_ONCE,
                timeout: Span::seconds(10),
                poll_every: Span::seconds(2),
                ..OsbManners::default()
            },
            versions: BTreeMap::new(),
        };
        Arc::new(OsbProvider::new("acme".parse().unwrap(), &declared, "/".as_ref()).unwrap())
    }

    /// How many requests about instances it has been sent.
    async fn requests(&self) -> u64 {
        use tokio::io::{AsyncReadExt, AsyncWriteExt};
        let mut stream = tokio::net::TcpStream::connect(self.address).await.unwrap();
        stream.write_all(b"GET /count HTTP/1.0\r\n\r\n").await.unwrap();
        let mut text = String::new();
        stream.read_to_string(&mut text).await.unwrap();
        text.rsplit_once("\r\n\r\n").unwrap().1.trim().parse().unwrap()
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

struct Shop {
    kind: String,
    requests: AtomicU64,
    made: Mutex<BTreeMap<String, Instant>>,
    seen: Mutex<BTreeSet<String>>,
}

async fn serve(kind: &str) {
    let shop = Arc::new(Shop {
        kind: kind.to_owned(),
        requests: AtomicU64::new(0),
        made: Mutex::default(),
        seen: Mutex::default(),
    });
    let app = Router::new().fallback(answer).with_state(shop);
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    println!("{}", listener.local_addr().unwrap());
    axum::serve(listener, app).await.unwrap();
}

async fn answer(State(shop): State<Arc<Shop>>, method: Method, uri: Uri) -> Response<Body> {
    let response = |status: u16, body: Body| Response::builder().status(status).body(body).unwrap();
    let json = |status: u16, value: Value| response(status, Body::from(value.to_string()));
    let path = uri.path();
    match path {
        "/count" => return response(200, Body::from(shop.requests.load(Ordering::SeqCst).to_string())),
        "/v2/catalog" => {
            return json(
                200,
                json!({"services": [{"id": "s", "name": "db", "description": "", "bindable": true,
                "plans": [{"id": "p", "name": "small", "description": ""}]}]}),
            );
        }
        _ => {}
    }
    shop.requests.fetch_add(1, Ordering::SeqCst);
    match shop.kind.as_str() {
        "hangs" => tokio::time::sleep(Duration::from_secs(3600)).await,
        "drips" => return response(200, Body::new(Drip(Box::pin(tokio::time::sleep(Duration::from_secs(1)))))),
        "gigabyte" => return response(200, Body::new(Flood(1 << 30))),
        _ => tokio::time::sleep(ANSWERS_IN).await,
    }
    if method == Method::PUT {
        assert!(shop.seen.lock().unwrap().insert(path.to_owned()), "{path} is asked for twice");
        shop.made.lock().unwrap().insert(path.to_owned(), Instant::now() + MADE_IN);
        return json(202, json!({}));
    }
    let instance = path.trim_end_matches("/last_operation");
    let is_made = shop.made.lock().unwrap().get(instance).is_some_and(|at| Instant::now() >= *at);
    json(200, json!({"state": if is_made { "succeeded" } else { "in progress" }}))
}

/// A byte a second, for ever.
struct Drip(std::pin::Pin<Box<tokio::time::Sleep>>);

impl axum::body::HttpBody for Drip {
    type Data = Bytes;
    type Error = std::io::Error;

    fn poll_frame(
        mut self: std::pin::Pin<&mut Self>,
        context: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Option<Result<http_body::Frame<Bytes>, std::io::Error>>> {
        std::task::ready!(self.0.as_mut().poll(context));
        self.0 = Box::pin(tokio::time::sleep(Duration::from_secs(1)));
        std::task::Poll::Ready(Some(Ok(http_body::Frame::data(Bytes::from_static(b" ")))))
    }
}

/// So many bytes, as fast as they are taken.
struct Flood(usize);

impl axum::body::HttpBody for Flood {
    type Data = Bytes;
    type Error = std::io::Error;

    fn poll_frame(
        mut self: std::pin::Pin<&mut Self>,
        _: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Option<Result<http_body::Frame<Bytes>, std::io::Error>>> {
        static CHUNK: [u8; 65_536] = [b' '; 65_536];
        if self.0 == 0 {
            return std::task::Poll::Ready(None);
        }
        self.0 = self.0.saturating_sub(CHUNK.len());
        std::task::Poll::Ready(Some(Ok(http_body::Frame::data(Bytes::from_static(&CHUNK)))))
    }
}
