//! `failover` of a service: what may become of it when its provider fails it for good.

use serde::{Deserialize, Serialize};

use super::Service;
use crate::time::Span;

/// How a service may be moved to another provider.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failover {
    /// It may be moved without a person's asking. Default: yes.
    pub by_itself: bool,
    /// What was written within this time at most may be lost by a move that nobody asked for; if not declared, twice
    /// the time between two backups. Without either, only a person moves durable data.
    pub loses_at_most: Option<Span>,
    /// For so long what a move left behind is kept; if not declared, until a person deletes it.
    pub keep_old: Option<Span>,
}

impl Failover {
    /// Whether nothing is declared that is not so anyway.
    pub fn is_default(&self) -> bool {
        *self == Self::default()
    }
}

impl Default for Failover {
    fn default() -> Self {
        Self { by_itself: true, loses_at_most: None, keep_old: None }
    }
}

impl Service {
    /// Of how long a time what was written may be lost by a move that nobody asked for; `None` if nothing says so.
    pub fn loses_at_most(&self) -> Option<Span> {
        let twice =
            |every: Span| Span::millis(u64::try_from(every.get().as_millis()).unwrap_or(u64::MAX).saturating_mul(2));
        self.failover.loses_at_most.or_else(|| self.data.backup_every.map(twice))
    }
}
