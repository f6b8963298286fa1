//! Service credits: what a provider owes for a month in which less was available than it promises, by its own terms.
//!
//! Nothing here is stored: it follows from the outages that the ledger holds, from the terms that were declared last, and
//! from what was paid. Amounts are exact decimals; each credit is rounded to the cent, half to even, and only then added.
//!
//! Invariants: only time for which the diagnosis names the provider counts against it; what counts is never more than the
//! outage; nothing is claimed twice for one time.

mod counting;

use ostler_manager::{Claim, ClaimState};
use ostler_model::estate::Currency;
use ostler_model::estate::terms::{Percent, Terms};
use ostler_model::ids::{InstanceId, OfferingName, PlanName, ProviderName, ServiceName};
use ostler_model::month::{Month, Zone};
use ostler_model::time::Timestamp;
use rust_decimal::Decimal;
use serde::{Deserialize, Serialize};

use crate::apportion::apportion;
use crate::ledger::Ledger;
use crate::outages::Outage;
use crate::statement::{Kind, NoBooks};
use counting::Counting;

/// Months that are looked at where none is named: this one and so many before it.
const MONTHS_BACK: usize = 12;

/// What providers owe.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Credits {
    /// Whose books these are.
    pub estate: String,
    /// In what everything is counted.
    pub currency: Currency,
    /// As of when.
    pub now: Timestamp,
    /// From where was looked: the region of this machine, if the file names it.
    pub seen_from: Option<String>,
    /// By month, oldest first, and provider.
    pub all: Vec<MonthCredit>,
}

/// What one provider owes for one month.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MonthCredit {
    /// Who.
    pub provider: ProviderName,
    /// For which month.
    pub month: Month,
    /// By which calendar.
    pub zone: Zone,
    /// When it began.
    pub from: Timestamp,
    /// When it ends, or ended.
    pub ends: Timestamp,
    /// Until when it is counted.
    pub until: Timestamp,
    /// By which terms.
    pub terms: Terms,
    /// What was bought there, by instance.
    pub lines: Vec<Line>,
    /// What the lines add up to.
    pub sum: Decimal,
    /// What is owed: the sum, or as much of it as the terms allow; nothing where it is less than the least that is paid.
    pub due: Decimal,
    /// As much as the terms allow, where that is less than the sum.
    pub cut_to: Option<Decimal>,
    /// The sum is less than the least that is paid.
    pub too_little: bool,
    /// The first moment at which it is too late to claim it.
    pub deadline: Timestamp,
    /// What was claimed, and what came of it.
    pub claim: Option<Claim>,
}

/// What was delivered of one instance in a month, and what is owed for it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Line {
    /// Of which service.
    pub service: ServiceName,
    /// Which instance.
    pub instance: InstanceId,
    /// What was bought.
    pub offering: OfferingName,
    /// Which plan; the last one of the month.
    pub plan: PlanName,
    /// What was promised.
    pub promised: Option<Percent>,
    /// What was delivered, by the terms, rounded down.
    pub measured: Percent,
    /// Of how long a time that is the share, in microseconds.
    pub whole_us: u64,
    /// For how long it was held in that month, in microseconds.
    pub held_us: u64,
    /// How much of that counts as not available, in microseconds.
    pub down_us: u64,
    /// What share of the price is paid back.
    pub refund: Percent,
    /// What it cost in that month.
    pub price: Decimal,
    /// What is owed for it, to the cent.
    pub credit: Decimal,
    /// Its outages in that month.
    pub outages: Vec<OutageShown>,
}

/// An outage, with what counts of it and why the rest does not.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OutageShown {
    /// When it began.
    pub from: Timestamp,
    /// When it ended; `None` while it lasts.
    pub until: Option<Timestamp>,
    /// Why nobody saw how it ended, if nobody did.
    pub unseen_from: Option<String>,
    /// How much of it counts in this month, in microseconds.
    pub counted_us: u64,
    /// What of it does not count in this month, and why.
    pub not_counted: Vec<NotClaimed>,
    /// What was seen.
    pub seen: Vec<Told>,
    /// What was concluded.
    pub concluded: Vec<Told>,
}

/// A part of an outage that does not count.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NotClaimed {
    /// Why, as a sentence.
    pub why: String,
    /// How much, in microseconds.
    pub us: u64,
}

/// Something that was seen or concluded.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Told {
    /// When.
    pub at: Timestamp,
    /// The fact's number in the journal.
    pub fact: u64,
    /// In words.
    pub words: String,
    /// What speaks for it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub evidence: Vec<String>,
}

