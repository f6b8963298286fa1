//! Each rule of `check`, broken on purpose: it says so, and says nothing of what is whole.

use ostler_manager::{
    Brings, Command, Diagnosis, Ending, Evidence, Fact, FactKind, Instance, Knowledge, Operation, OperationKind, Phase,
    Repair, ServiceKnowledge, check, evolve,
};
use ostler_model::catalog::Placement;
use ostler_model::health::{Exit, Health};
use ostler_model::ids::{CommandId, ProviderName};
use ostler_model::time::Timestamp;

use crate::support::{estate, given, here, instance, local, name, service};
use crate::world::World;

/// A settled estate of `db` and `web`, which needs it.
fn whole() -> Knowledge {
    let mut web = service("web", "program");
    web.instances = 2;
    web.needs.insert(name("db"));
    let mut world = World::new();
    let _ = world.give(&given(&estate(20, vec![service("db", "postgresql"), web])));
    world.settle();
    world.known
}

fn web(known: &mut Knowledge) -> &mut ServiceKnowledge {
    known.services.get_mut(&name("web")).unwrap()
}

fn web_1(known: &mut Knowledge) -> &mut Instance {
    web(known).instances.get_mut(&1).unwrap()
}

fn sick() -> Repair {
    Repair::new(Diagnosis::DiedAndRestarted { exit: Exit::Signal(9) }, Timestamp::default())
}

/// Breaks what is whole, and expects exactly these violations.
#[track_caller]
fn breaks(break_it: impl FnOnce(&mut Knowledge), expected: &[&str]) {
    let mut known = whole();
    assert_eq!(check(&known), []);
    break_it(&mut known);
    let found: Vec<String> = check(&known).into_iter().map(|violation| violation.0).collect();
    assert_eq!(found, expected);
}

#[test]
fn two_operations_on_one_instance() {
    let issue = |known: &mut Knowledge, id| {
        let command = Command::Observe { instance: instance("web-1") };
        let kind = FactKind::CommandIssued { id: CommandId(id), command };
        evolve(known, &Fact { at: Timestamp::default(), kind });
    };
    breaks(
        |known| {
            issue(known, 900);
            issue(known, 901);
        },
        &["Instance(web-1) does not know that c900 is under way", "Instance(web-1) has 2 operations under way"],
    );
}

#[test]
fn an_endpoint_that_does_not_know_its_operation() {
    breaks(
        |known| {
            known.commands.insert(CommandId(900), Command::CloseEndpoint { service: name("web") });
        },
        &["Endpoint(web) does not know that c900 is under way"],
    );
}

#[test]
fn an_operation_that_nobody_carries_out() {
    breaks(
        |known| {
            let operation = Operation {
                id: CommandId(900),
                kind: OperationKind::Observe,
                since: Timestamp::default(),
                overtaken: false,
            };
            web_1(known).operation = Some(operation);
        },
        &["web-1 has an operation that nobody carries out"],
    );
}

#[test]
fn a_one_off_command_twice_at_once() {
    breaks(
        |known| {
            for (id, number) in [(900, 1), (901, 2)] {
                let command = Command::Before { instance: web(known).instance_id(number), generation: 1 };
                let kind = FactKind::CommandIssued { id: CommandId(id), command };
                evolve(known, &Fact { at: Timestamp::default(), kind });
            }
        },
        &["web's one-off command runs more than once at the same time"],
    );
}

#[test]
fn a_process_and_its_phase() {
    breaks(|known| web_1(known).running = None, &["web-1 is Running and its process is None"]);
    breaks(
        |known| {
            let web_1 = web_1(known);
            (web_1.phase, web_1.running, web_1.routed) = (Phase::Stopped, None, false);
        },
        &["web-1 is ready and does not run"],
    );
    breaks(
        |known| {
            let web_1 = web_1(known);
            (web_1.phase, web_1.running, web_1.health) = (Phase::Stopped, None, None);
            web(known).ready = 1;
        },
        &["callers are sent to web-1, which does not run"],
    );
}

#[test]
fn a_launch_that_is_forgotten() {
    breaks(
        |known| {
            web(known).launches.clear();
        },
        &["web-1 runs from a launch that is forgotten", "web-2 runs from a launch that is forgotten"],
    );
}

#[test]
fn a_number_that_may_be_given_again() {
    breaks(
        |known| {
            known.numbers.insert(name("web"), 1);
        },
        &["web-2's number may be given again"],
    );
    breaks(|known| _ = known.numbers.remove(&name("db")), &["db-1's number may be given again"]);
}

