//! A broker that answers what the test wrote down for it, and remembers what it was asked.

use std::collections::{BTreeMap, VecDeque};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::http::{HeaderMap, Method, Response, Uri};
use serde_json::{Value, json};

/// One answer.
#[derive(Clone, Debug)]
pub(crate) enum Say {
    /// A status and a JSON body.
    Json(u16, Value),
    /// A status and a body of any kind.
    Text(u16, String),
    /// As `Json`, with a header.
    With(u16, &'static str, String, Value),
    /// A status, headers, and a body of any kind.
    File(u16, Vec<(&'static str, String)>, &'static str),
    /// Nothing, for a long time.
    Hang,
    /// A byte a second, for a long time.
    Drip,
    /// This many bytes.
    Huge(usize),
    /// The connection is closed.
    HangUp,
}

/// What it was asked.
#[derive(Clone, Debug)]
pub(crate) struct Seen {
    pub(crate) method: Method,
    pub(crate) path: String,
    pub(crate) query: BTreeMap<String, String>,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Value,
    pub(crate) bytes: Bytes,
    pub(crate) at: std::time::Instant,
}

#[derive(Default)]
struct Script {
    /// By method and the last part of the path: `PUT instance`, `GET last_operation`.
    answers: BTreeMap<String, VecDeque<Say>>,
    seen: Vec<Seen>,
}

/// The broker. It ends with the test.
pub(crate) struct Broker {
    pub(crate) address: SocketAddr,
    script: Arc<Mutex<Script>>,
    task: tokio::task::JoinHandle<()>,
}

impl Drop for Broker {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Broker {
    pub(crate) async fn start() -> Self {
        let script = Arc::new(Mutex::new(Script::default()));
        let app = Router::new().fallback(answer).with_state(script.clone());
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let task = tokio::spawn(async move { axum::serve(listener, app).await.unwrap() });
        Self { address, script, task }
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// From now on `what` is answered like this, one after the other; the last one again and again.
    pub(crate) fn on(&self, what: &str, says: impl IntoIterator<Item = Say>) {
        self.script.lock().unwrap().answers.insert(what.to_owned(), says.into_iter().collect());
    }

    pub(crate) fn seen(&self, what: &str) -> Vec<Seen> {
        let script = self.script.lock().unwrap();
        script.seen.iter().filter(|seen| key(&seen.method, &seen.path) == what).cloned().collect()
    }

    pub(crate) fn asked(&self) -> Vec<String> {
        self.script.lock().unwrap().seen.iter().map(|seen| key(&seen.method, &seen.path)).collect()
    }

    pub(crate) fn forget(&self) {
        self.script.lock().unwrap().seen.clear();
    }
}

fn key(method: &Method, path: &str) -> String {
    let parts: Vec<&str> = path.trim_matches('/').split('/').collect();
    let what = match parts.as_slice() {
        ["v2", "catalog"] => "catalog",
        ["v2", "service_instances", _] => "instance",
        ["v2", "service_instances", _, "last_operation"] => "last_operation",
        ["v2", "service_instances", _, "service_bindings", _] => "binding",
        ["v2", "service_instances", _, "service_bindings", _, "last_operation"] => "binding last_operation",
        _ => "elsewhere",
    };
    format!("{method} {what}")
}

async fn answer(
    State(script): State<Arc<Mutex<Script>>>,
    method: Method,
    uri: Uri,
    headers: HeaderMap,
    body: Bytes,
) -> Response<Body> {
    let say = {
        let mut script = script.lock().unwrap();
        let decode = |text: &str| {
            let bytes = text.as_bytes();
            let mut out = Vec::new();
            let mut at = 0;
            while at < bytes.len() {
                if bytes[at] == b'%' {
                    out.push(u8::from_str_radix(&text[at + 1..at + 3], 16).unwrap());
                    at += 3;
                } else {
                    out.push(bytes[at]);
                    at += 1;
                }
            }
            String::from_utf8(out).unwrap()
        };
        let query = uri.query().unwrap_or_default().split('&').filter_map(|pair| pair.split_once('='));
        let what = key(&method, uri.path());
        script.seen.push(Seen {
            path: uri.path().to_owned(),
            query: query.map(|(name, value)| (name.to_owned(), decode(value))).collect(),
            headers,
            bytes: body.clone(),
            body: serde_json::from_slice(&body).unwrap_or(Value::Null),
            method,
            at: std::time::Instant::now(),
        });
        match script.answers.get_mut(&what) {
            Some(says) if says.len() > 1 => says.pop_front().unwrap(),
            Some(says) => says.front().cloned().unwrap_or(Say::Json(404, json!({}))),
            None => Say::Json(404, json!({"description": "the script has no answer"})),
        }
    };
    let response = |status: u16, body: Body| Response::builder().status(status).body(body).unwrap();
    match say {
        Say::Json(status, value) => response(status, Body::from(value.to_string())),
        Say::Text(status, text) => response(status, Body::from(text)),
        Say::With(status, name, value, body) => {
            Response::builder().status(status).header(name, value).body(Body::from(body.to_string())).unwrap()
        }
        Say::File(status, headers, text) => {
            let named =
                headers.into_iter().fold(Response::builder().status(status), |r, (name, value)| r.header(name, value));
            named.body(Body::from(text)).unwrap()
        }
        Say::Hang => {
            tokio::time::sleep(Duration::from_secs(600)).await;
            response(200, Body::empty())
        }
        Say::Huge(bytes) => response(200, Body::from(vec![b' '; bytes])),
        Say::Drip => {
            let (mut sender, receiver) = tokio::io::duplex(1);
            tokio::spawn(async move {
                for _ in 0..600 {
                    if tokio::io::AsyncWriteExt::write_all(&mut sender, b" ").await.is_err() {
                        return;
                    }
                    tokio::time::sleep(Duration::from_secs(1)).await;
                }
            });
            response(200, Body::new(Reader(receiver)))
        }
        Say::HangUp => response(200, Body::new(Broken)),
    }
}

/// A body that breaks off.
struct Broken;

impl axum::body::HttpBody for Broken {
    type Data = Bytes;
    type Error = std::io::Error;

    fn poll_frame(
        self: std::pin::Pin<&mut Self>,
        _: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Option<Result<http_body::Frame<Bytes>, std::io::Error>>> {
        std::task::Poll::Ready(Some(Err(std::io::ErrorKind::ConnectionReset.into())))
    }
}

/// A body from a reader.
struct Reader(tokio::io::DuplexStream);

impl axum::body::HttpBody for Reader {
    type Data = Bytes;
    type Error = std::io::Error;

    fn poll_frame(
        mut self: std::pin::Pin<&mut Self>,
        context: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Option<Result<http_body::Frame<Bytes>, std::io::Error>>> {
        let mut bytes = [0; 64];
        let mut buffer = tokio::io::ReadBuf::new(&mut bytes);
        let read = tokio::io::AsyncRead::poll_read(std::pin::Pin::new(&mut self.0), context, &mut buffer);
        read.map(|read| match read {
            Ok(()) if buffer.filled().is_empty() => None,
            Ok(()) => Some(Ok(http_body::Frame::data(Bytes::copy_from_slice(buffer.filled())))),
            Err(error) => Some(Err(error)),
        })
    }
}
