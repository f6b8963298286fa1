//! The manager's socket: questions and orders of people and scripts on this machine.

mod money;
mod refusal;

use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use ostler_journal::home::{KeyInBackup, backup};
use ostler_journal::{Record, newest_first};
use ostler_keeper::protocol::{Answer, Order};
use ostler_keeper::wire::with_short_path;
use ostler_manager::{Ask, Ending, Event, Knowledge, Origin, candidates, overrides, status};
use ostler_model::catalog::Limits;
use ostler_model::diagnostics::Problems;
use ostler_model::ids::{ProviderName, ServiceName};
use ostler_model::nearest::nearest;
use tokio::net::{UnixListener, UnixStream};

use crate::audit::follow::Signing;
use crate::books::over_budget;
use crate::builds;
use crate::carried::Carried;
use crate::clock;
use crate::control::{EstateFile, FactQuery, Line, Refused, Request, Response};
use crate::credits;
use crate::daemon::{Engine, Loop, Troubles};
use crate::declare::{Prepared, prepare};
use crate::envelope;
use crate::failover::weigh;
use crate::history::{self, FactView};
use crate::home::Home;
use crate::keeper_link::Keeper;
use crate::preview::preview;
use crate::providers::{Made, Providers};
use crate::seen::seen;
use crate::selling::Selling;
use crate::verify;
use crate::waiting::waits_for;
use crate::why;

pub use money::no_books;
use money::{books_of, credits_of, scorecards, weighable_of};
use refusal::refusal_of;

/// A status is sent at most so often to one who watches.
const STATUS_EVERY: Duration = Duration::from_millis(50);
/// A report on a service looks at so many facts at the most.
const FACTS_LOOKED_AT: usize = 20_000;
/// At most so many facts are answered at once.
const FACTS_MAX: usize = 10_000;

/// What answers are made from.
#[derive(Clone)]
pub struct Context {
    /// The loop.
    pub handle: Loop,
    /// The keeper.
    pub keeper: Keeper,
    /// The providers.
    pub providers: Arc<Providers>,
    /// The home.
    pub home: Home,
    /// This build, for people.
    pub build: String,
    /// Where the front stands that sells to others.
    pub selling: Selling,
    /// Held while another build is being proven.
    pub upgrading: Arc<tokio::sync::Mutex<()>>,
    /// What endpoints have carried and no fact says yet.
    pub carried: Carried,
    /// Whoever signs what is recorded.
    pub signing: Signing,
}

/// Listens on `path`, for this user only.
///
/// # Errors
/// The system's.
pub fn bind(path: &Path) -> io::Result<std::os::unix::net::UnixListener> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        Ok(()) | Err(_) => {}
    }
    let listener = with_short_path(path, |path| std::os::unix::net::UnixListener::bind(path))?;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600))?;
    listener.set_nonblocking(true)?;
    Ok(listener)
}

/// Answers for ever.
pub async fn serve(listener: std::os::unix::net::UnixListener, context: Context) {
    let Ok(listener) = UnixListener::from_std(listener) else { return };
    loop {
        match listener.accept().await {
            Ok((stream, _)) if is_own(&stream) => {
                let context = context.clone();
                tokio::spawn(async move {
                    // Whoever asked has gone: nobody is left to be told.
                    let _ = answer(Line::new(stream), context).await;
                });
            }
            Ok(_) => {}
            Err(_) => tokio::time::sleep(Duration::from_millis(50)).await, // out of descriptors, say
        }
    }
}

fn is_own(stream: &UnixStream) -> bool {
    let own = rustix::process::geteuid().as_raw();
    stream.peer_cred().is_ok_and(|peer| peer.uid() == own || peer.uid() == 0)
}

