//! How often what fails, as the buyer expects it: what `ostler simulate` plays.
//!
//! Invariant: nothing that runs depends on it. It is declared in three places, each with its own kinds: under a service
//! for that service, under a provider for that provider, and once for everything in the estate.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};

use crate::time::Span;

/// What can fail.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FailureKind {
    /// An instance ends by itself.
    Crash,
    /// An instance runs on, and answers nothing any more.
    Hang,
    /// An instance answers, but slowly.
    Slow,
    /// An instance takes more and more memory.
    Leak,
    /// An instance ends again soon after each start.
    CrashLoop,
    /// An instance runs, and does not become ready.
    NeverReady,
    /// What an instance stored is gone.
    LoseData,
    /// The one-off command before a service's start fails.
    BeforeFails,
    /// Another program holds the address of a service's endpoint.
    AddressTaken,
    /// Everything at a provider is gone, and comes back.
    Outage,
    /// A provider takes no orders; what runs there runs on.
    ControlOutage,
    /// Nothing at a provider can be reached; what runs there runs on.
    Partition,
    /// Connections to a provider fail now and then.
    Drops,
    /// A provider answers one order wrongly.
    WrongAnswer,
    /// Every provider of a region is gone, and comes back.
    RegionOutage,
    /// ostler's manager ends by itself.
    ManagerCrash,
    /// ostler's keeper ends by itself.
    KeeperCrash,
    /// The machine that ostler runs on loses its power.
    PowerLoss,
    /// The disk that ostler writes to is full.
    DiskFull,
    /// The machine's clock is set to another time.
    ClockJump,
}

/// To what something happens: its mean time holds for each of these by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum FailureScope {
    /// To one instance of a service.
    Instance,
    /// To a service.
    Service,
    /// To a provider.
    Provider,
    /// To all providers of a region together.
    Region,
    /// To the estate as a whole, or to ostler itself.
    Estate,
}

impl FailureKind {
    /// All of them, in the order of their scopes.
    pub const ALL: [Self; 20] = [
        Self::Crash,
        Self::Hang,
        Self::Slow,
        Self::Leak,
        Self::CrashLoop,
        Self::NeverReady,
        Self::LoseData,
        Self::BeforeFails,
        Self::AddressTaken,
        Self::Outage,
        Self::ControlOutage,
        Self::Partition,
        Self::Drops,
        Self::WrongAnswer,
        Self::RegionOutage,
        Self::ManagerCrash,
        Self::KeeperCrash,
        Self::PowerLoss,
        Self::DiskFull,
        Self::ClockJump,
    ];

    /// As the estate file writes it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Crash => "crash",
            Self::Hang => "hang",
            Self::Slow => "slow",
            Self::Leak => "leak",
            Self::CrashLoop => "crash_loop",
            Self::NeverReady => "never_ready",
            Self::LoseData => "lose_data",
            Self::BeforeFails => "before_fails",
            Self::AddressTaken => "address_taken",
            Self::Outage => "outage",
            Self::ControlOutage => "control_outage",
            Self::Partition => "partition",
            Self::Drops => "drops",
            Self::WrongAnswer => "wrong_answer",
            Self::RegionOutage => "region_outage",
            Self::ManagerCrash => "manager_crash",
            Self::KeeperCrash => "keeper_crash",
            Self::PowerLoss => "power_loss",
            Self::DiskFull => "disk_full",
            Self::ClockJump => "clock_jump",
        }
    }

    /// To what it happens.
    pub fn scope(self) -> FailureScope {
        match self {
            Self::Crash
            | Self::Hang
            | Self::Slow
            | Self::Leak
            | Self::CrashLoop
            | Self::NeverReady
            | Self::LoseData => FailureScope::Instance,
            Self::BeforeFails | Self::AddressTaken => FailureScope::Service,
            Self::Outage | Self::ControlOutage | Self::Partition | Self::Drops | Self::WrongAnswer => {
                FailureScope::Provider
            }
            Self::RegionOutage => FailureScope::Region,
            Self::ManagerCrash | Self::KeeperCrash | Self::PowerLoss | Self::DiskFull | Self::ClockJump => {
                FailureScope::Estate
            }
        }
    }

    /// Whether it goes on for a time of its own. What does not happens at one moment, and how long its effects last
    /// depends on what is done about them. A crash and a hang go on for a time of their own at a broker, until its
    /// provider heals them; on this machine that is up to ostler.
    pub fn lasts(self) -> bool {
        match self {
            Self::LoseData | Self::WrongAnswer | Self::ClockJump => false,
            Self::Crash
            | Self::Hang
            | Self::Slow
            | Self::Leak
            | Self::CrashLoop
            | Self::NeverReady
            | Self::BeforeFails
            | Self::AddressTaken
            | Self::Outage
            | Self::ControlOutage
            | Self::Partition
            | Self::Drops
            | Self::RegionOutage
            | Self::ManagerCrash
            | Self::KeeperCrash
            | Self::PowerLoss
            | Self::DiskFull => true,
        }
    }
}

