//! What people ask for: an estate file, and orders by name. What makes no sense is refused with the reason.

use std::collections::BTreeMap;
use std::sync::Arc;

use ostler_model::catalog::Catalog;
use ostler_model::estate::{Estate, INSTANCES_MAX};
use ostler_model::ids::ProviderName;

use super::Draft;
use crate::event::{Ask, Scope};
use crate::evolve::{all_with_bought, with_withdrawn};
use crate::fact::FactKind;
use crate::knowledge::{Instance, Knowledge, Origin, Phase, ServiceKnowledge};
use crate::overrides::whose;
use crate::place::{place, place_one};
use crate::vault::{BY_HAND_MAX, FOR_BUYER, SCHEDULED};

/// The longest name of an instance that is taken over.
const ADOPTED_BYTES_MAX: usize = 1024;

impl Draft<'_> {
    pub(super) fn estate_given(&mut self, estate: &Arc<Estate>, catalogs: &BTreeMap<ProviderName, Arc<Catalog>>) {
        let placements = match place(self.known, estate, catalogs, self.now) {
            Ok(placements) => placements,
            Err(problems) => {
                for problem in problems {
                    self.refuse(&problem.service, format!("{}; {}", problem.cause, problem.remedy));
                }
                return;
            }
        };
        let known = self.known;
        // Whoever gives the same file again may have freed an address; and a scale that was asked for is undone.
        let in_vain = |service: &ServiceKnowledge| service.declared && service.endpoint.trouble.is_some();
        let undone = |service: &ServiceKnowledge| service.scale.is_some() || in_vain(service);
        if known.estate.as_ref() != Some(estate) || known.down || known.services.values().any(|service| undone(service))
        {
            self.fact(FactKind::EstateDeclared { estate: estate.clone() });
        }
        for (provider, catalog) in catalogs {
            if known.catalogs.get(provider) != Some(&with_withdrawn(known, provider, catalog)) {
                self.fact(FactKind::CatalogSeen { provider: provider.clone(), catalog: catalog.clone() });
            }
        }
        for (service, placement) in placements {
            if known.services.get(&service).and_then(|service| service.placement.as_ref()) != Some(&placement) {
                self.fact(FactKind::ServicePlaced { service: service.clone(), placement });
            }
        }
        let offered = all_with_bought(known, catalogs);
        for name in estate.services.keys() {
            self.weigh_place(estate, &offered, name);
        }
        for service in known.services.values().filter(|service| matches!(service.origin, Origin::Sold { .. })) {
            // What was sold stays where it is; a version that is gone from there is followed by its successor.
            let placement =
                place_one(known, estate, &offered, &service.spec, service.placement.as_ref(), &[], self.now).ok();
            if let Some(placement) = placement.filter(|placement| service.placement.as_ref() != Some(placement)) {
                self.fact(FactKind::ServicePlaced { service: service.spec.name.clone(), placement });
            }
        }
        self.decision.look.extend(estate.services.keys().cloned().map(Scope::Service));
        self.decision.look.extend(
            known.services.keys().filter(|name| !estate.services.contains_key(*name)).cloned().map(Scope::Service),
        );
    }

    /// Nothing is moved because of a new catalog; but what is read from it may be another now.
    pub(super) fn catalog_read(&mut self, provider: &ProviderName, catalog: &Arc<Catalog>) {
        let known = self.known;
        let declared = known.estate.as_ref().is_some_and(|estate| estate.providers.contains_key(provider));
        if !declared || known.catalogs.get(provider) == Some(&with_withdrawn(known, provider, catalog)) {
            return;
        }
        self.fact(FactKind::CatalogSeen { provider: provider.clone(), catalog: catalog.clone() });
        let bought =
            |service: &ServiceKnowledge| Knowledge::places(service).any(|placement| placement.provider == *provider);
        let services =
            known.services.values().filter(|service| bought(service)).map(|service| service.spec.name.clone());
        self.decision.look.extend(services.map(Scope::Service));
    }

    /// What is refused is told by whoever takes the request, as it is no service's: see `Knowledge::credit_refusal`.
    fn credit_asked(&mut self, ask: &Ask) {
        let Ask::Credit { provider, month, step, by, note } = ask else { return };
        let written = (by.as_str(), note.as_deref());
        let is_known = self.known.knows_credit(provider, *month, step, written.1);
        if is_known || self.known.credit_refusal(provider, *month, step, written).is_some() {
            return;
        }
        let (provider, step) = (provider.clone(), step.clone());
        self.fact(FactKind::ServiceCredit { provider, month: *month, step, by: by.clone(), note: note.clone() });
    }

    pub(super) fn asked(&mut self, ask: &Ask) {
        let service = match ask {
            Ask::Credit { .. } => return self.credit_asked(ask),
            Ask::Sell { spec, sale } => return self.sell(spec, sale),
            Ask::Admit { service, guest } => return self.admit(service, guest),
            Ask::EndSale { service } => return self.end_sale(service),
            Ask::Drill { service, fault, lasts, despite } => {
                return self.drill_asked(service, *fault, *lasts, despite.as_ref());
            }
            Ask::Override { instruction, owner, reason, until } => {
                return self.override_asked(instruction, owner, reason, *until);
            }
            Ask::EndOverride { id, owner, reason } => return self.end_override_asked(*id, owner, reason),
            Ask::Upgrade { service, to, despite } => {
                return self.upgrade_asked(service.as_ref(), to.as_ref(), despite.as_ref());
            }
            Ask::Down => {
                if !self.known.down {
                    self.fact(FactKind::DownAsked);
                }
                return self.look_at_all();
            }
            Ask::Restart { service }
            | Ask::Scale { service, .. }
            | Ask::Delete { service }
            | Ask::Backup { service, .. }
            | Ask::Release { service }
            | Ask::Adopt { service, .. }
            | Ask::FailOver { service, .. }
            | Ask::FailBack { service }
            | Ask::Prove { service, .. }
            | Ask::DropBackup { service, .. }
            | Ask::Rollback { service, .. }
            | Ask::Bring { service, .. }
            | Ask::Restore { service, .. } => service,
            Ask::Discard { instance } => instance.service(),
            Ask::Settle { leftover, .. } => leftover.instance.service(),
        };
        let Some(known) = self.known.services.get(service).filter(|service| !service.is_guest()) else {
            return self.refuse(service, format!("there is no service `{service}`"));
        };
        let of_move = match ask {
            Ask::FailOver { to, accept_loss, .. } => Some(self.fail_over(known, to.as_ref(), *accept_loss)),
            Ask::FailBack { .. } => Some(self.fail_back(known)),
            Ask::Discard { instance } => Some(self.discard(known, instance)),
            Ask::Rollback { accept_loss, .. } => Some(self.roll_back(known, *accept_loss)),
            _ => None,
        };
        if let Some(Err(why)) = of_move {
            return self.refuse(service, why);
        }
        match (ask, self.refusal(known, ask)) {
            (_, Some(why)) => return self.refuse(service, why),
            (Ask::FailOver { .. } | Ask::FailBack { .. } | Ask::Discard { .. } | Ask::Rollback { .. }, None) => {}
            (Ask::Down | Ask::Sell { .. } | Ask::Admit { .. } | Ask::EndSale { .. }, None) => {}
            (
                Ask::Drill { .. }
                | Ask::Upgrade { .. }
                | Ask::Credit { .. }
                | Ask::Override { .. }
                | Ask::EndOverride { .. },
                None,
            ) => {}
            (Ask::Restart { service }, None) => self.fact(FactKind::RestartAsked { service: service.clone() }),
            (Ask::Scale { service, instances }, None) => {
                self.fact(FactKind::ScaleAsked { service: service.clone(), instances: *instances });
            }
            (Ask::Delete { service }, None) => self.fact(FactKind::DeleteAsked { service: service.clone() }),
            (Ask::Release { service }, None) => self.fact(FactKind::ReleaseAsked { service: service.clone() }),
            (Ask::Adopt { name, .. }, None) => {
                let instance = known.instance_id(self.number_to_adopt(known));
                self.fact(FactKind::InstanceAdopted { instance, name: name.clone() });
            }
            (Ask::Settle { leftover, how }, None) => {
                self.fact(FactKind::SettleAsked { leftover: leftover.clone(), how: *how });
            }
            (Ask::Backup { service, name }, None) => {
                self.fact(FactKind::BackupAsked { service: service.clone(), name: name.clone() });
            }
            (Ask::Prove { service, name }, None) => {
                let newest = || known.newest_good().map(|(_, made)| made.name.clone()).unwrap_or_default();
                let name = name.clone().unwrap_or_else(newest);
                // The schedule may just have asked for the same: whoever waits for it sees what comes of it.
                if known.vault().proof_wanted.as_ref() != Some(&name) {
                    self.fact(FactKind::ProofAsked { service: service.clone(), name });
                }
            }
            (Ask::DropBackup { service, name }, None) => {
                let (service, name) = (service.clone(), name.clone());
                let was_passing = name.starts_with(FOR_BUYER);
                let why = if was_passing { "it was on its way to or from its buyer" } else { "a person asked for it" };
                self.fact(FactKind::BackupDropped { service, name, why: why.to_owned() });
            }
            (Ask::Bring { service, backup }, None) => {
                self.fact(FactKind::BackupBrought { service: service.clone(), backup: backup.clone() });
            }
            (Ask::Restore { service, name }, None) => {
                self.fact(FactKind::RestoreAsked { service: service.clone(), name: name.clone() });
            }
        }
        self.look(Scope::Service(service.clone()));
    }

    /// Why nothing more may be bought where the service is.
    fn forbidden(&self, service: &ServiceKnowledge) -> Option<String> {
        let provider = &service.placement.as_ref()?.provider;
        let found = self.standing().forbids(provider)?;
        Some(format!("nothing new is bought from {provider}, by {}", whose(found)))
    }

    /// An instance that is declared and was not made yet; otherwise one more.
    fn number_to_adopt(&self, service: &ServiceKnowledge) -> u32 {
        let free = service.instances.iter().find(|(_, instance)| {
            let unmade = instance.phase == Phase::Declared && instance.attempts.number().is_none();
            unmade && !instance.retired && instance.operation.is_none()
        });
        let highest = self.known.numbers.get(&service.spec.name).copied().unwrap_or(0);
        free.map_or_else(|| highest.saturating_add(1), |(number, _)| *number)
    }

    fn refusal_to_adopt(&self, service: &ServiceKnowledge, provider: &ProviderName, adopted: &str) -> Option<String> {
        let name = &service.spec.name;
        if !self.known.is_unrepeatable(service) {
            return Some(format!("`{name}` is not bought at a broker, so there is nothing to take over"));
        }
        let bought_at = service.placement.as_ref().map(|placement| &placement.provider);
        if let Some(other) = bought_at.filter(|bought_at| *bought_at != provider) {
            return Some(format!("`{name}` is bought at {other}: set `prefer = [\"{provider}\"]` before it is made"));
        }
        let has_room = service.instances.contains_key(&self.number_to_adopt(service));
        if !has_room && self.known.is_durable(service) {
            return Some(format!(
                "`{name}` has its instances already, and callers would be spread over different data: declare a service \
                 with `adopt = [\"{adopted}\"]` instead"
            ));
        }
        if adopted.is_empty() || adopted.len() > ADOPTED_BYTES_MAX || adopted.chars().any(char::is_control) {
            return Some("that is no name of an instance".to_owned());
        }
        let mut all = self.known.services.values().flat_map(|s| s.instances.iter().map(move |(n, i)| (s, n, i)));
        let owner = all.find(|(_, _, instance)| instance.adopted.as_deref() == Some(adopted));
        owner.map(|(service, number, _)| format!("{} is that instance already", service.instance_id(*number)))
    }

    /// What a move left where nobody else would look after it cannot be left to its provider.
    fn refusal_to_release(&self, service: &ServiceKnowledge) -> Option<String> {
        let is_here =
            |i: &Instance| i.is_fenced() && !self.known.offering_of(service, i).is_some_and(|o| o.actions.unrepeatable);
        let (number, _) = service.instances.iter().find(|(_, instance)| is_here(instance))?;
        let id = service.instance_id(*number);
        Some(format!(
            "{id}, which a move left, is not bought elsewhere: `ostler discard {id}` first, or keep `{}`",
            id.service()
        ))
    }

    /// Why what was asked of this service cannot be done.
    fn refusal(&self, service: &ServiceKnowledge, ask: &Ask) -> Option<String> {
        let name = &service.spec.name;
        let can_back_up = || self.known.offering(service).is_some_and(|offering| offering.actions.backup);
        let resting = self.known.down || !service.declared;
        match ask {
            Ask::Down | Ask::Sell { .. } | Ask::Admit { .. } | Ask::EndSale { .. } | Ask::Drill { .. } => None,
            // They look for themselves.
            Ask::FailOver { .. } | Ask::FailBack { .. } | Ask::Discard { .. } => None,
            Ask::Upgrade { .. }
            | Ask::Rollback { .. }
            | Ask::Credit { .. }
            | Ask::Override { .. }
            | Ask::EndOverride { .. } => None,
            Ask::Release { .. } if !self.known.is_unrepeatable(service) => {
                Some(format!("`{name}` is not bought elsewhere: nobody would look after it"))
            }
            Ask::Release { .. } if resting => self.refusal_to_release(service),
            Ask::Release { .. } => Some(format!(
                "`{name}` is declared and in use: take it out of the estate file, or stop the estate, first"
            )),
            Ask::Adopt { .. } if resting => Some(format!("`{name}` is stopped: `ostler up` starts it")),
            Ask::Adopt { provider, name: adopted, .. } => self.refusal_to_adopt(service, provider, adopted),
            Ask::Settle { leftover, .. } => match service.leftovers.get(leftover) {
                Some(found) if found.quarantined.is_some() => None,
                Some(_) => Some(format!("{leftover} is being deleted already")),
                None => Some(format!("nothing that was asked for as {leftover} is in quarantine")),
            },
            Ask::Restart { .. } if resting => Some(format!("`{name}` is stopped: `ostler up` starts it")),
            Ask::Restart { .. } => None,
            Ask::Scale { .. } if resting => Some(format!("`{name}` is stopped: `ostler up` starts it")),
            Ask::Scale { instances: 0, .. } => Some("a service has at least one instance".to_owned()),
            Ask::Scale { instances, .. } if *instances > INSTANCES_MAX => {
                Some(format!("a service has at most {INSTANCES_MAX} instances"))
            }
            Ask::Scale { instances, .. } if *instances > service.wanted_instances() && self.forbidden(service).is_some() => {
                self.forbidden(service)
            }
            Ask::Scale { instances, .. } => self
                .known
                .offering(service)
                .and_then(|offering| offering.instances_max)
                .filter(|most| instances > most)
                .map(|most| format!("`{}` can have at most {most} here", service.spec.offering)),
            Ask::Delete { .. } if resting || service.origin != Origin::Declared => None,
            Ask::Delete { .. } => {
                Some(format!("`{name}` is declared and in use: take it out of the estate file, or stop the estate, first"))
            }
            Ask::Bring { backup, .. } if !backup.name.starts_with(FOR_BUYER) => {
                Some(format!("`{}` is no name of what a buyer brings", backup.name))
            }
            Ask::Bring { .. } if !matches!(service.origin, Origin::Sold { .. }) => {
                Some(format!("`{name}` was not sold to anybody"))
            }
            Ask::Bring { backup, .. } if service.backups.iter().any(|(_, made)| made.name == backup.name) => {
                Some(format!("`{name}` has a backup `{}` already", backup.name))
            }
            Ask::Backup { .. } | Ask::Restore { .. } | Ask::Bring { .. } if resting => {
                Some(format!("`{name}` is stopped: its data can be backed up and restored while it runs"))
            }
            Ask::Backup { .. } | Ask::Restore { .. } | Ask::Bring { .. } if service.moving.is_some() => {
                Some(format!("`{name}` is being moved: its data can be backed up and restored when that is over"))
            }
            Ask::Prove { .. } | Ask::DropBackup { .. } if resting => {
                Some(format!("`{name}` is stopped: `ostler up` starts it"))
            }
            Ask::Backup { .. } | Ask::Bring { .. } if !can_back_up() => {
                Some(format!("`{}` has no data that can be backed up", service.spec.offering))
            }
            Ask::Bring { backup, .. } if !is_backup_name(&backup.name) => Some("that is no name of a backup".to_owned()),
            Ask::Bring { .. } => None,
            Ask::Backup { .. } if service.backup_wanted.is_some() => {
                Some(format!("a backup of `{name}` is being made already"))
            }
            Ask::Backup { name: backup, .. } if service.backups.iter().any(|(_, made)| &made.name == backup) => {
                Some(format!("`{name}` has a backup `{backup}` already: choose another name"))
            }
            Ask::Backup { name: backup, .. } if service.vault().dropping.contains_key(backup) => {
                Some(format!("a backup `{backup}` of `{name}` is being deleted: choose another name"))
            }
            Ask::Backup { name: backup, .. } if !is_backup_name(backup) => Some(
                "a backup's name has 1 to 63 letters, digits, hyphens, underscores and dots, and begins with a letter or \
                 a digit"
                    .to_owned(),
            ),
            Ask::Backup { name: backup, .. } if backup.starts_with(SCHEDULED) => Some(format!(
                "backups whose names begin with `{SCHEDULED}` are made by the schedule: choose another name"
            )),
            Ask::Backup { .. } if service.made_by_hand() >= BY_HAND_MAX => Some(format!(
                "`{name}` has {BY_HAND_MAX} backups that were made by hand: `ostler backup {name} --drop NAME` deletes one"
            )),
            Ask::Backup { .. } => None,
            Ask::Prove { name: asked, .. }
                if service.vault().proof_wanted.as_ref().is_some_and(|wanted| asked.as_ref() != Some(wanted)) =>
            {
                Some(format!("a restore of `{name}` is being proven already"))
            }
            Ask::Prove { .. } if !self.known.offering(service).is_some_and(|offering| offering.actions.prove) => {
                Some(format!("a restore of `{}` cannot be proven on this machine", service.spec.offering))
            }
            Ask::Prove { name: Some(backup), .. } => no_such_backup(service, backup),
            Ask::Prove { name: None, .. } if service.newest_good().is_none() => {
                Some(format!("`{name}` has no backup that is good"))
            }
            Ask::Prove { name: None, .. } => None,
            Ask::DropBackup { name: backup, .. } => {
                no_such_backup(service, backup).or_else(|| self.known.why_kept(service, backup))
            }
            Ask::Restore { name: backup, .. } => no_such_backup(service, backup),
        }
    }
}

fn no_such_backup(service: &ServiceKnowledge, backup: &str) -> Option<String> {
    if service.backups.iter().any(|(_, made)| made.name == backup) {
        return None;
    }
    let names: Vec<&str> = service.backups.iter().rev().take(5).map(|(_, made)| made.name.as_str()).collect();
    let name = &service.spec.name;
    let backup: String = backup.chars().take(80).collect();
    Some(match names.as_slice() {
        [] => format!("`{name}` has no backups"),
        names => format!("`{name}` has no backup `{backup}`; its newest are: {}", names.join(", ")),
    })
}

/// Names of backups become names of files.
fn is_backup_name(name: &str) -> bool {
    name.len() <= 63
        && name.starts_with(|c: char| c.is_ascii_alphanumeric())
        && name.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.'))
}
