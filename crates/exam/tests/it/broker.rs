//! A broker that keeps every rule but, at most, one; and a server of the Redis protocol that its bindings give access to.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::http::{HeaderMap, Method, Response, Uri};
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};

/// What is wrong with the broker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    None,
    NobodyIsAsked,
    AnyPassword,
    AnyVersion,
    CatalogOfHtml,
    NoDescription,
    SameIds,
    SameNames,
    OtherIdsEachTime,
    ForeignSchema,
    NoPrice,
    MaintenanceOfToday,
    EverythingIsThere,
    EverythingSucceeded,
    ErrorsOfText,
    UnknownIsDeleted,
    NoPlanNeeded,
    AnyPlan,
    AnyParameters,
    AnyMaintenance,
    AlwaysLater,
    OtherOperationEachTime,
    NeverOver,
    NoConflict,
    BindsEarly,
    WrongCredentials,
    OtherCredentialsEachTime,
    SharedCredentials,
    UnbindLeaves,
    UnbindEndsAll,
    RotationEndsFirst,
    UpdatesToAnything,
    UpdateLosesBindings,
    DeletesUnnamed,
    LeavesInstances,
    NeverDeletes,
}

/// The broker. It ends with the test.
pub(crate) struct Broker {
    pub(crate) address: SocketAddr,
    state: Arc<Mutex<Store>>,
    tasks: Vec<tokio::task::JoinHandle<()>>,
}

impl Drop for Broker {
    fn drop(&mut self) {
        self.tasks.iter().for_each(tokio::task::JoinHandle::abort);
    }
}

struct Store {
    fault: Fault,
    redis: SocketAddr,
    instances: BTreeMap<String, Instance>,
    /// By instance and binding.
    bindings: BTreeMap<(String, String), Bound>,
    /// Who may log in.
    users: BTreeSet<(String, String)>,
    texts: BTreeMap<String, String>,
    counter: u32,
}

#[derive(Clone)]
struct Instance {
    plan: String,
    /// How often it still says that it is in progress.
    polls: u32,
}

#[derive(Clone)]
struct Bound {
    said: Value,
    user: String,
    password: String,
}

impl Broker {
    pub(crate) async fn start(fault: Fault) -> Self {
        let redis = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let http = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = http.local_addr().unwrap();
        let store = Store {
            fault,
            redis: redis.local_addr().unwrap(),
            instances: BTreeMap::new(),
            bindings: BTreeMap::new(),
            users: BTreeSet::new(),
            texts: BTreeMap::new(),
            counter: 0,
        };
        let state = Arc::new(Mutex::new(store));
        let router = Router::new().fallback(serve).with_state(state.clone());
        let served = state.clone();
        let tasks = vec![
            tokio::spawn(async move { axum::serve(http, router).await.unwrap() }),
            tokio::spawn(async move {
                while let Ok((stream, _)) = redis.accept().await {
                    tokio::spawn(talk(stream, served.clone()));
                }
            }),
        ];
        Self { address, state, tasks }
    }

    /// Instances and bindings that are there.
    pub(crate) fn left(&self) -> (usize, usize) {
        let state = self.state.lock().unwrap();
        (state.instances.len(), state.bindings.len())
    }
}

type Reply = (u16, Value);

async fn serve(
    State(state): State<Arc<Mutex<Store>>>,
    method: Method,
    uri: Uri,
    headers: HeaderMap,
    body: Bytes,
) -> Response<Body> {
    let mut store = state.lock().unwrap();
    let fault = store.fault;
    let (status, value) = store.answer(&method, &uri, &headers, &body);
    let is_catalog = uri.path() == "/v2/catalog";
    let text = match (fault, status) {
        (Fault::CatalogOfHtml, _) if is_catalog => "<html></html>".to_owned(),
        (Fault::ErrorsOfText, 400..) => "it went wrong".to_owned(),
        _ => value.to_string(),
    };
    let mut response = Response::builder().status(status).header("Content-Type", "application/json");
    if let Some(identity) = headers.get("X-Broker-API-Request-Identity") {
        response = response.header("X-Broker-API-Request-Identity", identity);
    }
    response.body(Body::from(text)).unwrap()
}

