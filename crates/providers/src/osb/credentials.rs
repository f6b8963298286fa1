//! What a binding holds, from what a broker said of it.
//!
//! Brokers name things as they like, so the usual names are looked for under the ones in use. Where it is safe the
//! address is replaced by the need's endpoint: so a consumer stays connected to the same place whatever becomes of the
//! instance. It is not where the consumer has been told to check the provider's name, or where several addresses are
//! named.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};

use ostler_model::binding::{Credentials, Secret};
use percent_encoding::percent_decode_str;
use reqwest::Url;
use serde_json::Value;

use super::verdict::Object;

/// What of the broker's answer is kept: the whole of what it gave.
const ANSWER: &str = "answer";
/// The most fields, and the longest, that a consumer is given.
const FIELDS_MAX: usize = 200;

/// Under which names the usual things come, best first.
const NAMES: [(&str, &[&str]); 6] = [
    ("uri", &["uri", "url", "connection_string", "connectionstring", "database_url", "dsn"]),
    ("host", &["host", "hostname", "server", "address", "fqdn"]),
    ("port", &["port"]),
    ("username", &["username", "user", "user_name", "login"]),
    ("password", &["password", "pass", "passwd", "pwd"]),
    ("database", &["database", "dbname", "db_name", "database_name", "db", "name"]),
];
/// Schemes whose clients check that the certificate is for the name that they connect to.
const CHECKED_SCHEMES: [&str; 8] = ["https", "rediss", "amqps", "mysqls", "mongodb+srv", "wss", "ldaps", "nats+tls"];

/// Where something is to be reached.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// A name or an address.
    pub host: String,
    /// Never 0.
    pub port: u16,
}

/// The credentials in a broker's answer to a bind, pointing at `endpoint` where that is safe.
pub fn credentials(answer: &Object, endpoint: Option<SocketAddr>) -> Credentials {
    let given = answer.get("credentials").and_then(Value::as_object).cloned().unwrap_or_default();
    let mut fields = flat(&given);
    add_usual(&mut fields);
    let place = place_in(&fields, answer);
    if let (Some(place), Some(endpoint)) = (&place, endpoint)
        && may_be_moved(&fields)
    {
        point_at(&mut fields, place, endpoint);
    }
    if let Some(place) = place {
        fields.entry("host".to_owned()).or_insert(place.host);
        fields.entry("port".to_owned()).or_insert_with(|| place.port.to_string());
    }
    let kept = Secret::new(serde_json::to_string(answer).expect("a JSON object can be written"));
    Credentials {
        fields: fields.into_iter().map(|(name, text)| (name, Secret::new(text))).collect(),
        kept: BTreeMap::from([(ANSWER.to_owned(), kept)]),
    }
}

/// The broker's answer that such credentials were made of.
pub(crate) fn answer_in(credentials: &Credentials) -> Option<Object> {
    serde_json::from_str(credentials.kept.get(ANSWER)?.expose()).ok()
}

/// Where what the answer gives access to is to be reached.
pub fn place(answer: &Object) -> Option<Place> {
    let given = answer.get("credentials").and_then(Value::as_object).cloned().unwrap_or_default();
    let mut fields = flat(&given);
    add_usual(&mut fields);
    place_in(&fields, answer)
}

/// Every value as a text, by a name that can be part of a variable's.
fn flat(given: &Object) -> BTreeMap<String, String> {
    let text = |value: &Value| match value {
        Value::Null => None,
        Value::String(text) => Some(text.clone()),
        Value::Bool(_) | Value::Number(_) | Value::Array(_) | Value::Object(_) => Some(value.to_string()),
    };
    let name = |name: &str| {
        let name: String = name
            .chars()
            .map(|c| if c.is_ascii_alphanumeric() { c.to_ascii_lowercase() } else { '_' })
            .take(64)
            .collect();
        if name.starts_with(|c: char| c.is_ascii_digit()) { format!("_{name}") } else { name }
    };
    let usable = |text: &String| !text.contains('\0'); // neither variables nor programs can hold that
    given
        .iter()
        .take(FIELDS_MAX)
        .filter_map(|(key, value)| Some((name(key), text(value).filter(usable)?)))
        .filter(|(name, _)| !name.is_empty())
        .collect()
}

