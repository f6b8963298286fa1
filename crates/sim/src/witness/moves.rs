//! What the witness sees of moves to other providers: what they leave, when callers get at what they make, what is lost.
//!
//! Invariant: a move is seen from the first order to cut callers off; what it left, whether data was brought and looked
//! at, and how far that data reaches, is what the world saw. Of what the manager knows only what `ostler status` shows
//! is used: that a move is under way, is being taken back, or waits for a person.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use ostler_manager::{Command, Knowledge, ServiceKnowledge, Target};
use ostler_model::ids::{InstanceId, ServiceName};
use ostler_model::time::Timestamp;

use super::{Scene, Witness, all_of};
use crate::promise::Promise;
use crate::world::Truth;

/// A move ends within this time after the last thing that stood in its way: a place that is hopeless is left after three
/// tries, each with its pause, and then another is tried.
const MOVED_WITHIN: Duration = Duration::from_secs(3600);
/// Callers may be cut off a little later than ostler counts from.
const HEARD_WITHIN: Duration = Duration::from_secs(15);

/// What was seen of moves.
#[derive(Default)]
pub(super) struct Moves {
    /// The last move of each service, until it is forgotten with it.
    last: BTreeMap<ServiceName, Seen>,
    /// What moves left, and since when nobody may get at it.
    left: BTreeMap<InstanceId, Timestamp>,
    /// What of it may be deleted, as was judged when that was ordered.
    given_up: BTreeSet<InstanceId>,
    /// What of it a person asked to be deleted.
    discards: BTreeSet<InstanceId>,
    /// Services of which a person accepts that whatever a move loses is lost.
    accepted: BTreeSet<ServiceName>,
    /// Since when each move has been under way and waits for nobody.
    under_way: BTreeMap<ServiceName, Timestamp>,
}

/// A move as it was seen.
struct Seen {
    epoch: u64,
    leaves: BTreeSet<InstanceId>,
    /// Callers are cut off from what it leaves.
    fenced: bool,
    returns: bool,
    /// What it makes was looked at since its data was brought.
    proven: bool,
    /// Callers or consumers were given what it makes.
    opened: bool,
}

impl Moves {
    pub(super) fn is_left(&self, instance: &InstanceId) -> bool {
        self.left.contains_key(instance)
    }

    /// Whether a move makes it, and nobody got at it yet.
    pub(super) fn is_made(&self, instance: &InstanceId) -> bool {
        !self.is_left(instance) && self.last.get(instance.service()).is_some_and(|seen| !seen.opened && !seen.returns)
    }

    pub(super) fn may_be_deleted(&self, instance: &InstanceId) -> bool {
        self.given_up.contains(instance)
    }

    fn of_new(&mut self, instance: &InstanceId) -> Option<&mut Seen> {
        if self.is_left(instance) { None } else { self.last.get_mut(instance.service()) }
    }
}

impl Witness {
    /// A person accepts whatever a move of the service loses.
    pub(crate) fn loss_accepted(&mut self, service: &ServiceName) {
        self.moves.accepted.insert(service.clone());
    }

    /// A person asked for the end of what a move left.
    pub(crate) fn discard_asked(&mut self, instance: &InstanceId) {
        self.moves.discards.insert(instance.clone());
    }

    /// Callers are cut off, says the gateway.
    pub(crate) fn fenced(&mut self, service: &ServiceName, epoch: u64) {
        if let Some(seen) = self.moves.last.get_mut(service).filter(|seen| seen.epoch == epoch) {
            seen.fenced = true;
        }
    }

    /// A backup was restored into an instance.
    pub(crate) fn brought(&mut self, instance: &InstanceId) {
        if let Some(seen) = self.moves.of_new(instance) {
            seen.proven = false;
        }
    }

    /// An instance was looked at as its consumers see it.
    pub(crate) fn looked_at(&mut self, instance: &InstanceId) {
        if let Some(seen) = self.moves.of_new(instance) {
            seen.proven = true;
        }
    }

