//! `ostler verify`: the proof that the services work together, as a matrix of consumers and needs.

use std::collections::BTreeSet;

use anstyle::AnsiColor;
use ostler_model::ids::ServiceName;
use ostler_runtime::control::{Request, Response};
use ostler_runtime::verify::{Looked, blame};

use crate::args::Common;
use crate::client::{ask, cut_off};
use crate::commands::print_json;
use crate::failure::{EXIT_CHANGES, Outcome};
use crate::{place, show};

/// Exit code 0 if everything is as it is relied on, 2 otherwise.
pub(crate) async fn verify(common: &Common, service: Option<ServiceName>) -> Outcome<u8> {
    let home = place::of_command(common)?;
    let Response::Verified(looked) = ask(&home, &Request::Verify { service }).await? else { return Err(cut_off()) };
    if common.json {
        print_json(&looked);
    } else {
        anstream::print!("{}", in_words(&looked));
    }
    Ok(if looked.iter().all(Looked::is_kept) { 0 } else { EXIT_CHANGES })
}

fn in_words(looked: &[Looked]) -> String {
    if looked.is_empty() {
        return "Nothing needs anything: there is nothing to prove.\n".to_owned();
    }
    let needs: BTreeSet<&ServiceName> = looked.iter().map(|edge| &edge.need).collect();
    let consumers: BTreeSet<&ServiceName> = looked.iter().map(|edge| &edge.consumer).collect();
    let header: Vec<&str> = ["consumer"].into_iter().chain(needs.iter().map(|need| need.as_str())).collect();
    let mut rows = show::table(&header);
    for consumer in consumers {
        let cell = |need: &&ServiceName| {
            let edge = looked.iter().find(|edge| edge.consumer == *consumer && edge.need == **need);
            edge.map_or_else(String::new, cell)
        };
        rows.add_row([consumer.to_string()].into_iter().chain(needs.iter().map(cell)));
    }
    let mut out = show::lines(&rows);
    for edge in looked.iter().filter(|edge| !edge.is_kept()) {
        let from = edge.provider.as_ref().map_or_else(String::new, |provider| format!(", bought from {provider}"));
        out.push_str(&format!("\n{} cannot rely on {}{from}\n", edge.consumer, edge.need));
        if let Some(why) = &edge.not_seen {
            out.push_str(&format!("  it was not looked at: {why}\n"));
        }
        for checked in &edge.checks {
            if let Some(symptom) = &checked.problem {
                out.push_str(&format!("  {}: {symptom}\n    likely: {}\n", checked.name, blame(symptom)));
            }
        }
    }
    out
}

/// `3 of 3`, green where nothing is wrong.
fn cell(edge: &Looked) -> String {
    let kept = edge.checks.iter().filter(|checked| checked.problem.is_none()).count();
    let style = if edge.is_kept() { AnsiColor::Green.on_default() } else { AnsiColor::Red.on_default().bold() };
    let text = match &edge.not_seen {
        Some(_) => "not seen".to_owned(),
        None => format!("{kept} of {} kept", edge.checks.len()),
    };
    format!("{style}{text}{style:#}")
}