/// What one provider owes for a month, in short: for the books.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Owed {
    /// Who.
    pub provider: ProviderName,
    /// How far the claim is.
    pub state: ClaimState,
    /// How much that is: what is owed, what was claimed, or what was paid; of a refused claim what was claimed.
    pub amount: Decimal,
    /// The first moment at which it is too late to claim it.
    pub deadline: Timestamp,
    /// When the month began, by the provider's calendar.
    pub from: Timestamp,
    /// When it ends, or ended.
    pub ends: Timestamp,
    /// The amount in parts, by instance: they add up to it.
    pub parts: Vec<Part>,
}

/// A part of a credit.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Part {
    /// For which instance.
    pub instance: InstanceId,
    /// What was bought.
    pub offering: OfferingName,
    /// Which plan.
    pub plan: PlanName,
    /// How much.
    pub amount: Decimal,
}

impl MonthCredit {
    /// How far its claim is.
    pub fn state(&self) -> ClaimState {
        self.claim.as_ref().map_or(ClaimState::Open, |claim| claim.state)
    }

    /// Whether the month is over.
    pub fn is_over(&self) -> bool {
        self.until >= self.ends
    }

    /// Whether something is owed, is not claimed, and can still be.
    pub fn can_be_claimed(&self, now: Timestamp) -> bool {
        self.state() == ClaimState::Open && self.due > Decimal::ZERO && now < self.deadline
    }

    /// Whether there is something to tell of it.
    fn matters(&self) -> bool {
        self.claim.is_some() || self.sum > Decimal::ZERO
    }

    fn owed(&self, currency: &Currency) -> Owed {
        let state = self.state();
        let amount = match (&self.claim, state) {
            (Some(claim), ClaimState::Claimed | ClaimState::Refused) => claim.claimed.get(),
            (Some(claim), ClaimState::Paid) => claim.paid.get(),
            (_, ClaimState::Open) | (None, _) => self.due,
        };
        let credits: Vec<Decimal> = self.lines.iter().map(|line| line.credit).collect();
        let sum: Decimal = credits.iter().sum();
        // What was paid may be another amount than what was owed: it is borne in the same proportions.
        let parts: Vec<Decimal> =
            credits.iter().map(|credit| (amount * credit).checked_div(sum).unwrap_or(Decimal::ZERO)).collect();
        let parts = apportion(amount, &parts, currency.decimals());
        let parts = self.lines.iter().zip(parts).filter(|(_, amount)| *amount > Decimal::ZERO);
        let part = |(line, amount): (&Line, Decimal)| Part {
            instance: line.instance.clone(),
            offering: line.offering.clone(),
            plan: line.plan.clone(),
            amount,
        };
        let (provider, deadline) = (self.provider.clone(), self.deadline);
        Owed { provider, state, amount, deadline, from: self.from, ends: self.ends, parts: parts.map(part).collect() }
    }
}

impl Ledger {
    /// What providers owe for `month`; where none is named, for the present one, and for every month of the last year
    /// with something owed or claimed.
    ///
    /// # Errors
    /// If nothing is declared, or the month has not begun.
    pub fn credits(&self, month: Option<Month>, now: Timestamp) -> Result<Credits, NoBooks> {
        let declared = self.declared.as_ref().ok_or(NoBooks::NothingDeclared)?;
        let mut all = Vec::new();
        for (provider, terms, zone) in self.promising() {
            match month {
                Some(month) if month.bounds(&zone).0 > now => return Err(NoBooks::Future(month)),
                Some(month) => all.push(self.month_credit(provider, terms, &zone, month, (now, &declared.currency))),
                None => {
                    let present = Month::at(now, &zone);
                    all.push(self.month_credit(provider, terms, &zone, present, (now, &declared.currency)));
                    all.extend(self.past_credits(provider, terms, &zone, (now, &declared.currency)));
                }
            }
        }
        all.sort_by(|a, b| (a.month, &a.provider).cmp(&(b.month, &b.provider)));
        let here = declared.providers.values().find(|known| known.is_machine);
        Ok(Credits {
            estate: declared.estate.clone(),
            currency: declared.currency.clone(),
            now,
            seen_from: here.and_then(|known| known.region.clone()),
            all,
        })
    }

    /// What is owed for months that are over, is not claimed, and can still be. Costs nothing where nothing failed.
    pub fn claimable(&self, now: Timestamp) -> Vec<MonthCredit> {
        let Some(declared) = &self.declared else { return Vec::new() };
        let all = self.promising().flat_map(|(provider, terms, zone)| {
            self.past_credits(provider, terms, &zone, (now, &declared.currency)).collect::<Vec<_>>()
        });
        all.filter(|credit| credit.can_be_claimed(now)).collect()
    }

