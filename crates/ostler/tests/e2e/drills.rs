//! Drills: every fault against real servers is noticed, healed and undone, whatever is killed meanwhile, and what they
//! have shown can be checked.

use std::fs;
use std::time::Duration;

use serde_json::Value;

use crate::harness::{
    Caller, NOWHERE, Ostler, bookshop, exchange, finish, head, http, kill, lonely, signal, stands_still, wait_until,
};

/// Quick enough for a test: asked every second, and killed soon when it does not end.
const QUICK: &str = "probe = { every = \"2s\", timeout = \"1s\" }\nstop = { grace = \"2s\" }\n";

fn shop() -> String {
    let text = bookshop("", "slo = { availability = \"99.9%\" }");
    let text = text
        .replace("ready = { http = \"/readyz\" }", "ready = { http = \"/readyz\" }, deep = { http = \"/healthz\" }");
    let quick = |text: &str, offering: &str| {
        let line = format!("offering = \"{offering}\"\n");
        text.replace(&line, &format!("{line}slo = {{ availability = \"99.9%\" }}\n{QUICK}"))
    };
    quick(&quick(&text, "postgresql"), "redis")
}

fn two() -> String {
    head("lonely") + &lonely("web", &format!("instances = 2\nenv = {{ {NOWHERE} }}"))
}

/// What a drill shows that has to be proven.
fn drill(ostler: &Ostler, service: &str, fault: &str) -> Value {
    let shown = ostler.json(&["drill", service, "--fault", fault]);
    assert_eq!(shown["verdict"], "proven", "{shown}");
    assert_eq!(shown["diagnosed"]["right"], true, "{shown}");
    let (noticed, healed) = (shown["noticed_ms"].as_u64().unwrap(), shown["healed_ms"].as_u64().unwrap());
    // A full disk is healed from when there is room again.
    assert!((noticed <= healed || fault == "fill-disk") && healed < 120_000, "{shown}");
    shown
}

fn assert_nothing_is_left(ostler: &Ostler) {
    ostler.until_settled();
    assert!(!ostler.home.join("run/standstill").exists() && !ostler.home.join("run/filling").exists());
    assert!(ostler.own_processes("still").is_empty() && ostler.own_processes("fill").is_empty());
    let all = ostler.all_pids();
    assert!(all.values().all(|pid| !stands_still(u32::try_from(*pid).unwrap())), "{all:?}");
}

/// The whole bookshop, with visitors in it all the time.
#[test]
fn real_servers_recover_from_every_fault_and_nothing_is_lost() {
    let ostler = Ostler::up(&shop());
    let web = ostler.endpoint("web");
    let order = http::order(web, 2);
    let said = ostler.run(&["drill", "db", "--fault", "kill"]);
    assert!(said.code == 1 && said.err.contains("has no backup"), "{said}");
    ostler.ok(&["backup", "db"]);
    for (service, faults) in [("db", ["kill", "hang", "refuse"]), ("cache", ["kill", "hang", "refuse"])] {
        for fault in faults {
            let pid = ostler.pids(service)[0];
            let cache = ostler.endpoint("cache");
            // One who waits for an answer, so that it tells who was served.
            let caller = Caller::start(move || match exchange(cache, "PING\r\nQUIT\r\n") {
                Ok(answer) if !answer.is_empty() => Ok(()), // it wants a password, and says so
                other => Err(format!("{other:?}")),
            });
            let shown = drill(&ostler, service, fault);
            let calls = caller.stop();
            assert!(calls.fine > 0, "{calls:?}");
            assert_ne!(ostler.pids(service)[0], pid, "{fault} of {service} is healed by another process");
            if service == "cache" {
                assert_eq!(shown["callers"]["failed"], 0, "{shown}");
                assert!(shown["callers"]["asked"].as_u64() > Some(0), "somebody asked all the time: {shown}");
                // What it had taken in and not answered when it was ended is lost with it: at most one call at a time.
                assert!(calls.wrong.len() <= 1, "{fault}: {calls:?}");
            }
            let data = if service == "db" { serde_json::json!({ "written": 1, "lost": 0 }) } else { Value::Null };
            assert_eq!(shown["data"], data, "{shown}");
            assert_nothing_is_left(&ostler);
        }
    }
    // Ostler is patient with what is slow and answers now and then: longer than this lasts. It is seen, and undone.
    let said = ostler.run(&["drill", "cache", "--fault", "slow", "--lasts", "15s", "--json"]);
    let shown = said.json();
    assert!(said.code == 2 && shown["verdict"] == "not-healed" && shown["noticed_ms"].is_u64(), "{said}");
    assert_nothing_is_left(&ostler);
    assert!(http::orders(web).contains(&order));
    // All of that time nothing counts against anybody.
    for service in ["db", "cache", "web"] {
        let level = ostler.service(service)["levels"][0].clone();
        assert_eq!((&level["failed_seconds"], &level["reached"]), (&0.into(), &"100%".into()), "{service}: {level}");
        assert!(level["drilled_seconds"].as_u64() > Some(0), "{service}: {level}");
    }
    let why = ostler.ok(&["why", "db"]).out;
    for part in ["What drills have shown", "(drill)", "1 written before, 0 lost", "recovery proven today"] {
        assert!(why.contains(part), "no `{part}` in {why}");
    }
    let status = ostler.ok(&["status"]).out;
    assert!(status.contains("db: recovery proven today: ") && status.contains(", 0 failed, 0 lost"), "{status}");
    a_backup_is_restored_on_the_side(&ostler);
    what_makes_no_sense_is_refused(&ostler);
}

