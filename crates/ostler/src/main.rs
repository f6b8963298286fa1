//! The command line: arguments in, words out.

mod args;
mod client;
mod commands;
mod failure;
mod logs;
mod place;
mod processes;
mod show;
mod unit;
mod up;

use std::process::ExitCode;

use clap::Parser;

use crate::args::{Cli, Command, Process};
use crate::failure::{EXIT_FAILURE, EXIT_USAGE, Failure, Outcome};

fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            // Help and version are answers, not errors.
            let code = if error.use_stderr() { EXIT_USAGE } else { 0 };
            let _ = error.print(); // nowhere left to say that it could not be said
            return ExitCode::from(code);
        }
    };
    let json = cli.common.json;
    match run(cli) {
        Ok(code) => ExitCode::from(code),
        Err(failure) => {
            failure.show(json);
            ExitCode::from(EXIT_FAILURE)
        }
    }
}

fn run(cli: Cli) -> Outcome<u8> {
    let Cli { command, common } = cli;
    if let Command::Process(process) = &command {
        let home = place::of_command(&common)?;
        return match process {
            Process::Keeper => processes::keeper(&home),
            Process::Gateway => processes::gateway(&home),
            Process::Manager { accept_lost_tail } => processes::manager(&home, *accept_lost_tail),
        }
        .map(|()| 0);
    }
    let tasks = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::of("cannot start", &error, "free some memory or open files"))?;
    tasks.block_on(commands::run(command, &common))
}
