//! Another build of ostler, before it may replace this one: its copy in the home, and its dry run.
//!
//! In the dry run the new build reads a copy of the journal and says what it concludes from it, which must be what this
//! build concludes from the same copy, and which forms and protocols it speaks.
//!
//! Invariant: until all of this has gone well nothing has changed but files in `builds/`; the journal itself is never
//! given to a build that was not proven. Whatever the other program does is bounded: time, memory, what it prints.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use ostler_journal::home::{HomeError, KeyInBackup, backup};
use ostler_journal::{OpenOptions, Sqlite, oldest_first};
use ostler_keeper::builds::{self, Build, FileId};
use ostler_manager::{FactKind, Knowledge, status};
use ostler_model::ids::Position;
use ostler_model::time::Timestamp;
use rustix::process::{Pid, Resource, Rlimit, Signal};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use zeroize::Zeroizing;

use crate::clock;
use crate::daemon::with_causes;
use crate::envelope;
use crate::turn::{SNAPSHOT_VERSION, recall};

/// No build is larger.
const BUILD_BYTES_MAX: u64 = 2 << 30;
/// What a dry run may print.
const SAID_BYTES_MAX: u64 = 256 << 10;
/// What it may write of its conclusions.
const CONCLUSIONS_BYTES_MAX: u64 = 256 << 20;
/// Address space of a dry run: far more than the largest estate takes.
const MEMORY_MAX: u64 = 16 << 30;
/// A dry run may take so long, and so much longer for each GiB of the journal.
const RUNS_WITHIN: Duration = Duration::from_secs(60);
const RUNS_WITHIN_A_GIB: Duration = Duration::from_secs(300);
/// So many builds are kept: the one that runs, and the ones before it.
const KEPT_MAX: usize = 3;
/// The file of a dry run's conclusions.
const CONCLUSIONS: &str = "conclusions";

/// What a build says of itself in a dry run. New fields may be added; what is missing was not said.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Proof {
    /// Tells an ostler from any other program.
    pub ostler: String,
    /// The version of facts that it writes and reads up to.
    pub envelope: u32,
    /// The kinds of facts that it knows.
    pub kinds: BTreeSet<String>,
    /// The version of its snapshots.
    pub snapshot: u32,
    /// The layout of its journal.
    pub layout: u32,
    /// The keeper's protocol.
    pub keeper: u32,
    /// What a keeper hands over to its next image.
    pub handover: u32,
    /// What manager and gateway say to each other.
    pub gateway: u32,
    /// The form of its conclusions.
    pub conclusions: u32,
    /// How many facts it has read; how many of them it knows nothing of.
    pub facts: u64,
    /// See above.
    pub skipped: u64,
    /// Its manager confirms again and again that it answers, while it is on probation.
    #[serde(default)]
    pub answers: bool,
    /// Why it could not read the journal, if it could not.
    pub trouble: Option<String>,
}

/// The form of [`conclusions`]. It never changes: another form gets another number, beside this one.
const CONCLUSIONS_FORM: u32 = 1;