fn a_backup_is_restored_on_the_side(ostler: &Ostler) {
    let pid = ostler.pids("db")[0];
    let shown = ostler.json(&["drill", "db", "--fault", "backup-restore"]);
    assert_eq!((&shown["verdict"], &shown["diagnosed"]), (&"proven".into(), &Value::Null), "{shown}");
    assert!(shown["restored"]["counted"]["rows"].as_u64() > Some(0), "{shown}");
    assert!(shown["healed_ms"].as_u64() > Some(0) && shown["healed_ms"] == shown["restored"]["took_ms"], "{shown}");
    assert_eq!(ostler.pids("db")[0], pid, "nobody is touched");
    let good = ostler.json(&["drill", "--verify", shown["certificate"].as_str().unwrap()]);
    assert_eq!(good["certificate"]["restored"], shown["restored"]);
    let status = ostler.ok(&["status"]).out;
    assert!(status.contains(" rows, ") && status.contains("(`backup-restore`)"), "{status}");
}

fn what_makes_no_sense_is_refused(ostler: &Ostler) {
    for (service, fault, why) in [
        ("web", "backup-restore", "has no data whose restore can be proven"),
        ("cache", "backup-restore", "has no backup that is good"),
        ("web", "wrong-credentials", "knows no credentials"),
        ("db", "provider-outage", "here is this machine"),
        ("db", "fill-disk", "its disk is not its alone"),
        ("cache", "fill-disk", "its disk is not its alone"),
        ("web", "fill-disk", "its disk is not its alone"),
    ] {
        let said = ostler.run(&["drill", service, "--fault", fault]);
        assert!(said.code != 0 && (said.err.clone() + &said.out).contains(why), "{fault} of {service}: {said}");
        assert_nothing_is_left(ostler);
    }
}

/// Who uses a server is thrown out of it, and is let in again by ostler.
#[test]
fn credentials_that_were_ended_are_made_anew() {
    let ostler = Ostler::up(&shop());
    let web = ostler.endpoint("web");
    let order = http::order(web, 2);
    for service in ["db", "cache"] {
        let before = (ostler.pids(service), ostler.pids("web"));
        let shown = drill(&ostler, service, "wrong-credentials");
        assert_eq!(shown["diagnosed"]["words"], "credentials are rejected", "{shown}");
        assert_eq!((ostler.pids(service), ostler.pids("web")), before, "nobody is started anew");
        let data = if service == "db" { serde_json::json!({ "written": 1, "lost": 0 }) } else { Value::Null };
        assert_eq!(shown["data"], data, "{shown}");
        assert_nothing_is_left(&ostler);
        ostler.ok(&["verify"]);
        let again = ostler.run(&["drill", service, "--fault", "wrong-credentials"]);
        assert!(again.code == 1 && again.err.contains("were made anew a moment ago"), "{again}");
    }
    assert!(http::orders(web).contains(&order));
    let said = ostler.run(&["drill", "web", "--fault", "wrong-credentials"]);
    assert!(said.code == 1 && said.err.contains("`web` knows no credentials"), "{said}");
}

