//! What others bought from this estate, and who uses it.
//!
//! Invariant: what was sold stays until its sale has ended, whatever the estate file says.

use std::sync::Arc;

use ostler_model::estate::Service;
use ostler_model::ids::{InstanceId, ServiceName};
use ostler_model::sale::{Guest, Sale};

use super::index::{for_each_instance_of, with_service};
use super::{end_with, leave_alone, outcome, try_again, try_service_again};
use crate::knowledge::{Ending, Knowledge, Origin, ServiceKnowledge};

pub(super) fn sell(known: &mut Knowledge, spec: &Arc<Service>, sale: &Arc<Sale>) {
    let name = &spec.name;
    if let Some(former) = known.services.get_mut(name) {
        let delivered = matches!(former.origin, Origin::Sold { delivered: true, .. });
        former.origin = Origin::Sold { sale: sale.clone(), delivered };
        if former.spec.endpoint != spec.endpoint {
            former.endpoint.trouble = None;
        }
        if former.spec != *spec {
            try_service_again(former);
            known.reassign(name, |former| former.spec = spec.clone());
            for_each_instance_of(known, name, try_again);
        }
        return;
    }
    let origin = Origin::Sold { sale: sale.clone(), delivered: false };
    let service = ServiceKnowledge { origin, ..ServiceKnowledge::new(spec.clone()) };
    known.services.insert(name.clone(), Box::new(service));
}

/// What was bought is there for the first time.
pub(super) fn deliver(known: &mut Knowledge, id: &InstanceId) {
    let is_ready = known.instance(id).is_some_and(|instance| instance.is_ready());
    if let Some(service) = known.services.get_mut(id.service()).filter(|_| is_ready)
        && let Origin::Sold { delivered, .. } = &mut service.origin
    {
        *delivered = true;
    }
}

pub(super) fn admit(known: &mut Knowledge, name: &ServiceName, guest: &Arc<Guest>) {
    let Some(sold) = known.services.get(&guest.sold) else { return };
    let mut spec = Service::new(name.clone(), sold.spec.offering.clone());
    spec.instances = 0;
    spec.needs.insert(guest.sold.clone());
    known.consumers.entry(guest.sold.clone()).or_default().insert(name.clone());
    let origin = Origin::Guest(guest.clone());
    let service = ServiceKnowledge { origin, ..ServiceKnowledge::new(Arc::new(spec)) };
    known.services.insert(name.clone(), Box::new(service));
}

/// With what was sold go those who use it.
pub(super) fn end(known: &mut Knowledge, name: &ServiceName) {
    let mut ended = vec![name.clone()];
    if let Some(Origin::Sold { .. }) = known.services.get(name).map(|service| &service.origin) {
        ended.extend(known.consumers.get(name).into_iter().flatten().cloned());
    }
    for_each_instance_of(known, name, leave_alone);
    for name in ended.iter().rev() {
        with_service(known, name, |service| {
            service.declared = false;
            try_service_again(service);
            end_with(service, Ending::Delete);
        });
        outcome::remove_if_gone(known, name);
    }
}