/// Why a build is not brought in.
#[derive(Debug, thiserror::Error)]
pub enum BuildError {
    /// Its file cannot be copied.
    #[error("cannot copy {path}")]
    Copy {
        /// From where.
        path: PathBuf,
        /// Why.
        #[source]
        cause: io::Error,
    },
    /// It is what runs already.
    #[error("it is the very build that runs: {0}")]
    Same(String),
    /// The journal cannot be copied.
    #[error("cannot copy the journal for a dry run")]
    Journal(#[source] HomeError),
    /// It cannot be started, or does not end, or says what no ostler says.
    #[error("it is no ostler, or one that does not know how to be brought in: {0}")]
    Foreign(String),
    /// It failed in the dry run.
    #[error("it failed in a dry run on a copy of the journal: {0}")]
    Failed(String),
    /// It concludes something else.
    #[error("it concludes something else from the same facts: {0}")]
    Differs(String),
    /// It and what runs cannot take over from each other.
    #[error("{what}: {theirs} there, {ours} here")]
    Incompatible {
        /// What is different.
        what: &'static str,
        /// Its version of that.
        theirs: u32,
        /// Ours.
        ours: u32,
    },
}

impl BuildError {
    /// What to do about it.
    pub fn remedy(&self) -> String {
        match self {
            Self::Copy { path, .. } => {
                format!("check that {} is there, can be read, and that the home has room for it", path.display())
            }
            Self::Same(_) => "name the file of another build".to_owned(),
            Self::Journal(error) => error.remedy(),
            Self::Foreign(_) => "name the file of an ostler for this machine".to_owned(),
            Self::Failed(_) | Self::Differs(_) => {
                "nothing was changed: ostler goes on as it is. Report this with the version of the build".to_owned()
            }
            Self::Incompatible { .. } => {
                "this step cannot be made while it runs: `ostler home backup` a copy, `ostler down`, then `ostler up` \
                 with the new build"
                    .to_owned()
            }
        }
    }
}

/// What a build says of itself, without a journal.
pub fn introduction() -> Proof {
    Proof {
        ostler: env!("CARGO_PKG_VERSION").to_owned(),
        envelope: envelope::VERSION,
        kinds: FactKind::WORDS.iter().map(|word| (*word).to_owned()).collect(),
        snapshot: SNAPSHOT_VERSION,
        layout: ostler_journal::LAYOUT,
        keeper: ostler_keeper::protocol::VERSION,
        handover: ostler_keeper::HANDOVER_VERSION,
        gateway: ostler_gateway::messages::VERSION,
        conclusions: CONCLUSIONS_FORM,
        facts: 0,
        skipped: 0,
        answers: true,
        trouble: None,
    }
}

/// The dry run itself: reads the copy of a home, and leaves what follows from it beside it.
pub fn dry_run(copy: &Path, at: Timestamp, key: Option<Zeroizing<String>>) -> Proof {
    let mut proof = introduction();
    if let Err(trouble) = read_copy(copy, at, key, &mut proof) {
        proof.trouble = Some(trouble.chars().take(4000).collect());
    }
    proof
}

fn read_copy(copy: &Path, at: Timestamp, key: Option<Zeroizing<String>>, proof: &mut Proof) -> Result<(), String> {
    let options = OpenOptions { key, accept_lost_tail: false };
    let journal = Sqlite::open(copy, &options).map_err(|error| with_causes(&error))?.journal;
    for record in oldest_first(&journal, Position(0)) {
        let record = record.map_err(|error| with_causes(&error))?;
        proof.facts += 1;
        if envelope::read(&record).map_err(|error| with_causes(&error))?.is_none() {
            proof.skipped += 1;
        }
    }
    let (known, _) = recall(&journal).map_err(|error| with_causes(&error))?;
    let text = conclusions(&known.knowledge, at);
    let path = copy.join(CONCLUSIONS);
    let file = File::options().write(true).create(true).truncate(true).mode(0o600).open(path);
    file.and_then(|mut file| file.write_all(text.as_bytes())).map_err(|error| error.to_string())
}

/// What is known, as lines that stay the same from build to build.
fn conclusions(known: &Knowledge, at: Timestamp) -> String {
    let view = status(known, at);
    let mut text = String::new();
    let mut line = |words: std::fmt::Arguments<'_>| {
        let _ = writeln!(text, "{words}"); // a string takes everything
    };
    let or_none = |value: Option<String>| value.unwrap_or_else(|| "none".to_owned());
    line(format_args!("estate {} {}", or_none(view.estate.map(|name| name.to_string())), view.down));
    line(format_args!("id {}", or_none(view.id.map(|id| id.to_string()))));
    for service in &view.services {
        let name = &service.name;
        let endpoint = or_none(service.endpoint.map(|endpoint| endpoint.to_string()));
        let plan = or_none(service.plan.as_ref().map(ToString::to_string));
        let provider = or_none(service.provider.as_ref().map(ToString::to_string));
        line(format_args!("service {name} {} of {plan} at {provider}", service.offering));
        line(format_args!("service {name} at {endpoint}, {} instances", service.instances_wanted));
        for instance in &service.instances {
            let address = or_none(instance.address.map(|address| address.to_string()));
            line(format_args!("instance {} {} at {address}", instance.id, instance.state));
        }
        for backup in &service.backups {
            line(format_args!("backup {name} {} of {} bytes", backup.name, backup.bytes));
        }
        for leftover in &service.leftovers {
            line(format_args!("leftover {} at {}", leftover.id, leftover.provider));
        }
    }
    text
}

