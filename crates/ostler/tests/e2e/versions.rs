//! Versions side by side: of this machine's offerings and of the buyer's own program.

use std::fs;

use serde_json::Value;

use crate::harness::{NOWHERE, Ostler, head, kill, lonely, wait_until};

/// How often it was noticed that a catalog has changed.
fn catalogs_seen(ostler: &Ostler) -> usize {
    ostler.json(&["journal", "--kind", "catalog-seen"]).as_array().unwrap().len()
}

/// Does something to what is installed, and waits until a running ostler has seen it by itself.
fn until_seen(ostler: &Ostler, change: impl FnOnce()) {
    let before = catalogs_seen(ostler);
    change();
    wait_until("the change is seen", || catalogs_seen(ostler) > before);
}

/// The newest version on offer that will do.
fn newest(ostler: &Ostler, service: &str) -> Value {
    ostler.json(&["why", service])["candidates"][0]["version"].clone()
}

#[test]
fn of_versions_side_by_side_the_one_that_is_asked_for_runs() {
    let ostler = Ostler::new();
    let folder = ostler.postgresql_versions(&["15", "16.2", "17.10"]);
    let estate = |range: &str| {
        let head = head("shop");
        format!(
            "{head}versions = \"{}\"\n\n[service.db]\noffering = \"postgresql\"\nversion = \"{range}\"\n",
            folder.display()
        )
    };
    ostler.write("ostler.toml", &estate("16"));
    ostler.ok(&["up", "--detach", "ostler.toml"]);
    let db = ostler.service("db");
    assert_eq!((&db["version"], &db["state"]), (&"16.2".into(), &"ready".into()), "{db}");
    let pid = ostler.pids("db")[0];
    let runs = fs::read_link(format!("/proc/{pid}/exe")).unwrap();
    assert!(runs.ends_with("pginstall/bin/postgres"), "{}", runs.display());
    assert_eq!(newest(&ostler, "db"), "16.2");

    // A newer version is seen without anything being given again, and what runs stays what it is.
    until_seen(&ostler, || ostler.put_postgresql("16.11"));
    assert_eq!(newest(&ostler, "db"), "16.11");
    assert_eq!((ostler.service("db")["version"].clone(), ostler.pids("db")), ("16.2".into(), vec![pid]));

    // Its own is replaced by its successor, as a package's update does: it runs on, and starts again as the successor.
    until_seen(&ostler, || ostler.take_postgresql("16.2"));
    let preview = ostler.run(&["preview", "ostler.toml"]);
    assert_eq!(preview.code, 0, "nothing is to be changed: {preview}");
    kill(pid);
    ostler.until_replaced("db", 0, pid);
    ostler.ok(&["apply", "ostler.toml"]);
    ostler.until_settled();

    // What nobody has is told with what there is.
    ostler.write("other.toml", &estate("18"));
    let refused = ostler.run(&["preview", "other.toml"]);
    assert_eq!(refused.code, 1, "{refused}");
    assert!(
        refused.err.contains("no version of `postgresql` satisfies `18`") && refused.err.contains("16.11, 17.10"),
        "{refused}"
    );
    ostler.write("other.toml", &estate("16").replace("/versions", "/nowhere"));
    let refused = ostler.run(&["preview", "other.toml"]);
    assert!(refused.code == 1 && refused.err.contains("cannot read the folder of versions"), "{refused}");
}