    /// What a provider delivered in `month`, also one that promises nothing; the present month if `None`.
    ///
    /// # Errors
    /// If nothing is declared, or the month has not begun.
    pub fn delivered(
        &self,
        provider: &ProviderName,
        month: Option<Month>,
        now: Timestamp,
    ) -> Result<MonthCredit, NoBooks> {
        let declared = self.declared.as_ref().ok_or(NoBooks::NothingDeclared)?;
        let nothing = Terms::default();
        let terms = self.promised.get(provider).unwrap_or(&nothing);
        let zone = terms.counting.zone.clone().unwrap_or_else(|| self.zone());
        let month = month.unwrap_or_else(|| Month::at(now, &zone));
        if month.bounds(&zone).0 > now {
            return Err(NoBooks::Future(month));
        }
        Ok(self.month_credit(provider, terms, &zone, month, (now, &declared.currency)))
    }

    /// The currency of the estate.
    pub fn currency(&self) -> Option<&Currency> {
        self.declared.as_ref().map(|declared| &declared.currency)
    }

    /// The providers that promise something.
    fn promising(&self) -> impl Iterator<Item = (&ProviderName, &Terms, Zone)> {
        let all = self
            .promised
            .iter()
            .map(|(provider, terms)| (provider, terms, terms.counting.zone.clone().unwrap_or_else(|| self.zone())));
        all.filter(|(_, terms, _)| terms.availability.is_some() || !terms.credits.is_empty())
    }

    /// The months of the last year, before the present one, with something owed or claimed.
    fn past_credits(
        &self,
        provider: &ProviderName,
        terms: &Terms,
        zone: &Zone,
        as_of: (Timestamp, &Currency),
    ) -> impl Iterator<Item = MonthCredit> {
        let months = std::iter::successors(Month::at(as_of.0, zone).before(), |month| month.before());
        let touched = move |month: &Month| {
            let bounds = month.bounds(zone);
            let of_month = |outage: &Outage| {
                outage.bought.provider == *provider
                    && outage.from < bounds.1
                    && outage.until.is_none_or(|until| until > bounds.0)
            };
            self.claims.of(provider, *month).is_some() || self.outages.of_each().any(|(_, outage)| of_month(outage))
        };
        let credits = months.take(MONTHS_BACK).filter(touched);
        credits.map(move |month| self.month_credit(provider, terms, zone, month, as_of)).filter(MonthCredit::matters)
    }

    /// What is owed, claimed or paid for `month`.
    pub(crate) fn owed(&self, month: Month, now: Timestamp) -> Vec<Owed> {
        let Some(declared) = &self.declared else { return Vec::new() };
        let credits = self.credits(Some(month), now).map(|credits| credits.all).unwrap_or_default();
        credits.iter().filter(|credit| credit.matters()).map(|credit| credit.owed(&declared.currency)).collect()
    }

    fn month_credit(
        &self,
        provider: &ProviderName,
        terms: &Terms,
        zone: &Zone,
        month: Month,
        (now, currency): (Timestamp, &Currency),
    ) -> MonthCredit {
        let (from, ends) = month.bounds(zone);
        let until = now.min(ends);
        let items = self.charged((from, ends), until);
        let price = |instance: &InstanceId| -> Decimal {
            let of_it = items.iter().filter(|item| {
                item.kind == Kind::Instance
                    && item.provider.as_ref() == Some(provider)
                    && item.instance.as_ref() == Some(instance)
            });
            of_it.map(crate::statement::Item::cost).sum()
        };
        let counted = Counting { ledger: self, provider, terms, month: (from, ends), until };
        let mut lines = counted.lines();
        for line in &mut lines {
            line.price = price(&line.instance);
            line.credit = currency.to_the_cent(line.price * share(line.refund));
        }
        let sum: Decimal = lines.iter().map(|line| line.credit).sum();
        let billed: Decimal = lines.iter().map(|line| line.price).sum();
        let most = terms.claims.at_most.map(|most| currency.to_the_cent(billed * share(most)));
        let cut_to = most.filter(|most| *most < sum);
        let owed = cut_to.unwrap_or(sum);
        let too_little = terms.claims.at_least.is_some_and(|least| owed > Decimal::ZERO && owed < least.get());
        MonthCredit {
            provider: provider.clone(),
            month,
            zone: zone.clone(),
            from,
            ends,
            until,
            terms: terms.clone(),
            lines,
            sum,
            due: if too_little { Decimal::ZERO } else { owed },
            cut_to,
            too_little,
            deadline: terms.claims.deadline(month, zone),
            claim: self.claims.of(provider, month).cloned(),
        }
    }
}

fn share(of: Percent) -> Decimal {
    Decimal::new(i64::from(of.millionths()), 6)
}
