//! What the command line says: help, tables, reports and errors as snapshots, and JSON everywhere.

use insta::assert_snapshot;
use serde_json::Value;

use crate::harness::{NOWHERE, Ostler, head, kill, lonely};

const COMMANDS: [&str; 13] = [
    "up", "preview", "apply", "status", "why", "journal", "logs", "restart", "scale", "backup", "restore", "down",
    "home",
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
    }
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
    assert_eq!(ostler.json(&["down"])["stopped"], true);
    assert_eq!(ostler.json(&["journal", "--verify"])["sound"], true);
}
