//! `[service.NAME]`: one service, as far as it can be judged by itself and by which names exist.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::ops::Range;

use super::failures::{self, Whose};
use super::reader::{Fields, Key, Reader, Value, listed};
use super::templates::References;
use super::{accounts, backups, contracts, failover, own, parameters, slo, values};
use crate::catalog::Limits;
use crate::diagnostics::shown;
use crate::estate::{DataPolicy, INSTANCES_MAX, Listen, ProbeOverride, Protocol, Service, StopPolicy};
use crate::ids::{OfferingName, ProviderName, ServiceName};
use crate::money::Amount;
use crate::time::Span;
use crate::version::VersionRange;

/// The offering that runs the buyer's own program, and so cannot do without `run`.
const PROGRAM: &str = "program";
const HOUR: u64 = 3600;
const DAY: u64 = 24 * HOUR;

const SERVICE: &[Key] = &[
    ("offering", r#"offering = "postgresql""#),
    ("version", r#"version = ">=15, <18""#),
    ("plan", r#"plan = "small""#),
    ("prefer", r#"prefer = ["here"]"#),
    ("run", r#"run = ["./bookshop-web"]"#),
    ("before", r#"before = ["./bookshop-web", "migrate"]"#),
    ("env", r#"env = { DATABASE_URL = "{{ needs.db.uri }}" }"#),
    ("parameters", r#"parameters = { disk_gb = 20 }"#),
    ("adopt", r#"adopt = ["5f1c9a52-3f43-4a49-9b7d-0c7f0a6a2a11"]"#),
    ("needs", r#"needs = ["db", "cache"]"#),
    ("contract", r#"contract = [{ need = "db", sql = "select 1", expect = "1" }]"#),
    ("instances", "instances = 2"),
    ("endpoint", r#"endpoint = "127.0.0.1:8080""#),
    ("protocol", r#"protocol = "http""#),
    ("probe", r#"probe = { ready = { http = "/readyz" }, every = "1s" }"#),
    ("data", r#"data = { durable = true, backup_every = "15m" }"#),
    ("listen", r#"listen = "socket""#),
    ("limits", r#"limits = { memory = "512MiB", cpu = 0.5 }"#),
    ("stop", r#"stop = { drain = "10s", grace = "10s" }"#),
    ("slo", r#"slo = { availability = "99.9%", latency_p99 = "100ms", over = "30d" }"#),
    ("failover", r#"failover = { loses_at_most = "30m", keep_old = "30d" }"#),
    ("outage_cost", "outage_cost = { per_hour = 120 }"),
    ("failures", r#"failures = { crash = "60d" }"#),
    ("own", r#"own = { care = "4..8", outage_hour = "500" }"#),
];
const PROBE: &[Key] = &[
    ("ready", r#"ready = { http = "/readyz" }"#),
    ("deep", r#"deep = { http = "/healthz" }"#),
    ("every", r#"every = "1s""#),
    ("timeout", r#"timeout = "500ms""#),
    ("start_within", r#"start_within = "30s""#),
];
const DATA: &[Key] = &[
    ("durable", "durable = true"),
    ("backup_every", r#"backup_every = "15m""#),
    ("prove_every", r#"prove_every = "7d""#),
];
const LIMITS: &[Key] = &[
    ("memory", r#"memory = "512MiB""#),
    ("cpu", "cpu = 0.5"),
    ("processes", "processes = 100"),
    ("files", "files = 4096"),
];
const OUTAGE_COST: &[Key] = &[("per_hour", "per_hour = 120")];
const STOP: &[Key] = &[("drain", r#"drain = "10s""#), ("grace", r#"grace = "10s""#)];

/// The names that exist.
pub(super) struct Names<'n> {
    pub(super) services: &'n BTreeSet<ServiceName>,
    pub(super) providers: &'n BTreeSet<ProviderName>,
}

/// A service as far as it could be read, with what the checks between services need.
pub(super) struct Draft {
    pub(super) name: ServiceName,
    /// Whole only if nothing is missing; a value with an error in it stands at its default.
    pub(super) service: Option<Service>,
    pub(super) needs: Vec<(ServiceName, Range<usize>)>,
    pub(super) endpoint: Option<(SocketAddr, Range<usize>)>,
}

/// `None` if it is not even a table.
pub(super) fn read(reader: &mut Reader<'_>, names: &Names<'_>, name: ServiceName, value: Value<'_>) -> Option<Draft> {
    let fields = value.fields(reader, format!("service.{name}"), SERVICE)?;
    let offering = fields.required(reader, "offering").and_then(|value| value.name::<OfferingName>(reader));
    let needs = fields.optional("needs").map(|value| read_needs(reader, names, &name, value)).unwrap_or_default();
    let known: BTreeSet<ServiceName> = needs.iter().map(|(need, _)| need.clone()).collect();
    let references = References::of(&known, fields.optional("run"));
    let run = fields.optional("run").and_then(|value| references.read_run(reader, value));
    let has_run = fields.optional("run").is_some() || fields.is_meant("run");
    if !has_run && offering.as_ref().is_some_and(|o| o.as_str() == PROGRAM) {
        let cause = format!("`{name}` is a `{PROGRAM}`, and has no `run` that says which");
        reader.report_missing(fields.span.clone(), cause, "add it, for example `run = [\"./bookshop-web\"]`");
    }
    let endpoint = fields
        .optional("endpoint")
        .and_then(|value| values::read_endpoint(reader, value).map(|endpoint| (endpoint, value.span())));
    let version = fields.optional("version").and_then(|value| value.parsed(reader)).unwrap_or_else(VersionRange::any);
    let service = |offering| Service {
        name: name.clone(),
        offering,
        version,
        plan: fields.optional("plan").and_then(|value| value.name(reader)),
        prefer: fields.optional("prefer").map(|value| read_prefer(reader, names, value)).unwrap_or_default(),
        run: run.unwrap_or_default(),
        before: fields.optional("before").and_then(|value| references.read_command(reader, value)).unwrap_or_default(),
        env: fields.optional("env").and_then(|value| references.read_env(reader, value)).unwrap_or_default(),
        parameters: fields.optional("parameters").and_then(|v| parameters::read(reader, v)).unwrap_or_default(),
        adopt: fields.optional("adopt").map(|value| read_adopt(reader, value)).unwrap_or_default(),
        instances: fields.optional("instances").and_then(|value| read_instances(reader, value)).unwrap_or(1),
        endpoint: endpoint.as_ref().map(|(endpoint, _)| *endpoint),
        protocol: fields.optional("protocol").and_then(|value| read_protocol(reader, value)),
        probe: fields.optional("probe").and_then(|value| read_probe(reader, &name, value)).unwrap_or_default(),
        data: fields.optional("data").and_then(|value| read_data(reader, &name, value)).unwrap_or_default(),
        listen: fields.optional("listen").and_then(|value| read_listen(reader, value)).unwrap_or_default(),
        limits: fields.optional("limits").and_then(|v| read_limits(reader, &name, v)).unwrap_or_default(),
        stop: fields.optional("stop").and_then(|value| read_stop(reader, &name, value)).unwrap_or_default(),
        contracts: fields
            .optional("contract")
            .map(|value| contracts::read(reader, &name, &known, value))
            .unwrap_or_default(),
        needs: known.clone(),
        slo: fields.optional("slo").and_then(|value| slo::read(reader, &format!("service.{name}.slo"), value)),
        failover: fields
            .optional("failover")
            .and_then(|value| failover::read(reader, &format!("service.{name}.failover"), value))
            .unwrap_or_default(),
        outage_cost: fields.optional("outage_cost").and_then(|value| read_outage_cost(reader, &name, value)),
        failures: fields
            .optional("failures")
            .map(|value| failures::read(reader, &format!("service.{name}.failures"), Whose::Service, value))
            .unwrap_or_default(),
        own: fields
            .optional("own")
            .map(|value| own::read(reader, &format!("service.{name}.own"), value))
            .unwrap_or_default(),
    };
    // Without an offering the rest is read all the same, for its errors.
    let service = match offering {
        Some(offering) => Some(service(offering)),
        None => {
            service(PROGRAM.parse().expect("it is a valid name"));
            None
        }
    };
    Some(Draft { name, service, needs, endpoint })
}

/// The provider's own names of instances; each once.
fn read_adopt(reader: &mut Reader<'_>, value: Value<'_>) -> Vec<String> {
    const BYTES_MAX: usize = 1024;
    let mut names: Vec<String> = Vec::new();
    for entry in value.some_list(reader).unwrap_or_default() {
        let Some(name) = entry.some_text(reader) else { continue };
        if name.len() > BYTES_MAX || name.chars().any(char::is_control) {
            entry.reject(reader, format!("`{}` is no name of an instance", shown(name)));
        } else if names.iter().any(|other| other == name) {
            reader.report(entry.span(), format!("`{}` stands here twice", shown(name)), "remove one of the two");
        } else {
            names.push(name.to_owned());
        }
    }
    names
}

/// Each need with where it stands; also those that do not exist, which were reported.
fn read_needs(
    reader: &mut Reader<'_>,
    names: &Names<'_>,
    me: &ServiceName,
    value: Value<'_>,
) -> Vec<(ServiceName, Range<usize>)> {
    let mut needs = Vec::new();
    let mut seen = BTreeSet::new();
    for entry in value.list(reader).unwrap_or_default() {
        let Some(need) = entry.name::<ServiceName>(reader) else { continue };
        if need == *me {
            reader.report(entry.span(), format!("`{me}` needs itself"), "remove it from `needs`");
            continue;
        }
        if !seen.insert(need.clone()) {
            reader.report(entry.span(), format!("`{me}` needs `{need}` twice"), "remove one of the two");
            continue;
        }
        if !names.services.contains(&need) && !reader.may_be_unread(need.as_str()) {
            let known = || names.services.iter().filter(|name| *name != me).map(ServiceName::as_str);
            let cause = format!("`{me}` needs `{need}`, which does not exist");
            let rest = format!("declare `[service.{need}]`, or name a service that exists{}", among(known()));
            let remedy = reader.advise(need.as_str(), known(), &rest);
            reader.report(entry.span(), cause, remedy);
        }
        needs.push((need, entry.span()));
    }
    needs
}

/// `: a, b, c`, or nothing if there are none.
fn among<'n>(names: impl Iterator<Item = &'n str>) -> String {
    let names = listed(names);
    if names.is_empty() { String::new() } else { format!(": {names}") }
}

fn read_prefer(reader: &mut Reader<'_>, names: &Names<'_>, value: Value<'_>) -> Vec<ProviderName> {
    let mut prefer: Vec<ProviderName> = Vec::new();
    let mut seen = BTreeSet::new();
    for entry in value.list(reader).unwrap_or_default() {
        let Some(provider) = entry.name::<ProviderName>(reader) else { continue };
        if !seen.insert(provider.clone()) {
            reader.report(entry.span(), format!("`{provider}` is preferred twice"), "remove one of the two");
        } else if !names.providers.contains(&provider) && !reader.may_be_unread(provider.as_str()) {
            let known = || names.providers.iter().map(ProviderName::as_str);
            let rest = format!("declare `[provider.{provider}]`, or name a provider that exists{}", among(known()));
            let remedy = reader.advise(provider.as_str(), known(), &rest);
            reader.report(entry.span(), format!("there is no provider `{provider}`"), remedy);
        } else {
            prefer.push(provider);
        }
    }
    prefer
}

fn read_instances(reader: &mut Reader<'_>, value: Value<'_>) -> Option<u32> {
    let instances = value.integer(reader, 1..=u64::from(INSTANCES_MAX))?;
    Some(u32::try_from(instances).expect("the limit is a u32"))
}

fn read_probe(reader: &mut Reader<'_>, name: &ServiceName, value: Value<'_>) -> Option<ProbeOverride> {
    let fields = value.fields(reader, format!("service.{name}.probe"), PROBE)?;
    let mut check = |key| {
        let value = fields.optional(key)?;
        values::read_check(reader, format!("service.{name}.probe.{key}"), value)
    };
    let (ready, deep) = (check("ready"), check("deep"));
    let every = read_time(reader, &fields, "every", Span::millis(100), Span::seconds(DAY));
    let timeout = read_time(reader, &fields, "timeout", Span::millis(10), Span::seconds(60));
    let start_within = read_time(reader, &fields, "start_within", Span::millis(100), Span::seconds(DAY));
    if let (Some(every), Some(timeout)) = (every, timeout)
        && timeout > every
    {
        let span = fields.optional("timeout").map_or(fields.span.clone(), |value| value.span());
        let cause = format!("a probe may take {timeout}, longer than the {every} until the next one");
        reader.report(span, cause, "make `timeout` at most as long as `every`");
    }
    Some(ProbeOverride { ready, deep, every, timeout, start_within })
}

fn read_data(reader: &mut Reader<'_>, name: &ServiceName, value: Value<'_>) -> Option<DataPolicy> {
    let fields = value.fields(reader, format!("service.{name}.data"), DATA)?;
    let durable = fields.optional("durable").and_then(|value| value.boolean(reader));
    let backup_every = read_time(reader, &fields, "backup_every", Span::seconds(60), Span::seconds(365 * DAY));
    let prove_every = fields.optional("prove_every").and_then(|value| backups::read_prove(reader, value));
    Some(DataPolicy { durable, backup_every, prove_every: prove_every.unwrap_or_default() })
}

fn read_listen(reader: &mut Reader<'_>, value: Value<'_>) -> Option<Listen> {
    let text = value.text(reader)?;
    let found = [Listen::Port, Listen::Socket].into_iter().find(|listen| listen.as_str() == text);
    if found.is_none() {
        let remedy = "write \"port\" for a program that binds `PORT` itself, or \"socket\" for one that is handed the \
                      listening socket (`LISTEN_FDS`)";
        reader.report(value.span(), format!("there is no way to listen `{}`", shown(text)), remedy);
    }
    found
}

fn read_protocol(reader: &mut Reader<'_>, value: Value<'_>) -> Option<Protocol> {
    let text = value.text(reader)?;
    let found = [Protocol::Tcp, Protocol::Http].into_iter().find(|protocol| protocol.as_str() == text);
    if found.is_none() {
        let remedy = "write \"http\" for HTTP/1.1 without TLS, or \"tcp\" for everything else; left out, it is what the \
                      `ready` probe speaks";
        reader.report(value.span(), format!("endpoints know no protocol `{}`", shown(text)), remedy);
    }
    found
}

fn read_outage_cost(reader: &mut Reader<'_>, name: &ServiceName, value: Value<'_>) -> Option<Amount> {
    let fields = value.fields(reader, format!("service.{name}.outage_cost"), OUTAGE_COST)?;
    let value = fields.required(reader, "per_hour")?;
    let amount = accounts::read_amount(reader, value)?;
    if amount == Amount::ZERO {
        value.reject(reader, "an outage that costs nothing weighs against nothing; leave it out if nobody knows");
        return None;
    }
    Some(amount)
}

fn read_limits(reader: &mut Reader<'_>, name: &ServiceName, value: Value<'_>) -> Option<Limits> {
    let fields = value.fields(reader, format!("service.{name}.limits"), LIMITS)?;
    // The kernel's own bounds: at most 2^22 process ids; open files below 2^30, and a program needs a few to start.
    let processes = fields.optional("processes").and_then(|value| value.integer(reader, 1..=1 << 22));
    let files = fields.optional("files").and_then(|value| value.integer(reader, 16..=1_000_000_000));
    Some(Limits {
        memory_bytes: fields.optional("memory").and_then(|value| values::read_memory(reader, value)),
        cpu_millicores: fields.optional("cpu").and_then(|value| values::read_cpu(reader, value)),
        processes: processes.map(|processes| u32::try_from(processes).expect("the limit is a u32")),
        files,
    })
}

fn read_stop(reader: &mut Reader<'_>, name: &ServiceName, value: Value<'_>) -> Option<StopPolicy> {
    let fields = value.fields(reader, format!("service.{name}.stop"), STOP)?;
    let drain = read_time(reader, &fields, "drain", Span::seconds(0), Span::seconds(DAY));
    let grace = read_time(reader, &fields, "grace", Span::seconds(0), Span::seconds(DAY));
    Some(StopPolicy { drain: drain.unwrap_or(StopPolicy::default().drain), grace })
}

fn read_time(reader: &mut Reader<'_>, fields: &Fields<'_>, key: &'static str, least: Span, most: Span) -> Option<Span> {
    fields.optional(key).and_then(|value| value.span_of_time(reader, least..=most))
}