/// The one fault that needs ostler for its end: by the next one, and with what was sealed.
#[test]
fn credentials_that_were_ended_are_made_again_by_the_next_ostler() {
    let ostler = Ostler::up(&shop().replace("every = \"1s\"", "every = \"5m\"")); // nobody notices before it is killed
    let mut command = ostler.command(&["drill", "db", "--fault", "wrong-credentials", "--lasts", "9m"]);
    let mut child = command.stdout(std::process::Stdio::null()).stderr(std::process::Stdio::null()).spawn().unwrap();
    wait_until("it is caused", || {
        ostler.run(&["journal", "--kind", "command-ended", "-n", "1"]).out.contains("it is there")
    });
    child.kill().unwrap();
    child.wait().unwrap();
    let said = ostler.run(&["verify"]);
    assert_ne!(said.code, 0, "the web program is thrown out: {said}");
    kill_all_three(&ostler);
    ostler.ok(&["up", "--detach", "ostler.toml"]);
    assert_nothing_is_left(&ostler);
    ostler.ok(&["verify"]);
    let facts = serde_json::to_string(&ostler.facts()).unwrap();
    assert!(!facts.contains("postgresql://"), "no credentials in facts");
    assert!(ostler.service("db")["drilling"].is_null());
}

/// Gives an instance's data a disk of its own, while the estate is down. False, loudly, where that is not permitted.
fn mount_small(ostler: &Ostler, instance: &str, size: &str) -> bool {
    let data = ostler.home.join("instances").join(instance).join("data");
    let former = data.with_extension("former");
    let sh = |text: &str, at: &[&std::path::Path]| {
        let done = std::process::Command::new("sh").args(["-c", text, "sh"]).args(at).output().unwrap();
        done.status.success()
    };
    let script = format!(
        "mv \"$1\" \"$2\" && mkdir \"$1\" && mount -t tmpfs -o size={size} none \"$1\" && cp -a \"$2/.\" \"$1/\" && \
         chown --reference=\"$2\" \"$1\" && chmod --reference=\"$2\" \"$1\""
    );
    let mounted = sh(&script, &[&data, &former]);
    if !mounted {
        eprintln!("NOT TESTED: this user may not mount a small disk");
    }
    mounted
}

fn unmount(ostler: &Ostler, instance: &str) {
    let data = ostler.home.join("instances").join(instance).join("data");
    let _ = std::process::Command::new("umount").arg("-l").arg(data).status();
}

/// A real disk, full to the last block, under a PostgreSQL and a Redis.
#[test]
fn a_full_disk_is_noticed_and_all_works_when_there_is_room() {
    let text = shop().replace("offering = \"redis\"\n", "offering = \"redis\"\nplan = \"durable\"\n");
    let ostler = Ostler::up(&text);
    let order = http::order(ostler.endpoint("web"), 2);
    ostler.ok(&["down"]);
    if !mount_small(&ostler, "db-1", "200m") || !mount_small(&ostler, "cache-1", "16m") {
        return;
    }
    ostler.ok(&["up", "--detach", "ostler.toml"]);
    ostler.until_settled();
    ostler.ok(&["backup", "db"]);
    for service in ["db", "cache"] {
        let folder = ostler.home.join("instances").join(format!("{service}-1")).join("data");
        let left = || rustix::fs::statvfs(&folder).map(|space| space.f_bavail * space.f_frsize).unwrap();
        let before = left();
        let shown = drill(&ostler, service, "fill-disk");
        assert_eq!(shown["diagnosed"]["words"], "its disk is full", "{shown}");
        let data = if service == "db" { serde_json::json!({ "written": 1, "lost": 0 }) } else { Value::Null };
        assert_eq!(shown["data"], data, "{shown}");
        assert!(left() > before / 2, "there is room again: {} of {before}", left());
        assert_nothing_is_left(&ostler);
    }
    // Who holds the room is killed with all of ostler: the kernel gives it back.
    let folder = ostler.home.join("instances/cache-1/data");
    let left = || rustix::fs::statvfs(&folder).map(|space| space.f_bavail * space.f_frsize).unwrap();
    let mut command = ostler.command(&["drill", "cache", "--fault", "fill-disk", "--lasts", "9m"]);
    let mut child = command.stdout(std::process::Stdio::null()).stderr(std::process::Stdio::null()).spawn().unwrap();
    wait_until("it is full", || left() < 64 * 1024);
    child.kill().unwrap();
    child.wait().unwrap();
    kill_all_three(&ostler);
    ostler.own_processes("fill").into_iter().for_each(kill);
    wait_until("there is room, with nobody there", || left() > 1024 * 1024);
    ostler.ok(&["up", "--detach", "ostler.toml"]);
    assert_nothing_is_left(&ostler);
    assert!(http::orders(ostler.endpoint("web")).contains(&order));
    ostler.ok(&["down"]);
    ["db-1", "cache-1"].iter().for_each(|instance| unmount(&ostler, instance));
}

