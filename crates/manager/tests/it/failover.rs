//! Whether a service can be moved, to where and with which data: a table of what is declared and what there is.

use std::time::Duration;

use ostler_manager::{Ask, Brings, Event, Move, WhyNot, can_be_moved, can_move};
use ostler_model::ids::ProviderName;
use ostler_model::time::Span;

use crate::support::{estate, given, here, instance, name, service, with_provider};
use crate::world::World;

fn there() -> ProviderName {
    "there".parse().unwrap()
}

/// A database at `here`, with another provider `there`; `change` says what else is declared.
fn world(change: impl FnOnce(&mut ostler_model::estate::Service)) -> World {
    let mut db = service("db", "postgresql");
    change(&mut db);
    let mut world = World::new();
    let _ = world.give(&given(&with_provider(estate(50, vec![db]), "there")));
    world.settle();
    world
}

/// Its server dies and does not come back.
fn dead(world: &mut World) {
    world.crashing.insert(name("db"));
    world.settle();
    assert!(!world.instance(&instance("db-1")).is_ready());
}

fn by_itself(world: &World) -> Result<Move, WhyNot> {
    can_move(&world.known, &world.known.services[&name("db")], world.now)
}

fn by_a_person(world: &World, to: Option<&ProviderName>, accept_loss: bool) -> Result<Move, WhyNot> {
    can_be_moved(&world.known, &world.known.services[&name("db")], to, accept_loss, world.now)
}

fn back_up(world: &mut World, called: &str) {
    let _ = world.give(&Event::Asked(Ask::Backup { service: name("db"), name: called.to_owned() }));
    world.settle();
}

#[test]
fn what_still_answers_is_backed_up_once_more_and_loses_nothing() {
    let world = world(|_| {});
    let it = by_itself(&world).unwrap();
    assert_eq!((it.to.provider, it.brings.clone(), it.brings.lost_since()), (there(), Brings::LastBackup, None));
    let accepted = by_a_person(&world, None, true).unwrap();
    assert_eq!(accepted.brings, Brings::LastBackup, "what is accepted need not be lost");
}

#[test]
fn no_backup_is_older_than_declared_unless_a_person_accepts_it() {
    for (declared, every, age, moves) in [
        (Some(10), None, 10, true),
        (Some(10), None, 11, false),
        (None, Some(10), 20, true),
        (None, Some(10), 21, false),
        (Some(30), Some(10), 30, true),
        (None, None, 0, false),
    ] {
        let mut world = world(|db| {
            db.failover.loses_at_most = declared.map(|minutes: u64| Span::seconds(minutes * 60));
        });
        back_up(&mut world, "old");
        let made = world.now; // it holds nothing that was written since it was begun
        back_up(&mut world, "newest");
        dead(&mut world);
        world.pass(Duration::from_secs(age * 60).saturating_sub(world.now.since(made)));
        // The schedule itself would have made another one meanwhile.
        let spec = &mut world.known.services.get_mut(&name("db")).unwrap().spec;
        std::sync::Arc::make_mut(spec).data.backup_every = every.map(|minutes: u64| Span::seconds(minutes * 60));
        let case = format!("{declared:?} {every:?} {age}");
        match by_itself(&world) {
            Ok(it) if moves => {
                let Brings::Backup { made: backup, lost_since } = it.brings else { panic!("{case}: {:?}", it.brings) };
                assert_eq!((backup.name.as_str(), lost_since), ("newest", Some(made)), "{case}");
            }
            Err(WhyNot::TooOld(at, _)) if !moves => assert_eq!(at, made, "{case}"),
            other => panic!("{case}: {other:?}"),
        }
        let accepted = by_a_person(&world, None, true).unwrap();
        assert_eq!(accepted.brings.lost_since(), Some(made), "{case}");
    }
}

#[test]
fn without_a_backup_only_a_person_moves_it() {
    let mut world = world(|db| db.failover.loses_at_most = Some(Span::seconds(3600)));
    dead(&mut world);
    assert_eq!(by_itself(&world), Err(WhyNot::NoBackup));
    assert_eq!(by_a_person(&world, None, false), Err(WhyNot::NoBackup));
    assert_eq!(by_a_person(&world, None, true).unwrap().brings, Brings::Nothing);
}

#[test]
fn what_is_not_durable_goes_without() {
    let mut world = world(|db| db.data.durable = Some(false));
    dead(&mut world);
    let it = by_itself(&world).unwrap();
    assert_eq!((it.brings, it.accepts_loss), (Brings::Nothing, false));
    assert!(!by_a_person(&world, None, true).unwrap().accepts_loss, "nothing is lost that anybody had to accept");
}

#[test]
fn where_it_may_not_go_it_does_not() {
    let forbidden = world(|db| db.failover.by_itself = false);
    assert_eq!(by_itself(&forbidden), Err(WhyNot::NotByItself));
    assert_eq!(by_a_person(&forbidden, None, false).unwrap().to.provider, there());

    let preferred = world(|db| db.prefer = vec![here()]);
    let Err(WhyNot::Nowhere(why)) = by_itself(&preferred) else { panic!("it goes somewhere") };
    assert!(why.contains("it is not named in `prefer`"), "{why}");

    let world = world(|_| {});
    for (to, part) in [("here", "is where it is"), ("nowhere", "there is no provider")] {
        let Err(WhyNot::Nowhere(why)) = by_a_person(&world, Some(&to.parse().unwrap()), false) else { panic!("{to}") };
        assert!(why.contains(part), "{why}");
    }
}

#[test]
fn several_instances_of_durable_data_stay() {
    let world = world(|db| db.instances = 2);
    assert_eq!(by_itself(&world), Err(WhyNot::SeveralInstances));
    assert_eq!(by_a_person(&world, None, true), Err(WhyNot::SeveralInstances));
}

#[test]
fn what_is_stopped_or_on_its_way_is_not_moved() {
    let mut world = world(|_| {});
    let _ = world.give(&Event::Asked(Ask::FailOver { service: name("db"), to: None, accept_loss: false }));
    assert_eq!(by_itself(&world), Err(WhyNot::UnderWay));
    world.settle();
    assert_eq!(by_itself(&world).unwrap().to.provider, here(), "it may come back");
    let _ = world.give(&Event::Asked(Ask::Down));
    world.settle();
    assert_eq!(by_itself(&world), Err(WhyNot::NotWanted));
}

#[test]
fn the_same_version_is_taken_or_another_that_can_read_its_data() {
    let mut world = world(|_| {});
    let held = world.known.services[&name("db")].placement.clone().unwrap().version;
    assert_eq!(by_itself(&world).unwrap().to.version, held);
    let offered = |world: &mut World, versions: &[&str]| {
        let catalog = std::sync::Arc::make_mut(world.known.catalogs.get_mut(&there()).unwrap());
        let offering = catalog.offerings.get_mut(&"postgresql".parse().unwrap()).unwrap();
        offering.versions = versions.iter().map(|version| version.parse().unwrap()).collect();
    };
    offered(&mut world, &["16.4", "17.9"]);
    assert_eq!(by_itself(&world).unwrap().to.version, Some("17.9".parse().unwrap()));
    offered(&mut world, &["16.4", "18.0"]);
    let Err(WhyNot::Nowhere(why)) = by_itself(&world) else { panic!("it cannot read its data there") };
    assert!(why.contains("the series of 17.2"), "{why}");
}
