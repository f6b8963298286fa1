//! The fold: from facts to outages of what was bought, with what was seen and what was concluded.
//!
//! An outage is what the probes saw, from outside: it begins with the first fact that says that an instance does not
//! answer which has answered before, and ends with the first one that says that it does, or that nobody looks any more.
//! Nothing is weighed here. Whose fault it was follows from the conclusions, at each moment from the one that held then.
//!
//! Invariants: outages of one instance do not overlap; of time in which ostler was away, nothing is said; memory is
//! bounded for each instance, and what is given up is the oldest.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use ostler_manager::diagnosis::Finding;
use ostler_manager::level::Traffic;
use ostler_manager::{Command, Drill, Fact, FactKind, ResumeCause};
use ostler_model::health::{Health, Symptom, SymptomKind};
use ostler_model::ids::{CommandId, InstanceId, Position, ProviderName, ServiceName};
use ostler_model::time::Timestamp;
use serde::{Deserialize, Serialize};

use crate::ledger::Bought;

/// So many outages are remembered of an instance.
const OUTAGES_MAX: usize = 512;
/// What ended longer ago is forgotten: nobody pays back after more than a year.
const KEPT: Duration = Duration::from_secs(400 * 86_400);
/// So much of what was seen is remembered of an outage: how it began counts most.
const SIGHTS_MAX: usize = 8;
/// So many conclusions; who concludes more than that of one outage has concluded nothing.
const CONCLUSIONS_MAX: usize = 16;
/// So many counts of what callers got; more are added to the last.
const COUNTS_MAX: usize = 240;

/// An outage of one instance.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Outage {
    /// What it was an outage of.
    pub(crate) bought: Bought,
    pub(crate) from: Timestamp,
    /// `None` while it lasts.
    pub(crate) until: Option<Timestamp>,
    /// How it was seen, the first sight first.
    pub(crate) seen: Vec<Sight>,
    /// What was concluded, in order.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) concluded: Vec<Concluded>,
    /// Which drill it belongs to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) drill: Option<u32>,
    /// It began while ostler itself did something to the instance: with which fact that was ordered.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) ordered: Option<Position>,
    /// What callers got meanwhile, where the provider's terms ask for that.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) callers: Vec<Traffic>,
    /// Why it ended, where nobody saw that it works again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) unseen_from: Option<Unseen>,
}

/// Why nobody saw how an outage ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Unseen {
    /// Ostler was not there any more.
    Away,
    /// The instance is not used any more: it was moved away from, stopped, or given back.
    Unused,
}

/// Something that was seen of an outage.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Sight {
    pub(crate) at: Timestamp,
    pub(crate) fact: Position,
    pub(crate) words: String,
}

/// What was concluded of an outage, from then on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Concluded {
    pub(crate) at: Timestamp,
    pub(crate) fact: Position,
    /// `None` if there were too many conclusions to believe any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) finding: Option<Finding>,
}

/// All outages.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Outages {
    /// The time of the newest fact.
    latest: Timestamp,
    /// The instances that somebody looks at.
    watched: BTreeMap<InstanceId, Watched>,
    /// What is over, in order.
    over: BTreeMap<InstanceId, VecDeque<Outage>>,
    /// What ostler does to instances.
    orders: BTreeMap<CommandId, Ordered>,
    /// Services that others bought: no file declares them.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    sold: BTreeSet<ServiceName>,
    /// Services that are being drilled, and whatever is bought there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    drill: Option<Drilled>,
}

/// An instance that somebody looks at.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Watched {
    /// It has worked since it is meant to.
    worked: bool,
    /// A move has left it behind.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    left: bool,
    /// It has not recovered from a drill.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    drill: Option<u32>,
    /// What was concluded last of a trouble that is not over.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    finding: Option<(Position, Finding)>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    open: Option<Outage>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Ordered {
    instance: InstanceId,
    fact: Position,
    /// Nothing is left of it when this has succeeded.
    ends: bool,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Drilled {
    number: u32,
    services: BTreeSet<ServiceName>,
    provider: Option<ProviderName>,
}

