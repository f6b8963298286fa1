//! Carrying out what the manager orders, with all the ways in which that goes wrong.
//!
//! Invariant: an order has at most one effect, and the manager hears of it at most once unless the provider says it
//! twice. What was under way when ostler died goes on or not, and nobody hears of it.

use std::net::SocketAddr;
use std::time::Duration;

use ostler_journal::SealedChange;
use ostler_keeper::grant::Bucket;
use ostler_keeper::protocol::Grant;
use ostler_manager::{Command, Event, Outcome, Target};
use ostler_model::health::Exit;
use ostler_model::ids::{BindingId, CommandId, InstanceId, ProviderName, SecretId, ServiceName};
use ostler_model::outcome::{BackupMade, Counted, Failure, FailureClass, Observation, Proof};
use ostler_model::time::{Span, Timestamp};
use ostler_runtime::turn::Incoming;

use super::bought::Credential;
use super::buying::{AtBroker, Step};
use super::data::Held;
use super::drilling::DRILLING_TAKES;
use super::seeing::cause;
use super::truth::Watching;
use super::{Happening, World};
use crate::act::Spoil;
use crate::dice::{Concern, key};
use crate::mutant::Mutant;
use crate::promise::Promise;
use crate::sketch::Kind;

/// An order under way.
#[derive(Debug)]
pub(crate) struct Order {
    pub(super) id: CommandId,
    pub(super) command: Command,
    pub(super) spoil: Option<Spoil>,
    /// The ostler that gave it.
    pub(super) incarnation: u32,
    /// The keeper that took it.
    keeper: u32,
    pub(super) since: Timestamp,
    /// What a process that it starts is given from brokers.
    given: Vec<Credential>,
    /// It is one to a broker.
    pub(super) bought: Option<Box<AtBroker>>,
}

impl Order {
    /// It takes far longer than such orders do.
    pub(crate) fn is_slow(&self) -> bool {
        self.spoil == Some(Spoil::Slow)
    }

    /// What it is done to.
    pub(crate) fn target(&self) -> Target {
        self.command.target()
    }

    pub(crate) fn in_words(&self) -> String {
        self.command.in_words()
    }
}

pub(super) fn failure(class: FailureClass, detail: &str) -> Outcome {
    Outcome::Failed(Failure { class, detail: detail.to_owned(), remedy: "look at the provider".to_owned() })
}

const MILLI: Duration = Duration::from_millis(1);
const SECOND: Duration = Duration::from_secs(1);
/// What takes longer than this stands in the way of whatever comes after it.
const LONG: Duration = Duration::from_secs(300);
/// Nothing takes longer than this.
const SLOWEST: Duration = Duration::from_secs(1800);
/// An answer that does not come is given up after this time.
const GIVEN_UP: Duration = Duration::from_secs(60);

impl World {
    /// Takes an order: at once where it has no outcome, and after its time elsewhere.
    pub(super) fn accept(&mut self, id: CommandId, command: &Command) {
        match command {
            Command::Watch { instance, address } => self.watch(id, instance, *address),
            Command::Unwatch { instance } => self.unwatch(instance),
            Command::Route { instance, address } => {
                if let Some(truth) = self.truth.instances.get_mut(instance) {
                    truth.routed = *address;
                }
                self.recount(instance, cause(command));
            }
            Command::Notify { .. } => self.counts.told += 1,
            Command::Mitigate { leftover } => {
                let found = self
                    .knowledge()
                    .and_then(|known| known.services.get(leftover.instance.service())?.leftovers.get(leftover));
                if let Some(provider) = found.map(|found| found.placement.provider.clone()) {
                    self.hand_to_broker(id, command, provider);
                }
            }
            Command::Fault { .. } | Command::Undo { .. } => {
                // What is still being caused is ended first, as with the server's hands.
                let target = command.target();
                self.orders.retain(|_, order: &Order| order.target() != target);
                self.send(id, command.clone(), None, DRILLING_TAKES);
            }
            Command::OpenEndpoint { .. } | Command::CloseEndpoint { .. } | Command::Fence { .. } => {
                self.send(id, command.clone(), None, 2 * MILLI);
            }
            Command::ProveBackup { service, .. } => {
                let mut draw = self.draw(Concern::Latency, &InstanceId::new(service.clone(), 0));
                let length = draw.duration(2 * SECOND, 120 * SECOND);
                self.send(id, command.clone(), None, length);
            }
            Command::DropBackup { .. } => self.send(id, command.clone(), None, 20 * MILLI),
            Command::Provision { instance }
            | Command::Observe { instance }
            | Command::Before { instance, .. }
            | Command::Start { instance, .. }
            | Command::Bind { instance, .. }
            | Command::Unbind { instance, .. }
            | Command::Tidy { instance, .. }
            | Command::Update { instance, .. }
            | Command::Backup { instance, .. }
            | Command::Prove { instance }
            | Command::Restore { instance, .. } => self.hand_to_provider(id, command, instance),
            // Nobody looks any more at what is not to be there, as with the server's hands.
            Command::Stop { instance, .. } | Command::Deprovision { instance } | Command::Release { instance } => {
                self.unwatch(instance);
                self.hand_to_provider(id, command, instance);
            }
        }
    }