impl fmt::Display for FailureKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// How often one kind of failure happens to each thing that it can happen to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FailureRate {
    /// The mean time between two, within [`FailureRate::EVERY`].
    pub every: Span,
    /// The shortest and the longest time that one lasts, the shortest first and both within [`FailureRate::LASTS`];
    /// `None` if the file does not say, and always for a kind that does not last.
    pub lasts: Option<(Span, Span)>,
}

impl FailureRate {
    /// The least and the greatest mean time between two: a minute and 100 years.
    pub const EVERY: (Span, Span) = (Span::seconds(60), Span::seconds(36_500 * 86_400));
    /// The least and the greatest time that one lasts: a millisecond and 30 days.
    pub const LASTS: (Span, Span) = (Span::millis(1), Span::seconds(30 * 86_400));
}

impl fmt::Display for FailureRate {
    /// As the estate file writes it: `"60d"`, `{ every = "90d", lasts = "1m - 2h" }`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let every = self.every;
        match self.lasts {
            None => write!(f, "\"{every}\""),
            Some((least, most)) if least == most => write!(f, "{{ every = \"{every}\", lasts = \"{least}\" }}"),
            Some((least, most)) => write!(f, "{{ every = \"{every}\", lasts = \"{least} - {most}\" }}"),
        }
    }
}

/// What one table says about failures. A kind that is not in it is not said to never happen: it is left open.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Failures(BTreeMap<FailureKind, Option<FailureRate>>);

impl Failures {
    /// Whether it says nothing.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// What it says about `kind`: `None` for nothing, `Some(None)` that it never happens.
    pub fn get(&self, kind: FailureKind) -> Option<Option<FailureRate>> {
        self.0.get(&kind).copied()
    }

    /// All that it says, in the order of [`FailureKind::ALL`]; `None` stands for never.
    pub fn iter(&self) -> impl Iterator<Item = (FailureKind, Option<FailureRate>)> + '_ {
        self.0.iter().map(|(kind, rate)| (*kind, *rate))
    }

    /// These, and what `general` says about kinds that these leave open: how those of one service or one provider
    /// stand before those of the whole estate.
    #[must_use]
    pub fn in_front_of(&self, general: &Self) -> Self {
        let mut both = general.0.clone();
        both.extend(self.iter());
        Self(both)
    }
}

impl FromIterator<(FailureKind, Option<FailureRate>)> for Failures {
    fn from_iter<I: IntoIterator<Item = (FailureKind, Option<FailureRate>)>>(rates: I) -> Self {
        Self(rates.into_iter().collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_the_same_in_files_and_facts() {
        for kind in FailureKind::ALL {
            assert_eq!(serde_json::to_string(&kind).unwrap(), format!("\"{kind}\""));
        }
        let wrong = serde_json::from_str::<FailureKind>("\"x\"").unwrap_err().to_string();
        let known = FailureKind::ALL.map(|kind| format!("`{kind}`")).join(", ");
        assert!(wrong.contains(&format!("expected one of {known} at")), "all kinds and no others: {wrong}");
        assert!(FailureKind::ALL.is_sorted_by_key(|kind| (kind.scope(), *kind)));
    }

    #[test]
    fn rates_are_shown_as_they_are_written() {
        let rate = |lasts| FailureRate { every: Span::seconds(86_400), lasts };
        assert_eq!(rate(None).to_string(), r#""1d""#);
        let minute = Span::seconds(60);
        assert_eq!(rate(Some((minute, minute))).to_string(), r#"{ every = "1d", lasts = "1m" }"#);
        let longer = Span::seconds(5400);
        assert_eq!(rate(Some((minute, longer))).to_string(), r#"{ every = "1d", lasts = "1m - 1h 30m" }"#);
    }

    #[test]
    fn what_is_said_of_one_stands_before_what_is_said_of_all() {
        let rate = |seconds| Some(FailureRate { every: Span::seconds(seconds), lasts: None });
        let general: Failures =
            [(FailureKind::Crash, rate(100)), (FailureKind::Hang, rate(200)), (FailureKind::Drops, None)]
                .into_iter()
                .collect();
        let own: Failures = [(FailureKind::Crash, None), (FailureKind::Slow, rate(300))].into_iter().collect();
        let both: Vec<_> = own.in_front_of(&general).iter().collect();
        assert_eq!(
            both,
            [
                (FailureKind::Crash, None),
                (FailureKind::Hang, rate(200)),
                (FailureKind::Slow, rate(300)),
                (FailureKind::Drops, None)
            ]
        );
        assert_eq!((own.get(FailureKind::Crash), own.get(FailureKind::Hang)), (Some(None), None));
    }

    #[test]
    fn the_form_in_facts_is_fixed() {
        let rate =
            FailureRate { every: Span::seconds(90 * 86_400), lasts: Some((Span::seconds(60), Span::seconds(7200))) };
        let failures: Failures = [(FailureKind::Crash, None), (FailureKind::Outage, Some(rate))].into_iter().collect();
        let json = r#"{"crash":null,"outage":{"every":"90d","lasts":["1m","2h"]}}"#;
        assert_eq!(serde_json::to_string(&failures).unwrap(), json);
        assert_eq!(serde_json::from_str::<Failures>(json).unwrap(), failures);
    }
}
