//! A check command: it is run in the instance's environment, and exits with 0.
//! Invariant: when the probe is over, however it ends, the command and all that it started in its process group is dead.

use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use ostler_model::health::{Exit, Symptom, SymptomKind};
use rustix::process::{Pid, Signal, kill_process_group};
use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::process::{Child, Command};

use crate::{Target, symptom};

const OUTPUT_BYTES_MAX: usize = 4 * 1024;
/// How long, after the command ended, something it started may keep its output open before we stop listening.
const AFTERWORD: Duration = Duration::from_millis(100);

pub(crate) async fn probe(command: &[String], target: &Target) -> Result<(), Symptom> {
    let Some((program, arguments)) = command.split_first() else {
        return Err(symptom::symptom(SymptomKind::Unknown, "the check command is empty"));
    };
    let mut child = start(program, arguments, target).map_err(|error| {
        let said = symptom::quote(&error.to_string(), target);
        symptom::symptom(SymptomKind::Unknown, format!("cannot run the check command {program}: {said}"))
    })?;
    let group = Group::of(&child);
    let mut output = Output { out: child.stdout.take(), err: child.stderr.take(), text: Vec::new() };
    let status = tokio::select! {
        status = child.wait() => Some(status),
        () = output.read() => None,
    };
    let status = match status {
        Some(status) => {
            let _ = tokio::time::timeout(AFTERWORD, output.read()).await;
            status
        }
        None => child.wait().await,
    };
    drop(group);
    let status = status.map_err(|error| {
        symptom::symptom(SymptomKind::Unknown, format!("cannot learn how the check command ended: {error}"))
    })?;
    if status.success() {
        return Ok(());
    }
    let said = symptom::quote(&String::from_utf8_lossy(&output.text), target);
    let colon = if said.is_empty() { "" } else { ": " };
    let ended = format!("the check command {program} ended with {}{colon}{said}", exit(status));
    Err(symptom::symptom(SymptomKind::WrongAnswer, ended))
}

fn start(program: &str, arguments: &[String], target: &Target) -> std::io::Result<Child> {
    let mut command = Command::new(located(program, &target.folder));
    command
        .args(arguments)
        .env_clear()
        .envs(&target.environment)
        .current_dir(&target.folder)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .process_group(0)
        .kill_on_drop(true);
    if let Some(user) = target.user {
        command.uid(user.uid).gid(user.gid);
    }
    command.spawn()
}

/// A relative path starts at the target's folder; a bare name is looked for in the environment's `PATH`.
fn located(program: &str, folder: &Path) -> PathBuf {
    if program.contains('/') { folder.join(program) } else { PathBuf::from(program) }
}

fn exit(status: ExitStatus) -> Exit {
    match (status.code(), status.signal()) {
        (Some(code), _) => Exit::Code(code),
        (None, Some(signal)) => Exit::Signal(signal),
        (None, None) => Exit::Unknown,
    }
}

/// Kills the whole process group when it is dropped. A group outlives its leader while it has members, and the kernel
/// gives no new process the number of a group that exists; between the leader's end and this signal an empty group's
/// number could be given away, which takes as many starts as there are process ids.
struct Group(Option<Pid>);

impl Group {
    fn of(child: &Child) -> Self {
        Self(child.id().and_then(|id| i32::try_from(id).ok()).and_then(Pid::from_raw))
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        if let Some(leader) = self.0 {
            // An error says that nothing of it is left.
            let _ = kill_process_group(leader, Signal::KILL);
        }
    }
}

/// Both output streams, mixed as they come, kept up to a bound and read beyond it, so that the command never blocks.
struct Output<A, B> {
    out: Option<A>,
    err: Option<B>,
    text: Vec<u8>,
}

impl<A: AsyncRead + Unpin, B: AsyncRead + Unpin> Output<A, B> {
    /// Reads until both streams end. May be dropped and called again.
    async fn read(&mut self) {
        let (mut from_out, mut from_err) = ([0; 1024], [0; 1024]);
        while self.out.is_some() || self.err.is_some() {
            tokio::select! {
                read = next(&mut self.out, &mut from_out) => keep(&mut self.text, &from_out[..read]),
                read = next(&mut self.err, &mut from_err) => keep(&mut self.text, &from_err[..read]),
            }
        }
    }
}

/// The next bytes of a stream; at its end (or error, which ends it as well) the stream is taken away, and after that
/// this never returns.
async fn next<S: AsyncRead + Unpin>(stream: &mut Option<S>, into: &mut [u8]) -> usize {
    let Some(open) = stream else { return std::future::pending().await };
    let read = open.read(into).await.unwrap_or(0);
    if read == 0 {
        *stream = None;
    }
    read
}

fn keep(text: &mut Vec<u8>, read: &[u8]) {
    let room = OUTPUT_BYTES_MAX - text.len();
    text.extend_from_slice(&read[..read.len().min(room)]);
}
