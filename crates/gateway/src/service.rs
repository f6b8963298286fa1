//! One service as the gateway knows it: its targets, who is connected to which, and its account of troubles.
//!
//! Invariant: a connection counts for its target from before it is attempted until it is gone, so that a drained
//! target with no count has no connection, and none on its way.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use ostler_model::estate::Protocol;
use ostler_model::ids::InstanceId;
use ostler_model::time::Timestamp;
use tokio::sync::{Notify, Semaphore, mpsc};

use crate::choose::{Candidate, choose};
use crate::http::upstream::Upstream;
use crate::messages::{REFUSED_MAX, Refused, Says, Table, Target};
use crate::outlier::{self, Record, Verdict};
use crate::pump::Traffic;
use crate::tally::{Tally, Went};
use crate::trouble::{Account, Interval};

/// How long a caller is held as long as no table has come for its service: a gateway that was just started gets the
/// tables right after the sockets.
const HOLD_WITHOUT_TABLE: Duration = Duration::from_secs(10);

/// A target whose connect failed is the last choice for this many times the time that the failure took, so that
/// callers lose at most a tenth of their time to it …
const SUSPECT_FACTOR: u32 = 10;
/// … and for at least this long.
const SUSPECT_MIN: Duration = Duration::from_millis(50);

/// Idle connections to one target that are kept. More are needed only by callers that come and go all at once.
const IDLE_MAX: usize = 256;
/// For so long; most servers close what is idle for longer by themselves.
const IDLE_FOR: Duration = Duration::from_secs(30);

/// So long a report on what is fenced waits for connections to end: they are cut, which takes no time.
const FENCED_WITHIN: Duration = Duration::from_secs(5);

/// A connection on which nobody waits for an answer, and over which nothing went for so long, is at rest.
const REST: Duration = Duration::from_millis(50);

/// How many callers of one service try again at the same time while nothing can be reached. The others wait for one
/// of these to get through: a thousand held callers must not become a storm of connects.
pub(crate) const RETRYING_MAX: usize = 8;

/// A service.
#[derive(Debug)]
pub(crate) struct Service {
    pub(crate) name: String,
    pub(crate) traffic: Traffic,
    /// Room for connections; a permit each.
    pub(crate) slots: Arc<Semaphore>,
    /// Room for callers that try again.
    pub(crate) retrying: Semaphore,
    /// Told when the table has changed, or a caller that was held got through.
    pub(crate) changed: Notify,
    /// Told when a target has lost its last connection.
    released: Notify,
    /// Told when something was fenced.
    fenced: Notify,
    state: Mutex<State>,
    says: mpsc::Sender<Says>,
}

#[derive(Debug, Default)]
struct State {
    table: Option<Table>,
    /// In the order of the table.
    targets: Vec<Entry>,
    /// No longer in the table, but perhaps still connected.
    leaving: Vec<Entry>,
    /// The last word on who is fenced, and which it is.
    epoch: u64,
    fenced: BTreeSet<InstanceId>,
    /// Where equals take turns.
    turn: usize,
    account: Account,
    /// What was served since it was last reported. Only while there is something, as with all that follows: a service at
    /// rest costs nothing more.
    served: Option<Box<Served>>,
    /// When the targets were last compared with each other.
    reviewed: Option<Instant>,
    /// Where nobody gets a new connection until then, because a drill has it so.
    refused: Vec<(SocketAddr, Instant)>,
}

/// What was served, by who was asked last.
#[derive(Debug)]
struct Served {
    from: Timestamp,
    by: BTreeMap<(Option<InstanceId>, Protocol), Tally>,
}

#[derive(Debug)]
struct Entry {
    target: Target,
    count: Arc<Count>,
    suspect_until: Option<Instant>,
    /// Once it was asked something in HTTP.
    http: Option<Box<Asked>>,
}

/// Connections to one target.
#[derive(Debug, Default)]
struct Count {
    /// All of them.
    active: AtomicU64,
    /// Those on which something is under way.
    busy: AtomicU64,
}

