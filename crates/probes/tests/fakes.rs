//! Every way in which the other side can misbehave, and what the probes make of it.
//!
//! The fakes never answer in time on purpose, or answer at once: no test depends on how fast the machine is.

#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

mod servers;

use std::io::BufRead;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use ostler_model::binding::{Credentials, Secret};
use ostler_model::catalog::ProbePolicy;
use ostler_model::estate::Check;
use ostler_model::health::{Health, SymptomKind};
use ostler_model::time::Span;
use ostler_probes::{Target, User, Word, exercise, probe, watch};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::test_runner::TestRunner;
use servers::Deaf;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

/// Far more than any fake here needs: reached only where something hangs.
const LONG: Duration = Duration::from_secs(60);
/// For fakes that never answer.
const SHORT: Duration = Duration::from_millis(150);

/// Serves every connection with `serve`, for as long as the test's runtime lives.
async fn fake<F: Future<Output = std::io::Result<()>> + Send + 'static>(
    serve: impl Fn(TcpStream) -> F + Send + 'static,
) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(serve(stream));
        }
    });
    address
}

/// Reads something, answers with `answer`, and closes.
async fn answering(answer: impl Into<Vec<u8>>) -> SocketAddr {
    let answer = answer.into();
    fake(move |mut stream| {
        let answer = answer.clone();
        async move {
            let _ = stream.read(&mut [0; 1024]).await?;
            stream.write_all(&answer).await?;
            stream.shutdown().await?;
            // Reads to the end, because closing with something unread would be a reset.
            while stream.read(&mut [0; 1024]).await? > 0 {}
            Ok(())
        }
    })
    .await
}

/// Says `words` without being asked, and closes.
async fn speaking(words: impl Into<Vec<u8>>) -> SocketAddr {
    let words = words.into();
    fake(move |mut stream| {
        let words = words.clone();
        async move {
            stream.write_all(&words).await?;
            stream.shutdown().await?;
            while stream.read(&mut [0; 1024]).await? > 0 {}
            Ok(())
        }
    })
    .await
}

fn with_login(address: SocketAddr) -> Target {
    let mut credentials = Credentials::default();
    for (name, value) in [("username", "shop"), ("password", "hunter2"), ("database", "shop")] {
        credentials.fields.insert(name.to_owned(), Secret::new(value));
    }
    Target { credentials: Some(credentials), ..Target::at(address) }
}

fn talking() -> [Check; 5] {
    [Check::Http("/readyz".to_owned()), Check::Postgresql, Check::Redis, Check::Mysql, Check::Amqp]
}

async fn finds(check: &Check, target: &Target, timeout: Duration, kind: SymptomKind, words: &str) {
    let symptom = probe(check, target, timeout).await.expect_err("it should have failed");
    assert_eq!(symptom.kind, kind, "{check:?}: {symptom}");
    assert!(symptom.detail.contains(words), "{check:?}: `{symptom}` should say `{words}`");
    assert!(!symptom.detail.contains("hunter2"), "{symptom}");
}

#[tokio::test]
async fn nobody_listens() {
    let deaf = Deaf::new();
    let target = with_login(deaf.address);
    for check in [Check::Tcp].into_iter().chain(talking()) {
        finds(&check, &target, LONG, SymptomKind::Refused, "refuses connections").await;
    }
}

#[tokio::test]
async fn accepts_and_says_nothing() {
    let address = fake(|stream| async move {
        let _held = stream;
        std::future::pending().await
    })
    .await;
    probe(&Check::Tcp, &Target::at(address), LONG).await.expect("it accepts");
    for check in talking() {
        finds(&check, &with_login(address), SHORT, SymptomKind::TimedOut, "within 150 ms").await;
    }
}

#[tokio::test]
async fn accepts_and_closes() {
    for check in talking() {
        // Who waits to be spoken to is closed on at once.
        let address = if check == Check::Mysql { speaking("").await } else { answering("").await };
        finds(&check, &with_login(address), LONG, SymptomKind::Broken, "broke").await;
    }
}

