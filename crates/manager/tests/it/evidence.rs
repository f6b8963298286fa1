//! What is seen of a provider: what counts for it and against it, what says nothing, and from when on it decides.

use std::sync::Arc;
use std::time::Duration;

use ostler_manager::{
    Command, Conduct, Diagnosis, Event, Evidence, Fact, FactKind, Knowledge, Outcome, ResumeCause, candidates, check,
    evolve,
};
use ostler_model::catalog::Placement;
use ostler_model::estate::terms::{Percent, Terms};
use ostler_model::health::{Exit, Health, Symptom, SymptomKind};
use ostler_model::ids::{BindingId, CommandId, ProviderName};
use ostler_model::outcome::{FailureClass, Running};
use ostler_model::time::Timestamp;
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::test_runner::FileFailurePersistence;

use crate::support::{START, catalogs, estate, given, here, instance, local, name, service};
use crate::world::{World, failure, unready};

const MINUTE: u64 = 60;
const HOUR: u64 = 60 * MINUTE;
const DAY: u64 = 24 * HOUR;

/// A history of facts, told with lengths of time in seconds.
struct Tale {
    known: Knowledge,
    facts: Vec<Fact>,
    now: Timestamp,
    commands: u64,
}

impl Tale {
    /// A cache, a program and a store that needs the cache, with one instance each: all bought here, nothing made yet.
    fn begin() -> Self {
        let mut tale = Self { known: Knowledge::default(), facts: Vec::new(), now: START, commands: 0 };
        let mut store = service("store", "postgresql");
        store.needs.insert(name("cache"));
        let town = estate(50, vec![service("cache", "redis"), service("web", "program"), store]);
        tale.tell(FactKind::EstateDeclared { estate: Arc::new(town) });
        tale.tell(FactKind::CatalogSeen { provider: here(), catalog: catalogs()[&here()].clone() });
        for (called, offering) in [("cache", "redis"), ("web", "program"), ("store", "postgresql")] {
            let placement = Placement {
                provider: here(),
                offering: offering.parse().unwrap(),
                plan: "small".parse().unwrap(),
                version: None,
                handle: None,
                maintenance: None,
            };
            tale.tell(FactKind::ServicePlaced { service: name(called), placement });
            tale.tell(FactKind::InstanceDeclared { instance: instance(&format!("{called}-1")) });
        }
        tale
    }

    fn tell(&mut self, kind: FactKind) -> &mut Self {
        let fact = Fact { at: self.now, kind };
        evolve(&mut self.known, &fact);
        self.facts.push(fact);
        self
    }

    fn pass(&mut self, seconds: u64) -> &mut Self {
        self.now = self.now + Duration::from_secs(seconds);
        self
    }

    /// An order that takes so long.
    fn order(&mut self, command: Command, seconds: u64, outcome: Outcome) -> &mut Self {
        self.commands += 1;
        let id = CommandId(self.commands);
        self.tell(FactKind::CommandIssued { id, command }).pass(seconds).tell(FactKind::CommandEnded { id, outcome })
    }

    fn provision(&mut self, called: &str, seconds: u64, outcome: Outcome) -> &mut Self {
        self.order(Command::Provision { instance: instance(called) }, seconds, outcome)
    }

    /// It runs, and its probe says so.
    fn ready(&mut self, called: &str) -> &mut Self {
        let running = Running { pid: Some(7), address: local(7), since: self.now };
        let start = Command::Start {
            instance: instance(called),
            generation: 1,
            reflex_burst: 1,
            reflex_refill: ostler_model::time::Span::seconds(1),
            entrust: false,
        };
        self.order(start, 0, Outcome::Started(running.into())).healed(called)
    }

    fn healed(&mut self, called: &str) -> &mut Self {
        self.tell(FactKind::HealthChanged { instance: instance(called), health: Health::Ready });
        self.tell(FactKind::RepairEnded { instance: instance(called) })
    }

