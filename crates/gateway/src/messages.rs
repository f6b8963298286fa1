//! What the manager tells the gateway and hears from it. The keeper passes these on without reading them.
//!
//! Invariant: whatever a body holds, reading it gives either a message within the limits stated here or nothing.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::time::Duration;

use ostler_model::estate::Protocol;
use ostler_model::ids::InstanceId;
use ostler_model::time::Timestamp;
use serde::{Deserialize, Serialize};

/// The version of these messages. Builds of another version cannot take over from each other while they run.
pub const VERSION: u32 = 1;
/// The longest time that a caller can be made to wait for an instance. Longer holds are cut to this.
pub const HOLD_MS_MAX: u64 = 600_000;
/// The longest time that a target can be refused on purpose, whatever the table says and the clock does.
pub const REFUSED_MAX: Duration = Duration::from_secs(600);
/// The longest time that a drain can wait. Longer ones are cut to this.
pub const DRAIN_MS_MAX: u64 = 3_600_000;

/// Where connections to one service may go: the body of a
/// [`GatewayTable`](ostler_keeper::protocol::Order::GatewayTable), whose key is the service's name.
/// The whole truth each time: a target that is not in it gets no new connection; its present ones stay.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Table {
    /// The ready instances, in any order. An address that comes twice counts once.
    pub targets: Vec<Target>,
    /// For how long after its accept a caller waits, in milliseconds, when no instance can be reached; 0 closes its
    /// connection at once.
    pub hold_ms: u64,
    /// What the gateway understands of what it carries. A connection keeps what was in force when it was accepted.
    #[serde(default, skip_serializing_if = "Protocol::is_tcp")]
    pub protocol: Protocol,
    /// Counts how often callers were cut off from instances for good. A table of an earlier epoch than one that was in
    /// force is left out, whoever sends it.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub epoch: u64,
    /// Instances that get nothing any more: open connections to them are cut, and none of them is a target, whatever
    /// else the table says.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub fenced: Vec<InstanceId>,
    /// Where nobody gets a new connection for a while, because a drill has it so.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub refused: Vec<Refused>,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde asks for a reference")]
fn is_zero(epoch: &u64) -> bool {
    *epoch == 0
}

/// A target that refuses connections, as far as callers see, until a drill is over. The gateway forgets it by itself:
/// nobody need be left who takes it back.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Refused {
    /// Which.
    pub address: SocketAddr,
    /// Until when, at most [`REFUSED_MAX`] from when it is heard.
    pub until: Timestamp,
}

impl Table {
    /// Reads a body: `None` if it is no table. Limits are applied.
    pub fn read(body: &str) -> Option<Self> {
        let mut table: Self = serde_json::from_str(body).ok()?;
        let mut seen = BTreeSet::new();
        let fenced = std::mem::take(&mut table.fenced);
        table.targets.retain(|target| {
            let is_open = target.address.port() != 0 && !fenced.contains(&target.instance);
            is_open && seen.insert(target.address)
        });
        table.fenced = fenced;
        table.hold_ms = table.hold_ms.min(HOLD_MS_MAX);
        Some(table)
    }

    /// `hold_ms` as a duration.
    pub fn hold(&self) -> Duration {
        Duration::from_millis(self.hold_ms)
    }
}

/// One instance that connections can go to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Target {
    /// Which.
    pub instance: InstanceId,
    /// Where it listens.
    pub address: SocketAddr,
}

