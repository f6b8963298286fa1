//! What the command line says: help, tables, reports and errors as snapshots, and JSON everywhere.

use std::time::Duration;

use insta::assert_snapshot;
use ostler_model::time::Timestamp;
use serde_json::Value;

use crate::harness::{NOWHERE, Ostler, Said, finish, head, kill, lonely};

const COMMANDS: [&str; 14] = [
    "up", "preview", "simulate", "apply", "status", "why", "journal", "logs", "restart", "scale", "backup", "restore",
    "down", "home",
];

/// The text with everything that differs from run to run replaced: numbers with their meaning in words.
fn masked(ostler: &Ostler, text: &str) -> String {
    let text = text.replace(ostler.folder().to_str().unwrap(), "FOLDER");
    let mut out = String::new();
    for line in text.lines() {
        let words = line.split(' ').map(|word| if word.is_empty() { String::new() } else { masked_word(word) });
        let line = words.filter(|word| !word.is_empty()).collect::<Vec<_>>().join(" ");
        out.push_str(&line);
        out.push('\n');
    }
    out
}

fn masked_word(word: &str) -> String {
    let core = word.trim_matches(|c: char| "(),;:.`".contains(c));
    let is_number = !core.is_empty() && core.chars().all(|c| c.is_ascii_digit() || c == '.');
    let is_time =
        core.len() >= 8 && core.contains(':') && core.chars().all(|c| c.is_ascii_digit() || "-:.TZ".contains(c));
    let is_date = core.len() == 10 && core.chars().all(|c| c.is_ascii_digit() || c == '-');
    match () {
        () if core.starts_with("127.0.0.1:") => word.replace(core, "ADDRESS"),
        () if is_time || is_date => word.replace(core, "TIME"),
        () if is_number => word.replace(core, "N"),
        () if core == "ms" || core == "s" => word.replace(core, "UNIT"),
        () => word.to_owned(),
    }
}

#[test]
fn help_and_wrong_usage() {
    let ostler = Ostler::new();
    let said = ostler.run(&["--help"]);
    assert_eq!(said.code, 0);
    assert_snapshot!("help", said.out);
    for command in COMMANDS {
        let said = ostler.run(&[command, "--help"]);
        assert_eq!(said.code, 0, "{command}");
        assert_snapshot!(format!("help-{command}"), said.out);
    }
    for wrong in
        [&["gallop"][..], &["scale", "web"], &["scale", "web=0"], &["why"], &["down", "web"], &["status", "--colour"]]
    {
        let said = ostler.run(wrong);
        assert_eq!(said.code, 64, "{wrong:?}: {said}");
        assert!(said.out.is_empty() && said.err.starts_with("error: "), "{wrong:?}: {said}");
        let said = ostler.run(&[&["--json"], wrong].concat());
        assert_eq!((said.code, said.err.as_str()), (64, ""), "{wrong:?}: {said}");
        let error = &said.json()["error"];
        assert_eq!(error["what"], "cannot understand the command line", "{said}");
        assert!(!error["causes"][0].as_str().unwrap().is_empty() && error["remedy"].is_string(), "{said}");
    }
    assert_snapshot!("wrong-usage-json", ostler.run(&["scale", "web=0", "--json"]).out);
    assert_snapshot!("unknown-command-json", ostler.run(&["--json", "statsu"]).out);
    let help = ostler.run(&["status", "--help", "--json"]);
    assert_eq!(help.code, 0, "help is an answer: {help}");
    let stopped = ostler.run(&["status"]);
    assert_eq!(stopped.code, 1);
    assert_snapshot!("not-running", masked(&ostler, &stopped.err));
}

