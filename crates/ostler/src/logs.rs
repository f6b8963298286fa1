//! `ostler logs`: what instances have written, from the files in the home.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::time::Duration;

use ostler_model::ids::{InstanceId, ServiceName};
use ostler_model::nearest::nearest;
use ostler_runtime::home::Home;

use crate::args::{Common, Logs};
use crate::commands::print_json;
use crate::failure::{Failure, Outcome};

/// At most so much of each file is read for its last lines.
const TAIL_BYTES_MAX: u64 = 4 * 1024 * 1024;
/// How often a followed file is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(200);

pub(crate) async fn show(home: &Home, arguments: &Logs, common: &Common) -> Outcome {
    let mut files = files(home, &arguments.name)?;
    let several = files.len() > 1;
    for file in &mut files {
        let lines = file.last_lines(arguments.lines).map_err(|error| {
            Failure::of(format!("cannot read {}", file.path.display()), &error, "check its permissions")
        })?;
        for line in lines {
            print_line(common, &file.instance, &line, several);
        }
    }
    if !arguments.follow {
        return Ok(());
    }
    loop {
        tokio::time::sleep(LOOK_EVERY).await;
        for file in &mut files {
            // A file that cannot be read this once (it is being rotated) is read at the next look.
            for line in file.new_lines().unwrap_or_default() {
                print_line(common, &file.instance, &line, several);
            }
        }
        let _ = io::stdout().flush(); // a reader that is gone ends the command at its next write
    }
}

fn print_line(common: &Common, instance: &InstanceId, line: &str, several: bool) {
    if common.json {
        print_json(&serde_json::json!({ "instance": instance, "line": line }));
    } else if several {
        anstream::println!("{instance}  {line}");
    } else {
        anstream::println!("{line}");
    }
}

struct LogFile {
    instance: InstanceId,
    path: PathBuf,
    inode: u64,
    read: u64,
}

fn files(home: &Home, name: &str) -> Outcome<Vec<LogFile>> {
    let instances = home.folder().join("instances");
    let mut found: Vec<InstanceId> = std::fs::read_dir(&instances)
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.parse::<InstanceId>().ok())
        .collect();
    found.sort();
    let service: Option<ServiceName> = name.parse().ok();
    let wanted = |id: &&InstanceId| id.to_string() == name || service.as_ref() == Some(id.service());
    let files: Vec<LogFile> = found
        .iter()
        .filter(wanted)
        .map(|id| LogFile {
            instance: id.clone(),
            path: instances.join(id.to_string()).join("log").join(format!("{id}.log")),
            inode: 0,
            read: 0,
        })
        .collect();
    if files.is_empty() {
        let names: Vec<String> = found.iter().map(ToString::to_string).collect();
        let services: Vec<&str> = found.iter().map(|id| id.service().as_str()).collect();
        let there = format!("there are: {}", names.join(", "));
        let there = match nearest(name, names.iter().map(String::as_str).chain(services)) {
            _ if names.is_empty() => "there are none yet".to_owned(),
            Some(nearest) => format!("did you mean `{nearest}`? If not, {there}"),
            None => there,
        };
        return Err(Failure::new(
            format!("cannot show the log of `{name}`"),
            "no service or instance of this name has one",
            there,
        ));
    }
    Ok(files)
}

impl LogFile {
    fn last_lines(&mut self, most: usize) -> io::Result<Vec<String>> {
        let mut file = match File::open(&self.path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()), // never started
            Err(error) => return Err(error),
        };
        let metadata = file.metadata()?;
        let from = metadata.len().saturating_sub(TAIL_BYTES_MAX);
        let text = read_from(&mut file, from)?;
        self.inode = metadata.ino();
        self.read = from + text.len() as u64;
        let text = String::from_utf8_lossy(&text);
        let lines: Vec<String> = text.lines().map(shown).collect();
        Ok(lines[lines.len().saturating_sub(most)..].to_vec())
    }

    /// Whole lines that were written since the last look. Rotation copies the file and empties it.
    fn new_lines(&mut self) -> io::Result<Vec<String>> {
        let mut file = File::open(&self.path)?;
        let metadata = file.metadata()?;
        if metadata.ino() != self.inode || metadata.len() < self.read {
            (self.inode, self.read) = (metadata.ino(), 0);
        }
        let text = read_from(&mut file, self.read)?;
        let whole = text.iter().rposition(|byte| *byte == b'\n').map_or(0, |end| end + 1);
        self.read += whole as u64;
        Ok(String::from_utf8_lossy(&text[..whole]).lines().map(shown).collect())
    }
}

fn read_from(file: &mut File, from: u64) -> io::Result<Vec<u8>> {
    file.seek(SeekFrom::Start(from))?;
    let mut text = Vec::new();
    Read::by_ref(file).take(TAIL_BYTES_MAX).read_to_end(&mut text)?;
    Ok(text)
}

/// What a program wrote must not be able to steer the reader's terminal.
fn shown(line: &str) -> String {
    line.chars().map(|c| if c.is_control() && c != '\t' { '\u{fffd}' } else { c }).collect()
}
