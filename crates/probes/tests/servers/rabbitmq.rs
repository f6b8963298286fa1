//! RabbitMQ, with a name server of its own: the one that Erlang would start by itself would outlive the test.

use std::fs;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::os::unix::fs::{PermissionsExt, chown};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use rustix::process::Signal;

use super::{Guarded, PORT_TRIES, free_address, percent_encoded, unprivileged};

/// A RabbitMQ server of its own. The user [`RabbitMq::username`] may do anything in [`RabbitMq::virtual_host`], where
/// there are the queue `orders` and the exchange `events`. `limited` has the same password, and may only look there;
/// `stranger` too, and may not even enter.
pub struct RabbitMq {
    pub address: SocketAddr,
    pub username: &'static str,
    pub password: &'static str,
    pub virtual_host: &'static str,
    user: Option<(u32, u32)>,
    // In this order: without its name server it would start another one.
    process: Option<Guarded>,
    names: Option<Guarded>,
    names_port: u16,
    folder: tempfile::TempDir,
}

impl RabbitMq {
    /// Starts it; returns when it takes connections.
    pub fn start() -> Self {
        let folder = tempfile::Builder::new().prefix("ostler-rabbit-").tempdir().unwrap();
        let mut server = Self {
            address: (Ipv4Addr::LOCALHOST, 0).into(),
            username: "shop",
            password: "p%40:/ä'word",
            virtual_host: "books/eu",
            user: unprivileged(),
            folder,
            process: None,
            names: None,
            names_port: 0,
        };
        server.write_definitions();
        assert!((0..PORT_TRIES).any(|_| server.try_start_names()), "epmd did not start:\n{}", server.log());
        for _ in 0..PORT_TRIES {
            server.address = free_address();
            if server.try_start() {
                return server;
            }
        }
        panic!("RabbitMQ did not start:\n{}", server.log());
    }

    /// The address by which programs reach it.
    pub fn uri(&self) -> String {
        let (password, host) = (percent_encoded(self.password), percent_encoded(self.virtual_host));
        format!("amqp://{}:{password}@{}/{host}", self.username, self.address)
    }

    /// Kills it.
    pub fn stop(&mut self) {
        if let Some(process) = self.process.take() {
            process.end(Signal::KILL);
        }
    }

    /// Everything that it wrote about itself.
    pub fn log(&self) -> String {
        fs::read_to_string(self.folder.path().join("log")).unwrap_or_default()
    }

    /// Runs `rabbitmqctl`, and gives what it prints.
    pub fn control(&self, arguments: &[&str]) -> String {
        let output = self.command(&program("rabbitmqctl")).arg("--quiet").args(arguments).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    }

    fn write_definitions(&self) {
        let (host, everything, nothing) = (self.virtual_host, "\".*\"", "\"^$\"");
        let user = |name: &str| format!("{{\"name\":\"{name}\",\"password\":\"{}\",\"tags\":\"\"}}", self.password);
        let permission = |name: &str, what: &str| {
            format!(
                "{{\"user\":\"{name}\",\"vhost\":\"{host}\",\"configure\":{what},\"write\":{what},\"read\":{what}}}"
            )
        };
        let definitions = format!(
            "{{\"users\":[{},{},{}],\"vhosts\":[{{\"name\":\"{host}\"}}],\"permissions\":[{},{}],\
             \"queues\":[{{\"name\":\"orders\",\"vhost\":\"{host}\",\"durable\":true,\"auto_delete\":false,\
             \"arguments\":{{}}}}],\"exchanges\":[{{\"name\":\"events\",\"vhost\":\"{host}\",\"type\":\"fanout\",\
             \"durable\":true,\"auto_delete\":false,\"internal\":false,\"arguments\":{{}}}}]}}",
            user(self.username),
            user("limited"),
            user("stranger"),
            permission(self.username, everything),
            permission("limited", nothing),
        );
        let folder = self.folder.path();
        fs::write(folder.join("definitions.json"), definitions).unwrap();
        fs::write(folder.join("enabled_plugins"), "[].\n").unwrap();
        if let Some((uid, gid)) = self.user {
            for name in ["", "definitions.json", "enabled_plugins"] {
                chown(folder.join(name), Some(uid), Some(gid)).unwrap();
            }
        }
    }

