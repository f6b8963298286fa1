//! Telling people: a command with JSON on its standard input, or a POST of the same JSON.

use std::process::Stdio;
use std::time::Duration;

use http_body_util::Full;
use hyper::body::Bytes;
use hyper::{Method, Request, Uri};
use hyper_util::rt::TokioIo;
use ostler_manager::Knowledge;
use ostler_model::estate::{NotifyVia, Occasion};
use ostler_model::ids::ServiceName;
use ostler_model::time::Timestamp;
use serde::Serialize;
use tokio::io::AsyncWriteExt;

/// How long a notification may take: a stuck pager must not pile up.
const WITHIN: Duration = Duration::from_secs(20);

/// What people are told.
#[derive(Clone, Debug, Serialize)]
pub struct Notice {
    /// Of which estate.
    pub estate: String,
    /// About which service.
    pub service: ServiceName,
    /// The occasion.
    pub occasion: Occasion,
    /// One sentence.
    pub message: String,
    /// When; RFC 3339.
    pub at: String,
}

/// Tells everybody whom the estate names for the occasion; problems are given to `note`, never retried: the state
/// itself stays visible in `ostler status`.
pub async fn tell(ways: Vec<(NotifyVia, std::path::PathBuf)>, notice: Notice, note: impl Fn(String)) {
    let body = serde_json::to_vec(&notice).expect("a notice has only string keys");
    for (via, folder) in ways {
        let told = async {
            match &via {
                NotifyVia::Command(command) => run(command, &folder, &body).await,
                NotifyVia::Webhook(address) => post(address, &body).await,
            }
        };
        match tokio::time::timeout(WITHIN, told).await {
            Ok(Ok(())) => {}
            Ok(Err(cause)) => note(format!("cannot tell people about {}: {cause}", notice.service)),
            Err(_) => note(format!("cannot tell people about {}: no end within {WITHIN:?}", notice.service)),
        }
    }
}

/// The ways that the estate names for the occasion, with the folder in which relative paths start.
pub fn ways(known: &Knowledge, occasion: Occasion) -> Vec<(NotifyVia, std::path::PathBuf)> {
    let Some(estate) = &known.estate else { return Vec::new() };
    estate
        .notify
        .iter()
        .filter(|notify| notify.on.contains(&occasion))
        .map(|notify| (notify.via.clone(), estate.folder.clone()))
        .collect()
}

/// A notice about `service`, now.
pub fn notice(known: &Knowledge, service: &ServiceName, occasion: Occasion, message: String, now: Timestamp) -> Notice {
    let estate = known.estate.as_ref().map_or_else(String::new, |estate| estate.name.to_string());
    Notice { estate, service: service.clone(), occasion, message, at: now.to_seconds() }
}

async fn run(command: &[String], folder: &std::path::Path, body: &[u8]) -> Result<(), String> {
    let (program, arguments) = command.split_first().ok_or("no command is named")?;
    let mut child = tokio::process::Command::new(program)
        .args(arguments)
        .current_dir(folder)
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .kill_on_drop(true)
        .spawn()
        .map_err(|error| format!("`{program}`: {error}"))?;
    if let Some(mut stdin) = child.stdin.take() {
        // A command that does not care about the details closes its input; that is no failure.
        let _ = stdin.write_all(body).await;
    }
    let status = child.wait().await.map_err(|error| format!("`{program}`: {error}"))?;
    if status.success() { Ok(()) } else { Err(format!("`{program}` ended with {status}")) }
}

async fn post(address: &str, body: &[u8]) -> Result<(), String> {
    let uri: Uri = address.parse().map_err(|_| format!("`{address}` is not an address"))?;
    let host = uri.host().ok_or_else(|| format!("`{address}` names no host"))?.to_owned();
    let port = uri.port_u16().unwrap_or(80);
    let stream = tokio::net::TcpStream::connect((host.as_str(), port)).await.map_err(|error| error.to_string())?;
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(|error| error.to_string())?;
    let path = uri.path_and_query().map_or("/", |path| path.as_str()).to_owned();
    let request = Request::builder()
        .method(Method::POST)
        .uri(path)
        .header("host", format!("{host}:{port}"))
        .header("content-type", "application/json")
        .header("connection", "close")
        .body(Full::new(Bytes::copy_from_slice(body)))
        .map_err(|error| error.to_string())?;
    let answer = async { sender.send_request(request).await.map_err(|error| error.to_string()) };
    let drive = async {
        let _ = connection.await; // its end is seen by the request
        std::future::pending::<()>().await
    };
    let response = tokio::select! {
        response = answer => response?,
        () = drive => return Err("the connection broke".to_owned()),
    };
    if response.status().is_success() { Ok(()) } else { Err(format!("`{host}` answered {}", response.status())) }
}
