//! Requests as an examiner sends them, also those that no honest platform would, and what came back.
//!
//! Invariant: an answer is read up to a bound, in bounded time; no secret of ours stands in what is shown.

use std::path::Path;
use std::time::Duration;

use ostler_model::binding::Secret;
use ostler_model::estate::osb::{OsbAuth, OsbProvider};
use ostler_model::outcome::{Failure, FailureClass};
use ostler_providers::osb::{encoded, http_client};
use ostler_providers::source;
use reqwest::Method;
use reqwest::header::{CONTENT_TYPE, RETRY_AFTER};
use serde_json::Value;

/// How long an answer may take: the specification speaks of 60 s.
const ANSWER_TIME: Duration = Duration::from_secs(60);
/// The largest answer that is read.
const ANSWER_BYTES_MAX: usize = 16 << 20;
/// So much of a body is shown.
const SHOWN_MAX: usize = 300;
/// A JSON object.
pub(crate) type Object = serde_json::Map<String, Value>;

const IDENTITY: &str = "X-Broker-API-Request-Identity";

/// A broker to send requests to.
pub(crate) struct Wire {
    http: reqwest::Client,
    base: String,
    api: String,
    auth: OsbAuth,
    secret: Option<Secret>,
}

/// How a request says who sends it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Who {
    /// As it should.
    #[default]
    Us,
    /// Not at all.
    Nobody,
    /// With a wrong password.
    Wrong,
}

/// What to send.
#[derive(Clone, Debug, Default)]
pub(crate) struct Send {
    pub(crate) path: String,
    pub(crate) query: Vec<(&'static str, String)>,
    pub(crate) body: Option<Value>,
    pub(crate) who: Who,
    /// The version of the API, in place of ours; empty for none.
    pub(crate) version: Option<&'static str>,
}

/// A request and its answer.
#[derive(Clone, Debug)]
pub(crate) struct Exchange {
    /// In one line.
    pub(crate) sent: String,
    /// `None` if no answer came.
    pub(crate) status: Option<u16>,
    pub(crate) object: Option<Object>,
    pub(crate) is_json: bool,
    pub(crate) echoes: bool,
    pub(crate) retry_after: Option<Duration>,
    /// The answer in one line.
    pub(crate) got: String,
}

impl Wire {
    /// To the broker that is declared like this.
    ///
    /// # Errors
    /// If a certificate or the password cannot be found.
    pub(crate) async fn new(declared: &OsbProvider, folder: &Path) -> Result<Self, Failure> {
        let wanted = match &declared.auth {
            OsbAuth::None => None,
            OsbAuth::Basic { password, .. } => Some(password),
            OsbAuth::Bearer { token } => Some(token),
        };
        let secret = match wanted {
            None => None,
            Some(wanted) => Some(source::find(wanted, folder).await.map_err(|cause| Failure {
                class: FailureClass::NeedsPerson,
                detail: format!("cannot find what proves to {} who asks: {cause}", declared.url),
                remedy: "correct where the password or token is found".to_owned(),
            })?),
        };
        Ok(Self {
            http: http_client(declared)?,
            base: declared.url.clone(),
            api: declared.api.to_string(),
            auth: declared.auth.clone(),
            secret,
        })
    }

    /// Whether there is anything to prove.
    pub(crate) fn has_auth(&self) -> bool {
        self.auth != OsbAuth::None
    }

    pub(crate) fn url(&self) -> &str {
        &self.base
    }

