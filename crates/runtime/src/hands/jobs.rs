//! The jobs of the hands: one call to a provider each, and what comes of it.

use std::sync::Arc;
use std::time::Duration;

use ostler_journal::SealedChange;
use ostler_keeper::protocol::Refusal;
use ostler_manager::{Command, Knowledge, Outcome, ServiceKnowledge, Started};
use ostler_model::binding::Credentials;
use ostler_model::ids::{InstanceId, ProviderName, SecretId, ServiceName};
use ostler_model::outcome::{Failure, FailureClass};
use ostler_model::time::Timestamp;
use ostler_providers::{InstanceOrder, Progress, Provider, ReflexGrant};
use sha2::{Digest, Sha256};

use crate::{clock, prove};

pub(super) type Done = (Outcome, Vec<SealedChange>);
pub(super) type Job = std::pin::Pin<Box<dyn Future<Output = Done> + Send>>;

pub(super) struct Drain(pub(super) Option<std::pin::Pin<Box<dyn Future<Output = u64> + Send>>>);

impl Drain {
    pub(super) fn none() -> Self {
        Self(None)
    }

    async fn wait(self) -> u64 {
        match self.0 {
            Some(drain) => drain.await,
            None => 0,
        }
    }
}

pub(super) fn is_heavy(command: &Command) -> bool {
    matches!(
        command,
        Command::Provision { .. }
            | Command::Before { .. }
            | Command::Deprovision { .. }
            | Command::Bind { .. }
            | Command::Unbind { .. }
            | Command::Backup { .. }
            | Command::Restore { .. }
            | Command::Prove { .. }
    )
}

pub(super) fn answer(result: Result<Outcome, Failure>) -> Done {
    (result.unwrap_or_else(Outcome::Failed), Vec::new())
}

pub(super) fn done(result: Result<(), Failure>) -> Done {
    answer(result.map(|()| Outcome::Done))
}

pub(super) async fn prove_it(provider: Arc<dyn Provider>, order: InstanceOrder, look: Option<prove::Look>) -> Done {
    let Some(look) = look else {
        let detail = format!("cannot look at {}: it does not run any more", order.instance);
        let (class, remedy) = (FailureClass::Interrupted, "nothing: it is looked at again".to_owned());
        return (Outcome::Failed(Failure { class, detail, remedy }), Vec::new());
    };
    let proved = async {
        let checks = prove::take(look, provider.sight(&order).await?).await;
        provider.end_sight(&order).await?;
        Ok(Outcome::Proved { checks })
    };
    answer(proved.await)
}

pub(super) async fn provision(provider: Arc<dyn Provider>, order: InstanceOrder, progress: Progress) -> Done {
    match provider.provision(&order, progress).await {
        Ok(secret) => (Outcome::Done, vec![sealed(SecretId::of_instance(&order.instance), &secret)]),
        Err(failure) => (Outcome::Failed(failure), Vec::new()),
    }
}

pub(super) async fn start(provider: Arc<dyn Provider>, order: InstanceOrder, grant: ReflexGrant) -> Done {
    match provider.start(&order, grant).await {
        Ok(started) => {
            let secret = started.secret.iter().map(|secret| sealed(SecretId::of_instance(&order.instance), secret));
            let begun = Started { running: started.running, renew_at: started.renew_at };
            (Outcome::Started(begun), secret.collect())
        }
        Err(failure) => (Outcome::Failed(failure), Vec::new()),
    }
}

pub(super) async fn stop(provider: Arc<dyn Provider>, order: InstanceOrder, drain: Drain, grace: Duration) -> Done {
    let cut = drain.wait().await;
    answer(provider.stop(&order, grace).await.map(|stopped| Outcome::Stopped {
        exit: stopped.exit,
        killed: stopped.killed,
        cut,
    }))
}

pub(super) async fn deprovision(provider: Arc<dyn Provider>, order: InstanceOrder, progress: Progress) -> Done {
    match provider.deprovision(&order, progress).await {
        Ok(()) => (Outcome::Done, vec![SealedChange::delete(SecretId::of_instance(&order.instance))]),
        Err(failure) => (Outcome::Failed(failure), Vec::new()),
    }
}

pub(super) async fn release(provider: Arc<dyn Provider>, order: InstanceOrder) -> Done {
    match provider.release(&order).await {
        Ok(()) => (Outcome::Done, vec![SealedChange::delete(SecretId::of_instance(&order.instance))]),
        Err(failure) => (Outcome::Failed(failure), Vec::new()),
    }
}

pub(super) fn bound(id: SecretId, made: &Credentials, renew_at: Option<Timestamp>) -> Done {
    let change = sealed(id, made);
    // Only what the consumer is given: whatever else its provider needs to know of it is no reason to restart it.
    let content = serde_json::to_vec(&made.fields).expect("credentials have only string keys");
    // A password of 32 random characters is in it: the digest gives nothing away.
    let digest = Sha256::digest(&content).iter().take(16).map(|byte| format!("{byte:02x}")).collect();
    (Outcome::Bound { digest, renew_at }, vec![change])
}

pub(super) fn sealed(id: SecretId, made: &Credentials) -> SealedChange {
    SealedChange::set(id, serde_json::to_vec(made).expect("credentials have only string keys"))
}

/// A provider whose outage is drilled takes no orders.
pub(super) fn is_reachable(known: &Knowledge, name: &ProviderName) -> Result<(), Failure> {
    match known.is_out(name).filter(|until| clock::now() < *until) {
        None => Ok(()),
        Some(_) => Err(Failure {
            class: FailureClass::Temporary,
            detail: format!("{name} does not answer, as a drill has it"),
            remedy: "nothing: the drill ends by itself".to_owned(),
        }),
    }
}

pub(super) fn gone(name: &ProviderName) -> Failure {
    Failure {
        class: FailureClass::Temporary,
        detail: format!("the provider `{name}` is not in the estate file any more"),
        remedy: format!("declare `[provider.{name}]` again: what was bought there is still there"),
    }
}

pub(super) fn not_fenced(service: &ServiceName, why: &str) -> Failure {
    Failure {
        class: FailureClass::Temporary,
        detail: format!("cannot cut callers of {service} off from what it leaves: {why}"),
        remedy: "nothing: it is tried again".to_owned(),
    }
}

/// The instances of a service that a move has left.
pub(super) fn fenced(service: &ServiceKnowledge) -> impl Iterator<Item = InstanceId> {
    let left = service.instances.iter().filter(|(_, instance)| instance.is_fenced());
    left.map(|(number, _)| service.instance_id(*number))
}

pub(super) fn nowhere(service: &ServiceName) -> Failure {
    Failure {
        class: FailureClass::Interrupted,
        detail: format!("no estate declares {service} any more"),
        remedy: "nothing: it is looked at again".to_owned(),
    }
}

pub(super) fn not_open(service: &ServiceName, refusal: &Refusal) -> Failure {
    let remedy = match refusal {
        Refusal::CannotListen { address, .. } => format!(
            "stop whoever listens on {address}, or give `[service.{service}]` another `endpoint`; it is tried again"
        ),
        _ => "nothing: it is tried again".to_owned(),
    };
    Failure {
        class: FailureClass::Temporary,
        detail: format!("cannot open the endpoint of {service}: {refusal}"),
        remedy,
    }
}
