//! What does not work is told, left alone where it must be, and healed where it can be.

use std::fs;

use crate::harness::{NOWHERE, Ostler, WITHIN, head, http, kill, lonely, signal, wait_until};

fn fine() -> String {
    head("trouble") + &lonely("fine", &format!("env = {{ {NOWHERE} }}"))
}

fn program(name: &str, run: &str) -> String {
    format!("\n[service.{name}]\noffering = \"program\"\nrun = [\"/bin/sh\", \"-c\", \"{run}\"]\n")
}

#[test]
fn a_crash_loop_is_told_and_mended_by_a_corrected_file() {
    let ostler = Ostler::up(&fine());
    let pids = ostler.pids("fine");
    ostler.write("ostler.toml", &(fine() + &program("looping", "exit 3")));
    ostler.ok(&["apply", "--no-wait", "ostler.toml"]);
    let status = ostler.until("the loop is told", |status| {
        let looping = status["services"].as_array().unwrap().iter().find(|service| service["name"] == "looping");
        looping.is_some_and(|service| {
            let because = service["instances"][0]["because"].as_str().unwrap_or_default();
            ["failed", "healing"].contains(&service["state"].as_str().unwrap()) && because.contains("exit code 3")
        })
    });
    assert_eq!(status["services"][0]["state"], "ready");
    assert_eq!(ostler.pids("fine"), pids);
    let mended = fine() + &lonely("looping", &format!("env = {{ {NOWHERE} }}"));
    ostler.write("ostler.toml", &mended);
    ostler.ok(&["apply", "ostler.toml"]);
    assert_eq!(http::get(ostler.endpoint("looping"), "/readyz").unwrap().0, 200);
    assert_eq!(ostler.pids("fine"), pids);
}

#[test]
fn a_hung_program_is_restarted_and_people_are_told() {
    let ostler = Ostler::new();
    let told = ostler.folder().join("told.json");
    let command = format!("cat >> {}", told.display());
    let notify =
        format!("\n[[notify]]\non = [\"healed\", \"burning\"]\ncommand = [\"/bin/sh\", \"-c\", \"{command}\"]\n");
    let slo = "slo = { availability = \"99.999%\", latency_p99 = \"1s\" }\n";
    ostler.write("ostler.toml", &(fine() + slo + &notify));
    ostler.ok(&["up", "--detach", "ostler.toml"]);
    let pid = ostler.pids("fine")[0];
    signal(pid, "STOP");
    ostler.until_replaced("fine", 0, pid);
    ostler.until_settled();
    let why = ostler.ok(&["why", "fine"]).out;
    for part in ["does not answer", "diagnosis: it hangs", "weighed: restart: 88.8 % within "] {
        assert!(why.contains(part), "no `{part}` in {why}");
    }
    let are_told = |occasion: &str| {
        let text = fs::read_to_string(&told).unwrap_or_default();
        serde_json::Deserializer::from_str(&text).into_iter::<serde_json::Value>().any(|notice| {
            notice.is_ok_and(|n| n["service"] == "fine" && n["occasion"] == occasion && n["estate"] == "trouble")
        })
    };
    wait_until("people are told", || are_told("healed"));
    // It was away for a moment, which is too much for what is asked of it.
    let level = ostler.service("fine")["levels"][0].clone();
    assert_eq!((&level["objective"], &level["target"]), (&"availability".into(), &"99.999%".into()));
    assert!(level["failed_seconds"].as_u64() > Some(0) && level["left_percent"].as_i64() < Some(100), "{level}");
    let why = ostler.ok(&["why", "fine"]).out;
    for part in ["How it serves", "99.999% available over 30 d", "what may be bad", "99% within 1s"] {
        assert!(why.contains(part), "no `{part}` in {why}");
    }
    assert!(ostler.ok(&["status"]).out.contains("SERVICE LEVEL"));
}

/// What worked before is used again, by itself, and what was declared is not tried again until somebody says so.
#[test]
fn a_change_that_does_no_good_is_taken_back() {
    let good = fine();
    let ostler = Ostler::up(&good);
    let run = good.lines().find(|line| line.starts_with("run = ")).expect("it has a program");
    let bad = good.replace(run, "run = [\"/bin/sh\", \"-c\", \"exit 3\"]");
    ostler.write("ostler.toml", &bad);
    ostler.ok(&["apply", "--no-wait", "ostler.toml"]);
    let status = ostler.until("the change is taken back", |status| {
        let service = &status["services"][0];
        service["state"] == "ready" && service["troubles"].to_string().contains("was taken back")
    });
    let trouble = status["services"][0]["troubles"].to_string();
    assert!(trouble.contains("its last change, of its program") && trouble.contains("exit code 3"), "{trouble}");
    assert_eq!(http::get(ostler.endpoint("fine"), "/readyz").unwrap().0, 200);
    let pids = ostler.pids("fine");
    ostler.ok(&["apply", "ostler.toml"]); // the same again is no other change
    assert_eq!(ostler.pids("fine"), pids);
    let why = ostler.ok(&["why", "fine"]).out;
    for part in ["diagnosis: its last change, of its program", "take the change back: ", "it works again"] {
        assert!(why.contains(part), "no `{part}` in {why}");
    }
    ostler.ok(&["restart", "fine"]);
    // It is tried again, and does no good again.
    let tried = || ostler.ok(&["why", "fine"]).out.matches("take the change back: ").count();
    wait_until("it is taken back again", || tried() == 2);
    ostler.until_settled();
    ostler.write("ostler.toml", &good);
    ostler.ok(&["apply", "ostler.toml"]);
    assert_eq!(http::get(ostler.endpoint("fine"), "/readyz").unwrap().0, 200);
}

