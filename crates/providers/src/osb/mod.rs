//! Any Open Service Broker as a provider (Open Service Broker API v2.17, the platform's side).
//!
//! Invariants:
//! - Every ask has a name of its own, derived from the estate's UUID and the number of the ask; nothing is asked for
//!   twice under the same name, because a repeated create proves nothing and a repeated bind can change credentials.
//! - What an answer means is decided by [`verdict`] alone. Whatever leaves it open whether something exists is told as
//!   such ([`FailureClass::InDoubt`](ostler_model::outcome::FailureClass)), never as a failure.
//! - Only [`Provider::mitigate`] and [`Provider::deprovision`] delete instances, and only by the name of one ask.

use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use ostler_model::binding::Credentials;
use ostler_model::catalog::{Catalog, Placement};
use ostler_model::estate::Parameters;
use ostler_model::estate::osb::OsbProvider as Declared;
use ostler_model::ids::{BindingId, OfferingName, ProviderName};
use ostler_model::outcome::{Failure, FailureClass, Observation};
use reqwest::Method;

use self::catalog::{Read, Schemas, Terms, Versions};
use self::client::{Ask, CATALOG_PATH, Client};
use self::verdict::{Asked, Failed, Later, Verdict};
use crate::failure::{failure, needs_person, temporary};
use crate::{Answer, Bound, Dumped, InstanceOrder, Progress, Provider, ReflexGrant, Started, Stopped};

mod backup;
mod binding;
mod breaker;
mod catalog;
mod client;
mod costs;
mod credentials;
mod instance;
mod names;
mod poll;
pub mod stream;
pub mod verdict;

pub use self::client::{encoded, http_client};
pub use self::credentials::{Place, credentials, place};
pub use self::names::guid;

/// For how long a request waits while its broker is left alone, before it is told that it cannot be made.
const PATIENCE: Duration = Duration::from_secs(2);
/// What a person does about a broker that is in trouble.
const TRIED_AGAIN: &str = "nothing, unless it lasts: it is tried again";

/// What was asked for may have been made, and is nobody's.
fn left_behind(what: &str, why: &str) -> Failure {
    failure(FailureClass::LeftBehind, format!("{what}: {why}"), TRIED_AGAIN)
}

/// A broker.
pub struct OsbProvider {
    name: ProviderName,
    client: Client,
    versions: Versions,
    poll_every: Duration,
    poll_within: Duration,
    /// The catalog as it was read last.
    read: Mutex<Option<Read>>,
}

impl OsbProvider {
    /// The broker that is declared like this in an estate file that lies in `folder`. Needs a tokio runtime with time and
    /// I/O when it is used. Nothing is sent yet.
    ///
    /// # Errors
    /// If a file that it names cannot be used.
    pub fn new(name: ProviderName, declared: &Declared, folder: &Path) -> Result<Self, Failure> {
        Ok(Self {
            client: Client::new(declared, folder)?,
            versions: declared.versions.clone(),
            poll_every: declared.manners.poll_every.get(),
            poll_within: declared.manners.poll_within.get(),
            read: Mutex::new(None),
            name,
        })
    }

    /// What of the catalog was left out when it was read last, and why.
    pub fn left_out(&self) -> Vec<String> {
        self.read().as_ref().map(|read| read.problems.clone()).unwrap_or_default()
    }

    /// What is wrong with `parameters` for a new instance of what is placed like this; empty if nothing is, or if the
    /// broker does not say what they have to be like.
    pub fn check_parameters(&self, placement: &Placement, parameters: &Parameters) -> Vec<String> {
        match self.schemas(placement) {
            Some(Schemas { create: Some(schema), .. }) => misfits(&schema, parameters),
            _ => Vec::new(),
        }
    }

    /// By which words the catalog says what an offering is: its name, its tags, and `metadata.ostler.kind`, which is the
    /// first if it is there.
    pub fn words_for(&self, offering: &OfferingName) -> Vec<String> {
        self.read().as_ref().and_then(|read| read.words.get(offering).cloned()).unwrap_or_default()
    }