/// Copies a build into the home, and gives its digest. A build that is there already is not written again.
///
/// # Errors
/// If it cannot be read, or the home cannot be written to.
pub fn install(home: &Path, from: &Path) -> Result<String, BuildError> {
    let fail = |cause| BuildError::Copy { path: from.to_owned(), cause };
    builds::make_folder(home).map_err(fail)?;
    let mut source = File::open(from).map_err(fail)?;
    let found = source.metadata().map_err(fail)?;
    if !found.is_file() || found.len() > BUILD_BYTES_MAX {
        return Err(fail(io::Error::other("it is no file, or larger than 2 GiB")));
    }
    let new = builds::folder(home).join(format!("new-{}", std::process::id()));
    let copied = copy(&mut source, &new).and_then(|sha256| {
        let path = builds::path(home, &sha256);
        if path.is_file() {
            fs::remove_file(&new)?;
        } else {
            fs::rename(&new, path)?;
        }
        File::open(builds::folder(home))?.sync_all()?;
        Ok(sha256)
    });
    copied.map_err(|cause| {
        drop(fs::remove_file(&new)); // there may be none
        fail(cause)
    })
}

fn copy(source: &mut File, to: &Path) -> io::Result<String> {
    drop(fs::remove_file(to)); // of a run that was killed
    let mut target = File::options().write(true).create_new(true).mode(0o700).open(to)?;
    let (mut hash, mut buffer, mut bytes) = (Sha256::new(), vec![0; 1 << 20], 0);
    loop {
        let read = source.read(&mut buffer)?;
        if read == 0 {
            target.sync_all()?;
            return Ok(crate::proof::to_hex(&hash.finalize()));
        }
        bytes += read as u64;
        if bytes > BUILD_BYTES_MAX {
            return Err(io::Error::other("it is larger than 2 GiB"));
        }
        hash.update(&buffer[..read]);
        target.write_all(&buffer[..read])?;
    }
}

/// The digest of a file.
///
/// # Errors
/// If it cannot be read.
pub fn digest(path: &Path) -> io::Result<String> {
    let (mut file, mut hash, mut buffer) = (File::open(path)?, Sha256::new(), vec![0; 1 << 20]);
    loop {
        match file.read(&mut buffer)? {
            0 => return Ok(crate::proof::to_hex(&hash.finalize())),
            read => hash.update(&buffer[..read]),
        }
    }
}

/// Takes a build into the home and has it prove itself. Gives the build that runs and the one that was proven.
///
/// # Errors
/// See [`BuildError`]. Nothing has changed then.
pub fn prove(home: &Path, path: &Path, say: &dyn Fn(&str)) -> Result<(Build, Build), BuildError> {
    tidy(home);
    say("copying the build into the home");
    let to = install(home, path)?;
    let running = Path::new("/proc/self/exe");
    let from = install(home, running)?;
    if from == to {
        return Err(BuildError::Same(builds::in_words(env!("CARGO_PKG_VERSION"), &to)));
    }
    say("copying the journal for a dry run");
    let scratch = Scratch::make(home, path)?;
    let bytes = fs::metadata(home.join(ostler_journal::JOURNAL_FILE)).map_or(0, |found| found.len());
    let within = RUNS_WITHIN + RUNS_WITHIN_A_GIB.mul_f64(bytes as f64 / f64::from(1 << 30));
    let key = match std::env::var_os("OSTLER_KEY") {
        Some(_) => KeyInBackup::LeftOut,
        None => KeyInBackup::Included,
    };
    backup(home, &scratch.copy, clock::now(), key).map_err(BuildError::Journal)?;
    let at = clock::now();
    say("both builds read the copy");
    let (ours, known) = scratch.run(running, at, within)?;
    let (theirs, concluded) = scratch.run(&builds::path(home, &to), at, within)?;
    compare(&ours, &theirs)?;
    if theirs.facts != ours.facts {
        return Err(BuildError::Differs(format!("it has read {} facts of {}", theirs.facts, ours.facts)));
    }
    if known != concluded {
        return Err(BuildError::Differs(first_difference(&known, &concluded)));
    }
    say(&format!("the new build knows the same from all {} facts", theirs.facts));
    let build = |proof: Proof, sha256: String, runs_from: Option<FileId>| Build {
        version: proof.ostler,
        sha256,
        envelope: proof.envelope,
        kinds: proof.kinds,
        answers: proof.answers,
        runs_from,
    };
    let from = build(ours, from, FileId::of(running).ok());
    Ok((from, build(theirs, to, None)))
}

fn compare(ours: &Proof, theirs: &Proof) -> Result<(), BuildError> {
    if let Some(trouble) = &theirs.trouble {
        return Err(BuildError::Failed(trouble.clone()));
    }
    if theirs.envelope < ours.envelope {
        let what = "it writes facts of an older version than the journal holds";
        return Err(BuildError::Incompatible { what, theirs: theirs.envelope, ours: ours.envelope });
    }
    for (what, theirs, ours) in [
        ("the layout of the journal differs, and could not be taken back", theirs.layout, ours.layout),
        ("manager and keeper could not talk to each other", theirs.keeper, ours.keeper),
        ("the keeper could not take over from this one", theirs.handover, ours.handover),
        ("manager and gateway could not talk to each other", theirs.gateway, ours.gateway),
        ("what it concludes cannot be compared", theirs.conclusions, ours.conclusions),
    ] {
        if theirs != ours {
            return Err(BuildError::Incompatible { what, theirs, ours });
        }
    }
    Ok(())
}

