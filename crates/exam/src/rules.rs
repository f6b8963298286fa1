//! The rules of the Open Service Broker API 2.17 that can be seen from outside: what each says, where it stands, and how
//! much it matters to a buyer.

use serde::{Deserialize, Serialize};

/// How much it matters to a buyer that a rule is broken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Matters {
    /// Something that was bought is lost, doubled, unusable or open to others.
    BreaksYou,
    /// It works, and one day it does not as anybody expects.
    SurprisesYou,
    /// Nobody is hurt.
    Cosmetic,
}

impl Matters {
    /// All of them, the worst first.
    pub const ALL: [Self; 3] = [Self::BreaksYou, Self::SurprisesYou, Self::Cosmetic];

    /// As reports write it.
    pub fn in_words(self) -> &'static str {
        match self {
            Self::BreaksYou => "breaks you",
            Self::SurprisesYou => "surprises you",
            Self::Cosmetic => "cosmetic",
        }
    }
}

macro_rules! rules {
    ($($rule:ident $name:literal in $section:literal, $matters:ident: $says:literal;)+) => {
        /// A rule.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
        pub enum Rule {
            $(#[doc = $says] $rule,)+
        }

        impl Rule {
            /// All of them, in the order in which they are examined.
            pub const ALL: &'static [Self] = &[$(Self::$rule,)+];

            /// A short name that stays the same.
            pub fn name(self) -> &'static str {
                match self { $(Self::$rule => $name,)+ }
            }

            /// The section of the specification that it stands in.
            pub fn section(self) -> &'static str {
                match self { $(Self::$rule => $section,)+ }
            }

            /// How much it matters.
            pub fn matters(self) -> Matters {
                match self { $(Self::$rule => Matters::$matters,)+ }
            }

            /// What it says.
            pub fn says(self) -> &'static str {
                match self { $(Self::$rule => $says,)+ }
            }
        }
    };
}

