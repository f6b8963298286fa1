//! The door of the broker: its listener, and which request is for whom.
//!
//! Invariant: what comes in is bounded in size, time and number before anybody looks at it.

use std::borrow::Cow;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::body::{Body, Bytes, to_bytes};
use axum::extract::{self, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, Response, StatusCode, Uri, header};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use ostler_runtime::daemon::Loop;
use ostler_runtime::exchange::Exchange;
use percent_encoding::percent_decode_str;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpListener;
use tokio::sync::{Mutex, Semaphore};
use tokio::time::timeout;

use super::answer::{Answer, Answered};
use super::lock::Lock;
use super::transfers::{self, Passing};

/// The largest body of a request.
const BODY_BYTES_MAX: usize = 1 << 20;
/// The most connections at the same time.
const CONNECTIONS_MAX: usize = 256;
/// How long the head of a request, or a TLS handshake, may take.
const HEAD_TIME: Duration = Duration::from_secs(10);
/// How long a request may take, with its body.
const REQUEST_TIME: Duration = Duration::from_secs(90);
const VERSION: HeaderName = HeaderName::from_static("x-broker-api-version");
const REQUEST_IDENTITY: HeaderName = HeaderName::from_static("x-broker-api-request-identity");
/// The oldest version of the API, 2 and this, that is spoken.
const MINOR_MIN: u32 = 13;

/// An open door.
pub(super) struct Door {
    listener: TcpListener,
    shop: Arc<Shop>,
}

/// What requests are answered from.
pub(super) struct Shop {
    pub(super) handle: Loop,
    /// Held by whoever looks at what there is and asks for a change that follows from it.
    pub(super) till: Mutex<()>,
    /// Files of backups, in and out.
    pub(super) exchange: Exchange,
    /// Those that pass now.
    pub(super) passing: Passing,
    lock: Arc<Lock>,
}

impl Shop {
    /// A shop with this lock.
    pub(super) fn new(handle: Loop, lock: Arc<Lock>, exchange: Exchange, passing: Passing) -> Self {
        Self { handle, till: Mutex::new(()), exchange, passing, lock }
    }
}

impl Door {
    /// Opens it.
    ///
    /// # Errors
    /// Why it cannot be opened, and what to do.
    pub(super) async fn open(listen: SocketAddr, shop: Shop) -> Result<Self, String> {
        let cannot = |cause: io::Error| {
            format!("cannot sell at {listen}: {cause}; stop whoever listens there, or set another `listen`")
        };
        let listener = TcpListener::bind(listen).await.map_err(cannot)?;
        Ok(Self { listener, shop: Arc::new(shop) })
    }

    /// Lets people in until it is dropped. Those who are in are served to the end of their requests.
    pub(super) async fn serve(self) {
        let room = Arc::new(Semaphore::new(CONNECTIONS_MAX));
        loop {
            let place = room.clone().acquire_owned().await.expect("the semaphore is never closed");
            let stream = match self.listener.accept().await {
                Ok((stream, _)) => stream,
                Err(_) => {
                    tokio::time::sleep(Duration::from_millis(50)).await; // out of descriptors, say
                    continue;
                }
            };
            let (tls, shop) = (self.shop.lock.tls(), self.shop.clone());
            tokio::spawn(async move {
                let _place = place;
                // Whoever leaves in the middle is nobody's trouble.
                match tls {
                    None => serve_one(stream, shop).await,
                    Some(tls) => {
                        if let Ok(Ok(stream)) = timeout(HEAD_TIME, tls.accept(stream)).await {
                            serve_one(stream, shop).await;
                        }
                    }
                }
            });
        }
    }
}

async fn serve_one(stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static, shop: Arc<Shop>) {
    let service = axum::Router::new().fallback(answer).with_state(shop);
    let served = hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIME)
        .serve_connection(TokioIo::new(stream), TowerToHyperService::new(service));
    drop(served.await);
}