    /// An order, as far as moves are concerned.
    pub(super) fn ordered_in_move(&mut self, command: &Command, scene: &Scene<'_>) {
        match command {
            Command::Fence { service, epoch } => self.move_seen(service, *epoch, scene),
            Command::Route { instance, address: Some(_) } | Command::Bind { instance, .. } => {
                self.left_alone(instance, command, scene);
                self.opens(instance, command, scene);
            }
            Command::Start { instance, .. } | Command::Before { instance, .. } | Command::Restore { instance, .. } => {
                self.left_alone(instance, command, scene);
            }
            Command::Provision { instance } => {
                self.left_alone(instance, command, scene);
                // Whatever it held, it holds nothing now.
                let durable = scene.known.services.get(instance.service()).is_some_and(|s| scene.known.is_durable(s));
                if let Some(seen) = self.moves.of_new(instance).filter(|_| durable) {
                    seen.proven = false;
                }
            }
            Command::Deprovision { instance } => self.gives_up(instance, scene),
            _ => {}
        }
    }

    /// A move begins, or is taken back. The same order may come again.
    fn move_seen(&mut self, service: &ServiceName, epoch: u64, scene: &Scene<'_>) {
        let former = self.moves.last.get(service);
        if former.is_some_and(|seen| seen.epoch == epoch) {
            return;
        }
        let known = scene.known.services.get(service).and_then(|service| service.moving.as_ref());
        let returns = known.is_some_and(|moving| moving.returns);
        let back = former.filter(|_| returns).map(|seen| seen.leaves.clone()).unwrap_or_default();
        self.moves.left.retain(|id, _| !back.contains(id));
        let there = scene.truth.instances.range(all_of(service)).map(|(id, _)| id);
        let leaves: BTreeSet<InstanceId> =
            there.filter(|id| !back.contains(*id) && !self.moves.is_left(id)).cloned().collect();
        self.moves.left.extend(leaves.iter().map(|id| (id.clone(), scene.now)));
        let seen = Seen { epoch, leaves, fenced: false, returns, proven: false, opened: false };
        self.moves.last.insert(service.clone(), seen);
    }

    fn left_alone(&mut self, instance: &InstanceId, command: &Command, scene: &Scene<'_>) {
        if self.moves.is_left(instance) {
            let what = format!("a move left {instance}, and ostler orders: {}", command.in_words());
            self.broken(Promise::LeftAlone, scene.now, what);
        }
    }

    /// Callers or consumers are given an instance: the first of a move only once all that goes with it is there.
    fn opens(&mut self, instance: &InstanceId, command: &Command, scene: &Scene<'_>) {
        let service = instance.service();
        if self.moves.is_left(instance) {
            return;
        }
        let Some(seen) = self.moves.last.get_mut(service).filter(|seen| !seen.opened) else { return };
        seen.opened = true;
        let (fenced, proven, returns) = (seen.fenced, seen.proven, seen.returns);
        let words = command.in_words();
        if !fenced {
            let what = format!("{words}, before callers are cut off from what the move leaves");
            return self.broken(Promise::ProvenFirst, scene.now, what);
        }
        if returns {
            self.moves.accepted.remove(service);
            return;
        }
        if !proven {
            let what = format!("{words}, before what the move makes was looked at");
            return self.broken(Promise::ProvenFirst, scene.now, what);
        }
        self.judge_loss(instance, scene);
        self.moves.accepted.remove(service);
    }

    fn judge_loss(&mut self, instance: &InstanceId, scene: &Scene<'_>) {
        let Some(known) = scene.known.services.get(instance.service()) else { return };
        let accepted = self.moves.accepted.contains(instance.service());
        if accepted || !scene.known.is_durable(known) {
            return;
        }
        let Some(written) = scene.truth.written_until(instance.service(), scene.now) else { return };
        let held = scene.truth.instances.get(instance).and_then(|truth| truth.holds_until(scene.now));
        // Ostler's clock goes at half its pace while the machine's was set back.
        let limit = known.spec.loses_at_most().map_or(Duration::ZERO, |limit| limit.get());
        let limit = limit * if scene.tells_the_time { 1 } else { 2 } + HEARD_WITHIN;
        let what = match held {
            None => format!("{instance} is empty, and callers of it wrote until {}", written.to_millis()),
            Some(held) if written.since(held) > limit => {
                format!(
                    "{instance} holds what was written until {}, callers wrote until {}, and no more than {} s may be lost",
                    held.to_millis(),
                    written.to_millis(),
                    limit.as_secs()
                )
            }
            Some(_) => return,
        };
        self.broken(Promise::LossBounded, scene.now, what);
    }

