//! What is bought at an Open Service Broker, from the first ask to the last, with answers lost and ostler killed at any
//! step between a request and its answer.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};

use serde_json::{Value, json};

use crate::harness::{NOWHERE, Ostler, environment, head, kill, lonely, signal, wait_until};

/// A broker with one Redis to give, whoever asks for how many. It does everything that it is asked for after a while.
pub(crate) struct Broker {
    address: SocketAddr,
    shop: Arc<Mutex<Shop>>,
    redis: Child,
    folder: tempfile::TempDir,
}

#[derive(Default)]
pub(crate) struct Shop {
    uri: String,
    /// What it sells, if something else than usual.
    pub(crate) catalog: Option<Value>,
    /// By id: how often it still says that it is in progress.
    instances: BTreeMap<String, u32>,
    /// By path of the instance and the binding.
    bindings: BTreeSet<String>,
    /// Everything that was ever made.
    made: u32,
    asked: Vec<String>,
    /// It says that it is still making everything.
    slow: bool,
    /// What was asked for twice under one name.
    repeated: Vec<String>,
    trouble: Option<Trouble>,
}

/// What happens at the n-th request, from 1.
#[derive(Clone, Copy, Debug)]
struct Trouble {
    at: usize,
    /// Before it is carried out, or after.
    done: bool,
    what: What,
}

#[derive(Clone, Copy, Debug)]
enum What {
    /// The answer is lost.
    Lost,
    /// This process is killed first.
    Kill(u32),
}

impl Broker {
    pub(crate) fn start() -> Self {
        let folder = tempfile::Builder::new().prefix("ostler-broker-").tempdir().unwrap();
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let redis = Command::new("redis-server")
            .args(["--port", &port.to_string(), "--bind", "127.0.0.1", "--requirepass", "hunter2", "--save", ""])
            .current_dir(folder.path())
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        wait_until("Redis listens", || TcpStream::connect(("127.0.0.1", port)).is_ok());
        let uri = format!("redis://:hunter2@127.0.0.1:{port}/0");
        let shop = Arc::new(Mutex::new(Shop { uri, ..Shop::default() }));
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let served = shop.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let shop = served.clone();
                std::thread::spawn(move || serve(stream, &shop));
            }
        });
        Self { address, shop, redis, folder }
    }

    pub(crate) fn shop(&self) -> std::sync::MutexGuard<'_, Shop> {
        self.shop.lock().unwrap()
    }

    /// How many instances were ever made, how many there are, and how many bindings.
    fn counts(&self) -> (u32, usize, usize) {
        let shop = self.shop();
        (shop.made, shop.instances.len(), shop.bindings.len())
    }

    /// The estate: a cache from here, and a program that uses it.
    pub(crate) fn estate(&self) -> String {
        let acme = format!(
            "\n[provider.acme]\nkind = \"osb\"\nurl = \"http://{}\"\nregion = \"eu-west\"\n\
             auth = {{ username = \"shop\", password = {{ file = \"{}\" }} }}\n\
             manners = {{ timeout = \"2s\", poll_every = \"20ms\" }}\n\n[service.cache]\noffering = \"redis\"\n\
             prefer = [\"acme\"]\ndata = {{ durable = false }}\n",
            self.address,
            self.password().display()
        );
        let web = format!("needs = [\"cache\"]\nenv = {{ {NOWHERE}, CACHE = \"{{{{ needs.cache.uri }}}}\" }}");
        head("bought") + &acme + &lonely("web", &web)
    }

    fn password(&self) -> std::path::PathBuf {
        let path = self.folder.path().join("password");
        std::fs::write(&path, "sesame\n").unwrap();
        path
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        let _ = self.redis.kill();
        let _ = self.redis.wait();
    }
}