    fn try_start_names(&mut self) -> bool {
        let address = free_address();
        self.names_port = address.port();
        let log = self.log_writer();
        let child = self
            .command(Path::new("epmd"))
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn()
            .expect("Erlang is installed: scripts/setup.sh");
        let mut process = Guarded::new(child);
        let up = process.wait_until(|| TcpStream::connect(address).is_ok());
        self.names = up.then_some(process);
        up
    }

    fn try_start(&mut self) -> bool {
        let folder = self.folder.path();
        let settings = format!(
            "listeners.tcp.1 = {}\nloopback_users = none\nlog.file = false\nlog.console = true\n\
             log.console.level = info\nload_definitions = {}\n",
            self.address,
            folder.join("definitions.json").display()
        );
        fs::write(folder.join("rabbitmq.conf"), settings).unwrap();
        fs::set_permissions(folder.join("rabbitmq.conf"), fs::Permissions::from_mode(0o644)).unwrap();
        let log = self.log_writer();
        let child = self
            .command(&program("rabbitmq-server"))
            .env("RABBITMQ_DIST_PORT", free_address().port().to_string())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn()
            .unwrap();
        let mut process = Guarded::new(child);
        let address = self.address;
        let up = process.wait_until(|| answers(address));
        self.process = up.then_some(process);
        up
    }

    /// A program of RabbitMQ or Erlang, with everything that it would keep elsewhere in the test's folder.
    fn command(&self, program: &Path) -> Command {
        let folder = self.folder.path();
        let mut command = Command::new(program);
        command
            .current_dir(folder)
            .stdin(Stdio::null())
            .env("HOME", folder)
            .env("LANG", "C.UTF-8")
            .env("ERL_EPMD_ADDRESS", "127.0.0.1")
            .env("ERL_EPMD_PORT", self.names_port.to_string())
            .env("RABBITMQ_NODENAME", format!("ostler-{}@localhost", self.names_port))
            .env("RABBITMQ_CONF_ENV_FILE", "/dev/null")
            .env("RABBITMQ_CONFIG_FILE", folder.join("rabbitmq.conf"))
            .env("RABBITMQ_ENABLED_PLUGINS_FILE", folder.join("enabled_plugins"))
            .env("RABBITMQ_MNESIA_BASE", folder.join("data"))
            .env("RABBITMQ_LOG_BASE", folder.join("logs"))
            .env("RABBITMQ_PID_FILE", folder.join("pid"))
            // Without a shell between: whom we signal is the server.
            .env("RABBITMQ_ALLOW_INPUT", "1")
            .env("RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS", "-noinput +S 1:1");
        if let Some((uid, gid)) = self.user {
            command.uid(uid).gid(gid);
        }
        command
    }

    fn log_writer(&self) -> fs::File {
        fs::OpenOptions::new().append(true).create(true).open(self.folder.path().join("log")).unwrap()
    }
}

/// It has begun to speak AMQP.
fn answers(address: SocketAddr) -> bool {
    let Ok(mut stream) = TcpStream::connect(address) else { return false };
    stream.set_read_timeout(Some(Duration::from_secs(5))).is_ok()
        && stream.write_all(b"AMQP\x00\x00\x09\x01").is_ok()
        && stream.read_exact(&mut [0; 8]).is_ok()
}

/// Debian's wrappers in `PATH` refuse everybody but RabbitMQ's own user; behind them are the programs.
fn program(name: &str) -> PathBuf {
    let debian = Path::new("/usr/lib/rabbitmq/bin").join(name);
    if debian.exists() { debian } else { name.into() }
}
