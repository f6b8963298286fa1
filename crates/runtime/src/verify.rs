//! Proof of togetherness: every need of every consumer is looked at with the consumer's own binding, by the way that the
//! consumer goes. Asked for by a person, after every change, and from time to time.
//!
//! Invariant: a look changes nothing that stays, and what it finds is a fact.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use ostler_manager::{BindingState, Checked, Event, Instance, Knowledge, Origin, ServiceKnowledge};
use ostler_model::estate::contract::Contract;
use ostler_model::health::{Health, Symptom, SymptomKind};
use ostler_model::ids::{BindingId, ProviderName, SecretId, ServiceName};
use ostler_model::time::Timestamp;
use ostler_model::version::Version;
use ostler_probes::{Target, keeps};
use serde::{Deserialize, Serialize};
use tokio::sync::Semaphore;
use tokio::time::Instant;

use crate::clock;
use crate::daemon::{Engine, Loop};
use crate::prove::use_it;
use crate::watching;

/// How long one check may take.
pub(crate) const CHECK_TIME: Duration = Duration::from_secs(5);
/// Needs that are looked at together.
const AT_ONCE: usize = 4;
/// Without a change, a need is looked at again after this; …
const EVERY: Duration = Duration::from_secs(3600);
/// … or after this, if something was wrong with it.
const EVERY_WRONG: Duration = Duration::from_secs(60);
/// After a change, looks begin once nothing has changed for so long.
const CALM: Duration = Duration::from_secs(1);
/// What every binding has to give.
pub(crate) const USABLE: &str = "it can be used";

/// What a look at one need of one consumer found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Looked {
    /// Who needs it.
    pub consumer: ServiceName,
    /// What is needed.
    pub need: ServiceName,
    /// From whom it is bought.
    pub provider: Option<ProviderName>,
    /// When; RFC 3339. `None` if it could not be looked at.
    pub at: Option<String>,
    /// What was checked. Empty if it could not be looked at.
    pub checks: Vec<Checked>,
    /// Why it could not be looked at.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub not_seen: Option<String>,
}

impl Looked {
    /// Whether it was looked at and nothing was wrong.
    pub fn is_kept(&self) -> bool {
        self.not_seen.is_none() && self.checks.iter().all(|checked| checked.problem.is_none())
    }
}

/// Who is to blame, as far as the symptom tells: in words after "the likely cause:".
pub fn blame(symptom: &Symptom) -> &'static str {
    match symptom.kind {
        SymptomKind::Refused => "nobody accepts connections there: the need is down, or the way to it is",
        SymptomKind::TimedOut => "nobody answers: the network, or the need is overloaded or hangs",
        SymptomKind::Hung => "it takes connections and never answers: the need hangs",
        SymptomKind::Slow => "the need answers, and too late",
        SymptomKind::DiskFull => "the disk that the need writes to is full",
        SymptomKind::Broken => "connections break: the need restarts, or something between breaks them",
        SymptomKind::WrongCredentials => "the credentials are not accepted: they were changed or ended at the provider",
        SymptomKind::WrongAnswer => "the need works, and its answer is another than the consumer relies on",
        SymptomKind::Unknown => "the check itself could not be made",
    }
}

/// One need of one consumer, ready to be looked at.
struct Edge {
    binding: BindingId,
    revision: u32,
    provider: Option<ProviderName>,
    version: Option<Version>,
    contracts: Vec<Contract>,
    target: Target,
}

/// Looks at every need, or at those of one consumer, now.
pub(crate) async fn look(handle: &Loop, only: Option<ServiceName>) -> Vec<Looked> {
    let (edges, unseen) = handle.ask(move |engine, _| edges(engine, only.as_ref(), |_, _| true)).await;
    let mut looked: Vec<Looked> = unseen;
    let room = Arc::new(Semaphore::new(AT_ONCE));
    let looks: Vec<_> =
        edges.into_iter().map(|edge| tokio::spawn(look_at(handle.clone(), edge, room.clone()))).collect();
    for look in looks {
        looked.extend(look.await.ok());
    }
    looked.sort_by(|a, b| (&a.consumer, &a.need).cmp(&(&b.consumer, &b.need)));
    looked
}

async fn look_at(handle: Loop, edge: Edge, room: Arc<Semaphore>) -> Looked {
    let _place = room.acquire_owned().await.expect("the semaphore is never closed");
    let mut checks = vec![Checked { name: USABLE.to_owned(), problem: use_it(&edge.target, CHECK_TIME).await.err() }];
    for contract in &edge.contracts {
        checks.extend(right_version(contract, edge.version.as_ref()));
        if let Some(check) = &contract.check {
            let problem = keeps(check, &edge.target, CHECK_TIME).await.err();
            checks.push(Checked { name: contract.name.clone(), problem });
        }
    }
    let Edge { binding, revision, provider, .. } = edge;
    handle.tell(Event::Verified { binding: binding.clone(), revision, checks: checks.clone() });
    let at = Some(clock::now().to_seconds());
    Looked { consumer: binding.consumer, need: binding.need, provider, at, checks, not_seen: None }
}