async fn answer(mut line: Line, context: Context) -> io::Result<()> {
    let request: Request = match line.receive().await {
        Ok(Some(request)) => request,
        Ok(None) => return Ok(()),
        Err(error) => {
            let remedy = "use the `ostler` of the same build as the running one";
            return line
                .send(&Response::Refused(Refused::from_error("cannot understand the request", &error, remedy)))
                .await;
        }
    };
    match request {
        Request::Hello => line.send(&Response::Hello { pid: std::process::id(), build: context.build.clone() }).await,
        Request::Status => line.send(&status_now(&context).await).await,
        Request::Watch => watch(line, &context, |_| false).await.map(drop),
        Request::Why { service } => line.send(&why_report(&context, service).await).await,
        Request::Verify { service } => line.send(&verified(&context, service).await).await,
        Request::Facts(query) => line.send(&facts(&context, query).await).await,
        Request::Books { month } => line.send(&books_of(&context, month).await).await,
        Request::Credits { month } => line.send(&credits_of(&context, month).await).await,
        Request::Scorecard { provider, month } => line.send(&scorecards(&context, provider, month).await).await,
        Request::Overrides => {
            let costs = context.handle.ask(|engine, _| engine.ledger().overrides(clock::now())).await;
            line.send(&Response::Overrides(costs)).await
        }
        Request::SignCheckpoint => {
            let response = match context.signing.sign(&context.handle, &context.home).await {
                Ok(text) => Response::Checkpoint { text },
                Err(error) => {
                    Response::Refused(Refused::from_error("cannot sign a checkpoint", &error, error.remedy()))
                }
            };
            line.send(&response).await
        }
        Request::Seen => line.send(&seen_so_far(&context).await).await,
        Request::Weighable { service, unasked } => line.send(&weighable_of(&context, service, unasked).await).await,
        Request::Preview(file) => line.send(&preview_of(&context, file).await).await,
        Request::WeighMove { service, to, accept_loss } => {
            line.send(&weighed(&context, service, to, accept_loss).await).await
        }
        Request::Apply(file) => line.send(&apply(&context, file).await).await,
        Request::Ask(ask) => line.send(&asked(&context, ask).await).await,
        Request::Down { delete_data } => down(line, &context, delete_data).await,
        Request::SelfUpgrade { path, probation_ms, trial_ms } => {
            self_upgrade(line, &context, path, probation_ms, trial_ms).await
        }
        Request::BackUpHome { to, with_key } => {
            let home = context.home.folder().to_owned();
            let key = if with_key { KeyInBackup::Included } else { KeyInBackup::LeftOut };
            let copy = context.handle.ask(move |_, _| backup(&home, &to, clock::now(), key)).await;
            let response = match copy {
                Ok(made) => Response::HomeBackedUp { facts: made.end.0 },
                Err(error) => Response::Refused(Refused::from_error("cannot back up the home", &error, error.remedy())),
            };
            line.send(&response).await
        }
    }
}

/// Has another build prove itself, and hands over to the keeper, who brings it in.
async fn self_upgrade(
    mut line: Line,
    context: &Context,
    path: PathBuf,
    probation_ms: u64,
    trial_ms: u64,
) -> io::Result<()> {
    let what = format!("cannot replace ostler by {}", path.display());
    let Ok(_alone) = context.upgrading.try_lock() else {
        let refused = Refused {
            what,
            causes: vec!["another build is just being proven".to_owned()],
            remedy: "wait for it: `ostler journal --kind self-upgrade` tells what became of it".to_owned(),
            problems: Vec::new(),
            rendered: None,
        };
        return line.send(&Response::Refused(refused)).await;
    };
    let (say, mut said) = tokio::sync::mpsc::unbounded_channel::<String>();
    let home = context.home.folder().to_owned();
    let proving =
        tokio::task::spawn_blocking(move || builds::prove(&home, &path, &|words| drop(say.send(words.to_owned()))));
    while let Some(words) = said.recv().await {
        line.send(&Response::Progress(words)).await?;
    }
    let refused = match proving.await {
        Ok(Ok((from, to))) => {
            let (from, to) = (Box::new(from), Box::new(to));
            match context.keeper.ask(Order::Upgrade { from, to, probation_ms, trial_ms }).await {
                Answer::Done => {
                    let told = line.send(&Response::Accepted).await;
                    context.handle.end();
                    return told;
                }
                Answer::Refused(refusal) => {
                    let remedy = "`ostler status` shows it; `ostler self-upgrade --back` takes it back";
                    Refused::from_error(what, &refusal, remedy)
                }
                _ => Refused::from_error(what, &io::Error::other("the keeper's answer is not understood"), "try again"),
            }
        }
        Ok(Err(error)) => Refused::from_error(what, &error, error.remedy()),
        Err(error) => Refused::from_error(what, &error, "try again"),
    };
    line.send(&Response::Refused(refused)).await
}

async fn status_now(context: &Context) -> Response {
    let context = context.clone();
    let handle = context.handle.clone();
    handle.ask(move |engine, troubles| status_from(engine, troubles, &context)).await
}

