//! Every way in which the other side can misbehave, and what the probes make of it.
//!
//! The fakes never answer in time on purpose, or answer at once: no test depends on how fast the machine is.

#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

mod servers;

use std::io::BufRead;
use std::net::SocketAddr;
use std::time::Duration;

use ostler_model::binding::{Credentials, Secret};
use ostler_model::estate::Check;
use ostler_model::health::SymptomKind;
use ostler_probes::{Target, User, probe};
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

fn with_login(address: SocketAddr) -> Target {
    let mut credentials = Credentials::default();
    for (name, value) in [("username", "shop"), ("password", "hunter2"), ("database", "shop")] {
        credentials.fields.insert(name.to_owned(), Secret::new(value));
    }
    Target { credentials: Some(credentials), ..Target::at(address) }
}

fn talking() -> [Check; 3] {
    [Check::Http("/readyz".to_owned()), Check::Postgresql, Check::Redis]
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
    let address = answering("").await;
    for check in talking() {
        finds(&check, &with_login(address), LONG, SymptomKind::Broken, "broke").await;
    }
}

#[tokio::test]
async fn says_something_else() {
    let address = answering("what do you want?\r\n\r\n").await;
    for check in [Check::Http("/".to_owned()), Check::Redis] {
        finds(&check, &with_login(address), LONG, SymptomKind::WrongAnswer, "").await;
    }
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
