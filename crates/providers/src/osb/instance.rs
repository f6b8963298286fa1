//! Instances at a broker: made, looked at, changed, deleted.

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use ostler_model::ids::AttemptId;
use ostler_model::outcome::{Failure, FailureClass, Observation};
use reqwest::Method;
use serde_json::{Value, json};

use super::catalog::Terms;
use super::client::encoded;
use super::poll::{Operation, Polled, Sure, now, operation_name};
use super::verdict::{Asked, Goal, Object, Verdict};
use super::{OsbProvider, TRIED_AGAIN, left_behind, names, verdict};
use crate::failure::{failure, needs_person, temporary};
use crate::{Accepted, AcceptedKind, Former, InstanceOrder, Progress};

/// Whether something is there under the name of an ask.
enum Found {
    /// It is, and complete.
    There,
    /// It was, or was to be, and is not.
    Gone,
    /// The broker does not know it. It may still appear.
    NotSeen(String),
    /// It could not be made.
    Useless(String),
}

impl OsbProvider {
    /// Makes the instance, and waits until it is complete.
    pub(super) async fn make(&self, order: &InstanceOrder, progress: &Progress) -> Result<(), Failure> {
        let what = format!("cannot make {}", order.instance);
        let terms = self.terms(&order.placement)?;
        self.check_fit(&order.placement, &order.parameters, false)?;
        let name = name_of(order)?;
        let path = path(&name);
        let mut ask = self.request(Method::PUT, path.clone());
        ask.query.push(("accepts_incomplete", "true".to_owned()));
        ask.body = Some(create_body(order, &terms));
        ask.on_behalf = Some(identity(order));
        let answered = self.client.ask(&ask).await?;
        match verdict::read(Asked::For(Goal::Provision), answered.reply) {
            Verdict::Done(_) => Ok(()),
            Verdict::Accepted(answer) => {
                let name = operation_name(&answer);
                progress(name.clone());
                let operation = Operation { goal: Goal::Provision, path, terms: &terms, name, since: now() };
                match self.poll(&operation, Sure::Yes).await.map_err(in_doubt)? {
                    Polled::Succeeded => Ok(()),
                    Polled::Failed(failed) => Err(left_behind(&what, &failed.why)),
                    Polled::OutOfTime(why) | Polled::Unknown(why) | Polled::Later(why) => Err(left_behind(&what, &why)),
                    Polled::Gone => Err(left_behind(&what, "the broker says that it is gone")),
                }
            }
            // Nothing that is there may be deleted because of this answer; but it may be what was asked for.
            Verdict::Conflict(why) => match self.find(order, &terms, None).await.map_err(in_doubt)? {
                Found::There => Ok(()),
                Found::Gone | Found::NotSeen(_) | Found::Useless(_) => Err(failure(
                    FailureClass::Unclear,
                    format!("{what}: {why}"),
                    format!(
                        "ask `{}` what it knows as {name}, then say with `ostler settle` whether to delete or to release it",
                        self.name
                    ),
                )),
            },
            Verdict::Later(later) if later.catalog_is_old => {
                self.read_catalog().await?;
                Err(temporary(format!("{what}: {}", later.why), "nothing: it is made as the catalog says now"))
            }
            other => Err(self.refused(&what, other)),
        }
    }

    /// What there is of the instance.
    pub(super) async fn look(&self, order: &InstanceOrder) -> Result<Observation, Failure> {
        if order.asks.attempt.is_none() && order.asks.adopted.is_none() {
            return Ok(Observation::Absent);
        }
        let terms = self.terms(&order.placement)?;
        let found = match self.find(order, &terms, order.asks.accepted.as_ref()).await {
            // A broker that is in trouble says nothing against what it has made.
            Err(failure) if order.asks.made && failure.class != FailureClass::NeedsPerson => Found::There,
            found => found?,
        };
        Ok(match found {
            Found::There => self.at_work(order).await,
            Found::Gone => Observation::Absent,
            Found::NotSeen(why) => Observation::NotSeen { why },
            Found::Useless(why) => Observation::Useless { why },
        })
    }

