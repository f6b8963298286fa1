//! `ostler self-upgrade`: another build of ostler takes over while everything runs.
//!
//! The running ostler does it, and goes on with it whatever becomes of this command, which only watches the one file
//! that says how far it is.

use std::path::{Path, PathBuf};
use std::time::Duration;

use ostler_keeper::builds::{self, FileId, Rejected, Stage, State, Upgrade};
use ostler_keeper::client::Client;
use ostler_keeper::protocol::{Answer, Order, Role};
use ostler_model::time::{Timestamp, in_words};
use ostler_runtime::clock;
use ostler_runtime::control::{Request, Response};
use ostler_runtime::home::Home;
use serde_json::{Value, json};
use tokio::time::Instant;

use crate::args::{Common, SelfUpgrade};
use crate::client::{cut_off, next, open};
use crate::commands::print_json;
use crate::failure::{Failure, Outcome};
use crate::{place, processes};

/// How often it is looked how far it is.
const LOOK_EVERY: Duration = Duration::from_millis(20);
/// Beyond what each process may take: the former manager's end, and the looks of the new one.
const SPARE: Duration = Duration::from_secs(60);
/// So long no keeper answers before one is started here.
const ALONE_FOR: Duration = Duration::from_secs(3);
/// How long the keeper may take to answer.
const KEEPER_ANSWERS_WITHIN: Duration = Duration::from_secs(10);

pub(crate) async fn self_upgrade(arguments: SelfUpgrade, common: &Common) -> Outcome {
    let home = place::of_command(common)?;
    if !arguments.back {
        let path = arguments.path.as_deref().expect("clap asks for a path where nothing is taken back");
        return bring_in(&home, &place::absolute(path), &arguments, common).await;
    }
    let what = "cannot go back to the former build of ostler";
    let state = read(&home)?;
    match (state.upgrade, state.former) {
        (Some(upgrade), _) => take_back(&home, &upgrade, common).await,
        // It is a step like any other: the former build has to prove that it can read what there is now.
        (None, Some(former)) => bring_in(&home, &builds::path(home.folder(), &former.sha256), &arguments, common).await,
        (None, None) => {
            let remedy = "name the file of a build: `ostler self-upgrade PATH`";
            Err(Failure::new(what, "no other build has run here before", remedy))
        }
    }
}

async fn bring_in(home: &Home, path: &Path, arguments: &SelfUpgrade, common: &Common) -> Outcome {
    let ms = |span: ostler_model::time::Span| u64::try_from(span.get().as_millis()).unwrap_or(u64::MAX);
    let began = clock::now();
    let request = Request::SelfUpgrade {
        path: path.to_owned(),
        probation_ms: ms(arguments.probation),
        trial_ms: ms(arguments.within),
    };
    let mut line = open(home, &request).await?;
    loop {
        match next(&mut line).await? {
            Some(Response::Progress(words)) => tell(common, &words),
            Some(Response::Accepted) => break,
            Some(_) | None => return Err(cut_off()),
        }
    }
    drop(line);
    let what = format!("cannot replace ostler by {}", path.display());
    let (mut stage, mut alone_since) = (None, None);
    let mut brought: Option<Upgrade> = None;
    let deadline = Instant::now() + 4 * arguments.within.get() + SPARE;
    loop {
        let state = read(home)?;
        match state.upgrade {
            None => match state.rejected.last().filter(|rejected| rejected.at >= began) {
                Some(rejected) => return Err(taken_back(what, rejected)),
                None => break, // without any probation it is over at once
            },
            Some(upgrade) => {
                if stage != Some((upgrade.stage, upgrade.back.is_some())) {
                    stage = Some((upgrade.stage, upgrade.back.is_some()));
                    tell(common, &stage_in_words(&upgrade));
                }
                let done = upgrade.back.is_none() && matches!(upgrade.stage, Stage::Probation { .. });
                brought = Some(upgrade);
                if done {
                    break;
                }
            }
        }
        if Instant::now() > deadline {
            let far = brought.as_ref().map_or_else(|| "nothing was heard of it".to_owned(), stage_in_words);
            return Err(Failure::new(what, far, "it goes on, or is taken back, by itself: see `ostler status`"));
        }
        bring_keeper_back(home, brought.as_ref(), &mut alone_since);
        tokio::time::sleep(LOOK_EVERY).await;
    }
    show_brought(brought.as_ref(), common);
    Ok(())
}

