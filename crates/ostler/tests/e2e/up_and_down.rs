//! An estate comes up wired together, goes down in order, and comes up again with its data.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use serde_json::Value;

use crate::harness::{NOWHERE, Ostler, bookshop, cmdline, environment, head, http, lonely, processes};

/// Where in the journal the first fact with these words stands.
fn position(facts: &[Value], words: &str) -> usize {
    facts
        .iter()
        .position(|fact| fact["words"].as_str().unwrap().ends_with(words))
        .unwrap_or_else(|| panic!("no `{words}`"))
}

#[test]
fn it_comes_up_wired_together_goes_down_and_comes_up_again() {
    let ostler = Ostler::up(&bookshop("", ""));
    let status = ostler.status();
    assert_eq!(status["settled"], true);
    for service in status["services"].as_array().unwrap() {
        assert_eq!(service["state"], "ready", "{service}");
    }
    let facts = ostler.facts();
    for need in ["db-1", "cache-1"] {
        assert!(position(&facts, &format!("{need} is ready")) < position(&facts, "start web-1"));
        assert!(position(&facts, &format!("bind web to {need}")) < position(&facts, "start web-1"));
    }
    bindings_are_in_all_three_forms(&ostler);
    no_secret_is_anywhere_else(&ostler);
    let order = http::order(ostler.endpoint("web"), 1);
    let (addresses, before) = (ostler.endpoint("web"), ostler.journal_end());

    ostler.ok(&["down"]);
    assert_eq!(ostler.mains().len(), 0);
    for role in ["keeper", "manager", "gateway"] {
        assert_eq!(ostler.own_processes(role), Vec::<u32>::new(), "the {role} still runs");
    }
    let facts: Vec<Value> =
        ostler.facts().into_iter().filter(|fact| fact["position"].as_u64().unwrap() > before).collect();
    for consumer in ["stop web-1", "stop web-2"] {
        assert!(position(&facts, consumer) < position(&facts, "stop db-1"));
        assert!(position(&facts, consumer) < position(&facts, "stop cache-1"));
    }
    let verified = ostler.json(&["journal", "--verify"]);
    assert_eq!(verified["sound"], true);

    ostler.ok(&["up", "--detach", "ostler.toml"]);
    assert_eq!(ostler.endpoint("web"), addresses);
    assert!(http::orders(addresses).contains(&order));

    ostler.ok(&["down", "--delete-data", "--yes"]);
    let left: Vec<_> = fs::read_dir(ostler.home.join("instances")).into_iter().flatten().flatten().collect();
    assert!(left.is_empty(), "{left:?}");
}

fn bindings_are_in_all_three_forms(ostler: &Ostler) {
    let told = environment(ostler.pids("web")[0]);
    let address = ostler.endpoint("db");
    assert_eq!(told["DB_HOST"], address.ip().to_string());
    assert_eq!(told["DB_PORT"], address.port().to_string());
    assert_eq!(told["DB_URL"], told["DATABASE_URL"]);
    let root = std::path::Path::new(&told["SERVICE_BINDING_ROOT"]);
    for (file, content) in [("type", "postgresql"), ("password", &told["DB_PASSWORD"]), ("uri", &told["DB_URL"])] {
        let path = root.join("db").join(file);
        assert_eq!(fs::read_to_string(&path).unwrap(), *content, "{file}");
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600, "{file}");
    }
    let services: Value = serde_json::from_str(&told["VCAP_SERVICES"]).unwrap();
    assert_eq!(services["postgresql"][0]["credentials"]["uri"], told["DB_URL"].as_str());
    assert_eq!(services["redis"][0]["name"], "cache");
}

fn no_secret_is_anywhere_else(ostler: &Ostler) {
    let told = environment(ostler.pids("web")[0]);
    let secrets = [told["DB_PASSWORD"].clone(), told["CACHE_PASSWORD"].clone()];
    assert!(secrets.iter().all(|secret| secret.len() >= 16));
    let facts = serde_json::to_string(&ostler.facts()).unwrap();
    let mut places = vec![("the facts".to_owned(), facts.into_bytes())];
    for pid in processes() {
        places.push((format!("the arguments of {pid}"), cmdline(pid).into_bytes()));
    }
    let files = fs::read_dir(&ostler.home).unwrap().chain(fs::read_dir(ostler.home.join("log")).unwrap()).flatten();
    let logs = ["db-1", "cache-1", "web-1", "web-2"]
        .map(|instance| ostler.home.join(format!("instances/{instance}/log/{instance}.log")));
    for path in files.map(|file| file.path()).chain(logs).filter(|path| path.is_file()) {
        places.push((path.display().to_string(), fs::read(&path).unwrap()));
    }
    assert!(places.iter().any(|(place, _)| place.ends_with("journal.db")));
    assert!(places.iter().any(|(place, _)| place.ends_with("manager.log") || place.ends_with("keeper.log")));
    for (place, bytes) in &places {
        for secret in &secrets {
            assert!(!bytes.windows(secret.len()).any(|window| window == secret.as_bytes()), "a password is in {place}");
        }
    }
}

#[test]
fn a_second_up_is_refused_and_another_home_is_not() {
    let estate = head("lonely") + &lonely("web", &format!("env = {{ {NOWHERE} }}"));
    let (first, second) = (Ostler::up(&estate), Ostler::up(&estate));
    let said = first.run(&["up", "--detach", "ostler.toml"]);
    assert_eq!(said.code, 1, "{said}");
    assert!(said.err.contains("an ostler is already running on the home"), "{said}");
    assert_ne!(first.endpoint("web"), second.endpoint("web"));
    for ostler in [&first, &second] {
        assert_eq!(http::get(ostler.endpoint("web"), "/readyz").unwrap().0, 200);
    }
}

#[test]
fn a_wrong_file_is_told_in_full_and_starts_nothing() {
    let ostler = Ostler::new();
    let wrong = head("wrong")
        + "\n[service.web]\noffering = \"programm\"\nneeds = [\"dv\"]\n\n[service.db]\noffering = \"postgresql\"\nversoin = \">=15\"\n";
    ostler.write("ostler.toml", &wrong);
    for command in [&["up", "--detach"][..], &["preview"], &["apply"]] {
        let said = ostler.run(command);
        assert_eq!(said.code, 1, "{command:?}: {said}");
        for part in ["`web` needs `dv`", "versoin", "ostler.toml:"] {
            assert!(said.err.contains(part), "{command:?} does not name {part}: {said}");
        }
    }
    assert!(!ostler.home.exists());
    assert_eq!(ostler.own_processes("keeper"), Vec::<u32>::new());
}
