//! `ostler audit`: proofs of what was recorded, and whether a journal still holds it.

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};
use indicatif::{ProgressBar, ProgressStyle};
use ostler_journal::Reader;
use ostler_model::ids::{Position, ServiceName};
use ostler_model::month::Month;
use ostler_runtime::audit::check::{self, NotSound, Sound};
use ostler_runtime::audit::note::{self, Checkpoint, PublicKey};
use ostler_runtime::audit::proof::{self, Proven};
use ostler_runtime::audit::{follow, keep, report};
use ostler_runtime::control::{FactQuery, Request, Response};
use ostler_runtime::home::Home;
use ostler_runtime::{clock, envelope, history, server};

use crate::args::Common;
use crate::client::{ask, cut_off, is_running};
use crate::commands::{print_json, recalled_at_rest};
use crate::failure::{EXIT_CHANGES, EXIT_FAILURE, Failure, Outcome};
use crate::place;

#[derive(Debug, Subcommand)]
pub(crate) enum AuditCommand {
    /// Check that the whole journal is what was recorded and signed, running or not; or check a proof or a checkpoint,
    /// with nothing but its file and the public key (exit code 0: it is; 2: it is, but is not vouched for as declared)
    Verify(Verify),
    /// Prove that facts were recorded: a file that anybody can check
    Prove(Prove),
    /// Sign the facts as they are now and print the checkpoint, for somebody else to keep
    Checkpoint(SignNow),
    /// Show a month of what was decided, as a page of Markdown
    Report(Report),
}

#[derive(Debug, Args)]
pub(crate) struct Verify {
    /// A proof or a checkpoint [default: the whole journal of the home]
    pub file: Option<PathBuf>,
    /// The public key that must have signed: hexadecimal digits, NAME+ID+KEY, or a file that holds it [default: the one
    /// in the home]
    #[arg(long, value_name = "KEY|FILE")]
    pub key: Option<String>,
    /// Also compare with this checkpoint that somebody else has kept, or with all in this folder; may be given several
    /// times
    #[arg(long, value_name = "FILE|DIR")]
    pub checkpoint: Vec<PathBuf>,
}

#[derive(Debug, Args)]
pub(crate) struct Prove {
    /// Facts by their numbers, as `ostler journal` shows them, or all newest ones of services
    #[arg(required = true, value_name = "FACT|SERVICE")]
    pub what: Vec<String>,
    /// Write the proof to this file [default: standard output]
    #[arg(long, value_name = "FILE")]
    pub to: Option<PathBuf>,
    /// Of each service at most so many
    #[arg(short = 'n', long, default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub lines: u32,
}

#[derive(Debug, Args)]
pub(crate) struct SignNow {
    /// Also prove that it goes on from this older checkpoint
    #[arg(long, value_name = "FILE")]
    pub since: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub(crate) struct Report {
    /// Which month, as in 2026-11 [default: this one]
    #[arg(long, value_name = "YEAR-MONTH")]
    pub month: Option<Month>,
}

pub(crate) async fn audit(command: AuditCommand, common: &Common) -> Outcome<u8> {
    match command {
        AuditCommand::Verify(arguments) => match &arguments.file {
            Some(file) => verify_file(file, &arguments, common),
            None => verify_journal(&arguments, common),
        },
        AuditCommand::Prove(arguments) => prove(&arguments, common).await,
        AuditCommand::Checkpoint(arguments) => checkpoint(&arguments, common).await,
        AuditCommand::Report(arguments) => month(arguments.month, common),
    }
}

/// How far something is that reads the whole journal.
fn bar(common: &Common) -> ProgressBar {
    if common.json {
        return ProgressBar::hidden();
    }
    let style = ProgressStyle::with_template("{wide_bar} {pos} of {len} facts, {eta} left");
    let bar = ProgressBar::new(0); // which shows itself on a terminal only
    if let Ok(style) = style { bar.with_style(style) } else { bar }
}

fn tell(bar: &ProgressBar) -> impl FnMut(u64, u64) + '_ {
    |done, of| {
        bar.set_length(of);
        bar.set_position(done);
    }
}

