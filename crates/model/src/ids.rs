//! Identities: one type for each, and parsing is the only way in.
//! Invariant: a value of one of these types has passed its rule, so nobody checks it again.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use smol_str::SmolStr;

/// Why a text is not an identity of the wanted kind.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` is not {kind}: {rule}")]
pub struct IdError {
    /// What was wanted, with its article: "a service name".
    pub kind: &'static str,
    /// What was given, cut to 80 characters.
    pub text: String,
    /// The rule that it breaks.
    pub rule: &'static str,
}

const RULE: &str = "1 to 63 lower-case letters, digits and hyphens, beginning with a letter and not ending in a hyphen";
const LENGTH_MAX: usize = 63; // a DNS label: names become host names, folder names and database names

fn is_label(text: &str) -> bool {
    text.len() <= LENGTH_MAX
        && text.starts_with(|c: char| c.is_ascii_lowercase())
        && !text.ends_with('-')
        && text.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-')
}

macro_rules! label {
    ($(#[$doc:meta])* $name:ident, $kind:literal) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Deserialize)]
        #[serde(try_from = "String")]
        pub struct $name(SmolStr); // in place: maps by name are searched without leaving their nodes

        impl $name {
            /// The name as text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl FromStr for $name {
            type Err = IdError;

            fn from_str(text: &str) -> Result<Self, IdError> {
                if is_label(text) {
                    Ok(Self(SmolStr::new(text)))
                } else {
                    Err(IdError { kind: $kind, text: text.chars().take(80).collect(), rule: RULE })
                }
            }
        }

        impl TryFrom<String> for $name {
            type Error = IdError;

            fn try_from(text: String) -> Result<Self, IdError> {
                text.parse()
            }
        }

        impl From<$name> for String {
            fn from(name: $name) -> Self {
                name.0.into()
            }
        }

        impl Serialize for $name {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_str(&self.0)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(&self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    };
}

label!(/// The name of an estate: all that one buyer declares in one file.
    EstateName, "an estate name");
label!(/// The name of a service: something the business needs.
    ServiceName, "a service name");
label!(/// The name that the estate gives a provider.
    ProviderName, "a provider name");
label!(/// What a provider's catalog lists: `postgresql`, `redis`, `program`.
    OfferingName, "an offering name");
label!(/// A priced variant of an offering. "Plan" means nothing else in ostler.
    PlanName, "a plan name");

/// One provisioned plan of a service: `web-1`. The number is never used twice within a journal.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Deserialize)]
#[serde(try_from = "String")]
pub struct InstanceId {
    service: ServiceName,
    number: u32,
}

impl InstanceId {
    /// The `number`-th instance (from 1) of `service`.
    pub fn new(service: ServiceName, number: u32) -> Self {
        Self { service, number }
    }

    /// The service that it is an instance of.
    pub fn service(&self) -> &ServiceName {
        &self.service
    }

    /// Its number, from 1.
    pub fn number(&self) -> u32 {
        self.number
    }
}

impl Serialize for InstanceId {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl FromStr for InstanceId {
    type Err = IdError;

    fn from_str(text: &str) -> Result<Self, IdError> {
        let wrong = || IdError {
            kind: "an instance id",
            text: text.chars().take(80).collect(),
            rule: "a service name, a hyphen and a number from 1, as in `web-1`",
        };
        let (service, number) = text.rsplit_once('-').ok_or_else(wrong)?;
        if number.is_empty() || number.starts_with('0') || !number.bytes().all(|b| b.is_ascii_digit()) {
            return Err(wrong());
        }
        Ok(Self { service: service.parse().map_err(|_| wrong())?, number: number.parse().map_err(|_| wrong())? })
    }
}

impl TryFrom<String> for InstanceId {
    type Error = IdError;

    fn try_from(text: String) -> Result<Self, IdError> {
        text.parse()
    }
}

impl From<InstanceId> for String {
    fn from(id: InstanceId) -> Self {
        id.to_string()
    }
}

impl fmt::Display for InstanceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (f.width(), f.precision()) {
            (None, None) => write!(f, "{}-{}", self.service, self.number),
            _ => f.pad(&format!("{}-{}", self.service, self.number)),
        }
    }
}

impl fmt::Debug for InstanceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.service, self.number)
    }
}

/// One ask for an instance: `db-1/2`. Each ask has a name of its own at the provider, where an answer can be lost.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct AttemptId {
    /// The instance that was asked for.
    pub instance: InstanceId,
    /// Which ask, from 1.
    pub attempt: u32,
}

impl FromStr for AttemptId {
    type Err = IdError;

    fn from_str(text: &str) -> Result<Self, IdError> {
        let wrong = || IdError {
            kind: "an attempt at an instance",
            text: text.chars().take(80).collect(),
            rule: "an instance id, a slash and a number from 1, as in `db-1/2`",
        };
        let (instance, attempt) = text.split_once('/').ok_or_else(wrong)?;
        let attempt = attempt.parse().ok().filter(|attempt| *attempt > 0).ok_or_else(wrong)?;
        Ok(Self { instance: instance.parse().map_err(|_| wrong())?, attempt })
    }
}

impl TryFrom<String> for AttemptId {
    type Error = IdError;

    fn try_from(text: String) -> Result<Self, IdError> {
        text.parse()
    }
}

impl From<AttemptId> for String {
    fn from(id: AttemptId) -> Self {
        id.to_string()
    }
}