fn status_from(engine: &Engine, troubles: &Troubles, context: &Context) -> Response {
    let known = engine.knowledge();
    Response::Status {
        status: Box::new(status(known, clock::now())),
        troubles: troubles.list(),
        reminders: credits::reminders(engine.ledger(), clock::now()),
        limits: limits_in_words(known, &context.providers),
        sells: context.selling.get(),
    }
}

/// By what means limits are held, where the estate sets any: this differs from machine to machine.
fn limits_in_words(known: &Knowledge, providers: &Providers) -> Option<String> {
    let estate = known.estate.as_ref()?;
    if estate.services.values().all(|service| service.limits == Limits::default()) {
        return None;
    }
    estate.providers.values().find_map(|declared| match providers.made(declared, &estate.folder).ok()? {
        Made::Host(host) => Some(host.limits_in_force().to_string()),
        Made::Osb(_) => None,
    })
}

/// Sends the status after each change until `enough` of what is known says so, or the other end closes: then `None`.
async fn watch(
    mut line: Line,
    context: &Context,
    enough: impl Fn(&Knowledge) -> bool + Send + Sync + Clone + 'static,
) -> io::Result<Option<Line>> {
    let mut changes = context.handle.changes();
    let mut last = None;
    loop {
        changes.mark_unchanged();
        let (enough, asked) = (enough.clone(), context.clone());
        let (response, is_enough) = context
            .handle
            .ask(move |engine, troubles| (status_from(engine, troubles, &asked), enough(engine.knowledge())))
            .await;
        let text = serde_json::to_string(&response)?;
        if last.as_ref() != Some(&text) {
            line.send(&response).await?;
            last = Some(text);
        }
        if is_enough {
            return Ok(Some(line));
        }
        tokio::select! {
            changed = changes.changed() => if changed.is_err() { return Ok(None) },
            () = line.closed() => return Ok(None),
        }
        tokio::time::sleep(STATUS_EVERY).await;
    }
}

async fn verified(context: &Context, service: Option<ServiceName>) -> Response {
    if let Some(name) = service.clone() {
        let refused = context.handle.known(move |known| {
            let is_ours = known.services.get(&name).is_some_and(|service| service.origin == Origin::Declared);
            (!is_ours).then(|| no_such_service(format!("cannot verify `{name}`"), known, &name))
        });
        if let Some(refused) = refused.await {
            return Response::Refused(refused);
        }
    }
    let looked = verify::look(&context.handle, service).await;
    context.handle.known(|_| ()).await; // what was found is a fact by now
    Response::Verified(looked)
}

async fn why_report(context: &Context, service: ServiceName) -> Response {
    let report = context.handle.ask(move |engine, _| why_from(engine, &service)).await;
    match report {
        Ok(report) => Response::Why(Box::new(report)),
        Err(refused) => Response::Refused(refused),
    }
}

fn why_from(engine: &Engine, name: &ServiceName) -> Result<why::WhyReport, Refused> {
    let what = format!("cannot report on `{name}`");
    let status = status(engine.knowledge(), clock::now());
    let waits_for = waits_for(engine.knowledge(), &status, name);
    let view = status.services.into_iter().find(|service| service.name == *name);
    let Some(view) = view else { return Err(no_such_service(what, engine.knowledge(), name)) };
    let mut facts = Vec::new();
    for record in newest_first(engine.journal()).take(FACTS_LOOKED_AT) {
        let record = record.map_err(|error| Refused::from_error(&what, &error, error.remedy()))?;
        if !may_concern(&record, name) {
            continue;
        }
        let fact = envelope::read(&record).map_err(|error| Refused::from_error(&what, &error, error.remedy()))?;
        facts.extend(fact);
    }
    let known = engine.knowledge();
    let candidates = match (&known.estate, known.services.get(name)) {
        (Some(estate), Some(service)) if service.origin == Origin::Declared => {
            candidates(known, estate, &known.catalogs, &service.spec, clock::now())
        }
        _ => Vec::new(),
    };
    let overrides = overrides(known, Some(name), clock::now());
    Ok(why::WhyReport { candidates, overrides, ..why::report(view, waits_for, facts.iter().rev()) })
}

