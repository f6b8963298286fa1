//! Versions of the buyer's own programs that lie side by side: `releases/{{ version }}/bookshop-web`.
//!
//! Invariant: only names that read as versions are looked at, and of a folder only so many.

use std::collections::BTreeMap;
use std::path::Path;

use ostler_model::estate::{Estate, RunPath};
use ostler_model::ids::ServiceName;
use ostler_model::version::Version;

use super::HostProvider;
use super::find::is_executable;

/// At most this many names of a folder are read.
const NAMES_MAX: usize = 10_000;
/// At most this many versions of one program are offered, the newest.
const VERSIONS_MAX: usize = 200;

impl HostProvider {
    /// The versions of the estate's own programs that lie side by side, by service, oldest first. A service whose program
    /// has versions, and has none now, is there with none.
    pub fn programs(&self, estate: &Estate) -> BTreeMap<ServiceName, Vec<Version>> {
        let own = |offering| self.definitions.get(offering).is_some_and(|definition| definition.runs_program);
        let services = estate.services.iter().filter(|(_, service)| own(&service.offering));
        let versions = services.filter_map(|(name, service)| {
            let path = service.run_path()?;
            Some((name.clone(), versions(&path, &estate.folder)))
        });
        versions.collect()
    }
}

/// All versions of which there is a program that may be executed, oldest first.
fn versions(path: &RunPath, folder: &Path) -> Vec<Version> {
    let names = std::fs::read_dir(folder.join(path.folder())).into_iter().flatten().flatten().take(NAMES_MAX);
    let mut versions: Vec<Version> = names.filter_map(|entry| path.version_in(entry.file_name().to_str()?)).collect();
    versions.sort();
    versions.reverse();
    let there = |version: &Version| is_executable(&folder.join(path.program(version)));
    let mut newest: Vec<Version> = versions.into_iter().filter(there).take(VERSIONS_MAX).collect();
    newest.reverse();
    newest
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn found(pattern: &str, folder: &Path) -> Vec<String> {
        let path = RunPath::of(&pattern.parse().unwrap()).unwrap();
        versions(&path, folder).iter().map(ToString::to_string).collect()
    }

    fn put(path: &Path, mode: u32) {
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, "#!/bin/sh\n").unwrap();
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
    }

    #[test]
    fn what_reads_as_a_version_and_can_be_executed_is_found_oldest_first() {
        let dir = tempfile::tempdir().unwrap();
        for version in ["1.10.0", "1.9.3", "2.0.0-rc.1", "latest", ".1.0.0", "1.2.3.4"] {
            put(&dir.path().join("releases").join(version).join("web"), 0o755);
        }
        put(&dir.path().join("releases/1.11.0/web"), 0o644); // still being copied
        std::fs::create_dir_all(dir.path().join("releases/1.12.0")).unwrap();
        std::os::unix::fs::symlink("1.10.0", dir.path().join("releases/1.10.1")).unwrap();
        let all = ["1.9.3", "1.10.0", "1.10.1", "2.0.0-rc.1"];
        assert_eq!(found("releases/{{ version }}/web", dir.path()), all);
        assert_eq!(found("./releases/{{ version }}/web", dir.path()), all);
        assert_eq!(
            found(&format!("{}/releases/1.{{{{ version }}}}/web", dir.path().display()), Path::new("/")),
            ["2.3.4", "9.3", "10.0", "10.1"]
        );
        assert!(found("nowhere/{{ version }}/web", dir.path()).is_empty());
    }

    #[test]
    fn of_many_versions_the_newest_are_offered() {
        let dir = tempfile::tempdir().unwrap();
        for version in 1..=VERSIONS_MAX + 5 {
            put(&dir.path().join(format!("web-{version}")), 0o755);
        }
        let found = found("./web-{{ version }}", dir.path());
        assert_eq!(found.len(), VERSIONS_MAX);
        assert_eq!((found.first().unwrap().as_str(), found.last().unwrap().as_str()), ("6", "205"));
    }
}