    pub(crate) async fn send(&self, method: Method, send: Send) -> Exchange {
        let query: Vec<String> = send.query.iter().map(|(name, value)| format!("{name}={}", encoded(value))).collect();
        let query = if query.is_empty() { String::new() } else { format!("?{}", query.join("&")) };
        let body = send.body.as_ref().map(Value::to_string);
        let shown = body.as_deref().map_or_else(String::new, |body| format!(" {}", short(body)));
        let identity = new_id();
        let mut exchange = Exchange {
            sent: format!("{method} {}{}{shown}", short(&send.path), short(&query)),
            status: None,
            object: None,
            is_json: false,
            echoes: false,
            retry_after: None,
            got: String::new(),
        };
        let mut request = self
            .http
            .request(method, format!("{}{}{query}", self.base, send.path))
            .timeout(ANSWER_TIME)
            .header(IDENTITY, &identity);
        let version = send.version.unwrap_or(&self.api);
        if !version.is_empty() {
            request = request.header("X-Broker-API-Version", version);
        }
        let secret = match (send.who, &self.secret) {
            (Who::Nobody, _) | (_, None) => None,
            (Who::Us, Some(secret)) => Some(secret.expose().to_owned()),
            (Who::Wrong, Some(_)) => Some(format!("not-{identity}")),
        };
        request = match (&self.auth, secret) {
            (OsbAuth::Basic { username, .. }, Some(password)) => request.basic_auth(username, Some(password)),
            (OsbAuth::Bearer { .. }, Some(token)) => request.bearer_auth(token),
            (_, None) | (OsbAuth::None, Some(_)) => request,
        };
        if let Some(body) = body {
            request = request.header(CONTENT_TYPE, "application/json").body(body);
        }
        match request.send().await {
            Ok(response) => read(response, &identity, &mut exchange).await,
            Err(error) => exchange.got = format!("no answer: {}", cause(&error)),
        }
        exchange
    }
}

async fn read(mut response: reqwest::Response, identity: &str, exchange: &mut Exchange) {
    let status = response.status().as_u16();
    let header = |name| response.headers().get(name).and_then(|value| value.to_str().ok());
    exchange.is_json = header(CONTENT_TYPE.as_str()).is_some_and(|kind| kind.starts_with("application/json"));
    exchange.echoes = header(IDENTITY) == Some(identity);
    exchange.retry_after = header(RETRY_AFTER.as_str()).and_then(|text| text.parse().ok()).map(Duration::from_secs);
    let mut bytes = Vec::new();
    loop {
        match response.chunk().await {
            Ok(Some(chunk)) if bytes.len() + chunk.len() > ANSWER_BYTES_MAX => {
                exchange.got = format!("{status} with more than {ANSWER_BYTES_MAX} bytes");
                return;
            }
            Ok(Some(chunk)) => bytes.extend_from_slice(&chunk),
            Ok(None) => break,
            Err(error) => {
                exchange.got = format!("{status}, broken off: {}", cause(&error));
                return;
            }
        }
    }
    exchange.status = Some(status);
    exchange.object = serde_json::from_slice(&bytes).ok();
    exchange.got = match &exchange.object {
        Some(object) => format!("{status} {}", short(&without_credentials(object).to_string())),
        None if bytes.is_empty() => format!("{status} without a body"),
        None => format!("{status} with {} bytes that are no JSON object", bytes.len()),
    };
}

/// Reports are shown to many.
fn without_credentials(object: &Object) -> Value {
    let hide = |(name, value): (&String, &Value)| {
        let is_secret = name == "credentials" && value.is_object();
        (name.clone(), if is_secret { Value::from("(hidden)") } else { value.clone() })
    };
    Value::Object(object.iter().map(hide).collect())
}

fn cause(error: &reqwest::Error) -> String {
    let mut cause: &dyn std::error::Error = error;
    while let Some(next) = cause.source() {
        cause = next;
    }
    short(&cause.to_string())
}

fn short(text: &str) -> String {
    let line: String = text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    match line.char_indices().nth(SHOWN_MAX) {
        Some((end, _)) => format!("{}…", &line[..end]),
        None => line,
    }
}

impl Exchange {
    pub(crate) fn is(&self, statuses: &[u16]) -> bool {
        self.status.is_some_and(|status| statuses.contains(&status))
    }

    /// Refused as one that was understood and is wrong: by a 4xx other than those that say that one may not ask.
    pub(crate) fn is_refused(&self) -> bool {
        self.status.is_some_and(|status| (400..500).contains(&status) && !matches!(status, 401 | 403 | 408 | 429))
    }

    pub(crate) fn text(&self, key: &str) -> Option<&str> {
        self.object.as_ref()?.get(key)?.as_str()
    }

    pub(crate) fn error(&self) -> Option<&str> {
        self.text("error")
    }

    /// What is to be asked about with `last_operation`.
    pub(crate) fn operation(&self) -> Option<String> {
        self.text("operation").map(str::to_owned)
    }
}

/// A new id: a version 4 UUID.
pub(crate) fn new_id() -> String {
    let mut bits = [0_u8; 16];
    // Without randomness it is the same each time; brokers then say that it exists.
    let _ = getrandom::fill(&mut bits);
    ostler_model::ids::EstateUuid::from_random(bits).to_string()
}
