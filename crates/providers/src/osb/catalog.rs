//! A broker's catalog, in ostler's own terms.
//!
//! What cannot be understood is left out and told, entry by entry: one bad plan does not take the others with it.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use ostler_model::catalog::{
    ACCEPTS_MAX, Accepts, Actions, Catalog, Cost, Limits, Maintenance, Offering, Plan, Price, ProbePolicy,
};
use ostler_model::estate::Check;
use ostler_model::ids::{OfferingName, PlanName};
use ostler_model::time::Span;
use ostler_model::version::{Version, VersionRange};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::backup::BackupAction;
use super::costs;
use super::verdict::{Object, short, text};

/// The most plans of one catalog, and entries that are told to be wrong.
const PLANS_MAX: usize = 10_000;
const PROBLEMS_MAX: usize = 20;
/// The largest schema (specification, "Schema Object").
const SCHEMA_BYTES_MAX: usize = 64 * 1024;
/// So many tags of an offering are looked at, each up to so long.
const WORDS_MAX: usize = 100;
const WORD_BYTES_MAX: usize = 64;
/// The longest range of versions that is looked at.
const RANGE_BYTES_MAX: usize = 256;
/// How long after its credentials were made an instance may take to answer.
const START_WITHIN: Span = Span::seconds(300);

/// By which version a plan gives, where the catalog does not say.
pub(crate) type Versions = BTreeMap<OfferingName, BTreeMap<PlanName, Version>>;

/// What ostler has to know to deal with instances of one plan. It is stored with everything that is bought, as the
/// plan's handle, because a catalog can lose entries whose instances exist.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Terms {
    /// The service offering's id, and the plan's.
    pub(crate) service: String,
    pub(crate) plan: String,
    /// Instances can be fetched.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(crate) instances_retrievable: bool,
    /// So can bindings.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(crate) bindings_retrievable: bool,
    pub(crate) bindable: bool,
    /// A binding can be followed by another of the same instance.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(crate) rotatable: bool,
    /// An instance can be changed to another plan.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(crate) updateable: bool,
    /// It wants to hear when the context changes in which an instance is used.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(crate) hears_context: bool,
    /// For how many seconds an operation may be asked about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) polling_seconds: Option<u64>,
    /// What is kept up to date: which version a new instance is to be made with.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) maintenance: Option<String>,
    /// How the broker itself gives out backups and takes them in, if it does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) backup: Option<BackupAction>,
}

impl Terms {
    /// As the handle of a plan.
    pub(crate) fn to_handle(&self) -> String {
        serde_json::to_string(self).expect("it has only string keys")
    }

    /// From the handle of a plan.
    pub(crate) fn from_handle(handle: &str) -> Option<Self> {
        serde_json::from_str(handle).ok()
    }

    /// For how long an operation may be asked about.
    pub(crate) fn polling(&self) -> Option<Duration> {
        self.polling_seconds.map(Duration::from_secs)
    }
}

/// The schemas that parameters have to fit.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Schemas {
    pub(crate) create: Option<Value>,
    pub(crate) update: Option<Value>,
}

/// What was read.
#[derive(Clone, Debug, Default)]
pub(crate) struct Read {
    pub(crate) catalog: Catalog,
    /// By service id and plan id.
    pub(crate) plans: BTreeMap<(String, String), (Terms, Schemas)>,
    /// By which words each offering says what it is, what it says to ostler alone first.
    pub(crate) words: BTreeMap<OfferingName, Vec<String>>,
    /// In whose format the broker itself gives out backups of each offering of which it does.
    pub(crate) backups: BTreeMap<OfferingName, OfferingName>,
    /// What was left out, and why.
    pub(crate) problems: Vec<String>,
}

/// Reads a catalog.
///
/// # Errors
/// If it is none at all.
pub(crate) fn read(object: &Object, versions: &Versions) -> Result<Read, String> {
    let services = object.get("services").and_then(Value::as_array).ok_or("it has no list of `services`")?;
    let mut read = Read::default();
    let mut plans_left = PLANS_MAX;
    let mut ids = BTreeSet::new();
    for service in services {
        let Some(service) = service.as_object() else {
            read.leave_out("a service is no object".to_owned());
            continue;
        };
        if let Err(why) = read_service(service, versions, &mut read, &mut ids, &mut plans_left) {
            let name = text(service, "name").unwrap_or_else(|| "without a name".to_owned());
            read.leave_out(format!("the service `{name}` {why}"));
        }
    }
    Ok(read)
}

