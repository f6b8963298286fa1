//! What a binding holds, and the three forms in which a consumer gets it.
//!
//! Invariant: credentials never reach a log: `Debug` shows names only, and facts hold a [`crate::ids::SecretId`].

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};

/// A text that must not be shown.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Secret(String);

impl Secret {
    /// Hides `text`.
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// The text itself: for the consumer's environment and files, and for the provider, and for nothing else.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("(secret)")
    }
}

impl From<String> for Secret {
    fn from(text: String) -> Self {
        Self(text)
    }
}

/// What one service needs to know to use another: `uri`, `host`, `port`, `username`, `password`, `database` and
/// whatever else the offering gives, by lower-case name.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Credentials {
    /// By lower-case name of letters, digits and underscores.
    pub fields: BTreeMap<String, Secret>,
    /// What only the provider needs to know of it. No consumer is given it, and it may change without their restart.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub kept: BTreeMap<String, Secret>,
}

impl Credentials {
    /// The field `name`, exposed.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.fields.get(name).map(Secret::expose)
    }

    /// The URI, if there is one.
    pub fn uri(&self) -> Option<&str> {
        self.get("uri")
    }
}

/// The environment variable that holds `field` of the need `need`: `DB_URL`, `DB_HOST`, `MAIN_DB_PASSWORD`.
/// The field `uri` is called `URL`, because programs look for `DATABASE_URL` and its like.
pub fn variable_name(need: &str, field: &str) -> String {
    let field = if field == "uri" { "url" } else { field };
    format!("{need}_{field}").to_ascii_uppercase().replace(['-', '.'], "_")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_do_not_show() {
        let mut credentials = Credentials::default();
        credentials.fields.insert("password".to_owned(), Secret::new("hunter2"));
        assert!(!format!("{credentials:?}").contains("hunter2"));
    }

    #[test]
    fn variables() {
        assert_eq!(variable_name("db", "uri"), "DB_URL");
        assert_eq!(variable_name("main-db", "password"), "MAIN_DB_PASSWORD");
    }
}
