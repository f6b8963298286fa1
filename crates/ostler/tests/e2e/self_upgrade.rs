//! Another build of ostler takes over while everything runs, and is taken back where it does not hold.
//!
//! Another build is this program with something behind it, which gives it another digest; what does not work is one with
//! a word behind it that it heeds (`faulty.rs`).

use std::collections::BTreeSet;
use std::fs::{self, OpenOptions};
use std::io::Write;
use std::path::PathBuf;

use serde_json::Value;

use crate::harness::{Caller, NOWHERE, Ostler, head, kill, lonely, signal, wait_until};

/// Two instances of a program that needs nothing, asked by callers that stay and callers that come and go.
fn two() -> Ostler {
    let lines = format!("instances = 2\nprotocol = \"http\"\nenv = {{ {NOWHERE} }}");
    Ostler::up(&(head("lonely") + &lonely("web", &lines)))
}

/// Another build, faulty in this way unless the word is empty.
fn build(ostler: &Ostler, word: &str) -> PathBuf {
    let path = ostler.folder().join(format!("ostler-{word}"));
    fs::copy(env!("CARGO_BIN_EXE_ostler"), &path).unwrap();
    let mut file = OpenOptions::new().append(true).open(&path).unwrap();
    writeln!(file, "\nOSTLER-FAULT:{word}").unwrap();
    path
}

fn callers(ostler: &Ostler) -> Vec<Caller> {
    let web = ostler.endpoint("web");
    vec![
        Caller::getting(web, "/style.css"),
        Caller::staying(web, "/style.css"),
        Caller::staying(web, "/readyz"),
        Caller::getting(web, "/readyz"),
    ]
}

/// Of each process its digest, if it runs from the home.
fn digests(status: &Value) -> Vec<String> {
    let processes = status["ostler"]["processes"].as_array().unwrap().iter();
    processes.map(|process| process["sha256"].as_str().unwrap_or("–").to_owned()).collect()
}

fn own(ostler: &Ostler) -> [u32; 3] {
    ["keeper", "manager", "gateway"].map(|role| ostler.own_process(role))
}

/// The steps that were recorded, in words.
fn steps(ostler: &Ostler) -> Vec<String> {
    let facts = ostler.facts().into_iter().filter(|fact| fact["kind"] == "self-upgrade");
    facts
        .map(|fact| match &fact["fact"]["step"] {
            Value::String(step) => step.clone(),
            step => step["taken-back"]["why"].as_str().unwrap().to_owned(),
        })
        .collect()
}

/// Everything is as it was: the same instances, one of each, and the former build in all three processes.
fn assert_as_before(ostler: &Ostler, pids: &std::collections::BTreeMap<String, u64>) {
    ostler.until_settled();
    assert_eq!(ostler.all_pids(), *pids);
    assert!(ostler.mains().values().all(|pids| pids.len() == 1), "{:?}", ostler.mains());
    wait_until("each of ostler's processes is there once", || {
        ["keeper", "manager", "gateway"].iter().all(|role| ostler.own_processes(role).len() == 1)
    });
}

#[test]
fn another_build_takes_over_and_callers_do_not_notice() {
    let ostler = two();
    let (pids, before) = (ostler.all_pids(), own(&ostler));
    let callers = callers(&ostler);
    let path = build(&ostler, "");
    let said = ostler.ok(&["self-upgrade", path.to_str().unwrap(), "--probation", "10s"]);
    assert!(said.out.contains("runs. If it does not hold within 10"), "{said}");
    assert!(said.err.contains("the new build knows the same from all"), "{said}");
    fs::remove_file(&path).unwrap(); // its copy is in the home
    let status = ostler.until("all are of the new build", |status| digests(status).iter().all(|d| d.len() == 64));
    assert_eq!(status["ostler"]["upgrade"]["stage"], "probation");
    let words = ostler.ok(&["status"]).out;
    assert!(words.contains("is on probation until"), "{words}");
    let after = own(&ostler);
    assert_eq!(after[0], before[0], "the keeper is the same process");
    assert!(after[1] != before[1] && after[2] != before[2]);
    callers.iter().for_each(Caller::until_next);
    for caller in callers {
        caller.stop_without_failure();
    }
    assert_as_before(&ostler, &pids);
    ostler.until("the probation is over", |status| status["ostler"]["upgrade"].is_null());
    wait_until("it is recorded", || steps(&ostler) == ["began", "replaced", "accepted"]);
    assert!(ostler.ok(&["why", "web"]).out.contains("has passed its probation"));
    // The new keeper's children are its own: it starts them again, and knows how they ended.
    let web = ostler.pids("web")[0];
    kill(web);
    ostler.until_replaced("web", 0, web);
    assert!(ostler.ok(&["why", "web"]).out.contains("signal 9 (SIGKILL)"));
    // And back again, by hand: a step like any other.
    let pids = ostler.all_pids();
    let said = ostler.ok(&["self-upgrade", "--back", "--probation", "1s"]);
    assert!(said.out.contains("runs."), "{said}");
    assert_as_before(&ostler, &pids);
    ostler.until("the probation is over", |status| status["ostler"]["upgrade"].is_null());
    ostler.ok(&["down"]);
}

