//! `ostler override` and `ostler overrides`: what people decide otherwise than ostler would, and what that costs.

use clap::{Args, Subcommand, ValueEnum};
use comfy_table::{Cell, CellAlignment};
use ostler_books::{OverrideCost, Without};
use ostler_manager::remedy::Remedy;
use ostler_manager::{Ask, Instruction, wrong_end, wrong_words};
use ostler_model::ids::{PlanName, ProviderName, ServiceName};
use ostler_model::month::Zone;
use ostler_model::overrides::{OverrideId, Until};
use ostler_model::time::{Timestamp, in_words};
use ostler_model::version::Version;
use ostler_runtime::clock;
use ostler_runtime::control::{Refused, Request, Response};

use ostler_runtime::home::Home;

use crate::args::Common;
use crate::client::{ask, cut_off, is_running, keeper_is_there};
use crate::commands::{print_json, recalled_at_rest, say};
use crate::failure::{Failure, Outcome};
use crate::{place, show};

/// What is decided otherwise.
#[derive(Debug, Subcommand)]
pub(crate) enum OverrideCommand {
    /// Have a service at one provider and nowhere else; it is moved there if it is elsewhere
    Pin {
        /// The service
        service: ServiceName,
        /// At whom
        #[arg(long)]
        provider: ProviderName,
        /// Of which plan [default: any]
        #[arg(long)]
        plan: Option<PlanName>,
        #[command(flatten)]
        word: Word,
    },
    /// Have ostler do nothing to a service by itself: it looks, and tells
    Hold {
        /// The service
        service: ServiceName,
        #[command(flatten)]
        word: Word,
    },
    /// Have nothing new bought from a provider, and nothing moved there; what exists stays
    ForbidProvider {
        /// The provider
        provider: ProviderName,
        #[command(flatten)]
        word: Word,
    },
    /// Have a service not upgraded, or not to one version
    SkipUpgrade {
        /// The service
        service: ServiceName,
        /// The version that is skipped [default: all]
        #[arg(long)]
        version: Option<Version>,
        #[command(flatten)]
        word: Word,
    },
    /// Have nothing changed that need not be: no upgrades, no drills, no moves but to heal
    Freeze {
        /// The service [default: the whole estate]
        service: Option<ServiceName>,
        #[command(flatten)]
        word: Word,
    },
    /// Have the next trouble of a service, or the one that it has, treated in one way, once
    ForceRemedy {
        /// The service
        service: ServiceName,
        /// What is tried
        #[arg(long)]
        remedy: Rung,
        #[command(flatten)]
        word: Word,
    },
    /// End an override before its end
    End {
        /// Its id, like `override-3`
        id: OverrideId,
        /// Who answers for that
        #[arg(long, value_name = "NAME")]
        owner: Option<String>,
        /// Why
        #[arg(long, value_name = "TEXT")]
        reason: Option<String>,
    },
}

/// Who answers for an override, why, and until when.
#[derive(Clone, Debug, Args)]
pub(crate) struct Word {
    /// Who answers for it
    #[arg(long, value_name = "NAME")]
    pub owner: Option<String>,
    /// Why
    #[arg(long, value_name = "TEXT")]
    pub reason: Option<String>,
    /// Until when: the end of a day like `2026-12-31` where the estate is, a moment like `2026-12-31T18:00:00Z`, or a time
    /// like `2h`; at most a year ahead
    #[arg(long, value_name = "END")]
    pub until: Option<Until>,
}

/// What can be tried.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum Rung {
    /// Do nothing for a while
    Wait,
    /// Stop it and start it, or make what is gone once more
    Restart,
    /// Make its credentials anew
    RenewBinding,
    /// Take its last change back
    #[value(alias = "rollback")]
    RollBack,
    /// Move it to another provider, with its data
    #[value(alias = "failover")]
    FailOver,
    /// Ask a person
    Ask,
}

impl From<Rung> for Remedy {
    fn from(rung: Rung) -> Self {
        match rung {
            Rung::Wait => Self::Wait,
            Rung::Restart => Self::Restart,
            Rung::RenewBinding => Self::RenewBinding,
            Rung::RollBack => Self::RollBack,
            Rung::FailOver => Self::FailOver,
            Rung::Ask => Self::Ask,
        }
    }
}

