//! `[[service.NAME.contract]]`: what a service relies on in what it needs.

use std::collections::BTreeSet;

use toml::de::DeValue;

use super::reader::{Fields, Key, Reader, Value, listed};
use super::values;
use crate::diagnostics::shown;
use crate::estate::contract::{AmqpCheck, Contract, ContractCheck};
use crate::ids::ServiceName;
use crate::version::VersionRange;

const CONTRACT: &[Key] = &[
    ("need", r#"need = "db""#),
    ("name", r#"name = "there are books""#),
    ("version", r#"version = ">=15, <17""#),
    ("sql", r#"sql = "select count(*) > 0 from books""#),
    ("redis", r#"redis = ["PING"]"#),
    ("amqp", r#"amqp = { queue = "orders" }"#),
    ("http", r#"http = "/healthz""#),
    ("tcp", "tcp = true"),
    ("command", r#"command = ["./check-db"]"#),
    ("expect", r#"expect = "true""#),
    ("status", "status = 200"),
];
const AMQP: &[Key] = &[("queue", r#"{ queue = "orders" }"#), ("exchange", r#"{ exchange = "events" }"#)];
/// The longest name of a queue or an exchange, in bytes: AMQP writes its length into one byte.
const AMQP_NAME_MAX: usize = 255;
/// The ways to check, each by its key.
const KINDS: [&str; 6] = ["sql", "redis", "amqp", "http", "tcp", "command"];
/// The longest statement, command or expected answer, in bytes.
const TEXT_MAX: usize = 4096;
/// So many characters of a check are its name, if it has no other.
const NAME_MAX: usize = 60;

pub(super) fn read(
    reader: &mut Reader<'_>,
    service: &ServiceName,
    needs: &BTreeSet<ServiceName>,
    value: Value<'_>,
) -> Vec<Contract> {
    let mut contracts: Vec<Contract> = Vec::new();
    for entry in value.list(reader).unwrap_or_default() {
        let Some(contract) = read_one(reader, service, needs, entry) else { continue };
        if contracts.iter().any(|other| other.name == contract.name && other.need == contract.need) {
            let cause = format!("two contracts of `{service}` are called `{}`", shown(&contract.name));
            reader.report(entry.span(), cause, "give one of them another `name`");
        } else {
            contracts.push(contract);
        }
    }
    contracts
}

fn read_one(
    reader: &mut Reader<'_>,
    service: &ServiceName,
    needs: &BTreeSet<ServiceName>,
    entry: Value<'_>,
) -> Option<Contract> {
    let fields = entry.fields(reader, format!("service.{service}.contract"), CONTRACT)?;
    let need = read_need(reader, service, needs, &fields);
    let mut bounded = |key| {
        let value = fields.optional(key)?;
        let text = value.some_text(reader)?;
        if text.len() > TEXT_MAX {
            value.reject(reader, format!("`{key}` has more than {TEXT_MAX} bytes"));
            return None;
        }
        Some(text.to_owned())
    };
    let (sql, http, expect, name) = (bounded("sql"), bounded("http"), bounded("expect"), bounded("name"));
    let redis = fields.optional("redis").and_then(|value| values::read_command(reader, value));
    let amqp = fields.optional("amqp").and_then(|value| read_amqp(reader, service, value));
    let command = fields.optional("command").and_then(|value| values::read_command(reader, value));
    let tcp = fields.optional("tcp").map_or(Some(false), |value| value.boolean(reader));
    let status = fields.optional("status").and_then(|value| value.integer(reader, 100..=599));
    let version: Option<VersionRange> = match fields.optional("version") {
        Some(value) => Some(value.parsed(reader)?),
        None => None,
    };
    let tcp = tcp?;
    let kinds: Vec<&str> =
        KINDS.into_iter().filter(|key| fields.optional(key).is_some() && (tcp || *key != "tcp")).collect();
    let check = match kinds.as_slice() {
        ["sql"] => Some(ContractCheck::Sql { query: sql?, expect: expected(reader, &entry, expect.clone())? }),
        ["redis"] => Some(ContractCheck::Redis { command: redis?, expect: expected(reader, &entry, expect.clone())? }),
        ["amqp"] => Some(ContractCheck::Amqp(amqp?)),
        ["http"] => {
            let status = u16::try_from(status.unwrap_or(200)).expect("it is at most 599");
            Some(ContractCheck::Http { path: a_path(reader, &entry, http?)?, status, contains: expect.clone() })
        }
        ["tcp"] => Some(ContractCheck::Tcp),
        ["command"] => Some(ContractCheck::Command(command?)),
        [] if version.is_some() => None,
        _ if fields.has_unknown() => return None,
        [] => {
            let cause = "it says nothing that could be relied on";
            let remedy = "add one of `sql`, `redis`, `amqp`, `http`, `tcp = true` and `command`, or a `version`";
            reader.report(entry.span(), cause, remedy);
            return None;
        }
        _ => {
            let cause = "a contract is checked in at most one way";
            let remedy = "keep one of `sql`, `redis`, `amqp`, `http`, `tcp = true` and `command`; write another contract \
                          for each of the others";
            reader.report(entry.span(), cause, remedy);
            return None;
        }
    };
    if !counts(reader, &entry, check.as_ref(), expect.is_some(), status.is_some()) {
        return None;
    }
    let in_words = || match (&check, &version) {
        (Some(check), _) => check.in_words(),
        (None, Some(version)) => format!("version {version}"),
        (None, None) => String::new(),
    };
    let name = name.unwrap_or_else(|| in_words().chars().take(NAME_MAX).collect());
    Some(Contract { need: need?, name, version, check })
}

/// Whether what is said of the answer is for this kind of check.
fn counts(
    reader: &mut Reader<'_>,
    entry: &Value<'_>,
    check: Option<&ContractCheck>,
    expect: bool,
    status: bool,
) -> bool {
    for (key, of, given) in [("expect", "`sql`, `redis` and `http`", expect), ("status", "`http`", status)] {
        let takes = match (check, key) {
            (Some(ContractCheck::Http { .. }), _) => true,
            (Some(ContractCheck::Sql { .. } | ContractCheck::Redis { .. }), key) => key == "expect",
            (Some(ContractCheck::Amqp(_) | ContractCheck::Tcp | ContractCheck::Command(_)) | None, _) => false,
        };
        if given && !takes {
            reader.report(entry.span(), format!("`{key}` is only for {of}"), "remove it");
            return false;
        }
    }
    true
}

fn read_need(
    reader: &mut Reader<'_>,
    service: &ServiceName,
    needs: &BTreeSet<ServiceName>,
    fields: &Fields<'_>,
) -> Option<ServiceName> {
    let value = fields.required(reader, "need")?;
    let need: ServiceName = value.name(reader)?;
    if !needs.contains(&need) {
        let known = listed(needs.iter().map(ServiceName::as_str));
        let rest = format!("add it to `needs`, or name one of them: {known}");
        let remedy = reader.advise(need.as_str(), needs.iter().map(ServiceName::as_str), &rest);
        reader.report(value.span(), format!("`{service}` does not need `{need}`"), remedy);
        return None;
    }
    Some(need)
}

fn a_path(reader: &mut Reader<'_>, entry: &Value<'_>, path: String) -> Option<String> {
    if path.starts_with('/') && path.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Some(path);
    }
    let cause = format!("`{}` is not a path", shown(&path));
    reader.report(entry.span(), cause, "write it like `http = \"/healthz\"`");
    None
}

fn read_amqp(reader: &mut Reader<'_>, service: &ServiceName, value: Value<'_>) -> Option<AmqpCheck> {
    const FORMS: &str = "write \"round-trip\", { queue = \"orders\" } or { exchange = \"events\" }";
    if !matches!(value.raw(), DeValue::Table(_)) {
        return match value.text(reader)? {
            "round-trip" => Some(AmqpCheck::RoundTrip),
            other => {
                let remedy = reader.advise(other, ["round-trip"], FORMS);
                reader.report(value.span(), format!("there is no check `{}` of AMQP", shown(other)), remedy);
                None
            }
        };
    }
    let fields = value.fields(reader, format!("service.{service}.contract.amqp"), AMQP)?;
    match (fields.optional("queue"), fields.optional("exchange")) {
        (Some(name), None) => amqp_name(reader, name).map(AmqpCheck::Queue),
        (None, Some(name)) => amqp_name(reader, name).map(AmqpCheck::Exchange),
        (Some(_), Some(name)) => {
            let remedy = "keep one of the two, and write another contract for the other";
            reader.report(name.span(), "a contract is about a queue or an exchange, not both", remedy);
            None
        }
        (None, None) if fields.has_unknown() => None,
        (None, None) => {
            reader.report(value.span(), "it names neither a `queue` nor an `exchange`", FORMS);
            None
        }
    }
}

fn amqp_name(reader: &mut Reader<'_>, value: Value<'_>) -> Option<String> {
    let name = value.some_text(reader)?;
    if name.len() > AMQP_NAME_MAX || name.chars().any(char::is_control) {
        let cause = format!("`{}` cannot be the name of a queue or an exchange", shown(name));
        reader.report(value.span(), cause, format!("use at most {AMQP_NAME_MAX} bytes, and no control characters"));
        return None;
    }
    Some(name.to_owned())
}

/// What the answer has to be.
fn expected(reader: &mut Reader<'_>, entry: &Value<'_>, expect: Option<String>) -> Option<String> {
    if expect.is_none() {
        reader.report(
            entry.span(),
            "it does not say what answer it expects",
            "add it, for example `expect = \"true\"`",
        );
    }
    expect
}
