//! Real servers for tests: PostgreSQL, Redis, MariaDB and RabbitMQ from this machine, in a temporary folder, on a free port.
//!
//! Each is gone when its value is dropped, also when the test fails; and if the test itself is killed, a small watchdog
//! (a shell that waits for its standard input to close) takes the server along. Needs the standard library, `tempfile`
//! and `rustix` (features `net`, `process`), so that other crates can include it:
//! `#[path = "../../probes/tests/servers/mod.rs"] mod servers;`
#![allow(dead_code, reason = "who includes it seldom needs all of it")]
#![allow(clippy::unwrap_used, clippy::panic, unreachable_pub, reason = "helpers of tests")]

use std::fs;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::os::unix::fs::{PermissionsExt, chown};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

pub mod mariadb;
pub mod rabbitmq;

/// How long a server may take to start or stop on a very slow machine before the test gives up.
const PATIENCE: Duration = Duration::from_secs(120);
/// Between finding a free port and taking it somebody else may take it; then another one is tried.
const PORT_TRIES: usize = 10;

/// A PostgreSQL server of its own, with one superuser.
pub struct Postgres {
    pub address: SocketAddr,
    pub username: &'static str,
    pub password: &'static str,
    pub database: &'static str,
    programs: PathBuf,
    user: Option<(u32, u32)>,
    folder: tempfile::TempDir,
    process: Option<Guarded>,
}

impl Postgres {
    /// Makes a cluster and starts it; returns when it takes queries.
    pub fn start() -> Self {
        let folder = tempfile::Builder::new().prefix("ostler-pg-").tempdir().unwrap();
        let user = unprivileged();
        if let Some((uid, gid)) = user {
            chown(folder.path(), Some(uid), Some(gid)).unwrap();
        }
        let mut server = Self {
            address: (Ipv4Addr::LOCALHOST, 0).into(),
            username: "shop",
            password: "p%40:/ä'word", // what breaks naive quoting
            database: "postgres",
            programs: postgres_programs(),
            user,
            folder,
            process: None,
        };
        server.make_cluster();
        for _ in 0..PORT_TRIES {
            server.address = free_address();
            if server.try_start() {
                return server;
            }
        }
        panic!("PostgreSQL did not start:\n{}", server.log());
    }

    /// The address by which programs reach it.
    pub fn uri(&self) -> String {
        let Self { address, username, database, .. } = self;
        format!("postgresql://{username}:{}@{address}/{database}", percent_encoded(self.password))
    }

    /// Stops it at once, as a power cut would. The data stays.
    pub fn stop(&mut self) {
        if let Some(process) = self.process.take() {
            process.end(Signal::QUIT);
        }
    }

    /// Starts it again at the same address, on the same data.
    pub fn start_again(&mut self) {
        assert!(self.process.is_none(), "it runs already");
        assert!(self.try_start(), "PostgreSQL did not start again:\n{}", self.log());
    }

    /// Runs SQL with `psql`, and gives what it prints, unaligned and without headers.
    pub fn sql(&self, sql: &str) -> String {
        let output = Command::new("psql")
            .args(["-XAtq", "-v", "ON_ERROR_STOP=1", "-h", "127.0.0.1", "-U", self.username, "-d", self.database])
            .args(["-p", &self.address.port().to_string(), "-c", sql])
            .env("PGPASSWORD", self.password)
            .output()
            .expect("psql is installed: scripts/setup.sh");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap().trim_end().to_owned()
    }

    fn make_cluster(&self) {
        let password_file = self.folder.path().join("password");
        fs::write(&password_file, self.password).unwrap();
        if let Some((uid, gid)) = self.user {
            chown(&password_file, Some(uid), Some(gid)).unwrap();
        }
        let output = self
            .command("initdb")
            .args(["--no-sync", "--encoding=UTF8", "--locale=C.UTF-8", "--auth=scram-sha-256"])
            .arg(format!("--username={}", self.username))
            .arg(format!("--pwfile={}", password_file.display()))
            .arg(self.data())
            .output()
            .unwrap();
        assert!(output.status.success(), "initdb failed: {}", String::from_utf8_lossy(&output.stderr));
    }

