//! `ostler credits`: what providers owe for months in which less was available than they promise, and the claims for it.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anstyle::AnsiColor;
use clap::{Args, Subcommand};
use comfy_table::{Cell, CellAlignment};
use ostler_books::{Credits as Owed, MonthCredit, claim};
use ostler_manager::{Ask, ClaimState, ClaimStep};
use ostler_model::ids::ProviderName;
use ostler_model::money::{Amount, Money};
use ostler_model::month::Month;
use ostler_model::time::in_words;
use ostler_runtime::clock;
use ostler_runtime::control::{Request, Response};
use ostler_runtime::home::Home;
use ostler_runtime::server::no_books;
use rust_decimal::Decimal;

use crate::args::Common;
use crate::client::{ask, cut_off, is_running, keeper_is_there};
use crate::commands::{print_json, recalled_at_rest, say};
use crate::failure::{Failure, Outcome};
use crate::{place, show};

#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true)]
pub(crate) struct Credits {
    /// Which month, as in 2026-11 [default: this one, and every one of the last year with something owed or claimed]
    #[arg(long, value_name = "YEAR-MONTH")]
    pub month: Option<Month>,
    /// Claims; without one of these commands everything is shown, and nothing changed
    #[command(subcommand)]
    pub command: Option<ClaimCommand>,
}

#[derive(Debug, Subcommand)]
pub(crate) enum ClaimCommand {
    /// Write the claim for a month, as Markdown and as a page to print, and record that it is made
    Claim(ClaimIt),
    /// Record that the provider has granted it
    Paid(Answer),
    /// Record that the provider has refused it
    Refused(Answer),
    /// Record that it is as if it had not been claimed
    Reopen(Answer),
}

#[derive(Debug, Args)]
pub(crate) struct Which {
    /// The provider
    pub provider: ProviderName,
    /// Which month, as in 2026-11
    #[arg(long, value_name = "YEAR-MONTH")]
    pub month: Month,
    /// What to remember of it, such as the number of a ticket
    #[arg(long, value_name = "TEXT")]
    pub note: Option<String>,
    /// Who says so [default: the name of the user who runs this]
    #[arg(long, value_name = "NAME")]
    pub by: Option<String>,
}

#[derive(Debug, Args)]
pub(crate) struct ClaimIt {
    #[command(flatten)]
    pub which: Which,
    /// The folder for the documents
    #[arg(long, value_name = "DIR", default_value = ".")]
    pub out: PathBuf,
    /// Claim what is owed until now, although the month is not over
    #[arg(long)]
    pub before_end: bool,
}

#[derive(Debug, Args)]
pub(crate) struct Answer {
    #[command(flatten)]
    pub which: Which,
    /// With `paid`: how much was granted, where that is not what was claimed
    #[arg(long, value_name = "AMOUNT")]
    pub amount: Option<Amount>,
}

pub(crate) async fn credits(arguments: Credits, common: &Common) -> Outcome {
    let home = place::of_command(common)?;
    match arguments.command {
        None => show_all(&owed(&home, arguments.month).await?, common),
        Some(ClaimCommand::Claim(arguments)) => claim_it(&home, arguments, common).await,
        Some(ClaimCommand::Paid(Answer { which, amount })) => {
            record(&home, which, ClaimStep::Paid { amount }, common, "Recorded as paid.").await
        }
        Some(ClaimCommand::Refused(answer)) => {
            let which = without_amount(answer)?;
            record(&home, which, ClaimStep::Refused, common, "Recorded as refused.").await
        }
        Some(ClaimCommand::Reopen(answer)) => {
            let which = without_amount(answer)?;
            record(&home, which, ClaimStep::Reopened, common, "It is open again.").await
        }
    }
}

fn without_amount(Answer { which, amount }: Answer) -> Outcome<Which> {
    match amount {
        None => Ok(which),
        Some(_) => {
            Err(Failure::new("an amount makes no sense here", "only what was paid has one", "leave `--amount` out"))
        }
    }
}

