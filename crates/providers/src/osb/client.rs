//! One request to a broker, with good manners: bounded in number, rate, time and size, and left alone when it is down.
//!
//! Invariant: whatever the broker does, a request ends within its time and keeps no more of the answer than its bound;
//! nothing is sent anywhere but to the broker's own address; and no secret is in any text that leaves here.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use ostler_model::binding::Secret;
use ostler_model::estate::osb::{OsbAuth, OsbProvider};
use ostler_model::outcome::Failure;
use reqwest::header::{HeaderMap, HeaderValue};
use reqwest::{Method, RequestBuilder, Response, redirect};
use serde_json::Value;
use tokio::sync::Semaphore;
use tokio::time::{sleep, sleep_until, timeout};

use super::backup::Outgoing;
use super::breaker::{Breaker, Permit};
use super::costs;
use super::verdict::{Body, Reply, short};
use crate::failure::{needs_person, temporary};
use crate::source;

/// How long it may take to reach the broker.
const CONNECT_TIME: Duration = Duration::from_secs(10);
/// The largest answer, except for catalogs.
const ANSWER_BYTES_MAX: usize = 1 << 20;
/// The largest catalog: a thousand plans with their schemas.
const CATALOG_BYTES_MAX: usize = 16 << 20;
/// Backups of one broker that are on their way at the same time.
const TRANSFERS_MAX: usize = 2;
/// Connections that are kept open while nothing is asked.
const IDLE_MAX: usize = 8;

/// A broker to talk to.
pub(crate) struct Client {
    http: reqwest::Client,
    base: String,
    api: String,
    auth: OsbAuth,
    /// The password or token, once it was found.
    secret: Mutex<Option<Secret>>,
    folder: std::path::PathBuf,
    timeout: Duration,
    slots: Semaphore,
    /// Files that are sent or received at the same time, beside the requests.
    transfers: Semaphore,
    /// The pause between the beginnings of two requests, and when the next may begin.
    pace: Option<(Duration, Mutex<tokio::time::Instant>)>,
    breaker: Mutex<Breaker>,
}

/// What is asked.
#[derive(Clone, Debug)]
pub(crate) struct Ask {
    pub(crate) method: Method,
    /// Below the broker's address, each part encoded.
    pub(crate) path: String,
    pub(crate) query: Vec<(&'static str, String)>,
    pub(crate) body: Option<Value>,
    /// It is done on behalf of a person.
    pub(crate) on_behalf: Option<String>,
    /// For how long it may wait while the broker is left alone.
    pub(crate) patience: Duration,
}

/// What came back, and what else the answer's head says.
#[derive(Debug)]
pub(crate) struct Answered {
    pub(crate) reply: Reply,
    /// The broker wants to be asked again only after this.
    pub(crate) retry_after: Option<Duration>,
}

impl From<Reply> for Answered {
    fn from(reply: Reply) -> Self {
        Self { reply, retry_after: None }
    }
}

impl Client {
    /// A client for the broker that is declared like this. Relative programs of `auth` start in `folder`.
    ///
    /// # Errors
    /// If a certificate file cannot be read or used.
    pub(crate) fn new(declared: &OsbProvider, folder: &std::path::Path) -> Result<Self, Failure> {
        let http = http_client(declared)?;
        let manners = declared.manners;
        Ok(Self {
            http,
            base: declared.url.clone(),
            api: declared.api.to_string(),
            auth: declared.auth.clone(),
            secret: Mutex::new(None),
            folder: folder.to_owned(),
            timeout: manners.timeout.get(),
            slots: Semaphore::new(manners.at_once as usize),
            transfers: Semaphore::new(TRANSFERS_MAX),
            pace: manners
                .per_second
                .map(|per_second| (Duration::from_secs(1) / per_second, Mutex::new(tokio::time::Instant::now()))),
            breaker: Mutex::default(),
        })
    }

    /// Sends one request, as soon as the broker may be sent one, and waits for its answer.
    ///
    /// # Errors
    /// If the password cannot be found: then nothing was sent.
    pub(crate) async fn ask(&self, ask: &Ask) -> Result<Answered, Failure> {
        let answered = self.ask_once(ask).await?;
        let refused = matches!(answered.reply, Reply::Answer { status: 401, .. });
        if refused && self.forget_secret() {
            let before = self.secret().await; // found anew: it may have been changed since it was first
            if let Ok(Some(_)) = before {
                return self.ask_once(ask).await;
            }
        }
        Ok(answered)
    }

