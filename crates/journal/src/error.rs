//! What can go wrong with a journal, in words for people. Invariant: every error says what to do, and none holds a
//! secret or a fact's body.

use std::path::PathBuf;
use std::sync::Arc;

use ostler_model::ids::{Position, SecretId};

use crate::sealed::KeyError;

/// An underlying error. It is shared, because one failed commit may be the answer to many who waited for it.
pub type Cause = Arc<dyn std::error::Error + Send + Sync + 'static>;

/// Where the stored facts are not what was acknowledged.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Damage {
    /// From `first_bad` on, the stored facts are altered or cannot be read.
    #[error("the facts from {first_bad} on are damaged: {what}")]
    Altered {
        /// The first fact that is not as it was appended.
        first_bad: Position,
        /// How this was noticed.
        what: String,
    },
    /// The journal is sound but ends too early.
    #[error(
        "the newest {} facts are missing: the journal ends at {end} but {acknowledged} was acknowledged",
        acknowledged.0.saturating_sub(end.0)
    )]
    LostTail {
        /// Where the journal ends now.
        end: Position,
        /// The newest fact that was acknowledged.
        acknowledged: Position,
    },
}

impl Damage {
    /// The first fact that is missing or not to be trusted.
    pub fn first_bad(&self) -> Position {
        match self {
            Self::Altered { first_bad, .. } => *first_bad,
            Self::LostTail { end, .. } => Position(end.0 + 1),
        }
    }

    fn remedy(&self) -> String {
        let restore = "Restore the newest backup of the home into an empty folder with `ostler home restore`, and keep \
                       the damaged home for examination.";
        match self {
            Self::Altered { .. } => format!("{restore} Check the disk before you go on."),
            Self::LostTail { .. } => {
                format!(
                    "{restore} Or go on without the missing facts with `--accept-lost-tail`: ostler then writes down \
                     what was given up, and looks at every instance before it changes anything."
                )
            }
        }
    }
}

/// Why nothing was stored.
#[derive(Clone, Debug, thiserror::Error)]
pub enum AppendError {
    /// The journal's end is not where the caller thought.
    #[error("cannot append after fact {expected}: the journal ends at {actual}")]
    Conflict {
        /// Where the caller thought the journal ends.
        expected: Position,
        /// Where it ends.
        actual: Position,
    },
    /// No space is left for the journal.
    #[error("cannot append to the journal `{}`: its disk is full", path.display())]
    DiskFull {
        /// The journal.
        path: PathBuf,
        /// What the storage said.
        #[source]
        cause: Cause,
    },
    /// The storage failed, or another process held it for too long.
    #[error("cannot append to the journal `{}`", path.display())]
    Io {
        /// The journal, or the file beside it that failed.
        path: PathBuf,
        /// What the storage said.
        #[source]
        cause: Cause,
    },
    /// The stored facts are not what this process stored.
    #[error("cannot append to the journal: {0}")]
    Damaged(Damage),
    /// The request is outside the journal's limits.
    #[error("cannot append to the journal: {what}")]
    Refused {
        /// What is wrong with the request.
        what: String,
    },
}

impl AppendError {
    /// What a person can do.
    pub fn remedy(&self) -> String {
        match self {
            Self::Conflict { .. } => {
                "Another process wrote to this journal. Stop it: one home serves one ostler. Then start ostler again."
                    .into()
            }
            Self::DiskFull { path, .. } => format!(
                "Free some space where `{}` lies. Services run on meanwhile; changes wait and go on by themselves.",
                path.display()
            ),
            Self::Io { path, .. } => format!(
                "Check the disk (and its quota) under `{}`, and that no other process holds the journal. Services run \
                 on meanwhile.",
                path.display()
            ),
            Self::Damaged(damage) => damage.remedy(),
            Self::Refused { .. } => "This is a defect of ostler: please report it with this message.".into(),
        }
    }
}

/// Why something stored cannot be given back.
#[derive(Clone, Debug, thiserror::Error)]
pub enum ReadError {
    /// The facts are damaged.
    #[error("cannot read the journal: {0}")]
    Damaged(Damage),
    /// A secret's sealed bytes were altered, or belong to another name.
    #[error("cannot unseal the secret `{id}`: its stored bytes were altered")]
    Secret {
        /// The secret's name.
        id: SecretId,
    },
    /// A small value was altered.
    #[error("cannot read the journal's value `{name}`: its stored bytes were altered")]
    Meta {
        /// The value's name.
        name: String,
    },
    /// The storage failed.
    #[error("cannot read the journal `{}`", path.display())]
    Io {
        /// The journal, or the file beside it that failed.
        path: PathBuf,
        /// What the storage said.
        #[source]
        cause: Cause,
    },
}

