//! What others reach over HTTP.
//!
//! [`broker`] sells what this machine offers, as an Open Service Broker. Invariant: nothing is decided here. What buyers
//! ask for becomes events for the manager, and what they are told is what the manager knows.

pub mod broker;
