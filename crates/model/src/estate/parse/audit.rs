//! `[audit]`: how often what is recorded is signed, and where somebody else keeps what was signed.

use std::path::Path;

use super::reader::{Key, Reader, Value};
use crate::diagnostics::shown;
use crate::estate::audit::{Audit, EVERY_MAX, EVERY_MIN};

const AUDIT: &[Key] = &[("witness", r#"witness = "/mnt/auditor/checkpoints""#), ("every", r#"every = "1h""#)];

pub(super) fn read(reader: &mut Reader<'_>, folder: &Path, value: Value<'_>) -> Option<Audit> {
    let fields = value.fields(reader, "audit", AUDIT)?;
    let usual = Audit::default();
    let every =
        fields.optional("every").map_or(Some(usual.every), |value| value.span_of_time(reader, EVERY_MIN..=EVERY_MAX));
    let witness = match fields.optional("witness") {
        None => None,
        Some(value) => {
            let text = value.some_text(reader)?;
            if let Some((scheme, _)) = text.split_once("://") {
                value.reject(reader, format!("checkpoints cannot be kept at `{}://`: at a folder", shown(scheme)));
                return None;
            }
            Some(folder.join(text.strip_prefix("./").unwrap_or(text)))
        }
    };
    Some(Audit { witness, every: every? })
}
