//! Facts: what happened or was decided. The only thing that is stored.
//!
//! Invariant: everything in [`crate::Knowledge`] follows from facts. A fact never holds a secret.

mod diagnosis;
mod word;

use std::sync::Arc;
use std::time::Duration;

use ostler_model::catalog::{Catalog, Placement};
use ostler_model::estate::slo::Objective;
use ostler_model::estate::{Estate, Occasion, Service};
use ostler_model::health::{Exit, Health};
use ostler_model::ids::{AttemptId, BindingId, CommandId, EstateUuid, InstanceId, Position, ProviderName, ServiceName};
use ostler_model::month::Month;
use ostler_model::outcome::BackupMade;
use ostler_model::overrides::OverrideId;
use ostler_model::sale::{Guest, Sale};
use ostler_model::time::{Span, Timestamp};
use serde::{Deserialize, Serialize};

pub use diagnosis::Diagnosis;

use crate::command::{Command, Outcome};
use crate::credit::ClaimStep;
use crate::diagnosis::Finding;
use crate::drill::{Drill, DrillResult};
use crate::event::{OwnBuild, OwnStep, Process, ResumeCause, Settlement};
use crate::knowledge::Launch;
use crate::level::Traffic;
use crate::moving::Brings;
use crate::overrides::{Difference, Instruction, WhyEnded};
use crate::remedy::{Remedy, Weighed};
use crate::upgrade::{Agenda, UpgradeStep};
use crate::verified::Checked;

/// Something that happened or was decided, and when.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fact {
    /// When the manager was told the time that the fact carries.
    pub at: Timestamp,
    /// What.
    #[serde(flatten)]
    pub kind: FactKind,
}