impl Read {
    fn leave_out(&mut self, problem: String) {
        if self.problems.len() < PROBLEMS_MAX {
            self.problems.push(problem);
        }
    }
}

fn read_service(
    service: &Object,
    versions: &Versions,
    read: &mut Read,
    ids: &mut BTreeSet<String>,
    plans_left: &mut usize,
) -> Result<(), String> {
    let id = required(service, "id")?;
    if !ids.insert(id.clone()) {
        return Err("has an id that another one has".to_owned());
    }
    let taken = |name: &OfferingName| read.catalog.offerings.contains_key(name);
    let name: OfferingName = label(&required(service, "name")?, taken).ok_or("has a name without a letter")?;
    let entries = service.get("plans").and_then(Value::as_array).ok_or("has no list of `plans`")?;
    let flag = |key: &str| service.get(key).and_then(Value::as_bool).unwrap_or_default();
    let mut plans: Vec<Plan> = Vec::new();
    let mut problems = Vec::new();
    let backup = match hint(service, "backup").map(BackupAction::read) {
        Some(Err(why)) => {
            problems.push(format!("has a `backup` {why}"));
            None
        }
        action => action.and_then(Result::ok),
    };
    for entry in entries {
        let Some(object) = entry.as_object() else {
            problems.push("has a plan that is no object".to_owned());
            continue;
        };
        if *plans_left == 0 {
            problems.push(format!("has plans beyond the {PLANS_MAX} that are read"));
            break;
        }
        *plans_left -= 1;
        let taken = |name: &PlanName| plans.iter().any(|plan| plan.name == *name);
        match read_plan(object, &id, service, taken) {
            Ok((mut plan, mut terms, schemas)) => {
                terms.backup = backup.clone();
                plan.handle = Some(terms.to_handle());
                let said = versions.get(&name).and_then(|plans| plans.get(&plan.name)).cloned();
                plan.version = said.or_else(|| version_in(object)).or_else(|| version_in(service));
                read.plans.insert((terms.service.clone(), terms.plan.clone()), (terms, schemas));
                plans.push(plan);
            }
            Err(why) => problems.push(format!("has a plan that {why}")),
        }
    }
    for problem in problems {
        read.leave_out(format!("the service `{name}` {problem}"));
    }
    if plans.is_empty() {
        return Err("has no plan that could be understood".to_owned());
    }
    let bindable = flag("bindable");
    let (accepts, problems) = accepts(service);
    for problem in problems {
        read.leave_out(format!("the service `{name}` {problem}"));
    }
    let versions: BTreeSet<Version> = plans.iter().filter_map(|plan| plan.version.clone()).collect();
    let offering = Offering {
        description: text(service, "description").unwrap_or_default(),
        versions: versions.into_iter().collect(),
        series: 1,
        plans,
        runs_program: false,
        bindable,
        durable: hint(service, "durable").and_then(Value::as_bool).unwrap_or(true),
        instances_max: None,
        actions: Actions {
            start_stop: false,
            backup: false,
            prove: false,
            unrepeatable: true,
            rebind: false,
            hears_context: flag("allow_context_updates"),
        },
        probe: ProbePolicy {
            ready: Check::Scheme,
            deep: None,
            // So that one that is dead is noticed within 5 s, whether it refuses or says nothing.
            every: Span::seconds(2),
            timeout: Span::millis(1200),
            start_within: START_WITHIN,
        },
        stop_grace: Span::seconds(10),
        withdrawn: false,
        accepts,
        name: name.clone(),
    };
    read.words.insert(name.clone(), words(service, &name));
    read.backups.extend(backup.map(|action| (name.clone(), action.format)));
    read.catalog.offerings.insert(name, offering);
    Ok(())
}

