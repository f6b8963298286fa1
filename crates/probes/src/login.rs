//! What a target's credentials say: with which names to log in, and which texts must never be shown.

use std::borrow::Cow;

use ostler_model::health::{Symptom, SymptomKind};

use crate::{Target, symptom};

/// Who logs in, with what, to which database.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Login<'a> {
    pub(crate) username: Option<Cow<'a, str>>,
    pub(crate) password: Option<Hidden<'a>>,
    pub(crate) database: Option<Cow<'a, str>>,
    /// What AMQP calls a database.
    pub(crate) virtual_host: Option<Cow<'a, str>>,
}

/// A text that `Debug` does not show.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Hidden<'a>(pub(crate) Cow<'a, str>);

impl std::fmt::Debug for Hidden<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("(secret)")
    }
}

impl<'a> Login<'a> {
    /// From the fields `username`, `password`, `database` and `vhost`; those that are absent from the field `uri`.
    pub(crate) fn of(target: &'a Target) -> Self {
        let Some(credentials) = &target.credentials else { return Self::default() };
        let uri = credentials.uri().and_then(UriParts::of).unwrap_or_default();
        let pick = |field: &str, from_uri: Option<&'a str>| {
            credentials.get(field).map(Cow::Borrowed).or_else(|| from_uri.map(percent_decoded))
        };
        Self {
            username: pick("username", uri.username),
            password: pick("password", uri.password).map(Hidden),
            database: pick("database", uri.path),
            virtual_host: pick(if credentials.get("vhost").is_some() { "vhost" } else { "virtual_host" }, uri.path),
        }
    }

    /// Who logs in, where that cannot be nobody. `who` is asked.
    pub(crate) fn user(&self, who: &str) -> Result<&str, Symptom> {
        self.username.as_deref().ok_or_else(|| {
            let problem = format!("cannot ask {who}: its credentials name no user");
            symptom::symptom(SymptomKind::Unknown, problem)
        })
    }
}

/// Every text that must not be shown of this target, longest first, so that one that holds another goes as a whole.
pub(crate) fn secrets(target: &Target) -> Vec<Cow<'_, str>> {
    let mut secrets = Vec::new();
    if let Some(credentials) = &target.credentials {
        for (name, secret) in &credentials.fields {
            // Everything that is not known to be none may be a secret.
            if !PUBLIC.contains(&name.as_str()) {
                collect(secret.expose(), &mut secrets);
            }
        }
    }
    for (name, value) in &target.environment {
        if sounds_secret(name) {
            collect(value, &mut secrets);
        } else if let Some(password) = UriParts::of(value).and_then(|uri| uri.password) {
            collect(password, &mut secrets);
        }
    }
    secrets.retain(|secret| secret.chars().count() >= SECRET_CHARS_MIN);
    secrets.sort_by_key(|secret| std::cmp::Reverse(secret.len()));
    secrets
}

/// The names that people need to read in a report.
const PUBLIC: [&str; 8] = ["host", "port", "username", "database", "vhost", "virtual_host", "type", "provider"];

/// Shorter texts protect nothing, and to blank them out would make reports unreadable.
const SECRET_CHARS_MIN: usize = 3;

fn collect<'a>(value: &'a str, secrets: &mut Vec<Cow<'a, str>>) {
    secrets.push(Cow::Borrowed(value));
    if let Some(password) = UriParts::of(value).and_then(|uri| uri.password) {
        secrets.push(Cow::Borrowed(password));
        secrets.push(percent_decoded(password));
    } else {
        secrets.push(percent_decoded(value));
    }
}

fn sounds_secret(variable: &str) -> bool {
    const WORDS: [&str; 9] = ["PASS", "SECRET", "TOKEN", "KEY", "URL", "URI", "DSN", "CREDENTIAL", "VCAP"];
    WORDS.iter().any(|word| variable.contains(word))
}

/// The parts of `scheme://username:password@host/path?query` that matter here, as they are written.
#[derive(Clone, Copy, Default)]
struct UriParts<'a> {
    username: Option<&'a str>,
    password: Option<&'a str>,
    path: Option<&'a str>,
}

impl<'a> UriParts<'a> {
    fn of(uri: &'a str) -> Option<Self> {
        let (_, rest) = uri.split_once("://")?;
        let (authority, path) = match rest.find(['/', '?', '#']) {
            Some(end) => (&rest[..end], rest[end..].strip_prefix('/').unwrap_or_default()),
            None => (rest, ""),
        };
        let path = path.split(['?', '#']).next().unwrap_or_default();
        let userinfo = authority.rsplit_once('@').map_or("", |(userinfo, _)| userinfo);
        let (username, password) = userinfo.split_once(':').unwrap_or((userinfo, ""));
        let given = |part: &'a str| (!part.is_empty()).then_some(part);
        Some(Self { username: given(username), password: given(password), path: given(path) })
    }
}

/// `%3D` becomes `=` (RFC 3986, section 2.1); whatever is no such escape stays as it is.
fn percent_decoded(text: &str) -> Cow<'_, str> {
    if !text.contains('%') {
        return Cow::Borrowed(text);
    }
    let mut decoded = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&first, tail)) = rest.split_first() {
        let escaped = (first == b'%')
            .then(|| tail.get(..2).and_then(|hex| std::str::from_utf8(hex).ok()))
            .flatten()
            .filter(|hex| hex.bytes().all(|b| b.is_ascii_hexdigit()))
            .and_then(|hex| u8::from_str_radix(hex, 16).ok());
        decoded.push(escaped.unwrap_or(first));
        rest = if escaped.is_some() { &tail[2..] } else { tail };
    }
    String::from_utf8(decoded).map_or(Cow::Borrowed(text), Cow::Owned)
}

#[cfg(test)]
mod tests {
    use ostler_model::binding::{Credentials, Secret};

    use super::*;

    fn target(fields: &[(&str, &str)]) -> Target {
        let mut target = Target::at(([127, 0, 0, 1], 1).into());
        let fields = fields.iter().map(|(name, value)| ((*name).to_owned(), Secret::new(*value))).collect();
        target.credentials = Some(Credentials { fields, ..Credentials::default() });
        target
    }

    #[test]
    fn fields_come_before_the_uri() {
        let target = target(&[("uri", "postgresql://u%40x:p%3D@h:1/d?x=y"), ("username", "other")]);
        let login = Login::of(&target);
        assert_eq!(login.username.as_deref(), Some("other"));
        assert_eq!(login.password.as_ref().map(|p| p.0.as_ref()), Some("p="));
        assert_eq!(login.database.as_deref(), Some("d"));
        assert!(!format!("{login:?}").contains("p="));
    }

    #[test]
    fn odd_uris_do_no_harm() {
        for uri in ["", "x", "://", "a://@", "a://:@/", "a://h", "a://%", "a://u:%zz%@h/?", "a://u:p@h@i#/"] {
            let target = target(&[("uri", uri)]);
            let _ = Login::of(&target);
            let _ = secrets(&target);
        }
    }
}
