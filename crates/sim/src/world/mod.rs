//! The simulated world, and the real loop that looks after it.
//!
//! Invariant: everything follows from the seed, the estate and the acts. The loop is `runtime`'s own
//! ([`Turner`]); what it drives are this world's journal, hands and clock. A probe that shows no change is no event.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use ostler_journal::AppendError;
use ostler_keeper::grant::Bucket;
use ostler_manager::{Command, Event, FactKind, Knowledge, ResumeCause, Target};
use ostler_model::estate::{Estate, Provider, Service};
use ostler_model::health::Exit;
use ostler_model::ids::{AttemptId, CommandId, EstateUuid, InstanceId, ProviderName, ServiceName};
use ostler_model::time::Timestamp;
use ostler_runtime::clock::Steady;
use ostler_runtime::daemon::REFLEXES;
use ostler_runtime::envelope;
use ostler_runtime::turn::{Incoming, Turner};

pub(crate) use self::bought::Credential;
use self::bought::Plan;
use self::hands::{Cut, SimHands};
use self::line::Line;
pub(crate) use self::truth::Truth;
pub use self::year::Policy;
use crate::act::{Act, CutAt, Planned};
use crate::callers::Callers;
use crate::dice::{Concern, Dice, Stream, key};
use crate::disk::{Disk, DiskJournal, Keep, Lie, NextAppend};
use crate::mutant::Mutant;
use crate::promise::Promise;
use crate::sketch::Town;
use crate::witness::{Scene, Witness};

mod acts;
mod bought;
mod broker;
mod buying;
mod data;
mod drilling;
mod ending;
mod hands;
mod line;
mod orders;
mod people;
mod seeing;
mod truth;
mod year;

/// 2026-01-05, a Monday, 12:00 UTC: when every run begins.
pub const START: Timestamp = Timestamp(1_767_614_400_000_000);
/// How often what cannot be stored is tried again, as the server does.
const STUCK_RETRY: Duration = Duration::from_secs(1);
/// Ostler's clock waits for its machine's if it is ahead by more than this; it is by less when it is asked often.
const SLOWED: Duration = Duration::from_secs(1);
/// Everything is looked at after so many steps, or as many as there are instances: a look costs as much as a step for
/// each of them.
const LOOK_EVERY: usize = 1000;
/// Estates up to this size are compared with their facts at each crash.
const COMPARED_MAX: usize = 200;

/// Something that will happen.
#[derive(Debug)]
enum Happening {
    /// The next planned act, and those of the same time.
    Acts,
    /// An act that lasted is over.
    Over(Act),
    /// An order is carried out.
    Done(u64),
    /// News reaches this incarnation of ostler.
    Arrives(u32, Box<Incoming>, Option<(CommandId, Target)>),
    /// The keeper's report reaches ostler.
    Report(u64),
    /// Something about an instance is to be looked at: it may have become ready, or slow, or well.
    Refresh(InstanceId),
    /// The process ends by itself.
    Dies(InstanceId, u32, Exit, &'static str),
    /// The watch on an instance looks at it.
    Sees(InstanceId, CommandId),
    /// The watch on an instance is mistaken.
    FalseAlarm(InstanceId),
    /// The provider starts again what died there.
    SelfHeals(InstanceId),
    /// A broker is done with what it agreed to do.
    Completes(AttemptId),
    /// A broker makes what it was asked for long ago.
    Appears(AttemptId, ProviderName, Plan),
    /// Credentials end by themselves.
    Expires(Credential),
    /// It should be healed by now.
    Overdue(InstanceId),
    /// A drill has lasted as long as it may.
    DrillOver(u32),
    /// Ostler is started.
    ManagerBack(u32),
    /// The keeper is started.
    KeeperBack(u32),
    /// A person looks whether ostler asks anything.
    PersonLooks,
    /// The person on call has come because of an instance.
    PersonHelps(InstanceId),
    /// What could not be stored is tried again.
    Retry,
}

/// Counts of what happened, for people.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Steps of the run.
    pub steps: u64,
    /// Turns of the loop.
    pub turns: u64,
    /// Commands that the manager gave.
    pub commands: u64,
    /// Faults that came.
    pub faults: u64,
    /// Times that ostler was started.
    pub starts: u64,
    /// Times that people were told something.
    pub told: u64,
}

