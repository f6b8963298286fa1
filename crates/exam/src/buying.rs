//! What can be seen by buying an instance and giving it back.

use ostler_model::outcome::{Failure, FailureClass};
use reqwest::Method;
use serde_json::{Value, json};

use crate::Purchase;
use crate::examiner::{Ended, Examiner, flag, text};
use crate::reading::{ids_of, plans};
use crate::rules::Rule;
use crate::wire::{Exchange, Object, Send, new_id};

/// What is bought, in the catalog's words.
pub(crate) struct Goods {
    pub(crate) service: Object,
    pub(crate) plan: Object,
    /// Another plan of the same service.
    other: Option<Object>,
    /// Of the instance.
    pub(crate) path: String,
}

impl Goods {
    pub(crate) fn ids(&self) -> Vec<(&'static str, String)> {
        ids_of(&self.service, &self.plan)
    }

    /// A flag of the plan, or else of the service.
    pub(crate) fn flag(&self, key: &str) -> bool {
        flag(&self.plan, key).or_else(|| flag(&self.service, key)).unwrap_or_default()
    }

    pub(crate) fn most(&self) -> Option<u64> {
        self.plan.get("maximum_polling_duration").and_then(Value::as_u64)
    }

    fn maintenance(&self) -> Option<&Value> {
        self.plan.get("maintenance_info")?.get("version")
    }

    fn body(&self) -> Value {
        let mut body = json!({
            "service_id": self.service.get("id"), "plan_id": self.plan.get("id"),
            "organization_guid": "ostler-exam", "space_guid": "ostler-exam",
            "context": { "platform": "ostler", "instance_name": "ostler-exam" },
        });
        if let Some(version) = self.maintenance() {
            body["maintenance_info"] = json!({ "version": version });
        }
        body
    }
}

