//! What this estate sells to others, as the manager knows it: who bought what, and who uses it.
//!
//! Invariant: nothing is decided from what stands in here but by the front that sells; the manager keeps it.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::estate::Parameters;
use crate::ids::{PlanName, ServiceName};
use crate::time::Timestamp;

/// The names of services that were sold begin with this.
pub const SOLD_PREFIX: &str = "sold-";
/// The names of guests begin with this.
pub const GUEST_PREFIX: &str = "guest-";

/// An instance that somebody bought: it is a service of this estate, which the estate file does not declare.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sale {
    /// Who bought it.
    pub buyer: String,
    /// By which name the buyer knows it.
    pub id: String,
    /// Which plan, by ostler's name for it.
    pub plan: PlanName,
    /// The ids of the offering and the plan in the catalog that was shown to the buyer.
    pub service_id: String,
    /// Of the plan.
    pub plan_id: String,
    /// What the buyer said of how it is to be.
    #[serde(default, skip_serializing_if = "Parameters::is_empty")]
    pub parameters: Parameters,
    /// What the buyer said of where it is used.
    #[serde(default, skip_serializing_if = "Value::is_null")]
    pub context: Value,
}

/// Somebody elsewhere who uses what was sold: a consumer of which nothing runs here.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Guest {
    /// Who bought what is used.
    pub buyer: String,
    /// By which name the buyer knows the binding.
    pub id: String,
    /// What is used.
    pub sold: ServiceName,
    /// What the buyer said of the binding, to be compared with what is said when it is asked for again.
    #[serde(default, skip_serializing_if = "Value::is_null")]
    pub said: Value,
    /// From when on it is not good any more.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires: Option<Timestamp>,
}
