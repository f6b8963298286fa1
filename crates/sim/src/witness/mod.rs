//! The independent pass over the world: it watches what is ordered and what really happens, and judges both by the
//! promises. It shares no code with the manager and keeps its own record; of what the manager knows it uses only what
//! the manager would show a person.
//!
//! Invariant: watching changes nothing.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use ostler_manager::{By, Command, Drill, Found, Knowledge, ServiceKnowledge, Target};
use ostler_model::ids::{CommandId, InstanceId, ServiceName};
use ostler_model::outcome::BackupMade;
use ostler_model::time::Timestamp;

use crate::promise::{Promise, Violation};
use crate::sketch::Kind;
use crate::world::Truth;

mod bought;
mod moves;

pub(crate) use self::bought::RENEWED_WITHIN;

/// What fails is healed or asked about within this time after the last thing that stood in its way: the longest pause
/// between two tries is five minutes, a process may take one minute to be ready, and three tries should do.
pub const HEALED_WITHIN: Duration = Duration::from_secs(20 * 60);
/// So many tries to repair one instance within an hour are within the pauses: nine until the longest pause, each a stop
/// and a start, four times over, because what works for a while in between begins anew, and one in five minutes.
const TRIES_AN_HOUR: usize = 4 * 2 * 9 + 2 * 12;
const HOUR: Duration = Duration::from_secs(3600);
/// A backup may be late by this much: it waits for repairs and for other operations on its instance.
const BACKUP_LATE: Duration = Duration::from_secs(20 * 60);
/// A proof may be late by this much: it waits for the one before it, and for a backup that is being made.
const PROOF_LATE: Duration = Duration::from_secs(20 * 60);
/// The name of what stands in the way of everything.
pub(crate) const EVERYTHING: &str = "";
/// After this many violations nothing more is learnt from a run.
const ENOUGH: usize = 20;

/// The record of what was seen.
#[derive(Default)]
pub(crate) struct Witness {
    pub(crate) violations: Vec<Violation>,
    pub(crate) step: u64,
    /// Orders of this incarnation of ostler that have not ended.
    under_way: BTreeMap<Target, CommandId>,
    /// Orders that repair something.
    treatments: BTreeMap<CommandId, InstanceId>,
    /// Instances whose repair has begun.
    in_repair: BTreeSet<InstanceId>,
    /// When repairs of an instance were tried.
    tries: BTreeMap<InstanceId, VecDeque<Timestamp>>,
    /// Services that a person asked to be deleted.
    deletions: BTreeSet<ServiceName>,
    /// Services that a person let be left to their provider, and did not ask to be deleted since.
    releases: BTreeSet<ServiceName>,
    /// Services that a person asked to be restored.
    restores: BTreeSet<ServiceName>,
    /// When something last stood in the way of a service, a provider, or everything.
    disturbed: BTreeMap<String, Timestamp>,
    disturbed_all: Timestamp,
    /// What stands in the way now, counted.
    obstacles: BTreeMap<String, u32>,
    holder_returned: bool,
    /// What was ordered to be caused, and not to be undone since.
    drill: Option<ServiceName>,
    /// Since when each service's backups could have been made.
    backup_since: BTreeMap<ServiceName, Timestamp>,
    /// Since when a restore of each service could have been proven.
    proof_since: BTreeMap<ServiceName, Timestamp>,
    moves: moves::Moves,
}

/// What an order is judged by.
pub(crate) struct Scene<'a> {
    pub(crate) now: Timestamp,
    pub(crate) known: &'a Knowledge,
    pub(crate) truth: &'a Truth,
    /// All orders of the same turn.
    pub(crate) batch: &'a [(CommandId, Command)],
    /// They are only a part of what was decided: ostler was cut off, or what could not be stored in time was dropped.
    pub(crate) is_part: bool,
    /// Ostler's clock has shown the right time all along.
    pub(crate) tells_the_time: bool,
}