    async fn ask_once(&self, ask: &Ask) -> Result<Answered, Failure> {
        let secret = self.secret().await?;
        let _slot = self.slots.acquire().await.expect("the semaphore is never closed");
        if let Some(closed) = self.wait_for_permit(ask.patience).await {
            return Ok(Reply::NotSent(closed).into());
        }
        let trial = Trial(self);
        self.keep_pace().await;
        let answered = match timeout(self.timeout, self.exchange(ask, secret)).await {
            Ok(answered) => answered,
            Err(_) => {
                let within = ostler_model::time::in_words(self.timeout);
                Reply::NoAnswer(format!("the broker did not answer within {within}")).into()
            }
        };
        trial.over();
        self.learn(&answered);
        Ok(answered)
    }

    /// Waits until the broker may be asked; what keeps it from that for longer than `patience` is told.
    async fn wait_for_permit(&self, patience: Duration) -> Option<String> {
        let until = Instant::now() + patience;
        loop {
            let now = Instant::now();
            let permit = self.breaker().permit(now);
            match permit {
                Permit::Go => return None,
                Permit::Wait(length, why) if now + length > until => {
                    let length = ostler_model::time::in_words(length);
                    return Some(format!("the broker is left alone for another {length}: {why}"));
                }
                Permit::Wait(length, _) => sleep(length).await,
            }
        }
    }

    async fn keep_pace(&self) {
        let Some((pause, next)) = &self.pace else { return };
        let turn = {
            let mut next = next.lock().unwrap_or_else(PoisonError::into_inner);
            let turn = (*next).max(tokio::time::Instant::now());
            *next = turn + *pause;
            turn
        };
        sleep_until(turn).await;
    }

    async fn exchange(&self, ask: &Ask, secret: Option<Secret>) -> Answered {
        let url = format!("{}{}{}", self.base, ask.path, query(&ask.query));
        let mut request = self.request(ask.method.clone(), url, secret.as_ref()).header("Accept", "application/json");
        if let Some(identity) = &ask.on_behalf {
            request = request.header("X-Broker-API-Originating-Identity", identity);
        }
        if let Some(body) = &ask.body {
            let text = serde_json::to_vec(body).expect("a JSON value can be written");
            request = request.header("Content-Type", "application/json").body(text);
        }
        let mut response = match request.send().await {
            Ok(response) => response,
            Err(error) => {
                let why = causes(&error);
                // What could not be connected to was not sent anything.
                return if error.is_connect() || error.is_builder() {
                    Reply::NotSent(format!("the broker cannot be reached: {why}")).into()
                } else {
                    Reply::NoAnswer(format!("the broker did not answer: {why}")).into()
                };
            }
        };
        let retry_after = retry_after(response.headers());
        let status = response.status().as_u16();
        let most = if ask.path == CATALOG_PATH { CATALOG_BYTES_MAX } else { ANSWER_BYTES_MAX };
        let mut bytes = Vec::new();
        loop {
            match response.chunk().await {
                Ok(Some(chunk)) if bytes.len() + chunk.len() > most => {
                    let body = Body::Malformed(format!("it has more than {most} bytes"));
                    return Answered { reply: Reply::Answer { status, body }, retry_after };
                }
                Ok(Some(chunk)) => bytes.extend_from_slice(&chunk),
                Ok(None) => break,
                Err(error) => {
                    let why = format!("the broker's answer broke off: {}", causes(&error));
                    return Answered { reply: Reply::NoAnswer(why), retry_after };
                }
            }
        }
        Answered { reply: Reply::Answer { status, body: understand(&bytes) }, retry_after }
    }

    /// Sends or asks for a file. What holds a place among the requests are only its beginning and what came of it, not the
    /// time that the file takes; other bounds of its time are the caller's.
    ///
    /// # Errors
    /// If the password cannot be found; within, why no answer came.
    pub(super) async fn transfer(
        &self,
        method: Method,
        path: &str,
        identity: &str,
        outgoing: Option<Outgoing>,
        until: tokio::time::Instant,
    ) -> Result<Result<Response, String>, Failure> {
        let secret = self.secret().await?;
        let _slot = self.transfers.acquire().await.expect("the semaphore is never closed");
        if let Some(closed) = self.wait_for_permit(super::PATIENCE).await {
            return Ok(Err(closed));
        }
        let trial = Trial(self);
        self.keep_pace().await;
        let mut request = self
            .request(method, format!("{}{path}", self.base), secret.as_ref())
            .header("X-Broker-API-Originating-Identity", identity);
        if let Some(outgoing) = outgoing {
            request = request
                .header("Content-Type", outgoing.content_type)
                .header("Content-Length", outgoing.length)
                .header(super::stream::DIGEST, outgoing.digest)
                .body(outgoing.body);
        }
        let answered = tokio::time::timeout_at(until, request.send()).await;
        trial.over();
        let now = Instant::now();
        Ok(match answered {
            Ok(Ok(response)) => {
                self.breaker().answered();
                Ok(response)
            }
            Ok(Err(error)) => {
                let why = format!("the broker did not answer: {}", causes(&error));
                if error.is_connect() {
                    self.breaker().failed(now, &why, chance());
                } else {
                    self.breaker().gave_up(); // that a file broke off says nothing of anything else
                }
                Err(why)
            }
            Err(_) => {
                self.breaker().gave_up();
                Err("the broker did not answer in all the time that a backup may take".to_owned())
            }
        })
    }

