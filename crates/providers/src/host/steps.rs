//! Commands that run to their end: preparing, binding, backing up.
//!
//! Invariant: a command never outlives its time or the future that waits for it (its process group is killed), and
//! never fills the memory with its output.

use std::collections::BTreeMap;
use std::fs::File;
use std::path::PathBuf;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process_group};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};
use tokio::process::Command;
use tokio::time::{Instant, timeout, timeout_at};

use super::users::Owner;

/// As much of each output stream is kept: its end, because that is where a program says why it failed.
const OUTPUT_BYTES_MAX: usize = 64 * 1024;
/// How long output is read after the program's end: a descendant may hold the pipe open.
const OUTPUT_AFTER_END: Duration = Duration::from_millis(500);
/// Lines of a failed command's errors that are quoted.
const QUOTED_LINES_MAX: usize = 8;

/// What to run. No `Debug`: environment and input hold secrets.
pub(super) struct Run {
    pub(super) program: PathBuf,
    pub(super) arguments: Vec<String>,
    pub(super) environment: BTreeMap<String, String>,
    pub(super) folder: PathBuf,
    pub(super) owner: Option<Owner>,
    pub(super) input: Input,
    pub(super) output: Output,
    pub(super) limit: Duration,
}

/// Standard input.
pub(super) enum Input {
    Nothing,
    Text(String),
    File(File),
}

/// Where the outputs go.
pub(super) enum Output {
    /// Both are kept.
    Kept,
    /// Standard output goes into this file, errors are kept.
    To(File),
    /// Both go into this file.
    Log(File),
}

/// What a command left behind.
#[derive(Debug)]
pub(super) struct Ended {
    pub(super) stdout: String,
    pub(super) stderr: String,
}

/// Why a command did not succeed. The words of the program are in it: redact before showing.
#[derive(Debug, thiserror::Error)]
pub(super) enum StepError {
    #[error("cannot execute {program}: {cause}")]
    CannotExecute { program: String, cause: std::io::Error },
    #[error("{program} did not end within {seconds} s and was killed{}", quoted(.said))]
    TooSlow { program: String, seconds: u64, said: String },
    #[error("{program} ended with {status}{}", quoted(.said))]
    Failed { program: String, status: String, said: String },
}

/// Runs it to its end.
pub(super) async fn run(run: Run) -> Result<Ended, StepError> {
    let program = run.program.display().to_string();
    let deadline = Instant::now() + run.limit;
    let limit = run.limit;
    let (mut child, input) =
        spawn(run).map_err(|cause| StepError::CannotExecute { program: program.clone(), cause })?;
    let mut group = Group(child.id().and_then(|pid| Pid::from_raw(pid.cast_signed())));
    let mut stdin = child.stdin.take();
    let feed = async {
        if let (Some(mut pipe), Input::Text(text)) = (stdin.take(), input) {
            // A program that ends without reading its input says by its status what that means.
            let _ = pipe.write_all(text.as_bytes()).await;
        }
    };
    let (mut out, mut err) = (Vec::new(), Vec::new());
    let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
    let finished = {
        let mut reading = std::pin::pin!(async {
            tokio::join!(feed, keep_end(stdout, &mut out), keep_end(stderr, &mut err));
        });
        let mut read = false;
        let status = loop {
            tokio::select! {
                status = timeout_at(deadline, child.wait()) => break status,
                () = &mut reading, if !read => read = true,
            }
        };
        if status.is_ok() {
            group.0 = None; // waited for: from here on the id may become another process's
        }
        if !read && status.is_ok() {
            let _ = timeout(OUTPUT_AFTER_END, &mut reading).await;
        }
        status
    };
    if finished.is_err() {
        group.kill();
        let _ = child.wait().await;
    }
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let (stdout, stderr) = (text(&out), text(&err));
    match finished {
        Err(_) => Err(StepError::TooSlow { program, seconds: limit.as_secs(), said: stderr }),
        Ok(Err(cause)) => Err(StepError::CannotExecute { program, cause }),
        Ok(Ok(status)) if status.success() => Ok(Ended { stdout, stderr }),
        Ok(Ok(status)) => Err(StepError::Failed { program, status: in_words(status), said: stderr }),
    }
}

