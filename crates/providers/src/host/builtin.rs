//! The offerings that ostler brings, and the user's own folder of more.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use ostler_model::diagnostics::Problems;
use ostler_model::ids::OfferingName;
use toml::Spanned;

use super::definition::{Definition, FILE_BYTES_MAX};

/// The definition files that are part of the program.
const BUILTIN: [(&str, &str); 3] = [
    ("postgresql", include_str!("../../../../offerings/postgresql.toml")),
    ("redis", include_str!("../../../../offerings/redis.toml")),
    ("program", include_str!("../../../../offerings/program.toml")),
];

/// All offerings of this machine, by name.
#[derive(Clone, Debug)]
pub struct Definitions {
    by_name: BTreeMap<OfferingName, Arc<Definition>>,
}

impl Definitions {
    /// Those that ostler brings.
    ///
    /// # Errors
    /// What is wrong with them; never in a build that passed its tests.
    pub fn builtin() -> Result<Self, Vec<Problems>> {
        Self::read(
            BUILTIN.iter().map(|(name, text)| ((*name).to_owned(), format!("{name}.toml"), Ok((*text).to_owned()))),
        )
    }

    /// None at all.
    pub fn none() -> Self {
        Self { by_name: BTreeMap::new() }
    }

    /// Those that ostler brings, and beside or in front of them those in the `*.toml` files of `folder`.
    ///
    /// # Errors
    /// Everything that is wrong with any of the files.
    pub fn with_folder(folder: &Path) -> Result<Self, Vec<Problems>> {
        let mut all = Self::builtin()?;
        let entries = std::fs::read_dir(folder).map_err(|error| {
            vec![Problems::whole(
                &folder.display().to_string(),
                "",
                format!("cannot read the folder of offerings: {error}"),
                "Correct `offerings` of the provider in the estate file, or create the folder.",
            )]
        })?;
        let mut paths: Vec<_> = entries.flatten().map(|entry| entry.path()).collect();
        paths.retain(|path| path.extension().is_some_and(|extension| extension == "toml"));
        paths.sort();
        let own = Self::read(paths.into_iter().map(|path| {
            let name = path.file_stem().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
            let text = read_bounded(&path);
            (name, path.display().to_string(), text)
        }))?;
        all.by_name.extend(own.by_name);
        Ok(all)
    }

    /// The same, with `FOLDER/OFFERING/VERSION/bin` in front of the folders in which an offering's programs are looked for.
    pub fn with_versions(mut self, folder: &Path) -> Self {
        for (name, definition) in &mut self.by_name {
            if let Some(find) = &mut Arc::make_mut(definition).find {
                let versions = folder.join(name.as_str()).join("*/bin").display().to_string();
                find.folders.insert(0, Spanned::new(0..0, versions));
            }
        }
        self
    }

    pub(super) fn get(&self, name: &OfferingName) -> Option<&Arc<Definition>> {
        self.by_name.get(name)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (&OfferingName, &Arc<Definition>)> {
        self.by_name.iter()
    }

    fn read(files: impl Iterator<Item = (String, String, std::io::Result<String>)>) -> Result<Self, Vec<Problems>> {
        let (mut by_name, mut wrong) = (BTreeMap::new(), Vec::new());
        for (name, file, text) in files {
            let whole = |cause: String, remedy: &str| Problems::whole(&file, "", cause, remedy);
            let parsed = match text {
                Err(error) => Err(whole(format!("cannot read the file: {error}"), "Make it a readable text file.")),
                Ok(text) => match name.parse::<OfferingName>() {
                    Err(error) => Err(whole(error.to_string(), "Rename the file: its name is the offering's.")),
                    Ok(name) => Definition::parse(&file, &text).map(|definition| (name, Arc::new(definition))),
                },
            };
            match parsed {
                Ok((name, definition)) => drop(by_name.insert(name, definition)),
                Err(problems) => wrong.push(problems),
            }
        }
        if wrong.is_empty() { Ok(Self { by_name }) } else { Err(wrong) }
    }
}

/// One byte more than a definition may have, so that a longer one is told from one that just fits.
fn read_bounded(path: &Path) -> std::io::Result<String> {
    use std::io::Read;
    let mut text = String::new();
    std::fs::File::open(path)?.take(FILE_BYTES_MAX as u64 + 1).read_to_string(&mut text)?;
    Ok(text)
}

#[cfg(test)]
pub(super) fn definition(name: &str) -> Option<Definition> {
    Definitions::builtin().ok()?.by_name.get(&name.parse().ok()?).map(|definition| (**definition).clone())
}
