//! `ostler up`, and waiting for what was begun.

use std::io::IsTerminal;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};
use ostler_keeper::client::Client;
use ostler_keeper::protocol::{Order, Role};
use ostler_manager::{Knowledge, StatusView};
use ostler_model::health::State;
use ostler_runtime::books::over_budget;
use ostler_runtime::control::{EstateFile, Request, Response};
use ostler_runtime::declare::{Prepared, prepare};
use ostler_runtime::home::{Home, HomeError};
use ostler_runtime::keeper_port::NoKeeper;
use ostler_runtime::providers::Providers;
use ostler_runtime::{clock, server};
use tokio::time::Instant;

use crate::args::{Common, Up};
use crate::client::{ask, cut_off, is_running, next, open};
use crate::commands::{known_at_rest, name_of, print_json, read_file};
use crate::failure::{Failure, Outcome};
use crate::{place, processes, provide, show, unit};

/// How long ostler's own processes may take to come up. Reading a journal of millions of facts is the longest part.
const PROCESSES_UP_WITHIN: Duration = Duration::from_secs(60);
/// How long the keeper may take to answer.
const KEEPER_ANSWERS_WITHIN: Duration = Duration::from_secs(10);
/// Times that are left are told anew this often.
const SAID_EVERY: Duration = Duration::from_secs(1);

pub(crate) async fn up(arguments: &Up, common: &Common) -> Outcome<u8> {
    let file = read_file(&arguments.file)?;
    let name = name_of(&file)?;
    let home = place::of_estate(common, &name)?;
    if arguments.at_boot {
        let message = unit::write(&name, &arguments.file, &home)?;
        if common.json {
            print_json(&serde_json::json!({ "done": true, "message": message }));
        } else {
            anstream::println!("{message}");
        }
        return Ok(0);
    }
    if is_running(&home).await {
        let error = HomeError::InUse(home.folder().to_owned());
        return Err(Failure::of(format!("cannot bring `{name}` up"), &error, error.remedy()));
    }
    // A new estate's file is found wrong before anything is started for it.
    let is_new = !home.folder().join(ostler_journal::JOURNAL_FILE).exists();
    if is_new {
        let prepared = prepare_offline(file.clone(), &home).await?;
        prepared
            .check(&Knowledge::default(), clock::now())
            .map_err(|problems| Failure::from(server::wrong_files("cannot bring the estate up", &[problems])))?;
        if let Some(refused) = over_budget(&Knowledge::default(), &prepared, "cannot bring the estate up", clock::now())
        {
            return Err(refused.into());
        }
    }
    if let Some(id) = arguments.estate_id {
        let what = format!("cannot bring `{name}` up as {id}");
        if !is_new {
            let cause = format!("the home {} has an estate with an id of its own", home.folder().display());
            return Err(Failure::new(what, cause, "leave `--estate-id` out, or name a new home with `--home`"));
        }
        home.leave_estate_id(id).map_err(|error| Failure::of(what, &error, error.remedy()))?;
    }
    let progress = progress(common);
    progress.set_message("starting ostler");
    start_processes(&home, arguments.accept_lost_tail).await?;
    if let Err(failure) = ask(&home, &Request::Apply(file.clone())).await {
        progress.finish_and_clear();
        end_if_idle(&home).await;
        return Err(failure);
    }
    progress.finish_and_clear();
    let status = until(&home, common, arguments.within.get(), true, |status| status.settled).await?;
    if common.json {
        let mut value = serde_json::to_value(&status).expect("a status has only string keys");
        if let Some(door) = provide::open_door(&file, &home).await? {
            value["sells"] = door.as_json();
        }
        print_json(&value);
    } else {
        show_settled(&status, &home, common);
        if let Some(door) = provide::open_door(&file, &home).await? {
            anstream::print!("{}", door.in_words());
        }
    }
    if arguments.detach {
        return Ok(0);
    }
    stay(&home, common).await
}

/// The estate of a file with what its providers offer, without a running ostler.
pub(crate) async fn prepare_offline(file: EstateFile, home: &Home) -> Outcome<Prepared> {
    let providers = Arc::new(Providers::new(home.folder().to_owned(), Arc::new(NoKeeper)));
    prepare(file, &providers).await.map_err(|wrong| server::wrong_files("cannot read the estate file", &wrong).into())
}