    /// Changes the instance to what is ordered, and waits until that is done.
    pub(super) async fn change(&self, order: &InstanceOrder, progress: &Progress) -> Result<(), Failure> {
        let what = format!("cannot change {}", order.instance);
        let terms = self.terms(&order.placement)?;
        let former = order.former.as_deref();
        let before = former.map(|former| self.terms(&former.placement)).transpose()?.unwrap_or_else(|| terms.clone());
        let Some(body) = update_body(order, former, &before, &terms) else { return Ok(()) };
        let asked_maintenance = body.get("maintenance_info").is_some();
        if before.plan != terms.plan && !before.updateable {
            return Err(needs_person(
                format!("{what}: instances of its plan cannot be changed to `{}`", order.placement.plan),
                "set `plan` back to what it was; or make a new service and move the data",
            ));
        }
        self.check_fit(&order.placement, &order.parameters, true)?;
        let path = path(&name_of(order)?);
        let mut ask = self.request(Method::PATCH, path.clone());
        ask.query.push(("accepts_incomplete", "true".to_owned()));
        ask.body = Some(body);
        ask.on_behalf = Some(identity(order));
        match verdict::read(Asked::For(Goal::Update), self.client.ask(&ask).await?.reply) {
            Verdict::Done(_) => Ok(()),
            Verdict::Accepted(answer) => {
                let name = operation_name(&answer);
                progress(name.clone());
                let operation = Operation { goal: Goal::Update, path, terms: &before, name, since: now() };
                match self.poll(&operation, Sure::Yes).await? {
                    Polled::Succeeded => Ok(()),
                    Polled::Failed(failed) if failed.repeatable => {
                        Err(temporary(format!("{what}: {}", failed.why), TRIED_AGAIN))
                    }
                    Polled::Failed(failed) => {
                        let usable = if failed.usable { "" } else { "; the broker says that it cannot be used now" };
                        let remedy = "change what was asked for, and ask its provider for help".to_owned();
                        Err(needs_person(format!("{what}: {}{usable}", failed.why), remedy))
                    }
                    Polled::OutOfTime(why) | Polled::Unknown(why) | Polled::Later(why) => {
                        Err(temporary(format!("{what}: {why}"), TRIED_AGAIN))
                    }
                    Polled::Gone => Err(temporary(format!("{what}: the broker says that it is gone"), TRIED_AGAIN)),
                }
            }
            Verdict::Later(later) if later.catalog_is_old => {
                self.read_catalog().await?;
                let offered = self.terms(&order.placement)?.maintenance;
                Err(match &order.placement.maintenance {
                    // What nobody has agreed to is not asked for in its place.
                    Some(wanted)
                        if asked_maintenance && before.plan == terms.plan && offered.as_ref() != Some(wanted) =>
                    {
                        no_such_maintenance(&what, wanted, offered.as_deref(), &later.why)
                    }
                    _ => temporary(format!("{what}: {}", later.why), "nothing: it is changed as the catalog says now"),
                })
            }
            // An update is never followed by a deletion: it is asked for again.
            Verdict::Doubt(why) => Err(temporary(format!("{what}: {why}"), TRIED_AGAIN)),
            other => Err(self.refused(&what, other)),
        }
    }

    /// Deletes the instance with everything that is bound to it, and waits until it is gone.
    pub(super) async fn delete(&self, order: &InstanceOrder, progress: &Progress) -> Result<(), Failure> {
        if order.asks.attempt.is_none() && order.asks.adopted.is_none() {
            return Ok(());
        }
        self.end_bindings(order).await?;
        let what = format!("cannot delete {}", order.instance);
        let terms = self.terms(&order.placement)?;
        match self.delete_once(order, &terms, Some(progress)).await? {
            Verdict::Gone => Ok(()),
            // The specification has another word for what is not there, and many brokers say it like this.
            Verdict::Unknown(why) => match self.find(order, &terms, None).await? {
                Found::Gone | Found::NotSeen(_) if terms.instances_retrievable => Ok(()),
                _ => Err(needs_person(
                    format!("{what}: {why}"),
                    format!("ask `{}` to delete it; `ostler release` forgets it here", self.name),
                )),
            },
            Verdict::Doubt(why) => Err(temporary(format!("{what}: {why}"), TRIED_AGAIN)),
            other => Err(self.refused(&what, other)),
        }
    }

    /// Deletes what an ask may have left behind. That nothing is there is as good.
    pub(super) async fn delete_leftover(&self, order: &InstanceOrder) -> Result<(), Failure> {
        let what = format!("cannot delete what an ask for {} may have left behind", order.instance);
        let terms = self.terms(&order.placement)?;
        match self.delete_once(order, &terms, None).await? {
            Verdict::Gone | Verdict::Unknown(_) => Ok(()),
            Verdict::Later(later) => Err(temporary(format!("{what}: {}", later.why), TRIED_AGAIN)),
            Verdict::Failed(failed) => Err(temporary(format!("{what}: {}", failed.why), TRIED_AGAIN)),
            Verdict::Rejected(why) | Verdict::Conflict(why) | Verdict::Doubt(why) => {
                Err(temporary(format!("{what}: {why}"), TRIED_AGAIN))
            }
            Verdict::Done(_) | Verdict::Accepted(_) | Verdict::InProgress(_) => {
                Err(temporary(format!("{what}: the broker's answer means nothing"), TRIED_AGAIN))
            }
        }
    }