fn verify_journal(arguments: &Verify, common: &Common) -> Outcome<u8> {
    let home = place::of_command(common)?;
    if !home.folder().join(ostler_journal::JOURNAL_FILE).exists() {
        return Err(no_journal(&home));
    }
    let key = arguments.key.as_deref().map(key_from).transpose()?;
    let checkpoints = arguments.checkpoint.iter().map(|path| place::absolute(path)).collect();
    let progress = bar(common);
    let checked = check::check(home.folder(), &check::Asked { key, checkpoints }, &mut tell(&progress));
    progress.finish_and_clear();
    match checked {
        Ok(sound) => {
            if common.json {
                let mut value = serde_json::to_value(&sound).expect("what was found has only string keys");
                value["sound"] = true.into();
                print_json(&value);
            } else {
                anstream::print!("{}", in_words(&sound));
            }
            Ok(if sound.is_whole() { 0 } else { EXIT_CHANGES })
        }
        Err(error) => not_sound(&home, &error, common),
    }
}

/// What is wrong with a journal; scripts are also told with which fact it begins.
fn not_sound(home: &Home, error: &NotSound, common: &Common) -> Outcome<u8> {
    let what = format!("the journal of {} is not what was recorded", home.folder().display());
    let what = if error.first_bad().is_some() { what } else { "cannot verify the journal".to_owned() };
    let failure = Failure::of(what, error, error.remedy());
    if !common.json {
        return Err(failure);
    }
    let mut value = failure.in_json();
    value["sound"] = false.into();
    value["first_bad"] = error.first_bad().into();
    print_json(&value);
    Ok(EXIT_FAILURE)
}

fn in_words(sound: &Sound) -> String {
    let mut text = format!("All {} facts are as they were recorded.\n", sound.facts);
    let mut line = |name: &str, words: String| text.push_str(&format!("  {name:<10}{words}\n"));
    if let Some(key) = &sound.key
        && sound.checkpoints > 0
    {
        let newest = sound.facts - sound.signed;
        let but = if newest > 0 { format!("; the newest {newest} are not signed yet") } else { String::new() };
        line(
            "signed",
            format!("{} of them, in {}{but}", sound.signed, history::counted(sound.checkpoints, "checkpoint")),
        );
        line("key", key.clone());
    }
    if let Some(witnessed) = sound.witnessed {
        line("witnessed", format!("{witnessed} of them, elsewhere"));
    }
    line("root", sound.root.clone());
    if !sound.lost.is_empty() {
        let sizes: Vec<String> = sound.lost.iter().map(u64::to_string).collect();
        text.push_str(&format!(
            "But facts were lost once, and a person accepted that: see `ostler journal --kind loss-accepted`. \
             The checkpoints of {} facts are of what was lost.\n",
            sizes.join(", ")
        ));
    }
    for lack in &sound.lacks {
        text.push_str(&format!("But {lack}.\n"));
    }
    text
}

/// A public key, or a file that holds one.
fn key_from(text: &str) -> Outcome<PublicKey> {
    let what = "cannot use the public key";
    let read = match Path::new(text).is_file() {
        true => keep::read(Path::new(text)).map_err(|error| Failure::of(what, &error, "check the path"))?,
        false => text.to_owned(),
    };
    read.parse().map_err(|error: String| Failure::new(what, error, "it is in `checkpoints/key.txt` of the home"))
}

/// The key that was named, or that of the home.
fn key_or_home(arguments: &Verify, common: &Common) -> Outcome<PublicKey> {
    match &arguments.key {
        Some(key) => key_from(key),
        None => {
            let missing = |cause: String| {
                Failure::new("cannot verify without a public key", cause, "name the key, or its file, with `--key`")
            };
            let home = place::of_command(common).map_err(|_| missing("no home is named that holds one".to_owned()))?;
            check::key_of(home.folder()).map_err(|error| missing(error.to_string()))
        }
    }
}

