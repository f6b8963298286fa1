//! A broker's own backup action: what is taken of what it sends, and what is sent to whom.

use std::path::PathBuf;

use ostler_model::outcome::FailureClass;
use ostler_providers::Provider;
use ostler_providers::osb::stream::digest_header;
use serde_json::{Value, json};

use crate::broker::{Broker, Say};
use crate::support::{Shop, catalog};

const OCTETS: &str = "application/octet-stream";
/// Of something else than what is sent.
const SHA256: &str = "1fcbdf46b2cc2f6e8dfd5b0fb0a2a9ab0f5a3b5c0a1e1d3c2f3f4f5f6f7f8f9f";

fn with_action(action: Value) -> Value {
    let mut catalog = catalog();
    catalog["services"][0]["metadata"] = json!({"ostler": {"backup": action}});
    catalog
}

async fn shop() -> (Shop, tempfile::TempDir, PathBuf) {
    let action = json!({"path": "/backups/{instance_id}", "format": "postgresql"});
    let folder = tempfile::tempdir().unwrap();
    let to = folder.path().join("backup");
    (Shop::open_with(with_action(action), |_| {}).await, folder, to)
}

fn file(headers: &[(&'static str, &str)]) -> Say {
    let headers = headers.iter().map(|(name, value)| (*name, (*value).to_owned())).collect();
    Say::File(200, headers, "a backup")
}

#[tokio::test]
async fn a_backup_comes_out_and_goes_in() {
    let (shop, _folder, to) = shop().await;
    let format = shop.provider.backup_format(&shop.placement).unwrap();
    assert_eq!((format.as_str(), shop.provider.backup_format_of(&format)), ("postgresql", Some(format.clone())));
    let said = [("content-type", OCTETS), ("ostler-counted", "rows=5, tables=2"), ("ostler-version", "15.18")];
    shop.broker.on("GET elsewhere", [file(&said)]);
    let dumped = shop.provider.backup(&shop.order(), &to).await.unwrap();
    assert_eq!(std::fs::read_to_string(&to).unwrap(), "a backup");
    assert_eq!((dumped.counted["rows"], dumped.counted["tables"]), (5, 2));
    assert_eq!(dumped.version.unwrap().to_string(), "15.18");

    shop.broker.on("PUT elsewhere", [Say::Json(200, json!({}))]);
    shop.provider.restore(&shop.order(), &to).await.unwrap();
    let seen = shop.broker.seen("PUT elsewhere").pop().unwrap();
    assert_eq!((&seen.bytes[..], &seen.headers["content-type"]), (&b"a backup"[..], &OCTETS.parse().unwrap()));
    assert_eq!(seen.headers["content-length"], "8");
    assert!(seen.headers.contains_key("authorization") && seen.headers.contains_key("x-broker-api-version"));
    assert!(seen.headers["content-digest"].to_str().unwrap().starts_with("sha-256=:"));
    assert!(seen.path.starts_with("/backups/"), "{}", seen.path);
}

#[tokio::test]
async fn what_a_broker_sends_is_believed_only_if_it_is_whole_and_what_was_declared() {
    let octets = ("content-type", OCTETS);
    let other = digest_header(SHA256);
    for (say, why) in [
        (file(&[]), "and declares"),
        (file(&[("content-type", "text/html")]), "and declares"),
        (file(&[octets, ("content-digest", &other)]), "damaged on the way"),
        (Say::File(200, vec![(octets.0, octets.1.to_owned())], ""), "it is empty"),
        (Say::HangUp, "did not answer"),
        (Say::Json(404, json!({"description": "no such thing"})), "answered 404: no such thing"),
        (Say::Json(500, json!({})), "answered 500"),
        (Say::Huge(1 << 20), "and declares"),
    ] {
        let (shop, folder, to) = shop().await;
        shop.broker.on("GET elsewhere", [say]);
        let failure = shop.provider.backup(&shop.order(), &to).await.unwrap_err();
        assert!(failure.detail.contains(why), "{why}: {}", failure.detail);
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0, "{why}: something is left");
        assert!(!failure.detail.contains("hunter2"));
    }
}

#[tokio::test]
async fn nobody_else_is_asked_for_a_backup_or_given_one() {
    let (shop, _folder, to) = shop().await;
    std::fs::write(&to, "a backup").unwrap();
    let other = Broker::start().await;
    for (what, location) in [("GET elsewhere", other.url()), ("PUT elsewhere", other.url())] {
        shop.broker.on(what, [Say::With(307, "Location", location, json!({}))]);
    }
    let part = to.with_file_name("another");
    for failure in [
        shop.provider.backup(&shop.order(), &part).await.unwrap_err(),
        shop.provider.restore(&shop.order(), &to).await.unwrap_err(),
    ] {
        assert_eq!(failure.class, FailureClass::NeedsPerson);
        assert!(failure.detail.contains("which is not followed"), "{}", failure.detail);
    }
    assert!(other.asked().is_empty(), "the data, or the password, was sent to somebody else");
    // A catalog cannot name another address either: the offering is bought without the action.
    let action = json!({"path": format!("{}/{{instance_id}}", other.url()), "format": "postgresql"});
    let shop = Shop::open_with(with_action(action), |_| {}).await;
    assert_eq!(shop.provider.backup_format(&shop.placement), None);
    assert!(shop.provider.left_out()[0].contains("has a `backup` whose `path`"), "{:?}", shop.provider.left_out());
}