/// What else the books know that matters here.
pub(crate) struct Around<'a> {
    /// What an instance was bought as.
    pub(crate) bought: &'a dyn Fn(&InstanceId) -> Option<Bought>,
    /// Whether the service is the buyer's own program: whether that works is no provider's doing.
    pub(crate) is_own: &'a dyn Fn(&ServiceName) -> bool,
    /// Whether the terms of the provider ask what callers got.
    pub(crate) counts_callers: &'a dyn Fn(&ProviderName) -> bool,
}

impl Outages {
    /// Whether a fact of this kind can change anything here.
    pub(crate) fn concerns(word: &str) -> bool {
        matches!(
            word,
            "resumed"
                | "estate-declared"
                | "service-sold"
                | "command-issued"
                | "command-ended"
                | "instance-died"
                | "health-changed"
                | "repair-began"
                | "concluded"
                | "repair-ended"
                | "instance-retired"
                | "instance-discarded"
                | "down-asked"
                | "delete-asked"
                | "release-asked"
                | "move-began"
                | "move-returned"
                | "drill-began"
                | "drill-ended"
                | "traffic-measured"
        )
    }

    /// Makes a fact part of what is known. Called when everything else of the books has taken it.
    pub(crate) fn fold(&mut self, position: Position, fact: &Fact, around: &Around<'_>) {
        let at = fact.at;
        match &fact.kind {
            FactKind::HealthChanged { instance, health } => self.feel(instance, health, (at, position), around),
            FactKind::InstanceDied { instance, exit, seen, .. } => {
                let when = (*seen).min(at);
                self.fail(
                    instance,
                    when,
                    Sight { at: when, fact: position, words: format!("ended with {exit}") },
                    around,
                );
            }
            FactKind::RepairBegan { instance, diagnosis } => {
                self.fail(instance, at, Sight { at, fact: position, words: diagnosis.in_words() }, around);
            }
            FactKind::Concluded { instance, finding } => self.conclude(instance, finding, (at, position)),
            FactKind::RepairEnded { instance } => {
                if let Some(watched) = self.watched.get_mut(instance) {
                    watched.finding = None;
                }
                self.end(instance, at, None);
            }
            FactKind::InstanceRetired { instance } | FactKind::InstanceDiscarded { instance, .. } => {
                self.drop_one(instance, at);
            }
            FactKind::DeleteAsked { service } | FactKind::ReleaseAsked { service } => {
                self.for_each(|id| id.service() == service, |all, id| all.drop_one(id, at));
            }
            FactKind::DownAsked => self.for_each(|_| true, |all, id| all.drop_one(id, at)),
            FactKind::MoveBegan { service, .. } => {
                self.for_each(
                    |id| id.service() == service,
                    |all, id| {
                        all.drop_one(id, at);
                        if let Some(watched) = all.watched.get_mut(id) {
                            watched.left = true;
                        }
                    },
                );
            }
            FactKind::MoveReturned { service } => {
                let of_service = self.watched.iter_mut().filter(|(id, _)| id.service() == service);
                of_service.for_each(|(_, watched)| watched.left = false);
            }
            FactKind::EstateDeclared { estate } => {
                // What is not declared any more is kept, and not meant to work.
                let gone: Vec<InstanceId> =
                    self.watched.keys().filter(|id| !estate.services.contains_key(id.service())).cloned().collect();
                let declared = gone.into_iter().filter(|id| !self.sold.contains(id.service())).collect::<Vec<_>>();
                declared.iter().for_each(|id| self.drop_one(id, at));
            }
            FactKind::ServiceSold { spec, .. } => {
                self.sold.insert(spec.name.clone());
            }
            FactKind::CommandIssued { id, command } => self.order(*id, command, position),
            FactKind::CommandEnded { id, outcome } => {
                let done = matches!(outcome, ostler_manager::Outcome::Done);
                if let Some(ordered) = self.orders.remove(id).filter(|ordered| ordered.ends && done) {
                    self.remove(&ordered.instance, at);
                }
            }
            FactKind::Resumed { cause } => self.resume(*cause, at),
            FactKind::DrillBegan { drill } => self.drill(drill, around),
            FactKind::DrillEnded { result } => {
                self.drill.take_if(|drill| drill.number == result.drill.number);
                let recovered = self.watched.values_mut().filter(|watched| watched.open.is_none());
                recovered.for_each(|watched| watched.drill = None);
            }
            FactKind::TrafficMeasured { service, traffic } => self.count(service, traffic, around),
            // Nothing of an outage follows from the others. `concerns` has the same list.
            _ => {}
        }
        if Self::concerns(fact.kind.word()) {
            self.latest = at;
        }
    }