/// What is held of a target that speaks HTTP.
#[derive(Debug, Default)]
struct Asked {
    /// Open connections that nobody uses; the one used last at the end. They do not count as active: nothing is lost
    /// when they are closed.
    idle: Vec<(Instant, Upstream)>,
    record: Record,
}

impl Entry {
    fn asked(&mut self) -> &mut Asked {
        self.http.get_or_insert_default()
    }
}

impl Service {
    /// A service that has no table yet and room for `connections_max` connections.
    pub(crate) fn new(name: String, connections_max: usize, says: mpsc::Sender<Says>) -> Self {
        Self {
            name,
            traffic: Traffic::new(wall_clock()),
            slots: Arc::new(Semaphore::new(connections_max)),
            retrying: Semaphore::new(RETRYING_MAX),
            changed: Notify::new(),
            released: Notify::new(),
            fenced: Notify::new(),
            state: Mutex::default(),
            says,
        }
    }

    /// The table that is in force.
    pub(crate) fn table(&self) -> Option<Table> {
        self.state().table.clone()
    }

    /// Puts a table in force, or with `None` removes it, and wakes the callers that wait. Counts of targets that stay
    /// are kept; what was held against them is forgotten, as the manager has just looked. Connections to what the table
    /// fences are cut.
    ///
    /// False if it is of an epoch that is over, and was left out.
    pub(crate) fn set_table(&self, table: Option<Table>) -> bool {
        let mut state = self.state();
        if let Some(table) = &table {
            if table.epoch < state.epoch {
                return false;
            }
            state.epoch = table.epoch;
            state.fenced = table.fenced.iter().cloned().collect();
        }
        let mut before = std::mem::take(&mut state.targets);
        before.append(&mut state.leaving);
        for target in table.iter().flat_map(|table| &table.targets) {
            let known = before.iter().position(|entry| entry.target == *target);
            let known = known.map(|index| before.swap_remove(index));
            let (count, http) = known.map(|entry| (entry.count, entry.http)).unwrap_or_default();
            state.targets.push(Entry { target: target.clone(), count, suspect_until: None, http });
        }
        before.retain(|entry| entry.count.active.load(Ordering::Acquire) > 0);
        before.iter_mut().for_each(|entry| entry.http = None); // with it, idle connections are closed
        state.relieve();
        state.leaving = before;
        state.refused = table.iter().flat_map(|table| &table.refused).map(refused_until).collect();
        state.table = table;
        let fences = !state.fenced.is_empty();
        drop(state);
        self.changed.notify_waiters();
        if fences {
            self.tell_fenced();
        }
        true
    }

    /// Has everybody look who waits for something to be fenced.
    pub(crate) fn tell_fenced(&self) {
        self.fenced.notify_waiters();
    }

    /// Whether nothing may get at the instance any more.
    pub(crate) fn is_fenced(&self, instance: &InstanceId) -> bool {
        self.state().fenced.contains(instance)
    }

    /// Waits until something is fenced, and `is_it` says that it is what is meant.
    pub(crate) async fn until_fenced(&self, is_it: impl Fn(&Self) -> bool) {
        loop {
            let mut fenced = std::pin::pin!(self.fenced.notified());
            fenced.as_mut().enable(); // before the question, so that nothing is missed between
            if is_it(self) {
                return;
            }
            fenced.await;
        }
    }

    /// Waits until no connection is left to what is fenced, and reports.
    pub(crate) async fn report_fenced(self: Arc<Self>, id: u64) {
        let gone = async {
            loop {
                let mut released = std::pin::pin!(self.released.notified());
                released.as_mut().enable();
                if self.connections_to_fenced() == 0 {
                    return;
                }
                released.await;
            }
        };
        // Whether the time was over or not, the count tells.
        let _ = tokio::time::timeout(FENCED_WITHIN, gone).await;
        let epoch = self.state().epoch;
        self.say(Says::Fenced { id, epoch, left: self.connections_to_fenced() });
    }

    fn connections_to_fenced(&self) -> u64 {
        let state = self.state();
        let entries = state.targets.iter().chain(&state.leaving);
        let fenced = entries.filter(|entry| state.fenced.contains(&entry.target.instance));
        fenced.map(|entry| entry.count.active.load(Ordering::Acquire)).sum()
    }