/// Something to do once: the body of a [`GatewayTell`](ostler_keeper::protocol::Order::GatewayTell).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Tell {
    /// Send no new connection to `address`, and answer [`Says::Drained`] when the present ones are gone or
    /// `within_ms` have passed; where no other instance can be reached also when they are all at rest. Nothing is cut off. A later [`Table`] that names the address opens it again, so the
    /// manager takes it out of the table first.
    Drain {
        /// Repeated in the answer.
        id: u64,
        /// The service.
        service: String,
        /// The instance's address.
        address: SocketAddr,
        /// Milliseconds, at most [`DRAIN_MS_MAX`].
        within_ms: u64,
    },
    /// Report now what the service's callers have asked, and how they fared, and answer [`Says::Counted`] after it.
    Count {
        /// Repeated in the answer.
        id: u64,
        /// The service.
        service: String,
    },
    /// Answer [`Says::Fenced`] once no connection is left to what the table in force has fenced. The manager sends that
    /// table first.
    Fence {
        /// Repeated in the answer.
        id: u64,
        /// The service.
        service: String,
        /// The epoch of the table that the manager has sent.
        epoch: u64,
    },
}

/// What the gateway reports: the body of a [`GatewaySays`](ostler_keeper::protocol::Order::GatewaySays).
/// Delivered at least once: if the keeper dies before it answers, the report is sent again to the next.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Says {
    /// The answer to [`Tell::Drain`].
    Drained {
        /// As asked.
        id: u64,
        /// Connections that were still open when the time was over. 0: all are gone.
        left: u64,
    },
    /// The answer to [`Tell::Fence`].
    Fenced {
        /// As asked.
        id: u64,
        /// The epoch in force: that of the question, or a later one, if all is well.
        epoch: u64,
        /// Connections to what is fenced that were still there after a few seconds. 0: all are gone.
        left: u64,
    },
    /// The answer to [`Tell::Count`]: everything up to now has been said.
    Counted {
        /// As asked.
        id: u64,
    },
    /// Callers of a service were affected: one report for each interval, when it is over. It opens with the first
    /// connect that failed or found no instance, and is over when a connect has succeeded since and nobody waits any
    /// more. At most one report a second for a service; intervals that end sooner after one are put together and
    /// reported within ten seconds.
    Trouble {
        /// The service.
        service: String,
        /// The instance whose connect failed first; `None` if there was none to try.
        instance: Option<InstanceId>,
        /// When it opened.
        from: Timestamp,
        /// When the last affected caller was served (or given up, after others had been served).
        until: Timestamp,
        /// Callers that were connected, but not by the first attempt.
        connects_waited: u64,
        /// Callers that were closed because nothing could be reached while they were held.
        connects_failed: u64,
        /// The longest that any of both kinds waited from its accept, in microseconds.
        longest_wait_us: u64,
    },
    /// What a service has carried since this gateway began to carry it. Sent every ten seconds for services whose numbers
    /// have changed.
    Traffic {
        /// The service.
        service: String,
        /// Since when: together with the service's name it tells one counting from every other. Earlier builds do not say it.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        since: Option<Timestamp>,
        /// Connections that reached an instance.
        connections: u64,
        /// Bytes from callers to instances.
        bytes_in: u64,
        /// Bytes from instances to callers.
        bytes_out: u64,
    },
    /// What callers have asked of a service since it was last reported, and how it went. Sent every ten seconds for each
    /// instance that was asked. Said at most once: what is lost on its way is not counted again. One instance's times do
    /// not overlap, so that whoever is told of one twice can see it.
    Served {
        /// The service.
        service: String,
        /// Who was asked last; `None` for callers that reached nobody.
        instance: Option<InstanceId>,
        /// What is counted: requests, or connections where the protocol is not understood.
        protocol: Protocol,
        /// When the first of them was counted at the earliest.
        from: Timestamp,
        /// When the last of them was counted at the latest.
        until: Timestamp,
        /// How many.
        asked: u64,
        /// Those of them that were answered with a status of 500 or above, or not, or not to the end; for connections,
        /// those that reached no instance. What a caller breaks off itself is no failure.
        failed: u64,
        /// How long the others took, from the request's head to the answer's (for connections, from the accept until it
        /// reached an instance): pairs of at most how many microseconds, and how many. Rounded up by less than a
        /// quarter; at most 104 pairs, in order.
        times: Vec<(u64, u64)>,
    },
    /// An instance does much worse than its peers, and gets no requests for a while as long as another one is left.
    SetAside {
        /// The service.
        service: String,
        /// Which.
        instance: InstanceId,
        /// When.
        at: Timestamp,
        /// For how many milliseconds.
        for_ms: u64,
        /// Why, in words for people.
        reason: String,
    },
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_is_read_within_its_limits() {
        let target = r#"{"instance":"web-1","address":"127.0.0.1:4000"}"#;
        let nowhere = r#"{"instance":"web-2","address":"127.0.0.1:0"}"#;
        let body = format!(r#"{{"targets":[{target},{target},{nowhere}],"hold_ms":18446744073709551615}}"#);
        let table = Table::read(&body).unwrap();
        assert_eq!((table.targets.len(), table.hold_ms), (1, HOLD_MS_MAX));
        let body = format!(r#"{{"targets":[{target}],"hold_ms":1,"epoch":3,"fenced":["web-1"]}}"#);
        let table = Table::read(&body).unwrap();
        assert_eq!((table.targets.len(), table.epoch, table.fenced.len()), (0, 3, 1), "what is fenced is no target");
        for wrong in ["", "null", "[]", "{}", r#"{"targets":[{}],"hold_ms":1}"#, r#"{"targets":[],"hold_ms":-1}"#] {
            assert_eq!(Table::read(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn the_form_on_the_wire_is_fixed() {
        let tell = Tell::Drain { id: 7, service: "web".into(), address: ([127, 0, 0, 1], 4000).into(), within_ms: 50 };
        let text = r#"{"drain":{"id":7,"service":"web","address":"127.0.0.1:4000","within_ms":50}}"#;
        assert_eq!(serde_json::to_string(&tell).unwrap(), text);
        let says = r#"{"drained":{"id":7,"left":0}}"#;
        assert_eq!(serde_json::from_str::<Says>(says).unwrap(), Says::Drained { id: 7, left: 0 });
        let served = r#"{"served":{"service":"web","instance":"web-1","protocol":"http","from":1,"until":9,"asked":3,"failed":1,"times":[[319,2]]}}"#;
        assert_eq!(serde_json::to_string(&serde_json::from_str::<Says>(served).unwrap()).unwrap(), served);
        let table = Table { hold_ms: 5, ..Table::default() };
        assert_eq!(serde_json::to_string(&table).unwrap(), r#"{"targets":[],"hold_ms":5}"#);
        let fence = Tell::Fence { id: 7, service: "db".into(), epoch: 2 };
        let text = r#"{"fence":{"id":7,"service":"db","epoch":2}}"#;
        assert_eq!(serde_json::to_string(&fence).unwrap(), text);
        let says = r#"{"fenced":{"id":7,"epoch":2,"left":0}}"#;
        assert_eq!(serde_json::from_str::<Says>(says).unwrap(), Says::Fenced { id: 7, epoch: 2, left: 0 });
        let fenced = Table { epoch: 2, fenced: vec!["db-1".parse().unwrap()], ..table.clone() };
        let text = r#"{"targets":[],"hold_ms":5,"epoch":2,"fenced":["db-1"]}"#;
        assert_eq!(serde_json::to_string(&fenced).unwrap(), text);
        let table = Table { protocol: Protocol::Http, ..table };
        assert_eq!(serde_json::to_string(&table).unwrap(), r#"{"targets":[],"hold_ms":5,"protocol":"http"}"#);
        let refused = vec![Refused { address: ([127, 0, 0, 1], 4000).into(), until: Timestamp(7) }];
        let text = r#"{"targets":[],"hold_ms":5,"refused":[{"address":"127.0.0.1:4000","until":7}]}"#;
        assert_eq!(serde_json::to_string(&Table { refused, protocol: Protocol::Tcp, ..table }).unwrap(), text);
    }
}
