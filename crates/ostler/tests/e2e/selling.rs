//! One ostler sells, another buys: over the whole life of what is sold, with the seller killed at any step, under the
//! eyes of the examination, and with credentials that are renewed while callers call.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use serde_json::Value;

use crate::failover::{counted, fill, sql};
use crate::harness::{Caller, NOWHERE, Ostler, bookshop, exchange, head, kill, lonely, signal, wait_until};

/// Somebody who sells what this machine offers.
pub(crate) struct Seller {
    /// What its estate is called, and what buyers call it.
    pub(crate) name: &'static str,
    pub(crate) ostler: Ostler,
    pub(crate) door: SocketAddr,
    /// Further lines of `[provide]`.
    more: String,
    /// Further lines of `[provider.here]`.
    here: String,
}

impl Seller {
    pub(crate) fn open(more: &str) -> Self {
        Self::open_here(more, |_| String::new())
    }

    /// One with a name of its own, so that several can be bought from.
    pub(crate) fn named(name: &'static str, more: &str) -> Self {
        Self::opened(name, more, |_| String::new())
    }

    /// The same with further lines about this machine, which may be prepared for that.
    fn open_here(more: &str, here: impl FnOnce(&Ostler) -> String) -> Self {
        Self::opened("acme", more, here)
    }

    fn opened(name: &'static str, more: &str, here: impl FnOnce(&Ostler) -> String) -> Self {
        let (ostler, door) = (Ostler::new(), free_address());
        let here = here(&ostler);
        let seller = Self { name, ostler, door, more: more.to_owned(), here };
        seller.ostler.write("password", "sesame\n");
        seller.ostler.write("ostler.toml", &seller.estate());
        let said = seller.ostler.ok(&["provide", "--detach", "ostler.toml"]);
        assert!(said.out.contains(&format!("Others can buy at http://{door}")), "{said}");
        seller
    }

    fn estate(&self) -> String {
        let password = self.ostler.folder().join("password");
        let buyer = format!("password = {{ file = \"{}\" }}", password.display());
        head(self.name)
            + &self.here
            + &format!(
                "\n[provide]\nlisten = \"{}\"\n{}\n\n[provide.buyer.shop]\n{buyer}\n\n[provide.buyer.other]\n{buyer}\n",
                self.door, self.more
            )
    }

    /// The provider of a buyer's estate, reached at `at`.
    pub(crate) fn provider(&self, at: SocketAddr) -> String {
        format!(
            "\n[provider.{}]\nkind = \"osb\"\nurl = \"http://{at}\"\n\
             auth = {{ username = \"shop\", password = {{ file = \"{}\" }} }}\n\
             manners = {{ poll_every = \"50ms\", timeout = \"10s\" }}\n",
            self.name,
            self.ostler.folder().join("password").display()
        )
    }

    /// An estate that buys a cache here, and has a program that uses it.
    pub(crate) fn buyers_estate(&self, at: SocketAddr) -> String {
        let cache = "\n[service.cache]\noffering = \"redis\"\nprefer = [\"acme\"]\ndata = { durable = false }\n";
        let web = format!("needs = [\"cache\"]\nenv = {{ {NOWHERE}, CACHE = \"{{{{ needs.cache.uri }}}}\" }}");
        head("buyer") + &self.provider(at) + cache + &lonely("web", &web)
    }

    /// What is sold now, and with how many bindings.
    pub(crate) fn sold(&self) -> Vec<u64> {
        let services = self.ostler.status()["services"].as_array().unwrap().clone();
        services.iter().filter_map(|service| service["sold"]["bindings"].as_u64()).collect()
    }

    /// Everything of it is killed at once, with all that it sold.
    pub(crate) fn die(&self) {
        let sold = self.ostler.mains();
        let own = ["keeper", "manager", "gateway"].map(|role| self.ostler.own_process(role));
        own.iter().for_each(|pid| signal(*pid, "STOP")); // or they would bring each other back
        own.iter().for_each(|pid| kill(*pid));
        sold.values().flatten().for_each(|pid| kill(*pid));
    }

    /// Opens again what was killed, or stopped.
    pub(crate) fn return_again(&self) {
        self.ostler.ok(&["provide", "--detach", "ostler.toml"]);
    }

