//! Proof that what was bought works together: what a look at one need of one consumer found.

use ostler_model::health::Symptom;
use ostler_model::time::Timestamp;
use serde::{Deserialize, Serialize};

/// What a look found, with the consumer's own binding.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Verification {
    /// When.
    pub at: Timestamp,
    /// The revision of the binding that was looked at.
    pub revision: u32,
    /// Each check, in the order in which they were made.
    pub checks: Vec<Checked>,
}

impl Verification {
    /// Whether nothing was found wrong.
    pub fn is_kept(&self) -> bool {
        self.checks.iter().all(|checked| checked.problem.is_none())
    }
}

/// One check.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Checked {
    /// What it is called.
    pub name: String,
    /// What was found instead of what is relied on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub problem: Option<Symptom>,
}