    fn unwatch(&mut self, instance: &InstanceId) {
        if let Some(truth) = self.truth.instances.get_mut(instance) {
            truth.watch = None;
        }
    }

    fn watch(&mut self, id: CommandId, instance: &InstanceId, address: SocketAddr) {
        let reported =
            self.knowledge().and_then(|known| known.instance(instance)).and_then(|known| known.health.clone());
        let now = self.now;
        let access = self.disk().secret(&SecretId::of_instance(instance)).and_then(Credential::from_secret);
        if let Some(truth) = self.truth.instances.get_mut(instance) {
            truth.watch = Some(Watching { id, address, access, since: now, reported, looks_at: None });
        }
        self.plan_look(instance);
    }

    fn send(&mut self, id: CommandId, command: Command, spoil: Option<Spoil>, length: Duration) {
        self.send_all(id, command, spoil, length, None);
    }

    pub(super) fn send_to_broker(
        &mut self,
        id: CommandId,
        command: Command,
        spoil: Option<Spoil>,
        length: Duration,
        bought: AtBroker,
    ) {
        self.send_all(id, command, spoil, length, Some(Box::new(bought)));
    }

    fn send_all(
        &mut self,
        id: CommandId,
        command: Command,
        spoil: Option<Spoil>,
        length: Duration,
        bought: Option<Box<AtBroker>>,
    ) {
        self.last_order += 1;
        let (incarnation, keeper, since) = (self.incarnation, self.keeper_epoch, self.now);
        let given = self.given_from_brokers(&command);
        let order = Order { id, command, spoil, incarnation, keeper, since, given, bought };
        self.orders.insert(self.last_order, order);
        self.after(length, Happening::Done(self.last_order));
    }

    fn hand_to_provider(&mut self, id: CommandId, command: &Command, instance: &InstanceId) {
        let Some(name) = self.provider_of(instance) else {
            return self.send(id, command.clone(), Some(Spoil::Fails), MILLI);
        };
        self.truth.place(instance, &name);
        // A new order ends the one before it, as the server's hands do: what it has begun may go on, unheard.
        let incarnation = self.incarnation;
        self.orders.for_each_of(&command.target(), |former| {
            if former.incarnation == incarnation {
                former.incarnation = 0;
            }
        });
        if self.town.kinds.get(&name) == Some(&Kind::Broker) {
            return self.hand_to_broker(id, command, name);
        }
        let length = self.length_of(command, instance);
        let Some(provider) = self.truth.providers.get_mut(&name) else { return };
        let spoil = if provider.answers() { provider.spoils.pop_front() } else { None };
        let length = if spoil == Some(Spoil::Slow) { (length * 100).min(SLOWEST) } else { length };
        let now = self.now;
        let Some(truth) = self.truth.instances.get_mut(instance) else { return };
        if matches!(command, Command::Stop { .. }) && spoil != Some(Spoil::Fails) {
            truth.bucket = None; // what is being stopped is not started again
        }
        // A provider does one thing at a time to one instance, whoever asked.
        let end = truth.busy_until.max(now) + length;
        truth.busy_until = end;
        self.send(id, command.clone(), spoil, end.since(now));
    }

