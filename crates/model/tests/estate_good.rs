//! What a right estate file becomes.

#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers of tests fail the test")]

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;

use ostler_model::catalog::Limits;
use ostler_model::estate::audit::Audit;
use ostler_model::estate::backups::{Backups, Keep, Prove, S3, S3Credentials, Store};
use ostler_model::estate::claims::{Claims, Counting, Whole, Within};
use ostler_model::estate::contract::{AmqpCheck, ContractCheck};
use ostler_model::estate::drills::{Drills, Fault};
use ostler_model::estate::failover::Failover;
use ostler_model::estate::failures::{FailureKind, FailureRate, FailureScope, Failures};
use ostler_model::estate::osb::{ApiVersion, OsbAuth, OsbManners, OsbProvider, OsbTls, SecretSource};
use ostler_model::estate::provide::{PortRange, Provide, ProvideTls};
use ostler_model::estate::slo::{Exclusion, Slo};
use ostler_model::estate::terms::{Credit, Percent, Terms};
use ostler_model::estate::{
    Check, DataPolicy, Estate, Heal, HostProvider, Listen, Notify, NotifyVia, Occasion, Parameters, Parsed,
    ProbeOverride, Protocol, Provider, ProviderKind, Service, StopPolicy, parse,
};
use ostler_model::ids::ServiceName;
use ostler_model::money::Amount;
use ostler_model::template::Template;
use ostler_model::time::Span;
use ostler_model::window::Calendar;

fn good(text: &str) -> Parsed {
    parse("ostler.toml", Path::new("/srv/bookshop"), text).unwrap_or_else(|problems| panic!("{problems}"))
}

fn templates(texts: &[&str]) -> Vec<Template> {
    texts.iter().map(|text| text.parse().unwrap()).collect()
}

fn service(name: &str, offering: &str) -> Service {
    Service::new(name.parse().unwrap(), offering.parse().unwrap())
}

fn db() -> Service {
    Service {
        version: ">=15, <18".parse().unwrap(),
        plan: Some("small".parse().unwrap()),
        prefer: vec!["here".parse().unwrap()],
        data: DataPolicy { durable: Some(true), backup_every: Some(Span::seconds(900)), ..DataPolicy::default() },
        failover: Failover {
            by_itself: false,
            loses_at_most: Some(Span::seconds(1800)),
            keep_old: Some(Span::seconds(30 * 86_400)),
        },
        outage_cost: Some("12.5".parse().unwrap()),
        limits: Limits {
            memory_bytes: Some(512 << 20),
            cpu_millicores: Some(500),
            processes: Some(100),
            files: Some(4096),
        },
        probe: ProbeOverride {
            ready: Some(Check::Postgresql),
            deep: Some(Check::Command(vec!["./check".to_owned(), "db".to_owned()])),
            ..ProbeOverride::default()
        },
        ..service("db", "postgresql")
    }
}

fn web() -> Service {
    let env = [
        ("DATABASE_URL", "{{ needs.db.uri }}"),
        ("CACHE", "redis://{{ needs.cache.host }}:{{ needs.cache.port }}"),
        ("SELF", "{{ instance.host }}:{{ instance.port }} of {{ estate.name }}"),
        ("EMPTY", ""),
    ];
    Service {
        run: templates(&["./bookshop-web", "--name", "{{ service.name }}", "--id={{ instance.id }}"]),
        before: templates(&["./bookshop-web", "migrate", "{{ needs.db.uri }}"]),
        env: env.into_iter().map(|(name, value)| (name.to_owned(), value.parse().unwrap())).collect(),
        needs: ["db", "cache"].into_iter().map(|name| name.parse().unwrap()).collect(),
        instances: 2,
        endpoint: Some("127.0.0.1:8080".parse().unwrap()),
        listen: Listen::Socket,
        probe: ProbeOverride {
            ready: Some(Check::Http("/readyz".to_owned())),
            deep: Some(Check::Http("/healthz?all=1".to_owned())),
            every: Some(Span::seconds(1)),
            timeout: Some(Span::millis(500)),
            start_within: None,
        },
        stop: StopPolicy { drain: Span::seconds(3), grace: Some(Span::seconds(20)) },
        ..service("web", "program")
    }
}

