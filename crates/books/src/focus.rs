//! The books as a FOCUS 1.2 dataset: one row for each item, as CSV.
//!
//! Invariant: in every row of something that was used the unit price times the quantity is the cost, digit by digit; costs
//! are not rounded. Credits are those that were granted, and have neither unit nor price. What is
//! paid once has an effective cost of nothing, as the specification has it for purchases.

use ostler_manager::ClaimState;
use ostler_model::ids::OfferingName;
use ostler_model::time::Timestamp;
use rust_decimal::Decimal;

use crate::credits::{Owed, Part};
use crate::statement::{Item, Kind, Statement};
use ostler_model::charge::Per;

/// The columns, in their order.
pub const COLUMNS: [&str; 37] = [
    "BilledCost",
    "BillingAccountId",
    "BillingAccountName",
    "BillingCurrency",
    "BillingPeriodEnd",
    "BillingPeriodStart",
    "ChargeCategory",
    "ChargeClass",
    "ChargeDescription",
    "ChargeFrequency",
    "ChargePeriodEnd",
    "ChargePeriodStart",
    "ContractedCost",
    "ContractedUnitPrice",
    "EffectiveCost",
    "InvoiceId",
    "InvoiceIssuerName",
    "ListCost",
    "ListUnitPrice",
    "PricingCategory",
    "PricingQuantity",
    "PricingUnit",
    "ProviderName",
    "PublisherName",
    "RegionId",
    "RegionName",
    "ResourceId",
    "ResourceName",
    "ResourceType",
    "ServiceCategory",
    "ServiceName",
    "ServiceSubcategory",
    "SkuId",
    "SkuPriceId",
    "x_StatedCurrency",
    "x_StatedUnitPrice",
    "x_Service",
];

/// What was used until the statement's time, as CSV with a line of headers.
pub fn focus(statement: &Statement) -> String {
    let mut out = csv::Writer::from_writer(Vec::new());
    out.write_record(COLUMNS).expect("memory takes everything");
    for item in &statement.so_far {
        out.write_record(row(statement, item))
            .expect("memory takes everything, and rows have as many fields as columns");
    }
    for owed in statement.credits.iter().filter(|owed| owed.state == ClaimState::Paid) {
        for part in &owed.parts {
            out.write_record(credit_row(statement, owed, part))
                .expect("memory takes everything, and rows have as many fields as columns");
        }
    }
    let bytes = out.into_inner().expect("memory takes everything");
    String::from_utf8(bytes).expect("what is written is text")
}

fn row(statement: &Statement, item: &Item) -> [String; 37] {
    let cost = number(item.cost());
    let price = number(item.price);
    let provider = item.provider.as_ref().map_or("backups", |provider| provider.as_str()).to_owned();
    let (category, subcategory) = sort_of(item.kind, item.offering.as_ref());
    let sold = sold_as(item);
    let region = item.region.clone().unwrap_or_default();
    let resource = item.instance.as_ref().map(ToString::to_string).unwrap_or_default();
    let has_resource = !resource.is_empty();
    let (stated_price, stated_currency) = match &item.stated {
        Some((amount, currency)) => (number(amount.get()), currency.as_str().to_owned()),
        None => (price.clone(), statement.currency.as_str().to_owned()),
    };
    [
        cost.clone(),
        statement.estate.clone(),
        statement.estate.clone(),
        statement.currency.as_str().to_owned(),
        statement.ends.to_seconds(),
        statement.from.to_seconds(),
        if item.kind == Kind::Purchase { "Purchase" } else { "Usage" }.to_owned(),
        String::new(),
        description(item),
        if item.kind == Kind::Purchase { "One-Time" } else { "Usage-Based" }.to_owned(),
        after(item).to_seconds(),
        item.from.to_seconds(),
        cost.clone(),
        price.clone(),
        // The specification's word for what is paid before it is used: the use of it bears the cost. A fee that is paid
        // once has no end over which it could be spread, so no row does.
        if item.kind == Kind::Purchase { "0.0".to_owned() } else { cost.clone() },
        format!("{}-{}-{provider}", statement.estate, statement.month),
        provider.clone(),
        cost,
        price,
        "Standard".to_owned(),
        number(item.quantity),
        unit(item.per).to_owned(),
        provider.clone(),
        provider.clone(),
        region.clone(),
        region,
        resource.clone(),
        resource,
        if has_resource { "Instance" } else { "" }.to_owned(),
        category.to_owned(),
        sold.clone(),
        subcategory.to_owned(),
        format!("{provider}/{sold}"),
        format!("{provider}/{sold}/{stated_price} {stated_currency} {}", item.per.in_words()),
        stated_currency,
        stated_price,
        item.service.as_ref().map(ToString::to_string).unwrap_or_default(),
    ]
}

