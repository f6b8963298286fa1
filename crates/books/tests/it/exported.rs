//! The FOCUS dataset: its columns and values, by the specification's rules.

use std::collections::BTreeMap;

use ostler_books::{COLUMNS, focus};
use ostler_manager::FactKind;
use rust_decimal::Decimal;

use crate::statement;
use crate::town::{Town, at, estate};

/// FOCUS 1.2: columns that must always be there.
const MANDATORY: [&str; 21] = [
    "BilledCost",
    "BillingAccountId",
    "BillingAccountName",
    "BillingCurrency",
    "BillingPeriodEnd",
    "BillingPeriodStart",
    "ChargeCategory",
    "ChargeClass",
    "ChargeDescription",
    "ChargePeriodEnd",
    "ChargePeriodStart",
    "ContractedCost",
    "EffectiveCost",
    "InvoiceIssuerName",
    "ListCost",
    "PricingQuantity",
    "PricingUnit",
    "ProviderName",
    "PublisherName",
    "ServiceCategory",
    "ServiceName",
];
/// Columns that may be empty.
const MAY_BE_EMPTY: [&str; 7] =
    ["ChargeClass", "RegionId", "RegionName", "ResourceId", "ResourceName", "ResourceType", "x_Service"];

/// A month with an item of every kind.
pub(crate) fn month() -> Town {
    let rest = "[provider.here.cost]\npurchase = 2400\nyears = 4\n[backups]\ngb_month = \"0.021\"\n\
                [service.db]\noffering = \"postgresql\"\n[service.web]\noffering = \"postgresql\"\nneeds = [\"db\"]\n\
                [service.own]\noffering = \"program\"\nrun = [\"./own\"]";
    let mut town = Town::default();
    town.declare("2026-11-01T00:00:00Z", &estate("rates = { USD = \"0.92\" }", rest));
    town.list(
        "2026-11-01T00:00:00Z",
        &[("small", &[("19.99", "USD", "MONTHLY"), ("25", "EUR", "setup"), ("0.09", "EUR", "GB")])],
    );
    town.buy(at("2026-11-03T07:08:09.123456Z"), "db", "acme", "small");
    town.buy(at("2026-11-07T10:00:00Z"), "web", "here", "standard");
    town.buy_as(at("2026-11-08T10:00:00Z"), "own", ("here", "program", "standard"));
    town.back_up("2026-11-10T01:00:00.5Z", "db", "one", 12_345_678_901);
    let kind = FactKind::TrafficCounted {
        service: "db".parse().unwrap(),
        since: at("2026-11-03T07:10:00Z"),
        bytes_in: 1_234_567_891,
        bytes_out: 23_456_789_012,
    };
    town.tell(at("2026-11-12T08:00:00Z"), kind);
    town
}

#[test]
fn columns_and_values_are_as_the_specification_says() {
    let text = focus(&statement(&month(), "2026-11", "2026-11-20T12:00:00.25Z"));
    let mut reader = csv::Reader::from_reader(text.as_bytes());
    let headers: Vec<String> = reader.headers().unwrap().iter().map(str::to_owned).collect();
    assert_eq!(headers, COLUMNS);
    assert!(MANDATORY.iter().all(|column| headers.iter().any(|header| header == column)));
    let rows: Vec<BTreeMap<String, String>> = reader.deserialize().map(Result::unwrap).collect();
    assert!(rows.len() >= 4, "{text}");
    for row in &rows {
        let number = |column: &str| row[column].parse::<Decimal>().unwrap_or_else(|_| panic!("{column} of {row:?}"));
        for (column, value) in row {
            assert!(!value.is_empty() || MAY_BE_EMPTY.contains(&column.as_str()), "{column} is empty in {row:?}");
        }
        let one_of =
            |column: &str, allowed: &[&str]| assert!(allowed.contains(&row[column].as_str()), "{column}: {row:?}");
        one_of("ChargeCategory", &["Usage", "Purchase", "Tax", "Credit", "Adjustment"]);
        one_of("ChargeClass", &["", "Correction"]);
        one_of("ChargeFrequency", &["One-Time", "Recurring", "Usage-Based"]);
        one_of("PricingCategory", &["Standard", "Committed", "Dynamic", "Other"]);
        one_of("BillingCurrency", &["EUR"]);
        for column in ["ListUnitPrice", "ContractedUnitPrice"] {
            assert_eq!((number(column) * number("PricingQuantity")).normalize(), number("ListCost").normalize());
        }
        for column in ["BilledCost", "ContractedCost"] {
            assert_eq!(row[column], row["ListCost"]);
        }
        let effective = if row["ChargeCategory"] == "Purchase" { "0.0" } else { row["ListCost"].as_str() };
        assert_eq!(row["EffectiveCost"], effective);
        assert!(row["PricingQuantity"].contains('.'));
        let [from, until, begins, ends] =
            ["ChargePeriodStart", "ChargePeriodEnd", "BillingPeriodStart", "BillingPeriodEnd"]
                .map(|name| at(&row[name]));
        assert!(begins <= from && from < until && until <= ends, "{row:?}");
    }
}

#[test]
fn the_dataset_of_a_month() {
    insta::assert_snapshot!("dataset", focus(&statement(&month(), "2026-11", "2026-11-20T12:00:00.25Z")));
}
