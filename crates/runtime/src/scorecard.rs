//! A provider's scorecard: how it has delivered, on a page that can be handed to it.
//!
//! Invariant: what decides from whom is bought is shown as it decides: the card takes it from the very function that
//! compares providers ([`Knowledge::conduct`]).

use std::time::Duration;

use ostler_books::{Block, Ledger, MonthCredit, NoBooks, Paper};
use ostler_manager::{
    AvailableView, BlockedView, Conduct, DrillView, Knowledge, LevelView, ServiceView, UpgradedView, Verdict, status,
};
use ostler_model::ids::{ProviderName, ServiceName};
use ostler_model::month::Month;
use ostler_model::time::{Timestamp, in_words};
use rust_decimal::Decimal;
use serde::{Deserialize, Serialize};

use crate::levels;

/// How one provider has delivered.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Card {
    /// Whose.
    pub provider: ProviderName,
    /// Where it is.
    pub region: Option<String>,
    /// Whose estate says so.
    pub estate: String,
    /// By what is chosen from whom is bought: over everything that was seen, the older the less.
    pub conduct: Conduct,
    /// What was delivered in a month, by the provider's terms where it has any.
    pub month: MonthCredit,
    /// Outages of that month, whosever fault they were, that were seen to end.
    pub healed: Healed,
    /// What that month cost.
    pub cost: Decimal,
    /// In what.
    pub currency: String,
    /// What an hour in which an instance was there and available cost, with four decimals; `None` if there was none.
    pub cost_per_hour: Option<Decimal>,
    /// The services that are bought there.
    pub services: Vec<Service>,
}

/// How long it took until what was away was there again.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Healed {
    /// How many outages.
    pub outages: u64,
    /// How long they took on average, in milliseconds.
    pub average_ms: Option<u64>,
    /// How long the longest one took, in milliseconds.
    pub longest_ms: Option<u64>,
}

/// One service that is bought there.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Service {
    /// Which.
    pub service: ServiceName,
    /// How it stands with its objectives, latency among them.
    pub levels: Vec<LevelView>,
    /// What its last drill with each fault has shown.
    pub drills: Vec<DrillView>,
    /// What is newer and can be put to use.
    pub available: Option<AvailableView>,
    /// What is newer and is not put to use.
    pub blocked: Option<BlockedView>,
    /// How its last upgrade went.
    pub upgraded: Option<UpgradedView>,
}

/// The card of each provider that is declared, or of one.
///
/// # Errors
/// If nothing is declared, or the month has not begun.
pub fn cards(
    known: &Knowledge,
    ledger: &Ledger,
    (only, month): (Option<&ProviderName>, Option<Month>),
    now: Timestamp,
) -> Result<Vec<Card>, NoBooks> {
    let services = status(known, now).services;
    let meant = |name: &ProviderName| only.is_none_or(|only| only == name);
    let conducts = known.conduct(now).into_iter().filter(|(name, _)| meant(name));
    conducts.map(|(name, conduct)| card(known, ledger, (name, conduct), month, &services, now)).collect()
}

fn card(
    known: &Knowledge,
    ledger: &Ledger,
    (provider, conduct): (ProviderName, Conduct),
    month: Option<Month>,
    services: &[ServiceView],
    now: Timestamp,
) -> Result<Card, NoBooks> {
    let month = ledger.delivered(&provider, month, now)?;
    let cost: Decimal = month.lines.iter().map(|line| line.price).sum();
    let us: u64 = month.lines.iter().map(|line| line.held_us.saturating_sub(line.down_us)).sum();
    let hours = Decimal::new(i64::try_from(us).unwrap_or(i64::MAX), 6) / Decimal::from(3600);
    let bought = services.iter().filter(|service| service.provider.as_ref() == Some(&provider));
    let currency = ledger.currency().ok_or(NoBooks::NothingDeclared)?;
    Ok(Card {
        region: known.provider(&provider).and_then(|provider| provider.region.clone()),
        estate: known.estate.as_ref().map(|estate| estate.name.to_string()).unwrap_or_default(),
        healed: healed(&month),
        cost: currency.to_the_cent(cost),
        currency: currency.as_str().to_owned(),
        cost_per_hour: cost.checked_div(hours).map(|cost| cost.round_dp(4)),
        services: bought.map(of_service).collect(),
        provider,
        conduct,
        month,
    })
}

fn of_service(view: &ServiceView) -> Service {
    Service {
        service: view.name.clone(),
        levels: view.levels.clone(),
        drills: view.drills.clone(),
        available: view.available.clone(),
        blocked: view.blocked.clone(),
        upgraded: view.upgraded.clone(),
    }
}

fn healed(month: &MonthCredit) -> Healed {
    let all = month.lines.iter().flat_map(|line| &line.outages);
    let seen = all.filter(|outage| outage.unseen_from.is_none());
    let lengths: Vec<Duration> = seen.filter_map(|outage| Some(outage.until?.since(outage.from))).collect();
    let ms = |length: Duration| u64::try_from(length.as_millis()).unwrap_or(u64::MAX);
    let outages = lengths.len() as u64;
    let sum: u64 = lengths.iter().map(|length| ms(*length)).sum();
    Healed { outages, average_ms: sum.checked_div(outages), longest_ms: lengths.into_iter().max().map(ms) }
}