#[test]
fn tables_reports_and_json() {
    let ostler = Ostler::new();
    let estate = head("words") + &lonely("web", &format!("env = {{ {NOWHERE} }}"));
    ostler.write("ostler.toml", &estate);
    let preview = ostler.run(&["preview"]);
    assert_eq!(preview.code, 2, "{preview}");
    assert_snapshot!("preview", masked(&ostler, &preview.out));
    assert!(!ostler.home.exists(), "a preview made something");
    ostler.ok(&["up", "--detach"]);
    assert_snapshot!("status", masked(&ostler, &ostler.ok(&["status"]).out));
    let pid = ostler.pids("web")[0];
    kill(pid);
    ostler.until_replaced("web", 0, pid);
    ostler.until_settled();
    assert_snapshot!("journal", masked(&ostler, &ostler.ok(&["journal", "--kind", "instance-died"]).out));
    assert_snapshot!("no-such-service", masked(&ostler, &ostler.run(&["why", "wbe"]).err));
    assert_snapshot!("second-up", masked(&ostler, &ostler.run(&["up"]).err));
    assert_snapshot!("verify-while-running", masked(&ostler, &ostler.run(&["journal", "--verify"]).err));

    let why = ostler.json(&["why", "web"]);
    assert!(why["episodes"][0]["done"][0]["at"].is_string() && why["episodes"][0]["over"].is_string(), "{why}");
    let mut facts = ostler.json(&["journal"]);
    for fact in facts.as_array_mut().unwrap() {
        // What is stored keeps its own form.
        let stored = fact.as_object_mut().unwrap().remove("fact").unwrap();
        assert_eq!(Timestamp(stored["at"].as_i64().unwrap()).to_string(), fact["at"].as_str().unwrap());
    }
    for answer in [&why, &facts, &ostler.status()] {
        assert_times_are_rfc_3339(answer);
    }
    let died = ostler.json(&["journal", "--service", "web", "--kind", "instance-died", "-n", "5"]);
    assert_eq!(died.as_array().unwrap().len(), 1, "{died}");
    assert_eq!(died[0]["service"], "web");
    let one_object: [&[&str]; 7] = [
        &["status"],
        &["why", "web"],
        &["journal"],
        &["preview"],
        &["apply"],
        &["restart", "web"],
        &["scale", "web=1"],
    ];
    for command in one_object {
        let answer: Value = ostler.json(command);
        assert!(answer.is_object() || answer.is_array(), "{command:?}: {answer}");
    }
    for line in ostler.ok(&["logs", "web", "--json"]).out.lines() {
        let line: Value = serde_json::from_str(line).unwrap();
        assert_eq!(line["instance"], "web-1");
    }
    for wrong in [&["why", "nothing"][..], &["restore", "web"], &["up"], &["logs", "nothing"]] {
        let mut all = wrong.to_vec();
        all.push("--json");
        let said = ostler.run(&all);
        assert_eq!(said.code, 1, "{wrong:?}: {said}");
        assert!(said.json()["error"]["what"].is_string(), "{wrong:?}: {said}");
    }
    let copy = ostler.folder().join("copy");
    let copy = copy.to_str().unwrap();
    assert_eq!(ostler.json(&["home", "backup", copy])["done"], true);
    let again = ostler.run(&["home", "backup", copy, "--json"]);
    assert_eq!((again.code, again.json()["error"]["what"].as_str()), (1, Some("cannot back up the home")), "{again}");
    let other = Ostler::new();
    let restored = other.json(&["home", "restore", copy]);
    assert!(restored["done"] == true && restored["message"].is_string(), "{restored}");
    let again = other.run(&["home", "restore", copy, "--json"]);
    assert_eq!((again.code, again.json()["error"]["what"].as_str()), (1, Some("cannot restore the home")), "{again}");
    assert_eq!(ostler.json(&["down"])["stopped"], true);
    assert_eq!(ostler.json(&["journal", "--verify"])["sound"], true);
}

/// No time in `value` is anything but RFC 3339, and no number can be one.
fn assert_times_are_rfc_3339(value: &Value) {
    match value {
        Value::Array(values) => values.iter().for_each(assert_times_are_rfc_3339),
        Value::Object(fields) => {
            for (key, value) in fields {
                if ["at", "seen", "over", "from", "until", "since"].contains(&key.as_str()) && !value.is_null() {
                    let is_time = value.as_str().is_some_and(|text| Timestamp::parse(text).is_some());
                    assert!(is_time, "{key} is {value}");
                }
                assert_times_are_rfc_3339(value);
            }
        }
        Value::Number(number) => assert!(number.as_f64().unwrap() < 1e15, "{number} looks like a time"),
        Value::Null | Value::Bool(_) | Value::String(_) => {}
    }
}

/// As on a terminal, which a test has not.
fn on_a_terminal(ostler: &Ostler, arguments: &[&str]) -> Said {
    let mut command = ostler.command(arguments);
    command.env_remove("NO_COLOR").env("CLICOLOR_FORCE", "1");
    finish(command, Duration::from_secs(60))
}

#[test]
fn errors_of_the_estate_file_are_coloured_like_others_and_only_on_terminals() {
    let ostler = Ostler::up(&(head("colours") + &lonely("web", &format!("env = {{ {NOWHERE} }}"))));
    let red = "\u{1b}[1m\u{1b}[31merror";
    let missing = on_a_terminal(&ostler, &["why", "nothing"]);
    assert!(missing.err.starts_with(red), "{missing:?}", missing = missing.err);
    // One file is found wrong by the command itself, the other by the running ostler.
    for wrong in ["[estate]\nnaem = \"colours\"\n".to_owned(), head("colours") + "[service.x]\noffering = \"y\"\n"] {
        ostler.write("ostler.toml", &wrong);
        let plain = ostler.run(&["apply"]);
        assert_eq!(plain.code, 1, "{plain}");
        assert!(plain.err.starts_with("error: ") && !plain.err.contains('\u{1b}'), "{plain}");
        let coloured = on_a_terminal(&ostler, &["apply"]);
        assert!(coloured.err.starts_with(red), "{:?}", coloured.err);
        assert_eq!(anstream::adapter::strip_str(&coloured.err).to_string(), plain.err);
        let json = on_a_terminal(&ostler, &["apply", "--json"]);
        assert_eq!(json.json()["error"]["rendered"], plain.err);
    }
}
