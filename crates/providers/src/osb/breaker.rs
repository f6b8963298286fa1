//! When a broker that does not answer is left alone, and for how long. Pure: time and chance are handed in.
//!
//! Invariant: while it is open nothing is sent, and then one request alone finds out whether the broker is back.

use std::time::{Duration, Instant};

/// So many failures in a row, and it opens. Fewer can be one instance's fault.
const OPENS_AFTER: u32 = 5;
/// The first pause; it doubles with each further failure …
const PAUSE_MIN: Duration = Duration::from_secs(1);
/// … up to this.
const PAUSE_MAX: Duration = Duration::from_secs(60);
/// A broker may ask for more peace than that, but not for more than this.
const ASKED_MAX: Duration = Duration::from_secs(600);

/// The breaker of one broker.
#[derive(Debug, Default)]
pub(crate) struct Breaker {
    failures: u32,
    open_until: Option<Instant>,
    /// Somebody is finding out whether the broker is back.
    tried: bool,
    why: String,
}

/// Whether a request may be sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Permit {
    /// Yes.
    Go,
    /// Not before this much time has passed, because of this.
    Wait(Duration, String),
}

impl Breaker {
    /// Asks before a request is sent. Whoever may go reports what came of it.
    pub(crate) fn permit(&mut self, now: Instant) -> Permit {
        match self.open_until {
            None => Permit::Go,
            Some(until) if now < until => Permit::Wait(until - now, self.why.clone()),
            Some(_) if self.tried => Permit::Wait(PAUSE_MIN / 4, self.why.clone()),
            Some(_) => {
                self.tried = true;
                Permit::Go
            }
        }
    }

    /// The broker has answered, whatever it said.
    pub(crate) fn answered(&mut self) {
        *self = Self::default();
    }

    /// It did not, or said that it cannot. `chance` is a random number from 0 to 1: not everybody comes back at once.
    pub(crate) fn failed(&mut self, now: Instant, why: &str, chance: f64) {
        self.failures = self.failures.saturating_add(1);
        self.tried = false;
        why.clone_into(&mut self.why);
        if let Some(doublings) = self.failures.checked_sub(OPENS_AFTER) {
            let pause = PAUSE_MIN.saturating_mul(1 << doublings.min(16)).min(PAUSE_MAX);
            self.open_until = Some(now + pause.mul_f64(0.5 + chance.clamp(0.0, 1.0) / 2.0));
        }
    }

    /// It asked to be left alone for a while.
    pub(crate) fn asked_for_peace(&mut self, now: Instant, length: Duration, why: &str) {
        self.tried = false;
        why.clone_into(&mut self.why);
        self.open_until = Some(now + length.min(ASKED_MAX));
    }

    /// Whoever found out whether it is back was stopped.
    pub(crate) fn gave_up(&mut self) {
        self.tried = false;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: fn(u64) -> Duration = Duration::from_millis;

    #[test]
    fn it_opens_after_failures_in_a_row_and_lets_one_through() {
        let start = Instant::now();
        let mut breaker = Breaker::default();
        for _ in 0..OPENS_AFTER - 1 {
            assert_eq!(breaker.permit(start), Permit::Go);
            breaker.failed(start, "no answer", 1.0);
        }
        assert_eq!(breaker.permit(start), Permit::Go);
        breaker.failed(start, "no answer", 1.0);
        assert_eq!(breaker.permit(start + MS(1)), Permit::Wait(MS(999), "no answer".to_owned()));
        let back = start + MS(1000);
        assert_eq!(breaker.permit(back), Permit::Go);
        assert!(matches!(breaker.permit(back), Permit::Wait(_, _)), "one alone finds out");
        breaker.failed(back, "still not", 0.0);
        assert_eq!(breaker.permit(back), Permit::Wait(MS(1000), "still not".to_owned()), "2 s, halved by chance");
        assert_eq!(breaker.permit(back + MS(1000)), Permit::Go);
        breaker.answered();
        assert_eq!((breaker.permit(back), breaker.permit(back)), (Permit::Go, Permit::Go));
    }

    #[test]
    fn pauses_end_and_peace_is_bounded() {
        let now = Instant::now();
        let mut breaker = Breaker::default();
        for _ in 0..100 {
            breaker.failed(now, "", 1.0);
        }
        assert_eq!(breaker.permit(now), Permit::Wait(PAUSE_MAX, String::new()));
        breaker.asked_for_peace(now, Duration::from_secs(1_000_000), "");
        assert_eq!(breaker.permit(now), Permit::Wait(ASKED_MAX, String::new()));
    }

    #[test]
    fn whoever_was_stopped_makes_room() {
        let now = Instant::now();
        let mut breaker = Breaker::default();
        breaker.asked_for_peace(now, MS(1), "busy");
        assert_eq!(breaker.permit(now + MS(1)), Permit::Go);
        breaker.gave_up();
        assert_eq!(breaker.permit(now + MS(1)), Permit::Go);
    }
}
