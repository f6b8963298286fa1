//! The path of a program that lies there in several versions side by side: `releases/{{ version }}/bookshop-web`.
//!
//! Invariant: whatever the versions' folder holds, a name in it is taken for a version only if it reads as one, so that
//! no path leads elsewhere.

use super::Service;
use crate::template::Template;
use crate::version::Version;

/// Stands for the version while a path is taken apart; no path has it.
const HOLE: &str = "\0";

/// The path of a program with a place for its version.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RunPath {
    path: String, // with `HOLE`s
    folder: String,
    before: String,
    after: String,
}

impl RunPath {
    /// The path that `program`, the first word of a `run`, means.
    ///
    /// # Errors
    /// What is wrong with it, and what to do.
    pub fn of(program: &Template) -> Result<Self, (String, String)> {
        let wrong = |cause: &str, remedy: &str| Err((cause.to_owned(), remedy.to_owned()));
        let path = program.render(|name| (name == Service::VERSION).then(|| HOLE.to_owned()));
        let Ok(path) = path else {
            return wrong(
                "the path of a program in several versions can refer to nothing but `version`",
                "write the other names out",
            );
        };
        if program.source().contains(HOLE) {
            return wrong("the path of the program holds a byte that no path can have", "remove it");
        }
        let mut segments = path.split('/');
        let mut folder: Vec<&str> = Vec::new();
        let Some(versioned) = segments.find(|segment| {
            segment.contains(HOLE) || {
                folder.push(segment);
                false
            }
        }) else {
            return wrong("the path of the program says nothing of a version", "put `{{ version }}` into it");
        };
        if !path.contains('/') {
            return wrong(
                "a program in several versions needs a path: without a slash it is looked for in the folders of programs",
                "write where it lies, for example `./bookshop-web-{{ version }}`",
            );
        }
        if path.split('/').any(|segment| segment.matches(HOLE).count() > 1) {
            return wrong("`{{ version }}` stands twice in one name", "write it once between two slashes");
        }
        if segments.any(|segment| segment == "..") {
            return wrong(
                "the path leaves the version's folder again, so that all versions would be the same program",
                "remove the `..` behind `{{ version }}`",
            );
        }
        let (before, after) = versioned.split_once(HOLE).expect("it was found by that");
        let (before, after, folder) = (before.to_owned(), after.to_owned(), folder.join("/"));
        let folder = if folder.is_empty() && path.starts_with('/') { "/".to_owned() } else { folder };
        Ok(Self { folder, before, after, path })
    }

    /// The folder in which the versions lie side by side; empty for the estate file's own.
    pub fn folder(&self) -> &str {
        &self.folder
    }

    /// The version that a name in [`RunPath::folder`] stands for, if it does for one.
    pub fn version_in(&self, name: &str) -> Option<Version> {
        name.strip_prefix(self.before.as_str())?.strip_suffix(self.after.as_str())?.parse().ok()
    }

    /// The path of one version's program.
    pub fn program(&self, version: &Version) -> String {
        self.path.replace(HOLE, &version.to_string())
    }

    /// The path as it was written, for people.
    pub fn in_words(&self) -> String {
        self.path.replace(HOLE, "{{ version }}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn path(text: &str) -> Result<RunPath, String> {
        RunPath::of(&text.parse().unwrap()).map_err(|(cause, _)| cause)
    }

    #[test]
    fn a_version_is_a_name_or_a_part_of_one() {
        for (text, folder, name, version, program) in [
            ("releases/{{ version }}/web", "releases", "1.2.0", "1.2.0", "releases/1.2.0/web"),
            ("./web-{{version}}", ".", "web-2", "2", "./web-2"),
            ("/opt/v{{ version }}/bin/web-{{ version }}", "/opt", "v1.10", "1.10", "/opt/v1.10/bin/web-1.10"),
            ("/{{ version }}/web", "/", "3.1", "3.1", "/3.1/web"),
            ("{{ version }}/web", "", "1.0.0-rc.1", "1.0.0-rc.1", "1.0.0-rc.1/web"),
        ] {
            let path = path(text).unwrap();
            let found = path.version_in(name).unwrap();
            assert_eq!((path.folder(), found.to_string().as_str()), (folder, version), "{text}");
            assert_eq!(path.program(&found), program);
        }
    }

    #[test]
    fn what_is_no_version_is_no_name_of_one() {
        let path = path("releases/v{{ version }}/web").unwrap();
        for name in ["", "v", "1.2", "v..", "v../..", "v1/2", "latest", "v1.2.3.4", "v 1", "v1\0"] {
            assert_eq!(path.version_in(name), None, "{name:?}");
        }
    }

    #[test]
    fn wrong_ones() {
        for (text, why) in [
            ("./web", "says nothing of a version"),
            ("web-{{ version }}", "needs a path"),
            ("{{ version }}-{{ version }}/web", "twice"),
            ("releases/{{ version }}/../web", "leaves the version's folder"),
            ("{{ service.name }}/{{ version }}/web", "nothing but `version`"),
        ] {
            assert!(path(text).unwrap_err().contains(why), "{text}");
        }
    }
}
