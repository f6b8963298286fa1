//! What each override has cost so far: money, time in which nothing of a service served, and updates that stay open.
//!
//! The manager says what would be without an override, and when that changes (`override-weighed`). From that, and from
//! what was held at which price, follows what it costs: the price of the plan that it is because of the override less
//! that of the plan that it would be, for as long as that is so. Less than nothing is told as well: then it saves.
//!
//! Invariants: it holds spans of time, not money, so that it makes no difference how often and where time was cut; nothing
//! accrues after an override's end, whenever that is recorded.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use ostler_manager::{Difference, Differences, Elsewhere, Fact, FactKind, Instruction, Place, Untreated, WhyEnded};
use ostler_model::charge::{self, Charge, Per, Term, unknown};
use ostler_model::ids::{InstanceId, ProviderName, ServiceName};
use ostler_model::month::Month;
use ostler_model::overrides::OverrideId;
use ostler_model::time::{Timestamp, rfc3339};
use rust_decimal::Decimal;
use serde::{Deserialize, Serialize};

use crate::ledger::{Bought, Ledger};
use crate::usage::part;

const DAY: u128 = 86_400_000_000;
const HOUR: u128 = 3_600_000_000;

/// What is known of one override.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Account {
    instruction: Instruction,
    owner: String,
    reason: String,
    began: Timestamp,
    until: Timestamp,
    ended: Option<(Timestamp, WhyEnded)>,
    /// What would be without it, or would have been when it ended.
    without: Differences,
    /// Where services are that would be elsewhere.
    places: BTreeMap<ServiceName, Stretch>,
    /// Where they were.
    past: Vec<(Stretch, Timestamp)>,
    /// Services of which an instance would be treated otherwise.
    outages: BTreeMap<ServiceName, Outage>,
    /// In which nothing served, by the time that the remedy would have taken; microseconds.
    outage_us: u64,
    /// Until when open updates are counted.
    counted: Timestamp,
    /// Open updates times the time for which they were; microseconds.
    update_us: u64,
}

/// A service is at one price and would be at another.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Stretch {
    elsewhere: Elsewhere,
    /// How many instances of it there are.
    count: u32,
    with: Vec<Term>,
    instead: Vec<Term>,
    from: Timestamp,
}

impl Stretch {
    fn is_like(&self, other: &Self) -> bool {
        (&self.elsewhere, self.count, &self.with, &self.instead)
            == (&other.elsewhere, other.count, &other.with, &other.instead)
    }
}

/// A service of which an instance would be treated otherwise.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Outage {
    /// When each of its instances would be well again.
    due: BTreeMap<InstanceId, Timestamp>,
    /// Nothing of it serves now.
    away: bool,
    /// Until when that is counted.
    counted: Timestamp,
}

/// What an override has cost so far.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OverrideCost {
    /// Its id.
    pub id: OverrideId,
    /// `pin`, `hold`, `forbid-provider`, `skip-upgrade`, `freeze` or `force-remedy`.
    pub kind: String,
    /// What it says, in words.
    pub what: String,
    /// The service that it is about, if it is about one.
    pub service: Option<ServiceName>,
    /// The provider that it names, if it names one.
    pub provider: Option<ProviderName>,
    /// Who answers for it.
    pub owner: String,
    /// Why.
    pub reason: String,
    /// Since when.
    #[serde(with = "rfc3339")]
    pub began: Timestamp,
    /// Until when it was to stand.
    #[serde(with = "rfc3339")]
    pub until: Timestamp,
    /// When it ended, if it has.
    #[serde(with = "rfc3339::option")]
    pub ended: Option<Timestamp>,
    /// Why it ended, if it has.
    pub because: Option<String>,
    /// What would be otherwise without it; or would have been at its end.
    pub without: Vec<Without>,
    /// What it has cost beyond what would have been paid, to the cent; less than nothing if it saves.
    pub money: Decimal,
    /// In which currency; `None` before an estate is declared.
    pub currency: Option<String>,
    /// For how long nothing of a service served that would have been healed by then, in seconds.
    pub outage_seconds: u64,
    /// How many updates are open now.
    pub updates: u32,
    /// How many days updates were open, added up over all of them, to a tenth.
    pub update_days: Decimal,
    /// What has no price that can be counted, and why.
    pub not_counted: Vec<String>,
}

/// One thing that would be otherwise without an override.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Without {
    /// What, in words.
    pub what: String,
    /// What it would cost a month; for where services are bought.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub monthly: Option<Decimal>,
    /// What it costs a month.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub instead_of: Option<Decimal>,
}

impl Ledger {
    /// What every override has cost until `now`, the dearest first: by money, then by time in which nothing served, then
    /// by open updates.
    pub fn overrides(&self, now: Timestamp) -> Vec<OverrideCost> {
        let mut all: Vec<OverrideCost> =
            self.overrides.iter().map(|(id, account)| self.cost(*id, account, now)).collect();
        all.sort_by_key(|it| {
            std::cmp::Reverse((it.money, it.outage_seconds, it.update_days, std::cmp::Reverse(it.id)))
        });
        all
    }