fn error(status: u16, description: &str) -> Reply {
    (status, json!({ "description": description }))
}

fn coded(code: &str) -> Reply {
    (422, json!({ "error": code, "description": code }))
}

impl Store {
    fn answer(&mut self, method: &Method, uri: &Uri, headers: &HeaderMap, body: &[u8]) -> Reply {
        let authorization = headers.get("Authorization").and_then(|value| value.to_str().ok());
        // shop:sesame
        let is_known = match self.fault {
            Fault::NobodyIsAsked => true,
            Fault::AnyPassword => authorization.is_some(),
            _ => authorization == Some("Basic c2hvcDpzZXNhbWU="),
        };
        if !is_known {
            return error(401, "who are you?");
        }
        let version = headers.get("X-Broker-API-Version").and_then(|value| value.to_str().ok());
        if self.fault != Fault::AnyVersion && version != Some("2.17") {
            return error(412, "version 2.17, please");
        }
        let query: BTreeMap<&str, &str> =
            uri.query().unwrap_or_default().split('&').filter_map(|pair| pair.split_once('=')).collect();
        let body: Value = serde_json::from_slice(body).unwrap_or_default();
        let path: Vec<&str> = uri.path().split('/').skip(2).collect();
        match (method.as_str(), path.as_slice()) {
            ("GET", ["catalog"]) => (200, self.catalog()),
            ("PUT", ["service_instances", id]) => self.provision(id, &body, query.contains_key("accepts_incomplete")),
            ("GET", ["service_instances", id]) => self.fetch(id),
            ("PATCH", ["service_instances", id]) => self.update(id, &body),
            ("DELETE", ["service_instances", id]) => self.deprovision(id, &query),
            ("GET", ["service_instances", id, "last_operation"]) => self.last_operation(id),
            ("PUT", ["service_instances", id, "service_bindings", binding]) => self.bind(id, binding, &body),
            ("GET", ["service_instances", id, "service_bindings", binding]) => {
                match self.bindings.get(&((*id).to_owned(), (*binding).to_owned())) {
                    Some(bound) => (200, self.credentials(bound)),
                    None => error(404, "no such binding"),
                }
            }
            ("DELETE", ["service_instances", id, "service_bindings", binding]) => self.unbind(id, binding),
            _ => error(404, "nothing is here"),
        }
    }

    fn catalog(&mut self) -> Value {
        self.counter += 1;
        let small = match self.fault {
            Fault::OtherIdsEachTime => format!("p-small-{}", self.counter),
            _ => "p-small".to_owned(),
        };
        let schema = match self.fault {
            Fault::ForeignSchema => json!({"$schema": "http://json-schema.org/draft-04/schema#", "$ref": "http://x/y"}),
            _ => json!({"$schema": "http://json-schema.org/draft-04/schema#", "type": "object",
                        "additionalProperties": false}),
        };
        let maintenance = if self.fault == Fault::MaintenanceOfToday { "today" } else { "1.0.0" };
        let mut services = json!([{
            "id": "s-1", "name": "redis", "description": "A store.", "bindable": true, "plan_updateable": true,
            "instances_retrievable": true, "bindings_retrievable": true,
            "plans": [
                {"id": small, "name": "small", "description": "Small.", "free": false, "binding_rotatable": true,
                 "maximum_polling_duration": 1,
                 "metadata": {"costs": [{"amount": {"eur": 1.0}, "unit": "MONTHLY"}]},
                 "maintenance_info": {"version": maintenance},
                 "schemas": {"service_instance": {"create": {"parameters": schema}}}},
                {"id": "p-large", "name": "large", "description": "Large."},
            ],
        }]);
        let plans = &mut services[0]["plans"];
        match self.fault {
            Fault::NoDescription => drop(plans[1].as_object_mut().unwrap().remove("description")),
            Fault::SameIds => plans[1]["id"] = "p-small".into(),
            Fault::SameNames => plans[1]["name"] = "small".into(),
            Fault::NoPrice => drop(plans[0].as_object_mut().unwrap().remove("metadata")),
            _ => {}
        }
        json!({ "services": services })
    }

