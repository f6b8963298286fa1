//! Backups in words: what `status` and `why` say of them.

use ostler_manager::{BackupView, ProvenView, ServiceView};
use ostler_model::time::{Timestamp, in_words};

/// So many backups of a service are listed.
const LISTED_MAX: usize = 12;

/// What one line says of a service's backups: when the newest good one was made, how many there are, and when a restore
/// was last proven. `None` for a service that has none and is to have none.
pub fn cells(service: &ServiceView, now: Timestamp) -> Option<[String; 3]> {
    let newest = service.backups.iter().find(|backup| backup.bad.is_none());
    if service.backups.is_empty() && !service.backed_up {
        return None;
    }
    let bad = service.backups.iter().filter(|backup| backup.bad.is_some()).count();
    let kept = match bad {
        0 => service.backups.len().to_string(),
        bad => format!("{}, of which {bad} bad", service.backups.len()),
    };
    Some([newest.map_or_else(|| "none".to_owned(), |backup| ago(&backup.at, now)), kept, proven(service, now)])
}

/// When a restore was last proven: `2 d ago (41 s)`.
fn proven(service: &ServiceView, now: Timestamp) -> String {
    let last = service.backups.iter().find_map(|backup| backup.proven.as_ref());
    match (last, &service.proving) {
        (_, Some(_)) => "now".to_owned(),
        (Some(proven), None) => format!("{} ({})", ago(&proven.at, now), took(proven)),
        (None, None) => "never".to_owned(),
    }
}

/// The service's backups, a line for each; empty if it has none.
pub fn list(service: &ServiceView, now: Timestamp) -> String {
    let mut out = String::new();
    for backup in service.backups.iter().take(LISTED_MAX) {
        let place = backup.place.as_ref().map(|place| format!(", in {place}")).unwrap_or_default();
        out.push_str(&format!(
            "  {}  {}, {} bytes{place}{}\n",
            backup.name,
            ago(&backup.at, now),
            backup.bytes,
            worth(backup, now)
        ));
    }
    let more = service.backups.len().saturating_sub(LISTED_MAX);
    if more > 0 {
        out.push_str(&format!("  and {more} older\n"));
    }
    out
}

fn worth(backup: &BackupView, now: Timestamp) -> String {
    match (&backup.bad, &backup.proven) {
        (Some(why), _) => format!("; cannot be used: {why}"),
        (None, Some(proven)) => format!("; proven {}: {}", ago(&proven.at, now), proof_in_words(proven)),
        (None, None) => String::new(),
    }
}

/// What a proof found: `restored in 41 s, 40213 rows, 12 tables, 2 contracts kept`.
pub fn proof_in_words(proven: &ProvenView) -> String {
    let counted: String = proven.counted.iter().map(|(name, number)| format!(", {number} {name}")).collect();
    let contracts = match proven.contracts {
        0 => String::new(),
        1 => ", 1 contract kept".to_owned(),
        kept => format!(", {kept} contracts kept"),
    };
    format!("restored in {}{counted}{contracts}", took(proven))
}

fn took(proven: &ProvenView) -> String {
    in_words(std::time::Duration::from_millis(proven.took_ms))
}

fn ago(at: &str, now: Timestamp) -> String {
    Timestamp::parse(at).map_or_else(|| at.to_owned(), |at| format!("{} ago", in_words(now.since(at))))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_proof_is_told_in_numbers() {
        let counted = [("rows".to_owned(), 40_213), ("tables".to_owned(), 12)].into();
        let mut proven = ProvenView { at: "2026-11-23T15:00:00Z".to_owned(), took_ms: 41_000, counted, contracts: 1 };
        assert_eq!(proof_in_words(&proven), "restored in 41 s, 40213 rows, 12 tables, 1 contract kept");
        (proven.contracts, proven.took_ms) = (0, 1_234);
        assert_eq!(proof_in_words(&proven), "restored in 1.2 s, 40213 rows, 12 tables");
        assert_eq!(ago(&proven.at, Timestamp::parse("2026-11-23T15:04:00Z").unwrap()), "4 min ago");
    }
}
