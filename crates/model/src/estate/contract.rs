//! What a consumer relies on in what it needs: `[[service.web.contract]]`.

use serde::{Deserialize, Serialize};

use crate::ids::ServiceName;
use crate::version::VersionRange;

/// One thing that a consumer relies on: versions of the need, a check that is run with the consumer's own binding, or
/// both. At least one of the two is there.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Contract {
    /// What is relied on.
    pub need: ServiceName,
    /// What it is called in reports; different for each of a service.
    pub name: String,
    /// Which versions of the need it relies on; `None` where it says nothing of them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<VersionRange>,
    /// How it is checked; `None` where only the version counts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub check: Option<ContractCheck>,
}

/// How a contract is checked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ContractCheck {
    /// A statement of SQL, for PostgreSQL or MySQL: the first value that it gives is this, as text; `true` and `false` for
    /// truth values.
    Sql {
        /// The statement.
        query: String,
        /// The value.
        expect: String,
    },
    /// A command of Redis: its answer is this, as text.
    Redis {
        /// The command and its arguments.
        command: Vec<String>,
        /// The answer.
        expect: String,
    },
    /// `GET` of a path is answered with this status, and, if given, with a body that holds this text.
    Http {
        /// The path.
        path: String,
        /// The status, 100 to 599.
        status: u16,
        /// What the body holds.
        contains: Option<String>,
    },
    /// What is relied on in AMQP 0-9-1 (RabbitMQ).
    Amqp(AmqpCheck),
    /// A connection is accepted.
    Tcp,
    /// This program, run in the consumer's own environment, exits with 0.
    Command(Vec<String>),
}

/// What can be relied on in AMQP 0-9-1. Asking changes nothing: queues and exchanges are only looked at.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum AmqpCheck {
    /// There is a queue of this name; 1 to 255 bytes.
    Queue(String),
    /// There is an exchange of this name; 1 to 255 bytes.
    Exchange(String),
    /// A message that is sent through a queue of its own comes back.
    RoundTrip,
}

impl ContractCheck {
    /// In a few words, which name it where the estate file does not.
    pub fn in_words(&self) -> String {
        match self {
            Self::Sql { query, .. } => query.clone(),
            Self::Redis { command, .. } => command.join(" "),
            Self::Http { path, .. } => format!("GET {path}"),
            Self::Amqp(AmqpCheck::Queue(name)) => format!("queue {name}"),
            Self::Amqp(AmqpCheck::Exchange(name)) => format!("exchange {name}"),
            Self::Amqp(AmqpCheck::RoundTrip) => "round-trip".to_owned(),
            Self::Tcp => "connect".to_owned(),
            Self::Command(command) => command.join(" "),
        }
    }
}
