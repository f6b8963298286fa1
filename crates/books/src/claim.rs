//! The paper with which a service credit is claimed: what was promised, what was delivered, what is owed, and the
//! evidence for it, so that whoever gets it can check each figure.

use std::time::Duration;

use ostler_model::estate::claims::Whole;
use ostler_model::estate::terms::Terms;
use ostler_model::money::Money;
use ostler_model::time::in_words;
use rust_decimal::Decimal;

use crate::credits::{Credits, Line, MonthCredit, OutageShown, Told};
use crate::paper::{Block, Paper};

/// The claim of `credit`, which is one of `credits`.
pub fn claim(credits: &Credits, credit: &MonthCredit) -> Paper {
    let money = |amount: Decimal| Money { amount, currency: credits.currency.clone() }.to_string();
    let MonthCredit { provider, month, zone, .. } = credit;
    let pair = |name: &str, value: String| (name.to_owned(), value);
    let mut blocks = vec![
        Block::Pairs(vec![
            pair("To", provider.to_string()),
            pair("From", credits.estate.clone()),
            pair("For", format!("{month}, by the calendar of {zone}: {} until {}", credit.from, credit.until)),
            pair("Claimed", money(credit.due)),
            pair("As of", credits.now.to_seconds()),
            pair("To be claimed before", credit.deadline.to_seconds()),
        ]),
        Block::Text(
            "What was bought from you was less available in this time than your terms promise. The credit that your terms \
             provide for that is claimed below, with the measurements and the evidence."
                .to_owned(),
        ),
        Block::Heading("What is claimed".to_owned()),
        lines(credits, credit),
    ];
    if let Some(most) = credit.cut_to {
        blocks.push(Block::Text(format!("By your terms the credits of a month are {} at most.", money(most))));
    }
    blocks.push(Block::Text(
        "Prices are what was due for the time in which the instance was held in this month. Each credit is rounded to the \
         smallest unit of the currency, half to even, and then added."
            .to_owned(),
    ));
    if !credit.is_over() {
        blocks.push(Block::Text("The month is not over: all figures are as of the time above.".to_owned()));
    }
    blocks.push(Block::Heading("How it was counted".to_owned()));
    blocks.push(Block::List(rules(credits, credit)));
    blocks.push(Block::Heading("Outages".to_owned()));
    blocks.push(Block::Text("All times are UTC. Facts are numbered as in the journal of the estate.".to_owned()));
    for line in credit.lines.iter().filter(|line| !line.outages.is_empty()) {
        blocks.push(Block::Part(format!("{} ({}/{})", line.instance, line.offering, line.plan)));
        for outage in &line.outages {
            let (head, evidence) = evidence(outage);
            blocks.push(Block::Text(head));
            blocks.push(Block::List(evidence));
        }
    }
    Paper { title: format!("Claim for a service credit: {provider}, {month}"), blocks }
}

fn lines(credits: &Credits, credit: &MonthCredit) -> Block {
    let header = ["instance", "bought", "promised", "delivered", "not available", "refund", "price", "credit"];
    let cents = |amount: Decimal| credits.currency.to_the_cent(amount).to_string();
    let row = |line: &Line| {
        vec![
            line.instance.to_string(),
            format!("{}/{}", line.offering, line.plan),
            line.promised.map(|promised| promised.to_string()).unwrap_or_default(),
            line.measured.to_string(),
            exact(line.down_us),
            line.refund.to_string(),
            cents(line.price),
            cents(line.credit),
        ]
    };
    let mut rows: Vec<Vec<String>> = credit.lines.iter().filter(|line| line.credit > Decimal::ZERO).map(row).collect();
    let mut sum = vec![String::new(); header.len()];
    sum[0] = format!("Sum, in {}", credits.currency.as_str());
    sum[header.len() - 1] = cents(credit.sum);
    rows.push(sum);
    Block::Table { header: header.map(str::to_owned).to_vec(), right: 2, rows, has_sum: true }
}

