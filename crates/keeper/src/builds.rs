//! Which build of ostler runs in a home, and the replacement of one by another: the one file that says how far that is.
//!
//! A build is a copy of the binary, `builds/SHA256` in the home, so that the file that it came from may be overwritten
//! or deleted. `builds/state.json` is written by the keeper alone, whole or not at all, before each step that follows
//! from it.
//!
//! Invariant: whoever reads the state knows for each of the three processes which build it is to be, wherever everything
//! was cut off; and every replacement ends, in the new build or in the old one.

use std::collections::BTreeSet;
use std::fs::{self, DirBuilder, File};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use ostler_model::time::Timestamp;
use serde::{Deserialize, Serialize};

use crate::protocol::{BuildStep, UpgradeReport};

/// The form of the state file. A file of another form is left alone, and no replacement is under way.
const FORMAT: u32 = 1;
/// A state file is never longer: two builds, and what was not told yet.
const STATE_BYTES_MAX: u64 = 1 << 20;
/// So many steps wait to be told; each is told within moments.
const UNTOLD_MAX: usize = 64;
/// So many builds that were taken back are remembered.
const REJECTED_MAX: usize = 16;

/// Where builds are kept in a home.
pub fn folder(home: &Path) -> PathBuf {
    home.join("builds")
}

/// Where this build is kept.
pub fn path(home: &Path, sha256: &str) -> PathBuf {
    folder(home).join(sha256)
}

/// Makes the folder, for this user alone.
///
/// # Errors
/// The system's.
pub fn make_folder(home: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(folder(home))
}

/// A file as the kernel knows it: the same file, whatever it is called.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct FileId {
    device: u64,
    inode: u64,
}

impl FileId {
    /// Of the file at this path.
    ///
    /// # Errors
    /// If there is none.
    pub fn of(path: &Path) -> io::Result<Self> {
        let found = fs::metadata(path)?;
        Ok(Self { device: found.dev(), inode: found.ino() })
    }

    /// Of the program that a process executes, also where its file was deleted.
    ///
    /// # Errors
    /// If the process is gone, or another user's.
    pub fn of_process(pid: u32) -> io::Result<Self> {
        Self::of(Path::new(&format!("/proc/{pid}/exe")))
    }
}

/// A build, and what has to be known of it to go back to it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Build {
    /// As it calls itself: `0.1.0`.
    pub version: String,
    /// The digest of its file, in hexadecimal digits; its name in the folder.
    pub sha256: String,
    /// The version of the facts that it writes.
    pub envelope: u32,
    /// The kinds of facts that it knows.
    pub kinds: BTreeSet<String>,
    /// While it is on probation its manager confirms again and again that it answers: one that does not, hangs.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub answers: bool,
    /// The file from which it was run before there was a copy, if it was.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub runs_from: Option<FileId>,
}

impl Build {
    /// Whether a process that executes this file is of this build.
    pub fn is(&self, home: &Path, file: FileId) -> bool {
        self.runs_from == Some(file) || FileId::of(&path(home, &self.sha256)).is_ok_and(|copy| copy == file)
    }

    /// Whether the process is of this build.
    pub fn is_process(&self, home: &Path, pid: u32) -> bool {
        FileId::of_process(pid).is_ok_and(|file| self.is(home, file))
    }

    /// `0.1.0 (4b1a…)`, for people.
    pub fn in_words(&self) -> String {
        in_words(&self.version, &self.sha256)
    }
}

/// A version and a digest, for people.
pub fn in_words(version: &str, sha256: &str) -> String {
    format!("{version} ({})", sha256.get(..12).unwrap_or(sha256))
}

/// How far a replacement is. The order in which the three processes are replaced, in both directions.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Stage {
    /// The manager is being replaced; gateway and keeper are as they were.
    Manager,
    /// The gateway is being replaced.
    Gateway,
    /// The keeper is being replaced.
    Keeper,
    /// All are replaced. Until this time it is taken back if one of them does not hold.
    Probation {
        /// By the machine's clock.
        until: Timestamp,
    },
}