/// What a run is made of.
pub struct Setting {
    /// The estate, its providers and what they offer.
    pub town: Town,
    /// The seed of everything that is drawn.
    pub seed: u64,
    /// What happens, in the order of its time.
    pub plan: Vec<Planned>,
    /// How much of the past the disk keeps.
    pub keep: Keep,
    /// What is wrong with this world's manager or providers; to show that the checks see it.
    pub mutant: Option<Mutant>,
}

/// The world.
pub struct World {
    town: Town,
    dice: Dice,
    now: Timestamp,
    /// How far ostler's machine's clock is ahead of the time, in microseconds.
    skew: i64,
    steady: Steady,
    /// When ostler's clock was last seen to wait for its machine's, which had been set back.
    slowed_until: Timestamp,
    queue: BTreeMap<(Timestamp, u64), Happening>,
    sequence: u64,
    ostler: Option<Turner<DiskJournal, SimHands>>,
    incarnation: u32,
    /// Nothing more is tried before, because nothing can be stored.
    stuck_until: Timestamp,
    /// When ostler was started last.
    started_at: Timestamp,
    /// Where ostler is to be cut off, and for how long it stays away.
    cut: Option<(CutAt, Duration)>,
    /// What the last ostler knew when it died, if all of it was stored.
    remembered: Option<Box<Knowledge>>,
    disk: Arc<Mutex<Disk>>,
    inbox: VecDeque<Incoming>,
    reports: BTreeMap<u64, Event>,
    last_report: u64,
    keeper_up: bool,
    keeper_epoch: u32,
    reflexes: Bucket,
    /// Buckets count real instants: this one stands for the beginning of the run.
    beginning: Instant,
    /// The estate file as it is now.
    file: Arc<Estate>,
    /// What people took out of it.
    removed_providers: BTreeMap<ProviderName, Provider>,
    removed: BTreeMap<ServiceName, Arc<Service>>,
    truth: Truth,
    callers: Callers,
    witness: Witness,
    orders: Line,
    last_order: u64,
    mutant: Option<Mutant>,
    /// A provider said something wrong about what exists.
    lied: bool,
    /// The storm is long over: what brokers give lasts from now on, so that a day of waiting is no long run.
    is_calm: bool,
    plan: VecDeque<Planned>,
    policy: Policy,
    counts: Counts,
    /// Small estates are compared with their facts, and looked at before each turn; not in runs that only measure.
    is_compared: bool,
    /// The step at which everything is looked at next.
    look_at_step: u64,
}

impl World {
    /// A world in which ostler has just been started and was given its estate.
    pub fn new(setting: Setting) -> Self {
        let Setting { town, seed, plan, keep, mutant } = setting;
        let beginning = Instant::now();
        let mut disk = Disk::new(keep);
        disk.lie = match mutant {
            Some(Mutant::ForgetfulDisk) => Some(Lie::ForgetsLastAppend),
            Some(Mutant::SwappingDisk) => Some(Lie::SwapsFacts),
            Some(Mutant::SecretlessDisk) => Some(Lie::DropsSecrets),
            Some(Mutant::RemembersUnrecorded) => Some(Lie::SkipsHealth),
            _ => None,
        };
        let mut callers = Callers::default();
        callers.declare(town.estate.services.iter().map(|(name, service)| (name, &service.needs)), START);
        let mut world = Self {
            dice: Dice::new(seed),
            now: START,
            skew: 0,
            steady: Steady::new(START, Duration::ZERO),
            slowed_until: Timestamp::default(),
            queue: BTreeMap::new(),
            sequence: 0,
            ostler: None,
            incarnation: 1, // 0 is nobody's
            stuck_until: START,
            started_at: START,
            cut: None,
            remembered: None,
            disk: Arc::new(Mutex::new(disk)),
            inbox: VecDeque::new(),
            reports: BTreeMap::new(),
            last_report: 0,
            keeper_up: true,
            keeper_epoch: 0,
            reflexes: Bucket::new(REFLEXES, beginning),
            beginning,
            file: town.estate.clone(),
            removed_providers: BTreeMap::new(),
            removed: BTreeMap::new(),
            truth: Truth::of(&town),
            callers,
            witness: Witness::default(),
            orders: Line::default(),
            last_order: 0,
            mutant,
            lied: false,
            is_calm: false,
            plan: plan.into(),
            policy: Policy::Ostler { answers: Duration::MAX },
            counts: Counts::default(),
            is_compared: keep != Keep::Nothing,
            look_at_step: LOOK_EVERY as u64,
            town,
        };
        world.plan_acts();
        world.start_ostler();
        world.apply();
        world
    }

