//! What the manager knows: a fold of the facts, and nothing else.
//!
//! Invariant: only [`crate::evolve`] changes it. Counters and sets that speed up questions (`ready`, `outdated`,
//! `sick`, `repairing`) always equal what a recount would give; [`crate::check`] recounts them.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::Arc;

use ostler_model::catalog::{Catalog, Offering, Placement};
use ostler_model::estate::{Check, Estate, Parameters, ProbeOverride, Protocol, Provider, Service};
use ostler_model::health::Health;
use ostler_model::ids::{AttemptId, BindingId, CommandId, EstateUuid, InstanceId, ProviderName, ServiceName};
use ostler_model::outcome::{BackupMade, Failure};
use ostler_model::sale::{Guest, Sale};
use ostler_model::time::{Span, Timestamp};
use serde::{Deserialize, Serialize};

pub use crate::binding::{Binding, BindingState};
use crate::brake::Brake;
use crate::command::Command;
use crate::credit::Claims;
use crate::drill::{Drilled, Drilling};
use crate::evidence::Evidence;
pub use crate::instance::{Instance, MadeAs, Operation, OperationKind, Phase, Repair};
pub use crate::launch::{ChangedLaunch, Launch, Rejected};
use crate::level::Level;
use crate::moving::{Moved, Moving};
use crate::overrides::Overrides;
use crate::remedy::{Ailment, Learned};
use crate::rounds::Leftover;
use crate::upgrade::{Agenda, Upgrades};
use crate::vault::Vault;

/// Everything that is known.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Knowledge {
    /// The estate's own id.
    pub uuid: Option<EstateUuid>,
    /// What was declared last.
    pub estate: Option<Arc<Estate>>,
    /// Providers that are no longer declared, as they were declared last, as long as something is known that was bought
    /// there: it is not lost with them.
    #[serde(default)]
    pub former_providers: BTreeMap<ProviderName, Provider>,
    /// What each provider offers.
    pub catalogs: BTreeMap<ProviderName, Arc<Catalog>>,
    /// Every service that is declared, or whose instances still exist.
    pub services: BTreeMap<ServiceName, Box<ServiceKnowledge>>,
    /// The highest instance number that each service ever had.
    pub numbers: BTreeMap<ServiceName, u32>,
    /// Commands without an outcome.
    pub commands: BTreeMap<CommandId, Command>,
    /// The last command's id.
    pub last_command: CommandId,
    /// A person asked that everything be stopped.
    pub down: bool,
    /// Which services use a service, by declaration or by a binding that still exists.
    pub consumers: BTreeMap<ServiceName, BTreeSet<ServiceName>>,
    /// Instances that are being repaired: these count against the share that may be at once.
    pub repairing: BTreeSet<InstanceId>,
    /// Instances whose repair could begin, by the time from which it may.
    pub sick: BTreeSet<(Timestamp, InstanceId)>,
    /// How many instances are not retired, in the whole estate.
    pub instances: usize,
    /// What was seen of each provider.
    #[serde(default)]
    pub evidence: BTreeMap<ProviderName, Evidence>,
    /// Service credits that were claimed, and what came of it.
    #[serde(default, skip_serializing_if = "Claims::is_empty")]
    pub claims: Claims,
    /// How often each remedy helped, and did not.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub learned: Learned,
    /// How many remedies there were lately.
    #[serde(default)]
    pub brake: Brake,
    /// The drill under way.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub drill: Option<Box<Drilling>>,
    /// The number of the last drill.
    #[serde(default)]
    pub last_drill: u32,
    /// What could be upgraded, as far as it was looked.
    #[serde(default)]
    pub agenda: Agenda,
    /// Something has changed since it was looked what could be upgraded.
    #[serde(default)]
    pub agenda_is_old: bool,
    /// The services that are being upgraded.
    #[serde(default)]
    pub upgrading: BTreeSet<ServiceName>,
    /// What people instruct against, or ahead of, what would be decided.
    #[serde(default, skip_serializing_if = "Overrides::is_empty")]
    pub overrides: Overrides,
    /// The time of the newest fact: until then ostler was there.
    #[serde(default)]
    pub latest: Timestamp,
}