impl Examiner<'_> {
    /// # Errors
    /// If there is no such thing to buy.
    pub(crate) async fn buy(&mut self, catalog: &Object, purchase: &Purchase) -> Result<(), Failure> {
        let goods = choose(catalog, purchase).ok_or_else(|| nothing_of(catalog, purchase))?;
        let name = |of| text(of, "name").unwrap_or("?");
        self.bought = Some(format!("{}, plan {}", name(&goods.service), name(&goods.plan)));
        self.refused_provisions(&goods).await;
        if self.provision(&goods).await {
            self.look_at_instance(&goods).await;
            if goods.flag("bindable") {
                let kept = self.bind(&goods).await;
                self.update(&goods, kept.as_ref()).await;
                self.give_back(&goods, kept).await;
            } else {
                self.update(&goods, None).await;
                self.give_back(&goods, None).await;
            }
        }
        self.clear_up(&goods).await;
        Ok(())
    }

    /// What has to be refused, and makes nothing.
    async fn refused_provisions(&mut self, goods: &Goods) {
        self.about_to("asking for what has to be refused");
        let query = [goods.ids(), vec![("accepts_incomplete", "true".to_owned())]].concat();
        let path = format!("/v2/service_instances/{}", new_id());
        let exchange = self.send(Method::DELETE, Send { path, query, ..Send::default() }).await;
        self.rule(Rule::UnknownDelete, exchange.is(&[410]), "what is not there is answered otherwise", &exchange);
        let mut without_plan = goods.body();
        without_plan.as_object_mut().map(|body| body.remove("plan_id"));
        self.has_to_be_refused(goods, Rule::ProvisionFields, without_plan, |refused| refused.is(&[400])).await;
        let mut unknown = goods.body();
        unknown["plan_id"] = new_id().into();
        if let Some(body) = unknown.as_object_mut() {
            body.remove("maintenance_info");
        }
        self.has_to_be_refused(goods, Rule::ProvisionPlan, unknown, |refused| refused.is(&[400])).await;
        match misfit(&goods.plan) {
            Some(parameters) => {
                let mut body = goods.body();
                body["parameters"] = parameters;
                self.has_to_be_refused(goods, Rule::ProvisionParameters, body, |refused| refused.is(&[400])).await;
            }
            None => self.not_seen(Rule::ProvisionParameters, "the plan's schema forbids nothing that is known here"),
        }
        if goods.maintenance().is_some() {
            let mut body = goods.body();
            body["maintenance_info"] = json!({ "version": "0.0.0-ostler-exam" });
            let is_conflict =
                |refused: &Exchange| refused.is(&[422]) && refused.error() == Some("MaintenanceInfoConflict");
            self.has_to_be_refused(goods, Rule::ProvisionMaintenance, body, is_conflict).await;
        } else {
            self.not_seen(Rule::ProvisionMaintenance, "the plan has no maintenance_info");
        }
    }

    /// Whatever comes of it is deleted at the end.
    async fn has_to_be_refused(&mut self, goods: &Goods, rule: Rule, body: Value, is_kept: impl Fn(&Exchange) -> bool) {
        let path = format!("/v2/service_instances/{}", new_id());
        let query = vec![("accepts_incomplete", "true".to_owned())];
        self.may_be_there(&path, "an instance that should have been refused");
        let exchange =
            self.send(Method::PUT, Send { path: path.clone(), query, body: Some(body), ..Send::default() }).await;
        self.rule(rule, is_kept(&exchange), "it is not refused in this way", &exchange);
        if exchange.is_refused() {
            self.is_gone(&path);
        } else {
            self.delete(goods, &path).await;
        }
    }

    /// Whether there is an instance now.
    async fn provision(&mut self, goods: &Goods) -> bool {
        self.about_to("buying an instance");
        let path = &goods.path;
        self.may_be_there(path, "the instance");
        let send = |incomplete: bool| Send {
            path: path.clone(),
            query: if incomplete { vec![("accepts_incomplete", "true".to_owned())] } else { Vec::new() },
            body: Some(goods.body()),
            ..Send::default()
        };
        let sync = self.send(Method::PUT, send(false)).await;
        let is_async = sync.is(&[422]) && sync.error() == Some("AsyncRequired");
        let is_made = sync.is(&[200, 201]);
        let why = "it is neither done at once nor refused with AsyncRequired";
        self.rule(Rule::ProvisionSync, is_async || is_made, why, &sync);
        let first = if is_made { sync } else { self.send(Method::PUT, send(true)).await };
        if !self.rule(Rule::Provision, first.is(&[200, 201, 202]), "it cannot be bought", &first) {
            return false;
        }
        if first.is(&[202]) {
            let again = self.send(Method::PUT, send(true)).await;
            // It may be over by now.
            let is_same = again.is(&[202]) && again.operation() == first.operation();
            let why = "it is not said to be the same operation";
            self.rule(Rule::ProvisionAgain, is_same || again.is(&[200, 201]), why, &again);
            if again.is(&[202]) {
                self.look_too_early(goods).await;
            }
            match self.follow(path, &goods.ids(), first.operation(), goods.most()).await {
                Ended::Succeeded => drop(self.rule(Rule::LastOperation, true, "", &first)),
                Ended::Gone => {
                    self.rule(Rule::LastOperation, false, "what is being made is said to be gone", &first);
                    return false;
                }
                Ended::Failed(last, why) => {
                    self.rule(Rule::LastOperation, false, &why, &last);
                    self.rule(Rule::Provision, false, &why, &last);
                    return false;
                }
            }
        } else {
            for rule in [Rule::ProvisionAgain, Rule::FetchEarly, Rule::BindEarly, Rule::LastOperation] {
                self.not_seen(rule, "everything is done at once");
            }
        }
        true
    }

    /// What is being made is not there yet. It may be there by the time at which it is asked for.
    async fn look_too_early(&mut self, goods: &Goods) {
        if goods.flag("bindable") {
            let path = format!("{}/service_bindings/{}", goods.path, new_id());
            self.may_be_there(&path, "a binding that should have been refused");
            let send = Send { path: path.clone(), body: Some(bind_body(goods)), ..Send::default() };
            let exchange = self.send(Method::PUT, send).await;
            let is_over = self.is_over(goods).await;
            self.rule(Rule::BindEarly, exchange.is_refused() || is_over, "it is not refused", &exchange);
            if exchange.is_refused() {
                self.is_gone(&path);
            }
        } else {
            self.not_seen(Rule::BindEarly, "nothing can be bound to it");
        }
        if goods.flag("instances_retrievable") {
            let exchange = self.send(Method::GET, Send { path: goods.path.clone(), ..Send::default() }).await;
            let is_over = self.is_over(goods).await;
            let why = "it is there before it is made";
            self.rule(Rule::FetchEarly, exchange.is(&[404, 422]) || is_over, why, &exchange);
        } else {
            self.not_seen(Rule::FetchEarly, "`instances_retrievable` is false");
        }
    }

    async fn is_over(&self, goods: &Goods) -> bool {
        let send = Send { path: format!("{}/last_operation", goods.path), query: goods.ids(), ..Send::default() };
        self.send(Method::GET, send).await.text("state") != Some("in progress")
    }

    async fn look_at_instance(&mut self, goods: &Goods) {
        self.about_to("looking at the instance");
        let query = vec![("accepts_incomplete", "true".to_owned())];
        let put = |body| Send { path: goods.path.clone(), query: query.clone(), body: Some(body), ..Send::default() };
        let again = self.send(Method::PUT, put(goods.body())).await;
        self.rule(Rule::ProvisionDone, again.is(&[200]), "it is not said to be there", &again);
        match &goods.other {
            Some(other) => {
                let mut body = goods.body();
                body["plan_id"] = other.get("id").cloned().unwrap_or_default();
                if let Some(body) = body.as_object_mut() {
                    body.remove("maintenance_info");
                }
                let exchange = self.send(Method::PUT, put(body)).await;
                self.rule(Rule::ProvisionConflict, exchange.is(&[409]), "it is not said to be in conflict", &exchange);
            }
            None => self.not_seen(Rule::ProvisionConflict, "the service has no other plan"),
        }
        if !goods.flag("instances_retrievable") {
            return self.not_seen(Rule::Fetch, "`instances_retrievable` is false");
        }
        let exchange = self.send(Method::GET, Send { path: goods.path.clone(), ..Send::default() }).await;
        let is_it = |key: &str, wanted: &Object| exchange.text(key).is_none_or(|id| Some(id) == text(wanted, "id"));
        let is_same = is_it("service_id", &goods.service) && is_it("plan_id", &goods.plan);
        self.rule(Rule::Fetch, exchange.is(&[200]) && is_same, "it is not what was bought", &exchange);
    }

    async fn update(&mut self, goods: &Goods, kept: Option<&crate::binding::Held>) {
        self.about_to("changing the instance");
        let (service, plan) = (goods.service.get("id").cloned(), goods.plan.get("id").cloned());
        let nothing = json!({ "service_id": service, "plan_id": plan });
        let exchange = self.patch(goods, nothing).await;
        let is_done = self.is_done(goods, &exchange).await;
        self.rule(Rule::Update, is_done, "an update that changes nothing fails", &exchange);
        if goods.maintenance().is_some() {
            let body = json!({ "service_id": service, "maintenance_info": { "version": "0.0.0-ostler-exam" } });
            let exchange = self.patch(goods, body).await;
            let is_conflict = exchange.is(&[422]) && exchange.error() == Some("MaintenanceInfoConflict");
            self.rule(Rule::UpdateMaintenance, is_conflict, "it is not refused in this way", &exchange);
        } else {
            self.not_seen(Rule::UpdateMaintenance, "the plan has no maintenance_info");
        }
        let unknown = self.patch(goods, json!({ "service_id": service, "plan_id": new_id() })).await;
        self.rule(Rule::UpdateRefused, unknown.is_refused(), "a plan that is not there is not refused", &unknown);
        let Some(other) = &goods.other else {
            return self.not_seen(Rule::UpdatePlan, "the service has no other plan");
        };
        let body = json!({
            "service_id": service, "plan_id": other.get("id"), "previous_values": { "plan_id": plan },
        });
        if !goods.flag("plan_updateable") {
            let exchange = self.patch(goods, body).await;
            self.rule(
                Rule::UpdateRefused,
                exchange.is_refused(),
                "`plan_updateable` is false, and it is changed",
                &exchange,
            );
            return self.not_seen(Rule::UpdatePlan, "`plan_updateable` is false");
        }
        let exchange = self.patch(goods, body).await;
        if exchange.is(&[422]) {
            // Not every plan has to be reachable from every other.
            return self.not_seen(Rule::UpdatePlan, "this change is not possible");
        }
        let mut is_kept = self.is_done(goods, &exchange).await;
        let mut why = "it cannot be changed".to_owned();
        if let (true, Some(held)) = (is_kept, kept)
            && let Err(symptom) = held.still_works().await
        {
            is_kept = false;
            why = format!("its bindings do not work any more: {symptom}");
        }
        self.rule(Rule::UpdatePlan, is_kept, &why, &exchange);
        if is_kept {
            // Whoever deletes it has to name what it is now.
            let back = json!({
                "service_id": service, "plan_id": plan, "previous_values": { "plan_id": other.get("id") },
            });
            let exchange = self.patch(goods, back).await;
            let is_back = self.is_done(goods, &exchange).await;
            self.rule(Rule::UpdatePlan, is_back, "it cannot be changed back", &exchange);
        }
    }

    async fn patch(&self, goods: &Goods, body: Value) -> Exchange {
        let query = vec![("accepts_incomplete", "true".to_owned())];
        self.send(Method::PATCH, Send { path: goods.path.clone(), query, body: Some(body), ..Send::default() }).await
    }

    async fn is_done(&mut self, goods: &Goods, exchange: &Exchange) -> bool {
        match exchange.status {
            Some(200) => true,
            Some(202) => {
                let ended = self.follow(&goods.path, &goods.ids(), exchange.operation(), goods.most()).await;
                matches!(ended, Ended::Succeeded)
            }
            _ => false,
        }
    }

    async fn give_back(&mut self, goods: &Goods, kept: Option<crate::binding::Held>) {
        self.about_to("giving everything back");
        if let Some(held) = &kept {
            self.unbind(goods, &held.path).await;
        }
        let send = |query| Send { path: goods.path.clone(), query, ..Send::default() };
        let unnamed = self.send(Method::DELETE, send(vec![("accepts_incomplete", "true".to_owned())])).await;
        self.rule(Rule::DeleteFields, unnamed.is(&[400]), "it is deleted without being named", &unnamed);
        let mut query = goods.ids();
        query.push(("accepts_incomplete", "true".to_owned()));
        let exchange = self.send(Method::DELETE, send(query.clone())).await;
        let is_gone = match exchange.status {
            Some(200 | 410) => true,
            Some(202) => {
                let ended = self.follow(&goods.path, &goods.ids(), exchange.operation(), goods.most()).await;
                matches!(ended, Ended::Succeeded | Ended::Gone)
            }
            _ => false,
        };
        if !self.rule(Rule::Deprovision, is_gone, "it cannot be deleted", &exchange) {
            return;
        }
        self.is_gone(&goods.path);
        let again = self.send(Method::DELETE, send(query)).await;
        self.rule(Rule::DeprovisionAgain, again.is(&[410]), "it is answered otherwise", &again);
        if goods.flag("instances_retrievable") {
            let fetched = self.send(Method::GET, send(Vec::new())).await;
            self.rule(Rule::NothingLeft, fetched.is(&[404, 410]), "it is still there", &fetched);
        }
        if let Some(held) = kept {
            let works = held.try_out().await.is_ok_and(|exercised| exercised.wrote);
            self.rule(Rule::NothingLeft, !works, "its credentials still work", &again);
        }
    }

    /// Whatever may be left is deleted, as often as it takes within reason.
    async fn clear_up(&mut self, goods: &Goods) {
        for path in self.left() {
            self.about_to("clearing up");
            self.delete(goods, &path).await;
        }
    }

    async fn delete(&mut self, goods: &Goods, path: &str) {
        for _ in 0..3 {
            let mut query = goods.ids();
            query.push(("accepts_incomplete", "true".to_owned()));
            let send = Send { path: path.to_owned(), query, ..Send::default() };
            let exchange = self.send(Method::DELETE, send).await;
            let is_gone = match exchange.status {
                Some(200 | 404 | 410) => true,
                Some(202) => {
                    let ended = self.follow(path, &goods.ids(), exchange.operation(), goods.most()).await;
                    matches!(ended, Ended::Succeeded | Ended::Gone)
                }
                _ => false,
            };
            if is_gone {
                return self.is_gone(path);
            }
            tokio::time::sleep(std::time::Duration::from_secs(1)).await;
        }
    }
}