    fn ask(&self, method: &str, path: &str, authorization: &str, version: &str) -> (u16, Value) {
        self.ask_with(method, path, authorization, version, "")
    }

    fn ask_with(&self, method: &str, path: &str, authorization: &str, version: &str, body: &str) -> (u16, Value) {
        let answer = exchange(
            self.door,
            &format!(
                "{method} {path} HTTP/1.1\r\nhost: {}\r\nconnection: close\r\nauthorization: {authorization}\r\n\
                 x-broker-api-version: {version}\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
                self.door,
                body.len()
            ),
        );
        let answer = answer.unwrap();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        (head.split(' ').nth(1).unwrap().parse().unwrap(), serde_json::from_str(body).unwrap_or_default())
    }
}

/// A port that was free a moment ago.
fn free_address() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
}

/// shop:sesame, and other:sesame.
const SHOP: &str = "Basic c2hvcDpzZXNhbWU=";
const OTHER: &str = "Basic b3RoZXI6c2VzYW1l";

#[test]
fn what_one_ostler_sells_another_buys_and_gives_back() {
    let seller = Seller::open("offer = [\"redis\"]");
    let buyer = Ostler::up(&seller.buyers_estate(seller.door));
    assert_eq!(buyer.service("cache")["provider"], "acme");
    assert_eq!(seller.sold(), [2], "one binding for the program, and one with which ostler looks at it");
    let facts = serde_json::to_string(&seller.ostler.facts()).unwrap();
    assert!(!facts.contains("sesame"), "a password stands in the facts");

    // The buyer says something else of where it is used: the seller hears it, and nothing restarts.
    let pids = (buyer.pids("web"), seller.ostler.facts().len());
    let estate = seller.buyers_estate(seller.door);
    let estate = estate.replace("kind = \"osb\"\n", "kind = \"osb\"\ncontext = { cost_center = \"4711\" }\n");
    buyer.write("ostler.toml", &estate);
    let preview = buyer.run(&["preview", "ostler.toml"]);
    assert_eq!(preview.code, 2);
    for part in ["~ provider acme: context", "1. update cache-1"] {
        assert!(preview.out.contains(part), "{}", preview.out);
    }
    buyer.ok(&["apply", "ostler.toml"]);
    buyer.until_settled();
    let told = serde_json::to_string(&seller.ostler.facts()[pids.1..]).unwrap();
    assert!(told.contains("4711"), "{told}");
    assert_eq!(buyer.pids("web"), pids.0);

    // What is sold is healed by its seller, as everything is.
    let name = seller.ostler.status()["services"][0]["name"].as_str().unwrap().to_owned();
    let pid = seller.ostler.pids(&name)[0];
    kill(pid);
    seller.ostler.until_replaced(&name, 0, pid);

    // Everything of the seller's ostler is killed: what was sold runs on, and is found again.
    let pids = seller.ostler.pids(&name);
    let own = ["keeper", "manager", "gateway"].map(|role| seller.ostler.own_process(role));
    own.iter().for_each(|pid| signal(*pid, "STOP")); // or they would bring each other back
    own.iter().for_each(|pid| kill(*pid));
    let said = seller.ostler.ok(&["--json", "provide", "--detach", "ostler.toml"]);
    let status: Value = serde_json::from_str(&said.out).expect("one document");
    assert_eq!(status["sells"]["url"], format!("http://{}", seller.door).as_str());
    assert_eq!((seller.ostler.pids(&name), seller.sold()), (pids, vec![2]));
    buyer.until_settled();

    // The file given again, and the estate stopped with everything in it deleted: what others bought stays.
    seller.ostler.ok(&["apply", "ostler.toml"]);
    seller.ostler.ok(&["down", "--delete-data", "--yes"]);
    let folder = seller.ostler.home.join(format!("instances/{name}-1"));
    assert!(folder.exists(), "it is not the seller's to delete in passing");
    seller.ostler.ok(&["provide", "--detach", "ostler.toml"]);
    assert_eq!(seller.sold(), [2]);
    buyer.until_settled();

    buyer.ok(&["down", "--delete-data", "--yes"]);
    assert_eq!(seller.sold(), [0; 0]);
    assert!(!folder.exists());
}