    /// How long a caller may be held.
    pub(crate) fn hold(&self) -> Duration {
        self.state().table.as_ref().map_or(HOLD_WITHOUT_TABLE, Table::hold)
    }

    /// Whether there is anything to try.
    pub(crate) fn has_targets(&self) -> bool {
        !self.state().targets.is_empty()
    }

    /// Chooses a target that is not in `tried`, and counts the connection. `None` if none is left.
    pub(crate) fn lease(self: &Arc<Self>, tried: &[SocketAddr]) -> Option<Lease> {
        let mut state = self.state();
        let mut now = None; // read the clock only if a target needs it
        let candidates = state.targets.iter().map(|entry| {
            let active = u32::try_from(entry.count.active.load(Ordering::Acquire)).unwrap_or(u32::MAX);
            let suspect = entry.suspect_until.is_some_and(|until| until > *now.get_or_insert_with(Instant::now));
            let aside =
                entry.http.as_ref().is_some_and(|http| http.record.is_aside(*now.get_or_insert_with(Instant::now)));
            (!tried.contains(&entry.target.address)).then_some(Candidate { suspect, aside, active })
        });
        let index = choose(candidates, state.turn)?;
        state.turn = index + 1;
        let entry = &state.targets[index];
        entry.count.active.fetch_add(1, Ordering::AcqRel);
        entry.count.busy.fetch_add(1, Ordering::AcqRel);
        let (target, count) = (entry.target.clone(), Arc::clone(&entry.count));
        Some(Lease { target, count, busy: AtomicBool::new(true), service: Arc::clone(self) })
    }

    /// Whether callers are to find that the target refuses connections, as a drill has it.
    pub(crate) fn refuses(&self, target: &Target) -> bool {
        let mut state = self.state();
        if state.refused.is_empty() {
            return false;
        }
        let now = Instant::now();
        state.refused.retain(|(_, until)| *until > now); // its end needs nobody who says so
        state.refused.iter().any(|(address, _)| *address == target.address)
    }

    /// A connect to a target failed after it `took` so long.
    pub(crate) fn suspect(&self, target: &Target, took: Duration) {
        let until = Instant::now() + (took * SUSPECT_FACTOR).max(SUSPECT_MIN);
        if let Some(entry) = self.state().entry(target) {
            entry.suspect_until = Some(until);
        }
    }

    /// What its endpoint understands now.
    pub(crate) fn protocol(&self) -> Protocol {
        self.state().table.as_ref().map(|table| table.protocol).unwrap_or_default()
    }

    /// A connection to a target that nobody uses, the one used last, if that is not longer ago than this.
    pub(crate) fn take_idle(&self, target: &Target, idle_max: Duration) -> Option<Upstream> {
        let mut state = self.state();
        let idle = &mut state.entry(target)?.http.as_mut()?.idle;
        idle.pop_if(|(since, _)| since.elapsed() <= idle_max).map(|(_, upstream)| upstream)
    }

    /// Keeps a connection to a target for the next request, unless there is enough of it, or the target gets
    /// nothing new any more.
    pub(crate) fn keep_idle(&self, target: &Target, upstream: Upstream) {
        let mut state = self.state();
        if let Some(entry) = state.entry(target) {
            let idle = &mut entry.asked().idle;
            if idle.len() < IDLE_MAX {
                idle.push((Instant::now(), upstream));
            }
        }
    }

    /// Closes the idle connections to a target: one of them turned out to lead nowhere.
    pub(crate) fn drop_idle(&self, target: &Target) {
        if let Some(http) = self.state().entry(target).and_then(|entry| entry.http.as_mut()) {
            http.idle = Vec::new();
        }
    }

    /// Closes connections that have been idle for long.
    pub(crate) fn tidy_idle(&self) {
        let now = Instant::now();
        for http in self.state().targets.iter_mut().filter_map(|entry| entry.http.as_mut()) {
            http.idle.retain(|(since, _)| now.saturating_duration_since(*since) < IDLE_FOR);
            http.idle.shrink_to_fit();
        }
    }