/// Which are shown.
#[derive(Debug, Args)]
pub(crate) struct Overrides {
    /// Show those that have ended, too
    #[arg(long)]
    pub all: bool,
}

pub(crate) async fn override_it(command: OverrideCommand, common: &Common) -> Outcome {
    let (instruction, word) = match command {
        OverrideCommand::End { id, owner, reason } => return end(id, owner, reason, common).await,
        OverrideCommand::Pin { service, provider, plan, word } => (Instruction::Pin { service, provider, plan }, word),
        OverrideCommand::Hold { service, word } => (Instruction::Hold { service }, word),
        OverrideCommand::ForbidProvider { provider, word } => (Instruction::ForbidProvider { provider }, word),
        OverrideCommand::SkipUpgrade { service, version, word } => {
            (Instruction::SkipUpgrade { service, version }, word)
        }
        OverrideCommand::Freeze { service, word } => (Instruction::Freeze { service }, word),
        OverrideCommand::ForceRemedy { service, remedy, word } => {
            (Instruction::ForceRemedy { service, remedy: remedy.into() }, word)
        }
    };
    let (owner, reason) = (word.owner.unwrap_or_default(), word.reason.unwrap_or_default());
    let mut wrong = wrong_words(&owner, &reason);
    if word.until.is_none() {
        // By whose clock an end is meant the manager knows; that there is none is seen here.
        wrong.extend(wrong_end(None, clock::now(), &Zone::default()));
    }
    refuse(format!("cannot override what ostler decides: {instruction}"), wrong)?;
    let home = place::of_command(common)?;
    let asked = Ask::Override { instruction: instruction.clone(), owner, reason, until: word.until };
    ask(&home, &Request::Ask(asked)).await?;
    let what = instruction.to_string();
    let begun = costs(&home).await?.into_iter().filter(|cost| cost.what == what && cost.ended.is_none());
    let Some(begun) = begun.max_by_key(|cost| cost.id) else {
        return Err(Failure::new("cannot find the override", "it has ended already", "see `ostler overrides --all`"));
    };
    if common.json {
        print_json(&begun);
    } else {
        let until = begun.until.to_seconds();
        anstream::println!("{}: {what}, until {until}. `ostler override end {}` ends it before.", begun.id, begun.id);
    }
    Ok(())
}

async fn end(id: OverrideId, owner: Option<String>, reason: Option<String>, common: &Common) -> Outcome {
    let (owner, reason) = (owner.unwrap_or_default(), reason.unwrap_or_default());
    refuse(format!("cannot end {id}"), wrong_words(&owner, &reason))?;
    let home = place::of_command(common)?;
    ask(&home, &Request::Ask(Ask::EndOverride { id, owner, reason })).await?;
    say(common, &format!("{id} stands no more."));
    Ok(())
}

/// Everything that is wrong, at once.
fn refuse(what: String, causes: Vec<String>) -> Outcome {
    if causes.is_empty() {
        return Ok(());
    }
    let remedy = "say who answers for it, why, and until when: `ostler override --help`".to_owned();
    Err(Refused { what, causes, remedy, problems: Vec::new(), rendered: None }.into())
}

/// What each has cost so far; asked of a running ostler, or read from the journal of one that is stopped.
async fn costs(home: &Home) -> Outcome<Vec<OverrideCost>> {
    if is_running(home).await || keeper_is_there(home) {
        return match ask(home, &Request::Overrides).await? {
            Response::Overrides(costs) => Ok(costs),
            _ => Err(cut_off()),
        };
    }
    let ledger = recalled_at_rest(home)?.map(|(known, _)| known.ledger).unwrap_or_default();
    Ok(ledger.overrides(clock::now()))
}

/// Lists them by what they have cost so far.
pub(crate) async fn show(arguments: &Overrides, common: &Common) -> Outcome {
    let home = place::of_command(common)?;
    let mut costs = costs(&home).await?;
    costs.retain(|cost| arguments.all || cost.ended.is_none());
    if common.json {
        print_json(&serde_json::json!({ "overrides": costs }));
    } else {
        anstream::print!("{}", list(&costs, arguments.all, clock::now()));
    }
    Ok(())
}

