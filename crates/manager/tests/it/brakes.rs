//! Three hundred instances that fail together: never more under repair at once than allowed, never more remedies within a
//! minute, and all of them healed in the end. `World` asserts both after every event; the storms do the same for any
//! sequence of symptoms.

use std::time::Duration;

use ostler_manager::remedy::Remedy;
use ostler_manager::{Command, FactKind};

use crate::support::{estate, given, service};
use crate::world::World;

#[test]
fn three_hundred_failing_together_are_healed_within_the_brakes() {
    let mut web = service("web", "program");
    web.instances = 270;
    let mut services = vec![web];
    for number in 0..30 {
        let mut more = service(&format!("more-{number}"), "redis");
        more.instances = 1;
        services.push(more);
    }
    let mut world = World::new();
    world.is_large = true;
    let _ = world.give(&given(&estate(5, services)));
    world.settle();
    let all: Vec<_> = world.instances.keys().cloned().collect();
    assert_eq!(all.len(), 300);
    for id in &all {
        world.instances.get_mut(id).unwrap().process.as_mut().unwrap().hung = true;
    }
    let most = world.known.repairs_at_once();
    assert_eq!(most, 15);
    // All of them are found silent before the first of them is treated.
    all.iter().for_each(|id| drop(world.probe(id)));
    let until = world.now + Duration::from_secs(3600);
    let mut seen = 0;
    loop {
        seen = seen.max(world.known.repairing.len());
        assert!(world.known.repairing.len() <= most, "{} are under repair", world.known.repairing.len());
        if let Some((id, command)) = world.orders.first_key_value().map(|(id, command)| (*id, command.clone())) {
            world.carry_out(id);
            let _ = world.tell_outcome(id);
            if let Command::Start { instance, .. } = command {
                world.probe(&instance);
            }
            continue;
        }
        let Some((at, _)) = world.wakes.first().cloned().filter(|(at, _)| *at <= until) else { break };
        world.pass(at.since(world.now));
    }
    assert_eq!(seen, most, "the brakes were never reached");
    assert_eq!(ostler_manager::check(&world.known), []);
    assert!(world.known.is_settled());
    let restarts =
        world.facts.iter().filter(|fact| matches!(&fact.kind, FactKind::RemedyChosen { remedy: Remedy::Restart, .. }));
    assert_eq!(restarts.count(), all.len(), "each is restarted once");
}
