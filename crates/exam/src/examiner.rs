//! What the parts of the examination share: the wire, what was found so far, and what may be left behind.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use ostler_model::estate::osb::OsbProvider;
use ostler_model::outcome::Failure;
use reqwest::Method;
use serde_json::Value;
use tokio::time::{Instant, sleep};

use crate::report::Report;
use crate::rules::Rule;
use crate::wire::{Exchange, Object, Send, Wire};
use crate::{Scope, Verdict};

/// The first pause between two questions about an operation; it grows to …
const POLL_FIRST: Duration = Duration::from_millis(100);
/// … this, if the broker does not ask for another.
const POLL_MAX: Duration = Duration::from_secs(2);
/// A pause that a broker asks for is not longer than this.
const RETRY_MAX: Duration = Duration::from_secs(30);
/// How long an operation is waited for where the plan does not allow less.
const OPERATION_TIME: Duration = Duration::from_secs(20 * 60);

/// The examination under way.
pub(crate) struct Examiner<'a> {
    pub(crate) wire: Wire,
    progress: &'a (dyn Fn(&str) + Sync),
    found: BTreeMap<Rule, Verdict>,
    /// What may still be at the broker, and what it is.
    left: BTreeMap<String, String>,
    pub(crate) bought: Option<String>,
}

/// The end of an operation.
pub(crate) enum Ended {
    Succeeded,
    Gone,
    /// It failed, or cannot be followed: the last thing that was said of it.
    Failed(Exchange, String),
}

impl<'a> Examiner<'a> {
    pub(crate) async fn new(
        declared: &OsbProvider,
        folder: &Path,
        progress: &'a (dyn Fn(&str) + Sync),
    ) -> Result<Self, Failure> {
        let wire = Wire::new(declared, folder).await?;
        Ok(Self { wire, progress, found: BTreeMap::new(), left: BTreeMap::new(), bought: None })
    }

    pub(crate) fn about_to(&self, what: &str) {
        (self.progress)(what);
    }

    pub(crate) async fn send(&self, method: Method, send: Send) -> Exchange {
        self.wire.send(method, send).await
    }

    /// A rule that is kept if `is_kept`, and otherwise broken by this answer. What was found wrong once stays so.
    pub(crate) fn rule(&mut self, rule: Rule, is_kept: bool, why: &str, exchange: &Exchange) -> bool {
        if is_kept {
            self.found.entry(rule).or_insert(Verdict::Kept);
        } else {
            let (sent, got) = (exchange.sent.clone(), exchange.got.clone());
            self.broken(rule, Verdict::Broken { why: why.to_owned(), sent, got });
        }
        is_kept
    }

    fn broken(&mut self, rule: Rule, verdict: Verdict) {
        let found = self.found.entry(rule).or_insert(Verdict::Kept);
        if !matches!(found, Verdict::Broken { .. }) {
            *found = verdict;
        }
    }

    pub(crate) fn not_seen(&mut self, rule: Rule, why: &str) {
        self.found.entry(rule).or_insert_with(|| Verdict::NotSeen { why: why.to_owned() });
    }

    /// It may be at the broker from now on.
    pub(crate) fn may_be_there(&mut self, path: &str, what: &str) {
        self.left.insert(path.to_owned(), what.to_owned());
    }

    pub(crate) fn is_gone(&mut self, path: &str) {
        self.left.retain(|other, _| other != path && !other.starts_with(&format!("{path}/")));
    }

    pub(crate) fn left(&self) -> Vec<String> {
        self.left.keys().rev().cloned().collect() // bindings before their instances
    }

    /// Asks how far an operation is until it is over.
    pub(crate) async fn follow(
        &mut self,
        path: &str,
        ids: &[(&'static str, String)],
        operation: Option<String>,
        most: Option<u64>,
    ) -> Ended {
        let until = Instant::now() + most.map_or(OPERATION_TIME, |most| OPERATION_TIME.min(Duration::from_secs(most)));
        let mut query = ids.to_vec();
        query.extend(operation.map(|operation| ("operation", operation)));
        let mut pause = POLL_FIRST;
        loop {
            let asked = Send { path: format!("{path}/last_operation"), query: query.clone(), ..Send::default() };
            let exchange = self.send(Method::GET, asked).await;
            if exchange.is(&[410]) {
                return Ended::Gone;
            }
            match exchange.text("state") {
                Some("succeeded") if exchange.is(&[200]) => return Ended::Succeeded,
                Some("failed") if exchange.is(&[200]) => return Ended::Failed(exchange, "it failed".to_owned()),
                Some("in progress") if exchange.is(&[200]) => {}
                _ => return Ended::Failed(exchange, "that is no answer about an operation".to_owned()),
            }
            if Instant::now() > until {
                return Ended::Failed(exchange, "it was not over in time".to_owned());
            }
            sleep(exchange.retry_after.map_or(pause, |asked| asked.min(RETRY_MAX))).await;
            pause = (pause * 3 / 2).min(POLL_MAX);
        }
    }

    pub(crate) fn into_report(self, scope: &Scope) -> Report {
        let why = match scope {
            Scope::Reading => "it can only be seen by buying (--full)",
            Scope::Buying(_) => "the examination did not come so far",
        };
        let mut found = self.found;
        for rule in Rule::ALL {
            found.entry(*rule).or_insert_with(|| Verdict::NotSeen { why: why.to_owned() });
        }
        let left = self.left.into_iter().map(|(path, what)| format!("{what}: {path}")).collect();
        Report::new(self.wire.url().to_owned(), self.bought, found, left)
    }
}

/// The objects in a list.
pub(crate) fn objects<'v>(of: &'v Object, key: &str) -> Vec<&'v Object> {
    of.get(key).and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_object).collect()
}

/// A text that is there and not empty.
pub(crate) fn text<'v>(of: &'v Object, key: &str) -> Option<&'v str> {
    of.get(key).and_then(Value::as_str).filter(|text| !text.is_empty())
}

pub(crate) fn flag(of: &Object, key: &str) -> Option<bool> {
    of.get(key).and_then(Value::as_bool)
}
