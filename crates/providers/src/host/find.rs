//! Which programs and versions of an offering this machine has.
//!
//! Invariant: a version is asked of a program once, until the program's file changes: asking starts a process.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::time::{Duration, SystemTime};

use ostler_model::outcome::Failure;
use ostler_model::version::Version;

use super::definition::{Definition, Find, FindVersion};
use super::failure::needs_person;
use super::scope::Scope;
use super::steps::{self, Input, Output, Run};

/// At most this many folders are looked at for one pattern.
const MATCHES_MAX: usize = 1_000;
const VERSION_TIMEOUT: Duration = Duration::from_secs(20);

/// One set of programs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Found {
    pub(super) version: Option<Version>,
    pub(super) folder: PathBuf,
}

impl Found {
    /// Makes its programs known as `binaries.…`.
    pub(super) fn set(&self, scope: &mut Scope<'_>, find: &Find) {
        scope.set("binaries.folder", self.folder.display().to_string());
        for program in &find.programs {
            scope.set(format!("binaries.{program}"), self.folder.join(program).display().to_string());
        }
        if let Some(version) = &self.version {
            scope.set("version", version.to_string());
        }
    }
}

/// By a program's path: when its file was changed, its length, and the version that it said.
type Known = BTreeMap<PathBuf, (Option<SystemTime>, u64, Version)>;

/// What was asked before.
#[derive(Debug, Default)]
pub(super) struct Finder {
    known: Mutex<Known>,
}

impl Finder {
    /// All sets of programs that `definition` asks for, oldest version first; one for each version. An offering without
    /// `find` needs no programs.
    pub(super) async fn all(&self, definition: &Definition) -> Vec<Found> {
        let Some(find) = &definition.find else { return Vec::new() };
        let mut found: Vec<Found> = Vec::new();
        for folder in find.folders.iter().flat_map(|pattern| folders(pattern.get_ref())) {
            if !find.programs.iter().all(|program| is_executable(&folder.join(program))) {
                continue;
            }
            let version = match &find.version {
                None => None,
                Some(how) => match self.version(definition, find, how, &folder).await {
                    Some(version) => Some(version),
                    None => continue, // a program that does not say its version is not the one that was meant
                },
            };
            if !found.iter().any(|other| other.version == version) {
                found.push(Found { version, folder });
            }
        }
        found.sort_by(|a, b| a.version.cmp(&b.version));
        found
    }

    /// The programs for `wanted`: the very version, or else the newest of the same series, because a package's update
    /// replaces a version by its successor in place. Where there are no series, the newest of the same major version, or
    /// else the newest that is newer.
    pub(super) async fn one(
        &self,
        offering: &str,
        definition: &Definition,
        wanted: Option<&Version>,
    ) -> Result<Option<Found>, Failure> {
        let Some(find) = &definition.find else { return Ok(None) };
        let all = self.all(definition).await;
        let exact = all.iter().find(|found| wanted.is_none() || found.version.as_ref() == wanted);
        let with_version = |will_do: &dyn Fn(&Version, &Version) -> bool| {
            all.iter().rev().find(|found| match (&found.version, wanted) {
                (Some(version), Some(wanted)) => will_do(version, wanted),
                _ => true,
            })
        };
        let successor = || with_version(&|version, wanted| version.begins_as(wanted, find.series.max(1)));
        let newer = || if find.series == 0 { with_version(&|version, wanted| version > wanted) } else { None };
        match exact.or_else(successor).or_else(newer) {
            Some(found) => Ok(Some(found.clone())),
            None => Err(needs_person(
                match wanted {
                    Some(version) => format!("{offering} {version} is not installed on this machine"),
                    None => format!("{offering} is not installed on this machine"),
                },
                find.install.clone(),
            )),
        }
    }

    async fn version(&self, definition: &Definition, find: &Find, how: &FindVersion, folder: &Path) -> Option<Version> {
        let witness = folder.join(find.programs.first()?);
        let data = std::fs::metadata(&witness).ok()?;
        let (changed, length) = (data.modified().ok(), data.len());
        if let Some((known_changed, known_length, version)) = self.locked().get(&witness)
            && (*known_changed, *known_length) == (changed, length)
        {
            return Some(version.clone());
        }
        let mut scope = Scope::new(definition);
        Found { version: None, folder: folder.to_owned() }.set(&mut scope, find);
        let mut words = scope.texts(&how.run).ok()?.into_iter();
        let asked = steps::run(Run {
            program: words.next()?.into(),
            arguments: words.collect(),
            environment: super::environment::base(folder),
            folder: PathBuf::from("/"),
            owner: None,
            input: Input::Nothing,
            output: Output::Kept,
            limit: VERSION_TIMEOUT,
        });
        let said = asked.await.ok()?;
        let version = read_version(&(said.stdout + &said.stderr), &how.after)?;
        self.locked().insert(witness, (changed, length, version.clone()));
        Some(version)
    }

