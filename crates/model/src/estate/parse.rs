//! From text to [`Estate`]: all that is wrong with an estate file is found in one go.
//!
//! The order: find out what of the text is TOML ([`recover`]), read each table into its type ([`settings`],
//! [`service`], [`failures`], [`terms`]), then check how the services fit together ([`checks`]). Each step goes on after an error.
//! Invariant: without a reported problem there is an estate, and with one there is none.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use toml::de::{DeTable, DeValue};

use self::failures::Whose;
use self::reader::{Fields, Key, Reader, Value, parse_name};
use self::recover::Reading;
use self::service::Draft;
use super::audit::Audit;
use super::backups::Backups;
use super::{Estate, SERVICES_MAX};
use crate::diagnostics::Problems;
use crate::ids::{ProviderName, ServiceName};

mod accounts;
mod address;
mod audit;
mod backups;
mod checks;
mod claims;
mod contracts;
mod drills;
mod failover;
mod failures;
mod osb;
mod own;
mod parameters;
mod provide;
mod reader;
mod recover;
mod service;
mod settings;
mod slo;
mod templates;
mod terms;
mod upgrade;
mod values;

/// At most this many bytes in an estate file: a bound on the time and memory that reading one can take.
pub const TEXT_MAX: usize = 1 << 20;

/// A parsed estate file, with where each thing was declared, so that later checks can point at it.
#[derive(Clone, Debug)]
pub struct Parsed {
    /// What it declares.
    pub estate: Estate,
    /// Byte ranges of values by dotted path: `service.web.needs.0`, `service.db.version`, `provider.here`. That of a
    /// table is its header; the whole where the table is written in one line.
    pub spans: BTreeMap<String, Range<usize>>,
    /// The certificates that providers name, as absolute paths. What they say is not known yet: parsing reads no files,
    /// and whoever needs to know reads them and puts it into `estate`.
    pub certificates: BTreeMap<ProviderName, PathBuf>,
}

impl Parsed {
    /// Where the value at `path` was declared; if it was not, where the table was that it would stand in. So
    /// `service.web.version` is the header of `[service.web]` while `web` declares no version.
    pub fn span(&self, path: &str) -> Range<usize> {
        let mut path = path;
        loop {
            if let Some(span) = self.spans.get(path) {
                return span.clone();
            }
            match path.rsplit_once('.') {
                Some((parent, _)) => path = parent,
                None => return 0..0,
            }
        }
    }
}

/// Parses the text of an estate file that lies in `folder`, an absolute path, and that the user calls `file`.
///
/// # Errors
/// Everything that is wrong with it, at once.
pub fn parse(file: &str, folder: &Path, text: &str) -> Result<Parsed, Problems> {
    if text.len() > TEXT_MAX {
        let cause = format!("the file has {} bytes, and an estate file has at most {TEXT_MAX}", text.len());
        return Err(Problems::whole(file, text, cause, "check that this is the file you mean"));
    }
    let Reading { text: readable, unread, problems } = recover::read(text);
    let (tree, _) = DeTable::parse_recoverable(&readable); // what is wrong with it was reported by `read`
    let mut reader = Reader::new(&unread, problems);
    let document = read_document(&mut reader, folder, tree.get_ref());
    let (problems, hidden) = reader.into_problems();
    match Problems::of(file, &without(text, &hidden), problems) {
        Some(problems) => Err(problems),
        None => {
            let (estate, certificates) = document.expect("whatever keeps an estate from being made was reported");
            let mut spans = BTreeMap::new();
            collect_spans("", tree.get_ref(), &mut spans);
            Ok(Parsed { estate, spans, certificates })
        }
    }
}

/// The text with stars in these places; everything else stays where it is.
fn without(text: &str, hidden: &[Range<usize>]) -> String {
    let is_hidden = |at: usize| hidden.iter().any(|span| span.contains(&at));
    let star = |(at, c): (usize, char)| match c {
        '\n' | '\r' => c.to_string(),
        _ if is_hidden(at) => "*".repeat(c.len_utf8()),
        _ => c.to_string(),
    };
    if hidden.is_empty() { text.to_owned() } else { text.char_indices().map(star).collect() }
}

const DOCUMENT: &[Key] = &[
    ("estate", "[estate]"),
    ("provider", "[provider.here]"),
    ("service", "[service.web]"),
    ("heal", "[heal]"),
    ("notify", "[notify]"),
    ("failures", "[failures]"),
    ("provide", "[provide]"),
    ("backups", "[backups]"),
    ("drill", "[drill]"),
    ("upgrade", "[upgrade]"),
    ("own", "[own]"),
    ("audit", "[audit]"),
];