impl fmt::Display for AttemptId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&format!("{}/{}", self.instance, self.attempt))
    }
}

impl fmt::Debug for AttemptId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.instance, self.attempt)
    }
}

/// A binding: what `consumer` uses of an instance of the service `need`. One for each pair.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct BindingId {
    /// Who uses it.
    pub consumer: ServiceName,
    /// What is used.
    pub need: ServiceName,
}

impl FromStr for BindingId {
    type Err = IdError;

    fn from_str(text: &str) -> Result<Self, IdError> {
        let wrong = || IdError {
            kind: "a binding id",
            text: text.chars().take(80).collect(),
            rule: "two service names around a slash, consumer first, as in `web/db`",
        };
        let (consumer, need) = text.split_once('/').ok_or_else(wrong)?;
        Ok(Self { consumer: consumer.parse().map_err(|_| wrong())?, need: need.parse().map_err(|_| wrong())? })
    }
}

impl TryFrom<String> for BindingId {
    type Error = IdError;

    fn try_from(text: String) -> Result<Self, IdError> {
        text.parse()
    }
}

impl From<BindingId> for String {
    fn from(id: BindingId) -> Self {
        id.to_string()
    }
}

impl fmt::Display for BindingId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&format!("{}/{}", self.consumer, self.need))
    }
}

impl fmt::Debug for BindingId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.consumer, self.need)
    }
}

/// The name under which a secret lies in the sealed store: `binding/web/db`, `instance/db-1`.
/// Facts name secrets; they never hold them.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct SecretId(String);

impl SecretId {
    /// What only the provider needs to know of an instance: its administrator's password and the like.
    pub fn of_instance(id: &InstanceId) -> Self {
        Self(format!("instance/{id}"))
    }

    /// The credentials of a binding.
    pub fn of_binding(id: &BindingId) -> Self {
        Self(format!("binding/{id}"))
    }

    /// The key that signs the certificates of drills.
    pub fn of_drills() -> Self {
        Self("drills/key".to_owned())
    }

    /// The id as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for SecretId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

/// A command that the manager handed out. Counted within one journal, from 1.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct CommandId(pub u64);

impl fmt::Display for CommandId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "c{}", self.0)
    }
}

/// The place of a fact in the journal: the first is 1; 0 is "before all facts".
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Position(pub u64);

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// 128 random bits that make an estate's ids unique in the world; made once, by the runtime.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct EstateUuid(u128);

impl EstateUuid {
    /// Its 16 bytes, in the order in which it is written.
    pub fn bytes(self) -> [u8; 16] {
        self.0.to_be_bytes()
    }

    /// A version 4 UUID (RFC 9562, section 5.4) from random bits.
    pub fn from_random(bits: [u8; 16]) -> Self {
        let mut bits = bits;
        bits[6] = (bits[6] & 0x0f) | 0x40;
        bits[8] = (bits[8] & 0x3f) | 0x80;
        Self(u128::from_be_bytes(bits))
    }
}

impl FromStr for EstateUuid {
    type Err = IdError;

    fn from_str(text: &str) -> Result<Self, IdError> {
        let wrong = || IdError {
            kind: "an estate UUID",
            text: text.chars().take(80).collect(),
            rule: "32 hexadecimal digits in groups of 8-4-4-4-12",
        };
        let groups: Vec<&str> = text.split('-').collect();
        if groups.iter().map(|g| g.len()).ne([8, 4, 4, 4, 12]) || text.contains('+') {
            return Err(wrong());
        }
        u128::from_str_radix(&groups.concat(), 16).map(Self).map_err(|_| wrong())
    }
}

impl TryFrom<String> for EstateUuid {
    type Error = IdError;

    fn try_from(text: String) -> Result<Self, IdError> {
        text.parse()
    }
}

impl From<EstateUuid> for String {
    fn from(id: EstateUuid) -> Self {
        id.to_string()
    }
}

impl fmt::Display for EstateUuid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let hex = format!("{:032x}", self.0);
        write!(f, "{}-{}-{}-{}-{}", &hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..])
    }
}

impl fmt::Debug for EstateUuid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_are_dns_labels() {
        for good in ["a", "db", "web-2-x", "a123456789"] {
            assert_eq!(good.parse::<ServiceName>().unwrap().as_str(), good);
        }
        let long = "a".repeat(64);
        for bad in ["", "-a", "a-", "1a", "A", "ä", "a_b", "a b", long.as_str()] {
            assert!(bad.parse::<ServiceName>().is_err(), "{bad}");
        }
    }

    #[test]
    fn an_instance_id_reads_back() {
        let id: InstanceId = "web-front-12".parse().unwrap();
        assert_eq!((id.service().as_str(), id.number()), ("web-front", 12));
        assert_eq!(id.to_string(), "web-front-12");
        for bad in ["web", "web-0", "web-01", "web-x", "-1", "web-", "web-+1", "web-99999999999"] {
            assert!(bad.parse::<InstanceId>().is_err(), "{bad}");
        }
    }

    #[test]
    fn a_uuid_reads_back() {
        let id = EstateUuid::from_random([0xff; 16]);
        assert_eq!(id.to_string(), "ffffffff-ffff-4fff-bfff-ffffffffffff");
        assert_eq!(id.to_string().parse::<EstateUuid>().unwrap(), id);
        assert!("ffffffff-ffff-4fff-bfff-fffffffffff".parse::<EstateUuid>().is_err());
    }
}
