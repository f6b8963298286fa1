//! Whatever is killed, its callers hardly notice, nothing is lost and nothing is doubled.

use crate::harness::{Caller, NOWHERE, Ostler, bookshop, head, http, kill, lonely, wait_until};

/// Two instances of a program that needs nothing.
fn two(more: &str) -> Ostler {
    Ostler::up(&(head("lonely") + &lonely("web", &format!("instances = 2\nenv = {{ {NOWHERE} }}\n{more}"))))
}

#[test]
fn killed_servers_come_back_with_their_data() {
    let ostler = Ostler::up(&bookshop("", ""));
    let shop = ostler.endpoint("web");
    let order = http::order(shop, 2);
    for (service, index) in [("web", 0), ("web", 1), ("cache", 0), ("db", 0)] {
        let pid = ostler.pids(service)[index];
        let caller = Caller::connecting(ostler.endpoint(service));
        kill(pid);
        let new = ostler.until_replaced(service, index, pid);
        caller.stop_without_failure();
        ostler.until_settled();
        let why = ostler.ok(&["why", service]).out;
        for part in ["signal 9 (SIGKILL)", &format!("started it again as process {new}"), "it works again"] {
            assert!(why.contains(part), "{service}: no `{part}` in:\n{why}");
        }
        assert!(why.contains("none failed") || why.contains("nobody had to wait"), "{service}:\n{why}");
    }
    assert!(http::orders(shop).contains(&order));
    let mains = ostler.mains();
    assert_eq!(mains.len(), 4, "{mains:?}");
    assert!(mains.values().all(|pids| pids.len() == 1), "{mains:?}");
}

#[test]
fn visitors_stay_connected_and_see_no_failed_page_while_instances_are_killed() {
    let ostler = Ostler::up(&bookshop("", ""));
    let shop = ostler.endpoint("web");
    let visitors: Vec<Caller> = ["/style.css", "/readyz", "/api/orders", "/style.css"]
        .into_iter()
        .flat_map(|path| [Caller::staying(shop, path), Caller::getting(shop, path)])
        .collect();
    for index in [0, 1, 0, 1] {
        let pid = ostler.pids("web")[index];
        kill(pid);
        ostler.until_replaced("web", index, pid);
        visitors.iter().for_each(Caller::until_next); // a request is tried twice, and two kills may meet the same one
    }
    for visitor in visitors {
        visitor.stop_without_failure();
    }
}

#[test]
fn a_killed_manager_is_not_missed() {
    let ostler = two("");
    let before = ostler.all_pids();
    let caller = Caller::getting(ostler.endpoint("web"), "/readyz");
    let manager = ostler.own_process("manager");
    kill(manager);
    wait_until("there is another manager", || ostler.own_processes("manager").iter().any(|pid| *pid != manager));
    ostler.until_settled();
    caller.stop_without_failure();
    assert_eq!(ostler.all_pids(), before);

    // Both at once: the reflex is the keeper's, and is recorded by the next manager.
    let (manager, web) = (ostler.own_process("manager"), ostler.pids("web")[0]);
    kill(manager);
    kill(web);
    let new = ostler.until_replaced("web", 0, web);
    let why = ostler.ok(&["why", "web"]).out;
    assert!(why.contains("signal 9 (SIGKILL)") && why.contains(&format!("process {new}")), "{why}");
}

#[test]
fn a_killed_gateway_refuses_nobody() {
    let ostler = two("");
    let before = ostler.all_pids();
    let gateway = ostler.own_process("gateway");
    let caller = Caller::connecting(ostler.endpoint("web"));
    kill(gateway);
    wait_until("there is another gateway", || ostler.own_processes("gateway").iter().any(|pid| *pid != gateway));
    assert_eq!(http::get(ostler.endpoint("web"), "/readyz").unwrap().0, 200);
    caller.stop_without_failure();
    assert_eq!(ostler.all_pids(), before);
}

#[test]
fn a_killed_keeper_is_followed_by_one_that_adopts_everything() {
    let ostler = two("");
    let before = ostler.all_pids();
    let keeper = ostler.own_process("keeper");
    let caller = Caller::getting(ostler.endpoint("web"), "/readyz");
    kill(keeper);
    wait_until("there is another keeper", || ostler.own_processes("keeper").iter().any(|pid| *pid != keeper));
    ostler.until_settled();
    caller.stop_without_failure();
    assert_eq!(ostler.all_pids(), before);
    let web = ostler.pids("web")[1];
    kill(web);
    ostler.until_replaced("web", 1, web);
    assert!(ostler.mains().values().all(|pids| pids.len() == 1), "{:?}", ostler.mains());
}

#[test]
fn when_all_three_are_killed_the_next_up_adopts() {
    let ostler = Ostler::up(&bookshop("", ""));
    let before = ostler.all_pids();
    assert_eq!(before.len(), 4);
    // Each may bring another back between two kills, so it is repeated until none is left.
    wait_until("none of ostler's own processes is left", || {
        let own: Vec<u32> =
            ["keeper", "manager", "gateway"].iter().flat_map(|role| ostler.own_processes(role)).collect();
        own.iter().for_each(|pid| crate::harness::signal(*pid, "KILL"));
        own.is_empty()
    });
    for pids in ostler.mains().values() {
        assert_eq!(pids.len(), 1);
    }
    ostler.ok(&["up", "--detach", "ostler.toml"]);
    assert_eq!(ostler.all_pids(), before);
    let mains = ostler.mains();
    assert_eq!(mains.len(), 4, "{mains:?}");
    assert!(mains.values().all(|pids| pids.len() == 1), "{mains:?}");
    http::order(ostler.endpoint("web"), 3);
}

#[test]
fn a_program_that_is_handed_its_socket_refuses_nobody_while_it_is_killed() {
    let lines = format!("listen = \"socket\"\nenv = {{ {NOWHERE} }}");
    let ostler = Ostler::up(&(head("lonely") + &lonely("web", &lines)));
    let address = ostler.service("web")["instances"][0]["address"].as_str().unwrap().parse().unwrap();
    let caller = Caller::connecting(address);
    let mut pid = ostler.pids("web")[0];
    for _ in 0..3 {
        kill(pid);
        pid = ostler.until_replaced("web", 0, pid);
    }
    caller.stop_without_failure();
}
