//! Every command but `up` and `logs`.

use std::io::{IsTerminal, Write};
use std::path::Path;
use std::time::Duration;

use ostler_journal::{OpenOptions, Sqlite, home};
use ostler_manager::{Ask, Knowledge, Settlement};
use ostler_model::ids::ServiceName;
use ostler_model::time::Timestamp;
use ostler_runtime::control::{EstateFile, FactQuery, Request, Response};
use ostler_runtime::home::Home;
use ostler_runtime::preview::preview;
use ostler_runtime::{clock, server, turn, why};

use crate::args::{Adopt, Command, Common, HomeCommand, How, Journal, ProviderCommand, Settle};
use crate::client::{ask, cut_off, is_running, next, open};
use crate::failure::{EXIT_CHANGES, Failure, Outcome};
use crate::{
    audit, backups, books, credits, drill, failover, logs, overrides, own, place, provide, provider, scorecard,
    self_upgrade, show, simulate, up, upgrade, verify,
};

/// How long a change that was asked for is waited for by default.
const DONE_WITHIN: Duration = Duration::from_secs(300);

/// Carries out a command and gives its exit code.
pub(crate) async fn run(command: Command, common: &Common) -> Outcome<u8> {
    match command {
        Command::Up(arguments) => return up::up(&arguments, common).await,
        Command::Provide(arguments) => return provide::provide(&arguments, common).await,
        Command::Preview(arguments) => return preview_file(&arguments.file, common).await,
        Command::Provider(ProviderCommand::Check(arguments)) => return provider::check(&arguments, common).await,
        Command::Simulate(arguments) => simulate::simulate(&arguments, common).await?,
        Command::Apply(arguments) => {
            let file = read_file(&arguments.file)?;
            // Read here first, so that a wrong file is told as such whether ostler runs or not.
            let name = name_of(&file)?;
            let home = place::of_command(common).or_else(|_| place::of_estate(common, &name))?;
            ask(&home, &Request::Apply(file)).await?;
            if arguments.no_wait {
                say(common, "Accepted; `ostler status` shows how far it is.");
            } else {
                up::until_settled(&home, common, arguments.within.get()).await?;
            }
        }
        Command::Scorecard(arguments) => scorecard::show(&arguments, common).await?,
        Command::Credits(arguments) => credits::credits(arguments, common).await?,
        Command::Books(arguments) => books::show(&arguments, common).await?,
        Command::OwnOrBuy(arguments) => own::own_or_buy(&arguments, common).await?,
        Command::Override(command) => overrides::override_it(command, common).await?,
        Command::Overrides(arguments) => overrides::show(&arguments, common).await?,
        Command::Status(arguments) => status(common, arguments.watch).await?,
        Command::Verify(arguments) => return verify::verify(common, arguments.service).await,
        Command::Why(arguments) => explain(common, arguments.service).await?,
        Command::Journal(arguments) => journal(common, arguments).await?,
        Command::Audit(command) => return audit::audit(command, common).await,
        Command::Logs(arguments) => logs::show(&place::of_command(common)?, &arguments, common).await?,
        Command::Restart(arguments) => order(common, Ask::Restart { service: arguments.service }).await?,
        Command::Scale(arguments) => {
            let (service, instances) = arguments.service;
            order(common, Ask::Scale { service, instances }).await?;
        }
        Command::Backup(arguments) => backups::back_up(common, arguments).await?,
        Command::Prove(arguments) => backups::prove(common, arguments.service, arguments.backup).await?,
        Command::Restore(arguments) => {
            backups::restore(common, arguments.service, arguments.backup, arguments.yes).await?;
        }
        Command::Upgrade(arguments) => upgrade::upgrade(arguments, common).await?,
        Command::Rollback(arguments) => upgrade::roll_back(arguments, common).await?,
        Command::Failover(arguments) => failover::fail_over(arguments, common).await?,
        Command::Discard(arguments) => failover::discard(arguments, common).await?,
        Command::Drill(arguments) => return drill::drill(arguments, common).await,
        Command::Adopt(Adopt { service, provider, instance_id }) => {
            order(common, Ask::Adopt { service, provider, name: instance_id }).await?;
        }
        Command::Release(arguments) => release(common, arguments.service, arguments.yes).await?,
        Command::Settle(arguments) => settle(common, arguments).await?,
        Command::Down(arguments) => match arguments.service {
            Some(service) => delete(common, service, arguments.yes).await?,
            None => down(common, arguments.delete_data, arguments.yes).await?,
        },
        Command::Home(command) => home_command(common, command).await?,
        Command::SelfUpgrade(arguments) => self_upgrade::self_upgrade(arguments, common).await?,
        Command::Process(_) => unreachable!("processes are not commands of people: main sees to them"),
    }
    Ok(0)
}

