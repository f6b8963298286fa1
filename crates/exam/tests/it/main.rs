//! The examination finds what is wrong with a broker, by name, and nothing else.

#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers of tests fail the test")]

mod broker;

use std::collections::BTreeMap;
use std::path::Path;

use ostler_exam::{Page, Purchase, Report, Scope, Verdict, examine};
use ostler_model::estate::osb::{ApiVersion, OsbAuth, OsbManners, OsbProvider, OsbTls, SecretSource};

use crate::broker::{Broker, Fault};

async fn examined(broker: &Broker, scope: Scope) -> Report {
    let declared = OsbProvider {
        url: format!("http://{}", broker.address),
        api: ApiVersion::default(),
        plaintext: false,
        auth: OsbAuth::Basic {
            username: "shop".to_owned(),
            password: SecretSource::Command(vec!["printf".to_owned(), "sesame".to_owned()]),
        },
        tls: OsbTls::default(),
        manners: OsbManners::default(),
        versions: BTreeMap::new(),
    };
    examine(&declared, Path::new("/"), &scope, &|_| {}).await.unwrap()
}

fn buying() -> Scope {
    Scope::Buying(Purchase { plan: Some("small".to_owned()), ..Purchase::default() })
}

fn broken(report: &Report) -> Vec<&'static str> {
    report.broken().map(|finding| finding.rule).collect()
}

#[tokio::test]
async fn a_broker_that_keeps_all_rules_is_fit() {
    let broker = Broker::start(Fault::None).await;
    let report = examined(&broker, buying()).await;
    assert_eq!(broken(&report), [""; 0], "{}", Page(&report));
    assert_eq!(report.counts(), (report.rules.len(), 0, 0), "{}", Page(&report));
    assert!(report.is_fit());
    assert_eq!(broker.left(), (0, 0));
}

#[tokio::test]
async fn reading_makes_nothing_and_sees_what_can_be_read() {
    let broker = Broker::start(Fault::None).await;
    let report = examined(&broker, Scope::Reading).await;
    let (kept, broken, not_seen) = report.counts();
    assert_eq!((kept, broken), (20, 0), "{}", Page(&report));
    assert_eq!(kept + not_seen, report.rules.len());
    assert_eq!(report.bought, None);
}

/// Each broker, and the rules that it breaks.
const BROKERS: &[(Fault, &[&str])] = &[
    (Fault::NobodyIsAsked, &["auth-required", "auth-checked"]),
    (Fault::AnyPassword, &["auth-checked"]),
    (Fault::AnyVersion, &["version-missing", "version-unsupported"]),
    (Fault::CatalogOfHtml, &["catalog"]),
    (Fault::NoDescription, &["catalog-fields"]),
    (Fault::SameNames, &["catalog-names"]),
    (Fault::OtherIdsEachTime, &["catalog-stable"]),
    (Fault::ForeignSchema, &["schemas"]),
    (Fault::NoPrice, &["prices"]),
    (Fault::MaintenanceOfToday, &["maintenance-version"]),
    (Fault::EverythingIsThere, &["unknown-instance", "nothing-left"]),
    (Fault::EverythingSucceeded, &["unknown-operation"]),
    (Fault::ErrorsOfText, &["error-body", "provision-maintenance", "provision-sync", "update-maintenance"]),
    (Fault::UnknownIsDeleted, &["unknown-delete", "deprovision-repeated"]),
    (Fault::NoPlanNeeded, &["provision-fields"]),
    (Fault::AnyPlan, &["provision-plan"]),
    (Fault::AnyParameters, &["provision-parameters"]),
    (Fault::AnyMaintenance, &["provision-maintenance", "update-maintenance"]),
    (Fault::AlwaysLater, &["provision-sync"]),
    (Fault::OtherOperationEachTime, &["provision-repeated"]),
    (Fault::NeverOver, &["provision", "last-operation"]),
    (Fault::NoConflict, &["provision-conflict"]),
    (Fault::BindsEarly, &["bind-early"]),
    (Fault::WrongCredentials, &["bind-use"]),
    (Fault::OtherCredentialsEachTime, &["bind-repeated"]),
    (Fault::SharedCredentials, &["bind-apart", "unbind"]),
    (Fault::UnbindLeaves, &["unbind-ends"]),
    (Fault::UnbindEndsAll, &["unbind"]),
    (Fault::RotationEndsFirst, &["rotate"]),
    (Fault::UpdatesToAnything, &["update-refused"]),
    (Fault::UpdateLosesBindings, &["update-plan"]),
    (Fault::DeletesUnnamed, &["delete-fields"]),
    (Fault::LeavesInstances, &["deprovision-repeated", "nothing-left"]),
    (Fault::NeverDeletes, &["deprovision"]),
];

#[tokio::test]
async fn what_is_wrong_is_found_by_name() {
    let examinations = BROKERS.iter().map(|(fault, expected)| {
        let examination = tokio::spawn(async {
            let broker = Broker::start(*fault).await;
            (examined(&broker, buying()).await, broker)
        });
        (fault, expected, examination)
    });
    for (fault, expected, examination) in examinations.collect::<Vec<_>>() {
        let (report, broker) = examination.await.unwrap();
        assert_eq!(broken(&report), *expected, "{fault:?}: {}", Page(&report));
        let is_told = report.left.is_empty() == (broker.left() == (0, 0));
        assert!(is_told || *fault == Fault::LeavesInstances, "{fault:?} left {:?}: {:?}", broker.left(), report.left);
    }
}

/// Ids that stand for two things cannot be bought, so only the catalog is looked at.
#[tokio::test]
async fn ids_that_stand_for_two_things_are_found() {
    let broker = Broker::start(Fault::SameIds).await;
    let report = examined(&broker, Scope::Reading).await;
    assert_eq!(broken(&report), ["catalog-ids"]);
    assert!(!report.is_fit());
}

#[tokio::test]
async fn nothing_that_is_shown_holds_a_secret() {
    let broker = Broker::start(Fault::OtherCredentialsEachTime).await;
    let report = examined(&broker, buying()).await;
    let shown = format!("{}{}", Page(&report), serde_json::to_string(&report).unwrap());
    assert!(report.rules.iter().any(|finding| matches!(finding.verdict, Verdict::Broken { .. })));
    assert!(!shown.contains("secret-") && !shown.contains("sesame"), "{shown}");
}

#[tokio::test]
async fn a_certificate_fits_on_a_page() {
    let broker = Broker::start(Fault::UnbindLeaves).await;
    let report = examined(&broker, buying()).await;
    let page = Page(&report).to_string();
    let page = page.replace(&broker.address.to_string(), "127.0.0.1:1");
    let page = page.replace(&report.digest(), "DIGEST");
    let page = page.replace(&report.at, "2026-11-26T12:00:00Z").replace(&report.valid_until, "2027-02-24T12:00:00Z");
    insta::assert_snapshot!(page);
}

#[tokio::test]
async fn who_does_not_answer_is_told() {
    let mut broker = Broker::start(Fault::None).await;
    // A port that was free a moment ago.
    broker.address = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let report = examined(&broker, buying()).await;
    assert!(broken(&report).contains(&"catalog"));
    assert!(!report.is_fit());
}
