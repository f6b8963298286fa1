//! A keeper small enough to be seen through: it starts processes, stops them, and remembers what it was asked.

use std::collections::BTreeMap;
use std::fs::OpenOptions;
use std::net::{SocketAddr, TcpListener};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use ostler_keeper::protocol::{Grant, Launch, Process, Refusal, Survey, Surveyed};
use ostler_model::health::Exit;
use ostler_model::ids::InstanceId;
use ostler_model::time::Timestamp;
use ostler_providers::Stopped;
use ostler_providers::host::{KeeperAnswer, KeeperError, KeeperPort, Started};
use rustix::process::{Pid, Signal, kill_process_group};

struct Running {
    child: Child,
    process: Process,
    digest: String,
}

#[derive(Default)]
pub(crate) struct MiniKeeper {
    running: Mutex<BTreeMap<InstanceId, Running>>,
    sockets: Mutex<BTreeMap<String, TcpListener>>,
    pub(crate) launches: Mutex<Vec<Launch>>,
    pub(crate) surveys: AtomicUsize,
}

impl MiniKeeper {
    fn start_now(&self, launch: Launch) -> Result<Started, KeeperError> {
        let mut running = self.running.lock().unwrap();
        self.launches.lock().unwrap().push(launch.clone());
        if let Some(known) = running.get_mut(&launch.instance)
            && known.child.try_wait().unwrap().is_none()
        {
            let as_ordered = known.digest == launch.digest;
            return Ok(Started { process: known.process.clone(), adopted: true, as_ordered });
        }
        let log = OpenOptions::new().create(true).append(true).open(&launch.log).unwrap();
        let mut command = Command::new(&launch.program);
        command.arg0(&launch.arguments[0]).args(&launch.arguments[1..]).env_clear().envs(&launch.environment);
        command.env("OSTLER_INSTANCE", launch.instance.to_string()).current_dir(&launch.folder).process_group(0);
        command.stdin(Stdio::null()).stdout(log.try_clone().unwrap()).stderr(log);
        if let Some(user) = launch.user {
            command.uid(user.uid).gid(user.gid);
        }
        let child = command.spawn().map_err(|error| Refusal::CannotStart {
            step: "execute".to_owned(),
            program: launch.program.display().to_string(),
            cause: error.to_string(),
            errno: error.raw_os_error().unwrap_or(0),
        })?;
        for file in &launch.cgroups {
            std::fs::write(file, child.id().to_string()).unwrap();
        }
        let micros = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_micros();
        let process = Process {
            pid: child.id(),
            start_ticks: 0,
            incarnation: format!("{}", child.id()),
            since: Timestamp(i64::try_from(micros).unwrap()),
        };
        running.insert(
            launch.instance.clone(),
            Running { child, process: process.clone(), digest: launch.digest.clone() },
        );
        Ok(Started { process, adopted: false, as_ordered: true })
    }

    fn stop_now(&self, instance: &InstanceId, signal: i32, grace: Duration) -> Stopped {
        let Some(mut known) = self.running.lock().unwrap().remove(instance) else {
            return Stopped { exit: None, killed: false };
        };
        let group = Pid::from_raw(known.child.id().cast_signed()).unwrap();
        let signal = Signal::from_named_raw(signal).unwrap();
        if let Some(status) = known.child.try_wait().unwrap() {
            return Stopped { exit: Some(exit(status)), killed: false };
        }
        rustix::process::kill_process(group, signal).unwrap();
        let deadline = Instant::now() + grace;
        loop {
            if let Some(status) = known.child.try_wait().unwrap() {
                return Stopped { exit: Some(exit(status)), killed: false };
            }
            if Instant::now() > deadline {
                let _ = kill_process_group(group, Signal::KILL);
                return Stopped { exit: Some(exit(known.child.wait().unwrap())), killed: true };
            }
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

fn exit(status: ExitStatus) -> Exit {
    status.code().map(Exit::Code).or(status.signal().map(Exit::Signal)).unwrap_or(Exit::Unknown)
}

impl KeeperPort for MiniKeeper {
    fn start(&self, launch: Launch, _grant: Grant) -> KeeperAnswer<'_, Started> {
        Box::pin(async move { self.start_now(launch) })
    }

    fn stop<'a>(&'a self, instance: &'a InstanceId, signal: i32, grace: Duration) -> KeeperAnswer<'a, Stopped> {
        Box::pin(async move { Ok(self.stop_now(instance, signal, grace)) })
    }

    fn survey(&self) -> KeeperAnswer<'_, Survey> {
        Box::pin(async {
            self.surveys.fetch_add(1, Ordering::SeqCst);
            tokio::task::yield_now().await; // others may ask meanwhile
            let mut survey = Survey::default();
            for (id, known) in self.running.lock().unwrap().iter_mut() {
                let process = known.child.try_wait().unwrap().is_none().then(|| known.process.clone());
                let surveyed = Surveyed { process, digest: Some(known.digest.clone()), has_launch: true };
                survey.instances.insert(id.clone(), surveyed);
            }
            for (name, socket) in self.sockets.lock().unwrap().iter() {
                survey.sockets.insert(name.clone(), socket.local_addr().unwrap());
            }
            Ok(survey)
        })
    }

    fn listen<'a>(&'a self, name: &'a str, address: SocketAddr) -> KeeperAnswer<'a, SocketAddr> {
        Box::pin(async move {
            let mut sockets = self.sockets.lock().unwrap();
            if let Some(socket) = sockets.get(name) {
                return Ok(socket.local_addr().unwrap());
            }
            let socket = TcpListener::bind(address).map_err(|error| Refusal::CannotListen {
                address,
                cause: error.to_string(),
                errno: error.raw_os_error().unwrap_or(0),
            })?;
            let address = socket.local_addr().unwrap();
            sockets.insert(name.to_owned(), socket);
            Ok(address)
        })
    }

    fn unlisten<'a>(&'a self, name: &'a str) -> KeeperAnswer<'a, ()> {
        Box::pin(async move {
            self.sockets.lock().unwrap().remove(name);
            Ok(())
        })
    }
}

impl Drop for MiniKeeper {
    fn drop(&mut self) {
        for known in self.running.lock().unwrap().values_mut() {
            let _ = known.child.kill();
            let _ = known.child.wait();
        }
    }
}
