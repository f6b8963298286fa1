//! Lives of instances and bindings at a broker, step by step.

use std::net::SocketAddr;
use std::time::Duration;

use ostler_model::outcome::{FailureClass, Observation};
use ostler_providers::{Accepted, AcceptedKind, Former, InstanceOrder, Provider, ReflexGrant};
use serde_json::{Value, json};

use crate::broker::Say;
use crate::support::{Shop, catalog};

const GRANT: ReflexGrant = ReflexGrant { burst: 1, refill: Duration::from_secs(1) };

fn endpoint() -> SocketAddr {
    ([127, 0, 0, 1], 15432).into()
}

fn state(state: &str) -> Say {
    Say::Json(200, json!({"state": state}))
}

fn credentials() -> Value {
    json!({"credentials": {"uri": "postgres://bob:x@127.0.0.1:5432/books"}})
}

#[tokio::test]
async fn a_life() {
    let shop = Shop::open().await;
    let mut order = shop.order();
    order.parameters.0.insert("disk_gb".to_owned(), json!(20));
    // Asked for, accepted, asked about until it is there.
    shop.broker.on("PUT instance", [Say::Json(202, json!({"operation": "task 7/ü"}))]);
    shop.broker.on("GET last_operation", [state("in progress"), Say::Text(500, "oops".to_owned()), state("succeeded")]);
    shop.provider.provision(&order, shop.progress()).await.unwrap();
    assert_eq!(shop.told(), [Some("task 7/ü".to_owned())]);
    let asked = &shop.broker.seen("PUT instance")[0];
    assert_eq!(asked.query["accepts_incomplete"], "true");
    let body = &asked.body;
    assert_eq!((&body["service_id"], &body["plan_id"]), (&json!("s-1"), &json!("p-small")));
    assert_eq!(
        (&body["parameters"], &body["maintenance_info"]),
        (&json!({"disk_gb": 20}), &json!({"version": "1.0.0"}))
    );
    assert_eq!(body["context"], json!({"platform": "ostler", "estate": "shop", "instance_name": "db-1"}));
    assert!(body["organization_guid"].as_str().is_some_and(|guid| !guid.is_empty() && body["space_guid"] == guid));
    let polls = shop.broker.seen("GET last_operation");
    assert_eq!(polls.len(), 3, "what is no valid answer is asked again");
    assert_eq!(polls[0].query["operation"], "task 7/ü");
    assert_eq!((polls[0].query["service_id"].as_str(), polls[0].query["plan_id"].as_str()), ("s-1", "p-small"));

    // It is found again, and nothing of it is asked for twice.
    order.asks.made = true;
    shop.broker.on("GET instance", [Say::Json(200, json!({"service_id": "s-1", "plan_id": "p-small"}))]);
    assert_eq!(shop.provider.observe(&order).await.unwrap(), Observation::Stopped { exit: None });

    // Ostler's own credentials say where it answers.
    shop.broker.on("PUT binding", [Say::Json(201, credentials())]);
    let started = shop.provider.start(&order, GRANT).await.unwrap();
    assert_eq!((started.running.address, started.running.pid), (([127, 0, 0, 1], 5432).into(), None));
    order.secret = started.secret.unwrap();
    order.asks.access_made = true;
    order.asks.access_used = order.asks.access;
    assert_eq!(shop.provider.observe(&order).await.unwrap(), Observation::Running(started.running));
    let again = shop.provider.start(&order, GRANT).await.unwrap();
    assert_eq!((again.running, again.secret.is_none()), (started.running, true));
    assert_eq!(shop.broker.seen("PUT binding").len(), 1);

    // A consumer's, which point at the endpoint; pointed elsewhere without another ask.
    let web = "web/db".parse().unwrap();
    let bound = shop.provider.bind(&order, &web, endpoint(), None).await.unwrap();
    assert_eq!(bound.credentials.uri(), Some("postgres://bob:x@127.0.0.1:15432/books"));
    assert_eq!(bound.renew_at, None);
    order.asks.round_made = true;
    let elsewhere = ([127, 0, 0, 1], 16000).into();
    let moved = shop.provider.bind(&order, &web, elsewhere, Some(&bound.credentials)).await.unwrap();
    assert_eq!(moved.credentials.get("port"), Some("16000"));
    let binds = shop.broker.seen("PUT binding");
    assert_eq!(binds.len(), 2);
    assert_ne!(binds[0].path, binds[1].path, "each has a name of its own");
    assert!(binds[1].body["bind_resource"]["app_guid"].is_string());

    // Ended, and deleted after everything that is bound to it.
    order.asks.ends = vec![(web, 1), ("db/db".parse().unwrap(), 1)];
    shop.broker.on("DELETE binding", [Say::Json(200, json!({})), Say::Json(410, json!({}))]);
    shop.broker.on("DELETE instance", [Say::Json(202, json!({}))]);
    shop.broker.on("GET last_operation", [state("in progress"), Say::Json(410, json!({}))]);
    shop.broker.forget();
    shop.provider.deprovision(&order, shop.progress()).await.unwrap();
    let asked = shop.broker.asked();
    assert_eq!(asked[..3], ["DELETE binding", "DELETE binding", "DELETE instance"]);
}