    fn provider_of(&self, instance: &InstanceId) -> Option<ProviderName> {
        if let Some(truth) = self.truth.instances.get(instance) {
            return Some(truth.provider.clone());
        }
        let known = self.knowledge()?;
        let service = known.services.get(instance.service())?;
        let placement =
            known.instance(instance).map_or(service.placement.as_ref(), |found| service.placement_of(found));
        Some(placement?.provider.clone())
    }

    /// How long an order takes, drawn.
    pub(super) fn length_of(&mut self, command: &Command, instance: &InstanceId) -> Duration {
        let mut draw = self.draw(Concern::Latency, instance);
        let Some(truth) = self.truth.instances.get(instance) else { return MILLI };
        let machine = truth.kind == Kind::Machine;
        let hung = truth.process.as_ref().is_some_and(|process| process.hung);
        let (least, most) = match (command, machine) {
            (Command::Provision { .. }, true) => (50 * MILLI, 3 * SECOND),
            (Command::Provision { .. }, false) => (20 * SECOND, 600 * SECOND),
            (Command::Observe { .. }, true) => (MILLI, 5 * MILLI),
            (Command::Observe { .. }, false) => (50 * MILLI, SECOND),
            (Command::Before { .. }, _) => (20 * MILLI, 5 * SECOND),
            (Command::Start { .. }, true) => (MILLI, 20 * MILLI),
            (Command::Start { .. } | Command::Stop { .. }, false) => (SECOND, 30 * SECOND),
            (Command::Stop { .. }, true) => (5 * MILLI, 500 * MILLI),
            (Command::Deprovision { .. }, true) => (10 * MILLI, 500 * MILLI),
            (Command::Deprovision { .. }, false) => (10 * SECOND, 300 * SECOND),
            (Command::Bind { .. } | Command::Unbind { .. }, true) => (5 * MILLI, 200 * MILLI),
            (Command::Bind { .. } | Command::Unbind { .. }, false) => (200 * MILLI, 5 * SECOND),
            (Command::Backup { .. } | Command::Restore { .. }, true) => (100 * MILLI, 60 * SECOND),
            (Command::Backup { .. } | Command::Restore { .. }, false) => (10 * SECOND, 600 * SECOND),
            _ => (MILLI, 2 * MILLI),
        };
        let more = match command {
            Command::Stop { grace, .. } if hung => grace.get(),
            _ => Duration::ZERO,
        };
        draw.duration(least, most) + more
    }

    /// What a process that is started by this order is given from brokers: what is sealed now.
    fn given_from_brokers(&self, command: &Command) -> Vec<Credential> {
        let Command::Start { instance, generation, .. } = command else { return Vec::new() };
        let consumer = instance.service();
        let service = self.knowledge().and_then(|known| known.services.get(consumer));
        let Some(launch) = service.and_then(|service| service.launches.get(generation)) else { return Vec::new() };
        let disk = self.disk();
        let sealed = launch.needs.keys().filter_map(|need| {
            let id = BindingId { consumer: consumer.clone(), need: need.clone() };
            Credential::from_secret(disk.secret(&SecretId::of_binding(&id))?)
        });
        sealed.collect()
    }

    /// An order's time has come.
    pub(super) fn done(&mut self, number: u64) {
        let Some(mut order) = self.orders.remove(number) else { return };
        if self.now.since(order.since) > LONG
            && let Target::Instance(instance) = order.command.target()
        {
            self.witness.disturb(instance.service().as_str(), self.now);
        }
        let heard = order.incarnation == self.incarnation && self.ostler.is_some();
        let (outcome, secrets, delay) = match &order.bought {
            // What a broker agreed to goes on without anybody who asks about it.
            Some(at) if !heard && at.is_accepted() => return,
            Some(_) => match self.ask_broker(&mut order) {
                Step::Ends(outcome, secrets, delay) => (outcome, secrets, delay),
                Step::GoesOn(pause) => {
                    self.orders.insert(number, order);
                    return self.after(pause, Happening::Done(number));
                }
            },
            None => self.carry_out(&order),
        };
        if !heard {
            return;
        }
        if self.mutant == Some(Mutant::LosesOutcomes) && order.id.0.is_multiple_of(7) {
            return;
        }
        let twice = order.spoil == Some(Spoil::Twice);
        let target = order.command.target();
        for again in 0..=u32::from(twice) {
            let event = Event::Ended { id: order.id, outcome: outcome.clone() };
            let incoming = Incoming { event: Some(event), secrets: secrets.clone(), report: None };
            let ended = Some((order.id, target.clone()));
            self.after(delay + SECOND * again, Happening::Arrives(self.incarnation, Box::new(incoming), ended));
        }
    }