/// A request that was let in.
pub(super) struct Request {
    /// Who asks.
    pub(super) buyer: String,
    pub(super) query: Query,
    body: Bytes,
}

/// What stands behind the question mark.
#[derive(Default, Deserialize)]
#[serde(default)]
pub(super) struct Query {
    pub(super) service_id: Option<String>,
    pub(super) plan_id: Option<String>,
    pub(super) operation: Option<String>,
    pub(super) accepts_incomplete: bool,
}

impl Request {
    pub(super) fn body<T: DeserializeOwned>(&self) -> Result<T, Answer> {
        serde_json::from_slice(&self.body).map_err(|error| Answer::bad(format!("the body cannot be read: {error}")))
    }

    pub(super) fn has_to_accept_incomplete(&self) -> Result<(), Answer> {
        if self.query.accepts_incomplete { Ok(()) } else { Err(Answer::async_required()) }
    }
}

/// A part of the path as it was meant (RFC 3986, section 2.1); `None` if that is no text.
fn decoded(part: &str) -> Option<String> {
    percent_decode_str(part).decode_utf8().ok().map(Cow::into_owned)
}

/// Every request comes through here.
async fn answer(
    State(shop): State<Arc<Shop>>,
    method: Method,
    uri: Uri,
    headers: HeaderMap,
    body: Body,
) -> Response<Body> {
    let mut response = match of_backup(&uri) {
        // It takes as long as the data is large, and has bounds of its own.
        Some(id) => match shop.let_in(&headers) {
            Ok(buyer) => shop.transfer(&method, &buyer, &id, &headers, body).await,
            Err(refused) => Err(refused),
        }
        .unwrap_or_else(Answer::into_response),
        None => {
            let answered = timeout(REQUEST_TIME, shop.answer(&method, &uri, &headers, body)).await;
            let late = || Err(Answer::error(StatusCode::REQUEST_TIMEOUT, "the request took too long"));
            answered.unwrap_or_else(|_| late()).unwrap_or_else(|refused| refused).into_response()
        }
    };
    let is_unknown = response.status() == StatusCode::UNAUTHORIZED;
    if is_unknown {
        let realm = HeaderValue::from_static("Basic realm=\"ostler\", charset=\"UTF-8\"");
        response.headers_mut().insert(header::WWW_AUTHENTICATE, realm);
    }
    if let Some(identity) = headers.get(&REQUEST_IDENTITY) {
        response.headers_mut().insert(REQUEST_IDENTITY, identity.clone());
    }
    response
}

/// The id of the instance whose backup is asked for, if one is.
fn of_backup(uri: &Uri) -> Option<String> {
    let (before, after) = transfers::PATH.split_once("{instance_id}")?;
    let part = uri.path().strip_prefix(before)?.strip_suffix(after)?;
    decoded(part).filter(|_| !part.contains('/'))
}