/// What is known of one service.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServiceKnowledge {
    /// Why there is such a service.
    #[serde(default)]
    pub origin: Origin,
    /// As it was declared last.
    pub spec: Arc<Service>,
    /// Whether it is declared now.
    pub declared: bool,
    /// Where it is bought.
    pub placement: Option<Placement>,
    /// Its stable address.
    pub endpoint: Endpoint,
    /// What its instances were or are to be started from, by generation.
    pub launches: BTreeMap<u32, Arc<Launch>>,
    /// The newest launch; 0 before there is one.
    pub generation: u32,
    /// The launch whose one-off command has succeeded.
    pub before_done: Option<u32>,
    /// How the one-off command of the newest launch has failed, until it succeeds.
    #[serde(default)]
    pub before_trouble: Option<BeforeTrouble>,
    /// What people were told of repairs that succeeded.
    #[serde(default)]
    pub healed: Healed,
    /// The number of instances that a person set.
    pub scale: Option<u32>,
    /// Counts the restarts that people asked for.
    pub restart_round: u32,
    /// Its instances by number.
    pub instances: BTreeMap<u32, Box<Instance>>,
    /// Its bindings to what it needs.
    pub bindings: BTreeMap<ServiceName, Binding>,
    /// Why the last binding, or its end, failed, and until when it is not tried again.
    pub binding_trouble: Option<(Timestamp, Failure)>,
    /// How many times in a row a binding, or its end, failed.
    #[serde(default)]
    pub binding_failures: u32,
    /// How many of its instances may get traffic.
    pub ready: usize,
    /// How many of its instances are not retired.
    pub active: usize,
    /// Its instances that run from an old launch or an old restart round.
    pub outdated: BTreeSet<u32>,
    /// What a person asked to become of its instances: their last word counts.
    pub ending: Option<Ending>,
    /// A backup that was asked for and not made yet.
    pub backup_wanted: Option<String>,
    /// A backup that is to be restored.
    pub restore_wanted: Option<String>,
    /// The backups that were made, oldest first.
    pub backups: Vec<(Timestamp, BackupMade)>,
    /// Why the last backup or restore failed.
    pub backup_trouble: Option<Failure>,
    /// How many backups have failed since the last one that was made.
    #[serde(default)]
    pub backup_failures: u32,
    /// When a backup was last asked for, or the service first started: the schedule counts from here. One that failed
    /// sets it back, so that the next one comes sooner.
    pub backup_clock: Option<Timestamp>,
    /// What is known of its backups beyond that they were made.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub vault: Option<Box<Vault>>,
    /// What asks for instances may have left behind at a provider.
    #[serde(default)]
    pub leftovers: BTreeMap<AttemptId, Leftover>,
    /// How it has served, where something is declared of that.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub level: Option<Box<Level>>,
    /// The last change of what its instances are started from, if it worked before that.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub changed: Option<ChangedLaunch>,
    /// A change that was taken back.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rejected: Option<Box<Rejected>>,
    /// Its move to another provider, while one is under way.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub moving: Option<Box<Moving>>,
    /// Its last move that is over.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub moved: Option<Box<Moved>>,
    /// The ailment against which it is being moved, if it is moved as a remedy.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub moved_for: Option<Ailment>,
    /// Counts how often its callers were cut off from what they could get at until then: whoever carries them knows by
    /// it which word is the last.
    #[serde(default)]
    pub epoch: u64,
    /// What former drills of it have shown.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub drilled: Option<Box<Drilled>>,
    /// What is known of its upgrades.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub upgrades: Option<Box<Upgrades>>,
}

