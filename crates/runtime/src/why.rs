//! `ostler why`: what happened to a service lately, as a short report. A pure fold of facts.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use ostler_manager::{
    Candidate, Command, Diagnosis, Fact, FactKind, Judged, MovedView, Outcome, OverrideView, ServiceView,
};
use ostler_model::health::{Health, State};
use ostler_model::ids::{CommandId, InstanceId, ServiceName};
use ostler_model::overrides::OverrideId;
use ostler_model::time::{Timestamp, in_words, rfc3339};
use serde::{Deserialize, Serialize};

use crate::drills;
use crate::history::{counted, outcome_in_words};
use crate::levels;
use crate::overrides;
use crate::upgrades;
use crate::waiting::{self, Waiting};
use crate::{clock, kept};

/// How many troubles a report tells.
pub const EPISODES_MAX: usize = 5;
/// Callers' waits that begin so long before a trouble was seen belong to it.
const CALLERS_BEFORE: Duration = Duration::from_secs(5);
/// Of a long trouble, people are shown how it began and how it stands.
const STEPS_FIRST: usize = 6;
const STEPS_LAST: usize = 8;
/// How a restart by reflex begins in words.
const RESTARTED: &str = "the keeper started it again";

/// What happened to a service lately.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct WhyReport {
    /// Its status now.
    pub service: ServiceView,
    /// The needs that keep it from working, where they do.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub waits_for: Vec<Waiting>,
    /// Every plan that it might be bought of, with what became of each.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub candidates: Vec<Candidate>,
    /// What people instruct about it against, or ahead of, what ostler would decide.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub overrides: Vec<OverrideView>,
    /// Its troubles, newest first.
    pub episodes: Vec<Episode>,
    /// What people asked for and what was changed lately, newest first.
    pub changes: Vec<Step>,
    /// Waits of callers that belong to none of the troubles, newest first.
    pub other_waits: Vec<Callers>,
}

/// One trouble of one instance, from when it was seen to when it was over.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Episode {
    /// Of which instance.
    pub instance: InstanceId,
    /// When it was seen.
    #[serde(with = "rfc3339")]
    pub seen: Timestamp,
    /// What was concluded, without the subject: "ended with signal 9 (SIGKILL)".
    pub concluded: String,
    /// What was done and what came of it.
    pub done: Vec<Step>,
    /// When it worked again.
    #[serde(with = "rfc3339::option")]
    pub over: Option<Timestamp>,
    /// What callers noticed.
    pub callers: Option<Callers>,
}

/// Something that happened at a time.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Step {
    /// When.
    #[serde(with = "rfc3339")]
    pub at: Timestamp,
    /// What.
    pub what: String,
}

/// Callers that had to wait or were failed.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Callers {
    /// From when.
    #[serde(with = "rfc3339")]
    pub from: Timestamp,
    /// Until when.
    #[serde(with = "rfc3339")]
    pub until: Timestamp,
    /// Connections that waited and were then served.
    pub waited: u64,
    /// Connections that were failed.
    pub failed: u64,
    /// The longest wait; in JSON `longest_us`, in whole microseconds.
    #[serde(rename = "longest_us", with = "micros")]
    pub longest: Duration,
}

mod micros {
    use std::time::Duration;

    use serde::{Deserialize, Deserializer, Serializer};

    pub(super) fn serialize<S: Serializer>(length: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_u64(u64::try_from(length.as_micros()).unwrap_or(u64::MAX))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
        u64::deserialize(deserializer).map(Duration::from_micros)
    }
}