/// What is missing of the usual names, from others that mean the same, and from the URI.
fn add_usual(fields: &mut BTreeMap<String, String>) {
    for (usual, names) in NAMES {
        if fields.contains_key(usual) {
            continue;
        }
        let found =
            names.iter().find_map(|name| fields.get(*name)).filter(|text| usual != "uri" || text.contains("://"));
        if let Some(text) = found.cloned() {
            fields.insert(usual.to_owned(), text);
        }
    }
    let Some(url) = fields.get("uri").and_then(|uri| Url::parse(uri).ok()) else { return };
    let decoded = |text: &str| percent_decode_str(text).decode_utf8().ok().map(Cow::into_owned);
    let parts = [
        ("host", url.host_str().map(|host| host.trim_matches(['[', ']']).to_owned())),
        ("port", url.port().or_else(|| usual_port(url.scheme())).map(|port| port.to_string())),
        ("username", decoded(url.username())),
        ("password", url.password().and_then(decoded)),
        ("database", decoded(url.path().trim_start_matches('/'))),
    ];
    for (name, text) in parts {
        if let Some(text) = text.filter(|text| !text.is_empty()) {
            fields.entry(name.to_owned()).or_insert(text);
        }
    }
}

/// The port that is meant where a URI names none.
fn usual_port(scheme: &str) -> Option<u16> {
    Some(match scheme {
        "postgres" | "postgresql" => 5432,
        "mysql" | "mysql2" | "mysqls" | "mariadb" => 3306,
        "redis" | "rediss" => 6379,
        "amqp" => 5672,
        "amqps" => 5671,
        "mongodb" => 27017,
        "nats" => 4222,
        "http" => 80,
        "https" => 443,
        _ => return None,
    })
}

fn place_in(fields: &BTreeMap<String, String>, answer: &Object) -> Option<Place> {
    let of_fields = || {
        let host = fields.get("host")?.trim();
        let port = fields.get("port")?.trim().parse().ok().filter(|port| *port > 0)?;
        is_one_host(host).then(|| Place { host: host.to_owned(), port })
    };
    let of_uri = || {
        let url = Url::parse(fields.get("uri")?).ok()?;
        let host = url.host_str()?.trim_matches(['[', ']']).to_owned();
        let port = url.port().or_else(|| usual_port(url.scheme()))?;
        is_one_host(&host).then_some(Place { host, port })
    };
    let of_endpoints = || {
        let first = answer.get("endpoints")?.as_array()?.first()?;
        let port = first.get("ports")?.as_array()?.first()?;
        let port = port.as_str()?.split('-').next()?.trim().parse().ok().filter(|port| *port > 0)?;
        let host = first.get("host")?.as_str()?.trim();
        is_one_host(host).then(|| Place { host: host.to_owned(), port })
    };
    of_uri().or_else(of_fields).or_else(of_endpoints)
}

fn is_one_host(host: &str) -> bool {
    !host.is_empty() && host.len() <= 253 && !host.contains(|c: char| c.is_whitespace() || matches!(c, ',' | '/' | '@'))
}

/// Whether the consumer works as well at another address.
fn may_be_moved(fields: &BTreeMap<String, String>) -> bool {
    let Some(uri) = fields.get("uri") else { return true };
    let Ok(url) = Url::parse(uri) else { return false };
    let names_are_checked = CHECKED_SCHEMES.contains(&url.scheme())
        || url.query_pairs().any(|(name, value)| {
            let name = name.to_ascii_lowercase();
            let value = value.to_ascii_lowercase().replace('_', "-");
            (matches!(name.as_str(), "sslmode" | "ssl-mode" | "tls")
                && matches!(value.as_str(), "verify-full" | "verify-identity" | "true"))
        });
    url.host_str().is_some_and(is_one_host) && !names_are_checked
}

/// Replaces the place wherever it is named.
fn point_at(fields: &mut BTreeMap<String, String>, place: &Place, endpoint: SocketAddr) {
    let (host, port) = (endpoint.ip().to_string(), endpoint.port().to_string());
    let authority = |host: &str| match host.parse::<IpAddr>() {
        Ok(IpAddr::V6(_)) => format!("[{host}]:{}", place.port),
        _ => format!("{host}:{}", place.port),
    };
    let (before, after) = (authority(&place.host), endpoint.to_string());
    for (name, text) in fields.iter_mut() {
        let is_host = *text == place.host && NAMES[1].1.contains(&name.as_str());
        if is_host {
            text.clone_from(&host);
        } else if name == "port" && *text == place.port.to_string() {
            text.clone_from(&port);
        } else if let Some(moved) = moved_uri(text, place, endpoint) {
            *text = moved;
        } else if text.contains("//") {
            *text = text.replace(&before, &after);
        }
    }
}

