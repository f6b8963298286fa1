//! HTTP: `GET` of a path is answered with a status from 200 to 399.

use std::pin::pin;

use http_body_util::{BodyExt, Empty};
use hyper::body::{Bytes, Incoming};
use hyper::client::conn::http1;
use hyper::header::{ACCEPT, CONNECTION, HOST, USER_AGENT};
use hyper::{Request, Response, StatusCode, Uri};
use hyper_util::rt::TokioIo;
use ostler_model::health::{Symptom, SymptomKind};

use crate::bounded::Bounded;
use crate::{Target, symptom, tcp};

/// Room for an answer's headers; also the least that hyper takes.
const HEADER_BYTES_MAX: usize = 8 * 1024;
const HEADERS_MAX: usize = 64;
/// A failing answer is only quoted: what no longer fits into the quote need not come.
const BODY_BYTES_MAX: usize = 4 * 1024;
/// What is looked for in a body lies within its beginning.
const EXPECTED_BYTES_MAX: usize = 64 * 1024;

pub(crate) async fn probe(path: &str, target: &Target) -> Result<(), Symptom> {
    ask(path, target, async |response, who| judge(response, who, target).await).await
}

/// `GET` has to be answered with this status, and with a body that holds `contains` within its first 64 KiB.
pub(crate) async fn expects(path: &str, status: u16, contains: Option<&str>, target: &Target) -> Result<(), Symptom> {
    let judge = async |response: Response<Incoming>, who: &str| {
        let given = response.status();
        let body = beginning(response.into_body(), EXPECTED_BYTES_MAX).await;
        let wrong = |what: String| {
            let quote = symptom::quote(&body, target);
            let colon = if quote.is_empty() { "" } else { ": " };
            Err(symptom::symptom(SymptomKind::WrongAnswer, format!("{who} {what}{colon}{quote}")))
        };
        match contains.filter(|wanted| !body.contains(wanted)) {
            _ if given.as_u16() != status => wrong(format!("answered {}, not {status}", named(given))),
            Some(wanted) => wrong(format!("does not hold `{wanted}`")),
            None => Ok(()),
        }
    };
    ask(path, target, judge).await
}

async fn ask(
    path: &str,
    target: &Target,
    judge: impl AsyncFnOnce(Response<Incoming>, &str) -> Result<(), Symptom>,
) -> Result<(), Symptom> {
    let request = request(path, target)?;
    let who = format!("GET {path} at {}", target.address);
    let stream = Bounded::new(tcp::connect(target).await?);
    let (mut sender, connection) = http1::Builder::new()
        .max_buf_size(HEADER_BYTES_MAX)
        .max_headers(HEADERS_MAX)
        .handshake(TokioIo::new(stream))
        .await
        .map_err(|error| broken(&error, &who))?;
    let mut asked = pin!(async {
        let response = sender.send_request(request).await.map_err(|error| broken(&error, &who))?;
        judge(response, &who).await
    });
    // Both halves live in this one future, so that dropping it ends both.
    tokio::select! {
        biased;
        result = &mut asked => return result,
        _ = connection => {} // over, for better or worse: what it has to say comes out of the request
    }
    asked.await
}

fn request(path: &str, target: &Target) -> Result<Request<Empty<Bytes>>, Symptom> {
    let unknown = |problem: &dyn std::fmt::Display| {
        symptom::symptom(SymptomKind::Unknown, format!("cannot ask for the path `{path}`: {problem}"))
    };
    if !path.starts_with('/') {
        return Err(unknown(&"it does not begin with a slash"));
    }
    let uri: Uri = path.parse().map_err(|error| unknown(&error))?;
    Request::get(uri)
        .header(HOST, target.address.to_string())
        .header(USER_AGENT, "ostler-probe")
        .header(ACCEPT, "*/*")
        .header(CONNECTION, "close")
        .body(Empty::new())
        .map_err(|error| unknown(&error))
}

async fn judge(response: Response<Incoming>, who: &str, target: &Target) -> Result<(), Symptom> {
    let status = response.status();
    if status.is_success() || status.is_redirection() {
        return Ok(());
    }
    let quote = symptom::quote(&beginning(response.into_body(), BODY_BYTES_MAX).await, target);
    let colon = if quote.is_empty() { "" } else { ": " };
    Err(symptom::symptom(SymptomKind::WrongAnswer, format!("{who} answered {}{colon}{quote}", named(status))))
}

fn named(status: StatusCode) -> String {
    match status.canonical_reason() {
        Some(reason) => format!("{} {reason}", status.as_str()),
        None => status.as_str().to_owned(),
    }
}

/// As much of a body as a quote can need. The status has been said already, so what goes wrong here adds nothing.
async fn beginning(mut body: Incoming, most: usize) -> String {
    let mut read = Vec::new();
    while let Some(Ok(frame)) = body.frame().await {
        if let Some(data) = frame.data_ref() {
            let room = most - read.len();
            read.extend_from_slice(&data[..data.len().min(room)]);
        }
        if read.len() == most {
            break;
        }
    }
    String::from_utf8_lossy(&read).into_owned()
}

fn broken(error: &hyper::Error, who: &str) -> Symptom {
    if error.is_parse() || error.is_parse_status() {
        return symptom::symptom(SymptomKind::WrongAnswer, format!("{who} was answered with something else than HTTP"));
    }
    symptom::symptom(SymptomKind::Broken, format!("{who}: the connection broke before the answer was whole"))
}
