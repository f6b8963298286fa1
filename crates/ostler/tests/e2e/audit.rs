//! What was recorded can be proven to somebody who has nothing but a file, and what is changed in it is found.

use std::fs;
use std::path::Path;

use crate::harness::{NOWHERE, Ostler, head, kill, lonely, wait_until};

fn estate() -> String {
    head("lonely") + &lonely("web", &format!("env = {{ {NOWHERE} }}")) + "\n[audit]\nwitness = \"witness\"\n"
}

/// Waits until something is signed.
fn signed(ostler: &Ostler) {
    wait_until("something is signed", || ostler.home.join("checkpoints/key.txt").exists());
}

/// Changes a bit of the first fact in the database file, wherever the bytes lie: some are left over in unused room.
fn spoil(database: &Path) {
    let mut bytes = fs::read(database).unwrap();
    let what = b"\"fact\":\"estate-founded\"";
    let places: Vec<usize> = (0..bytes.len() - what.len()).filter(|at| bytes[*at..].starts_with(what)).collect();
    assert!(!places.is_empty());
    places.into_iter().for_each(|at| bytes[at + 9] ^= 1);
    fs::write(database, bytes).unwrap();
}

#[test]
fn what_was_recorded_is_proven_without_the_home_and_what_is_changed_is_located() {
    let ostler = Ostler::up(&estate());
    signed(&ostler);
    let kept = ostler.ok(&["audit", "checkpoint"]).out;
    assert!(kept.starts_with("ostler/lonely/") && kept.contains("\n— ostler/lonely/"), "{kept}");
    ostler.write("auditor.txt", &kept);
    let sound = ostler.json(&["audit", "verify", "--checkpoint", "auditor.txt"]);
    assert_eq!((sound["sound"].as_bool(), sound["lost"].as_array().map(Vec::len)), (Some(true), Some(0)), "{sound}");
    assert!(sound["witnessed"].as_u64() > Some(3), "{sound}");

    // Killed at any moment it goes on signing where it was.
    kill(ostler.own_process("manager"));
    ostler.until_settled();
    ostler.ok(&["scale", "web=2"]);
    wait_until("the tree is there again", || ostler.run(&["audit", "checkpoint"]).code == 0);
    ostler.write("newer.txt", &ostler.ok(&["audit", "checkpoint", "--since", "auditor.txt"]).out);
    let said = ostler.ok(&["audit", "verify", "newer.txt", "--checkpoint", "auditor.txt"]);
    assert!(said.out.contains("goes on from the older one"), "{said}");
    let proof = ostler.ok(&["audit", "prove", "1", "web", "--to", "proof.txt"]);
    assert!(proof.out.contains("proof.txt proves "), "{proof}");
    let said = ostler.run(&["audit", "prove", "1000000"]);
    assert!(said.code == 1 && said.err.contains("there is no fact 1000000"), "{said}");
    let page = ostler.ok(&["audit", "report"]).out;
    assert!(page.contains("a person asked for 2 of web") && page.contains("## Overrides"), "{page}");
    ostler.ok(&["down"]);

    // At rest: everything is signed, and everything can be looked at.
    let sound = ostler.json(&["audit", "verify", "--checkpoint", "auditor.txt"]);
    assert_eq!(sound["signed"], sound["facts"], "{sound}");
    assert_eq!(sound["signed"], sound["witnessed"], "{sound}");
    let at_rest = ostler.ok(&["audit", "prove", "2"]).out;
    ostler.write("at-rest.txt", &at_rest);
    ostler.ok(&["audit", "verify", "at-rest.txt"]);
    fs::copy(ostler.home.join("checkpoints/key.txt"), ostler.folder().join("key.txt")).unwrap();

    let database = ostler.home.join("journal.db");
    let whole = fs::read(&database).unwrap();
    spoil(&database);
    let said = ostler.run(&["audit", "verify"]);
    assert!(said.code == 1 && said.err.contains("the facts from 1 on are damaged"), "{said}");
    let said = ostler.run(&["audit", "verify", "--json"]);
    assert_eq!(
        (said.code, said.json()["first_bad"].as_u64(), said.json()["sound"].as_bool()),
        (1, Some(1), Some(false))
    );
    fs::write(&database, whole).unwrap();
    ostler.ok(&["audit", "verify"]);

    // With the home gone, the file and the key are enough.
    fs::rename(&ostler.home, ostler.folder().join("gone")).unwrap();
    let said = ostler.run(&["audit", "verify", "proof.txt"]);
    assert!(said.code == 1 && said.err.contains("--key"), "{said}");
    let said = ostler.ok(&["audit", "verify", "proof.txt", "--key", "key.txt"]);
    assert!(said.out.contains("the estate was founded") && said.out.contains("a person asked for 2 of web"), "{said}");
    let text = fs::read_to_string(ostler.folder().join("proof.txt")).unwrap();
    ostler.write("altered.txt", &text.replacen("index 0", "index 1", 1));
    let said = ostler.run(&["audit", "verify", "altered.txt", "--key", "key.txt"]);
    assert!(said.code == 1 && said.err.contains("fact 1 in it is not the one that was recorded"), "{said}");
    let said = ostler.run(&["audit", "verify", "proof.txt", "--key", &"0".repeat(64)]);
    assert!(said.code == 1 && said.err.contains("it was not signed with the key"), "{said}");
}

#[test]
fn an_older_home_is_told_from_what_was_witnessed_and_nothing_is_signed_until_that_is_accepted() {
    let ostler = Ostler::up(&estate());
    signed(&ostler);
    ostler.ok(&["home", "backup", "copy", "--with-key"]);
    ostler.ok(&["scale", "web=2"]);
    let kept = ostler.ok(&["audit", "checkpoint"]).out;
    ostler.write("auditor.txt", &kept);
    ostler.ok(&["down"]);
    fs::rename(&ostler.home, ostler.folder().join("gone")).unwrap();
    ostler.ok(&["home", "restore", "copy"]);
    let said = ostler.run(&["audit", "verify"]);
    assert!(said.code == 1 && said.err.contains("are missing"), "{said}");

    ostler.ok(&["up", "--detach", "ostler.toml"]);
    let is_told = |status: &serde_json::Value| {
        status["troubles"]
            .as_array()
            .is_some_and(|all| all.iter().any(|t| t.as_str().unwrap().contains("is not signed")))
    };
    ostler.until("it is told that nothing is signed", is_told);
    let said = ostler.run(&["audit", "checkpoint"]);
    assert_eq!(said.code, 1, "{said}");
    ostler.ok(&["down"]);

    ostler.ok(&["up", "--detach", "--accept-lost-tail", "ostler.toml"]);
    wait_until("it is signed again", || ostler.run(&["audit", "checkpoint"]).code == 0);
    assert!(!is_told(&ostler.status()), "{}", ostler.status());
    let accepted = ostler.json(&["journal", "--kind", "loss-accepted"]);
    assert_eq!(accepted.as_array().unwrap().len(), 1, "{accepted}");
    let said = ostler.run(&["audit", "verify"]);
    assert!(said.code == 2 && said.out.contains("a person accepted that"), "{said}");
    let said = ostler.run(&["audit", "verify", "--checkpoint", "auditor.txt", "--json"]);
    assert!(said.code == 2 && said.json()["lost"].as_array().unwrap().len() > 1, "{said}");
}