    fn try_start(&mut self) -> bool {
        let log = fs::OpenOptions::new().append(true).create(true).open(self.log_file()).unwrap();
        let port = self.address.port().to_string();
        let child = self
            .command("postgres")
            .arg("-D")
            .arg(self.data())
            // No Unix socket: its path could be too long, and nobody here wants one.
            .args(["-h", "127.0.0.1", "-p", &port, "-k", "", "-F", "-c", "max_connections=50"])
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn()
            .unwrap();
        let mut process = Guarded::new(child);
        // The eighth line of this file says how far the start has come.
        let status = self.data().join("postmaster.pid");
        let is_up = || {
            fs::read_to_string(&status).is_ok_and(|text| text.lines().nth(7).is_some_and(|l| l.starts_with("ready")))
        };
        let up = process.wait_until(is_up);
        self.process = up.then_some(process);
        up
    }

    fn command(&self, program: &str) -> Command {
        let mut command = Command::new(self.programs.join(program));
        command.current_dir(self.folder.path()).stdin(Stdio::null()).env_remove("PGDATA");
        if let Some((uid, gid)) = self.user {
            command.uid(uid).gid(gid);
        }
        command
    }

    fn data(&self) -> PathBuf {
        self.folder.path().join("data")
    }

    fn log_file(&self) -> PathBuf {
        self.folder.path().join("log")
    }

    fn log(&self) -> String {
        fs::read_to_string(self.log_file()).unwrap_or_default()
    }
}

/// A Redis server of its own. The default user has [`Redis::password`]; the user [`Redis::username`] has the same one.
pub struct Redis {
    pub address: SocketAddr,
    pub username: &'static str,
    pub password: &'static str,
    folder: tempfile::TempDir,
    process: Option<Guarded>,
}

impl Redis {
    /// Starts it; returns when it answers.
    pub fn start() -> Self {
        let folder = tempfile::Builder::new().prefix("ostler-redis-").tempdir().unwrap();
        let address = (Ipv4Addr::LOCALHOST, 0).into();
        let mut server = Self { address, username: "shop", password: "s3same-öffne", folder, process: None };
        for _ in 0..PORT_TRIES {
            server.address = free_address();
            if server.try_start() {
                return server;
            }
        }
        panic!("Redis did not start:\n{}", server.log());
    }

    /// The address by which programs reach it.
    pub fn uri(&self) -> String {
        format!("redis://{}:{}@{}/0", self.username, percent_encoded(self.password), self.address)
    }

    /// Kills it. Its data is gone.
    pub fn stop(&mut self) {
        if let Some(process) = self.process.take() {
            process.end(Signal::KILL);
        }
    }

    /// Starts it again at the same address, empty.
    pub fn start_again(&mut self) {
        assert!(self.process.is_none(), "it runs already");
        assert!(self.try_start(), "Redis did not start again:\n{}", self.log());
    }

    fn try_start(&mut self) -> bool {
        let folder = self.folder.path();
        let (port, password, username) = (self.address.port(), self.password, self.username);
        let settings = format!(
            "bind 127.0.0.1\nport {port}\ndir {}\nsave \"\"\nappendonly no\nrequirepass {password}\n\
             user {username} on >{password} ~* &* +@all\nuser limited on >{password} ~* +get\n",
            folder.display()
        );
        let file = folder.join("redis.conf");
        fs::write(&file, settings).unwrap();
        fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).unwrap();
        let log = fs::OpenOptions::new().append(true).create(true).open(folder.join("log")).unwrap();
        let child = Command::new("redis-server")
            .arg(&file)
            .current_dir(folder)
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn()
            .expect("redis-server is installed: scripts/setup.sh");
        let mut process = Guarded::new(child);
        let address = self.address;
        let up = process.wait_until(|| answers_ping(address));
        self.process = up.then_some(process);
        up
    }

    fn log(&self) -> String {
        fs::read_to_string(self.folder.path().join("log")).unwrap_or_default()
    }
}

/// A local address on which nobody listens, and nobody else can listen as long as this lives.
pub struct Deaf {
    pub address: SocketAddr,
    _bound: rustix::fd::OwnedFd,
}

impl Deaf {
    pub fn new() -> Self {
        use rustix::net::{AddressFamily, SocketType, bind, getsockname, socket};
        let bound = socket(AddressFamily::INET, SocketType::STREAM, None).unwrap();
        bind(&bound, &SocketAddr::from((Ipv4Addr::LOCALHOST, 0))).unwrap();
        let address = SocketAddr::try_from(getsockname(&bound).unwrap()).unwrap();
        Self { address, _bound: bound }
    }
}

impl Default for Deaf {
    fn default() -> Self {
        Self::new()
    }
}

