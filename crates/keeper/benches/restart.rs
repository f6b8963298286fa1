//! From `kill -9` to the next process, with 1 and with 1,000 instances; what the keeper costs meanwhile; and how fast
//! the next keeper adopts. `cargo bench -p ostler-keeper`.
#![allow(clippy::print_stdout, clippy::unwrap_used, clippy::panic, reason = "a benchmark prints, and fails loudly")]

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use ostler_keeper::client::Client;
use ostler_keeper::protocol::{Answer, Grant, Launch, Order, Process, Reflex, Report, Role};
use ostler_keeper::{Config, socket_path};
use rustix::process::{Pid, Signal};

const KILLS: usize = 500;
const WITHIN: Duration = Duration::from_secs(60);
const PLENTY: Grant = Grant { burst: 1_000_000, refill_ms: 1 };
const IDLE_SECONDS: u64 = 10;

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match arguments.as_slice() {
        ["keeper", home] => {
            let config = Config {
                home: home.into(),
                manager: None,
                gateway: None,
                build: "bench".into(),
                handover: Vec::new(),
                resume: None,
            };
            ostler_keeper::run(config).unwrap();
        }
        ["tiny", pipe] => tiny(Path::new(pipe)),
        arguments if arguments.contains(&"--bench") => bench(),
        _ => {} // listed or run by a test runner
    }
}

/// The program under supervision: says that it runs, and waits.
fn tiny(pipe: &Path) {
    File::options().write(true).open(pipe).unwrap().write_all(b"x").unwrap();
    loop {
        std::thread::park();
    }
}

fn bench() {
    println!("{:<46} {:>9} {:>9} {:>9}", "milliseconds", "median", "p99", "max");
    for instances in [1, 1000] {
        let bench = Bench::new(instances);
        bench.run();
    }
}

struct Bench {
    home: tempfile::TempDir,
    instances: u32,
}

impl Bench {
    fn new(instances: u32) -> Self {
        Self { home: tempfile::tempdir().unwrap(), instances }
    }

    fn run(&self) {
        let mut keeper = self.start_keeper();
        let mut manager = self.connect();
        manager.ask(Order::Reflexes(PLENTY)).unwrap();
        let begun = Instant::now();
        let mut processes: Vec<Process> =
            (1..=self.instances).map(|number| self.start(&mut manager, &self.sleeper(number))).collect();
        let each = begun.elapsed() / self.instances;

        let mut exists = Vec::new();
        let mut reported = Vec::new();
        for kill_number in 0..KILLS {
            let victim = kill_number * 7919 % processes.len();
            let (next, existed, told) = kill_and_wait(&mut manager, &processes[victim]);
            processes[victim] = next;
            exists.push(existed);
            reported.push(told);
        }
        let label = |text: &str| format!("{text}, {} instances", self.instances);
        row(&label("kill -9 to new process"), exists);
        row(&label("kill -9 to the manager knows"), reported);

        let pipe = self.home.path().join("pipe");
        rustix::fs::mkfifoat(rustix::fs::CWD, &pipe, rustix::fs::Mode::RWXU).unwrap();
        row("  a tiny program's bare start", (0..KILLS).map(|_| bare_start(&pipe)).collect());
        row(&label("  kill -9 to the tiny program runs"), self.restarts_of_tiny(&mut manager, &pipe));

        let cpu = cpu_ticks(keeper.id());
        std::thread::sleep(Duration::from_secs(IDLE_SECONDS));
        let idle = cpu_ticks(keeper.id()) - cpu;
        println!(
            "  start by order {:.3} ms each; keeper PSS {} KB; {idle} ticks of CPU in {IDLE_SECONDS} s at rest",
            millis(each),
            pss_kilobytes(keeper.id()),
        );

        keeper.kill().unwrap();
        keeper.wait().unwrap();
        let begun = Instant::now();
        let mut keeper = self.start_keeper();
        let mut manager = self.connect();
        let Answer::Survey(survey) = manager.ask(Order::Survey).unwrap() else { panic!() };
        let adopted = survey.instances.values().filter(|surveyed| surveyed.process.is_some()).count();
        println!("  keeper killed: the next had adopted {adopted} after {:.1} ms", millis(begun.elapsed()));
        for instance in survey.instances.into_keys() {
            manager.ask(Order::Stop { instance, signal: 9, grace_ms: 0 }).unwrap();
        }
        manager.ask(Order::Shutdown { leave_running: false }).unwrap();
        keeper.wait().unwrap();
    }

    fn start_keeper(&self) -> Child {
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.arg("keeper").arg(self.home.path()).stdin(Stdio::null()).spawn().unwrap()
    }

