//! The hands of the server: commands become calls to providers, orders to the keeper, tables for the gateway, watches.
//!
//! Invariant: at most one job runs for one instance; a new command for it ends the job of a former one, which then is
//! from before everything was looked at again.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use ostler_gateway::messages::{Refused, Says, Table, Target as TableTarget, Tell};
use ostler_journal::SealedChange;
use ostler_keeper::protocol::{Answer, Order};
use ostler_manager::{Command, Drill, Event, Knowledge, Outcome, Target};
use ostler_model::catalog::Placement;
use ostler_model::estate::contract::ContractCheck;
use ostler_model::estate::drills::Fault;
use ostler_model::ids::{AttemptId, BindingId, CommandId, InstanceId, ProviderName, SecretId, ServiceName};
use ostler_model::outcome::{BackupMade, Failure};
use ostler_probes::Word;
use ostler_providers::host::choose_for_endpoint;
use ostler_providers::{Progress, Provider, ReflexGrant};
use sha2::{Digest, Sha256};
use tokio::runtime::Handle;
use tokio::sync::{Semaphore, oneshot};
use tokio::task::AbortHandle;

use crate::clock;
use crate::drilling::{self, Drilling, EndsCredentials};
use crate::keeper_link::{Keeper, ReportNumber};
use crate::notify;
use crate::orders::{credentials, leftover_order, order_for};
use crate::prove;
use crate::providers::{Made, Providers, Unmade};
use crate::served::{Counts, Gatherer};
use crate::turn::{Hands, Incoming, Secrets};
use crate::vault::{Expected, Hand, Vault};
use crate::watching;

mod jobs;

use self::jobs::{
    Done, Drain, Job, answer, bound, deprovision, done, fenced, gone, is_heavy, is_reachable, not_fenced, not_open,
    nowhere, prove_it, provision, release, start, stop,
};

/// Heavy operations (making a database, binding, backing up) at once: they use whole cores and disks.
const HEAVY_AT_ONCE: usize = 4;
/// Starts and stops at once.
const LIGHT_AT_ONCE: usize = 64;
/// So many jobs that have ended are of no account.
const JOBS_UNTIDY: usize = 128;
/// How long the gateway lets callers wait for an instance before it gives them up.
const HOLD: Duration = Duration::from_secs(15);

/// How long the gateway may take to say that nobody gets at what is fenced any more: it cuts connections itself, and
/// answers a few seconds later even if it could not.
const FENCED_WITHIN: Duration = Duration::from_secs(10);

/// Where outcomes go.
pub type Events = Arc<dyn Fn(Incoming) + Send + Sync>;

/// The hands.
pub struct Executor {
    tasks: Handle,
    keeper: Keeper,
    providers: Arc<Providers>,
    events: Events,
    note: Arc<dyn Fn(String) + Send + Sync>,
    jobs: BTreeMap<Target, AbortHandle>,
    /// What is left of jobs that have ended is let go of when there are more than this.
    tidied_at: usize,
    watches: BTreeMap<InstanceId, AbortHandle>,
    /// Where callers of each service go, in the order of the instances.
    routes: BTreeMap<ServiceName, Vec<(InstanceId, SocketAddr)>>,
    /// Ports of endpoints: those known when the first was chosen, and those chosen since, known or not yet.
    endpoint_ports: BTreeSet<u16>,
    drains: Drains,
    drilling: Drilling,
    served: Arc<Gatherer>,
    vault: Arc<Vault>,
    heavy: Arc<Semaphore>,
    light: Arc<Semaphore>,
}

/// Drains and fences that the gateway has been asked for and has not answered.
#[derive(Clone, Default)]
pub struct Drains(Arc<Mutex<BTreeMap<u64, Waiting>>>);

/// What was answered so far. While one gateway takes over from another, several are asked.
struct Waiting {
    sender: oneshot::Sender<u64>,
    left: u64,
    answers: u32,
    /// How many were asked, once that is known.
    asked: Option<u32>,
}

impl Drains {
    /// What the gateway said about a drain, or a fence.
    pub fn said(&self, says: &Says) {
        if let Says::Drained { id, left } | Says::Fenced { id, left, .. } = says {
            if let Some(waiting) = self.lock().get_mut(id) {
                waiting.left = waiting.left.saturating_add(*left);
                waiting.answers += 1;
            }
            self.look_at(*id);
        }
    }

