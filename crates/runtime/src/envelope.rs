//! Facts as they are stored: JSON in a versioned envelope. Old versions are lifted here and nowhere else.
//!
//! Invariant: every log that a released version recorded still reads.

use std::collections::BTreeSet;

use ostler_journal::{NewFact, Record};
use ostler_manager::{Fact, FactKind};
use serde::{Deserialize, Serialize};

/// The version that this build writes.
pub const VERSION: u32 = 1;

/// What each fact begins with that this build writes.
const OWN: &[u8] = b"{\"v\":1,";

/// How facts are written: as this build does, or so that an older one can read them.
///
/// A changed form of an old fact is lowered here, too. A kind of fact that the older build does not know is marked, and
/// that build goes on as if it were not there: so such a fact may only add to what is known.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Writing {
    older: Option<(u32, BTreeSet<String>)>,
}

impl Writing {
    /// So that a build can read it that reads up to this version and knows these kinds.
    pub fn for_older(version: u32, kinds: BTreeSet<String>) -> Self {
        Self { older: Some((version, kinds)) }
    }

    fn version(&self) -> u32 {
        self.older.as_ref().map_or(VERSION, |(version, _)| VERSION.min(*version))
    }

    fn may_be_skipped(&self, word: &str) -> bool {
        self.older.as_ref().is_some_and(|(_, kinds)| !kinds.contains(word))
    }
}

#[derive(Serialize, Deserialize)]
struct Envelope<F> {
    v: u32,
    /// A build that does not know the kind goes on without it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    skip: bool,
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
    #[error(
        "it was written by a newer ostler (facts of version {0}; this is ostler {build}, which reads up to version {VERSION})",
        build = env!("CARGO_PKG_VERSION")
    )]
    Newer(u32),
    /// It is no envelope.
    #[error("it is not what an ostler writes")]
    Malformed(#[source] serde_json::Error),
    /// Its kind is not known here, and whoever wrote it lets such builds go on without it.
    #[error("it is of a kind that this build does not know")]
    Skipped,
}

impl EnvelopeError {
    /// What to do about it.
    pub fn remedy(&self) -> String {
        match &self.cause {
            EnvelopeCause::Newer(_) => "run the newer build of ostler: `builds/` in the home keeps what `ostler self-upgrade` brought in; to go back to this build, restore a backup of the home that it made".to_owned(),
            EnvelopeCause::Skipped => "run the newer build of ostler".to_owned(),
            EnvelopeCause::Malformed(_) => {
                "restore a backup of the home (`ostler home restore`); what is damaged is left as it is".to_owned()
            }
        }
    }
}

/// The fact in its envelope.
pub fn wrap(fact: &Fact, writing: &Writing) -> NewFact {
    let skip = writing.may_be_skipped(fact.kind.word());
    let body = serde_json::to_vec(&Envelope { v: writing.version(), skip, fact })
        .expect("facts have only string and integer keys");
    NewFact { at: fact.at, kind: fact.kind.word().to_owned(), body }
}

/// The fact out of its envelope.
///
/// # Errors
/// If a newer build wrote it, or nobody did.
pub fn unwrap(record: &Record) -> Result<Fact, EnvelopeError> {
    // All facts are read at each start: what this build wrote is read once, and not first for its version.
    if record.body.starts_with(OWN)
        && let Ok(fact) = serde_json::from_slice::<Fact>(&record.body)
    {
        return Ok(fact);
    }
    let fail = |cause| EnvelopeError { position: record.position.0, cause };
    // The version is read first: what a newer envelope holds need not be understood to be refused.
    #[derive(Deserialize)]
    struct OnlyVersion {
        v: u32,
        #[serde(default)]
        skip: bool,
    }
    let OnlyVersion { v, skip } =
        serde_json::from_slice(&record.body).map_err(|error| fail(EnvelopeCause::Malformed(error)))?;
    if v > VERSION {
        return Err(fail(EnvelopeCause::Newer(v)));
    }
    match serde_json::from_slice(&record.body) {
        Ok(Envelope::<Fact> { fact, .. }) => Ok(fact),
        Err(_) if skip && !FactKind::WORDS.contains(&record.kind.as_str()) => Err(fail(EnvelopeCause::Skipped)),
        Err(error) => Err(fail(EnvelopeCause::Malformed(error))),
    }
}