impl Witness {
    pub(crate) fn broken(&mut self, promise: Promise, at: Timestamp, what: impl Into<String>) {
        if self.violations.len() < ENOUGH {
            self.violations.push(Violation { promise, at, step: self.step, what: what.into() });
        }
    }

    /// A person asked for something that makes an order right.
    pub(crate) fn deletion_asked(&mut self, service: &ServiceName) {
        self.releases.remove(service);
        self.deletions.insert(service.clone());
    }

    pub(crate) fn restore_asked(&mut self, service: &ServiceName) {
        self.restores.insert(service.clone());
    }

    /// A person looked after a service: its pauses begin anew.
    pub(crate) fn person_came(&mut self, service: &ServiceName) {
        self.tries.retain(|instance, _| instance.service() != service);
    }

    /// Something stood in the way of `name`, a service or a provider, until now.
    pub(crate) fn disturb(&mut self, name: &str, now: Timestamp) {
        self.disturbed.insert(name.to_owned(), now);
    }

    /// Something stood in the way of everything until now.
    pub(crate) fn disturb_all(&mut self, now: Timestamp) {
        self.disturbed_all = now;
    }

    /// Ostler started anew: it holds no orders, and has to look at everything.
    pub(crate) fn ostler_started(&mut self, now: Timestamp) {
        self.under_way.clear();
        self.treatments.clear();
        self.in_repair.clear();
        self.tries.clear();
        self.holder_returned = false;
        self.disturb_all(now);
    }

    /// Ostler looks at everything anew.
    pub(crate) fn holder_returned(&mut self) {
        self.holder_returned = true;
    }

    /// Something begins to stand in the way of `name`, or of everything.
    pub(crate) fn obstacle(&mut self, name: &str) {
        *self.obstacles.entry(name.to_owned()).or_default() += 1;
    }

    /// It is over.
    pub(crate) fn obstacle_gone(&mut self, name: &str, now: Timestamp) {
        if let Some(count) = self.obstacles.get_mut(name) {
            *count = count.saturating_sub(1);
        }
        self.disturb(name, now);
        if name == EVERYTHING {
            self.disturb_all(now);
        }
    }

    /// Nothing stands in the way of anything any more.
    pub(crate) fn no_obstacles(&mut self, now: Timestamp) {
        self.obstacles.clear();
        self.disturb_all(now);
    }

    fn is_obstructed(&self, name: &str) -> bool {
        self.obstacles.get(name).is_some_and(|count| *count > 0)
    }

    /// Ostler gave an order.
    pub(crate) fn ordered(&mut self, id: CommandId, command: &Command, scene: &Scene<'_>) {
        let now = scene.now;
        let target = command.target();
        // After the holder's return everything is looked at anew, and a new order ends the one before it: if that one is
        // not counted on any more.
        let ended_by_return = |other: &CommandId| self.holder_returned && !scene.known.commands.contains_key(other);
        // Undoing takes the place of what is still being caused; that there is one drill is a promise of its own.
        if target != Target::Nothing
            && !matches!(command, Command::Undo { .. } | Command::Fault { .. })
            && let Some(other) = self.under_way.get(&target).copied()
            && !ended_by_return(&other)
        {
            self.broken(Promise::OneOperation, now, format!("{} while {other} is under way", command.in_words()));
        }
        if target != Target::Nothing {
            self.under_way.insert(target, id);
        }
        self.ordered_in_move(command, scene);
        self.ordered_at_broker(command, scene);
        match command {
            Command::Deprovision { instance }
                if !self.deletions.contains(instance.service())
                    && !self.moves.is_left(instance)
                    && !bought::is_bought(instance, scene.truth) =>
            {
                self.broken(Promise::NoUnaskedDeletion, now, format!("{instance} is to be deleted, unasked"));
            }
            Command::Fault { drill } => self.drilled(drill, scene),
            Command::Undo { .. } => self.drill = None,
            Command::Restore { instance, .. }
                if !self.restores.contains(instance.service()) && !self.moves.is_made(instance) =>
            {
                self.broken(Promise::DataKept, now, format!("{instance} is to be restored, unasked"));
            }
            Command::DropBackup { service, backup } => self.dropped(service, &backup.name, scene),
            Command::Provision { instance } => self.provisioned(instance, scene),
            Command::Route { instance, address } => self.routed(instance, address.as_ref(), scene),
            Command::Stop { instance, .. } => {
                self.backup_since.remove(instance.service()); // from its next start on
                self.stopped(instance, scene);
            }
            _ => {}
        }
        if let Some(instance) = treated(command, scene) {
            self.treat(id, instance, scene);
        }
    }

