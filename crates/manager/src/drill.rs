//! Drills: faults that are caused on purpose, and what is seen of the recovery.
//!
//! A drill has four stages. It is recorded with everything that its end takes before anything is done; the fault is
//! caused; it is undone, when all works again or its time is over; and what was measured is recorded. Everything that
//! ends it early (a restart of ostler, a person who does something else) leads to the same undoing.
//!
//! Three faults differ. Ended credentials are made again by whoever makes credentials: what is doubtful of a binding is
//! on record, and made before anything uses it. A full disk is not healed by ostler: when it was seen, there is room
//! again, and it is to be seen that all works then. And a restore on the side does nothing to anybody.
//!
//! Invariants: at most one drill in an estate at a time; a fault that may have been caused is ordered to be undone; what
//! is drilled counts neither against its provider nor against anybody's service level.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use ostler_model::estate::drills::Fault;
use ostler_model::health::{Health, SymptomKind};
use ostler_model::ids::{BindingId, CommandId, InstanceId, ProviderName, ServiceName};
use ostler_model::outcome::{Counted, Proof, Running};
use ostler_model::time::{Timestamp, in_words};
use serde::{Deserialize, Serialize};

use crate::diagnosis::{Cause, Fault as Found};
use crate::fact::FactKind;
use crate::knowledge::{Knowledge, ServiceKnowledge};

/// So many beginnings of drills are remembered of a service: more than a window may have.
pub(crate) const BEGUN_MAX: usize = 100;
/// A disk stays full for so long, also where that is seen sooner: whoever writes is to run into it.
const FULL_FOR: Duration = Duration::from_secs(10);

/// A drill, as it was decided.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Drill {
    /// Counted within one estate, from 1.
    pub number: u32,
    /// Of which service.
    pub service: ServiceName,
    /// Where that is bought when it begins; `None` if nothing is done to what is bought there.
    pub provider: Option<ProviderName>,
    /// What goes wrong.
    pub fault: Fault,
    /// Where.
    pub hits: Vec<Hit>,
    /// To what else than instances.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub aim: Option<Aim>,
    /// The fault lasts no longer than until then, whoever is still there.
    pub until: Timestamp,
    /// Who wanted it.
    pub by: By,
}

/// What a fault is done to that is no instance.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Aim {
    /// The credentials of this binding: the instances that are hit are the consumer's.
    Binding(BindingId),
    /// Nothing at all: the backup of this name is restored on the side.
    Backup(String),
}

/// An instance to which a fault is done, as it ran then: what has been started since is not meant.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hit {
    /// Which.
    pub instance: InstanceId,
    /// As what it ran.
    pub running: Running,
}

/// Who wanted a drill.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum By {
    /// The estate file.
    Schedule,
    /// A person.
    Person {
        /// Why it could not wait for a window, if it was to be made outside one.
        despite: Option<String>,
    },
}

/// A drill under way.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Drilling {
    /// What was decided.
    pub drill: Drill,
    /// When.
    pub began: Timestamp,
    /// How far it is.
    pub stage: Stage,
    /// The order under way.
    pub operation: Option<CommandId>,
    /// No order before this, because the last one failed.
    pub not_before: Timestamp,
    /// How often undoing it has failed.
    pub failures: u32,
    /// When the fault was there.
    pub caused: Option<Timestamp>,
    /// Why it was not.
    pub not_caused: Option<String>,
    /// When something of it was first seen.
    pub noticed: Option<Timestamp>,
    /// What was concluded: the first that is right, or the first. What a provider's outage is follows only from several
    /// instances, and the first of them is judged alone.
    pub diagnosed: Option<Diagnosed>,
    /// Since when nothing is left of the fault.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub undone: Option<Timestamp>,
    /// Since when everything of the service works again.
    pub healed: Option<Timestamp>,
    /// Why the backup could not be restored.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub not_restored: Option<String>,
    /// Why it ended before its time.
    pub cut_short: Option<String>,
    /// What callers and data saw of it.
    pub measured: Measured,
}

/// How far a drill is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Stage {
    /// The fault is being caused.
    Causing,
    /// It is there, or could not be caused.
    Caused,
    /// It is to be undone.
    Undoing,
    /// Nothing is left of it.
    Undone,
}

