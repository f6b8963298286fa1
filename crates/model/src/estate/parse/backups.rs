//! `[backups]`: where backups are kept, and for how long.

use std::path::Path;

use super::address::Address;
use super::reader::{Fields, Key, Reader, Value};
use super::{accounts, osb};
use crate::diagnostics::shown;
use crate::estate::backups::{Backups, Keep, Prove, S3, S3Credentials, Store};
use crate::time::Span;

const DAY: u64 = 24 * 3600;

const BACKUPS: &[Key] = &[
    ("to", r#"to = "s3://bucket/prefix""#),
    ("endpoint", r#"endpoint = "https://s3.example""#),
    ("region", r#"region = "eu-central-1""#),
    ("credentials", r#"credentials = { key_id = { env = "S3_KEY_ID" }, secret_key = { env = "S3_SECRET_KEY" } }"#),
    ("plaintext", "plaintext = true"),
    ("keep", r#"keep = { all = "3h", hourly = "1d", daily = "14d", weekly = "13w" }"#),
    ("gb_month", r#"gb_month = "0.021""#),
];
const OF_S3: &[&str] = &["endpoint", "region", "credentials", "plaintext"];
const CREDENTIALS: &[Key] =
    &[("key_id", r#"key_id = { env = "S3_KEY_ID" }"#), ("secret_key", r#"secret_key = { env = "S3_SECRET_KEY" }"#)];
const KEEP: &[Key] = &[
    ("all", r#"all = "3h""#),
    ("hourly", r#"hourly = "1d""#),
    ("daily", r#"daily = "14d""#),
    ("weekly", r#"weekly = "13w""#),
];
/// The longest prefix, in bytes: names in a bucket may have 1,024, and need room for service and backup.
const PREFIX_MAX: usize = 512;

pub(super) fn read(reader: &mut Reader<'_>, folder: &Path, value: Value<'_>) -> Option<Backups> {
    let fields = value.fields(reader, "backups", BACKUPS)?;
    let to = match fields.optional("to") {
        None => Some(Store::Home),
        Some(to) => read_store(reader, folder, &fields, to),
    };
    if !matches!(to, Some(Store::S3(_)) | None) {
        for key in OF_S3 {
            if let Some(value) = fields.optional(key) {
                let remedy = "remove it, or write `to = \"s3://bucket/prefix\"`";
                reader.report(value.span(), format!("`{key}` is for backups in a bucket"), remedy);
            }
        }
    }
    let keep = fields.optional("keep").map_or_else(|| Some(Keep::default()), |value| read_keep(reader, value));
    let gb_month = fields.optional("gb_month").and_then(|value| accounts::read_amount(reader, value));
    Some(Backups { to: to?, keep: keep?, gb_month })
}

/// How often restores are proven: a length of time, or `never`.
pub(super) fn read_prove(reader: &mut Reader<'_>, value: Value<'_>) -> Option<Prove> {
    if value.text(reader)? == "never" {
        return Some(Prove::Never);
    }
    value.span_of_time(reader, Span::seconds(60)..=Span::seconds(365 * DAY)).map(Prove::Every)
}

fn read_store(reader: &mut Reader<'_>, folder: &Path, fields: &Fields<'_>, to: Value<'_>) -> Option<Store> {
    let text = to.some_text(reader)?;
    let Some(place) = text.strip_prefix("s3://") else {
        if let Some((scheme, _)) = text.split_once("://") {
            to.reject(reader, format!("backups cannot be kept at `{}://`: at a folder, or at `s3://`", shown(scheme)));
            return None;
        }
        return Some(Store::Folder(folder.join(text.strip_prefix("./").unwrap_or(text))));
    };
    let (bucket, prefix) = place.split_once('/').unwrap_or((place, ""));
    let prefix = prefix.trim_end_matches('/');
    let is_bucket = (3..=63).contains(&bucket.len())
        && bucket.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b'-' | b'.'));
    let is_part = |part: &str| {
        let allowed = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.');
        !part.is_empty() && !part.starts_with('.') && part.bytes().all(allowed)
    };
    if !is_bucket || prefix.len() > PREFIX_MAX || !(prefix.is_empty() || prefix.split('/').all(is_part)) {
        to.reject(reader, format!("`{}` is not a bucket, with a prefix at most", shown(text)));
        return None;
    }
    let endpoint = fields.optional("endpoint").map(|value| read_endpoint(reader, fields, value));
    let region = fields.optional("region").and_then(|value| value.some_text(reader)).map(str::to_owned);
    if endpoint.is_none() && region.is_none() {
        let remedy =
            "add `region = \"eu-central-1\"` for a bucket of Amazon's, or `endpoint = \"https://…\"` for another";
        reader.report(to.span(), "it is not said where this bucket is", remedy);
        return None;
    }
    let credentials = fields.required(reader, "credentials").and_then(|value| read_credentials(reader, folder, value));
    Some(Store::S3(Box::new(S3 {
        bucket: bucket.to_owned(),
        prefix: prefix.to_owned(),
        endpoint: match endpoint {
            Some(endpoint) => Some(endpoint?),
            None => None,
        },
        region: region.unwrap_or_else(S3::usual_region),
        credentials: credentials?,
    })))
}

fn read_endpoint(reader: &mut Reader<'_>, fields: &Fields<'_>, value: Value<'_>) -> Option<String> {
    let address = Address {
        key: "endpoint",
        plaintext: fields.optional("plaintext").and_then(|value| value.boolean(reader)).unwrap_or_default(),
        exposes: "the data would go over the network as it is",
        without_user: "take it out, and write `credentials = { key_id = { env = \"…\" }, secret_key = { env = \"…\" } }`",
    };
    address.read(reader, value)
}

fn read_credentials(reader: &mut Reader<'_>, folder: &Path, value: Value<'_>) -> Option<S3Credentials> {
    let fields = value.fields(reader, "backups.credentials", CREDENTIALS)?;
    let mut source = |key| {
        let value = fields.required(reader, key)?;
        osb::read_source(reader, folder, format!("backups.credentials.{key}"), value)
    };
    let (key_id, secret_key) = (source("key_id"), source("secret_key"));
    Some(S3Credentials { key_id: key_id?, secret_key: secret_key? })
}

fn read_keep(reader: &mut Reader<'_>, value: Value<'_>) -> Option<Keep> {
    const YEARS: u64 = 10 * 366 * DAY;
    let fields = value.fields(reader, "backups.keep", KEEP)?;
    let usual = Keep::default();
    let mut span = |key, most, usual| match fields.optional(key) {
        Some(value) => value.span_of_time(reader, Span::seconds(0)..=Span::seconds(most)),
        None => Some(usual),
    };
    // So many that nobody restores one by hand, and that every list of them stays short.
    let (all, hourly) = (span("all", 7 * DAY, usual.all), span("hourly", 90 * DAY, usual.hourly));
    let (daily, weekly) = (span("daily", YEARS, usual.daily), span("weekly", YEARS, usual.weekly));
    Some(Keep { all: all?, hourly: hourly?, daily: daily?, weekly: weekly? })
}
