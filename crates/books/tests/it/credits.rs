//! Service credits: the rules of published terms as tables of cases, whose fault an outage was, and made-up outages
//! against a reference that counts second by second.

use ostler_books::{Credits, Line, MonthCredit};
use ostler_manager::diagnosis::{Cause, Changed, Fault, Finding};
use ostler_manager::level::Traffic;
use ostler_manager::{
    By, ClaimState, ClaimStep, Command, Diagnosis, Drill, DrillResult, FactKind, Hit, Measured, Outcome, ResumeCause,
    Verdict,
};
use ostler_model::estate::drills::Fault as DrillFault;
use ostler_model::health::{Health, Symptom, SymptomKind};
use ostler_model::ids::{CommandId, InstanceId};
use ostler_model::outcome::Running;
use ostler_model::time::{Span, Timestamp};
use proptest::prelude::*;

use crate::town::{Town, at, estate, instance};

pub(crate) const DB: &str = "[service.db]\noffering = \"postgresql\"\n[service.other]\noffering = \"postgresql\"";

/// An estate that has bought `db` for 100.00 a month from the first day of November on, by these terms.
pub(crate) fn town(terms: &str) -> Town {
    let mut town = Town::default();
    let prices = "[provider.acme.terms.prices.postgresql]\nsmall = \"100\"\n";
    town.declare("2026-10-20T00:00:00Z", &estate("", &format!("[provider.acme.terms]\n{terms}\n{prices}{DB}")));
    town.buy(at("2026-11-01T00:00:00Z"), "db", "acme", "small");
    town.works("2026-11-01T00:00:00Z", "db");
    town
}

impl Town {
    pub(crate) fn works(&mut self, when: &str, service: &str) {
        self.works_at(at(when), &instance(service, 1));
    }

    fn works_at(&mut self, when: Timestamp, of: &InstanceId) {
        self.tell(when, FactKind::HealthChanged { instance: of.clone(), health: Health::Ready });
        self.tell(when, FactKind::RepairEnded { instance: of.clone() });
    }

    fn fails_at(&mut self, when: Timestamp, of: &InstanceId) {
        let symptom = Symptom { kind: SymptomKind::Refused, detail: "connection refused".to_owned() };
        self.tell(when, FactKind::HealthChanged { instance: of.clone(), health: Health::Unready(symptom.clone()) });
        let diagnosis = Diagnosis::Unresponsive { symptom };
        self.tell(when, FactKind::RepairBegan { instance: of.clone(), diagnosis });
    }

    fn concludes_at(&mut self, when: Timestamp, of: &InstanceId, cause: Cause) {
        let finding = Finding { cause, evidence: Vec::new() };
        self.tell(when, FactKind::Concluded { instance: of.clone(), finding });
    }

    /// It is away from then until then, and that is its own fault.
    pub(crate) fn away(&mut self, from: &str, until: &str) {
        let db = instance("db", 1);
        self.fails_at(at(from), &db);
        self.concludes_at(at(from), &db, Cause::Instance(Fault::Refuses));
        self.works_at(at(until), &db);
    }

    pub(crate) fn credits(&self, month: &str, now: &str) -> Credits {
        self.ledger.credits(Some(month.parse().unwrap()), at(now)).unwrap()
    }

    fn november(&self) -> MonthCredit {
        let mut all = self.credits("2026-11", "2026-12-01T12:00:00Z").all;
        assert_eq!(all.len(), 1);
        all.remove(0)
    }

    fn line(&self) -> Line {
        let mut lines = self.november().lines;
        assert_eq!(lines.len(), 1);
        lines.remove(0)
    }
}

/// From when until when, in November, and `delivered down refund credit` in seconds and the currency.
type Case = (&'static [(&'static str, &'static str)], &'static str);

fn check(terms: &str, cases: &[Case]) {
    for (outages, expected) in cases {
        let mut town = town(terms);
        for (from, until) in *outages {
            town.away(&format!("2026-11-{from}Z"), &format!("2026-11-{until}Z"));
        }
        let credit = town.november();
        let line = &credit.lines[0];
        let found = format!("{} {} {} {}", line.measured, line.down_us / 1_000_000, line.refund, credit.due);
        assert_eq!(found, *expected, "{outages:?}");
    }
}

