//! What is known of how often a service, and what is bought of each provider, was out.

use std::collections::BTreeMap;
use std::time::Duration;

use ostler_manager::Knowledge;
use ostler_model::ids::{ProviderName, ServiceName};
use ostler_model::time::Timestamp;
use rust_decimal::Decimal;
use serde::{Deserialize, Serialize};

use super::costs::HOURS;
use crate::carried::Bytes;
use crate::ledger::Ledger;

/// What was seen for less long says nothing yet of a year.
pub const WATCHED_DAYS_MIN: u64 = 30;

const DAY_SECONDS: u64 = 86_400;

/// How often something was out.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OutagesSeen {
    /// Where it was.
    pub provider: ProviderName,
    /// For how long it was watched.
    pub watched: Duration,
    /// For how long it was out of that.
    pub away: Duration,
    /// How often; `None` where only the time is known.
    pub times: Option<u32>,
}

/// What was measured.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Measured {
    /// Of the service itself, where its service level is declared and so measured.
    pub service: Option<OutagesSeen>,
    /// What passes through its endpoint, where that was counted for long enough.
    #[serde(default)]
    pub traffic: Option<TrafficSeen>,
    /// Of what is bought of each provider.
    pub providers: BTreeMap<ProviderName, OutagesSeen>,
}

/// What passes through a service's endpoint.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TrafficSeen {
    /// In a month of average length, both ways, in 10^9 bytes.
    pub gigabytes_a_month: Decimal,
    /// For how many days it was counted.
    pub days: u64,
}

impl OutagesSeen {
    /// Whether it was watched for so long that it says something.
    pub fn is_enough(&self) -> bool {
        self.watched.as_secs() >= WATCHED_DAYS_MIN * DAY_SECONDS
    }

    pub(super) fn days(&self) -> u64 {
        self.watched.as_secs() / DAY_SECONDS
    }

    fn years(&self) -> Decimal {
        Decimal::from(self.watched.as_secs().max(1)) / Decimal::from(u64::from(HOURS) * 3_600)
    }

    /// What one outage, or one hour, in the time for which it was watched is a year.
    pub(super) fn one_a_year(&self) -> Decimal {
        Decimal::ONE / self.years()
    }

    pub(super) fn hours_a_year(&self) -> Decimal {
        Decimal::from(self.away.as_secs()) / Decimal::from(3_600) / self.years()
    }

    pub(super) fn times_a_year(&self) -> Decimal {
        Decimal::from(self.times.unwrap_or_default()) / self.years()
    }

    /// How long each was; `None` if there was none.
    pub(super) fn each_hours(&self) -> Option<Decimal> {
        let times = self.times.filter(|times| *times > 0)?;
        Some(Decimal::from(self.away.as_secs()) / Decimal::from(3_600) / Decimal::from(times))
    }
}

/// What is known of `service` and of everybody from whom something is bought.
pub fn measured(known: &Knowledge, ledger: &Ledger, service: &ServiceName, now: Timestamp) -> Measured {
    let providers = known.evidence.iter().filter_map(|(name, evidence)| {
        let seen = evidence.at(now).delivered()?;
        let watched = Duration::from_millis(seen.watched_ms);
        let seen = OutagesSeen {
            provider: name.clone(),
            watched,
            away: Duration::from_millis(seen.missed_ms).min(watched),
            times: None,
        };
        Some((name.clone(), seen))
    });
    let of_service = known.services.get(service).and_then(|service| {
        let provider = service.placement.as_ref()?.provider.clone();
        let seen = service.level.as_ref()?.outages(service.spec.slo.as_ref()?, now);
        Some(OutagesSeen { provider, watched: seen.measured, away: seen.away, times: Some(seen.times) })
    });
    Measured { service: of_service, traffic: traffic(ledger, service), providers: providers.collect() }
}

fn traffic(ledger: &Ledger, service: &ServiceName) -> Option<TrafficSeen> {
    let spans = &ledger.carried.get(service)?.spans;
    let (from, until) = (spans.first()?.from, spans.iter().map(|span| span.until).max()?);
    let watched = until.since(from).as_secs();
    if watched < WATCHED_DAYS_MIN * DAY_SECONDS {
        return None;
    }
    let bytes = spans.iter().fold(Bytes::default(), |sum, span| sum.plus(span.bytes)).both();
    let months = Decimal::from(watched) / Decimal::from(3_600 * 730_u64);
    let gigabytes_a_month = (Decimal::from(bytes) / Decimal::from(1_000_000_000) / months).round_dp(4).normalize();
    Some(TrafficSeen { gigabytes_a_month, days: watched / DAY_SECONDS })
}