impl Shop {
    async fn answer(&self, method: &Method, uri: &Uri, headers: &HeaderMap, body: Body) -> Answered {
        let buyer = self.let_in(headers)?;
        let path: Option<Vec<String>> = uri.path().split('/').skip(1).map(decoded).collect();
        let path = path.ok_or_else(|| Answer::bad("the path cannot be read"))?;
        let path: Vec<&str> = path.iter().map(String::as_str).collect();
        let body = to_bytes(body, BODY_BYTES_MAX).await;
        let body =
            body.map_err(|_| Answer::error(StatusCode::PAYLOAD_TOO_LARGE, "the body is too large, or broke off"))?;
        let query = extract::Query::try_from_uri(uri).map_err(|_| Answer::bad("the query cannot be read"))?;
        let request = Request { buyer, query: query.0, body };
        let known = ["GET", "PUT", "PATCH", "DELETE"];
        match (method.as_str(), path.as_slice()) {
            ("GET", ["v2", "catalog"]) => Ok(Answer::ok(self.shelf().await?.to_json())),
            ("PUT", ["v2", "service_instances", id]) => self.provision(&request, id).await,
            ("GET", ["v2", "service_instances", id]) => self.fetch(&request, id).await,
            ("PATCH", ["v2", "service_instances", id]) => self.update(&request, id).await,
            ("DELETE", ["v2", "service_instances", id]) => self.deprovision(&request, id).await,
            ("GET", ["v2", "service_instances", id, "last_operation"]) => self.last_operation(&request, id).await,
            ("PUT", ["v2", "service_instances", id, "service_bindings", binding]) => {
                self.bind(&request, id, binding).await
            }
            ("GET", ["v2", "service_instances", id, "service_bindings", binding]) => {
                self.fetch_binding(&request, id, binding).await
            }
            ("DELETE", ["v2", "service_instances", id, "service_bindings", binding]) => {
                self.unbind(&request, id, binding).await
            }
            ("GET", ["v2", "service_instances", id, "service_bindings", binding, "last_operation"]) => {
                self.last_binding_operation(&request, id, binding).await
            }
            (method, ["v2", "catalog" | "service_instances", ..]) if !known.contains(&method) => {
                Err(Answer::error(StatusCode::METHOD_NOT_ALLOWED, "there is nothing to be done in this way"))
            }
            _ => Err(Answer::not_found("there is no such thing here")),
        }
    }

    /// Who asks, in a way that is understood here.
    fn let_in(&self, headers: &HeaderMap) -> Result<String, Answer> {
        let buyer = self.buyer(headers)?;
        check_version(headers)?;
        Ok(buyer)
    }

    /// Who asks.
    fn buyer(&self, headers: &HeaderMap) -> Result<String, Answer> {
        let unknown = || Answer::error(StatusCode::UNAUTHORIZED, "the user name or the password is wrong");
        let given = headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok()).ok_or_else(unknown)?;
        let (scheme, encoded) = given.split_once(' ').ok_or_else(unknown)?;
        let decoded = STANDARD.decode(encoded.trim()).ok().and_then(|bytes| String::from_utf8(bytes).ok());
        let decoded = decoded.filter(|_| scheme.eq_ignore_ascii_case("basic")).ok_or_else(unknown)?;
        let (name, password) = decoded.split_once(':').ok_or_else(unknown)?;
        if self.lock.opens(name, password) { Ok(name.to_owned()) } else { Err(unknown()) }
    }
}

/// Brokers have to be told which version of the API is spoken (specification, "API Version Header").
fn check_version(headers: &HeaderMap) -> Result<(), Answer> {
    let given = headers.get(&VERSION).and_then(|value| value.to_str().ok());
    let given = given.ok_or_else(|| Answer::bad("the header X-Broker-API-Version is missing"))?;
    let minor = given.trim().strip_prefix("2.").and_then(|minor| minor.parse::<u32>().ok());
    match minor {
        Some(MINOR_MIN..) => Ok(()),
        Some(_) | None => {
            let why = format!("version 2.{MINOR_MIN} of the API or a newer one is spoken here");
            Err(Answer::error(StatusCode::PRECONDITION_FAILED, why))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_encoded_is_decoded_or_refused() {
        assert_eq!(decoded("a%2Fb%C3%BC").as_deref(), Some("a/bü"));
        assert_eq!(decoded("%ff"), None);
        for only_looks_encoded in ["%", "%4", "%zz", "%+F"] {
            assert_eq!(decoded(only_looks_encoded).as_deref(), Some(only_looks_encoded));
        }
    }

    #[test]
    fn versions_of_the_api() {
        let with = |version: &str| HeaderMap::from_iter([(VERSION, version.parse::<HeaderValue>().unwrap())]);
        for (version, status) in
            [("2.13", None), ("2.17", None), ("2.99", None), ("2.12", Some(412)), ("3.0", Some(412))]
        {
            let answered = check_version(&with(version)).err().map(|answer| answer.status.as_u16());
            assert_eq!(answered, status, "{version}");
        }
        assert_eq!(check_version(&HeaderMap::new()).unwrap_err().status, 400);
    }
}
