//! An answer in words and as JSON.

use anstyle::Style;
use comfy_table::{Cell, CellAlignment, Table};
use ostler_books::own::{DRAWS, Hangs, Offer, Origin, Part, Spread, Stated, VOLUME_MAX, Way, Weighed};
use ostler_model::estate::Currency;
use ostler_model::estate::own::{Range, Unit};
use ostler_model::month::Month;
use rust_decimal::Decimal;
use rust_decimal::prelude::FromPrimitive;
use serde_json::{Value, json};

use super::Shown;
use crate::show;

/// So many things are shown on which the answer hangs.
const HANGS_SHOWN: usize = 8;
/// So many plans have a column of their own where it is shown what they are made up of.
const COLUMNS_MAX: usize = 3;

/// For people: in whole units of the currency, as more would say more than anybody knows.
pub(super) fn in_words(shown: &Shown) -> String {
    let Shown { estate, service, answer, .. } = shown;
    let code = estate.currency.as_str();
    let years = in_years(answer.years);
    let mut out =
        format!("Own or buy {} of {}: net present value over {years}, in {code}\n\n", service.name, estate.name);
    out.push_str(&verdict(shown));
    out.push('\n');
    out.push_str(&ways(shown));
    out.push_str(&heading("What that is made up of"));
    out.push_str(&made_up_of(shown));
    if let Some(best) = answer.plans.first() {
        out.push_str(&heading("What the answer hangs on most"));
        out.push_str(&hangs(shown, best));
    }
    out.push_str(&heading("What is assumed"));
    out.push_str(&assumed(shown));
    if !shown.left_out.is_empty() {
        out.push_str(&heading("Not compared"));
        for left in &shown.left_out {
            let what = left.plan.as_ref().map(|plan| format!("{plan} at ")).unwrap_or_default();
            out.push_str(&format!("  {what}{}: {}\n", left.provider, left.why));
        }
    }
    out
}

fn heading(text: &str) -> String {
    let bold = Style::new().bold();
    format!("\n{bold}{text}{bold:#}\n")
}

fn in_years(years: u32) -> String {
    if years == 1 { "1 year".to_owned() } else { format!("{years} years") }
}

/// In one sentence or two.
fn verdict(shown: &Shown) -> String {
    let Shown { estate, answer, .. } = shown;
    let code = estate.currency.as_str();
    let Some(best) = answer.plans.first() else {
        return "Nobody here offers a plan that it could be compared with.\n".to_owned();
    };
    let of = |way: &Way| way.over.last().copied().unwrap_or_default();
    let dearer = of(&answer.own) - of(&best.way);
    let (name, amount) = (best.offer.name(), whole(dearer.abs()));
    let (who, wins) = if dearer > Decimal::ZERO {
        (format!("Buying {name} costs {amount} {code} less than owning"), DRAWS - best.owning_wins)
    } else {
        (format!("Owning costs {amount} {code} less than buying {name}"), best.owning_wins)
    };
    let is_sure = wins * 10 >= DRAWS * 9;
    let sure = if is_sure { "" } else { " The figures do not settle it." };
    format!("{who}, and less in {} of {DRAWS} draws.{sure}\n{}\n", wins, break_even(shown, best))
}

fn break_even(shown: &Shown, plan: &Weighed) -> String {
    let needed = shown.stated.iter().find(|stated| stated.assumption.as_str() == "instances");
    let needed = needed.map(|stated| stated.range.likely()).unwrap_or_default();
    let volume = match plan.volume {
        Some(1) => "It is cheaper to own from the first instance on".to_owned(),
        Some(count) => format!("It is cheaper to own from {count} instances on ({needed} are needed)"),
        None => format!("It is not cheaper to own with any number of instances up to {VOLUME_MAX}"),
    };
    let when = match plan.months {
        Some(months) => format!("from {} on owning has cost less", after(shown.month, months)),
        None => "owning has not cost less for good at any time within seven years".to_owned(),
    };
    format!("{volume}; {when}.")
}

/// The month in which so many months are over.
fn after(month: Month, months: u32) -> Month {
    (0..months).fold(month, |month, _| month.next())
}

fn right(text: impl ToString) -> Cell {
    Cell::new(text).set_alignment(CellAlignment::Right)
}

