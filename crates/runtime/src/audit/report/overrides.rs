//! The overrides that stood in a month, with what each has cost by the end of it.
//!
//! What one costs follows from prices, places and outages since it began, so the books are folded from the first fact to
//! the month's last one; only those facts are read that can change them, and nothing where nobody ever overrode anything.

use std::collections::BTreeMap;

use ostler_books::{Ledger, OverrideCost};
use ostler_journal::Reader;
use ostler_manager::FactKind;
use ostler_model::ids::Position;
use ostler_model::overrides::OverrideId;
use ostler_model::time::{Timestamp, in_words};

use super::{AT_ONCE, NoReport, Row};
use crate::envelope;

/// A row for each that stood between `from` and `until`, the dearest first.
///
/// # Errors
/// If the journal cannot be read.
pub(super) fn rows(reader: &Reader, last: u64, (from, until): (Timestamp, Timestamp)) -> Result<Vec<Row>, NoReport> {
    if reader.newest_of("override-began")?.is_none() {
        return Ok(Vec::new());
    }
    let (mut ledger, mut began) = (Ledger::default(), BTreeMap::<OverrideId, Position>::new());
    let mut done = 0;
    while done < last {
        let records = reader.read(Position(done), Position(last.min(done + AT_ONCE)))?;
        let Some(newest) = records.last() else { break };
        done = newest.position.0;
        for record in records.iter().filter(|record| Ledger::concerns(&record.kind)) {
            let Some(fact) = envelope::read(record)? else { continue };
            if let FactKind::OverrideBegan { id, .. } = &fact.kind {
                began.insert(*id, record.position);
            }
            ledger.fold(record.position, &fact);
        }
    }
    let stood = |cost: &OverrideCost| cost.began < until && cost.ended.is_none_or(|ended| ended >= from);
    let row = |cost: OverrideCost| {
        Some(Row { fact: began.get(&cost.id)?.0, at: cost.began.to_seconds(), cells: cells(&cost) })
    };
    Ok(ledger.overrides(until).into_iter().filter(stood).filter_map(row).collect())
}

fn cells(cost: &OverrideCost) -> Vec<String> {
    let ended = cost.ended.map_or_else(
        || "it stands".to_owned(),
        |ended| format!("{}: {}", ended.to_seconds(), cost.because.as_deref().unwrap_or_default()),
    );
    vec![
        format!("{}: {}", cost.id, cost.what),
        cost.owner.clone(),
        cost.reason.clone(),
        cost.until.to_seconds(),
        ended,
        price(cost),
    ]
}

/// "12.50 EUR, 4 min not served, 2 updates open".
fn price(cost: &OverrideCost) -> String {
    let mut parts = vec![format!("{} {}", cost.money, cost.currency.as_deref().unwrap_or_default()).trim().to_owned()];
    if cost.outage_seconds > 0 {
        parts.push(format!("{} not served", in_words(std::time::Duration::from_secs(cost.outage_seconds))));
    }
    if cost.updates > 0 {
        parts.push(match cost.updates {
            1 => "1 update open".to_owned(),
            updates => format!("{updates} updates open"),
        });
    }
    parts.extend(cost.not_counted.iter().map(|what| format!("not counted: {what}")));
    parts.join(", ")
}
