//! Ostler's own processes: how each is started, and its main function.

use std::fs::OpenOptions;
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use ostler_gateway::GatewayError;
use ostler_keeper::builds::{self as builds_in_home, State};
use ostler_keeper::faults::{self, Meant, Rhythm, Standstill};
use ostler_keeper::full::{self, Filling};
use ostler_keeper::{CommandLine, Config as KeeperConfig, Resume};
use ostler_model::time::Timestamp;
use ostler_runtime::builds;
use ostler_runtime::control::Refused;
use ostler_runtime::daemon;
use ostler_runtime::drilling::{Fill, HELD, HoldStill, Programs};
use ostler_runtime::home::{Home, Lock};

use crate::args;
use crate::failure::{Failure, Outcome};

/// What `--version` says, and what the processes tell each other.
pub(crate) const BUILD: &str = concat!("ostler ", env!("CARGO_PKG_VERSION"));
/// When a log of ostler's own processes is rotated.
const LOG_BYTES_MAX: u64 = 10 * 1024 * 1024;
/// A new build of which so many keepers had to be started within so long does not hold.
const KEEPERS_MAX: usize = 3;
const KEEPERS_WITHIN: Duration = Duration::from_secs(60);

/// Starts a keeper for the home, detached from this process and its terminal.
pub(crate) fn start_keeper(home: &Home, accept_lost_tail: bool, program: &Path) -> io::Result<()> {
    let log = OpenOptions::new().create(true).append(true).mode(0o600).open(home.process_log("keeper"))?;
    let mut command = Command::new(program);
    command.arg0("ostler").args(["process", "keeper", "--home"]).arg(home.folder());
    command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log).current_dir("/");
    if accept_lost_tail {
        command.env(ACCEPT_LOST_TAIL, "1");
    }
    let mut child = command.spawn()?;
    // Somebody has to take note of its end, or it stays a zombie for as long as this process lives.
    std::thread::Builder::new().stack_size(64 * 1024).spawn(move || child.wait())?;
    Ok(())
}

/// Tells the keeper's manager what a person said on the command line. Taken back once the manager is up.
const ACCEPT_LOST_TAIL: &str = "OSTLER_ACCEPT_LOST_TAIL";

/// This very program, also when its file has been deleted or replaced by another one since it was started.
pub(crate) const THIS_PROGRAM: &str = "/proc/self/exe";

/// What `--version` says: the version, and which build of it.
pub(crate) fn version() -> String {
    match builds::digest(Path::new(THIS_PROGRAM)) {
        Ok(sha256) => format!("{BUILD} ({sha256})"),
        Err(_) => BUILD.to_owned(),
    }
}

/// Starts keepers for a manager, of the build that is to be one.
fn keeper_starter(home: &Home) -> impl Fn() -> io::Result<()> + Send + Sync + use<> {
    let (home, started) = (home.clone(), Mutex::new(Vec::<Instant>::new()));
    move || {
        let now = Instant::now();
        let often = {
            let mut started = started.lock().unwrap_or_else(PoisonError::into_inner);
            started.retain(|start| now.duration_since(*start) < KEEPERS_WITHIN);
            started.push(now);
            started.len() > KEEPERS_MAX
        };
        let upgrade = State::read(home.folder()).ok().and_then(|state| state.upgrade);
        let program = upgrade.map(|upgrade| {
            // One that cannot even say that it was started is seen here alone.
            let build = if often { &upgrade.from } else { upgrade.keeper() };
            builds_in_home::path(home.folder(), &build.sha256)
        });
        start_keeper(&home, false, program.as_deref().unwrap_or(Path::new(THIS_PROGRAM)))
    }
}

