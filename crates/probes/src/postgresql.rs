//! PostgreSQL: connect, authenticate, `select 1`.

use std::error::Error as _;
use std::io;
use std::pin::pin;

use ostler_model::health::{Symptom, SymptomKind};
use tokio_postgres::config::SslMode;
use tokio_postgres::error::SqlState;
use tokio_postgres::{Config, Error, NoTls, SimpleQueryMessage};

use crate::bounded::Bounded;
use crate::login::Login;
use crate::{Target, symptom, tcp};

pub(crate) async fn probe(target: &Target) -> Result<(), Symptom> {
    expect(target, "select 1", "1", "`select 1`").await
}

/// In one transaction that is rolled back: nothing of it was ever there for others, whatever happens on the way.
pub(crate) async fn exercise(target: &Target, word: &str) -> Result<(), Symptom> {
    let place = format!("\"ostler_scratch_{word}\"");
    let work = format!(
        "begin; create table {place} (word text not null); insert into {place} values ('{word}'); \
         select word from {place}; rollback"
    );
    expect(target, &work, word, "what was written").await
}

/// Committed, so that it outlives whatever happens to the server from then on.
pub(crate) async fn leave_mark(target: &Target, word: &str) -> Result<(), Symptom> {
    let place = mark_place(word);
    let work = format!(
        "create table if not exists {place} (word text not null); insert into {place} values ('{word}'); \
         select word from {place} limit 1"
    );
    expect(target, &work, word, "what was written").await
}

/// Whether what [`leave_mark`] wrote is there; nothing is left of it afterwards.
pub(crate) async fn find_mark(target: &Target, word: &str) -> Result<bool, Symptom> {
    let place = mark_place(word);
    let look = format!("create table if not exists {place} (word text not null); select exists (select from {place})");
    let found = match expect(target, &look, "t", "whether the mark is there").await {
        Ok(()) => true,
        Err(Symptom { kind: SymptomKind::WrongAnswer, .. }) => {
            // It answered something else: that it is not there, or what is wrong.
            expect(target, &look, "f", "whether the mark is there").await?;
            false
        }
        Err(symptom) => return Err(symptom),
    };
    expect(target, &format!("drop table if exists {place}; select 1"), "1", "`select 1`").await?;
    Ok(found)
}

fn mark_place(word: &str) -> String {
    format!("\"ostler_drill_{word}\"")
}

/// PostgreSQL writes truth values with one letter.
fn is_same(value: &str, wanted: &str) -> bool {
    value == wanted || matches!((value, wanted), ("t", "true") | ("f", "false"))
}

/// Runs `sql`, which has to give `wanted` first.
pub(crate) async fn expect(target: &Target, sql: &str, wanted: &str, asked: &str) -> Result<(), Symptom> {
    let login = Login::of(target);
    let who = format!("PostgreSQL at {}", target.address);
    let config = config(&login, &who)?;
    let stream = Bounded::new(tcp::connect(target).await?);
    let wrong = |error: Error| judge(&error, &login, &who, target);
    let (client, connection) = config.connect_raw(stream, NoTls).await.map_err(wrong)?;
    let mut connection = pin!(connection);
    let rows = {
        let mut asked = pin!(client.simple_query(sql));
        // Both halves live in this one future, so that dropping it ends both.
        tokio::select! {
            biased;
            rows = &mut asked => rows,
            ended = &mut connection => return Err(ended.err().map_or_else(|| broken(&who), wrong)),
        }
    };
    let is_wanted = |row: &SimpleQueryMessage| match row {
        SimpleQueryMessage::Row(row) => row.get(0).is_some_and(|value| is_same(value, wanted)),
        _ => false,
    };
    let rows = rows.map_err(wrong)?;
    let found = rows.iter().any(is_wanted);
    let first = rows.iter().find_map(|row| match row {
        SimpleQueryMessage::Row(row) => Some(row.get(0).unwrap_or("null").to_owned()),
        _ => None,
    });
    // Without a client the connection says farewell and ends; servers note it as an error if it is just cut.
    drop(client);
    let _ = connection.await;
    if found {
        Ok(())
    } else {
        let given = first.map_or_else(|| "nothing".to_owned(), |first| symptom::quote(&first, target));
        let problem = format!("{who} did not answer {asked} with {wanted}, but with {given}");
        Err(symptom::symptom(SymptomKind::WrongAnswer, problem))
    }
}

fn config(login: &Login<'_>, who: &str) -> Result<Config, Symptom> {
    let mut config = Config::new();
    config.user(login.user(who)?).ssl_mode(SslMode::Disable).application_name("ostler-probe");
    if let Some(database) = login.database.as_deref() {
        config.dbname(database);
    }
    if let Some(password) = &login.password {
        config.password(password.0.as_ref());
    }
    Ok(config)
}

fn broken(who: &str) -> Symptom {
    symptom::of_talk(&io::ErrorKind::UnexpectedEof.into(), who)
}

fn judge(error: &Error, login: &Login<'_>, who: &str, target: &Target) -> Symptom {
    if let Some(reply) = error.as_db_error() {
        let said = symptom::quote(reply.message(), target);
        // Class 28 is "invalid authorization specification" (PostgreSQL's manual, appendix A).
        return if reply.code().code().starts_with("28") {
            symptom::symptom(SymptomKind::WrongCredentials, format!("{who} rejects the credentials: {said}"))
        } else if *reply.code() == SqlState::CANNOT_CONNECT_NOW {
            // It listens before it has replayed its log, and says this until then (and while it stops).
            symptom::symptom(SymptomKind::WrongAnswer, format!("{who} is not ready for connections yet: {said}"))
        } else {
            symptom::symptom(SymptomKind::WrongAnswer, format!("{who} answered: {said}"))
        };
    }
    if error.is_closed() {
        return broken(who);
    }
    if let Some(cause) = error.source().and_then(|cause| cause.downcast_ref::<io::Error>()) {
        return symptom::of_talk(cause, who);
    }
    // The client's own error for "it wants a password, and there is none" is one of configuration.
    if login.password.is_none() && error.to_string().starts_with("invalid configuration") {
        let problem = format!("{who} asks for a password, and the credentials have none");
        return symptom::symptom(SymptomKind::WrongCredentials, problem);
    }
    let said = symptom::quote(&error.to_string(), target);
    symptom::symptom(SymptomKind::WrongAnswer, format!("{who} cannot be talked to: {said}"))
}
