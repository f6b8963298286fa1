//! A launch made ready for execution: checked, its strings laid out as the kernel wants them, its log open.
//!
//! Invariant: what could be refused or looked up beforehand has been, so that a restart only starts.

use std::ffi::OsStr;
use std::fs;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use ostler_model::ids::InstanceId;

use crate::logs;
use crate::protocol::{Launch, Refusal, Rlimit, UserGroup};

/// The marker that names the instance, in the environment of each of its processes.
pub(crate) const INSTANCE_MARKER: &str = "OSTLER_INSTANCE";
/// The marker that names the one start that a process belongs to.
pub(crate) const INCARNATION_MARKER: &str = "OSTLER_INCARNATION";
/// Made by the keeper for each start; what a launch says about them is replaced.
const RESERVED: [&str; 5] = [INSTANCE_MARKER, INCARNATION_MARKER, "LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES"];

/// Digests longer than this are refused: they are kept for each instance, in memory and in the ledger.
const DIGEST_BYTES_MAX: usize = 128;
/// More cgroups or limits than this make no sense (one per hierarchy, one per resource).
const LISTED_MAX: usize = 32;

/// The steps of a start, for error messages: "cannot {step} for {program}".
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    Log,
    Marker,
    Intent,
    Process,
    Ledger,
    Session,
    Cgroup,
    Oom,
    Limit,
    Descriptors,
    Socket,
    Folder,
    Umask,
    Groups,
    Group,
    User,
    Privileges,
    Signals,
    Execute,
    Watch,
}

impl Step {
    /// In words that follow "cannot".
    pub(crate) fn in_words(self) -> &'static str {
        match self {
            Self::Log => "open the log",
            Self::Marker => "make the marker",
            Self::Intent => "note the intent in the ledger",
            Self::Process => "make a process",
            Self::Ledger => "note the process in the ledger",
            Self::Session => "begin a session",
            Self::Cgroup => "join a cgroup",
            Self::Oom => "reset the OOM score",
            Self::Limit => "set a resource limit",
            Self::Descriptors => "redirect input and output",
            Self::Socket => "hand over the socket",
            Self::Folder => "change folder",
            Self::Umask => "set the file mode mask",
            Self::Groups => "drop supplementary groups",
            Self::Group => "become the group",
            Self::User => "become the user",
            Self::Privileges => "give up new privileges",
            Self::Signals => "reset signals",
            Self::Execute => "execute",
            Self::Watch => "watch the process",
        }
    }

    /// The refusal that tells the sender.
    pub(crate) fn refusal(self, program: &str, cause: &io::Error) -> Refusal {
        let errno = cause.raw_os_error().unwrap_or(0);
        Refusal::CannotStart { step: self.in_words().into(), program: program.into(), cause: cause.to_string(), errno }
    }
}

/// The user to run as.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct SwitchTo {
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    /// False if the keeper is that user already: then there is nothing to switch, only privileges to give up.
    pub(crate) switch: bool,
}

/// A launch, ready.
pub(crate) struct Prepared {
    /// Program, folder, arguments, environment, cgroup files: NUL-terminated, one after the other. One allocation for
    /// each instance instead of hundreds.
    strings: Box<[u8]>,
    arguments: usize,
    environment: usize,
    cgroups: usize,
    limits: Box<[Rlimit]>,
    user: Option<SwitchTo>,
    digest: Box<str>,
    socket: Option<Box<str>>,
    tree: bool,
    log: Log,
    /// How often the kernel has ended something in its cgroups for the memory it used, when that was last counted.
    out_of_memory: u64,
}

/// An open log.
pub(crate) struct Log {
    pub(crate) path: Box<Path>,
    pub(crate) file: OwnedFd,
    pub(crate) bytes_max: u64,
}

