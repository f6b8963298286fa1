//! `failover` of a service: whether and how it may be moved to another provider.

use super::reader::{Key, Reader, Value};
use crate::estate::failover::Failover;
use crate::time::Span;

const FAILOVER: &[Key] = &[
    ("by_itself", "by_itself = false"),
    ("loses_at_most", r#"loses_at_most = "30m""#),
    ("keep_old", r#"keep_old = "30d""#),
];
const HOUR: u64 = 3600;
const DAY: u64 = 24 * HOUR;

/// `what` names it in messages: `service.db.failover`.
pub(super) fn read(reader: &mut Reader<'_>, what: &str, value: Value<'_>) -> Option<Failover> {
    let fields = value.fields(reader, what, FAILOVER)?;
    let mut time = |key, least, most| {
        let value = fields.optional(key)?;
        value.span_of_time(reader, least..=most)
    };
    let loses_at_most = time("loses_at_most", Span::seconds(0), Span::seconds(365 * DAY));
    let keep_old = time("keep_old", Span::seconds(HOUR), Span::seconds(3650 * DAY));
    let by_itself = fields.optional("by_itself").and_then(|value| value.boolean(reader));
    Some(Failover { by_itself: by_itself.unwrap_or(true), loses_at_most, keep_old })
}
