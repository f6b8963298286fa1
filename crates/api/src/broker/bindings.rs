//! Bindings: bind, fetch, unbind, rotate, and how far that is.

use std::sync::Arc;
use std::time::Duration;

use axum::http::StatusCode;
use ostler_manager::Ask;
use ostler_model::binding::Secret;
use ostler_model::ids::{SecretId, ServiceName};
use ostler_model::sale::Guest;
use ostler_model::time::Timestamp;
use ostler_runtime::clock;
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::answer::{Answer, Answered};
use super::door::{Request, Shop};
use super::instances::check_ids;
use super::known::{Admitted, AdmittedState, Sold, SoldState, wait};
use super::names;

const BIND: &str = "bind";
const UNBIND: &str = "unbind";
/// A platform that can wait is told to come back after this; most bindings are made long before.
const AT_ONCE: Duration = Duration::from_secs(5);
/// A platform that cannot wait is kept waiting so long: platforms give up after 60 s.
const AT_LAST: Duration = Duration::from_secs(45);
/// A binding is to have its successor when so much of its time is left.
const RENEW_BEFORE: u32 = 3;

/// The body of a bind. Unknown fields are ignored, as the specification has it.
#[derive(Deserialize)]
struct Body {
    service_id: Option<String>,
    plan_id: Option<String>,
    #[serde(default)]
    parameters: Option<Map<String, Value>>,
    #[serde(default)]
    bind_resource: Option<Map<String, Value>>,
    #[serde(default)]
    predecessor_binding_id: Option<String>,
}

impl Shop {
    /// `PUT /v2/service_instances/:instance_id/service_bindings/:binding_id`.
    pub(super) async fn bind(&self, request: &Request, instance: &str, id: &str) -> Answered {
        let body: Body = request.body()?;
        if !names::is_id(id) {
            return Err(Answer::bad(format!("a binding's id has 1 to {} visible bytes", names::ID_BYTES_MAX)));
        }
        let name = names::guest(&request.buyer, instance, id);
        let till = self.till.lock().await;
        let sold = self.sold(request, instance).await.ok_or_else(|| Answer::not_found("there is no such instance"))?;
        self.check(request, instance, &sold, &body).await?;
        let said = json!({ "bind_resource": body.bind_resource, "predecessor": body.predecessor_binding_id });
        let admitted = self.admitted(&name).await;
        match &admitted {
            Some(known) if known.state == AdmittedState::Going => return Err(Answer::concurrent()),
            Some(known) if known.guest.said != said => {
                return Err(Answer::conflict("there is a binding with this id and other attributes"));
            }
            Some(_) => {}
            None => {
                let guest = Guest {
                    buyer: request.buyer.clone(),
                    id: id.to_owned(),
                    sold: names::sold(&request.buyer, instance),
                    said,
                    expires: self.provide().await.and_then(|last| last).map(|last| clock::now() + last),
                };
                self.tell(Ask::Admit { service: name.clone(), guest: Arc::new(guest) }).await;
            }
        }
        drop(till); // others buy while this one is being bound
        self.wait_for_binding(request, &name, admitted.is_some()).await
    }

    async fn check(&self, request: &Request, instance: &str, sold: &Sold, body: &Body) -> Result<(), Answer> {
        // A successor is for the same plan, so only a first binding has to name it.
        match (&body.service_id, &body.plan_id, &body.predecessor_binding_id) {
            (Some(service), Some(plan), _) => check_ids(&sold.sale, service, plan)?,
            (None, None, Some(_)) => {}
            _ => return Err(Answer::bad("`service_id` or `plan_id` is missing")),
        }
        if body.parameters.as_ref().is_some_and(|parameters| !parameters.is_empty()) {
            return Err(Answer::bad("bindings of this plan take no parameters"));
        }
        if body.bind_resource.as_ref().is_some_and(|resource| resource.contains_key("route")) {
            return Err(Answer::bad("this is no route service"));
        }
        if let Some(predecessor) = &body.predecessor_binding_id {
            let former = self.admitted(&names::guest(&request.buyer, instance, predecessor)).await;
            if former.is_none_or(|former| former.state != AdmittedState::There) {
                return Err(Answer::bad("there is no binding to be followed"));
            }
        }
        match sold.state {
            SoldState::There => Ok(()),
            SoldState::Making { .. } | SoldState::Changing { .. } | SoldState::Going { .. } => {
                Err(Answer::concurrent())
            }
        }
    }

    async fn wait_for_binding(&self, request: &Request, name: &ServiceName, was_there: bool) -> Answered {
        let within = if request.query.accepts_incomplete { AT_ONCE } else { AT_LAST };
        let asked = name.clone();
        let made = wait(&self.handle, within, move |known| match Admitted::of(known, &asked) {
            Some(admitted) if admitted.state == AdmittedState::Making => None,
            other => Some(other),
        });
        match made.await {
            Some(Some(admitted)) if admitted.state == AdmittedState::There => {
                let body = self.content(&admitted).await?;
                Ok(Answer::new(if was_there { StatusCode::OK } else { StatusCode::CREATED }, body))
            }
            Some(_) => Err(Answer::error(StatusCode::INTERNAL_SERVER_ERROR, "it was ended while it was being made")),
            None if request.query.accepts_incomplete => Ok(Answer::accepted(BIND)),
            None => {
                // The platform hears that it failed, so it has to be so.
                self.tell(Ask::EndSale { service: name.clone() }).await;
                Err(Answer::error(StatusCode::INTERNAL_SERVER_ERROR, "the instance does not answer now"))
            }
        }
    }

