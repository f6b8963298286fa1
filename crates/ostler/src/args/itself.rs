//! The grammar of what concerns ostler itself: its knowledge, its builds, its processes.

use std::path::PathBuf;

use clap::{Args, Subcommand};

#[derive(Debug, Subcommand)]
pub(crate) enum HomeCommand {
    /// Copy ostler's knowledge into a new folder, while it runs or not
    Backup {
        /// The folder to make
        to: PathBuf,
        /// Include the key of the sealed secrets: the copy is then as precious as the home
        #[arg(long)]
        with_key: bool,
    },
    /// Make a home from such a copy; the home must not exist yet
    Restore {
        /// The copy
        from: PathBuf,
    },
}

impl Process {
    /// Its name on the command line.
    #[cfg(debug_assertions)]
    pub(crate) fn name(&self) -> &'static str {
        match self {
            Self::Keeper { .. } => "keeper",
            Self::DryRun { .. } => "dry-run",
            Self::Gateway => "gateway",
            Self::Still(_) => "still",
            Self::Fill(_) => "fill",
            Self::Manager { .. } => "manager",
        }
    }
}

#[derive(Debug, Subcommand)]
pub(crate) enum Process {
    /// Holds processes and sockets
    Keeper {
        /// The descriptor by which another build hands everything over.
        #[arg(long)]
        resume: Option<i32>,
        /// Why the next build gave it back.
        #[arg(long, requires = "resume")]
        refused: Option<String>,
    },
    /// Reads a copy of a home and says what follows from it
    DryRun {
        /// At which time, in microseconds since 1970.
        #[arg(long)]
        at: i64,
    },
    /// Carries callers' traffic
    Gateway,
    /// Makes the processes of an instance stand still for a while, for a drill
    Still(Still),
    /// Fills the disk of an instance for a while, for a drill
    Fill(Fill),
    /// Thinks
    Manager {
        /// As in `up`.
        #[arg(long)]
        accept_lost_tail: bool,
    },
}

#[derive(Clone, Debug, Args)]
pub(crate) struct SelfUpgrade {
    /// The file of the other build; it may be deleted afterwards
    #[arg(required_unless_present = "back", conflicts_with = "back")]
    pub path: Option<PathBuf>,
    /// Take it back by itself if one of its processes ends again and again within this time
    #[arg(long, value_name = "TIME", default_value = "10m", value_parser = at_most_a_month)]
    pub probation: ostler_model::time::Span,
    /// Take it back if one of its processes has not come up after this long
    #[arg(long, value_name = "TIME", default_value = "30s", value_parser = at_most_an_hour)]
    pub within: ostler_model::time::Span,
    /// Go back to the build that ran before
    #[arg(long)]
    pub back: bool,
}

fn at_most_a_month(text: &str) -> Result<ostler_model::time::Span, String> {
    let span: ostler_model::time::Span = text.parse().map_err(|error| format!("{error}"))?;
    let month = std::time::Duration::from_secs(30 * 86_400);
    if span.get() <= month { Ok(span) } else { Err("at most 30 days".to_owned()) }
}

fn at_most_an_hour(text: &str) -> Result<ostler_model::time::Span, String> {
    let span: ostler_model::time::Span = text.parse().map_err(|error| format!("{error}"))?;
    let (second, hour) = (std::time::Duration::from_secs(1), std::time::Duration::from_secs(3600));
    if (second..=hour).contains(&span.get()) { Ok(span) } else { Err("from a second to an hour".to_owned()) }
}

#[derive(Debug, Args)]
pub(crate) struct Still {
    /// The main process.
    #[arg(long)]
    pub pid: u32,
    /// When it was started, in clock ticks since boot.
    #[arg(long)]
    pub start_ticks: u64,
    /// Until when, in microseconds since 1970.
    #[arg(long)]
    pub until: i64,
    /// They stand still for so many milliseconds at a time …
    #[arg(long, requires = "going_ms")]
    pub still_ms: Option<u64>,
    /// … and go on for so many.
    #[arg(long, requires = "still_ms")]
    pub going_ms: Option<u64>,
}

#[derive(Debug, Args)]
pub(crate) struct Fill {
    /// Where the instance writes.
    #[arg(long)]
    pub folder: PathBuf,
    /// The instance's own folder, in which the disk has to be mounted.
    #[arg(long)]
    pub own: PathBuf,
    /// Until when, in microseconds since 1970.
    #[arg(long)]
    pub until: i64,
}
