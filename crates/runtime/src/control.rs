//! What the command line and the manager process say to each other on `ostler.sock`: one JSON object a line, one
//! request a connection, then answers until the last.
//!
//! Invariant: only the home's own user (and root) gets an answer; a line is bounded.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Path, PathBuf};

use ostler_books::{Credits, OverrideCost, Statement};
use ostler_keeper::wire::with_short_path;
use ostler_manager::{Ask, StatusView};
use ostler_model::diagnostics::Located;
use ostler_model::ids::{ProviderName, ServiceName};
use ostler_model::month::Month;
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::UnixStream;

use crate::failover::MovePreview;
use crate::history::FactView;
use crate::owning::Weighable;
use crate::preview::Preview;
use crate::scorecard::Card;
use crate::seen::Seen;
use crate::verify::Looked;
use crate::why::WhyReport;

/// The longest line, in bytes: an estate file and the names around it, or the status of a large estate.
pub const LINE_BYTES_MAX: u64 = 64 * 1024 * 1024;

/// What can be asked.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Request {
    /// Who is there.
    Hello,
    /// The status now.
    Status,
    /// The status now and after each change, until the connection is closed.
    Watch,
    /// What happened to a service lately.
    Why {
        /// Which.
        service: ServiceName,
    },
    /// Look at every need with its consumer's own binding, now.
    Verify {
        /// Only at the needs of this service.
        service: Option<ServiceName>,
    },
    /// Facts, newest first.
    Facts(FactQuery),
    /// How often what has failed.
    Seen,
    /// What a month costs.
    Books {
        /// Which; the one that it is now if `None`.
        month: Option<Month>,
    },
    /// What is known that owning a service is weighed by.
    Weighable {
        /// Which.
        service: ServiceName,
        /// Those of whom it is told what they offered last.
        unasked: BTreeSet<ProviderName>,
    },
    /// What providers owe.
    Credits {
        /// For which month; the present one and all with something owed or claimed if `None`.
        month: Option<Month>,
    },
    /// How providers have delivered.
    Scorecard {
        /// Only this one.
        provider: Option<ProviderName>,
        /// In which month; the present one if `None`.
        month: Option<Month>,
    },
    /// What each override has cost so far, also those that have ended.
    Overrides,
    /// What an estate file would change.
    Preview(EstateFile),
    /// What a move of a service to another provider would be like.
    WeighMove {
        /// Which.
        service: ServiceName,
        /// To whom; the best that is allowed if `None`.
        to: Option<ProviderName>,
        /// What no backup holds may be lost.
        accept_loss: bool,
    },
    /// Bring the estate to this file.
    Apply(EstateFile),
    /// Something that a person asks of the estate.
    Ask(Ask),
    /// Stop everything, delete data only if told to, and end. Status after each change, then [`Response::Bye`].
    Down {
        /// Delete every instance with its data after it has stopped.
        delete_data: bool,
    },
    /// Have another build of ostler take over. [`Response::Progress`], then [`Response::Accepted`]: from then on the
    /// keeper does it, and this manager ends.
    SelfUpgrade {
        /// Its file; absolute.
        path: PathBuf,
        /// Milliseconds of its probation.
        probation_ms: u64,
        /// Milliseconds within which each of its processes has to come up.
        trial_ms: u64,
    },
    /// Sign the facts as they are now.
    SignCheckpoint,
    /// A consistent copy of the home, made while it is in use.
    BackUpHome {
        /// The folder to make; absolute.
        to: PathBuf,
        /// With the key of the sealed store.
        with_key: bool,
    },
}

/// An estate file as the user named it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct EstateFile {
    /// As the user named it.
    pub file: String,
    /// The folder that it lies in; absolute.
    pub folder: PathBuf,
    /// Its text.
    pub text: String,
}

/// Which facts.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct FactQuery {
    /// Only those that concern this service.
    pub service: Option<ServiceName>,
    /// Only of this kind.
    pub kind: Option<String>,
    /// At most so many.
    pub most: usize,
}

