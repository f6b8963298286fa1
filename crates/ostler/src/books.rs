//! `ostler books`: what a month costs.

use std::io::Write;
use std::path::Path;

use anstyle::AnsiColor;
use comfy_table::{Cell, CellAlignment};
use ostler_books::{By, CarriedBytes, NotCounted, Report, Row, Statement, focus};
use ostler_manager::ClaimState;
use ostler_model::money::Money;
use ostler_runtime::clock;
use ostler_runtime::control::{Request, Response};
use ostler_runtime::history;
use ostler_runtime::server::no_books;
use rust_decimal::Decimal;
use rust_decimal::prelude::ToPrimitive;

use crate::args::{Books, Common, Seen};
use crate::client::{ask, cut_off, is_running, keeper_is_there};
use crate::commands::{print_json, recalled_at_rest, say};
use crate::failure::{Failure, Outcome};
use crate::{place, show};

/// A bar has so many cells.
const CELLS: usize = 20;

pub(crate) async fn show(arguments: &Books, common: &Common) -> Outcome {
    let home = place::of_command(common)?;
    let statement = if is_running(&home).await || keeper_is_there(&home) {
        match ask(&home, &Request::Books { month: arguments.month }).await? {
            Response::Books(statement) => *statement,
            _ => return Err(cut_off()),
        }
    } else {
        let ledger = recalled_at_rest(&home)?.map(|(known, _)| known.ledger).unwrap_or_default();
        ledger.statement(arguments.month, clock::now()).map_err(|error| Failure::from(no_books(&error)))?
    };
    if let Some(file) = &arguments.focus {
        return export(&statement, file, common);
    }
    let by = match arguments.by {
        Seen::Service => By::Service,
        Seen::Provider => By::Provider,
        Seen::Need => By::Need,
    };
    let report = statement.report(by);
    if common.json {
        print_json(&in_json(&statement, by, &report));
    } else {
        anstream::print!("{}", in_words(&statement, by, &report));
    }
    Ok(())
}

fn export(statement: &Statement, file: &Path, common: &Common) -> Outcome {
    let text = focus(statement);
    if file == Path::new("-") {
        // A reader that has gone needs no more of it.
        drop(std::io::stdout().write_all(text.as_bytes()));
        return Ok(());
    }
    let what = format!("cannot write {}", file.display());
    std::fs::write(file, text)
        .map_err(|error| Failure::of(what, &error, "name a file in a folder that you may write to"))?;
    let items = history::counted(statement.so_far.len(), "item");
    say(common, &format!("{} has {items} of {}.", file.display(), statement.month));
    Ok(())
}

fn in_json(statement: &Statement, by: By, report: &Report) -> serde_json::Value {
    serde_json::json!({
        "estate": statement.estate,
        "month": statement.month,
        "zone": statement.zone,
        "currency": statement.currency,
        "from": statement.from.to_string(),
        "until": statement.until.to_string(),
        "ends": statement.ends.to_string(),
        "budget": statement.budget,
        "by": by.as_str(),
        "so_far": report.so_far,
        "forecast": report.forecast,
        "rows": report.rows,
        "credits": statement.credits,
        "not_counted": statement.not_counted,
        "carried": statement.carried,
    })
}

fn in_words(statement: &Statement, by: By, report: &Report) -> String {
    let Statement { estate, month, zone, .. } = statement;
    let code = statement.currency.as_str();
    let is_over = statement.until == statement.ends;
    let mut out = if is_over {
        format!("Books of {estate} for {month} ({zone}): {} {code}\n", report.so_far)
    } else {
        let (so_far, forecast) = (report.so_far, report.forecast);
        format!(
            "Books of {estate} for {month} ({zone}): {so_far} {code} so far, {forecast} {code} by its end if nothing changes\n"
        )
    };
    if let Some(budget) = statement.budget {
        let budget = budget.get();
        let stands = format!(
            "{} of the budget of {} {code}",
            percent(report.forecast, budget),
            statement.currency.to_the_cent(budget)
        );
        out.push_str(&match report.forecast > budget {
            true => {
                let red = AnsiColor::Red.on_default().bold();
                format!("{red}{stands}: more than may be spent{red:#}\n")
            }
            false => format!("{stands}\n"),
        });
    }
    if !report.rows.is_empty() {
        out.push('\n');
        out.push_str(&rows_in_words(statement, by, report, is_over));
    }
    out.push_str(&carried(&statement.carried));
    out.push_str(&credits(statement));
    out.push_str(&not_counted(&statement.not_counted));
    out
}