    /// An order of this incarnation has ended.
    pub(crate) fn ended(&mut self, id: CommandId, target: &Target) {
        if self.under_way.get(target) == Some(&id) {
            self.under_way.remove(target);
        }
        self.treatments.remove(&id);
    }

    fn dropped(&mut self, service: &ServiceName, name: &str, scene: &Scene<'_>) {
        let Some(known) = scene.known.services.get(service) else { return };
        let is_bad = |name: &str| matches!(known.vault().found.get(name), Some(Found::Bad { .. }));
        let kept = |name: &str| scene.truth.kept.get(&(service.clone(), name.to_owned()));
        let Some(dropped) = kept(name).filter(|_| !is_bad(name)) else { return };
        let newer = |made: &BackupMade| kept(&made.name).is_some_and(|other| other.made > dropped.made);
        if !known.backups.iter().any(|(_, made)| made.name != name && !is_bad(&made.name) && newer(made)) {
            let what = format!("{name} is to be deleted, the newest good backup of {service}");
            self.broken(Promise::GoodBackupKept, scene.now, what);
        }
    }

    /// A fault is to be caused on purpose.
    fn drilled(&mut self, drill: &Drill, scene: &Scene<'_>) {
        if let Some(other) = self.drill.replace(drill.service.clone()) {
            let what = format!("{} is drilled, and {other} still is", drill.service);
            self.broken(Promise::OneDrill, scene.now, what);
        }
        // By the time that ostler was told.
        let at = scene.known.latest;
        let declared = scene.known.estate.as_ref().and_then(|estate| estate.drill.as_deref());
        let is_meant = matches!(&drill.by, By::Person { despite: Some(_) });
        if !is_meant && declared.is_some_and(|declared| !declared.calendar.is_open(at)) {
            let what = format!("{} is drilled at {}, when no window is open", drill.service, at.to_seconds());
            self.broken(Promise::DrillInWindow, scene.now, what);
        }
    }

    /// The storm is over, and everything had its time.
    pub(crate) fn all_undone(&mut self, now: Timestamp) {
        if let Some(service) = self.drill.take() {
            self.broken(Promise::DrillUndone, now, format!("what a drill has caused at {service} was never undone"));
        }
    }

    fn provisioned(&mut self, instance: &InstanceId, scene: &Scene<'_>) {
        let lost = scene.truth.instances.get(instance).is_some_and(|truth| truth.lost);
        let durable = scene.known.services.get(instance.service()).is_some_and(|s| scene.known.is_durable(s));
        if lost && durable {
            let what = format!("{instance} lost its data, and is to be made anew without a person's word");
            self.broken(Promise::DataKept, scene.now, what);
        }
    }

    fn routed(&mut self, instance: &InstanceId, address: Option<&std::net::SocketAddr>, scene: &Scene<'_>) {
        let Some(truth) = scene.truth.instances.get(instance) else { return };
        match address {
            Some(address) if *address != truth.address => {
                let what = format!("callers of {instance} are sent to {address}, and it is at {}", truth.address);
                self.broken(Promise::RoutesRight, scene.now, what);
            }
            Some(_) => {}
            None => self.withdrawn(instance, scene),
        }
    }

