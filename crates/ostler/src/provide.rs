//! `ostler provide`: an estate that sells to others, as an Open Service Broker.

use std::time::Duration;

use ostler_model::estate::{Estate, parse};
use ostler_runtime::control::{EstateFile, Request, Response};
use ostler_runtime::home::Home;
use tokio::time::Instant;

use crate::args::{Common, Up};
use crate::client::ask;
use crate::commands::read_file;
use crate::failure::{Failure, Outcome};
use crate::up;

/// How long the broker may take to open its door once everything else is there.
const OPEN_WITHIN: Duration = Duration::from_secs(30);

/// The same as `up`, for a file that has something for sale.
pub(crate) async fn provide(arguments: &Up, common: &Common) -> Outcome<u8> {
    let file = read_file(&arguments.file)?;
    // What else is wrong with it is told when it is brought up.
    if parsed(&file).is_some_and(|estate| estate.provide.is_none()) {
        let remedy = "say where to sell, and to whom, in the estate file:\n\n  [provide]\n  listen = \"127.0.0.1:8410\"\n  \
                      buyer.bookshop.password = { file = \"./bookshop-password\" }\n\nand run this again";
        let what = format!("cannot provide what {} declares", arguments.file.display());
        return Err(Failure::new(what, "it has no `[provide]`: nothing in it is for sale", remedy));
    }
    up::up(arguments, common).await
}

fn parsed(file: &EstateFile) -> Option<Estate> {
    parse(&file.file, &file.folder, &file.text).ok().map(|parsed| parsed.estate)
}

/// Waits until the door is open, where the file has something for sale, and tells how to come in.
pub(crate) async fn show_door(file: &EstateFile, home: &Home, common: &Common) -> Outcome {
    let Some(estate) = parsed(file) else { return Ok(()) };
    let Some(provide) = &estate.provide else { return Ok(()) };
    let deadline = Instant::now() + OPEN_WITHIN;
    let url = loop {
        let sells = match ask(home, &Request::Status).await? {
            Response::Status { sells, .. } => sells,
            _ => None,
        };
        match sells {
            Some(Ok(url)) => break url,
            Some(Err(why)) => {
                let goes_on = "correct that: it is tried again every few seconds, and everything else runs on";
                return Err(Failure::new("nothing can be sold", why, goes_on));
            }
            None if Instant::now() > deadline => {
                let late = "the broker has not opened its door in time";
                return Err(Failure::new("nothing can be sold", late, "`ostler status` shows when it does"));
            }
            None => tokio::time::sleep(Duration::from_millis(20)).await,
        }
    };
    if !common.json {
        let buyer = provide.buyers.keys().next().map_or("", String::as_str);
        let name = &estate.name;
        anstream::println!(
            "\nOthers can buy at {url}. With ostler, like this in their estate file:\n\n  [provider.{name}]\n  kind = \"osb\"\n  \
             url = \"{url}\"\n  auth = {{ username = \"{buyer}\", password = {{ file = \"./{name}-password\" }} }}"
        );
    }
    Ok(())
}
