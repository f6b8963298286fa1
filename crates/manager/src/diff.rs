//! What a new estate file changes, in words: the reasons beside a rehearsal's commands.

use ostler_model::estate::{Estate, Provider, Service};
use ostler_model::ids::{ProviderName, ServiceName};
use serde::{Deserialize, Serialize};

use crate::knowledge::{Knowledge, Origin};

/// What a new file changes about one service.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "change")]
pub enum Change {
    /// It is new.
    Added {
        /// Which.
        service: ServiceName,
    },
    /// It was kept after it had been taken out of the file, and is declared again.
    Returned {
        /// Which.
        service: ServiceName,
    },
    /// It is no longer declared: it is stopped and kept.
    Removed {
        /// Which.
        service: ServiceName,
    },
    /// From now on something can be bought of this provider.
    ProviderAdded {
        /// Which.
        provider: ProviderName,
    },
    /// Nothing more is bought of this provider; what was bought there stays.
    ProviderRemoved {
        /// Which.
        provider: ProviderName,
    },
    /// These keys of a provider differ.
    ProviderChanged {
        /// Which.
        provider: ProviderName,
        /// The keys; `settings` for how it is reached.
        keys: Vec<String>,
    },
    /// What is sold to others differs, or that anything is.
    Selling {
        /// Something is sold from now on.
        sells: bool,
    },
    /// These keys of it differ.
    Changed {
        /// Which.
        service: ServiceName,
        /// The keys.
        keys: Vec<String>,
    },
}

/// What `estate` changes: first of providers, then of services.
pub fn changes(known: &Knowledge, estate: &Estate) -> Vec<Change> {
    let mut found = known.estate.as_ref().map(|former| of_providers(former, estate)).unwrap_or_default();
    for (name, service) in &estate.services {
        let name = name.clone();
        match known.services.get(&name) {
            None => found.push(Change::Added { service: name }),
            Some(former) if !former.declared => found.push(Change::Returned { service: name }),
            Some(former) => {
                let mut keys = changed_keys(&former.spec, service);
                if former.scale.is_some_and(|scale| scale != service.instances)
                    && !keys.iter().any(|key| key == "instances")
                {
                    keys.push("instances".to_owned());
                }
                if !keys.is_empty() {
                    found.push(Change::Changed { service: name, keys });
                }
            }
        }
    }
    let sells = known.estate.as_ref().and_then(|former| former.provide.as_ref());
    if sells != estate.provide.as_ref() {
        found.push(Change::Selling { sells: estate.provide.is_some() });
    }
    let removed = known.services.iter().filter(|(name, service)| {
        service.declared && service.origin == Origin::Declared && !estate.services.contains_key(*name)
    });
    found.extend(removed.map(|(name, _)| Change::Removed { service: name.clone() }));
    found
}

/// In the first file of an estate they are nothing to tell: each service says of whom it is bought.
fn of_providers(former: &Estate, new: &Estate) -> Vec<Change> {
    let mut found = Vec::new();
    for (name, provider) in &new.providers {
        let Some(former) = former.providers.get(name) else {
            found.push(Change::ProviderAdded { provider: name.clone() });
            continue;
        };
        // Taken apart, so that a key that is added to a provider cannot be forgotten here.
        let Provider {
            name: _,
            region,
            failures: _, // only the simulator reads them
            terms,
            certificate,
            context,
            pricing,
            kind,
        } = provider;
        let keys = [
            ("region", former.region == *region),
            ("terms", former.terms == *terms && former.pricing.prices == pricing.prices),
            ("cost", former.pricing.machine == pricing.machine),
            ("certificate", former.certificate == *certificate),
            ("context", former.context == *context),
            ("settings", former.kind == *kind),
        ];
        let keys: Vec<String> = keys.into_iter().filter(|(_, same)| !same).map(|(key, _)| key.to_owned()).collect();
        if !keys.is_empty() {
            found.push(Change::ProviderChanged { provider: name.clone(), keys });
        }
    }
    let removed = former.providers.keys().filter(|name| !new.providers.contains_key(*name));
    found.extend(removed.map(|name| Change::ProviderRemoved { provider: name.clone() }));
    found
}

fn changed_keys(former: &Service, new: &Service) -> Vec<String> {
    // Taken apart, so that a key that is added to a service cannot be forgotten here.
    let Service {
        name: _,
        offering,
        version,
        plan,
        prefer,
        run,
        before,
        env,
        parameters,
        adopt,
        needs,
        contracts,
        instances,
        endpoint,
        protocol,
        probe,
        data,
        listen,
        limits,
        stop,
        slo,
        failover,
        outage_cost,
        failures: _, // only the simulator reads them: nothing that runs changes
        own: _,      // as little changes by what is assumed of owning it
    } = new;
    [
        ("offering", &former.offering == offering),
        ("version", &former.version == version),
        ("plan", &former.plan == plan),
        ("prefer", &former.prefer == prefer),
        ("run", &former.run == run),
        ("before", &former.before == before),
        ("env", &former.env == env),
        ("parameters", &former.parameters == parameters),
        ("adopt", &former.adopt == adopt),
        ("needs", &former.needs == needs),
        ("contract", &former.contracts == contracts),
        ("instances", &former.instances == instances),
        ("endpoint", &former.endpoint == endpoint),
        ("protocol", &former.protocol == protocol),
        ("probe", &former.probe == probe),
        ("data", &former.data == data),
        ("listen", &former.listen == listen),
        ("limits", &former.limits == limits),
        ("stop", &former.stop == stop),
        ("slo", &former.slo == slo),
        ("failover", &former.failover == failover),
        ("outage_cost", &former.outage_cost == outage_cost),
    ]
    .into_iter()
    .filter(|(_, same)| !same)
    .map(|(key, _)| key.to_owned())
    .collect()
}
