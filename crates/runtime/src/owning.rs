//! What is known that `ostler own-or-buy` weighs beside the estate file: what was measured, and what those providers offered
//! last that cannot be asked now.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use ostler_books::Ledger;
use ostler_books::own::{Measured, measured};
use ostler_manager::Knowledge;
use ostler_model::catalog::Catalog;
use ostler_model::ids::{ProviderName, ServiceName};
use ostler_model::time::Timestamp;
use serde::{Deserialize, Serialize};

/// What is known.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Weighable {
    /// How often what was out.
    pub measured: Measured,
    /// What they offered last.
    pub catalogs: BTreeMap<ProviderName, Arc<Catalog>>,
}

/// About `service`, and of these providers.
pub fn weighable(
    known: &Knowledge,
    ledger: &Ledger,
    service: &ServiceName,
    unasked: &BTreeSet<ProviderName>,
    now: Timestamp,
) -> Weighable {
    let catalogs = known.catalogs.iter().filter(|(name, _)| unasked.contains(*name));
    Weighable {
        measured: measured(known, ledger, service, now),
        catalogs: catalogs.map(|(name, catalog)| (name.clone(), catalog.clone())).collect(),
    }
}
