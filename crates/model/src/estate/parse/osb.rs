//! `[provider.NAME]` with `kind = "osb"`: a broker, and how to deal with it.

use std::collections::BTreeMap;
use std::path::Path;

use super::address::Address;
use super::reader::{Fields, Key, Reader, Value, parse_name};
use super::{parameters, values};
use crate::estate::Parameters;
use crate::estate::osb::{ApiVersion, OsbAuth, OsbManners, OsbProvider, OsbTls, SecretSource};
use crate::ids::{OfferingName, PlanName, ProviderName};
use crate::time::Span;
use crate::version::Version;

const AUTH: &[Key] = &[
    ("username", r#"username = "bookshop""#),
    ("password", r#"password = { env = "ACME_PASSWORD" }"#),
    ("token", r#"token = { file = "./acme-token" }"#),
];
const SOURCE: &[Key] = &[
    ("env", r#"{ env = "ACME_PASSWORD" }"#),
    ("file", r#"{ file = "./acme-password" }"#),
    ("command", r#"{ command = ["pass", "show", "acme"] }"#),
];
const TLS: &[Key] = &[("roots", r#"roots = "./acme-ca.pem""#), ("identity", r#"identity = "./bookshop.pem""#)];
const MANNERS: &[Key] = &[
    ("at_once", "at_once = 16"),
    ("per_second", "per_second = 50"),
    ("timeout", r#"timeout = "60s""#),
    ("poll_every", r#"poll_every = "2s""#),
    ("poll_within", r#"poll_within = "2h""#),
];
/// The words of the context that are not the buyer's.
const OWN_CONTEXT: &[&str] = &["platform", "estate", "instance_name"];
/// Reads what only this kind of provider has.
pub(super) fn read(
    reader: &mut Reader<'_>,
    folder: &Path,
    name: &ProviderName,
    fields: &Fields<'_>,
) -> Option<OsbProvider> {
    let what = |key: &str| format!("provider.{name}.{key}");
    let plaintext = fields.optional("plaintext").and_then(|value| value.boolean(reader)).unwrap_or_default();
    let url = fields.required(reader, "url").and_then(|value| read_url(reader, value, plaintext));
    let api = fields.optional("api").and_then(|value| {
        let api = ApiVersion::parse(value.text(reader)?);
        if api.is_none() {
            value.reject(reader, "`api` is not a version from 2.13 to 2.17");
        }
        api
    });
    let auth = match fields.optional("auth") {
        Some(value) => read_auth(reader, folder, &what("auth"), value),
        None => Some(OsbAuth::None),
    };
    let tls = fields.optional("tls").map_or_else(
        || Some(OsbTls::default()),
        |value| {
            let fields = value.fields(reader, what("tls"), TLS)?;
            let mut path = |key| fields.optional(key).and_then(|value| value.some_text(reader)).map(|p| folder.join(p));
            Some(OsbTls { roots: path("roots"), identity: path("identity") })
        },
    );
    let manners = fields
        .optional("manners")
        .map_or_else(|| Some(OsbManners::default()), |value| read_manners(reader, what("manners"), value));
    let versions = fields.optional("versions").map(|value| read_versions(reader, value)).unwrap_or_default();
    Some(OsbProvider {
        url: url?,
        api: api.unwrap_or_default(),
        plaintext,
        auth: auth?,
        tls: tls?,
        manners: manners?,
        versions,
    })
}

/// What a broker is told of where its things are used. What ostler itself says there stays ostler's.
pub(super) fn read_context(reader: &mut Reader<'_>, value: Value<'_>) -> Option<Parameters> {
    let context = parameters::read(reader, value)?;
    for key in OWN_CONTEXT.iter().filter(|key| context.0.contains_key(**key)) {
        reader.report(value.span(), format!("`{key}` in `context` is what ostler says itself"), "give it another name");
    }
    Some(context)
}

fn read_url(reader: &mut Reader<'_>, value: Value<'_>, plaintext: bool) -> Option<String> {
    let address = Address {
        key: "url",
        plaintext,
        exposes: "passwords would go over the network as they are",
        without_user: "take it out, and write `auth = { username = \"…\", password = { env = \"…\" } }`",
    };
    address.read(reader, value)
}

fn read_auth(reader: &mut Reader<'_>, folder: &Path, what: &str, value: Value<'_>) -> Option<OsbAuth> {
    let fields = value.fields(reader, what, AUTH)?;
    let mut source = |key| {
        let value = fields.optional(key)?;
        Some(read_source(reader, folder, format!("{what}.{key}"), value))
    };
    let (password, token) = (source("password"), source("token"));
    match (fields.optional("username"), password, token) {
        (Some(username), Some(password), None) => {
            let name = username.text(reader)?;
            if name.contains(':') {
                username.reject(reader, "a user name has no colon");
                return None;
            }
            Some(OsbAuth::Basic { username: name.to_owned(), password: password? })
        }
        (None, None, Some(token)) => Some(OsbAuth::Bearer { token: token? }),
        _ if fields.has_unknown() => None,
        _ => {
            let cause = "`auth` has either a `username` and a `password`, or a `token`";
            let remedy = "write it like `auth = { username = \"bookshop\", password = { env = \"ACME_PASSWORD\" } }`";
            reader.report(value.span(), cause, remedy);
            None
        }
    }
}

/// Where a secret is found. A text is refused without being shown: it is probably the secret itself.
pub(super) fn read_source(
    reader: &mut Reader<'_>,
    folder: &Path,
    what: String,
    value: Value<'_>,
) -> Option<SecretSource> {
    const FORMS: &str = "write { env = \"VARIABLE\" }, { file = \"path\" } or { command = [\"program\"] }: the file is no place for secrets";
    if matches!(value.raw(), toml::de::DeValue::String(_)) {
        reader.hide(value.span());
        reader.report(value.span(), "a secret stands in the estate file", FORMS);
        return None;
    }
    let fields = value.fields(reader, what, SOURCE)?;
    match (fields.optional("env"), fields.optional("file"), fields.optional("command")) {
        (Some(env), None, None) => {
            let name = env.some_text(reader)?;
            if name.contains('=') {
                env.reject(reader, "the name of a variable has no `=`");
                return None;
            }
            Some(SecretSource::Env(name.to_owned()))
        }
        (None, Some(file), None) => {
            let path = file.some_text(reader)?;
            Some(SecretSource::File(folder.join(path.strip_prefix("./").unwrap_or(path))))
        }
        (None, None, Some(command)) => values::read_command(reader, command).map(SecretSource::Command),
        _ if fields.has_unknown() => None,
        _ => {
            reader.report(value.span(), "a secret is found in exactly one place", FORMS);
            None
        }
    }
}

fn read_manners(reader: &mut Reader<'_>, what: String, value: Value<'_>) -> Option<OsbManners> {
    const HOUR: u64 = 3600;
    let fields = value.fields(reader, what, MANNERS)?;
    let usual = OsbManners::default();
    let mut number = |key, most| {
        let number = fields.optional(key)?.integer(reader, 1..=most)?;
        u32::try_from(number).ok()
    };
    let (at_once, per_second) = (number("at_once", 1_000), number("per_second", 10_000));
    let mut span = |key, least, most| fields.optional(key)?.span_of_time(reader, least..=most);
    Some(OsbManners {
        at_once: at_once.unwrap_or(usual.at_once),
        per_second,
        timeout: span("timeout", Span::millis(100), Span::seconds(HOUR)).unwrap_or(usual.timeout),
        poll_every: span("poll_every", Span::millis(10), Span::seconds(HOUR)).unwrap_or(usual.poll_every),
        poll_within: span("poll_within", Span::seconds(1), Span::seconds(7 * 24 * HOUR)).unwrap_or(usual.poll_within),
    })
}

fn read_versions(reader: &mut Reader<'_>, value: Value<'_>) -> BTreeMap<OfferingName, BTreeMap<PlanName, Version>> {
    const EXAMPLE: &str = r#"versions = { postgresql = { small = "16.2" } }"#;
    let mut versions: BTreeMap<OfferingName, BTreeMap<PlanName, Version>> = BTreeMap::new();
    for (offering, plans) in value.table(reader).into_iter().flat_map(|table| table.iter()) {
        let plans = Value::new(offering.get_ref(), EXAMPLE, plans);
        let Some(offering) = parse_name::<OfferingName>(reader, offering.span(), offering.get_ref()) else { continue };
        for (plan, version) in plans.table(reader).into_iter().flat_map(|table| table.iter()) {
            let version = Value::new(plan.get_ref(), EXAMPLE, version);
            let plan = parse_name::<PlanName>(reader, plan.span(), plan.get_ref());
            if let (Some(plan), Some(version)) = (plan, version.parsed(reader)) {
                versions.entry(offering.clone()).or_default().insert(plan, version);
            }
        }
    }
    versions
}