    /// What became of a deletion. Without `progress` it is done on nobody's behalf (specification, "Originating
    /// Identity": orphan mitigation).
    async fn delete_once(
        &self,
        order: &InstanceOrder,
        terms: &Terms,
        progress: Option<&Progress>,
    ) -> Result<Verdict, Failure> {
        let path = path(&name_of(order)?);
        let mut ask = self.request(Method::DELETE, path.clone());
        ask.query.push(("service_id", terms.service.clone()));
        ask.query.push(("plan_id", terms.plan.clone()));
        ask.query.push(("accepts_incomplete", "true".to_owned()));
        ask.on_behalf = progress.map(|_| identity(order));
        let answer = match verdict::read(Asked::For(Goal::Deprovision), self.client.ask(&ask).await?.reply) {
            Verdict::Done(_) => return Ok(Verdict::Gone),
            Verdict::Accepted(answer) => answer,
            other => return Ok(other),
        };
        let name = operation_name(&answer);
        if let Some(progress) = progress {
            progress(name.clone());
        }
        let operation = Operation { goal: Goal::Deprovision, path, terms, name, since: now() };
        Ok(match self.poll(&operation, Sure::Yes).await? {
            Polled::Gone | Polled::Succeeded => Verdict::Gone,
            Polled::Failed(failed) => Verdict::Failed(failed),
            Polled::OutOfTime(why) | Polled::Unknown(why) | Polled::Later(why) => Verdict::Doubt(why),
        })
    }

    /// Looks for what is there: first what became of an operation that the broker agreed to, then the instance itself,
    /// then any operation of it. Repeating the create would prove nothing.
    async fn find(&self, order: &InstanceOrder, terms: &Terms, accepted: Option<&Accepted>) -> Result<Found, Failure> {
        let path = path(&name_of(order)?);
        if let Some(accepted) = accepted {
            let (goal, name, since) = (goal(accepted.kind), accepted.operation.clone(), accepted.since);
            let operation = Operation { goal, path: path.clone(), terms, name, since };
            match (goal, self.poll(&operation, Sure::Yes).await?) {
                (Goal::Deprovision, Polled::Gone | Polled::Succeeded) => return Ok(Found::Gone),
                (Goal::Provision, Polled::Succeeded) => return Ok(Found::There),
                (Goal::Provision, Polled::Failed(failed)) => return Ok(Found::Useless(failed.why)),
                (Goal::Provision, Polled::OutOfTime(why)) => return Ok(Found::Useless(why)),
                _ if order.asks.made => {}
                (_, Polled::Unknown(why) | Polled::Later(why) | Polled::OutOfTime(why)) => {
                    return Ok(Found::NotSeen(why));
                }
                (_, Polled::Failed(failed)) => return Ok(Found::NotSeen(failed.why)),
                (_, Polled::Gone | Polled::Succeeded) => {
                    return Ok(Found::NotSeen("the broker says that it is gone".to_owned()));
                }
            }
        }
        if terms.instances_retrievable {
            match self.fetch(&path, terms).await? {
                Verdict::Done(answer) if is_what_was_bought(&answer, terms) => return Ok(Found::There),
                Verdict::Done(_) => {
                    return Ok(Found::NotSeen("something else is there under its name".to_owned()));
                }
                Verdict::Unknown(_) if order.asks.made => return Ok(Found::Gone),
                // While it is being made it cannot be fetched either.
                Verdict::Unknown(_) => {}
                Verdict::Later(later) => {
                    let what = format!("cannot look at {}: {}", order.instance, later.why);
                    return Err(temporary(what, TRIED_AGAIN));
                }
                // Whatever this is, it does not say that it is gone.
                _ if order.asks.made => return Ok(Found::There),
                _ => {}
            }
        } else if order.asks.made {
            return Ok(Found::There); // there is no way of asking
        }
        let operation = Operation { goal: Goal::Provision, path, terms, name: None, since: now() };
        Ok(match self.poll(&operation, Sure::No).await? {
            Polled::Succeeded => Found::There,
            Polled::Failed(failed) => Found::Useless(failed.why),
            Polled::OutOfTime(why) => Found::Useless(why),
            Polled::Gone => Found::NotSeen("the broker says that it is gone".to_owned()),
            Polled::Unknown(why) => Found::NotSeen(why),
            Polled::Later(why) => {
                return Err(temporary(format!("cannot look at {}: {why}", order.instance), TRIED_AGAIN));
            }
        })
    }

    async fn fetch(&self, path: &str, terms: &Terms) -> Result<Verdict, Failure> {
        let mut ask = self.request(Method::GET, path.to_owned());
        ask.query.push(("service_id", terms.service.clone()));
        ask.query.push(("plan_id", terms.plan.clone()));
        Ok(verdict::read(Asked::FetchInstance, self.client.ask(&ask).await?.reply))
    }
}

