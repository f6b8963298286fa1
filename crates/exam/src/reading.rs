//! What can be seen by reading: nothing is made, changed or deleted.

use std::collections::BTreeSet;
use std::net::IpAddr;

use reqwest::Method;
use serde_json::Value;

use crate::examiner::{Examiner, objects, text};
use crate::rules::Rule;
use crate::wire::{Exchange, Object, Send, Who, new_id};

/// The longest text that the specification advises.
const TEXT_MAX: usize = 255;
/// The largest schema that it allows, in bytes.
const SCHEMA_MAX: usize = 64 * 1024;

impl Examiner<'_> {
    /// The catalog, if there is one.
    pub(crate) async fn read(&mut self) -> Option<Object> {
        self.about_to("reading the catalog");
        let exchange = self.catalog(Send::default()).await;
        let is_list =
            exchange.object.as_ref().is_some_and(|object| object.get("services").is_some_and(Value::is_array));
        let is_there = exchange.is(&[200]) && is_list;
        self.rule(Rule::Catalog, is_there, "there is no catalog", &exchange);
        self.check_way_there(&exchange);
        self.check_door(is_there).await;
        if !is_there {
            return None;
        }
        self.rule(Rule::ContentType, exchange.is_json, "the catalog does not say that it is JSON", &exchange);
        self.rule(Rule::RequestIdentity, exchange.echoes, "it does not come back", &exchange);
        let catalog = exchange.object.clone()?;
        self.check_catalog(&catalog, &exchange);
        let again = self.catalog(Send::default()).await;
        let ids = again.object.as_ref().map(ids);
        self.rule(Rule::CatalogStable, ids == Some(self::ids(&catalog)), "it has other ids the second time", &again);
        self.check_unknown(&catalog).await;
        Some(catalog)
    }

    async fn catalog(&self, send: Send) -> Exchange {
        self.send(Method::GET, Send { path: "/v2/catalog".to_owned(), ..send }).await
    }

    fn check_way_there(&mut self, exchange: &Exchange) {
        let url = self.wire.url();
        let host = url.split("://").nth(1).unwrap_or_default().split('/').next().unwrap_or_default();
        let host = host.rsplit_once(':').map_or(host, |(host, _)| host).trim_matches(['[', ']']);
        let is_here = host == "localhost" || host.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback());
        let is_safe = is_here || url.starts_with("https://");
        self.rule(Rule::Encrypted, is_safe, "it is reached by plain HTTP", exchange);
    }

    /// Of whoever cannot be reached, or does not let us in, nothing can be said.
    async fn check_door(&mut self, is_open: bool) {
        if !is_open {
            for rule in [Rule::AuthRequired, Rule::AuthChecked, Rule::VersionMissing, Rule::VersionOld] {
                self.not_seen(rule, "the catalog cannot be read");
            }
            return;
        }
        self.about_to("looking at who is let in");
        if self.wire.has_auth() {
            for (rule, who) in [(Rule::AuthRequired, Who::Nobody), (Rule::AuthChecked, Who::Wrong)] {
                let exchange = self.catalog(Send { who, ..Send::default() }).await;
                self.rule(rule, exchange.is(&[401]), "who asks is not looked at", &exchange);
            }
        } else {
            for rule in [Rule::AuthRequired, Rule::AuthChecked] {
                self.not_seen(rule, "it is asked without a user name and a password");
            }
        }
        let exchange = self.catalog(Send { version: Some(""), ..Send::default() }).await;
        self.rule(Rule::VersionMissing, exchange.is(&[400, 412]), "it does not look for it", &exchange);
        let exchange = self.catalog(Send { version: Some("1.0"), ..Send::default() }).await;
        self.rule(Rule::VersionOld, exchange.is(&[412]), "it says that it speaks version 1.0", &exchange);
    }

    fn check_catalog(&mut self, catalog: &Object, exchange: &Exchange) {
        let wrong = missing_fields(catalog);
        self.rule(Rule::CatalogFields, wrong.is_none(), wrong.as_deref().unwrap_or_default(), exchange);
        let (services, plans) = (objects(catalog, "services"), plans(catalog));
        let is_unique = |key: &str, of: &[&Object]| {
            let texts: Vec<&str> = of.iter().filter_map(|object| text(object, key)).collect();
            texts.iter().collect::<BTreeSet<_>>().len() == texts.len()
        };
        let all: Vec<&Object> = plans.iter().map(|(_, plan)| *plan).collect();
        let unique = is_unique("id", &services) && is_unique("id", &all);
        self.rule(Rule::CatalogIds, unique, "an id stands for two things", exchange);
        let named = is_unique("name", &services)
            && services.iter().all(|service| is_unique("name", &objects(service, "plans")));
        self.rule(Rule::CatalogNames, named, "a name stands for two things", exchange);
        let is_label = |name: &str| name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b".-_".contains(&byte));
        let labelled = services.iter().chain(&all).all(|object| {
            let is_short = ["id", "name", "description"]
                .iter()
                .all(|key| text(object, key).is_none_or(|text| text.chars().count() <= TEXT_MAX));
            is_short && text(object, "name").is_none_or(is_label)
        });
        self.rule(Rule::CatalogLabels, labelled, "a name has other characters, or a text is too long", exchange);
        let wrong = all.iter().find_map(|plan| wrong_schema(plan));
        self.rule(Rule::Schemas, wrong.is_none(), wrong.as_deref().unwrap_or_default(), exchange);
        let versions = all.iter().filter_map(|plan| plan.get("maintenance_info"));
        let is_semantic = |info: &Value| {
            info.get("version").and_then(Value::as_str).is_some_and(|version| semver::Version::parse(version).is_ok())
        };
        let semantic = versions.into_iter().all(is_semantic);
        self.rule(Rule::MaintenanceVersion, semantic, "a maintenance version is none", exchange);
        let is_free = |plan: &Object| plan.get("free").and_then(Value::as_bool).unwrap_or(true);
        let has_costs = |plan: &Object| {
            let costs = plan.get("metadata").and_then(|metadata| metadata.get("costs")).and_then(Value::as_array);
            costs.is_some_and(|costs| !costs.is_empty())
        };
        let priced = all.iter().all(|plan| is_free(plan) || has_costs(plan));
        self.rule(Rule::Prices, priced, "a plan costs something, and does not say what", exchange);
    }

    /// What is not there.
    async fn check_unknown(&mut self, catalog: &Object) {
        self.about_to("asking for what is not there");
        let Some((service, plan)) = plans(catalog).into_iter().next() else { return };
        let ids = ids_of(service, plan);
        let instance = format!("/v2/service_instances/{}", new_id());
        let binding = format!("{instance}/service_bindings/{}", new_id());
        let fetched = |key: &str| service.get(key).and_then(Value::as_bool).unwrap_or_default();
        let mut errors = Vec::new();
        for (rule, path, key) in [
            (Rule::UnknownInstance, &instance, "instances_retrievable"),
            (Rule::UnknownBinding, &binding, "bindings_retrievable"),
        ] {
            if !fetched(key) {
                self.not_seen(rule, &format!("`{key}` is false, so nothing can be fetched"));
                continue;
            }
            let exchange = self.send(Method::GET, Send { path: path.clone(), ..Send::default() }).await;
            self.rule(rule, exchange.is(&[404]), "what is not there is answered otherwise", &exchange);
            errors.push(exchange);
        }
        let path = format!("{instance}/last_operation");
        let exchange = self.send(Method::GET, Send { path, query: ids.clone(), ..Send::default() }).await;
        let is_claimed = matches!(exchange.text("state"), Some("in progress" | "succeeded"));
        self.rule(Rule::UnknownOperation, !is_claimed, "something is said to be done to what is not there", &exchange);
        errors.push(exchange);
        let described = errors
            .iter()
            .filter(|error| error.is_refused() && !error.is(&[410]))
            .all(|error| error.object.is_some() && error.text("description").is_some_and(|text| !text.is_empty()));
        if let Some(last) = errors.last() {
            self.rule(Rule::ErrorBody, described, "an error says nothing that a person could read", last);
        }
    }
}