impl ReadError {
    /// What a person can do.
    pub fn remedy(&self) -> String {
        match self {
            Self::Damaged(damage) => damage.remedy(),
            Self::Secret { id } => format!(
                "Let ostler make the credentials of `{id}` anew, or restore the newest backup of the home with \
                 `ostler home restore`. Check the disk before you go on."
            ),
            Self::Meta { .. } => {
                "Restore the newest backup of the home with `ostler home restore`. Check the disk before you go on."
                    .into()
            }
            Self::Io { path, .. } => format!("Check the disk and the permissions of `{}`.", path.display()),
        }
    }
}

/// Why a journal cannot be opened. Nothing was changed.
#[derive(Clone, Debug, thiserror::Error)]
pub enum OpenError {
    /// The stored facts are not what was acknowledged.
    #[error("cannot open the journal `{}`: {damage}", path.display())]
    Damaged {
        /// The journal.
        path: PathBuf,
        /// Where and how.
        damage: Damage,
    },
    /// There are facts but no readable witness of how many there should be.
    #[error(
        "cannot tell whether the journal `{}` is complete: it ends at {end}, but its witness `{}` {}",
        path.display(), witness.display(), if *unreadable { "cannot be read" } else { "is missing" }
    )]
    NoWitness {
        /// The journal.
        path: PathBuf,
        /// The witness beside it.
        witness: PathBuf,
        /// Whether the witness is there but damaged.
        unreadable: bool,
        /// Where the journal ends.
        end: Position,
    },
    /// A newer ostler wrote it.
    #[error("cannot open the journal `{}`: it has format {found}, and this ostler knows formats up to {known}", path.display())]
    TooNew {
        /// The journal.
        path: PathBuf,
        /// Its format.
        found: u32,
        /// The newest format this ostler knows.
        known: u32,
    },
    /// Some other program's database.
    #[error("cannot open the journal `{}`: it is another program's database", path.display())]
    NotAJournal {
        /// The file.
        path: PathBuf,
    },
    /// The key cannot be had.
    #[error("cannot open the sealed store of the journal `{}`", path.display())]
    Key {
        /// The journal.
        path: PathBuf,
        /// Why.
        #[source]
        cause: KeyError,
    },
    /// The key is not the one with which this journal's secrets were sealed.
    #[error("cannot open the sealed store of the journal `{}`: the key is not the one it was sealed with", path.display())]
    WrongKey {
        /// The journal.
        path: PathBuf,
    },
    /// The storage failed.
    #[error("cannot open the journal `{}`", path.display())]
    Io {
        /// The file or folder that failed.
        path: PathBuf,
        /// What the storage said.
        #[source]
        cause: Cause,
    },
}

impl OpenError {
    /// What a person can do.
    pub fn remedy(&self) -> String {
        match self {
            Self::Damaged { damage, .. } => damage.remedy(),
            Self::NoWitness { .. } => {
                "If the file was moved away, put it back. Otherwise restore the newest backup of \
                 the home with `ostler home restore`, or go on with the facts that are there with \
                 `--accept-lost-tail`: ostler then writes down that the newest facts may be missing."
                    .into()
            }
            Self::TooNew { .. } => "Run the ostler that wrote it, or a newer one.".into(),
            Self::NotAJournal { .. } => "Choose another home with `--home`, or move that file away.".into(),
            Self::Key { cause, .. } => cause.remedy(),
            Self::WrongKey { .. } => "Start ostler with the key of this home: the file `key` in the home, or \
                 `OSTLER_KEY` if it was used before."
                .into(),
            Self::Io { path, .. } => {
                format!(
                    "Check the disk and the permissions of `{}`, and that no other process holds it.",
                    path.display()
                )
            }
        }
    }

    pub(crate) fn io(path: &std::path::Path, cause: impl std::error::Error + Send + Sync + 'static) -> Self {
        Self::Io { path: path.into(), cause: Arc::new(cause) }
    }
}