impl Prepared {
    /// Checks the launch and opens its log. `owner` is the value of the instance marker.
    pub(crate) fn new(owner: &str, launch: &Launch) -> Result<Self, Refusal> {
        check(launch)?;
        let mut strings = Vec::new();
        let mut push = |parts: &[&[u8]]| {
            for part in parts {
                strings.extend_from_slice(part);
            }
            strings.push(0);
        };
        push(&[launch.program.as_os_str().as_bytes()]);
        push(&[launch.folder.as_os_str().as_bytes()]);
        for argument in &launch.arguments {
            push(&[argument.as_bytes()]);
        }
        let mut environment = 1;
        // First, so that whoever reads /proc/PID/environ finds it soon.
        push(&[INSTANCE_MARKER.as_bytes(), b"=", owner.as_bytes()]);
        if let Some(name) = &launch.socket {
            push(&[b"LISTEN_FDS=1"]);
            push(&[b"LISTEN_FDNAMES=", name.as_bytes()]);
            environment += 2;
        }
        for (name, value) in launch.environment.iter().filter(|(name, _)| !RESERVED.contains(&name.as_str())) {
            push(&[name.as_bytes(), b"=", value.as_bytes()]);
            environment += 1;
        }
        for cgroup in &launch.cgroups {
            push(&[cgroup.as_os_str().as_bytes()]);
        }
        let file =
            logs::open(&launch.log).map_err(|cause| Step::Log.refusal(&launch.program.to_string_lossy(), &cause))?;
        let own = (rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw());
        Ok(Self {
            strings: strings.into(),
            arguments: launch.arguments.len(),
            environment,
            cgroups: launch.cgroups.len(),
            limits: launch.rlimits.as_slice().into(),
            user: launch.user.map(|user| SwitchTo {
                uid: user.uid,
                gid: user.gid,
                switch: own.0 == 0 || own != (user.uid, user.gid),
            }),
            digest: launch.digest.as_str().into(),
            socket: launch.socket.as_deref().map(Into::into),
            tree: launch.tree,
            log: Log { path: launch.log.as_path().into(), file, bytes_max: launch.log_bytes_max },
            out_of_memory: ended_for_memory(launch.cgroups.iter().map(PathBuf::as_path)),
        })
    }

    /// Whether the kernel has ended something of it for the memory it used since this was last asked.
    pub(crate) fn ran_out_of_memory(&mut self) -> bool {
        if self.cgroups == 0 {
            return false;
        }
        let texts: Vec<&[u8]> = self.strings.split(|byte| *byte == 0).collect();
        let ours = texts.iter().rev().skip(1).take(self.cgroups); // the last one is what follows the last NUL
        let before = self.out_of_memory;
        self.out_of_memory = ended_for_memory(ours.map(|text| Path::new(OsStr::from_bytes(text))));
        self.out_of_memory > before
    }

    /// What it was made from, but for what is not kept: another image of this process makes it anew from that.
    pub(crate) fn to_launch(&self, instance: &InstanceId) -> Launch {
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let path = |bytes: &[u8]| PathBuf::from(OsStr::from_bytes(bytes));
        let mut strings = self.strings.split(|byte| *byte == 0);
        let mut next = || strings.next().unwrap_or_default();
        let (program, folder) = (path(next()), path(next()));
        let arguments = (0..self.arguments).map(|_| text(next())).collect();
        let entries: Vec<String> = (0..self.environment).map(|_| text(next())).collect();
        let environment = entries.iter().filter_map(|entry| entry.split_once('='));
        let environment = environment.filter(|(name, _)| !RESERVED.contains(name));
        Launch {
            instance: instance.clone(),
            digest: self.digest.to_string(),
            program,
            arguments,
            environment: environment.map(|(name, value)| (name.to_owned(), value.to_owned())).collect(),
            folder,
            log: self.log.path.to_path_buf(),
            log_bytes_max: self.log.bytes_max,
            user: self.user.map(|user| UserGroup { uid: user.uid, gid: user.gid }),
            socket: self.socket.as_deref().map(str::to_owned),
            cgroups: (0..self.cgroups).map(|_| path(next())).collect(),
            rlimits: self.limits.to_vec(),
            tree: self.tree,
        }
    }

    pub(crate) fn strings(&self) -> &[u8] {
        &self.strings
    }

    pub(crate) fn arguments(&self) -> usize {
        self.arguments
    }

    /// How many entries, without the incarnation and `LISTEN_PID`.
    pub(crate) fn environment(&self) -> usize {
        self.environment
    }

    pub(crate) fn cgroups(&self) -> usize {
        self.cgroups
    }

    pub(crate) fn limits(&self) -> &[Rlimit] {
        &self.limits
    }

    pub(crate) fn user(&self) -> Option<SwitchTo> {
        self.user
    }

    pub(crate) fn digest(&self) -> &str {
        &self.digest
    }

    /// The name of the socket to hand over.
    pub(crate) fn socket(&self) -> Option<&str> {
        self.socket.as_deref()
    }