/// Everything that was bought at one provider is cut off, and what was bought at the other is not.
#[test]
fn a_providers_outage_is_seen_as_one_and_ends() {
    let seller = || {
        let seller = Ostler::new();
        let door = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        seller.write("password", "sesame\n");
        let password = seller.folder().join("password");
        let sells = format!(
            "\n[provide]\nlisten = \"{door}\"\noffer = [\"postgresql\", \"redis\"]\n\n[provide.buyer.shop]\n\
             password = {{ file = {password:?} }}\n"
        );
        seller.write("ostler.toml", &(head("seller") + &sells));
        seller.ok(&["provide", "--detach", "ostler.toml"]);
        (seller, door, password)
    };
    let sellers = [seller(), seller()];
    let provider = |name: &str, (_, door, password): &(Ostler, std::net::SocketAddr, std::path::PathBuf)| {
        format!(
            "\n[provider.{name}]\nkind = \"osb\"\nurl = \"http://{door}\"\nmanners = {{ poll_every = \"50ms\" }}\n\
             auth = {{ username = \"shop\", password = {{ file = {password:?} }} }}\n"
        )
    };
    let bought = |name: &str, offering: &str, at: &str| {
        format!("\n[service.{name}]\noffering = \"{offering}\"\nprefer = [\"{at}\"]\n{QUICK}")
    };
    let text = head("buyer")
        + &provider("acme", &sellers[0])
        + &provider("other", &sellers[1])
        + &bought("db", "postgresql", "acme")
        + &bought("cache", "redis", "acme")
        + &bought("spare", "redis", "other");
    let buyer = Ostler::up(&text.replace("stop = { grace = \"2s\" }\n", ""));
    assert_eq!(
        (&buyer.service("db")["provider"], &buyer.service("spare")["provider"]),
        (&"acme".into(), &"other".into())
    );
    let said = buyer.run(&["drill", "db", "--fault", "wrong-credentials"]);
    assert!(said.code == 1 && said.err.contains("runs elsewhere"), "{said}");
    let said = buyer.run(&["drill", "db", "--fault", "fill-disk"]);
    assert!(said.code == 1 && said.err.contains("runs elsewhere"), "{said}");
    // What only waits for its provider is not healed by that.
    let shown = buyer.run(&["drill", "db", "--fault", "provider-outage", "--lasts", "20s", "--json"]);
    assert_eq!(shown.code, 2, "{shown}");
    let shown = shown.json();
    assert_eq!(shown["verdict"], "not-healed", "{shown}");
    assert!(shown["noticed_ms"].is_u64() && shown["diagnosed"]["right"] == true, "{shown}");
    assert!(shown["diagnosed"]["words"].as_str().unwrap().contains("acme"), "{shown}");
    let mut hit: Vec<&str> = shown["instances"].as_array().unwrap().iter().map(|id| id.as_str().unwrap()).collect();
    hit.sort_unstable();
    assert_eq!(hit, ["cache-1", "db-1"]);
    buyer.until("all of it is back", |status| {
        status["services"].as_array().unwrap().iter().all(|service| service["state"] == "ready")
    });
    assert!(
        !buyer
            .facts()
            .iter()
            .any(|fact| fact.to_string().contains("\"spare-1\"") && fact.to_string().contains("unready"))
    );
    buyer.ok(&["down", "--delete-data", "--yes"]);
}