/// What was concluded of a fault.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Diagnosed {
    /// In words: "it hangs".
    pub words: String,
    /// It is what the fault was.
    pub right: bool,
}

/// What callers and data saw of a fault.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Measured {
    /// What callers of the service saw; `None` if nobody could count.
    pub callers: Option<Callers>,
    /// What became of what was written before; `None` where nobody knows how to write there.
    pub data: Option<Data>,
    /// The backup that was restored on the side.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub restored: Option<Restored>,
}

/// What became of a backup that was restored on the side.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Restored {
    /// Its name.
    pub backup: String,
    /// How long it took to fetch and to restore it, in milliseconds.
    pub took_ms: u64,
    /// What was counted in it. Where that was also counted when the backup was made, it was the same.
    pub counted: Counted,
    /// How many of the consumers' contracts were kept by it.
    pub contracts: u32,
}

/// What callers of a service saw while it was drilled.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Callers {
    /// How often they asked: requests, or connections where the protocol is not understood.
    pub asked: u64,
    /// How often in vain.
    pub failed: u64,
    /// How many connections had to wait, and were then served.
    pub waited: u64,
    /// The longest of these waits, in milliseconds.
    pub longest_ms: u64,
}

/// What became of what was written before a drill.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Data {
    /// So much was written and acknowledged.
    pub written: u32,
    /// So much of it is not there any more.
    pub lost: u32,
}

/// What a drill has shown.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Verdict {
    /// It was noticed and healed within its time, and nothing was lost.
    Proven,
    /// Nobody noticed.
    NotNoticed,
    /// It was noticed, and not healed within its time.
    NotHealed,
    /// It was healed, and data is missing.
    LostData,
    /// The backup was not restored, or is not what it is to be.
    NotRestored(String),
    /// The fault could not be caused.
    NotCaused(String),
    /// It ended before anything was shown.
    CutShort(String),
}

/// What is known of a drill that is over.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DrillResult {
    /// What was decided.
    pub drill: Drill,
    /// When it began.
    pub began: Timestamp,
    /// When the fault was there.
    pub caused: Option<Timestamp>,
    /// When it was over.
    pub ended: Timestamp,
    /// What it has shown.
    pub verdict: Verdict,
    /// How long after the fault something of it was first seen, in milliseconds.
    pub noticed_ms: Option<u64>,
    /// What was concluded.
    pub diagnosed: Option<Diagnosed>,
    /// How long after the fault everything worked again, in milliseconds; with `fill-disk`, how long after there was room
    /// again; with `backup-restore`, how long the restore took.
    pub healed_ms: Option<u64>,
    /// What callers and data saw of it.
    pub measured: Measured,
}

/// What is known of former drills of a service.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Drilled {
    /// The last one with each fault.
    pub results: BTreeMap<Fault, DrillResult>,
    /// When the last ones began, oldest first.
    pub begun: VecDeque<Timestamp>,
    /// The fault that comes next by the schedule is the one after this.
    pub last: Option<Fault>,
    /// One has shown that something does not recover: the schedule makes no more until a person's drill is proven.
    pub failed: bool,
}

impl Verdict {
    /// Whether it says something against the service: that it does not recover.
    pub fn is_failure(&self) -> bool {
        match self {
            Self::NotNoticed | Self::NotHealed | Self::LostData | Self::NotRestored(_) => true,
            Self::Proven | Self::NotCaused(_) | Self::CutShort(_) => false,
        }
    }

    /// In words, as the end of "the drill …", which was one with `fault`.
    pub fn in_words(&self, fault: Fault) -> String {
        match self {
            Self::Proven if fault == Fault::BackupRestore => "restored the newest backup".to_owned(),
            Self::Proven if fault == Fault::FillDisk => "was noticed, and all works again".to_owned(),
            Self::Proven => "was noticed and healed".to_owned(),
            Self::NotNoticed => "was not noticed within its time".to_owned(),
            Self::NotHealed => "was noticed, and not healed within its time".to_owned(),
            Self::LostData => "was healed, and data is missing".to_owned(),
            Self::NotRestored(why) => format!("did not restore the newest backup: {why}"),
            Self::NotCaused(why) => format!("could not be made: {why}"),
            Self::CutShort(why) => format!("was cut short: {why}"),
        }
    }
}

