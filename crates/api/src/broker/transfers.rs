//! Backups of what was sold, given out to its buyer and taken in: the action that the catalog declares
//! (`metadata.ostler.backup`), which is ostler's own and no part of the specification.
//!
//! Invariant: a backup is made, and restored, by the manager, as every one is. What passes here is a backup under a name
//! that begins with [`FOR_BUYER`], as long as it passes; what is left of one is deleted by [`drop_left`].

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::body::Body;
use axum::http::{HeaderMap, Method, Response, StatusCode, header};
use http_body::Body as _;
use ostler_manager::{Ask, Event, FOR_BUYER, Knowledge, OperationKind, Origin, Reason, ServiceKnowledge, decide};
use ostler_model::ids::ServiceName;
use ostler_model::outcome::BackupMade;
use ostler_providers::osb::stream::{
    ALTOGETHER, COUNTED, DIGEST, FileBody, IDLE, NotReceived, Receiving, VERSION, counted_header, digest_header,
    digest_in,
};
use ostler_runtime::clock;
use ostler_runtime::daemon::Loop;
use tokio::time::{Instant, timeout_at};

use super::answer::Answer;
use super::door::Shop;
use super::known::{Sold, SoldState, wait};
use super::names;

/// What is sent, either way.
pub(super) const CONTENT_TYPE: &str = "application/octet-stream";
/// Where, below the broker's address.
pub(super) const PATH: &str = "/ostler/service_instances/{instance_id}/backup";
/// How long a backup, or a restore, may take before whoever asked is told that it did not come.
const WITHIN: Duration = Duration::from_secs(3600);

/// Backups that pass now.
#[derive(Clone, Default)]
pub(super) struct Passing(Arc<Mutex<BTreeSet<(ServiceName, String)>>>);

/// One of them, as long as this value.
struct Passes {
    all: Passing,
    service: ServiceName,
    name: String,
    handle: Loop,
}