/// The keeper process.
pub(crate) fn keeper(home: &Home, resume: Option<i32>, refused: Option<String>) -> Outcome {
    // It is nobody's job on no terminal. It leads a session already if whoever started it saw to that.
    let _ = rustix::process::setsid();
    let what = "cannot run the keeper";
    let arguments = |name: &str| {
        let mut arguments = vec!["ostler".to_owned(), "process".to_owned(), name.to_owned(), "--home".to_owned()];
        arguments.push(home.folder().display().to_string());
        arguments
    };
    let process = |name: &str| CommandLine {
        program: THIS_PROGRAM.into(),
        arguments: arguments(name),
        environment: std::collections::BTreeMap::new(),
        log: home.process_log(name),
        log_bytes_max: LOG_BYTES_MAX,
    };
    let config = KeeperConfig {
        home: home.folder().to_owned(),
        manager: Some(process("manager")),
        gateway: Some(process("gateway")),
        build: BUILD.to_owned(),
        handover: arguments("keeper"),
        resume: resume.map(|memory| Resume { memory, refused, unfit: unfit() }),
    };
    ostler_keeper::run(config).map_err(|error| Failure::of(what, &error, error.remedy()))
}

/// Why this build is not to be a keeper.
fn unfit() -> Option<String> {
    #[cfg(debug_assertions)]
    if crate::faulty::word().as_deref() == Some("unfit") {
        return Some("it says so itself".to_owned());
    }
    None
}

/// The gateway process.
pub(crate) fn gateway(home: &Home) -> Outcome {
    let what = "cannot run the gateway";
    // Beside another one it takes the lock when that one lets go of it.
    let beside = std::env::var_os(ostler_keeper::BESIDE).is_some();
    let lock = match home.lock_gateway() {
        Ok(lock) => Some(lock),
        Err(_) if beside => None,
        Err(error) => return Err(Failure::of(what, &error, error.remedy())),
    };
    let (lock, left) = (Arc::new(Mutex::new(lock)), Arc::new(AtomicBool::new(false)));
    let tasks = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::of(what, &error, "raise the limit of open files"))?;
    let replaced = {
        let (lock, left) = (Arc::clone(&lock), Arc::clone(&left));
        Box::new(move || {
            left.store(true, Ordering::SeqCst);
            drop(lock.lock().unwrap_or_else(PoisonError::into_inner).take());
        })
    };
    let config = ostler_gateway::Config { keeper_socket: home.keeper_socket(), replaced };
    tasks.spawn(lock_later(home.clone(), lock, left));
    tasks.block_on(ostler_gateway::run(config)).map_err(|error: GatewayError| Failure::of(what, &error, error.remedy()))
}