#[tokio::test]
async fn requests_say_who_asks_and_never_more() {
    let shop = Shop::open().await;
    shop.broker.on("PUT instance", [Say::Json(201, json!({}))]);
    shop.broker.on("DELETE instance", [Say::Json(410, json!({}))]);
    shop.provider.provision(&shop.order(), shop.progress()).await.unwrap();
    shop.provider.mitigate(&shop.order()).await.unwrap();
    let made = &shop.broker.seen("PUT instance")[0].headers;
    assert_eq!(made["x-broker-api-version"], "2.17");
    assert_eq!(made["authorization"], "Basic c2hvcDpodW50ZXIy");
    assert!(made["x-broker-api-originating-identity"].to_str().unwrap().starts_with("ostler "));
    let tidied = &shop.broker.seen("DELETE instance")[0].headers;
    assert!(!tidied.contains_key("x-broker-api-originating-identity"), "nobody asked for that");
    assert_ne!(made["x-broker-api-request-identity"], tidied["x-broker-api-request-identity"]);
}

#[tokio::test]
async fn what_was_under_way_is_asked_about_again() {
    let shop = Shop::open().await;
    let mut order = shop.order();
    let since = ostler_model::time::Timestamp(jiff::Timestamp::now().as_microsecond());
    order.asks.accepted = Some(Accepted { kind: AcceptedKind::Provision, operation: Some("task-7".to_owned()), since });
    shop.broker.on("GET last_operation", [state("in progress"), state("succeeded")]);
    assert_eq!(shop.provider.observe(&order).await.unwrap(), Observation::Stopped { exit: None });
    assert_eq!(shop.broker.seen("GET last_operation")[1].query["operation"], "task-7");
    shop.broker.on("GET last_operation", [Say::Json(200, json!({"state": "failed", "description": "No room."}))]);
    let useless = Observation::Useless { why: "No room.".to_owned() };
    assert_eq!(shop.provider.observe(&order).await.unwrap(), useless);
    // Since the day before yesterday: nobody may ask about that any more.
    order.asks.accepted.as_mut().unwrap().since.0 -= 2 * 86_400 * 1_000_000;
    shop.broker.on("GET last_operation", [state("in progress")]);
    assert!(matches!(shop.provider.observe(&order).await.unwrap(), Observation::Useless { .. }));
}

#[tokio::test]
async fn a_broker_in_trouble_says_nothing_against_what_it_made() {
    let shop = Shop::open().await;
    let mut order = shop.order();
    order.asks.made = true;
    for say in [Say::Json(500, json!({})), Say::Hang, Say::HangUp, Say::Json(422, json!({"error": "ConcurrencyError"}))]
    {
        shop.broker.on("GET instance", [say]);
        assert_eq!(shop.provider.observe(&order).await.unwrap(), Observation::Stopped { exit: None });
    }
    shop.broker.on("GET instance", [Say::Json(404, json!({}))]);
    assert_eq!(shop.provider.observe(&order).await.unwrap(), Observation::Absent);
}