#[test]
fn visitors_of_two_instances_see_nothing_of_what_one_suffers() {
    let ostler = Ostler::up(&two());
    let web = ostler.endpoint("web");
    for fault in ["kill", "refuse", "hang"] {
        let (staying, getting) = (Caller::staying(web, "/readyz"), Caller::getting(web, "/readyz"));
        let before = ostler.pids("web");
        let shown = drill(&ostler, "web", fault);
        let calls = [staying.stop(), getting.stop()];
        let wrong: Vec<&String> = calls.iter().flat_map(|calls| &calls.wrong).collect();
        // Who had just sent a request to what hangs is told so: it cannot be asked again while nobody knows of it.
        assert!(fault == "hang" || wrong.is_empty(), "{fault}: {wrong:?}");
        assert!(calls.iter().map(|calls| calls.fine).sum::<u64>() > 0);
        assert_eq!(shown["instances"], serde_json::json!(["web-2"]));
        let after = ostler.pids("web");
        assert!(before[0] == after[0] && before[1] != after[1], "{before:?} {after:?}");
        assert_nothing_is_left(&ostler);
    }
}

/// Begins a drill, and gives the process that it is done to once it is there.
fn begin(ostler: &Ostler, fault: &str, lasts: &str) -> u32 {
    let pid = ostler.pids("web")[1];
    let mut command = ostler.command(&["drill", "web", "--fault", fault, "--lasts", lasts]);
    let mut child = command.stdout(std::process::Stdio::null()).stderr(std::process::Stdio::null()).spawn().unwrap();
    wait_until("it is caused", || {
        let caused = ostler.run(&["journal", "--kind", "command-ended", "-n", "1"]);
        caused.out.contains("it is there") || (fault == "hang" && stands_still(pid))
    });
    child.kill().unwrap();
    child.wait().unwrap();
    pid
}

fn kill_all_three(ostler: &Ostler) {
    let all = || ["keeper", "manager", "gateway"].into_iter().flat_map(|role| ostler.own_processes(role));
    all().for_each(|pid| signal(pid, "STOP")); // so that none brings another one back
    all().for_each(kill);
}

/// Probes so rare that nobody notices before ostler is killed.
fn rarely_probed() -> String {
    two().replace("every = \"1s\"", "every = \"5m\"")
}

#[test]
fn what_hangs_goes_on_by_itself_when_all_of_ostler_is_killed() {
    let ostler = Ostler::up(&rarely_probed());
    let pid = begin(&ostler, "hang", "5s");
    kill_all_three(&ostler);
    assert!(ostler.own_processes("manager").is_empty() && ostler.own_processes("keeper").is_empty());
    wait_until("it goes on, with nobody there", || !stands_still(pid));
    wait_until("who held it is gone", || ostler.own_processes("still").is_empty());
    ostler.ok(&["up", "--detach", "ostler.toml"]);
    assert_nothing_is_left(&ostler);
    assert_eq!(ostler.pids("web")[1], pid, "it was adopted as it was");
    let ended = ostler.ok(&["journal", "--kind", "drill-ended"]).out;
    assert!(ended.contains("was cut short: ostler itself was interrupted"), "{ended}");
}

/// The next ostler undoes it before its time, also where who held it was killed, too.
#[test]
fn the_next_ostler_undoes_what_it_finds() {
    let ostler = Ostler::up(&rarely_probed());
    let pid = begin(&ostler, "hang", "9m");
    kill_all_three(&ostler);
    ostler.own_processes("still").into_iter().for_each(kill);
    assert!(stands_still(pid));
    ostler.ok(&["up", "--detach", "ostler.toml"]);
    wait_until("it goes on", || !stands_still(pid));
    assert_nothing_is_left(&ostler);
    assert_eq!(ostler.pids("web")[1], pid);
    // What was refused is undone in the same way: the new manager hands out other tables.
    let pid = begin(&ostler, "refuse", "9m");
    kill_all_three(&ostler);
    ostler.ok(&["up", "--detach", "ostler.toml"]);
    assert_nothing_is_left(&ostler);
    assert_eq!(ostler.pids("web")[1], pid);
    assert!(ostler.service("web")["drilling"].is_null());
    drill(&ostler, "web", "kill");
}

#[test]
fn a_killed_manager_ends_its_drill_and_makes_others() {
    let ostler = Ostler::up(&rarely_probed());
    let pid = begin(&ostler, "slow", "9m");
    kill(ostler.own_process("manager"));
    wait_until("its drill is over", || {
        let ended = ostler.run(&["journal", "--kind", "drill-ended"]);
        ended.out.contains("was cut short")
    });
    assert_nothing_is_left(&ostler);
    assert_eq!(ostler.pids("web")[1], pid);
    drill(&ostler, "web", "kill");
}

