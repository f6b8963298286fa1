//! How often what is expected to fail in a real estate, and how that is known: from its file, from what its providers
//! promise, from its own journal, or by assumption.
//!
//! Invariant: every rate that a run is made with is listed with its source.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use ostler_manager::{Knowledge, place};
use ostler_model::catalog::Placement;
use ostler_model::estate::failures::{FailureKind, FailureRate, FailureScope};
use ostler_model::ids::ServiceName;
use ostler_model::time::Span;
use ostler_runtime::seen::Seen;
use serde::Serialize;

use crate::rates::{Fault, HEALED_BY_PROVIDER, Rate, Rates, UNNOTICED};
use crate::sketch::{Kind, Town};
use crate::world::START;

/// How a rate is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Source {
    /// The estate file says so.
    File,
    /// It follows from the availability that the provider promises.
    Terms,
    /// It was seen in the journal, and weighed with what is assumed.
    Journal,
    /// Nobody has said or seen anything.
    Assumed,
}

/// One rate, with its source.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Expected {
    /// What fails.
    pub kind: FailureKind,
    /// To what it happens: a service, a provider, a region; empty for ostler and its machine.
    pub target: String,
    /// The mean time between two, for one instance, service, provider or region; `None` for never.
    pub every: Option<Span>,
    /// How long one lasts, at least and at most, where it lasts.
    pub lasts: Option<(Span, Span)>,
    /// How that is known.
    pub source: Source,
}

const SECOND: u64 = 1;
const MINUTE: u64 = 60;
const HOUR: u64 = 3600;
const DAY: u64 = 86_400;

/// What is assumed where nobody says anything, in seconds: the mean time between two, and how long one lasts. `None`
/// for what does not happen unless the file says so. Deliberately on the dark side: an estate that is well off says so.
fn assumed(kind: FailureKind, behind: Option<Kind>) -> Option<(u64, u64, u64)> {
    let broker = behind == Some(Kind::Broker);
    match kind {
        FailureKind::Crash => Some((90 * DAY, 0, 0)),
        FailureKind::Hang => Some((365 * DAY, 0, 0)),
        FailureKind::Slow => Some((365 * DAY, MINUTE, 20 * MINUTE)),
        FailureKind::Leak => Some((365 * DAY, HOUR, DAY)),
        FailureKind::CrashLoop => Some((730 * DAY, MINUTE, HOUR)),
        FailureKind::LoseData => Some((3650 * DAY, 0, 0)),
        FailureKind::Outage if broker => Some((180 * DAY, 10 * MINUTE, 2 * HOUR)),
        FailureKind::ControlOutage if broker => Some((60 * DAY, MINUTE, 2 * HOUR)),
        FailureKind::Partition if broker => Some((60 * DAY, SECOND, 10 * MINUTE)),
        FailureKind::Drops if broker => Some((30 * DAY, SECOND, 10 * MINUTE)),
        FailureKind::WrongAnswer if broker => Some((30 * DAY, 0, 0)),
        FailureKind::RegionOutage => Some((1825 * DAY, HOUR, 8 * HOUR)),
        FailureKind::ManagerCrash => Some((90 * DAY, SECOND, 5 * SECOND)),
        FailureKind::KeeperCrash => Some((365 * DAY, SECOND, 5 * SECOND)),
        FailureKind::PowerLoss => Some((365 * DAY, 2 * MINUTE, HOUR)),
        FailureKind::DiskFull => Some((365 * DAY, 10 * MINUTE, 4 * HOUR)),
        FailureKind::ClockJump => Some((365 * DAY, 0, 0)),
        FailureKind::NeverReady
        | FailureKind::BeforeFails
        | FailureKind::AddressTaken
        | FailureKind::Outage
        | FailureKind::ControlOutage
        | FailureKind::Partition
        | FailureKind::Drops
        | FailureKind::WrongAnswer => None,
    }
}

impl Fault {
    /// The fault that the estate file calls so.
    pub fn of(kind: FailureKind) -> Self {
        match kind {
            FailureKind::Crash => Self::Crash,
            FailureKind::Hang => Self::Hang,
            FailureKind::Slow => Self::Slow,
            FailureKind::Leak => Self::Leak,
            FailureKind::CrashLoop => Self::CrashLoop,
            FailureKind::NeverReady => Self::NeverReady,
            FailureKind::LoseData => Self::Lose,
            FailureKind::BeforeFails => Self::BeforeFails,
            FailureKind::AddressTaken => Self::AddressTaken,
            FailureKind::Outage => Self::ProviderOut,
            FailureKind::ControlOutage => Self::ControlOut,
            FailureKind::Partition => Self::Partition,
            FailureKind::Drops => Self::Drops,
            FailureKind::WrongAnswer => Self::Spoil,
            FailureKind::RegionOutage => Self::RegionOut,
            FailureKind::ManagerCrash => Self::ManagerDies,
            FailureKind::KeeperCrash => Self::KeeperDies,
            FailureKind::PowerLoss => Self::PowerLoss,
            FailureKind::DiskFull => Self::DiskFull,
            FailureKind::ClockJump => Self::ClockJumps,
        }
    }
}