#[tokio::test]
async fn an_ask_that_meets_its_own_instance_is_content() {
    let shop = Shop::open().await;
    shop.broker.on("PUT instance", [Say::Json(409, json!({}))]);
    shop.broker.on("GET instance", [Say::Json(200, json!({"service_id": "s-1", "plan_id": "p-small"}))]);
    shop.provider.provision(&shop.order(), shop.progress()).await.unwrap();
    shop.broker.on("GET instance", [Say::Json(200, json!({"service_id": "s-1", "plan_id": "p-other"}))]);
    let failure = shop.provider.provision(&shop.order(), shop.progress()).await.unwrap_err();
    assert_eq!(failure.class, FailureClass::Unclear, "it is not what was bought");
}

#[tokio::test]
async fn parameters_that_do_not_fit_are_not_sent() {
    let shop = Shop::open().await;
    let mut order = shop.order();
    order.parameters.0.insert("disk_gb".to_owned(), json!("a lot"));
    order.parameters.0.insert("color".to_owned(), json!("blue"));
    let failure = shop.provider.provision(&order, shop.progress()).await.unwrap_err();
    assert_eq!(failure.class, FailureClass::NeedsPerson);
    assert!(failure.detail.contains("disk_gb") && failure.detail.contains("color"), "{}", failure.detail);
    assert!(shop.broker.asked().is_empty());
    assert_eq!(shop.provider.check_parameters(&order.placement, &order.parameters).len(), 2);
}

#[tokio::test]
async fn a_binding_is_renewed_with_its_predecessor() {
    let shop = Shop::open().await;
    let mut order = shop.order();
    let answer =
        json!({"credentials": {"uri": "redis://:x@h:1"}, "metadata": {"expires_at": "2099-01-01T00:00:00.0Z"}});
    shop.broker.on("PUT binding", [Say::Json(201, answer)]);
    let web = "web/db".parse().unwrap();
    let first = shop.provider.bind(&order, &web, endpoint(), None).await.unwrap();
    assert!(first.renew_at.is_some());
    order.asks.round = Some(2);
    order.asks.predecessor = Some(1);
    shop.provider.bind(&order, &web, endpoint(), Some(&first.credentials)).await.unwrap();
    let binds = shop.broker.seen("PUT binding");
    let predecessor = binds[1].body["predecessor_binding_id"].as_str().unwrap();
    assert!(binds[0].path.ends_with(predecessor));
}

fn former(order: &InstanceOrder) -> Box<Former> {
    let InstanceOrder { placement, parameters, context, .. } = order.clone();
    Box::new(Former { placement, parameters, context })
}

#[tokio::test]
async fn who_wants_to_hear_of_the_context_is_told_when_it_changes() {
    for wants in [false, true] {
        let mut catalog = catalog();
        catalog["services"][0]["allow_context_updates"] = wants.into();
        let shop = Shop::open_with(catalog, |_| {}).await;
        shop.broker.on("PUT instance", [Say::Json(201, json!({}))]);
        shop.broker.on("PATCH instance", [Say::Json(200, json!({}))]);
        let mut order = shop.order();
        order.context.0.insert("cost_center".to_owned(), json!("4711"));
        shop.provider.provision(&order, shop.progress()).await.unwrap();
        let told = json!({"platform": "ostler", "estate": "shop", "instance_name": "db-1", "cost_center": "4711"});
        assert_eq!(shop.broker.seen("PUT instance")[0].body["context"], told);
        order.former = Some(former(&order));
        order.context.0.insert("cost_center".to_owned(), json!("4712"));
        shop.provider.update(&order, shop.progress()).await.unwrap();
        let asked = shop.broker.seen("PATCH instance");
        assert_eq!(asked.len(), usize::from(wants));
        if let Some(ask) = asked.first() {
            let told = json!({"platform": "ostler", "estate": "shop", "instance_name": "db-1", "cost_center": "4712"});
            let previous = json!({"plan_id": "p-small", "maintenance_info": {"version": "1.0.0"}});
            let whole = json!({"service_id": "s-1", "context": told, "previous_values": previous});
            assert_eq!(ask.body, whole, "nothing but the context");
        }
    }
}

