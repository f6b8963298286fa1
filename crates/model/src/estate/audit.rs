//! `[audit]`: how often what is recorded is signed, and where somebody else keeps what was signed.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::time::Span;

/// Oftener than this there is little to sign.
pub const EVERY_MIN: Span = Span::seconds(60);
/// What was recorded since the last signature can be changed unseen: for no longer than a day.
pub const EVERY_MAX: Span = Span::seconds(86_400);

/// What is declared of audits.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Audit {
    /// The folder to which every signed checkpoint is copied: where ostler's user can add files and not change them, or
    /// on another machine. An absolute path.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub witness: Option<PathBuf>,
    /// How often a checkpoint is signed while there are new facts.
    pub every: Span,
}

impl Default for Audit {
    fn default() -> Self {
        Self { witness: None, every: Span::seconds(3600) }
    }
}

impl Audit {
    /// Whether it is what is meant where nothing is declared.
    pub fn is_usual(&self) -> bool {
        *self == Self::default()
    }
}