/// What is answered.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Response {
    /// To `Hello`.
    Hello {
        /// The manager's process id.
        pid: u32,
        /// Its build.
        build: String,
    },
    /// The status, with what is wrong with ostler itself.
    Status {
        /// The estate's.
        status: Box<StatusView>,
        /// Ostler's own troubles: a full disk, a keeper of another version.
        troubles: Vec<String>,
        /// What a person should do in time: as sentences.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        reminders: Vec<String>,
        /// Where the estate sets limits: by what means they are held here, as a sentence.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        limits: Option<String>,
        /// Where others can buy from this estate, or why they cannot; `None` if it sells nothing.
        #[serde(default)]
        sells: Option<Result<String, String>>,
    },
    /// To `Why`.
    Why(Box<WhyReport>),
    /// To `Verify`: by consumer and need.
    Verified(Vec<Looked>),
    /// To `Facts`.
    Facts(Vec<FactView>),
    /// To `Seen`.
    Seen(BTreeMap<ServiceName, Seen>),
    /// To `Books`.
    Books(Box<Statement>),
    /// To `Weighable`.
    Weighable(Box<Weighable>),
    /// To `Credits`.
    Credits(Box<Credits>),
    /// To `Scorecard`.
    Scorecards(Vec<Card>),
    /// To `Overrides`: the dearest first.
    Overrides(Vec<OverrideCost>),
    /// To `Preview`.
    Preview(Box<Preview>),
    /// To `WeighMove`.
    Move(Box<MovePreview>),
    /// How far something is that takes its time.
    Progress(String),
    /// It was taken and is being done.
    Accepted,
    /// To `SignCheckpoint`.
    Checkpoint {
        /// The signed note.
        text: String,
    },
    /// The home was copied.
    HomeBackedUp {
        /// Up to which fact.
        facts: u64,
    },
    /// It was not done.
    Refused(Refused),
    /// Everything is down; ostler ends.
    Bye,
}

/// Why something was not done.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Refused {
    /// The operation and the thing.
    pub what: String,
    /// The causes, outermost first.
    pub causes: Vec<String>,
    /// What to do.
    pub remedy: String,
    /// The errors of an estate file.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub problems: Vec<Located>,
    /// The same, as they are shown on a terminal: with ANSI escapes, which whoever shows it elsewhere takes out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rendered: Option<String>,
}

impl Refused {
    /// From an error and its sources.
    pub fn from_error(what: impl Into<String>, error: &dyn std::error::Error, remedy: impl Into<String>) -> Self {
        let mut causes = vec![error.to_string()];
        let mut source = error.source();
        while let Some(cause) = source {
            causes.push(cause.to_string());
            source = cause.source();
        }
        Self { what: what.into(), causes, remedy: remedy.into(), problems: Vec::new(), rendered: None }
    }
}

/// One connection, at either end.
pub struct Line {
    stream: BufReader<UnixStream>,
}

impl Line {
    /// To the manager of a home.
    ///
    /// # Errors
    /// If none is there.
    pub async fn connect(socket: &Path) -> io::Result<Self> {
        // Connecting to a Unix socket does not wait, unless very many others are just doing the same.
        let stream = with_short_path(socket, |path| std::os::unix::net::UnixStream::connect(path))?;
        stream.set_nonblocking(true)?;
        Ok(Self::new(UnixStream::from_std(stream)?))
    }

    /// Over a connected stream.
    pub fn new(stream: UnixStream) -> Self {
        Self { stream: BufReader::new(stream) }
    }

    /// Sends one message.
    ///
    /// # Errors
    /// If the other end is gone.
    pub async fn send(&mut self, message: &impl Serialize) -> io::Result<()> {
        let mut text = serde_json::to_vec(message)?;
        text.push(b'\n');
        self.stream.get_mut().write_all(&text).await
    }

    /// The next message; `None` at the end.
    ///
    /// # Errors
    /// If it is not understood or too long.
    pub async fn receive<T: for<'de> Deserialize<'de>>(&mut self) -> io::Result<Option<T>> {
        let mut text = Vec::new();
        let length = (&mut self.stream).take(LINE_BYTES_MAX).read_until(b'\n', &mut text).await?;
        if length == 0 {
            return Ok(None);
        }
        if !text.ends_with(b"\n") {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "the message is cut short or too long"));
        }
        Ok(Some(serde_json::from_slice(&text)?))
    }

    /// Waits until the other end closes or says anything more, which it has no reason to.
    pub async fn closed(&mut self) {
        let mut byte = [0; 1];
        let _ = self.stream.read(&mut byte).await; // whatever it is, the conversation is over
    }
}