#[test]
fn what_a_dead_seller_sold_is_moved_here_and_given_up_there_when_it_is_back() {
    let seller = Seller::open("offer = [\"redis\"]");
    // By a person's word: what is moved by itself is another test's.
    let standby = "prefer = [\"acme\", \"here\"]\nfailover = { by_itself = false }";
    let estate = seller.buyers_estate(seller.door).replace("prefer = [\"acme\"]", standby);
    let buyer = Ostler::up(&estate);
    assert_eq!((buyer.service("cache")["provider"].clone(), seller.sold()), ("acme".into(), vec![2]));
    let web = buyer.pids("web")[0];
    let visitor = Caller::getting(buyer.endpoint("web"), "/readyz");
    let name = seller.ostler.status()["services"][0]["name"].as_str().unwrap().to_owned();

    // The seller is gone, with all that it sold.
    let sold = seller.ostler.pids(&name)[0];
    let own = ["keeper", "manager", "gateway"].map(|role| seller.ostler.own_process(role));
    own.iter().for_each(|pid| signal(*pid, "STOP")); // or they would bring each other back
    own.iter().for_each(|pid| kill(*pid));
    kill(sold);
    let moved = buyer.json(&["failover", "cache", "--yes"]);
    assert_eq!(
        (&moved["from"], &moved["to"], &moved["lost"]),
        (&"acme".into(), &"here".into(), &"nothing is lost".into())
    );
    buyer.until_replaced("web", 0, web); // with credentials that the former seller does not know
    assert_eq!(buyer.service("cache")["instances"][0]["left_at"]["provider"], "acme");

    // It is back: nothing is split, and what its buyer had there is ended. What it sold is kept until somebody says so.
    seller.ostler.ok(&["provide", "--detach", "ostler.toml"]);
    wait_until("the program's credentials are ended there", || seller.sold() == [1]);
    assert_eq!(buyer.service("cache")["provider"], "here");
    visitor.stop_without_failure();
    buyer.ok(&["discard", "cache-1", "--yes"]);
    assert_eq!(seller.sold(), [0; 0]);
}

/// The status of the catalog, asked for on a connection that stays open.
fn ask_on(stream: &mut TcpStream, who: &str) -> u16 {
    let request =
        format!("GET /v2/catalog HTTP/1.1\r\nhost: a\r\nauthorization: {who}\r\nx-broker-api-version: 2.17\r\n\r\n");
    stream.write_all(request.as_bytes()).unwrap();
    let mut bytes = Vec::new();
    let mut chunk = [0; 65536];
    loop {
        let read = stream.read(&mut chunk).unwrap();
        assert!(read > 0, "the connection was closed");
        bytes.extend_from_slice(&chunk[..read]);
        let text = String::from_utf8_lossy(&bytes).into_owned();
        let Some((head, body)) = text.split_once("\r\n\r\n") else { continue };
        let length = head.lines().find_map(|line| line.strip_prefix("content-length: ")?.parse::<usize>().ok());
        if body.len() >= length.unwrap() {
            return head.split(' ').nth(1).unwrap().parse().unwrap();
        }
    }
}

#[test]
fn who_may_not_buy_any_more_is_refused_at_once() {
    let seller = Seller::open("offer = [\"redis\"]");
    let mut stream = TcpStream::connect(seller.door).unwrap();
    assert_eq!((ask_on(&mut stream, SHOP), ask_on(&mut stream, OTHER)), (200, 200));
    let only_shop = seller.estate().split("\n[provide.buyer.other]").next().unwrap().to_owned();
    seller.ostler.write("ostler.toml", &only_shop);
    seller.ostler.ok(&["apply", "ostler.toml"]);
    wait_until("a buyer who was taken out is refused", || ask_on(&mut stream, OTHER) == 401);
    assert_eq!(ask_on(&mut stream, SHOP), 200, "and nobody else");
    // Another password in the same file.
    seller.ostler.write("password", "open up\n");
    wait_until("the old password is refused", || ask_on(&mut stream, SHOP) == 401);
    assert_eq!(ask_on(&mut stream, "Basic c2hvcDpvcGVuIHVw"), 200);
    // Another door: nobody is let in at the old one, and the new one is open without a pause.
    let (old, new) = (seller.door, free_address());
    seller.ostler.write("ostler.toml", &only_shop.replace(&old.to_string(), &new.to_string()));
    seller.ostler.ok(&["apply", "ostler.toml"]);
    wait_until("the new door is open", || TcpStream::connect(new).is_ok());
    assert!(TcpStream::connect(old).is_err());
    assert_eq!(ask_on(&mut stream, "Basic c2hvcDpvcGVuIHVw"), 401, "who is in gets nothing any more");
}