/// A TCP probe is answered by the kernel for what stands still: nobody notices, and the drill says so.
#[test]
fn what_nobody_notices_is_not_proven() {
    let ostler = Ostler::up(&two().replace("ready = { http = \"/readyz\" }", "ready = \"tcp\""));
    let said = ostler.run(&["drill", "web", "--fault", "hang", "--lasts", "6s", "--json"]);
    assert_eq!(said.code, 2, "{said}");
    let shown = said.json();
    assert_eq!((&shown["verdict"], &shown["healed_ms"]), (&"not-noticed".into(), &Value::Null), "{shown}");
    assert!(shown["certificate"].is_null(), "{shown}");
    assert_nothing_is_left(&ostler);
    let status = ostler.ok(&["status"]).out;
    assert!(status.contains("recovery not proven today: the drill `hang` was not noticed within its time"), "{status}");
    assert!(ostler.service("web")["drills_held"] == true);
    drill(&ostler, "web", "kill");
    assert!(ostler.service("web")["drills_held"].is_null());
}

#[test]
fn outside_of_its_window_a_drill_takes_a_reason() {
    let day = "2020-01-01 - 2020-01-02";
    let ostler = Ostler::up(&(two() + &format!("\n[drill]\nwindow = [\"{day}\"]\nkeep = 1\nvalid = \"1h\"\n")));
    let said = ostler.run(&["drill", "web", "--fault", "kill"]);
    assert!(said.code == 1 && said.err.contains("no window for drills is open"), "{said}");
    let shown = ostler.json(&["drill", "web", "--fault", "kill", "--now", "the auditor waits"]);
    assert_eq!(shown["verdict"], "proven", "{shown}");
    let began = ostler.ok(&["journal", "--kind", "drill-began"]).out;
    assert!(began.contains("outside of any window: the auditor waits"), "{began}");
    for (wrong, why) in [
        (&["drill", "nobody", "--fault", "kill"][..], "there is no service `nobody`"),
        (&["drill", "web", "--fault", "provider-outage", "--now", "x"], "here is this machine"),
        (&["drill", "web", "--fault", "kill", "--lasts", "1s", "--now", "x"], "a fault lasts from"),
    ] {
        let said = ostler.run(wrong);
        assert!(said.code == 1 && said.err.contains(why), "{wrong:?}: {said}");
    }
    for wrong in [&["drill"][..], &["drill", "web"], &["drill", "web", "--fault", "flood"], &["drill", "--key", "00"]] {
        assert_eq!(ostler.run(wrong).code, 64, "{wrong:?}");
    }
}

/// Whoever has the file can check it, with no ostler at hand.
#[test]
fn a_certificate_can_be_checked_by_anybody() {
    let ostler = Ostler::up(&two());
    let shown = drill(&ostler, "web", "kill");
    let file = shown["certificate"].as_str().unwrap();
    let elsewhere = Ostler::new();
    let verify = |file: &str, more: &[&str]| {
        let all = [&["drill", "--verify", file][..], more].concat();
        finish(elsewhere.command(&all), Duration::from_secs(60))
    };
    let good = verify(file, &["--json"]);
    assert_eq!(good.code, 0, "{good}");
    let good = good.json();
    let certificate = &good["certificate"];
    assert_eq!((&certificate["service"], &certificate["fault"]), (&"web".into(), &"kill".into()), "{good}");
    assert_eq!(certificate["healed_ms"], shown["healed_ms"]);
    assert_eq!(good["expired"], false);
    let key = good["key"].as_str().unwrap();
    assert_eq!(verify(file, &["--key", key]).code, 0);
    let other = verify(file, &["--key", &"0".repeat(64)]);
    assert!(other.code == 1 && other.err.contains("signed with another key"), "{other}");
    let text = fs::read_to_string(file).unwrap();
    for (name, changed) in [
        ("figures", text.replace("\"kill\"", "\"hang\"")),
        ("blanks", text.replace("  \"key\"", "   \"key\"")),
        ("cut", text[..text.len() / 2].to_owned()),
        ("empty", String::new()),
        ("rubbish", "\u{0}".repeat(100)),
    ] {
        elsewhere.write(name, &changed);
        let refused = verify(name, &[]);
        assert!(refused.code == 1 && refused.err.contains("cannot accept the certificate"), "{name}: {refused}");
    }
    let again = drill(&ostler, "web", "kill");
    let again = verify(again["certificate"].as_str().unwrap(), &["--json"]).json();
    assert_eq!(again["key"], key, "one key for all drills of an estate");
}