/// Waits until `is_so`, at most [`PATIENCE`]; says whether it came to be so.
pub fn wait_until(mut is_so: impl FnMut() -> bool) -> bool {
    let begin = Instant::now();
    while begin.elapsed() < PATIENCE {
        if is_so() {
            return true;
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    is_so()
}

/// `text` as it may stand in a URI.
pub fn percent_encoded(text: &str) -> String {
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"-._~".contains(&b);
    text.bytes().map(|b| if plain(b) { char::from(b).to_string() } else { format!("%{b:02X}") }).collect()
}

/// A local address that was free a moment ago.
pub fn free_address() -> SocketAddr {
    TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap()
}

/// A server process that does not outlive this value, nor the test.
pub struct Guarded {
    child: Child,
    watchdog: Child,
}

impl Guarded {
    pub fn new(child: Child) -> Self {
        let watchdog = Command::new("sh")
            .args(["-c", "read -r _; kill -QUIT \"$1\"; sleep 5; kill -KILL \"$1\"", "watchdog"])
            .arg(child.id().to_string())
            .stdin(Stdio::piped()) // closes when the test ends, however it ends
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .process_group(0) // what ends the tests' group must leave it its work
            .spawn()
            .unwrap();
        Self { child, watchdog }
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Waits until `is_so` or the process has ended; says whether it is so.
    pub fn wait_until(&mut self, mut is_so: impl FnMut() -> bool) -> bool {
        let child = &mut self.child;
        let mut ended = false;
        let up = wait_until(|| {
            ended = child.try_wait().unwrap().is_some();
            ended || is_so()
        });
        up && !ended
    }

    /// Sends `signal`, and returns when the process has ended.
    pub fn end(mut self, signal: Signal) {
        self.send(signal);
        self.ended();
    }

    /// Returns how the process ended, when it has.
    pub fn ended(&mut self) -> ExitStatus {
        let child = &mut self.child;
        let mut status = None;
        assert!(wait_until(|| {
            status = child.try_wait().unwrap();
            status.is_some()
        }));
        status.unwrap()
    }

    /// Sends `signal`.
    pub fn send(&self, signal: Signal) {
        let pid = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw).unwrap();
        let _ = kill_process(pid, signal);
    }
}

impl Drop for Guarded {
    fn drop(&mut self) {
        // First, so that it cannot hit whoever gets the server's number afterwards.
        let _ = self.watchdog.kill();
        let _ = self.watchdog.wait();
        if matches!(self.child.try_wait(), Ok(None)) {
            // PostgreSQL ends its children on SIGQUIT, and could not on SIGKILL.
            self.send(Signal::QUIT);
            let child = &mut self.child;
            if !wait_until(|| !matches!(child.try_wait(), Ok(None))) {
                let _ = self.child.kill();
                let _ = self.child.wait();
            }
        }
    }
}

fn answers_ping(address: SocketAddr) -> bool {
    let Ok(mut stream) = TcpStream::connect(address) else { return false };
    let mut answer = [0; 64];
    stream.set_read_timeout(Some(Duration::from_secs(5))).is_ok()
        && stream.write_all(b"PING\r\n").is_ok()
        && stream.read(&mut answer).is_ok_and(|read| answer[..read].starts_with(b"-NOAUTH"))
}

fn postgres_programs() -> PathBuf {
    let mut versions: Vec<PathBuf> = fs::read_dir("/usr/lib/postgresql")
        .map(|folders| folders.flatten().map(|entry| entry.path().join("bin")).collect())
        .unwrap_or_default();
    versions.extend(std::env::var_os("PATH").iter().flat_map(|path| std::env::split_paths(path).collect::<Vec<_>>()));
    versions
        .into_iter()
        .find(|folder| folder.join("postgres").exists() && folder.join("initdb").exists())
        .expect("PostgreSQL is installed: scripts/setup.sh")
}

/// The user and group to run servers as that refuse root; `None` where this is not root.
pub fn unprivileged() -> Option<(u32, u32)> {
    if !rustix::process::geteuid().is_root() {
        return None;
    }
    let users = fs::read_to_string(Path::new("/etc/passwd")).unwrap();
    let find = |name: &str| {
        let fields: Vec<&str> = users.lines().map(|l| l.split(':').collect::<Vec<_>>()).find(|f| f[0] == name)?;
        Some((fields.get(2)?.parse().ok()?, fields.get(3)?.parse().ok()?))
    };
    Some(find("postgres").or_else(|| find("nobody")).expect("every Linux has the user nobody"))
}
