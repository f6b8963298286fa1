//! What a year would be like: many simulated years of one estate under one policy, added up.
//!
//! Invariant: a year follows from its seed alone, so two questions with the same first seed are asked of the same years:
//! the same faults at the same times wherever both estates have what fails.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use ostler_model::catalog::Price;
use ostler_model::estate::terms::Percent;
use ostler_model::ids::{ProviderName, ServiceName};
use ostler_model::time::{Span, Timestamp};

use crate::act::{Act, Planned};
use crate::callers::{Outage, Service};
use crate::dice::{Concern, Dice, key};
use crate::disk::Keep;
use crate::promise::Violation;
use crate::rates::Rates;
use crate::sketch::{Kind, Town};
use crate::world::{Policy, START, Setting, World};

/// Into so many parts a year is divided for its picture.
pub const PARTS: usize = 52;
/// For service credits a year is divided into so many months of equal length.
const MONTHS: u32 = 12;

/// What is asked.
pub struct Question {
    /// The estate and its providers.
    pub town: Town,
    /// How often what fails.
    pub rates: Rates,
    /// Outages of providers that come once a year, at a time drawn by chance.
    pub extra: Vec<Extra>,
    /// Who looks after it.
    pub policy: Policy,
    /// The seed of the first year; the others follow it.
    pub seed: u64,
    /// How many years.
    pub years: u32,
    /// How long a year is.
    pub length: Duration,
}

/// An outage that comes once a year.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Extra {
    /// Whose.
    pub provider: ProviderName,
    /// How long.
    pub lasts: Span,
}

/// A share of the time, from 0 to 1,000,000,000 billionths.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Share(u32);

/// One percent in billionths.
const PERCENT: u128 = 10_000_000;

/// What came to an instance itself, in the words of the acts.
const THEIRS: [&str; 7] = ["crash", "hang", "slow", "leak", "crash loop", "never ready", "data lost"];

impl Share {
    const WHOLE: u128 = 1_000_000_000;

    /// What is left of `total` without `lost`; all of it if there was no time at all.
    pub fn available(total: Duration, lost: Duration) -> Self {
        let (total, lost) = (total.as_micros(), lost.as_micros());
        let missing = (lost * Self::WHOLE).checked_div(total).unwrap_or(0).min(Self::WHOLE);
        Self(u32::try_from(Self::WHOLE - missing).expect("a billion fits"))
    }

    /// In billionths.
    pub fn billionths(self) -> u32 {
        self.0
    }

    /// The same in millionths, rounded down: what is promised and not quite kept is not kept.
    pub fn percent(self) -> Percent {
        Percent::from_millionths(self.0 / 1000).expect("a share is no more than the whole")
    }
}

impl std::fmt::Display for Share {
    /// In percent, with the first two digits of what is missing, never rounded up: `99.95`, `99.9987`, `100`.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let missing = u128::from(1_000_000_000 - self.0);
        if missing == 0 {
            return f.write_str("100");
        }
        let first = (0..7).find(|decimals| missing * 10_u128.pow(*decimals) >= PERCENT).unwrap_or(7);
        let decimals = (first + 1).min(7);
        let (shown, unit) = (u128::from(self.0) * 10_u128.pow(decimals) / PERCENT, 10_u128.pow(decimals));
        let digits = format!("{:0width$}", shown % unit, width = decimals as usize);
        let digits = digits.trim_end_matches('0');
        write!(f, "{}.{}", shown / unit, if digits.is_empty() { "0" } else { digits })
    }
}

/// An amount in millionths of the estate's currency.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Money(pub i128);

impl std::fmt::Display for Money {
    /// With two decimals, rounded to the nearest.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let cents = (self.0 + 5_000 * self.0.signum()) / 10_000;
        write!(f, "{}{}.{:02}", if cents < 0 { "-" } else { "" }, cents.abs() / 100, cents.abs() % 100)
    }
}

/// What keeps callers from being answered.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Cause {
    /// How many outages began with it, in all years.
    pub outages: u32,
    /// How much time callers lost in them, in all years.
    pub lost: Duration,
}

