//! The autonomic manager: monitor, analyze, plan, execute over what it knows.
//!
//! Its surface is two pure functions and their types: [`decide`] says what to do about an event and why, [`evolve`]
//! makes a fact true. [`take`] runs both over an event and everything that follows from it.
//!
//! Invariants:
//! - No I/O, clock, randomness, threads, async or unordered maps: the same facts and events give the same decisions.
//! - It never learns which kind of provider is in use.
//! - Facts come before the commands that follow from them; every command is safe to repeat.
//! - At most one operation is under way for one instance, and one for one endpoint.
//! - The work for one event grows with what the event touches, not with the size of the estate.

mod agenda;
mod backoff;
mod binding;
mod brake;
mod check;
mod choose;
mod command;
mod credit;
mod decide;
pub mod diagnosis;
mod diff;
mod drill;
mod event;
mod evidence;
mod evolve;
mod fact;
mod failover;
mod instance;
mod knowledge;
mod launch;
pub mod level;
mod moving;
mod overrides;
mod place;
pub mod price;
mod reconcile;
mod rehearse;
pub mod remedy;
mod rounds;
pub mod solve;
mod upgrade;
mod vault;
mod verified;
mod view;

pub use agenda::{Waits, waits};
pub use brake::{Allowed, Brake};
pub use check::{Violation, check};
pub use choose::{Candidate, Conduct, Examined, Judged, candidates};
pub use command::{Command, Outcome, Started, Target};
pub use credit::{Claim, ClaimState, ClaimStep, Claims, NOTE_CHARS_MAX, Told};
pub use decide::{Decision, Reason, Withheld, decide, take};
pub use diff::{Change, changes};
pub use drill::{
    Aim, By, Callers, Data, Diagnosed, Drill, DrillResult, Drilled, Drilling, Hit, Measured, Restored, Stage, Verdict,
};
pub use event::{Ask, Event, OwnBuild, OwnStep, Process, ResumeCause, Scope, Settlement};
pub use evidence::{Delivered, Evidence, ORDERS_MIN, WATCHED_MIN};
pub use evolve::evolve;
pub use fact::{Diagnosis, Fact, FactKind};
pub use failover::{Move, WhyNot, can_be_moved, can_move};
pub use knowledge::{
    BeforeTrouble, Binding, BindingState, ChangedLaunch, Ending, Endpoint, Healed, Instance, Knowledge, Launch, MadeAs,
    Operation, OperationKind, Origin, Phase, Rejected, Repair, ServiceKnowledge, Wanted,
};
pub use moving::{Brings, LeftBehind, MoveStep, Moved, Moving, StepTrouble};
pub use overrides::{
    Difference, Differences, Elsewhere, Instruction, Newer, Override, Overrides, Place, STANDING_MAX, Untreated,
    WhyEnded, wrong_end, wrong_words,
};
pub use place::{PlacementProblem, place};
pub use rehearse::{Rehearsal, rehearse};
pub use rounds::{APPEARS_WITHIN, Accepted, LeftBinding, Leftover, RoundState, Rounds};
pub use upgrade::{
    Agenda, AgendaStep, Blocked, Looked, RejectedVersion, UpgradeStep, UpgradeWish, Upgraded, Upgrades, Upgrading,
    named,
};
pub use vault::{BY_HAND_MAX, Dropping, FOR_BUYER, Found, Vault};
pub use verified::{Checked, Verification};
pub use view::{
    AvailableView, BackupView, BlockedView, BurnView, DrillView, DrillingView, ExcludedView, InstanceView, LeftView,
    LeftoverView, LevelView, MovedView, MovingView, NeedView, OverrideView, ProvenView, ServiceView, StatusView,
    UpgradeView, UpgradedView, overrides, status,
};
