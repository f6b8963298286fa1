//! What a service's instances are started from, and how that has changed.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use ostler_model::catalog::{Limits, Placement};
use ostler_model::estate::{Listen, Parameters};
use ostler_model::ids::ServiceName;
use ostler_model::template::Template;
use ostler_model::time::Timestamp;
use serde::{Deserialize, Serialize};

use crate::diagnosis::Changed;

/// What instances are started from: everything that makes a restart necessary when it changes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Launch {
    /// What was bought.
    pub placement: Placement,
    /// The buyer's program.
    pub run: Vec<Template>,
    /// The one-off command that must have succeeded.
    pub before: Vec<Template>,
    /// Environment variables.
    pub env: BTreeMap<String, Template>,
    /// What its provider is told of it.
    #[serde(default, skip_serializing_if = "Parameters::is_empty")]
    pub parameters: Parameters,
    /// What its provider is told of where it is used, if it wants to hear of changes.
    #[serde(default, skip_serializing_if = "Parameters::is_empty")]
    pub context: Parameters,
    /// How it takes connections.
    pub listen: Listen,
    /// Limits in front of the plan's.
    pub limits: Limits,
    /// Where relative paths start.
    pub folder: PathBuf,
    /// The needs, with the revision of what each binding holds.
    pub needs: BTreeMap<ServiceName, u32>,
}

/// A change of what a service's instances are started from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChangedLaunch {
    /// When.
    pub at: Timestamp,
    /// The most telling thing that was changed.
    pub what: Changed,
    /// The launch since.
    pub generation: u32,
    /// The launch before, with which it worked.
    pub former: u32,
}

/// A change that was taken back.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rejected {
    /// When.
    pub at: Timestamp,
    /// What is not used.
    pub launch: Arc<Launch>,
    /// What is used instead.
    pub instead: Arc<Launch>,
    /// What was changed.
    pub what: Changed,
    /// Why it was taken back.
    pub why: String,
}

impl Launch {
    /// The most telling thing in which it differs from `former`; `None` if in nothing.
    pub fn differs(&self, former: &Self) -> Option<Changed> {
        if (&self.run, &self.before, &self.folder) != (&former.run, &former.before, &former.folder) {
            Some(Changed::Program)
        } else if (&self.placement.version, &self.placement.maintenance)
            != (&former.placement.version, &former.placement.maintenance)
        {
            Some(Changed::Version)
        } else if self.placement != former.placement {
            Some(Changed::Placement)
        } else if self.env != former.env {
            Some(Changed::Environment)
        } else if (&self.parameters, &self.context, &self.listen, &self.limits)
            != (&former.parameters, &former.context, &former.listen, &former.limits)
        {
            Some(Changed::Settings)
        } else {
            (self.needs != former.needs).then_some(Changed::Credentials)
        }
    }

    /// Whether it is the same but for the credentials of its needs.
    pub fn is_same_but_for_credentials(&self, other: &Self) -> bool {
        matches!(self.differs(other), None | Some(Changed::Credentials))
    }
}