/// Whether a fact is worth reading in full: most of a large estate's facts are about other services.
fn may_concern(record: &Record, name: &ServiceName) -> bool {
    let name = name.as_str().as_bytes();
    matches!(
        record.kind.as_str(),
        "command-ended" | "resumed" | "down-asked" | "self-upgrade" | "override-began" | "override-ended"
    ) || record.body.windows(name.len()).any(|part| part == name)
}

fn no_such_service(what: String, known: &Knowledge, name: &ServiceName) -> Refused {
    let shown = known.services.iter().filter(|(_, service)| !service.is_guest());
    let names: Vec<&str> = shown.map(|(name, _)| name.as_str()).collect();
    let remedy = if names.is_empty() {
        "declare services in an estate file and run `ostler up FILE`".to_owned()
    } else {
        services_are(name, &names)
    };
    let causes = vec![format!("there is no service `{name}`")];
    Refused { what, causes, remedy, problems: Vec::new(), rendered: None }
}

/// What to do about a name that is none of `names`.
pub fn services_are(name: &ServiceName, names: &[&str]) -> String {
    let all = format!("the services are: {}", names.join(", "));
    match nearest(name.as_str(), names.iter().copied()) {
        Some(nearest) => format!("did you mean `{nearest}`? If not, {all}"),
        None => all,
    }
}

async fn facts(context: &Context, query: FactQuery) -> Response {
    let found = context.handle.ask(move |engine, _| facts_from(engine, &query)).await;
    match found {
        Ok(facts) => Response::Facts(facts),
        Err(refused) => Response::Refused(refused),
    }
}

async fn seen_so_far(context: &Context) -> Response {
    let found = context.handle.ask(|engine, _| seen(engine.journal(), engine.knowledge(), clock::now())).await;
    match found {
        Ok(seen) => Response::Seen(seen),
        Err(error) => Response::Refused(Refused::from_error("cannot read the journal", &error, error.remedy())),
    }
}

/// Facts by the query, newest first.
///
/// # Errors
/// If the journal cannot be read.
fn facts_from(engine: &Engine, query: &FactQuery) -> Result<Vec<FactView>, Refused> {
    select(engine.journal(), query)
}

/// The same for a journal that no manager has open.
///
/// # Errors
/// If it cannot be read.
pub fn select(journal: &dyn ostler_journal::Journal, query: &FactQuery) -> Result<Vec<FactView>, Refused> {
    let what = "cannot read the journal";
    let mut found: Vec<FactView> = Vec::new();
    // The end of a command comes before its beginning here, and only its beginning tells the service.
    let mut ends: std::collections::BTreeMap<ostler_model::ids::CommandId, FactView> = Default::default();
    let most = query.most.clamp(1, FACTS_MAX);
    // Asked before they are counted: what is not meant must not fill the answer.
    let is_meant = |view: &FactView| query.kind.as_ref().is_none_or(|kind| *kind == view.kind);
    for record in newest_first(journal) {
        if found.len() >= most {
            break;
        }
        let record = record.map_err(|error| Refused::from_error(what, &error, error.remedy()))?;
        if query.kind.as_ref().is_some_and(|kind| *kind != record.kind) && query.service.is_none() {
            continue;
        }
        let fact = envelope::read(&record).map_err(|error| Refused::from_error(what, &error, error.remedy()))?;
        let Some(fact) = fact else { continue };
        let view = history::view(record.position.0, &fact);
        let Some(service) = &query.service else {
            found.push(view);
            continue;
        };
        let command = history::command_of(&fact.kind);
        match (command, view.service.as_ref() == Some(service)) {
            (Some(id), false) if view.service.is_none() => drop(ends.insert(id, view)),
            (Some(id), true) => found.extend(ends.remove(&id).into_iter().chain([view]).filter(is_meant)),
            (_, true) => found.extend(Some(view).filter(is_meant)),
            (_, false) => {}
        }
    }
    found.sort_by_key(|view| std::cmp::Reverse(view.position));
    found.truncate(most);
    Ok(found)
}

/// What is wrong with files, as a refusal.
pub fn wrong_files(what: &str, wrong: &[Problems]) -> Refused {
    Refused {
        what: what.to_owned(),
        causes: Vec::new(),
        remedy: "correct the file and try again".to_owned(),
        problems: wrong.iter().flat_map(Problems::located).collect(),
        rendered: Some(wrong.iter().map(|problems| problems.render(true)).collect::<Vec<_>>().join("\n")),
    }
}