#[tokio::test]
async fn an_update_says_only_what_changes() {
    let shop = Shop::open().await;
    shop.broker.on("PATCH instance", [Say::Json(200, json!({}))]);
    let mut order = shop.order();
    order.former = Some(former(&order));
    shop.provider.update(&order, shop.progress()).await.unwrap();
    assert!(shop.broker.asked().is_empty(), "nothing is to be changed");
    order.parameters.0.insert("disk_gb".to_owned(), json!(40));
    shop.provider.update(&order, shop.progress()).await.unwrap();
    let body = &shop.broker.seen("PATCH instance")[0].body;
    assert_eq!((&body["parameters"], body.get("plan_id")), (&json!({"disk_gb": 40}), None));
    assert_eq!(body.get("maintenance_info"), None, "it stays as it is kept");
    assert_eq!(body["previous_values"], json!({"plan_id": "p-small", "maintenance_info": {"version": "1.0.0"}}));
}

#[tokio::test]
async fn an_update_to_newer_maintenance_says_just_that() {
    let shop = Shop::open().await;
    shop.broker.on("PATCH instance", [Say::Json(202, json!({"operation": "7"}))]);
    shop.broker.on("GET last_operation", [state("succeeded")]);
    let mut order = shop.order();
    order.parameters.0.insert("disk_gb".to_owned(), json!(20));
    order.former = Some(former(&order));
    order.placement.maintenance = Some("1.1.0".to_owned());
    shop.provider.update(&order, shop.progress()).await.unwrap();
    let mut body = shop.broker.seen("PATCH instance")[0].body.clone();
    body.as_object_mut().unwrap().remove("context");
    let previous = json!({"plan_id": "p-small", "maintenance_info": {"version": "1.0.0"}});
    assert_eq!(
        body,
        json!({"service_id": "s-1", "maintenance_info": {"version": "1.1.0"}, "previous_values": previous}),
        "neither plan nor parameters"
    );
}

#[tokio::test]
async fn maintenance_that_is_offered_no_more_is_not_replaced_by_another() {
    let shop = Shop::open().await;
    let conflict = || Say::Json(422, json!({"error": "MaintenanceInfoConflict", "description": "that was yesterday"}));
    let mut order = shop.order();
    order.former = Some(former(&order));
    order.placement.maintenance = Some("0.9.0".to_owned());
    shop.broker.on("PATCH instance", [conflict()]);
    shop.broker.on("GET catalog", [Say::Json(200, catalog())]);
    let failed = shop.provider.update(&order, shop.progress()).await.unwrap_err();
    assert_eq!(failed.class, FailureClass::NeedsPerson);
    assert!(failed.detail.contains("maintenance 0.9.0") && failed.detail.contains("1.0.0 now"), "{}", failed.detail);
    assert_eq!(shop.broker.seen("GET catalog").len(), 1, "the catalog was read again");
    // One that the catalog has meanwhile is asked for again.
    let mut newer = catalog();
    newer["services"][0]["plans"][0]["maintenance_info"]["version"] = "1.1.0".into();
    order.placement.maintenance = Some("1.1.0".to_owned());
    shop.broker.on("PATCH instance", [conflict()]);
    shop.broker.on("GET catalog", [Say::Json(200, newer)]);
    let failed = shop.provider.update(&order, shop.progress()).await.unwrap_err();
    assert_eq!(failed.class, FailureClass::Temporary);
}
