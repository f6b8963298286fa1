//! What people ask for about moves, and how a move begins.

use ostler_model::ids::{InstanceId, ProviderName};

use super::Draft;
use crate::event::Scope;
use crate::fact::FactKind;
use crate::failover::{Move, Terms, destination, from_backups, weigh};
use crate::knowledge::ServiceKnowledge;
use crate::moving::{Brings, Moving};
use crate::reconcile::tried_by;

impl Draft<'_> {
    /// Begins a move that can be made.
    pub(crate) fn begin_move(&mut self, service: &ServiceKnowledge, it: Move, why: String) {
        let name = service.spec.name.clone();
        let Move { to, brings, accepts_loss, .. } = it;
        self.fact(FactKind::MoveBegan { service: name.clone(), to, brings, accepts_loss, why });
        self.look(Scope::Service(name.clone()));
        self.look_at_consumers(&name);
    }

    /// A person wants it moved, or moved in another way.
    ///
    /// # Errors
    /// Why it is not.
    pub(super) fn fail_over(
        &mut self,
        service: &ServiceKnowledge,
        to: Option<&ProviderName>,
        accept_loss: bool,
    ) -> Result<(), String> {
        let Some(moving) = &service.moving else {
            let terms = Terms { asked: true, to: to.cloned(), accept_loss };
            let it = weigh(self.known, service, &terms, self.standing()).map_err(|why| why.in_words(self.now))?;
            self.forget_places(&service.spec.name);
            self.begin_move(service, it, "a person asked for it".to_owned());
            return Ok(());
        };
        if !moving.can_be_given_up() {
            return Err("its move is nearly over: wait until it is".to_owned());
        }
        let place = match to {
            None => None,
            Some(to) if *to == moving.to.provider => None,
            Some(to) => {
                let estate = self.known.estate.as_ref().ok_or("there is no estate")?;
                let mut not_at = tried_by(moving);
                not_at.remove(to); // a person may know that it is worth another attempt
                if *to == moving.from.provider {
                    return Err(format!("{to} is where it was: `ostler failover {} --back`", service.spec.name));
                }
                let place = destination(self.known, estate, service, Some(to), not_at, self.standing());
                Some(place.map_err(|why| why.in_words(self.now))?)
            }
        };
        if place.is_none() && moving.held.is_none() {
            return Err("it is being moved already".to_owned());
        }
        let (brings, bad) = self.data_for(service, moving, accept_loss)?;
        let why = "a person asked for it".to_owned();
        let name = service.spec.name.clone();
        self.fact(FactKind::MoveTurned { service: name, to: place, brings, bad, accepts_loss: accept_loss, why });
        Ok(())
    }

    /// What a move goes on with after a person's word, and what is no good.
    fn data_for(
        &self,
        service: &ServiceKnowledge,
        moving: &Moving,
        accept_loss: bool,
    ) -> Result<(Brings, Option<String>), String> {
        let failed = moving.trouble.is_some();
        let bad = match &moving.brings {
            Brings::Backup { made, .. } if failed && accept_loss => Some(made.name.clone()),
            Brings::Backup { .. } | Brings::Nothing | Brings::LastBackup | Brings::Kept { .. } => None,
        };
        if !accept_loss && (moving.brings != Brings::LastBackup || !failed) {
            return Ok((moving.brings.clone(), None)); // the same once more
        }
        if !self.known.is_durable(service) {
            return Ok((Brings::Nothing, None));
        }
        let all_bad = moving.bad.iter().cloned().chain(bad.clone()).collect();
        let brings = from_backups(service, accept_loss, &all_bad, moving.written_until())
            .map_err(|why| why.in_words(self.now))?;
        Ok((brings, bad))
    }

    /// A person wants it back where it was.
    ///
    /// # Errors
    /// Why it cannot go back.
    pub(super) fn fail_back(&mut self, service: &ServiceKnowledge) -> Result<(), String> {
        let moving = service.moving.as_ref().ok_or("it is not being moved")?;
        if moving.returns {
            return Err("it is being brought back already".to_owned());
        }
        if !moving.can_be_given_up() {
            return Err(format!(
                "its consumers use it at {} already: move it to {} again, with its data, once this is over",
                moving.to.provider, moving.from.provider
            ));
        }
        let kept = |number: &u32| service.instances.get(number).is_some_and(|instance| instance.ending.is_none());
        if !moving.leaves.iter().any(kept) {
            return Err("what it was is gone".to_owned());
        }
        self.fact(FactKind::MoveReturned { service: service.spec.name.clone() });
        Ok(())
    }

    /// A person wants what a move left to be deleted.
    ///
    /// # Errors
    /// Why it is not.
    pub(super) fn discard(&mut self, service: &ServiceKnowledge, id: &InstanceId) -> Result<(), String> {
        let instance = service.instances.get(&id.number()).ok_or_else(|| format!("there is no instance {id}"))?;
        if !instance.is_fenced() {
            return Err(format!("{id} is not what a move left: it serves"));
        }
        if service.moving.as_ref().is_some_and(|moving| moving.leaves.contains(&id.number())) {
            return Err(format!("{} is being moved from {id}, and may need it yet", service.spec.name));
        }
        let why = "a person asked for it".to_owned();
        self.fact(FactKind::InstanceDiscarded { instance: id.clone(), why });
        Ok(())
    }
}
