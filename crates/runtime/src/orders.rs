//! What a provider has to know of an instance, put together from what is known and from the sealed store.

use std::collections::BTreeMap;

use ostler_manager::{
    BindingState, Command, Instance, Knowledge, Launch, MadeAs, OperationKind, ServiceKnowledge, Target,
};
use ostler_model::binding::Credentials;
use ostler_model::ids::{AttemptId, BindingId, InstanceId, SecretId};
use ostler_model::outcome::{Failure, FailureClass};
use ostler_providers::{Accepted, AcceptedKind, Asks, Former, InstanceOrder, Need};

use crate::turn::Secrets;

/// The order for a command that is done to an instance, or to what an ask for one may have left behind.
///
/// # Errors
/// If it is done to neither, a secret cannot be unsealed, or something that the manager relies on is not known.
pub fn order_for(known: &Knowledge, secrets: &dyn Secrets, command: &Command) -> Result<InstanceOrder, Failure> {
    let instance = match command.target() {
        Target::Leftover(leftover) => return leftover_order(known, secrets, &leftover),
        Target::Instance(instance) => instance,
        Target::Endpoint(_) | Target::Vault(_) | Target::Drill(_) | Target::Nothing => {
            return Err(Failure {
                class: FailureClass::Interrupted,
                detail: format!("cannot put together an order to {}: it is done to no instance", command.in_words()),
                remedy: "nothing: it is looked at again".to_owned(),
            });
        }
    };
    let generation = match command {
        Command::Start { generation, .. } | Command::Before { generation, .. } | Command::Update { generation, .. } => {
            Some(*generation)
        }
        _ => None,
    };
    let mut order = instance_order(known, secrets, &instance, generation)?;
    match command {
        Command::Bind { binding, .. } => ask_for_binding(known, binding, &mut order),
        Command::Unbind { binding, .. } => order.asks.ends = asks_to_end(known, &instance, Some(binding)),
        Command::Tidy { binding, rounds, .. } => {
            order.asks.ends = rounds.iter().map(|round| (binding.clone(), *round)).collect();
        }
        Command::Deprovision { .. } | Command::Release { .. } => {
            order.asks.ends = asks_to_end(known, &instance, None);
        }
        _ => {}
    }
    Ok(order)
}

/// The order for `instance`: from `generation` of its service's launches, or from what is declared now if `None`.
fn instance_order(
    known: &Knowledge,
    secrets: &dyn Secrets,
    instance: &InstanceId,
    generation: Option<u32>,
) -> Result<InstanceOrder, Failure> {
    let missing = |what: &str| Failure {
        class: FailureClass::Interrupted,
        detail: format!("cannot put together the order for {instance}: {what} is not known any more"),
        remedy: "nothing: it is looked at again".to_owned(),
    };
    let estate = known.estate.as_ref().ok_or_else(|| missing("the estate"))?;
    let service = known.services.get(instance.service()).ok_or_else(|| missing("the service"))?;
    let launch = match generation {
        Some(generation) => Some(service.launches.get(&generation).ok_or_else(|| missing("the launch"))?),
        None => service.launch(),
    };
    let found = service.instances.get(&instance.number());
    // What is changed in place is what it was made, until it has been changed.
    let made_as = found.filter(|_| generation.is_none()).and_then(|found| found.made_as.as_ref());
    let left = found.and_then(|found| found.left.as_ref());
    let placement = left
        .map(|left| left.placement.clone())
        .or_else(|| made_as.map(|made| made.placement.clone()))
        .or_else(|| launch.map(|launch| launch.placement.clone()))
        .or_else(|| service.placement.clone())
        .ok_or_else(|| missing("where it is bought"))?;
    let plan_limits = known
        .catalogs
        .get(&placement.provider)
        .and_then(|catalog| catalog.offerings.get(&placement.offering))
        .and_then(|offering| offering.plans.iter().find(|plan| plan.name == placement.plan))
        .map(|plan| plan.limits)
        .unwrap_or_default();
    let spec = &service.spec;
    Ok(InstanceOrder {
        instance: instance.clone(),
        estate: estate.name.clone(),
        limits: launch.map_or(spec.limits, |launch| launch.limits).or(plan_limits),
        listen: launch.map_or(spec.listen, |launch| launch.listen),
        run: launch.map_or_else(|| spec.run.clone(), |launch| launch.run.clone()),
        before: launch.map_or_else(|| spec.before.clone(), |launch| launch.before.clone()),
        env: launch.map_or_else(|| spec.env.clone(), |launch| launch.env.clone()),
        folder: launch.map_or_else(|| estate.folder.clone(), |launch| launch.folder.clone()),
        needs: needs(known, secrets, service, launch.map(|launch| &**launch))?,
        secret: credentials(secrets, &SecretId::of_instance(instance))?.unwrap_or_default(),
        parameters: made_as
            .map(|made| &made.parameters)
            .or_else(|| launch.map(|launch| &launch.parameters))
            .unwrap_or(&spec.parameters)
            .clone(),
        former: found
            .and_then(|found| found.made_as.as_ref())
            .map(|made| &**made)
            .map(|MadeAs { placement, parameters, context }| Former {
                placement: placement.clone(),
                parameters: parameters.clone(),
                context: context.clone(),
            })
            .map(Box::new),
        context: estate.providers.get(&placement.provider).map(|p| p.context.clone()).unwrap_or_default(),
        asks: found.map(|found| Box::new(asks(known, found))).unwrap_or_default(),
        placement,
    })
}