pub(crate) fn print_json(value: &impl serde::Serialize) {
    let text = serde_json::to_string(value).expect("what commands print has only string keys");
    anstream::println!("{text}");
}

pub(crate) fn say(common: &Common, words: &str) {
    if common.json {
        print_json(&serde_json::json!({ "done": true, "message": words }));
    } else {
        anstream::println!("{words}");
    }
}

/// The text of an estate file, and the folder it lies in.
pub(crate) fn read_file(path: &Path) -> Outcome<EstateFile> {
    let what = format!("cannot read the estate file {}", path.display());
    let text = std::fs::read_to_string(path).map_err(|error| {
        Failure::of(
            &what,
            &error,
            "name the file, as in `ostler up shop/ostler.toml`; the default is `ostler.toml` here",
        )
    })?;
    let full = std::fs::canonicalize(path).map_err(|error| Failure::of(&what, &error, "check the path"))?;
    let folder = full.parent().unwrap_or(Path::new("/")).to_owned();
    Ok(EstateFile { file: path.display().to_string(), folder, text })
}

/// The estate's name in a file.
pub(crate) fn name_of(file: &EstateFile) -> Outcome<String> {
    match ostler_model::estate::parse(&file.file, &file.folder, &file.text) {
        Ok(parsed) => Ok(parsed.estate.name.to_string()),
        Err(problems) => Err(server::wrong_files("cannot read the estate file", &[problems]).into()),
    }
}

async fn preview_file(path: &Path, common: &Common) -> Outcome<u8> {
    let file = read_file(path)?;
    let home = place::of_estate(common, &name_of(&file)?)?;
    let shown = if is_running(&home).await {
        match ask(&home, &Request::Preview(file)).await? {
            Response::Preview(preview) => *preview,
            _ => return Err(cut_off()),
        }
    } else {
        let known = known_at_rest(&home)?;
        let prepared = up::prepare_offline(file, &home).await?;
        prepared
            .check(&known, clock::now())
            .map_err(|problems| Failure::from(server::wrong_files("cannot preview the estate file", &[problems])))?;
        preview(&known, &prepared, clock::now())
    };
    if common.json {
        print_json(&shown);
    } else {
        anstream::print!("{}", show::preview(&shown));
    }
    Ok(if shown.is_empty() { 0 } else { EXIT_CHANGES })
}

/// What a stopped ostler knows.
pub(crate) fn known_at_rest(home: &Home) -> Outcome<Knowledge> {
    Ok(known_and_journal_at_rest(home)?.map_or_else(Knowledge::default, |(known, _)| known))
}

/// What a stopped ostler knows, and its journal; `None` if there is none.
pub(crate) fn known_and_journal_at_rest(home: &Home) -> Outcome<Option<(Knowledge, Sqlite)>> {
    Ok(recalled_at_rest(home)?.map(|(known, journal)| (known.knowledge, journal)))
}