/// It is ready, as its own probe has it, and answers callers that it cannot serve them.
#[test]
fn what_callers_do_not_get_counts_against_a_service_that_is_ready() {
    let slo = "slo = { availability = \"99.9%\" }\n";
    let ostler = Ostler::up(&(fine() + slo));
    for _ in 0..3 {
        assert!(http::get(ostler.endpoint("fine"), "/healthz").unwrap().0 >= 500);
    }
    assert_eq!(http::get(ostler.endpoint("fine"), "/readyz").unwrap().0, 200);
    let level = || ostler.service("fine")["levels"][0].clone();
    wait_until("what callers got is measured", || level()["failed_seconds"].as_u64() > Some(0));
    assert_eq!(ostler.service("fine")["state"], "ready");
    let measured = ostler.ok(&["journal", "--kind", "traffic-measured"]).out;
    assert!(measured.contains("fine was asked") && measured.contains(" failed, 0 were late"), "{measured}");
    let level = level();
    assert!(level["left_percent"].as_i64() < Some(100) && level["measured_seconds"].as_u64() > Some(0), "{level}");
}

#[test]
fn a_failing_one_off_command_keeps_its_service_from_starting() {
    let ostler = Ostler::up(&fine());
    let migrated = |command: &str| {
        let before = format!("env = {{ {NOWHERE} }}\nbefore = [\"/bin/sh\", \"-c\", \"{command}\"]");
        fine() + &lonely("web", &before)
    };
    ostler.write("ostler.toml", &migrated("echo no table yet >&2; exit 7"));
    ostler.ok(&["apply", "--no-wait", "ostler.toml"]);
    ostler.until("the failure is told", |status| {
        let web = status["services"].as_array().unwrap().iter().find(|service| service["name"] == "web");
        web.is_some_and(|web| web["instances"][0]["because"].as_str().unwrap_or_default().contains("one-off command"))
    });
    assert_eq!(ostler.pids("web"), Vec::<u32>::new());
    assert!(ostler.ok(&["logs", "web"]).out.contains("no table yet"));
    ostler.write("ostler.toml", &migrated("echo migrated"));
    ostler.ok(&["apply", "ostler.toml"]);
    assert!(ostler.ok(&["logs", "web-1", "-n", "20"]).out.contains("migrated"));
    assert_eq!(ostler.service("web")["state"], "ready");
}

#[test]
fn logs_are_followed_until_the_reader_ends() {
    let ostler = Ostler::up(
        &(head("trouble")
            + &program("talker", "while :; do echo word; sleep 1; done")
            + "probe = { ready = { command = [\"/bin/true\"] } }\n"),
    );
    assert_eq!(ostler.ok(&["logs", "talker", "-n", "1"]).out, "word\n");
    let mut follow = ostler.command(&["logs", "talker", "-n", "0", "--follow"]);
    let path = ostler.folder().join("followed");
    let mut child = follow.stdout(fs::File::create(&path).unwrap()).spawn().unwrap();
    wait_until("a new line is shown", || fs::read_to_string(&path).unwrap().contains("word\n"));
    kill(child.id());
    assert_eq!(crate::harness::ended(&mut child, WITHIN), Some(128 + 9));
}

/// Who waits is told for whom, at the end of the chain; who is misspelt is told who was meant.
#[test]
fn who_waits_for_a_need_is_told_what_stands_in_its_way() {
    let ostler = Ostler::new();
    let wired = |name: &str, need: &str| lonely(name, &format!("needs = [\"{need}\"]\nenv = {{ {NOWHERE} }}"));
    let estate = head("waiting") + &program("base", "exit 3") + &wired("middle", "base") + &wired("top", "middle");
    ostler.write("ostler.toml", &estate);
    // It never becomes ready: what was begun goes on.
    assert_eq!(ostler.run(&["up", "--detach", "--within", "1s"]).code, 1);
    ostler.until("the loop is told", |status| {
        let because = |service: &serde_json::Value| service["instances"][0]["because"].as_str().map(str::to_owned);
        status["services"].as_array().unwrap().iter().any(|service| {
            service["name"] == "base" && because(service).is_some_and(|because| because.contains("exit code 3"))
        })
    });
    let said = ostler.ok(&["why", "top"]).out;
    assert!(said.contains("it waits for base (through middle), which is "), "{said}");
    assert!(said.contains("base-1 is ") && said.contains("exit code 3"), "{said}");
    assert!(said.contains("Nothing went wrong with it itself in the facts at hand."), "{said}");
    let why = ostler.json(&["why", "middle"]);
    assert_eq!(why["waits_for"][0]["need"], "base", "{why}");
    assert!(why["waits_for"][0]["through"].is_null(), "{why}");
    let base = ostler.json(&["why", "base"]);
    assert!(base["waits_for"].is_null(), "{base}");
    for command in [&["why", "midle"][..], &["restart", "midle"], &["logs", "midle"], &["backup", "midle"]] {
        let said = ostler.run(command);
        assert_eq!(said.code, 1, "{command:?}: {said}");
        assert!(said.err.to_lowercase().contains("did you mean `middle`?"), "{command:?}: {said}");
    }
    let said = ostler.run(&["journal", "--kind", "instance-dyed"]);
    assert_eq!(said.code, 64, "{said}");
    assert!(said.err.contains("instance-died") && said.err.contains("similar value"), "{said}");
}