    fn sick(&mut self, called: &str) -> &mut Self {
        let symptom = Symptom { kind: SymptomKind::TimedOut, detail: "slow".to_owned() };
        self.tell(FactKind::HealthChanged { instance: instance(called), health: unready("slow") });
        let diagnosis = Diagnosis::Unresponsive { symptom };
        self.tell(FactKind::RepairBegan { instance: instance(called), diagnosis })
    }

    fn resume(&mut self) -> &mut Self {
        self.tell(FactKind::Resumed { cause: ResumeCause::Started })
    }

    fn quiet(&mut self) -> &mut Self {
        self.tell(FactKind::LossAccepted { acknowledged: None })
    }

    /// What is known of this machine by the newest fact; told so that it counts up to now.
    fn evidence(&mut self) -> Evidence {
        // An order that nobody takes amiss counts everything up to now.
        self.order(
            Command::Unbind {
                binding: BindingId { consumer: name("web"), need: name("cache") },
                instance: instance("cache-1"),
            },
            0,
            Outcome::Failed(failure(FailureClass::NeedsPerson, "no")),
        );
        let broken: Vec<_> = check(&self.known).into_iter().filter(|broken| broken.0.contains("counts")).collect();
        assert_eq!(broken, []);
        self.known.evidence[&here()]
    }

    /// For how many seconds it was watched, and how many of these were missing.
    fn seconds(&mut self) -> (u64, u64) {
        let evidence = self.evidence();
        (evidence.watched_us / 1_000_000, evidence.missed_us / 1_000_000)
    }
}

#[test]
fn what_works_counts_and_what_does_not_is_missing() {
    let mut tale = Tale::begin();
    tale.pass(DAY).ready("cache-1").pass(DAY);
    assert_eq!(tale.seconds(), (DAY, 0), "before it was there nothing was watched");
    tale.sick("cache-1").pass(10 * MINUTE).healed("cache-1").pass(HOUR);
    assert_eq!(tale.seconds(), (DAY + HOUR + 10 * MINUTE, 10 * MINUTE));
    // Of two instances one is away: half of it is missing.
    tale.tell(FactKind::InstanceDeclared { instance: instance("cache-2") }).ready("cache-2");
    tale.sick("cache-2").pass(10 * MINUTE).healed("cache-2");
    assert_eq!(tale.seconds(), (DAY + HOUR + 20 * MINUTE, 15 * MINUTE));
    // A reflex brings it back: what is missing is the time until it is ready.
    let died = FactKind::InstanceDied {
        instance: instance("cache-2"),
        pid: Some(7),
        exit: Exit::Signal(9),
        seen: tale.now,
        restarted: None,
        why_not: Some("spent".to_owned()),
    };
    let diagnosis = Diagnosis::Died { exit: Exit::Signal(9), why_not: "spent".to_owned() };
    tale.tell(died).tell(FactKind::RepairBegan { instance: instance("cache-2"), diagnosis });
    tale.pass(2 * MINUTE).ready("cache-2");
    assert_eq!(tale.seconds(), (DAY + HOUR + 22 * MINUTE, 16 * MINUTE));
}