fn days(days: u64) -> Span {
    Span::seconds(days * 86_400)
}

fn rate(every: Span, lasts: Option<(Span, Span)>) -> Option<FailureRate> {
    Some(FailureRate { every, lasts })
}

fn here() -> Provider {
    let percent = |text: &str| text.parse::<Percent>().unwrap();
    let credit = |below, refund| Credit { below: percent(below), refund: percent(refund) };
    Provider {
        name: "here".parse().unwrap(),
        region: Some("eu-local".to_owned()),
        failures: Failures::from_iter([
            (FailureKind::Outage, rate(days(90), Some((Span::seconds(60), Span::seconds(7200))))),
            (FailureKind::WrongAnswer, rate(days(30), None)),
            (FailureKind::Partition, None),
        ]),
        terms: Some(Terms {
            availability: Some(percent("99.95%")),
            credits: vec![credit("99.95%", "10%"), credit("99%", "25%")],
            counting: Counting {
                zone: Some("America/Los_Angeles".parse().unwrap()),
                whole: Whole::Held,
                outage_from: Some(Span::seconds(60)),
                outage_step: Some(Span::seconds(60)),
                failed: Some(percent("10%")),
                maintenance: vec!["Sun 02:00 - Sun 04:00 UTC".parse().unwrap()],
                maintenance_max: Some(Span::seconds(4 * 3600)),
            },
            claims: Claims {
                within: Some(Within::Months(2)),
                at_least: Some("1".parse().unwrap()),
                at_most: Some(percent("50%")),
            },
        }),
        context: Parameters::default(),
        certificate: None,
        pricing: Default::default(),
        kind: ProviderKind::Host(HostProvider {
            offerings: Some("/srv/bookshop/offerings".into()),
            versions: Some("/srv/bookshop/versions".into()),
        }),
    }
}

#[test]
fn every_key_arrives() {
    let cache = Service {
        data: DataPolicy { durable: Some(false), ..DataPolicy::default() },
        limits: Limits { memory_bytes: Some(256 << 20), cpu_millicores: Some(2000), ..Limits::default() },
        probe: ProbeOverride { ready: Some(Check::Redis), ..ProbeOverride::default() },
        failures: Failures::from_iter([
            (FailureKind::Crash, rate(days(30), None)),
            (FailureKind::Hang, None),
            (FailureKind::BeforeFails, rate(days(364), Some((Span::millis(500), Span::seconds(5400))))),
        ]),
        ..service("cache", "redis")
    };
    let mail = Service {
        protocol: Some(Protocol::Http),
        probe: ProbeOverride {
            ready: Some(Check::Tcp),
            start_within: Some(Span::seconds(60)),
            ..ProbeOverride::default()
        },
        ..service("mail", "mailpit")
    };
    let expected = Estate {
        name: "bookshop".parse().unwrap(),
        currency: "CHF".to_owned().try_into().unwrap(),
        residency: Vec::new(),
        folder: "/srv/bookshop".into(),
        heal: Heal { at_once_percent: 25 },
        notify: vec![
            Notify {
                on: BTreeSet::from([Occasion::Held, Occasion::Failed]),
                via: NotifyVia::Command(vec!["./page-me".to_owned(), "--loud".to_owned()]),
            },
            Notify {
                on: BTreeSet::from(Occasion::ALL),
                via: NotifyVia::Webhook("http://127.0.0.1:9000/ostler?from=bookshop".to_owned()),
            },
        ],
        providers: BTreeMap::from([("here".parse().unwrap(), here())]),
        services: [db(), cache, mail, web()]
            .into_iter()
            .map(|service| (service.name.clone(), Arc::new(service)))
            .collect(),
        failures: Failures::from_iter([
            (FailureKind::Crash, rate(days(60), None)),
            (FailureKind::PowerLoss, rate(days(365), Some((Span::seconds(300), Span::seconds(300))))),
        ]),
        provide: None,
        backups: Backups::default(),
        drill: None,
        upgrade: None,
        accounts: Default::default(),
        own: Default::default(),
        audit: Default::default(),
    };
    assert_eq!(good(include_str!("estates/full.toml")).estate, expected);
}

