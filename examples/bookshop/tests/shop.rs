//! The shop as its visitors and its keepers see it: the real program with the real PostgreSQL and Redis.
#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

#[path = "../../../crates/probes/tests/servers/mod.rs"]
mod servers;

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::{Command, Stdio};
use std::time::Duration;

use rustix::process::Signal;
use serde_json::{Value, json};
use servers::{Deaf, Guarded, Postgres, Redis, wait_until};

const PROGRAM: &str = env!("CARGO_BIN_EXE_bookshop-web");

/// A running instance of the shop.
struct Shop {
    address: SocketAddr,
    process: Guarded,
}

impl Shop {
    fn start(instance: &str, database: &str, cache: &str) -> Self {
        let mut command = Command::new(PROGRAM);
        command.env("PORT", "0").env("INSTANCE", instance).env("DATABASE_URL", database).env("REDIS_URL", cache);
        Self::run(command)
    }

    /// Returns when it has said where it listens.
    fn run(mut command: Command) -> Self {
        let mut child = command.stdin(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
        let mut log = BufReader::new(child.stderr.take().unwrap());
        let process = Guarded::new(child);
        let mut line = String::new();
        let address = loop {
            line.clear();
            assert!(log.read_line(&mut line).unwrap() > 0, "it ended without listening");
            if let Some((_, address)) = line.trim_end().split_once("listens on http://") {
                break address.parse().unwrap();
            }
        };
        // Read on, so that it never waits for a full pipe.
        std::thread::spawn(move || std::io::copy(&mut log, &mut std::io::sink()));
        Self { address, process }
    }

    fn get(&self, path: &str) -> Answer {
        self.ask("GET", path, &[], "")
    }

    fn ask(&self, method: &str, path: &str, headers: &[(&str, &str)], body: &str) -> Answer {
        let mut stream = connect(self.address);
        stream.write_all(request(method, path, headers, body).as_bytes()).unwrap();
        Answer::read(stream)
    }
}

fn connect(address: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
    stream
}

fn request(method: &str, path: &str, headers: &[(&str, &str)], body: &str) -> String {
    let headers: String = headers.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
    let length = body.len();
    format!(
        "{method} {path} HTTP/1.1\r\nhost: shop\r\nconnection: close\r\ncontent-length: {length}\r\n{headers}\r\n{body}"
    )
}

struct Answer {
    status: u16,
    head: String,
    body: String,
}

impl Answer {
    fn read(mut stream: TcpStream) -> Self {
        let mut text = String::new();
        stream.read_to_string(&mut text).unwrap();
        let (head, body) = text.split_once("\r\n\r\n").unwrap_or_else(|| panic!("no answer: {text}"));
        let status = head.split(' ').nth(1).unwrap().parse().unwrap();
        Self { status, head: head.to_owned(), body: body.to_owned() }
    }

    fn header(&self, name: &str) -> Option<&str> {
        self.head.lines().filter_map(|line| line.split_once(": ")).find(|(n, _)| *n == name).map(|(_, value)| value)
    }

    fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|_| panic!("no JSON: {}", self.body))
    }
}

/// A visitor who keeps the cookie.
struct Visitor<'a> {
    shop: &'a Shop,
    cookie: String,
}

impl<'a> Visitor<'a> {
    fn to(shop: &'a Shop) -> Self {
        let answer = shop.get("/");
        assert_eq!(answer.status, 200, "{}", answer.body);
        let cookie = answer.header("set-cookie").unwrap();
        assert!(cookie.contains("HttpOnly") && cookie.contains("SameSite=Lax"), "{cookie}");
        Self { shop, cookie: cookie.split(';').next().unwrap().to_owned() }
    }

    fn get(&self, path: &str) -> Answer {
        self.shop.ask("GET", path, &[("cookie", &self.cookie)], "")
    }

    fn post_form(&self, path: &str, form: &str) -> Answer {
        let headers = [("cookie", self.cookie.as_str()), ("content-type", "application/x-www-form-urlencoded")];
        self.shop.ask("POST", path, &headers, form)
    }

    fn post_json(&self, path: &str, body: &Value) -> Answer {
        let headers = [("cookie", self.cookie.as_str()), ("content-type", "application/json")];
        self.shop.ask("POST", path, &headers, &body.to_string())
    }
}

