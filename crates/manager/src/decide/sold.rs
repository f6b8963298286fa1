//! What others buy from this estate, and who uses it.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::Arc;

use ostler_model::estate::Service;
use ostler_model::estate::provide::{PortRange, Provide};
use ostler_model::ids::ServiceName;
use ostler_model::sale::{Guest, Sale};

use super::Draft;
use crate::event::Scope;
use crate::fact::FactKind;
use crate::knowledge::{Origin, ServiceKnowledge};
use crate::place::place_one;

impl Draft<'_> {
    /// Asked for again, it is nothing new; asked for otherwise, it is changed.
    pub(super) fn sell(&mut self, spec: &Arc<Service>, sale: &Arc<Sale>) {
        if let Err(why) = self.try_to_sell(spec, sale) {
            self.refuse(&spec.name, why);
        }
    }

    fn try_to_sell(&mut self, spec: &Arc<Service>, sale: &Arc<Sale>) -> Result<(), String> {
        let known = self.known;
        let (estate, provide) = known
            .estate
            .as_ref()
            .and_then(|estate| Some((estate, estate.provide.as_deref()?)))
            .filter(|_| !known.down)
            .ok_or("nothing is sold here now")?;
        let former = known.services.get(&spec.name);
        let sold = match former {
            None => None,
            Some(former) => match &former.origin {
                Origin::Sold { sale, .. } if former.declared => Some(sale),
                Origin::Sold { .. } => return Err("it is being given back".to_owned()),
                Origin::Declared | Origin::Guest(_) => return Err("the name is taken".to_owned()),
            },
        };
        let endpoint = match former {
            Some(former) => former.spec.endpoint,
            None => self.address_for_sold(provide)?,
        };
        let spec = Arc::new(Service { endpoint, ..(**spec).clone() });
        let current = former.and_then(|former| former.placement.as_ref());
        let placement =
            place_one(known, estate, &known.catalogs, &spec, current, &[], self.now).map_err(|(_, cause, _)| cause)?;
        let is_new = sold != Some(sale) || former.is_none_or(|former| former.spec != spec);
        if is_new {
            self.fact(FactKind::ServiceSold { spec: spec.clone(), sale: sale.clone() });
        }
        if current != Some(&placement) {
            self.fact(FactKind::ServicePlaced { service: spec.name.clone(), placement });
        }
        self.look(Scope::Service(spec.name.clone()));
        Ok(())
    }

    /// Where something more that is sold answers: `None` for wherever there is room.
    fn address_for_sold(&self, provide: &Provide) -> Result<Option<SocketAddr>, String> {
        let sold = self.known.services.values().filter(|service| matches!(service.origin, Origin::Sold { .. })).count();
        if sold >= provide.at_most as usize {
            return Err(format!("all {} instances that may be sold here are", provide.at_most));
        }
        let Some(range) = provide.endpoints else { return Ok(None) };
        let free = self.free_addresses(range).next();
        free.map(Some).ok_or_else(|| "no port is left for it".to_owned())
    }

    /// Those that nothing of this estate has.
    fn free_addresses(&self, range: PortRange) -> impl Iterator<Item = SocketAddr> {
        let services = || self.known.services.values();
        let declared = services().filter_map(|service| service.spec.endpoint);
        let taken: BTreeSet<SocketAddr> =
            services().filter_map(|service| service.endpoint.address).chain(declared).collect();
        range.addresses().filter(move |address| !taken.contains(address))
    }

    /// Where somebody else has the address that was to be sold, and nobody was told of it yet, another one is taken.
    pub(crate) fn somewhere_else(&self, service: &ServiceKnowledge) -> Option<FactKind> {
        let Origin::Sold { sale, delivered: false } = &service.origin else { return None };
        let (wanted, endpoint) = (service.spec.endpoint?, &service.endpoint);
        let range = self.known.estate.as_ref()?.provide.as_ref()?.endpoints?;
        if endpoint.open || endpoint.trouble.is_none() {
            return None;
        }
        // Those behind it first, so that in the end all are tried.
        let (before, behind): (Vec<_>, Vec<_>) = self.free_addresses(range).partition(|address| *address < wanted);
        let next = behind.into_iter().chain(before).next()?;
        let spec = Service { endpoint: Some(next), ..(*service.spec).clone() };
        Some(FactKind::ServiceSold { spec: Arc::new(spec), sale: sale.clone() })
    }

    pub(super) fn admit(&mut self, service: &ServiceName, guest: &Arc<Guest>) {
        let sold = self.known.services.get(&guest.sold).filter(|sold| sold.declared);
        let why = match (sold.map(|sold| &sold.origin), self.known.services.get(service).map(|known| &known.origin)) {
            (Some(Origin::Sold { .. }), None) => {
                self.fact(FactKind::GuestAdmitted { service: service.clone(), guest: guest.clone() });
                return self.look(Scope::Service(service.clone()));
            }
            (Some(_), Some(Origin::Guest(known))) if known == guest => return,
            (Some(_), Some(_)) => "the name is taken",
            (Some(_) | None, _) => "what is to be used was not sold",
        };
        self.refuse(service, why);
    }

    /// Asked for again, it is nothing new.
    pub(super) fn end_sale(&mut self, service: &ServiceName) {
        match self.known.services.get(service) {
            Some(known) if known.origin == Origin::Declared => self.refuse(service, "it was not sold"),
            Some(known) if known.declared => self.fact(FactKind::SaleEnded { service: service.clone() }),
            Some(_) | None => {}
        }
        self.look(Scope::Service(service.clone()));
        self.look_at_consumers(service);
    }
}