async fn start_processes(home: &Home, accept_lost_tail: bool) -> Outcome {
    let what = "cannot start ostler";
    home.prepare().map_err(|error| Failure::of(what, &error, error.remedy()))?;
    drop(std::fs::remove_file(home.trouble()));
    let deadline = Instant::now() + PROCESSES_UP_WITHIN;
    let mut started = false;
    let mut keeper = loop {
        match Client::connect(&home.keeper_socket(), Role::Visitor, KEEPER_ANSWERS_WITHIN) {
            Ok(client) => break client,
            Err(error) if Instant::now() > deadline => {
                return Err(Failure::of(what, &error, format!("see {}", home.process_log("keeper").display())));
            }
            Err(_) if !started => {
                started = true;
                processes::start_keeper(home, accept_lost_tail, Path::new(processes::THIS_PROGRAM))
                    .map_err(|error| Failure::of(what, &error, "free some memory or processes"))?;
            }
            Err(_) => tokio::time::sleep(Duration::from_millis(2)).await,
        }
    };
    keeper
        .ask(Order::KeepUp { manager: true, gateway: true })
        .map_err(|error| Failure::of(what, &error, error.remedy()))?;
    loop {
        if is_running(home).await {
            return Ok(());
        }
        if let Some(failure) = processes::recorded_trouble(home) {
            // Services that still run go on; only what cannot work is not tried again and again.
            let _ = keeper.ask(Order::KeepUp { manager: false, gateway: true });
            let _ = keeper.ask(Order::Shutdown { leave_running: false });
            return Err(failure);
        }
        if Instant::now() > deadline {
            let log = home.process_log("manager");
            return Err(Failure::new(what, "its manager does not answer", format!("see {}", log.display())));
        }
        tokio::time::sleep(Duration::from_millis(3)).await;
    }
}

/// An ostler that was started for a file that it then refused has nothing to do.
async fn end_if_idle(home: &Home) {
    let Ok(Response::Status { status, .. }) = ask(home, &Request::Status).await else { return };
    if status.estate.is_none() || status.down {
        let Ok(mut line) = open(home, &Request::Down { delete_data: false }).await else { return };
        while let Ok(Some(Response::Status { .. })) = next(&mut line).await {}
    }
}

fn progress(common: &Common) -> ProgressBar {
    if common.json || !std::io::stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let bar = ProgressBar::new_spinner();
    let style = ProgressStyle::with_template("{spinner} {elapsed} {msg}").expect("the template is a constant");
    bar.set_style(style);
    bar.enable_steady_tick(Duration::from_millis(100));
    bar
}

/// Waits until everything is as declared, with a progress line, then shows the status.
pub(crate) async fn until_settled(home: &Home, common: &Common, within: Duration) -> Outcome {
    let status = until(home, common, within, true, |status| status.settled).await?;
    if common.json {
        print_json(&status);
    } else {
        show_settled(&status, home, common);
    }
    Ok(())
}

fn show_settled(status: &StatusView, home: &Home, common: &Common) {
    anstream::print!("{}", show::status(status, &[]));
    anstream::print!("{}", what_next(status, &this_command(home, common)));
}

/// The same without showing the status.
pub(crate) async fn until_settled_quietly(home: &Home, common: &Common, within: Duration) -> Outcome {
    until(home, common, within, false, |status| status.settled).await.map(drop)
}

/// Waits until the status is `enough`. With `or_held`, a service that waits for a person ends the waiting.
pub(crate) async fn until(
    home: &Home,
    common: &Common,
    within: Duration,
    or_held: bool,
    enough: impl Fn(&StatusView) -> bool,
) -> Outcome<StatusView> {
    let goes_on = "what was begun goes on by itself: `ostler status` shows how far it is, `ostler down` stops it";
    unless_interrupted(wait(home, common, within, or_held, show::progress, enough), goes_on).await
}

/// The same for whatever else is waited for, with words of its own for how far it is: one line or more.
pub(crate) async fn until_saying(
    home: &Home,
    common: &Common,
    within: Duration,
    say: impl Fn(&StatusView) -> String,
    enough: impl Fn(&StatusView) -> bool,
) -> Outcome<StatusView> {
    let goes_on = "what was begun goes on by itself: `ostler status` shows how far it is";
    unless_interrupted(wait(home, common, within, false, say, enough), goes_on).await
}

/// Ctrl-C ends the waiting, not what is waited for.
async fn unless_interrupted<T>(waiting: impl Future<Output = Outcome<T>>, goes_on: &str) -> Outcome<T> {
    tokio::select! {
        done = waiting => done,
        _ = tokio::signal::ctrl_c() => Err(Failure::new("stopped waiting", "Ctrl-C was pressed", goes_on)),
    }
}

