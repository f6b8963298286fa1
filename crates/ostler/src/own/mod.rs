//! `ostler own-or-buy`: what owning a service costs against each plan that could be bought, over one to seven years. Nothing
//! is started, and nothing is bought.

mod picture;
mod words;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use clap::Args;
use ostler_books::own::{Answer, LeftOut, NotWeighed, Question, Stated, offers, stated, weigh};
use ostler_model::estate::{Estate, Service};
use ostler_model::ids::{ProviderName, ServiceName};
use ostler_model::month::Month;
use ostler_runtime::control::{Request, Response};
use ostler_runtime::home::Home;
use ostler_runtime::owning::{Weighable, weighable};
use ostler_runtime::{clock, server};

use crate::args::Common;
use crate::client::{ask, cut_off, is_running, keeper_is_there};
use crate::commands::{name_of, print_json, read_file, recalled_at_rest};
use crate::failure::{Failure, Outcome};
use crate::{place as homes, up};

const WHAT: &str = "cannot weigh owning against buying";

#[derive(Debug, Args)]
pub(crate) struct OwnOrBuy {
    /// The service
    pub service: ServiceName,
    /// The estate file
    #[arg(default_value = "ostler.toml")]
    pub file: PathBuf,
    /// Over how many years, 1 to 7
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=7))]
    pub years: u32,
    /// Of all that is left to chance: the same seed gives the same answer
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
    /// Draw what each way costs over the years into this file
    #[arg(long, value_name = "FILE")]
    pub svg: Option<PathBuf>,
}

/// What is shown.
pub(crate) struct Shown {
    pub(crate) estate: Arc<Estate>,
    pub(crate) service: Arc<Service>,
    pub(crate) seed: u64,
    /// The month that it is now.
    pub(crate) month: Month,
    pub(crate) stated: Vec<Stated>,
    pub(crate) answer: Answer,
    pub(crate) left_out: Vec<LeftOut>,
}

pub(crate) async fn own_or_buy(arguments: &OwnOrBuy, common: &Common) -> Outcome {
    let file = read_file(&arguments.file)?;
    let home = homes::of_estate(common, &name_of(&file)?)?;
    let prepared = up::prepare_offline(file, &home).await?;
    let estate = prepared.estate.clone();
    let Some(service) = estate.services.get(&arguments.service).cloned() else {
        let names: Vec<&str> = estate.services.keys().map(ServiceName::as_str).collect();
        let cause = format!("the estate has no service `{}`", arguments.service);
        return Err(Failure::new(WHAT, cause, server::services_are(&arguments.service, &names)));
    };
    if let Some(path) = &arguments.svg {
        let opened = std::fs::OpenOptions::new().create(true).append(true).open(path);
        opened.map_err(|error| no_picture(path, &error))?;
    }
    let now = clock::now();
    let known = known_so_far(&home, &arguments.service, prepared.unasked()).await?;
    let measured = known.measured;
    let stated = stated(&estate, &service, &measured).map_err(|error| not_weighed(&error))?;
    // What a provider offered last is good enough while it cannot be asked.
    let mut catalogs = prepared.catalogs.clone();
    catalogs.extend(known.catalogs);
    let (offers, mut left_out) = offers(&estate, &catalogs, &service, &stated, &measured, now);
    let unknown = prepared.unasked().iter().filter(|(provider, _)| !catalogs.contains_key(provider));
    left_out.extend(unknown.map(|(provider, failure)| LeftOut {
        provider: provider.clone(),
        plan: None,
        why: failure.detail.clone(),
    }));
    let question = Question { stated, offers, years: arguments.years, seed: arguments.seed };
    let answer = weigh(&question);
    let month = Month::at(now, &estate.accounts.zone);
    let shown = Shown { estate, service, seed: arguments.seed, month, stated: question.stated, answer, left_out };
    if let Some(path) = &arguments.svg {
        std::fs::write(path, picture::draw(&shown)).map_err(|error| no_picture(path, &error))?;
    }
    if common.json {
        print_json(&words::in_json(&shown));
        return Ok(());
    }
    anstream::print!("{}", words::in_words(&shown));
    if let Some(path) = &arguments.svg {
        anstream::println!("\nThe picture is {}.", path.display());
    }
    Ok(())
}

/// What is known of outages and of providers that do not answer, if this estate has a journal.
async fn known_so_far(
    home: &Home,
    service: &ServiceName,
    unasked: &[(ProviderName, ostler_model::outcome::Failure)],
) -> Outcome<Weighable> {
    let (service, unasked) = (service.clone(), unasked.iter().map(|(name, _)| name.clone()).collect());
    if is_running(home).await || keeper_is_there(home) {
        return match ask(home, &Request::Weighable { service, unasked }).await? {
            Response::Weighable(known) => Ok(*known),
            _ => Err(cut_off()),
        };
    }
    let known = recalled_at_rest(home)?.map(|(known, _)| known).unwrap_or_default();
    Ok(weighable(&known.knowledge, &known.ledger, &service, &unasked, clock::now()))
}

fn not_weighed(error: &NotWeighed) -> Failure {
    match error {
        NotWeighed::NoRate(currency) => {
            let code = currency.as_str();
            let remedy = format!(
                "add `rates = {{ EUR = \"…\" }}` to `[estate]`: what one euro is worth in {code}; or declare all of \
                 `purchase`, `kwh`, `space` and `salary` in `[own]`"
            );
            Failure::of(WHAT, error, remedy)
        }
    }
}

fn no_picture(path: &Path, error: &std::io::Error) -> Failure {
    let what = format!("cannot write the picture {}", path.display());
    Failure::of(what, error, "name a file in a folder that exists and can be written to")
}