#[test]
fn what_is_nobodys_fault_says_nothing() {
    // Stopped by a person, and started again.
    let mut tale = Tale::begin();
    tale.ready("cache-1").pass(HOUR).tell(FactKind::DownAsked);
    let stopped = Outcome::Stopped { exit: None, killed: false, cut: 0 };
    let span = ostler_model::time::Span::seconds(1);
    tale.order(Command::Stop { instance: instance("cache-1"), drain: span, grace: span }, 0, stopped);
    assert_eq!(tale.pass(DAY).seconds(), (HOUR, 0));

    // Sick when everything was asked to be down.
    let mut tale = Tale::begin();
    tale.ready("cache-1").pass(HOUR).sick("cache-1").tell(FactKind::DownAsked);
    assert_eq!(tale.pass(DAY).seconds(), (HOUR, 0));

    // A person is asked, and answers late.
    let mut tale = Tale::begin();
    tale.ready("cache-1").pass(HOUR).sick("cache-1").pass(MINUTE);
    let (question, answer) = ("which?".to_owned(), "this".to_owned());
    tale.tell(FactKind::Held { instance: instance("cache-1"), question, answer, goes_on: false });
    assert_eq!(tale.pass(DAY).seconds(), (HOUR + MINUTE, MINUTE));

    // What it needs is not there.
    let mut tale = Tale::begin();
    tale.ready("store-1").pass(HOUR).sick("store-1");
    assert_eq!(tale.pass(DAY).seconds(), (HOUR, 0));

    // Its probe cannot be made.
    let mut tale = Tale::begin();
    tale.ready("cache-1").pass(HOUR);
    let symptom = Symptom { kind: SymptomKind::Unknown, detail: "no descriptors".to_owned() };
    tale.tell(FactKind::HealthChanged { instance: instance("cache-1"), health: Health::Unready(symptom) });
    assert_eq!(tale.pass(DAY).seconds(), (HOUR, 0));

    // The buyer's own program.
    let mut tale = Tale::begin();
    tale.ready("web-1").pass(HOUR).sick("web-1");
    assert_eq!(tale.pass(DAY).seconds(), (0, 0));
}

#[test]
fn nothing_is_said_of_the_time_in_which_ostler_was_away() {
    let mut tale = Tale::begin();
    tale.ready("cache-1").pass(HOUR).quiet().pass(DAY).resume();
    assert_eq!(tale.seconds(), (HOUR, 0), "only up to the newest fact before");
    tale.pass(HOUR);
    assert_eq!(tale.seconds(), (HOUR, 0), "nothing was seen of it since");
    tale.healed("cache-1").pass(HOUR);
    assert_eq!(tale.seconds(), (2 * HOUR, 0));

    // It was sick, and is sick after; in between nobody looked.
    let mut tale = Tale::begin();
    tale.ready("cache-1").pass(HOUR).sick("cache-1").pass(MINUTE).quiet().pass(DAY).resume().pass(HOUR);
    assert_eq!(tale.seconds(), (HOUR + MINUTE, MINUTE));
    tale.sick("cache-1").pass(MINUTE);
    assert_eq!(tale.seconds(), (HOUR + 2 * MINUTE, 2 * MINUTE));

    // The clock was set back while it was away.
    let mut tale = Tale::begin();
    tale.ready("cache-1").pass(HOUR);
    tale.quiet().now = START;
    tale.resume().healed("cache-1").pass(HOUR);
    assert_eq!(tale.seconds(), (2 * HOUR, 0));
}

#[test]
fn orders_count_by_what_came_of_them() {
    let mut tale = Tale::begin();
    tale.provision("cache-1", 4, Outcome::Done).pass(HOUR);
    tale.provision("cache-1", 8, Outcome::Done);
    let evidence = tale.evidence();
    assert_eq!((evidence.done, evidence.failed, evidence.made, evidence.making_us), (2, 0, 2, 12_000_000));

    for (class, failed) in [
        (FailureClass::Temporary, 1),
        (FailureClass::InDoubt, 1),
        (FailureClass::LeftBehind, 1),
        (FailureClass::Unclear, 1),
        (FailureClass::Interrupted, 0),
        (FailureClass::NeedsPerson, 0),
    ] {
        let mut tale = Tale::begin();
        tale.provision("cache-1", 4, Outcome::Failed(failure(class, "no")));
        let evidence = tale.evidence();
        assert_eq!((evidence.done, evidence.failed, evidence.made), (0, failed, 0), "{class:?}");
    }

    // A bad minute is one failure, whatever is tried in it; the next hour's is another.
    let mut tale = Tale::begin();
    for _ in 0..30 {
        tale.provision("cache-1", 2, Outcome::Failed(failure(FailureClass::Temporary, "no")));
    }
    assert_eq!(tale.evidence().failed, 1);
    tale.pass(HOUR).provision("cache-1", 2, Outcome::Failed(failure(FailureClass::Temporary, "no")));
    assert_eq!(tale.evidence().failed, 2);

    // What is asked for on behalf of the buyer's own program is no evidence.
    let mut tale = Tale::begin();
    tale.ready("cache-1").provision("web-1", 2, Outcome::Failed(failure(FailureClass::Temporary, "no")));
    assert_eq!(tale.evidence().failed, 0);
}