impl DrillResult {
    /// What was measured, for people: `healed in 0.4 s, 0 failed, 0 lost`.
    pub fn figures(&self) -> String {
        let ms = |ms: u64| in_words(Duration::from_millis(ms));
        if let Some(restored) = &self.measured.restored {
            return format!("{}, {}", ms(restored.took_ms), restored.contents());
        }
        let healed = self.healed_ms.map_or_else(|| "not healed".to_owned(), ms);
        let failed = self
            .measured
            .callers
            .map_or("failed requests not counted".to_owned(), |callers| format!("{} failed", callers.failed));
        let lost = self.measured.data.map_or("data not measured".to_owned(), |data| format!("{} lost", data.lost));
        format!("{healed}, {failed}, {lost}")
    }
}

impl Restored {
    pub(crate) fn new(backup: &str, proof: &Proof) -> Self {
        let took_ms = u64::try_from(proof.took.get().as_millis()).unwrap_or(u64::MAX);
        Self { backup: backup.to_owned(), took_ms, counted: proof.counted.clone(), contracts: proof.contracts }
    }

    /// What was found in it, for people: `52 rows, 3 tables, 1 contract kept`.
    pub fn contents(&self) -> String {
        let counted = self.counted.iter().map(|(name, number)| format!("{number} {name}"));
        let contracts = match self.contracts {
            0 => None,
            1 => Some("1 contract kept".to_owned()),
            number => Some(format!("{number} contracts kept")),
        };
        counted.chain(contracts).collect::<Vec<_>>().join(", ")
    }
}

impl Drill {
    /// The binding whose credentials are ended.
    pub fn binding(&self) -> Option<&BindingId> {
        match &self.aim {
            Some(Aim::Binding(binding)) => Some(binding),
            Some(Aim::Backup(_)) | None => None,
        }
    }

    /// The backup that is restored on the side.
    pub fn backup(&self) -> Option<&str> {
        match &self.aim {
            Some(Aim::Backup(backup)) => Some(backup),
            Some(Aim::Binding(_)) | None => None,
        }
    }

    /// Whose callers see it first: the consumer's whose credentials are ended, or the service's own.
    pub fn suffers(&self) -> &ServiceName {
        self.binding().map_or(&self.service, |binding| &binding.consumer)
    }

    /// Where it is, in words: `at db-1`.
    pub fn place_in_words(&self) -> String {
        let names: Vec<String> = self.hits.iter().take(3).map(|hit| hit.instance.to_string()).collect();
        match (&self.aim, self.hits.len() - names.len()) {
            (Some(Aim::Binding(binding)), _) => format!("for {} at {}", binding.consumer, binding.need),
            (Some(Aim::Backup(backup)), _) => format!("of {} from {backup}", self.service),
            (None, 0) => format!("at {}", names.join(", ")),
            (None, more) => format!("at {} and {more} more", names.join(", ")),
        }
    }

    /// Whether something is done to this instance.
    pub fn hits(&self, id: &InstanceId) -> bool {
        self.hits.iter().any(|hit| hit.instance == *id)
    }

    /// Whether this is what is behind the fault, as far as anybody can tell who looks from outside. `provider` is whose
    /// instances are drilled.
    fn is_right(&self, cause: &Cause, provider: Option<&ProviderName>) -> bool {
        let is = |faults: &[Found]| matches!(cause, Cause::Instance(found) if faults.contains(found));
        match self.fault {
            Fault::Kill => is(&[Found::Crashed]),
            Fault::Hang => is(&[Found::Hung]),
            // What stands still for longer than a probe waits cannot be told from what hangs.
            Fault::Slow => is(&[Found::Slow, Found::Hung]),
            Fault::Refuse => is(&[Found::Refuses]),
            Fault::WrongCredentials => is(&[Found::WrongCredentials]),
            Fault::FillDisk => is(&[Found::DiskFull]),
            Fault::BackupRestore => false, // nothing is wrong
            Fault::ProviderOutage => match cause {
                Cause::Provider(found) => Some(found) == provider,
                Cause::Region(_) => true,
                // With nothing else bought there, it cannot be told from an outage of the provider's.
                _ => self.hits.len() == 1 && is(&[Found::Refuses]),
            },
        }
    }
}

