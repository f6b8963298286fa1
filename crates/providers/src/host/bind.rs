//! Bindings: credentials for one consumer, made by the definition's steps.

use std::net::SocketAddr;

use ostler_model::binding::Credentials;
use ostler_model::ids::BindingId;
use ostler_model::outcome::Failure;

use super::HostProvider;
use super::failure::needs_person;
use super::folder::Folder;
use super::instance::{BackupFile, Instance, Workshop, short};
use super::scope::Scope;
use crate::InstanceOrder;

impl HostProvider {
    pub(super) async fn make_binding(
        &self,
        order: &InstanceOrder,
        binding: &BindingId,
        endpoint: SocketAddr,
        known: Option<&Credentials>,
    ) -> Result<Credentials, Failure> {
        let instance = self.open(order).await?;
        if !instance.definition.bindable {
            return Err(needs_person(
                format!("nothing can be bound to the offering `{}`", order.placement.offering),
                format!("Remove `{}` from the needs of `{}`.", binding.need, binding.consumer),
            ));
        }
        let (mut scope, credentials) = binding_scope(&instance, order, binding, Some(endpoint), known)?;
        scope.set_credentials("binding.", &credentials);
        let operation = format!("bind `{}` to instance `{}`", binding.consumer, order.instance);
        instance.workshop(operation).all(&instance.definition.bind.steps, &scope, &BackupFile::None).await?;
        Ok(credentials)
    }

    pub(super) async fn end_binding(&self, order: &InstanceOrder, binding: &BindingId) -> Result<(), Failure> {
        if Folder::new(&self.home, &order.instance).marker()?.is_none() {
            return Ok(()); // with the instance went its credentials
        }
        let instance = self.open(order).await?;
        let (scope, _) = binding_scope(&instance, order, binding, None, None)?;
        let operation = format!("unbind `{}` from instance `{}`", binding.consumer, order.instance);
        instance.workshop(operation).all(&instance.definition.unbind.steps, &scope, &BackupFile::None).await.map(drop)
    }
}

impl HostProvider {
    /// A binding like any other, of the service to itself: no consumer can have it.
    pub(super) async fn sight_of(&self, order: &InstanceOrder) -> Result<Credentials, Failure> {
        let instance = self.open(order).await?;
        if !instance.definition.bindable {
            return Ok(order.secret.clone());
        }
        let itself = (super::ports::HOST, instance.marker.port).into();
        self.make_binding(order, &own_binding(order), itself, None).await
    }

    pub(super) async fn end_sight_of(&self, order: &InstanceOrder) -> Result<(), Failure> {
        if !self.open(order).await?.definition.bindable {
            return Ok(());
        }
        self.end_binding(order, &own_binding(order)).await
    }
}

fn own_binding(order: &InstanceOrder) -> BindingId {
    let me = order.instance.service().clone();
    BindingId { consumer: me.clone(), need: me }
}

impl Instance {
    pub(super) fn workshop(&self, operation: String) -> Workshop<'_> {
        Workshop { folder: &self.folder, owner: self.owner.as_ref(), operation, elsewhere: false }
    }
}

/// The values of a binding. Whoever ends one knows no endpoint; its fields then name the instance itself, and nothing
/// that identifies the consumer depends on it.
fn binding_scope<'a>(
    instance: &'a Instance,
    order: &InstanceOrder,
    binding: &BindingId,
    endpoint: Option<SocketAddr>,
    known: Option<&Credentials>,
) -> Result<(Scope<'a>, Credentials), Failure> {
    let endpoint = endpoint.unwrap_or_else(|| (super::ports::HOST, instance.marker.port).into());
    let mut scope = instance.values(order)?;
    scope.set("binding.consumer", binding.consumer.as_str());
    scope.set("binding.id", short(&binding.consumer));
    scope.set("endpoint.host", endpoint.ip().to_string());
    scope.set("endpoint.port", endpoint.port().to_string());
    let credentials = scope.set_fields("binding.", &instance.definition.bind, known)?;
    Ok((scope, credentials))
}
