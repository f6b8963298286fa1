//! The manager against worlds that are kind, cruel, and made on purpose to break each rule.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stderr,
    clippy::disallowed_methods,
    reason = "helpers of tests, which are not pure"
)]

mod brakes;
mod broker;
mod choosing;
mod diagnosis;
mod drills;
mod evidence;
mod facts;
mod failover;
mod judge;
mod overridden;
mod reading;
mod rehearsal;
mod rolling;
mod rules;
mod stored;
mod stories;
mod storm;
mod support;
mod tables;
mod telling;
mod world;