    /// What a move left is to be deleted, or what it made and nobody ever used: where it turned elsewhere, that is left, too.
    fn gives_up(&mut self, instance: &InstanceId, scene: &Scene<'_>) {
        let used = scene.truth.instances.get(instance).is_some_and(|truth| truth.held.used);
        if !used && self.moves.last.contains_key(instance.service()) {
            self.moves.left.entry(instance.clone()).or_insert(scene.now);
        }
        if !self.moves.is_left(instance) {
            return; // no move's
        }
        let asked = self.moves.discards.contains(instance) || self.deletions.contains(instance.service());
        // A deletion that was rightly begun is ended: nobody knows how far it went.
        let is_begun = self.moves.given_up.contains(instance);
        if used && !asked && !is_begun && !self.is_over(instance, scene) {
            let what = format!("{instance} was in use until a move left it, and is to be deleted unasked");
            return self.broken(Promise::LeftKept, scene.now, what);
        }
        self.moves.given_up.insert(instance.clone());
    }

    /// Whether what a move left was kept for as long as declared, and is not needed any more.
    fn is_over(&self, instance: &InstanceId, scene: &Scene<'_>) -> bool {
        let service = instance.service();
        let (Some(known), Some(since)) = (scene.known.services.get(service), self.moves.left.get(instance)) else {
            return false;
        };
        let Some(keep) = known.spec.failover.keep_old else { return false };
        // The wrong time says nothing.
        let was_kept = !scene.tells_the_time || scene.now.since(*since) + HEARD_WITHIN >= keep.get();
        let kept = scene.truth.kept.iter().filter(|((name, _), _)| name == service);
        let in_backup = !scene.known.is_durable(known) || kept.into_iter().any(|(_, kept)| kept.made > *since);
        let serves = known.instances.keys().any(|number| {
            let id = known.instance_id(*number);
            !self.moves.is_left(&id) && scene.truth.instances.get(&id).is_some_and(|truth| truth.held.used)
        });
        was_kept && in_backup && serves
    }

    /// What can be judged of moves at any time.
    pub(crate) fn look_at_moves(&mut self, known: &Knowledge, truth: &Truth, now: Timestamp) {
        for id in self.moves.left.keys().cloned().collect::<Vec<_>>() {
            let is_fenced = self.moves.last.get(id.service()).is_some_and(|seen| seen.fenced);
            if is_fenced && truth.instances.get(&id).is_some_and(|truth| truth.routed.is_some()) {
                self.broken(Promise::NoSplit, now, format!("callers still get at {id}, which a move left"));
            }
        }
        for (name, service) in &known.services {
            if service.moving.is_none() || !known.is_wanted(service) || self.waits(service) {
                self.moves.under_way.remove(name);
                continue;
            }
            let since = *self.moves.under_way.entry(name.clone()).or_insert(now);
            let consumers = known.consumers.get(name).into_iter().flatten();
            let excused = consumers.chain([name]).map(|name| self.disturbed_until(name, known, now)).max();
            if now > since.max(excused.unwrap_or_default()) + MOVED_WITHIN {
                let what = format!("the move of {name} does not end: {:?}", service.moving);
                self.broken(Promise::MovesEnd, now, what);
                self.moves.under_way.insert(name.clone(), now);
            }
        }
    }

    /// Whether a person was asked, or something is being done that its provider takes its time for.
    fn waits(&self, service: &ServiceKnowledge) -> bool {
        let asked = service.moving.as_ref().is_some_and(|moving| moving.held.is_some());
        let held = service.instances.values().any(|instance| instance.held.is_some());
        let at_work = |number: &u32| self.under_way.contains_key(&Target::Instance(service.instance_id(*number)));
        asked || held || service.instances.keys().any(at_work)
    }
}
