//! Bindings at a broker: the consumers', and the one with which ostler itself looks at an instance.

use std::net::SocketAddr;
use std::time::Duration;

use ostler_model::binding::{Credentials, Secret};
use ostler_model::ids::BindingId;
use ostler_model::outcome::{Failure, FailureClass, Observation, Running};
use ostler_model::time::Timestamp;
use reqwest::Method;
use serde_json::{Value, json};
use tokio::time::timeout;

use super::catalog::Terms;
use super::client::encoded;
use super::credentials::{Place, answer_in, credentials, place};
use super::instance::{context, identity, in_doubt, name_of, path};
use super::poll::{Operation, Polled, Sure, now, operation_name};
use super::verdict::{Asked, Goal, Object, Verdict};
use super::{OsbProvider, TRIED_AGAIN, left_behind, names, verdict};
use crate::failure::{failure, needs_person, temporary};
use crate::{Bound, InstanceOrder, Started};

/// How long a name may take to be looked up.
const LOOKUP_TIME: Duration = Duration::from_secs(5);
/// Since when an instance is at work, among what is kept of it.
const SINCE: &str = "since";

impl OsbProvider {
    /// Gets the credentials with which ostler looks at the instance, unless it has them, and finds where it answers.
    pub(super) async fn open(&self, order: &InstanceOrder) -> Result<Started, Failure> {
        if order.asks.access_made
            && let Some(answer) = answer_in(&order.secret)
        {
            let running = running(order, &answer).await?;
            return Ok(Started { running, secret: None, renew_at: renewal(&answer, now()) });
        }
        let binding = BindingId { consumer: order.instance.service().clone(), need: order.instance.service().clone() };
        let answer = self.bind_once(order, &binding, order.asks.access, order.asks.access_used).await?;
        let mut secret = credentials(&answer, None);
        secret.kept.insert(SINCE.to_owned(), Secret::new(now().0.to_string()));
        let with_secret = InstanceOrder { secret: secret.clone(), ..order.clone() };
        // The credentials exist from here on: whatever goes wrong leaves them behind.
        let running = running(&with_secret, &answer)
            .await
            .map_err(|cause| Failure { class: FailureClass::LeftBehind, ..cause })?;
        Ok(Started { running, secret: Some(secret), renew_at: renewal(&answer, now()) })
    }

    /// What a complete instance is doing: it works, as far as anybody has looked.
    pub(super) async fn at_work(&self, order: &InstanceOrder) -> Observation {
        let known = answer_in(&order.secret).filter(|_| order.asks.access_used.is_some());
        match known {
            Some(answer) => match running(order, &answer).await {
                Ok(running) => Observation::Running(running),
                Err(_) => Observation::Stopped { exit: None }, // starting it looks again, and says what is wrong
            },
            None => Observation::Stopped { exit: None },
        }
    }

    /// Makes the binding, or points what is made at another endpoint.
    pub(super) async fn make_binding(
        &self,
        order: &InstanceOrder,
        binding: &BindingId,
        endpoint: SocketAddr,
        known: Option<&Credentials>,
    ) -> Result<Bound, Failure> {
        let answer = match known.and_then(answer_in).filter(|_| order.asks.round_made) {
            Some(answer) => answer,
            None => self.bind_once(order, binding, order.asks.round, order.asks.predecessor).await?,
        };
        let renew_at = renewal(&answer, now());
        Ok(Bound { credentials: credentials(&answer, Some(endpoint)), renew_at })
    }

