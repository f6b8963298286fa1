//! The catalog that buyers are shown (specification, "Catalog Management").

use ostler_manager::Knowledge;
use ostler_model::catalog::{Offering, Plan};
use ostler_model::estate::provide::Provide;
use ostler_model::estate::{Estate, Provider, ProviderKind};
use ostler_model::ids::{EstateUuid, OfferingName, PlanName, ProviderName};
use ostler_model::version::{Version, VersionRange};
use serde_json::{Map, Value, json};

use super::{names, transfers};

/// For how many seconds a platform may ask about an operation.
const POLLING_SECONDS: u64 = 3600;

/// What is sold now.
pub(super) struct Shelf {
    /// From whom it comes: this machine.
    pub(super) provider: ProviderName,
    pub(super) offers: Vec<Offer>,
    seller: String,
    region: Option<String>,
    terms: Value,
    currency: String,
}

/// An offering that is sold.
pub(super) struct Offer {
    pub(super) id: String,
    pub(super) name: OfferingName,
    pub(super) durable: bool,
    /// Its buyers can get backups of it, and bring them back.
    backup: bool,
    description: String,
    pub(super) plans: Vec<Sellable>,
}

/// A plan that is sold: one of the offering's, in one series of versions.
pub(super) struct Sellable {
    pub(super) id: String,
    /// What it is called in the catalog.
    name: String,
    /// What it is called here.
    pub(super) plan: PlanName,
    /// The newest version of its series.
    pub(super) version: Option<Version>,
    description: String,
    price: Option<String>,
}

impl Shelf {
    /// `None` while it is not known what this machine offers.
    pub(super) fn of(known: &Knowledge) -> Option<Self> {
        let estate = known.estate.as_deref()?;
        let (provide, provider) = (estate.provide.as_deref()?, seller(estate)?);
        let (catalog, uuid) = (known.catalogs.get(&provider.name)?, known.uuid?);
        let offers = catalog.offerings.values().filter(|offering| is_sold(provide, offering));
        Some(Self {
            provider: provider.name.clone(),
            offers: offers.map(|offering| Offer::of(offering, provide, uuid)).collect(),
            seller: estate.name.to_string(),
            region: provider.region.clone(),
            terms: serde_json::to_value(&provider.terms).unwrap_or_default(),
            currency: estate.currency.as_str().to_ascii_lowercase(),
        })
    }

    /// The offering and the plan with these ids.
    pub(super) fn find(&self, offering: &str, plan: &str) -> Option<(&Offer, &Sellable)> {
        let offer = self.offers.iter().find(|offer| offer.id == offering)?;
        Some((offer, offer.plans.iter().find(|sellable| sellable.id == plan)?))
    }

    /// As the specification has it.
    pub(super) fn to_json(&self) -> Value {
        json!({ "services": self.offers.iter().map(|offer| self.offer_to_json(offer)).collect::<Vec<_>>() })
    }

    fn offer_to_json(&self, offer: &Offer) -> Value {
        let mut hints = Map::from_iter([("durable".to_owned(), offer.durable.into())]);
        hints.extend(self.region.iter().map(|region| ("region".to_owned(), region.as_str().into())));
        let action =
            || json!({ "path": transfers::PATH, "format": offer.name, "content_type": transfers::CONTENT_TYPE });
        hints.extend(offer.backup.then(|| ("backup".to_owned(), action())));
        hints.extend((!self.terms.is_null()).then(|| ("terms".to_owned(), self.terms.clone())));
        json!({
            "id": offer.id,
            "name": offer.name,
            "description": offer.description,
            "bindable": true,
            "instances_retrievable": true,
            "bindings_retrievable": true,
            "allow_context_updates": true,
            // What does not keep its data over a restart would lose it by being changed.
            "plan_updateable": offer.durable && offer.plans.len() > 1,
            "metadata": { "displayName": offer.name, "providerDisplayName": self.seller, "ostler": hints },
            "plans": offer.plans.iter().map(|plan| self.plan_to_json(plan)).collect::<Vec<_>>(),
        })
    }

    fn plan_to_json(&self, plan: &Sellable) -> Value {
        let mut metadata = json!({ "displayName": plan.name, "bullets": [plan.description] });
        // A price has at most 15 digits, which a binary fraction holds as they are.
        let amount = plan.price.as_ref().and_then(|price| price.parse::<f64>().ok());
        if let Some(amount) = amount {
            metadata["costs"] = json!([{ "amount": { self.currency.as_str(): amount }, "unit": "MONTHLY" }]);
        }
        let mut shown = json!({
            "id": plan.id,
            "name": plan.name,
            "description": plan.description,
            "free": amount.is_none(),
            "binding_rotatable": true,
            "maximum_polling_duration": POLLING_SECONDS,
            "schemas": {
                "service_instance": { "create": nothing(), "update": nothing() },
                "service_binding": { "create": nothing() },
            },
        });
        if let Some(version) = &plan.version {
            metadata["ostler"] = json!({ "version": version });
            let description = "the server is stopped and started again: callers wait for some seconds";
            shown["maintenance_info"] = json!({ "version": semantic(version), "description": description });
        }
        shown["metadata"] = metadata;
        shown
    }
}