    fn provision(&mut self, id: &str, body: &Value, later: bool) -> Reply {
        let plan = body["plan_id"].as_str().unwrap_or_default();
        if plan.is_empty() && self.fault != Fault::NoPlanNeeded {
            return error(400, "no plan");
        }
        if !plan.starts_with("p-") && !plan.is_empty() && self.fault != Fault::AnyPlan {
            return error(400, "no such plan");
        }
        if body.get("parameters").is_some() && self.fault != Fault::AnyParameters {
            return error(400, "no such parameter");
        }
        let version = body["maintenance_info"]["version"].as_str().unwrap_or("1.0.0");
        if version.starts_with("0.0.0") && self.fault != Fault::AnyMaintenance {
            return coded("MaintenanceInfoConflict");
        }
        self.counter += 1;
        let operation = match self.fault {
            Fault::OtherOperationEachTime => format!("make-{}", self.counter),
            _ => "make".to_owned(),
        };
        if let Some(known) = self.instances.get(id) {
            return match known.polls {
                _ if known.plan != plan && self.fault != Fault::NoConflict => error(409, "another plan"),
                0 => (200, json!({})),
                _ => (202, json!({ "operation": operation })),
            };
        }
        if !later && self.fault != Fault::AlwaysLater {
            return coded("AsyncRequired");
        }
        self.instances.insert(id.to_owned(), Instance { plan: plan.to_owned(), polls: 4 });
        (202, json!({ "operation": operation }))
    }

    fn fetch(&self, id: &str) -> Reply {
        match self.instances.get(id) {
            Some(known) if known.polls == 0 => (200, json!({ "service_id": "s-1", "plan_id": known.plan })),
            None if self.fault == Fault::EverythingIsThere => (200, json!({})),
            _ => error(404, "no such instance"),
        }
    }

    fn last_operation(&mut self, id: &str) -> Reply {
        let never = self.fault == Fault::NeverOver;
        match self.instances.get_mut(id) {
            Some(known) if known.polls > 0 => {
                known.polls -= u32::from(!never);
                (200, json!({ "state": "in progress" }))
            }
            Some(_) => (200, json!({ "state": "succeeded" })),
            None if self.fault == Fault::EverythingSucceeded => (200, json!({ "state": "succeeded" })),
            None => (410, json!({})),
        }
    }

    fn update(&mut self, id: &str, body: &Value) -> Reply {
        let version = body["maintenance_info"]["version"].as_str().unwrap_or("1.0.0");
        if version.starts_with("0.0.0") && self.fault != Fault::AnyMaintenance {
            return coded("MaintenanceInfoConflict");
        }
        let Some(known) = self.instances.get_mut(id) else { return error(404, "no such instance") };
        if let Some(plan) = body["plan_id"].as_str() {
            if !plan.starts_with("p-") && self.fault != Fault::UpdatesToAnything {
                return error(400, "no such plan");
            }
            if self.fault == Fault::UpdateLosesBindings && known.plan != plan {
                self.users.clear();
            }
            known.plan = plan.to_owned();
        }
        (200, json!({}))
    }

    fn deprovision(&mut self, id: &str, query: &BTreeMap<&str, &str>) -> Reply {
        let is_named = query.contains_key("service_id") && query.contains_key("plan_id");
        if !is_named && self.fault != Fault::DeletesUnnamed {
            return error(400, "which plan?");
        }
        if self.fault == Fault::NeverDeletes && self.instances.contains_key(id) {
            return error(500, "not today");
        }
        if self.fault == Fault::LeavesInstances && self.instances.contains_key(id) {
            return (200, json!({}));
        }
        if self.instances.remove(id).is_none() {
            return match self.fault {
                Fault::UnknownIsDeleted => (200, json!({})),
                _ => (410, json!({})),
            };
        }
        let gone: Vec<_> = self.bindings.keys().filter(|(instance, _)| instance == id).cloned().collect();
        gone.iter().for_each(|key| drop(self.bindings.remove(key)));
        self.users.clear();
        (200, json!({}))
    }

