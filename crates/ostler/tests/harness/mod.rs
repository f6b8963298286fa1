//! What the end-to-end tests stand on: a home of its own for each test, the built `ostler`, and a guard that leaves no
//! process behind.
//!
//! Invariant: nothing here waits without a bound, and every bound is far above what a slow machine needs.

use std::collections::BTreeMap;
use std::fs;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use serde_json::Value;
use tempfile::TempDir;

pub(crate) mod http;
pub(crate) mod kills;

/// How long anything that must happen may take.
pub(crate) const WITHIN: Duration = Duration::from_secs(60);
/// How long a command may take.
const COMMAND_WITHIN: Duration = Duration::from_secs(180);

/// A home with whatever runs on it.
pub(crate) struct Ostler {
    root: TempDir,
    /// The home.
    pub(crate) home: PathBuf,
}

/// What a command said.
pub(crate) struct Said {
    /// Its exit code.
    pub(crate) code: i32,
    /// Its standard output.
    pub(crate) out: String,
    /// Its standard error.
    pub(crate) err: String,
}

impl Said {
    /// Its standard output as JSON.
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.out).unwrap_or_else(|error| panic!("not JSON ({error}): {self}"))
    }
}

impl std::fmt::Display for Said {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "exit code {}\n--- stdout\n{}\n--- stderr\n{}", self.code, self.out, self.err)
    }
}

impl Ostler {
    /// A new home, not made yet, in a folder that servers of other users may pass through.
    pub(crate) fn new() -> Self {
        let root = tempfile::Builder::new().prefix("ostler-").tempdir().unwrap();
        fs::set_permissions(root.path(), fs::Permissions::from_mode(0o711)).unwrap();
        let home = root.path().join("home");
        Self { root, home }
    }

    /// A new home with this estate running on it, all ready.
    pub(crate) fn up(text: &str) -> Self {
        let ostler = Self::new();
        ostler.write("ostler.toml", text);
        ostler.ok(&["up", "--detach", "ostler.toml"]);
        ostler
    }

    /// The folder of the estate file and of everything else.
    pub(crate) fn folder(&self) -> &Path {
        self.root.path()
    }

    /// Writes a file beside the estate file.
    pub(crate) fn write(&self, name: &str, text: &str) {
        fs::write(self.folder().join(name), text).unwrap();
    }