    fn request(&self, method: Method, url: String, secret: Option<&Secret>) -> RequestBuilder {
        let request = self
            .http
            .request(method, url)
            .header("X-Broker-API-Version", &self.api)
            .header("X-Broker-API-Request-Identity", request_identity());
        match (&self.auth, secret) {
            (OsbAuth::Basic { username, .. }, Some(password)) => request.basic_auth(username, Some(password.expose())),
            (OsbAuth::Bearer { .. }, Some(token)) => request.bearer_auth(token.expose()),
            (OsbAuth::Basic { .. } | OsbAuth::Bearer { .. }, None) | (OsbAuth::None, _) => request,
        }
    }

    fn learn(&self, answered: &Answered) {
        let mut breaker = self.breaker();
        let now = Instant::now();
        match (&answered.reply, answered.retry_after) {
            (Reply::Answer { status: status @ (429 | 503), .. }, Some(length)) => {
                breaker.asked_for_peace(now, length, &format!("it answered {status}"));
            }
            (Reply::Answer { status: status @ (429 | 500..=599), .. }, _) => {
                breaker.failed(now, &format!("it answered {status}"), chance());
            }
            (Reply::Answer { .. }, _) => breaker.answered(),
            (Reply::NotSent(why) | Reply::NoAnswer(why), _) => breaker.failed(now, why, chance()),
        }
    }

    async fn secret(&self) -> Result<Option<Secret>, Failure> {
        let wanted = match &self.auth {
            OsbAuth::None => return Ok(None),
            OsbAuth::Basic { password, .. } => password,
            OsbAuth::Bearer { token } => token,
        };
        if let Some(known) = self.secret_slot().clone() {
            return Ok(Some(known));
        }
        let found = source::find(wanted, &self.folder).await.map_err(|cause| {
            temporary(
                format!("cannot find what proves to the broker at {} who ostler is: {cause}", self.base),
                "see `auth` in the estate file",
            )
        })?;
        *self.secret_slot() = Some(found.clone());
        Ok(Some(found))
    }

    /// Whether there was one.
    pub(super) fn forget_secret(&self) -> bool {
        self.secret_slot().take().is_some()
    }

    fn secret_slot(&self) -> MutexGuard<'_, Option<Secret>> {
        self.secret.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn breaker(&self) -> MutexGuard<'_, Breaker> {
        self.breaker.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What speaks HTTP to the broker that is declared like this: it follows no redirects, uses no proxies, and trusts and
/// shows the certificates that are declared.
///
/// # Errors
/// If a certificate file cannot be read or used.
pub fn http_client(declared: &OsbProvider) -> Result<reqwest::Client, Failure> {
    let mut builder = reqwest::Client::builder()
        .redirect(redirect::Policy::none())
        .no_proxy()
        .connect_timeout(CONNECT_TIME)
        .pool_max_idle_per_host(IDLE_MAX)
        .pool_idle_timeout(Duration::from_secs(30))
        .tcp_nodelay(true)
        .user_agent(concat!("ostler/", env!("CARGO_PKG_VERSION")));
    let unusable = |what: &str, path: &std::path::Path, why: String| {
        needs_person(
            format!("cannot use the {what} in {}: {why}", path.display()),
            "give a file in PEM format that ostler may read",
        )
    };
    if let Some(path) = &declared.tls.roots {
        let pem = std::fs::read(path).map_err(|error| unusable("certificates", path, error.to_string()))?;
        let roots = reqwest::Certificate::from_pem_bundle(&pem)
            .map_err(|error| unusable("certificates", path, causes(&error)))?;
        builder = builder.tls_certs_only(roots);
    }
    if let Some(path) = &declared.tls.identity {
        let pem = std::fs::read(path).map_err(|error| unusable("certificate", path, error.to_string()))?;
        // The error is not shown: it may quote the key.
        let identity = reqwest::Identity::from_pem(&pem)
            .map_err(|_| unusable("certificate", path, "it does not hold a certificate and its key".to_owned()))?;
        builder = builder.identity(identity);
    }
    builder.build().map_err(|error| {
        needs_person(format!("cannot prepare to talk to {}: {}", declared.url, causes(&error)), "check `tls`")
    })
}

/// Where the catalog lies.
pub(crate) const CATALOG_PATH: &str = "/v2/catalog";

/// Somebody who was let through, and is perhaps stopped before an answer came.
struct Trial<'a>(&'a Client);

impl Trial<'_> {
    /// An answer came, or it is certain that none does.
    fn over(self) {
        std::mem::forget(self); // it holds nothing but a reference
    }
}

