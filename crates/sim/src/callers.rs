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
    /// What of its traffic is answered now, in thousandths.
    share: u32,
    since: Timestamp,
    /// Time times thousandths not answered, in microseconds.
    lost: u128,
    total: u128,
    outage: Option<Outage>,
    outages: Vec<Outage>,
}

/// A time in which not all of a service's traffic was answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Outage {
    /// Since when.
    pub from: Timestamp,
    /// Until when.
    pub until: Timestamp,
    /// Time times the share of traffic that was not answered.
    pub lost: Duration,
    /// What came before it.
    pub cause: &'static str,
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
            let account =
                self.services.entry(name.clone()).or_insert_with(|| Account { since: now, ..Account::default() });
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
            account.since = now;
            account.outage = None;
            if account.share < WHOLE {
                account.outage = Some(Outage { from: now, until: now, lost: Duration::ZERO, cause: "not up yet" });
            }
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
            let needs = account.needs.iter().map(|need| self.services.get(need).map_or(0, |need| need.share)).min();
            let own = match account.serving + account.failing {
                0 => 0,
                all => WHOLE * account.serving / all,
            };
            let share = own.min(needs.unwrap_or(WHOLE));
            if share == account.share {
                continue;
            }
            let counting = self.counting;
            let account = self.services.get_mut(&name).expect("it was just found");
            account.count(now, counting);
            account.share = share;
            if counting {
                account.open_or_close(cause, now);
            }
            let consumers = self.consumers.get(&name).into_iter().flatten();
            line.extend(consumers.map(|consumer| (consumer.clone(), cause)));
        }
    }

    /// The accounts up to now.
    pub(crate) fn closed(mut self, now: Timestamp) -> BTreeMap<ServiceName, Service> {
        for account in self.services.values_mut() {
            account.count(now, true);
            account.close(now);
        }
        let services = self.services.into_iter().map(|(name, account)| {
            let micros = |sum: u128| Duration::from_micros(u64::try_from(sum).unwrap_or(u64::MAX));
            let lost = micros(account.lost / u128::from(WHOLE));
            (name, Service { total: micros(account.total), lost, outages: account.outages })
        });
        services.collect()
    }
}

impl Account {
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

    fn open_or_close(&mut self, cause: &'static str, now: Timestamp) {
        if self.share == WHOLE {
            self.close(now);
        } else if self.outage.is_none() {
            self.outage = Some(Outage { from: now, until: now, lost: Duration::ZERO, cause });
        }
    }

    fn close(&mut self, now: Timestamp) {
        if let Some(outage) = self.outage.take() {
            self.outages.push(Outage { until: now, ..outage });
        }
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
        assert_eq!(callers.services[&web].share, 500);
        callers.changed(&db, (false, true), (false, false), "hang", at(110));
        let accounts = callers.closed(at(200));
        for service in [&db, &web] {
            let account = &accounts[service];
            assert_eq!((account.total, account.lost), (Duration::from_secs(200), Duration::from_secs(5)));
            assert_eq!(account.outages.len(), 1);
            assert_eq!(account.outages[0].cause, "hang");
            assert_eq!((account.outages[0].from, account.outages[0].until), (at(100), at(110)));
        }
    }
}