    /// Everything that is known of outages of each instance, in order.
    pub(crate) fn of_each(&self) -> impl Iterator<Item = (&InstanceId, &Outage)> {
        let past = self.over.iter().flat_map(|(id, all)| all.iter().map(move |outage| (id, outage)));
        past.chain(self.watched.iter().filter_map(|(id, watched)| Some((id, watched.open.as_ref()?))))
    }

    fn feel(&mut self, id: &InstanceId, health: &Health, (at, fact): (Timestamp, Position), around: &Around<'_>) {
        match health {
            Health::Ready | Health::Shallow(_) => {
                self.end(id, at, None);
                let watched = self.watched.entry(id.clone()).or_default();
                watched.worked = true;
                let goes_on = self.drill.as_ref().map(|drill| drill.number);
                watched.drill = watched.drill.filter(|number| goes_on == Some(*number));
            }
            // The probe could not be made: that says nothing about the instance.
            Health::Unready(Symptom { kind: SymptomKind::Unknown, .. }) => {}
            Health::Unready(symptom) => {
                self.fail(id, at, Sight { at, fact, words: symptom.to_string() }, around);
            }
        }
    }

    /// It is seen not to work.
    fn fail(&mut self, id: &InstanceId, from: Timestamp, sight: Sight, around: &Around<'_>) {
        let Some(watched) = self.watched.get_mut(id).filter(|watched| watched.worked && !watched.left) else { return };
        if let Some(open) = &mut watched.open {
            if open.seen.len() < SIGHTS_MAX {
                open.seen.push(sight);
            }
            return;
        }
        let Some(bought) = (around.bought)(id).filter(|_| !(around.is_own)(id.service())) else { return };
        // A death may be told late: never of a time that was told of already.
        let ended = self.over.get(id).and_then(|over| over.back()?.until);
        let from = ended.map_or(from, |ended| from.max(ended));
        let known = watched.finding.clone();
        let concluded = known.map(|(fact, finding)| Concluded { at: from, fact, finding: Some(finding) });
        watched.open = Some(Outage {
            bought,
            from,
            until: None,
            seen: vec![sight],
            concluded: concluded.into_iter().collect(),
            drill: watched.drill,
            ordered: self.orders.values().find(|ordered| ordered.instance == *id).map(|ordered| ordered.fact),
            callers: Vec::new(),
            unseen_from: None,
        });
    }

    fn conclude(&mut self, id: &InstanceId, finding: &Finding, (at, fact): (Timestamp, Position)) {
        let Some(watched) = self.watched.get_mut(id) else { return };
        watched.finding = Some((fact, finding.clone()));
        let Some(open) = &mut watched.open else { return };
        // What was concluded first is what was behind it from the beginning.
        let at = if open.concluded.is_empty() { open.from } else { at };
        let finding = Some(finding.clone());
        if open.concluded.len() < CONCLUSIONS_MAX - 1 {
            open.concluded.push(Concluded { at, fact, finding });
        } else if open.concluded.len() < CONCLUSIONS_MAX {
            open.concluded.push(Concluded { at, fact, finding: None });
        }
    }

    fn end(&mut self, id: &InstanceId, at: Timestamp, unseen_from: Option<Unseen>) {
        let Some(mut outage) = self.watched.get_mut(id).and_then(|watched| watched.open.take()) else { return };
        outage.until = Some(at.max(outage.from));
        outage.unseen_from = unseen_from;
        let before = at - KEPT;
        let over = self.over.entry(id.clone()).or_default();
        over.push_back(outage);
        if over.len() > OUTAGES_MAX {
            over.pop_front();
        }
        forget(over, before);
    }

    /// Nothing is left of it; and what is left of others that have gone before is forgotten in time.
    fn remove(&mut self, id: &InstanceId, at: Timestamp) {
        self.end(id, at, Some(Unseen::Unused));
        self.watched.remove(id);
        self.over.retain(|_, over| {
            forget(over, at - KEPT);
            !over.is_empty()
        });
    }