#[test]
fn pages_and_orders() {
    let (postgres, redis) = (Postgres::start(), Redis::start());
    let shop = Shop::start("web-1", &postgres.uri(), &redis.uri());
    let visitor = Visitor::to(&shop);

    let home = visitor.get("/");
    assert!(home.body.contains("Black Beauty") && home.body.contains("Wonderland") && home.body.contains("€ 9.90"));
    assert!(home.body.contains("answered by web-1") && home.body.contains("Alice&#39;s"), "{}", home.body);
    assert_eq!(home.header("x-instance"), Some("web-1"));
    assert_eq!(home.header("set-cookie"), None, "a known visitor stays who he is");
    assert_eq!(shop.get("/style.css").header("content-type"), Some("text/css; charset=utf-8"));
    assert!(visitor.get("/books/3").body.contains("Jane Austen"));

    // From the cart to the order.
    assert!(visitor.get("/cart").body.contains("Your cart is empty"));
    assert_eq!(visitor.post_form("/cart", "book_id=3&quantity=2").status, 303);
    assert_eq!(visitor.post_form("/cart", "book_id=4&quantity=9").status, 303);
    assert_eq!(visitor.post_form("/cart", "book_id=4&quantity=1").status, 303);
    assert_eq!(visitor.post_form("/cart", "book_id=5&quantity=1").status, 303);
    assert_eq!(visitor.post_form("/cart", "book_id=5&quantity=0").status, 303);
    let cart = visitor.get("/cart").body;
    assert!(cart.contains("Pride and Prejudice") && cart.contains("€ 32.70") && !cart.contains("Leagues"), "{cart}");
    assert!(wait_until(|| visitor.get("/cart").body.contains(r#"<span class="count">3</span>"#)), "{cart}");
    let placed = visitor.post_form("/orders", "");
    assert_eq!((placed.status, placed.header("location")), (303, Some("/orders")));
    let orders = visitor.get("/orders").body;
    assert!(orders.contains("Moby-Dick") && orders.contains("€ 17.80"), "{orders}");
    assert!(visitor.get("/cart").body.contains("Your cart is empty"));
    assert_eq!(visitor.post_form("/orders", "").status, 422);
    assert_eq!(visitor.get("/api/books/3").json()["stock"], 998);
    assert!(Visitor::to(&shop).get("/orders").body.contains("No orders yet"), "orders are their owner's");

    // What does not exist, and what makes no sense.
    for path in ["/books/77", "/books/x", "/books/99999999999", "/nowhere", "/api/books/77", "/api/books/x", "/api/no"]
    {
        let answer = visitor.get(path);
        assert_eq!(answer.status, 404, "{path}");
        assert_eq!(path.starts_with("/api"), answer.header("content-type") == Some("application/json"), "{path}");
    }
    for (form, status) in
        [("", 422), ("book_id=77&quantity=1", 404), ("book_id=3&quantity=11", 422), ("book_id=x", 422)]
    {
        assert_eq!(visitor.post_form("/cart", form).status, status, "{form}");
    }
    assert_eq!(visitor.post_form("/cart", &"x".repeat(20_000)).status, 413);
}

#[test]
fn the_api() {
    let (postgres, redis) = (Postgres::start(), Redis::start());
    let shop = Shop::start("web-1", &postgres.uri(), &redis.uri());
    let visitor = Visitor::to(&shop);
    let books = shop.get("/api/books").json();
    assert_eq!(books.as_array().unwrap().len(), 12);
    let rare = books.as_array().unwrap().iter().find(|book| book["stock"] == 3).unwrap()["id"].clone();

    let placed = visitor.post_json("/api/orders", &json!({ "book_id": rare, "quantity": 2 }));
    assert_eq!((placed.status, &placed.json()["quantity"]), (201, &json!(2)));
    assert_eq!(placed.json()["total_cents"], 9800);
    // The cached list does not lag behind one's own order.
    let left = |books: Value| books.as_array().unwrap().iter().find(|b| b["id"] == rare).unwrap()["stock"].clone();
    assert_eq!(left(shop.get("/api/books").json()), 1);
    let refused = visitor.post_json("/api/orders", &json!({ "book_id": rare, "quantity": 2 }));
    assert_eq!(refused.status, 409);
    assert!(refused.json()["error"].as_str().unwrap().contains("Only one copy"), "{}", refused.body);
    assert_eq!(visitor.get("/api/orders").json().as_array().unwrap().len(), 1);
    assert_eq!(shop.get("/api/orders").json(), json!([]));

    for (order, status) in [
        (json!({ "book_id": 77, "quantity": 1 }), 404),
        (json!({ "book_id": 1, "quantity": 0 }), 422),
        (json!({ "book_id": 1, "quantity": -1 }), 422),
        (json!({ "book_id": 1, "quantity": 11 }), 422),
        (json!({ "book_id": 1 }), 422),
        (json!("x".repeat(20_000)), 413),
    ] {
        let answer = visitor.post_json("/api/orders", &order);
        assert_eq!(answer.status, status, "{order}");
        assert!(answer.json()["error"].is_string());
    }
    let no_json = shop.ask("POST", "/api/orders", &[("content-type", "application/json")], "{");
    assert_eq!((no_json.status, no_json.json()["error"].is_string()), (400, true));
    assert_eq!(shop.ask("DELETE", "/api/orders", &[], "").status, 405);

    // A title from the database cannot become markup.
    postgres.sql("update books set title = '<script>alert(1)</script>' where id = 2");
    assert!(shop.get("/books/2").body.contains("&lt;script&gt;"));
    assert!(!shop.get("/books/2").body.contains("<script"));
    // A database that was replaced gets its schema again.
    postgres.sql("drop table orders; drop table books");
    assert_eq!(shop.get("/api/books/2").json()["title"], "Frankenstein");
}

#[test]
fn survives_its_needs() {
    let (mut postgres, mut redis) = (Postgres::start(), Redis::start());
    let shop = Shop::start("web-1", &postgres.uri(), &redis.uri());
    let visitor = Visitor::to(&shop);
    let order = json!({ "book_id": 1, "quantity": 1 });
    assert_eq!(visitor.post_json("/api/orders", &order).status, 201);
    let secrets = [postgres.password, redis.password];
    let healthz = |database_ok: bool, cache_ok: bool| {
        let status = if database_ok && cache_ok { 200 } else { 503 };
        let as_expected = || {
            let answer = shop.get("/healthz");
            let said = answer.json();
            assert!(secrets.iter().all(|secret| !answer.body.contains(secret)), "{said}");
            // More than once, because on a slow machine a healthy server may be too slow for a health check.
            answer.status == status && (said["database"] == "ok", said["cache"] == "ok") == (database_ok, cache_ok)
        };
        assert!(wait_until(as_expected), "{}", shop.get("/healthz").body);
        assert_eq!(shop.get("/readyz").status, 200);
    };
    healthz(true, true);

    redis.stop();
    healthz(true, false);
    assert_eq!(shop.get("/").status, 200, "pages do without the cache");
    assert_eq!(visitor.post_json("/api/orders", &order).status, 201, "and so do orders");
    redis.start_again();
    assert_eq!(visitor.post_form("/cart", "book_id=1&quantity=1").status, 303);
    healthz(true, true);

    postgres.stop();
    healthz(false, true);
    let sorry = visitor.get("/books/1");
    assert_eq!(sorry.status, 503);
    assert!(sorry.body.contains("Please try again"), "{}", sorry.body);
    postgres.start_again();
    assert_eq!(visitor.post_json("/api/orders", &order).status, 201);
    assert_eq!(visitor.get("/api/orders").json().as_array().unwrap().len(), 3, "and what was ordered stays ordered");
    healthz(true, true);

    // Stopped and started before anybody asks: the first request meets connections that are dead.
    postgres.stop();
    redis.stop();
    postgres.start_again();
    redis.start_again();
    assert_eq!(visitor.post_form("/cart", "book_id=1&quantity=1").status, 303);
    assert_eq!(visitor.post_form("/orders", "").status, 303);
    healthz(true, true);
}

#[test]
fn two_start_at_once_before_there_is_a_database() {
    let (mut postgres, redis) = (Postgres::start(), Redis::start());
    postgres.stop();
    let shops = ["web-1", "web-2"].map(|instance| Shop::start(instance, &postgres.uri(), &redis.uri()));
    for shop in &shops {
        assert_eq!(shop.get("/readyz").status, 200);
        assert_ne!(shop.get("/healthz").json()["database"], "ok");
    }
    postgres.start_again();
    // Both make the schema now, of themselves.
    assert!(shops.iter().all(|shop| wait_until(|| shop.get("/api/books").status == 200)));
    assert_eq!(postgres.sql("select count(*), sum(stock) from books"), "12|11003");

    // Ten buyers, at both, for three copies.
    let bought = std::thread::scope(|scope| {
        let shops = &shops;
        let buyers: Vec<_> = (0..10)
            .map(|buyer| {
                scope.spawn(move || {
                    let visitor = Visitor::to(&shops[buyer % 2]);
                    visitor.post_json("/api/orders", &json!({ "book_id": 12, "quantity": 1 })).status
                })
            })
            .collect();
        let mut bought: Vec<u16> = buyers.into_iter().map(|buyer| buyer.join().unwrap()).collect();
        bought.sort_unstable();
        bought
    });
    assert_eq!(bought, [201, 201, 201, 409, 409, 409, 409, 409, 409, 409]);
    assert_eq!(postgres.sql("select stock from books where id = 12"), "0");
    // A session is known to both.
    let visitor = Visitor::to(&shops[0]);
    visitor.post_form("/cart", "book_id=1&quantity=4");
    let elsewhere = Visitor { shop: &shops[1], cookie: visitor.cookie.clone() };
    assert!(wait_until(|| elsewhere.get("/cart").body.contains(r#"<span class="count">4</span>"#)));
    assert_eq!(elsewhere.get("/").header("x-instance"), Some("web-2"));
}

#[test]
fn takes_a_socket_that_it_is_handed() {
    let deaf = Deaf::new();
    let socket = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = socket.local_addr().unwrap();
    // Waits in the socket's queue before the program even runs.
    let mut early = connect(address);
    early.write_all(request("GET", "/readyz", &[], "").as_bytes()).unwrap();
    let mut command = Command::new("sh");
    command.args(["-c", "export LISTEN_PID=$$ LISTEN_FDS=1; exec \"$0\" 3<&0 </dev/null", PROGRAM]);
    command.env("DATABASE_URL", format!("postgresql://shop:secret@{}/shop", deaf.address));
    command.env("REDIS_URL", format!("redis://{}", deaf.address));
    let mut child =
        command.stdin(Stdio::from(std::os::fd::OwnedFd::from(socket))).stderr(Stdio::piped()).spawn().unwrap();
    let log = child.stderr.take().unwrap();
    let _guarded = Guarded::new(child);
    assert_eq!(Answer::read(early).status, 200);
    let mut line = String::new();
    let mut log = BufReader::new(log);
    while !line.contains("listens on") {
        line.clear();
        assert!(log.read_line(&mut line).unwrap() > 0);
        assert!(!line.contains("secret"), "{line}");
    }
    assert!(line.contains(&address.to_string()), "{line}");
}

#[test]
fn finishes_what_is_under_way_when_asked_to_stop() {
    let (postgres, redis) = (Postgres::start(), Redis::start());
    let mut shop = Shop::start("web-1", &postgres.uri(), &redis.uri());
    // Half a request: the rest comes after the program was asked to stop.
    let order = json!({ "book_id": 1, "quantity": 1 }).to_string();
    let whole = request("POST", "/api/orders", &[("content-type", "application/json")], &order);
    let (first, rest) = whole.split_at(whole.len() - 5);
    let mut stream = connect(shop.address);
    stream.write_all(first.as_bytes()).unwrap();
    // A later request is answered, so the earlier one has been taken up.
    assert_eq!(shop.get("/readyz").status, 200);
    shop.process.send(Signal::TERM);
    assert!(wait_until(|| TcpStream::connect(shop.address).is_err()), "it takes new connections no longer");
    stream.write_all(rest.as_bytes()).unwrap();
    assert_eq!(Answer::read(stream).status, 201);
    assert!(shop.process.ended().success());
}

#[test]
fn says_what_to_set() {
    let run = |set: &[(&str, &str)]| {
        let mut command = Command::new(PROGRAM);
        command.env_clear().envs(set.iter().copied());
        let output = command.output().unwrap();
        (output.status.code(), String::from_utf8(output.stderr).unwrap())
    };
    let database = ("DATABASE_URL", "postgresql://shop:secret@127.0.0.1/shop");
    for (set, words) in [
        (vec![], "DATABASE_URL is not set"),
        (vec![database], "REDIS_URL is not set"),
        (vec![("PORT", "http")], "PORT is `http`"),
        (vec![("DATABASE_URL", "mysql://shop:secret@h"), ("REDIS_URL", "redis://h")], "DATABASE_URL is no"),
        (vec![database, ("REDIS_URL", "http://:secret@h")], "REDIS_URL is no"),
    ] {
        let (code, said) = run(&set);
        assert_eq!(code, Some(64), "{said}");
        assert!(said.contains(words) && !said.contains("secret"), "{said}");
    }
    let held = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = held.local_addr().unwrap().port().to_string();
    let (code, said) = run(&[database, ("REDIS_URL", "redis://h"), ("PORT", &port)]);
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains(&format!("cannot listen on 127.0.0.1:{port}")), "{said}");
}