/// Amazon RDS, Multi-AZ, as published on 22 January 2024: https://aws.amazon.com/rds/sla/. Whole minutes in which
/// nothing could connect; below 99.95%, 99% and 95% of the month 10%, 25% and 100% of what the instance cost; nothing of
/// a dollar or less; to be claimed before the second billing cycle after it ends. November has 43,200 minutes, of which
/// 0.05% are 21.6.
#[test]
fn amazon_rds() {
    let terms = r#"availability = "99.95%"
credits = [{ below = "99.95%", refund = "10%" }, { below = "99%", refund = "25%" }, { below = "95%", refund = "100%" }]
zone = "UTC"
outage = { from = "1m", step = "1m" }
claim = { within = "2 months", at_least = "1.01" }"#;
    check(
        terms,
        &[
            (&[], "100% 0 0% 0.00"),
            (&[("03T10:00:00", "03T10:21:00")], "99.9513% 1260 0% 0.00"),
            (&[("03T10:00:00", "03T10:22:00")], "99.949% 1320 10% 10.00"),
            // Both ends lie within a minute, which do not count.
            (&[("03T10:00:30", "03T10:22:30")], "99.9513% 1260 0% 0.00"),
            // A hundred outages of 59 seconds are none.
            (&[("03T10:00:00", "03T10:00:59"), ("03T11:00:01", "03T11:01:59")], "100% 0 0% 0.00"),
            (&[("03T10:00:00", "03T17:12:00")], "99% 25920 10% 10.00"),
            (&[("03T10:00:00", "03T17:13:00")], "98.9976% 25980 25% 25.00"),
            (&[("03T10:00:00", "04T22:00:00")], "95% 129600 25% 25.00"),
            (&[("03T10:00:00", "04T22:01:00")], "94.9976% 129660 100% 100.00"),
            (&[("03T10:00:00", "03T10:12:00"), ("20T10:00:00", "20T10:10:00")], "99.949% 1320 10% 10.00"),
        ],
    );
    let mut late = town(terms);
    late.away("2026-11-03T10:00:00Z", "2026-11-03T11:00:00Z");
    assert_eq!(late.november().deadline, at("2027-02-01T00:00:00Z"));
    // Of a month in which little was bought, the credit is too little.
    let mut short = Town::default();
    let prices = "[provider.acme.terms.prices.postgresql]\nsmall = \"10.10\"\n";
    short.declare("2026-10-20T00:00:00Z", &estate("", &format!("[provider.acme.terms]\n{terms}\n{prices}{DB}")));
    short.buy(at("2026-11-01T00:00:00Z"), "db", "acme", "small");
    short.works("2026-11-01T00:00:00Z", "db");
    short.away("2026-11-03T10:00:00Z", "2026-11-03T11:00:00Z");
    let credit = short.november();
    assert_eq!(
        (credit.sum.to_string(), credit.due.to_string(), credit.too_little),
        ("1.01".into(), "1.01".into(), false)
    );
    short.declare(
        "2026-11-30T00:00:00Z",
        &estate("", &format!("[provider.acme.terms]\n{}\n{prices}{DB}", terms.replace("1.01", "1.02"))),
    );
    assert_eq!((short.november().due.to_string(), short.november().too_little), ("0".into(), true));
}

/// Google Cloud SQL, Enterprise edition with high availability; the figures of 2023 and later as far as they are known
/// (https://cloud.google.com/sql/sla), else terms of this shape: minutes in a row in which all requests failed, less than
/// one does not count, nor does scheduled maintenance; below 99.95%, 99% and 95% of the month 10%, 25% and 50% of what the
/// instance cost, and 50% at most; by the calendar of California; to be claimed within 30 days.
#[test]
fn google_cloud_sql() {
    let terms = r#"availability = "99.95%"
credits = [{ below = "99.95%", refund = "10%" }, { below = "99%", refund = "25%" }, { below = "95%", refund = "50%" }]
zone = "America/Los_Angeles"
outage = { from = "1m" }
maintenance = { window = ["Sun 02:00 - Sun 03:00 America/Los_Angeles"] }
claim = { within = "30d", at_most = "50%" }"#;
    // November 2026 is an hour longer there: 43,260 minutes, of which 0.05% are 21.63.
    check(
        terms,
        &[
            (&[("03T10:00:30", "03T10:22:07")], "99.95% 1297 0% 0.00"),
            (&[("03T10:00:30", "03T10:22:08")], "99.9499% 1298 10% 10.00"),
            (&[("03T10:00:00", "03T10:00:59"), ("03T11:00:00", "03T11:01:00")], "99.9976% 60 0% 0.00"),
            // The 8th is a Sunday; two o'clock there is ten o'clock UTC. What lies outside of the window counts.
            (&[("08T10:00:00", "08T11:00:00")], "100% 0 0% 0.00"),
            (&[("08T10:30:00", "08T11:30:00")], "99.9306% 1800 10% 10.00"),
            (&[("03T00:00:00", "06T00:00:00")], "90.0138% 259200 50% 50.00"),
        ],
    );
    let mut town = town(terms);
    town.away("2026-11-03T10:00:00Z", "2026-11-03T11:00:00Z");
    assert_eq!(town.november().deadline, at("2026-12-31T08:00:00Z"));
}