/// The card as lines: a name, and what there is to say of it.
pub fn in_lines(card: &Card) -> Vec<(String, String)> {
    let Card { conduct, month, healed, .. } = card;
    let ms = |ms: u64| in_words(Duration::from_millis(ms));
    let share = |share: Option<String>| share.unwrap_or_else(|| "nothing".to_owned());
    let mut lines = vec![
        ("promised".to_owned(), share(conduct.promised.map(|promised| format!("{promised} available")))),
        (
            "delivered".to_owned(),
            match &conduct.delivered {
                Some(delivered) => delivered.in_words().trim_start_matches("delivered ").to_owned(),
                None => "not seen yet".to_owned(),
            },
        ),
    ];
    let mut add = |name: &str, words: String| lines.push((name.to_owned(), words));
    if let Some(why) = &conduct.falls_short {
        add("falls short", why.clone());
    }
    if let (_, 1..) = conduct.sick {
        add("now", format!("{} of {} instances work", conduct.sick.1 - conduct.sick.0, conduct.sick.1));
    }
    for line in &month.lines {
        add(&format!("{} in {}", line.instance, month.month), format!("{} available, by its terms", line.measured));
    }
    add(
        "time to heal",
        match (healed.average_ms, healed.longest_ms) {
            (Some(average), Some(longest)) => {
                format!("{} on average, {} at most, {} outages", ms(average), ms(longest), healed.outages)
            }
            _ => format!("no outage in {}", month.month),
        },
    );
    for service in &card.services {
        for level in &service.levels {
            let words = format!("{} over {}: {}", levels::asked(level), level.over, levels::reached(level));
            add(&service.service.to_string(), words);
        }
        if !service.drills.is_empty() {
            let proven = service.drills.iter().filter(|drill| drill.verdict == Verdict::Proven).count();
            add(&format!("drills of {}", service.service), format!("{proven} of {} proven", service.drills.len()));
        }
        if let Some(upgraded) = &service.upgraded {
            let how = match &upgraded.returned {
                Some(why) => format!("taken back: {why}"),
                None => "done".to_owned(),
            };
            let words = format!("{} to {}, {how}", upgraded.from, upgraded.to);
            add(&format!("last upgrade of {}", service.service), words);
        }
        if let Some(available) = &service.available {
            add(
                &format!("offered for {}", service.service),
                format!("{} in place of {}", available.to, available.from),
            );
        }
        if let Some(blocked) = &service.blocked {
            add(&format!("offered for {}", service.service), format!("{}, but {}", blocked.newest, blocked.because));
        }
    }
    let each = card.cost_per_hour.map(|each| format!(", {each} for an instance's hour that was delivered"));
    add(&format!("cost in {}", month.month), format!("{} {}{}", card.cost, card.currency, each.unwrap_or_default()));
    let examined = conduct.certificate.as_ref().map_or_else(|| "not examined".to_owned(), |found| found.in_words());
    add("conformance", examined);
    lines
}

/// The card as a paper that can be handed to the provider.
pub fn paper(card: &Card, now: Timestamp) -> Paper {
    let mut blocks = vec![
        Block::Pairs(vec![
            ("Provider".to_owned(), card.provider.to_string()),
            ("Region".to_owned(), card.region.clone().unwrap_or_else(|| "not stated".to_owned())),
            ("As seen by".to_owned(), card.estate.clone()),
            ("As of".to_owned(), now.to_seconds()),
        ]),
        Block::Heading("How it has delivered".to_owned()),
        Block::Pairs(in_lines(card)),
    ];
    let rows: Vec<Vec<String>> = card
        .month
        .lines
        .iter()
        .flat_map(|line| {
            line.outages.iter().map(|outage| {
                let cause = outage
                    .concluded
                    .last()
                    .map_or_else(|| "nothing was concluded".to_owned(), |told| told.words.clone());
                let until = outage.until.map_or_else(|| "it lasts".to_owned(), Timestamp::to_seconds);
                vec![
                    line.instance.to_string(),
                    outage.from.to_seconds(),
                    until,
                    cause,
                    in_words(Duration::from_micros(outage.counted_us)),
                ]
            })
        })
        .collect();
    if !rows.is_empty() {
        let header = ["instance", "from", "until", "what was concluded", "counted"].map(str::to_owned).to_vec();
        blocks.push(Block::Heading(format!("Outages in {}", card.month.month)));
        blocks.push(Block::Table { header, right: 4, rows, has_sum: false });
    }
    if card.month.due > Decimal::ZERO {
        let words = format!("A service credit of {} {} is owed for it.", card.month.due, card.currency);
        blocks.push(Block::Text(words));
    }
    Paper { title: format!("Scorecard of {}", card.provider), blocks }
}
