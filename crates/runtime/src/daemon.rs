//! The manager process: one thread turns the loop, another carries everything that waits.
//!
//! Invariant: only the loop's thread touches what is known and the journal; everybody else asks it.

use std::collections::VecDeque;
use std::fs::OpenOptions;
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::time::{Duration, Instant};

use ostler_journal::sealed::KeyError;
use ostler_journal::{Journal, OpenError, OpenOptions as JournalOptions, SealedChange, Sqlite};
use ostler_keeper::ANSWERS_EVERY;
use ostler_keeper::builds::State;
use ostler_keeper::protocol::Grant;
use ostler_manager::{Event, Knowledge, ResumeCause};
use ostler_model::ids::EstateUuid;
use ostler_model::time::Timestamp;
use tokio::sync::watch;
use zeroize::Zeroizing;

use crate::audit::follow::{self as record, Signing};
use crate::carried::Carried;
use crate::catalogs;
use crate::clock;
use crate::control::{Line, Request, Response};
use crate::drilling::{Counting, Drilling, Programs};
use crate::envelope::Writing;
use crate::exchange::Exchange;
use crate::hands::{Drains, Executor, Parts};
use crate::home::{Home, HomeError};
use crate::keeper_link::{Keeper, LinkConfig};
use crate::memory;
use crate::news;
use crate::proof;
use crate::providers::Providers;
use crate::selling::Selling;
use crate::served::Gatherer;
use crate::server;
use crate::turn::{Incoming, RecallError, Turner};
use crate::vault::{self, Vault};
use crate::verify;

/// While facts cannot be stored, it is tried again this often.
const STUCK_RETRY: Duration = Duration::from_secs(1);
/// The loop looks around this often even if nothing happens and nothing is due.
const PAUSE_MAX: Duration = Duration::from_secs(3600);
/// After so many turns memory is given back, as soon as nothing has happened for …
const TURNS_A_TRIM: u32 = 64;
/// … so long: then a storm is over.
const CALM_FOR: Duration = Duration::from_secs(2);
/// Facts older than this, and older than the snapshots, leave the database for the archive folder.
const ARCHIVE_AFTER: Duration = Duration::from_secs(90 * 86_400);
/// How often old facts are looked for.
const ARCHIVE_EVERY: Duration = Duration::from_secs(86_400);
/// Restarts by reflex, estate-wide: all of a thousand instances may die at once and come back at once.
pub const REFLEXES: Grant = Grant { burst: 1000, refill_ms: 20 };

/// What the manager process needs.
pub struct Config {
    /// The home.
    pub home: Home,
    /// Starts a keeper for it, detached.
    pub start_keeper: Box<dyn Fn() -> io::Result<()> + Send + Sync>,
    /// The programs that cause faults, for drills.
    pub drills: Programs,
    /// This program's build, for people.
    pub build: String,
    /// The key of the sealed store from the environment, instead of the home's file.
    pub key: Option<Zeroizing<String>>,
    /// Go on although the newest facts are missing from the journal.
    pub accept_lost_tail: bool,
    /// Sells to others what the estate declares to be sold.
    pub front: Front,
}

/// Whoever sells to others: runs until it is dropped.
pub type Front = Box<dyn FnOnce(Loop, Selling, Exchange) -> Pin<Box<dyn Future<Output = ()> + Send>> + Send>;

