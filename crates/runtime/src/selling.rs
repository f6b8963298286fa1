//! Where the front that sells to others stands, for those who ask for the status.

use std::sync::{Arc, Mutex, PoisonError};

/// Where others can buy, or why they cannot; `None` while nothing is sold.
#[derive(Clone, Default)]
pub struct Selling(Arc<Mutex<Option<Result<String, String>>>>);

impl Selling {
    /// It stands so from now on.
    pub fn set(&self, stand: Option<Result<String, String>>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = stand;
    }

    /// How it stands.
    pub fn get(&self) -> Option<Result<String, String>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}