/// `service_id` and `plan_id`, as queries have them.
pub(crate) fn ids_of(service: &Object, plan: &Object) -> Vec<(&'static str, String)> {
    let id = |of| text(of, "id").unwrap_or_default().to_owned();
    vec![("service_id", id(service)), ("plan_id", id(plan))]
}

/// Every plan, with its service.
pub(crate) fn plans(catalog: &Object) -> Vec<(&Object, &Object)> {
    let of = |service| objects(service, "plans").into_iter().map(move |plan| (service, plan));
    objects(catalog, "services").into_iter().flat_map(of).collect()
}

fn ids(catalog: &Object) -> BTreeSet<(String, String)> {
    let id = |of| text(of, "id").unwrap_or_default().to_owned();
    plans(catalog).into_iter().map(|(service, plan)| (id(service), id(plan))).collect()
}

fn missing_fields(catalog: &Object) -> Option<String> {
    let entries = |of: &Object, key: &str| of.get(key).and_then(Value::as_array).map_or(0, Vec::len);
    let services = objects(catalog, "services");
    if services.len() != entries(catalog, "services") {
        return Some("a service is no object".to_owned());
    }
    for service in services {
        let name = text(service, "name").unwrap_or("without a name");
        let missing = ["id", "name", "description"].into_iter().find(|key| text(service, key).is_none());
        if let Some(key) = missing {
            return Some(format!("the service `{name}` has no `{key}`"));
        }
        if !service.get("bindable").is_some_and(Value::is_boolean) {
            return Some(format!("the service `{name}` does not say whether it is `bindable`"));
        }
        let plans = objects(service, "plans");
        if plans.is_empty() || plans.len() != entries(service, "plans") {
            return Some(format!("the service `{name}` has no `plans`"));
        }
        for plan in plans {
            let missing = ["id", "name", "description"].into_iter().find(|key| text(plan, key).is_none());
            if let Some(key) = missing {
                return Some(format!("a plan of the service `{name}` has no `{key}`"));
            }
        }
    }
    None
}

fn wrong_schema(plan: &Object) -> Option<String> {
    let schemas = plan.get("schemas")?.as_object()?;
    let all = [("service_instance", "create"), ("service_instance", "update"), ("service_binding", "create")];
    all.into_iter().find_map(|(of, when)| {
        let schema = schemas.get(of)?.get(when)?.get("parameters")?;
        let name = format!("{of}.{when}");
        let written = schema.to_string();
        if written.len() > SCHEMA_MAX {
            Some(format!("the schema `{name}` has more than 64 kB"))
        } else if schema.get("$schema").is_none() {
            Some(format!("the schema `{name}` has no `$schema`"))
        } else if has_foreign_reference(schema) {
            Some(format!("the schema `{name}` refers to something elsewhere"))
        } else if jsonschema::validator_for(schema).is_err() {
            Some(format!("the schema `{name}` is no JSON schema"))
        } else {
            None
        }
    })
}

/// Whether a `$ref` leads out of the schema.
fn has_foreign_reference(schema: &Value) -> bool {
    match schema {
        Value::Object(object) => object.iter().any(|(key, value)| {
            (key == "$ref" && value.as_str().is_some_and(|to| !to.starts_with('#'))) || has_foreign_reference(value)
        }),
        Value::Array(values) => values.iter().any(has_foreign_reference),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => false,
    }
}
