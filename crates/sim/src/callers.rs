//! What callers see: for each service how much of its traffic is answered, since when, and what keeps it from being.
//!
//! Invariant: the work for a change grows with the services that depend on what changed. A service works as far as its
//! own instances and the worst of its needs do.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use ostler_model::ids::ServiceName;
use ostler_model::time::Timestamp;

/// The accounts of all services.
#[derive(Clone, Debug, Default)]
pub(crate) struct Callers {
    services: BTreeMap<ServiceName, Account>,
    consumers: BTreeMap<ServiceName, BTreeSet<ServiceName>>,
    /// Nothing is counted before.
    pub(crate) counting: bool,
}

/// One service's account.
#[derive(Clone, Debug, Default)]
struct Account {
    needs: Vec<ServiceName>,
    /// Instances that callers are sent to and that answer.
    serving: u32,
    /// Instances that callers are sent to and that do not answer, though they take the connection.
    failing: u32,
    /// As callers see it, with its needs.
    seen: Ledger,
    /// Its own instances alone: what its provider answers for.
    own: Ledger,
}

/// How much of the traffic is answered, and the times when it is not all of it.
#[derive(Clone, Debug, Default)]
struct Ledger {
    /// What is answered now, in thousandths.
    share: u32,
    since: Timestamp,
    /// Time times thousandths not answered, in microseconds.
    lost: u128,
    total: u128,
    outage: Option<Outage>,
    outages: Vec<Outage>,
}

/// A time in which not all of a service's traffic was answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outage {
    /// Since when.
    pub from: Timestamp,
    /// Until when.
    pub until: Timestamp,
    /// Time times the share of traffic that was not answered.
    pub lost: Duration,
    /// What came before it.
    pub cause: &'static str,
    /// The need that it came to; `None` if it came to the service itself.
    pub need: Option<ServiceName>,
}

/// What callers saw of one service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Service {
    /// How long it was counted.
    pub total: Duration,
    /// The time times the share of traffic that was not answered.
    pub lost: Duration,
    /// Every outage.
    pub outages: Vec<Outage>,
    /// Every outage of its own instances, whatever became of its needs.
    pub own_outages: Vec<Outage>,
}

const WHOLE: u32 = 1000;

impl Callers {
    /// Declares what needs what; accounts that exist go on.
    pub(crate) fn declare<'a>(
        &mut self,
        services: impl Iterator<Item = (&'a ServiceName, &'a BTreeSet<ServiceName>)>,
        now: Timestamp,
    ) {
        self.consumers.clear();
        for (name, needs) in services {
            let begun = || Ledger { since: now, ..Ledger::default() };
            let new = || Account { seen: begun(), own: begun(), ..Account::default() };
            let account = self.services.entry(name.clone()).or_insert_with(new);
            account.needs = needs.iter().cloned().collect();
            for need in needs {
                self.consumers.entry(need.clone()).or_default().insert(name.clone());
            }
        }
    }

    /// From now on it counts.
    pub(crate) fn begin(&mut self, now: Timestamp) {
        self.counting = true;
        for account in self.services.values_mut() {
            account.seen.begin(now);
            account.own.begin(now);
        }
    }

    /// An instance of `service` counted as `before`, and counts as `after` now.
    pub(crate) fn changed(
        &mut self,
        service: &ServiceName,
        before: (bool, bool),
        after: (bool, bool),
        cause: &'static str,
        now: Timestamp,
    ) {
        let Some(account) = self.services.get_mut(service) else { return };
        account.serving = account.serving - u32::from(before.0) + u32::from(after.0);
        account.failing = account.failing - u32::from(before.1) + u32::from(after.1);
        self.weigh(service, cause, now);
    }

    /// Weighs a service anew, and whoever depends on it if that changed anything.
    fn weigh(&mut self, service: &ServiceName, cause: &'static str, now: Timestamp) {
        let mut line = vec![(service.clone(), cause)];
        while let Some((name, cause)) = line.pop() {
            let Some(account) = self.services.get(&name) else { continue };
            let needs =
                account.needs.iter().map(|need| self.services.get(need).map_or(0, |need| need.seen.share)).min();
            let own = match account.serving + account.failing {
                0 => 0,
                all => WHOLE * account.serving / all,
            };
            let (counting, share) = (self.counting, own.min(needs.unwrap_or(WHOLE)));
            let account = self.services.get_mut(&name).expect("it was just found");
            let need = (name != *service).then_some(service);
            account.own.set(own, cause, None, now, counting);
            // What comes to it and to its needs at the same moment comes to it.
            let same = |outage: &&mut Outage| own < WHOLE && outage.from == now && outage.cause == cause;
            if let Some(outage) = account.seen.outage.as_mut().filter(same) {
                outage.need = None;
            }
            if !account.seen.set(share, cause, need, now, counting) {
                continue;
            }
            let consumers = self.consumers.get(&name).into_iter().flatten();
            line.extend(consumers.map(|consumer| (consumer.clone(), cause)));
        }
    }

    /// The accounts up to now.
    pub(crate) fn closed(mut self, now: Timestamp) -> BTreeMap<ServiceName, Service> {
        let services = self.services.iter_mut().map(|(name, account)| {
            account.own.end(now);
            account.seen.end(now);
            let Ledger { lost, total, outages, .. } = std::mem::take(&mut account.seen);
            let micros = |sum: u128| Duration::from_micros(u64::try_from(sum).unwrap_or(u64::MAX));
            let (total, lost) = (micros(total), micros(lost / u128::from(WHOLE)));
            let own_outages = std::mem::take(&mut account.own.outages);
            (name.clone(), Service { total, lost, outages, own_outages })
        });
        services.collect()
    }
}