    fn bind(&mut self, id: &str, binding: &str, body: &Value) -> Reply {
        let Some(instance) = self.instances.get(id) else { return error(404, "no such instance") };
        if instance.polls > 0 && self.fault != Fault::BindsEarly {
            return coded("ConcurrencyError");
        }
        if body.get("plan_id").is_none() {
            return error(400, "no plan");
        }
        let key = (id.to_owned(), binding.to_owned());
        if let Some(known) = self.bindings.get(&key).cloned() {
            if known.said != *body {
                return error(409, "another binding");
            }
            if self.fault == Fault::OtherCredentialsEachTime {
                let fresh = self.fresh(body);
                return (200, self.credentials(&fresh));
            }
            return (200, self.credentials(&known));
        }
        if self.fault == Fault::RotationEndsFirst && body.get("predecessor_binding_id").is_some() {
            self.users.clear();
        }
        let bound = self.fresh(body);
        self.bindings.insert(key, bound.clone());
        (201, self.credentials(&bound))
    }

    fn fresh(&mut self, body: &Value) -> Bound {
        self.counter += 1;
        let number = if self.fault == Fault::SharedCredentials { 0 } else { self.counter };
        let bound = Bound { said: body.clone(), user: format!("u{number}"), password: format!("secret-{number}") };
        if self.fault != Fault::WrongCredentials {
            self.users.insert((bound.user.clone(), bound.password.clone()));
        }
        bound
    }

    fn credentials(&self, bound: &Bound) -> Value {
        json!({ "credentials": { "uri": format!("redis://{}:{}@{}/0", bound.user, bound.password, self.redis) } })
    }

    fn unbind(&mut self, id: &str, binding: &str) -> Reply {
        let Some(bound) = self.bindings.remove(&(id.to_owned(), binding.to_owned())) else { return (410, json!({})) };
        match self.fault {
            Fault::UnbindLeaves => {}
            Fault::UnbindEndsAll => self.users.clear(),
            _ => drop(self.users.remove(&(bound.user, bound.password))),
        }
        (200, json!({}))
    }
}

/// AUTH, PING, SET, GET and DEL, as in RESP.
async fn talk(stream: TcpStream, state: Arc<Mutex<Store>>) {
    let mut stream = BufReader::new(stream);
    let mut user = None;
    while let Some(words) = command(&mut stream).await {
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        let answer = {
            let mut store = state.lock().unwrap();
            match words.as_slice() {
                ["AUTH", name, password] if store.users.contains(&((*name).to_owned(), (*password).to_owned())) => {
                    user = Some((*name).to_owned());
                    "+OK\r\n".to_owned()
                }
                ["AUTH", ..] => "-WRONGPASS no\r\n".to_owned(),
                _ if user.is_none() => "-NOAUTH no\r\n".to_owned(),
                ["PING"] => "+PONG\r\n".to_owned(),
                ["SET", key, text, ..] => {
                    store.texts.insert((*key).to_owned(), (*text).to_owned());
                    "+OK\r\n".to_owned()
                }
                ["GET", key] => match store.texts.get(*key) {
                    Some(text) => format!("${}\r\n{text}\r\n", text.len()),
                    None => "$-1\r\n".to_owned(),
                },
                ["DEL", key] => format!(":{}\r\n", u8::from(store.texts.remove(*key).is_some())),
                _ => "-ERR what?\r\n".to_owned(),
            }
        };
        if stream.get_mut().write_all(answer.as_bytes()).await.is_err() {
            return;
        }
    }
}

async fn command(stream: &mut BufReader<TcpStream>) -> Option<Vec<String>> {
    let mut line = String::new();
    stream.read_line(&mut line).await.ok().filter(|read| *read > 0)?;
    let count: usize = line.trim().strip_prefix('*')?.parse().ok()?;
    let mut words = Vec::new();
    for _ in 0..count {
        line.clear();
        stream.read_line(&mut line).await.ok()?;
        let length: usize = line.trim().strip_prefix('$')?.parse().ok()?;
        let mut word = vec![0; length + 2];
        stream.read_exact(&mut word).await.ok()?;
        word.truncate(length);
        words.push(String::from_utf8(word).ok()?);
    }
    Some(words)
}
