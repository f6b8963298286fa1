//! Instances on the side: made to try something out on this machine, and gone with it.
//!
//! Invariant: what is tried out never outlives this value by more than a few seconds, nor this process: whoever runs an
//! instance on the side waits on a pipe for the end of this process. What was left in spite of that (both were killed)
//! is found by its folder before the next one is made.

use std::collections::BTreeMap;
use std::fs::{self, OpenOptions};
use std::io;
use std::net::SocketAddr;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use ostler_keeper::protocol::{Grant, Launch, Process, Refusal, Survey, Surveyed};
use ostler_model::ids::InstanceId;
use ostler_model::outcome::Failure;
use ostler_model::time::Timestamp;
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, Command};
use tokio::sync::Mutex;
use tokio::time::timeout;

use super::failure::temporary;
use super::folder::{blocking, let_pass, make_folder};
use super::{Definitions, HostConfig, HostProvider, KeeperAnswer, KeeperError, KeeperPort, Ports, Started};
use crate::Stopped;

/// Runs the program that its arguments name, says its process id, and ends with it. At the end of its input, which is
/// the end of whoever started it, it has the program end at once, and after five seconds for good.
const RUNNER: &str = r#"
exec 3<&0 </dev/null
nice -n 10 "$@" >&2 3<&- &
child=$!
echo "$child"
exec >&2
{ read -r _ <&3; kill -s INT "$child"; sleep 5; kill -s KILL "$child"; } >/dev/null 2>&1 &
watcher=$!
exec 3<&-
wait "$child"
status=$?
kill -s KILL "$watcher" >/dev/null 2>&1
exit "$status"
"#;
/// How long what is on the side may take to end.
const END_WITHIN: Duration = Duration::from_secs(10);
/// How long what was left behind may take to be gone once it was killed.
const GONE_WITHIN: Duration = Duration::from_secs(5);

/// A place on the side, with a provider of its own.
pub struct Scratch {
    provider: HostProvider,
    processes: Arc<Processes>,
    folder: PathBuf,
}

impl Scratch {
    /// Makes the folder anew, after ending whatever still runs in it.
    ///
    /// # Errors
    /// If it cannot be made.
    pub async fn new(folder: PathBuf, definitions: Definitions) -> Result<Self, Failure> {
        clear(&folder).await?;
        make_folder(&folder, None)?;
        // Servers that refuse to be root must pass through to it.
        if let Some(above) = folder.parent().filter(|_| rustix::process::geteuid().is_root()) {
            let_pass(above)?;
        }
        let processes = Arc::new(Processes::default());
        let (home, keeper) = (folder.clone(), processes.clone());
        let config = HostConfig { home, definitions, keeper, ports: Ports::default() };
        Ok(Self { provider: HostProvider::new(config), processes, folder })
    }

    /// Its provider: instances of it are asked for as everywhere.
    pub fn provider(&self) -> &HostProvider {
        &self.provider
    }

    /// Whether the instance still runs.
    pub async fn runs(&self, instance: &InstanceId) -> bool {
        let mut all = self.processes.0.lock().await;
        all.get_mut(instance).is_some_and(|running| matches!(running.child.try_wait(), Ok(None)))
    }

    /// How many bytes there is room for.
    pub fn room(&self) -> u64 {
        rustix::fs::statvfs(&self.folder).map_or(u64::MAX, |disk| disk.f_bavail.saturating_mul(disk.f_frsize))
    }

    /// Ends everything, and deletes it.
    ///
    /// # Errors
    /// If it cannot be deleted.
    pub async fn end(self) -> Result<(), Failure> {
        let all = std::mem::take(&mut *self.processes.0.lock().await);
        for (_, running) in all {
            running.end().await;
        }
        clear(&self.folder).await
    }
}

