//! The command line: arguments in, words out.

mod args;
mod audit;
mod backups;
mod books;
mod client;
mod commands;
mod credits;
mod drill;
mod failover;
mod failure;
#[cfg(debug_assertions)]
mod faulty;
mod logs;
mod overrides;
mod own;
mod place;
mod processes;
mod provide;
mod provider;
mod scorecard;
mod self_upgrade;
mod show;
mod simulate;
mod unit;
mod up;
mod upgrade;
mod verify;

use std::process::ExitCode;

use clap::Parser;

use crate::args::{Cli, Command, Process};
use crate::failure::{EXIT_FAILURE, EXIT_USAGE, Failure, Outcome};

fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => return not_a_command(&error),
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

/// Help and version are answers, not errors.
fn not_a_command(error: &clap::Error) -> ExitCode {
    if error.kind() == clap::error::ErrorKind::DisplayVersion {
        anstream::println!("{}", processes::version());
        return ExitCode::SUCCESS;
    }
    // What was not understood cannot be asked for this; whatever follows `--` is no option.
    let json = std::env::args_os().skip(1).take_while(|word| word != "--").any(|word| word == "--json");
    match (error.use_stderr(), json) {
        (true, true) => Failure::of_usage(error).show(true),
        // Nowhere is left to say that it could not be said.
        (true, false) | (false, _) => drop(error.print()),
    }
    ExitCode::from(if error.use_stderr() { EXIT_USAGE } else { 0 })
}

fn run(cli: Cli) -> Outcome<u8> {
    let Cli { command, common } = cli;
    if let Command::Process(process) = &command {
        let home = place::of_command(&common)?;
        #[cfg(debug_assertions)]
        faulty::be_faulty(process.name(), &home);
        return match process {
            Process::Keeper { resume, refused } => processes::keeper(&home, *resume, refused.clone()),
            Process::DryRun { at } => processes::dry_run(&home, *at),
            Process::Gateway => processes::gateway(&home),
            Process::Still(still) => processes::hold_still(&home, still),
            Process::Fill(fill) => processes::fill(&home, fill),
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