pub(crate) fn bind_body(goods: &Goods) -> Value {
    json!({
        "service_id": goods.service.get("id"), "plan_id": goods.plan.get("id"),
        "bind_resource": { "app_guid": "ostler-exam" }, "app_guid": "ostler-exam",
        "context": { "platform": "ostler" },
    })
}

/// The plan that is named; else a free one; else the first. Prefers services to which something can be bound.
fn choose(catalog: &Object, purchase: &Purchase) -> Option<Goods> {
    let is =
        |of: &Object, wanted: &Option<String>| wanted.as_deref().is_none_or(|wanted| text(of, "name") == Some(wanted));
    let fitting = plans(catalog).into_iter().filter(|(service, _)| is(service, &purchase.offering));
    let fitting: Vec<_> = fitting.filter(|(_, plan)| is(plan, &purchase.plan)).collect();
    let is_free = |plan: &Object| flag(plan, "free").unwrap_or(true);
    let (service, plan) = fitting.iter().find(|(_, plan)| is_free(plan)).or(fitting.first())?;
    let id = text(plan, "id");
    let other =
        plans(catalog).into_iter().find(|(of, other)| text(of, "id") == text(service, "id") && text(other, "id") != id);
    Some(Goods {
        service: (*service).clone(),
        plan: (*plan).clone(),
        other: other.map(|(_, plan)| plan.clone()),
        path: format!("/v2/service_instances/{}", new_id()),
    })
}