/// What is owed, from whoever knows it: the running manager, or the journal at rest.
async fn owed(home: &Home, month: Option<Month>) -> Outcome<Owed> {
    if is_running(home).await || keeper_is_there(home) {
        return match ask(home, &Request::Credits { month }).await? {
            Response::Credits(credits) => Ok(*credits),
            _ => Err(cut_off()),
        };
    }
    let ledger = recalled_at_rest(home)?.map(|(known, _)| known.ledger).unwrap_or_default();
    ledger.credits(month, clock::now()).map_err(|error| Failure::from(no_books(&error)))
}

async fn claim_it(home: &Home, arguments: ClaimIt, common: &Common) -> Outcome {
    let ClaimIt { which, out, before_end } = arguments;
    let (provider, month) = (which.provider.clone(), which.month);
    let what = format!("cannot claim a credit from {provider} for {month}");
    let credits = owed(home, Some(month)).await?;
    let Some(credit) = credits.all.iter().find(|credit| credit.provider == provider) else {
        let remedy = "see `ostler credits`; `terms` of a provider in the estate file says what it promises";
        return Err(Failure::new(what, format!("`{provider}` promises nothing, or is unknown"), remedy));
    };
    claimable(credit, before_end).map_err(|(why, remedy)| Failure::new(&what, why, remedy))?;
    let paper = claim(&credits, credit);
    // The documents first: a claim that is recorded has been written.
    let files = [("md", paper.to_markdown()), ("html", paper.to_html())]
        .map(|(ending, text)| (out.join(format!("credit-{provider}-{month}.{ending}")), text));
    for (file, text) in &files {
        write(file, text)?;
    }
    let amount = credit.due.normalize().to_string().parse::<Amount>();
    let amount = amount.map_err(|error| Failure::of(&what, &error, "claim it by hand"))?;
    let step = ClaimStep::Claimed { amount, currency: credits.currency.clone() };
    let [markdown, page] = files.map(|(file, _)| file.display().to_string());
    let amount = Money { amount: credit.due, currency: credits.currency.clone() };
    let mut words = format!("{amount} claimed from {provider} for {month}: send {markdown}, or print {page}.");
    if credits.now >= credit.deadline {
        words.push_str(" By the terms it is too late for that; the provider need not grant it.");
    }
    record(home, which, step, common, &words).await
}

/// Why it cannot be claimed, and what to do.
fn claimable(credit: &MonthCredit, before_end: bool) -> Result<(), (String, String)> {
    let (provider, month) = (&credit.provider, credit.month);
    let again = format!("`ostler credits reopen {provider} --month {month}` begins the claim anew");
    match credit.state() {
        ClaimState::Open | ClaimState::Claimed => {}
        ClaimState::Paid => return Err(("it was paid already".to_owned(), again)),
        ClaimState::Refused => return Err(("it was refused already".to_owned(), again)),
    }
    if credit.due <= Decimal::ZERO {
        let why = match credit.too_little {
            true => format!("{} is less than the terms pay", credit.sum),
            false => "nothing is owed: what counts by the terms is within what is promised".to_owned(),
        };
        return Err((
            why,
            format!("`ostler credits --month {month} --json` shows what counts, and why the rest does not"),
        ));
    }
    if !credit.is_over() && !before_end {
        let why = format!("{month} is over at {}, and more may be owed by then", credit.ends.to_seconds());
        return Err((why, "claim it then, or `--before-end` claims what is owed until now".to_owned()));
    }
    Ok(())
}

fn write(file: &Path, text: &str) -> Outcome {
    let what = format!("cannot write {}", file.display());
    let remedy = "name a folder that exists and that you may write to with `--out DIR`";
    std::fs::write(file, text).map_err(|error| Failure::of(what, &error, remedy))
}

async fn record(home: &Home, which: Which, step: ClaimStep, common: &Common, words: &str) -> Outcome {
    let Which { provider, month, note, by } = which;
    let by = by.unwrap_or_else(user);
    ask(home, &Request::Ask(Ask::Credit { provider, month, step, by, note })).await?;
    say(common, words);
    Ok(())
}

