//! How long an instance is left alone after it has failed. Owned by `decide`.
//!
//! Invariant: the pause never shrinks while failures continue. A first failure after a good while is answered at once:
//! the back-off begins only where failures follow each other.

use std::time::Duration;

use ostler_model::time::Timestamp;

use crate::knowledge::Instance;

/// The pause after the second failure in a row; it doubles with each further one.
const PAUSE_MIN: Duration = Duration::from_secs(1);
/// The longest pause: short enough that what a person repaired comes back while they still look.
const PAUSE_MAX: Duration = Duration::from_secs(300);
/// An instance that was ready for so long has recovered: its next failure counts as a first one.
const STABLE: Duration = Duration::from_secs(120);
/// From so many failures in a row on, people are told.
pub(crate) const FAILURES_TOLD: u32 = 3;

/// How many times in a row the instance has failed, with a failure at `now` included.
pub(crate) fn failures_with(instance: &Instance, now: Timestamp) -> u32 {
    let ready_for = if instance.is_ready() { now.since(instance.health_since) } else { instance.ready_for };
    let recovered = ready_for >= STABLE;
    if recovered { 1 } else { instance.failures.saturating_add(1) }
}

/// The pause after that many failures in a row.
pub(crate) fn pause(failures: u32) -> Duration {
    match failures.checked_sub(2) {
        None => Duration::ZERO,
        Some(doublings) => PAUSE_MIN.saturating_mul(1 << doublings.min(16)).min(PAUSE_MAX),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_to_their_limit() {
        let seconds: Vec<u64> = (0..13).map(|failures| pause(failures).as_secs()).collect();
        assert_eq!(seconds, [0, 0, 1, 2, 4, 8, 16, 32, 64, 128, 256, 300, 300]);
        assert_eq!(pause(u32::MAX), PAUSE_MAX);
    }
}