/// A replacement that is under way, or in its probation.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Upgrade {
    /// What ran before.
    pub from: Build,
    /// What is to run.
    pub to: Build,
    /// Milliseconds of probation.
    pub probation_ms: u64,
    /// Milliseconds within which each process has to come up.
    pub trial_ms: u64,
    /// How far it is.
    pub stage: Stage,
    /// Why it is being taken back, if it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub back: Option<String>,
    /// How often the new manager has ended by itself since it came up.
    #[serde(default)]
    pub manager_ended: u32,
    /// The same of the new gateway.
    #[serde(default)]
    pub gateway_ended: u32,
    /// How often the new keeper has been started from nothing.
    #[serde(default)]
    pub keeper_started: u32,
}

impl Upgrade {
    /// The build that all three processes are to be of in the end.
    pub fn goal(&self) -> &Build {
        if self.back.is_some() { &self.from } else { &self.to }
    }

    /// The build of which a manager is to be started now.
    pub fn manager(&self) -> &Build {
        self.goal()
    }

    /// The build of which a gateway is to be started now.
    pub fn gateway(&self) -> &Build {
        if self.stage == Stage::Manager && self.back.is_none() { &self.from } else { self.goal() }
    }

    /// The build of which a keeper is to be started from nothing: the new one only after it was seen to work.
    pub fn keeper(&self) -> &Build {
        match self.stage {
            Stage::Probation { .. } => self.goal(),
            Stage::Manager | Stage::Gateway | Stage::Keeper => &self.from,
        }
    }

    /// Begins to take it back, from the manager on.
    pub fn take_back(&mut self, why: impl Into<String>) {
        if self.back.is_none() {
            self.back = Some(why.into());
            self.stage = Stage::Manager;
        }
    }
}

/// A build that is kept.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Kept {
    /// Its version.
    pub version: String,
    /// Its digest.
    pub sha256: String,
}

impl From<&Build> for Kept {
    fn from(build: &Build) -> Self {
        Self { version: build.version.clone(), sha256: build.sha256.clone() }
    }
}

/// A build that was taken back.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rejected {
    /// Which.
    #[serde(flatten)]
    pub build: Kept,
    /// When.
    pub at: Timestamp,
    /// Why.
    pub why: String,
}

/// What the state file says.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct State {
    format: u32,
    /// What is under way.
    #[serde(default)]
    pub upgrade: Option<Upgrade>,
    /// The build that was accepted last.
    #[serde(default)]
    pub current: Option<Kept>,
    /// The build that was replaced last, if it is kept.
    #[serde(default)]
    pub former: Option<Kept>,
    /// Builds that were taken back, oldest first.
    #[serde(default)]
    pub rejected: Vec<Rejected>,
    /// What the manager has not stored yet, oldest first.
    #[serde(default)]
    pub untold: Vec<UpgradeReport>,
}

