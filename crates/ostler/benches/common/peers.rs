//! The other supervisors, each as its own documentation has it run.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::common::{FOLDER_VARIABLE, Supervisor, is_found};

/// How one is run.
pub(crate) struct Peer {
    pub(crate) name: &'static str,
    /// `default`, or the knob that was turned.
    pub(crate) setting: &'static str,
    /// Its program.
    pub(crate) program: &'static str,
    pub(crate) start: fn(&Path, u16) -> Supervisor,
}

/// Those that exist for Debian or from npm; the ones that are not installed are named as missing.
pub(crate) const ALL: &[Peer] = &[
    Peer { name: "runit", setting: "default", program: "runsv", start: runit },
    Peer { name: "daemontools", setting: "default", program: "supervise", start: daemontools },
    Peer { name: "s6", setting: "default", program: "s6-supervise", start: |tiny, port| s6(tiny, port, false) },
    Peer { name: "s6", setting: "readiness", program: "s6-supervise", start: |tiny, port| s6(tiny, port, true) },
    Peer { name: "pm2", setting: "default", program: "pm2", start: pm2 },
    Peer { name: "supervisord", setting: "default", program: "supervisord", start: |t, p| supervisord(t, p, "") },
    Peer {
        name: "supervisord",
        setting: "startsecs=0",
        program: "supervisord",
        start: |tiny, port| supervisord(tiny, port, "startsecs=0\n"),
    },
    Peer { name: "monit", setting: "daemon 1", program: "monit", start: monit },
];

/// Supervisors that are not on this machine.
pub(crate) fn missing() -> Vec<&'static str> {
    let known = ["systemctl", "finit", "supervise-daemon", "circusd"];
    let found = |program: &str| if program == "pm2" { pm2_program().is_some() } else { is_found(program) };
    let mut all: Vec<&str> = ALL.iter().map(|peer| peer.program).chain(known).collect();
    all.dedup();
    all.retain(
        |program| if *program == "systemctl" { !Path::new("/run/systemd/system").exists() } else { !found(program) },
    );
    all
}

pub(crate) fn found() -> impl Iterator<Item = &'static Peer> {
    ALL.iter().filter(|peer| if peer.program == "pm2" { pm2_program().is_some() } else { is_found(peer.program) })
}

/// A service folder as runit, daemontools and s6 read it.
pub(crate) fn service_folder(folder: &Path, tiny: &Path, port: u16, before: &str) {
    fs::create_dir_all(folder).unwrap();
    executable(&folder.join("run"), &format!("#!/bin/sh\n{before}exec {} {port}\n", tiny.display()));
}

fn executable(path: &Path, text: &str) {
    fs::write(path, text).unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
}

fn runit(tiny: &Path, port: u16) -> Supervisor {
    let folder = tempfile::tempdir().unwrap();
    service_folder(&folder.path().join("tiny"), tiny, port, "");
    Supervisor::start(folder, Command::new("runsv").arg("tiny"))
}

fn daemontools(tiny: &Path, port: u16) -> Supervisor {
    let folder = tempfile::tempdir().unwrap();
    service_folder(&folder.path().join("tiny"), tiny, port, "");
    Supervisor::start(folder, Command::new("supervise").arg("tiny"))
}

/// s6 does not wait a second before it starts what had said that it was ready.
fn s6(tiny: &Path, port: u16, says_ready: bool) -> Supervisor {
    let folder = tempfile::tempdir().unwrap();
    let service = folder.path().join("tiny");
    service_folder(&service, tiny, port, if says_ready { "echo >&3\nexec 3>&-\n" } else { "" });
    if says_ready {
        fs::write(service.join("notification-fd"), "3\n").unwrap();
    }
    Supervisor::start(folder, Command::new("s6-supervise").arg("tiny"))
}

fn supervisord(tiny: &Path, port: u16, more: &str) -> Supervisor {
    let folder = tempfile::tempdir().unwrap();
    let command = format!("{} {port}", tiny.display());
    let text = format!("[supervisord]\nnodaemon=true\n\n[program:tiny]\ncommand={command}\nautorestart=true\n{more}");
    fs::write(folder.path().join("supervisord.conf"), text).unwrap();
    Supervisor::start(folder, Command::new("supervisord").args(["-n", "-c", "supervisord.conf"]))
}

/// It looks every so many seconds; Debian's setting is 120, the least is 1.
fn monit(tiny: &Path, port: u16) -> Supervisor {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name).display().to_string();
    executable(
        &folder.path().join("start"),
        // Its environment is not its start program's.
        &format!(
            "#!/bin/sh\n{FOLDER_VARIABLE}={} {} {port} >/dev/null 2>&1 </dev/null &\necho $! > {}\n",
            folder.path().display(),
            tiny.display(),
            at("pid")
        ),
    );
    let conf = folder.path().join("monitrc");
    let text = format!(
        "set daemon 1\nset pidfile {}\nset idfile {}\nset statefile {}\ncheck process tiny with pidfile {}\n  start program = \"{}\"\n",
        at("monit.pid"),
        at("monit.id"),
        at("monit.state"),
        at("pid"),
        at("start"),
    );
    fs::write(&conf, text).unwrap();
    fs::set_permissions(&conf, fs::Permissions::from_mode(0o600)).unwrap();
    Supervisor::start(folder, Command::new("monit").arg("-I").arg("-c").arg(conf))
}

/// From npm, put there by `scripts/setup.sh bench`.
pub(crate) fn pm2_program() -> Option<PathBuf> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target/bench-tools/node_modules/.bin/pm2");
    path.canonicalize().ok()
}

fn pm2(tiny: &Path, port: u16) -> Supervisor {
    let folder = tempfile::tempdir().unwrap();
    let started = Command::new(pm2_program().unwrap())
        .env("PM2_HOME", folder.path())
        .env(FOLDER_VARIABLE, folder.path())
        .arg("start")
        .arg(tiny)
        .args(["--interpreter", "none", "--name", "tiny", "--", &port.to_string()])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .unwrap();
    assert!(started.success(), "pm2 does not start");
    let pid = fs::read_to_string(folder.path().join("pm2.pid")).unwrap();
    Supervisor::in_background(folder, pid.trim().parse().unwrap())
}