/// What could be bought instead.
fn nothing_of(catalog: &Object, purchase: &Purchase) -> Failure {
    let wanted = |what: &str, name: &Option<String>| name.as_ref().map(|name| format!("{what} `{name}`"));
    let wanted: Vec<String> =
        [wanted("offering", &purchase.offering), wanted("plan", &purchase.plan)].into_iter().flatten().collect();
    let name = |of| text(of, "name").unwrap_or("?");
    let there: Vec<String> = plans(catalog)
        .into_iter()
        .take(20)
        .map(|(service, plan)| format!("{} {}", name(service), name(plan)))
        .collect();
    Failure {
        class: FailureClass::NeedsPerson,
        detail: format!(
            "its catalog has no {}",
            if wanted.is_empty() { "plan".to_owned() } else { wanted.join(" with ") }
        ),
        remedy: format!("choose one of: {}", there.join(", ")),
    }
}

/// Parameters that the plan's schema forbids.
fn misfit(plan: &Object) -> Option<Value> {
    let schema = plan.get("schemas")?.get("service_instance")?.get("create")?.get("parameters")?;
    let validator = jsonschema::validator_for(schema).ok()?;
    let parameters = json!({ "ostler-exam-has-no-such-parameter": true });
    (!validator.is_valid(&parameters)).then_some(parameters)
}