#[test]
fn what_is_long_past_counts_less() {
    let mut tale = Tale::begin();
    tale.provision("cache-1", 0, Outcome::Done).ready("cache-1").sick("cache-1").pass(8 * HOUR).healed("cache-1");
    tale.pass(30 * DAY - 8 * HOUR);
    assert_eq!(tale.seconds(), (15 * DAY, 4 * HOUR));
    assert_eq!(tale.evidence().done, 0, "one order is none after so long");
    tale.pass(300 * DAY);
    let (watched, missed) = tale.seconds();
    assert!((29 * DAY..=60 * DAY).contains(&watched) && missed < MINUTE, "{watched} {missed}");
}

#[test]
fn who_is_taken_out_of_the_file_is_forgotten_once_nothing_is_left_there() {
    let mut tale = Tale::begin();
    tale.ready("cache-1").pass(HOUR);
    let mut town = (**tale.known.estate.as_ref().unwrap()).clone();
    let other: ProviderName = "other".parse().unwrap();
    let declared = town.providers.remove(&here()).unwrap();
    town.providers.insert(other.clone(), ostler_model::estate::Provider { name: other, ..declared });
    town.services.clear();
    tale.tell(FactKind::EstateDeclared { estate: Arc::new(town.clone()) });
    assert_eq!(tale.seconds(), (HOUR, 0), "its instances are there still");
    for called in ["cache-1", "web-1", "store-1"] {
        tale.tell(FactKind::DeleteAsked { service: instance(called).service().clone() });
        tale.order(Command::Deprovision { instance: instance(called) }, 0, Outcome::Done);
    }
    tale.tell(FactKind::EstateDeclared { estate: Arc::new(town) });
    assert!(tale.known.evidence.is_empty(), "{:?}", tale.known.evidence);
}

/// What is said against `here`, of which this was seen; there is another provider of which `other` was seen.
fn fault(promised: Option<&str>, seen: Evidence, other: Option<Evidence>) -> Option<String> {
    let mut town = estate(50, vec![service("db", "redis")]);
    let there: ProviderName = "there".parse().unwrap();
    let declared = town.providers.get_mut(&here()).unwrap();
    let terms = |promised: &str| Terms { availability: Some(promised.parse().unwrap()), ..Terms::default() };
    declared.terms = promised.map(terms);
    let declared = declared.clone();
    town.providers.insert(there.clone(), ostler_model::estate::Provider { name: there.clone(), ..declared });
    let mut offers = catalogs();
    offers.insert(there.clone(), offers[&here()].clone());
    let mut known = Knowledge::default();
    let counted = |evidence| Evidence { counted: START, halved: START, ..evidence };
    known.evidence.insert(here(), counted(seen));
    known.evidence.extend(other.map(|other| (there, counted(other))));
    let all = candidates(&known, &town, &offers, &town.services[&name("db")], START);
    // A scorecard shows the very numbers by which is chosen.
    known.estate = Some(Arc::new(town));
    let conduct = known.conduct(START);
    for candidate in &all {
        let Conduct { promised, sick, certificate, delivered, falls_short } = &conduct[&candidate.provider];
        assert_eq!((promised, sick), (&candidate.availability, &candidate.sick));
        assert_eq!((certificate, delivered), (&candidate.certificate, &candidate.delivered));
        assert_eq!(falls_short, &candidate.falls_short);
    }
    all.into_iter().find(|candidate| candidate.provider == here()).unwrap().falls_short
}

fn watched(hours: u64, missed_minutes: u64) -> Evidence {
    Evidence {
        watched_us: hours * HOUR * 1_000_000,
        missed_us: missed_minutes * MINUTE * 1_000_000,
        ..Evidence::default()
    }
}

fn orders(done: u32, failed: u32) -> Evidence {
    Evidence { done, failed, ..Evidence::default() }
}

