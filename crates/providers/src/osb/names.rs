//! The names by which a broker knows what ostler asks for.
//!
//! Invariant: they follow from the estate's UUID and what is asked for, and from nothing else; so whoever knows the
//! estate's UUID can ask for them again after everything else was lost. No two asks have the same.

use ostler_model::ids::{AttemptId, BindingId, EstateUuid};
use sha2::{Digest, Sha256};

/// The instance of one ask.
pub(crate) fn instance(estate: EstateUuid, attempt: &AttemptId) -> String {
    guid(estate, &["instance", &attempt.to_string()])
}

/// The binding of one ask, at an instance that the broker knows as `instance`.
pub(crate) fn binding(estate: EstateUuid, binding: &BindingId, instance: &str, round: u32) -> String {
    guid(estate, &["binding", &binding.to_string(), instance, &round.to_string()])
}

/// Whoever uses a binding: brokers that ask for an application are told this one.
pub(crate) fn consumer(estate: EstateUuid, binding: &BindingId) -> String {
    guid(estate, &["consumer", binding.consumer.as_str()])
}

/// What brokers know as an organization, and as a space in it: the estate.
pub(crate) fn estate(estate: EstateUuid) -> String {
    guid(estate, &["estate"])
}

/// A version 8 UUID (RFC 9562, section 5.8), whose bits are a digest of the estate and of what it stands for: parts
/// without a NUL character.
pub fn guid(estate: EstateUuid, parts: &[&str]) -> String {
    let mut digest = Sha256::new();
    digest.update(b"ostler\0");
    digest.update(estate.bytes());
    for part in parts {
        digest.update([0]); // which no part contains
        digest.update(part.as_bytes());
    }
    let digest = digest.finalize();
    let mut bytes = [0; 16];
    bytes.copy_from_slice(&digest[..16]);
    bytes[6] = (bytes[6] & 0x0f) | 0x80;
    bytes[8] = (bytes[8] & 0x3f) | 0x80;
    let hex = format!("{:032x}", u128::from_be_bytes(bytes));
    format!("{}-{}-{}-{}-{}", &hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_follow_from_the_estate_and_differ_for_each_ask() {
        let estate = EstateUuid::from_random([7; 16]);
        let attempt = |text: &str| text.parse::<AttemptId>().unwrap();
        // Written down: what was bought under these names must be found again by every later version.
        assert_eq!(instance(estate, &attempt("db-1/1")), "2fbed324-8c1c-81d4-a3e3-6c36ee915f9d");
        let id: BindingId = "web/db".parse().unwrap();
        let all = [
            instance(estate, &attempt("db-1/1")),
            instance(estate, &attempt("db-1/2")),
            instance(EstateUuid::from_random([8; 16]), &attempt("db-1/1")),
            binding(estate, &id, "x", 1),
            binding(estate, &id, "x", 2),
            binding(estate, &id, "y", 1),
            consumer(estate, &id),
            super::estate(estate),
        ];
        let distinct: std::collections::BTreeSet<_> = all.iter().collect();
        assert_eq!(distinct.len(), all.len());
    }
}