fn verify_file(path: &Path, arguments: &Verify, common: &Common) -> Outcome<u8> {
    let what = format!("cannot accept {}", path.display());
    let text =
        read_bounded(path).map_err(|error| Failure::of(&what, &error, "name the file of a proof or a checkpoint"))?;
    let key = key_or_home(arguments, common)?;
    let again = "ask for it again where it was made; it proves nothing as it is";
    let fail = |error: &dyn std::error::Error| Failure::of(&what, error, again);
    let others = &arguments.checkpoint;
    if proof::is_proof(&text) {
        if !others.is_empty() {
            let remedy = "leave out `--checkpoint`";
            return Err(Failure::new(what, "a proof brings its own checkpoint", remedy));
        }
        show_proven(&proof::read(&text, &key).map_err(|error| fail(&error))?, &key, common);
        return Ok(0);
    }
    let checkpoint = match (proof::is_goes_on(&text), others.as_slice()) {
        (true, [old]) => {
            let old_text = read_bounded(old).map_err(|error| fail(&error))?;
            let old = note::read(&old_text, &key).map_err(|error| fail(&error))?;
            proof::read_goes_on(&text, &old, &key).map_err(|error| fail(&error))?
        }
        (true, _) => {
            let remedy = "name it with `--checkpoint FILE`, once";
            return Err(Failure::new(what, "it is a proof that a checkpoint goes on from another", remedy));
        }
        (false, []) => note::read(&text, &key).map_err(|error| fail(&error))?,
        (false, _) => {
            let remedy = "compare with a whole journal, or with what `ostler audit checkpoint --since` has printed";
            return Err(Failure::new(what, "two checkpoints alone do not show that they are of one past", remedy));
        }
    };
    show_checkpoint(&checkpoint, !others.is_empty(), &key, common);
    Ok(0)
}

fn show_proven(proven: &[Proven], key: &PublicKey, common: &Common) {
    let view = |proven: &Proven| {
        let fact = envelope::read(&proven.record).ok().flatten();
        fact.map(|fact| history::view(proven.record.position.0, &fact))
    };
    if common.json {
        let facts: Vec<serde_json::Value> = proven
            .iter()
            .map(|proven| {
                serde_json::json!({
                    "position": proven.record.position, "at": proven.record.at.to_string(), "kind": proven.record.kind,
                    "origin": proven.checkpoint.origin.to_string(), "size": proven.checkpoint.head.size,
                    "fact": view(proven).map(|view| view.fact),
                })
            })
            .collect();
        return print_json(&serde_json::json!({ "proven": facts, "key": key.to_hex() }));
    }
    for proven in proven {
        // What a newer build has recorded is proven all the same.
        let words = view(proven).map_or_else(|| proven.record.kind.clone(), |view| view.words);
        anstream::println!("{:>8}  {}  {words}", proven.record.position, proven.record.at.to_millis());
    }
    if let Some(Proven { checkpoint, .. }) = proven.first() {
        let Checkpoint { origin, head } = checkpoint;
        let these = if proven.len() == 1 { "This is" } else { "These are" };
        anstream::println!("{these} among the first {} facts of the estate {}.", head.size, origin.estate);
    }
    anstream::println!("  signed with key {}", key.to_hex());
}

fn show_checkpoint(checkpoint: &Checkpoint, goes_on: bool, key: &PublicKey, common: &Common) {
    let Checkpoint { origin, head } = checkpoint;
    if common.json {
        let value = serde_json::json!({
            "origin": origin.to_string(), "size": head.size, "goes_on": goes_on, "key": key.to_hex(),
        });
        return print_json(&value);
    }
    let goes_on = if goes_on { " It goes on from the older one: nothing of that was changed." } else { "" };
    anstream::println!(
        "This is the checkpoint of the first {} facts of the estate {}.{goes_on}",
        head.size,
        origin.estate
    );
    anstream::println!("  signed with key {}", key.to_hex());
}

