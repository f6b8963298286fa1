//! The host provider with real programs: PostgreSQL, Redis, and this test's own executable as the buyer's program.
//!
//! `scripts/setup.sh` installs what is missing; nothing is skipped when it is.

#![allow(clippy::unwrap_used, clippy::panic, reason = "clippy does not see that helpers of tests are tests")]

mod keeper;
mod machine;
mod postgresql;
mod program;
mod provisioning;
mod redis;
mod scratch;
mod suite;
