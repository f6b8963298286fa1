//! The platform's side of the Open Service Broker API, against a broker that can give every answer.
#![allow(clippy::unwrap_used, clippy::panic, reason = "it is a test")]

mod answers;
mod backups;
mod broker;
mod life;
mod manners;
mod support;