impl Ledger {
    fn begin(&mut self, now: Timestamp) {
        self.since = now;
        let not_up = Outage { from: now, until: now, lost: Duration::ZERO, cause: "not up yet", need: None };
        self.outage = (self.share < WHOLE).then_some(not_up);
    }

    /// Sets what is answered from now on, and says whether that is a change.
    fn set(
        &mut self,
        share: u32,
        cause: &'static str,
        need: Option<&ServiceName>,
        now: Timestamp,
        counting: bool,
    ) -> bool {
        if share == self.share {
            return false;
        }
        self.count(now, counting);
        self.share = share;
        if !counting {
            return true;
        }
        if share == WHOLE {
            self.close(now);
        } else if self.outage.is_none() {
            self.outage = Some(Outage { from: now, until: now, lost: Duration::ZERO, cause, need: need.cloned() });
        }
        true
    }

    fn count(&mut self, now: Timestamp, counting: bool) {
        let length = now.since(self.since);
        self.since = self.since.max(now);
        if !counting {
            return;
        }
        let missing = WHOLE - self.share;
        self.total += length.as_micros();
        self.lost += length.as_micros() * u128::from(missing);
        if let Some(outage) = &mut self.outage {
            outage.lost += length * missing / WHOLE;
        }
    }

    fn close(&mut self, now: Timestamp) {
        if let Some(outage) = self.outage.take() {
            self.outages.push(Outage { until: now, ..outage });
        }
    }

    fn end(&mut self, now: Timestamp) {
        self.count(now, true);
        self.close(now);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(text: &str) -> ServiceName {
        text.parse().unwrap()
    }

    fn at(seconds: i64) -> Timestamp {
        Timestamp(seconds * 1_000_000)
    }

    #[test]
    fn half_the_traffic_of_a_need_is_half_the_traffic_of_its_consumer() {
        let (db, web) = (name("db"), name("web"));
        let none = BTreeSet::new();
        let needs = BTreeSet::from([db.clone()]);
        let mut callers = Callers::default();
        callers.declare([(&db, &none), (&web, &needs)].into_iter(), at(0));
        let up = (true, false);
        callers.changed(&db, (false, false), up, "start", at(0));
        callers.changed(&db, (false, false), up, "start", at(0));
        callers.changed(&web, (false, false), up, "start", at(0));
        callers.begin(at(0));
        callers.changed(&db, up, (false, true), "hang", at(100));
        assert_eq!(callers.services[&web].seen.share, 500);
        callers.changed(&db, (false, true), (false, false), "hang", at(110));
        let accounts = callers.closed(at(200));
        for service in [&db, &web] {
            let account = &accounts[service];
            assert_eq!((account.total, account.lost), (Duration::from_secs(200), Duration::from_secs(5)));
            assert_eq!(account.outages.len(), 1);
            assert_eq!(account.outages[0].cause, "hang");
            assert_eq!((account.outages[0].from, account.outages[0].until), (at(100), at(110)));
            assert_eq!(account.outages[0].need, (*service == web).then(|| db.clone()));
        }
    }
}
