//! The one place where the server reads the clock.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use ostler_model::time::Timestamp;

/// The time now, by the machine's clock.
pub fn now() -> Timestamp {
    let micros = match SystemTime::now().duration_since(UNIX_EPOCH) {
        Ok(since) => i64::try_from(since.as_micros()).unwrap_or(i64::MAX),
        Err(before) => -i64::try_from(before.duration().as_micros()).unwrap_or(i64::MAX),
    };
    Timestamp(micros)
}

/// The time as the manager is told it: that of the machine's clock, except that it never goes back and never stands
/// still. When the machine's clock is set back it goes on at half its pace until the other has caught up, so that every
/// pause the manager asked for ends, after at most twice its length. When the clock is set forward it follows at once.
#[derive(Clone, Copy, Debug)]
pub struct Steady {
    /// In nanoseconds, so that half of the smallest step is not nothing.
    shown: i128,
    elapsed: Duration,
}

impl Steady {
    /// Begins with the machine's clock at `wall`; `elapsed` is the time since any fixed moment, by a clock that nobody
    /// sets.
    pub fn new(wall: Timestamp, elapsed: Duration) -> Self {
        Self { shown: nanos(wall), elapsed }
    }

    /// The time to be told when the machine's clock shows `wall`, `elapsed` after the fixed moment.
    pub fn now(&mut self, wall: Timestamp, elapsed: Duration) -> Timestamp {
        let passed = elapsed.saturating_sub(self.elapsed);
        self.elapsed = self.elapsed.max(elapsed);
        let passed = i128::try_from(passed.as_nanos()).unwrap_or(i128::MAX);
        let (wall, usual) = (nanos(wall), self.shown.saturating_add(passed));
        self.shown = if wall >= usual { wall } else { wall.max(self.shown.saturating_add(passed / 2)) };
        Timestamp(i64::try_from(self.shown.div_euclid(1000)).unwrap_or(i64::MAX))
    }
}

fn nanos(time: Timestamp) -> i128 {
    i128::from(time.0) * 1000
}

/// The machine's clocks, read through a [`Steady`].
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    began: Instant,
    steady: Steady,
}

impl Default for Clock {
    fn default() -> Self {
        Self { began: Instant::now(), steady: Steady::new(now(), Duration::ZERO) }
    }
}

impl Clock {
    /// The time to tell the manager.
    pub fn now(&mut self) -> Timestamp {
        self.steady.now(now(), self.began.elapsed())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(steady: &mut Steady, wall: i64, elapsed: u64) -> i64 {
        steady.now(Timestamp(wall * 1_000_000), Duration::from_secs(elapsed)).0 / 1_000_000
    }

    #[test]
    fn it_follows_the_machines_clock_forward() {
        let mut steady = Steady::new(Timestamp(1000 * 1_000_000), Duration::ZERO);
        assert_eq!(shown(&mut steady, 1005, 5), 1005);
        assert_eq!(shown(&mut steady, 4600, 6), 4600);
    }

    #[test]
    fn it_does_not_stand_still_however_often_it_is_asked() {
        let mut steady = Steady::new(Timestamp(1000), Duration::ZERO);
        let shown = (1..=1000).map(|micros| steady.now(Timestamp(0), Duration::from_micros(micros))).last();
        assert_eq!(shown, Some(Timestamp(1500)));
    }

    #[test]
    fn set_back_it_goes_on_at_half_its_pace_until_both_agree() {
        let mut steady = Steady::new(Timestamp(1000 * 1_000_000), Duration::ZERO);
        assert_eq!(shown(&mut steady, 900, 0), 1000, "not back");
        assert_eq!(shown(&mut steady, 950, 50), 1025, "not still");
        assert_eq!(shown(&mut steady, 1100, 200), 1100, "they agree again");
        assert_eq!(shown(&mut steady, 1110, 210), 1110);
    }
}