#[test]
fn a_build_that_does_not_come_up_is_taken_back_and_callers_do_not_notice() {
    let ostler = two();
    let pids = ostler.all_pids();
    let calling = callers(&ostler);
    for (word, why) in [
        ("manager-ends", "its manager ended before it had come up"),
        ("manager-hangs", "its manager did not come up within 3 s"),
        ("gateway-ends", "its gateway ended before it had come up"),
        ("gateway-hangs", "its gateway did not come up within 3 s"),
        ("keeper-ends", "its keeper did not stay up"),
    ] {
        let path = build(&ostler, word);
        let said = ostler.run(&["self-upgrade", path.to_str().unwrap(), "--within", "3s"]);
        fs::remove_file(path).unwrap();
        assert_eq!(said.code, 1, "{word}: {said}");
        assert!(said.err.contains("was taken back") && said.err.contains(why), "{word}: {said}");
        assert_as_before(&ostler, &pids);
        let status = ostler.status();
        assert!(status["ostler"]["upgrade"].is_null(), "{word}: {status}");
        wait_until("it is recorded", || steps(&ostler).last().is_some_and(|step| step.contains(why)));
    }
    calling.iter().for_each(Caller::until_next);
    for caller in calling {
        caller.stop_without_failure();
    }
}

#[test]
fn a_build_that_does_not_hold_is_taken_back_in_its_probation() {
    let ostler = two();
    let pids = ostler.all_pids();
    for (word, why) in [
        ("manager-ends-later", "its manager ended 3 times within its probation"),
        ("gateway-ends-later", "its gateway ended 3 times within its probation"),
        ("manager-hangs-later", "its manager did not answer for 5 s within its probation"),
    ] {
        let path = build(&ostler, word);
        let said = ostler.run(&["self-upgrade", path.to_str().unwrap(), "--within", "5s"]);
        assert!(said.code == 0 || said.err.contains("was taken back"), "{word}: {said}");
        wait_until("it is taken back", || {
            let said = ostler.run(&["status", "--json"]);
            said.code == 0 && said.json()["ostler"]["upgrade"].is_null()
        });
        assert_as_before(&ostler, &pids);
        wait_until("it is recorded", || steps(&ostler).last().is_some_and(|step| step == why));
    }
}

/// The new image has all sockets and process handles by then, and has to give them back.
#[test]
fn a_keeper_that_fails_after_it_was_executed_is_the_former_one_again_with_all_that_it_held() {
    let ostler = two();
    let (pids, before) = (ostler.all_pids(), own(&ostler));
    let held = |pid: u32| -> BTreeSet<String> {
        let folder = fs::read_dir(format!("/proc/{pid}/fd")).unwrap().flatten();
        let links = folder.filter_map(|entry| fs::read_link(entry.path()).ok());
        let text = links.map(|link| link.display().to_string());
        text.filter(|link| link.starts_with("socket:") || link.ends_with("keeper.lock")).collect()
    };
    let listening: BTreeSet<String> = held(before[0]).intersection(&held(before[2])).cloned().collect();
    assert!(!listening.is_empty(), "keeper and gateway hold the sockets of endpoints");
    let calling = callers(&ostler);
    let path = build(&ostler, "unfit");
    let said = ostler.run(&["self-upgrade", path.to_str().unwrap(), "--within", "10s"]);
    assert!(said.code == 1 && said.err.contains("its keeper did not come up: it says so itself"), "{said}");
    assert_as_before(&ostler, &pids);
    let keeper = own(&ostler)[0];
    assert_eq!(keeper, before[0], "it is the same process, twice another image");
    assert!(listening.is_subset(&held(keeper)), "{listening:?} of {:?}", held(keeper));
    let exe = fs::read_link(format!("/proc/{keeper}/exe")).unwrap();
    assert_ne!(fs::read(exe).unwrap(), fs::read(&path).unwrap());
    calling.iter().for_each(Caller::until_next);
    for caller in calling {
        caller.stop_without_failure();
    }
    // What it starts again is its own child still, and it knows how the one before ended.
    let web = ostler.pids("web")[0];
    kill(web);
    ostler.until_replaced("web", 0, web);
    assert!(ostler.ok(&["why", "web"]).out.contains("signal 9 (SIGKILL)"));
    Caller::getting(ostler.endpoint("web"), "/readyz").stop_without_failure();
}