/// Azure Database for PostgreSQL, flexible server with zone-redundant high availability, as of version 1.3 of March 2022
/// (https://azure.microsoft.com/support/legal/sla/postgresql/v1_3/); for what is not certain of it, terms of this shape:
/// minutes in which no connection could be made, of those in which the server was deployed; below 99.99% and 99% 10% and
/// 25% of what it cost; to be claimed by the end of the month after. 0.01% of 43,200 minutes are 4.32.
#[test]
fn azure_postgresql() {
    let terms = r#"availability = "99.99%"
credits = [{ below = "99.99%", refund = "10%" }, { below = "99%", refund = "25%" }]
zone = "UTC"
over = "held"
outage = { from = "1m", step = "1m" }
claim = { within = "1 month" }"#;
    check(
        terms,
        &[
            (&[("03T10:00:00", "03T10:04:00")], "99.9907% 240 0% 0.00"),
            (&[("03T10:00:00", "03T10:05:00")], "99.9884% 300 10% 10.00"),
            (&[("03T10:00:00", "03T17:13:00")], "98.9976% 25980 25% 25.00"),
        ],
    );
    // Held for a day: an hour of that is much, and the price is that of a day.
    let mut short = town(terms);
    short.away("2026-11-01T10:00:00Z", "2026-11-01T10:05:00Z");
    short.give_back(at("2026-11-02T00:00:00Z"), "db");
    let line = short.line();
    let found = format!("{} {} {} {}", line.measured, line.whole_us / 60_000_000, line.refund, line.credit);
    assert_eq!(found, "99.6527% 1440 10% 0.33");
    assert_eq!(short.november().deadline, at("2027-01-01T00:00:00Z"));
}

const PLAIN: &str = "availability = \"100%\"\ncredits = [{ below = \"100%\", refund = \"10%\" }]";

/// Seconds that count, and why the others do not.
fn judged(town: &Town) -> (u64, Vec<String>) {
    let line = town.line();
    let not = line.outages.iter().flat_map(|outage| &outage.not_counted);
    (line.down_us / 1_000_000, not.map(|not| format!("{}: {}", not.us / 1_000_000, not.why)).collect())
}

#[test]
fn a_provider_is_charged_for_its_own_failures_alone() {
    let own = |fault| Cause::Instance(fault);
    let cases = [
        (own(Fault::Refuses), ""),
        (own(Fault::Crashed), ""),
        (own(Fault::CrashLoop), ""),
        (own(Fault::Hung), ""),
        (own(Fault::Broken), ""),
        (own(Fault::WrongAnswer), ""),
        (own(Fault::NeverReady), ""),
        (Cause::Provider("acme".parse().unwrap()), ""),
        (own(Fault::Slow), "it answered, only too late"),
        (own(Fault::OutOfMemory), "it used more memory than it may"),
        (own(Fault::DiskFull), "its disk was full"),
        (own(Fault::WrongCredentials), "credentials were rejected, and whose doing that was is not known"),
        (own(Fault::CannotStart), "it could not be started, and whose doing that was is not known"),
        (Cause::Provider("other".parse().unwrap()), "the provider other was away, not this one"),
        (Cause::Change(Changed::Version), "it followed a change that was made to it: its version"),
        (Cause::Need("other".parse().unwrap()), "it was a victim: other failed, which it needs"),
        (Cause::Region("eu-west".to_owned()), "the whole region eu-west was away, not only this provider"),
        (Cause::OwnView, "ostler's own view was the likelier fault"),
    ];
    for (cause, why) in cases {
        let (mut town, db) = (town(PLAIN), instance("db", 1));
        town.fails_at(at("2026-11-03T10:00:00Z"), &db);
        town.concludes_at(at("2026-11-03T10:00:10Z"), &db, cause.clone());
        town.works_at(at("2026-11-03T10:01:00Z"), &db);
        let expected = if why.is_empty() { (60, vec![]) } else { (0, vec![format!("60: {why}")]) };
        assert_eq!(judged(&town), expected, "{cause:?}");
    }
}

