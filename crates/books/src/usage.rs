//! From spans of time to the items of a month.
//!
//! Invariant: what was held in several pieces of time at one price is one item, so that it makes no difference how often
//! and where time was cut.

use std::collections::{BTreeMap, BTreeSet};

use ostler_model::estate::accounts::MachineCost;
use ostler_model::ids::{InstanceId, ProviderName, ServiceName};
use ostler_model::month::Month;
use ostler_model::time::Timestamp;
use rust_decimal::Decimal;

use crate::apportion::apportion;
use crate::carried::{Bytes, Carried, CarriedBytes, CarriedSpan};
use crate::ledger::{Bought, Held, Ledger, Spent};
use crate::machine::{DECIMALS, a_month, rounded};
use crate::statement::{Item, Kind, NotCounted};
use ostler_model::charge::{Charge, Per, Term};

const HOUR: u128 = 3_600_000_000;

/// A piece of time, in microseconds since 1970.
type Piece = (Timestamp, Timestamp);

/// What was used of one thing at one price.
#[derive(Clone, Copy)]
struct Used {
    micros: u128,
    /// How often it was bought.
    times: u32,
    from: Timestamp,
    until: Timestamp,
}

impl Ledger {
    pub(crate) fn spans(&self) -> impl Iterator<Item = (&InstanceId, &Held, Option<Timestamp>)> {
        let past = self.past.iter().map(|span| (&span.instance, &span.held, Some(span.until)));
        past.chain(self.held.iter().map(|(instance, held)| (instance, held, None)))
    }

    fn region(&self, provider: &ProviderName) -> Option<String> {
        self.declared.as_ref()?.providers.get(provider)?.region.clone()
    }

    /// What was, or will be, used of `month` until `until`, which is not after its end.
    pub(crate) fn items(&self, month: Month, until: Timestamp) -> Vec<Item> {
        let (begins, ends) = month.bounds(&self.zone());
        let mut items = self.carried_items(month, None);
        items.extend(self.items_but_carried(month, (begins, ends), until));
        items
    }

    /// The same until the month ends, if as much goes on to be carried as was.
    pub(crate) fn forecast(&self, month: Month, now: Timestamp) -> Vec<Item> {
        let (begins, ends) = month.bounds(&self.zone());
        let mut items = self.carried_items(month, Some(now).filter(|now| *now < ends));
        items.extend(self.items_but_carried(month, (begins, ends), ends));
        items
    }

    /// What passed through endpoints and costs something; with what will until the month ends if it is `now`.
    fn carried_items(&self, month: Month, now: Option<Timestamp>) -> Vec<Item> {
        let (begins, ends) = month.bounds(&self.zone());
        let mut items = Vec::new();
        for (service, carried) in &self.carried {
            let spans: Vec<&CarriedSpan> = carried.spans.iter().filter(|span| span.month == month).collect();
            for (index, span) in spans.iter().enumerate() {
                let from = span.from.max(begins);
                let until = span.until.min(ends).max(from);
                let mut quantity = decimal(u128::from(span.bytes.both())) / Decimal::from(1_000_000_000);
                // Only of what it is bought as now more will come.
                if let Some(now) = now.filter(|_| index + 1 == spans.len()) {
                    let (counted, left) = (now.since(from).as_micros(), ends.since(now).as_micros());
                    if counted >= HOUR {
                        quantity += quantity * part(left, counted);
                    }
                }
                let until = if now.is_some() { ends } else { until };
                items.extend(
                    span.charges
                        .iter()
                        .map(|charge| self.carried_item(service, span, charge, (from, until), rounded(quantity))),
                );
            }
        }
        items
    }

    fn carried_item(
        &self,
        service: &ServiceName,
        span: &CarriedSpan,
        charge: &Charge,
        (from, until): Piece,
        quantity: Decimal,
    ) -> Item {
        let bought = span.bought.as_ref();
        Item {
            kind: Kind::Traffic,
            service: Some(service.clone()),
            instance: None,
            provider: bought.map(|bought| bought.provider.clone()),
            region: bought.and_then(|bought| self.region(&bought.provider)),
            offering: bought.map(|bought| bought.offering.clone()),
            plan: bought.map(|bought| bought.plan.clone()),
            from,
            until,
            per: charge.per,
            quantity,
            price: (charge.amount.get() * charge.rate.get()).normalize(),
            stated: (charge.rate != ostler_model::money::Amount::ONE).then(|| (charge.amount, charge.currency.clone())),
        }
    }

