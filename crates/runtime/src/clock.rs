//! The one place where the server reads the clock.

use std::time::{SystemTime, UNIX_EPOCH};

use ostler_model::time::Timestamp;

/// The time now, by the machine's clock.
pub fn now() -> Timestamp {
    let micros = match SystemTime::now().duration_since(UNIX_EPOCH) {
        Ok(since) => i64::try_from(since.as_micros()).unwrap_or(i64::MAX),
        Err(before) => -i64::try_from(before.duration().as_micros()).unwrap_or(i64::MAX),
    };
    Timestamp(micros)
}