/// Why the manager process cannot run.
#[derive(Debug, thiserror::Error)]
pub enum DaemonError {
    /// The home.
    #[error("cannot start the manager")]
    Home(#[from] HomeError),
    /// The journal.
    #[error("cannot start the manager")]
    Journal(#[from] OpenError),
    /// What is in the journal.
    #[error("cannot start the manager")]
    Recall(#[from] RecallError),
    /// The sealed store's key.
    #[error("cannot start the manager")]
    Key(#[from] KeyError),
    /// Something of the system's.
    #[error("cannot start the manager: {what}")]
    System {
        /// What was tried.
        what: &'static str,
        /// Why it failed.
        #[source]
        cause: io::Error,
    },
}

impl DaemonError {
    /// What to do about it.
    pub fn remedy(&self) -> String {
        match self {
            Self::Home(error) => error.remedy(),
            Self::Journal(error) => error.remedy(),
            Self::Recall(error) => error.remedy(),
            Self::Key(error) => error.remedy(),
            Self::System { .. } => "free what the system lacks (memory, open files), then try again".to_owned(),
        }
    }
}

/// The loop's state in this process.
pub type Engine = Turner<Sqlite, Executor>;

/// A question that is answered on the loop's thread, between two turns.
pub type Question = Box<dyn FnOnce(&mut Engine, &Troubles) + Send>;

/// What reaches the loop's thread.
pub enum Message {
    /// Something for the manager.
    Incoming(Incoming),
    /// A question about what is known.
    Ask(Question),
    /// End.
    End,
}

/// What is wrong with ostler itself.
#[derive(Clone, Debug, Default)]
pub struct Troubles {
    /// Facts cannot be stored: changes stand still, services go on.
    pub journal: Option<String>,
    /// Since the start: what was given up or cannot be understood.
    pub standing: Vec<String>,
    /// What is recorded cannot be signed.
    pub signing: Signing,
}

impl Troubles {
    /// All of them, as sentences.
    pub fn list(&self) -> Vec<String> {
        self.journal.iter().chain(&self.standing).cloned().chain(self.signing.trouble()).collect()
    }
}

/// A handle on the loop's thread; cheap to clone.
#[derive(Clone)]
pub struct Loop {
    messages: Sender<Message>,
    changed: watch::Receiver<u64>,
}

impl Loop {
    /// Tells the manager something.
    pub fn tell(&self, incoming: impl Into<Incoming>) {
        let _ = self.messages.send(Message::Incoming(incoming.into())); // a loop that is gone ends the process
    }

    /// Asks about what is known, between two turns.
    pub async fn ask<R: Send + 'static>(
        &self,
        question: impl FnOnce(&mut Engine, &Troubles) -> R + Send + 'static,
    ) -> R {
        let (answer, received) = tokio::sync::oneshot::channel();
        let ask = move |engine: &mut Engine, troubles: &Troubles| {
            let _ = answer.send(question(engine, troubles)); // whoever asked may have gone
        };
        let _ = self.messages.send(Message::Ask(Box::new(ask)));
        match received.await {
            Ok(answer) => answer,
            Err(_) => std::future::pending().await, // the process is ending
        }
    }

    /// Asks about what is known.
    pub async fn known<R: Send + 'static>(&self, question: impl FnOnce(&Knowledge) -> R + Send + 'static) -> R {
        self.ask(|engine, _| question(engine.knowledge())).await
    }

    /// Changes whenever something that is known may have changed.
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.changed.clone()
    }

    /// Has something done to the loop, between two turns.
    pub(crate) fn have(&self, done: impl FnOnce(&mut Engine) + Send + 'static) {
        let _ = self.messages.send(Message::Ask(Box::new(|engine, _| done(engine)))); // as above
    }

    /// Ends the process in good order.
    pub fn end(&self) {
        let _ = self.messages.send(Message::End);
    }
}

/// Runs the manager process of a home until it is told to end. Calls `is_up` once nothing can stop it any more.
///
/// # Errors
/// If it cannot start. Once it runs, it goes on whatever happens.
pub fn run(config: Config, is_up: impl FnOnce()) -> Result<(), DaemonError> {
    memory::share_one_heap();
    let system = |what| move |cause| DaemonError::System { what, cause };
    config.home.prepare()?;
    let _lock = config.home.lock()?;
    let opened = open_journal(&config)?;
    let mut troubles = Troubles::default();
    let tasks = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .max_blocking_threads(8)
        .enable_all()
        .build()
        .map_err(system("start its tasks"))?;
    let (messages, received) = channel();
    let (changed_in, changed) = watch::channel(0);
    let handle = Loop { messages, changed };
    let note = notes(config.home.process_log("manager"));
    let drains = Drains::default();
    let counting = Counting::default();
    let served = Gatherer::new(tasks.handle().clone(), handle.clone());
    let carried = Carried::new(tasks.handle().clone(), handle.clone());
    let (keeper, link) = Keeper::link(LinkConfig {
        socket: config.home.keeper_socket(),
        start: config.start_keeper,
        news: news::carrier(
            handle.clone(),
            drains.clone(),
            counting.clone(),
            served.clone(),
            carried.clone(),
            note.clone(),
        ),
    });
    let providers = Arc::new(Providers::new(config.home.folder().to_owned(), Arc::new(keeper.clone())));
    let events = {
        let handle = handle.clone();
        Arc::new(move |incoming: Incoming| handle.tell(incoming))
    };
    tidy(&tasks, config.home.folder(), &*note);
    let drilling = Drilling::new(keeper.clone(), config.home.clone(), config.drills, counting);
    let vault = Arc::new(Vault::new(config.home.folder().to_owned()));
    let exchange = Exchange::new(vault.clone(), handle.clone());
    let hands = Executor::new(Parts {
        tasks: tasks.handle().clone(),
        keeper: keeper.clone(),
        providers: providers.clone(),
        drains,
        drilling,
        served,
        events,
        note: note.clone(),
        vault,
    });
    let mut engine = Turner::new(opened.journal, hands)?;
    engine.write_as(writing(config.home.folder()));
    let known = engine.knowledge().clone();
    engine.hands().recall_routes(&known);
    drop(known);
    keeper.reflexes(REFLEXES);
    drop(keeper.keep_up(true, true));
    tasks.spawn(link);
    let socket = server::bind(&config.home.socket()).map_err(system("listen on its socket"))?;
    tasks.spawn(catalogs::follow(handle.clone(), providers.clone()));
    tasks.spawn(verify::follow(handle.clone()));
    tasks.spawn(proof::follow(handle.clone(), config.home.drills(), config.build.clone(), note.clone()));
    let selling = Selling::default();
    tasks.spawn((config.front)(handle.clone(), selling.clone(), exchange));
    let context = server::Context {
        handle: handle.clone(),
        keeper: keeper.clone(),
        providers,
        home: config.home.clone(),
        build: config.build,
        selling,
        upgrading: Arc::default(),
        carried,
        signing: troubles.signing.clone(),
    };
    tasks.spawn(server::serve(socket, context));
    if let Some(lost) = opened.given_up {
        troubles.standing.push("the newest facts were lost, and a person accepted that".to_owned());
        handle.tell(Event::LossAccepted { acknowledged: lost.acknowledged });
    }
    let key = record::missing_key(engine.journal());
    resume_with(&handle, ResumeCause::Started, config.home.estate_id(), key).map_err(system("get random numbers"))?;
    is_up();
    let (signing, accepts) = (troubles.signing.clone(), config.accept_lost_tail);
    tasks.spawn(record::follow(handle.clone(), config.home.clone(), signing, accepts, note.clone()));
    tasks.spawn(answers_itself(config.home.clone(), keeper.clone()));
    turn_until_end(&mut engine, &received, &mut troubles, &changed_in, &*note);
    // A snapshot only shortens the next start.
    let _ = engine.save_snapshot();
    if let Err(error) = record::at_end(engine.journal(), engine.knowledge(), config.home.folder()) {
        note(format!("the newest facts are signed at the next start: {}", with_causes(&error)));
    }
    drop(std::fs::remove_file(config.home.socket()));
    tasks.shutdown_timeout(Duration::from_millis(500));
    Ok(())
}

/// How facts are written: until this build's probation is over, as the build can read them that it would go back to.
fn writing(home: &Path) -> Writing {
    let upgrade = State::read(home).ok().and_then(|state| state.upgrade);
    let on_probation = upgrade.filter(|upgrade| upgrade.to.is_process(home, std::process::id()));
    on_probation.map_or_else(Writing::default, |upgrade| Writing::for_older(upgrade.from.envelope, upgrade.from.kinds))
}

/// Once it has answered a question over its own socket, which comes after the first look at everything, this manager
/// has come up. While its build is on probation it says so again and again: whoever does not any more, hangs.
async fn answers_itself(home: Home, keeper: Keeper) {
    loop {
        let answered = async {
            let mut line = Line::connect(&home.socket()).await?;
            line.send(&Request::Status).await?;
            line.receive::<Response>().await
        };
        let mut pause = Duration::from_millis(20);
        if let Ok(Some(Response::Status { .. })) = answered.await {
            keeper.is_up();
            let folder = home.folder().to_owned();
            let state = tokio::task::spawn_blocking(move || State::read(&folder)).await;
            if !matches!(state, Ok(Ok(State { upgrade: Some(_), .. }))) {
                return;
            }
            pause = ANSWERS_EVERY;
        }
        tokio::time::sleep(pause).await;
    }
}

/// What a killed ostler has left of backups that were on their way is taken away, before others are.
fn tidy(tasks: &tokio::runtime::Runtime, home: &Path, note: &(dyn Fn(String) + Send + Sync)) {
    if let Err(failure) = tasks.block_on(vault::tidy(home)) {
        note(format!("{}; {}", failure.detail, failure.remedy));
    }
}

fn open_journal(config: &Config) -> Result<ostler_journal::Opened, OpenError> {
    let options = JournalOptions { key: config.key.clone(), accept_lost_tail: config.accept_lost_tail };
    Sqlite::open(config.home.folder(), &options)
}

/// Has everything looked at again. An estate that has no id yet gets `id`, or else a random one.
///
/// # Errors
/// If the system gives no random numbers.
pub fn resume(handle: &Loop, cause: ResumeCause, id: Option<EstateUuid>) -> io::Result<()> {
    resume_with(handle, cause, id, Vec::new())
}

/// The same, with secrets that are sealed together with its facts.
fn resume_with(
    handle: &Loop,
    cause: ResumeCause,
    id: Option<EstateUuid>,
    secrets: Vec<SealedChange>,
) -> io::Result<()> {
    let uuid = match id {
        Some(id) => id,
        None => {
            let mut bits = [0; 16];
            getrandom::fill(&mut bits).map_err(io::Error::other)?;
            EstateUuid::from_random(bits)
        }
    };
    handle.tell(Incoming { event: Some(Event::Resumed { cause, uuid }), secrets, report: None });
    Ok(())
}

fn turn_until_end(
    engine: &mut Engine,
    received: &Receiver<Message>,
    troubles: &mut Troubles,
    changed: &watch::Sender<u64>,
    note: &(dyn Fn(String) + Send + Sync),
) {
    let mut waiting: VecDeque<Message> = VecDeque::new();
    let mut clock = clock::Clock::default();
    let mut archive_at = Instant::now() + Duration::from_secs(60);
    let mut turns_since_trim = TURNS_A_TRIM; // the start was the first storm
    loop {
        if waiting.is_empty() || engine.is_stuck() {
            let pause = pause(engine, clock.now());
            let may_trim = turns_since_trim >= TURNS_A_TRIM && pause > CALM_FOR;
            match received.recv_timeout(if may_trim { CALM_FOR } else { pause }) {
                Ok(message) => waiting.push_back(message),
                Err(RecvTimeoutError::Timeout) if may_trim => {
                    engine.hands().tidy();
                    engine.journal_mut().give_back();
                    memory::give_back();
                    turns_since_trim = 0;
                    continue;
                }
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return,
            }
        }
        turns_since_trim = turns_since_trim.saturating_add(1);
        waiting.extend(received.try_iter());
        // A question is answered after everything that was said before it: whoever gave an order and then asks, sees
        // what follows from it. Only while nothing can be stored, and so nothing taken, it is answered at once.
        let is_stuck = engine.is_stuck();
        let mut later = VecDeque::new();
        for message in waiting.drain(..) {
            match message {
                Message::End => return,
                Message::Ask(question) if is_stuck || later.is_empty() => question(engine, troubles),
                other => later.push_back(other),
            }
        }
        waiting = later;
        let mut events = std::iter::from_fn(|| match waiting.front() {
            Some(Message::Incoming(_)) => match waiting.pop_front() {
                Some(Message::Incoming(incoming)) => Some(incoming),
                Some(Message::Ask(_) | Message::End) | None => None,
            },
            Some(Message::Ask(_) | Message::End) | None => None,
        });
        let before = (engine.journal().end(), troubles.journal.is_some());
        match engine.turn(clock.now(), &mut events) {
            Ok(()) => {
                if troubles.journal.take().is_some() {
                    note("facts can be stored again; changes go on".to_owned());
                }
            }
            Err(error) => {
                let trouble = format!("changes stand still: {}; {}", with_causes(&error), error.remedy());
                if troubles.journal.as_ref() != Some(&trouble) {
                    note(trouble.clone());
                    troubles.journal = Some(trouble);
                }
            }
        }
        // Whoever watches is woken by what is new, not by being answered.
        if before != (engine.journal().end(), troubles.journal.is_some()) {
            changed.send_modify(|count| *count = count.wrapping_add(1));
        }
        if Instant::now() >= archive_at && !engine.is_stuck() {
            archive_at = Instant::now() + ARCHIVE_EVERY;
            archive(engine, note);
        }
    }
}

fn pause(engine: &Engine, now: Timestamp) -> Duration {
    // While nothing can be stored nothing that is due is taken either: it must not keep the thread spinning.
    if engine.is_stuck() {
        return STUCK_RETRY;
    }
    engine.next_wake().map_or(PAUSE_MAX, |at| at.since(now)).min(PAUSE_MAX)
}

fn archive(engine: &mut Engine, note: &(dyn Fn(String) + Send + Sync)) {
    // Only what a snapshot holds may go.
    if let Err(error) = engine.save_snapshot() {
        return note(format!("cannot save a snapshot: {}", with_causes(&error)));
    }
    match engine.journal_mut().archive(clock::now() - ARCHIVE_AFTER) {
        Ok(_) => {}
        Err(error) => note(format!("cannot archive old facts: {}; {}", with_causes(&error), error.remedy())),
    }
}

/// An error with its causes, as one line.
pub fn with_causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text.push_str(&format!(": {cause}"));
        source = cause.source();
    }
    text
}

/// Writes lines with their time to a log of the home's; a full disk makes it silent, never fail.
fn notes(path: PathBuf) -> Arc<dyn Fn(String) + Send + Sync> {
    Arc::new(move |line| {
        let file = OpenOptions::new().create(true).append(true).mode(0o600).open(&path);
        if let Ok(mut file) = file {
            let _ = writeln!(file, "{}  {line}", clock::now().to_millis());
        }
    })
}
