//! `ostler simulate`: what a year would be like, before money is spent. The real manager is run through many simulated
//! years of faults; nothing is started, and nothing outside this process is touched.

mod picture;
mod words;

use std::collections::BTreeMap;
use std::io::IsTerminal;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};
use ostler_manager::{Knowledge, place};
use ostler_model::catalog::Catalog;
use ostler_model::estate::{Estate, ProviderKind};
use ostler_model::ids::{ProviderName, ServiceName};
use ostler_runtime::control::{Request, Response};
use ostler_runtime::home::Home;
use ostler_runtime::seen::{Seen, seen};
use ostler_runtime::{clock, server};
use ostler_sim::{Expected, Extra, Kind, Outlook, Policy, Question, Town, expected, look_ahead, rates};

use crate::args::{Common, Simulate};
use crate::client::{ask, cut_off, is_running};
use crate::commands::{known_and_journal_at_rest, name_of, print_json, read_file};
use crate::failure::{Failure, Outcome};
use crate::{place as homes, up};

const WHAT: &str = "cannot simulate the estate";

/// One line of the comparison.
pub(crate) struct Row {
    /// What is other than declared, as it was asked for; empty for the estate as it is declared.
    pub(crate) name: String,
    /// Who looks after it.
    pub(crate) policy: Policy,
    /// What came of it; or why there is nothing to simulate.
    pub(crate) outlook: Result<Outlook, String>,
}

/// What is shown.
pub(crate) struct Report {
    pub(crate) estate: String,
    pub(crate) currency: String,
    pub(crate) seed: u64,
    pub(crate) rows: Vec<Row>,
    pub(crate) expected: Vec<Expected>,
    pub(crate) took: Duration,
}

impl Report {
    /// The estate as declared, looked after by ostler.
    pub(crate) fn declared(&self) -> Option<&Outlook> {
        let row = self.rows.iter().find(|row| row.name.is_empty() && matches!(row.policy, Policy::Ostler { .. }));
        row.and_then(|row| row.outlook.as_ref().ok())
    }

    pub(crate) fn nobody(&self) -> Option<&Outlook> {
        self.rows.iter().find(|row| row.policy == Policy::Nobody).and_then(|row| row.outlook.as_ref().ok())
    }
}

/// An estate to simulate.
struct Variation {
    name: String,
    policy: Policy,
    /// Or why it cannot be had.
    town: Result<Town, String>,
    extra: Vec<Extra>,
}

pub(crate) async fn simulate(arguments: &Simulate, common: &Common) -> Outcome {
    let begun = std::time::Instant::now();
    let file = read_file(&arguments.file)?;
    let home = homes::of_estate(common, &name_of(&file)?)?;
    let prepared = up::prepare_offline(file, &home).await?;
    prepared
        .check_placement(&Knowledge::default(), clock::now())
        .map_err(|problems| Failure::from(server::wrong_files(WHAT, &[problems])))?;
    let town = town(prepared.estate.clone(), &prepared.catalogs);
    let variations = variations(arguments, &town)?;
    if let Some(path) = &arguments.svg {
        // Before the long work: nobody wants to wait for it and then have no picture.
        let opened = std::fs::OpenOptions::new().create(true).append(true).open(path);
        opened.map_err(|error| no_picture(path, &error))?;
    }
    let expected = expected(&town, &seen_so_far(&home).await?);
    let years =
        u64::from(arguments.years) * variations.iter().filter(|variation| variation.town.is_ok()).count() as u64;
    let progress = progress(common, years);
    let mut rows = Vec::new();
    for Variation { name, policy, town, extra } in variations {
        progress.set_message(words::who(policy, &name));
        let outlook = town.map(|town| {
            // What is expected of the estate as declared holds for its variations, as far as they have the same parts.
            let question = Question {
                rates: rates(&expected),
                town,
                extra,
                policy,
                seed: arguments.seed,
                years: arguments.years,
                length: Duration::from_secs(u64::from(arguments.days) * 86_400),
            };
            look_ahead(&question, &|| progress.inc(1))
        });
        rows.push(Row { name, policy, outlook });
    }
    progress.finish_and_clear();
    let (estate, currency) = (town.estate.name.to_string(), town.estate.currency.as_str().to_owned());
    let report = Report { estate, currency, seed: arguments.seed, rows, expected, took: begun.elapsed() };
    if let Some(path) = &arguments.svg {
        picture(&report, path)?;
    }
    if common.json {
        print_json(&words::as_json(&report));
    } else {
        anstream::print!("{}", words::in_words(&report, arguments.rates));
        if let Some(path) = &arguments.svg {
            anstream::println!("\nThe picture is {}.", path.display());
        }
    }
    Ok(())
}

fn picture(report: &Report, path: &Path) -> Outcome {
    let Some(outlook) = report.declared() else { return Ok(()) };
    let text = picture::draw(&report.estate, outlook, report.nobody());
    std::fs::write(path, text).map_err(|error| no_picture(path, &error))
}