/// What happened or was decided.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "fact")]
pub enum FactKind {
    /// The estate exists: the first fact of every journal.
    EstateFounded {
        /// Makes its ids unique in the world.
        uuid: EstateUuid,
    },
    /// Everything was to be looked at again: what was known of processes and health before is not evidence any more.
    Resumed {
        /// Why.
        cause: ResumeCause,
    },
    /// A person declared this.
    EstateDeclared {
        /// What.
        estate: Arc<Estate>,
    },
    /// A provider offers this.
    CatalogSeen {
        /// Who.
        provider: ProviderName,
        /// What.
        catalog: Arc<Catalog>,
    },
    /// The service is bought here.
    ServicePlaced {
        /// Which.
        service: ServiceName,
        /// Where.
        placement: Placement,
    },
    /// The service's instances are now to be started from this.
    LaunchDefined {
        /// Which.
        service: ServiceName,
        /// Its number among the service's launches.
        generation: u32,
        /// What.
        launch: Arc<Launch>,
    },
    /// The service is to have this instance.
    InstanceDeclared {
        /// Which.
        instance: InstanceId,
    },
    /// The service is to have this instance no more: it is stopped and kept.
    InstanceRetired {
        /// Which.
        instance: InstanceId,
    },
    /// A command was decided; it is carried out after this fact is stored.
    CommandIssued {
        /// Its id.
        id: CommandId,
        /// What.
        command: Command,
    },
    /// What came of a command.
    CommandEnded {
        /// Which.
        id: CommandId,
        /// What came of it.
        outcome: Outcome,
    },
    /// A provider has agreed to carry out a command, and takes its time.
    CommandAccepted {
        /// Which.
        id: CommandId,
        /// What the provider calls it.
        operation: Option<String>,
    },
    /// What an ask for an instance may have left behind cannot be deleted: it is kept, and perhaps paid for, until a
    /// person says what is to become of it.
    Quarantined {
        /// Which ask.
        leftover: AttemptId,
        /// Why.
        why: String,
    },
    /// A person let the service have an instance that its provider had already.
    InstanceAdopted {
        /// As which.
        instance: InstanceId,
        /// By which name its provider knows it.
        name: String,
    },
    /// A person asked that the service's instances be left to their provider.
    ReleaseAsked {
        /// Which.
        service: ServiceName,
    },
    /// A person said what is to become of something in quarantine.
    SettleAsked {
        /// Which.
        leftover: AttemptId,
        /// What.
        how: Settlement,
    },
    /// An instance's process ended by itself.
    InstanceDied {
        /// Which.
        instance: InstanceId,
        /// The process.
        pid: Option<u32>,
        /// How.
        exit: Exit,
        /// When it was seen.
        seen: Timestamp,
        /// The process that the reflex started in its place.
        restarted: Option<Process>,
        /// Why the reflex did not.
        why_not: Option<String>,
    },
    /// An instance's health changed.
    HealthChanged {
        /// Which.
        instance: InstanceId,
        /// To what.
        health: Health,
    },
    /// What was concluded about an instance, and that it is under repair from now on.
    RepairBegan {
        /// Which.
        instance: InstanceId,
        /// The conclusion.
        diagnosis: Diagnosis,
    },
    /// What is behind the trouble of an instance.
    Concluded {
        /// Which.
        instance: InstanceId,
        /// The cause and what speaks for it.
        #[serde(flatten)]
        finding: Finding,
    },
    /// What is tried against the trouble of an instance, and what else was weighed.
    RemedyChosen {
        /// Which.
        instance: InstanceId,
        /// What is tried.
        remedy: Remedy,
        /// Everything that could be tried, best first.
        weighed: Vec<Weighed>,
        /// The override that says what is tried, whatever was weighed.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        forced: Option<OverrideId>,
    },
    /// A change is taken back, and not tried again until it is another one, or a person says so.
    LaunchRejected {
        /// Of which service.
        service: ServiceName,
        /// The launch that is not used any more.
        generation: u32,
        /// Why.
        why: String,
    },
    /// The credentials by which a service uses what it needs are made anew: the need rejects those that there are.
    CredentialsDoubted {
        /// Which.
        binding: BindingId,
    },
    /// The instance works again.
    RepairEnded {
        /// Which.
        instance: InstanceId,
    },
    /// The instance is left alone until then, because what was done did not help.
    BackedOff {
        /// Which.
        instance: InstanceId,
        /// Until when.
        until: Timestamp,
        /// How many times in a row it has failed.
        failures: u32,
    },
    /// It waits for a person.
    Held {
        /// Which.
        instance: InstanceId,
        /// The question.
        question: String,
        /// How to answer.
        answer: String,
        /// What can be tried goes on meanwhile.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        goes_on: bool,
    },
    /// Callers of a service had to wait or were failed.
    CallersAffected {
        /// Which.
        service: ServiceName,
        /// From when.
        from: Timestamp,
        /// Until when.
        until: Timestamp,
        /// Connections that waited and were then served.
        waited: u64,
        /// Connections that were failed.
        failed: u64,
        /// The longest wait.
        longest: Duration,
    },
    /// People were told.
    Told {
        /// What about.
        service: ServiceName,
        /// The occasion.
        occasion: Occasion,
    },
    /// A person asked that the service be restarted.
    RestartAsked {
        /// Which.
        service: ServiceName,
    },
    /// A person set the number of instances, until the estate file is given again.
    ScaleAsked {
        /// Which.
        service: ServiceName,
        /// How many.
        instances: u32,
    },
    /// A person asked that everything be stopped.
    DownAsked,
    /// A person asked that the service's instances be deleted with their data.
    DeleteAsked {
        /// Which.
        service: ServiceName,
    },
    /// A person, or the schedule, asked for a backup.
    BackupAsked {
        /// Which.
        service: ServiceName,
        /// Its name.
        name: String,
    },
    /// A person let ostler go on although the newest facts had been lost.
    LossAccepted {
        /// The newest fact that had been acknowledged, if anybody knows.
        acknowledged: Option<Position>,
    },
    /// What was bought was looked at with a consumer's own binding.
    NeedVerified {
        /// Which.
        binding: BindingId,
        /// Which revision of it.
        revision: u32,
        /// What was found.
        checks: Vec<Checked>,
    },
    /// Somebody bought an instance from this estate, or had it changed.
    ServiceSold {
        /// As which service.
        spec: Arc<Service>,
        /// What the buyer said.
        sale: Arc<Sale>,
    },
    /// Somebody elsewhere may use what was sold.
    GuestAdmitted {
        /// As which service, of which nothing runs here.
        service: ServiceName,
        /// Who, and what.
        guest: Arc<Guest>,
    },
    /// What was sold was given back, or a guest does not use it any more.
    SaleEnded {
        /// Which.
        service: ServiceName,
    },
    /// The buyer of what was sold brought a backup of it, which is to be restored.
    BackupBrought {
        /// Of which service.
        service: ServiceName,
        /// What was brought.
        backup: BackupMade,
    },
    /// A person asked that a backup be restored.
    RestoreAsked {
        /// Which.
        service: ServiceName,
        /// The backup's name.
        name: String,
    },
    /// A person, or the schedule, asked that a backup be restored on the side to prove that it can be.
    ProofAsked {
        /// Whose.
        service: ServiceName,
        /// The backup's name.
        name: String,
    },
    /// A backup is kept no longer: from now on it is none, and it is being deleted.
    BackupDropped {
        /// Whose.
        service: ServiceName,
        /// The backup's name.
        name: String,
        /// Why.
        why: String,
    },
    /// What callers of a service got: told in time where something was wrong, and else from time to time.
    TrafficMeasured {
        /// Of which.
        service: ServiceName,
        /// What.
        traffic: Traffic,
    },
    /// What a service's endpoint has carried since a gateway began to carry it: told again and again, with numbers that grow.
    /// So one that is lost, or told twice, changes nothing of the sum.
    TrafficCounted {
        /// Of which.
        service: ServiceName,
        /// Since when: this tells the counting of one gateway from that of another.
        since: Timestamp,
        /// Bytes from callers to instances.
        bytes_in: u64,
        /// Bytes from instances to callers.
        bytes_out: u64,
    },
    /// A service uses up what may go wrong faster than it may.
    BudgetBurns {
        /// Which.
        service: ServiceName,
        /// Of what.
        objective: Objective,
        /// How many times as fast as it may, in tenths, within `window`.
        tenths: u64,
        /// Within how long a time.
        window: Span,
    },
    /// It does so no more.
    BudgetCalm {
        /// Which.
        service: ServiceName,
        /// Of what.
        objective: Objective,
    },
    /// The service moves to another provider: from now on nothing gets at the instances that it has.
    MoveBegan {
        /// Which.
        service: ServiceName,
        /// To where.
        to: Placement,
        /// With which data.
        brings: Brings,
        /// A person accepts that what no backup holds is lost, however much that is.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        accepts_loss: bool,
        /// Why.
        why: String,
    },
    /// The move goes on in another way: with other data, or to somewhere else.
    MoveTurned {
        /// Of which service.
        service: ServiceName,
        /// To where, if not to where it went: what was made there is deleted, as it was never used.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        to: Option<Placement>,
        /// With which data.
        brings: Brings,
        /// The backup that is no good.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        bad: Option<String>,
        /// A person accepts that what no backup holds is lost, however much that is.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        accepts_loss: bool,
        /// Why.
        why: String,
    },
    /// The move waits for a person.
    MoveHeld {
        /// Of which service.
        service: ServiceName,
        /// The question.
        question: String,
        /// How to answer.
        answer: String,
    },
    /// A person takes the move back: what it left serves again, and what was made for it is deleted, as it was never
    /// used.
    MoveReturned {
        /// Of which service.
        service: ServiceName,
    },
    /// The move is over: callers get at the service where it is now.
    MoveEnded {
        /// Of which service.
        service: ServiceName,
    },
    /// An instance that a move left is to be deleted with its data.
    InstanceDiscarded {
        /// Which.
        instance: InstanceId,
        /// Why.
        why: String,
    },
    /// A fault is to be caused on purpose, and how it ends was settled.
    DrillBegan {
        /// What, where, and until when at the most.
        drill: Drill,
    },
    /// Nothing is left of a fault that was caused on purpose.
    DrillEnded {
        /// What it has shown.
        result: Box<DrillResult>,
    },
    /// It was looked what is newer than what is used.
    UpgradesSought {
        /// What was found.
        #[serde(flatten)]
        agenda: Box<Agenda>,
    },
    /// Something about the upgrade of a service.
    Upgrade {
        /// Which.
        service: ServiceName,
        /// What.
        #[serde(flatten)]
        step: Box<UpgradeStep>,
    },
    /// A person has claimed a service credit from a provider, or says what came of it.
    ServiceCredit {
        /// From whom.
        provider: ProviderName,
        /// For which month.
        month: Month,
        /// What happened.
        #[serde(flatten)]
        step: ClaimStep,
        /// Who says so.
        by: String,
        /// What they wrote about it.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        note: Option<String>,
    },
    /// A person instructs something against, or ahead of, what ostler would decide.
    OverrideBegan {
        /// Its id.
        id: OverrideId,
        /// What.
        #[serde(flatten)]
        instruction: Instruction,
        /// Who answers for it.
        owner: String,
        /// Why.
        reason: String,
        /// Until when.
        until: Timestamp,
    },
    /// What would be without an override, where that is something else than before.
    OverrideWeighed {
        /// Which.
        id: OverrideId,
        /// What would be.
        #[serde(flatten)]
        difference: Difference,
    },
    /// An override stands no more.
    OverrideEnded {
        /// Which.
        id: OverrideId,
        /// Why.
        #[serde(flatten)]
        end: WhyEnded,
    },
    /// Ostler itself is being replaced by another build, or that was taken back. Told at least once.
    SelfUpgrade {
        /// What ran before.
        from: OwnBuild,
        /// What was to run.
        to: OwnBuild,
        /// What happened.
        step: OwnStep,
    },
}
