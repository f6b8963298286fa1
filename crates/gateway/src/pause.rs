//! Pauses finer than the runtime's timer, which counts whole milliseconds: a killed instance is often back in less.

use std::io;
use std::time::Duration;

use rustix::time::{Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec};
use tokio::io::Interest;

use crate::wire::watched;

/// From here on the runtime's own timer is fine enough, and cheaper.
const FINE_BELOW: Duration = Duration::from_millis(5);

/// Waits for `length`.
pub(crate) async fn pause(length: Duration) {
    if length >= FINE_BELOW || fine(length).await.is_err() {
        tokio::time::sleep(length).await;
    }
}

/// One timer of the kernel for one pause.
async fn fine(length: Duration) -> io::Result<()> {
    let flags = TimerfdFlags::CLOEXEC | TimerfdFlags::NONBLOCK;
    let timer = rustix::time::timerfd_create(TimerfdClockId::Monotonic, flags)?;
    let nanoseconds = length.subsec_nanos().max(1); // all zero would disarm it
    let at = Timespec { tv_sec: 0, tv_nsec: nanoseconds.into() };
    let once = Itimerspec { it_interval: Timespec { tv_sec: 0, tv_nsec: 0 }, it_value: at };
    rustix::time::timerfd_settime(&timer, TimerfdTimerFlags::empty(), &once)?;
    let _ready = watched(timer, Interest::READABLE)?.readable().await?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_pause_is_never_shorter_than_asked() {
        for length in [Duration::ZERO, Duration::from_micros(300), FINE_BELOW] {
            let start = std::time::Instant::now();
            pause(length).await;
            assert!(start.elapsed() >= length);
        }
    }
}