    /// The outcome, the secrets that come with it, and how long the answer is on its way.
    fn carry_out(&mut self, order: &Order) -> (Outcome, Vec<SealedChange>, Duration) {
        let instance = match order.command.target() {
            Target::Endpoint(service) => return (self.endpoint(&order.command, &service), Vec::new(), MILLI),
            Target::Vault(service) => return (self.look_after(&order.command, service), Vec::new(), MILLI),
            Target::Drill(_) => return (self.drill(&order.command), Vec::new(), MILLI),
            Target::Nothing | Target::Leftover(_) => return (Outcome::Done, Vec::new(), MILLI),
            Target::Instance(instance) => instance,
        };
        let Some(truth) = self.truth.instances.get(&instance) else {
            // Deleted meanwhile.
            let outcome = match order.command {
                Command::Observe { .. } => Outcome::Observed(Observation::Absent),
                Command::Deprovision { .. } | Command::Unbind { .. } => Outcome::Done,
                Command::Stop { .. } => Outcome::Stopped { exit: None, killed: false, cut: 0 },
                _ => failure(FailureClass::Temporary, "there is no such instance"),
            };
            return (outcome, Vec::new(), MILLI);
        };
        let machine = truth.kind == Kind::Machine;
        let Some(provider) = self.truth.providers.get(&truth.provider) else {
            return (failure(FailureClass::Temporary, "there is no such provider"), Vec::new(), MILLI);
        };
        let keeper_gone = machine && (!self.keeper_up || order.keeper != self.keeper_epoch);
        if provider.out > 0 {
            return (failure(FailureClass::Temporary, "the provider does not answer"), Vec::new(), 10 * SECOND);
        }
        if !provider.answers() || keeper_gone {
            // Whether it reached the provider before the line was cut is a matter of chance.
            let mut draw = self.dice.stream(Concern::Leftovers, key(&[instance.service().as_str()], order.id.0));
            if draw.chance(500) {
                drop(self.perform(order, &instance));
                return (failure(FailureClass::Interrupted, "the answer was cut off"), Vec::new(), 10 * SECOND);
            }
            let class = if keeper_gone { FailureClass::Interrupted } else { FailureClass::Temporary };
            return (failure(class, "it cannot be reached"), Vec::new(), SECOND);
        }
        self.lied |= matches!(order.spoil, Some(Spoil::SaysAbsent | Spoil::SaysStopped));
        let transit = if machine { MILLI / 5 } else { 50 * MILLI };
        let observes = matches!(order.command, Command::Observe { .. });
        let outcome = match order.spoil {
            None | Some(Spoil::Twice | Spoil::Slow) => {
                let (outcome, secrets) = self.perform(order, &instance);
                return (outcome, secrets, transit);
            }
            Some(Spoil::Refuses) => failure(FailureClass::NeedsPerson, "the provider refuses: the account is closed"),
            Some(Spoil::FailsThoughDone) => {
                drop(self.perform(order, &instance));
                failure(FailureClass::Temporary, "500: something went wrong")
            }
            Some(Spoil::NoAnswerThoughDone) => {
                drop(self.perform(order, &instance));
                return (failure(FailureClass::Interrupted, "no answer in time"), Vec::new(), GIVEN_UP);
            }
            Some(Spoil::NoAnswer) => {
                return (failure(FailureClass::Interrupted, "no answer in time"), Vec::new(), GIVEN_UP);
            }
            Some(Spoil::SaysAbsent) if observes => Outcome::Observed(Observation::Absent),
            Some(Spoil::SaysStopped) if observes => Outcome::Observed(Observation::Stopped { exit: None }),
            // Brokers have more ways of going wrong: elsewhere they are all the same one.
            Some(
                Spoil::Fails
                | Spoil::SaysAbsent
                | Spoil::SaysStopped
                | Spoil::Busy
                | Spoil::Conflicts
                | Spoil::AcceptsAndFails
                | Spoil::NeverFinishes
                | Spoil::AppearsLate,
            ) => failure(FailureClass::Temporary, "503: try again"),
        };
        (outcome, Vec::new(), transit)
    }