/// Everything that a stopped ostler has folded, and its journal; `None` if there is none.
pub(crate) fn recalled_at_rest(home: &Home) -> Outcome<Option<(turn::Known, Sqlite)>> {
    if !home.folder().join(ostler_journal::JOURNAL_FILE).exists() {
        return Ok(None);
    }
    let _lock = home.lock().map_err(|error| Failure::of("cannot read the journal", &error, error.remedy()))?;
    let journal = open_at_rest(home)?;
    let (known, _) =
        turn::recall(&journal).map_err(|error| Failure::of("cannot read the journal", &error, error.remedy()))?;
    Ok(Some((known, journal)))
}

fn open_at_rest(home: &Home) -> Outcome<Sqlite> {
    let key = std::env::var("OSTLER_KEY").ok().map(zeroize::Zeroizing::new);
    let opened = Sqlite::open(home.folder(), &OpenOptions { key, accept_lost_tail: false })
        .map_err(|error| Failure::of("cannot read the journal", &error, error.remedy()))?;
    Ok(opened.journal)
}

async fn status(common: &Common, watch: bool) -> Outcome {
    let home = place::of_command(common)?;
    if !watch {
        let response = ask(&home, &Request::Status).await?;
        let builds = self_upgrade::Builds::of(&home);
        return if print_status(common, &response, builds.as_ref()) { Ok(()) } else { Err(cut_off()) };
    }
    loop {
        // A manager that dies while somebody watches is brought back; so is the view of it.
        let mut line = open(&home, &Request::Watch).await?;
        while let Ok(Some(response @ Response::Status { .. })) = next(&mut line).await {
            if !common.json && std::io::stdout().is_terminal() {
                anstream::print!("\x1b[H\x1b[2J");
            }
            print_status(common, &response, None);
        }
    }
}

/// Whether it was one.
fn print_status(common: &Common, response: &Response, builds: Option<&self_upgrade::Builds>) -> bool {
    let Response::Status { status, troubles, reminders, limits, sells } = response else { return false };
    if common.json {
        let mut value = serde_json::to_value(status).expect("a status has only string keys");
        if !troubles.is_empty() {
            value["troubles"] = troubles.as_slice().into();
        }
        if !reminders.is_empty() {
            value["reminders"] = reminders.as_slice().into();
        }
        if let Some(limits) = limits {
            value["limits"] = limits.as_str().into();
        }
        if let Some(builds) = builds {
            value["ostler"] = builds.in_json();
        }
        match sells {
            Some(Ok(url)) => value["sells"] = serde_json::json!({ "url": url }),
            Some(Err(why)) => value["sells"] = serde_json::json!({ "trouble": why }),
            None => {}
        }
        print_json(&value);
    } else {
        anstream::print!("{}", show::status(status, troubles));
        reminders.iter().for_each(|reminder| anstream::println!("\n{reminder}"));
        if let Some(limits) = limits {
            anstream::println!("\n{limits}");
        }
        if let Some(words) = builds.and_then(self_upgrade::Builds::in_words) {
            anstream::println!("\n{words}");
        }
        match sells {
            Some(Ok(url)) => anstream::println!("\nOthers can buy at {url}."),
            Some(Err(why)) => anstream::println!("\nNothing can be sold: {why}."),
            None => {}
        }
    }
    let _ = std::io::stdout().flush(); // a reader that is gone ends the command at its next write
    true
}

async fn explain(common: &Common, service: ServiceName) -> Outcome {
    let home = place::of_command(common)?;
    let Response::Why(report) = ask(&home, &Request::Why { service }).await? else { return Err(cut_off()) };
    if common.json {
        print_json(&report);
    } else {
        anstream::print!("{}", why::in_words_of(&report));
    }
    Ok(())
}

