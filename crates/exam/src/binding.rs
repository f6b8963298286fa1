//! What can be seen by binding, and by using what comes of it with a real client.

use std::time::Duration;

use ostler_model::health::{Symptom, SymptomKind};
use ostler_probes::{Exercised, Target, exercise};
use ostler_providers::osb::{credentials, place};
use reqwest::Method;
use serde_json::{Value, json};

use crate::buying::{Goods, bind_body};
use crate::examiner::{Ended, Examiner};
use crate::rules::Rule;
use crate::wire::{Exchange, Object, Send, new_id};

/// How long one use may take.
const USE_TIME: Duration = Duration::from_secs(20);

/// A binding that was made.
pub(crate) struct Held {
    pub(crate) path: String,
    answer: Object,
    /// One could work with it: whatever follows is not blamed for what never worked.
    works: bool,
}

impl Held {
    fn credentials(&self) -> Option<&Value> {
        self.answer.get("credentials")
    }

    /// Works with it, if that was ever possible.
    pub(crate) async fn still_works(&self) -> Result<(), Symptom> {
        if self.works { self.try_out().await.map(drop) } else { Ok(()) }
    }

    /// Works with it, from here.
    pub(crate) async fn try_out(&self) -> Result<Exercised, Symptom> {
        let unknown = |detail: String| Symptom { kind: SymptomKind::Unknown, detail };
        let place =
            place(&self.answer).ok_or_else(|| unknown("the credentials name no host with a port".to_owned()))?;
        let mut found = tokio::net::lookup_host((place.host.as_str(), place.port))
            .await
            .map_err(|error| unknown(format!("`{}` cannot be looked up: {error}", place.host)))?;
        let address = found.next().ok_or_else(|| unknown(format!("`{}` has no address", place.host)))?;
        let mut target = Target::at(address);
        target.credentials = Some(credentials(&self.answer, None));
        exercise(&target, &new_id().replace('-', ""), USE_TIME).await
    }
}

