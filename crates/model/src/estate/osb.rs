//! `kind = "osb"`: a provider that speaks the Open Service Broker API, and how to deal with it.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::ids::{OfferingName, PlanName};
use crate::time::Span;
use crate::version::Version;

/// A broker.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OsbProvider {
    /// Where it answers: `https://broker.example/base`, without a final slash. Never with a user name, a query or a
    /// fragment. Plain `http://` only on this machine, unless `plaintext` is set.
    pub url: String,
    /// The version of the API that it is spoken to in, `2.13` to `2.17`. Default 2.17, which older brokers understand
    /// unless they compare.
    #[serde(default, skip_serializing_if = "ApiVersion::is_newest")]
    pub api: ApiVersion,
    /// Passwords may go over the network as they are.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub plaintext: bool,
    /// How ostler proves who it is.
    pub auth: OsbAuth,
    /// What is known of the broker's certificate, and the one that ostler shows.
    #[serde(default)]
    pub tls: OsbTls,
    /// How many requests it is sent, and how long it may take.
    #[serde(default)]
    pub manners: OsbManners,
    /// Which version of the product a plan gives, where the catalog does not say.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub versions: BTreeMap<OfferingName, BTreeMap<PlanName, Version>>,
}

/// A version of the Open Service Broker API: `2.` and this.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ApiVersion(u8);

impl ApiVersion {
    /// From `2.13` to `2.17`.
    pub fn parse(text: &str) -> Option<Self> {
        let minor = text.strip_prefix("2.")?.parse().ok()?;
        (13..=17).contains(&minor).then_some(Self(minor))
    }

    /// Whether it is the newest.
    pub fn is_newest(&self) -> bool {
        *self == Self::default()
    }
}

impl Default for ApiVersion {
    fn default() -> Self {
        Self(17)
    }
}

impl std::fmt::Display for ApiVersion {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "2.{}", self.0)
    }
}

/// How ostler proves to a broker who it is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum OsbAuth {
    /// Not at all, or by its certificate.
    None,
    /// By a user name and a password (RFC 7617).
    Basic {
        /// The user name; it has no colon.
        username: String,
        /// Where the password is found.
        password: SecretSource,
    },
    /// By a token (RFC 6750).
    Bearer {
        /// Where it is found.
        token: SecretSource,
    },
}

/// Where a secret is found. The estate file never holds one itself: it is meant to be shown and shared.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum SecretSource {
    /// In this environment variable of `ostler up`.
    Env(String),
    /// In this file, whose last line end does not count; absolute.
    File(PathBuf),
    /// In what this program prints, whose last line end does not count. It is run in the estate file's folder.
    Command(Vec<String>),
}

/// Certificates.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct OsbTls {
    /// A PEM file with the authorities that may sign for the broker, in place of those that this machine trusts.
    pub roots: Option<PathBuf>,
    /// A PEM file with the certificate that ostler shows, and its private key.
    pub identity: Option<PathBuf>,
}

/// What a broker is to be spared, and what it is not allowed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OsbManners {
    /// At most so many requests at the same time, 1 to 1,000. Default 16.
    pub at_once: u32,
    /// At most so many requests begin within a second, 1 to 10,000; `None` for no limit.
    pub per_second: Option<u32>,
    /// How long one request may take. Default 60 s, as the specification advises.
    pub timeout: Span,
    /// How long ostler waits between two questions about an operation, if the broker does not say. Default 2 s.
    pub poll_every: Span,
    /// For how long ostler asks about an operation before it counts as failed, if the plan does not allow less. Default
    /// 2 h.
    pub poll_within: Span,
}

impl Default for OsbManners {
    fn default() -> Self {
        Self {
            at_once: 16,
            per_second: None,
            timeout: Span::seconds(60),
            poll_every: Span::seconds(2),
            poll_within: Span::seconds(7200),
        }
    }
}
