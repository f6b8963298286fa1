//! Estates and catalogs in a few words.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use ostler_manager::Event;
use ostler_model::catalog::{Actions, Catalog, Limits, Offering, Plan, ProbePolicy};
use ostler_model::estate::failures::Failures;
use ostler_model::estate::{
    Check, DataPolicy, Estate, Heal, HostProvider, Listen, ProbeOverride, Provider, ProviderKind, Service, StopPolicy,
};
use ostler_model::ids::{EstateUuid, InstanceId, ProviderName, ServiceName};
use ostler_model::time::{Span, Timestamp};
use ostler_model::version::{Version, VersionRange};

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
    Service {
        name: name(text),
        offering: offering.parse().unwrap(),
        version: VersionRange::any(),
        plan: None,
        prefer: Vec::new(),
        run,
        before: Vec::new(),
        env: BTreeMap::new(),
        parameters: Default::default(),
        adopt: Vec::new(),
        needs: BTreeSet::new(),
        instances: 1,
        endpoint: None,
        probe: ProbeOverride::default(),
        data: DataPolicy::default(),
        listen: Listen::Port,
        limits: Limits::default(),
        stop: StopPolicy::default(),
        failures: Failures::default(),
    }
}

pub(crate) fn estate(at_once_percent: u8, services: Vec<Service>) -> Estate {
    let kind = ProviderKind::Host(HostProvider::default());
    let provider = Provider {
        name: here(),
        region: Some("eu-local".to_owned()),
        failures: Failures::default(),
        terms: None,
        kind,
    };
    Estate {
        name: "test".parse().unwrap(),
        currency: String::from("EUR").try_into().unwrap(),
        folder: PathBuf::from("/srv/test"),
        heal: Heal { at_once_percent },
        notify: Vec::new(),
        providers: BTreeMap::from([(here(), provider)]),
        services: services.into_iter().map(|service| (service.name.clone(), service)).collect(),
        failures: Failures::default(),
    }
}

pub(crate) fn offering(text: &str, versions: &[&str]) -> Offering {
    let bought = text == "bought"; // at a broker
    let keeps_data = text == "postgresql" || bought;
    Offering {
        name: text.parse().unwrap(),
        description: format!("{text} for tests"),
        versions: versions.iter().map(|version| version.parse::<Version>().unwrap()).collect(),
        plans: ["small", "large"]
            .map(|plan| Plan {
                name: plan.parse().unwrap(),
                description: plan.to_owned(),
                limits: Limits::default(),
                price: None,
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
        actions: Actions { start_stop: !bought, backup: keeps_data && !bought, unrepeatable: bought },
        probe: ProbePolicy {
            ready: Check::Tcp,
            deep: None,
            every: Span::seconds(1),
            timeout: Span::millis(500),
            start_within: Span::seconds(60),
        },
        stop_grace: Span::seconds(10),
        withdrawn: false,
    }
}

pub(crate) fn catalog(offerings: Vec<Offering>) -> Arc<Catalog> {
    Arc::new(Catalog { offerings: offerings.into_iter().map(|offering| (offering.name.clone(), offering)).collect() })
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
    Event::EstateGiven { estate: Arc::new(estate.clone()), catalogs: catalogs() }
}