impl Drilling {
    /// One that begins.
    pub(crate) fn new(drill: Drill, began: Timestamp) -> Self {
        Self {
            drill,
            began,
            stage: Stage::Causing,
            operation: None,
            not_before: Timestamp::default(),
            failures: 0,
            caused: None,
            not_caused: None,
            noticed: None,
            diagnosed: None,
            undone: None,
            healed: None,
            not_restored: None,
            cut_short: None,
            measured: Measured::default(),
        }
    }

    /// Whether the fault may be there, and is to be.
    pub fn is_in_force(&self) -> bool {
        matches!(self.stage, Stage::Causing | Stage::Caused) && self.cut_short.is_none()
    }

    /// Whether nothing more is to be seen: it is healed, its time is over, or it cannot or must not go on.
    pub(crate) fn is_over(&self, now: Timestamp) -> bool {
        let ends = self.healed.is_some() || self.not_caused.is_some() || self.cut_short.is_some();
        // Nothing of ostler's makes room: when it was seen what is wrong, and long enough for others to run into it, it
        // is to be seen whether all works again once there is some.
        let is_seen = self.diagnosed.is_some() && self.full_until().is_some_and(|until| now >= until);
        ends || self.not_restored.is_some() || is_seen || now >= self.drill.until
    }

    /// Until when a disk stays full although what is wrong was seen.
    pub(crate) fn full_until(&self) -> Option<Timestamp> {
        self.caused.filter(|_| self.drill.fault == Fault::FillDisk).map(|caused| caused + FULL_FOR)
    }

    /// Whether it is undone, and what it was done to may still be on its way back.
    pub(crate) fn recovers(&self, now: Timestamp) -> bool {
        let waits = self.drill.fault == Fault::FillDisk && self.noticed.is_some() && self.healed.is_none();
        let ended = self.not_caused.is_some() || self.cut_short.is_some();
        self.stage == Stage::Undone && waits && !ended && now < self.drill.until
    }

    /// What it has shown.
    pub(crate) fn result(&self, ended: Timestamp) -> DrillResult {
        let between = |from: Option<Timestamp>, until: Option<Timestamp>| {
            Some(u64::try_from(until?.since(from?).as_millis()).unwrap_or(u64::MAX))
        };
        // Nothing can work again before there is room again.
        let begins = if self.drill.fault == Fault::FillDisk { self.undone } else { self.caused };
        let healed = between(begins, self.healed);
        let lost = self.measured.data.is_some_and(|data| data.lost > 0);
        let restored = self.measured.restored.as_ref();
        let not_restored = || self.not_restored.clone().unwrap_or_else(|| "it took too long".to_owned());
        let verdict = match (&self.not_caused, &self.cut_short, self.noticed, self.healed) {
            (Some(why), _, _, _) => Verdict::NotCaused(why.clone()),
            (None, Some(why), _, _) => Verdict::CutShort(why.clone()),
            (None, None, _, _) if self.drill.fault == Fault::BackupRestore => match restored {
                Some(_) => Verdict::Proven,
                None => Verdict::NotRestored(not_restored()),
            },
            (None, None, None, _) => Verdict::NotNoticed,
            (None, None, Some(_), None) => Verdict::NotHealed,
            (None, None, Some(_), Some(_)) if lost => Verdict::LostData,
            (None, None, Some(_), Some(_)) => Verdict::Proven,
        };
        DrillResult {
            drill: self.drill.clone(),
            began: self.began,
            caused: self.caused,
            ended,
            verdict,
            noticed_ms: between(self.caused, self.noticed),
            diagnosed: self.diagnosed.clone(),
            healed_ms: restored.map(|restored| restored.took_ms).or(healed),
            measured: self.measured.clone(),
        }
    }