    /// A target was asked something: how long its answer took, or `None` if it failed. From time to time the
    /// targets are compared, and who does much worse than the others is set aside.
    pub(crate) fn asked(&self, target: &Target, took: Option<Duration>) {
        let now = Instant::now();
        let mut state = self.state();
        let Some(entry) = state.entry(target) else { return };
        entry.asked().record.asked(took);
        if !outlier::is_due(state.reviewed, now) {
            return;
        }
        state.reviewed = Some(now);
        let verdicts = outlier::review(&mut state.records(), now);
        let verdicts: Vec<_> = verdicts
            .into_iter()
            .map(|verdict| (state.targets[verdict.index].target.instance.clone(), verdict))
            .collect();
        drop(state);
        for (instance, Verdict { length, because, .. }) in verdicts {
            self.say(Says::SetAside {
                service: self.name.clone(),
                instance,
                at: wall_clock(),
                for_ms: u64::try_from(length.as_millis()).unwrap_or(u64::MAX),
                reason: because.to_string(),
            });
        }
    }

    /// Counts something that was asked of the service, and how it went.
    pub(crate) fn served(&self, protocol: Protocol, by: Option<&InstanceId>, went: Went) {
        self.state().served(protocol, by, went);
    }

    /// Reports what was served since the last time, as far as there is room. The rest stays counted.
    pub(crate) fn report_served(&self) {
        let mut state = self.state();
        let Some(mut served) = state.served.take() else { return };
        let until = wall_clock();
        while self.says.capacity() > self.says.max_capacity() / 2
            && let Some(((instance, protocol), tally)) = served.by.pop_first()
        {
            self.say(Says::Served {
                service: self.name.clone(),
                instance,
                protocol,
                from: served.from,
                until,
                asked: tally.asked,
                failed: tally.failed,
                times: tally.times.buckets().collect(),
            });
        }
        state.served = (!served.by.is_empty()).then_some(served);
    }

    /// A caller is affected; see [`Account::affected`].
    pub(crate) fn affected(&self, instance: Option<&InstanceId>) {
        self.state().account.affected(wall_clock(), instance);
    }

    /// A caller has reached a target; `waited` as in [`Account::connected`].
    pub(crate) fn connected(&self, target: &Target, waited: Option<Duration>) {
        let mut state = self.state();
        if let Some(entry) = state.entry(target) {
            entry.suspect_until = None;
        }
        let report = state.account.connected(wall_clock(), waited);
        drop(state);
        if waited.is_some() {
            self.changed.notify_waiters(); // what let one through lets others through
        }
        self.report(report);
    }

    /// An affected caller was given up; see [`Account::gave_up`].
    pub(crate) fn gave_up(&self, waited: Duration) {
        let report = self.state().account.gave_up(wall_clock(), waited);
        self.report(report);
    }

    /// An affected caller went away; see [`Account::left`].
    pub(crate) fn left(&self) {
        let report = self.state().account.left(wall_clock());
        self.report(report);
    }

    /// Sends the report on troubles that was held back, if there is one.
    pub(crate) fn flush_troubles(&self) {
        let report = self.state().account.flush(wall_clock());
        self.report(report);
    }

    /// Sends nothing new to `address`, waits until its connections are gone or the time is over, and reports. Where nobody
    /// else can be reached, new callers wait meanwhile: then connections that are at rest are not waited for.
    pub(crate) async fn drain(self: Arc<Self>, id: u64, address: SocketAddr, within: Duration) {
        self.withdraw(address);
        let gone = async {
            loop {
                let mut released = std::pin::pin!(self.released.notified());
                released.as_mut().enable();
                if self.connections_of(address) == 0 {
                    return;
                }
                released.await;
            }
        };
        // What has been quiet for long enough already is not waited for: the gap that its callers see begins here.
        let at_rest = async {
            while self.has_targets() || self.busy_connections_of(address) > 0 || self.traffic.quiet() < REST {
                tokio::time::sleep(REST / 10).await;
            }
        };
        let drained = async {
            tokio::select! {
                () = gone => {}
                () = at_rest => {}
            }
        };
        // Whether the time was over or not, the count tells.
        let _ = tokio::time::timeout(within, drained).await;
        let left = self.connections_of(address);
        self.say(Says::Drained { id, left });
    }

