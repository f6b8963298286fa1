//! Instances: provision, fetch, update, deprovision, and how far that is.
//!
//! Everything takes its time here, so platforms have to agree to be told later (`accepts_incomplete`).

use std::sync::Arc;

use axum::http::StatusCode;
use ostler_manager::{Ask, Event, Reason, decide};
use ostler_model::estate::{Parameters, Service};
use ostler_model::sale::Sale;
use ostler_runtime::clock;
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::answer::{Answer, Answered};
use super::catalog::{Offer, Sellable, Shelf, semantic};
use super::door::{Query, Request, Shop};
use super::known::{Sold, SoldState};
use super::names;

const PROVISION: &str = "provision";
const UPDATE: &str = "update";
const DEPROVISION: &str = "deprovision";

/// The body of a provision or an update. Unknown fields are ignored, as the specification has it.
#[derive(Deserialize)]
struct Body {
    service_id: Option<String>,
    plan_id: Option<String>,
    #[serde(default)]
    parameters: Option<Map<String, Value>>,
    #[serde(default)]
    context: Value,
    #[serde(default)]
    maintenance_info: Option<MaintenanceInfo>,
}

#[derive(Deserialize)]
struct MaintenanceInfo {
    version: String,
}

impl Shop {
    /// `PUT /v2/service_instances/:instance_id`.
    pub(super) async fn provision(&self, request: &Request, id: &str) -> Answered {
        let body: Body = request.body()?;
        let (service_id, plan_id) = (needed(&body.service_id, "service_id")?, needed(&body.plan_id, "plan_id")?);
        if !names::is_id(id) {
            return Err(Answer::bad(format!("an instance's id has 1 to {} visible bytes", names::ID_BYTES_MAX)));
        }
        let name = names::sold(&request.buyer, id);
        let _one_at_a_time = self.till.lock().await;
        let shelf = self.shelf().await?;
        let (offer, plan) = shelf.find(service_id, plan_id).ok_or_else(|| Answer::bad("there is no such plan"))?;
        let no_parameters = body.parameters.as_ref().is_none_or(Map::is_empty);
        let sale = Sale {
            buyer: request.buyer.clone(),
            id: id.to_owned(),
            plan: plan.plan.clone(),
            service_id: service_id.to_owned(),
            plan_id: plan_id.to_owned(),
            parameters: Parameters::default(),
            context: body.context,
        };
        let asked = name.clone();
        if let Some(sold) = self.handle.known(move |known| Sold::of(known, &asked)).await {
            let is_same = no_parameters && Sale { context: sold.sale.context.clone(), ..sale } == *sold.sale;
            return match sold.state {
                SoldState::Going { .. } => Err(Answer::concurrent()),
                _ if !is_same => Err(Answer::conflict("there is an instance with this id and other attributes")),
                SoldState::Making { .. } => Ok(Answer::accepted(PROVISION)),
                SoldState::There | SoldState::Changing { .. } => Ok(Answer::ok(json!({}))),
            };
        }
        if !no_parameters {
            return Err(Answer::bad("this plan takes no parameters"));
        }
        check_maintenance(plan, body.maintenance_info.as_ref())?;
        request.has_to_accept_incomplete()?;
        self.sell(spec_of(&name, &shelf, offer, plan, false), sale).await?;
        Ok(Answer::accepted(PROVISION))
    }

    /// `GET /v2/service_instances/:instance_id`.
    pub(super) async fn fetch(&self, request: &Request, id: &str) -> Answered {
        let sold = self.sold(request, id).await.ok_or_else(|| Answer::not_found("there is no such instance"))?;
        match sold.state {
            SoldState::Making { .. } => Err(Answer::not_found("it is being made")),
            SoldState::Changing { failed: false } | SoldState::Going { failed: false } => Err(Answer::concurrent()),
            SoldState::There | SoldState::Changing { failed: true } | SoldState::Going { failed: true } => {
                let Sale { service_id, plan_id, .. } = &*sold.sale;
                let mut body = json!({ "service_id": service_id, "plan_id": plan_id, "parameters": {} });
                if let Some(version) = &sold.version {
                    body["maintenance_info"] = json!({ "version": semantic(version) });
                }
                Ok(Answer::ok(body))
            }
        }
    }

