//! `[provide]`: what this estate sells to others.

use std::collections::BTreeMap;
use std::path::Path;

use super::reader::{Key, Reader, Value, parse_name};
use super::{osb, values};
use crate::diagnostics::shown;
use crate::estate::osb::SecretSource;
use crate::estate::provide::{PortRange, Provide, ProvideTls, SOLD_MAX};
use crate::ids::{OfferingName, PlanName};
use crate::time::Span;

const PROVIDE: &[Key] = &[
    ("listen", r#"listen = "127.0.0.1:8410""#),
    ("tls", r#"tls = { certificate = "./broker.pem", key = "./broker.key" }"#),
    ("plaintext", "plaintext = true"),
    ("buyer", r#"buyer = { bookshop = { password = { file = "./bookshop-password" } } }"#),
    ("offer", r#"offer = ["postgresql"]"#),
    ("endpoints", r#"endpoints = "127.0.0.1:8420-8439""#),
    ("at_most", "at_most = 100"),
    ("bindings_last", r#"bindings_last = "720h""#),
    ("price", r#"price = { postgresql = { standard = "9.00" } }"#),
];
const BUYER: &[Key] = &[("password", r#"password = { file = "./bookshop-password" }"#)];
const TLS: &[Key] = &[("certificate", r#"certificate = "./broker.pem""#), ("key", r#"key = "./broker.key""#)];
/// The longest user name, in bytes.
const USERNAME_MAX: usize = 64;
/// So many instances if nothing is said.
const AT_MOST: u32 = 100;

pub(super) fn read(reader: &mut Reader<'_>, folder: &Path, value: Value<'_>) -> Option<Provide> {
    let fields = value.fields(reader, "provide", PROVIDE)?;
    let plaintext = fields.optional("plaintext").and_then(|value| value.boolean(reader)).unwrap_or_default();
    let tls = fields.optional("tls").map(|value| {
        let fields = value.fields(reader, "provide.tls", TLS)?;
        let mut path =
            |key| fields.required(reader, key).and_then(|value| value.some_text(reader)).map(|p| folder.join(p));
        let (certificate, key) = (path("certificate"), path("key"));
        Some(ProvideTls { certificate: certificate?, key: key? })
    });
    let listen = fields.required(reader, "listen").and_then(|value| {
        let listen = values::read_endpoint(reader, value)?;
        if !listen.ip().is_loopback() && tls.is_none() && !plaintext {
            let remedy = "add `tls = { certificate = \"…\", key = \"…\" }`; \
                          or write `plaintext = true`, where nobody else can listen on the way here";
            reader.report(value.span(), "passwords would go over the network as they are", remedy);
            return None;
        }
        Some(listen)
    });
    let buyers = fields.required(reader, "buyer").and_then(|value| read_buyers(reader, folder, value));
    let offer = fields.optional("offer").and_then(|value| value.some_list(reader)).unwrap_or_default();
    let offer = offer.into_iter().filter_map(|entry| entry.name::<OfferingName>(reader)).collect();
    let endpoints = fields.optional("endpoints").and_then(|value| {
        let range = PortRange::parse(value.text(reader)?);
        if range.is_none() {
            value.reject(reader, "`endpoints` is not an IP address with a first and a last port");
        }
        if range.is_some_and(|range| range.ip.is_unspecified()) {
            value.reject(reader, "`endpoints` is no address that a buyer could connect to");
            return None;
        }
        range
    });
    let at_most = fields
        .optional("at_most")
        .and_then(|value| value.integer(reader, 1..=u64::from(SOLD_MAX)))
        .and_then(|number| u32::try_from(number).ok());
    let last = |value: Value<'_>| value.span_of_time(reader, Span::seconds(10)..=Span::seconds(10 * 366 * 86_400));
    let bindings_last = fields.optional("bindings_last").and_then(last);
    let prices = fields.optional("price").map(|value| read_prices(reader, value)).unwrap_or_default();
    let tls = match tls {
        Some(tls) => Some(tls?),
        None => None,
    };
    Some(Provide {
        listen: listen?,
        tls,
        buyers: buyers?,
        offer,
        endpoints,
        at_most: at_most.unwrap_or(AT_MOST),
        bindings_last,
        prices,
    })
}

fn read_buyers(reader: &mut Reader<'_>, folder: &Path, value: Value<'_>) -> Option<BTreeMap<String, SecretSource>> {
    let mut buyers = BTreeMap::new();
    let table = value.table(reader)?;
    if table.is_empty() {
        value.reject(reader, "nobody may buy");
        return None;
    }
    for (name, buyer) in table.iter() {
        let (span, name) = (name.span(), name.get_ref());
        if name.is_empty() || name.len() > USERNAME_MAX || name.contains(':') || name.chars().any(char::is_control) {
            let cause = format!("`{}` is not a user name", shown(name));
            reader.report(span, cause, format!("use 1 to {USERNAME_MAX} bytes without a colon"));
            continue;
        }
        let what = format!("provide.buyer.{name}");
        let Some(fields) = Value::new(name, BUYER_EXAMPLE, buyer).fields(reader, what.clone(), BUYER) else { continue };
        let password = fields.required(reader, "password");
        let source = password.and_then(|value| osb::read_source(reader, folder, format!("{what}.password"), value));
        if let Some(source) = source {
            buyers.insert(name.to_string(), source);
        }
    }
    Some(buyers)
}

const BUYER_EXAMPLE: &str = "[provide.buyer.bookshop]";

fn read_prices(reader: &mut Reader<'_>, value: Value<'_>) -> BTreeMap<OfferingName, BTreeMap<PlanName, String>> {
    const EXAMPLE: &str = r#"price = { postgresql = { standard = "9.00" } }"#;
    let mut prices: BTreeMap<OfferingName, BTreeMap<PlanName, String>> = BTreeMap::new();
    for (offering, plans) in value.table(reader).into_iter().flat_map(|table| table.iter()) {
        let plans = Value::new(offering.get_ref(), EXAMPLE, plans);
        let Some(offering) = parse_name::<OfferingName>(reader, offering.span(), offering.get_ref()) else { continue };
        for (plan, price) in plans.table(reader).into_iter().flat_map(|table| table.iter()) {
            let price = Value::new(plan.get_ref(), EXAMPLE, price);
            let plan = parse_name::<PlanName>(reader, plan.span(), plan.get_ref());
            let Some(text) = price.text(reader) else { continue };
            if !is_amount(text) {
                price.reject(reader, format!("`{}` is not an amount of money", shown(text)));
            } else if let Some(plan) = plan {
                prices.entry(offering.clone()).or_default().insert(plan, text.to_owned());
            }
        }
    }
    prices
}

/// A decimal number without a sign, in digits that everybody reads in the same way: so few that they are the same for
/// buyers whose JSON makes a binary fraction of them (which holds 15).
fn is_amount(text: &str) -> bool {
    let digits = |part: &str, most| !part.is_empty() && part.len() <= most && part.bytes().all(|b| b.is_ascii_digit());
    match text.split_once('.') {
        Some((whole, part)) => digits(whole, 11) && digits(part, 4),
        None => digits(text, 11),
    }
}
