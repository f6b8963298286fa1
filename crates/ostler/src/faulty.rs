//! Builds that do not work, for tests: a copy of this program with a word behind it. Not in what is released.
//!
//! Invariant: a program without such a word behind it does nothing here.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom, Write};
use std::time::Duration;

use ostler_keeper::builds::{Stage, State};
use ostler_runtime::builds::Proof;
use ostler_runtime::home::Home;
use rustix::process::{Signal, getpid, kill_process};

/// What comes before the word, at the end of the file.
const MARK: &[u8] = b"\nOSTLER-FAULT:";

/// The word behind this program.
pub(crate) fn word() -> Option<String> {
    let mut file = File::open("/proc/self/exe").ok()?;
    file.seek(SeekFrom::End(-64)).ok()?;
    let mut end = Vec::new();
    file.read_to_end(&mut end).ok()?;
    let at = end.windows(MARK.len()).position(|part| part == MARK)? + MARK.len();
    Some(String::from_utf8_lossy(&end[at..]).trim().to_owned())
}

/// Does what a faulty build does when it is started as this process.
pub(crate) fn be_faulty(process: &str, home: &Home) {
    let Some(word) = word() else { return };
    let Some(what) = word.strip_prefix(process).and_then(|what| what.strip_prefix('-')) else { return };
    match what {
        "ends" => std::process::exit(3),
        "hangs" => loop {
            std::thread::sleep(Duration::from_secs(3600));
        },
        "ends-later" => on_probation(home, || std::process::abort()),
        "hangs-later" => on_probation(home, || {
            let _ = kill_process(getpid(), Signal::STOP);
        }),
        _ => {}
    }
}

/// Does this once the build is on probation.
fn on_probation(home: &Home, what: impl FnOnce() + Send + 'static) {
    let home = home.folder().to_owned();
    std::thread::spawn(move || {
        loop {
            let stage = State::read(&home).ok().and_then(|state| state.upgrade).map(|upgrade| upgrade.stage);
            if matches!(stage, Some(Stage::Probation { .. })) {
                return what();
            }
            std::thread::sleep(Duration::from_millis(5));
        }
    });
}

/// What a faulty build says of itself in a dry run.
pub(crate) fn proof(mut proof: Proof, copy: &Home) -> Proof {
    match word().as_deref() {
        Some("dry-run-differs") => {
            let file = File::options().append(true).open(copy.folder().join("conclusions"));
            let _ = file.and_then(|mut file| file.write_all(b"one more\n")); // then the test fails
        }
        Some("dry-run-other-protocol") => proof.keeper += 1,
        _ => {}
    }
    proof
}
