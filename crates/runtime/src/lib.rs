//! The loop that drives the manager; the only place where all parts meet.
//!
//! [`turn`] is the loop, generic over its journal and its hands, so that server and simulator run the same one.
//! Everything else here is the server's side: what carries commands out ([`hands`]), what brings news, and the socket
//! on which people ask.

pub mod audit;
pub mod books;
pub mod builds;
pub mod carried;
mod catalogs;
mod certificates;
pub mod clock;
pub mod control;
pub mod credits;
pub mod daemon;
pub mod declare;
pub mod drilling;
pub mod drills;
pub mod envelope;
pub mod exchange;
pub mod failover;
pub mod hands;
pub mod history;
pub mod home;
pub mod keeper_link;
pub mod keeper_port;
pub mod kept;
pub mod levels;
mod memory;
mod news;
pub mod notify;
pub mod orders;
pub mod overrides;
pub mod owning;
pub mod preview;
pub mod proof;
mod prove;
pub mod providers;
pub mod scorecard;
pub mod seen;
pub mod selling;
mod served;
pub mod server;
pub mod turn;
pub mod upgrades;
mod vault;
pub mod verify;
pub mod waiting;
mod watching;
pub mod why;
