//! The broker side of the Open Service Broker API 2.17: what `[provide]` in the estate file sells.
//!
//! An instance that is sold is a service of this estate like any other: the manager makes it, probes it, heals it, and
//! knows it again after everything of ostler was killed. A binding is a guest: a consumer of which nothing runs here.
//! Their names follow from who bought them and what the buyer calls them, so nothing has to be remembered twice, and no
//! buyer can touch what another one bought.

use std::sync::Arc;
use std::time::Duration;

use ostler_manager::{Ask, Event, Origin};
use ostler_model::estate::Estate;
use ostler_model::ids::ServiceName;
use ostler_runtime::clock;
use ostler_runtime::daemon::Loop;
use ostler_runtime::selling::Selling;
use tokio::task::JoinSet;

use self::door::Door;

mod answer;
mod bindings;
mod catalog;
mod door;
mod instances;
mod known;
mod names;

/// How often bindings that have expired are looked for, and a door that could not be opened is tried again.
const ROUND: Duration = Duration::from_secs(10);

/// Sells what the estate declares to be sold, for as long as it does, and whatever it declares at the time. Where it
/// stands is written into `selling`.
pub async fn run(handle: Loop, selling: Selling) {
    let mut changes = handle.changes();
    let mut opened: Option<(Arc<Estate>, JoinSet<()>)> = None;
    loop {
        changes.mark_unchanged();
        let estate = handle.known(|known| known.estate.clone().filter(|_| !known.down)).await;
        let estate = estate.filter(|estate| estate.provide.is_some());
        let is_same = match (&opened, &estate) {
            (Some((former, _)), Some(estate)) => same_door(former, estate),
            (None, None) => true,
            _ => false,
        };
        if !is_same {
            drop(opened.take()); // and with it its listener, before another is opened
            selling.set(None);
        }
        if let (None, Some(estate)) = (&opened, estate) {
            match Door::open(handle.clone(), &estate).await {
                Ok(door) => {
                    selling.set(Some(Ok(door.url())));
                    let mut tasks = JoinSet::new();
                    tasks.spawn(door.serve());
                    opened = Some((estate, tasks));
                }
                Err(why) => selling.set(Some(Err(why))),
            }
        }
        end_expired(&handle).await;
        // At most so often, however much changes; and in the end also when nothing does.
        let pause = async {
            tokio::time::sleep(Duration::from_millis(200)).await;
            drop(changes.changed().await);
        };
        drop(tokio::time::timeout(ROUND, pause).await);
    }
}

/// Whether the same door serves both: what is not about the door is looked up with each request.
fn same_door(former: &Estate, now: &Estate) -> bool {
    former.provide == now.provide && former.folder == now.folder
}

async fn end_expired(handle: &Loop) {
    let now = clock::now();
    let expired: Vec<ServiceName> = handle
        .known(move |known| {
            let is_over = |origin: &Origin| match origin {
                Origin::Guest(guest) => guest.expires.is_some_and(|expires| expires <= now),
                Origin::Declared | Origin::Sold { .. } => false,
            };
            let over = known.services.iter().filter(|(_, service)| service.declared && is_over(&service.origin));
            over.map(|(name, _)| name.clone()).collect()
        })
        .await;
    for service in expired {
        handle.tell(Event::Asked(Ask::EndSale { service }));
    }
}