/// Why there is a service.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Origin {
    /// The estate file declares it.
    #[default]
    Declared,
    /// Somebody bought it from this estate.
    Sold {
        /// Who, and what.
        sale: Arc<Sale>,
        /// It has been ready: what was bought was delivered.
        delivered: bool,
    },
    /// Somebody elsewhere uses what was sold. Nothing of it runs here: it only has a binding.
    Guest(Arc<Guest>),
}

/// What a person asked to become of the instances of a service that is not wanted any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Ending {
    /// They are to be deleted with their data.
    Delete,
    /// They are to be left to their provider.
    Release,
}

/// How a service's one-off command failed. It belongs to the launch, whichever instance it ran on behalf of.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BeforeTrouble {
    /// The launch.
    pub generation: u32,
    /// How many times in a row it failed.
    pub failures: u32,
    /// Not tried again before this.
    pub not_before: Timestamp,
    /// Why it failed last.
    pub failure: Failure,
}

/// What people were told of repairs that succeeded.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Healed {
    /// When they were told last.
    pub told: Option<Timestamp>,
    /// How many repairs have succeeded since without their being told.
    pub untold: u32,
}

/// A service's stable address.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Endpoint {
    /// Where it is; kept once it was assigned.
    pub address: Option<SocketAddr>,
    /// It is open, as far as is known since everything was last looked at.
    pub open: bool,
    /// It was ordered to be opened, and is not known to have been closed since.
    pub may_be_open: bool,
    /// It is being opened or closed.
    pub operation: Option<CommandId>,
    /// Why it could not be opened.
    pub trouble: Option<Failure>,
    /// How many times in a row it could not be opened, or closed.
    #[serde(default)]
    pub failures: u32,
    /// Not tried again before this.
    pub not_before: Timestamp,
}

/// What is to become of an instance.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wanted {
    /// It is to run.
    Running,
    /// It is to be stopped, and kept.
    AtRest,
    /// It is to be no concern of ostler's any more.
    Gone(Ending),
}

impl Ending {
    /// What people say for it: "delete".
    pub fn in_words(self) -> &'static str {
        match self {
            Self::Delete => "delete",
            Self::Release => "release",
        }
    }
}

impl Knowledge {
    /// The instance, if it is known.
    pub fn instance(&self, id: &InstanceId) -> Option<&Instance> {
        self.services.get(id.service())?.instances.get(&id.number()).map(Box::as_ref)
    }

    /// What is declared is held once, where it was read back from somewhere that knows nothing of sharing.
    pub fn share_declared(&mut self) {
        let declared = self.estate.iter().flat_map(|estate| &estate.services);
        for (name, spec) in declared {
            if let Some(service) = self.services.get_mut(name).filter(|service| service.spec == *spec) {
                service.spec = spec.clone();
            }
        }
    }

    /// The provider, as it is declared or was declared last.
    pub fn provider(&self, name: &ProviderName) -> Option<&Provider> {
        let declared = self.estate.as_ref().and_then(|estate| estate.providers.get(name));
        declared.or_else(|| self.former_providers.get(name))
    }

    /// What the service's provider says of its offering.
    pub fn offering(&self, service: &ServiceKnowledge) -> Option<&Offering> {
        let placement = service.placement.as_ref()?;
        self.catalogs.get(&placement.provider)?.offerings.get(&placement.offering)
    }

    /// Whether the service is to run.
    pub fn is_wanted(&self, service: &ServiceKnowledge) -> bool {
        service.declared && !self.down && service.ending.is_none()
    }

    /// What is to become of the instance.
    pub fn wanted(&self, service: &ServiceKnowledge, instance: &Instance) -> Wanted {
        if let Some(ending) = service.ending {
            Wanted::Gone(ending)
        } else if let Some(ending) = instance.ending.filter(|_| !self.down) {
            Wanted::Gone(ending)
        } else if self.down || !service.declared || instance.retired {
            Wanted::AtRest
        } else {
            Wanted::Running
        }
    }