#[tokio::test]
async fn says_something_else() {
    let address = answering("what do you want?\r\n\r\n").await;
    for check in [Check::Http("/".to_owned()), Check::Redis, Check::Amqp] {
        finds(&check, &with_login(address), LONG, SymptomKind::WrongAnswer, "").await;
    }
    let address = speaking("what do you want?\r\n\r\n").await;
    finds(&Check::Mysql, &with_login(address), LONG, SymptomKind::WrongAnswer, "an answer that is none").await;
    // "Ready for a query", before anybody has logged in. (Plain words are a message that never becomes whole.)
    let address = answering(b"Z\0\0\0\x05I".as_slice()).await;
    finds(&Check::Postgresql, &with_login(address), LONG, SymptomKind::WrongAnswer, "cannot be talked to").await;
}

#[tokio::test]
async fn drips_and_never_ends() {
    let address = fake(|mut stream| async move {
        let mut answer = b"HTTP/1.1 200 OK\r\nx: ".iter().copied().chain(std::iter::repeat(b'x'));
        loop {
            stream.write_all(&[answer.next().unwrap_or(b'x')]).await?;
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    })
    .await;
    finds(&Check::Http("/".to_owned()), &Target::at(address), SHORT, SymptomKind::TimedOut, "not answered").await;
    finds(&Check::Redis, &with_login(address), SHORT, SymptomKind::TimedOut, "PING").await;
}

/// Sends `first`, and then `more` without end.
async fn flood(first: &'static [u8], more: &'static [u8]) -> SocketAddr {
    fake(move |mut stream| async move {
        let _ = stream.read(&mut [0; 1024]).await?;
        stream.write_all(first).await?;
        let more = more.repeat(1024);
        loop {
            stream.write_all(&more).await?;
        }
    })
    .await
}

#[tokio::test]
async fn floods_are_cut_off() {
    let headers = flood(b"HTTP/1.1 200 OK\r\n", b"x: yyyyyyyyyyyyyyyyyyyyyyyyyyyyyy\r\n").await;
    finds(&Check::Http("/".to_owned()), &Target::at(headers), LONG, SymptomKind::WrongAnswer, "").await;
    let one_header = flood(b"HTTP/1.1 200 OK\r\nx: ", b"yyyyyyyyyyyyyyyy").await;
    finds(&Check::Http("/".to_owned()), &Target::at(one_header), LONG, SymptomKind::WrongAnswer, "").await;
    let body = flood(b"HTTP/1.1 500 No\r\n\r\n", b"sorry ").await;
    finds(&Check::Http("/".to_owned()), &Target::at(body), LONG, SymptomKind::WrongAnswer, "500 Internal").await;
    let line = flood(b"+", b"PONGPONG").await;
    finds(&Check::Redis, &with_login(line), LONG, SymptomKind::WrongAnswer, "a line without an end").await;
    // A message ('N', a notice) that announces two gigabytes, and then sends them.
    let message = flood(b"N\x7f\xff\xff\xff", b"zzzzzzzz").await;
    finds(&Check::Postgresql, &with_login(message), LONG, SymptomKind::WrongAnswer, "longer than 64 KiB").await;
    // A packet of 64 KiB and a byte; columns without end (the numbers of packets begin again after 255); a frame that
    // announces two gigabytes; heartbeats without end.
    let columns: Vec<(u8, &[u8])> = (2..=255).chain(0..=1).map(|number| (number, b"\x03def".as_slice())).collect();
    let welcome = packets(&[(0, &greeting("mysql_native_password")), (2, b"\0\0\0"), (1, b"\x01")]);
    let columns = [welcome, packets(&columns).repeat(40)].concat();
    for (check, address) in [
        (Check::Mysql, speaking(b"\x01\0\x01\0".as_slice()).await),
        (Check::Mysql, speaking(columns).await),
        (Check::Amqp, speaking(b"\x01\0\0\x7f\xff\xff\xff".as_slice()).await),
        (Check::Amqp, flood(b"", b"\x08\0\0\0\0\0\0\xce").await),
    ] {
        finds(&check, &with_login(address), LONG, SymptomKind::WrongAnswer, "longer than 64 KiB").await;
    }
}

#[tokio::test]
async fn http_statuses() {
    let asks = Check::Http("/healthz?deep=1".to_owned());
    for good in ["200 OK", "204 No Content", "302 Found", "399 Odd"] {
        let address = answering(format!("HTTP/1.1 {good}\r\nlocation: /x\r\ncontent-length: 0\r\n\r\n")).await;
        probe(&asks, &Target::at(address), LONG).await.unwrap_or_else(|symptom| panic!("{good}: {symptom}"));
    }
    let body = "{\"db\": \"no\u{1b}[31m connection with hunter2\"}";
    let answer = format!("HTTP/1.1 503 Sorry\r\ncontent-length: {}\r\n\r\n{body}", body.len());
    let address = answering(answer).await;
    let words = "answered 503 Service Unavailable: {\"db\": \"no [31m connection with (secret)\"}";
    finds(&asks, &with_login(address), LONG, SymptomKind::WrongAnswer, words).await;
    for bad in ["199 Odd", "400 Bad", "404 Not Found", "500 Oh", "599 Odd"] {
        let address = answering(format!("HTTP/1.1 {bad}\r\ncontent-length: 0\r\nconnection: close\r\n\r\n")).await;
        let symptom = probe(&asks, &Target::at(address), LONG).await.expect_err(bad);
        assert!(matches!(symptom.kind, SymptomKind::WrongAnswer | SymptomKind::Broken), "{bad}: {symptom}");
    }
    let address = answering("HTTP/1.1 200 OK\r\ncontent-le").await;
    finds(&asks, &Target::at(address), LONG, SymptomKind::Broken, "broke").await;
}

/// What a watch says, one word after the other, of an instance that answers each request as `answers` says then.
async fn words_of(answer_after: &'static (dyn Fn(usize) -> Option<Duration> + Sync), count: usize) -> Vec<SymptomKind> {
    let asked = Arc::new(AtomicUsize::new(0));
    let address = fake(move |mut stream| {
        let number = asked.fetch_add(1, Ordering::SeqCst);
        async move {
            let _ = stream.read(&mut [0; 1024]).await?;
            let Some(after) = answer_after(number) else { return std::future::pending().await };
            tokio::time::sleep(after).await;
            stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").await?;
            while stream.read(&mut [0; 1024]).await? > 0 {}
            Ok(())
        }
    })
    .await;
    let policy = ProbePolicy {
        ready: Check::Http("/".to_owned()),
        deep: None,
        every: Span::millis(50),
        timeout: Span::millis(250),
        start_within: Span::seconds(60),
    };
    let (said, mut hears) = tokio::sync::mpsc::unbounded_channel();
    let id = "web-1".parse().unwrap();
    let report = move |word| {
        if let Word::Health(Health::Unready(symptom)) = word {
            said.send(symptom.kind).unwrap();
        }
    };
    let target = Target::at(address);
    let watching = tokio::spawn(async move { watch(&id, &policy, &target, Some(Health::Ready), report).await });
    let mut words = Vec::new();
    for _ in 0..count {
        words.push(tokio::time::timeout(LONG, hears.recv()).await.expect("it has something to say").unwrap());
    }
    watching.abort();
    words
}

#[tokio::test]
async fn who_hangs_is_told_from_who_is_slow() {
    let hangs = words_of(&|_| None, 2).await;
    assert_eq!(hangs, [SymptomKind::TimedOut, SymptomKind::Hung]);
    // Later than a probe waits, and sooner than a patient one does.
    let is_slow = words_of(&|_| Some(Duration::from_millis(450)), 2).await;
    assert_eq!(is_slow, [SymptomKind::TimedOut, SymptomKind::Slow]);
}

#[tokio::test]
async fn http_asks_as_it_should() {
    let (send, mut asked) = tokio::sync::mpsc::channel(1);
    let address = fake(move |mut stream| {
        let send = send.clone();
        async move {
            let mut request = Vec::new();
            while !request.ends_with(b"\r\n\r\n") {
                request.push(stream.read_u8().await?);
            }
            send.send(String::from_utf8(request).unwrap()).await.unwrap();
            stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").await
        }
    })
    .await;
    probe(&Check::Http("/a?b=c".to_owned()), &Target::at(address), LONG).await.unwrap();
    let request = asked.recv().await.unwrap();
    assert!(request.starts_with("GET /a?b=c HTTP/1.1\r\n"), "{request}");
    assert!(
        request.contains(&format!("host: {address}\r\n")) && request.contains("connection: close\r\n"),
        "{request}"
    );
    for path in ["readyz", "/a b", "http://elsewhere/"] {
        finds(&Check::Http(path.to_owned()), &Target::at(address), LONG, SymptomKind::Unknown, "cannot ask").await;
    }
}

#[tokio::test]
async fn redis_refusals() {
    for (answer, kind, words) in [
        ("-WRONGPASS invalid username-password pair or user is disabled.", SymptomKind::WrongCredentials, "WRONGPASS"),
        ("-NOAUTH Authentication required.", SymptomKind::WrongCredentials, "NOAUTH"),
        ("-ERR AUTH <password> called without any", SymptomKind::WrongCredentials, "does not take the login"),
        ("-LOADING Redis is loading the dataset in memory", SymptomKind::WrongAnswer, "still loading"),
        ("-MASTERDOWN Link with MASTER is down for hunter2", SymptomKind::WrongAnswer, "MASTERDOWN"),
        ("+HELLO", SymptomKind::WrongAnswer, "+HELLO"),
    ] {
        let address = answering(format!("{answer}\r\n")).await;
        finds(&Check::Redis, &with_login(address), LONG, kind, words).await;
    }
}

#[tokio::test]
async fn postgresql_refusals() {
    let error = |code: &str, message: &str| {
        let fields = format!("SFATAL\0VFATAL\0C{code}\0M{message}\0\0");
        let mut answer = vec![b'E'];
        answer.extend(u32::try_from(fields.len() + 4).unwrap().to_be_bytes());
        answer.extend(fields.as_bytes());
        answer
    };
    for (code, message, kind, words) in [
        ("28P01", "password authentication failed", SymptomKind::WrongCredentials, "rejects the credentials"),
        ("28000", "no pg_hba.conf entry", SymptomKind::WrongCredentials, "pg_hba"),
        ("57P03", "the database system is starting up", SymptomKind::WrongAnswer, "is starting up"),
        ("53300", "sorry, too many clients already", SymptomKind::WrongAnswer, "too many clients"),
        ("3D000", "database \"hunter2\" does not exist", SymptomKind::WrongAnswer, "(secret)"),
    ] {
        let address = answering(error(code, message)).await;
        finds(&Check::Postgresql, &with_login(address), LONG, kind, words).await;
    }
    let nobody = Target::at(answering("").await);
    finds(&Check::Postgresql, &nobody, LONG, SymptomKind::Unknown, "name no user").await;
}

/// Packets of MySQL, each with its number.
fn packets(all: &[(u8, &[u8])]) -> Vec<u8> {
    let framed = all.iter().map(|(number, packet)| {
        let length = u32::try_from(packet.len()).unwrap().to_le_bytes();
        [&[length[0], length[1], length[2], *number], *packet].concat()
    });
    framed.collect::<Vec<_>>().concat()
}

/// What a MySQL opens with whose users usually log in by `plugin`.
fn greeting(plugin: &str) -> Vec<u8> {
    let mut packet = b"\x0a8.4.3\0\x07\0\0\0abcdefgh\0\xff\xff\xff\x02\0\xff\xdf\x15".to_vec();
    packet.extend([0; 10]);
    packet.extend(b"ijklmnopqrst\0");
    packet.extend(plugin.as_bytes());
    packet.push(0);
    packet
}

/// An error of MySQL. Before the login it has no state.
fn mysql_error(code: u16, state: &str, message: &str) -> Vec<u8> {
    let mark = if state.is_empty() { "" } else { "#" };
    [&[0xff], &code.to_le_bytes()[..], format!("{mark}{state}{message}").as_bytes()].concat()
}

#[tokio::test]
async fn mysql_refusals() {
    let open = greeting("mysql_native_password");
    for (code, state, message, kind, words) in [
        (1045, "28000", "Access denied for user 'shop'", SymptomKind::WrongCredentials, "rejects the credentials"),
        (1698, "28000", "Access denied for user 'shop'", SymptomKind::WrongCredentials, "rejects the credentials"),
        (1862, "HY000", "Your password has expired", SymptomKind::WrongCredentials, "has expired"),
        (4151, "HY000", "this account is locked", SymptomKind::WrongCredentials, "is locked"),
        (3159, "HY000", "Connections using insecure transport", SymptomKind::Unknown, "wants an encrypted connection"),
        (1049, "42000", "Unknown database 'hunter2'", SymptomKind::WrongAnswer, "(secret)"),
    ] {
        let error = mysql_error(code, state, message);
        let address = speaking(packets(&[(0, &open), (2, &error)])).await;
        finds(&Check::Mysql, &with_login(address), LONG, kind, words).await;
    }
    for (code, message, kind) in [
        (1040, "Too many connections", SymptomKind::WrongAnswer),
        (1130, "Host 'x' is not allowed to connect", SymptomKind::WrongCredentials),
    ] {
        let address = speaking(packets(&[(0, &mysql_error(code, "", message))])).await;
        finds(&Check::Mysql, &with_login(address), LONG, kind, message).await;
    }
    let old = speaking(packets(&[(0, b"\x093.23\0")])).await;
    finds(&Check::Mysql, &with_login(old), LONG, SymptomKind::WrongAnswer, "version 9 of the protocol").await;
    let late = speaking(packets(&[(0, &open), (3, b"\0")])).await;
    finds(&Check::Mysql, &with_login(late), LONG, SymptomKind::WrongAnswer, "out of order").await;
    let nobody = Target::at(speaking("").await);
    finds(&Check::Mysql, &nobody, LONG, SymptomKind::Unknown, "name no user").await;
}

/// Nobody has the other half of it.
const KEY: &str = "-----BEGIN PUBLIC KEY-----\n\
    MIIBIjANBgkqhkiG9w0BAQEFAAOCAQ8AMIIBCgKCAQEA7ZkOCNoR/yQYeEQ7z0WK\n\
    JuHIiqNM0hfU/DkE2GzZ61T911bx89XGfuwjR291zFEbpCRU1UgY3FBjdHndG0UI\n\
    BcaJUoTFXX5Sane56TYQxeoIydiuyTL5FYcTd14lIxGy4cJVYh/BQmL8Nm6adMp8\n\
    Oz3IKZ+Zv9ribvK340Xuw0ZyOgOfq+zEysN2c9blI03F7Z9UiYqq6S5qoG2rtqPy\n\
    Ymsd9IDtN0KlDeMG6hdb3aHDwbzrWlHvgGy0Ex7ohNa/IPYgvshib2h8IFIuzwWs\n\
    cMewRl1tCCmdb/Zl8wgXu1D0vlWg9LNKYorIRXlKqZEbZKZ1NmV8piZupTVJFurG\n\
    nwIDAQAB\n\
    -----END PUBLIC KEY-----";

#[tokio::test]
async fn mysql_logins() {
    let (key, no_key) = ([b"\x01", KEY.as_bytes()].concat(), [b"\x01", &KEY.as_bytes()[..100]].concat());
    let (native, caching) = (greeting("mysql_native_password"), greeting("caching_sha2_password"));
    let other = greeting("client_ed25519");
    let switched = |plugin: &str| [b"\xfe", plugin.as_bytes(), b"\0zyxwvutsrqponmlkjihg\0"].concat();
    let parts: [&[u8]; 5] = [b"\x01", b"\x03def", b"\xfe\0\0\x02\0", b"\x011", b"\xfe\0\0\x02\0"];
    let answer = packets(&(1..).zip(parts).collect::<Vec<_>>());
    for (said, works) in [
        (packets(&[(0, &native), (2, b"\0\0\0")]), Ok(())),
        (packets(&[(0, &caching), (2, b"\x01\x03"), (3, b"\0\0\0")]), Ok(())),
        (packets(&[(0, &other), (2, &switched("caching_sha2_password")), (4, b"\x01\x03"), (5, b"\0")]), Ok(())),
        (packets(&[(0, &caching), (2, b"\x01\x04"), (4, &key), (6, b"\0\0\0")]), Ok(())),
        (packets(&[(0, &native), (2, &switched("client_ed25519"))]), Err("a login by `client_ed25519`")),
        (packets(&[(0, &native), (2, b"\xfe")]), Err("a login by `mysql_old_password`")),
        (packets(&[(0, &caching), (2, b"\x01\x04"), (4, &no_key)]), Err("its key for passwords is not understood")),
    ] {
        let target = with_login(speaking([said, answer.clone()].concat()).await);
        match works {
            Ok(()) => drop(probe(&Check::Mysql, &target, LONG).await.unwrap()),
            Err(words) => finds(&Check::Mysql, &target, LONG, SymptomKind::Unknown, words).await,
        }
    }
}

/// A frame of AMQP with a method, on the channel that its class is for.
fn method(class: u8, method: u8, arguments: &[u8]) -> Vec<u8> {
    let channel = u8::from(class != 10);
    frame(1, channel, &[&[0, class, 0, method], arguments].concat())
}

fn frame(kind: u8, channel: u8, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    [&[kind, 0, channel], length.as_slice(), payload, &[0xce]].concat()
}

/// The arguments of a close, or of a message given back.
fn closing(code: u16, text: &str) -> Vec<u8> {
    [&code.to_be_bytes()[..], &[u8::try_from(text.len()).unwrap()], text.as_bytes(), &[0; 4]].concat()
}

fn start(mechanisms: &str) -> Vec<u8> {
    let length = [0, 0, 0, u8::try_from(mechanisms.len()).unwrap()];
    method(10, 10, &[&[0, 9, 0, 0, 0, 0], &length[..], mechanisms.as_bytes(), &[0, 0, 0, 5], b"en_US"].concat())
}

/// What lets a client in up to the login.
fn tuned() -> Vec<u8> {
    [start("AMQPLAIN PLAIN"), method(10, 30, &[7, 255, 0, 2, 0, 0, 0, 60])].concat()
}

/// What lets a client in.
fn opened() -> Vec<u8> {
    [tuned(), method(10, 41, &[0]), frame(8, 0, &[]), method(20, 11, &[0; 4])].concat()
}

#[tokio::test]
async fn amqp_refusals() {
    let closes = |code, text: &str| method(10, 50, &closing(code, text));
    for (said, kind, words) in [
        ([start("PLAIN"), closes(403, "ACCESS_REFUSED")].concat(), SymptomKind::WrongCredentials, "ACCESS_REFUSED"),
        (start("PLAIN"), SymptomKind::WrongCredentials, "closed at the login"),
        (start("EXTERNAL hunter2"), SymptomKind::Unknown, "no login by PLAIN, but by EXTERNAL (secret)"),
        ([tuned(), closes(530, "vhost shop not found")].concat(), SymptomKind::WrongAnswer, "vhost shop not found"),
        ([tuned(), closes(320, "CONNECTION_FORCED")].concat(), SymptomKind::WrongAnswer, "closed with 320"),
        (tuned(), SymptomKind::Broken, "broke the connection"),
        (opened()[..opened().len() - 1].to_vec(), SymptomKind::Broken, "broke the connection"),
        (b"AMQP\x03\x01\0\0".to_vec(), SymptomKind::WrongAnswer, "speaks AMQP 1.0, and not 0-9-1"),
        (method(10, 41, &[0]), SymptomKind::WrongAnswer, "connection.open-ok is out of order"),
        (frame(3, 0, b"x"), SymptomKind::WrongAnswer, "a frame is out of order"),
        (b"\x01\0\0\0\0\0\x01xy".to_vec(), SymptomKind::WrongAnswer, "does not end where it should"),
        (method(10, 10, &[0]), SymptomKind::WrongAnswer, "was cut off"),
    ] {
        finds(&Check::Amqp, &with_login(speaking(said).await), LONG, kind, words).await;
    }
    probe(&Check::Amqp, &with_login(speaking(opened()).await), LONG).await.unwrap();
    let nobody = Target::at(speaking("").await);
    finds(&Check::Amqp, &nobody, LONG, SymptomKind::Unknown, "name no user").await;
}

#[tokio::test]
async fn amqp_messages() {
    let queue = method(50, 11, b"\x03own\0\0\0\0\0\0\0\0");
    let message = |text: &[u8]| {
        let header = [&[0, 60, 0, 0, 0, 0, 0, 0, 0, 0, 0, u8::try_from(text.len()).unwrap()], &[0, 0][..]].concat();
        let (one, other) = text.split_at(text.len() / 2);
        let delivered = [method(60, 21, b"\x03tag"), method(60, 60, b"\x03tag")].concat();
        [delivered, frame(2, 1, &header), frame(3, 1, one), frame(3, 1, other)].concat()
    };
    let huge = [method(60, 60, b""), frame(2, 1, &[255; 14])].concat();
    for (said, expected) in [
        (message(b"w0rd"), Ok(())),
        (message(b"hunter2"), Err("did not deliver the message w0rd that was sent, but (secret)")),
        (method(60, 50, &closing(312, "NO_ROUTE")), Err("gave a message back instead of delivering it: NO_ROUTE")),
        (method(10, 60, b"\x0dlow on memory"), Err("takes no messages at the moment: low on memory")),
        (method(20, 40, &closing(404, "no queue")), Err("answered: no queue")),
        (huge, Err("longer than 64 KiB")),
    ] {
        let target = amqp_target(speaking([opened(), queue.clone(), said].concat()).await);
        let tried = exercise(&target, "w0rd", LONG).await;
        match (tried, expected) {
            (Ok(exercised), Ok(())) => assert!(exercised.wrote),
            (Err(symptom), Err(words)) => {
                assert_eq!(symptom.kind, SymptomKind::WrongAnswer, "{symptom}");
                assert!(symptom.detail.contains(words), "`{symptom}` should say `{words}`");
            }
            (tried, expected) => panic!("{tried:?} instead of {expected:?}"),
        }
    }
}

fn amqp_target(address: SocketAddr) -> Target {
    let mut target = with_login(address);
    let credentials = target.credentials.as_mut().unwrap();
    credentials.fields.insert("uri".to_owned(), Secret::new(format!("amqp://{address}/")));
    target
}

#[test]
fn no_bytes_whatsoever_do_harm() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let part = prop_oneof![
        vec(any::<u8>(), 0..40),
        (any::<u8>(), vec(any::<u8>(), 0..40)).prop_map(|(number, packet)| packets(&[(number % 8, &packet)])),
        (0..8_u8, vec(any::<u8>(), 0..20)).prop_map(|(number, rest)| {
            packets(&[(number, &[&[[0, 1, 0xfb, 0xfe, 0xff][usize::from(number % 5)]], rest.as_slice()].concat())])
        }),
        (any::<u8>(), vec(any::<u8>(), 0..40)).prop_map(|(kind, payload)| frame(kind % 10, 1, &payload)),
        (1..7_u8, 1..7_u8, any::<bool>(), vec(any::<u8>(), 0..20)).prop_map(|(class, number, odd, rest)| method(
            class * 10,
            number * 10 + u8::from(odd),
            &rest
        )),
    ];
    let openings = [Vec::new(), opened(), packets(&[(0, &greeting("caching_sha2_password"))])];
    let all = (0..openings.len(), vec(part, 0..6));
    TestRunner::default()
        .run(&all, |(opening, parts)| {
            let said = [openings[opening].clone(), parts.concat()].concat();
            runtime.block_on(async {
                let address = speaking(said).await;
                for check in [Check::Mysql, Check::Amqp] {
                    let target = with_login(address);
                    if let Err(symptom) = probe(&check, &target, LONG).await {
                        prop_assert_ne!(symptom.kind, SymptomKind::TimedOut);
                        prop_assert!(symptom.detail.chars().count() <= 300);
                    }
                }
                if let Err(symptom) = exercise(&amqp_target(address), "w0rd", LONG).await {
                    prop_assert_ne!(symptom.kind, SymptomKind::TimedOut);
                }
                Ok(())
            })
        })
        .unwrap();
}