/// The report on `service`, from what it waits for and its facts in their order.
pub fn report<'a>(
    service: ServiceView,
    waits_for: Vec<Waiting>,
    facts: impl IntoIterator<Item = &'a Fact>,
) -> WhyReport {
    let mut fold = Fold {
        name: service.name.clone(),
        open: BTreeMap::new(),
        over: Vec::new(),
        callers: Vec::new(),
        changes: Vec::new(),
        commands: BTreeMap::new(),
        overrides: BTreeSet::new(),
    };
    for fact in facts {
        fold.take(fact);
    }
    let mut episodes = fold.over;
    episodes.extend(fold.open.into_values());
    let mut other_waits = Vec::new();
    for callers in fold.callers {
        let belongs = |episode: &&mut Episode| {
            callers.from + CALLERS_BEFORE >= episode.seen
                && episode.over.is_none_or(|over| callers.from <= over)
                && callers.until >= episode.seen - CALLERS_BEFORE
        };
        match episodes.iter_mut().find(belongs) {
            Some(episode) => episode.callers = Some(episode.callers.map_or(callers, |former| former.and(callers))),
            None => other_waits.push(callers),
        }
    }
    episodes.sort_by_key(|episode| std::cmp::Reverse(episode.seen));
    episodes.truncate(EPISODES_MAX);
    other_waits.reverse();
    other_waits.truncate(EPISODES_MAX);
    let mut changes = fold.changes;
    changes.reverse();
    changes.truncate(EPISODES_MAX);
    WhyReport { service, waits_for, candidates: Vec::new(), overrides: Vec::new(), episodes, changes, other_waits }
}

impl Callers {
    fn and(self, other: Self) -> Self {
        Self {
            from: self.from.min(other.from),
            until: self.until.max(other.until),
            waited: self.waited + other.waited,
            failed: self.failed + other.failed,
            longest: self.longest.max(other.longest),
        }
    }
}

struct Fold {
    name: ServiceName,
    open: BTreeMap<InstanceId, Episode>,
    over: Vec<Episode>,
    callers: Vec<Callers>,
    changes: Vec<Step>,
    commands: BTreeMap<CommandId, (InstanceId, String)>,
    /// Those that say something of it.
    overrides: BTreeSet<OverrideId>,
}

impl Fold {
    fn take(&mut self, fact: &Fact) {
        let at = fact.at;
        match &fact.kind {
            FactKind::InstanceDied { instance, seen, restarted, why_not, pid, .. } if self.is_mine(instance) => {
                let episode = self.episode(instance, *seen);
                let was = pid.map_or(String::new(), |pid| format!("process {pid} "));
                match (restarted, why_not) {
                    (Some(process), _) => {
                        let took = in_words(process.since.since(*seen));
                        let what = format!("{RESTARTED} as process {} within {took}", process.pid);
                        episode.done.push(Step { at: process.since, what });
                    }
                    (None, why_not) => {
                        let why_not = why_not.as_deref().unwrap_or("nobody says why");
                        let what = format!("{was}was not started again at once: {why_not}");
                        episode.done.push(Step { at: *seen, what });
                    }
                }
            }
            FactKind::RepairBegan { instance, diagnosis } if self.is_mine(instance) => {
                let episode = self.episode(instance, at);
                let concluded = match diagnosis {
                    // Why the keeper did not start it again is told as what was done.
                    Diagnosis::Died { exit, .. } => format!("ended with {exit}"),
                    other => other.in_words(),
                };
                if episode.concluded.is_empty() {
                    episode.concluded = concluded;
                } else if episode.concluded != concluded {
                    episode.done.push(Step { at, what: format!("concluded: it {concluded}") });
                }
            }
            FactKind::BackedOff { instance, until, failures } => {
                if let Some(episode) = self.open.get_mut(instance)
                    && *until > at
                {
                    let pause = in_words(until.since(at));
                    let what = format!("left alone for {pause}: it has failed {failures} times in a row");
                    episode.done.push(Step { at, what });
                }
            }
            FactKind::Concluded { instance, finding } => {
                if let Some(episode) = self.open.get_mut(instance) {
                    let evidence: Vec<String> = finding.evidence.iter().map(|found| found.in_words(at)).collect();
                    let because =
                        if evidence.is_empty() { String::new() } else { format!(": {}", evidence.join(", ")) };
                    episode.done.push(Step { at, what: format!("diagnosis: {}{because}", finding.cause.in_words()) });
                }
            }
            FactKind::RemedyChosen { instance, weighed, .. } => {
                if let Some(episode) = self.open.get_mut(instance) {
                    let weighed: Vec<String> = weighed.iter().map(|weighed| weighed.in_words()).collect();
                    episode.done.push(Step { at, what: format!("weighed: {}", weighed.join("; ")) });
                }
            }
            FactKind::Held { instance, question, answer, .. } => {
                if let Some(episode) = self.open.get_mut(instance) {
                    episode.done.push(Step { at, what: format!("a person is asked: {question}; {answer}") });
                }
            }
            FactKind::HealthChanged { instance, health } => {
                if let (Some(episode), Health::Unready(symptom) | Health::Shallow(symptom)) =
                    (self.open.get_mut(instance), health)
                {
                    episode.done.push(Step { at, what: format!("the probe says: {symptom}") });
                }
            }
            FactKind::RepairEnded { instance } => {
                if let Some(mut episode) = self.open.remove(instance) {
                    episode.over = Some(at);
                    self.over.push(episode);
                }
            }
            FactKind::CommandIssued { id, command } => self.issued(at, *id, command),
            FactKind::CommandEnded { id, outcome } => self.ended(at, *id, outcome),
            FactKind::CallersAffected { service, from, until, waited, failed, longest } if self.is(service) => {
                self.callers.push(Callers {
                    from: *from,
                    until: *until,
                    waited: *waited,
                    failed: *failed,
                    longest: *longest,
                });
            }
            kind => self.change(at, kind),
        }
    }

