//! What there really is: processes, data, bindings, endpoints, providers. The manager only ever hears of it.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use ostler_keeper::grant::Bucket;
use ostler_manager::Drill;
use ostler_model::estate::drills::Fault;
use ostler_model::health::{Health, Symptom, SymptomKind};
use ostler_model::ids::{AttemptId, BindingId, CommandId, InstanceId, ProviderName, ServiceName};
use ostler_model::outcome::Running;
use ostler_model::time::Timestamp;

use super::bought::{Bought, Credential, Plan};
use super::data::Held;
use crate::act::Spoil;
use crate::sketch::{Kind, Town};
use crate::witness::all_of;

/// What there really is.
#[derive(Default)]
pub(crate) struct Truth {
    pub(crate) providers: BTreeMap<ProviderName, ProviderTruth>,
    pub(crate) instances: BTreeMap<InstanceId, InstanceTruth>,
    pub(crate) endpoints: BTreeMap<ServiceName, SocketAddr>,
    /// On machines.
    pub(crate) bindings: BTreeMap<BindingId, BindingTruth>,
    /// At brokers.
    pub(crate) bought: Bought,
    /// What a drill has caused, and is not undone yet.
    pub(crate) drill: Option<Drill>,
    /// Services whose endpoint's address somebody else has.
    pub(crate) taken: BTreeMap<ServiceName, u32>,
    /// Services whose one-off command fails.
    pub(crate) before_fails: BTreeMap<ServiceName, u32>,
    /// Services of which nothing can be restored.
    pub(crate) restore_fails: BTreeMap<ServiceName, u32>,
    /// When callers last wrote to each service, as far as they do not now.
    pub(crate) written: BTreeMap<ServiceName, Timestamp>,
    /// The newest backup of each service, and of which data.
    pub(crate) backups: BTreeMap<ServiceName, Timestamp>,
    /// What is kept, and whether it is of any use.
    pub(crate) kept: BTreeMap<(ServiceName, String), Kept>,
    /// When a backup of each service was last looked at.
    pub(crate) proofs: BTreeMap<ServiceName, Timestamp>,
    pub(crate) pids: u32,
    addresses: u32,
    endpoints_made: u32,
}

/// A backup.
pub(crate) struct Kept {
    pub(crate) made: Timestamp,
    /// It holds what was written until then.
    pub(crate) holds: Option<Timestamp>,
    pub(crate) spoilt: bool,
}

/// A provider.
pub(crate) struct ProviderTruth {
    pub(crate) kind: Kind,
    pub(crate) region: String,
    /// It and all it runs is gone; counts what makes it so.
    pub(crate) out: u32,
    /// It answers no orders.
    pub(crate) control_out: u32,
    /// Nothing passes between it and ostler.
    pub(crate) partition: u32,
    /// Some of its plans are gone from its catalog.
    pub(crate) plan_gone: u32,
    /// Which these are, then.
    pub(crate) vanishing: BTreeSet<Plan>,
    /// It ends no credentials.
    pub(crate) unbind_refused: u32,
    /// How its next answers go wrong.
    pub(crate) spoils: VecDeque<Spoil>,
    pub(crate) instances: BTreeSet<InstanceId>,
}

impl ProviderTruth {
    /// Whether an order reaches it and is answered.
    pub(crate) fn answers(&self) -> bool {
        self.out == 0 && self.control_out == 0 && self.partition == 0
    }
}

/// An instance at its provider.
pub(crate) struct InstanceTruth {
    pub(crate) provider: ProviderName,
    pub(crate) kind: Kind,
    pub(crate) address: SocketAddr,
    /// It exists. What is gone is remembered: it may be made again.
    pub(crate) made: bool,
    /// How many times it was made: data of another time is other data.
    pub(crate) times_made: u32,
    pub(crate) held: Held,
    /// Its data is gone, and nobody has said yet that an empty one will do.
    pub(crate) lost: bool,
    pub(crate) process: Option<Process>,
    /// Whoever holds it knows how to start it again, so often.
    pub(crate) bucket: Option<Bucket>,
    /// Its processes end soon after their start; counts what makes it so.
    pub(crate) loops: u32,
    /// Its processes do not become ready.
    pub(crate) never_ready: u32,
    /// At a broker: the number of the last ask for it. What another ask made is not this instance.
    pub(crate) asked: Option<u32>,
    /// At a broker: since when it is said to run.
    pub(crate) access_since: Timestamp,
    /// At a broker: its provider starts again what dies next after this time, unless that is usual.
    pub(crate) heals_after: Option<Duration>,
    /// At a broker: it is broken, and stays so until a person has its provider look at it.
    pub(crate) broken: bool,
    /// What whoever holds its process gives it from brokers when it is started again.
    pub(crate) given: Vec<Credential>,
    /// The provider is busy with it until then.
    pub(crate) busy_until: Timestamp,
    /// Callers are sent to it here.
    pub(crate) routed: Option<SocketAddr>,
    pub(crate) watch: Option<Watching>,
    /// Counts what is drawn for it.
    pub(crate) draws: u64,
    /// Since when it does not serve.
    pub(crate) failing_since: Option<Timestamp>,
    /// Somebody will see whether it was healed in time.
    pub(crate) is_timed: bool,
    /// It is slow, and somebody will see when that changes.
    pub(crate) slow_seen_at: Timestamp,
    /// What came to it last.
    pub(crate) cause: &'static str,
    /// What the accounts of the callers hold of it: sent to and served, sent to and not served.
    pub(crate) counted: (bool, bool),
}

