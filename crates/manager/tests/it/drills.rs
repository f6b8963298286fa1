//! Drills: what is caused is undone wherever it is cut off, nothing counts against anybody, and the schedule keeps to its
//! windows.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use ostler_manager::{Ask, By, DrillResult, Event, FactKind, ResumeCause, Verdict};
use ostler_model::estate::drills::{Drills, Fault};
use ostler_model::estate::slo::{Objective, Slo};
use ostler_model::estate::{Estate, Service};
use ostler_model::ids::ServiceName;
use ostler_model::outcome::FailureClass;
use ostler_model::time::{Span, Timestamp};
use ostler_model::window::Calendar;

use crate::support::{START, estate, given, here, instance, name, service};
use crate::world::World;

fn up(services: Vec<Service>, drill: Option<Drills>) -> World {
    let mut world = World::new();
    let town = Estate { drill: drill.map(Box::new), ..estate(50, services) };
    let _ = world.give(&given(&town));
    world.settle();
    world
}

fn drill(world: &mut World, called: &str, fault: Fault) {
    let ask = Ask::Drill { service: name(called), fault, lasts: None, despite: None };
    let decision = world.give(&Event::Asked(ask));
    assert!(world.known.drill.is_some(), "{:?}", decision.withheld);
}

fn results(world: &World) -> Vec<&DrillResult> {
    let ended = |fact: &'_ FactKind| matches!(fact, FactKind::DrillEnded { .. });
    let facts = world.facts.iter().filter(|fact| ended(&fact.kind));
    facts
        .filter_map(|fact| if let FactKind::DrillEnded { result } = &fact.kind { Some(&**result) } else { None })
        .collect()
}

fn begun(world: &World) -> Vec<(Timestamp, ServiceName, Fault)> {
    let facts = world.facts.iter().filter_map(|fact| match &fact.kind {
        FactKind::DrillBegan { drill } => Some((fact.at, drill.service.clone(), drill.fault)),
        _ => None,
    });
    facts.collect()
}

/// Lets so much time pass while the world obliges.
fn live(world: &mut World, length: Duration) {
    world.settle();
    let until = world.now + length;
    while let Some((at, _)) = world.wakes.first().cloned().filter(|(at, _)| *at <= until) {
        world.pass(at.since(world.now));
        world.settle();
    }
    world.pass(until.since(world.now));
    world.settle();
}

/// Nothing is left of any drill: in the world, in what is known, and in what counts against others.
fn assert_undone(world: &mut World, what: &str) {
    live(world, Duration::from_secs(1200));
    assert_eq!((&world.fault, &world.known.drill), (&None, &None), "{what}");
    assert!(
        world.instances.values().all(|truth| truth.process.as_ref().is_some_and(|process| !process.hung)),
        "{what}"
    );
    let left = world.known.services.values().flat_map(|s| s.instances.values()).find(|instance| instance.drilled);
    assert!(left.is_none() && world.known.is_settled(), "{what}: {left:?}");
    assert_eq!(world.folded(), world.known, "{what}");
}

/// Ostler is killed after each step of each drill; what it had handed over is done, or not.
#[test]
fn what_may_have_been_caused_is_undone_wherever_ostler_is_cut_off() {
    let mut cut_short = 0;
    for fault in [Fault::Kill, Fault::Hang, Fault::Slow, Fault::Refuse] {
        for cause in [ResumeCause::Started, ResumeCause::HolderReturned, ResumeCause::StoredLate] {
            for steps in 0..24 {
                for done in [false, true] {
                    let what = format!("{fault}, {cause:?}, cut off after {steps}, done: {done}");
                    let mut world = up(vec![service("web", "program"), service("other", "program")], None);
                    drill(&mut world, "web", fault);
                    for _ in 0..steps {
                        if !world.oblige() {
                            world.pass(Duration::from_secs(1));
                        }
                    }
                    let was_over = world.known.drill.is_none();
                    let _ = world.resume(cause, |_| done);
                    world.settle();
                    assert_undone(&mut world, &what);
                    let results = results(&world);
                    assert_eq!(results.len(), 1, "{what}");
                    let cut = matches!(results[0].verdict, Verdict::CutShort(_));
                    assert!(cut || was_over || results[0].verdict == Verdict::Proven, "{what}: {results:?}");
                    cut_short += usize::from(cut);
                    // And another one can be made.
                    live(&mut world, Duration::from_secs(60));
                    drill(&mut world, "web", Fault::Kill);
                    assert_undone(&mut world, &what);
                    assert_eq!(self::results(&world)[1].verdict, Verdict::Proven, "{what}");
                }
            }
        }
    }
    assert!(cut_short > 50, "{cut_short}: the cuts missed the drills");
}