/// The password is only ever shown to who has the right certificate.
#[test]
fn the_door_can_be_encrypted() {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/certificates");
    let (certificate, key) = (folder.join("broker.pem"), folder.join("broker.key"));
    let door = free_address();
    let tls = format!("tls = {{ certificate = {certificate:?}, key = {key:?} }}\noffer = [\"redis\"]");
    let seller = Seller { name: "acme", ostler: Ostler::new(), door, more: tls, here: String::new() };
    seller.ostler.write("password", "sesame\n");
    seller.ostler.write("ostler.toml", &seller.estate());
    let said = seller.ostler.ok(&["provide", "--detach", "ostler.toml"]);
    assert!(said.out.contains("tls = { roots = \"./acme-certificate.pem\" }"), "{said}");
    assert_eq!(seller.ostler.status()["sells"]["url"], format!("https://{door}").as_str());

    let plain = seller.buyers_estate(door);
    let strange = plain.replace(&format!("http://{door}"), &format!("https://{door}"));
    let known = strange.replace("manners =", &format!("tls = {{ roots = {certificate:?} }}\nmanners ="));
    for (estate, why) in [(&plain, "cannot be reached"), (&strange, "certificate")] {
        let buyer = Ostler::new();
        buyer.write("ostler.toml", estate);
        let said = buyer.run(&["up", "--detach", "ostler.toml"]);
        assert!(said.code == 1 && (said.err.contains(why) || said.err.contains("did not answer")), "{said}");
    }
    let buyer = Ostler::up(&known);
    assert_eq!((buyer.service("cache")["state"].as_str(), seller.sold()), (Some("ready"), vec![2]));
    buyer.ok(&["down", "--delete-data", "--yes"]);
}

#[test]
fn what_cannot_be_sold_is_told() {
    let nothing = Ostler::new();
    nothing.write("ostler.toml", &head("acme"));
    let said = nothing.run(&["provide", "--detach", "ostler.toml"]);
    assert!(said.code == 1 && said.err.contains("it has no `[provide]`: nothing in it is for sale"), "{said}");

    let (ostler, door) = (Ostler::new(), free_address());
    let estate = |more: &str| {
        head("acme")
            + &format!("\n[provide]\nlisten = \"{door}\"\n{more}\nbuyer.shop.password = {{ file = \"secret\" }}\n")
    };
    ostler.write(
        "ostler.toml",
        &estate("offer = [\"redis\", \"program\", \"oracle\"]\nprice = { redis = { tiny = \"1\" } }"),
    );
    let said = ostler.run(&["provide", "--detach", "ostler.toml"]);
    for wrong in
        ["`program` cannot be sold", "`oracle` cannot be sold", "there is no plan `tiny` of `redis`", "3 errors"]
    {
        assert!(said.err.contains(wrong), "{wrong}: {said}");
    }
    // The password is not there yet: everything else runs, and the door opens once it is.
    ostler.write("ostler.toml", &estate("offer = [\"redis\"]"));
    let said = ostler.run(&["provide", "--detach", "ostler.toml"]);
    assert!(said.code == 1 && said.err.contains("there is no password of the buyer `shop`"), "{said}");
    assert!(ostler.ok(&["status"]).out.contains("Nothing can be sold: there is no password"));
    ostler.write("secret", "sesame\n");
    ostler.until("the door is open", |status| status["sells"]["url"].is_string());
}

#[test]
fn a_seller_can_end_a_sale_by_name() {
    let seller = Seller::open("offer = [\"redis\"]");
    let buyer = Ostler::up(&seller.buyers_estate(seller.door));
    let name = seller.ostler.status()["services"][0]["name"].as_str().unwrap().to_owned();
    seller.ostler.ok(&["down", &name, "--delete-data", "--yes"]);
    assert_eq!(seller.sold(), [0; 0]);
    // The buyer learns of it, and buys another: its data need not last.
    buyer.until("another one is bought", |_| seller.sold() == [2]);
    buyer.until_settled();
}