/// Which versions of other offerings it says that it works with, and what of that cannot be understood.
fn accepts(service: &Object) -> (Vec<Accepts>, Vec<String>) {
    let Some(said) = hint(service, "accepts") else { return (Vec::new(), Vec::new()) };
    let Some(entries) = said.as_array() else {
        return (Vec::new(), vec!["has `accepts` that are no list".to_owned()]);
    };
    let mut problems = Vec::new();
    if entries.len() > ACCEPTS_MAX {
        problems.push(format!("has `accepts` beyond the {ACCEPTS_MAX} that are read"));
    }
    let text = |entry: &Value, key: &str| {
        entry.get(key).and_then(Value::as_str).filter(|text| text.len() <= RANGE_BYTES_MAX).map(str::to_owned)
    };
    let read = |entry: &Value| {
        let versions = match entry.get("versions") {
            None | Some(Value::Null) => VersionRange::any(),
            Some(_) => text(entry, "versions")?.parse().ok()?,
        };
        // The name as this catalog's offerings get it, so that it can be named as its broker does.
        let offering = label(&text(entry, "offering")?, |_: &OfferingName| false)?;
        Some(Accepts { versions, offering, range: text(entry, "range")?.parse().ok()? })
    };
    let mut accepts = Vec::new();
    for (number, entry) in (1..).zip(entries.iter().take(ACCEPTS_MAX)) {
        match read(entry) {
            Some(entry) => accepts.push(entry),
            None => {
                problems.push(format!("has `accepts` whose entry {number} names no offering and range of versions"))
            }
        }
    }
    (accepts, problems)
}

fn words(service: &Object, name: &OfferingName) -> Vec<String> {
    let said = hint(service, "kind").and_then(Value::as_str);
    let tags = service.get("tags").and_then(Value::as_array);
    let tags = tags.into_iter().flatten().take(WORDS_MAX).filter_map(Value::as_str);
    let words = said.into_iter().chain([name.as_str()]).chain(tags);
    words.filter(|word| word.len() <= WORD_BYTES_MAX).map(str::to_ascii_lowercase).collect()
}

fn read_plan(
    plan: &Object,
    service_id: &str,
    service: &Object,
    taken: impl Fn(&PlanName) -> bool,
) -> Result<(Plan, Terms, Schemas), String> {
    let id = required(plan, "id")?;
    let name = label(&required(plan, "name")?, taken).ok_or("has a name without a letter")?;
    let flag = |key: &str| plan.get(key).and_then(Value::as_bool);
    let of_service = |key: &str| service.get(key).and_then(Value::as_bool).unwrap_or_default();
    let maintenance = plan.get("maintenance_info").and_then(Value::as_object);
    let maintenance = maintenance.and_then(|info| {
        Some(Maintenance { version: info.get("version")?.as_str()?.to_owned(), description: text(info, "description") })
    });
    let terms = Terms {
        service: service_id.to_owned(),
        plan: id,
        instances_retrievable: of_service("instances_retrievable"),
        bindings_retrievable: of_service("bindings_retrievable"),
        bindable: flag("bindable").unwrap_or_else(|| of_service("bindable")),
        rotatable: flag("binding_rotatable").unwrap_or_default(),
        // The misspelling is the specification's.
        updateable: flag("plan_updateable").unwrap_or_else(|| of_service("plan_updateable")),
        hears_context: of_service("allow_context_updates"),
        polling_seconds: plan.get("maximum_polling_duration").and_then(Value::as_u64),
        maintenance: maintenance.as_ref().map(|maintenance| maintenance.version.clone()),
        backup: None, // the same for all plans, and said by their offering
    };
    let schema = |of: &str| {
        let schema = plan.get("schemas")?.get("service_instance")?.get(of)?.get("parameters")?;
        (schema.to_string().len() <= SCHEMA_BYTES_MAX).then(|| schema.clone())
    };
    let schemas = Schemas { create: schema("create"), update: schema("update") };
    let free = flag("free").unwrap_or(true);
    let costs = costs::read(plan);
    let plan = Plan {
        name,
        description: text(plan, "description").unwrap_or_default(),
        limits: Limits::default(),
        free: free && costs.is_empty(),
        price: price(&costs),
        costs,
        version: None,
        maintenance,
        handle: Some(terms.to_handle()),
        withdrawn: false,
    };
    Ok((plan, terms, schemas))
}

/// What a plan costs, if it says so in one figure. The profile's `costs` may hold several, which all apply.
fn price(costs: &[Cost]) -> Option<Price> {
    let mut stated = costs.iter().filter_map(|cost| {
        let (currency, amount) = cost.amounts.iter().next().filter(|_| cost.amounts.len() == 1)?;
        let per = match cost.per.to_ascii_lowercase().as_str() {
            "monthly" | "month" | "per month" => "month".to_owned(),
            "hourly" | "hour" | "per hour" => "hour".to_owned(),
            _ => short(&cost.per, 40),
        };
        Some(Price { amount: amount.to_string(), currency: currency.clone(), per })
    });
    let first = stated.next()?;
    stated.next().is_none().then_some(first)
}

