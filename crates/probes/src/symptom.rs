//! Words for what a probe found wrong. Invariant: at most 300 characters, printable, and no secret of the target.

use std::borrow::Cow;
use std::io;

use ostler_model::health::{Symptom, SymptomKind};

use crate::Target;
use crate::login;

const DETAIL_CHARS_MAX: usize = 300; // the model's bound on `Symptom::detail`
const QUOTE_CHARS_MAX: usize = 200; // leaves room for the words around the quote

/// A symptom in at most 300 characters.
pub(crate) fn symptom(kind: SymptomKind, detail: impl Into<String>) -> Symptom {
    let mut detail = detail.into();
    if let Some((end, _)) = detail.char_indices().nth(DETAIL_CHARS_MAX) {
        detail.truncate(end);
    }
    Symptom { kind, detail }
}

/// What a failed connect says.
pub(crate) fn of_connect(error: &io::Error, target: &Target) -> Symptom {
    let address = target.address;
    match error.kind() {
        io::ErrorKind::ConnectionRefused => symptom(SymptomKind::Refused, format!("{address} refuses connections")),
        io::ErrorKind::HostUnreachable | io::ErrorKind::NetworkUnreachable | io::ErrorKind::NetworkDown => {
            symptom(SymptomKind::Refused, format!("{address} cannot be reached: {error}"))
        }
        io::ErrorKind::TimedOut => symptom(SymptomKind::TimedOut, format!("{address} does not accept connections")),
        io::ErrorKind::ConnectionReset | io::ErrorKind::ConnectionAborted => {
            symptom(SymptomKind::Broken, format!("{address} broke the connection while it was made"))
        }
        // No descriptors, no ports, no permission: all of them are this process's troubles.
        _ => symptom(SymptomKind::Unknown, format!("cannot try to connect to {address}: {error}")),
    }
}

/// What an error on an open connection says. `who` names the other side: "Redis at 127.0.0.1:6379".
pub(crate) fn of_talk(error: &io::Error, who: &str) -> Symptom {
    match error.kind() {
        io::ErrorKind::InvalidData | io::ErrorKind::InvalidInput => {
            symptom(SymptomKind::WrongAnswer, format!("{who} gave an answer that is none: {error}"))
        }
        _ => symptom(SymptomKind::Broken, format!("{who} broke the connection before its answer was whole")),
    }
}

/// The first 200 characters of what the other side said, in one printable line, without the target's secrets.
pub(crate) fn quote(said: &str, target: &Target) -> String {
    let mut said = Cow::Borrowed(said);
    for secret in login::secrets(target) {
        if said.contains(secret.as_ref()) {
            said = Cow::Owned(said.replace(secret.as_ref(), "(secret)"));
        }
    }
    let printable = said.chars().map(|c| if c.is_control() { ' ' } else { c }).collect::<String>();
    let line = printable.split_whitespace().collect::<Vec<_>>().join(" ");
    line.chars().take(QUOTE_CHARS_MAX).collect()
}

#[cfg(test)]
mod tests {
    use ostler_model::binding::{Credentials, Secret};

    use super::*;

    #[test]
    fn details_are_cut_at_a_character() {
        assert_eq!(symptom(SymptomKind::Broken, "ä".repeat(400)).detail, "ä".repeat(300));
    }

    #[test]
    fn quotes_hold_no_secrets() {
        let mut target = Target::at(([127, 0, 0, 1], 1).into());
        let mut credentials = Credentials::default();
        credentials.fields.insert("password".to_owned(), Secret::new("hunter2"));
        credentials.fields.insert("uri".to_owned(), Secret::new("redis://u:hunter2%21@h/0"));
        credentials.fields.insert("host".to_owned(), Secret::new("h"));
        target.credentials = Some(credentials);
        target.environment.insert("DATABASE_URL".to_owned(), "postgresql://shop:s3sam%3De@h/shop".to_owned());
        target.environment.insert("API_TOKEN".to_owned(), "abcdef".to_owned());
        target.environment.insert("GREETING".to_owned(), "hello".to_owned());
        let said = "hello \u{7}h:\n hunter2 hunter2%21 hunter2! s3sam%3De s3sam=e abcdef \
            postgresql://shop:s3sam%3De@h/shop";
        assert_eq!(quote(said, &target), "hello h: (secret) (secret) (secret) (secret) (secret) (secret) (secret)");
        assert_eq!(quote(&"x".repeat(1000), &target).len(), 200);
    }
}
