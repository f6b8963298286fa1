//! Finds secrets where the estate file says that they are.
//!
//! Invariant: what is found is in no error.

use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use ostler_model::binding::Secret;
use ostler_model::estate::osb::SecretSource;
use tokio::io::AsyncReadExt;
use tokio::process::Command;
use tokio::time::timeout;

/// The longest secret.
const BYTES_MAX: u64 = 64 * 1024;
/// How long a program may take that prints one: long enough for a look into a store elsewhere.
const COMMAND_TIME: Duration = Duration::from_secs(20);

/// The secret. Programs are run in `folder`.
///
/// # Errors
/// Why there is none, in words.
pub async fn find(source: &SecretSource, folder: &Path) -> Result<Secret, String> {
    let text = match source {
        SecretSource::Env(name) => std::env::var(name).map_err(|error| match error {
            std::env::VarError::NotPresent => {
                format!("ostler was started without the environment variable `{name}`")
            }
            std::env::VarError::NotUnicode(_) => format!("the environment variable `{name}` is not UTF-8"),
        })?,
        SecretSource::File(path) => {
            let read = || {
                let mut text = String::new();
                std::io::Read::read_to_string(
                    &mut std::io::Read::take(std::fs::File::open(path)?, BYTES_MAX),
                    &mut text,
                )?;
                Ok::<_, std::io::Error>(text)
            };
            read().map_err(|error| format!("cannot read {}: {error}", path.display()))?
        }
        SecretSource::Command(command) => printed(command, folder).await?,
    };
    let text = text.strip_suffix('\n').map_or(text.as_str(), |text| text.strip_suffix('\r').unwrap_or(text));
    if text.is_empty() { Err("it is empty".to_owned()) } else { Ok(Secret::new(text)) }
}

async fn printed(command: &[String], folder: &Path) -> Result<String, String> {
    let (program, arguments) = command.split_first().ok_or("no program is named")?;
    let failed = |why: String| format!("`{program}` {why}");
    let mut child = Command::new(program)
        .args(arguments)
        .current_dir(folder)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .kill_on_drop(true)
        .spawn()
        .map_err(|error| failed(format!("cannot be run: {error}")))?;
    let stdout = child.stdout.take().ok_or_else(|| failed("has no output".to_owned()))?;
    let run = async {
        let mut text = String::new();
        stdout.take(BYTES_MAX).read_to_string(&mut text).await.map_err(|_| failed("does not print text".to_owned()))?;
        let status = child.wait().await.map_err(|error| failed(format!("cannot be waited for: {error}")))?;
        if status.success() { Ok(text) } else { Err(failed(format!("ended with {status}"))) }
    };
    timeout(COMMAND_TIME, run).await.unwrap_or_else(|_| Err(failed("did not end in time".to_owned())))
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn found(source: SecretSource) -> Result<String, String> {
        find(&source, Path::new("/")).await.map(|secret| secret.expose().to_owned())
    }

    fn command(words: &[&str]) -> SecretSource {
        SecretSource::Command(words.iter().map(|word| (*word).to_owned()).collect())
    }

    #[tokio::test]
    async fn secrets_are_found_in_files_and_in_what_programs_print() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("password");
        std::fs::write(&path, "hunter2\r\n").unwrap();
        assert_eq!(found(SecretSource::File(path)).await.unwrap(), "hunter2");
        assert_eq!(found(command(&["printf", "a\\nb\\n"])).await.unwrap(), "a\nb");
    }

    #[tokio::test]
    async fn what_is_not_found_is_told_without_what_was_found() {
        for (source, why) in [
            (SecretSource::Env("OSTLER_NO_SUCH".into()), "ostler was started without the environment variable"),
            (SecretSource::File("/no/such/file".into()), "cannot read /no/such/file"),
            (command(&["/no/such/program"]), "`/no/such/program` cannot be run"),
            (command(&["sh", "-c", "echo hunter2; exit 3"]), "`sh` ended with exit status: 3"),
            (command(&["true"]), "it is empty"),
        ] {
            let told = found(source).await.unwrap_err();
            assert!(told.starts_with(why), "{told}");
            assert!(!told.contains("hunter2"), "{told}");
        }
    }
}