/// How the instance was asked for.
fn asks(known: &Knowledge, instance: &Instance) -> Asks {
    let accepted = instance.accepted.as_ref().and_then(|accepted| {
        let kind = match accepted.kind {
            OperationKind::Provision => AcceptedKind::Provision,
            OperationKind::Update => AcceptedKind::Update,
            OperationKind::Deprovision => AcceptedKind::Deprovision,
            OperationKind::Observe
            | OperationKind::Before
            | OperationKind::Start
            | OperationKind::Stop
            | OperationKind::Bind
            | OperationKind::Backup
            | OperationKind::Restore
            | OperationKind::Prove => return None, // these are over, or done again
        };
        Some(Accepted { kind, operation: accepted.operation.clone(), since: accepted.since })
    });
    Asks {
        estate: known.uuid,
        attempt: instance.attempts.number(),
        made: instance.attempts.is_made(),
        adopted: instance.adopted.clone(),
        accepted,
        access: instance.access.number(),
        access_made: instance.access.is_made(),
        access_used: instance.access_used,
        ..Asks::default()
    }
}

/// The order for what an ask for an instance may have left behind.
///
/// # Errors
/// As [`order_for`].
pub fn leftover_order(known: &Knowledge, secrets: &dyn Secrets, id: &AttemptId) -> Result<InstanceOrder, Failure> {
    let order = instance_order(known, secrets, &id.instance, None)?;
    let leftover = known.services.get(id.instance.service()).and_then(|service| service.leftovers.get(id));
    let placement = leftover.map_or_else(|| order.placement.clone(), |leftover| leftover.placement.clone());
    let asks = Box::new(Asks { estate: known.uuid, attempt: Some(id.attempt), ..Asks::default() });
    Ok(InstanceOrder { placement, asks, ..order })
}

/// Fills in how the binding was asked for that is to be made.
fn ask_for_binding(known: &Knowledge, id: &BindingId, order: &mut InstanceOrder) {
    let Some(binding) = known.services.get(&id.consumer).and_then(|service| service.bindings.get(&id.need)) else {
        return;
    };
    order.asks.round = binding.rounds.number();
    order.asks.round_made = binding.rounds.is_made();
    let in_use = binding.state == BindingState::Made && binding.instance == order.instance;
    order.asks.predecessor = binding.used.filter(|_| in_use);
}

/// Every ask for a binding at this instance, by this consumer alone or by anybody.
fn asks_to_end(known: &Knowledge, instance: &InstanceId, of: Option<&BindingId>) -> Vec<(BindingId, u32)> {
    let need = instance.service();
    let mut ends = Vec::new();
    for consumer in known.consumers.get(need).into_iter().flatten() {
        let id = BindingId { consumer: consumer.clone(), need: need.clone() };
        if of.is_some_and(|only| *only != id) {
            continue;
        }
        let Some(binding) = known.services.get(consumer).and_then(|service| service.bindings.get(need)) else {
            continue;
        };
        let left = binding.left.iter().filter(|left| left.instance == *instance).map(|left| left.round);
        let current = binding.rounds.number().filter(|_| binding.asked_at.as_ref() == Some(instance));
        ends.extend(left.chain(current).map(|round| (id.clone(), round)));
    }
    if of.is_none()
        && let Some(found) = known.instance(instance)
    {
        let id = BindingId { consumer: need.clone(), need: need.clone() };
        let own = found.access_left.iter().copied().chain(found.access.number());
        ends.extend(own.map(|round| (id.clone(), round)));
    }
    ends
}

fn needs(
    known: &Knowledge,
    secrets: &dyn Secrets,
    service: &ServiceKnowledge,
    launch: Option<&Launch>,
) -> Result<BTreeMap<ostler_model::ids::ServiceName, Need>, Failure> {
    let mut needs = BTreeMap::new();
    for need in launch.into_iter().flat_map(|launch| launch.needs.keys()) {
        let id = SecretId::of_binding(&BindingId { consumer: service.spec.name.clone(), need: need.clone() });
        let Some(credentials) = credentials(secrets, &id)? else { continue };
        let placement = known.services.get(need).and_then(|needed| needed.placement.as_ref());
        let offering = placement.map_or_else(String::new, |placement| placement.offering.to_string());
        let provider = placement.map_or_else(String::new, |placement| placement.provider.to_string());
        needs.insert(need.clone(), Need { offering, provider, credentials });
    }
    Ok(needs)
}

/// The credentials that are sealed under `id`.
///
/// # Errors
/// If they cannot be unsealed or are no credentials.
pub fn credentials(secrets: &dyn Secrets, id: &SecretId) -> Result<Option<Credentials>, Failure> {
    let unusable = |why: String| Failure {
        class: FailureClass::NeedsPerson,
        detail: format!("cannot unseal `{id}`: {why}"),
        remedy: "restore a backup of the home (`ostler home restore`)".to_owned(),
    };
    let Some(value) = secrets.secret(id).map_err(|error| unusable(error.to_string()))? else { return Ok(None) };
    serde_json::from_slice(value.bytes()).map(Some).map_err(|_| unusable("its content is not credentials".to_owned()))
}