/// Undoing that fails is tried again, with growing pauses, for as long as it takes.
#[test]
fn an_undoing_that_fails_is_tried_again() {
    let mut world = up(vec![service("web", "program")], None);
    drill(&mut world, "web", Fault::Hang);
    world.oblige();
    world.oblige();
    let _ = world.give(&Event::Asked(Ask::Restart { service: name("web") }));
    for failures in 0..5 {
        let undo = world.orders.iter().find(|(_, order)| order.in_words().starts_with("undo")).map(|(id, _)| *id);
        world.fail(undo.unwrap_or_else(|| panic!("not undone after {failures} failures")), FailureClass::Temporary);
        assert!(world.fault.is_some());
        world.pass(Duration::from_secs(400));
    }
    world.settle();
    assert_undone(&mut world, "in the end");
    assert!(matches!(results(&world)[0].verdict, Verdict::CutShort(_)));
}

/// What cannot be caused is undone all the same, and says nothing against the service.
#[test]
fn what_cannot_be_caused_says_nothing() {
    let mut world = up(vec![service("web", "program")], None);
    drill(&mut world, "web", Fault::Hang);
    let order = *world.orders.keys().next().unwrap();
    world.fail(order, FailureClass::Temporary);
    world.settle();
    assert_undone(&mut world, "not caused");
    assert_eq!(results(&world)[0].verdict, Verdict::NotCaused("it went wrong".to_owned()));
    assert!(!world.known.services[&name("web")].drilled.as_ref().unwrap().failed);
}

/// Whatever else people do meanwhile, the drill is undone, and nothing is concluded from it.
#[test]
fn who_does_something_else_meanwhile_ends_the_drill() {
    let web = || name("web");
    for ask in [
        Ask::Restart { service: web() },
        Ask::Scale { service: web(), instances: 3 },
        Ask::Down,
        Ask::Restart { service: web() },
    ] {
        let what = format!("{ask:?}");
        let mut world = up(vec![service("web", "program")], None);
        drill(&mut world, "web", Fault::Refuse);
        world.oblige();
        world.oblige();
        let _ = world.give(&Event::Asked(ask));
        world.settle();
        assert_eq!((&world.fault, &world.known.drill), (&None, &None), "{what}");
        assert!(matches!(results(&world)[0].verdict, Verdict::CutShort(_)), "{what}");
    }
    let mut world = up(vec![service("web", "program"), service("other", "program")], None);
    drill(&mut world, "web", Fault::Refuse);
    world.oblige();
    world.oblige();
    // It is not even declared any more.
    let _ = world.give(&given(&estate(50, vec![service("other", "program")])));
    world.settle();
    assert_eq!((&world.fault, &world.known.drill), (&None, &None));
    assert!(matches!(results(&world)[0].verdict, Verdict::CutShort(_)));
}

fn slo() -> Slo {
    Slo {
        availability: Some("99.9%".parse().unwrap()),
        latency_p99: None,
        over: Span::seconds(30 * 86_400),
        exclude: Vec::new(),
    }
}

/// The same fault counts in full where it is no drill.
#[test]
fn a_drill_counts_against_nobody() {
    let missed = |on_purpose: bool| {
        let mut db = service("db", "redis");
        db.slo = Some(slo());
        let mut web = service("web", "program");
        web.needs.insert(name("db"));
        web.slo = Some(slo());
        let mut world = up(vec![db, web], None);
        world.pass(Duration::from_secs(3600));
        if on_purpose {
            drill(&mut world, "db", Fault::Hang);
            world.oblige();
            world.oblige();
        } else {
            world.instances.get_mut(&instance("db-1")).and_then(|t| t.process.as_mut()).unwrap().hung = true;
        }
        while world.probe(&instance("db-1")).is_none() {
            assert!(world.oblige());
        }
        world.pass(Duration::from_secs(30)); // nobody answers orders so fast
        world.settle();
        assert_eq!(results(&world).len(), usize::from(on_purpose));
        assert_undone(&mut world, "over");
        let level = |called: &str| {
            let known = &world.known.services[&name(called)];
            let level = known.level.as_ref().unwrap();
            let standing = level.standing(known.spec.slo.as_ref().unwrap(), Objective::Availability, world.now);
            standing.map(|standing| (standing.failed, standing.excluded)).unwrap()
        };
        let evidence = world.known.evidence[&here()];
        (evidence.missed_us, level("db"))
    };
    let (missed_us, (failed, excluded)) = missed(true);
    assert_eq!((missed_us, failed), (0, Duration::ZERO));
    assert!(excluded >= Duration::from_secs(30), "{excluded:?}");
    let (missed_us, (failed, excluded)) = missed(false);
    assert!(missed_us > 0 && failed > Duration::from_secs(29), "{missed_us} {failed:?}");
    assert_eq!(excluded, Duration::ZERO);
}

