//! Replacing the instances of a service one after the other, while everything works: callers are never left with fewer
//! than they were promised, also when the manager is restarted on the way.

use std::time::Duration;

use ostler_manager::{Ask, Event, Phase, ResumeCause};
use ostler_model::ids::CommandId;
use proptest::prelude::*;
use proptest::test_runner::FileFailurePersistence;

use crate::support::{estate, given, name, service};
use crate::world::World;

fn assert_enough_serve(world: &World, away_max: usize) {
    let web = &world.known.services[&name("web")];
    let serving = |number: &u32| {
        let id = web.instance_id(*number);
        world.truth(&id).process.is_some() && world.routes.contains_key(&id)
    };
    let away = web.instances.keys().filter(|number| !serving(number)).count();
    assert!(away <= away_max, "{away} of {} are away: {:?}", web.instances.len(), world.routes);
}

proptest! {
    #![proptest_config(ProptestConfig {
        failure_persistence: Some(Box::new(FileFailurePersistence::Direct("tests/regressions/rolling.txt"))),
        ..ProptestConfig::default()
    })]

    #[test]
    fn never_more_are_away_than_allowed(
        instances in 1..=12_u32,
        by_file in any::<bool>(),
        resumes in proptest::collection::btree_map(0..200_usize, (any::<bool>(), any::<u64>()), 0..6),
    ) {
        let mut web = service("web", "program");
        web.instances = instances;
        let mut world = World::new();
        let _ = world.give(&given(&estate(20, vec![web.clone()])));
        world.settle();
        let away_max = (instances as usize / 4).max(1);
        if by_file {
            web.env.insert("COLOUR".to_owned(), "blue".parse().unwrap());
            let _ = world.give(&given(&estate(20, vec![web])));
        } else {
            let _ = world.give(&Event::Asked(Ask::Restart { service: name("web") }));
        }
        for step in 0..100_000 {
            assert_enough_serve(&world, away_max);
            if let Some((started, mask)) = resumes.get(&step) {
                let cause = if *started { ResumeCause::Started } else { ResumeCause::HolderReturned };
                let _ = world.resume(cause, |CommandId(id)| mask >> (id % 64) & 1 == 1);
            } else if !world.oblige() {
                break;
            }
        }
        prop_assert!(world.known.is_settled());
        let web = &world.known.services[&name("web")];
        for (number, instance) in &web.instances {
            let process = world.truth(&web.instance_id(*number)).process.unwrap();
            prop_assert!(instance.phase == Phase::Running && process.pid > 100 + instances, "{instance:?}");
        }
        world.pass(Duration::from_secs(600));
        prop_assert!(world.known.is_settled());
    }
}
