//! The tables beside the services: `[estate]`, `[provider.NAME]`, `[heal]`, `[notify]`.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use toml::de::DeValue;

use super::failures::{self, Whose};
use super::reader::{Fields, Key, Reader, Value, listed, parse_name};
use super::{accounts, osb, terms, values};
use crate::diagnostics::shown;
use crate::estate::accounts::{Accounts, Pricing};
use crate::estate::{Currency, Heal, HostProvider, Notify, NotifyVia, Occasion, Provider, ProviderKind};
use crate::ids::{EstateName, ProviderName};

const ESTATE: &[Key] = &[
    ("name", r#"name = "bookshop""#),
    ("currency", r#"currency = "EUR""#),
    ("residency", r#"residency = ["eu"]"#),
    ("budget", "budget = { monthly = 400 }"),
    ("rates", r#"rates = { USD = "0.92" }"#),
    ("zone", r#"zone = "Europe/Berlin""#),
];
const PROVIDER: &[Key] = &[
    ("kind", r#"kind = "host""#),
    ("region", r#"region = "eu-local""#),
    ("offerings", r#"offerings = "./offerings""#),
    ("url", r#"url = "https://broker.acme.example""#),
    ("api", r#"api = "2.14""#),
    ("plaintext", "plaintext = true"),
    ("auth", r#"auth = { username = "bookshop", password = { env = "ACME_PASSWORD" } }"#),
    ("tls", r#"tls = { roots = "./acme-ca.pem" }"#),
    ("context", r#"context = { cost_center = "4711" }"#),
    ("manners", "manners = { at_once = 16, per_second = 50 }"),
    ("versions", r#"versions = { postgresql = { small = "16.2" } }"#),
    ("certificate", r#"certificate = "./acme-certificate.json""#),
    ("failures", r#"failures = { outage = "90d" }"#),
    ("terms", r#"terms = { availability = "99.95%", credits = [{ below = "99.95%", refund = "10%" }] }"#),
    ("cost", r#"cost = { purchase = "2400", years = 4, watts = 60, kwh = "0.30" }"#),
];
/// The keys that only one kind of provider has.
const OF_HOST: &[&str] = &["offerings", "cost"];
const OF_OSB: &[&str] = &["url", "api", "plaintext", "auth", "tls", "context", "manners", "certificate"];
const HEAL: &[Key] = &[("at_once", r#"at_once = "20%""#)];
const NOTIFY: &[Key] = &[
    ("on", r#"on = ["held", "failed"]"#),
    ("command", r#"command = ["./page-me"]"#),
    ("webhook", r#"webhook = "http://127.0.0.1:9000/ostler""#),
];

/// The providers, and the names of all that are declared, also of those with errors.
#[derive(Default)]
pub(super) struct Providers {
    pub(super) list: BTreeMap<ProviderName, Provider>,
    pub(super) names: BTreeSet<ProviderName>,
    /// Where it is written what the examination of each found.
    pub(super) certificates: BTreeMap<ProviderName, PathBuf>,
}

/// What `[estate]` says.
pub(super) struct Head {
    pub(super) name: EstateName,
    pub(super) currency: Currency,
    pub(super) residency: Vec<String>,
    pub(super) accounts: Accounts,
}

pub(super) fn read_estate(reader: &mut Reader<'_>, value: Option<Value<'_>>) -> Option<Head> {
    let Some(value) = value else {
        if !reader.may_be_unread("estate") {
            let remedy = "begin the file with `[estate]` and a line like `name = \"bookshop\"`";
            reader.report(0..0, "the file has no `[estate]`", remedy);
        }
        return None;
    };
    let fields = value.fields(reader, "estate", ESTATE)?;
    let name = fields.required(reader, "name").and_then(|value| value.name(reader));
    let currency = match fields.optional("currency") {
        Some(value) => read_currency(reader, value),
        None => Currency::try_from("EUR".to_owned()).ok(),
    };
    let residency = fields.optional("residency").and_then(|value| value.some_list(reader)).unwrap_or_default();
    let residency = residency.into_iter().filter_map(|entry| entry.some_text(reader)).map(str::to_owned).collect();
    let accounts = accounts::read(reader, &fields, currency.as_ref());
    Some(Head { name: name?, currency: currency?, residency, accounts })
}

pub(super) fn read_currency(reader: &mut Reader<'_>, value: Value<'_>) -> Option<Currency> {
    let text = value.text(reader)?;
    match Currency::try_from(text.to_owned()) {
        Ok(currency) => Some(currency),
        Err(_) => {
            let remedy = "write its three capital letters of ISO 4217, for example `currency = \"EUR\"`";
            reader.report(value.span(), format!("`{}` is not a currency", shown(text)), remedy);
            None
        }
    }
}

/// `head` is what `[estate]` says, if it could be read.
pub(super) fn read_providers(
    reader: &mut Reader<'_>,
    folder: &Path,
    head: Option<&Head>,
    value: Option<Value<'_>>,
) -> Providers {
    let mut providers = Providers::default();
    let table = match value {
        Some(value) => value.table(reader),
        None if reader.may_be_unread("provider") => None,
        None => {
            let remedy = "declare this machine as one: `[provider.here]` and below it `kind = \"host\"`";
            reader.report(0..0, "the file has no provider", remedy);
            None
        }
    };
    for (key, value) in table.into_iter().flat_map(|table| table.iter()) {
        let Some(name) = parse_name::<ProviderName>(reader, key.span(), key.get_ref()) else { continue };
        providers.names.insert(name.clone());
        let value = Value::new(key.get_ref(), "[provider.here]", value);
        let Some(fields) = value.fields(reader, format!("provider.{name}"), PROVIDER) else { continue };
        let certificate = fields.optional("certificate").and_then(|value| value.some_text(reader));
        providers.certificates.extend(certificate.map(|path| (name.clone(), folder.join(path))));
        let Some(provider) = read_provider(reader, folder, head, name.clone(), &fields) else { continue };
        providers.list.insert(name, provider);
    }
    providers
}

fn read_provider(
    reader: &mut Reader<'_>,
    folder: &Path,
    head: Option<&Head>,
    name: ProviderName,
    fields: &Fields<'_>,
) -> Option<Provider> {
    let region = fields.optional("region").and_then(|value| value.some_text(reader)).map(str::to_owned);
    let failures = fields
        .optional("failures")
        .map(|value| failures::read(reader, &format!("provider.{name}.failures"), Whose::Provider, value))
        .unwrap_or_default();
    let what = format!("provider.{name}.terms");
    let (terms, prices) =
        fields.optional("terms").and_then(|value| terms::read(reader, &what, head, value)).unwrap_or_default();
    let machine = fields
        .optional("cost")
        .and_then(|value| accounts::read_machine(reader, &format!("provider.{name}.cost"), value));
    let pricing = Pricing { prices, machine };
    let context = fields.optional("context").and_then(|value| osb::read_context(reader, value)).unwrap_or_default();
    let kind = fields.required(reader, "kind")?;
    let kind = match kind.text(reader)? {
        "host" => {
            reject_foreign_keys(reader, fields, "host", OF_OSB);
            let offerings = fields.optional("offerings").and_then(|value| value.some_text(reader));
            let versions = fields.optional("versions").and_then(|value| read_versions_folder(reader, value));
            let [offerings, versions] = [offerings, versions].map(|path| path.map(|path| folder.join(path)));
            ProviderKind::Host(HostProvider { offerings, versions })
        }
        "osb" => {
            reject_foreign_keys(reader, fields, "osb", OF_HOST);
            ProviderKind::Osb(Box::new(osb::read(reader, folder, &name, fields)?))
        }
        other => {
            let rest = "write `kind = \"host\"` for this machine, or `kind = \"osb\"` for an Open Service Broker";
            let remedy = reader.advise(other, ["host", "osb"], rest);
            reader.report(kind.span(), format!("there is no kind of provider `{}`", shown(other)), remedy);
            return None;
        }
    };
    Some(Provider { name, region, failures, terms, certificate: None, context, pricing, kind })
}

/// Of this machine it is a folder, of a broker a table.
fn read_versions_folder<'e>(reader: &mut Reader<'_>, value: Value<'e>) -> Option<&'e str> {
    if let DeValue::Table(_) = value.raw() {
        let cause = "`versions` of a provider of kind `host` is a folder in which versions lie side by side";
        reader.report(value.span(), cause, "write its path, for example `versions = \"./versions\"`");
        return None;
    }
    value.some_text(reader)
}

/// What only the other kind of provider has would be without effect.
fn reject_foreign_keys(reader: &mut Reader<'_>, fields: &Fields<'_>, kind: &str, foreign: &[&'static str]) {
    for key in foreign {
        if let Some(value) = fields.optional(key) {
            let cause = format!("`{key}` has no meaning for a provider of kind `{kind}`");
            reader.report(value.span(), cause, "remove it");
        }
    }
}

pub(super) fn read_heal(reader: &mut Reader<'_>, value: Value<'_>) -> Option<Heal> {
    let fields = value.fields(reader, "heal", HEAL)?;
    let value = fields.optional("at_once")?;
    let text = value.text(reader)?;
    let percent = text.strip_suffix('%').and_then(|number| number.trim().parse::<u8>().ok());
    match percent {
        Some(at_once_percent @ 1..=100) => Some(Heal { at_once_percent }),
        _ => {
            value.reject(reader, format!("`{}` is not a share from 1% to 100%", shown(text)));
            None
        }
    }
}

/// `[notify]` once, or `[[notify]]` several times.
pub(super) fn read_notify(reader: &mut Reader<'_>, value: Value<'_>) -> Vec<Notify> {
    match value.raw() {
        DeValue::Array(_) => {
            let entries = value.list(reader).unwrap_or_default();
            entries.into_iter().filter_map(|entry| read_one_notify(reader, entry)).collect()
        }
        _ => read_one_notify(reader, value).into_iter().collect(),
    }
}

fn read_one_notify(reader: &mut Reader<'_>, value: Value<'_>) -> Option<Notify> {
    let fields = value.fields(reader, "notify", NOTIFY)?;
    let on = match fields.optional("on") {
        Some(value) => read_occasions(reader, value),
        None => Some(BTreeSet::from(Occasion::ALL)),
    };
    let via = match (fields.optional("command"), fields.optional("webhook")) {
        (Some(command), None) => values::read_command(reader, command).map(NotifyVia::Command),
        (None, Some(webhook)) => values::read_webhook(reader, webhook).map(NotifyVia::Webhook),
        (Some(_), Some(webhook)) => {
            let remedy = "keep one of them, and write a second `[[notify]]` for the other";
            reader.report(webhook.span(), "`notify` has both a `command` and a `webhook`", remedy);
            None
        }
        (None, None) if fields.has_unknown() => None,
        (None, None) => {
            let remedy = "add one, for example `command = [\"./page-me\"]`";
            reader.report_missing(fields.span.clone(), "`notify` has neither a `command` nor a `webhook`", remedy);
            None
        }
    };
    Some(Notify { on: on?, via: via? })
}

fn read_occasions(reader: &mut Reader<'_>, value: Value<'_>) -> Option<BTreeSet<Occasion>> {
    let mut occasions = Some(BTreeSet::new());
    for entry in value.some_list(reader)? {
        let occasion = entry.text(reader).and_then(|text| {
            let found = Occasion::ALL.into_iter().find(|occasion| occasion.as_str() == text);
            if found.is_none() {
                let names = || Occasion::ALL.into_iter().map(Occasion::as_str);
                let remedy = reader.advise(text, names(), &format!("use some of: {}", listed(names())));
                reader.report(entry.span(), format!("there is no occasion `{}`", shown(text)), remedy);
            }
            found
        });
        occasions = occasions.zip(occasion).map(|(mut set, occasion)| {
            set.insert(occasion);
            set
        });
    }
    occasions
}
