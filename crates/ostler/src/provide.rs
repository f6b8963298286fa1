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

/// Where others can buy, and what they need to know of it.
pub(crate) struct Door {
    estate: String,
    url: String,
    buyer: String,
    encrypted: bool,
}

impl Door {
    /// As it is shown beside the status.
    pub(crate) fn as_json(&self) -> serde_json::Value {
        serde_json::json!({ "url": self.url })
    }

    /// How to come in.
    pub(crate) fn in_words(&self) -> String {
        let Self { estate, url, buyer, encrypted } = self;
        let trust =
            if *encrypted { format!("\n  tls = {{ roots = \"./{estate}-certificate.pem\" }}") } else { String::new() };
        format!(
            "\nOthers can buy at {url}. With ostler, like this in their estate file:\n\n  [provider.{estate}]\n  \
             kind = \"osb\"\n  url = \"{url}\"{trust}\n  \
             auth = {{ username = \"{buyer}\", password = {{ file = \"./{estate}-password\" }} }}\n"
        )
    }
}

/// Waits until the door is open, where the file has something for sale.
///
/// # Errors
///
/// When it cannot be opened, or is not open in time.
pub(crate) async fn open_door(file: &EstateFile, home: &Home) -> Outcome<Option<Door>> {
    let Some(estate) = parsed(file) else { return Ok(None) };
    let Some(provide) = &estate.provide else { return Ok(None) };
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
    let buyer = provide.buyers.keys().next().cloned().unwrap_or_default();
    Ok(Some(Door { estate: estate.name.to_string(), url, buyer, encrypted: provide.tls.is_some() }))
}
