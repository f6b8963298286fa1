//! One look at a service or an instance: what is the next thing to do to bring it to what is wanted?
//!
//! Invariant: each step is decided from the full state, takes one step, and makes its own reason go away. On a settled
//! estate a look gives nothing.

mod drill;
mod failover;
mod instance;
mod level;
mod overrides;
mod service;
mod treat;
mod upgrade;
mod vault;

use crate::decide::Draft;
use crate::event::Scope;

pub(crate) use self::failover::{lost_in_words, tried as tried_by};
pub(crate) use self::service::backup_name;
pub(crate) use self::upgrade::look_for_newer;

/// Looks at `scope`.
pub(crate) fn look(draft: &mut Draft<'_>, scope: &Scope) {
    let Some(known) = draft.known.services.get(scope.service()) else { return };
    // Before anything else: what a drill has caused must not outlive it.
    if drill::follow(draft, known) {
        return draft.look(scope.clone());
    }
    // What would be without an override is kept true beside what is.
    if overrides::follow(draft, known) {
        return draft.look(scope.clone());
    }
    match scope {
        Scope::Service(_) => {
            overrides::wake_at_ends(draft, known);
            drill::schedule(draft, known);
            level::look(draft, known);
            service::look(draft, known);
        }
        Scope::Instance(id) => {
            if let Some(found) = known.instances.get(&id.number()) {
                instance::look(draft, known, id, found);
            }
        }
    }
}
