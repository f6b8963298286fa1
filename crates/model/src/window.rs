//! Windows: times that come again, or come once, by a clock on somebody's wall.
//!
//! Invariant: in doubt a window is shorter. Where clocks are put forward or back, a beginning that happens twice or not
//! at all is the later one, and such an end the earlier: nothing is ever done outside a window because of the season.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use jiff::ToSpan;
use jiff::civil::{Date, DateTime, Time, Weekday};
use jiff::tz::TimeZone;
use serde::{Deserialize, Serialize};

use crate::time::Timestamp;

/// A window as the estate file writes it: `Sat 22:00 - Sun 04:00 Europe/Berlin`, `Mon-Fri 01:00 - 05:00`, `22:00 - 04:00
/// Europe/Berlin`, `2026-12-20 - 2027-01-02`, `2026-12-20 18:00 - 2026-12-21 06:00 Europe/Berlin`. Without a time zone it
/// is UTC. Without times, dates mean whole days, the last one included.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Window {
    text: String,
    times: Times,
    zone: TimeZone,
}

#[derive(Clone, PartialEq, Eq)]
enum Times {
    /// Each week on these days, from this time to that one so many days later.
    Weekly { days: Vec<Weekday>, from: Time, until: Time, days_later: i32 },
    /// Once.
    Once { from: DateTime, until: DateTime },
}

/// One time that a window is open: from its first moment until the first one after it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Opening {
    /// When it opens.
    pub from: Timestamp,
    /// When it is closed again.
    pub until: Timestamp,
}

/// When something may be done: in windows, and not while anything is frozen.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Calendar {
    /// When it may be done; at any time if empty.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub window: Vec<Window>,
    /// When it may not, whatever the windows say.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub freeze: Vec<Window>,
}

impl Calendar {
    /// Whether it may be done at `at`.
    pub fn is_open(&self, at: Timestamp) -> bool {
        let frozen = self.freeze.iter().any(|window| window.open_at(at).is_some());
        !frozen && (self.window.is_empty() || self.opened(at).is_some())
    }

    /// When the window opened that is open at `at`; `None` if none is.
    pub fn opened(&self, at: Timestamp) -> Option<Timestamp> {
        self.window.iter().filter_map(|window| window.open_at(at)).map(|opening| opening.from).min()
    }

    /// Until when it may go on without a break, where it may at `at`; `None` if nothing ends it within a year.
    pub fn open_until(&self, at: Timestamp) -> Option<Timestamp> {
        let year = at + Duration::from_secs(366 * 86_400);
        let mut until = if self.window.is_empty() { year } else { at };
        // What another window goes on with is no end.
        while until < year
            && let Some(later) = self.window.iter().filter_map(|window| Some(window.open_at(until)?.until)).max()
        {
            until = later;
        }
        let frozen = self.freeze.iter().filter_map(|window| Some(window.openings(at, until).next()?.from)).min();
        Some(frozen.map_or(until, |frozen| frozen.max(at).min(until))).filter(|until| *until < year)
    }

    /// Whether what begins at `at` and lasts so long is over before its window is, and before anything is frozen.
    pub fn has_room(&self, at: Timestamp, lasts: Duration) -> bool {
        let until = at + lasts;
        let fits = |window: &Window| window.open_at(at).is_some_and(|opening| until <= opening.until);
        let frozen = |window: &Window| window.openings(at, until).next().is_some();
        (self.window.is_empty() || self.window.iter().any(fits)) && !self.freeze.iter().any(frozen)
    }

    /// The next time after `at` at which it can be worth while to look again; `None` if nothing will change any more.
    pub fn next(&self, at: Timestamp) -> Option<Timestamp> {
        let edges = self.window.iter().filter_map(|window| {
            let opening = window.next(at)?;
            if opening.from > at { Some(opening.from) } else { Some(window.next(opening.until)?.from) }
        });
        let thaws = self.freeze.iter().filter_map(|window| Some(window.open_at(at)?.until));
        edges.chain(thaws).filter(|time| *time > at).min()
    }

    /// The first time after `at` at which it may be done, where it may not be now; looks no further than a year ahead.
    pub fn next_open(&self, at: Timestamp) -> Option<Timestamp> {
        let year = at + Duration::from_secs(366 * 86_400);
        let later = std::iter::successors(self.next(at), |time| self.next(*time));
        later.take_while(|time| *time <= year).find(|time| self.is_open(*time))
    }
}