#[test]
fn what_is_newer_here_is_had_by_a_buyer_who_asks_for_it_and_by_nobody_else() {
    let seller = Seller::open_here("offer = [\"postgresql\"]", |ostler| {
        format!("versions = \"{}\"\n", ostler.postgresql_versions(&["16.2"]).display())
    });
    // The version that is sold of each major one, as a buyer reads it.
    let shown = || {
        let (_, catalog) = seller.ask("GET", "/v2/catalog", SHOP, "2.17");
        let plans = catalog["services"][0]["plans"].as_array().unwrap().clone();
        let of_16 = plans.into_iter().find(|plan| plan["name"] == "standard-16").unwrap();
        of_16["maintenance_info"]["version"].as_str().unwrap().to_owned()
    };
    assert_eq!(shown(), "16.2.0");
    let db = "\n[service.db]\noffering = \"postgresql\"\nplan = \"standard-16\"\nprefer = [\"acme\"]\n";
    let buyer = Ostler::up(&(head("buyer") + &seller.provider(seller.door) + db));
    let bought = seller.ostler.status()["services"][0].clone();
    let (name, id) = (bought["name"].as_str().unwrap(), bought["sold"]["id"].as_str().unwrap());
    assert_eq!(bought["version"], "16.2");

    seller.ostler.put_postgresql("16.11");
    wait_until("the newer one is on the shelf", || shown() == "16.11.0");
    assert_eq!(seller.ostler.service(name)["version"], "16.2", "nobody has asked for it");

    // What an ostler that upgrades says: the maintenance alone, and what was before.
    let path = format!("/v2/service_instances/{id}");
    let (_, fetched) = seller.ask("GET", &path, SHOP, "2.17");
    assert_eq!(fetched["maintenance_info"]["version"], "16.2.0", "{fetched}");
    let ask = |wanted: &str| {
        let body = serde_json::json!({
            "service_id": fetched["service_id"], "maintenance_info": {"version": wanted},
            "previous_values": {"plan_id": fetched["plan_id"], "maintenance_info": {"version": "16.2.0"}},
        });
        seller.ask_with("PATCH", &format!("{path}?accepts_incomplete=true"), SHOP, "2.17", &body.to_string())
    };
    let (status, body) = ask("16.2.0");
    assert_eq!((status, &body["error"]), (422, &"MaintenanceInfoConflict".into()), "{body}");
    let (status, body) = ask("16.11.0");
    assert_eq!(status, 202, "{body}");
    wait_until("it is the newer one", || {
        seller.ask("GET", &path, SHOP, "2.17").1["maintenance_info"]["version"] == "16.11.0"
    });
    assert_eq!(seller.ostler.service(name)["version"], "16.11");
    buyer.until_settled();
}

/// From the catalog that says so to the server that is another one: the buyer sees, asks, waits, and looks.
#[test]
fn what_its_provider_keeps_up_to_date_is_put_to_use_by_its_buyer() {
    let seller = Seller::open_here("offer = [\"postgresql\"]", |ostler| {
        format!("versions = \"{}\"\n", ostler.postgresql_versions(&["16.2"]).display())
    });
    let db = "\"postgresql\"\nplan = \"standard-16\"\nprefer = [\"acme\"]\n";
    let text = bookshop("", "").replacen("instances = 2", "instances = 1", 1).replacen("\"postgresql\"\n", db, 1);
    let estate = text + &seller.provider(seller.door) + "\n[upgrade]\nsoak = \"1s\"\n";
    let buyer = Ostler::up(&estate);
    let before = fill(&buyer);
    let sold = seller.ostler.status()["services"][0]["name"].as_str().unwrap().to_owned();
    let is_served_by = || sql(&buyer, "select current_setting('server_version')").unwrap();
    assert!(is_served_by().starts_with("16.2"));

    seller.ostler.put_postgresql("16.11");
    wait_until("the newer one is on the shelf", || {
        let (_, catalog) = seller.ask("GET", "/v2/catalog", SHOP, "2.17");
        catalog.to_string().contains("16.11.0")
    });
    buyer.ok(&["apply", "ostler.toml"]);
    let newer = buyer.json(&["upgrade", "--preview"]);
    let available = &newer["services"][0]["available"];
    assert!(available["to"].as_str().unwrap().contains("16.11"), "{newer}");
    assert!(available["waits"].as_str().unwrap().contains("nobody has asked for it"), "{newer}");
    assert_eq!(seller.ostler.service(&sold)["version"], "16.2", "nobody has asked for it");

    let visitor = Caller::getting(buyer.endpoint("web"), "/style.css"); // what needs no database is served all the time
    let done = buyer.json(&["upgrade", "db", "--yes"]);
    assert!(done["services"][0]["upgraded"]["to"].as_str().unwrap().contains("16.11"), "{done}");
    assert_eq!(seller.ostler.service(&sold)["version"], "16.11");
    assert!(is_served_by().starts_with("16.11"));
    assert_eq!(counted(&buyer), before);
    visitor.stop_without_failure();
    assert!(buyer.run(&["upgrade", "--preview"]).out.contains("Nothing is newer"), "it is what is on the shelf");
    // What a broker has made newer it does not make older again.
    let back = buyer.run(&["rollback", "db", "--yes"]);
    assert!(back.code == 1 && back.err.contains("is not to be had any more"), "{back}");
    buyer.until_settled();
    assert_eq!((seller.ostler.service(&sold)["version"].clone(), counted(&buyer)), ("16.11".into(), before));
}

