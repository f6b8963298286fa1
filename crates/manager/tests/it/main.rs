//! The manager against worlds that are kind, cruel, and made on purpose to break each rule.

mod facts;
mod rehearsal;
mod rolling;
mod rules;
mod storm;
mod stories;
mod support;
mod tables;
mod world;
