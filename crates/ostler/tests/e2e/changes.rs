//! A changed file is the smallest change, and `preview` shows it beforehand.

use serde_json::Value;

use crate::harness::{Caller, NOWHERE, Ostler, exchange, head, http, lonely, wait_until};

fn web(extra: &str) -> String {
    head("lonely") + &lonely("web", &format!("instances = 2\nenv = {{ {NOWHERE}{extra} }}"))
}

fn steps_in(facts: &[Value], after: u64) -> Vec<String> {
    let new =
        facts.iter().filter(|fact| fact["position"].as_u64().unwrap() > after && fact["kind"] == "command-issued");
    let words = new.map(|fact| fact["words"].as_str().unwrap().split_once("): ").unwrap().1.to_owned());
    words.filter(|step| ["start ", "stop ", "provision ", "open "].iter().any(|word| step.starts_with(word))).collect()
}

#[test]
fn a_changed_variable_restarts_one_instance_after_the_other() {
    let ostler = Ostler::up(&(web("") + &lonely("other", &format!("env = {{ {NOWHERE} }}"))));
    let nothing = ostler.run(&["preview", "ostler.toml"]);
    assert_eq!((nothing.code, nothing.out.as_str()), (0, "Nothing would change.\n"));
    let commands = steps_in(&ostler.facts(), 0);
    ostler.ok(&["apply", "ostler.toml"]);
    assert_eq!(steps_in(&ostler.facts(), 0), commands, "an unchanged file did something");

    ostler.write("ostler.toml", &(web(", COLOUR = \"blue\"") + &lonely("other", &format!("env = {{ {NOWHERE} }}"))));
    let preview = ostler.run(&["preview", "ostler.toml", "--json"]);
    assert_eq!(preview.code, 2, "{preview}");
    let promised: Vec<String> = preview.json()["steps"]
        .as_array()
        .unwrap()
        .iter()
        .map(|step| step.as_str().unwrap().to_owned())
        .filter(|step| step.starts_with("start ") || step.starts_with("stop "))
        .collect();
    let (before, end) = (ostler.all_pids(), ostler.journal_end());
    let caller = Caller::getting(ostler.endpoint("web"), "/readyz");
    ostler.ok(&["apply", "ostler.toml"]);
    caller.stop_without_failure();
    assert_eq!(steps_in(&ostler.facts(), end), promised);
    assert_eq!(promised.len(), 4, "{promised:?}");
    let after = ostler.all_pids();
    assert_eq!(after["other-1"], before["other-1"]);
    for instance in ["web-1", "web-2"] {
        assert_ne!(after[instance], before[instance]);
    }
    for pid in ostler.pids("web") {
        assert_eq!(crate::harness::environment(pid)["COLOUR"], "blue");
    }
}

#[test]
fn a_removed_service_is_kept_until_it_is_deleted_by_name() {
    let ostler = Ostler::up(&web(""));
    let pids = ostler.all_pids();
    let with_more = web("") + "\n[service.cache]\noffering = \"redis\"\n";
    ostler.write("ostler.toml", &with_more);
    ostler.ok(&["apply", "ostler.toml"]);
    assert_eq!(ostler.service("cache")["state"], "ready");
    let refused = ostler.run(&["down", "cache", "--delete-data", "--yes"]);
    assert_eq!(refused.code, 1, "{refused}");
    let unconfirmed = ostler.run(&["down", "--delete-data"]);
    assert_eq!(unconfirmed.code, 1, "{unconfirmed}");

    ostler.write("ostler.toml", &web(""));
    ostler.ok(&["apply", "ostler.toml"]);
    ostler.until_state("cache", "retained");
    let shown = ostler.ok(&["status"]).out;
    assert!(shown.contains("cache is no longer declared"), "{shown}");
    let folder = ostler.home.join("instances/cache-1");
    assert!(folder.exists());
    ostler.ok(&["down", "cache", "--delete-data", "--yes"]);
    assert!(!folder.exists());
    let of_web: Vec<_> = pids.into_iter().filter(|(id, _)| id.starts_with("web-")).collect();
    assert_eq!(ostler.all_pids().into_iter().collect::<Vec<_>>(), of_web);
}

#[test]
fn instances_are_scaled_and_restarted_without_callers_noticing() {
    let ostler = Ostler::up(&web(""));
    let before = ostler.pids("web");
    let caller = Caller::getting(ostler.endpoint("web"), "/readyz");
    ostler.ok(&["scale", "web=3"]);
    assert_eq!(ostler.pids("web").len(), 3);
    assert_eq!(ostler.pids("web")[..2], before);
    ostler.ok(&["scale", "web=2"]);
    assert_eq!(ostler.pids("web"), before);
    ostler.ok(&["restart", "web"]);
    let after = ostler.pids("web");
    assert_eq!(after.len(), 2);
    assert!(after.iter().all(|pid| !before.contains(pid)), "{before:?} {after:?}");
    caller.stop_without_failure();
    assert_eq!(http::get(ostler.endpoint("web"), "/readyz").unwrap().0, 200);
}

#[test]
fn what_an_endpoint_understands_changes_while_its_instances_run() {
    let with = |more: &str| head("lonely") + &lonely("web", &format!("env = {{ {NOWHERE} }}\n{more}"));
    let ostler = Ostler::up(&with(""));
    let shop = ostler.endpoint("web");
    // Only the gateway answers this in its own words.
    let is_http = || {
        let answer = exchange(shop, "CONNECT b:80 HTTP/1.1\r\nhost: b:80\r\nconnection: close\r\n\r\n");
        answer.is_ok_and(|answer| answer.contains("this request cannot be passed on"))
    };
    assert!(is_http(), "its probe speaks HTTP");
    let before = ostler.all_pids();
    ostler.write("ostler.toml", &with("protocol = \"tcp\""));
    ostler.ok(&["apply", "ostler.toml"]);
    wait_until("bytes are carried as they come", || !is_http());
    ostler.write("ostler.toml", &with("protocol = \"http\""));
    ostler.ok(&["apply", "ostler.toml"]);
    wait_until("requests are understood again", is_http);
    assert_eq!(ostler.all_pids(), before, "nothing was restarted for it");
}
