//! The [`Provider`] trait, shaped like the Open Service Broker API, and one module for each kind of provider.
//!
//! Invariant: every call is safe to repeat. What a call asks for may already be so; then it answers as if it had done
//! it. A call that fails leaves nothing half-done that a repetition would trip over.

use std::collections::BTreeMap;
use std::future::Future;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use ostler_model::binding::Credentials;
use ostler_model::catalog::{Catalog, Limits, Placement};
use ostler_model::estate::{Listen, Parameters};
use ostler_model::health::Exit;
use ostler_model::ids::{BindingId, EstateName, EstateUuid, InstanceId, OfferingName, ServiceName};
use ostler_model::outcome::{Counted, Failure, Observation, Running};
use ostler_model::template::Template;
use ostler_model::time::Timestamp;
use ostler_model::version::Version;

mod failure;
pub mod host;
pub mod osb;
pub mod source;

/// What a provider's calls return.
pub type Answer<'a, T> = Pin<Box<dyn Future<Output = Result<T, Failure>> + Send + 'a>>;

/// Everything that a provider has to know of an instance to make, start or change it.
#[derive(Clone, Debug)]
pub struct InstanceOrder {
    /// Which instance.
    pub instance: InstanceId,
    /// Of which estate.
    pub estate: EstateName,
    /// What was bought.
    pub placement: Placement,
    /// The plan's limits with the estate's in front.
    pub limits: Limits,
    /// How a program takes connections.
    pub listen: Listen,
    /// The buyer's program and its arguments; empty for offerings that bring their own.
    pub run: Vec<Template>,
    /// The buyer's one-off command; empty for none.
    pub before: Vec<Template>,
    /// The buyer's environment variables.
    pub env: BTreeMap<String, Template>,
    /// The folder in which relative program paths start.
    pub folder: PathBuf,
    /// The credentials of the services that it needs, by the need's name, with the offering that each need is.
    pub needs: BTreeMap<ServiceName, Need>,
    /// What the provider gave to be kept for this instance when it was provisioned or started.
    pub secret: Credentials,
    /// What the provider is told of how the instance is to be.
    pub parameters: Parameters,
    /// What the provider is told of where the instance is used, beside what ostler itself says.
    pub context: Parameters,
    /// What a running instance was made or last changed to be, where it is to be changed.
    pub former: Option<Box<Former>>,
    /// How it, and what is bound to it, was asked for, at providers where each ask has a name of its own. In a box, because
    /// a thousand orders for this machine may wait at the same time.
    pub asks: Box<Asks>,
}

/// What an instance was made or last changed to be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Former {
    /// What was bought.
    pub placement: Placement,
    /// What the provider was told of how it is to be.
    pub parameters: Parameters,
    /// What the provider was told of where it is used, if it wants to hear of changes.
    pub context: Parameters,
}

/// How an instance, and what is bound to it, was asked for. Only of use to providers where an ask that was not answered
/// cannot just be repeated.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Asks {
    /// What makes the names of asks unique in the world.
    pub estate: Option<EstateUuid>,
    /// The ask by which the instance was made, or may have been; `None` if there is nothing to look for.
    pub attempt: Option<u32>,
    /// It is known to have been made.
    pub made: bool,
    /// The provider's own name for an instance that ostler did not ask for.
    pub adopted: Option<String>,
    /// What the provider has agreed to do with it and not said to be over.
    pub accepted: Option<Accepted>,
    /// The ask for the credentials with which ostler looks at it.
    pub access: Option<u32>,
    /// These were made.
    pub access_made: bool,
    /// The ask whose credentials are in use, and are in the secret: another one while these are being renewed.
    pub access_used: Option<u32>,
    /// The ask for the binding that is to be made.
    pub round: Option<u32>,
    /// It was made: only where it points is to change.
    pub round_made: bool,
    /// An earlier ask for that binding, whose credentials are in use.
    pub predecessor: Option<u32>,
    /// The asks for bindings that are to be ended.
    pub ends: Vec<(BindingId, u32)>,
}

/// What a provider has agreed to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Accepted {
    /// What.
    pub kind: AcceptedKind,
    /// What the provider calls it.
    pub operation: Option<String>,
    /// Since when.
    pub since: Timestamp,
}

/// The sorts of things that providers agree to do with an instance.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AcceptedKind {
    /// Make it.
    Provision,
    /// Change it.
    Update,
    /// Delete it.
    Deprovision,
}

/// Told when the provider has agreed to something and takes its time: with what it calls that, if it does.
pub type Progress = Arc<dyn Fn(Option<String>) + Send + Sync>;

/// What `start` gives.
#[derive(Clone, Debug)]
pub struct Started {
    /// What runs.
    pub running: Running,
    /// To be sealed in place of [`InstanceOrder::secret`].
    pub secret: Option<Credentials>,
    /// From when on that is to be made anew, where it ends by itself.
    pub renew_at: Option<Timestamp>,
}

/// What `backup` gives.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Dumped {
    /// In whose format it is: the name of this machine's offering that can restore it.
    pub kind: OfferingName,
    /// By which version it was made.
    pub version: Option<Version>,
    /// What is in it, as it was counted at the same time.
    pub counted: Counted,
}