    /// `PATCH /v2/service_instances/:instance_id`.
    pub(super) async fn update(&self, request: &Request, id: &str) -> Answered {
        let body: Body = request.body()?;
        let service_id = needed(&body.service_id, "service_id")?;
        let name = names::sold(&request.buyer, id);
        let _one_at_a_time = self.till.lock().await;
        let sold = self.sold(request, id).await.ok_or_else(|| Answer::not_found("there is no such instance"))?;
        if service_id != sold.sale.service_id {
            return Err(Answer::bad("the instance is of another offering"));
        }
        if body.parameters.as_ref().is_some_and(|parameters| !parameters.is_empty()) {
            return Err(Answer::bad("this plan takes no parameters"));
        }
        if let SoldState::Making { .. } | SoldState::Changing { failed: false } | SoldState::Going { .. } = sold.state {
            return Err(Answer::concurrent());
        }
        let shelf = self.shelf().await?;
        let plan_id = body.plan_id.as_ref().unwrap_or(&sold.sale.plan_id);
        let changes_plan = *plan_id != sold.sale.plan_id;
        // What is not sold any more can still be renamed.
        let found = shelf.find(service_id, plan_id);
        let Some((offer, plan)) = found else {
            let is_renamed = !changes_plan && body.maintenance_info.is_none() && !body.context.is_null();
            return if is_renamed {
                self.rename(&name, &sold.sale, body.context).await
            } else {
                Err(Answer::bad("there is no such plan"))
            };
        };
        let series = |plan: &Sellable| plan.version.as_ref().map(|version| version.major());
        let former = shelf.find(service_id, &sold.sale.plan_id).map(|(_, plan)| series(plan));
        if changes_plan && (!offer.durable || former != Some(series(plan))) {
            let why = "an instance cannot be changed to this plan: its data would be lost on the way";
            return Err(Answer::error(StatusCode::UNPROCESSABLE_ENTITY, why));
        }
        check_maintenance(plan, body.maintenance_info.as_ref())?;
        let is_upgrade = body.maintenance_info.is_some() && sold.version.as_ref().map(semantic) != plan.maintenance();
        if !changes_plan && !is_upgrade {
            return match body.context.is_null() {
                true => Ok(Answer::ok(json!({}))),
                false => self.rename(&name, &sold.sale, body.context).await,
            };
        }
        request.has_to_accept_incomplete()?;
        let context = if body.context.is_null() { sold.sale.context.clone() } else { body.context };
        let sale = Sale { plan: plan.plan.clone(), plan_id: plan_id.clone(), context, ..(*sold.sale).clone() };
        self.sell(spec_of(&name, &shelf, offer, plan, is_upgrade), sale).await?;
        Ok(Answer::accepted(UPDATE))
    }

    /// Only what the buyer says of where it is used is another.
    async fn rename(&self, name: &ostler_model::ids::ServiceName, sale: &Sale, context: Value) -> Answered {
        let name = name.clone();
        let spec = self.handle.known(move |known| known.services.get(&name).map(|service| service.spec.clone())).await;
        let spec = spec.ok_or_else(|| Answer::not_found("there is no such instance"))?;
        self.sell((*spec).clone(), Sale { context, ..sale.clone() }).await?;
        Ok(Answer::ok(json!({})))
    }

    /// `DELETE /v2/service_instances/:instance_id`.
    pub(super) async fn deprovision(&self, request: &Request, id: &str) -> Answered {
        let (service_id, plan_id) = request.query.ids()?;
        let name = names::sold(&request.buyer, id);
        let _one_at_a_time = self.till.lock().await;
        let sold = self.sold(request, id).await.ok_or_else(Answer::gone)?;
        check_ids(&sold.sale, service_id, plan_id)?;
        request.has_to_accept_incomplete()?;
        match sold.state {
            SoldState::Going { .. } => {}
            SoldState::Making { .. } | SoldState::There | SoldState::Changing { .. } => {
                self.tell(Ask::EndSale { service: name }).await;
            }
        }
        Ok(Answer::accepted(DEPROVISION))
    }

