//! A keeper in a temporary home, and what the tests share.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use ostler_keeper::client::{Client, ClientError};
use ostler_keeper::protocol::{Answer, Grant, Launch, Order, Process, Reflex, Refusal, Report, Role, Survey};
use ostler_keeper::socket_path;
use ostler_model::health::Exit;
use ostler_model::ids::InstanceId;
use rustix::event::{PollFd, PollFlags};
use rustix::process::{Pid, PidfdFlags, Signal};

/// Generous: a test waits this long only before it fails.
pub const LONG: Duration = Duration::from_secs(60);
pub const PLENTY: Grant = Grant { burst: 1000, refill_ms: 1 };
pub const NOTHING: Grant = Grant { burst: 0, refill_ms: 1000 };
/// In the environment of everything that a test starts, so that its end can clean up.
const MARK: &str = "KEEPER_TEST_HOME";

pub struct Home {
    pub folder: tempfile::TempDir,
    pub keeper: Option<Child>,
    gateway_log: Option<PathBuf>,
}

pub fn example() -> PathBuf {
    let own = std::env::current_exe().unwrap();
    let path = own.parent().and_then(Path::parent).unwrap().join("examples/keeper");
    assert!(path.exists(), "build it with `cargo build -p ostler-keeper --examples`: {}", path.display());
    path
}

impl Home {
    pub fn new() -> Self {
        let mut home = Self { folder: tempfile::tempdir().unwrap(), keeper: None, gateway_log: None };
        home.start();
        home
    }

    pub fn with_gateway() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let gateway_log = Some(folder.path().join("told.log"));
        let mut home = Self { folder, keeper: None, gateway_log };
        home.start();
        home
    }

    pub fn path(&self) -> &Path {
        self.folder.path()
    }

    /// Starts a keeper, and waits until it answers.
    pub fn start(&mut self) {
        let mut command = Command::new(example());
        command.arg("run").arg(self.path()).env(MARK, self.path()).stdin(Stdio::null());
        command.args(self.gateway_log.as_deref());
        self.keeper = Some(command.spawn().unwrap());
        wait_for("the keeper answers", || Client::connect(&socket_path(self.path()), Role::Visitor, LONG).ok());
    }

    pub fn kill_keeper(&mut self) {
        let mut keeper = self.keeper.take().unwrap();
        keeper.kill().unwrap();
        keeper.wait().unwrap();
    }

    pub fn connect(&self, role: Role) -> Client {
        Client::connect(&socket_path(self.path()), role, LONG).unwrap()
    }

    pub fn manager(&self) -> Client {
        self.connect(Role::Manager)
    }

    /// A shell that runs `script`, in the home.
    pub fn shell(&self, id: &str, script: &str) -> Launch {
        self.launch(id, "/bin/sh", &["sh", "-c", script])
    }

    pub fn sleeper(&self, id: &str) -> Launch {
        self.launch(id, "/bin/sleep", &["sleep", "1000000"])
    }

    pub fn server(&self, id: &str, socket: &str) -> Launch {
        let launch = self.launch(id, example().to_str().unwrap(), &["keeper", "serve"]);
        Launch { socket: Some(socket.to_owned()), ..launch }
    }

    fn launch(&self, id: &str, program: &str, arguments: &[&str]) -> Launch {
        let home = self.path().to_str().unwrap().to_owned();
        let environment = BTreeMap::from([("PATH".into(), "/usr/bin:/bin".into()), (MARK.into(), home)]);
        Launch {
            instance: id.parse().unwrap(),
            digest: digest(&arguments.join(" ")),
            program: program.into(),
            arguments: arguments.iter().copied().map(str::to_owned).collect(),
            environment,
            folder: self.path().to_owned(),
            log: self.path().join(format!("{id}.log")),
            log_bytes_max: 1024 * 1024,
            user: None,
            socket: None,
            cgroups: Vec::new(),
            rlimits: Vec::new(),
            tree: false,
        }
    }

    pub fn log(&self, id: &str) -> String {
        std::fs::read_to_string(self.path().join(format!("{id}.log"))).unwrap_or_default()
    }

    /// This one and no twin. A process that has just been started shows its markers a moment later.
    pub fn expect_only(&self, id: &str, pid: u32) {
        wait_until("exactly this one lives", || self.processes_of(id) == [pid]);
    }

    /// Living processes that belong to this home, by the marker of an instance.
    pub fn processes_of(&self, id: &str) -> Vec<u32> {
        let marker = format!("OSTLER_INSTANCE={id}");
        let of_home = format!("{MARK}={}", self.path().display());
        processes_with(&[&marker, &of_home])
    }
}