#[test]
fn nobody_gets_at_what_another_bought() {
    let seller = Seller::open("offer = [\"redis\"]");
    let _buyer = Ostler::up(&seller.buyers_estate(seller.door));
    let id = seller.ostler.status()["services"][0]["sold"]["id"].as_str().unwrap().to_owned();
    let path = format!("/v2/service_instances/{id}");
    let status = |who: &str| seller.ask("GET", &path, who, "2.17").0;
    assert_eq!((status(SHOP), status(OTHER)), (200, 404));
    let deleted =
        seller.ask("DELETE", &format!("{path}?service_id=a&plan_id=b&accepts_incomplete=true"), OTHER, "2.17");
    assert_eq!(deleted.0, 410, "for them it is not there");
    assert_eq!(seller.sold(), [2]);
    for (who, version, expected) in [
        ("", "2.17", 401),
        ("Basic c2hvcDpndWVzcw==", "2.17", 401),     // shop:guess
        ("Basic bm9ib2R5OnNlc2FtZQ==", "2.17", 401), // nobody:sesame
        ("Bearer sesame", "2.17", 401),
        (SHOP, "seven", 412),
        (SHOP, "2.12", 412),
        (SHOP, "2.13", 200),
    ] {
        assert_eq!(seller.ask("GET", "/v2/catalog", who, version).0, expected, "{who} {version}");
    }
    for path in ["/", "/v2", "/v2/service_instances", "/v2/service_instances/%zz", "/../etc/passwd"] {
        let (status, body) = seller.ask("GET", path, SHOP, "2.17");
        assert!((400..500).contains(&status) && body["description"].is_string(), "{path}: {status} {body}");
    }
    let (status, body) = seller.ask("PUT", &format!("{path}-2?accepts_incomplete=true"), SHOP, "2.17");
    assert_eq!(status, 400, "{body}");
}

/// What is sold keeps every rule that can be seen from outside; and nothing of the examination is left.
#[test]
fn the_examination_finds_nothing_wrong() {
    let seller = Seller::open("bindings_last = \"1h\"");
    seller.ostler.write("buyer.toml", &(head("buyer") + &seller.provider(seller.door)));
    for offering in ["redis", "postgresql"] {
        let arguments = ["provider", "check", "acme", "buyer.toml", "--full", "--yes", "--offering", offering];
        let report = seller.ostler.json(&arguments);
        let wrong: Vec<&Value> =
            report["rules"].as_array().unwrap().iter().filter(|rule| rule["verdict"] == "broken").collect();
        assert!(wrong.is_empty(), "{offering}: {wrong:#?}");
        assert_eq!(report["left"].as_array().map(Vec::len), Some(0));
        assert_eq!(seller.sold(), [0; 0]);
    }
}

