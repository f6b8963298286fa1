//! `[provide]`: what this estate sells to others, as an Open Service Broker.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::osb::SecretSource;
use crate::ids::{OfferingName, PlanName};
use crate::time::Span;

/// At most this many instances may be sold, whatever the estate file says: a bound on what buyers can make ostler hold.
pub const SOLD_MAX: u32 = 10_000;

/// How this estate sells what its provider on this machine offers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Provide {
    /// Where the broker listens.
    pub listen: SocketAddr,
    /// The certificate that it shows; `None` for plain HTTP.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tls: Option<ProvideTls>,
    /// Who may buy, with where each one's password is found. Never empty.
    pub buyers: BTreeMap<String, SecretSource>,
    /// What is sold; everything that brings its own program and can be bound to if empty.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub offer: Vec<OfferingName>,
    /// Where what is sold answers; on this machine alone, on ports of ostler's choice, if `None`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub endpoints: Option<PortRange>,
    /// At most so many instances, 1 to [`SOLD_MAX`]. Default 100.
    pub at_most: u32,
    /// How long a binding is good before it has to have a successor; `None` for as long as its instance.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bindings_last: Option<Span>,
    /// What an instance costs a month, in the estate's currency: a decimal number in text, exactly as stated.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub prices: BTreeMap<OfferingName, BTreeMap<PlanName, String>>,
}

/// The certificate of the broker.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProvideTls {
    /// A PEM file with the certificate and those that lead to its authority; absolute.
    pub certificate: PathBuf,
    /// A PEM file with its private key; absolute.
    pub key: PathBuf,
}

/// Ports of one address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PortRange {
    /// The address.
    pub ip: IpAddr,
    /// The first port.
    pub first: u16,
    /// The last one; not before the first.
    pub last: u16,
}

impl PortRange {
    /// `127.0.0.1:21000-21999`.
    pub fn parse(text: &str) -> Option<Self> {
        let (start, last) = text.rsplit_once('-')?;
        let first: SocketAddr = start.parse().ok()?;
        let last = last.parse().ok()?;
        (first.port() > 0 && first.port() <= last).then_some(Self { ip: first.ip(), first: first.port(), last })
    }

    /// Its addresses, in order.
    pub fn addresses(self) -> impl Iterator<Item = SocketAddr> {
        (self.first..=self.last).map(move |port| SocketAddr::new(self.ip, port))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_of_ports_are_read() {
        let range = PortRange::parse("10.0.0.5:21000-21002").unwrap();
        let ports: Vec<String> = range.addresses().map(|address| address.to_string()).collect();
        assert_eq!(ports, ["10.0.0.5:21000", "10.0.0.5:21001", "10.0.0.5:21002"]);
        assert_eq!(PortRange::parse("[::1]:80-80").unwrap().addresses().count(), 1);
        for wrong in ["", "10.0.0.5", "10.0.0.5:1", "10.0.0.5:5-4", "10.0.0.5:0-4", "host:1-2", "10.0.0.5:1-70000"] {
            assert_eq!(PortRange::parse(wrong), None, "{wrong}");
        }
    }
}