/// What a catalog says to ostler alone: `metadata.ostler`.
fn hint<'a>(object: &'a Object, key: &str) -> Option<&'a Value> {
    object.get("metadata")?.get("ostler")?.get(key)
}

fn version_in(object: &Object) -> Option<Version> {
    let version = hint(object, "version").or_else(|| object.get("metadata")?.get("version"))?;
    version.as_str()?.parse().ok()
}

fn required(object: &Object, key: &str) -> Result<String, String> {
    match object.get(key).and_then(Value::as_str) {
        Some(text) if !text.is_empty() && text.len() <= 1024 => Ok(text.to_owned()),
        Some(_) => Err(format!("has an empty or endless `{key}`")),
        None => Err(format!("has no `{key}`")),
    }
}

/// A foreign name as one of ostler's: `Postgres 15 (small)` is `postgres-15-small`. Of two that would be the same the
/// later one gets a number.
fn label<T: std::str::FromStr>(name: &str, taken: impl Fn(&T) -> bool) -> Option<T> {
    let mut label = String::new();
    for c in name.chars() {
        if c.is_ascii_alphanumeric() {
            label.push(c.to_ascii_lowercase());
        } else if !label.is_empty() && !label.ends_with('-') {
            label.push('-');
        }
    }
    if label.starts_with(|c: char| c.is_ascii_digit()) {
        label.insert_str(0, "n-");
    }
    label.truncate(56); // with room for a number
    let label = label.trim_end_matches('-');
    (1..=1000).find_map(|number| {
        let name = if number == 1 { label.to_owned() } else { format!("{label}-{number}") };
        name.parse::<T>().ok().filter(|name| !taken(name))
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn catalog(value: Value) -> Read {
        let Value::Object(object) = value else { panic!("an object") };
        read(&object, &Versions::new()).unwrap()
    }

    #[test]
    fn names_become_labels() {
        let none = |_: &PlanName| false;
        for (name, expected) in [
            ("small", "small"),
            ("Postgres 15 (Small)", "postgres-15-small"),
            ("p.mysql", "p-mysql"),
            ("10GB", "n-10gb"),
            ("--x--", "x"),
            (&"a".repeat(300), &"a".repeat(56)),
        ] {
            assert_eq!(label::<PlanName>(name, none).unwrap().as_str(), expected);
        }
        assert_eq!(label::<PlanName>("小", none), None);
        let taken = |name: &PlanName| name.as_str() == "small";
        assert_eq!(label::<PlanName>("SMALL", taken).unwrap().as_str(), "small-2");
    }

    #[test]
    fn a_catalog_is_read_as_far_as_it_can_be_understood() {
        let read = catalog(json!({"services": [
            {"id": "s1", "name": "PostgreSQL", "description": "A\ndatabase", "bindable": true, "extra": {},
             "instances_retrievable": true, "plan_updateable": true, "metadata": {"ostler": {"version": "16.2"}},
             "plans": [
                {"id": "p1", "name": "small", "description": "Small.", "binding_rotatable": true,
                 "maximum_polling_duration": 600, "maintenance_info": {"version": "1.2.3+a", "description": "Restarts."},
                 "metadata": {"costs": [{"amount": {"eur": 12.5}, "unit": "MONTHLY"}]}},
                {"id": "p2", "name": "large", "description": "Large.", "bindable": false, "free": false,
                 "plan_updateable": false, "metadata": {"ostler": {"version": "17"}, "costs": [
                    {"amount": {"usd": 99.0}, "unit": "MONTHLY"}, {"amount": {"usd": 0.99}, "unit": "1GB over 20GB"}]}},
                {"name": "no id"}, 7,
             ]},
            {"id": "s1", "name": "again", "plans": []}, {"id": "s2", "name": "none", "bindable": true, "plans": []}, 5,
        ]}));
        let offering = &read.catalog.offerings[&"postgresql".parse().unwrap()];
        assert_eq!((offering.description.as_str(), offering.plans.len()), ("A database", 2));
        let versions: Vec<String> = offering.versions.iter().map(ToString::to_string).collect();
        assert_eq!(versions, ["16.2", "17"]);
        let small = &offering.plans[0];
        let price = small.price.as_ref().unwrap();
        assert_eq!((price.amount.as_str(), price.currency.as_str(), price.per.as_str()), ("12.5", "EUR", "month"));
        let terms = Terms::from_handle(small.handle.as_ref().unwrap()).unwrap();
        assert!(terms.instances_retrievable && terms.rotatable && terms.bindable && terms.updateable);
        assert_eq!((terms.polling(), terms.maintenance.as_deref()), (Some(Duration::from_secs(600)), Some("1.2.3+a")));
        let large = &read.plans[&("s1".to_owned(), "p2".to_owned())].0;
        assert!(!large.bindable && !large.updateable);
        assert_eq!(offering.plans[1].price, None, "two figures that both apply are not one price");
        assert_eq!(offering.plans[1].costs.len(), 2);
        assert_eq!(
            read.problems,
            [
                "the service `postgresql` has a plan that has no `id`",
                "the service `postgresql` has a plan that is no object",
                "the service `again` has an id that another one has",
                "the service `none` has no plan that could be understood",
                "a service is no object",
            ]
        );
    }

    #[test]
    fn what_it_works_with_is_read_as_far_as_it_can_be_understood() {
        let plans = json!([{"id": "p", "name": "small", "description": "x"}]);
        let service = |accepts: Value| {
            catalog(json!({"services": [{"id": "s", "name": "shop", "description": "x", "bindable": true,
                "plans": plans, "metadata": {"ostler": {"accepts": accepts}}}]}))
        };
        let read = service(json!([
            {"versions": ">=3", "offering": "PostgreSQL", "range": ">=15, <18"},
            {"offering": "redis", "range": "7"},
            {"offering": "redis"},
            {"offering": "redis", "range": ">=seven"},
            {"offering": "redis", "range": "x".repeat(300)},
            {"versions": 3, "offering": "redis", "range": "7"},
            null,
        ]));
        let said: Vec<String> = read
            .catalog
            .offerings
            .values()
            .flat_map(|offering| &offering.accepts)
            .map(|accepts| format!("{} of {} {}", accepts.versions, accepts.offering, accepts.range))
            .collect();
        assert_eq!(said, [">=3 of postgresql >=15, <18", "* of redis 7"]);
        assert_eq!(read.problems.len(), 5, "{:?}", read.problems);
        assert_eq!(
            read.problems[0],
            "the service `shop` has `accepts` whose entry 3 names no offering and range of versions"
        );
        assert_eq!(service(json!("all")).problems, ["the service `shop` has `accepts` that are no list"]);
        let many = vec![json!({"offering": "redis", "range": "7"}); 1001];
        let read = service(Value::from(many));
        assert_eq!(read.catalog.offerings.values().next().unwrap().accepts.len(), 1000);
        assert_eq!(read.problems, ["the service `shop` has `accepts` beyond the 1000 that are read"]);
    }

    #[test]
    fn what_is_no_catalog_is_told() {
        for wrong in [json!({}), json!({"services": {}}), json!({"services": null})] {
            let Value::Object(object) = wrong else { panic!("an object") };
            assert!(read(&object, &Versions::new()).is_err());
        }
        assert!(catalog(json!({"services": []})).catalog.offerings.is_empty());
    }

    fn anything() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<f64>().prop_map(Value::from),
            ".{0,20}".prop_map(Value::from),
        ];
        let key = prop_oneof![
            Just("services"),
            Just("id"),
            Just("name"),
            Just("plans"),
            Just("metadata"),
            Just("costs"),
            Just("amount"),
            Just("unit"),
            Just("ostler"),
            Just("version"),
            Just("versions"),
            Just("accepts"),
            Just("offering"),
            Just("range"),
            Just("maintenance_info"),
            Just("schemas"),
            Just("bindable"),
        ];
        leaf.prop_recursive(8, 128, 8, move |inner| {
            prop_oneof![
                proptest::collection::vec(inner.clone(), 0..6).prop_map(Value::from),
                proptest::collection::btree_map(key.clone().prop_map(str::to_owned), inner, 0..8)
                    .prop_map(|object| Value::Object(object.into_iter().collect())),
            ]
        })
    }

    proptest! {
        #[test]
        fn no_catalog_makes_it_panic(services in proptest::collection::vec(anything(), 0..4)) {
            let object = json!({"services": services});
            let read = read(object.as_object().unwrap(), &Versions::new()).unwrap();
            for offering in read.catalog.offerings.values() {
                prop_assert!(!offering.plans.is_empty());
                prop_assert!(offering.plans.iter().all(|plan| plan.handle.as_deref().is_some_and(
                    |handle| Terms::from_handle(handle).is_some()
                )));
            }
        }
    }
}
