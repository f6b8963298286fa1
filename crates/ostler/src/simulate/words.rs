//! The report of a simulation: words, tables, JSON.

use std::collections::BTreeMap;
use std::time::Duration;

use anstyle::Style;
use ostler_model::estate::failures::FailureScope;
use ostler_model::time::{Span, in_words as in_time};
use ostler_sim::{Expected, Outlook, Policy, ServiceOutlook, Source};
use serde_json::{Value, json};

use super::{Report, Row};
use crate::show::{lines, or_dash, table};

/// Who looks after the estate of a row.
pub(crate) fn who(policy: Policy, name: &str) -> String {
    match policy {
        Policy::Nobody => "do nothing".to_owned(),
        Policy::OnCall { least, most } => format!("a person within {} to {}", in_time(least), in_time(most)),
        Policy::Ostler { .. } if name.is_empty() => "ostler, as declared".to_owned(),
        Policy::Ostler { .. } => name.to_owned(),
    }
}

pub(crate) fn in_words(report: &Report, with_rates: bool) -> String {
    let bold = Style::new().bold();
    let mut out = String::new();
    if let Some(outlook) = report.declared() {
        let days = outlook.length.as_secs() / 86_400;
        out.push_str(&format!(
            "{bold}{}{bold:#}: {} simulated years of {days} days, seed {}, {} faults each ({})\n\n",
            report.estate,
            outlook.years,
            report.seed,
            outlook.faults / u64::from(outlook.years.max(1)),
            in_time(report.took),
        ));
        out.push_str(&services(outlook, &report.currency));
        out.push_str(&causes(outlook));
    }
    out.push_str(&format!(
        "\n{bold}Compared{bold:#}: availability in percent, in the median year, and in one of ten at worst\n\n"
    ));
    out.push_str(&comparison(report));
    out.push_str(&remarks(report));
    if with_rates {
        out.push_str(&format!("\n{bold}Expected{bold:#}\n\n"));
        out.push_str(&rates(&report.expected));
    } else {
        out.push_str(&sources(&report.expected));
    }
    out
}

/// Each service of the estate as declared.
fn services(outlook: &Outlook, currency: &str) -> String {
    let header = [
        "service",
        "availability %",
        "8 of 10 years",
        "outages a year",
        "recovery",
        "95 %",
        "longest",
        "cost",
        "credits",
    ];
    let mut rows = table(&header);
    for (name, service) in &outlook.services {
        let time = |percent| or_dash(service.recovery(percent).map(in_time).as_ref());
        let money =
            |amount: Option<ostler_sim::Money>| or_dash(amount.map(|amount| format!("{amount} {currency}")).as_ref());
        rows.add_row([
            name.to_string(),
            service.quantile(5).to_string(),
            format!("{} – {}", service.quantile(1), service.quantile(9)),
            a_year(service.recoveries.len(), outlook.years),
            time(50),
            time(95),
            time(100),
            money(service.cost),
            money(service.credits),
        ]);
    }
    lines(&rows)
}

/// A count of all years, for one.
fn a_year(count: usize, years: u32) -> String {
    match count as f64 / f64::from(years.max(1)) {
        few if few > 0.0 && few < 0.05 => "<0.1".to_owned(),
        times => format!("{times:.1}"),
    }
}

/// What callers lost most time by, service by service.
fn causes(outlook: &Outlook) -> String {
    let mut out = String::new();
    for (name, service) in &outlook.services {
        let mut causes: Vec<_> = service.causes.iter().collect();
        causes.sort_by_key(|(_, cause)| std::cmp::Reverse(cause.lost));
        let all: Duration = service.causes.values().map(|cause| cause.lost).sum();
        let words: Vec<String> = causes
            .iter()
            .filter(|(_, cause)| !cause.lost.is_zero())
            .take(4)
            .map(|((word, need), cause)| {
                let word = need.as_ref().map_or_else(|| (*word).to_owned(), |need| format!("{word} of {need}"));
                let percent = 100.0 * cause.lost.as_secs_f64() / all.as_secs_f64();
                format!("{word} {percent:.0} % ({} a year)", a_year(cause.outages as usize, outlook.years))
            })
            .collect();
        if !words.is_empty() {
            out.push_str(&format!(
                "{name} lost {} a year: {}\n",
                in_time(all / outlook.years.max(1)),
                words.join(", ")
            ));
        }
    }
    if out.is_empty() { out } else { format!("\n{out}") }
}

fn comparison(report: &Report) -> String {
    let Some(declared) = report.declared() else { return String::new() };
    let names: Vec<&str> = declared.services.keys().map(|name| name.as_str()).collect();
    let header = std::iter::once("").chain(names).chain(["COST A YEAR"]);
    let mut rows = table(&[]);
    rows.set_header(header);
    for column in rows.column_iter_mut() {
        column.set_padding((0, 2));
    }
    for row in &report.rows {
        let mut cells = vec![who(row.policy, &row.name)];
        match &row.outlook {
            Ok(outlook) => {
                cells.extend(
                    outlook
                        .services
                        .values()
                        .map(|service| format!("{} ({})", service.quantile(5), service.quantile(1))),
                );
                cells.push(total(outlook).map_or_else(|| "–".to_owned(), |sum| format!("{sum} {}", report.currency)));
            }
            Err(_) => cells.push("cannot be bought".to_owned()),
        }
        rows.add_row(cells);
    }
    lines(&rows)
}

/// What all services cost, if each has a price.
fn total(outlook: &Outlook) -> Option<ostler_sim::Money> {
    outlook
        .services
        .values()
        .map(|service| service.cost)
        .try_fold(ostler_sim::Money::default(), |sum, cost| cost.map(|cost| ostler_sim::Money(sum.0 + cost.0)))
}