fn read_bounded(path: &Path) -> std::io::Result<String> {
    let mut text = String::new();
    if !std::fs::metadata(path)?.is_file() {
        return Err(std::io::Error::other("it is not a file")); // a pipe would keep everybody waiting
    }
    File::open(path)?.take(proof::BYTES_MAX + 1).read_to_string(&mut text)?;
    Ok(text)
}

/// Has the facts signed as they are now: by the manager, or here if none runs. Gives the checkpoint and its text.
async fn sign(home: &Home, common: &Common) -> Outcome<(Checkpoint, String)> {
    let what = "cannot sign a checkpoint";
    let text = match is_running(home).await {
        true => match ask(home, &Request::SignCheckpoint).await? {
            Response::Checkpoint { text } => text,
            _ => return Err(cut_off()),
        },
        false => {
            let found = recalled_at_rest(home)?;
            let (known, journal) = found.ok_or_else(|| no_journal(home))?;
            let progress = bar(common);
            let signed = follow::sign_at_rest(&journal, &known.knowledge, home.folder(), &mut tell(&progress));
            progress.finish_and_clear();
            signed.map_err(|error| Failure::of(what, &error, error.remedy()))?
        }
    };
    let key = check::key_of(home.folder()).map_err(|error| Failure::of(what, &error, error.remedy()))?;
    let remedy = "if `checkpoints/key.txt` in the home was changed, put it back";
    let checkpoint = note::read(&text, &key).map_err(|error| Failure::of(what, &error, remedy))?;
    Ok((checkpoint, text))
}

fn no_journal(home: &Home) -> Failure {
    let cause = format!("{} holds no journal", home.folder().display());
    Failure::new("cannot read the journal", cause, "name the home with `--home DIR`")
}

fn open(home: &Home) -> Outcome<Reader> {
    if !home.folder().join(ostler_journal::JOURNAL_FILE).exists() {
        return Err(no_journal(home));
    }
    Reader::open(home.folder()).map_err(|error| Failure::of("cannot read the journal", &error, error.remedy()))
}

async fn checkpoint(arguments: &SignNow, common: &Common) -> Outcome<u8> {
    let home = place::of_command(common)?;
    let (checkpoint, text) = sign(&home, common).await?;
    let shown = match &arguments.since {
        None => text,
        Some(path) => {
            let what = format!("cannot prove that the checkpoint goes on from {}", path.display());
            let key = check::key_of(home.folder()).map_err(|error| Failure::of(&what, &error, error.remedy()))?;
            let old = keep::read(path).map_err(|error| Failure::of(&what, &error, "check the path"))?;
            let old = note::read(&old, &key)
                .map_err(|error| Failure::of(&what, &error, "name a checkpoint of this estate"))?;
            let reader = open(&home)?;
            let mut tree = reader.tree();
            let failed = |error: ostler_journal::ReadError| Failure::of(&what, &error, error.remedy());
            let progress = bar(common);
            let here = tree.leads_to(checkpoint.head, &mut tell(&progress)).map_err(failed)?;
            progress.finish_and_clear();
            let is_past = old.origin == checkpoint.origin
                && old.head.size <= checkpoint.head.size
                && tree.head(old.head.size).map_err(failed)? == old.head;
            if !here || !is_past {
                let cause = format!("the journal does not hold the {} facts that it is of", old.head.size);
                return Err(Failure::new(
                    what,
                    cause,
                    "see what is wrong with `ostler audit verify --checkpoint FILE`",
                ));
            }
            proof::prove_goes_on(&mut tree, old.head.size, &checkpoint, &text).map_err(failed)?
        }
    };
    if common.json {
        let (origin, size) = (checkpoint.origin.to_string(), checkpoint.head.size);
        print_json(&serde_json::json!({ "origin": origin, "size": size, "checkpoint": shown }));
    } else {
        anstream::print!("{shown}");
    }
    Ok(0)
}