    /// What was carried in `month`, by service, whether it costs anything or not.
    pub(crate) fn carried_in(&self, month: Month) -> Vec<CarriedBytes> {
        let of = |carried: &Carried| {
            let spans = carried.spans.iter().filter(|span| span.month == month);
            spans.fold(Bytes::default(), |sum, span| sum.plus(span.bytes))
        };
        let all =
            self.carried.iter().map(|(service, carried)| CarriedBytes { service: service.clone(), bytes: of(carried) });
        all.filter(|carried| carried.bytes.both() > 0).collect()
    }

    fn items_but_carried(&self, month: Month, (begins, ends): Piece, until: Timestamp) -> Vec<Item> {
        let of_month = (begins, ends);
        let mut items = self.charged(of_month, until);
        items.extend(self.of_machines(of_month, until));
        items.extend(self.backups(month, of_month, until));
        items
    }

    pub(crate) fn charged(&self, (begins, ends): Piece, until: Timestamp) -> Vec<Item> {
        let mut used: BTreeMap<(&InstanceId, &Bought, &Charge), Used> = BTreeMap::new();
        for (instance, held, over) in self.spans() {
            let (from, last) = (held.from.max(begins), over.unwrap_or(until).min(until));
            let is_bought = held.anew && held.from >= begins && held.from < until;
            for charge in held.terms.iter().filter_map(charge) {
                let counts = match charge.per {
                    Per::Once => is_bought,
                    // That is counted by what was carried, not by how long it was there.
                    Per::Gigabyte => false,
                    Per::Month | Per::Year | Per::Day | Per::Hour | Per::GigabyteMonth => from < last,
                };
                if !counts {
                    continue;
                }
                let found = used.entry((instance, &held.bought, charge));
                let found = found.or_insert(Used { micros: 0, times: 0, from, until: from });
                found.micros += last.since(from).as_micros();
                found.times += u32::from(is_bought);
                found.from = found.from.min(from);
                found.until = found.until.max(last);
            }
        }
        let month = ends.since(begins).as_micros();
        used.into_iter()
            .map(|((instance, bought, charge), used)| self.item(instance, bought, charge, used, month))
            .collect()
    }

    fn item(&self, instance: &InstanceId, bought: &Bought, charge: &Charge, used: Used, month: u128) -> Item {
        let quantity = match charge.per {
            Per::Month => part(used.micros, month),
            Per::Year => part(used.micros, month * 12),
            Per::Day => part(used.micros, 24 * HOUR),
            Per::Hour => part(used.micros, HOUR),
            Per::Once | Per::GigabyteMonth | Per::Gigabyte => Decimal::from(used.times),
        };
        Item {
            kind: if charge.per == Per::Once { Kind::Purchase } else { Kind::Instance },
            service: Some(instance.service().clone()),
            instance: Some(instance.clone()),
            provider: Some(bought.provider.clone()),
            region: self.region(&bought.provider),
            offering: Some(bought.offering.clone()),
            plan: Some(bought.plan.clone()),
            from: used.from,
            until: used.until,
            per: charge.per,
            quantity,
            price: (charge.amount.get() * charge.rate.get()).normalize(),
            stated: (charge.rate != ostler_model::money::Amount::ONE).then(|| (charge.amount, charge.currency.clone())),
        }
    }

    /// What machines cost, borne by what was on them in proportion to the time for which it was.
    fn of_machines(&self, (begins, ends): Piece, until: Timestamp) -> Vec<Item> {
        let past = self.past_machines.iter().map(|past| (&past.provider, &past.machine, past.until));
        let all = past.chain(self.machines.iter().map(|(provider, machine)| (provider, machine, until)));
        let mut items = Vec::new();
        for (provider, machine, over) in all {
            let (from, until) = (machine.from.max(begins), over.min(until));
            if from < until {
                items.extend(self.of_machine(provider, &machine.cost, (begins, ends), (from, until)));
            }
        }
        items
    }