/// What all years say of one service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServiceOutlook {
    /// What was available in each year, the worst first.
    pub availability: Vec<Share>,
    /// How long each outage lasted, in all years, the shortest first.
    pub recoveries: Vec<Duration>,
    /// By what came before it, and to which need; `None` for the service itself.
    pub causes: BTreeMap<(&'static str, Option<ServiceName>), Cause>,
    /// For each of [`PARTS`] parts of a year: how much was lost there in each year, the least first.
    pub parts: Vec<Vec<Duration>>,
    /// What it costs a year; `None` where its provider states no price that is understood.
    pub cost: Option<Money>,
    /// What its provider owes for a year on average; `None` where no price or no terms are known.
    pub credits: Option<Money>,
}

impl ServiceOutlook {
    /// The availability that `tenths` of ten years were below: 0 for the worst, 5 for the median, 10 for the best.
    pub fn quantile(&self, tenths: usize) -> Share {
        let last = self.availability.len().saturating_sub(1);
        self.availability.get(last * tenths / 10).copied().unwrap_or(Share(0))
    }

    /// The recovery time that `percent` of the outages did not exceed; `None` if there was none.
    pub fn recovery(&self, percent: usize) -> Option<Duration> {
        let last = self.recoveries.len().checked_sub(1)?;
        self.recoveries.get(last * percent / 100).copied()
    }
}

/// What all years say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outlook {
    /// How many there were.
    pub years: u32,
    /// How long each was.
    pub length: Duration,
    /// By service.
    pub services: BTreeMap<ServiceName, ServiceOutlook>,
    /// Faults, in all years.
    pub faults: u64,
    /// How often people were told something, in all years.
    pub told: u64,
    /// Facts stored, in all years.
    pub facts: u64,
    /// Years in which it could not be brought up within six hours.
    pub never_up: u32,
    /// The seeds of years in which ostler broke a promise of its own, and which.
    pub broken: Vec<(u64, Violation)>,
}

/// One year.
struct Year {
    services: BTreeMap<ServiceName, Service>,
    from: Timestamp,
    faults: u64,
    told: u64,
    facts: u64,
    up: bool,
    broken: Option<Violation>,
    prices: BTreeMap<ServiceName, Bought>,
}

/// What is paid for a service.
#[derive(Clone, Debug)]
struct Bought {
    a_year: Option<Money>,
    provider: ProviderName,
}

/// Runs all years of a question on all cores; `done` hears of each.
pub fn look_ahead(question: &Question, done: &(dyn Fn() + Sync)) -> Outlook {
    let next = AtomicU32::new(0);
    let years: Mutex<BTreeMap<u32, Year>> = Mutex::default();
    let threads = std::thread::available_parallelism().map_or(1, usize::from).min(question.years as usize);
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                loop {
                    let nth = next.fetch_add(1, Ordering::Relaxed);
                    if nth >= question.years {
                        return;
                    }
                    let year = one_year(question, nth);
                    years.lock().unwrap_or_else(PoisonError::into_inner).insert(nth, year);
                    done();
                }
            });
        }
    });
    let years = years.into_inner().unwrap_or_else(PoisonError::into_inner);
    add_up(question, &years)
}

fn one_year(question: &Question, nth: u32) -> Year {
    let seed = question.seed + u64::from(nth);
    let town = question.town.clone();
    let setting = Setting { town, seed, plan: Vec::new(), keep: Keep::SinceSnapshot, mutant: None };
    let mut world = World::new(setting);
    let up = world.bring_up();
    let (from, until) = (world.elapsed(), world.elapsed() + question.length);
    let dice = Dice::new(seed);
    let mut plan = question.rates.plan(dice, &question.town, from, until);
    for extra in &question.extra {
        let mut draw = dice.stream(Concern::Providers, key(&[extra.provider.as_str(), "once a year"], 0));
        let at = from + draw.duration(Duration::ZERO, question.length.saturating_sub(extra.lasts.get()));
        let act = Act::ProviderOut { provider: extra.provider.to_string(), lasts: extra.lasts };
        plan.push(Planned { at: Span::millis(u64::try_from(at.as_millis()).unwrap_or(u64::MAX)), act });
    }
    plan.sort_by_key(|planned| planned.at);
    let prices = prices(&world, &question.town);
    let services = world.pass(question.policy, plan, until);
    let counts = world.counts();
    let broken = world.violations().first().cloned();
    let (faults, told, facts) = (counts.faults, counts.told, world.facts().0);
    Year { services, from: START + from, faults, told, facts, up, broken, prices }
}