    /// What the provider of `service` is told of where it is used, if it wants to hear of changes.
    pub fn heard_context(&self, service: &ServiceKnowledge) -> Parameters {
        let hears = self.offering(service).is_some_and(|offering| offering.actions.hears_context);
        let provider = service.placement.as_ref().map(|placement| &placement.provider).filter(|_| hears);
        let declared = provider.and_then(|name| self.estate.as_ref()?.providers.get(name));
        declared.map(|provider| provider.context.clone()).unwrap_or_default()
    }

    /// Whether an ask that was not answered cannot just be repeated at the service's provider.
    pub fn is_unrepeatable(&self, service: &ServiceKnowledge) -> bool {
        self.offering(service).is_some_and(|offering| offering.actions.unrepeatable)
    }

    /// Whether the service's instances can be stopped and started again; otherwise they are changed, and repaired, where
    /// they are.
    pub fn can_be_restarted(&self, service: &ServiceKnowledge) -> bool {
        self.offering(service).is_none_or(|offering| offering.actions.start_stop)
    }

    /// How the service's instances are asked for their health: the estate's word before the offering's.
    pub fn probe_policy(&self, service: &ServiceKnowledge) -> Option<ostler_model::catalog::ProbePolicy> {
        self.policy_by(service, self.offering(service)?)
    }

    /// How this instance of the service is asked for its health.
    pub fn probe_policy_of(
        &self,
        service: &ServiceKnowledge,
        instance: &Instance,
    ) -> Option<ostler_model::catalog::ProbePolicy> {
        self.policy_by(service, self.offering_of(service, instance)?)
    }

    fn policy_by(&self, service: &ServiceKnowledge, offering: &Offering) -> Option<ostler_model::catalog::ProbePolicy> {
        let offered = &offering.probe;
        let ProbeOverride { ready, deep, every, timeout, start_within } = &service.spec.probe;
        let every = every.unwrap_or(offered.every);
        Some(ostler_model::catalog::ProbePolicy {
            ready: ready.clone().unwrap_or_else(|| offered.ready.clone()),
            deep: deep.clone().or_else(|| offered.deep.clone()),
            every,
            timeout: timeout.unwrap_or(offered.timeout),
            start_within: start_within.unwrap_or(offered.start_within),
        })
    }

    /// What the service's endpoint understands: the estate's word before what the `ready` probe speaks.
    pub fn protocol(&self, service: &ServiceKnowledge) -> Protocol {
        let by_probe = || match self.probe_policy(service).map(|policy| policy.ready) {
            Some(Check::Http(_)) => Protocol::Http,
            // The scheme of a binding says what the instance speaks, not whether TLS is around it.
            Some(
                Check::Tcp
                | Check::Command(_)
                | Check::Postgresql
                | Check::Mysql
                | Check::Redis
                | Check::Amqp
                | Check::Scheme,
            )
            | None => Protocol::Tcp,
        };
        service.spec.protocol.unwrap_or_else(by_probe)
    }

    /// How long the service's instances may take to stop.
    pub fn stop_grace(&self, service: &ServiceKnowledge) -> Span {
        let offered = self.offering(service).map_or(Span::seconds(10), |offering| offering.stop_grace);
        service.spec.stop.grace.unwrap_or(offered)
    }

    /// How long this instance of the service may take to stop.
    pub fn stop_grace_of(&self, service: &ServiceKnowledge, instance: &Instance) -> Span {
        let offered = self.offering_of(service, instance).map_or(Span::seconds(10), |offering| offering.stop_grace);
        service.spec.stop.grace.unwrap_or(offered)
    }

    /// Whether the service's data outlives its instances' stops.
    pub fn is_durable(&self, service: &ServiceKnowledge) -> bool {
        service.spec.data.durable.unwrap_or_else(|| self.offering(service).is_some_and(|offering| offering.durable))
    }

