//! What the manager knows of what was sold, in the words of the specification.

use std::sync::Arc;
use std::time::Duration;

use ostler_manager::{BindingState, Instance, Knowledge, Origin, ServiceKnowledge};
use ostler_model::ids::{BindingId, ServiceName};
use ostler_model::sale::{Guest, Sale};
use ostler_model::version::Version;
use ostler_runtime::daemon::Loop;

/// An instance that was sold.
pub(super) struct Sold {
    pub(super) sale: Arc<Sale>,
    pub(super) version: Option<Version>,
    pub(super) state: SoldState,
}

/// What is being done to an instance that was sold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum SoldState {
    /// It is being made; or that has failed, and a person has to see to it.
    Making { failed: bool },
    /// It was delivered.
    There,
    /// It is being changed; or that has failed.
    Changing { failed: bool },
    /// It is being deleted; or that has failed.
    Going { failed: bool },
}

impl Sold {
    pub(super) fn of(known: &Knowledge, name: &ServiceName) -> Option<Self> {
        let service = known.services.get(name)?;
        let Origin::Sold { sale, delivered } = &service.origin else { return None };
        let state = match (service.declared, delivered) {
            (false, _) => SoldState::Going { failed: is_held(service) },
            (true, false) => SoldState::Making { failed: is_held(service) },
            (true, true) if is_as_sold(service) => SoldState::There,
            (true, true) => SoldState::Changing { failed: is_held(service) },
        };
        let version = service.placement.as_ref().and_then(|placement| placement.version.clone());
        Some(Self { sale: sale.clone(), version, state })
    }
}

/// It waits for a person.
fn is_held(service: &ServiceKnowledge) -> bool {
    service.instances.values().any(|instance| instance.held.is_some())
}

/// What runs is what was last sold. That it is being healed is no operation of the buyer's.
fn is_as_sold(service: &ServiceKnowledge) -> bool {
    let defined = service.launch().is_some_and(|launch| Some(&launch.placement) == service.placement.as_ref());
    let is_current = |instance: &Instance| instance.generation == Some(service.generation);
    defined && service.instances.values().all(|instance| is_current(instance))
}

/// A binding of something that was sold.
pub(super) struct Admitted {
    pub(super) guest: Arc<Guest>,
    pub(super) id: BindingId,
    pub(super) state: AdmittedState,
}

/// What there is of a binding.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum AdmittedState {
    /// It is being made.
    Making,
    /// It is there, and its credentials are sealed.
    There,
    /// It is being ended.
    Going,
}

impl Admitted {
    pub(super) fn of(known: &Knowledge, name: &ServiceName) -> Option<Self> {
        let service = known.services.get(name)?;
        let Origin::Guest(guest) = &service.origin else { return None };
        let made = service.bindings.get(&guest.sold).is_some_and(|binding| binding.state == BindingState::Made);
        let state = match (service.declared, made) {
            (false, _) => AdmittedState::Going,
            (true, true) => AdmittedState::There,
            (true, false) => AdmittedState::Making,
        };
        Some(Self { guest: guest.clone(), id: service.binding_id(&guest.sold), state })
    }
}

/// What `question` says as soon as it says anything, or `None` after `within`.
pub(super) async fn wait<R: Send + 'static>(
    handle: &Loop,
    within: Duration,
    question: impl Fn(&Knowledge) -> Option<R> + Clone + Send + 'static,
) -> Option<R> {
    let mut changes = handle.changes();
    let answered = async {
        loop {
            changes.mark_unchanged();
            if let Some(answer) = handle.known(question.clone()).await {
                return Some(answer);
            }
            if changes.changed().await.is_err() {
                return None; // the process is ending
            }
        }
    };
    tokio::time::timeout(within, answered).await.unwrap_or(None)
}