    async fn read_catalog(&self) -> Result<Catalog, Failure> {
        let ask = self.request(Method::GET, CATALOG_PATH.to_owned());
        let what = format!("cannot read the catalog of `{}`", self.name);
        let mut answer = verdict::read(Asked::Catalog, self.client.ask(&ask).await?.reply);
        // Somebody waits for it, and reading it twice changes nothing.
        if matches!(answer, Verdict::Later(_)) {
            answer = verdict::read(Asked::Catalog, self.client.ask(&ask).await?.reply);
        }
        match answer {
            Verdict::Done(object) => {
                let read = catalog::read(&object, &self.versions)
                    .map_err(|why| needs_person(format!("{what}: {why}"), "ask its provider for help"))?;
                let catalog = read.catalog.clone();
                *self.read() = Some(read);
                Ok(catalog)
            }
            Verdict::Rejected(why) | Verdict::Unknown(why) | Verdict::Conflict(why) => Err(needs_person(
                format!("{what}: {why}"),
                format!("check `url` and `auth` of `[provider.{}]`", self.name),
            )),
            Verdict::Later(later) => Err(temporary(format!("{what}: {}", later.why), TRIED_AGAIN)),
            Verdict::Accepted(_) | Verdict::Gone | Verdict::InProgress(_) | Verdict::Failed(_) | Verdict::Doubt(_) => {
                Err(temporary(format!("{what}: its answer means nothing"), TRIED_AGAIN))
            }
        }
    }

    /// What there is to know of the plan that was bought: as the catalog says now, or as it said then.
    fn terms(&self, placement: &Placement) -> Result<Terms, Failure> {
        let bought = placement.handle.as_deref().and_then(Terms::from_handle).ok_or_else(|| {
            needs_person(
                format!("`{}` was not bought at a broker", placement.offering),
                "give the service another name: what exists does not become something else",
            )
        })?;
        let key = (bought.service.clone(), bought.plan.clone());
        let now = self.read().as_ref().and_then(|read| read.plans.get(&key)).map(|(terms, _)| terms.clone());
        Ok(now.unwrap_or(bought))
    }

    fn schemas(&self, placement: &Placement) -> Option<Schemas> {
        let bought = Terms::from_handle(placement.handle.as_deref()?)?;
        let read = self.read();
        read.as_ref()?.plans.get(&(bought.service, bought.plan)).map(|(_, schemas)| schemas.clone())
    }

    /// Parameters that do not fit are not sent.
    fn check_fit(&self, placement: &Placement, parameters: &Parameters, update: bool) -> Result<(), Failure> {
        let schemas = self.schemas(placement).unwrap_or_default();
        let schema = if update { schemas.update } else { schemas.create };
        let misfits = schema.map(|schema| misfits(&schema, parameters)).unwrap_or_default();
        if misfits.is_empty() {
            return Ok(());
        }
        Err(needs_person(
            format!("the parameters are not what `{}` asks for: {}", placement.plan, misfits.join("; ")),
            "correct `parameters` in the estate file",
        ))
    }

    fn request(&self, method: Method, path: String) -> Ask {
        Ask { method, path, query: Vec::new(), body: None, on_behalf: None, patience: PATIENCE }
    }

    /// What follows from a verdict that is the same for everything that was asked for.
    fn refused(&self, what: &str, verdict: Verdict) -> Failure {
        let class = verdict.class();
        match verdict {
            Verdict::Later(Later { why, .. }) | Verdict::Failed(Failed { why, .. }) | Verdict::Doubt(why) => {
                failure(class, format!("{what}: {why}"), TRIED_AGAIN)
            }
            Verdict::Rejected(why) | Verdict::Unknown(why) | Verdict::Conflict(why) => failure(
                class,
                format!("{what}: {why}"),
                format!(
                    "correct the `plan` or the `parameters` of the service, or `[provider.{}]`, as it says; or ask its people",
                    self.name
                ),
            ),
            Verdict::Done(_) | Verdict::Accepted(_) | Verdict::Gone | Verdict::InProgress(_) => {
                failure(class, format!("{what}: the broker's answer means nothing"), TRIED_AGAIN)
            }
        }
    }