impl Drop for Home {
    fn drop(&mut self) {
        if let Some(mut keeper) = self.keeper.take() {
            let _ = keeper.kill();
            let _ = keeper.wait();
        }
        let mark = format!("{MARK}={}", self.path().display());
        // What a keeper was just starting when it was killed bears its mark only a moment later: so none may be seen
        // twice, a moment apart.
        let until = Instant::now() + Duration::from_secs(10);
        let mut seen_none = 0;
        while seen_none < 2 && Instant::now() < until {
            let left = processes_with(&[&mark]);
            seen_none = if left.is_empty() { seen_none + 1 } else { 0 };
            left.iter().for_each(|pid| kill(*pid, Signal::KILL));
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

fn processes_with(marks: &[&str]) -> Vec<u32> {
    let pids =
        std::fs::read_dir("/proc").unwrap().filter_map(|entry| entry.unwrap().file_name().to_str()?.parse().ok());
    pids.filter(|pid| {
        let environ = std::fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
        let has = |mark: &&str| environ.split(|byte| *byte == 0).any(|entry| entry == mark.as_bytes());
        marks.iter().all(has) && is_alive(*pid)
    })
    .collect()
}

/// Readable for short texts; different for different ones.
fn digest(text: &str) -> String {
    let mut hasher = std::hash::DefaultHasher::new();
    std::hash::Hash::hash(text, &mut hasher);
    if text.len() < 64 { text.to_owned() } else { format!("{:x}", std::hash::Hasher::finish(&hasher)) }
}

pub fn is_alive(pid: u32) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit_once(')').is_some_and(|(_, rest)| !rest.starts_with(" Z") && !rest.starts_with(" X"))
}

/// Returns once the death can be noticed, the way the keeper notices it.
pub fn kill_and_wait(pid: u32) {
    let number = Pid::from_raw(pid.cast_signed()).unwrap();
    let process = rustix::process::pidfd_open(number, PidfdFlags::empty()).unwrap();
    kill(pid, Signal::KILL);
    rustix::event::poll(&mut [PollFd::new(&process, PollFlags::IN)], None).unwrap();
}

pub fn kill(pid: u32, signal: Signal) {
    let _ = rustix::process::kill_process(Pid::from_raw(i32::try_from(pid).unwrap()).unwrap(), signal);
}

/// Looks again and again until there is something, for [`LONG`].
pub fn wait_for<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let until = Instant::now() + LONG;
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(Instant::now() < until, "waited in vain until {what}");
        std::thread::sleep(Duration::from_millis(2));
    }
}

pub fn wait_until(what: &str, mut look: impl FnMut() -> bool) {
    wait_for(what, || look().then_some(()));
}

pub fn id(text: &str) -> InstanceId {
    text.parse().unwrap()
}

pub fn start(client: &mut Client, launch: Launch, grant: Grant) -> Process {
    let answer = client.ask(Order::Start { launch: Box::new(launch), grant }).unwrap();
    let Answer::Running { process, .. } = answer else { panic!("{answer:?}") };
    process
}

pub fn refused(client: &mut Client, order: Order) -> Refusal {
    match client.ask(order) {
        Err(ClientError::Refused(refusal)) => refusal,
        other => panic!("{other:?}"),
    }
}

pub fn stop(client: &mut Client, instance: &str, grace_ms: u64) -> (Option<Exit>, bool) {
    let answer = client.ask(Order::Stop { instance: id(instance), signal: 15, grace_ms }).unwrap();
    let Answer::Stopped { exit, killed } = answer else { panic!("{answer:?}") };
    (exit, killed)
}

pub fn survey(client: &mut Client) -> Survey {
    match client.ask(Order::Survey).unwrap() {
        Answer::Survey(survey) => *survey,
        other => panic!("{other:?}"),
    }
}

/// The next report of an end.
pub fn ended(client: &mut Client) -> (u64, InstanceId, Process, Exit, Reflex) {
    loop {
        match client.report(LONG).unwrap().expect("a report comes") {
            (number, _, Report::Ended { instance, process, exit, reflex }) => {
                return (number, instance, process, exit, reflex);
            }
            (_, _, Report::Gateway { .. } | Report::FromGateway { .. } | Report::Upgrade(_)) => {}
        }
    }
}

pub fn restarted(reflex: Reflex) -> Process {
    match reflex {
        Reflex::Restarted { process, .. } => process,
        other => panic!("{other:?}"),
    }
}