    pub(crate) fn log(&self) -> &Log {
        &self.log
    }

    /// Opens the log again if somebody deleted it, or nobody could ever read what the next process writes.
    pub(crate) fn reopen_deleted_log(&mut self) {
        let deleted = rustix::fs::fstat(self.log.file.as_fd()).is_ok_and(|stat| stat.st_nlink == 0);
        if deleted && let Ok(file) = logs::open(&self.log.path) {
            self.log.file = file;
        }
    }

    /// Where the log goes.
    pub(crate) fn log_file(&self) -> BorrowedFd<'_> {
        self.log.file.as_fd()
    }

    /// The program, for people.
    pub(crate) fn program(&self) -> String {
        String::from_utf8_lossy(self.string(0)).into_owned()
    }

    /// The folder by which its processes can be told, if it is a tree.
    pub(crate) fn tree_folder(&self) -> Option<&Path> {
        self.tree.then(|| Path::new(OsStr::from_bytes(self.string(1))))
    }

    fn string(&self, number: usize) -> &[u8] {
        self.strings.split(|byte| *byte == 0).nth(number).expect("program and folder are always there")
    }
}

fn check(launch: &Launch) -> Result<(), Refusal> {
    let refuse = |text: &str| Err(Refusal::NotUnderstood(format!("the launch of {}: {text}", launch.instance)));
    let has_nul = |text: &[u8]| text.contains(&0);
    let paths = [&launch.program, &launch.folder, &launch.log];
    if paths.into_iter().chain(&launch.cgroups).any(|path| !path.is_absolute() || has_nul(path.as_os_str().as_bytes()))
    {
        return refuse("program, folder, log and cgroups must be absolute paths without NUL bytes");
    }
    if launch.arguments.is_empty() || launch.arguments.iter().any(|argument| has_nul(argument.as_bytes())) {
        return refuse("arguments must begin with argv[0] and have no NUL bytes");
    }
    let wrong_name = |name: &str| name.is_empty() || name.contains(['=', '\0']);
    if launch.environment.iter().any(|(name, value)| wrong_name(name) || has_nul(value.as_bytes())) {
        return refuse("names in the environment must not be empty or have `=`, and nothing in it a NUL byte");
    }
    if launch.socket.as_deref().is_some_and(|name| has_nul(name.as_bytes())) {
        return refuse("a socket's name must not have a NUL byte");
    }
    if launch.digest.len() > DIGEST_BYTES_MAX {
        return refuse("the digest is longer than 128 bytes");
    }
    if launch.cgroups.len() > LISTED_MAX || launch.rlimits.len() > LISTED_MAX {
        return refuse("more than 32 cgroups or limits");
    }
    Ok(())
}
/// How often the kernel has ended a process in these cgroups for the memory that it used: version 2 counts that in
/// `memory.events`, version 1 in `memory.oom_control`. None where nobody counts.
fn ended_for_memory<'a>(cgroups: impl Iterator<Item = &'a Path>) -> u64 {
    let count = |folder: &Path| {
        let text =
            ["memory.events", "memory.oom_control"].iter().find_map(|name| fs::read_to_string(folder.join(name)).ok());
        let line = |line: &str| line.strip_prefix("oom_kill ")?.trim().parse::<u64>().ok();
        text?.lines().find_map(line)
    };
    cgroups.filter_map(|file| count(file.parent()?)).sum()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::Resource;

    #[test]
    fn another_image_gets_the_very_same_launch() {
        let folder = tempfile::tempdir().unwrap();
        let launch = Launch {
            instance: "web-1".parse().unwrap(),
            digest: "d".into(),
            program: "/bin/true".into(),
            arguments: vec!["true".into(), String::new(), "a b=c".into()],
            environment: [("A", "1=2"), ("EMPTY", ""), ("B", "\n")].map(|(k, v)| (k.to_owned(), v.to_owned())).into(),
            folder: folder.path().to_owned(),
            log: folder.path().join("log"),
            log_bytes_max: 7,
            user: Some(UserGroup { uid: 65_534, gid: 65_533 }),
            socket: Some("instance/web-1".into()),
            cgroups: vec![folder.path().join("one"), folder.path().join("two")],
            rlimits: vec![Rlimit { resource: Resource::Files, limit: 9 }],
            tree: true,
        };
        let prepared = Prepared::new("web-1", &launch).unwrap();
        assert!(prepared.to_launch(&launch.instance) == launch);
    }
}