/// The fact out of its envelope; `None` if its kind is not known here and need not be.
///
/// # Errors
/// As [`unwrap`].
pub fn read(record: &Record) -> Result<Option<Fact>, EnvelopeError> {
    match unwrap(record) {
        Ok(fact) => Ok(Some(fact)),
        Err(EnvelopeError { cause: EnvelopeCause::Skipped, .. }) => Ok(None),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use ostler_model::ids::Position;
    use ostler_model::time::Timestamp;

    use super::*;

    fn record(body: &[u8]) -> Record {
        Record { position: Position(7), at: Timestamp(1), kind: "x".to_owned(), body: body.to_vec() }
    }

    #[test]
    fn the_form_on_disk_is_fixed() {
        let fact = Fact { at: Timestamp(12), kind: FactKind::RestartAsked { service: "web".parse().unwrap() } };
        let stored = wrap(&fact, &Writing::default());
        assert_eq!(OWN, format!("{{\"v\":{VERSION},").as_bytes());
        assert!(stored.body.starts_with(OWN));
        assert_eq!(
            String::from_utf8(stored.body.clone()).unwrap(),
            r#"{"v":1,"at":12,"fact":"restart-asked","service":"web"}"#
        );
        assert_eq!(unwrap(&record(&stored.body)).unwrap(), fact);
    }

    #[test]
    fn an_older_build_can_read_what_is_written_for_it() {
        let fact = Fact { at: Timestamp(12), kind: FactKind::RestartAsked { service: "web".parse().unwrap() } };
        let known = Writing::for_older(1, BTreeSet::from(["restart-asked".to_owned()]));
        assert_eq!(wrap(&fact, &known), wrap(&fact, &Writing::default()));
        let unknown = wrap(&fact, &Writing::for_older(1, BTreeSet::new()));
        let text = String::from_utf8(unknown.body.clone()).unwrap();
        assert_eq!(text, r#"{"v":1,"skip":true,"at":12,"fact":"restart-asked","service":"web"}"#);
        assert_eq!(read(&record(&unknown.body)).unwrap(), Some(fact), "who knows the kind reads it");
        let of_later = |skip: bool| format!(r#"{{"v":1,"skip":{skip},"at":12,"fact":"of-later","what":1}}"#);
        let later = Record { kind: "of-later".into(), ..record(of_later(true).as_bytes()) };
        assert_eq!(read(&later).unwrap(), None);
        let needed = Record { body: of_later(false).into_bytes(), ..later.clone() };
        assert!(matches!(read(&needed).unwrap_err().cause, EnvelopeCause::Malformed(_)), "nobody may go on without it");
        let damaged = Record { kind: "restart-asked".into(), ..later };
        assert!(
            matches!(read(&damaged).unwrap_err().cause, EnvelopeCause::Malformed(_)),
            "a known kind is never skipped"
        );
    }

    #[test]
    fn newer_and_foreign_ones_are_told_apart() {
        let newer = unwrap(&record(br#"{"v":2,"what":"ever"}"#)).unwrap_err();
        assert!(matches!(newer.cause, EnvelopeCause::Newer(2)));
        let own = env!("CARGO_PKG_VERSION");
        let said =
            "it was written by a newer ostler (facts of version 2; this is ostler OWN, which reads up to version 1)";
        assert_eq!(newer.cause.to_string(), said.replace("OWN", own));
        assert!(newer.remedy().contains("run the newer build"));
        for foreign in [&b"{}"[..], b"\xff", br#"{"v":1,"at":1,"fact":"no-such"}"#] {
            let error = unwrap(&record(foreign)).unwrap_err();
            assert!(matches!(error.cause, EnvelopeCause::Malformed(_)), "{foreign:?}");
        }
    }
}