    /// Reports; what cannot be said because the keeper has been away for long is dropped, and only that.
    pub(crate) fn say(&self, says: Says) {
        let _ = self.says.try_send(says);
    }

    fn report(&self, interval: Option<Interval>) {
        if let Some(Interval { instance, from, until, waited, failed, longest_us }) = interval {
            self.say(Says::Trouble {
                service: self.name.clone(),
                instance,
                from,
                until,
                connects_waited: waited,
                connects_failed: failed,
                longest_wait_us: longest_us,
            });
        }
    }

    /// Takes an address out of the table in force.
    fn withdraw(&self, address: SocketAddr) {
        let mut state = self.state();
        if let Some(table) = &mut state.table {
            table.targets.retain(|target| target.address != address);
        }
        if let Some(index) = state.targets.iter().position(|entry| entry.target.address == address) {
            let mut entry = state.targets.remove(index);
            entry.http = None; // with it, idle connections are closed
            state.leaving.push(entry);
            state.relieve();
        }
    }

    fn connections_of(&self, address: SocketAddr) -> u64 {
        let state = self.state();
        let entries = state.targets.iter().chain(&state.leaving).filter(|entry| entry.target.address == address);
        entries.map(|entry| entry.count.active.load(Ordering::Acquire)).sum()
    }

    fn busy_connections_of(&self, address: SocketAddr) -> u64 {
        let state = self.state();
        let entries = state.targets.iter().chain(&state.leaving).filter(|entry| entry.target.address == address);
        entries.map(|entry| entry.count.busy.load(Ordering::Acquire)).sum()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Nothing between lock and unlock leaves the state half changed.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn entry(&mut self, target: &Target) -> Option<&mut Entry> {
        self.targets.iter_mut().find(|entry| entry.target == *target)
    }

    fn records(&mut self) -> Vec<&mut Record> {
        self.targets.iter_mut().map(|entry| &mut entry.asked().record).collect()
    }

    /// There may be fewer targets than before.
    fn relieve(&mut self) {
        if self.reviewed.is_some() {
            outlier::relieve(&mut self.records(), Instant::now());
        }
    }

    fn served(&mut self, protocol: Protocol, by: Option<&InstanceId>, went: Went) {
        let fresh = || Box::new(Served { from: wall_clock(), by: BTreeMap::new() });
        let served = self.served.get_or_insert_with(fresh);
        served.by.entry((by.cloned(), protocol)).or_default().count(went);
    }
}

/// A counted connection to a target, on its way or open; dropping it ends the count.
#[derive(Debug)]
pub(crate) struct Lease {
    pub(crate) target: Target,
    count: Arc<Count>,
    busy: AtomicBool,
    service: Arc<Service>,
}

impl Lease {
    /// Whose target it is.
    pub(crate) fn service(&self) -> &Arc<Service> {
        &self.service
    }

    /// Whether something is under way on it. As long as nobody says so, it is.
    pub(crate) fn is_busy(&self, busy: bool) {
        match (self.busy.swap(busy, Ordering::AcqRel), busy) {
            (false, true) => _ = self.count.busy.fetch_add(1, Ordering::AcqRel),
            (true, false) => _ = self.count.busy.fetch_sub(1, Ordering::AcqRel),
            (true, true) | (false, false) => {}
        }
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        self.is_busy(false);
        if self.count.active.fetch_sub(1, Ordering::AcqRel) == 1 {
            self.service.released.notify_waiters();
        }
    }
}

/// In the time of this process, so that no clock that is set makes it longer.
fn refused_until(refused: &Refused) -> (SocketAddr, Instant) {
    let left = refused.until.since(wall_clock()).min(REFUSED_MAX);
    (refused.address, Instant::now() + left)
}

/// The time of day, for reports.
fn wall_clock() -> Timestamp {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Timestamp(i64::try_from(since.as_micros()).unwrap_or(i64::MAX))
}
