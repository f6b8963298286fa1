//! Catalogs change while nobody gives a file: they are read again from time to time.

use std::sync::Arc;
use std::time::Duration;

use ostler_manager::Event;
use ostler_model::estate::ProviderKind;

use crate::daemon::Loop;
use crate::providers::Providers;

/// After a start, so that it does not stand in the way of what has to be looked at first.
const FIRST_AFTER: Duration = Duration::from_secs(10);
/// What is installed here is looked at this often from then on. It costs a look at a few folders: a program is asked for
/// its version only if its file has changed.
const HERE_EVERY: Duration = Duration::from_secs(20);
/// And every so many times the brokers are asked as well.
const ELSEWHERE_EVERY: u32 = 30;

/// Reads the catalogs for ever. One that cannot be read is as it was. Definition files are not read again: whoever changes
/// one gives the estate file again.
pub(crate) async fn follow(handle: Loop, providers: Arc<Providers>) {
    tokio::time::sleep(FIRST_AFTER).await;
    for round in (0..ELSEWHERE_EVERY).cycle() {
        read_all(&handle, &providers, round == 0).await;
        tokio::time::sleep(HERE_EVERY).await;
    }
}

async fn read_all(handle: &Loop, providers: &Arc<Providers>, elsewhere: bool) {
    let Some(estate) = handle.known(|known| known.estate.clone()).await else { return };
    for (name, declared) in &estate.providers {
        let due = match &declared.kind {
            ProviderKind::Osb(_) => elsewhere,
            ProviderKind::Host(_) => true,
        };
        let (true, Ok(made)) = (due, providers.made(declared, &estate.folder)) else { continue };
        let (name, handle) = (name.clone(), handle.clone());
        let (providers, estate) = (providers.clone(), estate.clone());
        tokio::spawn(async move {
            if let Ok(catalog) = providers.catalog(&made, &estate).await {
                handle.tell(Event::CatalogRead { provider: name, catalog: Arc::new(catalog) });
            }
        });
    }
}
