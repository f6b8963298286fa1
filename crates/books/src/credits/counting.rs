//! What of a month's outages counts for a credit, and why the rest does not.

use ostler_manager::diagnosis::{Cause, Fault};
use ostler_model::estate::claims::Whole;
use ostler_model::estate::terms::{Percent, Terms};
use ostler_model::ids::{InstanceId, OfferingName, PlanName, ProviderName, ServiceName};
use ostler_model::time::Timestamp;
use rust_decimal::Decimal;

use super::{Line, NotClaimed, OutageShown, Told};
use crate::ledger::Ledger;
use crate::outages::{Concluded, Outage, Unseen};
use crate::spans::{Piece, clipped, length, lengths, unified, within, without};

/// What is counted of one provider in one month.
pub(super) struct Counting<'a> {
    pub(super) ledger: &'a Ledger,
    pub(super) provider: &'a ProviderName,
    pub(super) terms: &'a Terms,
    pub(super) month: Piece,
    pub(super) until: Timestamp,
}

impl Counting<'_> {
    pub(super) fn lines(&self) -> Vec<Line> {
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
    let of_one = |concluded: &Concluded| match &concluded.finding {
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