/// Why a text is not a window.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum WindowError {
    /// It has another form.
    #[error(
        "`{0}` is not a window: write days and times, as in `Sat 22:00 - Sun 04:00 Europe/Berlin` or `22:00 - 04:00`, or \
         dates, as in `2026-12-20 - 2027-01-02`"
    )]
    Form(String),
    /// There is no such time zone.
    #[error("`{0}` is no time zone: write its name as in `Europe/Berlin`, or none for UTC")]
    Zone(String),
    /// It ends before it begins.
    #[error("`{0}` ends before it begins")]
    Backwards(String),
}

impl Window {
    /// When it is open at `at`; `None` if it is closed then.
    pub fn open_at(&self, at: Timestamp) -> Option<Opening> {
        self.openings(at, Timestamp(at.0.saturating_add(1))).next()
    }

    /// The first time from `at` on that it is open, or the one that is going on; `None` if it will never be again.
    pub fn next(&self, at: Timestamp) -> Option<Opening> {
        // More than a week, as an opening is left out where clocks are changed over the whole of it.
        let weeks = 3 * 7 * 24 * 3600 * 1_000_000;
        match &self.times {
            Times::Weekly { .. } => self.openings(at, Timestamp(at.0.saturating_add(weeks))).next(),
            Times::Once { .. } => self.openings(at, Timestamp(i64::MAX)).next(),
        }
    }

    /// All its openings of which something lies from `from` until before `until`, in order.
    pub fn openings(&self, from: Timestamp, until: Timestamp) -> impl Iterator<Item = Opening> {
        let touches = move |opening: &Opening| opening.until > from && opening.from < until;
        let (once, weekly) = match &self.times {
            Times::Once { from, until } => (self.opening(*from, *until), None),
            Times::Weekly { days, from: begins, until: ends, days_later } => {
                let first = date(from, &self.zone).map(|date| date.saturating_sub((*days_later + 1).days()));
                let all = first.into_iter().flat_map(move |first| first.series(1.day()));
                let openings = all
                    .filter(move |date| days.contains(&date.weekday()))
                    .take_while(move |date| starts_before(*date, until))
                    .filter_map(move |date| {
                        let last = date.checked_add(days_later.days()).ok()?;
                        self.opening(date.to_datetime(*begins), last.to_datetime(*ends))
                    });
                (None, Some(openings))
            }
        };
        once.into_iter().chain(weekly.into_iter().flatten()).filter(touches)
    }

    fn opening(&self, from: DateTime, until: DateTime) -> Option<Opening> {
        let from = self.zone.to_ambiguous_timestamp(from).later().ok()?;
        let until = self.zone.to_ambiguous_timestamp(until).earlier().ok()?;
        let [from, until] = [from, until].map(|time| Timestamp(time.as_microsecond()));
        let opening = Opening { from, until };
        (opening.from < opening.until).then_some(opening)
    }
}

/// Whether something on that day, in any time zone, can begin before `until`.
fn starts_before(date: Date, until: Timestamp) -> bool {
    TimeZone::UTC.to_timestamp(date.to_datetime(Time::midnight())).is_ok_and(|day| {
        let a_day = 24 * 3600 * 1_000_000;
        day.as_microsecond().saturating_sub(a_day) < until.0
    })
}

fn date(at: Timestamp, zone: &TimeZone) -> Option<Date> {
    Some(zone.to_datetime(jiff::Timestamp::from_microsecond(at.0).ok()?).date())
}

impl FromStr for Window {
    type Err = WindowError;