async fn journal(common: &Common, arguments: Journal) -> Outcome {
    let home = place::of_command(common)?;
    let running = is_running(&home).await;
    if arguments.verify {
        return verify(common, &home, running);
    }
    let query = FactQuery { service: arguments.service, kind: arguments.kind, most: arguments.lines as usize };
    let facts = if running {
        match ask(&home, &Request::Facts(query)).await? {
            Response::Facts(facts) => facts,
            _ => return Err(cut_off()),
        }
    } else {
        let _lock = home.lock().map_err(|error| Failure::of("cannot read the journal", &error, error.remedy()))?;
        server::select(&open_at_rest(&home)?, &query)?
    };
    if common.json {
        print_json(&facts);
        return Ok(());
    }
    if facts.is_empty() {
        anstream::eprintln!("No fact is of this kind and of this service.");
    }
    for fact in facts {
        anstream::println!("{:>8}  {}  {}", fact.position, shown_time(&fact.at), fact.words);
    }
    Ok(())
}

fn shown_time(at: &str) -> String {
    Timestamp::parse(at).map_or_else(|| at.to_owned(), Timestamp::to_millis)
}

fn verify(common: &Common, home: &Home, running: bool) -> Outcome {
    let what = "cannot verify the journal";
    if running {
        return Err(Failure::new(
            what,
            "ostler is running",
            "stop it with `ostler down`, or verify a copy made by `ostler home backup`",
        ));
    }
    let _lock = home.lock().map_err(|error| Failure::of(what, &error, error.remedy()))?;
    let verified = open_at_rest(home)?.verify().map_err(|error| Failure::of(what, &error, error.remedy()))?;
    if !verified.secrets_damaged.is_empty() {
        let names: Vec<&str> = verified.secrets_damaged.iter().map(|id| id.as_str()).collect();
        return Err(Failure::new(
            "not all secrets are as they were written",
            format!("these do not open: {}", names.join(", ")),
            "restore a backup of the home (`ostler home restore`)",
        ));
    }
    let facts = verified.archived + verified.stored;
    if common.json {
        print_json(&serde_json::json!({ "sound": true, "facts": facts, "secrets": verified.secrets }));
    } else {
        anstream::println!("All {facts} facts and {} secrets are as they were written.", verified.secrets);
    }
    Ok(())
}

/// Orders something and waits until the estate is settled again.
async fn order(common: &Common, what: Ask) -> Outcome {
    let home = place::of_command(common)?;
    ask(&home, &Request::Ask(what)).await?;
    up::until_settled(&home, common, DONE_WITHIN).await
}

pub(crate) async fn service_view(home: &Home, service: &ServiceName) -> Outcome<ostler_manager::ServiceView> {
    let Response::Status { status, .. } = ask(home, &Request::Status).await? else { return Err(cut_off()) };
    if let Some(view) = status.services.iter().find(|view| view.name == *service) {
        return Ok(view.clone());
    }
    let names: Vec<&str> = status.services.iter().map(|service| service.name.as_str()).collect();
    let remedy = server::services_are(service, &names);
    Err(Failure::new(format!("cannot find `{service}`"), "there is no such service", remedy))
}

async fn release(common: &Common, service: ServiceName, yes: bool) -> Outcome {
    let home = place::of_command(common)?;
    let view = service_view(&home, &service).await?;
    let provider = show::or_dash(view.provider.as_ref());
    let question = format!("Leave {service} to {provider}? It goes on charging for it, and ostler forgets it.");
    confirm(yes, common, &question)?;
    ask(&home, &Request::Ask(Ask::Release { service: service.clone() })).await?;
    up::until(&home, common, DONE_WITHIN, false, move |status| {
        status.services.iter().all(|view| view.name != service || view.instances.is_empty())
    })
    .await?;
    say(common, "Released.");
    Ok(())
}

async fn settle(common: &Common, Settle { leftover, how, yes }: Settle) -> Outcome {
    let (how, question) = match how {
        How::Delete => (Settlement::Delete, format!("Delete {leftover} at its provider, with whatever data it has?")),
        How::Release => (
            Settlement::Release,
            format!(
                "Forget {leftover}? If it is there, its provider goes on charging for it, and ostler does not know."
            ),
        ),
    };
    confirm(yes, common, &question)?;
    order(common, Ask::Settle { leftover, how }).await
}