    /// Makes what a fact says of overrides part of the books; to be called when all else of it is.
    pub(crate) fn fold_overrides(&mut self, fact: &Fact) {
        let at = fact.at;
        match &fact.kind {
            FactKind::OverrideBegan { id, instruction, owner, reason, until } => {
                let account = Account::new(instruction, owner, reason, at, *until);
                self.overrides.entry(*id).or_insert(account);
            }
            FactKind::OverrideWeighed { id, difference } => {
                if let Some(account) = self.overrides.get_mut(id) {
                    account.note(difference, at);
                }
            }
            FactKind::OverrideEnded { id, end } => {
                if let Some(account) = self.overrides.get_mut(id).filter(|account| account.ended.is_none()) {
                    account.end(end, at);
                }
            }
            _ => {}
        }
        // Prices, places, and what is held may have changed with any fact that is read at all.
        if self.overrides.values().any(Account::has_places) {
            self.look_at_places(at);
        }
    }

    fn look_at_places(&mut self, at: Timestamp) {
        let mut overrides = std::mem::take(&mut self.overrides);
        for account in overrides.values_mut().filter(|account| account.has_places()) {
            let at = at.min(account.until);
            let now = account.without.places.iter().map(|(service, elsewhere)| {
                let terms = |place: &Place| {
                    let bought = bought(place);
                    self.terms(&bought).unwrap_or_else(|| vec![unknown("its provider's prices are not known")])
                };
                let (with, instead) = (terms(&elsewhere.with), terms(&elsewhere.instead));
                let count = self.count_held(service);
                (service.clone(), Stretch { elsewhere: elsewhere.clone(), count, with, instead, from: at })
            });
            let now = now.collect();
            account.go_on_at(now, at);
        }
        self.overrides = overrides;
    }

    fn cost(&self, id: OverrideId, account: &Account, now: Timestamp) -> OverrideCost {
        let mut account = account.clone();
        account.accrue(now);
        let until = account.ended.as_ref().map_or(account.until, |(ended, _)| *ended).min(now);
        let open = account.places.values().map(|stretch| (stretch, until));
        let stretches: Vec<(&Stretch, Timestamp)> =
            account.past.iter().map(|(stretch, until)| (stretch, *until)).chain(open).collect();
        let currency = self.declared.as_ref().map(|declared| declared.currency.clone());
        let money = self.money(&stretches);
        let updates = account.updates();
        let (ended, because) = match &account.ended {
            Some((at, why)) => (Some(*at), Some(why.in_words())),
            None if account.until <= now => (Some(account.until), Some(WhyEnded::Expired.in_words())),
            None => (None, None),
        };
        OverrideCost {
            id,
            kind: account.instruction.word().to_owned(),
            what: account.instruction.to_string(),
            service: account.instruction.service().cloned(),
            provider: match &account.instruction {
                Instruction::Pin { provider, .. } | Instruction::ForbidProvider { provider } => Some(provider.clone()),
                _ => None,
            },
            without: account.without.all().map(|difference| self.without(&difference)).collect(),
            money: currency.as_ref().map_or(money, |currency| currency.to_the_cent(money)),
            currency: currency.map(|currency| currency.as_str().to_owned()),
            outage_seconds: account.outage_us / 1_000_000,
            updates: if ended.is_some() { 0 } else { updates },
            update_days: {
                let mut days = (Decimal::from(account.update_us) / decimal(DAY)).round_dp(1);
                days.rescale(1);
                days
            },
            not_counted: not_counted(&stretches),
            owner: account.owner,
            reason: account.reason,
            began: account.began,
            until: account.until,
            ended,
            because,
        }
    }

    fn without(&self, difference: &Difference) -> Without {
        let monthly = |place: &Place| {
            let each = charge::a_month(&self.terms(&bought(place))?)?;
            let declared = self.declared.as_ref()?;
            Some(declared.currency.to_the_cent(each * Decimal::from(self.count_held(difference.service()).max(1))))
        };
        let (of, instead_of) = match difference {
            Difference::Place { instead: Some(it), .. } => (monthly(&it.instead), monthly(&it.with)),
            _ => (None, None),
        };
        Without { what: difference.in_words(), monthly: of, instead_of }
    }

    /// What was paid less what would have been. Of each price, all the time for which it held is added up first, so that
    /// nothing is rounded more than once.
    fn money(&self, stretches: &[(&Stretch, Timestamp)]) -> Decimal {
        let zone = self.zone();
        let mut used: BTreeMap<(bool, Month, &Charge), (u128, u128)> = BTreeMap::new();
        for (stretch, until) in stretches {
            let mut from = stretch.from;
            while from < *until {
                let month = Month::at(from, &zone);
                let (begins, ends) = month.bounds(&zone);
                let last = if ends > from { ends.min(*until) } else { *until };
                let micros = last.since(from).as_micros() * u128::from(stretch.count);
                for (is_with, terms) in [(true, &stretch.with), (false, &stretch.instead)] {
                    for charge in terms.iter().filter_map(charge) {
                        let found = used.entry((is_with, month, charge)).or_insert((0, ends.since(begins).as_micros()));
                        found.0 += micros;
                    }
                }
                from = last;
            }
        }
        let each = used.into_iter().map(|((is_with, _, charge), (micros, month))| {
            let quantity = match charge.per {
                Per::Month => part(micros, month),
                Per::Year => part(micros, month * 12),
                Per::Day => part(micros, DAY),
                Per::Hour => part(micros, HOUR),
                // What is paid once is paid for having it, not for the time.
                Per::Once | Per::GigabyteMonth | Per::Gigabyte => Decimal::ZERO,
            };
            let cost = charge.amount.get() * charge.rate.get() * quantity;
            if is_with { cost } else { -cost }
        });
        each.sum()
    }
}

