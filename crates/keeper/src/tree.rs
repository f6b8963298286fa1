//! Which processes belong to an instance besides its main process.
//!
//! Invariant: a process counts only by evidence that it was started by the instance (its markers, its session, or an
//! overwritten environment together with the instance's own data folder), never by its place or name alone: what is
//! found here may be killed.

use std::collections::HashMap;
use std::io;
use std::path::PathBuf;

use ostler_model::ids::InstanceId;

use crate::process::{self, Environ};

/// What tells the processes of an instance.
#[derive(Clone, Debug)]
pub(crate) struct Lineage {
    pub(crate) instance: InstanceId,
    /// The main process and its start ticks, if there was one.
    pub(crate) leader: Option<(u32, u64)>,
    /// See [`crate::ledger::Entry::tree`].
    pub(crate) folder: Option<PathBuf>,
}

/// Looks through all processes once, and returns the living members of each lineage (process id, start ticks), in the same order. `is_other`
/// tells the processes that are known to be something else. `home_mark` is how incarnations of this home begin.
pub(crate) fn members(
    lineages: &[Lineage],
    home_mark: &str,
    is_other: impl Fn(u32) -> bool,
) -> io::Result<Vec<Vec<(u32, u64)>>> {
    let mut members = vec![Vec::new(); lineages.len()];
    let mut names = HashMap::new();
    let mut sessions = HashMap::new();
    for (place, lineage) in lineages.iter().enumerate() {
        names.insert(lineage.instance.to_string(), place);
        if let Some((leader, ticks)) = lineage.leader {
            // If another process has the leader's id by now, the session of that number is another one, too.
            if process::stat(leader).map_or(true, |stat| stat.start_ticks == ticks) {
                sessions.insert(leader, (place, ticks));
            }
        }
    }
    let own = std::process::id();
    let mut buffer = Vec::new();
    for pid in process::all()? {
        if pid == own || is_other(pid) {
            continue;
        }
        let Ok(stat) = process::stat(pid) else { continue }; // it has ended meanwhile
        if stat.dead {
            continue;
        }
        if let Some((place, ticks)) = sessions.get(&stat.session)
            && stat.start_ticks >= *ticks
        {
            members[*place].push((pid, stat.start_ticks));
            continue;
        }
        match process::environ(pid, &mut buffer) {
            Environ::Marked { owner, incarnation } => {
                if let Some(place) = names.get(&owner)
                    && incarnation.starts_with(home_mark)
                {
                    members[*place].push((pid, stat.start_ticks));
                }
            }
            Environ::Clobbered => {
                if let Some(place) = by_folder(lineages, pid, stat.start_ticks) {
                    members[place].push((pid, stat.start_ticks));
                }
            }
            Environ::Unmarked | Environ::Unreadable => {}
        }
    }
    Ok(members)
}

/// A process found by its markers alone, when the ledger does not tell.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Marked {
    pub(crate) pid: u32,
    pub(crate) start_ticks: u64,
    pub(crate) owner: String,
    pub(crate) incarnation: String,
}

/// The main processes of this home, by their markers: the oldest session leader of each incarnation.
pub(crate) fn marked_leaders(home_mark: &str) -> io::Result<Vec<Marked>> {
    let mut oldest: HashMap<String, Marked> = HashMap::new();
    let mut buffer = Vec::new();
    let own = std::process::id(); // a keeper that the manager started has inherited the manager's markers
    for pid in process::all()?.into_iter().filter(|pid| *pid != own) {
        let Ok(stat) = process::stat(pid) else { continue };
        if stat.dead || stat.session != pid {
            continue; // a main process leads its session, as it was born with one of its own
        }
        let Environ::Marked { owner, incarnation } = process::environ(pid, &mut buffer) else { continue };
        if !incarnation.starts_with(home_mark) {
            continue;
        }
        let marked = Marked { pid, start_ticks: stat.start_ticks, owner, incarnation: incarnation.clone() };
        let known = oldest.entry(incarnation).or_insert_with(|| marked.clone());
        if (marked.start_ticks, marked.pid) < (known.start_ticks, known.pid) {
            *known = marked;
        }
    }
    Ok(oldest.into_values().collect())
}

fn by_folder(lineages: &[Lineage], pid: u32, start_ticks: u64) -> Option<usize> {
    if lineages.iter().all(|lineage| lineage.folder.is_none()) {
        return None;
    }
    let folder = process::folder(pid)?;
    lineages.iter().position(|lineage| {
        let young_enough = lineage.leader.is_none_or(|(_, ticks)| start_ticks >= ticks);
        // The root folder would contain every process there is.
        let inside = |home: &PathBuf| home.parent().is_some() && folder.starts_with(home);
        young_enough && lineage.folder.as_ref().is_some_and(inside)
    })
}