fn serve(mut stream: TcpStream, shop: &Mutex<Shop>) {
    let Some((method, path, authorized)) = read_request(&mut stream) else { return };
    let trouble = {
        let mut shop = shop.lock().unwrap();
        // Catalogs are read whenever somebody likes, and change nothing.
        if path != "/v2/catalog" {
            shop.asked.push(format!("{method} {path}"));
        }
        let number = shop.asked.len();
        shop.trouble.take_if(|trouble| trouble.at == number && path != "/v2/catalog")
    };
    let happens = |trouble: Trouble| {
        if let What::Kill(pid) = trouble.what {
            signal(pid, "KILL");
        }
    };
    match trouble {
        Some(trouble) if !trouble.done => return happens(trouble),
        Some(_) | None => {}
    }
    let (status, body) = if authorized { shop.lock().unwrap().answer(&method, &path) } else { (401, json!({})) };
    if let Some(trouble) = trouble {
        return happens(trouble);
    }
    let body = body.to_string();
    let head = format!("HTTP/1.1 {status} X\r\nContent-Length: {}\r\nConnection: close\r\n\r\n", body.len());
    let _ = stream.write_all((head + &body).as_bytes());
}

fn read_request(stream: &mut TcpStream) -> Option<(String, String, bool)> {
    let mut bytes = Vec::new();
    let mut chunk = [0; 4096];
    let end = loop {
        if let Some(end) = bytes.windows(4).position(|window| window == b"\r\n\r\n") {
            break end + 4;
        }
        let count = stream.read(&mut chunk).ok().filter(|count| *count > 0)?;
        bytes.extend_from_slice(&chunk[..count]);
    };
    let head = String::from_utf8_lossy(&bytes[..end]).to_ascii_lowercase();
    let length = head.lines().find_map(|line| line.strip_prefix("content-length: ")?.parse().ok()).unwrap_or(0);
    while bytes.len() < end + length {
        let count = stream.read(&mut chunk).ok().filter(|count| *count > 0)?;
        bytes.extend_from_slice(&chunk[..count]);
    }
    let line = String::from_utf8_lossy(&bytes[..end]).lines().next()?.to_owned();
    let mut words = line.split(' ');
    let (method, path) = (words.next()?.to_owned(), words.next()?.split('?').next()?.to_owned());
    let authorized = head.contains("authorization: basic c2hvcdpzzxnhbwu="); // shop:sesame, in lower case
    Some((method, path, authorized))
}

impl Shop {
    fn answer(&mut self, method: &str, path: &str) -> (u16, Value) {
        let path = path.replace("%2F", "|").replace("%20", " ").replace("%C3%BC", "ü");
        let parts: Vec<String> = path.trim_matches('/').split('/').map(|part| part.replace('|', "/")).collect();
        let parts: Vec<&str> = parts.iter().map(String::as_str).collect();
        match (method, parts.as_slice()) {
            ("GET", ["v2", "catalog"]) => (200, self.catalog.clone().unwrap_or_else(catalog)),
            ("PUT", ["v2", "service_instances", id]) => match self.instances.contains_key(*id) {
                true => {
                    self.repeated.push(path.clone());
                    (409, json!({}))
                }
                false => {
                    self.made += 1;
                    self.instances.insert((*id).to_owned(), 2);
                    (202, json!({"operation": format!("make {id}")}))
                }
            },
            ("GET", ["v2", "service_instances", id, "last_operation"]) => match self.instances.get_mut(*id) {
                None => (410, json!({})),
                Some(_) if self.slow => (200, json!({"state": "in progress", "description": "Digging."})),
                Some(0) => (200, json!({"state": "succeeded"})),
                Some(left) => {
                    *left -= 1;
                    (200, json!({"state": "in progress"}))
                }
            },
            ("GET", ["v2", "service_instances", id]) => match self.instances.get(*id) {
                Some(0) if !self.slow => (200, json!({"service_id": "s", "plan_id": "p"})),
                _ => (404, json!({})),
            },
            ("DELETE", ["v2", "service_instances", id]) => {
                let bound = self.bindings.iter().any(|binding| binding.starts_with(&format!("{id}/")));
                assert!(!bound, "{id} is deleted while something is bound to it");
                let gone = self.instances.remove(*id).is_none();
                (if gone { 410 } else { 200 }, json!({}))
            }
            ("PUT", ["v2", "service_instances", id, "service_bindings", binding]) => {
                assert_eq!(self.instances.get(*id), Some(&0), "something is bound to what is not there");
                match self.bindings.insert(format!("{id}/{binding}")) {
                    true => (201, json!({"credentials": {"uri": self.uri}})),
                    false => {
                        self.repeated.push(path.clone());
                        (409, json!({})) // somebody else's, as far as anybody knows
                    }
                }
            }
            ("DELETE", ["v2", "service_instances", id, "service_bindings", binding]) => {
                let gone = !self.bindings.remove(&format!("{id}/{binding}"));
                (if gone { 410 } else { 200 }, json!({}))
            }
            _ => (404, json!({})),
        }
    }
}