fn list(costs: &[OverrideCost], all: bool, now: Timestamp) -> String {
    if costs.is_empty() {
        let words = if all { "Nothing was ever decided otherwise." } else { "Nothing is decided otherwise now." };
        return format!("{words}\n");
    }
    let mut table = show::table(&["override", "says", "owner", "until", "money", "not served", "updates open"]);
    for cost in costs {
        let right = |text: String| Cell::new(text).set_alignment(CellAlignment::Right);
        let money = format!("{} {}", cost.money, cost.currency.as_deref().unwrap_or_default());
        let until = match (&cost.ended, &cost.because) {
            (Some(ended), because) => format!("{} ({})", ended.to_seconds(), because.as_deref().unwrap_or_default()),
            (None, _) => cost.until.to_seconds(),
        };
        let outage = in_words(std::time::Duration::from_secs(cost.outage_seconds));
        table.add_row([
            Cell::new(cost.id),
            Cell::new(&cost.what),
            Cell::new(&cost.owner),
            Cell::new(until),
            right(money.trim_end().to_owned()),
            right(if cost.outage_seconds == 0 { "–".to_owned() } else { outage }),
            right(updates(cost)),
        ]);
    }
    let mut out = show::lines(&table);
    for cost in costs {
        out.push_str(&format!("\n{}: {}\n", cost.id, cost.reason));
        if cost.ended.is_none() {
            out.push_str(&format!("  it stands for {} more\n", in_words(cost.until.since(now))));
        }
        cost.without.iter().for_each(|without| out.push_str(&format!("  without it {}\n", would_be(cost, without))));
        cost.not_counted.iter().for_each(|what| out.push_str(&format!("  not counted: {what}\n")));
    }
    out
}

fn updates(cost: &OverrideCost) -> String {
    match (cost.updates, cost.update_days.is_zero()) {
        (0, true) => "–".to_owned(),
        (0, false) => format!("0; {} days", cost.update_days),
        (open, _) => format!("{open}; {} days", cost.update_days),
    }
}

fn would_be(cost: &OverrideCost, without: &Without) -> String {
    let currency = cost.currency.as_deref().unwrap_or_default();
    match (without.monthly, without.instead_of) {
        (Some(monthly), Some(instead_of)) => {
            format!("{}, for {monthly} {currency} a month instead of {instead_of} {currency}", without.what)
        }
        _ => without.what.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_stands_is_listed_with_what_it_costs() {
        let at = |text: &str| Timestamp::parse(text).unwrap();
        let cost = OverrideCost {
            id: OverrideId(3),
            kind: "pin".to_owned(),
            what: "pin db to here".to_owned(),
            service: Some("db".parse().unwrap()),
            provider: Some("here".parse().unwrap()),
            owner: "Ada".to_owned(),
            reason: "the contract runs until June".to_owned(),
            began: at("2026-11-30T00:00:00Z"),
            until: at("2027-01-01T00:00:00Z"),
            ended: None,
            because: None,
            without: vec![Without {
                what: "db would be at acme's small".to_owned(),
                monthly: Some("12.00".parse().unwrap()),
                instead_of: Some("30.00".parse().unwrap()),
            }],
            money: "-0.58".parse().unwrap(),
            currency: Some("EUR".to_owned()),
            outage_seconds: 250,
            updates: 2,
            update_days: "0.5".parse().unwrap(),
            not_counted: Vec::new(),
        };
        let text = list(&[cost], false, at("2026-12-01T00:00:00Z"));
        let squeezed: Vec<String> =
            text.lines().map(|line| line.split_whitespace().collect::<Vec<_>>().join(" ")).collect();
        let shown = [
            "OVERRIDE SAYS OWNER UNTIL MONEY NOT SERVED UPDATES OPEN",
            "override-3 pin db to here Ada 2027-01-01T00:00:00Z -0.58 EUR 4 min 10 s 2; 0.5 days",
            "",
            "override-3: the contract runs until June",
            "it stands for 31 d more",
            "without it db would be at acme's small, for 12.00 EUR a month instead of 30.00 EUR",
        ];
        assert_eq!(squeezed, shown);
    }
}
