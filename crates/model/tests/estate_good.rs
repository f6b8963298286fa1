//! What a right estate file becomes.

#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers of tests fail the test")]

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use ostler_model::catalog::Limits;
use ostler_model::estate::{
    Check, DataPolicy, Estate, Heal, HostProvider, Listen, Notify, NotifyVia, Occasion, Parsed, ProbeOverride,
    Provider, ProviderKind, Service, StopPolicy, parse,
};
use ostler_model::ids::{OfferingName, ServiceName};
use ostler_model::template::Template;
use ostler_model::time::Span;
use ostler_model::version::VersionRange;

fn good(text: &str) -> Parsed {
    parse("ostler.toml", Path::new("/srv/bookshop"), text).unwrap_or_else(|problems| panic!("{problems}"))
}

fn templates(texts: &[&str]) -> Vec<Template> {
    texts.iter().map(|text| text.parse().unwrap()).collect()
}

fn service(name: &str, offering: &str) -> Service {
    Service {
        name: name.parse().unwrap(),
        offering: offering.parse::<OfferingName>().unwrap(),
        version: VersionRange::any(),
        plan: None,
        prefer: Vec::new(),
        run: Vec::new(),
        before: Vec::new(),
        env: BTreeMap::new(),
        needs: BTreeSet::new(),
        instances: 1,
        endpoint: None,
        probe: ProbeOverride::default(),
        data: DataPolicy::default(),
        listen: Listen::Port,
        limits: Limits::default(),
        stop: StopPolicy::default(),
    }
}

fn db() -> Service {
    Service {
        version: ">=15, <18".parse().unwrap(),
        plan: Some("small".parse().unwrap()),
        prefer: vec!["here".parse().unwrap()],
        data: DataPolicy { durable: Some(true), backup_every: Some(Span::seconds(900)) },
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

#[test]
fn every_key_arrives() {
    let cache = Service {
        data: DataPolicy { durable: Some(false), backup_every: None },
        limits: Limits { memory_bytes: Some(256 << 20), cpu_millicores: Some(2000), ..Limits::default() },
        probe: ProbeOverride { ready: Some(Check::Redis), ..ProbeOverride::default() },
        ..service("cache", "redis")
    };
    let mail = Service {
        probe: ProbeOverride {
            ready: Some(Check::Tcp),
            start_within: Some(Span::seconds(60)),
            ..ProbeOverride::default()
        },
        ..service("mail", "mailpit")
    };
    let here = Provider {
        name: "here".parse().unwrap(),
        region: Some("eu-local".to_owned()),
        kind: ProviderKind::Host(HostProvider { offerings: Some("/srv/bookshop/offerings".into()) }),
    };
    let expected = Estate {
        name: "bookshop".parse().unwrap(),
        currency: "CHF".to_owned().try_into().unwrap(),
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
        providers: BTreeMap::from([(here.name.clone(), here)]),
        services: [db(), cache, mail, web()].into_iter().map(|service| (service.name.clone(), service)).collect(),
    };
    assert_eq!(good(include_str!("estates/full.toml")).estate, expected);
}

#[test]
fn an_estate_survives_json() {
    let estate = good(include_str!("estates/full.toml")).estate;
    let json = serde_json::to_string(&estate).unwrap();
    assert_eq!(serde_json::from_str::<Estate>(&json).unwrap(), estate);
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
