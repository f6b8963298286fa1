//! Service credits: what a provider owes for a month in which less was available than it promises, by its own terms.
//!
//! Nothing here is stored: it follows from the outages that the ledger holds, from the terms that were declared last, and
//! from what was paid. Amounts are exact decimals; each credit is rounded to the cent, half to even, and only then added.
//!
//! Invariants: only time for which the diagnosis names the provider counts against it; what counts is never more than the
//! outage; nothing is claimed twice for one time.

use ostler_manager::diagnosis::{Cause, Fault};
use ostler_manager::{Claim, ClaimState};
use ostler_model::estate::Currency;
use ostler_model::estate::claims::Whole;
use ostler_model::estate::terms::{Percent, Terms};
use ostler_model::ids::{InstanceId, OfferingName, PlanName, ProviderName, ServiceName};
use ostler_model::month::{Month, Zone};
use ostler_model::time::Timestamp;
use rust_decimal::Decimal;
use serde::{Deserialize, Serialize};

use crate::apportion::apportion;
use crate::ledger::Ledger;
use crate::outages::{Outage, Unseen};
use crate::spans::{Piece, clipped, length, lengths, unified, within, without};
use crate::statement::{Kind, NoBooks};

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

/// What is counted of one provider in one month.
struct Counting<'a> {
    ledger: &'a Ledger,
    provider: &'a ProviderName,
    terms: &'a Terms,
    month: Piece,
    until: Timestamp,
}