/// The keeper is brought back by the manager, and the manager by the keeper. Only while the former manager has ended and
/// the new one has not begun is there nobody but this command.
fn bring_keeper_back(home: &Home, upgrade: Option<&Upgrade>, alone_since: &mut Option<Instant>) {
    if ostler_keeper::wire::connect(&home.keeper_socket()).is_ok() {
        *alone_since = None;
        return;
    }
    let since = *alone_since.get_or_insert_with(Instant::now);
    if let Some(upgrade) = upgrade.filter(|_| since.elapsed() > ALONE_FOR) {
        let program = builds::path(home.folder(), &upgrade.keeper().sha256);
        let _ = processes::start_keeper(home, false, &program); // tried again; a second one ends by itself
        *alone_since = None;
    }
}

fn show_brought(upgrade: Option<&Upgrade>, common: &Common) {
    let Some(upgrade) = upgrade else { return };
    if common.json {
        print_json(&json!({ "upgrade": upgrade_in_json(upgrade) }));
        return;
    }
    let (to, probation) = (upgrade.to.in_words(), in_words(Duration::from_millis(upgrade.probation_ms)));
    anstream::println!(
        "Ostler {to} runs. If it does not hold within {probation}, {} takes its place again.",
        upgrade.from.in_words()
    );
    let is_installed = FileId::of(Path::new("/proc/self/exe")).is_ok_and(|file| {
        std::env::current_exe().is_ok_and(|path| {
            FileId::of(&path).is_ok_and(|there| there != file)
                || ostler_runtime::builds::digest(&path).is_ok_and(|digest| digest == upgrade.to.sha256)
        })
    });
    if !is_installed {
        anstream::println!("Install it where you start `ostler` from, too: the next `ostler up` uses that file.");
    }
}