#[test]
fn each_moment_follows_the_conclusion_that_held_then() {
    let (mut town, db) = (town(PLAIN), instance("db", 1));
    town.fails_at(at("2026-11-03T10:00:00Z"), &db);
    town.concludes_at(at("2026-11-03T10:00:10Z"), &db, Cause::OwnView);
    town.concludes_at(at("2026-11-03T10:05:00Z"), &db, Cause::Provider("acme".parse().unwrap()));
    town.concludes_at(at("2026-11-03T10:08:00Z"), &db, Cause::Need("other".parse().unwrap()));
    town.works_at(at("2026-11-03T10:10:00Z"), &db);
    let not = ["300: ostler's own view was the likelier fault", "120: it was a victim: other failed, which it needs"];
    assert_eq!(judged(&town), (180, not.map(str::to_owned).to_vec()));
    let outage = &town.line().outages[0];
    assert_eq!(outage.seen.iter().map(|told| told.fact).collect::<Vec<_>>(), [7, 8]);
    assert_eq!(outage.concluded.iter().map(|told| told.fact).collect::<Vec<_>>(), [9, 10, 11]);
}

#[test]
fn what_nobody_saw_or_ostler_did_itself_does_not_count() {
    let db = instance("db", 1);
    let hung = || Cause::Instance(Fault::Hung);
    // It was away for an hour, and ostler for half of it.
    let mut away = town(PLAIN);
    away.fails_at(at("2026-11-03T10:00:00Z"), &db);
    away.concludes_at(at("2026-11-03T10:00:00Z"), &db, hung());
    away.concludes_at(at("2026-11-03T10:10:00Z"), &db, hung());
    away.tell(at("2026-11-03T10:40:00Z"), FactKind::Resumed { cause: ResumeCause::Started });
    away.fails_at(at("2026-11-03T10:41:00Z"), &db);
    away.works_at(at("2026-11-03T11:00:00Z"), &db);
    assert_eq!(judged(&away), ((10 + 19) * 60, vec![]));
    assert_eq!(away.line().outages[0].unseen_from.as_deref(), Some("ostler itself was away from then on"));
    // Nobody found out why.
    let mut unknown = town(PLAIN);
    unknown.fails_at(at("2026-11-03T10:00:00Z"), &db);
    unknown.works_at(at("2026-11-03T10:01:00Z"), &db);
    assert_eq!(judged(&unknown), (0, vec!["60: nobody found out whose fault it was".to_owned()]));
    // It was being changed.
    let mut changed = town(PLAIN);
    let update = Command::Update { instance: db.clone(), generation: 2 };
    changed.tell(at("2026-11-03T10:00:00Z"), FactKind::CommandIssued { id: CommandId(99), command: update });
    changed.fails_at(at("2026-11-03T10:00:00Z"), &db);
    changed.concludes_at(at("2026-11-03T10:00:00Z"), &db, hung());
    changed.tell(at("2026-11-03T10:00:30Z"), FactKind::CommandEnded { id: CommandId(99), outcome: Outcome::Done });
    changed.works_at(at("2026-11-03T10:01:00Z"), &db);
    let why = "60: it began while ostler itself changed the instance (fact 7)".to_owned();
    assert_eq!(judged(&changed), (0, vec![why]));
    // It was moved away from, and nobody looks at what was left.
    let mut moved = town(PLAIN);
    moved.fails_at(at("2026-11-03T10:00:00Z"), &db);
    moved.concludes_at(at("2026-11-03T10:00:00Z"), &db, hung());
    moved.tell(at("2026-11-03T10:05:00Z"), FactKind::DownAsked);
    moved.fails_at(at("2026-11-03T10:06:00Z"), &db);
    assert_eq!(judged(&moved), (300, vec![]));
    // It had never worked.
    let mut new = Town::default();
    new.declare("2026-10-20T00:00:00Z", &estate("", &format!("[provider.acme.terms]\n{PLAIN}\n{DB}")));
    new.buy(at("2026-11-01T00:00:00Z"), "db", "acme", "small");
    new.fails_at(at("2026-11-01T00:00:00Z"), &db);
    assert_eq!(judged(&new), (0, vec![]));
}