    /// The time.
    pub fn now(&self) -> Timestamp {
        self.now
    }

    /// How long the run has lasted.
    pub fn elapsed(&self) -> Duration {
        self.now.since(START)
    }

    /// What happened so far.
    pub fn counts(&self) -> Counts {
        self.counts
    }

    /// The promises that were broken so far.
    pub fn violations(&self) -> &[crate::promise::Violation] {
        &self.witness.violations
    }

    /// What the manager knows, while it is there.
    pub fn knowledge(&self) -> Option<&Knowledge> {
        self.ostler.as_ref().map(Turner::knowledge)
    }

    /// How many facts are stored, and the SHA-256 of their bytes.
    pub fn facts(&self) -> (u64, String) {
        let disk = self.disk();
        (disk.end(), disk.digest())
    }

    /// Every fact that is kept, in the order of its time, one line each; estates and catalogs by their names only.
    pub fn tale(&self) -> Vec<String> {
        let disk = self.disk();
        let told = disk.records().filter_map(|record| envelope::unwrap(record).ok()).map(|fact| {
            let body = match &fact.kind {
                FactKind::EstateDeclared { .. } | FactKind::CatalogSeen { .. } => fact.kind.word().to_owned(),
                kind => serde_json::to_string(kind).unwrap_or_default(),
            };
            format!("{} {body}", fact.at.to_millis())
        });
        told.collect()
    }

    /// The accounts of the callers, which are closed with it.
    pub fn close_accounts(&mut self) -> BTreeMap<ServiceName, crate::callers::Service> {
        std::mem::take(&mut self.callers).closed(self.now)
    }

    /// From now on callers are counted.
    pub fn open_accounts(&mut self) {
        self.callers.begin(self.now);
    }

    fn disk(&self) -> MutexGuard<'_, Disk> {
        self.disk.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn after(&mut self, delay: Duration, happening: Happening) {
        self.sequence += 1;
        self.queue.insert((self.now + delay, self.sequence), happening);
    }

    /// A stream for the next draw about an instance.
    fn draw(&mut self, concern: Concern, id: &InstanceId) -> Stream {
        let count = self.truth.instances.get_mut(id).map_or(0, |truth| {
            truth.draws += 1;
            truth.draws
        });
        self.dice.stream(concern, key(&[id.service().as_str()], u64::from(id.number()) << 32 | count))
    }

    /// What the clock of ostler's machine shows.
    fn wall(&self) -> Timestamp {
        Timestamp(self.now.0 + self.skew)
    }

    fn instant(&self) -> Instant {
        self.beginning + self.elapsed()
    }

    fn shown(&mut self) -> Timestamp {
        let (wall, elapsed) = (self.wall(), self.elapsed());
        let shown = self.steady.now(wall, elapsed);
        if shown > wall + SLOWED {
            self.slowed_until = self.now;
        }
        shown
    }

    /// Runs until `until` after the start of the run, or until a promise is broken.
    pub fn run_until(&mut self, until: Duration) {
        let until = START + until;
        while self.witness.violations.is_empty() && self.step(until) {}
        if self.witness.violations.is_empty() {
            self.now = self.now.max(until);
        }
    }

    /// One step: a turn of the loop if something waits for it, or whatever comes next before `until`.
    fn step(&mut self, until: Timestamp) -> bool {
        self.counts.steps += 1;
        self.witness.step = self.counts.steps;
        if self.counts.steps >= self.look_at_step {
            self.look_at_step = self.counts.steps + LOOK_EVERY.max(self.truth.instances.len()) as u64;
            self.look_at_all();
        }
        let ready = self.ostler.is_some() && self.now >= self.stuck_until;
        if ready && !self.inbox.is_empty() {
            self.turn();
            return true;
        }
        let happens = self.queue.first_key_value().map(|((at, _), _)| *at);
        let wakes = self.wakes_at().filter(|_| ready);
        let next = [happens, wakes].into_iter().flatten().min();
        let Some(next) = next.filter(|next| *next <= until) else { return false };
        self.now = self.now.max(next);
        if happens == Some(next) {
            let (_, happening) = self.queue.pop_first().expect("it was just seen");
            self.happen(happening);
        } else {
            self.turn();
        }
        true
    }