fn shell(script: &str) -> Check {
    Check::Command(["/bin/sh", "-c", script].map(str::to_owned).to_vec())
}

#[tokio::test]
async fn commands() {
    let folder = tempfile::tempdir().unwrap();
    let mut target = Target { folder: folder.path().to_owned(), ..with_login(([127, 0, 0, 1], 1).into()) };
    target.environment.insert("GREETING".to_owned(), "hello".to_owned());
    target.environment.insert("DB_PASSWORD".to_owned(), "pw-of-db".to_owned());
    probe(&shell("test \"$GREETING\" = hello && test -z \"$HOME$CARGO\""), &target, LONG).await.unwrap();
    probe(&shell("test \"$(pwd -P)\" = \"$(cd . && pwd -P)\" && test ! -e /dev/fd/0/x"), &target, LONG).await.unwrap();
    let said = shell("echo out $DB_PASSWORD; echo err >&2; exit 3");
    finds(&said, &target, LONG, SymptomKind::WrongAnswer, "ended with exit code 3: ").await;
    finds(&said, &target, LONG, SymptomKind::WrongAnswer, "out (secret)").await;
    finds(&shell("kill -9 $$"), &target, LONG, SymptomKind::WrongAnswer, "SIGKILL").await;
    finds(&shell("exec >&- 2>&-; exit 4"), &target, LONG, SymptomKind::WrongAnswer, "exit code 4").await;
    // More than a pipe holds, and more than is kept.
    let much = shell("head -c 1000000 /dev/zero | tr '\\0' x; exit 5");
    let mut with_path = target.clone();
    with_path.environment.insert("PATH".to_owned(), "/usr/bin:/bin".to_owned());
    finds(&much, &with_path, LONG, SymptomKind::WrongAnswer, "exit code 5: xxxx").await;
    let missing = Check::Command(vec!["./no-such-program".to_owned()]);
    finds(&missing, &target, LONG, SymptomKind::Unknown, "cannot run the check command ./no-such-program").await;
    finds(&Check::Command(Vec::new()), &target, LONG, SymptomKind::Unknown, "empty").await;
    if let Some((uid, gid)) = servers::unprivileged() {
        let as_user = Target { user: Some(User { uid, gid }), folder: "/".into(), ..with_path };
        let script = format!("test $(id -u) = {uid} && test \"$(id -G)\" = {gid}");
        probe(&shell(&script), &as_user, LONG).await.unwrap();
    }
}

