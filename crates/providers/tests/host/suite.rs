//! What every provider must do: each call is safe to repeat.

use ostler_model::ids::BindingId;
use ostler_model::outcome::Observation;
use ostler_providers::{InstanceOrder, Provider};

use crate::machine::{GRACE, GRANT, eventually, nobody};

pub(crate) async fn every_call_is_safe_to_repeat(provider: &dyn Provider, mut order: InstanceOrder) {
    let instance = order.instance.clone();
    assert_eq!(provider.observe(&order).await.unwrap(), Observation::Absent);
    provider.deprovision(&order, nobody()).await.unwrap();
    assert_eq!(provider.stop(&order, GRACE).await.unwrap().exit, None);

    order.secret = provider.provision(&order, nobody()).await.unwrap();
    assert_eq!(provider.provision(&order, nobody()).await.unwrap(), order.secret);
    assert!(matches!(provider.observe(&order).await.unwrap(), Observation::Stopped { .. }));

    let running = provider.start(&order, GRANT).await.unwrap().running;
    assert_eq!(provider.start(&order, GRANT).await.unwrap().running, running);
    assert_eq!(provider.observe(&order).await.unwrap(), Observation::Running(running));
    assert_eq!(provider.provision(&order, nobody()).await.unwrap(), order.secret, "while it runs");

    let binding: BindingId = BindingId { consumer: "web".parse().unwrap(), need: instance.service().clone() };
    let endpoint = "127.0.0.1:15432".parse().unwrap();
    let credentials = eventually(async || provider.bind(&order, &binding, endpoint, None).await).await.credentials;
    let again = provider.bind(&order, &binding, endpoint, Some(&credentials)).await.unwrap().credentials;
    assert_eq!(again, credentials);
    assert_eq!(credentials.get("port"), Some("15432"), "a binding points at the endpoint");
    provider.unbind(&order, &binding).await.unwrap();
    provider.unbind(&order, &binding).await.unwrap();

    let stopped = provider.stop(&order, GRACE).await.unwrap();
    assert!(stopped.exit.is_some() && !stopped.killed, "{stopped:?}");
    assert_eq!(provider.stop(&order, GRACE).await.unwrap().exit, None);
    assert!(matches!(provider.observe(&order).await.unwrap(), Observation::Stopped { .. }));

    let address = provider.start(&order, GRANT).await.unwrap().running.address;
    assert_eq!(address, running.address, "the port is kept");
    provider.deprovision(&order, nobody()).await.unwrap();
    assert_eq!(provider.observe(&order).await.unwrap(), Observation::Absent);
    provider.deprovision(&order, nobody()).await.unwrap();
    provider.unbind(&order, &binding).await.unwrap();
}