    /// `GET /v2/service_instances/:instance_id/last_operation`.
    pub(super) async fn last_operation(&self, request: &Request, id: &str) -> Answered {
        let asked = request.query.operation.as_deref();
        let Some(sold) = self.sold(request, id).await else {
            return Err(match asked {
                None | Some(DEPROVISION) => Answer::gone(),
                Some(_) => Answer::not_found("there is no such instance"),
            });
        };
        let (state, description) = match (sold.state, asked) {
            (SoldState::Going { .. }, Some(PROVISION | UPDATE)) => ("failed", "it is being deleted"),
            (SoldState::Going { failed: true }, _) => ("failed", "it cannot be deleted: its provider has to see to it"),
            (SoldState::Going { failed: false }, _) => ("in progress", "it is being deleted"),
            (_, Some(DEPROVISION)) => return Err(Answer::bad("it is not being deleted")),
            (SoldState::Making { failed: true }, _) => ("failed", "it cannot be made: its provider has to see to it"),
            (SoldState::Making { failed: false }, _) => ("in progress", "it is being made"),
            (SoldState::Changing { .. }, Some(PROVISION)) | (SoldState::There, _) => ("succeeded", "it is there"),
            (SoldState::Changing { failed: true }, _) => {
                ("failed", "it cannot be changed: its provider has to see to it")
            }
            (SoldState::Changing { failed: false }, _) => ("in progress", "it is being changed"),
        };
        let mut answer = Answer::ok(json!({ "state": state, "description": description }));
        answer.retry_after = (state == "in progress").then_some(1);
        Ok(answer)
    }

    pub(super) async fn sold(&self, request: &Request, id: &str) -> Option<Sold> {
        let name = names::sold(&request.buyer, id);
        self.handle.known(move |known| Sold::of(known, &name)).await
    }

    pub(super) async fn shelf(&self) -> Result<Shelf, Answer> {
        let not_yet = || Answer::error(StatusCode::SERVICE_UNAVAILABLE, "it is not known yet what is sold here");
        self.handle.known(Shelf::of).await.ok_or_else(not_yet)
    }

    /// What the manager refuses is refused.
    async fn sell(&self, spec: Service, sale: Sale) -> Result<(), Answer> {
        let ask = Ask::Sell { spec: Arc::new(spec), sale: Arc::new(sale) };
        let event = Event::Asked(ask.clone());
        let withheld = self.handle.known(move |known| decide(known, &event, clock::now()).withheld).await;
        let refused = withheld.into_iter().find_map(|withheld| match withheld.reason {
            Reason::Refused(why) => Some(why),
            _ => None,
        });
        match refused {
            Some(why) => Err(Answer::error(StatusCode::UNPROCESSABLE_ENTITY, why)),
            None => {
                self.tell(ask).await;
                Ok(())
            }
        }
    }

    /// Returns after the manager has taken it, and what follows from it is stored.
    pub(super) async fn tell(&self, ask: Ask) {
        self.handle.tell(Event::Asked(ask));
        self.handle.known(|_| ()).await;
    }
}

fn spec_of(
    name: &ostler_model::ids::ServiceName,
    shelf: &Shelf,
    offer: &Offer,
    plan: &Sellable,
    at_least_shown: bool,
) -> Service {
    Service {
        plan: Some(plan.plan.clone()),
        version: plan.range(at_least_shown),
        prefer: vec![shelf.provider.clone()],
        ..Service::new(name.clone(), offer.name.clone())
    }
}

fn needed<'a>(field: &'a Option<String>, name: &str) -> Result<&'a str, Answer> {
    field.as_deref().filter(|text| !text.is_empty()).ok_or_else(|| Answer::bad(format!("`{name}` is missing")))
}

/// A buyer who says which version was shown gets that one or none.
fn check_maintenance(plan: &Sellable, asked: Option<&MaintenanceInfo>) -> Result<(), Answer> {
    match asked {
        Some(asked) if Some(&asked.version) != plan.maintenance().as_ref() => {
            Err(Answer::coded("MaintenanceInfoConflict", "the catalog shows another version now: read it again"))
        }
        Some(_) | None => Ok(()),
    }
}

/// Whoever deletes something has to know what it is.
pub(super) fn check_ids(sale: &Sale, service_id: &str, plan_id: &str) -> Result<(), Answer> {
    if (service_id, plan_id) == (&*sale.service_id, &*sale.plan_id) {
        Ok(())
    } else {
        Err(Answer::bad("the instance is of another plan"))
    }
}

impl Query {
    /// `service_id` and `plan_id`, which have to be there.
    pub(super) fn ids(&self) -> Result<(&str, &str), Answer> {
        Ok((needed(&self.service_id, "service_id")?, needed(&self.plan_id, "plan_id")?))
    }
}