/// Four months by the schedule, across a change of clocks, with restarts of ostler in between.
#[test]
fn the_schedule_keeps_to_its_windows() {
    let drills = Drills {
        calendar: Calendar {
            window: vec!["Sun 01:30 - 03:30 Europe/Berlin".parse().unwrap(), "Wed 22:00 - 23:00".parse().unwrap()],
            freeze: vec!["2026-02-01 - 2026-02-14".parse().unwrap()],
        },
        every: Some(Span::seconds(3 * 86_400)),
        faults: vec![Fault::Kill, Fault::Refuse],
        ..Drills::default()
    };
    let services = vec![service("a", "program"), service("b", "redis"), service("c", "program")];
    let mut world = up(services, Some(drills.clone()));
    for day in 0..120 {
        live(&mut world, Duration::from_secs(86_400));
        if day % 10 == 9 {
            let _ = world.resume(ResumeCause::Started, |_| true);
            world.settle();
        }
    }
    let begun = begun(&world);
    assert!(begun.len() > 60, "{}", begun.len());
    let mut of: BTreeMap<&ServiceName, Vec<(Timestamp, Fault)>> = BTreeMap::new();
    for (at, service, fault) in &begun {
        assert!(drills.has_room(*at, drills.lasts.get()), "{service} at {at}");
        of.entry(service).or_default().push((*at, *fault));
    }
    for (service, all) in of {
        assert!(all.len() > 20, "{service}: {all:?}");
        for pair in all.windows(2) {
            assert!(pair[1].0.since(pair[0].0) >= Duration::from_secs(3 * 86_400), "{service}: {pair:?}");
            assert_ne!(pair[0].1, pair[1].1, "{service}: the faults in turn");
        }
    }
    let verdicts: Vec<&Verdict> = results(&world).iter().map(|result| &result.verdict).collect();
    assert!(verdicts.iter().all(|verdict| **verdict == Verdict::Proven), "{verdicts:?}");
    assert!(results(&world).iter().all(|result| result.drill.by == By::Schedule));
    assert!(begun[0].0 >= START);
}

/// Only as many in one opening of a window as declared, however often they are due.
#[test]
fn not_more_in_one_window_than_declared() {
    for (at_most, expected) in [(1, 1), (2, 2), (50, 7)] {
        let drills = Drills {
            calendar: Calendar { window: vec!["Mon 12:00 - 18:30".parse().unwrap()], freeze: Vec::new() },
            every: Some(Span::seconds(3600)),
            at_most,
            ..Drills::default()
        };
        let mut world = up(vec![service("web", "program")], Some(drills));
        live(&mut world, Duration::from_secs(86_400));
        assert_eq!(begun(&world).len(), expected, "{at_most}");
    }
}

/// A file that says nothing of drills any more ends the schedule.
#[test]
fn without_the_table_nothing_is_scheduled() {
    let drills = Drills {
        calendar: Calendar { window: vec!["00:00 - 24:00".parse().unwrap()], freeze: Vec::new() },
        every: Some(Span::seconds(3600)),
        ..Drills::default()
    };
    let mut world = up(vec![service("web", "program")], Some(drills));
    live(&mut world, Duration::from_secs(7200));
    let before = begun(&world).len();
    assert!(before > 0);
    let bare = Arc::new(estate(50, vec![service("web", "program")]));
    let _ = world.give(&given(&bare));
    live(&mut world, Duration::from_secs(3 * 86_400));
    assert_eq!(begun(&world).len(), before);
}
