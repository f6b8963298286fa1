//! The examination of an Open Service Broker, to be taken before anything is bought from it.
//!
//! Every rule of the specification that can be seen from outside ([`rules`]) is looked at with real requests: by reading
//! alone, or by buying an instance, using it with a real client of its protocol, and giving it back. Invariant: whatever
//! happens, everything that was asked for is asked to be deleted at the end, and what may be left is told by its id.

use std::path::Path;

use ostler_model::estate::osb::OsbProvider;
use ostler_model::outcome::Failure;
use serde::Serialize;

pub use self::certificate::{CERTIFICATE_BYTES_MAX, CertificateError, ReadCertificate, Sealed, read_certificate};
use self::examiner::Examiner;
pub use self::report::{Page, Report};
pub use self::rules::{Matters, Rule};

mod binding;
mod buying;
mod certificate;
mod examiner;
mod reading;
mod report;
pub mod rules;
mod wire;

/// How far the examination goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Scope {
    /// It only reads: nothing is made, changed or deleted.
    Reading,
    /// It buys an instance of a plan, uses it and gives it back.
    Buying(Purchase),
}

/// What is bought.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Purchase {
    /// By the name of the service offering in the catalog; the first if `None`.
    pub offering: Option<String>,
    /// By the name of the plan; a free one, or else the first, if `None`.
    pub plan: Option<String>,
}

/// What was found about a rule.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case", tag = "verdict")]
pub enum Verdict {
    /// It is kept.
    Kept,
    /// It is broken.
    Broken {
        /// What is wrong.
        why: String,
        /// What was sent.
        sent: String,
        /// What came back.
        got: String,
    },
    /// It was not looked at.
    NotSeen {
        /// Why.
        why: String,
    },
}

/// Examines the broker that is declared like this; relative programs of its `auth` start in `folder`. Tells `progress`
/// what it is about to do.
///
/// # Errors
/// If it cannot begin: a certificate or a password is not found, or what is to be bought is not sold.
pub async fn examine(
    declared: &OsbProvider,
    folder: &Path,
    scope: &Scope,
    progress: &(dyn Fn(&str) + Sync),
) -> Result<Report, Failure> {
    let mut examiner = Examiner::new(declared, folder, progress).await?;
    let catalog = examiner.read().await;
    if let (Scope::Buying(purchase), Some(catalog)) = (scope, catalog) {
        examiner.buy(&catalog, purchase).await?;
    }
    Ok(examiner.into_report(scope))
}