/// Twice what the promise allows in 30 days is 43.2 minutes for 99.95%; at least a thousandth more is as much again.
#[test]
fn what_is_missing_decides_only_where_it_is_clear() {
    for (promised, hours, missed, falls_short) in [
        (Some("99.95%"), 23, 23 * 60, false), // too little to say anything
        (Some("99.95%"), 24, 64, false),
        (Some("99.95%"), 24, 65, true),
        (Some("99.95%"), 30 * 24, 64, false),
        (Some("99.95%"), 30 * 24, 65, true),
        (Some("99.95%"), 60 * 24, 129, false),
        (Some("99.95%"), 60 * 24, 130, true),
        (Some("100%"), 48, 43, false),
        (Some("100%"), 48, 44, true),
        (Some("99%"), 48, 14 * 60, false),
        (Some("99%"), 48, 15 * 60, true),
        (None, 48, 14 * 60, false),
        (None, 48, 15 * 60, true),
        (Some("90%"), 48, 48 * 60, false), // less than that promise allows in 30 days
    ] {
        let said = fault(promised, watched(hours, missed), None);
        assert_eq!(said.is_some(), falls_short, "{promised:?}: {missed} min of {hours} h: {said:?}");
    }
}

#[test]
fn orders_that_fail_decide_only_where_they_are_many_more_than_elsewhere() {
    for (seen, other, falls_short) in [
        (orders(0, 4), None, false), // too few to say anything
        (orders(4, 1), None, false),
        (orders(3, 2), None, true),
        (orders(0, 5), Some(orders(0, 5)), false), // as bad as elsewhere
        (orders(0, 5), Some(orders(5, 0)), true),
        (orders(70, 30), Some(orders(90, 10)), false),
        (orders(69, 31), Some(orders(90, 10)), true),
        (orders(u32::MAX, u32::MAX), Some(orders(u32::MAX, 0)), true),
    ] {
        assert_eq!(fault(None, seen, other).is_some(), falls_short, "{seen:?} {other:?}");
    }
}

#[test]
fn what_is_said_against_a_provider() {
    insta::assert_snapshot!(
        [
            fault(Some("99.95%"), watched(12 * 24, 185), None),
            fault(None, watched(12 * 24, 1200), None),
            fault(None, orders(6, 4), Some(orders(41, 1))),
        ]
        .map(Option::unwrap)
        .join("\n")
    );
}

/// What exists stays where it is, and nothing is done about it, whatever is measured.
#[test]
fn a_settled_estate_is_left_alone_whatever_is_measured() {
    let mut town = estate(50, vec![service("cache", "redis")]);
    let there: ProviderName = "there".parse().unwrap();
    let declared = town.providers[&here()].clone();
    town.providers.insert(there.clone(), ostler_model::estate::Provider { name: there.clone(), ..declared });
    let mut offers = catalogs();
    offers.insert(there.clone(), offers[&here()].clone());
    let given = |town: &ostler_model::estate::Estate| Event::EstateGiven {
        estate: Arc::new(town.clone()),
        catalogs: offers.clone(),
    };
    let mut world = World::new();
    let _ = world.give(&given(&town));
    world.settle();
    let bought_at = |world: &World, called: &str| {
        world.known.services[&name(called)].placement.as_ref().map(|placement| placement.provider.clone())
    };
    assert_eq!(bought_at(&world, "cache"), Some(here()));
    let seen = world.known.evidence.get_mut(&here()).unwrap();
    (seen.watched_us, seen.missed_us) = (DAY * 2_000_000, DAY * 2_000_000);
    assert!(fault(None, world.known.evidence[&here()], None).is_some());
    let decision = world.give(&given(&town));
    assert_eq!((decision.facts, decision.commands), (Vec::new(), Vec::new()));
    assert_eq!(bought_at(&world, "cache"), Some(here()));
    // What is new goes elsewhere.
    town.services.insert(name("other"), Arc::new(service("other", "redis")));
    let _ = world.give(&given(&town));
    assert_eq!((bought_at(&world, "cache"), bought_at(&world, "other")), (Some(here()), Some(there)));
}

