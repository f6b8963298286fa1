//! Facts as they are stored: JSON in a versioned envelope. Old versions are lifted here and nowhere else.
//!
//! Invariant: every log that a released version recorded still reads.

use ostler_journal::{NewFact, Record};
use ostler_manager::Fact;
use serde::{Deserialize, Serialize};

/// The version that this build writes.
const VERSION: u32 = 1;

#[derive(Serialize, Deserialize)]
struct Envelope<F> {
    v: u32,
    #[serde(flatten)]
    fact: F,
}

/// Why a stored fact cannot be read.
#[derive(Debug, thiserror::Error)]
#[error("cannot read fact {position}")]
pub struct EnvelopeError {
    /// Which.
    pub position: u64,
    /// Why.
    #[source]
    pub cause: EnvelopeCause,
}

/// What is wrong with a stored fact.
#[derive(Debug, thiserror::Error)]
pub enum EnvelopeCause {
    /// A newer build wrote it.
    #[error("it was written by a newer ostler (envelope version {0}, this build reads up to {VERSION})")]
    Newer(u32),
    /// It is no envelope.
    #[error("it is not what an ostler writes")]
    Malformed(#[source] serde_json::Error),
}

impl EnvelopeError {
    /// What to do about it.
    pub fn remedy(&self) -> String {
        match &self.cause {
            EnvelopeCause::Newer(_) => "run the newer build of ostler, or restore a backup of the home".to_owned(),
            EnvelopeCause::Malformed(_) => {
                "restore a backup of the home (`ostler home restore`); what is damaged is left as it is".to_owned()
            }
        }
    }
}

/// The fact in its envelope.
pub fn wrap(fact: &Fact) -> NewFact {
    let body = serde_json::to_vec(&Envelope { v: VERSION, fact }).expect("facts have only string and integer keys");
    NewFact { at: fact.at, kind: fact.kind.word().to_owned(), body }
}

/// The fact out of its envelope.
///
/// # Errors
/// If a newer build wrote it, or nobody did.
pub fn unwrap(record: &Record) -> Result<Fact, EnvelopeError> {
    let fail = |cause| EnvelopeError { position: record.position.0, cause };
    // The version is read first: what a newer envelope holds need not be understood to be refused.
    #[derive(Deserialize)]
    struct OnlyVersion {
        v: u32,
    }
    let OnlyVersion { v } =
        serde_json::from_slice(&record.body).map_err(|error| fail(EnvelopeCause::Malformed(error)))?;
    if v > VERSION {
        return Err(fail(EnvelopeCause::Newer(v)));
    }
    let envelope: Envelope<Fact> =
        serde_json::from_slice(&record.body).map_err(|error| fail(EnvelopeCause::Malformed(error)))?;
    Ok(envelope.fact)
}

#[cfg(test)]
mod tests {
    use ostler_manager::FactKind;
    use ostler_model::ids::Position;
    use ostler_model::time::Timestamp;

    use super::*;

    fn record(body: &[u8]) -> Record {
        Record { position: Position(7), at: Timestamp(1), kind: "x".to_owned(), body: body.to_vec() }
    }

    #[test]
    fn the_form_on_disk_is_fixed() {
        let fact = Fact { at: Timestamp(12), kind: FactKind::RestartAsked { service: "web".parse().unwrap() } };
        let stored = wrap(&fact);
        assert_eq!(
            String::from_utf8(stored.body.clone()).unwrap(),
            r#"{"v":1,"at":12,"fact":"restart-asked","service":"web"}"#
        );
        assert_eq!(unwrap(&record(&stored.body)).unwrap(), fact);
    }

    #[test]
    fn newer_and_foreign_ones_are_told_apart() {
        let newer = unwrap(&record(br#"{"v":2,"what":"ever"}"#)).unwrap_err();
        assert!(matches!(newer.cause, EnvelopeCause::Newer(2)));
        for foreign in [&b"{}"[..], b"\xff", br#"{"v":1,"at":1,"fact":"no-such"}"#] {
            let error = unwrap(&record(foreign)).unwrap_err();
            assert!(matches!(error.cause, EnvelopeCause::Malformed(_)), "{foreign:?}");
        }
    }
}