    /// The command, not yet started, in this test's folder and on its home.
    pub(crate) fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_ostler"));
        command.args(arguments).arg("--home").arg(&self.home).current_dir(self.folder());
        command.env_remove("OSTLER_HOME").env_remove("OSTLER_KEY").env("NO_COLOR", "1");
        command.stdin(Stdio::null());
        command
    }

    /// Runs the command to its end.
    pub(crate) fn run(&self, arguments: &[&str]) -> Said {
        finish(self.command(arguments), COMMAND_WITHIN)
    }

    /// Runs a command that must succeed.
    pub(crate) fn ok(&self, arguments: &[&str]) -> Said {
        let said = self.run(arguments);
        assert_eq!(said.code, 0, "ostler {}: {said}", arguments.join(" "));
        said
    }

    /// Runs a command that must succeed, and reads its JSON.
    pub(crate) fn json(&self, arguments: &[&str]) -> Value {
        let mut all = arguments.to_vec();
        all.push("--json");
        self.ok(&all).json()
    }

    /// The status.
    pub(crate) fn status(&self) -> Value {
        self.json(&["status"])
    }

    /// One service of the status.
    pub(crate) fn service(&self, name: &str) -> Value {
        find_service(&self.status(), name).unwrap_or_else(|| panic!("no service {name}: {}", self.status()))
    }

    /// A service's endpoint.
    pub(crate) fn endpoint(&self, name: &str) -> SocketAddr {
        self.service(name)["endpoint"].as_str().unwrap().parse().unwrap()
    }

    /// The processes of a service's instances, in the order of their numbers.
    pub(crate) fn pids(&self, service: &str) -> Vec<u32> {
        pids_in(&self.service(service))
    }

    /// All processes of all instances, by instance.
    pub(crate) fn all_pids(&self) -> BTreeMap<String, u64> {
        let status = self.status();
        let instances = status["services"].as_array().unwrap().iter().flat_map(|s| s["instances"].as_array().unwrap());
        instances.filter_map(|i| Some((i["id"].as_str()?.to_owned(), i["pid"].as_u64()?))).collect()
    }

    /// Waits until the status is as `is_so` says.
    pub(crate) fn until(&self, what: &str, is_so: impl Fn(&Value) -> bool) -> Value {
        let mut last = Value::Null;
        wait_until(what, || {
            let said = self.run(&["status", "--json"]);
            if said.code == 0 {
                last = said.json();
            }
            said.code == 0 && is_so(&last)
        });
        last
    }

    /// Waits until every service is ready and nothing is under way.
    pub(crate) fn until_settled(&self) -> Value {
        self.until("everything is settled", |status| {
            let services = status["services"].as_array().unwrap();
            status["settled"] == true && services.iter().all(|s| s["state"] == "ready" || s["state"] == "retained")
        })
    }

    /// Waits until a service's state is this.
    pub(crate) fn until_state(&self, service: &str, state: &str) -> Value {
        self.until(&format!("{service} is {state}"), |status| {
            find_service(status, service).is_some_and(|service| service["state"] == state)
        })
    }

    /// Waits until the instance at `index` of the service is ready as another process than `former`; gives it.
    pub(crate) fn until_replaced(&self, service: &str, index: usize, former: u32) -> u32 {
        let status = self.until(&format!("{service} has another process than {former}"), |status| {
            let instance = &find_service(status, service).unwrap()["instances"][index];
            instance["state"] == "ready" && instance["pid"].as_u64().is_some_and(|pid| pid != u64::from(former))
        });
        pids_in(&find_service(&status, service).unwrap())[index]
    }

    /// All facts, oldest first.
    pub(crate) fn facts(&self) -> Vec<Value> {
        let Value::Array(mut facts) = self.json(&["journal", "-n", "10000"]) else { panic!("facts are a list") };
        facts.reverse();
        facts
    }

    /// The position of the newest fact.
    pub(crate) fn journal_end(&self) -> u64 {
        self.facts().last().unwrap()["position"].as_u64().unwrap()
    }

    /// The process ids of one of ostler's own processes: at most one, unless something is wrong.
    pub(crate) fn own_processes(&self, role: &str) -> Vec<u32> {
        let home = self.home.to_str().unwrap();
        let is_it = |pid: u32| {
            let line = cmdline(pid);
            let words: Vec<&str> = line.split('\0').collect();
            words.get(1..3) == Some(&["process", role]) && words.contains(&home) && !is_zombie(pid)
        };
        processes().into_iter().filter(|pid| is_it(*pid)).collect()
    }

    /// The one process of ostler's with this role.
    pub(crate) fn own_process(&self, role: &str) -> u32 {
        let mut found = Vec::new();
        wait_until(&format!("there is one {role}"), || {
            found = self.own_processes(role);
            found.len() == 1
        });
        found[0]
    }

    /// The main processes of instances that live in this home, by instance, from the system alone: whatever ostler
    /// believes, more than one for an instance is a twin.
    pub(crate) fn mains(&self) -> BTreeMap<String, Vec<u32>> {
        let mut of: BTreeMap<u32, String> = BTreeMap::new();
        for pid in processes() {
            if let Some(instance) = self.instance_of(pid) {
                of.insert(pid, instance);
            }
        }
        let mut mains: BTreeMap<String, Vec<u32>> = BTreeMap::new();
        for (pid, instance) in &of {
            if parent(*pid).and_then(|parent| of.get(&parent)) != Some(instance) {
                mains.entry(instance.clone()).or_default().push(*pid);
            }
        }
        mains
    }

    /// Servers overwrite their environment with their titles, so where they work counts too.
    fn instance_of(&self, pid: u32) -> Option<String> {
        if is_zombie(pid) {
            return None;
        }
        let instances = self.home.join("instances");
        let works_in = fs::read_link(format!("/proc/{pid}/cwd")).ok();
        let by_folder = works_in.and_then(|cwd| {
            cwd.strip_prefix(&instances).ok()?.components().next()?.as_os_str().to_str().map(str::to_owned)
        });
        by_folder.or_else(|| {
            let environment = environment(pid);
            let lives_here = environment.get("HOME").is_some_and(|home| Path::new(home).starts_with(&instances));
            if lives_here && !cmdline(pid).is_empty() { environment.get("OSTLER_INSTANCE").cloned() } else { None }
        })
    }

    fn leftovers(&self) -> Vec<u32> {
        let root = self.folder().to_str().unwrap().to_owned();
        let ours = |pid: &u32| {
            let works_in = fs::read_link(format!("/proc/{pid}/cwd")).is_ok_and(|cwd| cwd.starts_with(&root));
            let told = || environment(*pid).values().any(|value| value.starts_with(&root));
            *pid != std::process::id() && !is_zombie(*pid) && (works_in || cmdline(*pid).contains(&root) || told())
        };
        processes().into_iter().filter(ours).collect()
    }

    fn tell_what_happened(&self) {
        let show = |title: &str, text: &str| {
            let lines: Vec<&str> = text.lines().collect();
            eprintln!("=== {title}\n{}", lines[lines.len().saturating_sub(60)..].join("\n"));
        };
        for arguments in [&["status"][..], &["journal", "-n", "60"]] {
            let said = finish(self.command(arguments), Duration::from_secs(20));
            show(&arguments.join(" "), &said.to_string());
        }
        let logs = |folder: PathBuf| fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path());
        let of_instances = logs(self.home.join("instances")).flat_map(|folder| logs(folder.join("log")));
        for path in logs(self.home.join("log")).chain(of_instances) {
            show(&path.display().to_string(), &String::from_utf8_lossy(&fs::read(&path).unwrap_or_default()));
        }
    }
}