/// Whether the need is of a version that the contract relies on, if it says anything of that.
pub(crate) fn right_version(contract: &Contract, in_use: Option<&Version>) -> Option<Checked> {
    let relied_on = contract.version.as_ref()?;
    let problem = match in_use {
        Some(version) if relied_on.contains(version) => None,
        Some(version) => {
            let detail = format!("{} is {version}, which is not in `{relied_on}`", contract.need);
            Some(Symptom { kind: SymptomKind::WrongAnswer, detail })
        }
        None => {
            let detail = format!("it is not known which version {} is: its provider does not say", contract.need);
            Some(Symptom { kind: SymptomKind::Unknown, detail })
        }
    };
    let name = match contract.check {
        Some(_) => format!("{}: version {relied_on}", contract.name),
        None => contract.name.clone(),
    };
    Some(Checked { name, problem })
}

/// What can be looked at, and what cannot.
fn edges(
    engine: &Engine,
    only: Option<&ServiceName>,
    is_due: impl Fn(&ServiceKnowledge, &ServiceName) -> bool,
) -> (Vec<Edge>, Vec<Looked>) {
    let known = engine.knowledge();
    let (mut ready, mut unseen) = (Vec::new(), Vec::new());
    let consumers = known.services.values().filter(|service| {
        let is_it = only.is_none_or(|only| *only == service.spec.name);
        is_it && service.origin == Origin::Declared && service.declared
    });
    for consumer in consumers {
        for need in consumer.spec.needs.iter().filter(|need| is_due(consumer, need)) {
            let placement = known.services.get(need).and_then(|needed| needed.placement.as_ref());
            let provider = placement.map(|placement| placement.provider.clone());
            let version = placement.and_then(|placement| placement.version.clone());
            match edge(engine, known, consumer, need) {
                Ok(edge) => ready.push(Edge { provider, version, ..edge }),
                Err(why) => unseen.push(Looked {
                    consumer: consumer.spec.name.clone(),
                    need: need.clone(),
                    provider,
                    at: None,
                    checks: Vec::new(),
                    not_seen: Some(why),
                }),
            }
        }
    }
    (ready, unseen)
}

fn edge(engine: &Engine, known: &Knowledge, consumer: &ServiceKnowledge, need: &ServiceName) -> Result<Edge, String> {
    let binding = consumer.bindings.get(need).filter(|binding| binding.state == BindingState::Made);
    let binding = binding.ok_or("it is not bound yet")?;
    let id = consumer.binding_id(need);
    let credentials = engine.credentials(&SecretId::of_binding(&id)).map_err(|failure| failure.detail)?;
    let credentials = credentials.ok_or("its credentials are not known any more")?;
    // Where the consumer goes: through the endpoint, unless its certificate is for another name.
    let said = credentials.get("host").zip(credentials.get("port"));
    let said = said.and_then(|(host, port)| format!("{host}:{port}").parse::<SocketAddr>().ok());
    let mut target = Target::at(said.unwrap_or(binding.endpoint));
    target.credentials = Some(credentials);
    let contracts: Vec<Contract> = consumer.spec.contracts.iter().filter(|c| c.need == *need).cloned().collect();
    target.folder = known.estate.as_ref().map(|estate| estate.folder.clone()).unwrap_or_default();
    let pid = consumer.instances.values().find_map(|instance| instance.running.and_then(|running| running.pid));
    if let Some(pid) = pid {
        watching::as_the_process(&mut target, pid);
    }
    Ok(Edge { binding: id, revision: binding.revision, provider: None, version: None, contracts, target })
}

/// What an edge was like when it was last looked at: a change of any of these is worth another look.
type Shape = (u32, u32, u32, Option<Timestamp>, bool);

fn shape(known: &Knowledge, consumer: &ServiceKnowledge, need: &ServiceName) -> Option<Shape> {
    let needed = known.services.get(need)?;
    let binding = consumer.bindings.get(need).filter(|binding| binding.state == BindingState::Made)?;
    // Looked at once both sides work: what is down is no news, and what starts may still prepare what is relied on. Where
    // the consumer is in trouble although its needs work, what its binding is like may be what is behind that.
    let in_trouble = |instance: &Instance| {
        instance.repair.is_some() || matches!(instance.health, Some(Health::Shallow(_) | Health::Unready(_)))
    };
    let trouble = consumer.instances.values().any(|instance| in_trouble(instance));
    let settled = consumer.ready > 0 && consumer.outdated.is_empty();
    // Nor is it while the need moves to another provider: who looked then would wait with everybody else.
    let works = needed.moving.is_none() && needed.ready > 0 && needed.outdated.is_empty() && (settled || trouble);
    let since = needed.instances.values().filter_map(|instance| Some(instance.running?.since)).max();
    works.then_some((binding.revision, consumer.generation, needed.generation, since, trouble))
}