impl Counting<'_> {
    fn lines(&self) -> Vec<Line> {
        let mut lines: Vec<(Line, Vec<Piece>)> = Vec::new();
        let here = self.ledger.spans().filter(|(_, held, _)| held.bought.provider == *self.provider);
        for (instance, held, over) in here {
            let piece = (held.from, over.unwrap_or(self.until).min(self.until));
            if clipped(piece, self.month).is_none() || self.is_own(instance.service()) {
                continue;
            }
            match lines.iter_mut().find(|(line, _)| line.instance == *instance) {
                Some((line, pieces)) => {
                    line.plan = held.bought.plan.clone();
                    pieces.push(piece);
                }
                None => lines.push((self.line(instance, &held.bought.offering, &held.bought.plan), vec![piece])),
            }
        }
        lines.sort_by(|(a, _), (b, _)| a.instance.cmp(&b.instance));
        lines.into_iter().map(|(line, pieces)| self.filled(line, &unified(pieces))).collect()
    }

    fn is_own(&self, service: &ServiceName) -> bool {
        self.ledger.declared.as_ref().is_some_and(|declared| declared.programs.contains(service))
    }

    fn line(&self, instance: &InstanceId, offering: &OfferingName, plan: &PlanName) -> Line {
        Line {
            service: instance.service().clone(),
            instance: instance.clone(),
            offering: offering.clone(),
            plan: plan.clone(),
            promised: self.terms.availability.or(self.terms.credits.first().map(|credit| credit.below)),
            measured: Percent::WHOLE,
            whole_us: 0,
            held_us: 0,
            down_us: 0,
            refund: Percent::ZERO,
            price: Decimal::ZERO,
            credit: Decimal::ZERO,
            outages: Vec::new(),
        }
    }

    /// The line with what was measured while it was held.
    fn filled(&self, mut line: Line, held: &[Piece]) -> Line {
        let whole = match self.terms.counting.whole {
            Whole::Month => length(self.month),
            Whole::Held => lengths(&within(held, self.month)),
        };
        let mut maintained = 0;
        let all = self.ledger.outages.of_each().filter(|(id, outage)| {
            **id == line.instance && outage.bought.provider == *self.provider && outage.from < self.until
        });
        for (_, outage) in all {
            let shown = self.shown(&line.service, outage, held, &mut maintained);
            line.down_us += shown.counted_us;
            if shown.counted_us > 0 || !shown.not_counted.is_empty() {
                line.outages.push(shown);
            }
        }
        line.whole_us = whole;
        line.held_us = lengths(&within(held, self.month));
        line.down_us = line.down_us.min(whole);
        let up = u128::from(whole - line.down_us) * u128::from(Percent::WHOLE.millionths());
        let up = u32::try_from(up.checked_div(u128::from(whole)).unwrap_or(u128::MAX)).ok();
        line.measured = up.and_then(Percent::from_millionths).unwrap_or(Percent::WHOLE);
        line.refund = self.terms.refund(line.measured);
        line
    }

    /// What of an outage counts. `maintained` is how much of the month was not counted because of maintenance so far.
    fn shown(&self, service: &ServiceName, outage: &Outage, held: &[Piece], maintained: &mut u64) -> OutageShown {
        let all = (outage.from, outage.until.unwrap_or(self.until).min(self.until));
        let mut sieve = Sieve { left: within(held, all), month: self.month, not_counted: Vec::new() };
        self.sift_blame(outage, all, &mut sieve);
        let rules = &self.terms.counting;
        let excluded = self.ledger.declared.as_ref().and_then(|declared| declared.excluded.get(service));
        for exclusion in excluded.into_iter().flatten() {
            let openings = exclusion.window.openings(all.0, all.1).map(|opening| (opening.from, opening.until));
            sieve.take(&openings.collect::<Vec<_>>(), || {
                format!("the estate excludes {}: {}", exclusion.window, exclusion.reason)
            });
        }
        self.sift_maintenance(all, &mut sieve, maintained);
        if let Some(least) = rules.failed {
            let served = outage.callers.iter().filter(|count| {
                u128::from(count.failed) * u128::from(Percent::WHOLE.millionths())
                    < u128::from(count.asked) * u128::from(least.millionths())
            });
            let served: Vec<Piece> = served.map(|count| (count.from, count.until)).collect();
            sieve.take(&unified(served), || format!("less than {least} of what callers asked failed"));
        }
        if let Some(least) = rules.outage_from {
            let short = sieve.left.iter().copied().filter(|piece| u128::from(length(*piece)) < least.get().as_micros());
            let short: Vec<Piece> = short.collect();
            sieve.take(&short, || format!("an outage counts from {least} on"));
        }
        if let Some(step) = rules.outage_step {
            let step_us = i64::try_from(step.get().as_micros()).unwrap_or(i64::MAX);
            let whole = |(from, until): &Piece| {
                let begins = from.0.div_euclid(step_us) + i64::from(from.0.rem_euclid(step_us) > 0);
                let (begins, ends) = (begins.saturating_mul(step_us), until.0.div_euclid(step_us) * step_us);
                (begins < ends).then_some((Timestamp(begins), Timestamp(ends)))
            };
            let whole: Vec<Piece> = sieve.left.iter().filter_map(whole).collect();
            let rest = without(&sieve.left, &whole);
            sieve.take(&rest, || format!("only whole pieces of {step} count"));
        }
        let Sieve { left, not_counted, .. } = sieve;
        OutageShown {
            from: outage.from,
            until: outage.until,
            unseen_from: outage.unseen_from.map(|unseen| unseen.in_words().to_owned()),
            counted_us: lengths(&within(&left, self.month)),
            not_counted,
            seen: outage.seen.iter().map(|sight| told(sight.at, sight.fact.0, &sight.words)).collect(),
            concluded: conclusions(outage),
        }
    }

    /// Takes out what is not the provider's fault.
    fn sift_blame(&self, outage: &Outage, all: Piece, sieve: &mut Sieve) {
        if let Some(number) = outage.drill {
            sieve.take(&[all], || format!("it was caused on purpose, by drill {number}"));
        }
        if let Some(order) = outage.ordered {
            sieve.take(&[all], || format!("it began while ostler itself changed the instance (fact {order})"));
        }
        let first = outage.concluded.first().map_or(all.1, |concluded| concluded.at);
        sieve.take(&[(all.0, first)], || "nobody found out whose fault it was".to_owned());
        for (index, concluded) in outage.concluded.iter().enumerate() {
            let until = outage.concluded.get(index + 1).map_or(all.1, |next| next.at);
            let why = match &concluded.finding {
                Some(finding) => acquits(&finding.cause, self.provider),
                None => Some("too much was concluded of it to believe any of it".to_owned()),
            };
            if let Some(why) = why {
                sieve.take(&[(concluded.at, until)], || why);
            }
        }
    }

    /// Takes out maintenance that was announced, as far as the terms let it.
    fn sift_maintenance(&self, all: Piece, sieve: &mut Sieve, maintained: &mut u64) {
        let rules = &self.terms.counting;
        let windows = rules.maintenance.iter().flat_map(|window| window.openings(all.0, all.1));
        let windows = unified(windows.map(|opening| (opening.from, opening.until)).collect());
        let most =
            rules.maintenance_max.map_or(u64::MAX, |most| u64::try_from(most.get().as_micros()).unwrap_or(u64::MAX));
        let mut taken = Vec::new();
        for piece in windows.iter().flat_map(|window| within(&sieve.left, *window)) {
            // What of it lies in another month counts there, against the bound of that month.
            let Some((from, until)) = clipped(piece, self.month) else {
                taken.push(piece);
                continue;
            };
            let room = most.saturating_sub(*maintained).min(length((from, until)));
            *maintained += room;
            let ends = Timestamp(from.0.saturating_add(i64::try_from(room).unwrap_or(i64::MAX)));
            taken.extend([(piece.0, from), (from, ends), (until, piece.1)]);
        }
        sieve.take(&unified(taken), || "the provider had announced maintenance".to_owned());
    }
}