/// What is expected of the estate, target by target.
pub fn expected(town: &Town, seen: &BTreeMap<ServiceName, Seen>) -> Vec<Expected> {
    let bought = bought(town);
    let mut all = Vec::new();
    for kind in FailureKind::ALL {
        for target in targets(kind, town) {
            let at_broker = bought.contains(target.as_str());
            all.push(one(kind, target, town, seen, at_broker));
        }
    }
    all
}

/// The rates of what is expected.
pub fn rates(expected: &[Expected]) -> Rates {
    let mut rates = Rates::default();
    for one in expected {
        let moment = Duration::from_secs(1);
        // Where a variation of the estate has it bought at a broker, its provider heals it as is usual.
        let usual = match one.kind {
            FailureKind::Crash => HEALED_BY_PROVIDER,
            FailureKind::Hang => UNNOTICED,
            _ => (moment, moment),
        };
        let lasts = one.lasts.map_or(usual, |(least, most)| (least.get(), most.get()));
        let rate = one.every.map(|every| Rate { every: every.get(), lasts });
        rates.special.insert((Fault::of(one.kind), one.target.clone()), rate);
    }
    rates
}

fn targets(kind: FailureKind, town: &Town) -> Vec<String> {
    match kind.scope() {
        FailureScope::Instance | FailureScope::Service => {
            town.estate.services.keys().map(ToString::to_string).collect()
        }
        FailureScope::Provider => town.estate.providers.keys().map(ToString::to_string).collect(),
        FailureScope::Region => {
            let regions = town.estate.providers.keys().map(|provider| town.region(provider));
            regions.collect::<BTreeSet<_>>().into_iter().collect()
        }
        FailureScope::Estate => vec![String::new()],
    }
}

/// The names of the services that are bought at brokers.
fn bought(town: &Town) -> BTreeSet<String> {
    let placed = place(&Knowledge::default(), &town.estate, &town.catalogs, START).unwrap_or_default();
    let at_broker = |placement: &Placement| town.kinds.get(&placement.provider) == Some(&Kind::Broker);
    placed.iter().filter(|(_, placement)| at_broker(placement)).map(|(name, _)| name.to_string()).collect()
}

fn one(
    kind: FailureKind,
    target: String,
    town: &Town,
    seen: &BTreeMap<ServiceName, Seen>,
    at_broker: bool,
) -> Expected {
    let estate = &town.estate;
    let of_service = matches!(kind.scope(), FailureScope::Instance | FailureScope::Service);
    let service = estate.services.iter().find(|(name, _)| of_service && name.as_str() == target);
    let provider =
        estate.providers.iter().find(|(name, _)| kind.scope() == FailureScope::Provider && name.as_str() == target);
    let own = service.map(|(_, service)| &service.failures).or(provider.map(|(_, provider)| &provider.failures));
    let behind = provider.and_then(|(name, _)| town.kinds.get(name).copied());
    let assumed = assumed(kind, behind);
    let span = |seconds: u64| Span::seconds(seconds);
    let assumed_lasts = assumed.map(|(_, least, most)| (span(least), span(most))).filter(|_| kind.lasts());
    let usual = (span(MINUTE), span(HOUR));
    let say = |every: Option<Span>, lasts: Option<(Span, Span)>, source| {
        let in_spans = |(least, most): (Duration, Duration)| (span(least.as_secs()), span(most.as_secs()));
        let lasts = match kind {
            // How long these last is up to ostler here, and to its provider elsewhere.
            FailureKind::Crash | FailureKind::Hang if !at_broker => None,
            FailureKind::Crash => lasts.or(Some(in_spans(HEALED_BY_PROVIDER))),
            FailureKind::Hang => lasts,
            _ => lasts.or(assumed_lasts).or(Some(usual)).filter(|_| kind.lasts()),
        };
        let lasts = lasts.filter(|_| every.is_some());
        Expected { kind, target: target.clone(), every, lasts, source }
    };
    let said = own.and_then(|own| own.get(kind)).or_else(|| estate.failures.get(kind));
    if let Some(said) = said {
        let rate: Option<FailureRate> = said;
        return say(rate.map(|rate| rate.every), rate.and_then(|rate| rate.lasts), Source::File);
    }
    let promised = provider.and_then(|(_, provider)| provider.terms.as_ref()?.availability);
    if let (FailureKind::Outage, Some(promised)) = (kind, promised) {
        let missing = u64::from(1_000_000 - promised.millionths());
        let (least, most) = assumed_lasts.unwrap_or(usual);
        let mean = (least.get() + most.get()) / 2;
        // As much is missing as is promised at most: one outage of the mean length in so long.
        let every = (mean.as_secs() * 1_000_000).checked_div(missing).map(span);
        return say(every, Some((least, most)), Source::Terms);
    }
    let seen = service.and_then(|(name, _)| seen.get(name)).filter(|seen| !seen.observed.is_zero());
    let seen = seen.and_then(|seen| match kind {
        FailureKind::Crash => Some((seen.observed, seen.crashes)),
        FailureKind::Hang => Some((seen.observed, seen.hangs)),
        _ => None,
    });
    match (seen, assumed) {
        // The mean of a gamma distribution that began as one failure in the assumed time.
        (Some((observed, count)), Some((every, ..))) => {
            let every = (observed.as_secs() + every) / (u64::from(count) + 1);
            say(Some(span(every.max(MINUTE))), None, Source::Journal)
        }
        (_, assumed) => say(assumed.map(|(every, ..)| span(every)), None, Source::Assumed),
    }
}