    fn read(&self) -> MutexGuard<'_, Option<Read>> {
        self.read.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What of `parameters` does not fit `schema`. A schema that is none forbids nothing: the broker has the last word.
fn misfits(schema: &serde_json::Value, parameters: &Parameters) -> Vec<String> {
    const SHOWN_MAX: usize = 10;
    const PATTERN_BYTES_MAX: usize = 1 << 20;
    // Its patterns come from the broker: they are matched by an engine that takes no more than linear time.
    let patterns = jsonschema::PatternOptions::regex().size_limit(PATTERN_BYTES_MAX);
    let Ok(validator) = jsonschema::options().with_pattern_options(patterns).build(schema) else { return Vec::new() };
    let instance = serde_json::Value::Object(parameters.0.clone().into_iter().collect());
    let misfits = validator.iter_errors(&instance).take(SHOWN_MAX).map(|error| {
        let place = error.instance_path().to_string();
        let place = if place.is_empty() { String::new() } else { format!("{place}: ") };
        verdict::short(&format!("{place}{error}"), 300)
    });
    misfits.collect()
}

impl Provider for OsbProvider {
    fn is_elsewhere(&self) -> bool {
        true
    }

    fn catalog(&self) -> Answer<'_, Catalog> {
        Box::pin(self.read_catalog())
    }

    fn provision<'a>(&'a self, order: &'a InstanceOrder, progress: Progress) -> Answer<'a, Credentials> {
        Box::pin(async move {
            self.make(order, &progress).await?;
            Ok(Credentials::default())
        })
    }

    fn observe<'a>(&'a self, order: &'a InstanceOrder) -> Answer<'a, Observation> {
        Box::pin(self.look(order))
    }

    fn before<'a>(&'a self, order: &'a InstanceOrder) -> Answer<'a, ()> {
        Box::pin(async move {
            Err(needs_person(
                format!("`{}` runs no program of yours, so `before` cannot be run", order.placement.offering),
                "remove `before` from the service, and write it at one of its consumers",
            ))
        })
    }

    fn start<'a>(&'a self, order: &'a InstanceOrder, _grant: ReflexGrant) -> Answer<'a, Started> {
        Box::pin(self.open(order))
    }

    fn stop<'a>(&'a self, _order: &'a InstanceOrder, _grace: Duration) -> Answer<'a, Stopped> {
        // It runs on, and is used by nobody: brokers have no word for a stop.
        Box::pin(async { Ok(Stopped { exit: None, killed: false }) })
    }

    fn update<'a>(&'a self, order: &'a InstanceOrder, progress: Progress) -> Answer<'a, ()> {
        Box::pin(async move { self.change(order, &progress).await })
    }

    fn deprovision<'a>(&'a self, order: &'a InstanceOrder, progress: Progress) -> Answer<'a, ()> {
        Box::pin(async move { self.delete(order, &progress).await })
    }

    fn release<'a>(&'a self, order: &'a InstanceOrder) -> Answer<'a, ()> {
        Box::pin(self.end_bindings(order))
    }

    fn mitigate<'a>(&'a self, order: &'a InstanceOrder) -> Answer<'a, ()> {
        Box::pin(self.delete_leftover(order))
    }

    fn bind<'a>(
        &'a self,
        order: &'a InstanceOrder,
        binding: &'a BindingId,
        endpoint: std::net::SocketAddr,
        known: Option<&'a Credentials>,
    ) -> Answer<'a, Bound> {
        Box::pin(self.make_binding(order, binding, endpoint, known))
    }

    fn unbind<'a>(&'a self, order: &'a InstanceOrder, _binding: &'a BindingId) -> Answer<'a, ()> {
        Box::pin(self.end_bindings(order))
    }

    fn tidy<'a>(&'a self, order: &'a InstanceOrder, _binding: &'a BindingId) -> Answer<'a, ()> {
        Box::pin(self.end_bindings(order))
    }

    fn backup<'a>(&'a self, order: &'a InstanceOrder, to: &'a Path) -> Answer<'a, Dumped> {
        Box::pin(self.fetch_backup(order, to))
    }

    fn restore<'a>(&'a self, order: &'a InstanceOrder, from: &'a Path) -> Answer<'a, ()> {
        Box::pin(self.send_backup(order, from))
    }
}

fn no_backups(order: &InstanceOrder) -> Failure {
    needs_person(
        format!("the provider of `{}` has no backups that ostler could ask for", order.placement.offering),
        "back it up with its own tools, or with its provider's",
    )
}
