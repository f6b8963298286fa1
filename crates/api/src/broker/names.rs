//! Names for what others buy, and ids for what they are shown.

use ostler_model::ids::{EstateUuid, OfferingName, ServiceName};
use ostler_model::sale::{GUEST_PREFIX, SOLD_PREFIX};
use ostler_providers::osb::guid;
use sha2::{Digest, Sha256};

/// The longest name that a buyer may give something, in bytes (the specification advises 255 for its strings).
pub(super) const ID_BYTES_MAX: usize = 512;

/// The service that is sold to `buyer` under the name `instance`.
pub(super) fn sold(buyer: &str, instance: &str) -> ServiceName {
    name(SOLD_PREFIX, &[buyer, instance])
}

/// The guest that `buyer` knows as the binding `binding` of `instance`.
pub(super) fn guest(buyer: &str, instance: &str, binding: &str) -> ServiceName {
    name(GUEST_PREFIX, &[buyer, instance, binding])
}

fn name(prefix: &str, parts: &[&str]) -> ServiceName {
    let mut digest = Sha256::new();
    for part in parts {
        digest.update((part.len() as u64).to_be_bytes()); // so that no two lists of parts are the same bytes
        digest.update(part.as_bytes());
    }
    let hex: String = digest.finalize().iter().take(8).map(|byte| format!("{byte:02x}")).collect();
    format!("{prefix}{hex}").parse().expect("a prefix and hexadecimal digits are a label")
}

/// The id of an offering, the same for as long as there is this estate.
pub(super) fn offering_id(estate: EstateUuid, offering: &OfferingName) -> String {
    guid(estate, &["offering", offering.as_str()])
}

/// The id of a plan, by what it is called in the catalog.
pub(super) fn plan_id(estate: EstateUuid, offering: &OfferingName, plan: &str) -> String {
    guid(estate, &["plan", offering.as_str(), plan])
}

/// Whether a buyer may give something this name: whatever can stand in a line.
pub(super) fn is_id(text: &str) -> bool {
    !text.is_empty() && text.len() <= ID_BYTES_MAX && !text.chars().any(char::is_control)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nobody_gets_at_what_another_bought() {
        let names = [sold("a", "bc"), sold("ab", "c"), sold("a", "b"), sold("b", "bc")];
        let distinct: std::collections::BTreeSet<_> = names.iter().collect();
        assert_eq!(distinct.len(), names.len());
        assert_ne!(guest("a", "b", "cd"), guest("a", "bc", "d"));
        // Written down: what was sold under these names must be found again by every later version.
        assert_eq!(sold("shop", "i-1").as_str(), "sold-842e578b428e08ac");
    }

    #[test]
    fn what_can_be_a_name() {
        for good in ["i", "2fbed324-8c1c-81d4-a3e3-6c36ee915f9d", "mit Leerzeichen/und ü"] {
            assert!(is_id(good), "{good}");
        }
        for bad in [String::new(), "a\nb".to_owned(), "x".repeat(513)] {
            assert!(!is_id(&bad), "{bad}");
        }
    }
}