fn goal(kind: AcceptedKind) -> Goal {
    match kind {
        AcceptedKind::Provision => Goal::Provision,
        AcceptedKind::Update => Goal::Update,
        AcceptedKind::Deprovision => Goal::Deprovision,
    }
}

/// A broker that says nothing of what it is does not contradict either.
fn is_what_was_bought(answer: &Object, terms: &Terms) -> bool {
    let same = |key: &str, id: &str| answer.get(key).and_then(Value::as_str).is_none_or(|said| said == id);
    same("service_id", &terms.service) && same("plan_id", &terms.plan)
}

/// By which name the broker knows the instance.
pub(super) fn name_of(order: &InstanceOrder) -> Result<String, Failure> {
    if let Some(adopted) = &order.asks.adopted {
        return Ok(adopted.clone());
    }
    let (Some(estate), Some(attempt)) = (order.asks.estate, order.asks.attempt) else {
        return Err(failure(
            FailureClass::Interrupted,
            format!("{} was not asked for yet", order.instance),
            "nothing: it is looked at again",
        ));
    };
    Ok(names::instance(estate, &AttemptId { instance: order.instance.clone(), attempt }))
}

pub(super) fn path(instance: &str) -> String {
    format!("/v2/service_instances/{}", encoded(instance))
}

/// After something was asked for, no failure means that nothing was made.
pub(super) fn in_doubt(failure: Failure) -> Failure {
    Failure { class: FailureClass::InDoubt, ..failure }
}

/// For whom it is done: the estate (specification, "Originating Identity").
pub(super) fn identity(order: &InstanceOrder) -> String {
    let who = json!({"estate": order.estate.as_str(), "service": order.instance.service().as_str()});
    format!("{PLATFORM} {}", BASE64_STANDARD.encode(who.to_string()))
}

/// What ostler calls itself among platforms.
const PLATFORM: &str = "ostler";

/// What a broker is told of where it is used (specification, "Context Object").
pub(super) fn context(order: &InstanceOrder, of_instance: bool) -> Value {
    let mut context = json!(order.context);
    context["platform"] = PLATFORM.into();
    context["estate"] = order.estate.as_str().into();
    if of_instance {
        context["instance_name"] = order.instance.to_string().into();
    }
    context
}

/// The broker updates to what its catalog says, to nothing else, and never back.
fn no_such_maintenance(what: &str, wanted: &str, offered: Option<&str>, why: &str) -> Failure {
    let now = offered.map_or_else(|| "none any more".to_owned(), |offered| format!("{offered} now"));
    needs_person(
        format!("{what}: its plan was to be updated to maintenance {wanted}, and the broker offers {now} ({why})"),
        "upgrade it to what is offered now: `ostler upgrade`",
    )
}

fn create_body(order: &InstanceOrder, terms: &Terms) -> Value {
    let estate = order.asks.estate.map(names::estate).unwrap_or_default();
    let mut body = json!({
        "service_id": terms.service,
        "plan_id": terms.plan,
        // Deprecated, and still required.
        "organization_guid": estate,
        "space_guid": estate,
        "context": context(order, true),
    });
    if !order.parameters.is_empty() {
        body["parameters"] = json!(order.parameters);
    }
    // What is new can only be made as the catalog says now.
    if let Some(version) = &terms.maintenance {
        body["maintenance_info"] = json!({"version": version});
    }
    body
}

/// What is to be changed, and nothing else: what is not said stays as it is, also where it was changed elsewhere.
fn update_body(order: &InstanceOrder, former: Option<&Former>, before: &Terms, after: &Terms) -> Option<Value> {
    let mut body = json!({"service_id": after.service, "context": context(order, true)});
    let mut changes = after.hears_context && former.is_some_and(|former| former.context != order.context);
    if before.plan != after.plan {
        body["plan_id"] = after.plan.clone().into();
        changes = true;
    }
    if former.is_none_or(|former| former.parameters != order.parameters) {
        body["parameters"] = json!(order.parameters);
        changes = true;
    }
    let mut previous = json!({"plan_id": before.plan});
    let kept = former.and_then(|former| former.placement.maintenance.as_ref());
    if let Some(version) = kept {
        previous["maintenance_info"] = json!({"version": version});
    }
    let maintenance = match &order.placement.maintenance {
        // Another plan is had only as the catalog says now.
        _ if before.plan != after.plan => after.maintenance.as_ref(),
        wanted => wanted.as_ref().filter(|wanted| Some(*wanted) != kept),
    };
    if let Some(version) = maintenance {
        body["maintenance_info"] = json!({"version": version});
        changes = true;
    }
    body["previous_values"] = previous;
    changes.then_some(body)
}
