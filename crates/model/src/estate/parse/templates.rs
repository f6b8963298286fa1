//! The texts of a service that refer to things: `run`, `before` and `env`.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

use toml::de::DeValue;

use super::reader::{Reader, Value, listed};
use crate::diagnostics::shown;
use crate::estate::{RunPath, Service};
use crate::ids::ServiceName;
use crate::template::Template;

/// Variables that ostler sets itself.
const RESERVED: &[&str] =
    &["PORT", "HOST", "SERVICE_BINDING_ROOT", "VCAP_SERVICES", "LISTEN_FDS", "LISTEN_PID", "LISTEN_FDNAMES"];
const RESERVED_PREFIX: &str = "OSTLER_";
/// What templates may refer to, besides the needs' bindings.
const REFERENCES: &[&str] = &["service.name", "instance.id", "instance.port", "instance.host", "estate.name"];

/// What the texts of one service may refer to.
pub(super) struct References<'n> {
    /// The bindings of these.
    needs: &'n BTreeSet<ServiceName>,
    /// Its program lies there in several versions, so that there is one to refer to.
    versions: bool,
}

impl<'n> References<'n> {
    /// Of a service that needs these and declares this `run`.
    pub(super) fn of(needs: &'n BTreeSet<ServiceName>, run: Option<Value<'_>>) -> Self {
        let program = match run.map(|run| run.raw()) {
            Some(DeValue::Array(words)) => words.first().and_then(|word| word.get_ref().as_str()),
            Some(_) | None => None,
        };
        let template = program.and_then(|program| program.parse::<Template>().ok());
        Self { needs, versions: template.is_some_and(|template| refers_to_version(&template)) }
    }

    /// The program and its arguments. Where the program's path says `{{ version }}`, it is one that can be looked for.
    pub(super) fn read_run(&self, reader: &mut Reader<'_>, value: Value<'_>) -> Option<Vec<Template>> {
        let run = self.read_command(reader, value)?;
        if let Some(program) = run.first().filter(|program| refers_to_version(program))
            && let Err((cause, remedy)) = RunPath::of(program)
        {
            reader.report(value.span(), cause, remedy);
            return None;
        }
        Some(run)
    }

    /// A command whose words may refer to things.
    pub(super) fn read_command(&self, reader: &mut Reader<'_>, value: Value<'_>) -> Option<Vec<Template>> {
        let entries = value.some_list(reader)?;
        let (program, arguments) = entries.split_first().expect("the list is not empty");
        let program = program.some_text(reader).and_then(|_| self.read_template(reader, *program));
        let arguments: Vec<_> = arguments.iter().map(|entry| self.read_template(reader, *entry)).collect();
        std::iter::once(program).chain(arguments).collect()
    }

    /// Environment variables.
    pub(super) fn read_env(&self, reader: &mut Reader<'_>, value: Value<'_>) -> Option<BTreeMap<String, Template>> {
        let mut env = BTreeMap::new();
        for (key, value) in value.table(reader)?.iter() {
            let name: &str = key.get_ref();
            if RESERVED.contains(&name) || name.starts_with(RESERVED_PREFIX) {
                let remedy = format!("choose another name. Set by ostler: {}, {RESERVED_PREFIX}…", RESERVED.join(", "));
                reader.report(key.span(), format!("the variable `{}` is set by ostler itself", shown(name)), remedy);
                continue;
            }
            if !is_variable_name(name) {
                let remedy = "use letters, digits and underscores, and no digit first, for example `DATABASE_URL`";
                reader.report(key.span(), format!("`{}` is not a variable's name", shown(name)), remedy);
                continue;
            }
            let value = Value::new(name, r#"env = { DATABASE_URL = "{{ needs.db.uri }}" }"#, value);
            if let Some(template) = self.read_template(reader, value) {
                env.insert(name.to_owned(), template);
            }
        }
        Some(env)
    }

    fn read_template(&self, reader: &mut Reader<'_>, value: Value<'_>) -> Option<Template> {
        let text = value.text(reader)?;
        let template: Template = match text.parse() {
            Ok(template) => template,
            Err(error) => {
                let remedy = format!("write references like `{{{{ needs.db.uri }}}}`: {}", self.in_words());
                reader.report(value.span(), format!("this is not a template: {error}"), remedy);
                return None;
            }
        };
        for reference in template.references() {
            self.check(reader, value.span(), reference);
        }
        Some(template)
    }

    fn check(&self, reader: &mut Reader<'_>, span: Range<usize>, reference: &str) {
        if REFERENCES.contains(&reference) || (reference == Service::VERSION && self.versions) {
            return;
        }
        if reference == Service::VERSION {
            let remedy = "put it into the path of the program as well, the first word of `run`, as in `run = \
                          [\"releases/{{ version }}/bookshop-web\"]`; or remove it";
            reader.report(span, "`version` refers to nothing: the program is not there in several versions", remedy);
            return;
        }
        let parts: Vec<&str> = reference.split('.').collect();
        let ["needs", need, field] = parts[..] else {
            let remedy = reader.advise(reference, REFERENCES.iter().copied(), &self.in_words());
            reader.report(span, format!("`{}` refers to nothing", shown(reference)), remedy);
            return;
        };
        if !self.needs.iter().any(|known| known.as_str() == need) {
            if !reader.may_be_unread(need) {
                let rest = format!("add `{}` to this service's `needs`", shown(need));
                let remedy = reader.advise(need, self.needs.iter().map(ServiceName::as_str), &rest);
                let cause = format!("`{}` refers to `{}`, which is not in `needs`", shown(reference), shown(need));
                reader.report(span, cause, remedy);
            }
        } else if !is_field_name(field) {
            let cause = format!("`{}` is not a field of a binding in `{}`", shown(field), shown(reference));
            reader.report(span, cause, "fields have lower-case names: uri, host, port, username, password, database");
        }
    }

    /// What can be referred to.
    fn in_words(&self) -> String {
        let version = self.versions.then_some(Service::VERSION);
        let others = REFERENCES.iter().copied().chain(version).collect::<Vec<_>>().join(", ");
        match listed(self.needs.iter().map(ServiceName::as_str)).as_str() {
            "" => format!("refer to {others}, or needs.NAME.FIELD of a service in `needs`"),
            names => format!("refer to {others}, or needs.NAME.FIELD where NAME is one of: {names}"),
        }
    }
}

fn refers_to_version(template: &Template) -> bool {
    template.references().any(|reference| reference == Service::VERSION)
}

fn is_variable_name(name: &str) -> bool {
    name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
        && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_')
}

fn is_field_name(name: &str) -> bool {
    name.starts_with(|c: char| c.is_ascii_lowercase())
        && name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_')
}