/// The name of the user who runs this, or else the number.
fn user() -> String {
    let names = ["SUDO_USER", "USER", "LOGNAME"].into_iter().filter_map(|name| std::env::var(name).ok());
    let is_name = |name: &String| !name.trim().is_empty() && name.len() <= 64 && !name.chars().any(char::is_control);
    names.into_iter().find(is_name).unwrap_or_else(|| format!("uid {}", rustix::process::getuid().as_raw()))
}

fn show_all(credits: &Owed, common: &Common) -> Outcome {
    if common.json {
        print_json(&in_json(credits));
    } else {
        anstream::print!("{}", in_plain_words(credits));
    }
    Ok(())
}

fn in_json(credits: &Owed) -> serde_json::Value {
    let of_one = |credit: &MonthCredit| {
        let mut value = serde_json::to_value(credit).expect("credits have only string keys");
        value["state"] = credit.state().as_str().into();
        value["is_over"] = credit.is_over().into();
        value
    };
    serde_json::json!({
        "estate": credits.estate,
        "currency": credits.currency,
        "now": credits.now.to_string(),
        "credits": credits.all.iter().map(of_one).collect::<Vec<_>>(),
    })
}

fn in_plain_words(credits: &Owed) -> String {
    if credits.all.is_empty() {
        return "No provider of this estate promises anything: `terms` of a provider in the estate file says what it \
                promises, and what it pays back.\n"
            .to_owned();
    }
    let code = credits.currency.as_str();
    let mut table = show::table(&[
        "month",
        "provider",
        "instance",
        "promised",
        "measured",
        "outage",
        "credit",
        "claim until",
        "state",
    ]);
    for credit in &credits.all {
        for (index, line) in credit.lines.iter().enumerate() {
            let right = |text: String| Cell::new(text).set_alignment(CellAlignment::Right);
            let first = |text: String| if index == 0 { text } else { String::new() };
            table.add_row(vec![
                Cell::new(first(credit.month.to_string())),
                Cell::new(first(credit.provider.to_string())),
                Cell::new(&line.instance),
                right(line.promised.map_or_else(|| "–".to_owned(), |promised| promised.to_string())),
                right(line.measured.to_string()),
                right(outage(line.down_us)),
                right(format!("{} {code}", credits.currency.to_the_cent(line.credit))),
                Cell::new(first(deadline(credit))),
                Cell::new(first(state(credit, credits))),
            ]);
        }
    }
    let mut out = show::lines(&table);
    for credit in credits.all.iter().filter(|credit| credit.can_be_claimed(credits.now) && credit.is_over()) {
        let (provider, month) = (&credit.provider, credit.month);
        let amount = Money { amount: credit.due, currency: credits.currency.clone() };
        out.push_str(&format!("\n{amount}: `ostler credits claim {provider} --month {month}`\n"));
    }
    out
}

fn outage(us: u64) -> String {
    if us == 0 { "none".to_owned() } else { in_words(Duration::from_micros(us)) }
}

fn deadline(credit: &MonthCredit) -> String {
    credit.deadline.to_seconds().split('T').next().unwrap_or_default().to_owned()
}

fn state(credit: &MonthCredit, credits: &Owed) -> String {
    let money = |amount: Decimal| Money { amount, currency: credits.currency.clone() }.to_string();
    match (credit.state(), &credit.claim) {
        (ClaimState::Open, _) | (_, None) if credit.due <= Decimal::ZERO => match credit.too_little {
            true => "too little".to_owned(),
            false => "nothing owed".to_owned(),
        },
        (ClaimState::Open, _) | (_, None) if credits.now >= credit.deadline => "open, too late".to_owned(),
        (ClaimState::Open, _) | (_, None) => {
            let yellow = AnsiColor::Yellow.on_default().bold();
            format!("{yellow}open{yellow:#}")
        }
        (ClaimState::Claimed, Some(claim)) => format!("claimed {} by {}", money(claim.claimed.get()), claim.by),
        (ClaimState::Paid, Some(claim)) => format!("paid {}", money(claim.paid.get())),
        (ClaimState::Refused, Some(_)) => "refused".to_owned(),
    }
}
