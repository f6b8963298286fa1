//! The values that templates refer to while one thing is done with one instance.
//!
//! Invariant: secret values are known as such, so that [`Scope::redact`] takes them out of whatever is shown.

use std::collections::BTreeMap;

use ostler_model::binding::{Credentials, Secret};
use ostler_model::outcome::Failure;
use ostler_model::template::Template;

use super::definition::{Definition, Generated, Text};
use super::failure::needs_person;

/// A secret shorter than this is not taken out of texts: it would take apart words that have nothing to do with it.
const REDACTED_BYTES_MIN: usize = 4;
/// A piece of a secret that is this long gives away enough of it to be taken out.
const PIECE_BYTES: usize = 8;
const HIDDEN: &str = "(secret)";
/// Fields of credentials that are no secrets.
const PUBLIC_FIELDS: [&str; 6] = ["host", "port", "username", "database", "type", "provider"];
/// Letters and digits need no quoting in any language that they are put into.
const PASSWORD_ALPHABET: &[u8; 62] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789";
const PASSWORD_CHARS: usize = 32; // 190 bits

/// Values by reference. No `Debug`: it holds secrets.
#[derive(Clone)]
pub(super) struct Scope<'a> {
    definition: &'a Definition,
    values: BTreeMap<String, String>,
    secrets: Vec<String>,
}

impl<'a> Scope<'a> {
    pub(super) fn new(definition: &'a Definition) -> Self {
        Self { definition, values: BTreeMap::new(), secrets: Vec::new() }
    }

    pub(super) fn set(&mut self, name: impl Into<String>, value: impl Into<String>) {
        self.values.insert(name.into(), value.into());
    }

    pub(super) fn set_secret(&mut self, name: impl Into<String>, value: &str) {
        self.hide(value);
        self.set(name, value);
    }

    /// Makes the fields of `credentials` known under `prefix`.
    pub(super) fn set_credentials(&mut self, prefix: &str, credentials: &Credentials) {
        for (field, secret) in &credentials.fields {
            let name = format!("{prefix}{field}");
            if PUBLIC_FIELDS.contains(&field.as_str()) {
                self.set(name, secret.expose());
            } else {
                self.set_secret(name, secret.expose());
            }
        }
    }

    /// Makes the fields of `section` known under `prefix`: the generated ones from `known` or, if it has none, new.
    /// Returns all of them.
    pub(super) fn set_fields(
        &mut self,
        prefix: &str,
        section: &impl Generated,
        known: Option<&Credentials>,
    ) -> Result<Credentials, Failure> {
        let mut fields = BTreeMap::new();
        for name in section.generated() {
            let name = name.get_ref();
            let value = match known.and_then(|known| known.get(name)) {
                Some(value) => value.to_owned(),
                None => generate()?,
            };
            self.set_secret(format!("{prefix}{name}"), &value);
            fields.insert(name.clone(), Secret::new(value));
        }
        for (name, template) in section.in_order(prefix) {
            let value = self.render(template)?;
            self.set(format!("{prefix}{name}"), &value);
            fields.insert(name.clone(), Secret::new(value));
        }
        Ok(Credentials { fields, ..Credentials::default() })
    }

    /// The template with its references replaced.
    pub(super) fn render(&self, template: &Template) -> Result<String, Failure> {
        template.render(|name| self.look_up(name)).map_err(|error| {
            needs_person(
                format!("cannot fill in `{}`: {error}", template.source()),
                "Set what is missing under `env` of the service in the estate file, or correct the offering's definition.",
            )
        })
    }

    pub(super) fn text(&self, text: &Text) -> Result<String, Failure> {
        self.render(text.get_ref())
    }

    pub(super) fn texts(&self, texts: &[Text]) -> Result<Vec<String>, Failure> {
        texts.iter().map(|text| self.text(text)).collect()
    }

    pub(super) fn map(&self, texts: &BTreeMap<String, Text>) -> Result<BTreeMap<String, String>, Failure> {
        texts.iter().map(|(name, text)| Ok((name.clone(), self.text(text)?))).collect()
    }