    /// What a fact says of what was done.
    pub(crate) fn see(&mut self, kind: &FactKind, provider: Option<&ProviderName>, at: Timestamp) {
        if !self.is_in_force() {
            return;
        }
        if let Some(what) = self.sees_what_it_is(kind) {
            self.noticed.get_or_insert(at);
            self.diagnosed.get_or_insert_with(|| Diagnosed { words: what.in_words().to_owned(), right: true });
            return;
        }
        let (instance, when) = match kind {
            FactKind::InstanceDied { instance, seen, .. } => (instance, (*seen).min(at)),
            FactKind::HealthChanged { instance, health: Health::Unready(symptom) }
                if symptom.kind != SymptomKind::Unknown =>
            {
                (instance, at)
            }
            FactKind::HealthChanged { instance, health: Health::Shallow(_) }
                if self.drill.fault == Fault::WrongCredentials =>
            {
                (instance, at)
            }
            FactKind::RepairBegan { instance, .. } | FactKind::Concluded { instance, .. } => (instance, at),
            _ => return,
        };
        if !self.drill.hits(instance) {
            return;
        }
        self.noticed.get_or_insert(when);
        if let FactKind::Concluded { finding, .. } = kind {
            let right = self.drill.is_right(&finding.cause, provider);
            if self.diagnosed.as_ref().is_none_or(|diagnosed| right && !diagnosed.right) {
                self.diagnosed = Some(Diagnosed { words: finding.cause.in_words(), right });
            }
        }
    }

    /// What the fault is, where that is concluded without anything being repaired.
    fn sees_what_it_is(&self, kind: &FactKind) -> Option<Found> {
        match kind {
            FactKind::CredentialsDoubted { binding } if self.drill.binding() == Some(binding) => {
                Some(Found::WrongCredentials)
            }
            FactKind::HealthChanged { instance, health: Health::Shallow(symptom) | Health::Unready(symptom) }
                if self.drill.fault == Fault::FillDisk
                    && symptom.kind == SymptomKind::DiskFull
                    && self.drill.hits(instance) =>
            {
                Some(Found::DiskFull)
            }
            _ => None,
        }
    }
}

impl ServiceKnowledge {
    /// Whether all of it works, and nothing is being done to it.
    pub(crate) fn is_whole(&self) -> bool {
        let at_rest = |instance: &crate::Instance| instance.repair.is_none() && instance.held.is_none();
        self.active > 0 && self.ready == self.active && self.instances.values().all(|instance| at_rest(instance))
    }
}

impl Knowledge {
    /// Until when nobody is to get a connection to the instance, because a drill has it so.
    pub fn refuses(&self, id: &InstanceId) -> Option<Timestamp> {
        let drilling = self.drill.as_ref().filter(|drilling| drilling.is_in_force())?;
        let hit = drilling.drill.hits.iter().find(|hit| hit.instance == *id)?;
        let meant = match drilling.drill.fault {
            Fault::Kill
            | Fault::Hang
            | Fault::Slow
            | Fault::WrongCredentials
            | Fault::FillDisk
            | Fault::BackupRestore => false,
            Fault::Refuse => {
                let running = self.instance(id)?.running?;
                (running.pid, running.since, running.address)
                    == (hit.running.pid, hit.running.since, hit.running.address)
            }
            Fault::ProviderOutage => true,
        };
        meant.then_some(drilling.drill.until)
    }

    /// Until when the provider takes no orders, because a drill has it so.
    pub fn is_out(&self, provider: &ProviderName) -> Option<Timestamp> {
        let drilling = self.drill.as_ref().filter(|drilling| drilling.is_in_force())?;
        let is_it = drilling.drill.fault == Fault::ProviderOutage && self.drilled_provider() == Some(provider);
        is_it.then_some(drilling.drill.until)
    }

    /// Whether the instance fails because a drill has it so, or has not recovered from one.
    pub fn is_drilled(&self, id: &InstanceId) -> bool {
        self.instance(id).is_some_and(|instance| instance.drilled)
    }

    /// Whose instances are drilled.
    pub(crate) fn drilled_provider(&self) -> Option<&ProviderName> {
        self.drill.as_ref()?.drill.provider.as_ref()
    }

    /// The services to which a drill is done, and all that use them, directly or not.
    pub(crate) fn touched_by(&self, drill: &Drill) -> BTreeSet<ServiceName> {
        let mut touched: BTreeSet<ServiceName> = drill.hits.iter().map(|hit| hit.instance.service().clone()).collect();
        let mut next: Vec<ServiceName> = touched.iter().cloned().collect();
        while let Some(service) = next.pop() {
            for consumer in self.consumers.get(&service).into_iter().flatten() {
                if touched.insert(consumer.clone()) {
                    next.push(consumer.clone());
                }
            }
        }
        touched
    }
}
