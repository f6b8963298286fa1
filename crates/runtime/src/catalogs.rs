//! Catalogs change while nobody gives a file: they are read again from time to time.

use std::sync::Arc;
use std::time::Duration;

use ostler_manager::Event;
use ostler_model::estate::ProviderKind;

use crate::daemon::Loop;
use crate::providers::Providers;

/// After a start, so that it does not stand in the way of what has to be looked at first.
const FIRST_AFTER: Duration = Duration::from_secs(10);
/// From then on.
const EVERY: Duration = Duration::from_secs(600);

/// Reads the catalogs of providers elsewhere for ever. One that cannot be read is as it was.
pub(crate) async fn follow(handle: Loop, providers: Arc<Providers>) {
    let mut pause = FIRST_AFTER;
    loop {
        tokio::time::sleep(std::mem::replace(&mut pause, EVERY)).await;
        let Some(estate) = handle.known(|known| known.estate.clone()).await else { continue };
        for (name, declared) in &estate.providers {
            let elsewhere = match &declared.kind {
                ProviderKind::Osb(_) => providers.made(declared, &estate.folder),
                ProviderKind::Host(_) => continue, // whoever changes a definition file gives the estate file again
            };
            let (Ok(made), name, handle) = (elsewhere, name.clone(), handle.clone()) else { continue };
            let (providers, estate) = (providers.clone(), estate.clone());
            tokio::spawn(async move {
                if let Ok(catalog) = providers.catalog(&made, &estate).await {
                    handle.tell(Event::CatalogRead { provider: name, catalog: Arc::new(catalog) });
                }
            });
        }
    }
}