#[test]
fn what_is_bought_first_goes_together_and_what_does_not_is_told_before_anything_is_bought() {
    let ostler = Ostler::new();
    let folder = ostler.postgresql_versions(&["15", "16.2", "17.10"]);
    let estate = |relied: &str| {
        format!(
            "{}versions = \"{}\"\n\n[service.db]\noffering = \"postgresql\"\n{}",
            head("shop"),
            folder.display(),
            lonely("web", &format!("needs = [\"db\"]\ncontract = [{relied}]\nenv = {{ {NOWHERE} }}"))
        )
    };
    let both = "{ need = \"db\", version = \">=16\" }, { need = \"db\", version = \"<16\" }";
    ostler.write("ostler.toml", &estate(both));
    for command in [&["preview", "ostler.toml"][..], &["up", "--detach", "ostler.toml"]] {
        let refused = ostler.run(command);
        assert_eq!(refused.code, 1, "{refused}");
        assert!(refused.err.contains("`web` relies on `db` `<16` by its contract"), "{refused}");
        assert!(refused.err.contains("No version of `db` is both") && refused.err.contains("help: widen"), "{refused}");
    }
    assert!(!ostler.home.join("instances/db-1").exists());
    ostler.write("ostler.toml", &estate("{ need = \"db\", version = \"<17\" }"));
    let said = ostler.run(&["preview", "ostler.toml", "--json"]);
    assert_eq!(said.code, 2, "{said}"); // there is something to be changed
    let shown = said.json();
    let bought = shown["bought"].as_array().unwrap().iter().find(|bought| bought["service"] == "db").unwrap();
    assert_eq!(bought["version"], "16.2", "{shown}");
    ostler.ok(&["up", "--detach", "ostler.toml"]);
    assert_eq!(ostler.service("db")["version"], "16.2");
}

#[test]
fn of_a_programs_releases_the_newest_that_fits_runs_and_stays_until_it_is_gone() {
    let ostler = Ostler::new();
    let estate = |path: &str, more: &str| {
        format!(
            "{}\n[service.web]\noffering = \"program\"\nrun = [\"{path}\"]\n\
             env = {{ RELEASE = \"{{{{ version }}}}\", {NOWHERE} }}\nprobe = {{ ready = {{ http = \"/style.css\" }}, every = \"1s\" }}\n{more}\n",
            head("shop")
        )
    };
    let path = "releases/{{ version }}/bookshop-web";
    ostler.write("ostler.toml", &estate(path, "version = \">=1.2, <2\""));
    let refused = ostler.run(&["preview", "ostler.toml"]);
    assert!(refused.code == 1 && refused.err.contains("no version of the program is there"), "{refused}");
    for version in ["1.2.0", "1.10.0", "2.0.0"] {
        ostler.put_release(version);
    }
    ostler.ok(&["up", "--detach", "ostler.toml"]);
    assert_eq!(ostler.service("web")["version"], "1.10.0");
    let pid = ostler.pids("web")[0];
    assert_eq!(crate::harness::environment(pid)["RELEASE"], "1.10.0");
    assert!(crate::harness::cmdline(pid).contains("releases/1.10.0/bookshop-web"));

    // A newer release is seen, and is no reason to do anything by itself.
    until_seen(&ostler, || ostler.put_release("1.11.0"));
    assert_eq!(newest(&ostler, "web"), "1.11.0");
    ostler.ok(&["apply", "ostler.toml"]);
    assert_eq!((ostler.service("web")["version"].clone(), ostler.pids("web")), ("1.10.0".into(), vec![pid]));

    // Its release is taken away: it runs on, and what is told when it cannot be started again says so.
    let release = ostler.folder().join("releases/1.10.0");
    until_seen(&ostler, || fs::remove_dir_all(&release).unwrap());
    ostler.ok(&["apply", "ostler.toml"]);
    assert_eq!(ostler.pids("web"), [pid]);
    kill(pid);
    wait_until("it is said what is missing", || {
        ostler.run(&["why", "web"]).out.contains("releases/1.10.0/bookshop-web")
    });
    ostler.put_release("1.10.0");
    ostler.until_replaced("web", 0, pid);

    for (path, more, why) in [
        (path, "version = \">=3\"", "no version of `program` satisfies `>=3`"),
        ("./bookshop-web", "", "the program is not there in several versions"),
        ("bookshop-{{ version }}", "", "needs a path"),
        ("releases/{{ version }}/../web", "", "leaves the version's folder"),
    ] {
        ostler.write("other.toml", &estate(path, more));
        let refused = ostler.run(&["preview", "other.toml"]);
        assert!(refused.code == 1 && refused.err.contains(why), "{why}: {refused}");
    }
}