impl Offer {
    fn of(offering: &Offering, provide: &Provide, uuid: EstateUuid) -> Self {
        let series = series(&offering.versions);
        let sellable = |plan: &Plan, version: Option<&Version>| {
            // Where there is only one series, it stays the same plan whatever that is.
            let name = match version.filter(|_| series.len() > 1) {
                Some(version) => format!("{}-{}", plan.name, version.major()),
                None => plan.name.to_string(),
            };
            let major = version.map_or_else(String::new, |version| version.major().to_string());
            Sellable {
                id: names::plan_id(uuid, &offering.name, &format!("{}/{major}", plan.name)),
                name,
                plan: plan.name.clone(),
                version: version.cloned(),
                description: plan.description.clone(),
                price: provide.prices.get(&offering.name).and_then(|prices| prices.get(&plan.name)).cloned(),
            }
        };
        let plans = offering.plans.iter().filter(|plan| !plan.withdrawn);
        let plans = plans.flat_map(|plan| {
            let none = series.is_empty().then_some(None);
            let each = series.iter().rev().map(|version| Some(*version));
            none.into_iter().chain(each).map(|version| sellable(plan, version)).collect::<Vec<_>>()
        });
        Self {
            id: names::offering_id(uuid, &offering.name),
            name: offering.name.clone(),
            durable: offering.durable,
            backup: offering.actions.backup,
            description: offering.description.clone(),
            plans: plans.collect(),
        }
    }
}

impl Sellable {
    /// The versions that it may be: those of its series, not older than what the catalog shows if that was asked for.
    pub(super) fn range(&self, at_least_shown: bool) -> VersionRange {
        let Some(version) = &self.version else { return VersionRange::any() };
        let major = version.major();
        let from = if at_least_shown { semantic(version) } else { major.to_string() };
        format!(">={from}, <{}", major + 1).parse().expect("two comparisons of versions are a range")
    }

    /// What `maintenance_info` says of it.
    pub(super) fn maintenance(&self) -> Option<String> {
        self.version.as_ref().map(semantic)
    }
}

/// This machine, as a provider of the estate.
fn seller(estate: &Estate) -> Option<&Provider> {
    estate.providers.values().find(|provider| matches!(provider.kind, ProviderKind::Host(_)))
}

/// Only what brings its own program can be sold, and only what can be used from elsewhere.
fn is_sold(provide: &Provide, offering: &Offering) -> bool {
    let is_wanted = provide.offer.is_empty() || provide.offer.contains(&offering.name);
    is_wanted && offering.bindable && !offering.runs_program && !offering.withdrawn && !offering.actions.unrepeatable
}

/// The newest version of each major one, in order.
fn series(versions: &[Version]) -> Vec<&Version> {
    let mut series: Vec<&Version> = versions.iter().collect();
    series.sort();
    let mut newest: Vec<&Version> = Vec::new();
    for version in series {
        match newest.last_mut() {
            Some(last) if last.major() == version.major() => *last = version,
            _ => newest.push(version),
        }
    }
    newest
}

/// A version as `maintenance_info` has to have it: three numbers (semantic versioning 2.0).
pub(super) fn semantic(version: &Version) -> String {
    let text = version.to_string();
    let numbers = text.split(['-', '+']).next().unwrap_or_default();
    let missing = 3_usize.saturating_sub(numbers.split('.').count());
    format!("{numbers}{}{}", ".0".repeat(missing), &text[numbers.len()..])
}

/// The schema of parameters where there are none.
fn nothing() -> Value {
    json!({ "parameters": {
        "$schema": "http://json-schema.org/draft-04/schema#",
        "type": "object",
        "properties": {},
        "additionalProperties": false,
    } })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_become_semantic_ones() {
        for (version, expected) in
            [("15.18", "15.18.0"), ("7.0.15", "7.0.15"), ("16", "16.0.0"), ("8.0-rc1", "8.0.0-rc1")]
        {
            assert_eq!(semantic(&version.parse().unwrap()), expected);
        }
    }

    #[test]
    fn each_series_is_sold_in_its_newest_version() {
        let versions = ["15.2", "16.4", "15.18", "17.0"].map(|version| version.parse::<Version>().unwrap());
        let newest: Vec<String> = series(&versions).into_iter().map(ToString::to_string).collect();
        assert_eq!(newest, ["15.18", "16.4", "17.0"]);
    }
}
