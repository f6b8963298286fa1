//! What a program is told: its environment, built from nothing, and the folder of its bindings.
//!
//! Invariant: a binding's folder is replaced in one step; a program that reads it sees the old or the new one whole.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use ostler_model::binding::variable_name;
use ostler_model::outcome::Failure;
use serde_json::{Map, Value, json};

use super::failure::io_at;
use super::folder::{Durable, Folder, make_folder, write_private};
use super::ports::HOST;
use super::scope::Scope;
use super::users::Owner;
use crate::{InstanceOrder, Need};

/// Where programs are looked for that are named without a folder, and the `PATH` of every instance.
pub const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// What every command and every instance gets.
pub(super) fn base(home: &Path) -> BTreeMap<String, String> {
    let mut variables = BTreeMap::from([
        ("PATH".to_owned(), PATH.to_owned()),
        ("HOME".to_owned(), home.display().to_string()),
        ("LANG".to_owned(), "C.UTF-8".to_owned()),
    ]);
    if let Ok(zone) = std::env::var("TZ") {
        variables.insert("TZ".to_owned(), zone);
    }
    variables
}

/// The environment of the instance: the base, what the definition gives, the needs' bindings, and in front of them all
/// what the estate's `env` gives.
pub(super) fn of_instance(
    order: &InstanceOrder,
    folder: &Folder,
    port: u16,
    runs_program: bool,
    own: BTreeMap<String, String>,
    scope: &Scope<'_>,
) -> Result<BTreeMap<String, String>, Failure> {
    let mut variables = base(&folder.root);
    variables.extend(own);
    if runs_program {
        variables.insert("HOST".to_owned(), HOST.to_string());
        variables.insert("PORT".to_owned(), port.to_string());
        variables.insert("INSTANCE".to_owned(), order.instance.to_string());
    }
    if runs_program || !order.needs.is_empty() {
        variables.insert("SERVICE_BINDING_ROOT".to_owned(), bindings(folder).display().to_string());
        variables.insert("VCAP_SERVICES".to_owned(), vcap_services(order).to_string());
    }
    for (name, need) in &order.needs {
        for (field, secret) in &need.credentials.fields {
            variables.insert(variable_name(name.as_str(), field), secret.expose().to_owned());
        }
    }
    for (name, template) in &order.env {
        variables.insert(name.clone(), scope.render(template)?);
    }
    Ok(variables)
}

/// Makes the instance's `bindings/` hold exactly the bindings of `needs`, as the Service Binding Specification lays
/// them out: a folder for each, a file for each field.
///
/// A name in `bindings/` is a link to a folder in `bindings.d/`, because only a link can be replaced in one step.
pub(super) fn write_bindings(order: &InstanceOrder, folder: &Folder, owner: Option<&Owner>) -> Result<(), Failure> {
    let (links, versions) = (bindings(folder), folder.root.join("bindings.d"));
    make_folder(&links, owner)?;
    make_folder(&versions, owner)?;
    let mut current = BTreeSet::new();
    for (name, need) in &order.needs {
        let link = links.join(name.as_str());
        let files = files(need);
        let old = fs::read_link(&link).ok().and_then(|to| Some(to.file_name()?.to_string_lossy().into_owned()));
        if let Some(old) = old.clone().filter(|old| holds(&versions.join(old), &files)) {
            current.insert(old);
            continue;
        }
        let number = old.and_then(|old| old.rsplit_once('.')?.1.parse::<u64>().ok()).unwrap_or(0) + 1;
        let version = format!("{name}.{number}");
        let new = versions.join(&version);
        if new.exists() {
            fs::remove_dir_all(&new).map_err(io_at("delete", &new))?; // left by an interrupted change
        }
        make_folder(&new, owner)?;
        for (file, content) in &files {
            write_private(&new.join(file), content.as_bytes(), owner, Durable::No)?;
        }
        let staged = versions.join(format!(".{name}"));
        let _ = fs::remove_file(&staged);
        std::os::unix::fs::symlink(Path::new("../bindings.d").join(&version), &staged)
            .and_then(|()| fs::rename(&staged, &link))
            .map_err(io_at("write", &link))?;
        current.insert(version);
    }
    remove_others(&links, |name| order.needs.keys().any(|need| need.as_str() == name))?;
    remove_others(&versions, |name| current.contains(name))
}

fn bindings(folder: &Folder) -> PathBuf {
    folder.root.join("bindings")
}

/// The files of one binding. Reserved names and `type`, `provider` are the specification's; a field of the provider's
/// with one of these two names would lie, so it is left out.
fn files(need: &Need) -> BTreeMap<String, String> {
    let mut files: BTreeMap<String, String> =
        need.credentials.fields.iter().map(|(name, secret)| (name.clone(), secret.expose().to_owned())).collect();
    files.insert("type".to_owned(), need.offering.clone());
    files.insert("provider".to_owned(), need.provider.clone());
    files
}

/// Whether `folder` holds exactly these files.
fn holds(folder: &Path, files: &BTreeMap<String, String>) -> bool {
    let Ok(entries) = fs::read_dir(folder) else { return false };
    let names: BTreeSet<String> = entries.flatten().map(|e| e.file_name().to_string_lossy().into_owned()).collect();
    names.iter().eq(files.keys())
        && files.iter().all(|(name, text)| fs::read(folder.join(name)).is_ok_and(|bytes| bytes == text.as_bytes()))
}

fn remove_others(folder: &Path, keep: impl Fn(&str) -> bool) -> Result<(), Failure> {
    for entry in fs::read_dir(folder).map_err(io_at("list", folder))?.flatten() {
        let path = entry.path();
        if entry.file_name().to_str().is_some_and(&keep) {
            continue;
        }
        let is_folder = entry.file_type().is_ok_and(|kind| kind.is_dir());
        let removed = if is_folder { fs::remove_dir_all(&path) } else { fs::remove_file(&path) };
        removed.map_err(io_at("delete", &path))?;
    }
    Ok(())
}

/// Cloud Foundry's form: a list for each offering.
fn vcap_services(order: &InstanceOrder) -> Value {
    let mut services = Map::new();
    for (name, need) in &order.needs {
        let credentials: Map<String, Value> = need
            .credentials
            .fields
            .iter()
            .map(|(field, secret)| {
                let text = secret.expose();
                let number = (field == "port").then(|| text.parse::<u16>().ok()).flatten();
                (field.clone(), number.map_or_else(|| Value::from(text), Value::from))
            })
            .collect();
        let entry = json!({
            "name": name.as_str(),
            "instance_name": name.as_str(),
            "binding_name": null,
            "label": need.offering,
            "provider": need.provider,
            "tags": [need.offering],
            "credentials": credentials,
        });
        match services.entry(need.offering.clone()).or_insert_with(|| Value::Array(Vec::new())) {
            Value::Array(list) => list.push(entry),
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) | Value::Object(_) => {}
        }
    }
    Value::Object(services)
}