/// Takes the gateway's role once the gateway that had it has left it.
async fn lock_later(home: Home, lock: Arc<Mutex<Option<Lock>>>, left: Arc<AtomicBool>) {
    let has = || lock.lock().unwrap_or_else(PoisonError::into_inner).is_some();
    while !has() && !left.load(Ordering::SeqCst) {
        if let Ok(taken) = home.lock_gateway() {
            *lock.lock().unwrap_or_else(PoisonError::into_inner) = Some(taken);
        } else {
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    }
}

/// Reads a copy of a home for another build, and says what follows from it.
pub(crate) fn dry_run(copy: &Home, at: i64) -> Outcome {
    let key = std::env::var("OSTLER_KEY").ok().map(zeroize::Zeroizing::new);
    let proof = builds::dry_run(copy.folder(), Timestamp(at), key);
    #[cfg(debug_assertions)]
    let proof = crate::faulty::proof(proof, copy);
    let text = serde_json::to_string(&proof).expect("a proof has only string keys");
    writeln!(io::stdout(), "{text}").map_err(|error| Failure::of("cannot say what was concluded", &error, "try again"))
}

/// The manager process.
pub(crate) fn manager(home: &Home, accept_lost_tail: bool) -> Outcome {
    let config = daemon::Config {
        home: home.clone(),
        start_keeper: Box::new(keeper_starter(home)),
        drills: Programs { hold_still: hold_still_program(home), fill: fill_program(home) },
        build: BUILD.to_owned(),
        key: std::env::var("OSTLER_KEY").ok().map(zeroize::Zeroizing::new),
        accept_lost_tail: accept_lost_tail || std::env::var_os(ACCEPT_LOST_TAIL).is_some(),
        front: Box::new(|handle, selling, exchange| Box::pin(ostler_api::broker::run(handle, selling, exchange))),
    };
    let ended = daemon::run(config, || drop(std::fs::remove_file(home.trouble())));
    ended.map_err(|error| {
        let refused = Refused::from_error("cannot run the manager", &error, error.remedy());
        record_trouble(home, &refused);
        refused.into()
    })
}

/// The process that makes others stand still. It needs nothing of the manager's, and outlives it.
fn hold_still_program(home: &Home) -> HoldStill {
    let folder = home.folder().to_owned();
    Arc::new(move |what: &Standstill| {
        let mut command = Command::new(THIS_PROGRAM);
        command.arg0("ostler").args(["process", "still", "--home"]).arg(&folder).env_clear().current_dir("/");
        command.arg("--pid").arg(what.process.pid.to_string());
        command.arg("--start-ticks").arg(what.process.start_ticks.to_string());
        command.arg("--until").arg(what.until.0.to_string());
        if let Some(rhythm) = what.rhythm {
            command.arg("--still-ms").arg(rhythm.still.as_millis().to_string());
            command.arg("--going-ms").arg(rhythm.going.as_millis().to_string());
        }
        Ok(command)
    })
}

/// The process that fills a disk, in the same way.
fn fill_program(home: &Home) -> Fill {
    let home = home.folder().to_owned();
    Arc::new(move |what: &Filling| {
        let mut command = Command::new(THIS_PROGRAM);
        command.arg0("ostler").args(["process", "fill", "--home"]).arg(&home).env_clear().current_dir("/");
        command.arg("--folder").arg(&what.folder).arg("--own").arg(&what.own);
        command.arg("--until").arg(what.until.0.to_string());
        Ok(command)
    })
}

/// Whoever was to hear it may be gone; that it is undone does not depend on them.
fn say(words: &str) {
    let mut out = io::stdout().lock();
    let _ = writeln!(out, "{words}").and_then(|()| out.flush());
}

/// Fills a disk, and says on standard output that it is full, or why not.
pub(crate) fn fill(home: &Home, fill: &args::Fill) -> Outcome {
    let _ = rustix::process::setsid(); // as below
    let args::Fill { folder, own, until } = fill;
    let what = Filling { folder: folder.clone(), own: own.clone(), until: Timestamp(*until) };
    full::fill(&home.filling(), &what, || say(HELD)).map_err(|error| {
        say(&error.to_string());
        Failure::of("cannot fill the disk", &error, "nothing: no room is taken")
    })
}

/// Makes processes stand still, and says on standard output that they do, or why not.
pub(crate) fn hold_still(home: &Home, still: &args::Still) -> Outcome {
    // It is nobody's job: a signal to whoever started it is none to it.
    let _ = rustix::process::setsid();
    let length = |ms: Option<u64>| ms.map(Duration::from_millis);
    let what = Standstill {
        process: Meant { pid: still.pid, start_ticks: still.start_ticks },
        until: Timestamp(still.until),
        rhythm: length(still.still_ms).zip(length(still.going_ms)).map(|(still, going)| Rhythm { still, going }),
    };
    faults::hold_still(&home.standstill(), what, || say(HELD)).map_err(|error| {
        say(&error.to_string());
        Failure::of("cannot make it stand still", &error, "nothing: nothing stands still")
    })
}

/// Written for whoever waits for the manager: its own standard error is a log file.
fn record_trouble(home: &Home, refused: &Refused) {
    let Ok(text) = serde_json::to_vec(refused) else { return };
    let written = home.trouble().with_extension("new");
    let file = OpenOptions::new().create(true).truncate(true).write(true).mode(0o600).open(&written);
    if let Ok(mut file) = file
        && file.write_all(&text).is_ok()
    {
        // A trouble that cannot be written down is still in the log.
        let _ = std::fs::rename(&written, home.trouble());
    }
}

/// Why the manager process last ended by itself, if it did and has not come up since.
pub(crate) fn recorded_trouble(home: &Home) -> Option<Failure> {
    let text = std::fs::read(home.trouble()).ok()?;
    serde_json::from_slice::<Refused>(&text).ok().map(Failure::from)
}