rules! {
    // What can be seen by reading.
    Encrypted "encrypted" in "Authentication", SurprisesYou: "passwords do not go over the network as they are";
    AuthRequired "auth-required" in "Authentication", BreaksYou: "who does not say who it is gets 401";
    AuthChecked "auth-checked" in "Authentication", BreaksYou: "who gives a wrong password gets 401";
    VersionMissing "version-missing" in "API Version Header", Cosmetic: "a request without X-Broker-API-Version gets 400 or 412";
    VersionOld "version-unsupported" in "API Version Header", Cosmetic: "a version that is not spoken gets 412";
    Catalog "catalog" in "Catalog Management", BreaksYou: "GET /v2/catalog gives 200 and a list of services";
    ContentType "content-type" in "Content Type", Cosmetic: "answers say that they are application/json";
    RequestIdentity "request-identity" in "Request Identity", Cosmetic: "X-Broker-API-Request-Identity comes back";
    CatalogFields "catalog-fields" in "Service Offering Object, Plan Object", BreaksYou: "services and plans have all that is required";
    CatalogIds "catalog-ids" in "Service Offering Object, Plan Object", BreaksYou: "no two services and no two plans have the same id";
    CatalogNames "catalog-names" in "Service Offering Object, Plan Object", SurprisesYou: "no two services, and no two plans of one, have the same name";
    CatalogStable "catalog-stable" in "Catalog Management", BreaksYou: "the same things have the same ids when the catalog is read again";
    CatalogLabels "catalog-labels" in "Service Offering Object, Plan Object", Cosmetic: "names are of letters, digits, periods and hyphens, and no text is longer than 255";
    Schemas "schemas" in "Schemas Object", SurprisesYou: "schemas are JSON schemas with $schema, of 64 kB at most, without references to elsewhere";
    MaintenanceVersion "maintenance-version" in "Maintenance Info Object", SurprisesYou: "maintenance_info.version is a semantic version";
    Prices "prices" in "Profile, Plan Metadata", SurprisesYou: "plans that are not free say what they cost";
    UnknownInstance "unknown-instance" in "Fetching a Service Instance", SurprisesYou: "an instance that is not there gets 404";
    UnknownOperation "unknown-operation" in "Polling Last Operation for Service Instances", SurprisesYou: "an operation on what is not there is not said to be in progress or to have succeeded";
    UnknownBinding "unknown-binding" in "Fetching a Service Binding", SurprisesYou: "a binding that is not there gets 404";
    ErrorBody "error-body" in "Service Broker Errors", Cosmetic: "errors are JSON objects with a description";
    // What can be seen by buying.
    UnknownDelete "unknown-delete" in "Deprovisioning", SurprisesYou: "deleting what is not there gets 410";
    ProvisionFields "provision-fields" in "Provisioning", SurprisesYou: "a provision without a plan gets 400, and makes nothing";
    ProvisionPlan "provision-plan" in "Provisioning", SurprisesYou: "a provision of a plan that is not there gets 400, and makes nothing";
    ProvisionParameters "provision-parameters" in "Provisioning", SurprisesYou: "parameters that the schema forbids get 400, and make nothing";
    ProvisionMaintenance "provision-maintenance" in "Maintenance Info Object", SurprisesYou: "a provision of another maintenance version gets 422 MaintenanceInfoConflict, and makes nothing";
    ProvisionSync "provision-sync" in "Synchronous and Asynchronous Operations", BreaksYou: "without accepts_incomplete nothing is done later: it is done at once, or gets 422 AsyncRequired";
    Provision "provision" in "Provisioning", BreaksYou: "an instance can be bought";
    ProvisionAgain "provision-repeated" in "Provisioning", SurprisesYou: "the same provision again while it is under way gets 202 with the same operation";
    FetchEarly "fetch-early" in "Fetching a Service Instance", SurprisesYou: "an instance that is being made gets 404";
    BindEarly "bind-early" in "Blocking Operations", SurprisesYou: "a bind to an instance that is being made is refused";
    LastOperation "last-operation" in "Polling Last Operation for Service Instances", BreaksYou: "last_operation gives 200 with a state, until it is over in time";
    ProvisionDone "provision-done" in "Provisioning", SurprisesYou: "the same provision again, once it is over, gets 200";
    ProvisionConflict "provision-conflict" in "Provisioning", BreaksYou: "another plan under the same id gets 409, and changes nothing";
    Fetch "fetch" in "Fetching a Service Instance", SurprisesYou: "an instance can be fetched, and is what was bought";
    BindFields "bind-fields" in "Binding", SurprisesYou: "a bind without a plan gets 400, and makes nothing";
    Bind "bind" in "Binding", BreaksYou: "a binding can be made, and holds credentials";
    BindUse "bind-use" in "Binding", BreaksYou: "with the credentials one can connect, log in, write, and read what was written";
    BindAgain "bind-repeated" in "Binding", SurprisesYou: "the same bind again gets 200 and the same credentials";
    BindConflict "bind-conflict" in "Binding", SurprisesYou: "another bind under the same id gets 409";
    FetchBinding "fetch-binding" in "Fetching a Service Binding", SurprisesYou: "a binding can be fetched, and holds the same credentials";
    BindApart "bind-apart" in "Binding", SurprisesYou: "two bindings have credentials of their own";
    Unbind "unbind" in "Unbinding", BreaksYou: "a binding can be ended, and others go on working";
    UnbindEnds "unbind-ends" in "Unbinding", BreaksYou: "credentials that were ended do not work any more";
    UnbindAgain "unbind-repeated" in "Unbinding", Cosmetic: "ending a binding again gets 410";
    Rotate "rotate" in "Binding Rotation", BreaksYou: "a binding can have a successor, and both work until the first is ended";
    Update "update" in "Updating a Service Instance", SurprisesYou: "an update that changes nothing succeeds";
    UpdatePlan "update-plan" in "Updating a Service Instance", BreaksYou: "an instance can be changed to another plan if the catalog says so, and keeps its data and bindings";
    UpdateRefused "update-refused" in "Updating a Service Instance", BreaksYou: "a change of plan that is not possible is refused, and changes nothing";
    UpdateMaintenance "update-maintenance" in "Maintenance Info Object", SurprisesYou: "an update to another maintenance version than the catalog's gets 422 MaintenanceInfoConflict";
    DeleteFields "delete-fields" in "Deprovisioning", SurprisesYou: "a deletion that does not name the plan gets 400, and deletes nothing";
    Deprovision "deprovision" in "Deprovisioning", BreaksYou: "an instance can be deleted";
    DeprovisionAgain "deprovision-repeated" in "Deprovisioning", SurprisesYou: "deleting it again gets 410";
    NothingLeft "nothing-left" in "Deprovisioning", BreaksYou: "nothing is left: it cannot be fetched, and its credentials do not work";
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn names_differ_and_are_labels() {
        let names: BTreeSet<&str> = Rule::ALL.iter().map(|rule| rule.name()).collect();
        assert_eq!(names.len(), Rule::ALL.len());
        let is_label = |name: &&str| name.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'-');
        assert!(names.iter().all(is_label), "{names:?}");
    }
}