async fn delete(common: &Common, service: ServiceName, yes: bool) -> Outcome {
    let home = place::of_command(common)?;
    let view = service_view(&home, &service).await?;
    let instances: Vec<String> = view.instances.iter().map(|instance| instance.id.to_string()).collect();
    let sold = view.sold.as_ref().map_or_else(String::new, |sold| format!(", which was sold to {}", sold.to));
    confirm(yes, common, &format!("Delete {service}{sold}, for good, with the data of {}?", instances.join(", ")))?;
    ask(&home, &Request::Ask(Ask::Delete { service: service.clone() })).await?;
    up::until(&home, common, DONE_WITHIN, false, move |status| {
        status.services.iter().all(|view| view.name != service || view.instances.is_empty())
    })
    .await?;
    say(common, "Deleted.");
    Ok(())
}

/// Asks on a terminal; elsewhere a script has to say `--yes`.
pub(crate) fn confirm(yes: bool, common: &Common, question: &str) -> Outcome {
    if yes {
        return Ok(());
    }
    if common.json || !std::io::stdin().is_terminal() {
        return Err(Failure::new("cannot go on without a confirmation", question, "say `--yes`"));
    }
    anstream::eprint!("{question} [y/N] ");
    let mut answer = String::new();
    let read = std::io::stdin().read_line(&mut answer);
    if read.is_ok() && matches!(answer.trim(), "y" | "Y" | "yes") {
        Ok(())
    } else {
        Err(Failure::new("nothing was done", "it was not confirmed", "answer `y`, or say `--yes`"))
    }
}

async fn down(common: &Common, delete_data: bool, yes: bool) -> Outcome {
    let home = place::of_command(common)?;
    if delete_data {
        let sold = sold_to_others(&home).await;
        let but = if sold > 0 { " What others bought is only stopped." } else { "" };
        confirm(yes, common, &format!("Stop everything and delete the data of every service, for good?{but}"))?;
    } else if sold_to_others(&home).await > 0 {
        confirm(yes, common, "Stop everything, also what others bought from this estate?")?;
    }
    up::down(&home, common, delete_data).await
}

/// How many services others bought; none if nobody answers.
async fn sold_to_others(home: &Home) -> usize {
    match ask(home, &Request::Status).await {
        Ok(Response::Status { status, .. }) => {
            status.services.iter().filter(|service| service.sold.is_some() && !service.instances.is_empty()).count()
        }
        _ => 0,
    }
}

async fn home_command(common: &Common, command: HomeCommand) -> Outcome {
    match command {
        HomeCommand::Backup { to, with_key } => {
            let (home, to) = (place::of_command(common)?, place::absolute(&to));
            let facts = if is_running(&home).await {
                match ask(&home, &Request::BackUpHome { to: to.clone(), with_key }).await? {
                    Response::HomeBackedUp { facts } => facts,
                    _ => return Err(cut_off()),
                }
            } else {
                let key = if with_key { home::KeyInBackup::Included } else { home::KeyInBackup::LeftOut };
                let made = home::backup(home.folder(), &to, clock::now(), key)
                    .map_err(|error| Failure::of("cannot back up the home", &error, error.remedy()))?;
                made.end.0
            };
            let key = if with_key { "" } else { " The key is not in it: keep `key` from the home elsewhere." };
            say(common, &format!("{} holds all {facts} facts and the sealed secrets.{key}", to.display()));
        }
        HomeCommand::Restore { from } => {
            let Some(folder) = &common.home else {
                return Err(Failure::new(
                    "cannot restore a home",
                    "no home is named",
                    "name the folder to make with `--home DIR`",
                ));
            };
            let made = home::restore(&place::absolute(&from), &place::absolute(folder))
                .map_err(|error| Failure::of("cannot restore the home", &error, error.remedy()))?;
            say(
                common,
                &format!("{} has all {} facts. `ostler up FILE` goes on from there.", folder.display(), made.end),
            );
        }
    }
    Ok(())
}
