//! The keeper as a process, with real programs: every promise of the protocol that needs more than one process.
//!
//! The keeper runs as the crate's example of the same name, because it needs a process with one thread.
#![allow(missing_docs, unreachable_pub)]
#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers of tests fail like tests")]

mod adopting;
mod faults;
mod gateway;
mod harness;
mod peers;
mod reflexes;
mod starting;
mod stopping;