fn first_difference(ours: &str, theirs: &str) -> String {
    let (mut ours, mut theirs) = (ours.lines(), theirs.lines());
    loop {
        match (ours.next(), theirs.next()) {
            (None, None) => return "only in how lines end".to_owned(),
            (ours, theirs) if ours == theirs => {}
            (ours, theirs) => {
                let shown =
                    |line: Option<&str>| line.map_or("nothing".to_owned(), |line| line.chars().take(200).collect());
                return format!("`{}` here, `{}` there", shown(ours), shown(theirs));
            }
        }
    }
}

/// A copy of the home's journal, gone when this is.
struct Scratch {
    copy: PathBuf,
}

impl Scratch {
    fn make(home: &Path, build: &Path) -> Result<Self, BuildError> {
        let copy = builds::folder(home).join("dry-run");
        for left in [copy.clone(), copy.with_extension("unfinished")] {
            match fs::remove_dir_all(&left) {
                Err(cause) if cause.kind() != io::ErrorKind::NotFound => {
                    return Err(BuildError::Copy { path: build.to_owned(), cause });
                }
                Ok(()) | Err(_) => {}
            }
        }
        Ok(Self { copy })
    }

    /// Has a program make the dry run. Gives what it says of itself, and its conclusions.
    fn run(&self, program: &Path, at: Timestamp, within: Duration) -> Result<(Proof, String), BuildError> {
        let foreign = |text: String| BuildError::Foreign(text);
        let conclusions = self.copy.join(CONCLUSIONS);
        drop(fs::remove_file(&conclusions)); // of the other build
        let mut command = Command::new(program);
        command.arg0("ostler").args(["process", "dry-run", "--home"]).arg(&self.copy);
        command.args(["--at", &at.0.to_string()]);
        command.env_clear().current_dir("/").process_group(0);
        if let Some(key) = std::env::var_os("OSTLER_KEY") {
            command.env("OSTLER_KEY", key);
        }
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut child = command.spawn().map_err(|error| foreign(error.to_string()))?;
        let group = i32::try_from(child.id()).ok().and_then(Pid::from_raw);
        let limit = Rlimit { current: Some(MEMORY_MAX), maximum: Some(MEMORY_MAX) };
        // An error: it has ended already.
        let _ = rustix::process::prlimit(group, Resource::As, limit);
        let out = child.stdout.take().expect("it was piped");
        let said = std::thread::spawn(move || {
            let mut said = Vec::new();
            let _ = out.take(SAID_BYTES_MAX).read_to_end(&mut said); // what came until then counts
            said
        });
        let deadline = Instant::now() + within;
        let status = loop {
            match child.try_wait() {
                Ok(Some(status)) => break Ok(status),
                Ok(None) if Instant::now() < deadline => std::thread::sleep(Duration::from_millis(5)),
                Ok(None) => break Err(format!("it did not end within {} s", within.as_secs())),
                Err(error) => break Err(error.to_string()),
            }
        };
        if let Some(group) = group {
            let _ = rustix::process::kill_process_group(group, Signal::KILL); // whatever it has left behind
        }
        drop(child.wait());
        let said = said.join().unwrap_or_default();
        let status = status.map_err(foreign)?;
        let proof: Proof = serde_json::from_slice(&said).map_err(|error| {
            foreign(format!("it ended with {status}, and what it said is no proof ({:?})", error.classify()))
        })?;
        if proof.trouble.is_some() {
            return Ok((proof, String::new()));
        }
        let mut text = String::new();
        let read = File::open(conclusions).and_then(|file| file.take(CONCLUSIONS_BYTES_MAX).read_to_string(&mut text));
        read.map_err(|error| BuildError::Failed(format!("it left no conclusions: {error}")))?;
        Ok((proof, text))
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // What cannot be removed is removed before the next dry run.
        let _ = fs::remove_dir_all(&self.copy);
    }
}

