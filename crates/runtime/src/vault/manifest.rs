//! What is written down beside each backup, as JSON.
//!
//! Invariant: it holds no secret. A backup without one is not complete. What was written by earlier versions is read.

use ostler_model::ids::EstateUuid;
use ostler_model::outcome::{BackupMade, Counted, Failure, FailureClass};
use ostler_providers::{Dumped, InstanceOrder};
use serde::{Deserialize, Serialize};

/// What its form is called. 1 had neither estate, kind, time nor counts.
const FORMAT: u32 = 2;
/// The longest one that is read.
pub(super) const BYTES_MAX: u64 = 1 << 20;

/// What is known of a backup.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Manifest {
    pub(super) format: u32,
    /// Of which service.
    pub(super) service: String,
    /// Of which instance.
    pub(super) instance: String,
    /// What was bought.
    pub(super) offering: String,
    /// Which version of it, or of the client program that made the backup.
    pub(crate) version: Option<String>,
    /// Of which estate.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) estate: Option<EstateUuid>,
    /// Which of this machine's offerings can restore it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) kind: Option<String>,
    /// When it was made; RFC 3339.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) made_at: Option<String>,
    /// What is in it, counted when it was made.
    #[serde(default, skip_serializing_if = "Counted::is_empty")]
    pub(crate) counted: Counted,
    #[serde(flatten)]
    pub(super) made: BackupMade,
}

/// What is backed up.
#[derive(Clone, Debug)]
pub(super) struct Subject {
    pub(super) service: String,
    pub(super) instance: String,
    pub(super) offering: String,
    pub(super) estate: Option<EstateUuid>,
}

impl Subject {
    pub(super) fn of(estate: Option<EstateUuid>, order: &InstanceOrder) -> Self {
        Self {
            service: order.instance.service().to_string(),
            instance: order.instance.to_string(),
            offering: order.placement.offering.to_string(),
            estate,
        }
    }
}

impl Manifest {
    pub(super) fn new(subject: &Subject, dumped: Dumped, made: BackupMade, made_at: String) -> Self {
        Self {
            format: FORMAT,
            service: subject.service.clone(),
            instance: subject.instance.clone(),
            offering: subject.offering.clone(),
            version: dumped.version.map(|version| version.to_string()),
            estate: subject.estate,
            kind: Some(dumped.kind.to_string()),
            made_at: Some(made_at),
            counted: dumped.counted,
            made,
        }
    }

    pub(super) fn to_json(&self) -> Vec<u8> {
        serde_json::to_vec_pretty(self).expect("a manifest has only string keys")
    }

    pub(super) fn from_json(text: &[u8]) -> Result<Self, String> {
        serde_json::from_slice(text).map_err(|error| format!("what is written beside it is damaged: {error}"))
    }

    /// Whether it was made for this very ask, so that the ask is done already.
    pub(super) fn is_of(&self, subject: &Subject) -> bool {
        self.instance == subject.instance && (self.estate.is_none() || self.estate == subject.estate)
    }

    /// Which of this machine's offerings can restore it.
    pub(super) fn kind(&self) -> &str {
        self.kind.as_deref().unwrap_or(&self.offering)
    }
}

/// What another one of that name is told.
pub(super) fn taken(manifest: &Manifest) -> Failure {
    Failure {
        class: FailureClass::NeedsPerson,
        detail: format!("a backup `{}` of instance `{}` is there already", manifest.made.name, manifest.instance),
        remedy: "choose another name".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_earlier_versions_wrote_is_read() {
        let text = r#"{"format":1,"service":"db","instance":"db-1","offering":"postgresql","version":"15.18",
                       "name":"monday","bytes":7,"sha256":"00"}"#;
        let manifest = Manifest::from_json(text.as_bytes()).unwrap();
        assert_eq!((manifest.kind(), manifest.made.name.as_str(), manifest.made.bytes), ("postgresql", "monday", 7));
        assert!(manifest.counted.is_empty() && manifest.made.place.is_none());
        assert_eq!(Manifest::from_json(&manifest.to_json()).unwrap(), manifest);
        assert!(Manifest::from_json(b"{}").unwrap_err().contains("damaged"));
    }
}
