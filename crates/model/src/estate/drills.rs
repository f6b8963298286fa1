//! `[drill]`: which faults are caused on purpose to prove that services recover, when, and how much of it may be.

use std::collections::BTreeSet;
use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::ids::ServiceName;
use crate::time::{Span, Timestamp};
use crate::window::Calendar;

/// No fault lasts longer than this, whatever is declared: what cannot be undone by ostler ends by itself soon.
pub const LASTS_MAX: Span = Span::seconds(600);
/// A shorter one ends before a probe that is made every ten seconds has seen it three times.
pub const LASTS_MIN: Span = Span::seconds(5);
/// A restore on the side may take so long, and does if nothing else is said: what is big takes its time, and nobody waits.
pub const RESTORE_MAX: Span = Span::seconds(6 * 3600);

/// Something that goes wrong on purpose.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Fault {
    /// A process is killed.
    Kill,
    /// All processes of an instance stand still.
    Hang,
    /// All processes of an instance stand still most of the time.
    Slow,
    /// Nobody can connect to an instance: neither callers nor probes.
    Refuse,
    /// The credentials with which a consumer uses an instance are ended.
    WrongCredentials,
    /// There is no room any more where an instance keeps its data.
    FillDisk,
    /// Nobody can connect to anything of a provider, and it takes no orders.
    ProviderOutage,
    /// The data are taken to be lost: the newest backup is restored on the side. Nothing is done to what runs.
    BackupRestore,
}

impl Fault {
    /// All of them.
    pub const ALL: [Self; 8] = [
        Self::Kill,
        Self::Hang,
        Self::Slow,
        Self::Refuse,
        Self::WrongCredentials,
        Self::FillDisk,
        Self::ProviderOutage,
        Self::BackupRestore,
    ];

    /// As the estate file and the command line write it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Kill => "kill",
            Self::Hang => "hang",
            Self::Slow => "slow",
            Self::Refuse => "refuse",
            Self::WrongCredentials => "wrong-credentials",
            Self::FillDisk => "fill-disk",
            Self::ProviderOutage => "provider-outage",
            Self::BackupRestore => "backup-restore",
        }
    }

    /// Whether it is done to a process of this machine, or to where that writes.
    pub fn is_done_to_a_process(self) -> bool {
        match self {
            Self::Kill | Self::Hang | Self::Slow | Self::FillDisk => true,
            Self::Refuse | Self::WrongCredentials | Self::ProviderOutage | Self::BackupRestore => false,
        }
    }

    /// Whether a process may end by it that has no time to put its data in order.
    pub fn may_lose_data(self) -> bool {
        match self {
            Self::Kill | Self::Hang | Self::Slow | Self::FillDisk => true,
            Self::Refuse | Self::WrongCredentials | Self::ProviderOutage | Self::BackupRestore => false,
        }
    }

    /// The longest that one may be declared to last: what does nothing to what runs may take its time.
    pub fn lasts_max(self) -> Span {
        match self {
            Self::BackupRestore => RESTORE_MAX,
            Self::Kill
            | Self::Hang
            | Self::Slow
            | Self::Refuse
            | Self::WrongCredentials
            | Self::FillDisk
            | Self::ProviderOutage => LASTS_MAX,
        }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl FromStr for Fault {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        Self::ALL.into_iter().find(|fault| fault.as_str() == text).ok_or_else(|| {
            let names: Vec<&str> = Self::ALL.into_iter().map(Self::as_str).collect();
            format!(
                "there is no fault `{}`: use one of {}",
                text.chars().take(40).collect::<String>(),
                names.join(", ")
            )
        })
    }
}

/// What is declared of drills.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Drills {
    /// When they may be made. Without a window only people make one.
    #[serde(flatten)]
    pub calendar: Calendar,
    /// How often each service is drilled by itself; only people do if `None`. There is a window then.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub every: Option<Span>,
    /// Which faults are caused by the schedule, in turn.
    pub faults: Vec<Fault>,
    /// Which services are drilled by the schedule; all if empty.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub services: BTreeSet<ServiceName>,
    /// So many drills of one service at most while a window is open once; 1 or more.
    pub at_most: u32,
    /// So many instances of a service have to serve on while it is drilled.
    pub keep: u32,
    /// How long a fault lasts at the most: within that it has to be noticed and healed.
    pub lasts: Span,
    /// For how long a certificate is good.
    pub valid: Span,
}

