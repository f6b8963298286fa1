//! A provider at a scripted broker, and orders for it.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use ostler_model::binding::Credentials;
use ostler_model::catalog::{Limits, Placement};
use ostler_model::estate::osb::{ApiVersion, OsbAuth, OsbManners, OsbProvider as Declared, OsbTls, SecretSource};
use ostler_model::estate::{Listen, Parameters};
use ostler_model::ids::EstateUuid;
use ostler_model::time::Span;
use ostler_providers::osb::OsbProvider;
use ostler_providers::{Asks, InstanceOrder, Progress, Provider};
use serde_json::{Value, json};

use crate::broker::{Broker, Say};

/// A provider, its broker, and what the provider told of its progress.
pub(crate) struct Shop {
    pub(crate) broker: Broker,
    pub(crate) provider: OsbProvider,
    told: Arc<Mutex<Vec<Option<String>>>>,
    pub(crate) placement: Placement,
}

pub(crate) fn catalog() -> Value {
    json!({"services": [{
        "id": "s-1", "name": "postgresql", "description": "A database.", "bindable": true,
        "instances_retrievable": true, "bindings_retrievable": true, "plan_updateable": true,
        "plans": [
            {"id": "p-small", "name": "small", "description": "Small.", "binding_rotatable": true,
             "maintenance_info": {"version": "1.0.0"},
             "schemas": {"service_instance": {"create": {"parameters": {
                "$schema": "http://json-schema.org/draft-04/schema#", "type": "object",
                "additionalProperties": false, "properties": {"disk_gb": {"type": "integer", "minimum": 1}}}}}}},
            {"id": "p-large", "name": "large", "description": "Large.", "maximum_polling_duration": 1},
        ],
    }]})
}

pub(crate) fn declared(broker: &Broker) -> Declared {
    Declared {
        url: broker.url(),
        api: ApiVersion::default(),
        plaintext: false,
        auth: OsbAuth::Basic {
            username: "shop".to_owned(),
            password: SecretSource::Command(vec!["printf".to_owned(), "hunter2".to_owned()]),
        },
        tls: OsbTls::default(),
        manners: OsbManners {
            timeout: Span::millis(500),
            poll_every: Span::millis(10),
            poll_within: Span::millis(600),
            ..OsbManners::default()
        },
        versions: BTreeMap::new(),
    }
}

impl Shop {
    pub(crate) async fn open() -> Self {
        Self::open_with(catalog(), |_| {}).await
    }

    pub(crate) async fn open_with(catalog: Value, change: impl FnOnce(&mut Declared)) -> Self {
        let broker = Broker::start().await;
        broker.on("GET catalog", [Say::Json(200, catalog)]);
        let mut declared = declared(&broker);
        change(&mut declared);
        let provider = OsbProvider::new("acme".parse().unwrap(), &declared, "/".as_ref()).unwrap();
        let read = provider.catalog().await.unwrap();
        let offering = read.offerings.values().next().unwrap();
        let placement = Placement {
            provider: "acme".parse().unwrap(),
            offering: offering.name.clone(),
            plan: offering.plans[0].name.clone(),
            version: None,
            handle: offering.plans[0].handle.clone(),
            maintenance: offering.plans[0].maintenance.as_ref().map(|kept| kept.version.clone()),
        };
        broker.forget();
        Self { broker, provider, told: Arc::default(), placement }
    }

    pub(crate) fn order(&self) -> InstanceOrder {
        InstanceOrder {
            instance: "db-1".parse().unwrap(),
            estate: "shop".parse().unwrap(),
            placement: self.placement.clone(),
            limits: Limits::default(),
            listen: Listen::Port,
            run: Vec::new(),
            before: Vec::new(),
            env: BTreeMap::new(),
            folder: "/".into(),
            needs: BTreeMap::new(),
            secret: Credentials::default(),
            parameters: Parameters::default(),
            former: None,
            context: Parameters::default(),
            asks: Box::new(Asks {
                estate: Some(EstateUuid::from_random([7; 16])),
                attempt: Some(1),
                access: Some(1),
                round: Some(1),
                ..Asks::default()
            }),
        }
    }

    pub(crate) fn progress(&self) -> Progress {
        let told = self.told.clone();
        Arc::new(move |operation| told.lock().unwrap().push(operation))
    }

    pub(crate) fn told(&self) -> Vec<Option<String>> {
        self.told.lock().unwrap().clone()
    }
}