#[test]
fn excluded_windows_and_drills_do_not_count_and_maintenance_counts_beyond_its_bound() {
    let slo = "[service.db]\noffering = \"postgresql\"\nslo = { availability = \"99%\", exclude = \
               [{ window = \"Tue 10:00 - Tue 10:10 UTC\", reason = \"batch\" }] }\n";
    let terms = format!("{PLAIN}\nmaintenance = {{ window = [\"Tue 10:20 - Tue 10:40 UTC\"], at_most = \"15m\" }}\n");
    let mut town = Town::default();
    town.declare("2026-10-20T00:00:00Z", &estate("", &format!("[provider.acme.terms]\n{terms}{slo}")));
    town.buy(at("2026-11-01T00:00:00Z"), "db", "acme", "small");
    town.works("2026-11-01T00:00:00Z", "db");
    town.away("2026-11-03T10:00:00Z", "2026-11-03T10:30:00Z");
    // What began with a drill is the drill's, also where it lasts longer; what comes later is not.
    drill(&mut town, at("2026-11-04T10:00:00Z"));
    town.away("2026-11-05T10:00:00Z", "2026-11-05T10:01:00Z");
    town.away("2026-11-10T10:20:00Z", "2026-11-10T10:40:00Z");
    let not = [
        "600: the estate excludes Tue 10:00 - Tue 10:10: batch",
        "600: the provider had announced maintenance",
        "120: it was caused on purpose, by drill 1",
        "300: the provider had announced maintenance",
    ];
    let (counted, why) = judged(&town);
    assert_eq!(counted, 10 * 60 + 60 + 15 * 60);
    assert_eq!(why.iter().map(|why| why.replace(" UTC", "")).collect::<Vec<_>>(), not);
}

/// A drill of a minute, from which it recovers a minute later.
fn drill(town: &mut Town, when: Timestamp) {
    let db = instance("db", 1);
    let running = Running { pid: None, address: "127.0.0.1:1".parse().unwrap(), since: when };
    let drill = Drill {
        number: 1,
        service: "db".parse().unwrap(),
        provider: None,
        fault: DrillFault::Refuse,
        hits: vec![Hit { instance: db.clone(), running }],
        aim: None,
        until: when + Span::seconds(60).get(),
        by: By::Schedule,
    };
    town.tell(when, FactKind::DrillBegan { drill: drill.clone() });
    town.fails_at(when, &db);
    town.concludes_at(when, &db, Cause::Instance(Fault::Refuses));
    let result = DrillResult {
        drill,
        began: when,
        caused: Some(when),
        ended: when,
        verdict: Verdict::NotHealed,
        noticed_ms: None,
        diagnosed: None,
        healed_ms: None,
        measured: Measured::default(),
    };
    town.tell(when + Span::seconds(60).get(), FactKind::DrillEnded { result: Box::new(result) });
    town.works_at(when + Span::seconds(120).get(), &db);
}

#[test]
fn what_callers_got_outweighs_the_probe_where_the_terms_count_requests() {
    let mut town = town(&format!("{PLAIN}\noutage = {{ failed = \"10%\" }}"));
    let db = instance("db", 1);
    town.fails_at(at("2026-11-03T10:00:00Z"), &db);
    town.concludes_at(at("2026-11-03T10:00:00Z"), &db, Cause::Instance(Fault::Broken));
    for (from, until, failed) in
        [("10:00:00", "10:01:00", 10), ("10:01:00", "10:02:00", 9), ("10:02:30", "10:03:00", 0)]
    {
        let (from, until) = (at(&format!("2026-11-03T{from}Z")), at(&format!("2026-11-03T{until}Z")));
        let traffic = Traffic { from, until, asked: 100, failed, late: 0 };
        town.tell(until, FactKind::TrafficMeasured { service: "db".parse().unwrap(), traffic });
    }
    town.works_at(at("2026-11-03T10:05:00Z"), &db);
    // A minute at 10%, one at 9%, half a minute of which nobody knows, one half at nothing, two minutes unknown.
    assert_eq!(judged(&town), (210, vec!["90: less than 10% of what callers asked failed".to_owned()]));
}

