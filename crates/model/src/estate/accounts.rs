//! Money in an estate: what may be spent, by which calendar, and what providers and this machine cost.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::Currency;
use crate::catalog::Cost;
use crate::ids::{OfferingName, PlanName};
use crate::money::Amount;
use crate::month::Zone;

/// How the books of the estate are kept. All amounts are in the estate's currency.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Accounts {
    /// What may be spent a month.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub budget: Option<Amount>,
    /// What one unit of another currency is worth. What is in a currency without a rate is not added up.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub rates: BTreeMap<Currency, Amount>,
    /// In which time zone months begin and end.
    #[serde(default)]
    pub zone: Zone,
}

impl Accounts {
    /// Whether nothing is said of them.
    pub fn is_usual(&self) -> bool {
        *self == Self::default()
    }
}

/// What the estate file says of a provider's prices.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pricing {
    /// What plans cost, in place of what the catalog says.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub prices: BTreeMap<OfferingName, BTreeMap<PlanName, Vec<Cost>>>,
    /// What this machine costs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub machine: Option<MachineCost>,
}

impl Pricing {
    /// Whether nothing is said.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// What a machine of one's own costs, in the estate's currency. What is not said costs nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct MachineCost {
    /// What was paid for it.
    #[serde(default)]
    pub purchase: Amount,
    /// For how many years it is used: each month bears the same part of the purchase. 1 to 30; 0 without a purchase.
    #[serde(default)]
    pub years: u32,
    /// What it draws on average, in watts.
    #[serde(default)]
    pub watts: Amount,
    /// What a kilowatt hour costs.
    #[serde(default)]
    pub kwh: Amount,
    /// How many hours a month somebody looks after it.
    #[serde(default)]
    pub care: Amount,
    /// What an hour of that costs.
    #[serde(default)]
    pub care_rate: Amount,
}
