//! Every answer of the specification's tables, and the wrong ones outside them: what ostler makes of each. The table is a
//! snapshot; `INSTA_UPDATE=always cargo nextest run -p ostler-providers answers` writes it anew.

use std::fmt::Write as _;

use ostler_model::outcome::Failure;
use ostler_providers::{Former, InstanceOrder, Provider};
use serde_json::json;

use crate::broker::Say;
use crate::support::Shop;

fn answers() -> Vec<(&'static str, Say)> {
    let error = |status, code: &str| Say::Json(status, json!({"error": code, "description": "Sorry."}));
    vec![
        ("200 {}", Say::Json(200, json!({}))),
        ("200 empty", Say::Text(200, String::new())),
        ("200 HTML", Say::Text(200, "<html>".to_owned())),
        ("200 []", Say::Json(200, json!([]))),
        ("201 {}", Say::Json(201, json!({}))),
        ("201 HTML", Say::Text(201, "<html>".to_owned())),
        ("202 {}", Say::Json(202, json!({"operation": "task 7/a"}))),
        ("202 HTML", Say::Text(202, "<html>".to_owned())),
        ("204", Say::Text(204, String::new())),
        ("301", Say::With(301, "Location", "http://127.0.0.1:1/".to_owned(), json!({}))),
        ("400", error(400, "BadRequest")),
        ("401", Say::Text(401, "no".to_owned())),
        ("403", Say::Json(403, json!({}))),
        ("404", Say::Json(404, json!({}))),
        ("408", Say::Json(408, json!({}))),
        ("409", Say::Json(409, json!({}))),
        ("410", Say::Json(410, json!({}))),
        ("412", Say::Json(412, json!({"description": "2.12 only"}))),
        ("422", Say::Json(422, json!({}))),
        ("422 AsyncRequired", error(422, "AsyncRequired")),
        ("422 ConcurrencyError", error(422, "ConcurrencyError")),
        ("422 MaintenanceInfoConflict", error(422, "MaintenanceInfoConflict")),
        ("422 RequiresApp", error(422, "RequiresApp")),
        ("429", Say::Json(429, json!({}))),
        ("451", Say::Json(451, json!({}))),
        ("500", error(500, "Oops")),
        ("503 HTML", Say::Text(503, "<html>".to_owned())),
        ("599", Say::Json(599, json!({}))),
        ("breaks off", Say::HangUp),
    ]
}

fn outcome<T>(result: Result<T, Failure>) -> String {
    match result {
        Ok(_) => "done".to_owned(),
        Err(failure) => format!("{:?}: {}", failure.class, failure.detail),
    }
}

async fn table<F>(topic: &str, asked: &str, then: &[(&str, Say)], ask: F) -> String
where
    F: AsyncFn(&Shop, &InstanceOrder) -> String,
{
    let mut text = format!("== {topic}: the answer to {asked} ==\n");
    for (name, say) in answers() {
        let shop = Shop::open().await;
        for (what, say) in then {
            shop.broker.on(what, [say.clone()]);
        }
        shop.broker.on(asked, [say]);
        let order = shop.order();
        let outcome = ask(&shop, &order).await;
        let others: Vec<String> = shop.broker.asked().into_iter().filter(|what| what != asked).collect();
        let then = if others.is_empty() { String::new() } else { format!("  [then {}]", others.join(", ")) };
        let _ = writeln!(text, "{name:<28} {}{then}", outcome.replace(&shop.broker.address.to_string(), "ADDRESS"));
    }
    text.push('\n');
    text
}

#[tokio::test]
async fn every_answer() {
    let state = |state: &str| Say::Json(200, json!({"state": state, "description": "Hm."}));
    let mut text = String::new();
    let done = [("GET last_operation", state("succeeded")), ("GET instance", Say::Json(404, json!({})))];
    text += &table("provision", "PUT instance", &done, async |shop, order| {
        outcome(shop.provider.provision(order, shop.progress()).await)
    })
    .await;
    text += &table(
        "provision",
        "GET last_operation",
        &[("PUT instance", Say::Json(202, json!({})))],
        async |shop, order| outcome(shop.provider.provision(order, shop.progress()).await),
    )
    .await;
    text += &table("update", "PATCH instance", &done[..1], async |shop, order| {
        let mut order = order.clone();
        order.parameters.0.insert("disk_gb".to_owned(), json!(7));
        let (placement, context) = (order.placement.clone(), order.context.clone());
        order.former = Some(Box::new(Former { placement, parameters: Default::default(), context }));
        outcome(shop.provider.update(&order, shop.progress()).await)
    })
    .await;
    let gone = [("GET last_operation", Say::Json(410, json!({})))];
    text += &table("deprovision", "DELETE instance", &gone, async |shop, order| {
        outcome(shop.provider.deprovision(order, shop.progress()).await)
    })
    .await;
    text += &table("tidying up after a lost ask", "DELETE instance", &gone, async |shop, order| {
        outcome(shop.provider.mitigate(order).await)
    })
    .await;
    let bound = [
        ("GET binding last_operation", state("succeeded")),
        ("GET binding", Say::Json(200, json!({"credentials": {"uri": "postgres://b:x@127.0.0.1:5432/d"}}))),
    ];
    text += &table("bind", "PUT binding", &bound, async |shop, order| {
        let bound = shop.provider.bind(order, &"web/db".parse().unwrap(), ([127, 0, 0, 1], 15432).into(), None).await;
        outcome(bound)
    })
    .await;
    let gone = [("GET binding last_operation", Say::Json(410, json!({})))];
    text += &table("unbind", "DELETE binding", &gone, async |shop, order| {
        let mut order = order.clone();
        order.asks.ends.push(("web/db".parse().unwrap(), 1));
        outcome(shop.provider.unbind(&order, &"web/db".parse().unwrap()).await)
    })
    .await;
    let unknown = [("GET last_operation", Say::Json(404, json!({})))];
    for made in [false, true] {
        let topic = if made { "a look at what was made" } else { "a look at what is in doubt" };
        text += &table(topic, "GET instance", &unknown, async |shop, order| {
            let mut order = order.clone();
            order.asks.made = made;
            match shop.provider.observe(&order).await {
                Ok(observation) => format!("{observation:?}"),
                Err(failure) => outcome::<()>(Err(failure)),
            }
        })
        .await;
    }
    insta::assert_snapshot!("answers", text);
}
