//! `ostler provider check`: an examination of a broker, before anything is bought from it.

use std::collections::BTreeMap;
use std::io::IsTerminal;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anstyle::{AnsiColor, Style};
use indicatif::{ProgressBar, ProgressStyle};
use ostler_exam::{Matters, Page, Purchase, Report, Scope, Sealed, Verdict, examine};
use ostler_model::estate::osb::{ApiVersion, OsbAuth, OsbManners, OsbProvider, OsbTls, SecretSource};
use ostler_model::estate::{ProviderKind, parse};

use crate::args::{Check, Common};
use crate::commands::{confirm, print_json, read_file};
use crate::failure::{EXIT_CHANGES, Failure, Outcome};
use crate::show;

/// Exit code 0 if nothing was found that breaks a buyer, 2 otherwise.
pub(crate) async fn check(arguments: &Check, common: &Common) -> Outcome<u8> {
    let (declared, folder) = declared(arguments)?;
    let scope = if arguments.full {
        let what =
            format!("Buy an instance from {}, use it and give it back? Its provider may charge for it.", declared.url);
        confirm(arguments.yes, common, &what)?;
        Scope::Buying(Purchase { offering: arguments.offering.clone(), plan: arguments.plan.clone() })
    } else {
        Scope::Reading
    };
    let progress = spinner(common);
    let tell = |what: &str| progress.set_message(what.to_owned());
    let examined = examine(&declared, &folder, &scope, &tell).await;
    progress.finish_and_clear();
    let what = format!("cannot examine {}", declared.url);
    let report = examined.map_err(|failure| Failure::new(what, failure.detail, failure.remedy))?;
    for path in &arguments.certificate {
        let what = format!("cannot write the certificate to {}", path.display());
        let is_json = path.extension().is_some_and(|extension| extension.eq_ignore_ascii_case("json"));
        let text = if is_json { Sealed::new(&report).to_file() } else { Page(&report).to_string() };
        std::fs::write(path, text)
            .map_err(|error| Failure::of(what, &error, "name a file in a folder that you may write to"))?;
    }
    if common.json {
        print_json(&Sealed::new(&report));
    } else {
        anstream::print!("{}", in_words(&report));
    }
    Ok(if report.is_fit() { 0 } else { EXIT_CHANGES })
}

/// The broker at an address, or the one that the estate file calls so.
fn declared(arguments: &Check) -> Outcome<(OsbProvider, PathBuf)> {
    let is_address = arguments.broker.contains([':', '/', '.']);
    let is_http = ["http://", "https://"].iter().any(|scheme| arguments.broker.starts_with(scheme));
    if is_address && !is_http {
        let what = format!("cannot examine `{}`", arguments.broker);
        return Err(Failure::new(what, "it is no address of a broker", "write it like `https://broker.acme.example`"));
    }
    if is_address {
        let folder = std::env::current_dir().unwrap_or_default();
        return Ok((at_address(arguments, &folder)?, folder));
    }
    let file = read_file(&arguments.file)?;
    let parsed = parse(&file.file, &file.folder, &file.text).map_err(|problems| {
        Failure::from(ostler_runtime::server::wrong_files("cannot read the estate file", &[problems]))
    })?;
    let what = format!("cannot examine `{}`", arguments.broker);
    let found = parsed.estate.providers.values().find(|provider| provider.name.as_str() == arguments.broker);
    match found.map(|provider| &provider.kind) {
        Some(ProviderKind::Osb(osb)) => Ok(((**osb).clone(), file.folder)),
        Some(ProviderKind::Host(_)) => Err(Failure::new(
            what,
            "it is this machine, which is no broker",
            "name a provider of kind `osb`, or an address",
        )),
        None => {
            let cause = format!("{} declares no such provider", arguments.file.display());
            Err(Failure::new(what, cause, "name one that it declares, or the broker's address: `https://…`"))
        }
    }
}

fn at_address(arguments: &Check, folder: &Path) -> Outcome<OsbProvider> {
    let secret = |path: &PathBuf| SecretSource::File(folder.join(path));
    let auth = match (&arguments.username, &arguments.password_file, &arguments.token_file) {
        (Some(username), Some(password), None) => {
            OsbAuth::Basic { username: username.clone(), password: secret(password) }
        }
        (None, None, Some(token)) => OsbAuth::Bearer { token: secret(token) },
        (None, None, None) => OsbAuth::None,
        _ => {
            let remedy = "give --username and --password-file, or --token-file";
            return Err(Failure::new("cannot examine the broker", "half a login is given", remedy));
        }
    };
    Ok(OsbProvider {
        url: arguments.broker.trim_end_matches('/').to_owned(),
        api: ApiVersion::default(),
        plaintext: true, // who examines it is told
        auth,
        tls: OsbTls { roots: arguments.roots.as_ref().map(|path| folder.join(path)), identity: None },
        manners: OsbManners::default(),
        versions: BTreeMap::new(),
    })
}

fn spinner(common: &Common) -> ProgressBar {
    if common.json || !std::io::stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let bar = ProgressBar::new_spinner();
    bar.set_style(ProgressStyle::with_template("{spinner} {elapsed} {wide_msg}").expect("the template is a constant"));
    bar.enable_steady_tick(Duration::from_millis(100));
    bar
}

fn in_words(report: &Report) -> String {
    let mut rows = show::table(&["rule", "section", "found", "if broken, it"]);
    for finding in &report.rules {
        let (word, style) = match (&finding.verdict, finding.matters) {
            (Verdict::Kept, _) => ("kept", AnsiColor::Green.on_default()),
            (Verdict::NotSeen { .. }, _) => ("not seen", Style::new().dimmed()),
            (Verdict::Broken { .. }, Matters::BreaksYou) => ("broken", AnsiColor::Red.on_default().bold()),
            (Verdict::Broken { .. }, Matters::SurprisesYou) => ("broken", AnsiColor::Yellow.on_default()),
            (Verdict::Broken { .. }, Matters::Cosmetic) => ("broken", Style::new()),
        };
        let matters = match finding.matters {
            Matters::Cosmetic => "is cosmetic",
            other => other.in_words(),
        };
        rows.add_row([
            finding.rule.to_owned(),
            finding.section.to_owned(),
            format!("{style}{word}{style:#}"),
            matters.to_owned(),
        ]);
    }
    let mut out = format!("The broker at {}", report.broker);
    match &report.bought {
        Some(bought) => out.push_str(&format!(", by buying {bought}\n\n")),
        None => out.push_str(", by reading alone\n\n"),
    }
    out.push_str(&show::lines(&rows));
    for finding in report.broken() {
        if let Verdict::Broken { why, sent, got } = &finding.verdict {
            out.push_str(&format!(
                "\n{} ({}): {}\n  found  {why}\n  sent   {sent}\n  got    {got}\n",
                finding.rule, finding.section, finding.says
            ));
        }
    }
    for left in &report.left {
        out.push_str(&format!("\nThis may have been left at the broker, and be paid for: {left}\n"));
    }
    out.push_str(&format!("\n{}.\n", capitalized(&report.in_a_sentence())));
    if report.bought.is_none() {
        out.push_str("`--full` buys an instance, uses it and gives it back, and sees the rest.\n");
    }
    out
}

fn capitalized(text: &str) -> String {
    let mut chars = text.chars();
    chars.next().map_or_else(String::new, |first| first.to_uppercase().chain(chars).collect())
}