async fn wait(
    home: &Home,
    common: &Common,
    within: Duration,
    or_held: bool,
    say: impl Fn(&StatusView) -> String,
    enough: impl Fn(&StatusView) -> bool,
) -> Outcome<StatusView> {
    let progress = progress(common);
    let deadline = Instant::now() + within;
    let mut last: Option<StatusView> = None;
    loop {
        let mut line = open(home, &Request::Watch).await?;
        loop {
            let mut received = std::pin::pin!(next(&mut line));
            let received = loop {
                let tick = (Instant::now() + SAID_EVERY).min(deadline);
                match tokio::time::timeout_at(tick, &mut received).await {
                    Ok(received) => break received,
                    Err(_) if Instant::now() >= deadline => {
                        progress.finish_and_clear();
                        return Err(late(within, last.as_ref()));
                    }
                    // Nothing has changed but how much time is left.
                    Err(_) => last.iter().for_each(|status| progress.set_message(say(status))),
                }
            };
            // A manager that dies meanwhile is brought back: go on with the next one.
            let Ok(Some(Response::Status { status, .. })) = received else { break };
            progress.set_message(say(&status));
            if enough(&status) {
                progress.finish_and_clear();
                return Ok(*status);
            }
            if or_held && let Some(failure) = held(&status) {
                progress.finish_and_clear();
                return Err(failure);
            }
            last = Some(*status);
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

fn held(status: &StatusView) -> Option<Failure> {
    let instances = status.services.iter().flat_map(|service| &service.instances);
    let held = instances.into_iter().find(|instance| instance.state == State::Held)?;
    let cause = held.because.clone().unwrap_or_default();
    let answer = held.answer.clone().unwrap_or_else(|| "see `ostler status`".to_owned());
    Some(Failure::new(format!("{} waits for a person", held.id), cause, answer))
}

fn late(within: Duration, status: Option<&StatusView>) -> Failure {
    let troubles = status.into_iter().flat_map(|status| &status.services).flat_map(|service| &service.troubles);
    let troubles: Vec<&str> = troubles.map(String::as_str).collect();
    let far = status.map_or_else(|| "nothing was heard of it".to_owned(), show::how_far);
    let seen = if troubles.is_empty() { far } else { format!("{far}; {}", troubles.join("; ")) };
    Failure::new(
        format!("not everything is as declared after {}", ostler_model::time::in_words(within)),
        seen,
        "it goes on by itself: `ostler status` shows how far it is, `ostler why SERVICE` what is in the way",
    )
}

/// How this program is to be called about this home from here: it may not be on the PATH, and the home one of several.
fn this_command(home: &Home, common: &Common) -> String {
    let program =
        std::env::args_os().next().map_or_else(|| "ostler".into(), |name| name.to_string_lossy().into_owned());
    let unnamed = Common { home: std::env::var_os("OSTLER_HOME").map(Into::into), ..common.clone() };
    let found_unnamed = place::of_command(&unnamed).is_ok_and(|found| found.folder() == home.folder());
    if found_unnamed { program } else { format!("{program} --home {}", home.folder().display()) }
}

fn what_next(status: &StatusView, ostler: &str) -> String {
    let ready = || status.services.iter().filter(|service| service.state == State::Ready);
    let shown = ready().find(|service| service.instances.len() > 1).or_else(|| ready().next());
    let mut tries: Vec<(String, String)> = Vec::new();
    if let Some(service) = shown {
        if let (Some(endpoint), true) = (service.endpoint, service.offering.as_str() == "program") {
            tries.push((format!("curl http://{endpoint}/"), format!("talk to {}", service.name)));
        }
        if let Some(pid) = service.instances.first().and_then(|instance| instance.pid) {
            tries.push((format!("kill -9 {pid}; {ostler} why {}", service.name), "see it healed, and how".to_owned()));
        }
    }
    tries.push((format!("{ostler} status --watch"), "watch it".to_owned()));
    tries.push((format!("{ostler} down"), "stop it; data stays".to_owned()));
    let width = tries.iter().map(|(command, _)| command.len()).max().unwrap_or(0);
    let mut out = String::from("\nTry next\n");
    for (command, what) in tries {
        out.push_str(&format!("  {command:<width$}  {what}\n"));
    }
    out
}

/// Stays and watches until Ctrl-C, then asks whether to stop or to leave everything running.
async fn stay(home: &Home, common: &Common) -> Outcome<u8> {
    if !common.json {
        anstream::println!(
            "\nOstler looks after it. What you try next goes into another terminal; Ctrl-C ends this view."
        );
    }
    let mut last = None;
    loop {
        tokio::select! {
            _ = tokio::signal::ctrl_c() => return leave_or_stop(home, common).await,
            changed = next_change(home, &mut last) => match changed {
                Some(line) if common.json => print_json(&serde_json::json!({ "message": line })),
                Some(line) => anstream::println!("{line}"),
                None => return ended_elsewhere(home, common).await,
            },
        }
    }
}

/// Somebody stopped it; or all of its processes are gone, which nobody wanted.
async fn ended_elsewhere(home: &Home, common: &Common) -> Outcome<u8> {
    wait_for_end(home).await;
    if known_at_rest(home)?.down {
        if !common.json {
            anstream::println!("Everything was stopped from elsewhere. Data stays; `ostler up` starts it again.");
        }
        return Ok(0);
    }
    Err(Failure::new(
        "ostler has ended",
        "all of its processes are gone, and nobody asked for that",
        "start it again with `ostler up FILE`: it finds what still runs, and goes on",
    ))
}

/// Waits for a service's state to change, and says so; `None` once ostler has ended.
async fn next_change(home: &Home, last: &mut Option<StatusView>) -> Option<String> {
    loop {
        let mut line = open(home, &Request::Watch).await.ok()?;
        while let Ok(Some(Response::Status { status, .. })) = next(&mut line).await {
            let former = last.replace((*status).clone());
            let Some(former) = former else { continue };
            let changed: Vec<String> = status
                .services
                .iter()
                .filter(|service| {
                    former.services.iter().find(|f| f.name == service.name).is_none_or(|f| f.state != service.state)
                })
                .map(|service| format!("{} is {}", service.name, service.state))
                .collect();
            if !changed.is_empty() {
                return Some(changed.join("; "));
            }
        }
    }
}

async fn leave_or_stop(home: &Home, common: &Common) -> Outcome<u8> {
    let asks = !common.json && std::io::stdin().is_terminal();
    if asks {
        anstream::eprint!("\nStop everything (s), or leave it running (Enter)? ");
        let answer = tokio::task::spawn_blocking(|| {
            let mut answer = String::new();
            let _ = std::io::stdin().read_line(&mut answer); // no answer means: leave it running
            answer
        });
        if let Ok(answer) = answer.await
            && matches!(answer.trim(), "s" | "S" | "stop")
        {
            down(home, common, false).await?;
            return Ok(0);
        }
    }
    if !common.json {
        anstream::println!("Everything runs on. `ostler status` shows it, `ostler down` stops it.");
    }
    Ok(0)
}

/// Whoever says `up` next must not meet a process that is just going. One that does not go is the next one's to see.
async fn wait_for_end(home: &Home) {
    let deadline = Instant::now() + KEEPER_ANSWERS_WITHIN;
    let is_there = || home.is_locked() || ostler_keeper::wire::connect(&home.keeper_socket()).is_ok();
    while is_there() && Instant::now() < deadline {
        tokio::time::sleep(Duration::from_millis(3)).await;
    }
}

/// Stops everything, with a progress line.
pub(crate) async fn down(home: &Home, common: &Common, delete_data: bool) -> Outcome {
    unless_interrupted(stop(home, common, delete_data), "what was begun goes on: say `ostler down` again to finish")
        .await
}

async fn stop(home: &Home, common: &Common, delete_data: bool) -> Outcome {
    let progress = progress(common);
    let mut line = open(home, &Request::Down { delete_data }).await?;
    loop {
        match next(&mut line).await? {
            Some(Response::Status { status, .. }) => progress.set_message(show::progress(&status)),
            Some(Response::Bye) => break,
            Some(_) | None => return Err(cut_off()),
        }
    }
    progress.set_message("ending ostler itself");
    wait_for_end(home).await;
    progress.finish_and_clear();
    let data = if delete_data { "The data is deleted." } else { "Data stays; `ostler up` starts it again." };
    if common.json {
        print_json(&serde_json::json!({ "stopped": true, "data_deleted": delete_data }));
    } else {
        anstream::println!("Everything is stopped. {data}");
    }
    Ok(())
}