    fn endpoint(&mut self, command: &Command, service: &ServiceName) -> Outcome {
        match command {
            Command::OpenEndpoint { .. } if self.truth.taken.contains_key(service) => {
                failure(FailureClass::Temporary, "somebody else listens there")
            }
            Command::OpenEndpoint { address, .. } => {
                let free = self.truth.free_endpoint();
                let address = address.unwrap_or(free);
                self.truth.endpoints.insert(service.clone(), address);
                Outcome::Open(address)
            }
            Command::Fence { epoch, .. } => {
                if self.mutant != Some(Mutant::FencesInVain) {
                    self.fence(service);
                }
                self.witness.fenced(service, *epoch);
                Outcome::Done
            }
            _ => {
                self.truth.endpoints.remove(service);
                Outcome::Done
            }
        }
    }

    /// What an order does when nothing goes wrong.
    fn perform(&mut self, order: &Order, instance: &InstanceId) -> (Outcome, Vec<SealedChange>) {
        let command = &order.command;
        let plain = |outcome| (outcome, Vec::new());
        let gone = || plain(failure(FailureClass::Temporary, "there is no such instance"));
        let now = self.now;
        let runs = self.truth.serves(instance, now);
        let spoilt = match command {
            Command::Restore { backup, .. } => self.truth.is_spoilt(instance.service(), &backup.name),
            _ => false,
        };
        let fails = self.truth.restore_fails.contains_key(instance.service());
        let Some(truth) = self.truth.instances.get_mut(instance) else { return gone() };
        let times = truth.times_made;
        match command {
            Command::Provision { .. } => {
                if !truth.made {
                    truth.made = true;
                    truth.lost = false;
                    truth.times_made += 1;
                    truth.held = Held::default();
                    if self.mutant == Some(Mutant::MakesOrphans) && instance.number().is_multiple_of(2) {
                        let other = InstanceId::new(instance.service().clone(), instance.number() + 1000);
                        let provider = truth.provider.clone();
                        self.truth.place(&other, &provider).made = true;
                    }
                }
                let times = self.truth.instances.get(instance).map_or(0, |truth| truth.times_made);
                let secret = format!("admin of {instance}, made for the {times}th time").into_bytes();
                (Outcome::Done, vec![SealedChange::set(SecretId::of_instance(instance), secret)])
            }
            Command::Observe { .. } => plain(Outcome::Observed(match (truth.running(), truth.made) {
                (Some(running), _) => Observation::Running(running),
                (None, true) => Observation::Stopped { exit: None },
                (None, false) => Observation::Absent,
            })),
            Command::Before { .. } if self.truth.before_fails.contains_key(instance.service()) => {
                plain(failure(FailureClass::Temporary, "the one-off command ended with exit code 1"))
            }
            Command::Before { .. } if !truth.made => gone(),
            Command::Before { .. } => plain(Outcome::Done),
            Command::Start { reflex_burst, reflex_refill, .. } => {
                if !truth.made {
                    return gone();
                }
                let refill_ms = u64::try_from(reflex_refill.get().as_millis()).unwrap_or(u64::MAX);
                let grant = Grant { burst: *reflex_burst, refill_ms };
                let instant = self.beginning + now.since(super::START);
                match &mut truth.bucket {
                    Some(bucket) => bucket.replace(grant, instant),
                    None => truth.bucket = Some(Bucket::new(grant, instant)),
                }
                truth.given.clone_from(&order.given);
                if truth.process.is_none() {
                    self.start_process(instance);
                } else if self.mutant == Some(Mutant::StartsTwins) {
                    self.witness.broken(
                        Promise::OneProcess,
                        now,
                        format!("{instance} was started beside a live process"),
                    );
                }
                let running = self.truth.instances.get(instance).and_then(super::truth::InstanceTruth::running);
                plain(running.map_or_else(
                    || failure(FailureClass::Temporary, "it ended at once"),
                    |running| Outcome::Started(running.into()),
                ))
            }
            Command::Stop { .. } => {
                let killed = truth.process.as_ref().is_some_and(|process| process.hung);
                truth.bucket = None;
                let was = truth.process.take();
                self.refresh_because(instance, cause(command));
                let exit = was.map(|_| if killed { Exit::Signal(9) } else { Exit::Code(0) });
                plain(Outcome::Stopped { exit, killed, cut: 0 })
            }
            Command::Deprovision { .. } => {
                self.recount_gone(instance);
                self.truth.remove(instance);
                (Outcome::Done, vec![SealedChange::delete(SecretId::of_instance(instance))])
            }
            Command::Bind { binding, endpoint, .. } if runs => {
                truth.held.used |= binding.consumer != binding.need;
                let held = super::truth::BindingTruth { instance: instance.clone() };
                self.truth.bindings.insert(binding.clone(), held);
                let digest = format!("{instance} made {times} times at {endpoint}");
                let secret = SealedChange::set(SecretId::of_binding(binding), digest.clone().into_bytes());
                (Outcome::Bound { digest, renew_at: None }, vec![secret])
            }
            Command::Bind { .. } => plain(failure(FailureClass::Temporary, "the server does not answer")),
            Command::Unbind { binding, .. } if runs || !truth.made => {
                self.truth.bindings.remove(binding);
                (Outcome::Done, vec![SealedChange::delete(SecretId::of_binding(binding))])
            }
            Command::Unbind { .. } => plain(failure(FailureClass::Temporary, "the server does not answer")),
            Command::Backup { name, .. } if runs => {
                self.keep(instance, name, order);
                let made = BackupMade { name: name.clone(), bytes: 1000, sha256: "00".repeat(32), place: None };
                plain(Outcome::BackedUp(made))
            }
            Command::Backup { .. } => plain(failure(FailureClass::Temporary, "the server does not answer")),
            Command::Restore { .. } if spoilt => plain(Outcome::Unusable { why: "it is damaged".to_owned() }),
            Command::Restore { .. } if fails => plain(failure(FailureClass::Temporary, "it cannot be restored now")),
            Command::Restore { backup, .. } if truth.made => {
                self.restore(instance, &backup.name);
                plain(Outcome::Done)
            }
            Command::Restore { .. } => gone(),
            Command::Prove { .. } if runs => {
                self.witness.looked_at(instance);
                plain(Outcome::Proved { checks: Vec::new() })
            }
            Command::Prove { .. } => plain(failure(FailureClass::Temporary, "the server does not answer")),
            _ => plain(Outcome::Done),
        }
    }

    /// Backups are looked at, and deleted, where nothing else is done.
    fn look_after(&mut self, command: &Command, service: ServiceName) -> Outcome {
        match command {
            Command::ProveBackup { backup, .. } => {
                let spoilt = self.truth.is_spoilt(&service, &backup.name);
                self.truth.proofs.insert(service, self.now);
                match spoilt {
                    true => Outcome::Unusable { why: "it is damaged".to_owned() },
                    false => Outcome::Proven(Proof { took: Span::seconds(2), counted: Counted::new(), contracts: 0 }),
                }
            }
            Command::DropBackup { backup, .. } => {
                self.truth.kept.remove(&(service, backup.name.clone()));
                Outcome::Done
            }
            _ => Outcome::Done,
        }
    }

    /// Ostler is gone: of what it had under way, some goes on, and some never reached anybody.
    pub(super) fn leave_orders(&mut self) {
        let dice = self.dice;
        self.orders.retain(|number, order| {
            let runs_elsewhere = !matches!(order.command, Command::Observe { .. });
            runs_elsewhere && dice.stream(Concern::Leftovers, number).chance(500)
        });
    }
}

/// The time before all others: nothing is busy then.
pub(super) const FREE: Timestamp = Timestamp(0);
