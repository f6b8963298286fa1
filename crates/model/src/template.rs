//! Texts with references: `{{ needs.db.uri }}`. References are checked when the text is parsed into an estate or an
//! offering's definition; rendering then only fails where a value is truly absent.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// A text with references in double braces.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Template {
    parts: Vec<Part>,
    source: String,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Part {
    Text(String),
    Reference(String),
}

/// Why a text is not a template, or could not be rendered.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TemplateError {
    /// `{{` without `}}`.
    #[error("`{{{{` at byte {0} is never closed by `}}}}`")]
    Unclosed(usize),
    /// Something other than names joined by dots between the braces.
    #[error("`{0}` is not a reference: names joined by dots, as in `needs.db.uri`")]
    NotAReference(String),
    /// Nothing has this name where the template is rendered.
    #[error("`{0}` has no value here")]
    Unknown(String),
}

impl Template {
    /// The references in it, in order, with repetitions.
    pub fn references(&self) -> impl Iterator<Item = &str> {
        self.parts.iter().filter_map(|part| match part {
            Part::Reference(name) => Some(name.as_str()),
            Part::Text(_) => None,
        })
    }

    /// The text with each reference replaced by what `look_up` gives for it.
    ///
    /// # Errors
    /// [`TemplateError::Unknown`] names the first reference that `look_up` does not know.
    pub fn render(&self, look_up: impl Fn(&str) -> Option<String>) -> Result<String, TemplateError> {
        let mut out = String::new();
        for part in &self.parts {
            match part {
                Part::Text(text) => out.push_str(text),
                Part::Reference(name) => {
                    out.push_str(&look_up(name).ok_or_else(|| TemplateError::Unknown(name.clone()))?);
                }
            }
        }
        Ok(out)
    }

    /// The text as it was written.
    pub fn source(&self) -> &str {
        &self.source
    }
}

impl FromStr for Template {
    type Err = TemplateError;

    fn from_str(source: &str) -> Result<Self, TemplateError> {
        let mut parts = Vec::new();
        let mut rest = source;
        while let Some(open) = rest.find("{{") {
            if open > 0 {
                parts.push(Part::Text(rest[..open].to_owned()));
            }
            let inner = &rest[open + 2..];
            let close = inner.find("}}").ok_or(TemplateError::Unclosed(source.len() - rest.len() + open))?;
            let name = inner[..close].trim();
            let is_name = |part: &str| {
                !part.is_empty() && part.chars().all(|c| c.is_ascii_alphanumeric() || c == '_' || c == '-')
            };
            if !name.split('.').all(is_name) {
                return Err(TemplateError::NotAReference(name.chars().take(80).collect()));
            }
            parts.push(Part::Reference(name.to_owned()));
            rest = &inner[close + 2..];
        }
        if !rest.is_empty() {
            parts.push(Part::Text(rest.to_owned()));
        }
        Ok(Self { parts, source: source.to_owned() })
    }
}

impl TryFrom<String> for Template {
    type Error = TemplateError;

    fn try_from(text: String) -> Result<Self, TemplateError> {
        text.parse()
    }
}

impl From<Template> for String {
    fn from(template: Template) -> Self {
        template.source
    }
}

impl fmt::Debug for Template {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.source)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn renders_and_names_what_is_missing() {
        let template: Template = "a={{ needs.db.uri }}&b={{x}}".parse().unwrap();
        assert_eq!(template.references().collect::<Vec<_>>(), ["needs.db.uri", "x"]);
        let look_up = |name: &str| (name == "x").then(|| "1".to_owned());
        assert_eq!(template.render(look_up), Err(TemplateError::Unknown("needs.db.uri".to_owned())));
        assert_eq!(template.render(|name| Some(name.len().to_string())).unwrap(), "a=12&b=1");
    }

    #[test]
    fn wrong_ones() {
        assert_eq!("ab {{x".parse::<Template>(), Err(TemplateError::Unclosed(3)));
        assert!(matches!("{{ a b }}".parse::<Template>(), Err(TemplateError::NotAReference(_))));
        assert!(matches!("{{}}".parse::<Template>(), Err(TemplateError::NotAReference(_))));
    }
}
