//! The buyer's own program: found before anything starts.

use std::path::{Path, PathBuf};

use super::environment::PATH;
use super::find::is_executable;

/// The absolute path of the program that `run` begins with: an absolute path, a path relative to `folder` if it has a
/// slash, otherwise a name that is looked for in the folders of [`PATH`].
///
/// # Errors
/// In words for people: what was looked for where, and why it will not do.
pub fn check_program(run: &str, folder: &Path) -> Result<PathBuf, String> {
    if run.is_empty() {
        return Err("the name of the program is empty".to_owned());
    }
    if !run.contains('/') {
        let mut places = PATH.split(':').map(|place| Path::new(place).join(run));
        return places.find(|path| is_executable(path)).ok_or_else(|| {
            format!("the program `{run}` is in none of the folders {PATH}; for a program beside the estate file write `./{run}`")
        });
    }
    let path = folder.join(run.strip_prefix("./").unwrap_or(run));
    match std::fs::metadata(&path) {
        Err(error) => Err(format!("cannot find the program {}: {error}", path.display())),
        Ok(data) if data.is_dir() => Err(format!("{} is a folder, not a program", path.display())),
        Ok(_) if !is_executable(&path) => {
            Err(format!("{} may not be executed; `chmod +x {}` allows it", path.display(), path.display()))
        }
        Ok(_) => Ok(path),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn programs_are_found_by_path_and_by_name() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("tool");
        std::fs::write(&file, "#!/bin/sh\n").unwrap();
        assert!(check_program("./tool", dir.path()).unwrap_err().contains("chmod +x"));
        std::fs::set_permissions(&file, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
        assert_eq!(check_program("./tool", dir.path()).unwrap(), file);
        assert_eq!(check_program(file.to_str().unwrap(), Path::new("/")).unwrap(), file);
        assert!(check_program("sh", dir.path()).unwrap().ends_with("sh"));
        for (wrong, why) in [("tool", "write `./tool`"), ("./none", "cannot find"), ("", "empty"), ("./", "a folder")] {
            assert!(check_program(wrong, dir.path()).unwrap_err().contains(why), "{wrong}");
        }
    }
}