    /// When the loop asked to be called again, in the world's time: at the earliest, since ostler's clock may go slower.
    fn wakes_at(&mut self) -> Option<Timestamp> {
        let wake = self.ostler.as_ref()?.next_wake()?;
        let shown = self.shown();
        Some(self.now + wake.since(shown).max(Duration::from_micros(u64::from(wake > shown))))
    }

    fn happen(&mut self, happening: Happening) {
        match happening {
            Happening::Acts => self.planned_acts(),
            Happening::Over(act) => self.over(&act),
            Happening::Done(order) => self.done(order),
            Happening::Arrives(incarnation, incoming, ended) => {
                if incarnation == self.incarnation && self.ostler.is_some() {
                    if let Some((id, target)) = ended {
                        self.witness.ended(id, &target);
                    }
                    self.inbox.push_back(*incoming);
                }
            }
            Happening::Report(number) => self.report(number),
            Happening::Refresh(id) => self.refresh(&id),
            Happening::Dies(id, pid, exit, cause) => self.dies(&id, pid, exit, cause),
            Happening::Sees(id, watch) => self.sees(&id, watch),
            Happening::FalseAlarm(id) => self.false_alarm(&id),
            Happening::SelfHeals(id) => self.self_heals(&id),
            Happening::Completes(name) => self.completes(&name),
            Happening::Appears(name, provider, plan) => self.appears(&name, &provider, &plan),
            Happening::Expires(credential) => self.expires(&credential),
            Happening::Overdue(id) => self.overdue(&id),
            Happening::DrillOver(number) => self.end_drill(number),
            Happening::PersonLooks => self.person_looks(),
            Happening::PersonHelps(id) => self.person_helps(&id),
            Happening::ManagerBack(incarnation) if incarnation == self.incarnation => self.start_ostler(),
            Happening::KeeperBack(epoch) if epoch == self.keeper_epoch => self.keeper_back(),
            Happening::Retry if self.ostler.as_ref().is_some_and(Turner::is_stuck) => self.turn(),
            Happening::ManagerBack(_) | Happening::KeeperBack(_) | Happening::Retry => {}
        }
    }

    /// One turn of the real loop.
    fn turn(&mut self) {
        self.counts.turns += 1;
        let shown = self.shown();
        let Some(mut ostler) = self.ostler.take() else { return };
        let only_looks = self.inbox.is_empty();
        let small = self.is_compared && ostler.knowledge().services.len() <= COMPARED_MAX;
        let was_stuck = ostler.is_stuck();
        let was_settled = only_looks && small && !was_stuck && ostler.knowledge().is_settled();
        self.arm(&mut ostler);
        let inbox = &mut self.inbox;
        let result = ostler.turn(shown, &mut std::iter::from_fn(|| inbox.pop_front()));
        let handed = ostler.hands().take();
        if was_stuck && !ostler.is_stuck() {
            self.witness.holder_returned(); // what could not be stored in time is not carried out, but looked at anew
        }
        self.ostler = Some(ostler);
        for trouble in handed.troubles {
            self.witness.broken(Promise::SecretsKept, self.now, trouble);
        }
        if let Some(stored) = handed.stored {
            self.reports.retain(|number, _| *number > stored);
        }
        let batch = match self.mutant {
            Some(mutant) => mutant.orders(handed.commands, self.knowledge(), was_settled),
            None => handed.commands,
        };
        // What was cut off in the middle says too little to be judged alone.
        self.order_all(&batch, was_settled, was_stuck || handed.cut);
        if self.disk().cut || handed.cut {
            let away = self.cut.take().map_or(Duration::from_millis(100), |(_, away)| away);
            return self.manager_dies(away);
        }
        if let Err(error) = result {
            if !matches!(error, AppendError::DiskFull { .. }) {
                self.witness.broken(Promise::FactsKept, self.now, format!("the journal refuses: {error}"));
            }
            self.stuck_until = self.now + STUCK_RETRY;
            self.witness.disturb_all(self.now);
            self.after(STUCK_RETRY, Happening::Retry);
        }
    }

    /// Prepares the cut that was ordered, so that it comes within this turn.
    fn arm(&mut self, ostler: &mut Turner<DiskJournal, SimHands>) {
        let Some((at, _)) = self.cut else { return };
        let next = match at {
            CutAt::Rest => return,
            CutAt::BeforeStoring => NextAppend::CutBefore,
            CutAt::MidStoring => NextAppend::Torn,
            CutAt::AfterStoring => NextAppend::CutAfter,
            CutAt::HandingOver(count) => {
                ostler.hands().cut = Some(Cut { after: count });
                return;
            }
        };
        self.disk().next = next;
    }