/// Looks after changes, and from time to time, for ever.
pub(crate) async fn follow(handle: Loop) {
    let mut changes = handle.changes();
    let mut seen: BTreeMap<BindingId, (Shape, Instant)> = BTreeMap::new();
    loop {
        changes.mark_unchanged();
        let shapes: BTreeMap<BindingId, (Shape, bool)> = handle.known(shapes).await;
        seen.retain(|id, _| shapes.contains_key(id));
        let now = Instant::now();
        let is_due = |id: &BindingId, shape: &Shape, is_kept: bool| match seen.get(id) {
            Some((former, at)) if former == shape => now >= *at + if is_kept { EVERY } else { EVERY_WRONG },
            Some(_) | None => true,
        };
        let due: Vec<BindingId> = shapes
            .iter()
            .filter(|(id, (shape, is_kept))| is_due(id, shape, *is_kept))
            .map(|(id, _)| id.clone())
            .collect();
        if !due.is_empty() {
            let asked = due.clone();
            let is_asked =
                move |consumer: &ServiceKnowledge, need: &ServiceName| asked.contains(&consumer.binding_id(need));
            let (edges, _) = handle.ask(move |engine, _| edges(engine, None, is_asked)).await;
            let room = Arc::new(Semaphore::new(AT_ONCE));
            let looks = edges.into_iter().map(|edge| tokio::spawn(look_at(handle.clone(), edge, room.clone())));
            for look in looks.collect::<Vec<_>>() {
                drop(look.await);
            }
            for id in due {
                if let Some((shape, _)) = shapes.get(&id) {
                    seen.insert(id, (*shape, Instant::now()));
                }
            }
        }
        // Without needs there is nothing to look at, and nobody is woken for it.
        let pause = if shapes.is_empty() { EVERY } else { EVERY_WRONG };
        let _ = tokio::time::timeout(pause, changes.changed()).await;
        tokio::time::sleep(CALM).await;
    }
}

fn shapes(known: &Knowledge) -> BTreeMap<BindingId, (Shape, bool)> {
    let consumers = known.services.values().filter(|consumer| {
        !consumer.spec.needs.is_empty() && consumer.origin == Origin::Declared && known.is_wanted(consumer)
    });
    let of = |consumer: &ServiceKnowledge, need: &ServiceName| {
        let verified = consumer.bindings.get(need).and_then(|binding| binding.verified.as_ref());
        let is_kept = verified.is_some_and(|verified| verified.is_kept());
        Some((consumer.binding_id(need), (shape(known, consumer, need)?, is_kept)))
    };
    consumers.flat_map(|consumer| consumer.spec.needs.iter().filter_map(move |need| of(consumer, need))).collect()
}

#[cfg(test)]
mod tests {
    use ostler_model::estate::contract::ContractCheck;

    use super::*;

    #[test]
    fn a_need_is_of_a_version_that_is_relied_on() {
        let version = |text: &str| text.parse::<Version>().unwrap();
        let contract = |relied_on: Option<&str>, check| Contract {
            need: "db".parse().unwrap(),
            name: "it is right".to_owned(),
            version: relied_on.map(|text| text.parse().unwrap()),
            check,
        };
        assert_eq!(right_version(&contract(None, Some(ContractCheck::Tcp)), Some(&version("17.2"))), None);
        for (in_use, kind, detail) in [
            (Some("16.4"), None, ""),
            (Some("17.2"), Some(SymptomKind::WrongAnswer), "db is 17.2, which is not in `>=15, <17`"),
            (None, Some(SymptomKind::Unknown), "it is not known which version db is: its provider does not say"),
        ] {
            let in_use = in_use.map(version);
            let checked = right_version(&contract(Some(">=15, <17"), None), in_use.as_ref()).unwrap();
            assert_eq!(checked.name, "it is right");
            assert_eq!(checked.problem.as_ref().map(|problem| problem.kind), kind);
            assert_eq!(checked.problem.map(|problem| problem.detail).unwrap_or_default(), detail);
        }
        // Two checks of one contract are told apart.
        let both = right_version(&contract(Some("16"), Some(ContractCheck::Tcp)), Some(&version("16.4"))).unwrap();
        assert_eq!(both.name, "it is right: version 16");
    }
}
