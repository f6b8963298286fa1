//! Backups by a broker's own action, where its catalog declares one (`metadata.ostler.backup`): a path below the broker's
//! own address that gives a backup out (`GET`) and takes one in (`PUT`).
//!
//! Invariants: only a path is ever taken from a catalog, so that nothing is sent but to the broker itself; no redirect is
//! followed; a backup's file has its name only once all of it has come and is what its digest says.

use std::io::Read;
use std::path::Path;

use ostler_model::ids::OfferingName;
use ostler_model::outcome::Failure;
use ostler_model::version::Version;
use reqwest::header::{CONTENT_LENGTH, CONTENT_TYPE, HeaderMap, TRANSFER_ENCODING};
use reqwest::{Body, Method, Response, StatusCode};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use sha2::{Digest, Sha256};
use tokio::time::{Instant, timeout, timeout_at};

use super::client::encoded;
use super::instance::name_of;
use super::stream::{
    ALTOGETHER, COUNTED, DIGEST, FileBody, IDLE, NotReceived, Receiving, VERSION, counted_in, digest_header, digest_in,
};
use super::verdict::{self, Object, short};
use super::{OsbProvider, TRIED_AGAIN};
use crate::failure::{needs_person, temporary};
use crate::{Dumped, InstanceOrder};

/// Where the instance's name goes.
const INSTANCE: &str = "{instance_id}";
const PATH_BYTES_MAX: usize = 512;
const TYPE_BYTES_MAX: usize = 100;
/// So much is read of an answer that says why not.
const WHY_BYTES_MAX: usize = 64 * 1024;

/// How a broker gives backups of an offering out, and takes them in.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct BackupAction {
    /// Below the broker's address, with one [`INSTANCE`] in it.
    path: String,
    /// In whose format: the name of ostler's own offering that can restore it, or a name of the broker's.
    pub(crate) format: OfferingName,
    content_type: String,
}

impl BackupAction {
    /// As a catalog declares it.
    ///
    /// # Errors
    /// What is wrong with it, after "has a `backup` ".
    pub(crate) fn read(declared: &Value) -> Result<Self, String> {
        let text = |key: &str| declared.get(key).and_then(Value::as_str);
        let path = text("path").ok_or("without a `path`")?;
        let rest = path.replacen(INSTANCE, "i", 1);
        let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.' | b'/');
        let is_path = rest.starts_with('/') && rest.bytes().all(plain) && path.contains(INSTANCE);
        // Neither a way out of the broker's address, nor what a server might read as one.
        let leads_out = rest.split('/').skip(1).any(|part| part.is_empty() || part == "." || part == "..");
        if !is_path || leads_out || path.len() > PATH_BYTES_MAX {
            return Err(format!("whose `path` is none below its address with one `{INSTANCE}`"));
        }
        let format = text("format").and_then(|format| format.parse().ok());
        let format = format.ok_or("whose `format` is no name of an offering")?;
        let content_type = text("content_type").unwrap_or("application/octet-stream");
        let is_type = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'/' | b'-' | b'+' | b'.' | b'_');
        if content_type.len() > TYPE_BYTES_MAX || !content_type.contains('/') || !content_type.bytes().all(is_type) {
            return Err("whose `content_type` is none".to_owned());
        }
        Ok(Self { path: path.to_owned(), format, content_type: content_type.to_ascii_lowercase() })
    }

    fn path_of(&self, instance: &str) -> String {
        self.path.replacen(INSTANCE, &encoded(instance), 1)
    }
}

impl OsbProvider {
    /// In whose format the broker itself gives out backups of what is placed like this, if it does.
    pub fn backup_format(&self, placement: &ostler_model::catalog::Placement) -> Option<OfferingName> {
        Some(self.terms(placement).ok()?.backup?.format)
    }

    /// The same of an offering in the catalog that was read last.
    pub fn backup_format_of(&self, offering: &OfferingName) -> Option<OfferingName> {
        self.read().as_ref()?.backups.get(offering).cloned()
    }

    pub(super) async fn fetch_backup(&self, order: &InstanceOrder, to: &Path) -> Result<Dumped, Failure> {
        let what = format!("cannot back up {}", order.instance);
        let action = self.action(order)?;
        let until = Instant::now() + ALTOGETHER;
        let response = self.transfer(&what, &action, order, Method::GET, None, until).await?;
        let response = self.agreed(&what, response).await?;
        let head = Head::of(&what, &action, response.headers())?;
        let part = to.with_extension("part");
        let received = receive(&what, response, &head, &part, until).await;
        let kept = received.and_then(|()| {
            std::fs::rename(&part, to).map_err(|error| temporary(format!("{what}: {error}"), "look at the home's disk"))
        });
        if kept.is_err() {
            let _ = std::fs::remove_file(&part); // it may never have been made
        }
        kept.map(|()| Dumped { kind: action.format, version: head.version, counted: head.counted })
    }

