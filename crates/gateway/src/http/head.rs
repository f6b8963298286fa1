//! What a head must hold and what is changed in it on its way. Pure.
//!
//! A head is not copied but read and written anew, with exactly one statement of how long its body is. So whatever a
//! caller wrote, the instance and the gateway agree on where a request ends.
//!
//! Invariant: nothing that is meant for one connection only goes on to another one.

use std::net::IpAddr;

use hyper::header::{
    CONNECTION, CONTENT_TYPE, EXPECT, FORWARDED, HOST, HeaderMap, HeaderName, HeaderValue, TE, TRANSFER_ENCODING,
    UPGRADE,
};
use hyper::http::request;
use hyper::http::uri::{PathAndQuery, Uri};
use hyper::{Method, StatusCode, Version};

const KEEP_ALIVE: HeaderName = HeaderName::from_static("keep-alive");
const PROXY_CONNECTION: HeaderName = HeaderName::from_static("proxy-connection");
const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
/// Of one connection, whether `Connection` names them or not (RFC 9110, section 7.6.1).
const OF_ONE_CONNECTION: [HeaderName; 6] = [CONNECTION, KEEP_ALIVE, PROXY_CONNECTION, TE, TRANSFER_ENCODING, UPGRADE];

/// How the caller is named to instances.
#[derive(Clone, Debug)]
pub(crate) struct CallerName {
    /// For `Forwarded` (RFC 7239).
    forwarded: HeaderValue,
    /// For `X-Forwarded-For`.
    address: HeaderValue,
}

impl CallerName {
    pub(crate) fn of(address: IpAddr) -> Self {
        let address = address.to_canonical();
        let quoted = match address {
            IpAddr::V4(address) => format!("for={address};proto=http"),
            IpAddr::V6(address) => format!("for=\"[{address}]\";proto=http"),
        };
        let value = |text: String| HeaderValue::from_maybe_shared(text.into_bytes().into_boxed_slice().into_vec());
        Self {
            forwarded: value(quoted).expect("an address is visible ASCII"),
            address: value(address.to_string()).expect("an address is visible ASCII"),
        }
    }
}

/// Whether asking twice is as good as asking once (RFC 9110, section 9.2.2).
pub(crate) fn is_idempotent(method: &Method) -> bool {
    [Method::GET, Method::HEAD, Method::OPTIONS, Method::TRACE, Method::PUT, Method::DELETE].contains(method)
}

/// Makes of the head that a caller sent the one that an instance gets. Returns whether it asks for another protocol.
///
/// # Errors
/// The status to refuse it with.
pub(crate) fn to_instance(head: &mut request::Parts, caller: &CallerName) -> Result<bool, StatusCode> {
    check(head)?;
    let upgrade = head.headers.get(UPGRADE).filter(|_| names(&head.headers, &UPGRADE)).cloned();
    let upgrade = upgrade.filter(|_| head.version == Version::HTTP_11);
    let trailers = head.headers.get_all(TE).iter().any(is_trailers);
    leave_out_of_one_connection(&mut head.headers);
    head.headers.remove(EXPECT); // whoever reads the body has told the caller to go on
    let asks_to_upgrade = upgrade.is_some();
    if let Some(protocol) = upgrade {
        head.headers.insert(CONNECTION, HeaderValue::from_static("upgrade"));
        head.headers.insert(UPGRADE, protocol);
    } else if trailers {
        head.headers.insert(CONNECTION, HeaderValue::from_static("te"));
        head.headers.insert(TE, HeaderValue::from_static("trailers"));
    }
    add(&mut head.headers, X_FORWARDED_FOR, &caller.address);
    add(&mut head.headers, FORWARDED, &caller.forwarded);
    head.version = Version::HTTP_11;
    head.uri = origin_form(&head.uri).ok_or(StatusCode::BAD_REQUEST)?;
    Ok(asks_to_upgrade)
}

/// Makes of the head that an instance sent the one that a caller gets.
pub(crate) fn to_caller(headers: &mut HeaderMap, status: StatusCode) {
    let protocol = headers.get(UPGRADE).cloned().filter(|_| status == StatusCode::SWITCHING_PROTOCOLS);
    leave_out_of_one_connection(headers);
    if let Some(protocol) = protocol {
        headers.insert(CONNECTION, HeaderValue::from_static("upgrade"));
        headers.insert(UPGRADE, protocol);
    }
}

/// Whether the answer is a stream of events, which must not wait for one another.
pub(crate) fn is_event_stream(headers: &HeaderMap) -> bool {
    let kind = headers.get(CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).unwrap_or_default();
    kind.split(';').next().is_some_and(|kind| kind.trim().eq_ignore_ascii_case("text/event-stream"))
}

