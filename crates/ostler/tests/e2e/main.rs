//! End to end: the built `ostler` with the real PostgreSQL and Redis and the example's web program.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stderr,
    clippy::print_stdout,
    unreachable_pub,
    reason = "helpers of tests"
)]

#[path = "../harness/mod.rs"]
mod harness;

mod audit;
mod backups;
mod books;
mod broker;
mod broker_moves;
mod changes;
mod command_line;
mod credits;
mod data;
mod drills;
mod failover;
mod kills;
mod overrides;
mod own;
mod priced;
mod self_upgrade;
mod selling;
mod simulate;
mod standby;
mod together;
mod trouble;
mod up_and_down;
mod upgrades;
mod versions;