/// What the examination found is what the buyer goes by; and only as long as nobody has touched it.
#[test]
fn an_examination_decides_from_whom_is_bought() {
    let seller = Seller::open("offer = [\"redis\"]");
    let buyer = Ostler::new();
    let provider = seller.provider(seller.door) + "certificate = \"acme.json\"\n";
    let estate = head("buyer") + &provider + "\n[service.cache]\noffering = \"redis\"\ndata = { durable = false }\n";
    buyer.write("ostler.toml", &estate);
    let line = estate.lines().position(|line| line.starts_with("certificate")).unwrap() + 1;
    let wrong = |cause: &str| {
        let said = buyer.run(&["--json", "preview", "ostler.toml"]);
        let problem = &said.json()["error"]["problems"][0];
        assert_eq!((said.code, problem["line"].as_u64(), problem["column"].as_u64()), (1, Some(line as u64), Some(15)));
        assert!(problem["cause"].as_str().unwrap().contains(cause), "{cause}: {said}");
    };
    wrong("cannot read the certificate");
    // That the file is not there yet keeps nobody from examining.
    let check = ["provider", "check", "acme", "ostler.toml", "--certificate", "acme.json", "--certificate", "acme.md"];
    let report = buyer.json(&check);
    let page = std::fs::read_to_string(buyer.folder().join("acme.md")).unwrap();
    assert!(page.contains(report["sha256"].as_str().unwrap()), "page and JSON belong together: {page}");

    let said = buyer.run(&["preview", "ostler.toml"]);
    let (_, candidates) = said.out.split_once("Where cache can be bought\n").unwrap();
    let (candidates, _) = candidates.split_once("\n\n").unwrap();
    let until = report["valid_until"].as_str().unwrap().split('T').next().unwrap();
    let version = buyer.run(&["--json", "preview", "ostler.toml"]).json()["bought"][0]["version"].clone();
    let candidates = candidates.replace(until, "DAY").replace(version.as_str().unwrap(), "VERSION");
    insta::assert_snapshot!("certified", candidates);

    buyer.ok(&["up", "--detach", "ostler.toml"]);
    assert_eq!(buyer.service("cache")["provider"], "acme", "it costs what everybody takes, and is certified");
    let why = buyer.json(&["why", "cache"]);
    let candidates = why["candidates"].as_array().unwrap();
    let acme = candidates.iter().find(|candidate| candidate["verdict"]["verdict"] == "chosen").unwrap();
    assert_eq!((&acme["certificate"]["standing"], &acme["certificate"]["full"]), (&"fit".into(), &false.into()));
    assert!(acme["delivered"]["orders_done"].as_u64().unwrap() >= 1, "{acme}");
    assert_eq!(acme["delivered"]["orders_failed"], 0, "{acme}");
    assert!(buyer.ok(&["why", "cache"]).out.contains(", delivered "));

    // An altered certificate, and one of somebody else, are told; what runs goes on.
    let written = std::fs::read_to_string(buyer.folder().join("acme.json")).unwrap();
    buyer.write("acme.json", &written.replacen("not-seen", "kept", 1));
    wrong("it was altered after it was written");
    let said = buyer.run(&["apply", "ostler.toml"]);
    assert!(said.code == 1 && said.err.contains("it was altered after it was written"), "{said}");
    buyer.write("acme.json", &written);
    buyer.write("ostler.toml", &estate.replace("http://127.0.0.1", "http://localhost"));
    wrong("is that of http://127.0.0.1");
    buyer.write("ostler.toml", &estate);
    buyer.ok(&["apply", "ostler.toml"]);
    assert_eq!(buyer.service("cache")["state"], "ready");
    buyer.ok(&["down", "--delete-data", "--yes"]);
}

/// Buyers' credentials run out every few seconds, and no caller notices.
#[test]
fn credentials_are_renewed_under_load() {
    let seller = Seller::open("bindings_last = \"12s\"");
    let estate =
        bookshop("", "").replace("\n[service.db]\n", &format!("{}\n[service.db]\n", seller.provider(seller.door)));
    let estate = estate.replace("offering = \"postgresql\"\n", "offering = \"postgresql\"\nprefer = [\"acme\"]\n");
    let buyer = Ostler::up(&estate);
    let digest = |buyer: &Ostler| {
        let ended = buyer.facts().into_iter().filter(|fact| fact["words"].as_str().unwrap().ends_with(": bound"));
        ended.count()
    };
    let before = digest(&buyer);
    let caller = Caller::getting(buyer.endpoint("web"), "/");
    wait_until("credentials were renewed twice", || digest(&buyer) >= before + 2);
    buyer.until_settled();
    caller.stop_without_failure();
    assert_eq!(buyer.service("db")["state"], "ready", "what ostler looks at it with was renewed, too");
    let failed = buyer.facts().into_iter().find(|fact| fact["kind"] == "repair-began");
    assert_eq!(failed, None);
}