fn check(head: &mut request::Parts) -> Result<(), StatusCode> {
    if head.method == Method::CONNECT {
        return Err(StatusCode::METHOD_NOT_ALLOWED); // this is no way to anywhere else
    }
    // RFC 9112, section 3.2: "A server MUST respond with a 400 (Bad Request) status code to any HTTP/1.1 request message
    // that lacks a Host header field and to any request message that contains more than one Host header field line".
    let hosts = head.headers.get_all(HOST).iter().count();
    if hosts > 1 || (hosts == 0 && head.version == Version::HTTP_11) {
        return Err(StatusCode::BAD_REQUEST);
    }
    // RFC 9112, section 3.2.2: a host in the first line goes before the one in `Host`.
    if let Some(authority) = head.uri.authority() {
        let host = HeaderValue::from_str(authority.as_str()).map_err(|_| StatusCode::BAD_REQUEST)?;
        head.headers.insert(HOST, host);
    }
    Ok(())
}

/// The path and query alone, or `*`.
fn origin_form(uri: &Uri) -> Option<Uri> {
    let path = uri.path_and_query().cloned().unwrap_or(PathAndQuery::from_static("/"));
    let mut parts = hyper::http::uri::Parts::default();
    parts.path_and_query = Some(path);
    Uri::from_parts(parts).ok()
}

fn leave_out_of_one_connection(headers: &mut HeaderMap) {
    if headers.contains_key(CONNECTION) {
        let named: Vec<HeaderName> = headers
            .get_all(CONNECTION)
            .iter()
            .filter_map(|value| value.to_str().ok())
            .flat_map(|value| value.split(','))
            .filter_map(|name| HeaderName::from_bytes(name.trim().as_bytes()).ok())
            // Without them the message would mean something else; nobody names them who means well.
            .filter(|name| *name != HOST && *name != hyper::header::CONTENT_LENGTH)
            .collect();
        for name in named {
            headers.remove(name);
        }
    }
    for name in OF_ONE_CONNECTION {
        headers.remove(name);
    }
}

/// Whether `Connection` names this header.
fn names(headers: &HeaderMap, name: &HeaderName) -> bool {
    let values = headers.get_all(CONNECTION).iter().filter_map(|value| value.to_str().ok());
    values.flat_map(|value| value.split(',')).any(|named| named.trim().eq_ignore_ascii_case(name.as_str()))
}

fn is_trailers(value: &HeaderValue) -> bool {
    let Ok(value) = value.to_str() else { return false };
    value.split(',').any(|coding| coding.trim().eq_ignore_ascii_case("trailers"))
}

/// Adds to a list that may be there already.
fn add(headers: &mut HeaderMap, name: HeaderName, value: &HeaderValue) {
    let mut joined = Vec::new();
    for before in headers.get_all(&name) {
        joined.extend_from_slice(before.as_bytes());
        joined.extend_from_slice(b", ");
    }
    if joined.is_empty() {
        headers.insert(name, value.clone());
        return;
    }
    joined.extend_from_slice(value.as_bytes());
    // Both were values before, so that together they are one.
    if let Ok(joined) = HeaderValue::from_maybe_shared(joined) {
        headers.insert(name, joined);
    }
}

#[cfg(test)]
mod tests {
    use hyper::Request;
    use proptest::prelude::*;

    use super::*;

    fn sent(first: &str, headers: &[(&str, &str)]) -> request::Parts {
        let (method, uri) = first.split_once(' ').unwrap();
        let mut request = Request::builder().method(method).uri(uri);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        request.body(()).unwrap().into_parts().0
    }

    fn name() -> CallerName {
        CallerName::of([192, 0, 2, 7].into())
    }

    /// What an instance gets of a request, but for how the caller is named.
    fn check(first: &str, headers: &[(&str, &str)], expected: &[(&str, &str)]) {
        let mut head = sent(first, headers);
        to_instance(&mut head, &name()).unwrap();
        head.headers.remove(FORWARDED);
        head.headers.remove(X_FORWARDED_FOR);
        let mut got: Vec<(&str, &str)> =
            head.headers.iter().map(|(name, value)| (name.as_str(), value.to_str().unwrap())).collect();
        got.sort_unstable();
        assert_eq!(got, expected, "{first} {headers:?}");
    }