/// What `bind` gives.
#[derive(Clone, Debug)]
pub struct Bound {
    /// What the consumer gets.
    pub credentials: Credentials,
    /// From when on it is to be made anew, where it ends by itself.
    pub renew_at: Option<Timestamp>,
}

/// A need as its consumer sees it.
#[derive(Clone, Debug)]
pub struct Need {
    /// The offering, for the binding's `type`.
    pub offering: String,
    /// From whom, for the binding's `provider`.
    pub provider: String,
    /// What the binding holds.
    pub credentials: Credentials,
}

/// How often a provider may start an instance again by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReflexGrant {
    /// How many restarts at once.
    pub burst: u32,
    /// Until one more is allowed.
    pub refill: Duration,
}

/// What `stop` found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stopped {
    /// How its main process ended; `None` if nothing ran.
    pub exit: Option<Exit>,
    /// It did not end within its grace and was killed.
    pub killed: bool,
}

/// A party from whom services can be bought.
pub trait Provider: Send + Sync {
    /// Whether it does its work elsewhere, so that asking it for much takes nothing from this machine.
    fn is_elsewhere(&self) -> bool {
        false
    }

    /// What it offers now.
    fn catalog(&self) -> Answer<'_, Catalog>;

    /// Makes the instance, without starting it if it can be started. What is returned is sealed and handed back in
    /// every later call as [`InstanceOrder::secret`].
    fn provision<'a>(&'a self, order: &'a InstanceOrder, progress: Progress) -> Answer<'a, Credentials>;

    /// What the instance is like right now. Changes nothing.
    fn observe<'a>(&'a self, order: &'a InstanceOrder) -> Answer<'a, Observation>;

    /// Runs the buyer's one-off command to its end.
    fn before<'a>(&'a self, order: &'a InstanceOrder) -> Answer<'a, ()>;

    /// Starts the instance. If it runs it is kept as it is, and the provider remembers the order and the grant for the
    /// next restart.
    fn start<'a>(&'a self, order: &'a InstanceOrder, grant: ReflexGrant) -> Answer<'a, Started>;

    /// Stops the instance, gently and after `grace` firmly; its data stays.
    fn stop<'a>(&'a self, order: &'a InstanceOrder, grace: Duration) -> Answer<'a, Stopped>;

    /// Deletes the instance with its data. Refused for what this provider cannot prove that it made.
    fn deprovision<'a>(&'a self, order: &'a InstanceOrder, progress: Progress) -> Answer<'a, ()>;

    /// Ends every binding of the order's list, and leaves the instance to the provider. Refused where nobody else would
    /// look after it.
    fn release<'a>(&'a self, order: &'a InstanceOrder) -> Answer<'a, ()>;

    /// Changes the running instance to what is ordered, where it is.
    fn update<'a>(&'a self, order: &'a InstanceOrder, progress: Progress) -> Answer<'a, ()>;

    /// Deletes what the order's ask for the instance may have left behind. That nothing is there is as good. Refused by
    /// providers that leave nothing behind.
    fn mitigate<'a>(&'a self, order: &'a InstanceOrder) -> Answer<'a, ()>;

    /// Makes the credentials by which the binding's consumer uses the running instance through `endpoint`. Asked again
    /// for the same binding (`known` is what it returned then), it makes sure that they work and returns the same.
    fn bind<'a>(
        &'a self,
        order: &'a InstanceOrder,
        binding: &'a BindingId,
        endpoint: SocketAddr,
        known: Option<&'a Credentials>,
    ) -> Answer<'a, Bound>;

    /// Ends the credentials of a binding.
    fn unbind<'a>(&'a self, order: &'a InstanceOrder, binding: &'a BindingId) -> Answer<'a, ()>;

    /// Ends the credentials of the asks in [`Asks::ends`], which nobody uses, and leaves the binding as it is.
    fn tidy<'a>(&'a self, order: &'a InstanceOrder, binding: &'a BindingId) -> Answer<'a, ()>;

    /// Credentials with which the running instance can be looked at as a consumer will see it. They are to be ended by
    /// [`Provider::end_sight`]; asked again, it gives others in their place.
    fn sight<'a>(&'a self, order: &'a InstanceOrder) -> Answer<'a, Credentials> {
        Box::pin(async move { Ok(order.secret.clone()) })
    }

    /// Ends what [`Provider::sight`] has given.
    fn end_sight<'a>(&'a self, _order: &'a InstanceOrder) -> Answer<'a, ()> {
        Box::pin(async { Ok(()) })
    }

    /// Writes the running instance's data into the file `to`, which is not there yet: whole, and on disk, or not at all.
    fn backup<'a>(&'a self, order: &'a InstanceOrder, to: &'a Path) -> Answer<'a, Dumped>;

    /// Replaces the running instance's data by what [`Provider::backup`] has written for this or another instance of its
    /// offering. One that fails leaves the data as it was.
    fn restore<'a>(&'a self, order: &'a InstanceOrder, from: &'a Path) -> Answer<'a, ()>;
}