    fn of_machine(
        &self,
        provider: &ProviderName,
        cost: &MachineCost,
        (begins, ends): Piece,
        (from, until): Piece,
    ) -> Vec<Item> {
        let month = ends.since(begins).as_micros();
        let price = a_month(cost, part(month, HOUR));
        let whole = part(until.since(from).as_micros(), month);
        let mut on_it: BTreeMap<(&InstanceId, &Bought), u128> = BTreeMap::new();
        for (instance, held, over) in self.spans().filter(|(_, held, _)| held.bought.provider == *provider) {
            let (begins, ends) = (held.from.max(from), over.unwrap_or(until).min(until));
            if begins < ends {
                *on_it.entry((instance, &held.bought)).or_default() += ends.since(begins).as_micros();
            }
        }
        let item = |kind, instance: Option<&InstanceId>, bought: Option<&Bought>, quantity| Item {
            kind,
            service: instance.map(|instance| instance.service().clone()),
            instance: instance.cloned(),
            provider: Some(provider.clone()),
            region: self.region(provider),
            offering: bought.map(|bought| bought.offering.clone()),
            plan: bought.map(|bought| bought.plan.clone()),
            from,
            until,
            per: Per::Month,
            quantity,
            price,
            stated: None,
        };
        let all: u128 = on_it.values().sum();
        if all == 0 {
            return vec![item(Kind::Unused, None, None, whole)];
        }
        let parts: Vec<Decimal> = on_it.values().map(|micros| whole * decimal(*micros) / decimal(all)).collect();
        let parts = apportion(whole, &parts, DECIMALS);
        let each = on_it.into_keys().zip(parts);
        each.map(|((instance, bought), quantity)| {
            item(Kind::Machine, Some(instance), Some(bought), quantity.normalize())
        })
        .collect()
    }

    fn backups(&self, month: Month, (begins, ends): Piece, until: Timestamp) -> Vec<Item> {
        let length = ends.since(begins).as_micros();
        let mut items = Vec::new();
        for (service, Spent { price, from, until, volume, .. }) in self.spent_in(month, until) {
            let Some(price) = price else { continue };
            // The month as it was counted then may have been another one's by an hour, where the calendar was changed.
            items.push(Item {
                kind: Kind::Backups,
                service: Some(service.clone()),
                instance: None,
                provider: None,
                region: None,
                offering: None,
                plan: None,
                from: from.max(begins),
                until: until.min(ends),
                per: Per::GigabyteMonth,
                quantity: gigabytes(volume, length),
                price: price.get(),
                stated: None,
            });
        }
        items
    }

    fn spent_in(&self, month: Month, until: Timestamp) -> impl Iterator<Item = (&ServiceName, Spent)> {
        let of_month = move |spent: &Spent| spent.month == month && spent.volume > 0;
        self.spent_until(until)
            .flat_map(move |(service, spent)| spent.into_iter().filter(of_month).map(move |spent| (service, spent)))
    }

    /// What was used of `month` and has no price that can be counted.
    pub(crate) fn not_counted(&self, month: Month, until: Timestamp) -> Vec<NotCounted> {
        let begins = month.bounds(&self.zone()).0;
        let mut found: BTreeSet<NotCounted> = BTreeSet::new();
        for (instance, held, over) in self.spans() {
            if held.from.max(begins) >= over.unwrap_or(until).min(until) {
                continue;
            }
            for term in &held.terms {
                let Term::NotCounted { said, why } = term else { continue };
                found.insert(NotCounted {
                    service: Some(instance.service().clone()),
                    provider: Some(held.bought.provider.clone()),
                    plan: Some(held.bought.plan.clone()),
                    said: said.clone(),
                    why: why.clone(),
                });
            }
            let provider = &held.bought.provider;
            let known = self.declared.as_ref().and_then(|declared| declared.providers.get(provider));
            if known.is_some_and(|known| known.is_machine && known.pricing.machine.is_none()) {
                found.insert(NotCounted {
                    service: None,
                    provider: Some(provider.clone()),
                    plan: None,
                    said: String::new(),
                    why: format!("`[provider.{provider}.cost]` does not say what this machine costs"),
                });
            }
        }
        if self.spent_in(month, until).any(|(_, spent)| spent.price.is_none()) {
            found.insert(NotCounted {
                service: None,
                provider: None,
                plan: None,
                said: String::new(),
                why: "`[backups] gb_month` does not say what it costs to keep backups".to_owned(),
            });
        }
        found.into_iter().collect()
    }
}

fn charge(term: &Term) -> Option<&Charge> {
    match term {
        Term::Charged(charge) => Some(charge),
        Term::NotCounted { .. } => None,
    }
}

fn decimal(micros: u128) -> Decimal {
    Decimal::from_i128_with_scale(i128::try_from(micros).unwrap_or(i128::MAX), 0)
}

/// How much of `whole` it is, to 12 decimals, half to even. Both are microseconds, of which a thousand years have 17 digits.
pub(crate) fn part(micros: u128, whole: u128) -> Decimal {
    rounded(decimal(micros) / decimal(whole.max(1)))
}

/// Bytes times microseconds as gigabytes times months.
fn gigabytes(volume: u128, month: u128) -> Decimal {
    // A gigabyte for a microsecond is far below what the 12th decimal says.
    let gigabytes = decimal(volume / 1_000_000_000);
    rounded(gigabytes / decimal(month.max(1)))
}