fn catalog() -> Value {
    json!({"services": [{
        "id": "s", "name": "redis", "description": "A cache.", "bindable": true, "instances_retrievable": true,
        "metadata": {"ostler": {"version": "7.0"}},
        "plans": [{"id": "p", "name": "small", "description": "Small.", "free": false,
                   "metadata": {"costs": [{"amount": {"eur": 9.5}, "unit": "MONTHLY"}]}}],
    }]})
}

#[test]
fn what_is_bought_is_wired_in_and_outlives_ostler() {
    let broker = Broker::start();
    let ostler = Ostler::up(&broker.estate());
    let cache = ostler.service("cache");
    let told = ["state", "provider", "region", "version", "plan"].map(|key| cache[key].as_str().unwrap().to_owned());
    assert_eq!(told, ["ready", "acme", "eu-west", "7.0", "small"]);
    assert_eq!((cache["price"]["amount"].as_str(), cache["price"]["currency"].as_str()), (Some("9.5"), Some("EUR")));
    let uri = format!("redis://:hunter2@{}/0", ostler.endpoint("cache"));
    assert_eq!(environment(ostler.pids("web")[0])["CACHE"], uri, "callers go through the endpoint");
    assert_eq!(broker.counts(), (1, 1, 2));
    let facts = serde_json::to_string(&ostler.facts()).unwrap();
    assert!(!facts.contains("hunter2") && !facts.contains("sesame"));

    // Everything of ostler's is killed: nothing is bought twice, nothing bound twice.
    let pids = ostler.pids("web");
    let own = ["keeper", "manager", "gateway"].map(|role| ostler.own_process(role));
    own.iter().for_each(|pid| signal(*pid, "STOP")); // or they would bring each other back
    own.iter().for_each(|pid| kill(*pid));
    ostler.ok(&["up", "--detach", "ostler.toml"]);
    ostler.until_settled();
    assert_eq!((ostler.pids("web"), broker.counts()), (pids, (1, 1, 2)));

    ostler.ok(&["down"]);
    assert_eq!(broker.counts(), (1, 1, 2), "it is kept");
    ostler.ok(&["up", "--detach", "ostler.toml"]);
    assert_eq!(broker.counts(), (1, 1, 2));

    ostler.ok(&["down", "--delete-data", "--yes"]);
    assert_eq!(broker.counts(), (1, 0, 0), "and deleted when asked");
}

#[test]
fn what_takes_long_at_a_broker_keeps_nobody_from_stopping() {
    let broker = Broker::start();
    broker.shop().slow = true;
    let ostler = Ostler::new();
    ostler.write("ostler.toml", &broker.estate());
    let said = ostler.run(&["up", "--detach", "--within", "2s", "ostler.toml"]);
    assert_eq!(said.code, 1, "{said}");
    assert_eq!(ostler.service("cache")["state"], "starting");
    ostler.ok(&["down"]);
    assert_eq!(broker.counts(), (1, 1, 0));
    broker.shop().slow = false;
    ostler.ok(&["up", "--detach", "ostler.toml"]);
    assert_eq!(broker.counts(), (1, 1, 2), "it is the one that was asked for");
    assert!(broker.shop().repeated.is_empty());
}

