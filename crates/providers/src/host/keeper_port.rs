//! What the host provider asks of the keeper. The runtime carries it over the keeper's socket; tests have a small one.
//!
//! Invariant: every call is safe to repeat, as the orders of the protocol are.

use std::future::Future;
use std::net::SocketAddr;
use std::pin::Pin;
use std::time::Duration;

use ostler_keeper::protocol::{Grant, Launch, Process, Refusal, Survey};
use ostler_model::ids::InstanceId;
use ostler_model::outcome::{Failure, FailureClass};

use crate::Stopped;

/// What calls to the keeper return.
pub type KeeperAnswer<'a, T> = Pin<Box<dyn Future<Output = Result<T, KeeperError>> + Send + 'a>>;

/// The keeper, as far as the host provider needs it.
pub trait KeeperPort: Send + Sync {
    /// `Order::Start`.
    fn start(&self, launch: Launch, grant: Grant) -> KeeperAnswer<'_, Started>;
    /// `Order::Stop`.
    fn stop<'a>(&'a self, instance: &'a InstanceId, signal: i32, grace: Duration) -> KeeperAnswer<'a, Stopped>;
    /// `Order::Survey`.
    fn survey(&self) -> KeeperAnswer<'_, Survey>;
    /// `Order::Listen` without sharing the socket with the gateway.
    fn listen<'a>(&'a self, name: &'a str, address: SocketAddr) -> KeeperAnswer<'a, SocketAddr>;
    /// `Order::Unlisten`.
    fn unlisten<'a>(&'a self, name: &'a str) -> KeeperAnswer<'a, ()>;
}

/// The keeper's answer to a start.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Started {
    /// The process.
    pub process: Process,
    /// It ran before.
    pub adopted: bool,
    /// It was started from a launch of the same digest.
    pub as_ordered: bool,
}

/// Why the keeper did not do it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KeeperError {
    /// It refused, and nothing has changed.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// The connection was lost before the answer: whether it happened is to be observed.
    #[error("the connection to the keeper was lost: {0}")]
    Lost(String),
}

impl KeeperError {
    /// What a person can do.
    pub fn remedy(&self) -> String {
        match self {
            Self::Lost(_) => "Nothing: the keeper is started again, and what happened is looked at.".to_owned(),
            Self::Refused(Refusal::OtherVersion(_)) => {
                "Stop with `ostler down`, then start again with one version of ostler.".to_owned()
            }
            Self::Refused(Refusal::CannotStart { program, .. }) => {
                format!("Make sure that `{program}` exists and that the instance's user may execute it.")
            }
            Self::Refused(Refusal::CannotListen { address, .. }) => {
                format!("Stop the program that listens on {address}.")
            }
            Self::Refused(
                Refusal::Stopping(_)
                | Refusal::NoSuchSocket(_)
                | Refusal::NoGateway
                | Refusal::Busy(_)
                | Refusal::Upgrading(_)
                | Refusal::NotUnderstood(_),
            ) => "Nothing: it is tried again.".to_owned(),
        }
    }

    /// As the outcome of `operation` ("start instance `db-1`").
    pub(super) fn failure(&self, operation: &str) -> Failure {
        let class = match self {
            Self::Lost(_) => FailureClass::Interrupted,
            Self::Refused(Refusal::OtherVersion(_)) => FailureClass::NeedsPerson,
            Self::Refused(_) => FailureClass::Temporary,
        };
        Failure { class, detail: super::failure::cut(format!("cannot {operation}: {self}")), remedy: self.remedy() }
    }
}
