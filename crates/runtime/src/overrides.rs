//! Overrides in words, for the journal, reports and tables.

use ostler_manager::{Knowledge, OverrideView, overrides};
use ostler_model::overrides::OverrideId;
use ostler_model::time::{Timestamp, in_words};
use serde::{Deserialize, Serialize};

/// An override that makes a difference to what a file would lead to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OverrideEffect {
    /// Which.
    pub id: OverrideId,
    /// What it says, in words.
    pub what: String,
    /// Who answers for it.
    pub owner: String,
    /// Until when; RFC 3339.
    pub until: String,
    /// What would be without it, in words.
    pub without: Vec<String>,
}

/// What overrides change between what is known and what would be.
pub fn effects(before: &Knowledge, after: &Knowledge, now: Timestamp) -> Vec<OverrideEffect> {
    let known = overrides(before, None, now);
    let is_new = |view: &OverrideView, without: &String| {
        known.iter().find(|former| former.id == view.id).is_none_or(|former| !former.without.contains(without))
    };
    let of = |view: OverrideView| {
        let without: Vec<String> = view.without.iter().filter(|without| is_new(&view, without)).cloned().collect();
        let OverrideView { id, what, owner, until, .. } = view;
        (!without.is_empty()).then_some(OverrideEffect { id, what, owner, until, without })
    };
    overrides(after, None, now).into_iter().filter_map(of).collect()
}

/// As one line: "override-3 of Ada: pin db to here, 12 d more (until …): the contract runs until June".
pub fn line(view: &OverrideView, now: Timestamp) -> String {
    let left = Timestamp::parse(&view.until)
        .map_or_else(String::new, |until| format!("{} more, ", in_words(until.since(now))));
    format!("{} of {}: {}, {left}until {}: {}", view.id, view.owner, view.what, view.until, view.reason)
}

/// The same with what would be without it, each on a line of its own.
pub fn lines(view: &OverrideView, now: Timestamp) -> String {
    let mut out = format!("{}\n", line(view, now));
    for without in &view.without {
        out.push_str(&format!("  without it {without}\n"));
    }
    out
}