    fn is(&self, service: &ServiceName) -> bool {
        self.name == *service
    }

    fn is_mine(&self, instance: &InstanceId) -> bool {
        self.is(instance.service())
    }

    fn episode(&mut self, instance: &InstanceId, seen: Timestamp) -> &mut Episode {
        self.open.entry(instance.clone()).or_insert_with(|| Episode {
            instance: instance.clone(),
            seen,
            concluded: String::new(),
            done: Vec::new(),
            over: None,
            callers: None,
        })
    }

    fn issued(&mut self, at: Timestamp, id: CommandId, command: &Command) {
        let instance = match command {
            Command::Provision { instance }
            | Command::Before { instance, .. }
            | Command::Start { instance, .. }
            | Command::Stop { instance, .. }
            | Command::Update { instance, .. }
            | Command::Restore { instance, .. } => instance,
            _ => return,
        };
        if let Some(episode) = self.open.get_mut(instance) {
            let what = command.in_words();
            self.commands.insert(id, (instance.clone(), what.clone()));
            episode.done.push(Step { at, what });
        }
    }

    fn ended(&mut self, at: Timestamp, id: CommandId, outcome: &Outcome) {
        let Some((instance, what)) = self.commands.remove(&id) else { return };
        if let Some(episode) = self.open.get_mut(&instance) {
            episode.done.push(Step { at, what: format!("{what}: {}", outcome_in_words(outcome)) });
        }
    }

    fn change(&mut self, at: Timestamp, kind: &FactKind) {
        let is_change = match kind {
            FactKind::RestartAsked { service }
            | FactKind::ScaleAsked { service, .. }
            | FactKind::LaunchDefined { service, .. }
            | FactKind::LaunchRejected { service, .. }
            | FactKind::ServicePlaced { service, .. }
            | FactKind::DeleteAsked { service }
            | FactKind::ReleaseAsked { service }
            | FactKind::BackupAsked { service, .. }
            | FactKind::ProofAsked { service, .. }
            | FactKind::BackupBrought { service, .. }
            | FactKind::BackupDropped { service, .. }
            | FactKind::RestoreAsked { service, .. }
            | FactKind::MoveBegan { service, .. }
            | FactKind::MoveTurned { service, .. }
            | FactKind::MoveHeld { service, .. }
            | FactKind::MoveReturned { service }
            | FactKind::Upgrade { service, .. }
            | FactKind::MoveEnded { service } => self.is(service),
            FactKind::Quarantined { leftover, .. } | FactKind::SettleAsked { leftover, .. } => {
                self.is_mine(&leftover.instance)
            }
            FactKind::InstanceRetired { instance }
            | FactKind::InstanceDiscarded { instance, .. }
            | FactKind::InstanceAdopted { instance, .. } => self.is_mine(instance),
            FactKind::DrillBegan { drill } => self.is(&drill.service),
            FactKind::DrillEnded { result } => self.is(&result.drill.service),
            FactKind::OverrideBegan { id, instruction, .. } => {
                let is_mine = instruction.service().is_none_or(|service| self.is(service));
                if is_mine {
                    self.overrides.insert(*id);
                }
                is_mine
            }
            FactKind::OverrideEnded { id, .. } => self.overrides.contains(id),
            FactKind::Resumed { .. } | FactKind::DownAsked | FactKind::SelfUpgrade { .. } => true,
            _ => false,
        };
        if is_change {
            self.changes.push(Step { at, what: crate::history::in_plain_words(kind) });
        }
    }
}