    fn from_str(text: &str) -> Result<Self, WindowError> {
        let quoted = || text.chars().take(80).collect::<String>();
        let form = || WindowError::Form(quoted());
        let (from, rest) = text.split_once(" - ").ok_or_else(form)?;
        let mut from: Vec<&str> = from.split_whitespace().collect();
        let mut until: Vec<&str> = rest.split_whitespace().collect();
        let is_zone = |word: &&str| word.starts_with(|c: char| c.is_ascii_alphabetic()) && weekday(word).is_none();
        let zone = match until.last().filter(|word| is_zone(word)).copied() {
            Some(name) => {
                until.pop();
                TimeZone::get(name).map_err(|_| WindowError::Zone(name.chars().take(80).collect()))?
            }
            None => TimeZone::UTC,
        };
        let times = match from.first().and_then(|word| word.parse::<Date>().ok()) {
            Some(_) => once(&from, &until),
            None => weekly(&mut from, &mut until),
        };
        let times = times.ok_or_else(form)?;
        if let Times::Once { from, until } = &times
            && from >= until
        {
            return Err(WindowError::Backwards(quoted()));
        }
        Ok(Self { text: text.split_whitespace().collect::<Vec<_>>().join(" "), times, zone })
    }
}

fn once(from: &[&str], until: &[&str]) -> Option<Times> {
    let moment = |words: &[&str]| match words {
        [date] => Some((date.parse::<Date>().ok()?, None)),
        [date, clock] => Some((date.parse::<Date>().ok()?, Some(time(clock)?))),
        _ => None,
    };
    let ((first, begins), (last, ends)) = (moment(from)?, moment(until)?);
    let until = match ends {
        Some((clock, after_midnight)) => end(last, clock, after_midnight)?,
        None => last.tomorrow().ok()?.to_datetime(Time::midnight()),
    };
    let (clock, false) = begins.unwrap_or((Time::midnight(), false)) else { return None };
    Some(Times::Once { from: first.to_datetime(clock), until })
}

fn end(date: Date, clock: Time, is_midnight_after: bool) -> Option<DateTime> {
    let date = if is_midnight_after { date.tomorrow().ok()? } else { date };
    Some(date.to_datetime(clock))
}

fn weekly(from: &mut Vec<&str>, until: &mut Vec<&str>) -> Option<Times> {
    let (begins, false) = time(from.pop()?)? else { return None };
    let (ends, is_midnight_after) = time(until.pop()?)?;
    let days = match from.as_slice() {
        [] => Weekday::Monday.cycle_forward().take(7).collect(),
        [words] => weekdays(words)?,
        _ => return None,
    };
    // How many days after the beginning the end is; on the same day only if it is later.
    let is_later = is_midnight_after || ends > begins;
    let days_later = match (until.as_slice(), days.as_slice()) {
        ([], _) if is_midnight_after => 1,
        ([], _) => i32::from(!is_later),
        ([last], [first]) => {
            let between = i32::from(first.until(weekday(last)?).rem_euclid(7)) + i32::from(is_midnight_after);
            if between == 0 && !is_later { 7 } else { between }
        }
        _ => return None, // which of several days it would be is anybody's guess
    };
    Some(Times::Weekly { days, from: begins, until: ends, days_later })
}

/// `22:00`, or `24:00`, which is midnight after the day and not before it.
fn time(word: &str) -> Option<(Time, bool)> {
    if word == "24:00" {
        return Some((Time::midnight(), true));
    }
    let (hour, minute) = word.split_once(':')?;
    let number = |digits: &str| {
        (digits.len() == 2 && digits.bytes().all(|b| b.is_ascii_digit())).then(|| digits.parse::<i8>().ok()).flatten()
    };
    Some((Time::new(number(hour)?, number(minute)?, 0, 0).ok()?, false))
}

/// `Sat`, `Mon-Fri`, `Tue,Thu`.
fn weekdays(words: &str) -> Option<Vec<Weekday>> {
    let mut days = Vec::new();
    for part in words.split(',') {
        match part.split_once('-') {
            None => days.push(weekday(part)?),
            Some((first, last)) => {
                let (first, last) = (weekday(first)?, weekday(last)?);
                let between = usize::from(first.until(last).rem_euclid(7).unsigned_abs());
                days.extend(first.cycle_forward().take(between + 1));
            }
        }
    }
    days.sort_by_key(|day| day.to_monday_zero_offset());
    days.dedup();
    Some(days)
}

fn weekday(word: &str) -> Option<Weekday> {
    Some(match word {
        "Mon" => Weekday::Monday,
        "Tue" => Weekday::Tuesday,
        "Wed" => Weekday::Wednesday,
        "Thu" => Weekday::Thursday,
        "Fri" => Weekday::Friday,
        "Sat" => Weekday::Saturday,
        "Sun" => Weekday::Sunday,
        _ => return None,
    })
}

