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
use ostler_model::estate::provide::Provide;
use ostler_model::ids::ServiceName;
use ostler_runtime::clock;
use ostler_runtime::daemon::Loop;
use ostler_runtime::exchange::Exchange;
use ostler_runtime::selling::Selling;
use tokio::task::JoinSet;

use self::door::{Door, Shop};
use self::lock::Lock;
use self::transfers::{Passing, drop_left};

mod answer;
mod bindings;
mod catalog;
mod door;
mod instances;
mod known;
mod lock;
mod names;
mod transfers;

/// How often bindings that have expired are looked for, files of passwords and certificates are read again, and a door
/// that could not be opened is tried again.
const ROUND: Duration = Duration::from_secs(5);

/// An open door.
struct Opened {
    provide: Provide,
    lock: Arc<Lock>,
    tasks: JoinSet<()>,
}

/// Sells what the estate declares to be sold, for as long as it does, and whatever it declares at the time. Where it
/// stands is written into `selling`.
pub async fn run(handle: Loop, selling: Selling, exchange: Exchange) {
    let passing = Passing::default();
    let mut changes = handle.changes();
    let mut opened: Option<Opened> = None;
    loop {
        changes.mark_unchanged();
        let estate = handle.known(|known| known.estate.clone().filter(|_| !known.down)).await;
        let estate = estate.filter(|estate| estate.provide.is_some());
        let is_same_door = match (&opened, estate.as_deref().and_then(|estate| estate.provide.as_deref())) {
            (Some(opened), Some(now)) => opened.provide.listen == now.listen,
            (None, None) => true,
            _ => false,
        };
        if !is_same_door && let Some(mut former) = opened.take() {
            former.lock.close();
            former.tasks.shutdown().await; // and with it its listener, before another is opened
            selling.set(None);
        }
        if let Some(estate) = &estate {
            let stand = match &mut opened {
                Some(opened) => opened.lock.change(estate).await.map(|()| opened.lock.url(opened.provide.listen)),
                None => open(&handle, estate, &exchange, &passing).await.map(|new| {
                    let url = new.lock.url(new.provide.listen);
                    opened = Some(new);
                    url
                }),
            };
            selling.set(Some(stand));
        }
        end_expired(&handle).await;
        drop_left(&handle, &passing).await;
        // At most so often, however much changes; and in the end also when nothing does.
        let pause = async {
            tokio::time::sleep(Duration::from_millis(200)).await;
            drop(changes.changed().await);
        };
        drop(tokio::time::timeout(ROUND, pause).await);
    }
}

async fn open(handle: &Loop, estate: &Estate, exchange: &Exchange, passing: &Passing) -> Result<Opened, String> {
    let provide = estate.provide.as_deref().ok_or("nothing is sold")?.clone();
    let lock = Arc::new(Lock::default());
    lock.change(estate).await?;
    let shop = Shop::new(handle.clone(), lock.clone(), exchange.clone(), passing.clone());
    let door = Door::open(provide.listen, shop).await?;
    let mut tasks = JoinSet::new();
    tasks.spawn(door.serve());
    Ok(Opened { provide, lock, tasks })
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
