//! The host provider's view of the keeper, carried over the manager's link.

use std::net::SocketAddr;
use std::time::Duration;

use ostler_keeper::protocol::{Answer, Grant, Launch, Order, Refusal, Survey};
use ostler_model::ids::InstanceId;
use ostler_providers::Stopped;
use ostler_providers::host::{KeeperAnswer, KeeperError, KeeperPort, Started};

use crate::keeper_link::Keeper;

fn unexpected(answer: Answer) -> KeeperError {
    match answer {
        Answer::Refused(refusal) => refusal.into(),
        other => Refusal::NotUnderstood(format!("the keeper's answer: {other:?}")).into(),
    }
}

impl KeeperPort for Keeper {
    fn start(&self, launch: Launch, grant: Grant) -> KeeperAnswer<'_, Started> {
        let answer = self.ask(Order::Start { launch: Box::new(launch), grant });
        Box::pin(async move {
            match answer.await {
                Answer::Running { process, adopted, as_ordered } => Ok(Started { process, adopted, as_ordered }),
                other => Err(unexpected(other)),
            }
        })
    }

    fn stop<'a>(&'a self, instance: &'a InstanceId, signal: i32, grace: Duration) -> KeeperAnswer<'a, Stopped> {
        let grace_ms = u64::try_from(grace.as_millis()).unwrap_or(u64::MAX);
        let answer = self.ask(Order::Stop { instance: instance.clone(), signal, grace_ms });
        Box::pin(async move {
            match answer.await {
                Answer::Stopped { exit, killed } => Ok(Stopped { exit, killed }),
                other => Err(unexpected(other)),
            }
        })
    }

    fn survey(&self) -> KeeperAnswer<'_, Survey> {
        let answer = self.ask(Order::Survey);
        Box::pin(async move {
            match answer.await {
                Answer::Survey(survey) => Ok(*survey),
                other => Err(unexpected(other)),
            }
        })
    }

    fn listen<'a>(&'a self, name: &'a str, address: SocketAddr) -> KeeperAnswer<'a, SocketAddr> {
        let answer = Keeper::listen(self, name.to_owned(), address, false);
        Box::pin(async move { Ok(answer.await?) })
    }

    fn unlisten<'a>(&'a self, name: &'a str) -> KeeperAnswer<'a, ()> {
        let answer = Keeper::unlisten(self, name.to_owned());
        Box::pin(async move {
            match answer.await {
                Answer::Done => Ok(()),
                other => Err(unexpected(other)),
            }
        })
    }
}

/// For commands that only read what a provider offers while no keeper runs.
pub struct NoKeeper;

impl NoKeeper {
    fn nobody<T: Send + 'static>() -> KeeperAnswer<'static, T> {
        Box::pin(async { Err(KeeperError::Lost("no keeper runs".to_owned())) })
    }
}

impl KeeperPort for NoKeeper {
    fn start(&self, _: Launch, _: Grant) -> KeeperAnswer<'_, Started> {
        Self::nobody()
    }

    fn stop<'a>(&'a self, _: &'a InstanceId, _: i32, _: Duration) -> KeeperAnswer<'a, Stopped> {
        Self::nobody()
    }

    fn survey(&self) -> KeeperAnswer<'_, Survey> {
        Self::nobody()
    }

    fn listen<'a>(&'a self, _: &'a str, _: SocketAddr) -> KeeperAnswer<'a, SocketAddr> {
        Self::nobody()
    }

    fn unlisten<'a>(&'a self, _: &'a str) -> KeeperAnswer<'a, ()> {
        Self::nobody()
    }
}
