//! The FOCUS dataset before the specification's own validator: `focus-validator` of PyPI, which needs Python 3.12.
//!
//! `scripts/setup.sh test` installs it where there is such a Python, and leaves a mark where there is none.
#![allow(clippy::disallowed_methods, clippy::print_stderr, reason = "this test writes a file and runs a program")]

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;

use ostler_books::focus;

use crate::exported::month;
use crate::statement;

/// It says that an invoice's id has to be empty whenever there is one, whatever else is in the row.
const FALSE_ALARM: &str = "InvoiceId-C-004-C";

/// The rules that a dataset breaks, and how many it keeps.
fn judged(validator: &Path, dataset: &str) -> (BTreeSet<String>, usize) {
    let folder = tempfile::tempdir().unwrap();
    let package = fs::read_dir(validator.join("lib")).unwrap().next().unwrap().unwrap().path();
    // It looks for its own rules below the folder that it runs in.
    symlink(package.join("site-packages/focus_validator"), folder.path().join("focus_validator")).unwrap();
    let data = folder.path().join("dataset.csv");
    fs::write(&data, dataset).unwrap();
    let output = Command::new(validator.join("bin/focus-validator"))
        .args(["--block-download", "--validate-version", "1.2", "--data-file"])
        .arg(&data)
        .current_dir(folder.path())
        .env("PYTHONIOENCODING", "utf-8")
        .env("PYTHONDONTWRITEBYTECODE", "1")
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    let rule = |line: &str, verdict: &str| {
        let (rule, _) = line.split_once(verdict)?;
        rule.split_whitespace().last().map(str::to_owned)
    };
    // Its exit code says nothing: it is 0 whatever it finds.
    let broken = text.lines().filter_map(|line| rule(line, ": FAIL ")).collect();
    let kept = text.lines().filter(|line| rule(line, ": PASS ").is_some()).count();
    assert!(kept > 100, "the validator did not come to its end:\n{text}");
    (broken, kept)
}

#[test]
fn a_month_passes_the_validator_of_the_specification() {
    let tools = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target/test-tools");
    let validator: PathBuf = tools.join("focus");
    if tools.join("focus-needs-python-3.12").exists() {
        eprintln!("not run: this machine has no Python 3.12, without which there is no FOCUS validator");
        return;
    }
    assert!(
        validator.join("bin/focus-validator").exists(),
        "the FOCUS validator is not in {}: run `scripts/setup.sh test`",
        validator.display()
    );
    let dataset = focus(&statement(&month(), "2026-11", "2026-11-20T12:00:00.25Z"));
    let (broken, _) = judged(&validator, &dataset);
    assert_eq!(broken, BTreeSet::from([FALSE_ALARM.to_owned()]));
    // And it sees what is wrong.
    let (broken, _) = judged(&validator, &dataset.replacen("BilledCost", "Billed", 1));
    assert!(broken.contains("BilledCost-C-001-M"), "{broken:?}");
}