fn ways(shown: &Shown) -> String {
    let answer = &shown.answer;
    let mut header = vec!["way".to_owned()];
    header.extend((1..=answer.years).map(in_years));
    header.extend(["nine of ten draws", "owning is cheaper", "from volume", "from month"].map(str::to_owned));
    let mut table = show::table(&header.iter().map(String::as_str).collect::<Vec<_>>());
    let mut add = |name: String, way: &Way, rest: [String; 3]| {
        let mut cells = vec![Cell::new(name)];
        cells.extend(way.over.iter().map(|amount| right(whole(*amount))));
        cells.push(right(way.spread.last().map(spread).unwrap_or_default()));
        cells.extend(rest.map(right));
        table.add_row(cells);
    };
    add("own".to_owned(), &answer.own, [String::new(), String::new(), String::new()]);
    for plan in &answer.plans {
        let share = Decimal::from(plan.owning_wins * 100) / Decimal::from(DRAWS);
        let volume = plan.volume.map_or("never".to_owned(), |count| counted(count, "instance"));
        let when = plan.months.map_or("never".to_owned(), |months| after(shown.month, months).to_string());
        add(plan.offer.name(), &plan.way, [format!("{} % of draws", share.round()), volume, when]);
    }
    let mut out = show::lines(&table);
    if answer.more > 0 {
        out.push_str(&format!("{} that cost more are not shown\n", counted_plans(answer.more)));
    }
    out
}

fn counted(count: u32, what: &str) -> String {
    if count == 1 { format!("1 {what}") } else { format!("{count} {what}s") }
}

fn counted_plans(count: usize) -> String {
    if count == 1 { "1 more plan".to_owned() } else { format!("{count} more plans") }
}

fn spread(spread: &Spread) -> String {
    format!("{} to {}", whole(cents(spread.low)), whole(cents(spread.high)))
}

fn cents(amount: f64) -> Decimal {
    Decimal::from_f64(amount).unwrap_or_default()
}

fn whole(amount: Decimal) -> String {
    let rounded = amount.round();
    if rounded.is_zero() { "0".to_owned() } else { rounded.normalize().to_string() }
}

fn made_up_of(shown: &Shown) -> String {
    let answer = &shown.answer;
    let plans = || answer.plans.iter().take(COLUMNS_MAX);
    let names: Vec<String> = plans().map(|plan| plan.offer.name()).collect();
    let mut header = vec!["part", "own"];
    header.extend(names.iter().map(String::as_str));
    let mut table = show::table(&header);
    let of = |way: &Way, part: Part| way.parts.iter().find(|(other, _)| *other == part).map(|(_, amount)| *amount);
    for part in Part::ALL {
        let amounts: Vec<Option<Decimal>> =
            [&answer.own].into_iter().chain(plans().map(|plan| &plan.way)).map(|way| of(way, part)).collect();
        if amounts.iter().all(Option::is_none) {
            continue;
        }
        let mut cells = vec![Cell::new(part.in_words())];
        cells.extend(amounts.into_iter().map(|amount| right(amount.map(whole).unwrap_or_default())));
        table.add_row(cells);
    }
    show::lines(&table)
}

fn hangs(shown: &Shown, best: &Weighed) -> String {
    let all = &shown.answer.hangs;
    if all.is_empty() {
        return "  nothing: all is certain\n".to_owned();
    }
    let mut table: Table =
        show::table(&["what", "range", "owning minus buying: at the least", "at the most", "swing", ""]);
    for hangs in all.iter().take(HANGS_SHOWN) {
        let turns = if hangs.turns() { "turns the answer" } else { "" };
        table.add_row([
            Cell::new(name_of(hangs, &best.offer)),
            right(range_of(hangs)),
            right(whole(hangs.at_low)),
            right(whole(hangs.at_high)),
            right(whole(hangs.swing())),
            Cell::new(turns),
        ]);
    }
    let mut out = show::lines(&table);
    if all.len() > HANGS_SHOWN {
        out.push_str(&format!("{} more hang less on it; `--json` has all\n", all.len() - HANGS_SHOWN));
    }
    out
}

fn name_of(hangs: &Hangs, offer: &Offer) -> String {
    match hangs.assumption {
        Some(assumption) => assumption.to_string(),
        None => format!("hours a year out at {}", offer.provider),
    }
}

fn range_of(hangs: &Hangs) -> String {
    ranged(&hangs.range, hangs.assumption.map_or(Unit::Number, |assumption| assumption.unit()))
}

/// As the estate file writes it.
fn ranged(range: &Range, unit: Unit) -> String {
    if unit != Unit::Percent {
        return range.to_string();
    }
    range.to_string().split("..").map(|part| format!("{part}%")).collect::<Vec<_>>().join("..")
}