impl Drop for Trial<'_> {
    fn drop(&mut self) {
        self.0.breaker().gave_up();
    }
}

fn understand(bytes: &[u8]) -> Body {
    // The parser's own words would quote the answer, which may hold credentials. It gives up at a depth of 128.
    match serde_json::from_slice(bytes) {
        Ok(Value::Object(mut object)) => {
            if object.contains_key("services") {
                costs::keep_digits(&mut object, bytes);
            }
            Body::Object(object)
        }
        Ok(_) => Body::Malformed("it is JSON, and no object".to_owned()),
        Err(_) if bytes.is_empty() => Body::Malformed("it is empty".to_owned()),
        Err(error) => {
            Body::Malformed(format!("it is not JSON from line {}, column {} on", error.line(), error.column()))
        }
    }
}

/// In seconds, or as a date (RFC 9110, section 10.2.3).
fn retry_after(headers: &HeaderMap<HeaderValue>) -> Option<Duration> {
    let text = headers.get("Retry-After")?.to_str().ok()?.trim();
    if let Ok(seconds) = text.parse::<u64>() {
        return Some(Duration::from_secs(seconds));
    }
    let at = jiff::fmt::rfc2822::parse(text).ok()?.timestamp();
    let now = jiff::Timestamp::try_from(SystemTime::now()).ok()?;
    Some(Duration::try_from(at.duration_since(now)).unwrap_or_default())
}

/// An error with everything that led to it, on one line. Addresses are left out: they are known, and may be long.
pub(super) fn causes(error: &reqwest::Error) -> String {
    let mut texts = Vec::new();
    let mut cause: Option<&dyn std::error::Error> = std::error::Error::source(error);
    while let Some(error) = cause {
        texts.push(error.to_string());
        cause = error.source();
    }
    texts.dedup();
    if texts.is_empty() { "the request cannot be made".to_owned() } else { short(&texts.join(": "), 300) }
}

/// A part of a path: everything is encoded that is not plainly a letter, a digit or one of four marks (RFC 3986).
pub fn encoded(part: &str) -> String {
    part.bytes()
        .map(|byte| match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => char::from(byte).to_string(),
            _ => format!("%{byte:02X}"),
        })
        .collect()
}

fn query(pairs: &[(&str, String)]) -> String {
    let pairs: Vec<String> = pairs.iter().map(|(name, value)| format!("{name}={}", encoded(value))).collect();
    if pairs.is_empty() { String::new() } else { format!("?{}", pairs.join("&")) }
}

/// A number that names one request in the broker's logs.
fn request_identity() -> String {
    let mut bits = [0_u8; 16];
    // Without randomness the request is as good; it is only harder to find.
    let _ = getrandom::fill(&mut bits);
    ostler_model::ids::EstateUuid::from_random(bits).to_string()
}

fn chance() -> f64 {
    let mut byte = [0_u8; 2];
    let _ = getrandom::fill(&mut byte);
    f64::from(u16::from_ne_bytes(byte)) / f64::from(u16::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_of_paths_are_encoded() {
        assert_eq!(encoded("aZ09-._~"), "aZ09-._~");
        assert_eq!(encoded("a/b?c=d&e %ä"), "a%2Fb%3Fc%3Dd%26e%20%25%C3%A4");
        assert_eq!(query(&[("a", "x&y".to_owned()), ("b", String::new())]), "?a=x%26y&b=");
    }

    #[test]
    fn waiting_times_are_read_in_both_forms() {
        let header = |text: &str| {
            let mut headers = HeaderMap::new();
            headers.insert("Retry-After", HeaderValue::from_str(text).unwrap());
            retry_after(&headers)
        };
        assert_eq!(header("7"), Some(Duration::from_secs(7)));
        assert_eq!(header("Sun, 06 Nov 1994 08:49:37 GMT"), Some(Duration::ZERO), "it is over");
        assert!(header("Thu, 06 Nov 2994 08:49:37 GMT").unwrap() > Duration::from_secs(1_000_000));
        assert_eq!((header("soon"), header("-1"), retry_after(&HeaderMap::new())), (None, None, None));
    }

    #[test]
    fn answers_that_are_no_objects_do_not_show_what_they_hold() {
        for (bytes, why) in [
            (&b""[..], "it is empty"),
            (b"[]", "it is JSON, and no object"),
            (b"{\"password\":\"hunter2\"", "it is not JSON from line 1, column 21 on"),
        ] {
            assert_eq!(understand(bytes), Body::Malformed(why.to_owned()));
        }
        let deep = "[".repeat(100_000);
        assert!(matches!(understand(format!("{{\"a\":{deep}").as_bytes()), Body::Malformed(_)));
    }
}
