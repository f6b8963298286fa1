//! Limits on what instances use: cgroup v2, else cgroup v1, else resource limits, and which of them is in force.
//!
//! Invariant: a cgroup is made only for instances that have limits, below a folder that belongs to this home, and
//! nothing outside that folder is ever removed.

use std::fmt;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use ostler_keeper::protocol::{Resource, Rlimit};
use ostler_model::catalog::Limits;
use ostler_model::outcome::Failure;
use rustix::fs::Access;

use super::failure::io_at;

const V1_CONTROLLERS: [&str; 3] = ["memory", "cpu", "pids"];
/// The file by which a process that has one thread, as every process before it becomes the program, joins a version 1
/// group. Joining by `cgroup.procs` makes the kernel wait until every processor has been idle or switched tasks, which
/// was measured to take 5 to 20 ms, and 0.1 ms by this one.
const V1_JOIN: &str = "tasks";
const CPU_PERIOD_US: u64 = 100_000;

/// By what means limits are held here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LimitsKind {
    /// Control groups version 2, below this folder.
    CgroupV2(PathBuf),
    /// Control groups version 1: below this folder of each controller.
    CgroupV1 {
        /// For `memory`.
        memory: PathBuf,
        /// For `cpu`.
        cpu: PathBuf,
        /// For `pids`.
        pids: PathBuf,
    },
    /// Resource limits of each process.
    Rlimits,
}

impl fmt::Display for LimitsKind {
    /// A sentence for people.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::CgroupV2(_) => {
                "Limits on memory, processor time and processes are held by control groups (version 2)."
            }
            Self::CgroupV1 { .. } => {
                "Limits on memory, processor time and processes are held by control groups (version 1)."
            }
            Self::Rlimits => {
                "Control groups cannot be used here: a limit on memory holds for the address space of each process, \
                 and limits on processor time and on the number of processes are not held."
            }
        })
    }
}

/// What the keeper needs for an instance with limits.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Held {
    pub(super) cgroups: Vec<PathBuf>,
    pub(super) rlimits: Vec<Rlimit>,
}

impl LimitsKind {
    /// Finds out what can be used here, by trying.
    pub(super) fn detect() -> Self {
        let mounts = fs::read_to_string("/proc/self/mounts").unwrap_or_default();
        let own = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
        v2(&mounts, &own).or_else(|| v1(&mounts, &own)).unwrap_or(Self::Rlimits)
    }

    /// Makes what `limits` need for the instance `path` ("shop-1a2b3c4d/db-1").
    pub(super) fn hold(&self, path: &str, limits: &Limits) -> Result<Held, Failure> {
        let mut held = Held::default();
        if let Some(limit) = limits.files {
            held.rlimits.push(Rlimit { resource: Resource::Files, limit });
        }
        let by_cgroup = limits.memory_bytes.is_some() || limits.cpu_millicores.is_some() || limits.processes.is_some();
        if !by_cgroup {
            self.release(path);
            return Ok(held);
        }
        let memory = limits.memory_bytes;
        let quota = limits.cpu_millicores.map(|millicores| u64::from(millicores) * CPU_PERIOD_US / 1000);
        let processes = limits.processes;
        let or_max = |number: Option<u64>| number.map_or_else(|| "max".to_owned(), |number| number.to_string());
        match self {
            Self::CgroupV2(root) => {
                let folder = make_below_v2(root, path)?;
                set(&folder, "memory.max", &or_max(memory))?;
                set(&folder, "cpu.max", &format!("{} {CPU_PERIOD_US}", or_max(quota)))?;
                set(&folder, "pids.max", &or_max(processes.map(u64::from)))?;
                held.cgroups.push(folder.join("cgroup.procs"));
            }
            Self::CgroupV1 { memory: memory_root, cpu, pids } => {
                let or_none = |number: Option<u64>| number.map_or_else(|| "-1".to_owned(), |n| n.to_string());
                let folder = make_below(memory_root, path)?;
                set(&folder, "memory.limit_in_bytes", &or_none(memory))?;
                held.cgroups.push(folder.join(V1_JOIN));
                let folder = make_below(cpu, path)?;
                set(&folder, "cpu.cfs_period_us", &CPU_PERIOD_US.to_string())?;
                set(&folder, "cpu.cfs_quota_us", &or_none(quota))?;
                held.cgroups.push(folder.join(V1_JOIN));
                let folder = make_below(pids, path)?;
                set(&folder, "pids.max", &or_max(processes.map(u64::from)))?;
                held.cgroups.push(folder.join(V1_JOIN));
            }
            // RLIMIT_NPROC counts all processes of the user, not those of the instance: it would hit the wrong ones.
            Self::Rlimits => {
                held.rlimits.extend(memory.map(|limit| Rlimit { resource: Resource::AddressSpace, limit }))
            }
        }
        Ok(held)
    }

    /// Removes what `hold` made. Only an empty cgroup can be removed; one that is still in use stays, and so does one
    /// that never was.
    pub(super) fn release(&self, path: &str) {
        let roots: Vec<&Path> = match self {
            Self::CgroupV2(root) => vec![root],
            Self::CgroupV1 { memory, cpu, pids } => vec![memory, cpu, pids],
            Self::Rlimits => Vec::new(),
        };
        for root in roots {
            let folder = root.join(path);
            let _ = fs::remove_dir(&folder);
            let _ = folder.parent().map(fs::remove_dir); // the home's folder, when the last instance is gone
        }
    }
}