    #[test]
    fn what_is_for_one_connection_only_is_left_out() {
        check("GET /", &[("host", "a"), ("connection", "close")], &[("host", "a")]);
        check(
            "GET /",
            &[("host", "a"), ("connection", "x-one, Keep-Alive"), ("x-one", "1"), ("x-two", "2")],
            &[("host", "a"), ("x-two", "2")],
        );
        check("GET /", &[("host", "a"), ("keep-alive", "9"), ("transfer-encoding", "chunked")], &[("host", "a")]);
        check(
            "GET /",
            &[("host", "a"), ("connection", "host, content-length"), ("content-length", "0")],
            &[("content-length", "0"), ("host", "a")],
        );
        check(
            "GET /",
            &[("host", "a"), ("te", "gzip, trailers")],
            &[("connection", "te"), ("host", "a"), ("te", "trailers")],
        );
        check("GET /", &[("host", "a"), ("upgrade", "h2c")], &[("host", "a")]); // not named by `Connection`
        check(
            "GET /",
            &[("host", "a"), ("upgrade", "websocket"), ("connection", "keep-alive, Upgrade")],
            &[("connection", "upgrade"), ("host", "a"), ("upgrade", "websocket")],
        );
        check("POST /", &[("host", "a"), ("expect", "100-continue")], &[("host", "a")]);
        check("GET http://b/x", &[("host", "a")], &[("host", "b")]);
    }

    #[test]
    fn only_what_can_be_understood_in_one_way_goes_on() {
        for (first, headers, status) in [
            ("CONNECT a:1", &[("host", "a")][..], 405),
            ("GET /", &[], 400),
            ("GET /", &[("host", "a"), ("host", "b")], 400),
        ] {
            let refused = to_instance(&mut sent(first, headers), &name()).unwrap_err();
            assert_eq!(refused.as_u16(), status, "{first} {headers:?}");
        }
    }

    #[test]
    fn the_first_line_is_the_path_alone() {
        for (uri, expected) in [("http://b/x?y=1", "/x?y=1"), ("http://b", "/"), ("/", "/"), ("*", "*")] {
            let mut head = sent(&format!("OPTIONS {uri}"), &[("host", "a")]);
            to_instance(&mut head, &name()).unwrap();
            assert_eq!(head.uri.to_string(), expected);
        }
    }

    #[test]
    fn the_caller_is_named_last() {
        let mut head = sent("GET /", &[("host", "a"), ("x-forwarded-for", "10.0.0.1"), ("forwarded", "for=10.0.0.1")]);
        to_instance(&mut head, &name()).unwrap();
        assert_eq!(head.headers[X_FORWARDED_FOR], "10.0.0.1, 192.0.2.7");
        assert_eq!(head.headers[FORWARDED], "for=10.0.0.1, for=192.0.2.7;proto=http");
        let six = CallerName::of("2001:db8::1".parse().unwrap());
        assert_eq!(six.forwarded, "for=\"[2001:db8::1]\";proto=http");
        assert_eq!(CallerName::of("::ffff:192.0.2.7".parse().unwrap()).address, "192.0.2.7");
    }

    #[test]
    fn streams_of_events_are_known() {
        for (kind, is) in
            [("text/event-stream", true), ("Text/Event-Stream; charset=utf-8", true), ("text/html", false)]
        {
            let headers = [(CONTENT_TYPE, kind.parse().unwrap())].into_iter().collect();
            assert_eq!(is_event_stream(&headers), is, "{kind}");
        }
        assert!(!is_event_stream(&HeaderMap::new()));
    }

    proptest! {
        #[test]
        fn nothing_that_is_for_one_connection_goes_on(
            list in prop::collection::vec(
                (
                    prop::sample::select(vec!["connection", "keep-alive", "te", "upgrade", "x-a", "x-b", "transfer-encoding"]),
                    prop::sample::select(vec!["close", "x-a", "x-b, x-a", "te", "upgrade", "chunked", "trailers", ",,", "\u{7f}"]),
                ),
                0..8,
            ),
        ) {
            let mut head = sent("GET /", &[("host", "a")]);
            for (name, value) in &list {
                if let Ok(value) = HeaderValue::from_str(value) {
                    head.headers.append(HeaderName::from_static(name), value);
                }
            }
            let named = |name: &str| list.iter().any(|(n, v)| *n == "connection" && v.split(", ").any(|v| v == name));
            let upgrades = to_instance(&mut head, &name()).unwrap();
            prop_assert!(!head.headers.contains_key(TRANSFER_ENCODING) && !head.headers.contains_key(KEEP_ALIVE));
            prop_assert!(!(named("x-a") && head.headers.contains_key("x-a")));
            prop_assert!(!(named("x-b") && head.headers.contains_key("x-b")));
            prop_assert_eq!(upgrades, head.headers.contains_key(UPGRADE));
            prop_assert_eq!(head.headers.contains_key(CONNECTION), upgrades || head.headers.contains_key(TE));
        }
    }
}