    /// Callers are taken from an instance. All that a turn decided counts together: what it takes first and gives back
    /// then is not taken.
    fn withdrawn(&mut self, instance: &InstanceId, scene: &Scene<'_>) {
        let Some(service) = scene.known.services.get(instance.service()) else { return };
        let Some(known) = service.instances.get(&instance.number()) else { return };
        // What its provider says does not run cannot serve either, as far as ostler can know.
        let wanted = scene.known.is_wanted(service) && !known.retired && known.phase == ostler_manager::Phase::Running;
        let stops = |(_, command): &(CommandId, Command)| match command {
            Command::Stop { instance: stopped, .. } => stopped == instance,
            Command::Route { instance: routed, address } => routed == instance && address.is_some(),
            _ => false,
        };
        let others = service.instances.iter().any(|(number, other)| {
            *number != instance.number()
                && (other.is_ready() || scene.truth.serves(&service.instance_id(*number), scene.now))
        });
        let was_serving = scene.truth.instances.get(instance).is_some_and(|truth| truth.routed.is_some())
            && scene.truth.serves(instance, scene.now);
        if wanted && was_serving && !scene.is_part && !others && !scene.batch.iter().any(stops) {
            let what = format!("callers are taken from {instance}, the last one that serves");
            self.broken(Promise::LastOneServes, scene.now, what);
        }
    }

    fn stopped(&mut self, instance: &InstanceId, scene: &Scene<'_>) {
        let Some(service) = scene.known.services.get(instance.service()) else { return };
        let Some(known) = service.instances.get(&instance.number()) else { return };
        let wanted = scene.known.is_wanted(service) && !known.retired;
        if wanted && !scene.is_part && known.repair.is_none() && !service.outdated.contains(&instance.number()) {
            self.broken(Promise::Explained, scene.now, format!("{instance} is to be stopped, and nothing says why"));
        }
        let is_replaced = service.outdated.contains(&instance.number());
        if wanted && !scene.is_part && known.repair.is_some() && !is_replaced {
            let away = service.spec.needs.iter().find(|need| is_away(need, scene));
            if let Some(need) = away {
                let what = format!("{instance} is to be stopped, and nothing works of {need}, which it needs");
                self.broken(Promise::VictimsSpared, scene.now, what);
            }
        }
    }

    fn treat(&mut self, id: CommandId, instance: &InstanceId, scene: &Scene<'_>) {
        if self.holder_returned {
            self.treatments.retain(|id, _| scene.known.commands.contains_key(id));
        }
        self.treatments.insert(id, instance.clone());
        let most = scene.known.estate.as_ref().map_or(1, |estate| estate.heal.at_once(scene.known.instances));
        // Fewer orders than may be under repair need no counting: in a large estate that would take most of the time.
        let may_be_too_many = self.treatments.len() > most;
        // What a move has left, and not yet made elsewhere, is as much of the estate as before.
        let most = if may_be_too_many { most.max(as_declared(scene.known)) } else { most };
        if may_be_too_many {
            let active = |id: &InstanceId| scene.known.instance(id)?.repair.as_ref().map(|repair| repair.active);
            self.in_repair.retain(|id| active(id) == Some(true));
        }
        // What was begun goes on when people make the estate smaller: only a new repair can be one too many.
        let begins = self.in_repair.insert(instance.clone());
        if may_be_too_many && begins {
            // What is not to run any more is not under repair either.
            let sick = |id: &&InstanceId| scene.known.instance(id).is_some_and(|instance| instance.repair.is_some());
            let treated: BTreeSet<&InstanceId> = self.treatments.values().filter(sick).collect();
            if treated.len() > most {
                let what = format!("{} instances are under repair at once, {most} may be", treated.len());
                self.broken(Promise::Brakes, scene.now, what);
            }
        }
        let tries = self.tries.entry(instance.clone()).or_default();
        tries.push_back(scene.now);
        while tries.front().is_some_and(|first| scene.now.since(*first) > HOUR) {
            tries.pop_front();
        }
        if tries.len() > TRIES_AN_HOUR {
            let what = format!("{instance} was stopped or started for repair {} times within an hour", tries.len());
            tries.clear();
            self.broken(Promise::Brakes, scene.now, what);
        }
    }

