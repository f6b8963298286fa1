//! The books: what was used, what that costs, and who bears it. Pure folds over facts.
//!
//! A [`Ledger`] takes fact after fact and holds spans of time, not money: what was held from when until when, at which
//! stated price. A [`Statement`] is what follows from it for one month; [`Ledger::overrides`] is what each override has
//! cost. [`monthly`] says what an estate costs a month as it stands, and [`ways_to_fit`] how it would fit a budget. [`own`]
//! weighs owning against buying.
//!
//! Invariants:
//! - No I/O, clock, randomness or unordered maps: the same facts give the same books.
//! - A cost is a stated price times a quantity with 12 decimals, and nothing else; it is rounded to the cent when it is
//!   shown, half to even, and then the parts of a sum are rounded so that they add up to it.
//! - Currencies are never mixed: what has no stated rate is listed as not counted.

mod apportion;
mod carried;
mod claim;
mod credits;
mod fit;
mod focus;
mod ledger;
mod machine;
mod monthly;
mod outages;
mod overrides;
pub mod own;
mod paper;
mod spans;
mod statement;
mod usage;
mod views;

pub use apportion::apportion;
pub use carried::{Bytes, CarriedBytes};
pub use claim::{claim, terms_in_words};
pub use credits::{Credits, Line, MonthCredit, NotClaimed, OutageShown, Owed, Part, Told};
pub use fit::{Way, ways_to_fit};
pub use focus::{COLUMNS, focus};
pub use ledger::Ledger;
pub use monthly::{Monthly, monthly};
pub use ostler_model::charge::{Charge, Per, Term};
pub use overrides::{OverrideCost, Without};
pub use paper::{Block, Paper};
pub use statement::{Item, Kind, NoBooks, NotCounted, Statement};
pub use views::{By, Report, Row};