#[test]
fn miscounted_instances() {
    breaks(|known| web(known).ready = 1, &["web counts 1 ready instances and has 2"]);
    breaks(|known| web(known).active = 3, &["web counts 3 active instances and has 2"]);
    breaks(|known| known.instances = 4, &["4 instances are counted and 3 are there"]);
    breaks(
        |known| {
            web(known).outdated.insert(2);
        },
        &["web takes {2} for outdated, and {} are"],
    );
    breaks(|known| web_1(known).restart_round = 7, &["web takes {} for outdated, and {1} are"]);
}

#[test]
fn a_repair_of_what_works() {
    breaks(|known| web_1(known).repair = Some(sick()), &["web-1 is ready and still to be repaired"]);
}

#[test]
fn a_repair_of_what_is_not_to_run() {
    let mut known = whole();
    evolve(&mut known, &Fact { at: Timestamp::default(), kind: FactKind::DownAsked });
    web_1(&mut known).repair = Some(sick());
    web_1(&mut known).health = None;
    web(&mut known).ready = 1;
    let found: Vec<String> = check(&known).into_iter().map(|violation| violation.0).collect();
    assert_eq!(found, ["web-1 is to be repaired and is not to run"]);
}

#[test]
fn miscounted_repairs() {
    breaks(
        |known| {
            known.repairing.insert(instance("web-1"));
        },
        &["{web-1} count as under repair, and {} are"],
    );
    breaks(
        |known| {
            web_1(known).repair = Some(Repair { active: true, ..sick() });
            web_1(known).health = Some(Health::Unready(ostler_model::health::Symptom {
                kind: ostler_model::health::SymptomKind::Refused,
                detail: String::new(),
            }));
            web(known).ready = 1;
        },
        &["{} count as under repair, and {web-1} are"],
    );
    breaks(
        |known| {
            known.sick.insert((Timestamp(0), instance("web-1")));
        },
        &["{(Timestamp(0), web-1)} count as sick, and {} are"],
    );
}

#[test]
fn a_need_that_does_not_know_its_consumer() {
    breaks(|known| known.consumers.clear(), &["db does not know its consumer web"]);
}

/// A move of `db`, decided and not begun by anybody.
fn leaves_db(known: &mut Knowledge) {
    let to = Placement { provider: "there".parse().unwrap(), ..known.services[&name("db")].placement.clone().unwrap() };
    let kind = FactKind::MoveBegan {
        service: name("db"),
        to,
        brings: Brings::LastBackup,
        accepts_loss: false,
        why: String::new(),
    };
    evolve(known, &Fact { at: Timestamp::default(), kind });
    assert_eq!(check(known), []);
}

fn db_1(known: &mut Knowledge) -> &mut Instance {
    known.services.get_mut(&name("db")).unwrap().instances.get_mut(&1).unwrap()
}

#[test]
fn what_a_move_left_is_reached() {
    breaks(
        |known| {
            leaves_db(known);
            db_1(known).routed = true;
        },
        &["callers are sent to db-1, which a move left"],
    );
    breaks(
        |known| {
            leaves_db(known);
            let (binding, instance) = ("web/db".parse().unwrap(), instance("db-1"));
            let command = Command::Bind { binding, instance, endpoint: local(1) };
            let kind = FactKind::CommandIssued { id: CommandId(900), command };
            evolve(known, &Fact { at: Timestamp::default(), kind });
        },
        &["db-1 is put to use by c900 after a move left it"],
    );
    breaks(
        |known| {
            leaves_db(known);
            let left = db_1(known).left.take();
            assert!(left.is_some());
            known.evidence.remove(&here());
            known.evidence.remove(&"there".parse::<ProviderName>().unwrap());
            db_1(known).health = None;
        },
        &["db-1 is open while its service moves away from it"],
    );
}

#[test]
fn what_is_not_left_by_a_move_is_deleted() {
    breaks(
        |known| {
            web_1(known).ending = Some(Ending::Delete);
        },
        &["web-1 is to be deleted, and no move left it"],
    );
}

#[test]
fn nothing_breaks_no_rule() {
    assert_eq!(check(&Knowledge::default()), []);
}

#[test]
fn what_was_seen_of_a_provider_that_is_not_so() {
    breaks(
        |known| known.evidence.get_mut(&here()).unwrap().away += 1,
        &["here counts 1 instances that work and 1 that are away, and has 1 and 0"],
    );
    breaks(
        |known| {
            let seen = Evidence { working: 2, ..Evidence::default() };
            known.evidence.insert("gone".parse().unwrap(), seen);
        },
        &["gone counts 2 instances, and nothing is bought there"],
    );
    for seen in [Evidence { missed_us: 1, ..Evidence::default() }, Evidence { made: 1, ..Evidence::default() }] {
        breaks(
            |known| {
                known.evidence.insert("gone".parse().unwrap(), seen);
            },
            &["gone counts more that is missing, or that was made, than there was"],
        );
    }
}