fn assumed(shown: &Shown) -> String {
    let mut table = show::table(&["key", "figure", "what it is", "where it is from"]);
    let name = &shown.service.name;
    for stated in &shown.stated {
        table.add_row([
            Cell::new(stated.assumption.as_str()),
            right(ranged(&stated.range, stated.assumption.unit())),
            Cell::new(stated.assumption.in_words()),
            Cell::new(origin(stated, name.as_str())),
        ]);
    }
    for plan in &shown.answer.plans {
        let Offer { away, origin, provider, .. } = &plan.offer;
        table.add_row([
            Cell::new(""),
            right(away),
            Cell::new(format!("hours a year out: {}", plan.offer.name())),
            Cell::new(match origin {
                Origin::Promised => format!("what {provider} promises allows for the most"),
                Origin::Default | Origin::Estate | Origin::Service => "`available`, above".to_owned(),
                Origin::File(from) => from.clone(),
                Origin::Measured(how) => format!("measured: {how}"),
            }),
        ]);
    }
    show::lines(&table)
}

fn origin(stated: &Stated, service: &str) -> String {
    match &stated.origin {
        Origin::Service => format!("[service.{service}.own]"),
        Origin::Estate => "[own]".to_owned(),
        Origin::File(from) => from.clone(),
        Origin::Measured(how) => format!("measured: {how}"),
        Origin::Promised => "promised".to_owned(),
        Origin::Default => format!("default: {}", stated.assumption.source()),
    }
}

/// For scripts.
pub(super) fn in_json(shown: &Shown) -> Value {
    let Shown { estate, service, answer, .. } = shown;
    let currency = &estate.currency;
    let assumed = shown.stated.iter().map(|stated| {
        json!({
            "assumption": stated.assumption,
            "figure": ranged(&stated.range, stated.assumption.unit()),
            "origin": stated.origin,
            "source": origin(stated, service.name.as_str()),
        })
    });
    json!({
        "estate": estate.name,
        "service": service.name,
        "currency": currency,
        "month": shown.month,
        "years": answer.years,
        "seed": shown.seed,
        "draws": DRAWS,
        "own": way_in_json(&answer.own, currency),
        "plans": answer.plans.iter().map(|plan| plan_in_json(plan, shown)).collect::<Vec<_>>(),
        "more": answer.more,
        "hangs": answer.hangs.iter().map(|hangs| hangs_in_json(hangs, currency)).collect::<Vec<_>>(),
        "assumed": assumed.collect::<Vec<_>>(),
        "left_out": shown.left_out,
    })
}

fn way_in_json(way: &Way, currency: &Currency) -> Value {
    let to_the_cent = |amount: Decimal| json!(currency.to_the_cent(amount));
    let drawn = |spread: &Spread| {
        let Spread { low, middle, high } = *spread;
        let [low, middle, high] = [low, middle, high].map(|amount| to_the_cent(cents(amount)));
        json!({ "low": low, "middle": middle, "high": high })
    };
    let mut parts = serde_json::Map::new();
    for (part, amount) in &way.parts {
        let name = json!(part).as_str().expect("a part is stored as its name").to_owned();
        parts.insert(name, to_the_cent(*amount));
    }
    json!({
        "over": way.over.iter().map(|amount| to_the_cent(*amount)).collect::<Vec<_>>(),
        "parts": parts,
        "spread": way.spread.iter().map(drawn).collect::<Vec<_>>(),
    })
}

fn plan_in_json(plan: &Weighed, shown: &Shown) -> Value {
    let mut value = way_in_json(&plan.way, &shown.estate.currency);
    let Offer { provider, plan: name, monthly, gigabyte, once, away, origin } = &plan.offer;
    value["provider"] = json!(provider);
    value["plan"] = json!(name);
    value["monthly"] = json!(monthly.normalize());
    value["gigabyte"] = json!(gigabyte.normalize());
    value["once"] = json!(once.normalize());
    value["away_hours"] = json!(away);
    value["away_from"] = json!(origin);
    value["owning_wins"] = json!(plan.owning_wins);
    value["volume"] = json!(plan.volume);
    value["month"] = json!(plan.months.map(|months| after(shown.month, months)));
    value
}

fn hangs_in_json(hangs: &Hangs, currency: &Currency) -> Value {
    json!({
        "assumption": hangs.assumption.map_or("away", |assumption| assumption.as_str()),
        "range": hangs.range,
        "at_low": currency.to_the_cent(hangs.at_low),
        "at_high": currency.to_the_cent(hangs.at_high),
        "turns": hangs.turns(),
    })
}
