//! `ostler scorecard`: how providers have delivered.

use std::path::{Path, PathBuf};

use clap::Args;
use ostler_model::ids::ProviderName;
use ostler_model::month::Month;
use ostler_runtime::clock;
use ostler_runtime::control::{Request, Response};
use ostler_runtime::scorecard::{Card, cards, in_lines, paper};
use ostler_runtime::server::no_books;

use crate::args::Common;
use crate::client::{ask, cut_off, is_running, keeper_is_there};
use crate::commands::{print_json, recalled_at_rest, say};
use crate::failure::{Failure, Outcome};
use crate::place;

#[derive(Debug, Args)]
pub(crate) struct Scorecard {
    /// Only of this provider
    pub provider: Option<ProviderName>,
    /// What of it is counted by months: of which one, as in 2026-11 [default: this one]
    #[arg(long, value_name = "YEAR-MONTH")]
    pub month: Option<Month>,
    /// Write it as a page to print, which can be handed to the provider
    #[arg(long, value_name = "FILE", requires = "provider")]
    pub html: Option<PathBuf>,
}

pub(crate) async fn show(arguments: &Scorecard, common: &Common) -> Outcome {
    let home = place::of_command(common)?;
    let Scorecard { provider, month, html } = arguments;
    let found = if is_running(&home).await || keeper_is_there(&home) {
        match ask(&home, &Request::Scorecard { provider: provider.clone(), month: *month }).await? {
            Response::Scorecards(cards) => cards,
            _ => return Err(cut_off()),
        }
    } else {
        let known = recalled_at_rest(&home)?.map(|(known, _)| known).unwrap_or_default();
        cards(&known.knowledge, &known.ledger, (provider.as_ref(), *month), clock::now())
            .map_err(|error| Failure::from(no_books(&error)))?
    };
    if let (Some(provider), true) = (provider, found.is_empty()) {
        let remedy = "`ostler scorecard` shows every provider of the estate";
        return Err(Failure::new(format!("cannot find `{provider}`"), "there is no such provider", remedy));
    }
    if let Some(file) = html {
        return write(&found, file, common);
    }
    if common.json {
        print_json(&found);
    } else {
        anstream::print!("{}", in_words(&found));
    }
    Ok(())
}

fn write(found: &[Card], file: &Path, common: &Common) -> Outcome {
    let what = format!("cannot write {}", file.display());
    let pages: String = found.iter().map(|card| paper(card, clock::now()).to_html()).collect();
    std::fs::write(file, pages)
        .map_err(|error| Failure::of(what, &error, "name a file in a folder that you may write to"))?;
    say(common, &format!("{} can be printed, or handed to the provider.", file.display()));
    Ok(())
}

fn in_words(found: &[Card]) -> String {
    let one = |card: &Card| {
        let region = card.region.as_ref().map(|region| format!(" ({region})")).unwrap_or_default();
        let lines = in_lines(card);
        let width = lines.iter().map(|(name, _)| name.chars().count()).max().unwrap_or(0);
        let lines: String = lines.iter().map(|(name, words)| format!("  {name:<width$}  {words}\n")).collect();
        format!("{}{region}\n{lines}", card.provider)
    };
    found.iter().map(one).collect::<Vec<_>>().join("\n")
}