/// Ends whatever runs in `folder`, and deletes the folder.
///
/// # Errors
/// If something does not end, or it cannot be deleted.
pub(super) async fn clear(folder: &Path) -> Result<(), Failure> {
    let folder = folder.to_owned();
    blocking(move || {
        let begin = std::time::Instant::now();
        while kill_all_in(&folder) > 0 {
            if begin.elapsed() > GONE_WITHIN {
                return Err(temporary(
                    format!("processes in {} do not end", folder.display()),
                    "Look at them with `ps`; it is tried again.",
                ));
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        match fs::remove_dir_all(&folder) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(super::failure::io("delete", &folder, &error)),
            Ok(()) | Err(_) => Ok(()),
        }
    })
    .await
}

/// Kills every process that works in `folder`, and says how many there were. A process is held by its descriptor before
/// it is looked at, so that no other one is killed that has taken its id.
fn kill_all_in(folder: &Path) -> usize {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    let ids = entries.filter_map(|entry| Pid::from_raw(entry.file_name().to_str()?.parse().ok()?));
    let own = rustix::process::getpid();
    let killed = ids.filter(|id| *id != own).filter(|id| {
        let works_there =
            || fs::read_link(format!("/proc/{}/cwd", id.as_raw_nonzero())).is_ok_and(|at| at.starts_with(folder));
        if !works_there() {
            return false;
        }
        let Ok(process) = pidfd_open(*id, PidfdFlags::empty()) else { return false };
        works_there() && pidfd_send_signal(&process, Signal::KILL).is_ok()
    });
    killed.count()
}

/// The processes of instances on the side.
#[derive(Default)]
struct Processes(Mutex<BTreeMap<InstanceId, Running>>);

struct Running {
    child: Child,
    process: Process,
    digest: String,
}

impl Running {
    async fn end(mut self) {
        drop(self.child.stdin.take());
        if timeout(END_WITHIN, self.child.wait()).await.is_err() {
            // What it ran is found by its folder.
            let _ = self.child.kill().await;
        }
    }
}

impl Processes {
    async fn run(&self, launch: Launch) -> Result<Started, KeeperError> {
        let refused = |step: &str, error: &io::Error| {
            KeeperError::Refused(Refusal::CannotStart {
                step: step.to_owned(),
                program: launch.program.display().to_string(),
                cause: error.to_string(),
                errno: error.raw_os_error().unwrap_or(0),
            })
        };
        let mut options = OpenOptions::new();
        let log = options.create(true).append(true).mode(0o600).open(&launch.log);
        let log = log.map_err(|error| refused("open the log", &error))?;
        let mut command = Command::new("/bin/sh");
        command.args(["-c", RUNNER, "sh"]).arg(&launch.program).args(launch.arguments.iter().skip(1));
        command.env_clear().envs(&launch.environment).current_dir(&launch.folder);
        command.process_group(0).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(log);
        if let Some(user) = launch.user {
            command.uid(user.uid).gid(user.gid);
        }
        let mut child = command.spawn().map_err(|error| refused("execute", &error))?;
        let mut line = String::new();
        if let Some(said) = child.stdout.take() {
            BufReader::new(said).read_line(&mut line).await.map_err(|error| refused("execute", &error))?;
        }
        let pid = line.trim().parse().map_err(|_| refused("execute", &io::Error::other("it ended at once")))?;
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let since = Timestamp(i64::try_from(since.as_micros()).unwrap_or(i64::MAX));
        let process = Process { pid, start_ticks: 0, incarnation: "on the side".to_owned(), since };
        let running = Running { child, process: process.clone(), digest: launch.digest };
        self.0.lock().await.insert(launch.instance, running);
        Ok(Started { process, adopted: false, as_ordered: true })
    }
}

impl KeeperPort for Processes {
    fn start(&self, launch: Launch, _grant: Grant) -> KeeperAnswer<'_, Started> {
        Box::pin(self.run(launch))
    }

    fn stop<'a>(&'a self, instance: &'a InstanceId, _signal: i32, _grace: Duration) -> KeeperAnswer<'a, Stopped> {
        Box::pin(async move {
            let running = self.0.lock().await.remove(instance);
            if let Some(running) = running {
                running.end().await;
            }
            Ok(Stopped { exit: None, killed: false })
        })
    }

    fn survey(&self) -> KeeperAnswer<'_, Survey> {
        Box::pin(async {
            let mut survey = Survey::default();
            for (id, running) in self.0.lock().await.iter_mut() {
                let lives = matches!(running.child.try_wait(), Ok(None));
                let process = lives.then(|| running.process.clone());
                let digest = Some(running.digest.clone());
                survey.instances.insert(id.clone(), Surveyed { process, digest, has_launch: false });
            }
            Ok(survey)
        })
    }

    fn listen<'a>(&'a self, name: &'a str, _address: SocketAddr) -> KeeperAnswer<'a, SocketAddr> {
        Box::pin(async move { Err(Refusal::NoSuchSocket(name.to_owned()).into()) }) // nothing on the side is handed one
    }

    fn unlisten<'a>(&'a self, _name: &'a str) -> KeeperAnswer<'a, ()> {
        Box::pin(async { Ok(()) })
    }
}