impl Examiner<'_> {
    /// Makes bindings, uses them, ends all but one: that one.
    pub(crate) async fn bind(&mut self, goods: &Goods) -> Option<Held> {
        self.about_to("binding, and using what comes of it");
        let id = new_id();
        let without_plan = json!({ "service_id": goods.service.get("id") });
        let path = binding_path(goods, &new_id());
        self.may_be_there(&path, "a binding that should have been refused");
        let exchange = self.put(&path, without_plan).await;
        self.rule(Rule::BindFields, exchange.is(&[400]), "it is not refused with 400", &exchange);
        if exchange.is_refused() {
            self.is_gone(&path);
        }
        let mut first = self.bind_once(goods, &id, bind_body(goods), Rule::Bind).await?;
        first.works = self.use_it(&first).await;
        self.ask_again(goods, &first).await;
        let second = self.bind_once(goods, &new_id(), bind_body(goods), Rule::Bind).await;
        if let Some(second) = second {
            self.part(goods, &mut first, second).await;
        }
        self.rotate(goods, first).await
    }

    /// Whether one can work with it.
    async fn use_it(&mut self, held: &Held) -> bool {
        let seen = Exchange { sent: "(a client of its protocol)".to_owned(), ..blank() };
        match held.try_out().await {
            Ok(exercised) if exercised.wrote => self.rule(Rule::BindUse, true, "", &seen),
            Ok(exercised) => {
                let why = format!(
                    "it could be connected to ({}), and what it speaks is encrypted or not known here",
                    exercised.protocol
                );
                self.not_seen(Rule::BindUse, &why);
                true
            }
            Err(symptom) => self.rule(Rule::BindUse, false, &symptom.to_string(), &seen),
        }
    }

    /// The same again, another under the same name, and fetched.
    async fn ask_again(&mut self, goods: &Goods, held: &Held) {
        let again = self.put(&held.path, bind_body(goods)).await;
        let is_same = again.object.as_ref().and_then(|object| object.get("credentials")) == held.credentials();
        let is_kept = again.is(&[200]) && is_same || again.is(&[202]);
        self.rule(Rule::BindAgain, is_kept, "it is not the same binding", &again);
        let mut other = bind_body(goods);
        other["bind_resource"] = json!({ "app_guid": "ostler-exam-another" });
        other["app_guid"] = "ostler-exam-another".into();
        let exchange = self.put(&held.path, other).await;
        self.rule(Rule::BindConflict, exchange.is(&[409]), "it is not said to be in conflict", &exchange);
        if !goods.flag("bindings_retrievable") {
            return self.not_seen(Rule::FetchBinding, "`bindings_retrievable` is false");
        }
        let exchange = self.send(Method::GET, Send { path: held.path.clone(), ..Send::default() }).await;
        let is_same = exchange.object.as_ref().and_then(|object| object.get("credentials")) == held.credentials();
        self.rule(Rule::FetchBinding, exchange.is(&[200]) && is_same, "it holds something else", &exchange);
    }

    /// A second binding comes and goes, and leaves the first alone.
    async fn part(&mut self, goods: &Goods, first: &mut Held, second: Held) {
        let seen = Exchange { sent: "(two bindings)".to_owned(), ..blank() };
        let apart = first.credentials() != second.credentials();
        self.rule(Rule::BindApart, apart, "they have the same credentials", &seen);
        let before = second.try_out().await.is_ok_and(|exercised| exercised.wrote);
        let (is_ended, exchange) = self.unbind(goods, &second.path).await;
        let mut why = "it cannot be ended".to_owned();
        let mut is_kept = is_ended;
        if let (true, Err(symptom)) = (is_ended, first.still_works().await) {
            is_kept = false;
            why = format!("another binding does not work any more: {symptom}");
            first.works = false;
        }
        self.rule(Rule::Unbind, is_kept, &why, &exchange);
        if !is_ended || !before || !apart {
            self.not_seen(Rule::UnbindAgain, "it could not be told whether it was ended");
            return self.not_seen(Rule::UnbindEnds, "its credentials could not be told from others");
        }
        let works = second.try_out().await.is_ok_and(|exercised| exercised.wrote);
        self.rule(Rule::UnbindEnds, !works, "one can still write with them", &exchange);
        let again = self.delete_binding(goods, &second.path).await;
        self.rule(Rule::UnbindAgain, again.is(&[410]), "it is answered otherwise", &again);
    }

    /// A successor takes over from the first, which is ended.
    async fn rotate(&mut self, goods: &Goods, first: Held) -> Option<Held> {
        if !goods.flag("binding_rotatable") {
            self.not_seen(Rule::Rotate, "`binding_rotatable` is false");
            return Some(first);
        }
        let predecessor = first.path.rsplit('/').next().unwrap_or_default().to_owned();
        let mut body = bind_body(goods);
        body["predecessor_binding_id"] = predecessor.into();
        let successor = self.bind_once(goods, &new_id(), body, Rule::Rotate).await;
        let Some(mut successor) = successor.map(|made| Held { works: first.works, ..made }) else { return Some(first) };
        let seen = Exchange { sent: "(a binding and its successor)".to_owned(), ..blank() };
        let is_kept = first.still_works().await.is_ok() && successor.still_works().await.is_ok();
        self.rule(Rule::Rotate, is_kept, "not both of them work", &seen);
        let (is_ended, exchange) = self.unbind(goods, &first.path).await;
        self.rule(Rule::Rotate, is_ended, "the first cannot be ended", &exchange);
        if let Err(symptom) = successor.still_works().await {
            let why = format!("the successor does not outlive the first: {symptom}");
            self.rule(Rule::Rotate, false, &why, &exchange);
            successor.works = false;
        }
        Some(successor)
    }

    async fn bind_once(&mut self, goods: &Goods, id: &str, body: Value, rule: Rule) -> Option<Held> {
        let path = binding_path(goods, id);
        self.may_be_there(&path, "a binding");
        let mut exchange = self.put(&path, body).await;
        if exchange.is(&[202]) {
            match self.follow(&path, &goods.ids(), exchange.operation(), goods.most()).await {
                Ended::Succeeded => {
                    let send = Send { path: path.clone(), query: goods.ids(), ..Send::default() };
                    exchange = self.send(Method::GET, send).await;
                }
                Ended::Gone => {}
                Ended::Failed(last, _) => exchange = last,
            }
        }
        let answer = exchange.object.clone().filter(|_| exchange.is(&[200, 201]));
        let answer = answer.filter(|answer| answer.get("credentials").is_some_and(Value::is_object));
        self.rule(rule, answer.is_some(), "there are no credentials", &exchange);
        answer.map(|answer| Held { path, answer, works: true })
    }

    async fn put(&self, path: &str, body: Value) -> Exchange {
        let query = vec![("accepts_incomplete", "true".to_owned())];
        self.send(Method::PUT, Send { path: path.to_owned(), query, body: Some(body), ..Send::default() }).await
    }

    /// Whether it is ended.
    pub(crate) async fn unbind(&mut self, goods: &Goods, path: &str) -> (bool, Exchange) {
        let exchange = self.delete_binding(goods, path).await;
        let is_ended = match exchange.status {
            Some(200 | 410) => true,
            Some(202) => {
                let ended = self.follow(path, &goods.ids(), exchange.operation(), goods.most()).await;
                matches!(ended, Ended::Succeeded | Ended::Gone)
            }
            _ => false,
        };
        if is_ended {
            self.is_gone(path);
        }
        (is_ended, exchange)
    }

    async fn delete_binding(&self, goods: &Goods, path: &str) -> Exchange {
        let mut query = goods.ids();
        query.push(("accepts_incomplete", "true".to_owned()));
        self.send(Method::DELETE, Send { path: path.to_owned(), query, ..Send::default() }).await
    }
}

fn binding_path(goods: &Goods, id: &str) -> String {
    format!("{}/service_bindings/{id}", goods.path)
}

/// What was not sent to the broker.
fn blank() -> Exchange {
    Exchange {
        sent: String::new(),
        status: None,
        object: None,
        is_json: false,
        echoes: false,
        retry_after: None,
        got: "(see what is wrong)".to_owned(),
    }
}