/// Version 2 needs the controllers handed down to `ostler` below the root or below our own cgroup.
fn v2(mounts: &str, own: &str) -> Option<LimitsKind> {
    let mount = mounted(mounts, "cgroup2", None)?;
    let own = own.lines().find_map(|line| line.strip_prefix("0::"))?;
    let candidates = [mount.join(own.trim_start_matches('/')), mount];
    candidates.into_iter().find_map(|base| {
        let root = base.join("ostler");
        let existed = root.is_dir();
        let usable =
            (hand_down(&base) && make(&root).is_ok() && hand_down(&root)).then(|| LimitsKind::CgroupV2(root.clone()));
        if usable.is_none() && !existed {
            let _ = fs::remove_dir(&root);
        }
        usable
    })
}

/// Lets the cgroups below `folder` use the controllers, if it does not already.
fn hand_down(folder: &Path) -> bool {
    let file = folder.join("cgroup.subtree_control");
    let has_all = || {
        fs::read_to_string(&file)
            .is_ok_and(|text| V1_CONTROLLERS.iter().all(|wanted| text.split_whitespace().any(|c| c == *wanted)))
    };
    has_all() || (fs::write(&file, "+memory +cpu +pids").is_ok() && has_all())
}

fn v1(mounts: &str, own: &str) -> Option<LimitsKind> {
    let root = |controller: &str| {
        let mount = mounted(mounts, "cgroup", Some(controller))?;
        let own = own.lines().find_map(|line| {
            let mut fields = line.splitn(3, ':').skip(1);
            fields.next()?.split(',').any(|c| c == controller).then(|| fields.next())?
        })?;
        let candidates = [mount.join(own.trim_start_matches('/')), mount];
        candidates.into_iter().filter(|base| base.is_dir()).map(|base| base.join("ostler")).find(|r| make(r).is_ok())
    };
    let [memory, cpu, pids] = V1_CONTROLLERS.map(root);
    Some(LimitsKind::CgroupV1 { memory: memory?, cpu: cpu?, pids: pids? })
}

/// Where a file system of this type (and with this option) is mounted.
fn mounted(mounts: &str, kind: &str, option: Option<&str>) -> Option<PathBuf> {
    mounts.lines().map(|line| line.split(' ').collect::<Vec<_>>()).find_map(|fields| match fields[..] {
        [_, at, this, options, ..] if this == kind && option.is_none_or(|o| options.split(',').any(|x| x == o)) => {
            Some(PathBuf::from(at))
        }
        _ => None,
    })
}

/// Makes the folder, or makes sure that more can be made in the one that is there: it may be another user's.
fn make(folder: &Path) -> io::Result<()> {
    match fs::create_dir(folder) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(error),
        Ok(()) | Err(_) => Ok(rustix::fs::access(folder, Access::WRITE_OK | Access::EXEC_OK)?),
    }
}

fn make_below(root: &Path, path: &str) -> Result<PathBuf, Failure> {
    let folder = root.join(path);
    fs::create_dir_all(&folder).map_err(io_at("create the cgroup", &folder))?;
    Ok(folder)
}

fn make_below_v2(root: &Path, path: &str) -> Result<PathBuf, Failure> {
    let folder = make_below(root, path)?;
    // Controllers reach a cgroup only through each of those above it. Where that fails, setting the limit says so.
    folder.parent().map(hand_down);
    Ok(folder)
}

fn set(folder: &Path, file: &str, value: &str) -> Result<(), Failure> {
    let path = folder.join(file);
    fs::write(&path, value).map_err(io_at("set the limit", &path))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_limit_is_set_and_released_by_what_this_machine_has() {
        let kind = LimitsKind::detect();
        let path = format!("test-{}/db-1", std::process::id());
        let limits =
            Limits { memory_bytes: Some(256 << 20), cpu_millicores: Some(500), processes: Some(64), files: Some(1024) };
        let held = kind.hold(&path, &limits).unwrap();
        assert!(held.rlimits.contains(&Rlimit { resource: Resource::Files, limit: 1024 }));
        let read = |index: usize, file: &str| {
            fs::read_to_string(held.cgroups[index].with_file_name(file)).unwrap().trim().to_owned()
        };
        match &kind {
            LimitsKind::CgroupV2(_) => {
                assert_eq!(read(0, "memory.max"), "268435456");
                assert_eq!(read(0, "cpu.max"), "50000 100000");
                assert_eq!(read(0, "pids.max"), "64");
            }
            LimitsKind::CgroupV1 { .. } => {
                assert_eq!(read(0, "memory.limit_in_bytes"), "268435456");
                assert_eq!(read(1, "cpu.cfs_quota_us"), "50000");
                assert_eq!(read(2, "pids.max"), "64");
            }
            LimitsKind::Rlimits => {
                assert!(held.rlimits.contains(&Rlimit { resource: Resource::AddressSpace, limit: 256 << 20 }));
            }
        }
        kind.release(&path);
        assert!(held.cgroups.iter().all(|file| !file.exists()));
        assert!(kind.to_string().ends_with('.'));
    }

    #[test]
    fn no_limits_need_nothing() {
        let kind = LimitsKind::Rlimits;
        assert_eq!(kind.hold("x/db-1", &Limits::default()).unwrap(), Held::default());
    }

    #[test]
    fn mounts_are_found_by_type_and_controller() {
        let mounts = "cgroup /sys/fs/cgroup/cpu,cpuacct cgroup rw,relatime,cpu,cpuacct 0 0\n\
                      cgroup2 /sys/fs/cgroup/unified cgroup2 rw 0 0\n";
        assert_eq!(mounted(mounts, "cgroup", Some("cpu")), Some("/sys/fs/cgroup/cpu,cpuacct".into()));
        assert_eq!(mounted(mounts, "cgroup", Some("memory")), None);
        assert_eq!(mounted(mounts, "cgroup2", None), Some("/sys/fs/cgroup/unified".into()));
    }
}
