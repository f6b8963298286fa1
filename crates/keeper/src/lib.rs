//! The small process that holds on to things on one machine: child processes, listening sockets, reflexes.
//!
//! One thread, one loop, no runtime. It starts programs without copying itself ([`run()`]), learns of their deaths from
//! the kernel, starts them again within the budget it was given, and tells the manager afterwards. It knows no estate:
//! names are opaque to it. Everything it knows can be told again by others, so it may die at any time: the programs run
//! on, and the next keeper finds them in the ledger.
//!
//! | module | its one job |
//! |---|---|
//! | `protocol`, `wire`, `client` | what is said to the keeper and how; a blocking client |
//! | `run` | the process: lock, signals, limits, then the loop |
//! | `keeper`, `poll` | what the keeper knows; one turn of the loop |
//! | `peers`, `orders` | connections; carrying out orders |
//! | `starting`, `stopping`, `tree` | starts and reflexes; stops, and trees that must be gone as a whole |
//! | `roles` | the gateway and the manager, which always come back |
//! | `ledger`, `adopting`, `process` | what was started; finding it again; /proc |
//! | `builds`, `replacing`, `handover` | replacing one build of ostler by another; becoming another image of this process |
//! | `sockets`, `logs`, `reports`, `grant`, `launch` | held sockets; log files; the report queue; budgets; launches made ready |
//! | `faults` | for drills: killing, and a process of its own that makes others stand still for a while |
//! | `sys` | the unsafe kernel calls |
//!
//! Needs Linux 5.9 or later (pidfds, `close_range`); exact exit statuses of adopted programs are best on 6.15 or later.

pub mod builds;
pub mod client;
pub mod faults;
pub mod full;
pub mod grant;
pub mod protocol;
pub mod run;
pub mod wire;

mod adopting;
mod handover;
mod keeper;
mod launch;
mod ledger;
mod logs;
mod orders;
mod peers;
mod poll;
mod process;
mod replacing;
mod reports;
mod roles;
mod sockets;
mod starting;
mod stopping;
mod sys;
mod tree;

pub use handover::VERSION as HANDOVER_VERSION;
pub use replacing::{ANSWERS_EVERY, BESIDE};
pub use run::{CommandLine, Config, KeeperError, Resume, run, socket_path};