/// An estate, and the certificates that its providers name.
type Document = (Estate, BTreeMap<ProviderName, PathBuf>);

fn read_document<'t>(reader: &mut Reader<'_>, folder: &Path, tree: &'t DeTable<'t>) -> Option<Document> {
    let fields = Fields::new(reader, "", 0..0, tree, DOCUMENT);
    let named = settings::read_estate(reader, fields.optional("estate"));
    let providers = settings::read_providers(reader, folder, named.as_ref(), fields.optional("provider"));
    let heal = fields.optional("heal").and_then(|value| settings::read_heal(reader, value)).unwrap_or_default();
    let notify = fields.optional("notify").map(|value| settings::read_notify(reader, value)).unwrap_or_default();
    let drafts = read_services(reader, &providers.names, fields.optional("service"));
    let failures = fields
        .optional("failures")
        .map(|value| failures::read(reader, "failures", Whose::Everything, value))
        .unwrap_or_default();
    let provide = fields.optional("provide").and_then(|value| {
        let provide = provide::read(reader, folder, value)?;
        checks::check_seller(reader, &providers.list, value.span());
        Some(Box::new(provide))
    });
    let backups = match fields.optional("backups") {
        Some(value) => backups::read(reader, folder, value),
        None => Some(Backups::default()),
    };
    let audit = match fields.optional("audit") {
        Some(value) => audit::read(reader, folder, value),
        None => Some(Audit::default()),
    };
    let names: BTreeSet<ServiceName> = drafts.iter().map(|draft| draft.name.clone()).collect();
    let drill = fields.optional("drill").and_then(|value| drills::read(reader, &names, value)).map(Box::new);
    let upgrade = fields.optional("upgrade").and_then(|value| upgrade::read(reader, value)).map(Box::new);
    let own = fields.optional("own").map(|value| own::read(reader, "own", value)).unwrap_or_default();
    checks::check_cycles(reader, &drafts);
    checks::check_endpoints(reader, &drafts);
    let settings::Head { name, currency, residency, accounts } = named?;
    let services =
        drafts.into_iter().map(|draft| Some((draft.name, Arc::new(draft.service?)))).collect::<Option<_>>()?;
    let estate = Estate {
        name,
        currency,
        residency,
        folder: folder.to_owned(),
        heal,
        notify,
        providers: providers.list,
        services,
        failures,
        provide,
        backups: backups?,
        drill,
        upgrade,
        accounts,
        own,
        audit: audit?,
    };
    Some((estate, providers.certificates))
}

/// In the order of their names.
fn read_services(reader: &mut Reader<'_>, providers: &BTreeSet<ProviderName>, value: Option<Value<'_>>) -> Vec<Draft> {
    let Some(value) = value else { return Vec::new() };
    let Some(table) = value.table(reader) else { return Vec::new() };
    if table.len() > SERVICES_MAX {
        let cause = format!("{} services are declared, and an estate has at most {SERVICES_MAX}", table.len());
        reader.report(value.span(), cause, "declare several instances of one service, or split the estate");
        return Vec::new();
    }
    let mut services: BTreeMap<ServiceName, Value<'_>> = BTreeMap::new();
    for (key, value) in table.iter() {
        if let Some(name) = parse_name(reader, key.span(), key.get_ref()) {
            checks::check_name(reader, key.span(), &name);
            services.insert(name, Value::new(key.get_ref(), "[service.web]", value));
        }
    }
    let names: BTreeSet<ServiceName> = services.keys().cloned().collect();
    let known = service::Names { services: &names, providers };
    services.into_iter().filter_map(|(name, value)| service::read(reader, &known, name, value)).collect()
}

fn collect_spans(path: &str, table: &DeTable<'_>, spans: &mut BTreeMap<String, Range<usize>>) {
    for (key, value) in table.iter() {
        collect_value_spans(join(path, key.get_ref()), value.span(), value.get_ref(), spans);
    }
}

fn collect_value_spans(
    path: String,
    span: Range<usize>,
    value: &DeValue<'_>,
    spans: &mut BTreeMap<String, Range<usize>>,
) {
    match value {
        DeValue::Table(table) => collect_spans(&path, table, spans),
        DeValue::Array(entries) => {
            for (index, entry) in entries.iter().enumerate() {
                collect_value_spans(join(&path, &index.to_string()), entry.span(), entry.get_ref(), spans);
            }
        }
        DeValue::String(_) | DeValue::Integer(_) | DeValue::Float(_) | DeValue::Boolean(_) | DeValue::Datetime(_) => {}
    }
    spans.insert(path, span);
}

fn join(path: &str, key: &str) -> String {
    if path.is_empty() { key.to_owned() } else { format!("{path}.{key}") }
}