#[test]
fn credits_are_rounded_one_by_one_and_bounded_together() {
    let terms = "availability = \"100%\"\ncredits = [{ below = \"100%\", refund = \"33.3333%\" }]\nclaim = { at_most = \"20%\" }";
    let mut town = town(terms);
    town.away("2026-11-03T10:00:00Z", "2026-11-03T10:01:00Z");
    town.buy(at("2026-11-01T00:00:00Z"), "other", "acme", "small");
    let credit = town.november();
    assert_eq!((credit.sum.to_string(), credit.due.to_string()), ("33.33".to_owned(), "33.33".to_owned()));
    let mut alone = crate::credits::town(terms);
    alone.away("2026-11-03T10:00:00Z", "2026-11-03T10:01:00Z");
    let credit = alone.november();
    assert_eq!(credit.cut_to.map(|most| most.to_string()), Some("20.00".to_owned()));
    assert_eq!(credit.due.to_string(), "20.00");
}

#[test]
fn a_claim_goes_from_step_to_step_and_is_in_the_books() {
    let mut town = town(PLAIN);
    town.away("2026-11-03T10:00:00Z", "2026-11-03T10:01:00Z");
    let states = |town: &Town| {
        let statement = town.ledger.statement(Some("2026-11".parse().unwrap()), at("2026-12-03T00:00:00Z")).unwrap();
        let owed = statement.credits.iter().map(|owed| format!("{} {:?} {}", owed.provider, owed.state, owed.amount));
        (owed.collect::<Vec<_>>(), ostler_books::focus(&statement).matches("Credit").count())
    };
    assert_eq!(states(&town), (vec!["acme Open 10.00".to_owned()], 0));
    let step = |town: &mut Town, step: ClaimStep| {
        let (provider, month) = ("acme".parse().unwrap(), "2026-11".parse().unwrap());
        let by = "ana".to_owned();
        town.tell(at("2026-12-02T00:00:00Z"), FactKind::ServiceCredit { provider, month, step, by, note: None });
    };
    // What does not follow changes nothing.
    step(&mut town, ClaimStep::Refused);
    assert_eq!(town.november().state(), ClaimState::Open);
    let currency = town.credits("2026-11", "2026-12-01T12:00:00Z").currency;
    step(&mut town, ClaimStep::Claimed { amount: "10".parse().unwrap(), currency: currency.clone() });
    assert_eq!(states(&town).0, ["acme Claimed 10"]);
    step(&mut town, ClaimStep::Paid { amount: Some("7.50".parse().unwrap()) });
    let (owed, rows) = states(&town);
    assert_eq!((owed, rows), (vec!["acme Paid 7.5".to_owned()], 1));
    step(&mut town, ClaimStep::Claimed { amount: "1".parse().unwrap(), currency: currency.clone() });
    assert_eq!(states(&town).0, ["acme Paid 7.5"]);
    step(&mut town, ClaimStep::Reopened);
    assert_eq!(states(&town).0, ["acme Open 10.00"]);
}

#[test]
fn the_claim_says_everything_that_it_is_made_of() {
    let terms = r#"availability = "99.95%"
credits = [{ below = "99.95%", refund = "10%" }, { below = "99%", refund = "25%" }]
outage = { from = "1m", step = "1m", failed = "10%" }
maintenance = { window = ["Sun 02:00 - Sun 04:00 UTC"], at_most = "4h" }
claim = { within = "2 months", at_least = "1.00", at_most = "50%" }"#;
    let mut town = town(terms);
    town.away("2026-11-03T10:00:30.250Z", "2026-11-03T10:45:10Z");
    town.away("2026-11-08T03:00:00Z", "2026-11-08T03:30:00Z");
    let credits = town.credits("2026-11", "2026-12-01T12:00:00Z");
    let paper = ostler_books::claim(&credits, &credits.all[0]);
    insta::assert_snapshot!("claim", paper.to_markdown());
    let html = paper.to_html();
    assert!(html.contains("<td class=\"n\">10.00</td>") && !html.contains("http"), "{html}");
}

/// One thing that goes wrong: after so many seconds, for so many, and whose fault it is.
#[derive(Clone, Copy, Debug)]
enum Whose {
    Provider,
    Need,
    Slow,
    Drill,
    Unknown,
}