/// What each service costs a year as it was bought.
fn prices(world: &World, town: &Town) -> BTreeMap<ServiceName, Bought> {
    let Some(known) = world.knowledge() else { return BTreeMap::new() };
    let bought = known.services.iter().filter_map(|(name, service)| {
        let placement = service.placement.as_ref()?;
        let offering = town.catalogs.get(&placement.provider)?.offerings.get(&placement.offering)?;
        let plan = offering.plans.iter().find(|plan| plan.name == placement.plan)?;
        let each = plan.price.as_ref().and_then(|price| a_year(price, town.estate.currency.as_str()));
        let instances = i128::from(service.wanted_instances());
        let a_year = each.map(|each| Money(each.0 * instances));
        Some((name.clone(), Bought { a_year, provider: placement.provider.clone() }))
    });
    bought.collect()
}

/// A price for a year, if it is in this currency and for a month or an hour.
fn a_year(price: &Price, currency: &str) -> Option<Money> {
    let times = match price.per.as_str() {
        "month" => 12,
        "hour" => 24 * 365,
        "year" => 1,
        _ => return None,
    };
    let (whole, decimals) = price.amount.split_once('.').unwrap_or((&price.amount, ""));
    let digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    if price.currency != currency || whole.is_empty() || !digits(whole) || !digits(decimals) || decimals.len() > 6 {
        return None;
    }
    let whole: i128 = whole.parse().ok().filter(|whole| *whole < 1_000_000_000_000)?;
    let millionths: i128 = format!("{decimals:0<6}").parse().ok()?;
    Some(Money((whole * 1_000_000 + millionths) * times))
}

fn add_up(question: &Question, years: &BTreeMap<u32, Year>) -> Outlook {
    let mut services: BTreeMap<ServiceName, ServiceOutlook> = BTreeMap::new();
    for year in years.values() {
        for (name, seen) in &year.services {
            let outlook = services.entry(name.clone()).or_insert_with(|| ServiceOutlook {
                availability: Vec::new(),
                recoveries: Vec::new(),
                causes: BTreeMap::new(),
                parts: vec![Vec::new(); PARTS],
                cost: None,
                credits: None,
            });
            outlook.availability.push(Share::available(seen.total, seen.lost));
            outlook.recoveries.extend(seen.outages.iter().map(|outage| outage.until.since(outage.from)));
            for outage in &seen.outages {
                let cause = outlook.causes.entry((outage.cause, outage.need.clone())).or_default();
                cause.outages += 1;
                cause.lost += outage.lost;
            }
            let parts = divided(&seen.outages, year.from, question.length, PARTS);
            for (all, lost) in outlook.parts.iter_mut().zip(parts) {
                all.push(lost);
            }
            if let Some(bought) = year.prices.get(name) {
                outlook.cost = bought.a_year;
                let owed = owed(question, bought, seen, year.from);
                outlook.credits = owed.map(|owed| Money(outlook.credits.unwrap_or_default().0 + owed.0));
            }
        }
    }
    for outlook in services.values_mut() {
        outlook.availability.sort_unstable();
        outlook.recoveries.sort_unstable();
        outlook.parts.iter_mut().for_each(|part| part.sort_unstable());
        outlook.credits = outlook.credits.map(|sum| Money(sum.0 / i128::from(question.years.max(1))));
    }
    let broken = years.iter().filter_map(|(nth, year)| Some((question.seed + u64::from(*nth), year.broken.clone()?)));
    Outlook {
        years: question.years,
        length: question.length,
        services,
        faults: years.values().map(|year| year.faults).sum(),
        told: years.values().map(|year| year.told).sum(),
        facts: years.values().map(|year| year.facts).sum(),
        never_up: u32::try_from(years.values().filter(|year| !year.up).count()).unwrap_or(u32::MAX),
        broken: broken.collect(),
    }
}

