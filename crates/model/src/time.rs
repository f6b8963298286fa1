//! Points in time and lengths of time. The manager is told the time; nothing here reads a clock.

use std::fmt;
use std::ops::{Add, Sub};
use std::str::FromStr;
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// Microseconds since 1970-01-01T00:00:00Z, leap seconds not counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Timestamp(pub i64);

impl Timestamp {
    /// `text` is RFC 3339, as `Display` writes it.
    pub fn parse(text: &str) -> Option<Self> {
        text.parse::<jiff::Timestamp>().ok().map(|t| Self(t.as_microsecond()))
    }

    /// How long after `earlier` this is; zero if it is not after it (clocks jump).
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_micros(u64::try_from(self.0.saturating_sub(earlier.0)).unwrap_or(0))
    }

    /// RFC 3339 in UTC, whole seconds: `2026-11-23T15:00:00Z`.
    pub fn to_seconds(self) -> String {
        self.formatted("%Y-%m-%dT%H:%M:%SZ")
    }

    /// The same in UTC with milliseconds, as reports show it: `2026-11-23 15:00:00.123`.
    pub fn to_millis(self) -> String {
        self.formatted("%Y-%m-%d %H:%M:%S%.3f")
    }

    /// RFC 3339 in UTC with milliseconds, always: `2026-11-23T15:00:00.123Z`.
    pub fn to_rfc3339_millis(self) -> String {
        self.formatted("%Y-%m-%dT%H:%M:%S%.3fZ")
    }

    fn formatted(self, format: &str) -> String {
        match jiff::Timestamp::from_microsecond(self.0) {
            Ok(time) => time.strftime(format).to_string(),
            Err(_) => format!("{} µs", self.0), // outside the years -9999 to 9999
        }
    }
}

impl Add<Duration> for Timestamp {
    type Output = Self;

    fn add(self, length: Duration) -> Self {
        Self(self.0.saturating_add(i64::try_from(length.as_micros()).unwrap_or(i64::MAX)))
    }
}

impl Sub<Duration> for Timestamp {
    type Output = Self;

    fn sub(self, length: Duration) -> Self {
        Self(self.0.saturating_sub(i64::try_from(length.as_micros()).unwrap_or(i64::MAX)))
    }
}

impl fmt::Display for Timestamp {
    /// RFC 3339 in UTC with microseconds where there are any.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match jiff::Timestamp::from_microsecond(self.0) {
            Ok(time) => write!(f, "{time}"),
            Err(_) => write!(f, "{} µs", self.0),
        }
    }
}

/// Times as RFC 3339 text, for JSON that people and scripts read: `#[serde(with = "rfc3339")]`. Facts are stored with
/// whole microseconds instead, which is what [`Timestamp`] does by itself.
pub mod rfc3339 {
    use serde::{Deserialize, Deserializer, Serializer, de};

    use super::Timestamp;

    /// Writes it.
    ///
    /// # Errors
    /// The serializer's.
    pub fn serialize<S: Serializer>(time: &Timestamp, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(time)
    }

    /// Reads it.
    ///
    /// # Errors
    /// If it is not RFC 3339.
    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Timestamp, D::Error> {
        let text = String::deserialize(deserializer)?;
        Timestamp::parse(&text).ok_or_else(|| de::Error::custom(format_args!("`{text}` is not a time of RFC 3339")))
    }

    /// The same for a time that there may not be: `#[serde(with = "rfc3339::option")]`.
    pub mod option {
        use serde::{Deserialize, Deserializer, Serialize, Serializer};

        use crate::time::Timestamp;

        #[derive(Serialize, Deserialize)]
        struct Text(#[serde(with = "super")] Timestamp);

        /// Writes it, or null.
        ///
        /// # Errors
        /// The serializer's.
        pub fn serialize<S: Serializer>(time: &Option<Timestamp>, serializer: S) -> Result<S::Ok, S::Error> {
            time.map(Text).serialize(serializer)
        }

        /// Reads it.
        ///
        /// # Errors
        /// If it is neither null nor RFC 3339.
        pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Timestamp>, D::Error> {
            Ok(Option::<Text>::deserialize(deserializer)?.map(|Text(time)| time))
        }
    }
}

/// A length of time as people write it in an estate file: `500ms`, `15m`, `1h 30m`, `2d`. A day has 24 hours.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Span(Duration);

impl Span {
    /// From seconds.
    pub const fn seconds(seconds: u64) -> Self {
        Self(Duration::from_secs(seconds))
    }

    /// From milliseconds.
    pub const fn millis(millis: u64) -> Self {
        Self(Duration::from_millis(millis))
    }

    /// As the standard library's duration.
    pub const fn get(self) -> Duration {
        self.0
    }
}

/// Why a text is not a length of time.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{0}` is not a length of time: write numbers with the units ms, s, m, h, d or w, as in `500ms`, `1h 30m` or `2d`"
)]
pub struct SpanError(String);

impl FromStr for Span {
    type Err = SpanError;

