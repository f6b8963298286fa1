//! What a provider has to know of an instance, put together from what is known and from the sealed store.

use std::collections::BTreeMap;

use ostler_manager::{Knowledge, Launch, ServiceKnowledge};
use ostler_model::binding::Credentials;
use ostler_model::ids::{BindingId, InstanceId, SecretId};
use ostler_model::outcome::{Failure, FailureClass};
use ostler_providers::{InstanceOrder, Need};

use crate::turn::Secrets;

/// The order for `instance`: from `generation` of its service's launches, or from what is declared now if `None`.
///
/// # Errors
/// If a secret cannot be unsealed, or something that the manager relies on is not known.
pub fn instance_order(
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
    let placement = launch
        .map(|launch| launch.placement.clone())
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
        placement,
    })
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