fn whose() -> impl Strategy<Value = Whose> {
    prop::sample::select(vec![Whose::Provider, Whose::Provider, Whose::Need, Whose::Slow, Whose::Drill, Whose::Unknown])
}

/// Counts second by second: `[begin, end)` of each outage that is the provider's, by the rules alone.
fn reference(story: &[(i64, i64, Whose)], least: i64, step: i64, window: (i64, i64), most: i64) -> i64 {
    let mut counted = 0;
    let mut maintained = 0;
    for (from, until, whose) in story {
        if !matches!(whose, Whose::Provider) {
            continue;
        }
        let counts: Vec<i64> = (*from..*until)
            .filter(|second| {
                let is_maintained = (window.0..window.1).contains(second) && maintained < most;
                maintained += i64::from(is_maintained);
                !is_maintained
            })
            .collect();
        // Runs of seconds that follow each other.
        let mut runs: Vec<Vec<i64>> = Vec::new();
        for second in counts {
            match runs.last_mut() {
                Some(run) if run.last() == Some(&(second - 1)) => run.push(second),
                _ => runs.push(vec![second]),
            }
        }
        for run in runs.into_iter().filter(|run| run.len() as i64 >= least) {
            let is_whole = |second: &&i64| {
                let begins = second.div_euclid(step) * step;
                run.contains(&begins) && run.contains(&(begins + step - 1))
            };
            counted += run.iter().filter(is_whole).count() as i64;
        }
    }
    counted
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    /// Whatever goes wrong and whose fault it is: what counts is what a count of seconds gives, and never more than what
    /// was the provider's fault.
    #[test]
    fn what_counts_is_what_a_count_of_seconds_gives(
        story in prop::collection::vec((1_i64..400, 1_i64..400, whose()), 0..8),
        least in 1_i64..120,
        step in prop::sample::select(vec![1_i64, 10, 60]),
        window in (0_i64..20, 1_i64..20),
        most in 1_i64..900,
    ) {
        // The 3rd of November 2026 is a Tuesday.
        let midnight = at("2026-11-03T00:00:00Z").0 / 1_000_000;
        let window = (window.0 * 60, (window.0 + window.1) * 60);
        let clock = |seconds: i64| format!("{:02}:{:02}", seconds / 3600, seconds / 60 % 60);
        let terms = format!(
            "{PLAIN}\noutage = {{ from = \"{least}s\", step = \"{step}s\" }}\n\
             maintenance = {{ window = [\"Tue {} - Tue {} UTC\"], at_most = \"{most}s\" }}",
            clock(window.0), clock(window.1)
        );
        let mut town = town(&terms);
        let db = instance("db", 1);
        let (mut second, mut told) = (0, Vec::new());
        for (pause, lasts, whose) in story {
            let (from, until) = (second + pause, second + pause + lasts);
            second = until;
            told.push((from, until, whose));
            let when = |second: i64| Timestamp((midnight + second) * 1_000_000);
            if matches!(whose, Whose::Drill) {
                drill(&mut town, when(from));
                second = second.max(from + 120);
                continue;
            }
            town.fails_at(when(from), &db);
            match whose {
                Whose::Provider => town.concludes_at(when(from), &db, Cause::Instance(Fault::Hung)),
                Whose::Need => town.concludes_at(when(from), &db, Cause::Need("other".parse().unwrap())),
                Whose::Slow => town.concludes_at(when(from), &db, Cause::Instance(Fault::Slow)),
                Whose::Drill | Whose::Unknown => {}
            }
            town.works_at(when(until), &db);
        }
        let line = town.line();
        let expected = reference(&told, least, step, window, most);
        prop_assert_eq!(line.down_us as i64, expected * 1_000_000);
        let of_provider: i64 = told.iter().filter(|(_, _, whose)| matches!(whose, Whose::Provider)).map(|(from, until, _)| until - from).sum();
        prop_assert!(expected <= of_provider);
        for outage in &line.outages {
            let not: u64 = outage.not_counted.iter().map(|not| not.us).sum();
            let length = outage.until.unwrap().since(outage.from).as_micros() as u64;
            prop_assert_eq!(outage.counted_us + not, length, "each part of an outage counts, or it is said why not");
        }
        // A ledger that was stored goes on as if it had not been.
        let text = serde_json::to_string(&town.ledger).unwrap();
        let again: ostler_books::Ledger = serde_json::from_str(&text).unwrap();
        prop_assert_eq!(&again, &town.ledger);
    }
}