/// Between buyer and seller: passes requests on, and kills the seller's manager at one of them.
struct Between {
    address: SocketAddr,
    /// How many requests were seen.
    seen: Arc<AtomicUsize>,
}

impl Between {
    /// Kills `victim` at the `at`-th request, after it was answered if `done`.
    fn stand(seller: SocketAddr, at: usize, done: bool, victim: u32) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let seen = Arc::new(AtomicUsize::new(0));
        let count = seen.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let count = count.clone();
                std::thread::spawn(move || {
                    let _ = pass(stream, seller, &count, at, done, victim); // whoever hangs up has heard enough
                });
            }
        });
        Self { address, seen }
    }
}

fn pass(
    mut from: TcpStream,
    seller: SocketAddr,
    count: &AtomicUsize,
    at: usize,
    done: bool,
    victim: u32,
) -> std::io::Result<()> {
    let request = read_request(&mut from)?;
    let is_it = count.fetch_add(1, Ordering::SeqCst) + 1 == at;
    if is_it && !done {
        kill(victim);
        return Ok(()); // no answer
    }
    let mut to = TcpStream::connect(seller)?;
    to.set_read_timeout(Some(Duration::from_secs(60)))?;
    to.write_all(request.as_bytes())?;
    let mut answer = Vec::new();
    to.read_to_end(&mut answer)?;
    if is_it {
        kill(victim);
        return Ok(());
    }
    from.write_all(&answer)
}

/// With the wish to close, so that one connection is one request.
fn read_request(stream: &mut TcpStream) -> std::io::Result<String> {
    stream.set_read_timeout(Some(Duration::from_secs(60)))?;
    let mut bytes = Vec::new();
    let mut chunk = [0; 4096];
    loop {
        let text = String::from_utf8_lossy(&bytes).into_owned();
        if let Some((head, body)) = text.split_once("\r\n\r\n") {
            let length = head
                .lines()
                .find_map(|line| line.to_ascii_lowercase().strip_prefix("content-length:")?.trim().parse().ok());
            if body.len() >= length.unwrap_or(0) {
                return Ok(text.replacen("\r\n", "\r\nconnection: close\r\n", 1));
            }
        }
        let read = stream.read(&mut chunk)?;
        if read == 0 {
            return Err(std::io::ErrorKind::UnexpectedEof.into());
        }
        bytes.extend_from_slice(&chunk[..read]);
    }
}

#[test]
fn a_seller_killed_before_any_answer_sells_neither_twice_nor_nothing() {
    kill_the_seller(false);
}

#[test]
fn a_seller_killed_after_any_answer_sells_neither_twice_nor_nothing() {
    kill_the_seller(true);
}

/// At each request that it takes to buy.
fn kill_the_seller(done: bool) {
    for at in 1..=8 {
        let seller = Seller::open("offer = [\"redis\"]");
        let manager = seller.ostler.own_process("manager");
        let between = Between::stand(seller.door, at, done, manager);
        let buyer = Ostler::new();
        buyer.write("ostler.toml", &seller.buyers_estate(between.address));
        let what = format!("killed at request {at}, done: {done}");
        let said = buyer.run(&["up", "--detach", "ostler.toml"]);
        if said.code != 0 {
            // The very first question was not answered: whoever asks again is.
            wait_until("it can be brought up", || buyer.run(&["up", "--detach", "ostler.toml"]).code == 0);
        }
        buyer.until_settled();
        wait_until("the seller answers", || seller.ostler.run(&["status"]).code == 0);
        wait_until(&format!("one instance with two bindings is sold; {what}"), || seller.sold() == [2]);
        wait_until("everything is deleted", || buyer.run(&["down", "--delete-data", "--yes"]).code == 0);
        wait_until(&format!("nothing is sold any more; {what}"), || seller.sold().is_empty());
        assert!(between.seen.load(Ordering::SeqCst) >= at, "{what}: nobody was killed");
    }
}
