//! Years of faults in seconds, on the same manager and the same loop, with every promise checked.
//!
//! [`World`] is the simulated time, providers, processes, networks, disks, clocks and people; the loop that looks after
//! it is `ostler_runtime`'s own. A [`Story`] is a run that can be repeated: an estate, what happens to it, and a seed.
//! The promises ([`Promise`]) are judged by a witness that shares no code with the manager; for each there is a
//! [`Mutant`] that breaks it, so that a check that sees nothing is noticed.
//!
//! Invariant: the same story gives the same bytes of facts.

mod act;
mod callers;
mod dice;
mod disk;
mod expected;
mod mutant;
mod outlook;
mod promise;
mod rates;
mod sketch;
mod story;
mod witness;
mod world;

pub use act::{Act, CutAt, Errand, Planned, Spoil};
pub use callers::{Outage, Service};
pub use dice::{Concern, Dice, Stream, key};
pub use disk::{Disk, DiskJournal, Keep, Lie, NextAppend};
pub use expected::{Expected, Source, expected, rates};
pub use mutant::Mutant;
pub use outlook::{Cause, Extra, Money, Outlook, PARTS, Question, ServiceOutlook, Share, look_ahead};
pub use promise::{Promise, Violation};
pub use rates::{Fault, Rate, Rates};
pub use sketch::{
    FailoverSketch, Kind, ProviderSketch, ServiceSketch, Sketch, Sort, Town, provider_name, service_name,
};
pub use story::{CONVERGES_WITHIN, Ended, Story};
pub use witness::HEALED_WITHIN;
pub use world::{Counts, Policy, START, Setting, World};