    fn connect(&self) -> Client {
        let until = Instant::now() + WITHIN;
        loop {
            match Client::connect(&socket_path(self.home.path()), Role::Manager, WITHIN) {
                Ok(client) => return client,
                Err(error) => assert!(Instant::now() < until, "{error}"),
            }
        }
    }

    fn sleeper(&self, number: u32) -> Launch {
        self.launch(number, "/bin/sleep".into(), vec!["sleep".into(), "1000000".into()])
    }

    /// As large as real launches are: an environment of about 2 KB.
    fn launch(&self, number: u32, program: PathBuf, arguments: Vec<String>) -> Launch {
        let environment: BTreeMap<String, String> =
            (0..40).map(|name| (format!("VARIABLE_{name}"), "a value of some length, as they are".into())).collect();
        Launch {
            instance: format!("web-{number}").parse().unwrap(),
            digest: "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef".into(),
            program,
            arguments,
            environment,
            folder: self.home.path().to_owned(),
            log: self.home.path().join(format!("{number}.log")),
            log_bytes_max: 1024 * 1024,
            user: None,
            socket: None,
            cgroups: Vec::new(),
            rlimits: Vec::new(),
            tree: false,
        }
    }

    fn start(&self, manager: &mut Client, launch: &Launch) -> Process {
        let answer = manager.ask(Order::Start { launch: Box::new(launch.clone()), grant: PLENTY }).unwrap();
        let Answer::Running { process, .. } = answer else { panic!("{answer:?}") };
        process
    }

    fn restarts_of_tiny(&self, manager: &mut Client, pipe: &Path) -> Vec<Duration> {
        let program = std::env::current_exe().unwrap();
        let arguments = vec!["tiny".into(), "tiny".into(), pipe.display().to_string()];
        let mut pipe = File::options().read(true).write(true).open(pipe).unwrap();
        let mut process = self.start(manager, &self.launch(self.instances + 1, program, arguments));
        let mut byte = [0];
        pipe.read_exact(&mut byte).unwrap();
        (0..KILLS)
            .map(|_| {
                let begun = Instant::now();
                kill(&process);
                pipe.read_exact(&mut byte).unwrap();
                let running = begun.elapsed();
                process = next_process(manager).0;
                running
            })
            .collect()
    }
}

fn bare_start(pipe: &Path) -> Duration {
    let mut reader = File::options().read(true).write(true).open(pipe).unwrap();
    let begun = Instant::now();
    let mut child = Command::new(std::env::current_exe().unwrap()).arg("tiny").arg(pipe).spawn().unwrap();
    reader.read_exact(&mut [0]).unwrap();
    let running = begun.elapsed();
    child.kill().unwrap();
    child.wait().unwrap();
    running
}

/// The next process, how long after the kill it existed, and how long after the kill the manager knew.
fn kill_and_wait(manager: &mut Client, process: &Process) -> (Process, Duration, Duration) {
    let killed_at = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    let begun = Instant::now();
    kill(process);
    let (next, existed_at) = next_process(manager);
    (next, existed_at.saturating_sub(killed_at), begun.elapsed())
}

fn next_process(manager: &mut Client) -> (Process, Duration) {
    let (number, _, report) = manager.report(WITHIN).unwrap().expect("the death is reported");
    manager.send(Order::Acknowledge { report: number }, None).unwrap();
    let Report::Ended { reflex: Reflex::Restarted { process, at }, .. } = report else { panic!("{report:?}") };
    (process, Duration::from_micros(at.0.try_into().unwrap()))
}

fn kill(process: &Process) {
    let pid = Pid::from_raw(process.pid.try_into().unwrap()).unwrap();
    rustix::process::kill_process(pid, Signal::KILL).unwrap();
}

fn row(what: &str, mut times: Vec<Duration>) {
    times.sort_unstable();
    let at = |share: usize| millis(times[(times.len() * share / 100).min(times.len() - 1)]);
    println!("{what:<46} {:>9.3} {:>9.3} {:>9.3}", at(50), at(99), at(100));
}

fn millis(time: Duration) -> f64 {
    time.as_secs_f64() * 1000.0
}

fn pss_kilobytes(pid: u32) -> u64 {
    let text = std::fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).unwrap();
    let line = text.lines().find_map(|line| line.strip_prefix("Pss:")).unwrap();
    line.trim().trim_end_matches(" kB").parse().unwrap()
}

fn cpu_ticks(pid: u32) -> u64 {
    let text = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    let fields: Vec<&str> = text.rsplit_once(") ").unwrap().1.split(' ').collect();
    fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap()
}