/// Whether there was anything to choose between.
pub fn is_worth_telling(candidates: &[Candidate]) -> bool {
    candidates.iter().filter(|candidate| candidate.plan.is_some()).count() > 1
}

/// A candidate as a line: what it is, and what became of it.
pub fn candidate_in_words(candidate: &Candidate) -> String {
    let mut parts: Vec<String> = Vec::new();
    parts.extend(candidate.plan.as_ref().map(|plan| format!("plan {plan}")));
    parts.extend(candidate.version.as_ref().map(|version| format!("version {version}")));
    parts.extend(candidate.region.as_ref().map(|region| format!("in {region}")));
    if candidate.plan.is_some() {
        parts.push(format!("price {}", candidate.price_in_words()));
    }
    parts.extend(candidate.availability.map(|promised| format!("{promised} promised")));
    parts.extend(candidate.certificate.as_ref().map(|certificate| certificate.in_words()));
    parts.extend(candidate.delivered.as_ref().map(|delivered| delivered.in_words()));
    if candidate.sick.0 > 0 {
        parts.push(format!("{} of {} bought there do not work now", candidate.sick.0, candidate.sick.1));
    }
    let verdict = match &candidate.verdict {
        Judged::Chosen(why) => format!("chosen: {why}"),
        Judged::Lost(why) => format!("not chosen: {why}"),
        Judged::Excluded(why) => format!("excluded: {why}"),
    };
    let parts = if parts.is_empty() { String::new() } else { format!(", {}", parts.join(", ")) };
    format!("  {}{parts}\n    {verdict}\n", candidate.provider)
}

/// The report as people read it.
pub fn in_words_of(report: &WhyReport) -> String {
    let mut out = String::new();
    let service = &report.service;
    let ready = service.instances.iter().filter(|instance| instance.state == State::Ready).count();
    out.push_str(&format!("{} is {}: ", service.name, service.state));
    out.push_str(&format!("{ready} of {} ready\n", counted(service.instances_wanted as usize, "instance")));
    for trouble in &service.troubles {
        out.push_str(&format!("  {trouble}\n"));
    }
    if let Some(upgrade) = &service.upgrade {
        out.push_str(&format!("  {} ({})\n", upgrades::under_way(upgrade), upgrade.why));
    }
    if let Some(available) = &service.available {
        out.push_str(&format!("  {}\n", upgrades::available(available)));
    }
    if let Some(blocked) = &service.blocked {
        out.push_str(&format!("  there is {}, which is not put to use: {}\n", blocked.newest, blocked.because));
    }
    if let Some(last) = &service.upgraded {
        out.push_str(&format!("  it {}, at {}\n", upgrades::over(last), last.ended));
    }
    if let Some(moving) = &service.moving {
        let (from, to, why) = (&moving.from, &moving.to, &moving.why);
        let step = moving.step.in_words();
        out.push_str(&format!(
            "  it moves from {from} to {to} since {} ({why}): {step}; {}\n",
            moving.began, moving.loses
        ));
        if let (Some(question), Some(answer)) = (&moving.question, &moving.answer) {
            out.push_str(&format!("    a person is asked: {question}\n    what to do: {answer}\n"));
        }
    }
    if let Some(moved) = &service.moved {
        let MovedView { from, to, ended, lost, returned, .. } = moved;
        out.push_str(&match returned {
            true => format!("  its move from {from} to {to} was taken back at {ended}\n"),
            false => format!("  it was moved from {from} to {to} at {ended}: {lost}\n"),
        });
    }
    for instance in service.instances.iter().filter(|instance| instance.state != State::Ready) {
        let because = instance.because.as_deref().map_or(String::new(), |because| format!(": {because}"));
        out.push_str(&format!("  {} is {}{because}\n", instance.id, instance.state));
        if let Some(answer) = &instance.answer {
            out.push_str(&format!("    what to do: {answer}\n"));
        }
    }
    for waiting in &report.waits_for {
        out.push_str(&waiting::in_words(waiting));
    }
    if !report.overrides.is_empty() {
        out.push_str("\nWhat people decided otherwise\n");
        for view in &report.overrides {
            overrides::lines(view, clock::now()).lines().for_each(|line| out.push_str(&format!("  {line}\n")));
        }
    }
    if !service.levels.is_empty() {
        out.push_str("\nHow it serves\n");
        service.levels.iter().for_each(|level| out.push_str(&levels::report(level)));
    }
    if !service.drills.is_empty() {
        out.push_str("\nWhat drills have shown\n");
        for drill in &service.drills {
            out.push_str(&format!("  {}: {}\n", drill.at, drills::standing(drill)));
            drills::report(drill).lines().for_each(|line| out.push_str(&format!("  {line}\n")));
        }
    }
    match (report.episodes.is_empty(), report.waits_for.is_empty()) {
        (true, true) => out.push_str("\nNothing went wrong with it in the facts at hand.\n"),
        (true, false) => out.push_str("\nNothing went wrong with it itself in the facts at hand.\n"),
        (false, _) => {}
    }
    for episode in &report.episodes {
        out.push_str(&episode_in_words(episode));
    }
    if !report.other_waits.is_empty() {
        out.push_str("\nCallers also waited\n");
        for callers in &report.other_waits {
            out.push_str(&format!("  {}  {}\n", callers.from.to_millis(), callers_in_words(callers)));
        }
    }
    if is_worth_telling(&report.candidates) {
        out.push_str("\nWhere it is bought, and why not elsewhere\n");
        report.candidates.iter().for_each(|candidate| out.push_str(&candidate_in_words(candidate)));
    }
    let backups = kept::list(&report.service, clock::now());
    if !backups.is_empty() {
        out.push_str(&format!("\nBackups\n{backups}"));
    }
    if !report.changes.is_empty() {
        out.push_str("\nLast changes\n");
        for step in &report.changes {
            out.push_str(&format!("  {}  {}\n", step.at.to_millis(), step.what));
        }
    }
    out
}