    pub(super) async fn send_backup(&self, order: &InstanceOrder, from: &Path) -> Result<(), Failure> {
        let what = format!("cannot restore a backup into {}", order.instance);
        let action = self.action(order)?;
        let until = Instant::now() + ALTOGETHER;
        let response = self.transfer(&what, &action, order, Method::PUT, Some(from), until).await?;
        self.agreed(&what, response).await.map(drop)
    }

    fn action(&self, order: &InstanceOrder) -> Result<BackupAction, Failure> {
        self.terms(&order.placement)?.backup.ok_or_else(|| super::no_backups(order))
    }

    /// Asks, and once more with another password if that is refused.
    async fn transfer(
        &self,
        what: &str,
        action: &BackupAction,
        order: &InstanceOrder,
        method: Method,
        from: Option<&Path>,
        until: Instant,
    ) -> Result<Response, Failure> {
        let (path, identity) = (action.path_of(&name_of(order)?), super::instance::identity(order));
        let mut again = true;
        loop {
            let body = match from {
                Some(from) => Some(outgoing(what, action, from).await?),
                None => None,
            };
            let sent = self.client.transfer(method.clone(), &path, &identity, body, until);
            let response = sent.await?.map_err(|why| temporary(format!("{what}: {why}"), TRIED_AGAIN))?;
            if response.status() == StatusCode::UNAUTHORIZED && again && self.client.forget_secret() {
                again = false;
                continue;
            }
            return Ok(response);
        }
    }

    /// What an answer that is none of success means.
    async fn agreed(&self, what: &str, response: Response) -> Result<Response, Failure> {
        let status = response.status();
        if matches!(status, StatusCode::OK | StatusCode::CREATED | StatusCode::NO_CONTENT) {
            return Ok(response);
        }
        if status.is_redirection() {
            return Err(needs_person(
                format!("{what}: the broker sends ostler elsewhere ({status}), which is not followed"),
                format!("ask the people of `{}` to give out backups below its own address", self.name),
            ));
        }
        let why = why(response).await;
        let is_busy =
            why.as_ref().is_some_and(|object| verdict::text(object, "error").as_deref() == Some("ConcurrencyError"));
        let said =
            why.and_then(|object| verdict::text(&object, "description")).map_or_else(String::new, |d| format!(": {d}"));
        let detail = format!("{what}: the broker answered {}{said}", status.as_u16());
        let is_passing = status.is_server_error() || matches!(status.as_u16(), 408 | 409 | 425 | 429) || is_busy;
        Err(if is_passing {
            temporary(detail, TRIED_AGAIN)
        } else {
            needs_person(detail, format!("check `auth` of `[provider.{}]`, or ask its people", self.name))
        })
    }
}

/// What the head of an answer says of the backup that follows.
struct Head {
    length: Option<u64>,
    digest: Option<[u8; 32]>,
    counted: ostler_model::outcome::Counted,
    version: Option<Version>,
}

impl Head {
    fn of(what: &str, action: &BackupAction, headers: &HeaderMap) -> Result<Self, Failure> {
        let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
        let given = text(CONTENT_TYPE.as_str()).and_then(|given| given.split(';').next()).unwrap_or_default().trim();
        let wrong = |why: String| needs_person(format!("{what}: {why}"), "ask its provider for help");
        if !given.eq_ignore_ascii_case(&action.content_type) {
            let declared = &action.content_type;
            return Err(wrong(format!(
                "the broker sent `{}`, and declares `{declared}`",
                short(given, TYPE_BYTES_MAX)
            )));
        }
        let head = Self {
            length: text(CONTENT_LENGTH.as_str()).and_then(|length| length.parse().ok()),
            digest: text(DIGEST).and_then(digest_in),
            counted: text(COUNTED).map(counted_in).unwrap_or_default(),
            version: text(VERSION).filter(|version| version.len() <= 64).and_then(|version| version.parse().ok()),
        };
        // Where nothing says when it ends, half of it looks like all of it.
        if head.length.is_none() && head.digest.is_none() && !headers.contains_key(TRANSFER_ENCODING) {
            return Err(wrong("the broker does not say how long the backup is".to_owned()));
        }
        Ok(head)
    }
}