impl Drop for Ostler {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.tell_what_happened();
        }
        if !self.own_processes("keeper").is_empty() || !self.own_processes("manager").is_empty() {
            let _ = finish(self.command(&["down"]), Duration::from_secs(60));
        }
        // Ostler's own first, so that nothing is brought back; twice, because a process may just be starting another.
        for _ in 0..2 {
            for role in ["keeper", "manager", "gateway"] {
                self.own_processes(role).into_iter().for_each(|pid| signal(pid, "KILL"));
            }
            self.leftovers().into_iter().for_each(|pid| signal(pid, "KILL"));
        }
    }
}

fn find_service(status: &Value, name: &str) -> Option<Value> {
    status["services"].as_array()?.iter().find(|service| service["name"] == name).cloned()
}

fn pids_in(service: &Value) -> Vec<u32> {
    let instances = service["instances"].as_array().unwrap().iter();
    instances.filter_map(|instance| u32::try_from(instance["pid"].as_u64()?).ok()).collect()
}

/// Runs a command to its end, killing it when it takes too long.
pub(crate) fn finish(mut command: Command, within: Duration) -> Said {
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let (out, err) = (collect(child.stdout.take().unwrap()), collect(child.stderr.take().unwrap()));
    let code = ended(&mut child, within);
    let said = Said { code: code.unwrap_or(-1), out: out.join().unwrap(), err: err.join().unwrap() };
    if code.is_none() && !std::thread::panicking() {
        panic!("{command:?} did not end within {within:?}: {said}");
    }
    said
}

fn collect(mut from: impl Read + Send + 'static) -> JoinHandle<String> {
    std::thread::spawn(move || {
        let mut bytes = Vec::new();
        let _ = from.read_to_end(&mut bytes); // what came until then is told
        String::from_utf8_lossy(&bytes).into_owned()
    })
}