/// A credit that a provider has granted: less is billed for the month for which it is.
fn credit_row(statement: &Statement, owed: &Owed, part: &Part) -> [String; 37] {
    let cost = number(-part.amount);
    let (estate, currency) = (&statement.estate, statement.currency.as_str());
    let (provider, sold) = (owed.provider.to_string(), format!("{}/{}", part.offering, part.plan));
    let (category, subcategory) = sort_of(Kind::Instance, Some(&part.offering));
    let cells = [
        ("BilledCost", cost.clone()),
        ("BillingAccountId", estate.clone()),
        ("BillingAccountName", estate.clone()),
        ("BillingCurrency", currency.to_owned()),
        ("BillingPeriodEnd", statement.ends.to_seconds()),
        ("BillingPeriodStart", statement.from.to_seconds()),
        ("ChargeCategory", "Credit".to_owned()),
        ("ChargeDescription", format!("{} ({sold}), granted as less was available than promised", part.instance)),
        ("ChargeFrequency", "One-Time".to_owned()),
        ("ChargePeriodEnd", owed.ends.to_seconds()),
        ("ChargePeriodStart", owed.from.to_seconds()),
        ("ContractedCost", cost.clone()),
        ("EffectiveCost", cost.clone()),
        ("InvoiceId", format!("{estate}-{}-{provider}", statement.month)),
        ("InvoiceIssuerName", provider.clone()),
        ("ListCost", cost),
        ("ProviderName", provider.clone()),
        ("PublisherName", provider.clone()),
        ("ResourceId", part.instance.to_string()),
        ("ResourceName", part.instance.to_string()),
        ("ResourceType", "Instance".to_owned()),
        ("ServiceCategory", category.to_owned()),
        ("ServiceName", sold),
        ("ServiceSubcategory", subcategory.to_owned()),
        ("x_Service", part.instance.service().to_string()),
    ];
    COLUMNS.map(|column| {
        let cell = cells.iter().find(|(name, _)| *name == column);
        cell.map(|(_, text)| text.clone()).unwrap_or_default()
    })
}

/// The first whole second after it, as the end of a period is not in it; never its beginning.
fn after(item: &Item) -> Timestamp {
    const SECOND: i64 = 1_000_000;
    let from = item.from.0.div_euclid(SECOND) * SECOND;
    let until = item.until.0.saturating_add(SECOND - 1).div_euclid(SECOND) * SECOND;
    Timestamp(until.max(from + SECOND))
}

/// Always with a point: whoever guesses types from the first rows takes it for a number with decimals.
fn number(amount: Decimal) -> String {
    let text = amount.normalize().to_string();
    if text.contains('.') { text } else { format!("{text}.0") }
}

fn unit(per: Per) -> &'static str {
    match per {
        Per::Month => "Months",
        Per::Year => "Years",
        Per::Day => "Days",
        Per::Hour => "Hours",
        Per::Once => "Units",
        Per::GigabyteMonth => "GB-Months",
        Per::Gigabyte => "GB",
    }
}

fn sold_as(item: &Item) -> String {
    let plan = |name: &OfferingName| match &item.plan {
        Some(plan) => format!("{name}/{plan}"),
        None => name.to_string(),
    };
    match (item.kind, &item.offering) {
        (Kind::Machine | Kind::Unused, _) => "machine".to_owned(),
        (Kind::Backups, _) => "backups".to_owned(),
        // By a name of its own: what has one name has one category.
        (Kind::Traffic, Some(offering)) => format!("{} traffic", plan(offering)),
        (Kind::Traffic, None) => "traffic".to_owned(),
        (Kind::Instance | Kind::Purchase, Some(offering)) => plan(offering),
        (Kind::Instance | Kind::Purchase, None) => "other".to_owned(),
    }
}

fn description(item: &Item) -> String {
    let of = item.instance.as_ref().map(ToString::to_string).or(item.service.as_ref().map(ToString::to_string));
    let of = of.unwrap_or_default();
    match item.kind {
        Kind::Instance => format!("{of} ({})", sold_as(item)),
        Kind::Purchase => format!("{of} ({}), paid once", sold_as(item)),
        Kind::Machine => format!("{of}: its part of the machine"),
        Kind::Unused => "the machine, while nothing was on it".to_owned(),
        Kind::Backups => format!("backups of {of}"),
        Kind::Traffic => format!("{of} ({}): bytes through its endpoint", sold_as(item)),
    }
}

/// FOCUS's words for what an offering is, by its name.
fn sort_of(kind: Kind, offering: Option<&OfferingName>) -> (&'static str, &'static str) {
    let name = offering.map(|name| name.as_str().to_ascii_lowercase()).unwrap_or_default();
    let is = |words: &[&str]| words.iter().any(|word| name.contains(word));
    match kind {
        Kind::Backups => ("Storage", "Backup Storage"),
        // Whatever is on it: a machine is one service.
        Kind::Machine | Kind::Unused => ("Compute", "Other (Compute)"),
        Kind::Traffic => ("Networking", "Other (Networking)"),
        _ if is(&["postgres", "mysql", "mariadb", "sql"]) => ("Databases", "Relational Databases"),
        _ if is(&["redis", "valkey", "memcache", "cache"]) => ("Databases", "Caching"),
        _ if is(&["mongo", "couch", "cassandra"]) => ("Databases", "NoSQL Databases"),
        _ if is(&["rabbit", "amqp", "kafka", "nats", "queue"]) => ("Integration", "Messaging"),
        _ if is(&["program"]) => ("Compute", "Other (Compute)"),
        _ => ("Other", "Other (Other)"),
    }
}
