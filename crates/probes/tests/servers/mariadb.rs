//! MariaDB, which speaks MySQL's protocol.

use std::fs;
use std::io::Write;
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::os::unix::fs::chown;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use rustix::process::Signal;

use super::{Guarded, PORT_TRIES, free_address, percent_encoded, unprivileged};

/// Where Debian keeps the tables that a server has to have before it starts.
const SYSTEM_TABLES: &str = "/usr/share/mysql/mysql_system_tables.sql";
/// Small, because a test needs hardly any room.
const SETTINGS: [&str; 5] = [
    "--no-defaults",
    "--innodb-log-file-size=4M",
    "--innodb-buffer-pool-size=8M",
    "--innodb-data-file-path=ibdata1:1M:autoextend",
    "--innodb-temp-data-file-path=ibtmp1:1M:autoextend",
];

/// A MariaDB server of its own. The user [`MariaDb::username`] may do anything in [`MariaDb::database`]. With the same
/// password, `limited` may only read there, and `admin` may do anything anywhere. `local` can only come through a Unix
/// socket.
pub struct MariaDb {
    pub address: SocketAddr,
    pub username: &'static str,
    pub password: &'static str,
    pub database: &'static str,
    user: Option<(u32, u32)>,
    process: Option<Guarded>,
    folder: tempfile::TempDir,
}

impl MariaDb {
    /// Makes a data directory and starts the server; returns when it takes connections.
    pub fn start() -> Self {
        let folder = tempfile::Builder::new().prefix("ostler-maria-").tempdir().unwrap();
        let user = unprivileged();
        fs::create_dir(folder.path().join("data")).unwrap();
        if let Some((uid, gid)) = user {
            for path in [folder.path().to_owned(), folder.path().join("data")] {
                chown(path, Some(uid), Some(gid)).unwrap();
            }
        }
        let mut server = Self {
            address: (Ipv4Addr::LOCALHOST, 0).into(),
            username: "shop",
            password: "p%40:/ä\"word",
            database: "books",
            user,
            folder,
            process: None,
        };
        server.make_tables();
        for _ in 0..PORT_TRIES {
            server.address = free_address();
            if server.try_start() {
                return server;
            }
        }
        panic!("MariaDB did not start:\n{}", server.log());
    }

    /// The address by which programs reach it.
    pub fn uri(&self) -> String {
        let Self { address, username, database, .. } = self;
        format!("mysql://{username}:{}@{address}/{database}", percent_encoded(self.password))
    }

    /// Stops it. What it has to say of its connections is in its log then.
    pub fn stop(&mut self) {
        if let Some(process) = self.process.take() {
            process.end(Signal::TERM);
        }
    }

    /// Everything that it wrote about itself.
    pub fn log(&self) -> String {
        fs::read_to_string(self.log_file()).unwrap_or_default()
    }

    /// Without a client: a server that only reads statements from its standard input makes them.
    fn make_tables(&self) {
        let (user, password, database) = (self.username, self.password, self.database);
        let tables = fs::read_to_string(SYSTEM_TABLES).expect("MariaDB is installed: scripts/setup.sh");
        let statements = format!(
            "create database mysql;\nuse mysql;\n{tables}\nflush privileges;\ncreate database {database};\n\
             create user {user}@'%' identified by '{password}';\ngrant all on {database}.* to {user}@'%';\n\
             create user limited@'%' identified by '{password}';\ngrant select on {database}.* to limited@'%';\n\
             create user admin@'%' identified by '{password}';\ngrant all on *.* to admin@'%';\n\
             create user local@'%' identified via unix_socket;\n"
        );
        let log = self.log_writer();
        let mut child = self
            .command()
            .arg("--bootstrap")
            .stdin(Stdio::piped())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn()
            .expect("MariaDB is installed: scripts/setup.sh");
        child.stdin.take().unwrap().write_all(statements.as_bytes()).unwrap();
        assert!(child.wait().unwrap().success(), "MariaDB cannot make its tables:\n{}", self.log());
    }

    fn try_start(&mut self) -> bool {
        let log = self.log_writer();
        let child = self
            .command()
            .args(["--bind-address=127.0.0.1", "--skip-name-resolve"])
            .arg(format!("--port={}", self.address.port()))
            .arg(format!("--socket={}", self.folder.path().join("socket").display()))
            .arg(format!("--pid-file={}", self.folder.path().join("pid").display()))
            // Everything that breaks is written down.
            .arg("--log-warnings=9")
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn()
            .unwrap();
        let mut process = Guarded::new(child);
        let address = self.address;
        let up = process.wait_until(|| TcpStream::connect(address).is_ok());
        self.process = up.then_some(process);
        up
    }

    fn command(&self) -> Command {
        let found = ["/usr/sbin/mariadbd", "/usr/local/sbin/mariadbd"].map(PathBuf::from).into_iter();
        let program = found.into_iter().find(|path| path.exists()).unwrap_or_else(|| "mariadbd".into());
        let mut command = Command::new(program);
        command
            .args(SETTINGS)
            .arg(format!("--datadir={}", self.folder.path().join("data").display()))
            .current_dir(self.folder.path());
        if let Some((uid, gid)) = self.user {
            command.uid(uid).gid(gid);
        }
        command
    }

    fn log_file(&self) -> PathBuf {
        self.folder.path().join("log")
    }

    fn log_writer(&self) -> fs::File {
        fs::OpenOptions::new().append(true).create(true).open(self.log_file()).unwrap()
    }
}