#[test]
fn what_is_said_of_money_is_read_digit_by_digit() {
    let text = r#"
[estate]
name = "shop"
budget = { monthly = 400.10 }
rates = { USD = "0.9217", GBP = 1.15 }
zone = "Europe/Berlin"

[provider.here]
kind = "host"
cost = { purchase = "2400", years = 4, watts = 60, kwh = "0.30", care = 2.5, care_rate = "60" }

[provider.acme]
kind = "osb"
url = "https://acme.example"
auth = { username = "u", password = { env = "P" } }

[provider.acme.terms.prices.postgresql]
small = "19.00"
large = [{ amount = "0.0000000001", per = "hour", currency = "USD" }, { amount = 50, per = "once" }]

[backups]
gb_month = "0.021"
"#;
    let estate = good(text).estate;
    let amount = |text: &str| text.parse::<Amount>().unwrap();
    assert_eq!(estate.accounts.budget, Some(amount("400.1")));
    assert_eq!(estate.accounts.zone.to_string(), "Europe/Berlin");
    let rates: Vec<String> = estate.accounts.rates.iter().map(|(of, rate)| format!("{of:?} {rate}")).collect();
    assert_eq!(rates, ["GBP 1.15", "USD 0.9217"]);
    let machine = estate.providers[&"here".parse().unwrap()].pricing.machine.clone().unwrap();
    assert_eq!((machine.purchase, machine.years, machine.watts), (amount("2400"), 4, amount("60")));
    assert_eq!((machine.kwh, machine.care, machine.care_rate), (amount("0.3"), amount("2.5"), amount("60")));
    let acme = &estate.providers[&"acme".parse().unwrap()];
    assert_eq!(acme.terms, None);
    let plans = &acme.pricing.prices[&"postgresql".parse().unwrap()];
    let shown = |plan: &str| serde_json::to_string(&plans[&plan.parse().unwrap()]).unwrap();
    assert_eq!(shown("small"), r#"[{"amounts":{"EUR":"19"},"per":"month"}]"#);
    assert_eq!(
        shown("large"),
        r#"[{"amounts":{"USD":"0.0000000001"},"per":"hour"},{"amounts":{"EUR":"50"},"per":"once"}]"#
    );
    assert_eq!(estate.backups.gb_month, Some(amount("0.021")));
    let stored = serde_json::to_string(&estate).unwrap();
    assert_eq!(serde_json::from_str::<Estate>(&stored).unwrap(), estate);
}

#[test]
fn what_is_sold_is_read() {
    let text = r#"
[estate]
name = "acme"

[provider.here]
kind = "host"

[provide]
listen = "10.0.0.5:8410"
tls = { certificate = "broker.pem", key = "/etc/broker.key" }
offer = ["postgresql"]
endpoints = "10.0.0.5:21000-21999"
at_most = 7
bindings_last = "720h"

[provide.buyer.shop]
password = { file = "shop-password" }

[provide.price.postgresql]
standard = "9.00"
"#;
    let estate = good(text).estate;
    let expected = Provide {
        listen: "10.0.0.5:8410".parse().unwrap(),
        tls: Some(ProvideTls { certificate: "/srv/bookshop/broker.pem".into(), key: "/etc/broker.key".into() }),
        buyers: BTreeMap::from([("shop".to_owned(), SecretSource::File("/srv/bookshop/shop-password".into()))]),
        offer: vec!["postgresql".parse().unwrap()],
        endpoints: PortRange::parse("10.0.0.5:21000-21999"),
        at_most: 7,
        bindings_last: Some(Span::seconds(720 * 3600)),
        prices: BTreeMap::from([(
            "postgresql".parse().unwrap(),
            BTreeMap::from([("standard".parse().unwrap(), "9.00".to_owned())]),
        )]),
    };
    assert_eq!(estate.provide.as_deref(), Some(&expected));
    let json = serde_json::to_string(&estate).unwrap();
    assert_eq!(serde_json::from_str::<Estate>(&json).unwrap(), estate);
}

#[test]
fn every_key_of_audit_arrives() {
    let text = "[estate]\nname = \"shop\"\n\n[provider.here]\nkind = \"host\"\n\n";
    assert_eq!(good(text).estate.audit, Audit::default());
    assert_eq!(good(&format!("{text}[audit]\n")).estate.audit, Audit::default());
    for (witness, expected) in [("./kept", "kept"), ("kept", "kept"), ("/mnt/kept", "/mnt/kept")] {
        let parsed = good(&format!("{text}[audit]\nwitness = \"{witness}\"\nevery = \"15m\"\n"));
        let witness = parsed.estate.folder.join(expected);
        assert_eq!(parsed.estate.audit, Audit { witness: Some(witness), every: Span::seconds(900) });
    }
}

#[test]
fn every_key_of_drills_arrives() {
    let text = "[estate]\nname = \"shop\"\n\n[provider.here]\nkind = \"host\"\n\n[service.db]\noffering = \"redis\"\n";
    assert_eq!(good(text).estate.drill, None);
    assert_eq!(good(&format!("{text}[drill]\n")).estate.drill.as_deref(), Some(&Drills::default()));
    let window = "Sun 02:00 - 04:00 Europe/Berlin";
    let estate = good(&format!(
        "{text}[drill]\nwindow = [\"{window}\"]\nfreeze = [\"2026-12-20 - 2027-01-02\"]\nevery = \"7d\"\n\
         faults = [\"refuse\", \"slow\"]\nservices = [\"db\"]\nat_most = 2\nkeep = 1\nlasts = \"30s\"\nvalid = \"90d\"\n"
    ))
    .estate;
    let expected = Drills {
        calendar: Calendar {
            window: vec![window.parse().unwrap()],
            freeze: vec!["2026-12-20 - 2027-01-02".parse().unwrap()],
        },
        every: Some(days(7)),
        faults: vec![Fault::Refuse, Fault::Slow],
        services: BTreeSet::from(["db".parse().unwrap()]),
        at_most: 2,
        keep: 1,
        lasts: Span::seconds(30),
        valid: days(90),
    };
    assert_eq!(estate.drill.as_deref(), Some(&expected));
    let json = serde_json::to_string(&estate).unwrap();
    assert_eq!(serde_json::from_str::<Estate>(&json).unwrap(), estate);
}

#[test]
fn a_certificate_is_named_and_not_read() {
    let text = "[estate]\nname = \"shop\"\n\n[provider.acme]\nkind = \"osb\"\nurl = \"https://acme.example\"\n";
    let parsed = good(&format!("{text}certificate = \"./acme.json\"\n"));
    let named: Vec<_> = parsed.certificates.into_iter().map(|(name, path)| (name.to_string(), path)).collect();
    assert_eq!(named, [("acme".to_owned(), "/srv/bookshop/./acme.json".into())]);
    assert_eq!(parsed.estate, good(text).estate);
}

#[test]
fn residency_is_a_region_and_what_lies_in_it() {
    let text = "[estate]\nname = \"shop\"\nresidency = [\"eu\", \"ch-zurich\"]\n\n[provider.here]\nkind = \"host\"\n";
    let estate = good(text).estate;
    for (region, allowed) in [
        (Some("eu"), true),
        (Some("eu-west-1"), true),
        (Some("europe"), false),
        (Some("ch-zurich"), true),
        (Some("ch"), false),
        (None, false),
    ] {
        assert_eq!(estate.may_hold(region), allowed, "{region:?}");
    }
    let anywhere = good(&text.replace("residency", "# residency")).estate;
    assert!(anywhere.may_hold(None));
}

#[test]
fn contracts_are_read() {
    let text = r#"
[estate]
name = "shop"

[provider.here]
kind = "host"

[service.db]
offering = "postgresql"

[service.web]
offering = "program"
run = ["./web"]
needs = ["db"]
contract = [
    { need = "db", name = "books", sql = "select 1", expect = "1" },
    { need = "db", redis = ["GET", "a"], expect = "b" },
    { need = "db", http = "/x", expect = "ok", status = 201 },
    { need = "db", http = "/y" },
    { need = "db", amqp = { queue = "orders" } },
    { need = "db", amqp = { exchange = "events" } },
    { need = "db", amqp = "round-trip" },
    { need = "db", tcp = true },
    { need = "db", command = ["./check"] },
    { need = "db", version = ">=15, <17" },
    { need = "db", name = "both", version = "16", tcp = true },
]
"#;
    let contracts = good(text).estate.services[&"web".parse::<ServiceName>().unwrap()].contracts.clone();
    let versions: Vec<(&str, String)> = contracts
        .iter()
        .filter_map(|contract| Some((contract.name.as_str(), contract.version.as_ref()?.to_string())))
        .collect();
    assert_eq!(versions, [("version >=15, <17", ">=15, <17".to_owned()), ("both", "16".to_owned())]);
    let told: Vec<(String, &ContractCheck)> =
        contracts.iter().filter_map(|contract| Some((contract.name.clone(), contract.check.as_ref()?))).collect();
    let http = |path: &str, status, contains: Option<&str>| ContractCheck::Http {
        path: path.to_owned(),
        status,
        contains: contains.map(str::to_owned),
    };
    let expected = [
        ("books", ContractCheck::Sql { query: "select 1".to_owned(), expect: "1".to_owned() }),
        ("GET a", ContractCheck::Redis { command: vec!["GET".to_owned(), "a".to_owned()], expect: "b".to_owned() }),
        ("GET /x", http("/x", 201, Some("ok"))),
        ("GET /y", http("/y", 200, None)),
        ("queue orders", ContractCheck::Amqp(AmqpCheck::Queue("orders".to_owned()))),
        ("exchange events", ContractCheck::Amqp(AmqpCheck::Exchange("events".to_owned()))),
        ("round-trip", ContractCheck::Amqp(AmqpCheck::RoundTrip)),
        ("connect", ContractCheck::Tcp),
        ("./check", ContractCheck::Command(vec!["./check".to_owned()])),
        ("both", ContractCheck::Tcp),
    ];
    assert_eq!(told, expected.iter().map(|(name, check)| ((*name).to_owned(), check)).collect::<Vec<_>>());
}

#[test]
fn an_estate_survives_json() {
    let estate = good(include_str!("estates/full.toml")).estate;
    let json = serde_json::to_string(&estate).unwrap();
    assert_eq!(serde_json::from_str::<Estate>(&json).unwrap(), estate);
}

#[test]
fn a_brokers_keys_arrive() {
    let text = r#"
[estate]
name = "shop"

[provider.acme]
kind = "osb"
url = "https://broker.acme.example/osb/"
api = "2.14"
auth = { username = "shop", password = { env = "ACME_PASSWORD" } }
tls = { roots = "acme-ca.pem", identity = "/etc/shop.pem" }
context = { cost_center = "4711", labels = { tier = 1, night = true } }
manners = { at_once = 4, per_second = 50, timeout = "30s", poll_every = "5s", poll_within = "1h" }
versions = { postgresql = { small = "16.2" } }

[service.db]
offering = "postgresql"
parameters = { disk_gb = 20, backups = [1, 2.5, "x"] }
"#;
    let estate = good(text).estate;
    let acme = &estate.providers[&"acme".parse().unwrap()];
    let expected = OsbProvider {
        url: "https://broker.acme.example/osb".to_owned(),
        api: ApiVersion::parse("2.14").unwrap(),
        plaintext: false,
        auth: OsbAuth::Basic { username: "shop".to_owned(), password: SecretSource::Env("ACME_PASSWORD".to_owned()) },
        tls: OsbTls { roots: Some("/srv/bookshop/acme-ca.pem".into()), identity: Some("/etc/shop.pem".into()) },
        manners: OsbManners {
            at_once: 4,
            per_second: Some(50),
            timeout: Span::seconds(30),
            poll_every: Span::seconds(5),
            poll_within: Span::seconds(3600),
        },
        versions: BTreeMap::from([(
            "postgresql".parse().unwrap(),
            BTreeMap::from([("small".parse().unwrap(), "16.2".parse().unwrap())]),
        )]),
    };
    assert_eq!(acme.kind, ProviderKind::Osb(Box::new(expected)));
    let context = r#"{"cost_center":"4711","labels":{"night":true,"tier":1}}"#;
    assert_eq!(serde_json::to_string(&acme.context).unwrap(), context);
    let parameters = serde_json::to_string(&estate.services[&"db".parse().unwrap()].parameters).unwrap();
    assert_eq!(parameters, r#"{"backups":[1,2.5,"x"],"disk_gb":20}"#);
}

#[test]
fn service_levels_arrive() {
    let text = r#"
[estate]
name = "shop"

[provider.here]
kind = "host"

[service.a]
offering = "redis"
slo = { availability = "99.95%", latency_p99 = "20ms", over = "7d", exclude = [
    { window = "Sat 22:00 - Sun 04:00 Europe/Berlin", reason = "maintenance" },
] }

[service.b]
offering = "redis"
slo = { latency_p99 = "1s" }
"#;
    let estate = good(text).estate;
    let slo = |name: &str| estate.services[&name.parse().unwrap()].slo.clone();
    let window = "Sat 22:00 - Sun 04:00 Europe/Berlin".parse().unwrap();
    let expected = Slo {
        availability: Some("99.95%".parse().unwrap()),
        latency_p99: Some(Span::millis(20)),
        over: days(7),
        exclude: vec![Exclusion { window, reason: "maintenance".to_owned() }],
    };
    assert_eq!(slo("a"), Some(expected));
    let expected = Slo { availability: None, latency_p99: Some(Span::seconds(1)), over: days(30), exclude: Vec::new() };
    assert_eq!(slo("b"), Some(expected));
    let json = serde_json::to_string(&estate).unwrap();
    assert_eq!(serde_json::from_str::<Estate>(&json).unwrap(), estate);
}

/// Facts that were stored before these keys existed are read, and an estate that does not use them is stored as then.
#[test]
fn without_the_newer_keys_an_estate_is_stored_as_before() {
    let estate = good(include_str!("estates/bookshop.toml")).estate;
    let json = serde_json::to_string(&estate).unwrap();
    assert!(["failures", "terms", "context", "slo"].iter().all(|key| !json.contains(key)), "{json}");
    assert_eq!(serde_json::from_str::<Estate>(&json).unwrap(), estate);
}

/// Whatever may be said in the general table can be said of a service, of a provider, or only there; never of two.
#[test]
fn each_kind_of_failure_has_its_places() {
    let base = "[estate]\nname = \"a\"\n[provider.here]\nkind = \"host\"\n[service.a]\noffering = \"redis\"\n";
    for kind in FailureKind::ALL {
        let lasts = if kind.lasts() { ", lasts = \"1ms - 30d\"" } else { "" };
        let said = |table: &str| {
            let text = format!("{base}[{table}]\n{kind} = {{ every = \"36500d\"{lasts} }}\n");
            parse("ostler.toml", Path::new("/"), &text)
        };
        let everywhere = said("failures").unwrap().estate.failures;
        let of_service = said("service.a.failures").map(|parsed| parsed.estate.services.into_values().next().unwrap());
        let of_provider = said("provider.here.failures").map(|parsed| parsed.estate.providers.into_values().next());
        match kind.scope() {
            FailureScope::Instance | FailureScope::Service => {
                assert_eq!(of_service.unwrap().failures, everywhere);
                of_provider.unwrap_err();
            }
            FailureScope::Provider => {
                assert_eq!(of_provider.unwrap().unwrap().failures, everywhere);
                of_service.unwrap_err();
            }
            FailureScope::Region | FailureScope::Estate => {
                of_service.unwrap_err();
                of_provider.unwrap_err();
            }
        }
        assert_eq!(everywhere.get(kind).unwrap().unwrap().lasts.is_some(), kind.lasts());
    }
}

#[test]
fn the_design_bookshop_is_an_estate() {
    let estate = good(include_str!("estates/bookshop.toml")).estate;
    let names: Vec<_> = estate.services.keys().map(ServiceName::as_str).collect();
    assert_eq!(names, ["cache", "db", "web"]);
    assert_eq!(estate.heal, Heal::default());
}

#[test]
fn the_least_is_enough() {
    let estate = good("[estate]\nname = \"a\"\n[provider.here]\nkind = \"host\"\n").estate;
    assert_eq!((estate.currency.as_str(), estate.heal, estate.services.len()), ("EUR", Heal::default(), 0));
}

#[test]
fn all_ways_to_write_a_table_are_one() {
    let dotted = "estate.name = \"a\"\nprovider.here.kind = \"host\"\nservice.web.offering = \"redis\"\n\
                  service.web.probe.every = \"1s\"\n";
    let headers = "[estate]\nname = \"a\"\n[provider.here]\nkind = \"host\"\n[service.web]\noffering = \"redis\"\n\
                   [service.web.probe]\nevery = \"1s\"\n";
    assert_eq!(good(dotted).estate, good(headers).estate);
    let once = format!("{headers}[notify]\ncommand = [\"x\"]\n");
    let listed = format!("{headers}[[notify]]\ncommand = [\"x\"]\n");
    assert_eq!(good(&once).estate, good(&listed).estate);
}

#[test]
fn spans_point_at_values_and_tables() {
    let text = include_str!("estates/full.toml");
    let parsed = good(text);
    for (path, expected) in [
        ("service.web", "[service.web]"),
        ("service.web.needs.0", "\"db\""),
        ("service.web.run", "[\"./bookshop-web\", \"--name\", \"{{ service.name }}\", \"--id={{ instance.id }}\"]"),
        ("service.web.env.EMPTY", "\"\""),
        ("service.db.version", "\">=15, <18\""),
        ("service.web.version", "[service.web]"),
        ("provider.here", "[provider.here]"),
        ("provider.here.offerings", "\"offerings\""),
        ("notify.1.webhook", "\"http://127.0.0.1:9000/ostler?from=bookshop\""),
        ("nothing.at.all", ""),
    ] {
        assert_eq!(&text[parsed.span(path)], expected, "{path}");
    }
}

#[test]
fn endpoints_on_several_addresses_of_one_port_are_fine() {
    let mut text = "[estate]\nname = \"a\"\n[provider.here]\nkind = \"host\"\n".to_owned();
    for (index, endpoint) in ["127.0.0.1:80", "127.0.0.2:80", "[::1]:80", "0.0.0.0:81"].iter().enumerate() {
        text.push_str(&format!("[service.s{index}]\noffering = \"redis\"\nendpoint = \"{endpoint}\"\n"));
    }
    assert_eq!(good(&text).estate.services.len(), 4);
}

/// What the guide's page shows of failures and terms is an estate, and its table of failures is this one.
#[test]
fn the_page_on_failures_and_terms_is_true() {
    let page = include_str!("../../../docs/src/estate-file.md");
    let shown = page.split("```toml\n").skip(1).map(|rest| rest.split_once("```").unwrap().0);
    let shown: String = shown.collect();
    let text = format!("[estate]\nname = \"a\"\n{shown}\n[service.web]\noffering = \"redis\"\n");
    let estate = good(&text).estate;
    let web = estate.services[&"web".parse().unwrap()].failures.in_front_of(&estate.failures);
    assert_eq!(web.get(FailureKind::Crash), Some(rate(days(7), None)));
    assert_eq!(web.get(FailureKind::Hang), Some(None));
    let provider = estate.providers.values().next().unwrap();
    assert_eq!(provider.failures.iter().count(), 1);
    let refund = |share: &str| provider.terms.as_ref().unwrap().refund(share.parse().unwrap()).to_string();
    assert_eq!(["99.5%", "98%", "99.95%"].map(refund), ["10%", "25%", "0%"]);
    for kind in FailureKind::ALL {
        let (whom, places) = match kind.scope() {
            FailureScope::Instance => ("instance", "service, general"),
            FailureScope::Service => ("service", "service, general"),
            FailureScope::Provider => ("provider", "provider, general"),
            FailureScope::Region => ("region", "general"),
            FailureScope::Estate => ("estate", "general"),
        };
        let lasts = if kind.lasts() { "yes" } else { "no" };
        let row = page.lines().find(|line| line.starts_with(&format!("| `{kind}` | {whom} |"))).unwrap();
        assert!(row.ends_with(&format!("| {lasts} | {places} |")), "{row}");
    }
}

#[test]
fn where_backups_are_kept() {
    let place = |lines: &str| {
        let text = format!("[estate]\nname = \"a\"\n[provider.here]\nkind = \"host\"\n[backups]\n{lines}\n");
        good(&text).estate.backups
    };
    assert_eq!(place(""), Backups::default());
    assert_eq!(place("to = \"./elsewhere\"").to, Store::Folder("/srv/bookshop/elsewhere".into()));
    assert_eq!(place("to = \"/mnt/elsewhere\"").to, Store::Folder("/mnt/elsewhere".into()));
    let keys = "credentials = { key_id = { env = \"ID\" }, secret_key = { file = \"./key\" } }";
    let credentials = S3Credentials {
        key_id: SecretSource::Env("ID".to_owned()),
        secret_key: SecretSource::File("/srv/bookshop/key".into()),
    };
    let amazons = place(&format!("to = \"s3://shops.example/a/b/\"\nregion = \"eu-central-1\"\n{keys}")).to;
    assert_eq!(amazons.to_string(), "s3://shops.example/a/b");
    let bucket = S3 {
        bucket: "shops.example".to_owned(),
        prefix: "a/b".to_owned(),
        endpoint: None,
        region: "eu-central-1".to_owned(),
        credentials,
    };
    assert_eq!(amazons, Store::S3(Box::new(bucket.clone())));
    let own = place(&format!("to = \"s3://shops.example\"\nendpoint = \"http://127.0.0.1:9000/\"\n{keys}")).to;
    let (prefix, endpoint) = (String::new(), Some("http://127.0.0.1:9000".to_owned()));
    assert_eq!(own, Store::S3(Box::new(S3 { prefix, endpoint, region: S3::usual_region(), ..bucket })));
    let keep = place("keep = { all = \"6h\", daily = \"30d\" }").keep;
    assert_eq!(keep, Keep { all: Span::seconds(6 * 3600), daily: Span::seconds(30 * 86_400), ..Keep::default() });
    // Without a word of it nothing is written down: the facts of earlier versions say the same.
    let text =
        serde_json::to_string(&good("[estate]\nname = \"a\"\n[provider.here]\nkind = \"host\"\n").estate).unwrap();
    assert!(!text.contains("backups"), "{text}");
}

#[test]
fn how_often_restores_are_proven() {
    let every = |data: &str| {
        let text = format!(
            "[estate]\nname = \"a\"\n[provider.here]\nkind = \"host\"\n[service.db]\noffering = \"x\"\ndata = {{ {data} }}\n"
        );
        good(&text).estate.services.values().next().unwrap().data.proof_every()
    };
    let days = |days: u64| Some(Span::seconds(days * 86_400));
    assert_eq!((every(""), every("backup_every = \"1h\""), every("prove_every = \"2d\"")), (None, days(7), days(2)));
    assert_eq!(every("backup_every = \"1h\", prove_every = \"never\""), None);
    assert_eq!(good("[estate]\nname = \"a\"\n[provider.here]\nkind = \"host\"\n[service.db]\noffering = \"x\"\ndata = { prove_every = \"never\" }\n").estate.services.values().next().unwrap().data.prove_every, Prove::Never);
}
