//! The sizes that a journal accepts. Invariant: both implementations refuse the same things.

use crate::error::AppendError;
use crate::{NewFact, SealedChange};

/// Bytes in one fact's body. Facts are a few hundred bytes; this only stops a runaway.
pub const BODY_BYTES_MAX: usize = 16 << 20;
/// Bytes in a fact's kind.
pub const KIND_BYTES_MAX: usize = 64;
/// Bytes in one plain secret: certificates with their chains fit many times over.
pub const SECRET_BYTES_MAX: usize = 1 << 20;
/// Bytes in a snapshot: 100,000 instances need some tens of megabytes.
pub const SNAPSHOT_BYTES_MAX: usize = 512 << 20;
/// Facts that one call of `read` or `read_back` returns at most, so that no caller loads a whole journal by mistake.
pub const READ_AT_ONCE_MAX: usize = 10_000;
/// Bytes in a small value's name, and in the value.
const META_NAME_BYTES_MAX: usize = 64;
const META_VALUE_BYTES_MAX: usize = 64 << 10;

/// Refuses what no implementation stores.
pub(crate) fn check(facts: &[NewFact], secrets: &[SealedChange]) -> Result<(), AppendError> {
    for fact in facts {
        let word = fact.kind.bytes().all(|byte| byte.is_ascii_graphic());
        if fact.kind.is_empty() || fact.kind.len() > KIND_BYTES_MAX || !word {
            return Err(refused("a fact's kind is not 1 to 64 visible ASCII characters"));
        }
        if fact.body.len() > BODY_BYTES_MAX {
            return Err(refused(format!("the fact `{}` has {} bytes", fact.kind, fact.body.len())));
        }
    }
    for secret in secrets {
        let bytes = secret.value.as_ref().map_or(0, |value| value.bytes().len());
        if bytes > SECRET_BYTES_MAX {
            return Err(refused(format!("the secret `{}` has {bytes} bytes", secret.id)));
        }
    }
    if facts.is_empty() && !secrets.is_empty() {
        return Err(refused("a secret changes without a fact"));
    }
    Ok(())
}

/// Refuses snapshots beyond [`SNAPSHOT_BYTES_MAX`].
pub(crate) fn check_snapshot(body: &[u8]) -> Result<(), AppendError> {
    if body.len() > SNAPSHOT_BYTES_MAX {
        return Err(refused(format!("the snapshot has {} bytes", body.len())));
    }
    Ok(())
}

/// Refuses small values that are not small.
pub(crate) fn check_meta(name: &str, value: &[u8]) -> Result<(), AppendError> {
    if name.is_empty() || name.len() > META_NAME_BYTES_MAX || value.len() > META_VALUE_BYTES_MAX {
        return Err(refused(format!("the value `{}` is too long", name.chars().take(80).collect::<String>())));
    }
    Ok(())
}

pub(crate) fn refused(what: impl Into<String>) -> AppendError {
    AppendError::Refused { what: what.into() }
}