async fn prove(arguments: &Prove, common: &Common) -> Outcome<u8> {
    let home = place::of_command(common)?;
    let facts = facts_of(arguments, &home).await?;
    let (checkpoint, note) = sign(&home, common).await?;
    let what = "cannot prove what was recorded";
    let reader = open(&home)?;
    let end = reader.end().0.min(checkpoint.head.size);
    if let Some(beyond) = facts.iter().find(|fact| fact.0 == 0 || fact.0 > end) {
        let cause = format!("there is no fact {beyond}: they are numbered 1 to {end}");
        return Err(Failure::new(what, cause, "`ostler journal` shows facts with their numbers"));
    }
    let failed = |error: ostler_journal::ReadError| Failure::of(what, &error, error.remedy());
    let mut tree = reader.tree();
    let progress = bar(common);
    let here = tree.leads_to(checkpoint.head, &mut tell(&progress)).map_err(failed)?;
    progress.finish_and_clear();
    if !here {
        let cause = "the journal on the disk is another one than was signed";
        return Err(Failure::new(what, cause, "see what is wrong with `ostler audit verify`"));
    }
    let mut text = String::new();
    for fact in &facts {
        text.push_str(&proof::prove(&reader, &mut tree, *fact, &checkpoint, &note).map_err(failed)?);
    }
    if let Some(path) = &arguments.to {
        let write = std::fs::write(path, &text);
        write.map_err(|error| Failure::of(format!("cannot write {}", path.display()), &error, "check the path"))?;
    }
    match (&arguments.to, common.json) {
        (_, true) => print_json(&serde_json::json!({ "facts": facts, "proof": text })),
        (None, false) => anstream::print!("{text}"),
        (Some(path), false) => {
            let path = path.display();
            let facts = history::counted(facts.len(), "fact");
            anstream::println!("{path} proves {facts}. `ostler audit verify {path} --key KEY` checks it anywhere.");
        }
    }
    Ok(0)
}

/// The facts that were named, in their order; each once.
async fn facts_of(arguments: &Prove, home: &Home) -> Outcome<Vec<Position>> {
    let mut facts = Vec::new();
    for word in &arguments.what {
        if let Ok(number) = word.parse() {
            facts.push(Position(number));
            continue;
        }
        let what = format!("cannot prove `{word}`");
        let service: ServiceName = word.parse().map_err(|error: ostler_model::ids::IdError| {
            Failure::of(&what, &error, "name facts by their numbers, or services")
        })?;
        let query = FactQuery { service: Some(service), kind: None, most: arguments.lines as usize };
        let found = match is_running(home).await {
            true => match ask(home, &Request::Facts(query)).await? {
                Response::Facts(facts) => facts,
                _ => return Err(cut_off()),
            },
            false => {
                let (_, journal) = recalled_at_rest(home)?.ok_or_else(|| no_journal(home))?;
                server::select(&journal, &query)?
            }
        };
        if found.is_empty() {
            return Err(Failure::new(what, "no fact is of this service", "`ostler status` shows the services"));
        }
        facts.extend(found.iter().map(|fact| Position(fact.position)));
    }
    facts.sort();
    facts.dedup();
    Ok(facts)
}

fn month(month: Option<Month>, common: &Common) -> Outcome<u8> {
    let home = place::of_command(common)?;
    let reader = open(&home)?;
    let progress = bar(common);
    let report = report::report(&reader, month, clock::now(), &mut tell(&progress));
    progress.finish_and_clear();
    let report = report.map_err(|error| Failure::of("cannot report on the month", &error, error.remedy()))?;
    if common.json {
        print_json(&report);
    } else {
        anstream::print!("{}", report::in_words(&report));
    }
    Ok(0)
}