    fn order_all(&mut self, batch: &[(CommandId, Command)], was_settled: bool, is_part: bool) {
        let now = self.now;
        for (id, command) in batch {
            self.counts.commands += 1;
            if let Some(ostler) = &self.ostler {
                let tells_the_time = self.skew == 0 && self.slowed_until <= START;
                let scene =
                    Scene { now, known: ostler.knowledge(), truth: &self.truth, batch, is_part, tells_the_time };
                self.witness.ordered(*id, command, &scene);
            }
            let harmless = match command {
                Command::Backup { name, .. } => name.starts_with("scheduled-"),
                // What may be left at a broker is asked about from time to time.
                Command::ProveBackup { .. } | Command::DropBackup { .. } => true, // their time came
                Command::Notify { .. } | Command::Mitigate { .. } | Command::Tidy { .. } => true,
                Command::Bind { instance, .. } | Command::Start { instance, .. } => self.is_to_be_renewed(instance),
                _ => self.is_left_over(command),
            };
            if was_settled && !harmless {
                let what = format!("the estate was settled, and ostler ordered: {}", command.in_words());
                self.witness.broken(Promise::SettledLeftAlone, now, what);
            }
            self.accept(*id, command);
        }
    }

    /// Whether it is about what a move left: its time came, or it is looked at again where its provider did not answer.
    fn is_left_over(&self, command: &Command) -> bool {
        let Target::Instance(instance) = command.target() else { return false };
        let known = self.knowledge().and_then(|known| known.instance(&instance));
        known.is_some_and(|instance| instance.is_fenced() && (instance.ending.is_some() || instance.failures > 0))
    }

    /// Ostler is started, and folds what is stored.
    fn start_ostler(&mut self) {
        if self.ostler.is_some() {
            return;
        }
        self.counts.starts += 1;
        self.started_at = self.now;
        self.disk().before_start();
        let lost = self.disk().lost();
        if let Some(lost) = lost {
            self.witness.broken(Promise::FactsKept, self.now, lost);
        }
        let turner = match Turner::new(DiskJournal::on(&self.disk), SimHands::default()) {
            Ok(turner) => turner,
            Err(error) => {
                return self.witness.broken(Promise::FactsKept, self.now, format!("ostler cannot start: {error}"));
            }
        };
        if self.remembered.take().is_some_and(|known| *known != *turner.knowledge()) {
            self.witness.broken(Promise::ReplayEqual, self.now, "a start knows something else than was known");
        }
        // What the gateway is told before anything else.
        for (name, service) in &turner.knowledge().services {
            for (number, instance) in service.instances.iter().filter(|(_, instance)| instance.routed) {
                let id = InstanceId::new(name.clone(), *number);
                if let Some(truth) = self.truth.instances.get_mut(&id) {
                    truth.routed = instance.address();
                }
            }
        }
        self.ostler = Some(turner);
        self.stuck_until = self.now;
        self.steady = Steady::new(self.wall(), self.elapsed());
        self.witness.ostler_started(self.now);
        self.inbox.clear();
        self.inbox.push_back(self.resumed(ResumeCause::Started));
        let numbers: Vec<u64> = self.reports.keys().copied().collect();
        for number in numbers {
            self.after(Duration::from_micros(200), Happening::Report(number));
        }
        self.recount_all();
    }

    fn resumed(&self, cause: ResumeCause) -> Incoming {
        let uuid = EstateUuid::from_random([7; 16]);
        Event::Resumed { cause, uuid }.into()
    }

    /// The manager process is gone: what it held in memory is lost, what others do for it goes on or not.
    fn manager_dies(&mut self, away: Duration) {
        let Some(ostler) = self.ostler.take() else { return };
        let cut = self.disk().cut;
        let comparable = !cut && !ostler.is_stuck() && ostler.knowledge().instances <= COMPARED_MAX;
        self.remembered = comparable.then(|| Box::new(ostler.knowledge().clone()));
        drop(ostler);
        self.incarnation += 1;
        self.cut = None;
        self.inbox.clear();
        for truth in self.truth.instances.values_mut() {
            truth.watch = None;
        }
        self.leave_orders();
        self.witness.disturb_all(self.now);
        self.after(away, Happening::ManagerBack(self.incarnation));
    }
}
