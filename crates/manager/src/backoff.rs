//! How long an instance, a one-off command or an endpoint is left alone after it has failed.
//!
//! Invariant: the pause never shrinks while failures continue. A first failure of an instance after a good while is
//! answered at once: the back-off begins only where failures follow each other.

use std::time::Duration;

use ostler_model::time::Timestamp;

use crate::knowledge::Instance;

/// The pause after the second failure in a row; it doubles with each further one.
const PAUSE_MIN: Duration = Duration::from_secs(1);
/// The longest pause: short enough that what a person repaired comes back while they still look.
pub(crate) const PAUSE_MAX: Duration = Duration::from_secs(300);
/// An instance that was ready for so long has recovered: its next failure counts as a first one.
const STABLE: Duration = Duration::from_secs(120);
/// The longest pause of an endpoint: whoever holds its address may let go of it, and callers are refused until then.
const ENDPOINT_PAUSE_MAX: Duration = Duration::from_secs(60);
/// The longest pause of a binding: its consumer waits for it.
const BINDING_PAUSE_MAX: Duration = Duration::from_secs(60);
/// The pauses after a backup that failed, from the first one on.
const BACKUP_PAUSE_MIN: Duration = Duration::from_secs(60);
const BACKUP_PAUSE_MAX: Duration = Duration::from_secs(3600);
/// From so many failures in a row on, people are told.
pub(crate) const FAILURES_TOLD: u32 = 3;

/// How many times in a row the instance has failed, with a failure at `now` included. What is still under repair has
/// failed before, though nobody may have counted it: the reflex has answered, and that did not help.
pub(crate) fn failures_with(instance: &Instance, now: Timestamp) -> u32 {
    let ready_for = if instance.is_ready() { now.since(instance.health_since) } else { instance.ready_for };
    let recovered = ready_for >= STABLE;
    let before = if recovered { 0 } else { instance.failures };
    before.max(u32::from(instance.repair.is_some())).saturating_add(1)
}

/// The pause after that many failures in a row.
pub(crate) fn pause(failures: u32) -> Duration {
    match failures.checked_sub(2) {
        None => Duration::ZERO,
        Some(doublings) => PAUSE_MIN.saturating_mul(1 << doublings.min(16)).min(PAUSE_MAX),
    }
}

/// The pause of an endpoint after it could not be opened, or closed, so many times in a row: nothing answers it at once,
/// because a socket that is in use is so for a while.
pub(crate) fn endpoint_pause(failures: u32) -> Duration {
    pause(failures.max(1).saturating_add(1)).min(ENDPOINT_PAUSE_MAX)
}

/// The pause of a consumer's bindings after one could not be made, or ended, so many times in a row.
pub(crate) fn binding_pause(failures: u32) -> Duration {
    pause(failures.max(1).saturating_add(2)).min(BINDING_PAUSE_MAX)
}

/// The pause before the next backup after so many have failed in a row: what keeps a server from being backed up is not
/// over within a second, and a backup is dear.
pub(crate) fn backup_pause(failures: u32) -> Duration {
    BACKUP_PAUSE_MIN.saturating_mul(1 << failures.saturating_sub(1).min(16)).min(BACKUP_PAUSE_MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fact::Diagnosis;
    use crate::knowledge::Repair;

    #[test]
    fn pauses_grow_to_their_limit() {
        let seconds: Vec<u64> = (0..13).map(|failures| pause(failures).as_secs()).collect();
        assert_eq!(seconds, [0, 0, 1, 2, 4, 8, 16, 32, 64, 128, 256, 300, 300]);
        assert_eq!(pause(u32::MAX), PAUSE_MAX);
        let seconds: Vec<u64> = (0..9).map(|failures| endpoint_pause(failures).as_secs()).collect();
        assert_eq!(seconds, [1, 1, 2, 4, 8, 16, 32, 60, 60]);
        assert_eq!(endpoint_pause(u32::MAX), ENDPOINT_PAUSE_MAX);
    }

    #[test]
    fn an_open_repair_counts_as_a_failure() {
        let repair = || {
            let diagnosis = Diagnosis::FoundDead { exit: None };
            Some(Repair::new(diagnosis, Timestamp(0)))
        };
        let fresh = Instance::new(Timestamp(0));
        assert_eq!(failures_with(&fresh, Timestamp(0)), 1);
        assert_eq!(failures_with(&Instance { repair: repair(), ..fresh.clone() }, Timestamp(0)), 2);
        assert_eq!(failures_with(&Instance { failures: 3, repair: repair(), ..fresh.clone() }, Timestamp(0)), 4);
        let recovered = Instance { failures: 7, ready_for: STABLE, ..fresh };
        assert_eq!(failures_with(&recovered, Timestamp(0)), 1);
        assert_eq!(failures_with(&Instance { repair: repair(), ..recovered }, Timestamp(0)), 2);
    }
}
