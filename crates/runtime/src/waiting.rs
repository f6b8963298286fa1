//! What keeps a service from working though nothing is wrong with itself: the needs at the end of its chain of needs that
//! are in trouble, with what to do about each.

use std::collections::BTreeSet;

use ostler_manager::{InstanceView, Knowledge, ServiceView, StatusView};
use ostler_model::health::State;
use ostler_model::ids::ServiceName;
use serde::{Deserialize, Serialize};

/// A need, near or far, that does not work, while all of its own needs do.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Waiting {
    /// Which.
    pub need: ServiceName,
    /// The services between, the nearest first; empty for a need of the service itself.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub through: Vec<ServiceName>,
    /// Its state.
    pub state: State,
    /// What stands in its way.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub because: Option<String>,
    /// What a person can do about it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub answer: Option<String>,
}

/// What `service` waits for; nothing if it is ready.
pub fn waits_for(known: &Knowledge, status: &StatusView, service: &ServiceName) -> Vec<Waiting> {
    let view = |name: &ServiceName| status.services.iter().find(|view| view.name == *name);
    let in_trouble = |name: &ServiceName| view(name).is_some_and(|view| view.state != State::Ready);
    if !in_trouble(service) {
        return Vec::new();
    }
    let (mut found, mut seen) = (Vec::new(), BTreeSet::from([service.clone()]));
    let mut line = vec![(service.clone(), Vec::new())];
    while let Some((name, through)) = line.pop() {
        let Some(service) = known.services.get(&name) else { continue };
        let mut troubled: Vec<&ServiceName> = service.spec.needs.iter().filter(|need| in_trouble(need)).collect();
        let is_root = troubled.is_empty() && seen.len() > 1;
        troubled.retain(|need| seen.insert((*need).clone()));
        if let (true, Some(view)) = (is_root, view(&name)) {
            found.push(waiting(view, through));
            continue;
        }
        let through: Vec<ServiceName> = through.into_iter().chain([name]).collect();
        line.extend(troubled.into_iter().rev().map(|need| (need.clone(), through.clone())));
    }
    for waiting in &mut found {
        waiting.through.remove(0); // the service itself, which every way begins with
    }
    found
}

fn waiting(view: &ServiceView, through: Vec<ServiceName>) -> Waiting {
    let worst = |instance: &&InstanceView| (instance.answer.is_some(), instance.because.is_some());
    let instance = view.instances.iter().filter(|instance| instance.state != State::Ready).max_by_key(worst);
    let because = match instance {
        Some(instance) => {
            let because = instance.because.as_deref().map_or(String::new(), |because| format!(": {because}"));
            Some(format!("{} is {}{because}", instance.id, instance.state))
        }
        None => view.troubles.first().cloned(),
    };
    let answer = instance.and_then(|instance| instance.answer.clone());
    Waiting { need: view.name.clone(), through, state: view.state, because, answer }
}

/// One line, and one more if there is something to do.
pub(crate) fn in_words(waiting: &Waiting) -> String {
    let through: Vec<&str> = waiting.through.iter().map(ServiceName::as_str).collect();
    let through = if through.is_empty() { String::new() } else { format!(" (through {})", through.join(", ")) };
    let because = waiting.because.as_ref().map_or(String::new(), |because| format!(": {because}"));
    let answer = waiting.answer.as_ref().map_or(String::new(), |answer| format!("    what to do: {answer}\n"));
    format!("  it waits for {}{through}, which is {}{because}\n{answer}", waiting.need, waiting.state)
}