    /// It is not meant to work any more.
    fn drop_one(&mut self, id: &InstanceId, at: Timestamp) {
        self.end(id, at, Some(Unseen::Unused));
        if let Some(watched) = self.watched.get_mut(id) {
            (watched.worked, watched.finding) = (false, None);
        }
    }

    fn for_each(&mut self, is_meant: impl Fn(&InstanceId) -> bool, mut change: impl FnMut(&mut Self, &InstanceId)) {
        let meant: Vec<InstanceId> = self.watched.keys().filter(|id| is_meant(id)).cloned().collect();
        meant.iter().for_each(|id| change(self, id));
    }

    fn order(&mut self, id: CommandId, command: &Command, fact: Position) {
        let (instance, ends) = match command {
            Command::Deprovision { instance } | Command::Release { instance } => (instance, true),
            Command::Update { instance, .. }
            | Command::Restore { instance, .. }
            | Command::Before { instance, .. }
            | Command::Start { instance, .. }
            | Command::Stop { instance, .. } => (instance, false),
            _ => return,
        };
        self.orders.insert(id, Ordered { instance: instance.clone(), fact, ends });
    }

    /// Ostler was not there, or what it holds on to was not: what became of what it saw, nobody knows.
    fn resume(&mut self, cause: ResumeCause, at: Timestamp) {
        let last = match cause {
            ResumeCause::Started => self.latest.min(at),
            ResumeCause::HolderReturned | ResumeCause::StoredLate => at,
        };
        self.for_each(|_| true, |all, id| all.end(id, last, Some(Unseen::Away)));
        self.orders.clear();
    }

    fn drill(&mut self, drill: &Drill, around: &Around<'_>) {
        let mut services: BTreeSet<ServiceName> = drill.hits.iter().map(|hit| hit.instance.service().clone()).collect();
        services.extend([drill.service.clone(), drill.suffers().clone()]);
        let meant = Drilled { number: drill.number, services, provider: drill.provider.clone() };
        for (id, watched) in &mut self.watched {
            let is_there = || meant.provider.is_some() && (around.bought)(id).map(|it| it.provider) == meant.provider;
            if meant.services.contains(id.service()) || is_there() {
                watched.drill = Some(meant.number);
                if let Some(open) = &mut watched.open {
                    open.drill = Some(meant.number);
                }
            }
        }
        self.drill = Some(meant);
    }

    /// What callers got, in a time that is just over.
    fn count(&mut self, service: &ServiceName, traffic: &Traffic, around: &Around<'_>) {
        let Traffic { from, until, asked, .. } = *traffic;
        if asked == 0 || until <= from {
            return;
        }
        let touches = |outage: &Outage| outage.from < until && outage.until.is_none_or(|ended| ended > from);
        let all = InstanceId::new(service.clone(), 0)..=InstanceId::new(service.clone(), u32::MAX);
        let ids = self.watched.range(all.clone()).map(|(id, _)| id).chain(self.over.range(all).map(|(id, _)| id));
        let ids: BTreeSet<InstanceId> = ids.cloned().collect();
        for id in ids {
            let open = self.watched.get_mut(&id).and_then(|watched| watched.open.as_mut());
            // Only the newest can have ended so shortly ago.
            let over = self.over.get_mut(&id).into_iter().flat_map(|over| over.iter_mut().rev().take(8));
            for outage in open.into_iter().chain(over).filter(|outage| touches(outage)) {
                if !(around.counts_callers)(&outage.bought.provider) {
                    continue;
                }
                let is_full = outage.callers.len() >= COUNTS_MAX;
                match outage.callers.last_mut().filter(|_| is_full) {
                    Some(last) => {
                        last.until = last.until.max(until);
                        last.asked = last.asked.saturating_add(asked);
                        last.failed = last.failed.saturating_add(traffic.failed);
                    }
                    None => outage.callers.push(*traffic),
                }
            }
        }
    }
}

/// Forgets what was over before then.
fn forget(over: &mut VecDeque<Outage>, before: Timestamp) {
    while over.front().is_some_and(|outage| outage.until.is_some_and(|until| until < before)) {
        over.pop_front();
    }
}