/// Deletes builds that nothing goes back to any more.
fn tidy(home: &Path) {
    let Ok(state) = builds::State::read(home) else { return };
    let used: Vec<PathBuf> = (state.upgrade.iter().flat_map(|upgrade| [&upgrade.from.sha256, &upgrade.to.sha256]))
        .chain(state.former.iter().map(|kept| &kept.sha256))
        .map(|sha256| builds::path(home, sha256))
        .collect();
    let runs: Vec<FileId> = FileId::of(Path::new("/proc/self/exe")).into_iter().collect();
    let is_build = |path: &PathBuf| {
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        name.len() == 64 && name.bytes().all(|byte| byte.is_ascii_hexdigit())
    };
    let entries = fs::read_dir(builds::folder(home)).into_iter().flatten().flatten();
    let mut unused: Vec<(std::time::SystemTime, PathBuf)> = entries
        .map(|entry| entry.path())
        .filter(|path| is_build(path) && !used.contains(path))
        .filter(|path| FileId::of(path).is_ok_and(|file| !runs.contains(&file)))
        .filter_map(|path| Some((fs::metadata(&path).ok()?.modified().ok()?, path)))
        .collect();
    unused.sort();
    let spare = KEPT_MAX.saturating_sub(used.len());
    let too_many = unused.len().saturating_sub(spare);
    for (_, path) in unused.into_iter().take(too_many) {
        let _ = fs::remove_file(path); // tried again after the next upgrade
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn what_cannot_take_over_is_told() {
        let ours = introduction();
        compare(&ours, &ours).unwrap();
        let said = |change: &dyn Fn(&mut Proof)| {
            let mut theirs = ours.clone();
            change(&mut theirs);
            compare(&ours, &theirs).unwrap_err().to_string()
        };
        assert!(said(&|proof| proof.keeper += 1).starts_with("manager and keeper could not talk"));
        assert!(said(&|proof| proof.handover += 1).starts_with("the keeper could not take over"));
        assert!(said(&|proof| proof.gateway += 1).starts_with("manager and gateway could not talk"));
        assert!(said(&|proof| proof.layout += 1).starts_with("the layout of the journal differs"));
        assert!(said(&|proof| proof.envelope = 0).starts_with("it writes facts of an older version"));
        assert!(said(&|proof| proof.trouble = Some("x".into())).ends_with("a copy of the journal: x"));
        let mut later = ours.clone();
        later.envelope += 1;
        later.kinds.insert("of-later".into());
        compare(&ours, &later).unwrap();
    }

    #[test]
    fn the_first_difference_is_told() {
        assert_eq!(first_difference("a\nb\n", "a\nc\n"), "`b` here, `c` there");
        assert_eq!(first_difference("a\n", "a\nc\n"), "`nothing` here, `c` there");
    }

    #[test]
    fn a_build_is_copied_once_for_this_user_alone() {
        let home = tempfile::tempdir().unwrap();
        let file = home.path().join("program");
        fs::write(&file, "one").unwrap();
        let sha256 = install(home.path(), &file).unwrap();
        assert_eq!(sha256, digest(&file).unwrap());
        let kept = builds::path(home.path(), &sha256);
        fs::write(&file, "two").unwrap();
        assert_eq!(fs::read(&kept).unwrap(), b"one");
        assert_eq!(fs::metadata(&kept).unwrap().permissions().mode() & 0o777, 0o700);
        assert_eq!(fs::metadata(builds::folder(home.path())).unwrap().permissions().mode() & 0o777, 0o700);
        assert!(install(home.path(), Path::new("/nowhere/at/all")).is_err());
        assert!(install(home.path(), home.path()).is_err(), "a folder is no build");
        assert_eq!(fs::read_dir(builds::folder(home.path())).unwrap().count(), 1, "nothing half is left");
    }

    #[test]
    fn whatever_a_program_does_is_refused_in_time() {
        let folder = tempfile::tempdir().unwrap();
        let scratch = Scratch { copy: folder.path().join("dry-run") };
        for script in ["exit 0", "exit 3", "echo '{}'", "yes", "sleep 1000 & sleep 1000", "kill -9 $$"] {
            let program = folder.path().join("program");
            fs::write(&program, format!("#!/bin/sh\n{script}\n")).unwrap();
            fs::set_permissions(&program, fs::Permissions::from_mode(0o700)).unwrap();
            let refused = scratch.run(&program, Timestamp(1), Duration::from_secs(1)).unwrap_err();
            assert!(matches!(refused, BuildError::Foreign(_)), "{script}: {refused}");
        }
        fs::write(folder.path().join("text"), "no program").unwrap();
        assert!(scratch.run(&folder.path().join("text"), Timestamp(1), Duration::from_secs(1)).is_err());
    }
}