    fn from_str(text: &str) -> Result<Self, SpanError> {
        let wrong = || SpanError(text.chars().take(80).collect());
        let parts: jiff::Span = text.parse().map_err(|_| wrong())?;
        // Months and years are no lengths: they differ. Days do too where clocks are changed, but nobody means that here.
        let length = parts.to_duration(jiff::SpanRelativeTo::days_are_24_hours()).map_err(|_| wrong())?;
        Duration::try_from(length).map(Self).map_err(|_| wrong())
    }
}

impl TryFrom<String> for Span {
    type Error = SpanError;

    fn try_from(text: String) -> Result<Self, SpanError> {
        text.parse()
    }
}

impl From<Span> for String {
    fn from(span: Span) -> Self {
        span.to_string()
    }
}

impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const DAY: u64 = 86_400;
        let seconds = self.0.as_secs();
        if seconds >= DAY && seconds.is_multiple_of(DAY) && self.0.subsec_nanos() == 0 {
            return write!(f, "{}d", seconds / DAY);
        }
        match jiff::SignedDuration::try_from(self.0) {
            Ok(length) => write!(f, "{length:#}"),
            Err(_) => write!(f, "{}s", self.0.as_secs()),
        }
    }
}

impl fmt::Debug for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// A length of time for people, to two figures that matter: `0.8 ms`, `1.6 s`, `4 min 10 s`, `3 h 5 min`, `12 d 4 h`.
pub fn in_words(length: Duration) -> String {
    let millis = length.as_secs_f64() * 1000.0;
    let seconds = length.as_secs();
    let two = |big: u64, big_unit: &str, small: u64, small_unit: &str| match small {
        0 => format!("{big} {big_unit}"),
        _ => format!("{big} {big_unit} {small} {small_unit}"),
    };
    match seconds {
        _ if millis < 10.0 => format!("{millis:.1} ms"),
        _ if millis < 1000.0 => format!("{millis:.0} ms"),
        0..10 => format!("{:.1} s", length.as_secs_f64()),
        10..60 => format!("{seconds} s"),
        60..3600 => two(seconds / 60, "min", seconds % 60, "s"),
        3600..86_400 => two(seconds / 3600, "h", seconds % 3600 / 60, "min"),
        _ => two(seconds / 86_400, "d", seconds % 86_400 / 3600, "h"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_read_and_write() {
        for (text, millis) in
            [("500ms", 500), ("15m", 900_000), ("1h 30m", 5_400_000), ("2s", 2000), ("1d", 86_400_000)]
        {
            assert_eq!(text.parse::<Span>().unwrap(), Span::millis(millis), "{text}");
            assert_eq!(Span::millis(millis).to_string().parse::<Span>().unwrap(), Span::millis(millis));
        }
        assert_eq!("1w 2d 12h".parse::<Span>().unwrap(), Span::seconds((9 * 24 + 12) * 3600));
        assert_eq!("1.5h".parse::<Span>().unwrap(), Span::seconds(5400));
        for bad in ["", "5", "-1s", "-1d", "fast", "1 fortnight", "1mo", "1y", "99999999999999999999d"] {
            assert!(bad.parse::<Span>().is_err(), "{bad}");
        }
    }

    #[test]
    fn times_in_json_are_rfc_3339_and_read_back() {
        #[derive(Debug, PartialEq, Serialize, Deserialize)]
        struct Both {
            #[serde(with = "rfc3339")]
            at: Timestamp,
            #[serde(with = "rfc3339::option")]
            over: Option<Timestamp>,
        }
        let at = Timestamp(1_795_446_000_123_456);
        for (over, json) in [
            (None, r#"{"at":"2026-11-23T15:00:00.123456Z","over":null}"#),
            (Some(at), r#"{"at":"2026-11-23T15:00:00.123456Z","over":"2026-11-23T15:00:00.123456Z"}"#),
        ] {
            let both = Both { at, over };
            assert_eq!(serde_json::to_string(&both).unwrap(), json);
            assert_eq!(serde_json::from_str::<Both>(json).unwrap(), both);
        }
        assert!(serde_json::from_str::<Both>(r#"{"at":5,"over":null}"#).is_err());
        assert!(serde_json::from_str::<Both>(r#"{"at":"yesterday","over":null}"#).is_err());
    }

    #[test]
    fn words() {
        for (millis, words) in
            [(0, "0.0 ms"), (45, "45 ms"), (1600, "1.6 s"), (250_000, "4 min 10 s"), (11_100_000, "3 h 5 min")]
        {
            assert_eq!(in_words(Duration::from_millis(millis)), words);
        }
    }

    #[test]
    fn times_never_wrap() {
        assert_eq!(Timestamp(5).since(Timestamp(9)), Duration::ZERO);
        assert_eq!(Timestamp(i64::MAX) + Duration::from_secs(1), Timestamp(i64::MAX));
        assert_eq!(Timestamp(1_795_446_000_123_000).to_millis(), "2026-11-23 15:00:00.123");
        assert_eq!(Timestamp(1_795_446_000_123_000).to_seconds(), "2026-11-23T15:00:00Z");
    }
}