/// By which rules it was counted, as sentences.
fn rules(credits: &Credits, credit: &MonthCredit) -> Vec<String> {
    let from = credits.seen_from.as_ref().map(|region| format!(" (region {region})")).unwrap_or_default();
    let mut rules = vec![
        format!(
            "Each instance was probed from outside, from the buyer's machine{from}, over its own binding and in its own \
             protocol. An outage lasts from when it was seen not to answer until it was seen to answer again."
        ),
        "Only time for which the diagnosis that held at that moment names what was bought, or its provider, is counted."
            .to_owned(),
        "Not counted are faults that were caused on purpose (drills), changes that the buyer had made, faults of others, \
         what the buyer excludes, and time in which nobody looked."
            .to_owned(),
    ];
    rules.extend(terms_in_words(&credit.terms));
    rules
}

/// By which rules a provider's terms count, as sentences.
pub fn terms_in_words(terms: &Terms) -> Vec<String> {
    let rules = &terms.counting;
    let mut words = Vec::new();
    if let Some(availability) = terms.availability {
        words.push(format!("Promised: {availability} of the time."));
    }
    for credit in &terms.credits {
        words.push(format!("Below {}: {} of the price is paid back.", credit.below, credit.refund));
    }
    words.push(match rules.whole {
        Whole::Month => "The share is taken of the whole month.".to_owned(),
        Whole::Held => "The share is taken of the part of the month in which the instance was held.".to_owned(),
    });
    if let Some(least) = rules.outage_from {
        words.push(format!("An outage counts from {least} on, and then all of it."));
    }
    if let Some(step) = rules.outage_step {
        words.push(format!("Only whole pieces of {step} count, as the clock of UTC cuts them."));
    }
    if let Some(failed) = rules.failed {
        words.push(format!("Where requests are counted, a time counts in which {failed} of them or more failed."));
    }
    if !rules.maintenance.is_empty() {
        let windows: Vec<String> = rules.maintenance.iter().map(ToString::to_string).collect();
        let most = rules.maintenance_max.map(|most| format!(", {most} of a month at most")).unwrap_or_default();
        words.push(format!("Announced maintenance does not count{most}: {}.", windows.join(", ")));
    }
    if let Some(most) = terms.claims.at_most {
        words.push(format!("All credits of a month are {most} of its price at most."));
    }
    if let Some(least) = terms.claims.at_least {
        words.push(format!("Less than {least} is not paid."));
    }
    words.push(format!("A credit is to be claimed within {} after the month.", terms.claims.within()));
    words
}

/// One outage, and everything that speaks for it.
fn evidence(outage: &OutageShown) -> (String, Vec<String>) {
    let until = match (outage.until, &outage.unseen_from) {
        (None, _) => "it lasts".to_owned(),
        (Some(until), None) => format!("until {}", until.to_millis()),
        (Some(until), Some(why)) => format!("until {} ({why})", until.to_millis()),
    };
    let told = |what: &str, told: &Told| {
        let evidence = if told.evidence.is_empty() { String::new() } else { format!("; {}", told.evidence.join("; ")) };
        format!("{} {what} (fact {}): {}{evidence}", told.at.to_millis(), told.fact, told.words)
    };
    let head = format!("From {} {until}: {} counted.", outage.from.to_millis(), exact(outage.counted_us));
    let mut all: Vec<String> = outage.seen.iter().map(|seen| told("seen", seen)).collect();
    all.extend(outage.concluded.iter().map(|concluded| told("concluded", concluded)));
    all.extend(outage.not_counted.iter().map(|not| format!("Not counted, {}: {}", exact(not.us), not.why)));
    (head, all)
}

/// A length for people, and exactly: `4 min 10 s (250.125 s)`.
pub(crate) fn exact(us: u64) -> String {
    let words = in_words(Duration::from_micros(us));
    let seconds = Decimal::new(i64::try_from(us).unwrap_or(i64::MAX), 6).normalize();
    match us {
        0 => "0 s".to_owned(),
        // Of what is shorter than a minute the words say it well enough.
        1..60_000_000 => format!("{seconds} s"),
        _ => format!("{words} ({seconds} s)"),
    }
}