#[test]
fn what_was_bought_is_found_again_after_the_home_was_lost() {
    let broker = Broker::start();
    let ostler = Ostler::up(&broker.estate());
    let id = ostler.status()["id"].as_str().unwrap().to_owned();
    ostler.ok(&["down"]);
    let again = ostler.run(&["up", "--detach", "--estate-id", &id, "ostler.toml"]);
    assert!(again.code == 1 && again.err.contains("has an estate with an id of its own"), "{again}");
    std::fs::remove_dir_all(&ostler.home).unwrap();
    ostler.ok(&["up", "--detach", "--estate-id", &id, "ostler.toml"]);
    ostler.until_settled();
    assert_eq!(ostler.status()["id"], id.as_str());
    wait_until("only one binding each is left", || broker.counts() == (1, 1, 2));
    ostler.ok(&["down", "--delete-data", "--yes"]);
    assert_eq!(broker.counts(), (1, 0, 0));
}

#[test]
fn what_is_there_already_is_taken_over_and_left_again() {
    let broker = Broker::start();
    broker.shop().instances.insert("theirs/1 ü".to_owned(), 0);
    let estate = broker.estate().replace("prefer = [\"acme\"]", "prefer = [\"acme\"]\nadopt = [\"theirs/1 ü\"]");
    let ostler = Ostler::up(&estate);
    assert_eq!(broker.counts(), (0, 1, 2), "nothing is bought");
    let said = ostler.run(&["release", "cache", "--yes"]);
    assert!(said.code == 1 && said.err.contains("take it out of the estate file"), "{said}");
    ostler.write("ostler.toml", &(head("bought") + &lonely("web", &format!("env = {{ {NOWHERE} }}"))));
    ostler.ok(&["apply", "ostler.toml"]);
    ostler.ok(&["release", "cache", "--yes"]);
    assert_eq!(broker.counts(), (0, 1, 0), "it is there, and nothing of ours");
    let services: Vec<_> = ostler.status()["services"].as_array().unwrap().clone();
    assert_eq!(services.len(), 1, "{services:?}");
}

#[test]
fn an_answer_that_is_lost_leaves_nothing_behind() {
    for done in [false, true] {
        for at in 1..=9 {
            let broker = Broker::start();
            broker.shop().trouble = Some(Trouble { at, done, what: What::Lost });
            let ostler = Ostler::up(&broker.estate());
            assert_one_of_each(&ostler, &broker, &format!("the answer to request {at} was lost, done: {done}"));
        }
    }
}

#[test]
fn ostler_killed_at_any_step_leaves_nothing_behind() {
    for done in [false, true] {
        for at in 1..=9 {
            let broker = Broker::start();
            let ostler = Ostler::new();
            // An estate of nothing, so that there is a manager to be killed.
            ostler.write("ostler.toml", &head("bought"));
            ostler.ok(&["up", "--detach", "ostler.toml"]);
            let manager = ostler.own_process("manager");
            broker.shop().trouble = Some(Trouble { at, done, what: What::Kill(manager) });
            ostler.write("ostler.toml", &broker.estate());
            let what = format!("killed at request {at}, done: {done}");
            let said = ostler.run(&["apply", "ostler.toml"]);
            if said.code != 0 {
                wait_until("there is another manager", || {
                    ostler.own_processes("manager").iter().any(|p| *p != manager)
                });
                wait_until("it answers", || ostler.run(&["status"]).code == 0);
                ostler.ok(&["apply", "ostler.toml"]);
            }
            assert_one_of_each(&ostler, &broker, &what);
        }
    }
}

/// One instance, and one binding for ostler and one for the program; and nothing at all once everything is deleted.
fn assert_one_of_each(ostler: &Ostler, broker: &Broker, what: &str) {
    ostler.until_settled();
    wait_until("what was left behind is gone", || {
        let shop = broker.shop();
        (shop.instances.len(), shop.bindings.len()) == (1, 2)
    });
    // It may be killed on its way down, too; whoever asks again is obeyed.
    wait_until("everything is deleted", || ostler.run(&["down", "--delete-data", "--yes"]).code == 0);
    let shop = broker.shop();
    assert!(shop.repeated.is_empty(), "{what}: {:?}", shop.repeated);
    assert_eq!((&shop.instances, &shop.bindings), (&BTreeMap::new(), &BTreeSet::new()), "{what}: {:#?}", shop.asked);
}