fn no_picture(path: &Path, error: &std::io::Error) -> Failure {
    let what = format!("cannot write the picture {}", path.display());
    Failure::of(what, error, "name a file in a folder that exists and can be written to")
}

/// The simulated world's view of an estate.
fn town(estate: Arc<Estate>, catalogs: &BTreeMap<ProviderName, Arc<Catalog>>) -> Town {
    let kinds = estate.providers.iter().map(|(name, provider)| {
        let kind = match &provider.kind {
            ProviderKind::Host(_) => Kind::Machine,
            ProviderKind::Osb(_) => Kind::Broker,
        };
        (name.clone(), kind)
    });
    // How a broker goes about things is simulated as most do: catalogs do not say all of it.
    Town { kinds: kinds.collect(), catalogs: catalogs.clone(), manners: BTreeMap::new(), estate }
}

/// The rows: first what it is compared with, then the estate as declared, then each variation that was asked for.
fn variations(arguments: &Simulate, town: &Town) -> Outcome<Vec<Variation>> {
    let ostler = Policy::Ostler { answers: arguments.answers_after.get() };
    let on_call = arguments.on_call.get();
    let on_call = Policy::OnCall { least: on_call / 2, most: on_call * 3 / 2 };
    let as_declared = |policy| Variation { name: String::new(), policy, town: Ok(town.clone()), extra: Vec::new() };
    let mut all = vec![as_declared(Policy::Nobody), as_declared(on_call), as_declared(ostler)];
    for provider in &arguments.without {
        known_provider(provider, town)?;
        let name = format!("--without {provider}");
        all.push(Variation { name, policy: ostler, town: without(town, provider), extra: Vec::new() });
    }
    for changes in &arguments.instances {
        let mut estate = (*town.estate).clone();
        for (service, instances) in &changes.0 {
            let Some(found) = estate.services.get_mut(service) else { return Err(no_such_service(service, town)) };
            Arc::make_mut(found).instances = *instances;
        }
        let changed = Town { estate: Arc::new(estate), ..town.clone() };
        let name = format!("--instances {changes}");
        all.push(Variation { name, policy: ostler, town: placed(changed), extra: Vec::new() });
    }
    for (provider, lasts) in &arguments.provider_outage {
        known_provider(provider, town)?;
        let extra = vec![Extra { provider: provider.clone(), lasts: *lasts }];
        let name = format!("--provider-outage {provider}={lasts}");
        all.push(Variation { name, policy: ostler, town: Ok(town.clone()), extra });
    }
    Ok(all)
}

/// The estate without one of its providers; or who is missed.
fn without(town: &Town, provider: &ProviderName) -> Result<Town, String> {
    let mut estate = (*town.estate).clone();
    estate.providers.remove(provider);
    for service in estate.services.values_mut() {
        Arc::make_mut(service).prefer.retain(|preferred| preferred != provider);
    }
    let mut changed = Town { estate: Arc::new(estate), ..town.clone() };
    changed.catalogs.remove(provider);
    changed.kinds.remove(provider);
    placed(changed)
}

/// The estate, if all of it can be bought.
fn placed(town: Town) -> Result<Town, String> {
    match place(&Knowledge::default(), &town.estate, &town.catalogs, clock::now()) {
        Ok(_) => Ok(town),
        Err(problems) => {
            let words = problems.iter().map(|problem| format!("{}: {}", problem.service, problem.cause));
            Err(words.collect::<Vec<_>>().join("; "))
        }
    }
}

fn known_provider(provider: &ProviderName, town: &Town) -> Outcome {
    if town.estate.providers.contains_key(provider) {
        return Ok(());
    }
    let names: Vec<&str> = town.estate.providers.keys().map(ProviderName::as_str).collect();
    Err(Failure::new(
        WHAT,
        format!("the estate has no provider `{provider}`"),
        format!("its providers are: {}", names.join(", ")),
    ))
}

fn no_such_service(service: &ServiceName, town: &Town) -> Failure {
    let names: Vec<&str> = town.estate.services.keys().map(ServiceName::as_str).collect();
    Failure::new(WHAT, format!("the estate has no service `{service}`"), server::services_are(service, &names))
}

/// What the journal of this estate says of how often what failed, if it has one.
async fn seen_so_far(home: &Home) -> Outcome<BTreeMap<ServiceName, Seen>> {
    if is_running(home).await {
        return match ask(home, &Request::Seen).await? {
            Response::Seen(seen) => Ok(seen),
            _ => Err(cut_off()),
        };
    }
    match known_and_journal_at_rest(home)? {
        Some((known, journal)) => seen(&journal, &known, clock::now())
            .map_err(|error| Failure::of("cannot read the journal", &error, error.remedy())),
        None => Ok(BTreeMap::new()),
    }
}

fn progress(common: &Common, years: u64) -> ProgressBar {
    if common.json || !std::io::stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let bar = ProgressBar::new(years);
    let style = ProgressStyle::with_template("{bar:40} {pos}/{len} years {eta} left  {wide_msg}");
    bar.set_style(style.expect("the template is a constant").progress_chars("━╸─"));
    bar.enable_steady_tick(Duration::from_millis(100));
    bar
}
