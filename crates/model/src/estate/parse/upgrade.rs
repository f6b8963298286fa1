//! `[upgrade]`: when newer versions are put to use, and how carefully.

use super::reader::{Key, Reader, Value};
use crate::estate::upgrade::{SOAK_MAX, SOAK_MIN, Upgrade};
use crate::window::{Calendar, Window};

const UPGRADE: &[Key] = &[
    ("window", r#"window = ["Sat 22:00 - Sun 04:00 Europe/Berlin"]"#),
    ("freeze", r#"freeze = ["2026-12-20 - 2027-01-02"]"#),
    ("soak", r#"soak = "5m""#),
    ("by_itself", "by_itself = false"),
    ("major", "major = true"),
];

pub(super) fn read(reader: &mut Reader<'_>, value: Value<'_>) -> Option<Upgrade> {
    let fields = value.fields(reader, "upgrade", UPGRADE)?;
    let usual = Upgrade::default();
    let mut windows = |key| {
        let entries = fields.optional(key).and_then(|value| value.some_list(reader)).unwrap_or_default();
        entries.into_iter().filter_map(|entry| entry.parsed::<Window>(reader)).collect::<Vec<_>>()
    };
    let calendar = Calendar { window: windows("window"), freeze: windows("freeze") };
    let soak = fields.optional("soak").and_then(|value| value.span_of_time(reader, SOAK_MIN..=SOAK_MAX));
    let has_window = fields.optional("window").is_some() || fields.is_meant("window");
    let mut wish = |key, usual| match fields.optional(key) {
        None => usual,
        Some(value) => {
            let wished = value.boolean(reader).unwrap_or(usual);
            if wished && !has_window {
                let remedy = "say when, for example `window = [\"Sat 22:00 - Sun 04:00 Europe/Berlin\"]`, or remove it";
                reader.report(value.span(), format!("`{key} = true` and no `window`"), remedy);
            }
            wished
        }
    };
    let by_itself = wish("by_itself", has_window);
    let major = wish("major", usual.major);
    Some(Upgrade { calendar, soak: soak.unwrap_or(usual.soak), by_itself, major })
}