impl Account {
    fn new(instruction: &Instruction, owner: &str, reason: &str, began: Timestamp, until: Timestamp) -> Self {
        Self {
            instruction: instruction.clone(),
            owner: owner.to_owned(),
            reason: reason.to_owned(),
            began,
            until,
            ended: None,
            without: Differences::default(),
            places: BTreeMap::new(),
            past: Vec::new(),
            outages: BTreeMap::new(),
            outage_us: 0,
            counted: began,
            update_us: 0,
        }
    }

    fn has_places(&self) -> bool {
        self.ended.is_none() && !(self.without.places.is_empty() && self.places.is_empty())
    }

    fn updates(&self) -> u32 {
        self.without.upgrades.values().fold(0, |sum, newer| sum.saturating_add(newer.updates))
    }

    /// Counts everything up to `at`, or to its end.
    fn accrue(&mut self, at: Timestamp) {
        if self.ended.is_some() {
            return;
        }
        let at = at.min(self.until);
        for outage in self.outages.values_mut() {
            let due = outage.due.values().min().copied().unwrap_or(at);
            if outage.away {
                self.outage_us = self.outage_us.saturating_add(micros(at.since(outage.counted.max(due))));
            }
            outage.counted = outage.counted.max(at);
        }
        let open = u64::from(self.updates()).saturating_mul(micros(at.since(self.counted)));
        self.update_us = self.update_us.saturating_add(open);
        self.counted = self.counted.max(at);
    }

    fn note(&mut self, difference: &Difference, at: Timestamp) {
        if self.ended.is_some() {
            return;
        }
        self.accrue(at);
        self.without.note(difference);
        if let Difference::Remedy { instance, instead } = difference {
            let outage = self.outages.entry(instance.service().clone()).or_default();
            match instead {
                Some(Untreated { takes_ms, away, .. }) => {
                    if outage.due.is_empty() {
                        outage.counted = at;
                    }
                    outage.due.entry(instance.clone()).or_insert(at + Duration::from_millis(*takes_ms));
                    outage.away = *away;
                }
                None => drop(outage.due.remove(instance)),
            }
            self.outages.retain(|_, outage| !outage.due.is_empty());
        }
    }

    fn end(&mut self, why: &WhyEnded, at: Timestamp) {
        let at = if *why == WhyEnded::Expired { self.until } else { at.min(self.until) };
        self.accrue(at);
        self.go_on_at(BTreeMap::new(), at);
        self.ended = Some((at, why.clone()));
    }

    /// From `at` on services are, and would be, at these places and prices.
    fn go_on_at(&mut self, now: BTreeMap<ServiceName, Stretch>, at: Timestamp) {
        let former = std::mem::take(&mut self.places);
        for (service, stretch) in former {
            match now.get(&service) {
                Some(same) if same.is_like(&stretch) => drop(self.places.insert(service, stretch)),
                Some(_) | None if stretch.from < at => self.past.push((stretch, at)),
                Some(_) | None => {}
            }
        }
        for (service, stretch) in now {
            self.places.entry(service).or_insert(stretch);
        }
    }
}

fn bought(place: &Place) -> Bought {
    let Place { provider, offering, plan } = place.clone();
    Bought { provider, offering, plan }
}

fn charge(term: &Term) -> Option<&Charge> {
    match term {
        Term::Charged(charge) => Some(charge),
        Term::NotCounted { .. } => None,
    }
}

fn not_counted(stretches: &[(&Stretch, Timestamp)]) -> Vec<String> {
    let mut found: BTreeSet<String> = BTreeSet::new();
    for (stretch, _) in stretches {
        let Elsewhere { with, instead } = &stretch.elsewhere;
        for (place, terms) in [(with, &stretch.with), (instead, &stretch.instead)] {
            for term in terms {
                match term {
                    Term::NotCounted { said, why } if said.is_empty() => drop(found.insert(format!("{place}: {why}"))),
                    Term::NotCounted { said, why } => drop(found.insert(format!("{place} ({said}): {why}"))),
                    Term::Charged(charge) if charge.per == Per::Once => {
                        found.insert(format!("{place}: {charge} is not a price for time"));
                    }
                    Term::Charged(_) => {}
                }
            }
        }
    }
    found.into_iter().collect()
}

fn micros(length: Duration) -> u64 {
    u64::try_from(length.as_micros()).unwrap_or(u64::MAX)
}

fn decimal(micros: u128) -> Decimal {
    Decimal::from_i128_with_scale(i128::try_from(micros).unwrap_or(i128::MAX), 0)
}