    /// When something last stood in the way of `service` or of anything that it depends on.
    pub(crate) fn disturbed_until(&self, service: &ServiceName, known: &Knowledge, now: Timestamp) -> Timestamp {
        let mut seen = BTreeSet::from([service.clone()]);
        let mut line = vec![service.clone()];
        let mut last = if self.is_obstructed(EVERYTHING) { now } else { self.disturbed_all };
        let of = |name: &str| match self.is_obstructed(name) {
            true => now,
            false => self.disturbed.get(name).copied().unwrap_or_default(),
        };
        while let Some(name) = line.pop() {
            last = last.max(of(name.as_str()));
            let Some(service) = known.services.get(&name) else { continue };
            let from = service.moving.as_ref().map(|moving| &moving.from.provider);
            let places = service.placement.iter().map(|placement| &placement.provider).chain(from);
            last = places.fold(last, |last, provider| last.max(of(provider.as_str())));
            for need in &service.spec.needs {
                if seen.insert(need.clone()) {
                    line.push(need.clone());
                }
            }
        }
        last
    }

    /// An instance has not served for the bound's time, and nothing stood in its way.
    pub(crate) fn overdue(&mut self, instance: &InstanceId, since: Timestamp, known: &Knowledge, now: Timestamp) {
        let Some(service) = known.services.get(instance.service()) else { return };
        if is_asked_about(known, service, instance, &mut BTreeSet::new()) {
            return;
        }
        let record = known.instance(instance);
        let what = format!(
            "{instance} has not worked since {}, and nobody was asked; what is known: {record:?}",
            since.to_millis()
        );
        self.broken(Promise::HealedOrAsked, now, what);
    }

    /// Everything that can be judged at any time, over the whole world.
    pub(crate) fn look_at_all(&mut self, known: &Knowledge, truth: &Truth, now: Timestamp) {
        for violation in ostler_manager::check(known) {
            self.broken(Promise::ReplayEqual, now, format!("what is known contradicts itself: {violation:?}"));
        }
        for (id, _) in truth.instances.iter().filter(|(_, truth)| truth.made && truth.kind == Kind::Machine) {
            if known.instance(id).is_none() {
                self.broken(
                    Promise::NoOrphan,
                    now,
                    format!("{id} exists at its provider, and ostler does not know it"),
                );
            }
        }
        for (id, binding) in &truth.bindings {
            let held = known.services.get(&id.consumer).is_some_and(|service| service.bindings.contains_key(&id.need));
            if !held {
                let what = format!("binding {id} exists at {}, and ostler does not know it", binding.instance);
                self.broken(Promise::NoOrphan, now, what);
            }
        }
        self.look_at_bought(known, truth, now);
        self.look_at_backups(known, truth, now);
        self.look_at_proofs(known, truth, now);
        self.look_at_moves(known, truth, now);
    }

    fn look_at_backups(&mut self, known: &Knowledge, truth: &Truth, now: Timestamp) {
        for (name, service) in &known.services {
            let offered = known.offering(service).is_some_and(|offering| offering.actions.backup);
            let every = service.spec.data.backup_every.filter(|_| known.is_wanted(service) && offered);
            let serves = service.instances.keys().any(|number| truth.serves(&service.instance_id(*number), now));
            let (Some(every), true) = (every, serves) else {
                self.backup_since.remove(name);
                continue;
            };
            let since = *self.backup_since.entry(name.clone()).or_insert(now);
            let excused = self.disturbed_until(name, known, now) + HEALED_WITHIN;
            let last = truth.backups.get(name).copied().unwrap_or_default().max(since);
            // Ostler's clock goes at half its pace while the machine's was set back.
            if now > excused && now.since(last) > every.get() * 2 + BACKUP_LATE {
                let what = format!("{name} was last backed up at {}, and is to be every {every}", last.to_millis());
                self.broken(Promise::BackupsInTime, now, what);
                self.backup_since.insert(name.clone(), now);
            }
        }
    }
}