fn spawn(run: Run) -> std::io::Result<(tokio::process::Child, Input)> {
    let mut command = Command::new(&run.program);
    command.args(&run.arguments).env_clear().envs(&run.environment).current_dir(&run.folder);
    command.process_group(0).kill_on_drop(true);
    if let Some(owner) = &run.owner {
        command.uid(owner.uid).gid(owner.gid);
    }
    let input = match run.input {
        Input::File(file) => {
            command.stdin(file);
            Input::Nothing
        }
        Input::Nothing => {
            command.stdin(Stdio::null());
            Input::Nothing
        }
        Input::Text(text) => {
            command.stdin(Stdio::piped());
            Input::Text(text)
        }
    };
    match run.output {
        Output::Kept => command.stdout(Stdio::piped()).stderr(Stdio::piped()),
        Output::To(file) => command.stdout(file).stderr(Stdio::piped()),
        Output::Log(file) => command.stdout(file.try_clone()?).stderr(file),
    };
    Ok((command.spawn()?, input))
}

/// Kills what is left of the command when the future that waits for it is dropped. The leader has not been waited for
/// while this holds its id, so the id cannot have become another process's.
struct Group(Option<Pid>);

impl Group {
    fn kill(&mut self) {
        if let Some(pid) = self.0.take() {
            // The group may have ended by itself; there is nothing to do about it then.
            let _ = kill_process_group(pid, Signal::KILL);
        }
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        self.kill();
    }
}

async fn keep_end(source: Option<impl AsyncRead + Unpin>, kept: &mut Vec<u8>) {
    let Some(mut source) = source else { return };
    let mut buffer = [0_u8; 8192];
    while let Ok(count) = source.read(&mut buffer).await {
        if count == 0 {
            break;
        }
        kept.extend_from_slice(&buffer[..count]);
        if kept.len() > OUTPUT_BYTES_MAX {
            kept.drain(..kept.len() - OUTPUT_BYTES_MAX);
        }
    }
}

fn in_words(status: ExitStatus) -> String {
    use std::os::unix::process::ExitStatusExt;
    match (status.code(), status.signal()) {
        (Some(code), _) => ostler_model::health::Exit::Code(code).to_string(),
        (None, Some(signal)) => ostler_model::health::Exit::Signal(signal).to_string(),
        (None, None) => ostler_model::health::Exit::Unknown.to_string(),
    }
}

fn quoted(said: &str) -> String {
    let lines: Vec<&str> = said.lines().map(str::trim_end).filter(|line| !line.is_empty()).collect();
    let last = &lines[lines.len().saturating_sub(QUOTED_LINES_MAX)..];
    if last.is_empty() { String::new() } else { format!(": {}", last.join("\n")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sh(script: &str, input: Input, limit: Duration) -> Run {
        Run {
            program: "/bin/sh".into(),
            arguments: vec!["-c".to_owned(), script.to_owned()],
            environment: BTreeMap::from([("PATH".to_owned(), "/usr/bin:/bin".to_owned())]),
            folder: "/".into(),
            owner: None,
            input,
            output: Output::Kept,
            limit,
        }
    }

    fn block<T>(future: impl Future<Output = T>) -> T {
        tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(future)
    }

    #[test]
    fn input_and_output() {
        let ended =
            block(run(sh("cat; echo no >&2", Input::Text("hello".to_owned()), Duration::from_secs(60)))).unwrap();
        assert_eq!((ended.stdout.as_str(), ended.stderr.as_str()), ("hello", "no\n"));
    }

    #[test]
    fn a_failure_quotes_the_last_lines() {
        let error = block(run(sh("seq 1 20 >&2; exit 3", Input::Nothing, Duration::from_secs(60)))).unwrap_err();
        assert_eq!(error.to_string(), "/bin/sh ended with exit code 3: 13\n14\n15\n16\n17\n18\n19\n20");
    }

    #[test]
    fn the_end_of_a_flood_is_kept() {
        let flood = sh("seq 1 200000", Input::Nothing, Duration::from_secs(60));
        let ended = block(run(flood)).unwrap();
        assert!(ended.stdout.len() <= OUTPUT_BYTES_MAX && ended.stdout.ends_with("200000\n"));
    }

    #[test]
    fn the_whole_group_ends_with_its_time() {
        // The grandchild holds the write end of a pipe; that the read end reaches its end proves the grandchild gone.
        let (reader, writer) = std::io::pipe().unwrap();
        let mut order = sh("sleep 1000 & sleep 1000", Input::Nothing, Duration::from_millis(50));
        order.output = Output::Log(std::os::fd::OwnedFd::from(writer).into());
        assert!(matches!(block(run(order)), Err(StepError::TooSlow { .. })));
        let mut rest = Vec::new();
        std::io::Read::read_to_end(&mut { reader }, &mut rest).unwrap();
    }

    #[test]
    fn a_background_process_does_not_hold_up_the_end() {
        let ended = block(run(sh("echo done; sleep 1000 & exit 0", Input::Nothing, Duration::from_secs(600)))).unwrap();
        assert_eq!(ended.stdout, "done\n");
    }
}