    /// Whether the consumer's binding to `need` is what it has to be: at an instance that still knows it and that stays,
    /// if any does, and pointing at where the need's endpoint is.
    pub fn is_bound(&self, consumer: &ServiceKnowledge, need: &ServiceName) -> bool {
        let (Some(binding), Some(needed)) = (consumer.bindings.get(need), self.services.get(need)) else {
            return false;
        };
        binding.state == BindingState::Made
            && Some(binding.endpoint) == needed.endpoint.address
            && needed
                .instances
                .get(&binding.instance.number())
                .is_some_and(|i| !i.is_fenced() && (!i.retired || needed.active == 0))
    }

    /// Whether something still uses `need`.
    pub fn is_used(&self, need: &ServiceName) -> bool {
        self.consumers
            .get(need)
            .into_iter()
            .flatten()
            .filter_map(|consumer| self.services.get(consumer))
            .any(|c| c.uses(need))
    }

    /// How many instances may be under repair together.
    pub fn repairs_at_once(&self) -> usize {
        self.estate.as_ref().map_or(1, |estate| estate.heal.at_once(self.instances))
    }

    /// Whether nothing runs, nothing is under way, and everything was asked to be down.
    pub fn is_at_rest(&self) -> bool {
        self.down
            && self.services.values().all(|service| {
                service.endpoint.operation.is_none()
                    && !service.endpoint.may_be_open
                    && service.instances.values().all(|instance| {
                        // What a provider elsewhere has agreed to do goes on without ostler, and is looked at again.
                        let goes_on = instance.operation.is_none() || instance.accepted.is_some();
                        goes_on && instance.phase != Phase::Running
                    })
                    && service.ending.is_none()
            })
    }

    /// Whether everything declared is as it should be and nothing is under way or left to be done.
    pub fn is_settled(&self) -> bool {
        let nothing_is_drilled = self.drill.is_none();
        nothing_is_drilled
            && self.services.values().all(|service| {
                let wanted = self.is_wanted(service);
                let endpoint = &service.endpoint;
                endpoint.operation.is_none()
                    && if wanted && !service.is_guest() { endpoint.open } else { !endpoint.may_be_open }
                    && !(wanted && service.endpoint_moved())
                    && service.outdated.is_empty()
                    && self.is_bound_as_declared(service)
                    && !(wanted && (service.backup_wanted.is_some() || service.restore_wanted.is_some()))
                    && service.ending.is_none()
                    && !(wanted && (service.moving.is_some() || service.upgrading().is_some()))
                    && service.instances.values().all(|instance| self.is_at_peace(service, instance))
            })
    }

    /// Whether every binding is made that has to be, and every one is ended that has to be and can be.
    fn is_bound_as_declared(&self, service: &ServiceKnowledge) -> bool {
        let wanted = self.is_wanted(service);
        let deleted = !service.declared && service.instances.is_empty();
        let can_be_ended = |(need, binding): (&ServiceName, &Binding)| {
            let unneeded = deleted || (wanted && !service.spec.needs.contains(need));
            let at_ready = || self.instance(&binding.instance).is_some_and(Instance::is_ready);
            unneeded && binding.state != BindingState::Lost && at_ready()
        };
        let bound = !wanted || service.spec.needs.iter().all(|need| self.is_bound(service, need));
        bound && !service.bindings.iter().any(can_be_ended)
    }

    fn is_at_peace(&self, service: &ServiceKnowledge, instance: &Instance) -> bool {
        // What a move left at a provider that does not answer keeps nobody waiting.
        if instance.is_fenced() && instance.ending.is_none() && instance.failures > 0 {
            return true;
        }
        let is_what_is_wanted = match self.wanted(service, instance) {
            Wanted::Running => {
                instance.entrusted && instance.held.is_none() && matches!(instance.health, Some(Health::Ready))
            }
            Wanted::AtRest => instance.phase != Phase::Running,
            Wanted::Gone(_) => false,
        };
        instance.operation.is_none() && instance.repair.is_none() && instance.observed && is_what_is_wanted
    }
}

