//! How brokers are treated, and what hostile ones can do.

use std::time::{Duration, Instant};

use ostler_model::estate::osb::{OsbAuth, SecretSource};
use ostler_model::outcome::FailureClass;
use ostler_providers::Provider;
use serde_json::json;

use crate::broker::Say;
use crate::support::{Shop, catalog};

#[tokio::test]
async fn whatever_a_broker_does_a_request_ends() {
    for say in [Say::Hang, Say::Drip, Say::Huge(64 << 20)] {
        let shop = Shop::open().await;
        shop.broker.on("PUT instance", [say]);
        let begun = Instant::now();
        let failure = shop.provider.provision(&shop.order(), shop.progress()).await.unwrap_err();
        assert!(begun.elapsed() < Duration::from_secs(5));
        assert!(matches!(failure.class, FailureClass::InDoubt | FailureClass::Unclear), "{failure:?}");
    }
}

#[tokio::test]
async fn a_catalog_that_is_none_is_told() {
    for (say, why) in [
        (Say::Json(200, json!({})), "no list of `services`"),
        (Say::Text(200, "[".repeat(1 << 20)), "no answer"),
        (Say::Json(401, json!({})), "does not accept who ostler says it is"),
        (Say::Json(412, json!({"description": "2.12"})), "another version"),
        (Say::Json(500, json!({})), "answered 500"),
        (Say::Hang, "did not answer within"),
    ] {
        let shop = Shop::open().await;
        shop.broker.on("GET catalog", [say]);
        let failure = shop.provider.catalog().await.unwrap_err();
        assert!(failure.detail.contains(why), "{}", failure.detail);
        assert!(!failure.detail.contains("hunter2"));
    }
}

#[tokio::test]
async fn nobody_is_redirected() {
    let other = crate::broker::Broker::start().await;
    let shop = Shop::open().await;
    shop.broker.on("GET catalog", [Say::With(307, "Location", format!("{}/v2/catalog", other.url()), json!({}))]);
    shop.provider.catalog().await.unwrap_err();
    assert!(other.asked().is_empty(), "the password was sent to somebody else");
}

#[tokio::test]
async fn a_broker_that_asks_for_peace_gets_it() {
    let shop = Shop::open().await;
    shop.broker
        .on("PUT instance", [Say::With(429, "Retry-After", "1".to_owned(), json!({})), Say::Json(201, json!({}))]);
    let failure = shop.provider.provision(&shop.order(), shop.progress()).await.unwrap_err();
    assert_eq!(failure.class, FailureClass::Temporary);
    shop.provider.provision(&shop.order(), shop.progress()).await.unwrap();
    let asked = shop.broker.seen("PUT instance");
    assert!(asked[1].at - asked[0].at >= Duration::from_secs(1));
}

#[tokio::test]
async fn a_broker_that_is_down_is_left_alone() {
    let shop = Shop::open().await;
    shop.broker.on("DELETE instance", [Say::Json(500, json!({}))]);
    let order = shop.order();
    for _ in 0..5 {
        shop.provider.mitigate(&order).await.unwrap_err();
    }
    assert_eq!(shop.broker.asked().len(), 5);
    let begun = Instant::now();
    shop.provider.mitigate(&order).await.unwrap_err(); // waits for its turn, and is the one that finds out
    assert!(begun.elapsed() >= Duration::from_millis(400));
    assert_eq!(shop.broker.asked().len(), 6);
}

#[tokio::test]
async fn so_many_at_once_and_no_more_in_a_second() {
    let shop = Shop::open_with(catalog(), |declared| {
        declared.manners.at_once = 2;
        declared.manners.per_second = Some(20);
    })
    .await;
    let begun = Instant::now();
    let asks = (0..10).map(|_| shop.provider.catalog());
    let mut asks: Vec<_> = asks.collect();
    std::future::poll_fn(|context| {
        asks.retain_mut(|ask| ask.as_mut().poll(context).is_pending());
        if asks.is_empty() { std::task::Poll::Ready(()) } else { std::task::Poll::Pending }
    })
    .await;
    assert!(begun.elapsed() >= Duration::from_millis(450), "{:?}", begun.elapsed());
    assert_eq!(shop.broker.asked().len(), 10);
}

#[tokio::test]
async fn a_password_that_was_changed_is_found_anew() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("token");
    std::fs::write(&path, "old\n").unwrap();
    let token = SecretSource::File(path.clone());
    let shop = Shop::open_with(catalog(), |declared| declared.auth = OsbAuth::Bearer { token }).await;
    std::fs::write(&path, "new\n").unwrap();
    shop.broker.on("GET catalog", [Say::Json(401, json!({})), Say::Json(200, catalog())]);
    shop.provider.catalog().await.unwrap();
    let sent: Vec<_> =
        shop.broker.seen("GET catalog").iter().map(|seen| seen.headers["authorization"].clone()).collect();
    assert_eq!(sent, ["Bearer old", "Bearer new"]);
    std::fs::remove_file(&path).unwrap();
    shop.broker.on("GET catalog", [Say::Json(401, json!({}))]);
    shop.provider.catalog().await.unwrap_err();
    let failure = shop.provider.catalog().await.unwrap_err();
    assert!(failure.detail.contains("cannot read"), "{}", failure.detail);
}
