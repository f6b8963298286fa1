//! As which user an instance runs when ostler itself is root.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use ostler_model::outcome::Failure;

use super::definition::UserPolicy;
use super::failure::needs_person;
use super::steps::{self, Input, Output, Run};

/// A user of this machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Owner {
    pub(super) name: String,
    pub(super) uid: u32,
    pub(super) gid: u32,
}

impl Owner {
    /// Ostler's own.
    pub(super) fn ourselves() -> Self {
        let (uid, gid) = (rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw());
        Self { name: String::new(), uid, gid }
    }
}

/// The user that `policy` wants; `None` for ostler's own.
pub(super) fn choose(policy: Option<&UserPolicy>) -> Result<Option<Owner>, Failure> {
    let Some(policy) = policy.filter(|policy| policy.refuses_root && is_root()) else { return Ok(None) };
    let users = std::fs::read_to_string("/etc/passwd").unwrap_or_default();
    let names = policy.names.iter().map(String::as_str).chain(["nobody"]);
    let mut found = names.filter_map(|name| find(&users, name)).filter(|owner| owner.uid != 0);
    match found.next() {
        Some(owner) => Ok(Some(owner)),
        None => Err(needs_person(
            "the offering must not run as root, and /etc/passwd has no user for it",
            format!("Add one of these users: {}, nobody.", policy.names.join(", ")),
        )),
    }
}

/// The user `name`, which an instance was made for.
pub(super) fn named(name: &str) -> Result<Owner, Failure> {
    let users = std::fs::read_to_string("/etc/passwd").unwrap_or_default();
    find(&users, name).ok_or_else(|| {
        needs_person(
            format!("the instance runs as the user `{name}`, which /etc/passwd no longer has"),
            format!("Add the user `{name}` again with the id that owns the instance's data folder."),
        )
    })
}

/// Makes sure that `owner` can enter `folder`.
pub(super) async fn can_enter(owner: &Owner, folder: &Path) -> Result<(), Failure> {
    let look = Run {
        program: PathBuf::from("/usr/bin/test"),
        arguments: vec!["-d".to_owned(), format!("{}/.", folder.display())],
        environment: BTreeMap::new(),
        folder: PathBuf::from("/"),
        owner: Some(owner.clone()),
        input: Input::Nothing,
        output: Output::Kept,
        limit: Duration::from_secs(60),
    };
    if steps::run(look).await.is_ok() {
        return Ok(());
    }
    let closed = folder.ancestors().filter(|ancestor| !open_to(ancestor, owner)).last().unwrap_or(folder);
    Err(needs_person(
        format!(
            "the program runs as the user `{}` because it must not run as root, and this user cannot enter {}",
            owner.name,
            closed.display()
        ),
        format!(
            "Choose a home that every user can enter, for example `--home /var/lib/ostler/NAME`, or allow it with `chmod o+x {}`.",
            closed.display()
        ),
    ))
}

pub(super) fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

fn open_to(folder: &Path, owner: &Owner) -> bool {
    use std::os::unix::fs::MetadataExt;
    let Ok(data) = std::fs::metadata(folder) else { return false };
    let bit = match () {
        () if data.uid() == owner.uid => 0o100,
        () if data.gid() == owner.gid => 0o010,
        () => 0o001,
    };
    data.mode() & bit != 0
}

/// Finds `name` in the text of `/etc/passwd`.
fn find(users: &str, name: &str) -> Option<Owner> {
    let fields = users.lines().map(|line| line.split(':').collect::<Vec<_>>()).find(|fields| fields[0] == name)?;
    let number = |index: usize| fields.get(index)?.parse().ok();
    Some(Owner { name: name.to_owned(), uid: number(2)?, gid: number(3)? })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn users_are_found_by_their_whole_name() {
        let text = "root:x:0:0::/root:/bin/sh\npostgres:x:101:104::/:/bin/sh\nbroken\n";
        assert_eq!(find(text, "postgres"), Some(Owner { name: "postgres".to_owned(), uid: 101, gid: 104 }));
        assert_eq!((find(text, "post"), find(text, "broken")), (None, None));
    }
}
