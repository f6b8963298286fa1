//! The words of ostler as types: ids, estate, catalog, bindings, versions, time.
//!
//! Invariant: parsing is the only way in. Whatever has one of these types has passed its rule.

pub mod binding;
pub mod catalog;
pub mod charge;
pub mod diagnostics;
pub mod estate;
pub mod health;
pub mod ids;
pub mod money;
pub mod month;
pub mod nearest;
pub mod outcome;
pub mod overrides;
pub mod sale;
pub mod template;
pub mod time;
pub mod version;
pub mod window;
