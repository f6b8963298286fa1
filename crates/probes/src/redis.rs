//! Redis: authenticate, `PING`. A client of a few commands, because that is all there is to ask.
//!
//! Requests are RESP arrays of bulk strings; answers are read as the one line, or the one text, that these commands have
//! (<https://redis.io/docs/latest/develop/reference/protocol-spec/>).

use std::io;

use ostler_model::health::{Symptom, SymptomKind};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::bounded::Bounded;
use crate::login::Login;
use crate::{Target, symptom, tcp};

/// Redis's own error lines stay far below this.
const LINE_BYTES_MAX: usize = 1024;

pub(crate) async fn probe(target: &Target) -> Result<(), Symptom> {
    let who = format!("Redis at {}", target.address);
    let mut stream = login(target, &who).await?;
    let answer = ask(&mut stream, &["PING"]).await.map_err(|error| symptom::of_talk(&error, &who))?;
    expect("+PONG", &answer, "PING", &who, target)?;
    stream.end();
    Ok(())
}

/// Under a key of its own that expires by itself.
pub(crate) async fn exercise(target: &Target, word: &str) -> Result<(), Symptom> {
    let who = format!("Redis at {}", target.address);
    let broken = |error: io::Error| symptom::of_talk(&error, &who);
    let mut stream = login(target, &who).await?;
    let key = format!("ostler:scratch:{word}");
    let answer = ask(&mut stream, &["SET", &key, word, "EX", "60", "NX"]).await.map_err(broken)?;
    expect("+OK", &answer, "SET", &who, target)?;
    // A bulk string comes as its length in one line, and then itself with a line's end.
    let answer = ask(&mut stream, &["GET", &key]).await.map_err(broken)?;
    expect(&format!("${}\r\n{word}", word.len()), &answer, "GET", &who, target)?;
    let answer = ask(&mut stream, &["DEL", &key]).await.map_err(broken)?;
    expect(":1", &answer, "DEL", &who, target)?;
    stream.end();
    Ok(())
}

/// The command's answer, without the marks of the protocol, has to be `wanted`.
pub(crate) async fn expects(target: &Target, command: &[String], wanted: &str) -> Result<(), Symptom> {
    let who = format!("Redis at {}", target.address);
    let mut stream = login(target, &who).await?;
    let words: Vec<&str> = command.iter().map(String::as_str).collect();
    let answer = ask(&mut stream, &words).await.map_err(|error| symptom::of_talk(&error, &who))?;
    stream.end();
    let plain = match (answer.split_at_checked(1), answer.split_once("\r\n")) {
        (Some(("$", _)), Some((_, text))) => text,
        (Some(("+" | ":", rest)), _) => rest,
        (Some(("$", _)), None) => "(nil)",
        _ => return expect(wanted, &answer, "the command", &who, target),
    };
    if plain == wanted {
        return Ok(());
    }
    let said = symptom::quote(plain, target);
    let problem = format!("{who} did not answer the command with {wanted}, but with {said}");
    Err(symptom::symptom(SymptomKind::WrongAnswer, problem))
}

async fn login(target: &Target, who: &str) -> Result<Bounded, Symptom> {
    let mut stream = Bounded::new(tcp::connect(target).await?);
    let login = Login::of(target);
    if let Some(password) = &login.password {
        let mut auth = vec!["AUTH"];
        auth.extend(login.username.as_deref());
        auth.push(&password.0);
        let answer = ask(&mut stream, &auth).await.map_err(|error| symptom::of_talk(&error, who))?;
        expect("+OK", &answer, "the login", who, target)?;
    }
    Ok(stream)
}

async fn ask(stream: &mut Bounded, command: &[&str]) -> io::Result<String> {
    let mut request = format!("*{}\r\n", command.len());
    for word in command {
        request.push_str(&format!("${}\r\n{word}\r\n", word.len()));
    }
    stream.write_all(request.as_bytes()).await?;
    // Nothing is sent ahead of its answer, so the connection holds this one answer and nothing behind it.
    let mut line = Vec::new();
    let mut chunk = [0; 128];
    while !is_whole(&line) {
        let read = stream.read(&mut chunk).await?;
        if read == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        line.extend_from_slice(&chunk[..read]);
        if line.len() > LINE_BYTES_MAX {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "a line without an end"));
        }
    }
    line.truncate(line.len() - 2);
    Ok(String::from_utf8_lossy(&line).into_owned())
}

/// One line; two where the first says that a text follows.
fn is_whole(answer: &[u8]) -> bool {
    let has_text = answer.first() == Some(&b'$') && !answer.starts_with(b"$-1");
    let lines = answer.windows(2).filter(|pair| pair == b"\r\n").count();
    answer.ends_with(b"\r\n") && lines >= if has_text { 2 } else { 1 }
}

fn expect(wanted: &str, answer: &str, asked: &str, who: &str, target: &Target) -> Result<(), Symptom> {
    if answer == wanted {
        return Ok(());
    }
    let said = symptom::quote(answer, target);
    let code = answer.split(' ').next().unwrap_or_default();
    Err(match code {
        "-WRONGPASS" | "-NOAUTH" => {
            symptom::symptom(SymptomKind::WrongCredentials, format!("{who} rejects the credentials: {said}"))
        }
        // "called without any password configured": it has no password, and was given one.
        "-ERR" if wanted == "+OK" => {
            symptom::symptom(SymptomKind::WrongCredentials, format!("{who} does not take the login: {said}"))
        }
        "-LOADING" => symptom::symptom(SymptomKind::WrongAnswer, format!("{who} is still loading its data")),
        _ => symptom::symptom(SymptomKind::WrongAnswer, format!("{who} answered {asked} with: {said}")),
    })
}