/// What providers owe for the month, apart from what they bill.
fn credits(statement: &Statement) -> String {
    if statement.credits.is_empty() {
        return String::new();
    }
    let mut out = String::from("\nService credits\n");
    for owed in &statement.credits {
        let amount = Money { amount: owed.amount, currency: statement.currency.clone() };
        let deadline = owed.deadline.to_seconds();
        let words = match owed.state {
            ClaimState::Open => format!("{amount} owed to you, to be claimed before {deadline}"),
            ClaimState::Claimed => format!("{amount} claimed"),
            ClaimState::Paid => format!("{amount} paid"),
            ClaimState::Refused => format!("{amount} claimed, and refused"),
        };
        out.push_str(&format!("  {}: {words}\n", owed.provider));
    }
    out
}

fn rows_in_words(statement: &Statement, by: By, report: &Report, is_over: bool) -> String {
    let (whole, title) = match statement.budget {
        Some(budget) => (budget.get(), "of the budget"),
        None => (report.forecast, "of the whole"),
    };
    let mut header = vec![by.as_str(), "so far", "forecast", title];
    if is_over {
        header.remove(2);
        header[1] = "cost";
    }
    let mut table = show::table(&header);
    let mut add = |name: String, row: &Row| {
        let right = |amount: Decimal| Cell::new(amount).set_alignment(CellAlignment::Right);
        let mut cells = vec![Cell::new(name), right(row.so_far)];
        if !is_over {
            cells.push(right(row.forecast));
        }
        cells.push(Cell::new(format!("{} {:>5}", bar(row.forecast, whole), percent(row.forecast, whole))));
        table.add_row(cells);
    };
    for row in &report.rows {
        add(row.name.clone(), row);
        for part in &row.parts {
            let name = if part.name == row.name { "itself" } else { part.name.as_str() };
            add(format!("  {name}"), part);
        }
    }
    show::lines(&table)
}

/// What passed through endpoints, whether it costs anything or not.
fn carried(found: &[CarriedBytes]) -> String {
    if found.is_empty() {
        return String::new();
    }
    let mut table = show::table(&["through the endpoint of", "in", "out"]);
    for CarriedBytes { service, bytes } in found {
        let right = |bytes: u64| Cell::new(in_gigabytes(bytes)).set_alignment(CellAlignment::Right);
        table.add_row([Cell::new(service), right(bytes.inward), right(bytes.outward)]);
    }
    format!("\n{}", show::lines(&table))
}

/// Of 10^9 bytes, with three decimals; what is less in bytes.
fn in_gigabytes(bytes: u64) -> String {
    if bytes < 1_000_000 {
        return format!("{bytes} bytes");
    }
    format!("{} GB", (Decimal::from(bytes) / Decimal::from(1_000_000_000)).round_dp(3))
}

fn not_counted(found: &[NotCounted]) -> String {
    if found.is_empty() {
        return String::new();
    }
    let mut out = String::from("\nNot counted\n");
    for NotCounted { service, provider, plan, said, why } in found {
        let of = service.as_ref().map(|service| format!("{service}, "));
        let what = match (plan, provider) {
            (Some(plan), Some(provider)) => format!("{plan} at {provider}"),
            (None, Some(provider)) => provider.to_string(),
            (_, None) => "backups".to_owned(),
        };
        let said = if said.is_empty() { String::new() } else { format!(" ({said})") };
        out.push_str(&format!("  {}{what}{said}: {why}\n", of.unwrap_or_default()));
    }
    out
}

/// How much of `whole` it is, in whole percents.
fn percent(amount: Decimal, whole: Decimal) -> String {
    match (amount * Decimal::ONE_HUNDRED).checked_div(whole) {
        Some(percent) => format!("{}%", percent.round()),
        None => "–".to_owned(),
    }
}

fn bar(amount: Decimal, whole: Decimal) -> String {
    let cells = (amount * Decimal::from(CELLS)).checked_div(whole).and_then(|cells| cells.round().to_usize());
    let full = cells.unwrap_or(0).min(CELLS);
    format!("{}{}", "█".repeat(full), "░".repeat(CELLS - full))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bars_are_as_long_as_the_share_is_large() {
        let of = |amount: i64, whole: i64| bar(Decimal::from(amount), Decimal::from(whole));
        assert_eq!(of(0, 100), "░".repeat(20));
        assert_eq!(of(50, 100), format!("{}{}", "█".repeat(10), "░".repeat(10)));
        assert_eq!(of(300, 100), "█".repeat(20));
        assert_eq!(of(1, 0), "░".repeat(20));
        assert_eq!(percent(Decimal::from(300), Decimal::from(100)), "300%");
        assert_eq!(percent(Decimal::ONE, Decimal::ZERO), "–");
    }
}