/// A process.
#[derive(Clone, Debug)]
pub(crate) struct Process {
    pub(crate) pid: u32,
    pub(crate) since: Timestamp,
    pub(crate) ready_at: Timestamp,
    pub(crate) hung: bool,
    /// It answers only now and then until then.
    pub(crate) slow_until: Timestamp,
    /// What it was started with from brokers.
    pub(crate) given: Vec<Credential>,
}

/// The watch on an instance.
#[derive(Clone, Debug)]
pub(crate) struct Watching {
    pub(crate) id: CommandId,
    /// Where it looks.
    pub(crate) address: SocketAddr,
    /// With what it looks at what is at a broker.
    pub(crate) access: Option<Credential>,
    pub(crate) since: Timestamp,
    pub(crate) reported: Option<Health>,
    /// A look is planned at that time.
    pub(crate) looks_at: Option<Timestamp>,
}

/// A binding at its provider.
pub(crate) struct BindingTruth {
    pub(crate) instance: InstanceId,
}

impl Truth {
    /// Whether a backup is of no use, or not there.
    pub(crate) fn is_spoilt(&self, service: &ServiceName, name: &str) -> bool {
        self.kept.get(&(service.clone(), name.to_owned())).is_none_or(|kept| kept.spoilt)
    }

    pub(crate) fn of(town: &Town) -> Self {
        let providers = town.estate.providers.keys().map(|name| {
            let kind = town.kinds.get(name).copied().unwrap_or(Kind::Machine);
            let provider = ProviderTruth {
                kind,
                region: town.region(name),
                out: 0,
                control_out: 0,
                partition: 0,
                plan_gone: 0,
                vanishing: vanishing(town, name),
                unbind_refused: 0,
                spoils: VecDeque::new(),
                instances: BTreeSet::new(),
            };
            (name.clone(), provider)
        });
        Self { providers: providers.collect(), pids: 1000, ..Self::default() }
    }

    /// The place of an instance, as its provider keeps it; made when it is first heard of.
    pub(crate) fn place(&mut self, id: &InstanceId, provider: &ProviderName) -> &mut InstanceTruth {
        if !self.instances.contains_key(id) {
            let kind = self.providers.get(provider).map_or(Kind::Machine, |provider| provider.kind);
            self.addresses += 1;
            let truth = InstanceTruth::new(provider.clone(), kind, address(INSTANCES, self.addresses));
            self.instances.insert(id.clone(), truth);
            if let Some(provider) = self.providers.get_mut(provider) {
                provider.instances.insert(id.clone());
            }
        }
        self.instances.get_mut(id).expect("it was just seen or made")
    }

    /// An address that no instance has had yet.
    pub(crate) fn free_address(&mut self) -> SocketAddr {
        self.addresses += 1;
        address(INSTANCES, self.addresses)
    }

    /// Whether a broker has this plan no more.
    pub(crate) fn is_vanished(&self, provider: &ProviderName, plan: &Plan) -> bool {
        self.providers.get(provider).is_some_and(|provider| provider.plan_gone > 0 && provider.vanishing.contains(plan))
    }

    /// A live process that uses credentials, or the instance that ostler looks at with them.
    pub(crate) fn user_of(&self, credential: &Credential) -> Option<InstanceId> {
        if credential.is_ostlers() {
            let looked_at = &credential.at.instance;
            let watch = self.instances.get(looked_at)?.watch.as_ref()?;
            return (watch.access.as_ref() == Some(credential)).then(|| looked_at.clone());
        }
        let consumers = self.instances.range(all_of(&credential.binding.consumer));
        let uses = |truth: &InstanceTruth| truth.process.as_ref().is_some_and(|p| p.given.contains(credential));
        consumers.into_iter().find(|(_, truth)| uses(truth)).map(|(id, _)| id.clone())
    }

    /// It is ready under ostler's eyes: if it is from a broker, it is in use from now on.
    pub(crate) fn note_use(&mut self, id: &InstanceId) {
        let Some(attempt) = self.instances.get(id).and_then(|truth| truth.asked) else { return };
        if let Some(thing) = self.bought.things.get_mut(&AttemptId { instance: id.clone(), attempt }) {
            thing.used = true;
        }
    }

    /// An address that no endpoint has had yet.
    pub(crate) fn free_endpoint(&mut self) -> SocketAddr {
        self.endpoints_made += 1;
        address(ENDPOINTS, self.endpoints_made)
    }