    /// One ask for a binding: its content.
    async fn bind_once(
        &self,
        order: &InstanceOrder,
        binding: &BindingId,
        round: Option<u32>,
        predecessor: Option<u32>,
    ) -> Result<Object, Failure> {
        let what = format!("cannot bind {} to {}", binding.consumer, order.instance);
        let terms = self.terms(&order.placement)?;
        if !terms.bindable {
            return Err(needs_person(
                format!("{what}: nothing can be bound to its plan `{}`", order.placement.plan),
                "choose another plan: ostler looks at what it bought by a binding, too",
            ));
        }
        let instance = name_of(order)?;
        let (Some(estate), Some(round)) = (order.asks.estate, round) else {
            let what = format!("{what}: it was not asked for yet");
            return Err(failure(FailureClass::Interrupted, what, "nothing: it is looked at again"));
        };
        let name = |round| names::binding(estate, binding, &instance, round);
        let path = binding_path(&instance, &name(round));
        let mut ask = self.request(Method::PUT, path.clone());
        ask.query.push(("accepts_incomplete", "true".to_owned()));
        let consumer = names::consumer(estate, binding);
        let mut body = json!({
            "service_id": terms.service,
            "plan_id": terms.plan,
            "context": context(order, false),
            "bind_resource": {"app_guid": consumer},
            "app_guid": consumer, // deprecated, and still looked for
        });
        if let Some(predecessor) = predecessor.filter(|_| terms.rotatable) {
            body["predecessor_binding_id"] = name(predecessor).into();
        }
        ask.body = Some(body);
        ask.on_behalf = Some(identity(order));
        let answer = match verdict::read(Asked::For(Goal::Bind), self.client.ask(&ask).await?.reply) {
            Verdict::Done(answer) => answer,
            Verdict::Accepted(answer) => {
                let name = operation_name(&answer);
                let operation = Operation { goal: Goal::Bind, path: path.clone(), terms: &terms, name, since: now() };
                self.bound_at_last(&operation, &what).await?
            }
            Verdict::Conflict(why) => return Err(left_behind(&what, &why)),
            other => return Err(self.refused(&what, other)),
        };
        match answer.get("credentials") {
            Some(Value::Object(_)) => Ok(answer),
            _ => Err(left_behind(&what, "the broker's answer has no `credentials`")),
        }
    }

    /// Waits until it is made, and fetches it: an asynchronous answer must not hold credentials.
    async fn bound_at_last(&self, operation: &Operation<'_>, what: &str) -> Result<Object, Failure> {
        match self.poll(operation, Sure::Yes).await.map_err(in_doubt)? {
            Polled::Succeeded => {}
            Polled::Failed(failed) => return Err(left_behind(what, &failed.why)),
            Polled::OutOfTime(why) | Polled::Unknown(why) | Polled::Later(why) => return Err(left_behind(what, &why)),
            Polled::Gone => return Err(left_behind(what, "the broker says that it is gone")),
        }
        if !operation.terms.bindings_retrievable {
            return Err(left_behind(what, "the broker makes bindings later, and does not let them be fetched"));
        }
        let mut ask = self.request(Method::GET, operation.path.clone());
        ask.query.push(("service_id", operation.terms.service.clone()));
        ask.query.push(("plan_id", operation.terms.plan.clone()));
        match verdict::read(Asked::FetchBinding, self.client.ask(&ask).await.map_err(in_doubt)?.reply) {
            Verdict::Done(answer) => Ok(answer),
            Verdict::Unknown(why) | Verdict::Rejected(why) | Verdict::Doubt(why) => Err(left_behind(what, &why)),
            Verdict::Later(later) => Err(left_behind(what, &later.why)),
            _ => Err(left_behind(what, "the broker's answer means nothing")),
        }
    }

    /// Ends every binding of the order's list.
    pub(super) async fn end_bindings(&self, order: &InstanceOrder) -> Result<(), Failure> {
        if order.asks.ends.is_empty() {
            return Ok(());
        }
        let terms = self.terms(&order.placement)?;
        let instance = name_of(order)?;
        let Some(estate) = order.asks.estate else { return Ok(()) };
        for (binding, round) in &order.asks.ends {
            let path = binding_path(&instance, &names::binding(estate, binding, &instance, *round));
            self.unbind_once(order, binding, &terms, path).await?;
        }
        Ok(())
    }