#[test]
fn what_is_no_other_build_of_ostler_is_refused_and_nothing_is_changed() {
    let ostler = two();
    let (pids, before) = (ostler.all_pids(), own(&ostler));
    ostler.write("script", "#!/bin/sh\necho ostler 0.1.0\n");
    let script = ostler.folder().join("script");
    let differs = build(&ostler, "dry-run-differs");
    let other = build(&ostler, "dry-run-other-protocol");
    let ends = build(&ostler, "dry-run-ends");
    for (path, why) in [
        (script.to_str().unwrap(), "it is no ostler, or one that does not know how to be brought in"),
        ("/nowhere/ostler", "cannot copy /nowhere/ostler"),
        (env!("CARGO_BIN_EXE_ostler"), "it is the very build that runs"),
        (differs.to_str().unwrap(), "`nothing` here, `one more` there"),
        (other.to_str().unwrap(), "manager and keeper could not talk to each other: 2 there, 1 here"),
        (ends.to_str().unwrap(), "it is no ostler"),
    ] {
        let said = ostler.run(&["self-upgrade", path]);
        assert!(said.code == 1 && said.err.contains(why), "{path}: {said}");
        assert_eq!(own(&ostler), before);
    }
    let said = ostler.run(&["self-upgrade", "--back"]);
    assert!(said.code == 1 && said.err.contains("no other build has run here before"), "{said}");
    assert_as_before(&ostler, &pids);
    assert!(steps(&ostler).is_empty());
    assert!(!ostler.home.join("builds/dry-run").exists());
}

#[test]
fn killed_at_any_step_it_goes_on_or_is_taken_back_and_nothing_is_doubled() {
    let ostler = two();
    let pids = ostler.all_pids();
    let path = build(&ostler, "");
    let state = || -> Value {
        let text = fs::read(ostler.home.join("builds/state.json")).unwrap_or_default();
        serde_json::from_slice(&text).unwrap_or(Value::Null)
    };
    for role in ["manager", "gateway", "keeper"] {
        for stage in ["manager", "gateway", "keeper", "probation"] {
            let mut command = ostler.command(&["self-upgrade", path.to_str().unwrap(), "--within", "10s"]);
            command.stdout(std::process::Stdio::null()).stderr(std::process::Stdio::null());
            let mut child = command.spawn().unwrap();
            wait_until("it is at the step", || {
                let upgrade = &state()["upgrade"];
                // A step may be over before it is seen: then the next one counts.
                let now = upgrade["stage"].as_str().map_or("probation", |stage| stage);
                let order = ["manager", "gateway", "keeper", "probation"];
                let place = |name: &str| order.iter().position(|other| *other == name);
                !upgrade.is_null() && place(now) >= place(stage)
            });
            ostler.own_processes(role).into_iter().for_each(|pid| signal(pid, "KILL"));
            crate::harness::ended(&mut child, crate::harness::WITHIN).expect("the command ends");
            wait_until("it is there, or taken back", || {
                let upgrade = &state()["upgrade"];
                upgrade.is_null() || (upgrade["stage"]["probation"].is_object() && upgrade["back"].is_null())
            });
            assert_as_before(&ostler, &pids);
            if !state()["upgrade"].is_null() {
                ostler.ok(&["self-upgrade", "--back"]);
                assert_as_before(&ostler, &pids);
            }
            assert!(state()["upgrade"].is_null(), "{role} at {stage}");
        }
    }
}