impl State {
    /// What a home says. A home without the file has no replacement under way, and so has one whose file cannot be read:
    /// services matter more.
    ///
    /// # Errors
    /// If it cannot be read or is not understood; the caller goes on without.
    pub fn read(home: &Path) -> io::Result<Self> {
        let mut text = Vec::new();
        match File::open(state_path(home)) {
            Ok(file) => file.take(STATE_BYTES_MAX).read_to_end(&mut text)?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Self::default()),
            Err(error) => return Err(error),
        };
        let state: Self = serde_json::from_slice(&text)?;
        if state.format > FORMAT {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "a newer build wrote it"));
        }
        Ok(state)
    }

    /// Writes it, whole or not at all.
    ///
    /// # Errors
    /// The system's; the file is then as it was.
    pub fn write(&self, home: &Path) -> io::Result<()> {
        make_folder(home)?;
        let text = serde_json::to_vec(&Self { format: FORMAT, ..self.clone() })?;
        let new = state_path(home).with_extension("new");
        let mut file = File::options().write(true).create(true).truncate(true).mode(0o600).open(&new)?;
        file.write_all(&text)?;
        file.sync_all()?;
        fs::rename(&new, state_path(home))?;
        File::open(folder(home))?.sync_all()
    }

    /// Notes a step that the manager is to record.
    pub fn tell(&mut self, upgrade: &Upgrade, at: Timestamp, step: BuildStep) {
        if self.untold.len() < UNTOLD_MAX {
            let (from, to) = (Kept::from(&upgrade.from), Kept::from(&upgrade.to));
            self.untold.push(UpgradeReport { at, from, to, step });
        }
    }

    /// Ends what is under way: in the new build, or, with a reason, in the old one.
    pub fn end(&mut self, at: Timestamp) {
        let Some(upgrade) = self.upgrade.take() else { return };
        match &upgrade.back {
            None => {
                self.tell(&upgrade, at, BuildStep::Accepted);
                self.current = Some(Kept::from(&upgrade.to));
                self.former = Some(Kept::from(&upgrade.from));
            }
            Some(why) => {
                self.tell(&upgrade, at, BuildStep::TakenBack { why: why.clone() });
                let build = Kept::from(&upgrade.to);
                self.rejected.retain(|rejected| rejected.build.sha256 != build.sha256);
                self.rejected.push(Rejected { build, at, why: why.clone() });
                let too_many = self.rejected.len().saturating_sub(REJECTED_MAX);
                self.rejected.drain(..too_many);
            }
        }
    }
}

fn state_path(home: &Path) -> PathBuf {
    folder(home).join("state.json")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn build(version: &str) -> Build {
        let (kinds, sha256) = (BTreeSet::from(["resumed".to_owned()]), version.repeat(3));
        Build { version: version.into(), sha256, envelope: 1, kinds, answers: true, runs_from: None }
    }

    fn upgrade(stage: Stage) -> Upgrade {
        let counts = (0, 0, 0);
        Upgrade {
            from: build("1"),
            to: build("2"),
            probation_ms: 5,
            trial_ms: 5,
            stage,
            back: None,
            manager_ended: counts.0,
            gateway_ended: counts.1,
            keeper_started: counts.2,
        }
    }

    #[test]
    fn each_stage_says_of_which_build_each_process_is() {
        let until = Timestamp(1);
        let of = |stage, back: bool| {
            let mut upgrade = upgrade(stage);
            upgrade.back = back.then(|| "it fails".to_owned());
            [upgrade.manager(), upgrade.gateway(), upgrade.keeper()].map(|build| build.version.clone()).concat()
        };
        let stages = [Stage::Manager, Stage::Gateway, Stage::Keeper, Stage::Probation { until }];
        assert_eq!(stages.map(|stage| of(stage, false)), ["211", "221", "221", "222"]);
        assert_eq!(stages.map(|stage| of(stage, true)), ["111"; 4]);
    }

    #[test]
    fn it_is_read_as_it_was_written_and_rubbish_is_no_state() {
        let home = tempfile::tempdir().unwrap();
        assert_eq!(State::read(home.path()).unwrap(), State::default());
        let mut state = State { upgrade: Some(upgrade(Stage::Gateway)), ..State::default() };
        state.write(home.path()).unwrap();
        assert_eq!(State::read(home.path()).unwrap().upgrade, state.upgrade);
        state.upgrade.as_mut().unwrap().take_back("it ended");
        assert_eq!(state.upgrade.as_ref().unwrap().stage, Stage::Manager);
        state.end(Timestamp(7));
        state.write(home.path()).unwrap();
        let read = State::read(home.path()).unwrap();
        assert!(read.upgrade.is_none() && read.former.is_none());
        assert_eq!((read.rejected.len(), read.untold.len()), (1, 1));
        for rubbish in ["", "{", "[]", r#"{"format":2}"#] {
            fs::write(folder(home.path()).join("state.json"), rubbish).unwrap();
            assert!(State::read(home.path()).is_err(), "{rubbish}");
        }
    }
}