    /// `text` without the secrets that are known here, and without pieces of them: programs quote in part.
    pub(super) fn redact(&self, text: &str) -> String {
        let whole = self.secrets.iter().fold(text.to_owned(), |text, secret| text.replace(secret, HIDDEN));
        // A piece of a URI may be any word, and the secret in it is known by itself.
        let pieces: Vec<&[u8]> = self
            .secrets
            .iter()
            .filter(|s| !s.contains("://"))
            .flat_map(|s| s.as_bytes().windows(PIECE_BYTES))
            .collect();
        let bytes = whole.as_bytes();
        let mut hidden = vec![false; bytes.len()];
        for (at, window) in bytes.windows(PIECE_BYTES).enumerate() {
            if pieces.contains(&window) {
                hidden[at..at + PIECE_BYTES].fill(true);
            }
        }
        let mut out = Vec::with_capacity(bytes.len());
        for (at, byte) in bytes.iter().enumerate() {
            match (hidden[at], at > 0 && hidden[at - 1]) {
                (false, _) => out.push(*byte),
                (true, false) => out.extend_from_slice(HIDDEN.as_bytes()),
                (true, true) => {}
            }
        }
        String::from_utf8_lossy(&out).into_owned()
    }

    fn look_up(&self, name: &str) -> Option<String> {
        if let Some(value) = self.values.get(name) {
            return Some(value.clone());
        }
        if let Some(text) = name.strip_prefix("texts.") {
            // The definition's check makes sure that texts do not refer to texts, so this goes one level deep.
            return self.definition.texts.get(text)?.get_ref().render(|name| self.values.get(name).cloned()).ok();
        }
        let variable = name.strip_prefix("env.")?;
        self.definition.environment.get(variable)?.get_ref().render(|name| self.values.get(name).cloned()).ok()
    }

    fn hide(&mut self, value: &str) {
        if value.len() >= REDACTED_BYTES_MIN && !self.secrets.iter().any(|secret| secret == value) {
            self.secrets.push(value.to_owned());
            // Long ones first: a URI holds the password, and must go as a whole.
            self.secrets.sort_by_key(|secret| std::cmp::Reverse(secret.len()));
        }
    }
}

/// 32 random letters and digits, each as likely as any other.
pub(super) fn generate() -> Result<String, Failure> {
    let mut password = String::with_capacity(PASSWORD_CHARS);
    let mut random = [0_u8; 64];
    while password.len() < PASSWORD_CHARS {
        getrandom::fill(&mut random).map_err(|error| {
            super::failure::temporary(
                format!("cannot generate a password: {error}"),
                "Make sure that the kernel's random numbers are available.",
            )
        })?;
        // 248 is the largest multiple of 62 in a byte: above it some letters would be likelier than others.
        let letters = random.iter().filter(|&&byte| byte < 248).map(|&byte| PASSWORD_ALPHABET[usize::from(byte % 62)]);
        password.extend(letters.map(char::from).take(PASSWORD_CHARS - password.len()));
    }
    Ok(password)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn passwords_are_letters_and_digits_and_differ() {
        let (a, b) = (generate().unwrap(), generate().unwrap());
        assert_eq!((a.len(), b.len()), (32, 32));
        assert!(a.bytes().chain(b.bytes()).all(|c| c.is_ascii_alphanumeric()));
        assert_ne!(a, b);
    }

    #[test]
    fn secrets_are_taken_out_whole() {
        let definition = super::super::builtin::definition("redis").unwrap();
        let mut scope = Scope::new(&definition);
        scope.set_secret("a", "hunter2");
        scope.set_secret("b", "redis://x:hunter2@h");
        assert_eq!(scope.redact("uri redis://x:hunter2@h, password hunter2"), "uri (secret), password (secret)");
        scope.set_secret("c", "abcdefghijklmnopqrstuvwxyz");
        assert_eq!(
            scope.redact("password 'abcdefghijklm...\n...qrstuvwxyz' – é"),
            "password '(secret)...\n...(secret)' – é"
        );
    }
}