    async fn unbind_once(
        &self,
        order: &InstanceOrder,
        binding: &BindingId,
        terms: &Terms,
        path: String,
    ) -> Result<(), Failure> {
        let what = format!("cannot unbind {} from {}", binding.consumer, order.instance);
        let mut ask = self.request(Method::DELETE, path.clone());
        ask.query.push(("service_id", terms.service.clone()));
        ask.query.push(("plan_id", terms.plan.clone()));
        ask.query.push(("accepts_incomplete", "true".to_owned()));
        let answer = match verdict::read(Asked::For(Goal::Unbind), self.client.ask(&ask).await?.reply) {
            // Many brokers say so of what is not there, though the specification has another word for it.
            Verdict::Done(_) | Verdict::Gone | Verdict::Unknown(_) => return Ok(()),
            Verdict::Accepted(answer) => answer,
            Verdict::Doubt(why) => return Err(temporary(format!("{what}: {why}"), TRIED_AGAIN)),
            other => return Err(self.refused(&what, other)),
        };
        let name = operation_name(&answer);
        let operation = Operation { goal: Goal::Unbind, path, terms, name, since: now() };
        match self.poll(&operation, Sure::Yes).await? {
            Polled::Gone | Polled::Succeeded => Ok(()),
            Polled::Failed(failed) => Err(temporary(format!("{what}: {}", failed.why), TRIED_AGAIN)),
            Polled::OutOfTime(why) | Polled::Unknown(why) | Polled::Later(why) => {
                Err(temporary(format!("{what}: {why}"), TRIED_AGAIN))
            }
        }
    }
}

fn binding_path(instance: &str, binding: &str) -> String {
    format!("{}/service_bindings/{}", path(instance), encoded(binding))
}

/// Where the instance answers now. Names are looked up anew each time: brokers move what stands behind them.
async fn running(order: &InstanceOrder, answer: &Object) -> Result<Running, Failure> {
    let what = format!("cannot reach {}", order.instance);
    let Place { host, port } = place(answer).ok_or_else(|| {
        needs_person(
            format!("{what}: its credentials name no single address with a port"),
            "choose another plan or provider: ostler watches what it bought from outside",
        )
    })?;
    let looked_up = timeout(LOOKUP_TIME, tokio::net::lookup_host((host.as_str(), port))).await;
    let unknown = |why: String| temporary(format!("{what}: the name `{host}` cannot be looked up: {why}"), TRIED_AGAIN);
    let mut addresses: Vec<SocketAddr> = match looked_up {
        Ok(Ok(addresses)) => addresses.collect(),
        Ok(Err(error)) => return Err(unknown(error.to_string())),
        Err(_) => return Err(unknown("nobody answered".to_owned())),
    };
    addresses.sort(); // so that it is the same one each time, as long as it is one of them
    let address = addresses.into_iter().next().ok_or_else(|| unknown("it has no address".to_owned()))?;
    let since = order.secret.kept.get(SINCE).and_then(|since| since.expose().parse().ok());
    Ok(Running { pid: None, address, since: since.map_or_else(now, Timestamp) })
}

/// From when on a binding is to be renewed: some time before the broker wants it to be, or before it ends.
fn renewal(answer: &Object, now: Timestamp) -> Option<Timestamp> {
    const MARGIN_MAX: Duration = Duration::from_secs(3600);
    let time = |key: &str| {
        let text = answer.get("metadata")?.get(key)?.as_str()?;
        let at: jiff::Timestamp = text.parse().ok()?;
        Some(Timestamp(at.as_microsecond()))
    };
    let (expires, renew) = (time("expires_at"), time("renew_before"));
    let until = match (expires, renew) {
        (Some(expires), Some(renew)) => expires.min(renew),
        (Some(one), None) | (None, Some(one)) => one,
        (None, None) => return None,
    };
    // A tenth of what is left if the broker says by when, a third if it only says when it is too late.
    let part = if renew.is_some() { 10 } else { 3 };
    Some(until - (until.since(now) / part).min(MARGIN_MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> Timestamp {
        Timestamp(text.parse::<jiff::Timestamp>().unwrap().as_microsecond())
    }

    #[test]
    fn bindings_are_renewed_in_time() {
        let now = at("2026-11-26T00:00:00Z");
        let answer = |metadata: Value| json!({"metadata": metadata}).as_object().unwrap().clone();
        let renewal = |metadata| renewal(&answer(metadata), now);
        let expires = "2026-11-26T03:00:00.0Z";
        assert_eq!(renewal(json!({"expires_at": expires})), Some(at("2026-11-26T02:00:00Z")));
        let both = json!({"expires_at": expires, "renew_before": "2026-11-26T01:40:00.0Z"});
        assert_eq!(renewal(both), Some(at("2026-11-26T01:30:00Z")));
        assert_eq!(renewal(json!({"expires_at": "2025-01-01T00:00:00Z"})), Some(at("2025-01-01T00:00:00Z")));
        assert_eq!(renewal(json!({"expires_at": "soon"})), None);
        assert_eq!(renewal(json!(null)), None);
    }
}