/// What somebody must know who relies on the figures.
fn remarks(report: &Report) -> String {
    let mut out = String::new();
    for row in &report.rows {
        let who = who(row.policy, &row.name);
        match &row.outlook {
            Err(why) => out.push_str(&format!("\n{who}: it cannot be bought: {why}\n")),
            Ok(outlook) if outlook.never_up > 0 => {
                let years = outlook.never_up;
                out.push_str(&format!("\n{who}: in {years} years it did not come up within six hours.\n"));
            }
            Ok(_) => {}
        }
        let broken = row.outlook.as_ref().map_or(&[][..], |outlook| outlook.broken.as_slice());
        for (seed, violation) in broken {
            out.push_str(&format!(
                "\nostler broke a promise of its own in the year of seed {seed}: {violation}\nPlease report it, with the estate file.\n"
            ));
        }
    }
    if let (Some(declared), Some(nobody)) = (report.declared(), report.nobody()) {
        for (name, service) in &declared.services {
            let alone = nobody.services.get(name).map(|service| service.quantile(5));
            if alone.is_some_and(|alone| alone > service.quantile(5)) {
                out.push_str(&format!(
                    "\n{name} is better off with nothing done: that is a fault of ostler; please report it.\n"
                ));
            }
        }
    }
    out
}

fn source(source: Source) -> &'static str {
    match source {
        Source::File => "the estate file",
        Source::Terms => "the provider's terms",
        Source::Journal => "the journal, weighed with what is assumed",
        Source::Assumed => "assumed",
    }
}

/// Where the rates come from, in short.
fn sources(expected: &[Expected]) -> String {
    let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
    for one in expected.iter().filter(|one| one.every.is_some()) {
        *counts.entry(source(one.source)).or_default() += 1;
    }
    let words: Vec<String> = counts.iter().map(|(source, count)| format!("{count} from {source}")).collect();
    let words = words.join(", ").replace("from assumed", "assumed");
    format!("\nFailure rates: {words}. `--rates` shows them; `[failures]` in the estate file sets them.\n")
}

fn rates(expected: &[Expected]) -> String {
    let mut rows = table(&["what", "to", "every", "lasts", "because"]);
    for one in expected.iter().filter(|one| one.every.is_some() || one.source != Source::Assumed) {
        let target = match one.kind.scope() {
            FailureScope::Estate => "ostler and its machine".to_owned(),
            FailureScope::Instance => format!("each instance of {}", one.target),
            FailureScope::Service | FailureScope::Provider | FailureScope::Region => one.target.clone(),
        };
        let span = |span: Span| in_time(span.get());
        rows.add_row([
            one.kind.to_string(),
            target,
            one.every.map_or_else(|| "never".to_owned(), span),
            one.lasts.map_or_else(String::new, |(least, most)| format!("{} – {}", span(least), span(most))),
            source(one.source).to_owned(),
        ]);
    }
    lines(&rows)
}

pub(crate) fn as_json(report: &Report) -> Value {
    json!({
        "estate": report.estate,
        "currency": report.currency,
        "seed": report.seed,
        "rows": report.rows.iter().map(row_as_json).collect::<Vec<_>>(),
        "expected": report.expected,
    })
}

fn row_as_json(row: &Row) -> Value {
    let policy = match row.policy {
        Policy::Nobody => json!({ "who": "nobody" }),
        Policy::OnCall { least, most } => {
            json!({ "who": "person", "after_seconds": [least.as_secs(), most.as_secs()] })
        }
        Policy::Ostler { answers } => json!({ "who": "ostler", "answers_after_seconds": answers.as_secs() }),
    };
    match &row.outlook {
        Err(why) => json!({ "variation": row.name, "policy": policy, "impossible": why }),
        Ok(outlook) => json!({
            "variation": row.name,
            "policy": policy,
            "years": outlook.years,
            "days": outlook.length.as_secs() / 86_400,
            "faults": outlook.faults,
            "never_up": outlook.never_up,
            "broken": outlook.broken.iter().map(|(seed, what)| json!({ "seed": seed, "what": what.to_string() })).collect::<Vec<_>>(),
            "services": outlook.services.iter().map(|(name, service)| service_as_json(name.as_str(), service)).collect::<Vec<_>>(),
        }),
    }
}

fn service_as_json(name: &str, service: &ServiceOutlook) -> Value {
    let seconds = |length: Duration| (length.as_secs_f64() * 1e6).round() / 1e6;
    let causes = service
        .causes
        .iter()
        .map(|((word, need), cause)| json!({ "cause": word, "need": need, "outages": cause.outages, "lost_seconds": seconds(cause.lost) }));
    json!({
        "name": name,
        // Strings: as many nines as there are survive any reader of JSON.
        "availability": {
            "worst": service.quantile(0).to_string(),
            "one_in_ten": service.quantile(1).to_string(),
            "median": service.quantile(5).to_string(),
            "nine_in_ten": service.quantile(9).to_string(),
            "best": service.quantile(10).to_string(),
        },
        "outages": service.recoveries.len(),
        "recovery_seconds": {
            "median": service.recovery(50).map(seconds),
            "p95": service.recovery(95).map(seconds),
            "longest": service.recovery(100).map(seconds),
        },
        "causes": causes.collect::<Vec<_>>(),
        "cost_a_year": service.cost.map(|cost| cost.to_string()),
        "credits_a_year": service.credits.map(|credits| credits.to_string()),
    })
}