impl Passing {
    /// One at a time of a service; `None` if one passes already.
    fn begin(&self, service: &ServiceName, handle: &Loop) -> Option<Passes> {
        let bits = clock::now().0;
        let name = format!("{FOR_BUYER}{bits}");
        let mut all = self.lock();
        if all.iter().any(|(passing, _)| passing == service) {
            return None;
        }
        all.insert((service.clone(), name.clone()));
        Some(Passes { all: self.clone(), service: service.clone(), name, handle: handle.clone() })
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, BTreeSet<(ServiceName, String)>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Passes {
    fn drop(&mut self) {
        let (service, name) = (self.service.clone(), self.name.clone());
        self.all.lock().remove(&(service.clone(), name.clone()));
        // Refused as long as it is being made or restored; then it goes with the next round.
        self.handle.tell(Event::Asked(Ask::DropBackup { service, name }));
    }
}

/// Deletes what has passed, or was on its way when its buyer, or ostler, went away.
pub(super) async fn drop_left(handle: &Loop, passing: &Passing) {
    let all = passing.lock().clone();
    let left = move |known: &Knowledge| -> Vec<(ServiceName, String)> {
        let sold = known.services.iter().filter(|(_, service)| matches!(service.origin, Origin::Sold { .. }));
        let named = sold.flat_map(|(name, service)| {
            let passed = service.backups.iter().filter(|(_, made)| made.name.starts_with(FOR_BUYER));
            passed.map(|(_, made)| (name.clone(), made.name.clone()))
        });
        named.filter(|one| !all.contains(one)).collect()
    };
    for (service, name) in handle.known(left).await {
        handle.tell(Event::Asked(Ask::DropBackup { service, name }));
    }
}

impl Shop {
    /// Gives a backup out, or takes one in.
    pub(super) async fn transfer(
        &self,
        method: &Method,
        buyer: &str,
        id: &str,
        headers: &HeaderMap,
        body: Body,
    ) -> Result<Response<Body>, Answer> {
        let name = names::sold(buyer, id);
        let asked = name.clone();
        let sold = self.handle.known(move |known| Sold::of(known, &asked)).await;
        match sold.map(|sold| sold.state) {
            None => return Err(Answer::not_found("there is no such instance")),
            Some(SoldState::There) => {}
            Some(_) => return Err(Answer::concurrent()),
        }
        let passes = self.passing.begin(&name, &self.handle).ok_or_else(Answer::concurrent)?;
        match *method {
            Method::GET => self.give_out(passes).await,
            Method::PUT => self.take_in(passes, headers, body).await,
            _ => Err(Answer::error(StatusCode::METHOD_NOT_ALLOWED, "a backup is got and put")),
        }
    }

    async fn give_out(&self, passes: Passes) -> Result<Response<Body>, Answer> {
        let (service, name) = (passes.service.clone(), passes.name.clone());
        self.ask(Ask::Backup { service: service.clone(), name: name.clone() }).await?;
        let (asked, wanted) = (service.clone(), name.clone());
        let made = wait(&self.handle, WITHIN, move |known| {
            let Some(service) = known.services.get(&asked) else { return Some(None) };
            let made = service.backups.iter().map(|(_, made)| made).find(|made| made.name == wanted);
            match made {
                Some(made) => Some(Some(made.clone())),
                None if service.backup_wanted.as_ref() == Some(&wanted) || is_busy(service) => None,
                None => Some(None),
            }
        });
        let made = made.await.flatten().ok_or_else(|| failed("the backup could not be made"))?;
        let taken = self.exchange.take_out(&service, &made).await.map_err(|_| failed("the backup cannot be read"))?;
        let file = std::fs::File::open(taken.path()).map_err(|_| failed("the backup cannot be read"))?;
        let head = Response::builder()
            .header(header::CONTENT_TYPE, CONTENT_TYPE)
            .header(header::CONTENT_LENGTH, made.bytes)
            .header(DIGEST, digest_header(&made.sha256))
            .header(COUNTED, counted_header(&taken.counted));
        let head = match &taken.version {
            Some(version) => head.header(VERSION, version),
            None => head,
        };
        let body = Body::new(FileBody::send(file, made.bytes, (taken, passes)));
        head.body(body).map_err(|_| failed("the backup cannot be sent"))
    }

    async fn take_in(&self, passes: Passes, headers: &HeaderMap, body: Body) -> Result<Response<Body>, Answer> {
        let (service, name) = (passes.service.clone(), passes.name.clone());
        let brought = self.exchange.expect(&service).await.map_err(|_| failed("nothing can be taken in now"))?;
        let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
        let said = text(header::CONTENT_LENGTH.as_str()).and_then(|length| length.parse().ok());
        let digest = match text(DIGEST).map(digest_in) {
            Some(None) => return Err(Answer::bad("the header Content-Digest holds no SHA-256")),
            digest => digest.flatten(),
        };
        let (bytes, sha256) = receive(brought.path(), said, digest, body).await?;
        let made = BackupMade { name: name.clone(), bytes, sha256, place: None };
        // The fact first: what is kept without one would be nobody's.
        self.ask(Ask::Bring { service: service.clone(), backup: made.clone() }).await?;
        self.exchange.keep(brought, made).await.map_err(|_| failed("it cannot be kept"))?;
        self.ask(Ask::Restore { service: service.clone(), name: name.clone() }).await?;
        let restored = wait(&self.handle, WITHIN, move |known| {
            let Some(service) = known.services.get(&service) else { return Some(false) };
            let is_over = service.restore_wanted.as_ref() != Some(&name) && !is_busy(service);
            is_over.then(|| service.backup_trouble.is_none())
        });
        match restored.await {
            Some(true) => Ok(Answer::ok(serde_json::json!({})).into_response()),
            Some(false) => {
                let why = "it could not be restored: the data is as it was";
                Err(Answer::error(StatusCode::UNPROCESSABLE_ENTITY, why))
            }
            None => Err(failed("the restore has not ended yet")),
        }
    }

    /// Has the manager do something, unless it refuses.
    async fn ask(&self, ask: Ask) -> Result<(), Answer> {
        let event = Event::Asked(ask.clone());
        let withheld = self.handle.known(move |known| decide(known, &event, clock::now()).withheld).await;
        let refused = withheld.into_iter().any(|withheld| matches!(withheld.reason, Reason::Refused(_)));
        if refused {
            return Err(Answer::concurrent()); // why is for its seller
        }
        self.tell(ask).await;
        Ok(())
    }
}

fn failed(why: &str) -> Answer {
    Answer::error(StatusCode::INTERNAL_SERVER_ERROR, why)
}

/// Whether a backup of it is being made, or restored.
fn is_busy(service: &ServiceKnowledge) -> bool {
    let kinds = [OperationKind::Backup, OperationKind::Restore];
    service
        .instances
        .values()
        .filter_map(|instance| instance.operation)
        .any(|operation| kinds.contains(&operation.kind))
}

async fn receive(
    to: &std::path::Path,
    said: Option<u64>,
    digest: Option<[u8; 32]>,
    body: Body,
) -> Result<(u64, String), Answer> {
    let not_received = |why: NotReceived| match why {
        NotReceived::Sender(why) => Answer::bad(why),
        NotReceived::Here(_) => Answer::error(StatusCode::INSUFFICIENT_STORAGE, "there is no room for it"),
    };
    let until = Instant::now() + ALTOGETHER;
    let mut receiving = Receiving::begin(to, said).await.map_err(not_received)?;
    let mut body = body;
    loop {
        let by = until.min(Instant::now() + IDLE);
        let next = std::future::poll_fn(|context| std::pin::Pin::new(&mut body).poll_frame(context));
        match timeout_at(by, next).await {
            Ok(Some(Ok(frame))) => {
                if let Ok(piece) = frame.into_data() {
                    receiving.take(&piece).await.map_err(not_received)?;
                }
            }
            Ok(None) => break,
            Ok(Some(Err(_))) => return Err(Answer::bad("it broke off")),
            Err(_) => return Err(Answer::error(StatusCode::REQUEST_TIMEOUT, "nothing came any more")),
        }
    }
    receiving.end(digest).await.map_err(not_received)
}
