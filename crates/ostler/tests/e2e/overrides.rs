//! People decide otherwise: with an owner, a reason and an end, and at a price that is told.

use serde_json::Value;

use crate::harness::{Ostler, kill, signal, wait_until};

const SHOP: &str = "[estate]\nname = \"shop\"\nzone = \"Europe/Berlin\"\n\n[provider.here]\nkind = \"host\"\n\n[service.cache]\n\
                    offering = \"redis\"\nprobe = { every = \"200ms\", timeout = \"200ms\" }\n";

const WORD: [&str; 4] = ["--owner", "Ada Lovelace", "--reason", "we measure something"];

fn said<'a>(first: &[&'a str], until: &'a str) -> Vec<&'a str> {
    [first, &WORD, &["--until", until]].concat()
}

fn listed(ostler: &Ostler, all: bool) -> Vec<Value> {
    let arguments: &[&str] = if all { &["overrides", "--all"] } else { &["overrides"] };
    ostler.json(arguments)["overrides"].as_array().unwrap().clone()
}

#[test]
fn an_override_without_owner_reason_or_end_is_refused_with_all_that_is_missing() {
    let ostler = Ostler::up(SHOP);
    let refused = ostler.run(&["override", "hold", "cache"]);
    assert_eq!(refused.code, 1, "{refused}");
    for missing in ["no owner is said", "no reason is said", "no end is said"] {
        assert!(refused.err.contains(missing), "no `{missing}`: {refused}");
    }
    let wrong = ostler.run(&said(&["override", "pin", "cach", "--provider", "her"], "2020-01-01"));
    for part in ["has come already", "did you mean `cache`?", "did you mean `here`?"] {
        assert!(wrong.code == 1 && wrong.err.contains(part), "no `{part}`: {wrong}");
    }
    let usage = ostler.run(&said(&["override", "hold", "cache"], "tomorrow"));
    assert!(usage.code == 64 && usage.err.contains("`tomorrow` is no end"), "{usage}");
    assert_eq!(listed(&ostler, true), Vec::<Value>::new());
    let none = ostler.run(&["override", "end", "override-1", "--owner", "Ada", "--reason", "over"]);
    assert!(none.code == 1 && none.err.contains("there is no override-1"), "{none}");
}

#[test]
fn what_is_held_is_not_healed_until_that_ends_and_its_price_is_told() {
    let ostler = Ostler::up(SHOP);
    let hold = said(&["override", "hold", "cache"], "2h");
    let begun = ostler.run(&[&hold[..], &["--json"]].concat()).json();
    assert_eq!((&begun["id"], &begun["kind"]), (&"override-1".into(), &"hold".into()), "{begun}");

    let pid = ostler.pids("cache")[0];
    signal(pid, "STOP");
    let is_held = |status: &Value| {
        let because = status["services"][0]["instances"][0]["because"].as_str().unwrap_or_default();
        because.contains("it is held by override-1 of Ada Lovelace")
    };
    ostler.until("it is held", is_held);
    wait_until("its price grows", || listed(&ostler, false)[0]["outage_seconds"].as_u64() > Some(0));
    assert_eq!(listed(&ostler, false)[0]["without"][0]["what"], "would be tried for cache-1: restart");
    for command in [&["status"][..], &["why", "cache"], &["overrides"]] {
        let out = ostler.ok(command).out;
        assert!(out.contains("hold cache") && out.contains("we measure something"), "{command:?}: {out}");
    }

    // The next manager holds it, too, and goes on with the price.
    let before = listed(&ostler, false)[0]["outage_seconds"].as_u64().unwrap();
    let manager = ostler.own_process("manager");
    kill(manager);
    wait_until("there is another manager", || ostler.own_processes("manager").iter().any(|pid| *pid != manager));
    ostler.until("it is held again", is_held);
    assert!(listed(&ostler, false)[0]["outage_seconds"].as_u64().unwrap() >= before);
    assert_eq!(ostler.pids("cache"), [pid]);

    ostler.ok(&["override", "end", "override-1", "--owner", "Eve", "--reason", "it is measured"]);
    ostler.until_replaced("cache", 0, pid);
    ostler.until_settled();
    let all = listed(&ostler, true);
    assert_eq!(all[0]["because"], "ended by Eve: it is measured", "{all:?}");
    assert_eq!(listed(&ostler, false), Vec::<Value>::new());
}

#[test]
fn what_expires_while_ostler_is_down_has_ended_when_it_is_back() {
    let ostler = Ostler::up(SHOP);
    ostler.ok(&said(&["override", "freeze"], "3s"));
    ostler.ok(&said(&["override", "forbid-provider", "here"], "2h"));
    ostler.ok(&["down", "--yes"]);
    // Nobody is there who could end it, and it stands no more.
    wait_until("its end has come", || listed(&ostler, false).len() == 1);
    let all = listed(&ostler, true);
    let freeze = all.iter().find(|cost| cost["kind"] == "freeze").unwrap();
    assert_eq!((&freeze["because"], &freeze["ended"]), (&"expired".into(), &freeze["until"]), "{freeze}");
    ostler.ok(&["up", "ostler.toml", "--detach"]);
    let ended = ostler.json(&["journal", "--kind", "override-ended"]);
    assert_eq!(ended.as_array().unwrap().len(), 1, "{ended}");
    assert_eq!(ostler.status()["overrides"].as_array().unwrap().len(), 1);

    // What stands is seen in what a file would lead to.
    ostler.write("more.toml", &format!("{SHOP}\n[service.queue]\noffering = \"redis\"\n"));
    let refused = ostler.run(&["preview", "more.toml"]);
    assert!(refused.code == 1 && refused.err.contains("nothing new is bought from here, by override-2"), "{refused}");
}