#[test]
fn a_world_that_is_kind_is_seen_to_be() {
    let mut world = World::new();
    let _ = world.give(&given(&estate(50, vec![service("cache", "redis"), service("db", "postgresql")])));
    world.settle();
    world.pass(Duration::from_secs(DAY));
    world.kill(&instance("cache-1"));
    world.settle();
    let evidence = world.known.evidence[&here()];
    assert_eq!((evidence.working, evidence.away, evidence.failed), (2, 0, 0));
    assert!(evidence.watched_us >= DAY * 1_000_000 && evidence.missed_us < MINUTE * 1_000_000, "{evidence:?}");
    assert!(evidence.done >= 2 && evidence.made == 2, "{evidence:?}");
    assert_eq!(world.folded(), world.known);
}

#[derive(Clone, Debug)]
enum Happening {
    Pass(u64),
    Ready(usize),
    Sick(usize),
    Healed(usize),
    Fails(usize),
    Resume,
    Down,
    Declared,
}

fn happening() -> impl Strategy<Value = Happening> {
    let which = || 0..3_usize;
    prop_oneof![
        6 => (0..40 * DAY).prop_map(Happening::Pass),
        6 => (0..HOUR).prop_map(Happening::Pass),
        4 => which().prop_map(Happening::Ready),
        3 => which().prop_map(Happening::Sick),
        3 => which().prop_map(Happening::Healed),
        2 => which().prop_map(Happening::Fails),
        1 => Just(Happening::Resume),
        1 => Just(Happening::Down),
        1 => Just(Happening::Declared),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig {
        failure_persistence: Some(Box::new(FileFailurePersistence::Direct("tests/regressions/evidence.txt"))),
        ..ProptestConfig::default()
    })]

    /// Nothing is missing that was not watched, nothing was watched that has not passed, and the facts alone say it, also
    /// where they are taken up again in the middle.
    #[test]
    fn no_more_is_counted_than_there_was(happenings in vec(happening(), 1..60), cut in 0..200_usize) {
        let mut tale = Tale::begin();
        for happening in happenings {
            let called = |which: usize| ["cache-1", "web-1", "store-1"][which];
            match happening {
                Happening::Pass(seconds) => tale.pass(seconds),
                Happening::Ready(which) => tale.ready(called(which)),
                Happening::Sick(which) => tale.sick(called(which)),
                Happening::Healed(which) => tale.healed(called(which)),
                Happening::Fails(which) => {
                    tale.provision(called(which), 1, Outcome::Failed(failure(FailureClass::Temporary, "no")))
                }
                Happening::Resume => tale.resume(),
                Happening::Down => tale.tell(FactKind::DownAsked),
                Happening::Declared => {
                    let estate = tale.known.estate.clone().unwrap();
                    tale.tell(FactKind::EstateDeclared { estate })
                }
            };
            let passed = tale.now.since(START).as_micros();
            let evidence = tale.evidence();
            prop_assert!(evidence.missed_us <= evidence.watched_us && u128::from(evidence.watched_us) <= passed);
        }
        let mut folded = Knowledge::default();
        for (index, fact) in tale.facts.iter().enumerate() {
            if index == cut {
                let text = serde_json::to_string(&folded).unwrap();
                folded = serde_json::from_str(&text).unwrap();
            }
            evolve(&mut folded, fact);
        }
        prop_assert_eq!(folded, tale.known);
    }

    /// Whatever is promised, and however many instances are away: a minute decides nothing.
    #[test]
    fn a_bad_minute_decides_nothing(promised in 1..=1_000_000_u32, watched_us in 60_000_000..u64::MAX / 4, done in 4..1000_u32) {
        let promised = Percent::from_millionths(promised).unwrap().to_string();
        let minute = Evidence { watched_us, missed_us: 60_000_000, done, failed: 1, ..Evidence::default() };
        prop_assert_eq!(fault(Some(&promised), minute, Some(orders(1000, 0))), None);
    }
}