async fn take_back(home: &Home, upgrade: &Upgrade, common: &Common) -> Outcome {
    let what = format!("cannot take ostler {} back", upgrade.to.in_words());
    let order = Order::TakeBack { why: "a person asked for it".to_owned() };
    let mut keeper = Client::connect(&home.keeper_socket(), Role::Visitor, KEEPER_ANSWERS_WITHIN)
        .map_err(|error| Failure::of(&what, &error, error.remedy()))?;
    keeper.ask(order).map_err(|error| Failure::of(&what, &error, error.remedy()))?;
    let deadline = Instant::now() + 4 * Duration::from_millis(upgrade.trial_ms) + SPARE;
    while read(home)?.upgrade.is_some() {
        if Instant::now() > deadline {
            let remedy = "it goes on by itself: `ostler status` shows how far it is";
            return Err(Failure::new(what, "the former build has not come up yet", remedy));
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
    let words = format!("Ostler {} runs again.", upgrade.from.in_words());
    crate::commands::say(common, &words);
    Ok(())
}

fn taken_back(what: String, rejected: &Rejected) -> Failure {
    let build = builds::in_words(&rejected.build.version, &rejected.build.sha256);
    let cause = format!("ostler {build} was taken back: {}", rejected.why);
    let remedy = "nothing else has changed: the former build runs. `log/` in the home has what the new one wrote";
    Failure::new(what, cause, remedy)
}

fn read(home: &Home) -> Outcome<State> {
    State::read(home.folder()).map_err(|error| {
        let remedy = "look at `builds/state.json` in the home";
        Failure::of("cannot see which build of ostler runs", &error, remedy)
    })
}

fn tell(common: &Common, words: &str) {
    if common.json {
        return; // one object, at the end
    }
    anstream::eprintln!("  {words}");
}

fn stage_in_words(upgrade: &Upgrade) -> String {
    match (&upgrade.back, upgrade.stage) {
        (None, Stage::Manager) => "the new manager comes up".to_owned(),
        (None, Stage::Gateway) => "the new gateway comes up beside the former one".to_owned(),
        (None, Stage::Keeper) => "the keeper becomes the new one".to_owned(),
        (None, Stage::Probation { .. }) => "all three processes are of the new build".to_owned(),
        (Some(why), _) => format!("it is being taken back: {why}"),
    }
}

fn upgrade_in_json(upgrade: &Upgrade) -> Value {
    let build = |build: &builds::Build| json!({ "version": build.version, "sha256": build.sha256 });
    let (stage, until) = match upgrade.stage {
        Stage::Manager => ("manager", None),
        Stage::Gateway => ("gateway", None),
        Stage::Keeper => ("keeper", None),
        Stage::Probation { until } => ("probation", Some(until)),
    };
    json!({
        "from": build(&upgrade.from),
        "to": build(&upgrade.to),
        "stage": stage,
        "probation_until": until.map(|until: Timestamp| until.to_string()),
        "taken_back_because": upgrade.back,
    })
}

/// One of ostler's processes, and of which build it is.
pub(crate) struct Running {
    process: &'static str,
    pid: u32,
    version: Option<String>,
    sha256: Option<String>,
}

/// What runs in a home, and what is under way.
pub(crate) struct Builds {
    running: Vec<Running>,
    upgrade: Option<Upgrade>,
}

impl Builds {
    /// Looks; `None` if no keeper answers.
    pub(crate) fn of(home: &Home) -> Option<Self> {
        let mut keeper = Client::connect(&home.keeper_socket(), Role::Visitor, KEEPER_ANSWERS_WITHIN).ok()?;
        let (keeper_pid, build) = match keeper.welcome() {
            Answer::Welcome { pid, build, .. } => (*pid, build.clone()),
            _ => return None,
        };
        let Ok(Answer::Survey(survey)) = keeper.ask(Order::Survey) else { return None };
        let found = [("keeper", Some(keeper_pid)), ("manager", survey.manager_pid), ("gateway", survey.gateway_pid)];
        let upgrade = survey.upgrade.map(|upgrade| *upgrade);
        let state = State::read(home.folder()).unwrap_or_default();
        let running = found.into_iter().filter_map(|(process, pid)| {
            let pid = pid?;
            let (version, sha256) = identity(home.folder(), pid, upgrade.as_ref(), &state);
            let version =
                version.or_else(|| (process == "keeper").then(|| build.trim_start_matches("ostler ").to_owned()));
            Some(Running { process, pid, version, sha256 })
        });
        Some(Self { running: running.collect(), upgrade })
    }

    pub(crate) fn in_json(&self) -> Value {
        let running = self.running.iter().map(|running| {
            json!({
                "process": running.process,
                "pid": running.pid,
                "version": running.version,
                "sha256": running.sha256,
            })
        });
        let processes: Vec<Value> = running.collect();
        json!({ "processes": processes, "upgrade": self.upgrade.as_ref().map(upgrade_in_json) })
    }

    /// A paragraph for people, if there is anything to say: all of one build, and that for good, is nothing.
    pub(crate) fn in_words(&self) -> Option<String> {
        let one = |running: &Running| {
            let version = running.version.as_deref().unwrap_or("of an unknown version");
            match &running.sha256 {
                Some(sha256) => builds::in_words(version, sha256),
                None => version.to_owned(),
            }
        };
        let all: Vec<String> =
            self.running.iter().map(|running| format!("{} {}", running.process, one(running))).collect();
        let differ = self.running.windows(2).any(|pair| one(&pair[0]) != one(&pair[1]));
        match &self.upgrade {
            None if !differ => None,
            None => Some(format!("Ostler itself: {}.", all.join(", "))),
            Some(upgrade) => {
                let stage = match (&upgrade.back, upgrade.stage) {
                    (None, Stage::Probation { until }) => {
                        format!("{} is on probation until {}", upgrade.to.in_words(), until.to_millis())
                    }
                    _ => stage_in_words(upgrade),
                };
                Some(format!("Ostler itself: {stage} ({}).", all.join(", ")))
            }
        }
    }
}

fn identity(home: &Path, pid: u32, upgrade: Option<&Upgrade>, state: &State) -> (Option<String>, Option<String>) {
    let Ok(file) = FileId::of_process(pid) else { return (None, None) };
    for build in upgrade.into_iter().flat_map(|upgrade| [&upgrade.from, &upgrade.to]) {
        if build.is(home, file) {
            return (Some(build.version.clone()), Some(build.sha256.clone()));
        }
    }
    let own = FileId::of(Path::new("/proc/self/exe")).is_ok_and(|own| own == file);
    let own = own.then(|| env!("CARGO_PKG_VERSION").to_owned());
    let place: Option<PathBuf> = std::fs::read_link(format!("/proc/{pid}/exe")).ok();
    let sha256 = place.filter(|place| place.parent() == Some(&builds::folder(home)));
    let sha256 = sha256.and_then(|place| Some(place.file_name()?.to_str()?.to_owned()));
    let mut known = state.current.iter().chain(&state.former);
    let former = known.find(|kept| Some(&kept.sha256) == sha256.as_ref());
    (own.or_else(|| former.map(|kept| kept.version.clone())), sha256)
}
