//! `[upgrade]`: when newer versions are put to use, and how carefully.

use serde::{Deserialize, Serialize};

use crate::time::Span;
use crate::window::Calendar;

/// What is watched for a shorter time shows nothing.
pub const SOAK_MIN: Span = Span::seconds(0);
/// Nobody watches a canary for longer.
pub const SOAK_MAX: Span = Span::seconds(7 * 86_400);

/// How upgrades are made.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Upgrade {
    /// When upgrades may go on. Without a window only people, and changed files, begin one.
    #[serde(flatten)]
    pub calendar: Calendar,
    /// For how long each wave is watched before the next one begins: 0 s to 7 days. Default 5 minutes.
    pub soak: Span,
    /// Whether newer versions that the file's ranges allow are put to use without anybody asking, in the windows.
    /// Default: yes, where there is a window.
    pub by_itself: bool,
    /// Whether that includes another series of versions for what holds data: its data is then dumped and restored.
    /// Default: no.
    pub major: bool,
}

impl Default for Upgrade {
    fn default() -> Self {
        Self { calendar: Calendar::default(), soak: Span::seconds(300), by_itself: false, major: false }
    }
}