fn moved_uri(text: &str, place: &Place, endpoint: SocketAddr) -> Option<String> {
    let mut url = Url::parse(text).ok()?;
    let is_there = url.host_str()?.trim_matches(['[', ']']) == place.host
        && url.port().or_else(|| usual_port(url.scheme())) == Some(place.port);
    if !is_there {
        return None;
    }
    let host = match endpoint.ip() {
        IpAddr::V4(address) => address.to_string(),
        IpAddr::V6(address) => format!("[{address}]"),
    };
    url.set_host(Some(&host)).ok()?;
    url.set_port(Some(endpoint.port())).ok()?;
    Some(url.into())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn made(answer: Value) -> BTreeMap<String, String> {
        let Value::Object(answer) = answer else { panic!("an object") };
        let endpoint = ([127, 0, 0, 1], 15432).into();
        let made = credentials(&answer, Some(endpoint));
        assert_eq!(answer_in(&made), Some(answer));
        made.fields.iter().map(|(name, secret)| (name.clone(), secret.expose().to_owned())).collect()
    }

    fn place_of(answer: Value) -> Option<(String, u16)> {
        let Value::Object(answer) = answer else { panic!("an object") };
        place(&answer).map(|place| (place.host, place.port))
    }

    #[test]
    fn a_uri_gives_everything_and_is_pointed_at_the_endpoint() {
        let uri = "postgres://bob:p%40ss@db.acme.example:5433/books?sslmode=require";
        let fields = made(json!({"credentials": {"uri": uri}}));
        assert_eq!(fields["uri"], "postgres://bob:p%40ss@127.0.0.1:15432/books?sslmode=require");
        let got = ["host", "port", "username", "password", "database"].map(|name| fields[name].as_str());
        assert_eq!(got, ["127.0.0.1", "15432", "bob", "p@ss", "books"]);
    }

    #[test]
    fn what_only_looks_escaped_is_taken_as_it_stands() {
        for (written, meant) in [("100%25", "100%"), ("a%+Fb", "a%+Fb"), ("50%", "50%"), ("%zz%41", "%zzA")] {
            let uri = format!("postgres://bob:{written}@db.acme.example/books");
            assert_eq!(made(json!({"credentials": {"uri": uri}}))["password"], meant, "{written}");
        }
    }

    #[test]
    fn other_names_for_the_same_are_understood() {
        let fields = made(json!({"credentials": {
            "hostname": "10.1.2.3", "port": 5432, "user": "bob", "pass": "x", "dbname": "books", "jdbcUrl":
            "jdbc:postgresql://10.1.2.3:5432/books", "Read-Only": false, "hosts": ["a", "b"], "none": null,
        }}));
        let got = ["host", "hostname", "port", "username", "password", "database"].map(|name| fields[name].as_str());
        assert_eq!(got, ["127.0.0.1", "127.0.0.1", "15432", "bob", "x", "books"]);
        assert_eq!(fields["jdbcurl"], "jdbc:postgresql://127.0.0.1:15432/books");
        assert_eq!((fields["read_only"].as_str(), fields["hosts"].as_str()), ("false", "[\"a\",\"b\"]"));
        assert!(!fields.contains_key("none"));
    }

    #[test]
    fn where_names_are_checked_the_address_stays() {
        for uri in [
            "https://api.acme.example/v1",
            "rediss://:x@cache.acme.example:6380",
            "postgres://b:x@db.acme.example/books?sslmode=verify-full",
            "postgres://b:x@one.example:5432,two.example:5432/books",
        ] {
            assert_eq!(made(json!({"credentials": {"uri": uri}}))["uri"], uri);
        }
    }

    #[test]
    fn places_are_found_wherever_they_stand() {
        assert_eq!(place_of(json!({"credentials": {"uri": "redis://:x@[fd00::1]"}})), Some(("fd00::1".into(), 6379)));
        assert_eq!(place_of(json!({"credentials": {"uri": "mysql2://a:x@h/d"}})), Some(("h".into(), 3306)));
        assert_eq!(place_of(json!({"credentials": {"host": "h", "port": "81"}})), Some(("h".into(), 81)));
        let endpoints = json!([{"host": "e.example", "ports": ["9000-9010"]}]);
        assert_eq!(place_of(json!({"credentials": {}, "endpoints": endpoints})), Some(("e.example".into(), 9000)));
        for nowhere in [
            json!({}),
            json!({"credentials": null}),
            json!({"credentials": []}),
            json!({"credentials": {"host": "", "port": 1}}),
            json!({"credentials": {"host": "a,b", "port": 1}}),
            json!({"credentials": {"host": "a", "port": 0}}),
            json!({"credentials": {"host": "a", "port": 70000}}),
            json!({"endpoints": [{"host": "a", "ports": []}]}),
        ] {
            assert_eq!(place_of(nowhere), None);
        }
    }

    proptest::proptest! {
        #[test]
        fn nothing_that_a_broker_gives_makes_it_panic(uri in ".{0,60}", host in ".{0,30}", port in ".{0,8}") {
            let fields = made(json!({"credentials": {"uri": uri, "host": host, "port": port, "a b": {"c": host}}}));
            proptest::prop_assert!(fields.values().all(|text| !text.contains('\0')));
        }
    }
}
