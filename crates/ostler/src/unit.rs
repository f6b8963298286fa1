//! `ostler up --at-boot`: a systemd unit that brings the estate up when the machine starts.

use std::path::{Path, PathBuf};

use ostler_runtime::home::Home;

use crate::failure::{Failure, Outcome};

/// Writes the unit and says how to turn it on. The instances are the keeper's children, so systemd only starts and
/// stops; while the estate runs, ostler looks after it.
pub(crate) fn write(name: &str, file: &Path, home: &Home) -> Outcome<String> {
    let what = "cannot write the systemd unit";
    let program = std::env::current_exe().map_err(|error| Failure::of(what, &error, "reinstall ostler"))?;
    let file = std::fs::canonicalize(file).map_err(|error| Failure::of(what, &error, "check the file's path"))?;
    let (folder, is_root) =
        unit_folder().ok_or_else(|| Failure::new(what, "neither `HOME` nor `XDG_CONFIG_HOME` is set", "set `HOME`"))?;
    let unit = format!("ostler-{name}.service");
    let path = folder.join(&unit);
    std::fs::create_dir_all(&folder)
        .and_then(|()| std::fs::write(&path, text(name, &program, &file, home, is_root)))
        .map_err(|error| Failure::of(format!("{what} {}", path.display()), &error, "check the folder's permissions"))?;
    let user = if is_root { "" } else { "--user " };
    let linger = if is_root { "" } else { " and `loginctl enable-linger`" };
    Ok(format!(
        "Wrote {}. Turn it on with `systemctl {user}daemon-reload`, `systemctl {user}enable {unit}`{linger}.",
        path.display()
    ))
}

fn unit_folder() -> Option<(PathBuf, bool)> {
    if rustix::process::geteuid().is_root() {
        return Some((PathBuf::from("/etc/systemd/system"), true));
    }
    let set = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    let config = set("XDG_CONFIG_HOME").or_else(|| Some(set("HOME")?.join(".config")))?;
    Some((config.join("systemd/user"), false))
}

fn text(name: &str, program: &Path, file: &Path, home: &Home, is_root: bool) -> String {
    let quoted = |path: &Path| {
        format!("\"{}\"", path.display().to_string().replace('\\', "\\\\").replace('"', "\\\"").replace('%', "%%"))
    };
    let target = if is_root { "multi-user.target" } else { "default.target" };
    let (program, file, home) = (quoted(program), quoted(file), quoted(home.folder()));
    format!(
        "[Unit]\n\
         Description=The estate {name}, looked after by ostler\n\
         After=network.target\n\
         \n\
         [Service]\n\
         Type=oneshot\n\
         RemainAfterExit=yes\n\
         ExecStart={program} up --detach --home {home} {file}\n\
         ExecStop={program} down --home {home}\n\
         TimeoutStartSec=600\n\
         TimeoutStopSec=600\n\
         \n\
         [Install]\n\
         WantedBy={target}\n"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn odd_paths_are_quoted_for_systemd() {
        let home = Home::at("/srv/100% \"mine\"");
        let unit = text("shop", Path::new("/usr/bin/ostler"), Path::new("/srv/a b/ostler.toml"), &home, true);
        assert!(unit.contains(
            r#"ExecStart="/usr/bin/ostler" up --detach --home "/srv/100%% \"mine\"" "/srv/a b/ostler.toml""#
        ));
        assert!(unit.contains("WantedBy=multi-user.target"));
    }
}
