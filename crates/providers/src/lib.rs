//! The [`Provider`] trait, shaped like the Open Service Broker API, and one module for each kind of provider.
//!
//! Invariant: every call is safe to repeat. What a call asks for may already be so; then it answers as if it had done
//! it. A call that fails leaves nothing half-done that a repetition would trip over.

use std::collections::BTreeMap;
use std::future::Future;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::pin::Pin;
use std::time::Duration;

use ostler_model::binding::Credentials;
use ostler_model::catalog::{Catalog, Limits, Placement};
use ostler_model::estate::Listen;
use ostler_model::health::Exit;
use ostler_model::ids::{BindingId, EstateName, InstanceId, ServiceName};
use ostler_model::outcome::{BackupMade, Failure, Observation, Running};
use ostler_model::template::Template;

pub mod host;

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
    /// What the provider gave to be kept for this instance when it was provisioned.
    pub secret: Credentials,
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
    /// What it offers now.
    fn catalog(&self) -> Answer<'_, Catalog>;

    /// Makes the instance, without starting it if it can be started. What is returned is sealed and handed back in
    /// every later call as [`InstanceOrder::secret`].
    fn provision<'a>(&'a self, order: &'a InstanceOrder) -> Answer<'a, Credentials>;

    /// What the instance is like right now. Changes nothing.
    fn observe<'a>(&'a self, instance: &'a InstanceId) -> Answer<'a, Observation>;

    /// Runs the buyer's one-off command to its end.
    fn before<'a>(&'a self, order: &'a InstanceOrder) -> Answer<'a, ()>;

    /// Starts the instance. If it runs it is kept as it is, and the provider remembers the order and the grant for the
    /// next restart.
    fn start<'a>(&'a self, order: &'a InstanceOrder, grant: ReflexGrant) -> Answer<'a, Running>;

    /// Stops the instance, gently and after `grace` firmly; its data stays.
    fn stop<'a>(&'a self, instance: &'a InstanceId, grace: Duration) -> Answer<'a, Stopped>;

    /// Deletes the instance with its data. Refused for what this provider cannot prove that it made.
    fn deprovision<'a>(&'a self, instance: &'a InstanceId) -> Answer<'a, ()>;

    /// Makes the credentials by which the binding's consumer uses the running instance through `endpoint`. Asked again
    /// for the same binding (`known` is what it returned then), it makes sure that they work and returns the same.
    fn bind<'a>(
        &'a self,
        order: &'a InstanceOrder,
        binding: &'a BindingId,
        endpoint: SocketAddr,
        known: Option<&'a Credentials>,
    ) -> Answer<'a, Credentials>;

    /// Ends the credentials of a binding.
    fn unbind<'a>(&'a self, order: &'a InstanceOrder, binding: &'a BindingId) -> Answer<'a, ()>;

    /// Makes a backup of the running instance's data.
    fn backup<'a>(&'a self, order: &'a InstanceOrder, name: &'a str) -> Answer<'a, BackupMade>;

    /// Replaces the running instance's data by a backup of this or another instance of its service, after making sure
    /// that the backup is whole.
    fn restore<'a>(&'a self, order: &'a InstanceOrder, backup: &'a BackupMade) -> Answer<'a, ()>;
}