    fn locked(&self) -> std::sync::MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

/// The first `count` numbers of a version: what names the format of its data.
pub(super) fn series(version: &Version, count: u32) -> String {
    version.to_string().split(['.', '-', '+']).take(count as usize).collect::<Vec<_>>().join(".")
}

/// Whether `path` is a file that somebody may execute.
pub(super) fn is_executable(path: &Path) -> bool {
    use std::os::unix::fs::PermissionsExt;
    std::fs::metadata(path).is_ok_and(|data| data.is_file() && data.permissions().mode() & 0o111 != 0)
}

/// The version that follows `after` in what a program said.
pub(super) fn read_version(said: &str, after: &str) -> Option<Version> {
    let rest = said[said.find(after)? + after.len()..].trim_start();
    let end = rest.find(|c: char| !c.is_ascii_alphanumeric() && !"+-.".contains(c)).unwrap_or(rest.len());
    let text = rest[..end].trim_end_matches(['.', '-', '+']);
    text.parse().ok().or_else(|| {
        // `16beta1` and the like are not numbered in a way that can be ordered: their leading numbers are.
        let numbers = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
        text[..numbers].trim_end_matches('.').parse().ok()
    })
}

/// The folders that `pattern` means; `*` stands for any part of one name. In the order of their names.
fn folders(pattern: &str) -> Vec<PathBuf> {
    let mut matches = vec![PathBuf::from("/")];
    for part in pattern.split('/').filter(|part| !part.is_empty()) {
        let mut next = Vec::new();
        for folder in matches {
            if !part.contains('*') {
                next.push(folder.join(part));
                continue;
            }
            let entries = std::fs::read_dir(&folder).into_iter().flatten().flatten();
            let mut names: Vec<_> = entries
                .map(|entry| entry.file_name())
                .filter(|name| name.to_str().is_some_and(|name| is_match(part, name)))
                .collect();
            names.sort();
            next.extend(names.into_iter().map(|name| folder.join(name)));
        }
        next.truncate(MATCHES_MAX);
        matches = next;
    }
    matches.into_iter().filter(|folder| folder.is_dir()).collect()
}

/// Whether `name` is `pattern` with each `*` replaced by some text.
fn is_match(pattern: &str, name: &str) -> bool {
    match pattern.split_once('*') {
        None => pattern == name,
        Some((before, after)) => name.strip_prefix(before).is_some_and(|rest| {
            (0..=rest.len()).filter(|&at| rest.is_char_boundary(at)).any(|at| is_match(after, &rest[at..]))
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_in_what_programs_say() {
        for (said, after, version) in [
            ("postgres (PostgreSQL) 15.18 (Debian 15.18-0+deb12u1)\n", "(PostgreSQL) ", "15.18"),
            ("postgres (PostgreSQL) 17beta1\n", "(PostgreSQL) ", "17"),
            ("Redis server v=7.0.15 sha=00000000:0 malloc=jemalloc-5.3.0", "v=", "7.0.15"),
            ("nginx version: nginx/1.22.1\n", "nginx/", "1.22.1"),
        ] {
            assert_eq!(read_version(said, after).unwrap().to_string(), version);
        }
        assert_eq!(read_version("no", "v="), None);
        assert_eq!(read_version("v=", "v="), None);
    }

    #[test]
    fn patterns() {
        assert!(is_match("1*", "15") && is_match("*", "x") && is_match("a*b*c", "a-b-b-c") && is_match("a", "a"));
        assert!(!is_match("1*", "25") && !is_match("a", "ab") && !is_match("a*b", "a"));
    }

    #[test]
    fn several_versions_side_by_side_are_all_found() {
        let dir = tempfile::tempdir().unwrap();
        for version in ["9.6.1", "15.2", "10.1"] {
            let bin = dir.path().join(version).join("bin");
            std::fs::create_dir_all(&bin).unwrap();
            let program = bin.join("server");
            std::fs::write(&program, format!("#!/bin/sh\necho \"server v={version}\"\n")).unwrap();
            std::fs::set_permissions(&program, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
        }
        std::fs::create_dir_all(dir.path().join("16/bin")).unwrap(); // without the program
        let text = format!(
            "description = 'x'\n[find]\nfolders = ['{}/*/bin']\nprograms = ['server']\ninstall = 'x'\nseries = 1\n\
             version = {{ run = ['{{{{ binaries.server }}}}'], after = 'v=' }}\n\
             [[plan]]\nname = 'a'\ndescription = 'x'\n[run]\ncommand = ['{{{{ binaries.server }}}}']\n",
            dir.path().display()
        );
        let definition = Definition::parse("x.toml", &text).unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let finder = Finder::default();
        let all = runtime.block_on(finder.all(&definition));
        let versions: Vec<String> = all.iter().map(|f| f.version.as_ref().unwrap().to_string()).collect();
        assert_eq!(versions, ["9.6.1", "10.1", "15.2"]);
        let one = |wanted: &str| runtime.block_on(finder.one("x", &definition, Some(&wanted.parse().unwrap())));
        assert_eq!(one("15.1").unwrap().unwrap().version.unwrap().to_string(), "15.2");
        assert_eq!(one("16").unwrap_err().remedy, "x");
        assert_eq!(one("14").unwrap_err().remedy, "x", "what is newer cannot read its data");
        let definition = Definition::parse("x.toml", &text.replace("series = 1", "series = 0")).unwrap();
        let one = |wanted: &str| runtime.block_on(finder.one("x", &definition, Some(&wanted.parse().unwrap())));
        assert_eq!(one("14").unwrap().unwrap().version.unwrap().to_string(), "15.2");
        assert_eq!(one("10.0").unwrap().unwrap().version.unwrap().to_string(), "10.1");
        assert_eq!(one("16").unwrap_err().remedy, "x", "what is older may not read its data");
    }
}
