//! Which home a command is about.

use std::path::{Path, PathBuf};

use ostler_runtime::home::Home;

use crate::args::Common;
use crate::failure::{Failure, Outcome};

/// The home named on the command line, or that of the estate in `file`.
pub(crate) fn of_estate(common: &Common, name: &str) -> Outcome<Home> {
    match &common.home {
        Some(folder) => Ok(Home::at(absolute(folder))),
        None => Home::default_for(name).ok_or_else(no_state_folder),
    }
}

/// The home named on the command line; else that of the estate file in this folder; else the only one there is.
pub(crate) fn of_command(common: &Common) -> Outcome<Home> {
    if let Some(folder) = &common.home {
        return Ok(Home::at(absolute(folder)));
    }
    if let Some(name) = estate_here() {
        return of_estate(common, &name);
    }
    let state = Home::state_folder().ok_or_else(no_state_folder)?;
    let mut homes: Vec<PathBuf> = std::fs::read_dir(&state)
        .into_iter()
        .flatten()
        .flatten()
        .map(|entry| entry.path())
        .filter(|path| path.join(ostler_journal::JOURNAL_FILE).exists())
        .collect();
    homes.sort();
    match homes.as_slice() {
        [only] => Ok(Home::at(only)),
        [] => Err(Failure::new(
            "cannot tell which estate is meant",
            format!("there is no `ostler.toml` here and no home in {}", state.display()),
            "go to the folder with the estate file, or name the home with `--home DIR`",
        )),
        several => {
            let names: Vec<String> = several.iter().map(|path| path.display().to_string()).collect();
            Err(Failure::new(
                "cannot tell which estate is meant",
                format!("there are several: {}", names.join(", ")),
                "go to the folder with the estate file, or name the home with `--home DIR`",
            ))
        }
    }
}

pub(crate) fn absolute(path: &Path) -> PathBuf {
    std::path::absolute(path).unwrap_or_else(|_| path.to_owned()) // fails only for an empty path
}

fn no_state_folder() -> Failure {
    Failure::new(
        "cannot tell where the home is",
        "neither `HOME` nor `XDG_STATE_HOME` is set",
        "name the home with `--home DIR`",
    )
}

/// The name in the estate file of this folder, however wrong the rest of it may be.
fn estate_here() -> Option<String> {
    let text = std::fs::read_to_string("ostler.toml").ok()?;
    let folder = std::env::current_dir().ok()?;
    match ostler_model::estate::parse("ostler.toml", &folder, &text) {
        Ok(parsed) => Some(parsed.estate.name.to_string()),
        Err(_) => {
            let mut lines = text.lines().skip_while(|line| line.trim() != "[estate]").skip(1);
            let name = lines.find_map(|line| line.trim().strip_prefix("name")?.trim_start().strip_prefix('='))?;
            Some(name.trim().trim_matches('"').to_owned())
        }
    }
}
