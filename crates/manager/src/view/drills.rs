//! What people and scripts see of drills.

use std::time::Duration;

use ostler_model::estate::drills::Fault;
use ostler_model::ids::InstanceId;
use ostler_model::time::Timestamp;
use serde::{Deserialize, Serialize};

use crate::decide::declared_drills;
use crate::drill::{By, Callers, Data, Diagnosed, DrillResult, Restored, Verdict};
use crate::knowledge::{Knowledge, ServiceKnowledge};

/// A drill under way.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DrillingView {
    /// Its number.
    pub number: u32,
    /// What was caused, or is just being caused.
    pub fault: Fault,
    /// Where.
    pub instances: Vec<InstanceId>,
    /// When it is undone at the latest; RFC 3339.
    pub until: String,
}

/// What a drill has shown.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DrillView {
    /// Its number.
    pub number: u32,
    /// What was caused.
    pub fault: Fault,
    /// Where.
    pub instances: Vec<InstanceId>,
    /// The estate file wanted it, not a person.
    pub scheduled: bool,
    /// When it was over; RFC 3339.
    pub at: String,
    /// What it has shown: `proven` if it was noticed and healed within its time, and nothing was lost.
    pub verdict: Verdict,
    /// How long after the fault something of it was first seen, in milliseconds.
    pub noticed_ms: Option<u64>,
    /// What was concluded.
    pub diagnosed: Option<Diagnosed>,
    /// How long after the fault everything worked again, in milliseconds.
    pub healed_ms: Option<u64>,
    /// What callers saw, if it could be counted.
    pub callers: Option<Callers>,
    /// What became of what was written before, where that could be tried.
    pub data: Option<Data>,
    /// The backup that was restored on the side, and what was found in it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub restored: Option<Restored>,
    /// The same figures in words.
    pub figures: String,
    /// Up to when it proves anything; RFC 3339.
    pub valid_until: String,
    /// That is over.
    pub expired: bool,
    /// How many whole days ago it was.
    pub days_ago: u64,
}

pub(super) fn drilling(known: &Knowledge, service: &ServiceKnowledge) -> Option<DrillingView> {
    let drill = &known.drill.as_ref().filter(|drilling| drilling.drill.service == service.spec.name)?.drill;
    Some(DrillingView {
        number: drill.number,
        fault: drill.fault,
        instances: drill.hits.iter().map(|hit| hit.instance.clone()).collect(),
        until: drill.until.to_seconds(),
    })
}

pub(super) fn drills(known: &Knowledge, service: &ServiceKnowledge, now: Timestamp) -> Vec<DrillView> {
    let valid = declared_drills(known).valid.get();
    let results = service.drilled.iter().flat_map(|drilled| drilled.results.values());
    let mut views: Vec<DrillView> = results.map(|result| drill_view(result, valid, now)).collect();
    views.sort_by_key(|view| std::cmp::Reverse(view.number));
    views
}

pub(super) fn drill_view(result: &DrillResult, valid: Duration, now: Timestamp) -> DrillView {
    let valid_until = result.ended + valid;
    DrillView {
        number: result.drill.number,
        fault: result.drill.fault,
        instances: result.drill.hits.iter().map(|hit| hit.instance.clone()).collect(),
        scheduled: result.drill.by == By::Schedule,
        at: result.ended.to_seconds(),
        verdict: result.verdict.clone(),
        noticed_ms: result.noticed_ms,
        diagnosed: result.diagnosed.clone(),
        healed_ms: result.healed_ms,
        callers: result.measured.callers,
        data: result.measured.data,
        restored: result.measured.restored.clone(),
        figures: result.figures(),
        valid_until: valid_until.to_seconds(),
        expired: now >= valid_until,
        days_ago: now.since(result.ended).as_secs() / 86_400,
    }
}