fn episode_in_words(episode: &Episode) -> String {
    let mut out = format!("\n{}  {} {}\n", episode.seen.to_millis(), episode.instance, episode.concluded);
    let lines = grouped(&episode.done);
    let left_out = lines.len().saturating_sub(STEPS_FIRST + STEPS_LAST);
    for (number, step) in lines.iter().enumerate() {
        if left_out > 0 && number == STEPS_FIRST {
            out.push_str(&format!(
                "  … {left_out} more steps, which `ostler why {} --json` shows\n",
                episode.instance.service()
            ));
        }
        if left_out == 0 || number < STEPS_FIRST || number >= STEPS_FIRST + left_out {
            out.push_str(&format!("  after {:>8}  {}\n", in_words(step.at.since(episode.seen)), step.what));
        }
    }
    match episode.over {
        Some(over) => out.push_str(&format!("  after {:>8}  it works again\n", in_words(over.since(episode.seen)))),
        None => out.push_str("  it is not over yet\n"),
    }
    match (&episode.callers, episode.over) {
        (Some(callers), _) => out.push_str(&format!("  callers: {}\n", callers_in_words(callers))),
        (None, Some(_)) => out.push_str("  callers: nobody had to wait\n"),
        (None, None) => {}
    }
    out
}

/// Many restarts in a row are one line: a person wants to know how many, not each.
fn grouped(steps: &[Step]) -> Vec<Step> {
    let mut lines: Vec<Step> = Vec::new();
    let is_restart = |step: &Step| step.what.starts_with(RESTARTED);
    for run in steps.chunk_by(|a, b| is_restart(a) && is_restart(b)) {
        match run {
            [first, .., last] if run.len() > 2 => lines.push(Step {
                at: first.at,
                what: format!("{RESTARTED} {} times within {}", run.len(), in_words(last.at.since(first.at))),
            }),
            few => lines.extend_from_slice(few),
        }
    }
    lines
}

fn callers_in_words(callers: &Callers) -> String {
    let failed = if callers.failed == 0 { "none failed".to_owned() } else { format!("{} failed", callers.failed) };
    format!(
        "affected for {}; {} waited, at most {}; {failed}",
        in_words(callers.until.since(callers.from)),
        counted(usize::try_from(callers.waited).unwrap_or(usize::MAX), "connection"),
        in_words(callers.longest)
    )
}