/// What a service's provider owes for a year: for each month the refund for what was available of the service's own
/// instances, where the provider was what failed. What is bought at a broker is its provider's to keep running.
fn owed(question: &Question, bought: &Bought, seen: &Service, from: Timestamp) -> Option<Money> {
    let terms = question.town.estate.providers.get(&bought.provider)?.terms.as_ref()?;
    let month = bought.a_year?.0 / i128::from(MONTHS);
    let at_broker = question.town.kinds.get(&bought.provider) == Some(&Kind::Broker);
    let is_theirs = |outage: &&Outage| {
        ["provider out", "region out"].contains(&outage.cause) || (at_broker && THEIRS.contains(&outage.cause))
    };
    let theirs: Vec<Outage> = seen.own_outages.iter().filter(is_theirs).cloned().collect();
    let months = divided(&theirs, from, question.length, MONTHS as usize);
    let length = question.length / MONTHS;
    let refunds = months.into_iter().map(|lost| {
        let refund = terms.refund(Share::available(length, lost).percent());
        month * i128::from(refund.millionths()) / 1_000_000
    });
    Some(Money(refunds.sum()))
}

/// How much was lost in each of so many equal parts of a time; what an outage lost is spread evenly over it.
fn divided(outages: &[Outage], from: Timestamp, length: Duration, parts: usize) -> Vec<Duration> {
    let mut lost = vec![Duration::ZERO; parts];
    let part = (length.as_micros() / parts as u128).max(1);
    for outage in outages {
        let (begins, ends) = (outage.from.since(from).as_micros(), outage.until.since(from).as_micros());
        let whole = (ends - begins).max(1);
        let mut at = begins;
        while at < ends {
            let index = usize::try_from(at / part).unwrap_or(usize::MAX);
            let end = ((at / part + 1) * part).min(ends);
            if let Some(lost) = lost.get_mut(index) {
                let micros = outage.lost.as_micros() * (end - at) / whole;
                *lost += Duration::from_micros(u64::try_from(micros).unwrap_or(u64::MAX));
            }
            at = end;
        }
    }
    lost
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_share_shows_as_many_nines_as_it_has() {
        for (billionths, text) in [
            (1_000_000_000, "100"),
            (999_999_999, "99.9999999"),
            (999_500_000, "99.95"),
            (999_990_123, "99.99901"),
            (990_000_000, "99.0"),
            (123_456_789, "12.3"),
            (0, "0.0"),
        ] {
            assert_eq!(Share(billionths).to_string(), text);
        }
    }

    #[test]
    fn what_an_outage_lost_is_spread_over_it() {
        let second = |seconds: i64| Timestamp(seconds * 1_000_000);
        let outage =
            Outage { from: second(5), until: second(25), lost: Duration::from_secs(10), cause: "crash", need: None };
        let parts = divided(&[outage], second(0), Duration::from_secs(40), 4);
        let seconds: Vec<f64> = parts.iter().map(Duration::as_secs_f64).collect();
        assert_eq!(seconds, [2.5, 5.0, 2.5, 0.0]);
    }

    #[test]
    fn a_price_is_read_exactly_or_not_at_all() {
        let price = |amount: &str, currency: &str, per: &str| Price {
            amount: amount.to_owned(),
            currency: currency.to_owned(),
            per: per.to_owned(),
        };
        let year = |amount, currency, per| a_year(&price(amount, currency, per), "EUR").map(|money| money.to_string());
        assert_eq!(year("19.99", "EUR", "month").as_deref(), Some("239.88"));
        assert_eq!(year("0.0125", "EUR", "hour").as_deref(), Some("109.50"));
        for (amount, currency, per) in [
            ("19,99", "EUR", "month"),
            ("1", "USD", "month"),
            ("1", "EUR", "seat"),
            ("-1", "EUR", "year"),
            ("", "EUR", "year"),
        ] {
            assert_eq!(year(amount, currency, per), None, "{amount} {currency} {per}");
        }
    }
}