async fn prepared(context: &Context, what: &str, file: EstateFile) -> Result<Prepared, Refused> {
    let prepared = prepare(file, &context.providers).await.map_err(|wrong| wrong_files(what, &wrong))?;
    let check = prepared.clone();
    let checked = context.handle.known(move |known| (check.check(known, clock::now()), name_of(known))).await;
    match checked {
        (Err(problems), _) => Err(wrong_files(what, &[problems])),
        (Ok(()), Some(name)) if name != prepared.estate.name.as_str() => Err(Refused {
            what: what.to_owned(),
            causes: vec![format!(
                "this home is that of the estate `{name}`, and the file declares `{}`",
                prepared.estate.name
            )],
            remedy: "use another `--home` for another estate".to_owned(),
            problems: Vec::new(),
            rendered: None,
        }),
        (Ok(()), _) => Ok(prepared),
    }
}

fn name_of(known: &Knowledge) -> Option<String> {
    known.estate.as_ref().map(|estate| estate.name.to_string())
}

async fn preview_of(context: &Context, file: EstateFile) -> Response {
    match prepared(context, "cannot preview the estate file", file).await {
        Ok(prepared) => {
            let shown = context.handle.known(move |known| preview(known, &prepared, clock::now())).await;
            Response::Preview(Box::new(shown))
        }
        Err(refused) => Response::Refused(refused),
    }
}

async fn weighed(context: &Context, service: ServiceName, to: Option<ProviderName>, accept_loss: bool) -> Response {
    let what = format!("cannot move `{service}`");
    let weighed = context.handle.known(move |known| {
        if !known.services.contains_key(&service) {
            return Err(no_such_service(what, known, &service));
        }
        weigh(known, &service, to.as_ref(), accept_loss, clock::now()).map_err(|cause| Refused {
            what,
            causes: vec![cause],
            remedy: "see `ostler status`, and `ostler why` for its providers".to_owned(),
            problems: Vec::new(),
            rendered: None,
        })
    });
    match weighed.await {
        Ok(shown) => Response::Move(Box::new(shown)),
        Err(refused) => Response::Refused(refused),
    }
}

async fn apply(context: &Context, file: EstateFile) -> Response {
    match prepared(context, "cannot apply the estate file", file).await {
        Ok(prepared) => {
            let checked = prepared.clone();
            let what = "cannot apply the estate file";
            let over = context.handle.known(move |known| over_budget(known, &checked, what, clock::now())).await;
            if let Some(refused) = over {
                return Response::Refused(refused);
            }
            context.handle.tell(prepared.event());
            // Answered after the turn that took it: whoever watches from now on sees what follows from it.
            context.handle.known(|_| ()).await;
            Response::Accepted
        }
        Err(refused) => Response::Refused(refused),
    }
}

async fn asked(context: &Context, ask: Ask) -> Response {
    let refusal = {
        let ask = ask.clone();
        context.handle.known(move |known| refusal_of(known, &ask)).await
    };
    match refusal {
        Some(refused) => Response::Refused(refused),
        None => {
            context.handle.tell(Event::Asked(ask));
            context.handle.known(|_| ()).await;
            Response::Accepted
        }
    }
}

async fn down(line: Line, context: &Context, delete_data: bool) -> io::Result<()> {
    context.handle.tell(Event::Asked(Ask::Down));
    let Some(line) = watch(line, context, Knowledge::is_at_rest).await? else { return Ok(()) };
    let mut line = line;
    if delete_data {
        // What others bought is theirs: it is deleted by name alone.
        let declared = |known: &Knowledge| {
            let ours = known.services.iter().filter(|(_, service)| service.origin == Origin::Declared);
            ours.map(|(name, _)| name.clone()).collect()
        };
        let services: Vec<ServiceName> = context.handle.known(declared).await;
        for service in services {
            context.handle.tell(Event::Asked(Ask::Delete { service }));
        }
        let gone = |known: &Knowledge| {
            known
                .services
                .values()
                .all(|service| service.instances.is_empty() || service.ending != Some(Ending::Delete))
        };
        match watch(line, context, gone).await? {
            Some(back) => line = back,
            None => return Ok(()),
        }
    }
    // The keeper must not bring back what is to end.
    context.keeper.keep_up(false, false).await;
    context.keeper.shut_down().await;
    line.send(&Response::Bye).await?;
    context.handle.end();
    Ok(())
}