    /// How the keeper answered: by how many gateways there will be answers. False if there are none.
    fn are_asked(&self, id: u64, told: &Answer) -> bool {
        let asked = match told {
            Answer::Done => 1,
            Answer::Told { gateways } => *gateways,
            _ => return false,
        };
        if let Some(waiting) = self.lock().get_mut(&id) {
            waiting.asked = Some(asked);
        }
        self.look_at(id);
        true
    }

    fn look_at(&self, id: u64) {
        let mut all = self.lock();
        if all.get(&id).is_some_and(|waiting| waiting.asked.is_some_and(|asked| waiting.answers >= asked))
            && let Some(waiting) = all.remove(&id)
        {
            let _ = waiting.sender.send(waiting.left); // whoever waited may have been stopped
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, BTreeMap<u64, Waiting>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn expect(&self, id: u64) -> oneshot::Receiver<u64> {
        let (sender, receiver) = oneshot::channel();
        self.lock().insert(id, Waiting { sender, left: 0, answers: 0, asked: None });
        receiver
    }
}

/// What hands are made of.
pub(crate) struct Parts {
    pub(crate) tasks: Handle,
    pub(crate) keeper: Keeper,
    pub(crate) providers: Arc<Providers>,
    pub(crate) drains: Drains,
    pub(crate) drilling: Drilling,
    pub(crate) served: Gatherer,
    pub(crate) events: Events,
    pub(crate) note: Arc<dyn Fn(String) + Send + Sync>,
    pub(crate) vault: Arc<Vault>,
}

impl Executor {
    /// Hands that work on `tasks` and report to `events`.
    pub(crate) fn new(parts: Parts) -> Self {
        let Parts { tasks, keeper, providers, drains, drilling, served, events, note, vault } = parts;
        Self {
            tasks,
            keeper,
            vault,
            providers,
            events,
            note,
            jobs: BTreeMap::new(),
            tidied_at: JOBS_UNTIDY,
            watches: BTreeMap::new(),
            routes: BTreeMap::new(),
            endpoint_ports: BTreeSet::new(),
            drains,
            drilling,
            served: Arc::new(served),
            heavy: Arc::new(Semaphore::new(HEAVY_AT_ONCE)),
            light: Arc::new(Semaphore::new(LIGHT_AT_ONCE)),
        }
    }

    /// Tells the gateway where callers go as far as it is known from before this process started, so that no table is
    /// ever narrower than what is true.
    pub fn recall_routes(&mut self, known: &Knowledge) {
        for (name, service) in &known.services {
            let routed = service.instances.iter().filter(|(_, instance)| instance.routed);
            let mut targets: Vec<(InstanceId, SocketAddr)> = routed
                .filter_map(|(number, instance)| Some((service.instance_id(*number), instance.address()?)))
                .collect();
            targets.shrink_to_fit(); // most services have one, and lists grow to four at once
            // What is fenced stays so, also where nothing else is to be got at.
            if !targets.is_empty() || service.epoch > 0 {
                self.routes.insert(name.clone(), targets);
                self.keeper.table(name.to_string(), self.table(name, known));
            }
        }
    }

    /// The body of the service's table.
    fn table(&self, service: &ServiceName, known: &Knowledge) -> String {
        let found = known.services.get(service);
        let fenced: Vec<InstanceId> = found.map(|found| fenced(found).collect()).unwrap_or_default();
        let targets = self.routes.get(service).into_iter().flatten();
        let refused = targets
            .clone()
            .filter_map(|(instance, address)| Some(Refused { address: *address, until: known.refuses(instance)? }));
        let refused = refused.collect();
        let targets = targets
            .filter(|(instance, _)| !fenced.contains(instance))
            .map(|(instance, address)| TableTarget { instance: instance.clone(), address: *address })
            .collect();
        let hold_ms = u64::try_from(HOLD.as_millis()).expect("the hold is a few seconds");
        let protocol = found.map(|found| known.protocol(found)).unwrap_or_default();
        let epoch = found.map_or(0, |found| found.epoch);
        serde_json::to_string(&Table { targets, hold_ms, protocol, epoch, fenced, refused })
            .expect("a table has only string keys")
    }

    fn route(&mut self, instance: InstanceId, address: Option<SocketAddr>, known: &Knowledge) {
        let service = instance.service().clone();
        let targets = self.routes.entry(service.clone()).or_default();
        match (targets.binary_search_by(|(other, _)| other.cmp(&instance)), address) {
            (Ok(place), Some(address)) => targets[place].1 = address,
            (Ok(place), None) => drop(targets.remove(place)),
            (Err(place), Some(address)) => {
                targets.reserve_exact(1);
                targets.insert(place, (instance, address));
            }
            (Err(_), None) => {}
        }
        self.keeper.table(service.to_string(), self.table(&service, known));
    }

    /// An address for an endpoint that nobody gave one: of no other endpoint, and none that an outgoing connection could
    /// take while it is closed. Where all are taken, the kernel chooses.
    fn address_for(&mut self, service: &ServiceName, known: &Knowledge) -> SocketAddr {
        if self.endpoint_ports.is_empty() {
            let kept = known.services.values().filter_map(|service| Some(service.endpoint.address?.port()));
            self.endpoint_ports.extend(kept);
        }
        let estate = known.estate.as_ref().map_or("", |estate| estate.name.as_str());
        let digest = Sha256::digest(format!("{estate}/{service}"));
        let hash = digest.iter().take(7).fold(0, |hash, byte| hash << 8 | u64::from(*byte));
        let port = choose_for_endpoint(hash, &self.endpoint_ports);
        self.endpoint_ports.extend(port);
        SocketAddr::from((Ipv4Addr::LOCALHOST, port.unwrap_or(0)))
    }

    fn watch(&mut self, id: CommandId, instance: &InstanceId, known: &Knowledge, secrets: &dyn Secrets) {
        self.unwatch(instance);
        let Some(plan) = watching::prepare(known, secrets, instance) else { return };
        let events = self.events.clone();
        let served = plan.measures.map(|every| (self.served.clone(), every));
        let report = move |instance: &InstanceId, word| match (word, &served) {
            (Word::Health(health), _) => {
                events(Event::Probed { instance: instance.clone(), watch: id, health }.into());
            }
            (Word::Answered(took), Some((served, every))) => {
                served.add(instance.service().clone(), Counts::of_probe(took, *every, clock::now()));
            }
            (Word::Answered(_), None) => {}
        };
        let task = self.tasks.spawn(watching::run(plan, report));
        self.watches.insert(instance.clone(), task.abort_handle());
    }

    fn unwatch(&mut self, instance: &InstanceId) {
        if let Some(watch) = self.watches.remove(instance) {
            watch.abort();
        }
    }

    /// Runs `job` as the one job for its target, and reports its outcome.
    fn run(&mut self, id: CommandId, target: Target, job: impl Future<Output = Done> + Send + 'static) {
        let events = self.events.clone();
        let task = self.tasks.spawn(async move {
            let (outcome, secrets) = job.await;
            events(Incoming { event: Some(Event::Ended { id, outcome }), secrets, report: None });
        });
        if let Some(former) = self.jobs.insert(target, task.abort_handle()) {
            former.abort();
        }
        if self.jobs.len() > self.tidied_at {
            self.tidy();
            self.tidied_at = (2 * self.jobs.len()).max(JOBS_UNTIDY);
        }
    }

    /// Lets go of what is left of jobs that have ended.
    pub(crate) fn tidy(&mut self) {
        self.jobs.retain(|_, job| !job.is_finished());
    }

    fn fail(&self, id: CommandId, failure: Failure) {
        (self.events)(Event::Ended { id, outcome: Outcome::Failed(failure) }.into());
    }

    fn provider(&self, known: &Knowledge, name: &ProviderName) -> Result<Arc<dyn Provider>, Failure> {
        let estate = known.estate.as_ref().ok_or_else(|| gone(name))?;
        let declared = known.provider(name).ok_or_else(|| gone(name))?;
        self.providers.get(declared, &estate.folder)
    }

    /// Tells the gateway what it is to cut callers off from, and waits until it has. Where there is no gateway, the next
    /// one is told before anything else.
    fn fence(&mut self, id: CommandId, service: &ServiceName, epoch: u64, known: &Knowledge) {
        let targets = self.routes.entry(service.clone()).or_default();
        targets.retain(|(instance, _)| known.instance(instance).is_some_and(|found| !found.is_fenced()));
        self.keeper.table(service.to_string(), self.table(service, known));
        let answered = self.drains.expect(id.0);
        let tell = Tell::Fence { id: id.0, service: service.to_string(), epoch };
        let body = serde_json::to_string(&tell).expect("an order has only string keys");
        let told = self.keeper.ask(Order::GatewayTell { body });
        let (service, drains) = (service.clone(), self.drains.clone());
        self.run(id, Target::Endpoint(service.clone()), async move {
            if !drains.are_asked(id.0, &told.await) {
                return (Outcome::Done, Vec::new()); // no gateway, no callers
            }
            match tokio::time::timeout(FENCED_WITHIN, answered).await {
                Ok(Ok(0)) => (Outcome::Done, Vec::new()),
                Ok(Ok(left)) => {
                    (Outcome::Failed(not_fenced(&service, &format!("{left} connections are left"))), Vec::new())
                }
                Ok(Err(_)) | Err(_) => {
                    (Outcome::Failed(not_fenced(&service, "the gateway does not answer")), Vec::new())
                }
            }
        });
    }

    fn drain(&self, id: CommandId, service: &ServiceName, address: Option<SocketAddr>, within: Duration) -> Drain {
        let Some(address) = address.filter(|_| !within.is_zero()) else { return Drain::none() };
        let within_ms = u64::try_from(within.as_millis()).unwrap_or(u64::MAX);
        let answered = self.drains.expect(id.0);
        let tell = Tell::Drain { id: id.0, service: service.to_string(), address, within_ms };
        let body = serde_json::to_string(&tell).expect("an order has only string keys");
        let told = self.keeper.ask(Order::GatewayTell { body });
        let drains = self.drains.clone();
        Drain(Some(Box::pin(async move {
            if !drains.are_asked(id.0, &told.await) {
                return 0; // no gateway, no connections
            }
            let bound = tokio::time::timeout(within + Duration::from_secs(1), answered);
            bound.await.ok().and_then(Result::ok).unwrap_or(0)
        })))
    }

    /// Commands on an instance, with the instance's order.
    fn on_instance(
        &mut self,
        id: CommandId,
        command: &Command,
        instance: &InstanceId,
        known: &Knowledge,
        secrets: &dyn Secrets,
    ) -> Result<(), Failure> {
        // Nobody looks any more at what is not to be there. The manager may not know that anybody does: after a resume it
        // asks for the watches that it needs, and the former ones go on.
        if matches!(command, Command::Stop { .. } | Command::Deprovision { .. } | Command::Release { .. }) {
            self.unwatch(instance);
        }
        let order = order_for(known, secrets, command)?;
        is_reachable(known, &order.placement.provider)?;
        let provider = self.provider(known, &order.placement.provider)?;
        let is_elsewhere = provider.is_elsewhere();
        let progress = self.progress(id);
        let job: Job = match command.clone() {
            Command::Provision { .. } => Box::pin(provision(provider, order, progress)),
            Command::Observe { .. } => {
                Box::pin(async move { answer(provider.observe(&order).await.map(Outcome::Observed)) })
            }
            Command::Update { .. } => Box::pin(async move { done(provider.update(&order, progress).await) }),
            Command::Tidy { binding, .. } => Box::pin(async move { done(provider.tidy(&order, &binding).await) }),
            Command::Before { .. } => Box::pin(async move { done(provider.before(&order).await) }),
            Command::Start { reflex_burst, reflex_refill, .. } => {
                let grant = ReflexGrant { burst: reflex_burst, refill: reflex_refill.get() };
                Box::pin(start(provider, order, grant))
            }
            Command::Stop { instance, drain, grace } => {
                let address = known.instance(&instance).and_then(|found| found.address());
                let drain = self.drain(id, instance.service(), address, drain.get());
                Box::pin(stop(provider, order, drain, grace.get()))
            }
            Command::Deprovision { .. } => Box::pin(deprovision(provider, order, progress)),
            Command::Release { .. } => Box::pin(release(provider, order)),
            Command::Bind { binding, endpoint, .. } => {
                let secret = SecretId::of_binding(&binding);
                let former = match self.may_be_kept(known, &binding, instance, is_elsewhere) {
                    true => credentials(secrets, &secret)?,
                    false => None,
                };
                Box::pin(async move {
                    match provider.bind(&order, &binding, endpoint, former.as_ref()).await {
                        Ok(made) => bound(secret, &made.credentials, made.renew_at),
                        Err(failure) => (Outcome::Failed(failure), Vec::new()),
                    }
                })
            }
            Command::Unbind { binding, .. } => Box::pin(async move {
                match provider.unbind(&order, &binding).await {
                    Ok(()) => (Outcome::Done, vec![SealedChange::delete(SecretId::of_binding(&binding))]),
                    Err(failure) => (Outcome::Failed(failure), Vec::new()),
                }
            }),
            Command::Backup { name, .. } => {
                let (vault, about) = (self.vault.clone(), self.vault.about(known, instance.service())?);
                let hand = self.hand(known, &order.placement)?;
                Box::pin(async move { answer(vault.back_up(about, hand, order, name, clock::now).await) })
            }
            Command::Restore { backup, .. } => {
                let (vault, about) = (self.vault.clone(), self.vault.about(known, instance.service())?);
                let hand = self.hand(known, &order.placement)?;
                Box::pin(async move { answer(vault.restore(about, hand, order, backup).await) })
            }
            Command::Prove { instance } => {
                let look = prove::prepare(known, &instance);
                Box::pin(prove_it(provider, order, look))
            }
            Command::OpenEndpoint { .. }
            | Command::CloseEndpoint { .. }
            | Command::Fence { .. }
            | Command::Mitigate { .. }
            | Command::ProveBackup { .. }
            | Command::DropBackup { .. }
            | Command::Watch { .. }
            | Command::Unwatch { .. }
            | Command::Route { .. }
            | Command::Fault { .. }
            | Command::Undo { .. }
            | Command::Notify { .. } => return Ok(()), // not on an instance, or without an outcome
        };
        // What is done elsewhere takes nothing from this machine, and its provider has limits of its own.
        let room = match (is_elsewhere, is_heavy(command)) {
            (true, _) => None,
            (false, true) => Some(self.heavy.clone()),
            (false, false) => Some(self.light.clone()),
        };
        self.run(id, Target::Instance(instance.clone()), async move {
            let _room = match room {
                Some(room) => Some(room.acquire_owned().await.expect("the semaphores are never closed")),
                None => None,
            };
            job.await
        });
        Ok(())
    }

    /// Whether the binding's credentials may stay what they are, so that its consumer need not be started anew: where
    /// they were made at this instance, or, before a move, by this very machine. What another party made it knows.
    fn may_be_kept(&self, known: &Knowledge, binding: &BindingId, at: &InstanceId, is_elsewhere: bool) -> bool {
        let held = known.services.get(&binding.consumer).and_then(|consumer| consumer.bindings.get(&binding.need));
        let Some(held) = held.filter(|held| held.instance != *at) else { return true };
        let service = known.services.get(&binding.need);
        let placement = service.and_then(|service| {
            let instance = service.instances.get(&held.instance.number());
            instance.map_or(service.placement.as_ref(), |instance| service.placement_of(instance))
        });
        let provider = placement.and_then(|placement| self.provider(known, &placement.provider).ok());
        !is_elsewhere && provider.is_some_and(|provider| !provider.is_elsewhere())
    }

    /// Deletes what an ask for an instance may have left behind.
    fn mitigate(
        &mut self,
        id: CommandId,
        leftover: &AttemptId,
        known: &Knowledge,
        secrets: &dyn Secrets,
    ) -> Result<(), Failure> {
        let order = leftover_order(known, secrets, leftover)?;
        is_reachable(known, &order.placement.provider)?;
        let provider = self.provider(known, &order.placement.provider)?;
        self.run(id, Target::Leftover(leftover.clone()), async move { done(provider.mitigate(&order).await) });
        Ok(())
    }

    /// Looks after a service's backups, beside whatever is done to its instances.
    fn look_after(
        &mut self,
        id: CommandId,
        command: &Command,
        service: &ServiceName,
        backup: BackupMade,
        known: &Knowledge,
    ) -> Result<(), Failure> {
        let (vault, about) = (self.vault.clone(), self.vault.about(known, service)?);
        let job: Job = if matches!(command, Command::ProveBackup { .. }) {
            let estate = known.estate.as_ref().ok_or_else(|| nowhere(service))?;
            let definitions = self.providers.definitions(estate)?;
            let consumers = known.consumers.get(service).into_iter().flatten();
            let contracts = consumers.filter_map(|name| {
                let consumer = known.services.get(name).filter(|consumer| consumer.declared)?;
                // What is asked with the program's own environment is asked of the real one.
                let of_data = |check: &Option<ContractCheck>| {
                    matches!(check, Some(ContractCheck::Sql { .. } | ContractCheck::Redis { .. }))
                };
                let contracts = consumer.spec.contracts.iter();
                let relied: Vec<_> = contracts.filter(|c| c.need == *service && of_data(&c.check)).cloned().collect();
                (!relied.is_empty()).then(|| (name.clone(), relied))
            });
            let expected = Expected { contracts: contracts.collect(), definitions };
            Box::pin(async move { answer(vault.prove(about, backup, expected).await) })
        } else {
            Box::pin(async move { answer(vault.delete(about, backup).await) })
        };
        self.run(id, command.target(), job);
        Ok(())
    }

    /// Who reads and writes the data of what is placed like this: its provider's own action comes first.
    fn hand(&self, known: &Knowledge, placement: &Placement) -> Result<Hand, Failure> {
        let name = &placement.provider;
        let estate = known.estate.as_ref().ok_or_else(|| gone(name))?;
        let declared = known.provider(name).ok_or_else(|| gone(name))?;
        match self.providers.made(declared, &estate.folder) {
            Ok(Made::Host(provider)) => Ok(Hand::Here(provider)),
            Ok(Made::Osb(broker)) if broker.backup_format(placement).is_some() => Ok(Hand::Broker(broker)),
            Ok(Made::Osb(_)) => Ok(Hand::Outside(self.providers.outside(estate)?)),
            Err(Unmade::Failed(failure)) => Err(failure),
            Err(Unmade::Definitions(_)) => self.providers.definitions(estate).and(Err(gone(name))),
        }
    }

    /// Causes a fault on purpose, or undoes it. What gateway and probes are to refuse follows from what is known.
    fn drill(&mut self, id: CommandId, command: &Command, known: &Knowledge, secrets: &dyn Secrets) {
        let (drill, causes) = match command {
            Command::Fault { drill } => (drill, true),
            Command::Undo { drill } => (drill, false),
            _ => return,
        };
        let (drilling, target) = (self.drilling.clone(), command.target());
        let mark = drilling::mark(known, secrets, drill);
        let counts = causes.then(|| drilling.begin(id.0, drill));
        let ends = match drill.binding().filter(|_| causes).map(|binding| self.ends(binding, known, secrets)) {
            Some(Err(failure)) => return self.fail(id, failure),
            Some(Ok(ends)) => Some(ends),
            None => None,
        };
        self.tell_whom_a_drill_refuses(drill, known, secrets);
        let (drill, rhythm) = ((**drill).clone(), drilling::rhythm(known, drill));
        match counts {
            Some(counts) => {
                let caused = async move { (drilling.cause(drill, mark, rhythm, ends, counts).await, Vec::new()) };
                self.run(id, target, caused);
            }
            None => {
                let healed = known.drill.as_ref().is_some_and(|under_way| under_way.healed.is_some());
                let has_key = !matches!(secrets.secret(&SecretId::of_drills()), Ok(None));
                self.run(id, target, drilling.undo(id.0, drill, healed, mark, has_key));
            }
        }
    }

    /// What ends the credentials of a binding, at the instance that knows them. They stay sealed, and are made again with
    /// the same content.
    fn ends(&self, binding: &BindingId, known: &Knowledge, secrets: &dyn Secrets) -> Result<EndsCredentials, Failure> {
        let held = known.services.get(&binding.consumer).and_then(|consumer| consumer.bindings.get(&binding.need));
        let instance = held.map(|held| held.instance.clone()).ok_or_else(|| nowhere(&binding.need))?;
        let order = order_for(known, secrets, &Command::Unbind { binding: binding.clone(), instance })?;
        let provider = self.provider(known, &order.placement.provider)?;
        if provider.is_elsewhere() {
            return Err(nowhere(&binding.need)); // what is ended there could not be put back
        }
        let (binding, room) = (binding.clone(), self.heavy.clone());
        Ok(Box::pin(async move {
            let _room = room.acquire_owned().await.expect("the semaphores are never closed");
            provider.unbind(&order, &binding).await
        }))
    }

    /// Tables and watches of what a drill is done to, as they are now.
    fn tell_whom_a_drill_refuses(&mut self, drill: &Drill, known: &Knowledge, secrets: &dyn Secrets) {
        if !matches!(drill.fault, Fault::Refuse | Fault::ProviderOutage) {
            return;
        }
        for hit in &drill.hits {
            let service = hit.instance.service();
            if self.routes.contains_key(service) {
                self.keeper.table_if_other(service.to_string(), self.table(service, known));
            }
            let watched = known.instance(&hit.instance).and_then(|instance| instance.watch);
            if let Some(watch) = watched.filter(|_| self.watches.contains_key(&hit.instance)) {
                self.watch(watch, &hit.instance, known, secrets);
            }
        }
    }

    /// Tells the manager what the provider has agreed to.
    fn progress(&self, id: CommandId) -> Progress {
        let events = self.events.clone();
        Arc::new(move |operation| events(Event::Accepted { id, operation }.into()))
    }
}

impl Hands for Executor {
    fn hand_over(&mut self, id: CommandId, command: Command, known: &Knowledge, secrets: &dyn Secrets) {
        match &command {
            Command::OpenEndpoint { service, address } => {
                let address = address.unwrap_or_else(|| self.address_for(service, known));
                let opened = self.keeper.listen(service.to_string(), address, true);
                if !self.routes.contains_key(service) {
                    self.routes.insert(service.clone(), Vec::new());
                    self.keeper.table(service.to_string(), self.table(service, known)); // from now on callers wait instead of being closed
                }
                let service = service.clone();
                self.run(id, command.target(), async move {
                    answer(opened.await.map(Outcome::Open).map_err(|refusal| not_open(&service, &refusal)))
                });
            }
            Command::CloseEndpoint { service } => {
                self.routes.remove(service);
                self.keeper.table(service.to_string(), String::new());
                let closed = self.keeper.unlisten(service.to_string());
                self.run(id, command.target(), async move {
                    closed.await;
                    (Outcome::Done, Vec::new())
                });
            }
            Command::Fence { service, epoch } => self.fence(id, service, *epoch, known),
            Command::Watch { instance, .. } => {
                self.watch(id, instance, known, secrets);
                // A change of what the endpoint understands comes with a new watch, and with nothing else.
                let service = instance.service();
                if self.routes.contains_key(service) {
                    self.keeper.table_if_other(service.to_string(), self.table(service, known));
                }
            }
            Command::Unwatch { instance } => self.unwatch(instance),
            Command::Route { instance, address } => self.route(instance.clone(), *address, known),
            Command::Notify { service, occasion, message } => {
                let notice = notify::notice(known, service, *occasion, message.clone(), clock::now());
                let (ways, note) = (notify::ways(known, *occasion), self.note.clone());
                note(format!("{}: {message}", occasion.as_str()));
                self.tasks.spawn(notify::tell(ways, notice, move |line| note(line)));
            }
            Command::Fault { .. } | Command::Undo { .. } => self.drill(id, &command, known, secrets),
            Command::Mitigate { leftover } => {
                if let Err(failure) = self.mitigate(id, leftover, known, secrets) {
                    self.fail(id, failure);
                }
            }
            Command::ProveBackup { service, backup } | Command::DropBackup { service, backup } => {
                if let Err(failure) = self.look_after(id, &command, service, backup.clone(), known) {
                    self.fail(id, failure);
                }
            }
            Command::Provision { instance }
            | Command::Observe { instance }
            | Command::Before { instance, .. }
            | Command::Start { instance, .. }
            | Command::Stop { instance, .. }
            | Command::Deprovision { instance }
            | Command::Release { instance }
            | Command::Update { instance, .. }
            | Command::Tidy { instance, .. }
            | Command::Bind { instance, .. }
            | Command::Unbind { instance, .. }
            | Command::Backup { instance, .. }
            | Command::Restore { instance, .. }
            | Command::Prove { instance } => {
                if let Err(failure) = self.on_instance(id, &command, instance, known, secrets) {
                    self.fail(id, failure);
                }
            }
        }
    }

    fn stored(&mut self, report: ReportNumber) {
        self.keeper.acknowledge(report);
    }
}
