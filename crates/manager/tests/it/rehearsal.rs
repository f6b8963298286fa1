//! What is shown before it is done is what is then done.

use ostler_manager::{Ask, Command, Event, FactKind, rehearse};
use proptest::prelude::*;
use proptest::test_runner::FileFailurePersistence;

use crate::storm::{Sketch, drawn, estates};
use crate::support::{given, name};
use crate::world::World;

/// What changes something, as a rehearsal lists it. Where an endpoint is opened that nobody declared is decided by the
/// world, and with it where bindings point.
fn changes(command: &Command) -> Option<String> {
    match command {
        Command::Watch { .. }
        | Command::Unwatch { .. }
        | Command::Route { .. }
        | Command::Notify { .. }
        | Command::Observe { .. }
        | Command::ProveBackup { .. }
        | Command::Fault { .. }
        | Command::Undo { .. } => None,
        Command::Bind { .. } => Some(command.in_words()),
        other => Some(format!("{other:?}")),
    }
}

/// Obliges in the order in which things were asked for, as a rehearsal does: each order and each watch is answered
/// before the next.
fn play(world: &mut World, event: &Event) -> Vec<String> {
    let from = world.facts.len();
    let mut decision = world.give(event);
    let mut waiting = std::collections::VecDeque::new();
    loop {
        waiting.extend(decision.commands.drain(..));
        let Some((id, command)) = waiting.pop_front() else { break };
        let next = match &command {
            Command::Watch { instance, .. } => world.probe(instance),
            _ => {
                world.carry_out(id);
                world.tell_outcome(id)
            }
        };
        if let Some(next) = next {
            decision = next;
        }
    }
    let issued = world.facts[from..].iter().filter_map(|fact| match &fact.kind {
        FactKind::CommandIssued { command, .. } => changes(command),
        _ => None,
    });
    issued.collect()
}

fn assert_goes_as_rehearsed(world: &mut World, event: &Event) {
    let rehearsal = rehearse(&world.known, event, world.now);
    let shown: Vec<String> = rehearsal.commands.iter().filter_map(changes).collect();
    let done = play(world, event);
    assert_eq!(shown, done, "{event:?}");
    assert_eq!(rehearsal.known.is_settled(), world.known.is_settled());
}

fn ask() -> impl Strategy<Value = Ask> {
    let service = || (0..8_u8).prop_map(|number| name(&format!("s{number}")));
    prop_oneof![
        service().prop_map(|service| Ask::Restart { service }),
        (service(), 0..7_u32).prop_map(|(service, instances)| Ask::Scale { service, instances }),
        service().prop_map(|service| Ask::Delete { service }),
        service().prop_map(|service| Ask::Backup { service, name: "now".to_owned() }),
        Just(Ask::Down),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig {
        failure_persistence: Some(Box::new(FileFailurePersistence::Direct("tests/regressions/rehearsal.txt"))),
        ..ProptestConfig::default()
    })]

    #[test]
    fn it_goes_as_rehearsed(
        estates in estates(),
        asks in proptest::collection::vec((any::<bool>(), 0..4_usize, ask()), 1..8),
    ) {
        let drawn: Vec<_> = estates.iter().map(|sketches: &Vec<Sketch>| drawn(&estates[0], sketches, 20)).collect();
        let mut world = World::new();
        assert_goes_as_rehearsed(&mut world, &given(&drawn[0]));
        for (gives, number, ask) in asks {
            let event = if gives { given(&drawn[number % drawn.len()]) } else { Event::Asked(ask) };
            assert_goes_as_rehearsed(&mut world, &event);
        }
    }
}