impl Default for Drills {
    fn default() -> Self {
        Self {
            calendar: Calendar::default(),
            every: None,
            faults: vec![Fault::Kill, Fault::Hang],
            services: BTreeSet::new(),
            at_most: 1,
            keep: 0,
            // A database that hangs is seen within 20 s, has 30 s to end, and may have to read its log again.
            lasts: Span::seconds(120),
            // Within a month nearly everybody changes something on which recovery depends.
            valid: Span::seconds(30 * 86_400),
        }
    }
}

impl Drills {
    /// Whether a drill that the schedule begins at `at` is over before its window is, and before anything is frozen.
    pub fn has_room(&self, at: Timestamp, lasts: Duration) -> bool {
        !self.calendar.window.is_empty() && self.calendar.has_room(at, lasts)
    }

    /// How long what the schedule begins at `at` may take: until the windows are over, or until something is frozen.
    pub fn room(&self, at: Timestamp) -> Duration {
        match self.calendar.opened(at) {
            Some(_) => self.calendar.open_until(at).map_or(RESTORE_MAX.get(), |until| until.since(at)),
            None => Duration::ZERO,
        }
    }

    /// Whether the schedule drills this service.
    pub fn schedules(&self, service: &ServiceName) -> bool {
        self.every.is_some() && (self.services.is_empty() || self.services.contains(service))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> Timestamp {
        Timestamp::parse(text).unwrap()
    }

    fn drills(window: &[&str], freeze: &[&str]) -> Drills {
        let windows = |texts: &[&str]| texts.iter().map(|text| text.parse().unwrap()).collect();
        let calendar = Calendar { window: windows(window), freeze: windows(freeze) };
        Drills { calendar, ..Drills::default() }
    }

    #[test]
    fn a_fault_is_written_as_it_is_read() {
        for fault in Fault::ALL {
            assert_eq!(fault.as_str().parse(), Ok(fault));
            assert_eq!(serde_json::to_string(&fault).unwrap(), format!("\"{fault}\""));
        }
        assert!("flood".parse::<Fault>().is_err());
    }

    #[test]
    fn a_drill_lies_in_a_window_as_a_whole_and_in_no_freeze() {
        let minute = Duration::from_secs(60);
        let drills = drills(&["Sun 02:00 - 04:00"], &["2026-11-29 03:00 - 2026-11-29 03:30"]);
        // The 29th of November 2026 is a Sunday.
        for (time, open, room) in [
            ("2026-11-29T01:59:59Z", false, false),
            ("2026-11-29T02:00:00Z", true, true),
            ("2026-11-29T02:59:30Z", true, false),
            ("2026-11-29T03:10:00Z", false, false),
            ("2026-11-29T03:30:00Z", true, true),
            ("2026-11-29T03:59:00Z", true, true),
            ("2026-11-29T03:59:01Z", true, false),
            ("2026-11-29T04:00:00Z", false, false),
        ] {
            assert_eq!((drills.calendar.is_open(at(time)), drills.has_room(at(time), minute)), (open, room), "{time}");
        }
        assert_eq!(drills.calendar.next(at("2026-11-28T00:00:00Z")), Some(at("2026-11-29T02:00:00Z")));
        assert_eq!(drills.calendar.next(at("2026-11-29T03:10:00Z")), Some(at("2026-11-29T03:30:00Z")));
        assert_eq!(drills.calendar.next(at("2026-11-29T03:40:00Z")), Some(at("2026-12-06T02:00:00Z")));
    }

    /// On the night on which clocks go back in Berlin, 02:30 comes twice: a window from then on is the shorter one.
    #[test]
    fn the_seasons_make_a_window_no_longer() {
        let drills = drills(&["Sun 02:30 - 04:00 Europe/Berlin"], &[]);
        for (time, open) in [
            ("2026-10-25T00:45:00Z", false),
            ("2026-10-25T01:29:59Z", false),
            ("2026-10-25T01:30:00Z", true),
            ("2026-10-25T02:59:59Z", true),
            ("2026-10-25T03:00:00Z", false),
        ] {
            assert_eq!(drills.calendar.is_open(at(time)), open, "{time}");
        }
    }

    #[test]
    fn without_a_window_people_may_at_any_time_and_the_schedule_never() {
        let drills = drills(&[], &["2026-12-20 - 2027-01-02"]);
        let time = at("2026-11-29T02:00:00Z");
        assert!(drills.calendar.is_open(time) && !drills.has_room(time, Duration::from_secs(1)));
        assert!(!drills.calendar.is_open(at("2026-12-24T18:00:00Z")));
        assert!(!drills.schedules(&"db".parse().unwrap()));
    }
}