impl ServiceKnowledge {
    /// A service that has just been declared.
    pub fn new(spec: Arc<Service>) -> Self {
        Self {
            origin: Origin::Declared,
            spec,
            declared: true,
            placement: None,
            endpoint: Endpoint::default(),
            launches: BTreeMap::new(),
            generation: 0,
            before_done: None,
            before_trouble: None,
            healed: Healed::default(),
            scale: None,
            restart_round: 0,
            instances: BTreeMap::new(),
            bindings: BTreeMap::new(),
            binding_trouble: None,
            binding_failures: 0,
            ready: 0,
            active: 0,
            outdated: BTreeSet::new(),
            ending: None,
            backup_wanted: None,
            restore_wanted: None,
            backups: Vec::new(),
            backup_trouble: None,
            backup_failures: 0,
            backup_clock: None,
            vault: None,
            leftovers: BTreeMap::new(),
            level: None,
            changed: None,
            rejected: None,
            moving: None,
            moved: None,
            moved_for: None,
            epoch: 0,
            drilled: None,
            upgrades: None,
        }
    }

    /// How many instances it is to have.
    pub fn wanted_instances(&self) -> u32 {
        self.scale.unwrap_or(self.spec.instances)
    }

    /// The launch that instances are to be started from.
    pub fn launch(&self) -> Option<&Arc<Launch>> {
        self.launches.get(&self.generation)
    }

    /// Whether its one-off command has to succeed before an instance is started.
    pub fn before_is_due(&self) -> bool {
        self.launch().is_some_and(|launch| !launch.before.is_empty()) && self.before_done != Some(self.generation)
    }

    /// How its one-off command failed last, if that has to succeed before an instance is started.
    pub fn before_failed(&self) -> Option<&BeforeTrouble> {
        self.before_trouble.as_ref().filter(|trouble| trouble.generation == self.generation && self.before_is_due())
    }

    /// Whether its endpoint is declared somewhere else than where it is.
    pub fn endpoint_moved(&self) -> bool {
        self.spec.endpoint.is_some() && self.spec.endpoint != self.endpoint.address
    }

    /// Whether something of it uses `need`.
    pub fn uses(&self, need: &ServiceName) -> bool {
        self.instances.values().any(|instance| self.is_user(instance, need))
    }

    /// Whether one of its instances runs, is being started, or was started and may run, with a binding to `need` or from
    /// nobody knows what.
    pub fn is_user(&self, instance: &Instance, need: &ServiceName) -> bool {
        let uses = |generation| self.launches.get(&generation).is_none_or(|launch| launch.needs.contains_key(need));
        let starts = instance.operation.is_some_and(|operation| operation.kind == OperationKind::Start);
        if instance.changes_to.is_some_and(uses) {
            return true;
        }
        match (instance.phase, instance.generation) {
            (Phase::Running, None) => true,
            (Phase::Running, Some(generation)) => uses(generation),
            (Phase::Declared | Phase::Stopped, None) => false,
            (Phase::Declared | Phase::Stopped, Some(generation)) => (starts || !instance.observed) && uses(generation),
        }
    }

    /// Whether it is only a user elsewhere of what was sold.
    pub fn is_guest(&self) -> bool {
        matches!(self.origin, Origin::Guest(_))
    }

    /// Until when nothing is asked for about its bindings, because the last such ask failed.
    pub fn binding_pause(&self, now: Timestamp) -> Option<Timestamp> {
        self.binding_trouble.as_ref().map(|(until, _)| *until).filter(|until| now < *until)
    }

    /// The binding's id for a need.
    pub fn binding_id(&self, need: &ServiceName) -> BindingId {
        BindingId { consumer: self.spec.name.clone(), need: need.clone() }
    }

    /// The id of the instance with this number.
    pub fn instance_id(&self, number: u32) -> InstanceId {
        InstanceId::new(self.spec.name.clone(), number)
    }

    /// How many of its instances may be out of service at once while they are replaced one after the other.
    pub fn replaced_at_once(&self) -> usize {
        (self.active / 4).max(1)
    }
}