/// The exit code of a child (128 and the signal if one ended it); `None` if it had to be killed.
pub(crate) fn ended(child: &mut Child, within: Duration) -> Option<i32> {
    use std::os::unix::process::ExitStatusExt;
    let deadline = Instant::now() + within;
    loop {
        if let Some(status) = child.try_wait().unwrap() {
            return Some(status.code().unwrap_or_else(|| 128 + status.signal().unwrap()));
        }
        if Instant::now() > deadline {
            child.kill().unwrap();
            child.wait().unwrap();
            return None;
        }
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Waits until `is_so`, and fails the test if that does not come.
pub(crate) fn wait_until(what: &str, mut is_so: impl FnMut() -> bool) {
    let deadline = Instant::now() + WITHIN;
    while !is_so() {
        assert!(Instant::now() < deadline, "waited {WITHIN:?} in vain until {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Sends a signal; a process that is gone already needs none.
pub(crate) fn signal(pid: u32, name: &str) {
    let _ = Command::new("kill").args([&format!("-{name}"), &pid.to_string()]).stderr(Stdio::null()).status();
}

/// Ends a process at once, and waits until it is gone.
pub(crate) fn kill(pid: u32) {
    let started = start_time(pid);
    signal(pid, "KILL");
    wait_until("the killed process is gone", || is_zombie(pid) || start_time(pid) != started);
}

/// All process ids.
pub(crate) fn processes() -> Vec<u32> {
    let entries = fs::read_dir("/proc").unwrap().flatten();
    entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect()
}

/// A process's arguments, each with a NUL after it; empty if it is gone.
pub(crate) fn cmdline(pid: u32) -> String {
    String::from_utf8_lossy(&fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default()).into_owned()
}

/// A process's environment as it was given.
pub(crate) fn environment(pid: u32) -> BTreeMap<String, String> {
    let bytes = fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
    let text = String::from_utf8_lossy(&bytes).into_owned();
    text.split('\0').filter_map(|pair| pair.split_once('=')).map(|(k, v)| (k.to_owned(), v.to_owned())).collect()
}

/// The fields of `/proc/PID/stat` after the program's name: state, parent, …
fn stat(pid: u32) -> Vec<String> {
    let text = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let rest = text.rsplit_once(") ").map_or("", |(_, rest)| rest);
    rest.split(' ').map(str::to_owned).collect()
}

fn start_time(pid: u32) -> Option<String> {
    stat(pid).get(19).cloned()
}

fn parent(pid: u32) -> Option<u32> {
    stat(pid).get(1)?.parse().ok()
}

/// Whether it is dead or gone.
pub(crate) fn is_zombie(pid: u32) -> bool {
    stat(pid).first().is_none_or(|state| state == "Z" || state == "X" || state.is_empty())
}

/// Whether it stands still: it was stopped, and nobody has let it go on.
pub(crate) fn stands_still(pid: u32) -> bool {
    stat(pid).first().is_some_and(|state| state == "T")
}

/// Somebody who does the same thing again and again until told to stop.
pub(crate) struct Caller {
    stop: Arc<AtomicBool>,
    made: Arc<AtomicU64>,
    thread: Option<JoinHandle<Calls>>,
}

/// What came of the calls.
#[derive(Debug, Default)]
pub(crate) struct Calls {
    /// How many went well.
    pub(crate) fine: u64,
    /// What went wrong with the others.
    pub(crate) wrong: Vec<String>,
}

impl Caller {
    /// Calls until it is stopped.
    pub(crate) fn start(mut call: impl FnMut() -> Result<(), String> + Send + 'static) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let told = stop.clone();
        let made = Arc::new(AtomicU64::new(0));
        let count = made.clone();
        let thread = std::thread::spawn(move || {
            let mut calls = Calls::default();
            // At least one call is made after the order to stop, so that what happened last is seen too.
            loop {
                let last = told.load(Ordering::SeqCst);
                match call() {
                    Ok(()) => calls.fine += 1,
                    Err(wrong) => calls.wrong.push(wrong),
                }
                count.fetch_add(1, Ordering::SeqCst);
                if last {
                    return calls;
                }
                std::thread::sleep(Duration::from_millis(2));
            }
        });
        Self { stop, made, thread: Some(thread) }
    }

    /// Waits until a call that began after this was made is over.
    pub(crate) fn until_next(&self) {
        let before = self.made.load(Ordering::SeqCst);
        wait_until("the next call is over", || self.made.load(Ordering::SeqCst) >= before + 2);
    }

    /// One who connects and hangs up.
    pub(crate) fn connecting(to: SocketAddr) -> Self {
        Self::start(move || TcpStream::connect_timeout(&to, WITHIN).map(drop).map_err(|error| error.to_string()))
    }

    /// One who asks for a page.
    pub(crate) fn getting(from: SocketAddr, path: &'static str) -> Self {
        Self::start(move || match http::get(from, path) {
            Ok((200, _)) => Ok(()),
            Ok((status, body)) => Err(format!("answered {status}: {body}")),
            Err(error) => Err(error.to_string()),
        })
    }

    /// One who asks for a page on a connection that stays open.
    pub(crate) fn staying(from: SocketAddr, path: &'static str) -> Self {
        let mut visitor = http::Visitor::enter(from).unwrap();
        Self::start(move || match visitor.get(path) {
            Ok(200) => Ok(()),
            Ok(status) => Err(format!("answered {status}")),
            Err(error) => Err(error.to_string()),
        })
    }

    /// What came of it.
    pub(crate) fn stop(mut self) -> Calls {
        self.stop.store(true, Ordering::SeqCst);
        self.thread.take().unwrap().join().unwrap()
    }

    /// The same, where nothing may have gone wrong.
    pub(crate) fn stop_without_failure(self) {
        let calls = self.stop();
        assert!(calls.wrong.is_empty(), "{} of {} calls failed: {:?}", calls.wrong.len(), calls.fine, calls.wrong);
        assert!(calls.fine > 0);
    }
}

impl Drop for Caller {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::SeqCst);
    }
}

/// The example's program, which is built beside ostler.
pub(crate) fn web_program() -> String {
    let path = Path::new(env!("CARGO_BIN_EXE_ostler")).with_file_name("bookshop-web");
    assert!(path.exists(), "{} is missing: run `cargo build -p bookshop-web` first", path.display());
    path.to_str().unwrap().to_owned()
}

/// The versions of PostgreSQL that lie side by side for the tests, oldest first: the system's own, and what
/// `scripts/setup.sh test` brings.
pub(crate) const POSTGRESQL_VERSIONS: [&str; 4] = ["15", "16.2", "16.11", "17.10"];

impl Ostler {
    /// Lays out a folder of versions beside the estate file, and gives its path: `[provider.here] versions = …`. These of
    /// [`POSTGRESQL_VERSIONS`] are in it; [`Ostler::put_postgresql`] and [`Ostler::take_postgresql`] change that later.
    pub(crate) fn postgresql_versions(&self, versions: &[&str]) -> PathBuf {
        let folder = self.folder().join("versions");
        fs::create_dir_all(folder.join("postgresql")).unwrap();
        versions.iter().for_each(|version| self.put_postgresql(version));
        folder
    }

    /// "Installs" a version into the folder of versions.
    pub(crate) fn put_postgresql(&self, version: &str) {
        let programs = postgresql(version);
        std::os::unix::fs::symlink(programs, self.folder().join("versions/postgresql").join(version)).unwrap();
    }

    /// Takes a version out of the folder of versions again.
    pub(crate) fn take_postgresql(&self, version: &str) {
        fs::remove_file(self.folder().join("versions/postgresql").join(version)).unwrap();
    }

    /// Adds a version of the bookshop's program beside the estate file, as `releases/VERSION/bookshop-web`.
    pub(crate) fn put_release(&self, version: &str) {
        let folder = self.folder().join("releases").join(version);
        fs::create_dir_all(&folder).unwrap();
        std::os::unix::fs::symlink(web_program(), folder.join("bookshop-web")).unwrap();
    }
}

/// Where a version of PostgreSQL is installed: a folder with `bin` in it.
fn postgresql(version: &str) -> PathBuf {
    assert!(POSTGRESQL_VERSIONS.contains(&version), "the tests have no PostgreSQL {version}");
    let tools = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target/test-tools/postgresql").join(version);
    let folder = if version == "15" { PathBuf::from("/usr/lib/postgresql/15") } else { tools };
    let folder = folder.canonicalize().unwrap_or(folder);
    assert!(
        folder.join("bin/pg_restore").exists(),
        "PostgreSQL {version} is not in {}: run `scripts/setup.sh test`",
        folder.display()
    );
    folder
}

/// The head of an estate file: its name, and this machine as its provider.
pub(crate) fn head(name: &str) -> String {
    format!("[estate]\nname = \"{name}\"\n\n[provider.here]\nkind = \"host\"\nregion = \"eu-local\"\n")
}

/// A bookshop that needs nothing: it answers `/readyz` and `/style.css`. `more` are further lines of the service.
pub(crate) fn lonely(name: &str, more: &str) -> String {
    format!(
        "\n[service.{name}]\noffering = \"program\"\nrun = [\"{}\"]\nstop = {{ drain = \"2s\", grace = \"10s\" }}\n\
         probe = {{ ready = {{ http = \"/readyz\" }}, every = \"1s\", timeout = \"1s\" }}\n{more}\n",
        web_program()
    )
}

/// What a bookshop without needs has to be told. A braced table, without its braces.
pub(crate) const NOWHERE: &str =
    r#"DATABASE_URL = "postgresql://nobody@127.0.0.1:1/none", REDIS_URL = "redis://127.0.0.1:1/0""#;

/// The whole bookshop. `env` are further variables of the web program, each with a comma before it; `more` are further
/// lines of it.
pub(crate) fn bookshop(env: &str, more: &str) -> String {
    let wiring = format!(
        "needs = [\"db\", \"cache\"]\ninstances = 2\n\
         env = {{ DATABASE_URL = \"{{{{ needs.db.uri }}}}\", REDIS_URL = \"{{{{ needs.cache.uri }}}}\"{env} }}\n{more}"
    );
    let servers = "\n[service.db]\noffering = \"postgresql\"\n\n[service.cache]\noffering = \"redis\"\n";
    head("bookshop") + servers + &lonely("web", &wiring)
}

/// Writes all of `text` and reads the answer to its end.
pub(crate) fn exchange(to: SocketAddr, text: &str) -> std::io::Result<String> {
    let mut stream = TcpStream::connect_timeout(&to, WITHIN)?;
    stream.set_read_timeout(Some(WITHIN))?;
    stream.set_write_timeout(Some(WITHIN))?;
    stream.write_all(text.as_bytes())?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer)?;
    Ok(String::from_utf8_lossy(&answer).into_owned())
}