async fn receive(what: &str, mut response: Response, head: &Head, part: &Path, until: Instant) -> Result<(), Failure> {
    let not_received = |why: NotReceived| match why {
        NotReceived::Sender(why) => temporary(format!("{what}: {why}"), TRIED_AGAIN),
        NotReceived::Here(error) => temporary(
            format!("{what}: it cannot be kept in {}: {error}", part.parent().unwrap_or(part).display()),
            "make room on that disk, or look at it",
        ),
    };
    let mut receiving = Receiving::begin(part, head.length).await.map_err(not_received)?;
    loop {
        let by = until.min(Instant::now() + IDLE);
        match timeout_at(by, response.chunk()).await {
            Ok(Ok(Some(piece))) => receiving.take(&piece).await.map_err(not_received)?,
            Ok(Ok(None)) => break,
            Ok(Err(error)) => {
                let why = super::client::causes(&error);
                return Err(temporary(format!("{what}: the broker's answer broke off: {why}"), TRIED_AGAIN));
            }
            Err(_) => return Err(temporary(format!("{what}: the broker stopped sending"), TRIED_AGAIN)),
        }
    }
    receiving.end(head.digest).await.map(drop).map_err(not_received)
}

/// What is sent, and what is said of it.
pub(super) struct Outgoing {
    pub(super) body: Body,
    pub(super) length: u64,
    pub(super) digest: String,
    pub(super) content_type: String,
}

async fn outgoing(what: &str, action: &BackupAction, from: &Path) -> Result<Outgoing, Failure> {
    let path = from.to_owned();
    let measured = tokio::task::spawn_blocking(move || {
        let mut file = std::fs::File::open(&path)?;
        let (mut digest, mut length, mut piece) = (Sha256::new(), 0, vec![0; 256 * 1024]);
        loop {
            match file.read(&mut piece)? {
                0 => break,
                read => {
                    digest.update(&piece[..read]);
                    length += read as u64;
                }
            }
        }
        let hex: String = digest.finalize().iter().map(|byte| format!("{byte:02x}")).collect();
        Ok::<_, std::io::Error>((std::fs::File::open(&path)?, length, hex))
    });
    let failed = |error: std::io::Error| temporary(format!("{what}: its file cannot be read: {error}"), TRIED_AGAIN);
    let (file, length, sha256) =
        measured.await.map_err(|error| failed(std::io::Error::other(error)))?.map_err(failed)?;
    let content_type = action.content_type.clone();
    Ok(Outgoing {
        body: Body::wrap(FileBody::send(file, length, ())),
        length,
        digest: digest_header(&sha256),
        content_type,
    })
}

/// What a refusal says, as far as it can be understood.
async fn why(mut response: Response) -> Option<Object> {
    let mut bytes = Vec::new();
    while let Ok(Ok(Some(piece))) = timeout(IDLE, response.chunk()).await {
        if bytes.len() + piece.len() > WHY_BYTES_MAX {
            return None;
        }
        bytes.extend_from_slice(&piece);
    }
    serde_json::from_slice(&bytes).ok()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_catalog_names_a_path_of_its_own_and_nothing_else() {
        let good = BackupAction::read(&json!({"path": "/v2/backups/{instance_id}", "format": "postgresql"})).unwrap();
        assert_eq!(good.path_of("a/b?c"), "/v2/backups/a%2Fb%3Fc");
        assert_eq!((good.format.as_str(), good.content_type.as_str()), ("postgresql", "application/octet-stream"));
        for path in [
            "https://elsewhere.example/{instance_id}",
            "//elsewhere.example/{instance_id}",
            "@elsewhere.example/{instance_id}",
            ":81/{instance_id}",
            "{instance_id}",
            "/all",
            "/../{instance_id}",
            "/a/./{instance_id}",
            "/%2e%2e/{instance_id}",
            "/{instance_id}?to=x",
            "/{instance_id}#x",
            "/{instance_id}/{instance_id}",
            "/{instance_id}/a b",
            "/{instance_id}\r\nx: y",
            &format!("/{}/{{instance_id}}", "a".repeat(600)),
        ] {
            assert!(BackupAction::read(&json!({"path": path, "format": "redis"})).is_err(), "{path}");
        }
        for wrong in [
            json!(7),
            json!({"path": "/{instance_id}"}),
            json!({"path": "/{instance_id}", "format": "-"}),
            json!({"path": "/{instance_id}", "format": "redis", "content_type": "text/html\r\nx: y"}),
            json!({"path": "/{instance_id}", "format": "redis", "content_type": "no"}),
        ] {
            assert!(BackupAction::read(&wrong).is_err(), "{wrong}");
        }
    }
}
