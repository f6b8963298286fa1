//! Estates and catalogs in a few words.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use ostler_manager::{Ask, Event};
use ostler_model::catalog::{Actions, Catalog, Limits, Offering, Plan, ProbePolicy};
use ostler_model::estate::failures::Failures;
use ostler_model::estate::osb::SecretSource;
use ostler_model::estate::provide::{PortRange, Provide};
use ostler_model::estate::{Check, Estate, Heal, HostProvider, Parameters, Provider, ProviderKind, Service};
use ostler_model::ids::{EstateUuid, InstanceId, PlanName, ProviderName, ServiceName};
use ostler_model::sale::{Guest, Sale};
use ostler_model::time::{Span, Timestamp};
use ostler_model::version::Version;

/// 2026-01-05, a Monday, 12:00 UTC.
pub(crate) const START: Timestamp = Timestamp(1_767_614_400_000_000);

pub(crate) fn name(text: &str) -> ServiceName {
    text.parse().unwrap()
}

pub(crate) fn instance(text: &str) -> InstanceId {
    text.parse().unwrap()
}

pub(crate) fn here() -> ProviderName {
    "here".parse().unwrap()
}

pub(crate) fn local(port: u16) -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], port))
}

pub(crate) fn uuid() -> EstateUuid {
    EstateUuid::from_random([7; 16])
}

/// A service of the buyer's own program, or of `offering`.
pub(crate) fn service(text: &str, offering: &str) -> Service {
    let run = if offering == "program" { vec!["./run".parse().unwrap()] } else { Vec::new() };
    Service { run, ..Service::new(name(text), offering.parse().unwrap()) }
}

pub(crate) fn estate(at_once_percent: u8, services: Vec<Service>) -> Estate {
    let kind = ProviderKind::Host(HostProvider::default());
    let provider = Provider {
        name: here(),
        region: Some("eu-local".to_owned()),
        failures: Failures::default(),
        terms: None,
        context: Parameters::default(),
        certificate: None,
        pricing: Default::default(),
        kind,
    };
    Estate {
        name: "test".parse().unwrap(),
        currency: String::from("EUR").try_into().unwrap(),
        residency: Vec::new(),
        folder: PathBuf::from("/srv/test"),
        heal: Heal { at_once_percent },
        notify: Vec::new(),
        providers: BTreeMap::from([(here(), provider)]),
        services: services.into_iter().map(|service| (service.name.clone(), Arc::new(service))).collect(),
        failures: Failures::default(),
        provide: None,
        backups: Default::default(),
        drill: None,
        upgrade: None,
        accounts: Default::default(),
        own: Default::default(),
        audit: Default::default(),
    }
}

/// An estate that sells: at most so many instances.
pub(crate) fn provide(at_most: u32) -> Provide {
    Provide {
        listen: local(8410),
        tls: None,
        buyers: BTreeMap::from([("shop".to_owned(), SecretSource::Env("SHOP".to_owned()))]),
        offer: Vec::new(),
        endpoints: PortRange::parse("127.0.0.1:21000-21999"),
        at_most,
        bindings_last: None,
        prices: BTreeMap::new(),
    }
}

/// `sold-NAME`, of this offering and plan.
pub(crate) fn sell(called: &str, offering: &str, plan: Option<&str>) -> Ask {
    let mut spec = Service::new(name(&format!("sold-{called}")), offering.parse().unwrap());
    spec.plan = plan.map(|plan| plan.parse().unwrap());
    let plan: PlanName = plan.unwrap_or("small").parse().unwrap();
    let sale = Sale {
        buyer: "shop".to_owned(),
        id: called.to_owned(),
        service_id: offering.to_owned(),
        plan_id: plan.to_string(),
        plan,
        parameters: Parameters::default(),
        context: serde_json::Value::Null,
    };
    Ask::Sell { spec: Arc::new(spec), sale: Arc::new(sale) }
}

/// `guest-NAME`, who uses `sold-SOLD`.
pub(crate) fn admit(called: &str, sold: &str) -> Ask {
    let guest = Guest {
        buyer: "shop".to_owned(),
        id: called.to_owned(),
        sold: name(&format!("sold-{sold}")),
        said: serde_json::Value::Null,
        expires: None,
    };
    Ask::Admit { service: name(&format!("guest-{called}")), guest: Arc::new(guest) }
}

pub(crate) fn offering(text: &str, versions: &[&str]) -> Offering {
    let bought = text == "bought"; // at a broker
    let keeps_data = text == "postgresql" || bought;
    Offering {
        name: text.parse().unwrap(),
        description: format!("{text} for tests"),
        versions: versions.iter().map(|version| version.parse::<Version>().unwrap()).collect(),
        series: 1,
        plans: ["small", "large"]
            .map(|plan| Plan {
                name: plan.parse().unwrap(),
                description: plan.to_owned(),
                limits: Limits::default(),
                price: None,
                costs: Vec::new(),
                free: false,
                version: None,
                maintenance: None,
                handle: None,
                withdrawn: false,
            })
            .to_vec(),
        runs_program: text == "program",
        bindable: true,
        durable: keeps_data,
        instances_max: None,
        actions: Actions {
            start_stop: !bought,
            backup: keeps_data && !bought,
            prove: keeps_data && !bought,
            unrepeatable: bought,
            rebind: !bought && text != "program",
            hears_context: bought,
        },
        probe: ProbePolicy {
            ready: Check::Tcp,
            deep: None,
            every: Span::seconds(1),
            timeout: Span::millis(500),
            start_within: Span::seconds(60),
        },
        stop_grace: Span::seconds(10),
        withdrawn: false,
        accepts: Vec::new(),
    }
}

pub(crate) fn catalog(offerings: Vec<Offering>) -> Arc<Catalog> {
    let offerings = offerings.into_iter().map(|offering| (offering.name.clone(), offering)).collect();
    Arc::new(Catalog { offerings, ..Catalog::default() })
}

/// The estate with another provider, which offers the same.
pub(crate) fn with_provider(mut estate: Estate, called: &str) -> Estate {
    let provider = Provider { name: called.parse().unwrap(), ..estate.providers[&here()].clone() };
    estate.providers.insert(provider.name.clone(), provider);
    estate
}

/// `program`; `postgresql`, which keeps data; `redis`, which does not.
pub(crate) fn catalogs() -> BTreeMap<ProviderName, Arc<Catalog>> {
    let offerings = vec![
        offering("program", &[]),
        offering("postgresql", &["15.18", "16.4", "17.2"]),
        offering("redis", &["7.2", "8.0"]),
        offering("bought", &["1.0"]),
    ];
    BTreeMap::from([(here(), catalog(offerings))])
}

pub(crate) fn given(estate: &Estate) -> Event {
    let offered = catalogs();
    let catalogs = estate.providers.keys().map(|name| (name.clone(), offered[&here()].clone())).collect();
    Event::EstateGiven { estate: Arc::new(estate.clone()), catalogs }
}