    /// `GET /v2/service_instances/:instance_id/service_bindings/:binding_id`.
    pub(super) async fn fetch_binding(&self, request: &Request, instance: &str, id: &str) -> Answered {
        let admitted = self.admitted(&names::guest(&request.buyer, instance, id)).await;
        match admitted.filter(|admitted| admitted.state == AdmittedState::There) {
            Some(admitted) => Ok(Answer::ok(self.content(&admitted).await?)),
            None => Err(Answer::not_found("there is no such binding")),
        }
    }

    /// `DELETE /v2/service_instances/:instance_id/service_bindings/:binding_id`.
    pub(super) async fn unbind(&self, request: &Request, instance: &str, id: &str) -> Answered {
        let (service_id, plan_id) = request.query.ids()?;
        let name = names::guest(&request.buyer, instance, id);
        {
            let _one_at_a_time = self.till.lock().await;
            let admitted = self.admitted(&name).await.ok_or_else(Answer::gone)?;
            let sold = self.sold(request, instance).await;
            if let Some(sold) = &sold {
                check_ids(&sold.sale, service_id, plan_id)?;
            }
            if admitted.state != AdmittedState::Going {
                self.tell(Ask::EndSale { service: name.clone() }).await;
            }
        }
        let within = if request.query.accepts_incomplete { AT_ONCE } else { AT_LAST };
        let is_gone = move |known: &ostler_manager::Knowledge| (!known.services.contains_key(&name)).then_some(());
        match wait(&self.handle, within, is_gone).await {
            Some(()) => Ok(Answer::ok(json!({}))),
            None if request.query.accepts_incomplete => Ok(Answer::accepted(UNBIND)),
            None => Err(Answer::error(StatusCode::INTERNAL_SERVER_ERROR, "the instance does not answer now")),
        }
    }

    /// `GET /v2/service_instances/:instance_id/service_bindings/:binding_id/last_operation`.
    pub(super) async fn last_binding_operation(&self, request: &Request, instance: &str, id: &str) -> Answered {
        let asked = request.query.operation.as_deref();
        let Some(admitted) = self.admitted(&names::guest(&request.buyer, instance, id)).await else {
            return Err(match asked {
                None | Some(UNBIND) => Answer::gone(),
                Some(_) => Answer::not_found("there is no such binding"),
            });
        };
        let (state, description) = match (admitted.state, asked) {
            (AdmittedState::Going, Some(BIND)) => ("failed", "it is being ended"),
            (AdmittedState::Going, _) => ("in progress", "it is being ended"),
            (_, Some(UNBIND)) => return Err(Answer::bad("it is not being ended")),
            (AdmittedState::Making, _) => ("in progress", "it is being made"),
            (AdmittedState::There, _) => ("succeeded", "it is there"),
        };
        let mut answer = Answer::ok(json!({ "state": state, "description": description }));
        answer.retry_after = (state == "in progress").then_some(1);
        Ok(answer)
    }

    async fn admitted(&self, name: &ServiceName) -> Option<Admitted> {
        let name = name.clone();
        self.handle.known(move |known| Admitted::of(known, &name)).await
    }

    /// How long bindings last, if anything is sold.
    async fn provide(&self) -> Option<Option<Duration>> {
        let question = |known: &ostler_manager::Knowledge| {
            known.estate.as_ref()?.provide.as_ref().map(|provide| provide.bindings_last.map(|last| last.get()))
        };
        self.handle.known(question).await
    }

    /// What a binding holds.
    async fn content(&self, admitted: &Admitted) -> Result<Value, Answer> {
        let lost = || Answer::error(StatusCode::INTERNAL_SERVER_ERROR, "the credentials cannot be read");
        let secret = SecretId::of_binding(&admitted.id);
        let found = self.handle.ask(move |engine, _| engine.credentials(&secret)).await;
        let credentials = found.map_err(|_| lost())?.ok_or_else(lost)?;
        let fields: Map<String, Value> =
            credentials.fields.iter().map(|(name, secret)| (name.clone(), field(name, secret))).collect();
        let mut body = json!({ "credentials": fields, "parameters": {} });
        if let (Some(host), Some(port)) = (credentials.get("host"), credentials.get("port")) {
            body["endpoints"] = json!([{ "host": host, "ports": [port], "protocol": "tcp" }]);
        }
        if let Some(metadata) = self.metadata(admitted).await {
            body["metadata"] = metadata;
        }
        Ok(body)
    }

    /// Until when it is good, and by when it is to have a successor.
    async fn metadata(&self, admitted: &Admitted) -> Option<Value> {
        let expires = admitted.guest.expires?;
        let last = self.provide().await.flatten()?;
        let renew: Timestamp = expires - last / RENEW_BEFORE;
        Some(json!({ "expires_at": expires.to_rfc3339_millis(), "renew_before": renew.to_rfc3339_millis() }))
    }
}

/// Ports are numbers to most who read credentials.
fn field(name: &str, secret: &Secret) -> Value {
    let text = secret.expose();
    match (name, text.parse::<u16>()) {
        ("port", Ok(port)) => port.into(),
        _ => text.into(),
    }
}