impl TryFrom<String> for Window {
    type Error = WindowError;

    fn try_from(text: String) -> Result<Self, WindowError> {
        text.parse()
    }
}

impl From<Window> for String {
    fn from(window: Window) -> Self {
        window.text
    }
}

impl fmt::Display for Window {
    /// As the estate file writes it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl fmt::Debug for Window {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    fn at(text: &str) -> Timestamp {
        Timestamp::parse(text).unwrap()
    }

    fn window(text: &str) -> Window {
        text.parse().unwrap_or_else(|error| panic!("{error}"))
    }

    /// The openings from one moment until another, as texts in UTC.
    fn openings(text: &str, from: &str, until: &str) -> Vec<String> {
        let words = |opening: Opening| format!("{} - {}", opening.from.to_seconds(), opening.until.to_seconds());
        window(text).openings(at(from), at(until)).map(words).collect()
    }

    #[test]
    fn windows_are_read() {
        let (monday, week_later) = ("2026-11-23T00:00:00Z", "2026-11-30T00:00:00Z");
        let of = |text| openings(text, monday, week_later);
        assert_eq!(of("Sat 22:00 - Sun 04:00 Europe/Berlin"), ["2026-11-28T21:00:00Z - 2026-11-29T03:00:00Z"]);
        assert_eq!(of("Sat 22:00 - 04:00"), ["2026-11-28T22:00:00Z - 2026-11-29T04:00:00Z"]);
        assert_eq!(of("Tue,Thu 01:00 - 05:30").len(), 2);
        assert_eq!(of("Fri-Mon 01:00 - 05:30").len(), 4);
        assert_eq!(of("01:00 - 05:00").len(), 7);
        assert_eq!(of("22:00 - 04:00").len(), 8, "the one of the Sunday before goes on on Monday");
        assert_eq!(of("Wed 00:00 - 24:00"), ["2026-11-25T00:00:00Z - 2026-11-26T00:00:00Z"]);
        assert_eq!(of("Wed 10:00 - Wed 09:00").len(), 2, "almost a whole week");
        assert_eq!(of("Sun 00:00 - Sun 24:00"), ["2026-11-29T00:00:00Z - 2026-11-30T00:00:00Z"]);
        let once = openings("2026-12-20 - 2027-01-02", monday, "2028-01-01T00:00:00Z");
        assert_eq!(once, ["2026-12-20T00:00:00Z - 2027-01-03T00:00:00Z"]);
        let once = openings("2026-12-20 18:00 - 2026-12-21 06:00 Europe/Berlin", monday, "2028-01-01T00:00:00Z");
        assert_eq!(once, ["2026-12-20T17:00:00Z - 2026-12-21T05:00:00Z"]);
    }

    #[test]
    fn other_texts_are_told_from_windows() {
        for text in [
            "",
            "-",
            "22:00",
            "22:00-04:00",
            "Sat 22:00 - ",
            "Sat - Sun",
            "22:60 - 23:00",
            "25:00 - 26:00",
            "24:00 - 05:00",
            "1:00 - 2:00",
            "Samstag 22:00 - 23:00",
            "Mon-Fri 22:00 - Sat 04:00",
            "2026-13-01 - 2026-14-01",
            "2026-12-20 - 04:00",
            "2026-12-20 24:00 - 2026-12-22",
        ] {
            assert!(matches!(text.parse::<Window>(), Err(WindowError::Form(_))), "{text}");
        }
        let zone = "22:00 - 04:00 Europe/Berlin-Mitte".parse::<Window>().unwrap_err();
        assert_eq!(zone, WindowError::Zone("Europe/Berlin-Mitte".to_owned()));
        for text in ["2027-01-02 - 2026-12-20", "2026-12-20 10:00 - 2026-12-20 10:00"] {
            assert!(matches!(text.parse::<Window>(), Err(WindowError::Backwards(_))), "{text}");
        }
    }

    #[test]
    fn the_seasons_never_make_a_window_longer() {
        // Clocks go from 2:00 to 3:00 on 2026-03-29, and from 3:00 back to 2:00 on 2026-10-25.
        let spring = |text: String| openings(&text, "2026-03-29T00:00:00Z", "2026-03-29T12:00:00Z");
        let autumn = |text: String| openings(&text, "2026-10-24T23:00:00Z", "2026-10-25T12:00:00Z");
        let berlin = |text: &str| format!("{text} Europe/Berlin");
        assert_eq!(spring(berlin("01:00 - 04:00")), ["2026-03-29T00:00:00Z - 2026-03-29T02:00:00Z"]);
        assert_eq!(spring(berlin("02:30 - 05:00")), ["2026-03-29T01:30:00Z - 2026-03-29T03:00:00Z"]);
        assert_eq!(spring(berlin("01:00 - 02:30")), ["2026-03-29T00:00:00Z - 2026-03-29T00:30:00Z"]);
        assert_eq!(spring(berlin("02:10 - 02:50")), [""; 0], "it does not take place");
        assert_eq!(autumn(berlin("01:00 - 04:00")), ["2026-10-24T23:00:00Z - 2026-10-25T03:00:00Z"]);
        assert_eq!(autumn(berlin("01:00 - 02:30")), ["2026-10-24T23:00:00Z - 2026-10-25T00:30:00Z"]);
        assert_eq!(autumn(berlin("02:30 - 05:00")), ["2026-10-25T01:30:00Z - 2026-10-25T04:00:00Z"]);
        assert_eq!(autumn(berlin("02:10 - 02:50")), [""; 0], "it would be at two times, or in between");
    }

    #[test]
    fn what_is_open_ends_with_its_windows_or_a_freeze() {
        let windows = |all: &[&str]| all.iter().map(|text| window(text)).collect::<Vec<_>>();
        let of = |window: &[&str], freeze: &[&str]| Calendar { window: windows(window), freeze: windows(freeze) };
        let night = at("2026-11-28T23:00:00Z");
        let ends = |calendar: Calendar| calendar.open_until(night).map(Timestamp::to_seconds);
        assert_eq!(ends(of(&["Sat 22:00 - Sun 04:00"], &[])).as_deref(), Some("2026-11-29T04:00:00Z"));
        let both = ["Sat 22:00 - Sun 04:00", "Sun 03:00 - 06:00"];
        assert_eq!(ends(of(&both, &[])).as_deref(), Some("2026-11-29T06:00:00Z"), "one goes on with the other");
        let frozen = ["2026-11-29 - 2026-11-30"];
        assert_eq!(ends(of(&both, &frozen)).as_deref(), Some("2026-11-29T00:00:00Z"));
        assert_eq!(ends(of(&[], &frozen)).as_deref(), Some("2026-11-29T00:00:00Z"));
        assert_eq!(ends(of(&[], &[])), None);
        assert_eq!(ends(of(&["00:00 - 24:00"], &[])), None, "one day after the other");
    }

    #[test]
    fn open_now_and_next() {
        let weekly = window("Sat 22:00 - Sun 04:00 Europe/Berlin");
        let opening = Opening { from: at("2026-11-28T21:00:00Z"), until: at("2026-11-29T03:00:00Z") };
        assert_eq!(weekly.next(at("2026-11-23T00:00:00Z")), Some(opening));
        assert_eq!((weekly.open_at(opening.from), weekly.next(opening.from)), (Some(opening), Some(opening)));
        assert_eq!(weekly.open_at(Timestamp(opening.from.0 - 1)), None);
        assert_eq!(weekly.open_at(Timestamp(opening.until.0 - 1)), Some(opening));
        assert_eq!(weekly.open_at(opening.until), None);
        assert_eq!(weekly.next(opening.until).unwrap().from, at("2026-12-05T21:00:00Z"));
        let once = window("2026-12-20 - 2027-01-02");
        assert_eq!(once.next(at("2026-11-23T00:00:00Z")).unwrap().from, at("2026-12-20T00:00:00Z"));
        assert_eq!(once.next(at("2027-01-03T00:00:00Z")), None);
        // In the night that it is left out, the next one is a week later.
        let nightly = window("Sun 02:10 - 02:50 Europe/Berlin");
        assert_eq!(nightly.next(at("2026-03-28T12:00:00Z")).unwrap().from, at("2026-04-05T00:10:00Z"));
    }

    #[test]
    fn the_farthest_times_do_no_harm() {
        for text in ["Sat 22:00 - Sun 04:00 Europe/Berlin", "2026-12-20 - 2027-01-02", "00:00 - 24:00"] {
            for at in [i64::MIN, i64::MAX, -377_705_023_201_000_000, 253_402_207_200_999_999] {
                let _ = window(text).next(Timestamp(at));
                let _ = window(text).open_at(Timestamp(at));
            }
        }
    }

    const DAYS: [&str; 7] = ["Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun"];

    proptest! {
        /// Minute by minute over the nights in which clocks change, against the clock on the wall: what is said to be open
        /// is within the window by that clock, and what is within it in every reading is said to be open.
        #[test]
        fn it_agrees_with_the_clock_on_the_wall(
            first in 0..7_usize, length in 0..3_usize, from in 0..1440_i32, until in 0..1440_i32,
            zone in prop::sample::select(vec!["Europe/Berlin", "America/New_York", "Australia/Lord_Howe", "UTC"]),
            around in prop::sample::select(vec!["2026-03-29T01:00:00Z", "2026-10-25T01:00:00Z", "2026-03-08T07:00:00Z",
                "2026-11-01T06:00:00Z", "2026-04-04T15:00:00Z", "2026-10-03T15:30:00Z", "2026-07-01T00:00:00Z"]),
            offset in -2880..2880_i64,
        ) {
            let clock = |minutes: i32| format!("{:02}:{:02}", minutes / 60, minutes % 60);
            let last = (first + length) % 7;
            let text = format!("{} {} - {} {} {zone}", DAYS[first], clock(from), DAYS[last], clock(until));
            let window = window(&text);
            let moment = Timestamp(at(around).0 + offset * 60_000_000);
            let wall = TimeZone::get(zone).unwrap().to_datetime(jiff::Timestamp::from_microsecond(moment.0).unwrap());
            let minute = i32::from(wall.weekday().to_monday_zero_offset()) * 1440
                + i32::from(wall.hour()) * 60 + i32::from(wall.minute());
            let begins = i32::try_from(first).unwrap() * 1440 + from;
            let mut lasts = (i32::try_from(length).unwrap() * 1440 + until - from).rem_euclid(7 * 1440);
            if lasts == 0 {
                lasts = 7 * 1440;
            }
            let within = (minute - begins).rem_euclid(7 * 1440) < lasts;
            if window.open_at(moment).is_some() {
                prop_assert!(within, "{text} at {wall} {zone}");
            } else if within {
                // Only where a clock was changed near its beginning or its end may it be closed.
                let edges = [begins, begins + lasts].map(|edge| (minute - edge).rem_euclid(7 * 1440));
                let near = edges.iter().any(|distance| *distance <= 120 || *distance >= 7 * 1440 - 120);
                prop_assert!(near && zone != "UTC", "{text} at {wall} {zone}");
            }
        }

        #[test]
        fn no_text_does_harm(text in "\\PC{0,60}") {
            let _ = text.parse::<Window>();
        }

        #[test]
        fn openings_are_in_order_and_apart(from in 0..2_000_000_000_i64, days in 1..60_i64) {
            let window = window("Mon-Fri 22:30 - 04:15 Europe/Berlin");
            let from = Timestamp(from * 1_000_000);
            let until = Timestamp(from.0 + days * 86_400_000_000);
            let all: Vec<Opening> = window.openings(from, until).collect();
            prop_assert!(all.windows(2).all(|two| two[0].until <= two[1].from));
            prop_assert_eq!(all.iter().collect::<BTreeSet<_>>().len(), all.len());
            prop_assert!(all.iter().all(|opening| opening.until > from && opening.from < until));
        }
    }

    #[test]
    fn it_is_stored_as_it_was_written() {
        let text = "Sat 22:00  -  Sun 04:00   Europe/Berlin";
        let stored = serde_json::to_string(&window(&text.replace("  -  ", " - "))).unwrap();
        assert_eq!(stored, r#""Sat 22:00 - Sun 04:00 Europe/Berlin""#);
        assert_eq!(serde_json::from_str::<Window>(&stored).unwrap(), window("Sat 22:00 - Sun 04:00 Europe/Berlin"));
    }
}