    pub(crate) fn remove(&mut self, id: &InstanceId) {
        if let Some(truth) = self.instances.remove(id)
            && let Some(provider) = self.providers.get_mut(&truth.provider)
        {
            provider.instances.remove(id);
        }
        self.bindings.retain(|_, binding| binding.instance != *id);
    }

    /// What is wrong behind the instance, because a drill has it so: its disk is full, or it cannot log in any more.
    pub(crate) fn suffers(&self, id: &InstanceId) -> Option<Symptom> {
        let drill = self.drill.as_ref().filter(|drill| drill.hits(id))?;
        let gone = drill.binding().is_some_and(|binding| !self.bindings.contains_key(binding));
        match drill.fault {
            Fault::FillDisk => Some(Symptom { kind: SymptomKind::DiskFull, detail: "its disk is full".to_owned() }),
            Fault::WrongCredentials if gone => {
                Some(Symptom { kind: SymptomKind::WrongAnswer, detail: "it cannot log in".to_owned() })
            }
            _ => None,
        }
    }

    /// Whether a drill has it so that nobody gets a connection to the instance.
    pub(crate) fn refuses(&self, id: &InstanceId) -> bool {
        let Some(drill) = &self.drill else { return false };
        let Some(hit) = drill.hits.iter().find(|hit| hit.instance == *id) else { return false };
        let process = self.instances.get(id).and_then(|truth| truth.process.as_ref());
        match drill.fault {
            Fault::Kill
            | Fault::Hang
            | Fault::Slow
            | Fault::WrongCredentials
            | Fault::FillDisk
            | Fault::BackupRestore => false,
            Fault::Refuse => process.is_some_and(|process| hit.running.pid.is_none_or(|pid| pid == process.pid)),
            Fault::ProviderOutage => true,
        }
    }

    /// Its provider is there, and its process answers callers.
    pub(crate) fn serves(&self, id: &InstanceId, now: Timestamp) -> bool {
        let Some(truth) = self.instances.get(id) else { return false };
        if self.refuses(id) {
            return false;
        }
        let there = self.providers.get(&truth.provider).is_some_and(|provider| provider.out == 0);
        there && truth.process.as_ref().is_some_and(|process| process.answers(now))
    }
}

impl InstanceTruth {
    fn new(provider: ProviderName, kind: Kind, address: SocketAddr) -> Self {
        Self {
            provider,
            kind,
            address,
            made: false,
            times_made: 0,
            held: Held::default(),
            lost: false,
            process: None,
            bucket: None,
            loops: 0,
            never_ready: 0,
            asked: None,
            access_since: Timestamp::default(),
            heals_after: None,
            broken: false,
            given: Vec::new(),
            busy_until: Timestamp::default(),
            routed: None,
            watch: None,
            draws: 0,
            failing_since: None,
            is_timed: false,
            slow_seen_at: Timestamp::default(),
            cause: "not started yet",
            counted: (false, false),
        }
    }

    /// Its process as a provider describes it. Brokers name no process.
    pub(crate) fn running(&self) -> Option<Running> {
        let process = self.process.as_ref()?;
        let pid = (self.kind == Kind::Machine).then_some(process.pid);
        Some(Running { pid, address: self.address, since: process.since })
    }
}

impl Process {
    /// Whether it answers callers at this time. A slow one answers for 20 seconds of each minute.
    pub(crate) fn answers(&self, now: Timestamp) -> bool {
        let into_round = now.since(self.since).as_micros() % SLOW_ROUND.as_micros();
        let slow = now < self.slow_until && into_round >= SLOW_ANSWERS.as_micros();
        !self.hung && now >= self.ready_at && !slow
    }
}

/// The first plan of each of its offerings: it may vanish.
fn vanishing(town: &Town, provider: &ProviderName) -> BTreeSet<Plan> {
    let offerings = town.catalogs.get(provider).into_iter().flat_map(|catalog| catalog.offerings.values());
    offerings.filter_map(|offering| Some((offering.name.clone(), offering.plans.first()?.name.clone()))).collect()
}

/// A slow process answers for so long of each round.
pub(crate) const SLOW_ANSWERS: Duration = Duration::from_secs(20);
/// The length of a round.
pub(crate) const SLOW_ROUND: Duration = Duration::from_secs(60);

/// Where instances are: from 127.0.0.1 on.
const INSTANCES: u32 = 0x7f00_0001;
/// Where endpoints are: from 127.128.0.1 on.
const ENDPOINTS: u32 = 0x7f80_0001;

/// The `number`-th address; ports from 10,000 on, and then the next host.
fn address(first: u32, number: u32) -> SocketAddr {
    const PORTS: u32 = 50_000;
    let (host, port) = (number / PORTS, number % PORTS);
    let port = u16::try_from(10_000 + port).expect("10,000 and less than 50,000 fit");
    SocketAddr::from((Ipv4Addr::from(first + host), port))
}