#[tokio::test]
async fn a_command_that_hangs_is_killed_with_all_it_started() {
    let folder = tempfile::tempdir().unwrap();
    let mut target = Target { folder: folder.path().to_owned(), ..Target::at(([127, 0, 0, 1], 1).into()) };
    target.environment.insert("PATH".to_owned(), "/usr/bin:/bin".to_owned());
    // Dropped half-way instead of timed out: a time limit could strike before the shell has even started.
    let mut alive = Writers::of(folder.path().join("alive"));
    let hanging = shell("exec 3>alive; echo started >&3; sleep 1000 & sleep 1000");
    tokio::select! {
        _ = probe(&hanging, &target, LONG) => panic!("it hangs"),
        started = &mut alive.started => started.unwrap(),
    }
    alive.all_gone().await;
    finds(&shell("sleep 1000"), &target, SHORT, SymptomKind::TimedOut, "was killed").await;
    // Something left behind in the background does not hold the probe up, and does not outlive it.
    let left = Writers::of(folder.path().join("left"));
    probe(&shell("exec 3>left; echo started >&3; sleep 1000 &"), &target, LONG).await.unwrap();
    left.all_gone().await;
}

/// A named pipe in place of guesses: its reader sees the end when the last process that can write to it is dead.
struct Writers {
    started: tokio::sync::oneshot::Receiver<()>,
    gone: tokio::task::JoinHandle<()>,
}

impl Writers {
    /// Makes the pipe. `started` is told of the first line written to it.
    fn of(pipe: std::path::PathBuf) -> Self {
        assert!(std::process::Command::new("mkfifo").arg(&pipe).status().unwrap().success());
        let (send, started) = tokio::sync::oneshot::channel();
        let gone = tokio::task::spawn_blocking(move || {
            let mut reader = std::io::BufReader::new(std::fs::File::open(pipe).unwrap());
            let mut line = String::new();
            reader.read_line(&mut line).unwrap();
            assert_eq!(line, "started\n");
            let _ = send.send(());
            assert_eq!(reader.read_line(&mut line).unwrap(), 0);
        });
        Self { started, gone }
    }

    async fn all_gone(self) {
        self.gone.await.unwrap();
    }
}