/// What is left of an outage, and what was taken out of it.
struct Sieve {
    left: Vec<Piece>,
    month: Piece,
    not_counted: Vec<NotClaimed>,
}

impl Sieve {
    fn take(&mut self, out: &[Piece], why: impl FnOnce() -> String) {
        let left = without(&self.left, out);
        let us = lengths(&within(&self.left, self.month)).saturating_sub(lengths(&within(&left, self.month)));
        self.left = left;
        if us > 0 {
            let why = why();
            match self.not_counted.iter_mut().find(|known| known.why == why) {
                Some(known) => known.us += us,
                None => self.not_counted.push(NotClaimed { why, us }),
            }
        }
    }
}

/// Why what is behind an outage is not the provider's doing, as a sentence; `None` if it is. In doubt it is not.
pub(crate) fn acquits(cause: &Cause, provider: &ProviderName) -> Option<String> {
    let why = match cause {
        Cause::Provider(found) if found == provider => return None,
        Cause::Instance(fault) => match fault {
            Fault::Crashed
            | Fault::CrashLoop
            | Fault::Hung
            | Fault::Refuses
            | Fault::Broken
            | Fault::WrongAnswer
            | Fault::NeverReady => return None,
            Fault::Slow => "it answered, only too late".to_owned(),
            Fault::OutOfMemory => "it used more memory than it may".to_owned(),
            Fault::DiskFull => "its disk was full".to_owned(),
            Fault::WrongCredentials => "credentials were rejected, and whose doing that was is not known".to_owned(),
            Fault::CannotStart => "it could not be started, and whose doing that was is not known".to_owned(),
        },
        Cause::Provider(found) => format!("the provider {found} was away, not this one"),
        Cause::Change(what) => format!("it followed a change that was made to it: {what}"),
        Cause::Need(need) => format!("it was a victim: {need} failed, which it needs"),
        Cause::Region(region) => format!("the whole region {region} was away, not only this provider"),
        Cause::OwnView => "ostler's own view was the likelier fault".to_owned(),
    };
    Some(why)
}

impl Unseen {
    pub(crate) fn in_words(self) -> &'static str {
        match self {
            Self::Away => "ostler itself was away from then on",
            Self::Unused => "the instance was not used any more from then on",
        }
    }
}

fn told(at: Timestamp, fact: u64, words: &str) -> Told {
    Told { at, fact, words: words.to_owned(), evidence: Vec::new() }
}

fn conclusions(outage: &Outage) -> Vec<Told> {
    let of_one = |concluded: &crate::outages::Concluded| match &concluded.finding {
        Some(finding) => Told {
            at: concluded.at,
            fact: concluded.fact.0,
            words: finding.cause.in_words(),
            evidence: finding.evidence.iter().map(|evidence| evidence.in_words(concluded.at)).collect(),
        },
        None => told(concluded.at, concluded.fact.0, "too much was concluded"),
    };
    outage.concluded.iter().map(of_one).collect()
}