impl Witness {
    fn look_at_proofs(&mut self, known: &Knowledge, truth: &Truth, now: Timestamp) {
        for (name, service) in &known.services {
            let offered = known.offering(service).is_some_and(|offering| offering.actions.prove);
            let every = service.spec.data.proof_every().filter(|_| known.is_wanted(service) && offered);
            let (Some(every), Some(_)) = (every, service.newest_good()) else {
                self.proof_since.remove(name);
                continue;
            };
            let since = *self.proof_since.entry(name.clone()).or_insert(now);
            let excused = self.disturbed_until(name, known, now) + HEALED_WITHIN;
            let last = truth.proofs.get(name).copied().unwrap_or_default().max(since);
            // Ostler's clock goes at half its pace while the machine's was set back.
            if now > excused && now.since(last) > every.get() * 2 + PROOF_LATE {
                let what =
                    format!("a restore of {name} was last proven at {}, and is to be every {every}", last.to_millis());
                self.broken(Promise::ProofsInTime, now, what);
                self.proof_since.insert(name.clone(), now);
            }
        }
    }
}

/// How many instances may be under repair at once, by what is declared.
fn as_declared(known: &Knowledge) -> usize {
    let services = known.services.values().filter(|service| known.is_wanted(service));
    let instances: usize = services.map(|service| service.spec.instances as usize).sum();
    known.estate.as_ref().map_or(1, |estate| estate.heal.at_once(instances))
}

/// The instances of a service, as a range of ids.
pub(crate) fn all_of(service: &ServiceName) -> std::ops::RangeInclusive<InstanceId> {
    InstanceId::new(service.clone(), 0)..=InstanceId::new(service.clone(), u32::MAX)
}

/// Whether an order treats a sick instance: stops one that is under repair, or starts or makes one that does not run.
fn treated<'a>(command: &'a Command, scene: &Scene<'_>) -> Option<&'a InstanceId> {
    let (instance, stops) = match command {
        Command::Stop { instance, .. } => (instance, true),
        // As far as ostler can know it runs, and whoever holds it is only told how to start it again.
        Command::Start { entrust: true, .. } => return None,
        Command::Start { instance, .. } | Command::Provision { instance } | Command::Before { instance, .. } => {
            (instance, false)
        }
        _ => return None,
    };
    let service = scene.known.services.get(instance.service())?;
    let known = service.instances.get(&instance.number())?;
    let wanted = scene.known.is_wanted(service) && !known.retired;
    let outdated = service.outdated.contains(&instance.number());
    let runs = scene.truth.instances.get(instance).is_some_and(|truth| truth.process.is_some());
    (wanted && known.repair.is_some() && !outdated && (stops || !runs)).then_some(instance)
}

/// Whether a person was asked about the instance, or about one of its service, or of what it needs.
/// Whether nothing of the service answers, and ostler has seen that.
fn is_away(service: &ServiceName, scene: &Scene<'_>) -> bool {
    let is_seen = scene.known.services.get(service).is_some_and(|service| service.ready == 0);
    let instances = scene.truth.instances.iter().filter(|(id, _)| id.service() == service);
    let mut processes = instances.filter_map(|(_, truth)| truth.process.as_ref());
    is_seen && !processes.any(|process| process.answers(scene.now))
}

fn is_asked_about(
    known: &Knowledge,
    service: &ServiceKnowledge,
    instance: &InstanceId,
    seen: &mut BTreeSet<ServiceName>,
) -> bool {
    // What only a provider can heal, people are told of: they have it do so.
    let told = |service: &ServiceKnowledge, instance: &ostler_manager::Instance| {
        instance.told_failed && !known.can_be_restarted(service)
    };
    let held = |service: &ServiceKnowledge| {
        service.instances.values().any(|instance| instance.held.is_some() || told(service, instance))
    };
    if known.instance(instance).is_some_and(|instance| instance.held.is_some()) || held(service) {
        return true;
    }
    service.spec.needs.iter().any(|need| {
        seen.insert(need.clone())
            && known.services.get(need).is_some_and(|needed| {
                held(needed) || is_asked_about(known, needed, &InstanceId::new(need.clone(), 1), seen)
            })
    })
}
